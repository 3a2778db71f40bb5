//! Runs a plan and says how it ended: a panic of the world is a failure with a place, a message and the last lines.

use core::cell::RefCell;
use core::fmt::{self, Write as _};
use core::str::FromStr;
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

/// What a seed makes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Kind {
    /// A network that nobody would build, and everything that can befall its sessions.
    #[default]
    Chaos,
    /// A network in which somebody speaks to everybody.
    Rumours,
    /// A network that keeps values.
    Values,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Chaos, Self::Rumours, Self::Values];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chaos => "chaos",
            Self::Rumours => "rumours",
            Self::Values => "values",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is none of chaos, rumours, values"))
    }
}

/// Runs a seed; the size matters to chaos alone.
#[must_use]
pub fn run(kind: Kind, seed: u64, size: Size) -> Verdict {
    match kind {
        Kind::Chaos => run_with(&super::draw(seed, size)),
        Kind::Rumours => verdict_of(seed, || super::rumours::play(seed)),
        Kind::Values => verdict_of(seed, || super::values::play(seed)),
    }
}

/// Runs a plan.
#[must_use]
pub fn run_with(plan: &Plan) -> Verdict {
    let play = || if plan.real { play::<AwsLc>(plan) } else { play::<Counting>(plan) };
    let mut verdict = verdict_of(plan.seed, play);
    if verdict.failure.is_none() {
        verdict.coverage.count("cryptography", if plan.real { "real" } else { "counting" }, 1);
    }
    verdict
}

fn verdict_of(seed: u64, play: impl FnOnce() -> Played) -> Verdict {
    let (failure, played) = match caught(play) {
        Ok(played) => (None, played),
        Err(failure) => (Some(failure), Played::default()),
    };
    let Played { coverage, hash, lines, simulated, healed, delivered } = played;
    Verdict { seed, failure, coverage, hash, lines, simulated, healed, delivered }
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
pub fn replay_command(kind: Kind, seed: u64, size: Size, cut: &Cut) -> String {
    if kind != Kind::Chaos {
        return format!("cargo sim --of {kind} --first {seed}");
    }
    let mut command = format!("cargo sim --first {seed} --size {size}");
    if *cut != Cut::default() {
        let _ = write!(command, " --only {cut}");
    }
    command
}
