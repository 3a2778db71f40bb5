//! A value's record: which value a key has, said by its writer, and by whose leave.
//!
//! In:    bytes; fields to write.
//! Out:   [`ValueRecord`], [`Grant`]; bytes without the signature.
//! Holds: a grant is there exactly when another than the owner writes an owned key. Nobody has verified it.
//!
//! | bytes | field |
//! |---|---|
//! | 2 | length of the key |
//! | … | key, msgpack in its shortest encoding |
//! | 32 | owner; all zero: the key is nobody's |
//! | 8 | sequence: a higher one replaces a lower one |
//! | 8 | origin time, unix ms |
//! | 8 | expiry, unix ms |
//! | 32 | SHA-256 of the value's msgpack bytes |
//! | 32 | writer |
//! | 8 | fencing token of the lease it was written under; 0: none |
//! | 72 | only when an owned key is written by another: until, unix ms 8, the owner's signature 64 |
//! | 64 | signature of the writer |
//!
//! The owner signs a grant as [label, network, key, writer, until]; whoever holds it may write until then.
//!
//! spec: p2p/value-record

use core::fmt;

use super::{KEY_LEN_MAX, Key, SIGNATURE_LEN};
use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};
use crate::ids::NodeId;
use crate::label::{self, Network};
use crate::msgpack::write;

/// The owner of a key that is nobody's.
pub const NOBODY: NodeId = NodeId([0; 32]);

const FIXED_LEN: usize = 2 + 32 + 3 * 8 + 32 + 32 + 8 + SIGNATURE_LEN;
const GRANT_LEN: usize = 8 + SIGNATURE_LEN;

/// Bytes of a record at most.
pub const VALUE_RECORD_LEN_MAX: usize = FIXED_LEN + GRANT_LEN + KEY_LEN_MAX;

/// What a record is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ValueFields<'a> {
    /// The key.
    pub key: Key<'a>,
    /// Whose key it is, or [`NOBODY`]'s.
    pub owner: NodeId,
    /// A higher sequence replaces a lower one.
    pub sequence: u64,
    /// When it was written: unix time in milliseconds.
    pub time_ms: u64,
    /// When it ends: unix time in milliseconds.
    pub expiry_ms: u64,
    /// SHA-256 of the value's bytes.
    pub value_hash: &'a [u8; 32],
    /// Who wrote and signed it.
    pub writer: NodeId,
    /// The fencing token of the lease that it was written under; 0: none.
    pub token: u64,
}

/// An owner's leave: `writer` may write `key` until then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grant<'a> {
    /// The key.
    pub key: Key<'a>,
    /// Who may write it.
    pub writer: NodeId,
    /// When the leave ends: unix time in milliseconds.
    pub until_ms: u64,
    /// The owner's signature.
    pub signature: &'a [u8; SIGNATURE_LEN],
}

impl Grant<'_> {
    /// What the owner signs, one slice behind the other; `until` is room for a number.
    #[must_use]
    pub fn signing_input<'b>(&'b self, network: &'b Network, until: &'b mut [u8; 8]) -> [&'b [u8]; 5] {
        *until = self.until_ms.to_be_bytes();
        [label::GRANT, &network.0, self.key.bytes(), &self.writer.0, until]
    }
}

impl ValueFields<'_> {
    /// Whether it needs a grant: an owned key, written by another.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.owner != NOBODY && self.owner != self.writer
    }

    /// Writes the record with zeros for its signature; [`super::set_signature`] fills them in. `grant` is the owner's
    /// leave: its end and its signature.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When a grant is there that is not needed, or is needed and not there.
    pub fn write(
        &self,
        out: &mut Writer<'_>,
        grant: Option<(u64, &[u8; SIGNATURE_LEN])>,
    ) -> Result<(), NoRoom> {
        assert_eq!(self.is_granted(), grant.is_some(), "a grant exactly when another writes an owned key");
        write::whole(out, |out| {
            out.u16(self.key.bytes().len() as u16)?;
            out.put(self.key.bytes())?;
            out.put(&self.owner.0)?;
            out.u64(self.sequence)?;
            out.u64(self.time_ms)?;
            out.u64(self.expiry_ms)?;
            out.put(self.value_hash)?;
            out.put(&self.writer.0)?;
            out.u64(self.token)?;
            if let Some((until_ms, signature)) = grant {
                out.u64(until_ms)?;
                out.put(signature)?;
            }
            out.zeros(SIGNATURE_LEN)
        })
    }
}

/// A value's record, borrowed from its bytes. Nobody has verified it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ValueRecord<'a> {
    /// What it says.
    pub fields: ValueFields<'a>,
    /// By whose leave it was written, when the writer is not the owner.
    pub grant: Option<Grant<'a>>,
    bytes: &'a [u8],
    signature: &'a [u8; SIGNATURE_LEN],
}

impl<'a> ValueRecord<'a> {
    /// Takes exactly one record.
    ///
    /// # Errors
    /// [`WireError`]: cut short, bytes left over, a key that is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let key_len = usize::from(reader.u16()?);
        let key = Key::parse(reader.take(key_len)?);
        let key = key.ok().flatten().ok_or(WireError::OutOfRange)?;
        let fields = ValueFields {
            key,
            owner: NodeId(*reader.array()?),
            sequence: reader.u64()?,
            time_ms: reader.u64()?,
            expiry_ms: reader.u64()?,
            value_hash: reader.array()?,
            writer: NodeId(*reader.array()?),
            token: reader.u64()?,
        };
        let grant = if fields.is_granted() {
            let (until_ms, signature) = (reader.u64()?, reader.array()?);
            Some(Grant { key, writer: fields.writer, until_ms, signature })
        } else {
            None
        };
        let signature = reader.array()?;
        reader.finish()?;
        Ok(Self { fields, grant, bytes, signature })
    }

    /// All its bytes, to be kept and handed on.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The signature of the writer.
    #[must_use]
    pub const fn signature(&self) -> &'a [u8; SIGNATURE_LEN] {
        self.signature
    }

    /// What the writer signs, one slice behind the other.
    #[must_use]
    pub fn signing_input<'b>(&'b self, network: &'b Network) -> [&'b [u8]; 3] {
        [label::VALUE_RECORD, &network.0, &self.bytes[..self.bytes.len() - SIGNATURE_LEN]]
    }
}

impl fmt::Display for ValueRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = &self.fields;
        write!(f, "value {} sequence {} time {}", fields.key, fields.sequence, fields.time_ms)?;
        write!(f, " expiry {} sha256 ", fields.expiry_ms)?;
        fields.value_hash[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        if fields.owner == NOBODY {
            f.write_str(" owner nobody")?
        } else {
            write!(f, " owner {}", fields.owner)?
        }
        write!(f, " writer {} token {}", fields.writer, fields.token)?;
        self.grant.map_or(Ok(()), |grant| write!(f, " granted until {}", grant.until_ms))
    }
}
