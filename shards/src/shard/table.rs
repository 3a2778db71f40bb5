//! The shard's table of sessions: an array by slot, so that a packet finds its session without hashing.
//!
//! Holds: a slot's generation changes with each use, so that an old session id never meets a new session.

use std::collections::VecDeque;

use dunlin_codec::ids::SessionId;

use crate::mutants::{Mutant, planted};
use crate::session::crypto::Crypto;
use crate::session::live::{Phase, Session};
use crate::shard::initiate::Connecting;
use crate::shard::opened::Handed;
use crate::shard::respond::Finishing;

/// What a slot holds.
pub(crate) enum Slot<C: Crypto> {
    /// Nothing.
    Free,
    /// A handshake that we began.
    Connecting(Box<Connecting<C>>),
    /// A handshake by an unknown caller that lacks its third message.
    Finishing(Box<Finishing<C>>),
    /// A session.
    Live(Box<Session<C>>),
    /// A session that another shard owns, under an id of ours: what comes here for it goes there.
    Handed(Box<Handed>),
}

struct Entry<C: Crypto> {
    generation: u8,
    slot: Slot<C>,
}

/// All slots.
pub(crate) struct Table<C: Crypto> {
    shard: u8,
    entries: Vec<Entry<C>>,
    free: VecDeque<u32>,
    used: usize,
    limit: usize,
}

impl<C: Crypto> Table<C> {
    pub(crate) fn new(shard: u8, limit: usize) -> Self {
        let limit = limit.min(SessionId::SLOTS_MAX);
        Self { shard, entries: Vec::new(), free: VecDeque::new(), used: 0, limit }
    }

    /// An id whose slot is to be filled with `put`; None when the table is full. First generations are drawn,
    /// so that ids of an earlier start are not valid by chance.
    pub(crate) fn reserve(&mut self, generation: u8) -> Option<SessionId> {
        // Freed slots rest as long as there are fresh ones, so that late packets find nobody.
        let limit = self.limit + usize::from(planted(Mutant::SessionsOffByOne));
        if self.entries.len() < limit && self.free.len() < 64 {
            self.entries.push(Entry { generation, slot: Slot::Free });
            self.used += 1;
            return Some(SessionId::new(self.shard, self.entries.len() as u32 - 1, generation));
        }
        let slot = self.free.pop_front()?;
        self.used += 1;
        Some(SessionId::new(self.shard, slot, self.entries[slot as usize].generation))
    }

    pub(crate) fn put(&mut self, id: SessionId, slot: Slot<C>) {
        self.entries[id.slot()].slot = slot;
    }

    /// Frees the slot and gives back what it held.
    pub(crate) fn free(&mut self, id: SessionId) -> Slot<C> {
        let entry = &mut self.entries[id.slot()];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push_back(id.slot() as u32);
        self.used -= 1;
        core::mem::replace(&mut entry.slot, Slot::Free)
    }

    /// Takes what the slot holds, to put something else there.
    pub(crate) fn take(&mut self, id: SessionId) -> Slot<C> {
        self.get_mut(id).map_or(Slot::Free, |slot| core::mem::replace(slot, Slot::Free))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Slot<C>> {
        let entry = self.entries.get_mut(id.slot())?;
        (entry.generation & 0x3f == id.generation() && id.shard() == self.shard).then_some(&mut entry.slot)
    }

    #[inline]
    pub(crate) fn live(&mut self, id: SessionId) -> Option<&mut Session<C>> {
        match self.get_mut(id)? {
            Slot::Live(session) => Some(session),
            _ => None,
        }
    }

    /// The id that the slot has now.
    pub(crate) fn id_of(&self, slot: u32) -> Option<SessionId> {
        let entry = self.entries.get(slot as usize)?;
        Some(SessionId::new(self.shard, slot, entry.generation))
    }

    /// Every session has said its last word.
    pub(crate) fn is_quiet(&self) -> bool {
        let said_all = |session: &Session<C>| {
            matches!(session.phase, Phase::Closing { .. } | Phase::Gone) && session.control.close.is_none()
        };
        self.entries.iter().all(|entry| match &entry.slot {
            Slot::Live(session) => said_all(session),
            Slot::Connecting(_) => false,
            Slot::Free | Slot::Finishing(_) | Slot::Handed(_) => true,
        })
    }

    pub(crate) fn slots(&self) -> usize {
        self.entries.len()
    }

    /// The live session whose peer has this id for it: a planted bug asks.
    #[cfg(feature = "mutants")]
    pub(crate) fn of_peer_session(&mut self, peer_session: SessionId) -> Option<SessionId> {
        let ids: Vec<SessionId> = (0..self.slots()).filter_map(|slot| self.id_of(slot as u32)).collect();
        ids.into_iter()
            .find(|id| self.live(*id).is_some_and(|session| session.agreement.peer_session == peer_session))
    }

    /// One more is used than there are: a planted bug.
    #[cfg(feature = "mutants")]
    pub(crate) fn count_again(&mut self) {
        self.used += 1;
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }
}
