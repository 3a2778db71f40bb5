//! Ranges of numbers: which packets have arrived, kept as few and bounded runs.
//!
//! In:    `insert` (a number), `forget_through`, `on_told`.
//! Out:   `to_tell`, `largest`, and for each insertion where it fell ([`Placed`]).
//! Holds: ranges ascend, never touch, and are at most [`RANGES_KEPT_MAX`]; the oldest goes first, the newest never.
//!
//! A path that reorders heavily leaves more ranges open than an acknowledgement holds. Then those that have grown since the last one are
//! told first, wherever they lie: a late packet that is never acknowledged would count as lost.

use core::ops::RangeInclusive;
use std::collections::VecDeque;

use crate::limits::{ACK_RANGES_MAX, GAPS_MAX};

/// Ranges that are remembered, of which an acknowledgement tells [`ACK_RANGES_MAX`].
pub const RANGES_KEPT_MAX: usize = 512;

const _: () = assert!(ACK_RANGES_MAX <= RANGES_KEPT_MAX && RANGES_KEPT_MAX <= GAPS_MAX);

/// Where an inserted number fell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Placed {
    /// Directly behind the largest, or first of all.
    Next,
    /// Above the largest, with a gap between.
    Ahead,
    /// Below the largest.
    Behind,
    /// It was there already.
    Duplicate,
    /// Older than everything kept, while the set was full: not kept.
    TooOld,
}

/// One run of numbers, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Run {
    first: u64,
    last: u64,
    /// Whether it has grown since the last acknowledgement.
    is_news: bool,
}

