//! What holders let a proposer do, told one rule at a time.

use core::time::Duration;

use dunlin_codec::args::{
    Ack, Ballot, CHANGES_MAX, Diff, DiffOperation, Found, LeaseAction, Leave, Members, Metadata, Nack, Path,
    Promise, Reason, Row, Rows, StoreOptions,
};
use dunlin_codec::msgpack::{Encoded, write};
use dunlin_codec::record::{KEY_LEN_MAX, NOBODY, ValueRecord};

use super::super::decision::{Decided, Decision, Edit, Expectation, Proposer, What};
use super::super::survey::{Survey, Surveyed};
use super::super::{Answer, Holders, read_row, sign_grant, value_hash};
use super::kit::*;
use super::trio::*;
use crate::identity::Identity;
use crate::limits::{BALLOT_LEAP_MAX, LEASES_IDENTITY_MAX, LEASES_MAX, VALUE_LEN_MAX};
use crate::rng::Rng;
use crate::time::Instant;

/// A condition holds or is refused with what is there; all holders have what was decided, and have it after a restart.
/// spec: p2p/decisions
/// spec: p2p/edits
#[test]
fn a_condition_is_decided_by_the_holders() {
    let mut trio = Trio::new();
    let (key, one, two) = (name("k"), number(1), number(2));
    let (near, far) = (identity(1), identity(2));
    let cas = |sequence, was: &[u8], value: &[u8]| Edit {
        key: key.clone(),
        expected: Some(Expectation { sequence, value_hash: value_hash(value_of(was)) }),
        what: What::Set(value.to_vec()),
    };
    assert_eq!(refused(&trio.decide(at(0), &near, vec![cas(1, &one, &two)])), Some(Reason::Mismatch));
    assert_eq!(refused(&trio.decide(at(1), &near, vec![cas(0, &[0xc0], &one)])), None);
    let late = trio.decide(at(2), &far, vec![cas(0, &[0xc0], &two)]);
    let Decided::Refused { reason: Reason::Mismatch, state } = late else { panic!("{late:?}") };
    assert_eq!(&state[&key].value[..], &one[..]);
    assert_eq!(refused(&trio.decide(at(3), &far, vec![cas(1, &one, &two)])), None);
    trio.restart(at(4));
    assert_eq!(trio.values(at(4), &key), vec![Some(two); 3]);
}

fn value_of(bytes: &[u8]) -> Encoded<'_> {
    value(bytes)
}

/// A diff is made of the newest; of another value it is none.
/// spec: p2p/edits
#[test]
fn a_diff_is_decided() {
    let mut trio = Trio::new();
    let (key, near) = (name("k"), identity(1));
    let (old, new) = (name("hello"), name("hellish"));
    let path = Path::new(Encoded::parse(&[0x90]).unwrap()).unwrap();
    let splice = DiffOperation::Splice { path, offset: 4, removed: 1, inserted: b"ish" };
    let diff = encoded(|out| Diff::write_new(out, &value_hash(value(&old)), 0, &[splice]));
    let diff = edit(&key, What::Diff(diff));
    assert_eq!(refused(&trio.decide(at(0), &near, vec![diff.clone()])), Some(Reason::BadDiff));
    assert_eq!(refused(&trio.set(at(1), &near, (&key, &old))), None);
    assert_eq!(refused(&trio.decide(at(2), &near, vec![diff.clone()])), None);
    assert_eq!(trio.values(at(2), &key), vec![Some(new); 3]);
    assert_eq!(refused(&trio.decide(at(3), &near, vec![diff])), Some(Reason::BadDiff));
}

