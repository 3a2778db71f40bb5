//! Nodes that talk: each with its neighbours beside its shards.
//!
//! In:    which nodes talk, on what terms; what a story has them say.
//! Out:   what they were told.
//! Holds: whatever a shard tells is offered to the neighbours first, as the application would hear it.

use std::collections::VecDeque;
use std::sync::Arc;

use core::time::Duration;

use dunlin_codec::args::Request;
use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::{Address, NodeId};
use dunlin_codec::label::Network;
use dunlin_shards::dht::contact::Contact;
use dunlin_shards::dht::known::Known;
use dunlin_shards::dht::space::Space;
use dunlin_shards::dht::table::Table;
use dunlin_shards::event::{Event, Ticket};
use dunlin_shards::identity::Identity;
use dunlin_shards::identity::change::Past;
use dunlin_shards::messages::conversation::{Constants, Terms};
use dunlin_shards::neighbours::rows::chains_in;
use dunlin_shards::neighbours::{HUB, Neighbours, Notice, Seat};
use dunlin_shards::note::{Note, Question};
use dunlin_shards::rng::Rng;
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::time::Instant;

use super::{NodeIndex, WorldOf};

/// Bytes of a question that a story asks, at most.
const QUESTION_LEN_MAX: usize = 64 << 10;

impl<C: Crypto> WorldOf<C> {
    /// The node talks from now on, on all its shards, and can be reached; `change` has its way with what it says of itself.
    pub fn talk(&mut self, node: NodeIndex, change: impl FnOnce(&mut Terms)) {
        let address = self.nodes[node.0].address;
        self.talk_at(node, vec![address], change);
    }

    /// The same; `endpoints` are where it says that it can be reached: none, and it can only initiate.
    pub fn talk_at(
        &mut self,
        node: NodeIndex,
        endpoints: Vec<core::net::SocketAddr>,
        change: impl FnOnce(&mut Terms),
    ) {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let identity = Identity::from_seed(owner.key());
        let network = Network(owner.settings.network);
        let mut terms = Terms::new(owner.id, network, Constants::default(), "a world")
            .expect("the usual constants are good ones");
        change(&mut terms);
        let mut seat = Seat { shard: HUB, placement: owner.placement, endpoints };
        for shard in 0..owner.cores.len() {
            seat.shard = shard as u8;
            let rng = Rng::from_number(self.chance.next_u64());
            let past = self.nodes[node.0].past();
            let mut neighbours = Neighbours::new(&identity, terms.clone(), &seat, (now, rng));
            if !matches!(past, Past::Unknown) {
                neighbours = neighbours.with_past(past);
            }
            if let Some((previous, until)) = self.nodes[node.0].previous(now) {
                neighbours = neighbours.with_previous(previous, until);
            }
            let network = self.nodes[node.0].disk.network();
            chains_in(&network).for_each(|row| _ = neighbours.restore_chain(row));
            let rows = self.nodes[node.0].disk.rows().iter().map(|(key, value)| (&key[..], &value[..]));
            neighbours.restore(now, rows);
            self.nodes[node.0].cores[shard].neighbours = Some(neighbours);
            self.touch(node, shard as u8);
        }
        self.begin_remembering(node);
    }

    /// Tells the hub of a node that talks something, as its application does.
    ///
    /// # Panics
    /// When the node does not talk.
    pub fn tell(&mut self, node: NodeIndex, note: Note) {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let neighbours = owner.cores[usize::from(HUB)].neighbours.as_mut().expect("the node talks");
        neighbours.handle_note(now, note);
        self.post_for_neighbours(node, HUB);
        self.touch(node, HUB);
    }

    /// The neighbours of a node's hub.
    ///
    /// # Panics
    /// When the node does not talk.
    #[must_use]
    pub fn hub(&self, node: NodeIndex) -> &Neighbours {
        self.nodes[node.0].cores[usize::from(HUB)].neighbours.as_ref().expect("the node talks")
    }

    /// Nodes in a node's table.
    ///
    /// # Panics
    /// When the node does not talk.
    #[must_use]
    pub fn table_count(&self, node: NodeIndex) -> usize {
        self.hub(node).table().expect("it has the hub").count()
    }

    /// Words that a node's shards dropped because nobody read those before them.
    #[must_use]
    pub fn unread(&self, node: NodeIndex) -> u64 {
        let cores = self.nodes[node.0].cores.iter();
        cores.filter_map(|core| core.neighbours.as_ref()).map(Neighbours::unread).sum()
    }

    /// What each of a node's shards tells others, as records' owners.
    #[must_use]
    pub fn told_by_shards(&self, node: NodeIndex) -> Vec<Vec<NodeId>> {
        let cores = self.nodes[node.0].cores.iter();
        let ids = |neighbours: &Neighbours| neighbours.known().iter().map(Contact::id).collect();
        cores.filter_map(|core| core.neighbours.as_ref()).map(ids).collect()
    }

