//! Two shards over two sockets in this process, and nothing of an engine's threads around them, sealed or not.
//!
//! In:    a work, both sides' cores, whether packets are sealed.
//! Out:   the figure that the work's own mode has: goodput, messages a second, or round trips.
//! Holds: both ways run the same code, compiled once for each cipher; what is taken is checked for its number and length.
//!
//! A core's loop is the engine's: take in, do what is due, say what there is, spin for a while, sleep.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dunlin::clock::Clock;
use dunlin::entropy::OsEntropy;
use dunlin::runtime::{self, Driver, Running, RuntimeOptions};
use dunlin::socket::KernelBuffers;
use dunlin::socket::Socket;
use dunlin::socket::group::{Group, GroupOptions};
use dunlin_bench::callers;
use dunlin_codec::ids::{InstanceId, NodeId, SessionId};
use dunlin_shards::arq::receiver::charge;
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::Limits;
use dunlin_shards::mail::{self, Connect, Mail};
use dunlin_shards::placement::{Placement, PlacementSeeds};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::session::keys::KeyLimits;
use dunlin_shards::session::live::Settings;
use dunlin_shards::shard::{Shard, ShardConfig};
use dunlin_shards::stats::Stats;
use dunlin_shards::time::{Instant, Now};
use hdrhistogram::Histogram;

use crate::Fault;
use crate::interrupt;
use crate::machine;
use crate::messages::{LOAD, message, number, set_number};
use crate::near::cores;
use crate::options::{BareOptions, NodeOptions, Waiting, Work};
use crate::recorder::histogram;
use crate::report::Report;
use crate::unsealed::Unsealed;
use crate::writing;

/// What is not measured at the start.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long a session may take to be there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a core that sleeps looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a core looks for more before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
/// Trains given to the socket in a turn.
const TRAINS: usize = 32;
/// Bytes that wait to be sent before the path has earned more, as an engine's handles have it.
const QUEUE_MIN: usize = 256 << 10;
/// Datagrams longer than this wear AES-GCM keys out sooner.
const LARGE_DATAGRAM: u64 = 2_048;

impl Work {
    /// Bytes of a message.
    fn message_len(self) -> usize {
        match self {
            Self::Throughput => 65_536,
            Self::Messages | Self::Latency => 64,
        }
    }
}

pub(crate) fn run(node: &NodeOptions, options: &BareOptions) -> Result<(), Fault> {
    let way = if options.unsealed { "NOT sealed" } else { "sealed" };
    let setup = format!(
        "two shards over two sockets in one process, {way}, without an engine's threads: {}",
        node.to_arguments().join(" ")
    );
    let mut report = Report::new("bare", setup, machine::environment_of(node));
    let result = match options.unsealed {
        true => measure::<Unsealed>(node, options, &mut report),
        false => measure::<AwsLc>(node, options, &mut report),
    };
    if let Err(fault) = result {
        report.mark_partial(fault.to_string());
    }
    writing::conclude(report, options.json.as_deref())
}

fn measure<C: Crypto<Key: Send, Static: Send>>(
    node: &NodeOptions,
    options: &BareOptions,
    report: &mut Report,
) -> Result<(), Fault> {
    let span = Duration::try_from_secs_f64(options.seconds).ok().filter(|span| !span.is_zero());
    let span = span.ok_or("--seconds is no time to measure")?;
    let pair = Pair::start::<C>(node, options.work)?;
    pair.rest(PATIENCE, |counts| counts.connected.load(Ordering::Relaxed))?;
    pair.rest(WARM_UP.min(span), |_| false).ok();
    pair.counts.is_counted.store(true, Ordering::Release);
    let began = (pair.clock.instant(), pair.counts.taken());
    pair.rest(span, |_| false).ok();
    let ended = (pair.clock.instant(), pair.counts.taken());
    pair.counts.is_counted.store(false, Ordering::Release);
    let faults = pair.counts.faults.load(Ordering::Relaxed);
    let (times, stats) = pair.end();
    let seconds = ended.0.since(began.0).as_secs_f64();
    let [messages, bytes] = [0, 1].map(|at| (ended.1[at] - began.1[at]) as f64);
    let (section, ..) = options.work.figure();
    report.section(section);
    match options.work {
        Work::Latency => report.add_times("closed", &times),
        Work::Throughput | Work::Messages => {
            report.add("goodput", bytes * 8e-9 / seconds, "Gbit/s");
            report.add("messages", messages * 1e-6 / seconds, "M/s");
        }
    }
    report.add("lost", stats.packets_lost as f64, "");
    report.add("resent", stats.segments_resent as f64, "");
    match (faults, messages > 0.0) {
        (0, true) => Ok(()),
        (0, false) => Err("nothing arrived".into()),
        (count, _) => Err(format!("{count} messages were not what was sent").into()),
    }
}

