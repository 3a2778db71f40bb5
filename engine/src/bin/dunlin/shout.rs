//! `dunlin shout`: words to everybody, through a running node.

use clap::Args;
use dunlin::control::{Answer, Command, to_hex};
use serde_json::json;

use crate::admin::{AdminFlags, unexpected};
use crate::failure::Failure;
use crate::{Done, output, say, words};

#[derive(Args)]
pub(crate) struct Arguments {
    /// What: a text, @FILE, or @- for standard input (@@ begins a text with @); 8 KiB at most
    #[arg(value_name = "TEXT|@FILE")]
    said: String,
    /// What it is about: those who listen can choose by it
    #[arg(long)]
    topic: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: AdminFlags,
}

/// Ends with 1 when there is nobody to hear it.
pub(crate) fn run(arguments: &Arguments) -> Done {
    let value = to_hex(&words::encode(&arguments.said, arguments.topic.as_deref())?);
    let Answer::Said { id, links } = arguments.node.ask(&Command::Shout { value }, say::PATIENCE)? else {
        return Err(unexpected());
    };
    if arguments.json {
        output::line(json!({ "event": "said", "id": id, "links": links }));
    }
    if links == 0 {
        return Err(Failure::new(
            "nobody has heard it: the node has no link to another yet; try again when `dunlin dht table` lists nodes",
        ));
    }
    Ok(())
}
