//! Making shards out of a configuration: keys, limits, rings.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dunlin_codec::ids::InstanceId;
use dunlin_codec::label::Network;
use dunlin_codec::suite::Suite;
use dunlin_shards::admission::Prefix;
use dunlin_shards::arq::congestion::Algorithm;
use dunlin_shards::budget::Rate;
use dunlin_shards::dht::known::Known;
use dunlin_shards::dht::space::Space;
use dunlin_shards::dht::values::Quotas;
use dunlin_shards::gossip::RumourLimits;
use dunlin_shards::identity::Identity;
use dunlin_shards::identity::change::Past;
use dunlin_shards::limits::{Limits, REHANDSHAKE_AFTER, RUMOURS_BURST_ORIGIN};
use dunlin_shards::mail::Mail;
use dunlin_shards::messages::conversation::{Methods, Terms};
use dunlin_shards::neighbours::{HUB, Neighbours, Seat};
use dunlin_shards::placement::Placement;
use dunlin_shards::rng::Rng;
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::keys::KeyLimits;
use dunlin_shards::session::live::Settings;
use dunlin_shards::shard::{Shard, ShardConfig};
use dunlin_shards::time::{Instant, Now, WallMillis};
use rtrb::RingBuffer;
use sha2::{Digest, Sha256};

use crate::api::StartError;
use crate::clock::Clock;
use crate::config::{Compression, Config, Congestion, Keepalive, StorePlace, SuiteChoice};
use crate::driver::Neighbour;
use crate::entropy::OsEntropy;
use crate::keyfile::KeyFiles;
use crate::mailbox::LETTERS;
use crate::network::{self, NetworkShared};
use crate::recall::Memory;
use crate::runtime;
use crate::shelf::Shelf;
use crate::socket::Doorbell;
use crate::store::Opened;

/// Datagrams longer than this wear AES-GCM keys out sooner.
const LARGE_DATAGRAM: usize = 2_048;

/// Who the node is.
pub(crate) struct Keys {
    pub(crate) identity: Identity,
    reset_secret: [u8; 32],
    is_fresh: bool,
    past: Past,
    /// The key before, and until when it is answered for.
    previous: Option<(Identity, WallMillis)>,
    /// It lies there, and so may what belongs to it; none: it is nobody's affair after this start.
    pub(crate) files: Option<KeyFiles>,
}

impl Keys {
    /// The key before, and until when it is answered for.
    fn previous(&self, now: Now) -> Option<(Identity, Instant)> {
        let (previous, until) = self.previous.as_ref()?;
        let left = Duration::from_millis(until.0.saturating_sub(now.wall.0));
        Some((previous.clone(), now.instant + left))
    }
}

/// The identity from its file, made when there is none; or the given one.
pub(crate) fn keys(config: &Config, given: Option<Identity>) -> Result<Keys, StartError> {
    if let Some(identity) = given {
        let reset_secret = OsEntropy.array();
        let (past, previous) = (Past::Unknown, None);
        return Ok(Keys { identity, reset_secret, is_fresh: true, past, previous, files: None });
    }
    let path = config.node.key.resolve().ok_or_else(|| {
        StartError::Config("node.key: no home folder is known; give a whole path with --key".to_owned())
    })?;
    let files = KeyFiles::at(path);
    let draw = || zeroize::Zeroizing::new(OsEntropy.array());
    let (identity, is_fresh) = files.open_or_create(|| (draw(), draw()))?;
    let reset_secret = *files.reset_secret(draw)?;
    let past = files.past(&identity)?;
    let previous = files.previous(&past, Clock::start().now().wall)?;
    let previous = previous.zip(past.told().map(|(_, until)| until));
    Ok(Keys { identity, reset_secret, is_fresh, past, previous, files: Some(files) })
}

/// The store of a node that is in a network: on disk when its key is there too.
pub(crate) fn store(config: &Config, keys: &Keys) -> Result<Option<Opened>, StartError> {
    if !config.network.enabled {
        return Ok(None);
    }
    if config.store.place == StorePlace::Memory || keys.files.is_none() {
        return Ok(Some(Opened::memory()));
    }
    let path = config.store.path.resolve().ok_or_else(|| {
        StartError::Config("store.path: no home folder is known; say where with --state".to_owned())
    })?;
    Ok(Some(Opened::disk(&path)?))
}

