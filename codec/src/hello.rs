//! Hello: the first packet of a handshake, and the only one that a stranger's bytes can be taken for.
//!
//! In:    a datagram of type 0x01; what Noise wrote as message 1.
//! Out:   [`Hello`] with the pieces of the Noise message and what each MAC covers; bytes.
//! Holds: both MACs stand before the payload, which has a tag of its own, so they are checked without reading all of it.
//!
//! | bytes | field |
//! |---|---|
//! | 1, 1, 1, 1 | type, version, suite, pattern |
//! | 4 | sender's session id |
//! | 32 | e |
//! | 48 | encrypted static key (IK only) |
//! | 16 | mac1, over everything before it |
//! | 16 | mac2, over everything before it; zero when absent |
//! | rest | payload: ciphertext and tag in IK; in XX Noise leaves it open, and it is normally empty |
//!
//! spec: atp/hello

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};
use crate::ids::SessionId;
use crate::suite::{ENCRYPTED_KEY_LEN, KEY_LEN, Pattern, Suite, TAG_LEN, VERSION, parse_agreement};

/// The first byte.
pub const TYPE: u8 = 0x01;

/// Length of either MAC, in bytes.
pub const MAC_LEN: usize = 16;

/// A Hello with early data is at least this long, so that the answer may be as long; in bytes.
pub const EARLY_LEN_MIN: usize = 1_200;

/// Where each field starts; behind `STATIC` it depends on the pattern.
mod at {
    use super::KEY_LEN;

    pub(super) const SENDER: usize = 4;
    pub(super) const E: usize = SENDER + 4;
    pub(super) const STATIC: usize = E + KEY_LEN;
}

/// What stands in clear at the front of a Hello.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HelloHead {
    /// The initiator's choice of cipher.
    pub suite: Suite,
    /// The handshake's pattern.
    pub pattern: Pattern,
    /// What the initiator wants to read in front of packets for this session.
    pub sender: SessionId,
}

/// A Hello, borrowed from its datagram. Nothing in it has been authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hello<'a> {
    datagram: &'a [u8],
    head: HelloHead,
    e: &'a [u8; KEY_LEN],
    encrypted_static: Option<&'a [u8; ENCRYPTED_KEY_LEN]>,
    mac1: &'a [u8; MAC_LEN],
    mac2: &'a [u8; MAC_LEN],
    payload: &'a [u8],
}

/// Bytes of message 1 before its payload.
const fn prefix_len(pattern: Pattern) -> usize {
    match pattern {
        Pattern::Ik => KEY_LEN + ENCRYPTED_KEY_LEN,
        Pattern::Xx => KEY_LEN,
    }
}

const fn mac1_at(pattern: Pattern) -> usize {
    at::E + prefix_len(pattern)
}

const fn mac2_at(pattern: Pattern) -> usize {
    mac1_at(pattern) + MAC_LEN
}

/// Bytes that a Hello takes besides its payload's plaintext: 136 in IK, 72 in XX (whose payload is not encrypted).
#[must_use]
pub const fn overhead_len(pattern: Pattern) -> usize {
    let tag_len = match pattern {
        Pattern::Ik => TAG_LEN,
        Pattern::Xx => 0,
    };
    mac2_at(pattern) + MAC_LEN + tag_len
}

