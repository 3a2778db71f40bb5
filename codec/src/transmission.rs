//! A transmission: messages that travel together, compressed together.
//!
//! In:    a whole message of channel 1 or 2; a body to wrap.
//! Out:   [`Transmission`], borrowed from the bytes; bytes.
//! Holds: the length says exactly what follows. What the body is once decompressed, nobody knows here.
//!
//! | bytes | field |
//! |---|---|
//! | 2 | options: 13 reserved bits, zero; the low 3 bits of the second byte are the compression |
//! | 4 | length of what follows |
//! | … | the messages, one behind the other, compressed as said |
//!
//! We send each transmission as one message of its channel, so nothing stands behind it; one without a body is refused.
//!
//! spec: p2p/transmission

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};

/// Bytes in front of the body.
pub const HEADER_LEN: usize = 2 + 4;

/// How a transmission's body is compressed.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// bzip2.
    Bz2 = 1,
    /// One gzip member.
    Gzip = 2,
    /// LZMA in its own container, 13 bytes of header (`.lzma`).
    Lzma = 3,
    /// zlib, no preset dictionary.
    Zlib = 4,
    /// Snappy's frame format.
    Snappy = 5,
}

impl Compression {
    /// Every method, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::None, Self::Bz2, Self::Gzip, Self::Lzma, Self::Zlib, Self::Snappy];

    /// The method of a number.
    ///
    /// # Errors
    /// [`WireError::Reserved`]: 6, 7 and all that is not three bits. The source takes them modulo 8; we refuse.
    pub fn from_code(code: u64) -> Result<Self, WireError> {
        Self::ALL.into_iter().find(|method| *method as u64 == code).ok_or(WireError::Reserved)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bz2 => "bz2",
            Self::Gzip => "gzip",
            Self::Lzma => "lzma",
            Self::Zlib => "zlib",
            Self::Snappy => "snappy",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Messages that travelled together, as they came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transmission<'a> {
    /// How the body is compressed.
    pub compression: Compression,
    /// The messages, compressed; at least one byte.
    pub body: &'a [u8],
}

/// What stands in front of a body of `body_len` bytes, for whoever compresses straight behind it.
#[must_use]
pub const fn header(compression: Compression, body_len: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = body_len.to_be_bytes();
    [0, compression as u8, a, b, c, d]
}

impl<'a> Transmission<'a> {
    /// Takes a whole message of a channel.
    ///
    /// # Errors
    /// [`WireError`]: cut short, bytes left over, reserved bits or methods.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let options = reader.u16()?;
        if options >> 3 != 0 {
            return Err(WireError::Reserved);
        }
        let compression = Compression::from_code(u64::from(options))?;
        let len = reader.u32()?;
        let body = reader.take(len as usize)?;
        reader.finish()?;
        if body.is_empty() { Err(WireError::Truncated) } else { Ok(Self { compression, body }) }
    }

    /// Bytes that [`write`](Self::write) takes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEADER_LEN + self.body.len()
    }

    /// Writes the transmission.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When the body is empty or has 2^32 bytes or more: no receiver would take it.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        assert!(!self.body.is_empty(), "a transmission carries messages");
        let body_len = u32::try_from(self.body.len()).expect("a transmission is far shorter than 4 GiB");
        let place = out.reserve(self.encoded_len())?;
        place[..HEADER_LEN].copy_from_slice(&header(self.compression, body_len));
        place[HEADER_LEN..].copy_from_slice(self.body);
        Ok(())
    }
}

impl fmt::Display for Transmission<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transmission {} body {}", self.compression, self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// spec: p2p/transmission
    #[test]
    fn reserved_bits_and_methods_are_refused() {
        let with = |options: u16| [&options.to_be_bytes()[..], &[0, 0, 0, 1, 9]].concat();
        for options in 0..=u16::MAX {
            let bytes = with(options);
            let parsed = Transmission::parse(&bytes);
            match Compression::ALL.get(usize::from(options)) {
                Some(&compression) => assert_eq!(parsed, Ok(Transmission { compression, body: &[9] })),
                None => assert_eq!(parsed, Err(WireError::Reserved), "{options:#06x}"),
            }
        }
    }

    /// spec: p2p/transmission
    #[test]
    fn the_length_says_exactly_what_follows() {
        assert_eq!(Transmission::parse(&[0, 0, 0, 0, 0, 2, 9]), Err(WireError::Truncated));
        assert_eq!(Transmission::parse(&[0, 0, 0, 0, 0, 1, 9, 9]), Err(WireError::Trailing));
        assert_eq!(Transmission::parse(&[0, 0, 0, 0, 0, 0]), Err(WireError::Truncated), "no message");
        assert_eq!(Transmission::parse(&[0, 0, 0xff, 0xff, 0xff, 0xff, 9]), Err(WireError::Truncated));
    }

    proptest! {
        #[test]
        fn transmissions_come_back(at in 0_usize..6, body in prop::collection::vec(any::<u8>(), 1..300)) {
            let sent = Transmission { compression: Compression::ALL[at], body: &body };
            let mut room = vec![0; sent.encoded_len()];
            prop_assert!(sent.write(&mut Writer::new(&mut room[1..])).is_err());
            sent.write(&mut Writer::new(&mut room)).unwrap();
            prop_assert_eq!(Transmission::parse(&room), Ok(sent));
        }
    }
}
