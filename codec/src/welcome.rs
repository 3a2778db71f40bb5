//! Welcome: the responder's answer to a Hello.
//!
//! In:    a datagram of type 0x02; what Noise wrote as message 2.
//! Out:   [`Welcome`], whose Noise message lies in one piece; bytes.
//! Holds: a payload always has room for its tag.
//!
//! | bytes | field |
//! |---|---|
//! | 1, 1, 1, 1 | type, version, suite, pattern |
//! | 4 | receiver's session id |
//! | 4 | sender's session id |
//! | rest | Noise message 2: e 32, encrypted static key 48 (XX only), payload and tag |
//!
//! spec: atp/welcome

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};
use crate::ids::SessionId;
use crate::suite::{ENCRYPTED_KEY_LEN, KEY_LEN, Pattern, Suite, TAG_LEN, VERSION, parse_agreement};

/// The first byte.
pub const TYPE: u8 = 0x02;

/// Bytes before the Noise message.
pub const HEAD_LEN: usize = 12;

/// What stands in clear at the front of a Welcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WelcomeHead {
    /// The Hello's suite.
    pub suite: Suite,
    /// The Hello's pattern.
    pub pattern: Pattern,
    /// The initiator's session id, as its Hello said.
    pub receiver: SessionId,
    /// What the responder wants to read in front of packets for this session.
    pub sender: SessionId,
}

/// A Welcome, borrowed from its datagram. Nothing in it has been authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Welcome<'a> {
    head: WelcomeHead,
    noise: &'a [u8],
    e: &'a [u8; KEY_LEN],
    encrypted_static: Option<&'a [u8; ENCRYPTED_KEY_LEN]>,
    payload: &'a [u8],
}

impl<'a> Welcome<'a> {
    /// The only check of the layout: once this succeeds, no accessor can fail.
    ///
    /// # Errors
    /// [`WireError`]: the datagram is no Welcome of this version.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram);
        let &[kind, version, suite, pattern] = reader.array()?;
        if kind != TYPE {
            return Err(WireError::Unknown);
        }
        let (suite, pattern) = parse_agreement(version, suite, pattern)?;
        let receiver = SessionId::from_wire(reader.u32()?).ok_or(WireError::OutOfRange)?;
        let sender = SessionId::from_wire(reader.u32()?).ok_or(WireError::OutOfRange)?;
        let noise = reader.clone().rest();
        let e = reader.array()?;
        let encrypted_static = match pattern {
            Pattern::Ik => None,
            Pattern::Xx => Some(reader.array()?),
        };
        let payload = reader.rest();
        if payload.len() < TAG_LEN {
            return Err(WireError::Truncated);
        }
        Ok(Self {
            head: WelcomeHead { suite, pattern, receiver, sender },
            noise,
            e,
            encrypted_static,
            payload,
        })
    }

    /// What stands in clear at the front.
    #[must_use]
    pub const fn head(&self) -> WelcomeHead {
        self.head
    }

    /// Noise message 2, whole.
    #[must_use]
    pub const fn noise(&self) -> &'a [u8] {
        self.noise
    }

    /// The responder's ephemeral key.
    #[must_use]
    pub const fn e(&self) -> &'a [u8; KEY_LEN] {
        self.e
    }

    /// The responder's static key, encrypted; in XX only.
    #[must_use]
    pub const fn encrypted_static(&self) -> Option<&'a [u8; ENCRYPTED_KEY_LEN]> {
        self.encrypted_static
    }

    /// The Noise payload: ciphertext and tag.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Bytes that a Welcome takes besides its payload's plaintext: 60 in IK, 108 in XX.
#[must_use]
pub const fn overhead_len(pattern: Pattern) -> usize {
    let static_len = match pattern {
        Pattern::Ik => 0,
        Pattern::Xx => ENCRYPTED_KEY_LEN,
    };
    HEAD_LEN + KEY_LEN + static_len + TAG_LEN
}

impl WelcomeHead {
    /// Writes the [`HEAD_LEN`] bytes before Noise message 2, which must follow.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When bit 31 of either session id is clear.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        let are_ids =
            SessionId::from_wire(self.receiver.0).and(SessionId::from_wire(self.sender.0)).is_some();
        assert!(are_ids, "bit 31 of a session id is set");
        let head = out.reserve(HEAD_LEN)?;
        head[..4].copy_from_slice(&[TYPE, VERSION, self.suite as u8, self.pattern as u8]);
        head[4..8].copy_from_slice(&self.receiver.0.to_be_bytes());
        head[8..].copy_from_slice(&self.sender.0.to_be_bytes());
        Ok(())
    }
}

impl fmt::Display for Welcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WelcomeHead { suite, pattern, receiver, sender } = self.head;
        write!(f, "welcome {pattern} {suite} to {receiver} from {sender} e ")?;
        for byte in &self.e[..8] {
            write!(f, "{byte:02x}")?;
        }
        write!(f, " payload {} length {}", self.payload.len(), HEAD_LEN + self.noise.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: atp/welcome
    #[test]
    fn the_static_key_comes_before_the_payload_in_xx_only() {
        for (pattern, static_len) in [(Pattern::Ik, 0), (Pattern::Xx, 48)] {
            let head = WelcomeHead {
                suite: Suite::ChaChaPoly,
                pattern,
                receiver: SessionId(0x8000_0041),
                sender: SessionId(0xff00_0001),
            };
            let mut buffer = [0; 12 + 32 + 48 + 16];
            let mut writer = Writer::new(&mut buffer);
            head.write(&mut writer).unwrap();
            writer.put(&vec![3; 32 + static_len + 16]).unwrap();
            assert_eq!(writer.len(), overhead_len(pattern));
            let bytes = writer.written();
            let welcome = Welcome::parse(bytes).unwrap();
            assert_eq!(welcome.head(), head);
            assert_eq!(welcome.noise(), &bytes[12..]);
            assert_eq!(welcome.encrypted_static().map_or(0, |key| key.len()), static_len);
            assert_eq!(welcome.payload(), [3; 16]);
            for len in 0..bytes.len() {
                assert_eq!(Welcome::parse(&bytes[..len]), Err(WireError::Truncated));
            }
        }
    }
}
