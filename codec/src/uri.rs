//! Addresses as people write them: `dunlin://ID@host:port`, or `host:port` where the ID is not known.
//!
//! In:    text typed, pasted or read from a file.
//! Out:   [`NodeId`], [`DunlinUri`]; text.
//! Holds: what is displayed reads back as the same value. Only this module allocates, and only here.
//!
//! An ID is 52 characters of z-base-32: 256 bits, then four pad bits, which must be zero, so that a key has one spelling.
//! spec: atp/identity

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::ids::NodeId;

/// The port of a URI that names none.
pub const DEFAULT_PORT: u16 = 7117;

/// Characters of an ID.
pub const ID_LEN: usize = 52;

/// The longest host name, in bytes.
const HOST_LEN_MAX: usize = 253;
/// The longest part of a host name between two dots, in bytes.
const LABEL_LEN_MAX: usize = 63;

const SCHEME: &str = "dunlin://";

const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// The five bits that a character stands for, in either case; 0xff: none.
const VALUES: [u8; 128] = {
    let mut values = [0xff; 128];
    let mut value = 0;
    while value < 32 {
        values[ALPHABET[value] as usize] = value as u8;
        values[ALPHABET[value].to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    values
};

/// What is wrong with an address, where, and what to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("at character {position}: {fault}")]
pub struct UriError {
    /// The character, counted from 1.
    pub position: usize,
    /// What is wrong there.
    pub fault: UriFault,
}

/// What can be wrong with an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UriFault {
    /// Nothing was given.
    #[error("the address is empty; write dunlin://ID@host:port or host:port")]
    Empty,
    /// Another scheme than ours.
    #[error("this scheme is not dunlin://; write dunlin://ID@host:port or host:port")]
    Scheme,
    /// An ID that is not 52 characters long.
    #[error("the ID has {found} characters, not 52; copy it again, whole")]
    IdLength {
        /// How many characters it has.
        found: usize,
    },
    /// A character that no ID has.
    #[error("{found:?} is in no ID (0, 2, l and v never are); copy the ID again")]
    IdCharacter {
        /// The character.
        found: char,
    },
    /// The four pad bits are not zero.
    #[error("no ID ends in {found:?}; copy the ID again")]
    IdPadding {
        /// The last character.
        found: char,
    },
    /// No host after the ID or before the port.
    #[error("the host is missing; write dunlin://ID@host:port")]
    HostMissing,
    /// An ID stands alone.
    #[error("this is an ID without a host; write dunlin://ID@host:port")]
    IdAlone,
    /// A host name, or a part of it, that is empty or too long.
    #[error("a host name has at most 253 characters, and 1 to 63 between two dots; correct the name")]
    HostLength,
    /// A character that no host name has.
    #[error("{found:?} cannot stand here in a host name; correct the name (other alphabets: its xn-- form)")]
    HostCharacter {
        /// The character.
        found: char,
    },
    /// Four numbers, but not an IPv4 address.
    #[error("this is not an IPv4 address; write four numbers from 0 to 255, without leading zeros")]
    Ipv4,
    /// Brackets without an IPv6 address in them.
    #[error("this is not an IPv6 address; write it as in [2001:db8::1] (no zone after %)")]
    Ipv6,
    /// An IPv6 address without brackets, or a bracket without its other half.
    #[error("an IPv6 address stands in brackets; write it as in [2001:db8::1]:7117")]
    Brackets,
    /// Not a port.
    #[error("a port is a number from 1 to 65535; write it, or leave it and its colon out for 7117")]
    Port,
}

const fn fault<T>(position: usize, fault: UriFault) -> Result<T, UriError> {
    Err(UriError { position, fault })
}

/// The host part of a URI.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Host {
    /// A name to be looked up, as it was written.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, in brackets when written.
    V6(Ipv6Addr),
}

/// Where a node can be reached, and who it must be.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct DunlinUri {
    /// Who must answer; `None`: whoever does is told to the caller.
    pub id: Option<NodeId>,
    /// Where it listens.
    pub host: Host,
    /// Its UDP port.
    pub port: u16,
}

impl NodeId {
    /// The ID as 52 lower-case characters, all ASCII.
    #[must_use]
    pub fn to_text(self) -> [u8; ID_LEN] {
        let mut text = [0; ID_LEN];
        let (mut bits, mut held, mut at) = (0u32, 0, 0);
        for byte in self.0 {
            bits = bits << 8 | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                text[at] = ALPHABET[(bits >> held) as usize & 31];
                at += 1;
            }
        }
        text[at] = ALPHABET[(bits << (5 - held)) as usize & 31];
        text
    }
}

impl FromStr for NodeId {
    type Err = UriError;

