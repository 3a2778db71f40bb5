//! The command line.

mod network;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dunlin::Config;
use dunlin::config::{Backend, ByteSize, Congestion, Spin, SuiteChoice};
use dunlin::socket::probe::IoChoice;
use dunlin_codec::suite::Suite;
use dunlin_shards::arq::congestion::Algorithm;

pub(crate) use network::{AskingOptions, ShoutOptions};

/// Measures Dunlin between two processes, each on cores of its own.
#[derive(Debug, Parser)]
#[command(version, after_long_help = crate::report::SCHEMA_HELP)]
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
    /// The cipher of sessions that the near side opens.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub(crate) suite: Cipher,
    /// How the sending rate of both sides follows the path.
    #[arg(long, global = true, value_enum, default_value = "cubic")]
    pub(crate) congestion: Control,
    /// The kernel does not cut one send into many datagrams.
    #[arg(long, global = true)]
    pub(crate) no_gso: bool,
    /// The kernel does not join datagrams that came in one behind the other.
    #[arg(long, global = true)]
    pub(crate) no_gro: bool,
    /// Shards of the far side.
    #[arg(long, global = true, default_value_t = 1, value_name = "COUNT")]
    pub(crate) shards: usize,
    /// The cores that near and far side run on, the far side on one or more; the first ones by default.
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
        /// Bytes of a message; several are measured one after the other.
        #[arg(long, value_delimiter = ',', default_value = "65536", value_name = "BYTES")]
        size: Vec<usize>,
    },
    /// Small reliable messages a second, one way, one session.
    Messages {
        #[command(flatten)]
        near: NearOptions,
        /// Bytes of a message; several are measured one after the other.
        #[arg(long, value_delimiter = ',', default_value = "64", value_name = "BYTES")]
        size: Vec<usize>,
    },
    /// Round trips: one at a time, or with --rate on a schedule.
    Latency {
        #[command(flatten)]
        near: NearOptions,
        #[command(flatten)]
        paced: PacedOptions,
        /// Messages a second, whatever comes back; several are measured one after the other.
        #[arg(long, value_delimiter = ',', value_name = "RATE")]
        rate: Vec<f64>,
        /// Who answers; each is measured in turn. With --rate: core and api, core by default.
        #[arg(long, value_enum, value_delimiter = ',', value_name = "WHO")]
        over: Vec<Over>,
    },
    /// Round trips at rising rates, until the knee: the highest rate that still holds.
    Ladder {
        #[command(flatten)]
        near: NearOptions,
        #[command(flatten)]
        paced: PacedOptions,
        /// The first rate.
        #[arg(long, default_value_t = 1_000.0, value_name = "RATE")]
        from: f64,
        /// No rate beyond this.
        #[arg(long, default_value_t = 1_000_000.0, value_name = "RATE")]
        to: f64,
        /// Each rate is so many times the one before.
        #[arg(long, default_value_t = 2.0)]
        factor: f64,
        /// Steps between the last rate that held and the first that did not.
        #[arg(long, default_value_t = 3, value_name = "COUNT")]
        halvings: u32,
        /// A rate holds while p99, from the intended time, stays below so many microseconds.
        #[arg(long, default_value_t = 10_000.0, value_name = "MICROSECONDS")]
        p99_max: f64,
        /// Who answers.
        #[arg(long, value_enum, default_value = "core", value_name = "WHO")]
        over: Over,
    },
    /// Sessions opened and closed: rate, and CPU of both sides.
    Handshakes {
        #[command(flatten)]
        near: NearOptions,
        #[command(flatten)]
        shaking: ShakingOptions,
    },
    /// One message to many peers: until each and until the last of them has answered.
    Fanout {
        #[command(flatten)]
        near: NearOptions,
        #[command(flatten)]
        paced: PacedOptions,
        /// Peers that --self starts.
        #[arg(long, default_value_t = 16, value_name = "COUNT")]
        peers: usize,
        /// Rounds a second, each one message to every peer.
        #[arg(long, default_value_t = 500.0, value_name = "RATE")]
        rate: f64,
    },
    /// Messages to randomly drawn peers over many sessions at once, beside bare sendmmsg to the same addresses.
    Sessions {
        #[command(flatten)]
        near: NearOptions,
        #[command(flatten)]
        many: ManyOptions,
    },
    /// FIND_NODE, FIND_VALUE or STORE asked of one node: answers a second, how long each takes, what it costs the far side, and
    /// beside bare sendmmsg where several ask.
    Dht {
        #[command(flatten)]
        near: NearOptions,
        #[command(flatten)]
        asking: AskingOptions,
    },
    /// Words to everybody, brought to one node by its links: verified and carried on a second, beside verifying alone.
    Shout {
        #[command(flatten)]
        near: NearOptions,
        #[command(flatten)]
        shouting: ShoutOptions,
    },
    /// A steady schedule for hours: whether memory stays bounded and latency where it was.
    Soak {
        #[command(flatten)]
        near: NearOptions,
        #[command(flatten)]
        paced: PacedOptions,
        /// Messages a second.
        #[arg(long, default_value_t = 1_000.0, value_name = "RATE")]
        rate: f64,
        /// Memory in RAM, of either side, may grow so much from the run's first quarter to its last.
        #[arg(long, default_value_t = 16.0, value_name = "MIB")]
        growth_max: f64,
        /// The median of latency may rise so much from the run's first quarter to its last.
        #[arg(long, default_value_t = 50.0, value_name = "PERCENT")]
        drift_max: f64,
    },
    /// What a node with quiet sessions takes: of a core with one, of memory for each with many.
    Idle {
        #[command(flatten)]
        near: NearOptions,
        #[command(flatten)]
        quiet: QuietOptions,
    },
    /// Two runs' JSON, figure by figure. Exit code 0: nothing worse; 1: something is; 2: they cannot be compared.
    Compare {
        /// The run before.
        before: PathBuf,
        /// The run after.
        after: PathBuf,
        /// A figure is worse when its median is worse by more than this and the runs' ranges do not meet.
        #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
        threshold: f64,
    },
    /// The same work with one thing at a time switched, in alternating rounds: what each is worth.
    Ablate(AblateOptions),
    /// The two back ends over the same works, in alternating rounds: which one `auto` should take.
    Backends(BackendsOptions),
    /// Two shards over two sockets in this process without an engine's threads, sealed or not: what `ablate` needs.
    Bare(BareOptions),
    /// Whether this generator is faster than what it measures: its own ceilings beside a bare UDP echo.
    Selftest {
        /// How long each step takes.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// Prints JSON, or writes it to a file.
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "-", value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// The other side: prints its URIs and serves until its input ends.
    Far(FarOptions),
}

