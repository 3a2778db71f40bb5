//! A register: what one holder promised and accepted of a key, or of a group's decided names (CASPaxos).
//!
//! In:    ballots, states that are proposed, time.
//! Out:   what the register is afterwards, or why it stays as it is. Nothing changes here: whoever asks has it written first.
//! Holds: promises and accepted ballots never go back. A holder whose state is the one that a proposal was made of checks
//!        everything that the proposal changes; another takes a signed state as it is, since it cannot know what changed.
//!
//! | a change | is refused unless |
//! |---|---|
//! | of a value | it is by the proposer, who may write; signed; its sequence is higher; its owner the same; its token fits |
//! | of a lease | it is for the proposer, who may write, and the one before is over, or its own |
//! | of several | they are at most 16 |
//! | of any | the register is its owner's or nobody's: all that is live in it has one owner |
//! | of members | less than half of them go, and those before are those that were now, unless nobody changes |
//!
//! A token fits when it is the lease's own, which nobody has taken since; without one, when nobody holds a lease. A lease ends
//! by the holder's own clock, so many milliseconds after it was granted here.
//!
//! spec: p2p/register-rules

use core::time::Duration;
use std::collections::BTreeMap;

use dunlin_codec::args::{Ballot, CHANGES_MAX, LeaseRow, Leave, Reason};
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::record::{Grant, Key, NOBODY};

use super::check::{Rules, check_grant, check_signed, check_time};
use super::members::Members;
use super::plain::reason_of;
use super::state::{Cell, State, has_room};
use crate::limits::{BALLOT_LEAP_MAX, LEASE_MAX, VALUE_LEN_MAX, VALUE_RECORD_SKEW};
use crate::mutants::{Mutant, planted};
use crate::time::{Instant, Now, WallMillis};

/// What no ballot is below.
pub(super) const NO_BALLOT: Ballot = Ballot { counter: 0, proposer: NodeId([0; 32]) };

/// A cell, and when its lease ends here.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) cell: Cell,
    pub(super) lease_ends: Instant,
}

/// What a holder promised and accepted.
#[derive(Clone, Debug)]
pub(super) struct Register {
    pub(super) promised: Ballot,
    pub(super) accepted: Option<Ballot>,
    pub(super) is_settled: bool,
    /// Under whom the state was accepted.
    pub(super) members: Members,
    pub(super) cells: BTreeMap<Vec<u8>, Held>,
}

/// What somebody wants accepted.
#[derive(Debug)]
pub(super) struct Proposal<'a> {
    pub(super) ballot: Ballot,
    /// What it was made of.
    pub(super) base: Option<Ballot>,
    pub(super) state: State,
    /// Under whom it is to be accepted.
    pub(super) members: Members,
    /// The key that it is said to be about, and the owner's leave for it.
    pub(super) key: Key<'a>,
    pub(super) leave: Option<Leave<'a>>,
}

/// Why a ballot is not taken.
pub(super) enum BadBallot {
    /// A higher one was promised.
    TooLow,
    /// Nobody's clock explains it.
    TooHigh,
}

impl Default for Register {
    fn default() -> Self {
        Self::restored(NO_BALLOT, None, (false, Members::default()))
    }
}

impl Held {
    /// Somebody holds its lease.
    fn is_leased(&self, now: Instant) -> bool {
        self.cell.lease.is_some_and(|lease| lease.until_ms != 0) && self.lease_ends > now
    }

    fn new(cell: Cell, now: Instant) -> Self {
        let left = Duration::from_millis(cell.left_ms).min(LEASE_MAX);
        let lasts = cell.lease.is_some_and(|lease| lease.until_ms != 0);
        let left = if lasts { left } else { Duration::ZERO };
        Self { cell, lease_ends: now + left }
    }
}

/// The grant that a leave is part of.
pub(super) const fn grant_of<'a>(key: &Key<'a>, writer: NodeId, leave: Leave<'a>) -> Grant<'a> {
    Grant { key: *key, writer, until_ms: leave.until_ms, signature: leave.signature }
}

