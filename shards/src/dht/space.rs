//! The space of addresses: how far two places are from each other.
//!
//! In:    addresses and keys.
//! Out:   distances, buckets.
//! Holds: only the low τ bits count, as XOR mod 2^τ keeps them.
//!
//! A node's place is its public key. Keys can be ground, so a place is never trusted: addresses of the network's own kind
//! (`diversity`) and disjoint paths (`lookup`) are.
//!
//! spec: p2p/distance

use core::fmt;

use dunlin_codec::ids::{Address, NodeId};

use crate::rng::Rng;

/// How far two places are from each other: a number of at most 256 bits, the highest first.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub struct Distance([u8; 32]);

/// The bits of an address that count: τ.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space {
    bytes: usize,
}

/// Buckets at most: one for each bit.
pub const BUCKETS_MAX: usize = 256;

impl Space {
    /// The space of the low `bits` bits.
    ///
    /// # Panics
    /// When `bits` is 0, above 256 or no multiple of 8: `Constants` has checked it.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        assert!(bits > 0 && bits <= 256 && bits.is_multiple_of(8), "constants are checked before");
        Self { bytes: bits as usize / 8 }
    }

    /// Bits that count.
    #[must_use]
    pub const fn bits(self) -> usize {
        8 * self.bytes
    }

    /// Where a node is.
    #[must_use]
    pub const fn place(node: &NodeId) -> Address {
        Address(node.0)
    }

    /// The place with the bits that do not count at zero.
    #[must_use]
    pub fn counted(self, place: &Address) -> Address {
        Address(self.distance(place, &Address([0; 32])).0)
    }

    /// How far two places are from each other.
    #[must_use]
    pub fn distance(self, one: &Address, other: &Address) -> Distance {
        let mut distance = [0; 32];
        let places = distance.iter_mut().zip(one.0.iter().zip(other.0));
        for (byte, (one, other)) in places.skip(32 - self.bytes) {
            *byte = one ^ other;
        }
        Distance(distance)
    }

    /// The bucket of a distance: 0 for the far half of the space, one more for each half of what is left. None: the place
    /// itself.
    #[must_use]
    pub fn bucket(self, distance: &Distance) -> Option<usize> {
        let zeros = distance.zeros();
        (zeros < 256).then(|| zeros - (256 - self.bits()))
    }

    /// A place in a bucket of `from`, drawn.
    #[must_use]
    pub fn draw_in(self, from: &Address, bucket: usize, rng: &mut Rng) -> Address {
        let mut place = [0; 32];
        rng.fill(&mut place);
        let first = 256 - self.bits() + bucket;
        for bit in 0..=first.min(255) {
            let mask = 0x80 >> (bit % 8);
            let is_same = bit < first;
            let wanted = if is_same { from.0[bit / 8] } else { !from.0[bit / 8] };
            place[bit / 8] = place[bit / 8] & !mask | wanted & mask;
        }
        Address(place)
    }
}

impl Distance {
    /// Leading zero bits of 256.
    fn zeros(&self) -> usize {
        let at = self.0.iter().position(|byte| *byte != 0);
        at.map_or(256, |at| 8 * at + self.0[at].leading_zeros() as usize)
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    proptest! {
        /// XOR mod 2^τ, as a number: the low bytes alone.
        /// spec: p2p/distance
        #[test]
        fn the_high_bits_do_not_count(one: [u8; 32], other: [u8; 32], bytes in 1_u32..=32) {
            let space = Space::new(8 * bytes);
            let distance = space.distance(&Address(one), &Address(other));
            prop_assert_eq!(distance, space.distance(&Address(other), &Address(one)));
            let mut same_end = [0; 32];
            let cut = 32 - bytes as usize;
            same_end[cut..].copy_from_slice(&other[cut..]);
            prop_assert_eq!(distance, space.distance(&Address(one), &Address(same_end)));
            prop_assert_eq!(space.distance(&Address(one), &Address(one)), Distance([0; 32]));
        }

        /// spec: p2p/distance
        #[test]
        fn a_drawn_place_lies_in_its_bucket(from: [u8; 32], seed: u64, bytes in 1_u32..=32, at: u32) {
            let space = Space::new(8 * bytes);
            let bucket = at as usize % space.bits();
            let place = space.draw_in(&Address(from), bucket, &mut Rng::from_number(seed));
            prop_assert_eq!(space.bucket(&space.distance(&Address(from), &place)), Some(bucket));
        }
    }

    #[test]
    fn the_far_half_is_the_first_bucket() {
        let space = Space::new(256);
        let mut place = [0; 32];
        assert_eq!(space.bucket(&space.distance(&Address(place), &Address(place))), None);
        place[31] = 1;
        assert_eq!(space.bucket(&space.distance(&Address([0; 32]), &Address(place))), Some(255));
        place[0] = 0x80;
        assert_eq!(space.bucket(&space.distance(&Address([0; 32]), &Address(place))), Some(0));
    }
}
