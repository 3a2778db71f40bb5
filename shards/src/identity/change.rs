//! A signed change of key: made once by whoever has both keys, kept beside them, told to everybody (T21).
//!
//! In:    the current and the new key, the key after that; a change as it came.
//! Out:   [`SignedChange`], its bytes and its payload.
//! Holds: what was read was not verified, unless it says so.
//!
//! spec: p2p/change-key

use core::fmt;
use core::time::Duration;

use dunlin_codec::args::{ChangeKey, Request};
use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::NodeId;
use dunlin_codec::record::{Chain, INCEPTION_LEN, KEY_CHANGE_LEN, KeyChange};

use super::inception::commitment;
use super::{BadSignature, Identity, SIGNATURE_LEN, verify};
use crate::limits::KEY_CHANGE_LIFE;
use crate::time::{Instant, Now, WallMillis};

/// Bytes of a change with both signatures: the change, the current key's, the new key's.
pub const SIGNED_CHANGE_LEN: usize = KEY_CHANGE_LEN + 2 * SIGNATURE_LEN;

/// A payload is a little longer: three times the head of a bin, once that of an array.
const PAYLOAD_LEN_MAX: usize = SIGNED_CHANGE_LEN + 16;

/// A change of key with both signatures.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct SignedChange {
    /// What is changed.
    pub change: KeyChange,
    by_current: [u8; SIGNATURE_LEN],
    by_new: [u8; SIGNATURE_LEN],
}

impl SignedChange {
    /// Makes one. `next` may follow the new key; `index` is one more than the last, `time_ms` in unix time.
    #[must_use]
    pub fn sign((current, new): (&Identity, &Identity), next: &NodeId, (index, time_ms): (u16, u64)) -> Self {
        let change =
            KeyChange { current: current.id(), new: new.id(), index, time_ms, next_hash: commitment(next) };
        let signed = signed_bytes(&change);
        Self { change, by_current: current.sign(&signed), by_new: new.sign(&signed) }
    }

    /// As somebody told it.
    #[must_use]
    pub const fn told(told: &ChangeKey<'_>) -> Self {
        Self { change: told.change, by_current: *told.by_current, by_new: *told.by_new }
    }

    /// As it was kept; none: these bytes are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SIGNED_CHANGE_LEN]) -> Option<Self> {
        let (change, signatures) = bytes.split_first_chunk::<KEY_CHANGE_LEN>()?;
        let (by_current, by_new) = signatures.split_first_chunk()?;
        let change = KeyChange::parse(change).ok()?;
        Some(Self { change, by_current: *by_current, by_new: by_new.try_into().ok()? })
    }

    /// All of it, to be kept.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SIGNED_CHANGE_LEN] {
        let mut bytes = [0; SIGNED_CHANGE_LEN];
        bytes[..KEY_CHANGE_LEN].copy_from_slice(&self.change.to_bytes());
        bytes[KEY_CHANGE_LEN..][..SIGNATURE_LEN].copy_from_slice(&self.by_current);
        bytes[KEY_CHANGE_LEN + SIGNATURE_LEN..].copy_from_slice(&self.by_new);
        bytes
    }

    /// The payload of CHANGE_KEY.
    ///
    /// # Panics
    /// Never: the room is as large as a payload.
    #[must_use]
    pub fn payload(&self) -> Box<[u8]> {
        let told = ChangeKey { change: self.change, by_current: &self.by_current, by_new: &self.by_new };
        let mut room = [0; PAYLOAD_LEN_MAX];
        let mut out = Writer::new(&mut room);
        Request::ChangeKey(told).write(&mut out).expect("the room is as large as a payload");
        out.written().into()
    }

    /// Checks both signatures. Some 60 us.
    ///
    /// # Errors
    /// `BadSignature`: it must be treated as if it had never come.
    pub fn verify(&self) -> Result<(), BadSignature> {
        let signed = signed_bytes(&self.change);
        verify(&self.change.current, &signed, &self.by_current)?;
        verify(&self.change.new, &signed, &self.by_new)
    }

    /// Until when whoever made it answers for the key before: Hellos to it, and letters.
    #[must_use]
    pub fn answered_until(&self, now: Now) -> Instant {
        let life = u64::try_from(KEY_CHANGE_LIFE.as_millis()).unwrap_or(u64::MAX);
        let until = self.change.time_ms.saturating_add(life);
        // The change was made just now, by this node's own clock: should that be wrong, a day is a day.
        now.instant + Duration::from_millis(until.saturating_sub(now.wall.0)).min(KEY_CHANGE_LIFE)
    }
}

