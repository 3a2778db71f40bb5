//! Quotas: how much of a holder's memory each writer, each part of the network, and all together may take (T11).
//!
//! In:    what is kept and what is given up.
//! Out:   whether there is room.
//! Holds: a charge that was taken is given back once; nothing is kept that was not charged.
//!
//! A value is charged to its writer, and to the /24 or /48 that it came from; only public addresses are counted.
//!
//! spec: p2p/value-quotas

use core::net::IpAddr;
use std::collections::BTreeMap;

use dunlin_codec::args::Reason;
use dunlin_codec::ids::NodeId;
use dunlin_codec::record::KEY_LEN_MAX;

use crate::dht::table::Prefix;
use crate::limits::{
    REGISTER_LEN_MAX, VALUES_COUNT_IDENTITY_MAX, VALUES_LEN_IDENTITY_MAX, VALUES_LEN_MAX,
    VALUES_LEN_PREFIX_MAX,
};

/// How much a holder keeps.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Bytes of one identity at most.
    pub identity_len_max: u64,
    /// Values of one identity at most.
    pub identity_count_max: u32,
    /// Bytes that came from one /24 or /48 at most.
    pub prefix_len_max: u64,
    /// Bytes in all at most.
    pub len_max: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            identity_len_max: VALUES_LEN_IDENTITY_MAX,
            identity_count_max: VALUES_COUNT_IDENTITY_MAX,
            prefix_len_max: VALUES_LEN_PREFIX_MAX,
            len_max: VALUES_LEN_MAX,
        }
    }
}

impl Quotas {
    /// What each of so many shards may keep of one identity and from one prefix: its share, but never less than the largest
    /// thing that there is. What it may keep in all is said for one shard.
    #[must_use]
    pub fn divided(self, shards: usize) -> Self {
        let shards = shards.max(1) as u64;
        let share = |len: u64| len.div_ceil(shards).max(len.min(LARGEST_LEN));
        Self {
            identity_len_max: share(self.identity_len_max),
            identity_count_max: self.identity_count_max.div_ceil(shards as u32),
            prefix_len_max: share(self.prefix_len_max),
            len_max: self.len_max,
        }
    }
}

/// A register with all that it may hold, or a value with its key.
const LARGEST_LEN: u64 = (REGISTER_LEN_MAX + 2 * KEY_LEN_MAX) as u64;

/// What something that is kept was charged as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Charge {
    identity: NodeId,
    prefix: Option<Prefix>,
    len: u64,
}

impl Charge {
    /// `from`: none for what was on disk.
    pub(super) fn new(identity: NodeId, from: Option<IpAddr>, len: usize) -> Self {
        Self { identity, prefix: from.and_then(Prefix::of), len: len as u64 }
    }
}

/// What was taken so far.
#[derive(Debug)]
pub(super) struct Ledger {
    quotas: Quotas,
    identities: BTreeMap<NodeId, (u64, u32)>,
    prefixes: BTreeMap<Prefix, u64>,
    len: u64,
}

impl Ledger {
    pub(super) const fn new(quotas: Quotas) -> Self {
        Self { quotas, identities: BTreeMap::new(), prefixes: BTreeMap::new(), len: 0 }
    }

    /// Takes `charge` in the place of what `freed` will give back. Nothing is taken when there is no room.
    pub(super) fn take(&mut self, charge: Charge, freed: Option<Charge>) -> Result<(), Reason> {
        let freed_as = |is_same: bool| freed.filter(|_| is_same).map_or(0, |freed| freed.len);
        let is_same_identity = freed.is_some_and(|freed| freed.identity == charge.identity);
        let is_same_prefix = freed.is_some_and(|freed| freed.prefix == charge.prefix);
        let (len, count) = self.identities.get(&charge.identity).copied().unwrap_or_default();
        let len = (len + charge.len).saturating_sub(freed_as(is_same_identity));
        let count = count + 1 - u32::from(is_same_identity && count > 0);
        let of_prefix = charge.prefix.and_then(|prefix| self.prefixes.get(&prefix)).copied().unwrap_or(0);
        let of_prefix = (of_prefix + charge.len).saturating_sub(freed_as(is_same_prefix));
        if len > self.quotas.identity_len_max
            || count > self.quotas.identity_count_max
            || charge.prefix.is_some() && of_prefix > self.quotas.prefix_len_max
        {
            return Err(Reason::OverQuota);
        }
        if (self.len + charge.len).saturating_sub(freed_as(true)) > self.quotas.len_max {
            return Err(Reason::Full);
        }
        self.restore(charge);
        Ok(())
    }

