//! Rows: what a holder wants on disk, in plain bytes for any store of keys and values.
//!
//! In:    what is kept; rows as they were written.
//! Out:   rows; what is kept.
//! Holds: a row says everything about what it is of, so that no two rows need each other. A row that is none is nobody's.
//!
//! | row | key | value |
//! |---|---|---|
//! | value | `v`, the key's bytes | version 1, kept until in unix ms 8, length of the record 2, record, value |
//! | register | `r`, the bytes of the key, or of an array with the group alone | version 2, the promise that it would make (codec/src/args); version 1, the same without members |
//!
//! spec: p2p/value-rows

use dunlin_codec::args::{ArgumentError, Promise};
use dunlin_codec::bytes::{Reader, Writer};
use dunlin_codec::error::WireError;
use dunlin_codec::ids::Address;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{Key, ValueRecord};

use super::state::{key_of_scope, scope_of};
use super::{SMALL_LEN_MAX, address, encode};
use crate::time::WallMillis;

const VERSION: u8 = 1;
const REGISTER_VERSION: u8 = 2;
const VALUE: u8 = b'v';
const REGISTER: u8 = b'r';

/// A key and a value for the disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskRow {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; none: the row goes.
    pub value: Option<Vec<u8>>,
}

/// A row that was read back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadRow<'a> {
    /// A value.
    Value(ValueRow<'a>),
    /// What was promised and accepted.
    Register(RegisterRow<'a>),
}

/// A register as it is on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RegisterRow<'a> {
    /// What it is of: a key, or an array with a group alone.
    pub scope: &'a [u8],
    /// What it holds.
    pub promise: Promise<'a>,
}

/// A value as it is on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ValueRow<'a> {
    /// Its key.
    pub key: Key<'a>,
    /// Until when it is kept.
    pub keep_until: WallMillis,
    /// Its record; none: nobody signed it.
    pub record: Option<ValueRecord<'a>>,
    /// It.
    pub value: Encoded<'a>,
}

fn prefixed(kind: u8, key: &[u8]) -> Vec<u8> {
    [&[kind][..], key].concat()
}

/// Where the key of a row lives; none: it is no row of ours.
#[must_use]
pub fn place_of_row(key: &[u8]) -> Option<Address> {
    let (kind, key) = key.split_first()?;
    let key = match *kind {
        VALUE => key.to_vec(),
        REGISTER => key_of_scope(key),
        _ => return None,
    };
    Key::parse(&key).ok().flatten().map(|key| address(&key))
}

/// The row by which a value's row goes.
pub(super) fn without_value(key: &[u8]) -> DiskRow {
    DiskRow { key: prefixed(VALUE, key), value: None }
}

/// The row by which a register's row goes.
pub(super) fn without_register(scope: &[u8]) -> DiskRow {
    DiskRow { key: prefixed(REGISTER, scope), value: None }
}

/// A register's row; `len_max` covers its rows.
pub(super) fn register_row(scope: &[u8], promise: &Promise<'_>, len_max: usize) -> DiskRow {
    let value = encode(SMALL_LEN_MAX + len_max, |out| {
        out.u8(REGISTER_VERSION)?;
        promise.write(out)
    });
    DiskRow { key: prefixed(REGISTER, scope), value: Some(value) }
}

impl ValueRow<'_> {
    /// The row that says this.
    ///
    /// # Panics
    /// Never: the room is as long as the row.
    #[must_use]
    pub fn to_row(self) -> DiskRow {
        let record = self.record.map_or(&[][..], |record| record.bytes());
        let mut value = vec![0; 1 + 8 + 2 + record.len() + self.value.bytes().len()];
        let mut out = Writer::new(&mut value);
        out.u8(VERSION)
            .and_then(|()| out.u64(self.keep_until.0))
            .and_then(|()| out.u16(record.len() as u16))
            .and_then(|()| out.put(record))
            .and_then(|()| out.put(self.value.bytes()))
            .expect("the room is as long as the row");
        DiskRow { key: prefixed(VALUE, self.key.bytes()), value: Some(value) }
    }
}

/// Reads a row.
///
/// # Errors
/// `WireError`: it is none of ours, or was damaged.
pub fn read_row<'a>(key: &'a [u8], value: &'a [u8]) -> Result<ReadRow<'a>, WireError> {
    let (kind, key) = key.split_first().ok_or(WireError::Truncated)?;
    let mut reader = Reader::new(value);
    let version = reader.u8()?;
    match *kind {
        VALUE if version == VERSION => read_value(key, reader).map(ReadRow::Value),
        REGISTER if version == VERSION => {
            read_register(key, reader, Promise::parse_memberless).map(ReadRow::Register)
        }
        REGISTER if version == REGISTER_VERSION => {
            read_register(key, reader, Promise::parse).map(ReadRow::Register)
        }
        _ => Err(WireError::Unknown),
    }
}

fn read_value<'a>(key: &'a [u8], mut reader: Reader<'a>) -> Result<ValueRow<'a>, WireError> {
    let key = Key::parse(key).ok().flatten().ok_or(WireError::OutOfRange)?;
    let keep_until = WallMillis(reader.u64()?);
    let record_len = usize::from(reader.u16()?);
    let record = reader.take(record_len)?;
    let record = if record.is_empty() { None } else { Some(ValueRecord::parse(record)?) };
    if record.is_some_and(|record| record.fields.key != key) {
        return Err(WireError::OutOfRange);
    }
    let value = Encoded::parse(reader.rest()).map_err(|_| WireError::OutOfRange)?;
    Ok(ValueRow { key, keep_until, record, value })
}

fn read_register<'a>(
    scope: &'a [u8],
    mut reader: Reader<'a>,
    parse: impl FnOnce(Encoded<'a>) -> Result<Promise<'a>, ArgumentError>,
) -> Result<RegisterRow<'a>, WireError> {
    let written = Encoded::parse(reader.rest()).map_err(|_| WireError::OutOfRange)?;
    let promise = parse(written).map_err(|_| WireError::OutOfRange)?;
    if promise.rows.iter().any(|row| scope_of(&row.key) != scope) {
        return Err(WireError::OutOfRange);
    }
    Ok(RegisterRow { scope, promise })
}
