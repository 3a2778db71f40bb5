//! What travels: a request, and the answers to it.
//!
//! Each line is `{"version":1,"content":…}`. A node refuses versions that it does not know, and so does a command.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of these lines.
const VERSION: u32 = 1;

/// What is around every line.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Envelope<T> {
    version: u32,
    content: T,
}

impl<T> Envelope<T> {
    pub(super) const fn new(content: T) -> Self {
        Self { version: VERSION, content }
    }
}

/// What a line carries, or what is wrong with it.
pub(super) fn open<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    let version = serde_json::from_slice::<Envelope<serde::de::IgnoredAny>>(line).map(|outer| outer.version);
    match version {
        Ok(VERSION) => {}
        Ok(other) => return Err(format!("it is of version {other}, and this is version {VERSION}")),
        Err(error) => return Err(error.to_string()),
    }
    serde_json::from_slice::<Envelope<T>>(line).map(|outer| outer.content).map_err(|error| error.to_string())
}

/// What can be asked of a node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// How it is: [`Answer::Status`].
    Status,
}

/// What a node answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// How it is.
    Status(Box<Status>),
    /// It would not, or could not: why.
    Refused(String),
}

/// How a node is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Status {
    /// Its identity.
    pub id: String,
    /// Where it is called.
    pub uris: Vec<String>,
    /// The name of its network.
    pub network: String,
    /// Its release.
    pub release: String,
    /// Its process.
    pub process: u32,
    /// How long it has been running, in milliseconds.
    pub uptime_ms: u64,
    /// Where datagrams come in.
    pub listen: String,
    /// Each shard, in order.
    pub shards: Vec<ShardStatus>,
}

/// How a shard is; the numbers count from the node's start.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ShardStatus {
    /// Which back end it has, and why.
    pub io: String,
    /// Sessions and half-open handshakes.
    pub sessions: usize,
    /// Bytes of message blocks.
    pub memory_bytes: usize,
    /// Datagrams and bytes that came in.
    pub received: Traffic,
    /// Datagrams and bytes that went out.
    pub sent: Traffic,
    /// What its protocol counted, by name; what is zero is left out.
    pub counters: BTreeMap<String, u64>,
    /// Datagrams that were dropped, by reason; what is zero is left out.
    pub drops: BTreeMap<String, u64>,
}

/// What went through a socket.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Traffic {
    /// Datagrams.
    pub datagrams: u64,
    /// Their bytes, headers not counted.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_its_version_and_others_are_refused() {
        let line = serde_json::to_string(&Envelope::new(Command::Status)).unwrap();
        assert_eq!(line, r#"{"version":1,"content":"status"}"#);
        assert_eq!(open::<Command>(line.as_bytes()), Ok(Command::Status));
        let later = r#"{"version":2,"content":{"anything":[1]}}"#;
        assert!(open::<Command>(later.as_bytes()).unwrap_err().contains("version 2"));
        for wrong in ["", "{}", "null", r#"{"version":1}"#, r#"{"version":1,"content":"no such"}"#, "[[[["] {
            assert!(open::<Command>(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let deep = format!(r#"{{"version":1,"content":{}"#, "[".repeat(100_000));
        assert!(open::<Command>(deep.as_bytes()).is_err(), "depth is bounded");
    }
}
