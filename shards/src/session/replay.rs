//! The replay window: which packet numbers were received.
//!
//! In:    numbers, twice: `check` before a packet is opened, `commit` after it opened.
//! Out:   whether a number is fresh.
//! Holds: no number is fresh twice, whatever the window does (T6).
//!
//! A ring of bits as in RFC 6479: moving it clears whole words, so of its bits one word is never usable. It
//! starts with 2,048 bits and doubles up to 16,384 while more than one packet in 10,000 is dropped as too
//! old.
//! spec: atp/replay

use dunlin_codec::ids::PacketNumber;

use crate::limits::{REPLAY_WINDOW_MAX, REPLAY_WINDOW_MIN};
use crate::mutants::{Mutant, planted};

const WORD_BITS: usize = 64;
/// Packets in which the dropped ones are counted.
const PERIOD: u64 = 65_536;
/// Packets dropped as too old in a period above which the window grows: 0.01 %.
const TOO_OLD_MAX: u64 = PERIOD / 10_000;

/// What is known of a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// Never received.
    Fresh,
    /// Received before.
    Seen,
    /// Older than the window can tell.
    TooOld,
}

/// The window of one session and direction.
pub struct ReplayWindow {
    words: Box<[u64]>,
    /// The highest number received, plus one.
    end: u64,
    /// `end` when counting of this period began.
    period_begin: u64,
    too_old_count: u64,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new(REPLAY_WINDOW_MIN)
    }
}

impl ReplayWindow {
    /// A window of `bits`, a power of two, at least 128.
    ///
    /// # Panics
    /// When `bits` is something else: the caller's fault.
    #[must_use]
    pub fn new(bits: usize) -> Self {
        assert!(bits.is_power_of_two() && bits >= 2 * WORD_BITS, "a window of {bits} bits");
        let words = vec![0; bits / WORD_BITS].into_boxed_slice();
        Self { words, end: 0, period_begin: 0, too_old_count: 0 }
    }

    /// How far below the highest number it can tell, in packets.
    #[must_use]
    pub fn reach(&self) -> u64 {
        ((self.words.len() - 1) * WORD_BITS) as u64
    }

    /// Whether `number` may be opened. It is not received by that.
    #[inline]
    #[must_use]
    pub fn check(&self, number: PacketNumber) -> Freshness {
        let number = number.0;
        if number >= self.number_end() || self.end > number + self.reach() + 1 {
            return Freshness::TooOld;
        }
        let word = self.words[self.index(number)];
        if number < self.end - u64::from(planted(Mutant::ReplayWindowOffByOne))
            && word >> (number % WORD_BITS as u64) & 1 == 1
        {
            Freshness::Seen
        } else {
            Freshness::Fresh
        }
    }

    /// Receives `number`, whose packet opened. It must have been fresh.
    #[inline]
    pub fn commit(&mut self, number: PacketNumber) {
        let number = number.0;
        if number >= self.end {
            self.advance(number);
        }
        let at = self.index(number);
        self.words[at] |= 1 << (number % WORD_BITS as u64);
    }

    /// A packet was dropped as too old: when they are many, the window grows. True when it did. It allocates,
    /// three times in a session's life.
    #[cold]
    pub fn on_too_old(&mut self) -> bool {
        if self.end - self.period_begin >= PERIOD {
            self.period_begin = self.end;
            self.too_old_count = 0;
        }
        self.too_old_count += 1;
        if self.too_old_count <= TOO_OLD_MAX || self.words.len() * WORD_BITS >= REPLAY_WINDOW_MAX {
            return false;
        }
        self.grow();
        true
    }

    /// The highest number received, plus one; zero before the first.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The first number that is never accepted: beyond it the arithmetic would wrap.
    fn number_end(&self) -> u64 {
        u64::MAX - self.reach() - 1
    }

    fn index(&self, number: u64) -> usize {
        (number / WORD_BITS as u64) as usize & (self.words.len() - 1)
    }

    fn advance(&mut self, number: u64) {
        // The word of the highest number so far is in use; before the first number none is, and clearing an
        // empty one is harmless.
        let (current, target) = (self.end.saturating_sub(1) / WORD_BITS as u64, number / WORD_BITS as u64);
        let steps = (target - current).min(self.words.len() as u64);
        for step in 1..=steps {
            let at = (current + step) as usize & (self.words.len() - 1);
            self.words[at] = 0;
        }
        self.end = number + 1;
    }

