//! Who is a holder and who can reach whom: holders that go and come, clients that do not see all of them, a network in two.

use dunlin_codec::args::{Ack, Ballot, Promise, Request};
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::Operation;

use super::super::super::state::scope_of;
use super::super::super::{Answer, Holders, Members, ReadRow, read_row};
use super::super::kit::{encoded, key as parsed};
use super::Cluster;

/// What a holder tells, without its members.
pub(super) fn memberless(answer: Answer) -> Answer {
    match Ack::parse(&answer.payload) {
        Ok(Ack::Stored(found, Some(promise))) if answer.is_ack => {
            let promise = Promise { members: None, ..promise };
            Answer { is_ack: true, payload: encoded(|out| Ack::Stored(found, Some(promise)).write(out)) }
        }
        _ => answer,
    }
}

/// A question that says that it was made of something else: so that a holder does not mind its members.
pub(super) fn elsewhere(arguments: &[u8]) -> Vec<u8> {
    let Ok(Request::Store(mut store)) = Request::parse(Operation::Store, arguments) else {
        panic!("a store")
    };
    let other = |base: Ballot| Ballot { counter: base.counter + 1, ..base };
    store.options.base = store.options.base.map(other);
    encoded(|out| Request::Store(store).write(out))
}

impl Cluster {
    pub(super) fn is_cut_off(&self, one: &NodeId, other: &NodeId) -> bool {
        let is_apart = self.side.as_ref().is_some_and(|side| side.contains(one) != side.contains(other));
        is_apart || self.blind.contains(&(*one, *other)) || self.blind.contains(&(*other, *one))
    }

    /// What a lookup finds: all members where nobody is cut off; else those that answer, and the others are known.
    pub(super) fn holders(&mut self, who: &NodeId) -> Holders {
        let ids: Vec<NodeId> = self.members.iter().map(|member| self.id(*member)).collect();
        if self.weather.is_split {
            let one = ids[self.rng.below(4) as usize];
            return Holders::all(vec![one]);
        }
        if !self.weather.is_cut_up {
            return Holders::all(ids);
        }
        let members = self.members.iter().filter(|member| self.nodes[**member].is_up);
        let found = members.map(|member| self.id(*member)).filter(|id| !self.is_cut_off(who, id));
        let found: Vec<NodeId> = found.collect();
        if self.weather.is_loose {
            Holders::all(found)
        } else {
            Holders { found, known: ids, ..Holders::default() }
        }
    }

    fn is_settled(&self, node: usize, key: &[u8]) -> bool {
        let scope = scope_of(&parsed(key));
        let place = [&b"r"[..], &scope].concat();
        let row = self.nodes[node].disk.get(&place).map(|row| read_row(&place, row).unwrap());
        // Two changes before anything was decided leave nothing that overlaps.
        matches!(row, Some(ReadRow::Register(row)) if row.promise.is_settled && row.promise.accepted.is_some())
    }

    /// Nobody who is gone is a member by what any holder has accepted.
    fn has_moved_on(&self, key: &[u8]) -> bool {
        let place = [&b"r"[..], &scope_of(&parsed(key))].concat();
        let ids: Vec<NodeId> = self.members.iter().map(|member| self.id(*member)).collect();
        let rows = self.members.iter().filter_map(|member| self.nodes[*member].disk.get(&place));
        rows.into_iter().all(|row| match read_row(&place, row) {
            Ok(ReadRow::Register(row)) => {
                let members = Members::read(row.promise.members);
                members.iter().all(|id| ids.contains(&id))
            }
            other => panic!("{other:?}"),
        })
    }

    /// A new holder takes the place of another, when what was decided has got to the last one that came. Clients may count on those before;
    /// where lookups find whoever answers, whoever has gone is gone for good.
    pub(super) fn change(&mut self) {
        let newest = self.members.iter().copied().max().unwrap();
        let is_first = newest < self.weather.count();
        let keys = self.keys.clone();
        let is_settled = is_first || keys.iter().all(|key| self.is_settled(newest, key));
        if self.nodes.len() > 60 {
            return;
        }
        if self.weather.is_cut_up && !(is_settled && keys.iter().all(|key| self.has_moved_on(key))) {
            let is_under_way = self.tasks.values().any(|running| running.settles.is_some());
            let member = self.members[self.rng.below(self.members.len() as u64) as usize];
            let is_up = self.nodes[member].is_up && !is_under_way;
            return keys.iter().filter(|_| is_up).for_each(|key| self.refresh(member, key));
        }
        if !is_settled {
            for key in keys {
                let scope = scope_of(&parsed(&key));
                if self.nodes[newest].is_up && !self.is_settled(newest, &key) {
                    self.settle(newest, (scope, &key));
                }
            }
            return;
        }
        let place = self.rng.below(self.members.len() as u64) as usize;
        let gone = core::mem::replace(&mut self.members[place], self.nodes.len());
        self.add_node();
        if self.weather.is_cut_up {
            self.nodes[gone].is_up = false;
            self.nodes[gone].is_gone = true;
            self.nodes[gone].queue.clear();
        }
        self.changes += 1;
    }

    /// Each client loses sight of some holders; now and then the network falls into two, or is one again.
    pub(super) fn cut_up(&mut self) {
        let ids: Vec<NodeId> = self.members.iter().map(|member| self.id(*member)).collect();
        self.blind.clear();
        for client in self.clients.clone() {
            for _ in 0..self.rng.below(4) {
                let at = self.rng.below(ids.len() as u64) as usize;
                self.blind.insert((client, ids[at]));
            }
        }
        if self.side.take().is_none() && self.rng.below(3) == 0 {
            let all: Vec<NodeId> = ids.into_iter().chain(self.clients.clone()).collect();
            self.side = Some(all.into_iter().filter(|_| self.rng.below(2) == 0).collect());
            self.partitions += 1;
        }
    }
}