    /// Reads 52 characters of z-base-32, in either case.
    fn from_str(text: &str) -> Result<Self, UriError> {
        for (index, found) in text.chars().enumerate() {
            let value = u8::try_from(found).ok().and_then(|byte| VALUES.get(usize::from(byte)));
            if value.is_none_or(|&value| value == 0xff) {
                return fault(index + 1, UriFault::IdCharacter { found });
            }
        }
        let characters: &[u8; ID_LEN] = match text.as_bytes().try_into() {
            Ok(characters) => characters,
            Err(_) => return fault(text.len() + 1, UriFault::IdLength { found: text.len() }),
        };
        let mut key = [0; 32];
        let (mut bits, mut held, mut at) = (0u32, 0, 0);
        for &character in characters {
            bits = bits << 5 | u32::from(VALUES[usize::from(character)]);
            held += 5;
            if held >= 8 {
                held -= 8;
                key[at] = (bits >> held) as u8;
                at += 1;
            }
        }
        if bits & 0x0f != 0 {
            return fault(ID_LEN, UriFault::IdPadding { found: char::from(characters[ID_LEN - 1]) });
        }
        Ok(Self(key))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(core::str::from_utf8(&self.to_text()).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for DunlinUri {
    type Err = UriError;

    /// Reads `[dunlin://][ID@]host[:port]`. Scheme and ID are read in either case.
    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.is_empty() {
            return fault(1, UriFault::Empty);
        }
        let rest = strip_scheme(text)?;
        let Some((id, place)) = rest.split_once('@') else {
            if rest.parse::<NodeId>().is_ok() {
                return fault(text.chars().count() + 1, UriFault::IdAlone);
            }
            let (host, port) = parse_place(rest, position_of(text, rest))?;
            return Ok(Self { id: None, host, port });
        };
        let before_id = position_of(text, id) - 1;
        let id = id
            .parse::<NodeId>()
            .map_err(|UriError { position, fault }| UriError { position: position + before_id, fault })?;
        let (host, port) = parse_place(place, position_of(text, place))?;
        Ok(Self { id: Some(id), host, port })
    }
}

/// Where `part` begins in `whole`, in characters counted from 1; `part` is a tail of it or followed by one.
fn position_of(whole: &str, part: &str) -> usize {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    whole[..start].chars().count() + 1
}

fn strip_scheme(text: &str) -> Result<&str, UriError> {
    match text.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(rest),
        _ if text.contains("://") => fault(1, UriFault::Scheme),
        _ => Ok(text),
    }
}

/// Reads `host[:port]`, which begins at `position`.
fn parse_place(place: &str, position: usize) -> Result<(Host, u16), UriError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let Some((inside, port)) = bracketed.split_once(']') else {
                return fault(position, UriFault::Brackets);
            };
            let Ok(address) = inside.parse() else {
                return fault(position + 1, UriFault::Ipv6);
            };
            if !port.is_empty() && !port.starts_with(':') {
                return fault(position + inside.len() + 2, UriFault::Port);
            }
            (Host::V6(address), port)
        }
        None if place.bytes().filter(|&byte| byte == b':').count() > 1 => {
            return fault(position, UriFault::Brackets);
        }
        None => {
            let (host, port) = place.split_at(place.find(':').unwrap_or(place.len()));
            (parse_host(host, position)?, port)
        }
    };
    let port_position = position_of(place, port) + position;
    match port.strip_prefix(':') {
        None => Ok((host, DEFAULT_PORT)),
        Some(port) => Ok((host, parse_port(port, port_position)?)),
    }
}

fn parse_port(port: &str, position: usize) -> Result<u16, UriError> {
    if let Some(index) = port.chars().position(|character| !character.is_ascii_digit()) {
        return fault(position + index, UriFault::Port);
    }
    match port.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => fault(position, UriFault::Port),
    }
}

/// Reads a host without brackets, which begins at `position`.
fn parse_host(host: &str, position: usize) -> Result<Host, UriError> {
    if host.is_empty() {
        return fault(position, UriFault::HostMissing);
    }
    if let Ok(address) = host.parse() {
        return Ok(Host::V4(address));
    }
    for (index, found) in host.chars().enumerate() {
        if !(found.is_ascii_alphanumeric() || matches!(found, '.' | '-' | '_')) {
            return fault(position + index, UriFault::HostCharacter { found });
        }
    }
    // ASCII from here on: bytes are characters.
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > HOST_LEN_MAX {
        return fault(position + HOST_LEN_MAX, UriFault::HostLength);
    }
    let mut start = position;
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_LEN_MAX {
            return fault(start, UriFault::HostLength);
        }
        for (index, byte) in [(0, label.as_bytes()[0]), (label.len() - 1, label.as_bytes()[label.len() - 1])]
        {
            if byte == b'-' {
                return fault(start + index, UriFault::HostCharacter { found: '-' });
            }
        }
        start += label.len() + 1;
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return fault(position, UriFault::Ipv4);
    }
    Ok(Host::Name(host.to_owned()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for DunlinUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, host, port } = self;
        match id {
            Some(id) => write!(f, "{SCHEME}{id}@{host}:{port}"),
            None => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests;
