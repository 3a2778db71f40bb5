//! `dunlin speak` and `dunlin whisper`: words to one node, through a running one.

use std::time::Duration;

use clap::Args;
use dunlin::control::{Answer, Command, Words, to_hex};
use dunlin::{DunlinUri, NodeId};
use serde_json::json;

use crate::admin::{AdminFlags, unexpected};
use crate::failure::Failure;
use crate::{Done, output, words};

/// The other node may have to be looked for, called, and waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Args)]
pub(crate) struct Arguments {
    /// To whom: an ID, or dunlin://ID@host:port
    peer: String,
    #[command(flatten)]
    saying: Saying,
}

/// What is said, whoever it is for.
#[derive(Args)]
pub(crate) struct Saying {
    /// What: a text, @FILE, or @- for standard input (@@ begins a text with @)
    #[arg(value_name = "TEXT|@FILE")]
    said: String,
    /// What it is about: those who listen can choose by it
    #[arg(long)]
    topic: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) node: AdminFlags,
}

impl Saying {
    /// As nodes are told.
    pub(crate) fn value(&self) -> Result<String, Failure> {
        Ok(to_hex(&words::encode(&self.said, self.topic.as_deref())?))
    }
}

pub(crate) fn run(arguments: &Arguments, command: fn(Words) -> Command) -> Done {
    check_peer(&arguments.peer)?;
    let words = Words { peer: arguments.peer.clone(), value: arguments.saying.value()? };
    let Answer::Taken { peer } = arguments.saying.node.ask(&command(words), PATIENCE)? else {
        return Err(unexpected());
    };
    if arguments.saying.json {
        output::line(json!({ "event": "taken", "peer": peer }));
    }
    Ok(())
}

/// An ID or a URI: what is neither is not worth asking the node about.
pub(crate) fn check_peer(peer: &str) -> Result<(), Failure> {
    if peer.parse::<NodeId>().is_ok() {
        return Ok(());
    }
    match peer.parse::<DunlinUri>() {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Failure::usage(format_args!("{peer:?} is neither an ID nor dunlin://ID@host:port: {error}")))
        }
    }
}
