//! Members: the holders under whom a register's state was accepted, and what makes two decisions overlap.
//!
//! In:    members as they were told, who has promised or accepted.
//! Out:   whether a majority of them has; the members of the next state; which of the states that were told counts.
//! Holds: each list is in ascending order, and 16 identities at most.
//!
//! Two lookups find different holders, and majorities of different sets need not overlap. So a state names its members, in two
//! lists: those *before* and those *now*. It is decided once a majority of either has accepted it, and whoever goes on from it needs
//! promises of a majority of either, wherever its own lookup led (the joint consensus of Raft, in a register's state). A proposal keeps
//! the members of the state that it is made of; only where it knows that this one is decided may those *now* become those *before*,
//! with others after them. So of two proposals that go on from a decided state g both have the list of those now of g in them,
//! however many failed proposals lie between, and a majority of that list overlaps with itself: once something is decided, every
//! later proposal is made of that or of something newer.
//!
//! No member list is believed for being told. When a majority of its own two lists, and of those whom the proposer found, tell the same
//! state g, nothing newer has been decided and nothing can be under a lower ballot: that took a majority of those now of g, which tell of
//! g instead and have promised not to accept it any more. Then whatever fewer tell is passed over. A minority of liars can neither
//! freeze nor roll back nor shrink a register whose newest state a majority has. Where nothing has such a majority, since the last
//! proposal did not come to an end or there was none, the newest state that anybody tells is gone on from, by its members and by those of
//! the state that most tell: so one liar cannot make do with fewer. Nor can it stop eight others by members that are not there: what it
//! alone tells is passed over once all have been asked, unless a majority of its members has promised, or they are by and large those that
//! the lookup heard of. Among fewer than eight it is believed: there one may be all that is left on a side of those who decided.
//!
//! Where nobody tells of anything a register is begun only with promises of a majority of all who may have begun it before: the closest of
//! those whom the proposer found, of those who answered it within an hour (`neighbours/hub/lately`; a restart forgets none of them), and
//! of those whom the holders that it asks remember so, whose word counts where a quarter of them, two at least, say the same. Its first
//! members are these, answering or not, and the members after them, too, are the closest that are known: a node that is cut off for a
//! while must not make a register its own, one half of the members after the other. Whoever reaches too few begins nothing.
//!
//! What remains. A partition that lasts for more than an hour: then each side has forgotten the other, and both may decide about a key
//! that nobody decided about before, or whose members are all on the other side; and a network in which newcomers outnumber within an
//! hour those who decided. When a majority of the members is gone at once nothing is decided until they are back or the register's time is
//! over, and nothing is begun within an hour after a majority around its place has gone; as long as fewer go, members that notice bring
//! the state to whoever is closest by then. Whoever may write a register may also name members that do not exist, as it may lock or delete.
//!
//! spec: p2p/members

use std::collections::{BTreeMap, BTreeSet};

use dunlin_codec::args::{Ballot, MEMBERS_MAX, Members as MembersRow};
use dunlin_codec::ids::{Address, NodeId};

use super::majority;
use super::state::{Cell, State};
use super::survey::Told;
use crate::dht::space::Space;
use crate::mutants::{Mutant, planted};

/// Of so many holders one must know of a node that others do not know of.
const BELIEVED_OF: usize = 4;

/// Whoever tells something alone among so many is not believed by itself.
const LONE_AMONG: usize = 8;

/// The holders under whom a state was accepted. Without anybody: it was before members were told.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Members {
    before: Vec<NodeId>,
    now: Vec<NodeId>,
}

/// The holders that a lookup found for a register.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holders {
    /// Those that answered, the closest first.
    pub found: Vec<NodeId>,
    /// The closest that were heard of, whether or not they answered: as many as keep a value.
    pub known: Vec<NodeId>,
    /// By what they are the closest, and how many keep a value.
    pub closest: (Space, usize),
}

impl Default for Holders {
    fn default() -> Self {
        Self { found: Vec::new(), known: Vec::new(), closest: (Space::new(256), MEMBERS_MAX) }
    }
}

impl Holders {
    /// All that there are have answered.
    #[must_use]
    pub fn all(found: Vec<NodeId>) -> Self {
        Self { known: found.clone(), found, ..Self::default() }
    }

