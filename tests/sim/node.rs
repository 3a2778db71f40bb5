//! A node of the world: its shards, its clock and address, and what it keeps across a restart.
//!
//! In:    settings, a seed.
//! Out:   shards that are driven as the engine drives them.
//! Holds: key, reset secret and address survive a restart; everything else is new.
//!
//! The transport writes nothing while it runs: key and reset secret are written once, whole, before the first start; the one
//! accident that they can have is that the reset secret's file is torn or gone, and then the node makes another
//! (`lose_reset_secret`). What its holders of values write goes to a disk of rows (`world/disk.rs`).

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dunlin_codec::ids::{InstanceId, NodeId};
use dunlin_shards::arq::congestion::Algorithm;
use dunlin_shards::dht::known::Known;
use dunlin_shards::identity::change::{NewKey, Past, SignedChange};
use dunlin_shards::identity::{Identity, inception};
use dunlin_shards::limits::{HANDSHAKE_DEADLINE, IDLE_TIMEOUT, Limits, REHANDSHAKE_AFTER};
use dunlin_shards::neighbours::{Neighbours, Notice};
use dunlin_shards::placement::{Placement, PlacementSeeds};
use dunlin_shards::rng::{Rng, SeededEntropy};
use dunlin_shards::session::crypto::{Crypto, Suite};
use dunlin_shards::session::keys::KeyLimits;
use dunlin_shards::session::live::Settings;
use dunlin_shards::shard::{Shard, ShardConfig};
use dunlin_shards::stats::Stats;
use dunlin_shards::time::{Instant, Now, WallMillis};

use crate::application::Application;
use crate::byzantine::Byzantine;
use crate::disk::Disk;
use crate::glass::Glass;
use crate::lies::Lie;

/// Milliseconds since 1970 when a world begins.
const WALL_BEGIN: u64 = 1_760_000_000_000;

/// What a story may choose of a node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Cores.
    pub shards: usize,
    /// Bounds.
    pub limits: Limits,
    /// What its sessions share.
    pub sessions: Settings,
    /// The cipher of sessions that it initiates.
    pub suite: Suite,
    /// It accepts early data.
    pub zero_rtt: bool,
    /// Several devices use its identity.
    pub shared_identity: bool,
    /// Its identity is made at its first start.
    pub fresh_identity: bool,
    /// Datagrams land on any of its shards.
    pub unsteered: bool,
    /// Datagrams land on this shard whatever they are, as a kernel without our steering may have it.
    pub lands_on: Option<u8>,
    /// Letters that fit a ring between two shards.
    pub ring_len: usize,
    /// The network's name, hashed.
    pub network: [u8; 32],
    /// When its handshakes are given up.
    pub handshake_deadline: Duration,
    /// Makes the key; None: drawn from the world's seed.
    pub key: Option<[u8; 32]>,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            shards: 1,
            limits: Limits::small(),
            sessions: Settings {
                datagram_max: 1_452,
                idle_timeout: IDLE_TIMEOUT,
                keepalive: None,
                renew_after: REHANDSHAKE_AFTER,
                key_limits: KeyLimits::default(),
                congestion: Algorithm::Cubic,
            },
            suite: Suite::AesGcm,
            zero_rtt: true,
            shared_identity: false,
            fresh_identity: true,
            unsteered: false,
            lands_on: None,
            ring_len: 1_024,
            network: [7; 32],
            handshake_deadline: HANDSHAKE_DEADLINE,
            key: None,
        }
    }
}

/// A node's clocks against the world's.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeClock {
    /// When it started, in nanoseconds of the world.
    pub started: u64,
    /// What it showed then, in nanoseconds: a machine's clock does not begin with the process.
    pub began_at: u64,
    /// Parts in a million by which it runs fast.
    pub drift_ppm: i64,
    /// Milliseconds by which its wall clock is wrong.
    pub wall_error_ms: i64,
}

impl NodeClock {
    /// The node's own moment.
    #[must_use]
    pub fn read(&self, now: u64) -> Now {
        let since = i128::from(now - self.started);
        let local = i128::from(self.began_at) + since + since * i128::from(self.drift_ppm) / 1_000_000;
        let wall = WALL_BEGIN + now / 1_000_000;
        Now {
            instant: Instant::from_nanos(local as u64),
            wall: WallMillis(wall.saturating_add_signed(self.wall_error_ms)),
        }
    }

