//! HyStart++ (RFC 9406): leaves slow start when the round trip grows, before the queue overflows.
//!
//! In:    `on_acked`, one per acknowledgement during slow start.
//! Out:   whether to double, to grow slower, or to leave ([`Step`]).
//! Holds: a round ends when a packet sent after its start is acknowledged.
//!
//! One difference from the RFC. It compares the least round trip of the whole round so far; but a paced window leaves in half of its
//! round trip, so a round's first packets find the queue empty even when its last ones wait for long, and the growth of the least shows
//! only when the window has passed twice what the path holds: too late for a queue of one bandwidth-delay product. Here each eight
//! samples of a round stand for themselves. To match, the conservative phase goes back to doubling when a whole round showed no growth.
//! spec: atp/hystart

use super::Acked;
use crate::time::nanos_of;

/// How much slower the conservative phase grows.
pub(super) const CONSERVATIVE_DIVISOR: u64 = 4;
/// Rounds of the conservative phase.
const CONSERVATIVE_ROUNDS: u8 = 5;
/// Samples whose least is credible.
const SAMPLES: u8 = 8;
/// Growth that counts: an eighth, between 4 and 16 ms.
const THRESHOLD_MIN: u64 = 4_000_000;
const THRESHOLD_MAX: u64 = 16_000_000;
const THRESHOLD_DIVISOR: u64 = 8;

/// What slow start should do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Grow by all that was acknowledged.
    Double,
    /// Grow by a fourth of it.
    Slow,
    /// Leave slow start.
    Leave,
}

/// The conservative phase.
#[derive(Clone, Copy, Debug)]
struct Conservative {
    rounds_left: u8,
    /// Whether this round has shown growth.
    is_confirmed: bool,
}

/// The detector of one path.
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    /// The round ends when this number or a later one is acknowledged.
    round_end: u64,
    /// The least round trip of the last round that was no part of the conservative phase; `u64::MAX` before the first.
    base: u64,
    round_min: u64,
    /// The least of the latest samples, and how many there are.
    latest_min: u64,
    latest_count: u8,
    conservative: Option<Conservative>,
}

impl HyStart {
    /// Before the first round.
    pub(super) const fn new() -> Self {
        Self {
            round_end: 0,
            base: u64::MAX,
            round_min: u64::MAX,
            latest_min: u64::MAX,
            latest_count: 0,
            conservative: None,
        }
    }

    /// Whether it doubts that slow start should go on.
    pub(super) const fn is_conservative(&self) -> bool {
        self.conservative.is_some()
    }

    /// Looks at an acknowledgement and says what slow start should do with it.
    pub(super) fn on_acked(&mut self, acked: &Acked) -> Step {
        if acked.largest >= self.round_end {
            self.round_end = acked.next;
            if self.is_over() {
                return Step::Leave;
            }
        }
        if let Some(sample) = acked.sample.map(nanos_of) {
            self.on_sample(sample);
        }
        if self.is_conservative() { Step::Slow } else { Step::Double }
    }

    /// Ends a round; true when it was the conservative phase's last.
    fn is_over(&mut self) -> bool {
        let least = core::mem::replace(&mut self.round_min, u64::MAX);
        (self.latest_min, self.latest_count) = (u64::MAX, 0);
        match &mut self.conservative {
            None => {
                if least != u64::MAX {
                    self.base = least;
                }
            }
            Some(phase) if !phase.is_confirmed => self.conservative = None,
            Some(phase) => {
                phase.rounds_left -= 1;
                phase.is_confirmed = false;
                return phase.rounds_left == 0;
            }
        }
        false
    }

    fn on_sample(&mut self, sample: u64) {
        self.round_min = self.round_min.min(sample);
        self.latest_min = self.latest_min.min(sample);
        self.latest_count += 1;
        if self.latest_count < SAMPLES {
            return;
        }
        let threshold = (self.base / THRESHOLD_DIVISOR).clamp(THRESHOLD_MIN, THRESHOLD_MAX);
        if self.latest_min >= self.base.saturating_add(threshold) {
            let rounds_left = self.conservative.map_or(CONSERVATIVE_ROUNDS, |phase| phase.rounds_left);
            self.conservative = Some(Conservative { rounds_left, is_confirmed: true });
        }
        (self.latest_min, self.latest_count) = (u64::MAX, 0);
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::time::Instant;

    /// One round of 80 packets in ten acknowledgements with this round trip and more; the last step.
    fn round(hystart: &mut HyStart, number: u64, millis: u64) -> Step {
        let mut step = Step::Double;
        for part in 0..10 {
            step = hystart.on_acked(&Acked {
                now: Instant::ZERO,
                bytes: 9_600,
                largest: number * 80 + part * 8 + 7,
                next: (number + 1) * 80 + part * 8,
                sample: Some(Duration::from_millis(millis + part)),
                smoothed: Duration::from_millis(millis),
                is_window_used: true,
                in_flight: 0,
            });
            if step == Step::Leave {
                break;
            }
        }
        step
    }

    /// spec: atp/hystart
    #[test]
    fn a_growing_round_trip_leaves_slow_start_after_five_slow_rounds() {
        let mut hystart = HyStart::new();
        assert_eq!([0, 1, 2].map(|n| round(&mut hystart, n, 50)), [Step::Double; 3]);
        assert_eq!(round(&mut hystart, 3, 56), Step::Double); // 6 ms more; an eighth would be 6.25
        assert_eq!([4, 5, 6, 7, 8].map(|n| round(&mut hystart, n, 64)), [Step::Slow; 5]);
        assert_eq!(round(&mut hystart, 9, 64), Step::Leave);
    }

    /// A round trip that falls again was jitter: after one round without growth, slow start goes on.
    /// spec: atp/hystart
    #[test]
    fn a_falling_round_trip_resumes_slow_start() {
        let mut hystart = HyStart::new();
        let steps = [(0, 50), (1, 60), (2, 51), (3, 51)].map(|(n, ms)| round(&mut hystart, n, ms));
        assert_eq!(steps, [Step::Double, Step::Slow, Step::Slow, Step::Double]);
    }

    /// Below 4 ms nothing counts as growth: on one machine round trips vary by more than they last.
    #[test]
    fn microseconds_of_growth_mean_nothing() {
        let mut hystart = HyStart::new();
        assert_eq!(
            [(0, 0), (1, 1), (2, 3), (3, 1)].map(|(n, ms)| round(&mut hystart, n, ms)),
            [Step::Double; 4]
        );
    }
}