/// One shard a core, or as many as were asked for.
pub(crate) fn shard_count(config: &Config) -> Result<usize, StartError> {
    let cores = runtime::cores()
        .map_err(|source| StartError::System { what: "cannot read which cores may be used", source })?
        .len();
    match config.node.cores {
        0 => Ok(cores.min(dunlin_codec::ids::SessionId::SHARDS_MAX)),
        count if count > cores && !config.node.allow_more_shards => Err(StartError::Config(format!(
            "node.cores = {count}, but this process may use {cores}: ask for fewer, or set node.allow_more_shards"
        ))),
        count => Ok(count),
    }
}

/// What each shard is told, but for its index.
pub(crate) fn shard_config(
    config: &Config,
    keys: &Keys,
    (placement, steered): (Placement, bool),
    local: SocketAddr,
) -> ShardConfig {
    let keepalive = match config.transport.keepalive {
        Keepalive::Every(interval) => Some(interval),
        Keepalive::Auto | Keepalive::Off => None,
    };
    let datagram_max = config.io.datagram_max.len();
    let suite = match config.transport.suite {
        SuiteChoice::Aes => Suite::AesGcm,
        SuiteChoice::Chacha => Suite::ChaChaPoly,
        SuiteChoice::Auto => fastest_suite(),
    };
    let large = datagram_max > LARGE_DATAGRAM;
    let key_limits = if large { KeyLimits::for_large_datagrams() } else { KeyLimits::default() };
    let trusted = config.limits.trusted.iter().map(|prefix| {
        let (address, bits) = prefix.parts();
        Prefix { address, bits }
    });
    ShardConfig {
        index: 0,
        placement,
        steered,
        network: Sha256::digest(config.node.network.as_bytes()).into(),
        suite,
        instance: InstanceId(OsEntropy.array()),
        cookie_root: OsEntropy.array(),
        reset_secret: keys.reset_secret,
        zero_rtt: config.transport.zero_rtt_accept,
        shared_identity: config.identity.shared,
        fresh_identity: keys.is_fresh,
        own_addresses: own_addresses(local),
        trusted: trusted.collect(),
        handshake_deadline: config.transport.handshake_deadline,
        settings: Settings {
            datagram_max,
            idle_timeout: config.transport.idle_timeout,
            keepalive,
            renew_after: REHANDSHAKE_AFTER,
            key_limits,
            congestion: match config.transport.congestion {
                Congestion::Cubic => Algorithm::Cubic,
                Congestion::Bbr => Algorithm::Bbr,
            },
        },
    }
}

/// AES where the processor has instructions for it.
fn fastest_suite() -> Suite {
    #[cfg(target_arch = "x86_64")]
    let has_aes = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    if has_aes { Suite::AesGcm } else { Suite::ChaChaPoly }
}

/// Addresses of our own sockets as far as the binding tells: nobody else sends from them.
fn own_addresses(local: SocketAddr) -> Vec<SocketAddr> {
    if local.ip().is_unspecified() {
        let port = local.port();
        return vec![
            SocketAddr::from(([127, 0, 0, 1], port)),
            SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)),
        ];
    }
    vec![local]
}

/// How large each shard's tables may grow.
pub(crate) fn limits(config: &Config, shards: usize) -> Limits {
    let total = config.limits.memory_max.of(memory_total());
    let share = usize::try_from(total).unwrap_or(usize::MAX) / shards;
    Limits {
        sessions: config.limits.sessions_max,
        memory: config.limits.shard_memory_max.len().min(share.max(16 << 20)),
        message_len_max: config.transport.message_max.len(),
        receive_buffer_max: config.transport.receive_buffer_max.len(),
        send_buffer_max: config.transport.send_buffer_max.len(),
        handshake_cpu_percent: u32::from(config.limits.handshake_cpu_max.0),
        ..Limits::default()
    }
}

/// The machine's memory in bytes.
fn memory_total() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// The rings between every two shards: for each shard its ends, by the other's index.
pub(crate) fn rings(doorbells: &[Doorbell]) -> VecDeque<Vec<Option<Neighbour>>> {
    let count = doorbells.len();
    let mut producers: Vec<Vec<Option<rtrb::Producer<Mail>>>> = Vec::new();
    let mut consumers: Vec<Vec<Option<rtrb::Consumer<Mail>>>> = Vec::new();
    for _ in 0..count {
        producers.push((0..count).map(|_| None).collect());
        consumers.push((0..count).map(|_| None).collect());
    }
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (producer, consumer) = RingBuffer::new(LETTERS);
            producers[from][to] = Some(producer);
            consumers[to][from] = Some(consumer);
        }
    }
    let ends = producers.into_iter().zip(consumers).map(|(to, from)| {
        let pairs = to.into_iter().zip(from).zip(doorbells);
        pairs
            .map(|((to, from), doorbell)| {
                Some(Neighbour { to: to?, from: from?, doorbell: doorbell.clone() })
            })
            .collect()
    });
    ends.collect()
}

