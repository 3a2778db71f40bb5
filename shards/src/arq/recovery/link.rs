//! A link in virtual time, with a sender that has so many datagrams to deliver and a receiver that acknowledges them.

use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use dunlin_codec::frame::EcnCounts;
use dunlin_codec::ids::PacketNumber;

use super::{AckInput, Outcome, Recovery, RecoveryConfig, SentKind, SentPacket, TimeoutKind};
use crate::arq::acknowledgements::{Acknowledgements, Received};
use crate::arq::congestion::Phase;
use crate::route::Ecn;
use crate::time::Instant;

/// Numbers that look random, from a seed (xorshift).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One direction: a queue in front of a wire.
pub(super) struct Link {
    pub(super) bytes_per_second: u64,
    pub(super) delay: Duration,
    /// Added at random to each packet, which reorders them.
    pub(super) jitter: Duration,
    pub(super) queue_bytes: u64,
    pub(super) mark_above_bytes: u64,
    pub(super) loss_per_mille: u64,
    pub(super) len_max: usize,
    pub(super) overflowed: u64,
    pub(super) lost_by_chance: u64,
    busy_until: Instant,
}

impl Link {
    pub(super) fn new(bits_per_second: u64, delay: Duration) -> Self {
        let bytes_per_second = bits_per_second / 8;
        Self {
            bytes_per_second,
            delay,
            jitter: Duration::ZERO,
            // One bandwidth-delay product of the round trip.
            queue_bytes: (bytes_per_second as u128 * 2 * delay.as_nanos() / 1_000_000_000) as u64,
            mark_above_bytes: u64::MAX,
            loss_per_mille: 0,
            len_max: usize::MAX,
            overflowed: 0,
            lost_by_chance: 0,
            busy_until: Instant::ZERO,
        }
    }

    /// Bytes in the queue.
    pub(super) fn waiting(&self, now: Instant) -> u64 {
        (self.busy_until.since(now).as_nanos() * u128::from(self.bytes_per_second) / 1_000_000_000) as u64
    }

    /// When a packet arrives that is sent now, and whether it is marked; `None` when it does not.
    fn offer(&mut self, now: Instant, bytes: usize, dice: &mut Dice) -> Option<(Instant, bool)> {
        let waiting = self.waiting(now);
        if waiting + bytes as u64 > self.queue_bytes.max(3_000) {
            self.overflowed += 1;
            return None;
        }
        let wire = bytes as u64 * 1_000_000_000 / self.bytes_per_second;
        self.busy_until = self.busy_until.max(now) + Duration::from_nanos(wire);
        if dice.below(1_000) < self.loss_per_mille {
            self.lost_by_chance += 1;
            return None;
        }
        let jitter = Duration::from_nanos(dice.below(self.jitter.as_nanos() as u64 + 1));
        let is_marked = waiting > self.mark_above_bytes;
        (bytes <= self.len_max).then_some((self.busy_until + self.delay + jitter, is_marked))
    }
}

enum Event {
    Packet { received: Received, chunk: Option<u64> },
    Ack { largest: u64, delay: Duration, ranges: Vec<RangeInclusive<u64>>, ecn: Option<EcnCounts> },
}

/// A chunk of what is to be delivered, as a packet's contents; `u64::MAX` for none.
pub(super) type Chunk = [u64; 2];
const NOTHING: u64 = u64::MAX;

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) sender: Recovery<Chunk>,
    pub(super) receiver: Acknowledgements,
    pub(super) forward: Link,
    pub(super) backward: Link,
    pub(super) dice: Dice,
    /// Chunks that were never sent.
    pub(super) fresh: u64,
    next_chunk: u64,
    lost: VecDeque<u64>,
    /// Chunks that the receiver has, and how often.
    pub(super) delivered: BTreeMap<u64, u32>,
    events: BTreeMap<(Instant, u64), Event>,
    event_count: u64,
    next_number: u64,
    pub(super) sent: u64,
    pub(super) resent: u64,
    pub(super) mtu_probes: u64,
    pub(super) probe_bursts: Vec<Instant>,
    pub(super) phase_at_first_overflow: Option<Phase>,
    pub(super) largest_train: u64,
    /// Calls whenever the window shrinks: when and to what.
    pub(super) shrinks: Vec<(Instant, u64)>,
    /// When the controller went over to what, and the bytes that were waiting in the queue then.
    pub(super) phases: Vec<(Instant, Phase, u64)>,
}

