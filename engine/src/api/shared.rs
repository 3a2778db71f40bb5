//! What the application's threads and the drivers share: peers, requests, events.
//!
//! Holds: a driver locks these only when a session begins, ends or answers a request, never per datagram.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use crossbeam::utils::CachePadded;
use dunlin_codec::ids::{ChannelId, InstanceId, NodeId, SessionId};
use dunlin_shards::arq::receiver::charge;
use dunlin_shards::blocks::Block;
use dunlin_shards::event::{CloseReason, EarlyData, Ticket};
use dunlin_shards::placement::Placement;
use dunlin_shards::stats::Stats;

use crate::api::event::Event;
use crate::api::message::Message;
use crate::bell::Bell;
use crate::mailbox::{Port, lock};
use crate::socket::SocketCounters;

/// Bytes that a peer's messages may wait in, before its path has earned more.
pub(crate) const SEND_LIMIT_MIN: usize = 256 << 10;

/// What a message takes of its peer's queue: as its credit is charged, so that small ones are not free.
pub(crate) fn room_of(len: usize) -> usize {
    charge(len) as usize
}

/// The answer to a request of the application's.
pub(crate) enum Answer {
    Connected { peer: Arc<PeerShared>, early: EarlyData },
    ConnectFailed(CloseReason),
    Pong(Duration),
}

/// A request under way.
#[derive(Default)]
pub(crate) struct Request {
    answer: Mutex<Option<Answer>>,
    pub(crate) answered: Bell,
    /// What its early messages take of the queue of the peer that it may bring.
    room: usize,
}

impl Request {
    pub(crate) fn with_room(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    fn complete(&self, answer: Answer) {
        *lock(&self.answer) = Some(answer);
    }

    pub(crate) fn take(&self) -> Option<Answer> {
        lock(&self.answer).take()
    }

    pub(crate) fn wait_timeout(&self, wait: Duration) -> Option<Answer> {
        if let Some(answer) = self.take() {
            return Some(answer);
        }
        let listener = self.answered.listen();
        if let Some(answer) = self.take() {
            return Some(answer);
        }
        listener.wait_timeout(wait);
        self.take()
    }

    pub(crate) async fn wait(&self) -> Answer {
        loop {
            if let Some(answer) = self.take() {
                return answer;
            }
            let listener = self.answered.listen();
            if let Some(answer) = self.take() {
                return answer;
            }
            listener.await;
        }
    }
}

/// What the engine's handles share.
pub(crate) struct EngineShared {
    pub(crate) id: NodeId,
    pub(crate) ports: Vec<Port<Delivery>>,
    pub(crate) local: SocketAddr,
    pub(crate) placement: Placement,
    pub(crate) requests: Mutex<HashMap<Ticket, Arc<Request>>>,
    pub(crate) events: Mutex<VecDeque<Event>>,
    pub(crate) happened: Bell,
    pub(crate) instances: Mutex<HashMap<NodeId, InstanceId>>,
    /// By identity: two sessions with one peer are one handle.
    pub(crate) peers: Mutex<HashMap<NodeId, Weak<PeerShared>>>,
    pub(crate) tickets: AtomicU64,
    pub(crate) stats: Vec<Mutex<ShardReport>>,
    pub(crate) stopping: AtomicBool,
    /// No driver runs any more.
    pub(crate) stopped: AtomicBool,
    pub(crate) message_len_max: usize,
    /// The process that the shards' threads live in: a forked child has none of them (T27).
    pub(crate) process: u32,
}

/// A shard's numbers, as of its last pause.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardReport {
    pub(crate) stats: Stats,
    pub(crate) socket: SocketCounters,
    pub(crate) sessions: usize,
    pub(crate) allocated_bytes: usize,
    /// `Shutdown` was asked, and nothing is left to do.
    pub(crate) drained: bool,
    pub(crate) loops: u64,
}

/// From how many known identities on those without a handle are looked for.
const PEERS_SWEEP: usize = 1_024;

/// Events that wait for the application at most; the oldest go first, and are counted.
const EVENTS_MAX: usize = 65_536;

