//! The same work by Dunlin and by other transports, in alternating rounds, each side in a process of its own on a core of its own.
//!
//! `cargo run --release --manifest-path bench/peers/Cargo.toml -- [--rounds N] [--only a,b] [--work bulk,latency] …`
//!
//! In:    the command line.
//! Out:   one Markdown table per work on standard output, and in the files that were asked for; progress on standard error.
//!        Exit codes: 0, all was measured; 1, some of it failed, and is named in its table; 2, the command line is wrong.
//! Holds: every peer is measured by the same code, pinned alike, and counted where the data reaches the application.
//!
//! The JSON: `{ machine: {..}, others: {cores, stolen}, settings: {seconds, rounds, server_core, client_core}, peers: [{name, version, encryption, settings}],
//! works: [{work, title, columns: [{key, title, is_more_better}], lines: [{name, peer, way, rounds: [{figures: [..]} or
//! {failed: ".."}], median: [..] or null, ratio: number or null}]}] }`; `figures` and `median` are in the order of
//! `columns`, and `ratio` is how many times better Dunlin's first line is than this one in the first column, as the median
//! of what it was in each round.

mod certificate;
mod gauge;
mod job;
mod json;
mod load;
mod machine;
mod pair;
mod peers;
mod report;
mod rounds;
mod versions;
mod works;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::gauge::{Gauge, Said};
use crate::job::{Job, Peer};
use crate::pair::Cores;
use crate::rounds::Plan;
use crate::works::Kind;

/// All peers live in one binary, so they share an allocator; it is the one that Dunlin's own binary has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why something did not work.
type Fault = Box<dyn Error + Send + Sync>;

/// The same work by Dunlin and by other transports, in alternating rounds.
#[derive(Debug, Parser)]
#[command(name = "peers", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Role>,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// How often each work is done by each peer.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each is measured, after a warm-up.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// These peers alone.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// These works alone.
    #[arg(long, value_enum, value_delimiter = ',')]
    work: Vec<Kind>,
    /// Connections of the memory work, which is done in the first round alone.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Where the tables go as well.
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,
    /// Where every figure of every round goes.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum Role {
    /// One side of a pair; started by this program itself.
    #[command(hide = true)]
    Child {
        #[arg(value_enum)]
        side: Side,
        #[arg(long)]
        core: usize,
        #[arg(long)]
        job: String,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Side {
    Serve,
    Call,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    match (0.05..=600.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("not between 0.05 and 600".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Role::Child { side, core, job }) => child(side, core, &job).map(|()| true),
        None => measure(&arguments.options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("peers: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// True: everything was measured.
fn measure(options: &Options) -> Result<bool, Fault> {
    let kinds = match options.work.is_empty() {
        true => <Kind as clap::ValueEnum>::value_variants(),
        false => &options.work,
    };
    let plan = Plan {
        works: kinds.iter().flat_map(|kind| kind.works(options.connections as usize)).collect(),
        only: options.only.clone(),
        rounds: options.rounds as usize,
        span: Duration::from_secs_f64(options.seconds),
        cores: cores()?,
    };
    let (machine, before) = (machine::Machine::now(), machine::Usage::now());
    let tables = rounds::run(&plan);
    let others = before.others_until(&machine::Usage::now());
    let report = report::Report { plan: &plan, tables: &tables, machine: &machine, others };
    let text = report.markdown();
    print!("{text}");
    if let Some(path) = &options.json {
        let written = std::fs::write(path, json::write(&report)?);
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if let Some(path) = &options.md {
        std::fs::write(path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(tables.iter().all(rounds::Table::is_whole))
}

/// The first two cores that we may use: the server's and the client's.
fn cores() -> Result<Cores, Fault> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    match (cores.next(), cores.next()) {
        (Some(server), Some(client)) => Ok(Cores { server, client }),
        _ => Err("two cores are needed, one for each side".into()),
    }
}

/// One side; comes back only when something has gone wrong.
fn child(side: Side, core: usize, job: &str) -> Result<(), Fault> {
    let job: Job = serde_json::from_str(job)?;
    let mut set = CpuSet::new();
    set.set(core);
    // Before any other thread starts: they inherit it.
    sched_setaffinity(None, &set)?;
    allow_files();
    let gauge = Gauge::start()?;
    let done = match side {
        Side::Serve => peers::serve(&job, gauge),
        Side::Call => peers::call(&job, gauge),
    };
    let why = done.map_or_else(|fault| fault.to_string(), |()| "it came to an end".to_owned());
    gauge.say(&Said::Failed(why.clone()));
    Err(why.into())
}

/// Some peers have a socket per connection.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // With fewer, the work that needs more says so.
    let _ = setrlimit(Resource::Nofile, wanted);
}
