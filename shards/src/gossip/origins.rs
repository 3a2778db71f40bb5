//! What is known of those who made rumours: which of their numbers were used, how many they made of late.
//!
//! In:    origins of messages that were verified, and their freshness.
//! Out:   how an origin stands with a message that says to be its.
//! Holds: at most [`ORIGINS_MAX`], the one that was heard of longest ago goes first; only what was verified changes anything,
//!        so nobody can speak another's window away.
//!
//! A window is of no use once every message that it refuses is too old anyway: after [`SEEN_LIFE`] without a new one it is
//! taken for empty, and a node whose start happens to have the 16 bits of an earlier one is heard again.
//!
//! spec: p2p/origin-window

use std::collections::HashMap;

use dunlin_codec::ids::NodeId;
use dunlin_codec::message::Freshness;

use crate::budget::{Budget, Rate};
use crate::hash::HashKey;
use crate::limits::{EQUIVOCATION_PENALTY, INSTANCES_ORIGIN_MAX, ORIGINS_MAX, SEEN_LIFE};
use crate::time::Instant;

/// Numbers that a window tells apart, the highest one among them.
const WINDOW_BITS: u64 = 64;

/// How an origin stands with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// Its number was not used yet.
    New,
    /// Its number was used.
    Used,
    /// Its number is too far below the highest one for us to know.
    Old,
    /// The origin made too many.
    TooFast,
    /// The origin was caught.
    Muted,
}

/// The numbers that one start of an origin used.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    instance: u16,
    highest: u64,
    /// Bit n: `highest - n` was used. 0: there is no window.
    used: u64,
    at: Instant,
}

#[derive(Debug)]
struct Origin {
    id: NodeId,
    windows: [Window; INSTANCES_ORIGIN_MAX],
    said: Budget,
    muted_until: Instant,
    /// Neighbours in the order of use.
    newer: u32,
    older: u32,
}

/// No origin.
const NONE: u32 = u32::MAX;

/// All origins.
#[derive(Debug)]
pub(super) struct Origins {
    places: HashMap<NodeId, u32, HashKey>,
    origins: Vec<Origin>,
    newest: u32,
    oldest: u32,
}

impl Window {
    const fn standing(&self, count: u64) -> Standing {
        match self.highest.checked_sub(count) {
            None => Standing::New,
            Some(behind) if behind >= WINDOW_BITS => Standing::Old,
            Some(behind) if self.used >> behind & 1 == 1 => Standing::Used,
            Some(_) => Standing::New,
        }
    }

    fn enter(&mut self, now: Instant, count: u64) {
        if let Some(ahead) = count.checked_sub(self.highest) {
            let moved = if ahead < WINDOW_BITS { self.used << ahead } else { 0 };
            (self.used, self.highest) = (moved | 1, count);
        } else {
            self.used |= 1_u64.checked_shl((self.highest - count) as u32).unwrap_or(0);
        }
        self.at = now;
    }

    fn is_of(&self, now: Instant, instance: u16) -> bool {
        self.used != 0 && self.instance == instance && self.at + SEEN_LIFE > now
    }
}

impl Origins {
    /// Nobody. The key is drawn at start.
    pub(super) fn new(key: HashKey) -> Self {
        Self { places: HashMap::with_hasher(key), origins: Vec::new(), newest: NONE, oldest: NONE }
    }

    /// How the origin stands with a message that nobody has verified. Changes nothing.
    pub(super) fn standing(&self, now: Instant, from: &NodeId, freshness: Freshness, rate: Rate) -> Standing {
        let Some(origin) = self.places.get(from).map(|at| &self.origins[*at as usize]) else {
            return if rate.per_second == 0 { Standing::TooFast } else { Standing::New };
        };
        if origin.muted_until > now {
            return Standing::Muted;
        }
        let window = origin.windows.iter().find(|window| window.is_of(now, freshness.instance));
        let standing = window.map_or(Standing::New, |window| window.standing(freshness.count));
        let is_fast = standing == Standing::New && !rate.is_ready(origin.said, now);
        if is_fast { Standing::TooFast } else { standing }
    }

    /// A message of the origin was verified and taken.
    pub(super) fn enter(&mut self, now: Instant, from: &NodeId, freshness: Freshness, rate: Rate) {
        let origin = self.place_for(from);
        rate.take(&mut origin.said, now, 1);
        let found = origin.windows.iter().position(|window| window.is_of(now, freshness.instance));
        let at = found.unwrap_or_else(|| {
            let stalest = origin.windows.iter().enumerate().min_by_key(|(_, window)| window.at);
            let at = stalest.map_or(0, |(at, _)| at);
            origin.windows[at] = Window { instance: freshness.instance, ..Window::default() };
            at
        });
        origin.windows[at].enter(now, freshness.count);
    }

    /// The origin said two things under one number: nothing of it is taken for a while.
    pub(super) fn mute(&mut self, now: Instant, from: &NodeId) {
        self.place_for(from).muted_until = now + EQUIVOCATION_PENALTY;
    }

