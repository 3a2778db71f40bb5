//! Runs a plan and says how it ended: a panic of the world is a failure with a place, a message and the last lines.

use core::cell::RefCell;
use core::fmt::Write as _;
use core::time::Duration;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::counting::Counting;

use crate::trace;
use crate::world::Coverage;

use super::plan::{Cut, Plan, Size};
use super::play::{Played, play};

/// What broke.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Where it showed, as file and line.
    pub place: String,
    /// In words.
    pub message: String,
    /// The last lines of the trace.
    pub lines: String,
}

impl Failure {
    /// It shows at the same place in the same way, numbers apart.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let kind = |failure: &Self| -> String {
            failure.message.chars().filter(|letter| !letter.is_ascii_digit()).take(40).collect()
        };
        self.place == other.place && kind(self) == kind(other)
    }
}

/// How a seed went.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// What broke, if anything did.
    pub failure: Option<Failure>,
    /// What happened, by kind. Empty after a failure.
    pub coverage: Coverage,
    /// The hash of the trace.
    pub hash: u64,
    /// Lines of the trace.
    pub lines: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// From the end of the chaos until everything had converged.
    pub healed: Duration,
    /// Messages in the hands of applications, and their bytes.
    pub delivered: (u64, u64),
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, size: Size) -> Verdict {
    run_with(&super::draw(seed, size))
}

/// Runs a plan.
#[must_use]
pub fn run_with(plan: &Plan) -> Verdict {
    let played = caught(|| if plan.real { play::<AwsLc>(plan) } else { play::<Counting>(plan) });
    let mut verdict = Verdict {
        seed: plan.seed,
        failure: None,
        coverage: Coverage::default(),
        hash: 0,
        lines: 0,
        simulated: Duration::ZERO,
        healed: Duration::ZERO,
        delivered: (0, 0),
    };
    match played {
        Err(failure) => verdict.failure = Some(failure),
        Ok(Played { coverage, hash, lines, simulated, healed, delivered }) => {
            let crypto = if plan.real { "real" } else { "counting" };
            verdict.coverage = coverage;
            verdict.coverage.count("cryptography", crypto, 1);
            (verdict.hash, verdict.lines) = (hash, lines);
            (verdict.simulated, verdict.healed) = (simulated, healed);
            verdict.delivered = delivered;
        }
    }
    verdict
}

/// Runs a seed of rumours: what broke, if anything did.
#[must_use]
pub fn run_rumours(seed: u64) -> Option<Failure> {
    caught(|| super::rumours::play(seed)).err()
}

thread_local! {
    /// Where a panic of this thread was, when somebody waits for it.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Panics of threads that run plans are kept, all others are printed as ever.
fn install_hook() {
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let is_wanted = CAUGHT.with_borrow_mut(|caught| {
                let wanted = caught.as_mut();
                if let (Some(place), Some(location)) = (wanted, panicked.location()) {
                    place.clear();
                    let _ = write!(place, "{}:{}", location.file(), location.line());
                    return true;
                }
                caught.is_some()
            });
            if !is_wanted {
                others(panicked);
            }
        }));
    });
}

fn caught<T>(play: impl FnOnce() -> T) -> Result<T, Failure> {
    install_hook();
    CAUGHT.set(Some(String::new()));
    trace::keep_reports(true);
    let result = panic::catch_unwind(AssertUnwindSafe(play));
    let lines = trace::take_report();
    trace::keep_reports(false);
    let place = CAUGHT.take().unwrap_or_default();
    result.map_err(|panicked| {
        let text = panicked.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panicked.downcast_ref::<&str>().map(ToString::to_string));
        Failure { place, message: text.unwrap_or_default(), lines }
    })
}

/// The command that shows a failure again.
#[must_use]
pub fn replay_command(seed: u64, size: Size, cut: &Cut) -> String {
    let mut command = format!("cargo sim --first {seed} --size {size}");
    if *cut != Cut::default() {
        let _ = write!(command, " --only {cut}");
    }
    command
}
