//! The command `dunlin-loadgen`: how fast a node is, counted at whoever receives.
//!
//! In:    a mode and, unless `--self` starts one, the URI of a far side (`dunlin-loadgen far`).
//! Out:   figures for people, or JSON.
//! Holds: each process stays on one core, its shard and its application threads together.

mod far;
mod handshakes;
mod latency;
mod ledger;
mod messages;
mod near;
mod options;
mod rally;
mod report;
mod throughput;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::near::Near;
use crate::options::{Command, Options};
use crate::report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever went wrong, in one line for people.
type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("dunlin-loadgen: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Fault> {
    let near_options = match &options.command {
        Command::Far(far) => return far::run(&options.node, far),
        Command::Throughput { near, .. } | Command::Messages { near, .. } => near,
        Command::Latency { near, .. } | Command::Handshakes { near, .. } | Command::Idle { near } => near,
    };
    let mut near = Near::start(&options.node, near_options)?;
    let seconds = Duration::from_secs_f64(near_options.seconds);
    let mut report = Report::new(&options.node, &near);
    match &options.command {
        Command::Throughput { size, .. } => {
            throughput::run(&mut near, "throughput", *size, seconds, &mut report)?
        }
        Command::Messages { size, .. } => {
            throughput::run(&mut near, "messages", *size, seconds, &mut report)?
        }
        Command::Latency { over, size, .. } => latency::run(&mut near, over, *size, seconds, &mut report)?,
        Command::Handshakes { rounds, zero_rtt, .. } => {
            handshakes::run(&mut near, *rounds, *zero_rtt, &mut report)?;
        }
        Command::Idle { .. } => throughput::idle(&mut near, seconds, &mut report)?,
        Command::Far(_) => {}
    }
    report.print(near_options.json);
    Ok(())
}
