//! One cell of the tables: which work, by whom, in which way.

use serde::{Deserialize, Serialize};

use crate::works::Work;

/// Who does the work.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Bare sockets with GSO and GRO.
    Raw,
    /// This project.
    Dunlin,
    /// quinn.
    Quinn,
    /// s2n-quic.
    S2nQuic,
    /// rust-libp2p over its QUIC transport.
    Libp2p,
    /// tokio_kcp.
    TokioKcp,
    /// rusty_enet.
    RustyEnet,
}

/// In which way, where there are several.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Way {
    /// The only one, or the one that the others are held against.
    Plain,
    /// Raw: every datagram sealed and opened.
    Sealed,
    /// Raw: neither side ever sleeps.
    Spinning,
    /// Dunlin: application threads instead of handlers on the core.
    Threads,
    /// Dunlin: `io.spin = off`.
    SpinOff,
    /// Dunlin: `io.spin = busy`.
    Busy,
    /// A stream per message.
    StreamEach,
    /// Length-prefixed messages on one stream, one call per message.
    OneStream,
    /// The same, the application gathering 64 KiB of messages before each call.
    Gathered,
}

/// What a child process is told.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    pub(crate) peer: Peer,
    pub(crate) way: Way,
    pub(crate) work: Work,
    /// What the server said about itself; empty for the server.
    pub(crate) address: String,
}

impl Job {
    /// Bytes of UDP payload of the longest datagram.
    pub(crate) fn datagram_len(&self) -> u16 {
        match self.work {
            Work::Bulk { datagram_len } => datagram_len,
            _ => DATAGRAM_LEN,
        }
    }
}

/// The longest datagram of works that do not say.
const DATAGRAM_LEN: u16 = 1_200;
