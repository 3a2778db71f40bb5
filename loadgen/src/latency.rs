//! Round trips, one at a time: handler to handler, application to application, shard to shard.
//!
//! Holds: a round trip counts from the time that its message carries: when it was meant to be sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dunlin::{Channel, Handler, Peer, Reply, Verdict};
use hdrhistogram::Histogram;

use crate::Fault;
use crate::messages::{ECHO, ECHO_ON_CORE, message, number, set_number};
use crate::near::Near;
use crate::options::Over;
use crate::report::Report;

/// Round trips before counting begins.
const WARM_UP: Duration = Duration::from_millis(300);
/// The longest round trip that is told apart.
const LONGEST_NS: u64 = 60_000_000_000;
/// Decimal places that are told apart.
const PLACES: u8 = 3;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

pub(crate) fn run(
    near: &mut Near,
    over: &[Over],
    size: usize,
    wanted: Duration,
    report: &mut Report,
) -> Result<(), Fault> {
    let peer = near.connect()?;
    for over in over {
        measure(near, &peer, (*over, size), WARM_UP)?;
        near.begin(&peer)?;
        let start = Instant::now();
        let times = measure(near, &peer, (*over, size), wanted)?;
        let seconds = start.elapsed().as_secs_f64();
        let (_, used) = near.end(&peer)?;
        report.section(over.name());
        report.add_times(&times);
        report.add_used(&used, seconds);
    }
    peer.close(0);
    Ok(())
}

fn measure(
    near: &Near,
    peer: &Peer,
    (over, size): (Over, usize),
    wanted: Duration,
) -> Result<Histogram<u64>, Fault> {
    match over {
        Over::Core => on_core(&near.rally, peer, size, wanted),
        Over::Api => by_api(peer, size, wanted),
        Over::Ping => by_ping(peer, wanted),
    }
}

/// An empty histogram of nanoseconds; counting never allocates.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, PLACES).expect("the bounds are in order")
}

/// Handlers on both sides play; this thread starts and ends it.
fn on_core(
    rally: &Arc<Mutex<Rally>>,
    peer: &Peer,
    size: usize,
    wanted: Duration,
) -> Result<Histogram<u64>, Fault> {
    let mut ball = message(ECHO_ON_CORE, size);
    if ball.len() > MESSAGE_MAX {
        return Err(
            format!("--size {size} is too long for a handler's round trip: {MESSAGE_MAX} at most").into()
        );
    }
    {
        let mut rally = lock(rally);
        *rally = Rally::default();
        rally.is_on = true;
        set_number(&mut ball, rally.now());
    }
    peer.send(&ball)?;
    std::thread::sleep(wanted);
    lock(rally).is_on = false;
    // The last ball comes back and stays here.
    let start = Instant::now();
    while !lock(rally).is_over {
        if start.elapsed() > ANSWER || peer.is_closed() {
            return Err("an answer was lost: the far side's handler did not send one".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(std::mem::take(&mut *lock(rally)).times)
}

fn by_api(peer: &Peer, size: usize, wanted: Duration) -> Result<Histogram<u64>, Fault> {
    let mut times = histogram();
    let mut ball = message(ECHO, size);
    let start = Instant::now();
    let mut now = Duration::ZERO;
    while now < wanted {
        set_number(&mut ball, now.as_nanos() as u64);
        peer.send(&ball)?;
        let echo = peer.recv()?;
        now = start.elapsed();
        times.saturating_record(now.as_nanos() as u64 - number(&echo));
    }
    Ok(times)
}

fn by_ping(peer: &Peer, wanted: Duration) -> Result<Histogram<u64>, Fault> {
    let mut times = histogram();
    let start = Instant::now();
    while start.elapsed() < wanted {
        let round_trip = peer.ping(ANSWER).ok_or("a PING was not answered")?;
        times.saturating_record(round_trip.as_nanos() as u64);
    }
    Ok(times)
}

fn lock(rally: &Mutex<Rally>) -> MutexGuard<'_, Rally> {
    rally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the near side's handler and the measuring thread share.
pub(crate) struct Rally {
    start: Instant,
    is_on: bool,
    is_over: bool,
    times: Histogram<u64>,
}

impl Default for Rally {
    fn default() -> Self {
        Self { start: Instant::now(), is_on: false, is_over: false, times: histogram() }
    }
}

impl Rally {
    fn now(&self) -> u64 {
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
const MESSAGE_MAX: usize = 2_048;
