//! Which shard owns what: pure functions of seeds drawn at the node's start.
//!
//! In:    a session id, an address, a datagram's first bytes, a key of 32 bytes.
//! Out:   a [`ShardIndex`] below the number of shards.
//! Holds: the kernel's steering program computes [`Placement::of_datagram`] and nothing else, so that a datagram
//!        normally lands on its owner.
//!
//! The address hash must be computable by a classic BPF program: words of 32 bits, multiplication, shifts. It
//! need not resist an attacker who learns the shard of an address by timing: all that he gains is one busy shard,
//! which a flood from one address costs as well. Keys are placed by SipHash-1-3, as peers choose them at leisure.

use core::net::{IpAddr, SocketAddr};

use dunlin_codec::ids::SessionId;

/// A shard's number, below the number of shards, which is at most 128.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardIndex(pub u8);

/// What the address hash multiplies by: 2^32 divided by the golden ratio.
pub const STEERING_MULTIPLIER: u32 = 0x9E37_79B1;
/// What it folds by after each word.
pub const STEERING_FOLD: u32 = 15;
/// The low bits that it leaves out when it takes the remainder.
pub const STEERING_DROP: u32 = 8;

/// The seeds of a node's placement, drawn at its start, the same for all its shards.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PlacementSeeds {
    /// Of the address hash.
    pub steering: u32,
    /// Of the key hash.
    pub keys: [u64; 2],
}

/// Places sessions, addresses and keys on shards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Placement {
    shards: u8,
    seeds: PlacementSeeds,
}

impl Placement {
    /// For so many shards.
    ///
    /// # Panics
    ///
    /// When `shards` is 0 or above [`SessionId::SHARDS_MAX`]: the configuration has checked it.
    #[must_use]
    pub const fn new(shards: usize, seeds: PlacementSeeds) -> Self {
        assert!(shards > 0 && shards <= SessionId::SHARDS_MAX);
        Self { shards: shards as u8, seeds }
    }

    /// How many shards there are: 1 to 128.
    #[must_use]
    pub const fn shard_count(&self) -> usize {
        self.shards as usize
    }

    /// The seeds that it was made with.
    #[must_use]
    pub const fn seeds(&self) -> PlacementSeeds {
        self.seeds
    }

    /// The owner of a session; `None` when the id names a shard that we do not have.
    #[must_use]
    pub const fn of_session(&self, id: SessionId) -> Option<ShardIndex> {
        if id.shard() < self.shards { Some(ShardIndex(id.shard())) } else { None }
    }

    /// The shard that takes in a new peer. A mapped IPv4 address counts as IPv4; flow and scope do not count.
    #[must_use]
    pub fn of_address(&self, remote: SocketAddr) -> ShardIndex {
        let hash = match remote.ip().to_canonical() {
            IpAddr::V4(ip) => mix(self.seeds.steering, u32::from(ip)),
            IpAddr::V6(ip) => {
                let words = ip.octets();
                let (words, _) = words.as_chunks::<4>();
                words.iter().fold(self.seeds.steering, |hash, word| mix(hash, u32::from_be_bytes(*word)))
            }
        };
        let hash = mix(hash, u32::from(remote.port()));
        ShardIndex(((hash >> STEERING_DROP) % u32::from(self.shards)) as u8)
    }

    /// The shard that a datagram is steered to: a sealed packet's session says, everything else goes by address.
    #[must_use]
    pub fn of_datagram(&self, remote: SocketAddr, datagram: &[u8]) -> ShardIndex {
        let session = datagram.first_chunk().map(|bytes| SessionId(u32::from_be_bytes(*bytes)));
        session
            .filter(|id| id.0 >> 31 == 1)
            .and_then(|id| self.of_session(id))
            .unwrap_or_else(|| self.of_address(remote))
    }

    /// The shard of a DHT key, a rumour's id or an identity.
    #[must_use]
    pub fn of_key(&self, key: &[u8; 32]) -> ShardIndex {
        let hash = siphash_1_3(self.seeds.keys, key);
        // The high half of a product spreads as evenly as a remainder and costs no division.
        ShardIndex(((u128::from(hash) * u128::from(self.shards)) >> 64) as u8)
    }
}

