//! Values between people and nodes: text and files to msgpack, msgpack to text and JSON.

use std::io::Read;

use dunlin::control::WORDS_LEN_MAX;
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::msgpack::{Encoded, Value, write};
use serde_json::json;

use crate::failure::Failure;

/// Bytes that msgpack adds to a text, a topic and the list of both.
const OVERHEAD_LEN: usize = 16;

/// What was typed, as a value: TEXT, @FILE, @- for standard input, @@TEXT for a text that begins with @. With a topic it is the list of both.
pub(crate) fn encode(typed: &str, topic: Option<&str>) -> Result<Vec<u8>, Failure> {
    let bytes = typed_bytes(typed, WORDS_LEN_MAX)?;
    let mut room = vec![0; bytes.len() + topic.map_or(0, str::len) + OVERHEAD_LEN];
    let mut out = Writer::new(&mut room);
    write_value(&mut out, &bytes, topic).expect("there is room for what it holds");
    if out.len() > WORDS_LEN_MAX {
        let (len, max) = (out.len(), WORDS_LEN_MAX);
        return Err(Failure::usage(format_args!(
            "this makes {len} bytes, and {max} can be said; send a file with `dunlin send`"
        )));
    }
    Ok(out.written().to_vec())
}

/// What was typed: TEXT, @FILE, @- for standard input, @@TEXT for a text that begins with @. Of what is longer than `len_max`, one byte more.
pub(crate) fn typed_bytes(typed: &str, len_max: usize) -> Result<Vec<u8>, Failure> {
    match typed.strip_prefix('@') {
        None => Ok(typed.as_bytes().to_vec()),
        Some(text) if text.starts_with('@') => Ok(text.as_bytes().to_vec()),
        Some(path) => file_bytes(path, len_max),
    }
}

/// What a file holds; `-` is standard input. Of what is longer than `len_max`, one byte more.
pub(crate) fn file_bytes(path: &str, len_max: usize) -> Result<Vec<u8>, Failure> {
    if path == "-" {
        return read("standard input", std::io::stdin(), len_max);
    }
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    read(path, file, len_max)
}

/// Text where it is text, else bytes.
pub(crate) fn text_or_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut room = vec![0; bytes.len() + OVERHEAD_LEN];
    let mut out = Writer::new(&mut room);
    write_value(&mut out, bytes, None).expect("there is room for what it holds");
    out.written().to_vec()
}

/// Text where it is text, else bytes; with a topic the list of both.
fn write_value(out: &mut Writer<'_>, bytes: &[u8], topic: Option<&str>) -> Result<(), NoRoom> {
    if let Some(topic) = topic {
        write::array(out, 2)?;
        write::str(out, topic)?;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => write::str(out, text),
        Err(_) => write::bin(out, bytes),
    }
}

fn read(name: &str, mut from: impl Read, len_max: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let result = from.by_ref().take(len_max as u64 + 1).read_to_end(&mut bytes);
    result.map_err(|error| unreadable(name, &error))?;
    Ok(bytes)
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(format_args!("cannot read {name}: {error}"))
}

/// A value's topic, and what is said about it.
pub(crate) fn split_topic<'a>(value: &Encoded<'a>) -> Option<(&'a str, Encoded<'a>)> {
    let [topic, said] = value.as_array()?.exactly::<2>()?;
    Some((topic.as_str()?, said))
}

/// A value as JSON: bytes become `{"hex": "…"}`, and numbers that JSON does not have become text.
pub(crate) fn to_json(value: &Encoded<'_>) -> serde_json::Value {
    match value.value() {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(truth) => json!(truth),
        Value::Unsigned(number) => json!(number),
        Value::Negative(number) => json!(number),
        Value::Double(number) if number.is_finite() => json!(number),
        Value::Double(number) => json!(number.to_string()),
        Value::Str(text) => json!(text),
        Value::Bin(bytes) => json!({ "hex": dunlin::control::to_hex(bytes) }),
        Value::Array(items) => items.into_iter().map(|item| to_json(&item)).collect(),
        Value::Map(entries) => {
            entries.into_iter().map(|(key, value)| (key.to_owned(), to_json(&value))).collect()
        }
    }
}

