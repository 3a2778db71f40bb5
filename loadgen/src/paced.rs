//! Round trips on a schedule: the open loop on real sessions.
//!
//! In:    sessions, a rate, how long.
//! Out:   latency from the intended times and from the times of sending; what was late, what never came back.
//! Holds: one thread sends, and it waits for no answer; each message carries its two times, and whoever receives its
//!        answer reads the clock that they came from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dunlin::{Peer, RecvError};
use dunlin_shards::rng::Rng;
use hdrhistogram::Histogram;

use crate::Fault;
use crate::interrupt;
use crate::ledger::Used;
use crate::live::{Live, Sample, Scene, Watch};
use crate::messages::{PACED, PACED_LEN, PACED_ON_CORE, message, set_times};
use crate::near::Near;
use crate::options::{Over, PacedOptions};
use crate::plan::{Field, Plan, Rules, Sent, Spacing, drive};
use crate::rally::{Course, lock};
use crate::recorder::histogram;
use crate::report::Report;

/// How long the last answers may take.
const ANSWERS: Duration = Duration::from_secs(5);
/// How long sending may go on when the plan has ended, as part of its span and at least.
const GRACE_PART: u32 = 10;
const GRACE_MIN: Duration = Duration::from_millis(100);
/// So long before a message's time the sender stops sleeping and yields instead: waking takes up to 60 us.
const AWAKE_BEFORE: Duration = Duration::from_micros(80);
/// How often a receiving thread looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) section: String,
    pub(crate) over: Over,
    /// Messages, or rounds where each goes to every peer, a second.
    pub(crate) rate: f64,
    /// Without the warm-up.
    pub(crate) span: Duration,
    /// Each message goes to every peer.
    pub(crate) is_fanned: bool,
    pub(crate) is_quiet: bool,
    pub(crate) options: &'a PacedOptions,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) section: String,
    /// Messages a second that were to leave; every one of a round counts.
    pub(crate) offered: f64,
    /// Answers a second that came back.
    pub(crate) achieved: f64,
    pub(crate) sent: Sent,
    /// Answers that were to come.
    pub(crate) expected: u64,
    pub(crate) answered: u64,
    pub(crate) corrected: Histogram<u64>,
    pub(crate) uncorrected: Histogram<u64>,
    pub(crate) rounds: Option<Histogram<u64>>,
    pub(crate) used: Option<Used>,
    /// Shards of the far side, and those of them that have sessions.
    pub(crate) far_shards: [usize; 2],
    pub(crate) samples: Vec<Sample>,
    /// All that was measured, in seconds, warm-up and last answers too.
    pub(crate) seconds: f64,
    /// Why it cannot be believed.
    pub(crate) void: Option<String>,
}

/// Sends the load to these peers. What is known is told with what went wrong.
pub(crate) fn run(
    near: &mut Near,
    peers: &[Peer],
    load: &Load<'_>,
) -> Result<(Outcome, Result<(), Fault>), Fault> {
    let options = load.options;
    if options.size < PACED_LEN {
        let fault = format!("--size {} is too small: times take {PACED_LEN} bytes", options.size);
        return Err(fault.into());
    }
    let kind = match load.over {
        Over::Core => PACED_ON_CORE,
        Over::Api => PACED,
        Over::Ping => return Err("a schedule has no --over ping: its far side is core or api".into()),
    };
    let warm_up = seconds(options.warm_up, "--warm-up")?;
    let spacing = match options.poisson {
        true => Spacing::Poisson(Rng::from_number(options.seed)),
        false => Spacing::Fixed,
    };
    let whole = warm_up + load.span;
    let plan = Plan::new(load.rate, whole, spacing)?;
    let counted_from = warm_up.as_nanos() as u64;
    let planned = plan.count_from(counted_from);
    near.rest();
    near.begin(&peers[0])?;
    let base = near.courses[0].start.elapsed().as_nanos() as u64;
    for course in &near.courses {
        let mut recorder = lock(&course.recorder);
        recorder.count_from(base + counted_from);
        if load.is_fanned {
            recorder.expect_rounds(peers.len() as u32);
        }
    }
    let rules = Rules {
        planned,
        counted_from_ns: counted_from,
        late_after_ns: seconds(options.late_after * 1e-6, "--late-after")?.as_nanos() as u64,
        given_up_at_ns: (whole + (whole / GRACE_PART).max(GRACE_MIN)).as_nanos() as u64,
    };
    let watch = Watch::start(scene(near, peers, (load, whole)));
    let mut wire = Wire {
        start: near.courses[0].start,
        base,
        peers,
        next: 0,
        ball: message(kind, options.size),
        left: 0,
        is_fanned: load.is_fanned,
        live: watch.live(),
    };
    let (sent, mut result) = with_receivers(near, peers, load.over, || {
        let (sent, result) = drive(plan, &rules, &mut wire);
        await_answers(near, peers, wire.left);
        (sent, result)
    });
    let samples = watch.stop();
    let (mut used, mut far_shards) = (None, [0; 2]);
    if result.is_ok() {
        near.rest();
        match near.end(&peers[0]) {
            Ok((ledger, counted)) => {
                let busy = ledger.shard_sessions.iter().filter(|sessions| **sessions > 0).count();
                far_shards = [ledger.shard_sessions.len(), busy];
                used = Some(counted);
            }
            Err(fault) => result = Err(fault),
        }
    }
    let began = Duration::from_nanos(base);
    let mut outcome = gather(near, load, sent, peers.len());
    (outcome.used, outcome.samples, outcome.far_shards) = (used, samples, far_shards);
    outcome.seconds = (near.courses[0].start.elapsed() - began).as_secs_f64();
    outcome.achieved = achieved(near, base + counted_from, load.span, outcome.answered);
    Ok((outcome, result))
}

