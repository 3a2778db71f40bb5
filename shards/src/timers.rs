//! A hierarchical timer wheel: one deadline per key, no allocation after `with_keys`.
//!
//! In:    `set`, `cancel`, time.
//! Out:   `next` (when to look again, never late, sometimes early), `expire` (keys whose deadline has come).
//! Holds: a key is in at most one slot; a deadline is never reported before it has come.
//!
//! Eight levels of 64 slots; the lowest slot is 2^15 ns (33 us) wide, so that pacing and acknowledgement
//! timers cost one list operation each. (Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987.)

use crate::time::Instant;

const LEVELS: usize = 8;
const SLOTS: usize = 64;
const SLOT_BITS: u32 = 6;
/// The lowest level's slot width, as a power of two of nanoseconds.
const GRAIN_BITS: u32 = 15;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Instant,
    next: u32,
    previous: u32,
    /// level * SLOTS + slot, or `u16::MAX` when the key has no deadline.
    place: u16,
}

const IDLE: Entry = Entry { deadline: Instant::ZERO, next: NONE, previous: NONE, place: u16::MAX };

/// Deadlines by key.
#[derive(Debug)]
pub struct Timers {
    entries: Vec<Entry>,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
    /// Everything due before this tick has been moved or reported.
    tick: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self::with_keys(0)
    }
}

impl Timers {
    /// A wheel for keys below `keys`.
    #[must_use]
    pub fn with_keys(keys: usize) -> Self {
        Self { entries: vec![IDLE; keys], heads: [[NONE; SLOTS]; LEVELS], occupied: [0; LEVELS], tick: 0 }
    }

    /// Makes room for keys below `keys`; the only call that allocates.
    pub fn grow(&mut self, keys: usize) {
        if keys > self.entries.len() {
            self.entries.resize(keys, IDLE);
        }
    }

    /// Sets or moves the key's deadline.
    pub fn set(&mut self, key: u32, deadline: Instant) {
        let entry = &self.entries[key as usize];
        if entry.place != u16::MAX && entry.deadline == deadline {
            return;
        }
        self.cancel(key);
        self.entries[key as usize].deadline = deadline;
        self.link(key);
    }

    /// Takes the key's deadline away, if it has one.
    pub fn cancel(&mut self, key: u32) {
        let entry = self.entries[key as usize];
        if entry.place == u16::MAX {
            return;
        }
        let (level, slot) = (usize::from(entry.place) / SLOTS, usize::from(entry.place) % SLOTS);
        match entry.previous {
            NONE => self.heads[level][slot] = entry.next,
            previous => self.entries[previous as usize].next = entry.next,
        }
        if entry.next != NONE {
            self.entries[entry.next as usize].previous = entry.previous;
        }
        if self.heads[level][slot] == NONE {
            self.occupied[level] &= !(1 << slot);
        }
        self.entries[key as usize].place = u16::MAX;
    }