/// An owned key is its owner's, and whoever's it gives leave, for so long.
/// spec: p2p/register-rules
#[test]
fn only_owner_and_grantees_decide() {
    let mut trio = Trio::new();
    let (key, one, two, three) = (name("k"), number(1), number(2), number(3));
    let (owner, friend, stranger) = (identity(1), identity(2), identity(3));
    trio.owner = owner.id();
    assert_eq!(refused(&trio.set(at(0), &owner, (&key, &one))), None);
    trio.owner = NOBODY;
    let not_allowed = Some(Reason::NotAllowed);
    assert_eq!(refused(&trio.set(at(1), &stranger, (&key, &two))), not_allowed);
    let acquire = (&key[..], LeaseAction::Acquire, 0);
    assert_eq!(refused(&trio.lease(at(2), &stranger, acquire)), not_allowed, "not even a lease");
    let leave = |writer: &Identity| {
        sign_grant(&owner, &NETWORK, (&super::kit::key(&key), writer.id()), START + 60_000)
    };
    trio.leaves = vec![leave(&friend)];
    assert_eq!(refused(&trio.set(at(3), &stranger, (&key, &two))), not_allowed, "another's leave");
    assert_eq!(refused(&trio.set(at(4), &friend, (&key, &two))), None);
    assert_eq!(trio.values(at(4), &key), vec![Some(two); 3]);
    trio.leaves.clear();
    trio.owner = owner.id();
    assert_eq!(refused(&trio.set(at(59_000), &owner, (&key, &one))), None);
    trio.leaves = vec![leave(&friend)];
    assert_eq!(refused(&trio.set(at(70_001), &friend, (&key, &three))), not_allowed, "the leave has ended");
    assert_eq!(trio.values(at(70_001), &key), vec![Some(one); 3]);
}

/// A lease has one holder; its token only grows; what is written without it or with an old one is refused. After a restart
/// it lasts as long as any may.
/// spec: p2p/register-rules
#[test]
fn a_lease_fences() {
    let mut trio = Trio::new();
    let (key, one) = (name("k"), number(1));
    let (near, far) = (identity(1), identity(2));
    let acquire = (&key[..], LeaseAction::Acquire, 0);
    let first = token(&trio.lease(at(0), &near, acquire));
    assert_eq!(refused(&trio.lease(at(5_000), &far, acquire)), Some(Reason::Leased));
    assert_eq!(
        refused(&trio.lease(at(5_000), &near, acquire)),
        Some(Reason::Leased),
        "not even twice the same"
    );
    assert_eq!(refused(&trio.set(at(5_000), &far, (&key, &one))), Some(Reason::Leased));
    trio.token = first;
    assert_eq!(
        refused(&trio.set(at(5_000), &far, (&key, &one))),
        Some(Reason::StaleToken),
        "another's token"
    );
    assert_eq!(refused(&trio.set(at(5_001), &near, (&key, &one))), None);
    assert_eq!(refused(&trio.lease(at(9_000), &near, (&key, LeaseAction::Renew, first))), None);
    assert_eq!(refused(&trio.lease(at(15_000), &far, acquire)), Some(Reason::Leased));
    let second = token(&trio.lease(at(20_000), &far, acquire));
    assert!(second > first);
    assert_eq!(refused(&trio.set(at(20_001), &near, (&key, &one))), Some(Reason::StaleToken));
    let stale = Some(Reason::StaleToken);
    assert_eq!(refused(&trio.lease(at(20_002), &near, (&key, LeaseAction::Renew, first))), stale);
    trio.restart(at(21_000));
    assert_eq!(
        refused(&trio.lease(at(80_000), &near, acquire)),
        Some(Reason::Leased),
        "nobody knows for how long"
    );
    assert_eq!(refused(&trio.lease(at(80_000), &far, (&key, LeaseAction::Release, second))), None);
    let third = token(&trio.lease(at(80_001), &near, acquire));
    assert!(third > second);
    trio.token = second;
    assert_eq!(refused(&trio.set(at(80_002), &far, (&key, &one))), stale);
    assert_eq!(trio.values(at(80_002), &key), vec![Some(one); 3]);
}

