//! A sender and a receiver joined by a link that loses, duplicates and reorders, against a naive model of what must arrive.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use dunlin_codec::frame::{Frame, Frames};
use proptest::prelude::*;

use super::*;
use crate::arq::receiver::{Accepted, CreditSpan, Receiver, ReceiverLimits, Refusal};
use crate::blocks::BlockPool;
use dunlin_codec::bytes::Writer;

/// Deterministic chance.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a packet of either direction carries besides its bytes.
struct Packet {
    number: u64,
    arrives: u64,
    bytes: Vec<u8>,
    acks: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Faults {
    loss: u64,
    duplication: u64,
    delay: u64,
    /// Steps between two times that the application takes messages.
    reader: u64,
    cancel: u64,
    /// The largest messages, in bytes.
    largest: u64,
}

/// One message as the model knows it.
struct Sent {
    bytes: Vec<u8>,
    reliable: bool,
    cancelled: bool,
    arrived: bool,
    /// Its place among the channel's messages.
    order: u64,
}

struct World {
    chance: Chance,
    faults: Faults,
    step: u64,
    pool: BlockPool,
    sender: Sender,
    receiver: Receiver,
    forth: Vec<Packet>,
    back: Vec<Packet>,
    numbers: u64,
    in_flight: BTreeMap<u64, (u64, Span)>,
    seen: HashSet<u64>,
    /// Packets that came lately, with their step.
    to_ack: VecDeque<(u64, u64)>,
    credits: HashMap<u64, (u64, CreditSpan)>,
    model: HashMap<u64, Sent>,
    last_order: HashMap<ChannelId, u64>,
    waiting: VecDeque<(ChannelId, u64)>,
    arrived: usize,
}

const STEP: Duration = Duration::from_micros(100);
const CHANNELS: u64 = 5;

fn is_ordered(channel: u64) -> bool {
    channel.is_multiple_of(2)
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        Self {
            chance: Chance(seed | 1),
            faults,
            step: 0,
            pool: BlockPool::new(64 << 20, 1 << 20),
            sender: Sender::new(SenderLimits::default()),
            receiver: Receiver::new(ReceiverLimits::default()),
            forth: Vec::new(),
            back: Vec::new(),
            numbers: 0,
            in_flight: BTreeMap::new(),
            seen: HashSet::new(),
            to_ack: VecDeque::new(),
            credits: HashMap::new(),
            model: HashMap::new(),
            last_order: HashMap::new(),
            waiting: VecDeque::new(),
            arrived: 0,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.step * STEP.as_nanos() as u64)
    }

    /// A message whose first bytes are its ticket, when it is long enough to tell.
    fn push(&mut self, ticket: u64) {
        let channel = self.chance.below(CHANNELS);
        let len = match self.chance.below(12) {
            0..6 => 8 + self.chance.below(200),
            6..9 => 900 + self.chance.below(600),
            9..11 => 1_100 + self.chance.below(9_000),
            _ => 1 + self.chance.below(self.faults.largest),
        };
        let mut bytes: Vec<u8> = (0..len.max(8)).map(|at| (ticket.wrapping_mul(31) + at * 7) as u8).collect();
        bytes[..8].copy_from_slice(&ticket.to_be_bytes());
        let mut block = self.pool.take(bytes.len()).unwrap();
        block.copy_from_slice(&bytes);
        let reliable = !self.chance.percent(20);
        let message = Outgoing {
            ticket,
            block,
            channel: ChannelId(channel as u32),
            ordered: is_ordered(channel),
            reliable,
            priority: [10, 128, 128, 128, 200][channel as usize],
            once: false,
            idempotent: false,
        };
        let mut pushed = self.sender.push(message);
        while let Err((PushError::QueueFull, message)) = pushed {
            self.run_step();
            pushed = self.sender.push(message);
        }
        pushed.unwrap();
        let sent = Sent { bytes, reliable, cancelled: false, arrived: false, order: ticket };
        self.model.insert(ticket, sent);
        if self.chance.percent(self.faults.cancel) {
            self.cancel(ticket, channel);
        }
    }

    /// Cancels this message or one a little older.
    fn cancel(&mut self, ticket: u64, channel: u64) {
        let ticket = ticket.saturating_sub(self.chance.below(10));
        let before = self.sender.queued_bytes();
        if let Some(block) = self.sender.cancel(ChannelId(channel as u32), ticket) {
            assert_eq!(before - self.sender.queued_bytes(), block.capacity() + 64);
            self.pool.give(block);
            self.model.get_mut(&ticket).unwrap().cancelled = true;
        }
    }

    fn run_step(&mut self) {
        self.step += 1;
        self.send_packets();
        self.deliver_forth();
        self.read();
        self.send_back();
        self.deliver_back();
        self.find_lost();
        let (now, round_trip) = (self.now(), STEP * (self.faults.delay as u32 + 1));
        self.receiver.on_tick(now, &mut self.pool);
        self.receiver.on_round_trip(round_trip);
        self.sender.on_round_trip(round_trip, now);
        while let Some(released) = self.sender.poll_released() {
            self.pool.give(released.block);
        }
    }

