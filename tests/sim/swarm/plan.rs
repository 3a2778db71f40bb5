//! A swarm's plan: plain data, drawn from a seed, printed, and cut down when it fails.
//!
//! Holds: a plan says everything that a run depends on. Times are milliseconds since the world began.

use core::fmt;
use core::str::FromStr;

use crate::byzantine::Vice;
use crate::ledger::Manner;
use crate::link::Conditions;
use crate::nat::NatRules;
use crate::world::Trouble;

/// Letters that a ring holds where it is not drawn short.
pub(super) const RING_LEN: usize = 1_024;

/// How many nodes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Size {
    /// 8 to 32.
    #[default]
    Small,
    /// 128.
    Medium,
    /// 1,000.
    Large,
}

/// How an application reads during the chaos.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reading {
    /// At once.
    AtOnce,
    /// One message in so many milliseconds.
    Slow(u64),
    /// Not before the chaos is over.
    Never,
}

/// A node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodePlan {
    /// Cores.
    pub shards: usize,
    /// Datagrams land on any core.
    pub unsteered: bool,
    /// It takes early data.
    pub zero_rtt: bool,
    /// It calls with ChaCha20-Poly1305.
    pub chacha: bool,
    /// Silence after which its sessions end, in seconds.
    pub idle_s: u64,
    /// Silence after which it asks, in seconds.
    pub keepalive_s: Option<u64>,
    /// When it gives a handshake up, in seconds.
    pub deadline_s: u64,
    /// The largest datagram that it tries, in bytes.
    pub datagram_max: usize,
    /// Messages may allocate so many bytes in a shard.
    pub memory: usize,
    /// Sessions of a shard.
    pub sessions: usize,
    /// Packets and milliseconds after which a key is changed; zero: as always.
    pub rekey: (u64, u64),
    /// Seconds after which its secrets are renewed; zero: as always.
    pub renew_s: u64,
    /// Letters that fit a ring between two cores.
    pub ring_len: usize,
    /// How it reads.
    pub reading: Reading,
    /// It sends again what came back.
    pub persists: bool,
    /// What its clock shows when the world begins, in milliseconds.
    pub clock_ms: u64,
    /// Its clock's error in parts of a million.
    pub drift_ppm: i64,
    /// Its sessions follow BBR, not CUBIC.
    pub bbr: bool,
    /// Its NAT.
    pub nat: Option<usize>,
    /// How it misbehaves.
    pub vice: Option<Vice>,
}

/// An application that has something to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Talk {
    /// Who.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// From when on.
    pub at: u64,
    /// How many messages.
    pub count: u32,
    /// Milliseconds between two.
    pub every: u64,
    /// Bytes of the shortest and the longest.
    pub len: (usize, usize),
    /// How.
    pub manner: Manner,
    /// In a thousand of them, it takes back.
    pub cancel_permille: u32,
    /// It calls first, and the first message travels with the call.
    pub early: bool,
    /// It calls whoever is there.
    pub unknown: bool,
    /// It cannot be known to arrive ever: both ends are behind NATs.
    pub is_hopeless: bool,
}

/// What somebody who is no peer does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attack {
    /// Bytes without sense.
    Junk,
    /// Packets of every type whose content is wrong.
    Forged,
    /// What was seen on the way, changed a little.
    Changed,
    /// What was seen on the way, once more, from where it came.
    Replayed,
    /// What was seen on the way, from elsewhere.
    Elsewhere,
    /// One packet, changed in many ways, from everywhere at once.
    Hammer,
    /// Resets for sessions that were seen, with tokens that were not.
    Resets,
    /// Sealed packets for sessions that nobody has.
    Unknown,
    /// From addresses that nobody can have.
    Impossible,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Junk,
        Self::Forged,
        Self::Changed,
        Self::Replayed,
        Self::Elsewhere,
        Self::Hammer,
        Self::Resets,
        Self::Unknown,
        Self::Impossible,
    ];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Junk => "attack: junk",
            Self::Forged => "attack: forged packets",
            Self::Changed => "attack: changed packets",
            Self::Replayed => "attack: replays",
            Self::Elsewhere => "attack: replays from elsewhere",
            Self::Hammer => "attack: one packet in many ways",
            Self::Resets => "attack: forged resets",
            Self::Unknown => "attack: unknown sessions",
            Self::Impossible => "attack: impossible sources",
        }
    }
}

