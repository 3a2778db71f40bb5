//! A decision: a majority of the holders agrees on what a register holds (CASPaxos), in two rounds.
//!
//! In:    the holders, what is wished, their answers, time.
//! Out:   questions; done, refused, or unknown.
//! Holds: at most one accept goes out under a ballot, made from the newest state that a majority told. What is said to be done
//!        is on the disks of a majority. What is refused has happened nowhere, and never will. Everything else is unknown:
//!        read before trying again.
//!
//! Prepare goes to every holder; what comes back from a majority of settled holders (`holder/decide`) decides what to build on.
//! Where there are fewer, everybody is waited for, and those that are not settled count as well: that is how a register
//! begins, with most of those who may have begun it before (`members`). A condition that does not hold is refused at once when a
//! majority has accepted the state that it was held against, else that state is first brought to a majority: else a refusal could
//! tell of what never was.
//!
//! An accept that did not reach a majority is looked after. When the newest state is what was proposed, it is brought to a
//! majority. When it cannot have come from what was proposed, since a sequence has another record or a lease is as it was,
//! the edits are held against it anew. When others have gone on from there, nobody can tell.
//!
//! spec: p2p/decisions

mod edit;
mod round;

use core::time::Duration;

use dunlin_codec::args::{Ballot, Reason, Request, Rows, Store, StoreOptions};
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::Key;

use super::members::{Camp, Holders, Members, Standing, is_majority};
use super::state::{Cell, State, has_room, write_state, written_len_max};
use super::survey::{Told, read_promise};
use super::{Answer, GivenLeave, Question, SMALL_LEN_MAX, address, encode, majority};
use crate::identity::Identity;
use crate::identity::chain::Kin;
use crate::limits::{DECISION_ATTEMPTS_MAX, DECISION_PAUSE};
use crate::mutants::{Mutant, planted};
use crate::rng::Rng;
use crate::time::{Instant, Now};
use edit::{Author, apply};
use round::Round;

pub use edit::{Edit, Expectation, What};

/// Who decides, and on what terms.
#[derive(Clone, Debug)]
pub struct Proposer {
    /// Signs what is written.
    pub identity: Identity,
    /// The network.
    pub network: Network,
    /// Which keys became which: what we owned by another is ours.
    pub kin: Kin,
    /// Whose a key becomes that is nobody's yet.
    pub owner: NodeId,
    /// An owner's leave for each key that is not ours.
    pub leaves: Vec<GivenLeave>,
    /// The fencing token of the lease that is written under; 0: none.
    pub token: u64,
    /// How long what is written lasts.
    pub life: Duration,
}

/// How a decision ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decided {
    /// It is so, at a majority, on disk.
    Done {
        /// The register afterwards.
        state: State,
        /// The ballot's counter: the token of a lease that was acquired.
        token: u64,
        /// Until when a lease that was acquired or renewed may be relied on, by our own clock: 10 % early (T12).
        held_until: Instant,
    },
    /// It is not, and nothing has changed.
    Refused {
        /// Why.
        reason: Reason,
        /// What is there.
        state: State,
    },
    /// Nobody can tell: read before trying again.
    Unknown,
    /// Too few holders could be asked. Nothing has changed.
    Unreached,
}

/// The edited cells of a proposal, before and after, and when it was sent: a lease counts from then, however often it had to
/// be brought to a majority.
#[derive(Debug)]
struct Proposed {
    before: State,
    after: State,
    at: Instant,
}

impl Proposed {
    /// Whether a state cannot have come from this proposal: of one edited key there is still what was before, or another
    /// record under the sequence that ours would have. Sequences go up by one, and the tokens of leases never come back.
    fn is_refuted_by(&self, state: &State) -> bool {
        let sequence = |cell: &Cell| cell.record().map_or(0, |record| record.fields.sequence);
        self.after.iter().any(|(key, after)| {
            let (Some(before), Some(there)) = (self.before.get(key), state.get(key)) else { return false };
            let is_other = sequence(there) < sequence(after)
                || sequence(there) == sequence(after) && there.record != after.record;
            let is_value = after.record != before.record && is_other;
            is_value || after.lease != before.lease && there.lease == before.lease
        })
    }
}

/// What happens once an accept has reached a majority.
#[derive(Clone, Debug)]
enum Goal {
    Done,
    Refused(Reason),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Preparing,
    Accepting,
    Pausing(Instant),
    Over,
}

