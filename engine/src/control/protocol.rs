//! What travels: a request, and the answers to it.
//!
//! Each line is `{"version":1,"content":…}`. A node refuses versions that it does not know, and so does a command.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::network::values::{Condition, GivenLeave, Version};

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
    /// Say something to a node and wait until it has taken it: [`Answer::Taken`].
    Speak(Words),
    /// Say something to a node alone: [`Answer::Taken`].
    Whisper(Words),
    /// Say something to everybody: [`Answer::Said`].
    Shout {
        /// What: one msgpack value, in hexadecimal digits.
        value: String,
    },
    /// Hear what others say, from now on: [`Answer::Heard`] and [`Answer::Missed`], until the caller goes.
    Listen,
    /// The nodes closest to a node's place: [`Answer::Nodes`].
    Find {
        /// The node's ID.
        node: String,
    },
    /// The nodes that this one knows: [`Answer::Nodes`].
    Table,
    /// Have a value kept: [`Answer::Kept`], or [`Answer::NotChanged`].
    Put(PutLine),
    /// What is known of a key: [`Answer::Value`].
    Get(GetLine),
    /// Have a majority decide about values: [`Answer::Changed`], or [`Answer::NotChanged`].
    Change(ChangeLine),
    /// Hold the lock of a key until the caller gives it back: [`Answer::Locked`] at once and at each renewal, [`Answer::LockLost`] when
    /// it is not held any more; or [`Answer::NotChanged`].
    Lock(LockLine),
    /// Give another leave to write a key of this node's: [`Answer::Leave`].
    Grant(GrantLine),
    /// Go on under the key that the key file has by now: [`Answer::KeyTaken`].
    TakeKey,
    /// On the stream of a lock, give it back: [`Answer::GivenBack`]. A lock whose caller goes without a word runs out.
    GiveBack,
}

/// A value to be kept.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PutLine {
    /// The key, in hexadecimal digits of its msgpack, as all keys and values here.
    pub key: String,
    /// The value; nil deletes.
    pub value: String,
    /// How long it lasts, in milliseconds; none: as long as values do.
    pub life_ms: Option<u64>,
    /// The key becomes the node's own.
    pub is_owned: bool,
    /// Its owner's leave, as [`Answer::Leave`] has it.
    #[serde(default)]
    pub leave: Option<String>,
}

/// Leave to be given.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GrantLine {
    /// The key.
    pub key: String,
    /// The ID of whoever may write it.
    pub writer: String,
    /// For how long from now, in milliseconds.
    pub life_ms: u64,
}

/// A value to be read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GetLine {
    /// The key.
    pub key: String,
    /// The ID of whoever it must be of.
    pub owner: Option<String>,
    /// How many holders must answer.
    pub quorum: Option<usize>,
}

/// Values to be changed together.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChangeLine {
    /// What of each.
    pub changes: Vec<ChangeOf>,
    /// How long what is written lasts, in milliseconds; none: as long as values do.
    pub life_ms: Option<u64>,
    /// Keys that are nobody's yet become the node's own.
    pub is_owned: bool,
    /// The fencing token of the lock that it is written under; 0: none.
    pub token: u64,
    /// The leaves of the keys' owner, one for each key.
    #[serde(default)]
    pub leaves: Vec<String>,
}

/// What is to become of a key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChangeOf {
    /// The key.
    pub key: String,
    /// What must be there: `none`, or [`ValueLine::cas`].
    pub cas: Option<String>,
    /// What is wished.
    pub wish: WishLine,
}

/// What is to become of a value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WishLine {
    /// It is this.
    Set(String),
    /// It is gone.
    Delete,
    /// These operations are done to it: their msgpack array.
    Diff(String),
}

/// A lock to be held.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LockLine {
    /// The key.
    pub key: String,
    /// How long it is held without renewal, in milliseconds.
    pub lease_ms: u64,
    /// How long to wait while another has it, in milliseconds; none: as long as it takes.
    pub wait_ms: Option<u64>,
    /// Its owner's leave.
    #[serde(default)]
    pub leave: Option<String>,
}

/// Something to say to somebody.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Words {
    /// To whom: an ID, or a URI that is called first.
    pub peer: String,
    /// What: one msgpack value, in hexadecimal digits.
    pub value: String,
}