/// What both sides have come to.
#[derive(Debug, Default)]
struct Counts {
    is_over: AtomicBool,
    is_counted: AtomicBool,
    connected: AtomicBool,
    /// What the far side took, or came back; each is written by one thread.
    messages: AtomicU64,
    bytes: AtomicU64,
    faults: AtomicU64,
}

impl Counts {
    fn taken(&self) -> [u64; 2] {
        [&self.messages, &self.bytes].map(|count| count.load(Ordering::Relaxed))
    }

    fn add(count: &AtomicU64, more: u64) {
        count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }
}

/// Round trips, where there were any, and what a shard counted.
type Outcome = (Histogram<u64>, Stats);

/// Both sides while they run.
struct Pair {
    counts: Arc<Counts>,
    clock: Clock,
    near: Running<Outcome>,
    far: Running<Outcome>,
}

impl Pair {
    fn start<C: Crypto<Key: Send, Static: Send>>(node: &NodeOptions, work: Work) -> Result<Self, Fault> {
        let (cores, clock, counts) = (cores(node)?, Clock::start(), Arc::<Counts>::default());
        let scene = Scene { node, work, clock, counts: counts.clone() };
        let identity = Identity::from_seed(OsEntropy.array());
        let id = identity.id();
        let (far, address) = scene.start_side::<C>(identity, cores.far[0], Role::Far)?;
        let own = Identity::from_seed(OsEntropy.array());
        let near = scene.start_side::<C>(own, cores.near, Role::Near { id, remote: address });
        match near {
            Ok((near, _)) => Ok(Self { counts, clock, near, far }),
            Err(fault) => {
                counts.is_over.store(true, Ordering::Relaxed);
                let _ = far.join();
                Err(fault)
            }
        }
    }

    /// Until it is so; an error when it is not after so long.
    fn rest(&self, span: Duration, is_so: impl Fn(&Counts) -> bool) -> Result<(), Fault> {
        let start = std::time::Instant::now();
        while start.elapsed() < span && !interrupt::is_asked() {
            if is_so(&self.counts) {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY.min(span));
        }
        Err("the two sides did not come to a session".into())
    }

    /// What the near side came to.
    fn end(self) -> Outcome {
        self.counts.is_over.store(true, Ordering::Relaxed);
        let _ = self.far.join();
        self.near.join().pop().expect("there is one socket")
    }
}

/// What both sides are made of.
struct Scene<'a> {
    node: &'a NodeOptions,
    work: Work,
    clock: Clock,
    counts: Arc<Counts>,
}

impl Scene<'_> {
    fn start_side<C: Crypto<Key: Send, Static: Send>>(
        &self,
        identity: Identity,
        core: usize,
        role: Role,
    ) -> Result<(Running<Outcome>, SocketAddr), Fault> {
        let one = Placement::new(1, PlacementSeeds::default());
        let buffers = KernelBuffers { joining: !self.node.no_gro, ..KernelBuffers::default() };
        let options = GroupOptions { segmentation: !self.node.no_gso, buffers, ..GroupOptions::default() };
        let group = Group::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &one, &options)
            .map_err(|error| format!("no socket: {error}"))?;
        let address = group.local_addr();
        let runtime = RuntimeOptions {
            io: self.node.io.choice(),
            cores: Some(vec![core]),
            oversubscribe: true,
            roaming: false,
        };
        let mut side = Some(Side::<C> {
            shard: Shard::new(self.shard_config(), identity, OsEntropy, Limits::default()),
            clock: self.clock,
            role,
            work: self.work,
            spin: self.node.spin,
            counts: self.counts.clone(),
            session: None,
            load: message(LOAD, self.work.message_len()),
            next: 0,
            queued: 0,
            queue_max: QUEUE_MIN,
            struck: Instant::ZERO,
            times: histogram(),
        });
        let start =
            runtime::start(group, self.clock, &runtime, |_| side.take().expect("there is one socket"));
        Ok((start?, address))
    }

    fn shard_config(&self) -> ShardConfig {
        let config = callers::config(self.node.suite.wanted());
        let large = self.node.datagram > LARGE_DATAGRAM;
        let key_limits = if large { KeyLimits::for_large_datagrams() } else { KeyLimits::default() };
        let congestion = self.node.congestion.algorithm();
        let datagram_max = self.node.datagram as usize;
        let settings = Settings { datagram_max, key_limits, congestion, ..config.settings };
        ShardConfig { settings, ..config }
    }
}

/// Who calls whom.
#[derive(Clone, Copy, Debug)]
enum Role {
    Near { id: NodeId, remote: SocketAddr },
    Far,
}

/// One side.
struct Side<C: Crypto> {
    shard: Shard<C, OsEntropy>,
    clock: Clock,
    role: Role,
    work: Work,
    spin: Waiting,
    counts: Arc<Counts>,
    session: Option<SessionId>,
    load: Vec<u8>,
    /// The next message's number, sent or expected.
    next: u64,
    /// Bytes that were pushed and are not acknowledged, and their bound.
    queued: usize,
    queue_max: usize,
    /// When the ball left.
    struck: Instant,
    times: Histogram<u64>,
}

