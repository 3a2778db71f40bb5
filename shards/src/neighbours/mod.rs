//! A node among its neighbours: conversations over the sessions of each shard, one table and its searches for all of them.
//!
//! In:    what a shard tells of sessions and messages; notes of the application and of other shards; time.
//! Out:   letters for the shard, events and notices for the application.
//! Holds: a session is asked for only on an errand and closed when it was unused for long; every search ends; whoever is in
//!        the table answered a question of ours at the endpoint of its own checked record.
//!
//! One stands beside each shard as an application does: events in, mail out. Each answers by itself what its sessions are
//! asked, FIND_NODE from what is known as of a moment. One of them has the hub: the table, searches, and the errands
//! that they need; the others tell it facts, and it has them ask, all by notes, which travel as mail.
//!
//! A session that others opened talks as soon as its peer does; nothing is said on it before. We ask whoever greets us for
//! the node closest to itself: that is its own record, since we count ourselves among the nodes that we know.
//!
//! spec: p2p/neighbours

mod beside;
mod hub;
mod keeping;
mod notice;
mod own_key;
pub mod rows;
mod rumours;
mod talk;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dunlin_codec::ids::{ChannelId, NodeId, SessionId};

use crate::blocks::Block;
use crate::dht::known::Known;
use crate::dht::space::Space;
use crate::dht::table::Table;
use crate::event::{Event, Ticket};
use crate::gossip::Court;
use crate::hash::HashKey;
use crate::identity::Identity;
use crate::identity::change::Past;
use crate::limits::RUMOUR_SKEW;
use crate::mail::{Connect, Mail};
use crate::messages::conversation::{Bench, Reply, Terms};
use crate::note::{Note, Origin};
use crate::placement::Placement;
use crate::rng::Rng;
use crate::time::{Instant, Now, WallMillis};
use beside::Aside;
use dunlin_codec::msgpack::Encoded;
use hub::Hub;
use keeping::{Bid, Keeping};
use rumours::Rumours;
use talk::{Place, Talk};

pub use notice::{Failure, Notice, Said};
pub use talk::Received;

/// Tickets of ours have this bit; the application's do not.
const OURS: u64 = 1 << 63;

/// The ticket is one of ours: the application has never heard of it.
const fn is_ours(ticket: Ticket) -> bool {
    ticket.0 & OURS != 0
}

/// How often the neighbours look at their clocks.
const TICK: Duration = Duration::from_secs(1);

/// The shard whose neighbours have the hub.
pub const HUB: u8 = 0;

/// What the shard is to do.
#[derive(Debug)]
pub enum Letter {
    /// Take in this.
    Mail(Mail),
    /// Send this as one message, reliable and in order; `Neighbours::on_released` hears of its end.
    Send {
        /// On this session.
        session: SessionId,
        /// On this channel.
        channel: ChannelId,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

/// Where a node is and which of its shards this is.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The shard's index.
    pub shard: u8,
    /// Which shard takes in whom.
    pub placement: Placement,
    /// Where the node can be reached: nowhere, and it can only initiate.
    pub endpoints: Vec<SocketAddr>,
}

/// What one shard has of a node's neighbours.
#[derive(Debug)]
pub struct Neighbours {
    bench: Bench,
    now: Now,
    shard: u8,
    placement: Placement,
    keeping: Keeping,
    /// Sessions with answers of holders that wait to leave.
    unsent: Vec<SessionId>,
    /// Sessions on which time may bring something about.
    watched: BTreeSet<SessionId>,
    places: BTreeMap<SessionId, Place>,
    talks: BTreeMap<SessionId, Talk>,
    /// Sessions that became one with another, and with which: the last few. Answers still come there.
    heirs: VecDeque<(SessionId, SessionId)>,
    /// Sessions of ours that became one with another, until nothing comes there any more.
    aside: BTreeMap<SessionId, Aside>,
    hub: Option<Box<Hub>>,
    /// Notes of this shard for the hub beside it.
    inward: VecDeque<Note>,
    rumours: Rumours,
    tick_at: Instant,
    letters: VecDeque<Letter>,
    /// Memory of transmissions that left, for those that come.
    spare: Vec<Vec<u8>>,
    notices: VecDeque<Notice>,
    events: VecDeque<Event>,
    /// Words that were dropped because nobody read those before them.
    unread: u64,
    /// Until when every peer is told of the change of our key.
    tell_until: WallMillis,
    /// Sessions whose peers are still to be told of it.
    untold: VecDeque<SessionId>,
}

impl Neighbours {
    /// A node that knows nobody.
    #[must_use]
    pub fn new(identity: &Identity, terms: Terms, seat: &Seat, (now, mut rng): (Now, Rng)) -> Self {
        let space = Space::new(terms.constants.address_bits);
        let mut draw = || HashKey([rng.next_u64(), rng.next_u64()]);
        let (seen_key, origins_key) = (draw(), draw());
        let court = Court::new(terms.network, terms.rumours, origins_key);
        let rumours = Rumours::new(identity.id(), seat.placement, (court, terms.rumours.link));
        let hub = (seat.shard == HUB).then(|| Box::new(Hub::new(identity, &terms, seat, (now, rng))));
        let mut this = Self {
            now,
            shard: seat.shard,
            placement: seat.placement,
            keeping: Keeping::new(&terms, seat.placement.shard_count(), now),
            unsent: Vec::new(),
            watched: BTreeSet::new(),
            places: BTreeMap::new(),
            talks: BTreeMap::new(),
            heirs: VecDeque::new(),
            aside: BTreeMap::new(),
            hub,
            inward: VecDeque::new(),
            rumours,
            tick_at: now.instant + TICK,
            letters: VecDeque::new(),
            spare: Vec::new(),
            notices: VecDeque::new(),
            events: VecDeque::new(),
            unread: 0,
            tell_until: WallMillis(0),
            untold: VecDeque::new(),
            bench: Bench::new(terms, Arc::new(Known::nobody(identity.id(), space))).with_key(seen_key),
        };
        // Clocks may be apart: what was said shortly after we came may look as if it had been before.
        this.bench.wants_since = WallMillis(now.wall.0.saturating_add(RUMOUR_SKEW.as_millis() as u64));
        this.settle();
        this
    }