/// JSON as a value: the other way round, so that `{"hex": "…"}` is bytes.
pub(crate) fn write_json(out: &mut Writer<'_>, json: &serde_json::Value) -> Result<(), NoRoom> {
    match json {
        serde_json::Value::Null => write::nil(out),
        serde_json::Value::Bool(truth) => write::bool(out, *truth),
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => write::unsigned(out, number),
            (_, Some(number), _) => write::signed(out, number),
            (.., number) => write::double(out, number.unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => write::str(out, text),
        serde_json::Value::Array(items) => {
            write::array(out, u32::try_from(items.len()).unwrap_or(u32::MAX))?;
            items.iter().try_for_each(|item| write_json(out, item))
        }
        serde_json::Value::Object(entries) => {
            if let Some(bytes) = hex_of(json) {
                return write::bin(out, &bytes);
            }
            write::map(out, u32::try_from(entries.len()).unwrap_or(u32::MAX))?;
            entries.iter().try_for_each(|(key, value)| {
                write::str(out, key)?;
                write_json(out, value)
            })
        }
    }
}

/// The bytes of `{"hex": "…"}`; none: it is something else.
pub(crate) fn hex_of(json: &serde_json::Value) -> Option<Vec<u8>> {
    let entries = json.as_object().filter(|entries| entries.len() == 1)?;
    dunlin::control::from_hex(entries.get("hex")?.as_str()?)
}

/// The bytes of what `write` writes, which has room for nine bytes for each of the JSON that it comes from.
pub(crate) fn packed(json_len: usize, write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    let mut room = vec![0; 9 * json_len + 64];
    let mut out = Writer::new(&mut room);
    write(&mut out).expect("no JSON takes more than nine times its length");
    out.written().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_becomes_a_value_and_comes_back() {
        let text = r#"{"a":[null,true,-1,18446744073709551615,0.5,1e300],"b":{"hex":"ff00"},"":{"x":"y"}}"#;
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        let bytes = packed(text.len(), |out| write_json(out, &json));
        assert_eq!(to_json(&Encoded::parse(&bytes).unwrap()), json);
        let not_hex = json!({ "hex": "no digits" });
        let bytes = packed(20, |out| write_json(out, &not_hex));
        assert_eq!(to_json(&Encoded::parse(&bytes).unwrap()), not_hex);
        for text in ["1e5", "[]", "{}", "[1.5,1.5,1.5]", "\"\""] {
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            packed(text.len(), |out| write_json(out, &json));
        }
    }

    fn shown(bytes: &[u8]) -> String {
        Encoded::parse(bytes).unwrap().to_string()
    }

    #[test]
    fn what_is_typed_becomes_a_value() {
        assert_eq!(shown(&encode("hello", None).unwrap()), "\"hello\"");
        assert_eq!(shown(&encode("@@home", None).unwrap()), "\"@home\"");
        assert_eq!(shown(&encode("", Some("news")).unwrap()), "[\"news\", \"\"]");
        let path = std::env::temp_dir().join(format!("dunlin-words-{}", std::process::id()));
        std::fs::write(&path, [0xff, 0]).unwrap();
        let value = encode(&format!("@{}", path.display()), Some("t")).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(shown(&value), "[\"t\", 0xff00]");
        let value = Encoded::parse(&value).unwrap();
        let (topic, said) = split_topic(&value).unwrap();
        assert_eq!((topic, to_json(&said)), ("t", json!({ "hex": "ff00" })));
        assert!(split_topic(&said).is_none());
        assert!(encode("@/nonexistent", None).is_err());
        assert!(encode(&"x".repeat(WORDS_LEN_MAX), None).is_err());
        assert!(encode(&"x".repeat(WORDS_LEN_MAX - OVERHEAD_LEN), None).is_ok());
    }
}
