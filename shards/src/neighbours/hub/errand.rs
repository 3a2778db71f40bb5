//! Errands: what a node is asked, over whatever session there is or one that is opened for it.
//!
//! In:    a peer, where it is, why.
//! Out:   a question; afterwards a changed table, and a search that goes on, or word for the application.
//! Holds: each errand ends once: by an answer, by none, or with its session or call; at most [`ERRANDS_MAX`] at once.

use core::net::SocketAddr;

use dunlin_codec::args::{Ack, Request, SetOption};
use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::{NodeId, SessionId};
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;

use super::relay::Letter;
use super::{Goal, Hub, Notice};
use crate::dht::contact::Heard;
use crate::dht::space::Space;
use crate::event::{CloseReason, Ticket};
use crate::limits::{CALL_WAIT_MAX, ERRANDS_MAX, REQUEST_TIMEOUT};
use crate::neighbours::Failure;
use crate::note::{Note, Question};
use crate::outcome::{AskError, Farewell, Outcome};
use crate::time::Instant;

/// The setting of option 3: true.
const LINK_TRUE: [u8; 1] = [0xc3];

/// Why a node is asked.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// For its own record; the application may want to know how that went.
    Introduce(Option<Ticket>),
    /// Whether it is there.
    Ping,
    /// For what is close to a search's place.
    Search(u64),
    /// To let a session of its be a link.
    Link,
    /// Whether it is there, so that a link stays alive.
    KeepLink,
    /// To give it a letter on its way.
    Carry(Letter),
    /// To follow the change of our key.
    KeyChange,
    /// For the application.
    Application(Ticket, Question),
    /// For a job with values.
    Value {
        /// The job.
        job: u64,
        /// Its own number for the question.
        number: u64,
        /// STORE or FIND_VALUE.
        question: Question,
    },
}

/// A question to one node.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) peer: NodeId,
    /// Where it must be asked; none: wherever it is.
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) purpose: Purpose,
    /// It was under way when its session ended, and is on its way again.
    pub(super) is_again: bool,
    /// Nobody answered where its node should be, and it was looked for under another key.
    pub(super) is_traced: bool,
    pub(super) until: Instant,
}

/// A session that is being opened, and what for.
#[derive(Debug)]
pub(super) struct Call {
    peer: NodeId,
    pub(super) endpoint: SocketAddr,
    pub(super) errands: Vec<Errand>,
}

impl Purpose {
    /// It may be asked twice: what somebody said to a node must not be heard twice.
    const fn is_repeatable(&self) -> bool {
        match self {
            Self::Application(_, question) => {
                matches!(question.operation, Operation::Ping | Operation::FindNode | Operation::FindValue)
            }
            _ => true,
        }
    }

    /// It is a holder's word that is wanted: who has been silent may have it all the same.
    const fn is_of_value(&self) -> bool {
        matches!(self, Self::Value { .. })
    }

    /// The application's name for it.
    pub(super) const fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Introduce(ticket) => *ticket,
            Self::Application(ticket, _) => Some(*ticket),
            Self::Ping
            | Self::Search(_)
            | Self::Link
            | Self::KeepLink
            | Self::KeyChange
            | Self::Carry(_)
            | Self::Value { .. } => None,
        }
    }
}

impl Hub {
    pub(super) fn begin_errand(&mut self, peer: NodeId, endpoint: Option<SocketAddr>, purpose: Purpose) {
        let wait = match &purpose {
            Purpose::Introduce(Some(_)) => CALL_WAIT_MAX,
            Purpose::Application(_, question) | Purpose::Value { question, .. } => question.wait,
            Purpose::Introduce(None)
            | Purpose::Ping
            | Purpose::Search(_)
            | Purpose::Link
            | Purpose::KeyChange
            | Purpose::Carry(_)
            | Purpose::KeepLink => REQUEST_TIMEOUT,
        };
        let until = self.now.instant + wait;
        let errand = Errand { peer, endpoint, purpose, is_again: false, is_traced: false, until };
        let is_own = peer == self.own.id();
        if is_own || self.errands.len() + self.calls.len() >= ERRANDS_MAX {
            let failure = if is_own { Failure::NotFound } else { Failure::Busy };
            return self.on_errand_failed(&errand, &failure, false);
        }
        self.run_errand(errand);
    }

