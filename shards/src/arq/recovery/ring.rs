//! The packets under way, in the order of their numbers.
//!
//! In:    `push` (a packet, and the numbers skipped before it), `acknowledge` (a range), `retire`.
//! Out:   each packet newly acknowledged; `get`; where the oldest open packet may be.
//! Holds: a number is looked up by subtraction; acknowledged packets form runs that are walked in one step.
//!
//! An acknowledgement repeats ranges that were acknowledged before. An acknowledged entry therefore links to another acknowledged entry
//! with nothing but acknowledged ones between: the last of a run to its first and the other way round, those inside to the last. A stale
//! link is still true, only shorter than it could be. So a walk costs the packets that are new and a few steps per range.

use core::ops::RangeInclusive;
use std::collections::VecDeque;

use super::{FalseAck, SentKind, SentPacket};
use crate::time::Instant;

/// What became of a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Under way; the window counts it.
    Open,
    /// Under way, but nobody needs to answer it: an acknowledgement alone.
    Passive,
    /// Given up, and kept for a while to notice when that was a mistake.
    Lost,
    /// Acknowledged.
    Acked,
    /// Never sent, to catch whoever acknowledges it (T4).
    Skipped,
}

/// One number's entry: 32 bytes when `T` has 16.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<T> {
    /// When it was sent, in nanoseconds; once acknowledged, the number that it links to.
    sent_or_link: u64,
    /// What it carried.
    pub(super) contents: T,
    /// How many packets were sent before it, modulo 2^32.
    pub(super) ordinal: u32,
    /// Its datagram's bytes.
    pub(super) bytes: u16,
    /// What became of it.
    pub(super) state: State,
    traits: u8,
}

const IS_MTU_PROBE: u8 = 1;
const IS_ECT: u8 = 2;
const IS_PATIENT: u8 = 4;

impl<T> Entry<T> {
    /// When it was sent. Not to be asked once it was acknowledged.
    pub(super) fn sent(&self) -> Instant {
        debug_assert!(self.state != State::Acked, "the time made room for a link");
        Instant::from_nanos(self.sent_or_link)
    }

    /// Whether it tested a datagram's size.
    pub(super) const fn is_mtu_probe(&self) -> bool {
        self.traits & IS_MTU_PROBE != 0
    }

    /// Whether the peer takes its time to answer it.
    pub(super) const fn is_patient(&self) -> bool {
        self.traits & IS_PATIENT != 0
    }

    /// Whether it was sent with ECT(0).
    pub(super) const fn is_ect(&self) -> bool {
        self.traits & IS_ECT != 0
    }
}

/// The ring.
#[derive(Clone, Debug)]
pub(super) struct Ring<T> {
    entries: VecDeque<Entry<T>>,
    /// The number of the front entry.
    base: u64,
    /// No number below it is open.
    first_open: u64,
    sent_count: u32,
}

impl<T: Copy> Ring<T> {
    pub(super) const fn new() -> Self {
        Self { entries: VecDeque::new(), base: 0, first_open: 0, sent_count: 0 }
    }

