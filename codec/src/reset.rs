//! Reset: "I do not know this session", from a node that has forgotten it. 24 bytes, fewer than what it answers.
//!
//! In:    a datagram of type 0x05; a session id and its token.
//! Out:   [`Reset`]; bytes.
//! Holds: exactly [`LEN`] bytes, the three reserved ones zero. Only the token, told in the Welcome, makes it true.
//!
//! | bytes | field |
//! |---|---|
//! | 1, 3 | type, zero |
//! | 4 | the session id that it answers |
//! | 16 | token |
//!
//! spec: atp/reset

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};
use crate::ids::SessionId;

/// The first byte.
pub const TYPE: u8 = 0x05;

/// Length of a Reset packet, in bytes. It answers only what is longer.
pub const LEN: usize = 8 + TOKEN_LEN;

/// Length of the token, in bytes.
pub const TOKEN_LEN: usize = 16;

/// A Reset, borrowed from its datagram. Nothing in it has been authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reset<'a> {
    session: SessionId,
    token: &'a [u8; TOKEN_LEN],
}

impl<'a> Reset<'a> {
    /// The only check of the layout.
    ///
    /// # Errors
    /// [`WireError`]: the datagram is no Reset.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram);
        let &[kind, reserved @ ..] = reader.array::<4>()?;
        if kind != TYPE {
            return Err(WireError::Unknown);
        }
        if reserved != [0; 3] {
            return Err(WireError::Reserved);
        }
        let session = SessionId::from_wire(reader.u32()?).ok_or(WireError::OutOfRange)?;
        let reset = Self { session, token: reader.array()? };
        reader.finish()?;
        Ok(reset)
    }

    /// The session id that stood in front of the packet it answers: one of the *sender's* own.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// To be compared, in constant time, with the token in that session's Welcome.
    #[must_use]
    pub const fn token(&self) -> &'a [u8; TOKEN_LEN] {
        self.token
    }
}

/// Writes a Reset.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn write(out: &mut Writer<'_>, session: SessionId, token: &[u8; TOKEN_LEN]) -> Result<(), NoRoom> {
    let packet = out.reserve(LEN)?;
    packet[..4].copy_from_slice(&[TYPE, 0, 0, 0]);
    packet[4..8].copy_from_slice(&session.0.to_be_bytes());
    packet[8..].copy_from_slice(token);
    Ok(())
}

impl fmt::Display for Reset<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reset of {} length {LEN}", self.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: atp/reset
    #[test]
    fn a_reset_has_24_bytes_and_no_other_length() {
        let mut buffer = [0xa5; 25];
        let mut writer = Writer::new(&mut buffer);
        write(&mut writer, SessionId(0x8000_0041), &[1; 16]).unwrap();
        assert_eq!(writer.len(), 24);
        let reset = Reset::parse(&buffer[..24]).unwrap();
        assert_eq!((reset.session().0, reset.token()), (0x8000_0041, &[1; 16]));
        assert_eq!(Reset::parse(&buffer), Err(WireError::Trailing));
        assert_eq!(Reset::parse(&buffer[..23]), Err(WireError::Truncated));
        buffer[1] = 1;
        assert_eq!(Reset::parse(&buffer[..24]), Err(WireError::Reserved));
    }
}
