//! Words to everybody: brought to a node by some of its links, verified there, carried on to the others; beside verifying the
//! same signatures on the same core and nothing else.
//!
//! In:    how many links bring and take; how many origins, how long their words are; whether copies are brought as well.
//! Out:   rumours carried on a second, CPU time of the far side for each; signatures verified a second; copies refused a second.
//! Holds: rumours are signed before anything is measured, and each is brought once; to a far side that keeps to its limits as
//!        often as there is time. What is carried on is counted where it arrives, what is refused by the far side. The ways
//!        alternate between rounds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dunlin::Peer;
use dunlin_shards::limits::{RUMOUR_LEN_MAX, RUMOURS_BURST_LINK, RUMOURS_PER_SECOND_LINK};

use crate::Fault;
use crate::crowd::{Arrivals, Crowd};
use crate::dht::await_meeting;
use crate::interrupt;
use crate::ledger::{Counts, Used};
use crate::linked::Gathering;
use crate::live::{Live, Sample, Scene, Watch};
use crate::near::Near;
use crate::options::{NodeOptions, ShoutOptions};
use crate::part::Role;
use crate::questions::Turn;
use crate::report::Report;
use crate::rumours::{Bytes, Origins, PAYLOAD_LEN_MIN};
use crate::sessions::{self, order_and_wait};
use crate::spray::{Order, Way};
use crate::talk::network;

/// How often the run looks how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long it may take until all are links, or until it is known what became of all that was brought.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is brought before counting begins.
const WARM_UP: Duration = Duration::from_millis(200);
/// Rumours that are signed for each second: more than a core verifies.
const SIGNED_PER_SECOND: f64 = 60_000.0;
/// In a round at most: so many are in memory, and none is older than a node takes by its end.
const SIGNED_MAX: usize = 600_000;
/// A round of rumours ends after so long, lest the first ones be too old.
const SPAN_MAX: Duration = Duration::from_secs(60);
/// Rumours that are brought again and again.
const COPIED_COUNT: usize = 4_096;
/// Sections, and figures that are compared.
const RUMOURS: &str = "rumours";
const DUPLICATES: &str = "duplicates";
const COST: &str = "far_cpu_rumour";
const COST_ALONE: &str = "far_cpu_signature";

pub(crate) fn run(
    near: &mut Near,
    node: &NodeOptions,
    (options, span, is_quiet): (&ShoutOptions, Duration, bool),
    report: &mut Report,
) -> Result<(), Fault> {
    check(options)?;
    let gathering = Arc::new(Gathering::new(options.bringers));
    let control = near.connect()?;
    let members = options.bringers + options.links;
    let role = Role::Linked(gathering.clone());
    let crowd = sessions::form(near, node, (members, 1), Some(role))?;
    sessions::open(near, &crowd, (members, is_quiet), report)?;
    await_meeting(&crowd, members as u64)?;
    await_links(&gathering, members as u64)?;
    let origins = Origins::new(options.origins);
    let span = span.min(SPAN_MAX);
    let mut shouting = Shouting { near, crowd, gathering, control, origins, options, is_quiet };
    shouting.rumours(span.min(WARM_UP), None)?;
    for round in 0..options.rounds.max(1) * 2 {
        if interrupt::is_asked() {
            return Ok(());
        }
        if matches!(round % 4, 1 | 2) {
            shouting.verify(span, report)?;
            continue;
        }
        let last = shouting.rumours(span, Some(report))?;
        if options.duplicates {
            shouting.duplicates(span, &last, report)?;
        }
    }
    if !options.limited {
        compare(report);
    }
    shouting.control.close(0);
    Ok(())
}

/// What carrying on comes to beside verifying alone, by medians: of the rate, and of the far side's CPU time.
fn compare(report: &mut Report) {
    let alone = Way::Verify.section();
    let rates = report.median_of(RUMOURS, "rate").zip(report.median_of(alone, "rate"));
    let costs = report.median_of(RUMOURS, COST).zip(report.median_of(alone, COST_ALONE));
    report.section("ratios");
    if let Some((carried, alone)) = rates {
        report.add("rumours_of_verify", carried / alone * 100.0, "% of verify");
    }
    if let Some((carried, alone)) = costs {
        report.add("rumours_by_cpu", alone / carried * 100.0, "% of verify");
    }
}

