//! Edits: what is wished of a key, held against what is there.
//!
//! In:    a register's newest state, edits.
//! Out:   the state afterwards, signed; or why not.
//! Holds: all edits happen or none. A sequence is one above the one before; what nobody needs any more is left out.
//!
//! spec: p2p/edits

use core::time::Duration;

use dunlin_codec::args::{Ballot, CHANGES_MAX, Diff, Expected, Keys, LeaseAction, LeaseRow, Leave, Reason};
use dunlin_codec::ids::NodeId;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{Key, NOBODY, ValueFields};

use super::super::check::{Rules, check_grant};
use super::super::plain::{is_expected, rank};
use super::super::register::{check_token, grant_of, may_write};
use super::super::state::{Cell, State};
use super::super::survey::Told;
use super::super::{GivenLeave, encode, sign_record, value_hash};
use super::Proposer;
use crate::dht::diff::propose;
use crate::limits::{LEASE_MAX, VALUE_LEN_MAX, VALUE_RECORD_SKEW};
use crate::mutants::{Mutant, planted};
use crate::time::Now;

/// What must be there: sequence 0 and the hash of nil stand for nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expectation {
    /// The sequence.
    pub sequence: u64,
    /// SHA-256 of the value.
    pub value_hash: [u8; 32],
}

/// What is wished of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// This value in msgpack; nil deletes.
    Set(Vec<u8>),
    /// What comes out of this diff, in msgpack. The length that it says is not looked at.
    Diff(Vec<u8>),
    /// Its lease.
    Lease {
        /// Acquired, renewed or given back.
        action: LeaseAction,
        /// For how long; 60 s at most.
        lasts: Duration,
        /// The token that it was acquired with; 0 when it is acquired.
        token: u64,
    },
}

/// One wish.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Edit {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// What must be there; none: whatever is.
    pub expected: Option<Expectation>,
    /// What is wished.
    pub what: What,
}

impl Edit {
    /// How long a lease that it asks for lasts.
    pub(super) fn lease_for(&self) -> Duration {
        match self.what {
            What::Lease { lasts, .. } => lasts,
            What::Set(_) | What::Diff(_) => Duration::ZERO,
        }
    }
}

impl GivenLeave {
    pub(super) const fn leave(&self) -> Leave<'_> {
        Leave { until_ms: self.until_ms, signature: &self.signature }
    }
}

impl Proposer {
    /// The leave that was given for a key: each is for one.
    pub(super) fn leave_for(&self, key: &Key<'_>) -> Option<GivenLeave> {
        let writer = self.identity.id();
        let is_for = |leave: &&GivenLeave| {
            check_grant(&grant_of(key, writer, leave.leave()), &leave.owner, &self.network).is_ok()
        };
        self.leaves.iter().find(is_for).copied()
    }
}

/// Who edits.
pub(super) struct Author<'a> {
    pub(super) proposer: &'a Proposer,
    pub(super) ballot: Ballot,
    pub(super) now: Now,
}

/// The keys of edits besides the one that names the register.
pub(super) fn other_keys(key: &[u8], edits: &[Edit]) -> Vec<Vec<u8>> {
    edits.iter().map(|edit| edit.key.clone()).filter(|other| other != key).collect()
}

/// Runs `then` with the keys as an option of STORE, and the bytes that they take.
pub(super) fn with_keys<R>(others: &[Vec<u8>], then: impl FnOnce(Option<Keys<'_>>, usize) -> R) -> R {
    let keys: Vec<Key<'_>> = others.iter().filter_map(|key| Key::parse(key).ok().flatten()).collect();
    if keys.is_empty() {
        return then(None, 0);
    }
    let len = 16 + others.iter().map(Vec::len).sum::<usize>();
    let written = encode(len, |out| Keys::write_new(out, &keys[..keys.len().min(CHANGES_MAX - 1)]));
    let encoded = Encoded::parse(&written).expect("what was written reads back");
    then(Keys::parse(encoded).ok(), len)
}

/// Adds what holders keep of keys that were never decided: the one that replaces all others.
pub(super) fn add_plain<'a>(state: &mut State, newest: Option<Ballot>, told: impl Iterator<Item = &'a Told>) {
    let mut plain = State::new();
    // A state that lags behind the newest is no word on what was never decided.
    for told in told.filter(|told| told.accepted.is_none() || told.accepted == newest) {
        for (key, cell) in told.state.iter().filter(|(key, _)| !state.contains_key(*key)) {
            let Some(record) = cell.record() else { continue };
            let is_newer =
                |there: &Cell| there.record().is_none_or(|there| rank(&there.fields) < rank(&record.fields));
            if plain.get(key).is_none_or(is_newer) {
                plain.insert(key.clone(), cell.clone());
            }
        }
    }
    state.extend(plain);
}

/// The cells that edits are about.
pub(super) fn cells_of(state: &State, edits: &[Edit]) -> State {
    let cells =
        edits.iter().map(|edit| (edit.key.clone(), state.get(&edit.key).cloned().unwrap_or_default()));
    cells.collect()
}

/// Whether the same was written and leased in both.
pub(super) fn is_same(one: &State, other: &State) -> bool {
    one.len() == other.len()
        && one.iter().all(|(key, cell)| other.get(key).is_some_and(|it| it.is_same(cell)))
}