    /// Numbers that the smaller window had forgotten stay refused, as received.
    fn grow(&mut self) {
        let old_len = self.words.len() as u64;
        let mut words = vec![u64::MAX; self.words.len() * 2].into_boxed_slice();
        let last = self.end.saturating_sub(1) / WORD_BITS as u64;
        for word in last.saturating_sub(old_len - 1)..=last {
            words[word as usize & (2 * old_len as usize - 1)] = self.words[(word % old_len) as usize];
        }
        self.words = words;
        self.period_begin = self.end;
        self.too_old_count = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn receive(window: &mut ReplayWindow, number: u64) -> bool {
        let is_fresh = window.check(PacketNumber(number)) == Freshness::Fresh;
        if is_fresh {
            window.commit(PacketNumber(number));
        }
        is_fresh
    }

    /// The self-test of WireGuard's kernel module (selftest/counter.c), with this window's reach for its
    /// COUNTER_WINDOW_SIZE.
    /// spec: atp/replay
    #[test]
    fn it_passes_wireguard_s_self_test() {
        for bits in [2_048, 4_096, 8_192, 16_384] {
            numbered_steps(bits);
            runs(bits);
        }
    }

    fn numbered_steps(bits: usize) {
        let mut window = ReplayWindow::new(bits);
        let limit = window.reach() + 1;
        let reject_after = u64::MAX - window.reach() - 1;
        let steps = [
            (0, true),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (limit, true),
            (limit - 1, true),
            (limit - 1, false),
            (limit - 2, true),
            (2, true),
            (2, false),
            (limit + 16, true),
            (3, false),
            (limit + 16, false),
            (limit * 4, true),
            (limit * 4 - (limit - 1), true),
            (10, false),
            (limit * 4 - limit, false),
            (limit * 4 - (limit + 1), false),
            (limit * 4 - (limit - 2), true),
            (limit * 4 + 1 - limit, false),
            (0, false),
            (reject_after, false),
            (reject_after - 1, true),
            (reject_after, false),
            (reject_after - 1, false),
            (reject_after - 2, true),
            (reject_after + 1, false),
            (reject_after + 2, false),
            (reject_after - 2, false),
            (reject_after - 3, true),
            (0, false),
        ];
        for (step, (number, expected)) in steps.into_iter().enumerate() {
            assert_eq!(receive(&mut window, number), expected, "step {} with {bits} bits", step + 1);
        }
    }

    fn runs(bits: usize) {
        let size = ReplayWindow::new(bits).reach();
        let run = |numbers: &mut dyn Iterator<Item = u64>, then: &[(u64, bool)]| {
            let mut window = ReplayWindow::new(bits);
            for number in numbers {
                assert!(receive(&mut window, number), "{number}");
            }
            for &(number, expected) in then {
                assert_eq!(receive(&mut window, number), expected, "{number}");
            }
        };
        run(&mut (1..=size), &[(0, true), (0, false)]);
        run(&mut (2..=size + 1), &[(1, true), (0, false)]);
        run(&mut (0..size + 1).rev(), &[]);
        run(&mut (1..size + 2).rev(), &[(0, false)]);
        run(&mut (1..size + 1).rev(), &[(size + 1, true), (0, false)]);
        run(&mut (1..size + 1).rev(), &[(0, true), (size + 1, true)]);
    }

    /// The window as anyone would write it: a set of all that came.
    #[derive(Default)]
    struct Naive {
        received: BTreeSet<u64>,
        /// Below this it has forgotten.
        floor: u64,
    }

    impl Naive {
        fn receive(&mut self, number: u64, reach: u64) -> Freshness {
            let end = self.received.last().map_or(0, |last| last + 1);
            self.floor = self.floor.max(end.saturating_sub(reach + 1));
            if number < self.floor {
                Freshness::TooOld
            } else if self.received.insert(number) {
                Freshness::Fresh
            } else {
                Freshness::Seen
            }
        }
    }

    proptest! {
        /// spec: atp/replay
        #[test]
        fn it_agrees_with_a_set(
            jumps in proptest::collection::vec(prop_oneof![-40i64..40, -2_100i64..2_100, 0i64..9_000], 1..400)
        ) {
            let (mut window, mut naive, mut number) = (ReplayWindow::new(2_048), Naive::default(), 0u64);
            for jump in jumps {
                number = number.saturating_add_signed(jump);
                let verdict = window.check(PacketNumber(number));
                prop_assert_eq!(verdict, naive.receive(number, window.reach()));
                if verdict == Freshness::Fresh {
                    window.commit(PacketNumber(number));
                }
            }
        }

        /// What a smaller window forgot is never fresh in the grown one; all it knew is still known.
        #[test]
        fn growing_forgets_nothing(
            jumps in proptest::collection::vec(prop_oneof![-40i64..60, -9_000i64..9_000], 1..600)
        ) {
            let (mut window, mut naive, mut number) = (ReplayWindow::new(2_048), Naive::default(), 0u64);
            for jump in jumps {
                number = number.saturating_add_signed(jump);
                let verdict = window.check(PacketNumber(number));
                let was_received = naive.received.contains(&number);
                let expected = naive.receive(number, window.reach());
                // The naive one forgets by number, the ring by word: it may know a little more.
                prop_assert!(expected != Freshness::Fresh || verdict == Freshness::Fresh, "{number}");
                prop_assert!(verdict != Freshness::Fresh || !was_received, "{number} again");
                match verdict {
                    Freshness::Fresh => {
                        naive.received.insert(number);
                        window.commit(PacketNumber(number));
                    }
                    Freshness::TooOld => {
                        window.on_too_old();
                    }
                    Freshness::Seen => {}
                }
            }
        }
    }

    #[test]
    fn it_grows_when_more_than_one_in_ten_thousand_is_too_old() {
        let mut window = ReplayWindow::default();
        assert_eq!(size_of_val(&*window.words), 256);
        let mut next = 0;
        let mut pass = |window: &mut ReplayWindow, count: u64| {
            for _ in 0..count {
                assert!(receive(window, next));
                next += 1;
            }
        };
        for _ in 0..10 {
            pass(&mut window, PERIOD);
            for _ in 0..TOO_OLD_MAX {
                assert!(!window.on_too_old(), "0.01 % is borne");
            }
        }
        for bits in [4_096, 8_192, 16_384] {
            assert!((0..=TOO_OLD_MAX).any(|_| window.on_too_old()));
            assert_eq!(window.reach(), bits - 64);
            pass(&mut window, 10);
        }
        assert!(!(0..100).any(|_| window.on_too_old()), "no further");
    }
}
