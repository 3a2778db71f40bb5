//! HyStart++ (RFC 9406): leaves slow start when the round trip grows, before the queue overflows.
//!
//! In:    `on_acked`, one per acknowledgement during slow start.
//! Out:   whether to double, to grow slower, or to leave ([`Step`]).
//! Holds: a round ends when a packet sent after its start is acknowledged.
//!
//! The RFC counts samples, one for every two packets of a TCP receiver. Ours acknowledges an eighth of a window at once, so a round
//! may have no more than eight samples, and waiting for all of them would cost the round in which the queue fills: here the packets
//! acknowledged are counted instead, with two samples at least. Spurious exits are what the conservative phase is for.
//! spec: atp/hystart

use super::Acked;
use crate::time::nanos_of;

/// How much slower the conservative phase grows.
pub(super) const CONSERVATIVE_DIVISOR: u64 = 4;
/// Rounds of the conservative phase.
const CONSERVATIVE_ROUNDS: u8 = 5;
/// Packets whose acknowledgements make a round's least round trip credible: eight samples of a receiver that answers every second.
const SAMPLE_PACKETS: u32 = 16;
/// Samples at least.
const SAMPLES_MIN: u32 = 2;
/// Growth of the least round trip that counts: an eighth, between 4 and 16 ms.
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

/// The detector of one path.
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    /// The round ends when this number or a later one is acknowledged.
    round_end: u64,
    last_min: Option<u64>,
    current_min: Option<u64>,
    sample_count: u32,
    packet_count: u32,
    /// In the conservative phase: the least round trip that began it, and the rounds that are left.
    conservative: Option<(u64, u8)>,
}

impl Default for HyStart {
    fn default() -> Self {
        Self::new()
    }
}

impl HyStart {
    /// Before the first round.
    #[must_use]
    pub(super) const fn new() -> Self {
        Self {
            round_end: 0,
            last_min: None,
            current_min: None,
            sample_count: 0,
            packet_count: 0,
            conservative: None,
        }
    }

    /// Whether it doubts that slow start should go on.
    #[must_use]
    pub(super) const fn is_conservative(&self) -> bool {
        self.conservative.is_some()
    }

    /// Looks at an acknowledgement and says what slow start should do with it.
    pub(super) fn on_acked(&mut self, acked: &Acked) -> Step {
        let is_over = acked.largest >= self.round_end && !self.begin_round(acked.next);
        if is_over {
            return Step::Leave;
        }
        if let Some(sample) = acked.sample.map(nanos_of) {
            self.current_min = Some(self.current_min.map_or(sample, |min| min.min(sample)));
            self.sample_count += 1;
        }
        self.packet_count = self.packet_count.saturating_add(acked.packets);
        self.judge();
        if self.is_conservative() { Step::Slow } else { Step::Double }
    }

    /// Begins a round; false when it was the conservative phase's last.
    fn begin_round(&mut self, next: u64) -> bool {
        self.round_end = next;
        self.last_min = self.current_min.take().or(self.last_min);
        (self.sample_count, self.packet_count) = (0, 0);
        match &mut self.conservative {
            Some((_, rounds_left)) => {
                *rounds_left -= 1;
                *rounds_left > 0
            }
            None => true,
        }
    }

    /// Compares this round's least round trip with the last one's, once enough is known.
    fn judge(&mut self) {
        if self.sample_count < SAMPLES_MIN || self.packet_count < SAMPLE_PACKETS {
            return;
        }
        let Some(current) = self.current_min else { return };
        match (self.conservative, self.last_min) {
            (Some((baseline, _)), _) if current < baseline => self.conservative = None,
            (Some(_), _) | (None, None) => {}
            (None, Some(last)) => {
                let threshold = (last / THRESHOLD_DIVISOR).clamp(THRESHOLD_MIN, THRESHOLD_MAX);
                if current >= last + threshold {
                    self.conservative = Some((current, CONSERVATIVE_ROUNDS));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::time::Instant;

    /// One round of 80 packets in ten acknowledgements with these round trips; the last step.
    fn round(hystart: &mut HyStart, number: u64, millis: u64) -> Step {
        let mut step = Step::Double;
        for part in 0..10 {
            step = hystart.on_acked(&Acked {
                now: Instant::ZERO,
                bytes: 9_600,
                packets: 8,
                largest: number * 80 + part * 8 + 7,
                next: (number + 1) * 80 + part * 8,
                sample: Some(Duration::from_millis(millis + part)),
                smoothed: Duration::from_millis(millis),
                is_window_used: true,
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

    /// A round trip that falls again was jitter: slow start goes on.
    /// spec: atp/hystart
    #[test]
    fn a_falling_round_trip_resumes_slow_start() {
        let mut hystart = HyStart::new();
        assert_eq!([(0, 50), (1, 60)].map(|(n, ms)| round(&mut hystart, n, ms)), [Step::Double, Step::Slow]);
        assert_eq!(round(&mut hystart, 2, 51), Step::Double);
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
