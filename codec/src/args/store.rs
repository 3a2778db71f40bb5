//! STORE: keep this value, or decide with the other holders what the value is.
//!
//! In:    [address, key, value] or [address, key, value, options].
//! Out:   [`Store`].
//! Holds: every option that is there is whole; one that this version does not know is an error, never ignored.
//!
//! | option | value |
//! |---|---|
//! | `record` | the value's record, bin |
//! | `seq` | the sequence that the value shall have |
//! | `cas` | [sequence, SHA-256 32] that the current value must have |
//! | `diff` | [base hash 32, length of the result, operations] (`diff`); the value itself is nil then |
//! | `lease` | [0 acquire, 1 renew or 2 release, duration in ms, token] |
//! | `atomic` | [[name, value, record bin, cas or nil], …]: other names of the key's group, changed with it or not at all |
//! | `ttl` | seconds |
//! | `cache` | true: a copy for a short time, in memory, which anything else may push out |
//! | `prepare` | ballot: promise, and tell the register's state; counter 0: promise nothing, only tell |
//! | `keys` | [key, …]: other names of the group that the decision will be about (`register`) |
//! | `grant` | [until, signature]: the owner's leave for whoever prepares (`register`) |
//! | `accept` | ballot: take this state, unless a higher one was promised |
//! | `base` | ballot of the state that it was made of; none: nothing had been accepted |
//! | `rows` | the register's whole state (`register`) |
//! | `members` | under whom it is to be accepted (`members`) |
//! | `over` | true, with `prepare`: whoever prepared this ballot does not go on with it |
//!
//! We carry the record as an option, since the source's three arguments have no place for it, and the two rounds of a
//! decision (CASPaxos) as options as well: the proposer prepares, applies its condition to the newest promise, and sends
//! accept with the result: the whole state of the register, which is a key alone or all decided names of a group. So a state
//! has one ballot, and an atomic change is one row on disk. A deleted value is nil. `atomic` names at most 15 others, 16
//! changes with its own.
//!
//! spec: p2p/store

use core::fmt;

use super::{
    ArgumentError, Ballot, Diff, Expected, Keys, Leave, Members, Result, Rows, bin, bytes, key, list,
    optional, or_nil, unsigned,
};
use crate::bytes::Writer;
use crate::error::NoRoom;
use crate::ids::Address;
use crate::msgpack::{Array, Encoded, write};
use crate::record::{Key, ValueRecord};

/// Changes of one atomic store at most, its own among them (T13).
pub const CHANGES_MAX: usize = 16;

/// What is asked about a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum LeaseAction {
    /// Grant it.
    Acquire = 0,
    /// Let it last longer.
    Renew = 1,
    /// It is not needed any more.
    Release = 2,
}

/// A request about a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaseRequest {
    /// What is asked.
    pub action: LeaseAction,
    /// How long it shall last, in milliseconds; 0 when released.
    pub duration_ms: u64,
    /// The fencing token that it was granted with; 0 when acquired.
    pub token: u64,
}

impl LeaseRequest {
    fn parse(value: Encoded<'_>) -> Result<Self> {
        let [action, duration, token] = list(value)?;
        let action = match unsigned(action)? {
            0 => LeaseAction::Acquire,
            1 => LeaseAction::Renew,
            2 => LeaseAction::Release,
            _ => return Err(ArgumentError::OutOfRange),
        };
        Ok(Self { action, duration_ms: unsigned(duration)?, token: unsigned(token)? })
    }

    fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 3)?;
        write::unsigned(out, self.action as u64)?;
        write::unsigned(out, self.duration_ms)?;
        write::unsigned(out, self.token)
    }
}

/// One of the other changes of an atomic store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change<'a> {
    /// The name within the group: str or bin.
    pub name: Encoded<'a>,
    /// The value; nil: deleted.
    pub value: Encoded<'a>,
    /// Its record.
    pub record: ValueRecord<'a>,
    /// What must be there now.
    pub expected: Option<Expected<'a>>,
}

