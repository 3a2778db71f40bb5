//! Those who were members and fell silent: a part of the network that was cut off is found again when it is back.
//!
//! In:    members that were put out, answers, time.
//! Out:   whom to ask once more.
//! Holds: at most [`LOST_MAX`], of a public /24 or /48 as many as a table has; whoever was asked in vain most often makes room.
//!        Each is asked after a pause that doubles, until its record ends: as long after it is back as it was away, at most.
//!
//! Without it a healed network stays in halves: each asks its own alone, and those tell of their own alone.
//!
//! spec: p2p/lost

use core::net::SocketAddr;
use core::time::Duration;

use dunlin_codec::ids::NodeId;

use super::bucket::{Member, Waiting};
use super::diversity::Prefix;
use crate::dht::contact::Contact;
use crate::limits::{LOST_MAX, LOST_RETRY_AFTER, LOST_RETRY_AFTER_MAX, PREFIX_TABLE_MAX};
use crate::time::{Instant, WallMillis};

/// A node that fell silent.
#[derive(Clone, Debug)]
struct Entry {
    contact: Contact,
    endpoint: SocketAddr,
    source: NodeId,
    /// Before it is asked the next time but one.
    pause: Duration,
    ask_at: Instant,
}

/// Nodes that fell silent, the longest lost first.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost(Vec<Entry>);

impl Lost {
    /// A member was put out, for it did not answer.
    pub(super) fn push(&mut self, now: Instant, member: Member) {
        let Member { contact, endpoint, source, .. } = member;
        self.forget(&contact.id());
        let prefix = Prefix::of(endpoint.ip());
        let is_like = |entry: &Entry| prefix.is_some() && Prefix::of(entry.endpoint.ip()) == prefix;
        if self.0.iter().filter(|entry| is_like(entry)).count() >= PREFIX_TABLE_MAX {
            self.make_room(is_like);
        } else if self.0.len() >= LOST_MAX {
            self.make_room(|_| true);
        }
        let (pause, ask_at) = (2 * LOST_RETRY_AFTER, now + LOST_RETRY_AFTER);
        self.0.push(Entry { contact, endpoint, source, pause, ask_at });
    }

    fn make_room(&mut self, may_go: impl Fn(&Entry) -> bool) {
        let candidates = self.0.iter().enumerate().filter(|(_, entry)| may_go(entry)).rev();
        if let Some((at, _)) = candidates.max_by_key(|(_, entry)| entry.pause) {
            self.0.remove(at);
        }
    }

    /// The node answered there: it waits for a place again.
    pub(super) fn take(&mut self, id: &NodeId, endpoint: SocketAddr, now: Instant) -> Option<Waiting> {
        let is_it = |entry: &Entry| entry.contact.id() == *id && entry.endpoint == endpoint;
        let at = self.0.iter().position(is_it)?;
        let Entry { contact, endpoint, source, .. } = self.0.remove(at);
        Some(Waiting::new(contact, endpoint, (source, now)))
    }

    /// The node is a member again, or nobody any more.
    pub(super) fn forget(&mut self, id: &NodeId) {
        self.0.retain(|entry| entry.contact.id() != *id);
    }

    pub(super) fn expire(&mut self, wall: WallMillis) {
        self.0.retain(|entry| entry.contact.expiry() > wall);
    }

    /// Whoever is to be asked now.
    pub(super) fn due(&mut self, now: Instant) -> Option<&Contact> {
        let entry = self.0.iter_mut().find(|entry| entry.ask_at <= now)?;
        entry.ask_at = now + entry.pause;
        entry.pause = (2 * entry.pause).min(LOST_RETRY_AFTER_MAX);
        Some(&entry.contact)
    }

    /// When somebody is due.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.0.iter().map(|entry| entry.ask_at).min()
    }

    pub(super) const fn count(&self) -> usize {
        self.0.len()
    }
}
