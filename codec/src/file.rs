//! Messages of a file transfer: one channel per file, one of these per message.
//!
//! In:    a message from the peer; values to write.
//! Out:   [`FileMessage`], borrowed from the message; bytes.
//! Holds: a message is taken whole: bytes left over are an error.
//!
//! The sender speaks OFFER, BLOCK and DONE, the receiver ACCEPT or SKIP, then RESULT; either may ABORT.
//!
//! | type | message | fields |
//! |---|---|---|
//! | 0x01 | OFFER | length 8, SHA-256 32, block length 4, length of the name 1, name, the whole file or nothing |
//! | 0x02 | ACCEPT | first missing byte 8, bytes it had 8 |
//! | 0x03 | SKIP | reason 1 |
//! | 0x04 | BLOCK | offset 8, bytes |
//! | 0x05 | DONE | length 8 |
//! | 0x06 | RESULT | outcome 1, text |
//! | 0x07 | ABORT | text |
//!
//! spec: atp/file-transfer

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};

/// The block length that we offer, in bytes.
pub const BLOCK_LEN: u32 = 256 * 1024;

/// The longest block that is read, in bytes: with its header it fits a message of 1 MiB.
pub const BLOCK_LEN_MAX: u32 = 512 * 1024;

/// The longest name, in bytes of UTF-8.
pub const NAME_LEN_MAX: usize = 255;

/// The longest text in a RESULT or an ABORT, in bytes of UTF-8; writing cuts it.
pub const TEXT_LEN_MAX: usize = 128;

/// Bytes of a BLOCK before the file's own.
pub const BLOCK_HEADER_LEN: usize = 1 + 8;

/// The type bytes.
mod tag {
    pub(super) const OFFER: u8 = 0x01;
    pub(super) const ACCEPT: u8 = 0x02;
    pub(super) const SKIP: u8 = 0x03;
    pub(super) const BLOCK: u8 = 0x04;
    pub(super) const DONE: u8 = 0x05;
    pub(super) const RESULT: u8 = 0x06;
    pub(super) const ABORT: u8 = 0x07;
}

/// What the sender has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offer<'a> {
    /// The file's name, 1 to 255 bytes. The peer's text: it may hold anything, `../` and line ends included.
    pub name: &'a str,
    /// The file's length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Bytes in each block but the last, 1 to [`BLOCK_LEN_MAX`].
    pub block_len: u32,
    /// The whole file when it came along (a file without bytes always does), else empty.
    pub inline: &'a [u8],
}

impl Offer<'_> {
    const FIXED_LEN: usize = 1 + 8 + 32 + 4 + 1;

    /// Whether the offer carries the whole file.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.inline.len() as u64 == self.length
    }

    const fn is_valid(&self) -> bool {
        !self.name.is_empty()
            && self.name.len() <= NAME_LEN_MAX
            && 1 <= self.block_len
            && self.block_len <= BLOCK_LEN_MAX
            && (self.inline.is_empty() || self.is_complete())
    }
}

/// Why the receiver does not want a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum SkipReason {
    /// It has a file of this name and these bytes.
    AlreadyThere = 1,
}

/// How a transfer ended at the receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Outcome {
    /// The bytes have the offered SHA-256 and are on the disk.
    Verified = 0,
    /// The bytes do not have the offered SHA-256.
    Mismatch = 1,
    /// The disk is full.
    DiskFull = 2,
    /// The receiver may not write there.
    NoPermission = 3,
    /// Anything else: see the text.
    Failed = 4,
}

/// A message of a file transfer. Texts are the peer's: escape them before showing them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileMessage<'a> {
    /// The sender has a file.
    Offer(Offer<'a>),
    /// The receiver wants it from this byte on.
    Accept {
        /// Bytes before it are there already.
        first_missing: u64,
        /// Bytes that were there before the receiver looked at them, no fewer: what lies between travels again.
        had: u64,
    },
    /// The receiver does not want it.
    Skip {
        /// Why not.
        reason: SkipReason,
    },
    /// A piece of the file.
    Block {
        /// Bytes of the file before it; the end fits 64 bits.
        offset: u64,
        /// At least 1 and at most [`BLOCK_LEN_MAX`].
        bytes: &'a [u8],
    },
    /// All was sent.
    Done {
        /// The file's length in bytes.
        length: u64,
    },
    /// All was received, or it went wrong at the receiver.
    Result {
        /// How it ended.
        outcome: Outcome,
        /// For people; at most [`TEXT_LEN_MAX`] bytes.
        text: &'a str,
    },
    /// The transfer ends here.
    Abort {
        /// For people; at most [`TEXT_LEN_MAX`] bytes.
        text: &'a str,
    },
}

/// What stands before a block's bytes, for whoever reads the file straight into the message.
#[must_use]
pub const fn block_header(offset: u64) -> [u8; BLOCK_HEADER_LEN] {
    let [a, b, c, d, e, f, g, h] = offset.to_be_bytes();
    [tag::BLOCK, a, b, c, d, e, f, g, h]
}

