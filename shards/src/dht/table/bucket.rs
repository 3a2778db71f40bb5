//! A bucket: the nodes of one stretch of the space, and those that wait for a place.
//!
//! In:    nodes that answered, nodes that did not, nodes that were told of.
//! Out:   who is here, who is to be asked next.
//! Holds: members stand in the order in which they were last seen, the longest silent first; a node is a member or waits,
//!        and waits beside its membership only with another endpoint.

use core::net::SocketAddr;

use dunlin_codec::ids::NodeId;

use super::diversity::Prefix;
use crate::dht::contact::Contact;
use crate::limits::{
    BUCKET_CACHE_MAX, CACHE_SOURCE_MAX, NODE_QUIET_AFTER, NODE_RETRY_AFTER, PREFIX_BUCKET_MAX,
};
use crate::time::{Instant, WallMillis};

/// A node that answered us at its endpoint.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) contact: Contact,
    pub(super) endpoint: SocketAddr,
    /// Who told us of it.
    pub(super) source: NodeId,
    pub(super) seen_at: Instant,
    /// Questions in a row without an answer.
    pub(super) silences: u8,
    asked_at: Option<Instant>,
}

/// A node that waits for a place.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) contact: Contact,
    pub(super) endpoint: SocketAddr,
    pub(super) source: NodeId,
    heard_at: Instant,
    /// When it was asked last.
    asked_at: Option<Instant>,
    /// When it answered last: it is there, but had no place.
    pub(super) seen_at: Option<Instant>,
}

/// The nodes of one stretch of the space.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    pub(super) members: Vec<Member>,
    pub(super) waiting: Vec<Waiting>,
    /// When somebody was looked up in it.
    pub(super) refreshed_at: Instant,
}

fn is_due(asked_at: Option<Instant>, now: Instant) -> bool {
    asked_at.is_none_or(|at| at + NODE_RETRY_AFTER <= now)
}

impl Waiting {
    pub(super) const fn new(
        contact: Contact,
        endpoint: SocketAddr,
        (source, heard_at): (NodeId, Instant),
    ) -> Self {
        Self { contact, endpoint, source, heard_at, asked_at: None, seen_at: None }
    }

    /// It never answered, and had its time.
    fn is_old(&self, now: Instant) -> bool {
        self.seen_at.is_none() && self.heard_at + NODE_QUIET_AFTER <= now
    }

    /// When it is to be asked. One that answered and had no place is asked again when a place is free, or after long.
    fn due_at(&self) -> Instant {
        let pause = if self.seen_at.is_some() { NODE_QUIET_AFTER } else { NODE_RETRY_AFTER };
        self.asked_at.map_or(Instant::ZERO, |at| at + pause)
    }
}

