//! Leases by those who hold them: how many each has, and all together (T12).
//!
//! In:    registers that come and go, what somebody would lease.
//! Out:   whether it may.
//! Holds: a lease that was given back or has ended does not count.

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
        let is_too_many = wanted > renewed && self.count + wanted - renewed > LEASES_MAX;
        if wanted > renewed && wanted + elsewhere > LEASES_IDENTITY_MAX || is_too_many {
            Err(Reason::OverQuota)
        } else {
            Ok(())
        }
    }
}
