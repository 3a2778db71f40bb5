//! Many sessions at once: messages to randomly drawn peers beside bare sendmmsg to the same addresses, or nothing at all.
//!
//! In:    how many sessions; rounds of each way of sending.
//! Out:   what arrived a second, each way, and its part of what bare datagrams of the same length came to; memory of a session.
//! Holds: the far side is one node and sends, the near side is a [`Crowd`] and counts; ways alternate between rounds, so
//!        that a machine that is disturbed for a while favours none.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dunlin::runtime::RuntimeOptions;
use dunlin::{Peer, RecvError};
use dunlin_bench::callers;
use dunlin_shards::session::live::Settings;

use crate::Fault;
use crate::crowd::{Arrivals, Crowd, Plan};
use crate::host;
use crate::interrupt;
use crate::live::{Live, Scene, Watch};
use crate::near::{HUB_IDLE, Near};
use crate::options::{ManyOptions, NodeOptions, QuietOptions};
use crate::part::Role;
use crate::report::Report;
use crate::spray::{Order, Sprayed, Way};

/// How long nothing may happen while sessions are opened.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take beyond the order's span.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a PING may take that tells an idle far side from one that is gone.
const PING: Duration = Duration::from_secs(2);
/// How often the run looks how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What is sent before counting begins, each way.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long the last datagrams may lie in a socket's queue.
const REST: Duration = Duration::from_millis(50);
/// How memory is counted, for people.
const COUNTED: &str = "far_session and near_session: how much each process's resident memory (VmRSS) grew from before the first \
call until --settle seconds after the last, through its sessions. The far side is one node with all of them, handles for its \
application included; on the near side each session has a node of its own, made before and not counted, so that what a node \
allocates for its first session counts.\n";
/// What a session's handshake takes, for the samples' interval.
const HANDSHAKE: Duration = Duration::from_micros(500);

impl Way {
    pub(crate) fn section(self) -> &'static str {
        match self {
            Self::Unreliable => "unreliable",
            Self::Reliable => "reliable",
            Self::Raw => "sendmmsg",
            Self::Verify => "verify",
        }
    }
}

/// Messages over many sessions.
pub(crate) fn run(
    near: &mut Near,
    node: &NodeOptions,
    (options, span, is_quiet): (&ManyOptions, Duration, bool),
    report: &mut Report,
) -> Result<(), Fault> {
    let control = near.connect()?;
    let crowd = form(near, node, (options.sessions, options.ports), None)?;
    open(near, &crowd, (options.sessions, is_quiet), report)?;
    let mut ways = vec![Way::Unreliable, Way::Raw];
    ways.extend(options.reliable.then_some(Way::Reliable));
    let mut run = Run { near, crowd: &crowd, control: &control, is_quiet, raw_len: options.size };
    for way in &ways {
        run.send(Order { way: *way, span: WARM_UP.min(span), size: options.size }, None)?;
    }
    for round in 0..options.rounds.max(1) {
        for way in &ways {
            if interrupt::is_asked() {
                return Ok(());
            }
            run.send(Order { way: *way, span, size: options.size }, Some(report))?;
        }
        if round == 0 {
            report.section("sendmmsg");
            report.add("datagram_size", run.raw_len as f64, "bytes");
        }
        ways.reverse();
    }
    let cost = "far_cpu_message";
    let measured = [(Way::Unreliable.section(), cost), (Way::Reliable.section(), cost)];
    compare(&measured, report);
    control.close(0);
    Ok(())
}

/// What each section comes to beside bare datagrams, by medians: of what arrived, and of the sending side's CPU time, which
/// the second name has.
pub(crate) fn compare(measured: &[(&str, &str)], report: &mut Report) {
    let mut rows = Vec::new();
    for (section, cost) in measured {
        for (name, is_cost) in [("rate", false), (*cost, true)] {
            let raw_name = if is_cost { "far_cpu_message" } else { name };
            let both = report.median_of(section, name).zip(report.median_of(Way::Raw.section(), raw_name));
            let Some((own, raw)) = both else { continue };
            let percent = if is_cost { raw / own } else { own / raw } * 100.0;
            let name = if is_cost { "_by_cpu" } else { "_of_sendmmsg" };
            rows.push((format!("{section}{name}"), percent));
        }
    }
    report.section("ratios");
    rows.into_iter().for_each(|(name, percent)| report.add(name, percent, "% of sendmmsg"));
}

/// All that a round needs.
pub(crate) struct Run<'a> {
    pub(crate) near: &'a mut Near,
    pub(crate) crowd: &'a Crowd,
    pub(crate) control: &'a Peer,
    pub(crate) is_quiet: bool,
    /// Bytes of a bare datagram: as many as the last unreliable messages took each, acknowledgements and all.
    pub(crate) raw_len: usize,
}

