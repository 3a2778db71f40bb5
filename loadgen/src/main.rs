//! The command `dunlin-loadgen`: how fast a node is, counted at whoever receives.
//!
//! In:    a mode and, unless `--self` starts one, the URI of a far side (`dunlin-loadgen far`).
//! Out:   figures for people, JSON, HdrHistogram's formats, a page with charts; an exit code.
//! Holds: each process stays on its cores, its shards and its application threads together; whatever was found before
//!        something went wrong is told, and marked as partial.

mod ablate;
mod asking;
mod backends;
mod bare;
mod calling;
mod compare;
mod crowd;
mod dht;
mod fanout;
mod far;
mod handshakes;
mod host;
mod interrupt;
mod ladder;
mod latency;
mod ledger;
mod linked;
mod live;
mod machine;
mod measure;
mod messages;
mod near;
mod options;
mod paced;
mod part;
mod plan;
mod questions;
mod rally;
mod recorder;
mod report;
mod rumours;
mod selftest;
mod sessions;
mod shout;
mod soak;
mod spray;
mod talk;
mod throughput;
mod trials;
mod unsealed;
mod writing;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::options::{Command, Options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever went wrong, in one line for people.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The exit code of a comparison that proves nothing.
const NOT_COMPARABLE: u8 = 2;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("dunlin-loadgen: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, Fault> {
    match &options.command {
        Command::Far(far) => far::run(&options.node, far)?,
        Command::Compare { before, after, threshold } => return compare_runs(before, after, *threshold),
        Command::Ablate(ablation) => {
            interrupt::listen();
            ablate::run(&options.node, ablation)?;
        }
        Command::Backends(duel) => {
            interrupt::listen();
            backends::run(&options.node, duel)?;
        }
        Command::Bare(bare) => {
            interrupt::listen();
            bare::run(&options.node, bare)?;
        }
        Command::Selftest { seconds, json } => selftest::run(&options.node, *seconds, json.as_deref())?,
        _ => {
            interrupt::listen();
            measure::run(options)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// 0: nothing is worse; 1: something is; 2: they cannot be compared.
fn compare_runs(before: &Path, after: &Path, threshold: f64) -> Result<ExitCode, Fault> {
    match compare::run(before, after, threshold) {
        Ok(comparison) => {
            writing::say(&comparison.to_text())?;
            Ok(if comparison.is_worse() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Err(fault) => {
            eprintln!("dunlin-loadgen: {fault}");
            Ok(ExitCode::from(NOT_COMPARABLE))
        }
    }
}
