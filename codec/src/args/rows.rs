//! What is said about a value besides the value: its metadata, leases, ballots.
//!
//! | row | elements |
//! |---|---|
//! | metadata | [value record, bin or nil; lease row or nil] |
//! | lease row | [holder 32, until in unix ms, token] |
//! | ballot | [counter, proposer 32] |
//! | expected | [sequence, SHA-256 of the current value 32] |
//!
//! In:    checked values.
//! Out:   rows.
//! Holds: rows have exactly the elements named. We write nil for a record or a row that is not there.

use core::fmt;

use super::{Result, bin, bytes, list, optional, or_nil, unsigned};
use crate::bytes::Writer;
use crate::error::NoRoom;
use crate::ids::NodeId;
use crate::msgpack::{Encoded, write};
use crate::record::ValueRecord;

/// Who holds a key, as the storer sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaseRow {
    /// The holder.
    pub holder: NodeId,
    /// When it ends: unix time in milliseconds.
    pub until_ms: u64,
    /// Its fencing token.
    pub token: u64,
}

/// What is known of a value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Metadata<'a> {
    /// Its record; none: nobody signed it.
    pub record: Option<ValueRecord<'a>>,
    /// Its lease; none: nobody holds it.
    pub lease: Option<LeaseRow>,
}

/// A place in the order of all proposals for a key. The counter decides, then the proposer's key.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ballot {
    /// Counts up.
    pub counter: u64,
    /// Who proposes.
    pub proposer: NodeId,
}

/// What a compare-and-set expects to find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expected<'a> {
    /// The current sequence.
    pub sequence: u64,
    /// SHA-256 of the current value's bytes.
    pub value_hash: &'a [u8; 32],
}

impl LeaseRow {
    pub(super) fn parse(value: Encoded<'_>) -> Result<Self> {
        let [holder, until, token] = list(value)?;
        Ok(Self { holder: NodeId(*bytes(holder)?), until_ms: unsigned(until)?, token: unsigned(token)? })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 3)?;
        write::bin(out, &self.holder.0)?;
        write::unsigned(out, self.until_ms)?;
        write::unsigned(out, self.token)
    }
}

impl<'a> Metadata<'a> {
    pub(super) fn parse(value: Encoded<'a>) -> Result<Self> {
        let [record, lease] = list(value)?;
        let record = optional(record, |record| Ok(ValueRecord::parse(bin(record)?)?))?;
        Ok(Self { record, lease: optional(lease, LeaseRow::parse)? })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 2)?;
        or_nil(out, self.record, |out, record| write::bin(out, record.bytes()))?;
        or_nil(out, self.lease, |out, lease| lease.write(out))
    }
}

impl Ballot {
    pub(super) fn parse(value: Encoded<'_>) -> Result<Self> {
        let [counter, proposer] = list(value)?;
        Ok(Self { counter: unsigned(counter)?, proposer: NodeId(*bytes(proposer)?) })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 2)?;
        write::unsigned(out, self.counter)?;
        write::bin(out, &self.proposer.0)
    }
}

impl<'a> Expected<'a> {
    pub(super) fn parse(value: Encoded<'a>) -> Result<Self> {
        let [sequence, value_hash] = list(value)?;
        Ok(Self { sequence: unsigned(sequence)?, value_hash: bytes(value_hash)? })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 2)?;
        write::unsigned(out, self.sequence)?;
        write::bin(out, self.value_hash)
    }
}

impl fmt::Display for LeaseRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {} until {} token {}", self.holder, self.until_ms, self.token)
    }
}

impl fmt::Display for Metadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.record {
            Some(record) => write!(f, "({record})")?,
            None => f.write_str("(no record)")?,
        }
        self.lease.map_or(Ok(()), |lease| write!(f, " ({lease})"))
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.counter, self.proposer)
    }
}
