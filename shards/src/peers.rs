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
use crate::mutants::{Mutant, planted};

/// A session as the directory knows it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    listing: Listing,
    /// The peer has nothing more to send there.
    is_yielded: bool,
    standing: Standing,
}

/// What the directory has decided of a session. One that goes is nobody's successor: two that carried on for each other would pass
/// a message to and fro without end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Stays,
    /// It goes unless that older one turns out to be dead.
    MayGo(SessionId),
    Goes,
}

/// One shard's part of the directory.
#[derive(Debug)]
pub struct Directory {
    peers: HashMap<NodeId, Vec<Entry>, HashKey>,
}

impl Directory {
    /// An empty part.
    #[must_use]
    pub fn new(hash: HashKey) -> Self {
        Self { peers: HashMap::with_hasher(hash) }
    }

    /// The newest session with the identity.
    #[must_use]
    pub fn newest(&self, peer: &NodeId) -> Option<SessionId> {
        self.peers.get(peer)?.last().map(|entry| entry.listing.session)
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

    /// A session is confirmed; `tell` gets what other shards must do about it.
    // spec: atp/one-session
    pub fn on_up(&mut self, new: Listing, mut tell: impl FnMut(Mail, SessionId)) {
        let peer = key_of(&new.peer);
        // Nearly every identity has one session: a default vector would hold four.
        let entries = self.peers.entry(peer).or_insert_with(|| Vec::with_capacity(1));
        entries.retain(|old| old.listing.session != new.session);
        let mut standing = Standing::Stays;
        for old in entries.iter_mut().filter(|old| old.standing != Standing::Goes) {
            if planted(Mutant::BothSessionsStay) {
                break;
            }
            let verdict = judge(old, &new);
            let (session, into) = (old.listing.session, new.session);
            let mail = match verdict {
                Verdict::NewStays => {
                    old.standing = Standing::Goes;
                    Mail::Retire { session, into }
                }
                Verdict::OldStays => {
                    standing = Standing::MayGo(session);
                    Mail::Probe { session, successor: into, stays: true }
                }
                Verdict::PeerSays => Mail::Probe { session, successor: into, stays: false },
            };
            tell(mail, session);
        }
        let entry = Entry { listing: new, is_yielded: false, standing };
        if standing == Standing::Stays {
            entries.push(entry);
        } else {
            entries.insert(0, entry);
        }
        if entries.len() > INSTANCES_MAX {
            entries.remove(0);
        }
    }

    /// The peer has nothing more to send on a session: it goes on in another, and so do we.
    pub fn on_yielded(&mut self, gone: &Listing, mut tell: impl FnMut(Mail, SessionId)) {
        let Some(entries) = self.peers.get_mut(&key_of(&gone.peer)) else { return };
        for entry in entries.iter_mut().filter(|entry| entry.listing.session == gone.session) {
            entry.is_yielded = true;
        }
        let stays = |entry: &&Entry| {
            !entry.is_yielded
                && entry.standing == Standing::Stays
                && entry.listing.instance == gone.instance
                && entry.listing.session != gone.session
        };
        if let Some(into) = entries.iter().rev().find(stays).map(|other| other.listing.session) {
            for entry in entries.iter_mut().filter(|entry| entry.listing.session == gone.session) {
                entry.standing = Standing::Goes;
            }
            // Were that one on probation and found dead now, each of the two would carry on for the other.
            tell(Mail::Keep { session: into }, into);
            tell(Mail::Retire { session: gone.session, into }, gone.session);
        }
    }

    /// A session is gone, or goes.
    pub fn on_down(&mut self, gone: &Listing) {
        let peer = key_of(&gone.peer);
        if let Some(entries) = self.peers.get_mut(&peer) {
            entries.retain(|entry| entry.listing.session != gone.session);
            for entry in entries.iter_mut().filter(|entry| entry.standing == Standing::MayGo(gone.session)) {
                entry.standing = Standing::Stays;
            }
            if entries.is_empty() {
                self.peers.remove(&peer);
            }
        }
    }
}

/// What an identity's entries are found by: all of it.
fn key_of(peer: &NodeId) -> NodeId {
    if planted(Mutant::IdentitiesConfused) { NodeId([peer.0[0] & 3; 32]) } else { *peer }
}

/// Which of an older and a new session carries on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// The new one.
    NewStays,
    /// The older one, if it lives: the peer may have lost it, and would not have called otherwise.
    OldStays,
    /// The older one is asked whether it lives; if it does, the peer says which goes.
    PeerSays,
}

