//! A handler that runs on the core which owns the peer: no hop to another thread, no copy of the message.
//!
//! Holds: it must not block: the whole shard waits for it.

use dunlin_codec::ids::NodeId;

use crate::api::peer::{Channel, SendOptions};

/// What a handler did with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Done: its buffer is free again.
    Handled,
    /// Not for the handler: it goes to the application's `recv`.
    Pass,
}

/// Answers of a handler to the peer whose message it sees. Each is copied once into a pooled buffer.
pub struct Reply<'a> {
    pub(crate) peer: NodeId,
    pub(crate) send: &'a mut dyn FnMut(&[u8], SendOptions) -> bool,
}

impl Reply<'_> {
    /// Who sent the message.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// Sends an answer on the default channel; false when the shard has no memory for it.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        (self.send)(bytes, SendOptions::default())
    }

    /// The same with options.
    pub fn send_with(&mut self, bytes: &[u8], options: SendOptions) -> bool {
        (self.send)(bytes, options)
    }
}

/// Sees every message on the core that owns its sender; one instance per shard.
pub trait Handler: Send + 'static {
    /// A message arrived. `bytes` are borrowed from the shard's buffer; `reply` answers in place.
    fn on_message(&mut self, channel: Channel, bytes: &[u8], reply: &mut Reply<'_>) -> Verdict;
}

impl<F> Handler for F
where
    F: FnMut(Channel, &[u8], &mut Reply<'_>) -> Verdict + Send + 'static,
{
    fn on_message(&mut self, channel: Channel, bytes: &[u8], reply: &mut Reply<'_>) -> Verdict {
        self(channel, bytes, reply)
    }
}

/// Passes everything to `recv`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHandler;

impl Handler for NoHandler {
    fn on_message(&mut self, _channel: Channel, _bytes: &[u8], _reply: &mut Reply<'_>) -> Verdict {
        Verdict::Pass
    }
}