/// A decision under way.
#[derive(Debug)]
pub struct Decision {
    proposer: Proposer,
    holders: Holders,
    /// The key that names the register.
    key: Vec<u8>,
    edits: Vec<Edit>,
    /// The state is brought to whoever was found, unless they have it.
    is_refresh: bool,
    rng: Rng,
    now: Now,
    phase: Phase,
    round: Round,
    /// Of this round's questions.
    arguments: Vec<u8>,
    ballot: Ballot,
    /// The highest counter that was seen.
    highest: u64,
    attempts: u32,
    /// What is being accepted, and what it was made of.
    state: State,
    base: Option<Ballot>,
    /// Under whom.
    members: Members,
    goal: Goal,
    accept_at: Instant,
    /// What we proposed and may have been accepted somewhere.
    proposed: Vec<Proposed>,
    /// Why holders do not accept what we proposed, where trying again would be of no use.
    refused_for: Option<Reason>,
    outcome: Option<Decided>,
}

impl Decision {
    /// Decides `edits` of one register: of one key, or of several names of a group. None: only reads, as a writer may.
    ///
    /// # Panics
    /// When `key` is none.
    #[must_use]
    pub fn new(
        proposer: Proposer,
        holders: Holders,
        (key, edits): (Vec<u8>, Vec<Edit>),
        (now, rng): (Now, Rng),
    ) -> Self {
        assert!(Key::parse(&key).is_ok_and(|key| key.is_some()), "the caller has a key");
        let ballot = Ballot { counter: 0, proposer: proposer.identity.id() };
        let mut this = Self {
            proposer,
            holders,
            key,
            edits,
            is_refresh: false,
            rng,
            now,
            phase: Phase::Preparing,
            round: Round::default(),
            arguments: Vec::new(),
            ballot,
            highest: 0,
            attempts: 0,
            state: State::new(),
            base: None,
            members: Members::default(),
            goal: Goal::Done,
            accept_at: now.instant,
            proposed: Vec::new(),
            refused_for: None,
            outcome: None,
        };
        this.begin();
        this
    }

    /// Brings what was decided to these holders, as it is: for a member that notices that others are closest by now.
    ///
    /// # Panics
    /// When `key` is none.
    #[must_use]
    pub fn refresh(proposer: Proposer, holders: Holders, key: Vec<u8>, chance: (Now, Rng)) -> Self {
        Self { is_refresh: true, ..Self::new(proposer, holders, (key, Vec::new()), chance) }
    }

    /// The first round, with a ballot above all that were seen. The clock keeps counters, and so tokens, from going back
    /// after everybody has forgotten a register.
    fn begin(&mut self) {
        self.attempts += 1;
        self.highest = self.highest.saturating_add(1).max(self.now.wall.0);
        self.ballot.counter = self.highest;
        self.phase = Phase::Preparing;
        self.arguments = self.write_arguments();
        self.round.restart(self.holders.found.iter().copied());
        if self.holders.found.is_empty() {
            self.end(Decided::Unreached);
        }
    }

    /// Whoever was not asked to accept yet still is: it would lag. Where nobody was, and nobody is to be, those who have promised are told
    /// so: a promise keeps plain stores away.
    // spec: p2p/promise-given-back
    fn end(&mut self, outcome: Decided) {
        let was_accepting = core::mem::replace(&mut self.phase, Phase::Over) == Phase::Accepting;
        self.outcome = Some(outcome);
        if was_accepting {
            return;
        }
        let promised: Vec<NodeId> = self.round.told().map(|(from, _)| from).collect();
        self.round.restart([]);
        if self.proposed.is_empty() {
            self.arguments = self.write_arguments();
            self.round.restart(promised);
        }
    }

