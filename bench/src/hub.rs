//! A node of one or many shards and its callers, joined by memory: everything that its cores do but sockets and wake-ups.
//!
//! In:    how many shards and callers, how many messages; whose work is to be counted.
//! Out:   the same traffic each time, counted work of the node's shards alone.
//! Holds: a datagram reaches the shard that the steering program would choose; letters travel by the engine's kind of
//!        ring; time is virtual, and a shard that has nothing to do does not run.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use dunlin_codec::ids::{InstanceId, SessionId};
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::Limits;
use dunlin_shards::mail::{self, Connect, Destination, Mail};
use dunlin_shards::placement::{Placement, PlacementSeeds};
use dunlin_shards::rng::{Rng, SeededEntropy};
use dunlin_shards::route::{Arrival, FRAME_LEN, SocketIndex, Transmit};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::shard::{Shard, ShardConfig};
use dunlin_shards::time::{Instant, Now, WallMillis};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::pair::{Shape, config};

/// Virtual time from one round to the next.
const ROUND: Duration = Duration::from_millis(1);
/// Rounds in which everything under way ends.
const SETTLING_ROUNDS: usize = 200;
/// Trains that a shard gives out in one turn.
const TRAINS: usize = 8;
/// Letters that a ring holds.
const LETTERS: usize = 256;
/// Bytes of a message.
const MESSAGE_LEN: usize = 1_024;
/// Rounds between two messages of a caller: acknowledgements travel between them.
const MESSAGE_EVERY: usize = 4;
/// The wall clock's beginning, in milliseconds.
const WALL: u64 = 1_700_000_000_000;
/// What the node's identity and secrets are made of.
const NODE: u8 = 255;

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Shards of the node.
    pub shards: usize,
    /// Callers, each with one session.
    pub callers: usize,
    /// Messages of each caller, every one of which is sent back.
    pub messages: usize,
}

/// What is done when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// All callers open their sessions.
    Handshakes,
    /// Messages there and back.
    Messages,
}

/// What the node's shards came to in a phase.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Work {
    /// Datagrams that each shard took in.
    pub datagrams: Vec<u64>,
    /// Letters between shards.
    pub letters: u64,
    /// Messages that came back to callers.
    pub echoed: u64,
}

/// One shard of the node with its rings.
struct Core {
    shard: Shard<AwsLc, SeededEntropy>,
    to: Vec<Option<Producer<Mail>>>,
    from: Vec<Option<Consumer<Mail>>>,
    inbox: Vec<(Arrival, Vec<u8>)>,
    frames: Vec<Vec<u8>>,
    trains: Vec<Transmit>,
    /// To whom letters were written in this turn.
    written: Vec<u8>,
    letters: u64,
}

/// A node of one shard with one session.
struct Caller {
    shard: Shard<AwsLc, SeededEntropy>,
    address: SocketAddr,
    session: Option<SessionId>,
    echoed: u64,
}

/// The node and its callers.
pub struct Hub {
    crowd: Crowd,
    placement: Placement,
    address: SocketAddr,
    cores: Vec<Core>,
    callers: Vec<Caller>,
    /// Shards that have letters.
    has_mail: Vec<bool>,
    now: Instant,
    frame: Vec<u8>,
    /// The shards whose work is counted now; all, one or none.
    counted: Range<usize>,
}

impl Hub {
    /// A node and callers that do not know each other yet.
    #[must_use]
    pub fn new(crowd: Crowd) -> Self {
        let placement = Placement::new(crowd.shards, PlacementSeeds { steering: 7, keys: [1, 2] });
        let mut cores: Vec<Core> = (0..crowd.shards).map(|index| Core::new(index, placement)).collect();
        for from in 0..crowd.shards {
            for to in (0..crowd.shards).filter(|to| *to != from) {
                let (producer, consumer) = RingBuffer::new(LETTERS);
                cores[from].to[to] = Some(producer);
                cores[to].from[from] = Some(consumer);
            }
        }
        Self {
            callers: (0..crowd.callers).map(Caller::new).collect(),
            has_mail: vec![false; crowd.shards],
            cores,
            placement,
            crowd,
            address: SocketAddr::from(([192, 0, 2, 1], 7117)),
            now: Instant::from_nanos(1_000_000_000),
            frame: vec![0; FRAME_LEN],
            counted: 0..0,
        }
    }

    /// Both phases; the work of these shards is done where it can be counted during one of them.
    ///
    /// # Panics
    /// When a session cannot be opened or a message does not come back: the shards are broken.
    pub fn run(&mut self, phase: Phase, counted: Range<usize>) -> Work {
        let mut work = Work::default();
        for current in [Phase::Handshakes, Phase::Messages] {
            self.counted = if current == phase { counted.clone() } else { 0..0 };
            let before = self.work();
            match current {
                Phase::Handshakes => self.shake(),
                Phase::Messages => self.talk(),
            }
            if current == phase {
                work = self.work().since(&before);
            }
        }
        work
    }