impl<'a> Hello<'a> {
    /// The only check of the layout: once this succeeds, no accessor can fail.
    ///
    /// # Errors
    /// [`WireError`]: the datagram is no Hello of this version.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram);
        let &[kind, version, suite, pattern] = reader.array()?;
        if kind != TYPE {
            return Err(WireError::Unknown);
        }
        let (suite, pattern) = parse_agreement(version, suite, pattern)?;
        if datagram.len() < overhead_len(pattern) {
            return Err(WireError::Truncated);
        }
        let sender = SessionId::from_wire(reader.u32()?).ok_or(WireError::OutOfRange)?;
        Ok(Self {
            datagram,
            head: HelloHead { suite, pattern, sender },
            e: reader.array()?,
            encrypted_static: match pattern {
                Pattern::Ik => Some(reader.array()?),
                Pattern::Xx => None,
            },
            mac1: reader.array()?,
            mac2: reader.array()?,
            payload: reader.rest(),
        })
    }

    /// What stands in clear at the front.
    #[inline]
    #[must_use]
    pub const fn head(&self) -> HelloHead {
        self.head
    }

    /// The initiator's ephemeral key.
    #[inline]
    #[must_use]
    pub const fn e(&self) -> &'a [u8; KEY_LEN] {
        self.e
    }

    /// The initiator's static key, encrypted; in IK only.
    #[inline]
    #[must_use]
    pub const fn encrypted_static(&self) -> Option<&'a [u8; ENCRYPTED_KEY_LEN]> {
        self.encrypted_static
    }

    /// Proof that the sender knows whom it calls.
    #[inline]
    #[must_use]
    pub const fn mac1(&self) -> &'a [u8; MAC_LEN] {
        self.mac1
    }

    /// Proof that the sender receives at its address; zero when it gave none.
    #[inline]
    #[must_use]
    pub const fn mac2(&self) -> &'a [u8; MAC_LEN] {
        self.mac2
    }

    /// Whether the sender gave a mac2.
    #[inline]
    #[must_use]
    pub fn has_mac2(&self) -> bool {
        self.mac2 != &[0; MAC_LEN]
    }

    /// What mac1 covers.
    #[inline]
    #[must_use]
    pub fn before_mac1(&self) -> &'a [u8] {
        &self.datagram[..mac1_at(self.head.pattern)]
    }

    /// What mac2 covers: mac1 is part of it.
    #[inline]
    #[must_use]
    pub fn before_mac2(&self) -> &'a [u8] {
        &self.datagram[..mac2_at(self.head.pattern)]
    }

    /// The Noise payload as it travels: ciphertext and tag in IK.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The whole datagram.
    #[inline]
    #[must_use]
    pub const fn datagram(&self) -> &'a [u8] {
        self.datagram
    }

    /// Bytes of the Noise message.
    #[inline]
    #[must_use]
    pub const fn noise_len(&self) -> usize {
        prefix_len(self.head.pattern) + self.payload.len()
    }

    /// Writes the Noise message in one piece: e, the encrypted static key, the payload.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    pub fn write_noise(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        let message = out.reserve(self.noise_len())?;
        let (prefix, payload) = message.split_at_mut(prefix_len(self.head.pattern));
        prefix.copy_from_slice(&self.datagram[at::E..mac1_at(self.head.pattern)]);
        payload.copy_from_slice(self.payload);
        Ok(())
    }
}

impl HelloHead {
    /// Writes a Hello around `noise`, message 1 as Noise made it. Both MACs are zero: see [`set_mac1`] and [`set_mac2`].
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When `noise` is shorter than message 1 can be, or bit 31 of `sender` is clear.
    pub fn write(&self, out: &mut Writer<'_>, noise: &[u8]) -> Result<(), NoRoom> {
        assert!(SessionId::from_wire(self.sender.0).is_some(), "bit 31 of a session id is set");
        let (prefix, payload) = noise
            .split_at_checked(prefix_len(self.pattern))
            .expect("message 1 of Noise holds e and, in IK, the encrypted static key");
        let datagram = out.reserve(mac2_at(self.pattern) + MAC_LEN + payload.len())?;
        datagram[..at::SENDER].copy_from_slice(&[TYPE, VERSION, self.suite as u8, self.pattern as u8]);
        datagram[at::SENDER..at::E].copy_from_slice(&self.sender.0.to_be_bytes());
        let (head, rest) = datagram.split_at_mut(mac1_at(self.pattern));
        head[at::E..].copy_from_slice(prefix);
        let (macs, rest) = rest.split_at_mut(2 * MAC_LEN);
        macs.fill(0);
        rest.copy_from_slice(payload);
        Ok(())
    }
}

