//! A window that never changes: for tests of everything around it, and to measure without congestion control.

use super::{Acked, Congested, CongestionController, CongestionState, Phase};
use crate::time::Instant;

/// A constant window.
#[derive(Clone, Debug)]
pub struct Fixed {
    window: u64,
    recovery_end: u64,
    shrunk_count: u64,
}

impl Fixed {
    /// A window of so many bytes.
    #[must_use]
    pub const fn new(window: u64) -> Self {
        Self { window, recovery_end: 0, shrunk_count: 0 }
    }
}

impl CongestionController for Fixed {
    fn on_acked(&mut self, _: &Acked) {}

    fn on_congested(&mut self, congested: &Congested) -> bool {
        let is_new = congested.newest >= self.recovery_end;
        if is_new {
            self.recovery_end = congested.next;
            self.shrunk_count += 1;
        }
        is_new
    }

    fn on_persistent_congestion(&mut self) {}

    fn on_spurious_loss(&mut self) {}

    fn on_idle_end(&mut self, _: Instant) {}

    fn on_datagram_len(&mut self, _: usize) {}

    fn window(&self) -> u64 {
        self.window
    }

    fn recovery_end(&self) -> u64 {
        self.recovery_end
    }

    fn state(&self) -> CongestionState {
        CongestionState {
            window: self.window,
            slow_start_threshold: None,
            phase: Phase::Fixed,
            shrunk_count: self.shrunk_count,
            undone_count: 0,
        }
    }
}
