//! How long a round trip takes: RFC 9002 section 5, and the waits that follow from it (section 6).
//!
//! In:    `on_sample`, one per acknowledgement that newly covers its largest packet.
//! Out:   smoothed, latest and least round trip; how long until a packet counts as lost, and until a probe.
//! Holds: nanoseconds throughout (a round trip on one machine takes 10 to 200 us); no wait is shorter than [`TIMER_GRANULARITY`].
//!
//! spec: atp/round-trip

use core::time::Duration;

use crate::limits::{ACK_DELAY_CLAIM_MAX, ACK_DELAY_MAX, INITIAL_RTT, TIMER_GRANULARITY};
use crate::time::{Instant, nanos_of};

/// The longest wait for a probe on a path that answers faster than this.
pub const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(4);
/// Probe timeouts that make persistent congestion (RFC 9002 section 7.6.1).
const PERSISTENT_TIMEOUTS: u32 = 3;
/// Doublings of a probe timeout at most; the cap bites long before.
const BACKOFF_MAX: u32 = 16;

// A claimed delay is believed up to what a peer that keeps the rules can need, which is stricter than what T4 asks for.
const _: () = assert!(ACK_DELAY_MAX.as_nanos() <= ACK_DELAY_CLAIM_MAX.as_nanos());

/// The round trip of one path, as far as it was measured.
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    latest: u64,
    smoothed: u64,
    variation: u64,
    min: u64,
    first_sample_at: Option<Instant>,
}

impl Default for Rtt {
    fn default() -> Self {
        Self::new()
    }
}

impl Rtt {
    /// A path that was not measured yet: [`INITIAL_RTT`] is assumed.
    #[must_use]
    pub const fn new() -> Self {
        let initial = INITIAL_RTT.as_nanos() as u64;
        Self { latest: 0, smoothed: initial, variation: initial / 2, min: initial, first_sample_at: None }
    }