    /// One call a round, so that no shard thinks itself under load.
    fn shake(&mut self) {
        let id = self.cores[0].shard.id();
        for at in 0..self.callers.len() {
            let connect = Connect {
                ticket: Ticket(1),
                id: Some(id),
                remote: self.address,
                early: Vec::new(),
                instance: InstanceId::default(),
            };
            let now = now_of(self.now);
            let mail = Mail::Connect(Box::new(connect));
            self.callers[at].shard.handle_mail(now, mail::From::Application, mail);
            self.round();
        }
        (0..SETTLING_ROUNDS).for_each(|_| self.round());
        assert!(self.callers.iter().all(|caller| caller.session.is_some()), "everybody has a session");
        let drops: u64 = self.cores.iter().map(|core| core.shard.stats().drops_total()).sum();
        assert_eq!(drops, 0, "nothing is lost in memory");
    }

    fn talk(&mut self) {
        for _ in 0..self.crowd.messages {
            let now = now_of(self.now);
            for caller in &mut self.callers {
                let Some(session) = caller.session else { continue };
                let mut block =
                    caller.shard.take_block(MESSAGE_LEN).expect("a caller has room for a message");
                block.fill_from(&[5; MESSAGE_LEN]);
                let mail = Mail::Send { session, message: Outgoing::new(block) };
                caller.shard.handle_mail(now, mail::From::Application, mail);
            }
            (0..MESSAGE_EVERY).for_each(|_| self.round());
        }
        (0..SETTLING_ROUNDS).for_each(|_| self.round());
        let each = self.crowd.messages as u64;
        assert!(self.callers.iter().all(|caller| caller.echoed == each), "every message comes back");
    }

    /// Callers speak, the node's shards do, and callers hear what they said.
    fn round(&mut self) {
        let now = now_of(self.now);
        for caller in &mut self.callers {
            caller.turn(now);
            while let Some(train) = caller.shard.poll_transmit(now, &mut self.frame) {
                let bytes = &self.frame[..train.len];
                let owner = self.placement.of_datagram(caller.address, bytes);
                let arrival = arrival(&train, caller.address, self.address.ip());
                self.cores[usize::from(owner.0)].inbox.push((arrival, bytes.to_vec()));
            }
        }
        let now = now_of(self.now + ROUND / 2);
        for index in 0..self.cores.len() {
            let core = &mut self.cores[index];
            let has_mail = std::mem::take(&mut self.has_mail[index]);
            let is_due = core.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant);
            if core.inbox.is_empty() && !has_mail && !is_due {
                continue;
            }
            if self.counted.contains(&index) {
                step_counted(core, now);
            } else {
                step_beside(core, now);
            }
            core.written.drain(..).for_each(|to| self.has_mail[usize::from(to)] = true);
            // What did not fit into this turn's frames goes on in the next.
            self.has_mail[index] |= core.trains.len() == TRAINS;
            for (train, frame) in core.trains.iter().zip(&mut core.frames) {
                let Some(caller) = self.callers.get_mut(number_of(train.remote)) else { continue };
                let arrival = arrival(train, self.address, caller.address.ip());
                caller.shard.handle_datagram(now, &arrival, &mut frame[..train.len]);
            }
        }
        self.now += ROUND;
    }

    fn work(&self) -> Work {
        Work {
            datagrams: self.cores.iter().map(|core| core.shard.stats().datagrams_in).collect(),
            letters: self.cores.iter().map(|core| core.letters).sum(),
            echoed: self.callers.iter().map(|caller| caller.echoed).sum(),
        }
    }
}

impl Work {
    fn since(&self, before: &Self) -> Self {
        let pairs = self.datagrams.iter().zip(&before.datagrams);
        Self {
            datagrams: pairs.map(|(after, before)| after - before).collect(),
            letters: self.letters - before.letters,
            echoed: self.echoed - before.echoed,
        }
    }
}

/// Sessions of the busiest shard as a multiple of the mean, when so many addresses are placed as the node's are.
#[must_use]
pub fn imbalance(shards: usize, sessions: usize) -> f64 {
    let placement = Placement::new(shards, PlacementSeeds { steering: 7, keys: [1, 2] });
    let mut counts = vec![0_u64; shards];
    (0..sessions).for_each(|number| counts[usize::from(placement.of_address(address_of(number)).0)] += 1);
    counts.iter().copied().max().unwrap_or(0) as f64 * shards as f64 / sessions as f64
}

fn address_of(number: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0A00_0001 + number as u32)), 7117)
}

fn number_of(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) => u32::from(ip).wrapping_sub(0x0A00_0001) as usize,
        IpAddr::V6(_) => usize::MAX,
    }
}

fn arrival(train: &Transmit, from: SocketAddr, to: IpAddr) -> Arrival {
    Arrival {
        local: Some(to),
        remote: from,
        socket: SocketIndex(0),
        ecn: train.ecn,
        segment_len: train.segment_len,
    }
}

