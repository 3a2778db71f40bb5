//! What a story does in a world, and what it asks of it.

use core::time::Duration;
use std::net::SocketAddr;

use dunlin_codec::ids::{InstanceId, SessionId};
use dunlin_shards::arq::sender::Outcome;
use dunlin_shards::event::{CloseReason, Event, Ticket};
use dunlin_shards::mail::{self, Mail};
use dunlin_shards::route::{Arrival, Ecn, SocketIndex};
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::time::nanos_of;

use crate::application::{Reader, Waiting};
use crate::ledger::{Entry, Manner};
use crate::trace::What;

use super::{Flight, Next, NodeIndex, Stray, WorldOf};

impl<C: Crypto> WorldOf<C> {
    /// Sends a message, ordered and reliable; connects first when there is no session.
    pub fn send(&mut self, from: NodeIndex, to: NodeIndex, bytes: &[u8]) -> Entry {
        self.send_with(from, to, Manner::default(), bytes)
    }

    /// Sends a message in some manner.
    pub fn send_with(&mut self, from: NodeIndex, to: NodeIndex, manner: Manner, bytes: &[u8]) -> Entry {
        let entry = self.ledger.add((from, to), manner, bytes, self.now);
        self.note(from, 0, What::Send, [to.0 as u64, bytes.len() as u64, entry.0 as u64]);
        let (peer, address) = (self.nodes[to.0].id, self.public_address(to));
        let waiting = Waiting { entry, to: peer, manner, bytes: bytes.to_vec() };
        self.nodes[from.0].application.send(address, waiting);
        self.work_application(from);
        entry
    }

    /// Calls a node by its identity.
    pub fn connect(&mut self, from: NodeIndex, to: NodeIndex) -> Ticket {
        self.connect_early(from, to, &[], None).0
    }

    /// Calls whoever is at a node's address (XX).
    pub fn connect_unknown(&mut self, from: NodeIndex, to: NodeIndex) -> Ticket {
        let address = self.public_address(to);
        self.call(from, (None, address), Vec::new(), None)
    }

    /// Calls a node, with messages for the first datagram. The instance is what the caller remembers when none is given.
    pub fn connect_early(
        &mut self,
        from: NodeIndex,
        to: NodeIndex,
        messages: &[&[u8]],
        instance: Option<InstanceId>,
    ) -> (Ticket, Vec<Entry>) {
        let manner = Manner { early: true, ..Manner::default() };
        let (peer, address) = (self.nodes[to.0].id, self.public_address(to));
        let mut entries = Vec::new();
        let mut early = Vec::new();
        for bytes in messages {
            let entry = self.ledger.add((from, to), manner, bytes, self.now);
            entries.push(entry);
            early.push(Waiting { entry, to: peer, manner, bytes: bytes.to_vec() });
        }
        (self.call(from, (Some(peer), address), early, instance), entries)
    }

    /// Calls a node with one message for the first datagram, sent in a manner.
    pub fn connect_with(&mut self, from: NodeIndex, to: NodeIndex, manner: Manner, bytes: &[u8]) -> Entry {
        let (peer, address) = (self.nodes[to.0].id, self.public_address(to));
        let entry = self.ledger.add((from, to), manner, bytes, self.now);
        let early = vec![Waiting { entry, to: peer, manner, bytes: bytes.to_vec() }];
        self.call(from, (Some(peer), address), early, None);
        entry
    }

    pub(super) fn call(
        &mut self,
        from: NodeIndex,
        to: (Option<dunlin_codec::ids::NodeId>, SocketAddr),
        early: Vec<Waiting>,
        instance: Option<InstanceId>,
    ) -> Ticket {
        let node = &mut self.nodes[from.0];
        let placement = node.placement;
        let ticket = node.application.connect(&placement, to, early, instance);
        self.work_application(from);
        ticket
    }

    /// Takes a message back.
    pub fn cancel(&mut self, entry: Entry) {
        let from = self.ledger.record(entry).from;
        self.nodes[from.0].application.cancel(entry);
        self.work_application(from);
    }

    /// A node has nothing more to say to another: nobody waits for what it had said.
    pub fn forget(&mut self, from: NodeIndex, to: NodeIndex) {
        let peer = self.nodes[to.0].id;
        for entry in self.nodes[from.0].application.forget(peer) {
            self.ledger.on_void(entry);
        }
        self.ledger.void_between(from, to);
    }

