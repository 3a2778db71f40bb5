//! What BBR believes of a path: its bandwidth, its round trip, how acknowledgements gather.
//!
//! In:    samples and round trips, with the count of rounds and cycles.
//! Out:   the most bandwidth in two cycles, the least round trip in 10 s, the most bytes that came at once in ten rounds.
//! Holds: each filter is a few numbers; nothing is kept per sample.
//!
//! spec: atp/bbr

use core::time::Duration;

use crate::time::{Instant, nanos_of};

/// The least round trip is believed for so long.
const ROUND_TRIP_LIFE: Duration = Duration::from_secs(10);
/// After so long without a round trip as short, the queue is emptied to look again.
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
/// Rounds in half of the filter of extra bytes.
const EXTRA_ROUNDS: u64 = 5;

/// The most bandwidth of this cycle of probing and the one before, bytes a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MaxBandwidth {
    before: u64,
    now: u64,
}

impl MaxBandwidth {
    pub(super) fn get(self) -> u64 {
        self.before.max(self.now)
    }

    pub(super) fn take(&mut self, rate: u64) {
        self.now = self.now.max(rate);
    }

    /// A cycle has ended. One without a sample does not count.
    pub(super) fn advance(&mut self) {
        if self.now > 0 {
            (self.before, self.now) = (self.now, 0);
        }
    }
}

/// The least round trip: of 5 s, which says when to probe, and from those of 10 s.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MinRtt {
    least: Option<Duration>,
    least_at: Instant,
    probed: Option<Duration>,
    probed_at: Instant,
}

impl MinRtt {
    /// The least round trip that is believed.
    pub(super) const fn get(self) -> Option<Duration> {
        self.least
    }

    /// A round trip was measured, or not. Returns whether it is time to look for a shorter one.
    pub(super) fn on_sample(&mut self, now: Instant, sample: Option<Duration>) -> bool {
        let is_due = self.probed.is_some() && now > self.probed_at + PROBE_RTT_INTERVAL;
        if let Some(sample) = sample
            && (is_due || self.probed.is_none_or(|probed| sample < probed))
        {
            (self.probed, self.probed_at) = (Some(sample), now);
        }
        let is_expired = now > self.least_at + ROUND_TRIP_LIFE;
        if is_expired || self.least.is_none_or(|least| self.probed.is_some_and(|probed| probed < least)) {
            (self.least, self.least_at) = (self.probed, self.probed_at);
        }
        is_due
    }

    /// The queue was empty just now: not again for a while.
    pub(super) const fn on_probed(&mut self, now: Instant) {
        self.probed_at = now;
    }
}

/// How many more bytes come at once than the bandwidth explains: the peer or the path gathers acknowledgements.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExtraAcked {
    since: Instant,
    bytes: u64,
    /// The most of the last rounds, in two halves, and when the younger half began.
    most: [u64; 2],
    half_began: u64,
}

impl ExtraAcked {
    pub(super) fn get(self) -> u64 {
        self.most[0].max(self.most[1])
    }

    /// Begins to count anew.
    pub(super) const fn restart(&mut self, now: Instant) {
        (self.since, self.bytes) = (now, 0);
    }

    /// Bytes were acknowledged in this round, on a path of so many bytes a second; no more than `window` is believed.
    pub(super) fn on_acked(&mut self, now: Instant, bytes: u64, bandwidth: u64, window: u64) {
        let mut expected = bytes_in(bandwidth, now.since(self.since));
        if self.bytes <= expected {
            self.restart(now);
            expected = 0;
        }
        self.bytes += bytes;
        self.most[1] = self.most[1].max(self.bytes.saturating_sub(expected).min(window));
    }

    /// A round begins. While the pipe is being filled only the last one counts.
    pub(super) fn on_round(&mut self, round: u64, is_full: bool) {
        if round >= self.half_began + if is_full { EXTRA_ROUNDS } else { 1 } {
            self.most = [if is_full { self.most[1] } else { 0 }, 0];
            self.half_began = round;
        }
    }
}

/// Bytes that leave in `time` at `rate` bytes a second.
pub(super) fn bytes_in(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * u128::from(nanos_of(time)) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A cycle's best is believed until the end of the next; a cycle that measured nothing takes nothing away.
    /// spec: atp/bbr
    #[test]
    fn bandwidth_is_the_most_of_two_cycles() {
        let mut filter = MaxBandwidth::default();
        filter.take(100);
        filter.take(90);
        filter.advance();
        filter.take(50);
        assert_eq!(filter.get(), 100);
        filter.advance();
        assert_eq!(filter.get(), 50);
        filter.advance();
        filter.advance();
        assert_eq!(filter.get(), 50, "an empty cycle ends nothing");
    }

    /// A shorter round trip is believed at once, a longer one after 10 s; every 5 s it is time to look.
    /// spec: atp/bbr
    #[test]
    fn the_least_round_trip_lives_ten_seconds() {
        let start = Instant::from_nanos(77_000_000_000);
        let mut filter = MinRtt::default();
        assert_eq!(filter.get(), None);
        assert!(!filter.on_sample(start, None) && !filter.on_sample(start, Some(ms(50))));
        assert!(!filter.on_sample(start + ms(1_000), Some(ms(40))));
        assert!(!filter.on_sample(start + ms(6_000), Some(ms(70))), "5 s after the shortest");
        assert_eq!(filter.get(), Some(ms(40)));
        assert!(filter.on_sample(start + ms(6_001), Some(ms(70))));
        assert!(!filter.on_sample(start + ms(6_002), Some(ms(71))), "once");
        assert_eq!(filter.get(), Some(ms(40)), "believed, though it was not seen again");
        assert!(!filter.on_sample(start + ms(11_001), Some(ms(72))));
        assert_eq!(filter.get(), Some(ms(70)));
        filter.on_probed(start + ms(11_001));
        assert!(!filter.on_sample(start + ms(16_001), None));
        assert!(filter.on_sample(start + ms(16_002), None), "nothing was measured: it stays due");
        assert!(filter.on_sample(start + ms(16_003), None));
    }

    /// 1 MB/s whose acknowledgements come every 20 ms for 20,000 bytes: that much more than a smooth path can come at once.
    /// spec: atp/bbr
    #[test]
    fn gathered_bytes_are_noticed_and_forgotten() {
        let mut filter = ExtraAcked::default();
        let mut now = Instant::from_nanos(1_000_000_000);
        filter.restart(now);
        for round in 0..20 {
            filter.on_round(round, true);
            now += ms(20);
            filter.on_acked(now, 20_000, 1_000_000, 1 << 20);
        }
        assert_eq!(filter.get(), 20_000);
        // A little slower than the bandwidth, so that what came at once is caught up with.
        for round in 20..45 {
            filter.on_round(round, true);
            for _ in 0..20 {
                now += ms(1);
                filter.on_acked(now, 900, 1_000_000, 1 << 20);
            }
        }
        assert_eq!(filter.get(), 900);
        filter.on_acked(now, 1 << 20, 1_000_000, 5_000);
        assert_eq!(filter.get(), 5_000, "never more than the window");
    }
}
