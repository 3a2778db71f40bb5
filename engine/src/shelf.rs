//! A holder's shelf: its rows on their way to the store, and the disk's word on their way back.
//!
//! In:    numbered rows of a shard's holder, from its own thread; the store's answers, from the store's.
//! Out:   batches for the store; for each number whether its rows are on the disk.
//! Holds: a shard never waits for the disk, and the disk never for a shard: words wait here until the shard takes them, no
//!        more of them than its holder has writes open. What the store does not even take is refused.
//!
//! spec: p2p/full-disk

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dunlin_shards::dht::values::DiskRow;

use crate::api::shared::EngineShared;
use crate::mailbox::lock;
use crate::store::{Batch, Desk, Done, Table, Write};

/// The network's rows, as it gave them, and the sequences of the node's own record.
pub(crate) const NODES: Table = Table("nodes");
/// What holders keep, as they gave it.
pub(crate) const VALUES: Table = Table("values");

/// Whose a batch is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whose {
    /// The network's, which looks again later.
    Network,
    /// Sequences of the node's own record, up to this one.
    Own(u64),
    /// Of the holder beside a shard, by the number that it gave.
    Holder {
        /// The shard's index.
        shard: u8,
        /// The holder's number.
        number: u64,
    },
}

/// The disk's word on one write of a holder's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Word {
    /// The holder's number.
    pub(crate) number: u64,
    /// Its rows are on the disk; else nothing became of them.
    pub(crate) is_durable: bool,
}

/// What was said to one shard and not heard yet.
#[derive(Debug, Default)]
struct Said {
    /// Looked at in every turn of the shard, which takes the lock only when there is something.
    is_there: AtomicBool,
    words: Mutex<Vec<Word>>,
}

impl Said {
    fn say(&self, words: impl IntoIterator<Item = Word>) {
        let mut said = lock(&self.words);
        said.extend(words);
        self.is_there.store(!said.is_empty(), Ordering::Release);
    }

    fn take(&self) -> Vec<Word> {
        if !self.is_there.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut said = lock(&self.words);
        self.is_there.store(false, Ordering::Release);
        core::mem::take(&mut *said)
    }
}

/// The shelves of all shards, as the store sees them.
pub(crate) struct Shelves {
    said: Vec<Arc<Said>>,
    engine: Arc<EngineShared>,
}

impl Shelves {
    /// One for each shard of the engine.
    pub(crate) fn new(engine: Arc<EngineShared>) -> Self {
        Self { said: engine.ports.iter().map(|_| Arc::default()).collect(), engine }
    }

    /// The one of a shard.
    pub(crate) fn of(&self, shard: u8, desk: Desk<Whose>) -> Shelf {
        Shelf { shard, desk, said: Arc::clone(&self.said[usize::from(shard)]) }
    }

    /// The same for whoever answers.
    pub(crate) fn share(&self) -> Self {
        Self { said: self.said.clone(), engine: Arc::clone(&self.engine) }
    }

    /// Tells every shard what became of its writes, and wakes it once.
    pub(crate) fn answer(&self, done: &[Done<Whose>]) {
        for (index, said) in self.said.iter().enumerate() {
            let mine = done.iter().filter_map(|one| match one.ticket {
                Whose::Holder { shard, number } if usize::from(shard) == index => {
                    Some(Word { number, is_durable: one.result.is_ok() })
                }
                Whose::Holder { .. } | Whose::Network | Whose::Own(_) => None,
            });
            let mut mine = mine.peekable();
            if mine.peek().is_some() {
                said.say(mine);
                self.engine.ports[index].ring();
            }
        }
    }
}

/// A shard's end.
pub(crate) struct Shelf {
    shard: u8,
    desk: Desk<Whose>,
    said: Arc<Said>,
}

impl Shelf {
    /// Hands a holder's rows to the store, all or none; [`Self::words`] has what became of them.
    pub(crate) fn put(&self, number: u64, rows: Vec<DiskRow>) {
        let write = |row: DiskRow| match row.value {
            Some(value) => Write::put(VALUES, row.key, value),
            None => Write::delete(VALUES, row.key),
        };
        let ticket = Whose::Holder { shard: self.shard, number };
        let batch = Batch { ticket, writes: rows.into_iter().map(write).collect() };
        if self.desk.submit(batch).is_err() {
            self.said.say([Word { number, is_durable: false }]);
        }
    }

    /// What the disk has said since the last time.
    pub(crate) fn words(&self) -> Vec<Word> {
        self.said.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Opened;

    fn shelf(desk: &Desk<Whose>) -> Shelf {
        Shelf { shard: 1, desk: desk.clone(), said: Arc::default() }
    }

    #[test]
    fn a_store_that_takes_nothing_refuses_at_once() {
        let store = Opened::memory().start(|_: &mut Vec<Done<Whose>>| {}).unwrap();
        let shelf = shelf(store.desk());
        assert_eq!(shelf.words(), []);
        store.close();
        for number in [7, 8] {
            shelf.put(number, vec![DiskRow { key: b"key".to_vec(), value: None }]);
        }
        assert_eq!(shelf.words(), [7, 8].map(|number| Word { number, is_durable: false }));
        assert_eq!(shelf.words(), []);
    }

    #[test]
    fn rows_become_a_batch_of_the_shard_that_gave_them() {
        let (sender, tickets) = std::sync::mpsc::channel();
        let store = Opened::memory()
            .start(move |done: &mut Vec<Done<Whose>>| {
                done.drain(..).for_each(|one| sender.send((one.ticket, one.result.is_ok())).unwrap());
            })
            .unwrap();
        let row = |value: Option<&[u8]>| DiskRow { key: b"k".to_vec(), value: value.map(<[u8]>::to_vec) };
        shelf(store.desk()).put(3, vec![row(Some(b"v")), row(None)]);
        store.close();
        assert_eq!(tickets.iter().collect::<Vec<_>>(), [(Whose::Holder { shard: 1, number: 3 }, true)]);
    }
}
