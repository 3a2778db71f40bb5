//! The command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dunlin::Config;
use dunlin::config::{Backend, ByteSize, Spin};

/// Measures Dunlin between two processes, each on a core of its own.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What both sides are started with.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeOptions {
    /// The back end.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub(crate) io: Io,
    /// How a core waits.
    #[arg(long, global = true, value_enum, default_value = "adaptive")]
    pub(crate) spin: Waiting,
    /// The longest datagram, in bytes of UDP payload.
    #[arg(long, global = true, default_value_t = 1_200, value_name = "BYTES")]
    pub(crate) datagram: u64,
    /// The cores that near and far side run on; the first two by default.
    #[arg(long, global = true, value_delimiter = ',', value_name = "NEAR,FAR")]
    pub(crate) cores: Vec<usize>,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One session's bulk goodput: what the far application took and checked.
    Throughput {
        #[command(flatten)]
        near: NearOptions,
        /// Bytes of a message.
        #[arg(long, default_value_t = 65_536)]
        size: usize,
    },
    /// Small reliable messages a second, one way, one session.
    Messages {
        #[command(flatten)]
        near: NearOptions,
        /// Bytes of a message.
        #[arg(long, default_value_t = 64)]
        size: usize,
    },
    /// Round trips: one at a time.
    Latency {
        #[command(flatten)]
        near: NearOptions,
        /// Who answers; each is measured in turn.
        #[arg(long, value_enum, value_delimiter = ',', default_value = "core,api,ping")]
        over: Vec<Over>,
        /// Bytes of a message.
        #[arg(long, default_value_t = 64)]
        size: usize,
    },
    /// Sessions opened and closed, one at a time: rate, and CPU of both sides together.
    Handshakes {
        #[command(flatten)]
        near: NearOptions,
        /// How many.
        #[arg(long, default_value_t = 5_000)]
        rounds: u32,
        /// With a message in the first datagram.
        #[arg(long)]
        zero_rtt: bool,
    },
    /// What a node with one quiet session takes of a core.
    Idle {
        #[command(flatten)]
        near: NearOptions,
    },
    /// The other side: prints its URI and serves until its input ends.
    Far(FarOptions),
}

/// Whom to measure against, how long, and how to tell.
#[derive(Debug, Args)]
pub(crate) struct NearOptions {
    /// The far side.
    #[arg(required_unless_present = "own", value_name = "URI")]
    pub(crate) uri: Option<String>,
    /// Starts the far side as a second process on this machine.
    #[arg(long = "self", id = "own", conflicts_with = "uri")]
    pub(crate) own: bool,
    /// How long each figure is measured.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Allows a target that is neither on this machine nor in a private network.
    #[arg(long)]
    pub(crate) i_own_this_target: bool,
}

/// Where the far side is.
#[derive(Debug, Args)]
pub(crate) struct FarOptions {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Io {
    Auto,
    Uring,
    Mmsg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Waiting {
    Adaptive,
    Off,
    Busy,
}

/// Who answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Over {
    /// Handlers on both cores.
    Core,
    /// Application threads on both sides.
    Api,
    /// The shards: a PING frame.
    Ping,
}

impl Over {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Api => "api",
            Self::Ping => "ping",
        }
    }
}

impl NodeOptions {
    /// The defaults, but for what was asked.
    pub(crate) fn config(&self, listen: SocketAddr) -> Config {
        let backend = match self.io {
            Io::Auto => Backend::Auto,
            Io::Uring => Backend::Uring,
            Io::Mmsg => Backend::Mmsg,
        };
        let spin = match self.spin {
            Waiting::Adaptive => Spin::Adaptive,
            Waiting::Off => Spin::Off,
            Waiting::Busy => Spin::Busy,
        };
        let mut config = Config::default().listen(listen).cores(1).backend(backend).spin(spin);
        config.io.datagram_max = ByteSize(self.datagram);
        config
    }

    /// The arguments that say the same.
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        let mut arguments = vec!["--io".to_owned(), name(self.io.to_possible_value())];
        arguments.extend(["--spin".to_owned(), name(self.spin.to_possible_value())]);
        arguments.extend(["--datagram".to_owned(), self.datagram.to_string()]);
        if !self.cores.is_empty() {
            let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
            arguments.extend(["--cores".to_owned(), cores.join(",")]);
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_goes_through() {
        Options::command().debug_assert();
        let line = ["x", "throughput", "--self", "--io", "mmsg", "--spin", "off", "--cores", "1,0"];
        let options = Options::try_parse_from(line).unwrap();
        let mut far = vec!["x".to_owned(), "far".to_owned()];
        far.extend(options.node.to_arguments());
        let far = Options::try_parse_from(far).unwrap().node;
        assert_eq!(far.to_arguments(), options.node.to_arguments());
        assert_eq!(far.cores, [1, 0]);
    }

    #[test]
    fn a_mode_wants_a_target() {
        assert!(Options::try_parse_from(["x", "idle"]).is_err());
        assert!(Options::try_parse_from(["x", "idle", "--self", "127.0.0.1:1"]).is_err());
        assert!(Options::try_parse_from(["x", "idle", "127.0.0.1:1"]).is_ok());
    }
}
