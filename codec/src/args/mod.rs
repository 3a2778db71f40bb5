//! Arguments: what the payload of each operation says, as typed views over msgpack.
//!
//! In:    an operation and its payload, opened when it was sealed; values to write.
//! Out:   [`Request`], [`Ack`], [`Nack`], borrowed from the payload; payloads.
//! Holds: a view is complete: no accessor can fail. What a node may do with it is not known here.
//!
//! | operation | arguments |
//! |---|---|
//! | PING | nil |
//! | SET_CONNECTION_OPT | [option, setting] (`option`) |
//! | ANNOUNCE | node record, bin |
//! | CHANGE_KEY | [change, signature by the current key, signature by the new key], all bin |
//! | SHOUT, SPEAK, WHISPER, CUSTOM | any value |
//! | FIND_NODE | address, bin of 32 |
//! | FIND_VALUE | [address, key] |
//! | STORE | [address, key, value] or [address, key, value, options] (`store`) |
//! | ACK, NACK | [operation, …] (`answer`) |
//!
//! We write nil for PING, whose arguments the source leaves open, and records as bin.
//!
//! spec: p2p/arguments

mod answer;
mod diff;
mod members;
mod option;
mod register;
mod roll;
mod rows;
mod store;

use core::fmt;

use crate::bytes::Writer;
use crate::error::{NoRoom, WireError};
use crate::ids::Address;
use crate::message::Operation;
use crate::msgpack::{Encoded, MsgpackError, write};
use crate::record::{KEY_CHANGE_LEN, Key, KeyChange, NodeRecord, SIGNATURE_LEN};

pub use answer::{Ack, Found, NODES_MAX, Nack, NodeRecords, Promise, Reason, StoreNack, write_nodes};
pub use diff::{Diff, DiffOperation, OPERATIONS_MAX, Path};
pub use members::{MEMBERS_LEN_MAX, MEMBERS_MAX, Members};
pub use option::{RECENT_MAX, Recent, SetOption, Setting, Subnet};
pub use register::{Keys, Leave, ROWS_MAX, Row, Rows};
pub use roll::{ROLL_KEY_LEN_MAX, Roll, RollKey};
pub use rows::{Ballot, Expected, LeaseRow, Metadata};
pub use store::{CHANGES_MAX, Change, Changes, LeaseAction, LeaseRequest, Store, StoreOptions};