    fn send_packets(&mut self) {
        for _ in 0..32 {
            let mut bytes = vec![0; 1_000 + self.chance.below(200) as usize];
            let mut out = Writer::new(&mut bytes);
            if !self.sender.is_ready() {
                return;
            }
            let span = self.sender.write_frames(&mut out);
            let len = out.len();
            assert!(len > 0 || !self.sender.is_ready(), "whoever is ready writes");
            if len == 0 {
                return;
            }
            bytes.truncate(len);
            self.numbers += 1;
            self.in_flight.insert(self.numbers, (self.step, span));
            let faults = self.faults;
            post(&mut self.forth, &mut self.chance, faults, self.step, (self.numbers, bytes, Vec::new()));
        }
    }

    fn deliver_forth(&mut self) {
        for packet in arrived(&mut self.forth, self.step) {
            // As the replay window has it: also a packet that was refused for want of memory is taken in once.
            if !self.seen.insert(packet.number) {
                continue;
            }
            if self.take_in(&packet.bytes) {
                self.to_ack.push_back((self.step, packet.number));
            }
        }
    }

    /// False: the packet must not be acknowledged.
    fn take_in(&mut self, bytes: &[u8]) -> bool {
        let now = self.now();
        for frame in Frames::new(bytes) {
            match frame.unwrap() {
                Frame::Segment(segment) => match self.receiver.on_segment(now, &segment, &mut self.pool) {
                    Ok(accepted) => assert!(
                        segment.unreliable.is_some() || accepted != Accepted::Dropped,
                        "no reliable segment is dropped"
                    ),
                    Err(Refusal::NoMemory) => return false,
                    Err(violation) => panic!("{violation}: {segment}"),
                },
                Frame::Skip { channel, message } => {
                    self.receiver.on_skip(channel, message, &mut self.pool).unwrap();
                }
                Frame::CreditBlocked { channel, limit } => {
                    self.receiver.on_credit_blocked(channel, limit).unwrap();
                }
                other => panic!("{other:?} is not written here"),
            }
        }
        let bound = 2 * self.receiver.window_bytes() as usize + 6 * MESSAGE_LEN_MAX;
        assert!(self.receiver.held_bytes() <= bound);
        assert!(self.receiver.open_count() <= 64);
        true
    }

    /// The application takes what is there, and gives credit for it.
    fn read(&mut self) {
        if !self.step.is_multiple_of(self.faults.reader) {
            return;
        }
        while let Some((channel, charge)) = self.waiting.pop_front() {
            self.receiver.on_consumed(channel, charge);
        }
        while let Some(message) = self.receiver.poll_message() {
            let ticket = u64::from_be_bytes(message.block[..8].try_into().unwrap());
            let sent = self.model.get_mut(&ticket).unwrap();
            assert_eq!(&*message.block, &sent.bytes[..], "bytes are equal");
            assert!(!core::mem::replace(&mut sent.arrived, true), "message {ticket} arrived twice");
            assert_eq!(message.is_reliable, sent.reliable);
            if is_ordered(u64::from(message.channel.0)) {
                let last = self.last_order.insert(message.channel, sent.order);
                assert!(
                    last.is_none_or(|last| last < sent.order),
                    "channel {:?} is in order",
                    message.channel
                );
            }
            self.arrived += 1;
            self.waiting.push_back((message.channel, u64::from(message.charge)));
            self.pool.give(message.block);
        }
    }

    fn send_back(&mut self) {
        let mut bytes = vec![0; 100];
        let mut out = Writer::new(&mut bytes);
        let span = self.receiver.write_credit(&mut out);
        let len = out.len();
        bytes.truncate(len);
        assert_eq!(span.is_empty(), len == 0);
        // Each is acknowledged in several packets, as ranges would be.
        while self.to_ack.front().is_some_and(|(step, _)| step + 5 < self.step) {
            self.to_ack.pop_front();
        }
        if len == 0 && self.to_ack.is_empty() {
            return;
        }
        self.numbers += 1;
        self.credits.insert(self.numbers, (self.step, span));
        let acks = self.to_ack.iter().map(|(_, number)| *number).collect();
        let faults = self.faults;
        post(&mut self.back, &mut self.chance, faults, self.step, (self.numbers, bytes, acks));
    }

    fn deliver_back(&mut self) {
        for packet in arrived(&mut self.back, self.step) {
            self.credits.remove(&packet.number);
            for frame in Frames::new(&packet.bytes) {
                match frame.unwrap() {
                    Frame::SessionCredit { limit } => self.sender.on_session_credit(limit),
                    Frame::ChannelCredit { channel, limit } => self.sender.on_channel_credit(channel, limit),
                    other => panic!("{other:?} is not written here"),
                }
            }
            for number in packet.acks {
                if let Some((_, span)) = self.in_flight.remove(&number) {
                    self.sender.on_acked(span);
                }
            }
        }
    }

