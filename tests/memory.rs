//! What a shard and its sessions hold when nothing happens, with the real cryptography.
//!
//! In:    a hub and its peers, each a production shard, over a network that loses nothing.
//! Out:   bytes that the hub holds: the allocator's count within calls of the hub, and what C code holds, as a constant
//!        for each packet key that lives.
//! Holds: all on one thread; blocks stay with the shard that made them.

use std::cell::Cell;
use std::mem::size_of;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use dunlin_codec::ids::{ChannelId, InstanceId, NodeId, PacketNumber, SessionId};
use dunlin_shards::arq::congestion::Algorithm;
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::{Limits, SHRINK_AFTER};
use dunlin_shards::mail::{self, Connect, Mail};
use dunlin_shards::rng::{Rng, SeededEntropy};
use dunlin_shards::route::{Arrival, FRAME_LEN};
use dunlin_shards::session::aws_lc::{AwsLc, AwsLcKey, AwsLcStatic};
use dunlin_shards::session::crypto::{
    BadIdentity, Crypto, Forged, HEADER_LEN, NONCE_LEN, PacketKey, StaticPublic, Suite, TAG_LEN,
};
use dunlin_shards::session::live::Settings;
use dunlin_shards::shard::{Shard, ShardConfig};
use dunlin_shards::time::{Instant, Now, WallMillis};
use dunlin_tests::allocator::{Counting, held_bytes};
use dunlin_tests::node::NodeSettings;
use snow::resolvers::BoxedCryptoResolver;
use zeroize::Zeroizing;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An empty shard with small limits, at most.
const SHARD_MAX: usize = 256 << 10;
/// An idle session, at most, all told.
const SESSION_MAX: usize = 4 << 10;
/// The same where BBR, which is not the default, keeps its model of the path.
const SESSION_BBR_MAX: usize = SESSION_MAX + 256;
/// The key schedule of a packet key, which aws-lc allocates behind the allocator's back (`EVP_AEAD_CTX`).
const AWS_LC_KEY_LEN: usize = 592;
/// Peers of the hub, and so many of them that bring what all share. Tables that double are as full with either as with
/// 100,000.
const PEERS: usize = 96;
const FEW: usize = 12;
/// Messages each way, per peer, and their bytes.
const MESSAGES: usize = 100;
const MESSAGE_LEN: usize = 3_000;
/// How the time goes on.
const STEP: Duration = Duration::from_millis(5);
/// Time for a peer to connect and to have all its messages acknowledged.
const BURST: Duration = Duration::from_millis(500);

thread_local! {
    static KEYS: Cell<isize> = const { Cell::new(0) };
}

/// Bytes that this thread holds, aws-lc's included.
fn held() -> isize {
    held_bytes() + KEYS.get() * AWS_LC_KEY_LEN as isize
}

/// The real cryptography, with its packet keys counted.
enum Watched {}

struct WatchedKey(AwsLcKey);

impl Drop for WatchedKey {
    fn drop(&mut self) {
        KEYS.set(KEYS.get() - 1);
    }
}

impl PacketKey for WatchedKey {
    fn seal(&self, number: PacketNumber, header: &[u8; HEADER_LEN], plain: &mut [u8]) -> [u8; TAG_LEN] {
        self.0.seal(number, header, plain)
    }

    fn open(
        &self,
        number: PacketNumber,
        header: &[u8; HEADER_LEN],
        sealed: &mut [u8],
    ) -> Result<usize, Forged> {
        self.0.open(number, header, sealed)
    }

    fn seal_once(&self, nonce: &[u8; NONCE_LEN], associated: &[u8], plain: &mut [u8]) -> [u8; TAG_LEN] {
        self.0.seal_once(nonce, associated, plain)
    }

    fn open_once(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Forged> {
        self.0.open_once(nonce, associated, sealed)
    }
}

impl Crypto for Watched {
    type Key = WatchedKey;
    type Static = AwsLcStatic;

    fn key(suite: Suite, secret: &[u8; 32]) -> WatchedKey {
        KEYS.set(KEYS.get() + 1);
        WatchedKey(AwsLc::key(suite, secret))
    }

    fn static_pair(identity: &Identity) -> AwsLcStatic {
        AwsLc::static_pair(identity)
    }

