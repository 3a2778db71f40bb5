//! A round: every holder is asked once, and answers or does not.
//!
//! In:    the holders, their answers.
//! Out:   whom to ask; what they said.
//! Holds: each holder is counted once.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_codec::args::{Nack, Reason};
use dunlin_codec::ids::NodeId;

use super::super::Answer;
use super::super::asking::Asking;
use super::super::survey::Told;

/// One round.
#[derive(Debug, Default)]
pub(super) struct Round {
    asking: Asking,
    promises: BTreeMap<NodeId, Told>,
    accepted: BTreeSet<NodeId>,
    reasons: Vec<Reason>,
    highest: u64,
}

impl Round {
    /// The next round; questions of this one are nobody's any more.
    pub(super) fn restart(&mut self, holders: impl IntoIterator<Item = NodeId>) {
        let mut asking = core::mem::take(&mut self.asking);
        asking.restart(holders);
        *self = Self { asking, ..Self::default() };
    }

    pub(super) fn next(&mut self) -> Option<(u64, NodeId)> {
        self.asking.next()
    }

    /// A question ended: whom it was for.
    pub(super) fn end(&mut self, number: u64) -> Option<NodeId> {
        self.asking.end(number)
    }

    pub(super) fn on_promise(&mut self, from: NodeId, told: Told) {
        self.promises.insert(from, told);
    }

    pub(super) fn on_accepted(&mut self, from: NodeId) {
        self.accepted.insert(from);
    }

    /// An answer that is none is none: nobody knows what became of the question.
    pub(super) fn on_refusal(&mut self, answer: &Answer) {
        match Nack::parse(&answer.payload) {
            Ok(Nack::Store(nack)) if !answer.is_ack => {
                self.reasons.push(nack.reason);
                self.highest = self.highest.max(nack.promised.map_or(0, |promised| promised.counter));
            }
            Ok(Nack::Plain(_, reason)) if !answer.is_ack => self.reasons.push(reason),
            _ => {}
        }
    }

    pub(super) fn promises(&self) -> impl Iterator<Item = &Told> + Clone {
        self.promises.values()
    }

    /// Whoever has promised, and what it told.
    pub(super) fn told(&self) -> impl Iterator<Item = (NodeId, &Told)> + Clone {
        self.promises.iter().map(|(from, told)| (*from, told))
    }

    pub(super) fn has_promised(&self, holder: &NodeId) -> bool {
        self.promises.contains_key(holder)
    }

    pub(super) fn has_accepted(&self, holder: &NodeId) -> bool {
        self.accepted.contains(holder)
    }

    /// Somebody has accepted.
    pub(super) fn is_begun(&self) -> bool {
        !self.accepted.is_empty()
    }

    /// Asks these as well.
    pub(super) fn also(&mut self, holders: impl IntoIterator<Item = NodeId>) {
        self.asking.also(holders);
    }

    /// Whether it may still answer.
    pub(super) fn awaits(&self, holder: &NodeId) -> bool {
        self.asking.awaits(holder)
    }

    /// Holders that may still answer.
    pub(super) fn left(&self) -> usize {
        self.asking.left()
    }

    pub(super) fn is_over(&self) -> bool {
        self.left() == 0
    }

    /// The highest counter that a refusal told of.
    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// The reason that most give, of those that are no mere race.
    pub(super) fn reason(&self) -> Option<Reason> {
        let races = [Reason::BallotTooLow, Reason::Busy];
        let count = |reason: Reason| self.reasons.iter().filter(|other| **other == reason).count();
        let others = self.reasons.iter().copied().filter(|reason| !races.contains(reason));
        let most = others.max_by_key(|reason| count(*reason));
        most.filter(|reason| count(*reason) > self.reasons.len() / 2)
    }
}
