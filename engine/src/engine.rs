//! The engine: its cores, its sockets, its threads.
//!
//! In:    a configuration, perhaps an identity and handlers.
//! Out:   peers, events, numbers.
//! Holds: dropping the last handle stops the shards; `shutdown` lets them finish first.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunlin_codec::ids::NodeId;
use dunlin_codec::uri::{DunlinUri, Host};
use dunlin_shards::gossip::Counts as RumourCounts;
use dunlin_shards::identity::Identity;
use dunlin_shards::mail::Mail;
use dunlin_shards::placement::{Placement, PlacementSeeds};
use dunlin_shards::stats::Stats;

use crate::api::connect::{self, ConnectOptions, Connected};
use crate::api::error::{ConnectError, StartError};
use crate::api::event::Event;
use crate::api::handler::{Handler, NoHandler};
use crate::api::peer::Peer;
use crate::api::shared::{Delivery, EngineShared, ShardReport};
use crate::bell::Bell;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::driver::Driver;
use crate::entropy::OsEntropy;
use crate::keyfile::KeyFiles;
use crate::mailbox::{self, lock};
use crate::network::{Beside, Network};
use crate::recall::{Memory, Recall, RecallError};
use crate::rekey::{self, TakeKeyError};
use crate::runtime::{self, Running, RuntimeOptions};
use crate::socket::group::{Group, GroupOptions, Steering};
use crate::socket::probe::{IoChoice, IoReport};
use crate::socket::{KernelBuffers, SocketCounters};
use crate::start::{self, Circle};
use crate::store::StoreReport;

/// What an engine is started with.
pub struct EngineBuilder<H = fn() -> NoHandler> {
    config: Config,
    identity: Option<Identity>,
    reset_secret: Option<[u8; 32]>,
    handler: H,
}

impl EngineBuilder {
    /// With this configuration. Without an identity the key file that it names is used, and made when there is none.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, identity: None, reset_secret: None, handler: || NoHandler }
    }
}

impl<H> EngineBuilder<H> {
    /// With this identity, which nothing on disk knows of; its store is in memory as well.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// With a throw-away identity.
    #[must_use]
    pub fn ephemeral(self) -> Self {
        self.identity(Identity::from_seed(OsEntropy.array()))
    }

    /// With a handler per shard, made by `make` and called on the core that owns the peer.
    #[must_use]
    pub fn on_message<F, M>(self, make: M) -> EngineBuilder<M>
    where
        F: Handler,
        M: FnMut() -> F,
    {
        let Self { config, identity, reset_secret, .. } = self;
        EngineBuilder { config, identity, reset_secret, handler: make }
    }

