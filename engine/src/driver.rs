//! The loop of a core: one shard, one socket, one set of rings. The same code on both back ends.
//!
//! In:    datagrams, letters, time.
//! Out:   datagrams, letters, deliveries.
//! Holds: handle everything that waits for one instant, drain the polls, then wait; no allocation, lock or
//!        system call per datagram.
//!
//! After a batch it spins for up to 50 us while batches come close together: a sleeping thread costs 15-20 us to
//! wake. Close is 150 us, not 50: between two nodes that both sleep a round trip takes 70 us, and neither would
//! ever begin to spin. It yields while it spins, because the application may share the core.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dunlin_codec::ids::{ChannelId, NodeId, SessionId};
use dunlin_shards::arq::sender::{Outcome, Released};
use dunlin_shards::blocks::Block;
use dunlin_shards::event::{CloseReason, Event as ShardEvent, Ticket};
use dunlin_shards::mail::{self, Destination, Mail};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::shard::Shard;
use dunlin_shards::time::{Instant, Now, nanos_of};
use rtrb::{Consumer, Producer};

use crate::api::event::Event;
use crate::api::handler::{Handler, Reply, Verdict};
use crate::api::peer::{Channel, Peer, SendOptions, outgoing};
use crate::api::shared::{
    Answer, Delivery, EngineShared, PeerShared, Request, ShardReport, Succession, room_of,
};
use crate::clock::Clock;
use crate::config::Spin;
use crate::entropy::OsEntropy;
use crate::mailbox::{Desk, lock};
use crate::network::Beside;
use crate::runtime;
use crate::socket::{Doorbell, Socket};

/// How long to spin after a batch at most.
const SPIN: Duration = Duration::from_micros(50);
/// The average gap between batches below which spinning pays.
const CLOSE: Duration = Duration::from_micros(150);
/// How often the numbers are published while the shard is busy.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Letters taken per ring and turn.
const LETTERS_PER_TURN: usize = 1_024;
/// Letters whose sessions are fetched into the caches together.
const LETTERS_AT_ONCE: usize = 16;
/// Turns in which a core that ends says good-bye, at most.
const PARTING_TURNS: usize = 4_096;
/// Trains given to the socket per turn.
const TRAINS_PER_TURN: usize = 32;

/// A shard's end of the rings with one other shard.
pub(crate) struct Neighbour {
    pub(crate) to: Producer<Mail>,
    pub(crate) from: Consumer<Mail>,
    pub(crate) doorbell: Doorbell,
}

/// Everything a core owns besides its socket.
pub(crate) struct Driver<H: Handler> {
    pub(crate) index: u8,
    pub(crate) shard: Shard<AwsLc, OsEntropy>,
    pub(crate) clock: Clock,
    pub(crate) desk: Desk<Delivery>,
    /// By shard index; None at our own.
    pub(crate) neighbours: Vec<Option<Neighbour>>,
    pub(crate) engine: Arc<EngineShared>,
    pub(crate) handler: H,
    pub(crate) spin: Spin,
    pub(crate) peers: Vec<Option<Arc<PeerShared>>>,
    pub(crate) pace: Pace,
    /// Letters of the application's, ever.
    letters_read: u64,
    /// Fences, each with how many letters are to be read before it.
    fences: VecDeque<(u64, Mail)>,
    wakes: Wakes,
    /// The node among its neighbours, when it is in a network.
    beside: Option<Box<Beside>>,
    /// Messages that the ring has no room for: nodes go on talking while the application does not read.
    held: VecDeque<Delivery>,
}

/// Application threads to wake at the end of a turn: they may share the core, and would take it in the middle of the work.
#[derive(Default)]
struct Wakes {
    arrived: Vec<Arc<PeerShared>>,
    room: Vec<Arc<PeerShared>>,
    answered: Vec<Arc<Request>>,
    happened: bool,
}

impl Wakes {
    fn arrived(&mut self, peer: Arc<PeerShared>) {
        if self.arrived.last().is_none_or(|last| !Arc::ptr_eq(last, &peer)) {
            self.arrived.push(peer);
        }
    }

    fn room(&mut self, peer: Arc<PeerShared>) {
        if self.room.last().is_none_or(|last| !Arc::ptr_eq(last, &peer)) {
            self.room.push(peer);
        }
    }

