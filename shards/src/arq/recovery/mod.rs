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

mod arrival;
mod loss;
mod marks;
mod ring;
mod terms;

#[cfg(test)]
mod link;
#[cfg(test)]
mod measured;
#[cfg(test)]
mod tests;

use core::time::Duration;

use dunlin_codec::ids::PacketNumber;

pub use terms::{
    AckFrequency, AckInput, AckSummary, FalseAck, Outcome, RecoveryConfig, RecoveryStats, SentKind,
    SentPacket, TimeoutKind,
};

use crate::arq::acknowledgements::{ACK_BYTES_DEFAULT, ACK_BYTES_MAX};
use crate::arq::congestion::{CongestionState, Controller, Sent};
use crate::arq::mtu::Mtu;
use crate::arq::pacer::{PacedPath, Pacer};
use crate::arq::rtt::Rtt;
use crate::limits::{
    ACK_DELAY_MAX, ACK_DELAY_PATIENT, DATAGRAM_MIN, HANDSHAKE_ROUND_TRIP_MAX, TIMER_GRANULARITY,
};
use crate::mutants::{Mutant, planted};
use crate::time::Instant;

use loss::Episode;
use marks::Marks;
use ring::Ring;

/// Packets sent later that must have arrived before a missing one is lost, at first (RFC 9002 section 6.1.1).
pub const PACKET_THRESHOLD: u32 = 3;
/// The same at most, after losses that were none: no more than a large window holds, so that time decides.
pub const PACKET_THRESHOLD_MAX: u32 = 1 << 16;
/// Eighths of a round trip after which a missing packet is lost, at first (RFC 9002 section 6.1.2).
pub const TIME_THRESHOLD_EIGHTHS: u8 = 9;
/// The same at most.
pub const TIME_THRESHOLD_EIGHTHS_MAX: u8 = 16;
/// Episodes of losses, all of them true, after which the thresholds fall back (RFC 8985 section 7.2 has the same).
const TRUE_EPISODES: u8 = 16;
/// Packets of one probe burst.
pub const PROBES: u8 = 2;
/// Packets kept at most. A peer that lets so many pass and still answers nothing old is not there.
pub const RING_LEN_MAX: usize = 1 << 17;
/// Round trips for which a lost packet is kept.
const TOMBSTONE_ROUND_TRIPS: u32 = 3;
/// Bytes that the peer may let wait, as a part of the window.
const ACK_WINDOW_DIVISOR: u64 = 8;
/// The same in slow start on a path long enough to be paced: HyStart++ needs eight samples several times in a round.
const ACK_WINDOW_DIVISOR_SLOW_START: u64 = 32;

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
    time_threshold_eighths: u8,
    /// Episodes of losses since one was none: after so many the thresholds fall back.
    true_episodes: u8,
    episode: Episode,
    loss_at: Option<Instant>,
    /// From when the probe timeout counts: the last packet that asks for an answer, the last answer, or the last timeout.
    quiet_since: Instant,
    /// The last packet that asks for an answer asked for it at once.
    is_prompt: bool,
    /// How many packets were sent before the last one whose answer does not take its time, modulo 2^32.
    pressing: u32,
    probe_count: u16,
    probes_owed: u8,

    told: AckFrequency,
    is_told: bool,
}

