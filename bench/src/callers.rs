//! Many identities that call one node, all on one thread: what handshakes cost when nobody sleeps, and sessions that stay.
//!
//! In:    where to call, how many callers, who calls when.
//! Out:   how long each call took, what became of early data.
//! Holds: each caller is a node of its own: an identity, a shard, a socket; it has one call under way at a time.
//!
//! An engine has one identity, and a node keeps one session with each: a single engine's calls would replace each other.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dunlin::clock::Clock;
use dunlin::entropy::OsEntropy;
use dunlin::{CloseReason, EarlyData};
use dunlin_codec::ids::{InstanceId, NodeId, SessionId};
use dunlin_codec::suite::Suite;
use dunlin_shards::arq::congestion::Algorithm;
use dunlin_shards::arq::sender::Outgoing;
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
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use sha2::{Digest, Sha256};

/// How long a call may take.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// How often callers look at their timers: handshakes are sent again after 250 ms at first.
pub const SWEEP_EVERY: Duration = Duration::from_millis(10);
/// Sockets told of by one system call.
const READY_MAX: usize = 256;
/// The network's name, as engines have it by default.
const NETWORK: &str = "dunlin";
/// The datagrams of calls.
const DATAGRAM_LEN: usize = 1_200;
/// Sessions of one caller at most, lingering ones among them.
const SESSIONS_MAX: usize = 8_192;
/// Memory of a caller for messages.
const POOL: usize = 1 << 20;

/// Whom to call and how.
#[derive(Clone, Debug)]
pub struct Calls {
    /// Nobody in particular: then the far side asks for a cookie.
    pub id: Option<NodeId>,
    /// Where it is.
    pub remote: SocketAddr,
    /// A message for the first datagram.
    pub early: Option<Vec<u8>>,
    /// The cipher that is asked for.
    pub suite: Suite,
    /// Sessions stay, and for so long; else each is closed as soon as it is there.
    pub stay: Option<Duration>,
}

/// What a call came to.
#[derive(Clone, Debug)]
pub enum Called {
    /// There is a session, or there was: it may be closed already.
    Connected {
        /// From the call to the session.
        took: Duration,
        /// What became of the message in the first datagram.
        early: EarlyData,
    },
    /// There is none.
    Failed(CloseReason),
}

/// All callers.
pub struct Callers {
    calls: Calls,
    all: Vec<Caller>,
    poller: OwnedFd,
    clock: Clock,
    frame: Vec<u8>,
    swept: Instant,
    ready: Vec<epoll::Event>,
}

