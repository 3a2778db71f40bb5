//! The roll of a network: which of its nodes can be reached, kept where the hash of their subnet descriptor says.
//!
//! | what | layout |
//! |---|---|
//! | hash | SHA-256 of a label and the setting of SET_CONNECTION_OPT 2 (`option`), as we write it |
//! | key of the roll, for FIND_VALUE | bin: the hash |
//! | key of an entry, for STORE | [the hash, the node's key], bin of 32 each |
//! | value of an entry | the node's record, bin |
//! | value of the roll | [node record, …], bin each, at most 16 |
//!
//! The source has nodes keyed by their descriptor and leaves the table to the reader. We let every node store an entry of
//! its own: since an entry's key names the roll's as its group, both have one address, and nothing else of STORE and
//! FIND_VALUE is new. An ACK of either says no record and no lease: what is in the roll vouches for itself.
//!
//! In:    keys and values, checked as such; hashes, keys, records to write.
//! Out:   [`RollKey`], [`Roll`].
//! Holds: a roll has no more records than an answer may name (T9); nobody has verified them.
//!
//! spec: p2p/roll

use core::fmt;

use super::{ArgumentError, NODES_MAX, Result, bin};
use crate::bytes::Writer;
use crate::error::NoRoom;
use crate::ids::NodeId;
use crate::msgpack::{Array, Encoded, write};
use crate::record::{Key, NodeRecord};

/// Bytes of a roll's key, or of an entry's, at most.
pub const ROLL_KEY_LEN_MAX: usize = 1 + 2 * (2 + 32);

/// A key that has to do with a network's roll.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RollKey {
    /// All that there are.
    All,
    /// The entry of this node.
    Of(NodeId),
}

impl RollKey {
    /// What a key is in the roll of the network whose descriptor has this hash; none: it has nothing to do with it.
    #[must_use]
    pub fn read(key: &Key<'_>, hash: &[u8; 32]) -> Option<Self> {
        let is_hash = |value: Encoded<'_>| value.as_bin() == Some(hash);
        let (Some(group), Some(name)) = (key.group(), key.name()) else {
            return is_hash(key.encoded()).then_some(Self::All);
        };
        let node: &[u8; 32] = name.as_bytes().filter(|_| is_hash(group))?;
        Some(Self::Of(NodeId(*node)))
    }

    /// Writes the key.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    pub fn write(&self, hash: &[u8; 32], out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::whole(out, |out| match self {
            Self::All => write::bin(out, hash),
            Self::Of(node) => {
                write::array(out, 2)?;
                write::bin(out, hash)?;
                write::bin(out, &node.0)
            }
        })
    }
}

/// Entries of a roll as an answer tells them. Nobody has verified them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Roll<'a> {
    list: Array<'a>,
}

impl<'a> Roll<'a> {
    /// The records that a value is.
    ///
    /// # Errors
    /// [`ArgumentError`]: no list, too many, or one of them is no record.
    pub fn parse(value: Encoded<'a>) -> Result<Self> {
        let list = value.as_array().ok_or(ArgumentError::Shape)?;
        if list.count() > NODES_MAX {
            return Err(ArgumentError::OutOfRange);
        }
        for record in list.iter() {
            NodeRecord::parse(bin(record)?)?;
        }
        Ok(Self { list })
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = NodeRecord<'a>> + use<'a> {
        self.list.iter().filter_map(|record| NodeRecord::parse(record.as_bin()?).ok())
    }

    /// Writes records' bytes, for [`Self::parse`].
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When there are more than [`NODES_MAX`]: nobody would read them.
    pub fn write_new(out: &mut Writer<'_>, records: &[&[u8]]) -> core::result::Result<(), NoRoom> {
        assert!(records.len() <= NODES_MAX, "whoever answers chooses some");
        write::whole(out, |out| {
            write::array(out, records.len() as u32)?;
            records.iter().try_for_each(|record| write::bin(out, record))
        })
    }
}

impl fmt::Display for Roll<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "roll of {}", self.list.count())?;
        self.iter().try_for_each(|record| write!(f, " ({record})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: [u8; 32] = [7; 32];

    fn key_of(of: RollKey, hash: &[u8; 32]) -> Vec<u8> {
        let mut room = [0; ROLL_KEY_LEN_MAX];
        let mut out = Writer::new(&mut room);
        of.write(hash, &mut out).unwrap();
        out.written().to_vec()
    }

    /// The roll and its entries are keys of one address; another network's are none of ours.
    /// spec: p2p/roll
    #[test]
    fn a_roll_has_its_key_and_its_entries_theirs() {
        for of in [RollKey::All, RollKey::Of(NodeId([9; 32]))] {
            let bytes = key_of(of, &HASH);
            let key = Key::parse(&bytes).unwrap().expect("a key");
            assert_eq!(key.address_input(), key_of(RollKey::All, &HASH));
            assert_eq!(RollKey::read(&key, &HASH), Some(of));
            assert_eq!(RollKey::read(&key, &[8; 32]), None);
        }
        assert_eq!(key_of(RollKey::Of(NodeId([9; 32])), &HASH).len(), ROLL_KEY_LEN_MAX);
        let others = [
            [&[0x92][..], &key_of(RollKey::All, &HASH), &[0xa1, b'n']].concat(),
            [&[0xd9, 32][..], &[b'7'; 32]].concat(),
            [&[0x92][..], &key_of(RollKey::All, &[8; 32]), &key_of(RollKey::All, &HASH)].concat(),
        ];
        for bytes in others {
            let key = Key::parse(&bytes).unwrap().expect("a key");
            assert_eq!(RollKey::read(&key, &HASH), None, "{key}");
        }
    }
}
