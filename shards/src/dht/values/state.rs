//! A register's state: what holders decide about, key by key.
//!
//! In:    rows as they came.
//! Out:   cells, rows.
//! Holds: what is in a cell was parsed before; a state has as many rows and bytes as fit into a message.

use std::collections::BTreeMap;

use dunlin_codec::args::{LeaseRow, Metadata, ROWS_MAX, Row, Rows};
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{Key, VALUE_RECORD_LEN_MAX, ValueRecord};

use super::encode;
use crate::limits::REGISTER_LEN_MAX;
use crate::time::WallMillis;

/// One key's state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cell {
    /// The value in msgpack; nil: there is none.
    pub value: Box<[u8]>,
    /// Its record; none: nobody has written it.
    pub record: Option<Box<[u8]>>,
    /// Its lease; none: it never had one.
    pub lease: Option<LeaseRow>,
    /// What is left of the lease, in milliseconds.
    pub left_ms: u64,
}

/// Every key of a register, by its bytes.
pub type State = BTreeMap<Vec<u8>, Cell>;

impl Default for Cell {
    fn default() -> Self {
        Self { value: Encoded::NIL.bytes().into(), record: None, lease: None, left_ms: 0 }
    }
}

impl Cell {
    fn of(row: &Row<'_>) -> Self {
        Self {
            value: row.value.bytes().into(),
            record: row.record.map(|record| record.bytes().into()),
            lease: row.lease,
            left_ms: row.left_ms,
        }
    }

    /// The row that says this of a key.
    fn row<'a>(&'a self, key: &'a [u8]) -> Row<'a> {
        let key = Key::parse(key).ok().flatten().expect("a cell's key was parsed before");
        let lease = self.lease;
        let left_ms = if lease.is_some() { self.left_ms } else { 0 };
        Row { key, value: self.value(), record: self.record(), lease, left_ms }
    }

    /// Its value; nil: there is none.
    ///
    /// # Panics
    /// Never: it was parsed before.
    #[must_use]
    pub fn value(&self) -> Encoded<'_> {
        Encoded::parse(&self.value).expect("a cell's value was parsed before")
    }

    /// Its record.
    ///
    /// # Panics
    /// Never: it was parsed before.
    #[must_use]
    pub fn record(&self) -> Option<ValueRecord<'_>> {
        self.record.as_ref().map(|record| ValueRecord::parse(record).expect("it was parsed before"))
    }

    /// What is told of it besides the value.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata { record: self.record(), lease: self.lease }
    }

    /// Its record where that is not over.
    pub(super) fn live_record(&self, now: WallMillis) -> Option<ValueRecord<'_>> {
        self.record().filter(|record| record.fields.expiry_ms > now.0)
    }

    /// The same was written and leased. What is left of the lease is each holder's own.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.value == other.value && self.record == other.record && self.lease == other.lease
    }

    pub(super) fn len(&self) -> usize {
        self.value.len() + self.record.as_ref().map_or(0, |record| record.len())
    }
}

/// What names a register: the key, or the group within an array of one, so that a group and a key of its name are two.
pub(super) fn scope_of(key: &Key<'_>) -> Vec<u8> {
    match key.group() {
        Some(group) => [&[GROUP][..], group.bytes()].concat(),
        None => key.bytes().to_vec(),
    }
}

/// A key of the register: of a group the one with an empty name.
pub(super) fn key_of_scope(scope: &[u8]) -> Vec<u8> {
    match scope.split_first() {
        Some((&GROUP, group)) => [&[0x92][..], group, &[0xa0]].concat(),
        _ => scope.to_vec(),
    }
}

/// The head of an array of one, in msgpack.
const GROUP: u8 = 0x91;

/// The rows as a state.
pub(super) fn read_state(rows: &Rows<'_>) -> State {
    rows.iter().map(|row| (row.key.bytes().to_vec(), Cell::of(&row))).collect()
}

/// Bytes of a state: keys, values and records.
pub(super) fn state_len(state: &State) -> usize {
    state.iter().map(|(key, cell)| key.len() + cell.len()).sum()
}

/// Whether everybody can be told the state.
pub(super) fn has_room(state: &State) -> bool {
    state.len() <= ROWS_MAX && state_len(state) <= REGISTER_LEN_MAX
}

/// Bytes that a state takes at most when it is written.
pub(super) fn written_len_max(state: &State) -> usize {
    state_len(state) + state.len() * (VALUE_RECORD_LEN_MAX / 8) + 64
}

/// The state as rows in msgpack. It has room.
pub(super) fn write_state(state: &State) -> Vec<u8> {
    let rows: Vec<Row<'_>> = state.iter().map(|(key, cell)| cell.row(key)).collect();
    encode(written_len_max(state), |out| Rows::write_new(out, &rows))
}

/// Runs `then` with the rows that a state is.
pub(super) fn with_rows<R>(state: &State, then: impl FnOnce(Rows<'_>) -> R) -> R {
    let written = write_state(state);
    let encoded = Encoded::parse(&written).expect("what was written reads back");
    then(Rows::parse(encoded).expect("a state's keys are in order, and of one register"))
}