impl Callers {
    /// Nobody yet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(calls: Calls) -> io::Result<Self> {
        Ok(Self {
            calls,
            all: Vec::new(),
            poller: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clock: Clock::start(),
            frame: vec![0; FRAME_LEN],
            swept: Instant::now(),
            ready: Vec::with_capacity(READY_MAX),
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One more, who calls nobody yet: its number.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add(&mut self) -> io::Result<usize> {
        let (at, caller) = (self.all.len(), Caller::new(&self.calls)?);
        let token = epoll::EventData::new_u64(at as u64);
        epoll::add(&self.poller, &caller.socket, token, epoll::EventFlags::IN)?;
        self.all.push(caller);
        Ok(at)
    }

    /// A caller whose last call is done calls again.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn call(&mut self, at: usize) -> io::Result<()> {
        let caller = &mut self.all[at];
        caller.call(&self.clock, &self.calls);
        caller.transmit(&self.clock, &mut self.frame)
    }

    /// Waits a moment for what comes, and takes it: who has done its call, and what it came to. True: everybody was looked at.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn turn(&mut self, done: &mut Vec<(usize, Called)>) -> io::Result<bool> {
        let wait = Timespec { tv_sec: 0, tv_nsec: SWEEP_EVERY.as_nanos() as i64 };
        self.ready.clear();
        match epoll::wait(&self.poller, rustix::buffer::spare_capacity(&mut self.ready), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_sweep = self.swept.elapsed() >= SWEEP_EVERY;
        if is_sweep {
            self.swept = Instant::now();
            for (at, caller) in self.all.iter_mut().enumerate() {
                let called = caller.turn((&self.clock, &self.calls), &mut self.frame)?;
                done.extend(called.map(|called| (at, called)));
            }
        } else {
            for event in &self.ready {
                let at = event.data.u64() as usize;
                let called = self.all[at].turn((&self.clock, &self.calls), &mut self.frame)?;
                done.extend(called.map(|called| (at, called)));
            }
        }
        Ok(is_sweep)
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
    fn new(calls: &Calls) -> io::Result<Self> {
        let any = match calls.remote {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
            SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        let identity = Identity::from_seed(OsEntropy.array());
        // A caller has one session, and each that it closed lingers for 3 s: one that calls again at once has hundreds.
        let limits = Limits {
            sessions: SESSIONS_MAX,
            half_open: 1,
            memory: POOL,
            strikes: 16,
            identities: 16,
            ..Limits::small()
        };
        let config = config(calls.suite);
        let idle_timeout = calls.stay.unwrap_or(config.settings.idle_timeout);
        let config = ShardConfig { settings: Settings { idle_timeout, ..config.settings }, ..config };
        Ok(Self {
            shard: Shard::new(config, identity, OsEntropy, limits),
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
            Some(Outgoing { idempotent: true, ..Outgoing::new(block) })
        });
        let connect = Connect {
            ticket: Ticket(self.calls),
            id: calls.id,
            remote: calls.remote,
            early: early.into_iter().collect(),
            instance: self.instance,
        };
        self.post(clock, Mail::Connect(Box::new(connect)));
    }

    fn post(&mut self, clock: &Clock, mail: Mail) {
        self.shard.handle_mail(clock.now(), mail::From::Application, mail);
    }

    /// What came, what is due, what goes out; what the call came to, if it is done.
    fn turn(&mut self, (clock, calls): (&Clock, &Calls), frame: &mut [u8]) -> io::Result<Option<Called>> {
        self.receive(clock, frame)?;
        let now = clock.now();
        if self.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.shard.handle_timeout(now);
        }
        let called = self.drain(clock, calls.stay.is_none());
        self.transmit(clock, frame)?;
        Ok(called)
    }

    fn receive(&mut self, clock: &Clock, frame: &mut [u8]) -> io::Result<()> {
        loop {
            match self.socket.recv_from(frame) {
                Ok((len, remote)) => {
                    let (socket, segment_len) = (SocketIndex::default(), len.max(1));
                    let arrival = Arrival { local: None, remote, socket, ecn: Ecn::NotEct, segment_len };
                    self.shard.handle_datagram(clock.now(), &arrival, &mut frame[..len]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Told of a datagram that found nobody: the deadline says the rest.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn drain(&mut self, clock: &Clock, is_closing: bool) -> Option<Called> {
        let mut called = None;
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Connected { session, instance, early, .. } => {
                    called = Some(Called::Connected { took: self.began.elapsed(), early });
                    self.instance = instance;
                    if is_closing {
                        self.close(clock, session);
                    }
                }
                Event::ConnectFailed { reason, .. } => called = Some(Called::Failed(reason)),
                Event::Released { released, .. } => self.pool.give(released.block),
                Event::Message { session, channel, block, charge } => {
                    self.post(clock, Mail::Consumed { session, channel, charge, block });
                }
                _ => {}
            }
        }
        called
    }

    fn close(&mut self, clock: &Clock, session: SessionId) {
        self.post(clock, Mail::Close { session, code: 0 });
    }

    fn transmit(&mut self, clock: &Clock, frame: &mut [u8]) -> io::Result<()> {
        while let Some(train) = self.shard.poll_transmit(clock.now(), frame) {
            for datagram in frame[..train.len].chunks(train.segment_len.max(1)) {
                match self.socket.send_to(datagram, train.remote) {
                    // What the kernel would not take is lost, and sent again in time.
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// The network that engines are of by default.
#[must_use]
pub fn network() -> [u8; 32] {
    Sha256::digest(NETWORK.as_bytes()).into()
}

/// A node of one shard, with everything as engines have it by default.
#[must_use]
pub fn config(suite: Suite) -> ShardConfig {
    ShardConfig {
        index: 0,
        placement: Placement::new(1, PlacementSeeds::default()),
        steered: true,
        network: network(),
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