impl EngineShared {
    /// This process was forked from the engine's: nobody would ever answer. A system call: not for every message.
    // spec: atp/fork
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    pub(crate) fn next_ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// An event for the application; `happened` is still to be rung.
    pub(crate) fn put_event(&self, event: Event) {
        let mut events = lock(&self.events);
        if events.len() >= EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// The peer with this identity, who has another session now; a new handle when there is none or it is closed.
    pub(crate) fn peer(
        self: &Arc<Self>,
        id: NodeId,
        session: SessionId,
        remote: SocketAddr,
    ) -> Arc<PeerShared> {
        let mut peers = lock(&self.peers);
        let known = peers.get(&id).and_then(Weak::upgrade).filter(|peer| peer.add_session(session));
        known.unwrap_or_else(|| {
            if peers.len() >= PEERS_SWEEP && peers.len().is_power_of_two() {
                peers.retain(|_, peer| peer.strong_count() > 0);
            }
            let peer = Arc::new(PeerShared::new(self.clone(), id, session, remote));
            peers.insert(id, Arc::downgrade(&peer));
            peer
        })
    }

    pub(crate) fn next_event(&self) -> Option<Event> {
        let event = lock(&self.events).pop_front();
        event.or_else(|| self.stopped.load(Ordering::Acquire).then_some(Event::Stopped))
    }

    /// The drivers are gone: nobody who waits for them may wait on.
    pub(crate) fn on_stopped(&self) {
        // First, so that a request is either seen below or sees this.
        self.stopped.store(true, Ordering::SeqCst);
        let requests: Vec<Arc<Request>> = lock(&self.requests).drain().map(|(_, request)| request).collect();
        for request in requests {
            request.complete(Answer::ConnectFailed(CloseReason::Local));
            request.answered.ring();
        }
        let peers: Vec<Arc<PeerShared>> = lock(&self.peers).values().filter_map(Weak::upgrade).collect();
        for peer in peers {
            peer.on_closed(CloseReason::Local);
        }
        self.happened.ring();
    }

    /// Answers a request; its bell is still to be rung.
    pub(crate) fn put_answer(&self, ticket: Ticket, answer: Answer) -> Option<Arc<Request>> {
        let request = lock(&self.requests).remove(&ticket)?;
        if let Answer::Connected { peer, .. } = &answer {
            // Before the driver gives back what was acknowledged with the answer.
            peer.queued.fetch_add(request.room, Ordering::AcqRel);
        }
        request.complete(answer);
        Some(request)
    }
}

/// A message on its way to a peer's inbox.
pub(crate) struct Delivery {
    pub(crate) peer: Arc<PeerShared>,
    pub(crate) session: SessionId,
    pub(crate) channel: ChannelId,
    pub(crate) charge: u32,
    pub(crate) block: Block,
}

/// Moves of sessions that a handle remembers.
const MOVED_MAX: usize = 16;

/// A remote node, shared by all its handles and the driver of its shard.
pub(crate) struct PeerShared {
    pub(crate) engine: Arc<EngineShared>,
    pub(crate) id: NodeId,
    pub(crate) session: AtomicU32,
    pub(crate) remote: Mutex<SocketAddr>,
    inbox: Mutex<VecDeque<Message>>,
    pub(crate) arrived: Bell,
    /// Written by senders and by the driver: alone on its cache line.
    queued: CachePadded<AtomicUsize>,
    limit: AtomicUsize,
    pub(crate) room: Bell,
    /// Live sessions, and by bits the shards whose rings may hold messages.
    sessions: Mutex<Vec<SessionId>>,
    /// Sessions that ended in others, and where that led: the last few.
    moved: Mutex<Vec<(SessionId, SessionId)>>,
    shards: [AtomicU64; 2],
    closed: OnceLock<CloseReason>,
}

impl PeerShared {
    pub(crate) fn new(engine: Arc<EngineShared>, id: NodeId, session: SessionId, remote: SocketAddr) -> Self {
        Self {
            engine,
            id,
            session: AtomicU32::new(session.0),
            remote: Mutex::new(remote),
            inbox: Mutex::new(VecDeque::new()),
            arrived: Bell::default(),
            queued: CachePadded::new(AtomicUsize::new(0)),
            limit: AtomicUsize::new(SEND_LIMIT_MIN),
            room: Bell::default(),
            sessions: Mutex::new(vec![session]),
            moved: Mutex::new(Vec::new()),
            shards: [AtomicU64::new(0), AtomicU64::new(0)],
            closed: OnceLock::new(),
        }
        .with_shard(session)
    }

    fn with_shard(self, session: SessionId) -> Self {
        self.note_shard(session);
        self
    }

    fn note_shard(&self, session: SessionId) {
        let shard = session.shard();
        self.shards[usize::from(shard / 64)].fetch_or(1 << (shard % 64), Ordering::AcqRel);
    }

