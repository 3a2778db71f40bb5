//! What nodes ask each other, asked of one node by one or many others, so many questions of each under way: FIND_NODE,
//! FIND_VALUE of values that are there, STORE that is on disk before it is answered.
//!
//! In:    askers, each with an identity, a session and on loopback an address of its own; how many questions each has under way.
//! Out:   answers a second, how long each took, CPU time of the far side for each; the same for bare datagrams.
//! Holds: what counts is an answer with what was asked for. Bare datagrams are as long as the answers' were on average; the
//!        ways alternate between rounds. A single asker is not compared, nor is what waits for a disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dunlin::Peer;

use crate::Fault;
use crate::asking::Answers;
use crate::crowd::{Arrivals, Crowd};
use crate::interrupt;
use crate::live::{Scene, Watch};
use crate::near::Near;
use crate::options::{AskingOptions, NodeOptions};
use crate::part::Role;
use crate::questions::{Op, Topic, Turn};
use crate::report::Report;
use crate::sessions::{self, Run, compare};
use crate::spray::{Order, Way};

/// How often the run looks how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the last answers may take.
const REST: Duration = Duration::from_millis(100);
/// How long it may take until all have named their network, and how long nothing may happen while values are stored.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is asked before counting begins.
const WARM_UP: Duration = Duration::from_millis(500);

pub(crate) fn run(
    near: &mut Near,
    node: &NodeOptions,
    (options, span, is_quiet): (&AskingOptions, Duration, bool),
    report: &mut Report,
) -> Result<(), Fault> {
    let many = (options.peers, options.parallel);
    let topic = Arc::new(Topic::new(options.op, many, (options.keys, options.size))?);
    let control = near.connect()?;
    let role = Role::Asking(topic.clone());
    let crowd = sessions::form(near, node, (options.peers, options.ports), Some(role))?;
    sessions::open(near, &crowd, (options.peers, is_quiet), report)?;
    await_meeting(&crowd, options.peers as u64)?;
    fill(&crowd, topic.fill_count())?;
    let section = options.op.section();
    let warm_up = WARM_UP.min(span);
    ask(near, (&crowd, &control), (section, warm_up, is_quiet), None)?;
    let is_compared = options.peers > 1 && options.op != Op::Store;
    let rounds = options.rounds.max(1) * if is_compared { 2 } else { 1 };
    let mut datagram_len = 0;
    for round in 0..rounds {
        if interrupt::is_asked() {
            return Ok(());
        }
        if matches!(round % 4, 0 | 3) || !is_compared {
            let arrivals = ask(near, (&crowd, &control), (section, span, is_quiet), Some(report))?;
            datagram_len = (arrivals.datagram_bytes / arrivals.datagrams.max(1)) as usize;
        } else {
            let order = Order { way: Way::Raw, span, size: datagram_len };
            let mut run = Run { near, crowd: &crowd, control: &control, is_quiet, raw_len: datagram_len };
            run.send(order, Some(report))?;
        }
    }
    if is_compared {
        compare(&[(section, "far_cpu_answer")], report);
        compare_datagrams(section, report);
    }
    control.close(0);
    Ok(())
}

/// What the answers' datagrams come to beside bare ones of the same length, by medians: an answer may take several.
fn compare_datagrams(section: &str, report: &mut Report) {
    let of_answers = report.median_of(section, "datagram_rate");
    let bare = report.median_of(Way::Raw.section(), "rate");
    if let Some((of_answers, bare)) = of_answers.zip(bare) {
        report.add(format!("{section}_datagrams_of_sendmmsg"), of_answers / bare * 100.0, "% of sendmmsg");
    }
}

