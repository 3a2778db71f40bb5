//! Recovery: which packets are under way, which arrived, which are lost, and how much more may leave.
//!
//! In:    `on_sent`, `on_ack`, `on_timeout`, and news of the path.
//! Out:   the fate of each packet's contents ([`Outcome`]), `send_budget`, `poll_timeout`, `poll_mtu_probe`, `poll_ack_frequency`.
//! Holds: every packet that asks for an answer is once reported acknowledged or lost (or lost and later acknowledged after all);
//!        `bytes_in_flight` counts exactly the packets reported neither.
//!
//! RFC 9002, with three differences. The packet threshold counts packets sent, since numbers are skipped on purpose (T4). Lost packets are
//! kept for three round trips: when one arrives after all the thresholds rise, and when all of them do the window comes back.
//! Rounds are told by packet numbers, because a train leaves in one instant.
//!
//! It knows nothing of frames: `T` is whatever its owner needs to send a packet's contents again, 16 bytes at best.
//! Whoever drives it takes in datagrams before it tells of the time: an answer that has arrived is no timeout.
//! spec: atp/recovery

mod loss;
mod marks;
mod ring;

#[cfg(test)]
mod link;
#[cfg(test)]
mod tests;

use core::ops::RangeInclusive;
use core::time::Duration;

use dunlin_codec::frame::EcnCounts;
use dunlin_codec::ids::PacketNumber;

use crate::arq::congestion::{Acked, Algorithm, Cause, Congested, CongestionState, Controller, Phase};
use crate::arq::mtu::{DATAGRAM_LEN_DEFAULT, Mtu};
use crate::arq::pacer::{PacedPath, Pacer};
use crate::arq::rtt::Rtt;
use crate::arq::{acknowledgements, rtt};
use crate::limits::TIMER_GRANULARITY;
use crate::time::Instant;

use loss::Episode;
use marks::Marks;
use ring::{Ring, State};

/// Packets sent later that must have arrived before a missing one is lost, at first (RFC 9002 section 6.1.1).
pub const PACKET_THRESHOLD: u32 = 3;
/// The same at most, after losses that were none.
pub const PACKET_THRESHOLD_MAX: u32 = 64;
/// Eighths of a round trip after which a missing packet is lost, at first (RFC 9002 section 6.1.2).
pub const TIME_THRESHOLD_EIGHTHS: u32 = 9;
/// The same at most.
pub const TIME_THRESHOLD_EIGHTHS_MAX: u32 = 16;
/// Packets of one probe burst.
pub const PROBES: u8 = 2;
/// Packets kept at most. A peer that lets so many pass and still answers nothing old is not there.
pub const RING_LEN_MAX: usize = 1 << 17;
/// Round trips for which a lost packet is kept.
const TOMBSTONE_ROUND_TRIPS: u32 = 3;
/// Bytes that the peer may let wait, as a part of the window.
const ACK_WINDOW_DIVISOR: u64 = 8;

/// What a packet is to recovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SentKind {
    /// Nothing in it asks for an answer: never lost, never counted in the window.
    AckOnly,
    /// The peer must answer.
    Eliciting,
    /// A test of a datagram's size: its loss is no congestion.
    MtuProbe,
}

/// A packet that leaves.
#[derive(Clone, Copy, Debug)]
pub struct SentPacket<T> {
    /// Its number: larger than all before. Numbers left out were skipped on purpose, and are a trap for liars.
    pub number: PacketNumber,
    /// The datagram's bytes.
    pub bytes: usize,
    /// What it is.
    pub kind: SentKind,
    /// Whether it leaves with ECT(0).
    pub is_ect: bool,
    /// What its owner needs to know when its fate is known.
    pub contents: T,
}

