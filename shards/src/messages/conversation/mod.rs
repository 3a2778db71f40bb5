//! A conversation: what two peers say to each other on the two channels of messages, over one session.
//!
//! In:    transmissions, questions, answers, time.
//! Out:   transmissions, facts ([`Fact`]), the wish to end ([`Farewell`]).
//! Holds: it begins with SET_CONNECTION_OPT 2 on both sides, and ends when the networks differ; every question of ours is
//!        answered once, runs out, or ends with the conversation; nothing here waits without a bound.
//!
//! It answers by itself what needs nobody else: PING, FIND_NODE out of what is known, options 0 to 2, reserved operations, what it cannot read. SPEAK and
//! WHISPER are acknowledged when the application's queue takes them. SHOUT and ANNOUNCE travel signed, so the
//! direct form of them is refused. The rest is somebody else's to answer (`Asked`).
//!
//! A direct WHISPER has no signed id; we acknowledge it by the id that its words would have without freshness.
//!
//! spec: p2p/operations

mod budget;
mod fact;
mod inbound;
mod options;
mod outbox;
mod requests;
mod strays;
mod terms;

use core::time::Duration;
use std::sync::Arc;

use dunlin_codec::args::{Ack, Nack, Reason, Request, Setting};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::ids::{ChannelId, NodeId};
use dunlin_codec::message::{Carried, Direct, Operation, PAYLOAD_LEN_MAX};
use dunlin_codec::transmission::Compression;

use crate::budget::Budget;
use crate::dht::known::{Closest, Known};
use crate::dht::values::Finding;
use crate::event::Ticket;
use crate::gossip::Seen;
use crate::hash::HashKey;
use crate::limits::{REQUEST_TIMEOUT, REQUESTS_OWED_MAX};
use crate::outcome::{AskError, Farewell, Outcome};
use crate::time::{Instant, WallMillis};
use fact::Facts;
use outbox::{Full, Outbox};
use requests::Requests;
use strays::Strays;

pub use fact::{Asked, Fact, Reply};
pub use inbound::{Taken, direct_message_id};
pub use outbox::Words;
pub use terms::{BadConstants, Constants, Methods, Terms};

/// What every conversation of a shard works with; one for all.
#[derive(Debug)]
pub struct Bench {
    /// The moment.
    pub now: Instant,
    /// What the node says of itself.
    pub terms: Terms,
    /// What FIND_NODE is answered from.
    pub known: Arc<Known>,
    closest: Closest,
    /// Signed messages that were verified: what is among them is not looked at again.
    pub seen: Seen,
    /// How many were.
    pub duplicates: u64,
    /// What was said to everybody before then is not wanted any more: this node was not there, or has heard it.
    pub wants_since: WallMillis,
    payload: Vec<u8>,
    body: Vec<u8>,
    /// One count for all conversations: where one session carries on for another, a late answer meets no other question.
    last_request: u64,
    strays: Strays,
}

impl Bench {
    /// A bench for the conversations of a node.
    #[must_use]
    pub fn new(terms: Terms, known: Arc<Known>) -> Self {
        Self {
            now: Instant::ZERO,
            terms,
            known,
            closest: Closest::default(),
            seen: Seen::new(HashKey([0; 2])),
            duplicates: 0,
            wants_since: WallMillis(u64::MAX),
            payload: Vec::new(),
            body: Vec::new(),
            strays: Strays::default(),
            last_request: 0,
        }
    }

    /// The same, with a key of its own for what peers choose.
    #[must_use]
    pub fn with_key(self, key: HashKey) -> Self {
        Self { seen: Seen::new(key), ..self }
    }
}

/// What the conversation counts. None of it changes anything else.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Direct messages taken in.
    pub messages_in: u64,
    /// Requests refused for coming too fast or too many at once.
    pub requests_refused: u64,
    /// Messages dropped: no room for an answer, or not what its channel carries.
    pub dropped: u64,
    /// Answers to no open question: late ones mostly.
    pub answers_unknown: u64,
}

