//! How many bytes may be under way: the window, and who decides about it.
//!
//! In:    what acknowledgements and losses say, summed up per acknowledgement ([`Acked`], [`Congested`]).
//! Out:   `window`, `pacing_rate`, `state`.
//! Holds: a window is never below two datagrams; CUBIC's shrinks at most once in a round trip, and grows only while it is used (T4).
//!
//! Rounds are told by packet numbers, not by time: a train's packets all leave at the same instant.
//! spec: atp/congestion

mod bbr;
mod cubic;
mod curve;
mod fixed;
mod hystart;

use core::time::Duration;

pub use bbr::{BBR_MINIMUM_DATAGRAMS, Bbr};
pub use cubic::Cubic;
pub use fixed::Fixed;

use crate::limits::BUFFER_LEN_MAX;
use crate::time::{Instant, nanos_of};

/// Datagrams in the first window. RFC 9002 says ten, for senders that may not pace: ours does, and an eighth of thirty-two is the least
/// that an acknowledgement of several packets can cover. (Deployed QUIC has used 32 for a decade.)
pub const INITIAL_DATAGRAMS: u64 = 32;
/// Datagrams in the smallest window.
pub const MINIMUM_DATAGRAMS: u64 = 2;
/// Bytes in the largest window: everything that the send buffer holds, and as much again for what is sent twice.
pub const WINDOW_MAX: u64 = 2 * BUFFER_LEN_MAX as u64;

/// What one acknowledgement newly covered.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// When it arrived.
    pub now: Instant,
    /// Bytes newly acknowledged of packets that count and were sent after the window last shrank.
    pub bytes: u64,
    /// The largest number newly acknowledged.
    pub largest: u64,
    /// The number that will be sent next.
    pub next: u64,
    /// The round trip of `largest`, when it was measured.
    pub sample: Option<Duration>,
    /// The smoothed round trip.
    pub smoothed: Duration,
    /// Whether the window, not the application, was what held bytes back.
    pub is_window_used: bool,
    /// Bytes still under way.
    pub in_flight: u64,
}

/// A packet that leaves, for a controller that measures ([`Controller::measuring`]).
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// When.
    pub now: Instant,
    /// Its number.
    pub number: u64,
    /// Its bytes; zero when nobody needs to answer it.
    pub bytes: u64,
    /// Bytes under way before it.
    pub in_flight: u64,
    /// The lowest number whose fate may still become known.
    pub base: u64,
}

/// What one acknowledgement newly covered, for a controller that measures. Told before the losses that it shows.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// When it arrived.
    pub now: Instant,
    /// The largest number newly acknowledged.
    pub largest: u64,
    /// Bytes newly acknowledged of packets that were sent on this path, those given up before among them.
    pub bytes: u64,
}

/// A packet given up, for a controller that measures.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// When that was noticed.
    pub now: Instant,
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// Why a window shrinks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// A packet was lost.
    Loss,
    /// A packet was marked with CE.
    Mark,
}

/// A sign of congestion.
#[derive(Clone, Copy, Debug)]
pub struct Congested {
    /// When it was noticed.
    pub now: Instant,
    /// The newest packet that was lost, or acknowledged together with a mark.
    pub newest: u64,
    /// The number that will be sent next.
    pub next: u64,
    /// What happened.
    pub cause: Cause,
}

/// What a controller is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Doubling every round trip.
    SlowStart,
    /// HyStart++ saw the round trip grow: slower, and ready to believe that it was wrong.
    ConservativeSlowStart,
    /// Along CUBIC's curve.
    Avoidance,
    /// The window does not change.
    Fixed,
    /// BBR: filling the pipe.
    Startup,
    /// BBR: draining the queue that this made.
    Drain,
    /// BBR: a little slower than the path, after a try for more.
    ProbeDown,
    /// BBR: as fast as the path.
    Cruise,
    /// BBR: before a try for more.
    Refill,
    /// BBR: trying for more.
    ProbeUp,
    /// BBR: next to nothing under way, to see the path without a queue.
    ProbeRtt,
}

/// A controller's state, for statistics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CongestionState {
    /// Bytes that may be under way.
    pub window: u64,
    /// Where slow start ends; `None` while that is unknown.
    pub slow_start_threshold: Option<u64>,
    /// What it is doing.
    pub phase: Phase,
    /// How often the window shrank.
    pub shrunk_count: u64,
    /// How often that was taken back, because the losses were none.
    pub undone_count: u64,
}