/// What befalls the network. Nodes are named by their places in the plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// On all links, or those of a node, or from one node to another.
    Links(Vec<usize>, Trouble),
    /// These nodes and all others part, or only what these send is lost.
    Partition(Vec<usize>, bool),
    /// A node gets another address.
    ChangeAddress(usize),
    /// A NAT forgets.
    Rebind(usize),
    /// A node stops at once and comes back when the fault ends; true: its reset secret was torn.
    Crash(usize, bool),
    /// A node stands still.
    Pause(usize),
    /// A node's wall clock jumps, by milliseconds.
    Jump(usize, i64),
    /// Rings between cores are found full, in a thousand.
    FullRings(u32),
    /// Somebody attacks a node, so many times.
    Attack(usize, Attack, u32),
    /// One node calls another many times at once.
    Storm(usize, usize, u32),
    /// An application closes its session with another.
    Close(usize, usize),
    /// An application measures a round trip.
    Ping(usize, usize),
    /// An application calls although it has a session, or both call each other; or whoever has its own public address.
    Call(usize, usize),
    /// A node shuts down in order, and is started again when the fault ends.
    Shutdown(usize),
}

impl What {
    /// Nodes that it concerns; none for what concerns all.
    fn nodes_mut(&mut self) -> Vec<&mut usize> {
        match self {
            Self::Links(nodes, _) | Self::Partition(nodes, _) => nodes.iter_mut().collect(),
            Self::ChangeAddress(node)
            | Self::Crash(node, _)
            | Self::Pause(node)
            | Self::Jump(node, _)
            | Self::Attack(node, _, _)
            | Self::Shutdown(node) => vec![node],
            Self::Storm(from, to, _)
            | Self::Close(from, to)
            | Self::Ping(from, to)
            | Self::Call(from, to) => {
                vec![from, to]
            }
            Self::Rebind(_) | Self::FullRings(_) => Vec::new(),
        }
    }
}

/// Something that befalls the network at a moment, for a while.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// When.
    pub at: u64,
    /// For how long.
    pub time: u64,
    /// What.
    pub what: What,
}

/// Everything that a run depends on.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it came from, and the world's chance.
    pub seed: u64,
    /// The real cryptography, and not the one that counts.
    pub real: bool,
    /// When the chaos ends.
    pub chaos: u64,
    /// What links are like when nothing befalls them.
    pub weather: Conditions,
    /// Nodes.
    pub nodes: Vec<NodePlan>,
    /// NATs.
    pub nats: Vec<NatRules>,
    /// What applications do.
    pub talks: Vec<Talk>,
    /// What befalls them.
    pub faults: Vec<Fault>,
}

/// What is left of a drawn plan: places in it; `None` is everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cut {
    /// Nodes that stay.
    pub nodes: Option<Vec<usize>>,
    /// Talks that stay.
    pub talks: Option<Vec<usize>>,
    /// Faults that stay.
    pub faults: Option<Vec<usize>>,
    /// The chaos ends so early.
    pub chaos: Option<u64>,
}

impl Plan {
    /// The plan with only what the cut leaves. Talks and faults of nodes that go, go too.
    #[must_use]
    pub fn keep(&self, cut: &Cut) -> Self {
        let mut plan = self.clone();
        retain_places(&mut plan.talks, cut.talks.as_deref());
        retain_places(&mut plan.faults, cut.faults.as_deref());
        if let Some(chaos) = cut.chaos {
            plan.chaos = chaos;
            plan.talks.retain(|talk| talk.at < chaos);
            plan.faults.retain(|fault| fault.at < chaos);
            for fault in &mut plan.faults {
                fault.time = fault.time.min(chaos - fault.at);
            }
        }
        if let Some(nodes) = &cut.nodes {
            plan.keep_nodes(nodes);
        }
        plan
    }

