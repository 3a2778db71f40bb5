//! What losses teach: how much the path takes just now, and how much it took when it was last tried.
//!
//! In:    losses, samples, the ends of rounds.
//! Out:   bounds for bandwidth and bytes under way, [`UNBOUNDED`] where nothing is known.
//! Holds: the lower bounds give way by 3/10 a round at most and never below what was delivered in it; one note of what to give back.
//!
//! spec: atp/bbr-loss

use super::sample::Sample;

/// No bound.
pub(super) const UNBOUNDED: u64 = u64::MAX;
/// beta: what is left of a bound in a round with losses.
pub(super) const BETA: (u64, u64) = (7, 10);
/// Losses of more than one in so many bytes are too many.
const LOSS_SHARE: u64 = 50;
/// Stretches lost in a round of filling the pipe that end it.
const STARTUP_STRETCHES: u32 = 6;

/// Bounds, as they were before the first loss of a round.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bounds {
    /// Bytes a second that the path has for us at present.
    pub(super) bandwidth_low: u64,
    /// Bytes under way that it has room for at present.
    pub(super) inflight_low: u64,
    /// Bytes under way at which too many were lost when more was tried.
    pub(super) inflight_high: u64,
}

/// The bounds, and the round of losses that moves them.
#[derive(Clone, Debug)]
pub(super) struct Losses {
    pub(super) bounds: Bounds,
    undo: Bounds,
    /// The most of this round.
    bandwidth_latest: u64,
    delivered_latest: u64,
    /// The round ends when a packet is acknowledged that left after so many bytes were delivered.
    round_delivered: u64,
    is_round_start: bool,
    is_in_round: bool,
    /// Stretches of numbers lost in this round, and the end of the last.
    stretches: u32,
    behind_last: u64,
}

impl Losses {
    pub(super) const fn new() -> Self {
        let bounds = Bounds { bandwidth_low: UNBOUNDED, inflight_low: UNBOUNDED, inflight_high: UNBOUNDED };
        Self {
            bounds,
            undo: bounds,
            bandwidth_latest: 0,
            delivered_latest: 0,
            round_delivered: 0,
            is_round_start: false,
            is_in_round: false,
            stretches: 0,
            behind_last: 0,
        }
    }

    /// A packet is lost. Returns whether it is the first of this round.
    pub(super) fn on_lost(&mut self, number: u64, delivered: u64) -> bool {
        self.stretches += u32::from(number != self.behind_last);
        self.behind_last = number + 1;
        self.note(delivered)
    }

    /// The round has a sign of congestion. Returns whether it is the first.
    pub(super) const fn note(&mut self, delivered: u64) -> bool {
        let is_first = !self.is_in_round;
        if is_first {
            self.round_delivered = delivered;
            self.undo = self.bounds;
            self.is_in_round = true;
        }
        is_first
    }

    /// An acknowledgement begins: what it says about this round.
    pub(super) fn begin(&mut self, sample: &Sample, delivered: u64) {
        self.is_round_start = false;
        self.bandwidth_latest = self.bandwidth_latest.max(sample.rate);
        self.delivered_latest = self.delivered_latest.max(sample.delivered);
        if sample.prior_delivered.is_some_and(|prior| prior >= self.round_delivered) {
            self.round_delivered = delivered;
            self.is_round_start = true;
        }
    }

    /// At the end of a round with losses, in which nothing was tried: gives way. Returns whether it did.
    pub(super) fn give_way(&mut self, bandwidth: u64, window: u64, is_probing: bool) -> bool {
        if !self.is_round_start {
            return false;
        }
        let is_moved = self.is_in_round && !is_probing;
        if is_moved {
            let lowered = |bound: u64, first: u64, latest: u64| {
                let bound = if bound == UNBOUNDED { first } else { bound };
                latest.max(part(bound, BETA))
            };
            let bounds = &mut self.bounds;
            bounds.bandwidth_low = lowered(bounds.bandwidth_low, bandwidth, self.bandwidth_latest);
            bounds.inflight_low = lowered(bounds.inflight_low, window, self.delivered_latest);
        }
        self.is_in_round = false;
        is_moved
    }

    /// The acknowledgement is dealt with: a new round begins with what it said.
    pub(super) const fn end(&mut self, sample: &Sample) {
        if self.is_round_start {
            self.bandwidth_latest = sample.rate;
            self.delivered_latest = sample.delivered;
            self.stretches = 0;
        }
    }

    /// While the pipe is being filled: a whole round lost too much, in too many places to be chance.
    pub(super) fn is_startup_over(&self, sample: &Sample) -> bool {
        self.is_round_start
            && self.stretches >= STARTUP_STRETCHES
            && is_too_much(sample.lost, sample.in_flight)
    }

    /// The most bytes that one sample of this round delivered.
    pub(super) const fn delivered_latest(&self) -> u64 {
        self.delivered_latest
    }

    /// Tries all of the path again.
    pub(super) const fn reset_low(&mut self) {
        (self.bounds.bandwidth_low, self.bounds.inflight_low) = (UNBOUNDED, UNBOUNDED);
    }

    /// Begins a round of losses anew.
    pub(super) const fn reset_round(&mut self) {
        (self.is_in_round, self.bandwidth_latest, self.delivered_latest) = (false, 0, 0);
    }

