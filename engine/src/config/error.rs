//! What can be wrong with a configuration: where, what, and what to do, in one line.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::ranges::OutOfRange;

/// Where a value came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// Nobody said anything.
    Default,
    /// The file, with line and column from 1.
    File(PathBuf, usize, usize),
    /// A variable of this name.
    Variable(String),
    /// A flag of this name.
    Flag(String),
    /// The application's own code.
    Code,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line, column) => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
            Self::Code => f.write_str("the application"),
        }
    }
}

/// A configuration that cannot be used. Always the fault of whoever wrote it; nothing was kept of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {why}; give another file with --config, or none", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        why: io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: this is not TOML: {why}")]
    Syntax {
        /// Where it stops being TOML.
        place: Place,
        /// What the parser said, in one line.
        why: String,
    },
    /// Nobody knows this key.
    #[error("{place}: unknown key {key}; did you mean {nearest}? (`dunlin config print` shows them all)")]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
        /// The most similar one.
        nearest: String,
    },
    /// Nobody knows this variable.
    #[error("{name}: unknown variable; did you mean {nearest}? (`dunlin config print` shows all keys)")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The most similar one.
        nearest: String,
    },
    /// The value is not of the form that the key wants.
    #[error("{place}: {key} = {value} is wrong; give {wants}")]
    BadValue {
        /// Where it stands.
        place: Place,
        /// The key.
        key: &'static str,
        /// The value as it stands there.
        value: String,
        /// What it should look like.
        wants: &'static str,
    },
    /// The value is out of range.
    #[error("{place}: {error}")]
    OutOfRange {
        /// Where it stands.
        place: Place,
        /// Which value, and what it may be.
        error: OutOfRange,
    },
}
