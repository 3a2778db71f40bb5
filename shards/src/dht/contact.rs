//! Contacts: node records that are kept, as somebody told them and once their signature was checked.
//!
//! In:    bytes of a record; our own fields to sign.
//! Out:   [`Heard`], which nobody has vouched for; [`Contact`], whose signature held.
//! Holds: the two differ in type: nothing takes a heard record where a checked one is needed (T10).
//!
//! A record says where a node says that it is. That it is there, only a session with it shows.
//!
//! spec: p2p/contact

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::record::{Chain, NODE_RECORD_LEN_MAX, NodeFields, NodeRecord, set_signature};

use crate::identity::{Identity, verify};
use crate::limits::{NODE_RECORD_LIFE_MAX, NODE_RECORD_SKEW};
use crate::time::{WallMillis, nanos_of};

/// Why a record is not taken. Whoever told it is not to blame for more than passing it on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadContact {
    /// These bytes are no record.
    #[error("these bytes are no node record")]
    Layout,
    /// Its time is over, or ends too late to be true.
    #[error("the record's time is over, or lasts too long")]
    Expired,
    /// The key that it names did not sign it.
    #[error("the record's signature does not hold")]
    Signature,
}

/// A node's record as somebody told it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heard {
    id: NodeId,
    bytes: Arc<[u8]>,
}

/// A node's record whose signature was checked. Copies share their bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contact {
    id: NodeId,
    bytes: Arc<[u8]>,
}

const fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

fn record(bytes: &[u8]) -> NodeRecord<'_> {
    NodeRecord::parse(bytes).expect("a contact's bytes were parsed before")
}

impl Heard {
    /// Takes a record out of an answer.
    #[must_use]
    pub fn new(record: &NodeRecord<'_>) -> Self {
        Self { id: record.fields.key, bytes: record.bytes().into() }
    }

    /// Whose it is said to be.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Its bytes, to be handed on.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A higher one replaces a lower one.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        record(&self.bytes).fields.sequence
    }

    /// Where it says that the node is.
    #[must_use]
    pub fn endpoint(&self) -> Option<SocketAddr> {
        record(&self.bytes).endpoints().next()
    }

    /// It tells where the node's key comes from.
    #[must_use]
    pub fn has_past(&self) -> bool {
        record(&self.bytes).inception().is_some()
    }

    /// Checks time and signature. Some 30 us.
    ///
    /// # Errors
    /// `BadContact`: it must be treated as if it had never come.
    pub fn check(&self, network: &Network, now: WallMillis) -> Result<Contact, BadContact> {
        let record = record(&self.bytes);
        let expiry = record.fields.expiry_ms;
        let latest = now.0.saturating_add(millis(NODE_RECORD_LIFE_MAX) + millis(NODE_RECORD_SKEW));
        if expiry <= now.0 || expiry > latest {
            return Err(BadContact::Expired);
        }
        let signed = record.signing_input(network).concat();
        verify(&self.id, &signed, record.signature()).map_err(|_| BadContact::Signature)?;
        Ok(Contact { id: self.id, bytes: Arc::clone(&self.bytes) })
    }
}

impl Contact {
    /// Takes a record and checks it.
    ///
    /// # Errors
    /// `BadContact`: layout, time or signature.
    pub fn read(bytes: &[u8], network: &Network, now: WallMillis) -> Result<Self, BadContact> {
        let record = NodeRecord::parse(bytes).map_err(|_| BadContact::Layout)?;
        Heard::new(&record).check(network, now)
    }

    /// Makes our own record. A higher sequence replaces a lower one: the wall clock's milliseconds serve.
    ///
    /// # Panics
    /// When there are more than four endpoints, or one has port 0.
    #[must_use]
    pub fn sign(
        identity: &Identity,
        network: &Network,
        stamp: (u64, WallMillis),
        endpoints: &[SocketAddr],
    ) -> Self {
        Self::sign_with(identity, network, stamp, (endpoints, Chain::Unknown))
    }

    /// The same with what the node says of its key's past.
    ///
    /// # Panics
    /// When there are more than four endpoints, or one has port 0.
    #[must_use]
    pub fn sign_with(
        identity: &Identity,
        network: &Network,
        (sequence, now): (u64, WallMillis),
        (endpoints, chain): (&[SocketAddr], Chain<'_>),
    ) -> Self {
        let expiry_ms = now.0.saturating_add(nanos_of(NODE_RECORD_LIFE_MAX) / 1_000_000);
        let fields = NodeFields { key: identity.id(), sequence, expiry_ms, chain };
        let mut room = [0; NODE_RECORD_LEN_MAX];
        let mut out = Writer::new(&mut room);
        fields.write(&mut out, endpoints).expect("the room is as large as a record can be");
        let signed = record(out.written()).signing_input(network).concat();
        let signature = identity.sign(&signed);
        set_signature(out.written_mut(), &signature).expect("a record ends with its signature");
        Self { id: identity.id(), bytes: out.written().into() }
    }

    /// Whose it is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Its bytes, to be handed on.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    #[must_use]
    pub fn record(&self) -> NodeRecord<'_> {
        record(&self.bytes)
    }

