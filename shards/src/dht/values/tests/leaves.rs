//! Leaves of an owner's: what a friend may change by them.

use dunlin_codec::args::{Ballot, Leave, Members, Reason, Row, Rows, StoreOptions};
use dunlin_codec::record::{NOBODY, ValueRecord};

use super::super::decision::What;
use super::super::sign_grant;
use super::kit::*;
use super::trio::*;
use crate::identity::Identity;

/// Several names change by leave where there is one for each of them: a leave for one name is none for another.
/// spec: p2p/register-rules, p2p/edits
#[test]
fn names_change_together_by_leave_for_each() {
    let mut trio = Trio::new();
    let (owner, friend) = (identity(1), identity(2));
    let keys = ["a", "b", "c"].map(|name| grouped("g", name));
    let edits = |count: usize, value: u64| {
        keys[..count].iter().map(|key| edit(key, What::Set(number(value)))).collect::<Vec<_>>()
    };
    trio.owner = owner.id();
    assert_eq!(refused(&trio.decide(at(0), &owner, edits(2, 1))), None);
    trio.owner = NOBODY;
    let leave =
        |name: &[u8]| sign_grant(&owner, &NETWORK, (&super::kit::key(name), friend.id()), START + 60_000);
    let not_allowed = Some(Reason::NotAllowed);
    trio.leaves = vec![leave(&keys[0])];
    assert_eq!(refused(&trio.decide(at(1), &friend, edits(2, 2))), not_allowed, "none for the second");
    trio.leaves = vec![leave(&keys[1])];
    assert_eq!(refused(&trio.decide(at(2), &friend, edits(2, 2))), not_allowed, "none for the first");
    assert_eq!(trio.values(at(2), &keys[1]), vec![Some(number(1)); 3]);
    trio.leaves = vec![leave(&keys[2]), leave(&keys[1]), leave(&keys[0])];
    assert_eq!(refused(&trio.decide(at(3), &friend, edits(2, 2))), None);
    // A name that is new becomes the owner's.
    trio.owner = owner.id();
    assert_eq!(refused(&trio.decide(at(4), &friend, edits(3, 3))), None);
    for key in &keys {
        assert_eq!(trio.values(at(4), key), vec![Some(number(3)); 3]);
    }
    assert_eq!(refused(&trio.decide(at(70_000), &friend, edits(2, 4))), not_allowed, "they have ended");
    assert_eq!(refused(&trio.decide(at(70_001), &owner, edits(3, 5))), None);
}

/// Not even a holder that is told so by a proposer of its own making takes a name without its leave.
/// spec: p2p/register-rules
#[test]
fn a_name_without_its_own_leave_is_not_accepted() {
    let mut home = Home::new(setup(101), at(0));
    let (owner, friend) = (identity(1), identity(2));
    let names = ["a", "b"].map(|name| grouped("g", name));
    let own = setup(101).own.0;
    let accept = |by: &Identity,
                  (counter, base): (u64, Option<Ballot>),
                  rows: &[Row<'_>],
                  leave: Option<Leave<'_>>| {
        let rows = encoded(|out| Rows::write_new(out, rows));
        let options = StoreOptions {
            accept: Some(Ballot { counter, proposer: by.id() }),
            base,
            rows: Rows::parse(value(&rows)).ok(),
            members: Members::new(&own, &own).ok(),
            grant: leave,
            ..StoreOptions::default()
        };
        store(&names[0], &[0xc0], options)
    };
    let (one, two) = (number(1), number(2));
    let row = |name: &'static str, value_bytes: &'static [u8], record| Row {
        key: super::kit::key(Box::leak(grouped("g", name).into_boxed_slice())),
        value: value(value_bytes),
        record: Some(ValueRecord::parse(record).unwrap()),
        lease: None,
        left_ms: 0,
    };
    let says = |place: usize, sequence| Says { owner: owner.id(), ..Says::nobodys(&names[place], sequence) };
    let firsts = [0, 1].map(|place| says(place, 1).signed(&owner, &one));
    let rows = [row("a", &[1], &firsts[0]), row("b", &[1], &firsts[1])];
    assert_eq!(home.reason(at(0), peer(1), &accept(&owner, (10, None), &rows, None)), None);
    let given = [0, 1].map(|place| {
        sign_grant(&owner, &NETWORK, (&super::kit::key(&names[place]), friend.id()), START + HOUR)
    });
    let base = Some(Ballot { counter: 10, proposer: owner.id() });
    let leave = Some(Leave { until_ms: given[0].until_ms, signature: &given[0].signature });
    let good = [0, 1].map(|place| says(place, 2).granted(&friend, &two, Some(&given[place])));
    let wrong = says(1, 2).granted(&friend, &two, Some(&given[0]));
    let rows = [row("a", &[2], &good[0]), row("b", &[2], &wrong)];
    let refused = home.reason(at(0), peer(2), &accept(&friend, (11, base), &rows, leave));
    assert_eq!(refused, Some(Reason::NotAllowed), "the leave for another name");
    let rows = [row("a", &[2], &good[0]), row("b", &[2], &good[1])];
    assert_eq!(home.reason(at(0), peer(2), &accept(&friend, (11, base), &rows, leave)), None);
    assert_eq!(home.value(at(0), &names[1]), Some(two));
}
