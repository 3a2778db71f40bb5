//! What sharding costs: instructions of a node's shards for the same traffic, with one shard and with more.
//!
//! In:    valgrind; how many sessions and messages.
//! Out:   instructions of all shards and of the busiest one, letters between shards, the speed-up where cores allow it.
//! Holds: the traffic is the same for every number of shards, and time is virtual, so that the same program counts the same.
//!
//! `cargo run --release -p dunlin-bench --bin scaling`. The method: so many callers open a session each with one node, in memory,
//! through the production shards, and then send it messages that it sends back. Callgrind counts what the node's shards execute,
//! the rings between them included, each phase by itself; callers do not count, nor do sockets, which a shard has of its own.
//! Steering is the placement's own, as the kernel's program has it, so that messages need no letter; a handshake does:
//! the directory and the reset tokens are spread over all shards.
//!
//! speed-up  = instructions of 1 shard / instructions of the busiest of n, both for all the traffic. With few sessions a shard
//!             the busiest one has more of them than its part, and this is mostly what is lost.
//! work      = instructions of all n shards / instructions of 1 shard: what sharding itself adds.
//! at 10,000 = n / (work x sessions of the busiest shard as a multiple of the mean, with 10,000 sessions placed).
//!
//! Instructions are not time: caches, memory and the kernel's part, which each core has of its own, are left out.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use dunlin_bench::callgrind;
use dunlin_bench::hub::{Crowd, Hub, Phase, Work, imbalance};

/// Sessions that the last column is for.
const MANY: usize = 10_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Part {
    /// Sessions are opened.
    Handshakes,
    /// Messages of 1 KiB there and back.
    Messages,
}

impl Part {
    const fn phase(self) -> Phase {
        match self {
            Self::Handshakes => Phase::Handshakes,
            Self::Messages => Phase::Messages,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }
}

#[derive(Debug, Parser)]
#[command(about = "Instructions of one shard and of many for the same traffic")]
struct Args {
    /// Sessions.
    #[arg(long, default_value_t = 256)]
    callers: usize,
    /// Messages of each session, there and back.
    #[arg(long, default_value_t = 20)]
    messages: usize,
    /// Numbers of shards beside one.
    #[arg(long, value_delimiter = ',', default_value = "2,64")]
    shards: Vec<usize>,
    /// Runs one part and counts nothing: what callgrind is given.
    #[arg(long, value_enum, hide = true)]
    run: Option<Part>,
    /// The one shard whose work is counted instead of all.
    #[arg(long, hide = true)]
    only: Option<usize>,
}

impl Args {
    fn crowd(&self, shards: usize) -> Crowd {
        Crowd { shards, callers: self.callers, messages: self.messages }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let shards = args.shards.first().copied().unwrap_or(1);
    if let Some(part) = args.run {
        let counted = args.only.map_or(0..shards, |only| only..only + 1);
        let work = Hub::new(args.crowd(shards)).run(part.phase(), counted);
        println!("units {}", work.datagrams.iter().sum::<u64>());
        return ExitCode::SUCCESS;
    }
    if let Err(why) = callgrind::version() {
        println!("SKIPPED valgrind: instructions are not counted: {why}");
        return ExitCode::SUCCESS;
    }
    match compare(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("scaling: {why}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<(), String> {
    println!("{} sessions, {} messages of 1 KiB each, there and back", args.callers, args.messages);
    println!(
        "{:<12} {:>6} {:>14} {:>14} {:>9} {:>8} {:>7} {:>9} {:>10}",
        "traffic", "shards", "all", "busiest", "datagrams", "letters", "work", "speed-up", "at 10,000"
    );
    for part in Part::value_variants() {
        let one = count(args, (*part, 1), None)?;
        for shards in [1].iter().chain(&args.shards) {
            let work = Hub::new(args.crowd(*shards)).run(part.phase(), 0..0);
            let (all, busiest) = match *shards {
                1 => (one, one),
                shards => {
                    (count(args, (*part, shards), None)?, count(args, (*part, shards), Some(busiest(&work)))?)
                }
            };
            let added = all as f64 / one as f64;
            let (speed_up, at_many) =
                (one as f64 / busiest as f64, *shards as f64 / (added * imbalance(*shards, MANY)));
            println!(
                "{:<12} {shards:>6} {all:>14} {busiest:>14} {:>9} {:>8} {added:>7.3} {speed_up:>9.2} {at_many:>10.2}",
                part.name(),
                work.datagrams.iter().sum::<u64>(),
                work.letters,
            );
        }
    }
    Ok(())
}

/// The shard that took in the most datagrams.
fn busiest(work: &Work) -> usize {
    (0..work.datagrams.len()).max_by_key(|index| work.datagrams[*index]).unwrap_or(0)
}

/// Instructions of all shards, or of one of them.
fn count(args: &Args, (part, shards): (Part, usize), only: Option<usize>) -> Result<u64, String> {
    let mut arguments = vec!["--run".to_owned(), part.name()];
    arguments.extend(["--shards".to_owned(), shards.to_string()]);
    arguments.extend(["--callers".to_owned(), args.callers.to_string()]);
    arguments.extend(["--messages".to_owned(), args.messages.to_string()]);
    arguments.extend(only.into_iter().flat_map(|only| ["--only".to_owned(), only.to_string()]));
    let (instructions, _) = callgrind::count(&["*hub*step_counted*"], &arguments)?;
    match instructions {
        0 => Err("callgrind did not find the function: was this built without symbols?".to_owned()),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_shard_is_the_one_with_the_most_datagrams() {
        assert_eq!(busiest(&Work { datagrams: vec![3, 9, 4], ..Work::default() }), 1);
        assert_eq!(busiest(&Work::default()), 0);
    }

    #[test]
    fn both_parts_run() {
        for part in Part::value_variants() {
            let work = Hub::new(Crowd { shards: 2, callers: 6, messages: 2 }).run(part.phase(), 1..2);
            assert!(work.datagrams.iter().sum::<u64>() > 0, "{part:?}");
        }
    }
}
