//! The works: who does each and in which ways, and what is figured from what both sides counted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gauge::Mark;
use crate::job::{Peer, Way};
use crate::pair::Outcome;

/// A work with its numbers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Work {
    /// One session, one ordered stream, as fast as it goes.
    Bulk {
        /// Bytes of UDP payload of the longest datagram.
        datagram_len: u16,
    },
    /// 64 bytes there and back, one at a time.
    Latency,
    /// Reliable messages of one session.
    Messages {
        /// Bytes of each.
        len: usize,
    },
    /// Sessions opened and closed at once.
    Handshakes {
        /// How many are under way at a time.
        parallel: usize,
    },
    /// Sessions that stay and do nothing.
    Memory {
        /// How many.
        connections: usize,
    },
}

/// The works by name, as the command line has them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Kind {
    Bulk,
    Latency,
    Messages,
    Handshakes,
    Memory,
}

impl Kind {
    /// Its works; `connections` are those of the memory work.
    pub(crate) fn works(self, connections: usize) -> Vec<Work> {
        match self {
            Self::Bulk => [1_200, 1_452, JUMBO_LEN].map(|datagram_len| Work::Bulk { datagram_len }).to_vec(),
            Self::Latency => vec![Work::Latency],
            Self::Messages => [64, 1_024].map(|len| Work::Messages { len }).to_vec(),
            Self::Handshakes => [1, 32].map(|parallel| Work::Handshakes { parallel }).to_vec(),
            Self::Memory => vec![Work::Memory { connections }],
        }
    }
}

/// Datagrams on paths that carry long frames, as clouds and data centres have them.
const JUMBO_LEN: u16 = 8_900;
/// A peer that counts fewer bytes a datagram than this part of what was asked does other work.
const DATAGRAM_PART_MIN: f64 = 0.8;

/// A line of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Line {
    pub(crate) peer: Peer,
    pub(crate) way: Way,
    pub(crate) name: &'static str,
}

const fn line(peer: Peer, way: Way, name: &'static str) -> Line {
    Line { peer, way, name }
}

/// A column of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Column {
    /// With its unit, as the table has it.
    pub(crate) title: &'static str,
    /// As the JSON has it.
    pub(crate) key: &'static str,
    pub(crate) is_more_better: bool,
    pub(crate) digits: usize,
    /// Zero where the peer does not tell.
    pub(crate) is_optional: bool,
}

const fn column(title: &'static str, key: &'static str, is_more_better: bool, digits: usize) -> Column {
    Column { title, key, is_more_better, digits, is_optional: false }
}

const RAW: Line = line(Peer::Raw, Way::Plain, "raw sockets, GSO and GRO");
const RAW_SEALED: Line = line(Peer::Raw, Way::Sealed, "raw + AES-256-GCM (the limit)");
const DUNLIN: Line = line(Peer::Dunlin, Way::Plain, "Dunlin");
const DUNLIN_THREADS: Line = line(Peer::Dunlin, Way::Threads, "Dunlin, application threads");
const QUINN: Line = line(Peer::Quinn, Way::Plain, "quinn");
const S2N_QUIC: Line = line(Peer::S2nQuic, Way::Plain, "s2n-quic");
const LIBP2P: Line = line(Peer::Libp2p, Way::Plain, "libp2p (QUIC)");
const TOKIO_KCP: Line = line(Peer::TokioKcp, Way::Plain, "tokio_kcp, not encrypted");
const RUSTY_ENET: Line = line(Peer::RustyEnet, Way::Plain, "rusty_enet, not encrypted");

const BULK: [Line; 9] =
    [RAW, RAW_SEALED, DUNLIN, DUNLIN_THREADS, QUINN, S2N_QUIC, LIBP2P, TOKIO_KCP, RUSTY_ENET];

/// Those whose datagrams can be that long: KCP and ENet have bounds of their own, and libp2p's search ends at Ethernet's.
const BULK_JUMBO: [Line; 6] = [RAW, RAW_SEALED, DUNLIN, DUNLIN_THREADS, QUINN, S2N_QUIC];

const LATENCY: [Line; 11] = [
    line(Peer::Raw, Way::Plain, "raw sockets, asleep"),
    line(Peer::Raw, Way::Spinning, "raw sockets, spinning"),
    line(Peer::Dunlin, Way::Plain, "Dunlin, handlers on the core"),
    line(Peer::Dunlin, Way::SpinOff, "Dunlin, handlers, spin off"),
    line(Peer::Dunlin, Way::Busy, "Dunlin, handlers, spin busy"),
    DUNLIN_THREADS,
    QUINN,
    S2N_QUIC,
    LIBP2P,
    TOKIO_KCP,
    RUSTY_ENET,
];

