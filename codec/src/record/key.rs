//! A value's key: a str, a bin, or the pair of a group and a name within it.
//!
//! In:    a checked msgpack value.
//! Out:   [`Key`] with its bytes, its group, and what is hashed for its address.
//! Holds: one key has one form: only the shortest encoding is a key.
//!
//! The address is SHA-256 over the key's msgpack bytes, for a pair over those of the group alone: all names of a group
//! live on the same nodes. We hash the encoding, so that a str and a bin of the same bytes are two keys everywhere.
//!
//! spec: p2p/key

use core::fmt;

use crate::bytes::Writer;
use crate::msgpack::{Encoded, MsgpackError, Value, write};

/// Bytes of a key in msgpack at most.
pub const KEY_LEN_MAX: usize = 1_024;

/// A value's key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key<'a> {
    encoded: Encoded<'a>,
}

fn is_name(value: Encoded<'_>) -> bool {
    matches!(value.value(), Value::Str(_) | Value::Bin(_))
}

impl<'a> Key<'a> {
    /// The key that a value is; none when it is no key.
    #[must_use]
    pub fn new(encoded: Encoded<'a>) -> Option<Self> {
        let mut room = [0; KEY_LEN_MAX];
        let mut out = Writer::new(&mut room);
        // What does not fit in the shortest encoding is too long in any.
        write::shortest(&mut out, encoded).ok()?;
        let is_shape = match encoded.value() {
            Value::Array(pair) => pair.exactly::<2>().is_some_and(|pair| pair.into_iter().all(is_name)),
            _ => is_name(encoded),
        };
        (is_shape && out.written() == encoded.bytes()).then_some(Self { encoded })
    }

    /// The key that bytes are.
    ///
    /// # Errors
    /// `None` within `Ok`: a value, but no key. [`MsgpackError`]: no value.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Self>, MsgpackError> {
        Encoded::parse(bytes).map(Self::new)
    }

    /// Its bytes in msgpack, at most [`KEY_LEN_MAX`].
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.encoded.bytes()
    }

    /// The key as a value.
    #[must_use]
    pub const fn encoded(&self) -> Encoded<'a> {
        self.encoded
    }

    /// The group that it is in.
    #[must_use]
    pub fn group(&self) -> Option<Encoded<'a>> {
        let [group, _] = self.encoded.as_array()?.exactly()?;
        Some(group)
    }

    /// Its name within its group.
    #[must_use]
    pub fn name(&self) -> Option<Encoded<'a>> {
        let [_, name] = self.encoded.as_array()?.exactly()?;
        Some(name)
    }

    /// What SHA-256 makes the address of.
    #[must_use]
    pub fn address_input(&self) -> &'a [u8] {
        self.group().unwrap_or(self.encoded).bytes()
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.encoded.fmt(f)
    }
}
