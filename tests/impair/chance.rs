//! Chance by counting: what happens to datagram n is a function of the seed and n.
//!
//! So a pattern does not shift when another impairment is switched on, or when trains are cut differently.

use super::Link;

/// A stream of numbers that a seed and a position determine.
#[derive(Clone, Debug)]
pub struct Chance {
    seed: u64,
    position: u64,
}

/// What is to happen to one datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fate {
    /// It vanishes.
    pub lost: bool,
    /// It arrives twice.
    pub duplicated: bool,
    /// The bit that is turned, counted modulo the datagram's length in bits.
    pub corrupted: Option<u64>,
    /// Later datagrams overtake it.
    pub reordered: bool,
}

impl Chance {
    /// A stream; different `stream` numbers of one seed have nothing in common.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { seed: mix(seed ^ mix(stream.wrapping_add(1))), position: 0 }
    }

    /// The fate of the next datagram.
    pub fn fate(&mut self, link: &Link) -> Fate {
        let base = self.draw();
        let corrupt = part(base, 2);
        Fate {
            lost: is_below(part(base, 0), link.loss),
            duplicated: is_below(part(base, 1), link.duplicate),
            corrupted: is_below(corrupt, link.corrupt).then(|| mix(corrupt)),
            reordered: is_below(part(base, 3), link.reorder),
        }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.position += 1;
        mix(self.seed.wrapping_add(self.position.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

fn part(base: u64, which: u64) -> u64 {
    mix(base.wrapping_add(which.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// Whether an event of this probability happens with this number.
fn is_below(number: u64, probability: f64) -> bool {
    // 53 bits are what a double holds.
    ((number >> 11) as f64) < probability * (1u64 << 53) as f64
}

/// SplitMix64's finish: each bit of the input reaches each bit of the output.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(seed: u64, link: &Link, count: usize) -> Vec<bool> {
        let mut chance = Chance::new(seed, 0);
        (0..count).map(|_| chance.fate(link).lost).collect()
    }

    #[test]
    fn one_seed_gives_one_pattern() {
        let link = Link { loss: 0.05, ..Link::default() };
        assert_eq!(losses(7, &link, 10_000), losses(7, &link, 10_000));
        assert_ne!(losses(7, &link, 10_000), losses(8, &link, 10_000));
    }

    #[test]
    fn another_impairment_does_not_shift_the_losses() {
        let link = Link { loss: 0.05, ..Link::default() };
        let worse = Link { duplicate: 0.5, corrupt: 0.5, reorder: 0.5, ..link.clone() };
        assert_eq!(losses(7, &link, 10_000), losses(7, &worse, 10_000));
    }

    #[test]
    fn shares_are_what_was_asked_for() {
        let link = Link { loss: 0.05, duplicate: 0.3, corrupt: 0.01, reorder: 1.0, ..Link::default() };
        let mut chance = Chance::new(1, 0);
        let fates: Vec<Fate> = (0..100_000).map(|_| chance.fate(&link)).collect();
        let share = |is: fn(&Fate) -> bool| fates.iter().filter(|fate| is(fate)).count();
        assert!((4_700..5_300).contains(&share(|fate| fate.lost)));
        assert!((29_300..30_700).contains(&share(|fate| fate.duplicated)));
        assert!((850..1_150).contains(&share(|fate| fate.corrupted.is_some())));
        assert_eq!(share(|fate| fate.reordered), 100_000);
        let whole = Link { loss: 1.0, ..Link::default() };
        assert!(losses(3, &whole, 1_000).iter().all(|lost| *lost));
        assert!(losses(3, &Link::default(), 1_000).iter().all(|lost| !*lost));
    }
}
