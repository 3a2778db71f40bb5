//! What a datagram carries, told by its first byte.
//!
//! In:    a datagram nobody has vouched for.
//! Out:   [`PacketKind`] from one byte; [`Packet`], the typed view.
//! Holds: every first byte means one thing or nothing.
//!
//! spec: atp/demultiplexing

use core::fmt;

use crate::cookie::{self, Cookie};
use crate::error::WireError;
use crate::finish::{self, Finish};
use crate::hello::{self, Hello};
use crate::reset::{self, Reset};
use crate::sealed::Sealed;
use crate::welcome::{self, Welcome};

/// The first byte of a bencoded dictionary.
pub const KRPC: u8 = b'd';

/// The kinds of packets, for demultiplexing and counting: `PacketKind::ALL[kind as usize] == kind`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PacketKind {
    /// Bencoded KRPC, first byte `d`.
    Krpc,
    /// First message of a handshake.
    Hello,
    /// Its answer.
    Welcome,
    /// "Say that again with this cookie."
    Cookie,
    /// Third message of an XX handshake.
    Finish,
    /// "I do not know this session."
    Reset,
    /// Anything inside a session, first bit set.
    Sealed,
}

impl PacketKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Krpc, Self::Hello, Self::Welcome, Self::Cookie, Self::Finish, Self::Reset, Self::Sealed];

    /// The name as it stands in `Display` of the packet and in counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Krpc => "krpc",
            Self::Hello => "hello",
            Self::Welcome => "welcome",
            Self::Cookie => "cookie",
            Self::Finish => "finish",
            Self::Reset => "reset",
            Self::Sealed => "sealed",
        }
    }
}

/// A packet, borrowed from its datagram. Nothing in it has been authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Packet<'a> {
    /// A bencoded dictionary, not looked at.
    Krpc(&'a [u8]),
    /// First message of a handshake.
    Hello(Hello<'a>),
    /// Its answer.
    Welcome(Welcome<'a>),
    /// "Say that again with this cookie."
    Cookie(Cookie<'a>),
    /// Third message of an XX handshake.
    Finish(Finish<'a>),
    /// "I do not know this session."
    Reset(Reset<'a>),
    /// Anything inside a session.
    Sealed(Sealed<'a>),
}

impl<'a> Packet<'a> {
    /// What a datagram that begins with `first` can be; `None`: nothing we know.
    #[inline]
    #[must_use]
    pub const fn kind_of(first: u8) -> Option<PacketKind> {
        match first {
            0x80..=0xff => Some(PacketKind::Sealed),
            hello::TYPE => Some(PacketKind::Hello),
            welcome::TYPE => Some(PacketKind::Welcome),
            cookie::TYPE => Some(PacketKind::Cookie),
            finish::TYPE => Some(PacketKind::Finish),
            reset::TYPE => Some(PacketKind::Reset),
            KRPC => Some(PacketKind::Krpc),
            _ => None,
        }
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when it is empty, [`WireError::Unknown`] when its first byte means nothing, and whatever
    /// the packet's own `parse` says.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let &first = datagram.first().ok_or(WireError::Truncated)?;
        match Self::kind_of(first).ok_or(WireError::Unknown)? {
            PacketKind::Sealed => Sealed::parse(datagram).map(Self::Sealed),
            PacketKind::Hello => Hello::parse(datagram).map(Self::Hello),
            PacketKind::Welcome => Welcome::parse(datagram).map(Self::Welcome),
            PacketKind::Cookie => Cookie::parse(datagram).map(Self::Cookie),
            PacketKind::Finish => Finish::parse(datagram).map(Self::Finish),
            PacketKind::Reset => Reset::parse(datagram).map(Self::Reset),
            PacketKind::Krpc => Ok(Self::Krpc(datagram)),
        }
    }

    /// What kind of packet it is.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> PacketKind {
        match self {
            Self::Krpc(_) => PacketKind::Krpc,
            Self::Hello(_) => PacketKind::Hello,
            Self::Welcome(_) => PacketKind::Welcome,
            Self::Cookie(_) => PacketKind::Cookie,
            Self::Finish(_) => PacketKind::Finish,
            Self::Reset(_) => PacketKind::Reset,
            Self::Sealed(_) => PacketKind::Sealed,
        }
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Krpc(datagram) => write!(f, "krpc length {}", datagram.len()),
            Self::Hello(hello) => write!(f, "{hello}"),
            Self::Welcome(welcome) => write!(f, "{welcome}"),
            Self::Cookie(cookie) => write!(f, "{cookie}"),
            Self::Finish(finish) => write!(f, "{finish}"),
            Self::Reset(reset) => write!(f, "{reset}"),
            Self::Sealed(sealed) => write!(f, "{sealed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: atp/demultiplexing
    #[test]
    fn every_first_byte_means_one_thing_or_nothing() {
        for first in 0..=u8::MAX {
            let expected = match first {
                b'd' => Some(PacketKind::Krpc),
                0x01..=0x05 => Some(PacketKind::ALL[usize::from(first)]),
                0x80.. => Some(PacketKind::Sealed),
                _ => None,
            };
            assert_eq!(Packet::kind_of(first), expected);
            match Packet::parse(&[first]) {
                Ok(packet) => assert_eq!(packet, Packet::Krpc(b"d")),
                Err(WireError::Unknown) => assert_eq!(expected, None),
                Err(error) => assert_eq!(error, WireError::Truncated),
            }
        }
        assert_eq!(Packet::parse(&[]), Err(WireError::Truncated));
        for (index, kind) in PacketKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }
}
