//! Checking: what a record says holds for its key, its value, its time, and was signed by those who may.
//!
//! In:    records and values as they came.
//! Out:   whether they count.
//! Holds: whoever keeps or reads a value asks here, by the same rules (T11).
//!
//! What is written by an owner's leave lasts no longer than the leave: else a writer whose leave has ended could go on
//! writing with a clock that is behind.
//!
//! spec: p2p/value-record

use dunlin_codec::ids::{Address, NodeId};
use dunlin_codec::label::Network;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{Grant, Key, NOBODY, ValueRecord};
use sha2::{Digest, Sha256};

use crate::dht::space::Space;
use crate::identity::chain::Kin;
use crate::identity::verify;
use crate::limits::{VALUE_RECORD_LIFE_MAX, VALUE_RECORD_SKEW};
use crate::time::WallMillis;

/// Why a record does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadRecord {
    /// It is another value's.
    #[error("the record is another value's")]
    Hash,
    /// Its time is over.
    #[error("the record's time is over")]
    Expired,
    /// It comes from the future, or lasts longer than any may.
    #[error("the record comes from the future, or lasts too long")]
    Time,
    /// Its writer did not sign it.
    #[error("the record's signature does not hold")]
    Signature,
    /// Its owner did not give its writer leave, or for less long.
    #[error("the owner has not given leave")]
    Grant,
}

/// By what a record is judged: the network, which is part of all that is signed, and which keys are one holder's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) network: &'a Network,
    pub(super) kin: &'a Kin,
}

impl Rules<'_> {
    /// Whether two owners are one: whoever changed its key owns what it owned before.
    // spec: p2p/owner-follows
    pub(super) fn is_same(&self, one: &NodeId, other: &NodeId) -> bool {
        self.kin.is_same(one, other)
    }
}

/// Where a key lives: all bits of SHA-256; a network may look at fewer.
#[must_use]
pub fn address(key: &Key<'_>) -> Address {
    Address(Sha256::digest(key.address_input()).into())
}

/// SHA-256 of a value's bytes; of nil where there is none.
#[must_use]
pub fn value_hash(value: Encoded<'_>) -> [u8; 32] {
    Sha256::digest(value.bytes()).into()
}

/// Whether the address is the key's, as far as the network looks.
pub(super) fn is_address_of(space: Space, said: &Address, key: &Key<'_>) -> bool {
    space.bucket(&space.distance(said, &address(key))).is_none()
}

const fn millis(duration: core::time::Duration) -> u64 {
    duration.as_millis() as u64
}

/// Whether the record counts now.
pub(super) fn check_time(record: &ValueRecord<'_>, now: WallMillis) -> Result<(), BadRecord> {
    let skewed = now.0.saturating_add(millis(VALUE_RECORD_SKEW));
    let fields = &record.fields;
    if fields.expiry_ms <= now.0 {
        Err(BadRecord::Expired)
    } else if fields.time_ms > skewed
        || fields.expiry_ms > skewed.saturating_add(millis(VALUE_RECORD_LIFE_MAX))
    {
        Err(BadRecord::Time)
    } else {
        Ok(())
    }
}

/// Whether the record is the value's and signed by those who may. Some 30 us, twice that with a grant.
pub(super) fn check_signed(
    record: &ValueRecord<'_>,
    value: Encoded<'_>,
    network: &Network,
) -> Result<(), BadRecord> {
    let fields = &record.fields;
    if *fields.value_hash != value_hash(value) {
        return Err(BadRecord::Hash);
    }
    if let Some(grant) = &record.grant {
        let is_long_enough = fields.expiry_ms <= grant.until_ms;
        if !is_long_enough || check_grant(grant, &fields.owner, network).is_err() {
            return Err(BadRecord::Grant);
        }
    }
    let signed = record.signing_input(network).concat();
    verify(&fields.writer, &signed, record.signature()).map_err(|_| BadRecord::Signature)
}

/// Whether the owner has signed a grant. Its time is looked at elsewhere.
pub(super) fn check_grant(grant: &Grant<'_>, owner: &NodeId, network: &Network) -> Result<(), BadRecord> {
    if *owner == NOBODY {
        return Err(BadRecord::Grant);
    }
    let signed = grant.signing_input(network, &mut [0; 8]).concat();
    verify(owner, &signed, grant.signature).map_err(|_| BadRecord::Grant)
}
