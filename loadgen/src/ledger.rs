//! What a process used and counted so far, to be told to the other side and subtracted from later.

use std::time::Duration;

use dunlin::Engine;
use dunlin_shards::gossip::Refusal;
use serde::{Deserialize, Serialize};

use crate::host;
use crate::messages::Tally;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Numbers that only grow.
        #[derive(Clone, Debug, Default, Deserialize, Serialize)]
        #[serde(default)]
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
    /// CPU time of the shards' threads alone in nanoseconds.
    shards_cpu_ns,
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
    /// Bytes of UDP payload received.
    bytes_in,
    /// Bytes of UDP payload sent.
    bytes_out,
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
    /// Handshakes completed.
    handshakes,
    /// Callers that were asked for a cookie.
    cookies,
    /// io_uring: bursts that ate every provided buffer.
    buffers_exhausted,
    /// io_uring: receive requests armed anew.
    rearmed,
    /// io_uring: completions that found their queue full.
    completions_overflowed,
    /// Times that the kernel would take no more.
    send_blocked,
    /// Trains that went out datagram by datagram.
    unsegmented,
    /// Rumours that were verified and taken.
    rumours_taken,
    /// Copies of those that no link had room for.
    rumours_crowded_out,
    /// Rumours that were carried on before.
    rumours_duplicate,
    /// Rumours beyond what may be verified.
    rumours_over_budget,
    /// Rumours whose origin said too much.
    rumours_too_fast,
    /// Times that a core slept.
    sleeps,
    /// Sleeps that the doorbell ended or prevented.
    doorbells,
}

/// One side's numbers at a moment.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Ledger {
    pub(crate) counts: Counts,
    /// Load taken since `BEGIN`.
    pub(crate) tally: Tally,
    /// Nanoseconds since `BEGIN`.
    pub(crate) elapsed_ns: u64,
    /// Memory of the process in RAM, in bytes.
    pub(crate) resident_bytes: u64,
    /// Bytes of message blocks of all shards.
    pub(crate) allocated_bytes: u64,
    /// Sessions and half-open handshakes of each shard, one engine behind the other.
    pub(crate) shard_sessions: Vec<usize>,
}

impl Ledger {
    /// The process's numbers now.
    pub(crate) fn now(engines: &[Engine], tally: Tally, elapsed: Duration) -> Self {
        let shards: Vec<_> = engines.iter().flat_map(|engine| engine.stats().shards).collect();
        Self {
            counts: counts(engines),
            tally,
            elapsed_ns: elapsed.as_nanos() as u64,
            resident_bytes: host::resident_bytes(),
            allocated_bytes: shards.iter().map(|shard| shard.allocated_bytes as u64).sum(),
            shard_sessions: shards.iter().map(|shard| shard.sessions).collect(),
        }
    }
}

/// This process's numbers; the shards' are those of their last pause.
pub(crate) fn counts(engines: &[Engine]) -> Counts {
    let [switches_voluntary, switches_involuntary] = host::switches();
    let mut counts = Counts {
        cpu_ns: host::cpu_ns(),
        shards_cpu_ns: host::shards_cpu_ns(),
        switches_voluntary,
        switches_involuntary,
        ..Counts::default()
    };
    for engine in engines {
        add_engine(&mut counts, engine);
    }
    counts
}

fn add_engine(counts: &mut Counts, engine: &Engine) {
    let stats = engine.stats();
    let protocol = stats.protocol();
    counts.datagrams_in += protocol.datagrams_in;
    counts.trains_in += protocol.trains_in;
    counts.datagrams_out += protocol.datagrams_out;
    counts.trains_out += protocol.trains_out;
    counts.bytes_in += protocol.bytes_in;
    counts.bytes_out += protocol.bytes_out;
    counts.misrouted += protocol.misrouted;
    counts.lost += protocol.packets_lost;
    counts.resent += protocol.segments_resent;
    counts.dropped += protocol.drops_total();
    counts.handshakes += protocol.handshakes_completed;
    counts.cookies += protocol.cookies_sent;
    for shard in &stats.shards {
        let (socket, rumours) = (&shard.socket, &shard.rumours);
        counts.rumours_taken += rumours.taken;
        counts.rumours_crowded_out += rumours.crowded_out;
        counts.rumours_duplicate += rumours.refused(Refusal::Duplicate);
        counts.rumours_over_budget += rumours.refused(Refusal::OverBudget);
        counts.rumours_too_fast += rumours.refused(Refusal::TooFast);
        counts.queue_drops += socket.receive_queue_drops;
        counts.buffers_exhausted += socket.buffers_exhausted;
        counts.rearmed += socket.rearmed;
        counts.completions_overflowed += socket.completions_overflowed;
        counts.send_blocked += socket.send_blocked;
        counts.unsegmented += socket.sent_unsegmented;
        counts.sleeps += socket.sleeps;
        counts.doorbells += socket.doorbells;
    }
}

/// What both sides used and counted while measuring.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used {
    pub(crate) near: Counts,
    pub(crate) far: Counts,
    /// The machine's, by the kernel's names.
    pub(crate) udp_errors: Vec<(String, u64)>,
}

/// The machine's UDP errors since `before`.
pub(crate) fn udp_errors_since(before: &[(String, u64)]) -> Vec<(String, u64)> {
    let was = |name: &str| before.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count);
    let since = |(name, count): (String, u64)| (count.saturating_sub(was(&name)), name);
    host::udp_errors().into_iter().map(since).map(|(count, name)| (name, count)).collect()
}
