//! Records: each comes back byte for byte, and whatever the network may send instead.

use core::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::bytes::Writer;
use crate::ids::NodeId;
use crate::label::Network;
use crate::msgpack::Encoded;

const NETWORK: Network = Network([7; 32]);

fn endpoints() -> impl Strategy<Value = Vec<SocketAddr>> {
    let v4 = (any::<[u8; 4]>(), 1_u16..).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
    // Never an IPv4 address in an IPv6 coat.
    let v6 = (any::<[u16; 8]>(), 1_u16..).prop_map(|(mut ip, port)| {
        ip[0] |= 1;
        SocketAddr::from((ip, port))
    });
    prop::collection::vec(prop_oneof![v4, v6], 0..=ENDPOINTS_MAX)
}

fn node_bytes(fields: &NodeFields<'_>, endpoints: &[SocketAddr]) -> Vec<u8> {
    let mut room = [0; NODE_RECORD_LEN_MAX];
    let mut out = Writer::new(&mut room);
    fields.write(&mut out, endpoints).unwrap();
    set_signature(out.written_mut(), &[9; 64]).unwrap();
    let bytes = out.written().to_vec();
    assert!(fields.write(&mut Writer::new(&mut vec![0; bytes.len() - 1]), endpoints).is_err());
    bytes
}

fn key_bytes(group: Option<&str>, name: &[u8]) -> Vec<u8> {
    use crate::msgpack::write;
    let mut room = [0; 2 * KEY_LEN_MAX];
    let mut out = Writer::new(&mut room);
    if let Some(group) = group {
        write::array(&mut out, 2).and_then(|()| write::str(&mut out, group)).unwrap();
    }
    write::bin(&mut out, name).unwrap();
    out.written().to_vec()
}