    /// All who may have begun a register of which nobody tells: the closest of those that we know of, and of those that enough
    /// holders know of who have never heard of it.
    pub(super) fn all_around<'a>(
        &self,
        place: &Address,
        told: impl Iterator<Item = &'a Told> + Clone,
    ) -> Vec<NodeId> {
        if planted(Mutant::SilentNotCounted) {
            return self.found.clone();
        }
        let promised = told.clone().count();
        let needed = if promised < LONE_AMONG { 1 } else { promised.div_ceil(BELIEVED_OF).max(2) };
        let mut tellers: BTreeMap<NodeId, usize> = BTreeMap::new();
        for id in told.filter(|told| told.accepted.is_none()).flat_map(|told| told.members.now.iter()) {
            *tellers.entry(*id).or_default() += 1;
        }
        let believed = tellers.into_iter().filter(|(_, count)| *count >= needed).map(|(id, _)| id);
        let all: BTreeSet<NodeId> = self.known.iter().copied().chain(believed).collect();
        let (space, count) = self.closest;
        let mut all: Vec<NodeId> = all.into_iter().collect();
        all.sort_by_cached_key(|id| space.distance(place, &Space::place(id)));
        all.truncate(count);
        all
    }
}

/// Whether more than half of these are such.
pub(super) fn is_majority(ids: &[NodeId], is: impl Fn(&NodeId) -> bool) -> bool {
    ids.iter().filter(|id| is(id)).count() >= majority(ids.len())
}

/// In order, each once, the first sixteen.
fn in_order(ids: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut first = BTreeSet::new();
    for id in ids {
        if first.len() < MEMBERS_MAX {
            first.insert(id);
        }
    }
    first.into_iter().collect()
}

impl Members {
    /// The first, of a state that comes from nowhere.
    pub(super) fn first(known: &[NodeId]) -> Self {
        let now = in_order(known.iter().copied());
        Self { before: now.clone(), now }
    }

    /// Those around the place of a register that was never decided: nobody's members yet.
    pub(super) fn around(ids: &[NodeId]) -> Self {
        Self { before: Vec::new(), now: in_order(ids.iter().copied()) }
    }

    /// As they were told.
    pub(super) fn read(row: Option<MembersRow<'_>>) -> Self {
        row.map_or_else(Self::default, |row| Self {
            before: row.before().collect(),
            now: row.now().collect(),
        })
    }

    /// Runs `then` with the row that says this.
    pub(super) fn with_row<R>(&self, then: impl FnOnce(Option<MembersRow<'_>>) -> R) -> R {
        let bytes = |ids: &[NodeId]| ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>();
        let (before, now) = (bytes(&self.before), bytes(&self.now));
        then(MembersRow::new(&before, &now).ok())
    }

    /// It was before members were told.
    pub(super) const fn is_empty(&self) -> bool {
        self.now.is_empty()
    }

    pub(super) fn contains(&self, id: &NodeId) -> bool {
        self.now.binary_search(id).is_ok() || self.before.binary_search(id).is_ok()
    }

    /// Each of them, some twice.
    pub(super) fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.now.iter().chain(&self.before).copied()
    }

    /// Bytes that they take.
    pub(super) const fn len(&self) -> usize {
        (self.now.len() + self.before.len()) * size_of::<NodeId>()
    }

    /// Whether a majority of either list is such.
    pub(super) fn are_enough(&self, is: impl Fn(&NodeId) -> bool) -> bool {
        is_majority(&self.now, &is) && is_majority(&self.before, is)
    }

    /// The members of what goes on from a decided state: more than half of those now, then the closest that are known, whether or not they
    /// answer, and whoever else has promised as far as there is room.
    pub(super) fn next(&self, known: &[NodeId], has_promised: impl Fn(&NodeId) -> bool) -> Self {
        if self.is_empty() {
            return Self::first(known);
        }
        let stay = known.iter().filter(|id| self.now.contains(id));
        let others = self.now.iter().filter(|id| has_promised(id) && !known.contains(id));
        let first = stay.chain(others.clone()).take(majority(self.now.len()));
        let now = in_order(first.chain(known).chain(others).copied());
        Self { before: self.now.clone(), now }
    }

    /// A state with these comes from nowhere.
    pub(super) fn are_first(&self) -> bool {
        self.before == self.now
    }

    /// Whether a state with these members may go on from one with those of `base`.
    pub(super) fn can_follow(&self, base: &Self) -> bool {
        *self == *base || base.is_empty() || self.before == base.now
    }

    /// Whether most of those now are among these, and most of these among those now.
    fn are_like(&self, known: &[NodeId]) -> bool {
        is_majority(&self.now, |id| known.contains(id)) && is_majority(known, |id| self.now.contains(id))
    }

    /// Whether a step replaces less than half.
    pub(super) fn is_small_step(&self) -> bool {
        !self.is_empty() && is_majority(&self.before, |id| self.now.binary_search(id).is_ok())
    }
}

/// A state that was told, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Camp {
    pub(super) accepted: Ballot,
    pub(super) members: Members,
    /// What is left of a lease is the most that any of them says.
    pub(super) state: State,
    tellers: BTreeSet<NodeId>,
}

impl Camp {
    /// Whether a majority of its members has accepted it; of those that were found where it has none.
    pub(super) fn is_decided(&self, found: &[NodeId]) -> bool {
        let tells = |id: &NodeId| self.tellers.contains(id);
        if self.members.is_empty() { is_majority(found, tells) } else { self.members.are_enough(tells) }
    }

