//! The node's own key changes while it runs: what stands beside a shard goes by the new one, and tells its peers.
//!
//! In:    the new key, by a note; time.
//! Out:   sessions for the hub, which tells their peers of the change.
//! Holds: sessions and conversations stay. Peers whose sessions the hub did not know yet are told some at a time, so that a
//!        node with many of them does not do that alone.
//!
//! spec: p2p/own-key-change

use super::Neighbours;
use crate::identity::change::{NewKey, Past};
use crate::limits::KEY_CHANGE_TOLD_PER_SECOND;
use crate::time::WallMillis;

impl Neighbours {
    /// The sequences that our own record may use, from the first up to `until`, which the disk has as used: before anything else.
    /// It never goes back, whatever became of the clock.
    pub fn set_sequences(&mut self, first: u64, until: u64) {
        if let Some(hub) = &mut self.hub {
            hub.on_sequences(first, until);
        }
        self.settle();
    }

    /// Takes a row of [`super::Notice::KeyChain`] of an earlier start, before anything else. False: it is none.
    pub fn restore_chain(&mut self, row: &[u8]) -> bool {
        let is_taken = self.hub.as_mut().is_some_and(|hub| hub.restore_chain(row));
        self.settle();
        is_taken
    }

    /// The shard had the same by mail, just before.
    pub(super) fn on_new_key(&mut self, new: &NewKey) {
        let id = new.identity.id();
        if new.change.change.current != self.bench.terms.own {
            return;
        }
        self.bench.terms.own = id;
        self.rumours.on_new_key(id);
        self.keeping.on_new_key(id);
        let past = Past::Changed(Box::new(new.change));
        self.tell_until = past.told().map_or(WallMillis(0), |(_, until)| until);
        if let Some(hub) = &mut self.hub {
            hub.on_new_key(new.identity.clone(), past);
        }
        let untold = self.places.iter().filter(|(_, place)| !place.is_told);
        self.untold = untold.map(|(session, _)| *session).collect();
        self.tell_untold();
    }

    /// A second has passed, or the key has just changed.
    pub(super) fn tell_untold(&mut self) {
        for _ in 0..KEY_CHANGE_TOLD_PER_SECOND {
            let Some(session) = self.untold.pop_front() else { return };
            self.tell_up(session);
        }
    }
}
