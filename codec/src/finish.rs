//! Finish: the initiator's last word in an XX handshake.
//!
//! In:    a datagram of type 0x04; what Noise wrote as message 3.
//! Out:   [`Finish`], whose Noise message lies in one piece; bytes.
//! Holds: the payload always has room for its tag; the two reserved bytes are zero.
//!
//! | bytes | field |
//! |---|---|
//! | 1, 1, 2 | type, version, zero |
//! | 4 | receiver's session id |
//! | rest | Noise message 3: encrypted static key 48, payload and tag |
//!
//! spec: atp/finish

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};
use crate::ids::SessionId;
use crate::suite::{ENCRYPTED_KEY_LEN, TAG_LEN, VERSION};

/// The first byte.
pub const TYPE: u8 = 0x04;

/// Bytes before the Noise message.
pub const HEAD_LEN: usize = 8;

/// Bytes that a Finish takes besides its payload's plaintext.
pub const OVERHEAD_LEN: usize = HEAD_LEN + ENCRYPTED_KEY_LEN + TAG_LEN;

/// A Finish, borrowed from its datagram. Nothing in it has been authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Finish<'a> {
    receiver: SessionId,
    noise: &'a [u8],
}

impl<'a> Finish<'a> {
    /// The only check of the layout.
    ///
    /// # Errors
    /// [`WireError`]: the datagram is no Finish of this version.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram);
        let &[kind, version, reserved @ ..] = reader.array::<4>()?;
        if kind != TYPE || version != VERSION {
            return Err(WireError::Unknown);
        }
        if reserved != [0; 2] {
            return Err(WireError::Reserved);
        }
        let receiver = SessionId::from_wire(reader.u32()?).ok_or(WireError::OutOfRange)?;
        let noise = reader.rest();
        if noise.len() < ENCRYPTED_KEY_LEN + TAG_LEN {
            return Err(WireError::Truncated);
        }
        Ok(Self { receiver, noise })
    }

    /// The responder's session id, as its Welcome said.
    #[must_use]
    pub const fn receiver(&self) -> SessionId {
        self.receiver
    }

    /// Noise message 3, whole.
    #[must_use]
    pub const fn noise(&self) -> &'a [u8] {
        self.noise
    }
}

/// Writes the [`HEAD_LEN`] bytes before Noise message 3, which must follow.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn write_head(out: &mut Writer<'_>, receiver: SessionId) -> Result<(), NoRoom> {
    let head = out.reserve(HEAD_LEN)?;
    head[..4].copy_from_slice(&[TYPE, VERSION, 0, 0]);
    head[4..].copy_from_slice(&receiver.0.to_be_bytes());
    Ok(())
}

impl fmt::Display for Finish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload_len = self.noise.len() - ENCRYPTED_KEY_LEN;
        write!(f, "finish to {} payload {payload_len} length {}", self.receiver, HEAD_LEN + self.noise.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: atp/finish
    #[test]
    fn a_finish_names_the_session_and_carries_message_3() {
        let mut buffer = [9; OVERHEAD_LEN];
        write_head(&mut Writer::new(&mut buffer), SessionId(0x8100_0007)).unwrap();
        let finish = Finish::parse(&buffer).unwrap();
        assert_eq!((finish.receiver().0, finish.noise()), (0x8100_0007, &[9; 64][..]));
        for len in 0..buffer.len() {
            assert_eq!(Finish::parse(&buffer[..len]), Err(WireError::Truncated));
        }
        buffer[3] = 1;
        assert_eq!(Finish::parse(&buffer), Err(WireError::Reserved));
    }
}
