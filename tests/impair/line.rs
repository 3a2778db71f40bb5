//! One direction of one client, second stage: the line with its rate, its queue, its delay and its jitter.
//!
//! In:    `push`: datagrams that go on; time.
//! Out:   `poll`: what has arrived by now, datagrams of equal length as one train.
//! Holds: datagrams without jitter leave in the order in which they came.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::Link;
use super::chance::Chance;
use super::stage::Train;

/// Datagrams in one train at most, and bytes: what every kernel takes in one send.
const TRAIN_COUNT_MAX: usize = 64;
const TRAIN_LEN_MAX: usize = 65_000;
/// Spare buffers kept at most.
const SPARE_MAX: usize = 4_096;

/// What is under way. The earliest is the greatest in the heap, `order` decides between equals.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct UnderWay {
    arrives: Reverse<Instant>,
    order: Reverse<u64>,
    stride: usize,
    ecn: u8,
    bytes: Vec<u8>,
}

/// The line.
#[derive(Debug)]
pub struct Line {
    chance: Chance,
    under_way: BinaryHeap<UnderWay>,
    /// When the line has sent all that was pushed.
    free_at: Instant,
    pushed: u64,
    overflowed: u64,
    spare: Vec<Vec<u8>>,
    train: Vec<u8>,
}

impl Line {
    /// An empty line.
    #[must_use]
    pub fn new(chance: Chance, now: Instant) -> Self {
        let train = Vec::with_capacity(1 << 16);
        Self {
            chance,
            under_way: BinaryHeap::new(),
            free_at: now,
            pushed: 0,
            overflowed: 0,
            spare: Vec::new(),
            train,
        }
    }

    /// Whether datagrams need not enter the line at all: it is empty, and the link has no delay and no rate.
    #[must_use]
    pub fn is_open(&self, link: &Link) -> bool {
        self.under_way.is_empty() && link.rate == 0 && link.delay.is_zero() && link.jitter.is_zero()
    }

    /// Puts a train on the line; drops what the queue before it has no room for.
    pub fn push(&mut self, now: Instant, link: &Link, train: Train<'_>) {
        if link.rate == 0 && link.jitter.is_zero() {
            self.put(now + link.delay, train);
            return;
        }
        for one in train.datagrams() {
            if link.rate > 0 && self.free_at.saturating_duration_since(now) > link.queue {
                self.overflowed += 1;
                continue;
            }
            let sent = self.send_time(now, link.rate, one.bytes.len());
            let jitter = self.draw_jitter(link.jitter);
            self.put(sent + link.delay + jitter, one);
        }
    }

    /// Datagrams that found the queue full.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// When the line has sent so many more bytes.
    fn send_time(&mut self, now: Instant, rate: u64, len: usize) -> Instant {
        if rate == 0 {
            return now;
        }
        let takes = Duration::from_nanos(len as u64 * 8 * 1_000_000_000 / rate);
        self.free_at = self.free_at.max(now) + takes;
        self.free_at
    }

    fn draw_jitter(&mut self, most: Duration) -> Duration {
        let number = self.chance.draw();
        let nanos = (u128::from(number) * (most.as_nanos() + 1)) >> 64;
        Duration::from_nanos(nanos as u64)
    }

    fn put(&mut self, arrives: Instant, train: Train<'_>) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(train.bytes);
        self.pushed += 1;
        let order = Reverse(self.pushed);
        let entry =
            UnderWay { arrives: Reverse(arrives), order, stride: train.stride, ecn: train.ecn, bytes };
        self.under_way.push(entry);
    }