fn scene(near: &Near, peers: &[Peer], (load, whole): (&Load<'_>, Duration)) -> Scene {
    Scene {
        section: load.section.clone(),
        span: whole,
        is_quiet: load.is_quiet,
        recorders: near.courses.iter().map(|course| course.recorder.clone()).collect(),
        far: near.far_process(),
        peers: peers.to_vec(),
    }
}

fn seconds(value: f64, name: &str) -> Result<Duration, Fault> {
    Duration::try_from_secs_f64(value).map_err(|_| format!("{name} is no time").into())
}

/// Answers a second, of those that count: until the plan's end, or until the last came if that was later.
fn achieved(near: &Near, from: u64, span: Duration, answered: u64) -> f64 {
    let last = near.courses.iter().map(|course| lock(&course.recorder).last_ns()).max().unwrap_or(0);
    let took = (last.saturating_sub(from) as f64 * 1e-9).max(span.as_secs_f64());
    answered as f64 / took
}

fn gather(near: &Near, load: &Load<'_>, sent: Sent, peers: usize) -> Outcome {
    let (mut corrected, mut uncorrected, mut rounds) = (histogram(), histogram(), None);
    for course in &near.courses {
        let recorder = lock(&course.recorder);
        // All histograms have the same bounds.
        let _ = corrected.add(recorder.corrected());
        let _ = uncorrected.add(recorder.uncorrected());
        rounds = rounds.or_else(|| recorder.whole_rounds().cloned());
    }
    let each = if load.is_fanned { peers as u64 } else { 1 };
    let options = load.options;
    let void = (sent.late_percent() > options.late_max).then(|| {
        format!(
            "{}: {:.1} % of the messages left over {} us late or never, {} % is the limit",
            load.section,
            sent.late_percent(),
            options.late_after,
            options.late_max
        )
    });
    Outcome {
        section: load.section.clone(),
        offered: load.rate * each as f64,
        achieved: 0.0,
        expected: sent.sent * each,
        answered: corrected.len(),
        sent,
        corrected,
        uncorrected,
        rounds,
        used: None,
        far_shards: [0; 2],
        samples: Vec::new(),
        seconds: 0.0,
        void,
    }
}

impl Outcome {
    /// From the intended time, in microseconds.
    pub(crate) fn latency_us(&self, quantile: f64) -> f64 {
        self.corrected.value_at_quantile(quantile) as f64 * 1e-3
    }

    /// Puts everything into the report, but whether it is void.
    pub(crate) fn add_to(&mut self, report: &mut Report) {
        report.timeline.append(&mut self.samples);
        report.section(&self.section);
        report.add("offered", self.offered, "/s");
        report.add("achieved", self.achieved, "/s");
        report.add("planned", self.sent.planned as f64, "");
        report.add("sent", self.sent.sent as f64, "");
        report.add("answered", self.answered as f64, "");
        report.add("unanswered", self.expected.saturating_sub(self.answered) as f64, "");
        report.add("late", self.sent.late as f64, "");
        report.add("late_share", self.sent.late_percent(), "%");
        report.add("lateness_max", self.sent.lateness_ns_max as f64 * 1e-3, "us");
        report.add_times("corrected", &self.corrected);
        report.add_times("uncorrected", &self.uncorrected);
        if let Some(used) = &self.used {
            report.add("far_shards", self.far_shards[0] as f64, "");
            report.add("far_shards_in_use", self.far_shards[1] as f64, "");
            report.add_used(used, self.seconds);
        }
    }

    /// What never came back, in words, if anything.
    pub(crate) fn unanswered(&self) -> Result<(), Fault> {
        match self.expected.saturating_sub(self.answered) {
            0 => Ok(()),
            missing => {
                Err(format!("{}: {missing} of {} were not answered", self.section, self.expected).into())
            }
        }
    }
}

/// Real sessions.
struct Wire<'a> {
    /// What all times in messages count from.
    start: Instant,
    /// The plan's start on that clock.
    base: u64,
    peers: &'a [Peer],
    next: usize,
    ball: Vec<u8>,
    /// Messages that left, those of the warm-up too.
    left: u64,
    is_fanned: bool,
    live: Arc<Live>,
}

