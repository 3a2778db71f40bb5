//! Rate and window, from the model and the state.
//!
//! In:    the model, the state's gains.
//! Out:   a pacing rate a hundredth below the estimate; a window of twice what the path holds, within the bounds.
//! Holds: the window grows by what was acknowledged at most.
//!
//! spec: atp/bbr

use core::time::Duration;

use super::cycle::State;
use super::model::bytes_in;
use super::{BBR_MINIMUM_DATAGRAMS, Bbr};
use crate::arq::congestion::{Acked, INITIAL_DATAGRAMS, WINDOW_MAX};
use crate::arq::pacer::{PACED_RTT_MIN, TRAIN_TIME};
use crate::time::nanos_of;

use super::bounds::{UNBOUNDED, part};

/// What is left of a rate, so that the queue does not grow for ever by an estimate a little too high.
const MARGIN: (u64, u64) = (99, 100);
/// The share of the upper bound that is left to others while nothing is tried.
const HEADROOM: (u64, u64) = (15, 100);
/// Trains that are under way on the shortest path: one leaves, one arrives, one is acknowledged.
const TRAINS: u64 = 3;
/// A train counts as no more than the machine sends in one call.
const TRAIN_LEN_MAX: u64 = 64 << 10;
/// Hundredths: bytes leave at 2.77 times the estimate in STARTUP.
pub(super) const STARTUP_GAIN: u64 = 277;
/// Datagrams more than the path holds, so that even a tiny window can try more.
const UP_DATAGRAMS: u64 = 2;

/// Bytes a second before anything was measured but a round trip.
pub(super) fn initial_rate(window: u64, smoothed: Duration) -> u64 {
    let rate =
        u128::from(window) * u128::from(STARTUP_GAIN) * 10_000_000 / u128::from(nanos_of(smoothed).max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

impl Bbr {
    pub(super) const fn minimum(&self) -> u64 {
        BBR_MINIMUM_DATAGRAMS * self.datagram
    }

    /// Bytes that the path holds at that bandwidth, times so many hundredths.
    pub(super) fn product(&self, bandwidth: u64, gain: u64) -> u64 {
        match self.min_rtt.get() {
            Some(round_trip) if bandwidth > 0 => part(bytes_in(bandwidth, round_trip), (gain, 100)),
            _ => INITIAL_DATAGRAMS * self.datagram,
        }
    }

    /// No less than whole trains need.
    fn in_trains(&self, bytes: u64) -> u64 {
        let train = bytes_in(self.pacing_rate, TRAIN_TIME).min(TRAIN_LEN_MAX).max(2 * self.datagram);
        let more = if self.cycle.state == State::Up { UP_DATAGRAMS * self.datagram } else { 0 };
        bytes.max(TRAINS * train).max(self.minimum()) + more
    }

    /// Bytes under way that fill the path and no queue.
    pub(super) fn full_inflight(&self) -> u64 {
        self.in_trains(self.product(self.bandwidth.get(), 100))
    }

    /// Bytes under way that are wanted, as far as the window lets them.
    pub(super) fn target_inflight(&self) -> u64 {
        self.product(self.bandwidth(), 100).min(self.window)
    }

    /// What the upper bound leaves when others shall find room.
    pub(super) fn inflight_with_headroom(&self) -> u64 {
        let high = self.losses.bounds.inflight_high;
        if high == UNBOUNDED {
            return UNBOUNDED;
        }
        high.saturating_sub(part(high, HEADROOM).max(self.datagram)).max(self.minimum())
    }

    /// The window of PROBE_RTT: half of what the path holds.
    pub(super) fn probe_rtt_window(&self) -> u64 {
        self.product(self.bandwidth(), 50).max(self.minimum())
    }

    pub(super) fn set_pacing_rate(&mut self, smoothed: Duration) {
        self.is_unpaced = smoothed < PACED_RTT_MIN;
        if self.pacing_rate == 0 {
            self.pacing_rate = initial_rate(self.window, smoothed);
        }
        self.pace_with_gain(self.cycle.state.pacing_gain());
    }

    pub(super) fn pace_with_gain(&mut self, gain: u64) {
        let rate = part(part(self.bandwidth(), (gain, 100)), MARGIN);
        if self.full.is_reached() || rate > self.pacing_rate {
            self.pacing_rate = rate.max(1);
        }
    }

    pub(super) fn set_window(&mut self, acked: &Acked) {
        let state = self.cycle.state;
        let wanted = self.product(self.bandwidth(), state.window_gain()).saturating_add(self.extra.get());
        let most = self.in_trains(wanted);
        if self.full.is_reached() {
            self.window = (self.window + acked.bytes).min(most);
        } else if self.window < most || self.sampler.delivered() < INITIAL_DATAGRAMS * self.datagram {
            self.window += acked.bytes;
        }
        self.window = self.window.min(self.window_max()).max(self.minimum()).min(WINDOW_MAX);
    }

    /// What state and bounds allow.
    fn window_max(&self) -> u64 {
        let bounds = &self.losses.bounds;
        let high = match self.cycle.state {
            State::Startup | State::Drain => UNBOUNDED,
            State::Down | State::Refill | State::Up => bounds.inflight_high,
            State::Cruise => self.inflight_with_headroom(),
            State::ProbeRtt => self.inflight_with_headroom().min(self.probe_rtt_window()),
        };
        // Where nothing is paced a lower rate is a smaller window.
        let is_draining = self.is_unpaced && self.cycle.state.pacing_gain() < 100;
        let full = if is_draining { self.full_inflight() } else { UNBOUNDED };
        high.min(full).min(bounds.inflight_low)
    }
}
