//! What two nodes agree on before anything else: version, cipher suite, handshake pattern.
//!
//! In:    the three bytes behind a Hello's or a Welcome's type.
//! Out:   [`Suite`], [`Pattern`].
//! Holds: every value has one byte and every byte at most one value.
//!
//! spec: atp/handshake

use core::fmt;

use crate::error::WireError;

/// The protocol's version, in every handshake packet.
pub const VERSION: u8 = 1;

/// Length of the authentication tag of either suite, in bytes.
pub const TAG_LEN: usize = 16;

/// Length of either suite's nonce, in bytes.
pub const NONCE_LEN: usize = 12;

/// Length of an X25519 public key, in bytes.
pub const KEY_LEN: usize = 32;

/// Length of a public key that Noise has encrypted: key and tag, in bytes.
pub const ENCRYPTED_KEY_LEN: usize = KEY_LEN + TAG_LEN;

/// The cipher of a session. The initiator decides; both sides accept both.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Suite {
    /// AES-256-GCM.
    #[default]
    AesGcm = 1,
    /// ChaCha20-Poly1305, for processors without AES instructions.
    ChaChaPoly = 2,
}

/// The Noise pattern of a handshake.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Pattern {
    /// The responder's key is known: one round trip, early data possible.
    #[default]
    Ik = 1,
    /// Only host and port are known: three messages, no early data, a cookie first.
    Xx = 2,
}

impl Suite {
    /// The suite that `byte` stands for.
    ///
    /// # Errors
    /// [`WireError::Unknown`].
    #[inline]
    pub const fn from_byte(byte: u8) -> Result<Self, WireError> {
        match byte {
            1 => Ok(Self::AesGcm),
            2 => Ok(Self::ChaChaPoly),
            _ => Err(WireError::Unknown),
        }
    }
}

impl Suite {
    /// Its byte in a Hello.
    #[inline]
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The nonce of a packet number: four zero bytes, then 64 bits, in the byte order that Noise gives each cipher.
    // spec: atp/nonce
    #[inline]
    #[must_use]
    pub fn nonce(self, number: u64) -> [u8; NONCE_LEN] {
        let bytes = match self {
            Self::AesGcm => number.to_be_bytes(),
            Self::ChaChaPoly => number.to_le_bytes(),
        };
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&bytes);
        nonce
    }
}

impl Pattern {
    /// The pattern that `byte` stands for.
    ///
    /// # Errors
    /// [`WireError::Unknown`].
    #[inline]
    pub const fn from_byte(byte: u8) -> Result<Self, WireError> {
        match byte {
            1 => Ok(Self::Ik),
            2 => Ok(Self::Xx),
            _ => Err(WireError::Unknown),
        }
    }
}

/// Reads version, suite and pattern.
#[inline]
pub(crate) fn parse_agreement(version: u8, suite: u8, pattern: u8) -> Result<(Suite, Pattern), WireError> {
    if version != VERSION {
        return Err(WireError::Unknown);
    }
    Ok((Suite::from_byte(suite)?, Pattern::from_byte(pattern)?))
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AesGcm => "aes-256-gcm",
            Self::ChaChaPoly => "chacha20-poly1305",
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ik => "ik",
            Self::Xx => "xx",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: atp/nonce
    #[test]
    fn a_nonce_has_each_ciphers_byte_order() {
        assert_eq!(Suite::AesGcm.nonce(0x0102), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(Suite::ChaChaPoly.nonce(0x0102), [0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    }

    /// spec: atp/handshake
    #[test]
    fn two_suites_two_patterns_and_nothing_else() {
        for byte in 0..=u8::MAX {
            assert_eq!(
                Suite::from_byte(byte).map(|suite| suite as u8).ok(),
                (1..=2).contains(&byte).then_some(byte)
            );
            assert_eq!(
                Pattern::from_byte(byte).map(|it| it as u8).ok(),
                (1..=2).contains(&byte).then_some(byte)
            );
        }
        assert_eq!(parse_agreement(1, 2, 1), Ok((Suite::ChaChaPoly, Pattern::Ik)));
        assert_eq!(parse_agreement(2, 2, 1), Err(WireError::Unknown));
    }
}
