//! A network of production shards in virtual time, from one seed.
//!
//! In:    a seed; nodes, links, what applications do and what befalls them (`story.rs`).
//! Out:   what arrived, what was counted; a panic, with the last lines of the trace, when something broke.
//! Holds: the same seed gives the same trace hash on every machine. Everything is drained after each instant, and the
//!        checks of `checks.rs` are made then.

mod checks;
mod keys;
mod memory;
mod neighbours;
mod roll;
mod rumours;
mod run;
mod story;
mod values;
mod weather;
mod wire;

use core::cmp::Ordering;
use core::fmt::Write as _;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use dunlin_codec::ids::NodeId;
use dunlin_codec::message::SignedMessageId;
use dunlin_shards::mail::Mail;
use dunlin_shards::rng::Rng;
use dunlin_shards::route::{Arrival, FRAME_LEN};
use dunlin_shards::session::counting::{self, Counting};
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::stats::Stats;
use dunlin_shards::time::nanos_of;

use crate::epochs::Epochs;
use crate::ledger::Ledger;
use crate::link::{Carried, Cause, Conditions, Link};
use crate::nat::Nat;
use crate::node::{Node, NodeSettings};
use crate::place::NodeIndex;
use crate::tap::Tap;
use crate::trace::{Line, Trace, What};

pub use checks::{Coverage, EVENT_NAMES, name_of, name_of_cause};
pub use rumours::Heard;
pub use weather::{Scope, Trouble};
pub use wire::Overheard;

/// What frames and buffers are filled with before and after use: it must never be seen.
const POISON: u8 = 0xDB;

/// Events of each node that a world shows when it breaks.
const EVENTS_SHOWN: usize = 8;

/// A world with stand-in cryptography that counts.
pub type World = WorldOf<Counting>;

/// A train on its way.
pub(crate) struct Flight {
    pub(crate) from: Option<NodeIndex>,
    pub(crate) to: SocketAddr,
    pub(crate) arrival: Arrival,
    pub(crate) bytes: Vec<u8>,
    /// When it left; unknown for what no node sent.
    pub(crate) sent_at: Option<u64>,
}

/// A story's own step.
type Script<C> = Box<dyn FnOnce(&mut WorldOf<C>)>;

/// Something that will happen.
pub(crate) enum Next<C: Crypto> {
    Arrive(Box<Flight>),
    Letter { node: NodeIndex, start: u32, from: u8, to: u8, mail: Box<Mail> },
    Timer { node: NodeIndex, start: u32, shard: u8 },
    Application { node: NodeIndex },
    Disk { node: NodeIndex, start: u32 },
    Look { node: NodeIndex, start: u32 },
    Script(Script<C>),
}

impl<C: Crypto> Next<C> {
    /// Something is on its way.
    const fn is_lively(&self) -> bool {
        !matches!(self, Self::Timer { .. } | Self::Look { .. } | Self::Script(_))
    }
}

struct Scheduled<C: Crypto> {
    at: u64,
    order: u64,
    next: Next<C>,
}

impl<C: Crypto> PartialEq for Scheduled<C> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<C: Crypto> Eq for Scheduled<C> {}

impl<C: Crypto> PartialOrd for Scheduled<C> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<C: Crypto> Ord for Scheduled<C> {
    /// The earliest is the greatest, as the heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// A datagram that went where no node is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stray {
    /// Who sent it.
    pub from: NodeIndex,
    /// Where to.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Nodes, links and time.
pub struct WorldOf<C: Crypto> {
    seed: u64,
    now: u64,
    queue: BinaryHeap<Scheduled<C>>,
    order: u64,
    /// Events in the queue that are more than the passing of time.
    lively: usize,
    last_activity: u64,
    nodes: Vec<Node<C>>,
    by_address: BTreeMap<SocketAddr, NodeIndex>,
    /// Every address that a node ever had.
    once_owned: BTreeMap<SocketAddr, NodeIndex>,
    nats: Vec<Nat>,
    nat_by_ip: BTreeMap<IpAddr, usize>,
    by_id: BTreeMap<NodeId, NodeIndex>,
    links: BTreeMap<(NodeIndex, NodeIndex), Link>,
    /// What links without conditions of their own are like.
    pub weather: Conditions,
    troubles: Vec<weather::Active>,
    chance: Rng,
    ledger: Ledger,
    tap: Tap,
    epochs: Epochs,
    trace: Trace,
    coverage: Coverage,
    frame: Vec<u8>,
    dirty: Vec<(NodeIndex, u8)>,
    strays: Vec<Stray>,
    /// Which node, in which of its starts, heard which rumour.
    rumours_heard: BTreeSet<(NodeIndex, u32, SignedMessageId)>,
    /// Datagrams to nobody are kept for `take_strays`.
    pub keeps_strays: bool,
    /// Somebody on the way keeps what it sees, for `draw_overheard`.
    pub overhears: bool,
    overheard: VecDeque<Overheard>,
    /// Hellos that were overheard: what is worth most when it comes once more.
    hellos: VecDeque<Overheard>,
    /// Kept so that it need not be allocated again.
    carried: Vec<Carried>,
    /// Messages on the application's channels are `text::compose`d: what is sealed is compared with whom it goes to (I13).
    pub has_texts: bool,
    received: BTreeMap<NodeIndex, Vec<Vec<u8>>>,
    /// Delivered messages are kept for `received`.
    pub keeps_received: bool,
    /// Applications of nodes that talk read what they are told.
    pub reads_notices: bool,
    /// Chance in a thousand that a letter between shards finds its ring full.
    pub full_ring_permille: u32,
}

impl<C: Crypto> WorldOf<C> {
    /// An empty world. All its chance follows from the seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        counting::forget_sealed();
        crate::glass::drain(|_| {});
        Self {
            seed,
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            lively: 0,
            last_activity: 0,
            nodes: Vec::new(),
            by_address: BTreeMap::new(),
            once_owned: BTreeMap::new(),
            nats: Vec::new(),
            nat_by_ip: BTreeMap::new(),
            troubles: Vec::new(),
            by_id: BTreeMap::new(),
            links: BTreeMap::new(),
            weather: Conditions::default(),
            chance: Rng::from_number(seed),
            ledger: Ledger::default(),
            tap: Tap::default(),
            epochs: Epochs::default(),
            trace: Trace::default(),
            coverage: Coverage::default(),
            frame: vec![POISON; FRAME_LEN],
            dirty: Vec::new(),
            strays: Vec::new(),
            rumours_heard: BTreeSet::new(),
            keeps_strays: true,
            overhears: false,
            overheard: VecDeque::new(),
            hellos: VecDeque::new(),
            carried: Vec::new(),
            has_texts: false,
            received: BTreeMap::new(),
            keeps_received: true,
            reads_notices: true,
            full_ring_permille: 0,
        }
    }

