//! What a child process counts, and how it tells: one line of JSON on its output for each line on its input.
//!
//! In:    `arrived`, `connected`, `took`, `fault` from whatever does the work; lines from the parent.
//! Out:   [`Said`].
//! Holds: each counter is written by one thread at a time, so that counting takes no locked instruction.

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::Fault;

/// Round trips longer than this are counted as this.
const TIME_NS_MAX: u64 = 60_000_000_000;
/// Digits that a round trip is told apart by.
const TIME_DIGITS: u8 = 3;

/// What a child says.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Said {
    /// The work can be measured. A server says how it is reached.
    Ready(String),
    /// What was counted so far.
    Marked(Box<Mark>),
    /// It is over, and why.
    Failed(String),
}

/// The state of all counters.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Mark {
    /// Since the process began.
    pub(crate) at_ns: u64,
    /// What the whole process has computed, the kernel's part included.
    pub(crate) cpu_ns: u64,
    /// Resident memory in bytes.
    pub(crate) resident: u64,
    /// The same when no connection was there.
    pub(crate) empty: u64,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    pub(crate) connections: u64,
    /// How often what arrived was not what was sent.
    pub(crate) faults: u64,
    /// Since the mark before.
    pub(crate) times: Times,
    /// As the peer's own counters have them; zeros where it has none.
    pub(crate) wire: Wire,
}

/// Datagrams that were sent, or that came where nobody counts those sent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Wire {
    pub(crate) datagrams: u64,
    /// Of UDP payload.
    pub(crate) bytes: u64,
}

/// Whoever counts datagrams, asked at every mark.
type Meter = Box<dyn Fn() -> Wire + Send + Sync>;

/// Round trips.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Times {
    pub(crate) count: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
}

/// The counters of this process.
pub(crate) struct Gauge {
    start: Instant,
    empty: AtomicU64,
    bytes: AtomicU64,
    messages: AtomicU64,
    connections: AtomicU64,
    faults: AtomicU64,
    times: Mutex<Histogram<u64>>,
    meter: OnceLock<Meter>,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Gauge {
    /// Starts to listen to the parent. When its end of the pipe is closed, the process ends.
    pub(crate) fn start() -> Result<&'static Self, Fault> {
        let times = Histogram::new_with_bounds(1, TIME_NS_MAX, TIME_DIGITS)?;
        let gauge: &'static Self = Box::leak(Box::new(Self {
            start: Instant::now(),
            empty: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            times: Mutex::new(times),
            meter: OnceLock::new(),
        }));
        std::thread::Builder::new().name("gauge".to_owned()).spawn(move || gauge.listen())?;
        Ok(gauge)
    }

    fn listen(&self) {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() {
                break;
            }
            self.say(&Said::Marked(Box::new(self.mark())));
        }
        std::process::exit(0);
    }

    /// A message, or a piece of a stream.
    pub(crate) fn arrived(&self, messages: u64, bytes: usize) {
        add(&self.messages, messages);
        add(&self.bytes, bytes as u64);
    }

    /// A connection stands.
    pub(crate) fn connected(&self) {
        add(&self.connections, 1);
    }

    /// A round trip was done.
    pub(crate) fn took(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.times().saturating_record(ns);
    }

    /// What arrived is not what was sent.
    pub(crate) fn fault(&self) {
        add(&self.faults, 1);
    }

    /// The peer counts its datagrams, and this is how to ask it.
    pub(crate) fn meter(&self, meter: impl Fn() -> Wire + Send + Sync + 'static) {
        // The first connection's is the one that is measured.
        let _ = self.meter.set(Box::new(meter));
    }

    /// For those whose messages are datagrams.
    pub(crate) fn meter_messages(&'static self) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.meter(move || Wire { datagrams: read(&self.messages), bytes: read(&self.bytes) });
    }

    /// Nothing of a connection's has been allocated yet; said by those that allocate for connections to come.
    pub(crate) fn empty(&self) {
        self.empty.store(resident(), Ordering::Relaxed);
    }

    /// The work can be measured.
    pub(crate) fn ready(&self, address: impl ToString) {
        if self.empty.load(Ordering::Relaxed) == 0 {
            self.empty();
        }
        self.say(&Said::Ready(address.to_string()));
    }

    /// Tells the parent.
    pub(crate) fn say(&self, said: &Said) {
        let line = serde_json::to_string(said).expect("numbers and text can be written");
        let mut output = std::io::stdout().lock();
        // Nobody to tell: the input ends too, and the process with it.
        let _ = writeln!(output, "{line}").and_then(|()| output.flush());
    }

    fn times(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) -> Mark {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut times = self.times();
        let at = |quantile| times.value_at_quantile(quantile);
        let told = Times { count: times.len(), p50_ns: at(0.5), p99_ns: at(0.99), p999_ns: at(0.999) };
        times.reset();
        Mark {
            at_ns: u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            cpu_ns: process_cpu_ns(),
            resident: resident(),
            empty: read(&self.empty),
            bytes: read(&self.bytes),
            messages: read(&self.messages),
            connections: read(&self.connections),
            faults: read(&self.faults),
            times: told,
            wire: self.meter.get().map(|meter| meter()).unwrap_or_default(),
        }
    }
}

/// What all threads of this process have computed.
fn process_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// Resident memory in bytes; 0 where the kernel does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}
