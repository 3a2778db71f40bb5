//! One direction of one client, first stage: which datagrams go on, in which order, and damaged how.
//!
//! In:    `on_train`: one or many datagrams of equal length, the last may be shorter.
//! Out:   runs of datagrams that stand next to each other, in order, each as soon as it is known.
//! Holds: no clock but for the release of a datagram that waits to be overtaken and is not.

use std::time::{Duration, Instant};

use super::chance::{Chance, Fate};
use super::{Counts, Link};

/// How long a reordered datagram waits for those that should overtake it.
const OVERTAKE_WAIT: Duration = Duration::from_millis(2);

/// Datagrams of equal length, one behind the other; the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Train<'a> {
    /// The datagrams.
    pub bytes: &'a [u8],
    /// The length of each but the last.
    pub stride: usize,
    /// The two congestion bits of the IP header, 0 to 3.
    pub ecn: u8,
}

impl<'a> Train<'a> {
    /// How many datagrams these are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bytes.len().div_ceil(self.stride.max(1)).max(1)
    }

    /// Each datagram alone.
    pub fn datagrams(self) -> impl Iterator<Item = Train<'a>> {
        let stride = self.stride.max(1);
        let alone = move |bytes: &'a [u8]| Train { bytes, stride: bytes.len(), ecn: self.ecn };
        // An empty datagram is a datagram too.
        let empty = self.bytes.is_empty().then_some(alone(self.bytes));
        self.bytes.chunks(stride).map(alone).chain(empty)
    }
}

/// A datagram that later ones shall overtake.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    ecn: u8,
    /// Goes on once so many datagrams came in.
    release_at: u64,
    /// Goes on then at the latest.
    deadline: Instant,
}

/// What came in: datagrams of equal length that may be damaged in place.
#[derive(Debug)]
pub struct Arrived<'a> {
    /// The datagrams.
    pub bytes: &'a mut [u8],
    /// The length of each but the last.
    pub stride: usize,
    /// The two congestion bits of the IP header, 0 to 3.
    pub ecn: u8,
}

/// Decides about each datagram of one direction.
#[derive(Debug)]
pub struct Stage {
    chance: Chance,
    counts: Counts,
    held: Vec<Held>,
}

impl Stage {
    /// A stage at its start.
    #[must_use]
    pub fn new(chance: Chance) -> Self {
        Self { chance, counts: Counts::default(), held: Vec::new() }
    }

