//! `dunlin dht find` and `dht table`: the nodes of a network, through a running one.

use clap::Args;
use dunlin::NodeId;
use dunlin::control::{Answer, Command as Asked, NodeLine};
use serde_json::json;

use crate::admin::{AdminFlags, SOON, unexpected};
use crate::failure::Failure;
use crate::say::PATIENCE;
use crate::{Done, output};

#[derive(Args)]
pub(crate) struct Find {
    /// The node's ID
    node: String,
    /// List the nodes closest to its place as well
    #[arg(long)]
    closest: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asked: AdminFlags,
}

#[derive(Args)]
pub(crate) struct Table {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asked: AdminFlags,
}

pub(super) fn find(arguments: &Find) -> Done {
    let wanted: NodeId = arguments
        .node
        .parse()
        .map_err(|error| Failure::usage(format_args!("{:?} is no ID: {error}", arguments.node)))?;
    let nodes = ask(&arguments.asked, Asked::Find { node: wanted.to_string() })?;
    let found = nodes.iter().find(|node| node.id == wanted.to_string());
    if arguments.json {
        output::line(json!({ "found": found, "closest": nodes }));
    } else if arguments.closest {
        nodes.iter().for_each(show);
    } else if let Some(node) = found {
        uris(node).for_each(output::line);
    }
    match found {
        Some(_) => Ok(()),
        None if arguments.json => Err(Failure::said()),
        None => Err(Failure::new(format_args!(
            "nobody knows this node: it may be down, in another network, or unable to take calls \
             ({} nodes close to its place answered)",
            nodes.len()
        ))),
    }
}

pub(super) fn table(arguments: &Table) -> Done {
    for node in ask(&arguments.asked, Asked::Table)? {
        if arguments.json {
            output::line(json!(node));
        } else {
            show(&node);
        }
    }
    Ok(())
}

fn ask(flags: &AdminFlags, command: Asked) -> Result<Vec<NodeLine>, Failure> {
    let wait = if command == Asked::Table { SOON } else { PATIENCE };
    match flags.ask(&command, wait)? {
        Answer::Nodes(nodes) => Ok(nodes),
        _ => Err(unexpected()),
    }
}

/// One line: the ID, and where it can be called.
fn show(node: &NodeLine) {
    let place =
        if node.endpoints.is_empty() { "can only call others".to_owned() } else { node.endpoints.join(" ") };
    let link = node.link.as_ref().map(|source| format!(" (a link, by the {source})")).unwrap_or_default();
    output::line(format_args!("{} {place}{link}", node.id));
}

fn uris(node: &NodeLine) -> impl Iterator<Item = String> {
    node.endpoints.iter().map(|endpoint| format!("dunlin://{}@{endpoint}", node.id))
}
