//! Sessions opened and closed one after the other: from `connect` to the first event on both sides.

use std::time::{Duration, Instant};

use dunlin::{ConnectOptions, Early, EarlyData, SendOptions};

use crate::Fault;
use crate::messages::{NOTHING, message};
use crate::near::Near;
use crate::recorder::histogram;
use crate::report::Report;

/// Handshakes before counting begins.
const WARM_UP: u32 = 50;
/// Bytes of the message in the first datagram.
const EARLY_LEN: usize = 64;

pub(crate) fn run(near: &mut Near, rounds: u32, zero_rtt: bool, report: &mut Report) -> Result<(), Fault> {
    let mut options = ConnectOptions::default();
    if zero_rtt {
        options.early.push(Early { bytes: message(NOTHING, EARLY_LEN), options: SendOptions::default() });
    }
    let mut times = histogram();
    let mut accepted = 0;
    for _ in 0..WARM_UP {
        shake(near, &options)?;
    }
    let peer = near.connect()?;
    near.begin(&peer)?;
    peer.close(0);
    let start = Instant::now();
    for _ in 0..rounds {
        let (took, early) = shake(near, &options)?;
        times.saturating_record(took.as_nanos() as u64);
        accepted += u32::from(early == EarlyData::Accepted);
    }
    let seconds = start.elapsed().as_secs_f64();
    let peer = near.connect()?;
    let (_, used) = near.end(&peer)?;
    peer.close(0);
    report.section(if zero_rtt { "handshakes_0rtt" } else { "handshakes" });
    report.add("rate", f64::from(rounds) / seconds, "/s");
    let cpu_us = |cpu_ns: u64| cpu_ns as f64 * 1e-3 / f64::from(rounds);
    report.add("cpu_both", cpu_us(used.near.cpu_ns + used.far.cpu_ns), "us");
    report.add("cpu_near", cpu_us(used.near.cpu_ns), "us");
    report.add("cpu_far", cpu_us(used.far.cpu_ns), "us");
    if zero_rtt {
        report.add("early_accepted", f64::from(accepted) * 100.0 / f64::from(rounds), "%");
    }
    report.add_times("closed", &times);
    report.add_used(&used, seconds);
    Ok(())
}

/// One handshake: how long `connect` took, and what became of the early message.
fn shake(near: &Near, options: &ConnectOptions) -> Result<(Duration, EarlyData), Fault> {
    let start = Instant::now();
    let connected = near.engines[0].connect_with(&near.uris[0], options)?;
    let took = start.elapsed();
    connected.peer.close(0);
    // Events of ours that nobody asks for go away here.
    while near.engines[0].try_event().is_some() {}
    Ok((took, connected.early))
}
