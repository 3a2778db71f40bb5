//! Network address translation: what stands between some nodes and everybody else (RFC 4787).
//!
//! In:    datagrams that leave or enter, with the moment.
//! Out:   the address that others see, or the one inside; nothing when the datagram is not let in.
//! Holds: an outer port belongs to one mapping for ever: a late datagram never reaches a stranger. Only what goes out
//!        keeps a mapping alive.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use dunlin_shards::time::nanos_of;

/// Who may answer through a mapping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filtering {
    /// Anybody.
    Anyone,
    /// Whoever shares an IP address with somebody that was written to.
    Address,
    /// Who was written to, port and all.
    AddressAndPort,
}

/// How a NAT behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NatRules {
    /// Each remote address sees another port ("symmetric").
    pub is_dependent: bool,
    /// Who may answer.
    pub filtering: Filtering,
    /// A mapping that nothing leaves through is forgotten after this.
    pub life: Duration,
    /// Nodes behind it may write to each other's outer addresses.
    pub hairpin: bool,
}

/// One inner address, towards everybody or towards one remote address.
type Key = (SocketAddr, Option<SocketAddr>);

#[derive(Debug)]
struct Mapping {
    port: u16,
    /// When something left through it last.
    used_at: u64,
    written_to: BTreeSet<SocketAddr>,
}

/// A NAT with one outer IP address.
#[derive(Debug)]
pub struct Nat {
    /// How it behaves.
    pub rules: NatRules,
    outer: IpAddr,
    next_port: u16,
    mappings: BTreeMap<Key, Mapping>,
    /// Every outer port that was ever given, and to whom.
    owners: BTreeMap<u16, Key>,
}

/// The first outer port.
const FIRST_PORT: u16 = 20_000;

impl Nat {
    /// A NAT that has seen nothing.
    #[must_use]
    pub fn new(rules: NatRules, outer: IpAddr) -> Self {
        Self { rules, outer, next_port: FIRST_PORT, mappings: BTreeMap::new(), owners: BTreeMap::new() }
    }

    /// Something leaves: the address that the remote one sees.
    pub fn leave(&mut self, now: u64, inner: SocketAddr, remote: SocketAddr) -> SocketAddr {
        let key = (inner, self.rules.is_dependent.then_some(remote));
        if self.mappings.get(&key).is_none_or(|mapping| !self.is_alive(now, mapping)) {
            let port = self.next_port;
            self.next_port += 1;
            self.owners.insert(port, key);
            self.mappings.insert(key, Mapping { port, used_at: now, written_to: BTreeSet::new() });
        }
        let mapping = self.mappings.get_mut(&key).expect("it was made if it was not there");
        mapping.used_at = now;
        mapping.written_to.insert(remote);
        SocketAddr::new(self.outer, mapping.port)
    }

    /// Something comes to an outer port: the address inside, if it is let in.
    #[must_use]
    pub fn enter(&self, now: u64, port: u16, remote: SocketAddr) -> Option<SocketAddr> {
        let key = self.owners.get(&port)?;
        let mapping = self.mappings.get(key).filter(|mapping| mapping.port == port)?;
        let may_enter = match self.rules.filtering {
            Filtering::Anyone => true,
            Filtering::Address => mapping.written_to.iter().any(|known| known.ip() == remote.ip()),
            Filtering::AddressAndPort => mapping.written_to.contains(&remote),
        };
        (may_enter && self.is_alive(now, mapping)).then_some(key.0)
    }

    /// Whose an outer port is or was.
    #[must_use]
    pub fn owner(&self, port: u16) -> Option<SocketAddr> {
        self.owners.get(&port).map(|key| key.0)
    }

    /// The outer address of an inner one, as others may have learnt it.
    #[must_use]
    pub fn outer_of(&self, now: u64, inner: SocketAddr) -> Option<SocketAddr> {
        let mut of_inner = self.mappings.iter().filter(|((owner, _), _)| *owner == inner);
        let (_, mapping) = of_inner.find(|(_, mapping)| self.is_alive(now, mapping))?;
        Some(SocketAddr::new(self.outer, mapping.port))
    }

    /// It forgets everything, as if it had been restarted.
    pub fn rebind(&mut self) {
        self.mappings.clear();
    }

    fn is_alive(&self, now: u64, mapping: &Mapping) -> bool {
        now - mapping.used_at < nanos_of(self.rules.life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn address(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, host], port))
    }

    fn nat(is_dependent: bool, filtering: Filtering) -> Nat {
        let rules = NatRules { is_dependent, filtering, life: Duration::from_secs(30), hairpin: false };
        Nat::new(rules, address(200, 0).ip())
    }

    #[test]
    fn who_may_answer_depends_on_the_filtering() {
        let inner = SocketAddr::from(([10, 0, 0, 1], 7));
        for (filtering, expected) in [
            (Filtering::Anyone, [true, true, true]),
            (Filtering::Address, [true, true, false]),
            (Filtering::AddressAndPort, [true, false, false]),
        ] {
            let mut nat = nat(false, filtering);
            let outer = nat.leave(0, inner, address(1, 1));
            let remotes = [address(1, 1), address(1, 2), address(2, 1)];
            let enters = remotes.map(|remote| nat.enter(1, outer.port(), remote).is_some());
            assert_eq!(enters, expected, "{filtering:?}");
        }
    }

    #[test]
    fn a_dependent_mapping_is_another_port_for_each_remote() {
        let inner = SocketAddr::from(([10, 0, 0, 1], 7));
        for is_dependent in [false, true] {
            let mut nat = nat(is_dependent, Filtering::Anyone);
            let (one, other) = (nat.leave(0, inner, address(1, 1)), nat.leave(0, inner, address(2, 1)));
            assert_eq!(one != other, is_dependent);
        }
    }

    #[test]
    fn a_mapping_dies_of_silence_and_its_port_is_never_given_again() {
        let inner = SocketAddr::from(([10, 0, 0, 1], 7));
        let mut nat = nat(false, Filtering::Anyone);
        let first = nat.leave(0, inner, address(1, 1));
        assert_eq!(nat.leave(29 * SECOND, inner, address(1, 1)), first);
        assert_eq!(nat.enter(58 * SECOND, first.port(), address(1, 1)), Some(inner));
        assert_eq!(nat.enter(59 * SECOND, first.port(), address(1, 1)), None);
        let second = nat.leave(60 * SECOND, inner, address(1, 1));
        assert_ne!(second, first);
        assert_eq!(nat.enter(60 * SECOND, first.port(), address(1, 1)), None);
        nat.rebind();
        assert_eq!(nat.enter(60 * SECOND, second.port(), address(1, 1)), None);
        assert_eq!(nat.owner(first.port()), Some(inner));
    }
}
