//! A node among its neighbours: conversations over sessions, the routing table that they feed, lookups that use both.
//!
//! In:    what a shard tells of sessions and messages; places to look up; time.
//! Out:   letters for the shard, notices for the application.
//! Holds: a session is asked for only on an errand and closed when it was unused for long; every search ends; whoever is in
//!        the table answered a question of ours at the endpoint of its own checked record.
//!
//! It stands beside a shard as an application does: events in, mail out. A session that others opened talks as soon as its
//! peer does; nothing is said on it before. We ask whoever greets us for the node closest to itself: that is its own record,
//! since we count ourselves among the nodes that we know.
//!
//! spec: p2p/neighbours

mod beside;
mod errand;
mod search;
mod talk;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use dunlin_codec::ids::{ChannelId, NodeId, SessionId};

use crate::blocks::Block;
use crate::dht::contact::{Contact, Heard};
use crate::dht::lookup::{Lookup, Plan};
use crate::dht::space::Space;
use crate::dht::table::Table;
use crate::event::Ticket;
use crate::identity::Identity;
use crate::mail::{Connect, Mail};
use crate::messages::conversation::{Asked, Bench, Conversation, Farewell, Outcome, Terms};
use crate::rng::Rng;
use crate::time::{Instant, Now, WallMillis};
use errand::{Call, Errand, Purpose};
use talk::{Place, Talk};

pub use talk::Received;

/// Tickets of ours have this bit; the application's do not.
const OURS: u64 = 1 << 63;

/// How often the neighbours look at their clocks.
const TICK: Duration = Duration::from_secs(1);

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

/// What the application is told.
#[derive(Debug)]
pub enum Notice {
    /// A peer of our network talks to us.
    Met(NodeId),
    /// The conversation ended for a reason, and its session with it.
    Parted(NodeId, Farewell),
    /// A peer asks what only the application can answer, by [`Neighbours::conversation`].
    Asked {
        /// Who.
        peer: NodeId,
        /// What the answer is given with.
        request: u64,
        /// For what.
        what: Asked,
    },
    /// SPEAK or WHISPER, or a signed message on its way.
    Heard {
        /// From whom it came.
        peer: NodeId,
        /// It.
        fact: crate::messages::conversation::Fact,
    },
    /// A question of the application's is done with.
    Answered {
        /// Its name for it.
        ticket: Ticket,
        /// How.
        outcome: Outcome,
    },
    /// A search is done.
    Found {
        /// Its number.
        search: u64,
        /// The closest nodes that answered, the closest first.
        nodes: Vec<Heard>,
    },
}

/// A node among its neighbours.
#[derive(Debug)]
pub struct Neighbours {
    bench: Bench,
    wall: WallMillis,
    own: Contact,
    plan: Plan,
    table: Table,
    rng: Rng,
    places: BTreeMap<SessionId, Place>,
    talks: BTreeMap<SessionId, Talk>,
    by_peer: BTreeMap<NodeId, SessionId>,
    calls: BTreeMap<Ticket, Call>,
    errands: BTreeMap<Ticket, Errand>,
    searches: BTreeMap<u64, Lookup>,
    numbers: u64,
    tick_at: Instant,
    letters: VecDeque<Letter>,
    notices: VecDeque<Notice>,
    /// Words that were dropped because nobody read those before them.
    unread: u64,
}

impl Neighbours {
    /// A node that knows nobody. `endpoints` are where it can be reached: none, and it can only initiate.
    #[must_use]
    pub fn new(identity: &Identity, terms: Terms, endpoints: &[SocketAddr], (now, rng): (Now, Rng)) -> Self {
        let constants = terms.constants;
        let space = Space::new(constants.address_bits);
        let replication = constants.replication as usize;
        Self {
            wall: now.wall,
            own: Contact::sign(identity, &terms.network, (now.wall.0, now.wall), endpoints),
            plan: Plan::new(space, replication, constants.parallel as usize),
            table: Table::new(identity.id(), space, replication),
            rng,
            places: BTreeMap::new(),
            talks: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            calls: BTreeMap::new(),
            errands: BTreeMap::new(),
            searches: BTreeMap::new(),
            numbers: 0,
            tick_at: now.instant + TICK,
            letters: VecDeque::new(),
            notices: VecDeque::new(),
            unread: 0,
            bench: Bench::new(terms),
        }
    }

