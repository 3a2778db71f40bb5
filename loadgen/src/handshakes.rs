//! Sessions opened and closed: from the call to the session, one after the other or many callers side by side.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dunlin::{ConnectOptions, DunlinUri, Early, EarlyData, SendOptions};
use dunlin_bench::callers::{Callers, Calls};
use hdrhistogram::Histogram;

use crate::Fault;
use crate::calling;
use crate::interrupt;
use crate::live::{Live, Scene, Watch};
use crate::messages::{NOTHING, message};
use crate::near::Near;
use crate::options::{NodeOptions, ShakingOptions};
use crate::recorder::histogram;
use crate::report::Report;

/// Handshakes of each caller before counting begins, but at least so many in all.
const WARM_UP: u64 = 50;
/// What a handshake takes, for the samples' interval.
const EXPECTED: Duration = Duration::from_micros(400);
/// Bytes of the message in the first datagram.
const EARLY_LEN: usize = 64;

/// What the handshakes came to.
struct Shaken {
    times: Histogram<u64>,
    early_accepted: u64,
    result: Result<(), Fault>,
}

pub(crate) fn run(
    near: &mut Near,
    node: &NodeOptions,
    (options, is_quiet): (&ShakingOptions, bool),
    report: &mut Report,
) -> Result<(), Fault> {
    let mut callers = match options.parallel {
        0 => return Err("--parallel 0 leaves nobody to call".into()),
        1 => None,
        count => Some(calling::gather(calls(near, node, options)?, count)?),
    };
    let warm_up = WARM_UP.max(options.parallel as u64);
    shake(near, callers.as_mut(), (options, warm_up), &Live::default())?.result?;
    let peer = near.connect()?;
    near.rest();
    near.begin(&peer)?;
    peer.close(0);
    let scene = Scene {
        section: name_of(options).to_owned(),
        span: EXPECTED * options.rounds,
        is_quiet,
        far: near.far_process(),
        ..Scene::default()
    };
    let watch = Watch::start(scene);
    let start = Instant::now();
    let shaken = shake(near, callers.as_mut(), (options, options.rounds.into()), &watch.live());
    let seconds = start.elapsed().as_secs_f64();
    report.timeline.extend(watch.stop());
    let shaken = shaken?;
    let count = shaken.times.len() as f64;
    report.section(name_of(options));
    report.add("rate", count / seconds, "/s");
    report.add_times("closed", &shaken.times);
    if options.zero_rtt {
        report.add("early_accepted", shaken.early_accepted as f64 * 100.0 / count.max(1.0), "%");
    }
    shaken.result?;
    let peer = near.connect()?;
    near.rest();
    let (_, used) = near.end(&peer)?;
    peer.close(0);
    let cpu_us = |cpu_ns: u64| cpu_ns as f64 * 1e-3 / count.max(1.0);
    report.add("cpu_both", cpu_us(used.near.cpu_ns + used.far.cpu_ns), "us");
    report.add("cpu_near", cpu_us(used.near.cpu_ns), "us");
    report.add("cpu_far", cpu_us(used.far.cpu_ns), "us");
    // The responder's core alone, as if it did nothing else: its thread's time, sessions' ends included.
    if used.far.shards_cpu_ns > 0 {
        report.add("responder_rate", count * 1e9 / used.far.shards_cpu_ns as f64, "/s");
        report.add("cpu_responder", cpu_us(used.far.shards_cpu_ns), "us");
    }
    report.add("far_busy", used.far.cpu_ns as f64 * 1e-7 / seconds, "% of a core");
    report.add("cookies", used.far.cookies as f64, "");
    report.add_used(&used, seconds);
    match options.cookies && used.far.cookies < options.rounds.into() {
        true => Err(format!("only {} of {} callers were asked for a cookie", used.far.cookies, count).into()),
        false => Ok(()),
    }
}

fn name_of(options: &ShakingOptions) -> &'static str {
    match (options.zero_rtt, options.cookies) {
        (true, _) => "handshakes_0rtt",
        (_, true) => "handshakes_cookies",
        _ => "handshakes",
    }
}

fn calls(near: &Near, node: &NodeOptions, options: &ShakingOptions) -> Result<Calls, Fault> {
    let early = options.zero_rtt.then(|| message(NOTHING, EARLY_LEN));
    let id = near.uris[0].id.filter(|_| !options.cookies);
    Ok(Calls { id, remote: near.remote()?, early, suite: node.suite.wanted(), stay: None })
}

fn shake(
    near: &Near,
    callers: Option<&mut Callers>,
    (options, count): (&ShakingOptions, u64),
    live: &Live,
) -> Result<Shaken, Fault> {
    let Some(callers) = callers else { return Ok(shake_alone(near, (options, count), live)) };
    let called = calling::run(callers, count, live)?;
    let result = match &called.why {
        Some(why) => Err(format!("{} of {count} calls failed, the first as {why}", called.failed).into()),
        None => Ok(()),
    };
    Ok(Shaken { times: called.times, early_accepted: called.early_accepted, result })
}

/// One engine, one call after the other.
fn shake_alone(near: &Near, (options, count): (&ShakingOptions, u64), live: &Live) -> Shaken {
    let mut connect = ConnectOptions::default();
    if options.zero_rtt {
        connect.early.push(Early { bytes: message(NOTHING, EARLY_LEN), options: SendOptions::default() });
    }
    let mut uri = near.uris[0].clone();
    uri.id = uri.id.filter(|_| !options.cookies);
    let mut shaken = Shaken { times: histogram(), early_accepted: 0, result: Ok(()) };
    for _ in 0..count {
        if interrupt::is_asked() {
            break;
        }
        match shake_once(near, &uri, &connect) {
            Ok((took, early)) => {
                shaken.times.saturating_record(took.as_nanos() as u64);
                live.sent.fetch_add(1, Ordering::Relaxed);
                live.arrived.fetch_add(1, Ordering::Relaxed);
                shaken.early_accepted += u64::from(early == EarlyData::Accepted);
            }
            Err(fault) => {
                shaken.result = Err(fault);
                break;
            }
        }
    }
    shaken
}

/// How long `connect` took, and what became of the early message.
fn shake_once(
    near: &Near,
    uri: &DunlinUri,
    options: &ConnectOptions,
) -> Result<(Duration, EarlyData), Fault> {
    let engine = &near.engines[0];
    let start = Instant::now();
    let connected = engine.connect_with(uri, options)?;
    let took = start.elapsed();
    connected.peer.close(0);
    // Events of ours that nobody asks for go away here.
    while engine.try_event().is_some() {}
    Ok((took, connected.early))
}
