//! What a process used and counted so far, to be told to the other side and subtracted from later.

use std::fs;
use std::time::Duration;

use dunlin::Engine;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::messages::Tally;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Numbers that only grow.
        #[derive(Clone, Debug, Default, Deserialize, Serialize)]
        pub(crate) struct Counts { $($(#[doc = $doc])+ pub(crate) $name: u64,)+ }

        impl Counts {
            /// What came since.
            pub(crate) fn since(&self, before: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(before.$name),)+ }
            }
        }
    };
}

counts! {
    /// CPU time of all threads in nanoseconds.
    cpu_ns,
    /// Times that a thread slept.
    switches_voluntary,
    /// Times that a thread had to make way.
    switches_involuntary,
    /// Datagrams received.
    datagrams_in,
    /// Trains received.
    trains_in,
    /// Datagrams sent.
    datagrams_out,
    /// Trains sent.
    trains_out,
    /// Datagrams that came to a shard which did not own them.
    misrouted,
    /// Packets found lost.
    lost,
    /// Segments sent again.
    resent,
    /// Datagrams dropped by the protocol.
    dropped,
    /// Datagrams that the kernel dropped as the socket's queue was full.
    queue_drops,
}

/// One side's numbers at a moment.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Ledger {
    pub(crate) counts: Counts,
    /// Load taken since `BEGIN`.
    pub(crate) tally: Tally,
    /// Nanoseconds since `BEGIN`.
    pub(crate) elapsed_ns: u64,
}

impl Ledger {
    /// The process's numbers now.
    pub(crate) fn now(engine: &Engine, tally: Tally, elapsed: Duration) -> Self {
        Self { counts: counts(engine), tally, elapsed_ns: elapsed.as_nanos() as u64 }
    }
}

/// This process's numbers; the shards' are those of their last pause.
pub(crate) fn counts(engine: &Engine) -> Counts {
    let stats = engine.stats();
    let protocol = stats.protocol();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let [switches_voluntary, switches_involuntary] = switches();
    Counts {
        cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64,
        switches_voluntary,
        switches_involuntary,
        datagrams_in: protocol.datagrams_in,
        trains_in: protocol.trains_in,
        datagrams_out: protocol.datagrams_out,
        trains_out: protocol.trains_out,
        misrouted: protocol.misrouted,
        lost: protocol.packets_lost,
        resent: protocol.segments_resent,
        dropped: protocol.drops_total(),
        queue_drops: stats.shards.iter().map(|shard| shard.socket.receive_queue_drops).sum(),
    }
}

/// Context switches of all threads: of their own accord, and forced.
fn switches() -> [u64; 2] {
    let mut sums = [0; 2];
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        for (sum, key) in sums.iter_mut().zip(["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]) {
            let value = status.lines().find_map(|line| line.strip_prefix(key));
            *sum += value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0);
        }
    }
    sums
}

/// UDP datagrams that the kernel dropped on this machine for want of room in a socket, so far.
pub(crate) fn receive_buffer_errors() -> u64 {
    find_receive_buffer_errors(&fs::read_to_string("/proc/net/snmp").unwrap_or_default()).unwrap_or(0)
}

/// `text`: a line of names, then a line of values, each beginning with the protocol's name.
fn find_receive_buffer_errors(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let column = lines.next()?.split(' ').position(|name| name == "RcvbufErrors")?;
    lines.next()?.split(' ').nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "Tcp: A RcvbufErrors\nTcp: 1 2\nUdp: InDatagrams RcvbufErrors X\nUdp: 5 77 9\nUdpLite: RcvbufErrors\n";
        assert_eq!(find_receive_buffer_errors(text), Some(77));
        assert_eq!(find_receive_buffer_errors("Udp: InDatagrams\nUdp: 5\n"), None);
    }

    #[test]
    fn this_process_has_switched() {
        std::thread::sleep(Duration::from_millis(1));
        assert!(switches()[0] > 0);
    }
}
