//! A received message: borrowed bytes that go home to their shard when dropped.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use dunlin_codec::ids::{ChannelId, NodeId, SessionId};
use dunlin_shards::blocks::Block;

use crate::api::peer::{Channel, Peer};
use crate::api::shared::PeerShared;

/// A message as it arrived. Derefs to its bytes; dropping it returns their buffer and lets the peer send more.
pub struct Message {
    peer: Arc<PeerShared>,
    session: SessionId,
    channel: ChannelId,
    charge: u32,
    block: Option<Block>,
}

impl Message {
    pub(crate) fn new(
        peer: Arc<PeerShared>,
        session: SessionId,
        (channel, charge): (ChannelId, u32),
        block: Block,
    ) -> Self {
        Self { peer, session, channel, charge, block: Some(block) }
    }

    pub(crate) fn is_from(&self, peer: &Arc<PeerShared>) -> bool {
        Arc::ptr_eq(&self.peer, peer)
    }

    /// Waits in its sender's inbox for whoever asks for it.
    pub(crate) fn into_inbox(self) {
        let peer = self.peer.clone();
        peer.put(self);
    }

    /// Who sent it.
    #[must_use]
    pub fn from(&self) -> NodeId {
        self.peer.id
    }

    /// A handle to its sender.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer::new(self.peer.clone())
    }

    /// The channel it came on.
    #[must_use]
    pub fn channel(&self) -> Channel {
        Channel(self.channel.0)
    }
}

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.block.as_deref().unwrap_or_default()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            let from = (self.session, self.channel, self.charge);
            self.peer.port(self.session).give_back(from, block);
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("from", &self.peer.id)
            .field("channel", &self.channel.0)
            .field("len", &self.len())
            .finish()
    }
}