    /// Starts the shards.
    ///
    /// # Errors
    /// Why not; nothing is left running.
    pub fn start<F>(mut self) -> Result<Engine, StartError>
    where
        F: Handler,
        H: FnMut() -> F,
    {
        self.config.check().map_err(|wrong| StartError::Config(wrong.to_string()))?;
        let keys = start::keys(&self.config, self.identity.take())?;
        let seeds = PlacementSeeds { steering: draw_u32(), keys: [draw_u64(), draw_u64()] };
        let shards = start::shard_count(&self.config)?;
        let placement = Placement::new(shards, seeds);
        let listen = self.config.node.listen;
        let buffers = KernelBuffers { joining: self.config.io.gro, ..KernelBuffers::default() };
        let io = &self.config.io;
        let options = GroupOptions { segmentation: io.gso, buffers, steering: io.steering };
        let group = Group::bind(listen, &placement, &options)
            .map_err(|source| StartError::Listen { address: listen, source: source.into() })?;
        let store = start::store(&self.config, &keys)?;
        let clock = Clock::start();
        let doorbells = group.doorbells();
        let message_len_max = self.config.transport.message_max.len();
        let mailboxes = doorbells.iter().map(|doorbell| mailbox::connect(doorbell.clone(), message_len_max));
        let (ports, mut desks): (Vec<_>, VecDeque<_>) = mailboxes.unzip();
        let local = group.local_addr();
        let shared = Arc::new(shared_by_all(&self.config, keys.identity.id(), (ports, local, placement)));
        let circle = start::circle(&self.config, &keys, (placement, local), clock)?;
        let joined = circle.as_ref().map(Circle::shared);
        let memory = store.map(|opened| Memory::start(opened, shared.clone(), clock.now().wall));
        let mut memory = memory.transpose().map_err(start_error)?;
        let steering = group.steering().clone();
        let steered = steering == Steering::Program;
        let template = start::shard_config(&self.config, &keys, (placement, steered), local);
        let mut rings = start::rings(&doorbells);
        let limits = start::limits(&self.config, shards);
        let runtime = runtime_options(&self.config);
        let key_files = keys.files.clone();
        let mut parts = start::Parts::new(template, limits, keys, clock.now());
        let spin = self.config.io.spin;
        let engine = shared.clone();
        let running = runtime::start(group, clock, &runtime, |index| {
            let desk = desks.pop_front().expect("there is a desk for each shard");
            let neighbours = rings.pop_front().expect("there are rings for each shard");
            let shard = parts.shard(index.0);
            let place = circle.as_ref().zip(joined.as_ref()).zip(memory.as_mut());
            let beside = place.map(|((circle, joined), memory)| {
                let neighbours = circle.neighbours(index.0, memory);
                Beside::new(index.0, neighbours, (joined.clone(), engine.clone()))
            });
            let driver = Driver::new(
                index.0,
                (shard, clock),
                (desk, neighbours),
                (engine.clone(), spin),
                (self.handler)(),
            );
            driver.with_neighbours(beside)
        })
        .map_err(|error| StartError::Runtime(error.to_string()))?;
        for (index, report) in running.reports().iter().enumerate() {
            tracing::info!(shard = index, "{report}");
        }
        let network = joined.map(|joined| Network::new(joined, shared.clone()));
        let (running, recall) = (Arc::new(Mutex::new(Some(running))), Arc::default());
        let engine = Engine { shared, running, steering, network, recall, key_files };
        engine.remember(memory)?;
        if let Some(network) = engine.network.as_ref().filter(|_| !self.config.network.seeds.is_empty()) {
            let begun = network.call_seeds(self.config.network.seeds);
            begun.map_err(|source| StartError::System { what: "cannot start a thread", source })?;
        }
        Ok(engine)
    }
}

fn runtime_options(config: &Config) -> RuntimeOptions {
    let io = match config.io.backend {
        config::Backend::Auto => IoChoice::Auto,
        config::Backend::Uring => IoChoice::Uring,
        config::Backend::Mmsg => IoChoice::Mmsg,
    };
    RuntimeOptions { io, cores: None, oversubscribe: config.node.allow_more_shards, roaming: !config.io.pin }
}

/// What the handles will share, before anything happened.
fn shared_by_all(
    config: &Config,
    id: NodeId,
    (ports, local, placement): (Vec<mailbox::Port<Delivery>>, SocketAddr, Placement),
) -> EngineShared {
    EngineShared {
        id: Mutex::new(id),
        rekeying: Mutex::default(),
        stats: ports.iter().map(|_| Mutex::new(ShardReport::default())).collect(),
        ports,
        local,
        placement,
        requests: Mutex::new(HashMap::new()),
        events: Mutex::new(VecDeque::new()),
        happened: Bell::default(),
        instances: Mutex::new(HashMap::new()),
        settling: Mutex::default(),
        peers: Mutex::new(HashMap::new()),
        tickets: AtomicU64::new(1),
        stopping: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
        message_len_max: config.transport.message_max.len(),
        has_network: config.network.enabled,
        process: std::process::id(),
    }
}

fn start_error(error: RecallError) -> StartError {
    match error {
        RecallError::Store(error) => StartError::Store(error),
        RecallError::Network(error) => StartError::Runtime(error.to_string()),
        RecallError::Thread(source) => StartError::System { what: "cannot start a thread", source },
    }
}

fn draw_u32() -> u32 {
    u32::from_ne_bytes(OsEntropy.array())
}

fn draw_u64() -> u64 {
    u64::from_ne_bytes(OsEntropy.array())
}

