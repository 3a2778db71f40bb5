//! A few nodes and a wire that does nothing by itself: every datagram waits on it until somebody says what befalls it.
//!
//! In:    what the applications do, what befalls datagrams, time.
//! Out:   datagrams on the wire; records of all messages; a panic when something that must hold does not.
//! Holds: shards are driven as the engine drives them: what is due is taken in, then all polls are drained.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;

use dunlin_codec::ids::{ChannelId, InstanceId, SessionId};
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::blocks::BlockPool;
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::limits::MESSAGE_LEN_MAX;
use dunlin_shards::mail::{self, Connect, Destination, Mail};
use dunlin_shards::route::{Arrival, Ecn, FRAME_LEN, SocketIndex, TRAIN_LEN_MAX, Transmit, TransmitError};
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::time::{Instant, Now, WallMillis};

use super::node::{Choice, Node, Unread, small_limits};
use super::records::{MESSAGE_LEN_MIN, Record, Records, message_bytes};

/// Milliseconds since 1970 when a run begins.
const WALL_BEGIN: u64 = 1_760_000_000_000;
/// What buffers are filled with before and after use: it must never be seen.
const POISON: u8 = 0xDB;
/// Datagrams that the wire holds; more are lost.
const WIRE_MAX: usize = 512;
/// Trains that a shard gives out at one instant at most.
const TRAINS_MAX: usize = 5_000;
/// How often a shard's time may come in one instant.
const TICKS_MAX: u32 = 1_000;
/// How often all shards are asked until none has anything more.
const ROUNDS_MAX: u32 = 10_000;
/// Tickets of connects begin here; those of messages are their numbers.
const CONNECTS_FROM: u64 = 1 << 32;
/// Time that a datagram takes when nothing befalls it.
pub(crate) const DELAY: Duration = Duration::from_millis(5);

/// A datagram on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ecn: Ecn,
    pub(crate) bytes: Vec<u8>,
}

/// How a message is to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) channel: u32,
    pub(crate) len: usize,
    pub(crate) once: bool,
}

impl Manner {
    /// A channel keeps its manner: of each four one is unreliable and one unordered.
    fn reliable(self) -> bool {
        self.channel % 4 != 2
    }

    fn ordered(self) -> bool {
        self.channel % 4 != 3
    }
}

/// Nodes, the wire and time.
pub(crate) struct Network<C: Crypto> {
    pub(crate) nodes: Vec<Node<C>>,
    pub(crate) wire: VecDeque<Datagram>,
    pub(crate) records: Records,
    /// Delivered bytes are compared with what was sent. Off where peers lie.
    pub(crate) is_honest: bool,
    /// The next train of this node meets this error.
    pub(crate) refusal: Option<(usize, TransmitError)>,
    /// So many letters between shards find their ring full.
    pub(crate) full_rings: u32,
    /// Sessions and handshakes that ended, and sessions that others carry on for.
    pub(crate) endings: u32,
    pool: BlockPool,
    now: Instant,
    frame: Vec<u8>,
    tickets: u64,
}

impl<C: Crypto> Network<C> {
    /// Nodes with so many shards each.
    pub(crate) fn new(shard_counts: &[usize], choice: Choice) -> Self {
        let node = |(number, count): (usize, &usize)| Node::new(number as u8, *count, choice);
        Self {
            nodes: shard_counts.iter().enumerate().map(node).collect(),
            wire: VecDeque::new(),
            records: Records::default(),
            is_honest: true,
            refusal: None,
            full_rings: 0,
            endings: 0,
            pool: BlockPool::new(1 << 30, MESSAGE_LEN_MAX),
            now: Instant::from_nanos(1_000_000_000),
            frame: vec![POISON; FRAME_LEN],
            tickets: CONNECTS_FROM,
        }
    }

    /// The moment, on all clocks.
    pub(crate) fn now(&self) -> Now {
        Now { instant: self.now, wall: WallMillis(WALL_BEGIN + self.now.as_nanos() / 1_000_000) }
    }

    /// A message of a node, ready to be sent.
    fn outgoing(&mut self, from: usize, manner: Manner, idempotent: bool) -> Outgoing {
        let number = self.records.all.len();
        let len = manner.len.max(MESSAGE_LEN_MIN);
        let mut block = self.pool.take(len).expect("the application has memory");
        block.fill_from(&message_bytes(number, len));
        self.records.all.push(Record {
            from,
            channel: ChannelId(16 + manner.channel),
            len,
            reliable: manner.reliable(),
            ordered: manner.ordered(),
            idempotent,
            ..Record::default()
        });
        Outgoing {
            ticket: number as u64,
            channel: ChannelId(16 + manner.channel),
            ordered: manner.ordered(),
            reliable: manner.reliable(),
            once: manner.once,
            idempotent,
            ..Outgoing::new(block)
        }
    }

