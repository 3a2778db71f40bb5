//! Keys as people type them.

use clap::Args;
use dunlin::config::{FENCING_TOKEN, LOCK_GROUP, LOCK_KEY};
use dunlin::control::to_hex;
use dunlin_codec::msgpack::write;
use dunlin_codec::record::KEY_LEN_MAX;

use crate::failure::Failure;
use crate::words;

/// Which key is meant.
#[derive(Args)]
pub(super) struct KeyFlags {
    /// The key: a text
    #[arg(id = "value_key", value_name = "KEY")]
    pub(super) key: String,
    /// The group that KEY is a name of: its names live on the same nodes, and `dunlin dht atomic` changes them together
    #[arg(long, value_name = "GROUP")]
    pub(super) group: Option<String>,
}

impl KeyFlags {
    /// As nodes are told.
    pub(super) fn encode(&self) -> Result<String, Failure> {
        encode(&self.key, self.group.as_deref())
    }

    /// The fencing token under which it is written: the one that was given, else that of the lock of this very key which the command
    /// runs under.
    pub(super) fn token(&self, given: Option<u64>) -> Result<u64, Failure> {
        if let Some(token) = given {
            return Ok(token);
        }
        let variable = |name| std::env::var(name).ok();
        if variable(LOCK_KEY).as_ref() != Some(&self.key) || variable(LOCK_GROUP) != self.group {
            return Ok(0);
        }
        let Some(token) = variable(FENCING_TOKEN) else { return Ok(0) };
        token.parse().map_err(|_| Failure::usage(format_args!("{FENCING_TOKEN}: {token:?} is no token")))
    }
}

/// A key as nodes are told: a text, or the list of a group and a name.
pub(super) fn encode(key: &str, group: Option<&str>) -> Result<String, Failure> {
    let bytes = words::packed(key.len() + group.map_or(0, str::len), |out| {
        if let Some(group) = group {
            write::array(out, 2)?;
            write::str(out, group)?;
        }
        write::str(out, key)
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

    #[test]
    fn a_key_is_a_text_or_a_name_of_a_group() {
        assert_eq!(encode("k", None).unwrap(), "a16b");
        assert_eq!(encode("a/b", None).unwrap(), "a3612f62");
        assert_eq!(encode("k", Some("g")).unwrap(), "92a167a16b");
        assert!(encode(&"k".repeat(KEY_LEN_MAX), None).is_err());
    }
}
