//! Searches: lookups under way, each question an errand.
//!
//! In:    a place.
//! Out:   errands; a notice at the end.
//! Holds: at most [`SEARCHES_MAX`] at once; a record whose signature does not hold is never called (T10).

use dunlin_codec::ids::Address;

use super::errand::{Errand, Purpose};
use super::{Neighbours, Notice};
use crate::dht::contact::Heard;
use crate::dht::lookup::Lookup;
use crate::dht::table::Audience;
use crate::limits::SEARCHES_MAX;
use crate::time::Now;

impl Neighbours {
    /// Looks a place up; `Notice::Found` with this number ends it. None: too many are under way.
    pub fn search(&mut self, now: Now, place: Address) -> Option<u64> {
        self.begin(now);
        let number = self.begin_search(place);
        self.work();
        number
    }

    pub(super) fn begin_search(&mut self, place: Address) -> Option<u64> {
        if self.searches.len() >= SEARCHES_MAX {
            return None;
        }
        let number = self.number();
        let mut begin = Vec::new();
        self.table.closest(&place, (self.plan.replication, Audience::Own), &mut begin);
        let lookup = Lookup::new(self.plan, self.own.id(), place, begin);
        self.table.on_looked_up(self.bench.now, &place);
        self.searches.insert(number, lookup);
        Some(number)
    }

    /// Every search asks whom it may.
    pub(super) fn work(&mut self) {
        let numbers: Vec<u64> = self.searches.keys().copied().collect();
        for number in numbers {
            self.work_search(number);
        }
    }

    fn work_search(&mut self, number: u64) {
        while let Some(heard) = self.searches.get_mut(&number).and_then(Lookup::poll_question) {
            let is_signed = heard.check(&self.bench.terms.network, self.wall).is_ok();
            match heard.endpoint().filter(|_| is_signed) {
                Some(endpoint) => {
                    let purpose = Purpose::Search(number);
                    self.run_errand(Errand::new(heard.id(), endpoint, purpose));
                }
                None => {
                    if let Some(lookup) = self.searches.get_mut(&number) {
                        lookup.on_failure(&heard.id());
                    }
                }
            }
        }
        if self.searches.get(&number).is_some_and(Lookup::is_done)
            && let Some(lookup) = self.searches.remove(&number)
        {
            let nodes: Vec<Heard> = lookup.closest().cloned().collect();
            self.notices.push_back(Notice::Found { search: number, nodes });
        }
    }
}
