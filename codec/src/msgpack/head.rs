//! What a value begins with, walking over values, and the one walk that checks everything.
//!
//! In:    bytes nobody has vouched for.
//! Out:   heads; places behind values; the reason for a refusal.
//! Holds: the walk goes at most as deep as it is told, and looks at each byte once, but for maps with unordered keys.

use rmp::Marker;

use super::{MsgpackError, keys};
use crate::bytes::Reader;
use crate::error::WireError;

/// A value's kind with what stands in front of its bytes: lengths in bytes, counts in elements or entries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Double(f64),
    Str(u32),
    Bin(u32),
    Array(u32),
    Map(u32),
}

const fn signed(value: i64) -> Head {
    if value < 0 { Head::Negative(value) } else { Head::Unsigned(value as u64) }
}

impl From<WireError> for MsgpackError {
    /// A reader of plain bytes refuses for one reason only.
    fn from(_: WireError) -> Self {
        Self::Truncated
    }
}

/// Reads a head: of a str or a bin the bytes are still to come, of an array or a map the elements.
#[inline]
pub(super) fn read_head(reader: &mut Reader<'_>) -> Result<Head, MsgpackError> {
    Ok(match Marker::from_u8(reader.u8()?) {
        Marker::Null => Head::Nil,
        Marker::False => Head::Bool(false),
        Marker::True => Head::Bool(true),
        Marker::FixPos(value) => Head::Unsigned(u64::from(value)),
        Marker::FixNeg(value) => Head::Negative(i64::from(value)),
        Marker::U8 => Head::Unsigned(u64::from(reader.u8()?)),
        Marker::U16 => Head::Unsigned(u64::from(reader.u16()?)),
        Marker::U32 => Head::Unsigned(u64::from(reader.u32()?)),
        Marker::U64 => Head::Unsigned(reader.u64()?),
        Marker::I8 => signed(i64::from(reader.u8()?.cast_signed())),
        Marker::I16 => signed(i64::from(reader.u16()?.cast_signed())),
        Marker::I32 => signed(i64::from(reader.u32()?.cast_signed())),
        Marker::I64 => signed(reader.u64()?.cast_signed()),
        Marker::F32 => Head::Double(f64::from(f32::from_bits(reader.u32()?))),
        Marker::F64 => Head::Double(f64::from_bits(reader.u64()?)),
        Marker::FixStr(len) => Head::Str(u32::from(len)),
        Marker::Str8 => Head::Str(u32::from(reader.u8()?)),
        Marker::Str16 => Head::Str(u32::from(reader.u16()?)),
        Marker::Str32 => Head::Str(reader.u32()?),
        Marker::Bin8 => Head::Bin(u32::from(reader.u8()?)),
        Marker::Bin16 => Head::Bin(u32::from(reader.u16()?)),
        Marker::Bin32 => Head::Bin(reader.u32()?),
        Marker::FixArray(count) => Head::Array(u32::from(count)),
        Marker::Array16 => Head::Array(u32::from(reader.u16()?)),
        Marker::Array32 => Head::Array(reader.u32()?),
        Marker::FixMap(count) => Head::Map(u32::from(count)),
        Marker::Map16 => Head::Map(u32::from(reader.u16()?)),
        Marker::Map32 => Head::Map(reader.u32()?),
        Marker::Reserved => return Err(MsgpackError::Reserved),
        Marker::FixExt1
        | Marker::FixExt2
        | Marker::FixExt4
        | Marker::FixExt8
        | Marker::FixExt16
        | Marker::Ext8
        | Marker::Ext16
        | Marker::Ext32 => return Err(MsgpackError::Extension),
    })
}

/// Goes behind the next value, however deep it is. Checks its lengths alone.
pub(super) fn skip(reader: &mut Reader<'_>) -> Result<(), MsgpackError> {
    let mut open = 1_u64;
    while open > 0 {
        open -= 1;
        match read_head(reader)? {
            Head::Str(len) | Head::Bin(len) => _ = reader.take(len as usize)?,
            Head::Array(count) => open += u64::from(count),
            Head::Map(count) => open += 2 * u64::from(count),
            _ => {}
        }
    }
    Ok(())
}

/// Checks one value whole. `depth` containers may still be opened, `elements` counted down.
pub(super) fn check(reader: &mut Reader<'_>, depth: usize, elements: &mut u32) -> Result<(), MsgpackError> {
    match read_head(reader)? {
        Head::Str(len) => _ = text(reader, len)?,
        Head::Bin(len) => _ = reader.take(len as usize)?,
        Head::Array(count) => {
            let depth = enter(reader, depth, u64::from(count), elements)?;
            for _ in 0..count {
                check(reader, depth, elements)?;
            }
        }
        Head::Map(count) => {
            let depth = enter(reader, depth, 2 * u64::from(count), elements)?;
            check_map(reader, count, depth, elements)?;
        }
        _ => {}
    }
    Ok(())
}

/// A container of `count` elements: whether it may be, and how many may lie within it.
fn enter(reader: &Reader<'_>, depth: usize, count: u64, elements: &mut u32) -> Result<usize, MsgpackError> {
    let depth = depth.checked_sub(1).ok_or(MsgpackError::TooDeep)?;
    if count > reader.left() as u64 {
        return Err(MsgpackError::Truncated);
    }
    let left = u64::from(*elements).checked_sub(count).ok_or(MsgpackError::TooManyElements)?;
    *elements = u32::try_from(left).map_err(|_| MsgpackError::TooManyElements)?;
    Ok(depth)
}

fn check_map(
    reader: &mut Reader<'_>,
    count: u32,
    depth: usize,
    elements: &mut u32,
) -> Result<(), MsgpackError> {
    let body = reader.clone().rest();
    let (mut last, mut is_ordered) = (None, true);
    for _ in 0..count {
        let key = read_key(reader)?;
        // Keys in ascending order, as most writers have them, cannot be equal.
        is_ordered &= last.replace(key).is_none_or(|last| last < key);
        check(reader, depth, elements)?;
    }
    if is_ordered { Ok(()) } else { keys::check_distinct(body, count) }
}

/// A map's key with its UTF-8 checked.
fn read_key<'a>(reader: &mut Reader<'a>) -> Result<&'a str, MsgpackError> {
    match read_head(reader)? {
        Head::Str(len) => text(reader, len),
        _ => Err(MsgpackError::KeyNotStr),
    }
}

fn text<'a>(reader: &mut Reader<'a>, len: u32) -> Result<&'a str, MsgpackError> {
    core::str::from_utf8(reader.take(len as usize)?).map_err(|_| MsgpackError::NotUtf8)
}
