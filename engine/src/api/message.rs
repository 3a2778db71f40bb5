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
    block: Option<Block>,
}

impl Message {
    pub(crate) fn new(peer: Arc<PeerShared>, session: SessionId, channel: ChannelId, block: Block) -> Self {
        Self { peer, session, channel, block: Some(block) }
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
            self.peer.port(self.session).give_back(self.session, self.channel, block);
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
