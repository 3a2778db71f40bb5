//! On what terms values are written: what put, delete, diff and atomic have in common.
//!
//! In:    flags, changes.
//! Out:   what became of them, shown.
//! Holds: a flag means the same for each of them.

use std::time::Duration;

use clap::Args;
use dunlin::control::{Answer, ChangeLine, ChangeOf, Command};

use super::{not_changed, show_changed};
use crate::admin::{AdminFlags, unexpected};
use crate::durations::{self, millis};
use crate::failure::Failure;
use crate::say::PATIENCE;
use crate::{Done, words};

/// Bytes of a leave in text at most.
const LEAVE_LEN_MAX: usize = 1_024;

#[derive(Args)]
pub(super) struct Terms {
    /// How long what is written lasts, such as 30m or 7d; 30 days at most
    #[arg(long, value_name = "DURATION", value_parser = durations::life, default_value = "24h")]
    pub(super) ttl: Duration,
    /// Keys that are nobody's yet become this node's: nobody else may write them
    #[arg(long)]
    pub(super) owned: bool,
    /// Write under the lock with this fencing token; a command that runs under `dunlin dht lock KEY` does so by itself
    #[arg(long, value_name = "TOKEN")]
    pub(super) token: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) node: AdminFlags,
}

/// An owner's leave for one key.
#[derive(Args)]
pub(super) struct LeaveFlag {
    /// The leave of the key's owner, as `dunlin dht grant` prints it, or @FILE with it
    #[arg(long, value_name = "LEAVE|@FILE")]
    leave: Option<String>,
}

impl LeaveFlag {
    /// As nodes are told.
    pub(super) fn read(&self) -> Result<Option<String>, Failure> {
        self.leave.as_deref().map(read_leave).transpose()
    }
}

/// An owner's leaves for several keys.
#[derive(Args)]
pub(super) struct LeavesFlag {
    /// The leave of the names' owner, as `dunlin dht grant` prints it, or @FILE with it; give it once for each name
    #[arg(long = "leave", value_name = "LEAVE|@FILE")]
    leaves: Vec<String>,
}

impl LeavesFlag {
    /// As nodes are told.
    pub(super) fn read(&self) -> Result<Vec<String>, Failure> {
        self.leaves.iter().map(|typed| read_leave(typed)).collect()
    }
}

fn read_leave(typed: &str) -> Result<String, Failure> {
    let bytes = words::typed_bytes(typed, LEAVE_LEN_MAX)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    match dunlin::control::parse_leave(&text) {
        Some(_) => Ok(text),
        None => Err(Failure::usage("--leave: this is none; `dunlin dht grant` prints one")),
    }
}

impl Terms {
    /// Has changes decided, and shows what is there then.
    pub(super) fn decide(&self, changes: Vec<ChangeOf>, (token, leaves): (u64, Vec<String>)) -> Done {
        match self.node.ask(&self.command(changes, (token, leaves)), PATIENCE)? {
            Answer::Changed(values) => show_changed(self.json, &values),
            Answer::NotChanged(refused) => Err(not_changed(self.json, &refused)),
            _ => Err(unexpected()),
        }
    }

    /// What a node is asked to have decided.
    pub(super) fn command(&self, changes: Vec<ChangeOf>, (token, leaves): (u64, Vec<String>)) -> Command {
        let (life_ms, is_owned) = (Some(millis(self.ttl)), self.owned);
        Command::Change(ChangeLine { changes, life_ms, is_owned, token, leaves })
    }
}
