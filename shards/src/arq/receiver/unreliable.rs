//! Unreliable messages: put together when they come in pieces, delivered or dropped, never waited for.
//!
//! In:    segments, time.
//! Out:   messages pushed to `ready`.
//! Holds: they cost no credit, so their memory has a bound of its own: one largest message and the smallest buffer.

use dunlin_codec::ids::MessageId;

use super::channel::{Held, Order};
use super::open::Owner;
use super::session::Session;
use super::{Accepted, Arrival, Incoming, Refusal, State, Violation};
use crate::blocks::{Block, BlockPool};
use crate::limits::{BUFFER_LEN_MIN, REASSEMBLY_LIFE};
use crate::time::Instant;

/// Unreliable messages of a session that may wait for reliable ones.
const WAITING_MAX: usize = 64;
/// What an unreliable message costs besides its block, in bytes: entries in lists.
const ENTRY_LEN: usize = 64;

impl State {
    /// A segment of an unreliable message.
    pub(super) fn on_unreliable(
        &mut self,
        session: &Session,
        arrival: &Arrival<'_>,
        after: u64,
        pool: &mut BlockPool,
    ) -> Result<Accepted, Refusal> {
        if self.is_too_late(arrival.slot, arrival.id, after) {
            return Ok(self.drop_one());
        }
        let found = self.open.find_unreliable(|owner| owner.slot == arrival.slot && owner.id == arrival.id);
        if arrival.is_whole() && found.is_none() {
            let Some(mut block) = self.take_unreliable(session, arrival.total, pool) else {
                return Ok(self.drop_one());
            };
            block.copy_from_slice(arrival.bytes);
            let owner = owner_of(arrival, after);
            return Ok(self.complete_unreliable(owner, block, pool));
        }
        let Some(open) = found.or_else(|| self.open_unreliable(session, arrival, after, pool)) else {
            return Ok(self.drop_one());
        };
        if self.open.get(open).block.len() != arrival.total {
            return Err(Refusal::Violation(Violation::ConflictingTotal));
        }
        if self.open.write(open, arrival.offset, arrival.bytes).is_none() {
            self.evict(open, pool);
            return Ok(Accepted::Dropped);
        }
        if (self.open.get(open).prefix as usize) < arrival.total {
            return Ok(Accepted::Kept);
        }
        let owner = self.open.get(open).owner.expect("it was found by its owner");
        let block = self.open.remove(open);
        Ok(self.complete_unreliable(owner, block, pool))
    }

    /// Whether something later was delivered already, or nothing is delivered any more.
    fn is_too_late(&self, slot: usize, id: u64, after: u64) -> bool {
        let channel = &self.channels[slot];
        channel.is_closed
            || channel.order == Order::Ordered && (id < channel.unreliable_next || after < channel.next)
    }

    fn drop_one(&mut self) -> Accepted {
        self.unreliable_dropped += 1;
        Accepted::Dropped
    }

    /// A block for an unreliable message, if their memory allows it; older incomplete ones give way.
    fn take_unreliable(&mut self, session: &Session, len: usize, pool: &mut BlockPool) -> Option<Block> {
        let len_max = 2 * session.limits.message_len_max.max(1) + BUFFER_LEN_MIN;
        while self.unreliable_len + 2 * len > len_max {
            self.evict_oldest(pool)?;
        }
        if self.ready.len() >= len_max / ENTRY_LEN {
            return None;
        }
        let block = pool.take(len)?;
        self.held_len += block.capacity();
        self.unreliable_len += block.capacity();
        Some(block)
    }

    fn open_unreliable(
        &mut self,
        session: &Session,
        arrival: &Arrival<'_>,
        after: u64,
        pool: &mut BlockPool,
    ) -> Option<u8> {
        if self.open.is_full() {
            self.evict_oldest(pool)?;
        }
        let block = self.take_unreliable(session, arrival.total, pool)?;
        self.note_deadline(arrival.now + REASSEMBLY_LIFE);
        Some(self.open.add(owner_of(arrival, after), block))
    }

