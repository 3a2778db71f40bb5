//! The keys that a shard answers for: the node's own, and those that it had before.
//!
//! In:    the key of the start, changes of it while the node runs, time.
//! Out:   the pair that a Hello or a session is for.
//! Holds: a session lives and is renewed under the key that it was begun with, which its era names; a key that the node had
//!        before is answered for a day, and is wiped once no session is left that was begun with it. Two sessions with the
//!        same peer under two of our keys are two nodes' to that peer, and never become one.
//!
//! Each shard has copies of its own: a change comes to each by mail, and none is shared.
//!
//! spec: p2p/previous-key

use dunlin_codec::ids::NodeId;

use crate::identity::Identity;
use crate::identity::change::NewKey;
use crate::limits::PREVIOUS_KEY_LOOK_INTERVAL;
use crate::rng::Entropy;
use crate::session::crypto::{Crypto, StaticPublic};
use crate::shard::Shard;
use crate::shard::table::Slot;
use crate::time::Instant;

/// A key that the node had.
struct Before<C: Crypto> {
    id: NodeId,
    pair: C::Static,
    era: u8,
    /// When it is looked whether anybody needs it: first when its day is over.
    look_at: Instant,
}

/// The node's keys: the present one has the highest era, wrapping.
pub(super) struct OwnKeys<C: Crypto> {
    id: NodeId,
    pair: C::Static,
    era: u8,
    /// The newest first. No chain is longer than 64, so that eras are not met again.
    before: Vec<Before<C>>,
}

impl<C: Crypto> OwnKeys<C> {
    pub(super) fn new(identity: &Identity) -> Self {
        Self { id: identity.id(), pair: C::static_pair(identity), era: 0, before: Vec::new() }
    }

    pub(super) const fn id(&self) -> NodeId {
        self.id
    }

    pub(super) const fn pair(&self) -> &C::Static {
        &self.pair
    }

    pub(super) const fn era(&self) -> u8 {
        self.era
    }

    /// The key of an era; of one that is over, the present one.
    pub(super) fn of(&self, era: u8) -> (NodeId, &C::Static) {
        let before = self.before.iter().find(|before| before.era == era);
        before.map_or((self.id, &self.pair), |before| (before.id, &before.pair))
    }

    /// Whether the node has this key, or had it.
    pub(super) fn is_own(&self, id: &NodeId) -> bool {
        self.id == *id || self.before.iter().any(|before| before.id == *id)
    }

    pub(super) fn is_own_static(&self, public: StaticPublic) -> bool {
        let is_it = |pair: &C::Static| C::static_public(pair) == public;
        is_it(&self.pair) || self.before.iter().any(|before| is_it(&before.pair))
    }

    fn next_look(&self) -> Option<Instant> {
        self.before.iter().map(|before| before.look_at).min()
    }
}

impl<C: Crypto, E: Entropy> Shard<C, E> {
    /// Hellos to the key that the node had before it started are answered as well, until then.
    pub fn answer_previous(&mut self, previous: &Identity, until: Instant) {
        let (pair, era) = (C::static_pair(previous), self.own.era.wrapping_sub(1));
        self.gate.answer_previous(&self.config, C::static_public(&pair), (era, until));
        self.own.before.push(Before { id: previous.id(), pair, era, look_at: until });
    }

    /// The node's key is another from now on. Sessions stay, under the key that they were begun with.
    pub(super) fn on_new_key(&mut self, new: &NewKey) {
        let id = new.identity.id();
        if id == self.own.id || new.change.change.current != self.own.id {
            return;
        }
        let until = new.change.answered_until(self.around.now);
        let pair = C::static_pair(&new.identity);
        self.gate.on_new_key(&self.config, C::static_public(&pair), (self.own.era, until));
        let OwnKeys { id: own_id, pair: own_pair, era, before } = &mut self.own;
        let (old_id, old_pair) = (core::mem::replace(own_id, id), core::mem::replace(own_pair, pair));
        before.insert(0, Before { id: old_id, pair: old_pair, era: *era, look_at: until });
        *era = era.wrapping_add(1);
    }

    /// When a key that the node had is looked at next.
    pub(super) fn next_key_look(&self) -> Option<Instant> {
        self.own.next_look()
    }

    /// Keys whose day is over are answered for no more, and go with their last session.
    pub(super) fn expire_own_keys(&mut self) {
        let now = self.around.now.instant;
        if self.own.next_look().is_none_or(|at| now < at) {
            return;
        }
        self.gate.expire_previous(now);
        for at in (0..self.own.before.len()).rev() {
            let Before { era, look_at, .. } = self.own.before[at];
            if look_at > now {
                continue;
            }
            if self.is_era_used(era) {
                self.own.before[at].look_at = now + PREVIOUS_KEY_LOOK_INTERVAL;
            } else {
                self.own.before.remove(at);
            }
        }
    }

    fn is_era_used(&mut self, era: u8) -> bool {
        (0..self.table.slots()).any(|slot| {
            let Some(id) = self.table.id_of(slot as u32) else { return false };
            match self.table.get_mut(id) {
                Some(Slot::Live(session)) => session.agreement.era == era,
                Some(Slot::Connecting(connecting)) => connecting.era() == era,
                Some(Slot::Finishing(finishing)) => finishing.era() == era,
                Some(Slot::Handed(_) | Slot::Free) | None => false,
            }
        })
    }

    /// How many keys that the node had are still kept; for tests.
    #[must_use]
    pub fn previous_keys(&self) -> usize {
        self.own.before.len()
    }
}
