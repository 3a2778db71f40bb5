//! Frames: what a sealed packet carries. One type byte each, then variable-length integers unless said otherwise.
//!
//! In:    a packet's plaintext; frames to write.
//! Out:   [`Frame`] values that borrow from the plaintext; bytes.
//! Holds: whatever parses can be written again and parses equal.
//!
//! | type | frame | fields |
//! |---|---|---|
//! | 0x00 | PADDING | none; a run of them is read as one |
//! | 0x01 | PING | none |
//! | 0x02, 0x03 | ACK, ACK with ECN | see `ack.rs` |
//! | 0x04 | CHANNEL_CREDIT | channel, limit |
//! | 0x05 | SESSION_CREDIT | limit |
//! | 0x06 | CREDIT_BLOCKED | 0 for the session or channel + 1, limit |
//! | 0x07 | CHANNEL_RESET | channel, code |
//! | 0x08, 0x09 | PATH_CHALLENGE, PATH_RESPONSE | 8 bytes |
//! | 0x0a | CLOSE | code, length of the reason, reason |
//! | 0x0b | HANDSHAKE | kind (one byte), length, bytes |
//! | 0x0c | SKIP | channel, message |
//! | 0x0d | IMMEDIATE_ACK | none |
//! | 0x0e | ACK_FREQUENCY | sequence, bytes |
//! | 0x0f | RESET_TOKEN | 16 bytes |
//! | 0x10-0x1f | SEGMENT | see `segment.rs` |
//!
//! spec: atp/frames

mod ack;
mod segment;

use core::fmt;

pub use ack::{Ack, AckRanges, EcnCounts, RANGES_MAX, write_ack};
pub use segment::{Part, Segment};

use crate::bytes::{Reader, Writer, varint_len};
use crate::error::{NoRoom, WireError};
use crate::ids::{ChannelId, MessageId};
use crate::reset::TOKEN_LEN;

/// The type bytes.
mod tag {
    pub(super) const PADDING: u8 = 0x00;
    pub(super) const PING: u8 = 0x01;
    pub(super) const ACK: u8 = 0x02;
    pub(super) const ACK_ECN: u8 = 0x03;
    pub(super) const CHANNEL_CREDIT: u8 = 0x04;
    pub(super) const SESSION_CREDIT: u8 = 0x05;
    pub(super) const CREDIT_BLOCKED: u8 = 0x06;
    pub(super) const CHANNEL_RESET: u8 = 0x07;
    pub(super) const PATH_CHALLENGE: u8 = 0x08;
    pub(super) const PATH_RESPONSE: u8 = 0x09;
    pub(super) const CLOSE: u8 = 0x0a;
    pub(super) const HANDSHAKE: u8 = 0x0b;
    pub(super) const SKIP: u8 = 0x0c;
    pub(super) const IMMEDIATE_ACK: u8 = 0x0d;
    pub(super) const ACK_FREQUENCY: u8 = 0x0e;
    pub(super) const RESET_TOKEN: u8 = 0x0f;
    /// The lowest of sixteen: the low four bits are flags.
    pub(super) const SEGMENT: u8 = 0x10;
}

/// The longest reason that a CLOSE carries, in bytes of UTF-8.
pub const REASON_LEN_MAX: usize = 128;

/// Why the peer ends the session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Close<'a> {
    /// What happened, for machines: 0 is an orderly end.
    pub code: u64,
    /// What happened, for people. Writing cuts it to [`REASON_LEN_MAX`] bytes. The peer's text: escape it before showing it.
    pub reason: &'a str,
}

impl Close<'_> {
    fn short_reason(&self) -> &str {
        &self.reason[..self.reason.floor_char_boundary(REASON_LEN_MAX)]
    }
}

