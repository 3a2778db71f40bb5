//! What the figures were measured on.

use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use serde::Serialize;

/// The machine, its kernel, and how busy it was when the run began.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Runnable threads over the last minute before the run, as the kernel counts them.
    pub(crate) load: String,
    /// Of this repository.
    pub(crate) revision: &'static str,
    pub(crate) compiler: &'static str,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let name = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            revision: env!("PEERS_REVISION"),
            compiler: env!("PEERS_COMPILER"),
        }
    }
}

/// What the whole machine and our children have computed so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    at: Instant,
    busy: Duration,
    stolen: Duration,
    own: Duration,
}

/// Who else used the machine while we measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Others {
    /// Cores that other processes of this machine kept busy, on average.
    pub(crate) cores: f64,
    /// Cores that the machine's host gave to somebody else.
    pub(crate) stolen: f64,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let own = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The program's name may hold spaces, and ends with the last bracket.
        let own = ticks(own.rsplit_once(')').map_or("", |(_, rest)| rest));
        let all = ticks(stat.lines().next().unwrap_or_default());
        let sum = |ticks: &[u64]| tick_time(ticks.iter().sum());
        let at = |places: &[usize]| places.iter().filter_map(|at| all.get(*at)).copied().collect::<Vec<_>>();
        Self {
            at: Instant::now(),
            busy: sum(&at(&BUSY)),
            stolen: sum(&at(&STOLEN)),
            own: sum(own.get(OWN).unwrap_or_default()),
        }
    }

    /// What happened until `later`.
    pub(crate) fn others_until(&self, later: &Self) -> Others {
        let seconds = (later.at - self.at).as_secs_f64();
        let (busy, own) = (later.busy - self.busy, later.own - self.own);
        Others {
            cores: busy.saturating_sub(own).as_secs_f64() / seconds,
            stolen: (later.stolen - self.stolen).as_secs_f64() / seconds,
        }
    }
}

/// `/proc/stat`: user, nice, system, interrupts, soft interrupts.
const BUSY: [usize; 5] = [0, 1, 2, 5, 6];
const STOLEN: [usize; 1] = [7];
/// `/proc/self/stat` after the name: user and system time of ours and of the children that have ended.
const OWN: std::ops::Range<usize> = 10..14;

/// The numbers of a line; negative ones are zeros, and what is none is left out.
fn ticks(line: &str) -> Vec<u64> {
    let numbers = line.split_whitespace().filter_map(|word| word.parse::<i64>().ok());
    numbers.map(|number| u64::try_from(number).unwrap_or(0)).collect()
}

fn tick_time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
}