impl Bucket {
    pub(super) fn member_mut(&mut self, id: &NodeId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.contact.id() == *id)
    }

    /// The member was seen: it stands behind all others.
    pub(super) fn on_seen(&mut self, id: &NodeId, now: Instant) {
        let Some(at) = self.members.iter().position(|member| member.contact.id() == *id) else { return };
        let mut member = self.members.remove(at);
        (member.seen_at, member.silences, member.asked_at) = (now, 0, None);
        self.members.push(member);
    }

    pub(super) fn admit(&mut self, waiting: Waiting, now: Instant) {
        let Waiting { contact, endpoint, source, .. } = waiting;
        self.members.retain(|member| member.contact.id() != contact.id());
        self.members.push(Member { contact, endpoint, source, seen_at: now, silences: 0, asked_at: None });
    }

    pub(super) fn take_waiting(&mut self, id: &NodeId, endpoint: SocketAddr) -> Option<Waiting> {
        let is_it = |waiting: &Waiting| waiting.contact.id() == *id && waiting.endpoint == endpoint;
        let at = self.waiting.iter().position(is_it)?;
        Some(self.waiting.remove(at))
    }

    /// Nobody more may wait.
    pub(super) const fn is_crowded(&self) -> bool {
        self.waiting.len() >= BUCKET_CACHE_MAX
    }

    /// A node that answered keeps its place in the queue, though it has none in the bucket.
    pub(super) fn put_back(&mut self, waiting: Waiting, now: Instant) {
        self.waiting.push(Waiting { seen_at: Some(now), ..waiting });
    }

    /// Whether a node that somebody tells of may wait here, should its record hold.
    pub(super) fn may_wait(
        &self,
        (id, sequence): (&NodeId, u64),
        endpoint: SocketAddr,
        (source, now): (&NodeId, Instant),
    ) -> bool {
        let (own, others): (Vec<&Waiting>, Vec<&Waiting>) =
            self.waiting.iter().partition(|waiting| waiting.contact.id() == *id);
        if own.iter().any(|waiting| waiting.contact.sequence() >= sequence) {
            return false;
        }
        let prefix = Prefix::of(endpoint.ip());
        let of_prefix = others.iter().filter(|other| Prefix::of(other.endpoint.ip()) == prefix).count();
        if prefix.is_some() && of_prefix >= PREFIX_BUCKET_MAX {
            return false;
        }
        let of_source = others.iter().filter(|other| other.source == *source).count();
        of_source < CACHE_SOURCE_MAX
            && (others.len() < BUCKET_CACHE_MAX || others.iter().any(|other| other.is_old(now)))
    }

    /// A node that somebody told of waits here. Its own newer record replaces an older one; nobody else's does.
    pub(super) fn enqueue(
        &mut self,
        contact: Contact,
        endpoint: SocketAddr,
        (source, now): (NodeId, Instant),
    ) {
        let id = contact.id();
        if !self.may_wait((&id, contact.sequence()), endpoint, (&source, now)) {
            return;
        }
        self.waiting.retain(|waiting| waiting.contact.id() != id);
        if self.is_crowded() {
            self.make_room(now);
        }
        self.waiting.push(Waiting::new(contact, endpoint, (source, now)));
    }

    /// The oldest that never answered makes room, once it had its time.
    fn make_room(&mut self, now: Instant) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.is_old(now)) {
            self.waiting.remove(at);
        }
    }

    /// A member leaves, and whoever waits may ask for its place.
    pub(super) fn evict(&mut self, id: &NodeId) -> Option<Member> {
        let at = self.members.iter().position(|member| member.contact.id() == *id);
        self.waiting.iter_mut().for_each(|waiting| waiting.asked_at = None);
        at.map(|at| self.members.remove(at))
    }

    /// Nodes whose records ended leave. Whether a member did.
    pub(super) fn expire(&mut self, wall: WallMillis) -> bool {
        let count = self.members.len();
        self.members.retain(|member| member.contact.expiry() > wall);
        self.waiting.retain(|waiting| waiting.contact.expiry() > wall);
        self.members.len() < count
    }

    /// The member that is to be asked whether it is there: one that was silent, else the longest unseen.
    pub(super) fn due_member(&mut self, now: Instant) -> Option<&Contact> {
        let is_quiet = |member: &Member| member.silences > 0 || member.seen_at + NODE_QUIET_AFTER <= now;
        let member =
            self.members.iter_mut().find(|member| is_quiet(member) && is_due(member.asked_at, now))?;
        member.asked_at = Some(now);
        Some(&member.contact)
    }

    /// The waiting node that is to be asked: one that answered before, else the one that was heard of last.
    pub(super) fn due_waiting(&mut self, now: Instant) -> Option<&Contact> {
        let due = self.waiting.iter_mut().filter(|waiting| waiting.due_at() <= now);
        let waiting = due.max_by_key(|waiting| (waiting.seen_at, waiting.heard_at))?;
        waiting.asked_at = Some(now);
        Some(&waiting.contact)
    }

    /// When somebody here is due.
    pub(super) fn due_at(&self, wants_more: bool) -> Option<Instant> {
        let after = |asked_at: Option<Instant>| asked_at.map_or(Instant::ZERO, |at| at + NODE_RETRY_AFTER);
        let members = self.members.iter().map(|member| {
            let quiet = if member.silences > 0 { Instant::ZERO } else { member.seen_at + NODE_QUIET_AFTER };
            quiet.max(after(member.asked_at))
        });
        let waiting = self.waiting.iter().filter(|_| wants_more).map(Waiting::due_at);
        members.chain(waiting).min()
    }
}