impl Run<'_> {
    /// One way, once; without a report it warms up.
    pub(crate) fn send(&mut self, order: Order, report: Option<&mut Report>) -> Result<(), Fault> {
        let size = if order.way == Way::Raw { self.raw_len } else { order.size };
        let order = Order { size, ..order };
        self.near.rest();
        self.near.begin(self.control)?;
        self.crowd.take_arrivals();
        let watch = report.is_some().then(|| {
            Watch::start(Scene {
                section: order.way.section().to_owned(),
                span: order.span,
                is_quiet: self.is_quiet,
                far: self.near.far_process(),
                peers: vec![self.control.clone()],
                ..Scene::default()
            })
        });
        let live = watch.as_ref().map(Watch::live).unwrap_or_default();
        let started = Instant::now();
        let result = order_and_wait(self.control, self.crowd, &order, &live);
        let seconds = started.elapsed().as_secs_f64();
        std::thread::sleep(REST);
        let arrivals = self.crowd.take_arrivals();
        let samples = watch.map(Watch::stop).unwrap_or_default();
        if order.way == Way::Unreliable && arrivals.messages > 0 {
            self.raw_len = (arrivals.datagram_bytes / arrivals.messages) as usize;
        }
        let Some(report) = report else { return result.map(drop) };
        report.timeline.extend(samples);
        report.section(order.way.section());
        let count = if order.way == Way::Raw { arrivals.raw } else { arrivals.messages };
        if count > 0 {
            add_arrivals(report, (&order, count), &arrivals);
        }
        let sprayed = result?;
        report.add("sent", sprayed.sent as f64, "");
        report.add("unacknowledged", sprayed.unacknowledged as f64, "");
        report.add("far_cpu_message", sprayed.cpu_ns as f64 * 1e-3 / sprayed.sent.max(1) as f64, "us");
        let (_, mut used) = self.near.end(self.control)?;
        // Engines know nothing of the crowd's datagrams, nor of bare ones.
        used.near.datagrams_in += arrivals.datagrams + arrivals.raw;
        used.near.trains_in += arrivals.datagrams + arrivals.raw;
        used.near.datagrams_out += arrivals.answers;
        used.near.trains_out += arrivals.answers;
        let bare = if order.way == Way::Raw { sprayed.sent } else { 0 };
        used.far.datagrams_out += bare;
        used.far.trains_out += bare;
        report.add_used(&used, seconds);
        match (order.way, sprayed.sent.saturating_sub(count)) {
            // What is reliable arrives.
            (Way::Reliable, missing) if missing > 0 => {
                Err(format!("{missing} of {} reliable messages did not arrive", sprayed.sent).into())
            }
            _ => Ok(()),
        }
    }
}

fn add_arrivals(report: &mut Report, (order, count): (&Order, u64), arrivals: &Arrivals) {
    report.add("rate", arrivals.rate_of(count), "/s");
    report.add("goodput", arrivals.rate_of(count) * order.size as f64 * 8e-9, "Gbit/s");
    report.add("arrived", count as f64, "");
}

/// Gives the order and waits until it is done.
pub(crate) fn order_and_wait(
    control: &Peer,
    crowd: &Crowd,
    order: &Order,
    live: &Live,
) -> Result<Sprayed, Fault> {
    control.send(&order.to_message())?;
    let until = Instant::now() + order.span + ANSWER;
    loop {
        let answer = control.recv_timeout(LOOK_EVERY);
        let arrivals = crowd.arrivals();
        let count = arrivals.messages + arrivals.raw;
        live.sent.store(count, Ordering::Relaxed);
        live.arrived.store(count, Ordering::Relaxed);
        match answer {
            Ok(answer) => {
                let sprayed: Sprayed = serde_json::from_slice(&answer)
                    .map_err(|error| format!("the far side is no dunlin-loadgen: {error}"))?;
                return match sprayed.fault {
                    Some(fault) => Err(format!("the far side: {fault}").into()),
                    None => Ok(sprayed),
                };
            }
            Err(RecvError::Timeout) if Instant::now() < until => {}
            // Its shard answers without its application.
            Err(RecvError::Timeout) if control.ping(PING).is_some() => {
                return Err("the far side does nothing: it is to be a `dunlin-loadgen far --hub`".into());
            }
            Err(error) => return Err(format!("the far side does not answer: {error}").into()),
        }
    }
}