    /// Takes without asking: it is there already.
    pub(super) fn restore(&mut self, charge: Charge) {
        let (len, count) = self.identities.entry(charge.identity).or_default();
        *len += charge.len;
        *count += 1;
        if let Some(prefix) = charge.prefix {
            *self.prefixes.entry(prefix).or_default() += charge.len;
        }
        self.len += charge.len;
    }

    pub(super) fn give_back(&mut self, charge: Charge) {
        self.len -= charge.len;
        if let Some((len, count)) = self.identities.get_mut(&charge.identity) {
            *len -= charge.len;
            *count -= 1;
            if *count == 0 {
                self.identities.remove(&charge.identity);
            }
        }
        if let Some(prefix) = charge.prefix
            && let Some(len) = self.prefixes.get_mut(&prefix)
        {
            *len -= charge.len;
            if *len == 0 {
                self.prefixes.remove(&prefix);
            }
        }
    }

    /// Bytes in all.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUOTAS: Quotas =
        Quotas { identity_len_max: 100, identity_count_max: 3, prefix_len_max: 150, len_max: 300 };

    fn charge(identity: u8, from: [u8; 4], len: usize) -> Charge {
        Charge::new(NodeId([identity; 32]), Some(IpAddr::from(from)), len)
    }

    /// spec: p2p/values
    #[test]
    fn each_bound_is_met() {
        let mut ledger = Ledger::new(QUOTAS);
        assert_eq!(ledger.take(charge(1, [8, 0, 0, 1], 100), None), Ok(()));
        assert_eq!(ledger.take(charge(1, [8, 0, 1, 1], 1), None), Err(Reason::OverQuota), "of one identity");
        assert_eq!(ledger.take(charge(2, [8, 0, 0, 2], 51), None), Err(Reason::OverQuota), "from one /24");
        assert_eq!(ledger.take(charge(2, [8, 0, 0, 2], 50), None), Ok(()));
        assert_eq!(ledger.take(charge(3, [8, 0, 1, 1], 100), None), Ok(()));
        assert_eq!(ledger.take(charge(4, [8, 0, 2, 1], 51), None), Err(Reason::Full), "in all");
        // What makes place for itself needs no other.
        assert_eq!(ledger.take(charge(1, [8, 0, 0, 1], 90), Some(charge(1, [8, 0, 0, 1], 100))), Ok(()));
        ledger.give_back(charge(1, [8, 0, 0, 1], 100));
        assert_eq!(ledger.len(), 240);
        for _ in 0..3 {
            assert_eq!(ledger.take(charge(5, [10, 0, 0, 1], 1), None), Ok(()));
        }
        assert_eq!(ledger.take(charge(5, [10, 0, 0, 1], 1), None), Err(Reason::OverQuota), "how many");
    }

    /// Each of many shards has its share, and room for the largest thing at least.
    /// spec: p2p/values
    #[test]
    fn shards_share_what_a_writer_may_have() {
        let all = Quotas::default();
        let one = all.divided(1);
        assert_eq!((one.identity_len_max, one.identity_count_max), (1 << 20, 1_000));
        let three = all.divided(3);
        assert_eq!((three.identity_len_max, three.identity_count_max), (349_526, 334));
        assert_eq!((three.prefix_len_max, three.len_max), (1_398_102, all.len_max));
        let many = all.divided(128);
        assert_eq!((many.identity_len_max, many.prefix_len_max), (LARGEST_LEN, LARGEST_LEN));
        assert_eq!(QUOTAS.divided(128).identity_len_max, 100, "what was set lower stays lower");
    }

    proptest! {
        /// What was given back is free again, whatever came between.
        #[test]
        fn the_ledger_comes_out_even(takes in prop::collection::vec((0_u8..4, 0_u8..3, 1_usize..80), 0..60)) {
            let mut ledger = Ledger::new(QUOTAS);
            let charges = takes.into_iter().map(|(who, net, len)| charge(who, [8, 0, net, 1], len));
            let taken: Vec<Charge> = charges.filter(|charge| ledger.take(*charge, None).is_ok()).collect();
            prop_assert!(ledger.len() <= QUOTAS.len_max);
            taken.into_iter().for_each(|charge| ledger.give_back(charge));
            prop_assert_eq!(ledger.len(), 0);
            prop_assert!(ledger.identities.is_empty() && ledger.prefixes.is_empty());
        }
    }
}
