//! Many seeds on several threads, with a progress bar.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dunlin_tests::swarm::{self, Cut, Failure, Kind, Table};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Options;

/// What all seeds came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) table: Table,
    pub(crate) failures: Vec<(u64, Failure)>,
    pub(crate) runs: u64,
    pub(crate) simulated: Duration,
    pub(crate) healed_max: Duration,
    pub(crate) delivered: (u64, u64),
    pub(crate) lines: u64,
    /// The hashes of all traces, in whatever order.
    pub(crate) hash: u64,
    pub(crate) took: Duration,
    pub(crate) jobs: usize,
}

/// Runs them.
pub(crate) fn run(options: &Options, cut: &Cut) -> Outcome {
    let jobs = options.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
    let bar = bar(options);
    let (next, stopped) = (AtomicU64::new(options.first), AtomicBool::new(false));
    let outcome = Mutex::new(Outcome { jobs, ..Outcome::default() });
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stopped.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.first + options.seeds {
                        return;
                    }
                    let verdict = match options.kind {
                        Kind::Chaos => swarm::run_with(&swarm::draw(seed, options.size).keep(cut)),
                        kind => swarm::run(kind, seed, options.size),
                    };
                    if let Some(failure) = &verdict.failure {
                        let place = failure.place.clone();
                        bar.suspend(|| eprintln!("seed {seed} broke at {place}: {}", failure.message));
                        stopped.fetch_or(options.stop, Ordering::Relaxed);
                    }
                    bar.inc(1);
                    outcome.lock().expect("no thread panics while it holds it").add(verdict);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut outcome = outcome.into_inner().expect("no thread panics while it holds it");
    outcome.took = begin.elapsed();
    outcome.failures.sort_by_key(|(seed, _)| *seed);
    outcome
}

fn bar(options: &Options) -> ProgressBar {
    if options.json || options.seeds == 1 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left")
        .expect("the template is right");
    ProgressBar::new(options.seeds).with_style(style)
}

impl Outcome {
    fn add(&mut self, verdict: swarm::Verdict) {
        self.runs += 1;
        if let Some(failure) = verdict.failure {
            self.failures.push((verdict.seed, failure));
            return;
        }
        self.table.add(&verdict.coverage);
        self.simulated += verdict.simulated;
        self.healed_max = self.healed_max.max(verdict.healed);
        self.delivered.0 += verdict.delivered.0;
        self.delivered.1 += verdict.delivered.1;
        self.lines += verdict.lines;
        self.hash ^= verdict.hash.wrapping_mul(verdict.seed | 1);
    }
}
