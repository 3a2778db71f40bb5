//! What a node says of itself in every conversation: its network's constants, what it can decompress, what it allows.
//!
//! In:    settings, once.
//! Out:   [`Terms`]; the subnet that SET_CONNECTION_OPT 2 compares.
//! Holds: constants that no network can have are refused at the start, not on the wire.

use dunlin_codec::args::Subnet;
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::transmission::Compression;

use crate::dht::values::Quotas;
use crate::gossip::RumourLimits;
use crate::limits::{REQUESTS_PER_SECOND_PEER, TRANSMISSION_LEN_CEILING, TRANSMISSION_LEN_MAX};

/// The numbers that make a network what it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Constants {
    /// Nodes of a bucket, and holders of a value: k.
    pub replication: u32,
    /// Questions of a lookup at once, on each path: α.
    pub parallel: u32,
    /// Bits of an address that count: τ.
    pub address_bits: u32,
    /// Bits of a public key: β.
    pub key_bits: u32,
    /// Links that a node opens: ℓ.
    pub links: u32,
}

impl Default for Constants {
    fn default() -> Self {
        Self { replication: 16, parallel: 3, address_bits: 256, key_bits: 256, links: 8 }
    }
}

/// Constants that no network can have. The operator's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no network can have these constants: {0}")]
pub struct BadConstants(&'static str);

/// The largest k: nodes of an answer at most (T9).
const REPLICATION_MAX: u32 = dunlin_codec::args::NODES_MAX as u32;

impl Constants {
    /// The constants, once it is sure that a network can have them.
    ///
    /// # Errors
    /// `BadConstants`: which of them is out of range.
    /// spec: p2p/constants
    pub const fn checked(self) -> Result<Self, BadConstants> {
        if self.replication == 0 || self.replication > REPLICATION_MAX {
            return Err(BadConstants("k is from 1 to 16"));
        }
        if self.parallel == 0 || self.parallel > self.replication {
            return Err(BadConstants("alpha is from 1 to k"));
        }
        if self.address_bits == 0 || self.address_bits > 256 || !self.address_bits.is_multiple_of(8) {
            return Err(BadConstants("tau is a multiple of 8, up to 256"));
        }
        if self.key_bits != 256 {
            return Err(BadConstants("beta is 256: keys are Ed25519's"));
        }
        if self.links == 0 || self.links > self.links_max() {
            return Err(BadConstants("l is from 1 to what the buckets hold"));
        }
        Ok(self)
    }

    /// What the source allows for ℓ: kτ + 2k − ⌈k·log2(k + 1)⌉.
    #[must_use]
    pub const fn links_max(self) -> u32 {
        let k = self.replication;
        let buckets = k.saturating_mul(self.address_bits).saturating_add(k.saturating_mul(2));
        buckets.saturating_sub(times_log2_up(k))
    }

    /// Inbound links that are taken on at most.
    #[must_use]
    pub const fn links_inbound_max(self) -> u32 {
        self.links.saturating_mul(crate::limits::LINKS_INBOUND_FACTOR)
    }
}

/// ⌈k·log2(k + 1)⌉ for a k of at most 16: the length in bits of (k + 1)^k, less one where that is a power of two.
const fn times_log2_up(k: u32) -> u32 {
    let mut power = 1_u128;
    let mut left = k;
    while left > 0 {
        power = power.saturating_mul(k as u128 + 1);
        left -= 1;
    }
    if power.is_power_of_two() { power.trailing_zeros() } else { u128::BITS - power.leading_zeros() }
}

/// A set of compression methods.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Methods(u8);

impl Methods {
    /// None.
    pub const NONE: Self = Self(0);
    /// Every method there is.
    pub const ALL: Self = Self(0b11_1110);

    /// The set with `method`; [`Compression::None`] is always understood and never in a set.
    #[must_use]
    pub const fn with(self, method: Compression) -> Self {
        Self((self.0 | 1 << method as u8) & Self::ALL.0)
    }

    /// The set without `method`.
    #[must_use]
    pub const fn without(self, method: Compression) -> Self {
        Self(self.0 & !(1 << method as u8))
    }

    /// Whether a body compressed by `method` is understood.
    #[must_use]
    pub const fn contains(self, method: Compression) -> bool {
        matches!(method, Compression::None) || self.0 >> method as u8 & 1 == 1
    }

    /// Its methods, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Compression> {
        Compression::ALL.into_iter().skip(1).filter(move |method| self.contains(*method))
    }
}

