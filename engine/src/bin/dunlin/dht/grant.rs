//! `dunlin dht grant`: the owner of a key gives another leave to write it.

use std::time::Duration;

use clap::Args;
use dunlin::NodeId;
use dunlin::control::{Answer, Command, GrantLine};
use serde_json::json;

use super::key::KeyFlags;
use crate::admin::{AdminFlags, SOON, unexpected};
use crate::durations::{self, millis};
use crate::{Done, output};

#[derive(Args)]
pub(crate) struct Grant {
    #[command(flatten)]
    key: KeyFlags,
    /// Who may write it: an ID
    #[arg(value_name = "ID")]
    writer: NodeId,
    /// For how long from now, such as 2h or 7d: 30 days at most. What is written by it ends with it
    #[arg(long, value_name = "DURATION", value_parser = durations::life, default_value = "24h")]
    ttl: Duration,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: AdminFlags,
}

pub(super) fn grant(arguments: &Grant) -> Done {
    let (key, writer) = (arguments.key.encode()?, arguments.writer.to_string());
    let command = Command::Grant(GrantLine { key, writer, life_ms: millis(arguments.ttl) });
    let Answer::Leave { leave, until_ms } = arguments.node.ask(&command, SOON)? else {
        return Err(unexpected());
    };
    if arguments.json {
        output::line(json!({ "event": "granted", "leave": leave, "until_ms": until_ms }));
    } else {
        output::line(leave);
    }
    Ok(())
}
