//! What a session works with besides its own state: the shard's outgoing queues, counters, blocks and chance.

use std::collections::VecDeque;

use crate::blocks::BlockPool;
use crate::event::Event;
use crate::mail::{Destination, Mail};
use crate::rng::Rng;
use crate::stats::Stats;
use crate::time::Now;

/// Owned by the shard, lent to whichever session is at work.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) now: Now,
    pub(crate) events: VecDeque<Event>,
    pub(crate) mail: VecDeque<(Destination, Mail)>,
    pub(crate) stats: Stats,
    pub(crate) pool: BlockPool,
    pub(crate) rng: Rng,
}