    /// The number that can be sent next.
    pub(super) fn next(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// The lowest number that is still kept.
    pub(super) const fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry of a number that is kept.
    #[inline]
    pub(super) fn get(&self, number: u64) -> &Entry<T> {
        &self.entries[(number - self.base) as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u64) -> &mut Entry<T> {
        &mut self.entries[(number - self.base) as usize]
    }

    /// A packet leaves; numbers between the last one and it were skipped.
    ///
    /// # Panics
    /// When the number was used already: that would be a nonce used twice.
    #[inline]
    pub(super) fn push(&mut self, now: Instant, packet: &SentPacket<T>) {
        let number = packet.number.0;
        assert!(number >= self.next(), "packet numbers only grow");
        if self.entries.is_empty() {
            // Nothing is kept, so nothing needs the numbers between; a skipped one does, to be caught.
            self.base = self.base.max(number.saturating_sub(1));
        }
        let mut entry = Entry {
            sent_or_link: now.as_nanos(),
            contents: packet.contents,
            ordinal: self.sent_count,
            bytes: u16::try_from(packet.bytes).unwrap_or(u16::MAX),
            state: State::Skipped,
            traits: u8::from(packet.is_ect) * IS_ECT,
        };
        while self.next() < number {
            self.entries.push_back(entry);
        }
        entry.state = if packet.kind == SentKind::AckOnly { State::Passive } else { State::Open };
        entry.traits |= u8::from(packet.kind == SentKind::MtuProbe) * IS_MTU_PROBE;
        entry.traits |= u8::from(packet.kind == SentKind::Patient) * IS_PATIENT;
        self.entries.push_back(entry);
        self.sent_count = self.sent_count.wrapping_add(1);
    }

    /// Marks a range as acknowledged, from its end down, and hands out each entry as it was before. Numbers no longer kept are passed over.
    ///
    /// # Errors
    /// A number in it was never sent: the peer lies, and the session ends. What was handed out before stays marked.
    pub(super) fn acknowledge(
        &mut self,
        range: &RangeInclusive<u64>,
        mut take: impl FnMut(u64, &Entry<T>),
    ) -> Result<(), FalseAck> {
        let (start, end) = (*range.start().max(&self.base), *range.end());
        if end >= self.next() {
            return Err(FalseAck);
        }
        if end < start {
            return Ok(());
        }
        let top = if self.get(end).state == State::Acked { self.get(end).sent_or_link.max(end) } else { end };
        let mut bottom = end + 1;
        while bottom > start {
            let number = bottom - 1;
            let entry = self.get_mut(number);
            match entry.state {
                State::Acked => bottom = self.run_bottom(number),
                State::Skipped => return Err(FalseAck),
                State::Open | State::Passive | State::Lost => {
                    take(number, entry);
                    entry.state = State::Acked;
                    entry.sent_or_link = top;
                    bottom = number;
                }
            }
        }
        self.get_mut(bottom).sent_or_link = top;
        self.get_mut(top).sent_or_link = bottom;
        Ok(())
    }

    /// The lowest number known to be in one run with an acknowledged one.
    fn run_bottom(&self, number: u64) -> u64 {
        let link = self.get(number).sent_or_link;
        let lowest = if link > number { self.get(link).sent_or_link.min(number) } else { link };
        lowest.max(self.base)
    }

    /// The number behind the run of an acknowledged one, as far as it is known.
    pub(super) fn behind_run(&self, number: u64) -> u64 {
        self.get(number).sent_or_link.max(number) + 1
    }

    /// Where to look for the oldest open packet.
    pub(super) const fn first_open(&self) -> u64 {
        if self.first_open > self.base { self.first_open } else { self.base }
    }

    /// Nothing below this number is open.
    pub(super) const fn set_first_open(&mut self, number: u64) {
        self.first_open = number;
    }

    /// The open packets, oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = (u64, &Entry<T>)> {
        let mut number = self.first_open();
        core::iter::from_fn(move || {
            while number < self.next() {
                let (at, entry) = (number, self.get(number));
                number = if entry.state == State::Acked { self.behind_run(at) } else { at + 1 };
                if entry.state == State::Open {
                    return Some((at, entry));
                }
            }
            None
        })
    }

    /// Lets go of what is done at the front: the acknowledged, and what else was sent before `horizon`, except what is open.
    /// A skipped number goes together with the packet behind it.
    pub(super) fn retire(&mut self, horizon: Instant) {
        loop {
            let skipped = self.entries.iter().take_while(|entry| entry.state == State::Skipped).count();
            let Some(entry) = self.entries.get(skipped) else { return };
            let is_done = match entry.state {
                State::Acked => true,
                State::Lost | State::Passive => entry.sent() <= horizon,
                State::Open | State::Skipped => false,
            };
            if !is_done {
                return;
            }
            for _ in 0..=skipped {
                self.entries.pop_front();
            }
            self.base += skipped as u64 + 1;
        }
    }

    /// Gives memory back that is not needed now.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dunlin_codec::ids::PacketNumber;
    use proptest::prelude::*;

    use super::*;

    fn packet(number: u64) -> SentPacket<[u64; 2]> {
        let contents = [number, 0];
        SentPacket {
            number: PacketNumber(number),
            bytes: 1_200,
            kind: SentKind::Eliciting,
            is_ect: true,
            contents,
        }
    }

    fn ring(numbers: impl IntoIterator<Item = u64>) -> Ring<[u64; 2]> {
        let mut ring = Ring::new();
        for number in numbers {
            ring.push(Instant::from_nanos(number), &packet(number));
        }
        ring
    }

    fn acknowledge(ring: &mut Ring<[u64; 2]>, range: RangeInclusive<u64>) -> Result<Vec<u64>, FalseAck> {
        let mut taken = Vec::new();
        ring.acknowledge(&range, |number, entry| {
            assert_eq!(entry.contents[0], number);
            taken.push(number);
        })?;
        Ok(taken)
    }

    #[test]
    fn an_entry_has_32_bytes() {
        assert_eq!(size_of::<Entry<[u64; 2]>>(), 32);
    }

    #[test]
    fn ranges_are_taken_once() {
        let mut ring = ring(0..10);
        assert_eq!(acknowledge(&mut ring, 3..=5), Ok(vec![5, 4, 3]));
        assert_eq!(acknowledge(&mut ring, 2..=7), Ok(vec![7, 6, 2]));
        assert_eq!(acknowledge(&mut ring, 4..=6), Ok(vec![]));
        assert_eq!(ring.behind_run(2), 8);
        ring.retire(Instant::ZERO);
        assert_eq!(ring.base(), 0, "0 and 1 are open");
        assert_eq!(acknowledge(&mut ring, 0..=1), Ok(vec![1, 0]));
        ring.retire(Instant::ZERO);
        assert_eq!((ring.base(), ring.len()), (8, 2));
        assert_eq!(acknowledge(&mut ring, 0..=8), Ok(vec![8]));
    }

    /// spec: atp/false-ack
    #[test]
    fn what_was_never_sent_cannot_be_acknowledged() {
        let mut ring = ring([0, 1, 3, 4]);
        assert_eq!(acknowledge(&mut ring, 5..=5), Err(FalseAck));
        assert_eq!(acknowledge(&mut ring, 2..=2), Err(FalseAck));
        assert_eq!(acknowledge(&mut ring, 0..=4), Err(FalseAck));
        assert_eq!(acknowledge(&mut ring, 0..=u64::MAX), Err(FalseAck));
        // Even when everything around it is done: the trap stays until something behind it has arrived.
        let mut ring = super::tests::ring([0, 1, 3]);
        acknowledge(&mut ring, 0..=1).unwrap();
        ring.retire(Instant::ZERO);
        assert_eq!(acknowledge(&mut ring, 2..=2), Err(FalseAck));
        acknowledge(&mut ring, 3..=3).unwrap();
        ring.retire(Instant::ZERO);
        assert_eq!((ring.base(), ring.len()), (4, 0));
        ring.push(Instant::ZERO, &packet(5));
        assert_eq!(acknowledge(&mut ring, 4..=4), Err(FalseAck));
    }

    #[test]
    fn what_is_not_open_leaves_in_time() {
        let mut ring = Ring::new();
        for number in 0..4 {
            ring.push(Instant::from_nanos(number), &SentPacket { kind: SentKind::AckOnly, ..packet(number) });
        }
        ring.retire(Instant::from_nanos(1));
        assert_eq!((ring.base(), ring.open().count()), (2, 0));
        ring.get_mut(2).state = State::Lost;
        ring.retire(Instant::from_nanos(9));
        assert_eq!(ring.len(), 0);
    }

    proptest! {
        /// Against the naive model: whatever the ranges, each packet is handed out once.
        #[test]
        fn equals_a_plain_map(ranges in prop::collection::vec((0u64..200, 0u64..40), 1..60), retires in any::<u64>()) {
            let mut ring = ring(0..200);
            let mut plain: BTreeMap<u64, bool> = (0..200).map(|number| (number, false)).collect();
            for (index, (start, len)) in ranges.into_iter().enumerate() {
                let range = start..=(start + len).min(199);
                let mut expected: Vec<u64> = range.clone().filter(|number| !plain.insert(*number, true).unwrap()).collect();
                expected.reverse();
                prop_assert_eq!(acknowledge(&mut ring, range), Ok(expected));
                if retires >> (index % 64) & 1 == 1 {
                    ring.retire(Instant::ZERO);
                }
                let open: Vec<u64> = ring.open().map(|(number, _)| number).collect();
                let still: Vec<u64> = plain.iter().filter(|(_, is_acked)| !**is_acked).map(|(number, _)| *number).collect();
                prop_assert_eq!(open, still);
            }
        }
    }
}
