//! Pacing: a window's worth of bytes leaves spread over its round trip, in trains.
//!
//! In:    `set_path` whenever the rate changes, `on_sent`.
//! Out:   `allowance`: bytes that may leave now; `next_at`: when there will be some.
//! Holds: a train is at most what the rate sends in 1 ms, and two datagrams at least.
//!
//! A token bucket, kept as the moment when it was empty, so that time fills it without a timer. It gives nothing until half a train
//! has gathered: the machine's timers are late by 50 to 100 us, and a train's cost is per train, not per byte. Whoever wakes late by
//! less than the other half loses no throughput. On a path faster than 1 ms a train would be more than a window: nothing is paced.
//! spec: atp/pacing

use core::time::Duration;

use crate::time::{Instant, nanos_of};

/// What a train may hold at most, as sending time at the pacing rate.
pub const TRAIN_TIME: Duration = Duration::from_millis(1);
/// Round trips shorter than this are not paced.
pub const PACED_RTT_MIN: Duration = TRAIN_TIME;
/// Datagrams that a train may always hold.
pub const TRAIN_DATAGRAMS_MIN: u64 = 2;
/// Datagrams in the first train on a path that was not measured (RFC 9002 section 7.7 allows ten).
pub const FIRST_TRAIN_DATAGRAMS: u64 = 10;

const SECOND: u64 = 1_000_000_000;
/// Fraction bits of `nanos_per_byte`.
const FRACTION_BITS: u32 = 20;
/// Added to every time, so that a full bucket can have been empty before the clock's zero.
const EPOCH: u64 = 1 << 40;
/// Slower than 1 kB/s and faster than 1 TB/s the products below would leave 64 bits.
const RATE_MIN: u64 = 1_000;
const RATE_MAX: u64 = 1_000_000_000_000;

/// What a pacer needs to know of a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PacedPath {
    /// Bytes a second.
    pub rate: u64,
    /// The smoothed round trip; `None` while it was not measured.
    pub round_trip: Option<Duration>,
    /// Bytes of a full datagram.
    pub datagram_len: usize,
}

/// The token bucket of one path.
#[derive(Clone, Debug)]
pub struct Pacer {
    /// When the bucket was empty, in nanoseconds since [`EPOCH`] before the clock's zero. In the future after an overdraft.
    empty_at: u64,
    rate: u64,
    /// Fixed point with [`FRACTION_BITS`].
    nanos_per_byte: u64,
    /// Bytes that the bucket holds.
    train: u64,
    train_nanos: u64,
    /// Bytes that must have gathered before any are given.
    quantum: u64,
    quantum_nanos: u64,
    is_unpaced: bool,
}

impl Pacer {
    /// A full bucket.
    #[must_use]
    pub fn new(path: &PacedPath) -> Self {
        let mut pacer = Self {
            empty_at: 0,
            rate: RATE_MIN,
            nanos_per_byte: 0,
            train: 0,
            train_nanos: 0,
            quantum: 0,
            quantum_nanos: 0,
            is_unpaced: false,
        };
        pacer.set_path(path);
        pacer
    }

    /// The rate or the path changed. What has gathered stays, as time.
    pub fn set_path(&mut self, path: &PacedPath) {
        self.is_unpaced = path.round_trip.is_some_and(|round_trip| round_trip < PACED_RTT_MIN);
        if self.is_unpaced {
            return;
        }
        let datagram = path.datagram_len as u64;
        let least = if path.round_trip.is_some() { TRAIN_DATAGRAMS_MIN } else { FIRST_TRAIN_DATAGRAMS };
        self.rate = path.rate.clamp(RATE_MIN, RATE_MAX);
        self.nanos_per_byte = (SECOND << FRACTION_BITS) / self.rate;
        self.train = (self.rate / (SECOND / nanos_of(TRAIN_TIME))).max(least * datagram);
        self.train_nanos = self.nanos_of_bytes(self.train) + 1;
        self.quantum = (self.train / 2).max(datagram).min(self.train);
        self.quantum_nanos = self.nanos_of_bytes(self.quantum) + 1;
    }

    /// Bytes that may leave now: 0, or at least a full datagram. `u64::MAX` on a path that is not paced.
    #[inline]
    #[must_use]
    pub fn allowance(&self, now: Instant) -> u64 {
        if self.is_unpaced {
            return u64::MAX;
        }
        let gathered = clock(now).saturating_sub(self.empty_at);
        if gathered < self.quantum_nanos {
            0
        } else if gathered >= self.train_nanos {
            self.train
        } else {
            (gathered * self.rate / SECOND).clamp(self.quantum, self.train)
        }
    }

    /// Bytes left. More than the allowance (a probe, the end of a datagram) is charged all the same.
    #[inline]
    pub fn on_sent(&mut self, now: Instant, bytes: usize) {
        if self.is_unpaced {
            return;
        }
        let full = clock(now) - self.train_nanos;
        self.empty_at = self.empty_at.max(full) + self.nanos_of_bytes(bytes as u64);
    }

    /// When `allowance` will give something; in the past when it does already.
    #[must_use]
    pub fn next_at(&self) -> Instant {
        if self.is_unpaced {
            return Instant::ZERO;
        }
        Instant::from_nanos((self.empty_at + self.quantum_nanos).saturating_sub(EPOCH))
    }

