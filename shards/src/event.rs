//! What a shard tells the application.

use core::net::SocketAddr;
use core::time::Duration;

use dunlin_codec::ids::{ChannelId, InstanceId, NodeId, SessionId};

use crate::arq::sender::Released;
use crate::blocks::Block;

/// A name that the application gave to a request; it comes back with the answer.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// What became of early data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EarlyData {
    /// None was sent.
    None,
    /// Delivered with the first datagram.
    Accepted,
    /// Refused; it travelled again after the handshake.
    Refused,
}

/// Why a session ended or never began.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CloseReason {
    /// We closed it.
    #[error("closed by this side")]
    Local,
    /// The peer closed it.
    // spec: atp/logs
    #[error("closed by the peer (code {code}){}", words(reason))]
    Peer {
        /// The code that the peer gave.
        code: u64,
        /// The peer's words, at most 128 bytes.
        reason: Box<str>,
    },
    /// Nothing was heard for the idle timeout.
    #[error("nothing was heard from the peer for the idle timeout")]
    Idle,
    /// The peer stopped answering.
    #[error("the peer stopped answering")]
    Unresponsive,
    /// No answer to the handshake: nobody there, UDP blocked, or another ID or network.
    #[error("no answer: nobody is there, UDP is blocked on the way, or the ID or network is another")]
    HandshakeTimeout,
    /// Whoever answered is not who was dialled.
    #[error("the peer that answered has another identity")]
    WrongIdentity,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(&'static str),
    /// The peer restarted and no longer knows the session.
    #[error("the peer restarted")]
    PeerRestarted,
    /// The keys' life ended without the peer agreeing to new ones.
    #[error("the keys' life ended")]
    KeysExpired,
    /// The shard had no place or memory for it.
    #[error("this node is at its limit of sessions or memory")]
    Overloaded,
}

/// What the peer said, so that it can do nothing to a terminal or a log; nothing when it said nothing.
fn words(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {}", reason.escape_debug()) }
}

/// A fact for the application.
#[derive(Debug)]
pub enum Event {
    /// A session that we asked for is open.
    Connected {
        /// The request.
        ticket: Ticket,
        /// The session.
        session: SessionId,
        /// Who answered.
        peer: NodeId,
        /// The start that answered, to be remembered for early data.
        instance: InstanceId,
        /// From where.
        remote: SocketAddr,
        /// What became of the early data.
        early: EarlyData,
    },
    /// A session that we asked for will not open.
    ConnectFailed {
        /// The request.
        ticket: Ticket,
        /// Its session id until now.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// A peer opened a session with us.
    Accepted {
        /// The session.
        session: SessionId,
        /// Who.
        peer: NodeId,
        /// From where.
        remote: SocketAddr,
    },
    /// A session that the application knows goes on as this one, which another shard owns; `PeerRestarted` of the old one follows.
    Adopted {
        /// The session.
        session: SessionId,
        /// Who.
        peer: NodeId,
        /// From where.
        remote: SocketAddr,
    },
    /// A message arrived. Its block goes home by `Mail::Consumed`, which lets the peer send more.
    Message {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: ChannelId,
        /// Its bytes.
        block: Block,
        /// To be given back with its block: what it costs of the peer's credit, in bytes.
        charge: u32,
    },
    /// A message that the application sent is done with; its block is free.
    Released {
        /// The session.
        session: SessionId,
        /// The message and what became of it.
        released: Released,
    },
    /// How much the application may have queued on the session, in bytes of `charge`.
    QueueLimit {
        /// The session.
        session: SessionId,
        /// Bytes.
        bytes: usize,
    },
    /// A channel was given up by either side.
    ChannelClosed {
        /// The session.
        session: SessionId,
        /// The channel.
        channel: ChannelId,
        /// The code.
        code: u64,
    },
    /// The answer to `Mail::Ping`.
    Pong {
        /// The request.
        ticket: Ticket,
        /// The session.
        session: SessionId,
        /// The round trip.
        round_trip: Duration,
    },
    /// The peer is reached at another address now.
    Roamed {
        /// The session.
        session: SessionId,
        /// The new address.
        remote: SocketAddr,
    },
    /// The peer restarted or came as another instance: `to` carries on for `from`.
    PeerRestarted {
        /// The session that ended.
        from: SessionId,
        /// The session that carries on.
        to: SessionId,
        /// Reliable messages sent again, which may arrive twice.
        resent: usize,
    },
    /// Two sessions with the same peer became one: `to` carries on for `from`, where messages of the peer may come until `Ceased`.
    Moved {
        /// The session that is written to no more.
        from: SessionId,
        /// The session that carries on.
        to: SessionId,
    },
    /// A session for which another carries on is gone as well: until now the peer's messages could still come there.
    Ceased {
        /// The session that had moved.
        from: SessionId,
    },
    /// The answer to `Mail::Fence`: everything that was written to `from` has reached the session that carries on.
    Settled {
        /// The session that ended.
        from: SessionId,
    },
    /// The session ended; messages not released by now were not delivered for certain.
    Closed {
        /// The session.
        session: SessionId,
        /// Who it was with.
        peer: NodeId,
        /// Why.
        reason: CloseReason,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: atp/logs
    #[test]
    fn a_peers_words_are_escaped() {
        let said = |reason: &str| CloseReason::Peer { code: 7, reason: reason.into() }.to_string();
        assert_eq!(said(""), "closed by the peer (code 7)");
        assert_eq!(said("bye"), "closed by the peer (code 7): bye");
        let rude = said("\x1b[2J\r\nINFO all is well\u{202e}");
        assert_eq!(rude, "closed by the peer (code 7): \\u{1b}[2J\\r\\nINFO all is well\\u{202e}");
    }
}