/// An acknowledgement, as its frame says.
#[derive(Clone, Debug)]
pub struct AckInput<R> {
    /// The largest number acknowledged.
    pub largest: PacketNumber,
    /// How long the peer says that it waited.
    pub delay: Duration,
    /// The acknowledged ranges, from the largest down, without overlap.
    pub ranges: R,
    /// The marks that it counted.
    pub ecn: Option<EcnCounts>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome<T> {
    /// It arrived. May follow `Lost` for the same number.
    Acked(PacketNumber, T),
    /// It counts as lost: send again what is still wanted of it.
    Lost(PacketNumber, T),
}

/// The peer acknowledged what was never sent. It lies: the session ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the peer acknowledged a packet that was never sent")]
pub struct FalseAck;

/// What an acknowledgement changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AckSummary {
    /// Packets newly acknowledged.
    pub acked_packets: u32,
    /// Bytes newly acknowledged, of packets that the window counts.
    pub acked_bytes: u64,
    /// Packets that it shows to be lost.
    pub lost_packets: u32,
    /// Packets that had been given up and have arrived.
    pub spurious_packets: u32,
    /// Whether a round trip was measured.
    pub is_sampled: bool,
}

/// What time has brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeoutKind {
    /// Nothing is due.
    None,
    /// So many packets are lost.
    Lost(u32),
    /// Nothing was heard for long: send so many packets that ask for an answer, whatever the window says. When there is nothing new, repeat
    /// [`Recovery::unanswered`], or ping. One of them should be of at most 1,200 bytes, and the other full-size, to tell a path that
    /// swallows full-size packets from one that swallows all.
    Probe(u8),
}

/// Counters, since the session began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RecoveryStats {
    /// Packets given up, tests of a size not among them.
    pub lost_packets: u64,
    /// Packets given up that arrived after all.
    pub spurious_packets: u64,
    /// Probe bursts.
    pub probe_timeouts: u64,
    /// Times that nothing got through for several probe timeouts.
    pub persistent_congestions: u64,
    /// Times that full-size packets stopped to pass.
    pub black_holes: u64,
}

/// How a path is treated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecoveryConfig {
    /// Who decides about the window.
    pub algorithm: Algorithm,
    /// The largest datagram to try.
    pub datagram_len_max: usize,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self { algorithm: Algorithm::Cubic, datagram_len_max: DATAGRAM_LEN_DEFAULT }
    }
}

/// An ACK_FREQUENCY frame to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AckFrequency {
    /// Grows with each.
    pub sequence: u64,
    /// Bytes that the peer may let wait.
    pub bytes: u64,
}

/// The sending side of one session: its packets under way and its path.
#[derive(Clone, Debug)]
pub struct Recovery<T> {
    config: RecoveryConfig,
    ring: Ring<T>,
    rtt: Rtt,
    controller: Controller,
    pacer: Pacer,
    mtu: Mtu,
    marks: Marks,
    stats: RecoveryStats,

    bytes_in_flight: u64,
    open_count: u32,
    largest_acked: Option<u64>,
    largest_acked_ordinal: u32,
    /// Numbers below were sent on another path.
    path_start: u64,
    /// The most bytes in flight in this round and the one before; the round ends when this number is acknowledged.
    peaks: [u64; 2],
    round_end: u64,

    packet_threshold: u32,
    time_threshold_eighths: u32,
    /// Losses below this number were none, and the thresholds have risen for it.
    adapted_through: u64,
    episode: Episode,
    loss_at: Option<Instant>,
    /// From when the probe timeout counts: the last packet that asks for an answer, the last answer, or the last timeout.
    quiet_since: Instant,
    probe_count: u32,
    probes_owed: u8,

    told: AckFrequency,
    is_told: bool,
}

/// What one acknowledgement covered, while its ranges are walked.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    summary: AckSummary,
    /// Open packets, and those whose bytes let the window grow.
    open_packets: u32,
    growth_bytes: u64,
    growth_packets: u32,
    ect_packets: u64,
    /// The largest number newly acknowledged, and when it was sent.
    largest: Option<(u64, Instant)>,
    largest_ordinal: u32,
    largest_full: Option<u64>,
    mtu_probe: Option<usize>,
    /// The largest number that had been given up.
    spurious: Option<u64>,
    /// Packets of the newest episode of losses that had been given up.
    returned: u32,
}

