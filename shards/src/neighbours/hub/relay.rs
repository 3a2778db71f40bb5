//! WHISPER from node to node, where there is no session with its recipient: sealed, signed, and acknowledged end to end.
//!
//! In:    whispers of the application; letters that others pass on.
//! Out:   letters for the next node on the way; what was whispered to us; what became of our own.
//! Holds: a letter goes to a node strictly closer to its recipient each time, [`HOPS_MAX`] times at most, and through a node
//!        once; nobody but its recipient can read it or make another of it; its sender hears of its end, or that it had no
//!        answer in time. Every table has a bound, and what is beyond is dropped and counted by its sender's clock.
//!
//! A whisper goes this way when the buckets are full, as the source has it, and also when nobody could say where its recipient
//! is: that may take no calls, and be known to those alone to whom it has a session. The next node is whoever is closest to the
//! recipient by key, among those with a session and those in the table, and closer than we are; the recipient itself when
//! there is a session with it.
//!
//! We answer by ACK [WHISPER, message id] in the signed form, from the recipient to the sender. It goes back the way that the
//! letter came: each node remembers for a while on which session it had it. On the way nobody verifies signatures: a letter
//! costs a relay its bytes alone, within a rate for each peer that brings some. The recipient checks time, window and signature
//! as with rumours, and opens the payload; the sender checks that the ACK was signed by whom it whispered to.
//!
//! Letters count for themselves, under 16 bits of their own, so that they do not push rumours of the same node out of their
//! windows.
//!
//! spec: p2p/relayed-whisper

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_codec::args::{Ack, Request};
use dunlin_codec::bytes::{Reader, Writer};
use dunlin_codec::ids::{NodeId, SessionId};
use dunlin_codec::message::{Freshness, HOPS_MAX, Operation, Signed, SignedHeader, SignedMessageId};
use zeroize::Zeroizing;

use super::{Errand, Hub, Notice, Purpose};
use crate::dht::space::Space;
use crate::dht::table::Audience;
use crate::event::Ticket;
use crate::gossip::{Brought, Court, RumourLimits, Seen, check_signature, message_id, sign};
use crate::hash::HashKey;
use crate::limits::{
    EPHEMERALS_MAX, LETTER_CPU_PERCENT, LETTER_LIFE, LETTERS_OPEN_MAX, LETTERS_PASSED_MAX,
    LETTERS_PER_SECOND, NOTICES_WAITING_MAX, RUMOUR_LEN_MAX,
};
use crate::messages::conversation::Fact;
use crate::messages::sealing;
use crate::neighbours::Failure;
use crate::note::{Note, Question};
use crate::outcome::Outcome;
use crate::rng::Rng;
use crate::session::aws_lc::AwsLc;
use crate::session::crypto::{Crypto, TAG_LEN};
use crate::time::Instant;

/// A letter that leaves.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    hops: u8,
    message: Arc<[u8]>,
}

/// One of our own that waits for its answer.
#[derive(Debug)]
struct Open {
    ticket: Ticket,
    /// Which key of ours says it: it may have changed since.
    from: NodeId,
    to: NodeId,
    until: Instant,
}

/// Letters that leave, pass and come.
#[derive(Debug)]
pub(super) struct Relay {
    instance: u16,
    count: u64,
    open: BTreeMap<SignedMessageId, Open>,
    /// Letters that were passed on or taken: on which session each came, and until when that is remembered.
    passed: BTreeMap<SignedMessageId, (SessionId, Instant)>,
    court: Court,
    seen: Seen,
    /// Key material for letters, drawn by the shard: each is used once.
    ephemerals: Vec<Zeroizing<[u8; 32]>>,
}

impl Relay {
    pub(super) fn new(network: dunlin_codec::label::Network, rng: &mut Rng) -> Self {
        let mut draw = || HashKey([rng.next_u64(), rng.next_u64()]);
        let (court_key, seen_key) = (draw(), draw());
        let limits = RumourLimits {
            origin: LETTERS_PER_SECOND,
            link: LETTERS_PER_SECOND,
            cpu_percent: LETTER_CPU_PERCENT,
        };
        Self {
            instance: (rng.next_u64() >> 48) as u16,
            count: 0,
            open: BTreeMap::new(),
            passed: BTreeMap::new(),
            court: Court::new(network, limits, court_key),
            seen: Seen::new(seen_key),
            ephemerals: Vec::new(),
        }
    }
}

/// The id of a letter that an ACK is for.
fn acknowledged(ack: &Signed<'_>) -> Option<SignedMessageId> {
    match Ack::parse(ack.payload()) {
        Ok(Ack::Whisper(id)) if !ack.is_sealed() => Some(id),
        _ => None,
    }
}

impl Hub {
    /// How many more draws of key material are wanted.
    pub(in crate::neighbours) fn ephemerals_wanted(&self) -> usize {
        EPHEMERALS_MAX.saturating_sub(self.relay.ephemerals.len())
    }