/// One frame, borrowed from its packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Frame<'a> {
    /// A run of this many padding bytes, at least 1.
    Padding(usize),
    /// Asks for an acknowledgement and nothing else.
    Ping,
    /// Packets that arrived.
    Ack(Ack<'a>),
    /// The peer may send this much on a channel.
    ChannelCredit {
        /// The channel.
        channel: ChannelId,
        /// Bytes of reliable messages, counted from the channel's beginning.
        limit: u64,
    },
    /// The peer may send this much on all channels together.
    SessionCredit {
        /// Bytes of reliable messages, counted from the session's beginning.
        limit: u64,
    },
    /// The sender has more to send than it may.
    CreditBlocked {
        /// The channel whose credit is used up; `None`: the session's.
        channel: Option<ChannelId>,
        /// The limit at which the sender stands.
        limit: u64,
    },
    /// A reliable message had to be given up: the channel is closed at both ends.
    ChannelReset {
        /// The channel.
        channel: ChannelId,
        /// What happened, for machines.
        code: u64,
    },
    /// Proves that the peer receives on this path, when the same bytes come back.
    PathChallenge([u8; 8]),
    /// The bytes of a path challenge.
    PathResponse([u8; 8]),
    /// The session ends.
    Close(Close<'a>),
    /// A handshake message inside the session.
    Handshake {
        /// Which message it is.
        kind: u8,
        /// The message.
        bytes: &'a [u8],
    },
    /// A message that had its number already was cancelled: the receiver goes past it.
    Skip {
        /// The channel.
        channel: ChannelId,
        /// The cancelled message.
        message: MessageId,
    },
    /// Asks for an acknowledgement at once.
    ImmediateAck,
    /// Asks for an acknowledgement whenever this much is unacknowledged.
    AckFrequency {
        /// A later frame has a higher number; a lower one is out of date.
        sequence: u64,
        /// Bytes of packets.
        bytes: u64,
    },
    /// What a Reset of this session by the frame's sender will carry: the initiator's, which no Welcome tells.
    ResetToken([u8; TOKEN_LEN]),
    /// A message or a piece of one.
    Segment(Segment<'a>),
}

/// The kinds of frames, for counting: `FrameKind::ALL[kind as usize] == kind`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the variants of Frame are documented there")]
pub enum FrameKind {
    Padding,
    Ping,
    Ack,
    ChannelCredit,
    SessionCredit,
    CreditBlocked,
    ChannelReset,
    PathChallenge,
    PathResponse,
    Close,
    Handshake,
    Skip,
    ImmediateAck,
    AckFrequency,
    ResetToken,
    Segment,
}

impl FrameKind {
    /// Every kind, in the order of the type bytes.
    pub const ALL: [Self; 16] = [
        Self::Padding,
        Self::Ping,
        Self::Ack,
        Self::ChannelCredit,
        Self::SessionCredit,
        Self::CreditBlocked,
        Self::ChannelReset,
        Self::PathChallenge,
        Self::PathResponse,
        Self::Close,
        Self::Handshake,
        Self::Skip,
        Self::ImmediateAck,
        Self::AckFrequency,
        Self::ResetToken,
        Self::Segment,
    ];

    /// The name as it stands in `Display` of the frame and in counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Padding => "padding",
            Self::Ping => "ping",
            Self::Ack => "ack",
            Self::ChannelCredit => "channel-credit",
            Self::SessionCredit => "session-credit",
            Self::CreditBlocked => "credit-blocked",
            Self::ChannelReset => "channel-reset",
            Self::PathChallenge => "path-challenge",
            Self::PathResponse => "path-response",
            Self::Close => "close",
            Self::Handshake => "handshake",
            Self::Skip => "skip",
            Self::ImmediateAck => "immediate-ack",
            Self::AckFrequency => "ack-frequency",
            Self::ResetToken => "reset-token",
            Self::Segment => "segment",
        }
    }
}

impl<'a> Frame<'a> {
    /// Reads the next frame. A segment without a length takes everything that is left.
    ///
    /// # Errors
    /// [`WireError`]: the bytes are none; how much of them was read is then undefined.
    #[inline]
    pub fn parse(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let kind = reader.u8()?;
        if kind & 0xf0 == tag::SEGMENT {
            return Segment::parse(reader, kind).map(Frame::Segment);
        }
        if kind & !1 == tag::ACK {
            return Ack::parse(reader, kind == tag::ACK_ECN).map(Frame::Ack);
        }
        Self::parse_rare(reader, kind)
    }

    /// Everything but segments and acknowledgements.
    fn parse_rare(reader: &mut Reader<'a>, kind: u8) -> Result<Self, WireError> {
        Ok(match kind {
            tag::PADDING => {
                let mut run = 1;
                while reader.peek() == Some(tag::PADDING) {
                    reader.u8()?;
                    run += 1;
                }
                Self::Padding(run)
            }
            tag::PING => Self::Ping,
            tag::CHANNEL_CREDIT => Self::ChannelCredit { channel: channel(reader)?, limit: reader.varint()? },
            tag::SESSION_CREDIT => Self::SessionCredit { limit: reader.varint()? },
            tag::CREDIT_BLOCKED => {
                Self::CreditBlocked { channel: optional_channel(reader)?, limit: reader.varint()? }
            }
            tag::CHANNEL_RESET => Self::ChannelReset { channel: channel(reader)?, code: reader.varint()? },
            tag::PATH_CHALLENGE => Self::PathChallenge(*reader.array()?),
            tag::PATH_RESPONSE => Self::PathResponse(*reader.array()?),
            tag::CLOSE => Self::Close(Close { code: reader.varint()?, reason: reason(reader)? }),
            tag::HANDSHAKE => Self::Handshake { kind: reader.u8()?, bytes: counted(reader)? },
            tag::SKIP => Self::Skip { channel: channel(reader)?, message: MessageId(reader.varint()?) },
            tag::IMMEDIATE_ACK => Self::ImmediateAck,
            tag::ACK_FREQUENCY => Self::AckFrequency { sequence: reader.varint()?, bytes: reader.varint()? },
            tag::RESET_TOKEN => Self::ResetToken(*reader.array()?),
            _ => return Err(WireError::Unknown),
        })
    }

