//! Where a node says that it can be called.
//!
//! In:    where it listens, what its operator says, the machine's addresses.
//! Out:   at most four endpoints, the best first; none: it can only initiate.
//! Holds: public addresses stand alone, since a record is told whole or not at all (T10).

use std::net::{IpAddr, SocketAddr};

use dunlin_shards::dht::contact::is_public;

use crate::addresses;

/// A record has no more.
const ENDPOINTS_MAX: usize = 4;

/// The operator's choice; else the address that it listens on; else the machine's public addresses; else those of its own
/// networks; else loopback.
pub(crate) fn advertised(given: &[SocketAddr], local: SocketAddr) -> Vec<SocketAddr> {
    if !given.is_empty() {
        return given.iter().copied().take(ENDPOINTS_MAX).collect();
    }
    best_of(&addresses::reachable(local), local.port())
}

fn best_of(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let classes: [fn(&IpAddr) -> bool; 3] = [
        |address| is_public(*address),
        |address| !is_public(*address) && !address.is_loopback(),
        IpAddr::is_loopback,
    ];
    let of_class = |class: &fn(&IpAddr) -> bool| -> Vec<SocketAddr> {
        let members = addresses.iter().filter(|address| class(address));
        members.map(|address| SocketAddr::new(*address, port)).take(ENDPOINTS_MAX).collect()
    };
    classes.iter().map(of_class).find(|endpoints| !endpoints.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        best_of(&addresses, 7).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn public_addresses_stand_alone() {
        assert_eq!(
            best(&["127.0.0.1", "10.0.0.1", "1.1.1.1", "2606:4700::1"]),
            ["1.1.1.1:7", "[2606:4700::1]:7"]
        );
        assert_eq!(best(&["127.0.0.1", "10.0.0.1", "::1"]), ["10.0.0.1:7"]);
        assert_eq!(best(&["127.0.0.1"]), ["127.0.0.1:7"]);
        assert!(best(&[]).is_empty());
    }

    #[test]
    fn the_operators_word_counts() {
        let given: Vec<SocketAddr> = vec!["192.0.2.1:9".parse().unwrap()];
        assert_eq!(advertised(&given, "127.0.0.1:5".parse().unwrap()), given);
        let local: SocketAddr = "127.0.0.1:5".parse().unwrap();
        assert_eq!(advertised(&[], local), [local]);
    }
}