    fn ring(&mut self, engine: &EngineShared) {
        for request in self.answered.drain(..) {
            request.answered.ring();
        }
        if core::mem::take(&mut self.happened) {
            engine.happened.ring();
        }
        for peer in self.arrived.drain(..) {
            peer.arrived.ring();
        }
        for peer in self.room.drain(..) {
            peer.room.ring();
        }
    }
}

/// When batches came lately, and when to report.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last_batch: Instant,
    gap: u64,
    reported: Instant,
    loops: u64,
}

impl Pace {
    /// Something happened: the gap since the last time counts for an eighth.
    fn on_batch(&mut self, now: Instant) {
        let gap = nanos_of(now.since(self.last_batch)).min(nanos_of(SPIN) * 4);
        self.gap = self.gap - self.gap / 8 + gap / 8;
        self.last_batch = now;
    }

    fn should_spin(&self, now: Instant, spin: Spin) -> bool {
        match spin {
            Spin::Off => false,
            Spin::Busy => true,
            Spin::Adaptive => self.gap < nanos_of(CLOSE) && now.since(self.last_batch) < SPIN,
        }
    }
}

impl<H: Handler> runtime::Driver for Driver<H> {
    type Output = ();

    async fn run<S: Socket>(mut self, socket: &mut S) {
        while !self.engine.stopping.load(Ordering::Relaxed) {
            let now = self.clock.now();
            let worked = self.turn(now, socket);
            self.pace.loops += 1;
            if now.instant.since(self.pace.reported) >= REPORT_EVERY {
                self.report(now.instant, socket);
            }
            if worked {
                self.pace.on_batch(now.instant);
            } else if self.pace.should_spin(now.instant, self.spin) {
                rustix::thread::sched_yield();
            } else {
                self.report(now.instant, socket);
                socket.wait(self.due_at()).await;
            }
        }
        self.part(socket);
        self.report(self.clock.now().instant, socket);
    }
}

impl<H: Handler> Driver<H> {
    pub(crate) fn new(
        index: u8,
        (shard, clock): (Shard<AwsLc, OsEntropy>, Clock),
        (desk, neighbours): (Desk<Delivery>, Vec<Option<Neighbour>>),
        (engine, spin): (Arc<EngineShared>, Spin),
        handler: H,
    ) -> Self {
        let pace = Pace::default();
        Self {
            index,
            shard,
            clock,
            desk,
            neighbours,
            engine,
            handler,
            spin,
            peers: Vec::new(),
            letters_read: 0,
            fences: VecDeque::new(),
            pace,
            wakes: Wakes::default(),
            beside: None,
            held: VecDeque::new(),
        }
    }

    /// With a node's neighbours beside the shard.
    pub(crate) fn with_neighbours(self, beside: Option<Beside>) -> Self {
        Self { beside: beside.map(Box::new), ..self }
    }

    /// When something is to be done next.
    fn due_at(&self) -> Option<Instant> {
        let beside = self.beside.as_ref().and_then(|beside| beside.poll_timeout());
        self.shard.poll_timeout().map(|(at, _)| at).into_iter().chain(beside).min()
    }

    /// The engine's handles are gone: what they asked last is done, and each peer gets one CLOSE. One that is lost is not
    /// sent again: whoever wants more than that calls `shutdown` first.
    fn part<S: Socket>(&mut self, socket: &mut S) {
        let now = self.clock.now();
        let mut turns = PARTING_TURNS;
        while turns > 0 && self.read_letters(now) | self.transmit(now, socket) {
            turns -= 1;
        }
        self.shard.close_all(now);
        while turns > 0 && self.transmit(now, socket) {
            turns -= 1;
        }
    }

    /// Publishes the shard's numbers.
    fn report<S: Socket>(&mut self, now: Instant, socket: &S) {
        self.pace.reported = now;
        let report = ShardReport {
            stats: self.shard.stats().clone(),
            socket: *socket.counters(),
            sessions: self.shard.sessions(),
            allocated_bytes: self.shard.allocated_bytes(),
            rumours: self.beside.as_ref().map(|beside| beside.rumours()).unwrap_or_default(),
            drained: self.shard.is_drained(),
            loops: self.pace.loops,
            inventory: self.beside.as_ref().map(|beside| beside.inventory()).unwrap_or_default(),
        };
        *lock(&self.engine.stats[usize::from(self.index)]) = report;
    }