/// A request of the peer's that somebody else answers.
#[derive(Clone, Copy, Debug)]
struct Owed {
    request: u64,
    operation: Operation,
    until: Instant,
}

/// What is between us and one peer.
#[derive(Debug)]
pub struct Conversation {
    peer: NodeId,
    /// It is on a public address.
    is_public: bool,
    /// The peer has named our network.
    has_greeted: bool,
    /// The peer has acknowledged ours.
    is_greeted: bool,
    /// It carries broadcasts.
    is_link: bool,
    /// We asked that it does: the peer may have granted that already, though its answer is not here yet.
    is_link_wanted: bool,
    peer_reads: Methods,
    peer_prefers: Option<Compression>,
    requests: Requests,
    owed: Vec<Owed>,
    outbox: Outbox,
    facts: Facts,
    decompression: Budget,
    asked: Budget,
    farewell: Option<Farewell>,
    counts: Counts,
}

impl Conversation {
    /// Begins to talk: the first words name our network, the next what we can read.
    /// A peer on a public address is told of nodes on public addresses alone.
    pub fn begin(bench: &mut Bench, peer: NodeId, is_public: bool) -> Self {
        let mut this = Self {
            peer,
            is_public,
            has_greeted: false,
            is_greeted: false,
            is_link: false,
            is_link_wanted: false,
            peer_reads: Methods::NONE,
            peer_prefers: None,
            requests: Requests::default(),
            owed: Vec::new(),
            outbox: Outbox::default(),
            facts: Facts::default(),
            decompression: Budget::default(),
            asked: Budget::default(),
            farewell: None,
            counts: Counts::default(),
        };
        this.greet(bench);
        this
    }

    /// Who it is with.
    #[must_use]
    pub const fn peer(&self) -> NodeId {
        self.peer
    }

    /// The peer is on a public address now, or is no more.
    pub fn on_roamed(&mut self, is_public: bool) {
        self.is_public = is_public;
    }

    /// The session of an older conversation with the peer became one with this one's: what was asked there is answered here,
    /// by both sides.
    // spec: p2p/succession
    pub fn on_succeeded(&mut self, bench: &mut Bench, older: &mut Self) {
        older.requests.move_into(&mut self.requests);
        // Or was answered already: the peer moved before us.
        while let Some(stray) = bench.strays.take(bench.now, &self.peer, |request| self.requests.has(request))
        {
            self.on_answer(bench, &stray.message());
        }
        let room = REQUESTS_OWED_MAX.saturating_sub(self.owed.len());
        self.owed.extend(older.owed.drain(..room.min(older.owed.len())));
    }

    /// The networks are the same, by word of both.
    #[must_use]
    pub const fn is_met(&self) -> bool {
        self.has_greeted && self.is_greeted
    }

    /// The session carries broadcasts.
    #[must_use]
    pub const fn is_link(&self) -> bool {
        self.is_link
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Questions of ours that wait for an answer.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.requests.count()
    }

    /// Asks the peer for something; `Fact::Answered` says what became of it, after `timeout` at the latest.
    ///
    /// # Errors
    /// `AskError`: nothing was asked.
    pub fn ask(
        &mut self,
        bench: &mut Bench,
        ticket: Ticket,
        request: &Request<'_>,
        timeout: Duration,
    ) -> Result<(), AskError> {
        self.ask_as(bench, Some(ticket), request, timeout)
    }

    fn ask_as(
        &mut self,
        bench: &mut Bench,
        ticket: Option<Ticket>,
        request: &Request<'_>,
        timeout: Duration,
    ) -> Result<(), AskError> {
        if self.farewell.is_some() {
            return Err(AskError::Nobody);
        }
        let operation = request.operation();
        let deadline = bench.now + timeout;
        let id = self.requests.open(&mut bench.last_request, ticket, operation, deadline);
        let id = id.ok_or(AskError::TooMany)?;
        let words = if operation == Operation::Store { Words::Other } else { Words::Own };
        let said = self.say(bench, (operation, id), words, |out| request.write(out));
        if said.is_err() {
            self.requests.take(id);
            return Err(AskError::Full);
        }
        if let Request::SetConnectionOption(option) = request {
            self.is_link_wanted |= option.meaning() == Some(Setting::Link(true));
        }
        Ok(())
    }