    /// A measurement: the time from sending a packet to its acknowledgement, and the part of it that the peer says it waited.
    pub fn on_sample(&mut self, now: Instant, sample: Duration, ack_delay: Duration) {
        self.latest = nanos_of(sample);
        if self.first_sample_at.is_none() {
            self.first_sample_at = Some(now);
            self.min = self.latest;
            self.smoothed = self.latest;
            self.variation = self.latest / 2;
            return;
        }
        self.min = self.min.min(self.latest);
        let claimed = nanos_of(ack_delay.min(ACK_DELAY_MAX));
        // A claim that would make the path faster than it ever was is a lie or a late clock.
        let adjusted =
            if self.latest >= self.min.saturating_add(claimed) { self.latest - claimed } else { self.latest };
        self.variation = (3 * self.variation + self.smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = (7 * self.smoothed + adjusted) / 8;
    }

    /// Lets the next sample set the least round trip anew: after persistent congestion the path may be another one.
    pub fn forget_min(&mut self) {
        self.min = u64::MAX;
    }

    /// Whether the path was measured at all.
    #[must_use]
    pub const fn is_measured(&self) -> bool {
        self.first_sample_at.is_some()
    }

    /// When the first measurement came in.
    #[must_use]
    pub const fn first_sample_at(&self) -> Option<Instant> {
        self.first_sample_at
    }

    /// The newest measurement, the peer's delay included; zero before the first.
    #[must_use]
    pub const fn latest(&self) -> Duration {
        Duration::from_nanos(self.latest)
    }

    /// The moving average.
    #[must_use]
    pub const fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed)
    }

    /// The average distance from the moving average.
    #[must_use]
    pub const fn variation(&self) -> Duration {
        Duration::from_nanos(self.variation)
    }

    /// The least measurement; [`INITIAL_RTT`] before the first.
    #[must_use]
    pub fn min(&self) -> Duration {
        Duration::from_nanos(if self.min == u64::MAX { self.latest } else { self.min })
    }

    /// How long after its sending a packet is lost once a later one was acknowledged: `eighths` / 8 round trips (9 in RFC 9002).
    #[must_use]
    pub fn loss_delay(&self, eighths: u32) -> Duration {
        let longer = self.smoothed.max(self.latest);
        Duration::from_nanos(longer.saturating_mul(u64::from(eighths)) / 8).max(TIMER_GRANULARITY)
    }

    /// How long to wait for any acknowledgement before a probe, after `backoff` such waits in a row.
    #[must_use]
    pub fn probe_timeout(&self, backoff: u32) -> Duration {
        let once = self.timeout();
        once.saturating_mul(1 << backoff.min(BACKOFF_MAX)).min(PROBE_TIMEOUT_MAX.max(once))
    }

    /// The same when the peer was asked to answer at once: its delay does not count.
    #[must_use]
    pub fn prompt_probe_timeout(&self, backoff: u32) -> Duration {
        self.probe_timeout(backoff).saturating_sub(ACK_DELAY_MAX)
    }

    /// The distance between two losses, with nothing acknowledged between, that says the path carries next to nothing.
    #[must_use]
    pub fn persistent_congestion(&self) -> Duration {
        self.timeout() * PERSISTENT_TIMEOUTS
    }

    fn timeout(&self) -> Duration {
        self.smoothed() + (self.variation() * 4).max(TIMER_GRANULARITY) + ACK_DELAY_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(5_000_000_000);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn an_unmeasured_path_is_assumed_to_take_100_ms() {
        let rtt = Rtt::new();
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.is_measured()), (ms(100), ms(50), false));
        assert_eq!(rtt.probe_timeout(0), ms(100 + 200 + 25));
    }

    /// The numbers of RFC 9002 section 5.3, by hand.
    /// spec: atp/round-trip
    #[test]
    fn samples_move_the_average() {
        let mut rtt = Rtt::new();
        rtt.on_sample(NOW, ms(40), ms(10));
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.min()), (ms(40), ms(20), ms(40)));
        rtt.on_sample(NOW, ms(80), ms(16));
        assert_eq!(rtt.smoothed(), ms(43)); // 7/8 * 40 + 1/8 * 64
        assert_eq!(rtt.variation(), ms(21)); // 3/4 * 20 + 1/4 * 24
        assert_eq!((rtt.latest(), rtt.min(), rtt.first_sample_at()), (ms(80), ms(40), Some(NOW)));
        assert_eq!(rtt.probe_timeout(0), ms(43 + 84 + 25));
        assert_eq!(rtt.loss_delay(9), ms(90));
        assert_eq!(rtt.persistent_congestion(), ms(3 * 152));
    }

    /// A peer cannot talk the round trip down: not below the least measurement, and not by more than the agreed delay.
    /// spec: atp/round-trip
    #[test]
    fn a_claimed_delay_is_believed_within_reason() {
        let mut rtt = Rtt::new();
        rtt.on_sample(NOW, ms(40), ms(0));
        rtt.on_sample(NOW, ms(48), ms(9));
        assert_eq!(rtt.smoothed(), ms(41)); // 48 - 9 would be below 40
        let mut rtt = Rtt::new();
        rtt.on_sample(NOW, ms(40), ms(0));
        rtt.on_sample(NOW, ms(345), ms(250));
        assert_eq!(rtt.smoothed(), ms(75)); // 7/8 * 40 + 1/8 * (345 - 25)
    }

    #[test]
    fn probes_back_off_up_to_a_cap() {
        let mut rtt = Rtt::new();
        for _ in 0..100 {
            rtt.on_sample(NOW, Duration::from_micros(50), Duration::ZERO);
        }
        let once = Duration::from_micros(50) + TIMER_GRANULARITY + ACK_DELAY_MAX;
        assert_eq!([0, 1, 3].map(|n| rtt.probe_timeout(n)), [once, once * 2, once * 8]);
        assert_eq!(
            (rtt.probe_timeout(12), rtt.probe_timeout(u32::MAX)),
            (PROBE_TIMEOUT_MAX, PROBE_TIMEOUT_MAX)
        );
        let mut slow = Rtt::new();
        slow.on_sample(NOW, Duration::from_secs(5), Duration::ZERO);
        assert!(slow.probe_timeout(0) > PROBE_TIMEOUT_MAX);
        assert_eq!(slow.probe_timeout(3), slow.probe_timeout(0));
    }

    /// On one machine a round trip takes microseconds: averages keep them, timers do not.
    #[test]
    fn microseconds_are_kept() {
        let mut rtt = Rtt::new();
        for nanos in [12_345, 54_321, 33_333] {
            rtt.on_sample(NOW, Duration::from_nanos(nanos), Duration::ZERO);
        }
        assert_eq!(rtt.min(), Duration::from_nanos(12_345));
        assert!(
            rtt.smoothed() > Duration::from_nanos(12_345) && rtt.smoothed() < Duration::from_nanos(54_321)
        );
        assert_eq!(rtt.loss_delay(9), TIMER_GRANULARITY);
    }

    #[test]
    fn the_least_round_trip_can_be_forgotten() {
        let mut rtt = Rtt::new();
        rtt.on_sample(NOW, ms(10), ms(0));
        rtt.forget_min();
        rtt.on_sample(NOW, ms(70), ms(0));
        assert_eq!(rtt.min(), ms(70));
    }
}
