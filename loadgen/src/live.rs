//! A run while it runs: rates, percentiles and the load of each core, now and then.
//!
//! In:    counters that the run moves on; recorders of round trips.
//! Out:   a bar on a terminal, lines elsewhere; a sample for each interval.
//! Holds: whoever is measured is never waited for: a look takes numbers that are there.

use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dunlin::Peer;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::host::{self, CoreTime};
use crate::rally::lock;
use crate::recorder::{Recorder, histogram};

/// Samples of a run at least, where it is long enough.
const SAMPLES: u32 = 40;
/// The shortest interval of samples.
const EVERY_MIN: Duration = Duration::from_millis(250);
/// The longest.
const EVERY_MAX: Duration = Duration::from_secs(10);
/// How often the far side's process is looked for.
const ALIVE_EVERY: Duration = Duration::from_millis(250);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// What the run has done so far.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Messages, or whatever the run counts, that left.
    pub(crate) sent: AtomicU64,
    /// Those that are known to have arrived.
    pub(crate) arrived: AtomicU64,
}

/// One interval of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample {
    pub(crate) section: String,
    /// The interval's end, in seconds since the section began.
    pub(crate) at_s: f64,
    pub(crate) span_s: f64,
    pub(crate) sent_per_s: f64,
    pub(crate) arrived_per_s: f64,
    /// From the intended time; none where nothing came or nothing is timed.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    #[serde(rename = "p99.9_us")]
    pub(crate) p999_us: Option<f64>,
    /// The load of each of the machine's cores in percent.
    pub(crate) cores: Vec<f64>,
    pub(crate) near_resident_bytes: u64,
    /// Of a far side on this machine.
    pub(crate) far_resident_bytes: Option<u64>,
    /// The interval's latencies, in HdrHistogram's V2 encoding; empty where nothing is timed.
    #[serde(skip)]
    pub(crate) encoded: Vec<u8>,
}

/// What is to be watched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    pub(crate) section: String,
    /// How long it will take.
    pub(crate) span: Duration,
    pub(crate) is_quiet: bool,
    /// Their answers are what arrives, where there are any.
    pub(crate) recorders: Vec<Arc<Mutex<Recorder>>>,
    /// The far side's process, if it is ours.
    pub(crate) far: Option<u32>,
    /// Closed when that process dies, so that nobody waits for it.
    pub(crate) peers: Vec<Peer>,
}

/// A run that is being watched.
#[derive(Debug)]
pub(crate) struct Watch {
    live: Arc<Live>,
    done: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Watch {
    /// From now on.
    pub(crate) fn start(scene: Scene) -> Self {
        let (live, done) = (Arc::new(Live::default()), Arc::new(AtomicBool::new(false)));
        let (shown, ended) = (live.clone(), done.clone());
        let thread = std::thread::spawn(move || Watcher::new(scene, shown).run(&ended));
        Self { live, done, thread }
    }

    /// Where the run says how far it is.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.clone()
    }

    /// The run has ended: all its samples.
    pub(crate) fn stop(self) -> Vec<Sample> {
        self.done.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_default()
    }
}

/// The watching thread.
struct Watcher {
    scene: Scene,
    live: Arc<Live>,
    start: Instant,
    looked: Instant,
    counted: [u64; 2],
    cores: Vec<CoreTime>,
    times: Histogram<u64>,
    spare: Histogram<u64>,
    samples: Vec<Sample>,
    bar: Option<ProgressBar>,
    line_at: Instant,
}