/// What was plain becomes decided, and is decided from then on; what is stored again as it is stays welcome.
/// spec: p2p/decisions
#[test]
fn a_plain_value_becomes_decided() {
    let mut trio = Trio::new();
    let (key, near) = (name("k"), identity(1));
    let (one, two, three) = (number(1), number(2), number(3));
    let record = Says::nobodys(&key, 5).signed(&identity(9), &one);
    for home in &mut trio.homes[1..] {
        assert_eq!(home.reason(at(0), peer(9), &store(&key, &one, with_record(&record))), None);
    }
    let expected = Some(Expectation { sequence: 5, value_hash: value_hash(value(&one)) });
    let cas = Edit { key: key.clone(), expected, what: What::Set(two.clone()) };
    assert_eq!(refused(&trio.decide(at(1), &near, vec![cas])), None);
    assert_eq!(trio.values(at(1), &key), vec![Some(two.clone()); 3]);
    assert!(trio.homes.iter().all(|home| home.disk.len() == 1), "one row of each key");
    let home = &mut trio.homes[0];
    let plain = Says::nobodys(&key, 9).signed(&identity(9), &three);
    let answer = home.told(at(2), peer(9), &store(&key, &three, with_record(&plain)));
    let Ok(Nack::Store(nack)) = Nack::parse(&answer.payload) else { panic!() };
    assert_eq!((nack.reason, nack.promised.is_some()), (Reason::BallotTooLow, true));
    let there = nack.metadata.unwrap().record.unwrap();
    assert_eq!((there.fields.sequence, there.fields.writer), (6, near.id()));
    let record = there.bytes().to_vec();
    assert_eq!(home.reason(at(2), peer(9), &store(&key, &two, with_record(&record))), None);
}

/// Names of a group change together; the group stays its owner's.
/// spec: p2p/decisions
#[test]
fn a_group_changes_together() {
    let mut trio = Trio::new();
    let (owner, stranger) = (identity(1), identity(2));
    let keys: Vec<Vec<u8>> = (0..17).map(|number| grouped("g", &format!("{number:02}"))).collect();
    let edits = |count: usize, value: u64| {
        keys[..count].iter().map(|key| edit(key, What::Set(number(value)))).collect::<Vec<_>>()
    };
    trio.owner = owner.id();
    assert_eq!(refused(&trio.decide(at(0), &owner, edits(16, 1))), None);
    assert!(keys[..16].iter().all(|key| trio.values(at(0), key) == vec![Some(number(1)); 3]));
    assert_eq!(refused(&trio.decide(at(1), &owner, edits(17, 2))), Some(Reason::OverQuota));
    let mut mixed = edits(16, 3);
    mixed[7].expected = Some(Expectation { sequence: 9, value_hash: [0; 32] });
    assert_eq!(refused(&trio.decide(at(2), &owner, mixed)), Some(Reason::Mismatch));
    assert!(keys[..16].iter().all(|key| trio.values(at(2), key) == vec![Some(number(1)); 3]), "none changed");
    trio.owner = stranger.id();
    let other = grouped("g", "other");
    assert_eq!(refused(&trio.set(at(3), &stranger, (&other, &number(4)))), Some(Reason::NotAllowed));
    let record = Says { owner: stranger.id(), ..Says::nobodys(&other, 1) }.signed(&stranger, &number(4));
    let plain = store(&other, &number(4), with_record(&record));
    assert_eq!(trio.homes[0].reason(at(3), peer(2), &plain), Some(Reason::NotAllowed));
    // A key that is called like the group is something else.
    assert_eq!(refused(&trio.set(at(4), &stranger, (&name("g"), &number(5)))), None);
    assert_eq!(refused(&trio.decide(at(6), &owner, edits(2, 6))), None);
    assert_eq!(trio.values(at(6), &keys[1]), vec![Some(number(6)); 3]);
    assert_eq!(trio.values(at(6), &keys[2]), vec![Some(number(1)); 3]);
}

/// A holder by itself: ballots are promised once, do not leap, and are their proposer's own.
/// spec: p2p/register-rules
#[test]
fn a_ballot_is_promised_once() {
    let mut home = Home::new(setup(101), at(0));
    let (key, near) = (name("k"), identity(1).id());
    let prepare = |counter, proposer| {
        let prepare = Some(Ballot { counter, proposer });
        store(&key, &[0xc0], StoreOptions { prepare, ..StoreOptions::default() })
    };
    let low = Some(Reason::BallotTooLow);
    assert_eq!(home.reason(at(0), peer(1), &prepare(10, near)), None);
    assert_eq!(home.reason(at(0), peer(1), &prepare(10, near)), low);
    assert_eq!(home.reason(at(0), peer(1), &prepare(9, near)), low);
    assert_eq!(
        home.reason(at(0), peer(2), &prepare(11, near)),
        Some(Reason::NotAllowed),
        "in another's name"
    );
    let leap = START + 120_001 + BALLOT_LEAP_MAX;
    assert_eq!(home.reason(at(0), peer(1), &prepare(leap, near)), Some(Reason::NotAllowed));
    assert_eq!(home.reason(at(0), peer(1), &prepare(START + 120_000, near)), None);
    assert_eq!(home.reason(at(0), peer(1), &prepare(START + 120_000 + BALLOT_LEAP_MAX, near)), None);
    // What was promised survives.
    home.restart(setup(101), at(1));
    assert_eq!(home.reason(at(1), peer(1), &prepare(START + 120_000, near)), low);
    // Looking promises nothing, and needs no disk.
    home.ask(at(1), peer(5), &prepare(0, near));
    assert_eq!((home.answers.len(), home.writes.len()), (1, 0));
}