/// The key that a running node has from now on, and the change that brings it in.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The key.
    pub identity: Identity,
    /// The change, from the key that the node had.
    pub change: SignedChange,
}

/// Where a node's own key comes from, as its files have it.
#[derive(Clone, Debug, Default)]
pub enum Past {
    /// Nothing was announced: the key cannot be changed.
    #[default]
    Unknown,
    /// It is the first: SHA-256 of the next key, and the inception's signature.
    First {
        /// SHA-256 of the key that may follow.
        next_hash: [u8; 32],
        /// The inception's signature.
        signature: [u8; SIGNATURE_LEN],
    },
    /// It follows another.
    Changed(Box<SignedChange>),
}

impl Past {
    /// A key that follows nobody, by its inception; its signature was checked when that was read.
    #[must_use]
    pub fn first(inception: &[u8; INCEPTION_LEN]) -> Self {
        let (rest, signature) = inception.split_last_chunk().expect("an inception ends with its signature");
        let next_hash = rest.last_chunk().expect("the next key's hash stands before it");
        Self::First { next_hash: *next_hash, signature: *signature }
    }

    /// What the node's record says of it.
    #[must_use]
    pub fn chain(&self) -> Chain<'_> {
        match self {
            Self::Unknown => Chain::Unknown,
            Self::First { next_hash, signature } => Chain::Inception { next_hash, signature },
            Self::Changed(signed) => {
                // No chain is longer than 64.
                let index = u8::try_from(signed.change.index).unwrap_or(u8::MAX);
                Chain::Successor { previous: signed.change.current, index }
            }
        }
    }

    /// The change, and until when it is told to whoever comes.
    #[must_use]
    pub fn told(&self) -> Option<(&SignedChange, WallMillis)> {
        let Self::Changed(signed) = self else { return None };
        let life = KEY_CHANGE_LIFE.as_millis() as u64;
        Some((signed, WallMillis(signed.change.time_ms.saturating_add(life))))
    }
}

impl fmt::Debug for SignedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.change)
    }
}

fn signed_bytes(change: &KeyChange) -> Vec<u8> {
    KeyChange::signing_input(&change.to_bytes()).concat()
}

#[cfg(test)]
mod tests {
    use dunlin_codec::message::Operation;

    use super::*;

    fn key(byte: u8) -> Identity {
        Identity::from_seed([byte; 32])
    }

    /// spec: p2p/change-key
    #[test]
    fn a_change_needs_both_keys() {
        let signed = SignedChange::sign((&key(1), &key(2)), &key(3).id(), (2, 5));
        assert_eq!(signed.verify(), Ok(()));
        for at in 0..SIGNED_CHANGE_LEN {
            let mut bytes = signed.to_bytes();
            bytes[at] ^= 1;
            assert_eq!(SignedChange::from_bytes(&bytes).map(|other| other.verify()), Some(Err(BadSignature)));
        }
    }

    #[test]
    fn a_change_comes_back_from_its_bytes_and_its_payload() {
        let signed = SignedChange::sign((&key(1), &key(2)), &key(3).id(), (2, 5));
        assert_eq!(SignedChange::from_bytes(&signed.to_bytes()), Some(signed));
        let payload = signed.payload();
        let Ok(Request::ChangeKey(told)) = Request::parse(Operation::ChangeKey, &payload) else {
            panic!("this is a payload");
        };
        assert_eq!(SignedChange::told(&told), signed);
    }
}