/// So many nodes that call nobody yet.
pub(crate) fn form(
    near: &Near,
    node: &NodeOptions,
    (sessions, ports): (usize, usize),
    role: Option<Role>,
) -> Result<Crowd, Fault> {
    let config = callers::config(node.suite.wanted());
    let settings =
        Settings { idle_timeout: HUB_IDLE, congestion: node.congestion.algorithm(), ..config.settings };
    Crowd::start(&Plan {
        id: near.uris[0].id,
        remote: near.remote()?,
        config: dunlin_shards::shard::ShardConfig { settings, ..config },
        members: sessions,
        ports,
        role,
        core: near.cores.near,
        runtime: RuntimeOptions { io: node.io.choice(), oversubscribe: true, ..RuntimeOptions::default() },
    })
}

/// Each of them opens its session.
pub(crate) fn open(
    near: &Near,
    crowd: &Crowd,
    (sessions, is_quiet): (usize, bool),
    report: &mut Report,
) -> Result<(), Fault> {
    let span = HANDSHAKE * sessions as u32;
    let scene = Scene { section: "sessions".to_owned(), span, is_quiet, ..Scene::default() };
    let watch = Watch::start(Scene { far: near.far_process(), ..scene });
    let start = Instant::now();
    crowd.call();
    let result = await_sessions(crowd, sessions as u64, &watch.live());
    report.timeline.extend(watch.stop());
    report.section("sessions");
    report.add("sessions", crowd.sessions()[0] as f64, "");
    report.add("opened", crowd.sessions()[0] as f64 / start.elapsed().as_secs_f64(), "/s");
    result
}

fn await_sessions(crowd: &Crowd, wanted: u64, live: &Live) -> Result<(), Fault> {
    let (mut known, mut moved) = (0, Instant::now());
    loop {
        let [opened, ended] = crowd.sessions();
        live.sent.store(opened, Ordering::Relaxed);
        live.arrived.store(opened, Ordering::Relaxed);
        if ended > 0 {
            let why = crowd.why().unwrap_or_default();
            return Err(format!("{ended} sessions ended while {opened} of {wanted} were open: {why}").into());
        }
        if opened == wanted {
            return Ok(());
        }
        if interrupt::is_asked() {
            return Err(format!("interrupted with {opened} of {wanted} sessions").into());
        }
        if opened > known {
            (known, moved) = (opened, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            return Err(format!("only {opened} of {wanted} sessions could be opened").into());
        }
        std::thread::sleep(LOOK_EVERY / 10);
    }
}

/// Many sessions on which nothing happens: memory of each, and what all of them take of a core.
pub(crate) fn idle(
    near: &mut Near,
    node: &NodeOptions,
    (options, span, is_quiet): (&QuietOptions, Duration, bool),
    report: &mut Report,
) -> Result<(), Fault> {
    let settle = Duration::try_from_secs_f64(options.settle).map_err(|_| "--settle is no time")?;
    let control = near.connect()?;
    let crowd = form(near, node, (options.sessions, options.ports), None)?;
    let empty = [host::resident_bytes(), near.ledger(&control)?.resident_bytes];
    open(near, &crowd, (options.sessions, is_quiet), report)?;
    rest(settle);
    near.begin(&control)?;
    let began = Instant::now();
    rest(span);
    let (full, used) = near.end(&control)?;
    let seconds = began.elapsed().as_secs_f64();
    let near_full = host::resident_bytes();
    let each = |full: u64, empty: u64| (full as f64 - empty as f64) / options.sessions as f64;
    let [near_session, far_session] = [each(near_full, empty[0]), each(full.resident_bytes, empty[1])];
    let percent = |cpu_ns: u64| cpu_ns as f64 * 1e-7 / seconds;
    report.section("idle");
    report.add("far_session", far_session, "bytes");
    report.add("near_session", near_session, "bytes");
    report.add("both_sides", far_session + near_session, "bytes");
    report.add("far_resident_before", empty[1] as f64, "bytes");
    report.add("far_resident", full.resident_bytes as f64, "bytes");
    report.add("near_resident_before", empty[0] as f64, "bytes");
    report.add("near_resident", near_full as f64, "bytes");
    report.add("far_sessions", full.shard_sessions.iter().sum::<usize>() as f64, "");
    report.tables.push(COUNTED.to_owned());
    report.add("cpu_near", percent(used.near.cpu_ns), "%");
    report.add("cpu_far", percent(used.far.cpu_ns), "%");
    report.add_used(&used, seconds);
    control.close(0);
    match crowd.sessions() {
        [_, 0] => Ok(()),
        [_, ended] => Err(format!("{ended} idle sessions ended: {}", crowd.why().unwrap_or_default()).into()),
    }
}

/// For so long, unless the run is to end.
fn rest(span: Duration) {
    let start = Instant::now();
    while start.elapsed() < span && !interrupt::is_asked() {
        std::thread::sleep(LOOK_EVERY.min(span));
    }
}
