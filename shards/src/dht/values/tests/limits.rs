//! Each bound of a holder, met on purpose and at its full size.

use core::time::Duration;

use dunlin_codec::args::{Ballot, LeaseAction, LeaseRow, Members, Reason, Row, Rows, StoreOptions};
use dunlin_codec::ids::NodeId;
use dunlin_codec::msgpack::write;
use dunlin_codec::record::ValueRecord;

use super::super::decision::What;
use super::super::*;
use super::kit::*;
use super::trio::*;
use crate::limits::{
    PREPARES_AT_ONCE, PREPARES_PER_SECOND, PREPARING_PEERS_MAX, STORES_WAITING_KEY_MAX,
    STORES_WAITING_LEN_MAX, VALUE_LEN_MAX, VALUES_COUNT_IDENTITY_MAX, VALUES_LEN_IDENTITY_MAX,
    VALUES_LEN_MAX, VALUES_LEN_PREFIX_MAX, WRITES_OPEN_MAX,
};
use crate::time::Now;

fn home() -> Home {
    Home::new(setup(1), at(0))
}

/// A peer among very many, in a /24 of so many.
fn stranger(number: u32, network: u16) -> Asker {
    let mut id = [9; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let [high, low] = network.to_be_bytes();
    Asker { peer: NodeId(id), from: [8, high, low, 7].into(), request: number.into() }
}

/// A value of the largest size.
fn large() -> Vec<u8> {
    let value = encoded(|out| write::bin(out, &vec![7; VALUE_LEN_MAX - 3]));
    assert_eq!(value.len(), VALUE_LEN_MAX);
    value
}

fn put(home: &mut Home, now: Now, by: Asker, (key, value): (&str, &[u8])) -> Option<Reason> {
    home.reason(now, by, &store(&name(key), value, StoreOptions::default()))
}

/// One identity has 1,000 values and 1 MiB, however many networks it comes from.
/// spec: p2p/value-quotas
#[test]
fn one_identity_fills_its_share_and_no_more() {
    let mut home = home();
    for count in 0..VALUES_COUNT_IDENTITY_MAX {
        let by = Asker { from: stranger(0, count as u16).from, ..stranger(1, 0) };
        assert_eq!(put(&mut home, at(0), by, (&format!("small {count}"), &number(1))), None);
    }
    let refused = Some(Reason::OverQuota);
    assert_eq!(put(&mut home, at(0), stranger(1, 9_999), ("one more", &number(1))), refused);
    assert_eq!(put(&mut home, at(0), stranger(1, 0), ("small 0", &number(2))), None, "in its own place");
    let value = large();
    let fits = VALUES_LEN_IDENTITY_MAX / (VALUE_LEN_MAX as u64 + 8);
    for count in 0..fits {
        let by = stranger(2, count as u16);
        assert_eq!(put(&mut home, at(0), by, (&format!("big {count:03}"), &value)), None);
    }
    assert_eq!(put(&mut home, at(0), stranger(2, 100), ("one more", &value)), refused);
    assert_eq!(put(&mut home, at(0), stranger(3, 100), ("one more", &value)), None, "others have theirs");
}

/// One /24 has 4 MiB, however many identities it has.
/// spec: p2p/value-quotas
#[test]
fn one_network_fills_its_share_and_no_more() {
    let mut home = home();
    let value = large();
    let fits = VALUES_LEN_PREFIX_MAX / (VALUE_LEN_MAX as u64 + 8);
    for count in 0..fits {
        let by = stranger(count as u32 / 8, 1);
        assert_eq!(put(&mut home, at(0), by, (&format!("big {count:03}"), &value)), None);
    }
    let refused = Some(Reason::OverQuota);
    assert_eq!(put(&mut home, at(0), stranger(5_000, 1), ("big more", &value)), refused);
    assert_eq!(
        put(&mut home, at(0), stranger(5_000, 2), ("big more", &value)),
        None,
        "elsewhere there is room"
    );
    // Private addresses are nobody's part of the network.
    let near = Asker { from: [10, 0, 0, 1].into(), ..stranger(5_001, 0) };
    assert_eq!(put(&mut home, at(0), near, ("near", &value)), None);
}

/// A shard has 64 MiB; then it is full for everybody, tells what it has, and takes again what finds room.
/// spec: p2p/value-quotas
#[test]
fn a_shard_fills_up() {
    let mut home = home();
    let value = large();
    let ttl = StoreOptions { ttl_s: Some(60), ..StoreOptions::default() };
    let mut kept = 0;
    loop {
        let by = stranger(kept / 8, (kept / 32) as u16);
        let key = name(&format!("big {kept:04}"));
        match home.reason(at(0), by, &store(&key, &value, ttl)) {
            None => kept += 1,
            Some(reason) => {
                assert_eq!(reason, Reason::Full);
                break;
            }
        }
    }
    assert_eq!(u64::from(kept), VALUES_LEN_MAX / (VALUE_LEN_MAX as u64 + 9));
    assert!(home.holder.len() <= VALUES_LEN_MAX);
    assert_eq!(home.value(at(0), &name("big 0000")), Some(value.clone()));
    home.tick(at(60_000));
    assert_eq!((home.holder.len(), home.disk.len()), (0, 0));
    assert_eq!(put(&mut home, at(60_000), stranger(9_999, 9), ("again", &value)), None);
}

/// What waits for others of its key has its bound, in all.
/// spec: p2p/holder
#[test]
fn lines_have_an_end_in_all() {
    let mut home = home();
    let value = large();
    let mut waiting = 0;
    for line in 0.. {
        let store = store(&name(&format!("k{line}")), &value, StoreOptions::default());
        for _ in 0..STORES_WAITING_KEY_MAX + 1 {
            home.ask(at(0), stranger(line, line as u16), &store);
        }
        waiting += STORES_WAITING_KEY_MAX * store.len();
        if waiting > STORES_WAITING_LEN_MAX {
            break;
        }
        assert!(home.answers.is_empty(), "there is room in line {line}");
    }
    let reasons: Vec<_> = home.answers.drain(..).map(|(_, answer)| reason(&answer)).collect();
    assert!(!reasons.is_empty() && reasons.iter().all(|reason| *reason == Some(Reason::Busy)));
    while home.write_one(at(0)) {}
    home.answers.clear();
    assert_eq!(put(&mut home, at(0), stranger(7_777, 7), ("later", &value)), None);
}

/// A disk that does nothing has 4,096 writes to do, those included by which what is over goes.
/// spec: p2p/holder
#[test]
fn a_slow_disk_is_not_given_more() {
    let mut home = home();
    let ttl = StoreOptions { ttl_s: Some(60), ..StoreOptions::default() };
    for old in 0..10 {
        let store = store(&name(&format!("old {old}")), &number(1), ttl);
        assert_eq!(home.reason(at(0), stranger(0, 0), &store), None);
    }
    for count in 0..WRITES_OPEN_MAX as u32 {
        let by = stranger(1 + count / 900, 0);
        home.ask(at(0), by, &store(&name(&format!("new {count}")), &number(1), StoreOptions::default()));
    }
    assert!(home.answers.is_empty());
    let one_more = store(&name("one more"), &number(1), StoreOptions::default());
    home.ask(at(0), stranger(50, 0), &one_more);
    let reasons: Vec<_> = home.answers.drain(..).map(|(_, answer)| reason(&answer)).collect();
    assert_eq!(reasons, [Some(Reason::Busy)]);
    home.holder.handle_timeout(at(60_000));
    home.drain();
    assert_eq!(home.writes.len(), WRITES_OPEN_MAX, "nothing goes while the disk is behind");
    assert_eq!(home.value(at(60_000), &name("old 3")), None, "and nobody sees it");
    while home.write_one(at(60_000)) {}
    assert_eq!((home.answers.len(), home.disk.len()), (WRITES_OPEN_MAX, WRITES_OPEN_MAX + 10));
    for second in 61..70 {
        home.tick(at(1_000 * second));
    }
    assert_eq!(home.disk.len(), WRITES_OPEN_MAX);
}

fn prepare(home: &mut Home, now: Now, (by, counter): (Asker, u64), key: &str) -> Option<Reason> {
    let options = StoreOptions {
        prepare: Some(Ballot { counter: START + counter, proposer: by.peer }),
        ..StoreOptions::default()
    };
    home.reason(now, by, &store(&name(key), &[0xc0], options))
}

/// A peer begins 100 decisions a second, 200 at once; 4,096 peers do so at the same time.
/// spec: p2p/pace
#[test]
fn decisions_are_begun_at_a_pace() {
    let mut home = home();
    let by = stranger(1, 1);
    let mut counter = 0;
    let mut begun = |home: &mut Home, now| {
        let mut begun = 0;
        for _ in 0..3 * PREPARES_AT_ONCE {
            counter += 1;
            match prepare(home, now, (by, counter), "k") {
                None => begun += 1,
                Some(reason) => assert_eq!(reason, Reason::Busy),
            }
        }
        begun
    };
    assert_eq!(begun(&mut home, at(0)), u64::from(PREPARES_AT_ONCE));
    assert_eq!(begun(&mut home, at(1_000)), PREPARES_PER_SECOND);
    assert_eq!(begun(&mut home, at(1_500)), PREPARES_PER_SECOND / 2);
    let mut counter = 100_000;
    for other in 2..PREPARING_PEERS_MAX as u32 + 1 {
        counter += 1;
        assert_eq!(prepare(&mut home, at(1_500), (stranger(other, 1), counter), "k"), None);
    }
    let late = stranger(60_000, 1);
    assert_eq!(prepare(&mut home, at(1_500), (late, counter + 1), "k"), Some(Reason::Busy));
    assert_eq!(put(&mut home, at(1_500), late, ("plain", &number(1))), None, "plain stores go on");
    let own = Asker { peer: setup(1).own, ..stranger(1, 1) };
    assert_eq!(prepare(&mut home, at(1_500), (own, counter + 2), "k"), None, "we ourselves are not counted");
    home.tick(at(2_600));
    assert_eq!(prepare(&mut home, at(2_600), (late, counter + 3), "k"), None);
}

/// A value is kept two hours unless it is stored again, whatever is asked for.
/// spec: p2p/holder
#[test]
fn nobody_is_kept_longer_than_two_hours() {
    let mut home = home();
    let ttl = StoreOptions { ttl_s: Some(36_000), ..StoreOptions::default() };
    assert_eq!(home.reason(at(0), stranger(1, 1), &store(&name("k"), &number(1), ttl)), None);
    assert_eq!(home.value(at(2 * HOUR - 1), &name("k")), Some(number(1)));
    assert_eq!(home.value(at(2 * HOUR), &name("k")), None);
}

/// The second round of a decision about one key, by identity 1: its row, and the ballot of what it was made of.
fn accept(home: &mut Home, (counter, base): (u64, Option<u64>), row: Row<'_>) -> Option<Reason> {
    let by = |counter| Ballot { counter, proposer: identity(1).id() };
    let rows = encoded(|out| Rows::write_new(out, &[row]));
    let own = setup(1).own.0;
    let options = StoreOptions {
        accept: Some(by(counter)),
        base: base.map(by),
        rows: Rows::parse(value(&rows)).ok(),
        members: Members::new(&own, &own).ok(),
        ..StoreOptions::default()
    };
    home.reason(at(0), peer(1), &store(&name("k"), &[0xc0], options))
}

/// What is decided is 64 KiB long at most: a holder takes no longer one.
/// spec: p2p/register-rules
#[test]
fn what_is_decided_has_its_length() {
    let (bytes, near) = (name("k"), identity(1));
    for (len, expected) in [(VALUE_LEN_MAX + 1, Some(Reason::OverQuota)), (VALUE_LEN_MAX, None)] {
        let long = encoded(|out| write::bin(out, &vec![7; len - 3]));
        let record = Says::nobodys(&bytes, 1).signed(&near, &long);
        let record = ValueRecord::parse(&record).ok();
        let row = Row { key: key(&bytes), value: value(&long), record, lease: None, left_ms: 0 };
        assert_eq!(accept(&mut home(), (10, None), row), expected, "{len}");
    }
    assert_eq!(VALUE_LEN_MAX, 65_536);
}

/// A lease lasts a minute at most: a holder takes no longer one, and a proposer asks for none.
/// spec: p2p/register-rules
#[test]
fn no_lease_is_longer_than_a_minute() {
    let (bytes, near) = (name("k"), identity(1));
    let leased = |token: u64, left_ms: u64| Row {
        key: key(&bytes),
        value: value(&[0xc0]),
        record: None,
        lease: Some(LeaseRow { holder: near.id(), until_ms: START + left_ms, token }),
        left_ms,
    };
    assert_eq!(accept(&mut home(), (10, None), leased(10, 60_001)), Some(Reason::NotAllowed));
    assert_eq!(accept(&mut home(), (10, None), leased(10, 60_000)), None);

    let mut trio = Trio::new();
    let lease = |lasts: u64| What::Lease {
        action: LeaseAction::Acquire,
        lasts: Duration::from_secs(lasts),
        token: 0,
    };
    assert_eq!(refused(&trio.decide(at(0), &near, vec![edit(&bytes, lease(600))])), None);
    let far = identity(2);
    let leased = Some(Reason::Leased);
    assert_eq!(refused(&trio.decide(at(59_000), &far, vec![edit(&bytes, lease(10))])), leased);
    assert_eq!(refused(&trio.decide(at(60_001), &far, vec![edit(&bytes, lease(10))])), None);
}

/// Of a group sixteen names change at once, and it has 64 of them at most.
/// spec: p2p/register-rules
#[test]
fn a_group_has_so_many_names() {
    let near = identity(1);
    let names: Vec<Vec<u8>> = (0..65).map(|at| grouped("g", &format!("n{at:02}"))).collect();
    let records: Vec<Vec<u8>> =
        names.iter().map(|name| Says::nobodys(name, 1).signed(&near, &number(1))).collect();
    let one = number(1);
    let accept = |count: usize| {
        let row = |(name, record): (&'static [u8], &'static [u8])| Row {
            key: key(name),
            value: value(&[1]),
            record: ValueRecord::parse(record).ok(),
            lease: None,
            left_ms: 0,
        };
        let leak = |bytes: &Vec<u8>| -> &'static [u8] { Box::leak(bytes.clone().into_boxed_slice()) };
        let rows: Vec<Row<'_>> = names
            .iter()
            .zip(&records)
            .take(count)
            .map(|(name, record)| row((leak(name), leak(record))))
            .collect();
        let rows = encoded(|out| Rows::write_new(out, &rows));
        let own = setup(1).own.0;
        let options = StoreOptions {
            accept: Some(Ballot { counter: 10, proposer: near.id() }),
            rows: Rows::parse(value(&rows)).ok(),
            members: Members::new(&own, &own).ok(),
            ..StoreOptions::default()
        };
        home().reason(at(0), peer(1), &store(&names[0], &[0xc0], options))
    };
    assert_eq!((accept(17), accept(16)), (Some(Reason::OverQuota), None));
    let mut trio = Trio::new();
    let mut set = |from: usize, to: usize| {
        let edits = names[from..to].iter().map(|name| edit(name, What::Set(one.clone()))).collect();
        refused(&trio.decide(at(0), &near, edits))
    };
    assert_eq!([set(0, 16), set(16, 32), set(32, 48), set(48, 64)], [None; 4]);
    assert_eq!((set(64, 65), set(3, 4)), (Some(Reason::OverQuota), None));
}
