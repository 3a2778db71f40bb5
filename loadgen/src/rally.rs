//! A ball between two handlers: each round trip is timed on the core that owns the peer.
//!
//! Holds: the handler takes the lock that nobody else wants while the rally is on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dunlin::{Channel, Handler, Reply, Verdict};
use hdrhistogram::Histogram;

use crate::messages::{ECHO_ON_CORE, number, set_number};

/// The longest round trip that is told apart.
const LONGEST_NS: u64 = 60_000_000_000;
/// Decimal places that are told apart.
const PLACES: u8 = 3;

/// An empty histogram of nanoseconds; counting never allocates.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, PLACES).expect("the bounds are in order")
}

pub(crate) fn lock(rally: &Mutex<Rally>) -> MutexGuard<'_, Rally> {
    rally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the near side's handler and the measuring thread share.
pub(crate) struct Rally {
    pub(crate) start: Instant,
    pub(crate) is_on: bool,
    pub(crate) is_over: bool,
    pub(crate) times: Histogram<u64>,
}

impl Default for Rally {
    fn default() -> Self {
        Self { start: Instant::now(), is_on: false, is_over: false, times: histogram() }
    }
}

impl Rally {
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// The near side's handler: counts what comes back and sends the next.
pub(crate) struct Striker(pub(crate) Arc<Mutex<Rally>>);

impl Handler for Striker {
    fn on_message(&mut self, _channel: Channel, bytes: &[u8], reply: &mut Reply<'_>) -> Verdict {
        if bytes.first() != Some(&ECHO_ON_CORE) {
            return Verdict::Pass;
        }
        let mut rally = lock(&self.0);
        let now = rally.now();
        rally.times.saturating_record(now.saturating_sub(number(bytes)));
        let mut ball = [0; MESSAGE_MAX];
        let Some(ball) = ball.get_mut(..bytes.len()).filter(|_| rally.is_on) else {
            rally.is_over = true;
            return Verdict::Handled;
        };
        ball.copy_from_slice(bytes);
        set_number(ball, now);
        rally.is_over = !reply.send(ball);
        Verdict::Handled
    }
}

/// The longest message that the handler strikes back.
pub(crate) const MESSAGE_MAX: usize = 2_048;
