//! The direct form, on channel 1: what one peer says to the other. It carries no signature, the session proves who speaks.
//!
//! In:    a decompressed transmission; values to write.
//! Out:   [`Direct`], one after the other; bytes.
//! Holds: a message that was given out lies whole within its transmission.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | operation, four bits; flags, four bits: 1 the payload is sealed to its recipient, the others are zero |
//! | 1-8 | request id, varint: chosen by the asker, 0 when no answer is wanted; in ACK and NACK the id that is answered |
//! | 1-8 | length of the payload, varint |
//! | … | payload |
//!
//! spec: p2p/direct

use core::fmt;

use super::{Operation, PAYLOAD_LEN_MAX};
use crate::bytes::{Reader, Writer, varint_len};
use crate::error::{NoRoom, WireError};

/// The payload is sealed to its recipient.
const SEALED: u8 = 0x01;
/// All flags.
const FLAGS: u8 = 0x0f;

/// Bytes before the payload at most.
pub const HEAD_LEN_MAX: usize = 1 + 8 + 8;

/// A message between two peers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Direct<'a> {
    /// What it asks for.
    pub operation: Operation,
    /// The payload is sealed to its recipient.
    pub is_sealed: bool,
    /// Names the request among the asker's open ones; 0: no answer is wanted. At most 2^62 - 1.
    pub request: u64,
    /// Arguments in msgpack, or what they became when they were sealed; at most [`PAYLOAD_LEN_MAX`] bytes.
    pub payload: &'a [u8],
}

impl<'a> Direct<'a> {
    /// Reads the next message.
    ///
    /// # Errors
    /// [`WireError`]: the peer wrote what is none; the rest of its transmission means nothing.
    pub fn parse(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let first = reader.u8()?;
        if first & FLAGS & !SEALED != 0 {
            return Err(WireError::Reserved);
        }
        let request = reader.varint()?;
        let len = reader.varint()?;
        if len > PAYLOAD_LEN_MAX as u64 {
            return Err(WireError::OutOfRange);
        }
        let payload = reader.take(len as usize)?;
        Ok(Self {
            operation: Operation::from_code(first >> 4),
            is_sealed: first & SEALED != 0,
            request,
            payload,
        })
    }

    /// Bytes that [`write`](Self::write) takes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        1 + varint_len(self.request) + varint_len(self.payload.len() as u64) + self.payload.len()
    }

    /// Writes the message.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When request id or payload are beyond their bounds: no receiver would take it.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        let (needed, left) = (self.encoded_len(), out.room());
        if needed > left {
            return Err(NoRoom { needed, left });
        }
        self.write_head(out)?;
        out.put(self.payload)
    }

    /// Writes what stands before the payload, [`HEAD_LEN_MAX`] bytes at most.
    ///
    /// # Errors
    /// [`NoRoom`]: a part of it may have been written.
    ///
    /// # Panics
    /// As [`Self::write`].
    pub fn write_head(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        assert!(self.payload.len() <= PAYLOAD_LEN_MAX, "the caller bounds payloads");
        out.u8(self.operation.code() << 4 | if self.is_sealed { SEALED } else { 0 })?;
        out.varint(self.request)?;
        out.varint(self.payload.len() as u64)
    }
}

impl fmt::Display for Direct<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sealed = if self.is_sealed { " sealed" } else { "" };
        write!(f, "{} request {}{sealed} payload {}", self.operation, self.request, self.payload.len())
    }
}

/// The direct messages of a transmission; an error is the last that comes.
#[derive(Clone, Debug)]
pub struct DirectMessages<'a> {
    reader: Reader<'a>,
}

impl<'a> DirectMessages<'a> {
    /// Goes over a decompressed transmission of channel 1.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { reader: Reader::new(body) }
    }
}

impl<'a> Iterator for DirectMessages<'a> {
    type Item = Result<Direct<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let message = Direct::parse(&mut self.reader);
        if message.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// spec: p2p/direct
    #[test]
    fn reserved_flags_and_long_payloads_are_refused() {
        for flags in 2..16 {
            assert_eq!(Direct::parse(&mut Reader::new(&[0x20 | flags, 1, 0])), Err(WireError::Reserved));
        }
        // 2^20 + 1 bytes of payload.
        let long = [0x20, 1, 0x80, 0x10, 0, 1];
        assert_eq!(Direct::parse(&mut Reader::new(&long)), Err(WireError::OutOfRange));
        assert_eq!(Direct::parse(&mut Reader::new(&[0x20, 1, 2, 0xc0])), Err(WireError::Truncated));
    }

    #[test]
    fn nothing_comes_behind_an_error() {
        let mut list = DirectMessages::new(&[0x20, 1, 1, 0xc0, 0x22, 1, 0, 0x20, 1, 0]);
        let ping = Direct { operation: Operation::Ping, is_sealed: false, request: 1, payload: &[0xc0] };
        assert_eq!(list.next(), Some(Ok(ping)));
        assert_eq!(list.next(), Some(Err(WireError::Reserved)));
        assert_eq!(list.next(), None);
    }

    proptest! {
        /// spec: p2p/direct
        #[test]
        fn messages_come_back(
            list in prop::collection::vec((0_u8..16, any::<bool>(), any::<u64>(), 0_u32..64, ".{0,99}"), 1..9),
        ) {
            let list: Vec<Direct<'_>> = list.iter().map(|(code, is_sealed, request, shift, text)| Direct {
                operation: Operation::from_code(*code),
                is_sealed: *is_sealed,
                request: (request >> 2) >> shift,
                payload: text.as_bytes(),
            }).collect();
            let len: usize = list.iter().map(Direct::encoded_len).sum();
            let mut room = vec![0; len];
            let mut out = Writer::new(&mut room);
            for message in &list {
                message.write(&mut out).unwrap();
            }
            prop_assert!(list[0].write(&mut out).is_err() && out.room() == 0);
            let read: Result<Vec<_>, _> = DirectMessages::new(&room).collect();
            prop_assert_eq!(read, Ok(list));
        }
    }
}
