//! What the node says to everybody, and what it learns from what others say.
//!
//! In:    words of the application, the node's own record; rumours that were verified.
//! Out:   signed rumours for every shard's links; how many of them took each; nodes for the table.
//! Holds: a count is never used twice within a start of the node, and its 16 bits of instance are drawn at each start; the
//!        node says no more than others take of it; whoever said something hears what became of it, within a second or two.
//!
//! A node announces itself once it has links, when its record is renewed, and when it has links again after it had none. One
//! that can only initiate does not: nobody could do anything with that. Whoever hears of a node keeps its record with those
//! that wait beside the buckets, as told by the peer that brought it: the table calls it when it lacks one, as it does with
//! all that it was told (T9, T10).
//!
//! spec: p2p/broadcast, p2p/announce

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_codec::args::Request;
use dunlin_codec::bytes::Writer;
use dunlin_codec::message::{EVERYBODY, Freshness, Operation, SignedHeader, SignedMessageId};
use dunlin_codec::record::NODE_RECORD_LEN_MAX;

use super::{Hub, Notice};
use crate::budget::{Budget, Rate};
use crate::dht::contact::Heard;
use crate::event::Ticket;
use crate::gossip::Rumour;
use crate::identity::chain::Word;
use crate::limits::{BROADCASTS_OPEN_MAX, REQUEST_TIMEOUT, RUMOUR_LEN_MAX, RUMOURS_BURST_MARGIN};
use crate::neighbours::{Failure, Said, is_ours};
use crate::note::Note;
use crate::rng::Rng;
use crate::time::Instant;

/// A broadcast that left, and the shards that have not said yet on how many links.
#[derive(Debug)]
struct Leaving {
    id: SignedMessageId,
    shards: usize,
    links: usize,
    until: Instant,
}

/// What the node has of its own words.
#[derive(Debug)]
pub(super) struct Voice {
    instance: u16,
    count: u64,
    rate: Rate,
    said: Budget,
    leaving: BTreeMap<Ticket, Leaving>,
    /// The node's present record was not announced yet.
    is_news: bool,
    /// Those who have links heard of the change of our key, if there is one to tell.
    is_changed_key_said: bool,
}

impl Voice {
    pub(super) fn new(origin: Rate, rng: &mut Rng) -> Self {
        Self {
            instance: (rng.next_u64() >> 48) as u16,
            count: 0,
            rate: Rate { burst: origin.burst.saturating_sub(RUMOURS_BURST_MARGIN).max(1), ..origin },
            said: Budget::default(),
            leaving: BTreeMap::new(),
            is_news: true,
            is_changed_key_said: false,
        }
    }

    /// The node's key is a new one.
    pub(super) fn on_new_key(&mut self) {
        self.is_changed_key_said = false;
    }

    /// The node's record is a new one.
    pub(super) fn on_news(&mut self) {
        self.is_news = true;
    }
}

impl Hub {
    /// Words of this start of the node have these bits.
    pub(in crate::neighbours) const fn is_own_instance(&self, instance: u16) -> bool {
        self.voice.instance == instance
    }

    /// Says something to everybody: the payload of a SHOUT, an ANNOUNCE or a CHANGE_KEY.
    pub(super) fn broadcast(&mut self, ticket: Ticket, operation: Operation, payload: &[u8]) {
        if let Err(failure) = self.try_broadcast(ticket, operation, payload) {
            self.tell_said(ticket, Err(failure));
        }
    }