/// What a proposer brings is held against what is there, when it says that it was made of that.
/// spec: p2p/register-rules
#[test]
fn a_holder_checks_what_changes() {
    let (key, other, near) = (name("k"), name("other"), identity(1));
    let (one, two) = (number(1), number(2));
    let by = |counter| Ballot { counter, proposer: near.id() };
    let accept = |counter, base: Option<u64>, rows: &[Row<'_>]| {
        let rows = encoded(|out| Rows::write_new(out, rows));
        let rows = Rows::parse(Encoded::parse(&rows).unwrap()).ok();
        let own = setup(101).own.0;
        let members = Members::new(&own, &own).ok();
        let (accept, base) = (Some(by(counter)), base.map(by));
        let options = StoreOptions { accept, base, rows, members, ..StoreOptions::default() };
        store(&key, &[0xc0], options)
    };
    let row = |value_bytes: &'static [u8], record| Row {
        key: super::kit::key(Box::leak(name("k").into_boxed_slice())),
        value: value(value_bytes),
        record: Some(ValueRecord::parse(record).unwrap()),
        lease: None,
        left_ms: 0,
    };
    let (first, second) =
        (Says::nobodys(&key, 1).signed(&near, &one), Says::nobodys(&key, 2).signed(&near, &two));
    let mut home = Home::new(setup(101), at(0));
    assert_eq!(home.reason(at(0), peer(1), &accept(10, None, &[row(&[1], &first)])), None);
    assert_eq!(home.reason(at(0), peer(1), &accept(10, None, &[row(&[1], &first)])), None, "once more");
    let no = Some(Reason::NotAllowed);
    assert_eq!(
        home.reason(at(0), peer(1), &accept(10, None, &[row(&[2], &second)])),
        no,
        "two under one ballot"
    );
    assert_eq!(
        home.reason(at(0), peer(1), &accept(9, None, &[row(&[2], &second)])),
        Some(Reason::BallotTooLow)
    );
    assert_eq!(home.reason(at(0), peer(1), &accept(11, Some(10), &[])), no, "what is there is left out");
    let same = Says::nobodys(&key, 1).signed(&near, &two);
    let stale = Some(Reason::StaleSequence);
    assert_eq!(home.reason(at(0), peer(1), &accept(11, Some(10), &[row(&[2], &same)])), stale);
    let foreign = Says::nobodys(&key, 2).signed(&identity(2), &two);
    assert_eq!(home.reason(at(0), peer(1), &accept(11, Some(10), &[row(&[2], &foreign)])), no, "another's");
    let lie = Says::nobodys(&key, 2).signed(&near, &one);
    let malformed = Some(Reason::Malformed);
    assert_eq!(
        home.reason(at(0), peer(1), &accept(11, Some(10), &[row(&[2], &lie)])),
        malformed,
        "another value's"
    );
    assert_eq!(
        home.reason(at(0), peer(1), &accept(12, Some(8), &[row(&[2], &lie)])),
        malformed,
        "nor from elsewhere"
    );
    let bare = store(&key, &[0xc0], StoreOptions { accept: Some(by(12)), ..StoreOptions::default() });
    assert_eq!(home.reason(at(0), peer(1), &bare), malformed);
    assert_eq!(home.value(at(0), &key), Some(one));
    assert_eq!(home.reason(at(0), peer(1), &accept(11, Some(10), &[row(&[2], &second)])), None);
    assert_eq!((home.value(at(0), &key), home.value(at(0), &other)), (Some(two), None));
}