/// Whom to measure against, how long, and how to tell.
#[derive(Clone, Debug, Args)]
pub(crate) struct NearOptions {
    /// The far side; `fanout` takes several.
    #[arg(required_unless_present = "own", value_name = "URI")]
    pub(crate) uri: Vec<String>,
    /// Starts the far side as a second process on this machine.
    #[arg(long = "self", id = "own", conflicts_with = "uri")]
    pub(crate) own: bool,
    /// How long each figure is measured.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Measures everything so often; the medians count.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) repeat: u32,
    /// Prints JSON, or writes it to a file.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "-", value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Writes the latencies of each interval as an HdrHistogram log.
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// Writes the latencies' percentiles as HdrHistogram's plotter reads them.
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Writes one page with charts and the environment.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// No progress.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Allows a target that is neither on this machine nor in a private network.
    #[arg(long)]
    pub(crate) i_own_this_target: bool,
}

/// How a schedule is kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct PacedOptions {
    /// Bytes of a message.
    #[arg(long, default_value_t = 64, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Gaps as independent callers leave them, instead of equal ones.
    #[arg(long)]
    pub(crate) poisson: bool,
    /// Sessions, each with an identity, an engine and a source port of its own.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) sessions: usize,
    /// Time at the start that does not count.
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS")]
    pub(crate) warm_up: f64,
    /// A message is late that leaves so long after its time.
    #[arg(long, default_value_t = 1_000.0, value_name = "MICROSECONDS")]
    pub(crate) late_after: f64,
    /// A run is void when more than this left late or not at all.
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT")]
    pub(crate) late_max: f64,
    /// Where Poisson gaps come from.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// How many sessions, and what travels on them.