/// One step of the address hash.
const fn mix(hash: u32, word: u32) -> u32 {
    let hash = (hash ^ word).wrapping_mul(STEERING_MULTIPLIER);
    hash ^ hash >> STEERING_FOLD
}

/// SipHash with one compression and three finalization rounds over exactly 32 bytes.
fn siphash_1_3(key: [u64; 2], bytes: &[u8; 32]) -> u64 {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let (words, _) = bytes.as_chunks::<8>();
    let last = 32 << 56; // the length's low byte on top of the bytes left over: none
    for word in words.iter().map(|word| u64::from_le_bytes(*word)).chain([last]) {
        state[3] ^= word;
        sip_round(&mut state);
        state[0] ^= word;
    }
    state[2] ^= 0xff;
    for _ in 0..3 {
        sip_round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

const fn sip_round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher;
    use std::hash::DefaultHasher;

    use proptest::prelude::*;

    use super::*;

    fn placement(shards: usize) -> Placement {
        Placement::new(shards, PlacementSeeds { steering: 0xdead_beef, keys: [1, 2] })
    }

    /// The hash in the words of the design, once more and slowly.
    #[test]
    fn an_address_is_hashed_word_by_word() {
        let step = |hash: u32, word: u32| {
            let hash = (u64::from(hash ^ word) * 0x9E37_79B1) as u32;
            hash ^ (hash >> 15)
        };
        let h = step(step(0xdead_beef, 0xC000_0207), 4433);
        let expected = ShardIndex(((h >> 8) % 7) as u8);
        assert_eq!(placement(7).of_address("192.0.2.7:4433".parse().unwrap()), expected);
        assert_eq!(placement(7).of_address("[::ffff:192.0.2.7]:4433".parse().unwrap()), expected);
    }

    #[test]
    fn a_sealed_packet_goes_to_its_sessions_shard() {
        let remote = "192.0.2.7:4433".parse().unwrap();
        let id = SessionId::new(3, 77, 1).0.to_be_bytes();
        assert_eq!(placement(4).of_datagram(remote, &id), ShardIndex(3));
    }

    /// Of a shard that does not exist, too short, or not sealed: the address says.
    #[test]
    fn everything_else_goes_by_address() {
        let remote = "[2001:db8::1]:9".parse().unwrap();
        let place = placement(3);
        let by_address = place.of_address(remote);
        for bytes in
            [&SessionId::new(3, 0, 0).0.to_be_bytes()[..], &[0x80, 0, 0], b"", b"d1:a", &[1, 0, 0, 0]]
        {
            assert_eq!(place.of_datagram(remote, bytes), by_address, "{bytes:?}");
        }
    }

    #[test]
    fn addresses_and_keys_spread_evenly() {
        let place = placement(8);
        let (mut addresses, mut keys) = ([0u32; 8], [0u32; 8]);
        for n in 0..8_000u32 {
            let remote = SocketAddr::from((u32::to_be_bytes(0x0a00_0000 + n / 16), 40_000 + n as u16 % 16));
            addresses[usize::from(place.of_address(remote).0)] += 1;
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_le_bytes());
            keys[usize::from(place.of_key(&key).0)] += 1;
        }
        for count in addresses.iter().chain(&keys) {
            assert!((850..1_150).contains(count), "{addresses:?} {keys:?}");
        }
    }

    proptest! {
        /// The standard library's hasher is SipHash-1-3 with a key of zeros.
        #[test]
        fn the_key_hash_is_siphash(key: [u8; 32]) {
            let mut reference = DefaultHasher::new();
            reference.write(&key);
            prop_assert_eq!(siphash_1_3([0, 0], &key), reference.finish());
        }

        #[test]
        fn every_answer_is_a_shard(shards in 1usize..=128, ip: [u8; 16], port: u16, bytes: [u8; 4], key: [u8; 32]) {
            let place = placement(shards);
            let remote = SocketAddr::from((ip, port));
            prop_assert!(usize::from(place.of_datagram(remote, &bytes).0) < shards);
            prop_assert!(usize::from(place.of_key(&key).0) < shards);
        }
    }
}