/// What the neighbours beside each shard are made of.
pub(crate) struct Circle {
    identity: Identity,
    past: Past,
    /// The key before, and until when it is answered for.
    previous: Option<(Identity, Instant)>,
    terms: Terms,
    seat: Seat,
    clock: Clock,
}

/// A node's place in its network; none when it is in none.
pub(crate) fn circle(
    config: &Config,
    keys: &Keys,
    (placement, local): (Placement, SocketAddr),
    clock: Clock,
) -> Result<Option<Circle>, StartError> {
    let identity = keys.identity.clone();
    let wanted = &config.network;
    if !wanted.enabled {
        return Ok(None);
    }
    let network = Network(Sha256::digest(config.node.network.as_bytes()).into());
    let terms = Terms::new(identity.id(), network, wanted.constants(), &wanted.description);
    let terms = terms.map_err(|error| StartError::Config(error.to_string()))?;
    let (requests_per_second, rumours) = (wanted.requests_max as u64, rumour_limits(config));
    // spec: p2p/compression-setting
    let prefers = Some(wanted.compression).filter(|method| *method != Compression::None);
    let reads = if prefers.is_some() { Methods::ALL } else { Methods::NONE };
    let terms = Terms { requests_per_second, rumours, reads, prefers, quotas: quotas(config), ..terms };
    let endpoints = network::advertised(&wanted.advertise, local);
    let seat = Seat { shard: HUB, placement, endpoints };
    let (past, previous) = (keys.past.clone(), keys.previous(clock.now()));
    Ok(Some(Circle { identity, past, previous, terms, seat, clock }))
}

/// What a node takes of words to everybody.
fn rumour_limits(config: &Config) -> RumourLimits {
    let (origin, link) = (config.network.rumours_origin_max as u64, config.network.rumours_link_max as u64);
    RumourLimits {
        origin: Rate { per_second: origin, burst: origin.saturating_mul(RUMOURS_BURST_ORIGIN) },
        link: Rate { per_second: link, burst: link },
        cpu_percent: match config.limits.rumour_cpu_max.0 {
            // More than a core has cannot be spent: what verifying is reckoned to cost may be too much here.
            100 => u32::MAX,
            share => u32::from(share),
        },
    }
}

/// What a node keeps for others.
fn quotas(config: &Config) -> Quotas {
    let limits = &config.limits;
    Quotas {
        identity_len_max: limits.values_writer_max.0,
        identity_count_max: u32::try_from(limits.values_writer_count_max).unwrap_or(u32::MAX),
        prefix_len_max: limits.values_prefix_max.0,
        len_max: limits.values_shard_max.0,
    }
}

impl Circle {
    /// What handles share, while nobody is known.
    pub(crate) fn shared(&self) -> Arc<NetworkShared> {
        let nobody = Known::nobody(self.identity.id(), Space::new(self.terms.constants.address_bits));
        Arc::new(NetworkShared::new(self.terms.constants, Arc::new(nobody), self.clock))
    }

    /// The neighbours beside a shard, with what the node's memory has for them.
    pub(crate) fn neighbours(&self, shard: u8, memory: &mut Memory) -> (Neighbours, Shelf) {
        let seat = Seat { shard, ..self.seat.clone() };
        let (now, rng) = (self.clock.now(), Rng::from_seed(OsEntropy.array()));
        let mut neighbours = Neighbours::new(&self.identity, self.terms.clone(), &seat, (now, rng));
        memory.begin(&mut neighbours);
        let mut neighbours = neighbours.with_past(self.past.clone());
        if let Some((previous, until)) = &self.previous {
            neighbours = neighbours.with_previous(previous.clone(), *until);
        }
        let shelf = memory.restore(now, shard, &mut neighbours);
        (neighbours, shelf)
    }
}

/// What shards are made of.
pub(crate) struct Parts {
    template: ShardConfig,
    limits: Limits,
    identity: Identity,
    /// The key before, and until when Hellos to it are answered.
    previous: Option<(Identity, Instant)>,
}