/// A running node. Clones share it. Dropping the last one closes every session with a word to its peer and may cut off what is
/// queued; [`Engine::shutdown`] waits for that.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<EngineShared>,
    running: Arc<Mutex<Option<Running<()>>>>,
    steering: Steering,
    network: Option<Network>,
    recall: Arc<Mutex<Option<Recall>>>,
    key_files: Option<KeyFiles>,
}

/// What all shards did so far, as of their last pause (at most 0.1 s ago while they are busy).
#[derive(Clone, Debug, Default)]
pub struct EngineStats {
    /// Of each shard, in order.
    pub shards: Vec<ShardStats>,
}

/// What one shard did so far.
#[derive(Clone, Debug, Default)]
pub struct ShardStats {
    /// Protocol.
    pub protocol: Stats,
    /// Socket.
    pub socket: SocketCounters,
    /// Sessions and half-open handshakes that exist.
    pub sessions: usize,
    /// Bytes of message blocks.
    pub allocated_bytes: usize,
    /// What became of words to everybody.
    pub rumours: RumourCounts,
    /// Turns of its loop.
    pub loops: u64,
}

impl EngineStats {
    /// The protocol's counters of all shards together.
    #[must_use]
    pub fn protocol(&self) -> Stats {
        let mut sum = Stats::default();
        for shard in &self.shards {
            sum.add(&shard.protocol);
        }
        sum
    }
}

impl Engine {
    /// Begins to remember the network's nodes, and calls those that were remembered.
    fn remember(&self, memory: Option<Memory>) -> Result<(), StartError> {
        if let Some((memory, network)) = memory.zip(self.network.clone()) {
            *lock(&self.recall) = Some(Recall::start(memory, network).map_err(start_error)?);
        }
        Ok(())
    }

    /// What the store did so far; none: the node is in no network, and has none.
    #[must_use]
    pub fn store_report(&self) -> Option<StoreReport> {
        lock(&self.recall).as_ref().map(Recall::report)
    }

    /// Starts a node with this configuration; its key file is made when there is none.
    ///
    /// # Errors
    /// Why not; nothing is left running.
    pub fn start(config: Config) -> Result<Self, StartError> {
        EngineBuilder::new(config).start()
    }

    /// More ways to start one.
    #[must_use]
    pub fn builder(config: Config) -> EngineBuilder {
        EngineBuilder::new(config)
    }

