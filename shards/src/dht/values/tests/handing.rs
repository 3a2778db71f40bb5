//! Handing over: who is given what, and who is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use dunlin_codec::args::StoreOptions;
use dunlin_codec::ids::NodeId;

use super::super::*;
use super::kit::*;
use crate::dht::contact::Contact;
use crate::dht::known::Known;
use crate::dht::space::Space;
use crate::dht::table::Table;
use crate::limits::{GIVERS, HAND_OVER_AFTER, NEWCOMERS_MAX, REPUBLISH_INTERVAL};

const K: usize = 16;
const SPACE: Space = Space::new(256);

fn contact(number: u8) -> Contact {
    Contact::sign(&identity(number), &NETWORK, (1, at(0).wall), &[([10, 0, 0, number], 4_000).into()])
}

/// What the first node tells of itself and these.
fn known(numbers: impl IntoIterator<Item = u8>) -> Arc<Known> {
    let own = contact(1);
    let mut table = Table::new(own.id(), SPACE, 255);
    for contact in numbers.into_iter().map(contact) {
        table.on_told(at(0).instant, contact.clone(), contact.id());
        table.on_answer(at(0).instant, &contact.id(), contact.endpoint().unwrap());
    }
    Arc::new(Known::new(&table, SPACE, (&own, Vec::new())))
}

fn millis(duration: core::time::Duration) -> u64 {
    duration.as_millis() as u64
}

/// Keys of which the first node, who knows these, gives the value to the newcomer: it is one of the closest, and so is he of those
/// who were there before.
fn expected(keys: &[Vec<u8>], numbers: &[u8], newcomer: u8) -> BTreeSet<Vec<u8>> {
    let ids = |numbers: &[u8]| numbers.iter().map(|number| identity(*number).id()).collect::<Vec<_>>();
    let sorted = |mut ids: Vec<NodeId>, of: &[u8]| {
        let place = address(&key(of));
        ids.sort_by_key(|id| SPACE.distance(&place, &Space::place(id)));
        ids
    };
    let (own, newcomer_id) = (identity(1).id(), identity(newcomer).id());
    let is_given = |of: &&Vec<u8>| {
        let elder = sorted(ids(numbers), of);
        let all = sorted([ids(numbers), vec![newcomer_id]].concat(), of);
        elder[..GIVERS].contains(&own) && all[..K].contains(&newcomer_id)
    };
    keys.iter().filter(is_given).cloned().collect()
}

fn meet(home: &mut Home, millis: u64, (known, replication): (&Arc<Known>, usize)) {
    home.holder.on_known(known);
    home.holder.on_newcomers(at(millis), replication);
}

fn put(home: &mut Home, keys: &[Vec<u8>], millis: u64) {
    for key in keys {
        let record = Says { expiry: 24 * HOUR, ..Says::nobodys(key, 1) }.signed(&identity(2), &number(7));
        let stored = store(key, &number(7), with_record(&record));
        assert_eq!(home.reason(at(millis), peer(2), &stored), None);
    }
}

fn given(home: &mut Home, millis: u64) -> BTreeSet<(NodeId, Vec<u8>)> {
    for step in 0..3 {
        home.holder.handle_timeout(at(millis + 1_000 * (step + 1)));
    }
    home.drain();
    home.given.drain(..).collect()
}

/// Whoever comes is given the values that it is to keep, by those closest to them, once: what its writer signed, in earnest. Whoever
/// was there when we came, or was gone for a moment, is given nothing.
/// spec: p2p/handing-over
#[test]
fn a_newcomer_is_given_what_it_is_to_keep() {
    let mut home = Home::new(setup(1), at(0));
    let keys: Vec<Vec<u8>> = (0..200).map(|at| name(&format!("key {at}"))).collect();
    put(&mut home, &keys, 0);
    assert_eq!(home.reason(at(0), peer(2), &store(&name("b"), &number(7), StoreOptions::default())), None);
    let elder: Vec<u8> = (1..=30).collect();
    let begin = millis(HAND_OVER_AFTER);
    meet(&mut home, 1, (&known(2..=30), K));
    assert!(given(&mut home, begin).is_empty(), "they were there before");
    meet(&mut home, begin + 9_000, (&known((2..=30).chain([40])), K));
    let to = identity(40).id();
    let wanted: BTreeSet<_> = expected(&keys, &elder, 40).into_iter().map(|key| (to, key)).collect();
    assert!(wanted.len() > 5 && wanted.len() < keys.len());
    assert_eq!(given(&mut home, begin + 10_000), wanted);
    // It is gone, and back.
    meet(&mut home, begin + 20_000, (&known(2..=30), K));
    meet(&mut home, begin + 30_000, (&known((2..=30).chain([40])), K));
    assert!(given(&mut home, begin + 30_000).is_empty());
    // It is gone for long; meanwhile the values are stored again by others.
    meet(&mut home, begin + 40_000, (&known(2..=30), K));
    put(&mut home, &keys, begin + 60_000);
    let back = begin + 40_000 + millis(REPUBLISH_INTERVAL);
    meet(&mut home, back, (&known((2..=30).chain([40])), K));
    assert_eq!(given(&mut home, back), wanted);
}

/// However many come at once, few are given anything.
/// spec: p2p/handing-over
#[test]
fn few_newcomers_wait() {
    let mut home = Home::new(setup(1), at(0));
    let others: Vec<u8> = (1..=249).collect();
    let names = (0..).map(|at| name(&format!("key {at}")));
    let own = identity(1).id();
    let ids: Vec<NodeId> = others.iter().map(|number| identity(*number).id()).collect();
    let is_close = |of: &Vec<u8>| {
        let place = address(&key(of));
        let closest = ids.iter().min_by_key(|id| SPACE.distance(&place, &Space::place(id)));
        closest == Some(&own)
    };
    let keys: Vec<Vec<u8>> = names.filter(is_close).take(1).collect();
    put(&mut home, &keys, 0);
    let begin = millis(HAND_OVER_AFTER);
    meet(&mut home, begin, (&known(2..=249), 255));
    let given = given(&mut home, begin);
    assert_eq!(given.len(), NEWCOMERS_MAX);
}
