//! What the swarm checks, by name, and which check a failure comes from.
//!
//! Holds: every check of the swarm is in the list; a run that plants all bugs demands that each finds at least one.

use dunlin_tests::swarm::Failure;

/// Name of a check, what its failures contain, and what it is. The first that fits is it.
const CHECKS: &[(&str, &[&str], &str)] = &[
    ("peace", &["not converged"], "everything converges within 30 seconds"),
    ("I1", &["I1: "], "what was acknowledged was delivered"),
    ("I2", &["I2: "], "nothing is delivered twice"),
    ("I3", &["I3: "], "what is delivered is what was sent"),
    ("order", &["arrived on"], "ordered channels keep their order"),
    ("I4", &["(I4)"], "no number is sealed twice under one key"),
    (
        "I5",
        &["I5: ", "is not proven"],
        "three bytes at most for each one of an address that has not proven that it is there",
    ),
    ("I5 stateless", &["I5: ", "without state"], "replies without state are smaller than what asked"),
    ("I6 blocks", &["I6: ", "bytes, "], "a shard's memory stays under its bound"),
    ("I6 sessions", &["I6: ", "sessions, "], "a shard's sessions stay under their bound"),
    ("I6 leaks", &["I6: "], "everything comes home"),
    ("I8", &["I8: ", " after "], "an owner's value does not go back"),
    ("I8 keys", &["I8: "], "key phases go on only when the peer has followed"),
    ("I9", &["I9: "], "what a register or a lease told could have come from one place"),
    ("values", &["values: "], "after whatever befell it everybody can decide"),
    ("I10", &["I10: "], "a rumour is heard once, and carried no more often than it may be"),
    ("rumours", &["rumours: "], "everybody hears what is said to everybody"),
    ("I11", &["I11: "], "what is sent again is in proportion to what was lost"),
    ("I12", &["I12: "], "one burst of probes after a pause"),
    ("I13 poison", &["I13: ", "nobody wrote"], "no memory that nobody wrote is sealed"),
    ("I13 author", &["I13: "], "no piece of a message goes to whom it is not for"),
    ("I14", &["I14: "], "a quiet network is quiet"),
    ("probes", &["probes: "], "probes that nothing answers become rarer"),
    ("honesty", &["honesty: "], "nobody who keeps to the rules is accused"),
    ("stranger", &["stranger: "], "what nobody could take for true is not answered"),
    ("cookie", &["cookie: "], "an unknown caller proves first that it is there"),
    ("reset", &["reset: "], "only a Reset that was sent is believed"),
    ("keys", &["keys: "], "what an honest node seals opens"),
    ("books", &["books: "], "each sealed packet is opened, sent on or dropped for a reason"),
    ("shutdown", &["after its shutdown"], "everything closes"),
    ("endless", &["without end"], "nobody answers without end"),
];

/// Panics of the shards themselves.
const PANIC: &str = "I7";

/// The check that a failure comes from.
pub(crate) fn name_of(failure: &Failure) -> &'static str {
    let says = |words: &&str| failure.message.contains(*words);
    let found = CHECKS.iter().find(|(_, words, _)| words.iter().all(says));
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
