//! FIND_NODE, asked of one node by one or many others, so many questions of each under way: answers a second, and what one costs.
//!
//! In:    askers, each with an identity and an engine of its own; how many questions each has under way.
//! Out:   answers a second, how long each took, CPU time of the far side for each.
//! Holds: every question is for another place, drawn from a seed; what counts is an answer that lists nodes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dunlin::Network;
use dunlin_codec::args::{Ack, Request};
use dunlin_codec::ids::{Address, NodeId};
use dunlin_shards::rng::Rng;
use hdrhistogram::Histogram;

use crate::Fault;
use crate::interrupt;
use crate::live::{Live, Scene, Watch};
use crate::near::Near;
use crate::options::AskingOptions;
use crate::recorder::histogram;
use crate::report::Report;

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often the run looks how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who asks whom.
struct Asker {
    network: Network,
    whom: NodeId,
    seed: u64,
}

/// What one thread of an asker came to.
struct Asked {
    times: Histogram<u64>,
    failed: u64,
    why: Option<String>,
}

pub(crate) fn run(
    near: &mut Near,
    (options, span, is_quiet): (&AskingOptions, Duration, bool),
    report: &mut Report,
) -> Result<(), Fault> {
    if options.parallel == 0 {
        return Err("--parallel 0 leaves nothing to ask".into());
    }
    let askers = join(near, options.parallel)?;
    let control = near.connect()?;
    near.rest();
    near.begin(&control)?;
    let watch = Watch::start(Scene {
        section: "find_node".to_owned(),
        span,
        is_quiet,
        far: near.far_process(),
        peers: vec![control.clone()],
        ..Scene::default()
    });
    let began = Instant::now();
    let asked = ask_all(&askers, span, &watch.live());
    let seconds = began.elapsed().as_secs_f64();
    report.timeline.extend(watch.stop());
    report.section("find_node");
    report.add("rate", asked.times.len() as f64 / seconds, "/s");
    report.add("failed", asked.failed as f64, "");
    report.add_times("closed", &asked.times);
    let (_, used) = near.end(&control)?;
    let each = used.far.cpu_ns as f64 * 1e-3 / asked.times.len().max(1) as f64;
    report.add("far_cpu_answer", each, "us");
    report.add_used(&used, seconds);
    control.close(0);
    match asked.why {
        Some(why) => Err(format!("{} questions were not answered, the first: {why}", asked.failed).into()),
        None => Ok(()),
    }
}

/// Each engine becomes a neighbour of the far side's node; one asker for each question under way.
fn join(near: &Near, parallel: usize) -> Result<Vec<Asker>, Fault> {
    let uri = near.uris[0].to_string();
    let mut askers = Vec::new();
    for (at, engine) in near.engines.iter().enumerate() {
        let network = engine.network().ok_or("our own node is of no network")?;
        let whom = network.join(&uri).map_err(|error| {
            format!("the far side is of no network (`dunlin-loadgen far --dht` is): {error}")
        })?;
        let seeds = (0..parallel).map(|place| (at * parallel + place) as u64);
        askers.extend(seeds.map(|seed| Asker { network: network.clone(), whom, seed }));
    }
    Ok(askers)
}

fn ask_all(askers: &[Asker], span: Duration, live: &Live) -> Asked {
    let is_over = AtomicBool::new(false);
    let mut sum = Asked { times: histogram(), failed: 0, why: None };
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let threads: Vec<_> =
            askers.iter().map(|asker| scope.spawn(move || asker.ask_until(is_over, live))).collect();
        let start = Instant::now();
        while start.elapsed() < span && !interrupt::is_asked() && threads.iter().any(|t| !t.is_finished()) {
            std::thread::sleep(LOOK_EVERY.min(span));
        }
        is_over.store(true, Ordering::Relaxed);
        for asked in threads.into_iter().filter_map(|thread| thread.join().ok()) {
            // All histograms have the same bounds.
            let _ = sum.times.add(&asked.times);
            sum.failed += asked.failed;
            sum.why = sum.why.take().or(asked.why);
        }
    });
    sum
}

impl Asker {
    /// One question after the other; the first that fails is the last.
    fn ask_until(&self, is_over: &AtomicBool, live: &Live) -> Asked {
        let mut asked = Asked { times: histogram(), failed: 0, why: None };
        let mut rng = Rng::from_number(self.seed);
        while !is_over.load(Ordering::Relaxed) && asked.failed == 0 {
            let mut place = [0; 32];
            rng.fill(&mut place);
            live.sent.fetch_add(1, Ordering::Relaxed);
            let start = Instant::now();
            match self.network.ask(self.whom, &Request::FindNode(Address(place)), ANSWER) {
                Ok(answer) if matches!(answer.ack(), Ack::Nodes(_)) => {
                    asked.times.saturating_record(start.elapsed().as_nanos() as u64);
                    live.arrived.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => (asked.failed, asked.why) = (1, Some("the answer lists no nodes".to_owned())),
                Err(error) => (asked.failed, asked.why) = (1, Some(error.to_string())),
            }
        }
        asked
    }
}
