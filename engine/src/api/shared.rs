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
use dunlin_shards::gossip::Counts as RumourCounts;
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
    /// Whose engine it is: the key may change while it runs.
    pub(crate) id: Mutex<NodeId>,
    /// Whoever changes it is alone.
    pub(crate) rekeying: Mutex<()>,
    pub(crate) ports: Vec<Port<Delivery>>,
    pub(crate) local: SocketAddr,
    pub(crate) placement: Placement,
    pub(crate) requests: Mutex<HashMap<Ticket, Arc<Request>>>,
    pub(crate) events: Mutex<VecDeque<Event>>,
    pub(crate) happened: Bell,
    pub(crate) instances: Mutex<HashMap<NodeId, InstanceId>>,
    /// Sessions that moved while they were written to, until `Settled`.
    pub(crate) settling: Mutex<HashMap<SessionId, Weak<PeerShared>>>,
    /// By identity: two sessions with one peer are one handle.
    pub(crate) peers: Mutex<HashMap<NodeId, Weak<PeerShared>>>,
    pub(crate) tickets: AtomicU64,
    pub(crate) stats: Vec<Mutex<ShardReport>>,
    pub(crate) stopping: AtomicBool,
    /// No driver runs any more.
    pub(crate) stopped: AtomicBool,
    pub(crate) message_len_max: usize,
    /// The node is in a network: some channels are not the application's.
    pub(crate) has_network: bool,
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
    pub(crate) rumours: RumourCounts,
    /// `Shutdown` was asked, and nothing is left to do.
    pub(crate) drained: bool,
    pub(crate) loops: u64,
}

/// From how many known identities on those without a handle are looked for.
const PEERS_SWEEP: usize = 1_024;

/// Events that wait for the application at most; the oldest go first, and are counted.
const EVENTS_MAX: usize = 65_536;

impl EngineShared {
    /// The node's identity.
    pub(crate) fn id(&self) -> NodeId {
        *lock(&self.id)
    }

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

/// Sessions whose fates a handle remembers.
const FATES_MAX: usize = 16;

/// What became of a session of a handle's.
#[derive(Clone, Debug)]
enum Fate {
    /// Another carries on for it.
    Moved(SessionId),
    /// It is over.
    Ended(CloseReason),
}

/// What a session's end in another means for a handle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Succession {
    /// It was written to: nothing may follow until a fence behind what was written has reached the other.
    Settling,
    /// It was not.
    Aside,
    /// It was the last, and the other is over: the handle is closed.
    Closed(CloseReason),
}

/// A remote node, shared by all its handles and the driver of its shard.
pub(crate) struct PeerShared {
    pub(crate) engine: Arc<EngineShared>,
    pub(crate) id: NodeId,
    pub(crate) session: AtomicU32,
    /// Sessions that moved, and what was written to them may still be on its way to where they went.
    settling: AtomicU32,
    pub(crate) remote: Mutex<SocketAddr>,
    inbox: Mutex<VecDeque<Message>>,
    pub(crate) arrived: Bell,
    /// Written by senders and by the driver: alone on its cache line.
    queued: CachePadded<AtomicUsize>,
    limit: AtomicUsize,
    pub(crate) room: Bell,
    /// Live sessions, and by bits the shards whose rings may hold messages.
    sessions: Mutex<Vec<SessionId>>,
    /// Sessions that are gone, and what became of them: the last few.
    fates: Mutex<Vec<(SessionId, Fate)>>,
    shards: [AtomicU64; 2],
    closed: OnceLock<CloseReason>,
}

// One for each session: with the counts of its `Arc` on a line of their own it takes 640 bytes, which allocators have a class for;
// one byte more and it takes 768.
const _: () = assert!(size_of::<PeerShared>() <= 512);