    /// The losses were none.
    pub(super) fn undo(&mut self) {
        self.is_in_round = false;
        let (bounds, undo) = (&mut self.bounds, self.undo);
        bounds.bandwidth_low = bounds.bandwidth_low.max(undo.bandwidth_low);
        bounds.inflight_low = bounds.inflight_low.max(undo.inflight_low);
        bounds.inflight_high = bounds.inflight_high.max(undo.inflight_high);
    }
}

/// Whether more than one in fifty was lost.
pub(super) const fn is_too_much(lost: u64, in_flight: u64) -> bool {
    lost > in_flight / LOSS_SHARE
}

/// The bytes under way at which the losses became too many, when the packet of `bytes` was the one that made them so.
pub(super) const fn inflight_before(in_flight: u64, lost: u64, bytes: u64) -> u64 {
    let (in_flight, lost) = (in_flight.saturating_sub(bytes), lost.saturating_sub(bytes));
    // As much of the packet as could be lost: lost + x = (in_flight + x) / LOSS_SHARE.
    in_flight + in_flight.saturating_sub(lost * LOSS_SHARE) / (LOSS_SHARE - 1)
}

/// A part of a number that may be as large as it likes.
pub(super) const fn part(number: u64, (of, whole): (u64, u64)) -> u64 {
    number / whole * of + number % whole * of / whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: u64, delivered: u64, prior: u64) -> Sample {
        Sample { rate, delivered, prior_delivered: Some(prior), ..Sample::default() }
    }

    /// One acknowledgement, at the end of a round; whether bounds moved.
    fn round(losses: &mut Losses, sample: &Sample, delivered: u64, is_probing: bool) -> bool {
        losses.begin(sample, delivered);
        let is_moved = losses.give_way(1_000, 500, is_probing);
        losses.end(sample);
        is_moved
    }

    /// A round with a loss lowers the bounds by 3/10, but not below what it delivered.
    /// spec: atp/bbr-loss
    #[test]
    fn a_round_with_losses_gives_way() {
        let mut losses = Losses::new();
        assert!(losses.on_lost(7, 100) && !losses.on_lost(8, 110));
        assert!(!round(&mut losses, &sample(600, 450, 99), 200, false), "the round goes on");
        assert!(round(&mut losses, &sample(650, 450, 100), 300, false));
        assert_eq!(losses.bounds, Bounds { bandwidth_low: 700, inflight_low: 450, inflight_high: UNBOUNDED });
        losses.on_lost(20, 300);
        assert!(round(&mut losses, &sample(100, 10, 300), 400, false));
        assert_eq!(losses.bounds.bandwidth_low, 650, "what the round before delivered at its end counts");
        losses.on_lost(30, 400);
        assert!(round(&mut losses, &sample(100, 10, 400), 500, false));
        assert_eq!(losses.bounds.bandwidth_low, 455);
        assert!(!round(&mut losses, &sample(100, 10, 500), 600, false), "no loss, no change");
        losses.reset_low();
        assert_eq!(losses.bounds.bandwidth_low, UNBOUNDED);
    }

    /// What is lost while more is tried than there may be says nothing about what there is.
    #[test]
    fn probing_leaves_the_lower_bounds_alone() {
        let mut losses = Losses::new();
        losses.on_lost(7, 100);
        assert!(!round(&mut losses, &sample(600, 450, 100), 200, true));
        assert_eq!(losses.bounds.bandwidth_low, UNBOUNDED);
    }

    /// Losses that were none give back what the round took.
    #[test]
    fn losses_that_were_none_are_given_back() {
        let mut losses = Losses::new();
        losses.bounds.inflight_high = 900;
        losses.on_lost(7, 100);
        assert!(round(&mut losses, &sample(0, 0, 100), 200, false));
        losses.bounds.inflight_high = 600;
        losses.undo();
        let bounds = losses.bounds;
        assert_eq!(
            (bounds.bandwidth_low, bounds.inflight_low, bounds.inflight_high),
            (UNBOUNDED, UNBOUNDED, 900)
        );
    }

    /// Six places in one round, more than 2 % of it: the pipe is full. A single burst is not.
    /// spec: atp/bbr-loss
    #[test]
    fn startup_ends_with_losses_in_six_places() {
        let is_over = |numbers: &[u64], lost| {
            let mut losses = Losses::new();
            for number in numbers {
                losses.on_lost(*number, 100);
            }
            let sample = Sample { lost, in_flight: 1_000, ..sample(1, 1, 100) };
            losses.begin(&sample, 200);
            losses.is_startup_over(&sample)
        };
        assert!(is_over(&[2, 4, 6, 8, 10, 12], 21));
        assert!(!is_over(&[2, 4, 6, 8, 10, 12], 20), "2 % are borne");
        assert!(!is_over(&[2, 3, 4, 5, 6, 7, 8, 9], 21), "one place");
    }

    /// By hand: 100 packets under way, the third lost one is the one too many; 2 % were lost two packets before it.
    #[test]
    fn the_losses_became_too_many_before_this_packet() {
        assert!(!is_too_much(2_000, 100_000) && is_too_much(2_001, 100_000));
        assert_eq!(inflight_before(100_000, 3_000, 1_000), 99_000, "2,000 of 99,000 are too many already");
        assert_eq!(
            inflight_before(150_000, 3_000, 1_000),
            149_000 + 1_000,
            "49,000 left for 49 times as much"
        );
        assert_eq!(inflight_before(500, 3_000, 1_000), 0);
        assert_eq!(part(UNBOUNDED, (1, 1)), UNBOUNDED);
        assert_eq!(part(1_001, BETA), 700);
    }
}