    /// One turn: everything that waits comes in, everything that is ready goes out. False: nothing happened.
    fn turn<S: Socket>(&mut self, now: Now, socket: &mut S) -> bool {
        let received = self.receive(now, socket);
        let letters = self.read_letters(now);
        let due = self.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant);
        if due {
            self.shard.handle_timeout(now);
        }
        self.deliver(now);
        let said = self.talk(now);
        let sent = self.transmit(now, socket);
        self.deliver(now);
        let said_more = self.talk(now);
        self.write_letters(now);
        self.wakes.ring(&self.engine);
        // A fence that came with this turn's events is posted in the next, and what neighbours said last is sent then. Letters that
        // found too many sessions ready are read as soon as those are not: nobody rings for them again.
        let is_unread = !self.desk.letters.is_empty() && self.shard.ready() < TRAINS_PER_TURN;
        received || letters || due || sent || said || said_more || is_unread || !self.fences.is_empty()
    }

    /// The neighbours do what is due. False: nothing was.
    fn talk(&mut self, now: Now) -> bool {
        let Some(beside) = &mut self.beside else { return false };
        let has_worked = beside.work(now, &mut self.shard);
        beside.ring();
        let events: Vec<ShardEvent> = core::iter::from_fn(|| beside.poll_event()).collect();
        events.into_iter().for_each(|event| self.on_event(now, event));
        has_worked
    }

    fn receive<S: Socket>(&mut self, now: Now, socket: &mut S) -> bool {
        let shard = &mut self.shard;
        socket.receive(|arrival, bytes| shard.handle_datagram(now, arrival, bytes)) > 0
    }

    fn read_letters(&mut self, now: Now) -> bool {
        let mut count = self.read_application(now);
        self.post_fences(now);
        for _ in 0..4 * LETTERS_PER_TURN {
            let Ok(mail) = self.desk.home.pop() else { break };
            self.shard.handle_mail(now, mail::From::Application, mail);
            count += 1;
        }
        for (index, neighbour) in self.neighbours.iter_mut().enumerate() {
            let Some(neighbour) = neighbour else { continue };
            for _ in 0..LETTERS_PER_TURN {
                let Ok(mail) = neighbour.from.pop() else { break };
                self.shard.handle_mail(now, mail::From::Shard(index as u8), mail);
                count += 1;
            }
        }
        count > 0
    }

    /// Takes letters until as many sessions have something to send as are given to the socket in a turn: those of more would leave the caches
    /// again before they are sealed.
    fn read_application(&mut self, now: Now) -> usize {
        let mut count = 0;
        while count < LETTERS_PER_TURN && self.shard.ready() < TRAINS_PER_TURN {
            let len = self.desk.letters.slots().min(LETTERS_AT_ONCE);
            let Ok(chunk) = self.desk.letters.read_chunk(len) else { break };
            if len == 0 {
                break;
            }
            let (first, second) = chunk.as_slices();
            self.shard.glance(first.iter().chain(second));
            for mail in chunk {
                self.shard.handle_mail(now, mail::From::Application, mail);
            }
            self.letters_read += len as u64;
            count += len;
        }
        count
    }

    fn transmit<S: Socket>(&mut self, now: Now, socket: &mut S) -> bool {
        let mut count = 0;
        while count < TRAINS_PER_TURN {
            let Some(frame) = socket.frame() else { break };
            let Some(transmit) = self.shard.poll_transmit(now, frame) else { break };
            socket.transmit(&transmit);
            count += 1;
        }
        socket.flush();
        while let Some((transmit, error)) = socket.poll_error() {
            self.shard.handle_transmit_error(now, &transmit, error);
        }
        count > 0
    }

    fn write_letters(&mut self, now: Now) {
        let mut rung = [false; 128];
        while let Some((Destination::Shard(shard), mail)) = self.shard.poll_mail() {
            let Some(Some(neighbour)) = self.neighbours.get_mut(usize::from(shard)) else { continue };
            match neighbour.to.push(mail) {
                Ok(()) => rung[usize::from(shard)] = true,
                Err(rtrb::PushError::Full(mail)) => self.shard.handle_undelivered(now, mail),
            }
        }
        for (index, neighbour) in self.neighbours.iter().enumerate() {
            if let (true, Some(neighbour)) = (rung[index], neighbour) {
                neighbour.doorbell.ring();
            }
        }
    }

    /// Takes events to where they belong: messages to the handler or the ring, releases to their owners.
    fn deliver(&mut self, now: Now) {
        while let Some(delivery) = self.held.pop_front() {
            if let Err(rtrb::PushError::Full(delivery)) = self.desk.deliveries.push(delivery) {
                self.held.push_front(delivery);
                break;
            }
        }
        while self.beside.is_some() || self.desk.deliveries.slots() > 0 {
            let Some(event) = self.shard.poll_event() else { break };
            let Some(beside) = &mut self.beside else {
                self.on_event(now, event);
                continue;
            };
            let last = beside.on_event(now, &mut self.shard, event);
            while let Some(event) = self.beside.as_mut().and_then(|beside| beside.poll_event()) {
                self.on_event(now, event);
            }
            if let Some(event) = last {
                self.on_event(now, event);
            }
        }
    }

    fn on_event(&mut self, now: Now, event: ShardEvent) {
        match event {
            ShardEvent::Message { session, channel, charge, block } => {
                self.on_message(now, (session, channel, charge), block);
            }
            ShardEvent::Released { session, released } => self.on_released(session, released),
            ShardEvent::QueueLimit { session, bytes } => {
                if let Some(peer) = self.peer(session) {
                    peer.set_limit(bytes);
                }
            }
            other => self.on_notice(other),
        }
    }

    fn on_message(&mut self, now: Now, from: (SessionId, ChannelId, u32), block: Block) {
        let (session, channel, charge) = from;
        if channel.0 == Channel::DISCARD.0 {
            return self.consume(now, from, block);
        }
        let Some(peer) = self.peer(session).cloned() else {
            return self.consume(now, from, block);
        };
        let shard = &mut self.shard;
        let mut send = |bytes: &[u8], options: SendOptions| answer(shard, now, session, (bytes, options));
        let mut reply = Reply { peer: peer.id, send: &mut send };
        if self.handler.on_message(Channel(channel.0), &block, &mut reply) == Verdict::Handled {
            return self.consume(now, from, block);
        }
        let delivery = Delivery { peer: peer.clone(), session, channel, charge, block };
        // Without neighbours `deliver` looks for room in the ring before it takes an event.
        let pushed = if self.held.is_empty() {
            self.desk.deliveries.push(delivery)
        } else {
            Err(rtrb::PushError::Full(delivery))
        };
        if let Err(rtrb::PushError::Full(delivery)) = pushed {
            // The peer's credit bounds what waits here.
            self.held.push_back(delivery);
        }
        self.wakes.arrived(peer);
    }

    fn consume(&mut self, now: Now, (session, channel, charge): (SessionId, ChannelId, u32), block: Block) {
        let mail = Mail::Consumed { session, channel, charge, block };
        self.shard.handle_mail(now, mail::From::Application, mail);
    }

    /// A message that was sent is done with: its block goes home, its room is free.
    fn on_released(&mut self, session: SessionId, released: Released) {
        let Released { ticket, block, outcome, .. } = released;
        if ticket == ON_CORE {
            return self.shard.give_block(block);
        }
        let room = room_of(block.len());
        let _ = self.desk.returns.push(block);
        let Some(peer) = self.peer(session) else { return };
        if peer.give_room(room) {
            let peer = peer.clone();
            self.wakes.room(peer);
        }
        let Some(peer) = self.peer(session) else { return };
        if outcome == Outcome::Abandoned && ticket != 0 {
            let peer = peer.id;
            self.publish(Event::Undelivered { peer, ticket });
        }
    }

    fn peer(&self, session: SessionId) -> Option<&Arc<PeerShared>> {
        self.peers.get(session.slot())?.as_ref()
    }

    fn on_notice(&mut self, event: ShardEvent) {
        match event {
            ShardEvent::Connected { ticket, session, peer, instance, remote, early } => {
                lock(&self.engine.instances).insert(peer, instance);
                let peer = self.new_peer(peer, session, remote);
                self.answer(ticket, Answer::Connected { peer, early });
            }
            ShardEvent::ConnectFailed { ticket, reason, .. } => {
                self.answer(ticket, Answer::ConnectFailed(reason));
            }
            ShardEvent::Accepted { session, peer, remote } => {
                let peer = self.new_peer(peer, session, remote);
                self.publish(Event::Accepted(Peer::new(peer)));
            }
            // The application has its handle; the old session's end makes it point here.
            ShardEvent::Adopted { session, peer, remote } => drop(self.new_peer(peer, session, remote)),
            ShardEvent::Pong { ticket, round_trip, .. } => {
                self.answer(ticket, Answer::Pong(round_trip));
            }
            ShardEvent::ChannelClosed { session, channel, code } => {
                if let Some(peer) = self.peer(session).cloned() {
                    let channel = Channel(channel.0);
                    self.publish(Event::ChannelClosed { peer: Peer::new(peer), channel, code });
                }
            }
            ShardEvent::Roamed { session, remote } => {
                if let Some(peer) = self.peer(session).cloned() {
                    *lock(&peer.remote) = remote;
                    self.publish(Event::Roamed { peer: Peer::new(peer), remote });
                }
            }
            ShardEvent::Closed { session, reason, .. } => self.on_closed(session, reason),
            ShardEvent::Settled { from } => self.on_settled(from),
            ShardEvent::Ceased { from } => drop(self.peers.get_mut(from.slot()).and_then(Option::take)),
            other => self.on_succession(other),
        }
    }

    /// For the application, which hears of it at the end of the turn.
    fn publish(&mut self, event: Event) {
        self.engine.put_event(event);
        self.wakes.happened = true;
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.wakes.answered.extend(self.engine.put_answer(ticket, answer));
    }

    fn new_peer(&mut self, id: NodeId, session: SessionId, remote: SocketAddr) -> Arc<PeerShared> {
        let peer = self.engine.peer(id, session, remote);
        let slot = session.slot();
        if self.peers.len() <= slot {
            self.peers.resize(slot + 1, None);
        }
        self.peers[slot] = Some(peer.clone());
        peer
    }

    fn on_closed(&mut self, session: SessionId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(session.slot()).and_then(Option::take) else { return };
        if peer.end_session(session, &reason) {
            self.publish(Event::Closed { peer: Peer::new(peer), reason });
        }
    }

    /// The fence goes behind what the application has written to the session by now.
    // spec: atp/succession
    fn fence(&mut self, from: SessionId, to: SessionId, peer: &Arc<PeerShared>) {
        let older = lock(&self.engine.settling).insert(from, Arc::downgrade(peer));
        if let Some(older) = older.and_then(|older| older.upgrade()) {
            older.on_settled();
        }
        self.engine.ports[usize::from(self.index)].await_senders();
        let due = self.letters_read + self.desk.letters.slots() as u64;
        self.fences.push_back((due, Mail::Fence { from, to }));
    }

    fn post_fences(&mut self, now: Now) {
        while self.fences.front().is_some_and(|(due, _)| *due <= self.letters_read)
            && let Some((_, mail)) = self.fences.pop_front()
        {
            self.shard.handle_mail(now, mail::From::Application, mail);
        }
    }

    fn on_settled(&mut self, from: SessionId) {
        let settled = lock(&self.engine.settling).remove(&from);
        if let Some(peer) = settled.and_then(|peer| peer.upgrade()) {
            peer.on_settled();
            self.wakes.room(peer);
        }
    }

    /// One session carries on for another, perhaps on another shard.
    fn on_succession(&mut self, event: ShardEvent) {
        let (from, to, resent) = match event {
            ShardEvent::PeerRestarted { from, to, resent } => (from, to, Some(resent)),
            ShardEvent::Moved { from, to } => (from, to, None),
            _ => return,
        };
        let Some(peer) = self.peer(from).cloned() else { return };
        if from != to {
            // What the peer still had on its way to one that moved comes to the same handle, until that session ceased.
            if resent.is_some() {
                self.peers[from.slot()] = None;
            }
            // Its shard may not have told its application yet, and a handle without sessions is closed.
            match peer.succeed(from, to) {
                Succession::Closed(reason) => {
                    return self.publish(Event::Closed { peer: Peer::new(peer), reason });
                }
                Succession::Settling => self.fence(from, to, &peer),
                Succession::Aside => {}
            }
        }
        if let Some(resent) = resent {
            self.publish(Event::PeerRestarted { peer: Peer::new(peer), resent });
        }
    }
}

/// The ticket of messages that a handler sent: their blocks are the shard's own.
const ON_CORE: u64 = u64::MAX;

/// A handler's answer: copied once into a block of the shard's, then sent like any message.
fn answer(
    shard: &mut Shard<AwsLc, OsEntropy>,
    now: Now,
    session: SessionId,
    (bytes, options): (&[u8], SendOptions),
) -> bool {
    let Some(mut block) = shard.take_block(bytes.len()) else { return false };
    block.fill_from(bytes);
    let message = outgoing(block, options, ON_CORE);
    shard.handle_mail(now, mail::From::Application, Mail::Send { session, message });
    true
}
