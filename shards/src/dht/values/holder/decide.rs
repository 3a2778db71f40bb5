//! Decisions, the holder's side: promises and accepted states, each on disk before it is told.
//!
//! In:    `prepare` and `accept` of a STORE; what a majority told a holder that had just come.
//! Out:   promises, acknowledgements, refusals.
//! Holds: a key that was decided once is written by decisions only; whoever may not write it is promised nothing.
//!
//! A holder that has accepted nothing tells instead whom it remembers around the place: they may have.
//!
//! A holder without a register may have come after others decided. It promises all the same, and says that it is not
//! settled: proposers count it only where nobody else is left to wait for. A state that a proposer brings, made from what a
//! majority had told it, settles the holder; so does what it reads from a majority itself.
//!
//! spec: p2p/decisions

use std::collections::BTreeSet;

use dunlin_codec::args::{
    Ack, Ballot, Found, MEMBERS_MAX, Metadata, Nack, Promise, Reason, Row, Store, StoreNack,
};
use dunlin_codec::ids::NodeId;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{Key, NOBODY};

use super::super::check::{Rules, address};
use super::super::durable::{RegisterRow, register_row, without_value};
use super::super::members::Members;
use super::super::quota::Charge;
use super::super::register::{BadBallot, NO_BALLOT, Proposal, Register, grant_of, is_dead, may_write};
use super::super::state::{Cell, State, has_room, read_state, scope_of, with_rows, written_len_max};
use super::super::survey::Surveyed;
use super::super::{Answer, Asker, SMALL_LEN_MAX};
use super::{Entry, Event, Holder, Open, Staged, Step, kept_answer, refusal};
use crate::limits::{LEASE_MAX, PROMISE_KEEPS_AWAY, REFRESH_QUIET};
use crate::time::{Instant, Now};

/// Bytes that a register is charged with besides its cells.
const REGISTER_LEN: usize = 128;

/// Keys, and what happened to their values.
type Events = Vec<(Vec<u8>, Event)>;

/// A register that is kept.
#[derive(Clone, Debug)]
pub(super) struct KeptRegister {
    pub(super) register: Register,
    /// When it was promised or accepted last.
    pub(super) touched_at: Instant,
    /// Whoever was promised something may go on with it.
    is_open: bool,
    /// When its values were stored elsewhere last.
    pub(super) told_at: Instant,
    /// When it may read the others because nothing has settled it.
    pub(super) settle_at: Option<Instant>,
    pub(super) charge: Charge,
}

/// A register as it is once it is durable.
#[derive(Debug)]
pub(super) struct StagedRegister {
    scope: Vec<u8>,
    pub(super) kept: KeptRegister,
    /// What changed.
    events: Events,
}

fn too_low(promised: Ballot, metadata: Option<Metadata<'_>>) -> Answer {
    let promised = Some(promised);
    Answer::nack(&Nack::Store(StoreNack { reason: Reason::BallotTooLow, metadata, promised }))
}

fn refuse_ballot(bad: &BadBallot, promised: Ballot) -> Step {
    Step::Answer(match bad {
        BadBallot::TooLow => too_low(promised, None),
        BadBallot::TooHigh => refusal(Reason::NotAllowed, None),
    })
}

/// `around`: whom the holder knows there, told of a register that was never decided here.
fn promise_answer(key: Key<'_>, register: &Register, (state, around): (&State, &Members)) -> Answer {
    let metadata = Metadata::default();
    let found = Found { key, value: Encoded::NIL, metadata };
    let members = if register.accepted.is_some() { &register.members } else { around };
    with_promise((state, register, members), |promise| {
        Answer::ack(&Ack::Stored(found, Some(promise)), SMALL_LEN_MAX + written_len_max(state))
    })
}