impl<T: Copy> Recovery<T> {
    /// A path that nothing is known of.
    #[must_use]
    pub fn new(config: RecoveryConfig) -> Self {
        let (rtt, mtu) = (Rtt::new(), Mtu::new(config.datagram_len_max));
        let controller = Controller::new(config.algorithm, mtu.current());
        let pacer = Pacer::new(&paced_path(&controller, &rtt, &mtu));
        Self {
            config,
            ring: Ring::new(),
            rtt,
            controller,
            pacer,
            mtu,
            marks: Marks::new(),
            stats: RecoveryStats::default(),
            bytes_in_flight: 0,
            open_count: 0,
            largest_acked: None,
            largest_acked_ordinal: 0,
            path_start: 0,
            peaks: [0; 2],
            round_end: 0,
            packet_threshold: PACKET_THRESHOLD,
            time_threshold_eighths: TIME_THRESHOLD_EIGHTHS,
            adapted_through: 0,
            episode: Episode::default(),
            loss_at: None,
            quiet_since: Instant::ZERO,
            probe_count: 0,
            probes_owed: 0,
            told: AckFrequency { sequence: 0, bytes: acknowledgements::ACK_BYTES_DEFAULT },
            is_told: true,
        }
    }

    /// A packet left.
    ///
    /// # Panics
    /// When its number is not larger than all before.
    #[inline]
    pub fn on_sent(&mut self, now: Instant, packet: &SentPacket<T>) {
        self.ring.push(now, packet);
        if packet.is_ect {
            self.marks.on_sent();
        }
        if packet.kind == SentKind::AckOnly {
            // A side that only receives is never told that its acknowledgements arrived.
            self.retire(now);
            return;
        }
        if self.open_count == 0 {
            self.controller.controller_mut().on_idle_end(now);
        }
        self.open_count += 1;
        self.bytes_in_flight += u64::from(self.ring.get(packet.number.0).bytes);
        self.peaks[0] = self.peaks[0].max(self.bytes_in_flight);
        self.quiet_since = now;
        self.probes_owed = self.probes_owed.saturating_sub(1);
        self.pacer.on_sent(now, packet.bytes);
    }

    /// An acknowledgement came in. Each packet whose fate it settles goes to `sink`: the acknowledged from the newest down, then the lost.
    ///
    /// # Errors
    /// The peer acknowledged what was never sent. Part of the acknowledgement may have been taken; the session is to be closed.
    pub fn on_ack<R: Iterator<Item = RangeInclusive<u64>>>(
        &mut self,
        now: Instant,
        ack: AckInput<R>,
        sink: &mut impl FnMut(Outcome<T>),
    ) -> Result<AckSummary, FalseAck> {
        if ack.largest.0 >= self.ring.next() {
            return Err(FalseAck);
        }
        let mut tally = self.take_ranges(ack.ranges, sink)?;
        let Some((largest, largest_sent)) = tally.largest else { return Ok(tally.summary) };
        self.bytes_in_flight -= tally.summary.acked_bytes;
        self.open_count -= tally.open_packets;

        let is_newest = self.largest_acked < Some(largest);
        if is_newest {
            self.largest_acked = Some(largest);
            self.largest_acked_ordinal = tally.largest_ordinal;
        }
        let is_timed = largest == ack.largest.0 && tally.open_packets > 0 && largest >= self.path_start;
        let sample = is_timed.then(|| now.since(largest_sent));
        if let Some(sample) = sample {
            self.rtt.on_sample(now, sample, ack.delay);
            tally.summary.is_sampled = true;
        }
        let is_marked = is_newest && self.marks.on_acked(tally.ect_packets, ack.ecn);
        if tally.open_packets > 0 {
            (self.probe_count, self.probes_owed) = (0, 0);
            self.quiet_since = self.quiet_since.max(now);
        }

        self.on_arrived(&tally);
        tally.summary.lost_packets = self.lose(now, sink);
        if is_marked && largest >= self.path_start {
            self.congest(now, largest, Cause::Mark);
        }
        self.grow(now, &tally, sample);
        self.retire(now);
        self.set_pace();
        Ok(tally.summary)
    }