impl Watcher {
    fn new(scene: Scene, live: Arc<Live>) -> Self {
        let now = Instant::now();
        let is_shown = !scene.is_quiet && stderr().is_terminal();
        let bar = is_shown.then(|| {
            let bar = ProgressBar::new(scene.span.as_millis().max(1) as u64);
            if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:24} {msg}") {
                bar.set_style(style);
            }
            bar.with_prefix(scene.section.clone())
        });
        Self {
            scene,
            live,
            start: now,
            looked: now,
            counted: [0; 2],
            cores: host::core_times(),
            times: histogram(),
            spare: histogram(),
            samples: Vec::new(),
            bar,
            line_at: now + LINE_EVERY,
        }
    }

    fn run(mut self, ended: &AtomicBool) -> Vec<Sample> {
        let every = (self.scene.span / SAMPLES).clamp(EVERY_MIN, EVERY_MAX);
        let mut next = self.start + every;
        loop {
            let now = Instant::now();
            let is_over = ended.load(Ordering::Acquire);
            if now >= next || (is_over && now - self.looked > every / 2) {
                self.look(now);
                next += every;
            }
            if is_over {
                break;
            }
            if self.scene.far.is_some_and(|process| !host::is_alive(process)) {
                self.scene.peers.drain(..).for_each(|peer| peer.close(0));
            }
            std::thread::park_timeout(next.saturating_duration_since(Instant::now()).min(ALIVE_EVERY));
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.samples
    }

    fn look(&mut self, now: Instant) {
        self.times.reset();
        let mut heard = 0;
        for recorder in &self.scene.recorders {
            self.spare.reset();
            let mut recorder = lock(recorder);
            recorder.swap_interval(&mut self.spare);
            heard += recorder.heard();
            drop(recorder);
            // All histograms have the same bounds.
            let _ = self.times.add(&self.spare);
        }
        if !self.scene.recorders.is_empty() {
            self.live.arrived.store(heard, Ordering::Relaxed);
        }
        let counted = [&self.live.sent, &self.live.arrived].map(|count| count.load(Ordering::Relaxed));
        let cores = host::core_times();
        let seconds = (now - self.looked).as_secs_f64();
        let per_second = |after: u64, before: u64| after.saturating_sub(before) as f64 / seconds;
        let quantile = |q| (!self.times.is_empty()).then(|| self.times.value_at_quantile(q) as f64 * 1e-3);
        let sample = Sample {
            section: self.scene.section.clone(),
            at_s: (now - self.start).as_secs_f64(),
            span_s: seconds,
            sent_per_s: per_second(counted[0], self.counted[0]),
            arrived_per_s: per_second(counted[1], self.counted[1]),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            cores: host::core_loads(&self.cores, &cores),
            near_resident_bytes: host::resident_bytes(),
            far_resident_bytes: self.scene.far.and_then(host::resident_bytes_of),
            encoded: encoded(&self.times),
        };
        (self.looked, self.counted, self.cores) = (now, counted, cores);
        self.show(now, &sample);
        self.samples.push(sample);
    }

    fn show(&mut self, now: Instant, sample: &Sample) {
        let line = line_of(sample);
        if let Some(bar) = &self.bar {
            bar.set_position((now - self.start).as_millis() as u64);
            bar.set_message(line);
        } else if !self.scene.is_quiet && now >= self.line_at {
            self.line_at = now + LINE_EVERY;
            eprintln!("{:6.1} s {}: {line}", sample.at_s, sample.section);
        }
    }
}

fn line_of(sample: &Sample) -> String {
    let mut line = format!("{:.0}/s sent, {:.0}/s arrived", sample.sent_per_s, sample.arrived_per_s);
    if let (Some(p50), Some(p99)) = (sample.p50_us, sample.p99_us) {
        line += &format!(", p50 {p50:.1} us, p99 {p99:.1} us");
    }
    let cores: Vec<String> = sample.cores.iter().map(|percent| format!("{percent:.0}")).collect();
    line + &format!(", cores {} %", cores.join(" "))
}

fn encoded(times: &Histogram<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !times.is_empty() {
        // Writing to memory fails for no histogram of ours: the bounds are small.
        let _ = V2Serializer::new().serialize(times, &mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_run_has_samples_of_what_arrived() {
        let recorder = Arc::new(Mutex::new(Recorder::default()));
        let scene = Scene {
            section: "x".to_owned(),
            span: Duration::from_secs(1),
            is_quiet: true,
            recorders: vec![recorder.clone()],
            far: Some(std::process::id()),
            peers: Vec::new(),
        };
        let watch = Watch::start(scene);
        lock(&recorder).on_answer((1_000, 2_000), 51_000);
        watch.live().sent.fetch_add(3, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(300));
        let samples = watch.stop();
        let total = |rate: fn(&Sample) -> f64| {
            samples.iter().map(|sample| rate(sample) * sample.span_s).sum::<f64>().round()
        };
        assert_eq!((total(|sample| sample.sent_per_s), total(|sample| sample.arrived_per_s)), (3.0, 1.0));
        let timed: Vec<&Sample> = samples.iter().filter(|sample| sample.p50_us.is_some()).collect();
        assert_eq!(timed.len(), 1);
        assert!((49.9..50.1).contains(&timed[0].p50_us.unwrap()) && !timed[0].encoded.is_empty());
        assert!(timed[0].far_resident_bytes.unwrap() > 0 && !timed[0].cores.is_empty());
        assert!(line_of(timed[0]).contains("p50 50"), "{}", line_of(timed[0]));
    }
}
