//! Plain values: those that each holder keeps for itself, the newest it has heard of.
//!
//! In:    a STORE, and what is there.
//! Out:   what is there afterwards, or why it is not.
//! Holds: of two records the same one wins at every holder, whichever came first.
//!
//! A higher sequence wins; then the later second of writing; in the same second the lower writer's key, then the lower hash.
//! A value that nobody signed replaces only its like, and lasts only as long as it is stored again by whoever has it.
//! What is not there has sequence 0 and the hash of nil; so has what nobody signed, but for its own hash.
//!
//! spec: p2p/plain-values

use core::cmp::Reverse;
use core::time::Duration;

use dunlin_codec::args::{Expected, Metadata, Reason, Store};
use dunlin_codec::ids::NodeId;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{ValueFields, ValueRecord};

use super::check::{BadRecord, Rules, check_signed, check_time, value_hash};
use super::quota::Charge;
use crate::dht::diff::apply;
use crate::limits::{CACHE_LIFE_MAX, VALUE_LEN_MAX, VALUE_LIFE};
use crate::time::{Instant, WallMillis};

/// A value that is kept.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: Box<[u8]>,
    pub(super) record: Option<Box<[u8]>>,
    pub(super) keep_until: WallMillis,
    /// When it was stored here last.
    pub(super) told_at: Instant,
    pub(super) charge: Charge,
    /// A copy beside the path: in memory alone.
    pub(super) is_cache: bool,
}

/// What is to be kept, before anybody was charged for it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) value: Box<[u8]>,
    pub(super) keep_until: WallMillis,
}

/// What becomes of a STORE that is not refused.
#[derive(Debug)]
pub(super) enum Ruling {
    /// It is kept.
    Keep(Kept),
    /// It is there already, and lasts longer now.
    Same(Kept),
}

impl Entry {
    /// Its record.
    pub(super) fn record(&self) -> Option<ValueRecord<'_>> {
        self.record.as_ref().map(|record| ValueRecord::parse(record).expect("it was parsed before"))
    }

    /// Its value.
    pub(super) fn value(&self) -> Encoded<'_> {
        Encoded::parse(&self.value).expect("it was parsed before")
    }

    pub(super) fn metadata(&self) -> Metadata<'_> {
        Metadata { record: self.record(), lease: None }
    }

    /// Its time is not over.
    pub(super) fn is_live(&self, now: WallMillis) -> bool {
        self.keep_until > now
    }
}

/// A place in the order in which records replace each other.
pub(super) fn rank<'a>(fields: &ValueFields<'a>) -> impl Ord + use<'a> {
    (fields.sequence, fields.time_ms / 1_000, Reverse(fields.writer), Reverse(fields.value_hash))
}

/// Whether what is there is what a compare-and-set expects: sequence 0 and the hash of nil stand for nothing.
pub(super) fn is_expected(
    expected: &Expected<'_>,
    record: Option<ValueRecord<'_>>,
    value: Encoded<'_>,
) -> bool {
    let sequence = record.map_or(0, |record| record.fields.sequence);
    expected.sequence == sequence && *expected.value_hash == value_hash(value)
}

/// Why a bad record is not kept.
pub(super) const fn reason_of(bad: BadRecord) -> Reason {
    match bad {
        BadRecord::Hash => Reason::Malformed,
        BadRecord::Expired | BadRecord::Time | BadRecord::Signature | BadRecord::Grant => Reason::NotAllowed,
    }
}

/// What becomes of a STORE of one round, where `current` is there and live.
pub(super) fn rule(
    current: Option<&Entry>,
    store: &Store<'_>,
    (rules, now): (Rules<'_>, WallMillis),
) -> Result<Ruling, Reason> {
    let options = &store.options;
    let there = current.map_or(Encoded::NIL, Entry::value);
    let record_there = current.and_then(Entry::record);
    if options.lease.is_some() || options.atomic.is_some() || options.rows.is_some() {
        return Err(Reason::Unsupported);
    }
    if options.sequence.is_some_and(|wanted| options.record.map(|it| it.fields.sequence) != Some(wanted)) {
        return Err(Reason::Malformed);
    }
    let is_same = record_there.is_some() && options.record == record_there;
    if options.expected.is_some_and(|expected| !is_same && !is_expected(&expected, record_there, there)) {
        return Err(Reason::Mismatch);
    }
    if !is_same {
        check_order(record_there, options.record, rules)?;
    }
    let value: Box<[u8]> = match &options.diff {
        None => store.value.bytes().into(),
        Some(_) if is_same => there.bytes().into(),
        Some(diff) if *diff.base_hash != value_hash(there) || options.record.is_none() => {
            return Err(Reason::BadDiff);
        }
        Some(diff) => apply(there, diff, VALUE_LEN_MAX).map_err(|_| Reason::BadDiff)?.into(),
    };
    if value.len() > VALUE_LEN_MAX {
        return Err(Reason::OverQuota);
    }
    if let Some(record) = &options.record {
        let result = Encoded::parse(&value).map_err(|_| Reason::BadDiff)?;
        let on_bad = |bad| if options.diff.is_some() { Reason::BadDiff } else { reason_of(bad) };
        check_time(record, now).map_err(reason_of)?;
        check_signed(record, result, rules.network).map_err(on_bad)?;
    }
    let kept = Kept { value, keep_until: keep_until(store, now) };
    Ok(if is_same { Ruling::Same(kept) } else { Ruling::Keep(kept) })
}

/// Whether a record may take the place of another.
fn check_order(
    there: Option<ValueRecord<'_>>,
    new: Option<ValueRecord<'_>>,
    rules: Rules<'_>,
) -> Result<(), Reason> {
    match (there, new) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Reason::StaleSequence),
        (Some(there), Some(new)) if !rules.is_same(&there.fields.owner, &new.fields.owner) => {
            Err(Reason::NotAllowed)
        }
        (Some(there), Some(new)) if rank(&new.fields) <= rank(&there.fields) => Err(Reason::StaleSequence),
        (Some(_), Some(_)) => Ok(()),
    }
}

/// Until when a store is kept: as long as its record lasts, and no longer than it is stored again.
fn keep_until(store: &Store<'_>, now: WallMillis) -> WallMillis {
    let life = if store.options.is_cache { CACHE_LIFE_MAX } else { VALUE_LIFE };
    let wanted = store.options.ttl_s.map_or(life, Duration::from_secs).min(life);
    let until = now.0.saturating_add(wanted.as_millis() as u64);
    let record = store.options.record.as_ref();
    WallMillis(record.map_or(until, |record| until.min(record.fields.expiry_ms)))
}

/// Who is charged: the writer, or whoever brought what nobody signed.
pub(super) fn charged(record: Option<ValueRecord<'_>>, peer: NodeId) -> NodeId {
    record.map_or(peer, |record| record.fields.writer)
}
