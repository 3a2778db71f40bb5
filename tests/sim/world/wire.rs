//! Between the nodes: what leaves one, what links, NATs and Byzantine nodes make of it, what arrives at another.

use core::time::Duration;
use std::net::SocketAddr;

use dunlin_shards::route::{Arrival, Ecn, SocketIndex, Transmit};
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::stats::{DropReason, Stats};
use dunlin_shards::time::nanos_of;

use crate::byzantine::Outbox;
use crate::link::{Carried, Cause, Link};
use crate::nat::{Nat, NatRules};
use crate::trace::What;

use super::{Flight, Next, NodeIndex, POISON, Stray, WorldOf};

/// Datagrams that an eavesdropper keeps.
const OVERHEARD: usize = 256;
/// One in so many sealed datagrams is overheard; handshakes all are.
const OVERHEARS: u64 = 8;

/// A datagram that somebody on the way has seen.
#[derive(Clone, Debug)]
pub struct Overheard {
    /// Where it came from, as its receiver would see it.
    pub from: SocketAddr,
    /// Who it was for.
    pub to: NodeIndex,
    /// Where its sender sent it.
    target: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Who sent it, and when.
    sent: (NodeIndex, u64),
}

/// What a shard has counted of sealed packets.
struct Books {
    accounted: u64,
    bad_sources: u64,
}

impl Books {
    fn of(stats: &Stats) -> Self {
        Self {
            accounted: stats.packets_opened + stats.misrouted + stats.drops_total(),
            bad_sources: stats.drops(DropReason::BadSource),
        }
    }

    /// Each was opened, sent on or dropped for a reason. A train from nowhere is dropped whole.
    fn check(&self, before: &Self, sealed: u64) {
        let accounted = self.accounted - before.accounted;
        assert!(
            accounted >= sealed || self.bad_sources > before.bad_sources,
            "books: {sealed} sealed packets came, {accounted} are accounted for"
        );
    }
}

impl<C: Crypto> WorldOf<C> {
    /// A NAT; nodes are put behind it by `put_behind`.
    pub fn add_nat(&mut self, rules: NatRules) -> usize {
        let index = self.nats.len();
        let outer = SocketAddr::from(([198, 51, (index >> 8) as u8, index as u8], 0)).ip();
        self.nats.push(Nat::new(rules, outer));
        self.nat_by_ip.insert(outer, index);
        index
    }

    /// A node's datagrams go through a NAT from now on.
    pub fn put_behind(&mut self, node: NodeIndex, nat: usize) {
        self.nodes[node.0].nat = Some(nat);
    }

    /// A NAT forgets its mappings.
    pub fn rebind(&mut self, nat: usize) {
        self.note(NodeIndex(0), 0, What::Fault, [6, nat as u64, 0]);
        self.coverage.count("fault", "NAT rebinding", 1);
        self.nats[nat].rebind();
    }

    /// Where a node can be called by others, as far as anybody could know.
    #[must_use]
    pub fn public_address(&self, node: NodeIndex) -> SocketAddr {
        let inner = self.nodes[node.0].address;
        let nat = self.nodes[node.0].nat.map(|nat| &self.nats[nat]);
        nat.and_then(|nat| nat.outer_of(self.now, inner)).unwrap_or(inner)
    }

    /// The node that an address belongs or belonged to.
    #[must_use]
    pub fn owner_of(&self, address: SocketAddr) -> Option<NodeIndex> {
        let inner = match self.nat_by_ip.get(&address.ip()) {
            Some(nat) => self.nats[*nat].owner(address.port())?,
            None => address,
        };
        self.once_owned.get(&inner).copied()
    }

    /// The node whose link a datagram for this address takes; None: nobody's.
    fn route(&self, from: NodeIndex, to: SocketAddr) -> Option<NodeIndex> {
        if let Some(nat) = self.nat_by_ip.get(&to.ip()) {
            let inner = self.nats[*nat].owner(to.port())?;
            return self.by_address.get(&inner).copied();
        }
        let node = self.by_address.get(&to).copied()?;
        let nat = self.nodes[node.0].nat;
        (nat.is_none() || nat == self.nodes[from.0].nat).then_some(node)
    }

