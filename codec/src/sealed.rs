//! Sealed packets: everything after the handshake. 24 bytes around the frames.
//!
//! In:    a datagram whose first bit is set; what to put in front of a ciphertext.
//! Out:   [`Sealed`], or header and body apart for opening in place; a packet number from its low bits.
//! Holds: the eight header bytes as they travel are the associated data.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | receiver's session id, bit 31 set |
//! | 4 | bit 31 key phase, bits 30-0 the low bits of the packet number |
//! | rest | ciphertext, tag 16 |
//!
//! spec: atp/sealed

use core::fmt;

use crate::error::WireError;
use crate::ids::{PacketNumber, SessionId};
use crate::suite::TAG_LEN;

/// Bytes before the ciphertext.
pub const HEADER_LEN: usize = 8;

/// Bytes around the frames: header and tag.
pub const OVERHEAD_LEN: usize = HEADER_LEN + TAG_LEN;

/// Bits of the packet number that travel.
const NUMBER_BITS: u32 = 31;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;

/// A sealed packet's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Whose packet it is.
    pub receiver: SessionId,
    /// The key phase bit.
    pub phase: bool,
    /// The low 31 bits of the packet number.
    pub number_low: u32,
}

impl Header {
    /// The header of packet `number`.
    #[inline]
    #[must_use]
    pub const fn new(receiver: SessionId, phase: bool, number: PacketNumber) -> Self {
        Self { receiver, phase, number_low: number.0 as u32 & NUMBER_MASK }
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`WireError::Unknown`]: the first bit is clear, so it is no sealed packet.
    #[inline]
    pub const fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        let both = u64::from_be_bytes(*bytes);
        let Some(receiver) = SessionId::from_wire((both >> 32) as u32) else {
            return Err(WireError::Unknown);
        };
        let low = both as u32;
        Ok(Self { receiver, phase: low >> NUMBER_BITS == 1, number_low: low & NUMBER_MASK })
    }

    /// The header as it travels, and as it is authenticated.
    ///
    /// # Panics
    /// When `number_low` has 32 bits, or bit 31 of `receiver` is clear.
    #[inline]
    #[must_use]
    pub const fn to_bytes(self) -> [u8; HEADER_LEN] {
        assert!(self.receiver.0 >> 31 == 1 && self.number_low <= NUMBER_MASK);
        let low = (self.phase as u32) << NUMBER_BITS | self.number_low;
        ((self.receiver.0 as u64) << 32 | low as u64).to_be_bytes()
    }
}

/// A sealed packet, borrowed from its datagram. Nothing in it has been authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sealed<'a> {
    header: Header,
    header_bytes: &'a [u8; HEADER_LEN],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> Sealed<'a> {
    /// The only length check: once this succeeds, no accessor can fail.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::Unknown`].
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let (header_bytes, body) = datagram.split_first_chunk().ok_or(WireError::Truncated)?;
        let (ciphertext, tag) = body.split_last_chunk().ok_or(WireError::Truncated)?;
        Ok(Self { header: Header::from_bytes(header_bytes)?, header_bytes, ciphertext, tag })
    }

    /// The header.
    #[inline]
    #[must_use]
    pub const fn header(&self) -> Header {
        self.header
    }

    /// The header as it came: the associated data.
    #[inline]
    #[must_use]
    pub const fn header_bytes(&self) -> &'a [u8; HEADER_LEN] {
        self.header_bytes
    }

    /// The frames, encrypted.
    #[inline]
    #[must_use]
    pub const fn ciphertext(&self) -> &'a [u8] {
        self.ciphertext
    }

    /// The authentication tag.
    #[inline]
    #[must_use]
    pub const fn tag(&self) -> &'a [u8; TAG_LEN] {
        self.tag
    }
}

