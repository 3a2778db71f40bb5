//! Cookie: the stateless answer to a Hello under load, and to every Hello of pattern XX. 52 bytes, fewer than any Hello.
//!
//! In:    a datagram of type 0x03; a sealed cookie to write.
//! Out:   [`Cookie`]; bytes.
//! Holds: exactly [`LEN`] bytes, the three reserved ones zero.
//!
//! | bytes | field |
//! |---|---|
//! | 1, 3 | type, zero |
//! | 4 | receiver's session id |
//! | 12 | nonce |
//! | 32 | the cookie, 16 bytes and tag, sealed with the Hello's mac1 as associated data |
//!
//! spec: atp/cookie

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};
use crate::hello;
use crate::ids::SessionId;
use crate::suite::{Pattern, TAG_LEN};

/// The first byte.
pub const TYPE: u8 = 0x03;

/// Length of a Cookie packet, in bytes.
pub const LEN: usize = 8 + NONCE_LEN + SEALED_LEN;

/// Length of the random nonce, in bytes.
pub const NONCE_LEN: usize = 12;

/// Length of the sealed cookie with its tag, in bytes.
pub const SEALED_LEN: usize = 16 + TAG_LEN;

// An answer without state is never longer than what asked for it.
const _: () = assert!(LEN < hello::overhead_len(Pattern::Xx) && LEN < hello::overhead_len(Pattern::Ik));

/// A Cookie, borrowed from its datagram. Nothing in it has been authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cookie<'a> {
    receiver: SessionId,
    nonce: &'a [u8; NONCE_LEN],
    sealed: &'a [u8; SEALED_LEN],
}

impl<'a> Cookie<'a> {
    /// The only check of the layout.
    ///
    /// # Errors
    /// [`WireError`]: the datagram is no Cookie.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram);
        let &[kind, reserved @ ..] = reader.array::<4>()?;
        if kind != TYPE {
            return Err(WireError::Unknown);
        }
        if reserved != [0; 3] {
            return Err(WireError::Reserved);
        }
        let receiver = SessionId::from_wire(reader.u32()?).ok_or(WireError::OutOfRange)?;
        let cookie = Self { receiver, nonce: reader.array()?, sealed: reader.array()? };
        reader.finish()?;
        Ok(cookie)
    }

    /// The initiator's session id, as its Hello said.
    #[must_use]
    pub const fn receiver(&self) -> SessionId {
        self.receiver
    }

    /// The nonce that the cookie was sealed with.
    #[must_use]
    pub const fn nonce(&self) -> &'a [u8; NONCE_LEN] {
        self.nonce
    }

    /// The sealed cookie and its tag.
    #[must_use]
    pub const fn sealed(&self) -> &'a [u8; SEALED_LEN] {
        self.sealed
    }
}

/// Writes a Cookie.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn write(
    out: &mut Writer<'_>,
    receiver: SessionId,
    nonce: &[u8; NONCE_LEN],
    sealed: &[u8; SEALED_LEN],
) -> Result<(), NoRoom> {
    let packet = out.reserve(LEN)?;
    packet[..4].copy_from_slice(&[TYPE, 0, 0, 0]);
    packet[4..8].copy_from_slice(&receiver.0.to_be_bytes());
    packet[8..8 + NONCE_LEN].copy_from_slice(nonce);
    packet[8 + NONCE_LEN..].copy_from_slice(sealed);
    Ok(())
}

impl fmt::Display for Cookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cookie to {} length {LEN}", self.receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: atp/cookie
    #[test]
    fn a_cookie_has_52_bytes_and_no_other_length() {
        let mut buffer = [0xa5; 53];
        let mut writer = Writer::new(&mut buffer);
        write(&mut writer, SessionId(0x8000_0041), &[1; 12], &[2; 32]).unwrap();
        assert_eq!(writer.len(), 52);
        let cookie = Cookie::parse(&buffer[..52]).unwrap();
        assert_eq!((cookie.receiver().0, cookie.nonce(), cookie.sealed()), (0x8000_0041, &[1; 12], &[2; 32]));
        assert_eq!(Cookie::parse(&buffer), Err(WireError::Trailing));
        assert_eq!(Cookie::parse(&buffer[..51]), Err(WireError::Truncated));
        buffer[2] = 1;
        assert_eq!(Cookie::parse(&buffer[..52]), Err(WireError::Reserved));
    }
}
