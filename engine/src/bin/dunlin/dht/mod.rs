//! `dunlin dht`: values, locks and nodes of a network, through a running node.

mod change;
mod get;
mod guard;
mod key;
mod lock;
mod nodes;
mod put;

use clap::Subcommand;
use dunlin::control::{NotChanged, ValueLine, from_hex};
use dunlin_codec::msgpack::Encoded;
use serde_json::json;

use crate::admin::unexpected;
use crate::failure::Failure;
use crate::{Done, output, words};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Has a value kept by the nodes closest to its key
    Put(put::Put),
    /// Shows the value of a key
    Get(get::Get),
    /// Has a value forgotten
    Delete(put::Delete),
    /// Runs a command while this node holds the lock of a key
    Lock(lock::Lock),
    /// Changes parts of a value, whatever else others change of it meanwhile
    Diff(change::Diff),
    /// Changes several names of a group together, or none of them
    Atomic(change::Atomic),
    /// Finds out where a node is
    Find(nodes::Find),
    /// Lists the nodes that the running node knows, the closest first
    Table(nodes::Table),
    /// Becomes a command that does not outlive the process that asked for it
    #[command(hide = true)]
    Guarded(guard::Guarded),
}

pub(crate) fn run(command: &Command) -> Done {
    match command {
        Command::Put(arguments) => put::put(arguments),
        Command::Get(arguments) => get::get(arguments),
        Command::Delete(arguments) => put::delete(arguments),
        Command::Lock(arguments) => lock::lock(arguments),
        Command::Diff(arguments) => change::diff(arguments),
        Command::Atomic(arguments) => change::atomic(arguments),
        Command::Find(arguments) => nodes::find(arguments),
        Command::Table(arguments) => nodes::table(arguments),
        Command::Guarded(arguments) => guard::guarded(arguments),
    }
}

/// The holders say no: what is there instead goes where the caller looks.
fn not_changed(is_json: bool, refused: &NotChanged) -> Failure {
    if !is_json {
        return Failure::new(&refused.words);
    }
    let there: Option<Vec<_>> = refused.there.iter().map(json_of).collect();
    output::line(
        json!({ "event": "refused", "reason": refused.reason, "why": refused.words, "there": there }),
    );
    Failure::said()
}

/// A value as one JSON object; none: the node speaks of something else.
fn json_of(line: &ValueLine) -> Option<serde_json::Value> {
    let (key, value) = (from_hex(&line.key)?, from_hex(&line.value)?);
    let (key, value) = (Encoded::parse(&key).ok()?, Encoded::parse(&value).ok()?);
    Some(json!({
        "key": words::to_json(&key),
        "value": words::to_json(&value),
        "cas": line.cas,
        "sequence": line.sequence,
        "owner": line.owner,
        "writer": line.writer,
        "written_ms": line.written_ms,
        "expires_ms": line.expires_ms,
        "token": line.token,
        "lock": line.lock,
        "holders": line.holders,
    }))
}

/// Shows what is there after a change: what --cas takes, a line for each key.
fn show_changed(is_json: bool, values: &[ValueLine]) -> Done {
    for value in values {
        if is_json {
            let changed = json_of(value).ok_or_else(unexpected)?;
            output::line(json!({ "event": "changed", "now": changed }));
        } else {
            output::line(&value.cas);
        }
    }
    Ok(())
}