/// What a node says of itself in every conversation.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The node.
    pub own: NodeId,
    /// Its network, hashed.
    pub network: Network,
    /// The network's constants.
    pub constants: Constants,
    /// The transport's name.
    pub transport: Box<str>,
    /// The network's description.
    pub description: Box<str>,
    /// What it can decompress; off by default (T15).
    pub reads: Methods,
    /// What it would rather decompress.
    pub prefers: Option<Compression>,
    /// What a transmission may become, in bytes.
    pub transmission_len_max: usize,
    /// Requests of one peer a second.
    pub requests_per_second: u64,
    /// How much it keeps of what others store; what an identity or a prefix may have is divided among its shards.
    pub quotas: Quotas,
    /// How much of rumours it takes.
    pub rumours: RumourLimits,
}

impl Terms {
    /// A node of the network `description` with everything at its default.
    ///
    /// # Errors
    /// `BadConstants`: no network can have them.
    pub fn new(
        own: NodeId,
        network: Network,
        constants: Constants,
        description: &str,
    ) -> Result<Self, BadConstants> {
        Ok(Self {
            own,
            network,
            constants: constants.checked()?,
            transport: "dunlin".into(),
            description: description.into(),
            reads: Methods::NONE,
            prefers: None,
            transmission_len_max: TRANSMISSION_LEN_MAX,
            requests_per_second: REQUESTS_PER_SECOND_PEER,
            quotas: Quotas::default(),
            rumours: RumourLimits::default(),
        })
    }

    /// What SET_CONNECTION_OPT 2 compares.
    #[must_use]
    pub fn subnet(&self) -> Subnet<'_> {
        let Constants { replication, parallel, address_bits, key_bits, links } = self.constants;
        let (transport, description) = (&*self.transport, &*self.description);
        Subnet { replication, parallel, address_bits, key_bits, links, transport, description }
    }

    /// What a transmission may become, the ceiling obeyed.
    pub(super) const fn body_len_max(&self) -> usize {
        if self.transmission_len_max < TRANSMISSION_LEN_CEILING {
            self.transmission_len_max
        } else {
            TRANSMISSION_LEN_CEILING
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: p2p/constants
    #[test]
    fn constants_have_their_ranges() {
        let usual = Constants::default();
        assert_eq!(usual.checked(), Ok(usual));
        // 16 * log2(17) = 65.4; k = 1 and 3 are exact: log2(2) = 1, 3 * log2(4) = 6.
        assert_eq!(usual.links_max(), 16 * 256 + 32 - 66);
        assert_eq!((times_log2_up(1), times_log2_up(3), times_log2_up(2), times_log2_up(15)), (1, 6, 4, 60));
        let bad = [
            Constants { replication: 0, ..usual },
            Constants { replication: 17, ..usual },
            Constants { parallel: 0, ..usual },
            Constants { parallel: 17, ..usual },
            Constants { address_bits: 0, ..usual },
            Constants { address_bits: 250, ..usual },
            Constants { address_bits: 264, ..usual },
            Constants { key_bits: 255, ..usual },
            Constants { links: 0, ..usual },
            Constants { links: usual.links_max() + 1, ..usual },
        ];
        for constants in bad {
            assert!(constants.checked().is_err(), "{constants:?}");
        }
        assert!(Constants { links: usual.links_max(), ..usual }.checked().is_ok());
    }

    #[test]
    fn a_set_of_methods_holds_what_was_put_in() {
        let set = Methods::NONE.with(Compression::Zlib).with(Compression::None).with(Compression::Bz2);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Compression::Bz2, Compression::Zlib]);
        assert!(set.contains(Compression::None) && !set.contains(Compression::Gzip));
        assert_eq!(set.without(Compression::Bz2).without(Compression::Zlib), Methods::NONE);
        assert_eq!(Methods::ALL.iter().count(), 5);
    }
}
