//! A handle to a remote node: send, receive, measure, close.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dunlin_codec::ids::{ChannelId, NodeId};
use dunlin_codec::message::{DIRECT_CHANNEL, SIGNED_CHANNEL};
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::blocks::Block;
use dunlin_shards::event::CloseReason;
use dunlin_shards::mail::Mail;

use crate::api::error::{RecvError, SendError};
use crate::api::message::Message;
use crate::api::shared::{Answer, PeerShared, Request, room_of};
use crate::clock::Clock;
use crate::mailbox::lock;

/// A channel of a session. The application's are 16 and up; lower ones are the engine's own.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Channel(pub u32);

impl Channel {
    /// What arrives on it is thrown away by the engine, and nobody is told: for probes.
    pub const DISCARD: Self = Self(15);

    /// Nodes of a network talk there.
    const fn is_of_network(self) -> bool {
        self.0 == DIRECT_CHANNEL.0 || self.0 == SIGNED_CHANNEL.0
    }
}

impl Default for Channel {
    fn default() -> Self {
        Self(ChannelId::APPLICATION.0)
    }
}

/// How a message travels.
#[derive(Clone, Copy, Debug)]
pub struct SendOptions {
    /// On which channel; messages of different channels never wait for each other.
    pub channel: Channel,
    /// Messages of the channel arrive in the order they were sent. One choice per channel.
    pub ordered: bool,
    /// Sent again until it arrives.
    pub reliable: bool,
    /// Lower goes first; 128 by default.
    pub priority: u8,
    /// May not be sent again on another session when the peer restarts: then it comes back as `Event::Undelivered`.
    pub once: bool,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self { channel: Channel::default(), ordered: true, reliable: true, priority: 128, once: false }
    }
}

/// Names a message that was taken, for `cancel`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SendTicket {
    pub(crate) channel: Channel,
    pub(crate) ticket: u64,
}

/// A remote node with a session. Clones share it; dropping them does not close it.
#[derive(Clone)]
pub struct Peer {
    pub(crate) shared: Arc<PeerShared>,
}

impl Peer {
    pub(crate) fn new(shared: Arc<PeerShared>) -> Self {
        Self { shared }
    }