/// Does what is wished.
pub(super) fn apply(state: &mut State, edits: &[Edit], author: &Author<'_>) -> Result<(), Reason> {
    if edits.len() > CHANGES_MAX {
        return Err(Reason::OverQuota);
    }
    let wall = author.now.wall;
    let is_wished = |key: &Vec<u8>| edits.iter().any(|edit| edit.key == *key);
    let is_left = |cell: &Cell| {
        let skew = VALUE_RECORD_SKEW.as_millis() as u64;
        let is_live =
            cell.record().is_some_and(|record| record.fields.expiry_ms.saturating_add(skew) > wall.0);
        is_live || cell.left_ms > 0
    };
    state.retain(|key, cell| is_wished(key) || is_left(cell));
    let mut owner = None;
    for edit in edits {
        let mut cell = state.remove(&edit.key).unwrap_or_default();
        author.edit(&mut cell, edit)?;
        if let Some(record) = cell.record()
            && !author.rules().is_same(owner.get_or_insert(record.fields.owner), &record.fields.owner)
        {
            return Err(Reason::NotAllowed);
        }
        state.insert(edit.key.clone(), cell);
    }
    Ok(())
}

impl Author<'_> {
    fn id(&self) -> NodeId {
        self.ballot.proposer
    }

    const fn rules(&self) -> Rules<'_> {
        Rules { network: &self.proposer.network, kin: &self.proposer.kin }
    }

    fn edit(&self, cell: &mut Cell, edit: &Edit) -> Result<(), Reason> {
        let key = Key::parse(&edit.key).ok().flatten().ok_or(Reason::Malformed)?;
        let given = self.proposer.leave_for(&key);
        let leave = given.as_ref().map(|leave| grant_of(&key, self.id(), leave.leave()));
        if !may_write(self.id(), Some(cell), leave, (self.rules(), self.now.wall)) {
            return Err(Reason::NotAllowed);
        }
        // What is over is no value any more; its sequence goes on.
        let live = cell.live_record(self.now.wall);
        let there = if live.is_some() { cell.value() } else { Encoded::NIL };
        if let Some(Expectation { sequence, value_hash }) = &edit.expected {
            let expected = Expected { sequence: *sequence, value_hash };
            if !is_expected(&expected, live, there) && !planted(Mutant::ConditionIgnored) {
                return Err(Reason::Mismatch);
            }
        }
        match &edit.what {
            What::Lease { action, lasts, token } => self.lease(cell, *action, (*lasts, *token)),
            What::Set(value) => self.write(cell, key, value.clone()),
            What::Diff(diff) => {
                let diff = Encoded::parse(diff).ok().and_then(|diff| Diff::parse(diff).ok());
                let diff = diff.ok_or(Reason::Malformed)?;
                if *diff.base_hash != value_hash(there) {
                    return Err(Reason::BadDiff);
                }
                let value = propose(there, &diff, VALUE_LEN_MAX).map_err(|_| Reason::BadDiff)?;
                self.write(cell, key, value)
            }
        }
    }

    fn write(&self, cell: &mut Cell, key: Key<'_>, value: Vec<u8>) -> Result<(), Reason> {
        let Proposer { identity, network, token, life, .. } = self.proposer;
        check_token(cell.lease, cell.left_ms > 0, (*token, self.id()))?;
        let encoded = Encoded::parse(&value).map_err(|_| Reason::Malformed)?;
        if value.len() > VALUE_LEN_MAX {
            return Err(Reason::OverQuota);
        }
        let wall = self.now.wall.0;
        let owner = cell.live_record(self.now.wall).map_or(self.proposer.owner, |record| record.fields.owner);
        let owner = if self.rules().is_same(&owner, &self.id()) { self.id() } else { owner };
        let leave = self.proposer.leave_for(&key).filter(|_| owner != NOBODY && owner != self.id());
        if owner != NOBODY && owner != self.id() && leave.is_none() {
            return Err(Reason::NotAllowed);
        }
        let expiry_ms = wall.saturating_add(life.as_millis() as u64);
        let fields = ValueFields {
            key,
            owner,
            sequence: cell.record().map_or(0, |record| record.fields.sequence).saturating_add(1),
            time_ms: wall,
            expiry_ms: leave.map_or(expiry_ms, |leave| expiry_ms.min(leave.until_ms)),
            value_hash: &value_hash(encoded),
            writer: self.id(),
            token: *token,
        };
        cell.record = Some(sign_record(identity, network, &fields, leave.as_ref()).into());
        cell.value = value.into();
        Ok(())
    }

    fn lease(
        &self,
        cell: &mut Cell,
        action: LeaseAction,
        (lasts, token): (Duration, u64),
    ) -> Result<(), Reason> {
        let lasts_ms = lasts.min(LEASE_MAX).as_millis() as u64;
        let until_ms = self.now.wall.0.saturating_add(lasts_ms);
        let is_own = cell
            .lease
            .is_some_and(|lease| lease.holder == self.id() && lease.token == token && lease.until_ms != 0);
        let (until_ms, left_ms, token) = match action {
            LeaseAction::Acquire if cell.left_ms > 0 => return Err(Reason::Leased),
            LeaseAction::Acquire => (until_ms, lasts_ms, self.ballot.counter),
            _ if !is_own => return Err(Reason::StaleToken),
            LeaseAction::Renew => (until_ms, lasts_ms, token),
            LeaseAction::Release => (0, 0, token),
        };
        cell.lease = Some(LeaseRow { holder: self.id(), until_ms, token });
        cell.left_ms = left_ms;
        Ok(())
    }
}
