//! What goes into recovery and comes out of it.
//!
//! In:    nothing; plain values.
//! Out:   [`SentPacket`], [`AckInput`], [`Outcome`], [`TimeoutKind`] and their parts.
//! Holds: each names what its fields mean to whoever drives a [`super::Recovery`].

use core::time::Duration;

use dunlin_codec::frame::EcnCounts;
use dunlin_codec::ids::PacketNumber;

use crate::arq::congestion::Algorithm;
use crate::arq::mtu::DATAGRAM_LEN_DEFAULT;

/// What a packet is to recovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SentKind {
    /// Nothing in it asks for an answer: never lost, never counted in the window.
    AckOnly,
    /// The peer must answer.
    Eliciting,
    /// The peer must answer, and takes its time: nothing in it would be sent again.
    Patient,
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
    /// [`super::Recovery::unanswered`], or ping. Meanwhile [`super::Recovery::datagram_len`] is small.
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
    /// What the controller does by chance follows from it.
    pub seed: u64,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self { algorithm: Algorithm::Cubic, datagram_len_max: DATAGRAM_LEN_DEFAULT, seed: 0 }
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
