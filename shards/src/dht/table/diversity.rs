//! Who may be in the table besides whom: addresses are the control, since places can be ground (T9).
//!
//! In:    members, and one who would be one.
//! Out:   whether it may.
//! Holds: at most one of a prefix in a bucket and ten in the table; no teller has more than a third of the table, once three
//!        have told. Only public addresses are counted: on a private network there is nothing to divide by.
//!
//! spec: p2p/diversity

use core::net::IpAddr;

use dunlin_codec::ids::NodeId;

use super::bucket::{Bucket, Member};
use crate::dht::contact::is_public;
use crate::limits::{PREFIX_BUCKET_MAX, PREFIX_TABLE_MAX, SOURCES_COUNT_MIN};

/// A public address's /24 or /48.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::dht) enum Prefix {
    V4(u32),
    V6(u64),
}

impl Prefix {
    /// None: the address is not public, and not counted.
    pub(in crate::dht) fn of(address: IpAddr) -> Option<Self> {
        is_public(address).then(|| match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits() >> 8),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 80) as u64),
        })
    }
}

/// Whether a node at `address`, of whom `source` told, may be a member of `bucket`. The node itself is not counted when it
/// comes from another address.
pub(super) fn allows(
    buckets: &[Bucket],
    bucket: usize,
    (node, address): (&NodeId, IpAddr),
    source: &NodeId,
) -> bool {
    let Some(prefix) = Prefix::of(address) else { return true };
    let others = |bucket: &'_ Bucket| {
        let members: Vec<(Prefix, NodeId)> = bucket
            .members
            .iter()
            .filter(|member| member.contact.id() != *node)
            .filter_map(|member| Some((Prefix::of(member.endpoint.ip())?, member.source)))
            .collect();
        members
    };
    let here = others(&buckets[bucket]).iter().filter(|(other, _)| *other == prefix).count();
    if here >= PREFIX_BUCKET_MAX {
        return false;
    }
    let all: Vec<(Prefix, NodeId)> = buckets.iter().flat_map(others).collect();
    if all.iter().filter(|(other, _)| *other == prefix).count() >= PREFIX_TABLE_MAX {
        return false;
    }
    let told = all.iter().filter(|(_, other)| other == source).count();
    !has_many_sources(&all, source) || 3 * (told + 1) <= all.len() + 1
}

fn has_many_sources(all: &[(Prefix, NodeId)], source: &NodeId) -> bool {
    let mut sources = vec![*source];
    for (_, other) in all {
        if !sources.contains(other) {
            sources.push(*other);
        }
        if sources.len() >= SOURCES_COUNT_MIN {
            return true;
        }
    }
    false
}

/// Whether a member may be told to a peer: at least one question answered since the last silence, and on public addresses
/// alone unless the peer shares a private one with us.
pub(super) fn is_told(member: &Member, is_public_peer: bool) -> bool {
    member.silences == 0 && (!is_public_peer || member.contact.is_public())
}
