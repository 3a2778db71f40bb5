//! Round trips, one at a time: handler to handler, application to application, shard to shard.
//!
//! Holds: a round trip counts from the time that its message carries: when it was meant to be sent.

use std::time::{Duration, Instant};

use dunlin::{Peer, RecvError};
use hdrhistogram::Histogram;

use crate::Fault;
use crate::interrupt;
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
/// How often the far side is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) fn run(
    near: &mut Near,
    over: &[Over],
    size: usize,
    wanted: Duration,
    report: &mut Report,
) -> Result<(), Fault> {
    let peer = near.connect()?;
    for over in over {
        measure(near, &peer, (*over, size), WARM_UP).1?;
        near.begin(&peer)?;
        let start = Instant::now();
        let (times, result) = measure(near, &peer, (*over, size), wanted);
        let seconds = start.elapsed().as_secs_f64();
        report.section(over.name());
        if !times.is_empty() {
            report.add_times("closed", &times);
        }
        result?;
        if interrupt::is_asked() {
            break;
        }
        let (_, used) = near.end(&peer)?;
        report.add_used(&used, seconds);
    }
    peer.close(0);
    Ok(())
}

/// The round trips that there were, and what ended them early.
fn measure(
    near: &Near,
    peer: &Peer,
    (over, size): (Over, usize),
    wanted: Duration,
) -> (Histogram<u64>, Result<(), Fault>) {
    let mut times = histogram();
    let result = match over {
        Over::Core => {
            let result = on_core(near, peer, size, wanted);
            times = std::mem::take(&mut *lock(&near.rally)).times;
            result
        }
        Over::Api => by_api(near, peer, (size, wanted), &mut times),
        Over::Ping => by_ping(peer, wanted, &mut times),
    };
    (times, result)
}

/// Handlers on both sides play; this thread starts and ends it.
fn on_core(near: &Near, peer: &Peer, size: usize, wanted: Duration) -> Result<(), Fault> {
    let rally = &near.rally;
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
    let start = Instant::now();
    while start.elapsed() < wanted && !is_over(near, peer) {
        std::thread::sleep(LOOK_EVERY.min(wanted.saturating_sub(start.elapsed())));
    }
    lock(rally).is_on = false;
    // The last ball comes back and stays here.
    let start = Instant::now();
    while !lock(rally).is_over {
        if start.elapsed() > ANSWER || peer.is_closed() || near.has_far_died() {
            return Err("an answer was lost: the far side's handler did not send one".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Nothing more is to be measured, or can be.
fn is_over(near: &Near, peer: &Peer) -> bool {
    interrupt::is_asked() || peer.is_closed() || near.has_far_died()
}

fn by_api(
    near: &Near,
    peer: &Peer,
    (size, wanted): (usize, Duration),
    times: &mut Histogram<u64>,
) -> Result<(), Fault> {
    let mut ball = message(ECHO, size);
    let start = Instant::now();
    let mut now = Duration::ZERO;
    while now < wanted && !interrupt::is_asked() {
        set_number(&mut ball, now.as_nanos() as u64);
        peer.send(&ball)?;
        let echo = loop {
            match peer.recv_timeout(LOOK_EVERY) {
                Err(RecvError::Timeout) if !near.has_far_died() => {}
                answer => break answer?,
            }
        };
        now = start.elapsed();
        times.saturating_record(now.as_nanos() as u64 - number(&echo));
    }
    Ok(())
}

fn by_ping(peer: &Peer, wanted: Duration, times: &mut Histogram<u64>) -> Result<(), Fault> {
    let start = Instant::now();
    while start.elapsed() < wanted && !interrupt::is_asked() {
        let round_trip = peer.ping(ANSWER).ok_or("a PING was not answered")?;
        times.saturating_record(round_trip.as_nanos() as u64);
    }
    Ok(())
}