    /// The origin's place, the newest from now on; the oldest's when there is no other.
    fn place_for(&mut self, id: &NodeId) -> &mut Origin {
        let known = self.places.get(id).copied();
        let at = known.unwrap_or_else(|| self.admit(id));
        if known.is_some() {
            self.unlink(at);
        }
        self.link_newest(at);
        &mut self.origins[at as usize]
    }

    fn admit(&mut self, id: &NodeId) -> u32 {
        let origin = Origin {
            id: *id,
            windows: Default::default(),
            said: Budget::default(),
            muted_until: Instant::ZERO,
            newer: NONE,
            older: NONE,
        };
        let at = if self.origins.len() < ORIGINS_MAX {
            self.origins.push(origin);
            self.origins.len() as u32 - 1
        } else {
            let at = self.oldest;
            self.unlink(at);
            self.places.remove(&self.origins[at as usize].id);
            self.origins[at as usize] = origin;
            at
        };
        self.places.insert(*id, at);
        at
    }

    fn unlink(&mut self, at: u32) {
        let Origin { newer, older, .. } = self.origins[at as usize];
        match self.origins.get_mut(newer as usize) {
            Some(origin) => origin.older = older,
            None => self.newest = older,
        }
        match self.origins.get_mut(older as usize) {
            Some(origin) => origin.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = core::mem::replace(&mut self.newest, at);
        let origin = &mut self.origins[at as usize];
        (origin.newer, origin.older) = (NONE, before);
        match self.origins.get_mut(before as usize) {
            Some(origin) => origin.newer = at,
            None => self.oldest = at,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const FREE: Rate = Rate::UNLIMITED;

    fn origins() -> Origins {
        Origins::new(HashKey([1, 2]))
    }

    fn node(number: u32) -> NodeId {
        let mut id = [9; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    const fn fresh(instance: u16, count: u64) -> Freshness {
        Freshness { time_ms: 0, instance, count }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(1_000 + seconds)
    }

    proptest! {
        /// A window says of each number what a set of all numbers would, or that it does not know.
        /// spec: p2p/origin-window
        #[test]
        fn a_window_is_a_set_that_forgets(counts in prop::collection::vec(0_u64..300, 1..200)) {
            let mut origins = origins();
            let mut all = BTreeSet::new();
            for count in counts {
                let standing = origins.standing(at(0), &node(1), fresh(1, count), FREE);
                let highest = all.last().copied().unwrap_or(0);
                let expected = match () {
                    () if count + 64 <= highest => Standing::Old,
                    () if all.contains(&count) => Standing::Used,
                    () => Standing::New,
                };
                prop_assert_eq!(standing, expected);
                if standing == Standing::New {
                    origins.enter(at(0), &node(1), fresh(1, count), FREE);
                    all.insert(count);
                }
            }
        }
    }

    /// spec: p2p/origin-window
    #[test]
    fn the_four_newest_starts_of_an_origin_are_told_apart() {
        let mut origins = origins();
        for instance in 0..5 {
            origins.enter(at(instance), &node(1), fresh(instance as u16, 7), FREE);
        }
        let standing = |instance| origins.standing(at(5), &node(1), fresh(instance, 7), FREE);
        assert_eq!(standing(0), Standing::New, "the fifth took its place");
        assert!((1..5).all(|instance| standing(instance) == Standing::Used));
        let later = at(4) + SEEN_LIFE;
        assert_eq!(origins.standing(later, &node(1), fresh(4, 3), FREE), Standing::New, "its time is over");
    }

    /// However many others speak, an origin that was heard of of late keeps its window; the table stays within its bound.
    /// spec: p2p/origin-window
    #[test]
    fn the_origin_that_was_silent_for_longest_is_forgotten_first() {
        let mut origins = origins();
        for number in 0..ORIGINS_MAX as u32 {
            origins.enter(at(0), &node(number), fresh(1, 1), FREE);
        }
        origins.enter(at(1), &node(0), fresh(1, 2), FREE);
        for number in 0..100 {
            origins.enter(at(1), &node(1_000_000 + number), fresh(1, 1), FREE);
        }
        let standing = |number| origins.standing(at(1), &node(number), fresh(1, 1), FREE);
        assert_eq!(
            (standing(0), standing(1), standing(100), standing(101)),
            (Standing::Used, Standing::New, Standing::New, Standing::Used)
        );
        assert_eq!((origins.origins.len(), origins.places.len()), (ORIGINS_MAX, ORIGINS_MAX));
    }

    /// spec: p2p/rumour-budget
    #[test]
    fn an_origin_has_its_rate() {
        let mut origins = origins();
        let rate = Rate { per_second: 1, burst: 10 };
        let mut taken = 0;
        for count in 0..100 {
            if origins.standing(at(0), &node(1), fresh(1, count), rate) == Standing::New {
                origins.enter(at(0), &node(1), fresh(1, count), rate);
                taken += 1;
            }
        }
        assert_eq!(taken, 10);
        assert_eq!(origins.standing(at(0), &node(1), fresh(1, 50), rate), Standing::TooFast);
        assert_eq!(
            origins.standing(at(0), &node(2), fresh(1, 50), rate),
            Standing::New,
            "others are not hurt"
        );
        assert_eq!(origins.standing(at(1), &node(1), fresh(1, 50), rate), Standing::New);
    }
}
