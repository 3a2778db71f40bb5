//! Changes that a majority of the holders decides: on a condition, by a diff, of several names at once.
//!
//! In:    wishes.
//! Out:   what is there afterwards; why nothing has changed.
//! Holds: all of it happens or nothing. A wish that left open what it is based on is held against what is there, and again when that has
//!        changed meanwhile; one that named it is not.

use std::time::Duration;

use dunlin_codec::args::{CHANGES_MAX, Diff, Reason};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::msgpack::{Encoded, write};
use dunlin_codec::record::Key;
use dunlin_shards::dht::values::decision::{Decided, Edit, What};
use dunlin_shards::dht::values::{DecideWish, GivenLeave, State, value_hash};
use dunlin_shards::note::Note;
use dunlin_shards::time::{Instant, WallMillis};

use super::{Found, LIFE, Refused, ValueError, Version, check_key, check_life, check_value};
use crate::bell::block_on;
use crate::network::shared::Answered;
use crate::network::{Network, NetworkError};

/// How often what is there may change under a wish that is based on it.
const BASES_MAX: usize = 16;

/// What must be there for a change to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Condition {
    /// No value: none was written, or it was deleted, or its time is over.
    Nothing,
    /// This very one: [`Found::version`].
    Is(Version),
}

/// What is to become of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wish {
    /// It is this, in msgpack.
    Set(Vec<u8>),
    /// It is gone.
    Delete,
    /// These operations are done to it: a msgpack array of [0, path, value] (set), [1, path] (remove) and
    /// [2, path, offset, removed, bin] (splice), as `dunlin_codec::args::DiffOperation` has them.
    Diff(Vec<u8>),
}

/// A key and what is to become of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The key, in msgpack.
    pub key: Vec<u8>,
    /// What must be there; none: whatever is.
    pub condition: Option<Condition>,
    /// What is wished.
    pub wish: Wish,
}

/// On what terms something is changed.
#[derive(Clone, Debug)]
pub struct ChangeOptions {
    /// How long what is written lasts: 30 days at most.
    pub life: Duration,
    /// A key that is nobody's yet becomes this node's.
    pub is_owned: bool,
    /// Another owner's leave to write its keys: one for each of them.
    pub leaves: Vec<GivenLeave>,
    /// The fencing token of the lease that it is written under; 0: none. While a key is leased, only its holder's writes with it pass.
    pub token: u64,
}

impl Default for ChangeOptions {
    fn default() -> Self {
        Self { life: LIFE, is_owned: false, leaves: Vec::new(), token: 0 }
    }
}

/// What was decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    /// What is there now, of each key that was to change, in their order.
    pub values: Vec<Found>,
}

/// A decision that was made.
pub(super) struct Done {
    pub(super) state: State,
    /// The token of a lease that was acquired.
    pub(super) token: u64,
    /// Until when a lease may be relied on, on the shards' clock.
    pub(super) held_until: Instant,
}

/// How a decision ended; the inner error: it is refused, and this is there.
pub(super) type Verdict = Result<Result<Done, (Reason, State)>, ValueError>;

