//! CUBIC's curve in integers: W(t) = C (t - K)^3 + W_max, and the window of a Reno-like flow beside it.
//!
//! In:    `on_shrunk` (the window before), `grow` (an acknowledgement during congestion avoidance).
//! Out:   the window that the acknowledgement makes.
//! Holds: microseconds and bytes; C = 0.4 datagrams a second cubed, beta = 0.7 (RFC 9438 sections 4.1 to 4.6).
//!
//! spec: atp/cubic

use core::time::Duration;

use super::Acked;
use crate::time::{Instant, nanos_of};

/// beta: what is left of a window that shrank.
pub(super) const BETA: (u64, u64) = (7, 10);
/// (1 + beta) / 2: what is believed of the old window by a flow that lost again before it got there.
const FAST_CONVERGENCE: (u64, u64) = (17, 20);
/// 3 (1 - beta) / (1 + beta): additive increase that makes a Reno-like flow with this beta as fast as Reno.
const ALPHA: (u64, u64) = (9, 17);
/// C * 10^18 us^3 / s^3 = 4 / 10^19.
const C: (u128, u128) = (4, 10_000_000_000_000_000_000);
/// Times are cut here, more than an hour: cubes stay far below 128 bits.
const MICROS_MAX: u64 = 1 << 32;

/// The curve since the window last shrank.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Curve {
    /// W_max: where the window was, bytes.
    origin: u64,
    /// cwnd_prior: the window before it shrank, bytes.
    prior: u64,
    /// K: microseconds from the start until the curve is back at `origin`.
    k: u64,
    /// When this stretch of congestion avoidance began, less the time the application was the limit.
    epoch: Option<Instant>,
    /// W_est: what a Reno-like flow would have, bytes.
    friendly: u64,
    /// Remainders of the divisions, in bytes times window.
    friendly_rest: u64,
    rest: u64,
}

impl Curve {
    /// The window shrinks from `window` bytes.
    pub(super) fn on_shrunk(&mut self, window: u64) {
        let is_behind = window < self.origin;
        self.origin = if is_behind { window * FAST_CONVERGENCE.0 / FAST_CONVERGENCE.1 } else { window };
        self.prior = window;
        self.epoch = None;
    }

    /// Time that does not count: nobody used the window meanwhile.
    pub(super) fn pause(&mut self, pause: Duration) {
        if let Some(epoch) = &mut self.epoch {
            *epoch += pause;
        }
    }

    /// The window after an acknowledgement.
    pub(super) fn grow(&mut self, acked: &Acked, window: u64, datagram: u64) -> u64 {
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => self.begin(acked.now, window, datagram),
        };
        let elapsed = acked.now.since(epoch);
        self.grow_friendly(acked.bytes, window, datagram);
        if self.at(elapsed, datagram) < self.friendly {
            return window.max(self.friendly);
        }
        let target = self.at(elapsed + acked.smoothed, datagram).clamp(window, window + window / 2);
        let sum = (target - window) * acked.bytes + self.rest;
        self.rest = sum % window;
        window + sum / window
    }

    fn begin(&mut self, now: Instant, window: u64, datagram: u64) -> Instant {
        self.epoch = Some(now);
        self.origin = self.origin.max(window);
        self.k = cube_root(u128::from(self.origin - window) * C.1 / (C.0 * u128::from(datagram)));
        self.friendly = window;
        (self.friendly_rest, self.rest) = (0, 0);
        now
    }

    /// W_cubic at a time since the epoch, bytes.
    fn at(&self, elapsed: Duration, datagram: u64) -> u64 {
        let micros = (nanos_of(elapsed) / 1_000).min(MICROS_MAX);
        let distance = u128::from(micros.abs_diff(self.k).min(MICROS_MAX));
        let bytes = C.0 * u128::from(datagram) * distance * distance * distance / C.1;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if micros < self.k { self.origin.saturating_sub(bytes) } else { self.origin.saturating_add(bytes) }
    }

    /// W_est += alpha * acked / window datagrams; alpha is 1 once the window before the loss is reached.
    fn grow_friendly(&mut self, bytes: u64, window: u64, datagram: u64) {
        let (numerator, denominator) = if self.friendly < self.prior { ALPHA } else { (1, 1) };
        let sum = bytes * datagram * numerator + self.friendly_rest;
        self.friendly += sum / (window * denominator);
        self.friendly_rest = sum % (window * denominator);
    }
}

/// The largest integer whose cube is at most `cube`, as far as 42 bits reach.
const fn cube_root(cube: u128) -> u64 {
    let mut root: u128 = 0;
    let mut bit = 1 << 41;
    while bit > 0 {
        let candidate = root | bit;
        if candidate * candidate * candidate <= cube {
            root = candidate;
        }
        bit >>= 1;
    }
    root as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cube_roots_of_small_numbers() {
        assert_eq!([0, 1, 7, 8, 26, 27, 1_000_000].map(cube_root), [0, 1, 1, 2, 2, 3, 100]);
    }

    /// W_max 1,000 datagrams, window 700: K = cbrt(300 / 0.4) = 9.0856 s.
    /// spec: atp/cubic
    #[test]
    fn the_curve_is_back_where_it_was_after_k() {
        let mut curve = Curve::default();
        curve.on_shrunk(1_200_000);
        curve.begin(Instant::ZERO, 840_000, 1_200);
        assert_eq!(curve.k, 9_085_602);
        let at = |seconds| curve.at(Duration::from_secs(seconds), 1_200);
        assert!(at(0).abs_diff(840_000) <= 1);
        assert!(at(9).abs_diff(1_200_000) <= 1);
        assert!(at(19) > 1_600_000);
    }

    /// A flow that lost before it came back gives room to others.
    /// spec: atp/cubic
    #[test]
    fn losing_early_lowers_the_aim() {
        let mut curve = Curve::default();
        curve.on_shrunk(1_000_000);
        curve.on_shrunk(800_000);
        assert_eq!((curve.origin, curve.prior), (680_000, 800_000));
    }

    proptest! {
        #[test]
        fn cube_root_is_exact(root in 0u64..1 << 41) {
            let wide = u128::from(root);
            prop_assert_eq!(cube_root(wide.pow(3)), root);
            prop_assert_eq!(cube_root((wide + 1).pow(3) - 1), root);
        }

        /// No peer and no clock can make the arithmetic overflow or the window shrink.
        #[test]
        fn growing_never_shrinks(
            window in 2_400u64..1 << 26, lost_at in 2_400u64..1 << 26, seconds in 0u64..1 << 40, bytes in 0u64..1 << 26,
            smoothed in 0u64..1 << 50, datagram in 1_200u64..9_217,
        ) {
            let mut curve = Curve::default();
            curve.on_shrunk(lost_at);
            let mut acked = Acked {
                now: Instant::ZERO, bytes, largest: 1, next: 2, sample: None,
                smoothed: Duration::from_nanos(smoothed), is_window_used: true,
                in_flight: 0,
            };
            prop_assert!(curve.grow(&acked, window, datagram) >= window);
            acked.now = Instant::ZERO + Duration::from_secs(seconds);
            let grown = curve.grow(&acked, window, datagram);
            prop_assert!(grown >= window);
        }
    }
}