/// What a node answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// How it is.
    Status(Box<Status>),
    /// The node runs under the key that its file has.
    KeyTaken {
        /// Its ID.
        id: String,
        /// The ID that it had until now; none: it had that key already.
        old: Option<String>,
    },
    /// It was said, and taken.
    Taken {
        /// By whom.
        peer: String,
    },
    /// It was said to everybody.
    Said {
        /// Its name, in hexadecimal digits.
        id: String,
        /// Links that it left on; with none nobody has heard it.
        links: usize,
    },
    /// The caller is heard from now on.
    Listening,
    /// Somebody said something.
    Heard(Heard),
    /// So much was said that the caller did not take in time.
    Missed(u64),
    /// Nodes, the closest first.
    Nodes(Vec<NodeLine>),
    /// The value is kept.
    Kept {
        /// By so many holders; none: it was decided, and more than half of them do.
        by: Option<usize>,
        /// Of so many.
        of: Option<usize>,
    },
    /// What is known of a key; none: nothing.
    Value(Option<Box<ValueLine>>),
    /// What is there now, of each key that was to change.
    Changed(Vec<ValueLine>),
    /// The holders say no.
    NotChanged(NotChanged),
    /// Leave to write a key.
    Leave {
        /// In text, as whoever was given it says it.
        leave: String,
        /// When it ends: unix time in milliseconds.
        until_ms: u64,
    },
    /// The lock is held.
    Locked {
        /// Its fencing token.
        token: u64,
        /// Until when unless it is renewed, in milliseconds of CLOCK_BOOTTIME.
        until_ms: u64,
    },
    /// The lock is held no more.
    LockLost,
    /// Others can have the lock.
    GivenBack,
    /// It would not, or could not: why.
    Refused(String),
}

/// Why nothing has changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NotChanged {
    /// The reason, for programs: `mismatch`, `leased`, `bad-diff`, `not-allowed` and others.
    pub reason: String,
    /// For people, with what is there.
    pub words: String,
    /// What is there instead, as far as the holders told.
    pub there: Vec<ValueLine>,
}

/// A value as it was found.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ValueLine {
    /// Its key.
    pub key: String,
    /// It; nil: there is none any more.
    pub value: String,
    /// What a condition names for it to hold while this is there: SEQUENCE:HASH.
    pub cas: String,
    /// How often it was written; 0: nobody has signed it.
    pub sequence: u64,
    /// Whose key it is; none: nobody's.
    pub owner: Option<String>,
    /// Who wrote it.
    pub writer: Option<String>,
    /// When, in unix time in milliseconds.
    pub written_ms: u64,
    /// When it ends, in unix time in milliseconds.
    pub expires_ms: u64,
    /// The fencing token that it was written under; 0: none.
    pub token: u64,
    /// Who has locked the key.
    pub lock: Option<LockedBy>,
    /// Holders that say the same; none: it was decided.
    pub holders: Option<usize>,
}

/// Who has a lock.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LockedBy {
    /// The node.
    pub holder: String,
    /// When it ends unless it is renewed, in unix time in milliseconds.
    pub until_ms: u64,
    /// Its fencing token.
    pub token: u64,
}

/// The condition that a text is: `none`, or SEQUENCE:HASH.
#[must_use]
pub fn parse_condition(text: &str) -> Option<Condition> {
    if text == "none" {
        return Some(Condition::Nothing);
    }
    let (sequence, hash) = text.split_once(':')?;
    let value_hash = from_hex(hash)?.try_into().ok()?;
    Some(Condition::Is(Version { sequence: sequence.parse().ok()?, value_hash }))
}

/// The leave that a text is: OWNER:UNTIL:SIGNATURE, an ID, unix time in milliseconds, hexadecimal digits.
#[must_use]
pub fn parse_leave(text: &str) -> Option<GivenLeave> {
    let (owner, rest) = text.split_once(':')?;
    let (until, signature) = rest.split_once(':')?;
    let signature = from_hex(signature)?.try_into().ok()?;
    Some(GivenLeave { owner: owner.parse().ok()?, until_ms: until.parse().ok()?, signature })
}