    /// The same for a node whose key has a past: its record says so, and peers are told of its last change for a day.
    #[must_use]
    pub fn with_past(mut self, past: Past) -> Self {
        self.tell_until = past.told().map_or(WallMillis(0), |(_, until)| until);
        if let Some(hub) = &mut self.hub {
            hub.on_past(past);
        }
        self.settle();
        self
    }

    /// The same for a node that had another key before it started: letters to that are opened until then, as Hellos to it are
    /// answered.
    #[must_use]
    pub fn with_previous(mut self, previous: Identity, until: Instant) -> Self {
        if let Some(hub) = &mut self.hub {
            hub.answer_previous(previous, until);
        }
        self
    }

    /// The nodes that we know; the shard with the hub has them.
    #[must_use]
    pub fn table(&self) -> Option<&Table> {
        self.hub.as_ref().map(|hub| hub.table())
    }

    /// What FIND_NODE is answered from.
    #[must_use]
    pub const fn known(&self) -> &Arc<Known> {
        &self.bench.known
    }

    /// Words of peers that were dropped because the application did not read those before them.
    #[must_use]
    pub const fn unread(&self) -> u64 {
        self.unread
    }

    fn begin(&mut self, now: Now) {
        self.now = now;
        self.bench.now = now.instant;
        if let Some(hub) = &mut self.hub {
            hub.begin(now);
        }
    }

    /// A note came.
    pub fn handle_note(&mut self, now: Now, note: Note) {
        self.begin(now);
        self.on_note(note);
        self.settle();
    }

    fn on_note(&mut self, note: Note) {
        match note {
            Note::AskOn { ticket, session, question } => self.ask_on(ticket, session, &question),
            Note::Call { ticket, peer, endpoint } => self.call(ticket, peer, endpoint),
            Note::Known(known) => self.on_known(known),
            Note::LinkDecided { session, request, is_link, is_granted } => {
                self.on_link_decided(session, request, is_link, is_granted);
            }
            Note::Kin(kin) => self.keeping.on_kin(kin),
            Note::NewKey(new) => self.on_new_key(&new),
            Note::KeyChangeJudged { session, request, is_taken } => {
                self.on_key_change_judged(session, request, is_taken);
            }
            Note::CarriesOn(session) => self.adopt(session),
            Note::Reply { session, request, is_ack, value } => {
                self.reply(session, request, is_ack, &value);
            }
            Note::Keep { origin, peer, from, operation, payload } => {
                self.keep(Bid { origin, peer, from, operation, payload });
            }
            Note::Kept { origin: Origin::Session { session, request }, finding } => {
                self.on_kept((session, request), &finding);
            }
            Note::Settled { .. } => self.on_settled(note),
            Note::Leased { shard, holder, ends } => self.on_leased(shard, holder, ends),
            Note::Written { ticket, is_durable } => self.on_written(ticket, is_durable),
            Note::Judge(brought) => self.judge(*brought),
            Note::Forged(session) => self.on_forged(session),
            Note::Rumour(rumour) => self.on_rumour(&rumour),
            Note::CarryOn { session, hops, message } => self.carry_letter(session, (hops, message)),
            note => self.tell(note),
        }
    }