    /// Its identity, which is its address.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.id
    }

    /// Where it is reached now.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        *lock(&self.shared.remote)
    }

    /// Bytes of messages that it has not acknowledged yet.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.queued()
    }

    /// The session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.close_reason().is_some()
    }

    /// Why the session has ended, if it has.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.close_reason().cloned()
    }

    /// Takes a message, reliable and in order, on the default channel; waits while the peer's queue is full.
    ///
    /// # Errors
    /// `Closed`, `TooLong`. The message was not sent.
    pub fn send(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.send_with(bytes, SendOptions::default()).map(drop)
    }

    /// The same with options.
    ///
    /// # Errors
    /// `Closed`, `TooLong`. The message was not sent.
    pub fn send_with(&self, bytes: &[u8], options: SendOptions) -> Result<SendTicket, SendError> {
        loop {
            match self.try_send_with(bytes, options) {
                Err(SendError::WouldBlock) => {}
                result => return result,
            }
            if self.shared.engine.is_forked() {
                return Err(SendError::Forked);
            }
            let listener = self.shared.room.listen();
            match self.try_send_with(bytes, options) {
                Err(SendError::WouldBlock) => {
                    // The ring being full is not announced: look again soon.
                    listener.wait_timeout(Duration::from_millis(1));
                }
                result => return result,
            }
        }
    }

    /// Takes a message unless the peer's queue is full.
    ///
    /// # Errors
    /// `WouldBlock`, `Closed`, `TooLong`. The message was not sent.
    pub fn try_send(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.try_send_with(bytes, SendOptions::default()).map(drop)
    }

    /// The same with options.
    ///
    /// # Errors
    /// `WouldBlock`, `Closed`, `TooLong`. The message was not sent.
    pub fn try_send_with(&self, bytes: &[u8], options: SendOptions) -> Result<SendTicket, SendError> {
        let shared = &self.shared;
        if let Some(reason) = shared.close_reason() {
            return Err(SendError::Closed(reason.clone()));
        }
        let max = shared.engine.message_len_max;
        if bytes.len() > max {
            return Err(SendError::TooLong { len: bytes.len(), max });
        }
        if !shared.take_room(room_of(bytes.len())) {
            return Err(SendError::WouldBlock);
        }
        let ticket = if options.once { shared.engine.next_ticket().0 } else { 0 };
        self.hand_over(bytes, options, ticket)
    }

    /// As `send_with`, and the message can be cancelled while it is queued.
    ///
    /// # Errors
    /// `WouldBlock`, `Closed`, `TooLong`. The message was not sent.
    pub fn try_send_cancellable(&self, bytes: &[u8], options: SendOptions) -> Result<SendTicket, SendError> {
        let shared = &self.shared;
        let max = shared.engine.message_len_max;
        if bytes.len() > max {
            return Err(SendError::TooLong { len: bytes.len(), max });
        }
        if let Some(reason) = shared.close_reason() {
            return Err(SendError::Closed(reason.clone()));
        }
        if !shared.take_room(room_of(bytes.len())) {
            return Err(SendError::WouldBlock);
        }
        self.hand_over(bytes, options, shared.engine.next_ticket().0)
    }

    fn hand_over(&self, bytes: &[u8], options: SendOptions, ticket: u64) -> Result<SendTicket, SendError> {
        let shared = &self.shared;
        if shared.engine.has_network && options.channel.is_of_network() {
            let _ = shared.give_room(room_of(bytes.len()));
            return Err(SendError::Channel(options.channel.0));
        }
        let mut session = shared.session();
        loop {
            let is_current = || shared.may_write(session);
            let describe = |block| outgoing(block, options, ticket);
            if shared.port(session).send((session, is_current), bytes, describe).is_ok() {
                break;
            }
            let other = shared.session();
            if other == session || !shared.may_write(other) {
                let _ = shared.give_room(room_of(bytes.len()));
                return Err(SendError::WouldBlock);
            }
            // Another session took over while we were about to write to this one: nobody will ring for that.
            session = other;
        }
        Ok(SendTicket { channel: options.channel, ticket })
    }

    /// Takes a message; the future resolves when the peer's queue had room for it.
    ///
    /// # Errors
    /// `Closed`, `TooLong`. The message was not sent.
    pub async fn send_async(&self, bytes: &[u8], options: SendOptions) -> Result<SendTicket, SendError> {
        loop {
            let listener = self.shared.room.listen();
            match self.try_send_with(bytes, options) {
                Err(SendError::WouldBlock) if self.shared.engine.is_forked() => {
                    return Err(SendError::Forked);
                }
                Err(SendError::WouldBlock) => listener.await,
                result => return result,
            }
        }
    }

    /// Gives up a message that is still queued; one that was delivered already stays delivered.
    pub fn cancel(&self, ticket: SendTicket) {
        let session = self.shared.session();
        let channel = ChannelId(ticket.channel.0);
        let ticket = dunlin_shards::event::Ticket(ticket.ticket);
        let _ = self.shared.port(session).post(Mail::Cancel { session, channel, ticket });
    }

    /// The next message from this peer; waits for it.
    ///
    /// # Errors
    /// `Closed`: the session has ended and everything that had arrived was read.
    pub fn recv(&self) -> Result<Message, RecvError> {
        loop {
            if let Some(message) = self.try_recv()? {
                return Ok(message);
            }
            let listener = self.shared.arrived.listen();
            if let Some(message) = self.try_recv()? {
                return Ok(message);
            }
            self.check_process()?;
            listener.wait();
        }
    }

    /// The next message from this peer; waits for it at most so long.
    ///
    /// # Errors
    /// `Timeout`, `Closed`.
    pub fn recv_timeout(&self, wait: Duration) -> Result<Message, RecvError> {
        if let Some(message) = self.try_recv()? {
            return Ok(message);
        }
        let clock = Clock::start();
        loop {
            let listener = self.shared.arrived.listen();
            if let Some(message) = self.try_recv()? {
                return Ok(message);
            }
            self.check_process()?;
            let left = wait.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return Err(RecvError::Timeout);
            }
            // Being woken is a hint: another thread may have taken what came.
            listener.wait_timeout(left);
        }
    }

    /// The next message if one has arrived.
    ///
    /// # Errors
    /// `Closed`: the session has ended and everything that had arrived was read.
    pub fn try_recv(&self) -> Result<Option<Message>, RecvError> {
        if let Some(message) = self.shared.poll_message() {
            return Ok(Some(message));
        }
        match self.shared.close_reason() {
            // What arrived before the end is in the ring by now: look once more.
            Some(reason) => match self.shared.poll_message() {
                Some(message) => Ok(Some(message)),
                None => Err(RecvError::Closed(reason.clone())),
            },
            None => Ok(None),
        }
    }

    /// The next message from this peer, for any async runtime.
    ///
    /// # Errors
    /// `Closed`: the session has ended and everything that had arrived was read.
    pub async fn recv_async(&self) -> Result<Message, RecvError> {
        loop {
            if let Some(message) = self.try_recv()? {
                return Ok(message);
            }
            let listener = self.shared.arrived.listen();
            if let Some(message) = self.try_recv()? {
                return Ok(message);
            }
            self.check_process()?;
            listener.await;
        }
    }

    /// Asked before a thread sleeps: in a forked child nobody would wake it.
    fn check_process(&self) -> Result<(), RecvError> {
        if self.shared.engine.is_forked() { Err(RecvError::Forked) } else { Ok(()) }
    }

    /// Measures a round trip with a PING, shard to shard; None when nothing came back in time.
    #[must_use]
    pub fn ping(&self, wait: Duration) -> Option<Duration> {
        let engine = &self.shared.engine;
        if engine.is_forked() {
            return None;
        }
        let ticket = engine.next_ticket();
        let request = Arc::new(Request::default());
        lock(&engine.requests).insert(ticket, request.clone());
        let session = self.shared.session();
        if self.shared.port(session).post(Mail::Ping { session, ticket }).is_err() {
            lock(&engine.requests).remove(&ticket);
            return None;
        }
        let answer = request.wait_timeout(wait);
        lock(&engine.requests).remove(&ticket);
        match answer {
            Some(Answer::Pong(round_trip)) => Some(round_trip),
            _ => None,
        }
    }

    /// Closes the session at once; queued messages may be lost. The code is told to the peer.
    pub fn close(&self, code: u64) {
        let session = self.shared.session();
        let _ = self.shared.port(session).post(Mail::Close { session, code });
    }

    /// Waits until everything sent was acknowledged; false when that did not happen in time.
    #[must_use]
    pub fn flush(&self, wait: Duration) -> bool {
        // Room is announced while there is a queue, not when it is empty: look often.
        let step = Duration::from_millis(1);
        let clock = Clock::start();
        while self.queued() > 0 && self.shared.close_reason().is_none() {
            let left = wait.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return false;
            }
            let listener = self.shared.room.listen();
            if self.queued() > 0 {
                listener.wait_timeout(step.min(left));
            }
        }
        self.queued() == 0
    }
}

/// A block with everything that says how it travels.
pub(crate) fn outgoing(block: Block, options: SendOptions, ticket: u64) -> Outgoing {
    Outgoing {
        ticket,
        block,
        channel: ChannelId(options.channel.0),
        ordered: options.ordered,
        reliable: options.reliable,
        priority: options.priority,
        once: options.once,
        idempotent: false,
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.shared.id).field("remote", &self.remote()).finish()
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}
