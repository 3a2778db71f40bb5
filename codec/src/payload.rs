//! The payloads of the three handshake messages, in clear: who speaks, which start of the node, what comes along.
//!
//! In:    plaintext that Noise has opened; values to write.
//! Out:   [`HelloPayload`], [`WelcomePayload`], [`FinishPayload`]; bytes.
//! Holds: reserved bits and padding are zero. Whether an identity maps to the static key is the session's affair.
//!
//! | Hello | Welcome | Finish |
//! |---|---|---|
//! | identity 32 | identity 32 | identity 32 |
//! | time 8, unix milliseconds | instance 8 | instance 8 |
//! | responder's instance 8, zero: unknown | reset token 16 | frames |
//! | own instance 8 | flags 1: bit 0 early data accepted, bit 1 refused | |
//! | flags 1: bit 0 early data present | frames | |
//! | early data's length 2, early data (frames) | | |
//! | zeros to the end | | |
//!
//! spec: atp/handshake-payload

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};
use crate::ids::{InstanceId, NodeId};
use crate::reset::TOKEN_LEN;

/// What the initiator says in message 1 of IK.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HelloPayload<'a> {
    /// The initiator's Ed25519 key.
    pub identity: NodeId,
    /// The initiator's clock, unix milliseconds.
    pub time_ms: u64,
    /// The responder's instance as the initiator remembers it; zero when it does not.
    pub responder_instance: InstanceId,
    /// The initiator's own instance.
    pub instance: InstanceId,
    /// Frames that ride in the first flight: at most 65,535 bytes, in practice what the datagram holds.
    pub early: Option<&'a [u8]>,
}

impl<'a> HelloPayload<'a> {
    /// Bytes before the early data.
    pub const HEAD_LEN: usize = 32 + 8 + 8 + 8 + 1 + 2;
    const EARLY: u8 = 0x01;

    /// Reads an opened payload, padding included.
    ///
    /// # Errors
    /// [`WireError`]: the sender, whose keys it proved, wrote what is none; the handshake ends.
    pub fn parse(plaintext: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(plaintext);
        let identity = NodeId(*reader.array()?);
        let time_ms = reader.u64()?;
        let responder_instance = InstanceId(*reader.array()?);
        let instance = InstanceId(*reader.array()?);
        let flags = reader.u8()?;
        if flags & !Self::EARLY != 0 {
            return Err(WireError::Reserved);
        }
        let len = usize::from(reader.u16()?);
        let early = match flags & Self::EARLY {
            0 if len > 0 => return Err(WireError::OutOfRange),
            0 => None,
            _ => Some(reader.take(len)?),
        };
        if reader.rest().iter().any(|&byte| byte != 0) {
            return Err(WireError::Reserved);
        }
        Ok(Self { identity, time_ms, responder_instance, instance, early })
    }

    /// Bytes that the payload takes without padding.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        Self::HEAD_LEN + self.early.map_or(0, <[u8]>::len)
    }

    /// Writes the payload and zeros behind it until it has `padded_len` bytes; one that is longer gets none.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When the early data is longer than 65,535 bytes.
    pub fn write(&self, out: &mut Writer<'_>, padded_len: usize) -> Result<(), NoRoom> {
        let len = self.encoded_len();
        let needed = len.max(padded_len);
        let left = out.room();
        if needed > left {
            return Err(NoRoom { needed, left });
        }
        let early = self.early.unwrap_or_default();
        let early_len = u16::try_from(early.len()).expect("early data fits one datagram");
        out.put(&self.identity.0)?;
        out.u64(self.time_ms)?;
        out.put(&self.responder_instance.0)?;
        out.put(&self.instance.0)?;
        out.u8(if self.early.is_some() { Self::EARLY } else { 0 })?;
        out.u16(early_len)?;
        out.put(early)?;
        out.zeros(needed - len)
    }
}

/// What became of the early data of a Hello.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EarlyAnswer {
    /// There was none.
    #[default]
    None,
    /// It was delivered.
    Accepted,
    /// It was dropped: the initiator sends it again inside the session.
    Refused,
}

