//! `dunlin dht`: values, locks and nodes of a network, through a running node.

mod change;
mod get;
mod grant;
mod guard;
mod key;
mod lock;
mod nodes;
mod put;
mod terms;

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
    ///
    /// It is kept once more than half of them have it on disk; they see to it that it stays until its time is over. A key is a text, or
    /// with --group a name within a group. Where a condition or a lock is involved, a majority decides about the key from then on.
    Put(put::Put),
    /// Shows the value of a key
    ///
    /// A text is shown with a line end, bytes as they are, anything else as JSON. It ends with 1 when there is no value.
    Get(get::Get),
    /// Has a value forgotten
    Delete(put::Delete),
    /// Runs a command while this node holds the lock of a key
    ///
    /// The lock is given back when the command has ended. The command finds the lock's fencing token in DUNLIN_FENCING_TOKEN, which grows
    /// with every lock of the key: whatever it writes to should refuse a lower one than it has seen. The key is in DUNLIN_LOCK_KEY and
    /// DUNLIN_LOCK_GROUP (in hexadecimal digits where DUNLIN_LOCK_HEX is set). Signals go to the command, and its exit code is passed on (128 and more: it died of a signal; 126, 127: it
    /// cannot be run). When the lock is lost, since the node has ended or too few others answer, the command gets SIGTERM, then SIGKILL
    /// before others can have the lock, and this ends with 1.
    Lock(lock::Lock),
    /// Changes parts of a value, whatever else others change of it meanwhile
    ///
    /// PATCH.json is a list of operations, done in order, all of them or none: {"set": ["a", "b"], "to": VALUE}, {"remove": ["a", "b"]},
    /// {"splice": ["a"], "at": 3, "remove": 2, "insert": "text"}. A path names entries of maps from the outermost inward; [] is the
    /// whole value. Splices count bytes, of a text or of bytes. What is there then is printed as SEQUENCE:HASH.
    Diff(change::Diff),
    /// Changes several names of a group together, or none of them
    ///
    /// FILE.json is an object: {"group": "GROUP", "changes": [{"name": "NAME", "set": VALUE}, {"name": "OTHER", "delete": true},
    /// {"name": "THIRD", "diff": PATCH}]}, 16 changes at most. A name or a group of bytes is {"hex": "…"}. Each may have "cas": "SEQUENCE:HASH" or "none", what must be there. What
    /// is there then is printed as SEQUENCE:HASH, a line for each name in their order.
    Atomic(change::Atomic),
    /// Gives another node leave to write a key of this one's
    ///
    /// It prints the leave, one line that the other gives to --leave of `dunlin dht put`, delete, diff, atomic and lock. Nobody else can do
    /// anything with it, so it need not be kept secret; it cannot be taken back before its time is over.
    Grant(grant::Grant),
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
        Command::Grant(arguments) => grant::grant(arguments),
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