/// Decides how many bytes may be under way. Called once per acknowledgement, never per packet.
pub trait CongestionController {
    /// Packets were acknowledged. Losses that the same acknowledgement shows come first.
    fn on_acked(&mut self, acked: &Acked);

    /// Packets were lost or marked. Returns whether the window shrank: it does not when `newest` was sent before it last did.
    fn on_congested(&mut self, congested: &Congested) -> bool;

    /// Nothing got through for several probe timeouts.
    fn on_persistent_congestion(&mut self);

    /// Every packet whose loss last shrank the window has arrived after all.
    fn on_spurious_loss(&mut self);

    /// Something is sent again after nothing was under way.
    fn on_idle_end(&mut self, now: Instant);

    /// Full datagrams have another size.
    fn on_datagram_len(&mut self, bytes: usize);

    /// Bytes that may be under way.
    fn window(&self) -> u64;

    /// Packets below this number were sent before the window last shrank: acknowledging them does not grow it.
    fn recovery_end(&self) -> u64;

    /// What to tell in statistics.
    fn state(&self) -> CongestionState;

    /// Bytes a second to pace at: twice the window per round trip during slow start, 5/4 otherwise.
    fn pacing_rate(&self, smoothed: Duration) -> u64 {
        let is_doubling = matches!(self.state().phase, Phase::SlowStart | Phase::ConservativeSlowStart);
        let quarters = if is_doubling { 8 } else { 5 };
        let bytes = u128::from(self.window()) * quarters * 250_000_000;
        u64::try_from(bytes / u128::from(nanos_of(smoothed).max(1))).unwrap_or(u64::MAX)
    }
}

/// Which controller to use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Algorithm {
    /// CUBIC with HyStart++.
    #[default]
    Cubic,
    /// BBR version 3.
    Bbr,
    /// A window of so many bytes that never changes, for tests and measurements.
    Fixed(u64),
}

/// The controller of a session. An enumeration, so that an idle session owns no memory for it.
#[expect(
    clippy::large_enum_variant,
    reason = "the small variants are for tests and for BBR, whose state is twice as large; a box would be an allocation per session"
)]
#[derive(Clone, Debug)]
pub enum Controller {
    /// CUBIC with HyStart++.
    Cubic(Cubic),
    /// BBR version 3.
    Bbr(Box<Bbr>),
    /// A window that never changes.
    Fixed(Fixed),
}

impl Controller {
    /// A controller for a path whose full datagrams have so many bytes. What it does by chance follows from `seed`.
    #[must_use]
    pub fn new(algorithm: Algorithm, datagram_len: usize, seed: u64) -> Self {
        match algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::new(datagram_len)),
            Algorithm::Bbr => Self::Bbr(Box::new(Bbr::new(datagram_len, seed))),
            Algorithm::Fixed(window) => Self::Fixed(Fixed::new(window)),
        }
    }

    /// The controller inside, to ask.
    #[must_use]
    pub fn controller(&self) -> &dyn CongestionController {
        match self {
            Self::Cubic(cubic) => cubic,
            Self::Bbr(bbr) => bbr.as_ref(),
            Self::Fixed(fixed) => fixed,
        }
    }

    /// The controller inside, to tell.
    pub fn controller_mut(&mut self) -> &mut dyn CongestionController {
        match self {
            Self::Cubic(cubic) => cubic,
            Self::Bbr(bbr) => bbr.as_mut(),
            Self::Fixed(fixed) => fixed,
        }
    }

    /// Bytes that may be under way.
    #[inline]
    #[must_use]
    pub fn window(&self) -> u64 {
        match self {
            Self::Cubic(cubic) => cubic.window(),
            Self::Bbr(bbr) => bbr.window(),
            Self::Fixed(fixed) => fixed.window(),
        }
    }

    /// The controller that wants to know of each packet, if this is one. The others cost a comparison per packet.
    #[inline]
    pub fn measuring(&mut self) -> Option<&mut Bbr> {
        if let Self::Bbr(bbr) = self { Some(bbr) } else { None }
    }
}
