//! The configuration: a TOML file, the environment, the command line, or an application's own code.
//!
//! In:    text from the three places, weakest first: defaults, file, `DUNLIN_…` variables, flags.
//! Out:   a [`Config`] whose values are in range, and for each value where it came from.
//! Holds: a key that nobody knows is an error that names the nearest one; nothing is passed over in silence.
//!
//! A variable is named after its key: `io.backend` is `DUNLIN_IO_BACKEND`. `DUNLIN_CONFIG` names the file, three tell a command of the
//! lock that it runs under, and what begins with `DUNLIN_TEST_` belongs to tests.

mod error;
mod layers;
mod print;
mod ranges;
mod sections;
mod setting;
mod values;

pub use dunlin_codec::transmission::Compression;
pub use error::{ConfigError, Place};
pub use layers::{FENCING_TOKEN, Flag, LOCK_GROUP, LOCK_HEX, LOCK_KEY, Loaded};
pub use print::{print_defaults, print_sources};
pub use ranges::OutOfRange;
pub use sections::{Admin, Config, Identity, Io, Limits, Log, Network, Node, Store, Transport};
pub use values::{
    Backend, ByteSize, Congestion, Keepalive, LogLevel, Percent, Prefix, Share, Spin, StatePath, StorePlace,
    SuiteChoice,
};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dunlin_codec::uri::DunlinUri;
use dunlin_shards::messages::conversation::Constants;

impl Network {
    /// The numbers that make the network what it is, whether a network can have them or not.
    #[must_use]
    pub fn constants(&self) -> Constants {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Constants {
            replication: number(self.k),
            parallel: number(self.alpha),
            address_bits: number(self.tau),
            links: number(self.links),
            ..Constants::default()
        }
    }
}

