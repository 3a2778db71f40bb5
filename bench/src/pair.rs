//! Two shards joined by memory: one session, everything that a core does but sockets, rings and wake-ups.
//!
//! In:    a shape of traffic, rounds.
//! Out:   real time by step of the path, counted work.
//! Holds: the shards' clock is virtual and moves by one round trip a round, so that the same work is done in every run.
//!
//! Each step is a function of its own that is not inlined, so that a profile shows its name; those called `step_…` are
//! also told apart by sender and receiver, for `counts`.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant as Stopwatch};

use dunlin_codec::ids::{InstanceId, SessionId};
use dunlin_codec::suite::Suite;
use dunlin_shards::arq::congestion::Algorithm;
use dunlin_shards::arq::receiver::charge;
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::blocks::BlockPool;
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::{HANDSHAKE_DEADLINE, IDLE_TIMEOUT, Limits, MESSAGE_LEN_MAX, REHANDSHAKE_AFTER};
use dunlin_shards::mail::{self, Connect, Mail};
use dunlin_shards::placement::{Placement, PlacementSeeds};
use dunlin_shards::rng::{Rng, SeededEntropy};
use dunlin_shards::route::{Arrival, FRAME_LEN, Transmit};
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::session::keys::KeyLimits;
use dunlin_shards::session::live::Settings;
use dunlin_shards::shard::{Shard, ShardConfig};
use dunlin_shards::stats::Stats;
use dunlin_shards::time::{Instant, Now, WallMillis};

/// Bytes of blocks that each application may hold.
const SEND_POOL: usize = 256 << 20;
/// What an application may queue before its session tells it a limit, in bytes of charge.
const QUEUE_MIN: usize = 256 << 10;
/// Datagrams longer than this wear keys out sooner.
const LARGE_DATAGRAM: usize = 2_048;
/// Rounds in which two nodes have shaken hands, or never do.
const HANDSHAKE_TURNS_MAX: usize = 100;
/// Rounds after a handshake, until nothing of it is under way any more.
const SETTLING_TURNS: usize = 100;
/// The wall clock's beginning, in milliseconds.
const WALL: u64 = 1_700_000_000_000;

/// What travels and how.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of a message.
    pub message_len: usize,
    /// Bytes of the largest datagram.
    pub datagram_len: usize,
    /// Whether messages are reliable.
    pub is_reliable: bool,
    /// Trains that a node gives out in one turn.
    pub trains: usize,
    /// Virtual time from one round to the next.
    pub round_trip: Duration,
}

impl Default for Shape {
    /// Bulk: reliable messages of 64 KiB in datagrams of 1,200 bytes.
    fn default() -> Self {
        Self {
            message_len: 64 << 10,
            datagram_len: 1_200,
            is_reliable: true,
            trains: 32,
            round_trip: Duration::from_micros(100),
        }
    }
}

/// Real time spent in each step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    /// Sender: copying messages into blocks, `Mail::Send`.
    pub push: Duration,
    /// Sender: `handle_timeout` and `poll_transmit`.
    pub build: Duration,
    /// Receiver: `handle_datagram`.
    pub accept: Duration,
    /// Receiver: `poll_event`, `Mail::Consumed`.
    pub deliver: Duration,
    /// Receiver: `handle_timeout` and `poll_transmit`: acknowledgements and credit.
    pub answer: Duration,
    /// Sender: `handle_datagram` for what the receiver answered.
    pub settle: Duration,
    /// Sender: `poll_event`, blocks coming home.
    pub release: Duration,
}

impl Costs {
    /// Everything that the sending core did.
    #[must_use]
    pub fn sender(&self) -> Duration {
        self.push + self.build + self.settle + self.release
    }

    /// Everything that the receiving core did.
    #[must_use]
    pub fn receiver(&self) -> Duration {
        self.accept + self.deliver + self.answer
    }
}

/// One node: a shard, its application and the frames that it writes.
pub struct Node<C: Crypto> {
    /// The shard.
    pub shard: Shard<C, SeededEntropy>,
    /// Messages that its application took.
    pub taken: u64,
    /// Bytes of these messages.
    pub taken_len: u64,
    address: SocketAddr,
    session: Option<SessionId>,
    pool: BlockPool,
    queued: usize,
    queue_max: usize,
    frames: Vec<Vec<u8>>,
    trains: Vec<Transmit>,
}

