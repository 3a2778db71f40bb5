//! A survey: what the holders of a register have accepted, without promising anything.
//!
//! In:    the holders, what they tell.
//! Out:   questions, to the members that they name as well; the newest state, and whether a majority has accepted it.
//! Holds: what nobody signed is not counted. A state that a majority of its members accepted is decided: a survey that ends with it is a read that no later
//!        read contradicts. A holder that is not settled takes the newest state that a majority of the others tell.
//!
//! spec: p2p/survey

use std::collections::BTreeMap;

use dunlin_codec::args::{Ack, Ballot, Promise, Request, Store, StoreOptions};
use dunlin_codec::ids::{Address, NodeId};
use dunlin_codec::label::Network;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::Key;

use super::asking::Asking;
use super::check::check_signed;
use super::members::{Camp, Holders, Members, Standing, is_majority};
use super::register::NO_BALLOT;
use super::state::{State, read_state};
use super::{Answer, Question, SMALL_LEN_MAX, address, encode};

/// What a holder told of a register.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) promised: Ballot,
    pub(super) accepted: Option<Ballot>,
    pub(super) is_settled: bool,
    pub(super) state: State,
    pub(super) members: Members,
}

/// What a promise says.
pub(super) fn read_promise(answer: &Answer) -> Option<Told> {
    match Ack::parse(&answer.payload).ok().filter(|_| answer.is_ack)? {
        Ack::Stored(_, Some(Promise { promised, accepted, is_settled, rows, members })) => {
            let (state, members) = (read_state(&rows), Members::read(members));
            Some(Told { promised, accepted, is_settled, state, members })
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

/// What a survey found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Surveyed {
    /// The newest accepted ballot; none: nothing was decided yet.
    pub accepted: Option<Ballot>,
    /// Its state.
    pub state: State,
    /// Under whom it was accepted.
    pub members: Members,
    /// A majority has accepted it, or has never accepted anything.
    pub is_decided: bool,
}

/// A survey under way.
#[derive(Debug)]
pub struct Survey {
    arguments: Vec<u8>,
    place: Address,
    network: Network,
    asking: Asking,
    told: BTreeMap<NodeId, Told>,
    holders: Holders,
    /// Who is not asked, since it wants to know.
    own: Option<NodeId>,
}

impl Survey {
    /// Asks these holders about the register of a key.
    ///
    /// # Panics
    /// When `key` is none.
    #[must_use]
    pub fn new(key: (&[u8], Network), holders: Holders) -> Self {
        Self::by(key, (holders, None))
    }

    /// Asks all holders but `own`, which is not settled, for [`super::Holder::on_settled`]; `key` as `Action::Settle` says.
    #[must_use]
    pub fn to_settle(key: (&[u8], Network), own: &NodeId, holders: Holders) -> Self {
        Self::by(key, (holders, Some(*own)))
    }

    fn by((key, network): (&[u8], Network), (holders, own): (Holders, Option<NodeId>)) -> Self {
        let asking = Asking::new(holders.found.iter().filter(|holder| Some(**holder) != own).copied());
        let key = Key::parse(key).ok().flatten().expect("the caller has a key");
        let options = StoreOptions { prepare: Some(NO_BALLOT), ..StoreOptions::default() };
        let place = address(&key);
        let store = Store { address: place, key, value: Encoded::NIL, options };
        let arguments = encode(SMALL_LEN_MAX, |out| Request::Store(store).write(out));
        Self { arguments, place, network, asking, told: BTreeMap::new(), holders, own }
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
            let own = self.own;
            let needed = self.standing().needed;
            let members = needed.iter().flat_map(Members::iter).filter(|member| Some(*member) != own);
            self.asking.also(members);
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

    fn standing(&self) -> Standing {
        Standing::of(self.told.iter().map(|(from, told)| (*from, told)), &self.holders.found)
    }

    /// What was found, once a majority has told; none at the end: too few did.
    #[must_use]
    pub fn outcome(&self) -> Option<Surveyed> {
        let has_told = |id: &NodeId| self.told.contains_key(id);
        let is_own = |id: &NodeId| Some(*id) == self.own;
        let found = &self.holders.found;
        // Of two holders one can be asked by the other, and that is all that can be.
        let is_enough = is_majority(found, has_told)
            || self.is_over() && found.iter().all(|id| has_told(id) || is_own(id));
        let Standing { base, is_decided, .. } = self.standing();
        let Some(base) = base else {
            let around = self.holders.all_around(&self.place, self.told.values());
            let is_decided = self.is_over() && is_majority(&around, has_told);
            let nothing =
                Surveyed { accepted: None, state: State::new(), members: Members::default(), is_decided };
            return (is_enough && self.is_over()).then_some(nothing);
        };
        let Camp { accepted, state, members, .. } = base;
        let surveyed = Surveyed { accepted: Some(accepted), state, members, is_decided };
        (is_enough && (is_decided || self.is_over())).then_some(surveyed)
    }
}
