//! One bug and its seeds: run until it was found and a sample is complete, or until it has survived.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dunlin_shards::mutants::{Mutant, plant};
use dunlin_tests::swarm::{self, Failure, Kind, Size};

use crate::{Options, checks};

/// What became of a bug.
#[derive(Debug)]
pub(crate) struct Proof {
    /// Which; `None`: the code as it is.
    pub(crate) mutant: Option<Mutant>,
    /// Seeds that were run.
    pub(crate) ran: u64,
    /// Those that found it: what each of them said.
    pub(crate) found: BTreeMap<u64, &'static str>,
    /// Their own words, with their places.
    pub(crate) words: Vec<String>,
    /// How many seeds it took; from 1.
    pub(crate) until_first: Option<u64>,
    pub(crate) took: Duration,
}

impl Proof {
    /// The checks that found it, the most frequent first.
    pub(crate) fn checks(&self) -> Vec<(&'static str, usize)> {
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        for check in self.found.values() {
            *counts.entry(check).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| core::cmp::Reverse(*count));
        counts
    }
}

/// The seeds in which a bug may show.
fn kinds_of(mutant: Option<Mutant>) -> &'static [Kind] {
    match mutant {
        None => &Kind::ALL,
        Some(mutant) if mutant.is_of_rumours() => &[Kind::Rumours],
        Some(mutant) if mutant.is_of_values() => &[Kind::Values],
        Some(_) => &[Kind::Chaos],
    }
}

/// Plants the bug and runs its seeds.
///
/// `dirty` seeds break without any bug: what they say proves nothing.
pub(crate) fn run(mutant: Option<Mutant>, options: &Options, dirty: &BTreeMap<u64, &'static str>) -> Proof {
    plant(mutant);
    let begin = Instant::now();
    let jobs = options.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
    let (next, first_found) = (AtomicU64::new(options.first), AtomicU64::new(u64::MAX));
    let most = options.seeds;
    let found = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let ran = seed - options.first;
                    let is_known = first_found.load(Ordering::Relaxed) != u64::MAX;
                    if ran >= most || mutant.is_some() && ran >= options.sample && is_known {
                        return;
                    }
                    let run = |kind: &Kind| swarm::run(*kind, seed, Size::Small).failure;
                    let failure = kinds_of(mutant).iter().find_map(run);
                    if let Some(failure) = failure.filter(|_| !dirty.contains_key(&seed)) {
                        first_found.fetch_min(seed, Ordering::Relaxed);
                        found.lock().expect("no thread panics while it holds it").insert(seed, failure);
                    }
                }
            });
        }
    });
    plant(None);
    let found = found.into_inner().expect("no thread panics while it holds it");
    let first = found.first_key_value();
    let until_first = first.map(|(seed, _)| seed - options.first + 1);
    let words = |(seed, failure): (&u64, &Failure)| {
        let first_line = failure.message.lines().next().unwrap_or_default();
        format!("seed {seed}, {}: {first_line}", failure.place)
    };
    // A seed that was given out and not run counts for nothing.
    let given_out = next.into_inner() - options.first - jobs as u64;
    Proof {
        mutant,
        ran: given_out.min(most),
        found: found.iter().map(|(seed, failure)| (*seed, checks::name_of(failure))).collect(),
        words: found.iter().map(words).collect(),
        until_first,
        took: begin.elapsed(),
    }
}