    /// The world's moment at which the node's clock shows `instant`, or a little later.
    #[must_use]
    pub fn world_time(&self, instant: Instant) -> u64 {
        let since = instant.as_nanos().saturating_sub(self.began_at);
        if self.drift_ppm == 0 {
            return self.started.saturating_add(since);
        }
        let scale = 1_000_000 + i128::from(self.drift_ppm);
        let since = i128::from(since) * 1_000_000 / scale + 2;
        self.started.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// What a shard has done since it last took in anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence {
    /// What it had taken in by then.
    pub heard: u64,
    /// How often its sessions had probed by then.
    pub probes: u64,
    /// Its sessions when it was looked at last.
    pub sessions: u64,
    /// Those of then and all that came since.
    pub sessions_ever: u64,
}

/// One shard and how it is driven.
pub struct Core<C: Crypto> {
    /// The production code.
    pub shard: Shard<Glass<C>, SeededEntropy>,
    /// The node among its neighbours, when a story has it talk.
    pub neighbours: Option<Neighbours>,
    /// What the neighbours told and no story has asked for.
    pub notices: VecDeque<Notice>,
    /// When the world will look at its timers.
    pub timer_at: Option<u64>,
    /// Something came in since its polls were drained.
    pub is_dirty: bool,
    /// Letters on their way, by receiver.
    pub letters_out: BTreeMap<u8, usize>,
    /// When its time came last, and how often in that instant.
    pub ticks: (u64, u32),
    /// In which instant its sessions probed last, and how often in all.
    pub probes: (u64, u64),
    /// How long it is that it took anything in.
    pub silence: Silence,
}

/// What a node has announced of its keys, and the one that it had before.
struct Succession {
    next: [u8; 32],
    after: [u8; 32],
    past: Past,
    /// Until when that one is answered.
    previous: Option<([u8; 32], WallMillis)>,
}

/// A node.
pub struct Node<C: Crypto> {
    /// What it was made with.
    pub settings: NodeSettings,
    /// Its identity.
    pub id: NodeId,
    key: [u8; 32],
    /// What it has announced of its keys, if it has.
    succession: Option<Succession>,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Which shard owns what.
    pub placement: Placement,
    /// Its shards; none while it is down.
    pub cores: Vec<Core<C>>,
    /// What it puts into its packets instead of the truth.
    pub lie: Option<Lie>,
    /// How it misbehaves, if it does.
    pub byzantine: Option<Box<dyn Byzantine>>,
    /// What it tells of others instead of what it knows.
    pub colludes: Option<Arc<Known>>,
    /// What it tells as its network's roll instead of what it has.
    pub false_roll: Option<Vec<Vec<u8>>>,
    /// The NAT that it stands behind.
    pub nat: Option<usize>,
    /// Its clocks.
    pub clock: NodeClock,
    /// How often it was started.
    pub start: u32,
    /// It stands still until then.
    pub paused_until: u64,
    /// What runs on it.
    pub application: Application,
    /// What its holders have written.
    pub disk: Disk,
    /// Numbers of earlier starts.
    pub past_stats: Stats,
    reset_secret: [u8; 32],
    cookie_root: [u8; 32],
    instance: InstanceId,
    chance: Rng,
}

impl<C: Crypto> Node<C> {
    /// A node that is not started yet.
    #[must_use]
    pub fn new(settings: NodeSettings, address: SocketAddr, mut chance: Rng) -> Self {
        let mut drawn = [0; 32];
        chance.fill(&mut drawn);
        let key = settings.key.unwrap_or(drawn);
        let mut reset_secret = [0; 32];
        chance.fill(&mut reset_secret);
        Self {
            id: Identity::from_seed(key).id(),
            key,
            succession: None,
            address,
            placement: Placement::new(settings.shards, PlacementSeeds::default()),
            cores: Vec::new(),
            lie: None,
            byzantine: None,
            colludes: None,
            false_roll: None,
            nat: None,
            clock: NodeClock::default(),
            start: 0,
            paused_until: 0,
            application: Application::new(settings.limits.message_len_max),
            disk: Disk::default(),
            past_stats: Stats::default(),
            reset_secret,
            cookie_root: [0; 32],
            instance: InstanceId::default(),
            chance,
            settings,
        }
    }

    /// What makes its key.
    #[must_use]
    pub fn key(&self) -> [u8; 32] {
        self.key
    }

    /// What makes its key, the one that it has announced as the next, and the one after that.
    ///
    /// # Panics
    /// When it has announced none.
    #[must_use]
    pub fn keys(&self) -> [[u8; 32]; 3] {
        let Succession { next, after, .. } = self.succession.as_ref().expect("it announced its next key");
        [self.key, *next, *after]
    }

    /// Where its key comes from.
    #[must_use]
    pub fn past(&self) -> Past {
        self.succession.as_ref().map_or(Past::Unknown, |succession| succession.past.clone())
    }