    fn static_public(pair: &AwsLcStatic) -> StaticPublic {
        AwsLc::static_public(pair)
    }

    fn static_secret(pair: &AwsLcStatic) -> &[u8; 32] {
        AwsLc::static_secret(pair)
    }

    fn public_of(id: &NodeId) -> Result<StaticPublic, BadIdentity> {
        AwsLc::public_of(id)
    }

    fn resolver(pair: &AwsLcStatic, ephemeral: Zeroizing<[u8; 32]>) -> BoxedCryptoResolver {
        AwsLc::resolver(pair, ephemeral)
    }
}

/// A shard with all that it has allocated.
struct Counted {
    shard: Shard<Watched, SeededEntropy>,
    id: NodeId,
    address: SocketAddr,
    held: isize,
    /// Its sessions; messages that came.
    sessions: Vec<SessionId>,
    came: usize,
}

fn shard_of(number: u64, congestion: Algorithm) -> Shard<Watched, SeededEntropy> {
    let settings = NodeSettings::default();
    let mut chance = Rng::from_number(number);
    let mut key = [0; 32];
    chance.fill(&mut key);
    let config = ShardConfig {
        index: 0,
        placement: dunlin_shards::placement::Placement::new(1, Default::default()),
        steered: true,
        network: settings.network,
        suite: settings.suite,
        instance: InstanceId::default(),
        cookie_root: key,
        reset_secret: key,
        zero_rtt: true,
        shared_identity: false,
        fresh_identity: true,
        own_addresses: Vec::new(),
        trusted: Vec::new(),
        handshake_deadline: settings.handshake_deadline,
        settings: Settings { congestion, ..settings.sessions },
    };
    Shard::new(config, Identity::from_seed(key), SeededEntropy(chance), Limits::small())
}

impl Counted {
    fn new(number: u64, congestion: Algorithm) -> Self {
        let before = held();
        let shard = shard_of(number, congestion);
        let held = held() - before;
        let address = SocketAddr::from(([10, 0, number as u8, 1], 7117));
        Self { id: shard.id(), shard, address, held, sessions: Vec::with_capacity(2 * PEERS), came: 0 }
    }

    /// Does something with the shard, and counts.
    fn counted<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = held();
        let made = act(self);
        self.held += held() - before;
        made
    }

    fn post(&mut self, now: Now, mail: Mail) {
        self.shard.handle_mail(now, mail::From::Application, mail);
    }

    fn connect(&mut self, now: Now, id: NodeId, remote: SocketAddr) {
        self.counted(|this| {
            let instance = InstanceId::default();
            let connect = Connect { ticket: Ticket(1), id: Some(id), remote, early: Vec::new(), instance };
            this.post(now, Mail::Connect(Box::new(connect)));
        });
    }

    fn send(&mut self, now: Now, session: SessionId) {
        let block = self.shard.take_block(MESSAGE_LEN).unwrap();
        let (channel, ordered, reliable, priority) = (ChannelId(0), true, true, 128);
        let message = Outgoing {
            ticket: 1,
            block,
            channel,
            ordered,
            reliable,
            priority,
            once: false,
            idempotent: false,
        };
        self.post(now, Mail::Send { session, message });
    }

    /// Reads events; whoever has a new session sends its messages.
    fn on_events(&mut self, now: Now) {
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Connected { session, .. } | Event::Accepted { session, .. } => {
                    self.sessions.push(session);
                    (0..MESSAGES).for_each(|_| self.send(now, session));
                }
                Event::Message { session, channel, block, charge } => {
                    self.came += 1;
                    self.post(now, Mail::Consumed { session, channel, charge, block });
                }
                Event::Released { released, .. } => self.shard.give_block(released.block),
                Event::Closed { reason, .. } | Event::ConnectFailed { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
    }

    /// What is due; a train, with its receiver, when there is one.
    fn work(&mut self, now: Now, frame: &mut [u8]) -> Option<(SocketAddr, usize, usize)> {
        self.counted(|this| {
            if this.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
                this.shard.handle_timeout(now);
            }
            this.on_events(now);
            while let Some((mail::Destination::Shard(shard), mail)) = this.shard.poll_mail() {
                this.shard.handle_mail(now, mail::From::Shard(shard), mail);
            }
            let transmit = this.shard.poll_transmit(now, frame)?;
            Some((transmit.remote, transmit.segment_len, transmit.len))
        })
    }
}

