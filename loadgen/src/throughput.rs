//! Bulk and small messages one way, and nothing at all: what the far application took, by its own clock.

use std::time::{Duration, Instant};

use dunlin::Peer;

use crate::Fault;
use crate::messages::{HEAD_LEN, LOAD, Tally, message, set_number, sum};
use crate::near::Near;
use crate::report::Report;

/// Load that is sent before counting begins, so that the window has grown.
const WARM_UP: Duration = Duration::from_secs(1);
/// Messages between two looks at the clock.
const BURST: u64 = 16;

pub(crate) fn run(
    near: &mut Near,
    name: &'static str,
    size: usize,
    wanted: Duration,
    report: &mut Report,
) -> Result<(), Fault> {
    if size < HEAD_LEN {
        return Err(format!("--size {size} is too small: a message has at least {HEAD_LEN} bytes").into());
    }
    let peer = near.connect()?;
    flood(&peer, size, WARM_UP.min(wanted))?;
    near.begin(&peer)?;
    let sent = flood(&peer, size, wanted)?;
    let (far, used) = near.end(&peer)?;
    peer.close(0);
    if far.tally != sent {
        return Err(format!("what arrived is not what was sent: {:?} of {sent:?}", far.tally).into());
    }
    let seconds = far.elapsed_ns as f64 * 1e-9;
    report.section(name);
    report.add("message_size", size as f64, "bytes");
    report.add("goodput", far.tally.bytes as f64 * 8e-9 / seconds, "Gbit/s");
    report.add("messages", far.tally.messages as f64 * 1e-6 / seconds, "M/s");
    report.add("measured", seconds, "s");
    report.add_used(&used, seconds);
    Ok(())
}

/// Sends load for so long.
fn flood(peer: &Peer, size: usize, wanted: Duration) -> Result<Tally, Fault> {
    let mut load = message(LOAD, size);
    let body = sum(&load[HEAD_LEN..]);
    let mut tally = Tally::default();
    let start = Instant::now();
    while start.elapsed() < wanted {
        for _ in 0..BURST {
            set_number(&mut load, tally.messages);
            tally.add_known(&load, body);
            peer.send(&load)?;
        }
    }
    Ok(tally)
}

/// One session on which nothing happens.
pub(crate) fn idle(near: &mut Near, wanted: Duration, report: &mut Report) -> Result<(), Fault> {
    let peer = near.connect()?;
    near.begin(&peer)?;
    std::thread::sleep(wanted);
    let (far, used) = near.end(&peer)?;
    peer.close(0);
    let seconds = far.elapsed_ns as f64 * 1e-9;
    let percent = |cpu_ns: u64| cpu_ns as f64 * 1e-7 / seconds;
    report.section("idle");
    report.add("cpu_near", percent(used.near.cpu_ns), "%");
    report.add("cpu_far", percent(used.far.cpu_ns), "%");
    report.add_used(&used, seconds);
    Ok(())
}
