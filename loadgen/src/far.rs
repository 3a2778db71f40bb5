//! The far side: takes load and checks it, echoes, and tells its numbers.
//!
//! In:    sessions.
//! Out:   a ledger for each `BEGIN` and `END`; echoes.
//! Holds: it ends when its input does, so that none is left behind.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use dunlin::config::{ByteSize, Percent, StatePath};
use dunlin::{Channel, Config, Engine, Event, Handler, Host, NodeId, Peer, Reply, SendError, Verdict};
use dunlin_codec::ids::SessionId;

use crate::Fault;
use crate::ledger::Ledger;
use crate::messages::{
    BEGIN, BEGIN_ON_CORE, ECHO, ECHO_ON_CORE, END, END_ON_CORE, LOAD, NOTHING, PACED, PACED_ON_CORE, SPRAY,
    TICK, Tally,
};
use crate::near::{HUB_IDLE, cores, pin_to};
use crate::options::{FarOptions, NodeOptions};
use crate::rally::lock;
use crate::spray::{Order, spray};

/// All nodes of this process, for their ledger; known when all have started.
type Nodes = Arc<OnceLock<Vec<Engine>>>;

/// What a hub is to do, and who wants it.
type Ordered = (NodeId, Order);

/// Questions of one node that are answered in a second: more than any asks.
const REQUESTS_MAX: usize = 1_000_000;

/// Rumours of one origin or link in a second: more than any core verifies.
const RUMOURS_MAX: usize = 10_000_000;

/// Bytes of one writer's values: more than a shard keeps in all.
const VALUES_MAX: ByteSize = ByteSize(1 << 40);

/// How long nodes of the far side may take to know each other.
const ACQUAINTANCE: Duration = Duration::from_secs(10);

/// How often a hub looks for orders.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn run(node: &NodeOptions, options: &FarOptions) -> Result<(), Fault> {
    pin_to(&cores(node)?.far)?;
    if options.nodes == 0 {
        return Err("--nodes 0 leaves nobody to answer".into());
    }
    let nodes = Nodes::default();
    let mut engines = Vec::new();
    let (orders, ordered) = channel();
    let orders = options.hub.then_some(orders);
    for _ in 0..options.nodes {
        let listen =
            if engines.is_empty() { options.listen } else { SocketAddr::new(options.listen.ip(), 0) };
        let wall = Wall { nodes: nodes.clone(), orders: orders.clone() };
        let mut config = node.config(listen, node.shards.max(1));
        config.network.enabled = options.dht;
        if options.dht && !options.limited {
            lift_limits(&mut config);
        }
        if options.hub && engines.is_empty() {
            config.limits.sessions_max = SessionId::SLOTS_MAX;
            config.transport.idle_timeout = HUB_IDLE;
        }
        let state = options.state.as_deref().filter(|_| engines.is_empty());
        let builder = match state {
            Some(folder) => Engine::builder(kept_in(folder, config)),
            None => Engine::builder(config).ephemeral(),
        };
        engines.push(builder.on_message(move || wall.clone()).start()?);
    }
    let engines = nodes.get_or_init(|| engines);
    acquaint(engines, options)?;
    print_uris(engines, options.listen)?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    if options.hub {
        drop(orders);
        hub(&engines[0], &ordered);
        return Ok(());
    }
    let workers = Workers { nodes: nodes.clone(), idle: Arc::default() };
    for engine in engines.iter().skip(1) {
        let (engine, workers, is_lean) = (engine.clone(), workers.clone(), options.lean);
        std::thread::spawn(move || welcome(&engine, &workers, is_lean));
    }
    welcome(&engines[0], &workers, options.lean);
    Ok(())
}

/// As many questions, values and rumours as come.
fn lift_limits(config: &mut Config) {
    config.network.requests_max = REQUESTS_MAX;
    config.network.rumours_origin_max = RUMOURS_MAX;
    config.network.rumours_link_max = RUMOURS_MAX;
    config.limits.rumour_cpu_max = Percent(100);
    config.limits.values_writer_max = VALUES_MAX;
    config.limits.values_writer_count_max = usize::MAX;
}

/// With its key and its values on disk.
fn kept_in(folder: &Path, mut config: Config) -> Config {
    config.node.key = StatePath::from(folder.join("key"));
    config.store.path = StatePath::from(folder.join("store"));
    config
}

