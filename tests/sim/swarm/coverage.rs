//! What a set of seeds has produced: for each kind of thing, in how many seeds.
//!
//! In:    verdicts.
//! Out:   a table; what should have happened in some seed and did not.

use core::fmt;
use std::collections::BTreeMap;

use dunlin_codec::frame::FrameKind;
use dunlin_shards::stats::DropReason;

use crate::byzantine::Vice;
use crate::link::Cause;
use crate::world::{Coverage, EVENT_NAMES, name_of_cause};

use super::plan::Attack;

/// Group and name of a kind of thing.
type Item = (&'static str, &'static str);

/// What no seed needs to produce, and why.
pub const EXEMPT: &[(Item, &str)] = &[
    (("link", "scripted"), "stories drop single datagrams by hand; a swarm has no hand"),
    (
        ("drop", "TooLong"),
        "counted only when a Welcome would not fit its buffer, which its parts cannot reach",
    ),
    (
        ("drop", "StaleMail"),
        "counts kinds of letters that nobody writes to a shard, the world's applications included",
    ),
    (
        ("drop", "OwnIdentity"),
        "a caller recognises its own Hello's address before; a story sends it round through a NAT",
    ),
    (
        ("drop", "MisroutedRate"),
        "a small world carries a few thousand datagrams a second; `admission.rs` tests the rate",
    ),
    (
        ("drop", "HandshakeQueueFull"),
        "under load a network has five handshakes at once: it takes a hundred of them",
    ),
];

/// Faults that are not a link's.
const FAULTS: &[&str] = &[
    "NAT rebinding",
    "address change",
    "call storm",
    "clock jump",
    "close",
    "crash",
    "full rings",
    "one-way partition",
    "partition",
    "pause",
    "second call",
    "shutdown",
    "torn reset secret",
];

/// In how many seeds each kind of thing happened.
#[derive(Clone, Debug, Default)]
pub struct Table {
    seeds: u64,
    counts: BTreeMap<Item, u64>,
}

impl Table {
    /// Adds a seed's.
    pub fn add(&mut self, coverage: &Coverage) {
        self.seeds += 1;
        for (group, name, _) in coverage.iter() {
            *self.counts.entry((group, name)).or_default() += 1;
        }
    }

    /// Adds another table.
    pub fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        for (item, count) in &other.counts {
            *self.counts.entry(*item).or_default() += count;
        }
    }

    /// Seeds that produced it.
    #[must_use]
    pub fn of(&self, group: &'static str, name: &'static str) -> u64 {
        self.counts.get(&(group, name)).copied().unwrap_or_default()
    }

    /// All of it: group, name, seeds.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        expected().into_iter().chain(self.others()).map(|(group, name)| (group, name, self.of(group, name)))
    }

    /// What happened though nobody expected it to be listed.
    fn others(&self) -> Vec<Item> {
        let expected = expected();
        self.counts.keys().filter(|item| !expected.contains(item)).copied().collect()
    }

    /// What no seed produced, and nothing exempts.
    #[must_use]
    pub fn missing(&self) -> Vec<Item> {
        let is_exempt = |item: &Item| EXEMPT.iter().any(|(exempt, _)| exempt == item);
        expected().into_iter().filter(|item| self.of(item.0, item.1) == 0 && !is_exempt(item)).collect()
    }

    /// Exemptions that are not needed: what happened all the same.
    #[must_use]
    pub fn needless(&self) -> Vec<Item> {
        EXEMPT.iter().map(|(item, _)| *item).filter(|item| self.of(item.0, item.1) > 0).collect()
    }
}

/// Everything that must happen in some seed.
fn expected() -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    items.extend(["real", "counting"].map(|name| ("cryptography", name)));
    items.extend(Cause::ALL.iter().map(|cause| ("link", name_of_cause(*cause))));
    items.extend(FAULTS.iter().map(|name| ("fault", *name)));
    items.extend(Attack::ALL.iter().map(|attack| ("fault", attack.name())));
    items.extend(Vice::ALL.iter().map(|vice| ("fault", vice.name())));
    items.extend(DropReason::ALL.iter().map(|reason| ("drop", reason.name())));
    items.extend(["Session", "Handshake", "Mail", "Memory"].map(|name| ("timer", name)));
    items.extend(EVENT_NAMES.iter().map(|name| ("event", *name)));
    items.extend(FrameKind::ALL.iter().map(|kind| ("frame", kind.name())));
    items
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "in how many of {} seeds each kind of thing happened:", self.seeds)?;
        let mut last = "";
        for (group, name, count) in self.iter() {
            if group != last {
                writeln!(f, "  {group}")?;
                last = group;
            }
            let reason = EXEMPT.iter().find(|(item, _)| *item == (group, name)).map(|(_, why)| *why);
            match (count, reason) {
                (0, Some(why)) => writeln!(f, "    {name:32} none: {why}")?,
                (0, None) => writeln!(f, "    {name:32} NONE")?,
                _ => writeln!(f, "    {name:32} {count:6}")?,
            }
        }
        Ok(())
    }
}