    /// Writes the frame; a segment with its length.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When a value is above [`VARINT_MAX`](crate::bytes::VARINT_MAX), or as [`Segment::write`] says.
    #[inline]
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        if let Self::Segment(segment) = self {
            return segment.write(out, false);
        }
        let (needed, left) = (self.encoded_len(), out.room());
        if needed > left {
            return Err(NoRoom { needed, left });
        }
        self.write_rare(out)
    }

    /// Everything but segments, into room enough.
    fn write_rare(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        match *self {
            Self::Padding(run) => out.zeros(run),
            Self::Ping => out.u8(tag::PING),
            Self::Ack(ack) => write_ack(out, ack.ranges(), ack.delay_us(), ack.ecn()),
            Self::ChannelCredit { channel, limit } => {
                write_integers(out, tag::CHANNEL_CREDIT, &[channel.0.into(), limit])
            }
            Self::SessionCredit { limit } => write_integers(out, tag::SESSION_CREDIT, &[limit]),
            Self::CreditBlocked { channel, limit } => {
                write_integers(out, tag::CREDIT_BLOCKED, &[optional_channel_field(channel), limit])
            }
            Self::ChannelReset { channel, code } => {
                write_integers(out, tag::CHANNEL_RESET, &[channel.0.into(), code])
            }
            Self::PathChallenge(bytes) => out.u8(tag::PATH_CHALLENGE).and_then(|()| out.put(&bytes)),
            Self::PathResponse(bytes) => out.u8(tag::PATH_RESPONSE).and_then(|()| out.put(&bytes)),
            Self::Close(close) => {
                let reason = close.short_reason().as_bytes();
                write_integers(out, tag::CLOSE, &[close.code, reason.len() as u64])?;
                out.put(reason)
            }
            Self::Handshake { kind, bytes } => {
                out.put(&[tag::HANDSHAKE, kind])?;
                out.varint(bytes.len() as u64)?;
                out.put(bytes)
            }
            Self::Skip { channel, message } => write_integers(out, tag::SKIP, &[channel.0.into(), message.0]),
            Self::ImmediateAck => out.u8(tag::IMMEDIATE_ACK),
            Self::AckFrequency { sequence, bytes } => {
                write_integers(out, tag::ACK_FREQUENCY, &[sequence, bytes])
            }
            Self::ResetToken(token) => {
                let room = out.reserve(1 + TOKEN_LEN)?;
                room[0] = tag::RESET_TOKEN;
                room[1..].copy_from_slice(&token);
                Ok(())
            }
            Self::Segment(segment) => segment.write(out, false),
        }
    }

    /// Bytes that [`write`](Self::write) takes.
    #[inline]
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match *self {
            Self::Padding(run) => run,
            Self::Ping | Self::ImmediateAck => 1,
            Self::Ack(ack) => ack.encoded_len(),
            Self::ChannelCredit { channel, limit } => integers_len(&[channel.0.into(), limit]),
            Self::SessionCredit { limit } => integers_len(&[limit]),
            Self::CreditBlocked { channel, limit } => integers_len(&[optional_channel_field(channel), limit]),
            Self::ChannelReset { channel, code } => integers_len(&[channel.0.into(), code]),
            Self::PathChallenge(_) | Self::PathResponse(_) => 1 + 8,
            Self::Close(close) => {
                let reason_len = close.short_reason().len();
                integers_len(&[close.code, reason_len as u64]) + reason_len
            }
            Self::Handshake { bytes, .. } => 2 + varint_len(bytes.len() as u64) + bytes.len(),
            Self::Skip { channel, message } => integers_len(&[channel.0.into(), message.0]),
            Self::AckFrequency { sequence, bytes } => integers_len(&[sequence, bytes]),
            Self::ResetToken(_) => 1 + TOKEN_LEN,
            Self::Segment(segment) => segment.header_len(false) + segment.bytes.len(),
        }
    }

    /// Whether a packet with this frame must be acknowledged: every frame but PADDING, ACK and CLOSE.
    #[inline]
    #[must_use]
    pub const fn is_ack_eliciting(&self) -> bool {
        !matches!(self, Self::Padding(_) | Self::Ack(_) | Self::Close(_))
    }

    /// What kind of frame it is.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Padding(_) => FrameKind::Padding,
            Self::Ping => FrameKind::Ping,
            Self::Ack(_) => FrameKind::Ack,
            Self::ChannelCredit { .. } => FrameKind::ChannelCredit,
            Self::SessionCredit { .. } => FrameKind::SessionCredit,
            Self::CreditBlocked { .. } => FrameKind::CreditBlocked,
            Self::ChannelReset { .. } => FrameKind::ChannelReset,
            Self::PathChallenge(_) => FrameKind::PathChallenge,
            Self::PathResponse(_) => FrameKind::PathResponse,
            Self::Close(_) => FrameKind::Close,
            Self::Handshake { .. } => FrameKind::Handshake,
            Self::Skip { .. } => FrameKind::Skip,
            Self::ImmediateAck => FrameKind::ImmediateAck,
            Self::AckFrequency { .. } => FrameKind::AckFrequency,
            Self::ResetToken(_) => FrameKind::ResetToken,
            Self::Segment(_) => FrameKind::Segment,
        }
    }
}

