//! Many identities that call one node at once, all on one thread: what handshakes cost when nobody sleeps.
//!
//! In:    where to call, how many callers, how many calls.
//! Out:   how long each call took, what became of early data.
//! Holds: each caller is a node of its own: an identity, a shard, a socket; it has one call under way at a time.
//!
//! An engine has one identity, and a node keeps one session with each: a single engine's calls would replace each other.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dunlin::clock::Clock;
use dunlin::entropy::OsEntropy;
use dunlin::{CloseReason, EarlyData};
use dunlin_codec::ids::{ChannelId, InstanceId, NodeId};
use dunlin_codec::suite::Suite;
use dunlin_shards::arq::congestion::Algorithm;
use dunlin_shards::arq::sender::{Outgoing, PRIORITY_DEFAULT};
use dunlin_shards::blocks::BlockPool;
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::{IDLE_TIMEOUT, Limits, REHANDSHAKE_AFTER};
use dunlin_shards::mail::{self, Connect, Mail};
use dunlin_shards::placement::{Placement, PlacementSeeds};
use dunlin_shards::route::{Arrival, Ecn, FRAME_LEN, SocketIndex};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::keys::KeyLimits;
use dunlin_shards::session::live::Settings;
use dunlin_shards::shard::{Shard, ShardConfig};
use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use sha2::{Digest, Sha256};

use crate::Fault;
use crate::interrupt;
use crate::live::Live;
use crate::recorder::histogram;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(5);

const _: () = assert!(DEADLINE.as_secs() < PATIENCE.as_secs());

/// No call came through for so long: nobody is there any more, and thousands would each wait for their deadline.
const PATIENCE: Duration = Duration::from_secs(6);
/// How often callers look at their timers: handshakes are sent again after 250 ms at first.
const SWEEP_EVERY: Duration = Duration::from_millis(10);
/// Sockets told of by one system call.
const READY_MAX: usize = 256;
/// The network's name, as engines have it by default.
const NETWORK: &str = "dunlin";
/// The datagrams of calls.
const DATAGRAM_LEN: usize = 1_200;
/// Memory of a caller for messages.
const POOL: usize = 1 << 20;

/// Whom to call and how.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    /// Nobody in particular: then the far side asks for a cookie.
    pub(crate) id: Option<NodeId>,
    pub(crate) remote: SocketAddr,
    /// A message for the first datagram.
    pub(crate) early: Option<Vec<u8>>,
    pub(crate) suite: Suite,
}

/// What the calls came to.
#[derive(Debug)]
pub(crate) struct Called {
    /// From the call to the session, in nanoseconds.
    pub(crate) times: Histogram<u64>,
    pub(crate) early_accepted: u64,
    pub(crate) failed: u64,
    /// The first failure's reason.
    pub(crate) why: Option<CloseReason>,
}

/// All callers.
pub(crate) struct Callers {
    calls: Calls,
    callers: Vec<Caller>,
    poller: OwnedFd,
    clock: Clock,
    frame: Vec<u8>,
}

impl Callers {
    /// So many identities, each with a socket.
    pub(crate) fn new(calls: Calls, count: usize) -> Result<Self, Fault> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut callers = Vec::with_capacity(count);
        for at in 0..count {
            let caller = Caller::new(&calls)?;
            let token = epoll::EventData::new_u64(at as u64);
            epoll::add(&poller, &caller.socket, token, epoll::EventFlags::IN)?;
            callers.push(caller);
        }
        Ok(Self { calls, callers, poller, clock: Clock::start(), frame: vec![0; FRAME_LEN] })
    }

    /// So many calls in all, by all callers side by side.
    pub(crate) fn run(&mut self, count: u64, live: &Live) -> Result<Called, Fault> {
        let mut called = Called { times: histogram(), early_accepted: 0, failed: 0, why: None };
        let mut left = count;
        for caller in &mut self.callers {
            if left > 0 {
                left -= 1;
                caller.call(&self.clock, &self.calls);
            }
        }
        let mut ready = Vec::with_capacity(READY_MAX);
        let mut swept = Instant::now();
        let (mut known, mut moved) = (0, swept);
        self.turn_all(&mut called, &mut left)?;
        while called.times.len() + called.failed < count && !interrupt::is_asked() {
            let wait = Timespec { tv_sec: 0, tv_nsec: SWEEP_EVERY.as_nanos() as i64 };
            ready.clear();
            match epoll::wait(&self.poller, rustix::buffer::spare_capacity(&mut ready), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &ready {
                let at = event.data.u64() as usize;
                self.turn(at, &mut called, &mut left)?;
            }
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                self.turn_all(&mut called, &mut left)?;
                live.sent.store(count - left, Ordering::Relaxed);
                live.arrived.store(called.times.len(), Ordering::Relaxed);
                if called.times.len() > known {
                    (known, moved) = (called.times.len(), swept);
                } else if called.failed > 0 && moved.elapsed() > PATIENCE {
                    break;
                }
            }
        }
        Ok(called)
    }

    fn turn_all(&mut self, called: &mut Called, left: &mut u64) -> Result<(), Fault> {
        (0..self.callers.len()).try_for_each(|at| self.turn(at, called, left))
    }

    /// One caller: what came, what is due, what goes out; the next call when one is done.
    fn turn(&mut self, at: usize, called: &mut Called, left: &mut u64) -> Result<(), Fault> {
        let caller = &mut self.callers[at];
        caller.receive(&self.clock, &mut self.frame)?;
        if caller.drain(&self.clock, called) && *left > 0 {
            *left -= 1;
            caller.call(&self.clock, &self.calls);
        }
        caller.transmit(&self.clock, &mut self.frame)
    }
}

