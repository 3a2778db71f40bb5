//! What we owe the peer: which of its packets arrived, and when to say so.
//!
//! In:    `on_packet` for each authenticated packet, `on_frequency` and `on_asked` from its frames, `on_sent`, `on_acknowledged`.
//! Out:   `is_due` at the end of a drain, `deadline`, and the parts of the frame: `ranges`, `delay`, `ecn`.
//! Holds: every ack-eliciting packet is followed by an acknowledgement within [`ACK_DELAY_MAX`]; one that asks for none but by unreliable
//!        messages, within [`ACK_DELAY_PATIENT`].
//!
//! An acknowledgement is due at the end of a drain when a gap or reordering was seen, a packet was marked, the peer asked, enough
//! bytes wait, or the oldest of them waited long enough. After a gap the next packets are answered at once too, until the
//! sender's packet threshold can tell loss from reordering: else a lone straggler's loss would be known only 25 ms later.
//!
//! A node that keeps thousands of peers up to date by a small unreliable message now and then would else hear as many acknowledgements
//! as it sends messages. Nothing of them is ever sent again, so nobody waits for that answer but congestion control, and that is told as
//! soon as an eighth of its window waits.
//! spec: atp/acknowledgement

use core::ops::RangeInclusive;
use core::time::Duration;

use dunlin_codec::frame::EcnCounts;
use dunlin_codec::ids::PacketNumber;

use crate::arq::ranges::{Placed, RangeSet};
use crate::limits::{ACK_DELAY_MAX, ACK_DELAY_PATIENT};
use crate::route::Ecn;
use crate::time::Instant;

/// Bytes that may wait before the peer told its wish: an eighth of the initial window.
pub const ACK_BYTES_DEFAULT: u64 = 4_800;
/// Bytes that may wait whatever the peer wishes.
pub const ACK_BYTES_MAX: u64 = 64 << 10;
/// Packets behind a new gap that are answered at once: the sender's packet threshold.
const HASTE_PACKETS: u64 = 3;
/// Ranges, and acknowledgements in a row that none came back for, from which on a ping is worth its bytes.
const PING_RANGES: usize = 8;
const PING_ACKS: u32 = 32;

/// A packet that arrived and was authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its number.
    pub number: PacketNumber,
    /// The datagram's bytes.
    pub bytes: usize,
    /// Whether a frame in it asks for an acknowledgement.
    pub ack_eliciting: bool,
    /// Nothing but unreliable messages asks for it.
    pub is_patient: bool,
    /// The mark that it arrived with.
    pub ecn: Ecn,
}

/// The receiving side's ledger of one direction of a session.
#[derive(Clone, Debug)]
pub struct Acknowledgements {
    received: RangeSet,
    /// When the largest number arrived; the delay counts from here.
    largest_at: Instant,
    /// When the first ack-eliciting packet that no acknowledgement followed yet has waited long enough.
    waits_until: Option<Instant>,
    waiting_bytes: u64,
    bytes_max: u64,
    /// The newest ACK_FREQUENCY that was heard.
    frequency: Option<u64>,
    is_urgent: bool,
    /// Ack-eliciting packets up to this number are answered at once.
    haste_through: u64,
    ecn: EcnCounts,
    /// Acknowledgements sent since the peer last acknowledged one.
    acks_unanswered: u32,
}

impl Default for Acknowledgements {
    fn default() -> Self {
        Self::new()
    }
}

