//! What the swarm checks, by name, and which check a failure comes from.
//!
//! Holds: every check of the swarm is in the list; a run that plants all bugs demands that each finds at least one.

use dunlin_tests::swarm::Failure;

/// Name of a check, how its failures begin or what they contain, and what it is.
const CHECKS: &[(&str, &[&str], &str)] = &[
    ("I1", &["I1: "], "what was acknowledged was delivered"),
    ("I2", &["I2: "], "nothing is delivered twice"),
    ("I3", &["I3: "], "what is delivered is what was sent"),
    ("order", &["arrived on"], "ordered channels keep their order"),
    ("I4", &["I4", "sealed twice"], "no number is sealed twice under one key"),
    ("I5", &["which is not proven and sent"], "at most three bytes for one to an address that has not proven that it is there"),
    ("I5 stateless", &["bytes without state"], "replies without state are smaller than what asked"),
    ("I6 blocks", &["bytes allocated", "has allocated"], "a shard's memory stays under its bound"),
    ("I6 sessions", &["sessions, "], "a shard's sessions stay under their bound"),
    ("I6 leaks", &["I6: "], "everything comes home"),
    ("I11", &["I11: "], "what is sent again is in proportion to what was lost"),
    ("I12", &["I12: "], "one burst of probes after a pause"),
    ("I13 poison", &["buffer that nobody wrote"], "no memory that nobody wrote is sealed"),
    ("I13 author", &["I13: "], "no piece of a message goes to whom it is not for"),
    ("I14", &["I14: "], "a quiet network is quiet"),
    ("peace", &["not converged"], "everything converges within 30 seconds"),
    ("shutdown", &["after its shutdown"], "everything closes"),
    ("endless", &["without end"], "nobody answers without end"),
];

/// Panics of the shards themselves.
const PANIC: &str = "I7";

/// The check that a failure comes from.
pub(crate) fn name_of(failure: &Failure) -> &'static str {
    let says = |words: &&str| failure.message.contains(*words);
    let found = CHECKS.iter().find(|(_, words, _)| words.iter().any(|words| says(&words)));
    match found {
        Some((name, _, _)) => name,
        None if failure.place.contains("shards/") || failure.place.contains("codec/") => PANIC,
        None => "other",
    }
}

/// All checks and what they are.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let listed = CHECKS.iter().map(|(name, _, what)| (*name, *what));
    listed.chain([(PANIC, "the shards do not panic")])
}
