//! The neighbours beside a driver's shard: its events and notes in, letters to the shard and words for the application out.

use std::sync::Arc;

use dunlin_codec::message::Operation;
use dunlin_shards::dht::known::Known;
use dunlin_shards::event::Event as ShardEvent;
use dunlin_shards::gossip::Counts;
use dunlin_shards::identity::chain::News;
use dunlin_shards::messages::conversation::Fact;
use dunlin_shards::neighbours::{HUB, Neighbours, Notice};
use dunlin_shards::note::Note;
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::shard::Shard;
use dunlin_shards::time::{Instant, Now};

use super::event::{NetworkEvent, Question, Told};
use super::shared::{Answered, NetworkShared, Rings};
use crate::api::shared::EngineShared;
use crate::entropy::OsEntropy;
use crate::shelf::Shelf;

/// One shard's neighbours, and whom they tell.
pub(crate) struct Beside {
    neighbours: Neighbours,
    known: Arc<Known>,
    network: Arc<NetworkShared>,
    engine: Arc<EngineShared>,
    has_hub: bool,
    /// Where the holder's rows go.
    shelf: Shelf,
    rings: Rings,
}

impl Beside {
    pub(crate) fn new(
        shard: u8,
        (neighbours, shelf): (Neighbours, Shelf),
        (network, engine): (Arc<NetworkShared>, Arc<EngineShared>),
    ) -> Self {
        let known = Arc::clone(neighbours.known());
        Self { neighbours, known, network, engine, has_hub: shard == HUB, shelf, rings: Rings::default() }
    }

    /// Takes in what the shard tells; gives back what else the application is to hear, behind what `poll_event` has.
    pub(crate) fn on_event(
        &mut self,
        now: Now,
        shard: &mut Shard<AwsLc, OsEntropy>,
        event: ShardEvent,
    ) -> Option<ShardEvent> {
        self.neighbours.on_event(now, shard, event)
    }

    pub(crate) fn poll_event(&mut self) -> Option<ShardEvent> {
        self.neighbours.poll_event()
    }

    /// What became of words to everybody on this shard.
    pub(crate) fn rumours(&self) -> Counts {
        self.neighbours.rumours()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.neighbours.poll_timeout()
    }

    /// Takes in notes and time, gives the shard its letters and the application its words. False: nothing happened.
    pub(crate) fn work(&mut self, now: Now, shard: &mut Shard<AwsLc, OsEntropy>) -> bool {
        while let Some(note) = shard.poll_note() {
            self.neighbours.handle_note(now, note);
        }
        let words = self.shelf.words();
        let has_words = !words.is_empty();
        for word in words {
            let (ticket, is_durable) = (word.number, word.is_durable);
            self.neighbours.handle_note(now, Note::Written { ticket, is_durable });
        }
        if self.neighbours.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.neighbours.handle_timeout(now);
        }
        let has_letters = self.neighbours.has_letters();
        self.neighbours.post(now, shard);
        while let Some(notice) = self.neighbours.poll_notice() {
            self.on_notice(notice);
        }
        if self.has_hub && !Arc::ptr_eq(&self.known, self.neighbours.known()) {
            self.known = Arc::clone(self.neighbours.known());
            self.network.set_known(Arc::clone(&self.known));
        }
        has_letters || has_words
    }

    /// Wakes those for whom something came.
    pub(crate) fn ring(&mut self) {
        self.network.ring(&mut self.rings);
    }

    fn on_notice(&mut self, notice: Notice) {
        let event = match notice {
            Notice::Answered { ticket, result } => {
                return self.network.put_answer(ticket, Answered::Outcome(result), &mut self.rings);
            }
            Notice::Found { ticket, nodes, .. } => {
                return self.network.put_answer(ticket, Answered::Nodes(nodes), &mut self.rings);
            }
            Notice::Stored { ticket, result } => {
                return self.network.put_answer(ticket, Answered::Stored(result), &mut self.rings);
            }
            Notice::Read { ticket, result } => {
                return self.network.put_answer(ticket, Answered::Read(result), &mut self.rings);
            }
            Notice::Decided { ticket, result } => {
                return self.network.put_answer(ticket, Answered::Decided(result), &mut self.rings);
            }
            Notice::Write { ticket, rows } => return self.shelf.put(ticket, rows),
            Notice::Changed { key, event } => NetworkEvent::Changed { key: key.into(), event },
            Notice::KeyChain { first, row } => return self.network.put_chain(first, row),
            Notice::Key(News::Followed { old, new }) => {
                tracing::info!("{old} changed its key, and is {new} from now on");
                NetworkEvent::KeyChanged { old, new }
            }
            Notice::Key(News::Frozen(key)) => {
                tracing::warn!("two have the key {key}, or one that it became: it is not followed any more");
                NetworkEvent::KeyFrozen(key)
            }
            Notice::Met(peer) => NetworkEvent::Met(peer),
            Notice::Parted(peer, farewell) => NetworkEvent::Parted { peer, reason: farewell.reason },
            Notice::Heard { peer, fact: Fact::Told { operation, payload } } => {
                NetworkEvent::Told(Told { from: peer, operation, value: payload })
            }
            // A conversation tells the application nothing else.
            Notice::Heard { .. } => return,
            Notice::Rumour { from, value, .. } => {
                NetworkEvent::Told(Told { from, operation: Operation::Shout, value })
            }
            Notice::Broadcast { ticket, result } => {
                return self.network.put_answer(ticket, Answered::Said(result), &mut self.rings);
            }
            Notice::Asked { peer, session, request, value } => {
                let engine = Arc::clone(&self.engine);
                let question = Question { engine, from: peer, session, request, value, is_answered: false };
                NetworkEvent::Asked(question)
            }
        };
        self.network.put_event(event, &mut self.rings);
    }
}