const MESSAGES: [Line; 13] = [
    DUNLIN,
    DUNLIN_THREADS,
    line(Peer::Quinn, Way::StreamEach, "quinn, a stream per message"),
    line(Peer::Quinn, Way::OneStream, "quinn, length-prefixed on one stream"),
    line(Peer::Quinn, Way::Gathered, "quinn, the same, gathered by the application"),
    line(Peer::S2nQuic, Way::StreamEach, "s2n-quic, a stream per message"),
    line(Peer::S2nQuic, Way::OneStream, "s2n-quic, length-prefixed on one stream"),
    line(Peer::S2nQuic, Way::Gathered, "s2n-quic, the same, gathered by the application"),
    line(Peer::Libp2p, Way::StreamEach, "libp2p (QUIC), a substream per message"),
    line(Peer::Libp2p, Way::OneStream, "libp2p (QUIC), length-prefixed on one substream"),
    line(Peer::TokioKcp, Way::OneStream, "tokio_kcp, length-prefixed, not encrypted"),
    line(Peer::TokioKcp, Way::Gathered, "tokio_kcp, the same, gathered by the application"),
    line(Peer::RustyEnet, Way::Plain, "rusty_enet, reliable packets, not encrypted"),
];

const SESSIONS: [Line; 5] = [DUNLIN, QUINN, S2N_QUIC, LIBP2P, RUSTY_ENET];
const MEMORY: [Line; 6] = [DUNLIN, QUINN, S2N_QUIC, LIBP2P, TOKIO_KCP, RUSTY_ENET];

const SIDES_CPU: [Column; 3] = [
    column("CPU s/GiB, both", "cpu_s_per_gib", false, 3),
    column("sender", "cpu_s_per_gib_sender", false, 3),
    column("receiver", "cpu_s_per_gib_receiver", false, 3),
];
const BULK_COLUMNS: [Column; 6] = [
    column("goodput, Gbit/s", "goodput_gbit_s", true, 2),
    column("Gbit per CPU second of the busier side", "goodput_gbit_per_cpu_s", true, 2),
    SIDES_CPU[0],
    SIDES_CPU[1],
    SIDES_CPU[2],
    Column { is_optional: true, ..column("bytes a datagram", "bytes_per_datagram", true, 0) },
];
const LATENCY_COLUMNS: [Column; 3] = [
    column("p50, us", "p50_us", false, 1),
    column("p99, us", "p99_us", false, 1),
    column("p99.9, us", "p999_us", false, 1),
];
const MESSAGE_COLUMNS: [Column; 2] = [
    column("messages, M/s", "messages_m_s", true, 3),
    column("CPU ns per message, both", "cpu_ns_per_message", false, 0),
];
const HANDSHAKE_COLUMNS: [Column; 2] = [
    column("handshakes a second", "handshakes_s", true, 0),
    column("CPU us per handshake, both", "cpu_us_per_handshake", false, 0),
];
const MEMORY_COLUMNS: [Column; 2] = [
    column("KiB per idle connection, server", "kib_per_connection", false, 1),
    column("the whole server, MiB", "server_mib", false, 0),
];

impl Work {
    /// What the table is called.
    pub(crate) fn title(self) -> String {
        match self {
            Self::Bulk { datagram_len } => format!("Bulk, one session, {datagram_len}-byte datagrams"),
            Self::Latency => "64-byte request and response, one at a time".to_owned(),
            Self::Messages { len } => format!("Reliable {len}-byte messages, one session"),
            Self::Handshakes { parallel: 1 } => "Handshakes, one after the other".to_owned(),
            Self::Handshakes { parallel } => format!("Handshakes, {parallel} at a time"),
            Self::Memory { connections } => format!("Memory of {connections} idle connections"),
        }
    }

    /// As the JSON has it.
    pub(crate) fn key(self) -> String {
        match self {
            Self::Bulk { datagram_len } => format!("bulk_{datagram_len}"),
            Self::Latency => "latency_64".to_owned(),
            Self::Messages { len } => format!("messages_{len}"),
            Self::Handshakes { parallel } => format!("handshakes_{parallel}"),
            Self::Memory { connections } => format!("memory_{connections}"),
        }
    }