    /// A train leaves: each datagram has its own fate.
    pub(super) fn launch(&mut self, node: NodeIndex, shard: u8, transmit: &Transmit) {
        let train = self.frame[..transmit.len].to_vec();
        self.frame[..transmit.len].fill(POISON);
        assert!(
            transmit.segment_len > 0 && transmit.segment_count() <= 64,
            "a train of wrong shape: {transmit:?}"
        );
        let to = self.route(node, transmit.remote);
        let numbers = [
            to.map_or(u64::from(u16::MAX), |to| to.0 as u64),
            transmit.len as u64,
            transmit.segment_count() as u64,
        ];
        self.note(node, shard, What::Out, numbers);
        self.last_activity = self.now;
        if self.nodes[node.0].byzantine.is_some() {
            return self.let_byzantine_send(node, transmit, &train);
        }
        for datagram in train.chunks(transmit.segment_len) {
            self.tap.on_out(node, transmit.remote, datagram);
        }
        if train.first() == Some(&dunlin_codec::reset::TYPE)
            && let Some(told) = self.owner_of(transmit.remote)
        {
            self.tap.on_reset(node, told);
        }
        let Some(to) = to else {
            let strays = train.chunks(transmit.segment_len);
            let stray = |bytes: &[u8]| Stray { from: node, to: transmit.remote, bytes: bytes.to_vec() };
            if self.keeps_strays {
                self.strays.extend(strays.map(stray));
            }
            return self.count_loss(node, None, Cause::Nobody, transmit.len);
        };
        let link = self.link_of(node, to);
        let link = self.links.get_mut(&link).expect("it was made if it was not there");
        if let Some((cause, error)) = link.refuses(transmit.segment_len, &mut self.chance) {
            self.count_loss(node, Some(to), cause, transmit.len);
            let owner = &mut self.nodes[node.0];
            let now = owner.clock.read(self.now);
            let core = &mut owner.cores[usize::from(shard)];
            core.shard.handle_transmit_error(now, transmit, error);
            return;
        }
        self.carry(node, to, transmit, &train);
    }

    /// The link between two nodes, made when there is none yet.
    fn link_of(&mut self, from: NodeIndex, to: NodeIndex) -> (NodeIndex, NodeIndex) {
        if !self.links.contains_key(&(from, to)) {
            let conditions = self.conditions_of(from, to);
            self.links.insert((from, to), Link::new(conditions));
        }
        (from, to)
    }

    fn carry(&mut self, node: NodeIndex, to: NodeIndex, transmit: &Transmit, train: &[u8]) {
        let Some(remote) = self.source_of(node, to, transmit) else {
            return self.count_loss(node, Some(to), Cause::Filtered, transmit.len);
        };
        let key = self.link_of(node, to);
        let link = self.links.get_mut(&key).expect("it was made if it was not there");
        let mut carried = core::mem::take(&mut self.carried);
        let mut lost = Vec::new();
        let before = link.counts.clone();
        for datagram in train.chunks(transmit.segment_len) {
            let fate = link.carry(self.now, (datagram, transmit.ecn), &mut self.chance, &mut carried);
            if let Err(cause) = fate {
                lost.push((cause, datagram.len()));
            }
        }
        let joins = link.conditions.joins;
        for cause in Cause::ALL.into_iter().skip(Cause::Nobody as usize + 1) {
            self.coverage.count_causes(cause, link.counts.of(cause) - before.of(cause));
        }
        for (cause, len) in lost {
            self.count_loss(node, Some(to), cause, len);
        }
        if self.overhears {
            self.overhear((node, remote), (to, transmit.remote), train, transmit.segment_len);
        }
        self.fly((node, remote), transmit, &mut carried, joins);
        self.carried = carried;
    }

    /// The address that the receiver sees; None when a NAT does not let it through.
    fn source_of(&mut self, node: NodeIndex, to: NodeIndex, transmit: &Transmit) -> Option<SocketAddr> {
        let owner = &self.nodes[node.0];
        let address = owner.address;
        let Some(nat) = owner.nat else { return Some(address) };
        let is_inside = self.nodes[to.0].nat == Some(nat);
        if is_inside && self.nodes[to.0].address == transmit.remote {
            return Some(address);
        }
        let nat = &mut self.nats[nat];
        if is_inside && !nat.rules.hairpin {
            return None;
        }
        Some(nat.leave(self.now, address, transmit.remote))
    }

    /// Datagrams that arrive together with equal lengths and marks become one train again.
    fn fly(
        &mut self,
        (node, remote): (NodeIndex, SocketAddr),
        transmit: &Transmit,
        carried: &mut Vec<Carried>,
        joins: bool,
    ) {
        let mut last: Option<(u64, Flight)> = None;
        for Carried { at, bytes, ecn } in carried.drain(..) {
            if let Some((last_at, flight)) = &mut last
                && joins
                && *last_at == at
                && flight.arrival.ecn == ecn
                && flight.bytes.len().is_multiple_of(flight.arrival.segment_len)
                && bytes.len() <= flight.arrival.segment_len
                && !bytes.is_empty()
            {
                flight.bytes.extend_from_slice(&bytes);
                continue;
            }
            let arrival = Arrival {
                local: Some(transmit.remote.ip()),
                remote,
                socket: transmit.socket,
                ecn,
                segment_len: bytes.len().max(1),
            };
            let flight =
                Flight { from: Some(node), to: transmit.remote, arrival, bytes, sent_at: Some(self.now) };
            if let Some((at, flight)) = last.replace((at, flight)) {
                self.schedule(at, Next::Arrive(Box::new(flight)));
            }
        }
        if let Some((at, flight)) = last {
            self.schedule(at, Next::Arrive(Box::new(flight)));
        }
    }

