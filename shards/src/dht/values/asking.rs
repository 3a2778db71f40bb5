//! Asking: each holder once, each question with a number of its own.
//!
//! In:    holders; the ends of questions.
//! Out:   whom to ask.
//! Holds: a question ends once; one of an earlier round is nobody's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_codec::args::MEMBERS_MAX;
use dunlin_codec::ids::NodeId;

/// Whom one round asks at most: those that were found, and the members that two states name.
const ASKED_MAX: usize = 5 * MEMBERS_MAX;

/// Whom to ask, and whom we wait for.
#[derive(Debug, Default)]
pub(super) struct Asking {
    waiting: VecDeque<NodeId>,
    open: BTreeMap<u64, NodeId>,
    /// Everybody so far.
    asked: BTreeSet<NodeId>,
    numbers: u64,
}

impl Asking {
    pub(super) fn new(holders: impl IntoIterator<Item = NodeId>) -> Self {
        let mut this = Self::default();
        this.also(holders);
        this
    }

    /// Begins anew; questions that are open are forgotten.
    pub(super) fn restart(&mut self, holders: impl IntoIterator<Item = NodeId>) {
        self.open.clear();
        self.waiting.clear();
        self.asked.clear();
        self.also(holders);
    }

    /// Asks these as well, as far as they are not asked anyway; [`ASKED_MAX`] in all.
    pub(super) fn also(&mut self, holders: impl IntoIterator<Item = NodeId>) {
        for holder in holders {
            if self.asked.len() < ASKED_MAX && self.asked.insert(holder) {
                self.waiting.push_back(holder);
            }
        }
    }

    /// Whether it may still answer.
    pub(super) fn awaits(&self, holder: &NodeId) -> bool {
        self.waiting.contains(holder) || self.open.values().any(|open| open == holder)
    }

    pub(super) fn next(&mut self) -> Option<(u64, NodeId)> {
        let next = self.waiting.pop_front()?;
        Some((self.open_one(next), next))
    }

    /// Asks somebody beside the row.
    pub(super) fn open_one(&mut self, holder: NodeId) -> u64 {
        self.numbers += 1;
        self.open.insert(self.numbers, holder);
        self.numbers
    }

    /// A question ended: whom it was for.
    pub(super) fn end(&mut self, number: u64) -> Option<NodeId> {
        self.open.remove(&number)
    }

    /// Those who may still answer.
    pub(super) fn left(&self) -> usize {
        self.waiting.len() + self.open.len()
    }

    pub(super) fn is_over(&self) -> bool {
        self.left() == 0
    }
}