/// Nobody has more leases than sixteen.
/// spec: p2p/holder
#[test]
fn leases_are_counted() {
    let mut trio = Trio::new();
    let near = identity(1);
    let key = |number: usize| name(&format!("k{number}"));
    let mut tokens = Vec::new();
    for place in 0..LEASES_IDENTITY_MAX {
        tokens.push(token(&trio.lease(at(0), &near, (&key(place), LeaseAction::Acquire, 0))));
    }
    let more = (&key(99)[..], LeaseAction::Acquire, 0);
    assert_eq!(refused(&trio.lease(at(1), &near, more)), Some(Reason::OverQuota));
    assert_eq!(refused(&trio.lease(at(1), &near, (&key(3), LeaseAction::Renew, tokens[3]))), None);
    assert_eq!(refused(&trio.lease(at(1), &identity(2), more)), None);
    assert_eq!(refused(&trio.lease(at(2), &near, (&key(3), LeaseAction::Release, tokens[3]))), None);
    let next = (&key(98)[..], LeaseAction::Acquire, 0);
    assert_eq!(refused(&trio.lease(at(3), &near, next)), None);
}

/// Leases in the other shards of a node count as well, until they end there.
/// spec: p2p/leases-of-a-node
#[test]
fn leases_of_other_shards_are_counted() {
    let mut trio = Trio::new();
    let near = identity(1);
    let ends: Box<[Instant]> =
        (1..LEASES_IDENTITY_MAX as u64).map(|second| at(1_000 * second).instant).collect();
    for home in &mut trio.homes {
        home.holder.on_leased_elsewhere(1, near.id(), ends.clone());
    }
    let acquire = |key: &str| (name(key), LeaseAction::Acquire);
    let (one, other) = (acquire("one"), acquire("other"));
    assert_eq!(refused(&trio.lease(at(0), &near, (&one.0, one.1, 0))), None, "the sixteenth");
    let told = trio.homes[0].leased.last().expect("the other shards are told");
    assert_eq!((told.0, told.1.len()), (near.id(), 1));
    assert_eq!(refused(&trio.lease(at(1), &near, (&other.0, other.1, 0))), Some(Reason::OverQuota));
    assert_eq!(refused(&trio.lease(at(2), &identity(2), (&other.0, other.1, 0))), None, "another's");
    let third = acquire("third");
    assert_eq!(
        refused(&trio.lease(at(1_001), &near, (&third.0, third.1, 0))),
        None,
        "one has ended elsewhere"
    );
    for home in &mut trio.homes {
        home.holder.on_leased_elsewhere(1, near.id(), Box::default());
        home.tick(at(20_000));
    }
    let fourth = acquire("fourth");
    assert_eq!(refused(&trio.lease(at(20_000), &near, (&fourth.0, fourth.1, 0))), None);
}

/// A shard has 4,096 leases.
/// spec: p2p/holder
#[test]
fn leases_have_an_end_in_all() {
    let mut trio = Trio::new();
    let who = |number: usize| {
        Identity::from_seed([&[7; 30][..], &(number as u16).to_be_bytes()].concat().try_into().unwrap())
    };
    for place in 0..LEASES_MAX {
        let (key, near) = (name(&format!("k{place}")), who(place / LEASES_IDENTITY_MAX));
        assert_eq!(refused(&trio.lease(at(0), &near, (&key, LeaseAction::Acquire, 0))), None);
    }
    let late = who(LEASES_MAX);
    let refusal = trio.lease(at(1), &late, (&name("one more"), LeaseAction::Acquire, 0));
    assert_eq!(refused(&refusal), Some(Reason::OverQuota));
    assert_eq!(refused(&trio.set(at(1), &late, (&name("a value"), &number(1)))), None, "values go on");
}

