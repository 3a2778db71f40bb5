//! Troubles that come over links and go again.
//!
//! In:    a trouble, where, and when it ends.
//! Out:   each link's conditions: the weather and every trouble that is there.
//! Holds: when a trouble has gone, the link is as if it had never been.

use core::time::Duration;

use dunlin_shards::session::crypto::Crypto;

use crate::link::{Burst, Conditions};
use crate::trace::What;

use super::{NodeIndex, WorldOf};

/// Which links a trouble is on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scope {
    /// All.
    Everywhere,
    /// From and to one node.
    Around(NodeIndex),
    /// From one node to another.
    OneWay(NodeIndex, NodeIndex),
    /// Between these nodes and all others.
    Border(Vec<NodeIndex>),
    /// From these nodes to all others.
    OneWayBorder(Vec<NodeIndex>),
}

impl Scope {
    /// The link between these is one of them.
    #[must_use]
    pub fn covers(&self, from: NodeIndex, to: NodeIndex) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Around(node) => from == *node || to == *node,
            Self::OneWay(one, other) => (from, to) == (*one, *other),
            Self::Border(inside) => inside.contains(&from) != inside.contains(&to),
            Self::OneWayBorder(inside) => inside.contains(&from) && !inside.contains(&to),
        }
    }
}

/// What happens to links.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// Losses, each by itself, in a thousand.
    Loss(u32),
    /// Losses in bursts.
    Burst(Burst),
    /// Duplicates, in a thousand.
    Duplicate(u32),
    /// Datagrams held back, in a thousand, for up to so long.
    Reorder(u32, Duration),
    /// One way takes longer, by up to so much more.
    Delay(Duration, Duration),
    /// A rate in bits a second and a queue in bytes.
    Rate(u64, usize),
    /// The same with marks instead of most drops.
    Marks(u64, usize),
    /// Wrong bits, in a thousand.
    Corrupt(u32),
    /// Missing ends, in a thousand.
    Truncate(u32),
    /// Longer datagrams vanish; or the sender is told.
    Mtu(usize, bool),
    /// Nothing passes.
    Cut,
    /// Nothing passes until it ends; then everything does at once.
    Clog,
    /// Errors of the sender's socket, in a thousand: no buffers, refused, too long.
    SendErrors(u32, u32, u32),
}

impl Trouble {
    fn befall(&self, conditions: &mut Conditions, until: Duration) {
        match *self {
            Self::Loss(permille) => conditions.loss_permille = permille,
            Self::Burst(burst) => conditions.burst = Some(burst),
            Self::Duplicate(permille) => conditions.duplicate_permille = permille,
            Self::Reorder(permille, by) => {
                conditions.reorder_permille = permille;
                conditions.reorder_by = by;
            }
            Self::Delay(delay, jitter) => {
                conditions.delay += delay;
                conditions.jitter = jitter;
            }
            Self::Rate(rate, queue_len) => {
                conditions.rate = Some(rate);
                conditions.queue_len = queue_len;
            }
            Self::Marks(rate, queue_len) => {
                conditions.rate = Some(rate);
                conditions.queue_len = queue_len;
                conditions.mark_above = Some(queue_len / 8);
            }
            Self::Corrupt(permille) => conditions.corrupt_permille = permille,
            Self::Truncate(permille) => conditions.truncate_permille = permille,
            Self::Mtu(mtu, is_told) => {
                conditions.mtu = mtu;
                conditions.refuses_too_long = is_told;
            }
            Self::Cut => conditions.is_cut = true,
            Self::Clog => conditions.clogged_until = until,
            Self::SendErrors(no_buffers, refused, too_long) => {
                conditions.no_buffers_permille = no_buffers;
                conditions.refused_permille = refused;
                conditions.too_long_permille = too_long;
            }
        }
    }
}

/// A trouble that is there.
#[derive(Clone, Debug)]
pub(super) struct Active {
    scope: Scope,
    trouble: Trouble,
    until: Duration,
}

impl<C: Crypto> WorldOf<C> {
    /// A trouble comes, and goes after a while.
    pub fn trouble(&mut self, scope: Scope, trouble: Trouble, time: Duration) {
        self.note(NodeIndex(0), 0, What::Fault, [7, time.as_millis() as u64, 0]);
        let until = self.moment(time);
        self.troubles.push(Active { scope: scope.clone(), trouble, until });
        self.update_links(&scope);
        self.at(time, move |world| {
            let now = world.now();
            world.troubles.retain(|active| active.until > now);
            world.update_links(&scope);
        });
    }

    /// Every trouble goes, and the weather becomes this.
    pub fn clear_up(&mut self, weather: Conditions) {
        self.troubles.clear();
        self.weather = weather;
        self.update_links(&Scope::Everywhere);
    }

    fn update_links(&mut self, scope: &Scope) {
        let (weather, troubles) = (&self.weather, &self.troubles);
        for ((from, to), link) in &mut self.links {
            if scope.covers(*from, *to) {
                link.conditions = conditions(weather, troubles, *from, *to);
            }
        }
    }

    pub(super) fn conditions_of(&self, from: NodeIndex, to: NodeIndex) -> Conditions {
        conditions(&self.weather, &self.troubles, from, to)
    }
}

fn conditions(weather: &Conditions, troubles: &[Active], from: NodeIndex, to: NodeIndex) -> Conditions {
    let mut conditions = weather.clone();
    for active in troubles.iter().filter(|active| active.scope.covers(from, to)) {
        active.trouble.befall(&mut conditions, active.until);
    }
    conditions
}