impl Core {
    fn new(index: usize, placement: Placement) -> Self {
        let limits = Limits { sessions: 1 << 14, ..Limits::small() };
        let config = ShardConfig { index: index as u8, placement, ..config(NODE, &Shape::default()) };
        let entropy = SeededEntropy(Rng::from_number(1_000 + index as u64));
        Self {
            shard: Shard::new(config, Identity::from_seed([NODE; 32]), entropy, limits),
            to: (0..placement.shard_count()).map(|_| None).collect(),
            from: (0..placement.shard_count()).map(|_| None).collect(),
            inbox: Vec::new(),
            frames: vec![vec![0; FRAME_LEN]; TRAINS],
            trains: Vec::with_capacity(TRAINS),
            written: Vec::new(),
            letters: 0,
        }
    }

    /// One turn as the engine's cores take it.
    fn turn(&mut self, now: Now) {
        for (arrival, bytes) in &mut self.inbox {
            self.shard.handle_datagram(now, arrival, bytes);
        }
        self.inbox.clear();
        for (index, ring) in self.from.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            while let Ok(mail) = ring.pop() {
                self.letters += 1;
                self.shard.handle_mail(now, mail::From::Shard(index as u8), mail);
            }
        }
        if self.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.shard.handle_timeout(now);
        }
        self.drain(now);
        self.trains.clear();
        for frame in &mut self.frames {
            let Some(train) = self.shard.poll_transmit(now, frame) else { break };
            self.trains.push(train);
        }
        self.drain(now);
        while let Some((Destination::Shard(to), mail)) = self.shard.poll_mail() {
            let Some(Some(ring)) = self.to.get_mut(usize::from(to)) else { continue };
            match ring.push(mail) {
                Ok(()) => self.written.push(to),
                Err(rtrb::PushError::Full(mail)) => self.shard.handle_undelivered(now, mail),
            }
        }
    }

    /// Messages are sent back, as a handler does it.
    fn drain(&mut self, now: Now) {
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Message { session, channel, block, charge } => {
                    if let Some(mut copy) = self.shard.take_block(block.len()) {
                        copy.fill_from(&block);
                        let mail = Mail::Send { session, message: Outgoing::new(copy) };
                        self.shard.handle_mail(now, mail::From::Application, mail);
                    }
                    let mail = Mail::Consumed { session, channel, charge, block };
                    self.shard.handle_mail(now, mail::From::Application, mail);
                }
                Event::Released { released, .. } => self.shard.give_block(released.block),
                Event::Closed { reason, .. } => panic!("a session ended: {reason}"),
                _ => {}
            }
        }
    }
}

impl Caller {
    fn new(number: usize) -> Self {
        let mut rng = Rng::from_number(number as u64);
        let seed = std::array::from_fn(|_| rng.next_u64() as u8);
        let config = config(0, &Shape::default());
        let limits = Limits { sessions: 4, half_open: 1, strikes: 16, identities: 16, ..Limits::small() };
        Self {
            shard: Shard::new(config, Identity::from_seed(seed), SeededEntropy(rng), limits),
            address: address_of(number),
            session: None,
            echoed: 0,
        }
    }

    fn turn(&mut self, now: Now) {
        if self.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.shard.handle_timeout(now);
        }
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Connected { session, .. } => self.session = Some(session),
                Event::Message { session, channel, block, charge } => {
                    self.echoed += 1;
                    let mail = Mail::Consumed { session, channel, charge, block };
                    self.shard.handle_mail(now, mail::From::Application, mail);
                }
                Event::Released { released, .. } => self.shard.give_block(released.block),
                Event::Closed { reason, .. } | Event::ConnectFailed { reason, .. } => {
                    panic!("a session ended: {reason}");
                }
                _ => {}
            }
        }
    }
}

// Two functions that do the same would be made one; each name that is looked at keeps them apart.

#[inline(never)]
fn step_counted(core: &mut Core, now: Now) {
    black_box("counted");
    core.turn(now);
}

#[inline(never)]
fn step_beside(core: &mut Core, now: Now) {
    black_box("beside");
    core.turn(now);
}

fn now_of(instant: Instant) -> Now {
    Now { instant, wall: WallMillis(WALL + instant.as_nanos() / 1_000_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The traffic is the same however many shards there are, every shard has a part in it, and only handshakes write letters.
    #[test]
    fn the_same_traffic_passes_through_any_number_of_shards() {
        let run = |shards, phase| {
            let mut hub = Hub::new(Crowd { shards, callers: 24, messages: 3 });
            hub.run(phase, 0..shards)
        };
        let (one, three) = (run(1, Phase::Messages), run(3, Phase::Messages));
        assert_eq!((one.echoed, three.echoed), (72, 72));
        assert_eq!((one.letters, three.letters), (0, 0));
        assert_eq!(one.datagrams.iter().sum::<u64>(), three.datagrams.iter().sum::<u64>());
        assert!(three.datagrams.iter().all(|datagrams| *datagrams > 0), "{three:?}");
        assert_eq!(run(1, Phase::Handshakes).letters, 0);
        assert!(run(3, Phase::Handshakes).letters > 0);
    }

    #[test]
    fn many_sessions_are_spread_more_evenly_than_few() {
        assert!((imbalance(1, 100) - 1.0).abs() < 1e-9);
        let (few, many) = (imbalance(64, 640), imbalance(64, 100_000));
        assert!(many >= 1.0 && many < few, "{few} {many}");
    }
}