/// Runs `then` with what is promised and told of a register.
fn with_promise<R>(
    (state, register, members): (&State, &Register, &Members),
    then: impl FnOnce(Promise<'_>) -> R,
) -> R {
    let Register { promised, accepted, is_settled, .. } = *register;
    members.with_row(|members| {
        with_rows(state, |rows| then(Promise { promised, accepted, is_settled, rows, members }))
    })
}

impl Holder {
    /// A key's cell where it was decided and something of it is left.
    pub(super) fn decided(&self, now: Now, key: &Key<'_>) -> Option<Cell> {
        let kept = self.registers.get(&scope_of(key))?;
        let held = kept.register.cells.get(key.bytes()).filter(|held| !is_dead(held, now))?;
        kept.register.accepted?;
        let is_live = held.cell.live_record(now.wall).is_some();
        let bare = Cell { lease: held.cell.lease, ..Cell::default() };
        Some(if is_live { held.cell.clone() } else { bare })
    }

    /// Why a plain store of the key is kept away.
    pub(super) fn away(&mut self, now: Now, store: &Store<'_>) -> Option<Answer> {
        let rules = Rules { network: &self.setup.network, kin: &self.kin };
        let kept = self.registers.get_mut(&scope_of(&store.key))?;
        let held = kept.register.cells.get(store.key.bytes());
        if let (Some(held), Some(_)) = (held, kept.register.accepted) {
            let record = held.cell.record();
            if record.is_some() && record == store.options.record {
                // Another holder stores it again: it need not be done twice.
                kept.told_at = now.instant;
                return Some(kept_answer(store.key, held.cell.metadata()));
            }
            if !is_dead(held, now) {
                return Some(too_low(kept.register.promised, Some(held.cell.metadata())));
            }
        }
        let owner = store.options.record.map_or(NOBODY, |record| record.fields.owner);
        if kept.register.is_closed_to(owner, (rules, now.wall)) {
            return Some(refusal(Reason::NotAllowed, None));
        }
        let is_alone = store.key.group().is_none();
        let is_fresh = now.instant.since(kept.touched_at) < PROMISE_KEEPS_AWAY;
        (is_alone && is_fresh && kept.is_open).then(|| refusal(Reason::Busy, None))
    }

    /// What is kept of keys that were never decided, where it was signed.
    fn plain_state<'k>(&self, now: Now, keys: impl Iterator<Item = &'k [u8]>) -> State {
        let is_told = |entry: &&Entry| entry.is_live(now.wall) && !entry.is_cache && entry.record.is_some();
        let cell = |entry: &Entry| Cell {
            value: entry.value.clone(),
            record: entry.record.clone(),
            ..Cell::default()
        };
        let told = keys.filter_map(|key| Some((key.to_vec(), cell(self.plain.get(key).filter(is_told)?))));
        told.collect()
    }

    /// First round.
    pub(super) fn prepare(&mut self, now: Now, asker: Asker, (store, ballot): (&Store<'_>, Ballot)) -> Step {
        let scope = &scope_of(&store.key);
        if store.options.is_over {
            return Step::Answer(self.give_back(scope, asker, (store, ballot)));
        }
        let may_refresh = self.may_refresh(now, scope, asker.peer);
        let register = self.registers.get(scope).map(|kept| &kept.register);
        let others = store.options.keys.iter().flat_map(|keys| keys.iter().map(|key| key.bytes()));
        let keys: Vec<&[u8]> = core::iter::once(store.key.bytes()).chain(others).collect();
        let mut state = self.plain_state(now, keys.iter().copied());
        state.extend(register.map(|register| register.state(now.instant)).unwrap_or_default());
        if !has_room(&state) {
            return Step::Answer(refusal(Reason::OverQuota, None));
        }
        let new = Register::default();
        let register = register.unwrap_or(&new);
        let around = self.around(store, register);
        if ballot.counter == 0 {
            return Step::Answer(promise_answer(store.key, register, (&state, &around)));
        }
        let leave = store.options.grant.map(|leave| grant_of(&store.key, asker.peer, leave));
        let rules = (self.rules(), now.wall);
        let mut all = keys.iter();
        // Whoever has leave for one name of a group may begin; what is written is held against the leave for each name.
        let may = |key: &&[u8]| may_write(asker.peer, state.get(*key), leave, rules);
        let is_admitted = register.admits(asker.peer, (&store.key, store.options.grant), rules);
        let may_prepare = may_refresh || is_admitted && all.all(may);
        if ballot.proposer != asker.peer || !may_prepare {
            return Step::Answer(refusal(Reason::NotAllowed, None));
        }
        if asker.peer != self.setup.own && !self.pace.take(now.instant, asker.peer) {
            return Step::Answer(refusal(Reason::Busy, None));
        }
        match register.promise(ballot, now.wall) {
            Err(bad) => refuse_ballot(&bad, register.promised),
            Ok(next) => {
                let answer = promise_answer(store.key, &next, (&state, &around));
                self.stage(now, (asker.peer, Some(asker)), (scope, next, Vec::new()), answer)
            }
        }
    }

    /// Whom the node remembers around the place of a register of which it cannot tell anything itself.
    fn around(&self, store: &Store<'_>, register: &Register) -> Members {
        if register.accepted.is_some() {
            return Members::default();
        }
        Members::around(&self.known.around(&address(&store.key), MEMBERS_MAX))
    }

    /// Whether a member may bring on what was accepted to others, though it may not write it: not before the register has been quiet for
    /// a while, and not twice in a row.
    // spec: p2p/refresh
    fn may_refresh(&self, now: Now, scope: &[u8], by: NodeId) -> bool {
        let Some(kept) = self.registers.get(scope) else { return false };
        let is_anothers = kept.register.accepted.is_some_and(|accepted| accepted.proposer != by);
        let is_quiet = now.instant.since(kept.touched_at) >= REFRESH_QUIET;
        is_anothers && is_quiet && kept.register.members.contains(&by)
    }

    /// Whoever prepared does not go on. Only memory knows: what was promised stays promised.
    // spec: p2p/promise-given-back
    fn give_back(&mut self, scope: &[u8], asker: Asker, (store, ballot): (&Store<'_>, Ballot)) -> Answer {
        if let Some(kept) = self.registers.get_mut(scope)
            && kept.register.promised == ballot
            && ballot.proposer == asker.peer
        {
            kept.is_open = false;
        }
        kept_answer(store.key, Metadata::default())
    }

    /// Second round.
    pub(super) fn accept(&mut self, now: Now, asker: Asker, (store, ballot): (&Store<'_>, Ballot)) -> Step {
        let scope = &scope_of(&store.key);
        let (Some(rows), Some(_)) = (store.options.rows, store.options.members) else {
            return Step::Answer(refusal(Reason::Malformed, None));
        };
        let members = Members::read(store.options.members);
        if ballot.proposer != asker.peer || ballot.counter == 0 {
            return Step::Answer(refusal(Reason::NotAllowed, None));
        }
        let state = read_state(&rows);
        let new = Register::default();
        let register = self.registers.get(scope).map_or(&new, |kept| &kept.register);
        if let Err(bad) = register.check_ballot(&ballot, now.wall) {
            return refuse_ballot(&bad, register.promised);
        }
        let plain = self.plain_state(now, state.keys().map(Vec::as_slice));
        let told = state.get(store.key.bytes()).cloned().unwrap_or_default();
        if register.accepted == Some(ballot) {
            let is_same = state
                .iter()
                .all(|(key, cell)| register.cells.get(key).is_some_and(|held| held.cell.is_same(cell)));
            let is_same = is_same && register.members == members;
            let answer = if is_same && state.len() == register.cells.len() {
                kept_answer(store.key, told.metadata())
            } else {
                refusal(Reason::NotAllowed, None)
            };
            return Step::Answer(answer);
        }
        let (key, leave) = (store.key, store.options.grant);
        let proposal = Proposal { ballot, base: store.options.base, state, members, key, leave };
        let checked = register.accept(proposal, &plain, (self.rules(), now));
        let checked = checked.and_then(|next| {
            self.leases.check(asker.peer, &next, now.instant)?;
            Ok(next)
        });
        match checked {
            Err(reason) => {
                let there = register.cells.get(store.key.bytes()).map(|held| held.cell.metadata());
                Step::Answer(refusal(reason, there))
            }
            Ok(next) => {
                let events = events(register, &next);
                let answer = kept_answer(store.key, told.metadata());
                self.stage(now, (asker.peer, Some(asker)), (scope, next, events), answer)
            }
        }
    }

    /// A register's next state, for the disk. Charged to whoever brought it.
    fn stage(
        &mut self,
        now: Now,
        (by, asker): (NodeId, Option<Asker>),
        (scope, register, events): (&[u8], Register, Events),
        answer: Answer,
    ) -> Step {
        let before = self.registers.get(scope);
        let len = REGISTER_LEN + scope.len() + register.len();
        let charge = Charge::new(by, asker.map(|asker| asker.from), len);
        if let Err(reason) = self.ledger.take(charge, before.map(|before| before.charge)) {
            return Step::Answer(refusal(reason, None));
        }
        let mut rows = vec![row_of(scope, &register, now.instant)];
        // What was plain is decided now.
        let was_plain =
            register.cells.keys().filter(|key| register.accepted.is_some() && self.plain.contains_key(*key));
        rows.extend(was_plain.map(|key| without_value(key)));
        let told_at = before.map_or(now.instant, |before| before.told_at);
        let settle_at = before.and_then(|before| before.settle_at);
        // What it reads of others promises nobody anything.
        let (touched_at, is_open) = match (asker, before) {
            (None, Some(before)) => (before.touched_at, before.is_open),
            _ => (now.instant, true),
        };
        let kept = KeptRegister { register, touched_at, is_open, told_at, settle_at, charge };
        let staged = StagedRegister { scope: scope.to_vec(), kept, events };
        Step::Write(Staged::Register(Box::new(staged)), rows, answer)
    }

    /// A register is on disk.
    pub(super) fn take_register(&mut self, now: Now, staged: StagedRegister) {
        let StagedRegister { scope, mut kept, events } = staged;
        if kept.register.accepted.is_some() {
            let keys: Vec<Vec<u8>> = kept.register.cells.keys().cloned().collect();
            keys.iter().for_each(|key| _ = self.forget(key));
        }
        let after = now.instant + crate::limits::SETTLE_AFTER;
        let is_settled = kept.register.is_settled;
        kept.settle_at = (!is_settled).then(|| kept.settle_at.unwrap_or(after));
        let before = self.registers.remove(&scope);
        if let Some(before) = &before {
            self.ledger.give_back(before.charge);
            self.leases.remove(&before.register);
        }
        self.leases.add(&kept.register);
        self.tell_leases(before.iter().map(|before| &before.register).chain([&kept.register]));
        self.registers.insert(scope, kept);
        let changed = events.into_iter().map(|(key, event)| super::Action::Changed { key, event });
        self.actions.extend(changed);
    }

    /// Whoever has or had a lease in one of these: the other shards count it as well.
    pub(super) fn tell_leases<'r>(&mut self, registers: impl Iterator<Item = &'r Register>) {
        let cells = registers.flat_map(|register| register.cells.values());
        let holders: BTreeSet<NodeId> = cells.filter_map(|held| Some(held.cell.lease?.holder)).collect();
        self.tell_leases_of(holders);
    }

    pub(super) fn tell_leases_of(&mut self, holders: BTreeSet<NodeId>) {
        let told = holders.into_iter().map(|holder| {
            let ends = self.leases.ends_of(&holder);
            super::Action::Leased { holder, ends }
        });
        self.actions.extend(told);
    }

    /// What an identity has leased of another shard of ours.
    pub fn on_leased_elsewhere(&mut self, shard: u8, holder: NodeId, ends: Box<[Instant]>) {
        self.leases.on_elsewhere(shard, holder, ends);
    }

    /// What a majority of the other holders told a holder that was not settled: the newest accepted ballot and its state.
    ///
    /// What is older than a ballot that it has promised it must not accept any more: then only a decision settles it.
    pub fn on_settled(&mut self, now: Now, scope: &[u8], surveyed: &Surveyed) {
        let Surveyed { accepted, ref state, ref members, .. } = *surveyed;
        let before = self.registers.get(scope).map(|kept| kept.register.clone()).unwrap_or_default();
        if before.is_settled || self.lines.is_held(scope) || self.is_behind() || !has_room(state) {
            return;
        }
        let mut next = before.clone();
        next.is_settled = true;
        if accepted.is_some_and(|accepted| accepted < before.promised) {
            return;
        }
        let is_of_scope =
            |key: &Vec<u8>| Key::parse(key).ok().flatten().is_some_and(|key| scope_of(&key) == scope);
        if accepted > next.accepted && state.keys().all(is_of_scope) {
            if next.check_signatures(state, &self.setup.network).is_err() {
                return;
            }
            next.accepted = accepted;
            next.members = members.clone();
            next.promised = next.promised.max(accepted.unwrap_or(NO_BALLOT));
            next.adopt(state.clone(), now.instant);
        }
        let events = events(&before, &next);
        let nobody = refusal(Reason::Busy, None);
        let by = self.setup.own;
        if let Step::Write(staged, rows, _) = self.stage(now, (by, None), (scope, next, events), nobody) {
            self.lines.hold(scope);
            self.write(rows, Open { scope: Some(scope.to_vec()), to: None, staged });
        }
    }

    /// What is on disk of a register. Leases last as long as any may: nobody knows how long we were away.
    pub(super) fn restore_register(&mut self, now: Now, row: &RegisterRow<'_>) {
        let Promise { promised, accepted, is_settled, rows, members } = row.promise;
        let mut register = Register::restored(promised, accepted, (is_settled, Members::read(members)));
        let left = |row: &Row<'_>| {
            let lasts = row.lease.is_some_and(|lease| lease.until_ms != 0);
            if lasts { LEASE_MAX.as_millis() as u64 } else { 0 }
        };
        let mut state = read_state(&rows);
        state.values_mut().zip(rows.iter()).for_each(|(cell, row)| cell.left_ms = left(&row));
        register.adopt(state, now.instant);
        let len = REGISTER_LEN + row.scope.len() + register.len();
        let charge = Charge::new(promised.proposer, None, len);
        self.ledger.restore(charge);
        self.leases.add(&register);
        let (touched_at, told_at) = (now.instant, now.instant);
        let settle_at = (!is_settled).then(|| now.instant + crate::limits::SETTLE_AFTER);
        let kept = KeptRegister { register, touched_at, is_open: true, told_at, settle_at, charge };
        self.registers.insert(row.scope.to_vec(), kept);
    }
}

/// A register's row.
fn row_of(scope: &[u8], register: &Register, now: Instant) -> super::DiskRow {
    let state = register.state(now);
    with_promise((&state, register, &register.members), |promise| {
        register_row(scope, &promise, written_len_max(&state))
    })
}

/// What values changed.
fn events(before: &Register, after: &Register) -> Events {
    let changed = after.cells.iter().filter(|(key, held)| {
        let there = before.cells.get(*key).map(|held| &held.cell.record);
        held.cell.record.is_some() && there != Some(&held.cell.record)
    });
    let event = |cell: &Cell| if cell.value().is_nil() { Event::Delete } else { Event::Update };
    changed.map(|(key, held)| (key.clone(), event(&held.cell))).collect()
}
