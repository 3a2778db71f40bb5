//! Nodes whose keys change, before a start or while they run.
//!
//! In:    which node, and how long ago its change was made.
//! Out:   a node under its next key, told to each of its shards as the engine does; callers of the old one.

use core::time::Duration;

use dunlin_codec::ids::NodeId;
use dunlin_shards::event::Ticket;
use dunlin_shards::identity::change::NewKey;
use dunlin_shards::mail::{self, Mail};
use dunlin_shards::note::Note;
use dunlin_shards::session::crypto::Crypto;

use super::{NodeIndex, WorldOf};
use crate::application::Waiting;
use crate::ledger::{Entry, Manner};

impl<C: Crypto> WorldOf<C> {
    /// The node announces which key follows its own: before it talks.
    pub fn announce_next_key(&mut self, node: NodeIndex) {
        self.nodes[node.0].announce_next_key();
    }

    /// The node's next key becomes its key, by a change that was made a while ago: at once when it runs, else at its next start.
    ///
    /// # Panics
    /// When the node has announced none.
    pub fn rotate(&mut self, node: NodeIndex, ago: Duration) -> NewKey {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let new = owner.rotate(now.wall.0 - ago.as_millis() as u64);
        self.by_id.insert(new.identity.id(), node);
        for shard in 0..self.nodes[node.0].cores.len() as u8 {
            let core = &mut self.nodes[node.0].cores[usize::from(shard)];
            let letter = Mail::NewKey(Box::new(new.clone()));
            core.shard.handle_mail(now, mail::From::Application, letter);
            if let Some(neighbours) = &mut core.neighbours {
                neighbours.handle_note(now, Note::NewKey(Box::new(new.clone())));
            }
            self.post_for_neighbours(node, shard);
            self.touch(node, shard);
        }
        new
    }

    /// What a node's wall clock shows, in milliseconds since 1970.
    #[must_use]
    pub fn wall(&self, node: NodeIndex) -> u64 {
        self.nodes[node.0].clock.read(self.now).wall.0
    }

    /// Sends a message to a node by a key that it has or had.
    pub fn send_by_key(&mut self, from: NodeIndex, (to, key): (NodeIndex, NodeId), bytes: &[u8]) -> Entry {
        let manner = Manner::default();
        let entry = self.ledger.add((from, to), manner, bytes, self.now);
        let address = self.public_address(to);
        let waiting = Waiting { entry, to: key, manner, bytes: bytes.to_vec() };
        self.nodes[from.0].application.send(address, waiting);
        self.work_application(from);
        entry
    }

    /// Calls a node by a key that it has or had.
    pub fn connect_by_key(&mut self, from: NodeIndex, (to, key): (NodeIndex, NodeId)) -> Ticket {
        let address = self.public_address(to);
        self.call(from, (Some(key), address), Vec::new(), None)
    }
}
