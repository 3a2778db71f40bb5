//! Asking: each holder once, each question with a number of its own.
//!
//! In:    holders; the ends of questions.
//! Out:   whom to ask.
//! Holds: a question ends once; one of an earlier round is nobody's.

use std::collections::{BTreeMap, VecDeque};

use dunlin_codec::ids::NodeId;

/// Whom to ask, and whom we wait for.
#[derive(Debug, Default)]
pub(super) struct Asking {
    waiting: VecDeque<NodeId>,
    open: BTreeMap<u64, NodeId>,
    numbers: u64,
}

impl Asking {
    pub(super) fn new(holders: impl IntoIterator<Item = NodeId>) -> Self {
        Self { waiting: holders.into_iter().collect(), ..Self::default() }
    }

    /// Begins anew; questions that are open are forgotten.
    pub(super) fn restart(&mut self, holders: impl IntoIterator<Item = NodeId>) {
        self.open.clear();
        self.waiting = holders.into_iter().collect();
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