    fn find_lost(&mut self) {
        let patience = 3 * self.faults.delay + 10;
        let step = self.step;
        let lost: Vec<_> = self.in_flight.iter().filter(|(_, sent)| sent.0 + patience < step).collect();
        let lost: Vec<_> = lost.into_iter().map(|(&number, &(_, span))| (number, span)).collect();
        for (number, span) in lost {
            self.in_flight.remove(&number);
            self.sender.on_lost(span);
            if self.chance.percent(10) {
                // Acknowledged after all: too late to matter.
                self.sender.on_acked(span);
            }
        }
        if self.chance.percent(5)
            && let Some((_, &(_, span))) = self.in_flight.first_key_value()
        {
            self.sender.resend(span);
        }
        let gone: Vec<_> = self.credits.iter().filter(|(_, sent)| sent.0 + patience < step).collect();
        let gone: Vec<_> = gone.into_iter().map(|(&number, &(_, span))| (number, span)).collect();
        for (number, span) in gone {
            self.credits.remove(&number);
            self.receiver.on_credit_lost(span);
        }
    }

    fn run_until_drained(&mut self) {
        for _ in 0..40_000 {
            self.run_step();
            if self.sender.is_drained() && self.in_flight.is_empty() && self.forth.is_empty() {
                break;
            }
        }
        self.faults.reader = 1;
        self.run_step();
        self.run_step();
    }

    fn check_end(&mut self) {
        assert!(self.sender.is_drained(), "everything is acknowledged");
        for (ticket, sent) in &self.model {
            assert!(sent.arrived || sent.cancelled || !sent.reliable, "reliable message {ticket} arrived");
        }
        assert_eq!((self.sender.queued_bytes(), self.sender.log_count()), (0, 0));
        assert_eq!(self.sender.credit.used, self.receiver.credit_used(), "both ends charged the same");
        assert_eq!(self.receiver.charged_bytes(), 0, "everything was paid back");
        self.receiver.on_tick(self.now() + Duration::from_secs(60), &mut self.pool);
        assert_eq!(self.receiver.held_bytes(), 0);
        assert_eq!(self.pool.allocated_bytes(), self.pool.free_bytes(), "every block came home");
    }
}

/// Puts a packet on its way, perhaps twice, perhaps never.
fn post(
    link: &mut Vec<Packet>,
    chance: &mut Chance,
    faults: Faults,
    step: u64,
    (number, bytes, acks): (u64, Vec<u8>, Vec<u64>),
) {
    let copies = if chance.percent(faults.loss) {
        0
    } else if chance.percent(faults.duplication) {
        2
    } else {
        1
    };
    for _ in 0..copies {
        let arrives = step + chance.below(faults.delay + 1);
        link.push(Packet { number, arrives, bytes: bytes.clone(), acks: acks.clone() });
    }
}

fn arrived(link: &mut Vec<Packet>, step: u64) -> Vec<Packet> {
    let (now, later) = link.drain(..).partition(|packet| packet.arrives <= step);
    *link = later;
    now
}

fn run(seed: u64, messages: u64, faults: Faults) -> World {
    let mut world = World::new(seed, faults);
    for ticket in 0..messages {
        world.push(ticket);
        if world.chance.percent(30) {
            world.run_step();
        }
    }
    world.run_until_drained();
    world
}

/// Without faults every message arrives, the unreliable ones too.
/// spec: atp/reliability
#[test]
fn a_good_link_delivers_everything_and_resends_nothing() {
    let faults = Faults { loss: 0, duplication: 0, delay: 0, reader: 1, cancel: 0, largest: 60_000 };
    let mut world = run(7, 2_000, faults);
    world.check_end();
    let unreliable_dropped = world.sender.counts().unreliable_dropped as usize;
    assert_eq!(world.arrived, world.model.len() - unreliable_dropped);
    assert!(world.arrived > 1_000);
    assert_eq!(world.sender.counts().segments_resent, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Everything reliable arrives once, in order where that was promised, byte for byte, whatever the link does;
    /// both ends agree about the credit, memory stays bounded, and every block comes home.
    /// spec: atp/reliability
    /// spec: atp/credit
    #[test]
    fn a_bad_link_delivers_everything_reliable_once(
        seed: u64,
        messages in 1u64..400,
        loss in 0u64..40,
        duplication in 0u64..20,
        delay in 0u64..20,
        reader in 1u64..60,
        cancel in prop_oneof![Just(0u64), 0u64..60],
    ) {
        let largest = 60_000;
        run(seed, messages, Faults { loss, duplication, delay, reader, cancel, largest }).check_end();
    }

    /// The same with messages of up to a mebibyte, many times the first window.
    /// spec: atp/credit
    #[test]
    fn large_messages_pass_a_small_window(
        seed: u64,
        messages in 1u64..120,
        loss in 0u64..30,
        delay in 0u64..20,
        reader in 1u64..60,
        cancel in prop_oneof![Just(0u64), 0u64..60],
    ) {
        let largest = MESSAGE_LEN_MAX as u64;
        run(seed, messages, Faults { loss, duplication: 5, delay, reader, cancel, largest }).check_end();
    }
}