impl<C: Crypto> Node<C> {
    fn new(number: u8, shape: &Shape) -> Self {
        let identity = Identity::from_seed([number; 32]);
        let entropy = SeededEntropy(Rng::from_number(number.into()));
        Self {
            shard: Shard::new(config(number, shape), identity, entropy, Limits::default()),
            taken: 0,
            taken_len: 0,
            address: SocketAddr::from(([192, 0, 2, number], 7117)),
            session: None,
            pool: BlockPool::new(SEND_POOL, MESSAGE_LEN_MAX),
            queued: 0,
            queue_max: QUEUE_MIN,
            frames: vec![vec![0; FRAME_LEN]; shape.trains],
            trains: Vec::with_capacity(shape.trains),
        }
    }

    #[inline(never)]
    fn push(&mut self, now: Now, message: &[u8], shape: &Shape) {
        let Some(session) = self.session else { return };
        while self.queued < self.queue_max {
            let Some(mut block) = self.pool.take(message.len()) else { return };
            block.fill_from(message);
            self.queued += charge(message.len()) as usize;
            let message = Outgoing { reliable: shape.is_reliable, ..Outgoing::new(block) };
            self.shard.handle_mail(now, mail::From::Application, Mail::Send { session, message });
        }
    }

    #[inline(never)]
    fn transmit(&mut self, now: Now) {
        if self.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.shard.handle_timeout(now);
        }
        self.trains.clear();
        for frame in &mut self.frames {
            let Some(train) = self.shard.poll_transmit(now, frame) else { break };
            self.trains.push(train);
        }
    }

    #[inline(never)]
    fn receive(&mut self, now: Now, from: &mut Self) {
        for (train, frame) in from.trains.iter().zip(&mut from.frames) {
            let arrival = Arrival {
                local: Some(self.address.ip()),
                remote: from.address,
                socket: train.socket,
                ecn: train.ecn,
                segment_len: train.segment_len,
            };
            self.shard.handle_datagram(now, &arrival, &mut frame[..train.len]);
        }
    }

    #[inline(never)]
    fn drain(&mut self, now: Now) {
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Message { session, channel, block, charge } => {
                    self.taken += 1;
                    self.taken_len += block.len() as u64;
                    let mail = Mail::Consumed { session, channel, charge, block };
                    self.shard.handle_mail(now, mail::From::Application, mail);
                }
                Event::Released { released, .. } => {
                    self.queued -= charge(released.block.len()) as usize;
                    self.pool.give(released.block);
                }
                Event::QueueLimit { bytes, .. } => self.queue_max = bytes.max(QUEUE_MIN),
                Event::Connected { session, .. } | Event::Accepted { session, .. } => {
                    self.session = Some(session);
                }
                Event::Closed { reason, .. } | Event::ConnectFailed { reason, .. } => {
                    panic!("the session ended: {reason}");
                }
                _ => {}
            }
        }
    }
}

/// A node of one shard; everything in it follows from its number.
pub(crate) fn config(number: u8, shape: &Shape) -> ShardConfig {
    let large = shape.datagram_len > LARGE_DATAGRAM;
    let key_limits = if large { KeyLimits::for_large_datagrams() } else { KeyLimits::default() };
    ShardConfig {
        index: 0,
        placement: Placement::new(1, PlacementSeeds::default()),
        steered: true,
        network: [7; 32],
        suite: Suite::AesGcm,
        instance: InstanceId([number; 8]),
        cookie_root: [number; 32],
        reset_secret: [number; 32],
        zero_rtt: true,
        shared_identity: false,
        fresh_identity: true,
        own_addresses: Vec::new(),
        trusted: Vec::new(),
        handshake_deadline: HANDSHAKE_DEADLINE,
        settings: Settings {
            datagram_max: shape.datagram_len,
            idle_timeout: IDLE_TIMEOUT,
            keepalive: None,
            renew_after: REHANDSHAKE_AFTER,
            key_limits,
            congestion: Algorithm::Cubic,
        },
    }
}

/// Two nodes with a session between them; the near one sends.
pub struct Pair<C: Crypto> {
    /// The sender.
    pub near: Node<C>,
    /// The receiver.
    pub far: Node<C>,
    shape: Shape,
    message: Vec<u8>,
    now: Instant,
}

impl<C: Crypto> Pair<C> {
    /// Two nodes that have shaken hands.
    ///
    /// # Panics
    /// When they do not: the shards are broken.
    #[must_use]
    pub fn connect(shape: Shape) -> Self {
        let mut pair = Self::introduce(shape);
        for _ in 0..SETTLING_TURNS {
            pair.turn(&mut Costs::default(), false);
        }
        pair
    }