    fn on_known(&mut self, known: Arc<Known>) {
        let replication = self.bench.terms.constants.replication as usize;
        self.keeping.on_known(self.now, &known, replication);
        self.bench.known = known;
    }

    /// For the hub, wherever it is.
    fn tell(&mut self, note: Note) {
        if self.hub.is_some() {
            self.inward.push_back(note);
        } else if self.shard != HUB {
            self.post_note(HUB, note);
        }
    }

    /// Lets the hub work until nothing is left between it and this shard.
    fn settle(&mut self) {
        while let Some(hub) = &mut self.hub {
            if let Some(note) = self.inward.pop_front() {
                hub.on_note(note);
                continue;
            }
            match hub.poll_note() {
                Some((to, note)) if to == self.shard => self.on_note(note),
                Some((to, note)) => {
                    self.letters.push_back(Letter::Mail(Mail::Note { to, note: Box::new(note) }));
                }
                None => break,
            }
        }
        if let Some(hub) = &mut self.hub {
            self.notices.extend(core::iter::from_fn(|| hub.poll_notice()));
        }
        self.send_kept();
        self.send_rumours();
    }

    fn call(&mut self, ticket: Ticket, peer: NodeId, endpoint: SocketAddr) {
        let connect = Connect {
            ticket,
            id: Some(peer),
            remote: endpoint,
            early: Vec::new(),
            instance: dunlin_codec::ids::InstanceId::default(),
        };
        self.letters.push_back(Letter::Mail(Mail::Connect(Box::new(connect))));
    }

    /// The application answers CUSTOM.
    fn reply(&mut self, session: SessionId, request: u64, is_ack: bool, value: &[u8]) {
        let session = self.heir_of(session);
        let Some(talk) = self.talks.get_mut(&session) else { return };
        // The application's interface lets nothing else through; should it, the peer is told no.
        let value = Encoded::parse(value);
        let reply = match value {
            Ok(value) if is_ack => Reply::Ack(value),
            value => Reply::Nack(value.unwrap_or(Encoded::NIL)),
        };
        talk.conversation.reply(&mut self.bench, request, reply);
        self.pump(session);
    }

    /// Time has come for something.
    pub fn handle_timeout(&mut self, now: Now) {
        self.begin(now);
        if self.tick_at <= now.instant {
            self.tick_at = now.instant + TICK;
            self.tick_watched();
            self.tell_untold();
        }
        self.tick_holder();
        if let Some(hub) = &mut self.hub {
            hub.on_time();
        }
        self.settle();
    }

    /// When `handle_timeout` is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let hub = self.hub.as_ref().map(|hub| hub.due_at());
        let is_ticking = !self.watched.is_empty() || !self.untold.is_empty();
        let tick = is_ticking.then_some(self.tick_at);
        hub.into_iter().chain(tick).chain(self.keeping.poll_timeout()).min()
    }

    /// Letters wait.
    #[must_use]
    pub fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    /// Where the letters that wait would call.
    pub fn dialled(&self) -> impl Iterator<Item = SocketAddr> {
        self.letters.iter().filter_map(|letter| match letter {
            Letter::Mail(Mail::Connect(connect)) => Some(connect.remote),
            _ => None,
        })
    }

    /// The next letter.
    pub fn poll_letter(&mut self) -> Option<Letter> {
        self.letters.pop_front()
    }

    /// The next event that the application is to hear besides those of its own sessions; before the one that `on_event` gives
    /// back.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next notice.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}

/// A block's worth of a message, for whoever drives this: what `Event::Message` said.
impl Received {
    /// What a shard told.
    #[must_use]
    pub const fn new(session: SessionId, channel: ChannelId, charge: u32, block: Block) -> Self {
        Self { session, channel, charge, block }
    }
}
