//! CUBIC (RFC 9438) with HyStart++ (RFC 9406).
//!
//! In:    acknowledgements, losses, marks.
//! Out:   a window in bytes.
//! Holds: two datagrams <= window <= [`WINDOW_MAX`]; one reduction per round trip, whatever its causes.
//!
//! spec: atp/cubic, atp/congestion

use super::curve::{BETA, Curve};
use super::hystart::{CONSERVATIVE_DIVISOR, HyStart, Step};
use super::{
    Acked, Cause, Congested, CongestionController, CongestionState, INITIAL_DATAGRAMS, MINIMUM_DATAGRAMS,
    Phase, WINDOW_MAX,
};
use crate::time::Instant;

/// What a reduction changed, to take it back (RFC 9438 section 4.9).
#[derive(Clone, Copy, Debug)]
struct Undo {
    window: u64,
    threshold: u64,
    curve: Curve,
}

/// The default controller.
#[derive(Clone, Debug)]
pub struct Cubic {
    window: u64,
    /// Slow start below it; `u64::MAX` until something said where it ends.
    threshold: u64,
    datagram: u64,
    recovery_end: u64,
    curve: Curve,
    hystart: HyStart,
    /// When the last acknowledgement came: the time since does not count when the window was not used.
    last_acked_at: Instant,
    undo: Option<Undo>,
    shrunk_count: u64,
    undone_count: u64,
}

impl Cubic {
    /// The initial window, in slow start.
    #[must_use]
    pub fn new(datagram_len: usize) -> Self {
        let datagram = datagram_len as u64;
        Self {
            window: INITIAL_DATAGRAMS * datagram,
            threshold: u64::MAX,
            datagram,
            recovery_end: 0,
            curve: Curve::default(),
            hystart: HyStart::new(),
            last_acked_at: Instant::ZERO,
            undo: None,
            shrunk_count: 0,
            undone_count: 0,
        }
    }

    const fn minimum(&self) -> u64 {
        MINIMUM_DATAGRAMS * self.datagram
    }

    fn slow_start(&mut self, acked: &Acked) {
        // HyStart++ is for the first slow start only: afterwards the threshold is known.
        let is_first = self.threshold == u64::MAX;
        let growth = match if is_first { self.hystart.on_acked(acked) } else { Step::Double } {
            Step::Double => acked.bytes,
            Step::Slow => acked.bytes / CONSERVATIVE_DIVISOR,
            Step::Leave => {
                self.threshold = self.window;
                return;
            }
        };
        if acked.is_window_used {
            self.window = (self.window + growth).min(self.threshold).min(WINDOW_MAX);
        }
    }

    fn avoidance(&mut self, acked: &Acked) {
        if acked.is_window_used {
            self.window = self.curve.grow(acked, self.window, self.datagram).min(WINDOW_MAX);
        } else {
            self.curve.pause(acked.now.since(self.last_acked_at));
        }
    }
}

impl CongestionController for Cubic {
    fn on_acked(&mut self, acked: &Acked) {
        if acked.largest >= self.recovery_end {
            if self.window < self.threshold { self.slow_start(acked) } else { self.avoidance(acked) }
        }
        self.last_acked_at = acked.now;
    }

    fn on_congested(&mut self, congested: &Congested) -> bool {
        if congested.newest < self.recovery_end {
            // A mark in the same round trip as a loss: the loss may prove to be none, the mark does not.
            if congested.cause == Cause::Mark {
                self.undo = None;
            }
            return false;
        }
        self.undo = (congested.cause == Cause::Loss).then_some(Undo {
            window: self.window,
            threshold: self.threshold,
            curve: self.curve,
        });
        self.recovery_end = congested.next;
        self.curve.on_shrunk(self.window);
        self.window = (self.window * BETA.0 / BETA.1).max(self.minimum());
        self.threshold = self.window;
        self.shrunk_count += 1;
        true
    }

    fn on_persistent_congestion(&mut self) {
        self.window = self.minimum();
        self.undo = None;
    }

    fn on_spurious_loss(&mut self) {
        if let Some(undo) = self.undo.take() {
            self.window = self.window.max(undo.window);
            self.threshold = undo.threshold;
            self.curve = undo.curve;
            self.undone_count += 1;
        }
    }

    fn on_idle_end(&mut self, now: Instant) {
        self.curve.pause(now.since(self.last_acked_at));
        self.last_acked_at = now;
    }

