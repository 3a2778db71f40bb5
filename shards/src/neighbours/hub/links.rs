//! Links: the sessions over which what is for everybody goes.
//!
//! In:    the table, answers to SET_CONNECTION_OPT 3, sessions that go; peers that want links.
//! Out:   errands that ask for links, and for signs of life over those that there are.
//! Holds: a node opens ℓ at most, and takes four for each of them from others; one that is lost is made good from the table.
//!
//! A session that a peer made its link is ours as well: between two nodes there is one. Whoever refuses, or is not reached,
//! is left alone for a while. Anchors are those to whom the node had links before it restarted: they are asked first.
//!
//! spec: p2p/links

use std::collections::BTreeMap;

use dunlin_codec::ids::{NodeId, SessionId};

use super::{Hub, Purpose};
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

/// What a node has of links.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// By peer, those that we opened.
    out: BTreeMap<NodeId, Link>,
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
    /// Links that we opened and that stand.
    pub(super) fn opened(&self) -> impl Iterator<Item = NodeId> {
        self.out.iter().filter(|(_, link)| matches!(link, Link::Granted(_))).map(|(peer, _)| *peer)
    }

    /// There is one that stands, whoever opened it.
    pub(super) fn is_any(&self) -> bool {
        !self.inbound.is_empty() || self.opened().next().is_some()
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

    pub(super) fn on_gone(&mut self, session: SessionId, peer: &NodeId) {
        self.inbound.remove(&session);
        if matches!(self.out.get(peer), Some(Link::Granted(of)) if *of == session) {
            self.out.remove(peer);
            self.changes += 1;
        }
    }
}

impl Hub {
    /// A second has passed: links that are missing are asked for, and those that there are kept alive.
    pub(super) fn work_links(&mut self) {
        let now = self.now.instant;
        self.links.refused.retain(|_, until| *until > now);
        let links_max = self.constants.links as usize;
        while self.links.out.len() < links_max
            && let Some(peer) = self.next_link()
        {
            self.links.out.insert(peer, Link::Asked);
            self.begin_errand(peer, None, Purpose::Link);
        }
        if self.links.ping_at <= now {
            self.links.ping_at = now + LINK_PING_INTERVAL;
            let peers: Vec<NodeId> = self.links.opened().collect();
            peers.into_iter().for_each(|peer| self.begin_errand(peer, None, Purpose::KeepLink));
        }
    }

    /// An anchor that is known again; else the node closest to a drawn place.
    fn next_link(&mut self) -> Option<NodeId> {
        let is_back = |peer: &NodeId| self.table.is_member(peer) && self.may_link(peer);
        if let Some(at) = self.links.anchors.iter().position(is_back) {
            return Some(self.links.anchors.remove(at));
        }
        if !self.links.anchors.is_empty() && self.now.instant < self.links.anchors_until {
            return None;
        }
        let mut place = [0; 32];
        self.rng.fill(&mut place);
        let place = Space::place(&NodeId(place));
        let mut near = Vec::new();
        self.table.closest(&place, (usize::MAX, Audience::Own), &mut near);
        near.iter().map(|contact| contact.id()).find(|peer| self.may_link(peer))
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
        if is_there && self.links.out.contains_key(&peer) {
            self.links.out.insert(peer, Link::Granted(session));
            self.links.changes += 1;
        } else {
            self.links.out.remove(&peer);
        }
    }

    pub(super) fn on_link_failed(&mut self, peer: NodeId) {
        if matches!(self.links.out.get(&peer), Some(Link::Asked)) {
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
