//! What happens to peers, for an application that wants to know.

use std::net::SocketAddr;

use dunlin_codec::ids::NodeId;
use dunlin_shards::event::CloseReason;

use crate::api::peer::{Channel, Peer};

/// A fact about a peer. From `Engine::next_event`.
#[derive(Debug)]
pub enum Event {
    /// A peer opened a session with us.
    Accepted(Peer),
    /// A session ended.
    Closed {
        /// Whose.
        peer: Peer,
        /// Why.
        reason: CloseReason,
    },
    /// The peer restarted, or another device with its key took over; the handle goes on working.
    PeerRestarted {
        /// Who.
        peer: Peer,
        /// Reliable messages sent again, which may arrive twice.
        resent: usize,
    },
    /// The peer is reached at another address now.
    Roamed {
        /// Who.
        peer: Peer,
        /// Where.
        remote: SocketAddr,
    },
    /// A channel was given up by either side; its undelivered messages are lost.
    ChannelClosed {
        /// Whose.
        peer: Peer,
        /// Which.
        channel: Channel,
        /// The code that was given.
        code: u64,
    },
    /// A message marked `once` could not be delivered for certain, and was not sent again.
    Undelivered {
        /// For whom it was.
        peer: NodeId,
        /// The ticket that `send_with` gave.
        ticket: u64,
    },
    /// The engine has stopped: nothing else will happen. Whoever asks again is told so again.
    Stopped,
}
