//! What a decision is about: a key alone, or all decided names of a group, row by row.
//!
//! In:    checked values.
//! Out:   [`Rows`], [`Keys`], [`Leave`].
//! Holds: rows are of one register, each of another key, in ascending order of the keys' bytes: one state has one form.
//!
//! | what | elements |
//! |---|---|
//! | row | [key, value, value record, bin or nil; lease row or nil; what is left of the lease in ms, 0 without one] |
//! | rows | [row, …], at most [`ROWS_MAX`] |
//! | keys | [key, …], at most 15 others of a group |
//! | leave | [until in unix ms, signature 64]: an owner's grant to whoever asks |
//!
//! What is left of a lease is a duration, not a time: no two clocks need to agree on more than how long a second is.
//!
//! spec: p2p/register

use core::fmt;

use super::{
    ArgumentError, CHANGES_MAX, LeaseRow, Result, bin, bytes, key, list, optional, or_nil, unsigned,
};
use crate::bytes::Writer;
use crate::error::NoRoom;
use crate::msgpack::{Array, Encoded, write};
use crate::record::{Key, SIGNATURE_LEN, ValueRecord};

/// Rows of a register at most.
pub const ROWS_MAX: usize = 64;

/// One key of a register.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row<'a> {
    /// The key.
    pub key: Key<'a>,
    /// Its value; nil: there is none, or it was deleted.
    pub value: Encoded<'a>,
    /// The value's record; none: nobody has written it yet.
    pub record: Option<ValueRecord<'a>>,
    /// Its lease; none: it never had one.
    pub lease: Option<LeaseRow>,
    /// What is left of the lease, in milliseconds.
    pub left_ms: u64,
}

impl<'a> Row<'a> {
    fn parse(value: Encoded<'a>) -> Result<Self> {
        let [name, value, record, lease, left] = list(value)?;
        let record = optional(record, |record| Ok(ValueRecord::parse(bin(record)?)?))?;
        let row = Self {
            key: key(name)?,
            value,
            record,
            lease: optional(lease, LeaseRow::parse)?,
            left_ms: unsigned(left)?,
        };
        let is_of_key = record.is_none_or(|record| record.fields.key == row.key);
        let is_whole = (record.is_some() || value.is_nil()) && (row.lease.is_some() || row.left_ms == 0);
        if is_of_key && is_whole { Ok(row) } else { Err(ArgumentError::OutOfRange) }
    }

    fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 5)?;
        write::encoded(out, self.key.encoded())?;
        write::encoded(out, self.value)?;
        or_nil(out, self.record, |out, record| write::bin(out, record.bytes()))?;
        or_nil(out, self.lease, |out, lease| lease.write(out))?;
        write::unsigned(out, self.left_ms)
    }
}

/// A register's rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rows<'a> {
    encoded: Encoded<'a>,
    list: Array<'a>,
}

impl<'a> Rows<'a> {
    /// The rows that a value is.
    ///
    /// # Errors
    /// [`ArgumentError`]: another shape, too many, out of order, of several registers.
    pub fn parse(encoded: Encoded<'a>) -> Result<Self> {
        let list = encoded.as_array().ok_or(ArgumentError::Shape)?;
        if list.count() > ROWS_MAX {
            return Err(ArgumentError::OutOfRange);
        }
        let mut last: Option<Row<'a>> = None;
        for row in list {
            let row = Row::parse(row)?;
            let is_behind = |last: &Row<'_>| {
                last.key.bytes() < row.key.bytes()
                    && row.key.group().is_some()
                    && last.key.group() == row.key.group()
            };
            if !last.as_ref().is_none_or(is_behind) {
                return Err(ArgumentError::OutOfRange);
            }
            last = Some(row);
        }
        Ok(Self { encoded, list })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.list.count()
    }

    /// Each of them, in ascending order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        self.list.iter().filter_map(|row| Row::parse(row).ok())
    }

    /// Writes rows, for [`Self::parse`].
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When there are more than [`ROWS_MAX`]: nobody would take them.
    pub fn write_new(out: &mut Writer<'_>, rows: &[Row<'_>]) -> core::result::Result<(), NoRoom> {
        assert!(rows.len() <= ROWS_MAX, "the caller bounds a register");
        write::whole(out, |out| {
            write::array(out, rows.len() as u32)?;
            rows.iter().try_for_each(|row| row.write(out))
        })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::encoded(out, self.encoded)
    }
}

/// Other keys of a group that a decision will be about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keys<'a> {
    encoded: Encoded<'a>,
    list: Array<'a>,
}

impl<'a> Keys<'a> {
    /// The keys that a value is.
    ///
    /// # Errors
    /// [`ArgumentError`]: another shape, too many, what is no key.
    pub fn parse(encoded: Encoded<'a>) -> Result<Self> {
        let list = encoded.as_array().ok_or(ArgumentError::Shape)?;
        if list.count() >= CHANGES_MAX {
            return Err(ArgumentError::OutOfRange);
        }
        list.iter().try_for_each(|name| key(name).map(drop))?;
        Ok(Self { encoded, list })
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Key<'a>> + use<'a> {
        self.list.iter().filter_map(Key::new)
    }

    /// Writes keys, for [`Self::parse`].
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When there are [`CHANGES_MAX`] or more: nobody would take them.
    pub fn write_new(out: &mut Writer<'_>, keys: &[Key<'_>]) -> core::result::Result<(), NoRoom> {
        assert!(keys.len() < CHANGES_MAX, "the caller bounds a decision");
        write::whole(out, |out| {
            write::array(out, keys.len() as u32)?;
            keys.iter().try_for_each(|key| write::encoded(out, key.encoded()))
        })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::encoded(out, self.encoded)
    }
}

/// An owner's grant to whoever asks: the key and the writer are known, so only the rest of it is said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Leave<'a> {
    /// When it ends: unix time in milliseconds.
    pub until_ms: u64,
    /// The owner's signature.
    pub signature: &'a [u8; SIGNATURE_LEN],
}

impl<'a> Leave<'a> {
    pub(super) fn parse(value: Encoded<'a>) -> Result<Self> {
        let [until, signature] = list(value)?;
        Ok(Self { until_ms: unsigned(until)?, signature: bytes(signature)? })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 2)?;
        write::unsigned(out, self.until_ms)?;
        write::bin(out, self.signature)
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.key, self.value)?;
        self.record.map_or(Ok(()), |record| write!(f, " ({record})"))?;
        self.lease.map_or(Ok(()), |lease| write!(f, " ({lease}, {} ms left)", self.left_ms))
    }
}

impl fmt::Display for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows", self.count())?;
        self.iter().try_for_each(|row| write!(f, "; {row}"))
    }
}