/// What the responder says in message 2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WelcomePayload<'a> {
    /// The responder's Ed25519 key.
    pub identity: NodeId,
    /// The responder's instance, to be remembered by the initiator.
    pub instance: InstanceId,
    /// What a Reset of this session will carry.
    pub reset_token: [u8; TOKEN_LEN],
    /// What became of the early data.
    pub early: EarlyAnswer,
    /// Frames that ride along.
    pub frames: &'a [u8],
}

impl<'a> WelcomePayload<'a> {
    /// Bytes before the frames.
    pub const HEAD_LEN: usize = 32 + 8 + TOKEN_LEN + 1;
    const ACCEPTED: u8 = 0x01;
    const REFUSED: u8 = 0x02;

    /// Reads an opened payload.
    ///
    /// # Errors
    /// [`WireError`]: the sender, whose keys it proved, wrote what is none; the handshake ends.
    pub fn parse(plaintext: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(plaintext);
        Ok(Self {
            identity: NodeId(*reader.array()?),
            instance: InstanceId(*reader.array()?),
            reset_token: *reader.array()?,
            early: match reader.u8()? {
                0 => EarlyAnswer::None,
                Self::ACCEPTED => EarlyAnswer::Accepted,
                Self::REFUSED => EarlyAnswer::Refused,
                3 => return Err(WireError::OutOfRange),
                _ => return Err(WireError::Reserved),
            },
            frames: reader.rest(),
        })
    }

    /// Bytes that the payload takes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        Self::HEAD_LEN + self.frames.len()
    }

    /// Writes the payload.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        let (needed, left) = (self.encoded_len(), out.room());
        if needed > left {
            return Err(NoRoom { needed, left });
        }
        out.put(&self.identity.0)?;
        out.put(&self.instance.0)?;
        out.put(&self.reset_token)?;
        out.u8(match self.early {
            EarlyAnswer::None => 0,
            EarlyAnswer::Accepted => Self::ACCEPTED,
            EarlyAnswer::Refused => Self::REFUSED,
        })?;
        out.put(self.frames)
    }
}

/// What the initiator says in message 3 of XX.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FinishPayload<'a> {
    /// The initiator's Ed25519 key.
    pub identity: NodeId,
    /// The initiator's instance.
    pub instance: InstanceId,
    /// Frames that ride along.
    pub frames: &'a [u8],
}

impl<'a> FinishPayload<'a> {
    /// Bytes before the frames.
    pub const HEAD_LEN: usize = 32 + 8;

    /// Reads an opened payload.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn parse(plaintext: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(plaintext);
        Ok(Self {
            identity: NodeId(*reader.array()?),
            instance: InstanceId(*reader.array()?),
            frames: reader.rest(),
        })
    }

    /// Bytes that the payload takes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        Self::HEAD_LEN + self.frames.len()
    }

    /// Writes the payload.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        let (needed, left) = (self.encoded_len(), out.room());
        if needed > left {
            return Err(NoRoom { needed, left });
        }
        out.put(&self.identity.0)?;
        out.put(&self.instance.0)?;
        out.put(self.frames)
    }
}

impl fmt::Display for HelloPayload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, time_ms, responder_instance, instance, .. } = self;
        write!(f, "hello-payload {identity} time {time_ms} instance {instance} to {responder_instance}")?;
        match self.early {
            Some(early) => write!(f, " early {}", early.len()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for WelcomePayload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "welcome-payload {} instance {}", self.identity, self.instance)?;
        f.write_str(match self.early {
            EarlyAnswer::None => "",
            EarlyAnswer::Accepted => " early accepted",
            EarlyAnswer::Refused => " early refused",
        })?;
        write!(f, " frames {}", self.frames.len())
    }
}