/// All decided names of a group are 256 KiB at most, and sixteen change at once.
/// spec: p2p/decisions
#[test]
fn a_group_has_an_end() {
    let mut trio = Trio::new();
    let near = identity(1);
    let long = encoded(|out| write::bin(out, &vec![7; VALUE_LEN_MAX - 3]));
    for place in 0..3 {
        let key = grouped("g", &format!("n{place}"));
        assert_eq!(refused(&trio.set(at(place), &near, (&key, &long))), None);
    }
    let fourth = grouped("g", "n3");
    assert_eq!(refused(&trio.set(at(9), &near, (&fourth, &long))), Some(Reason::OverQuota));
    let short = encoded(|out| write::bin(out, &vec![7; VALUE_LEN_MAX - 4_000]));
    assert_eq!(refused(&trio.set(at(9), &near, (&fourth, &short))), None);
    let many = |count: usize| -> Vec<Edit> {
        (0..count).map(|at| edit(&grouped("h", &format!("n{at:02}")), What::Set(number(1)))).collect()
    };
    assert_eq!(refused(&trio.decide(at(10), &near, many(CHANGES_MAX + 1))), Some(Reason::OverQuota));
    assert_eq!(trio.values(at(11), &grouped("h", "n00")), vec![None; 3], "none of them");
    assert_eq!(refused(&trio.decide(at(12), &near, many(CHANGES_MAX))), None);
}

/// A holder that comes asks the others before its word counts, when nobody decides anything for long.
/// spec: p2p/decisions
/// spec: p2p/survey
#[test]
fn a_new_holder_reads_the_others() {
    let mut trio = Trio::new();
    let (key, one, near) = (name("k"), number(1), identity(1));
    assert_eq!(refused(&trio.set(at(0), &near, (&key, &one))), None);
    trio.homes[0] = Home::new(setup(101), at(0));
    let mut newcomer = trio.homes.remove(0);
    let prepare = Some(Ballot { counter: START, proposer: near.id() });
    let prepare = store(&key, &[0xc0], StoreOptions { prepare, ..StoreOptions::default() });
    assert_eq!(newcomer.reason(at(0), peer(1), &prepare), None);
    newcomer.tick(at(4_000));
    assert!(newcomer.settles.is_empty());
    newcomer.tick(at(5_000));
    assert_eq!(newcomer.settles, [(key.clone(), key.clone())]);
    trio.homes.insert(0, newcomer);
    let ids = trio.ids();
    let mut survey = Survey::to_settle((&key, NETWORK), &ids[0], Holders::all(ids.clone()));
    assert_eq!(survey.outcome(), None);
    while let Some(question) = survey.poll_question() {
        let answer = trio.ask(at(5_000), (ids[0], &question));
        survey.on_answer(question.number, &answer);
    }
    let Some(surveyed) = survey.outcome() else { panic!() };
    assert!(surveyed.is_decided && surveyed.accepted.is_some());
    let newcomer = &mut trio.homes[0];
    newcomer.holder.on_settled(at(5_000), &key, &surveyed);
    newcomer.drain();
    assert_eq!(newcomer.value(at(5_000), &key), None, "not before the disk's word");
    assert!(newcomer.write_one(at(5_000)));
    assert_eq!(newcomer.value(at(5_000), &key), Some(one));
    newcomer.tick(at(60_000));
    assert_eq!(newcomer.settles.len(), 1, "settled once and for all");
}

/// When too few holders answer nothing happens, and that is said.
/// spec: p2p/decisions
#[test]
fn too_few_holders_decide_nothing() {
    let (key, near) = (name("k"), identity(1));
    let proposer = Proposer {
        kin: crate::identity::chain::Kin::default(),
        identity: near,
        network: NETWORK,
        owner: NOBODY,
        leaves: Vec::new(),
        token: 0,
        life: Duration::from_secs(60),
    };
    let ids = Trio::new().ids();
    let edits = vec![edit(&key, What::Set(number(1)))];
    let mut now = at(0);
    let mut decision = Decision::new(proposer, Holders::all(ids), (key, edits), (now, Rng::from_number(1)));
    while decision.outcome().is_none() {
        while let Some(question) = decision.poll_question() {
            decision.on_failure(now, question.number);
        }
        now.instant = decision.poll_timeout().unwrap_or(now.instant);
        decision.handle_timeout(now);
    }
    assert_eq!(decision.outcome(), Some(&Decided::Unreached));
}