impl World {
    /// Two equal directions.
    pub(super) fn new(bits_per_second: u64, delay: Duration, config: RecoveryConfig) -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            sender: Recovery::new(config),
            receiver: Acknowledgements::new(),
            forward: Link::new(bits_per_second, delay),
            backward: Link::new(bits_per_second, delay),
            dice: Dice(0x9E37_79B9_7F4A_7C15),
            fresh: 0,
            next_chunk: 0,
            lost: VecDeque::new(),
            delivered: BTreeMap::new(),
            events: BTreeMap::new(),
            event_count: 0,
            next_number: 0,
            sent: 0,
            resent: 0,
            mtu_probes: 0,
            probe_bursts: Vec::new(),
            phase_at_first_overflow: None,
            largest_train: 0,
            shrinks: Vec::new(),
            phases: Vec::new(),
        }
    }

    /// What a handshake leaves behind: one round trip measured.
    pub(super) fn measure(&mut self) {
        let round_trip = self.forward.delay + self.backward.delay;
        self.sender.on_handshake_round_trip(self.now, round_trip);
    }

    /// Runs until nothing happens any more, or the time is up.
    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.drain();
        while let Some(next) = self.next_at().filter(|at| *at <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    pub(super) fn is_done(&self) -> bool {
        self.fresh == 0 && self.lost.is_empty() && self.sender.bytes_in_flight() == 0
    }

    fn has_work(&self) -> bool {
        self.fresh > 0 || !self.lost.is_empty()
    }

    fn next_at(&self) -> Option<Instant> {
        let is_paced = self.has_work() && self.sender.window_left() >= self.sender.datagram_len() as u64;
        let pace = is_paced.then(|| self.sender.next_send_at());
        let event = self.events.keys().next().map(|(at, _)| *at);
        [event, self.sender.poll_timeout(), self.receiver.deadline(), pace].into_iter().flatten().min()
    }

    /// One instant: datagrams first, then timers, then whatever may leave.
    fn step(&mut self) {
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let event = entry.remove();
            self.deliver(event);
        }
        let lost = &mut self.lost;
        let timeout = self.sender.on_timeout(self.now, &mut |outcome| requeue(lost, outcome));
        if let TimeoutKind::Probe(count) = timeout {
            self.probe_bursts.push(self.now);
            self.send_probes(count);
        }
        self.note_shrink();
        self.drain();
    }

    fn note_shrink(&mut self) {
        let state = self.sender.congestion();
        if self.phases.last().is_none_or(|(_, phase, _)| *phase != state.phase) {
            self.phases.push((self.now, state.phase, self.forward.waiting(self.now)));
        }
        if state.shrunk_count > self.shrinks.len() as u64 {
            self.shrinks.push((self.now, state.window));
        }
    }

    fn drain(&mut self) {
        self.acknowledge();
        if let Some(frequency) = self.sender.poll_ack_frequency() {
            self.receiver.on_frequency(frequency.sequence, frequency.bytes);
        }
        let before = self.sent;
        while self.has_work() && self.sender.send_budget(self.now) >= self.sender.datagram_len() as u64 {
            let len = self.sender.datagram_len();
            let chunk = self.lost.pop_front();
            self.resent += u64::from(chunk.is_some());
            let chunk = chunk.unwrap_or_else(|| {
                self.fresh -= 1;
                self.next_chunk += 1;
                self.next_chunk - 1
            });
            self.send(chunk, len, SentKind::Eliciting);
            if self.sender.window_left() > 2_000
                && let Some(size) = self.sender.poll_mtu_probe(self.now)
            {
                self.mtu_probes += 1;
                self.send(NOTHING, size, SentKind::MtuProbe);
            }
        }
        self.largest_train = self.largest_train.max(self.sent - before);
        if !self.has_work() {
            self.sender.on_app_limited();
        }
    }

    fn send_probes(&mut self, count: u8) {
        let again: Vec<u64> =
            self.sender.unanswered().map(|(_, chunk)| chunk[0]).take(usize::from(count)).collect();
        for index in 0..usize::from(count) {
            let chunk = again.get(index).copied().unwrap_or(NOTHING);
            let len = self.sender.datagram_len();
            self.resent += u64::from(chunk != NOTHING);
            self.send(chunk, len, SentKind::Eliciting);
        }
    }

    fn send(&mut self, chunk: u64, bytes: usize, kind: SentKind) {
        if self.dice.below(128) == 0 {
            self.next_number += 1;
        }
        let number = PacketNumber(self.next_number);
        self.next_number += 1;
        self.sent += 1;
        let is_ect = self.sender.is_ect_wanted();
        self.sender.on_sent(self.now, &SentPacket { number, bytes, kind, is_ect, contents: [chunk, 0] });
        let overflowed = self.forward.overflowed;
        if let Some((at, is_marked)) = self.forward.offer(self.now, bytes, &mut self.dice) {
            let ecn = if is_ect && is_marked {
                Ecn::Ce
            } else if is_ect {
                Ecn::Ect0
            } else {
                Ecn::NotEct
            };
            let received = Received { number, bytes, ack_eliciting: true, is_patient: false, ecn };
            self.schedule(
                at,
                Event::Packet { received, chunk: Some(chunk).filter(|chunk| *chunk != NOTHING) },
            );
        } else if self.forward.overflowed > overflowed {
            let phase = self.sender.congestion().phase;
            self.phase_at_first_overflow.get_or_insert(phase);
        }
    }

    fn acknowledge(&mut self) {
        if !self.receiver.is_due(self.now) {
            return;
        }
        let (largest, delay) = (self.receiver.largest().unwrap().0, self.receiver.delay(self.now));
        let (ranges, ecn) = (self.receiver.ranges().collect(), self.receiver.ecn());
        self.receiver.on_sent();
        if let Some((at, _)) = self.backward.offer(self.now, 60, &mut self.dice) {
            self.schedule(at, Event::Ack { largest, delay, ranges, ecn });
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.event_count += 1;
        self.events.insert((at, self.event_count), event);
    }

    fn deliver(&mut self, event: Event) {
        match event {
            Event::Packet { received, chunk } => {
                self.receiver.on_packet(self.now, &received);
                if let Some(chunk) = chunk {
                    *self.delivered.entry(chunk).or_default() += 1;
                }
            }
            Event::Ack { largest, delay, ranges, ecn } => {
                let ack = AckInput { largest: PacketNumber(largest), delay, ranges: ranges.into_iter(), ecn };
                let lost = &mut self.lost;
                let summary =
                    self.sender.on_ack(self.now, ack, &mut |outcome| requeue(lost, outcome)).unwrap();
                assert!(summary.acked_packets > 0 || summary.lost_packets == 0);
                self.note_shrink();
            }
        }
    }
}

/// What a sender of messages would do: send the lost again, unless it has arrived meanwhile.
fn requeue(lost: &mut VecDeque<u64>, outcome: Outcome<Chunk>) {
    match outcome {
        Outcome::Lost(_, [NOTHING, _]) => {}
        Outcome::Lost(_, [chunk, _]) => lost.push_back(chunk),
        Outcome::Acked(_, [chunk, _]) => {
            if !lost.is_empty() {
                lost.retain(|waiting| *waiting != chunk);
            }
        }
    }
}
