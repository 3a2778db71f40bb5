//! When messages are meant to be sent, whatever becomes of them: the open loop.
//!
//! In:    a rate, a span of time; a [`Field`] with a clock that can wait and send.
//! Out:   intended times; what was sent, and how much of it late.
//! Holds: the plan never waits for an answer, and a message that leaves late keeps its intended time.

use std::time::Duration;

use dunlin_shards::rng::Rng;

use crate::Fault;

/// How messages are spread over time.
#[derive(Clone, Debug)]
pub(crate) enum Spacing {
    /// All gaps are the same.
    Fixed,
    /// Gaps are those of independent callers.
    Poisson(Rng),
}

/// Intended times, in nanoseconds since the plan's start, rising, all before its end.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    spacing: Spacing,
    /// Messages a second.
    rate: f64,
    count: u64,
    /// Of the last Poisson message.
    at_ns: f64,
    end_ns: u64,
}

impl Plan {
    /// `rate` messages a second, for `span`.
    pub(crate) fn new(rate: f64, span: Duration, spacing: Spacing) -> Result<Self, Fault> {
        if !rate.is_finite() || rate <= 0.0 {
            return Err(format!("a rate of {rate} a second cannot be kept").into());
        }
        Ok(Self { spacing, rate, count: 0, at_ns: 0.0, end_ns: span.as_nanos() as u64 })
    }

    /// How many are planned from that time on.
    pub(crate) fn count_from(&self, start_ns: u64) -> u64 {
        self.clone().filter(|at| *at >= start_ns).count() as u64
    }
}

impl Iterator for Plan {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.at_ns = match &mut self.spacing {
            // From the count, so that gaps that are no whole nanoseconds do not add up to a wrong rate.
            Spacing::Fixed => self.count as f64 * 1e9 / self.rate,
            Spacing::Poisson(rng) => self.at_ns + gap_ns(rng, self.rate),
        };
        self.count += 1;
        Some(self.at_ns as u64).filter(|at| *at < self.end_ns)
    }
}

