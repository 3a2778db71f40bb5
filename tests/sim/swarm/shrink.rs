//! Cuts a failing plan down: fewer nodes, fewer talks, fewer faults, less chaos, as long as it fails in the same way.

use super::plan::{Cut, Plan};
use super::verdict::{Failure, run_with};

/// Runs that shrinking may take.
const RUNS_MAX: u32 = 400;

struct Shrinker<'a> {
    plan: &'a Plan,
    failure: &'a Failure,
    best: Cut,
    runs: u32,
}

/// What of a failing plan is enough to fail like this.
#[must_use]
pub fn shrink(plan: &Plan, failure: &Failure) -> Cut {
    let mut shrinker = Shrinker { plan, failure, best: Cut::default(), runs: 0 };
    loop {
        let before = shrinker.best.clone();
        shrinker.shorten();
        shrinker.thin(plan.faults.len(), |cut| &mut cut.faults);
        shrinker.thin(plan.talks.len(), |cut| &mut cut.talks);
        shrinker.thin(plan.nodes.len(), |cut| &mut cut.nodes);
        if shrinker.best == before || shrinker.runs >= RUNS_MAX {
            return shrinker.best;
        }
    }
}

impl Shrinker<'_> {
    /// The cut becomes the best one when the plan fails with it as it did.
    fn accepts(&mut self, cut: Cut) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let is_enough =
            run_with(&self.plan.keep(&cut)).failure.is_some_and(|failure| failure.is_like(self.failure));
        if is_enough {
            self.best = cut;
        }
        is_enough
    }

    fn shorten(&mut self) {
        let mut step = self.best.chaos.unwrap_or(self.plan.chaos) / 2;
        while step > 200 {
            let chaos = self.best.chaos.unwrap_or(self.plan.chaos).saturating_sub(step).max(1);
            if !self.accepts(Cut { chaos: Some(chaos), ..self.best.clone() }) {
                step /= 2;
            }
        }
    }

    /// Leaves out halves, quarters, and so on down to single ones.
    fn thin(&mut self, count: usize, part: impl Fn(&mut Cut) -> &mut Option<Vec<usize>>) {
        let mut kept = part(&mut self.best).clone().unwrap_or_else(|| (0..count).collect());
        let mut len = kept.len().div_ceil(2);
        while len > 0 {
            let mut from = 0;
            while from < kept.len() {
                let mut fewer = kept.clone();
                fewer.drain(from..(from + len).min(kept.len()));
                let mut cut = self.best.clone();
                *part(&mut cut) = Some(fewer.clone());
                if self.accepts(cut) {
                    kept = fewer;
                } else {
                    from += len;
                }
            }
            len = if len == 1 { 0 } else { len.div_ceil(2) };
        }
    }
}
