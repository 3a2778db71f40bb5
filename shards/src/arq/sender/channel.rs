//! One channel's queues, as its sender keeps them.
//!
//! In:    messages, fates of what was written.
//! Out:   messages that ended.
//! Holds: `messages[i]` has the number `base + i` when `i < started` and none yet otherwise; only the last started one can be partly written.

use std::collections::VecDeque;

use dunlin_codec::ids::ChannelId;

use super::log::{Entry, Kind, Log};
use super::{Outcome, Outgoing, Released, SenderCounts, Tail, Undelivered};
use crate::arq::receiver::credit::CHANNEL_CREDIT_INITIAL;
use crate::arq::receiver::islands::Islands;
use crate::blocks::Block;

/// What a message costs besides its block, in bytes: its entries here and in the log.
const ENTRY_LEN: usize = 64;

/// What is true of a message.
mod flag {
    pub(super) const ONCE: u8 = 1;
    pub(super) const IDEMPOTENT: u8 = 2;
    /// It is over: acknowledged whole, or its skip was.
    pub(super) const SETTLED: u8 = 4;
    /// It was cancelled after it got its number; the peer is being told.
    pub(super) const SKIPPED: u8 = 8;
    /// Some of it was acknowledged: the peer knows its length.
    pub(super) const KNOWN: u8 = 16;
    /// Acknowledged whole, but behind one of an ordered channel that is not: the peer's application does not have it.
    pub(super) const HELD: u8 = 32;
}

/// A reliable message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) block: Block,
    ticket: u64,
    /// Bytes written at least once, from the first. A skipped message's length.
    pub(super) sent: u32,
    /// Bytes acknowledged without a gap, from the first.
    pub(super) prefix: u32,
    /// Where what was acknowledged beyond that is kept, plus one; 0: nowhere.
    islands: u32,
    flags: u8,
    /// A skipped message's first byte.
    pub(super) first: u8,
}

impl Message {
    /// Whether it need not be sent (any more).
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.flags & (flag::SETTLED | flag::SKIPPED) != 0
    }

    /// Whether a skip of it must tell its length first.
    pub(super) fn is_unknown(&self) -> bool {
        self.flags & flag::KNOWN == 0 && self.sent > 1
    }

    fn is_held(&self) -> bool {
        self.flags & flag::HELD != 0
    }

    fn cost(&self) -> usize {
        self.block.capacity() + ENTRY_LEN
    }
}

/// An unreliable message.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) block: Block,
    pub(super) ticket: u64,
    /// Reliable messages that go before it.
    pub(super) after: u64,
    pub(super) sent: u32,
    flags: u8,
}

impl Datagram {
    fn cost(&self) -> usize {
        self.block.capacity() + ENTRY_LEN
    }
}

/// What all channels of a sender share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) log: Log,
    pub(super) released: VecDeque<Released>,
    islands: Vec<Islands>,
    islands_free: Vec<u32>,
    /// Bytes of reliable messages, entries included.
    pub(super) reliable_len: usize,
    /// Bytes of unreliable messages, entries included.
    pub(super) unreliable_len: usize,
    /// Channels whose message is partly written.
    pub(super) partial: usize,
    /// One more wanted to be, in the packet being written.
    pub(super) is_crowded: bool,
    /// The channel whose head waits for the session's credit, and its priority.
    pub(super) waiting: Option<(u16, u8)>,
    pub(super) counts: SenderCounts,
    /// What the packet being written ends with and was not written.
    pub(super) tail: Tail,
}

impl Shared {
    /// Adds what was acknowledged of a message; true when that is all of it.
    fn add_acked(&mut self, message: &mut Message, offset: u32, len: u32) -> bool {
        message.flags |= flag::KNOWN;
        let end = offset + len;
        if offset > message.prefix {
            let at = self.islands_of(message);
            self.islands[at].insert(offset, end);
            return false;
        }
        message.prefix = message.prefix.max(end);
        if message.islands != 0 {
            let at = self.islands_of(message);
            message.prefix = self.islands[at].absorb(message.prefix);
        }
        message.prefix as usize == message.block.len()
    }

    fn islands_of(&mut self, message: &mut Message) -> usize {
        if message.islands == 0 {
            message.islands = self.islands_free.pop().unwrap_or_else(|| {
                self.islands.push(Islands::default());
                u32::try_from(self.islands.len()).expect("fewer than messages, which memory bounds")
            });
        }
        message.islands as usize - 1
    }

    fn free_islands(&mut self, message: &mut Message) {
        if message.islands != 0 {
            self.islands[message.islands as usize - 1].clear();
            self.islands_free.push(core::mem::take(&mut message.islands));
        }
    }

    #[inline]
    pub(super) fn release(&mut self, ticket: u64, channel: ChannelId, block: Block, outcome: Outcome) {
        self.released.push_back(Released { ticket, channel, block, outcome });
    }

