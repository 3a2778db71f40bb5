//! The near side's handler: a ball between two handlers, and answers to a schedule, timed on the core that owns the peer.
//!
//! Holds: the handler takes the lock that nobody else wants while the rally is on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dunlin::{Channel, Handler, Reply, Verdict};
use hdrhistogram::Histogram;

use crate::messages::{ECHO_ON_CORE, PACED_ON_CORE, number, set_number, times};
use crate::recorder::{Recorder, histogram};

/// Takes a lock whose holder cannot have left anything half done.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Answers to a schedule, of one engine.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// What the schedule's times count from.
    pub(crate) start: Instant,
    pub(crate) recorder: Arc<Mutex<Recorder>>,
}

impl Course {
    /// An answer has arrived.
    pub(crate) fn on_answer(&self, message: &[u8]) {
        let now = self.start.elapsed().as_nanos() as u64;
        lock(&self.recorder).on_answer(times(message), now);
    }
}

/// The near side's handler: strikes back what comes, and counts it.
#[derive(Clone)]
pub(crate) struct Striker {
    pub(crate) rally: Arc<Mutex<Rally>>,
    pub(crate) course: Course,
}

impl Handler for Striker {
    fn on_message(&mut self, _channel: Channel, bytes: &[u8], reply: &mut Reply<'_>) -> Verdict {
        match bytes.first().copied() {
            Some(ECHO_ON_CORE) => strike(&self.rally, bytes, reply),
            Some(PACED_ON_CORE) => self.course.on_answer(bytes),
            _ => return Verdict::Pass,
        }
        Verdict::Handled
    }
}

/// Counts what came back and sends the next.
fn strike(rally: &Mutex<Rally>, bytes: &[u8], reply: &mut Reply<'_>) {
    let mut rally = lock(rally);
    let now = rally.now();
    rally.times.saturating_record(now.saturating_sub(number(bytes)));
    let mut ball = [0; MESSAGE_MAX];
    let Some(ball) = ball.get_mut(..bytes.len()).filter(|_| rally.is_on) else {
        rally.is_over = true;
        return;
    };
    ball.copy_from_slice(bytes);
    set_number(ball, now);
    rally.is_over = !reply.send(ball);
}

/// The longest message that the handler strikes back.
pub(crate) const MESSAGE_MAX: usize = 2_048;
