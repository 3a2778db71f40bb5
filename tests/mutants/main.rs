//! `cargo planted`: plants one bug after another in the shards and counts the seeds of the swarm that find it.
//!
//! In:    options.
//! Out:   a table: for each bug how many seeds it took, in how many of them it was found, and by which checks. Exit code 0: all were
//!        found, each check found one, and the code without a bug is clean; 1: not so; 2: the command was wrong.
//! Holds: a bug that survives shows a hole in the swarm. It is the swarm that is mended then, never this table.

mod checks;
mod proof;
mod table;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;
use dunlin_shards::mutants::Mutant;

/// Plants bugs in the shards, one after another, and lets the swarm find them.
#[derive(Debug, Parser)]
#[command(name = "cargo planted", version, about)]
struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// A bug that so many seeds do not find has survived.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// So many seeds are run in any case, to see in how many a bug is found.
    #[arg(long, default_value_t = 100)]
    sample: u64,
    /// Only these bugs, by name.
    #[arg(long, value_name = "NAME", value_parser = named)]
    only: Vec<Mutant>,
    /// How many seeds at once [default: one for each core].
    #[arg(long)]
    jobs: Option<usize>,
    /// Lists the bugs and plants none.
    #[arg(long)]
    list: bool,
}

fn named(name: &str) -> Result<Mutant, String> {
    let found = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
    found.copied().ok_or_else(|| format!("no bug is called {name}: --list names them"))
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for mutant in Mutant::ALL {
            println!("{:28} {}", mutant.name(), mutant.sentence());
        }
        return ExitCode::SUCCESS;
    }
    let planted = if options.only.is_empty() { Mutant::ALL } else { &options.only };
    let control = proof::run(None, &options, &BTreeMap::new());
    table::print_control(&control);
    let mut proofs = Vec::new();
    for mutant in planted {
        let proof = proof::run(Some(*mutant), &options, &control.found);
        table::print_row(&proof);
        proofs.push(proof);
    }
    let is_sound = table::print_summary(&control, &proofs, options.only.is_empty());
    ExitCode::from(u8::from(!is_sound))
}
