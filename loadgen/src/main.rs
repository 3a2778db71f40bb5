//! The command `dunlin-loadgen`: how fast a node is, counted at whoever receives.
//!
//! In:    a mode and, unless `--self` starts one, the URI of a far side (`dunlin-loadgen far`).
//! Out:   figures for people, JSON, HdrHistogram's formats, a page with charts; an exit code.
//! Holds: each process stays on its cores, its shards and its application threads together; whatever was found before
//!        something went wrong is told, and marked as partial.

mod far;
mod handshakes;
mod host;
mod interrupt;
mod latency;
mod ledger;
mod live;
mod machine;
mod measure;
mod messages;
mod near;
mod options;
mod paced;
mod plan;
mod rally;
mod recorder;
mod report;
mod throughput;
mod writing;

use std::process::ExitCode;

use clap::Parser;

use crate::options::{Command, Options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever went wrong, in one line for people.
type Fault = Box<dyn std::error::Error + Send + Sync>;

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
        _ => {
            interrupt::listen();
            measure::run(options)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
