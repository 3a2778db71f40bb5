//! Reading and writing of plain bytes: big-endian integers and RFC 9000 variable-length integers.
//!
//! In:    bytes nobody has vouched for; a caller's buffer.
//! Out:   integers and borrowed slices; bytes.
//! Holds: a read or a write that fails has moved nothing.
//!
//! spec: atp/integers

use crate::error::{NoRoom, WireError};

/// The largest value that a variable-length integer can carry: 2^62 - 1.
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// Bytes that `value` takes as a variable-length integer: 1, 2, 4 or 8 (RFC 9000 section 16).
///
/// # Panics
/// When `value` is above [`VARINT_MAX`]: such a value can only be our own mistake.
#[inline]
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    assert!(value <= VARINT_MAX, "a variable-length integer has 62 bits");
    if value < 1 << 6 {
        1
    } else if value < 1 << 14 {
        2
    } else if value < 1 << 30 {
        4
    } else {
        8
    }
}

/// Reads front to back from borrowed bytes. Every read is refused with [`WireError::Truncated`] when too little is left.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their first byte on.
    #[inline]
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet read.
    #[inline]
    #[must_use]
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been read.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte, without reading it.
    #[inline]
    #[must_use]
    pub const fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Everything that is left.
    #[inline]
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    #[inline]
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing) }
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn u8(&mut self) -> Result<u8, WireError> {
        let (&first, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// A variable-length integer of 1, 2, 4 or 8 bytes (RFC 9000 section 16). Longer than need be is legal.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let first = self.peek().ok_or(WireError::Truncated)?;
        match first >> 6 {
            0 => self.u8().map(u64::from),
            1 => self.u16().map(|value| u64::from(value & 0x3fff)),
            2 => self.u32().map(|value| u64::from(value & 0x3fff_ffff)),
            _ => self.u64().map(|value| value & VARINT_MAX),
        }
    }

    /// A variable-length integer that must fit 32 bits.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::OutOfRange`].
    #[inline]
    pub fn varint_u32(&mut self) -> Result<u32, WireError> {
        let before = self.rest;
        u32::try_from(self.varint()?).map_err(|_| {
            self.rest = before;
            WireError::OutOfRange
        })
    }
}

/// Writes front to back into a caller's buffer. Every write happens whole or not at all.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Writes into `buffer` from its first byte on.
    #[inline]
    #[must_use]
    pub const fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Bytes written so far.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    #[inline]
    #[must_use]
    pub const fn room(&self) -> usize {
        self.buffer.len() - self.len
    }

    /// What was written so far.
    #[inline]
    #[must_use]
    pub fn written(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// What was written so far, to be changed in place.
    #[inline]
    #[must_use]
    pub fn written_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }

    /// Forgets what was written after the first `len` bytes; no effect when no more than that was written.
    #[inline]
    pub fn rewind(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The next `len` bytes, to be filled by the caller. They hold what the buffer held before.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was taken.
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<&mut [u8], NoRoom> {
        let left = self.room();
        if len > left {
            return Err(NoRoom { needed: len, left });
        }
        let start = self.len;
        self.len += len;
        Ok(&mut self.buffer[start..start + len])
    }

    /// Copies `bytes`.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        self.reserve(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// `len` zero bytes.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    #[inline]
    pub fn zeros(&mut self, len: usize) -> Result<(), NoRoom> {
        self.reserve(len)?.fill(0);
        Ok(())
    }

    /// One byte.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    #[inline]
    pub fn u8(&mut self, value: u8) -> Result<(), NoRoom> {
        self.put(&[value])
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    #[inline]
    pub fn u16(&mut self, value: u16) -> Result<(), NoRoom> {
        self.put(&value.to_be_bytes())
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    #[inline]
    pub fn u32(&mut self, value: u32) -> Result<(), NoRoom> {
        self.put(&value.to_be_bytes())
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    #[inline]
    pub fn u64(&mut self, value: u64) -> Result<(), NoRoom> {
        self.put(&value.to_be_bytes())
    }

    /// A variable-length integer in its shortest form (RFC 9000 section 16).
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When `value` is above [`VARINT_MAX`].
    #[inline]
    pub fn varint(&mut self, value: u64) -> Result<(), NoRoom> {
        match varint_len(value) {
            1 => self.u8(value as u8),
            2 => self.u16(1 << 14 | value as u16),
            4 => self.u32(2 << 30 | value as u32),
            _ => self.u64(3 << 62 | value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The four examples of RFC 9000 appendix A.1, and its overlong one.
    /// spec: atp/integers
    #[test]
    fn the_examples_of_the_rfc_hold() {
        let examples: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in examples {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
            let mut buffer = [0; 8];
            let mut writer = Writer::new(&mut buffer);
            writer.varint(value).unwrap();
            assert_eq!(writer.written(), bytes);
        }
        assert_eq!(Reader::new(&[0x40, 0x25]).varint(), Ok(37));
    }

    #[test]
    fn what_fails_moves_nothing() {
        let mut reader = Reader::new(&[0xc0, 1, 2]);
        assert_eq!(reader.varint(), Err(WireError::Truncated));
        assert_eq!(reader.u32(), Err(WireError::Truncated));
        assert_eq!(reader.take(4), Err(WireError::Truncated));
        assert_eq!(reader.left(), 3);
        let big = [0xc0, 0, 0, 1, 0, 0, 0, 0];
        let mut reader = Reader::new(&big);
        assert_eq!(reader.varint_u32(), Err(WireError::OutOfRange));
        assert_eq!(reader.left(), 8);

        let mut buffer = [7; 3];
        let mut writer = Writer::new(&mut buffer);
        assert_eq!(writer.u32(1), Err(NoRoom { needed: 4, left: 3 }));
        assert_eq!(writer.put(&[0; 5]), Err(NoRoom { needed: 5, left: 3 }));
        assert_eq!(writer.zeros(usize::MAX), Err(NoRoom { needed: usize::MAX, left: 3 }));
        assert_eq!((writer.len(), writer.room(), writer.is_empty()), (0, 3, true));
        assert_eq!(buffer, [7; 3]);
    }

    #[test]
    #[should_panic(expected = "62 bits")]
    fn a_63_bit_value_is_our_own_mistake() {
        let _ = varint_len(VARINT_MAX + 1);
    }

    proptest! {
        #[test]
        fn integers_come_back(a: u8, b: u16, c: u32, d: u64, shift in 0u32..64, tail: [u8; 5]) {
            let v = (d >> shift) & VARINT_MAX;
            let mut buffer = [0; 64];
            let mut writer = Writer::new(&mut buffer);
            writer.u8(a).unwrap();
            writer.varint(v).unwrap();
            writer.u16(b).unwrap();
            writer.u32(c).unwrap();
            writer.zeros(2).unwrap();
            writer.u64(d).unwrap();
            writer.put(&tail).unwrap();
            prop_assert_eq!(writer.len(), 1 + varint_len(v) + 2 + 4 + 2 + 8 + 5);
            let mut reader = Reader::new(writer.written());
            prop_assert_eq!(reader.u8(), Ok(a));
            prop_assert_eq!(reader.varint(), Ok(v));
            prop_assert_eq!(reader.u16(), Ok(b));
            prop_assert_eq!(reader.u32(), Ok(c));
            prop_assert_eq!(reader.take(2), Ok(&[0, 0][..]));
            prop_assert_eq!(reader.u64(), Ok(d));
            prop_assert_eq!(reader.rest(), &tail);
            prop_assert!(reader.is_empty());
        }
    }
}