    /// Walks the ranges that are not known yet.
    fn take_ranges<R: Iterator<Item = RangeInclusive<u64>>>(
        &mut self,
        ranges: R,
        sink: &mut impl FnMut(Outcome<T>),
    ) -> Result<Tally, FalseAck> {
        let mut tally = Tally::default();
        let growth_start = self.controller.controller().recovery_end().max(self.path_start);
        let (mtu, path_start, episode_start) = (&self.mtu, self.path_start, self.episode.first);
        let base = self.ring.base();
        for range in ranges.take_while(|range| *range.end() >= base) {
            self.ring.acknowledge(&range, |number, entry| {
                let bytes = u64::from(entry.bytes);
                tally.summary.acked_packets += 1;
                tally.ect_packets += u64::from(entry.is_ect());
                if tally.largest.is_none() {
                    (tally.largest, tally.largest_ordinal) = (Some((number, entry.sent())), entry.ordinal);
                }
                if entry.is_mtu_probe() {
                    tally.mtu_probe = Some(usize::from(entry.bytes)).filter(|_| number >= path_start);
                } else if tally.largest_full.is_none() && mtu.is_full(usize::from(entry.bytes)) {
                    tally.largest_full = Some(number).filter(|_| number >= path_start);
                }
                match entry.state {
                    State::Open => {
                        tally.open_packets += 1;
                        tally.summary.acked_bytes += bytes;
                        if number >= growth_start {
                            tally.growth_bytes += bytes;
                            tally.growth_packets += 1;
                        }
                    }
                    State::Lost => {
                        tally.summary.spurious_packets += 1;
                        tally.returned += u32::from(number >= episode_start && !entry.is_mtu_probe());
                        tally.spurious = tally.spurious.max(Some(number));
                    }
                    State::Passive | State::Acked | State::Skipped => {}
                }
                sink(Outcome::Acked(PacketNumber(number), entry.contents));
            })?;
        }
        Ok(tally)
    }

    /// What arrivals say about the path, apart from time and congestion.
    fn on_arrived(&mut self, tally: &Tally) {
        if let Some(number) = tally.largest_full {
            self.mtu.on_full_acked(number);
        }
        if let Some(size) = tally.mtu_probe
            && self.mtu.on_probe_acked(size)
        {
            self.on_datagram_len();
        }
        if let Some(number) = tally.spurious {
            self.on_spurious(number, tally);
        }
    }

    fn grow(&mut self, now: Instant, tally: &Tally, sample: Option<Duration>) {
        let Some((largest, _)) = tally.largest else { return };
        let is_window_used = self.is_window_used();
        if largest >= self.round_end {
            self.peaks = [self.bytes_in_flight, self.peaks[0]];
            self.round_end = self.ring.next();
        }
        if tally.growth_packets > 0 {
            self.controller.controller_mut().on_acked(&Acked {
                now,
                bytes: tally.growth_bytes,
                packets: tally.growth_packets,
                largest,
                next: self.ring.next(),
                sample,
                smoothed: self.rtt.smoothed(),
                is_window_used,
            });
        }
    }

    /// Whether bytes were held back by the window, in this round or the one before: half of it in slow start, nearly all of it later.
    fn is_window_used(&self) -> bool {
        let state = self.controller.controller().state();
        let peak = self.peaks[0].max(self.peaks[1]);
        match state.phase {
            Phase::SlowStart | Phase::ConservativeSlowStart => state.window < 2 * peak,
            Phase::Avoidance | Phase::Fixed => {
                peak + (state.window / 8).max(2 * self.mtu.current() as u64) >= state.window
            }
        }
    }

