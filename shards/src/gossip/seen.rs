//! Ids of messages that were verified: two generations, of which the older is forgotten whole.
//!
//! In:    ids, time.
//! Out:   whether one was seen.
//! Holds: an id that was entered is known for [`SEEN_LIFE`] at least, unless more than [`SEEN_COUNT_MAX`] came in that time;
//!        then [`Seen::is_whole`] says no for as long as something may be missing.
//!
//! It keeps 64 bits of each id under a key of our own: that two of a full table are the same happens once in 2^43 messages,
//! and nobody outside can make it happen.

use core::hash::{BuildHasher, Hasher};

use dunlin_codec::message::SignedMessageId;

use crate::hash::HashKey;
use crate::limits::{SEEN_COUNT_MAX, SEEN_LIFE};
use crate::mutants::{Mutant, planted};
use crate::time::Instant;

/// Places of a generation that has something, at first.
const PLACES_MIN: usize = 256;

/// What was seen lately.
#[derive(Debug)]
pub struct Seen {
    key: HashKey,
    young: Prints,
    old: Prints,
    turned_at: Instant,
    /// When a generation was full before its time.
    cut_at: Option<Instant>,
}

impl Seen {
    /// Nothing was seen. The key is drawn at start.
    #[must_use]
    pub const fn new(key: HashKey) -> Self {
        Self { key, young: Prints::EMPTY, old: Prints::EMPTY, turned_at: Instant::ZERO, cut_at: None }
    }

    /// Whether it was entered.
    #[must_use]
    pub fn has(&self, id: &SignedMessageId) -> bool {
        let print = self.print(id);
        (self.young.has(print) || self.old.has(print)) && !planted(Mutant::RumourSeenIgnored)
    }

    /// Enters an id; whether it is new.
    pub fn enter(&mut self, now: Instant, id: &SignedMessageId) -> bool {
        let print = self.print(id);
        if self.young.has(print) || self.old.has(print) {
            return false;
        }
        let is_full = self.young.count >= SEEN_COUNT_MAX;
        if is_full || self.turned_at + SEEN_LIFE <= now {
            self.cut_at = if is_full { Some(now) } else { self.cut_at };
            self.old = core::mem::replace(&mut self.young, Prints::EMPTY);
            self.turned_at = now;
        }
        self.young.enter(print);
        true
    }

    /// Everything that was entered in the last [`SEEN_LIFE`] is still known.
    #[must_use]
    pub fn is_whole(&self, now: Instant) -> bool {
        self.cut_at.is_none_or(|at| at + SEEN_LIFE <= now)
    }

    /// Never 0, which stands for an empty place.
    fn print(&self, id: &SignedMessageId) -> u64 {
        let mut hasher = self.key.build_hasher();
        hasher.write(&id.0);
        hasher.finish().max(1)
    }
}

/// A generation: open addressing, half full at most.
#[derive(Debug)]
struct Prints {
    places: Vec<u64>,
    count: usize,
}

impl Prints {
    const EMPTY: Self = Self { places: Vec::new(), count: 0 };

    fn has(&self, print: u64) -> bool {
        !self.places.is_empty() && self.places[self.place_of(print)] == print
    }

    /// Where it is, or would be. There always is an empty place.
    fn place_of(&self, print: u64) -> usize {
        let mask = self.places.len() - 1;
        let mut at = print as usize & mask;
        while self.places[at] != 0 && self.places[at] != print {
            at = (at + 1) & mask;
        }
        at
    }

    fn enter(&mut self, print: u64) {
        if 2 * (self.count + 1) > self.places.len() {
            let len = (2 * self.places.len()).max(PLACES_MIN);
            let before = core::mem::replace(&mut self.places, vec![0; len]);
            for print in before.into_iter().filter(|print| *print != 0) {
                let at = self.place_of(print);
                self.places[at] = print;
            }
        }
        let at = self.place_of(print);
        self.places[at] = print;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn id(number: u64) -> SignedMessageId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        SignedMessageId(id)
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// spec: p2p/seen
    #[test]
    fn what_was_entered_is_known_for_its_time_and_then_forgotten() {
        let mut seen = Seen::new(HashKey([1, 2]));
        assert!(!seen.has(&id(1)));
        for number in 0..10_000 {
            assert!(seen.enter(at(1_000), &id(number)), "{number}");
            assert!(!seen.enter(at(1_000), &id(number)));
        }
        assert!((0..10_000).all(|number| seen.has(&id(number))) && !seen.has(&id(10_000)));
        for second in 1_000..1_000 + SEEN_LIFE.as_secs() {
            seen.enter(at(second), &id(20_000 + second));
            assert!(seen.has(&id(7)), "second {second}");
        }
        for second in 1_300..1_600 + SEEN_LIFE.as_secs() {
            seen.enter(at(second), &id(20_000 + second));
        }
        assert!(!seen.has(&id(7)) && seen.is_whole(at(1_900)));
    }

    /// An id that came shortly before a generation ended is known for its whole time as well.
    /// spec: p2p/seen
    #[test]
    fn what_came_late_in_a_generation_is_known_as_long() {
        let mut seen = Seen::new(HashKey([1, 2]));
        let late = 1_000 + SEEN_LIFE.as_secs() - 1;
        for second in 1_000..late + SEEN_LIFE.as_secs() {
            seen.enter(at(second), &id(second));
            assert!(second < late || seen.has(&id(late)), "second {second}");
        }
    }

    /// More than it has places for: the oldest go first, and it says so for as long as they could come again.
    /// spec: p2p/seen
    #[test]
    fn a_full_generation_is_cut_short_and_that_is_known() {
        let mut seen = Seen::new(HashKey([1, 2]));
        let count = SEEN_COUNT_MAX as u64;
        for number in 0..count {
            seen.enter(at(400), &id(number));
        }
        assert!(seen.is_whole(at(400)));
        seen.enter(at(401), &id(count));
        assert!(!seen.is_whole(at(401)) && !seen.is_whole(at(700)) && seen.is_whole(at(701)));
        assert!(seen.has(&id(0)), "it is in the older generation yet");
        let held = seen.young.places.capacity() + seen.old.places.capacity();
        assert!(held <= 4 * SEEN_COUNT_MAX, "{held} places");
    }
}