#[derive(Clone, Debug, Args)]
pub(crate) struct ManyOptions {
    /// Sessions, each with an identity and an address of its own.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    pub(crate) sessions: usize,
    /// Ports that they share; a target that is not on loopback has one for each session.
    #[arg(long, default_value_t = 4, value_name = "COUNT")]
    pub(crate) ports: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1_024, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Rounds, each with every way of sending for --seconds; every other one the other way round.
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    pub(crate) rounds: u32,
    /// Reliable messages too.
    #[arg(long)]
    pub(crate) reliable: bool,
}

/// How many quiet sessions.
#[derive(Clone, Debug, Args)]
pub(crate) struct QuietOptions {
    /// Sessions; with more than one each has an identity and an address of its own.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) sessions: usize,
    /// Ports that they share; a target that is not on loopback has one for each session.
    #[arg(long, default_value_t = 4, value_name = "COUNT")]
    pub(crate) ports: usize,
    /// How long many sessions rest before memory is looked at: what handshakes need is kept for 10 s.
    #[arg(long, default_value_t = 12.0, value_name = "SECONDS")]
    pub(crate) settle: f64,
}

/// Which handshakes.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShakingOptions {
    /// How many.
    #[arg(long, default_value_t = 5_000, value_name = "COUNT")]
    pub(crate) rounds: u32,
    /// With a message in the first datagram.
    #[arg(long)]
    pub(crate) zero_rtt: bool,
    /// Without the far side's ID, so that it asks for a cookie first and three more datagrams travel.
    #[arg(long, conflicts_with = "zero_rtt")]
    pub(crate) cookies: bool,
    /// Handshakes under way at once, each of another identity; 1 is one engine through its API.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) parallel: usize,
}

/// What is switched, and how often.
#[derive(Clone, Debug, Args)]
pub(crate) struct AblateOptions {
    /// How long each figure is measured.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// How often each variant is measured.
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    pub(crate) rounds: u32,
    /// The work.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "throughput,messages,latency")]
    pub(crate) work: Vec<Work>,
    /// Shard counts of the far side to try beside one.
    #[arg(long, value_delimiter = ',', default_value = "2", value_name = "COUNT")]
    pub(crate) shard_counts: Vec<usize>,
    /// Prints JSON, or writes it to a file.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "-", value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How long and how often both back ends work.
#[derive(Clone, Debug, Args)]
pub(crate) struct BackendsOptions {
    /// How long each figure is measured.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// How often each work is done by each.
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    pub(crate) rounds: u32,
    /// Sessions of the work with many.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    pub(crate) sessions: usize,
    /// Prints JSON, or writes it to a file.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "-", value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// What bare shards do.
#[derive(Clone, Debug, Args)]
pub(crate) struct BareOptions {
    /// The work.
    #[arg(long, value_enum, default_value = "throughput")]
    pub(crate) work: Work,
    /// Packets travel in the clear.
    #[arg(long)]
    pub(crate) unsealed: bool,
    /// How long it is measured.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Prints JSON, or writes it to a file.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "-", value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Where the far side is.
#[derive(Debug, Args)]
pub(crate) struct FarOptions {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Nodes, each with an identity, an engine and a port of its own.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) nodes: usize,
    /// No application thread waits for sessions: handlers alone answer.
    #[arg(long)]
    pub(crate) lean: bool,
    /// As --lean, and sessions are kept and sent to on command: for `sessions` and for `idle` with many.
    #[arg(long)]
    pub(crate) hub: bool,
    /// Part of a network: answers what nodes ask each other, as many questions as come, keeps as many values and carries on as
    /// many rumours.
    #[arg(long)]
    pub(crate) dht: bool,
    /// With --dht: what one peer, writer, origin or link may have stays as it is by default.
    #[arg(long)]
    pub(crate) limited: bool,
    /// With --dht: the first node keeps its key and its values in this folder, on disk.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Cipher {
    /// AES where the CPU has it.
    Auto,
    /// AES-256-GCM.
    Aes,
    /// ChaCha20-Poly1305.
    Chacha,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Control {
    /// CUBIC with HyStart++.
    Cubic,
    /// BBR version 3.
    Bbr,
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

/// What `ablate` measures.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Work {
    /// Bulk goodput.
    Throughput,
    /// Small messages a second.
    Messages,
    /// Closed-loop round trips between handlers.
    Latency,
}

impl Work {
    /// Its mode.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Messages => "messages",
            Self::Latency => "latency",
        }
    }

