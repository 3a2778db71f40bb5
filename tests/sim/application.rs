//! What runs on a node: it connects, sends no more than it may have queued, reads at its own pace, and remembers all it was told.
//!
//! In:    messages to send, events of the shards, time.
//! Out:   letters to the shards.
//! Holds: what is queued in a session stays within `Event::QueueLimit`, one message beyond; every block goes home.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_codec::ids::{ChannelId, InstanceId, NodeId, SessionId};
use dunlin_shards::arq::receiver::charge;
use dunlin_shards::arq::sender::{Outcome, Outgoing, Released};
use dunlin_shards::blocks::{Block, BlockPool};
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::mail::{Connect, Mail};
use dunlin_shards::placement::Placement;
use dunlin_shards::time::nanos_of;

use crate::contact::Contact;
use crate::ledger::{Entry, Manner};

/// Bytes of messages that an application may hold.
const POOL_LEN: usize = 1 << 30;
/// How long an application waits after a failed connect before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How an application reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reader {
    /// Each message at once.
    AtOnce,
    /// One message in so long.
    Every(Duration),
    /// Not at all.
    Never,
}

/// A message that waits for its session or for room in it.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Which.
    pub entry: Entry,
    /// To whom.
    pub to: NodeId,
    /// How.
    pub manner: Manner,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A message that was delivered and not yet read.
#[derive(Debug)]
struct Unread {
    session: SessionId,
    channel: ChannelId,
    charge: u32,
    block: Block,
}

/// A session as its application knows it.
#[derive(Debug)]
struct Open {
    peer: NodeId,
    queued: usize,
    limit: usize,
    /// Messages under way by channel.
    channels: BTreeMap<ChannelId, usize>,
}

/// A session that it asked for.
#[derive(Debug)]
struct Call {
    peer: Option<NodeId>,
    /// Messages that went with it.
    early: Vec<(Entry, Queued)>,
}

/// A message that a session has.
#[derive(Clone, Copy, Debug)]
struct Queued {
    session: SessionId,
    channel: ChannelId,
    charge: usize,
    /// Its place among all that was given to sessions.
    turn: u64,
}

/// What an application is told of a message, for the world to note.
#[derive(Debug)]
pub enum Note {
    /// A message arrived.
    Delivered {
        /// From whom.
        from: NodeId,
        /// On which session.
        session: SessionId,
        /// On which channel.
        channel: ChannelId,
        /// Its bytes, in a block that goes home with the reading.
        bytes: Vec<u8>,
    },
    /// One of its own was given to a session, or follows the session that had it: it comes after all that went there before.
    Handed(Entry),
    /// One of its own ended.
    Released(Entry, Outcome),
    /// One of its own is sent again in another session.
    SentAgain(Entry),
    /// One of its own may arrive twice: it changed its session.
    MayRepeat(Entry),
    /// One of its own travels beside others of its channel, and comes before or behind them.
    Overtakes(Entry),
    /// It calls somebody.
    Dials(SocketAddr),
}

/// An application.
pub struct Application {
    /// How it reads.
    pub reader: Reader,
    /// It connects when it has something to send and no session.
    pub connects: bool,
    /// Messages that came back are sent again, unless they are marked `once`.
    pub persists: bool,
    /// Its node shuts down: it sends nothing more.
    pub is_leaving: bool,
    /// Whatever it was told but messages and limits, with the time.
    pub events: Vec<(u64, Event)>,
    /// What the world has to note.
    pub notes: Vec<Note>,
    /// When the world will let it work next.
    pub wake_at: Option<u64>,
    pool: BlockPool,
    contacts: BTreeMap<NodeId, Contact>,
    sessions: BTreeMap<SessionId, Open>,
    calls: BTreeMap<Ticket, Call>,
    last_turn: u64,
    queued: BTreeMap<Entry, Queued>,
    kept: BTreeMap<Entry, Waiting>,
    unread: VecDeque<Unread>,
    next_read: u64,
    letters: Vec<(u8, Mail)>,
    last_ticket: u64,
    /// Sessions that moved into others, and who was there.
    moved: BTreeMap<SessionId, NodeId>,
    /// Sessions whose messages are on their way into others, and who was there.
    settling: BTreeMap<SessionId, NodeId>,
    message_len_max: usize,
    /// Peers that it wants nothing of any more.
    forgotten: BTreeSet<NodeId>,
    /// Messages that it wanted back after a session had taken them.
    cancelled: BTreeSet<Entry>,
    /// Channels that a peer gave up.
    closed: BTreeSet<(NodeId, ChannelId)>,
}