    /// Two nodes of which the near one has called the far one, as soon as both have the session.
    ///
    /// # Panics
    /// When they do not get it: the shards are broken.
    #[must_use]
    pub fn introduce(shape: Shape) -> Self {
        let mut pair = Self {
            near: Node::new(1, &shape),
            far: Node::new(2, &shape),
            shape,
            message: (0..shape.message_len).map(|at| at as u8).collect(),
            now: Instant::from_nanos(1_000_000_000),
        };
        let connect = Connect {
            ticket: Ticket(1),
            id: Some(pair.far.shard.id()),
            remote: pair.far.address,
            early: Vec::new(),
            instance: InstanceId::default(),
        };
        step_call(&mut pair.near, now_of(pair.now), connect);
        for _ in 0..HANDSHAKE_TURNS_MAX {
            if pair.near.session.is_some() && pair.far.session.is_some() {
                return pair;
            }
            pair.turn(&mut Costs::default(), false);
        }
        panic!("the nodes shake hands");
    }

    /// Rounds until the sender has sent so many more datagrams; real time is added to `costs`.
    ///
    /// # Panics
    /// When the session ends or nothing moves any more.
    pub fn run(&mut self, datagrams: u64, costs: &mut Costs) {
        let goal = self.near.shard.stats().datagrams_out + datagrams;
        let mut idle = 0;
        while self.near.shard.stats().datagrams_out < goal {
            let before = self.near.shard.stats().datagrams_out;
            self.turn(costs, true);
            idle = if self.near.shard.stats().datagrams_out == before { idle + 1 } else { 0 };
            assert!(idle < 100_000, "the sender has something to send");
        }
    }

    /// One round: messages and trains one way, acknowledgements the other way.
    fn turn(&mut self, costs: &mut Costs, is_sending: bool) {
        let now = now_of(self.now);
        let mut watch = Stopwatch::now();
        let mut lap = |step: &mut Duration| {
            let lapped = Stopwatch::now();
            *step += lapped - watch;
            watch = lapped;
        };
        if is_sending {
            self.near.push(now, &self.message, &self.shape);
            lap(&mut costs.push);
        }
        step_build(&mut self.near, now);
        lap(&mut costs.build);
        self.near.drain(now);
        lap(&mut costs.release);
        let now = now_of(self.now + self.shape.round_trip / 2);
        step_accept(&mut self.far, now, &mut self.near);
        lap(&mut costs.accept);
        self.far.drain(now);
        lap(&mut costs.deliver);
        step_answer(&mut self.far, now);
        lap(&mut costs.answer);
        self.far.drain(now);
        lap(&mut costs.deliver);
        self.now += self.shape.round_trip;
        let now = now_of(self.now);
        step_settle(&mut self.near, now, &mut self.far);
        lap(&mut costs.settle);
        self.near.drain(now);
        lap(&mut costs.release);
    }

    /// What both shards counted so far: the sender's, then the receiver's.
    #[must_use]
    pub fn stats(&self) -> [Stats; 2] {
        [self.near.shard.stats().clone(), self.far.shard.stats().clone()]
    }
}

// Two functions that do the same would be made one; each name that is looked at keeps them apart.

#[inline(never)]
fn step_call<C: Crypto>(near: &mut Node<C>, now: Now, connect: Connect) {
    black_box("call");
    near.shard.handle_mail(now, mail::From::Application, Mail::Connect(Box::new(connect)));
}

#[inline(never)]
fn step_build<C: Crypto>(near: &mut Node<C>, now: Now) {
    black_box("build");
    near.transmit(now);
}

#[inline(never)]
fn step_accept<C: Crypto>(far: &mut Node<C>, now: Now, near: &mut Node<C>) {
    black_box("accept");
    far.receive(now, near);
}

#[inline(never)]
fn step_answer<C: Crypto>(far: &mut Node<C>, now: Now) {
    black_box("answer");
    far.transmit(now);
}

#[inline(never)]
fn step_settle<C: Crypto>(near: &mut Node<C>, now: Now, far: &mut Node<C>) {
    black_box("settle");
    near.receive(now, far);
}

fn now_of(instant: Instant) -> Now {
    Now { instant, wall: WallMillis(WALL + instant.as_nanos() / 1_000_000) }
}

#[cfg(test)]
mod tests {
    use dunlin_shards::session::aws_lc::AwsLc;

    use super::*;

    /// What is sent arrives, nothing is lost and nothing is sent twice.
    #[test]
    fn a_pair_moves_messages() {
        for message_len in [64, 64 << 10] {
            let mut pair = Pair::<AwsLc>::connect(Shape { message_len, ..Shape::default() });
            pair.run(2_000, &mut Costs::default());
            assert!(pair.far.taken > 0 && pair.far.taken_len == pair.far.taken * message_len as u64);
            let [near, far] = pair.stats();
            assert_eq!((near.packets_lost, near.drops_total(), far.drops_total()), (0, 0, 0));
        }
    }
}