    pub(super) fn shrink(&mut self) {
        self.log.shrink();
        self.released.shrink_to_fit();
        if self.islands_free.len() == self.islands.len() {
            (self.islands, self.islands_free) = (Vec::new(), Vec::new());
        }
    }
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) slot: u16,
    pub(super) is_unordered: bool,
    pub(super) is_closed: bool,
    pub(super) priority: u8,
    /// It stands in its priority's ring of channels with something new.
    pub(super) is_fresh: bool,
    /// It stands in its priority's ring of channels with something to send again.
    pub(super) is_again: bool,
    /// Its own credit is used up.
    pub(super) is_blocked: bool,
    /// The last started message is partly written.
    pub(super) is_partial: bool,
    /// The number of the first message in `messages`.
    pub(super) base: u64,
    pub(super) started: usize,
    pub(super) messages: VecDeque<Message>,
    pub(super) unreliable: VecDeque<Datagram>,
    pub(super) next_unreliable: u64,
    /// What is to be sent again, in the order in which it was lost.
    pub(super) lost: VecDeque<Entry>,
    pub(super) used: u64,
    pub(super) limit: u64,
    /// The limit at which the peer was told that we are blocked.
    pub(super) blocked_told: u64,
}

impl Channel {
    pub(super) fn new(id: ChannelId, slot: u16, is_unordered: bool, priority: u8) -> Self {
        Self {
            id,
            slot,
            is_unordered,
            is_closed: false,
            priority,
            is_fresh: false,
            is_again: false,
            is_blocked: false,
            is_partial: false,
            base: 0,
            started: 0,
            messages: VecDeque::new(),
            unreliable: VecDeque::new(),
            next_unreliable: 0,
            lost: VecDeque::new(),
            used: 0,
            limit: CHANNEL_CREDIT_INITIAL,
            blocked_told: u64::MAX,
        }
    }

    /// Queues a message.
    #[inline]
    pub(super) fn push(&mut self, message: Outgoing, shared: &mut Shared) {
        let (block, ticket) = (message.block, message.ticket);
        let cost = block.capacity() + ENTRY_LEN;
        let flags =
            if message.once { flag::ONCE } else { 0 } | if message.idempotent { flag::IDEMPOTENT } else { 0 };
        if message.reliable {
            shared.reliable_len += cost;
            self.messages.push_back(Message {
                block,
                ticket,
                sent: 0,
                prefix: 0,
                islands: 0,
                flags,
                first: 0,
            });
        } else {
            shared.unreliable_len += cost;
            let after = self.base + self.messages.len() as u64;
            self.unreliable.push_back(Datagram { block, ticket, after, sent: 0, flags });
        }
    }

    /// The number that the next started message gets.
    #[inline]
    pub(super) fn next_id(&self) -> u64 {
        self.base + self.started as u64
    }

    /// Where a started message lies, while it is not over and gone.
    #[inline]
    pub(super) fn index_of(&self, id: u64) -> Option<usize> {
        let index = usize::try_from(id.checked_sub(self.base)?).ok()?;
        (index < self.started).then_some(index)
    }

    /// A run of whole messages arrived.
    #[inline]
    pub(super) fn on_whole_acked(&mut self, first: u64, count: u32, shared: &mut Shared) {
        for id in first..first + u64::from(count) {
            let Some(index) = self.index_of(id) else { continue };
            if self.messages[index].is_over() {
                continue;
            }
            if index > 0 {
                self.settle(index, shared);
                continue;
            }
            let mut message = self.messages.pop_front().expect("index 0 exists");
            self.base += 1;
            self.started -= 1;
            shared.reliable_len -= message.cost();
            shared.free_islands(&mut message);
            shared.release(message.ticket, self.id, message.block, Outcome::Acked);
        }
        self.forget_settled(shared);
    }

    /// A piece of a message arrived.
    #[inline]
    pub(super) fn on_part_acked(&mut self, entry: &Entry, shared: &mut Shared) {
        let Some(index) = self.index_of(entry.id) else { return };
        let message = &mut self.messages[index];
        if !message.is_over() && shared.add_acked(message, entry.offset_or_count, entry.len) {
            self.settle(index, shared);
            self.forget_settled(shared);
        }
    }

    /// The peer knows that a message is skipped.
    pub(super) fn on_skip_acked(&mut self, id: u64, shared: &mut Shared) {
        if let Some(index) = self.index_of(id) {
            self.messages[index].flags |= flag::SETTLED;
            self.forget_settled(shared);
        }
    }

    /// All of a message arrived. On an ordered channel it waits there for those before it, and ends unread with the session if they
    /// never come: it is not done with before they are.
    /// spec: atp/acked-in-order
    fn settle(&mut self, index: usize, shared: &mut Shared) {
        let message = &mut self.messages[index];
        shared.free_islands(message);
        message.flags |= flag::SETTLED;
        if self.is_unordered {
            self.release(index, Outcome::Acked, shared);
        } else {
            message.flags |= flag::HELD;
        }
    }

    /// A message whose block is still here is done with.
    fn release(&mut self, index: usize, outcome: Outcome, shared: &mut Shared) {
        let message = &mut self.messages[index];
        shared.reliable_len -= message.cost();
        message.flags &= !flag::HELD;
        let block = core::mem::take(&mut message.block);
        shared.release(message.ticket, self.id, block, outcome);
    }

