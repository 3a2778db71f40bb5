//! What the kernel tells of this process and this machine.
//!
//! In:    files under /proc and /sys.
//! Out:   numbers; zero or nothing where a file is missing.
//! Holds: no number is made up: what the kernel does not tell is left out or zero.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of this process in nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64
}

/// CPU time of those threads of this process that are shards, by their name, in nanoseconds; 0 where the kernel does not tell.
pub(crate) fn shards_cpu_ns() -> u64 {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("shard-") {
            let times = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            // Nanoseconds on a core, nanoseconds of waiting for one, turns.
            sum += times.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    sum
}

/// Context switches of all threads: of their own accord, and forced.
pub(crate) fn switches() -> [u64; 2] {
    let mut sums = [0; 2];
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        for (sum, key) in sums.iter_mut().zip(["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]) {
            *sum += field_of(&status, key);
        }
    }
    sums
}

/// Memory of this process that is in RAM, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    resident_bytes_of(std::process::id()).unwrap_or(0)
}

/// The same of another process on this machine; nothing when it is not there.
pub(crate) fn resident_bytes_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    Some(field_of(&status, "VmRSS:") * 1_024)
}

/// Whether a process runs; one that has ended and was not waited for does not.
pub(crate) fn is_alive(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| !state.trim_start().starts_with(['Z', 'X']))
}

/// The first number behind `key` at a line's start.
fn field_of(status: &str, key: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(key));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The machine's UDP errors so far, by the kernel's names: `InErrors`, `RcvbufErrors` and the like.
pub(crate) fn udp_errors() -> Vec<(String, u64)> {
    read_udp_errors(&fs::read_to_string("/proc/net/snmp").unwrap_or_default())
}

/// `text`: a line of names, then a line of values, each beginning with the protocol's name.
fn read_udp_errors(text: &str) -> Vec<(String, u64)> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let pairs = names.split(' ').zip(values.split(' '));
    pairs
        .filter(|(name, _)| name.ends_with("Errors"))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// A core's time so far, in the kernel's ticks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct CoreTime {
    busy: u64,
    total: u64,
}

/// All cores' times so far, in the kernel's order.
pub(crate) fn core_times() -> Vec<CoreTime> {
    read_core_times(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

fn read_core_times(text: &str) -> Vec<CoreTime> {
    let rows = text.lines().filter(|line| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    rows.map(|row| {
        // user nice system idle iowait irq softirq steal; guest time is part of user time.
        let ticks: Vec<u64> = row.split_whitespace().skip(1).take(8).flat_map(str::parse).collect();
        let total = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        CoreTime { busy: total - idle, total }
    })
    .collect()
}

/// What each core did between two looks, in percent of the time.
pub(crate) fn core_loads(before: &[CoreTime], after: &[CoreTime]) -> Vec<f64> {
    let load = |(before, after): (&CoreTime, &CoreTime)| {
        let total = after.total.saturating_sub(before.total);
        // Idle time may run backwards a little between two looks.
        after.busy.saturating_sub(before.busy) as f64 * 100.0 / total.max(1) as f64
    };
    before.iter().zip(after).map(load).map(|percent| percent.min(100.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_of_errors_is_read() {
        let text = "Tcp: A RcvbufErrors\nTcp: 1 2\nUdp: InDatagrams InErrors RcvbufErrors\nUdp: 5 77 9\nUdpLite: InErrors\n";
        assert_eq!(read_udp_errors(text), [("InErrors".to_owned(), 77), ("RcvbufErrors".to_owned(), 9)]);
        assert_eq!(read_udp_errors("Udp: InDatagrams\nUdp: 5\n"), []);
        assert!(udp_errors().iter().any(|(name, _)| name == "RcvbufErrors"));
    }

    #[test]
    fn this_process_has_switched_and_takes_memory() {
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(switches()[0] > 0);
        assert!(resident_bytes() > 4_096 && cpu_ns() > 0);
        assert!(is_alive(std::process::id()));
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        while is_alive(ended.id()) {
            std::thread::yield_now();
        }
        ended.wait().unwrap();
    }

    /// A thread is a shard by its name, and only its own time counts.
    #[test]
    fn a_shards_time_is_told_from_the_process() {
        let (started, start) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let before = shards_cpu_ns();
        let shard = std::thread::Builder::new().name("shard-7".to_owned()).spawn(move || {
            let busy = std::time::Instant::now();
            while busy.elapsed() < std::time::Duration::from_millis(5) {
                std::hint::black_box(cpu_ns());
            }
            // What it used is accounted for when it stops running.
            std::thread::sleep(std::time::Duration::from_millis(1));
            started.send(()).unwrap();
            let _ = stopped.recv();
        });
        start.recv().unwrap();
        let used = shards_cpu_ns() - before;
        assert!(used > 0 && used <= cpu_ns(), "{used}");
        drop(stop);
        shard.unwrap().join().unwrap();
    }

    #[test]
    fn cores_are_read_and_their_load_is_a_share() {
        let one =
            read_core_times("cpu  9 9 9 9\ncpu0 10 0 10 70 10 0 0 0 5 0\ncpu1 0 0 0 100 0 0 0 0\nintr 3\n");
        assert_eq!(one, [CoreTime { busy: 20, total: 100 }, CoreTime { busy: 0, total: 100 }]);
        let two = read_core_times("cpu0 60 0 10 120 10 0 0 0\ncpu1 0 0 0 200 0 0 0 0\n");
        assert_eq!(core_loads(&one, &two), [50.0, 0.0]);
        assert!(!core_times().is_empty());
    }
}