impl<'a> FileMessage<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// [`WireError`]: the peer wrote what is none; the transfer ends.
    pub fn parse(message: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(message);
        let parsed = match reader.u8()? {
            tag::OFFER => Self::Offer(offer(&mut reader)?),
            tag::ACCEPT => Self::Accept { first_missing: reader.u64()?, had: reader.u64()? },
            tag::SKIP => match reader.u8()? {
                1 => Self::Skip { reason: SkipReason::AlreadyThere },
                _ => return Err(WireError::Unknown),
            },
            tag::BLOCK => Self::Block { offset: reader.u64()?, bytes: reader.rest() },
            tag::DONE => Self::Done { length: reader.u64()? },
            tag::RESULT => Self::Result { outcome: outcome(reader.u8()?)?, text: text(reader.rest())? },
            tag::ABORT => Self::Abort { text: text(reader.rest())? },
            _ => return Err(WireError::Unknown),
        };
        reader.finish()?;
        if parsed.is_valid() { Ok(parsed) } else { Err(WireError::OutOfRange) }
    }

    const fn is_valid(&self) -> bool {
        match self {
            Self::Offer(offer) => offer.is_valid(),
            Self::Accept { first_missing, had } => *first_missing <= *had,
            Self::Block { offset, bytes } => {
                !bytes.is_empty()
                    && bytes.len() <= BLOCK_LEN_MAX as usize
                    && offset.checked_add(bytes.len() as u64).is_some()
            }
            _ => true,
        }
    }

    /// Bytes that [`write`](Self::write) takes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Offer(offer) => Offer::FIXED_LEN + offer.name.len() + offer.inline.len(),
            Self::Accept { .. } => 1 + 8 + 8,
            Self::Done { .. } => 1 + 8,
            Self::Skip { .. } => 1 + 1,
            Self::Block { bytes, .. } => BLOCK_HEADER_LEN + bytes.len(),
            Self::Result { text, .. } => 1 + 1 + short(text).len(),
            Self::Abort { text } => 1 + short(text).len(),
        }
    }

    /// Writes the message.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When an offer, an acceptance or a block is outside the bounds that its fields name: no receiver would take it.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        assert!(self.is_valid(), "offers, acceptances and blocks stay within their bounds");
        let (needed, left) = (self.encoded_len(), out.room());
        if needed > left {
            return Err(NoRoom { needed, left });
        }
        match *self {
            Self::Offer(offer) => write_offer(out, &offer),
            Self::Accept { first_missing, had } => {
                out.u8(tag::ACCEPT).and_then(|()| out.u64(first_missing)).and_then(|()| out.u64(had))
            }
            Self::Skip { reason } => out.put(&[tag::SKIP, reason as u8]),
            Self::Block { offset, bytes } => out.put(&block_header(offset)).and_then(|()| out.put(bytes)),
            Self::Done { length } => out.u8(tag::DONE).and_then(|()| out.u64(length)),
            Self::Result { outcome, text } => {
                out.put(&[tag::RESULT, outcome as u8]).and_then(|()| out.put(short(text).as_bytes()))
            }
            Self::Abort { text } => out.u8(tag::ABORT).and_then(|()| out.put(short(text).as_bytes())),
        }
    }
}

fn offer<'a>(reader: &mut Reader<'a>) -> Result<Offer<'a>, WireError> {
    let length = reader.u64()?;
    let sha256 = *reader.array()?;
    let block_len = reader.u32()?;
    let name_len = usize::from(reader.u8()?);
    let name = core::str::from_utf8(reader.take(name_len)?).map_err(|_| WireError::OutOfRange)?;
    Ok(Offer { name, length, sha256, block_len, inline: reader.rest() })
}

fn write_offer(out: &mut Writer<'_>, offer: &Offer<'_>) -> Result<(), NoRoom> {
    let name_len = u8::try_from(offer.name.len()).expect("is_valid bounds the name");
    out.u8(tag::OFFER)?;
    out.u64(offer.length)?;
    out.put(&offer.sha256)?;
    out.u32(offer.block_len)?;
    out.u8(name_len)?;
    out.put(offer.name.as_bytes())?;
    out.put(offer.inline)
}

const fn outcome(code: u8) -> Result<Outcome, WireError> {
    Ok(match code {
        0 => Outcome::Verified,
        1 => Outcome::Mismatch,
        2 => Outcome::DiskFull,
        3 => Outcome::NoPermission,
        4 => Outcome::Failed,
        _ => return Err(WireError::Unknown),
    })
}

fn text(bytes: &[u8]) -> Result<&str, WireError> {
    if bytes.len() > TEXT_LEN_MAX {
        return Err(WireError::OutOfRange);
    }
    core::str::from_utf8(bytes).map_err(|_| WireError::OutOfRange)
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_LEN_MAX)]
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::Mismatch => "mismatch",
            Self::DiskFull => "disk-full",
            Self::NoPermission => "no-permission",
            Self::Failed => "failed",
        })
    }
}

