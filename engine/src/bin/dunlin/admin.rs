//! The flags of commands that ask a running node, and how they ask.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dunlin::control::{Answer, Answers, Command, call};

use crate::failure::Failure;
use crate::flags::NodeFlags;

/// A node that only has to look answers at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What a node that goes away leaves to be said.
pub(crate) const ENDED: &str = "the node ended before it had answered";

/// Which node is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct AdminFlags {
    /// The folder of the node that is asked
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Its key, where it was started with --key
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    key: Option<PathBuf>,
    /// Its configuration, which names its admin socket when nothing else does
    #[arg(long, value_name = "FILE", env = "DUNLIN_CONFIG")]
    config: Option<PathBuf>,
}

impl AdminFlags {
    /// Asks the node.
    pub(crate) fn call(&self, command: &Command) -> Result<Answers, Failure> {
        let (state, key, config) = (self.state.clone(), self.key.clone(), self.config.clone());
        let flags = NodeFlags { state, key, config, ..NodeFlags::default() };
        Ok(call(&flags.load()?.socket_path()?, command)?)
    }

    /// Asks the node for one answer, which must come in time.
    pub(crate) fn ask(&self, command: &Command, wait: Duration) -> Result<Answer, Failure> {
        let answer = self.call(command)?.next_within(wait)?;
        answer.ok_or_else(|| Failure::new(ENDED))
    }
}

/// An answer to another question.
pub(crate) fn unexpected() -> Failure {
    Failure::new("the node answered something else than it was asked; use its own release of dunlin")
}