/// Whether whoever asks may write the key: nobody's, its own, or by leave.
pub(super) fn may_write(
    by: NodeId,
    cell: Option<&Cell>,
    leave: Option<Grant<'_>>,
    (rules, now): (Rules<'_>, WallMillis),
) -> bool {
    let Some(record) = cell.and_then(|cell| cell.live_record(now)) else { return true };
    let owner = record.fields.owner;
    let is_by_leave = |grant: Grant<'_>| {
        grant.writer == by && grant.until_ms > now.0 && check_grant(&grant, &owner, rules.network).is_ok()
    };
    owner == NOBODY
        || rules.is_same(&owner, &by)
        || record.grant.is_some_and(is_by_leave)
        || leave.is_some_and(is_by_leave)
}

impl Register {
    /// What it holds, with what is left of each lease.
    pub(super) fn state(&self, now: Instant) -> State {
        let cells = self.cells.iter().map(|(key, held)| {
            let left_ms = held.lease_ends.since(now).as_millis() as u64;
            (key.clone(), Cell { left_ms, ..held.cell.clone() })
        });
        cells.collect()
    }

    /// Bytes that it is charged with.
    pub(super) fn len(&self) -> usize {
        self.members.len() + self.cells.iter().map(|(key, held)| key.len() + held.cell.len()).sum::<usize>()
    }

    /// What is on disk, taken back: every lease that was not given back lasts as long as any may.
    pub(super) fn restored(
        promised: Ballot,
        accepted: Option<Ballot>,
        (is_settled, members): (bool, Members),
    ) -> Self {
        Self { promised, accepted, is_settled, members, cells: BTreeMap::new() }
    }

    /// Puts a state in the place of its own, whatever that was.
    pub(super) fn adopt(&mut self, state: State, now: Instant) {
        self.cells = state.into_iter().map(|(key, cell)| (key, Held::new(cell, now))).collect();
    }

    /// Whose a register is: all that is live in it has one owner.
    fn owner(&self, now: WallMillis) -> Option<NodeId> {
        self.cells.values().find_map(|held| Some(held.cell.live_record(now)?.fields.owner))
    }