    /// The nodes that it knows.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Words of peers that were dropped because the application did not read those before them.
    #[must_use]
    pub const fn unread(&self) -> u64 {
        self.unread
    }

    /// What is said with a peer, and the bench that it needs; call [`Self::on_said`] afterwards.
    pub fn conversation(&mut self, peer: &NodeId) -> Option<(&mut Conversation, &mut Bench)> {
        let session = self.by_peer.get(peer)?;
        Some((&mut self.talks.get_mut(session)?.conversation, &mut self.bench))
    }

    /// Something was said by [`Self::conversation`].
    pub fn on_said(&mut self, now: Now, peer: &NodeId) {
        self.begin(now);
        if let Some(session) = self.by_peer.get(peer).copied() {
            self.pump(session);
        }
        self.work();
    }

    /// Joins a network by a node whose key and endpoint are known.
    pub fn join(&mut self, now: Now, seed: NodeId, endpoint: SocketAddr) {
        self.begin(now);
        self.run_errand(Errand::new(seed, endpoint, Purpose::Introduce));
    }

    fn begin(&mut self, now: Now) {
        self.bench.now = now.instant;
        self.wall = now.wall;
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn ticket(&mut self) -> Ticket {
        Ticket(OURS | self.number())
    }

    /// The ticket is one of ours: the application has never heard of it.
    #[must_use]
    pub const fn is_ours(ticket: Ticket) -> bool {
        ticket.0 & OURS != 0
    }

    /// The session of a peer's conversation, or a call to it.
    fn call(&mut self, peer: NodeId, endpoint: SocketAddr, errand: Errand) {
        let mut under_way = self.calls.values_mut();
        if let Some(call) = under_way.find(|call| call.peer == peer && call.endpoint == endpoint) {
            return call.errands.push(errand);
        }
        let ticket = self.ticket();
        self.calls.insert(ticket, Call { peer, endpoint, errands: vec![errand] });
        let connect = Connect {
            ticket,
            id: Some(peer),
            remote: endpoint,
            early: Vec::new(),
            instance: dunlin_codec::ids::InstanceId::default(),
        };
        self.letters.push_back(Letter::Mail(Mail::Connect(Box::new(connect))));
    }

    /// A message of ours is done with; its block went home before.
    pub fn on_released(&mut self, now: Now, session: SessionId) {
        self.begin(now);
        if let Some(talk) = self.talks.get_mut(&session) {
            talk.unreleased = talk.unreleased.saturating_sub(1);
            self.pump(session);
        }
        self.work();
    }

    /// A message came on channel 1 or 2. Its block goes home by a letter, once what it says was taken in.
    pub fn on_message(&mut self, now: Now, received: Received) {
        self.begin(now);
        let session = received.session;
        self.open_talk(session);
        if let Some(talk) = self.talks.get_mut(&session) {
            talk.inbox.push_back(received);
            talk.used_at = now.instant;
            self.pump(session);
        } else {
            self.go_home(received);
        }
        self.work();
    }

    fn go_home(&mut self, received: Received) {
        let Received { session, channel, charge, block } = received;
        self.letters.push_back(Letter::Mail(Mail::Consumed { session, channel, charge, block }));
    }

    /// Time has come for something.
    pub fn handle_timeout(&mut self, now: Now) {
        self.begin(now);
        if now.instant < self.tick_at {
            return;
        }
        self.tick_at = now.instant + TICK;
        let sessions: Vec<SessionId> = self.talks.keys().copied().collect();
        for session in sessions {
            self.on_tick_of(session);
        }
        while let Some(contact) = self.table.poll_question(now) {
            if let Some(endpoint) = contact.endpoint() {
                let errand = Errand::new(contact.id(), endpoint, Purpose::Ping);
                self.run_errand(errand);
            }
        }
        if self.searches.is_empty()
            && let Some(place) = self.table.poll_refresh(now.instant, &mut self.rng)
        {
            self.begin_search(place);
        }
        self.work();
    }

    /// When `handle_timeout` is to be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        Some(self.tick_at)
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
