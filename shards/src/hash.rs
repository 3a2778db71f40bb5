//! The hash for everything reached by bytes that a peer chose: SipHash-1-3 under a key of our own (T25).
//!
//! Holds: the same key gives the same hash on every machine; nobody outside knows the key.

use core::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// A hash key, drawn at start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HashKey(pub [u64; 2]);

impl BuildHasher for HashKey {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0], self.0[1])
    }
}