    /// Another session with the same peer. False: the handle is closed for good.
    pub(crate) fn add_session(&self, session: SessionId) -> bool {
        let mut sessions = lock(&self.sessions);
        if sessions.is_empty() {
            return false;
        }
        if !sessions.contains(&session) {
            sessions.push(session);
        }
        lock(&self.moved).retain(|(gone, _)| *gone != session);
        self.note_shard(session);
        true
    }

    /// A session is gone. True: it was the last, and the handle is closed.
    pub(crate) fn remove_session(&self, session: SessionId, reason: &CloseReason) -> bool {
        let mut sessions = lock(&self.sessions);
        sessions.retain(|other| *other != session);
        match sessions.last() {
            Some(newest) => {
                if self.session() == session {
                    self.move_to(*newest);
                }
                false
            }
            None => {
                drop(sessions);
                self.on_closed(reason.clone());
                true
            }
        }
    }

    pub(crate) fn session(&self) -> SessionId {
        SessionId(self.session.load(Ordering::Acquire))
    }

    pub(crate) fn move_to(&self, session: SessionId) {
        self.session.store(session.0, Ordering::Release);
    }

    /// One session carries on for another. Shards tell in whatever order: the other may not have been told of yet, or may itself
    /// have moved on already.
    pub(crate) fn succeed(&self, from: SessionId, to: SessionId) {
        let mut moved = lock(&self.moved);
        let to = moved.iter().find(|(gone, _)| *gone == to).map_or(to, |(_, heir)| *heir);
        for (_, heir) in moved.iter_mut().filter(|(_, heir)| *heir == from) {
            *heir = to;
        }
        if moved.len() == MOVED_MAX {
            moved.remove(0);
        }
        moved.push((from, to));
        drop(moved);
        self.add_session(to);
        // Another session of ours may be moving too: what was sent there goes before what comes now.
        if self.session() == from {
            self.move_to(to);
        }
        self.remove_session(from, &CloseReason::Local);
    }

    pub(crate) fn port(&self, session: SessionId) -> &Port<Delivery> {
        &self.engine.ports[usize::from(session.shard())]
    }

    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.closed.get()
    }

    /// The session ended for good: everybody who waits is woken.
    fn on_closed(&self, reason: CloseReason) {
        let _ = self.closed.set(reason);
        self.arrived.ring();
        self.room.ring();
    }

    /// Takes room for a message in the queue; one message may go beyond it.
    pub(crate) fn take_room(&self, bytes: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        if self.queued.load(Ordering::Acquire) >= limit {
            return false;
        }
        self.queued.fetch_add(bytes, Ordering::AcqRel);
        true
    }

    /// Gives room back. True: half of the queue is free, so that waiting senders are worth waking.
    pub(crate) fn give_room(&self, bytes: usize) -> bool {
        let before = self.queued.fetch_sub(bytes, Ordering::AcqRel);
        let limit = self.limit.load(Ordering::Relaxed);
        before - bytes <= limit / 2
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit.max(SEND_LIMIT_MIN), Ordering::Relaxed);
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }

    /// The next message, if one has come. Whoever asks brings in everybody's messages from the shard's ring.
    pub(crate) fn poll_message(self: &Arc<Self>) -> Option<Message> {
        if let Some(message) = lock(&self.inbox).pop_front() {
            return Some(message);
        }
        for (index, word) in self.shards.iter().enumerate() {
            let mut bits = word.load(Ordering::Acquire);
            while bits != 0 {
                let shard = index * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if let Some(message) = self.poll_ring(&self.engine.ports[shard]) {
                    return Some(message);
                }
            }
        }
        None
    }

    fn poll_ring(self: &Arc<Self>, port: &Port<Delivery>) -> Option<Message> {
        let mut deliveries = port.deliveries();
        // Another thread may have filled the inbox while we waited for the ring.
        if let Some(message) = lock(&self.inbox).pop_front() {
            return Some(message);
        }
        while let Ok(delivery) = deliveries.pop() {
            let Delivery { peer, session, channel, charge, block } = delivery;
            let message = Message::new(peer, session, (channel, charge), block);
            if message.is_from(self) {
                return Some(message);
            }
            message.into_inbox();
        }
        None
    }

    pub(crate) fn put(&self, message: Message) {
        lock(&self.inbox).push_back(message);
        self.arrived.ring();
    }
}