/// Both ends must choose alike, and each may hear of the two sessions in another order. Of two that different ends opened, that of the
/// lower key stays. Of two that one end opened it keeps the newer, and the other end follows.
fn judge(old: &Entry, new: &Listing) -> Verdict {
    let is_ours = old.listing.initiator;
    let is_one_ends = is_ours == new.initiator;
    let is_new_lower = !is_one_ends && new.initiator == new.is_lower;
    if old.listing.instance != new.instance && !planted(Mutant::IdentitiesConfused) {
        Verdict::PeerSays
    } else if old.is_yielded || is_new_lower || new.initiator && is_ours {
        Verdict::NewStays
    } else if !is_one_ends {
        Verdict::OldStays
    } else {
        Verdict::PeerSays
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_codec::ids::InstanceId;

    /// Of a node whose key is lower than its peer's.
    fn listing(slot: u32, instance: u8, initiator: bool) -> Listing {
        Listing {
            peer: NodeId([9; 32]),
            instance: InstanceId([instance; 8]),
            session: SessionId::new(0, slot, 0),
            initiator,
            is_lower: true,
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
            let mut directory = Directory::new(HashKey([1, 2]));
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

    /// What one end opened twice, in whatever order the other learns of it: the opener keeps the newer, the other end waits for its word.
    /// spec: atp/one-session
    #[test]
    fn of_two_sessions_with_one_initiator_its_choice_holds() {
        let (first, second) = (listing(1, 7, true), listing(2, 7, true));
        let mut opener = Directory::new(HashKey([1, 2]));
        told(&mut opener, first);
        let retire = Mail::Retire { session: first.session, into: second.session };
        assert_eq!(told(&mut opener, second), [format!("{retire:?}")]);

        for [one, other] in [[1, 2], [2, 1]] {
            let mut follower = Directory::new(HashKey([1, 2]));
            told(&mut follower, listing(one, 7, false));
            let asked = told(&mut follower, listing(other, 7, false));
            assert!(asked.len() == 1 && asked[0].starts_with("Probe"), "{asked:?}");
            // The opener lets the first go, whichever that was here.
            let mut said = Vec::new();
            follower.on_yielded(&listing(1, 7, false), |mail, _| said.push(format!("{mail:?}")));
            let keep = Mail::Keep { session: second.session };
            assert_eq!(said, [format!("{keep:?}"), format!("{retire:?}")]);
        }
    }

    /// The word comes before the session that carries on.
    #[test]
    fn a_session_that_the_peer_left_goes_when_another_comes() {
        let mut follower = Directory::new(HashKey([1, 2]));
        told(&mut follower, listing(1, 7, false));
        follower.on_yielded(&listing(1, 7, false), |mail, _| panic!("{mail:?}: there is no other"));
        let retire =
            Mail::Retire { session: listing(1, 7, false).session, into: listing(2, 7, false).session };
        assert_eq!(told(&mut follower, listing(2, 7, false)), [format!("{retire:?}")]);
    }

    /// The peer leaves two in turn before the one that it keeps is known here: the second is not handed over to what goes already.
    /// spec: atp/one-session
    #[test]
    fn a_session_that_goes_is_nobodys_successor() {
        // Our key is higher: the session that we opened goes when the peer calls.
        let higher = |slot: u32, initiator: bool| Listing { is_lower: false, ..listing(slot, 7, initiator) };
        let mut directory = Directory::new(HashKey([1, 2]));
        let (ours, theirs) = (higher(1, true), higher(2, false));
        told(&mut directory, ours);
        let retire = Mail::Retire { session: ours.session, into: theirs.session };
        assert_eq!(told(&mut directory, theirs), [format!("{retire:?}")]);
        directory.on_yielded(&theirs, |mail, _| panic!("{mail:?}: there is no other"));
        // The one that the peer keeps takes over what it left; the one that goes has its successor.
        let kept = higher(3, false);
        let retire = Mail::Retire { session: theirs.session, into: kept.session };
        assert_eq!(told(&mut directory, kept), [format!("{retire:?}")]);
    }

    /// One that goes if an older one lives carries on when that is dead.
    /// spec: atp/one-session
    #[test]
    fn a_session_that_was_to_go_stays_when_the_older_one_is_dead() {
        let mut directory = Directory::new(HashKey([1, 2]));
        let (ours, theirs, left) = (listing(1, 7, true), listing(2, 7, false), listing(3, 7, false));
        told(&mut directory, ours);
        told(&mut directory, theirs);
        for (stays, is_dead) in [(ours, false), (theirs, true)] {
            if is_dead {
                directory.on_down(&ours);
            }
            let mut said = Vec::new();
            directory.on_yielded(&left, |mail, _| said.push(format!("{mail:?}")));
            let keep = Mail::Keep { session: stays.session };
            let retire = Mail::Retire { session: left.session, into: stays.session };
            assert_eq!(said, [format!("{keep:?}"), format!("{retire:?}")]);
        }
    }

    #[test]
    fn another_instance_makes_the_older_session_prove_itself() {
        let mut directory = Directory::new(HashKey([1, 2]));
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
        let mut directory = Directory::new(HashKey([1, 2]));
        for slot in 0..100 {
            told(&mut directory, listing(slot, slot as u8, false));
        }
        assert_eq!(directory.peers[&NodeId([9; 32])].len(), INSTANCES_MAX);
    }
}