impl Application {
    /// An application that has not done anything.
    #[must_use]
    pub fn new(message_len_max: usize) -> Self {
        Self {
            reader: Reader::AtOnce,
            connects: true,
            persists: false,
            is_leaving: false,
            events: Vec::new(),
            notes: Vec::new(),
            wake_at: None,
            pool: BlockPool::new(POOL_LEN, message_len_max),
            contacts: BTreeMap::new(),
            sessions: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_turn: 0,
            queued: BTreeMap::new(),
            kept: BTreeMap::new(),
            unread: VecDeque::new(),
            next_read: 0,
            letters: Vec::new(),
            last_ticket: 1 << 32,
            moved: BTreeMap::new(),
            settling: BTreeMap::new(),
            message_len_max,
            forgotten: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            closed: BTreeSet::new(),
        }
    }

    /// The node crashed: sessions and what was not read are gone; what it still wanted to send as well.
    pub fn crash(&mut self) {
        let fresh = Self::new(self.message_len_max);
        let old = core::mem::replace(self, fresh);
        (self.reader, self.connects, self.persists) = (old.reader, old.connects, old.persists);
        (self.events, self.last_ticket) = (old.events, old.last_ticket);
    }

    /// The newest session with a peer.
    #[must_use]
    pub fn session_with(&self, peer: &NodeId) -> Option<SessionId> {
        self.contacts.get(peer)?.session
    }

