//! One path of a lookup: what it heard of, in order of distance.
//!
//! In:    nodes that it is told of, answers, failures.
//! Out:   its next question.
//! Holds: at most [`PATH_HEARD_MAX`] nodes, the closest; nobody is asked twice.
//!
//! The closest of each network come first: a path ends when its share of those has answered. Only where there are too few
//! of them do the others count (T9).

use std::collections::BTreeSet;

use dunlin_codec::ids::NodeId;

use crate::dht::contact::Heard;
use crate::dht::space::Distance;
use crate::dht::table::Prefix;
use crate::limits::PATH_HEARD_MAX;

/// What became of a node on its path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Heard,
    Asked,
    Answered,
    Failed,
}

#[derive(Clone, Debug)]
struct Entry {
    distance: Distance,
    heard: Heard,
    prefix: Option<Prefix>,
    /// Answers that led here, one after the other.
    answers: usize,
    standing: Standing,
}

/// What one path knows, the closest first.
#[derive(Clone, Debug)]
pub(super) struct Path {
    entries: Vec<Entry>,
    /// How many of the closest have to answer until it ends.
    share: usize,
    asked: usize,
}

impl Path {
    pub(super) const fn new(share: usize) -> Self {
        Self { entries: Vec::new(), share, asked: 0 }
    }

    /// The path is told of a node; the first record of it counts. The farthest that nobody asked makes room, of a network
    /// with several before others.
    pub(super) fn hear(&mut self, distance: Distance, heard: Heard, answers: usize) {
        let at = self.entries.partition_point(|entry| entry.distance < distance);
        if self.entries.get(at).is_some_and(|entry| entry.distance == distance) {
            return;
        }
        if self.entries.len() >= PATH_HEARD_MAX {
            let farthest = self.entries.iter().rposition(|entry| entry.standing == Standing::Heard);
            let doubled = (0..self.entries.len())
                .rev()
                .find(|at| self.entries[*at].standing == Standing::Heard && !self.is_first(*at));
            match (doubled, farthest) {
                (Some(doubled), _) => drop(self.entries.remove(doubled)),
                (None, Some(farthest)) if farthest >= at => drop(self.entries.remove(farthest)),
                _ => return,
            }
        }
        let at = self.entries.partition_point(|entry| entry.distance < distance);
        let prefix = heard.endpoint().and_then(|endpoint| Prefix::of(endpoint.ip()));
        self.entries.insert(at, Entry { distance, heard, prefix, answers, standing: Standing::Heard });
    }

    /// Nobody of its network is closer.
    fn is_first(&self, at: usize) -> bool {
        let prefix = self.entries[at].prefix;
        prefix.is_none() || self.entries[..at].iter().all(|entry| entry.prefix != prefix)
    }

    /// The next node to ask among those that no path has asked; none while enough are asked, and none once the path's
    /// share of the closest has answered.
    pub(super) fn next(&mut self, parallel: usize, taken: &BTreeSet<NodeId>) -> Option<Heard> {
        if self.asked >= parallel {
            return None;
        }
        for has_all in [false, true] {
            let mut answered = 0;
            for at in 0..self.entries.len() {
                if !has_all && !self.is_first(at) {
                    continue;
                }
                let entry = &mut self.entries[at];
                match entry.standing {
                    Standing::Heard if !taken.contains(&entry.heard.id()) => {
                        entry.standing = Standing::Asked;
                        self.asked += 1;
                        return Some(entry.heard.clone());
                    }
                    Standing::Answered => answered += 1,
                    Standing::Heard | Standing::Asked | Standing::Failed => {}
                }
                if answered >= self.share {
                    return None;
                }
            }
        }
        None
    }

    /// The nodes that no path has asked, the closest first.
    pub(super) fn left(
        &self,
        taken: &BTreeSet<NodeId>,
    ) -> impl Iterator<Item = (Distance, Option<Prefix>, NodeId)> {
        let is_left =
            |entry: &&Entry| entry.standing == Standing::Heard && !taken.contains(&entry.heard.id());
        self.entries.iter().filter(is_left).map(|entry| (entry.distance, entry.prefix, entry.heard.id()))
    }

    /// The node is asked whatever the path's share.
    pub(super) fn ask(&mut self, id: &NodeId) -> Option<Heard> {
        let entry = self.entries.iter_mut().find(|entry| entry.heard.id() == *id)?;
        entry.standing = Standing::Asked;
        self.asked += 1;
        Some(entry.heard.clone())
    }

    /// The node that was asked is done with; none when this path did not ask it.
    pub(super) fn settle(&mut self, id: &NodeId, has_answered: bool) -> Option<(Distance, Heard, usize)> {
        let is_it = |entry: &&mut Entry| entry.standing == Standing::Asked && entry.heard.id() == *id;
        let entry = self.entries.iter_mut().find(is_it)?;
        entry.standing = if has_answered { Standing::Answered } else { Standing::Failed };
        self.asked -= 1;
        Some((entry.distance, entry.heard.clone(), entry.answers))
    }

    /// Whether a node that this path asked has answered. Such a node is never forgotten.
    pub(super) fn has_answered(&self, id: &NodeId) -> bool {
        self.entries.iter().any(|entry| entry.standing == Standing::Answered && entry.heard.id() == *id)
    }

    /// The nodes that this path asked and that did not answer.
    pub(super) fn failed(&self) -> impl Iterator<Item = (Distance, &Heard)> {
        let failed = self.entries.iter().filter(|entry| entry.standing == Standing::Failed);
        failed.map(|entry| (entry.distance, &entry.heard))
    }

    /// Whether this path was told of a node.
    pub(super) fn has_heard(&self, distance: Distance) -> bool {
        self.entries.binary_search_by_key(&distance, |entry| entry.distance).is_ok()
    }

    pub(super) const fn asked(&self) -> usize {
        self.asked
    }
}