fn check(options: &ShoutOptions) -> Result<(), Fault> {
    if options.bringers == 0 || options.links == 0 {
        return Err("--bringers and --links: somebody has to bring, and somebody to take".into());
    }
    if !(PAYLOAD_LEN_MIN..=RUMOUR_LEN_MAX).contains(&options.size) {
        return Err(format!("--size {}: {PAYLOAD_LEN_MIN} to {RUMOUR_LEN_MAX} bytes", options.size).into());
    }
    Ok(())
}

/// All members are links of the node.
fn await_links(gathering: &Gathering, wanted: u64) -> Result<(), Fault> {
    let start = Instant::now();
    loop {
        let [linked, refused] = gathering.links();
        if linked == wanted {
            return Ok(());
        }
        if refused > 0 || start.elapsed() > PATIENCE || interrupt::is_asked() {
            return Err(format!("{linked} of {wanted} are links, {refused} were refused").into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// All that a round needs.
struct Shouting<'a> {
    near: &'a mut Near,
    crowd: Crowd,
    gathering: Arc<Gathering>,
    control: Peer,
    origins: Origins,
    options: &'a ShoutOptions,
    is_quiet: bool,
}

/// What a round came to.
struct Brought {
    count: usize,
    arrivals: Arrivals,
    used: Used,
    /// From the first that was brought to the last that was acknowledged.
    seconds: f64,
    /// From before the far side began to count until it was through.
    wall: f64,
    samples: Vec<Sample>,
}

impl Shouting<'_> {
    /// Fresh rumours, each once; without a report they warm up. The last of those that were brought.
    fn rumours(&mut self, span: Duration, report: Option<&mut Report>) -> Result<Vec<Bytes>, Fault> {
        let wanted = (span.as_secs_f64() * SIGNED_PER_SECOND) as usize;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let wanted = (wanted.min(SIGNED_MAX), self.options.size);
        let rumours = self.origins.say(&network(), wanted, time);
        // What is refused for coming too fast may come again.
        self.gathering.stock.put(rumours.clone(), self.options.limited);
        let brought = self.bring((RUMOURS, span), report.is_some())?;
        let end = brought.count.min(rumours.len());
        let last = rumours[end.saturating_sub(COPIED_COUNT)..end].to_vec();
        let Some(report) = report else { return Ok(last) };
        report.timeline.extend_from_slice(&brought.samples);
        report.section(RUMOURS);
        let (arrivals, far) = (&brought.arrivals, &brought.used.far);
        let takers = (self.options.bringers + self.options.links - 1) as f64;
        let rate = match self.options.limited {
            true => far.rumours_taken as f64 / brought.wall,
            false => arrivals.rate_of(arrivals.copies) / takers,
        };
        report.add("rate", rate, "/s");
        report.add("brought", brought.count as f64, "");
        report.add("taken", far.rumours_taken as f64, "");
        report.add("copies", arrivals.copies as f64, "");
        report.add("crowded_out", far.rumours_crowded_out as f64, "");
        report.add("over_budget", far.rumours_over_budget as f64, "");
        report.add("too_fast", far.rumours_too_fast as f64, "");
        self.add_cost(report, &brought, (COST, far.rumours_taken));
        if self.options.limited {
            self.check_budget(report, &brought);
        }
        Ok(last)
    }

    /// The default budget of each link was kept: so many at once, so many a second from then on.
    fn check_budget(&self, report: &mut Report, brought: &Brought) {
        let rate = RUMOURS_PER_SECOND_LINK as f64 * self.options.bringers as f64;
        let burst = RUMOURS_BURST_LINK as f64 * self.options.bringers as f64;
        let allowed = rate * brought.wall + burst;
        report.add("allowed", allowed, "");
        let taken = brought.used.far.rumours_taken;
        if taken as f64 > allowed {
            report.mark_unmet(format!("{taken} rumours were taken where {allowed:.0} were allowed"));
        }
    }

    /// Copies of what was carried on before, again and again.
    fn duplicates(&mut self, span: Duration, last: &[Bytes], report: &mut Report) -> Result<(), Fault> {
        self.gathering.stock.put(last.to_vec(), true);
        let brought = self.bring((DUPLICATES, span), true)?;
        report.timeline.extend_from_slice(&brought.samples);
        report.section(DUPLICATES);
        let refused = brought.used.far.rumours_duplicate;
        report.add("rate", refused as f64 / brought.seconds, "/s");
        report.add("brought", brought.count as f64, "");
        report.add("refused", refused as f64, "");
        report.add("copies", brought.arrivals.copies as f64, "");
        self.add_cost(report, &brought, ("far_cpu_copy", refused));
        Ok(())
    }

    fn add_cost(&self, report: &mut Report, brought: &Brought, (name, count): (&'static str, u64)) {
        let mut used = brought.used.clone();
        report.add(name, used.far.cpu_ns as f64 * 1e-3 / count.max(1) as f64, "us");
        report.add("far_core", used.far.shards_cpu_ns as f64 * 1e-7 / brought.seconds, "%");
        // Engines know nothing of the crowd's datagrams.
        used.near.datagrams_in += brought.arrivals.datagrams;
        used.near.trains_in += brought.arrivals.datagrams;
        used.near.datagrams_out += brought.arrivals.answers;
        used.near.trains_out += brought.arrivals.answers;
        report.add_used(&used, brought.seconds);
    }

    /// Has the stock brought, for so long or until nothing is left.
    fn bring(&mut self, (section, span): (&str, Duration), is_watched: bool) -> Result<Brought, Fault> {
        let wall = Instant::now();
        self.near.rest();
        self.near.begin(&self.control)?;
        let before = self.near.ledger(&self.control)?.counts;
        self.crowd.take_arrivals();
        let watch = is_watched.then(|| {
            Watch::start(Scene {
                section: section.to_owned(),
                span,
                is_quiet: self.is_quiet,
                far: self.near.far_process(),
                peers: vec![self.control.clone()],
                ..Scene::default()
            })
        });
        let live = watch.as_ref().map(Watch::live).unwrap_or_default();
        let began = Instant::now();
        self.crowd.turn(Turn::Work);
        while began.elapsed() < span && !self.is_over() && !self.gathering.stock.is_empty() {
            std::thread::sleep(LOOK_EVERY.min(span));
            self.show(&live);
        }
        self.crowd.turn(Turn::Rest);
        let until = Instant::now() + PATIENCE;
        while !self.gathering.is_quiet() && Instant::now() < until && !self.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let seconds = began.elapsed().as_secs_f64();
        let count = self.gathering.stock.taken();
        self.settle(&before, count as u64)?;
        let arrivals = self.crowd.take_arrivals();
        let samples = watch.map(Watch::stop).unwrap_or_default();
        let (_, used) = self.near.end(&self.control)?;
        let wall = wall.elapsed().as_secs_f64();
        Ok(Brought { count, arrivals, used, seconds, wall, samples })
    }

    /// Waits until the far side has told what became of all that was brought, and until all copies have come.
    fn settle(&self, before: &Counts, brought: u64) -> Result<(), Fault> {
        let until = Instant::now() + PATIENCE;
        let others = (self.options.bringers + self.options.links - 1) as u64;
        loop {
            let far = self.near.ledger(&self.control)?.counts.since(before);
            let refused = far.rumours_duplicate + far.rumours_over_budget + far.rumours_too_fast;
            let copies = self.crowd.arrivals().copies + far.rumours_crowded_out;
            let is_through = far.rumours_taken + refused >= brought && copies >= far.rumours_taken * others;
            if is_through || Instant::now() > until || self.is_over() {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn is_over(&self) -> bool {
        interrupt::is_asked() || self.control.is_closed() || self.near.has_far_died()
    }

    fn show(&self, live: &Live) {
        live.sent.store(self.gathering.stock.taken() as u64, Ordering::Relaxed);
        live.arrived.store(self.crowd.arrivals().copies, Ordering::Relaxed);
    }

    /// The far side verifies signatures and nothing else.
    fn verify(&mut self, span: Duration, report: &mut Report) -> Result<(), Fault> {
        let order = Order { way: Way::Verify, span, size: self.options.size };
        let verified = order_and_wait(&self.control, &self.crowd, &order, &Live::default())?;
        let (count, seconds) = (verified.sent as f64, verified.elapsed_ns as f64 * 1e-9);
        report.section(Way::Verify.section());
        report.add("rate", count / seconds, "/s");
        report.add("verified", count, "");
        report.add(COST_ALONE, verified.cpu_ns as f64 * 1e-3 / count.max(1.0), "us");
        Ok(())
    }
}
