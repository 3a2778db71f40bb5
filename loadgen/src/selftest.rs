//! Whether the generator is faster than what it measures: its own ceilings beside a bare UDP echo.
//!
//! In:    how long each step may take.
//! Out:   the schedule's ceiling, the echo's, the latency that the echo alone has; a fault when the generator is slower.
//! Holds: the echo does nothing but `recv` and `send`: no node can be faster with plain system calls.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Fault;
use crate::machine;
use crate::messages::{PACED, PACED_LEN, message, set_times, times};
use crate::near::{Cores, cores, pin_to};
use crate::options::NodeOptions;
use crate::paced::wait_until;
use crate::plan::{Field, Plan, Rules, Sent, Spacing, drive};
use crate::rally::lock;
use crate::recorder::Recorder;
use crate::report::{Report, State};
use crate::writing;

/// Messages a second that nothing on one core keeps up with.
const BEYOND: f64 = 100_000_000.0;
/// Part of a step's time for the ceilings: their plans have more messages than can leave.
const CEILING_PART: u32 = 8;
/// The rate at which the echo's latency is taken.
const GENTLE: f64 = 2_000.0;
/// Bytes of a message.
const LEN: usize = 64;
/// How often a thread looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn run(node: &NodeOptions, seconds: f64, json: Option<&std::path::Path>) -> Result<(), Fault> {
    let span = Duration::try_from_secs_f64(seconds).map_err(|_| "--seconds is no time")?;
    let cores = cores(node)?;
    let setup = format!("generator on core {}, echo on core {}", cores.near, cores.far[0]);
    let mut report = Report::new("selftest", setup, machine::environment());
    let result = measure(&cores, span, &mut report);
    if let Err(fault) = &result {
        report.mark_partial(fault.to_string());
    }
    writing::print(&report, json)?;
    match report.state() {
        State::Complete => Ok(()),
        state => Err(format!("{}: {}", state.name(), report.notes().join("; ")).into()),
    }
}

fn measure(cores: &Cores, span: Duration, report: &mut Report) -> Result<(), Fault> {
    pin_to(&[cores.near])?;
    let schedule = schedule_ceiling(span / CEILING_PART)?;
    let echo = Echo::start(cores.far[0])?;
    let gentle = through(&echo, GENTLE, span)?;
    let flooded = through(&echo, BEYOND, span / CEILING_PART)?;
    report.section("generator");
    report.add("rate", schedule, "/s");
    report.add("cost", 1e9 / schedule, "ns");
    report.section("echo");
    report.add("rate", flooded.echoed_per_s, "/s");
    report.add("sent", flooded.sent_per_s, "/s");
    report.section("echo at 2000/s");
    report.add("late_share", gentle.sent.late_percent(), "%");
    report.add("lateness_max", gentle.sent.lateness_ns_max as f64 * 1e-3, "us");
    report.add_times("corrected", gentle.recorder.corrected());
    report.add_times("uncorrected", gentle.recorder.uncorrected());
    let factor = schedule / flooded.echoed_per_s.max(1.0);
    report.tables.push(format!(
        "the generator plans, stamps and records {:.2} M messages a second on its core: {factor:.1} times what a bare UDP\n\
         echo answers ({:.3} M/s). Runs that ask for more than the first are void; what a session's hand-over to its\n\
         shard costs belongs to the node and is measured with it.\n",
        schedule * 1e-6,
        flooded.echoed_per_s * 1e-6
    ));
    match factor > 1.0 {
        true => Ok(()),
        false => {
            Err("the generator is slower than a bare echo: its figures say more of it than of a node".into())
        }
    }
}

fn rules(plan: &Plan, span: Duration) -> Rules {
    let late_after_ns = Duration::from_millis(1).as_nanos() as u64;
    let planned = plan.count_from(0);
    Rules { planned, counted_from_ns: 0, late_after_ns, given_up_at_ns: span.as_nanos() as u64 }
}

