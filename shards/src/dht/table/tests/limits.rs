//! Each bound of a table, met on purpose.

use super::*;
use crate::limits::CACHE_SOURCE_MAX;

/// A node whose key lies in that bucket, as seen from a key of zeros.
fn contact_in(bucket: u32, endpoint: SocketAddr) -> Contact {
    let seed = |number: u32| {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        Identity::from_seed(seed)
    };
    let is_there = |id: NodeId| u64::from_be_bytes(*id.0.first_chunk().unwrap()).leading_zeros() == bucket;
    let identity = (0..).map(seed).find(|identity| is_there(identity.id())).unwrap();
    Contact::sign(&identity, &NETWORK, (1, WALL), &[endpoint])
}

/// Twelve nodes of one /24, each in a bucket of its own: ten have places. Those of the next network have theirs.
/// spec: p2p/diversity
#[test]
fn one_network_has_ten_places_in_all_buckets_together() {
    let mut table = table();
    let from = |network: u8, host: u8| SocketAddr::from(([20, 1, network, host], 4_000));
    for bucket in 1..=12 {
        join(&mut table, &contact_in(bucket, from(1, bucket as u8)), at(0));
    }
    assert_eq!((table.count(), PREFIX_TABLE_MAX), (PREFIX_TABLE_MAX, 10));
    join(&mut table, &contact_in(0, from(2, 1)), at(0));
    assert_eq!(table.count(), PREFIX_TABLE_MAX + 1);
}

/// Beside a bucket wait sixteen nodes, eight of one teller, one of a public network; later ones take the places of those that
/// never answered, once these had their time.
/// spec: p2p/table, p2p/diversity
#[test]
fn the_queue_beside_a_bucket_has_an_end() {
    let mut table = table();
    let nodes = far_contacts(3 * CACHE_SOURCE_MAX);
    let tellers = |teller: usize| NodeId([1 + teller as u8; 32]);
    for (place, node) in nodes.iter().enumerate() {
        table.on_told(at(0).instant, node.clone(), tellers(place / (CACHE_SOURCE_MAX + 1)));
        let waiting = (place + 1 - usize::from(place >= CACHE_SOURCE_MAX)).min(BUCKET_CACHE_MAX);
        assert_eq!(table.waiting_count(), waiting, "{place}");
    }
    assert_eq!((BUCKET_CACHE_MAX, CACHE_SOURCE_MAX), (16, 8));
    let late = &nodes[nodes.len() - 1];
    let is_waiting = |table: &Table| {
        let waiting = table.buckets.iter().flat_map(|bucket| &bucket.waiting);
        waiting.filter(|waiting| waiting.contact.id() == late.id()).count() == 1
    };
    assert!(!is_waiting(&table));
    table.on_told(at(NODE_QUIET_AFTER.as_secs()).instant, late.clone(), tellers(9));
    assert!(is_waiting(&table) && table.waiting_count() == BUCKET_CACHE_MAX);
}

/// spec: p2p/diversity
#[test]
fn one_network_has_one_place_in_a_queue() {
    let mut table = table();
    for host in 1..=3 {
        let endpoint = SocketAddr::from(([20, 1, 1, host], 4_000));
        let node = (0..).map(|byte| contact_at(byte * 4 + u16::from(host), 1, endpoint));
        let node = node.into_iter().find(|node| node.id().0[0] & 0x80 != 0).unwrap();
        table.on_told(at(0).instant, node, NodeId([host; 32]));
    }
    assert_eq!((table.waiting_count(), PREFIX_BUCKET_MAX), (1, 1));
}
