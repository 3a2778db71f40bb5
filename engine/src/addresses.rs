//! Under which addresses others reach this machine.
//!
//! In:    where a node listens; what the kernel tells in /proc/net.
//! Out:   addresses, the most useful one for trying things out first.
//! Holds: never empty: loopback is always there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses under which a socket bound to `local` is reached: itself, or for all addresses loopback first and then each
/// interface's.
#[must_use]
pub fn reachable(local: SocketAddr) -> Vec<IpAddr> {
    if !local.ip().is_unspecified() {
        return vec![local.ip().to_canonical()];
    }
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    addresses.extend(ipv4_of(&read("/proc/net/fib_trie")).into_iter().map(IpAddr::V4));
    if local.is_ipv6() {
        let all = ipv6_of(&read("/proc/net/if_inet6"));
        addresses.extend(all.into_iter().map(IpAddr::V6));
    }
    addresses
}

/// This machine's IPv4 addresses in the kernel's routing table, loopback left out: a leaf, and below it `/32 host LOCAL`.
fn ipv4_of(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = leaf
            && !address.is_loopback()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// This machine's IPv6 addresses: 32 hexadecimal digits, index, prefix, scope (00: global, 10: loopback, 20: of one link), flags.
fn ipv6_of(if_inet6: &str) -> Vec<Ipv6Addr> {
    /// Duplicate address detection is under way or has failed.
    const UNUSABLE: u8 = 0x40 | 0x08;
    let mut found = Vec::new();
    for line in if_inet6.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [digits, _, _, scope, flags, ..] = fields[..] else { continue };
        let Ok(bits) = u128::from_str_radix(digits, 16) else { continue };
        let usable = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & UNUSABLE == 0);
        match scope {
            "10" if usable => found.insert(0, Ipv6Addr::from_bits(bits)),
            "00" if usable => found.push(Ipv6Addr::from_bits(bits)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB_TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.1.0.7\n        \
        /32 host LOCAL\n     |-- 10.1.0.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\nLocal:\n     \
        |-- 10.1.0.7\n        /32 host LOCAL\n";

    const IF_INET6: &str = "fe800000000000000042acfffe110002 02 40 20 80 eth0\n20010db8000000000000000000000007 02 40 00 80 eth0\n\
        20010db8000000000000000000000008 02 40 00 c0 eth0\n00000000000000000000000000000001 01 80 10 80 lo\nrubbish\n";

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(ipv4_of(FIB_TRIE), [Ipv4Addr::new(10, 1, 0, 7)]);
        let addresses = ipv6_of(IF_INET6).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(addresses, ["::1", "2001:db8::7"]);
    }

    #[test]
    fn loopback_comes_first_and_a_given_address_stays_alone() {
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap())[0], IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(reachable("[::1]:1".parse().unwrap()), [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    }
}