    pub(super) fn is_told_by(&self, id: &NodeId) -> bool {
        self.tellers.contains(id)
    }

    /// Nothing newer was or will be decided below the ballot that its tellers have promised.
    fn is_last(&self, found: &[NodeId]) -> bool {
        self.is_decided(found) && is_majority(found, |id| self.tellers.contains(id))
    }
}

/// The states that holders have accepted, the newest first.
fn camps<'a>(told: impl Iterator<Item = (NodeId, &'a Told)>) -> Vec<Camp> {
    let mut camps: BTreeMap<(Ballot, &Members), BTreeMap<NodeId, &Told>> = BTreeMap::new();
    for (from, told) in told {
        if let Some(accepted) = told.accepted {
            camps.entry((accepted, &told.members)).or_default().insert(from, told);
        }
    }
    let camp = |((accepted, members), told): ((Ballot, &Members), BTreeMap<NodeId, &Told>)| Camp {
        accepted,
        members: members.clone(),
        state: agreed(&told),
        tellers: told.into_keys().collect(),
    };
    let mut camps: Vec<Camp> = camps.into_iter().map(camp).collect();
    camps.sort_by_key(|camp| core::cmp::Reverse((camp.accepted, camp.tellers.len())));
    camps
}

/// The state that holders tell under one ballot: of each key what most say, since one of them may lie. Beside what was decided they tell
/// what they keep of names that never were, which may differ: then the newest counts.
fn agreed(told: &BTreeMap<NodeId, &Told>) -> State {
    let mut variants: BTreeMap<&Vec<u8>, Vec<(Cell, usize)>> = BTreeMap::new();
    for (key, cell) in told.values().flat_map(|told| &told.state) {
        let known = variants.entry(key).or_default();
        match known.iter_mut().find(|(other, _)| other.is_same(cell)) {
            Some((other, count)) => {
                other.left_ms = other.left_ms.max(cell.left_ms);
                *count += 1;
            }
            None => known.push((cell.clone(), 1)),
        }
    }
    let best = |(one, count): &(Cell, usize), (other, others): &(Cell, usize)| {
        let rank = |cell: &Cell| cell.record().map(|record| record.fields.sequence);
        (count, rank(one)).cmp(&(others, rank(other)))
    };
    let chosen = variants.into_iter().filter_map(|(key, cells)| {
        let (cell, _) = cells.into_iter().max_by(best)?;
        Some((key.clone(), cell))
    });
    chosen.collect()
}

/// What holders told: the state to go on from, and whose promises that takes.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The state to go on from; none: nothing was accepted.
    pub(super) base: Option<Camp>,
    /// A majority has accepted it.
    pub(super) is_decided: bool,
    /// The members whose majority is needed.
    pub(super) needed: Vec<Members>,
}

impl Standing {
    pub(super) fn of<'a>(told: impl Iterator<Item = (NodeId, &'a Told)>, found: &[NodeId]) -> Self {
        Self::of_camps(camps(told), found)
    }

    /// The same without whatever one of [`LONE_AMONG`] tells alone, of members most of whom have neither promised nor are known.
    pub(super) fn of_plausible<'a>(
        told: impl Iterator<Item = (NodeId, &'a Told)>,
        Holders { found, known, .. }: &Holders,
        has_promised: impl Fn(&NodeId) -> bool,
    ) -> Self {
        let mut camps = camps(told);
        let is_among_many = found.iter().filter(|id| has_promised(id)).count() >= LONE_AMONG;
        camps.retain(|Camp { members, tellers, .. }| {
            let is_alone = is_among_many && tellers.len() == 1 && !members.is_empty();
            !is_alone || members.are_like(known) || members.are_enough(&has_promised)
        });
        Self::of_camps(camps, found)
    }

    fn of_camps(camps: Vec<Camp>, found: &[NodeId]) -> Self {
        let last = camps.iter().find(|camp| camp.is_last(found));
        // Of two that as many tell the older one: the newest counts anyway.
        let most = camps.iter().max_by_key(|camp| camp.tellers.len());
        let Some(base) = last.or(camps.first()) else { return Self::default() };
        let needed = [Some(base), most.filter(|_| last.is_none())].into_iter().flatten();
        let needed = needed.map(|camp| camp.members.clone()).filter(|members| !members.is_empty()).collect();
        Self { is_decided: base.is_decided(found), base: Some(base.clone()), needed }
    }

    /// Whether a majority of all whose word is needed has spoken.
    pub(super) fn has_heard(&self, has_spoken: impl Fn(&NodeId) -> bool) -> bool {
        planted(Mutant::MembersIgnored) || self.needed.iter().all(|members| members.are_enough(&has_spoken))
    }
}
