//! Instructions of the socket-free hot paths, counted by callgrind, against a stored table.
//!
//! In:    `bench/counts.txt`; valgrind.
//! Out:   each path's count, the stored one and the difference; with `--write` the table is written anew.
//! Holds: every path runs twice, once twice as long: the difference holds no start-up. Time is virtual, so that the same
//!        program counts the same.
//!
//! `cargo run --release -p dunlin-bench --bin counts`. A person judges: another compiler counts differently.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};
use dunlin_bench::callgrind;
use dunlin_bench::pair::{Costs, Pair, Shape};
use dunlin_codec::ids::PacketNumber;
use dunlin_codec::sealed::HEADER_LEN;
use dunlin_codec::suite::{Suite, TAG_LEN};
use dunlin_shards::session::aws_lc::{AwsLc, AwsLcKey};
use dunlin_shards::session::crypto::{Crypto, PacketKey};

/// Bytes of a packet's frames when it alone is sealed or opened.
const PLAIN_LEN: usize = 1_176;
/// The instructions that cryptography looks for. Under valgrind the processor has fewer than bare.
const FEATURES: [&str; 5] = ["aes", "pclmulqdq", "avx2", "vaes", "avx512f"];

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Count {
    /// One packet is sealed.
    Seal,
    /// One packet is opened.
    Open,
    /// One datagram with data is taken in by a shard: found, opened, put into its message.
    Accept,
    /// One train of bulk data is built by a shard: written and sealed.
    Build,
    /// One acknowledgement is taken in by the shard that sent the data.
    Acknowledge,
    /// One IK handshake, everything that both shards do until both have the session.
    Handshake,
}

impl Count {
    /// What the sum is divided by.
    const fn unit(self) -> &'static str {
        match self {
            Self::Seal => "packet of 1,200 bytes, AES-256-GCM",
            Self::Open => "packet of 1,200 bytes, AES-256-GCM",
            Self::Accept => "datagram of bulk data, opening included",
            Self::Build => "train of bulk data, sealing included",
            Self::Acknowledge => "datagram that acknowledges one train, opening included",
            Self::Handshake => "IK handshake, both sides",
        }
    }

    /// The functions whose instructions count, with all that they call.
    const fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Seal => &["*counts*step_seal*"],
            Self::Open => &["*counts*step_open*"],
            Self::Accept => &["*pair*step_accept*"],
            Self::Build => &["*pair*step_build*"],
            Self::Acknowledge => &["*pair*step_settle*"],
            Self::Handshake => &[
                "*pair*step_call*",
                "*pair*step_build*",
                "*pair*step_accept*",
                "*pair*step_answer*",
                "*pair*step_settle*",
            ],
        }
    }

    /// Rounds of the shorter run.
    const fn rounds(self) -> u64 {
        match self {
            Self::Seal | Self::Open => 2_000,
            Self::Accept | Self::Build | Self::Acknowledge => 8_000,
            Self::Handshake => 20,
        }
    }
}

#[derive(Debug, Parser)]
#[command(about = "Instructions of the hot paths, against bench/counts.txt")]
struct Args {
    /// Replaces the stored table.
    #[arg(long)]
    write: bool,
    /// Runs one path and counts nothing: what callgrind is given.
    #[arg(long, value_enum, hide = true)]
    run: Option<Count>,
    /// How long.
    #[arg(long, default_value_t = 1, hide = true)]
    rounds: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(count) = args.run {
        println!("units {}", run(count, args.rounds));
        return ExitCode::SUCCESS;
    }
    match callgrind::version() {
        Ok(version) => compare(&version, args.write),
        Err(why) => {
            println!("SKIPPED valgrind: instructions are not counted: {why}");
            ExitCode::SUCCESS
        }
    }
}

