//! What the peer says: transmissions taken apart, each message answered or told.
//!
//! In:    whole messages of channels 1 and 2.
//! Out:   answers, facts, the wish to end.
//! Holds: one bad message refuses itself; a bad transmission ends the session, as nothing behind its fault means anything.

use std::sync::Arc;

use dunlin_codec::args::{Ack, Nack, Reason, Request, write_nodes};
use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::{Address, ChannelId};
use dunlin_codec::label;
use dunlin_codec::message::{
    Carried, CarriedMessages, DIRECT_CHANNEL, Direct, DirectMessages, EVERYBODY, Operation, SIGNED_CHANNEL,
    SignedMessageId,
};
use dunlin_codec::transmission::{Compression, Transmission};
use sha2::{Digest, Sha256};

use super::budget::{decompression_ready_at, on_decompressed, take_request};
use super::fact::{Asked, Fact};
use super::outbox::Words;
use super::requests::Open;
use super::{Bench, Conversation, Owed};
use crate::dht::known::Asker;
use crate::gossip::message_id;
use crate::limits::{OWED_LIFE, REQUESTS_OWED_MAX, RUMOUR_LEN_MAX};
use crate::messages::compression::decompress;
use crate::outcome::{Farewell, Outcome};
use crate::time::Instant;

/// What became of a transmission.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// It was taken in.
    Done,
    /// The peer's compressed bodies took their share of this core: give it again then, and what follows it after it.
    Later(Instant),
}

impl Conversation {
    /// Takes in a whole message of one of the two channels.
    pub fn on_transmission(&mut self, bench: &mut Bench, channel: ChannelId, bytes: &[u8]) -> Taken {
        if self.farewell.is_some() {
            return Taken::Done;
        }
        let Ok(Transmission { compression, body }) = Transmission::parse(bytes) else {
            self.part(Farewell::MALFORMED);
            return Taken::Done;
        };
        if compression == Compression::None {
            if body.len() > bench.terms.body_len_max() {
                self.part(Farewell::BAD_BODY);
            } else {
                self.on_body(bench, channel, body);
            }
            return Taken::Done;
        }
        let ready_at = decompression_ready_at(self.decompression);
        if ready_at > bench.now {
            return Taken::Later(ready_at);
        }
        self.on_compressed(bench, channel, (compression, body));
        Taken::Done
    }

    // spec: p2p/effort
    fn on_compressed(&mut self, bench: &mut Bench, channel: ChannelId, (method, body): (Compression, &[u8])) {
        if !bench.terms.reads.contains(method) {
            return self.part(Farewell::BAD_BODY);
        }
        let mut out = core::mem::take(&mut bench.body);
        let result = decompress(method, body, bench.terms.body_len_max(), &mut out);
        let len = if result.is_ok() { out.len() } else { bench.terms.body_len_max() };
        on_decompressed(&mut self.decompression, bench.now, method, (body.len(), len));
        match result {
            Ok(()) => self.on_body(bench, channel, &out),
            Err(_) => self.part(Farewell::BAD_BODY),
        }
        bench.body = out;
    }

    fn on_body(&mut self, bench: &mut Bench, channel: ChannelId, body: &[u8]) {
        match channel {
            DIRECT_CHANNEL => {
                for message in DirectMessages::new(body) {
                    let Ok(message) = message else { return self.part(Farewell::MALFORMED) };
                    self.on_direct(bench, &message);
                    if self.farewell.is_some() {
                        return;
                    }
                }
            }
            SIGNED_CHANNEL => {
                for message in CarriedMessages::new(body) {
                    let Ok(message) = message else { return self.part(Farewell::MALFORMED) };
                    self.on_carried(bench, &message);
                }
            }
            _ => self.counts.dropped += 1,
        }
    }