impl Field for Wire<'_> {
    fn now(&mut self) -> u64 {
        (self.start.elapsed().as_nanos() as u64).saturating_sub(self.base)
    }

    fn wait_until(&mut self, at: u64) {
        wait_until(|| self.now(), at);
    }

    fn send(&mut self, intended: u64, now: u64) -> Result<(), Fault> {
        set_times(&mut self.ball, self.base + intended, self.base + now);
        let targets = match self.is_fanned {
            true => self.peers,
            false => {
                self.next = (self.next + 1) % self.peers.len();
                &self.peers[self.next..=self.next]
            }
        };
        for peer in targets {
            peer.send(&self.ball)?;
            self.left += 1;
        }
        self.live.sent.store(self.left, Ordering::Relaxed);
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        interrupt::is_asked()
    }
}

/// Sleeps while there is time to wake from it, then lets others run.
pub(crate) fn wait_until(mut now: impl FnMut() -> u64, at: u64) {
    let awake = AWAKE_BEFORE.as_nanos() as u64;
    loop {
        let left = at.saturating_sub(now());
        if left == 0 {
            return;
        }
        if left > awake {
            // Long waits in steps, so that a stopped run ends.
            std::thread::sleep(Duration::from_nanos(left - awake).min(LOOK_EVERY));
            if interrupt::is_asked() {
                return;
            }
        } else {
            std::thread::yield_now();
        }
    }
}

/// Runs with a receiving thread for each peer where the application answers; handlers need none.
fn with_receivers<T>(near: &Near, peers: &[Peer], over: Over, run: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if over == Over::Api {
            for (peer, course) in peers.iter().zip(near.courses.iter().cycle()) {
                let done = &done;
                scope.spawn(move || receive(peer, course, done));
            }
        }
        let result = run();
        done.store(true, Ordering::Release);
        result
    })
}

fn receive(peer: &Peer, course: &Course, done: &AtomicBool) {
    while !done.load(Ordering::Acquire) {
        match peer.recv_timeout(LOOK_EVERY) {
            Ok(answer) => course.on_answer(&answer),
            Err(RecvError::Timeout) => {}
            Err(_) => return,
        }
    }
}

/// Until everything that left came back, or nothing more will.
fn await_answers(near: &Near, peers: &[Peer], left: u64) {
    let start = Instant::now();
    let heard = || near.courses.iter().map(|course| lock(&course.recorder).heard()).sum::<u64>();
    while heard() < left && start.elapsed() < ANSWERS && !peers.iter().all(Peer::is_closed) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `latency --rate`: each rate in turn.
pub(crate) fn measure(near: &mut Near, loads: &[Load<'_>], report: &mut Report) -> Result<(), Fault> {
    let peers = near.connect_each_engine()?;
    for load in loads {
        let (mut outcome, result) = run(near, &peers, load)?;
        outcome.add_to(report);
        if let Some(why) = outcome.void.take() {
            report.mark_void(why);
        }
        result.and_then(|()| outcome.unanswered())?;
        if interrupt::is_asked() {
            break;
        }
    }
    peers.iter().for_each(|peer| peer.close(0));
    Ok(())
}