/// Counts every path, prints it beside the stored table, and replaces that when it is to be written.
fn compare(version: &str, is_written: bool) -> ExitCode {
    let stored = std::fs::read_to_string(table_path()).unwrap_or_default();
    let mut table = header(version);
    println!("{:<12} {:>12} {:>12} {:>8}", "path", "stored", "now", "change");
    for count in Count::value_variants() {
        let now = match measure(*count) {
            Ok(now) => now,
            Err(why) => {
                eprintln!("{} cannot be counted: {why}", name_of(*count));
                return ExitCode::FAILURE;
            }
        };
        let before = stored_count(&stored, &name_of(*count));
        let change = before.map_or("new".to_owned(), |before| format!("{:+.2} %", change(before, now)));
        let before = before.map_or("-".to_owned(), |before| before.to_string());
        println!("{:<12} {before:>12} {now:>12} {change:>8}  a {}", name_of(*count), count.unit());
        table.push_str(&format!("{:<12} {now:>9}  {}\n", name_of(*count), count.unit()));
    }
    let conditions = |text: &str| text.lines().nth(1).unwrap_or("nothing").to_owned();
    if conditions(&stored) != conditions(&table) {
        println!("the stored table was counted with other tools:\n  {}", conditions(&stored));
        println!("  {}", conditions(&table));
    }
    if is_written {
        std::fs::write(table_path(), table).expect("the repository can be written to");
    }
    ExitCode::SUCCESS
}

fn table_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.txt")
}

fn name_of(count: Count) -> String {
    count.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
}

fn change(before: u64, now: u64) -> f64 {
    (now as f64 - before as f64) / before as f64 * 100.0
}

/// Two lines: what the table is, and what it was counted with.
fn header(valgrind: &str) -> String {
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map_or_else(|_| "rustc unknown".into(), |output| output.stdout);
    let rustc = String::from_utf8_lossy(&rustc).trim().to_owned();
    let features = callgrind::run_under("none", &[], &arguments(Count::Seal, 1))
        .ok()
        .and_then(|output| output.lines().find_map(|line| line.strip_prefix("features ").map(str::to_owned)));
    let features = features.unwrap_or_else(|| "unknown instructions".to_owned());
    format!(
        "# Instructions a unit; `cargo run --release -p dunlin-bench --bin counts` compares, with `-- --write` replaces.\n\
         # {rustc}, {valgrind}, with {features}\n"
    )
}