impl<'a> Change<'a> {
    fn parse(change: Encoded<'a>) -> Result<Self> {
        let [name, value, record, expected] = list(change)?;
        let record = ValueRecord::parse(bin(record)?)?;
        // The record's key is the group's, so its name is in a key's one form.
        if record.fields.key.name() != Some(name) {
            return Err(ArgumentError::OutOfRange);
        }
        Ok(Self { name, value, record, expected: optional(expected, Expected::parse)? })
    }

    fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 4)?;
        write::encoded(out, self.name)?;
        write::encoded(out, self.value)?;
        write::bin(out, self.record.bytes())?;
        or_nil(out, self.expected, |out, expected| expected.write(out))
    }
}

/// The other changes of an atomic store: those of its own key stand in the store itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Changes<'a> {
    encoded: Encoded<'a>,
    list: Array<'a>,
}

impl<'a> Changes<'a> {
    /// The changes that a value is.
    ///
    /// # Errors
    /// [`ArgumentError`]: another shape, too many, a record of another name, two of one name.
    pub fn parse(encoded: Encoded<'a>) -> Result<Self> {
        let list = encoded.as_array().ok_or(ArgumentError::Shape)?;
        if list.count() >= CHANGES_MAX {
            return Err(ArgumentError::OutOfRange);
        }
        for (at, change) in list.iter().enumerate() {
            let change = Change::parse(change)?;
            // At most 15 times 15 comparisons.
            if (Self { encoded, list }).iter().take(at).any(|earlier| earlier.name == change.name) {
                return Err(ArgumentError::OutOfRange);
            }
        }
        Ok(Self { encoded, list })
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Change<'a>> + use<'a> {
        self.list.iter().filter_map(|change| Change::parse(change).ok())
    }

    /// Writes changes, for [`Self::parse`].
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When there are [`CHANGES_MAX`] or more: no storer would take them.
    pub fn write_new(out: &mut Writer<'_>, changes: &[Change<'_>]) -> core::result::Result<(), NoRoom> {
        assert!(changes.len() < CHANGES_MAX, "the caller bounds an atomic store");
        write::whole(out, |out| {
            write::array(out, changes.len() as u32)?;
            changes.iter().try_for_each(|change| change.write(out))
        })
    }
}

/// What a store says besides its value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StoreOptions<'a> {
    /// The value's record; with `diff` that of the result.
    pub record: Option<ValueRecord<'a>>,
    /// The sequence that the value shall have.
    pub sequence: Option<u64>,
    /// What must be there now.
    pub expected: Option<Expected<'a>>,
    /// How the value comes out of the current one.
    pub diff: Option<Diff<'a>>,
    /// What is asked about a lease.
    pub lease: Option<LeaseRequest>,
    /// What else changes with it, or not at all.
    pub atomic: Option<Changes<'a>>,
    /// How long the value shall be kept, in seconds.
    pub ttl_s: Option<u64>,
    /// First round: promise this ballot.
    pub prepare: Option<Ballot>,
    /// First round: the other keys that the decision will be about.
    pub keys: Option<Keys<'a>>,
    /// First round: whoever prepared this ballot does not go on with it.
    pub is_over: bool,
    /// First round: the owner's leave for whoever prepares.
    pub grant: Option<Leave<'a>>,
    /// Second round: accept the rows under this ballot.
    pub accept: Option<Ballot>,
    /// Second round: the ballot of the state that the rows were made of.
    pub base: Option<Ballot>,
    /// Second round: the register's whole state.
    pub rows: Option<Rows<'a>>,
    /// Second round: under whom it is to be accepted.
    pub members: Option<Members<'a>>,
    /// A copy for a short time.
    pub is_cache: bool,
}