    /// Answers `Asked::FindValue` and `Asked::Store` with what a holder says.
    pub fn answer_value(&mut self, bench: &mut Bench, request: u64, finding: &Finding) {
        let Some(operation) = self.settle(request) else { return };
        let answer = match finding {
            Finding::Nowhere(place) => return self.tell_nodes(bench, request, place),
            Finding::Answer(answer) => answer,
        };
        let said = if answer.is_ack { Operation::Ack } else { Operation::Nack };
        let message = Direct { operation: said, is_sealed: false, request, payload: &answer.payload };
        if self.outbox.push_direct(&message, Words::Other).is_err() {
            self.refuse_at_once(bench, operation, request, Reason::Busy);
        }
    }

    /// Refuses what was `Asked`.
    pub fn refuse(&mut self, bench: &mut Bench, request: u64, reason: Reason) {
        let Some(operation) = self.settle(request) else { return };
        self.refuse_at_once(bench, operation, request, reason);
    }

    /// Answers `Asked::Link`: granted, the session carries broadcasts from here on, or no more when that was asked.
    pub fn answer_link(&mut self, bench: &mut Bench, request: u64, is_link: bool, is_granted: bool) {
        if is_granted {
            self.is_link = is_link;
        }
        if self.settle(request).is_some() {
            self.answer_option(bench, request, &Setting::Link(is_link), is_granted);
        }
    }

    /// Answers `Asked::ChangeKey`.
    pub fn answer_key_change(&mut self, bench: &mut Bench, request: u64, is_taken: bool) {
        if !is_taken {
            return self.refuse(bench, request, Reason::NotAllowed);
        }
        if self.settle(request).is_some() {
            let ack = Ack::Plain(Operation::ChangeKey);
            let write = |out: &mut Writer<'_>| ack.write(out);
            self.answer(bench, Operation::Ack, request, (Words::Own, write));
        }
    }

    /// Answers `Asked::Custom`.
    pub fn reply(&mut self, bench: &mut Bench, request: u64, reply: Reply<'_>) {
        if self.settle(request).is_none() {
            return;
        }
        let words = Words::Own;
        match reply {
            Reply::Ack(value) => {
                self.answer(bench, Operation::Ack, request, (words, |out| Ack::Custom(value).write(out)));
            }
            Reply::Nack(value) => {
                self.answer(bench, Operation::Nack, request, (words, |out| Nack::Custom(value).write(out)));
            }
        }
    }

    /// Carries a signed message on, byte for byte.
    ///
    /// # Errors
    /// `AskError`: it was not taken. Before the peer has acknowledged our network it could not know what to do with it.
    pub fn carry(&mut self, message: &Carried<'_>) -> Result<(), AskError> {
        if !self.is_met() || self.farewell.is_some() {
            return Err(AskError::Nobody);
        }
        self.outbox.push_carried(message).map_err(|Full| AskError::Full)
    }

    /// A request of the peer's was answered: it is owed no more. None when it was not owed, or 0.
    fn settle(&mut self, request: u64) -> Option<Operation> {
        let at = self.owed.iter().position(|owed| owed.request == request)?;
        Some(self.owed.remove(at).operation)
    }