/// Parts a sealed packet for opening in place: the header, its bytes (the associated data), and ciphertext with tag.
///
/// # Errors
/// [`WireError::Truncated`], [`WireError::Unknown`].
#[inline]
pub fn split_mut(datagram: &mut [u8]) -> Result<(Header, &[u8; HEADER_LEN], &mut [u8]), WireError> {
    let (header_bytes, body) = datagram.split_first_chunk_mut().ok_or(WireError::Truncated)?;
    if body.len() < TAG_LEN {
        return Err(WireError::Truncated);
    }
    Ok((Header::from_bytes(header_bytes)?, header_bytes, body))
}

/// The packet number nearest to `expected` whose low 31 bits are `number_low` (only those are looked at); of two equally
/// near ones the lower. `expected` is the highest authenticated number plus one.
#[inline]
#[must_use]
pub const fn expand_number(number_low: u32, expected: PacketNumber) -> PacketNumber {
    // The distance modulo 2^31, taken as a signed number of 31 bits.
    let distance = ((number_low << 1).wrapping_sub((expected.0 as u32) << 1) as i32) >> 1;
    match expected.0.checked_add_signed(distance as i64) {
        Some(number) => PacketNumber(number),
        None => PacketNumber((number_low & NUMBER_MASK) as u64),
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {} phase {} number ..{}", self.receiver, u8::from(self.phase), self.number_low)
    }
}

impl fmt::Display for Sealed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sealed {} length {}", self.header, OVERHEAD_LEN + self.ciphertext.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every candidate near `expected`, the nearest taken, the lower first.
    fn expand_naively(number_low: u32, expected: u64) -> u64 {
        let base = (expected >> 31).saturating_sub(2);
        let candidates = (base..base + 5).map(|high| high << 31 | u64::from(number_low & NUMBER_MASK));
        candidates.min_by_key(|candidate| candidate.abs_diff(expected)).expect("five candidates")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// spec: atp/sealed
        #[test]
        fn the_nearest_number_is_taken(low: u32, high in any::<u64>(), shift in 2u32..64) {
            let expected = high >> shift;
            let number = expand_number(low, PacketNumber(expected));
            prop_assert_eq!(number.0, expand_naively(low, expected));
        }

        /// Any number within 2^30 of the expected one comes back from its low bits.
        #[test]
        fn numbers_nearby_survive(expected in 0..1u64 << 62, distance in -(1i64 << 30)..1 << 30) {
            let Some(number) = expected.checked_add_signed(distance) else { return Ok(()) };
            let header = Header::new(SessionId(1 << 31), false, PacketNumber(number));
            prop_assert_eq!(expand_number(header.number_low, PacketNumber(expected)).0, number);
        }

        #[test]
        fn any_expected_number_is_borne(low: u32, expected: u64) {
            let number = expand_number(low, PacketNumber(expected));
            prop_assert_eq!(number.0 as u32 & NUMBER_MASK, low & NUMBER_MASK);
        }

        /// spec: atp/sealed
        #[test]
        fn headers_come_back(id: u32, phase: bool, number: u64, body in prop::collection::vec(any::<u8>(), 0..40)) {
            let header = Header::new(SessionId(id | 1 << 31), phase, PacketNumber(number));
            let mut datagram = [&header.to_bytes()[..], &body].concat();
            let parsed = Sealed::parse(&datagram).map(|sealed| (sealed.header(), sealed.ciphertext().len()));
            let in_place = split_mut(&mut datagram).map(|(header, _, body)| (header, body.len() - TAG_LEN));
            prop_assert_eq!(parsed, in_place);
            match body.len().checked_sub(TAG_LEN) {
                Some(len) => prop_assert_eq!(parsed, Ok((header, len))),
                None => prop_assert_eq!(parsed, Err(WireError::Truncated)),
            }
        }
    }

    #[test]
    fn a_clear_first_bit_is_no_sealed_packet() {
        assert_eq!(Sealed::parse(&[0x7f; 24]), Err(WireError::Unknown));
        assert!(split_mut(&mut [0x7f; 24]).is_err());
        assert_eq!(Sealed::parse(&[0xff; 23]), Err(WireError::Truncated));
    }
}