#[inline]
fn channel(reader: &mut Reader<'_>) -> Result<ChannelId, WireError> {
    reader.varint_u32().map(ChannelId)
}

/// 0 for the session, else the channel plus one.
fn optional_channel(reader: &mut Reader<'_>) -> Result<Option<ChannelId>, WireError> {
    match reader.varint()?.checked_sub(1) {
        None => Ok(None),
        Some(channel) => {
            u32::try_from(channel).map(|channel| Some(ChannelId(channel))).map_err(|_| WireError::OutOfRange)
        }
    }
}

fn optional_channel_field(channel: Option<ChannelId>) -> u64 {
    channel.map_or(0, |channel| u64::from(channel.0) + 1)
}

/// Bytes with their length before them.
fn counted<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let len = usize::try_from(reader.varint()?).map_err(|_| WireError::Truncated)?;
    reader.take(len)
}

fn reason<'a>(reader: &mut Reader<'a>) -> Result<&'a str, WireError> {
    let bytes = counted(reader)?;
    if bytes.len() > REASON_LEN_MAX {
        return Err(WireError::OutOfRange);
    }
    core::str::from_utf8(bytes).map_err(|_| WireError::OutOfRange)
}

fn write_integers(out: &mut Writer<'_>, kind: u8, integers: &[u64]) -> Result<(), NoRoom> {
    out.u8(kind)?;
    integers.iter().try_for_each(|&integer| out.varint(integer))
}

fn integers_len(integers: &[u64]) -> usize {
    1 + integers.iter().map(|&integer| varint_len(integer)).sum::<usize>()
}

impl fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.kind().name();
        match self {
            Self::Padding(run) => write!(f, "{name} {run}"),
            Self::Ping | Self::ImmediateAck => f.write_str(name),
            Self::Ack(ack) => write!(f, "{ack}"),
            Self::ChannelCredit { channel, limit } => write!(f, "{name} channel {} limit {limit}", channel.0),
            Self::SessionCredit { limit } => write!(f, "{name} limit {limit}"),
            Self::CreditBlocked { channel: Some(channel), limit } => {
                write!(f, "{name} channel {} limit {limit}", channel.0)
            }
            Self::CreditBlocked { channel: None, limit } => write!(f, "{name} session limit {limit}"),
            Self::ChannelReset { channel, code } => write!(f, "{name} channel {} code {code}", channel.0),
            Self::PathChallenge(bytes) | Self::PathResponse(bytes) => {
                write!(f, "{name} {:016x}", u64::from_be_bytes(*bytes))
            }
            Self::Close(close) => write!(f, "{name} code {} reason {:?}", close.code, close.short_reason()),
            Self::Handshake { kind, bytes } => write!(f, "{name} kind {kind} length {}", bytes.len()),
            Self::Skip { channel, message } => {
                write!(f, "{name} channel {} message {}", channel.0, message.0)
            }
            Self::AckFrequency { sequence, bytes } => write!(f, "{name} sequence {sequence} bytes {bytes}"),
            // A token closes a session: it is a secret, and stays out of every log (T31).
            Self::ResetToken(_) => f.write_str(name),
            Self::Segment(segment) => write!(f, "{segment}"),
        }
    }
}

/// The frames of a packet's plaintext, front to back; ends after the first error.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    reader: Reader<'a>,
}

impl<'a> Frames<'a> {
    /// The frames in `plaintext`.
    #[inline]
    #[must_use]
    pub const fn new(plaintext: &'a [u8]) -> Self {
        Self { reader: Reader::new(plaintext) }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let frame = Frame::parse(&mut self.reader);
        if frame.is_err() {
            self.reader.rest();
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests;
