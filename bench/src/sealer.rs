//! Datagrams sealed by themselves, as a session's packets are: the limit of whatever encrypts.
//!
//! In:    datagrams with room for a header and a tag.
//! Out:   the same, sealed or opened in place.
//! Holds: no number is used twice by one sealer; the key is fixed and known, as nothing here is a secret.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Bytes in front of each sealed datagram: the packet's number, which is its nonce and associated data.
const HEADER_LEN: usize = 8;
/// Bytes behind it.
const TAG_LEN: usize = 16;

/// AES-256-GCM under a key that both ends know.
pub struct Sealer {
    key: LessSafeKey,
    number: u64,
}

impl Default for Sealer {
    fn default() -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("the key has 32 bytes");
        Self { key: LessSafeKey::new(key), number: 0 }
    }
}

impl Sealer {
    fn nonce(header: &[u8; HEADER_LEN]) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - HEADER_LEN..].copy_from_slice(header);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a datagram in place, its number in front, its tag behind.
    ///
    /// # Panics
    /// When the datagram has no room for both.
    pub fn seal(&mut self, datagram: &mut [u8]) {
        let (head, body) = datagram.split_first_chunk_mut().expect("a datagram has room for a header");
        *head = self.number.to_be_bytes();
        self.number += 1;
        let (body, tag) = body.split_at_mut(body.len() - TAG_LEN);
        let made = self.key.seal_in_place_separate_tag(Self::nonce(head), Aad::from(&*head), body);
        tag.copy_from_slice(made.expect("the datagram is short").as_ref());
    }

    /// Opens a datagram in place; whether its tag held.
    #[must_use]
    pub fn open(&self, datagram: &mut [u8]) -> bool {
        let Some((head, body)) = datagram.split_first_chunk_mut() else { return false };
        self.key.open_in_place(Self::nonce(head), Aad::from(&*head), body).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let mut sealer = Sealer::default();
        for len in [HEADER_LEN + TAG_LEN, 1_200] {
            let mut datagram = vec![5; len];
            sealer.seal(&mut datagram);
            let mut forged = datagram.clone();
            forged[len - 1] ^= 1;
            assert!(sealer.open(&mut datagram) && !sealer.open(&mut forged));
        }
        assert!(!sealer.open(&mut [0; 4]));
    }
}
