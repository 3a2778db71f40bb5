//! `cargo sim`: runs swarms, one seed or many, and says what broke.
//!
//! In:    options.
//! Out:   a progress bar, a summary, the coverage table; for each failure the command that shows it again. Exit code 0: all went
//!        well; 1: something broke, or nothing produced what some seed must; 2: the command was wrong.

mod crowd;
mod report;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use dunlin_tests::swarm::{self, Cut, Kind, Size};

/// Runs the simulator: production shards in virtual time, everything that can befall them, then peace.
#[derive(Debug, Parser)]
#[command(name = "cargo sim", version, about)]
struct Options {
    /// chaos: sessions and messages; rumours; values: registers, leases and what owners put.
    #[arg(long = "of", value_name = "KIND", default_value_t = Kind::Chaos)]
    kind: Kind,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many at once [default: one for each core].
    #[arg(long)]
    jobs: Option<usize>,
    /// small: 8 to 32 nodes; medium: 128; large: 1,000.
    #[arg(long, default_value_t = Size::Small)]
    size: Size,
    /// Only a part of the plan, as a shrunk failure prints it: nodes=0,3/talks=1/faults=/chaos=4000.
    #[arg(long, value_name = "PART")]
    only: Option<Cut>,
    /// Prints the plan and does not run it.
    #[arg(long)]
    plan: bool,
    /// Cuts the first failure down to what is enough for it.
    #[arg(long)]
    shrink: bool,
    /// The coverage must be complete: what no seed produced is a failure.
    #[arg(long)]
    coverage: bool,
    /// Stops at the first failure.
    #[arg(long)]
    stop: bool,
    /// Prints one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let is_planned = options.only.is_some() || options.plan || options.shrink || options.coverage;
    if options.kind != Kind::Chaos && (is_planned || options.size != Size::Small) {
        let message = format!("--of {}: only chaos has plans, sizes and coverage", options.kind);
        Options::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let cut = options.only.clone().unwrap_or_default();
    if options.plan {
        for seed in options.first..options.first + options.seeds {
            print!("{}", swarm::draw(seed, options.size).keep(&cut));
        }
        return ExitCode::SUCCESS;
    }
    let outcome = crowd::run(&options, &cut);
    let shrunk = outcome.failures.first().filter(|_| options.shrink).map(|(seed, failure)| {
        let plan = swarm::draw(*seed, options.size);
        let smaller = swarm::shrink(&plan, failure);
        (*seed, plan.keep(&smaller), smaller)
    });
    if options.json {
        report::json(&options, &outcome, shrunk.as_ref());
    } else {
        report::text(&options, &outcome, shrunk.as_ref());
    }
    let is_incomplete = options.coverage && !outcome.table.missing().is_empty();
    ExitCode::from(u8::from(!outcome.failures.is_empty() || is_incomplete))
}
