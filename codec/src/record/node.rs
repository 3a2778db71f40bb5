//! A node's record: where it can be reached, said by itself.
//!
//! In:    bytes; fields to write.
//! Out:   [`NodeRecord`]; bytes without the signature.
//! Holds: at most [`NODE_RECORD_LEN_MAX`] bytes (T10), no endpoint with port 0, no IPv4 address in an IPv6 coat.
//!
//! | bytes | field |
//! |---|---|
//! | 32 | the node's key |
//! | 8 | sequence: a higher one replaces a lower one |
//! | 8 | expiry, unix ms |
//! | 1 | chain: 0 nothing is known, 1 inception, 2 successor |
//! | 96 | inception only: SHA-256 of the next key 32, the inception's signature 64 |
//! | 33 | successor only: the key before 32, index 1: the change lies in the DHT under ["key-change", key before] |
//! | 1 | number of endpoints, 0 to 4; 0: the node can only initiate |
//! | 7 or 19 each | 4 or 6, address 4 or 16, port 2 |
//! | 64 | signature |
//!
//! spec: p2p/node-record

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Inception, SIGNATURE_LEN};
use crate::bytes::{Reader, Writer};
use crate::error::{NoRoom, WireError};
use crate::ids::NodeId;
use crate::label::{self, Network};

/// Endpoints of a node at most.
pub const ENDPOINTS_MAX: usize = 4;

const ENDPOINT_LEN_MAX: usize = 1 + 16 + 2;
const FIXED_LEN: usize = 32 + 8 + 8 + 1 + 1 + SIGNATURE_LEN;
const INCEPTION_PART_LEN: usize = 32 + SIGNATURE_LEN;

/// Bytes of a record at most.
pub const NODE_RECORD_LEN_MAX: usize = FIXED_LEN + INCEPTION_PART_LEN + ENDPOINTS_MAX * ENDPOINT_LEN_MAX;

const _: () = assert!(NODE_RECORD_LEN_MAX <= 300, "T10");

/// What a node says of the history of its key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Chain<'a> {
    /// Nothing: its key cannot be changed.
    Unknown,
    /// The key is a first one and names the hash of the next.
    Inception {
        /// SHA-256 of the next key.
        next_hash: &'a [u8; 32],
        /// The inception's signature.
        signature: &'a [u8; SIGNATURE_LEN],
    },
    /// The key follows another.
    Successor {
        /// The key before.
        previous: NodeId,
        /// How many changes there were.
        index: u8,
    },
}

/// What a record is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeFields<'a> {
    /// The node's key.
    pub key: NodeId,
    /// A higher sequence replaces a lower one.
    pub sequence: u64,
    /// When the record ends: unix time in milliseconds.
    pub expiry_ms: u64,
    /// The history of its key.
    pub chain: Chain<'a>,
}

/// A node's record, borrowed from its bytes. Nobody has verified it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeRecord<'a> {
    /// Key, sequence, expiry, history.
    pub fields: NodeFields<'a>,
    bytes: &'a [u8],
    endpoints: &'a [u8],
    signature: &'a [u8; SIGNATURE_LEN],
}

impl NodeFields<'_> {
    /// Writes the record with zeros for its signature; [`super::set_signature`] fills them in.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When there are more than [`ENDPOINTS_MAX`] endpoints or one has port 0.
    pub fn write(&self, out: &mut Writer<'_>, endpoints: &[SocketAddr]) -> Result<(), NoRoom> {
        assert!(endpoints.len() <= ENDPOINTS_MAX, "a node has few endpoints");
        let mut room = [0; NODE_RECORD_LEN_MAX];
        let mut record = Writer::new(&mut room);
        self.write_parts(&mut record, endpoints).expect("the room is as large as a record can be");
        out.put(record.written())
    }

    fn write_parts(&self, out: &mut Writer<'_>, endpoints: &[SocketAddr]) -> Result<(), NoRoom> {
        out.put(&self.key.0)?;
        out.u64(self.sequence)?;
        out.u64(self.expiry_ms)?;
        match self.chain {
            Chain::Unknown => out.u8(0)?,
            Chain::Inception { next_hash, signature } => {
                out.u8(1)?;
                out.put(next_hash)?;
                out.put(signature)?;
            }
            Chain::Successor { previous, index } => {
                out.u8(2)?;
                out.put(&previous.0)?;
                out.u8(index)?;
            }
        }
        out.u8(endpoints.len() as u8)?;
        for endpoint in endpoints {
            write_endpoint(out, *endpoint)?;
        }
        out.zeros(SIGNATURE_LEN)
    }
}

