//! `dunlin dht put` and `dht delete`.

use std::time::Duration;

use clap::Args;
use dunlin::control::{Answer, ChangeLine, ChangeOf, Command, PutLine, WishLine, parse_condition, to_hex};
use dunlin_codec::msgpack::Encoded;
use dunlin_shards::limits::VALUE_LEN_MAX;
use serde_json::json;

use super::key::KeyFlags;
use super::{not_changed, show_changed};
use crate::admin::{AdminFlags, unexpected};
use crate::durations::{self, millis};
use crate::failure::Failure;
use crate::say::PATIENCE;
use crate::{Done, output, words};

#[derive(Args)]
pub(crate) struct Put {
    #[command(flatten)]
    key: KeyFlags,
    /// The value: a text, @FILE, or @- for standard input (@@ begins a text with @). What is not UTF-8 is kept as bytes
    #[arg(value_name = "TEXT|@FILE")]
    value: String,
    /// VALUE is JSON: a number, a list, an object; {"hex": "…"} is bytes
    #[arg(long)]
    json_value: bool,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    key: KeyFlags,
    #[command(flatten)]
    terms: Terms,
}

/// On what terms a value is written.
#[derive(Args)]
struct Terms {
    /// How long it lasts, such as 30m or 7d; 30 days at most
    #[arg(long, value_name = "DURATION", value_parser = durations::parse, default_value = "24h")]
    ttl: Duration,
    /// The key becomes this node's: nobody else may write it
    #[arg(long)]
    owned: bool,
    /// Only if this is there: SEQUENCE:HASH as `dunlin dht get --cas` prints it, or none. A majority of the nodes that hold the key
    /// decides; what is there then is printed in the same form
    #[arg(long, value_name = "SEQUENCE:HASH|none", value_parser = condition)]
    cas: Option<String>,
    /// Write under the lock with this fencing token; a command that runs under `dunlin dht lock KEY` does so by itself
    #[arg(long, value_name = "TOKEN")]
    token: Option<u64>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: AdminFlags,
}

/// A condition that can be one.
pub(super) fn condition(text: &str) -> Result<String, String> {
    match parse_condition(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("give none, or SEQUENCE:HASH as `dunlin dht get --cas` prints it".to_owned()),
    }
}

pub(super) fn put(arguments: &Put) -> Done {
    let bytes = words::typed_bytes(&arguments.value, 9 * VALUE_LEN_MAX)?;
    let value = if arguments.json_value { json_value(&bytes)? } else { words::text_or_bytes(&bytes) };
    if value.len() > VALUE_LEN_MAX {
        let len = value.len();
        return Err(Failure::usage(format_args!(
            "the value has {len} bytes or more, and {VALUE_LEN_MAX} can be kept; send a file with `dunlin send`"
        )));
    }
    arguments.terms.write(&arguments.key, &value)
}

pub(super) fn delete(arguments: &Delete) -> Done {
    arguments.terms.write(&arguments.key, Encoded::NIL.bytes())
}

/// The value that a JSON text is.
fn json_value(text: &[u8]) -> Result<Vec<u8>, Failure> {
    let json: serde_json::Value = serde_json::from_slice(text)
        .map_err(|error| Failure::usage(format_args!("the value is no JSON: {error}")))?;
    let value = words::packed(text.len(), |out| words::write_json(out, &json));
    match Encoded::parse(&value) {
        Ok(_) => Ok(value),
        Err(error) => Err(Failure::usage(format_args!("this cannot be a value: {error}"))),
    }
}

impl Terms {
    fn write(&self, key: &KeyFlags, value: &[u8]) -> Done {
        let (name, token) = (key.encode()?, key.token(self.token)?);
        let (value, life_ms) = (to_hex(value), Some(millis(self.ttl)));
        let is_owned = self.owned;
        let command = if self.cas.is_some() || token != 0 {
            let change = ChangeOf { key: name, cas: self.cas.clone(), wish: WishLine::Set(value) };
            Command::Change(ChangeLine { changes: vec![change], life_ms, is_owned, token })
        } else {
            Command::Put(PutLine { key: name, value, life_ms, is_owned })
        };
        match self.node.ask(&command, PATIENCE)? {
            Answer::Kept { by, of } => {
                if self.json {
                    output::line(json!({ "event": "kept", "by": by, "of": of }));
                }
                Ok(())
            }
            Answer::Changed(values) => {
                if self.cas.is_some() || self.json {
                    show_changed(self.json, &values)?;
                }
                Ok(())
            }
            Answer::NotChanged(refused) => Err(not_changed(self.json, &refused)),
            _ => Err(unexpected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_is_no_value_is_refused() {
        assert_eq!(json_value(b"[1,{\"hex\":\"ff\"}]").unwrap(), [0x92, 1, 0xc4, 1, 0xff]);
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        for wrong in ["", "nonsense", "{\"a\":1,}", &deep] {
            assert!(json_value(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
