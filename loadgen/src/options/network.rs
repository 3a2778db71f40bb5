//! Of the command line: who takes part in a network, and what is said there.

use std::path::PathBuf;

use clap::Args;

use crate::questions::Op;

/// Who asks, for what, and how much at once.
#[derive(Clone, Debug, Args)]
pub(crate) struct AskingOptions {
    /// What is asked for.
    #[arg(long, value_enum, default_value = "find-node", value_name = "OPERATION")]
    pub(crate) op: Op,
    /// Keys of values that are asked for or stored.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    pub(crate) keys: usize,
    /// Bytes of a value in msgpack.
    #[arg(long, default_value_t = 200, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Where the far side that --self starts keeps values on disk for `--op store`: in a folder of its own, which goes with it.
    #[arg(long, default_value_os_t = std::env::temp_dir(), value_name = "FOLDER")]
    pub(crate) state: PathBuf,
    /// Nodes that ask, each with an identity and a session of its own.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) peers: usize,
    /// Questions of each that are under way; 256 at most.
    #[arg(long, default_value_t = 64, value_name = "COUNT")]
    pub(crate) parallel: usize,
    /// Ports that they share; a target that is not on loopback has one for each.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) ports: usize,
    /// Rounds of questions, and where several ask as many of bare datagrams, alternating.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) rounds: usize,
}

/// Who says something to everybody, and who carries it.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShoutOptions {
    /// Links that bring.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) bringers: usize,
    /// Links that only take what is carried on; a node has at most 32 that others opened, these and those that bring.
    #[arg(long, default_value_t = 8, value_name = "COUNT")]
    pub(crate) links: usize,
    /// Identities that say something, one after the other.
    #[arg(long, default_value_t = 1_024, value_name = "COUNT")]
    pub(crate) origins: usize,
    /// Bytes of what is said, in msgpack.
    #[arg(long, default_value_t = 64, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Rounds of rumours, and as many of verifying alone, alternating.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) rounds: usize,
    /// After each round copies of what was carried on, again and again.
    #[arg(long)]
    pub(crate) duplicates: bool,
    /// The far side keeps to what a node takes by default, and whether it does is checked.
    #[arg(long)]
    pub(crate) limited: bool,
}