fn write_endpoint(out: &mut Writer<'_>, endpoint: SocketAddr) -> Result<(), NoRoom> {
    assert_ne!(endpoint.port(), 0, "nobody listens on port 0");
    match endpoint.ip().to_canonical() {
        IpAddr::V4(ip) => out.u8(4).and_then(|()| out.put(&ip.octets()))?,
        IpAddr::V6(ip) => out.u8(6).and_then(|()| out.put(&ip.octets()))?,
    }
    out.u16(endpoint.port())
}

fn endpoint(reader: &mut Reader<'_>) -> Result<SocketAddr, WireError> {
    let ip = match reader.u8()? {
        4 => IpAddr::V4(Ipv4Addr::from_octets(*reader.array()?)),
        6 => IpAddr::V6(Ipv6Addr::from_octets(*reader.array()?)),
        _ => return Err(WireError::Unknown),
    };
    let port = reader.u16()?;
    if port == 0 || ip != ip.to_canonical() {
        return Err(WireError::OutOfRange);
    }
    Ok(SocketAddr::new(ip, port))
}

fn chain<'a>(reader: &mut Reader<'a>) -> Result<Chain<'a>, WireError> {
    Ok(match reader.u8()? {
        0 => Chain::Unknown,
        1 => Chain::Inception { next_hash: reader.array()?, signature: reader.array()? },
        2 => Chain::Successor { previous: NodeId(*reader.array()?), index: reader.u8()? },
        _ => return Err(WireError::Unknown),
    })
}

impl<'a> NodeRecord<'a> {
    /// Takes exactly one record.
    ///
    /// # Errors
    /// [`WireError`]: cut short, bytes left over, unknown kinds, bad endpoints.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let (key, sequence, expiry_ms) = (NodeId(*reader.array()?), reader.u64()?, reader.u64()?);
        let fields = NodeFields { key, sequence, expiry_ms, chain: chain(&mut reader)? };
        let count = reader.u8()?;
        if usize::from(count) > ENDPOINTS_MAX {
            return Err(WireError::OutOfRange);
        }
        let mut start = reader.clone();
        for _ in 0..count {
            endpoint(&mut reader)?;
        }
        let endpoints = start.take(start.left() - reader.left())?;
        let signature = reader.array()?;
        reader.finish()?;
        Ok(Self { fields, bytes, endpoints, signature })
    }

    /// All its bytes, to be handed on.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where the node can be reached; nowhere: it can only initiate.
    #[must_use]
    pub const fn endpoints(&self) -> Endpoints<'a> {
        Endpoints { reader: Reader::new(self.endpoints) }
    }

    /// The signature of the node's key.
    #[must_use]
    pub const fn signature(&self) -> &'a [u8; SIGNATURE_LEN] {
        self.signature
    }

    /// What is signed, one slice behind the other.
    #[must_use]
    pub fn signing_input<'b>(&'b self, network: &'b Network) -> [&'b [u8]; 3] {
        [label::NODE_RECORD, &network.0, &self.bytes[..self.bytes.len() - SIGNATURE_LEN]]
    }

    /// The inception that came along.
    #[must_use]
    pub const fn inception(&self) -> Option<Inception<'a>> {
        match self.fields.chain {
            Chain::Inception { next_hash, signature } => {
                Some(Inception { key: self.fields.key, next_hash, signature })
            }
            _ => None,
        }
    }
}

impl fmt::Display for NodeRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NodeFields { key, sequence, expiry_ms, chain } = self.fields;
        write!(f, "node {key} sequence {sequence} expiry {expiry_ms}")?;
        match chain {
            Chain::Unknown => {}
            Chain::Inception { .. } => f.write_str(" inception")?,
            Chain::Successor { previous, index } => write!(f, " after {previous} index {index}")?,
        }
        self.endpoints().try_for_each(|endpoint| write!(f, " {endpoint}"))
    }
}

/// A node's endpoints.
#[derive(Clone, Debug)]
pub struct Endpoints<'a> {
    reader: Reader<'a>,
}

impl Iterator for Endpoints<'_> {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        endpoint(&mut self.reader).ok()
    }
}
