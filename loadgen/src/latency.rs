//! Round trips, one at a time: handler to handler, application to application, shard to shard.
//!
//! Holds: a round trip counts from the time that its message carries: when it was meant to be sent.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dunlin::Peer;
use hdrhistogram::Histogram;

use crate::Fault;
use crate::messages::{ECHO, ECHO_ON_CORE, message, number, set_number};
use crate::near::Near;
use crate::options::Over;
use crate::rally::{MESSAGE_MAX, Rally, lock};
use crate::recorder::histogram;
use crate::report::Report;

/// Round trips before counting begins.
const WARM_UP: Duration = Duration::from_millis(300);
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
        report.add_times("closed", &times);
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