    #[inline]
    fn forget_settled(&mut self, shared: &mut Shared) {
        while self.started > 0
            && self.messages.front().is_some_and(|message| message.flags & flag::SETTLED != 0)
        {
            if self.messages[0].is_held() {
                self.release(0, Outcome::Acked, shared);
            }
            self.messages.pop_front();
            self.base += 1;
            self.started -= 1;
        }
    }

    /// Puts what a lost packet carried into the queue of what is sent again.
    pub(super) fn push_lost(&mut self, entry: Entry) {
        if !self.lost.back_mut().is_some_and(|last| last.join(&entry)) {
            self.lost.push_back(entry);
        }
    }

    /// Takes a message out of the queues; a reliable one that has its number is skipped.
    /// spec: atp/cancel
    pub(super) fn cancel(&mut self, ticket: u64, shared: &mut Shared) -> Option<Block> {
        let fits = |message: &Message| message.ticket == ticket && !message.is_over();
        if let Some(index) = self.messages.iter().position(fits) {
            return Some(if index < self.started {
                self.skip(index, shared)
            } else {
                self.take_pending(index, shared)
            });
        }
        let index = self.unreliable.iter().position(|datagram| datagram.ticket == ticket)?;
        self.take_datagram(index, shared).map(|datagram| datagram.block)
    }

    fn take_pending(&mut self, index: usize, shared: &mut Shared) -> Block {
        let number = self.base + index as u64;
        let message = self.messages.remove(index).expect("it was found there");
        shared.reliable_len -= message.cost();
        for datagram in self.unreliable.iter_mut().filter(|datagram| datagram.after > number) {
            datagram.after -= 1;
        }
        message.block
    }

    /// Takes an unreliable message out of the queue. One that is partly sent leaves its number behind.
    pub(super) fn take_datagram(&mut self, index: usize, shared: &mut Shared) -> Option<Datagram> {
        let datagram = self.unreliable.remove(index)?;
        shared.unreliable_len -= datagram.cost();
        if datagram.sent > 0 {
            self.next_unreliable += 1;
        }
        Some(datagram)
    }

    /// Gives a started message up: the peer is told to go past it.
    fn skip(&mut self, index: usize, shared: &mut Shared) -> Block {
        let message = &mut self.messages[index];
        shared.reliable_len -= message.cost();
        shared.free_islands(message);
        message.flags |= flag::SKIPPED;
        let block = core::mem::take(&mut message.block);
        message.sent = u32::try_from(block.len()).expect("no message has 4 GiB");
        message.first = block.first().copied().unwrap_or(0);
        if self.is_partial && index + 1 == self.started {
            self.is_partial = false;
            shared.partial -= 1;
        }
        self.lost.push_back(Entry::of(Kind::Skip, self.slot, self.base + index as u64));
        block
    }

    /// Gives everything up; with a code the peer is told.
    pub(super) fn close(&mut self, code: Option<u64>, shared: &mut Shared) {
        self.is_closed = true;
        for index in (0..self.messages.len()).rev() {
            if self.messages[index].is_held() {
                self.release(index, Outcome::Abandoned, shared);
            }
            if self.messages[index].is_over() {
                continue;
            }
            let ticket = self.messages[index].ticket;
            let block = if index < self.started {
                self.skip(index, shared)
            } else {
                self.take_pending(index, shared)
            };
            shared.release(ticket, self.id, block, Outcome::Abandoned);
        }
        while let Some(datagram) = self.take_datagram(0, shared) {
            shared.release(datagram.ticket, self.id, datagram.block, Outcome::Abandoned);
        }
        if let Some(code) = code {
            self.lost.push_back(Entry::of(Kind::Reset, self.slot, code));
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.messages.is_empty() && self.unreliable.is_empty() && self.lost.is_empty()
    }

    pub(super) fn shrink(&mut self) {
        self.messages.shrink_to_fit();
        self.unreliable.shrink_to_fit();
        self.lost.shrink_to_fit();
    }

    /// What is left of it at the session's end, in order.
    pub(super) fn into_undelivered(self, into: &mut Vec<Undelivered>) {
        let (channel, ordered, priority) = (self.id, !self.is_unordered, self.priority);
        let undelivered = |block, ticket, flags: u8, reliable, may_have_arrived| {
            let (once, idempotent) = (flags & flag::ONCE != 0, flags & flag::IDEMPOTENT != 0);
            let message = Outgoing { ticket, block, channel, ordered, reliable, priority, once, idempotent };
            Undelivered { message, may_have_arrived }
        };
        let started = self.started;
        let is_left = |message: &Message| !message.is_over() || message.is_held();
        let reliable = self.messages.into_iter().enumerate().filter(|(_, message)| is_left(message));
        into.extend(
            reliable.map(|(index, m)| undelivered(m.block, m.ticket, m.flags, true, index < started)),
        );
        let unreliable = self.unreliable.into_iter();
        into.extend(unreliable.map(|d| undelivered(d.block, d.ticket, d.flags, false, d.sent > 0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_message_is_small() {
        assert_eq!(size_of::<Message>(), 48);
        assert!(size_of::<Channel>() <= 256);
    }
}