    /// When `poll` has something to give out.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.under_way.peek().map(|entry| entry.arrives.0)
    }

    /// Gives out what has arrived by now.
    pub fn poll(&mut self, now: Instant, mut out: impl FnMut(Train<'_>)) {
        while let Some(first) = self.pop_due(now) {
            let (stride, ecn) = (first.stride.max(1), first.ecn);
            if self.next_joins(now, stride, ecn, &first.bytes) {
                let mut train = std::mem::take(&mut self.train);
                train.clear();
                train.extend_from_slice(&first.bytes);
                while self.next_joins(now, stride, ecn, &train) {
                    let next = self.under_way.pop().expect("next_joins saw it");
                    train.extend_from_slice(&next.bytes);
                    self.keep(next.bytes);
                }
                out(Train { bytes: &train, stride, ecn });
                self.train = train;
            } else {
                out(Train { bytes: &first.bytes, stride, ecn });
            }
            self.keep(first.bytes);
        }
    }

    fn pop_due(&mut self, now: Instant) -> Option<UnderWay> {
        self.deadline().filter(|arrives| *arrives <= now)?;
        self.under_way.pop()
    }

    /// Whether what arrives next may stand behind `train` in one send.
    fn next_joins(&self, now: Instant, stride: usize, ecn: u8, train: &[u8]) -> bool {
        let count = train.len() / stride;
        self.under_way.peek().is_some_and(|next| {
            let next_count = next.bytes.len().div_ceil(stride);
            // A train of which the last datagram is shorter has ended.
            train.len() == count * stride
                && next.arrives.0 <= now
                && next.ecn == ecn
                && !next.bytes.is_empty()
                && (next.stride == stride || next.bytes.len() < stride)
                && count + next_count <= TRAIN_COUNT_MAX
                && train.len() + next.bytes.len() <= TRAIN_LEN_MAX
        })
    }

    fn keep(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn line(now: Instant) -> Line {
        Line::new(Chance::new(1, 0), now)
    }

    fn train(bytes: &[u8], stride: usize) -> Train<'_> {
        Train { bytes, stride, ecn: 0 }
    }

    /// What arrives by `now`: each train's bytes and stride.
    fn arrived(line: &mut Line, now: Instant) -> Vec<(Vec<u8>, usize)> {
        let mut out = Vec::new();
        line.poll(now, |train| out.push((train.bytes.to_vec(), train.stride)));
        out
    }

    #[test]
    fn a_delay_is_kept_to_the_instant() {
        let (now, link) = (Instant::now(), Link { delay: 10 * MS, ..Link::default() });
        let mut line = line(now);
        assert!(!line.is_open(&link) && line.is_open(&Link::default()));
        line.push(now, &link, train(&[1; 30], 10));
        assert_eq!(line.deadline(), Some(now + 10 * MS));
        assert!(arrived(&mut line, now + 9 * MS).is_empty());
        assert_eq!(arrived(&mut line, now + 10 * MS), [(vec![1; 30], 10)]);
        assert_eq!(line.deadline(), None);
    }

    #[test]
    fn datagrams_of_equal_length_arrive_as_one_train() {
        let (now, link) = (Instant::now(), Link { delay: MS, ..Link::default() });
        let mut line = line(now);
        for bytes in [&[1u8; 10][..], &[2; 10], &[3; 4], &[4; 10], &[5; 20]] {
            line.push(now, &link, train(bytes, bytes.len()));
        }
        let strides: Vec<(usize, usize)> =
            arrived(&mut line, now + MS).iter().map(|(bytes, stride)| (bytes.len(), *stride)).collect();
        assert_eq!(strides, [(24, 10), (10, 10), (20, 20)]);
    }

    #[test]
    fn a_rate_spaces_datagrams_and_its_queue_overflows() {
        // 8,000 bits a second: a byte a millisecond.
        let (now, link) = (Instant::now(), Link { rate: 8_000, queue: 25 * MS, ..Link::default() });
        let mut line = line(now);
        line.push(now, &link, train(&[0; 60], 10));
        assert_eq!(line.overflowed(), 3);
        assert!(arrived(&mut line, now + 9 * MS).is_empty());
        assert_eq!(arrived(&mut line, now + 10 * MS).len(), 1);
        assert_eq!(arrived(&mut line, now + 30 * MS), [(vec![0; 20], 10)]);
        line.push(now + 100 * MS, &link, train(&[0; 10], 10));
        assert_eq!(line.deadline(), Some(now + 110 * MS));
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_is_the_same_for_a_seed() {
        let (now, link) = (Instant::now(), Link { delay: 5 * MS, jitter: 10 * MS, ..Link::default() });
        let arrivals = || {
            let mut line = line(now);
            let mut at = Vec::new();
            for _ in 0..1_000 {
                line.push(now, &link, train(&[0; 10], 10));
                at.push(line.deadline().expect("it is under way").duration_since(now));
                line.poll(now + MS * 100, |_| ());
            }
            at
        };
        let first = arrivals();
        assert!(first.iter().all(|after| (5 * MS..=15 * MS).contains(after)));
        assert!(first.iter().any(|after| *after < 6 * MS) && first.iter().any(|after| *after > 14 * MS));
        assert_eq!(first, arrivals());
    }
}
