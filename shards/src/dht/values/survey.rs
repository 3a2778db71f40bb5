//! A survey: what the holders of a register have accepted, without promising anything.
//!
//! In:    the holders, what they tell.
//! Out:   questions; the newest state, and whether a majority has accepted it.
//! Holds: what nobody signed is not counted. A state that a majority accepted under one ballot is decided: a survey that ends with it is a read that no later
//!        read contradicts. A holder that is not settled takes the newest state that a majority of the others tell.
//!
//! spec: p2p/survey

use std::collections::BTreeMap;

use dunlin_codec::args::{Ack, Ballot, Promise, Request, Store, StoreOptions};
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::Key;

use super::asking::Asking;
use super::check::check_signed;
use super::register::NO_BALLOT;
use super::state::{Cell, State, read_state};
use super::{Answer, Question, SMALL_LEN_MAX, address, encode, majority};

/// What a holder told of a register.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) promised: Ballot,
    pub(super) accepted: Option<Ballot>,
    pub(super) is_settled: bool,
    pub(super) state: State,
}

/// What a promise says.
pub(super) fn read_promise(answer: &Answer) -> Option<Told> {
    match Ack::parse(&answer.payload).ok().filter(|_| answer.is_ack)? {
        Ack::Stored(_, Some(Promise { promised, accepted, is_settled, rows })) => {
            Some(Told { promised, accepted, is_settled, state: read_state(&rows) })
        }
        _ => None,
    }
}

impl Told {
    /// Whether every record in it was signed. What another has told as well was looked at before.
    pub(super) fn is_signed<'a>(
        &self,
        network: &Network,
        others: impl Iterator<Item = &'a Told> + Clone,
    ) -> bool {
        self.state.iter().all(|(key, cell)| {
            let is_same = |told: &Told| told.state.get(key).is_some_and(|other| other.is_same(cell));
            let signed = |record| check_signed(&record, cell.value(), network).is_ok();
            others.clone().any(is_same) || cell.record().is_none_or(signed)
        })
    }
}

/// The newest accepted ballot of those told, its state, and how many have accepted it. What is left of a lease is the most
/// that any of them says.
pub(super) fn newest<'a>(told: impl Iterator<Item = &'a Told> + Clone) -> (Option<Ballot>, State, usize) {
    let accepted = told.clone().filter_map(|told| told.accepted).max();
    let (mut state, mut count) = (State::new(), 0);
    for one in told.filter(|told| accepted.is_some() && told.accepted == accepted) {
        count += 1;
        for (key, cell) in &one.state {
            let known: &mut Cell = state.entry(key.clone()).or_insert_with(|| cell.clone());
            known.left_ms = known.left_ms.max(cell.left_ms);
        }
    }
    (accepted, state, count)
}

/// What a survey found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Surveyed {
    /// The newest accepted ballot; none: nothing was decided yet.
    pub accepted: Option<Ballot>,
    /// Its state.
    pub state: State,
    /// A majority has accepted it, or has never accepted anything.
    pub is_decided: bool,
}

/// A survey under way.
#[derive(Debug)]
pub struct Survey {
    arguments: Vec<u8>,
    network: Network,
    asking: Asking,
    told: BTreeMap<NodeId, Told>,
    quorum: usize,
    majority: usize,
}

impl Survey {
    /// Asks these holders about the register of a key.
    ///
    /// # Panics
    /// When `key` is none.
    #[must_use]
    pub fn new((key, network): (&[u8], Network), holders: impl IntoIterator<Item = NodeId>) -> Self {
        let asking = Asking::new(holders);
        let quorum = majority(asking.left());
        Self::with_quorum((key, network), asking, (quorum, quorum))
    }

    /// Asks all holders but `own`, which is not settled, for [`super::Holder::on_settled`]; `key` as `Action::Settle` says.
    #[must_use]
    pub fn to_settle((key, network): (&[u8], Network), own: &NodeId, holders: &[NodeId]) -> Self {
        let asking = Asking::new(holders.iter().filter(|holder| *holder != own).copied());
        let majority = majority(asking.left() + 1);
        let quorum = majority.min(asking.left());
        Self::with_quorum((key, network), asking, (quorum, majority))
    }

    fn with_quorum(
        (key, network): (&[u8], Network),
        asking: Asking,
        (quorum, majority): (usize, usize),
    ) -> Self {
        let key = Key::parse(key).ok().flatten().expect("the caller has a key");
        let options = StoreOptions { prepare: Some(NO_BALLOT), ..StoreOptions::default() };
        let store = Store { address: address(&key), key, value: Encoded::NIL, options };
        let arguments = encode(SMALL_LEN_MAX, |out| Request::Store(store).write(out));
        Self { arguments, network, asking, told: BTreeMap::new(), quorum, majority }
    }

    /// The next holder to be asked.
    pub fn poll_question(&mut self) -> Option<Question> {
        let (number, to) = self.asking.next()?;
        Some(Question { number, to, operation: Operation::Store, arguments: self.arguments.clone() })
    }

    /// A holder answered.
    pub fn on_answer(&mut self, number: u64, answer: &Answer) {
        if let Some(from) = self.asking.end(number)
            && let Some(told) = read_promise(answer)
            && told.is_signed(&self.network, self.told.values())
        {
            self.told.insert(from, told);
        }
    }

    /// A holder did not answer.
    pub fn on_failure(&mut self, number: u64) {
        self.asking.end(number);
    }

    /// Nobody is left to be asked or to answer.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.asking.is_over()
    }

    /// What was found, once a majority has told; none at the end: too few did.
    #[must_use]
    pub fn outcome(&self) -> Option<Surveyed> {
        let (accepted, state, count) = newest(self.told.values());
        let never = self.told.values().filter(|told| told.accepted.is_none()).count();
        let count = if accepted.is_none() { never } else { count };
        let is_decided = count >= self.majority;
        let is_enough = self.told.len() >= self.quorum && (is_decided || self.is_over());
        is_enough.then_some(Surveyed { accepted, state, is_decided })
    }
}
