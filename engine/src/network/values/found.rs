//! What is known of a key: its value, and what was signed with it.

use dunlin_codec::args::LeaseRow;
use dunlin_codec::ids::NodeId;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{NOBODY, ValueRecord};
use dunlin_shards::dht::values::{Cell, value_hash};

use super::Version;

/// A value as it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its key, in msgpack.
    pub key: Box<[u8]>,
    /// It, in msgpack; nil: it was deleted, or never there.
    pub value: Box<[u8]>,
    /// SHA-256 of the value's bytes.
    pub value_hash: [u8; 32],
    /// How often it was written; 0: nobody has signed it.
    pub sequence: u64,
    /// Whose key it is; none: nobody's.
    pub owner: Option<NodeId>,
    /// Who wrote it.
    pub writer: Option<NodeId>,
    /// When: unix time in milliseconds.
    pub written_ms: u64,
    /// When it ends: unix time in milliseconds.
    pub expires_ms: u64,
    /// The fencing token of the lease that it was written under; 0: none.
    pub token: u64,
    /// Its last lease, which may have ended or been given back (its end is 0 then).
    pub lease: Option<LeaseRow>,
    /// Holders that say the same; none: it was decided, and more than half do.
    pub holders: Option<usize>,
}

impl Found {
    pub(super) fn of(key: &[u8], cell: &Cell, holders: Option<usize>) -> Self {
        let hash = value_hash(cell.value());
        let found = Self::unsigned(key, (cell.value.clone(), hash));
        let found = Self { lease: cell.lease, holders, ..found };
        match cell.record() {
            Some(record) => found.signed(&record),
            None => found,
        }
    }

    /// What a record says of a value that nobody told.
    pub(super) fn of_record(key: &[u8], record: &[u8]) -> Option<Self> {
        let record = ValueRecord::parse(record).ok()?;
        let value = (Encoded::NIL.bytes().into(), *record.fields.value_hash);
        Some(Self::unsigned(key, value).signed(&record))
    }

    fn unsigned(key: &[u8], (value, value_hash): (Box<[u8]>, [u8; 32])) -> Self {
        Self {
            key: key.into(),
            value,
            value_hash,
            sequence: 0,
            owner: None,
            writer: None,
            written_ms: 0,
            expires_ms: 0,
            token: 0,
            lease: None,
            holders: None,
        }
    }

    fn signed(self, record: &ValueRecord<'_>) -> Self {
        let fields = &record.fields;
        Self {
            value_hash: *fields.value_hash,
            sequence: fields.sequence,
            owner: Some(fields.owner).filter(|owner| *owner != NOBODY),
            writer: Some(fields.writer),
            written_ms: fields.time_ms,
            expires_ms: fields.expiry_ms,
            token: fields.token,
            ..self
        }
    }

    /// What a condition has to name for it to hold while this is there.
    #[must_use]
    pub const fn version(&self) -> Version {
        Version { sequence: self.sequence, value_hash: self.value_hash }
    }

    /// There is no value any more.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        *self.value == *Encoded::NIL.bytes()
    }
}
