//! How a command ends when it could not do what was asked: a line for people, a code for scripts.

use std::fmt;
use std::process::ExitCode;

use dunlin::config::ConfigError;
use dunlin::keyfile::KeyError;
use dunlin::{ConnectError, StartError};

/// A line and a code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// None: everything was said already.
    line: Option<String>,
}

impl Failure {
    /// It was tried and did not work.
    pub(crate) fn new(line: impl fmt::Display) -> Self {
        Self { code: 1, line: Some(line.to_string()) }
    }

    /// It was asked wrongly; nothing was tried.
    pub(crate) fn usage(line: impl fmt::Display) -> Self {
        Self { code: 2, line: Some(line.to_string()) }
    }

    /// It did not work, and why has been said.
    pub(crate) const fn said() -> Self {
        Self { code: 1, line: None }
    }

    /// Says it.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(line) = self.line {
            eprintln!("dunlin: {}", line.replace('\n', " "));
        }
        ExitCode::from(self.code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Listen { .. } => {
                Self::new(format_args!("{error}; stop what has it, or give another address with --listen"))
            }
            StartError::Config(_) => Self::usage(error),
            _ => Self::new(error),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Uri(_) => Self::usage(error),
            _ => Self::new(error),
        }
    }
}
