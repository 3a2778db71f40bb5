//! What was in which packet, until it is known whether the packet arrived.
//!
//! In:    what is written, in the order of packets; fates of packets.
//! Out:   `Span`, a packet's handle; its entries when its fate is known.
//! Holds: an entry is taken once; entries leave the front when they are dead, so the log is as long as what is in flight.

use std::collections::VecDeque;

/// What a packet carried: remember it with the packet, and give it to `on_acked` or `on_lost` once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    start: u32,
    count: u16,
}

impl Span {
    /// Whether the packet carried nothing whose fate matters here. (An unreliable message's does not.)
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }
}

/// What an entry stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Nothing any more.
    Dead,
    /// `count` whole messages from `id` on.
    Whole,
    /// `len` bytes of message `id` from `offset` on.
    Part,
    /// Message `id` is skipped.
    Skip,
    /// The channel is given up; `id` is the code.
    Reset,
    /// Credit is used up.
    Blocked,
}

/// One thing that a packet carried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    /// A part's offset; a run's count of messages.
    pub(super) offset_or_count: u32,
    /// A part's length.
    pub(super) len: u32,
    /// The channel's place in the sender's list.
    pub(super) slot: u16,
    pub(super) kind: Kind,
}

impl Entry {
    pub(super) fn whole(slot: u16, id: u64) -> Self {
        Self { id, offset_or_count: 1, len: 0, slot, kind: Kind::Whole }
    }

    pub(super) fn part(slot: u16, id: u64, offset: u32, len: u32) -> Self {
        Self { id, offset_or_count: offset, len, slot, kind: Kind::Part }
    }

    pub(super) fn of(kind: Kind, slot: u16, id: u64) -> Self {
        Self { id, offset_or_count: 0, len: 0, slot, kind }
    }

    /// Takes the run `next` in at the end, if it continues this one.
    #[inline]
    pub(super) fn join(&mut self, next: &Self) -> bool {
        let joins = self.kind == Kind::Whole
            && next.kind == Kind::Whole
            && self.slot == next.slot
            && self.id + u64::from(self.offset_or_count) == next.id;
        if joins {
            self.offset_or_count += next.offset_or_count;
        }
        joins
    }
}

/// Entries of packets in flight, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// The number of the oldest entry; numbers wrap.
    base: u32,
    /// Where the packet being written starts.
    packet: u32,
}

impl Log {
    #[inline]
    fn end(&self) -> u32 {
        self.base.wrapping_add(self.entries.len() as u32)
    }

    /// A new packet begins.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.packet = self.end();
    }

    /// The packet's entries so far.
    #[inline]
    pub(super) fn span(&self) -> Span {
        let count = self.end().wrapping_sub(self.packet);
        Span {
            start: self.packet,
            count: u16::try_from(count).expect("a packet has fewer than 65,536 frames"),
        }
    }

    /// The packet carries this too.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        if self.end() != self.packet
            && let Some(last) = self.entries.back_mut()
            && last.join(&entry)
        {
            return;
        }
        self.entries.push_back(entry);
    }

    /// The numbers of a span's entries.
    #[inline]
    pub(super) fn numbers(span: Span) -> impl Iterator<Item = u32> {
        (0..u32::from(span.count)).map(move |index| span.start.wrapping_add(index))
    }

    /// The entry, if it is still alive.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<Entry> {
        let entry = self.entries.get(number.wrapping_sub(self.base) as usize)?;
        (entry.kind != Kind::Dead).then_some(*entry)
    }

    /// The entry, if it is still alive, which it is then no more.
    #[inline]
    pub(super) fn take(&mut self, number: u32) -> Option<Entry> {
        let entry = self.entries.get_mut(number.wrapping_sub(self.base) as usize)?;
        let taken = *entry;
        entry.kind = Kind::Dead;
        (taken.kind != Kind::Dead).then_some(taken)
    }

    /// Forgets dead entries at the front.
    #[inline]
    pub(super) fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.kind == Kind::Dead) {
            self.entries.pop_front();
            self.base = self.base.wrapping_add(1);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_packet_and_channel_are_one_entry() {
        let mut log = Log::default();
        log.begin();
        for entry in [Entry::whole(1, 5), Entry::whole(1, 6), Entry::whole(2, 7), Entry::whole(1, 7)] {
            log.push(entry);
        }
        let first = log.span();
        log.begin();
        log.push(Entry::whole(1, 8));
        let second = log.span();
        assert_eq!((first.count, second.count, size_of::<Span>(), size_of::<Entry>()), (3, 1, 8, 24));

        let counts = Log::numbers(first).map(|number| log.take(number).unwrap().offset_or_count);
        assert_eq!(counts.collect::<Vec<_>>(), [2, 1, 1]);
        log.trim();
        assert_eq!((log.len(), log.take(first.start).is_none()), (1, true), "what is gone stays gone");
        assert_eq!(log.get(second.start).unwrap().id, 8);
    }

    #[test]
    fn numbers_wrap() {
        let mut log = Log { base: u32::MAX, ..Log::default() };
        log.begin();
        log.push(Entry::whole(1, 0));
        log.push(Entry::whole(1, 9));
        let span = log.span();
        let ids: Vec<_> = Log::numbers(span).map(|number| log.take(number).unwrap().id).collect();
        log.trim();
        assert_eq!((ids, log.base, log.len()), (vec![0, 9], 1, 0));
    }
}
