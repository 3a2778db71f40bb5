//! MessagePack, the profile of p2p messages: nil, bool, double, integers from -2^63 to 2^64 - 1, str, bin, arrays, maps
//! with string keys.
//!
//! In:    bytes nobody has vouched for; values to write.
//! Out:   [`Encoded`], one checked value borrowed from its bytes; bytes in the shortest encoding ([`mod@write`]).
//! Holds: [`Encoded::parse`] is the only place where a value is refused, and allocates nothing: what it passed is read
//!        without a further error, however hostile.
//!
//! Every legal encoding is read. We write a double as a double: the profile has no single-precision type, though one is
//! read. Work is bounded by the length and by [`ELEMENTS_MAX`]; equal keys are found by sorting places (`keys`).
//!
//! spec: p2p/msgpack

mod head;
mod keys;
mod show;
pub mod write;

use core::iter::FusedIterator;

use crate::bytes::Reader;
use head::{Head, read_head, skip};

/// Arrays and maps within one another at most.
pub const DEPTH_MAX: usize = 16;

/// Elements of one value at most: what arrays hold, and keys and values of maps.
pub const ELEMENTS_MAX: u32 = 65_536;

/// Bytes of one value at most: the ceiling of a decompressed transmission.
pub const LEN_MAX: usize = 16 << 20;

/// Bytes that are no value of the profile. The sender's fault; nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MsgpackError {
    /// The bytes end before the value does, or a count claims more elements than bytes are left.
    #[error("the value ends too early")]
    Truncated,
    /// Bytes are left over behind the value.
    #[error("bytes are left over behind the value")]
    Trailing,
    /// More than [`LEN_MAX`] bytes.
    #[error("the value is too long")]
    TooLong,
    /// An extension type, timestamps among them.
    #[error("extension types are not part of the profile")]
    Extension,
    /// The byte 0xc1, which means nothing.
    #[error("the byte 0xc1 means nothing")]
    Reserved,
    /// A str that is not UTF-8.
    #[error("a str is not UTF-8")]
    NotUtf8,
    /// A map's key that is no str.
    #[error("a map's key is no str")]
    KeyNotStr,
    /// A map with two equal keys.
    #[error("a map has a key twice")]
    DuplicateKey,
    /// A map whose keys were made so that looking for equal ones takes too long.
    #[error("a map's keys are made to collide")]
    CraftedKeys,
    /// More than [`DEPTH_MAX`] arrays and maps within one another.
    #[error("the value is nested too deeply")]
    TooDeep,
    /// More than [`ELEMENTS_MAX`] elements.
    #[error("the value has too many elements")]
    TooManyElements,
}

