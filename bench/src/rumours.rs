//! A node that carries rumours on: one shard with its neighbours, one link that brings them, others that take them.
//!
//! In:    how many rumours; links that take them.
//! Out:   what was taken, refused and carried on; processor time of that node alone, and of bare verifying between its rounds.
//! Holds: the clock is virtual and all are joined by memory; sockets and wake-ups are not in it, sessions and encryption are.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use dunlin_codec::bytes::Reader;
use dunlin_codec::ids::{InstanceId, SessionId};
use dunlin_codec::message::{Carried, EVERYBODY, Freshness, Operation, Signed, SignedHeader};
use dunlin_shards::dht::known::Known;
use dunlin_shards::dht::space::Space;
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::gossip::{Rumour, RumourLimits, check_signature};
use dunlin_shards::identity::Identity;
use dunlin_shards::mail::{self, Connect, Mail};
use dunlin_shards::messages::conversation::{Bench, Conversation, Fact, Terms};
use dunlin_shards::neighbours::{HUB, Neighbours, Seat};
use dunlin_shards::rng::Rng;
use dunlin_shards::time::{Instant, Now};
use rustix::time::{ClockId, clock_gettime};

use crate::pair::{Shape, config};
use crate::questions::{NETWORK, Side, WALL, now_of, say, terms};

/// Rounds until everything that begins a session has been said, and the links stand.
const SETTLING_ROUNDS: usize = 400;
/// Who says something, one after the other.
const ORIGINS: u64 = 1_024;
/// Rumours that are brought together.
const TOGETHER: usize = 64;
/// The node that is measured.
const OWN: u8 = 1;

/// One at the other end of a link.
struct Peer {
    side: Side,
    bench: Bench,
    talk: Option<(SessionId, Conversation)>,
    is_link_asked: bool,
    /// Rumours that came.
    came: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carrying {
    /// Rumours that were verified and taken.
    pub taken: u64,
    /// Copies of them that came to the others.
    pub carried: u64,
    /// Copies that were refused, as they were seen before.
    pub duplicates: u64,
    /// Processor time of the node.
    pub time: Duration,
    /// Processor time of verifying the same rumours and nothing else.
    pub bare: Duration,
}

/// A node and its links; the first brings, the others take.
pub struct Rumours {
    node: Side,
    neighbours: Neighbours,
    peers: Vec<Peer>,
    origins: Vec<Identity>,
    said: u64,
    now: Instant,
}

impl Rumours {
    /// A node with so many links besides the one that brings, and its limits.
    ///
    /// # Panics
    /// When the links do not come to stand: the shards are broken.
    #[must_use]
    pub fn connect(links: u8, limits: RumourLimits) -> Self {
        let shape = Shape::default();
        let node = Side::new(OWN, &shape);
        let now = Instant::from_nanos(1_000_000_000);
        let identity = Identity::from_seed([OWN; 32]);
        let seat =
            Seat { shard: HUB, placement: config(OWN, &shape).placement, endpoints: vec![node.address] };
        let own_terms = Terms { rumours: limits, ..terms(identity.id()) };
        let neighbours = Neighbours::new(&identity, own_terms, &seat, (now_of(now), Rng::from_number(3)));
        let peers = (0..=links).map(|number| Peer::call(OWN + 1 + number, &node, now)).collect();
        let origins = (0..ORIGINS).map(|number| {
            let mut seed = [5; 32];
            seed[..8].copy_from_slice(&number.to_be_bytes());
            Identity::from_seed(seed)
        });
        let mut this = Self { node, neighbours, peers, origins: origins.collect(), said: 0, now };
        for _ in 0..SETTLING_ROUNDS {
            this.round(&[], &mut Carrying::default());
        }
        let is_linked = |peer: &Peer| peer.talk.as_ref().is_some_and(|(_, talk)| talk.is_link());
        assert!(this.peers.iter().all(is_linked), "the links stand");
        this
    }

    /// Has so many new rumours brought, then each of them once more for each of `again`.
    pub fn run(&mut self, count: usize, again: usize) -> (Carrying, Carrying) {
        let messages: Vec<Box<[u8]>> = (0..count).map(|_| self.say_something()).collect();
        let mut fresh = Carrying::default();
        self.bring(&messages, true, &mut fresh);
        let mut copies = Carrying::default();
        for _ in 0..again {
            self.bring(&messages, false, &mut copies);
        }
        (fresh, copies)
    }

    fn say_something(&mut self) -> Box<[u8]> {
        let origin = &self.origins[(self.said % ORIGINS) as usize];
        let freshness = Freshness { time_ms: WALL + 2_000, instance: 1, count: self.said / ORIGINS };
        let payload = [&[0xce][..], &(self.said as u32).to_be_bytes()].concat();
        self.said += 1;
        let header = SignedHeader {
            operation: Operation::Shout,
            is_sealed: false,
            from: origin.id(),
            to: EVERYBODY,
            freshness: Some(freshness),
        };
        Rumour::sign(origin, &NETWORK, (&header, &payload), None).message().bytes().into()
    }

    fn bring(&mut self, messages: &[Box<[u8]>], is_fresh: bool, carrying: &mut Carrying) {
        let before = self.neighbours.rumours();
        let came_before: u64 = self.peers.iter().map(|peer| peer.came).sum();
        for together in messages.chunks(TOGETHER) {
            // What else the machine does hits both alike.
            if is_fresh {
                carrying.bare += time_bare(together);
            }
            self.round(together, carrying);
        }
        for _ in 0..20 {
            self.round(&[], carrying);
        }
        let after = self.neighbours.rumours();
        let refused = |counts: &dunlin_shards::gossip::Counts| {
            counts.refused(dunlin_shards::gossip::Refusal::Duplicate)
        };
        carrying.taken += after.taken - before.taken;
        carrying.duplicates += refused(&after) - refused(&before);
        carrying.carried += self.peers.iter().map(|peer| peer.came).sum::<u64>() - came_before;
    }