impl<C: Crypto<Key: Send, Static: Send>> Driver for Side<C> {
    type Output = Outcome;

    async fn run<S: Socket>(mut self, socket: &mut S) -> Outcome {
        self.call();
        let mut worked_at = self.clock.instant();
        while !self.counts.is_over.load(Ordering::Relaxed) {
            let now = self.clock.now();
            let received = socket.receive(|arrival, bytes| self.shard.handle_datagram(now, arrival, bytes));
            if self.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
                self.shard.handle_timeout(now);
            }
            self.drain(now);
            self.push(now);
            let sent = self.transmit(now, socket);
            self.drain(now);
            if received > 0 || sent > 0 {
                worked_at = now.instant;
                continue;
            }
            let is_spinning = match self.spin {
                Waiting::Off => false,
                Waiting::Busy => true,
                Waiting::Adaptive => now.instant.since(worked_at) < SPIN,
            };
            if !is_spinning {
                let look = now.instant + LOOK_EVERY;
                let due = self.shard.poll_timeout().map_or(look, |(at, _)| look.min(at));
                socket.wait(Some(due)).await;
            } else {
                rustix::thread::sched_yield();
            }
        }
        (self.times, self.shard.stats().clone())
    }
}

impl<C: Crypto> Side<C> {
    fn call(&mut self) {
        let Role::Near { id, remote } = self.role else { return };
        let (ticket, instance) = (Ticket(1), InstanceId::default());
        let connect = Connect { ticket, id: Some(id), remote, early: Vec::new(), instance };
        self.shard.handle_mail(self.clock.now(), mail::From::Application, Mail::Connect(Box::new(connect)));
    }

    /// As much load as the queue takes.
    fn push(&mut self, now: Now) {
        if matches!(self.role, Role::Far) || self.work == Work::Latency {
            return;
        }
        while self.queued < self.queue_max {
            set_number(&mut self.load, self.next);
            if !self.send(now) {
                return;
            }
            self.next += 1;
        }
    }

    /// One message; false when there is no memory or no session for it.
    fn send(&mut self, now: Now) -> bool {
        let Some(session) = self.session else { return false };
        let Some(mut block) = self.shard.take_block(self.load.len()) else { return false };
        block.fill_from(&self.load);
        self.queued += charge(block.len()) as usize;
        let message = Outgoing::new(block);
        self.shard.handle_mail(now, mail::From::Application, Mail::Send { session, message });
        true
    }

    fn transmit<S: Socket>(&mut self, now: Now, socket: &mut S) -> usize {
        let mut sent = 0;
        while sent < TRAINS {
            let Some(frame) = socket.frame() else { break };
            let Some(train) = self.shard.poll_transmit(now, frame) else { break };
            socket.transmit(&train);
            sent += 1;
        }
        socket.flush();
        while socket.poll_error().is_some() {}
        sent
    }

    fn drain(&mut self, now: Now) {
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Message { session, channel, block, charge } => {
                    self.take(now, &block);
                    let mail = Mail::Consumed { session, channel, charge, block };
                    self.shard.handle_mail(now, mail::From::Application, mail);
                }
                Event::Released { released, .. } => {
                    self.queued -= charge(released.block.len()) as usize;
                    self.shard.give_block(released.block);
                }
                Event::QueueLimit { bytes, .. } => self.queue_max = bytes.max(QUEUE_MIN),
                Event::Accepted { session, .. } => self.session = Some(session),
                Event::Connected { session, .. } => {
                    self.session = Some(session);
                    self.counts.connected.store(true, Ordering::Relaxed);
                    if self.work == Work::Latency {
                        self.strike(now);
                    }
                }
                Event::Closed { .. } | Event::ConnectFailed { .. } => Counts::add(&self.counts.faults, 1),
                _ => {}
            }
        }
    }

    /// A message came: load that counts, or the ball.
    fn take(&mut self, now: Now, bytes: &[u8]) {
        let is_right = bytes.len() == self.load.len() && number(bytes) == self.next;
        if !is_right {
            Counts::add(&self.counts.faults, 1);
        }
        match (self.work, self.role) {
            (Work::Latency, Role::Far) => {
                set_number(&mut self.load, self.next);
                self.next += 1;
                self.send(now);
                return;
            }
            (Work::Latency, Role::Near { .. }) => {
                if self.counts.is_counted.load(Ordering::Acquire) {
                    let took = self.clock.instant().since(self.struck);
                    self.times.saturating_record(took.as_nanos() as u64);
                }
                self.next += 1;
                self.strike(now);
            }
            _ => self.next += 1,
        }
        Counts::add(&self.counts.messages, 1);
        Counts::add(&self.counts.bytes, bytes.len() as u64);
    }

    /// The ball leaves.
    fn strike(&mut self, now: Now) {
        set_number(&mut self.load, self.next);
        self.struck = self.clock.instant();
        if !self.send(now) {
            Counts::add(&self.counts.faults, 1);
        }
    }
}
