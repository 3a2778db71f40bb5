//! The strike register: which early data was delivered already, so that none is delivered twice (T5).
//!
//! In:    the ephemeral keys of Hellos whose early data opened, with the shard that asks.
//! Out:   new, seen (by which shard), or full.
//! Holds: what was once answered with `New` is `Seen` for at least 120 s more; nothing is evicted before its
//!        time.
//!
//! Two generations of 120 s. Each is a row of tables of which every one is twice as long as the one before,
//! so that growing moves nothing; it starts empty, and its first table has room for what the last generation
//! held. A slot is 16 bytes: 15 of the key and the shard plus one.
//! spec: atp/strike-register

use core::ops::Range;

use super::sip::SipKey;
use crate::limits::STRIKE_GENERATION_LIFE;
use crate::mutants::{Mutant, planted};
use crate::time::Instant;

/// Slots of a generation's first table at least.
pub const STRIKE_SLOTS_MIN: usize = 1 << 12;
/// Slots of a generation, for the whole node; a shard gets its share.
pub const STRIKE_SLOTS_MAX: usize = 1 << 20;

/// Slots that one key may lie in, in a row.
const RUN_LEN: usize = 16;
const PRINT_LEN: usize = 15;
const EMPTY: Slot = [0; PRINT_LEN + 1];

type Slot = [u8; PRINT_LEN + 1];

/// What the register knows of a Hello.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strike {
    /// It was never here: deliver its early data.
    New,
    /// It was here, for that shard, which has the half-open session.
    Seen(u8),
    /// Too many came: early data is refused, the handshake goes on.
    Full,
}

/// The register of one shard, for the keys that hash to it.
pub struct StrikeRegister {
    key: SipKey,
    slots_max: usize,
    generation: u64,
    current: Generation,
    previous: Generation,
}

impl StrikeRegister {
    /// An empty register of at most `slots_max` slots a generation (a power of two), hashed under 16 random
    /// bytes.
    ///
    /// # Panics
    /// When `slots_max` is no power of two of 16 at least: the caller's fault.
    #[must_use]
    pub fn new(slots_max: usize, seed: [u8; 16]) -> Self {
        assert!(slots_max.is_power_of_two() && slots_max >= RUN_LEN, "a register of {slots_max} slots");
        Self {
            key: SipKey::new(seed),
            slots_max,
            generation: 0,
            current: Generation::default(),
            previous: Generation::default(),
        }
    }

    /// Asks for the Hello with ephemeral key `e`, on behalf of `shard` (below 128), and remembers it when it
    /// is new.
    #[must_use]
    pub fn strike(&mut self, e: &[u8; 32], shard: u8, now: Instant) -> Strike {
        self.turn(now);
        let mut slot = EMPTY;
        slot[..PRINT_LEN].copy_from_slice(&e[..PRINT_LEN]);
        slot[PRINT_LEN] = shard.saturating_add(1);
        let hash = self.key.hash(&slot[..PRINT_LEN]) as usize;
        if let Some(shard) = self.previous.find(&slot, hash).or_else(|| self.current.find(&slot, hash)) {
            return Strike::Seen(shard);
        }
        if self.current.insert(slot, hash, self.slots_max) { Strike::New } else { Strike::Full }
    }

    /// Bytes that it holds now.
    #[must_use]
    pub fn allocated_len(&self) -> usize {
        (self.current.slots_count() + self.previous.slots_count()) * size_of::<Slot>()
    }

    fn turn(&mut self, now: Instant) {
        let generation = now.as_nanos() / STRIKE_GENERATION_LIFE.as_nanos() as u64;
        if generation <= self.generation {
            return;
        }
        self.previous = core::mem::take(&mut self.current);
        if generation > self.generation + 1 || planted(Mutant::StrikeGenerationForgotten) {
            self.previous = Generation::default();
        }
        self.current.first_len = (self.previous.used_count * 2).next_power_of_two();
        self.generation = generation;
    }
}

/// What came within 120 s.
#[derive(Default)]
struct Generation {
    tables: Vec<Box<[Slot]>>,
    /// Slots used, in all tables.
    used_count: usize,
    first_len: usize,
}

impl Generation {
    fn find(&self, slot: &Slot, hash: usize) -> Option<u8> {
        let print = &slot[..PRINT_LEN];
        self.tables.iter().find_map(|table| {
            let run = table[run(table.len(), hash)].iter().take_while(|other| **other != EMPTY);
            run.filter(|other| other[..PRINT_LEN] == *print).map(|other| other[PRINT_LEN] - 1).next()
        })
    }

    /// Into the first table with room; a new one when none has.
    fn insert(&mut self, slot: Slot, hash: usize, slots_max: usize) -> bool {
        let is_in = self.put(slot, hash) || self.grow(slots_max) && self.put(slot, hash);
        self.used_count += usize::from(is_in);
        is_in
    }