impl fmt::Display for FileMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer(Offer { name, length, sha256, block_len, inline }) => {
                write!(f, "offer {name:?} length {length} sha256 ")?;
                for byte in &sha256[..8] {
                    write!(f, "{byte:02x}")?;
                }
                write!(f, " block {block_len} inline {}", inline.len())
            }
            Self::Accept { first_missing, had } => write!(f, "accept from {first_missing} had {had}"),
            Self::Skip { reason: SkipReason::AlreadyThere } => f.write_str("skip already-there"),
            Self::Block { offset, bytes } => write!(f, "block offset {offset} length {}", bytes.len()),
            Self::Done { length } => write!(f, "done length {length}"),
            Self::Result { outcome, text } => write!(f, "result {outcome} {:?}", short(text)),
            Self::Abort { text } => write!(f, "abort {:?}", short(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// spec: atp/file-transfer
        #[test]
        fn every_message_comes_back(
            kind in 0u8..7, number: u64, sha256: [u8; 32], name in "\\PC{1,60}", text in "\\PC{0,30}",
            bytes in prop::collection::vec(any::<u8>(), 1..300), outcome_code in 0u8..5, block_len in 1..=BLOCK_LEN_MAX,
        ) {
            let inline = if number & 1 == 0 { &bytes[..] } else { &[] };
            let length = if inline.is_empty() { number } else { inline.len() as u64 };
            let message = match kind {
                0 => FileMessage::Offer(Offer { name: &name, length, sha256, block_len, inline }),
                1 => FileMessage::Accept { first_missing: number >> 1, had: number },
                2 => FileMessage::Skip { reason: SkipReason::AlreadyThere },
                3 => FileMessage::Block { offset: number >> 1, bytes: &bytes },
                4 => FileMessage::Done { length: number },
                5 => FileMessage::Result { outcome: outcome(outcome_code).unwrap(), text: &text },
                _ => FileMessage::Abort { text: &text },
            };
            let mut buffer = [0xa5; 1024];
            let mut writer = Writer::new(&mut buffer);
            message.write(&mut writer).unwrap();
            prop_assert_eq!(writer.len(), message.encoded_len());
            prop_assert_eq!(FileMessage::parse(writer.written()), Ok(message));
            prop_assert!(!message.to_string().contains('\n'));
            let len = message.encoded_len();
            let short = message.write(&mut Writer::new(&mut vec![0; len - 1]));
            prop_assert_eq!(short, Err(NoRoom { needed: len, left: len - 1 }));
        }

        #[test]
        fn junk_never_panics_and_what_parses_comes_back(
            kind in 0u8..9, junk in prop::collection::vec(any::<u8>(), 0..80), zeros in 0usize..50,
        ) {
            let mut bytes = [&[kind][..], &junk].concat();
            let from = zeros.min(bytes.len()).max(1);
            bytes[1..from].fill(0);
            let Ok(message) = FileMessage::parse(&bytes) else { return Ok(()) };
            let mut buffer = [0; 128];
            let mut writer = Writer::new(&mut buffer);
            message.write(&mut writer).unwrap();
            prop_assert_eq!(writer.written(), &bytes[..]);
        }
    }

    fn with_offer(change: impl FnOnce(&mut Vec<u8>)) -> Result<String, WireError> {
        let offer = Offer { name: "a", length: 4, sha256: [0; 32], block_len: BLOCK_LEN, inline: b"abcd" };
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer);
        FileMessage::Offer(offer).write(&mut writer).unwrap();
        let mut bytes = writer.written().to_vec();
        change(&mut bytes);
        FileMessage::parse(&bytes).map(|message| message.to_string())
    }

    #[test]
    fn an_offer_carries_the_whole_file_or_nothing() {
        assert!(with_offer(|_| ()).is_ok());
        assert!(with_offer(|bytes| bytes.truncate(47)).is_ok());
        assert_eq!(with_offer(|bytes| bytes.truncate(50)), Err(WireError::OutOfRange));
        assert_eq!(with_offer(|bytes| bytes.push(0)), Err(WireError::OutOfRange));
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(with_offer(|bytes| bytes[41..45].fill(0)), Err(WireError::OutOfRange), "block length 0");
        assert_eq!(with_offer(|bytes| bytes[42] = 8 << 1), Err(WireError::OutOfRange), "block too long");
        assert_eq!(with_offer(|bytes| bytes[46] = 0xff), Err(WireError::OutOfRange), "name not UTF-8");
        let mut block = block_header(u64::MAX).to_vec();
        assert_eq!(FileMessage::parse(&block), Err(WireError::OutOfRange), "empty block");
        block.push(0);
        assert_eq!(FileMessage::parse(&block), Err(WireError::OutOfRange), "beyond 64 bits");
        assert_eq!(FileMessage::parse(&[tag::DONE, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(WireError::Trailing));
        assert_eq!(FileMessage::parse(&[tag::ABORT; 130]), Err(WireError::OutOfRange));
        let long = "é".repeat(100);
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer);
        FileMessage::Abort { text: &long }.write(&mut writer).unwrap();
        assert_eq!(FileMessage::parse(writer.written()), Ok(FileMessage::Abort { text: &long[..128] }));
    }
}