    /// The shard drew 32 bytes.
    pub(in crate::neighbours) fn on_ephemeral(&mut self, ephemeral: Zeroizing<[u8; 32]>) {
        self.relay.ephemerals.push(ephemeral);
    }

    /// A question is a WHISPER, and its way is from node to node.
    pub(super) fn is_relayed(&self, peer: &NodeId, question: &Question) -> bool {
        question.operation == Operation::Whisper
            && !self.sessions.contains_key(peer)
            && self.table.is_full()
            && !self.table.is_member(peer)
    }

    /// Sends a letter of our own on its way.
    pub(super) fn whisper(&mut self, peer: NodeId, ticket: Ticket, question: &Question) {
        if let Err(failure) = self.try_whisper(peer, ticket, question) {
            self.notices.push_back(Notice::Answered { ticket, result: Err(failure) });
        }
    }

    fn try_whisper(&mut self, peer: NodeId, ticket: Ticket, question: &Question) -> Result<(), Failure> {
        let recipient = AwsLc::public_of(&peer).map_err(|_| Failure::NotFound)?;
        let len = question.payload.len() + sealing::OVERHEAD_LEN;
        if len > RUMOUR_LEN_MAX {
            return Err(Failure::NotSayable);
        }
        if self.relay.open.len() >= LETTERS_OPEN_MAX {
            return Err(Failure::Busy);
        }
        if self.next_to(&peer, None).is_none() {
            return Err(Failure::NotFound);
        }
        let ephemeral = self.relay.ephemerals.pop().ok_or(Failure::Busy)?;
        let header = self.letter_header(Operation::Whisper, (self.own.id(), peer));
        let mut payload = vec![0; len];
        payload[sealing::FRONT_LEN..len - TAG_LEN].copy_from_slice(&question.payload);
        let pair = AwsLc::static_pair(&self.identity);
        sealing::seal::<AwsLc>(&pair, recipient, (&header, &self.network), ephemeral, &mut payload);
        let message: Arc<[u8]> = sign(&self.identity, &self.network, &header, &payload).into();
        let signed = Signed::parse(&mut Reader::new(&message)).expect("we wrote it");
        let id = message_id(&self.network, &signed);
        let until = self.now.instant + question.wait;
        self.relay.open.insert(id, Open { ticket, from: header.from, to: peer, until });
        self.pass(&peer, Letter { hops: 0, message: Arc::clone(&message) }, None);
        Ok(())
    }

    fn letter_header(&mut self, operation: Operation, (from, to): (NodeId, NodeId)) -> SignedHeader {
        let (instance, count) = (self.relay.instance, self.relay.count);
        self.relay.count += 1;
        let freshness = Some(Freshness { time_ms: self.now.wall.0, instance, count });
        SignedHeader { operation, is_sealed: operation == Operation::Whisper, from, to, freshness }
    }

    /// A session with the recipient; else whoever is closest to it and closer than we are.
    fn next_to(&self, to: &NodeId, came_from: Option<NodeId>) -> Option<NodeId> {
        if self.sessions.contains_key(to) {
            return Some(*to);
        }
        let (place, space) = (Space::place(to), self.plan.space);
        let distance = |node: &NodeId| space.distance(&place, &Space::place(node));
        let own = distance(&self.own.id());
        let mut near = Vec::new();
        self.table.closest(&place, (self.plan.replication, Audience::Own), &mut near);
        let known = near.iter().map(|contact| contact.id());
        let all = known.chain(self.sessions.keys().copied());
        let closer = all.filter(|node| Some(*node) != came_from && distance(node) < own);
        closer.min_by_key(|node| distance(node))
    }

    /// Gives a letter to the next node on its way; where there is none, it ends here.
    fn pass(&mut self, to: &NodeId, letter: Letter, came_from: Option<NodeId>) {
        if letter.hops >= HOPS_MAX {
            return;
        }
        let Some(next) = self.next_to(to, came_from) else { return };
        let endpoint = self.table.endpoint_of(&next).filter(|_| !self.sessions.contains_key(&next));
        self.begin_errand(next, endpoint, Purpose::Carry(letter));
    }

    /// There is a session with the next node.
    pub(super) fn hand_over(&mut self, session: SessionId, letter: &Letter) {
        let Letter { hops, message } = letter;
        let note = Note::CarryOn { session, hops: *hops, message: Arc::clone(message) };
        self.outbox.push_back((session.shard(), note));
    }