    fn on_datagram_len(&mut self, bytes: usize) {
        self.datagram = bytes as u64;
        self.window = self.window.max(self.minimum());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn recovery_end(&self) -> u64 {
        self.recovery_end
    }

    fn state(&self) -> CongestionState {
        let phase = match (self.window < self.threshold, self.hystart.is_conservative()) {
            (false, _) => Phase::Avoidance,
            (true, true) if self.threshold == u64::MAX => Phase::ConservativeSlowStart,
            (true, _) => Phase::SlowStart,
        };
        CongestionState {
            window: self.window,
            slow_start_threshold: (self.threshold != u64::MAX).then_some(self.threshold),
            phase,
            shrunk_count: self.shrunk_count,
            undone_count: self.undone_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const DATAGRAM: usize = 1_200;
    const ROUND_TRIP: Duration = Duration::from_millis(50);

    /// A flow that always uses its window: one call is one round trip in eight acknowledgements.
    struct Flow {
        cubic: Cubic,
        now: Instant,
        next: u64,
    }

    impl Flow {
        /// In congestion avoidance with a window of so many datagrams, nothing lost yet.
        fn with_window(datagrams: u64) -> Self {
            let mut cubic = Cubic::new(DATAGRAM);
            cubic.window = datagrams * DATAGRAM as u64;
            cubic.threshold = cubic.window;
            Self { cubic, now: Instant::from_nanos(1_000_000_000), next: 1 }
        }

        fn acked(&self, bytes: u64, is_window_used: bool) -> Acked {
            Acked {
                now: self.now,
                bytes,
                largest: self.next - 1,
                next: self.next,
                sample: Some(ROUND_TRIP),
                smoothed: ROUND_TRIP,
                is_window_used,
                in_flight: 0,
            }
        }

        fn round(&mut self) {
            let window = self.cubic.window();
            for _ in 0..8 {
                self.now += ROUND_TRIP / 8;
                self.next += 100;
                self.cubic.on_acked(&self.acked(window / 8, true));
            }
        }

        /// A sign of congestion in the newest packet.
        fn congested(&mut self, cause: Cause) -> bool {
            let congested = Congested { now: self.now, newest: self.next - 1, next: self.next, cause };
            self.cubic.on_congested(&congested)
        }
    }

    /// RFC 9438 in floating point, datagrams and seconds.
    struct Reference {
        w_max: f64,
        k: f64,
    }

    impl Reference {
        fn at(&self, t: f64) -> f64 {
            0.4 * (t - self.k).powi(3) + self.w_max
        }
    }

    /// Three epochs, each ended by one loss: once past the old window, once before reaching it (fast convergence), once at the plateau.
    /// spec: atp/cubic
    #[test]
    fn the_window_follows_the_rfc_within_two_percent_over_three_epochs() {
        let mut flow = Flow::with_window(1_000);
        let (mut w_max, mut compared) = (0.0_f64, 0);
        for seconds in [14.0, 4.0, 9.0] {
            let before = flow.cubic.window() as f64 / DATAGRAM as f64;
            w_max = if before < w_max { before * 0.85 } else { before };
            assert!(flow.congested(Cause::Loss));
            let after = flow.cubic.window() as f64 / DATAGRAM as f64;
            assert!((after / (before * 0.7) - 1.0).abs() < 0.001, "beta: {before} to {after}");
            let reference = Reference { w_max: w_max.max(after), k: ((w_max - after).max(0.0) / 0.4).cbrt() };

            flow.next += 1;
            let start = flow.now + ROUND_TRIP / 8; // the first acknowledgement begins the epoch
            while flow.now.since(start).as_secs_f64() < seconds {
                flow.round();
                let t = flow.now.since(start).as_secs_f64();
                let (is, should) = (flow.cubic.window() as f64 / DATAGRAM as f64, reference.at(t));
                assert!((is / should - 1.0).abs() < 0.02, "after {t:.2} s: {is:.1} instead of {should:.1}");
                compared += 1;
            }
        }
        assert!(compared > 500);
    }

    /// Where Reno would be faster, CUBIC is as fast: one datagram a round trip once the old window is reached.
    /// spec: atp/cubic
    #[test]
    fn a_short_path_grows_as_reno_would() {
        let mut flow = Flow::with_window(10);
        flow.congested(Cause::Loss);
        flow.next += 1;
        let mut windows = Vec::new();
        for _ in 0..30 {
            flow.round();
            windows.push(flow.cubic.window() / 120);
        }
        // 7 datagrams; 9/17 of one per round trip up to 10 (six round trips), then one.
        assert!((96..=103).contains(&windows[5]), "{windows:?}");
        assert!((195..=215).contains(&windows[15]), "{windows:?}");
    }

    /// A loss and marks within one round trip are one sign of congestion.
    /// spec: atp/congestion
    #[test]
    fn marks_halve_nothing_twice_in_a_round_trip() {
        let mut flow = Flow::with_window(1_000);
        assert!(flow.congested(Cause::Mark));
        let once = flow.cubic.window();
        assert_eq!(once, 700 * 1_200);
        // Everything sent so far belongs to the round trip that shrank, however its marks and losses trickle in.
        for cause in [Cause::Mark, Cause::Loss, Cause::Mark] {
            let newest = flow.cubic.recovery_end() - 1;
            let congested = Congested { now: flow.now, newest, next: flow.next + 500, cause };
            assert!(!flow.cubic.on_congested(&congested));
        }
        assert_eq!((flow.cubic.window(), flow.cubic.state().shrunk_count), (once, 1));
        flow.next += 1;
        assert!(flow.congested(Cause::Mark), "the next round trip counts again");
    }

    /// What was sent before the window shrank does not grow it.
    /// spec: atp/congestion
    #[test]
    fn nothing_grows_during_recovery() {
        let mut flow = Flow::with_window(100);
        flow.next = 1_000;
        flow.congested(Cause::Loss);
        let window = flow.cubic.window();
        flow.next = 100;
        flow.round();
        assert_eq!(flow.cubic.window(), window);
    }

    /// A lying receiver or a lazy application grows nothing: the window must have been full (T4).
    /// spec: atp/congestion
    #[test]
    fn an_unused_window_does_not_grow() {
        let mut flow = Flow::with_window(100);
        flow.cubic.threshold = u64::MAX;
        let window = flow.cubic.window();
        for _ in 0..100 {
            flow.now += ROUND_TRIP;
            flow.cubic.on_acked(&flow.acked(1_200, false));
        }
        assert_eq!(flow.cubic.window(), window);
    }

    /// Time during which the application was the limit does not move the curve: no burst of growth afterwards.
    #[test]
    fn a_pause_does_not_move_the_curve() {
        let run = |pause: bool| {
            let mut flow = Flow::with_window(1_000);
            flow.congested(Cause::Loss);
            flow.next += 1;
            (0..20).for_each(|_| flow.round());
            if pause {
                flow.now += Duration::from_secs(30);
                flow.cubic.on_idle_end(flow.now);
                for _ in 0..100 {
                    flow.now += ROUND_TRIP;
                    flow.cubic.on_acked(&flow.acked(1_200, false));
                }
            }
            (0..20).for_each(|_| flow.round());
            flow.cubic.window()
        };
        assert_eq!(run(true), run(false));
    }

    /// Losses that were none are taken back whole; with a mark among them they are not.
    #[test]
    fn a_spurious_loss_is_undone() {
        let mut flow = Flow::with_window(1_000);
        let before = flow.cubic.state();
        flow.congested(Cause::Loss);
        flow.cubic.on_spurious_loss();
        let after = flow.cubic.state();
        assert_eq!((after.window, after.slow_start_threshold), (before.window, before.slow_start_threshold));
        flow.next += 1;
        flow.congested(Cause::Loss);
        let shrunk = flow.cubic.window();
        let newest = flow.next - 1;
        flow.cubic.on_congested(&Congested {
            now: flow.now,
            newest,
            next: flow.next + 9,
            cause: Cause::Mark,
        });
        flow.cubic.on_spurious_loss();
        assert_eq!(flow.cubic.window(), shrunk);
    }

    /// Two datagrams always remain, and slow start leads back to where it was.
    #[test]
    fn persistent_congestion_leaves_two_datagrams() {
        let mut flow = Flow::with_window(100);
        flow.congested(Cause::Loss);
        flow.next += 1;
        flow.cubic.on_persistent_congestion();
        assert_eq!((flow.cubic.window(), flow.cubic.state().phase), (2_400, Phase::SlowStart));
        for _ in 0..10 {
            flow.round();
        }
        assert!(flow.cubic.window() >= 70 * 1_200);
        for _ in 0..20 {
            flow.congested(Cause::Loss);
            flow.next += 1;
        }
        assert_eq!(flow.cubic.window(), 2_400);
        flow.cubic.on_datagram_len(9_000);
        assert_eq!(flow.cubic.window(), 18_000);
    }

    /// Slow start doubles every round trip and stops at the largest window.
    #[test]
    fn slow_start_doubles() {
        let mut flow = Flow::with_window(INITIAL_DATAGRAMS);
        flow.cubic.threshold = u64::MAX;
        flow.round();
        assert_eq!(flow.cubic.window(), 2 * INITIAL_DATAGRAMS * 1_200);
        assert!(flow.cubic.pacing_rate(ROUND_TRIP) == flow.cubic.window() * 40);
        (0..20).for_each(|_| flow.round());
        assert_eq!(flow.cubic.window(), WINDOW_MAX);
        flow.cubic.threshold = 1;
        assert!(flow.cubic.pacing_rate(ROUND_TRIP) == WINDOW_MAX * 25);
    }
}