    /// Writes to the shard that has the newest session of one node with another; false when there is none.
    pub fn post(&mut self, from: NodeIndex, to: NodeIndex, letter: impl FnOnce(SessionId) -> Mail) -> bool {
        let peer = self.nodes[to.0].id;
        let is_posted = self.nodes[from.0].application.post(&peer, letter);
        self.work_application(from);
        is_posted
    }

    /// Closes the session.
    pub fn close(&mut self, from: NodeIndex, to: NodeIndex) -> bool {
        self.post(from, to, |session| Mail::Close { session, code: 0 })
    }

    /// Measures a round trip.
    pub fn ping(&mut self, from: NodeIndex, to: NodeIndex) -> bool {
        self.post(from, to, |session| Mail::Ping { session, ticket: Ticket(7) })
    }

    /// Asks a node to close everything, after what is queued was acknowledged.
    pub fn shut_down(&mut self, node: NodeIndex) {
        let now = self.nodes[node.0].clock.read(self.now);
        self.nodes[node.0].application.is_leaving = true;
        for shard in 0..self.nodes[node.0].cores.len() {
            self.nodes[node.0].cores[shard].shard.handle_mail(now, mail::From::Application, Mail::Shutdown);
            self.touch(node, shard as u8);
        }
        self.settle();
    }

    /// How a node's application reads from now on.
    pub fn set_reader(&mut self, node: NodeIndex, reader: Reader) {
        self.nodes[node.0].application.reader = reader;
        self.work_application(node);
    }

    /// Messages that a node's application got, in order.
    #[must_use]
    pub fn received(&self, node: NodeIndex) -> &[Vec<u8>] {
        self.received.get(&node).map_or(&[], Vec::as_slice)
    }

    /// What a node's application was told, messages and limits apart.
    pub fn events(&self, node: NodeIndex) -> impl Iterator<Item = &Event> {
        self.nodes[node.0].application.events.iter().map(|(_, event)| event)
    }

    /// The same with the time since the world began.
    #[must_use]
    pub fn events_with_time(&self, node: NodeIndex) -> &[(u64, Event)] {
        &self.nodes[node.0].application.events
    }

    /// How often a node's application was told of something.
    #[must_use]
    pub fn count_events(&self, node: NodeIndex, is_it: impl Fn(&Event) -> bool) -> usize {
        self.events(node).filter(|event| is_it(event)).count()
    }

