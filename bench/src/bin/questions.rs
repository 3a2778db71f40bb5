//! How fast one core answers FIND_NODE, sockets left out: sessions, encryption, the table and the messages are in it.
//!
//! In:    rounds, nodes of the table.
//! Out:   answers a second of the answering core, and what each takes.
//!
//! `cargo run --release -p dunlin-bench --bin questions -- [--rounds N] [--nodes N]`; under `valgrind --tool=callgrind
//! --toggle-collect='*step_answer*'` the same run counts instructions.

use std::process::ExitCode;

use clap::Parser;
use dunlin_bench::questions::Questions;

/// FIND_NODE answered by one core.
#[derive(Parser)]
struct Arguments {
    /// Rounds of 100 us of virtual time.
    #[arg(long, default_value_t = 20_000)]
    rounds: u64,
    /// Nodes that the answering one has met.
    #[arg(long, default_value_t = 1_000)]
    nodes: u16,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut questions = Questions::connect(arguments.nodes);
    questions.run(arguments.rounds / 10);
    let answered = questions.run(arguments.rounds);
    let seconds = answered.time.as_secs_f64();
    let each = |sum: f64| sum / answered.answers.max(1) as f64;
    println!(
        "{} answers of {:.1} nodes in {seconds:.3} s of the answering core: {:.0} a second, {:.0} ns each",
        answered.answers,
        each(answered.nodes as f64),
        answered.answers as f64 / seconds,
        each(1e9 * seconds),
    );
    ExitCode::SUCCESS
}