    fn on_direct(&mut self, bench: &mut Bench, message: &Direct<'_>) {
        self.counts.messages_in += 1;
        if matches!(message.operation, Operation::Ack | Operation::Nack) {
            return self.on_answer(bench, message);
        }
        let Direct { operation, request, payload, is_sealed } = *message;
        if !self.has_greeted && operation != Operation::SetConnectionOption {
            // What a session that ended had still to say may come before the greeting of the one that carries on: no judgement.
            return self.refuse_at_once(bench, operation, request, Reason::Busy);
        }
        if !take_request(&mut self.asked, bench.now, bench.terms.requests_per_second) {
            self.counts.requests_refused += 1;
            return self.refuse_at_once(bench, operation, request, Reason::OverQuota);
        }
        if operation.is_reserved() || is_sealed || travels_signed_only(operation) {
            return self.refuse_at_once(bench, operation, request, Reason::Unsupported);
        }
        match Request::parse(operation, payload) {
            Ok(parsed) => self.on_request(bench, message, &parsed),
            Err(_) => self.refuse_at_once(bench, operation, request, Reason::Malformed),
        }
    }

    fn on_request(&mut self, bench: &mut Bench, message: &Direct<'_>, parsed: &Request<'_>) {
        let (request, payload) = (message.request, message.payload);
        match *parsed {
            Request::Ping => self.acknowledge(bench, request, Ack::Plain(Operation::Ping)),
            Request::SetConnectionOption(option) => self.on_option(bench, request, option),
            Request::Speak(_) => self.on_told(bench, message, Ack::Plain(Operation::Speak)),
            Request::Whisper(_) => {
                let id = direct_message_id(&bench.terms.network, &self.peer, message);
                self.on_told(bench, message, Ack::Whisper(id));
            }
            Request::FindNode(address) => self.tell_nodes(bench, request, &address),
            Request::FindValue(_) => self.on_asked(bench, request, Asked::FindValue(payload.into())),
            Request::Store(_) => self.on_asked(bench, request, Asked::Store(payload.into())),
            // It carries its own signatures: whoever has just called hears of it at once.
            Request::ChangeKey(_) => self.on_asked(bench, request, Asked::ChangeKey(payload.into())),
            Request::Custom(_) => self.on_asked(bench, request, Asked::Custom(payload.into())),
            // Refused before: they travel signed.
            Request::Announce(_) | Request::Shout(_) => self.counts.dropped += 1,
        }
    }

    /// FIND_NODE: ourselves among them, when we can be reached.
    pub(super) fn tell_nodes(&mut self, bench: &mut Bench, request: u64, place: &Address) {
        let known = Arc::clone(&bench.known);
        let mut closest = core::mem::take(&mut bench.closest);
        let asker = Asker { id: self.peer, is_public: self.is_public };
        known.closest(place, (bench.terms.constants.replication as usize, asker), &mut closest);
        let write = |out: &mut Writer<'_>| write_nodes(out, known.records(&closest));
        self.answer(bench, Operation::Ack, request, (Words::Others, write));
        bench.closest = closest;
    }