    /// The section, the figure that counts and its unit, as the mode's JSON has them.
    pub(crate) fn figure(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Throughput => ("throughput", "goodput", "Gbit/s"),
            Self::Messages => ("messages", "messages", "M/s"),
            Self::Latency => ("core", "p50", "us"),
        }
    }
}

impl Control {
    /// As a shard has it.
    pub(crate) fn algorithm(self) -> Algorithm {
        match self {
            Self::Cubic => Algorithm::Cubic,
            Self::Bbr => Algorithm::Bbr,
        }
    }
}

impl Cipher {
    /// What a shard that has no configuration asks for.
    pub(crate) fn wanted(self) -> Suite {
        if matches!(self, Self::Chacha) { Suite::ChaChaPoly } else { Suite::AesGcm }
    }
}

impl Io {
    /// What a crowd's sockets are driven by.
    pub(crate) fn choice(self) -> IoChoice {
        match self {
            Self::Auto => IoChoice::Auto,
            Self::Uring => IoChoice::Uring,
            Self::Mmsg => IoChoice::Mmsg,
        }
    }
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
    pub(crate) fn config(&self, listen: SocketAddr, shards: usize) -> Config {
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
        let mut config = Config::default().listen(listen).cores(shards).backend(backend).spin(spin);
        config.node.allow_more_shards = true;
        config.transport.suite = match self.suite {
            Cipher::Auto => SuiteChoice::Auto,
            Cipher::Aes => SuiteChoice::Aes,
            Cipher::Chacha => SuiteChoice::Chacha,
        };
        config.transport.congestion = match self.congestion {
            Control::Cubic => Congestion::Cubic,
            Control::Bbr => Congestion::Bbr,
        };
        config.io.gso = !self.no_gso;
        config.io.gro = !self.no_gro;
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
        arguments.extend(["--suite".to_owned(), name(self.suite.to_possible_value())]);
        arguments.extend(["--congestion".to_owned(), name(self.congestion.to_possible_value())]);
        arguments.extend(["--shards".to_owned(), self.shards.to_string()]);
        for (flag, is_set) in [("--no-gso", self.no_gso), ("--no-gro", self.no_gro)] {
            arguments.extend(is_set.then(|| flag.to_owned()));
        }
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
        let line =
            ["x", "throughput", "--self", "--io", "mmsg", "--spin", "off", "--cores", "1,0", "--no-gso"];
        let line = line.into_iter().chain(["--congestion", "bbr"]);
        let options = Options::try_parse_from(line).unwrap();
        let mut far = vec!["x".to_owned(), "far".to_owned()];
        far.extend(options.node.to_arguments());
        let far = Options::try_parse_from(far).unwrap().node;
        assert_eq!(far.to_arguments(), options.node.to_arguments());
        assert_eq!(far.cores, [1, 0]);
        assert!(far.no_gso && !far.no_gro);
        assert_eq!(far.config(([127, 0, 0, 1], 0).into(), 1).transport.congestion, Congestion::Bbr);
    }

    #[test]
    fn a_mode_wants_a_target() {
        assert!(Options::try_parse_from(["x", "idle"]).is_err());
        assert!(Options::try_parse_from(["x", "idle", "--self", "127.0.0.1:1"]).is_err());
        assert!(Options::try_parse_from(["x", "idle", "127.0.0.1:1"]).is_ok());
    }

    #[test]
    fn json_goes_to_the_output_or_to_a_file() {
        let json_of = |line: &[&str]| match Options::try_parse_from(line).unwrap().command {
            Command::Idle { near, .. } => (near.json, near.uri),
            _ => (None, Vec::new()),
        };
        let target = vec!["127.0.0.1:1".to_owned()];
        assert_eq!(json_of(&["x", "idle", "--json", "127.0.0.1:1"]), (Some("-".into()), target.clone()));
        assert_eq!(json_of(&["x", "idle", "--json=a.json", "127.0.0.1:1"]), (Some("a.json".into()), target));
    }

    /// The help says what the JSON holds.
    #[test]
    fn the_long_help_documents_the_schema() {
        let help = Options::command().render_long_help().to_string();
        assert!(help.contains(crate::report::SCHEMA) && help.contains("timeline"), "{help}");
    }
}
