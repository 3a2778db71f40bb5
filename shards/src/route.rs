//! Where datagrams come from and go to: what the engine tells a shard, and a shard the engine, about a train.
//!
//! In:    nothing; plain values.
//! Out:   `Arrival`, `Transmit`, `TransmitError` and their parts.
//! Holds: an IPv4 address is always an IPv4 address here, never its form mapped into IPv6.
//!
//! A *train* is one or more datagrams between the same two addresses, back to back in one buffer, all of
//! `segment_len` bytes but the last, which may be shorter.

use core::net::{IpAddr, SocketAddr};

/// Datagrams in one train at most: newer kernels take 128, older ones 64.
pub const TRAIN_SEGMENTS_MAX: usize = 64;
/// Bytes in one train at most: above 65,493 (IPv4) or 65,473 (IPv6) the kernel silently segments in software.
pub const TRAIN_LEN_MAX: usize = 65_000;
/// Bytes of the frame that a train is written into, at least.
pub const FRAME_LEN: usize = 65_536;

const _: () = assert!(TRAIN_LEN_MAX < FRAME_LEN);

/// Which of a shard's sockets: 0 is the node's port, others are opened for NAT traversal.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SocketIndex(pub u8);

/// The two bits of explicit congestion notification in the IP header (RFC 3168).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Ecn {
    /// Not capable: 0b00.
    #[default]
    NotEct,
    /// Capable, second code point: 0b01.
    Ect1,
    /// Capable: 0b10.
    Ect0,
    /// Congestion experienced: 0b11.
    Ce,
}

impl Ecn {
    /// Reads the low two bits of a traffic class or type-of-service byte.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The two bits as they stand in the IP header.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::NotEct => 0b00,
            Self::Ect1 => 0b01,
            Self::Ect0 => 0b10,
            Self::Ce => 0b11,
        }
    }
}

/// What is known about a train that came in, its bytes apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// The address that it was sent to, when the kernel told.
    pub local: Option<IpAddr>,
    /// Who sent it.
    pub remote: SocketAddr,
    /// The socket that it came in on.
    pub socket: SocketIndex,
    /// The mark that all its datagrams carry.
    pub ecn: Ecn,
    /// Bytes of each datagram, never 0; the last may be shorter.
    pub segment_len: usize,
}

/// A train to send: what the engine must know about the bytes that a shard wrote into a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transmit {
    /// The address to send from; `None` leaves the choice to the kernel.
    pub local: Option<IpAddr>,
    /// Who is to get it.
    pub remote: SocketAddr,
    /// The socket to send it on.
    pub socket: SocketIndex,
    /// The mark to send it with.
    pub ecn: Ecn,
    /// Bytes written into the frame, at most [`TRAIN_LEN_MAX`].
    pub len: usize,
    /// Bytes of each datagram; the last may be shorter. At most [`TRAIN_SEGMENTS_MAX`] of them.
    pub segment_len: usize,
}

impl Transmit {
    /// Datagrams in the train: 1 for an empty one, as UDP sends those too.
    #[must_use]
    pub const fn segment_count(&self) -> usize {
        if self.len <= self.segment_len { 1 } else { self.len.div_ceil(self.segment_len) }
    }
}

/// Why a train, or part of it, was not sent. The path's fault; the socket goes on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum TransmitError {
    /// A datagram is longer than the outgoing link takes (EMSGSIZE). Nothing of it was sent.
    #[error("the datagram is too long for the link")]
    TooLong,
    /// Somebody on the way says that nobody listens there (ECONNREFUSED). A hint: anyone can forge it.
    #[error("the other end refused")]
    Refused,
    /// The kernel has no buffer for it (ENOBUFS, ENOMEM). As good as lost on the way.
    #[error("the kernel has no buffer")]
    NoBuffers,
    /// There is no route to that address, or none from the given one (ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL).
    #[error("no route to the address")]
    Unreachable,
    /// The kernel or the link does not segment. The train was sent all the same, datagram by datagram, and so
    /// will all others be.
    #[error("segmentation offload was refused")]
    SegmentationRefused,
    /// Anything else, a firewall's verdict among it (EPERM).
    #[error("the kernel refused the datagram")]
    Other,
}

/// The address with an IPv4 one taken out of its mapped form; flow and scope stay.
#[must_use]
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transmit(len: usize, segment_len: usize) -> Transmit {
        let remote = SocketAddr::from(([127, 0, 0, 1], 9));
        Transmit { local: None, remote, socket: SocketIndex(0), ecn: Ecn::NotEct, len, segment_len }
    }

    #[test]
    fn the_mark_survives_its_bits() {
        for bits in 0..=u8::MAX {
            assert_eq!(Ecn::from_bits(bits).bits(), bits & 3);
        }
    }

    #[test]
    fn a_mapped_address_becomes_the_one_it_means() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:4433".parse().unwrap();
        assert_eq!(unmapped(mapped), "192.0.2.7:4433".parse().unwrap());
        let native: SocketAddr = "[2001:db8::7]:4433".parse().unwrap();
        assert_eq!(unmapped(native), native);
    }

    #[test]
    fn segments_are_counted_up() {
        assert_eq!(transmit(0, 0).segment_count(), 1);
        assert_eq!(transmit(1_200, 1_200).segment_count(), 1);
        assert_eq!(transmit(1_201, 1_200).segment_count(), 2);
        assert_eq!(transmit(64_800, 1_200).segment_count(), 54);
    }
}