    /// Sessions that it knows.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Who each of its sessions is with.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.sessions.values().map(|open| open.peer)
    }

    /// Who a session of its is with.
    #[must_use]
    pub fn peer_of(&self, session: SessionId) -> Option<NodeId> {
        self.sessions.get(&session).map(|open| open.peer)
    }

    /// Bytes of messages that have not come home.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.pool.allocated_bytes() - self.pool.free_bytes()
    }

    /// Messages that wait for a session or room.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.contacts.values().flat_map(|contact| contact.outbox.values()).map(VecDeque::len).sum()
    }

    /// Messages that were delivered and not read.
    #[must_use]
    pub fn unread_count(&self) -> usize {
        self.unread.len()
    }

    /// When it wants to read next.
    #[must_use]
    pub fn wakes_at(&self) -> Option<u64> {
        let reads = match self.reader {
            Reader::Every(_) if !self.unread.is_empty() => Some(self.next_read),
            _ => None,
        };
        let waits = |contact: &&Contact| {
            self.connects
                && !self.is_leaving
                && !contact.outbox.is_empty()
                && contact.session.is_none()
                && contact.connecting.is_none()
        };
        let calls = self.contacts.values().filter(waits).map(|contact| contact.retry_at).min();
        reads.into_iter().chain(calls).min()
    }

    /// Its letters, each with the shard that it is for.
    pub fn take_letters(&mut self) -> Vec<(u8, Mail)> {
        core::mem::take(&mut self.letters)
    }

    /// Puts a message into the outbox.
    pub fn send(&mut self, address: SocketAddr, waiting: Waiting) {
        let contact = self.contacts.entry(waiting.to).or_default();
        contact.address = Some(address);
        contact.put(waiting);
    }

    /// Calls a peer; `None`: whoever answers there. Early messages go into the first datagram if they may.
    pub fn connect(
        &mut self,
        placement: &Placement,
        (peer, address): (Option<NodeId>, SocketAddr),
        early: Vec<Waiting>,
        instance: Option<InstanceId>,
    ) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let mut known = InstanceId::default();
        if let Some(peer) = peer {
            let contact = self.contacts.entry(peer).or_default();
            contact.address = Some(address);
            // The call may become one session with another that is there or on its way.
            if contact.session.is_some() || contact.connecting.is_some() {
                self.notes.extend(early.iter().map(|waiting| Note::Overtakes(waiting.entry)));
            }
            contact.connecting = Some(ticket);
            known = contact.instance;
        }
        let instance = instance.unwrap_or(known);
        let handed = early.iter().map(|waiting| self.hand(waiting, SessionId(0))).collect();
        self.calls.insert(ticket, Call { peer, early: handed });
        let early = early.into_iter().map(|waiting| self.outgoing(waiting)).collect();
        let connect = Connect { ticket, id: peer, remote: address, early, instance };
        self.notes.push(Note::Dials(address));
        self.letters.push((placement.of_address(address).0, Mail::Connect(Box::new(connect))));
        ticket
    }

    /// A message is given to a session.
    fn hand(&mut self, waiting: &Waiting, session: SessionId) -> (Entry, Queued) {
        self.last_turn += 1;
        self.notes.push(Note::Handed(waiting.entry));
        let (channel, charge) = (waiting.manner.channel, charge(waiting.bytes.len()) as usize);
        (waiting.entry, Queued { session, channel, charge, turn: self.last_turn })
    }

    fn outgoing(&mut self, waiting: Waiting) -> Outgoing {
        let mut block = self.pool.take(waiting.bytes.len()).expect("the application has memory");
        block.copy_from_slice(&waiting.bytes);
        let Manner { channel, ordered, reliable, priority, once, early } = waiting.manner;
        let ticket = waiting.entry.0 as u64 + 1;
        self.kept.insert(waiting.entry, waiting);
        Outgoing { ticket, block, channel, ordered, reliable, priority, once, idempotent: early }
    }

    /// Asks for a letter about the session with a peer.
    pub fn post(&mut self, peer: &NodeId, letter: impl FnOnce(SessionId) -> Mail) -> bool {
        let Some(session) = self.session_with(peer) else { return false };
        self.letters.push((session.shard(), letter(session)));
        true
    }

    /// Takes a message back.
    pub fn cancel(&mut self, entry: Entry) {
        for contact in self.contacts.values_mut() {
            for line in contact.outbox.values_mut() {
                let count = line.len();
                line.retain(|waiting| waiting.entry != entry);
                if line.len() < count {
                    self.notes.push(Note::Released(entry, Outcome::Abandoned));
                }
            }
            contact.outbox.retain(|_, line| !line.is_empty());
        }
        if let (Some(queued), Some(kept)) = (self.queued.get(&entry), self.kept.get(&entry)) {
            let (session, channel) = (queued.session, kept.manner.channel);
            self.cancelled.insert(entry);
            let mail = Mail::Cancel { session, channel, ticket: Ticket(entry.0 as u64 + 1) };
            self.letters.push((session.shard(), mail));
        }
    }

    /// It has nothing more to say to a peer. The messages that it had not sent yet.
    pub fn forget(&mut self, peer: NodeId) -> Vec<Entry> {
        self.forgotten.insert(peer);
        let Some(contact) = self.contacts.get_mut(&peer) else { return Vec::new() };
        let lines = core::mem::take(&mut contact.outbox);
        lines.into_values().flatten().map(|waiting| waiting.entry).collect()
    }

    /// Does what can be done now: calls, sends, reads.
    pub fn work(&mut self, now: u64, placement: &Placement) {
        let peers: Vec<NodeId> = self.contacts.keys().copied().collect();
        for peer in peers {
            self.work_for(now, placement, peer);
        }
        self.read(now);
    }

    fn work_for(&mut self, now: u64, placement: &Placement, peer: NodeId) {
        let Some(contact) = self.contacts.get(&peer) else { return };
        if contact.outbox.is_empty() || contact.settling > 0 || self.is_leaving {
            return;
        }
        let Some(session) = contact.session else {
            let may_call = self.connects && contact.connecting.is_none() && contact.retry_at <= now;
            if let Some(address) = contact.address.filter(|_| may_call) {
                self.connect(placement, (Some(peer), address), Vec::new(), None);
            }
            return;
        };
        while let Some(waiting) = self.next_fitting(&peer, session) {
            let (entry, queued) = self.hand(&waiting, session);
            let message = self.outgoing(waiting);
            self.queued.insert(entry, queued);
            if let Some(open) = self.sessions.get_mut(&session) {
                open.queued += queued.charge;
            }
            self.letters.push((session.shard(), Mail::Send { session, message }));
        }
    }

    fn next_fitting(&mut self, peer: &NodeId, session: SessionId) -> Option<Waiting> {
        let open = self.sessions.get_mut(&session)?;
        let has_room = open.queued < open.limit;
        let contact = self.contacts.get_mut(peer)?;
        // A channel that has nothing under way may send one message beyond the limit: it does not wait for the others.
        let may_send = |key: &(u8, ChannelId)| has_room || open.channels.get(&key.1).is_none_or(|n| *n == 0);
        let key = *contact.outbox.keys().find(|key| may_send(key))?;
        let line = contact.outbox.get_mut(&key)?;
        let waiting = line.pop_front();
        if line.is_empty() {
            contact.outbox.remove(&key);
        }
        *open.channels.entry(key.1).or_default() += 1;
        waiting
    }

    fn read(&mut self, now: u64) {
        loop {
            match self.reader {
                Reader::Never => return,
                Reader::Every(_) if self.next_read > now => return,
                Reader::AtOnce | Reader::Every(_) => {}
            }
            let Some(Unread { session, channel, charge, block }) = self.unread.pop_front() else { return };
            if let Reader::Every(interval) = self.reader {
                self.next_read = now + nanos_of(interval);
            }
            let mail = Mail::Consumed { session, channel, charge, block };
            self.letters.push((session.shard(), mail));
        }
    }

    /// Takes in what a shard tells.
    pub fn on_event(&mut self, now: u64, event: Event) {
        match event {
            Event::Message { session, channel, block, charge } => {
                self.on_message(session, channel, block, charge);
            }
            Event::Released { session: _, released } => self.on_released(released),
            Event::QueueLimit { session, bytes } => {
                if let Some(open) = self.sessions.get_mut(&session) {
                    open.limit = bytes;
                }
            }
            other => {
                self.on_notice(now, &other);
                self.events.push((now, other));
            }
        }
    }

    fn on_message(&mut self, session: SessionId, channel: ChannelId, block: Block, charge: u32) {
        let known = self.sessions.get(&session).map(|open| open.peer);
        let from = known.or_else(|| self.moved.get(&session).copied());
        let from = from.expect("a message comes on a session that the application was told of");
        self.notes.push(Note::Delivered { from, session, channel, bytes: block.to_vec() });
        self.unread.push_back(Unread { session, channel, charge, block });
    }

    fn on_released(&mut self, released: Released) {
        let Released { ticket, block, outcome, .. } = released;
        self.pool.give(block);
        let entry = Entry(usize::try_from(ticket - 1).expect("tickets are entries"));
        if let Some(queued) = self.queued.remove(&entry)
            && let Some(open) = self.sessions.get_mut(&queued.session)
        {
            open.queued -= queued.charge;
            *open.channels.entry(queued.channel).or_default() -= 1;
        }
        let waiting = self.kept.remove(&entry).expect("a message is released once");
        self.notes.push(Note::Released(entry, outcome));
        let comes_again = self.persists
            && waiting.manner.reliable
            && !waiting.manner.once
            && !self.forgotten.contains(&waiting.to)
            && !self.cancelled.contains(&entry)
            && !self.closed.contains(&(waiting.to, waiting.manner.channel));
        if outcome == Outcome::Abandoned && comes_again {
            self.notes.push(Note::SentAgain(entry));
            self.contacts.entry(waiting.to).or_default().put(waiting);
        }
    }

    fn on_notice(&mut self, now: u64, event: &Event) {
        match *event {
            Event::Connected { ticket, session, peer, instance, remote, .. } => {
                self.on_open(peer, session);
                if let Some(call) = self.calls.remove(&ticket) {
                    self.on_early(session, call.early);
                }
                let contact = self.contacts.entry(peer).or_default();
                contact.address = Some(remote);
                contact.instance = instance;
                contact.connecting.take_if(|calling| *calling == ticket);
            }
            Event::ConnectFailed { ticket, .. } => {
                if let Some(Call { peer: Some(peer), .. }) = self.calls.remove(&ticket)
                    && let Some(contact) = self.contacts.get_mut(&peer)
                {
                    contact.connecting.take_if(|calling| *calling == ticket);
                    contact.retry_at = now + nanos_of(RETRY_AFTER);
                }
            }
            Event::Accepted { session, peer, remote } | Event::Adopted { session, peer, remote } => {
                self.on_open(peer, session);
                self.contacts.entry(peer).or_default().address.get_or_insert(remote);
            }
            Event::ChannelClosed { session, channel, .. } => {
                if let Some(open) = self.sessions.get(&session) {
                    self.closed.insert((open.peer, channel));
                }
            }
            Event::PeerRestarted { from, to, .. } => self.on_moved(from, to, true),
            Event::Moved { from, to } => self.on_moved(from, to, false),
            Event::Settled { from } => self.on_settled(from),
            Event::Ceased { from } => {
                self.moved.remove(&from).expect("only what moved ceases");
            }
            Event::Closed { session, .. } => self.on_closed(session),
            _ => {}
        }
    }

    fn on_open(&mut self, peer: NodeId, session: SessionId) {
        self.moved.remove(&session);
        self.sessions.entry(session).or_insert(Open { peer, queued: 0, limit: 1, channels: BTreeMap::new() });
        // Order is kept by staying with a session until another carries on for it.
        self.contacts.entry(peer).or_default().session.get_or_insert(session);
    }

    /// The session that was asked for is open, and has the messages that went with the call.
    fn on_early(&mut self, session: SessionId, early: Vec<(Entry, Queued)>) {
        let Some(open) = self.sessions.get_mut(&session) else { return };
        for (entry, queued) in early {
            if self.kept.contains_key(&entry) {
                open.queued += queued.charge;
                *open.channels.entry(queued.channel).or_default() += 1;
                self.queued.insert(entry, Queued { session, ..queued });
            }
        }
    }

    /// The session that is meant by one that has itself moved already.
    fn follow(&self, from: SessionId, session: SessionId) -> SessionId {
        let moved = self.moved.get(&session).filter(|_| !self.sessions.contains_key(&session));
        let mut others = self.sessions.iter().rev().filter(|(id, _)| **id != from);
        let other = moved.and_then(|peer| others.find(|(_, open)| open.peer == *peer));
        other.map_or(session, |(id, _)| *id)
    }

    /// One session carries on for another: what that one had follows in its order.
    fn on_moved(&mut self, from: SessionId, to: SessionId, may_repeat: bool) {
        let heir = to;
        let to = if from == to { to } else { self.follow(from, to) };
        let mut moving: Vec<_> =
            self.queued.iter_mut().filter(|(_, queued)| queued.session == from).collect();
        moving.sort_unstable_by_key(|(_, queued)| queued.turn);
        for (entry, queued) in moving {
            if may_repeat {
                self.notes.push(Note::MayRepeat(*entry));
            }
            self.last_turn += 1;
            queued.turn = self.last_turn;
            self.notes.push(Note::Handed(*entry));
            if from != to {
                queued.session = to;
                if let Some(open) = self.sessions.get_mut(&to) {
                    open.queued += queued.charge;
                    *open.channels.entry(queued.channel).or_default() += 1;
                }
            }
        }
        if from == to {
            return;
        }
        let gone = self.sessions.remove(&from);
        if let Some(gone) = &gone {
            self.moved.insert(from, gone.peer);
        }
        if let Some(gone) = gone
            && let Some(contact) = self.contacts.get_mut(&gone.peer)
            && contact.session == Some(from)
        {
            // What was sent on another session that is moving too goes before what comes now. The one that was to carry on may have
            // ended first: then any other does, or a new call.
            let others = self.sessions.iter().rev().filter(|(_, open)| open.peer == gone.peer);
            contact.session = Some(to)
                .filter(|to| self.sessions.contains_key(to))
                .or_else(|| others.map(|(id, _)| *id).next());
            contact.settling += 1;
            // What was written to the old one is still on its way: the first letter behind it says when the rest may follow.
            if self.settling.insert(from, gone.peer).is_some() {
                contact.settling -= 1;
            }
            self.letters.push((from.shard(), Mail::Fence { from, to: heir }));
        }
    }

    fn on_settled(&mut self, from: SessionId) {
        let peer = self.settling.remove(&from);
        if let Some(contact) = peer.and_then(|peer| self.contacts.get_mut(&peer)) {
            contact.settling -= 1;
        }
    }

    fn on_closed(&mut self, session: SessionId) {
        let Some(gone) = self.sessions.remove(&session) else { return };
        let other = self.sessions.iter().rev().find(|(_, open)| open.peer == gone.peer).map(|(id, _)| *id);
        if let Some(contact) = self.contacts.get_mut(&gone.peer)
            && contact.session == Some(session)
        {
            contact.session = other;
        }
    }
}
