//! Many identities that call one node, all on one thread: a node keeps one session with each, so that one engine's calls
//! would replace each other.
//!
//! In:    whom to call, how many callers.
//! Out:   a count per session.
//! Holds: each caller is a shard with a socket of its own, and has one call under way at a time.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dunlin::clock::Clock;
use dunlin::entropy::OsEntropy;
use dunlin::{DunlinUri, Host};
use dunlin_codec::ids::{InstanceId, NodeId};
use dunlin_codec::suite::Suite;
use dunlin_shards::arq::congestion::Algorithm;
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::{Limits, REHANDSHAKE_AFTER};
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

use super::any_port;
use crate::Fault;
use crate::gauge::Gauge;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longer than any run.
const IDLE: Duration = Duration::from_secs(600);
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
/// Calls under way at a time while idle sessions are opened.
const OPENING: usize = 32;

/// Sessions opened and closed at once, so many at a time.
pub(super) fn shake(uri: &DunlinUri, parallel: usize, gauge: &Gauge) -> Result<(), Fault> {
    let mut callers = Callers::new(uri)?;
    for _ in 0..parallel {
        callers.add()?;
    }
    gauge.ready("");
    loop {
        callers.turn(gauge, |callers, at| callers.end_and_call(at))?;
    }
}

/// Sessions that stay.
pub(super) fn stay(uri: &DunlinUri, connections: usize, gauge: &Gauge) -> Result<(), Fault> {
    let mut callers = Callers::new(uri)?;
    for _ in 0..connections.min(OPENING) {
        callers.add()?;
    }
    gauge.ready("");
    loop {
        callers.turn(gauge, |callers, _| match callers.all.len() < connections {
            true => callers.add(),
            false => Ok(()),
        })?;
    }
}

/// All callers, and whom they call.
struct Callers {
    id: Option<NodeId>,
    remote: SocketAddr,
    all: Vec<Caller>,
    poller: OwnedFd,
    clock: Clock,
    frame: Vec<u8>,
    swept: Instant,
}

/// One identity.
struct Caller {
    shard: Shard<AwsLc, OsEntropy>,
    socket: UdpSocket,
    calls: u64,
    session: Option<dunlin_codec::ids::SessionId>,
}

impl Callers {
    fn new(uri: &DunlinUri) -> Result<Self, Fault> {
        let Host::V4(address) = uri.host else { return Err("the server is not on IPv4".into()) };
        Ok(Self {
            id: uri.id,
            remote: SocketAddr::from((address, uri.port)),
            all: Vec::new(),
            poller: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clock: Clock::start(),
            frame: vec![0; FRAME_LEN],
            swept: Instant::now(),
        })
    }

    /// One more, which calls at once.
    fn add(&mut self) -> Result<(), Fault> {
        let socket = UdpSocket::bind(any_port())?;
        socket.set_nonblocking(true)?;
        let at = self.all.len();
        epoll::add(&self.poller, &socket, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)?;
        let identity = Identity::from_seed(OsEntropy.array());
        // A caller has one session, and few that linger.
        let limits = Limits { half_open: 1, memory: POOL, strikes: 16, identities: 16, ..Limits::small() };
        let shard = Shard::new(config(), identity, OsEntropy, limits);
        self.all.push(Caller { shard, socket, calls: 0, session: None });
        self.call(at);
        self.all[at].transmit(&self.clock, &mut self.frame)
    }

    fn call(&mut self, at: usize) {
        let caller = &mut self.all[at];
        caller.calls += 1;
        let (ticket, instance) = (Ticket(caller.calls), InstanceId::default());
        let connect = Connect { ticket, id: self.id, remote: self.remote, early: Vec::new(), instance };
        let mail = Mail::Connect(Box::new(connect));
        caller.shard.handle_mail(self.clock.now(), mail::From::Application, mail);
    }

    fn end_and_call(&mut self, at: usize) -> Result<(), Fault> {
        let caller = &mut self.all[at];
        if let Some(session) = caller.session.take() {
            let close = Mail::Close { session, code: 0 };
            caller.shard.handle_mail(self.clock.now(), mail::From::Application, close);
        }
        self.call(at);
        self.all[at].transmit(&self.clock, &mut self.frame)
    }

    /// Waits for what comes, and takes it; `connected` is told of each caller whose call has succeeded.
    fn turn(
        &mut self,
        gauge: &Gauge,
        mut connected: impl FnMut(&mut Self, usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let wait = Timespec { tv_sec: 0, tv_nsec: SWEEP_EVERY.as_nanos() as i64 };
        let mut ready = Vec::with_capacity(READY_MAX);
        match epoll::wait(&self.poller, rustix::buffer::spare_capacity(&mut ready), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut turned: Vec<usize> = ready.iter().map(|event| event.data.u64() as usize).collect();
        if self.swept.elapsed() >= SWEEP_EVERY {
            self.swept = Instant::now();
            turned = (0..self.all.len()).collect();
        }
        for at in turned {
            if self.all[at].turn(&self.clock, &mut self.frame)? {
                gauge.connected();
                connected(self, at)?;
            }
        }
        Ok(())
    }
}

impl Caller {
    /// What came, what is due, what goes out. True: the call has succeeded.
    fn turn(&mut self, clock: &Clock, frame: &mut [u8]) -> Result<bool, Fault> {
        self.receive(clock, frame)?;
        let now = clock.now();
        if self.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.shard.handle_timeout(now);
        }
        let mut has_succeeded = false;
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Connected { session, .. } => {
                    self.session = Some(session);
                    has_succeeded = true;
                }
                Event::ConnectFailed { reason, .. } => return Err(format!("a call failed: {reason}").into()),
                _ => {}
            }
        }
        self.transmit(clock, frame)?;
        Ok(has_succeeded)
    }

    fn receive(&mut self, clock: &Clock, frame: &mut [u8]) -> Result<(), Fault> {
        loop {
            match self.socket.recv_from(frame) {
                Ok((len, remote)) => {
                    let socket = SocketIndex::default();
                    let segment_len = len.max(1);
                    let arrival = Arrival { local: None, remote, socket, ecn: Ecn::NotEct, segment_len };
                    self.shard.handle_datagram(clock.now(), &arrival, &mut frame[..len]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn transmit(&mut self, clock: &Clock, frame: &mut [u8]) -> Result<(), Fault> {
        while let Some(train) = self.shard.poll_transmit(clock.now(), frame) {
            for datagram in frame[..train.len].chunks(train.segment_len.max(1)) {
                match self.socket.send_to(datagram, train.remote) {
                    // What the kernel would not take is lost, and sent again in time.
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn config() -> ShardConfig {
    ShardConfig {
        index: 0,
        placement: Placement::new(1, PlacementSeeds::default()),
        steered: true,
        network: Sha256::digest(NETWORK.as_bytes()).into(),
        suite: Suite::AesGcm,
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
            idle_timeout: IDLE,
            keepalive: None,
            renew_after: REHANDSHAKE_AFTER,
            key_limits: KeyLimits::default(),
            congestion: Algorithm::default(),
        },
    }
}