    /// Bytes a second; `None` on a path that is not paced.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        (!self.is_unpaced).then_some(self.rate)
    }

    const fn nanos_of_bytes(&self, bytes: u64) -> u64 {
        (bytes * self.nanos_per_byte) >> FRACTION_BITS
    }
}

const fn clock(now: Instant) -> u64 {
    now.as_nanos().saturating_add(EPOCH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    fn path(rate: u64, round_trip: Option<Duration>) -> PacedPath {
        PacedPath { rate, round_trip, datagram_len: 1_200 }
    }

    fn pacer(rate: u64) -> Pacer {
        Pacer::new(&path(rate, Some(Duration::from_millis(20))))
    }

    /// Sends whatever is allowed in whole datagrams, waking `late` after each `next_at`, for a second; the bytes sent and the largest train.
    fn run(pacer: &mut Pacer, late: Duration) -> (u64, u64) {
        let (mut now, mut sent, mut largest) = (START, 0, 0);
        while now.since(START) < Duration::from_secs(1) {
            let train = pacer.allowance(now) / 1_200 * 1_200;
            assert!(train > 0, "woken for nothing at {now:?}");
            for _ in 0..train / 1_200 {
                pacer.on_sent(now, 1_200);
            }
            sent += train;
            largest = largest.max(train);
            now = pacer.next_at().max(now) + late;
        }
        (sent, largest)
    }

    /// 12.5 MB/s: at most 12,500 bytes at once, and the rate is kept although every timer is 100 us late.
    /// spec: atp/pacing
    #[test]
    fn a_train_is_a_millisecond_and_late_timers_cost_nothing() {
        let (sent, largest) = run(&mut pacer(12_500_000), Duration::from_micros(100));
        assert!(largest <= 12_500, "{largest}");
        assert!((12_400_000..=12_600_000).contains(&sent), "{sent}");
    }

    /// A slow path sends two datagrams at once and no more, at its rate.
    /// spec: atp/pacing
    #[test]
    fn a_slow_path_still_sends_two_datagrams() {
        let (sent, largest) = run(&mut pacer(24_000), Duration::from_micros(100));
        assert_eq!(largest, 2_400);
        assert!((22_800..=27_600).contains(&sent), "{sent}");
    }

    /// At 25 Gbit/s a full kernel train fits, and late timers cost nothing either.
    #[test]
    fn a_fast_path_sends_whole_trains() {
        let rate = 25_000_000_000 / 8;
        let mut pacer = pacer(rate);
        assert!(pacer.allowance(START) >= 65_000);
        let (sent, largest) = run(&mut pacer, Duration::from_micros(100));
        assert!(largest <= rate / 1_000);
        assert!(sent >= rate / 1_000 * 998, "{sent}");
    }

    /// Below a millisecond there is nothing to spread.
    #[test]
    fn a_short_path_is_not_paced() {
        let mut pacer = Pacer::new(&path(1_000_000, Some(Duration::from_micros(200))));
        for _ in 0..1_000 {
            pacer.on_sent(START, 1_200);
        }
        assert_eq!((pacer.allowance(START), pacer.rate()), (u64::MAX, None));
        assert!(pacer.next_at() <= START);
    }

    /// A pause earns one train, not the bytes of the pause.
    #[test]
    fn a_pause_earns_one_train() {
        let mut pacer = pacer(12_500_000);
        pacer.on_sent(START, 12_500);
        let later = START + Duration::from_secs(60);
        assert_eq!(pacer.allowance(later), 12_500);
        pacer.on_sent(later, 12_500);
        assert_eq!(pacer.allowance(later), 0);
    }

    /// A path nobody measured starts with ten datagrams.
    #[test]
    fn the_first_train_is_ten_datagrams() {
        let mut pacer = Pacer::new(&path(768_000, None));
        assert_eq!((pacer.allowance(START), pacer.allowance(Instant::ZERO)), (12_000, 12_000));
        pacer.on_sent(START, 12_000);
        assert_eq!(pacer.allowance(START), 0);
        pacer.set_path(&path(768_000, Some(Duration::from_millis(50))));
        assert!(pacer.next_at() < START + Duration::from_millis(20));
    }

    /// An overdraft is paid back.
    #[test]
    fn a_probe_beyond_the_allowance_is_charged() {
        let mut pacer = pacer(1_200_000);
        pacer.on_sent(START, 2_400);
        pacer.on_sent(START, 2_400);
        assert_eq!(pacer.allowance(START + Duration::from_millis(2)), 0);
        assert!(pacer.allowance(pacer.next_at()) >= 1_200);
    }

    proptest! {
        /// Whatever the rate: `next_at` is never a wake-up for nothing, and no number overflows.
        #[test]
        fn next_at_is_kept(rate in 0u64..2_000_000_000_000, datagram_len in 1_200usize..9_217, spent in 0usize..10_000_000, wait in 0u64..10_000_000_000) {
            let round_trip = Some(Duration::from_millis(20));
            let mut pacer = Pacer::new(&PacedPath { rate, round_trip, datagram_len });
            pacer.on_sent(START, spent);
            let now = pacer.next_at().max(START) + Duration::from_nanos(wait);
            prop_assert!(pacer.allowance(now) >= datagram_len as u64);
        }
    }
}
