//! A node's disk: rows that its holders had written, writes on their way, and rows of its network.
//!
//! In:    rows to be written, in order; a crash.
//! Out:   what was written.
//! Holds: a write is there whole or not at all, and never before those that came before it. A crash leaves any number of
//!        those on their way done, as a disk may.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dunlin_codec::ids::NodeId;
use dunlin_shards::dht::known::Known;
use dunlin_shards::dht::values::DiskRow;
use dunlin_shards::neighbours::rows::{ROW_OF_CHAIN, join, row_key, rows_of};
use dunlin_shards::rng::Rng;

/// A write that was not confirmed.
#[derive(Debug)]
pub struct Write {
    /// The shard that wants it.
    pub shard: u8,
    /// The shard's name for it.
    pub ticket: u64,
    rows: Vec<DiskRow>,
}

/// Rows, and writes on their way.
#[derive(Debug, Default)]
pub struct Disk {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What became of keys.
    network: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whom it knew when it was looked at last and knew anybody.
    known: Option<Arc<Known>>,
    writes: VecDeque<Write>,
    /// When the last of them is done.
    pub free_at: u64,
    /// Writes that were done.
    pub done: u64,
    /// It takes nothing any more.
    pub is_full: bool,
}

impl Disk {
    /// Every row, by its key.
    #[must_use]
    pub const fn rows(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.rows
    }

    /// What it remembers of its network, by key.
    #[must_use]
    pub fn network(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        join(&self.network, self.known.as_deref().map(rows_of).unwrap_or_default())
    }

    /// Whom the node knows by now. A world of many nodes makes rows of that only for those that start again.
    pub fn remember(&mut self, known: &Arc<Known>) {
        let is_anybody = known.iter().chain(known.lately()).any(|contact| contact.id() != known.own());
        if !self.is_full && is_anybody {
            self.known = Some(Arc::clone(known));
        }
    }

    /// What became of a key.
    pub fn remember_chain(&mut self, first: NodeId, row: Vec<u8>) {
        if !self.is_full {
            self.network.insert(row_key(ROW_OF_CHAIN, first), row);
        }
    }

    /// A write comes in.
    pub fn push(&mut self, shard: u8, (ticket, rows): (u64, Vec<DiskRow>)) {
        self.writes.push_back(Write { shard, ticket, rows });
    }

    /// The oldest write is done; false: the disk is full, and it is not.
    pub fn write_one(&mut self) -> Option<(Write, bool)> {
        let write = self.writes.pop_front()?;
        if !self.is_full {
            self.apply(&write.rows);
        }
        Some((write, !self.is_full))
    }

    fn apply(&mut self, rows: &[DiskRow]) {
        self.done += 1;
        for row in rows {
            match &row.value {
                Some(value) => self.rows.insert(row.key.clone(), value.clone()),
                None => self.rows.remove(&row.key),
            };
        }
    }

    /// The machine stops: some of what was on its way was done.
    pub fn crash(&mut self, chance: &mut Rng) {
        // Nothing was drawn where nothing was on its way.
        let count = if self.writes.is_empty() { 0 } else { chance.below(self.writes.len() as u64 + 1) };
        (0..count).for_each(|_| drop(self.write_one()));
        self.writes.clear();
        self.free_at = 0;
    }

    /// Puts other bytes in the place of as many wherever they stand in a row's value; how many rows that changed. Whoever reads
    /// them believes its disk.
    pub fn replace(&mut self, from: &[u8], to: &[u8]) -> usize {
        assert_eq!(from.len(), to.len(), "nothing moves");
        let mut changed = 0;
        for value in self.rows.values_mut() {
            let places = value.windows(from.len()).enumerate().filter(|(_, bytes)| *bytes == from);
            let places: Vec<usize> = places.map(|(at, _)| at).collect();
            changed += usize::from(!places.is_empty());
            places.iter().for_each(|at| value[*at..at + from.len()].copy_from_slice(to));
        }
        changed
    }
}