    fn try_broadcast(&mut self, ticket: Ticket, operation: Operation, payload: &[u8]) -> Result<(), Failure> {
        let is_rumour = matches!(operation, Operation::Shout | Operation::Announce | Operation::ChangeKey);
        if !is_rumour || payload.len() > RUMOUR_LEN_MAX || Request::parse(operation, payload).is_err() {
            return Err(Failure::NotSayable);
        }
        let now = self.now.instant;
        let is_ready = self.voice.rate.is_ready(self.voice.said, now);
        if !is_ready || self.voice.leaving.len() >= BROADCASTS_OPEN_MAX {
            return Err(Failure::Busy);
        }
        self.voice.rate.take(&mut self.voice.said, now, 1);
        let freshness =
            Freshness { time_ms: self.now.wall.0, instance: self.voice.instance, count: self.voice.count };
        self.voice.count += 1;
        let header = SignedHeader {
            operation,
            is_sealed: false,
            from: self.own.id(),
            to: EVERYBODY,
            freshness: Some(freshness),
        };
        let rumour = Rumour::sign(&self.identity, &self.network, (&header, payload), Some(ticket));
        let shards = self.placement.shard_count();
        let leaving = Leaving { id: rumour.id, shards, links: 0, until: now + REQUEST_TIMEOUT };
        self.voice.leaving.insert(ticket, leaving);
        let rumour = Arc::new(rumour);
        let notes = (0..shards as u8).map(|shard| (shard, Note::Rumour(Arc::clone(&rumour))));
        self.outbox.extend(notes);
        Ok(())
    }

    /// A shard gave a broadcast to so many links.
    pub(super) fn on_carried_on(&mut self, ticket: Ticket, links: usize) {
        let Some(leaving) = self.voice.leaving.get_mut(&ticket) else { return };
        leaving.links += links;
        leaving.shards = leaving.shards.saturating_sub(1);
        let Leaving { id, shards, links, .. } = *leaving;
        if shards == 0 {
            self.voice.leaving.remove(&ticket);
            self.tell_said(ticket, Ok(Said { id, links }));
        }
    }

    fn tell_said(&mut self, ticket: Ticket, result: Result<Said, Failure>) {
        if !is_ours(ticket) {
            self.notices.push_back(Notice::Broadcast { ticket, result });
        }
    }

    /// A second has passed: the node says that it is there, if it has not; what a lost note left behind is told.
    pub(super) fn work_voice(&mut self) {
        let now = self.now.instant;
        let late = self.voice.leaving.extract_if(.., |_, leaving| leaving.until <= now);
        let late: Vec<(Ticket, Leaving)> = late.collect();
        for (ticket, Leaving { id, links, .. }) in late {
            self.tell_said(ticket, Ok(Said { id, links }));
        }
        if !self.links.is_any() {
            self.voice.is_news = true;
        } else if self.voice.is_news && self.own.endpoint().is_some() {
            self.announce();
        }
        if !self.links.is_any() {
            self.voice.is_changed_key_said = false;
        } else if !self.voice.is_changed_key_said
            && let Some(payload) = self.fresh_key_change()
        {
            let ticket = self.ticket();
            let said = self.try_broadcast(ticket, Operation::ChangeKey, &payload);
            self.voice.is_changed_key_said = said.is_ok();
        }
    }

    fn announce(&mut self) {
        let mut room = [0; NODE_RECORD_LEN_MAX + 8];
        let mut out = Writer::new(&mut room);
        let request = Request::Announce(self.own.record());
        request.write(&mut out).expect("the room is as large as a record in a bin can be");
        let ticket = self.ticket();
        // Where we have said too much of late, it is said a little later.
        self.voice.is_news = self.try_broadcast(ticket, Operation::Announce, out.written()).is_err();
    }

    /// What others say to everybody and is not for the application.
    pub(super) fn on_arrived(&mut self, rumour: &Rumour) {
        let message = rumour.message();
        match Request::parse(message.operation(), message.payload()) {
            Ok(Request::Announce(record)) if record.fields.key == message.from() => {
                let source = rumour.came_on.map_or(message.from(), |(_, peer)| peer);
                self.on_heard(&Heard::new(&record), source);
            }
            Ok(Request::ChangeKey(_)) => {
                // What does not count changes nothing; a fork is told as news.
                let _ = self.on_key_change(message.payload(), Word::Rumour);
            }
            _ => {}
        }
    }
}
