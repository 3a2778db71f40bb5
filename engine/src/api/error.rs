//! What can go wrong, said for people: what, where, what to do.

use std::io;
use std::net::SocketAddr;

use dunlin_shards::event::CloseReason;

use crate::keyfile::KeyError;
use crate::store::OpenError;

/// Any of the engine's errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No session.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A message was not taken.
    #[error(transparent)]
    Send(#[from] SendError),
    /// No message will come.
    #[error(transparent)]
    Recv(#[from] RecvError),
}

/// Why an engine did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket group could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The drivers could not be started.
    #[error("cannot start the shards: {0}")]
    Runtime(String),
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// The node's key could not be read or made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a session did not open. The engine goes on.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The text is no URI.
    #[error("{0}")]
    Uri(String),
    /// The host's name has no address.
    #[error("cannot find the address of {host}: {source}; check the name and the resolver")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The host has no address that our socket can reach.
    #[error(
        "{host} has no address that a socket bound to {local} can reach; listen on [::] for both families"
    )]
    NoRoute {
        /// The host.
        host: String,
        /// Where we listen.
        local: SocketAddr,
    },
    /// The handshake failed.
    #[error("cannot connect to {remote}: {reason}")]
    Handshake {
        /// The address that was tried last.
        remote: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// The ID that was dialled is this node's own.
    #[error("this ID is the caller's own: call another node, or call with another key")]
    OwnId,
    /// This process was forked from the one that started the engine, and has none of its threads.
    #[error("the engine was started in another process: start one after the fork")]
    Forked,
    /// The engine is stopping, or its shard cannot keep up.
    #[error("the engine is stopping or overloaded")]
    Engine,
}

/// Why a message was not taken. It was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The peer's queue is full (`try_send` only).
    #[error("the peer's queue is full: it reads more slowly than you send")]
    WouldBlock,
    /// The message is longer than the configured largest.
    #[error("the message has {len} bytes, {max} is the largest (transport.message_max)")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// The largest.
        max: usize,
    },
    /// The session has ended.
    #[error("the session has ended: {0}")]
    Closed(CloseReason),
    /// This node is in a network, whose nodes talk on that channel.
    #[error("channel {0} is the network's own: use one from 16 on")]
    Channel(u32),
    /// This process was forked from the one that started the engine, and has none of its threads.
    #[error("the engine was started in another process: start one after the fork")]
    Forked,
}

/// Why no message will come.
#[derive(Debug, thiserror::Error)]
pub enum RecvError {
    /// The session has ended and everything that had arrived was read.
    #[error("the session has ended: {0}")]
    Closed(CloseReason),
    /// Nothing came in time (`recv_timeout` only).
    #[error("no message came in time")]
    Timeout,
    /// This process was forked from the one that started the engine, and has none of its threads.
    #[error("the engine was started in another process: start one after the fork")]
    Forked,
}