    /// The node that a flight reaches now, behind whatever NAT.
    fn receiver_of(&self, flight: &Flight) -> Result<NodeIndex, Cause> {
        let address = match self.nat_by_ip.get(&flight.to.ip()) {
            Some(nat) => self.nats[*nat]
                .enter(self.now, flight.to.port(), flight.arrival.remote)
                .ok_or(Cause::Filtered)?,
            None => flight.to,
        };
        let node = self.by_address.get(&address).copied().ok_or(Cause::Nobody)?;
        if self.nodes[node.0].is_up() { Ok(node) } else { Err(Cause::Nobody) }
    }

    pub(super) fn arrive(&mut self, mut flight: Flight) {
        let from = flight.from.unwrap_or_default();
        let to = match self.receiver_of(&flight) {
            Ok(to) => to,
            Err(cause) => return self.count_loss(from, None, cause, flight.bytes.len()),
        };
        let paused_until = self.nodes[to.0].paused_until;
        if paused_until > self.now {
            return self.schedule(paused_until, Next::Arrive(Box::new(flight)));
        }
        self.last_activity = self.now;
        let remote = flight.arrival.remote;
        let segment_len = flight.arrival.segment_len;
        for datagram in flight.bytes.chunks(segment_len) {
            self.tap.on_in(to, remote, datagram.len(), flight.sent_at);
            if let Some(byzantine) = &mut self.nodes[to.0].byzantine {
                byzantine.on_arrival(remote, datagram);
            }
        }
        if let Some(from) = flight.from {
            self.tap.on_reached(from, flight.to, self.now);
            if self.nodes[to.0].nat.is_some() {
                self.tap.on_reached_behind(from, flight.to, to, self.now);
            }
            if let Some(sent_at) = flight.sent_at.filter(|_| self.nodes[from.0].nat.is_some()) {
                self.tap.on_in_from(to, from, sent_at);
            }
        }
        let node = &mut self.nodes[to.0];
        if node.nat.is_some() {
            flight.arrival.local = Some(node.address.ip());
        }
        let shard = match node.settings.lands_on {
            Some(shard) => shard,
            None if node.settings.unsteered => self.chance.below(node.cores.len() as u64) as u8,
            None => node.placement.of_datagram(remote, &flight.bytes).0,
        };
        let now = node.clock.read(self.now);
        let shard_at = &mut node.cores[usize::from(shard)].shard;
        let before = Books::of(shard_at.stats());
        let resets = shard_at.stats().resets_taken;
        let sealed = flight.bytes.chunks(segment_len).filter(|bytes| bytes[0] & 0x80 != 0).count() as u64;
        shard_at.handle_datagram(now, &flight.arrival, &mut flight.bytes);
        Books::of(shard_at.stats()).check(&before, sealed);
        if shard_at.stats().resets_taken > resets {
            self.check_reset(to, remote);
        }
        // Whoever kept a part of the frame will be found out (T33).
        flight.bytes.fill(POISON);
        let count = flight.bytes.len().div_ceil(segment_len.max(1)) as u64;
        self.note(to, shard, What::In, [from.0 as u64, flight.bytes.len() as u64, count]);
        self.touch(to, shard);
    }

    fn let_byzantine_send(&mut self, node: NodeIndex, transmit: &Transmit, train: &[u8]) {
        self.with_byzantine(node, |byzantine, out| {
            for datagram in train.chunks(transmit.segment_len) {
                byzantine.on_send(transmit.remote, datagram, out);
            }
        });
    }

    /// A Byzantine node's time has come.
    pub(super) fn tick_byzantine(&mut self, node: NodeIndex) {
        if self.nodes[node.0].is_up() {
            self.with_byzantine(node, |byzantine, out| byzantine.on_tick(out));
        }
        if let Some(tick) = self.nodes[node.0].byzantine.as_ref().and_then(|byzantine| byzantine.tick()) {
            self.at(tick, move |world| world.tick_byzantine(node));
        }
    }