impl Network {
    /// Changes a value, or several names of a group together, if each condition holds; a majority of the holders decides that all of it
    /// happens, on disk, or nothing.
    ///
    /// # Errors
    /// `Refused` with what is there instead; `Unknown` when it may have happened; else it has not.
    pub fn change(&self, changes: &[Change], options: &ChangeOptions) -> Result<Changed, ValueError> {
        block_on(self.change_async(changes, options))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub async fn change_async(
        &self,
        changes: &[Change],
        options: &ChangeOptions,
    ) -> Result<Changed, ValueError> {
        check(changes, options)?;
        let wall = || self.shared.clock.now().wall;
        let mut edits = edits(changes, (&State::new(), wall()))?;
        for _ in 0..BASES_MAX {
            match self.decide(edits.clone(), options).await? {
                Ok(done) => {
                    let value = |change: &Change| found(&done.state, &change.key);
                    return Ok(Changed { values: changes.iter().map(value).collect() });
                }
                Err((reason, state)) => {
                    let anew = self::edits(changes, (&state, wall()))?;
                    if !matches!(reason, Reason::Mismatch | Reason::BadDiff) || anew == edits {
                        return Err(refused(reason, &state, changes.iter().map(|change| &change.key[..])));
                    }
                    edits = anew;
                }
            }
        }
        Err(NetworkError::Busy.into())
    }

    /// Has edits decided.
    pub(super) async fn decide(&self, edits: Vec<Edit>, options: &ChangeOptions) -> Verdict {
        let ChangeOptions { life, is_owned, ref leaves, token } = *options;
        let key = edits.first().map(|edit| edit.key.clone()).ok_or(ValueError::BadGroup)?;
        let owner = is_owned.then_some(self.id());
        let wish = Box::new(DecideWish { key, edits, owner, leaves: leaves.clone(), token, life });
        let decided = match self.request(|ticket| Note::Decide { ticket, wish }).await? {
            Answered::Decided(result) => result?,
            _ => return Err(NetworkError::Stopped.into()),
        };
        match decided {
            Decided::Done { state, token, held_until } => Ok(Ok(Done { state, token, held_until })),
            Decided::Refused { reason, state } => Ok(Err((reason, state))),
            Decided::Unknown => Err(ValueError::Unknown),
            Decided::Unreached => Err(ValueError::Unreached),
        }
    }
}

/// The refusal, with what is there of these keys.
pub(super) fn refused<'k>(reason: Reason, state: &State, keys: impl Iterator<Item = &'k [u8]>) -> ValueError {
    let there = keys.filter_map(|key| Some(Found::of(key, state.get(key)?, None)));
    ValueError::Refused(Refused { reason, there: there.collect() })
}

fn found(state: &State, key: &[u8]) -> Found {
    Found::of(key, &state.get(key).cloned().unwrap_or_default(), None)
}

/// Whether these can be one change.
fn check(changes: &[Change], options: &ChangeOptions) -> Result<(), ValueError> {
    check_life(options.life)?;
    for change in changes {
        check_key(&change.key)?;
        if let Wish::Set(value) = &change.wish {
            check_value(value)?;
        }
    }
    let group =
        |change: &Change| Key::parse(&change.key).ok().flatten()?.group().map(|it| it.bytes().to_vec());
    let is_one = match changes {
        [] => false,
        [_] => true,
        [first, rest @ ..] => group(first).is_some() && rest.iter().all(|other| group(other) == group(first)),
    };
    let is_each_once =
        changes.iter().enumerate().all(|(at, one)| changes[..at].iter().all(|other| other.key != one.key));
    if is_one && is_each_once && changes.len() <= CHANGES_MAX { Ok(()) } else { Err(ValueError::BadGroup) }
}

/// The wishes as edits of what is there, as far as that is known.
fn edits(changes: &[Change], (state, now): (&State, WallMillis)) -> Result<Vec<Edit>, ValueError> {
    changes.iter().map(|change| edit(change, version_there(state, &change.key, now))).collect()
}

fn edit(change: &Change, there: Base) -> Result<Edit, ValueError> {
    let expected = match change.condition {
        None => None,
        Some(Condition::Is(version)) => Some(version),
        Some(Condition::Nothing) => {
            // A deleted value has a sequence still.
            let sequence = if there.is_nil { there.version.sequence } else { 0 };
            Some(Version { sequence, value_hash: value_hash(Encoded::NIL) })
        }
    };
    let what = match &change.wish {
        Wish::Set(value) => What::Set(value.clone()),
        Wish::Delete => What::Set(Encoded::NIL.bytes().to_vec()),
        Wish::Diff(operations) => {
            let base = expected.map_or(there.version.value_hash, |version| version.value_hash);
            What::Diff(diff(operations, &base)?)
        }
    };
    Ok(Edit { key: change.key.clone(), expected, what })
}