/// The longest keys there are, in every question and answer.
/// spec: p2p/decisions
#[test]
fn the_longest_keys_have_room() {
    let mut trio = Trio::new();
    let owner = identity(1);
    trio.owner = owner.id();
    let alone = name(&"n".repeat(KEY_LEN_MAX - 3));
    assert_eq!(alone.len(), KEY_LEN_MAX);
    let long = encoded(|out| write::bin(out, &vec![7; VALUE_LEN_MAX - 5]));
    let leave = sign_grant(&owner, &NETWORK, (&super::kit::key(&alone), identity(2).id()), START + HOUR);
    let record = Says { owner: owner.id(), ..Says::nobodys(&alone, 1) };
    let record = record.granted(&identity(2), &long, Some(&leave));
    for home in &mut trio.homes {
        assert_eq!(home.reason(at(0), peer(2), &store(&alone, &long, with_record(&record))), None);
        assert_eq!(home.value(at(0), &alone), Some(long.clone()));
        home.tick(at(HOUR - 1_000));
    }
    trio.leaves = vec![leave];
    assert_eq!(refused(&trio.set(at(1), &identity(2), (&alone, &long))), None);
    assert_eq!(refused(&trio.lease(at(2), &identity(2), (&alone, LeaseAction::Acquire, 0))), None);
    trio.leaves.clear();
    let keys: Vec<Vec<u8>> =
        (10..26).map(|number| grouped(&"g".repeat(500), &format!("{number}{}", "n".repeat(515)))).collect();
    assert_eq!(keys[0].len(), KEY_LEN_MAX);
    let edits = keys.iter().map(|key| edit(key, What::Set(number(1)))).collect();
    assert_eq!(refused(&trio.decide(at(3), &owner, edits)), None);
    for home in &mut trio.homes {
        home.tick(at(HOUR + HOUR / 6));
        assert!(home.again.len() >= 16);
        let disk = home.disk.clone();
        assert!(disk.iter().all(|(key, value)| read_row(key, value).is_ok()));
    }
}

/// What a holder tells that nobody signed is no promise.
/// spec: p2p/survey
#[test]
fn a_lying_holder_is_not_counted() {
    let (key, near) = (name("k"), identity(1));
    let mut trio = Trio::new();
    assert_eq!(refused(&trio.set(at(0), &near, (&key, &number(1)))), None);
    let mut survey = Survey::new((&key, NETWORK), Holders::all(trio.ids()));
    let forged = Says::nobodys(&key, 99).granted(&identity(9), &number(9), None);
    let mut forged = forged;
    dunlin_codec::record::set_signature(&mut forged, &[3; 64]).unwrap();
    let nine = number(9);
    while let Some(question) = survey.poll_question() {
        let honest = trio.ask(at(0), (near.id(), &question));
        let is_liar = question.to == trio.ids()[0];
        let row = Row {
            key: super::kit::key(&key),
            value: value(&nine),
            record: ValueRecord::parse(&forged).ok(),
            lease: None,
            left_ms: 0,
        };
        let rows = encoded(|out| Rows::write_new(out, &[row]));
        let rows = Rows::parse(Encoded::parse(&rows).unwrap()).unwrap();
        let high = Ballot { counter: u64::MAX, proposer: near.id() };
        let promise = Promise { promised: high, accepted: Some(high), is_settled: true, rows, members: None };
        let found = Found { key: row.key, value: Encoded::NIL, metadata: Metadata::default() };
        let lie = encoded(|out| Ack::Stored(found, Some(promise)).write(out));
        let lie = Answer { is_ack: true, payload: lie };
        survey.on_answer(question.number, if is_liar { &lie } else { &honest });
    }
    let Some(Surveyed { state, is_decided, .. }) = survey.outcome() else { panic!() };
    assert!(is_decided);
    assert_eq!(state[&key].value().as_unsigned(), Some(1));
}

/// A leave's bytes are what the codec carries.
#[test]
fn a_given_leave_travels() {
    let key = name("k");
    let given = sign_grant(&identity(1), &NETWORK, (&super::kit::key(&key), identity(2).id()), 9);
    let leave = Leave { until_ms: 9, signature: &given.signature };
    let prepare = Some(Ballot { counter: 1, proposer: identity(2).id() });
    let options = StoreOptions { prepare, grant: Some(leave), ..StoreOptions::default() };
    let mut home = Home::new(setup(101), at(0));
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &[0xc0], options)), None);
}