fn stored_count(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Instructions of one unit: of the longer run less those of the shorter one.
fn measure(count: Count) -> Result<u64, String> {
    let short = counted(count, count.rounds())?;
    let long = counted(count, 2 * count.rounds())?;
    let units = long.1.checked_sub(short.1).filter(|units| *units > 0).ok_or("the longer run did no more")?;
    let instructions = long.0.checked_sub(short.0).ok_or("the longer run took fewer instructions")?;
    if instructions == 0 {
        return Err("callgrind did not find the functions: was this built without symbols?".to_owned());
    }
    Ok((instructions + units / 2) / units)
}

/// Instructions and units of one run.
fn counted(count: Count, rounds: u64) -> Result<(u64, u64), String> {
    let (instructions, output) = callgrind::count(count.functions(), &arguments(count, rounds))?;
    Ok((instructions, callgrind::number_behind(&output, "units ").ok_or("the run says nothing")?))
}

/// What makes this program run one path.
fn arguments(count: Count, rounds: u64) -> Vec<String> {
    ["--run", &name_of(count), "--rounds", &rounds.to_string()].map(str::to_owned).to_vec()
}

/// Does the work and says how many units it was.
fn run(count: Count, rounds: u64) -> u64 {
    let features: Vec<&str> = FEATURES.into_iter().filter(|feature| has_feature(feature)).collect();
    println!("features {}", if features.is_empty() { "none of ours".to_owned() } else { features.join(" ") });
    match count {
        Count::Seal => run_seal(rounds),
        Count::Open => run_open(rounds),
        Count::Accept | Count::Build | Count::Acknowledge => run_pair(count, rounds),
        Count::Handshake => {
            let shape = Shape { trains: 4, ..Shape::default() };
            for _ in 0..rounds {
                drop(Pair::<AwsLc>::introduce(shape));
            }
            rounds
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_feature(feature: &str) -> bool {
    match feature {
        "aes" => std::arch::is_x86_feature_detected!("aes"),
        "pclmulqdq" => std::arch::is_x86_feature_detected!("pclmulqdq"),
        "avx2" => std::arch::is_x86_feature_detected!("avx2"),
        "vaes" => std::arch::is_x86_feature_detected!("vaes"),
        _ => std::arch::is_x86_feature_detected!("avx512f"),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has_feature(_: &str) -> bool {
    false
}

#[inline(never)]
fn step_seal(key: &AwsLcKey, number: u64, packet: &mut [u8]) -> [u8; TAG_LEN] {
    key.seal(PacketNumber(number), &[0x80; HEADER_LEN], packet)
}

#[inline(never)]
fn step_open(key: &AwsLcKey, number: u64, packet: &mut [u8]) -> bool {
    key.open(PacketNumber(number), &[0x80; HEADER_LEN], packet).is_ok()
}

fn run_seal(rounds: u64) -> u64 {
    let key = AwsLc::key(Suite::AesGcm, &[7; 32]);
    let mut packet = [5; PLAIN_LEN];
    let mut sum = 0_u64;
    for number in 0..rounds {
        sum += u64::from(step_seal(&key, number, &mut packet)[0]);
    }
    assert!(sum > 0, "tags are not all zero");
    rounds
}

fn run_open(rounds: u64) -> u64 {
    let key = AwsLc::key(Suite::AesGcm, &[7; 32]);
    let mut packet = [5; PLAIN_LEN + TAG_LEN];
    let tag = key.seal(PacketNumber(1), &[0x80; HEADER_LEN], &mut packet[..PLAIN_LEN]);
    packet[PLAIN_LEN..].copy_from_slice(&tag);
    for _ in 0..rounds {
        let mut copy = packet;
        assert!(step_open(&key, 1, &mut copy), "it was sealed so");
    }
    rounds
}

/// Bulk data from one shard to another until so many datagrams were sent.
fn run_pair(count: Count, datagrams: u64) -> u64 {
    let mut shape = Shape::default();
    if count == Count::Acknowledge {
        // With one train a round, each is acknowledged by itself.
        shape.trains = 1;
    }
    let mut pair = Pair::<AwsLc>::connect(shape);
    pair.run(datagrams, &mut Costs::default());
    let [near, far] = pair.stats();
    assert_eq!((near.packets_lost, far.drops_total()), (0, 0), "nothing is lost in memory");
    match count {
        Count::Accept => far.datagrams_in,
        Count::Build => near.trains_out,
        _ => near.datagrams_in,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_by_name() {
        let table = "# about\n# tools\nseal  1200  a packet\nopen-all 7 x\n";
        assert_eq!(stored_count(table, "seal"), Some(1_200));
        assert_eq!((stored_count(table, "open"), stored_count(table, "#")), (None, None));
        assert!((change(200, 201) - 0.5).abs() < 1e-9);
    }

    /// Every path does twice as much when it is told to, or the difference would mean nothing.
    #[test]
    fn every_path_runs_and_counts_its_units() {
        for count in Count::value_variants() {
            let rounds = if *count == Count::Handshake { 2 } else { 2_000 };
            let (short, long) = (run(*count, rounds), run(*count, 2 * rounds));
            assert!(short > 0 && long > short, "{count:?}: {short}, {long}");
        }
    }

    #[test]
    fn every_path_is_in_the_stored_table() {
        let stored = std::fs::read_to_string(table_path()).unwrap();
        for count in Count::value_variants() {
            assert!(stored_count(&stored, &name_of(*count)).is_some_and(|it| it > 0), "{count:?}");
        }
    }
}
