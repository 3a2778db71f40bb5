//! Keys as people type them.
//!
//! In:    texts, or bytes in hexadecimal digits; the lock that a command runs under.
//! Out:   keys as nodes are told; fencing tokens.
//! Holds: a text and the bytes that it is made of are two keys, as everywhere.

use std::fmt;

use clap::Args;
use dunlin::config::{FENCING_TOKEN, LOCK_GROUP, LOCK_HEX, LOCK_KEY};
use dunlin::control::{from_hex, to_hex};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::msgpack::write;
use dunlin_codec::record::KEY_LEN_MAX;
use serde::Deserialize;

use crate::failure::Failure;
use crate::words;

/// Which key is meant.
#[derive(Args)]
pub(super) struct KeyFlags {
    /// The key: a text
    #[arg(id = "value_key", value_name = "KEY")]
    key: String,
    /// The group that KEY is a name of: its names live on the same nodes, and `dunlin dht atomic` changes them together
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// KEY and GROUP are bytes, in hexadecimal digits
    #[arg(long)]
    hex_key: bool,
}

/// A key, or one of its two parts, as it is written: a text, or `{"hex": "…"}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(untagged)]
pub(super) enum Name {
    Text(String),
    #[serde(deserialize_with = "of_hex")]
    Bytes(Vec<u8>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hex {
    hex: String,
}

fn of_hex<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let Hex { hex } = Hex::deserialize(from)?;
    from_hex(&hex).ok_or_else(|| serde::de::Error::custom("these are no pairs of hexadecimal digits"))
}

impl Name {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        match self {
            Self::Text(text) => write::str(out, text),
            Self::Bytes(bytes) => write::bin(out, bytes),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bytes(bytes) => write!(f, "0x{}", to_hex(bytes)),
        }
    }
}

impl KeyFlags {
    fn name(&self, typed: &str) -> Result<Name, Failure> {
        if !self.hex_key {
            return Ok(Name::Text(typed.to_owned()));
        }
        let bytes = from_hex(typed).map(Name::Bytes);
        bytes.ok_or_else(|| Failure::usage(format_args!("{typed:?}: give pairs of hexadecimal digits")))
    }

    /// The key, and the group that it is a name of.
    fn parts(&self) -> Result<(Name, Option<Name>), Failure> {
        let group = self.group.as_deref().map(|group| self.name(group)).transpose()?;
        Ok((self.name(&self.key)?, group))
    }

    /// As nodes are told.
    pub(super) fn encode(&self) -> Result<String, Failure> {
        let (name, group) = self.parts()?;
        encode(&name, group.as_ref())
    }

    /// The fencing token under which it is written.
    pub(super) fn token(&self, given: Option<u64>) -> Result<u64, Failure> {
        let (name, group) = self.parts()?;
        token((&name, group.as_ref()), given)
    }

    /// What a command that runs under the key's lock finds in its environment.
    pub(super) fn variables(&self) -> [(&'static str, Option<String>); 3] {
        let is_hex = self.hex_key.then(|| "1".to_owned());
        [(LOCK_KEY, Some(self.key.clone())), (LOCK_GROUP, self.group.clone()), (LOCK_HEX, is_hex)]
    }
}

impl fmt::Display for KeyFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.key)
    }
}

/// The fencing token under which a key is written: the one that was given, else that of the lock of this very key which the command
/// runs under.
pub(super) fn token((name, group): (&Name, Option<&Name>), given: Option<u64>) -> Result<u64, Failure> {
    if let Some(token) = given {
        return Ok(token);
    }
    let variable = |name| std::env::var(name).ok();
    let is_hex = variable(LOCK_HEX).is_some();
    let is_same = |name: Option<&Name>, locked: Option<String>| match (name, locked) {
        (Some(Name::Text(text)), Some(locked)) => !is_hex && *text == locked,
        (Some(Name::Bytes(bytes)), Some(locked)) => is_hex && from_hex(&locked).as_ref() == Some(bytes),
        (None, None) => true,
        _ => false,
    };
    if !is_same(Some(name), variable(LOCK_KEY)) || !is_same(group, variable(LOCK_GROUP)) {
        return Ok(0);
    }
    let Some(token) = variable(FENCING_TOKEN) else { return Ok(0) };
    token.parse().map_err(|_| Failure::usage(format_args!("{FENCING_TOKEN}: {token:?} is no token")))
}

/// A key as nodes are told: a text or bytes, or the list of a group and a name.
pub(super) fn encode(name: &Name, group: Option<&Name>) -> Result<String, Failure> {
    let bytes = words::packed(name.len() + group.map_or(0, Name::len), |out| {
        if let Some(group) = group {
            write::array(out, 2)?;
            group.write(out)?;
        }
        name.write(out)
    });
    if bytes.len() > KEY_LEN_MAX {
        let len = bytes.len();
        return Err(Failure::usage(format_args!("the key has {len} bytes, and {KEY_LEN_MAX} is the limit")));
    }
    Ok(to_hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Name {
        Name::Text(text.to_owned())
    }

    #[test]
    fn a_key_is_a_text_or_a_name_of_a_group() {
        assert_eq!(encode(&text("k"), None).unwrap(), "a16b");
        assert_eq!(encode(&text("a/b"), None).unwrap(), "a3612f62");
        assert_eq!(encode(&text("k"), Some(&text("g"))).unwrap(), "92a167a16b");
        assert_eq!(encode(&Name::Bytes(vec![0xff]), Some(&text("g"))).unwrap(), "92a167c401ff");
        assert!(encode(&text(&"k".repeat(KEY_LEN_MAX)), None).is_err());
    }

    #[test]
    fn a_key_of_bytes_is_typed_in_digits() {
        let flags =
            |key: &str, hex_key| KeyFlags { key: key.to_owned(), group: Some("67".to_owned()), hex_key };
        assert_eq!(flags("ff00", true).encode().unwrap(), "92c40167c402ff00");
        assert_eq!(flags("ff00", false).encode().unwrap(), "92a23637a466663030");
        for wrong in ["f", "0xff", "é0"] {
            assert!(flags(wrong, true).encode().is_err(), "{wrong}");
        }
        let name: Name = serde_json::from_str(r#"{"hex":"ff"}"#).unwrap();
        assert_eq!(
            (name, serde_json::from_str::<Name>("\"ff\"").unwrap()),
            (Name::Bytes(vec![0xff]), text("ff"))
        );
        for wrong in [r#"{"hex":"f"}"#, r#"{"hex":"ff","x":1}"#, "1", "null"] {
            assert!(serde_json::from_str::<Name>(wrong).is_err(), "{wrong}");
        }
    }
}