    /// Announces which key follows its own.
    pub fn announce_next_key(&mut self) {
        let [mut next, mut after] = [[0; 32]; 2];
        self.chance.fill(&mut next);
        self.chance.fill(&mut after);
        let inception = inception::write(&Identity::from_seed(self.key), &Identity::from_seed(next).id());
        self.succession = Some(Succession { next, after, past: Past::first(&inception), previous: None });
    }

    /// Its next key is its key, by a change made at this time; shards that run are not told.
    ///
    /// # Panics
    /// When it has announced none.
    pub fn rotate(&mut self, time_ms: u64) -> NewKey {
        let [old, identity, after] = self.keys().map(Identity::from_seed);
        let index = self.past().told().map_or(1, |(signed, _)| signed.change.index + 1);
        let change = SignedChange::sign((&old, &identity), &after.id(), (index, time_ms));
        let mut fresh = [0; 32];
        self.chance.fill(&mut fresh);
        let past = Past::Changed(Box::new(change));
        let until = past.told().map_or(WallMillis(0), |(_, until)| until);
        let [key, next, after] = self.keys();
        self.succession = Some(Succession { next: after, after: fresh, past, previous: Some((key, until)) });
        (self.key, self.id) = (next, identity.id());
        NewKey { identity, change }
    }

    /// Starts it: new shards, a new instance, the same key.
    pub fn boot(&mut self, now: u64) {
        let chance = &mut self.chance;
        let seeds = PlacementSeeds {
            steering: chance.next_u64() as u32,
            keys: [chance.next_u64(), chance.next_u64()],
        };
        self.placement = Placement::new(self.settings.shards, seeds);
        chance.fill(&mut self.cookie_root);
        chance.fill(&mut self.instance.0);
        self.start += 1;
        self.clock.started = now;
        self.paused_until = now;
        self.cores = (0..self.settings.shards).map(|index| self.core(index as u8)).collect();
        let now = self.clock.read(now);
        if let Some((identity, until)) = self.previous(now) {
            self.cores.iter_mut().for_each(|core| core.shard.answer_previous(&identity, until));
        }
    }

    /// The key that it had before, and until when it is answered for; none: there was none, or its day is over.
    pub(crate) fn previous(&self, now: Now) -> Option<(Identity, Instant)> {
        let (seed, until) = self.succession.as_ref()?.previous.filter(|(_, until)| now.wall < *until)?;
        let left = Duration::from_millis(until.0 - now.wall.0);
        Some((Identity::from_seed(seed), now.instant + left))
    }

    fn core(&mut self, index: u8) -> Core<C> {
        let entropy = SeededEntropy(Rng::from_number(self.chance.next_u64()));
        let config = self.config(index);
        let identity = Identity::from_seed(self.key);
        let shard = Shard::new(config, identity, entropy, self.settings.limits.clone());
        Core {
            shard,
            neighbours: None,
            notices: VecDeque::new(),
            timer_at: None,
            is_dirty: false,
            letters_out: BTreeMap::new(),
            ticks: (0, 0),
            probes: (0, 0),
            silence: Silence::default(),
        }
    }

    fn config(&self, index: u8) -> ShardConfig {
        ShardConfig {
            index,
            placement: self.placement,
            steered: !self.settings.unsteered && self.settings.lands_on.is_none(),
            network: self.settings.network,
            suite: self.settings.suite,
            instance: self.instance,
            cookie_root: self.cookie_root,
            reset_secret: self.reset_secret,
            zero_rtt: self.settings.zero_rtt,
            shared_identity: self.settings.shared_identity,
            fresh_identity: self.settings.fresh_identity && self.start == 1,
            own_addresses: vec![self.address],
            trusted: Vec::new(),
            handshake_deadline: self.settings.handshake_deadline,
            settings: self.settings.sessions,
        }
    }

    /// Stops it at once: whatever its shards knew is gone.
    pub fn crash(&mut self) {
        for core in self.cores.drain(..) {
            self.past_stats.add(core.shard.stats());
        }
    }

    /// The file with its reset secret was torn when it stopped: it makes another.
    pub fn lose_reset_secret(&mut self) {
        let chance = &mut self.chance;
        chance.fill(&mut self.reset_secret);
    }

    /// It runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.cores.is_empty()
    }

    /// This start.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The secret of its reset tokens.
    #[must_use]
    pub fn reset_secret(&self) -> &[u8; 32] {
        &self.reset_secret
    }

    /// Everything that it did so far, over all its starts and shards.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut sum = self.past_stats.clone();
        for core in &self.cores {
            sum.add(core.shard.stats());
        }
        sum
    }
}