    fn with_byzantine(
        &mut self,
        node: NodeIndex,
        act: impl FnOnce(&mut dyn crate::byzantine::Byzantine, &mut Outbox<'_>),
    ) {
        let Some(mut byzantine) = self.nodes[node.0].byzantine.take() else { return };
        let is_other = |other: &usize| *other != node.0 && self.nodes[*other].nat.is_none();
        let others: Vec<SocketAddr> =
            (0..self.nodes.len()).filter(is_other).map(|other| self.nodes[other].address).collect();
        let mut outbox = Outbox::new(&mut self.chance, &others);
        act(&mut *byzantine, &mut outbox);
        let sends = outbox.sends;
        self.nodes[node.0].byzantine = Some(byzantine);
        for (after, to, bytes) in sends {
            if after.is_zero() {
                self.send_datagram(node, to, &bytes);
            } else {
                self.at(after, move |world| world.send_datagram(node, to, &bytes));
            }
        }
    }

    /// A datagram that a node's shards know nothing of.
    fn send_datagram(&mut self, node: NodeIndex, remote: SocketAddr, bytes: &[u8]) {
        let Some(to) = self.route(node, remote) else { return };
        let transmit = Transmit {
            local: None,
            remote,
            socket: SocketIndex(0),
            ecn: Ecn::NotEct,
            len: bytes.len(),
            segment_len: bytes.len().max(1),
        };
        self.carry(node, to, &transmit, bytes);
    }

    fn overhear(
        &mut self,
        (node, from): (NodeIndex, SocketAddr),
        (to, target): (NodeIndex, SocketAddr),
        train: &[u8],
        segment_len: usize,
    ) {
        let sent = (node, self.now);
        for bytes in train.chunks(segment_len) {
            let is_sealed = bytes.first().is_some_and(|first| first & 0x80 != 0);
            if is_sealed && !self.chance.once_in(OVERHEARS) {
                continue;
            }
            let is_hello = bytes.first() == Some(&dunlin_codec::hello::TYPE);
            let kept = if is_hello { &mut self.hellos } else { &mut self.overheard };
            if kept.len() == OVERHEARD {
                kept.pop_front();
            }
            kept.push_back(Overheard { from, to, target, bytes: bytes.to_vec(), sent });
        }
    }

    /// A Hello that was overheard, when any was.
    pub fn draw_hello(&mut self) -> Option<Overheard> {
        let count = self.hellos.len() as u64;
        if count == 0 {
            return None;
        }
        let which = self.chance.below(count) as usize;
        self.hellos.get(which).cloned()
    }

    /// Something that was overheard, when anything was.
    pub fn draw_overheard(&mut self) -> Option<Overheard> {
        let count = self.overheard.len() as u64;
        if count == 0 {
            return None;
        }
        let which = self.chance.below(count) as usize;
        self.overheard.get(which).cloned()
    }

    /// Something that was overheard comes from somewhere else to whom it was for, perhaps before the original: it has reached him,
    /// and what he makes of it proves that he is there.
    pub fn send_on(&mut self, seen: &Overheard, from: SocketAddr) {
        self.inject(seen.to, from, &seen.bytes);
        self.note_seen(seen);
    }

    /// The copy reaches its receiver whatever becomes of the original, and past its NAT.
    fn note_seen(&mut self, seen: &Overheard) {
        let (sender, _) = seen.sent;
        self.tap.on_reached(sender, seen.target, self.now);
        if self.nodes[seen.to.0].nat.is_some() {
            self.tap.on_reached_behind(sender, seen.target, seen.to, self.now);
        }
    }

    /// Something that was overheard comes once more from where it came: as good a proof of the address as the first time.
    pub fn replay(&mut self, seen: Overheard) {
        self.note_seen(&seen);
        let target = self.nodes[seen.to.0].address;
        let (from, sent_at) = seen.sent;
        let arrival = Arrival {
            local: Some(target.ip()),
            remote: seen.from,
            socket: SocketIndex(0),
            ecn: Ecn::NotEct,
            segment_len: seen.bytes.len().max(1),
        };
        let flight =
            Flight { from: Some(from), to: target, arrival, bytes: seen.bytes, sent_at: Some(sent_at) };
        let at = self.now + 1_000;
        self.schedule(at, Next::Arrive(Box::new(flight)));
    }

    /// A node misbehaves from now on.
    pub fn corrupt(&mut self, node: NodeIndex, vice: crate::byzantine::Vice) {
        let behaviour = vice.behaviour();
        self.coverage.count("fault", vice.name(), 1);
        self.ledger.distrust(node);
        if !behaviour.reads() {
            self.nodes[node.0].application.reader = crate::application::Reader::Never;
        }
        self.nodes[node.0].byzantine = Some(behaviour);
        self.at(Duration::ZERO, move |world| world.tick_byzantine(node));
    }

    /// Time of the world in nanoseconds, for links.
    pub(super) fn moment(&self, after: Duration) -> Duration {
        Duration::from_nanos(self.now + nanos_of(after))
    }
}