impl Parts {
    pub(crate) fn new(template: ShardConfig, limits: Limits, keys: Keys, now: Now) -> Self {
        let previous = keys.previous(now);
        Self { template, limits, identity: keys.identity, previous }
    }

    pub(crate) fn shard(&mut self, index: u8) -> Shard<AwsLc, OsEntropy> {
        let config = ShardConfig { index, ..self.template.clone() };
        let mut shard = Shard::new(config, self.identity.clone(), OsEntropy, self.limits.clone());
        if let Some((previous, until)) = &self.previous {
            shard.answer_previous(previous, *until);
        }
        shard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ByteSize, Percent, Share};

    fn shard(change: impl FnOnce(&mut Config)) -> (ShardConfig, Limits) {
        let mut config = Config::default();
        change(&mut config);
        assert_eq!(config.check(), Ok(()));
        let keys = keys(&config, Some(Identity::from_seed([7; 32]))).unwrap();
        let placement =
            Placement::new(1, dunlin_shards::placement::PlacementSeeds { steering: 1, keys: [2, 3] });
        let local = "127.0.0.1:7117".parse().unwrap();
        (shard_config(&config, &keys, (placement, false), local), limits(&config, 2))
    }

    /// Keys that change how a shard works, and that no peer sees at once: each comes to the shard. What the shard makes of it is its
    /// own stories' affair.
    #[test]
    fn each_key_comes_to_the_shards() {
        let transport = |change: fn(&mut Config)| shard(change).0;
        assert_eq!(transport(|config| config.transport.suite = SuiteChoice::Chacha).suite, Suite::ChaChaPoly);
        assert_eq!(transport(|config| config.transport.suite = SuiteChoice::Aes).suite, Suite::AesGcm);
        let bbr = transport(|config| config.transport.congestion = Congestion::Bbr).settings;
        assert_eq!((bbr.congestion, shard(|_| {}).0.settings.congestion), (Algorithm::Bbr, Algorithm::Cubic));
        let seconds = Duration::from_secs;
        let every = transport(|config| config.transport.keepalive = Keepalive::Every(Duration::from_secs(7)));
        assert_eq!((every.settings.keepalive, shard(|_| {}).0.settings.keepalive), (Some(seconds(7)), None));
        let idle = transport(|config| config.transport.idle_timeout = Duration::from_secs(9));
        assert_eq!(idle.settings.idle_timeout, seconds(9));
        let late = transport(|config| config.transport.handshake_deadline = Duration::from_secs(3));
        assert_eq!(late.handshake_deadline, seconds(3));
        assert_eq!(transport(|config| config.io.datagram_max = ByteSize(1_300)).settings.datagram_max, 1_300);
        let variable = ("DUNLIN_LIMITS_TRUSTED".to_owned(), "10.0.0.0/8".to_owned());
        let trusting = Config::load(None, [variable], &[]).unwrap().config;
        let trusted = shard(|config| *config = trusting).0.trusted;
        assert_eq!(trusted.iter().map(|prefix| prefix.bits).collect::<Vec<u8>>(), [8]);
    }

    /// Each bound of the memory and the work of a shard is what the configuration says.
    #[test]
    fn each_bound_comes_to_the_shards() {
        let limits = shard(|config| {
            config.limits.sessions_max = 11;
            config.limits.shard_memory_max = ByteSize(20 << 20);
            config.limits.memory_max = Share::Bytes(1 << 30);
            config.limits.handshake_cpu_max = Percent(7);
            config.transport.message_max = ByteSize(300_000);
            config.transport.receive_buffer_max = ByteSize(2 << 20);
            config.transport.send_buffer_max = ByteSize(3 << 20);
        });
        let limits = limits.1;
        assert_eq!((limits.sessions, limits.memory, limits.handshake_cpu_percent), (11, 20 << 20, 7));
        assert_eq!(
            (limits.message_len_max, limits.receive_buffer_max, limits.send_buffer_max),
            (300_000, 2 << 20, 3 << 20)
        );
        // Of all that there is each of two shards has half.
        let shared = shard(|config| config.limits.memory_max = Share::Bytes(100 << 20));
        assert_eq!(shared.1.memory, 50 << 20);
        let mut config = Config::default();
        config.limits.values_prefix_max = ByteSize(5);
        config.limits.rumour_cpu_max = Percent(100);
        assert_eq!((quotas(&config).prefix_len_max, rumour_limits(&config).cpu_percent), (5, u32::MAX));
    }
}