    /// Has a node that talks ask another, wherever it is.
    ///
    /// # Panics
    /// When the question is longer than stories ask.
    pub fn ask(
        &mut self,
        (node, peer): (NodeIndex, NodeId),
        ticket: u64,
        request: &Request<'_>,
        wait: Duration,
    ) {
        let mut room = vec![0; QUESTION_LEN_MAX];
        let mut out = Writer::new(&mut room);
        request.write(&mut out).expect("stories ask little");
        let question = Question { operation: request.operation(), payload: out.written().into(), wait };
        self.tell(node, Note::Ask { ticket: Ticket(ticket), peer, question });
    }

    /// Has a node that talks look a place up.
    pub fn search(&mut self, node: NodeIndex, ticket: u64, place: Address) {
        self.tell(node, Note::Search { ticket: Ticket(ticket), place });
    }

    /// From now on every other of these nodes says nothing, and the others tell of these nodes alone.
    pub fn have_collude(&mut self, nodes: &[NodeIndex]) {
        self.have_tell_of_each_other(nodes, |at| at % 2 == 0);
    }

    /// From now on these nodes tell of these nodes alone, those that say anything.
    pub fn have_tell_of_each_other(&mut self, nodes: &[NodeIndex], is_silent: impl Fn(usize) -> bool) {
        let mut members = Vec::new();
        for node in nodes {
            let id = self.nodes[node.0].id;
            let known = self.hub(*node).known();
            members.extend(known.iter().find(|contact| contact.id() == id).cloned());
        }
        for (at, node) in nodes.iter().enumerate() {
            if is_silent(at) {
                self.crash(*node);
                continue;
            }
            let Some(own) = members.iter().find(|contact| contact.id() == self.nodes[node.0].id).cloned()
            else {
                continue;
            };
            let space = Space::new(Constants::default().address_bits);
            let mut table = Table::new(own.id(), space, members.len());
            for member in members.iter().filter(|member| member.id() != own.id()) {
                table.on_told(Instant::ZERO, member.clone(), member.id());
                let Some(endpoint) = member.endpoint() else { continue };
                table.on_answer(Instant::ZERO, &member.id(), endpoint);
            }
            let known = Arc::new(Known::new(&table, space, (&own, Vec::new())));
            self.nodes[node.0].colludes = Some(known);
        }
    }

    /// Colluders tell what they agreed on, whatever they know.
    fn keep_agreement(&mut self, node: NodeIndex, shard: u8) {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let Some(known) = owner.colludes.clone() else { return };
        let neighbours = owner.cores.get_mut(usize::from(shard)).and_then(|core| core.neighbours.as_mut());
        if let Some(neighbours) = neighbours.filter(|neighbours| !Arc::ptr_eq(neighbours.known(), &known)) {
            neighbours.handle_note(now, Note::Known(known));
        }
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
        let (peer, endpoint) = (self.nodes[seed.0].id, self.nodes[seed.0].address);
        self.tell(node, Note::Join { ticket: Ticket(u64::MAX >> 1), peer, endpoint });
    }

    /// What a node was told since it was asked last.
    pub fn notices(&mut self, node: NodeIndex) -> VecDeque<Notice> {
        for shard in 0..self.nodes[node.0].cores.len() as u8 {
            self.take_notices(node, shard);
        }
        let cores = self.nodes[node.0].cores.iter_mut();
        let notices = cores.flat_map(|core| core.notices.drain(..)).collect();
        self.check_rumours(node, &notices);
        notices
    }

    pub(super) fn offer_to_neighbours(&mut self, node: NodeIndex, shard: u8, event: Event) -> Vec<Event> {
        self.keep_agreement(node, shard);
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let core = &mut owner.cores[usize::from(shard)];
        let Some(neighbours) = &mut core.neighbours else { return vec![event] };
        let last = neighbours.on_event(now, &mut core.shard, event);
        core::iter::from_fn(|| neighbours.poll_event()).chain(last).collect()
    }

    /// Notes that came for the neighbours of a shard; what its application hears of that.
    pub(super) fn read_notes(&mut self, node: NodeIndex, shard: u8) -> Vec<Event> {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let Some(core) = owner.cores.get_mut(usize::from(shard)) else { return Vec::new() };
        let Some(neighbours) = &mut core.neighbours else { return Vec::new() };
        while let Some(note) = core.shard.poll_note() {
            neighbours.handle_note(now, note);
        }
        core::iter::from_fn(|| neighbours.poll_event()).collect()
    }

    pub(super) fn post_for_neighbours(&mut self, node: NodeIndex, shard: u8) {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let Some(core) = owner.cores.get_mut(usize::from(shard)) else { return };
        let Some(neighbours) = core.neighbours.as_mut().filter(|neighbours| neighbours.has_letters()) else {
            return;
        };
        neighbours.dialled().for_each(|address| self.tap.on_dialled(node, address));
        if owner.false_roll.is_some() {
            self.post_lies(node, shard);
            return self.touch(node, shard);
        }
        neighbours.post(now, &mut core.shard);
        self.touch(node, shard);
    }

    pub(super) fn tick_neighbours(&mut self, node: NodeIndex, shard: u8) {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let Some(neighbours) = &mut owner.cores[usize::from(shard)].neighbours else { return };
        if neighbours.poll_timeout().is_some_and(|at| at <= now.instant) {
            neighbours.handle_timeout(now);
            self.post_for_neighbours(node, shard);
        }
    }
}