    /// A node calls another, by its identity or only by its address, with a message in its first datagram or without.
    pub(crate) fn connect(&mut self, from: usize, to: usize, is_known: bool, early: Option<Manner>) {
        if from == to {
            return;
        }
        self.tickets += 1;
        let id = is_known.then_some(self.nodes[to].id);
        let instance = id.and_then(|id| self.nodes[from].instances.get(&id)).copied();
        let early = early.filter(|_| is_known).map(|manner| self.outgoing(from, manner, true));
        let remote = self.nodes[to].address;
        let connect = Connect {
            ticket: Ticket(self.tickets),
            id,
            remote,
            early: early.into_iter().collect(),
            instance: instance.unwrap_or(InstanceId::default()),
        };
        let shard = self.nodes[from].placement.of_address(remote).0;
        self.post(from, shard, Mail::Connect(Box::new(connect)));
    }

    /// A node sends a message in one of its sessions.
    pub(crate) fn send(&mut self, from: usize, session: SessionId, manner: Manner) {
        let message = self.outgoing(from, manner, false);
        self.post(from, session.shard(), Mail::Send { session, message });
    }

    /// An application's letter to one of its shards.
    pub(crate) fn post(&mut self, node: usize, shard: u8, mail: Mail) {
        let now = self.now();
        self.nodes[node].shards[usize::from(shard)].handle_mail(now, mail::From::Application, mail);
    }

    /// An application reads so many messages.
    pub(crate) fn read(&mut self, node: usize, count: usize) {
        for _ in 0..count {
            let Some(unread) = self.nodes[node].unread.pop_front() else { return };
            let Unread { session, channel, charge, block } = unread;
            self.post(node, session.shard(), Mail::Consumed { session, channel, charge, block });
        }
    }

    /// A datagram arrives, at the shard that it is steered to, or at another one.
    pub(crate) fn arrive(&mut self, mut datagram: Datagram, is_astray: bool) {
        let now = self.now();
        let Some(node) = self.nodes.iter_mut().find(|node| node.address == datagram.to) else { return };
        let right = usize::from(node.placement.of_datagram(datagram.from, &datagram.bytes).0);
        let shard = (right + usize::from(is_astray)) % node.shards.len();
        let arrival = Arrival {
            local: Some(datagram.to.ip()),
            remote: datagram.from,
            socket: SocketIndex(0),
            ecn: datagram.ecn,
            segment_len: datagram.bytes.len().max(1),
        };
        node.shards[shard].handle_datagram(now, &arrival, &mut datagram.bytes);
        datagram.bytes.fill(POISON);
    }

    /// All that wait on the wire arrive, oldest first.
    pub(crate) fn arrive_all(&mut self) {
        for datagram in core::mem::take(&mut self.wire) {
            self.arrive(datagram, false);
        }
    }