    fn put(&mut self, slot: Slot, hash: usize) -> bool {
        let free = self.tables.iter_mut().find_map(|table| {
            let run = run(table.len(), hash);
            table[run].iter_mut().find(|other| **other == EMPTY)
        });
        free.map(|free| *free = slot).is_some()
    }

    fn grow(&mut self, slots_max: usize) -> bool {
        let wanted = match self.tables.last() {
            Some(last) => last.len() * 2,
            None => self.first_len.max(STRIKE_SLOTS_MIN),
        };
        let left = slots_max - self.slots_count();
        // Never longer than what is left, and a power of two: the last table may be shorter than the one
        // before.
        let len = if wanted <= left { wanted } else { (left + 1).next_power_of_two() / 2 };
        if len < RUN_LEN {
            return false;
        }
        self.tables.push(vec![EMPTY; len].into_boxed_slice());
        true
    }

    fn slots_count(&self) -> usize {
        self.tables.iter().map(|table| table.len()).sum()
    }
}

/// The slots of a key in a table of `len`, a power of two of 16 at least.
fn run(len: usize, hash: usize) -> Range<usize> {
    let start = hash % (len / RUN_LEN) * RUN_LEN;
    start..start + RUN_LEN
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn key(number: u32) -> [u8; 32] {
        let mut key = [0xab; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        key
    }

    /// spec: atp/strike-register
    #[test]
    fn a_hello_is_new_once_and_then_names_its_shard() {
        let mut register = StrikeRegister::new(STRIKE_SLOTS_MAX, [1; 16]);
        assert_eq!(register.allocated_len(), 0);
        assert_eq!(register.strike(&key(1), 5, at(0)), Strike::New);
        assert_eq!(register.strike(&key(1), 6, at(0)), Strike::Seen(5));
        assert_eq!(register.strike(&key(2), 127, at(0)), Strike::New);
        assert_eq!(register.strike(&key(2), 0, at(0)), Strike::Seen(127));
        assert_eq!(register.strike(&[0; 32], 0, at(0)), Strike::New);
        assert_eq!(register.strike(&[0; 32], 1, at(0)), Strike::Seen(0));
    }

    #[test]
    fn it_remembers_for_120_seconds_at_least_and_240_at_most() {
        for begin in [0, 1, 119] {
            let mut register = StrikeRegister::new(STRIKE_SLOTS_MAX, [1; 16]);
            assert_eq!(register.strike(&key(1), 5, at(begin)), Strike::New);
            assert_eq!(register.strike(&key(1), 5, at(begin + 120)), Strike::Seen(5));
            assert_eq!(register.strike(&key(1), 5, at(240)), Strike::New);
            assert_eq!(register.strike(&key(1), 5, at(10_000)), Strike::New, "after a long silence");
        }
    }

    #[test]
    fn it_grows_to_its_share_then_says_full_and_forgets_nothing() {
        let share = 1 << 14;
        let mut register = StrikeRegister::new(share, [1; 16]);
        let mut new_count = 0;
        for number in 0..40_000 {
            match register.strike(&key(number), 1, at(1)) {
                Strike::New => new_count += 1,
                Strike::Full => {}
                Strike::Seen(_) => panic!("{number} was never here"),
            }
            assert!(register.allocated_len() <= share * 16);
        }
        assert!(new_count > share * 8 / 10, "{new_count} of {share}");
        let seen = (0..40_000).filter(|&n| register.strike(&key(n), 2, at(2)) == Strike::Seen(1)).count();
        assert_eq!(seen, new_count);
        assert_eq!(register.strike(&key(50_000), 1, at(120)), Strike::New, "a new generation has room");
        assert!(register.allocated_len() <= 2 * share * 16);
        assert_eq!(register.strike(&key(50_000), 1, at(1_000)), Strike::New);
        assert_eq!(register.allocated_len(), STRIKE_SLOTS_MIN * 16, "and room is given back");
    }

    proptest! {
        /// Against a map of all that came: never new twice within 120 s, never seen without having been here.
        #[test]
        fn it_agrees_with_a_map(
            asked in proptest::collection::vec((0..200u32, 0..128u8, 0..20u64), 1..500)
        ) {
            let mut register = StrikeRegister::new(STRIKE_SLOTS_MIN, [3; 16]);
            let mut map: BTreeMap<u32, (u8, u64)> = BTreeMap::new();
            let mut time = 0;
            for (number, shard, step) in asked {
                time += step;
                let known = map.get(&number).copied();
                match register.strike(&key(number), shard, at(time)) {
                    Strike::New => {
                        prop_assert!(known.is_none_or(|(_, since)| time - since > 120));
                        map.insert(number, (shard, time));
                    }
                    Strike::Seen(by) => prop_assert_eq!(known.map(|(shard, _)| shard), Some(by)),
                    Strike::Full => prop_assert!(false, "200 keys fit"),
                }
            }
        }
    }
}
