//! Handing over: whoever has come and is among those closest to a key is given its value at once, not within the hour.
//!
//! In:    whom the node knows, time; keys, one after the other.
//! Out:   to whom each key's value is to be given.
//! Holds: at most [`NEWCOMERS_MAX`] newcomers wait; nobody is one again while it is known, nor within [`REPUBLISH_INTERVAL`]
//!        afterwards, nor whoever was there when we came. Of those who were there before the [`GIVERS`] closest to a key give.
//!
//! Else a value would be left with ever fewer of those who are asked for it, until it is stored again; where half of a network
//! goes meanwhile, with none of them now and then.
//!
//! spec: p2p/handing-over

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_codec::ids::{Address, NodeId};

use crate::dht::known::{Asker, Closest, Known};
use crate::limits::{GIVERS, HAND_OVER_AFTER, MET_MAX, NEWCOMERS_MAX, REPUBLISH_INTERVAL};
use crate::time::Instant;

/// Nobody: whoever asks with it is told of everybody.
const NOBODY: NodeId = NodeId([0; 32]);

/// Who has come, and for whom keys are looked at.
#[derive(Debug)]
pub(super) struct Handing {
    known: Option<(Arc<Known>, usize)>,
    /// Whoever is known before that was there when we came.
    begins_at: Instant,
    /// Who is no newcomer, and until when when it is not known any more.
    met: BTreeMap<NodeId, Instant>,
    /// For whom every key is looked at next.
    waiting: Vec<NodeId>,
    /// For whom every key is looked at now.
    present: Vec<NodeId>,
    closest: Closest,
}

impl Handing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            known: None,
            begins_at: now + HAND_OVER_AFTER,
            met: BTreeMap::new(),
            waiting: Vec::new(),
            present: Vec::new(),
            closest: Closest::default(),
        }
    }

    /// Whom the node knows by now; so many are the holders of a key.
    pub(super) fn on_known(&mut self, now: Instant, (known, replication): (&Arc<Known>, usize)) {
        let until = now + REPUBLISH_INTERVAL;
        // Whoever was known was until now: there is word of a table only when it changes.
        for contact in self.known.iter().flat_map(|(known, _)| known.iter()) {
            self.met.entry(contact.id()).and_modify(|met| *met = until);
        }
        self.met.retain(|_, until| *until > now);
        for id in known.iter().map(|contact| contact.id()).filter(|id| *id != known.own()) {
            let has_room = self.met.len() < MET_MAX;
            match self.met.get_mut(&id) {
                Some(met) => *met = until,
                None if has_room => {
                    self.met.insert(id, until);
                    if self.begins_at <= now && self.waiting.len() < NEWCOMERS_MAX {
                        self.waiting.push(id);
                    }
                }
                None => {}
            }
        }
        self.known = Some((Arc::clone(known), replication));
    }

    /// All keys are looked at anew: for those who came meanwhile.
    pub(super) fn begin(&mut self) {
        self.present = core::mem::take(&mut self.waiting);
    }

    /// There is somebody for whom keys are looked at.
    pub(super) const fn is_any(&self) -> bool {
        !self.present.is_empty()
    }

    /// Who has come and is to be given what we keep for this place.
    pub(super) fn takers(&mut self, own: &NodeId, place: &Address) -> Vec<NodeId> {
        let Some((known, replication)) = &self.known else { return Vec::new() };
        let everybody = Asker { id: NOBODY, is_public: false };
        known.closest(place, (*replication, everybody), &mut self.closest);
        let is_new = |id: &NodeId| self.present.contains(id);
        let mut elder = known.ids(&self.closest).filter(|id| !is_new(id)).take(GIVERS);
        if !elder.any(|id| id == *own) {
            return Vec::new();
        }
        known.ids(&self.closest).filter(is_new).collect()
    }
}
