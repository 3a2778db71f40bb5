//! A crowd: many nodes with one session each, on few sockets and one core, that take in what is sent to them.
//!
//! In:    whom to call, how many of them, on how many ports; what they are to do besides.
//! Out:   how many sessions there are; what arrived, by this side's clock; what their questions came to.
//! Holds: on loopback each member has an address of its own in 127/8, so that one socket serves as many as there are;
//!        elsewhere each has a port.
//!
//! A node keeps one session with each identity, so that many sessions with one node take as many identities.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunlin::clock::Clock;
use dunlin::entropy::OsEntropy;
use dunlin::runtime::{self, Driver, Running, RuntimeOptions};
use dunlin::socket::Socket;
use dunlin::socket::group::{Group, GroupOptions};
use dunlin_codec::ids::{InstanceId, NodeId};
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::Limits;
use dunlin_shards::mail::{self, Connect, Mail};
use dunlin_shards::messages::conversation::Terms;
use dunlin_shards::placement::{Placement, PlacementSeeds};
use dunlin_shards::route::Arrival;
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::shard::{Shard, ShardConfig};
use dunlin_shards::time::{Instant, Now};

use crate::Fault;
use crate::asking::Answers;
use crate::messages::LOAD;
use crate::part::{Part, Role};
use crate::questions::Turn;
use crate::rally::lock;
use crate::talk;

/// A datagram that begins so belongs to no protocol of ours: it is counted and nothing else.
pub(crate) const RAW: u8 = 0;
/// Calls of the whole crowd under way at once.
const CALLS: usize = 32;
/// Members that have ports of their own at most: a thread each.
const PORTS_MAX: usize = 256;
/// How often a core looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The first member's address on loopback.
const FIRST: u32 = u32::from_be_bytes([127, 1, 0, 1]);
/// Members on loopback at most: the addresses up to 127.254.255.255.
const MEMBERS_MAX: usize = u32::from_be_bytes([127, 255, 0, 0]) as usize - FIRST as usize;

/// Whom to call, and who does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: Option<NodeId>,
    pub(crate) remote: SocketAddr,
    pub(crate) config: ShardConfig,
    pub(crate) members: usize,
    /// Sockets on loopback.
    pub(crate) ports: usize,
    /// What each does; none: they are of no network.
    pub(crate) role: Option<Role>,
    pub(crate) core: usize,
    pub(crate) runtime: RuntimeOptions,
}

/// What came since the count began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrivals {
    /// Datagrams of sessions, and their bytes.
    pub(crate) datagrams: u64,
    pub(crate) datagram_bytes: u64,
    /// Datagrams of sessions that went out.
    pub(crate) answers: u64,
    /// Messages of load.
    pub(crate) messages: u64,
    /// Copies of rumours.
    pub(crate) copies: u64,
    /// Datagrams of no protocol.
    pub(crate) raw: u64,
    /// When the first message, copy or raw datagram came, and the last.
    first: Option<Instant>,
    last: Instant,
}

impl Arrivals {
    /// Whatever was counted, a second.
    pub(crate) fn rate_of(&self, count: u64) -> f64 {
        let span = self.first.map_or(Duration::ZERO, |first| self.last.since(first));
        if span.is_zero() { 0.0 } else { count as f64 / span.as_secs_f64() }
    }

    fn add(&mut self, more: &Self, now: Instant) {
        self.datagrams += more.datagrams;
        self.datagram_bytes += more.datagram_bytes;
        self.answers += more.answers;
        self.messages += more.messages;
        self.copies += more.copies;
        self.raw += more.raw;
        if more.messages + more.copies + more.raw > 0 {
            self.first.get_or_insert(now);
            self.last = now;
        }
    }
}