    /// The node's identity, which is its address. [`Engine::take_key`] changes it.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.id()
    }

    /// Goes on under the key that its file has by now, which `dunlin key rotate` put there; none: it has that already. Sessions stay,
    /// and keep the key that they were opened with. Peers are told of the change, and calls of the old key are answered for a day.
    ///
    /// # Errors
    /// Why not; the engine goes on as it was.
    pub fn take_key(&self) -> Result<Option<(NodeId, NodeId)>, TakeKeyError> {
        let files = self.key_files.as_ref().ok_or(TakeKeyError::NoFile)?;
        rekey::take_key(files, &self.shared)
    }

    /// The network that it is part of; none unless `network.enabled`.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        self.network.clone()
    }

    /// Where it listens, with the port that the kernel gave.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// The URI that others dial, for the given host (a name or an address of this machine).
    #[must_use]
    pub fn uri(&self, host: Host) -> DunlinUri {
        DunlinUri { id: Some(self.shared.id()), host, port: self.shared.local.port() }
    }

    /// Who decides which shard a datagram goes to.
    #[must_use]
    pub fn steering(&self) -> &Steering {
        &self.steering
    }

    /// The back end of each shard and why it was taken.
    #[must_use]
    pub fn io_reports(&self) -> Vec<IoReport> {
        lock(&self.running).as_ref().map(|running| running.reports().to_vec()).unwrap_or_default()
    }

    /// Opens a session and waits for it. `uri` is `dunlin://ID@host:port`, or `host:port` for whoever answers there.
    ///
    /// # Errors
    /// What was wrong; the engine goes on.
    pub fn connect(&self, uri: &str) -> Result<Peer, ConnectError> {
        let uri: DunlinUri = uri.parse().map_err(|error| ConnectError::Uri(format!("{error}")))?;
        self.connect_with(&uri, &ConnectOptions::default()).map(|connected| connected.peer)
    }

    /// The same with early data, and word of what became of it.
    ///
    /// # Errors
    /// What was wrong; the engine goes on.
    pub fn connect_with(&self, uri: &DunlinUri, options: &ConnectOptions) -> Result<Connected, ConnectError> {
        crate::bell::block_on(self.connect_async(uri, options))
    }

    /// The same for any async runtime. A host name is looked up on a thread of its own.
    ///
    /// # Errors
    /// What was wrong; the engine goes on.
    pub async fn connect_async(
        &self,
        uri: &DunlinUri,
        options: &ConnectOptions,
    ) -> Result<Connected, ConnectError> {
        let addresses = connect::resolve(uri).await?;
        let usable = connect::reachable(self.shared.local, &addresses);
        let mut result = Err(ConnectError::NoRoute { host: uri.host.to_string(), local: self.shared.local });
        for remote in usable {
            result = connect::open(&self.shared, uri.id, remote, options).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// The next thing that happened to a peer; waits for it.
    #[must_use]
    pub fn next_event(&self) -> Event {
        loop {
            if let Some(event) = self.try_event() {
                return event;
            }
            let listener = self.shared.happened.listen();
            if let Some(event) = self.try_event() {
                return event;
            }
            if self.shared.is_forked() {
                return Event::Stopped;
            }
            listener.wait();
        }
    }

    /// The next thing that happened to a peer, if it happens in time.
    #[must_use]
    pub fn event_timeout(&self, wait: Duration) -> Option<Event> {
        self.shared.happened.wait_for(wait, || self.try_event())
    }

    /// The next thing that happened to a peer, if something did.
    #[must_use]
    pub fn try_event(&self) -> Option<Event> {
        self.shared.next_event()
    }

    /// The next thing that happened to a peer, for any async runtime.
    pub async fn next_event_async(&self) -> Event {
        loop {
            let listener = self.shared.happened.listen();
            if let Some(event) = self.try_event() {
                return event;
            }
            if self.shared.is_forked() {
                return Event::Stopped;
            }
            listener.await;
        }
    }

    /// What the shards did so far.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let shards = self.shared.stats.iter().map(|report| {
            let report = lock(report).clone();
            ShardStats {
                protocol: report.stats,
                socket: report.socket,
                sessions: report.sessions,
                allocated_bytes: report.allocated_bytes,
                rumours: report.rumours,
                loops: report.loops,
            }
        });
        EngineStats { shards: shards.collect() }
    }

    /// Sends what is queued, closes every session, stops the shards. Sessions that do not get their acknowledgements in time
    /// are cut off. True: everything was acknowledged. In a forked child nothing happens: the parent's engine runs on.
    pub fn shutdown(self, wait: Duration) -> bool {
        if self.shared.is_forked() {
            return false;
        }
        for port in &self.shared.ports {
            let _ = port.post(Mail::Shutdown);
        }
        let clock = Clock::start();
        let deadline = clock.instant() + wait;
        let mut drained = false;
        while !drained && clock.instant() < deadline {
            std::thread::sleep(Duration::from_millis(2));
            drained = self.shared.stats.iter().all(|report| lock(report).drained);
        }
        self.stop();
        drained
    }

    fn stop(&self) {
        if self.shared.is_forked() {
            // The threads are the parent's, and so is their ending; joining what is not there would take for ever.
            std::mem::forget(lock(&self.running).take());
            std::mem::forget(lock(&self.recall).take());
            return;
        }
        self.shared.stopping.store(true, Ordering::SeqCst);
        for port in &self.shared.ports {
            port.ring();
        }
        if let Some(running) = lock(&self.running).take() {
            let _ = running.join();
            self.shared.on_stopped();
            if let Some(network) = &self.network {
                network.on_stopped();
            }
            // Only then: what it knows by now is kept.
            drop(lock(&self.recall).take());
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The last handle: `running` is shared by handles only.
        if Arc::strong_count(&self.running) == 1 {
            self.stop();
        }
    }
}