impl fmt::Display for FinishPayload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "finish-payload {} instance {} frames {}", self.identity, self.instance, self.frames.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..300)
    }

    fn instance() -> impl Strategy<Value = InstanceId> {
        any::<[u8; 8]>().prop_map(InstanceId)
    }

    fn node() -> impl Strategy<Value = NodeId> {
        any::<[u8; 32]>().prop_map(NodeId)
    }

    fn answer() -> impl Strategy<Value = EarlyAnswer> {
        prop_oneof![Just(EarlyAnswer::None), Just(EarlyAnswer::Accepted), Just(EarlyAnswer::Refused)]
    }

    proptest! {
        /// spec: atp/handshake-payload
        #[test]
        fn hello_payloads_come_back(
            identity in node(), time_ms: u64, ids in (instance(), instance()),
            early in prop::option::of(bytes()), padded_len in 0usize..800,
        ) {
            let (responder_instance, instance) = ids;
            let payload = HelloPayload { identity, time_ms, responder_instance, instance, early: early.as_deref() };
            let mut buffer = [0xa5; 800];
            let mut writer = Writer::new(&mut buffer);
            payload.write(&mut writer, padded_len).unwrap();
            prop_assert_eq!(writer.len(), payload.encoded_len().max(padded_len));
            prop_assert_eq!(HelloPayload::parse(writer.written()), Ok(payload));
            let len = payload.encoded_len();
            let short = payload.write(&mut Writer::new(&mut vec![0; len - 1]), 0);
            prop_assert_eq!(short, Err(NoRoom { needed: len, left: len - 1 }));
        }

        /// spec: atp/handshake-payload
        #[test]
        fn welcome_and_finish_payloads_come_back(
            identity in node(), instance in instance(), reset_token: [u8; 16], early in answer(), frames in bytes(),
        ) {
            let welcome = WelcomePayload { identity, instance, reset_token, early, frames: &frames };
            let finish = FinishPayload { identity, instance, frames: &frames };
            let mut buffer = [0xa5; 800];
            let mut writer = Writer::new(&mut buffer);
            welcome.write(&mut writer).unwrap();
            prop_assert_eq!(writer.len(), welcome.encoded_len());
            prop_assert_eq!(WelcomePayload::parse(writer.written()), Ok(welcome));
            writer.rewind(0);
            finish.write(&mut writer).unwrap();
            prop_assert_eq!(writer.len(), finish.encoded_len());
            prop_assert_eq!(FinishPayload::parse(writer.written()), Ok(finish));
            prop_assert!(welcome.write(&mut Writer::new(&mut [0; 56])).is_err());
            prop_assert!(finish.write(&mut Writer::new(&mut [0; 39])).is_err());
        }

        #[test]
        fn junk_never_panics(junk in bytes(), flags in 0u8..5, early_len in 0u16..250) {
            let mut junk = junk;
            if let Some(fields) = junk.get_mut(56..59) {
                fields.copy_from_slice(&[&[flags][..], &early_len.to_be_bytes()].concat());
            }
            if let Ok(payload) = HelloPayload::parse(&junk) {
                let mut buffer = [0; 300];
                let mut writer = Writer::new(&mut buffer);
                payload.write(&mut writer, junk.len()).unwrap();
                prop_assert_eq!(writer.written(), &junk[..]);
            }
            if let Ok(payload) = WelcomePayload::parse(&junk) {
                let mut buffer = [0; 300];
                let mut writer = Writer::new(&mut buffer);
                payload.write(&mut writer).unwrap();
                prop_assert_eq!(writer.written(), &junk[..]);
            }
        }
    }

    #[test]
    fn reserved_bits_and_padding_are_zero() {
        let mut plaintext = [0; HelloPayload::HEAD_LEN + 4];
        assert!(HelloPayload::parse(&plaintext).is_ok());
        plaintext[58] = 1;
        assert_eq!(HelloPayload::parse(&plaintext), Err(WireError::OutOfRange), "a length without the flag");
        plaintext[56] = 1;
        assert_eq!(HelloPayload::parse(&plaintext).map(|payload| payload.early), Ok(Some(&[0][..])));
        plaintext[60] = 1;
        assert_eq!(HelloPayload::parse(&plaintext), Err(WireError::Reserved), "padding");
        plaintext[56] = 2;
        assert_eq!(HelloPayload::parse(&plaintext), Err(WireError::Reserved), "flags");

        let mut plaintext = [0; WelcomePayload::HEAD_LEN];
        plaintext[56] = 3;
        assert_eq!(WelcomePayload::parse(&plaintext), Err(WireError::OutOfRange));
        plaintext[56] = 4;
        assert_eq!(WelcomePayload::parse(&plaintext), Err(WireError::Reserved));
    }
}
