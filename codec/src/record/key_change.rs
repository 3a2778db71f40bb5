//! A key's own history: its inception, and the change from one key to the next (T21).
//!
//! In:    bytes.
//! Out:   [`KeyChange`], [`Inception`]; what is signed, in slices.
//! Holds: both have one length. Nobody has verified a signature.
//!
//! A change: current key 32, new key 32, index 2, time in unix ms 8, SHA-256 of the key after the new one 32. Its two
//! signatures, by the current and by the new key, are over label and change, and travel beside it. An inception: label
//! 19, key 32, SHA-256 of the next key 32, signature 64 over all before it.
//!
//! spec: p2p/change-key

use core::fmt;

use super::SIGNATURE_LEN;
use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};
use crate::ids::NodeId;
use crate::label;

/// Bytes of a change.
pub const KEY_CHANGE_LEN: usize = 32 + 32 + 2 + 8 + 32;

/// Bytes of an inception with its label.
pub const INCEPTION_LEN: usize = label::INCEPTION.len() + 32 + 32 + SIGNATURE_LEN;

/// One key follows another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyChange {
    /// The key until now.
    pub current: NodeId,
    /// The key from now on.
    pub new: NodeId,
    /// The first change has index 1; the inception is 0.
    pub index: u16,
    /// When it was made: unix time in milliseconds.
    pub time_ms: u64,
    /// SHA-256 of the key that may follow the new one.
    pub next_hash: [u8; 32],
}

impl KeyChange {
    /// Takes exactly one change.
    ///
    /// # Errors
    /// [`WireError`]: another length, index 0, or a key that follows itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let change = Self {
            current: NodeId(*reader.array()?),
            new: NodeId(*reader.array()?),
            index: reader.u16()?,
            time_ms: reader.u64()?,
            next_hash: *reader.array()?,
        };
        reader.finish()?;
        if change.index == 0 || change.current == change.new {
            Err(WireError::OutOfRange)
        } else {
            Ok(change)
        }
    }

    /// Writes the change.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        out.put(&self.to_bytes())
    }

    /// Its bytes.
    ///
    /// # Panics
    /// Never: the room is as large as a change.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; KEY_CHANGE_LEN] {
        let mut bytes = [0; KEY_CHANGE_LEN];
        let mut out = Writer::new(&mut bytes);
        out.put(&self.current.0)
            .and_then(|()| out.put(&self.new.0))
            .and_then(|()| out.u16(self.index))
            .and_then(|()| out.u64(self.time_ms))
            .and_then(|()| out.put(&self.next_hash))
            .expect("the room is as large as a change");
        bytes
    }

    /// What both keys sign, one slice behind the other; `change` is its bytes.
    #[must_use]
    pub const fn signing_input(change: &[u8; KEY_CHANGE_LEN]) -> [&[u8]; 2] {
        [label::KEY_CHANGE, change]
    }
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key change {} to {} index {} time {}", self.current, self.new, self.index, self.time_ms)
    }
}

/// The first commitment of a key, in the parts that travel in a node's record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Inception<'a> {
    /// The key that begins.
    pub key: NodeId,
    /// SHA-256 of the key that may follow it.
    pub next_hash: &'a [u8; 32],
    /// The key's signature.
    pub signature: &'a [u8; SIGNATURE_LEN],
}

impl Inception<'_> {
    /// The whole inception, as its key file has it.
    ///
    /// # Panics
    /// Never: the room is as large as an inception.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; INCEPTION_LEN] {
        let mut bytes = [0; INCEPTION_LEN];
        let mut out = Writer::new(&mut bytes);
        out.put(label::INCEPTION)
            .and_then(|()| out.put(&self.key.0))
            .and_then(|()| out.put(self.next_hash))
            .and_then(|()| out.put(self.signature))
            .expect("the room is as large as an inception");
        bytes
    }
}
