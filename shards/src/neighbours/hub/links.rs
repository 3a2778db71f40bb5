//! Links: the sessions over which what is for everybody goes.
//!
//! In:    the table, the roll, answers to SET_CONNECTION_OPT 3, sessions that go; peers that want links.
//! Out:   errands that ask for links, and for signs of life over those that there are.
//! Holds: a node opens ℓ at most, and takes four for each of them from others; one that is lost is made good from the table,
//!        or from the network's roll where the table has nobody (`roll`).
//!
//! A session that a peer made its link is ours as well: between two nodes there is one. Whoever refuses, or is not reached,
//! is left alone for a while. Anchors are those to whom the node had links before it restarted: they are asked first.
//!
//! spec: p2p/links

use core::net::SocketAddr;
use std::collections::BTreeMap;

use dunlin_codec::ids::{NodeId, SessionId};

use super::{Hub, Purpose};
use crate::dht::known::LinkSource;
use crate::dht::space::Space;
use crate::dht::table::Audience;
use crate::limits::{ANCHOR_WAIT, LINK_PING_INTERVAL, LINK_RETRY_AFTER, LINKS_REFUSED_MAX};
use crate::note::Note;
use crate::time::Instant;

/// A link that we opened.
#[derive(Clone, Copy, Debug)]
enum Link {
    /// Asked for.
    Asked,
    /// Granted.
    Granted(SessionId),
}

/// Somebody to link to: whom, where, and how we came to it.
type Next = (NodeId, Option<SocketAddr>, LinkSource);

/// What a node has of links.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// By peer, those that we opened.
    out: BTreeMap<NodeId, (Link, LinkSource)>,
    /// Those that others opened, and with whom.
    inbound: BTreeMap<SessionId, NodeId>,
    /// Who is left alone, and until when.
    refused: BTreeMap<NodeId, Instant>,
    anchors: Vec<NodeId>,
    anchors_until: Instant,
    ping_at: Instant,
    /// How often those that we opened changed.
    changes: u64,
}

impl Links {
    /// Links that we opened and that stand, and how we came to each.
    pub(super) fn opened(&self) -> impl Iterator<Item = (NodeId, LinkSource)> {
        let stands = |link: &Link| matches!(link, Link::Granted(_));
        self.out.iter().filter(move |(_, (link, _))| stands(link)).map(|(peer, (_, source))| (*peer, *source))
    }

    /// There is one that stands, whoever opened it.
    pub(super) fn is_any(&self) -> bool {
        !self.inbound.is_empty() || self.opened().next().is_some()
    }

    /// How many are missing that we would open.
    pub(super) fn missing(&self, links_max: usize) -> usize {
        links_max.saturating_sub(self.out.len())
    }

    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    fn is_linked(&self, peer: &NodeId) -> bool {
        self.out.contains_key(peer) || self.inbound.values().any(|other| other == peer)
    }

    /// Whoever had a link before is asked first.
    pub(super) fn on_anchors(&mut self, now: Instant, peers: Vec<NodeId>) {
        self.anchors = peers;
        self.anchors_until = now + ANCHOR_WAIT;
    }

    /// A key follows another: links with the old one are the new one's.
    pub(super) fn on_key_changed(&mut self, old: &NodeId, new: NodeId) {
        if let Some(link) = self.out.remove(old) {
            self.out.entry(new).or_insert(link);
            self.changes += 1;
        }
        let inbound = self.inbound.values_mut().chain(&mut self.anchors);
        inbound.filter(|peer| *peer == old).for_each(|peer| *peer = new);
    }

    /// A session ended; whether it was a link that we had opened.
    pub(super) fn on_gone(&mut self, session: SessionId, peer: &NodeId) -> bool {
        self.inbound.remove(&session);
        let is_lost = matches!(self.out.get(peer), Some((Link::Granted(of), _)) if *of == session);
        if is_lost {
            self.out.remove(peer);
            self.changes += 1;
        }
        is_lost
    }
}

impl Hub {
    /// A second has passed: links that are missing are asked for, and those that there are kept alive.
    pub(super) fn work_links(&mut self) {
        let now = self.now.instant;
        self.links.refused.retain(|_, until| *until > now);
        let links_max = self.constants.links as usize;
        while self.links.out.len() < links_max
            && let Some((peer, endpoint, source)) = self.next_link()
        {
            self.links.out.insert(peer, (Link::Asked, source));
            self.begin_errand(peer, endpoint, Purpose::Link);
        }
        if self.links.out.len() < links_max {
            self.want_roll();
        }
        if self.links.ping_at <= now {
            self.links.ping_at = now + LINK_PING_INTERVAL;
            let peers: Vec<NodeId> = self.links.opened().map(|(peer, _)| peer).collect();
            peers.into_iter().for_each(|peer| self.begin_errand(peer, None, Purpose::KeepLink));
        }
    }

