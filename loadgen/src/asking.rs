//! A member of a crowd that asks: FIND_NODE for drawn places, so many under way at once on the session that it has.
//!
//! In:    what its shard tells of the session, and whether it is to ask.
//! Out:   questions; how many answers came that list nodes, how long each took.
//! Holds: every question is for another place; one that nobody answers in time counts as failed.
//!
//! It talks as every node does and can be called by nobody, so that no node tells of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dunlin::Config;
use dunlin::entropy::OsEntropy;
use dunlin_codec::args::{Ack, Request};
use dunlin_codec::ids::{Address, ChannelId, NodeId, SessionId};
use dunlin_codec::label::Network;
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::blocks::Block;
use dunlin_shards::dht::known::Known;
use dunlin_shards::dht::space::Space;
use dunlin_shards::event::Ticket;
use dunlin_shards::mail::{self, Mail};
use dunlin_shards::messages::conversation::{Bench, Conversation, Fact, Terms};
use dunlin_shards::rng::Rng;
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::shard::Shard;
use dunlin_shards::time::{Instant, Now};
use hdrhistogram::Histogram;

use crate::Fault;
use crate::recorder::histogram;

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What a crowd's questions came to.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    /// Answers that list nodes.
    pub(crate) answers: u64,
    /// Nodes in them.
    pub(crate) nodes: u64,
    /// Questions that were refused, or not answered in time.
    pub(crate) failed: u64,
    /// How long each answer took, in ns.
    pub(crate) times: Histogram<u64>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { answers: 0, nodes: 0, failed: 0, times: histogram() }
    }
}

impl Answers {
    /// Nothing yet; the room stays.
    pub(crate) fn clear(&mut self) {
        (self.answers, self.nodes, self.failed) = (0, 0, 0);
        self.times.reset();
    }

    /// These and those.
    pub(crate) fn add(&mut self, more: &Self) {
        self.answers += more.answers;
        self.nodes += more.nodes;
        self.failed += more.failed;
        // All histograms have the same bounds.
        let _ = self.times.add(&more.times);
    }
}

/// What every member's conversation goes by.
pub(crate) fn terms() -> Result<Terms, Fault> {
    let config = Config::default();
    let network = Network(dunlin_bench::callers::network());
    Ok(Terms::new(NodeId([0; 32]), network, config.network.constants(), &config.network.description)?)
}

/// One member's conversation.
pub(crate) struct Asking {
    bench: Bench,
    talk: Option<(SessionId, Conversation)>,
    /// Questions that may be under way.
    parallel: usize,
    rng: Rng,
    tickets: u64,
    /// When each that is under way was asked.
    asked: BTreeMap<u64, Instant>,
    bytes: Vec<u8>,
}

impl Asking {
    pub(crate) fn new(own: NodeId, terms: &Terms, parallel: usize) -> Self {
        let terms = Terms { own, ..terms.clone() };
        let nobody = Arc::new(Known::nobody(own, Space::new(terms.constants.address_bits)));
        Self {
            bench: Bench::new(terms, nobody),
            talk: None,
            parallel,
            rng: Rng::from_seed(OsEntropy.array()),
            tickets: 0,
            asked: BTreeMap::new(),
            bytes: Vec::new(),
        }
    }

    /// It greets whom it has called.
    pub(crate) fn on_connected(&mut self, now: Now, session: SessionId, peer: NodeId) {
        self.bench.now = now.instant;
        self.talk = Some((session, Conversation::begin(&mut self.bench, peer, false)));
    }

    /// A message of its session.
    pub(crate) fn on_message(&mut self, now: Now, channel: ChannelId, block: &Block) {
        self.bench.now = now.instant;
        if let Some((_, talk)) = &mut self.talk {
            talk.on_transmission(&mut self.bench, channel, block);
        }
    }

    /// Takes in what was answered, asks again if it is to, and says what there is to say.
    pub(crate) fn work(
        &mut self,
        now: Now,
        (shard, is_asking): (&mut Shard<AwsLc, OsEntropy>, bool),
        answers: &mut Answers,
    ) {
        self.bench.now = now.instant;
        let Some((session, talk)) = &mut self.talk else { return };
        talk.handle_timeout(now.instant);
        while let Some(fact) = talk.poll_fact() {
            let Fact::Answered { ticket, outcome } = fact else { continue };
            let Some(asked_at) = self.asked.remove(&ticket.0) else { continue };
            match outcome.ack() {
                Some(Ack::Nodes(nodes)) => {
                    answers.answers += 1;
                    answers.nodes += nodes.iter().count() as u64;
                    answers.times.saturating_record(now.instant.since(asked_at).as_nanos() as u64);
                }
                _ => answers.failed += 1,
            }
        }
        while is_asking && talk.is_met() && self.asked.len() < self.parallel {
            let mut place = [0; 32];
            self.rng.fill(&mut place);
            self.tickets += 1;
            let question = Request::FindNode(Address(place));
            if talk.ask(&mut self.bench, Ticket(self.tickets), &question, ANSWER).is_err() {
                break;
            }
            self.asked.insert(self.tickets, now.instant);
        }
        while let Some(channel) = talk.poll_transmission(&mut self.bytes) {
            let Some(mut block) = shard.take_block(self.bytes.len()) else { return };
            block.fill_from(&self.bytes);
            let message = Outgoing { channel, ..Outgoing::new(block) };
            let mail = Mail::Send { session: *session, message };
            shard.handle_mail(now, mail::From::Application, mail);
        }
    }

    /// Both sides have named the same network.
    pub(crate) fn is_met(&self) -> bool {
        self.talk.as_ref().is_some_and(|(_, talk)| talk.is_met())
    }

    /// When it is to be looked at though nothing comes.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.talk.as_ref().and_then(|(_, talk)| talk.poll_timeout())
    }
}
