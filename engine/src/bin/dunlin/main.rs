//! The command `dunlin`: a node, its key, and what people do with other nodes.
//!
//! In:    arguments, the environment, a configuration file; signals.
//! Out:   results on standard output, the log on standard error.
//! Holds: it ends with 0 when it did what was asked, 2 when it was asked wrongly, 1 otherwise; an error is one line.

mod admin;
mod configuration;
mod dht;
mod durations;
mod failure;
mod flags;
mod journal;
mod key;
mod listen;
mod node;
mod output;
mod ping;
mod progress;
mod receive;
mod say;
mod send;
mod shout;
mod signals;
mod status;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dunlin::control::Command as Asked;

use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A peer-to-peer datagram engine: one UDP port, one shard per core.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node and prints its address
    Node(node::Arguments),
    /// Says how a running node is
    Status(status::Arguments),
    /// Says something to a node, through the running one
    Speak(say::Arguments),
    /// Says something to a node alone, through the running one
    Whisper(say::Arguments),
    /// Says something to everybody in the network, 8 KiB at most, through the running node
    Shout(say::Saying),
    /// Shows what others say to the running node, or to everybody
    Listen(listen::Arguments),
    /// Keeps, reads, changes and locks values of the network, and finds its nodes, through the running one
    #[command(subcommand)]
    Dht(dht::Command),
    /// Makes or shows the key that is a node's address
    #[command(subcommand)]
    Key(key::Command),
    /// Measures round trips to a node
    Ping(ping::Arguments),
    /// Sends files to a node that receives them; what was broken off goes on where it stopped
    Send(send::Arguments),
    /// Runs a node that takes files into a folder
    Receive(receive::Arguments),
    /// Shows or checks the configuration
    #[command(subcommand)]
    Config(configuration::Command),
}

fn main() -> ExitCode {
    dunlin::runtime::prepare();
    let command = Arguments::parse().command;
    // Without it everything works; secrets may then end up in core files. What asks a running node has none, and may run a command
    // whose core files are not ours to forbid.
    let guarded = match command {
        Command::Dht(_) => Ok(()),
        _ => dunlin::keyfile::guard_process(),
    };
    let done = match command {
        Command::Node(arguments) => node::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Speak(arguments) => say::run(&arguments, Asked::Speak),
        Command::Whisper(arguments) => say::run(&arguments, Asked::Whisper),
        Command::Shout(saying) => shout::run(&saying),
        Command::Listen(arguments) => listen::run(&arguments),
        Command::Dht(command) => dht::run(&command),
        Command::Key(command) => key::run(&command),
        Command::Ping(arguments) => ping::run(&arguments),
        Command::Send(arguments) => send::run(&arguments),
        Command::Receive(arguments) => receive::run(&arguments),
        Command::Config(command) => configuration::run(&command),
    };
    if let Err(error) = guarded {
        tracing::debug!("secrets may end up in core files: {error}");
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What every command comes to.
type Done = Result<(), Failure>;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_commands_fit_together() {
        super::Arguments::command().debug_assert();
    }
}
