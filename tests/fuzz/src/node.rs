//! A node of a run: production shards, an address, and what its application was told.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use dunlin_codec::ids::{ChannelId, InstanceId, NodeId, SessionId};
use dunlin_shards::arq::congestion::Algorithm;
use dunlin_shards::blocks::Block;
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::{HANDSHAKE_DEADLINE, IDLE_TIMEOUT, Limits, REHANDSHAKE_AFTER};
use dunlin_shards::placement::{Placement, PlacementSeeds};
use dunlin_shards::rng::{Rng, SeededEntropy};
use dunlin_shards::session::crypto::{Crypto, Suite};
use dunlin_shards::session::keys::KeyLimits;
use dunlin_shards::session::live::Settings;
use dunlin_shards::shard::{Shard, ShardConfig};

/// What a run's first byte chooses, a bit each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choice(pub(crate) u8);

impl Choice {
    fn has(self, bit: u8) -> bool {
        self.0 >> bit & 1 == 1
    }

    fn settings(self) -> Settings {
        // As in production, a key outlives its renewal by more packets than a window holds.
        let short = KeyLimits {
            packets: 16,
            packets_max: 8_192,
            life: Duration::from_secs(5),
            life_max: Duration::from_secs(20),
        };
        Settings {
            datagram_max: if self.has(0) { 9_000 } else { 1_452 },
            idle_timeout: if self.has(1) { Duration::from_secs(10) } else { IDLE_TIMEOUT },
            keepalive: self.has(2).then_some(Duration::from_secs(3)),
            renew_after: if self.has(3) { Duration::from_secs(8) } else { REHANDSHAKE_AFTER },
            key_limits: if self.has(4) { short } else { KeyLimits::default() },
            congestion: Algorithm::Cubic,
        }
    }

    /// Nodes that several devices are.
    pub(crate) fn is_shared(self) -> bool {
        self.has(5)
    }

    fn zero_rtt(self) -> bool {
        !self.has(6)
    }

    fn suite(self) -> Suite {
        if self.has(7) { Suite::ChaChaPoly } else { Suite::AesGcm }
    }
}

/// Bounds that a run can reach.
pub(crate) fn small_limits() -> Limits {
    Limits {
        sessions: 16,
        half_open: 8,
        memory: 4 << 20,
        strikes: 64,
        identities: 16,
        send_buffer_max: 1 << 20,
        receive_buffer_max: 1 << 20,
        ..Limits::small()
    }
}

/// A delivered message that was not read yet.
pub(crate) struct Unread {
    pub(crate) session: SessionId,
    pub(crate) channel: ChannelId,
    pub(crate) charge: u32,
    pub(crate) block: Block,
}

/// A node.
pub(crate) struct Node<C: Crypto> {
    pub(crate) id: NodeId,
    pub(crate) address: SocketAddr,
    pub(crate) placement: Placement,
    pub(crate) shards: Vec<Shard<C, SeededEntropy>>,
    /// Sessions that the application was told of and that did not end; those being opened are not among them.
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) unread: VecDeque<Unread>,
    /// What it remembers of others' starts.
    pub(crate) instances: BTreeMap<NodeId, InstanceId>,
    pub(crate) start: u32,
    number: u8,
    choice: Choice,
}

impl<C: Crypto> Node<C> {
    /// A node with so many shards, running.
    pub(crate) fn new(number: u8, shard_count: usize, choice: Choice) -> Self {
        // Two devices of one identity are the first and the last node.
        let key = if choice.is_shared() && number == 2 { 0 } else { number };
        let mut node = Self {
            id: Identity::from_seed([key + 1; 32]).id(),
            address: SocketAddr::from(([10, 0, number, 1], 7117)),
            placement: Placement::new(shard_count, PlacementSeeds::default()),
            shards: Vec::new(),
            sessions: Vec::new(),
            unread: VecDeque::new(),
            instances: BTreeMap::new(),
            start: 0,
            number,
            choice,
        };
        node.boot(key + 1);
        node
    }

    /// Starts it anew: what its shards knew is gone.
    pub(crate) fn restart(&mut self) {
        self.sessions.clear();
        self.unread.clear();
        let key = if self.choice.is_shared() && self.number == 2 { 1 } else { self.number + 1 };
        self.boot(key);
    }

    fn boot(&mut self, key: u8) {
        self.start += 1;
        let mut chance = Rng::from_number(u64::from(self.number) << 32 | u64::from(self.start));
        let seeds = PlacementSeeds { steering: chance.next_u64() as u32, keys: [chance.next_u64(), 1] };
        self.placement = Placement::new(self.placement.shard_count(), seeds);
        let mut cookie_root = [0; 32];
        chance.fill(&mut cookie_root);
        let mut instance = InstanceId::default();
        chance.fill(&mut instance.0);
        self.shards.clear();
        for index in 0..self.placement.shard_count() {
            let config = ShardConfig {
                index: index as u8,
                placement: self.placement,
                network: [7; 32],
                suite: self.choice.suite(),
                instance,
                cookie_root,
                reset_secret: [self.number; 32],
                zero_rtt: self.choice.zero_rtt(),
                shared_identity: self.choice.is_shared(),
                fresh_identity: self.start == 1,
                steered: true,
                own_addresses: Vec::new(),
                trusted: Vec::new(),
                handshake_deadline: HANDSHAKE_DEADLINE,
                settings: self.choice.settings(),
            };
            let entropy = SeededEntropy(Rng::from_number(chance.next_u64()));
            self.shards.push(Shard::new(config, Identity::from_seed([key; 32]), entropy, small_limits()));
        }
    }
}
