//! The inception record: what `dunlin key new` signs, so that a thief of the key cannot rotate it later (T21).
//!
//! In:    a new identity and the public key that will follow it.
//! Out:   147 bytes: label 19, key 32, SHA-256(next key) 32, signature 64 over all before it.
//! Holds: one key has one inception; whoever sees two of them freezes the chain.

use dunlin_codec::ids::NodeId;
use dunlin_codec::label;
use sha2::{Digest, Sha256};

use super::{Identity, SIGNATURE_LEN, verify};

/// What is being signed.
const LABEL: &[u8; 19] = label::INCEPTION;

mod at {
    pub(super) const KEY: usize = super::LABEL.len();
    pub(super) const NEXT: usize = KEY + 32;
    pub(super) const SIGNATURE: usize = NEXT + 32;
}

/// Bytes of an inception record.
pub const INCEPTION_LEN: usize = at::SIGNATURE + SIGNATURE_LEN;

/// A record whose signature was checked.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Inception {
    /// The key that begins here.
    pub key: NodeId,
    /// SHA-256 of the key that may follow it.
    pub next_hash: [u8; 32],
}

/// Bytes that are no inception record. Their maker's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadInception {
    /// Wrong length or label.
    #[error("this is not an inception record")]
    Layout,
    /// The key that it names did not sign it.
    #[error("the inception record's signature does not hold")]
    Signature,
}

/// The record of a new key.
/// spec: p2p/change-key
#[must_use]
pub fn write(identity: &Identity, next: &NodeId) -> [u8; INCEPTION_LEN] {
    let mut record = [0; INCEPTION_LEN];
    record[..at::KEY].copy_from_slice(LABEL);
    record[at::KEY..at::NEXT].copy_from_slice(&identity.id().0);
    record[at::NEXT..at::SIGNATURE].copy_from_slice(&commitment(next));
    let signature = identity.sign(&record[..at::SIGNATURE]);
    record[at::SIGNATURE..].copy_from_slice(&signature);
    record
}

/// What a record says, once its signature holds.
///
/// # Errors
/// `BadInception`: layout or signature.
pub fn read(bytes: &[u8]) -> Result<Inception, BadInception> {
    let record: &[u8; INCEPTION_LEN] = bytes.try_into().map_err(|_| BadInception::Layout)?;
    let (signed, signature) = record.split_last_chunk::<SIGNATURE_LEN>().ok_or(BadInception::Layout)?;
    let rest = signed.strip_prefix(LABEL).ok_or(BadInception::Layout)?;
    let (key, next) = rest.split_first_chunk::<32>().ok_or(BadInception::Layout)?;
    let next_hash = next.try_into().map_err(|_| BadInception::Layout)?;
    let key = NodeId(*key);
    verify(&key, signed, signature).map_err(|_| BadInception::Signature)?;
    Ok(Inception { key, next_hash })
}

impl Inception {
    /// Whether `next` is the key that was announced.
    #[must_use]
    pub fn names(&self, next: &NodeId) -> bool {
        self.next_hash == commitment(next)
    }
}

/// What a key commits to: SHA-256 of the one that may follow it.
#[must_use]
pub fn commitment(next: &NodeId) -> [u8; 32] {
    Sha256::digest(next.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: p2p/change-key
    #[test]
    fn an_inception_names_its_key_and_the_next() {
        let (key, next) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let record = write(&key, &next.id());
        let inception = read(&record).unwrap();
        assert!(inception.key == key.id());
        assert!(inception.names(&next.id()));
        assert!(!inception.names(&key.id()));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let record = write(&Identity::from_seed([1; 32]), &Identity::from_seed([2; 32]).id());
        for at in 0..INCEPTION_LEN {
            let mut changed = record;
            changed[at] ^= 0x10;
            let expected = if at < at::KEY { BadInception::Layout } else { BadInception::Signature };
            assert_eq!(read(&changed).err(), Some(expected), "byte {at}");
        }
        assert_eq!(read(&record[1..]).err(), Some(BadInception::Layout));
        assert_eq!(read(&[&record[..], &[0]].concat()).err(), Some(BadInception::Layout));
    }
}
