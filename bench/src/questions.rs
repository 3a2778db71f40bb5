//! A node that is asked: one shard with its neighbours answers FIND_NODE for one peer that keeps as many questions open as it may.
//!
//! In:    rounds; how many nodes the table has.
//! Out:   answers, bytes, real time of the answering side alone.
//! Holds: the clock is virtual and both sides are joined by memory; sockets and wake-ups are not in it.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use dunlin_codec::args::{Ack, Request};
use dunlin_codec::ids::{Address, InstanceId, NodeId, SessionId};
use dunlin_codec::label::Network;
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::dht::contact::Contact;
use dunlin_shards::dht::known::Known;
use dunlin_shards::dht::space::Space;
use dunlin_shards::dht::table::Table;
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::{Limits, REQUEST_TIMEOUT, REQUESTS_OPEN_MAX};
use dunlin_shards::mail::{self, Connect, Mail};
use dunlin_shards::messages::conversation::{Bench, Constants, Conversation, Fact, Terms};
use dunlin_shards::neighbours::{HUB, Neighbours, Seat};
use dunlin_shards::note::Note;
use dunlin_shards::rng::{Rng, SeededEntropy};
use dunlin_shards::route::{Arrival, FRAME_LEN, Transmit};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::shard::Shard;
use dunlin_shards::time::{Instant, Now, WallMillis};

use crate::pair::{Shape, config};

/// Rounds until everything that begins a session has been said.
const SETTLING_ROUNDS: usize = 200;
/// Trains of one side in a round at most.
const TRAINS: usize = 64;
/// The wall clock's beginning, in milliseconds.
pub(crate) const WALL: u64 = 1_700_000_000_000;
pub(crate) const NETWORK: Network = Network([7; 32]);

/// A shard and the trains that it wrote.
pub(crate) struct Side {
    pub(crate) shard: Shard<AwsLc, SeededEntropy>,
    pub(crate) address: SocketAddr,
    frames: Vec<Vec<u8>>,
    trains: Vec<Transmit>,
}

/// What was asked and answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// Answers with nodes.
    pub answers: u64,
    /// Nodes in them.
    pub nodes: u64,
    /// Real time of the answering side.
    pub time: Duration,
}

/// One that asks, one that answers.
pub struct Questions {
    near: Side,
    far: Side,
    neighbours: Neighbours,
    bench: Bench,
    talk: Option<(SessionId, Conversation)>,
    rng: Rng,
    now: Instant,
}

impl Side {
    pub(crate) fn new(number: u8, shape: &Shape) -> Self {
        let identity = Identity::from_seed([number; 32]);
        let entropy = SeededEntropy(Rng::from_number(number.into()));
        Self {
            shard: Shard::new(config(number, shape), identity, entropy, Limits::default()),
            address: SocketAddr::from(([10, 0, 2, number], 7117)),
            frames: vec![vec![0; FRAME_LEN]; TRAINS],
            trains: Vec::with_capacity(TRAINS),
        }
    }

    pub(crate) fn transmit(&mut self, now: Now) {
        if self.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.shard.handle_timeout(now);
        }
        self.trains.clear();
        for frame in &mut self.frames {
            let Some(train) = self.shard.poll_transmit(now, frame) else { break };
            self.trains.push(train);
        }
    }

    /// Takes in what the other wrote to it.
    pub(crate) fn receive(&mut self, now: Now, from: &mut Self) {
        for (train, frame) in from.trains.iter().zip(&mut from.frames) {
            if train.remote != self.address {
                continue;
            }
            let arrival = Arrival {
                local: Some(self.address.ip()),
                remote: from.address,
                socket: train.socket,
                ecn: train.ecn,
                segment_len: train.segment_len,
            };
            self.shard.handle_datagram(now, &arrival, &mut frame[..train.len]);
        }
    }
}

pub(crate) fn terms(own: NodeId) -> Terms {
    let terms =
        Terms::new(own, NETWORK, Constants::default(), "").expect("the usual constants are good ones");
    Terms { requests_per_second: 1_000_000_000, ..terms }
}

/// A table of so many nodes.
fn known(own: u8, nodes: u16) -> Arc<Known> {
    let space = Space::new(256);
    let sign = |seed: [u8; 32], endpoint: SocketAddr| {
        Contact::sign(&Identity::from_seed(seed), &NETWORK, (1, WallMillis(WALL)), &[endpoint])
    };
    let own = sign([own; 32], SocketAddr::from(([10, 0, 2, own], 7117)));
    let mut table = Table::new(own.id(), space, 16);
    for node in 0..nodes {
        let mut seed = [9; 32];
        seed[..2].copy_from_slice(&node.to_be_bytes());
        let [high, low] = node.to_be_bytes();
        let endpoint = SocketAddr::from(([10, 1, high, low], 7117));
        let contact = sign(seed, endpoint);
        table.on_told(Instant::ZERO, contact.clone(), contact.id());
        table.on_answer(Instant::ZERO, &contact.id(), endpoint);
    }
    Arc::new(Known::new(&table, space, (&own, Vec::new())))
}

