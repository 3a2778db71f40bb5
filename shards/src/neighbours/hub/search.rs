//! Searches: lookups under way, each question an errand.
//!
//! In:    a place, and what it is looked for.
//! Out:   errands; at the end word for the application, or for whoever waits to ask the node that was found.
//! Holds: at most [`SEARCHES_MAX`] at once; a record whose signature does not hold is never called (T10).

use dunlin_codec::ids::{Address, NodeId};

use super::{Errand, Hub, Notice, Purpose};
use crate::dht::contact::Heard;
use crate::dht::lookup::{Lookup, Plan};
use crate::dht::table::Audience;
use crate::event::Ticket;
use crate::limits::{LOOKUP_BEGIN_FACTOR, SEARCHES_MAX};

/// What a place is looked up for.
#[derive(Debug)]
pub(super) enum Goal {
    /// To stay acquainted.
    Refresh,
    /// For the application.
    Application(Ticket),
    /// To ask the node whose place it is.
    Reach(Vec<Errand>),
    /// For a job with values: the nodes closest to its key.
    Value(u64),
}

/// A lookup under way.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) lookup: Lookup,
    pub(super) goal: Goal,
}

impl Hub {
    /// Looks a place up. The goal comes back when too many searches are under way.
    pub(super) fn begin_search(&mut self, place: Address, goal: Goal) -> Result<(), Goal> {
        self.begin_search_over(self.plan.paths, place, goal)
    }

    /// The same over so many paths that share no node.
    pub(super) fn begin_search_over(&mut self, paths: usize, place: Address, goal: Goal) -> Result<(), Goal> {
        if self.searches.len() >= SEARCHES_MAX {
            return Err(goal);
        }
        let number = self.number();
        let mut begin = Vec::new();
        let count = LOOKUP_BEGIN_FACTOR * self.plan.replication;
        self.table.closest(&place, (count, Audience::Own), &mut begin);
        let lookup = Lookup::new(Plan { paths, ..self.plan }, self.own.id(), place, begin);
        self.table.on_looked_up(self.now.instant, &place);
        self.searches.insert(number, Search { lookup, goal });
        self.work_search(number);
        Ok(())
    }

    pub(super) fn on_search_answered(&mut self, number: u64, peer: &NodeId, told: Vec<Heard>) {
        if let Some(search) = self.searches.get_mut(&number) {
            search.lookup.on_answer(peer, told);
            self.work_search(number);
        }
    }

    pub(super) fn on_search_failed(&mut self, number: u64, peer: &NodeId) {
        if let Some(search) = self.searches.get_mut(&number) {
            search.lookup.on_failure(peer);
            self.work_search(number);
        }
    }

    /// Asks whom it may; the last answer ends it.
    fn work_search(&mut self, number: u64) {
        while let Some(heard) =
            self.searches.get_mut(&number).and_then(|search| search.lookup.poll_question())
        {
            match heard.endpoint().filter(|_| self.is_signed(&heard)) {
                Some(endpoint) => self.begin_errand(heard.id(), Some(endpoint), Purpose::Search(number)),
                None => {
                    if let Some(search) = self.searches.get_mut(&number) {
                        search.lookup.on_failure(&heard.id());
                    }
                }
            }
        }
        if self.searches.get(&number).is_some_and(|search| search.lookup.is_done())
            && let Some(search) = self.searches.remove(&number)
        {
            self.end_search(search);
        }
    }

    /// What the table has was checked when it came.
    pub(super) fn is_signed(&self, heard: &Heard) -> bool {
        self.table.has_bytes(heard) || heard.check(&self.network, self.now.wall).is_ok()
    }

    fn end_search(&mut self, Search { lookup, goal }: Search) {
        match goal {
            Goal::Refresh => {}
            Goal::Value(job) => self.on_place_found(job, &lookup),
            Goal::Application(ticket) => {
                let nodes = Some(lookup.closest().cloned().collect());
                self.notices.push_back(Notice::Found { ticket, nodes, effort: lookup.effort() });
            }
            Goal::Reach(errands) => {
                let endpoint =
                    lookup.closest().next().filter(|_| lookup.is_found()).and_then(Heard::endpoint);
                for errand in errands {
                    match endpoint {
                        Some(_) => self.run_errand(Errand { endpoint, ..errand }),
                        None => self.on_not_found(errand),
                    }
                }
            }
        }
    }
}