/// Everybody has named its network, and the far side the same.
pub(crate) fn await_meeting(crowd: &Crowd, wanted: u64) -> Result<(), Fault> {
    let start = Instant::now();
    while crowd.met() < wanted {
        if interrupt::is_asked() || start.elapsed() > PATIENCE {
            let met = crowd.met();
            return Err(format!(
                "{met} of {wanted} were greeted: the far side is of no network, or of another (`dunlin-loadgen far --hub --dht` is of ours)"
            )
            .into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// All values are stored.
fn fill(crowd: &Crowd, count: u64) -> Result<(), Fault> {
    crowd.take_answers();
    crowd.turn(Turn::Fill);
    let (mut known, mut moved) = (0, Instant::now());
    while known < count {
        let [answers, failed] = crowd.answers();
        if failed > 0 || interrupt::is_asked() || moved.elapsed() > PATIENCE {
            return Err(format!(
                "{answers} of {count} values could be stored, {failed} were refused (`far --limited` keeps to a writer's share)"
            )
            .into());
        }
        if answers > known {
            (known, moved) = (answers, Instant::now());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    crowd.turn(Turn::Rest);
    Ok(())
}

/// All ask for so long; without a report they warm up.
fn ask(
    near: &mut Near,
    (crowd, control): (&Crowd, &Peer),
    (section, span, is_quiet): (&'static str, Duration, bool),
    report: Option<&mut Report>,
) -> Result<Arrivals, Fault> {
    near.rest();
    near.begin(control)?;
    crowd.take_arrivals();
    crowd.take_answers();
    let watch = report.is_some().then(|| {
        Watch::start(Scene {
            section: section.to_owned(),
            span,
            is_quiet,
            far: near.far_process(),
            peers: vec![control.clone()],
            ..Scene::default()
        })
    });
    let live = watch.as_ref().map(Watch::live).unwrap_or_default();
    let began = Instant::now();
    crowd.turn(Turn::Work);
    while began.elapsed() < span && !interrupt::is_asked() && !control.is_closed() && !near.has_far_died() {
        std::thread::sleep(LOOK_EVERY.min(span));
        let [answers, _] = crowd.answers();
        live.sent.store(answers, Ordering::Relaxed);
        live.arrived.store(answers, Ordering::Relaxed);
    }
    crowd.turn(Turn::Rest);
    let seconds = began.elapsed().as_secs_f64();
    let (answers, arrivals) = (crowd.take_answers(), crowd.take_arrivals());
    std::thread::sleep(REST);
    let samples = watch.map(Watch::stop).unwrap_or_default();
    let Some(report) = report else { return near.end(control).map(|_| arrivals) };
    report.timeline.extend(samples);
    report.section(section);
    if answers.answers > 0 {
        add_answers(report, (&answers, &arrivals), seconds);
    }
    let (_, mut used) = near.end(control)?;
    let each = |cpu_ns: u64| cpu_ns as f64 * 1e-3 / answers.answers.max(1) as f64;
    report.add("far_cpu_answer", each(used.far.cpu_ns), "us");
    report.add("far_core_answer", each(used.far.shards_cpu_ns), "us");
    // Engines know nothing of the crowd's datagrams.
    used.near.datagrams_in += arrivals.datagrams;
    used.near.trains_in += arrivals.datagrams;
    used.near.datagrams_out += arrivals.answers;
    used.near.trains_out += arrivals.answers;
    report.add_used(&used, seconds);
    match answers.failed {
        0 => Ok(arrivals),
        count => Err(format!("{count} questions were refused, or not answered in time").into()),
    }
}

fn add_answers(report: &mut Report, (answers, arrivals): (&Answers, &Arrivals), seconds: f64) {
    let each = |count: u64| count as f64 / answers.answers.max(1) as f64;
    report.add_times("closed", &answers.times);
    report.add("rate", answers.answers as f64 / seconds, "/s");
    report.add("nodes", each(answers.nodes), "an answer");
    report.add("datagram_rate", arrivals.datagrams as f64 / seconds, "/s");
    report.add("datagrams", each(arrivals.datagrams), "an answer");
    report.add("failed", answers.failed as f64, "");
}