impl PeerShared {
    pub(crate) fn new(engine: Arc<EngineShared>, id: NodeId, session: SessionId, remote: SocketAddr) -> Self {
        Self {
            engine,
            id,
            session: AtomicU32::new(session.0),
            settling: AtomicU32::new(0),
            remote: Mutex::new(remote),
            inbox: Mutex::new(VecDeque::new()),
            arrived: Bell::default(),
            queued: CachePadded::new(AtomicUsize::new(0)),
            limit: AtomicUsize::new(SEND_LIMIT_MIN),
            room: Bell::default(),
            sessions: Mutex::new(vec![session]),
            fates: Mutex::new(Vec::new()),
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
        lock(&self.fates).retain(|(gone, _)| *gone != session);
        self.note_shard(session);
        true
    }

    /// A session is over. True: it was the last, and the handle is closed.
    pub(crate) fn end_session(&self, session: SessionId, reason: &CloseReason) -> bool {
        self.note_fate(session, Fate::Ended(reason.clone()));
        self.remove_session(session, reason)
    }

    fn note_fate(&self, session: SessionId, fate: Fate) {
        let mut fates = lock(&self.fates);
        if fates.len() == FATES_MAX {
            fates.remove(0);
        }
        fates.push((session, fate));
    }

    fn remove_session(&self, session: SessionId, reason: &CloseReason) -> bool {
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

    /// This session is the one to write to, and nothing older is still on its way there. Asked under the lock of its port.
    pub(crate) fn may_write(&self, session: SessionId) -> bool {
        self.settling.load(Ordering::Acquire) == 0 && self.session() == session
    }

    /// What was written to a session that ended has reached the one that carries on.
    pub(crate) fn on_settled(&self) {
        self.settling.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn move_to(&self, session: SessionId) {
        self.session.store(session.0, Ordering::Release);
    }

    /// One session carries on for another. Shards tell in whatever order: the other may not have been told of yet, may itself have
    /// moved on already, or be over.
    pub(crate) fn succeed(&self, from: SessionId, to: SessionId) -> Succession {
        let known =
            lock(&self.fates).iter().rev().find(|(gone, _)| *gone == to).map(|(_, fate)| fate.clone());
        let to = match known {
            Some(Fate::Ended(reason)) => {
                let is_last = self.end_session(from, &reason);
                return if is_last { Succession::Closed(reason) } else { Succession::Aside };
            }
            Some(Fate::Moved(heir)) => heir,
            None => to,
        };
        for (_, fate) in lock(&self.fates).iter_mut() {
            if matches!(fate, Fate::Moved(heir) if *heir == from) {
                *fate = Fate::Moved(to);
            }
        }
        self.note_fate(from, Fate::Moved(to));
        self.add_session(to);
        // Another session of ours may be moving too: what was sent there goes before what comes now.
        let is_written_to = self.session() == from;
        if is_written_to {
            self.settling.fetch_add(1, Ordering::AcqRel);
            self.move_to(to);
        }
        self.remove_session(from, &CloseReason::Local);
        if is_written_to { Succession::Settling } else { Succession::Aside }
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

#[cfg(test)]
mod tests {
    use dunlin_shards::placement::PlacementSeeds;

    use super::*;

    fn peer_with(session: SessionId) -> PeerShared {
        let engine = EngineShared {
            id: Mutex::new(NodeId([1; 32])),
            rekeying: Mutex::default(),
            ports: Vec::new(),
            local: ([127, 0, 0, 1], 1).into(),
            placement: Placement::new(1, PlacementSeeds::default()),
            requests: Mutex::default(),
            events: Mutex::default(),
            happened: Bell::default(),
            instances: Mutex::default(),
            settling: Mutex::default(),
            peers: Mutex::default(),
            tickets: AtomicU64::new(1),
            stats: Vec::new(),
            stopping: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            message_len_max: 1,
            has_network: false,
            process: std::process::id(),
        };
        PeerShared::new(Arc::new(engine), NodeId([2; 32]), session, ([127, 0, 0, 1], 2).into())
    }

    const IDS: [SessionId; 3] = [SessionId(0x8000_0001), SessionId(0x8100_0002), SessionId(0x8200_0003)];

    /// spec: atp/succession
    #[test]
    fn a_handle_follows_moves_in_whatever_order_they_are_told() {
        let [a, b, c] = IDS;
        let peer = peer_with(a);
        assert_eq!(peer.succeed(b, c), Succession::Aside);
        assert_eq!(peer.succeed(a, b), Succession::Settling);
        assert_eq!(peer.session(), c);
        assert!(!peer.may_write(c), "what was written to the first may still be on its way");
        peer.on_settled();
        assert!(peer.may_write(c) && !peer.may_write(a));
        assert!(peer.close_reason().is_none());
    }

    /// Otherwise nobody would ever hear that it is closed.
    #[test]
    fn a_handle_does_not_follow_to_a_session_that_is_over() {
        let [a, b, c] = IDS;
        let peer = peer_with(a);
        assert!(peer.add_session(b));
        assert!(!peer.end_session(b, &CloseReason::Idle));
        assert_eq!(peer.succeed(a, b), Succession::Closed(CloseReason::Idle));
        assert_eq!(peer.close_reason(), Some(&CloseReason::Idle));
        // With another session it lives on there; an id that is used again is as new.
        let peer = peer_with(a);
        assert!(peer.add_session(b) && peer.add_session(c));
        assert!(!peer.end_session(b, &CloseReason::Idle));
        assert_eq!((peer.succeed(a, b), peer.session()), (Succession::Aside, c));
        assert!(peer.add_session(b));
        assert_eq!((peer.succeed(c, b), peer.session()), (Succession::Settling, b));
    }
}
