//! The flags that commands share, and the engine that comes of them.
//!
//! In:    flags, `DUNLIN_…` variables, a configuration file.
//! Out:   [`Settings`]: a checked configuration.
//! Holds: what the user set anywhere is kept; only what nobody set follows the command.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dunlin::clock::Clock;
use dunlin::config::{Flag, Loaded, LogLevel, Place};
use dunlin::socket::group::BindError;
use dunlin::{Config, Engine, StartError};
use tracing::level_filters::LevelFilter;

use crate::failure::Failure;

/// How long a command that calls a node waits for its answer when nobody said how long.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// How long a node waits for its port at most, and how often it tries.
const PORT_WAIT: Duration = Duration::from_secs(1);
const PORT_RETRY: Duration = Duration::from_millis(50);

/// What can be said of the node that a command runs. Flags win over variables, variables over the file.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct NodeFlags {
    /// Where datagrams come in; port 0 is any
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<String>,
    /// The node's own folder: its key, its store and its admin socket
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// The file with the secret key; store and admin socket are beside it unless --state says otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Cores to use, one shard on each; 0 is all
    #[arg(long, value_name = "N")]
    pub(crate) cores: Option<String>,
    /// The back end: auto, uring or mmsg
    #[arg(long, value_name = "BACK END")]
    pub(crate) io: Option<String>,
    /// The network's name
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// How much is told: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// A file with more settings (see `dunlin config print`)
    #[arg(long, value_name = "FILE", env = "DUNLIN_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// A configuration for one command.
pub(crate) struct Settings {
    loaded: Loaded,
    /// A key was named: the node is somebody, not a passer-by.
    has_key: bool,
}

impl NodeFlags {
    /// Reads everything.
    pub(crate) fn load(&self) -> Result<Settings, Failure> {
        self.load_with_seeds(&[])
    }

    /// The same, with the nodes to begin with.
    pub(crate) fn load_with_seeds(&self, seeds: &[String]) -> Result<Settings, Failure> {
        let seeds = Some(seeds.join(",")).filter(|seeds| !seeds.is_empty());
        let state_is_free = self.state.is_none();
        let state = |name: &str| path_text("--state", self.state.as_ref().map(|state| state.join(name)));
        let (own_key, store, socket) = (state("key")?, state("store")?, state("socket")?);
        let key = path_text("--key", self.key.clone())?;
        // A node with a key of its own has everything else beside it.
        let beside =
            |ending: &str| key.as_ref().filter(|_| state_is_free).map(|key| format!("{key}.{ending}"));
        let (key_store, key_socket) = (beside("store"), beside("socket"));
        let given = [
            ("--listen", "node.listen", &self.listen),
            ("--state", "node.key", &own_key),
            ("--state", "store.path", &store),
            ("--state", "admin.socket", &socket),
            ("--key", "node.key", &key),
            ("--key", "store.path", &key_store),
            ("--key", "admin.socket", &key_socket),
            ("--cores", "node.cores", &self.cores),
            ("--io", "io.backend", &self.io),
            ("--network", "node.network", &self.network),
            ("--seed", "network.seeds", &seeds),
            ("--log", "log.level", &self.log),
        ];
        let flags: Vec<Flag<'_>> = given
            .into_iter()
            .filter_map(|(name, key, value)| Some(Flag { name, key, value: value.clone()? }))
            .collect();
        let loaded = Config::load(self.config.as_deref(), std::env::vars(), &flags)?;
        Ok(Settings { loaded, has_key: self.key.is_some() || self.state.is_some() })
    }
}

/// A path that a flag names, as text.
fn path_text(flag: &str, path: Option<PathBuf>) -> Result<Option<String>, Failure> {
    let text = |path: PathBuf| {
        path.into_os_string()
            .into_string()
            .map_err(|_| Failure::usage(format_args!("{flag}: this path is not UTF-8; use another")))
    };
    path.map(text).transpose()
}

impl Settings {
    /// For a node that others call: where it listens unless told is every address that this machine has.
    pub(crate) fn for_node(mut self) -> Self {
        self.start_log(LogLevel::Info);
        if self.is_default("node.listen") {
            let port = self.loaded.config.node.listen.port();
            self.loaded.config.node.listen = everywhere(port);
        }
        self
    }

    /// For a node that is one of its network's, unless somebody said otherwise.
    pub(crate) fn in_network(mut self) -> Self {
        if self.is_default("network.enabled") {
            self.loaded.config.network.enabled = true;
        }
        self
    }

    /// For a command that calls a node and ends: any port, one core, and less patience.
    pub(crate) fn for_call(mut self) -> Self {
        self.start_log(LogLevel::Warn);
        let is_default =
            ["node.listen", "node.cores", "transport.handshake_deadline"].map(|key| self.is_default(key));
        let config = &mut self.loaded.config;
        if is_default[0] {
            config.node.listen = everywhere(0);
        }
        if is_default[1] {
            config.node.cores = 1;
        }
        if is_default[2] {
            config.transport.handshake_deadline = CALL_DEADLINE;
        }
        self
    }

    /// A call is made under a throw-away identity unless --key names one.
    pub(crate) const fn has_key(&self) -> bool {
        self.has_key
    }

    /// Starts an engine. The port of a process that was killed a moment ago may still be held by what the kernel has left of it.
    pub(crate) fn start(
        &self,
        make: impl Fn(Config) -> Result<Engine, StartError>,
    ) -> Result<Engine, Failure> {
        let clock = Clock::start();
        let begun = clock.instant();
        loop {
            match make(self.config().clone()) {
                Err(StartError::Listen { source, .. })
                    if is_in_use(&*source) && clock.instant().since(begun) < PORT_WAIT =>
                {
                    std::thread::sleep(PORT_RETRY);
                }
                started => return Ok(started?),
            }
        }
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// Where the key lies.
    pub(crate) fn key_path(&self) -> Result<PathBuf, Failure> {
        self.config()
            .node
            .key
            .resolve()
            .ok_or_else(|| Failure::usage("node.key: no home folder is known; give a whole path with --key"))
    }

    /// Where the node's admin socket is.
    pub(crate) fn socket_path(&self) -> Result<PathBuf, Failure> {
        let path = self.config().admin.socket.resolve();
        path.ok_or_else(|| Failure::usage("admin.socket: no home folder is known; say where with --state"))
    }

    fn is_default(&self, key: &str) -> bool {
        *self.loaded.place(key) == Place::Default
    }

    fn start_log(&self, default: LogLevel) {
        let level = if self.is_default("log.level") { default } else { self.config().log.level };
        let filter = match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        tracing_subscriber::fmt()
            .with_max_level(filter)
            .with_writer(std::io::stderr)
            .with_ansi(is_terminal)
            .with_target(false)
            .init();
    }
}

fn is_in_use(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(BindError::InUse { .. }))
}

/// Every address, of both families where the host has both.
fn everywhere(port: u16) -> SocketAddr {
    let both = SocketAddr::from(([0u16; 8], port));
    match UdpSocket::bind("[::]:0") {
        Ok(_) => both,
        Err(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
    }
}