    /// Drops the unreliable message that has been incomplete longest.
    pub(super) fn evict_oldest(&mut self, pool: &mut BlockPool) -> Option<()> {
        let (open, _) = self.open.unreliable().min_by_key(|(_, owner)| owner.since)?;
        self.evict(open, pool);
        Some(())
    }

    fn evict(&mut self, open: u8, pool: &mut BlockPool) {
        let block = self.open.remove(open);
        self.discard(block, pool);
        self.unreliable_dropped += 1;
    }

    fn discard(&mut self, block: Block, pool: &mut BlockPool) {
        self.held_len -= block.capacity();
        self.unreliable_len -= block.capacity();
        pool.give(block);
    }

    fn complete_unreliable(&mut self, owner: Owner, block: Block, pool: &mut BlockPool) -> Accepted {
        let after = owner.unreliable.unwrap_or(0);
        if self.is_too_late(owner.slot, owner.id, after) {
            self.discard(block, pool);
            return self.drop_one();
        }
        let channel = &mut self.channels[owner.slot];
        if channel.order == Order::Unordered || after == channel.next {
            self.deliver_unreliable(owner.slot, owner.id, block);
            return Accepted::Delivered;
        }
        let at = channel.held.partition_point(|held| held.id < owner.id);
        let is_twice = channel.held.get(at).is_some_and(|held| held.id == owner.id);
        if self.waiting >= WAITING_MAX || is_twice {
            self.discard(block, pool);
            return self.drop_one();
        }
        channel.held.insert(at, Held { id: owner.id, after, since: owner.since, block });
        self.waiting += 1;
        self.note_deadline(owner.since + REASSEMBLY_LIFE);
        Accepted::Kept
    }

    fn deliver_unreliable(&mut self, slot: usize, id: u64, block: Block) {
        let channel = &mut self.channels[slot];
        channel.unreliable_next = channel.unreliable_next.max(id + 1);
        let message = MessageId(id);
        self.ready.push_back(Incoming { channel: channel.id, message, block, charge: 0, is_reliable: false });
    }

    /// Delivers those that waited for exactly the reliable messages delivered by now. `settle` calls it at every step, so none is passed.
    #[inline]
    pub(super) fn deliver_held(&mut self, slot: usize) {
        while self.channels[slot].held.first().is_some_and(|held| held.after <= self.channels[slot].next) {
            let held = self.channels[slot].held.remove(0);
            self.waiting -= 1;
            self.deliver_unreliable(slot, held.id, held.block);
        }
    }

    /// Drops a channel's unreliable messages that were not delivered.
    pub(super) fn drop_unreliable(&mut self, slot: usize, pool: &mut BlockPool) {
        for held in core::mem::take(&mut self.channels[slot].held) {
            self.waiting -= 1;
            self.unreliable_dropped += 1;
            self.discard(held.block, pool);
        }
        while let Some(open) = self.open.find_unreliable(|owner| owner.slot == slot) {
            self.evict(open, pool);
        }
    }

    /// Drops what has been incomplete or waiting for too long, and finds the next deadline.
    pub(super) fn expire(&mut self, now: Instant, pool: &mut BlockPool) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        self.deadline = None;
        let is_over = |since: Instant| since + REASSEMBLY_LIFE <= now;
        while let Some(open) = self.open.find_unreliable(|owner| is_over(owner.since)) {
            self.evict(open, pool);
        }
        for slot in 0..self.channels.len() {
            while let Some(at) = self.channels[slot].held.iter().position(|held| is_over(held.since)) {
                let held = self.channels[slot].held.remove(at);
                self.waiting -= 1;
                self.unreliable_dropped += 1;
                self.discard(held.block, pool);
            }
        }
        let open = self.open.unreliable().map(|(_, owner)| owner.since);
        let held = self.channels.iter().flat_map(|channel| channel.held.iter().map(|held| held.since));
        self.deadline = open.chain(held).min().map(|since| since + REASSEMBLY_LIFE);
    }

    fn note_deadline(&mut self, at: Instant) {
        self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
    }
}

fn owner_of(arrival: &Arrival<'_>, after: u64) -> Owner {
    Owner { slot: arrival.slot, id: arrival.id, unreliable: Some(after), since: arrival.now }
}