/// The hub is the first node.
struct Star {
    nodes: Vec<Counted>,
    now: Now,
    frame: Vec<u8>,
}

impl Star {
    fn new(congestion: Algorithm) -> Self {
        let nodes = (0..=PEERS as u64).map(|number| Counted::new(number, congestion)).collect();
        let now = Now { instant: Instant::ZERO, wall: WallMillis(1_760_000_000_000) };
        Self { nodes, now, frame: vec![0; FRAME_LEN] }
    }

    fn carry(&mut self, from: usize) -> bool {
        let Some((to, segment_len, len)) = self.nodes[from].work(self.now, &mut self.frame) else {
            return false;
        };
        let (remote, now) = (self.nodes[from].address, self.now);
        let arrival =
            Arrival { local: None, remote, socket: Default::default(), ecn: Default::default(), segment_len };
        let to = self.nodes.iter_mut().find(|node| node.address == to).unwrap();
        let bytes = &mut self.frame[..len];
        to.counted(|to| to.shard.handle_datagram(now, &arrival, bytes));
        true
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.now.instant + time;
        while self.now.instant < until {
            self.now.instant += STEP;
            self.now.wall.0 += STEP.as_millis() as u64;
            loop {
                let busy = (0..self.nodes.len()).fold(false, |busy, node| self.carry(node) | busy);
                if !busy {
                    break;
                }
            }
        }
    }

    /// Peers in turn have a session and a burst of messages with the hub; then all are quiet. What the hub holds.
    fn call(&mut self, peers: RangeInclusive<usize>, hub_calls: bool) -> isize {
        for peer in peers {
            let (from, to) = if hub_calls { (0, peer) } else { (peer, 0) };
            let (id, address) = (self.nodes[to].id, self.nodes[to].address);
            let now = self.now;
            self.nodes[from].connect(now, id, address);
            self.run_for(BURST);
            assert_eq!(self.nodes[peer].came, MESSAGES, "peer {peer} has all");
        }
        let loaded = self.nodes[0].held;
        self.run_for(SHRINK_AFTER * 3);
        let quiet = self.nodes[0].held;
        assert!(quiet < loaded, "quiet sessions free what a burst left behind");
        quiet
    }

    /// Bytes that one more idle session costs: free blocks are the shard's, and the first sessions' bursts brought them.
    fn measure(hub_calls: bool, congestion: Algorithm) -> usize {
        let mut star = Self::new(congestion);
        let few = star.call(1..=FEW, hub_calls);
        let many = star.call(FEW + 1..=PEERS, hub_calls);
        let hub = &star.nodes[0];
        assert_eq!((hub.came, hub.shard.sessions()), (PEERS * MESSAGES, PEERS), "all came, all live");
        let each = (many - few) as usize / (PEERS - FEW);
        println!("hub calls: {hub_calls}, {congestion:?}: {each} B a session");
        each
    }
}

#[test]
fn an_empty_shard_is_small() {
    let shard = Counted::new(0, Algorithm::Cubic);
    let len = shard.held as usize + size_of::<Shard<Watched, SeededEntropy>>();
    println!("an empty shard: {len} B, of them {} B allocated", shard.held);
    assert!(len <= SHARD_MAX, "{len} bytes, {SHARD_MAX} are allowed");
}

#[test]
fn an_idle_session_that_called_is_small() {
    let len = Star::measure(true, Algorithm::Cubic);
    assert!(len <= SESSION_MAX, "{len} bytes, {SESSION_MAX} are allowed");
}

#[test]
fn an_idle_session_that_was_called_is_small() {
    let len = Star::measure(false, Algorithm::Cubic);
    assert!(len <= SESSION_MAX, "{len} bytes, {SESSION_MAX} are allowed");
}

/// BBR's model of the path has its own memory, and the records of packets under way go when nothing is.
#[test]
fn an_idle_session_by_bbr_is_small() {
    let len = Star::measure(true, Algorithm::Bbr);
    assert!(len <= SESSION_BBR_MAX, "{len} bytes, {SESSION_BBR_MAX} are allowed");
}