    /// Why sessions of a node ended, in order.
    #[must_use]
    pub fn close_reasons(&self, node: NodeIndex) -> Vec<CloseReason> {
        let reason = |event: &Event| match event {
            Event::Closed { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        self.events(node).filter_map(reason).collect()
    }

    /// The newest session of one node with another.
    #[must_use]
    pub fn session(&self, from: NodeIndex, to: NodeIndex) -> Option<SessionId> {
        self.nodes[from.0].application.session_with(&self.nodes[to.0].id)
    }

    /// Sessions of a node's application.
    #[must_use]
    pub fn session_count(&self, node: NodeIndex) -> usize {
        self.nodes[node.0].application.session_count()
    }

    /// What became of a message, as its sender knows.
    #[must_use]
    pub fn outcome(&self, entry: Entry) -> Option<Outcome> {
        self.ledger.record(entry).outcome
    }

    /// How often a message arrived.
    #[must_use]
    pub fn delivered(&self, entry: Entry) -> u32 {
        self.ledger.record(entry).delivered
    }

    /// Every reliable message has ended, and everything that arrived was read.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ledger.open() == 0 && self.nodes.iter().all(|node| node.application.unread_count() == 0)
    }

    /// I1: every acknowledged message arrived. Asked when the world has come to rest.
    ///
    /// # Panics
    /// When one did not.
    pub fn assert_nothing_lost(&self) {
        let lost = self.ledger.acknowledged_and_lost();
        let first = lost.first().map(|entry| {
            let record = self.ledger.record(*entry);
            (record.from, record.to, record.manner, record.bytes.len(), record.may_repeat, record.sent_at)
        });
        assert!(lost.is_empty(), "I1: acknowledged and never delivered: {lost:?}, the first {first:?}");
    }

    /// A datagram that no node sent.
    pub fn inject(&mut self, to: NodeIndex, from: SocketAddr, bytes: &[u8]) {
        let target = self.nodes[to.0].address;
        let arrival = Arrival {
            local: Some(target.ip()),
            remote: from,
            socket: SocketIndex(0),
            ecn: Ecn::NotEct,
            segment_len: bytes.len().max(1),
        };
        let flight = Flight { from: None, to: target, arrival, bytes: bytes.to_vec(), sent_at: None };
        let at = self.now + 1_000;
        self.schedule(at, Next::Arrive(Box::new(flight)));
    }

    /// What comes from this address could not be taken for true by anybody.
    pub fn note_stranger(&mut self, remote: SocketAddr) {
        self.tap.on_stranger(remote);
    }

    /// Datagrams that went where no node is, since the last call.
    pub fn take_strays(&mut self) -> Vec<Stray> {
        core::mem::take(&mut self.strays)
    }

    /// A node's address becomes another: its old one is nobody's. The node does not know.
    pub fn change_address(&mut self, node: NodeIndex) -> SocketAddr {
        let old = self.nodes[node.0].address;
        let mut new = old;
        new.set_port(old.port().wrapping_add(1).max(1_024));
        while self.once_owned.contains_key(&new) {
            new.set_port(new.port().wrapping_add(1).max(1_024));
        }
        self.by_address.remove(&old);
        self.by_address.insert(new, node);
        self.once_owned.insert(new, node);
        self.nodes[node.0].address = new;
        self.note(node, 0, What::Fault, [1, u64::from(new.port()), 0]);
        self.coverage.count("fault", "address change", 1);
        new
    }

    /// A node stops at once.
    pub fn crash(&mut self, node: NodeIndex) {
        self.note(node, 0, What::Fault, [2, 0, 0]);
        self.coverage.count("fault", "crash", 1);
        self.dirty.retain(|(dirty, _)| *dirty != node);
        self.nodes[node.0].crash();
        self.nodes[node.0].disk.crash(&mut self.chance);
        self.nodes[node.0].application.crash();
        self.ledger.void_node(node);
        self.tap.forget(node);
        self.epochs.forget(node);
    }

    /// A node that stopped starts again.
    pub fn start(&mut self, node: NodeIndex) {
        self.note(node, 0, What::Fault, [3, 0, 0]);
        let now = self.now;
        self.nodes[node.0].boot(now);
    }

    /// Rings between cores are full for a while: a Hello that comes again elsewhere is refused by a core that cannot ask (T5).
    pub fn allow_early_repeats(&mut self) {
        self.ledger.early_may_repeat = true;
    }

    /// A node goes for good.
    pub fn retire(&mut self, node: NodeIndex) {
        if self.nodes[node.0].is_up() {
            self.crash(node);
        }
        self.nodes[node.0].byzantine = None;
    }

    /// A node stops and starts again at once.
    pub fn restart(&mut self, node: NodeIndex) {
        self.crash(node);
        self.start(node);
    }

    /// A node stands still.
    pub fn pause(&mut self, node: NodeIndex, time: Duration) {
        self.note(node, 0, What::Fault, [4, nanos_of(time), 0]);
        self.coverage.count("fault", "pause", 1);
        self.nodes[node.0].paused_until = self.now + nanos_of(time);
    }

    /// A node's wall clock jumps.
    pub fn jump_clock(&mut self, node: NodeIndex, by_ms: i64) {
        self.note(node, 0, What::Fault, [5, by_ms as u64, 0]);
        self.coverage.count("fault", "clock jump", 1);
        self.nodes[node.0].clock.wall_error_ms += by_ms;
    }

    /// Cuts both directions between two nodes, or mends them.
    pub fn set_cut(&mut self, one: NodeIndex, other: NodeIndex, is_cut: bool) {
        self.both(one, other, |conditions| conditions.is_cut = is_cut);
    }

    /// Opens a session between two nodes and waits until both know it.
    ///
    /// # Panics
    /// When there is none within 30 s.
    pub fn join(&mut self, one: NodeIndex, other: NodeIndex) {
        self.connect(one, other);
        let is_joined = self.run_until(Duration::from_secs(30), |world| {
            world.session(one, other).is_some() && world.session(other, one).is_some()
        });
        assert!(is_joined, "no session between {one:?} and {other:?}");
        self.run_for(Duration::from_millis(200));
    }
}