/// A bounded set of numbers, kept as runs. Empty, it owns no memory.
#[derive(Clone, Debug, Default)]
pub struct RangeSet {
    /// Ascending; no two touch.
    runs: VecDeque<Run>,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { runs: VecDeque::new() }
    }

    /// Adds a number. Costs a comparison when it follows the largest, else a search over the runs.
    #[inline]
    pub fn insert(&mut self, number: u64) -> Placed {
        match self.runs.back_mut() {
            Some(run) if run.last.checked_add(1) == Some(number) => {
                run.last = number;
                run.is_news = true;
                Placed::Next
            }
            Some(run) if number > run.last => {
                self.push(self.runs.len(), number);
                Placed::Ahead
            }
            Some(run) if number >= run.first => Placed::Duplicate,
            Some(_) => self.insert_behind(number),
            None => {
                self.push(0, number);
                Placed::Next
            }
        }
    }

    /// Adds a number that lies below the newest run.
    fn insert_behind(&mut self, number: u64) -> Placed {
        let above = self.runs.partition_point(|run| run.first <= number);
        let joins_above = self.runs[above].first == number + 1;
        let joins_below = match above.checked_sub(1).map(|below| self.runs[below]) {
            Some(run) if number <= run.last => return Placed::Duplicate,
            Some(run) => run.last + 1 == number,
            None => false,
        };
        match (joins_below, joins_above) {
            (true, true) => {
                self.runs[above - 1].last = self.runs[above].last;
                self.runs[above - 1].is_news = true;
                self.runs.remove(above);
            }
            (true, false) => (self.runs[above - 1].last, self.runs[above - 1].is_news) = (number, true),
            (false, true) => (self.runs[above].first, self.runs[above].is_news) = (number, true),
            (false, false) if above == 0 && self.runs.len() == RANGES_KEPT_MAX => return Placed::TooOld,
            (false, false) => self.push(above, number),
        }
        Placed::Behind
    }

    /// Opens a run of one number at a place; the oldest run makes room when there is none.
    fn push(&mut self, place: usize, number: u64) {
        let run = Run { first: number, last: number, is_news: true };
        if self.runs.len() == RANGES_KEPT_MAX {
            self.runs.pop_front();
            self.runs.insert(place - 1, run);
        } else {
            self.runs.insert(place, run);
        }
    }

    /// Forgets every number up to and including `number`, but never the largest of all.
    pub fn forget_through(&mut self, number: u64) {
        while self.runs.len() > 1 && self.runs[0].last <= number {
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front_mut() {
            run.first = run.first.max(number.saturating_add(1).min(run.last));
        }
    }

    /// Whether the number is in the set.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let above = self.runs.partition_point(|run| run.first <= number);
        above.checked_sub(1).is_some_and(|below| number <= self.runs[below].last)
    }

    /// The largest number.
    #[must_use]
    pub fn largest(&self) -> Option<u64> {
        self.runs.back().map(|run| run.last)
    }

    /// How many runs there are.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.runs.len()
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// What to put into an acknowledgement: at most [`ACK_RANGES_MAX`] runs from the largest down, the newest and the news first of all.
    pub fn to_tell(&self) -> impl Iterator<Item = RangeInclusive<u64>> + Clone + '_ {
        let (mut room, mut others) = (ACK_RANGES_MAX, self.runs.len());
        if others > ACK_RANGES_MAX {
            others = ACK_RANGES_MAX.saturating_sub(1 + self.runs.iter().filter(|run| run.is_news).count());
        }
        let mut is_newest = true;
        let told = self.runs.iter().rev().filter(move |run| {
            let is_first = core::mem::replace(&mut is_newest, false);
            let is_told = room > 0 && (is_first || run.is_news || others > 0);
            others -= usize::from(is_told && !is_first && !run.is_news);
            room -= usize::from(is_told);
            is_told
        });
        told.map(|run| run.first..=run.last)
    }

    /// An acknowledgement left: what it told is no news any more.
    pub fn on_told(&mut self) {
        for run in &mut self.runs {
            run.is_news = false;
        }
    }

    /// Gives memory back that the runs do not need.
    pub fn shrink(&mut self) {
        self.runs.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(numbers: impl IntoIterator<Item = u64>) -> RangeSet {
        let mut set = RangeSet::new();
        for number in numbers {
            set.insert(number);
        }
        set
    }

    #[test]
    fn says_where_a_number_fell() {
        let mut set = RangeSet::new();
        let placed = [5, 6, 9, 9, 8, 7, 5, 2].map(|number| set.insert(number));
        use Placed::{Ahead, Behind, Duplicate, Next};
        assert_eq!(placed, [Next, Next, Ahead, Duplicate, Behind, Behind, Duplicate, Behind]);
        assert_eq!(set.to_tell().collect::<Vec<_>>(), [5..=9, 2..=2]);
    }

    #[test]
    fn the_oldest_range_makes_room() {
        let mut set = set((0..RANGES_KEPT_MAX as u64).map(|n| 10 + 2 * n));
        assert_eq!(set.insert(0), Placed::TooOld);
        assert_eq!(set.insert(2_000), Placed::Ahead);
        assert_eq!((set.range_count(), set.contains(10), set.contains(12)), (RANGES_KEPT_MAX, false, true));
        assert_eq!(set.insert(50), Placed::Duplicate);
        assert_eq!(set.insert(1_800), Placed::Behind);
        assert_eq!(
            (set.range_count(), set.contains(12), set.contains(1_800)),
            (RANGES_KEPT_MAX, false, true)
        );
    }

    #[test]
    fn the_largest_is_never_forgotten() {
        let mut set = set([1, 2, 3, 7, 8]);
        set.forget_through(2);
        assert_eq!(set.to_tell().collect::<Vec<_>>(), [7..=8, 3..=3]);
        set.forget_through(u64::MAX);
        assert_eq!(set.to_tell().collect::<Vec<_>>(), [8..=8]);
        assert_eq!(set.insert(9), Placed::Next);
    }

    /// With more ranges than an acknowledgement holds, the news are told wherever they lie, and the newest always.
    #[test]
    fn news_are_told_first() {
        let mut set = set((0..200).map(|n| 2 * n));
        let told = |set: &RangeSet| set.to_tell().map(|range| *range.start()).collect::<Vec<_>>();
        assert_eq!(told(&set), (136..200).rev().map(|n| 2 * n).collect::<Vec<_>>());
        set.on_told();
        assert_eq!(set.insert(11), Placed::Behind);
        let again = told(&set);
        assert_eq!((again.len(), again[0], again[1], again[63]), (ACK_RANGES_MAX, 398, 396, 10));
    }

    #[test]
    fn the_last_number_of_all_is_accepted() {
        let mut set = set([u64::MAX - 1, u64::MAX]);
        assert_eq!(set.insert(u64::MAX), Placed::Duplicate);
        assert_eq!(set.insert(0), Placed::Behind);
    }

    proptest! {
        /// Against the naive model, as long as the bound does not bite.
        #[test]
        fn equals_a_plain_set(numbers in prop::collection::vec(0u64..100, 0..200), floor in 0u64..100) {
            let mut ranges = RangeSet::new();
            let mut plain = BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(ranges.insert(number) == Placed::Duplicate, !plain.insert(number));
            }
            ranges.forget_through(floor);
            let largest = plain.last().copied();
            plain.retain(|number| *number > floor || Some(*number) == largest);
            let listed: Vec<u64> = ranges.to_tell().flat_map(|range| range.rev()).collect();
            prop_assert_eq!(listed, plain.iter().rev().copied().collect::<Vec<_>>());
            prop_assert!(ranges.to_tell().zip(ranges.to_tell().skip(1)).all(|(a, b)| *a.start() > b.end() + 1));
        }
    }
}
