//! The hot paths without sockets, for profilers: two shards in memory, nanoseconds per datagram of each side.
//!
//! `cargo run --release -p dunlin-bench --bin paths -- bulk`, or under `perf record` or `valgrind --tool=callgrind`
//! with a smaller `--datagrams`.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use dunlin_bench::pair::{Costs, Pair, Shape};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::counting::Counting;
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::stats::Stats;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Path {
    /// Reliable messages of 64 KiB.
    Bulk,
    /// Reliable messages of 64 bytes.
    Small,
    /// Unreliable messages of 64 bytes.
    Loose,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sealing {
    /// AES-256-GCM by aws-lc-rs.
    Aes,
    /// The simulator's stand-in, which does not encrypt: what is left is our own code.
    Counting,
}

#[derive(Debug, Parser)]
#[command(about = "What each side of a session costs without sockets, in ns per datagram")]
struct Args {
    /// What travels; all of them when nothing is said.
    path: Option<Path>,
    /// Datagrams sent before the clock runs.
    #[arg(long, default_value_t = 200_000)]
    warm_up: u64,
    /// Datagrams measured in each round.
    #[arg(long, default_value_t = 2_000_000)]
    datagrams: u64,
    /// Rounds; the best one is printed, and the worst one's total.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of the largest datagram.
    #[arg(long, default_value_t = 1_200)]
    datagram: usize,
    /// Bytes of a message, when not the path's own.
    #[arg(long)]
    size: Option<usize>,
    /// Trains in one turn.
    #[arg(long, default_value_t = 32)]
    trains: usize,
    /// Virtual round trip in microseconds.
    #[arg(long, default_value_t = 100)]
    round_trip: u64,
    #[arg(long, value_enum, default_value = "aes")]
    sealing: Sealing,
}

fn main() {
    let args = Args::parse();
    let all = [Path::Bulk, Path::Small, Path::Loose];
    let paths = args.path.as_ref().map_or(&all[..], std::slice::from_ref);
    for path in paths {
        match args.sealing {
            Sealing::Aes => measure::<AwsLc>(&args, *path),
            Sealing::Counting => measure::<Counting>(&args, *path),
        }
    }
}

/// One round: what it cost, what was sent, what was answered, how much was taken.
struct Round {
    costs: Costs,
    sent: Counts,
    answered: Counts,
    messages: u64,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Counts {
    trains: u64,
    datagrams: u64,
    lost: u64,
}

impl Counts {
    fn since(stats: &Stats, before: &Stats) -> Self {
        Self {
            trains: stats.trains_out - before.trains_out,
            datagrams: stats.datagrams_out - before.datagrams_out,
            lost: stats.packets_lost - before.packets_lost,
        }
    }
}

impl Round {
    fn worst_side(&self) -> Duration {
        self.costs.sender().max(self.costs.receiver())
    }
}

fn measure<C: Crypto>(args: &Args, path: Path) {
    let message_len = match path {
        Path::Bulk => 64 << 10,
        Path::Small | Path::Loose => 64,
    };
    let shape = Shape {
        message_len: args.size.unwrap_or(message_len),
        datagram_len: args.datagram,
        is_reliable: !matches!(path, Path::Loose),
        trains: args.trains,
        round_trip: Duration::from_micros(args.round_trip),
    };
    let mut pair = Pair::<C>::connect(shape);
    pair.run(args.warm_up, &mut Costs::default());
    let mut rounds: Vec<Round> = (0..args.rounds.max(1)).map(|_| round(&mut pair, args.datagrams)).collect();
    rounds.sort_by_key(Round::worst_side);
    println!("{path:?}: {shape:?}, {:?}", args.sealing);
    print(&rounds[0]);
    let worst = &rounds[rounds.len() - 1];
    let per = |side: Duration| side.as_nanos() as f64 / worst.sent.datagrams as f64;
    println!(
        "  worst round: sender {:.0}, receiver {:.0}",
        per(worst.costs.sender()),
        per(worst.costs.receiver())
    );
}

fn round<C: Crypto>(pair: &mut Pair<C>, datagrams: u64) -> Round {
    let before = pair.stats();
    let (messages, bytes) = (pair.far.taken, pair.far.taken_len);
    let mut costs = Costs::default();
    pair.run(datagrams, &mut costs);
    let after = pair.stats();
    Round {
        costs,
        sent: Counts::since(&after[0], &before[0]),
        answered: Counts::since(&after[1], &before[1]),
        messages: pair.far.taken - messages,
        bytes: pair.far.taken_len - bytes,
    }
}

fn print(round: &Round) {
    let Round { costs, sent, answered, messages, bytes } = round;
    let per = |time: Duration| time.as_nanos() as f64 / sent.datagrams as f64;
    println!(
        "  sender   {:6.0} ns/datagram: push {:.0}, build {:.0}, settle {:.0}, release {:.0}",
        per(costs.sender()),
        per(costs.push),
        per(costs.build),
        per(costs.settle),
        per(costs.release),
    );
    println!(
        "  receiver {:6.0} ns/datagram: accept {:.0}, deliver {:.0}, answer {:.0}",
        per(costs.receiver()),
        per(costs.accept),
        per(costs.deliver),
        per(costs.answer),
    );
    let seconds = round.worst_side().as_secs_f64();
    println!(
        "  one core each: {:.2} Gbit/s, {:.3} M messages/s ({:.0} ns a message to send, {:.0} to receive)",
        *bytes as f64 * 8.0 / seconds / 1e9,
        *messages as f64 / seconds / 1e6,
        costs.sender().as_nanos() as f64 / *messages as f64,
        costs.receiver().as_nanos() as f64 / *messages as f64,
    );
    println!(
        "  {} datagrams in {} trains ({:.1} each), {} answers, {} lost",
        sent.datagrams,
        sent.trains,
        sent.datagrams as f64 / sent.trains as f64,
        answered.datagrams,
        sent.lost,
    );
}
