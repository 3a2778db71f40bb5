//! SipHash-1-3 with a key of our own: for tables that peers reach with bytes they chose (T25).
//!
//! In:    a 128-bit key drawn at start, bytes.
//! Out:   64 bits that nobody without the key can predict.
//! Holds: the same key and bytes give the same hash on every machine.

/// A key for seeded hashing.
#[derive(Clone, Copy)]
pub struct SipKey(u64, u64);

impl SipKey {
    /// A key of 16 random bytes.
    #[must_use]
    pub const fn new(seed: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(seed);
        Self(both as u64, (both >> 64) as u64)
    }

    /// The hash of `bytes`.
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut state = State([
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ]);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            state.absorb(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = bytes.len() as u8;
        state.absorb(u64::from_le_bytes(last));
        state.finish()
    }
}

struct State([u64; 4]);

impl State {
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher;

    use super::*;

    /// The standard library's hasher is SipHash-1-3 with a zero key.
    #[test]
    fn it_is_siphash_1_3() {
        let bytes: Vec<u8> = (0..64).collect();
        for len in 0..bytes.len() {
            let mut other = std::hash::DefaultHasher::new();
            other.write(&bytes[..len]);
            assert_eq!(SipKey::new([0; 16]).hash(&bytes[..len]), other.finish(), "{len} bytes");
        }
    }

    #[test]
    fn another_key_gives_another_hash() {
        assert_ne!(SipKey::new([1; 16]).hash(b"peer"), SipKey::new([2; 16]).hash(b"peer"));
    }
}
