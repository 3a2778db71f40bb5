//! The directory of identities: which live sessions an identity has, on whichever shard.
//!
//! In:    sessions that came up or went down, by mail from the shard that owns them.
//! Out:   decisions for those shards: retire the loser of two equals, probe an older one that may be dead.
//! Holds: at most `INSTANCES_MAX` entries an identity; two confirmed sessions that join the same two
//!        (key, instance) pairs do not both stay.
//!
//! The shard that an identity hashes to keeps its entry (`placement`), so that there is one truth per node.

use std::collections::HashMap;

use dunlin_codec::ids::{NodeId, SessionId};

use crate::hash::HashKey;
use crate::limits::INSTANCES_MAX;
use crate::mail::{Listing, Mail};

/// One shard's part of the directory.
#[derive(Debug)]
pub struct Directory {
    own: NodeId,
    peers: HashMap<NodeId, Vec<Listing>, HashKey>,
}

impl Directory {
    /// An empty part, for a node with this identity.
    #[must_use]
    pub fn new(own: NodeId, hash: HashKey) -> Self {
        Self { own, peers: HashMap::with_hasher(hash) }
    }

    /// The newest session with the identity.
    #[must_use]
    pub fn newest(&self, peer: &NodeId) -> Option<SessionId> {
        self.peers.get(peer)?.last().map(|listing| listing.session)
    }

    /// Identities with a session.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// No identity has a session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// A session is confirmed; `tell` gets what other shards must do about it. An older session that would stay is asked whether it
    /// lives before the new one goes: the peer may have lost it, and would not have called otherwise.
    // spec: atp/one-session
    pub fn on_up(&mut self, new: Listing, mut tell: impl FnMut(Mail, SessionId)) {
        let own = self.own;
        // Nearly every identity has one session: a default vector would hold four.
        let listings = self.peers.entry(new.peer).or_insert_with(|| Vec::with_capacity(1));
        listings.retain(|old| old.session != new.session);
        let mut newest_is_loser = false;
        for old in listings.iter() {
            if old.instance != new.instance {
                let probe = Mail::Probe { session: old.session, successor: new.session, stays: false };
                tell(probe, old.session);
            } else if keeps_first(own, old, &new) {
                newest_is_loser = true;
                let probe = Mail::Probe { session: old.session, successor: new.session, stays: true };
                tell(probe, old.session);
            } else {
                tell(Mail::Retire { session: old.session, into: new.session }, old.session);
            }
        }
        if newest_is_loser {
            listings.insert(0, new);
        } else {
            listings.push(new);
        }
        if listings.len() > INSTANCES_MAX {
            listings.remove(0);
        }
    }

    /// A session is gone.
    pub fn on_down(&mut self, gone: &Listing) {
        if let Some(listings) = self.peers.get_mut(&gone.peer) {
            listings.retain(|listing| listing.session != gone.session);
            if listings.is_empty() {
                self.peers.remove(&gone.peer);
            }
        }
    }
}

/// Of two sessions between the same two instances: the one whose initiator has the lower key stays; of two
/// with the same initiator, the newer.
fn keeps_first(own: NodeId, first: &Listing, second: &Listing) -> bool {
    let initiator = |listing: &Listing| if listing.initiator { own } else { listing.peer };
    initiator(first) < initiator(second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_codec::ids::InstanceId;

    fn listing(slot: u32, instance: u8, initiator: bool) -> Listing {
        Listing {
            peer: NodeId([9; 32]),
            instance: InstanceId([instance; 8]),
            session: SessionId::new(0, slot, 0),
            initiator,
        }
    }

    fn told(directory: &mut Directory, new: Listing) -> Vec<String> {
        let mut told = Vec::new();
        directory.on_up(new, |mail, _| told.push(format!("{mail:?}")));
        told
    }

    /// spec: atp/one-session
    #[test]
    fn of_two_sessions_the_one_of_the_lower_initiator_stays() {
        // Our key is lower than the peer's: the session that we initiated stays, whichever came first.
        for ours_first in [true, false] {
            let mut directory = Directory::new(NodeId([1; 32]), HashKey([1, 2]));
            let (first, second) = (listing(1, 7, ours_first), listing(2, 7, !ours_first));
            assert!(told(&mut directory, first).is_empty());
            let told = told(&mut directory, second);
            let winner = if ours_first { first } else { second };
            let expected = if ours_first {
                // The first is to stay, if it lives.
                Mail::Probe { session: first.session, successor: second.session, stays: true }
            } else {
                Mail::Retire { session: first.session, into: second.session }
            };
            assert_eq!(told, [format!("{expected:?}")]);
            assert_eq!(directory.newest(&first.peer), Some(winner.session));
        }
    }

    #[test]
    fn another_instance_makes_the_older_session_prove_itself() {
        let mut directory = Directory::new(NodeId([1; 32]), HashKey([1, 2]));
        told(&mut directory, listing(1, 7, true));
        let told = told(&mut directory, listing(2, 8, false));
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("Probe"), "{told:?}");
        assert_eq!(directory.newest(&NodeId([9; 32])), Some(SessionId::new(0, 2, 0)));
        directory.on_down(&listing(2, 8, false));
        assert_eq!(directory.newest(&NodeId([9; 32])), Some(SessionId::new(0, 1, 0)));
        directory.on_down(&listing(1, 7, true));
        assert!(directory.is_empty());
    }

    #[test]
    fn an_identity_has_a_bounded_number_of_entries() {
        let mut directory = Directory::new(NodeId([1; 32]), HashKey([1, 2]));
        for slot in 0..100 {
            told(&mut directory, listing(slot, slot as u8, false));
        }
        assert_eq!(directory.peers[&NodeId([9; 32])].len(), INSTANCES_MAX);
    }
}
