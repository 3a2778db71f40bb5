//! What a member of a crowd says to the node that it called, and hears from it, as every node does.
//!
//! In:    what its shard tells of the session.
//! Out:   facts; transmissions, through the shard.
//! Holds: it can be called by nobody, so that no node tells of it.

use std::sync::Arc;

use dunlin::Config;
use dunlin::entropy::OsEntropy;
use dunlin_codec::ids::{ChannelId, NodeId, SessionId};
use dunlin_codec::label::Network;
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::blocks::Block;
use dunlin_shards::dht::known::Known;
use dunlin_shards::dht::space::Space;
use dunlin_shards::mail::{self, Mail};
use dunlin_shards::messages::conversation::{Bench, Conversation, Fact, Terms};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::shard::Shard;
use dunlin_shards::time::{Instant, Now};

use crate::Fault;

/// A member's shard.
pub(crate) type OwnShard = Shard<AwsLc, OsEntropy>;

/// The network that both sides are of.
pub(crate) fn network() -> Network {
    Network(dunlin_bench::callers::network())
}

/// What every member's conversation goes by.
pub(crate) fn terms() -> Result<Terms, Fault> {
    let config = Config::default();
    Ok(Terms::new(NodeId([0; 32]), network(), config.network.constants(), &config.network.description)?)
}

/// One member's conversation.
pub(crate) struct Talk {
    bench: Bench,
    with: Option<(SessionId, Conversation)>,
    bytes: Vec<u8>,
}

impl Talk {
    pub(crate) fn new(own: NodeId, terms: &Terms) -> Self {
        let terms = Terms { own, ..terms.clone() };
        let nobody = Arc::new(Known::nobody(own, Space::new(terms.constants.address_bits)));
        Self { bench: Bench::new(terms, nobody), with: None, bytes: Vec::new() }
    }

    /// It greets whom it has called.
    pub(crate) fn on_connected(&mut self, now: Now, session: SessionId, peer: NodeId) {
        self.bench.now = now.instant;
        self.with = Some((session, Conversation::begin(&mut self.bench, peer, false)));
    }

    /// A message of its session.
    pub(crate) fn on_message(&mut self, now: Now, channel: ChannelId, block: &Block) {
        self.bench.now = now.instant;
        if let Some((_, talk)) = &mut self.with {
            talk.on_transmission(&mut self.bench, channel, block);
        }
    }

    /// Both sides have named the same network.
    pub(crate) fn is_met(&self) -> bool {
        self.with.as_ref().is_some_and(|(_, talk)| talk.is_met())
    }

    /// Time passes.
    pub(crate) fn on_time(&mut self, now: Instant) {
        self.bench.now = now;
        if let Some((_, talk)) = &mut self.with {
            talk.handle_timeout(now);
        }
    }

    /// The conversation and what it works with, once there is one.
    pub(crate) fn both(&mut self) -> Option<(&mut Conversation, &mut Bench)> {
        let (_, talk) = self.with.as_mut()?;
        Some((talk, &mut self.bench))
    }

    /// The next fact.
    pub(crate) fn poll_fact(&mut self) -> Option<Fact> {
        self.with.as_mut().and_then(|(_, talk)| talk.poll_fact())
    }

    /// Gives the shard what there is to say; how many transmissions that were.
    pub(crate) fn send(&mut self, now: Now, shard: &mut OwnShard) -> usize {
        let Some((session, talk)) = &mut self.with else { return 0 };
        let mut count = 0;
        while let Some(channel) = talk.poll_transmission(&mut self.bytes) {
            let Some(mut block) = shard.take_block(self.bytes.len()) else { break };
            block.fill_from(&self.bytes);
            let message = Outgoing { channel, ..Outgoing::new(block) };
            shard.handle_mail(now, mail::From::Application, Mail::Send { session: *session, message });
            count += 1;
        }
        count
    }

    /// When it is to be looked at though nothing comes.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.with.as_ref().and_then(|(_, talk)| talk.poll_timeout())
    }
}