impl<T: Copy> Recovery<T> {
    /// A path that nothing is known of.
    #[must_use]
    pub fn new(config: RecoveryConfig) -> Self {
        let (rtt, mtu) = (Rtt::new(), Mtu::new(config.datagram_len_max));
        let controller = Controller::new(config.algorithm, mtu.current(), config.seed);
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
            true_episodes: 0,
            episode: Episode::default(),
            loss_at: None,
            quiet_since: Instant::ZERO,
            is_prompt: false,
            pressing: 0,
            probe_count: 0,
            probes_owed: 0,
            told: AckFrequency { sequence: 0, bytes: ACK_BYTES_DEFAULT },
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
        if let Some(measuring) = self.controller.measuring() {
            let is_open = packet.kind != SentKind::AckOnly;
            measuring.on_sent(&Sent {
                now,
                number: packet.number.0,
                bytes: if is_open { packet.bytes as u64 } else { 0 },
                in_flight: self.bytes_in_flight,
                base: self.ring.base(),
            });
        }
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
        if packet.kind != SentKind::Patient {
            self.pressing = self.ring.get(packet.number.0).ordinal;
        }
        if packet.kind == SentKind::MtuProbe {
            self.mtu.on_probe_sent(packet.bytes);
        }
        self.open_count += 1;
        self.bytes_in_flight += u64::from(self.ring.get(packet.number.0).bytes);
        self.peaks[0] = self.peaks[0].max(self.bytes_in_flight);
        self.quiet_since = now;
        self.is_prompt = false;
        self.probes_owed = self.probes_owed.saturating_sub(1);
        self.pacer.on_sent(now, packet.bytes);
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

    /// The packet just sent asks for an answer at once, as the window is used up: a probe need not wait for the peer's delay. A small
    /// window would else stand still for that delay whenever its last packet is lost.
    pub fn on_prompt(&mut self) {
        self.is_prompt = self.rtt.is_measured();
    }

    /// The moment to call [`Self::on_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let probe_at = || {
            let wait = if self.is_prompt {
                self.rtt.prompt_probe_timeout(self.probe_count.into())
            } else {
                self.rtt.probe_timeout(self.probe_count.into())
            };
            let patience = if self.is_patient() { ACK_DELAY_PATIENT - ACK_DELAY_MAX } else { Duration::ZERO };
            self.quiet_since + wait + patience
        };
        self.loss_at.or_else(|| (self.open_count > 0).then(probe_at))
    }

    /// Whatever is under way may be answered late: the last packet that may not was answered, or a later one.
    fn is_patient(&self) -> bool {
        self.largest_acked.is_some() && self.largest_acked_ordinal.wrapping_sub(self.pressing) as i32 >= 0
    }

    /// Time has passed. Packets that are lost by now go to `sink`. However late it is called, it makes one probe burst at most.
    pub fn on_timeout(&mut self, now: Instant, sink: &mut impl FnMut(Outcome<T>)) -> TimeoutKind {
        let Some(due) = self.poll_timeout() else { return TimeoutKind::None };
        if now < due && !planted(Mutant::StaleTimerActedOn) {
            return TimeoutKind::None;
        }
        if self.loss_at.is_some() {
            let lost = self.lose(now, sink);
            self.retire(now);
            self.set_pace();
            return TimeoutKind::Lost(lost);
        }
        if !planted(Mutant::ProbeTimeoutNotDoubled) {
            self.probe_count = self.probe_count.saturating_add(1);
        }
        self.probes_owed = PROBES;
        self.quiet_since = if planted(Mutant::ProbeForEachMissedTimeout) { due } else { now };
        self.stats.probe_timeouts += 1;
        self.marks.on_probe_timeout(self.probe_count.into());
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
        let probes = u64::from(self.probes_owed) * DATAGRAM_MIN as u64;
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
        self.probe_count as u32
    }

    /// Whether more packets are kept than any live peer leaves unanswered: the session should end.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.ring.len() >= RING_LEN_MAX && self.open_count > 0
    }

    /// Bytes to fill a datagram up to. Probes for an answer are small: a path that swallows full-size packets still lets them through.
    #[inline]
    #[must_use]
    pub const fn datagram_len(&self) -> usize {
        if self.probes_owed > 0 { DATAGRAM_MIN } else { self.mtu.current() }
    }

    /// The largest datagram that is known to pass: what [`Self::datagram_len`] is while no probe is owed.
    #[must_use]
    pub const fn path_mtu(&self) -> usize {
        self.mtu.current()
    }

    /// The size of a test packet (PING and padding, [`SentKind::MtuProbe`]) to send now. Ask only while there is something to send anyway;
    /// asking does not commit to sending.
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

    /// An ACK_FREQUENCY frame to send, when the window has become another: an eighth of it (less in slow start), at most 64 KiB.
    pub fn poll_ack_frequency(&mut self) -> Option<AckFrequency> {
        let is_sampling = self.pacer.rate().is_some() && self.is_slow_start();
        let divisor = if is_sampling { ACK_WINDOW_DIVISOR_SLOW_START } else { ACK_WINDOW_DIVISOR };
        let least = 2 * self.mtu.current() as u64;
        let wanted = (self.controller.window() / divisor).max(least).min(ACK_BYTES_MAX);
        let is_other = wanted >= 2 * self.told.bytes
            || wanted <= self.told.bytes / 2
            || (wanted == ACK_BYTES_MAX && wanted != self.told.bytes);
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

    /// The handshake took a round trip of this length. One that took very long tells of a peer that was busy, or asleep, rather than of
    /// the path; were it believed, the first loss would wait for three times as long.
    // spec: atp/handshake-round-trip
    pub fn on_handshake_round_trip(&mut self, now: Instant, round_trip: Duration) {
        if round_trip > HANDSHAKE_ROUND_TRIP_MAX {
            return;
        }
        self.rtt.on_sample(now, round_trip, Duration::ZERO);
        self.set_pace();
    }

    /// Packets take another path from now on: all that was learnt is void. Those under way are still expected, and say nothing about the new path.
    pub fn on_path_changed(&mut self) {
        self.path_start = self.ring.next();
        self.rtt = Rtt::new();
        self.mtu = Mtu::new(self.config.datagram_len_max);
        self.controller = Controller::new(self.config.algorithm, self.mtu.current(), self.config.seed);
        self.marks.on_path_changed();
        (self.packet_threshold, self.time_threshold_eighths) = (PACKET_THRESHOLD, TIME_THRESHOLD_EIGHTHS);
        self.episode = Episode::default();
        (self.peaks, self.probe_count) = ([0; 2], 0);
        self.set_pace();
    }

    /// There is nothing more to send now, whatever pace and window say. What is measured meanwhile is the application's rate.
    #[inline]
    pub fn on_app_limited(&mut self) {
        let is_limited = self.window_left() >= self.mtu.current() as u64;
        if let Some(measuring) = self.controller.measuring()
            && is_limited
        {
            measuring.on_app_limited(self.bytes_in_flight);
        }
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
        if let Some(measuring) = self.controller.measuring() {
            measuring.shrink(self.ring.base());
        }
    }
}

fn paced_path(controller: &Controller, rtt: &Rtt, mtu: &Mtu) -> PacedPath {
    PacedPath {
        rate: controller.controller().pacing_rate(rtt.smoothed()),
        round_trip: rtt.is_measured().then(|| rtt.smoothed()),
        datagram_len: mtu.current(),
    }
}
