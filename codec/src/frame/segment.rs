//! A segment: a message, or one piece of it, on a channel. The frame that carries nearly every byte.
//!
//! In:    a segment's type byte and what follows it; pieces of messages to write.
//! Out:   [`Segment`], whose piece is known to lie within its message.
//! Holds: a piece is never empty; a whole message may be.
//!
//! spec: atp/segments

use core::fmt;

use super::tag;
use crate::bytes::{Reader, Writer, varint_len};
use crate::error::{NoRoom, WireError};
use crate::ids::{ChannelId, MessageId};

/// The low bits of a segment's type byte.
mod flag {
    /// The length is written; otherwise the bytes run to the end of the packet.
    pub(super) const LENGTH: u8 = 0x01;
    /// Offset and total length are written; otherwise it is a whole message.
    pub(super) const PART: u8 = 0x02;
    /// The message may be lost, and says how many reliable ones went before it.
    pub(super) const UNRELIABLE: u8 = 0x04;
    /// The channel delivers in order of arrival.
    pub(super) const UNORDERED: u8 = 0x08;
}

/// Where a piece lies in its message, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// Bytes of the message before this piece.
    pub offset: u32,
    /// Length of the whole message.
    pub total: u32,
}

/// A message or a piece of one, its bytes borrowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment<'a> {
    /// The channel that the message travels on.
    pub channel: ChannelId,
    /// The message's number: reliable and unreliable messages of a channel are numbered apart, each from 0.
    pub message: MessageId,
    /// The channel delivers in order of arrival.
    pub unordered: bool,
    /// An unreliable message: the number of reliable messages that went before it on the channel.
    pub unreliable: Option<u64>,
    /// A piece of a message; `None`: the whole message.
    pub part: Option<Part>,
    /// The bytes. Not empty when `part` is given, and then `offset + bytes.len() <= total`.
    pub bytes: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The most bytes that can stand before a segment's own.
    pub const HEADER_LEN_MAX: usize = 1 + 8 + 8 + 8 + 8 + 8 + 8;

    /// Reads what follows the type byte `kind`.
    #[inline]
    pub(super) fn parse(reader: &mut Reader<'a>, kind: u8) -> Result<Self, WireError> {
        let channel = ChannelId(reader.varint_u32()?);
        let message = MessageId(reader.varint()?);
        let unreliable = if kind & flag::UNRELIABLE != 0 { Some(reader.varint()?) } else { None };
        let part = if kind & flag::PART != 0 {
            Some(Part { offset: reader.varint_u32()?, total: reader.varint_u32()? })
        } else {
            None
        };
        let bytes = if kind & flag::LENGTH != 0 {
            let len = usize::try_from(reader.varint()?).map_err(|_| WireError::Truncated)?;
            reader.take(len)?
        } else {
            reader.rest()
        };
        let segment =
            Self { channel, message, unordered: kind & flag::UNORDERED != 0, unreliable, part, bytes };
        if segment.is_within_message() { Ok(segment) } else { Err(WireError::OutOfRange) }
    }

    #[inline]
    fn is_within_message(&self) -> bool {
        match self.part {
            None => true,
            Some(Part { offset, total }) => {
                !self.bytes.is_empty() && u64::from(offset) + self.bytes.len() as u64 <= u64::from(total)
            }
        }
    }

    /// Bytes that stand before the segment's own; with `to_end` there is no length among them.
    #[inline]
    #[must_use]
    pub fn header_len(&self, to_end: bool) -> usize {
        let mut len = 1 + varint_len(u64::from(self.channel.0)) + varint_len(self.message.0);
        if let Some(after) = self.unreliable {
            len += varint_len(after);
        }
        if let Some(Part { offset, total }) = self.part {
            len += varint_len(u64::from(offset)) + varint_len(u64::from(total));
        }
        if !to_end {
            len += varint_len(self.bytes.len() as u64);
        }
        len
    }

    /// How many of `left` bytes of a message fit into `room` behind this header (its own `bytes` do not count): 0 when none.
    #[inline]
    #[must_use]
    pub fn fitting(&self, room: usize, left: usize, to_end: bool) -> usize {
        let header = Segment { bytes: &[], ..*self }.header_len(true);
        let Some(room) = room.checked_sub(header) else { return 0 };
        if to_end {
            return left.min(room);
        }
        // The length field grows with the length: try the longest that fits and step down at most once.
        let len = left.min(room.saturating_sub(varint_len(room as u64)));
        let longer = left.min(len + 1);
        if longer + varint_len(longer as u64) <= room { longer } else { len }
    }

    /// Writes the segment. With `to_end` it carries no length and must be the last frame of its packet.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When `part` is given and `bytes` is empty or reaches beyond `total`: no receiver would take it.
    #[inline]
    pub fn write(&self, out: &mut Writer<'_>, to_end: bool) -> Result<(), NoRoom> {
        assert!(self.is_within_message(), "a piece lies within its message and is not empty");
        let start = out.len();
        self.write_fields(out, to_end).map_err(|_| {
            out.rewind(start);
            NoRoom { needed: self.header_len(to_end) + self.bytes.len(), left: out.room() }
        })
    }

    /// Writes the segment as the last frame of its packet, except for its bytes: their room is taken, and the caller sees to it that they
    /// come there.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// As [`Self::write`].
    #[inline]
    pub fn write_around(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        assert!(self.is_within_message(), "a piece lies within its message and is not empty");
        let start = out.len();
        let taken = self.write_head(out, true).and_then(|()| out.reserve(self.bytes.len()).map(|_| ()));
        taken.inspect_err(|_| out.rewind(start))
    }

    #[inline]
    fn write_fields(&self, out: &mut Writer<'_>, to_end: bool) -> Result<(), NoRoom> {
        self.write_head(out, to_end)?;
        out.put(self.bytes)
    }

    #[inline]
    fn write_head(&self, out: &mut Writer<'_>, to_end: bool) -> Result<(), NoRoom> {
        let kind = tag::SEGMENT
            | if to_end { 0 } else { flag::LENGTH }
            | if self.part.is_some() { flag::PART } else { 0 }
            | if self.unreliable.is_some() { flag::UNRELIABLE } else { 0 }
            | if self.unordered { flag::UNORDERED } else { 0 };
        out.u8(kind)?;
        out.varint(u64::from(self.channel.0))?;
        out.varint(self.message.0)?;
        if let Some(after) = self.unreliable {
            out.varint(after)?;
        }
        if let Some(Part { offset, total }) = self.part {
            out.varint(u64::from(offset))?;
            out.varint(u64::from(total))?;
        }
        if !to_end {
            out.varint(self.bytes.len() as u64)?;
        }
        Ok(())
    }
}

impl fmt::Display for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment channel {} message {}", self.channel.0, self.message.0)?;
        if self.unordered {
            f.write_str(" unordered")?;
        }
        if let Some(after) = self.unreliable {
            write!(f, " unreliable after {after}")?;
        }
        if let Some(Part { offset, total }) = self.part {
            write!(f, " offset {offset} of {total}")?;
        }
        write!(f, " length {}", self.bytes.len())
    }
}