    /// Time passes in one leap, as if all machines had slept; or from timer to timer.
    pub(crate) fn pass(&mut self, time: Duration, is_leap: bool) {
        let until = self.now + time;
        for _ in 0..ROUNDS_MAX {
            if is_leap {
                break;
            }
            let Some(next) = self.next_timer().filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    /// When the next timer of any shard runs out.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let shards = self.nodes.iter().flat_map(|node| &node.shards);
        shards.filter_map(|shard| shard.poll_timeout().map(|(at, _)| at)).min()
    }

    /// The network heals and everybody reads: runs until all is known of every message, or for so long.
    pub(crate) fn heal(&mut self, time: Duration) {
        let until = self.now + time;
        (self.refusal, self.full_rings) = (None, 0);
        while self.now < until && !(self.wire.is_empty() && self.records.open() == 0) {
            for node in 0..self.nodes.len() {
                self.read(node, usize::MAX);
            }
            self.settle();
            let by_wire = (!self.wire.is_empty()).then_some(self.now + DELAY);
            let Some(next) = self.next_timer().into_iter().chain(by_wire).min() else { return };
            let has_arrived = by_wire.is_some_and(|at| at <= next);
            self.now = self.now.max(next);
            if has_arrived {
                self.arrive_all();
            }
            self.settle();
        }
    }

    /// Drains all shards until none has anything more to say.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut is_quiet = true;
            for node in 0..self.nodes.len() {
                for shard in 0..self.nodes[node].shards.len() {
                    is_quiet &= self.drain(node, shard);
                }
            }
            if is_quiet {
                return self.check();
            }
        }
        panic!("shards answer each other without end");
    }

    /// I6: memory and sessions stay within their bounds.
    fn check(&self) {
        let limits = small_limits();
        for shard in self.nodes.iter().flat_map(|node| &node.shards) {
            assert!(shard.allocated_bytes() <= limits.memory, "I6: {} bytes", shard.allocated_bytes());
            assert!(shard.sessions() <= limits.sessions, "I6: {} sessions", shard.sessions());
        }
    }

    /// One shard; whether nothing came of it.
    fn drain(&mut self, node: usize, shard: usize) -> bool {
        let now = self.now();
        let mut ticks = 0;
        while self.nodes[node].shards[shard].poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.nodes[node].shards[shard].handle_timeout(now);
            ticks += 1;
            assert!(ticks < TICKS_MAX, "a shard's time comes without end");
            self.transmit(node, shard);
        }
        let mut is_quiet = ticks == 0;
        is_quiet &= !self.transmit(node, shard);
        while let Some((Destination::Shard(to), mail)) = self.nodes[node].shards[shard].poll_mail() {
            is_quiet = false;
            let node = &mut self.nodes[node];
            if self.full_rings > 0 {
                self.full_rings -= 1;
                node.shards[shard].handle_undelivered(now, mail);
            } else {
                node.shards[usize::from(to)].handle_mail(now, mail::From::Shard(shard as u8), mail);
            }
        }
        while let Some(event) = self.nodes[node].shards[shard].poll_event() {
            is_quiet = false;
            self.on_event(node, event);
        }
        is_quiet
    }

    fn transmit(&mut self, node: usize, shard: usize) -> bool {
        let now = self.now();
        for count in 0..TRAINS_MAX {
            let train = self.nodes[node].shards[shard].poll_transmit(now, &mut self.frame);
            let Some(train) = train else { return count > 0 };
            if let Some((_, error)) = self.refusal.take_if(|(refused, _)| *refused == node) {
                self.frame[..train.len].fill(POISON);
                self.nodes[node].shards[shard].handle_transmit_error(now, &train, error);
                continue;
            }
            self.launch(node, &train);
        }
        panic!("a shard sends without end");
    }

    fn launch(&mut self, node: usize, train: &Transmit) {
        assert!(train.len <= TRAIN_LEN_MAX && train.segment_len > 0 && train.segment_count() <= 64);
        for datagram in self.frame[..train.len].chunks(train.segment_len) {
            if self.wire.len() == WIRE_MAX {
                self.wire.pop_front();
            }
            let (from, to) = (self.nodes[node].address, train.remote);
            self.wire.push_back(Datagram { from, to, ecn: train.ecn, bytes: datagram.to_vec() });
        }
        self.frame[..train.len].fill(POISON);
    }

    fn on_event(&mut self, node: usize, event: Event) {
        match event {
            Event::Message { session, channel, block, charge } => {
                if self.is_honest {
                    let end = (node, self.nodes[node].start, session, channel);
                    self.records.on_delivered(end, &block);
                }
                self.nodes[node].unread.push_back(Unread { session, channel, charge, block });
            }
            Event::Released { released, .. } => {
                self.records.on_released(released.ticket as usize, released.outcome);
                self.pool.give(released.block);
            }
            Event::Connected { session, peer, instance, .. } => {
                self.nodes[node].instances.insert(peer, instance);
                self.on_open(node, session);
            }
            Event::Accepted { session, .. } => self.on_open(node, session),
            Event::ConnectFailed { .. } => self.endings += 1,
            Event::Closed { session, peer, .. } => {
                self.endings += 1;
                let is_end = |at: &usize| *at == node || self.nodes[*at].id == peer;
                for from in (0..self.nodes.len()).filter(is_end).collect::<Vec<_>>() {
                    self.records.on_closed(from);
                }
                self.nodes[node].sessions.retain(|known| *known != session);
            }
            Event::PeerRestarted { from, to, .. } | Event::Moved { from, to } => {
                self.endings += 1;
                self.records.on_moved(node);
                self.nodes[node].sessions.retain(|known| *known != from);
                self.on_open(node, to);
            }
            _ => {}
        }
    }

    fn on_open(&mut self, node: usize, session: SessionId) {
        let sessions = &mut self.nodes[node].sessions;
        if !sessions.contains(&session) {
            sessions.push(session);
        }
    }
}