    /// What was decided so far; what goes out is counted by whoever sends it.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes in a train and gives out what goes on of it.
    pub fn on_train(
        &mut self,
        now: Instant,
        link: &Link,
        arrived: Arrived<'_>,
        mut out: impl FnMut(Train<'_>),
    ) {
        let Arrived { bytes, stride, ecn } = arrived;
        let stride = stride.max(1);
        let (mut start, mut at) = (0, 0);
        loop {
            let end = (at + stride).min(bytes.len());
            self.counts.received += 1;
            let fate = self.chance.fate(link);
            self.damage(fate, &mut bytes[at..end]);
            let one = Train { bytes: &bytes[at..end], stride: end - at, ecn };
            let goes_on = self.goes_on(now, link, fate, one);
            let has_due = self.held.first().is_some_and(|held| held.release_at <= self.counts.received);
            if !goes_on || fate.duplicated || has_due {
                give_out(&bytes[start..if goes_on { end } else { at }], stride, ecn, &mut out);
                start = end;
            }
            if goes_on && fate.duplicated {
                self.counts.duplicated += 1;
                out(one);
            }
            if has_due {
                self.release(|held, received| held.release_at <= received, &mut out);
            }
            at = end;
            if at >= bytes.len() {
                break;
            }
        }
        give_out(&bytes[start..], stride, ecn, &mut out);
    }

    fn damage(&mut self, fate: Fate, bytes: &mut [u8]) {
        let Some(bit) = fate.corrupted.filter(|_| !fate.lost && !bytes.is_empty()) else { return };
        let bit = (bit % (bytes.len() as u64 * 8)) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.counts.corrupted += 1;
    }

    /// Whether a datagram goes on now; holds it back when it is to be overtaken.
    fn goes_on(&mut self, now: Instant, link: &Link, fate: Fate, one: Train<'_>) -> bool {
        if one.bytes.len() > link.datagram_len_max {
            self.counts.too_long += 1;
            return false;
        }
        if fate.lost {
            self.counts.lost += 1;
            return false;
        }
        if !fate.reordered {
            return true;
        }
        self.counts.reordered += 1;
        let release_at = self.counts.received + link.reorder_depth.max(1);
        self.held.push(Held {
            bytes: one.bytes.to_vec(),
            ecn: one.ecn,
            release_at,
            deadline: now + OVERTAKE_WAIT,
        });
        false
    }

    /// Gives out what nothing came to overtake.
    pub fn on_time(&mut self, now: Instant, mut out: impl FnMut(Train<'_>)) {
        self.release(|held, _| held.deadline <= now, &mut out);
    }

    /// When `on_time` has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.deadline).min()
    }

    fn release(&mut self, is_due: impl Fn(&Held, u64) -> bool, out: &mut impl FnMut(Train<'_>)) {
        let received = self.counts.received;
        self.held.retain(|held| {
            let due = is_due(held, received);
            if due {
                out(Train { bytes: &held.bytes, stride: held.bytes.len(), ecn: held.ecn });
            }
            !due
        });
    }
}

fn give_out(bytes: &[u8], stride: usize, ecn: u8, out: &mut impl FnMut(Train<'_>)) {
    if !bytes.is_empty() {
        out(Train { bytes, stride: stride.min(bytes.len()), ecn });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten-byte datagrams, each filled with its number; a train of seven at a time.
    fn pass(link: &Link, seed: u64, count: u8) -> (Vec<Vec<u8>>, Counts, usize) {
        let mut stage = Stage::new(Chance::new(seed, 0));
        let (mut out, mut runs) = (Vec::new(), 0);
        let now = Instant::now();
        let mut take = |train: Train<'_>| {
            runs += 1;
            out.extend(train.datagrams().map(|one| one.bytes.to_vec()));
        };
        for numbers in (0..count).collect::<Vec<_>>().chunks(7) {
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| [*number; 10]).collect();
            stage.on_train(now, link, Arrived { bytes: &mut bytes, stride: 10, ecn: 0 }, &mut take);
        }
        stage.on_time(now + OVERTAKE_WAIT, &mut take);
        assert_eq!(stage.deadline(), None);
        (out, *stage.counts(), runs)
    }

    fn numbers(out: &[Vec<u8>]) -> Vec<u8> {
        out.iter().map(|bytes| bytes[0]).collect()
    }

    #[test]
    fn a_good_link_passes_whole_trains() {
        let (out, counts, runs) = pass(&Link::default(), 1, 70);
        assert_eq!(numbers(&out), (0..70).collect::<Vec<_>>());
        assert_eq!((counts.received, runs), (70, 10));
    }

    #[test]
    fn lost_datagrams_cut_a_train_into_runs() {
        let (out, counts, _) = pass(&Link { loss: 0.3, ..Link::default() }, 1, 200);
        assert_eq!(out.len() as u64 + counts.lost, 200);
        assert!((30..90).contains(&counts.lost), "{counts:?}");
        assert!(numbers(&out).is_sorted() && out.iter().all(|bytes| bytes == &[bytes[0]; 10]));
    }

    #[test]
    fn a_duplicate_follows_its_original() {
        let (out, counts, _) = pass(&Link { duplicate: 0.3, ..Link::default() }, 1, 200);
        assert_eq!(out.len() as u64, 200 + counts.duplicated);
        assert!(numbers(&out).is_sorted() && counts.duplicated > 30);
    }

    #[test]
    fn a_damaged_datagram_differs_in_one_bit() {
        let (out, counts, _) = pass(&Link { corrupt: 0.3, ..Link::default() }, 1, 200);
        let turned = |number: u8, bytes: &[u8]| bytes.iter().map(|b| (b ^ number).count_ones()).sum::<u32>();
        let bits: Vec<u32> =
            out.iter().enumerate().map(|(number, bytes)| turned(number as u8, bytes)).collect();
        assert_eq!(bits.iter().filter(|bits| **bits == 1).count() as u64, counts.corrupted);
        assert!(bits.iter().all(|bits| *bits <= 1) && counts.corrupted > 30);
    }

    #[test]
    fn a_reordered_datagram_is_overtaken_by_so_many_and_none_is_lost() {
        let (out, counts, _) = pass(&Link { reorder: 0.1, reorder_depth: 4, ..Link::default() }, 1, 200);
        let mut seen = numbers(&out);
        assert!(counts.reordered > 5 && !seen.is_sorted());
        for (at, number) in seen.iter().enumerate() {
            let overtaken_by = seen[..at].iter().filter(|earlier| *earlier > number).count();
            assert!(overtaken_by <= 4, "{number} was overtaken by {overtaken_by}");
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_of_trains_does_not_change_the_fates() {
        let link = Link { loss: 0.2, ..Link::default() };
        let (whole, _, _) = pass(&link, 5, 100);
        let mut stage = Stage::new(Chance::new(5, 0));
        let mut alone = Vec::new();
        for number in 0..100u8 {
            let mut bytes = [number; 10];
            let take = |train: Train<'_>| alone.push(train.bytes.to_vec());
            stage.on_train(Instant::now(), &link, Arrived { bytes: &mut bytes, stride: 10, ecn: 0 }, take);
        }
        assert_eq!(whole, alone);
    }

    #[test]
    fn a_long_datagram_vanishes() {
        let (out, counts, _) = pass(&Link { datagram_len_max: 9, ..Link::default() }, 1, 20);
        assert!(out.is_empty());
        assert_eq!(counts.too_long, 20);
    }
}