    /// Asks at once where a session with the peer goes to that endpoint, else calls it there, else looks for it.
    pub(super) fn run_errand(&mut self, mut errand: Errand) {
        if let Some(session) = self.session_for(&errand) {
            if let Purpose::Carry(letter) = &errand.purpose {
                return self.hand_over(session, letter);
            }
            let Some(question) = self.question_of(&errand) else { return };
            // The session's own clock ends it; this one is for a note that was lost.
            errand.until = self.now.instant + question.wait + REQUEST_TIMEOUT;
            let ticket = self.ticket();
            self.errands.insert(ticket, errand);
            return self.outbox.push_back((session.shard(), Note::AskOn { ticket, session, question }));
        }
        let lately = || self.lately.endpoint_of(&errand.peer).filter(|_| errand.purpose.is_of_value());
        match errand.endpoint.or_else(|| self.table.endpoint_of(&errand.peer)).or_else(lately) {
            Some(endpoint) => self.call(endpoint, errand),
            None => self.seek(errand),
        }
    }

    fn question_of(&self, errand: &Errand) -> Option<Question> {
        let setting = Encoded::parse(&LINK_TRUE).expect("true is a value");
        let request = match &errand.purpose {
            Purpose::Introduce(_) => Request::FindNode(Space::place(&errand.peer)),
            Purpose::Ping | Purpose::KeepLink => Request::Ping,
            Purpose::Link => Request::SetConnectionOption(SetOption { option: 3, setting }),
            Purpose::Search(search) => Request::FindNode(self.searches.get(search)?.lookup.place()),
            Purpose::Carry(_) => return None,
            Purpose::Application(_, question) | Purpose::Value { question, .. } => {
                return Some(question.clone());
            }
            Purpose::KeyChange => return self.own_key_change(),
        };
        let mut room = [0; 64];
        let mut out = Writer::new(&mut room);
        request.write(&mut out).expect("the three are short");
        let (operation, payload) = (request.operation(), out.written().into());
        Some(Question { operation, payload, wait: REQUEST_TIMEOUT })
    }

    /// The node is not known: it is looked for.
    fn seek(&mut self, errand: Errand) {
        let peer = errand.peer;
        let same = self.searches.values_mut().find_map(|search| match &mut search.goal {
            Goal::Reach(errands) if errands.first().is_some_and(|first| first.peer == peer) => Some(errands),
            _ => None,
        });
        if let Some(errands) = same {
            return errands.push(errand);
        }
        if let Err(Goal::Reach(errands)) = self.begin_search(Space::place(&peer), Goal::Reach(vec![errand])) {
            errands.iter().for_each(|errand| self.on_errand_failed(errand, &Failure::Busy, false));
        }
    }

    fn call(&mut self, endpoint: SocketAddr, errand: Errand) {
        let peer = errand.peer;
        let mut under_way = self.calls.values_mut();
        if let Some(call) = under_way.find(|call| call.peer == peer && call.endpoint == endpoint) {
            return call.errands.push(errand);
        }
        let ticket = self.ticket();
        self.calls.insert(ticket, Call { peer, endpoint, errands: vec![errand] });
        let shard = self.placement.of_address(endpoint).0;
        self.outbox.push_back((shard, Note::Call { ticket, peer, endpoint }));
    }

    /// A call of ours will not be answered.
    pub(super) fn on_call_failed(&mut self, ticket: Ticket, reason: &CloseReason) {
        let errands = self.calls.remove(&ticket).map(|call| call.errands).unwrap_or_default();
        let failure = Failure::NotReached(reason.clone());
        errands.into_iter().for_each(|errand| self.on_not_reached(errand, &failure));
    }

    /// What waited too long is given up: a call that comes about later is one more session.
    pub(super) fn expire(&mut self) {
        let now = self.now.instant;
        let mut late = Vec::new();
        for call in self.calls.values_mut() {
            late.extend(call.errands.extract_if(.., |errand| errand.until <= now));
        }
        self.calls.retain(|_, call| !call.errands.is_empty());
        let lost: Vec<Ticket> = self
            .errands
            .iter()
            .filter(|(_, errand)| errand.until <= now)
            .map(|(ticket, _)| *ticket)
            .collect();
        let lost: Vec<Errand> = lost.into_iter().filter_map(|ticket| self.errands.remove(&ticket)).collect();
        let failure = Failure::NotReached(CloseReason::HandshakeTimeout);
        late.into_iter().for_each(|errand| self.on_not_reached(errand, &failure));
        lost.iter().for_each(|errand| self.on_errand_failed(errand, &failure, true));
    }

    /// One of our questions is done with.
    pub(super) fn on_answered(
        &mut self,
        ticket: Ticket,
        session: SessionId,
        (result, farewell): (Result<Outcome, AskError>, Option<Farewell>),
    ) {
        let Some(errand) = self.errands.remove(&ticket) else { return };
        let is_over = result == Ok(Outcome::Over);
        if is_over || farewell.is_some() {
            self.on_gone(session, &errand.peer);
        }
        match (result, farewell) {
            (Ok(Outcome::Over) | Err(AskError::Nobody), Some(farewell)) => {
                self.on_errand_failed(&errand, &Failure::Parted(farewell), false);
            }
            // Its session ended, or became another: that says nothing of the node.
            (Err(AskError::Nobody), None) if !errand.is_again => {
                self.run_errand(Errand { is_again: true, ..errand });
            }
            (Ok(Outcome::Over), None) if !errand.is_again && errand.purpose.is_repeatable() => {
                self.run_errand(Errand { is_again: true, ..errand });
            }
            (Ok(outcome), _) => self.conclude(&errand, session, outcome),
            (Err(_), _) => self.on_errand_failed(&errand, &Failure::Busy, false),
        }
    }

