//! How fast one core verifies rumours and carries them on, sockets left out, beside bare verifying in the same run; and how
//! fast it refuses copies.
//!
//! In:    rumours of a round, rounds, links that take them.
//! Out:   of each round and in the middle: rumours a second, bare signatures a second, their relation; copies refused a second.
//!
//! `cargo run --release -p dunlin-bench --bin rumours -- [--count N] [--rounds N] [--links N] [--limited]`

use std::process::ExitCode;

use clap::Parser;
use dunlin_bench::rumours::Rumours;
use dunlin_shards::gossip::RumourLimits;

/// Rumours carried on by one core.
#[derive(Parser)]
struct Arguments {
    /// Rumours of a round.
    #[arg(long, default_value_t = 20_000)]
    count: usize,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Links that each goes to.
    #[arg(long, default_value_t = 8)]
    links: u8,
    /// With the limits that a node has by default.
    #[arg(long)]
    limited: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let limits = if arguments.limited { RumourLimits::default() } else { RumourLimits::UNLIMITED };
    let mut rumours = Rumours::connect(arguments.links, limits);
    rumours.run(arguments.count / 10, 1);
    let mut shares = Vec::new();
    let mut refusals = Vec::new();
    for _ in 0..arguments.rounds {
        let (fresh, copies) = rumours.run(arguments.count, 10);
        let rate = |count: u64, seconds: f64| count as f64 / seconds;
        let taken = rate(fresh.taken, fresh.time.as_secs_f64());
        let bare = rate(arguments.count as u64, fresh.bare.as_secs_f64());
        let refused = rate(copies.duplicates, copies.time.as_secs_f64());
        println!(
            "{taken:.0} rumours a second of {} taken, {} copies carried on; bare {bare:.0}: {:.1} %; {refused:.0} copies refused a second",
            fresh.taken,
            fresh.carried,
            100.0 * taken / bare,
        );
        shares.push(100.0 * taken / bare);
        refusals.push(refused);
    }
    shares.sort_by(f64::total_cmp);
    refusals.sort_by(f64::total_cmp);
    let middle = arguments.rounds / 2;
    println!(
        "in the middle: {:.1} % of bare verifying, {:.0} copies refused a second",
        shares[middle], refusals[middle]
    );
    ExitCode::SUCCESS
}