/// One identity.
struct Caller {
    shard: Shard<AwsLc, OsEntropy>,
    socket: UdpSocket,
    pool: BlockPool,
    /// Remembered for early data.
    instance: InstanceId,
    began: Instant,
    calls: u64,
}

impl Caller {
    fn new(calls: &Calls) -> Result<Self, Fault> {
        let any = match calls.remote {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
            SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
        };
        let socket =
            UdpSocket::bind(any).map_err(|error| format!("no socket for another caller: {error}"))?;
        socket.set_nonblocking(true)?;
        let identity = Identity::from_seed(OsEntropy.array());
        // A caller has one session, and few that linger.
        let limits = Limits { half_open: 1, memory: POOL, strikes: 16, identities: 16, ..Limits::small() };
        Ok(Self {
            shard: Shard::new(config(calls.suite), identity, OsEntropy, limits),
            socket,
            pool: BlockPool::new(POOL, DATAGRAM_LEN),
            instance: InstanceId::default(),
            began: Instant::now(),
            calls: 0,
        })
    }

    fn call(&mut self, clock: &Clock, calls: &Calls) {
        self.calls += 1;
        self.began = Instant::now();
        let early = calls.early.as_ref().and_then(|bytes| {
            let mut block = self.pool.take(bytes.len())?;
            block.fill_from(bytes);
            Some(Outgoing {
                ticket: 0,
                block,
                channel: ChannelId::APPLICATION,
                ordered: true,
                reliable: true,
                priority: PRIORITY_DEFAULT,
                once: false,
                idempotent: true,
            })
        });
        let connect = Connect {
            ticket: Ticket(self.calls),
            id: calls.id,
            remote: calls.remote,
            early: early.into_iter().collect(),
            instance: self.instance,
        };
        self.shard.handle_mail(clock.now(), mail::From::Application, Mail::Connect(Box::new(connect)));
    }

    fn receive(&mut self, clock: &Clock, frame: &mut [u8]) -> Result<(), Fault> {
        loop {
            match self.socket.recv_from(frame) {
                Ok((len, remote)) => {
                    let arrival = Arrival {
                        local: None,
                        remote,
                        socket: SocketIndex::default(),
                        ecn: Ecn::NotEct,
                        segment_len: len.max(1),
                    };
                    self.shard.handle_datagram(clock.now(), &arrival, &mut frame[..len]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Told of a datagram that found nobody: the deadline says the rest.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error.into()),
            }
        }
        let now = clock.now();
        if self.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.shard.handle_timeout(now);
        }
        Ok(())
    }

    /// True: the call is done, well or not.
    fn drain(&mut self, clock: &Clock, called: &mut Called) -> bool {
        let mut is_done = false;
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Connected { session, instance, early, .. } => {
                    called.times.saturating_record(self.began.elapsed().as_nanos() as u64);
                    called.early_accepted += u64::from(early == EarlyData::Accepted);
                    self.instance = instance;
                    is_done = true;
                    let close = Mail::Close { session, code: 0 };
                    self.shard.handle_mail(clock.now(), mail::From::Application, close);
                }
                Event::ConnectFailed { reason, .. } => {
                    called.failed += 1;
                    called.why.get_or_insert(reason);
                    is_done = true;
                }
                Event::Released { released, .. } => self.pool.give(released.block),
                Event::Message { session, channel, block, charge } => {
                    let mail = Mail::Consumed { session, channel, charge, block };
                    self.shard.handle_mail(clock.now(), mail::From::Application, mail);
                }
                _ => {}
            }
        }
        is_done
    }

    fn transmit(&mut self, clock: &Clock, frame: &mut [u8]) -> Result<(), Fault> {
        while let Some(train) = self.shard.poll_transmit(clock.now(), frame) {
            for datagram in frame[..train.len].chunks(train.segment_len.max(1)) {
                match self.socket.send_to(datagram, train.remote) {
                    // What the kernel would not take is lost, and sent again in time.
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// A caller's node, with everything as engines have it by default.
pub(crate) fn config(suite: Suite) -> ShardConfig {
    ShardConfig {
        index: 0,
        placement: Placement::new(1, PlacementSeeds::default()),
        steered: true,
        network: Sha256::digest(NETWORK.as_bytes()).into(),
        suite,
        instance: InstanceId(OsEntropy.array()),
        cookie_root: OsEntropy.array(),
        reset_secret: OsEntropy.array(),
        zero_rtt: true,
        shared_identity: false,
        fresh_identity: true,
        own_addresses: Vec::new(),
        trusted: Vec::new(),
        handshake_deadline: DEADLINE,
        settings: Settings {
            datagram_max: DATAGRAM_LEN,
            idle_timeout: IDLE_TIMEOUT,
            keepalive: None,
            renew_after: REHANDSHAKE_AFTER,
            key_limits: KeyLimits::default(),
            congestion: Algorithm::Cubic,
        },
    }
}
