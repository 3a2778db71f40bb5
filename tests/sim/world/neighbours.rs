//! Nodes that talk: each with its neighbours beside its shard.
//!
//! In:    which nodes talk, on what terms; what a story has them say.
//! Out:   what they were told.
//! Holds: whatever a shard tells is offered to the neighbours first, as the application would hear it.

use std::collections::VecDeque;

use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_shards::event::Event;
use dunlin_shards::identity::Identity;
use dunlin_shards::messages::conversation::{Constants, Terms};
use dunlin_shards::neighbours::{Neighbours, Notice};
use dunlin_shards::rng::Rng;
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::time::Now;

use super::{NodeIndex, WorldOf};

impl<C: Crypto> WorldOf<C> {
    /// The node talks from now on, on its first shard; `change` has its way with what it says of itself.
    pub fn talk(&mut self, node: NodeIndex, change: impl FnOnce(&mut Terms)) {
        let rng = Rng::from_number(self.chance.next_u64());
        let owner = &mut self.nodes[node.0];
        let (now, address) = (owner.clock.read(self.now), owner.address);
        let identity = Identity::from_seed(owner.key());
        let network = Network(owner.settings.network);
        let mut terms = Terms::new(owner.id, network, Constants::default(), "a world")
            .expect("the usual constants are good ones");
        change(&mut terms);
        owner.cores[0].neighbours = Some(Neighbours::new(&identity, terms, &[address], (now, rng)));
        self.touch(node, 0);
    }

    /// Has a node that talks say something, and sees to what comes of it.
    ///
    /// # Panics
    /// When the node does not talk.
    pub fn neighbours<R>(&mut self, node: NodeIndex, say: impl FnOnce(&mut Neighbours, Now) -> R) -> R {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let neighbours = owner.cores[0].neighbours.as_mut().expect("the node talks");
        let result = say(neighbours, now);
        self.post_for_neighbours(node, 0);
        result
    }

    /// A node's identity.
    #[must_use]
    pub fn id(&self, node: NodeIndex) -> NodeId {
        self.nodes[node.0].id
    }

    /// Sessions of a node's shards, those among them that its application does not know.
    #[must_use]
    pub fn open_sessions(&self, node: NodeIndex) -> usize {
        self.nodes[node.0].cores.iter().map(|core| core.shard.sessions()).sum()
    }

    /// Joins the network of another node, whose key and address are known.
    pub fn join_network(&mut self, node: NodeIndex, seed: NodeIndex) {
        let (id, address) = (self.nodes[seed.0].id, self.nodes[seed.0].address);
        self.neighbours(node, |neighbours, now| neighbours.join(now, id, address));
    }

    /// What a node was told since it was asked last.
    pub fn notices(&mut self, node: NodeIndex) -> VecDeque<Notice> {
        self.neighbours(node, |neighbours, _| core::iter::from_fn(|| neighbours.poll_notice()).collect())
    }

    pub(super) fn offer_to_neighbours(&mut self, node: NodeIndex, shard: u8, event: Event) -> Option<Event> {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let core = &mut owner.cores[usize::from(shard)];
        match &mut core.neighbours {
            Some(neighbours) => neighbours.on_event(now, &mut core.shard, event),
            None => Some(event),
        }
    }

    pub(super) fn post_for_neighbours(&mut self, node: NodeIndex, shard: u8) {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let Some(core) = owner.cores.get_mut(usize::from(shard)) else { return };
        let Some(neighbours) = core.neighbours.as_mut().filter(|neighbours| neighbours.has_letters()) else {
            return;
        };
        neighbours.dialled().for_each(|address| self.tap.on_dialled(node, address));
        neighbours.post(now, &mut core.shard);
        self.touch(node, shard);
    }

    pub(super) fn tick_neighbours(&mut self, node: NodeIndex, shard: u8) {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let Some(neighbours) = &mut owner.cores[usize::from(shard)].neighbours else { return };
        neighbours.handle_timeout(now);
        self.post_for_neighbours(node, shard);
    }
}
