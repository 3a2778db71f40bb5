//! The names of things on the wire, each its own type.

use core::fmt;

/// A node's address: its Ed25519 public key. Displayed as 52 characters of z-base-32.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId(pub [u8; 32]);

/// A place in the DHT: 32 bytes, of which a network may use only the low bits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Address(pub [u8; 32]);

/// What a peer writes in front of packets for us: bit 31 set, bits 30-24 shard, bits 23-6 slot, bits 5-0 generation.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u32);

impl SessionId {
    /// Shards a node can have.
    pub const SHARDS_MAX: usize = 128;
    /// Sessions a shard can have.
    pub const SLOTS_MAX: usize = 1 << 18;

    /// Puts an id together. `shard` < 128, `slot` < 2^18; only the low six bits of `generation` are kept.
    #[must_use]
    pub const fn new(shard: u8, slot: u32, generation: u8) -> Self {
        assert!((shard as usize) < Self::SHARDS_MAX && (slot as usize) < Self::SLOTS_MAX);
        Self(1 << 31 | (shard as u32) << 24 | slot << 6 | (generation as u32 & 0x3f))
    }

    /// An id that a peer wrote; `None` when bit 31 is clear: no packet could carry it.
    #[inline]
    #[must_use]
    pub const fn from_wire(id: u32) -> Option<Self> {
        if id >> 31 == 1 { Some(Self(id)) } else { None }
    }

    /// The shard that owns the session.
    #[must_use]
    pub const fn shard(self) -> u8 {
        (self.0 >> 24) as u8 & 0x7f
    }

    /// Its place in that shard's table.
    #[must_use]
    pub const fn slot(self) -> usize {
        (self.0 >> 6) as usize & (Self::SLOTS_MAX - 1)
    }

    /// How often the place was reused, modulo 64.
    #[must_use]
    pub const fn generation(self) -> u8 {
        self.0 as u8 & 0x3f
    }
}

/// A packet's number: 64 bits, per session and direction, never restarts.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PacketNumber(pub u64);

/// A channel of a session: 0 control, 1-15 built in, 16 and up the application's.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChannelId(pub u32);

impl ChannelId {
    /// The first channel that belongs to the application.
    pub const APPLICATION: Self = Self(16);
}

/// A message's number within its channel and direction.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MessageId(pub u64);

/// Eight random bytes per start of a node; all zero means unknown.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct InstanceId(pub [u8; 8]);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}