    /// Whether whoever asks may decide anything here, about `key`.
    pub(super) fn admits(
        &self,
        by: NodeId,
        (key, leave): (&Key<'_>, Option<Leave<'_>>),
        (rules, now): (Rules<'_>, WallMillis),
    ) -> bool {
        let Some(owner) = self.owner(now).filter(|owner| *owner != NOBODY && !rules.is_same(owner, &by))
        else {
            return true;
        };
        let held = self.cells.get(key.bytes()).and_then(|held| held.cell.live_record(now));
        let of_record = held.and_then(|record| record.grant);
        let given = leave.map(|leave| grant_of(key, by, leave));
        [of_record, given].into_iter().flatten().any(|grant| {
            grant.writer == by && grant.until_ms > now.0 && check_grant(&grant, &owner, rules.network).is_ok()
        })
    }

    /// Why a plain store of another name must not come in: it would be in its owner's way.
    pub(super) fn is_closed_to(&self, owner: NodeId, (rules, now): (Rules<'_>, WallMillis)) -> bool {
        self.accepted.is_some() && self.owner(now).is_some_and(|of| !rules.is_same(&of, &owner))
    }

    fn check_counter(&self, ballot: &Ballot, now: WallMillis) -> Result<(), BadBallot> {
        let skewed = now.0.saturating_add(VALUE_RECORD_SKEW.as_millis() as u64);
        let ceiling = self.promised.counter.saturating_add(BALLOT_LEAP_MAX).max(skewed);
        if ballot.counter > ceiling { Err(BadBallot::TooHigh) } else { Ok(()) }
    }

    /// The first round. A ballot is promised once: whoever asks again takes a higher one.
    pub(super) fn promise(&self, ballot: Ballot, now: WallMillis) -> Result<Self, BadBallot> {
        self.check_counter(&ballot, now)?;
        let is_anothers = self.promised != NO_BALLOT && self.promised.proposer != ballot.proposer;
        if ballot <= self.promised || is_anothers && planted(Mutant::PromisedForGood) {
            return Err(BadBallot::TooLow);
        }
        Ok(Self { promised: ballot, ..self.clone() })
    }

    /// The second round's ballot.
    pub(super) fn check_ballot(&self, ballot: &Ballot, now: WallMillis) -> Result<(), BadBallot> {
        self.check_counter(ballot, now)?;
        let is_kept = *ballot >= self.promised || planted(Mutant::PromiseNotKept);
        if is_kept { Ok(()) } else { Err(BadBallot::TooLow) }
    }

    /// The second round, whose ballot was checked. `plain` is what is kept of keys that were never decided.
    pub(super) fn accept(
        &self,
        proposal: Proposal<'_>,
        plain: &State,
        (rules, now): (Rules<'_>, Now),
    ) -> Result<Self, Reason> {
        if !has_room(&proposal.state) {
            return Err(Reason::OverQuota);
        }
        if proposal.state.values().any(|cell| cell.value.len() > VALUE_LEN_MAX) {
            return Err(Reason::OverQuota);
        }
        let by = (&proposal.key, proposal.leave);
        let is_admitted = self.admits(proposal.ballot.proposer, by, (rules, now.wall));
        let is_base = self.accepted == proposal.base && (self.is_settled || self.accepted.is_none());
        if !self.may_follow(&proposal.members, is_base) || !is_admitted && !self.is_refresh(&proposal) {
            return Err(Reason::NotAllowed);
        }
        if is_base {
            let changed = self.check_changes(&proposal, plain, (rules, now))?;
            if changed > 0 && !is_admitted {
                return Err(Reason::NotAllowed);
            }
        } else {
            self.check_signatures(&proposal.state, rules.network)?;
        }
        let mut next = Self {
            promised: proposal.ballot.max(self.promised),
            accepted: Some(proposal.ballot),
            is_settled: true,
            members: proposal.members,
            cells: BTreeMap::new(),
        };
        for (key, cell) in proposal.state {
            let held = self.cells.get(&key).filter(|held| is_base && held.cell.lease == cell.lease);
            let held = match held {
                Some(held) => Held { lease_ends: held.lease_ends, cell },
                None => Held::new(cell, now.instant),
            };
            next.cells.insert(key, held);
        }
        Ok(next)
    }

    /// Whether a state may be accepted under these members.
    fn may_follow(&self, members: &Members, is_base: bool) -> bool {
        let is_from_here = match self.accepted {
            _ if !is_base => true,
            None => members.are_first(),
            Some(_) => members.can_follow(&self.members),
        };
        members.is_small_step() && is_from_here
    }

    /// Whether a member brings on what was accepted, though it may not write it: it was promised that (`holder/decide`).
    fn is_refresh(&self, proposal: &Proposal<'_>) -> bool {
        let by = proposal.ballot.proposer;
        self.members.contains(&by) && self.promised == proposal.ballot && self.accepted <= proposal.base
    }

    /// What others have accepted must at least be what its writers signed.
    pub(super) fn check_signatures(&self, state: &State, network: &Network) -> Result<(), Reason> {
        let is_held = |key: &Vec<u8>, cell: &Cell| {
            self.cells
                .get(key)
                .is_some_and(|held| held.cell.record == cell.record && held.cell.value == cell.value)
        };
        for (_, cell) in state.iter().filter(|(key, cell)| !is_held(key, cell)) {
            if let Some(record) = cell.record() {
                check_signed(&record, cell.value(), network).map_err(reason_of)?;
            }
        }
        Ok(())
    }

    fn check_changes(
        &self,
        proposal: &Proposal<'_>,
        plain: &State,
        (rules, now): (Rules<'_>, Now),
    ) -> Result<usize, Reason> {
        let is_there = |key: &Vec<u8>| proposal.state.contains_key(key);
        let is_lost = |(key, held): (&Vec<u8>, &Held)| !is_there(key) && !is_dead(held, now);
        if self.cells.iter().any(is_lost) {
            return Err(Reason::NotAllowed);
        }
        let nothing = Held { cell: Cell::default(), lease_ends: Instant::ZERO };
        let (mut changed, mut owner) = (0, self.owner(now.wall));
        for (key, cell) in &proposal.state {
            let kept = plain.get(key).map(|cell| Held { cell: cell.clone(), lease_ends: Instant::ZERO });
            let held = self.cells.get(key).or(kept.as_ref()).unwrap_or(&nothing);
            if held.cell.is_same(cell) {
                continue;
            }
            changed += 1;
            let change = Change { held, cell, key, proposal };
            change.check((rules, now))?;
            if let Some(record) = cell.record().filter(|_| held.cell.record != cell.record)
                && !rules.is_same(owner.get_or_insert(record.fields.owner), &record.fields.owner)
            {
                return Err(Reason::NotAllowed);
            }
        }
        if changed > CHANGES_MAX { Err(Reason::OverQuota) } else { Ok(changed) }
    }
}

/// Whether nothing of a cell is left that anybody could miss.
pub(super) fn is_dead(held: &Held, now: Now) -> bool {
    held.cell.live_record(now.wall).is_none() && !held.is_leased(now.instant)
}

/// What a proposal changes of a key.
struct Change<'a> {
    held: &'a Held,
    cell: &'a Cell,
    key: &'a [u8],
    proposal: &'a Proposal<'a>,
}

impl Change<'_> {
    fn check(&self, (rules, now): (Rules<'_>, Now)) -> Result<(), Reason> {
        let by = self.proposal.ballot.proposer;
        let leave = self.proposal.leave.filter(|_| self.proposal.key.bytes() == self.key);
        let leave = leave.map(|leave| grant_of(&self.proposal.key, by, leave));
        // Of the other names each record brings its own.
        let leave = leave.or_else(|| self.cell.record().and_then(|record| record.grant));
        if !may_write(by, Some(&self.held.cell), leave, (rules, now.wall)) {
            return Err(Reason::NotAllowed);
        }
        if self.held.cell.lease != self.cell.lease {
            self.check_lease(by, now.instant)?;
        }
        if self.held.cell.record != self.cell.record || self.held.cell.value != self.cell.value {
            self.check_value(by, (rules, now))?;
        }
        Ok(())
    }

    fn check_lease(&self, by: NodeId, now: Instant) -> Result<(), Reason> {
        let Some(new) = self.cell.lease else { return Err(Reason::NotAllowed) };
        if new.holder != by || self.cell.left_ms > LEASE_MAX.as_millis() as u64 {
            return Err(Reason::NotAllowed);
        }
        match self.held.cell.lease {
            // Renewed or given back: it may be over, as long as nobody else has taken it.
            Some(LeaseRow { holder, token, until_ms }) if holder == by && token == new.token => {
                if until_ms == 0 { Err(Reason::StaleToken) } else { Ok(()) }
            }
            _ if self.held.is_leased(now) => Err(Reason::Leased),
            before => {
                let floor = before.map_or(0, |before| before.token);
                let is_token = new.token == self.proposal.ballot.counter && new.token > floor;
                if is_token && new.until_ms != 0 { Ok(()) } else { Err(Reason::StaleToken) }
            }
        }
    }

    fn check_value(&self, by: NodeId, (rules, now): (Rules<'_>, Now)) -> Result<(), Reason> {
        let Some(record) = self.cell.record() else { return Err(Reason::NotAllowed) };
        let before = self.held.cell.record();
        if before.is_some_and(|before| record.fields.sequence <= before.fields.sequence) {
            return Err(Reason::StaleSequence);
        }
        let is_owner_same = self.held.cell.live_record(now.wall);
        if is_owner_same.is_some_and(|before| !rules.is_same(&before.fields.owner, &record.fields.owner))
            || record.fields.writer != by
        {
            return Err(Reason::NotAllowed);
        }
        let is_leased = self.held.is_leased(now.instant);
        check_token(self.held.cell.lease, is_leased, (record.fields.token, by))?;
        check_time(&record, now.wall).map_err(reason_of)?;
        check_signed(&record, self.cell.value(), rules.network).map_err(reason_of)
    }
}

/// Whether a write with this token may come after this lease. `is_leased`: it has not ended.
pub(super) fn check_token(
    lease: Option<LeaseRow>,
    is_leased: bool,
    (token, writer): (u64, NodeId),
) -> Result<(), Reason> {
    if planted(Mutant::TokenNotCompared) {
        return Ok(());
    }
    match lease {
        Some(lease) if token == lease.token && writer == lease.holder && lease.until_ms != 0 => Ok(()),
        Some(_) if is_leased && token == 0 => Err(Reason::Leased),
        _ if token == 0 => Ok(()),
        _ => Err(Reason::StaleToken),
    }
}
