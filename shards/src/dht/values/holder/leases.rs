//! Leases by those who hold them: how many each has in the whole node, and all together in this shard (T12).
//!
//! In:    registers that come and go, what somebody would lease, what the other shards have.
//! Out:   whether it may.
//! Holds: a lease that was given back or has ended does not count.
//!
//! A key's shard decides about its lease alone; what the others have it was told a moment ago. Whoever asks several shards at the same
//! moment may get one too many of each.
//!
//! spec: p2p/leases-of-a-node

use std::collections::BTreeMap;

use dunlin_codec::args::Reason;
use dunlin_codec::ids::NodeId;

use super::super::register::Register;
use crate::limits::{LEASES_IDENTITY_MAX, LEASES_MAX};
use crate::time::Instant;

/// When each lease ends here.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_holder: BTreeMap<NodeId, BTreeMap<Vec<u8>, Instant>>,
    count: usize,
    /// When those in other shards end, shard by shard: as many as these may have.
    elsewhere: BTreeMap<NodeId, BTreeMap<u8, Box<[Instant]>>>,
}

impl Leases {
    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn add(&mut self, register: &Register) {
        for (key, held) in &register.cells {
            if let Some(lease) = held.cell.lease.filter(|lease| lease.until_ms != 0) {
                let of = self.by_holder.entry(lease.holder).or_default();
                self.count += usize::from(of.insert(key.clone(), held.lease_ends).is_none());
            }
        }
    }

    pub(super) fn remove(&mut self, register: &Register) {
        for (key, held) in &register.cells {
            if let Some(lease) = held.cell.lease
                && let Some(of) = self.by_holder.get_mut(&lease.holder)
            {
                self.count -= usize::from(of.remove(key).is_some());
                if of.is_empty() {
                    self.by_holder.remove(&lease.holder);
                }
            }
        }
    }

    /// When the leases of `holder` end here.
    pub(super) fn ends_of(&self, holder: &NodeId) -> Box<[Instant]> {
        self.by_holder.get(holder).map(|of| of.values().copied().collect()).unwrap_or_default()
    }

    /// Those that hold a lease here.
    pub(super) fn holders(&self) -> impl Iterator<Item = NodeId> {
        self.by_holder.keys().copied()
    }

    /// What `holder` has in another shard.
    pub(super) fn on_elsewhere(&mut self, shard: u8, holder: NodeId, ends: Box<[Instant]>) {
        let of = self.elsewhere.entry(holder).or_default();
        if ends.is_empty() {
            of.remove(&shard);
        } else {
            of.insert(shard, ends);
        }
        if of.is_empty() {
            self.elsewhere.remove(&holder);
        }
    }

    /// What has ended elsewhere is forgotten.
    pub(super) fn expire(&mut self, now: Instant) {
        self.elsewhere.retain(|_, of| {
            of.retain(|_, ends| ends.iter().any(|ends| *ends > now));
            !of.is_empty()
        });
    }

    pub(super) fn knows_elsewhere(&self) -> bool {
        !self.elsewhere.is_empty()
    }

    /// Whether all leases of `holder` in a register may be had, whatever that held before.
    pub(super) fn check(&self, holder: NodeId, register: &Register, now: Instant) -> Result<(), Reason> {
        let is_its = |key: &Vec<u8>| {
            let lease = register.cells.get(key).and_then(|held| held.cell.lease);
            lease.is_some_and(|lease| lease.holder == holder && lease.until_ms != 0)
        };
        let wanted = register.cells.keys().filter(|key| is_its(key)).count();
        let of = self.by_holder.get(&holder);
        let is_there = |key: &&Vec<u8>| of.is_some_and(|of| of.contains_key(*key));
        let renewed = register.cells.keys().filter(|key| is_its(key)).filter(is_there).count();
        let elsewhere = of.map_or(0, |of| {
            of.iter().filter(|(key, ends)| **ends > now && !register.cells.contains_key(*key)).count()
        });
        let shards = self.elsewhere.get(&holder).into_iter().flat_map(BTreeMap::values);
        let elsewhere = elsewhere + shards.flatten().filter(|ends| **ends > now).count();
        let is_too_many = wanted > renewed && self.count + wanted - renewed > LEASES_MAX;
        if wanted > renewed && wanted + elsewhere > LEASES_IDENTITY_MAX || is_too_many {
            Err(Reason::OverQuota)
        } else {
            Ok(())
        }
    }
}
