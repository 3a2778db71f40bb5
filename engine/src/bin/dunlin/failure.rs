//! How a command ends when it could not do what was asked: a line for people, a code for scripts.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;

use dunlin::config::ConfigError;
use dunlin::control::ControlError;
use dunlin::keyfile::{KeyError, RotateError};
use dunlin::socket::group::BindError;
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

    /// Whatever ran instead ended so, and has said why itself.
    pub(crate) const fn passed(code: u8) -> Self {
        Self { code, line: None }
    }

    /// The same with another code.
    pub(crate) const fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
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

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::new(error)
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(error)
    }
}

impl From<RotateError> for Failure {
    fn from(error: RotateError) -> Self {
        Self::new(error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Listen { address, source } => Self::new(line_of_listen(address, &*source)),
            StartError::Config(_) => Self::usage(error),
            _ => Self::new(error),
        }
    }
}

/// What keeps a node from listening there, and what helps.
fn line_of_listen(address: SocketAddr, source: &(dyn Error + Send + Sync + 'static)) -> String {
    let (why, remedy) = match source.downcast_ref() {
        Some(BindError::InUse { .. }) => {
            let what = "another process has this UDP port".to_owned();
            (what, "stop it, or give another port with --listen")
        }
        Some(BindError::Io { step, source, .. }) => {
            let remedy = match source.kind() {
                ErrorKind::AddrNotAvailable => {
                    "give an address of this machine with --listen, or [::] for all of them"
                }
                ErrorKind::PermissionDenied => "ports below 1024 take privileges: give another with --listen",
                _ => "give another address with --listen",
            };
            (format!("cannot {step}: {source}"), remedy)
        }
        None => (source.to_string(), "give another address with --listen"),
    };
    format!("cannot listen on {address}: {why}; {remedy}")
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Uri(_) => Self::usage(error),
            _ => Self::new(error),
        }
    }
}