    /// Lets go of what is done; with it the traces of lost packets that will hardly arrive any more.
    fn retire(&mut self, now: Instant) {
        let life = self.rtt.smoothed() * TOMBSTONE_ROUND_TRIPS + TIMER_GRANULARITY;
        self.ring.retire(now.before(life));
    }

    fn set_pace(&mut self) {
        self.pacer.set_path(&paced_path(&self.controller, &self.rtt, &self.mtu));
    }

    fn on_datagram_len(&mut self) {
        self.controller.controller_mut().on_datagram_len(self.mtu.current());
        self.set_pace();
    }

    /// The moment to call [`Self::on_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let probe_at = || self.quiet_since + self.rtt.probe_timeout(self.probe_count);
        self.loss_at.or_else(|| (self.open_count > 0).then(probe_at))
    }

    /// Time has passed. Packets that are lost by now go to `sink`. However late it is called, it makes one probe burst at most.
    pub fn on_timeout(&mut self, now: Instant, sink: &mut impl FnMut(Outcome<T>)) -> TimeoutKind {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return TimeoutKind::None;
        }
        if self.loss_at.is_some() {
            let lost = self.lose(now, sink);
            self.retire(now);
            self.set_pace();
            return TimeoutKind::Lost(lost);
        }
        self.probe_count = self.probe_count.saturating_add(1);
        self.probes_owed = PROBES;
        self.quiet_since = now;
        self.stats.probe_timeouts += 1;
        self.marks.on_probe_timeout(self.probe_count);
        TimeoutKind::Probe(PROBES)
    }

    /// The packets that wait for an answer, oldest first: what a probe should repeat.
    pub fn unanswered(&self) -> impl Iterator<Item = (PacketNumber, T)> + '_ {
        self.ring.open().map(|(number, entry)| (PacketNumber(number), entry.contents))
    }

    /// Bytes that may leave now as ack-eliciting packets: what both the window and the pace allow, or whole datagrams for probes that are owed.
    #[inline]
    #[must_use]
    pub fn send_budget(&self, now: Instant) -> u64 {
        let probes = u64::from(self.probes_owed) * self.mtu.current() as u64;
        if self.ring.len() >= RING_LEN_MAX {
            return probes;
        }
        self.window_left().min(self.pacer.allowance(now)).max(probes)
    }

    /// When pacing will allow more. Only of interest when [`Self::window_left`] is not the limit.
    #[must_use]
    pub fn next_send_at(&self) -> Instant {
        self.pacer.next_at()
    }

    /// Whether the window has room for so many bytes, pacing aside. A probe that is owed always has.
    #[must_use]
    pub fn can_send(&self, bytes: usize) -> bool {
        self.probes_owed > 0 || bytes as u64 <= self.window_left()
    }

    /// Bytes of the window that are free.
    #[inline]
    #[must_use]
    pub fn window_left(&self) -> u64 {
        self.controller.window().saturating_sub(self.bytes_in_flight)
    }

    /// Bytes that are under way and neither acknowledged nor lost.
    #[must_use]
    pub const fn bytes_in_flight(&self) -> u64 {
        self.bytes_in_flight
    }

    /// Probe packets still to be sent, whatever the window says.
    #[must_use]
    pub const fn probes_owed(&self) -> u8 {
        self.probes_owed
    }

    /// Probe timeouts in a row with no answer.
    #[must_use]
    pub const fn probe_count(&self) -> u32 {
        self.probe_count
    }

    /// Whether more packets are kept than any live peer leaves unanswered: the session should end.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.ring.len() >= RING_LEN_MAX && self.open_count > 0
    }

    /// Bytes of a full datagram.
    #[inline]
    #[must_use]
    pub const fn datagram_len(&self) -> usize {
        self.mtu.current()
    }

    /// The size of a test packet (PING and padding, [`SentKind::MtuProbe`]) to send now. Ask only while there is something to send anyway.
    pub fn poll_mtu_probe(&mut self, now: Instant) -> Option<usize> {
        self.mtu.poll_probe(now)
    }

    /// The machine refused a datagram of this size (EMSGSIZE).
    pub fn on_too_big(&mut self, bytes: usize) {
        if self.mtu.on_too_big(bytes) {
            self.on_datagram_len();
        }
    }

    /// Whether packets should leave with ECT(0).
    #[must_use]
    pub const fn is_ect_wanted(&self) -> bool {
        self.marks.is_usable()
    }

    /// An ACK_FREQUENCY frame to send, when the window has become another: an eighth of it, at most 64 KiB.
    pub fn poll_ack_frequency(&mut self) -> Option<AckFrequency> {
        let wanted = (self.controller.window() / ACK_WINDOW_DIVISOR).min(acknowledgements::ACK_BYTES_MAX);
        let is_other = wanted >= 2 * self.told.bytes
            || wanted <= self.told.bytes / 2
            || (wanted == acknowledgements::ACK_BYTES_MAX && wanted != self.told.bytes);
        if is_other {
            self.told = AckFrequency { sequence: self.told.sequence + 1, bytes: wanted };
            self.is_told = false;
        }
        (!core::mem::replace(&mut self.is_told, true)).then_some(self.told)
    }

    /// The packet with that frame was lost. An older frame than the newest is not sent again.
    pub fn on_ack_frequency_lost(&mut self, sequence: u64) {
        self.is_told &= sequence != self.told.sequence;
    }

    /// The handshake took a round trip of this length.
    pub fn on_handshake_round_trip(&mut self, now: Instant, round_trip: Duration) {
        self.rtt.on_sample(now, round_trip, Duration::ZERO);
        self.set_pace();
    }

    /// Packets take another path from now on: all that was learnt is void. Those under way are still expected, and say nothing about the new path.
    pub fn on_path_changed(&mut self) {
        self.path_start = self.ring.next();
        self.rtt = Rtt::new();
        self.mtu = Mtu::new(self.config.datagram_len_max);
        self.controller = Controller::new(self.config.algorithm, self.mtu.current());
        self.marks.on_path_changed();
        (self.packet_threshold, self.time_threshold_eighths) = (PACKET_THRESHOLD, TIME_THRESHOLD_EIGHTHS);
        self.episode = Episode::default();
        (self.peaks, self.probe_count) = ([0; 2], 0);
        self.set_pace();
    }

    /// Forgets all packets, without an outcome: nobody will answer them any more.
    pub fn on_packets_discarded(&mut self) {
        self.ring.clear();
        (self.bytes_in_flight, self.open_count, self.loss_at, self.probes_owed) = (0, 0, None, 0);
    }

    /// The round trip.
    #[must_use]
    pub const fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// How long to wait for any answer just now, before any backoff: the unit for giving up.
    #[must_use]
    pub fn probe_timeout(&self) -> Duration {
        self.rtt.probe_timeout(0)
    }

    /// The window and what is done with it.
    #[must_use]
    pub fn congestion(&self) -> CongestionState {
        self.controller.controller().state()
    }

    /// Bytes a second that leave at most; `None` on a path too short to be paced.
    #[must_use]
    pub fn pacing_rate(&self) -> Option<u64> {
        self.pacer.rate()
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> RecoveryStats {
        self.stats
    }

    /// Gives memory back that an idle session does not need.
    pub fn shrink(&mut self) {
        self.ring.shrink();
    }
}

fn paced_path(controller: &Controller, rtt: &rtt::Rtt, mtu: &Mtu) -> PacedPath {
    PacedPath {
        rate: controller.controller().pacing_rate(rtt.smoothed()),
        round_trip: rtt.is_measured().then(|| rtt.smoothed()),
        datagram_len: mtu.current(),
    }
}
