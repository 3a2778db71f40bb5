//! `dunlin dht put` and `dht delete`.

use clap::Args;
use dunlin::control::{Answer, ChangeOf, Command, PutLine, WishLine, parse_condition, to_hex};
use dunlin_codec::msgpack::Encoded;
use dunlin_shards::limits::VALUE_LEN_MAX;
use serde_json::json;

use super::key::KeyFlags;
use super::terms::{LeaveFlag, Terms};
use super::{not_changed, show_changed};
use crate::admin::unexpected;
use crate::durations::millis;
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
    manner: Manner,
}

#[derive(Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    key: KeyFlags,
    #[command(flatten)]
    manner: Manner,
}

/// How a value is written.
#[derive(Args)]
struct Manner {
    /// Only if this is there: SEQUENCE:HASH as `dunlin dht get --cas` prints it, or none. A majority of the nodes that hold the key
    /// decides; what is there then is printed in the same form
    #[arg(long, value_name = "SEQUENCE:HASH|none", value_parser = condition)]
    cas: Option<String>,
    #[command(flatten)]
    leave: LeaveFlag,
    #[command(flatten)]
    terms: Terms,
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
    arguments.manner.write(&arguments.key, &value)
}

pub(super) fn delete(arguments: &Delete) -> Done {
    arguments.manner.write(&arguments.key, Encoded::NIL.bytes())
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

impl Manner {
    fn write(&self, key: &KeyFlags, value: &[u8]) -> Done {
        let Self { cas, leave, terms } = self;
        let (name, token, leave) = (key.encode()?, key.token(terms.token)?, leave.read()?);
        let value = to_hex(value);
        let command = if cas.is_some() || token != 0 {
            let change = ChangeOf { key: name, cas: cas.clone(), wish: WishLine::Set(value) };
            terms.command(vec![change], (token, leave.into_iter().collect()))
        } else {
            let (life_ms, is_owned) = (Some(millis(terms.ttl)), terms.owned);
            Command::Put(PutLine { key: name, value, life_ms, is_owned, leave })
        };
        match terms.node.ask(&command, PATIENCE)? {
            Answer::Kept { by, of } => {
                if terms.json {
                    output::line(json!({ "event": "kept", "by": by, "of": of }));
                }
                Ok(())
            }
            Answer::Changed(values) => {
                if cas.is_some() || terms.json {
                    show_changed(terms.json, &values)?;
                }
                Ok(())
            }
            Answer::NotChanged(refused) => Err(not_changed(terms.json, &refused)),
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