    /// Who does it. The first line of Dunlin's is the one that the others are held against.
    pub(crate) fn lines(self) -> &'static [Line] {
        match self {
            Self::Bulk { datagram_len: JUMBO_LEN } => &BULK_JUMBO,
            Self::Bulk { .. } => &BULK,
            Self::Latency => &LATENCY,
            Self::Messages { .. } => &MESSAGES,
            Self::Handshakes { .. } => &SESSIONS,
            Self::Memory { .. } => &MEMORY,
        }
    }

    /// What is figured; the first column is the one that ratios are of.
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Self::Bulk { .. } => &BULK_COLUMNS,
            Self::Latency => &LATENCY_COLUMNS,
            Self::Messages { .. } => &MESSAGE_COLUMNS,
            Self::Handshakes { .. } => &HANDSHAKE_COLUMNS,
            Self::Memory { .. } => &MEMORY_COLUMNS,
        }
    }

    /// One number per column; why not, when nothing was done or something was wrong.
    pub(crate) fn figures(self, outcome: &Outcome) -> Result<Vec<f64>, String> {
        let (server, client) = (Span::of(&outcome.server), Span::of(&outcome.client));
        let faults = outcome.server.1.faults + outcome.client.1.faults;
        if faults > 0 {
            return Err(format!("{faults} times what arrived was not what was sent"));
        }
        let cpu = server.cpu_s + client.cpu_s;
        let figures = match self {
            Self::Bulk { datagram_len } => {
                let datagram = if client.datagram > 0.0 { client.datagram } else { server.datagram };
                if datagram > 0.0 && datagram < f64::from(datagram_len) * DATAGRAM_PART_MIN {
                    return Err(format!("datagrams had {datagram:.0} bytes, not {datagram_len}"));
                }
                let gib = server.bytes / f64::from(1 << 30);
                let gbit = server.bytes * 8e-9;
                let busier = client.cpu_s.max(server.cpu_s);
                vec![
                    gbit / server.seconds,
                    // What a quiet machine would show: others on its cores take time, but hardly change this.
                    gbit / busier,
                    cpu / gib,
                    client.cpu_s / gib,
                    server.cpu_s / gib,
                    datagram,
                ]
            }
            Self::Latency => {
                let times = &outcome.client.1.times;
                [times.p50_ns, times.p99_ns, times.p999_ns].map(|ns| ns as f64 * 1e-3).to_vec()
            }
            Self::Messages { .. } => {
                vec![server.messages * 1e-6 / server.seconds, cpu * 1e9 / server.messages]
            }
            Self::Handshakes { .. } => {
                vec![client.connections / client.seconds, cpu * 1e6 / client.connections]
            }
            Self::Memory { .. } => {
                let held = outcome.server.1.resident as f64;
                let grown = held - outcome.server.1.empty as f64;
                vec![grown / 1_024.0 / server.connections, held / f64::from(1 << 20)]
            }
        };
        let is_right =
            |(figure, column): (&f64, &Column)| figure.is_finite() && (*figure > 0.0 || column.is_optional);
        match figures.iter().zip(self.columns()).all(is_right) {
            true => Ok(figures),
            false => Err("nothing arrived in the time measured".to_owned()),
        }
    }

    /// What is not measured at the start: windows grow, caches settle.
    pub(crate) fn warm_up(self) -> Duration {
        match self {
            Self::Bulk { .. } | Self::Messages { .. } => Duration::from_millis(700),
            Self::Latency | Self::Handshakes { .. } => Duration::from_millis(300),
            Self::Memory { .. } => Duration::from_secs(2),
        }
    }
}

/// What one side counted from one mark to the next.
struct Span {
    seconds: f64,
    cpu_s: f64,
    bytes: f64,
    messages: f64,
    connections: f64,
    /// Bytes a datagram; 0 where nobody counted.
    datagram: f64,
}

impl Span {
    fn of((before, after): &(Mark, Mark)) -> Self {
        Self {
            seconds: (after.at_ns - before.at_ns) as f64 * 1e-9,
            cpu_s: (after.cpu_ns - before.cpu_ns) as f64 * 1e-9,
            bytes: (after.bytes - before.bytes) as f64,
            messages: (after.messages - before.messages) as f64,
            connections: (after.connections - before.connections) as f64,
            datagram: (after.wire.bytes - before.wire.bytes) as f64
                / (after.wire.datagrams - before.wire.datagrams).max(1) as f64,
        }
    }
}
