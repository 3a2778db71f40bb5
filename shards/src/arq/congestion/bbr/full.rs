//! Whether the pipe is full: three rounds in which the delivery rate does not grow by a quarter.
//!
//! spec: atp/bbr-startup

use super::sample::Sample;

/// Growth by less than 5/4 is none.
const GROWTH: (u128, u128) = (5, 4);
/// Rounds without growth.
const ROUNDS: u8 = 3;

/// The estimator, used to leave the start and to end each try of more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FullPipe {
    rate: u64,
    rounds: u8,
    is_now: bool,
    is_reached: bool,
}

impl FullPipe {
    /// It was full once: the bandwidth is known.
    pub(super) const fn is_reached(self) -> bool {
        self.is_reached
    }

    /// It is full in the present try.
    pub(super) const fn is_now(self) -> bool {
        self.is_now
    }

    /// Something else than the rate shows that it is full.
    pub(super) const fn reach(&mut self) {
        self.is_reached = true;
    }

    /// A new try begins at this rate.
    pub(super) const fn restart(&mut self, rate: u64) {
        (self.rate, self.rounds, self.is_now) = (rate, 0, false);
    }

    /// One acknowledgement.
    pub(super) fn on_sample(&mut self, sample: &Sample, is_round_start: bool) {
        if self.is_now || sample.is_app_limited || sample.rate == 0 {
            return;
        }
        if u128::from(sample.rate) * GROWTH.1 >= u128::from(self.rate) * GROWTH.0 {
            self.restart(sample.rate);
        } else if is_round_start {
            self.rounds += 1;
            self.is_now = self.rounds >= ROUNDS;
            self.is_reached |= self.is_now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: u64) -> Sample {
        Sample { rate, ..Sample::default() }
    }

    /// spec: atp/bbr-startup
    #[test]
    fn three_rounds_without_growth_fill_the_pipe() {
        let mut full = FullPipe::default();
        for rate in [100, 200, 260, 320] {
            full.on_sample(&sample(rate), true);
        }
        full.on_sample(&sample(324), true);
        assert!(!full.is_now(), "325 is a quarter more than 260");
        full.on_sample(&sample(325), true);
        for _ in 0..9 {
            full.on_sample(&sample(330), false);
        }
        full.on_sample(&sample(330), true);
        full.on_sample(&sample(330), true);
        assert!(!full.is_now() && !full.is_reached());
        full.on_sample(&sample(330), true);
        assert!(full.is_now() && full.is_reached());
        full.restart(330);
        assert!(!full.is_now() && full.is_reached(), "a new try, and what is known stays known");
    }

    /// Rounds in which the application had little to say do not count, nor those without a measurement.
    #[test]
    fn the_applications_limit_fills_no_pipe() {
        let mut full = FullPipe::default();
        full.on_sample(&sample(100), true);
        for _ in 0..10 {
            full.on_sample(&Sample { is_app_limited: true, ..sample(50) }, true);
            full.on_sample(&sample(0), true);
        }
        assert!(!full.is_reached());
    }
}