    pub(super) fn acknowledge(&mut self, bench: &mut Bench, request: u64, ack: Ack<'_>) {
        self.answer(bench, Operation::Ack, request, (Words::Own, |out: &mut Writer<'_>| ack.write(out)));
    }

    fn on_told(&mut self, bench: &mut Bench, message: &Direct<'_>, ack: Ack<'_>) {
        let (operation, request) = (message.operation, message.request);
        if !self.facts.has_room() {
            self.counts.requests_refused += 1;
            return self.refuse_at_once(bench, operation, request, Reason::Busy);
        }
        self.facts.push(Fact::Told { operation, payload: message.payload.into() });
        self.acknowledge(bench, request, ack);
    }

    /// Somebody else is to answer: at most so many at once, and no two under one id.
    pub(super) fn on_asked(&mut self, bench: &mut Bench, request: u64, what: Asked) {
        let operation = what.operation();
        if self.owed.len() >= REQUESTS_OWED_MAX {
            self.owed.retain(|owed| owed.until > bench.now);
        }
        if self.owed.len() >= REQUESTS_OWED_MAX || !self.facts.has_room() {
            self.counts.requests_refused += 1;
            return self.refuse_at_once(bench, operation, request, Reason::Busy);
        }
        if request != 0 {
            if self.owed.iter().any(|owed| owed.request == request) {
                return self.refuse_at_once(bench, operation, request, Reason::Malformed);
            }
            self.owed.push(Owed { request, operation, until: bench.now + OWED_LIFE });
        }
        self.facts.push(Fact::Asked { request, what });
    }

    pub(super) fn on_answer(&mut self, bench: &mut Bench, message: &Direct<'_>) {
        let Some(open) = self.requests.take(message.request) else {
            self.counts.answers_unknown += 1;
            return bench.strays.put(bench.now, self.peer, message);
        };
        let outcome = outcome_of(&open, message);
        if open.operation == Operation::SetConnectionOption {
            let ack = outcome.ack();
            match (ack, outcome.nack()) {
                (Some(Ack::SetConnectionOption(option)), _) => self.on_option_answered(option, true),
                (_, Some(Nack::SetConnectionOption(option))) => self.on_option_answered(option, false),
                _ => {}
            }
        }
        self.conclude(&open, outcome);
    }

    /// A question is done with; our greeting is nobody's question.
    pub(super) fn conclude(&mut self, open: &Open, outcome: Outcome) {
        if open.ticket.is_none() {
            return self.on_greeting_failed(&outcome);
        }
        self.complete(open.ticket, outcome);
    }

    /// A signed message on its way: only what travels signed, fresh, and broadcasts over links alone. A copy of what was
    /// verified costs its hash, no more.
    // spec: p2p/links, p2p/seen
    fn on_carried(&mut self, bench: &mut Bench, carried: &Carried<'_>) {
        let message = &carried.message;
        let is_link = self.is_link || self.is_link_wanted;
        let is_fit = match message.operation() {
            Operation::Whisper | Operation::Ack => message.to() != EVERYBODY,
            operation => travels_signed(operation) && is_link,
        };
        let len = message.payload().len();
        if !is_fit || len > RUMOUR_LEN_MAX || message.freshness().is_none() || !self.has_greeted {
            self.counts.dropped += 1;
            return;
        }
        let id = message_id(&bench.terms.network, message);
        if bench.seen.has(&id) {
            bench.duplicates += 1;
            return;
        }
        if !self.facts.has_room() {
            self.counts.dropped += 1;
            return;
        }
        self.facts.push(Fact::Carried { hops: carried.hops, id, message: message.bytes().into() });
    }
}

/// What is never said directly.
const fn travels_signed_only(operation: Operation) -> bool {
    matches!(operation, Operation::Shout | Operation::Announce)
}

/// What every node carries on.
const fn travels_signed(operation: Operation) -> bool {
    matches!(operation, Operation::Shout | Operation::Announce | Operation::ChangeKey)
}

/// What the answer says, when it answers what was asked.
fn outcome_of(open: &Open, message: &Direct<'_>) -> Outcome {
    let asked = open.operation;
    if message.is_sealed {
        return Outcome::Nonsense;
    }
    if message.operation == Operation::Ack {
        let fits = |ack: Ack<'_>| match ack {
            Ack::Nodes(_) => matches!(asked, Operation::FindNode | Operation::FindValue),
            ack => ack.operation() == asked,
        };
        return match Ack::parse(message.payload) {
            Ok(ack) if fits(ack) => Outcome::Ack(message.payload.into()),
            _ => Outcome::Nonsense,
        };
    }
    match Nack::parse(message.payload) {
        Ok(nack) if nack.operation() == asked => Outcome::Nack(message.payload.into()),
        _ => Outcome::Nonsense,
    }
}

/// The id that a direct message's words would have, signed without freshness.
/// spec: p2p/whisper-id
#[must_use]
pub fn direct_message_id(
    network: &label::Network,
    from: &dunlin_codec::ids::NodeId,
    message: &Direct<'_>,
) -> SignedMessageId {
    let operation = u16::from(message.operation.code()) << 12;
    let mut hash = Sha256::new();
    for part in [label::MESSAGE_ID, &network.0[..], &operation.to_be_bytes(), &from.0, message.payload] {
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (id, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
    SignedMessageId(*id)
}