impl<'a> StoreOptions<'a> {
    fn parse(value: Encoded<'a>) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in value.as_map().ok_or(ArgumentError::Shape)? {
            match name {
                "record" => options.record = Some(ValueRecord::parse(bin(value)?)?),
                "seq" => options.sequence = Some(unsigned(value)?),
                "cas" => options.expected = Some(Expected::parse(value)?),
                "diff" => options.diff = Some(Diff::parse(value)?),
                "lease" => options.lease = Some(LeaseRequest::parse(value)?),
                "atomic" => options.atomic = Some(Changes::parse(value)?),
                "ttl" => options.ttl_s = Some(unsigned(value)?),
                "prepare" => options.prepare = Some(Ballot::parse(value)?),
                "accept" => options.accept = Some(Ballot::parse(value)?),
                "keys" => options.keys = Some(Keys::parse(value)?),
                "grant" => options.grant = Some(Leave::parse(value)?),
                "base" => options.base = Some(Ballot::parse(value)?),
                "rows" => options.rows = Some(Rows::parse(value)?),
                "members" => options.members = Some(Members::parse(value)?),
                // Whoever wants none says nothing.
                "cache" if value.as_bool() == Some(true) => options.is_cache = true,
                "over" if value.as_bool() == Some(true) => options.is_over = true,
                "cache" | "over" => return Err(ArgumentError::OutOfRange),
                _ => return Err(ArgumentError::UnknownOption),
            }
        }
        Ok(options)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        let plain = [self.sequence.is_some(), self.ttl_s.is_some(), self.record.is_some()];
        let conditions = [self.expected.is_some(), self.diff.is_some(), self.lease.is_some()];
        let decisions = [self.atomic.is_some(), self.prepare.is_some(), self.accept.is_some()];
        let registers = [self.base.is_some(), self.rows.is_some(), self.keys.is_some()];
        let others = [self.grant.is_some(), self.is_cache, self.members.is_some()];
        let rest = [self.is_over, false, false];
        [plain, conditions, decisions, registers, others, rest]
            .as_flattened()
            .iter()
            .map(|is_there| u32::from(*is_there))
            .sum()
    }

    /// In ascending order of their names.
    fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::map(out, self.count())?;
        if let Some(ballot) = &self.accept {
            write::str(out, "accept").and_then(|()| ballot.write(out))?;
        }
        if let Some(changes) = &self.atomic {
            write::str(out, "atomic").and_then(|()| write::encoded(out, changes.encoded))?;
        }
        if let Some(ballot) = &self.base {
            write::str(out, "base").and_then(|()| ballot.write(out))?;
        }
        if self.is_cache {
            write::str(out, "cache").and_then(|()| write::bool(out, true))?;
        }
        self.write_rest(out)
    }

    /// From `cas` on.
    fn write_rest(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        if let Some(expected) = &self.expected {
            write::str(out, "cas").and_then(|()| expected.write(out))?;
        }
        if let Some(diff) = &self.diff {
            write::str(out, "diff").and_then(|()| diff.write(out))?;
        }
        if let Some(grant) = &self.grant {
            write::str(out, "grant").and_then(|()| grant.write(out))?;
        }
        if let Some(keys) = &self.keys {
            write::str(out, "keys").and_then(|()| keys.write(out))?;
        }
        if let Some(lease) = &self.lease {
            write::str(out, "lease").and_then(|()| lease.write(out))?;
        }
        if let Some(members) = &self.members {
            write::str(out, "members").and_then(|()| members.write(out))?;
        }
        if self.is_over {
            write::str(out, "over").and_then(|()| write::bool(out, true))?;
        }
        if let Some(ballot) = &self.prepare {
            write::str(out, "prepare").and_then(|()| ballot.write(out))?;
        }
        if let Some(record) = &self.record {
            write::str(out, "record").and_then(|()| write::bin(out, record.bytes()))?;
        }
        if let Some(rows) = &self.rows {
            write::str(out, "rows").and_then(|()| rows.write(out))?;
        }
        if let Some(sequence) = self.sequence {
            write::str(out, "seq").and_then(|()| write::unsigned(out, sequence))?;
        }
        if let Some(ttl_s) = self.ttl_s {
            write::str(out, "ttl").and_then(|()| write::unsigned(out, ttl_s))?;
        }
        Ok(())
    }
}

/// A value to keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Store<'a> {
    /// Where the asker thinks that it lives. Compute it again from the key.
    pub address: Address,
    /// The key.
    pub key: Key<'a>,
    /// The value; nil: deleted, or it comes out of `diff`.
    pub value: Encoded<'a>,
    /// What is said besides.
    pub options: StoreOptions<'a>,
}

