//! Pace: how often each peer may begin a decision here. Each costs a write, and keeps plain stores of its key away (T12).
//!
//! In:    peers that prepare, time.
//! Out:   whether they may.
//! Holds: at most [`PREPARING_PEERS_MAX`] peers; whoever was quiet for long enough is not among them. We ourselves are not
//!        counted.
//!
//! spec: p2p/pace

use core::time::Duration;
use std::collections::BTreeMap;

use dunlin_codec::ids::NodeId;

use crate::limits::{PREPARES_AT_ONCE, PREPARES_PER_SECOND, PREPARING_PEERS_MAX};
use crate::time::Instant;

/// What one of them takes of a peer's share.
const STEP: Duration = Duration::from_nanos(1_000_000_000 / PREPARES_PER_SECOND);

/// When each peer's share is whole again.
#[derive(Debug, Default)]
pub(super) struct Pace {
    whole_at: BTreeMap<NodeId, Instant>,
}

impl Pace {
    /// A peer prepares; false: it is too fast, or too many do.
    pub(super) fn take(&mut self, now: Instant, peer: NodeId) -> bool {
        if self.whole_at.len() >= PREPARING_PEERS_MAX && !self.whole_at.contains_key(&peer) {
            return false;
        }
        let whole_at = self.whole_at.entry(peer).or_insert(now);
        let next = (*whole_at).max(now) + STEP;
        let may = next.since(now) <= STEP * PREPARES_AT_ONCE;
        if may {
            *whole_at = next;
        }
        may
    }

    /// Peers whose share is whole again are forgotten.
    pub(super) fn expire(&mut self, now: Instant) {
        self.whole_at.retain(|_, whole_at| *whole_at > now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.whole_at.is_empty()
    }
}