    /// A peer brought a letter, or the answer to one.
    pub(super) fn on_letter(&mut self, brought: Brought) {
        let Ok(signed) = Signed::parse(&mut Reader::new(&brought.message)) else { return };
        let (operation, to) = (signed.operation(), signed.to());
        if operation == Operation::Ack {
            return self.on_letter_acknowledged(&brought);
        }
        if self.relay.passed.contains_key(&brought.id) || self.relay.open.contains_key(&brought.id) {
            return;
        }
        if self.relay.passed.len() >= LETTERS_PASSED_MAX {
            return;
        }
        let until = self.now.instant + LETTER_LIFE;
        self.relay.passed.insert(brought.id, (brought.session, until));
        if self.key_of(&to).is_some() {
            return self.take_letter(brought);
        }
        // Whoever was whispered to stands where its present key does.
        let to = self.chains.present(&to);
        let letter = Letter { hops: brought.hops.saturating_add(1), message: brought.message.into() };
        self.pass(&to, letter, Some(brought.peer));
    }

    /// A letter is for us: believed as rumours are, opened, told, and acknowledged.
    fn take_letter(&mut self, mut brought: Brought) {
        let (now, id) = (self.now, brought.id);
        let relay = &mut self.relay;
        // Somebody who does not read is whispered nothing more: his peers hear that by their clocks.
        if self.notices.len() >= NOTICES_WAITING_MAX
            || relay.court.judge_letter(now, &mut relay.seen, &id, &mut brought.message).is_err()
        {
            return;
        }
        let Some((to, from, value)) = self.opened(&brought.message) else { return };
        let fact = Fact::Told { operation: Operation::Whisper, payload: value };
        self.notices.push_back(Notice::Heard { peer: from, fact });
        let header = self.letter_header(Operation::Ack, (to, from));
        let mut room = [0; 64];
        let mut out = Writer::new(&mut room);
        Ack::Whisper(id).write(&mut out).expect("an id is short");
        // The key that was whispered to says so: its sender waits for that one's word.
        let Some(identity) = self.key_of(&to) else { return };
        let message: Arc<[u8]> = sign(identity, &self.network, &header, out.written()).into();
        self.hand_over(brought.session, &Letter { hops: 0, message });
    }

    /// What a letter says, who says it, and to which key of ours.
    // spec: p2p/previous-letter
    fn opened(&self, message: &[u8]) -> Option<(NodeId, NodeId, Box<[u8]>)> {
        let signed = Signed::parse(&mut Reader::new(message)).ok()?;
        let header = signed.header();
        let sender = AwsLc::public_of(&header.from).ok()?;
        let pair = AwsLc::static_pair(self.key_of(&header.to)?);
        let mut sealed = signed.payload().to_vec();
        let value = sealing::open::<AwsLc>(&pair, sender, (&header, &self.network), &mut sealed).ok()?;
        Request::parse(Operation::Whisper, value).ok()?;
        Some((header.to, header.from, (&*value).into()))
    }

    /// The answer to a letter: ours, or one that we passed on.
    fn on_letter_acknowledged(&mut self, brought: &Brought) {
        let Ok(signed) = Signed::parse(&mut Reader::new(&brought.message)) else { return };
        let Some(id) = acknowledged(&signed) else { return };
        let is_for_us = |open: &&Open| open.to == signed.from() && open.from == signed.to();
        if self.relay.open.get(&id).filter(is_for_us).is_some() {
            let mut message = brought.message.clone();
            if check_signature(&self.network, &mut message).is_err() {
                return;
            }
            let Some(open) = self.relay.open.remove(&id) else { return };
            let result = Ok(Outcome::Ack(signed.payload().into()));
            return self.notices.push_back(Notice::Answered { ticket: open.ticket, result });
        }
        if brought.hops >= HOPS_MAX || signed.to() == self.own.id() {
            return;
        }
        // Each letter is answered once: what comes again has no way.
        let Some((session, _)) =
            self.relay.passed.get_mut(&id).filter(|(_, until)| *until > self.now.instant)
        else {
            return;
        };
        let session = core::mem::replace(session, NOWHERE);
        if session != NOWHERE {
            let letter = Letter { hops: brought.hops + 1, message: brought.message.clone().into() };
            self.hand_over(session, &letter);
        }
    }

    /// A second has passed: letters without an answer, and ways back that nobody will take.
    pub(super) fn work_relay(&mut self) {
        let now = self.now.instant;
        self.relay.passed.retain(|_, (_, until)| *until > now);
        let late = self.relay.open.extract_if(.., |_, open| open.until <= now);
        for (_, open) in late {
            let result = Ok(Outcome::TimedOut);
            self.notices.push_back(Notice::Answered { ticket: open.ticket, result });
        }
    }

    /// Nobody knows where a whisper's recipient is: it may be known on the way.
    pub(super) fn whisper_on(&mut self, errand: &Errand) -> bool {
        let Purpose::Application(ticket, question) = &errand.purpose else { return false };
        let is_whisper = question.operation == Operation::Whisper;
        is_whisper && self.try_whisper(errand.peer, *ticket, question).is_ok()
    }
}

/// No session: the answer has gone its way.
const NOWHERE: SessionId = SessionId(0);