/// What the cores of a crowd tell, and are told.
#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    may_call: AtomicBool,
    connected: AtomicU64,
    ended: AtomicU64,
    /// Members that have named their network, and were answered.
    met: AtomicU64,
    /// A [`Turn`].
    turn: AtomicU8,
    arrivals: Mutex<Arrivals>,
    answers: Mutex<Answers>,
    why: Mutex<Option<String>>,
}

/// All members.
#[derive(Debug)]
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    running: Vec<Running<()>>,
}

impl Crowd {
    /// All are there, and call nobody yet.
    pub(crate) fn start(plan: &Plan) -> Result<Self, Fault> {
        let is_spread = matches!(plan.remote.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let (most, sockets) = match is_spread {
            true => (MEMBERS_MAX, plan.ports.clamp(1, plan.members.max(1))),
            false => (PORTS_MAX, plan.members),
        };
        if plan.members == 0 || plan.members > most {
            return Err(format!("--sessions {}: 1 to {most} for this target", plan.members).into());
        }
        let terms = plan.role.as_ref().map(|_| talk::terms()).transpose()?;
        let mut crowd = Self { shared: Arc::default(), running: Vec::new() };
        for at in 0..sockets {
            // Each takes its part of the addresses.
            let part = plan.members * at / sockets..plan.members * (at + 1) / sockets;
            let running = crowd.start_core((plan, terms.as_ref()), part, is_spread);
            match running {
                Ok(running) => crowd.running.push(running),
                Err(fault) => {
                    crowd.stop();
                    return Err(fault);
                }
            }
        }
        Ok(crowd)
    }

    fn start_core(
        &self,
        (plan, terms): (&Plan, Option<&Terms>),
        part: std::ops::Range<usize>,
        is_spread: bool,
    ) -> Result<Running<()>, Fault> {
        let any = match plan.remote {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
            SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
        };
        let one = Placement::new(1, PlacementSeeds::default());
        let group = Group::bind(any, &one, &GroupOptions::default())
            .map_err(|error| format!("no socket for the crowd: {error}"))?;
        let options = RuntimeOptions { cores: Some(vec![plan.core]), ..plan.runtime.clone() };
        let clock = Clock::start();
        let mut core = Some(Core {
            members: part.clone().map(|at| Member::new(plan, at, terms)).collect(),
            first: is_spread.then_some(FIRST + part.start as u32),
            calls_max: (CALLS / plan.ports.max(1)).max(1),
            calls: 0,
            called: 0,
            plan: plan.clone(),
            clock,
            touched: Vec::new(),
            timers: BinaryHeap::new(),
            count: Arrivals::default(),
            answered: Answers::default(),
            turn: Turn::Rest,
            shared: self.shared.clone(),
        });
        Ok(runtime::start(group, clock, &options, |_| core.take().expect("there is one socket"))?)
    }

    /// All begin to call.
    pub(crate) fn call(&self) {
        self.shared.may_call.store(true, Ordering::Relaxed);
    }

    /// Sessions that were opened, and calls and sessions that ended since.
    pub(crate) fn sessions(&self) -> [u64; 2] {
        [&self.shared.connected, &self.shared.ended].map(|count| count.load(Ordering::Relaxed))
    }

    /// Why the first of those that ended did.
    pub(crate) fn why(&self) -> Option<String> {
        lock(&self.shared.why).clone()
    }

    /// The count begins anew; what came until now.
    pub(crate) fn take_arrivals(&self) -> Arrivals {
        std::mem::take(&mut lock(&self.shared.arrivals))
    }

    /// The same, and the count goes on.
    pub(crate) fn arrivals(&self) -> Arrivals {
        *lock(&self.shared.arrivals)
    }

    /// All do this from now on.
    pub(crate) fn turn(&self, turn: Turn) {
        self.shared.turn.store(turn as u8, Ordering::Relaxed);
    }

    /// Members whom the far side has greeted, and that greeted it.
    pub(crate) fn met(&self) -> u64 {
        self.shared.met.load(Ordering::Relaxed)
    }

    /// Answers since the count began, and questions that were refused or not answered.
    pub(crate) fn answers(&self) -> [u64; 2] {
        let answers = lock(&self.shared.answers);
        [answers.answers, answers.failed]
    }

    /// The count of answers begins anew; what came until now.
    pub(crate) fn take_answers(&self) -> Answers {
        std::mem::take(&mut lock(&self.shared.answers))
    }

    fn stop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for running in self.running.drain(..) {
            let _ = running.join();
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One identity.
struct Member {
    shard: Shard<AwsLc, OsEntropy>,
    /// When it is looked at next, as the heap knows it.
    timer: Option<Instant>,
    part: Option<Part>,
    /// It was counted among those that have met.
    is_met: bool,
}

impl Member {
    fn new(plan: &Plan, at: usize, terms: Option<&Terms>) -> Self {
        let identity = Identity::from_seed(OsEntropy.array());
        let id = identity.id();
        let limits = Limits {
            sessions: 4,
            half_open: 1,
            memory: 1 << 20,
            strikes: 16,
            identities: 16,
            ..Limits::small()
        };
        let part = terms.zip(plan.role.as_ref()).map(|(terms, role)| Part::new((at, id), terms, role));
        let shard = Shard::new(plan.config.clone(), identity, OsEntropy, limits);
        Self { shard, timer: None, part, is_met: false }
    }
}

/// The members of one socket.
struct Core {
    members: Vec<Member>,
    /// The first one's address; none where there is one member, which has any.
    first: Option<u32>,
    calls_max: usize,
    /// Calls under way, and members that have called.
    calls: usize,
    called: usize,
    plan: Plan,
    clock: Clock,
    /// Members that may have something to say.
    touched: Vec<u32>,
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    count: Arrivals,
    answered: Answers,
    turn: Turn,
    shared: Arc<Shared>,
}

impl Driver for Core {
    type Output = ();

    async fn run<S: Socket>(mut self, socket: &mut S) {
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let now = self.clock.now();
            let received = socket.receive(|arrival, bytes| self.take(now, arrival, bytes));
            if self.shared.may_call.load(Ordering::Relaxed) {
                self.call(now);
            }
            self.begin_or_end();
            self.wake(now);
            let is_blocked = !self.answer(now, socket);
            socket.flush();
            while socket.poll_error().is_some() {}
            if self.count.datagrams + self.count.raw + self.count.answers + self.count.copies > 0 {
                lock(&self.shared.arrivals).add(&std::mem::take(&mut self.count), now.instant);
            }
            if self.answered.answers + self.answered.failed > 0 {
                lock(&self.shared.answers).add(&self.answered);
                self.answered.clear();
            }
            if received == 0 || is_blocked {
                let look = now.instant + LOOK_EVERY;
                let due = self.timers.peek().map_or(look, |Reverse((at, _))| look.min(*at));
                socket.wait(Some(due)).await;
            }
        }
    }
}

impl Core {
    fn take(&mut self, now: Now, arrival: &Arrival, bytes: &mut [u8]) {
        let datagrams = bytes.len().div_ceil(arrival.segment_len.max(1)) as u64;
        if bytes.first() == Some(&RAW) {
            self.count.raw += datagrams;
            return;
        }
        let at = match (self.first, arrival.local) {
            (Some(first), Some(IpAddr::V4(ip))) => u32::from(ip).wrapping_sub(first),
            _ => 0,
        };
        let Some(member) = self.members.get_mut(at as usize) else { return };
        self.count.datagrams += datagrams;
        self.count.datagram_bytes += bytes.len() as u64;
        member.shard.handle_datagram(now, arrival, bytes);
        self.touched.push(at);
    }

    /// The next members call, as far as there may be more calls.
    fn call(&mut self, now: Now) {
        while self.calls < self.calls_max && self.called < self.members.len() {
            let connect = Connect {
                ticket: Ticket(1),
                id: self.plan.id,
                remote: self.plan.remote,
                early: Vec::new(),
                instance: InstanceId::default(),
            };
            let mail = Mail::Connect(Box::new(connect));
            self.members[self.called].shard.handle_mail(now, mail::From::Application, mail);
            self.touched.push(self.called as u32);
            (self.called, self.calls) = (self.called + 1, self.calls + 1);
        }
    }

    /// Those who are to do something else do.
    fn begin_or_end(&mut self) {
        let turn = Turn::of(self.shared.turn.load(Ordering::Relaxed));
        if turn != self.turn {
            self.touched.extend(0..self.members.len() as u32);
        }
        self.turn = turn;
    }

    /// Those whose time has come.
    fn wake(&mut self, now: Now) {
        while let Some(Reverse((at, index))) = self.timers.peek().copied()
            && at <= now.instant
        {
            self.timers.pop();
            let member = &mut self.members[index as usize];
            member.timer = None;
            if member.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
                member.shard.handle_timeout(now);
            }
            self.touched.push(index);
        }
    }

    /// Everything that members have to say. False: the kernel takes no more for now.
    fn answer<S: Socket>(&mut self, now: Now, socket: &mut S) -> bool {
        while let Some(index) = self.touched.pop() {
            self.drain(now, index);
            self.work(now, index);
            let member = &mut self.members[index as usize];
            loop {
                let Some(frame) = socket.frame() else {
                    self.touched.push(index);
                    return false;
                };
                let Some(mut train) = member.shard.poll_transmit(now, frame) else { break };
                train.local = self.first.map(|first| IpAddr::V4(Ipv4Addr::from(first + index)));
                socket.transmit(&train);
                self.count.answers += train.segment_count() as u64;
            }
            let part_at = member.part.as_ref().and_then(Part::due_at);
            if let Some(at) = member.shard.poll_timeout().map(|(at, _)| at).into_iter().chain(part_at).min()
                && member.timer.is_none_or(|known| at < known)
            {
                member.timer = Some(at);
                self.timers.push(Reverse((at, index)));
            }
        }
        true
    }

    fn work(&mut self, now: Now, index: u32) {
        let member = &mut self.members[index as usize];
        let Some(part) = &mut member.part else { return };
        let counts = (&mut self.answered, &mut self.count.copies);
        part.work(now, &mut member.shard, self.turn, counts);
        if !member.is_met && part.is_met() {
            member.is_met = true;
            self.shared.met.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn drain(&mut self, now: Now, index: u32) {
        let Member { shard, part, .. } = &mut self.members[index as usize];
        while let Some(event) = shard.poll_event() {
            match event {
                Event::Connected { session, peer, .. } => {
                    if let Some(part) = part {
                        part.on_connected(now, session, peer);
                    }
                    self.calls -= 1;
                    self.shared.connected.fetch_add(1, Ordering::Relaxed);
                }
                Event::ConnectFailed { reason, .. } => {
                    self.calls -= 1;
                    lock(&self.shared.why).get_or_insert(reason.to_string());
                    self.shared.ended.fetch_add(1, Ordering::Relaxed);
                }
                Event::Closed { reason, .. } => {
                    lock(&self.shared.why).get_or_insert(reason.to_string());
                    self.shared.ended.fetch_add(1, Ordering::Relaxed);
                }
                Event::Message { session, channel, block, charge } => {
                    self.count.messages += u64::from(block.first() == Some(&LOAD));
                    if let Some(part) = part {
                        part.on_message(now, channel, &block);
                    }
                    let mail = Mail::Consumed { session, channel, charge, block };
                    shard.handle_mail(now, mail::From::Application, mail);
                }
                Event::Released { released, .. } => {
                    shard.give_block(released.block);
                    if let Some(part) = part {
                        part.on_released();
                    }
                }
                _ => {}
            }
        }
    }
}
