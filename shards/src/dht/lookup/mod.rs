//! A lookup: from the nodes that we know to those closest to a place, over paths that share no node.
//!
//! In:    the nodes to begin with; what each asked node told, or that it did not.
//! Out:   whom to ask next; at the end the closest nodes that answered.
//! Holds: each node is asked at most once, on one path; a path never asks more than α at once, all of them never more than
//!        [`LOOKUP_QUESTIONS_MAX`]; whoever has not answered is no result.
//!
//! Liars tell of nodes that lie or that are not there. They win the path on which they were believed, not the others: what
//! one path was told, only that path follows. A path ends sloppily, as Kademlia has it: once its share of the closest
//! nodes that it knows has answered, whoever else may be on the way. When all have ended, the closest of all that were
//! heard of are asked, so that what one path found need not be found by the others.
//!
//! We let α count for each path: three questions at once on each of four paths.
//!
//! spec: p2p/lookup

mod path;

use std::collections::BTreeSet;

use dunlin_codec::args::NODES_MAX;
use dunlin_codec::ids::{Address, NodeId};

use super::contact::{Contact, Heard};
use super::space::{Distance, Space};
use crate::limits::{LOOKUP_PATHS, LOOKUP_QUESTIONS_MAX};
use path::Path;

/// What a lookup goes by.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The space of addresses.
    pub space: Space,
    /// How many nodes are wanted: k.
    pub replication: usize,
    /// Questions at once on each path: α.
    pub parallel: usize,
    /// Paths: d.
    pub paths: usize,
}

impl Plan {
    /// As many paths as usual.
    #[must_use]
    pub const fn new(space: Space, replication: usize, parallel: usize) -> Self {
        Self { space, replication, parallel, paths: LOOKUP_PATHS }
    }
}

/// What a lookup did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Effort {
    /// Nodes that were asked.
    pub asked: usize,
    /// Nodes that answered.
    pub answered: usize,
    /// Nodes that did not, or were not who was expected.
    pub failed: usize,
    /// Answers one of which led to the next at most: how often a round trip had to be waited for.
    pub rounds: usize,
}

/// A lookup under way.
#[derive(Clone, Debug)]
pub struct Lookup {
    plan: Plan,
    own: NodeId,
    place: Address,
    paths: Vec<Path>,
    /// Every node that any path has asked.
    taken: BTreeSet<NodeId>,
    answered: Vec<(Distance, Heard)>,
    is_closing: bool,
    is_done: bool,
    effort: Effort,
}

impl Lookup {
    /// Looks for `place`, beginning with the members of a table that are closest to it, the closest first.
    #[must_use]
    pub fn new<'c>(
        plan: Plan,
        own: NodeId,
        place: Address,
        begin: impl IntoIterator<Item = &'c Contact>,
    ) -> Self {
        let share = plan.replication.div_ceil(plan.paths);
        let paths = vec![Path::new(share); plan.paths];
        let mut this = Self {
            plan,
            own,
            place,
            paths,
            taken: BTreeSet::from([own]),
            answered: Vec::new(),
            is_closing: false,
            is_done: false,
            effort: Effort::default(),
        };
        for (at, contact) in begin.into_iter().enumerate() {
            this.hear(at % plan.paths, contact.heard(), 0);
        }
        this
    }

    /// What is looked for.
    #[must_use]
    pub const fn place(&self) -> Address {
        self.place
    }

    /// What was done so far.
    #[must_use]
    pub const fn effort(&self) -> Effort {
        self.effort
    }

    fn distance(&self, id: &NodeId) -> Distance {
        self.plan.space.distance(&self.place, &Space::place(id))
    }

    fn hear(&mut self, path: usize, heard: Heard, answers: usize) {
        if heard.id() == self.own || heard.endpoint().is_none() {
            return;
        }
        let distance = self.distance(&heard.id());
        self.paths[path].hear(distance, heard, answers);
    }

    /// The next node to be asked for what is close to [`Self::place`]. Check its record first; a bad one is a failure.
    pub fn poll_question(&mut self) -> Option<Heard> {
        let next = self.next();
        let Some(heard) = next else {
            self.is_done = self.under_way() == 0;
            return None;
        };
        self.taken.insert(heard.id());
        self.effort.asked += 1;
        Some(heard)
    }

    fn under_way(&self) -> usize {
        self.paths.iter().map(Path::asked).sum()
    }

    fn next(&mut self) -> Option<Heard> {
        if self.effort.asked >= LOOKUP_QUESTIONS_MAX || self.is_found() {
            return None;
        }
        if !self.is_closing {
            let next = self.paths.iter_mut().find_map(|path| path.next(self.plan.parallel, &self.taken));
            if next.is_some() || self.under_way() > 0 {
                return next;
            }
            self.is_closing = true;
        }
        self.next_of_all()
    }

    /// Every path has ended: the closest of all that were heard of and that no path has asked, as long as it is closer than
    /// what is a result already.
    fn next_of_all(&mut self) -> Option<Heard> {
        if self.under_way() >= self.plan.parallel * self.plan.paths {
            return None;
        }
        let bound = self.answered.get(self.plan.replication - 1).map(|(distance, _)| *distance);
        let left = |(at, path): (usize, &Path)| Some((path.closest_left(&self.taken, bound)?, at));
        let ((_, id), at) = self.paths.iter().enumerate().filter_map(left).min()?;
        self.paths[at].ask(&id)
    }

    /// The node whose place was looked for has answered: there is nothing closer.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.answered.first().is_some_and(|(_, heard)| Space::place(&heard.id()) == self.place)
    }

    /// A node answered, as itself: `told` are the nodes that it knows, sixteen at most (T9).
    pub fn on_answer(&mut self, id: &NodeId, told: impl IntoIterator<Item = Heard>) {
        let Some((path, (distance, heard, answers))) = self.settle(id, true) else { return };
        let rounds = answers + 1;
        self.effort.answered += 1;
        self.effort.rounds = self.effort.rounds.max(rounds);
        let at = self.answered.partition_point(|(other, _)| *other < distance);
        self.answered.insert(at, (distance, heard));
        for heard in told.into_iter().take(NODES_MAX) {
            self.hear(path, heard, rounds);
        }
    }

    /// A node did not answer, was somebody else, or its record was bad.
    pub fn on_failure(&mut self, id: &NodeId) {
        if self.settle(id, false).is_some() {
            self.effort.failed += 1;
        }
    }

    fn settle(&mut self, id: &NodeId, has_answered: bool) -> Option<(usize, (Distance, Heard, usize))> {
        let mut paths = self.paths.iter_mut().enumerate();
        paths.find_map(|(at, path)| Some((at, path.settle(id, has_answered)?)))
    }

    /// Nobody is left to be asked, and nobody owes an answer. Known once `poll_question` had nothing more.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// The closest nodes that answered, the closest first; k at most.
    pub fn closest(&self) -> impl Iterator<Item = &Heard> {
        self.answered.iter().take(self.plan.replication).map(|(_, heard)| heard)
    }

    /// The closest node that answered behind those: a copy there is on the way of whoever looks.
    #[must_use]
    pub fn behind(&self) -> Option<&Heard> {
        self.answered.get(self.plan.replication).map(|(_, heard)| heard)
    }

    /// The same nodes, each with the number of the path that asked it: whoever is to be believed by agreement is found over
    /// several.
    pub fn closest_by_path(&self) -> impl Iterator<Item = (NodeId, usize)> {
        self.closest().filter_map(|heard| {
            let id = heard.id();
            Some((id, self.paths.iter().position(|path| path.has_answered(&id))?))
        })
    }
}

#[cfg(test)]
mod tests;