/// What a wish can be based on.
struct Base {
    version: Version,
    is_nil: bool,
}

/// What is over is nothing, as the holders see it.
fn version_there(state: &State, key: &[u8], now: WallMillis) -> Base {
    let nothing =
        Base { version: Version { sequence: 0, value_hash: value_hash(Encoded::NIL) }, is_nil: true };
    let Some(cell) = state.get(key) else { return nothing };
    match cell.record() {
        Some(record) if record.fields.expiry_ms > now.0 => {
            let version = Version { sequence: record.fields.sequence, value_hash: value_hash(cell.value()) };
            Base { version, is_nil: cell.value().is_nil() }
        }
        _ => nothing,
    }
}

/// The diff of these operations: base, a length that whoever applies it finds out, and they.
fn diff(operations: &[u8], base: &[u8; 32]) -> Result<Vec<u8>, ValueError> {
    let operations = Encoded::parse(operations).map_err(ValueError::BadValue)?;
    let mut room = vec![0; operations.bytes().len() + 64];
    let mut out = Writer::new(&mut room);
    let written: Result<(), NoRoom> = write::array(&mut out, 3)
        .and_then(|()| write::bin(&mut out, base))
        .and_then(|()| write::unsigned(&mut out, 0))
        .and_then(|()| write::encoded(&mut out, operations));
    written.expect("there is room for what it holds");
    let diff = Encoded::parse(out.written()).map_err(ValueError::BadValue)?;
    Diff::parse(diff).map_err(|_| ValueError::BadDiff)?;
    Ok(diff.bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &[u8]) -> Change {
        Change { key: key.to_vec(), condition: None, wish: Wish::Set(b"\x01".to_vec()) }
    }

    #[test]
    fn only_names_of_one_group_change_together() {
        let options = ChangeOptions::default();
        let is_good = |changes: &[Change]| check(changes, &options).is_ok();
        assert!(is_good(&[set(b"\xa1k")]) && is_good(&[set(b"\x92\xa1g\xa1a"), set(b"\x92\xa1g\xa1b")]));
        assert!(!is_good(&[]) && !is_good(&[set(b"\xa1k"), set(b"\xa1l")]));
        assert!(!is_good(&[set(b"\x92\xa1g\xa1a"), set(b"\x92\xa1h\xa1b")]), "two groups");
        assert!(!is_good(&[set(b"\x92\xa1g\xa1a"), set(b"\x92\xa1g\xa1a")]), "one name twice");
        let names: Vec<Change> = (b'a'..=b'q').map(|name| set(&[0x92, 0xa1, b'g', 0xa1, name])).collect();
        assert!(is_good(&names[..16]) && !is_good(&names));
    }

    #[test]
    fn a_diff_is_checked_before_it_is_sent() {
        let written = diff(b"\x91\x93\x00\x91\xa1a\x01", &[7; 32]).unwrap();
        let parsed = Diff::parse(Encoded::parse(&written).unwrap()).unwrap();
        assert_eq!((parsed.base_hash, parsed.operations().count()), (&[7; 32], 1));
        for wrong in [&b"\x91\x93\x05\x91\xa1a\x01"[..], b"\x01", b"\xc1"] {
            assert!(diff(wrong, &[7; 32]).is_err(), "{wrong:?}");
        }
    }

    /// A condition that there is nothing holds for what was deleted, whose sequence goes on.
    #[test]
    fn nothing_is_what_was_deleted_too() {
        let change = Change { condition: Some(Condition::Nothing), ..set(b"\xa1k") };
        let there = |sequence, is_nil| Base {
            version: Version { sequence, value_hash: value_hash(Encoded::NIL) },
            is_nil,
        };
        let sequence = |base| edit(&change, base).unwrap().expected.unwrap().sequence;
        assert_eq!(
            [sequence(there(0, true)), sequence(there(5, true)), sequence(there(5, false))],
            [0, 5, 0]
        );
    }
}
