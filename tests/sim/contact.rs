//! Whom an application talks to, and what waits for them.
//!
//! In:    messages, in whatever order they come back.
//! Out:   the same, by priority and channel, each in its place.
//! Holds: while sessions settle, nothing is sent.

use core::net::SocketAddr;
use std::collections::{BTreeMap, VecDeque};

use dunlin_codec::ids::{ChannelId, InstanceId, SessionId};
use dunlin_shards::event::Ticket;

use crate::application::Waiting;

/// Somebody to talk to.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    pub(crate) address: Option<SocketAddr>,
    /// Messages by priority and channel.
    pub(crate) outbox: BTreeMap<(u8, ChannelId), VecDeque<Waiting>>,
    pub(crate) session: Option<SessionId>,
    pub(crate) connecting: Option<Ticket>,
    pub(crate) retry_at: u64,
    pub(crate) instance: InstanceId,
    /// Sessions that moved, and what was written to them may still be on its way to where they went.
    pub(crate) settling: usize,
}

impl Contact {
    /// A message that came back takes its old place among those of its channel.
    pub(crate) fn put(&mut self, waiting: Waiting) {
        let key = (waiting.manner.priority, waiting.manner.channel);
        let line = self.outbox.entry(key).or_default();
        let place = line.partition_point(|other| other.entry < waiting.entry);
        line.insert(place, waiting);
    }
}