impl Config {
    /// Reads the file if there is one, then the variables, then the flags, and checks every range.
    ///
    /// `variables` is usually [`std::env::vars`]; those that do not begin with `DUNLIN_` are passed over.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place and what to do. Nothing was kept.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        flags: &[Flag<'_>],
    ) -> Result<Loaded, ConfigError> {
        layers::load(file, variables, flags)
    }

    /// The same, listening there; port 0 for any.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.node.listen = address;
        self
    }

    /// The same, with its key in that file.
    #[must_use]
    pub fn key(mut self, path: impl Into<PathBuf>) -> Self {
        self.node.key = StatePath::from(path.into());
        self
    }

    /// The same, in the network of that name.
    #[must_use]
    pub fn network(mut self, name: impl Into<String>) -> Self {
        self.node.network = name.into();
        self
    }

    /// The same, as one of its network's nodes, which calls these when it knows nobody.
    #[must_use]
    pub fn join(mut self, seeds: Vec<DunlinUri>) -> Self {
        self.network.enabled = true;
        self.network.seeds = seeds;
        self
    }

    /// The same, on so many cores; 0 for all.
    #[must_use]
    pub fn cores(mut self, count: usize) -> Self {
        self.node.cores = count;
        self
    }

    /// The same, through that back end.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.io.backend = backend;
        self
    }

    /// The same, waiting in that way.
    #[must_use]
    pub fn spin(mut self, spin: Spin) -> Self {
        self.io.spin = spin;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn file(text: &str) -> tempfile::Temporary {
        tempfile::Temporary::new(text)
    }

    /// A file that goes away with its test.
    mod tempfile {
        use std::path::PathBuf;
        use std::sync::atomic::{AtomicU32, Ordering};

        pub(super) struct Temporary(pub(super) PathBuf);

        impl Temporary {
            pub(super) fn new(text: &str) -> Self {
                static COUNT: AtomicU32 = AtomicU32::new(0);
                let name =
                    format!("dunlin-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
                let path = std::env::temp_dir().join(name);
                std::fs::write(&path, text).unwrap();
                Self(path)
            }
        }

        impl Drop for Temporary {
            fn drop(&mut self) {
                let _ = std::fs::remove_file(&self.0);
            }
        }
    }

    fn error(text: &str) -> String {
        let file = file(text);
        let error = Config::load(Some(&file.0), [], &[]).unwrap_err().to_string();
        error.replace(&file.0.display().to_string(), "dunlin.toml")
    }

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let file = file("[io]\nbackend = \"uring\"\ngso = false\ndatagram_max = 1300\n");
        let variables =
            variables(&[("DUNLIN_IO_BACKEND", "mmsg"), ("DUNLIN_IO_GSO", "true"), ("PATH", "/bin")]);
        let flags = [Flag { name: "--io", key: "io.backend", value: "auto".to_owned() }];
        let loaded = Config::load(Some(&file.0), variables, &flags).unwrap();
        let config = &loaded.config;
        assert_eq!((config.io.backend, config.io.gso, config.io.datagram_max.0), (Backend::Auto, true, 1300));
        assert_eq!(config.io.gro, Config::default().io.gro);
        let place = |key: &str| loaded.place(key).to_string();
        assert_eq!(place("io.backend"), "--io");
        assert_eq!(place("io.gso"), "DUNLIN_IO_GSO");
        assert_eq!(place("io.datagram_max"), format!("{}:4:16", file.0.display()));
        assert_eq!(place("io.gro"), "default");
    }

    #[test]
    fn what_is_printed_reads_back_as_the_defaults() {
        let text = print_defaults();
        let file = file(&text);
        let loaded = Config::load(Some(&file.0), [], &[]).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert!(text.lines().filter(|line| line.contains(" = ")).count() > 20);
        assert!(!print_sources(&loaded).contains(" default"), "every key is printed");
    }

    #[test]
    fn the_source_of_each_value_is_told() {
        let file = file("[node]\ncores = 2\n");
        let loaded = Config::load(Some(&file.0), variables(&[("DUNLIN_LOG_LEVEL", "debug")]), &[]).unwrap();
        let text = print_sources(&loaded);
        let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        assert!(line("node.cores = 2 ").ends_with(":2:9"));
        assert!(line("log.level = \"debug\" ").ends_with("DUNLIN_LOG_LEVEL"));
        assert!(line("node.listen = \"[::]:7117\" ").ends_with("default"));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        assert_eq!(
            error("[io]\n  backnd = \"uring\"\n"),
            "dunlin.toml:2:3: unknown key io.backnd; did you mean io.backend? (`dunlin config print` shows them all)"
        );
        assert!(error("[nod]\nlisten = \"[::]:1\"\n").contains("did you mean node.listen?"));
        assert!(error("[node]\nbackend = \"uring\"\n").contains("did you mean io.backend?"));
        assert!(error("listen = \"[::]:1\"\n").contains("did you mean node.listen?"));
        assert!(error("[io.spin]\nbusy = true\n").starts_with("dunlin.toml:1:"));
    }

    #[test]
    fn an_unknown_variable_or_flag_names_the_nearest() {
        let unknown = variables(&[("DUNLIN_NODE_LISTN", "[::]:1")]);
        let text = Config::load(None, unknown, &[]).unwrap_err().to_string();
        assert!(
            text.starts_with("DUNLIN_NODE_LISTN: unknown variable; did you mean DUNLIN_NODE_LISTEN?"),
            "{text}"
        );
        let reserved = variables(&[("DUNLIN_CONFIG", "x"), ("DUNLIN_TEST_SEED", "1"), ("DUNLINS", "2")]);
        assert!(Config::load(None, reserved, &[]).is_ok());
        let locked =
            [LOCK_KEY, LOCK_GROUP, LOCK_HEX, FENCING_TOKEN].map(|name| (name.to_owned(), "7".to_owned()));
        assert!(Config::load(None, locked, &[]).is_ok(), "a command under a lock may be dunlin");
        let flags = [Flag { name: "--set", key: "io.backed", value: "uring".to_owned() }];
        let text = Config::load(None, [], &flags).unwrap_err().to_string();
        assert!(text.starts_with("--set: unknown key io.backed; did you mean io.backend?"), "{text}");
    }

    #[test]
    fn a_wrong_value_says_what_is_wanted() {
        assert_eq!(
            error("[transport]\nidle_timeout = 30\n"),
            "dunlin.toml:2:16: transport.idle_timeout = 30 is wrong; give a duration such as \"30s\" or \"250ms\""
        );
        assert!(error("[node]\nlisten = \"7117\"\n").contains("an address and a port such as \"[::]:7117\""));
        assert!(error("[io]\nbackend = \"epoll\"\n").contains("give one of \"auto\", \"uring\", \"mmsg\""));
        assert!(error("[io]\ngso = \"yes\"\n").contains("give true or false"));
        assert!(error("[limits]\ntrusted = [\"10.0.0.0/99\"]\n").contains("\"10.0.0.0/8\""));
    }

    #[test]
    fn a_value_out_of_range_is_refused_where_it_was_given() {
        assert_eq!(
            error("[io]\ndatagram_max = 100\n"),
            "dunlin.toml:2:16: io.datagram_max = 100 is out of range; give 1200 to 9216"
        );
        let text =
            Config::load(None, variables(&[("DUNLIN_NODE_CORES", "129")]), &[]).unwrap_err().to_string();
        assert!(text.starts_with("DUNLIN_NODE_CORES: node.cores = 129 is out of range"), "{text}");
        let mut config = Config::default();
        assert_eq!(config.check(), Ok(()));
        config.node.network = String::new();
        assert_eq!(config.check().unwrap_err().key, "node.network");
    }

    #[test]
    fn a_file_that_is_no_toml_or_not_there_is_told_in_one_line() {
        let text = error("[io\nx = 1\n");
        assert!(text.starts_with("dunlin.toml:1:4: this is not TOML: ") && !text.contains('\n'), "{text}");
        let text =
            Config::load(Some(Path::new("/nonexistent/dunlin.toml")), [], &[]).unwrap_err().to_string();
        assert!(
            text.starts_with("cannot read /nonexistent/dunlin.toml: ") && text.contains("--config"),
            "{text}"
        );
    }

    #[test]
    fn an_application_builds_one_from_code() {
        let config = Config::default().listen("127.0.0.1:0".parse().unwrap()).cores(1).backend(Backend::Mmsg);
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.clone().key("/tmp/k").node.key, StatePath::from(PathBuf::from("/tmp/k")));
        assert_eq!(config.spin(Spin::Busy).network("test").node.network, "test");
    }
}
