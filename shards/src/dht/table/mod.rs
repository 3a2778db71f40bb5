//! The routing table: whom we know, so that every place is near to somebody.
//!
//! In:    nodes that were told of, nodes that answered or did not, places that were looked up, time.
//! Out:   the nodes closest to a place; whom to ask whether it is there; which place to look up to stay acquainted.
//! Holds: a node is a member only after it answered a question of ours at its endpoint: nobody comes in by calling us, and
//!        nobody is put out while it answers. A bucket has k members at most, none is ourselves.
//!
//! A full bucket asks whoever was silent longest, twice, before another takes its place; whoever waits meanwhile is the
//! node-info cache of the source. Whoever was put out for its silence is asked again now and then (`lost`). Nodes without endpoints can only initiate: they are never here, nor handed out.
//!
//! It works on plain numbers of time and keeps no clock; a table belongs to one shard.
//!
//! spec: p2p/table

mod bucket;
mod diversity;
mod lost;

use core::net::SocketAddr;

use dunlin_codec::ids::{Address, NodeId};

use super::contact::{Contact, Heard};
use super::diverse::Choice;
use super::space::{Distance, Space};
use crate::limits::{BUCKET_REFRESH_AFTER, FEELER_INTERVAL, NODE_SILENCES_MAX};
use crate::rng::Rng;
use crate::time::{Instant, Now};
use bucket::{Bucket, Member};
use lost::Lost;

pub(in crate::dht) use diversity::Prefix;

/// The nodes that we know.
#[derive(Clone, Debug)]
pub struct Table {
    own: NodeId,
    space: Space,
    replication: usize,
    buckets: Vec<Bucket>,
    lost: Lost,
    feeler_at: Instant,
    /// Before that nobody is due.
    quiet_until: Instant,
    /// How often what is told to others changed.
    changes: u64,
}

/// Who asks for nodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    /// Ourselves: every member.
    Own,
    /// A peer on a private address, as some of our members are: those that answer.
    Private,
    /// Anybody: those that answer and are on public addresses alone (T10).
    Public,
}

impl Table {
    /// A table without nodes; `replication` is k.
    #[must_use]
    pub fn new(own: NodeId, space: Space, replication: usize) -> Self {
        let buckets = vec![Bucket::default(); space.bits()];
        let (feeler_at, quiet_until) = (Instant::ZERO, Instant::ZERO);
        let lost = Lost::default();
        Self { own, space, replication, buckets, lost, feeler_at, quiet_until, changes: 0 }
    }

    /// How often what is told to others changed: the same number, the same nodes.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// The members of a bucket that others may be told of.
    pub fn told_of(&self, bucket: usize) -> impl Iterator<Item = &Contact> {
        let members = self.buckets[bucket].members.iter();
        members.filter(|member| diversity::is_told(member, false)).map(|member| &member.contact)
    }

