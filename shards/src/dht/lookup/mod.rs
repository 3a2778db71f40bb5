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
//! Keys can be ground until they are closer to a place than anybody's, addresses cannot: of a result one node of a public
//! /24 or /48 counts, as long as there are others, and a network of which [`LOOKUP_PREFIX_QUESTIONS`] were asked waits until
//! nobody else is left (T9, `dht/diverse`).
//!
//! spec: p2p/lookup

mod path;

use std::collections::{BTreeMap, BTreeSet};

use dunlin_codec::args::NODES_MAX;
use dunlin_codec::ids::{Address, NodeId};

use super::contact::{Contact, Heard};
use super::diverse::Choice;
use super::space::{Distance, Space};
use super::table::Prefix;
use crate::limits::{LOOKUP_PATHS, LOOKUP_PREFIX_QUESTIONS, LOOKUP_QUESTIONS_MAX};
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

/// A node that answered.
#[derive(Clone, Debug)]
struct Answered {
    distance: Distance,
    prefix: Option<Prefix>,
    heard: Heard,
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
    answered: Vec<Answered>,
    /// How often each network was asked.
    prefixes: BTreeMap<Prefix, usize>,
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
            prefixes: BTreeMap::new(),
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
        if let Some(prefix) = prefix_of(&heard) {
            *self.prefixes.entry(prefix).or_default() += 1;
        }
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

    /// Every path has ended: the closest of all that were heard of, that no path has asked, and that would be a result.
    fn next_of_all(&mut self) -> Option<Heard> {
        if self.under_way() >= self.plan.parallel * self.plan.paths {
            return None;
        }
        let bar = self.bar();
        let paths = self.paths.iter().enumerate();
        let left = paths.flat_map(|(at, path)| path.left(&self.taken).map(move |node| (node, at)));
        let useful = left.filter(|((distance, prefix, _), _)| self.is_useful(*distance, *prefix, bar));
        let (.., id, at) = useful
            .map(|((distance, prefix, id), at)| (self.is_asked_enough(prefix), distance, id, at))
            .min()?;
        self.paths[at].ask(&id)
    }

    fn is_asked_enough(&self, prefix: Option<Prefix>) -> bool {
        prefix
            .and_then(|prefix| self.prefixes.get(&prefix))
            .is_some_and(|count| *count >= LOOKUP_PREFIX_QUESTIONS)
    }

    /// Nobody of that network has answered from closer.
    fn is_first(&self, distance: Distance, prefix: Option<Prefix>) -> bool {
        let mut closer = self.answered.iter().take_while(|result| result.distance < distance);
        prefix.is_none() || closer.all(|result| result.prefix != prefix)
    }

    /// How far the farthest result is that is the first of its network, and the farthest that is not; none: there is room.
    fn bar(&self) -> Option<(Option<Distance>, Option<Distance>)> {
        let results = self.results();
        let farthest = |is_first: bool| {
            let mut results = results.iter().rev().map(|at| &self.answered[*at]);
            results.find(|one| self.is_first(one.distance, one.prefix) == is_first).map(|one| one.distance)
        };
        (results.len() >= self.plan.replication).then(|| (farthest(true), farthest(false)))
    }

    /// Whether a node would be a result if it answered.
    fn is_useful(
        &self,
        distance: Distance,
        prefix: Option<Prefix>,
        bar: Option<(Option<Distance>, Option<Distance>)>,
    ) -> bool {
        let Some((first, other)) = bar else { return true };
        if self.is_first(distance, prefix) {
            other.is_some() || first.is_some_and(|first| distance < first)
        } else {
            other.is_some_and(|other| distance < other)
        }
    }

    /// Which of those that answered are the result, the closest first.
    fn results(&self) -> Vec<usize> {
        let mut choice = Choice::default();
        let count = self.plan.replication;
        for (at, result) in self.answered.iter().enumerate() {
            if choice.offer(at, result.prefix, count) {
                break;
            }
        }
        choice.finish(count);
        choice.chosen().to_vec()
    }

    /// The node whose place was looked for has answered: there is nothing closer.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.answered.first().is_some_and(|result| Space::place(&result.heard.id()) == self.place)
    }

    /// A node answered, as itself: `told` are the nodes that it knows, sixteen at most (T9).
    pub fn on_answer(&mut self, id: &NodeId, told: impl IntoIterator<Item = Heard>) {
        let Some((path, (distance, heard, answers))) = self.settle(id, true) else { return };
        let rounds = answers + 1;
        self.effort.answered += 1;
        self.effort.rounds = self.effort.rounds.max(rounds);
        let at = self.answered.partition_point(|other| other.distance < distance);
        let prefix = prefix_of(&heard);
        self.answered.insert(at, Answered { distance, prefix, heard });
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

    /// The closest nodes that answered, the closest first; k at most, and of a public network one alone as long as there are
    /// others.
    pub fn closest(&self) -> impl Iterator<Item = &Heard> {
        self.results().into_iter().map(|at| &self.answered[at].heard)
    }

    /// The closest node that answered behind those: a copy there is on the way of whoever looks.
    #[must_use]
    pub fn behind(&self) -> Option<&Heard> {
        let results = self.results();
        let mut answered = self.answered.iter().enumerate();
        answered.find(|(at, _)| !results.contains(at)).map(|(_, result)| &result.heard)
    }

    /// Nodes that did not answer, of whom two paths were told at least: one liar cannot make them up. In no order.
    pub fn silent(&self) -> impl Iterator<Item = &Heard> {
        let failed = self.paths.iter().flat_map(Path::failed);
        let is_known = |distance| self.paths.iter().filter(|path| path.has_heard(distance)).count() >= 2;
        failed.filter(move |(distance, _)| is_known(*distance)).map(|(_, heard)| heard)
    }

    /// The closest nodes that answered, each with the number of the path that asked it: whoever is to be believed by agreement is found over
    /// several.
    pub fn closest_by_path(&self) -> impl Iterator<Item = (NodeId, usize)> {
        self.closest().filter_map(|heard| {
            let id = heard.id();
            Some((id, self.paths.iter().position(|path| path.has_answered(&id))?))
        })
    }
}

fn prefix_of(heard: &Heard) -> Option<Prefix> {
    heard.endpoint().and_then(|endpoint| Prefix::of(endpoint.ip()))
}

#[cfg(test)]
mod tests;
