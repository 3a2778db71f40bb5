//! Messages: what is inside a transmission, in two forms on two channels.
//!
//! In:    a decompressed transmission; values to write.
//! Out:   [`Direct`] (channel 1, between two peers) and [`Carried`] (channel 2, signed, carried on verbatim).
//! Holds: the two forms are never mixed; a payload's own bytes are not looked at here, `args` reads them.
//!
//! spec: p2p/message

mod direct;
mod signed;

use core::fmt;

use crate::ids::{ChannelId, NodeId};

pub use direct::{Direct, DirectMessages, HEAD_LEN_MAX};
pub use signed::{
    Carried, CarriedMessages, FRESH_HEADER_LEN, HEADER_LEN, HOPS_MAX, PROLOGUE_LEN_MAX, Signed, SignedHeader,
    SignedMessageId, label_for_signature, set_signature,
};

/// The channel of direct messages.
pub const DIRECT_CHANNEL: ChannelId = ChannelId(1);
/// The channel of signed messages.
pub const SIGNED_CHANNEL: ChannelId = ChannelId(2);

/// Bytes of a payload at most (T16).
pub const PAYLOAD_LEN_MAX: usize = 1 << 20;

/// What the *to* of a broadcast says.
pub const EVERYBODY: NodeId = NodeId([0; 32]);

/// What a message asks for. Four bits: every value has its meaning, the reserved ones are answered by NACK.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Operation {
    /// It was done; an answer.
    Ack = 0,
    /// It was not; an answer.
    Nack = 1,
    /// Are you there?
    Ping = 2,
    /// Compression, subnet, links.
    SetConnectionOption = 3,
    /// A node says that it is there.
    Announce = 4,
    /// A key follows another.
    ChangeKey = 5,
    /// To everybody.
    Shout = 6,
    /// To direct peers.
    Speak = 7,
    /// To one node.
    Whisper = 8,
    /// The nodes closest to an address.
    FindNode = 9,
    /// A value, or the nodes closest to it.
    FindValue = 10,
    /// Keep a value.
    Store = 11,
    /// Reserved.
    Reserved12 = 12,
    /// Reserved.
    Reserved13 = 13,
    /// Reserved.
    Reserved14 = 14,
    /// The application's own.
    Custom = 15,
}

impl Operation {
    /// Every operation, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Ack,
        Self::Nack,
        Self::Ping,
        Self::SetConnectionOption,
        Self::Announce,
        Self::ChangeKey,
        Self::Shout,
        Self::Speak,
        Self::Whisper,
        Self::FindNode,
        Self::FindValue,
        Self::Store,
        Self::Reserved12,
        Self::Reserved13,
        Self::Reserved14,
        Self::Custom,
    ];

    /// The operation of the low four bits.
    #[inline]
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        Self::ALL[(code & 0x0f) as usize]
    }

    /// Its number, below 16.
    #[inline]
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether it is one of 12 to 14.
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        matches!(self, Self::Reserved12 | Self::Reserved13 | Self::Reserved14)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Nack => "nack",
            Self::Ping => "ping",
            Self::SetConnectionOption => "set-connection-option",
            Self::Announce => "announce",
            Self::ChangeKey => "change-key",
            Self::Shout => "shout",
            Self::Speak => "speak",
            Self::Whisper => "whisper",
            Self::FindNode => "find-node",
            Self::FindValue => "find-value",
            Self::Store => "store",
            Self::Reserved12 => "reserved-12",
            Self::Reserved13 => "reserved-13",
            Self::Reserved14 => "reserved-14",
            Self::Custom => "custom",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When a message was made, and its place among those of its maker's start.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Freshness {
    /// Unix time at the origin, in milliseconds.
    pub time_ms: u64,
    /// The first 16 bits of the origin's instance id.
    pub instance: u16,
    /// Counts from 0 with every message of that instance; below 2^48.
    pub count: u64,
}

impl Freshness {
    /// Bytes that it takes.
    pub const LEN: usize = 16;
    /// The largest count.
    pub const COUNT_MAX: u64 = (1 << 48) - 1;

    /// Reads it.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let number = u128::from_be_bytes(*bytes);
        let low = number as u64;
        Self { time_ms: (number >> 64) as u64, instance: (low >> 48) as u16, count: low & Self::COUNT_MAX }
    }

    /// Writes it.
    ///
    /// # Panics
    /// When the count is above [`Self::COUNT_MAX`].
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        assert!(self.count <= Self::COUNT_MAX, "a count has 48 bits");
        let low = (self.instance as u64) << 48 | self.count;
        ((self.time_ms as u128) << 64 | low as u128).to_be_bytes()
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms {:04x} #{}", self.time_ms, self.instance, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: p2p/message
    #[test]
    fn every_number_of_four_bits_is_an_operation() {
        for code in 0..16 {
            let operation = Operation::from_code(code);
            assert_eq!(operation.code(), code);
            assert_eq!(operation.is_reserved(), (12..15).contains(&code));
            assert_eq!(Operation::from_code(code | 0xf0), operation);
        }
    }

    /// spec: p2p/message
    #[test]
    fn freshness_keeps_its_three_fields_apart() {
        let freshness =
            Freshness { time_ms: 0x0102_0304_0506_0708, instance: 0xabcd, count: 0x0010_2030_4050 };
        let bytes = freshness.to_bytes();
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 0xab, 0xcd, 0, 0x10, 0x20, 0x30, 0x40, 0x50]);
        assert_eq!(Freshness::from_bytes(&bytes), freshness);
        let all = Freshness { time_ms: u64::MAX, instance: u16::MAX, count: Freshness::COUNT_MAX };
        assert_eq!(Freshness::from_bytes(&[0xff; 16]), all);
    }
}