/// A payload that is not what its operation takes. The sender's fault; nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ArgumentError {
    /// It is no value.
    #[error(transparent)]
    Msgpack(#[from] MsgpackError),
    /// It is a value of another shape: a type or a number of elements is not that of this operation.
    #[error("the arguments have another shape")]
    Shape,
    /// A number or a length is outside its range.
    #[error("an argument is outside its range")]
    OutOfRange,
    /// A record in it is none.
    #[error("a record is none: {0}")]
    Record(#[from] WireError),
    /// An option of STORE that this version does not know.
    #[error("an option that this version does not know")]
    UnknownOption,
    /// An operation that takes no arguments here: reserved, or an answer where a request was expected.
    #[error("not an operation that can be asked for")]
    Operation,
}

type Result<T> = core::result::Result<T, ArgumentError>;

/// Exactly `N` elements.
fn list<const N: usize>(value: Encoded<'_>) -> Result<[Encoded<'_>; N]> {
    value.as_array().and_then(|array| array.exactly()).ok_or(ArgumentError::Shape)
}

/// Exactly `N` bytes.
fn bytes<const N: usize>(value: Encoded<'_>) -> Result<&[u8; N]> {
    value.as_bytes().ok_or(ArgumentError::Shape)
}

fn bin(value: Encoded<'_>) -> Result<&[u8]> {
    value.as_bin().ok_or(ArgumentError::Shape)
}

fn unsigned(value: Encoded<'_>) -> Result<u64> {
    value.as_unsigned().ok_or(ArgumentError::Shape)
}

fn key(value: Encoded<'_>) -> Result<Key<'_>> {
    Key::new(value).ok_or(ArgumentError::OutOfRange)
}

/// What stands for nothing is nil.
fn optional<'a, T>(value: Encoded<'a>, read: impl FnOnce(Encoded<'a>) -> Result<T>) -> Result<Option<T>> {
    if value.is_nil() { Ok(None) } else { read(value).map(Some) }
}

/// Writes nil for what is not there.
fn or_nil<T>(
    out: &mut Writer<'_>,
    value: Option<T>,
    write: impl FnOnce(&mut Writer<'_>, T) -> core::result::Result<(), NoRoom>,
) -> core::result::Result<(), NoRoom> {
    match value {
        Some(value) => write(out, value),
        None => write::nil(out),
    }
}

/// A change of key with both signatures; nobody has verified them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChangeKey<'a> {
    /// What is changed.
    pub change: KeyChange,
    /// The current key's signature over label and change.
    pub by_current: &'a [u8; SIGNATURE_LEN],
    /// The new key's signature over label and change.
    pub by_new: &'a [u8; SIGNATURE_LEN],
}

/// What is looked for under a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FindValue<'a> {
    /// Where the asker thinks that it lives. Compute it again from the key.
    pub address: Address,
    /// The key.
    pub key: Key<'a>,
}

/// What a peer or an origin asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a view lives on the stack for a moment; a box would be an allocation"
)]
pub enum Request<'a> {
    /// Are you there?
    Ping,
    /// Compression, subnet, links.
    SetConnectionOption(SetOption<'a>),
    /// A node says that it is there.
    Announce(NodeRecord<'a>),
    /// A key follows another.
    ChangeKey(ChangeKey<'a>),
    /// To everybody.
    Shout(Encoded<'a>),
    /// To direct peers.
    Speak(Encoded<'a>),
    /// To one node.
    Whisper(Encoded<'a>),
    /// The nodes closest to an address.
    FindNode(Address),
    /// A value, or the nodes closest to it.
    FindValue(FindValue<'a>),
    /// Keep a value.
    Store(Store<'a>),
    /// The application's own.
    Custom(Encoded<'a>),
}

impl<'a> Request<'a> {
    /// Reads the arguments of an operation.
    ///
    /// # Errors
    /// [`ArgumentError`]: answer NACK. [`ArgumentError::Operation`] for ACK, NACK and the reserved ones.
    pub fn parse(operation: Operation, payload: &'a [u8]) -> Result<Self> {
        let value = Encoded::parse(payload)?;
        Ok(match operation {
            Operation::Ping if value.is_nil() => Self::Ping,
            Operation::Ping => return Err(ArgumentError::Shape),
            Operation::SetConnectionOption => Self::SetConnectionOption(SetOption::from_list(list(value)?)?),
            Operation::Announce => Self::Announce(NodeRecord::parse(bin(value)?)?),
            Operation::ChangeKey => Self::ChangeKey(ChangeKey::from_list(list(value)?)?),
            Operation::Shout => Self::Shout(value),
            Operation::Speak => Self::Speak(value),
            Operation::Whisper => Self::Whisper(value),
            Operation::FindNode => Self::FindNode(Address(*bytes(value)?)),
            Operation::FindValue => {
                let [address, name] = list(value)?;
                Self::FindValue(FindValue { address: Address(*bytes(address)?), key: key(name)? })
            }
            Operation::Store => Self::Store(Store::parse(value)?),
            Operation::Custom => Self::Custom(value),
            Operation::Ack
            | Operation::Nack
            | Operation::Reserved12
            | Operation::Reserved13
            | Operation::Reserved14 => return Err(ArgumentError::Operation),
        })
    }

    /// The operation whose arguments these are.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Ping => Operation::Ping,
            Self::SetConnectionOption(_) => Operation::SetConnectionOption,
            Self::Announce(_) => Operation::Announce,
            Self::ChangeKey(_) => Operation::ChangeKey,
            Self::Shout(_) => Operation::Shout,
            Self::Speak(_) => Operation::Speak,
            Self::Whisper(_) => Operation::Whisper,
            Self::FindNode(_) => Operation::FindNode,
            Self::FindValue(_) => Operation::FindValue,
            Self::Store(_) => Operation::Store,
            Self::Custom(_) => Operation::Custom,
        }
    }

    /// Writes the payload.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    pub fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::whole(out, |out| match self {
            Self::Ping => write::nil(out),
            Self::SetConnectionOption(option) => {
                write::array(out, 2)?;
                option.write_elements(out)
            }
            Self::Announce(record) => write::bin(out, record.bytes()),
            Self::ChangeKey(change) => change.write(out),
            Self::Shout(value) | Self::Speak(value) | Self::Whisper(value) | Self::Custom(value) => {
                write::encoded(out, *value)
            }
            Self::FindNode(address) => write::bin(out, &address.0),
            Self::FindValue(FindValue { address, key }) => {
                write::array(out, 2)?;
                write::bin(out, &address.0)?;
                write::encoded(out, key.encoded())
            }
            Self::Store(store) => store.write(out),
        })
    }
}

impl<'a> ChangeKey<'a> {
    fn from_list([change, by_current, by_new]: [Encoded<'a>; 3]) -> Result<Self> {
        let change: &[u8; KEY_CHANGE_LEN] = bytes(change)?;
        Ok(Self { change: KeyChange::parse(change)?, by_current: bytes(by_current)?, by_new: bytes(by_new)? })
    }

    fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 3)?;
        write::bin(out, &self.change.to_bytes())?;
        write::bin(out, self.by_current)?;
        write::bin(out, self.by_new)
    }
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation())?;
        match self {
            Self::Ping => Ok(()),
            Self::SetConnectionOption(option) => write!(f, " {option}"),
            Self::Announce(record) => write!(f, " {record}"),
            Self::ChangeKey(change) => write!(f, " {}", change.change),
            Self::Shout(value) | Self::Speak(value) | Self::Whisper(value) | Self::Custom(value) => {
                write!(f, " {value}")
            }
            Self::FindNode(address) => write!(f, " {address}"),
            Self::FindValue(FindValue { address, key }) => write!(f, " {address} key {key}"),
            Self::Store(store) => write!(f, " {store}"),
        }
    }
}

#[cfg(test)]
mod tests;