/// Puts mac1 into a Hello already written.
///
/// # Errors
/// [`WireError`]: `hello` is no Hello; nothing was changed.
pub fn set_mac1(hello: &mut [u8], mac1: &[u8; MAC_LEN]) -> Result<(), WireError> {
    let start = mac1_at(Hello::parse(hello)?.head.pattern);
    hello[start..start + MAC_LEN].copy_from_slice(mac1);
    Ok(())
}

/// Puts mac2 into a Hello already written: the only change that a Hello sent again may have.
///
/// # Errors
/// [`WireError`]: `hello` is no Hello; nothing was changed.
pub fn set_mac2(hello: &mut [u8], mac2: &[u8; MAC_LEN]) -> Result<(), WireError> {
    let start = mac2_at(Hello::parse(hello)?.head.pattern);
    hello[start..start + MAC_LEN].copy_from_slice(mac2);
    Ok(())
}

const _: () =
    assert!(at::STATIC + ENCRYPTED_KEY_LEN == mac1_at(Pattern::Ik) && at::STATIC == mac1_at(Pattern::Xx));

impl fmt::Display for Hello<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HelloHead { suite, pattern, sender } = self.head;
        write!(f, "hello {pattern} {suite} from {sender} e ")?;
        for byte in &self.e[..8] {
            write!(f, "{byte:02x}")?;
        }
        if self.has_mac2() {
            f.write_str(" mac2")?;
        }
        write!(f, " payload {} length {}", self.payload.len(), self.datagram.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IK: HelloHead =
        HelloHead { suite: Suite::AesGcm, pattern: Pattern::Ik, sender: SessionId(0x8000_0041) };

    fn written<'a>(head: HelloHead, noise: &[u8], buffer: &'a mut [u8]) -> &'a mut [u8] {
        let mut writer = Writer::new(buffer);
        head.write(&mut writer, noise).unwrap();
        let len = writer.len();
        &mut buffer[..len]
    }

    /// spec: atp/hello
    #[test]
    fn the_macs_stand_between_key_and_payload() {
        let noise: Vec<u8> = (0..100).collect();
        for (pattern, key_end) in [(Pattern::Ik, 88), (Pattern::Xx, 40)] {
            let mut buffer = [0xa5; 200];
            let bytes = written(HelloHead { pattern, ..IK }, &noise, &mut buffer);
            assert!(!Hello::parse(bytes).unwrap().has_mac2());
            set_mac1(bytes, &[1; 16]).unwrap();
            set_mac2(bytes, &[2; 16]).unwrap();
            let hello = Hello::parse(bytes).unwrap();
            assert_eq!((hello.before_mac1().len(), hello.before_mac2().len()), (key_end, key_end + 16));
            assert_eq!((hello.mac1(), hello.mac2(), hello.has_mac2()), (&[1; 16], &[2; 16], true));
            assert_eq!(&hello.before_mac2()[key_end..], hello.mac1());
            assert_eq!(hello.e()[..], noise[..32]);
            assert_eq!(hello.encrypted_static().is_some(), pattern == Pattern::Ik);
            assert_eq!(hello.payload(), &noise[key_end - 8..]);
            let mut noise_again = [0; 100];
            hello.write_noise(&mut Writer::new(&mut noise_again)).unwrap();
            assert_eq!(noise_again[..], noise);
        }
    }

    #[test]
    fn what_is_no_hello_is_refused() {
        let mut buffer = [0; 200];
        let bytes = written(IK, &[7; 96], &mut buffer).to_vec();
        assert_eq!(bytes.len(), overhead_len(Pattern::Ik));
        for len in 0..bytes.len() {
            assert_eq!(Hello::parse(&bytes[..len]), Err(WireError::Truncated));
        }
        for (at, byte, error) in [
            (0, 2, WireError::Unknown),
            (1, 2, WireError::Unknown),
            (2, 0, WireError::Unknown),
            (3, 3, WireError::Unknown),
            (4, 0x7f, WireError::OutOfRange),
        ] {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            assert_eq!(Hello::parse(&bytes), Err(error));
            assert_eq!(set_mac2(&mut bytes, &[9; 16]), Err(error));
        }
    }
}
