//! The only source of randomness: the operating system's, asked anew for every key.
//!
//! In:    a buffer.
//! Out:   the same, filled by getrandom(2).
//! Holds: nothing is kept: a snapshot of the machine or a fork finds no randomness here that another has too
//!        (limits.md, T27).

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl OsEntropy {
    /// Fills the buffer with bytes nobody can guess. One system call, about 0.4 us for 32 bytes.
    ///
    /// # Panics
    ///
    /// When the kernel has no randomness to give, which no supported kernel does once it has booted. There is nothing
    /// safe to go on with.
    pub fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("Linux gives randomness once it has booted");
    }

    /// So many bytes.
    ///
    /// # Panics
    ///
    /// As [`fill`](Self::fill).
    #[must_use]
    pub fn array<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

impl dunlin_shards::rng::Entropy for OsEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        Self::fill(self, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_alike() {
        assert_ne!(OsEntropy.array::<32>(), OsEntropy.array::<32>());
    }
}
