//! Writing values, each in its shortest encoding.
//!
//! In:    values, one after the other: an array or a map is a head, then its elements.
//! Out:   bytes.
//! Holds: each call writes whole or not at all. That as many elements follow as a head says is the caller's to keep.

use rmp::encode;

use super::{Encoded, Value};
use crate::bytes::Writer;
use crate::error::NoRoom;

/// Bytes that stand in front of a str's, a bin's or a container's at most.
pub const HEAD_LEN_MAX: usize = 5;

/// Bytes of a number at most.
const NUMBER_LEN_MAX: usize = 9;

/// Writes what `encode` makes on the stack.
fn put<E: core::fmt::Debug>(
    out: &mut Writer<'_>,
    encode: impl FnOnce(&mut &mut [u8]) -> Result<(), E>,
) -> Result<(), NoRoom> {
    let mut room = [0; NUMBER_LEN_MAX];
    let mut rest = &mut room[..];
    encode(&mut rest).expect("numbers and heads take nine bytes at most");
    let len = NUMBER_LEN_MAX - rest.len();
    out.put(&room[..len])
}

/// Nil.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn nil(out: &mut Writer<'_>) -> Result<(), NoRoom> {
    put(out, |room| encode::write_nil(room))
}

/// True or false.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn bool(out: &mut Writer<'_>, value: bool) -> Result<(), NoRoom> {
    put(out, |room| encode::write_bool(room, value))
}

/// An integer from 0 on.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn unsigned(out: &mut Writer<'_>, value: u64) -> Result<(), NoRoom> {
    put(out, |room| encode::write_uint(room, value).map(drop))
}

/// Any integer of 64 bits with a sign.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn signed(out: &mut Writer<'_>, value: i64) -> Result<(), NoRoom> {
    put(out, |room| encode::write_sint(room, value).map(drop))
}

/// A double, bit for bit.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn double(out: &mut Writer<'_>, value: f64) -> Result<(), NoRoom> {
    put(out, |room| encode::write_f64(room, value))
}

/// Text.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
///
/// # Panics
/// When it has 2^32 bytes or more.
pub fn str(out: &mut Writer<'_>, text: &str) -> Result<(), NoRoom> {
    let head = |room: &mut &mut [u8]| encode::write_str_len(room, length(text.len())).map(drop);
    with_head(out, head, text.as_bytes())
}

/// Bytes.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
///
/// # Panics
/// When there are 2^32 or more.
pub fn bin(out: &mut Writer<'_>, bytes: &[u8]) -> Result<(), NoRoom> {
    let head = |room: &mut &mut [u8]| encode::write_bin_len(room, length(bytes.len())).map(drop);
    with_head(out, head, bytes)
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("messages are far shorter than 4 GiB")
}

fn with_head<E: core::fmt::Debug>(
    out: &mut Writer<'_>,
    head: impl FnOnce(&mut &mut [u8]) -> Result<(), E>,
    bytes: &[u8],
) -> Result<(), NoRoom> {
    whole(out, |out| put(out, head).and_then(|()| out.put(bytes)))
}

/// The head of an array: `count` values follow.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn array(out: &mut Writer<'_>, count: u32) -> Result<(), NoRoom> {
    put(out, |room| encode::write_array_len(room, count).map(drop))
}

/// The head of a map: `count` times a str and a value follow.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn map(out: &mut Writer<'_>, count: u32) -> Result<(), NoRoom> {
    put(out, |room| encode::write_map_len(room, count).map(drop))
}

/// A value in its own bytes.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn encoded(out: &mut Writer<'_>, value: Encoded<'_>) -> Result<(), NoRoom> {
    out.put(value.bytes())
}

/// A value with everything in it in the shortest encoding; maps keep their order.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn shortest(out: &mut Writer<'_>, value: Encoded<'_>) -> Result<(), NoRoom> {
    whole(out, |out| shortest_parts(out, value))
}

fn shortest_parts(out: &mut Writer<'_>, value: Encoded<'_>) -> Result<(), NoRoom> {
    match value.value() {
        Value::Nil => nil(out),
        Value::Bool(value) => bool(out, value),
        Value::Unsigned(value) => unsigned(out, value),
        Value::Negative(value) => signed(out, value),
        Value::Double(value) => double(out, value),
        Value::Str(text) => str(out, text),
        Value::Bin(bytes) => bin(out, bytes),
        Value::Array(list) => {
            array(out, list.count)?;
            list.into_iter().try_for_each(|item| shortest_parts(out, item))
        }
        Value::Map(entries) => {
            map(out, entries.count)?;
            entries.into_iter().try_for_each(|(key, value)| {
                str(out, key)?;
                shortest_parts(out, value)
            })
        }
    }
}

/// Several writes as one: whole or not at all.
///
/// # Errors
/// [`NoRoom`] of the first write that did not fit; nothing was written.
pub fn whole(
    out: &mut Writer<'_>,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>,
) -> Result<(), NoRoom> {
    let start = out.len();
    write(out).inspect_err(|_| out.rewind(start))
}