    /// How many nodes it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.members.len()).sum()
    }

    /// How many nodes wait for a place.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.waiting.len()).sum()
    }

    /// How many nodes fell silent and are asked again now and then.
    #[must_use]
    pub const fn lost_count(&self) -> usize {
        self.lost.count()
    }

    /// Every bucket that could have members has all that it may: whispers then travel from node to node.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let used = self.buckets.iter().rposition(|bucket| !bucket.members.is_empty());
        let is_full = |bucket: &Bucket| bucket.members.len() >= self.replication;
        used.is_some_and(|last| self.buckets[..last].iter().all(is_full))
    }

    /// The node is a member.
    #[must_use]
    pub fn is_member(&self, id: &NodeId) -> bool {
        self.bucket_of(id)
            .is_some_and(|at| self.buckets[at].members.iter().any(|member| member.contact.id() == *id))
    }

    /// The table has this record of the node, or a newer one: its signature need not be checked again.
    #[must_use]
    pub fn has_record(&self, id: &NodeId, sequence: u64) -> bool {
        let Some(bucket) = self.bucket_of(id).map(|at| &self.buckets[at]) else { return false };
        let members = bucket.members.iter().map(|member| &member.contact);
        let mut all = members.chain(bucket.waiting.iter().map(|waiting| &waiting.contact));
        all.any(|contact| contact.id() == *id && contact.sequence() >= sequence)
    }

    /// Whether [`Self::on_told`] would change anything, should the record hold: else its signature is nobody's business.
    #[must_use]
    pub fn wants(&self, now: Instant, heard: &Heard, source: &NodeId) -> bool {
        let id = heard.id();
        let (Some(at), Some(endpoint)) = (self.bucket_of(&id), heard.endpoint()) else { return false };
        let (bucket, sequence) = (&self.buckets[at], heard.sequence());
        match bucket.members.iter().find(|member| member.contact.id() == id) {
            Some(member) if member.contact.sequence() >= sequence => false,
            Some(member) if member.endpoint == endpoint => true,
            _ => bucket.may_wait((&id, sequence), endpoint, (source, now)),
        }
    }

    /// The table has this record to the byte: it was checked when it came.
    #[must_use]
    pub fn has_bytes(&self, heard: &Heard) -> bool {
        let Some(bucket) = self.bucket_of(&heard.id()).map(|at| &self.buckets[at]) else { return false };
        let members = bucket.members.iter().map(|member| &member.contact);
        let mut all = members.chain(bucket.waiting.iter().map(|waiting| &waiting.contact));
        all.any(|contact| contact.bytes() == heard.bytes())
    }

    /// A member.
    #[must_use]
    pub fn member(&self, id: &NodeId) -> Option<&Contact> {
        let members = &self.buckets[self.bucket_of(id)?].members;
        members.iter().map(|member| &member.contact).find(|contact| contact.id() == *id)
    }

    /// Where a member answers.
    #[must_use]
    pub fn endpoint_of(&self, id: &NodeId) -> Option<SocketAddr> {
        let bucket = &self.buckets[self.bucket_of(id)?];
        bucket.members.iter().find(|member| member.contact.id() == *id).map(|member| member.endpoint)
    }

    fn bucket_of(&self, id: &NodeId) -> Option<usize> {
        self.space.bucket(&self.distance(&Space::place(id)))
    }

    fn distance(&self, to: &Address) -> Distance {
        self.space.distance(&Space::place(&self.own), to)
    }

    /// `source` told of a node, the node itself perhaps. It waits until it has answered us.
    pub fn on_told(&mut self, now: Instant, contact: Contact, source: NodeId) {
        let (Some(at), Some(endpoint)) = (self.bucket_of(&contact.id()), contact.endpoint()) else { return };
        let bucket = &mut self.buckets[at];
        if let Some(member) = bucket.member_mut(&contact.id()) {
            if member.contact.sequence() >= contact.sequence() {
                return;
            }
            if member.endpoint == endpoint {
                member.contact = contact;
                self.changes += 1;
                return;
            }
        }
        bucket.enqueue(contact, endpoint, (source, now));
        self.quiet_until = Instant::ZERO;
    }

    /// We have another key: everybody is put where they are as seen from there. Members who find no place in their bucket wait
    /// for one.
    pub fn move_to(&mut self, own: NodeId, now: Instant) {
        let before = core::mem::replace(self, Self::new(own, self.space, self.replication));
        (self.feeler_at, self.changes) = (before.feeler_at, before.changes + 1);
        self.lost = before.lost;
        self.lost.forget(&own);
        let (members, waiting): (Vec<_>, Vec<_>) =
            before.buckets.into_iter().map(|bucket| (bucket.members, bucket.waiting)).unzip();
        let mut members: Vec<Member> = members.into_iter().flatten().collect();
        members.sort_by_key(|member| member.seen_at);
        for member in members {
            let (id, endpoint) = (member.contact.id(), member.endpoint);
            let Some(at) = self.bucket_of(&id) else { continue };
            let has_room = self.buckets[at].members.len() < self.replication;
            if has_room && diversity::allows(&self.buckets, at, (&id, endpoint.ip()), &member.source) {
                self.buckets[at].members.push(member);
            } else {
                self.buckets[at].enqueue(member.contact, endpoint, (member.source, now));
            }
        }
        for waiting in waiting.into_iter().flatten() {
            let Some(at) = self.bucket_of(&waiting.contact.id()) else { continue };
            self.buckets[at].enqueue(waiting.contact, waiting.endpoint, (waiting.source, now));
        }
    }

    /// Nobody has this key any more.
    pub fn forget(&mut self, id: &NodeId) {
        let Some(at) = self.bucket_of(id) else { return };
        let bucket = &mut self.buckets[at];
        bucket.evict(id);
        bucket.waiting.retain(|waiting| waiting.contact.id() != *id);
        self.lost.forget(id);
        self.changes += 1;
    }

    /// A node answered a question of ours at `endpoint`.
    pub fn on_answer(&mut self, now: Instant, id: &NodeId, endpoint: SocketAddr) {
        let Some(at) = self.bucket_of(id) else { return };
        let bucket = &mut self.buckets[at];
        if let Some(member) = bucket.member_mut(id).filter(|member| member.endpoint == endpoint) {
            self.changes += u64::from(member.silences > 0);
            return bucket.on_seen(id, now);
        }
        let waiting = bucket.take_waiting(id, endpoint).or_else(|| self.lost.take(id, endpoint, now));
        let Some(waiting) = waiting else { return };
        let is_moved = bucket.member_mut(id).is_some();
        let has_room = is_moved || bucket.members.len() < self.replication;
        let is_allowed =
            has_room && diversity::allows(&self.buckets, at, (id, endpoint.ip()), &waiting.source);
        if is_allowed {
            self.buckets[at].admit(waiting, now);
            self.lost.forget(id);
            self.changes += 1;
        } else if !self.buckets[at].is_crowded() {
            self.buckets[at].put_back(waiting, now);
        }
    }

    /// A node did not answer a question of ours at `endpoint`. Twice, and one that waits may take its place; a member that
    /// nobody would replace stays as long again.
    pub fn on_silence(&mut self, now: Instant, id: &NodeId, endpoint: SocketAddr) {
        let Some(at) = self.bucket_of(id) else { return };
        let bucket = &mut self.buckets[at];
        bucket.take_waiting(id, endpoint);
        let has_others = !bucket.waiting.is_empty();
        let Some(member) = bucket.member_mut(id).filter(|member| member.endpoint == endpoint) else { return };
        member.silences = member.silences.saturating_add(1);
        self.changes += 1;
        let silences_max = if has_others { NODE_SILENCES_MAX } else { 2 * NODE_SILENCES_MAX };
        if member.silences >= silences_max
            && let Some(member) = bucket.evict(id)
        {
            self.lost.push(now, member);
        }
        self.quiet_until = Instant::ZERO;
    }

    /// Whom to ask now whether it is there; each once, until its time has come again.
    pub fn poll_question(&mut self, now: Now) -> Option<Contact> {
        let Now { instant, wall } = now;
        if instant < self.quiet_until {
            return None;
        }
        for bucket in &mut self.buckets {
            self.changes += u64::from(bucket.expire(wall));
            if let Some(contact) = bucket.due_member(instant) {
                return Some(contact.clone());
            }
            if bucket.members.len() < self.replication
                && let Some(contact) = bucket.due_waiting(instant)
            {
                return Some(contact.clone());
            }
        }
        if self.feeler_at <= instant {
            self.feeler_at = instant + FEELER_INTERVAL;
            let felt = self.buckets.iter_mut().find_map(|bucket| bucket.due_waiting(instant).cloned());
            if felt.is_some() {
                return felt;
            }
        }
        self.lost.expire(wall);
        if let Some(contact) = self.lost.due(instant) {
            return Some(contact.clone());
        }
        self.quiet_until = self.due_at();
        None
    }

    fn due_at(&self) -> Instant {
        let due =
            self.buckets.iter().filter_map(|bucket| bucket.due_at(bucket.members.len() < self.replication));
        due.chain(self.lost.due_at()).chain([self.feeler_at]).min().unwrap_or(self.feeler_at)
    }

    /// When `poll_question` may have somebody again.
    #[must_use]
    pub const fn quiet_until(&self) -> Instant {
        self.quiet_until
    }

    /// A place to look up, so that a bucket into which nobody was looked up for long stays alive. Buckets beyond the last
    /// one used are one: nobody is there to be found.
    pub fn poll_refresh(&mut self, now: Instant, rng: &mut Rng) -> Option<Address> {
        let last = self.buckets.iter().rposition(|bucket| !bucket.members.is_empty())?;
        let end = (last + 1).min(self.buckets.len() - 1);
        let is_stale = |bucket: &Bucket| bucket.refreshed_at + BUCKET_REFRESH_AFTER <= now;
        let at = self.buckets[..=end].iter().position(is_stale)?;
        self.buckets[at].refreshed_at = now;
        Some(self.space.draw_in(&Space::place(&self.own), at, rng))
    }

    /// A place was looked up: its bucket is fresh.
    pub fn on_looked_up(&mut self, now: Instant, place: &Address) {
        if let Some(at) = self.space.bucket(&self.distance(place)) {
            self.buckets[at].refreshed_at = now;
        }
    }

    /// Puts the members closest to `place` into `out`, the closest first, `count` at most; of a public network one alone, as
    /// long as there are others (T9).
    pub fn closest<'t>(
        &'t self,
        place: &Address,
        (count, audience): (usize, Audience),
        out: &mut Vec<&'t Contact>,
    ) {
        out.clear();
        let at = self.space.bucket(&self.distance(place)).unwrap_or(self.buckets.len() - 1);
        // All of the place's own bucket are closer to it than all of those behind, and those than each one before.
        let (before, behind) = self.buckets.split_at(at);
        let mut groups = [&behind[..1], &behind[1..]].into_iter().chain(before.rchunks(1));
        let mut choice = Choice::default();
        let mut all: Vec<&Member> = Vec::new();
        let mut is_full = false;
        while !is_full && let Some(group) = groups.next() {
            let start = all.len();
            let is_told = |member: &&Member| match audience {
                Audience::Own => true,
                audience => diversity::is_told(member, audience == Audience::Public),
            };
            all.extend(group.iter().flat_map(|bucket| &bucket.members).filter(is_told));
            all[start..]
                .sort_by_key(|member| self.space.distance(place, &Space::place(&member.contact.id())));
            is_full = (start..all.len()).any(|at| choice.offer(at, Prefix::of(all[at].endpoint.ip()), count));
        }
        choice.finish(count);
        out.extend(choice.chosen().iter().map(|at| &all[*at].contact));
    }
}

#[cfg(test)]
mod tests;
