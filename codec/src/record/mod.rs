//! Records: what a key has signed once and for all, kept, handed on and returned byte for byte.
//!
//! In:    bytes nobody has vouched for; fields and a signature to write.
//! Out:   [`NodeRecord`], [`ValueRecord`], [`Grant`], [`KeyChange`], [`Inception`], borrowed from the bytes; what is signed,
//!        in slices.
//! Holds: a record is taken whole, and its accessors cannot fail. Nobody has verified a signature here.
//!
//! We lay records out in plain bytes: they have one encoding, so that two nodes never hold two forms of one record. What
//! is signed is label, network (but for a key's own history), then the record without its signatures.

mod key;
mod key_change;
mod node;
mod value;

pub use key::{KEY_LEN_MAX, Key};
pub use key_change::{INCEPTION_LEN, Inception, KEY_CHANGE_LEN, KeyChange};
pub use node::{Chain, ENDPOINTS_MAX, Endpoints, NODE_RECORD_LEN_MAX, NodeFields, NodeRecord};
pub use value::{Grant, NOBODY, VALUE_RECORD_LEN_MAX, ValueFields, ValueRecord};

use crate::error::WireError;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// Puts the signature into a record that was just written: it is the last field of each.
///
/// # Errors
/// [`WireError::Truncated`]: there is no room for one, so this is no record.
pub fn set_signature(record: &mut [u8], signature: &[u8; SIGNATURE_LEN]) -> Result<(), WireError> {
    *record.last_chunk_mut().ok_or(WireError::Truncated)? = *signature;
    Ok(())
}

#[cfg(test)]
mod tests;
