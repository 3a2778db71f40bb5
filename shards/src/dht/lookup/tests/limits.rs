//! Each bound of a lookup, met on purpose.

use super::*;
use crate::limits::PATH_HEARD_MAX;

/// The node that stands `distance` from the place, in a network of its own.
fn at_distance(place: &Address, distance: u32) -> Heard {
    in_network(place, distance, distance)
}

/// The same in the network of that number.
fn in_network(place: &Address, distance: u32, network: u32) -> Heard {
    use dunlin_codec::bytes::Writer;
    use dunlin_codec::record::{Chain, NodeFields, NodeRecord};
    let mut key = place.0;
    key[28..].iter_mut().zip(distance.to_be_bytes()).for_each(|(byte, change)| *byte ^= change);
    let fields =
        NodeFields { key: NodeId(key), sequence: 1, expiry_ms: NOW.0 + 1_000, chain: Chain::Unknown };
    let [_, high, low, last] = network.to_be_bytes();
    let mut room = [0; 300];
    let mut out = Writer::new(&mut room);
    fields.write(&mut out, &[SocketAddr::from(([60 + high, low, last, 1], 4_000))]).unwrap();
    Heard::new(&NodeRecord::parse(out.written()).unwrap())
}

/// Whoever is asked tells of nodes that are closer, without end: 128 are asked.
/// spec: p2p/lookup
#[test]
fn those_that_tell_of_closer_ones_for_ever_are_asked_128_times() {
    let place = Address([0x55; 32]);
    let begin = net().nodes[1..9].iter().map(|node| &node.contact);
    let mut lookup = Lookup::new(plan(), net().nodes[0].contact.id(), place, begin);
    let mut left = 100_000;
    while let Some(heard) = lookup.poll_question() {
        left -= 4;
        lookup.on_answer(&heard.id(), (left..left + 4).map(|distance| at_distance(&place, distance)));
        assert!(lookup.effort().asked <= 1_000, "it never ends");
    }
    assert!(lookup.is_done());
    assert_eq!((lookup.effort().asked, LOOKUP_QUESTIONS_MAX), (LOOKUP_QUESTIONS_MAX, 128));
}

/// A path that is told of a hundred nodes remembers 48, the closest.
/// spec: p2p/lookup
#[test]
fn a_path_remembers_few() {
    let place = Address([0x55; 32]);
    let plan = Plan { parallel: 200, paths: 1, ..plan() };
    let mut near: Vec<&Contact> = net().nodes[1..101].iter().map(|node| &node.contact).collect();
    let mut lookup = Lookup::new(plan, net().nodes[0].contact.id(), place, near.iter().copied());
    let asked: BTreeSet<NodeId> =
        core::iter::from_fn(|| lookup.poll_question()).map(|heard| heard.id()).collect();
    near.sort_by_key(|contact| space().distance(&place, &Space::place(&contact.id())));
    let closest: BTreeSet<NodeId> = near[..PATH_HEARD_MAX].iter().map(|contact| contact.id()).collect();
    assert_eq!((asked, PATH_HEARD_MAX), (closest, 48));
}

/// What paths leave over is asked by α for each path at once, and no more. An answer counts sixteen nodes.
/// spec: p2p/lookup
#[test]
fn what_is_left_over_is_asked_a_few_at_a_time() {
    let place = Address([0x55; 32]);
    let one = Plan { parallel: 1, ..plan() };
    let begin = net().nodes[1..5].iter().map(|node| &node.contact);
    let mut lookup = Lookup::new(one, net().nodes[0].contact.id(), place, begin);
    let first: Vec<Heard> = core::iter::from_fn(|| lookup.poll_question()).collect();
    assert_eq!(first.len(), 4, "one on each path");
    // One path hears of many that are close, and ends when four of them have answered.
    lookup.on_answer(&first[0].id(), (1..=20).map(|distance| at_distance(&place, distance)));
    first[1..].iter().for_each(|heard| lookup.on_failure(&heard.id()));
    for distance in 1..=4 {
        let heard = lookup.poll_question().unwrap();
        assert_eq!(heard, at_distance(&place, distance));
        assert!(lookup.poll_question().is_none());
        lookup.on_answer(&heard.id(), []);
    }
    let mut left = Vec::new();
    loop {
        let batch: Vec<Heard> = core::iter::from_fn(|| lookup.poll_question()).collect();
        if batch.is_empty() {
            break;
        }
        assert!(batch.len() == 4 || left.len() == 12, "{}", batch.len());
        batch.iter().for_each(|heard| lookup.on_failure(&heard.id()));
        left.extend(batch);
    }
    let expected: Vec<Heard> = (5..=16).map(|distance| at_distance(&place, distance)).collect();
    assert_eq!(left, expected, "sixteen of an answer count");
}

/// A network of which four nodes were asked waits until nobody else is left, however close its others are.
/// spec: p2p/diverse
#[test]
fn a_network_that_was_asked_four_times_waits() {
    let place = Address([0x55; 32]);
    let one = Plan { parallel: 1, ..plan() };
    let begin = net().nodes[1..5].iter().map(|node| &node.contact);
    let mut lookup = Lookup::new(one, net().nodes[0].contact.id(), place, begin);
    let first: Vec<Heard> = core::iter::from_fn(|| lookup.poll_question()).collect();
    lookup.on_answer(&first[0].id(), (1..=8).map(|distance| in_network(&place, distance, 9_999)));
    lookup.on_answer(&first[1].id(), (101..=108).map(|distance| at_distance(&place, distance)));
    first[2..].iter().for_each(|heard| lookup.on_failure(&heard.id()));
    // Each of the two paths ends when four have answered.
    let mut asked: Vec<Heard> = Vec::new();
    while asked.len() < 8 {
        let heard = lookup.poll_question().unwrap();
        lookup.on_answer(&heard.id(), []);
        asked.push(heard);
    }
    let of_network = |heard: &&Heard| (1..=8).any(|distance| in_network(&place, distance, 9_999) == **heard);
    assert_eq!((asked.iter().filter(of_network).count(), LOOKUP_PREFIX_QUESTIONS), (4, 4));
    let left: Vec<Heard> = core::iter::from_fn(|| lookup.poll_question()).collect();
    assert_eq!(left, [105, 106, 107, 108].map(|distance| at_distance(&place, distance)));
}