    fn round(&mut self, messages: &[Box<[u8]>], carrying: &mut Carrying) {
        let now = now_of(self.now);
        if let Some(Peer { side, talk: Some((session, talk)), .. }) = self.peers.first_mut() {
            for message in messages {
                let message = Signed::parse(&mut Reader::new(message)).expect("we wrote it");
                talk.carry(&Carried { hops: 3, message }).expect("the bringer has room");
            }
            say(side, *session, talk, now);
        }
        self.peers.iter_mut().for_each(|peer| peer.transmit(now));
        let begun = processor_time();
        step_carry((&mut self.node, &mut self.neighbours), now, &mut self.peers);
        carrying.time += processor_time() - begun;
        self.now += Duration::from_micros(100);
        let now = now_of(self.now);
        for peer in &mut self.peers {
            peer.side.receive(now, &mut self.node);
            peer.hear(now);
        }
    }
}

impl Peer {
    fn call(number: u8, node: &Side, now: Instant) -> Self {
        let mut side = Side::new(number, &Shape::default());
        let nobody = Arc::new(Known::nobody(side.shard.id(), Space::new(256)));
        let connect = Connect {
            ticket: Ticket(1),
            id: Some(node.shard.id()),
            remote: node.address,
            early: Vec::new(),
            instance: InstanceId::default(),
        };
        side.shard.handle_mail(now_of(now), mail::From::Application, Mail::Connect(Box::new(connect)));
        let bench = Bench::new(terms(side.shard.id()), nobody);
        Self { side, bench, talk: None, is_link_asked: false, came: 0 }
    }

    fn transmit(&mut self, now: Now) {
        self.bench.now = now.instant;
        self.side.transmit(now);
    }

    fn hear(&mut self, now: Now) {
        self.bench.now = now.instant;
        while let Some(event) = self.side.shard.poll_event() {
            match event {
                Event::Connected { session, peer, .. } => {
                    let talk = Conversation::begin(&mut self.bench, peer, false);
                    self.talk = Some((session, talk));
                }
                Event::Message { session, channel, block, charge } => {
                    if let Some((_, talk)) = &mut self.talk {
                        talk.on_transmission(&mut self.bench, channel, &block);
                    }
                    let mail = Mail::Consumed { session, channel, charge, block };
                    self.side.shard.handle_mail(now, mail::From::Application, mail);
                }
                Event::Released { released, .. } => self.side.shard.give_block(released.block),
                Event::Closed { reason, .. } => panic!("a session ended: {reason}"),
                _ => {}
            }
            self.came += self.talk.as_mut().map_or(0, |(_, talk)| carried_facts(talk));
        }
        let Some((session, talk)) = &mut self.talk else { return };
        if talk.is_met() && !self.is_link_asked {
            self.is_link_asked = true;
            talk.ask_link(&mut self.bench, Ticket(2), true).expect("nothing was asked before");
        }
        self.came += carried_facts(talk);
        say(&mut self.side, *session, talk, now);
    }
}

fn carried_facts(talk: &mut Conversation) -> u64 {
    let mut count = 0;
    while let Some(fact) = talk.poll_fact() {
        count += u64::from(matches!(fact, Fact::Carried { .. }));
    }
    count
}

/// What verifying these alone takes.
fn time_bare(messages: &[Box<[u8]>]) -> Duration {
    let mut copies = messages.to_vec();
    let begun = processor_time();
    for message in &mut copies {
        check_signature(&NETWORK, black_box(message)).expect("it was signed");
    }
    processor_time() - begun
}

/// What this thread has had of its processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Everything that the node's core does in a round, as its driver does it.
#[inline(never)]
fn step_carry((node, neighbours): (&mut Side, &mut Neighbours), now: Now, peers: &mut [Peer]) {
    black_box("carry");
    peers.iter_mut().for_each(|peer| node.receive(now, &mut peer.side));
    if neighbours.poll_timeout().is_some_and(|at| at <= now.instant) {
        neighbours.handle_timeout(now);
    }
    for _ in 0..2 {
        while let Some(event) = node.shard.poll_event() {
            neighbours.on_event(now, &mut node.shard, event);
        }
        neighbours.post(now, &mut node.shard);
        while neighbours.poll_notice().is_some() {}
    }
    node.transmit(now);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each rumour is taken once and goes to each of the others; copies are refused.
    #[test]
    fn rumours_are_carried_on_once() {
        let mut rumours = Rumours::connect(3, RumourLimits::UNLIMITED);
        let (fresh, copies) = rumours.run(500, 2);
        assert_eq!((fresh.taken, fresh.carried, fresh.duplicates), (500, 1_500, 0));
        assert_eq!((copies.taken, copies.carried, copies.duplicates), (0, 0, 1_000));
    }

    /// The core's default share for rumours holds, however many come at once.
    #[test]
    fn the_default_budget_holds() {
        let mut rumours = Rumours::connect(1, RumourLimits::default());
        let (fresh, _) = rumours.run(2_000, 0);
        assert!(fresh.taken >= 500 && fresh.taken < 700, "the link's burst and a little: {fresh:?}");
    }
}
