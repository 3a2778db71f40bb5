//! A budget: time that is given out at a rate, with a burst ahead of it.
//!
//! In:    what was taken, and when.
//! Out:   when something may be taken again.
//! Holds: over any time no more than the rate and one burst; the last piece may overshoot once, and is waited for after.

use core::time::Duration;

use crate::time::Instant;

/// Time that is given out at a rate: `free_at` is when everything taken so far is paid.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    free_at: Instant,
}

impl Budget {
    /// When something may be taken again, with `burst` ahead of the rate; now or earlier: at once.
    #[must_use]
    pub fn ready_at(self, burst: Duration) -> Instant {
        self.free_at.before(burst)
    }

    /// Takes what is paid off in `time`.
    pub fn take(&mut self, now: Instant, time: Duration) {
        self.free_at = self.free_at.max(now) + time;
    }
}

/// So many a second, and so many of them at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// A second; 0: none at all.
    pub per_second: u64,
    /// At once.
    pub burst: u64,
}

impl Rate {
    /// As many as come.
    pub const UNLIMITED: Self = Self { per_second: u64::MAX, burst: 1 };

    /// How long one takes.
    const fn interval_ns(self) -> u64 {
        match 1_000_000_000_u64.checked_div(self.per_second) {
            Some(nanos) => nanos,
            None => u64::MAX,
        }
    }

    /// One more may be taken from the budget.
    #[must_use]
    pub fn is_ready(self, budget: Budget, now: Instant) -> bool {
        let ahead = self.interval_ns().saturating_mul(self.burst.saturating_sub(1));
        self.per_second > 0 && budget.ready_at(Duration::from_nanos(ahead)) <= now
    }

    /// Takes so many from the budget.
    pub fn take(self, budget: &mut Budget, now: Instant, count: u64) {
        budget.take(now, Duration::from_nanos(self.interval_ns().saturating_mul(count)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_its_burst_and_no_more() {
        let rate = Rate { per_second: 2, burst: 5 };
        let mut budget = Budget::default();
        let mut now = Instant::ZERO + Duration::from_secs(100);
        let mut take_all = |now: Instant| {
            let mut taken = 0;
            while rate.is_ready(budget, now) {
                rate.take(&mut budget, now, 1);
                taken += 1;
            }
            taken
        };
        assert_eq!(take_all(now), 5);
        now += Duration::from_millis(499);
        assert_eq!(take_all(now), 0);
        now += Duration::from_millis(1);
        assert_eq!(take_all(now), 1);
        now += Duration::from_secs(3_600);
        assert_eq!(take_all(now), 5, "what was not taken is not saved up");
        assert!(!Rate { per_second: 0, burst: 5 }.is_ready(Budget::default(), now), "none at all");
        Rate::UNLIMITED.take(&mut budget, now, 1_000_000);
        assert!(Rate::UNLIMITED.is_ready(budget, now + Duration::from_secs(3)));
    }
}
