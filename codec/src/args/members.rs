//! Members: the holders of a register under whom its state was accepted.
//!
//! In:    checked values; identities.
//! Out:   [`Members`].
//! Holds: each list is in ascending order and names nobody twice, [`MEMBERS_MAX`] at most; the list of those now is not empty.
//!
//! | what | elements |
//! |---|---|
//! | members | [those before, those now]: bin each, 32 bytes for an identity |
//!
//! A state counts once a majority of either list has accepted it. While the holders stay who they are both lists are the same.
//!
//! spec: p2p/members

use core::fmt;

use super::{ArgumentError, Result, bin, list};
use crate::bytes::Writer;
use crate::error::NoRoom;
use crate::ids::NodeId;
use crate::msgpack::{Encoded, write};

/// Identities in each list at most: k.
pub const MEMBERS_MAX: usize = 16;

/// Bytes of members at most.
pub const MEMBERS_LEN_MAX: usize = 1 + 2 * (3 + 32 * MEMBERS_MAX);

/// Two lists of holders.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Members<'a> {
    before: &'a [[u8; 32]],
    now: &'a [[u8; 32]],
}

fn checked(bytes: &[u8]) -> Result<&[[u8; 32]]> {
    let (ids, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(ArgumentError::Shape);
    }
    let is_ascending = ids.windows(2).all(|pair| pair[0] < pair[1]);
    if is_ascending && ids.len() <= MEMBERS_MAX { Ok(ids) } else { Err(ArgumentError::OutOfRange) }
}

impl<'a> Members<'a> {
    /// Members of two lists, each the bytes of identities one after the other.
    ///
    /// # Errors
    /// [`ArgumentError`]: bytes are left over, too many, out of order, nobody now.
    pub fn new(before: &'a [u8], now: &'a [u8]) -> Result<Self> {
        let members = Self { before: checked(before)?, now: checked(now)? };
        if members.now.is_empty() { Err(ArgumentError::OutOfRange) } else { Ok(members) }
    }

    pub(super) fn parse(value: Encoded<'a>) -> Result<Self> {
        let [before, now] = list(value)?;
        Self::new(bin(before)?, bin(now)?)
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 2)?;
        write::bin(out, self.before.as_flattened())?;
        write::bin(out, self.now.as_flattened())
    }

    /// Those whom the state came from.
    pub fn before(&self) -> impl ExactSizeIterator<Item = NodeId> + use<'a> {
        self.before.iter().copied().map(NodeId)
    }

    /// Those whom it goes to.
    pub fn now(&self) -> impl ExactSizeIterator<Item = NodeId> + use<'a> {
        self.now.iter().copied().map(NodeId)
    }
}

impl fmt::Display for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.before == self.now {
            write!(f, "{} members", self.now.len())
        } else {
            write!(f, "{} members after {}", self.now.len(), self.before.len())
        }
    }
}