/// The bytes of one value, checked. Equality is that of the bytes: one value has several encodings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Encoded<'a> {
    bytes: &'a [u8],
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    Nil,
    /// True or false.
    Bool(bool),
    /// An integer from 0 on.
    Unsigned(u64),
    /// An integer below 0.
    Negative(i64),
    /// A double, any NaN and both infinities included.
    Double(f64),
    /// Text.
    Str(&'a str),
    /// Bytes.
    Bin(&'a [u8]),
    /// A list.
    Array(Array<'a>),
    /// Values by their names.
    Map(Map<'a>),
}

/// A list of checked values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Array<'a> {
    count: u32,
    body: &'a [u8],
}

/// Checked values by names that differ, in the sender's order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Map<'a> {
    count: u32,
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// Nil, in its one encoding.
    pub const NIL: Encoded<'static> = Encoded { bytes: &[0xc0] };

    /// Takes exactly one value.
    ///
    /// # Errors
    /// [`MsgpackError`]: the sender wrote what the profile does not have.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MsgpackError> {
        if bytes.len() > LEN_MAX {
            return Err(MsgpackError::TooLong);
        }
        let mut reader = Reader::new(bytes);
        head::check(&mut reader, DEPTH_MAX, &mut { ELEMENTS_MAX })?;
        if reader.is_empty() { Ok(Self { bytes }) } else { Err(MsgpackError::Trailing) }
    }

    /// The bytes as they came.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What it is.
    #[must_use]
    pub fn value(&self) -> Value<'a> {
        let mut reader = Reader::new(self.bytes);
        // `parse` has passed these bytes: no arm with an error is ever taken.
        let Ok(head) = read_head(&mut reader) else { return Value::Nil };
        let body = reader.rest();
        match head {
            Head::Nil => Value::Nil,
            Head::Bool(value) => Value::Bool(value),
            Head::Unsigned(value) => Value::Unsigned(value),
            Head::Negative(value) => Value::Negative(value),
            Head::Double(value) => Value::Double(value),
            Head::Str(_) => Value::Str(core::str::from_utf8(body).unwrap_or_default()),
            Head::Bin(_) => Value::Bin(body),
            Head::Array(count) => Value::Array(Array { count, body }),
            Head::Map(count) => Value::Map(Map { count, body }),
        }
    }

    /// Whether it is nil.
    #[inline]
    #[must_use]
    pub fn is_nil(&self) -> bool {
        self.bytes == Encoded::NIL.bytes
    }

    /// The bool that it is.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(value) = self.value() { Some(value) } else { None }
    }

    /// The integer from 0 on that it is.
    #[must_use]
    pub fn as_unsigned(&self) -> Option<u64> {
        if let Value::Unsigned(value) = self.value() { Some(value) } else { None }
    }

    /// The text that it is.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        if let Value::Str(text) = self.value() { Some(text) } else { None }
    }

    /// The bytes that it is, as a bin.
    #[must_use]
    pub fn as_bin(&self) -> Option<&'a [u8]> {
        if let Value::Bin(bytes) = self.value() { Some(bytes) } else { None }
    }

    /// The `N` bytes that it is, as a bin.
    #[must_use]
    pub fn as_bytes<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.as_bin()?.try_into().ok()
    }

    /// The list that it is.
    #[must_use]
    pub fn as_array(&self) -> Option<Array<'a>> {
        if let Value::Array(array) = self.value() { Some(array) } else { None }
    }

    /// The map that it is.
    #[must_use]
    pub fn as_map(&self) -> Option<Map<'a>> {
        if let Value::Map(map) = self.value() { Some(map) } else { None }
    }
}

/// The next value of a list or a map that was checked; `None` at the end.
fn next_of<'a>(reader: &mut Reader<'a>) -> Option<Encoded<'a>> {
    if reader.is_empty() {
        return None;
    }
    let mut behind = reader.clone();
    skip(&mut behind).ok()?;
    reader.take(reader.left() - behind.left()).ok().map(|bytes| Encoded { bytes })
}

impl<'a> Array<'a> {
    /// How many elements it has.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// Its elements.
    #[must_use]
    pub const fn iter(&self) -> Items<'a> {
        Items { reader: Reader::new(self.body) }
    }

    /// Its first `N` elements, and those behind them; none when there are fewer.
    #[must_use]
    pub fn split_first<const N: usize>(&self) -> Option<([Encoded<'a>; N], Items<'a>)> {
        let mut items = self.iter();
        let mut first = [Encoded::NIL; N];
        for place in &mut first {
            *place = items.next()?;
        }
        Some((first, items))
    }

    /// Its elements when there are exactly `N`.
    #[must_use]
    pub fn exactly<const N: usize>(&self) -> Option<[Encoded<'a>; N]> {
        if self.count() == N { self.split_first().map(|(all, _)| all) } else { None }
    }
}

impl<'a> Map<'a> {
    /// How many entries it has.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// Its entries, in the sender's order.
    #[must_use]
    pub const fn iter(&self) -> Entries<'a> {
        Entries { reader: Reader::new(self.body) }
    }

    /// The value of `key`. Looks at one entry after the other.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Encoded<'a>> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Encoded<'a>;
    type IntoIter = Items<'a>;

    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for Map<'a> {
    type Item = (&'a str, Encoded<'a>);
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// The elements of a list.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Encoded<'a>;

    fn next(&mut self) -> Option<Encoded<'a>> {
        next_of(&mut self.reader)
    }
}

impl FusedIterator for Items<'_> {}

/// The entries of a map.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Encoded<'a>);

    fn next(&mut self) -> Option<(&'a str, Encoded<'a>)> {
        let key = next_of(&mut self.reader)?.as_str()?;
        Some((key, next_of(&mut self.reader)?))
    }
}

impl FusedIterator for Entries<'_> {}

#[cfg(test)]
mod tests;