    fn conclude(&mut self, errand: &Errand, session: SessionId, outcome: Outcome) {
        if let Purpose::Application(ticket, _) = errand.purpose {
            return self.notices.push_back(Notice::Answered { ticket, result: Ok(outcome) });
        }
        if let Purpose::Value { job, number, .. } = errand.purpose {
            return self.on_holder_spoke(errand, (job, number), outcome);
        }
        if matches!(errand.purpose, Purpose::Link) {
            return self.on_link_answered(errand.peer, session, outcome.ack().is_some());
        }
        let told: Vec<Heard> = match outcome.ack() {
            Some(Ack::Nodes(nodes)) => nodes.iter().map(|record| Heard::new(&record)).collect(),
            Some(_) => Vec::new(),
            None => {
                let is_silence = outcome == Outcome::TimedOut;
                self.note_failure(errand, is_silence);
                return self.tell_application(errand, Ok(outcome));
            }
        };
        told.iter().for_each(|heard| self.on_heard(heard, errand.peer));
        if let Some(endpoint) = errand.endpoint {
            self.on_there(&errand.peer, endpoint);
        }
        if let Purpose::Search(search) = errand.purpose {
            return self.on_search_answered(search, &errand.peer, told);
        }
        if matches!(errand.purpose, Purpose::Introduce(_)) && self.table.count() == 1 {
            // The first node that we know: the others are found from there.
            self.acquaint_again(0);
        }
        self.tell_application(errand, Ok(outcome));
    }

    /// A node has answered where it says that it is.
    fn on_there(&mut self, peer: &NodeId, endpoint: SocketAddr) {
        self.table.on_answer(self.now.instant, peer, endpoint);
        if let Some(contact) = self.table.member(peer) {
            self.lately.on_answer(self.now.instant, contact);
        }
    }

    /// Whoever refuses is there as well.
    fn on_holder_spoke(&mut self, errand: &Errand, question: (u64, u64), outcome: Outcome) {
        if !matches!(outcome, Outcome::Ack(_) | Outcome::Nack(_)) {
            return self.note_failure(errand, outcome == Outcome::TimedOut);
        }
        if let Some(endpoint) = errand.endpoint {
            self.on_there(&errand.peer, endpoint);
        }
        self.on_holder_answered(question, Some(outcome));
    }

    fn tell_application(&mut self, errand: &Errand, result: Result<Outcome, Failure>) {
        if let Some(ticket) = errand.purpose.ticket() {
            self.notices.push_back(Notice::Answered { ticket, result });
        }
    }

    /// Somebody told of a node: worth a signature's check only where the table has a place for it, or where it tells of its key's
    /// past.
    pub(super) fn on_heard(&mut self, heard: &Heard, source: NodeId) {
        if heard.id() == self.own.id() || self.table.has_record(&heard.id(), heard.sequence()) {
            return;
        }
        if !heard.has_past() && !self.table.wants(self.now.instant, heard, &source) {
            return;
        }
        if let Ok(contact) = heard.check(&self.network, self.now.wall) {
            self.learn_past(&contact);
            if self.chains.present(&contact.id()) != contact.id() {
                // Somebody remembers its old key.
                return;
            }
            self.table.on_told(self.now.instant, contact, source);
        }
    }

    /// The node did not answer, or could not be asked; `is_silence`: it had its time.
    pub(super) fn on_errand_failed(&mut self, errand: &Errand, failure: &Failure, is_silence: bool) {
        self.note_failure(errand, is_silence);
        if *failure == Failure::NotFound && self.whisper_on(errand) {
            return;
        }
        self.tell_application(errand, Err(failure.clone()));
    }

    pub(super) fn note_failure(&mut self, errand: &Errand, is_silence: bool) {
        if let Some(endpoint) = errand.endpoint.filter(|_| is_silence && !self.is_of_roll_call(errand)) {
            self.table.on_silence(self.now.instant, &errand.peer, endpoint);
        }
        match errand.purpose {
            Purpose::Search(search) => self.on_search_failed(search, &errand.peer),
            Purpose::Link => self.on_link_failed(errand.peer),
            Purpose::Value { job, number, .. } => self.on_holder_answered((job, number), None),
            _ => {}
        }
    }
}