    /// When to call `expire` again: not after the earliest deadline, perhaps before it.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        (0..LEVELS).filter_map(|level| self.next_in(level)).min()
    }

    fn next_in(&self, level: usize) -> Option<Instant> {
        let (distance, slot) = self.first_slot(level)?;
        if level == 0 {
            return self.earliest_in(slot);
        }
        let shift = SLOT_BITS * level as u32;
        let start = ((self.tick >> shift) + distance) << shift;
        Some(Instant::from_nanos(start.saturating_mul(1 << GRAIN_BITS)))
    }

    /// The first occupied slot from the present one on, and how far it is.
    fn first_slot(&self, level: usize) -> Option<(u64, usize)> {
        if self.occupied[level] == 0 {
            return None;
        }
        let present = (self.tick >> (SLOT_BITS * level as u32)) as u32 % SLOTS as u32;
        let distance = self.occupied[level].rotate_right(present).trailing_zeros();
        Some((u64::from(distance), (present + distance) as usize % SLOTS))
    }

    fn earliest_in(&self, slot: usize) -> Option<Instant> {
        let mut key = self.heads[0][slot];
        let mut earliest: Option<Instant> = None;
        while key != NONE {
            let entry = &self.entries[key as usize];
            earliest = Some(earliest.map_or(entry.deadline, |known| known.min(entry.deadline)));
            key = entry.next;
        }
        earliest
    }

    /// A key whose deadline has come, and takes it out; None when there is no more at `now`.
    pub fn expire(&mut self, now: Instant) -> Option<u32> {
        let target = now.as_nanos() >> GRAIN_BITS;
        loop {
            if let Some(key) = self.due_in_present_slot(now) {
                self.cancel(key);
                return Some(key);
            }
            if self.tick >= target {
                return None;
            }
            self.advance(target);
        }
    }

    fn due_in_present_slot(&self, now: Instant) -> Option<u32> {
        let mut key = self.heads[0][self.tick as usize % SLOTS];
        while key != NONE {
            let entry = &self.entries[key as usize];
            if entry.deadline <= now {
                return Some(key);
            }
            key = entry.next;
        }
        None
    }

    /// Goes on to the next tick at which anything is due or moves down, at most to `target`.
    fn advance(&mut self, target: u64) {
        let mut next = target;
        for level in 0..LEVELS {
            if let Some((distance, _)) = self.first_slot(level) {
                let shift = SLOT_BITS * level as u32;
                let start = ((self.tick >> shift) + distance) << shift;
                next = next.min(start.max(self.tick + 1));
            }
        }
        self.tick = next;
        for level in (1..LEVELS).rev() {
            if self.tick.trailing_zeros() >= SLOT_BITS * level as u32 {
                self.cascade(level);
            }
        }
    }

    /// Moves the present slot of `level` to the levels below.
    fn cascade(&mut self, level: usize) {
        let slot = (self.tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let mut key = self.heads[level][slot];
        self.heads[level][slot] = NONE;
        self.occupied[level] &= !(1 << slot);
        while key != NONE {
            let next = self.entries[key as usize].next;
            self.entries[key as usize].place = u16::MAX;
            self.link(key);
            key = next;
        }
    }

    fn link(&mut self, key: u32) {
        let due = (self.entries[key as usize].deadline.as_nanos() >> GRAIN_BITS).max(self.tick);
        let (level, slot) = self.place_of(due);
        let head = self.heads[level][slot];
        let entry = &mut self.entries[key as usize];
        entry.place = (level * SLOTS + slot) as u16;
        entry.previous = NONE;
        entry.next = head;
        if head != NONE {
            self.entries[head as usize].previous = key;
        }
        self.heads[level][slot] = key;
        self.occupied[level] |= 1 << slot;
    }

    /// The lowest level whose window from the present tick on reaches `due`.
    fn place_of(&self, due: u64) -> (usize, usize) {
        for level in 0..LEVELS {
            let shift = SLOT_BITS * level as u32;
            if (due >> shift) - (self.tick >> shift) < SLOTS as u64 {
                return (level, (due >> shift) as usize % SLOTS);
            }
        }
        let shift = SLOT_BITS * (LEVELS as u32 - 1);
        (LEVELS - 1, ((self.tick >> shift) as usize + SLOTS - 1) % SLOTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn deadlines_come_in_order_and_never_early() {
        let mut timers = Timers::with_keys(4);
        for (key, millis) in [(0, 30), (1, 1), (2, 90_000), (3, 2)] {
            timers.set(key, Instant::from_nanos(millis * 1_000_000));
        }
        let mut seen = Vec::new();
        while let Some(at) = timers.next() {
            while let Some(key) = timers.expire(at) {
                seen.push((key, at.as_nanos() / 1_000_000));
            }
        }
        assert_eq!(seen, [(1, 1), (3, 2), (0, 30), (2, 90_000)]);
    }

    /// A naive map says the same, whatever is set, moved, cancelled and however time jumps.
    #[test]
    fn the_wheel_agrees_with_a_sorted_map() {
        for seed in 0..200 {
            let mut rng = Rng::from_number(seed);
            let mut timers = Timers::with_keys(64);
            let mut naive: BTreeMap<u32, Instant> = BTreeMap::new();
            let mut now = 0;
            for _ in 0..400 {
                let key = rng.below(64) as u32;
                match rng.below(4) {
                    0 => {
                        timers.cancel(key);
                        naive.remove(&key);
                    }
                    1 | 2 => {
                        let width = rng.below(48);
                        let deadline = Instant::from_nanos(now + rng.below(1 << width));
                        timers.set(key, deadline);
                        naive.insert(key, deadline);
                    }
                    _ => {
                        let width = rng.below(46);
                        now += rng.below(1 << width);
                    }
                }
                let at = Instant::from_nanos(now);
                let mut due: Vec<u32> =
                    naive.iter().filter(|(_, deadline)| **deadline <= at).map(|(key, _)| *key).collect();
                naive.retain(|_, deadline| *deadline > at);
                let mut expired: Vec<u32> = std::iter::from_fn(|| timers.expire(at)).collect();
                due.sort_unstable();
                expired.sort_unstable();
                assert_eq!(expired, due, "seed {seed}");
                let earliest = naive.values().min().copied();
                match (timers.next(), earliest) {
                    (None, None) => {}
                    (Some(next), Some(earliest)) => assert!(next <= earliest, "seed {seed}: late"),
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
        }
    }
}