    /// An anchor that is known again, one whom the roll told of, else the node closest to a drawn place.
    fn next_link(&mut self) -> Option<Next> {
        let is_back = |peer: &NodeId| self.table.is_member(peer) && self.may_link(peer);
        if let Some(at) = self.links.anchors.iter().position(is_back) {
            return Some((self.links.anchors.remove(at), None, LinkSource::Anchor));
        }
        if !self.links.anchors.is_empty() && self.now.instant < self.links.anchors_until {
            return None;
        }
        if self.waits_for_roll() {
            return None;
        }
        while let Some((peer, endpoint)) = self.next_of_roll() {
            if self.may_link(&peer) {
                return Some((peer, endpoint, LinkSource::Roll));
            }
        }
        let mut place = [0; 32];
        self.rng.fill(&mut place);
        let place = Space::place(&NodeId(place));
        let mut near = Vec::new();
        self.table.closest(&place, (usize::MAX, Audience::Own), &mut near);
        let peer = near.iter().map(|contact| contact.id()).find(|peer| self.may_link(peer))?;
        Some((peer, None, LinkSource::Table))
    }

    fn may_link(&self, peer: &NodeId) -> bool {
        !self.links.is_linked(peer) && !self.links.refused.contains_key(peer)
    }

    /// A peer answered SET_CONNECTION_OPT 3.
    pub(super) fn on_link_answered(&mut self, peer: NodeId, session: SessionId, is_granted: bool) {
        if !is_granted {
            return self.on_link_failed(peer);
        }
        // Gone meanwhile: it is no link any more.
        let is_there = self.has_session(&peer, session);
        match self.links.out.get_mut(&peer) {
            Some((link, _)) if is_there => {
                *link = Link::Granted(session);
                self.links.changes += 1;
            }
            _ => drop(self.links.out.remove(&peer)),
        }
    }

    pub(super) fn on_link_failed(&mut self, peer: NodeId) {
        if matches!(self.links.out.get(&peer), Some((Link::Asked, _))) {
            self.links.out.remove(&peer);
        }
        if self.links.refused.len() >= LINKS_REFUSED_MAX {
            self.links.refused.pop_first();
        }
        self.links.refused.insert(peer, self.now.instant + LINK_RETRY_AFTER);
    }

    /// A peer wants its session to be a link, or one no more: at most four come in for each that we open.
    pub(super) fn decide_link(&mut self, (session, peer): (SessionId, NodeId), request: u64, is_link: bool) {
        let links_max = self.constants.links_inbound_max() as usize;
        let is_known = self.links.inbound.contains_key(&session);
        let is_granted = !is_link || is_known || self.links.inbound.len() < links_max;
        if !is_link {
            self.links.inbound.remove(&session);
        } else if is_granted {
            self.links.inbound.insert(session, peer);
        }
        self.outbox.push_back((session.shard(), Note::LinkDecided { session, request, is_link, is_granted }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::messages::conversation::{Constants, Terms};
    use crate::neighbours::{HUB, Seat};
    use crate::placement::{Placement, PlacementSeeds};
    use crate::rng::Rng;
    use crate::time::{Now, WallMillis};

    /// Of 4,096 nodes it is known that they are to be left alone.
    /// spec: p2p/links
    #[test]
    fn those_that_refused_are_bounded() {
        let own = Identity::from_seed([1; 32]);
        let network = dunlin_codec::label::Network([7; 32]);
        let terms = Terms::new(own.id(), network, Constants::default(), "a test").unwrap();
        let placement = Placement::new(1, PlacementSeeds { steering: 1, keys: [2, 3] });
        let seat = Seat { shard: HUB, placement, endpoints: Vec::new() };
        let now = Now { instant: Instant::ZERO, wall: WallMillis(0) };
        let mut hub = Hub::new(&own, &terms, &seat, (now, Rng::from_number(1)));
        for number in 0..LINKS_REFUSED_MAX as u32 + 10 {
            let mut id = [9; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            hub.on_link_failed(NodeId(id));
        }
        assert_eq!((hub.links.refused.len(), LINKS_REFUSED_MAX), (LINKS_REFUSED_MAX, 4_096));
    }
}