    /// A node with one shard and small limits, running.
    pub fn add_node(&mut self) -> NodeIndex {
        self.add_node_with(NodeSettings::default())
    }

    /// A node, running.
    pub fn add_node_with(&mut self, settings: NodeSettings) -> NodeIndex {
        let index = self.nodes.len();
        self.add_node_at(settings, SocketAddr::from(([10, (index >> 8) as u8, index as u8, 1], 7117)))
    }

    /// A node at an address of its own, running.
    pub fn add_node_at(&mut self, settings: NodeSettings, address: SocketAddr) -> NodeIndex {
        let index = NodeIndex(self.nodes.len());
        let chance = Rng::from_number(self.chance.next_u64());
        let mut node = Node::new(settings, address, chance);
        node.boot(self.now);
        self.by_address.insert(address, index);
        self.once_owned.insert(address, index);
        self.by_id.insert(node.id, index);
        self.nodes.push(node);
        index
    }

    /// Two nodes.
    pub fn add_pair(&mut self) -> (NodeIndex, NodeIndex) {
        (self.add_node(), self.add_node())
    }

    /// The link from one node to another.
    pub fn link(&mut self, from: NodeIndex, to: NodeIndex) -> &mut Link {
        let conditions = self.conditions_of(from, to);
        self.links.entry((from, to)).or_insert_with(|| Link::new(conditions))
    }

    /// Changes both directions between two nodes.
    pub fn both(&mut self, one: NodeIndex, other: NodeIndex, change: impl Fn(&mut Conditions)) {
        change(&mut self.link(one, other).conditions);
        change(&mut self.link(other, one).conditions);
    }

    /// Changes every link between nodes that exist now, and those that come.
    pub fn everywhere(&mut self, change: impl Fn(&mut Conditions)) {
        change(&mut self.weather);
        for link in self.links.values_mut() {
            change(&mut link.conditions);
        }
    }

    /// A node.
    #[must_use]
    pub fn node(&self, node: NodeIndex) -> &Node<C> {
        &self.nodes[node.0]
    }

    /// The node with an identity.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn index_of(&self, id: &NodeId) -> NodeIndex {
        self.by_id[id]
    }

    /// A node, to change it.
    pub fn node_mut(&mut self, node: NodeIndex) -> &mut Node<C> {
        &mut self.nodes[node.0]
    }

    /// How many nodes there are.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// What a node counted, over all its shards and starts.
    #[must_use]
    pub fn stats(&self, node: NodeIndex) -> Stats {
        self.nodes[node.0].stats()
    }

    /// Time since the world began.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// The world's own chance, for stories that draw.
    pub fn chance(&mut self) -> &mut Rng {
        &mut self.chance
    }

    /// All messages.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the network saw of each node.
    #[must_use]
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// What happened in this world, by kind.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The hash over everything that happened.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// Lines of the trace so far.
    #[must_use]
    pub fn trace_count(&self) -> u64 {
        self.trace.count()
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn schedule(&mut self, at: u64, next: Next<C>) {
        self.order += 1;
        self.lively += usize::from(next.is_lively());
        self.queue.push(Scheduled { at: at.max(self.now), order: self.order, next });
    }

    pub(crate) fn note(&mut self, node: NodeIndex, shard: u8, what: What, numbers: [u64; 3]) {
        self.trace.add(Line { at: self.now, node: node.0, shard, what, numbers });
    }

    pub(crate) fn count_loss(&mut self, from: NodeIndex, to: Option<NodeIndex>, cause: Cause, len: usize) {
        self.coverage.count_causes(cause, 1);
        let to = to.map_or(u64::from(u16::MAX), |to| to.0 as u64);
        self.note(from, 0, What::Drop, [to, cause as u64, len as u64]);
    }

    /// Does something at a moment from now on.
    pub fn at(&mut self, after: Duration, script: impl FnOnce(&mut Self) + 'static) {
        let at = self.now + nanos_of(after);
        self.schedule(at, Next::Script(Box::new(script)));
    }
}

impl<C: Crypto> Drop for WorldOf<C> {
    /// A world that breaks says where it stood.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut text = format!("world of seed {} at {:?}; its last lines:\n", self.seed, self.now());
        for line in self.trace.recent() {
            let _ = writeln!(text, "  {line}");
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let events = &node.application.events;
            for (at, event) in events.iter().skip(events.len().saturating_sub(EVENTS_SHOWN)) {
                let _ = writeln!(text, "  node {index} at {:?}: {event:?}", Duration::from_nanos(*at));
            }
        }
        crate::trace::report(&text);
    }
}