impl Questions {
    /// Two nodes that talk; the far one has met so many others.
    ///
    /// # Panics
    /// When they do not come to talk: the shards are broken.
    #[must_use]
    pub fn connect(nodes: u16) -> Self {
        let shape = Shape::default();
        let (near, far) = (Side::new(1, &shape), Side::new(2, &shape));
        let now = Instant::from_nanos(1_000_000_000);
        let identity = Identity::from_seed([2; 32]);
        let placement = config(2, &shape).placement;
        let seat = Seat { shard: HUB, placement, endpoints: vec![far.address] };
        let start = (now_of(now), Rng::from_number(3));
        let nobody = Arc::new(Known::nobody(near.shard.id(), Space::new(256)));
        let mut this = Self {
            neighbours: Neighbours::new(&identity, terms(identity.id()), &seat, start),
            bench: Bench::new(terms(near.shard.id()), nobody),
            talk: None,
            rng: Rng::from_number(4),
            near,
            far,
            now,
        };
        let connect = Connect {
            ticket: Ticket(1),
            id: Some(this.far.shard.id()),
            remote: this.far.address,
            early: Vec::new(),
            instance: InstanceId::default(),
        };
        let connect = Mail::Connect(Box::new(connect));
        this.near.shard.handle_mail(now_of(now), mail::From::Application, connect);
        for _ in 0..SETTLING_ROUNDS {
            this.round(&mut Answered::default(), false);
        }
        assert!(this.talk.as_ref().is_some_and(|(_, talk)| talk.is_met()), "the two come to talk");
        this.neighbours.handle_note(now_of(this.now), Note::Known(known(2, nodes)));
        this
    }

    /// Asks and answers for so many rounds of 100 us of virtual time.
    pub fn run(&mut self, rounds: u64) -> Answered {
        let mut answered = Answered::default();
        for _ in 0..rounds {
            self.round(&mut answered, true);
        }
        answered
    }

    fn round(&mut self, answered: &mut Answered, is_asking: bool) {
        let now = now_of(self.now);
        self.bench.now = self.now;
        if is_asking {
            self.ask(now);
        }
        self.near.transmit(now);
        self.hear(now, answered);
        let begun = Stopwatch::now();
        step_answer(&mut self.far, &mut self.neighbours, now, &mut self.near);
        answered.time += begun.elapsed();
        self.now += Duration::from_micros(100);
        let now = now_of(self.now);
        self.near.receive(now, &mut self.far);
        self.hear(now, answered);
    }

    fn ask(&mut self, now: Now) {
        let Some((session, talk)) = &mut self.talk else { return };
        let mut place = [0; 32];
        while talk.open_count() < REQUESTS_OPEN_MAX {
            self.rng.fill(&mut place);
            let question = Request::FindNode(Address(place));
            if talk.ask(&mut self.bench, Ticket(1), &question, REQUEST_TIMEOUT).is_err() {
                break;
            }
        }
        say(&mut self.near, *session, talk, now);
    }

    /// What the asking side is told by its shard.
    fn hear(&mut self, now: Now, answered: &mut Answered) {
        while let Some(event) = self.near.shard.poll_event() {
            match event {
                Event::Connected { session, peer, .. } => {
                    let mut talk = Conversation::begin(&mut self.bench, peer, false);
                    say(&mut self.near, session, &mut talk, now);
                    self.talk = Some((session, talk));
                }
                Event::Message { session, channel, block, charge } => {
                    if let Some((_, talk)) = &mut self.talk {
                        talk.on_transmission(&mut self.bench, channel, &block);
                    }
                    let mail = Mail::Consumed { session, channel, charge, block };
                    self.near.shard.handle_mail(now, mail::From::Application, mail);
                }
                Event::Released { released, .. } => self.near.shard.give_block(released.block),
                Event::Closed { reason, .. } => panic!("the session ended: {reason}"),
                _ => {}
            }
        }
        let Some((session, talk)) = &mut self.talk else { return };
        while let Some(fact) = talk.poll_fact() {
            if let Fact::Answered { outcome, .. } = fact
                && let Some(Ack::Nodes(nodes)) = outcome.ack()
            {
                answered.answers += 1;
                answered.nodes += nodes.iter().count() as u64;
            }
        }
        say(&mut self.near, *session, talk, now);
    }
}

pub(crate) fn say(side: &mut Side, session: SessionId, talk: &mut Conversation, now: Now) {
    let mut bytes = Vec::new();
    while let Some(channel) = talk.poll_transmission(&mut bytes) {
        let mut block = side.shard.take_block(bytes.len()).expect("the asker has memory");
        block.fill_from(&bytes);
        let message = Outgoing { channel, once: true, ..Outgoing::new(block) };
        side.shard.handle_mail(now, mail::From::Application, Mail::Send { session, message });
    }
}

/// Everything that the answering core does in a round, as its driver does it.
#[inline(never)]
fn step_answer(far: &mut Side, neighbours: &mut Neighbours, now: Now, near: &mut Side) {
    black_box("answer");
    far.receive(now, near);
    for _ in 0..2 {
        while let Some(event) = far.shard.poll_event() {
            neighbours.on_event(now, &mut far.shard, event);
        }
        neighbours.post(now, &mut far.shard);
        while neighbours.poll_notice().is_some() {}
    }
    far.transmit(now);
}

pub(crate) fn now_of(instant: Instant) -> Now {
    Now { instant, wall: WallMillis(WALL + instant.as_nanos() / 1_000_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every question is answered by sixteen nodes.
    #[test]
    fn questions_are_answered() {
        let answered = Questions::connect(100).run(200);
        assert!(answered.answers > 200, "{answered:?}");
        assert_eq!(answered.nodes, 16 * answered.answers);
    }
}