/// An exponential gap: the inverse of its distribution at a uniform number in (0, 1].
fn gap_ns(rng: &mut Rng, rate: f64) -> f64 {
    let uniform = ((rng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -uniform.ln() * 1e9 / rate
}

/// Where messages go; the clock counts nanoseconds since the plan's start.
pub(crate) trait Field {
    /// The time.
    fn now(&mut self) -> u64;
    /// Waits until then.
    fn wait_until(&mut self, at: u64);
    /// Sends one that was meant for `intended` and leaves at `now`; may block.
    fn send(&mut self, intended: u64, now: u64) -> Result<(), Fault>;
    /// Somebody wants the run to end.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// From when on messages count, from when on they are late, and when nothing more is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How many messages count; counted before the clock starts, as it takes a while.
    pub(crate) planned: u64,
    /// What is meant for an earlier time warms up.
    pub(crate) counted_from_ns: u64,
    /// A message is late that leaves so long after its time.
    pub(crate) late_after_ns: u64,
    /// The plan's end and some grace: what was not sent by then never is.
    pub(crate) given_up_at_ns: u64,
}

/// What left, of the messages that count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Sent {
    /// How many were meant to leave.
    pub(crate) planned: u64,
    /// How many did.
    pub(crate) sent: u64,
    /// How many of these late.
    pub(crate) late: u64,
    /// The latest's lateness in nanoseconds.
    pub(crate) lateness_ns_max: u64,
}

impl Sent {
    /// The part that left late or not at all, in percent of what was planned.
    pub(crate) fn late_percent(&self) -> f64 {
        (self.late + self.planned - self.sent) as f64 * 100.0 / self.planned.max(1) as f64
    }
}

/// Sends the plan. What was sent until something went wrong is told with it.
pub(crate) fn drive(plan: Plan, rules: &Rules, field: &mut impl Field) -> (Sent, Result<(), Fault>) {
    let mut sent = Sent { planned: rules.planned, ..Sent::default() };
    for intended in plan {
        field.wait_until(intended);
        let now = field.now();
        if field.is_stopped() || now >= rules.given_up_at_ns {
            break;
        }
        if let Err(fault) = field.send(intended, now) {
            return (sent, Err(fault));
        }
        if intended >= rules.counted_from_ns {
            let lateness = now.saturating_sub(intended);
            sent.sent += 1;
            sent.late += u64::from(lateness > rules.late_after_ns);
            sent.lateness_ns_max = sent.lateness_ns_max.max(lateness);
        }
    }
    (sent, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;

    const SECOND: u64 = 1_000_000_000;
    const MILLISECOND: u64 = 1_000_000;

    /// A node that answers after 0.1 ms, but for one pause in which it takes nothing in and the sender is stuck.
    struct Stalling {
        now: u64,
        stall: std::ops::Range<u64>,
        recorder: Recorder,
        refuses_at: u64,
    }

    impl Field for Stalling {
        fn now(&mut self) -> u64 {
            self.now
        }

        fn wait_until(&mut self, at: u64) {
            self.now = self.now.max(at);
        }

        fn send(&mut self, intended: u64, now: u64) -> Result<(), Fault> {
            if now >= self.refuses_at {
                return Err("gone".into());
            }
            self.now = if self.stall.contains(&now) { self.stall.end } else { now };
            self.now += 2_000;
            let answered = self.now + 100_000;
            self.recorder.on_answer((intended, self.now), answered);
            Ok(())
        }
    }

    fn stalling(stall: std::ops::Range<u64>) -> Stalling {
        Stalling { now: 0, stall, recorder: Recorder::default(), refuses_at: u64::MAX }
    }

    fn rules(plan: &Plan, counted_from_ns: u64) -> Rules {
        let planned = plan.count_from(counted_from_ns);
        Rules { planned, counted_from_ns, late_after_ns: MILLISECOND, given_up_at_ns: 20 * SECOND }
    }

    fn driven(plan: Plan, counted_from_ns: u64, field: &mut Stalling) -> (Sent, Result<(), Fault>) {
        let rules = rules(&plan, counted_from_ns);
        drive(plan, &rules, field)
    }

    fn plan(rate: f64, seconds: u64, spacing: Spacing) -> Plan {
        Plan::new(rate, Duration::from_secs(seconds), spacing).unwrap()
    }

    #[test]
    fn a_fixed_plan_keeps_its_rate_to_the_end() {
        let times: Vec<u64> = plan(3.0, 1_000, Spacing::Fixed).collect();
        assert_eq!(times.len(), 3_000);
        assert_eq!(times[..4], [0, 333_333_333, 666_666_666, SECOND]);
        assert_eq!(times[2_997], 999 * SECOND);
    }

    #[test]
    fn a_poisson_plan_has_the_rate_and_the_spread_of_independent_callers() {
        let times: Vec<u64> = plan(1_000.0, 100, Spacing::Poisson(Rng::from_number(1))).collect();
        assert!(times.is_sorted());
        assert!((99_000..101_000).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // An exponential distribution's deviation is its mean; a fixed plan's would be nothing.
        assert!((0.97..1.03).contains(&(variance.sqrt() / mean)), "{variance} {mean}");
        let again: Vec<u64> = plan(1_000.0, 100, Spacing::Poisson(Rng::from_number(1))).collect();
        assert_eq!(times, again);
    }

    #[test]
    fn a_rate_that_is_none_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Plan::new(rate, Duration::from_secs(1), Spacing::Fixed).is_err(), "{rate}");
        }
    }

    /// One second's stall in ten: a tenth of all messages waited for it, and only the corrected figures say so.
    #[test]
    fn a_stall_shows_in_the_corrected_latency_alone() {
        let mut field = stalling(5 * SECOND..6 * SECOND);
        let (sent, result) = driven(plan(1_000.0, 10, Spacing::Fixed), 0, &mut field);
        result.unwrap();
        let recorder = &field.recorder;
        assert_eq!((sent.planned, sent.sent, recorder.answered()), (10_000, 10_000, 10_000));
        let corrected = |quantile| recorder.corrected().value_at_quantile(quantile);
        let uncorrected = |quantile| recorder.uncorrected().value_at_quantile(quantile);
        assert!(corrected(0.5) < MILLISECOND, "{}", corrected(0.5));
        assert!(corrected(0.95) > 400 * MILLISECOND, "{}", corrected(0.95));
        assert!(corrected(0.99) > 800 * MILLISECOND, "{}", corrected(0.99));
        assert!(uncorrected(0.9999) < MILLISECOND, "{}", uncorrected(0.9999));
        assert!((990..1_010).contains(&sent.late), "{sent:?}");
        assert!(sent.late_percent() > 9.9 && sent.lateness_ns_max > 990 * MILLISECOND, "{sent:?}");
    }

    #[test]
    fn without_a_stall_nothing_is_late_and_both_figures_agree() {
        let mut field = stalling(0..0);
        let (sent, _) = driven(plan(1_000.0, 10, Spacing::Fixed), 0, &mut field);
        assert_eq!((sent.late, sent.lateness_ns_max), (0, 0));
        assert!(field.recorder.corrected().max() - field.recorder.uncorrected().max() < 3_000);
    }

    #[test]
    fn what_warms_up_does_not_count() {
        let mut field = stalling(0..SECOND);
        field.recorder.count_from(3 * SECOND);
        let (sent, _) = driven(plan(1_000.0, 10, Spacing::Fixed), 3 * SECOND, &mut field);
        assert_eq!((sent.planned, sent.sent, sent.late), (7_000, 7_000, 0));
        assert_eq!(field.recorder.answered(), 7_000);
        assert!(field.recorder.corrected().max() < MILLISECOND);
    }

    #[test]
    fn what_is_never_sent_counts_as_late_and_what_was_sent_is_told_with_the_fault() {
        let mut field = stalling(5 * SECOND..60 * SECOND);
        let (sent, result) = driven(plan(100.0, 10, Spacing::Fixed), 0, &mut field);
        result.unwrap();
        assert_eq!((sent.planned, sent.sent), (1_000, 501));
        assert!(sent.late_percent() > 49.0, "{sent:?}");
        let mut field = stalling(0..0);
        field.refuses_at = 2 * SECOND;
        let (sent, result) = driven(plan(100.0, 10, Spacing::Fixed), 0, &mut field);
        assert_eq!((sent.sent, result.unwrap_err().to_string()), (200, "gone".to_owned()));
    }
}