impl Acknowledgements {
    /// Nothing received yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            received: RangeSet::new(),
            largest_at: Instant::ZERO,
            waits_until: None,
            waiting_bytes: 0,
            bytes_max: ACK_BYTES_DEFAULT,
            frequency: None,
            is_urgent: false,
            haste_through: 0,
            ecn: EcnCounts { ect0: 0, ce: 0 },
            acks_unanswered: 0,
        }
    }

    /// Takes note of a packet, once per number: duplicates are the replay window's affair and change nothing here.
    #[inline]
    pub fn on_packet(&mut self, now: Instant, packet: &Received) {
        let number = packet.number.0;
        let placed = self.received.insert(number);
        match placed {
            Placed::Duplicate => return,
            Placed::Next => self.largest_at = now,
            Placed::Ahead => {
                self.largest_at = now;
                self.haste_through = number.saturating_add(HASTE_PACKETS - 1);
            }
            Placed::Behind | Placed::TooOld => {}
        }
        match packet.ecn {
            Ecn::Ect0 => self.ecn.ect0 += 1,
            Ecn::Ce => self.ecn.ce += 1,
            Ecn::NotEct | Ecn::Ect1 => {}
        }
        if packet.ack_eliciting {
            let until = now + if packet.is_patient { ACK_DELAY_PATIENT } else { ACK_DELAY_MAX };
            self.waits_until = Some(self.waits_until.map_or(until, |earlier| earlier.min(until)));
            self.waiting_bytes += packet.bytes as u64;
            self.is_urgent |= placed != Placed::Next || number <= self.haste_through || packet.ecn == Ecn::Ce;
        }
    }

    /// The peer wants an acknowledgement whenever so many bytes wait. An older wish than the newest heard is ignored.
    pub fn on_frequency(&mut self, sequence: u64, bytes: u64) {
        if self.frequency.is_none_or(|newest| sequence > newest) {
            self.frequency = Some(sequence);
            self.bytes_max = bytes.min(ACK_BYTES_MAX);
        }
    }

    /// The peer asked for an acknowledgement now.
    pub fn on_asked(&mut self) {
        self.is_urgent = true;
    }

    /// Whether an acknowledgement should leave now. Ask at the end of a drain, not within it.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.waits_until.is_some_and(|until| self.is_pressing() || now >= until)
    }

    const fn is_pressing(&self) -> bool {
        self.is_urgent || self.waiting_bytes >= self.bytes_max
    }

    /// Whether an acknowledgement would tell the peer of an ack-eliciting packet: worth adding to a packet that leaves anyway.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.waits_until.is_some()
    }

    /// When the next acknowledgement is due; in the past when it is due already.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.waits_until.map(|until| if self.is_pressing() { self.largest_at.min(until) } else { until })
    }

    /// How long the largest number has been here: the frame's delay field.
    #[must_use]
    pub const fn delay(&self, now: Instant) -> Duration {
        now.since(self.largest_at)
    }

    /// The largest number that arrived; `None` while there is nothing to acknowledge.
    #[must_use]
    pub fn largest(&self) -> Option<PacketNumber> {
        self.received.largest().map(PacketNumber)
    }

    /// What arrived, from the largest down, at most 64 ranges: what is news before what was told already.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + Clone + '_ {
        self.received.to_tell()
    }

    /// The marks seen so far; `None` when none was ever seen.
    #[must_use]
    pub fn ecn(&self) -> Option<EcnCounts> {
        (self.ecn != EcnCounts::default()).then_some(self.ecn)
    }

    /// An acknowledgement left. Remember `largest` with that packet, for `on_acknowledged`.
    pub fn on_sent(&mut self) {
        self.received.on_told();
        self.waits_until = None;
        self.waiting_bytes = 0;
        self.is_urgent = false;
        self.acks_unanswered = self.acks_unanswered.saturating_add(1);
    }

    /// The peer has an acknowledgement whose largest number was this: what lies below need not be said again.
    pub fn on_acknowledged(&mut self, largest: PacketNumber) {
        self.received.forget_through(largest.0);
        self.acks_unanswered = 0;
    }

    /// Whether the next acknowledgement should carry a ping, so that its ranges can be forgotten once that is answered.
    /// Only a side that sends nothing else needs it.
    #[must_use]
    pub fn is_ping_wanted(&self) -> bool {
        self.received.range_count() >= PING_RANGES && self.acks_unanswered >= PING_ACKS
    }

    /// Gives memory back that an idle session does not need.
    pub fn shrink(&mut self) {
        self.received.shrink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000);

    fn packet(number: u64) -> Received {
        Received {
            number: PacketNumber(number),
            bytes: 1_200,
            ack_eliciting: true,
            is_patient: false,
            ecn: Ecn::NotEct,
        }
    }

    /// A ledger with packet 0 received and acknowledged.
    fn settled() -> Acknowledgements {
        let mut ledger = Acknowledgements::new();
        ledger.on_packet(START, &packet(0));
        ledger.on_sent();
        ledger.haste_through = 0;
        ledger
    }

    /// In order and few: the acknowledgement waits 25 ms for company.
    /// spec: atp/acknowledgement
    #[test]
    fn a_lone_packet_is_acknowledged_after_the_delay() {
        let mut ledger = settled();
        assert_eq!((ledger.is_due(START), ledger.deadline()), (false, None));
        ledger.on_packet(START, &packet(1));
        assert!(ledger.is_wanted() && !ledger.is_due(START));
        let deadline = ledger.deadline().unwrap();
        assert_eq!(deadline, START + ACK_DELAY_MAX);
        assert!(ledger.is_due(deadline));
        assert_eq!(ledger.delay(deadline), ACK_DELAY_MAX);
        ledger.on_sent();
        assert!(!ledger.is_due(deadline) && !ledger.is_wanted());
    }

    /// What nobody waits for is acknowledged late, unless much of it waits or something else is due.
    /// spec: atp/acknowledgement
    #[test]
    fn unreliable_messages_are_acknowledged_patiently() {
        let patient = |number| Received { is_patient: true, ..packet(number) };
        let mut ledger = settled();
        ledger.on_packet(START, &patient(1));
        assert!(ledger.is_wanted() && !ledger.is_due(START + ACK_DELAY_MAX));
        assert_eq!(ledger.deadline(), Some(START + ACK_DELAY_PATIENT));
        assert!(ledger.is_due(START + ACK_DELAY_PATIENT));
        ledger.on_packet(START + ACK_DELAY_MAX, &packet(2));
        assert_eq!(ledger.deadline(), Some(START + ACK_DELAY_MAX * 2));
        ledger.on_sent();
        assert_eq!(ledger.deadline(), None);
        for number in 3..7 {
            assert!(!ledger.is_due(START), "{number}");
            ledger.on_packet(START, &patient(number));
        }
        assert!(ledger.is_due(START), "{ACK_BYTES_DEFAULT} bytes wait");
    }

    /// The peer's wish counts bytes; an older wish that arrives later changes nothing.
    /// spec: atp/acknowledgement
    #[test]
    fn enough_bytes_are_acknowledged_at_once() {
        let mut ledger = settled();
        ledger.on_frequency(2, 10 * 1_200);
        ledger.on_frequency(1, 1_200);
        for number in 1..10 {
            ledger.on_packet(START, &packet(number));
            assert!(!ledger.is_due(START));
        }
        ledger.on_packet(START, &packet(10));
        assert!(ledger.is_due(START));
        ledger.on_frequency(3, u64::MAX);
        assert_eq!(ledger.bytes_max, ACK_BYTES_MAX);
    }

    /// Gaps, stragglers, marks and wishes are answered at once; so are the packets that decide whether a gap is a loss.
    /// spec: atp/acknowledgement
    #[test]
    fn trouble_is_acknowledged_at_once() {
        let mut ledger = settled();
        for (number, is_due) in [(2, true), (3, true), (4, true), (5, false), (1, true), (6, false)] {
            ledger.on_packet(START, &packet(number));
            assert_eq!(ledger.is_due(START), is_due, "{number}");
            ledger.on_sent();
        }
        ledger.on_packet(START, &Received { ecn: Ecn::Ce, ..packet(7) });
        assert!(ledger.is_due(START));
        ledger.on_sent();
        ledger.on_packet(START, &packet(8));
        ledger.on_asked();
        assert!(ledger.is_due(START));
        assert_eq!(ledger.ecn(), Some(EcnCounts { ect0: 0, ce: 1 }));
    }

    /// Two nodes never acknowledge each other's acknowledgements.
    #[test]
    fn an_acknowledgement_alone_is_not_answered() {
        let mut ledger = settled();
        ledger.on_packet(START, &Received { ack_eliciting: false, ..packet(3) });
        assert_eq!((ledger.is_due(START + ACK_DELAY_MAX * 10), ledger.deadline()), (false, None));
        assert_eq!(ledger.ranges().collect::<Vec<_>>(), [3..=3, 0..=0]);
    }

    #[test]
    fn a_duplicate_changes_nothing() {
        let mut ledger = settled();
        ledger.on_packet(START, &Received { ecn: Ecn::Ect0, ..packet(0) });
        assert_eq!((ledger.is_wanted(), ledger.ecn()), (false, None));
    }

    /// What the peer knows is not said again, and a receiver that only receives asks for that knowledge with a ping.
    #[test]
    fn acknowledged_ranges_are_forgotten() {
        let mut ledger = settled();
        for number in (2..40).step_by(2) {
            ledger.on_packet(START, &packet(number));
            ledger.on_sent();
            ledger.on_sent();
        }
        assert!(ledger.is_ping_wanted());
        ledger.on_acknowledged(PacketNumber(37));
        assert_eq!(ledger.ranges().collect::<Vec<_>>(), [38..=38]);
        assert!(!ledger.is_ping_wanted());
        assert_eq!(ledger.largest(), Some(PacketNumber(38)));
    }
}
