//! A member of a crowd that is a link of the node: it brings rumours, or takes what is carried on.
//!
//! In:    what its shard tells of the session, and what it is to do.
//! Out:   rumours; how many copies came.
//! Holds: what is brought at once is bounded by what the node has acknowledged: it never waits in a queue of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dunlin_codec::bytes::Reader;
use dunlin_codec::message::{Carried, Signed};
use dunlin_shards::event::Ticket;
use dunlin_shards::messages::conversation::Fact;
use dunlin_shards::time::Now;

use crate::questions::Turn;
use crate::rumours::Stock;
use crate::talk::{OwnShard, Talk};

/// Rumours of one transmission: no node has to drop some of them for want of room.
const TOGETHER: usize = 64;
/// Transmissions that the node may have to acknowledge at most.
const UNDER_WAY_MAX: usize = 8;
/// How many nodes a rumour has passed, as it says.
const HOPS: u8 = 3;

/// What all members bring, and know of each other.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// The first so many members bring, the others take.
    pub(crate) bringers: usize,
    pub(crate) stock: Stock,
    /// Members whose sessions are links.
    linked: AtomicU64,
    /// Those that the node would not have.
    refused: AtomicU64,
    /// Transmissions that are not acknowledged yet.
    under_way: AtomicUsize,
}

impl Gathering {
    pub(crate) fn new(bringers: usize) -> Self {
        Self {
            bringers,
            stock: Stock::default(),
            linked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Members that are links, and those that were refused.
    pub(crate) fn links(&self) -> [u64; 2] {
        [&self.linked, &self.refused].map(|count| count.load(Ordering::Relaxed))
    }

    /// Everything that was brought was acknowledged.
    pub(crate) fn is_quiet(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }
}

/// One member.
pub(crate) struct Linked {
    gathering: Arc<Gathering>,
    is_bringer: bool,
    is_asked: bool,
    /// Transmissions that the node has not acknowledged.
    under_way: usize,
}

impl Linked {
    pub(crate) fn new(own: usize, gathering: Arc<Gathering>) -> Self {
        let is_bringer = own < gathering.bringers;
        Self { gathering, is_bringer, is_asked: false, under_way: 0 }
    }

    /// The node has a transmission.
    pub(crate) fn on_released(&mut self) {
        self.count(self.under_way.saturating_sub(1));
    }

    fn count(&mut self, under_way: usize) {
        let others = &self.gathering.under_way;
        others.fetch_sub(self.under_way, Ordering::Relaxed);
        others.fetch_add(under_way, Ordering::Relaxed);
        self.under_way = under_way;
    }

    /// Takes in what came, brings more if it is to; how many copies came.
    pub(crate) fn work(&mut self, now: Now, (talk, shard): (&mut Talk, &mut OwnShard), turn: Turn) -> u64 {
        talk.on_time(now.instant);
        let mut copies = 0;
        while let Some(fact) = talk.poll_fact() {
            match fact {
                Fact::Carried { .. } => copies += 1,
                Fact::Answered { .. } => {
                    let is_link = talk.both().is_some_and(|(talk, _)| talk.is_link());
                    let count = if is_link { &self.gathering.linked } else { &self.gathering.refused };
                    count.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        self.ask_link(talk);
        let mut sent = talk.send(now, shard);
        while self.is_bringer && turn == Turn::Work && self.under_way + sent < UNDER_WAY_MAX {
            if !self.bring(talk) {
                break;
            }
            sent += talk.send(now, shard);
        }
        self.count(self.under_way + sent);
        copies
    }

    fn ask_link(&mut self, talk: &mut Talk) {
        if talk.is_met() && !self.is_asked {
            let asked = talk.both().map(|(talk, bench)| talk.ask_link(bench, Ticket(1), true));
            self.is_asked = matches!(asked, Some(Ok(())));
        }
    }

    /// Gives the next rumours to the conversation; false: there are none.
    fn bring(&self, talk: &mut Talk) -> bool {
        let Some((talk, _)) = talk.both() else { return false };
        let rumours = self.gathering.stock.take(TOGETHER);
        for rumour in &rumours {
            let message = Signed::parse(&mut Reader::new(rumour)).expect("we wrote it");
            // It has room for far more than this.
            let _ = talk.carry(&Carried { hops: HOPS, message });
        }
        !rumours.is_empty()
    }
}