/// Everything that the generator does for a message, but for the sending: messages a second.
fn schedule_ceiling(span: Duration) -> Result<f64, Fault> {
    let mut field = Void { start: Instant::now(), ball: message(PACED, LEN), recorder: Recorder::default() };
    let plan = Plan::new(BEYOND, span, Spacing::Fixed)?;
    let rules = Rules { given_up_at_ns: u64::MAX, ..rules(&plan, span) };
    field.start = Instant::now();
    let (sent, result) = drive(plan, &rules, &mut field);
    result?;
    let answered = field.recorder.answered();
    if answered != sent.sent || answered == 0 {
        return Err(format!("the generator lost count: {answered} of {}", sent.sent).into());
    }
    Ok(answered as f64 / field.start.elapsed().as_secs_f64())
}

/// Answers at once, by itself.
struct Void {
    start: Instant,
    ball: Vec<u8>,
    recorder: Recorder,
}

impl Field for Void {
    fn now(&mut self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn wait_until(&mut self, at: u64) {
        wait_until(|| self.now(), at);
    }

    fn send(&mut self, intended: u64, now: u64) -> Result<(), Fault> {
        set_times(&mut self.ball, intended, now);
        let now = self.now();
        self.recorder.on_answer(times(&self.ball), now);
        Ok(())
    }
}

/// A thread that sends back what comes.
struct Echo {
    address: std::net::SocketAddr,
    done: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Echo {
    fn start(core: usize) -> Result<Self, Fault> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let address = socket.local_addr()?;
        let (done, echoed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, count) = (done.clone(), echoed.clone());
        let thread = std::thread::spawn(move || {
            // Without its core it is slower, and says so in its rate.
            let _ = pin_to(&[core]);
            let mut bytes = [0; 2_048];
            while !over.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut bytes)
                    && socket.send_to(&bytes[..len], from).is_ok()
                {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { address, done, echoed, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What came of a schedule through the echo.
struct Echoed {
    sent: Sent,
    recorder: Recorder,
    sent_per_s: f64,
    /// What the echo sent back, whether or not it was received.
    echoed_per_s: f64,
}

fn through(echo: &Echo, rate: f64, span: Duration) -> Result<Echoed, Fault> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(echo.address)?;
    socket.set_read_timeout(Some(LOOK_EVERY))?;
    let recorder = Arc::new(std::sync::Mutex::new(Recorder::default()));
    let done = AtomicBool::new(false);
    let plan = Plan::new(rate, span, Spacing::Fixed)?;
    let rules = rules(&plan, span);
    let start = Instant::now();
    let before = echo.echoed.load(Ordering::Relaxed);
    let mut wire = Socket { start, socket: &socket, ball: message(PACED, LEN) };
    let (sent, took, after) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; LEN];
            while !done.load(Ordering::Relaxed) {
                if let Ok(len) = socket.recv(&mut bytes)
                    && len >= PACED_LEN
                {
                    let now = start.elapsed().as_nanos() as u64;
                    lock(&recorder).on_answer(times(&bytes[..len]), now);
                }
            }
        });
        let (sent, result) = drive(plan, &rules, &mut wire);
        let took = start.elapsed().as_secs_f64();
        let after = echo.echoed.load(Ordering::Relaxed);
        std::thread::sleep(LOOK_EVERY * 2);
        done.store(true, Ordering::Relaxed);
        result.map(|()| (sent, took, after))
    })?;
    // The receiving thread is over.
    let recorder = std::mem::take(&mut *lock(&recorder));
    let sent_per_s = sent.sent as f64 / took;
    Ok(Echoed { sent, recorder, sent_per_s, echoed_per_s: (after - before) as f64 / took })
}

/// The sending side of a plain socket.
struct Socket<'a> {
    start: Instant,
    socket: &'a UdpSocket,
    ball: Vec<u8>,
}

impl Field for Socket<'_> {
    fn now(&mut self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn wait_until(&mut self, at: u64) {
        wait_until(|| self.now(), at);
    }

    fn send(&mut self, intended: u64, now: u64) -> Result<(), Fault> {
        set_times(&mut self.ball, intended, now);
        self.socket.send(&self.ball)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_has_a_ceiling_and_the_echo_answers() {
        assert!(schedule_ceiling(Duration::from_millis(5)).unwrap() > 0.0);
        let echo = Echo::start(usize::MAX).unwrap();
        let echoed = through(&echo, 500.0, Duration::from_millis(200)).unwrap();
        assert_eq!(echoed.sent.planned, 100);
        assert!(echoed.recorder.answered() > 0 && echoed.echoed_per_s > 0.0);
    }
}
