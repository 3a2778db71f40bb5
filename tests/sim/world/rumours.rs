//! Rumours of nodes that talk: what they say to everybody, what of it arrived, and how often.
//!
//! In:    words for everybody; messages that no honest node would carry.
//! Out:   who heard what; counts.
//! Holds: I10: no node hears a rumour twice, looked at whenever notices are read.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use dunlin_codec::bytes::Reader;
use dunlin_codec::ids::SessionId;
use dunlin_codec::label::Network;
use dunlin_codec::message::{Operation, Signed, SignedMessageId};
use dunlin_shards::event::Ticket;
use dunlin_shards::gossip::{Brought, Counts, Rumour};
use dunlin_shards::neighbours::{Neighbours, Notice};
use dunlin_shards::note::Note;
use dunlin_shards::session::crypto::Crypto;

use super::{NodeIndex, WorldOf};

/// A SHOUT that a node heard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heard {
    /// Its name.
    pub id: SignedMessageId,
    /// Links that it came over.
    pub hops: u8,
    /// Its value.
    pub value: Box<[u8]>,
}

impl<C: Crypto> WorldOf<C> {
    /// A node that talks says something to everybody.
    pub fn shout(&mut self, node: NodeIndex, ticket: u64, value: &[u8]) {
        let (ticket, operation) = (Ticket(ticket), Operation::Shout);
        self.tell(node, Note::Broadcast { ticket, operation, payload: value.into() });
    }

    /// What a node heard of SHOUTs since its notices were read last; its other notices are lost.
    pub fn heard_by(&mut self, node: NodeIndex) -> Vec<Heard> {
        let notices = self.notices(node).into_iter();
        let heard = notices.filter_map(|notice| match notice {
            Notice::Rumour { id, hops, value, .. } => Some(Heard { id, hops, value }),
            _ => None,
        });
        heard.collect()
    }

    /// What all shards of a node did with rumours.
    #[must_use]
    pub fn rumours(&self, node: NodeIndex) -> Counts {
        let cores = self.nodes[node.0].cores.iter();
        let counts = cores.filter_map(|core| core.neighbours.as_ref()).map(Neighbours::rumours);
        counts.fold(Counts::default(), |sum, counts| sum.with(&counts))
    }

    /// Copies of rumours that all nodes gave to their links.
    #[must_use]
    pub fn copies(&self) -> u64 {
        (0..self.nodes.len()).map(|node| self.rumours(NodeIndex(node)).carried).sum()
    }

    /// Ends of links between these nodes: each has two, whoever opened it; two that opened one to each other have one.
    #[must_use]
    pub fn link_ends(&self, nodes: &[NodeIndex]) -> usize {
        let opened = nodes.iter().flat_map(|node| {
            let own = self.id(*node);
            self.hub(*node).known().links().iter().map(move |peer| (own.min(*peer), own.max(*peer)))
        });
        2 * opened.collect::<BTreeSet<_>>().len()
    }

    /// Has a node give a message to its links as if it had verified it, whatever it is.
    ///
    /// # Panics
    /// When the bytes are no message at all.
    pub fn have_carry(&mut self, node: NodeIndex, message: &[u8]) {
        assert!(Signed::parse(&mut Reader::new(message)).is_ok(), "a message that can be read");
        let mut id = SignedMessageId([0; 16]);
        id.0[..8].copy_from_slice(&self.chance.next_u64().to_be_bytes());
        // As if it came on a session that the node does not have.
        let (session, peer) = (SessionId(u32::MAX), self.nodes[node.0].id);
        let brought = Brought { session, peer, hops: 0, id, message: message.into() };
        self.tell(node, Note::Rumour(Arc::new(Rumour::from(brought))));
    }

    /// A node's network, as messages are signed for it.
    #[must_use]
    pub fn network_of(&self, node: NodeIndex) -> Network {
        Network(self.nodes[node.0].settings.network)
    }

    /// Nobody hears a rumour twice.
    // spec: p2p/rumours
    pub(super) fn check_rumours(&mut self, node: NodeIndex, notices: &VecDeque<Notice>) {
        let start = self.nodes[node.0].start;
        for notice in notices {
            if let Notice::Rumour { id, .. } = notice {
                let is_new = self.rumours_heard.insert((node, start, *id));
                assert!(is_new, "I10: node {} heard a rumour twice: {id:?}", node.0);
            }
        }
    }
}