impl<'a> Store<'a> {
    pub(super) fn parse(payload: Encoded<'a>) -> Result<Self> {
        let elements = payload.as_array().ok_or(ArgumentError::Shape)?;
        let ([address, name, value], mut rest) = elements.split_first().ok_or(ArgumentError::Shape)?;
        let options = rest.next().map_or(Ok(StoreOptions::default()), StoreOptions::parse)?;
        if rest.next().is_some() {
            return Err(ArgumentError::Shape);
        }
        let key = key(name)?;
        let is_of_key = options.record.is_none_or(|record| record.fields.key == key);
        // A diff says what the value is, so the value says nothing; and only names of a group change together.
        let is_one_value = options.diff.is_none() || value.is_nil();
        let is_in_group = options.atomic.is_none_or(|changes| is_in_group(key, changes));
        let is_beside = |other: Key<'_>| key.group().is_some() && other.group() == key.group();
        let is_in_register = options.keys.is_none_or(|keys| keys.iter().all(is_beside))
            && options.rows.is_none_or(|rows| rows.iter().all(|row| row.key == key || is_beside(row.key)));
        if !is_of_key || !is_one_value || !is_in_group || !is_in_register {
            return Err(ArgumentError::OutOfRange);
        }
        Ok(Self { address: Address(*bytes(address)?), key, value, options })
    }

    /// Without options there are three elements, as in the source.
    pub(super) fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        let has_options = self.options.count() > 0;
        write::array(out, if has_options { 4 } else { 3 })?;
        write::bin(out, &self.address.0)?;
        write::encoded(out, self.key.encoded())?;
        write::encoded(out, self.value)?;
        if has_options { self.options.write(out) } else { Ok(()) }
    }
}

/// Whether all changes are of other names of the key's group.
fn is_in_group(key: Key<'_>, changes: Changes<'_>) -> bool {
    key.group().is_some()
        && changes
            .iter()
            .all(|change| change.record.fields.key.group() == key.group() && change.record.fields.key != key)
}

impl fmt::Display for Store<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreOptions { record, sequence, expected, diff, lease, atomic, ttl_s, .. } = &self.options;
        let StoreOptions { prepare, keys, grant, accept, base, rows, members, .. } = &self.options;
        write!(f, "{} key {} value {}", self.address, self.key, self.value)?;
        record.map_or(Ok(()), |record| write!(f, " record ({record})"))?;
        sequence.map_or(Ok(()), |sequence| write!(f, " seq {sequence}"))?;
        expected.map_or(Ok(()), |expected| write!(f, " cas {}", expected.sequence))?;
        diff.map_or(Ok(()), |diff| write!(f, " diff ({diff})"))?;
        if let Some(LeaseRequest { action, duration_ms, token }) = lease {
            write!(f, " lease {action:?} {duration_ms} ms token {token}")?;
        }
        if let Some(changes) = atomic {
            changes.iter().try_for_each(|change| write!(f, " and {} {}", change.name, change.value))?;
        }
        ttl_s.map_or(Ok(()), |ttl_s| write!(f, " ttl {ttl_s}"))?;
        prepare.map_or(Ok(()), |ballot| write!(f, " prepare {ballot}"))?;
        if let Some(keys) = keys {
            keys.iter().try_for_each(|key| write!(f, " with {key}"))?;
        }
        grant.map_or(Ok(()), |grant| write!(f, " granted until {}", grant.until_ms))?;
        accept.map_or(Ok(()), |ballot| write!(f, " accept {ballot}"))?;
        base.map_or(Ok(()), |ballot| write!(f, " base {ballot}"))?;
        rows.map_or(Ok(()), |rows| write!(f, " {rows}"))?;
        members.map_or(Ok(()), |members| write!(f, " under {members}"))?;
        for (is_said, word) in [(self.options.is_over, " over"), (self.options.is_cache, " cache")] {
            f.write_str(if is_said { word } else { "" })?;
        }
        Ok(())
    }
}
