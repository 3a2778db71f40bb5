//! A diff: what to do to a value so that another comes out, without sending that one.
//!
//! In:    [base hash 32, length of the result, [operation, …]].
//! Out:   [`Diff`], whose operations are checked.
//! Holds: at most [`OPERATIONS_MAX`] operations (T14), paths at most as deep as a value.
//!
//! | operation | elements |
//! |---|---|
//! | set | [0, path, value]: the map's entry at the path becomes this value, made when it was not there |
//! | remove | [1, path]: the map's entry at the path goes; it must be there |
//! | splice | [2, path, offset, removed, bin]: of the str or bin at the path, `removed` bytes from `offset` on make place for these |
//!
//! A path is an array of str, from the outermost map's key inward; an empty one is the whole value, which can be set and
//! spliced but not removed. We send the length of the result along, so that a storer knows the room before it begins. The
//! operations happen in order. Maps that a path goes through come out with their keys in ascending order, so that everybody
//! gets the same bytes, and the same hash.
//!
//! spec: p2p/diff

use core::fmt;

use super::{ArgumentError, Result, bin, bytes, list, unsigned};
use crate::bytes::Writer;
use crate::error::NoRoom;
use crate::msgpack::{Array, DEPTH_MAX, Encoded, write};

/// Operations of a diff at most.
pub const OPERATIONS_MAX: usize = 256;

/// Where in a value: keys of maps, from the outermost inward.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Path<'a> {
    encoded: Encoded<'a>,
    keys: Array<'a>,
}

impl<'a> Path<'a> {
    /// The path that a value is: an array of at most [`DEPTH_MAX`] str; none when it is something else.
    #[must_use]
    pub fn new(encoded: Encoded<'a>) -> Option<Self> {
        let keys = encoded.as_array()?;
        let is_path = keys.count() <= DEPTH_MAX && keys.iter().all(|key| key.as_str().is_some());
        is_path.then_some(Self { encoded, keys })
    }

    /// How many keys it has.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.keys.count()
    }

    /// Its keys.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.keys.iter().filter_map(|key| key.as_str())
    }
}

/// One step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DiffOperation<'a> {
    /// The entry at the path becomes this value.
    Set {
        /// Where.
        path: Path<'a>,
        /// What.
        value: Encoded<'a>,
    },
    /// The entry at the path goes.
    Remove {
        /// Where; not empty.
        path: Path<'a>,
    },
    /// Bytes of a str or a bin make place for others.
    Splice {
        /// Where the str or bin is.
        path: Path<'a>,
        /// The first byte that goes.
        offset: u64,
        /// How many bytes go.
        removed: u64,
        /// What comes in their place.
        inserted: &'a [u8],
    },
}

impl<'a> DiffOperation<'a> {
    fn parse(value: Encoded<'a>) -> Result<Self> {
        let elements = value.as_array().ok_or(ArgumentError::Shape)?;
        let ([kind, path], _) = elements.split_first().ok_or(ArgumentError::Shape)?;
        let path = Path::new(path).ok_or(ArgumentError::Shape)?;
        match unsigned(kind)? {
            0 => list(value).map(|[_, _, value]| Self::Set { path, value }),
            1 if path.count() == 0 => Err(ArgumentError::OutOfRange),
            1 => list::<2>(value).map(|_| Self::Remove { path }),
            2 => {
                let [_, _, offset, removed, inserted] = list(value)?;
                let (offset, removed) = (unsigned(offset)?, unsigned(removed)?);
                Ok(Self::Splice { path, offset, removed, inserted: bin(inserted)? })
            }
            _ => Err(ArgumentError::OutOfRange),
        }
    }

    fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        let (count, kind, path) = match self {
            Self::Set { path, .. } => (3, 0, path),
            Self::Remove { path } => (2, 1, path),
            Self::Splice { path, .. } => (5, 2, path),
        };
        write::array(out, count)?;
        write::unsigned(out, kind)?;
        write::encoded(out, path.encoded)?;
        match *self {
            Self::Set { value, .. } => write::encoded(out, value),
            Self::Remove { .. } => Ok(()),
            Self::Splice { offset, removed, inserted, .. } => {
                write::unsigned(out, offset)?;
                write::unsigned(out, removed)?;
                write::bin(out, inserted)
            }
        }
    }
}

/// What to do to a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Diff<'a> {
    /// SHA-256 of the value that it is to be done to.
    pub base_hash: &'a [u8; 32],
    /// Bytes of the value that comes out.
    pub result_len: u64,
    operations: Array<'a>,
}

impl<'a> Diff<'a> {
    /// The diff that a value is.
    ///
    /// # Errors
    /// [`ArgumentError`]: another shape, an unknown operation, too many.
    pub fn parse(value: Encoded<'a>) -> Result<Self> {
        let [base_hash, result_len, operations] = list(value)?;
        let operations = operations.as_array().ok_or(ArgumentError::Shape)?;
        if operations.count() > OPERATIONS_MAX {
            return Err(ArgumentError::OutOfRange);
        }
        for operation in operations {
            DiffOperation::parse(operation)?;
        }
        Ok(Self { base_hash: bytes(base_hash)?, result_len: unsigned(result_len)?, operations })
    }

    /// Its operations, in order.
    pub fn operations(&self) -> impl Iterator<Item = DiffOperation<'a>> + use<'a> {
        self.operations.iter().filter_map(|operation| DiffOperation::parse(operation).ok())
    }

    /// Writes a diff of these operations.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When there are more than [`OPERATIONS_MAX`]: no storer would take them.
    pub fn write_new(
        out: &mut Writer<'_>,
        base_hash: &[u8; 32],
        result_len: u64,
        operations: &[DiffOperation<'_>],
    ) -> core::result::Result<(), NoRoom> {
        assert!(operations.len() <= OPERATIONS_MAX, "the caller bounds a diff");
        write::whole(out, |out| {
            write::array(out, 3)?;
            write::bin(out, base_hash)?;
            write::unsigned(out, result_len)?;
            write::array(out, operations.len() as u32)?;
            operations.iter().try_for_each(|operation| operation.write(out))
        })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 3)?;
        write::bin(out, self.base_hash)?;
        write::unsigned(out, self.result_len)?;
        write::array(out, self.operations.count() as u32)?;
        self.operations().try_for_each(|operation| operation.write(out))
    }
}

impl fmt::Display for DiffOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { path, value } => write!(f, "set {} {value}", path.encoded),
            Self::Remove { path } => write!(f, "remove {}", path.encoded),
            Self::Splice { path, offset, removed, inserted } => {
                write!(f, "splice {} at {offset} removed {removed} inserted {}", path.encoded, inserted.len())
            }
        }
    }
}

impl fmt::Display for Diff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "result {}", self.result_len)?;
        self.operations().try_for_each(|operation| write!(f, "; {operation}"))
    }
}