/// A leave in text.
pub(super) fn show_leave(leave: &GivenLeave) -> String {
    format!("{}:{}:{}", leave.owner, leave.until_ms, to_hex(&leave.signature))
}

/// A version as conditions name it.
pub(super) fn show_version(version: &Version) -> String {
    format!("{}:{}", version.sequence, to_hex(&version.value_hash))
}

/// What somebody said.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Heard {
    /// Who.
    pub from: String,
    /// How: `speak`, `whisper`, `shout`.
    pub how: String,
    /// What: one msgpack value, in hexadecimal digits.
    pub value: String,
}

/// A node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeLine {
    /// Its ID.
    pub id: String,
    /// Where it can be called; none: it can only initiate.
    pub endpoints: Vec<String>,
    /// How the node came to it, where it opened a link to it: `roll`, `table`, or `anchor` for one that it had before it restarted.
    #[serde(default)]
    pub link: Option<String>,
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
    /// Nodes that it knows; none: it is in no network.
    pub known_nodes: Option<usize>,
    /// Where others are told to call it.
    pub advertised: Vec<String>,
    /// What its store did; none: it has none.
    pub store: Option<StoreStatus>,
    /// What became of words to everybody; none: it is in no network.
    #[serde(default)]
    pub rumours: Option<RumourStatus>,
    /// What it keeps of the network's values; none: it is in no network.
    #[serde(default)]
    pub values: Option<ValueStatus>,
    /// Each shard, in order.
    pub shards: Vec<ShardStatus>,
}

/// What became of rumours since the node's start: SHOUT, ANNOUNCE and CHANGE_KEY.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RumourStatus {
    /// Taken: verified, and told or acted upon.
    pub taken: u64,
    /// Verified; some of them were refused then.
    pub verified: u64,
    /// Copies that were given to links.
    pub carried: u64,
    /// Copies for which a link had no room.
    pub crowded_out: u64,
    /// Copies of what had been taken.
    pub copies: u64,
    /// Refused for another reason, by its name: `stale`, `too-fast`, `over-budget`, `forged` and others.
    pub refused: BTreeMap<String, u64>,
}

/// What a node keeps of its network's values.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ValueStatus {
    /// Values.
    pub values: usize,
    /// Bytes of values and registers with their keys.
    pub bytes: u64,
    /// Copies of values that somebody read.
    pub copies: usize,
    /// Keys and groups about which majorities decide.
    pub registers: usize,
    /// Leases of keys.
    pub leases: usize,
    /// Nodes in the network's roll that entered themselves here.
    pub roll: usize,
}

/// What a store did since the node's start.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct StoreStatus {
    /// Groups on the disk: each was one sync.
    pub commits: u64,
    /// Batches on the disk.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Batches that were refused.
    pub refused: u64,
    /// Why the last one was refused, when it was.
    pub trouble: Option<String>,
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

/// Bytes as lines carry them.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).expect("it is below 16")).collect()
}

/// The bytes that a line carries; none when these are no pairs of hexadecimal digits.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_as_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!((from_hex(""), from_hex("0A")), (Some(vec![]), Some(vec![10])));
        assert_eq!((from_hex("0"), from_hex("0g"), from_hex("é0")), (None, None, None));
    }

    #[test]
    fn a_condition_reads_back() {
        let version = Version { sequence: 7, value_hash: [0xab; 32] };
        assert_eq!(parse_condition(&show_version(&version)), Some(Condition::Is(version)));
        assert_eq!(parse_condition("none"), Some(Condition::Nothing));
        for wrong in ["", "7", "7:", "7:ab", ":ab", "x:", "-1:ab"] {
            assert_eq!(parse_condition(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_leave_reads_back() {
        let owner = dunlin_codec::ids::NodeId([7; 32]);
        let leave = GivenLeave { owner, until_ms: 9, signature: [0xab; 64] };
        let text = show_leave(&leave);
        assert_eq!(parse_leave(&text), Some(leave));
        for wrong in ["", "::", &text[1..], &text[..text.len() - 2], &text.replace(":9:", ":-9:")] {
            assert_eq!(parse_leave(wrong), None, "{wrong:?}");
        }
    }

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
