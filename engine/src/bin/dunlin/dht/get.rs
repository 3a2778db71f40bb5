//! `dunlin dht get`.

use std::fs;

use clap::Args;
use dunlin::NodeId;
use dunlin::control::{Answer, Command, GetLine, ValueLine, from_hex};
use dunlin_codec::msgpack::{Encoded, Value};

use super::json_of;
use super::key::KeyFlags;
use crate::admin::{AdminFlags, unexpected};
use crate::failure::Failure;
use crate::say::PATIENCE;
use crate::{Done, output, words};

#[derive(Args)]
pub(crate) struct Get {
    #[command(flatten)]
    key: KeyFlags,
    /// Only what this node wrote, or gave leave to write: an ID
    #[arg(long, value_name = "ID")]
    owner: Option<NodeId>,
    /// How many of the nodes that hold the key must answer; else more than half
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16))]
    quorum: Option<u64>,
    /// Write the value into this file, byte for byte
    #[arg(short = 'o', long, value_name = "FILE", conflicts_with_all = ["json", "cas"])]
    output: Option<String>,
    /// Show what `dunlin dht put --cas` takes instead of the value: SEQUENCE:HASH, or none
    #[arg(long, conflicts_with = "json")]
    cas: bool,
    /// One JSON object, with who wrote the value and when; bytes are {"hex": "…"}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: AdminFlags,
}

pub(super) fn get(arguments: &Get) -> Done {
    let quorum = arguments.quorum.and_then(|quorum| usize::try_from(quorum).ok());
    let owner = arguments.owner.map(|owner| owner.to_string());
    let command = Command::Get(GetLine { key: arguments.key.encode()?, owner, quorum });
    let Answer::Value(found) = arguments.node.ask(&command, PATIENCE)? else {
        return Err(unexpected());
    };
    let nil = Encoded::NIL.bytes();
    let found = match found {
        Some(line) if from_hex(&line.value).ok_or_else(unexpected)? != nil => line,
        _ if arguments.cas => {
            output::line("none");
            return Ok(());
        }
        deleted => {
            if arguments.json {
                output::line(
                    deleted
                        .map_or(Some(serde_json::Value::Null), |line| json_of(&line))
                        .ok_or_else(unexpected)?,
                );
                return Err(Failure::said());
            }
            return Err(Failure::new("there is no value under this key"));
        }
    };
    if arguments.cas {
        output::line(&found.cas);
        return Ok(());
    }
    if arguments.json {
        output::line(json_of(&found).ok_or_else(unexpected)?);
        return Ok(());
    }
    show(&found, arguments.output.as_deref())
}

fn show(found: &ValueLine, path: Option<&str>) -> Done {
    let bytes = from_hex(&found.value).ok_or_else(unexpected)?;
    let value = Encoded::parse(&bytes).map_err(|_| unexpected())?;
    let json;
    let (plain, ending): (&[u8], &str) = match value.value() {
        Value::Str(text) => (text.as_bytes(), "\n"),
        Value::Bin(bytes) => (bytes, ""),
        _ => {
            json = words::to_json(&value).to_string();
            (json.as_bytes(), "\n")
        }
    };
    match path {
        Some(path) => {
            fs::write(path, plain).map_err(|error| Failure::new(format_args!("cannot write {path}: {error}")))
        }
        None => {
            output::bytes(plain);
            output::bytes(ending.as_bytes());
            Ok(())
        }
    }
}
