//! Socket addresses as the kernel writes them: `sockaddr_in` and `sockaddr_in6`, in bytes.
//!
//! In:    a `SocketAddr`, or the bytes that the kernel filled in.
//! Out:   the other one.
//! Holds: what is decoded is never an IPv4 address mapped into IPv6; what is encoded for an IPv6 socket is never a
//!        plain IPv4 one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use dunlin_shards::route::unmapped;

/// Bytes of the longer of the two forms.
pub(super) const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

const _: () = assert!(NAME_LEN == at::END_V6 && size_of::<libc::sockaddr_in>() == at::END_V4);

/// Where each field starts; both forms begin with family and port.
mod at {
    pub(super) const FAMILY: usize = 0;
    pub(super) const PORT: usize = FAMILY + 2;
    pub(super) const V4: usize = PORT + 2;
    pub(super) const FLOW: usize = PORT + 2;
    pub(super) const V6: usize = FLOW + 4;
    pub(super) const SCOPE: usize = V6 + 16;
    pub(super) const END_V4: usize = 16;
    pub(super) const END_V6: usize = SCOPE + 4;
}

/// Which addresses a socket speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Family {
    /// IPv4 alone.
    V4,
    /// IPv6, and IPv4 in its mapped form.
    V6,
}

impl Family {
    pub(super) const fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Writes the address as a socket of that family expects it; answers its length in bytes.
pub(super) fn encode(address: SocketAddr, family: Family, out: &mut [u8; NAME_LEN]) -> usize {
    *out = [0; NAME_LEN];
    out[at::PORT..at::PORT + 2].copy_from_slice(&address.port().to_be_bytes());
    match (address, family) {
        (SocketAddr::V4(v4), Family::V4) => {
            put_family(libc::AF_INET, out);
            out[at::V4..at::V4 + 4].copy_from_slice(&v4.ip().octets());
            at::END_V4
        }
        (SocketAddr::V4(v4), Family::V6) => {
            put_family(libc::AF_INET6, out);
            out[at::V6..at::SCOPE].copy_from_slice(&v4.ip().to_ipv6_mapped().octets());
            at::END_V6
        }
        // A socket of the other family: the kernel says EAFNOSUPPORT, which is an error like any other.
        (SocketAddr::V6(v6), Family::V4 | Family::V6) => {
            put_family(libc::AF_INET6, out);
            out[at::FLOW..at::V6].copy_from_slice(&v6.flowinfo().to_be_bytes());
            out[at::V6..at::SCOPE].copy_from_slice(&v6.ip().octets());
            out[at::SCOPE..at::END_V6].copy_from_slice(&v6.scope_id().to_ne_bytes());
            at::END_V6
        }
    }
}

fn put_family(family: libc::c_int, out: &mut [u8; NAME_LEN]) {
    out[at::FAMILY..at::PORT].copy_from_slice(&(family as u16).to_ne_bytes());
}

/// Reads what the kernel wrote; `None` when it is neither form.
pub(super) fn decode(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(array(name, at::FAMILY)?);
    let port = u16::from_be_bytes(array(name, at::PORT)?);
    match libc::c_int::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = array(name, at::V4)?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port))
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(array(name, at::FLOW)?);
            let ip: [u8; 16] = array(name, at::V6)?;
            let scope = u32::from_ne_bytes(array(name, at::SCOPE)?);
            Some(unmapped(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into()))
        }
        _ => None,
    }
}

/// The `N` bytes at that place.
pub(super) fn array<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(address: &str, family: Family) -> SocketAddr {
        let mut name = [0xff; NAME_LEN];
        let len = encode(address.parse().unwrap(), family, &mut name);
        decode(&name[..len]).unwrap()
    }

    #[test]
    fn an_address_survives() {
        for address in ["192.0.2.7:4433", "[2001:db8::7]:1", "[fe80::1%3]:65535"] {
            assert_eq!(there_and_back(address, Family::V6), address.parse().unwrap());
        }
        assert_eq!(there_and_back("192.0.2.7:4433", Family::V4), "192.0.2.7:4433".parse().unwrap());
    }

    #[test]
    fn short_or_foreign_names_are_refused() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0; NAME_LEN]), None);
        let mut name = [0; NAME_LEN];
        encode("[2001:db8::7]:1".parse().unwrap(), Family::V6, &mut name);
        assert_eq!(decode(&name[..NAME_LEN - 1]), None);
    }
}