    /// Writes a direct message: payload first, then head and payload where they leave.
    fn say(
        &mut self,
        bench: &mut Bench,
        (operation, request): (Operation, u64),
        words: Words,
        write: impl Fn(&mut Writer<'_>) -> Result<(), NoRoom>,
    ) -> Result<(), Full> {
        let payload = written(&mut bench.payload, write).ok_or(Full)?;
        self.outbox.push_direct(&Direct { operation, is_sealed: false, request, payload }, words)
    }

    fn answer(
        &mut self,
        bench: &mut Bench,
        answer: Operation,
        request: u64,
        (words, write): (Words, impl Fn(&mut Writer<'_>) -> Result<(), NoRoom>),
    ) {
        if request != 0 && self.say(bench, (answer, request), words, write).is_err() {
            self.counts.dropped += 1;
        }
    }

    fn refuse_at_once(&mut self, bench: &mut Bench, operation: Operation, request: u64, reason: Reason) {
        let write = |out: &mut Writer<'_>| refusal(operation, reason).write(out);
        self.answer(bench, Operation::Nack, request, (Words::Own, write));
    }

    /// The session is to end, after what is queued.
    fn part(&mut self, farewell: Farewell) {
        self.farewell.get_or_insert(farewell);
        self.end();
    }

    /// Nobody is there any more: what was asked will not be answered.
    pub fn end(&mut self) {
        while let Some(open) = self.requests.abandon() {
            self.complete(open.ticket, Outcome::Over);
        }
        self.owed.clear();
        (self.is_link, self.is_link_wanted) = (false, false);
    }

    fn complete(&mut self, ticket: Option<Ticket>, outcome: Outcome) {
        if let Some(ticket) = ticket {
            self.facts.push(Fact::Answered { ticket, outcome });
        }
    }

    /// Time has come for something.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(open) = self.requests.expire(now) {
            self.conclude(&open, Outcome::TimedOut);
        }
    }

    /// Puts the next transmission into `out`; it is to be sent whole, reliable and in order on the channel that this names.
    pub fn poll_transmission(&mut self, out: &mut Vec<u8>) -> Option<ChannelId> {
        self.outbox.poll_transmission((self.peer_reads, self.peer_prefers), out)
    }

    /// The next fact.
    pub fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop()
    }

    /// The session is to end, once what was polled before is sent.
    pub fn poll_farewell(&mut self) -> Option<Farewell> {
        self.farewell.filter(|_| self.outbox.is_empty())
    }

    /// Nobody talks here any more, and why; what is queued may still leave.
    #[must_use]
    pub const fn farewell(&self) -> Option<Farewell> {
        self.farewell
    }

    /// When `handle_timeout` is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.requests.deadline()
    }

    /// Frees what a burst left behind.
    pub fn shrink(&mut self) {
        self.requests.shrink();
        self.owed.shrink_to_fit();
        self.outbox.shrink();
        self.facts.shrink();
    }
}

/// The NACK of an operation for a reason, in the shape that the operation has.
const fn refusal(operation: Operation, reason: Reason) -> Nack<'static> {
    match operation {
        Operation::Store => {
            Nack::Store(dunlin_codec::args::StoreNack { reason, metadata: None, promised: None })
        }
        Operation::Custom => Nack::Custom(dunlin_codec::msgpack::Encoded::NIL),
        operation => Nack::Plain(operation, reason),
    }
}

/// What `write` writes, in a room that grows until it has room; none when it is longer than any payload.
fn written(room: &mut Vec<u8>, write: impl Fn(&mut Writer<'_>) -> Result<(), NoRoom>) -> Option<&[u8]> {
    const ROOM_LEN_MIN: usize = 512;
    room.resize(room.len().max(ROOM_LEN_MIN), 0);
    loop {
        let mut out = Writer::new(room);
        if write(&mut out).is_ok() {
            let len = out.len();
            return room.get(..len).filter(|payload| payload.len() <= PAYLOAD_LEN_MAX);
        }
        if room.len() > PAYLOAD_LEN_MAX {
            return None;
        }
        let len = 2 * room.len();
        room.resize(len, 0);
    }
}

/// How long our own greeting waits for its answer.
const GREETING_TIMEOUT: Duration = REQUEST_TIMEOUT;

#[cfg(test)]
mod tests;