proptest! {
    /// spec: p2p/node-record
    #[test]
    fn node_records_come_back(
        keys: [[u8; 32]; 2], sequence: u64, expiry_ms: u64, kind in 0..3, index: u8, endpoints in endpoints(),
    ) {
        let chain = match kind {
            0 => Chain::Unknown,
            1 => Chain::Inception { next_hash: &keys[1], signature: &[5; 64] },
            _ => Chain::Successor { previous: NodeId(keys[1]), index },
        };
        let fields = NodeFields { key: NodeId(keys[0]), sequence, expiry_ms, chain };
        let bytes = node_bytes(&fields, &endpoints);
        let record = NodeRecord::parse(&bytes).unwrap();
        prop_assert_eq!(record.fields, fields);
        prop_assert_eq!(record.endpoints().collect::<Vec<_>>(), endpoints);
        prop_assert_eq!((record.bytes(), record.signature()), (&bytes[..], &[9; 64]));
        let signed = record.signing_input(&NETWORK).concat();
        prop_assert_eq!(&signed[21 + 32..], &bytes[..bytes.len() - 64]);
        prop_assert_eq!(record.inception().is_some(), kind == 1);
        for len in 0..bytes.len() {
            prop_assert!(NodeRecord::parse(&bytes[..len]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(NodeRecord::parse(&longer), Err(WireError::Trailing));
    }

    /// spec: p2p/value-record
    #[test]
    fn value_records_come_back(
        group in prop::option::of(".{0,20}"), name in prop::collection::vec(any::<u8>(), 0..50),
        owner in 0_u8..3, numbers: [u64; 5], value_hash: [u8; 32],
    ) {
        let key = key_bytes(group.as_deref(), &name);
        let key = Key::parse(&key).unwrap().unwrap();
        let [sequence, time_ms, expiry_ms, token, until_ms] = numbers;
        let (owner, writer) = (NodeId([owner; 32]), NodeId([1; 32]));
        let fields = ValueFields { key, owner, sequence, time_ms, expiry_ms, value_hash: &value_hash, writer, token };
        let grant = (owner.0[0] == 2).then_some((until_ms, &[3; 64]));
        let mut room = [0; VALUE_RECORD_LEN_MAX];
        let mut out = Writer::new(&mut room);
        fields.write(&mut out, grant).unwrap();
        set_signature(out.written_mut(), &[9; 64]).unwrap();
        let bytes = out.written().to_vec();
        let record = ValueRecord::parse(&bytes).unwrap();
        prop_assert_eq!(record.fields, fields);
        prop_assert_eq!((record.bytes(), record.signature()), (&bytes[..], &[9; 64]));
        prop_assert_eq!(record.grant.map(|grant| (grant.until_ms, grant.signature)), grant);
        if let Some(grant) = record.grant {
            let signed = grant.signing_input(&NETWORK, &mut [0; 8]).concat();
            prop_assert_eq!(&signed[15 + 32..], [key.bytes(), &writer.0, &until_ms.to_be_bytes()].concat());
        }
        let signed = record.signing_input(&NETWORK).concat();
        prop_assert_eq!(&signed[22 + 32..], &bytes[..bytes.len() - 64]);
        for len in 0..bytes.len() {
            prop_assert!(ValueRecord::parse(&bytes[..len]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(ValueRecord::parse(&longer), Err(WireError::Trailing));
    }

    /// spec: p2p/change-key
    #[test]
    fn key_changes_come_back(current: [u8; 32], new: [u8; 32], index: u16, time_ms: u64, next_hash: [u8; 32]) {
        let change = KeyChange { current: NodeId(current), new: NodeId(new), index, time_ms, next_hash };
        let bytes = change.to_bytes();
        let expected = if index == 0 || current == new { Err(WireError::OutOfRange) } else { Ok(change) };
        prop_assert_eq!(KeyChange::parse(&bytes), expected);
        prop_assert_eq!(KeyChange::parse(&bytes[1..]), Err(WireError::Truncated));
        prop_assert_eq!(&KeyChange::signing_input(&bytes).concat()[20..], &bytes[..]);
    }

    #[test]
    fn junk_never_panics(junk in prop::collection::vec(any::<u8>(), 0..400), kind in 0_u8..4, count in 0_u8..6) {
        let mut junk = junk;
        if junk.len() > 50 {
            (junk[48], junk[49]) = (kind, count);
        }
        if let Ok(record) = NodeRecord::parse(&junk) {
            prop_assert_eq!(record.bytes(), &junk[..]);
        }
        let _ = ValueRecord::parse(&junk).map(|record| record.to_string());
    }
}

/// spec: p2p/node-record
#[test]
fn endpoints_that_nobody_has_are_refused() {
    let fields = NodeFields { key: NodeId([1; 32]), sequence: 1, expiry_ms: 2, chain: Chain::Unknown };
    let good = node_bytes(&fields, &["1.2.3.4:5".parse().unwrap()]);
    let mut bytes = good.clone();
    bytes[49] = 5;
    assert_eq!(NodeRecord::parse(&bytes), Err(WireError::OutOfRange), "five endpoints");
    bytes.clone_from(&good);
    bytes[56] = 0;
    assert_eq!(NodeRecord::parse(&bytes), Err(WireError::OutOfRange), "port 0");
    bytes[50] = 5;
    assert_eq!(NodeRecord::parse(&bytes), Err(WireError::Unknown), "a family that nobody knows");
    let coat = node_bytes(&fields, &["[::2]:5".parse().unwrap()]);
    let mut mapped = coat.clone();
    mapped[61..63].fill(0xff);
    assert!(NodeRecord::parse(&coat).is_ok());
    assert_eq!(NodeRecord::parse(&mapped), Err(WireError::OutOfRange), "an IPv4 address in an IPv6 coat");
}

/// spec: p2p/key
#[test]
fn a_key_has_one_form() {
    let is_key = |bytes: &[u8]| Key::parse(bytes).unwrap().is_some();
    assert!(is_key(&[0xa1, b'a']) && is_key(&[0xc4, 1, 9]) && is_key(&[0x92, 0xa1, b'g', 0xc4, 1, 9]));
    assert!(!is_key(&[0xd9, 1, b'a']), "longer than need be");
    assert!(!is_key(&[0xdc, 0, 2, 0xa1, b'g', 0xa1, b'n']), "longer than need be");
    assert!(!is_key(&[0x91, 0xa1, b'g']) && !is_key(&[1]) && !is_key(&[0x92, 1, 2]) && !is_key(&[0xc0]));
    assert!(is_key(&key_bytes(None, &[0; KEY_LEN_MAX - 3])));
    assert!(!is_key(&key_bytes(None, &[0; KEY_LEN_MAX - 2])), "too long");
    let pair = [0x92, 0xa1, b'g', 0xa1, b'n'];
    let key = Key::parse(&pair).unwrap().unwrap();
    assert_eq!(key.address_input(), &pair[1..3], "all names of a group live together");
    assert_eq!(key.name().and_then(|name| name.as_str()), Some("n"));
    let alone = Encoded::parse(&pair[1..3]).unwrap();
    assert_eq!(Key::new(alone).unwrap().address_input(), &pair[1..3]);
}

/// spec: p2p/change-key
#[test]
fn an_inception_is_put_together_from_the_record() {
    let chain = Chain::Inception { next_hash: &[2; 32], signature: &[3; 64] };
    let fields = NodeFields { key: NodeId([1; 32]), sequence: 1, expiry_ms: 2, chain };
    let bytes = node_bytes(&fields, &[]);
    let inception = NodeRecord::parse(&bytes).unwrap().inception().unwrap().to_bytes();
    assert_eq!(inception[..], [&b"dunlin inception v1"[..], &[1; 32], &[2; 32], &[3; 64]].concat());
}