    /// A higher one replaces a lower one.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.record().fields.sequence
    }

    /// When it ends.
    #[must_use]
    pub fn expiry(&self) -> WallMillis {
        WallMillis(self.record().fields.expiry_ms)
    }

    /// Where the node is to be called first; none: it can only initiate.
    #[must_use]
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.record().endpoints().next()
    }

    /// Whether every endpoint may be told to anybody: a record is handed on whole or not at all.
    #[must_use]
    pub fn is_public(&self) -> bool {
        let mut endpoints = self.record().endpoints().peekable();
        endpoints.peek().is_some() && endpoints.all(|endpoint| is_public(endpoint.ip()))
    }

    /// The same as somebody told it.
    #[must_use]
    pub fn heard(&self) -> Heard {
        Heard { id: self.id, bytes: Arc::clone(&self.bytes) }
    }
}

/// Whether packets to an address leave our own networks: neither loopback, link-local, private, shared, documentation,
/// benchmarking, reserved nor unspecified.
#[must_use]
pub const fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

const fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_shared = a == 100 && b & 0xc0 == 64;
    let is_protocol = a == 192 && b == 0 && c == 0;
    let is_benchmark = a == 198 && b & 0xfe == 18;
    !(a == 0
        || a >= 224
        || is_shared
        || is_protocol
        || is_benchmark
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation())
}

const fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Global unicast is 2000::/3; documentation is 2001:db8::/32 within it.
    a & 0xe000 == 0x2000 && !(a == 0x2001 && b == 0x0db8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: Network = Network([7; 32]);
    const NOW: WallMillis = WallMillis(1_760_000_000_000);

    fn contact() -> Contact {
        let endpoints = ["192.0.2.1:7".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()];
        Contact::sign(&Identity::from_seed([1; 32]), &NETWORK, (5, NOW), &endpoints)
    }

    /// spec: p2p/contact
    #[test]
    fn what_was_signed_is_taken_and_nothing_else() {
        let contact = contact();
        assert_eq!(Contact::read(contact.bytes(), &NETWORK, NOW), Ok(contact.clone()));
        assert_eq!((contact.sequence(), contact.endpoint()), (5, Some("192.0.2.1:7".parse().unwrap())));
        let other = Contact::read(contact.bytes(), &Network([8; 32]), NOW);
        assert_eq!(other, Err(BadContact::Signature), "another network's record");
        for at in 0..contact.bytes().len() {
            let mut bytes = contact.bytes().to_vec();
            bytes[at] ^= 1;
            assert!(Contact::read(&bytes, &NETWORK, NOW).is_err(), "byte {at}");
        }
        assert_eq!(Contact::read(&contact.bytes()[1..], &NETWORK, NOW), Err(BadContact::Layout));
    }

    /// spec: p2p/contact
    #[test]
    fn a_record_lasts_a_day() {
        let contact = contact();
        let at = |ms| contact.heard().check(&NETWORK, WallMillis(ms)).map(drop);
        assert_eq!(contact.expiry(), WallMillis(NOW.0 + 24 * 3_600_000));
        assert_eq!(at(contact.expiry().0 - 1), Ok(()));
        assert_eq!(at(contact.expiry().0), Err(BadContact::Expired));
        assert_eq!(at(NOW.0 - 120_000), Ok(()), "its clock may be ahead of ours");
        assert_eq!(at(NOW.0 - 120_001), Err(BadContact::Expired), "made to last longer than a day");
    }

    /// spec: p2p/contact
    #[test]
    fn only_public_addresses_are_told_to_anybody() {
        let public = ["1.1.1.1", "100.128.0.1", "192.0.1.1", "198.20.0.1", "2606:4700::1", "2001:db9::1"];
        let private = [
            "0.0.0.0",
            "10.1.1.1",
            "127.0.0.1",
            "100.64.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.168.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ];
        for text in public {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in private {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        assert!(!contact().is_public());
        let sign = |endpoints: &[SocketAddr]| {
            Contact::sign(&Identity::from_seed([1; 32]), &NETWORK, (5, NOW), endpoints).is_public()
        };
        let (far, near) = ("1.1.1.1:1".parse().unwrap(), "10.0.0.1:1".parse().unwrap());
        assert!(sign(&[far]) && !sign(&[far, near]) && !sign(&[]));
    }
}
