//! Histories of a register and of a lease, as clients were told, and what may not be in them (I9).
//!
//! In:    what a client was told, and when it had asked.
//! Out:   a panic as soon as no single register, or no lease, could have told it.
//! Holds: a register's values have versions: their sequences. A history is linearizable when no two writes made the same version, whoever was told of a version
//!        was told the same value, and nobody was told of an older one than had been told of before it asked.

use std::collections::BTreeMap;

/// From when to when something was asked: the world's time in nanoseconds.
pub type Span = (u64, u64);

/// A register's history.
#[derive(Debug, Default)]
pub struct History {
    values: BTreeMap<u64, Vec<u8>>,
    /// Who is known to have made a version.
    writers: BTreeMap<u64, usize>,
    /// By when which version had been told of, ever higher.
    told: Vec<(u64, u64)>,
}

impl History {
    /// Somebody is told of a version.
    ///
    /// # Panics
    /// When it is another value than was told before, or older than what had been told before it was asked for.
    pub fn on_told(&mut self, (since, now): Span, version: u64, value: &[u8]) {
        let known = self.values.entry(version).or_insert_with(|| value.to_vec());
        assert_eq!(known, value, "I9: version {version} is two values");
        let before = self.told.iter().rev().find(|(at, _)| *at < since).map_or(0, |(_, version)| *version);
        assert!(version >= before, "I9: version {version} after {before} had been told");
        let last = self.told.last().map_or(0, |(_, version)| *version);
        self.told.push((now, last.max(version)));
    }

    /// Somebody is told that its write made a version.
    ///
    /// # Panics
    /// When another's did.
    pub fn on_written(&mut self, client: usize, version: u64) {
        let before = self.writers.insert(version, client);
        assert!(before.is_none(), "I9: two writes made version {version}");
    }

    /// Versions that anybody was told of.
    #[must_use]
    pub fn versions(&self) -> usize {
        self.values.len()
    }

    /// Writes that are known to have been made.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.writers.len()
    }
}

/// A lease's history.
#[derive(Debug, Default)]
pub struct Leases {
    /// Who relies on it, and until when.
    holders: BTreeMap<usize, u64>,
    /// By when which token had been given, in the order of time.
    tokens: Vec<(u64, u64)>,
}

impl Leases {
    /// Somebody is told that it has the lease until then, under this token.
    ///
    /// # Panics
    /// When another relies on it still, or the token is not above all that had been given before it was asked for.
    pub fn on_granted(&mut self, client: usize, (since, now): Span, token: u64, until: u64) {
        let before = self.tokens.iter().filter(|(at, _)| *at < since).map(|(_, token)| *token).max();
        assert!(before.is_none_or(|before| token > before), "I9: token {token} after {before:?}");
        assert!(self.tokens.iter().all(|(_, given)| *given != token), "I9: token {token} is given twice");
        self.tokens.push((now, token));
        self.holders.retain(|_, until| *until > now);
        if until > now {
            let other = self.holders.iter().find(|(holder, _)| **holder != client);
            assert_eq!(other, None, "I9: client {client} has the lease too, from {now} to {until}");
            self.holders.insert(client, until);
        }
    }

    /// Somebody is told that it wrote under a token.
    ///
    /// # Panics
    /// When a higher one had been given before it asked.
    pub fn on_used(&self, (since, _): Span, token: u64) {
        let before = self.tokens.iter().filter(|(at, _)| *at < since).map(|(_, token)| *token).max();
        assert!(
            before.is_none_or(|before| token >= before),
            "I9: a write under token {token} after {before:?}"
        );
    }

    /// Somebody gives it back, or cannot use it any more.
    pub fn on_gone(&mut self, client: usize) {
        self.holders.remove(&client);
    }

    /// Under which token somebody relies on it by now.
    #[must_use]
    pub fn is_held(&self, client: usize, now: u64) -> bool {
        self.holders.get(&client).is_some_and(|until| *until > now)
    }

    /// How often it was given.
    #[must_use]
    pub fn grants(&self) -> usize {
        self.tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_register_may_tell_passes() {
        let mut history = History::default();
        history.on_told((0, 10), 0, b"");
        history.on_written(1, 1);
        history.on_told((5, 20), 1, b"one");
        // Asked before the other was told.
        history.on_told((6, 30), 0, b"");
        assert_eq!((history.versions(), history.writes()), (2, 1));
    }

    #[test]
    #[should_panic(expected = "I9: version 0 after 1")]
    fn an_older_version_is_seen() {
        let mut history = History::default();
        history.on_told((0, 10), 1, b"one");
        history.on_told((11, 20), 0, b"");
    }

    #[test]
    #[should_panic(expected = "is two values")]
    fn two_values_of_a_version_are_seen() {
        let mut history = History::default();
        history.on_told((0, 10), 1, b"one");
        history.on_told((0, 20), 1, b"other");
    }

    #[test]
    #[should_panic(expected = "two writes made version 1")]
    fn two_writers_of_a_version_are_seen() {
        let mut history = History::default();
        history.on_written(0, 1);
        history.on_written(1, 1);
    }

    #[test]
    #[should_panic(expected = "client 1 has the lease too")]
    fn two_holders_are_seen() {
        let mut leases = Leases::default();
        leases.on_granted(0, (0, 10), 1, 100);
        assert!(leases.is_held(0, 99) && !leases.is_held(0, 100));
        leases.on_granted(1, (20, 30), 2, 120);
    }

    #[test]
    #[should_panic(expected = "a write under token 1 after Some(2)")]
    fn a_write_by_a_holder_of_before_is_seen() {
        let mut leases = Leases::default();
        leases.on_granted(0, (0, 10), 1, 20);
        leases.on_used((11, 12), 1);
        leases.on_granted(1, (30, 40), 2, 120);
        leases.on_used((39, 50), 1);
        leases.on_used((41, 60), 1);
    }

    #[test]
    #[should_panic(expected = "token 1 after Some(2)")]
    fn a_token_that_goes_back_is_seen() {
        let mut leases = Leases::default();
        leases.on_granted(0, (0, 10), 2, 20);
        leases.on_granted(1, (30, 40), 1, 120);
    }
}