    fn write_arguments(&self) -> Vec<u8> {
        let key = Key::parse(&self.key).ok().flatten().expect("it was checked before");
        let leave = self.proposer.leave_for(&key);
        let grant = leave.as_ref().map(GivenLeave::leave);
        let write = |options: StoreOptions<'_>, len_max| {
            let store = Store { address: address(&key), key, value: Encoded::NIL, options };
            encode(SMALL_LEN_MAX + len_max, |out| Request::Store(store).write(out))
        };
        if self.phase == Phase::Accepting {
            let rows = write_state(&self.state);
            let rows = Encoded::parse(&rows).map(Rows::parse).expect("what was written reads back").ok();
            let (accept, base) = (Some(self.ballot), self.base);
            let options = StoreOptions { accept, base, rows, grant, ..StoreOptions::default() };
            let len_max = written_len_max(&self.state);
            return self.members.with_row(|members| write(StoreOptions { members, ..options }, len_max));
        }
        if self.phase == Phase::Over {
            let prepare = Some(self.ballot);
            return write(StoreOptions { prepare, is_over: true, ..StoreOptions::default() }, 0);
        }
        let others = edit::other_keys(&self.key, &self.edits);
        edit::with_keys(&others, |keys, len| {
            let prepare = Some(self.ballot);
            write(StoreOptions { prepare, keys, grant, ..StoreOptions::default() }, len)
        })
    }

    /// The next holder to be asked; there may be some after the outcome.
    pub fn poll_question(&mut self) -> Option<Question> {
        let (number, to) = self.round.next()?;
        Some(Question { number, to, operation: Operation::Store, arguments: self.arguments.clone() })
    }

    /// A holder answered.
    pub fn on_answer(&mut self, now: Now, number: u64, answer: &Answer) {
        self.now = now;
        let Some(from) = self.round.end(number) else { return };
        match self.phase {
            Phase::Preparing => match self.read_promise(answer) {
                Some(told) => self.round.on_promise(from, told),
                None => self.round.on_refusal(answer),
            },
            Phase::Accepting if answer.is_ack => self.round.on_accepted(from),
            Phase::Accepting => self.round.on_refusal(answer),
            Phase::Pausing(_) | Phase::Over => return,
        }
        self.highest = self.highest.max(self.round.highest());
        self.go_on();
    }

    /// What was promised to this ballot, with nothing in it that nobody signed.
    fn read_promise(&self, answer: &Answer) -> Option<Told> {
        let network = &self.proposer.network;
        let is_good =
            |told: &Told| told.promised == self.ballot && told.is_signed(network, self.round.promises());
        read_promise(answer).filter(is_good)
    }

    /// A holder did not answer.
    pub fn on_failure(&mut self, now: Now, number: u64) {
        self.now = now;
        if self.round.end(number).is_some() {
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        match self.phase {
            Phase::Preparing => self.conclude_prepare(),
            Phase::Accepting => self.conclude_accept(),
            Phase::Pausing(_) | Phase::Over => {}
        }
    }

    /// Goes on once those have promised whose word is needed: a majority of whoever was found, and of the members of what they tell,
    /// whom we ask as well. Where nobody tells of anything, everybody is waited for, and all that were heard of are counted.
    fn conclude_prepare(&mut self) {
        let mut standing = Standing::of(self.round.told(), &self.holders.found);
        self.round.also(standing.needed.iter().flat_map(Members::iter));
        let has_promised = |id: &NodeId| self.round.has_promised(id);
        if self.round.is_over() && !standing.has_heard(has_promised) {
            standing = Standing::of_plausible(self.round.told(), &self.holders, has_promised);
        }
        let around = if standing.base.is_none() { self.ask_around() } else { Vec::new() };
        let has_promised = |id: &NodeId| self.round.has_promised(id);
        let found = &self.holders.found;
        let settled =
            self.round.told().filter(|(from, told)| told.is_settled && found.contains(from)).count();
        let is_known = match &standing.base {
            Some(_) => standing.has_heard(has_promised),
            None => is_majority(&around, has_promised),
        };
        let is_enough = is_known && is_majority(found, has_promised);
        let is_clear = standing.base.as_ref().is_some_and(|base| !base.members.is_empty())
            || standing.base.is_some() && settled >= majority(found.len());
        if is_enough && (is_clear || self.round.is_over()) {
            return self.choose(standing);
        }
        let may_promise = |id: &NodeId| has_promised(id) || self.round.awaits(id);
        if is_majority(found, may_promise) && !self.round.is_over() {
            return;
        }
        match self.round.reason() {
            // Whoever may not write will not in a moment either.
            Some(reason @ (Reason::NotAllowed | Reason::OverQuota)) if self.proposed.is_empty() => {
                self.end(Decided::Refused { reason, state: State::new() });
            }
            _ => self.try_again(),
        }
    }

    /// Pauses, or gives up.
    fn try_again(&mut self) {
        if self.attempts >= DECISION_ATTEMPTS_MAX {
            let outcome = if self.proposed.is_empty() { Decided::Unreached } else { Decided::Unknown };
            return self.end(outcome);
        }
        let longest = DECISION_PAUSE * (1 << self.attempts.min(5));
        let pause = Duration::from_nanos(self.rng.below(longest.as_nanos() as u64));
        self.round.restart([]);
        self.phase = Phase::Pausing(self.now.instant + pause);
    }

    /// A majority has promised: what to have accepted.
    fn choose(&mut self, Standing { base, is_decided, .. }: Standing) {
        let is_decided = is_decided || base.is_none();
        let is_at_all = self.choose_members(base.as_ref(), is_decided);
        let (base, mut state) = base.map_or_else(Default::default, |base| (Some(base.accepted), base.state));
        edit::add_plain(&mut state, base, self.round.promises());
        let before = edit::cells_of(&state, &self.edits);
        let ours = self.proposed.iter().find(|proposed| edit::is_same(&proposed.after, &before));
        let is_refuted = self.proposed.iter().all(|proposed| proposed.is_refuted_by(&before));
        self.base = base;
        if let Some(at) = ours.map(|ours| ours.at) {
            self.accept(state, Goal::Done);
            self.accept_at = at;
            return;
        }
        if !is_refuted {
            return self.end(Decided::Unknown);
        }
        if self.edits.is_empty() {
            return match is_decided && (is_at_all || !self.is_refresh) {
                true => self.end_done(state),
                false => self.accept(state, Goal::Done),
            };
        }
        if let Some(reason) = self.refused_for {
            // A refusal tells nothing of a copy of the question that came earlier or comes later: only a higher ballot does.
            return self.accept(state, Goal::Refused(reason));
        }
        let author = Author { proposer: &self.proposer, ballot: self.ballot, now: self.now };
        let mut changed = state.clone();
        match apply(&mut changed, &self.edits, &author) {
            Err(reason) if is_decided && self.proposed.is_empty() => {
                self.end(Decided::Refused { reason, state });
            }
            Err(reason) => self.accept(state, Goal::Refused(reason)),
            Ok(()) if !has_room(&changed) => {
                self.accept(state, Goal::Refused(Reason::OverQuota));
            }
            Ok(()) => {
                let after = edit::cells_of(&changed, &self.edits);
                self.proposed.push(Proposed { before, after, at: self.now.instant });
                self.accept(changed, Goal::Done);
            }
        }
    }

    /// All who may have begun a register of which nobody tells.
    fn around(&self) -> Vec<NodeId> {
        let key = Key::parse(&self.key).ok().flatten().expect("it was checked before");
        self.holders.all_around(&address(&key), self.round.promises())
    }

    /// Where nobody tells of anything, all who may are counted, and those that the lookup did not ask are asked, too, if it takes them.
    fn ask_around(&mut self) -> Vec<NodeId> {
        let around = self.around();
        if self.round.is_over() && !is_majority(&around, |id| self.round.has_promised(id)) {
            self.round.also(around.iter().copied());
        }
        around
    }

    /// Under whom the next state is to be accepted; whether the one that is there has got to them all.
    fn choose_members(&mut self, base: Option<&Camp>, is_decided: bool) -> bool {
        let known = &self.holders.known;
        let has_promised = |id: &NodeId| self.round.has_promised(id);
        self.members = match base {
            None => Members::first(&self.around()),
            Some(camp) if is_decided || camp.members.is_empty() => camp.members.next(known, has_promised),
            Some(camp) => camp.members.clone(),
        };
        base.is_none_or(|camp| {
            camp.members == self.members && self.members.iter().all(|id| camp.is_told_by(&id))
        })
    }

    fn accept(&mut self, state: State, goal: Goal) {
        self.state = state;
        self.goal = goal;
        self.accept_at = self.now.instant;
        self.phase = Phase::Accepting;
        self.arguments = self.write_arguments();
        self.round.restart(self.members.iter());
    }

    fn end_done(&mut self, state: State) {
        let longest = self.edits.iter().map(Edit::lease_for).max().unwrap_or_default();
        let held_until = if planted(Mutant::LeaseKeptTooLong) {
            self.now.instant + longest * 2
        } else {
            self.accept_at + longest * 9 / 10
        };
        self.end(Decided::Done { state, token: self.ballot.counter, held_until });
    }

    fn conclude_accept(&mut self) {
        let has_accepted = |id: &NodeId| self.round.has_accepted(id);
        if self.members.are_enough(has_accepted) {
            let state = core::mem::take(&mut self.state);
            return match self.goal.clone() {
                Goal::Done => self.end_done(state),
                Goal::Refused(reason) => self.end(Decided::Refused { reason, state }),
            };
        }
        if self.members.are_enough(|id| has_accepted(id) || self.round.awaits(id)) {
            return;
        }
        let reason = self.round.reason().filter(|reason| is_final(*reason));
        if reason.is_some() && !self.round.is_begun() && !self.round.is_over() {
            // Perhaps it is everybody's reason.
            return;
        }
        if self.round.is_over() {
            self.refused_for = self.refused_for.or(reason);
        }
        self.try_again();
    }

    /// Nobody waits any longer.
    pub fn give_up(&mut self) {
        if self.outcome.is_none() {
            self.end(if self.proposed.is_empty() { Decided::Unreached } else { Decided::Unknown });
        }
    }

    /// Time has come for something.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        if matches!(self.phase, Phase::Pausing(until) if until <= now.instant) {
            self.begin();
        }
    }

    /// When `handle_timeout` is to be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        if let Phase::Pausing(until) = self.phase { Some(until) } else { None }
    }

    /// How it ended.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Decided> {
        self.outcome.as_ref()
    }
}

/// Whether trying again with a higher ballot would be of no use.
const fn is_final(reason: Reason) -> bool {
    !matches!(reason, Reason::BallotTooLow | Reason::Busy | Reason::StaleSequence | Reason::Mismatch)
}