    fn keep_nodes(&mut self, nodes: &[usize]) {
        let place = |node: usize| nodes.iter().position(|kept| *kept == node);
        retain_places(&mut self.nodes, Some(nodes));
        self.talks.retain_mut(|talk| match (place(talk.from), place(talk.to)) {
            (Some(from), Some(to)) => {
                (talk.from, talk.to) = (from, to);
                true
            }
            _ => false,
        });
        self.faults.retain_mut(|fault| {
            if let What::Links(group, _) | What::Partition(group, _) = &mut fault.what
                && !group.is_empty()
            {
                group.retain(|node| place(*node).is_some());
                if group.is_empty() {
                    return false;
                }
            }
            fault.what.nodes_mut().into_iter().all(|node| match place(*node) {
                Some(kept) => {
                    *node = kept;
                    true
                }
                None => false,
            })
        });
    }
}

fn retain_places<T>(list: &mut Vec<T>, kept: Option<&[usize]>) {
    let Some(kept) = kept else { return };
    let mut place = 0;
    list.retain(|_| {
        place += 1;
        kept.contains(&(place - 1))
    });
}

impl fmt::Display for Plan {
    /// One line for each thing, with its place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let crypto = if self.real { "real" } else { "counting" };
        writeln!(f, "seed {}, {crypto} cryptography, chaos until {} ms", self.seed, self.chaos)?;
        for (place, node) in self.nodes.iter().enumerate() {
            writeln!(f, "  node {place}: {node:?}")?;
        }
        for (place, nat) in self.nats.iter().enumerate() {
            writeln!(f, "  nat {place}: {nat:?}")?;
        }
        for (place, talk) in self.talks.iter().enumerate() {
            writeln!(f, "  talk {place}: {talk:?}")?;
        }
        for (place, fault) in self.faults.iter().enumerate() {
            writeln!(f, "  fault {place}: {fault:?}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Cut {
    /// As `FromStr` reads it: `nodes=0,3/talks=1/faults=/chaos=4000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (name, places) in [("nodes", &self.nodes), ("talks", &self.talks), ("faults", &self.faults)] {
            if let Some(places) = places {
                let places: Vec<String> = places.iter().map(usize::to_string).collect();
                parts.push(format!("{name}={}", places.join(",")));
            }
        }
        parts.extend(self.chaos.map(|chaos| format!("chaos={chaos}")));
        f.write_str(&parts.join("/"))
    }
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cut = Self::default();
        for part in text.split('/').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} has no '='"))?;
            let numbers: Result<Vec<usize>, _> =
                value.split(',').filter(|number| !number.is_empty()).map(str::parse).collect();
            let numbers = numbers.map_err(|error| format!("{part:?}: {error}"))?;
            match name {
                "nodes" => cut.nodes = Some(numbers),
                "talks" => cut.talks = Some(numbers),
                "faults" => cut.faults = Some(numbers),
                "chaos" => cut.chaos = numbers.first().map(|chaos| *chaos as u64),
                _ => return Err(format!("{name:?} is none of nodes, talks, faults, chaos")),
            }
        }
        Ok(cut)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "small" => Ok(Self::Small),
            "medium" => Ok(Self::Medium),
            "large" => Ok(Self::Large),
            _ => Err(format!("{text:?} is none of small, medium, large")),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::draw;

    #[test]
    fn a_cut_reads_as_it_is_written() {
        let cut = Cut { nodes: Some(vec![0, 3]), talks: None, faults: Some(Vec::new()), chaos: Some(4_000) };
        assert_eq!(cut.to_string(), "nodes=0,3/faults=/chaos=4000");
        assert_eq!(cut.to_string().parse(), Ok(cut));
        assert!("nodes".parse::<Cut>().is_err() && "x=1".parse::<Cut>().is_err());
    }

    #[test]
    fn what_a_cut_leaves_names_only_nodes_that_are_there() {
        for seed in 0..200 {
            let plan = draw(seed, Size::Small);
            let nodes: Vec<usize> = (0..plan.nodes.len()).step_by(3).collect();
            let mut kept = plan.keep(&Cut { nodes: Some(nodes.clone()), ..Cut::default() });
            assert_eq!(kept.nodes.len(), nodes.len());
            assert!(kept.talks.iter().all(|talk| talk.from.max(talk.to) < nodes.len()));
            for fault in &mut kept.faults {
                assert!(fault.what.nodes_mut().into_iter().all(|node| *node < nodes.len()));
            }
        }
    }
}