/// Nodes of a network come to know the first, and it them.
fn acquaint(engines: &[Engine], options: &FarOptions) -> Result<(), Fault> {
    let Some((first, others)) = engines.split_first().filter(|_| options.dht) else { return Ok(()) };
    let uri = first.uri(host_of(options.listen)).to_string();
    for network in others.iter().filter_map(Engine::network) {
        network.join(&uri).map_err(|error| format!("the far side's nodes do not come together: {error}"))?;
    }
    let known = || first.network().map_or(0, |network| network.table().len());
    let start = Instant::now();
    while known() < others.len() && start.elapsed() < ACQUAINTANCE {
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn host_of(listen: SocketAddr) -> Host {
    match listen {
        SocketAddr::V4(address) => Host::V4(*address.ip()),
        SocketAddr::V6(address) => Host::V6(*address.ip()),
    }
}

fn print_uris(engines: &[Engine], listen: SocketAddr) -> Result<(), Fault> {
    let host = host_of(listen);
    let mut output = std::io::stdout();
    for engine in engines {
        writeln!(output, "{}", engine.uri(host.clone()))?;
    }
    Ok(output.flush()?)
}

/// Every session of a node gets a thread, unless handlers do all the work.
fn welcome(engine: &Engine, workers: &Workers, is_lean: bool) {
    loop {
        match engine.next_event() {
            Event::Accepted(peer) if !is_lean => workers.serve(peer),
            Event::Stopped => return,
            _ => {}
        }
    }
}

/// Sessions are kept, and sent to on command.
fn hub(engine: &Engine, ordered: &Receiver<Ordered>) {
    let mut peers: Vec<Peer> = Vec::new();
    loop {
        let first = engine.event_timeout(LOOK_EVERY);
        for event in first.into_iter().chain(std::iter::from_fn(|| engine.try_event())) {
            match event {
                Event::Accepted(peer) => peers.push(peer),
                Event::Stopped => return,
                _ => {}
            }
        }
        let Ok((id, order)) = ordered.try_recv() else { continue };
        peers.retain(|peer| !peer.is_closed());
        // Whoever orders is told, and nothing else.
        let (callers, others): (Vec<Peer>, Vec<Peer>) =
            peers.iter().cloned().partition(|peer| peer.id() == id);
        let sprayed = spray(&others, &order);
        for caller in callers {
            let _ = caller.send(&serde_json::to_vec(&sprayed).expect("numbers can always be written"));
        }
    }
}

/// Threads that serve sessions, those without one waiting for the next.
#[derive(Clone)]
struct Workers {
    nodes: Nodes,
    idle: Arc<Mutex<Vec<Sender<Peer>>>>,
}

impl Workers {
    fn serve(&self, peer: Peer) {
        let waiting = lock(&self.idle).pop();
        let given = match waiting {
            Some(worker) => worker.send(peer).map_err(|unsent| unsent.0),
            None => Err(peer),
        };
        let Err(peer) = given else { return };
        let workers = self.clone();
        std::thread::spawn(move || workers.work(peer));
    }

    fn work(&self, first: Peer) {
        let (sender, sessions) = channel();
        let mut peer = Ok(first);
        while let Ok(current) = peer {
            if let Err(error) = serve(&self.nodes, &current) {
                eprintln!("dunlin-loadgen far: {error}");
            }
            lock(&self.idle).push(sender.clone());
            peer = sessions.recv();
        }
    }
}

/// Until the session ends.
fn serve(nodes: &Nodes, peer: &Peer) -> Result<(), SendError> {
    let mut tally = Tally::default();
    let mut began = Instant::now();
    while let Ok(message) = peer.recv() {
        match message.first().copied().unwrap_or(NOTHING) {
            LOAD => tally.add(&message),
            ECHO | PACED => peer.send(&message)?,
            kind @ (BEGIN | END | TICK) => {
                if kind == BEGIN {
                    tally = Tally::default();
                    began = Instant::now();
                }
                let elapsed = began.elapsed();
                let ledger = match nodes.get() {
                    Some(nodes) if kind != TICK => Ledger::now(nodes, tally, elapsed),
                    _ => Ledger { tally, elapsed_ns: elapsed.as_nanos() as u64, ..Ledger::default() },
                };
                peer.send(&written(&ledger))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn written(ledger: &Ledger) -> Vec<u8> {
    serde_json::to_vec(ledger).expect("numbers can always be written")
}

/// Answers on the core.
#[derive(Clone)]
struct Wall {
    nodes: Nodes,
    /// A hub's, which are done by a thread of its own.
    orders: Option<Sender<Ordered>>,
}

impl Handler for Wall {
    fn on_message(&mut self, _channel: Channel, bytes: &[u8], reply: &mut Reply<'_>) -> Verdict {
        match (bytes.first().copied(), &self.orders) {
            (Some(SPRAY), Some(orders)) => {
                if let Some(order) = Order::read(bytes) {
                    let _ = orders.send((reply.peer(), order));
                }
                return Verdict::Handled;
            }
            // Nobody takes what a hub's peers say.
            (Some(LOAD | ECHO | PACED | BEGIN | END | TICK), Some(_)) => return Verdict::Handled,
            _ => {}
        }
        match bytes.first().copied() {
            Some(ECHO_ON_CORE | PACED_ON_CORE) => drop(reply.send(bytes)),
            Some(NOTHING) => {}
            Some(BEGIN_ON_CORE | END_ON_CORE) => {
                let nodes = self.nodes.get().map(Vec::as_slice).unwrap_or_default();
                reply.send(&written(&Ledger::now(nodes, Tally::default(), Duration::ZERO)));
            }
            _ => return Verdict::Pass,
        }
        Verdict::Handled
    }
}
