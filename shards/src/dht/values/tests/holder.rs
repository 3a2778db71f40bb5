//! One holder, plain values.

use dunlin_codec::args::{Ack, Diff, DiffOperation, Expected, Path, Reason, StoreOptions};
use dunlin_codec::ids::{Address, NodeId};
use dunlin_codec::msgpack::{Encoded, write};
use dunlin_codec::record::{Key, ValueRecord, set_signature};

use super::super::*;
use super::kit::*;
use crate::identity::chain::Kin;
use crate::limits::{STORES_WAITING_KEY_MAX, VALUE_LEN_MAX};

fn home() -> Home {
    Home::new(setup(1), at(0))
}

/// An answer that promises durability leaves with the disk's word and not before; nobody sees the value earlier.
/// spec: p2p/holder
#[test]
fn an_acknowledgement_waits_for_the_disk() {
    let mut home = home();
    let (key, one, two) = (name("k"), number(1), number(2));
    home.ask(at(0), peer(2), &store(&key, &one, StoreOptions::default()));
    assert!(home.answers.is_empty() && home.value(at(0), &key).is_none());
    // The second waits for the first, and is judged by what the first has done.
    let record = Says::nobodys(&key, 1).signed(&identity(3), &two);
    home.ask(at(0), peer(3), &store(&key, &two, with_record(&record)));
    assert_eq!(home.writes.len(), 1);
    assert!(home.write_one(at(0)));
    assert_eq!((home.answers.len(), home.value(at(0), &key)), (1, Some(one)));
    assert!(home.write_one(at(0)));
    assert_eq!((home.answers.len(), home.value(at(0), &key)), (2, Some(two.clone())));
    assert_eq!(home.events, [(key.clone(), Event::Update), (key.clone(), Event::Update)]);
    let restored = home.restart(setup(1), at(1));
    assert_eq!(restored, Restored { kept: 1, expired: 0, bad: 0 });
    assert_eq!(home.value(at(1), &key), Some(two));
}

/// A disk that takes nothing refuses stores; what is there is still told, and room is not lost.
/// spec: p2p/holder
#[test]
fn a_full_disk_refuses_and_nothing_else() {
    let mut home = home();
    let (key, one, two) = (name("k"), number(1), number(2));
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &one, StoreOptions::default())), None);
    let len = home.holder.len();
    home.ask(at(0), peer(2), &store(&key, &two, StoreOptions::default()));
    home.ask(at(0), peer(2), &store(&name("other"), &two, StoreOptions::default()));
    for (ticket, _) in core::mem::take(&mut home.writes) {
        home.holder.on_written(at(0), ticket, false);
    }
    home.drain();
    let reasons: Vec<_> = home.answers.drain(..).map(|(_, answer)| reason(&answer)).collect();
    assert_eq!(reasons, [Some(Reason::Full); 2]);
    assert_eq!((home.value(at(0), &key), home.holder.len()), (Some(one), len));
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &two, StoreOptions::default())), None);
    assert_eq!(home.value(at(0), &key), Some(two));
}

/// spec: p2p/holder
#[test]
fn a_line_has_an_end() {
    let mut home = home();
    let key = name("k");
    for at_line in 0..STORES_WAITING_KEY_MAX as u64 + 2 {
        home.ask(at(0), peer(2), &store(&key, &number(at_line), StoreOptions::default()));
    }
    let reasons: Vec<_> = home.answers.drain(..).map(|(_, answer)| reason(&answer)).collect();
    assert_eq!(reasons, [Some(Reason::Busy)]);
    while home.write_one(at(0)) {}
    assert_eq!(home.answers.len(), STORES_WAITING_KEY_MAX + 1);
    assert_eq!(home.value(at(0), &key), Some(number(STORES_WAITING_KEY_MAX as u64)));
}

/// Each thing that a record says is held against it.
/// spec: p2p/value-record
/// spec: p2p/values
#[test]
fn a_record_that_does_not_hold_is_refused() {
    let mut home = home();
    let (key, one, two) = (name("k"), number(1), number(2));
    let (owner, friend, stranger) = (identity(2), identity(3), identity(4));
    let says = Says { key: &key, owner: owner.id(), sequence: 1, time: 0, expiry: HOUR };
    let mut refused = |record: &[u8], value: &[u8]| {
        home.reason(at(1_000), peer(9), &store(&key, value, with_record(record)))
    };
    let not_allowed = Some(Reason::NotAllowed);
    let good = says.signed(&owner, &one);
    assert_eq!(refused(&good, &two), Some(Reason::Malformed), "another value's");
    let mut forged = good.clone();
    set_signature(&mut forged, &[5; 64]).unwrap();
    assert_eq!(refused(&forged, &one), not_allowed, "nobody's signature");
    let over = Says { expiry: 999, ..says }.signed(&owner, &one);
    assert_eq!(refused(&over, &one), not_allowed, "its time is over");
    let early = Says { time: 130_000, ..says }.signed(&owner, &one);
    assert_eq!(refused(&early, &one), not_allowed, "from the future");
    let long = Says { expiry: 31 * 24 * HOUR, ..says }.signed(&owner, &one);
    assert_eq!(refused(&long, &one), not_allowed, "for ever");
    let leave = |from: &Identity, to: NodeId, until| {
        sign_grant(from, &NETWORK, (&Key::parse(&key).unwrap().unwrap(), to), START + until)
    };
    for (grant, what) in [
        (leave(&stranger, friend.id(), HOUR), "a stranger's leave"),
        (leave(&owner, stranger.id(), HOUR), "leave for another"),
        (leave(&owner, friend.id(), HOUR - 1), "leave for less long"),
    ] {
        let record = says.granted(&friend, &one, Some(&grant));
        assert_eq!(refused(&record, &one), not_allowed, "{what}");
    }
    let record = says.granted(&friend, &one, Some(&leave(&owner, friend.id(), HOUR)));
    assert_eq!(refused(&record, &one), None);
    let nobodys = Says::nobodys(&key, 7).signed(&stranger, &two);
    assert_eq!(refused(&nobodys, &two), not_allowed, "an owned key stays its owner's");
}

use crate::identity::Identity;

/// Wrong address, wrong arguments, what is decided in two rounds: each has its own word.
/// spec: p2p/values
#[test]
fn what_cannot_be_stored_is_refused_with_its_reason() {
    let mut home = home();
    let (key, one) = (name("k"), number(1));
    let parsed = Key::parse(&key).unwrap().unwrap();
    let away = dunlin_codec::args::Store {
        address: Address([3; 32]),
        key: parsed,
        value: value(&one),
        options: StoreOptions::default(),
    };
    let payload = encoded(|out| dunlin_codec::args::Request::Store(away).write(out));
    assert_eq!(home.reason(at(0), peer(2), &payload), Some(Reason::WrongAddress));
    assert_eq!(home.reason(at(0), peer(2), &[0xc0]), Some(Reason::Malformed));
    let long = encoded(|out| write::bin(out, &vec![0; VALUE_LEN_MAX - 2]));
    assert_eq!(long.len(), VALUE_LEN_MAX + 1);
    assert_eq!(
        home.reason(at(0), peer(2), &store(&key, &long, StoreOptions::default())),
        Some(Reason::OverQuota)
    );
    let sequence = StoreOptions { sequence: Some(4), ..StoreOptions::default() };
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &one, sequence)), Some(Reason::Malformed));
    let Finding::Answer(answer) = home.holder.on_find(at(0), HERE, &[0xc0]) else { panic!() };
    assert_eq!(reason(&answer), Some(Reason::Malformed));
    assert_eq!(home.value(at(0), &key), None);
}

/// The same one wins in whatever order they come.
/// spec: p2p/plain-values
#[test]
fn every_holder_comes_to_the_same_value() {
    let key = name("k");
    let value_of = |at: usize| number(at as u64);
    let says = |sequence, time| Says { time, ..Says::nobodys(&key, sequence) };
    let writers = [identity(2), identity(3)];
    // A later second beats an earlier one, within a second the lower key wins, and a higher sequence beats all.
    let mut records = vec![
        says(1, 5_000).signed(&writers[0], &value_of(0)),
        says(1, 6_100).signed(&writers[0], &value_of(1)),
        says(1, 6_900).signed(&writers[1], &value_of(2)),
        says(0, 9_000).signed(&writers[0], &value_of(3)),
    ];
    let lower = if writers[0].id() < writers[1].id() { 1 } else { 2 };
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let mut home = home();
        for place in order {
            home.told(at(10_000), peer(9), &store(&key, &value_of(place), with_record(&records[place])));
        }
        assert_eq!(home.value(at(10_000), &key), Some(value_of(lower)), "{order:?}");
    }
    records.push(says(2, 0).signed(&writers[1], &value_of(4)));
    let mut home = home();
    for place in [4, 1, 2] {
        let stale =
            home.reason(at(10_000), peer(9), &store(&key, &value_of(place), with_record(&records[place])));
        assert_eq!(stale, (place != 4).then_some(Reason::StaleSequence));
    }
    assert_eq!(
        home.reason(at(10_000), peer(9), &store(&key, &number(9), StoreOptions::default())),
        Some(Reason::StaleSequence),
        "what nobody signed replaces only its like"
    );
}

/// A condition is held against what is there; the refusal tells it.
/// spec: p2p/plain-values
#[test]
fn a_condition_must_hold() {
    let mut home = home();
    let (key, one, two) = (name("k"), number(1), number(2));
    let first = Says::nobodys(&key, 1).signed(&identity(2), &one);
    let second = Says::nobodys(&key, 2).signed(&identity(3), &two);
    let nil = value_hash(Encoded::NIL);
    let hash = value_hash(value(&one));
    let with = |record, sequence, value_hash| StoreOptions {
        expected: Some(Expected { sequence, value_hash }),
        ..with_record(record)
    };
    let mismatch = Some(Reason::Mismatch);
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &one, with(&first, 1, &hash))), mismatch);
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &one, with(&first, 0, &nil))), None);
    assert_eq!(home.reason(at(0), peer(3), &store(&key, &two, with(&second, 1, &nil))), mismatch);
    let answer = home.told(at(0), peer(3), &store(&key, &two, with(&second, 0, &hash)));
    let Ok(dunlin_codec::args::Nack::Store(nack)) = dunlin_codec::args::Nack::parse(&answer.payload) else {
        panic!()
    };
    let there = nack.metadata.and_then(|metadata| metadata.record).unwrap();
    assert_eq!((nack.reason, there.fields.sequence), (Reason::Mismatch, 1));
    assert_eq!(home.reason(at(0), peer(3), &store(&key, &two, with(&second, 1, &hash))), None);
}

/// The storer makes the value out of the one it has; nothing half-applied.
/// spec: p2p/plain-values
#[test]
fn a_diff_is_applied_by_the_storer() {
    let mut home = home();
    let key = name("k");
    let (old, new) = (name("hello"), name("hellish"));
    let path = Path::new(Encoded::parse(&[0x90]).unwrap()).unwrap();
    let splice = DiffOperation::Splice { path, offset: 4, removed: 1, inserted: b"ish" };
    let diff =
        |base: &[u8], len| encoded(|out| Diff::write_new(out, &value_hash(value(base)), len, &[splice]));
    let with = |record, diff| StoreOptions {
        diff: Some(Diff::parse(Encoded::parse(diff).unwrap()).unwrap()),
        ..with_record(record)
    };
    let first = Says::nobodys(&key, 1).signed(&identity(2), &old);
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &old, with_record(&first))), None);
    let second = Says::nobodys(&key, 2).signed(&identity(2), &new);
    let bad = Some(Reason::BadDiff);
    let nil = [0xc0];
    let other_base = diff(&new, new.len() as u64);
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &nil, with(&second, &other_base))), bad);
    let other_len = diff(&old, 99);
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &nil, with(&second, &other_len))), bad);
    let good = diff(&old, new.len() as u64);
    let lie = Says::nobodys(&key, 2).signed(&identity(2), &number(5));
    assert_eq!(
        home.reason(at(0), peer(2), &store(&key, &nil, with(&lie, &good))),
        bad,
        "another result's record"
    );
    assert_eq!(home.value(at(0), &key), Some(old));
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &nil, with(&second, &good))), None);
    assert_eq!(home.value(at(0), &key), Some(new));
}

/// Values end, and their rows with them; a row that outlived its time while nobody ran is not taken back.
/// spec: p2p/republish
/// spec: p2p/value-rows
#[test]
fn what_is_over_goes() {
    let mut home = home();
    let (short, long) = (name("short"), name("long"));
    let ttl = StoreOptions { ttl_s: Some(60), ..StoreOptions::default() };
    assert_eq!(home.reason(at(0), peer(2), &store(&short, &number(1), ttl)), None);
    assert_eq!(home.reason(at(0), peer(2), &store(&long, &number(2), StoreOptions::default())), None);
    assert_eq!((home.disk.len(), home.value(at(59_999), &short)), (2, Some(number(1))));
    assert_eq!(home.value(at(60_000), &short), None);
    let mut late = Home::new(setup(1), at(0));
    late.disk = home.disk.clone();
    late.disk.insert(b"junk".to_vec(), vec![1, 2]);
    assert_eq!(late.restart(setup(1), at(60_000)), Restored { kept: 1, expired: 1, bad: 1 });
    home.tick(at(60_000));
    assert_eq!(home.disk.len(), 1);
    home.tick(at(2 * HOUR));
    assert!(home.disk.is_empty() && home.holder.is_empty());
    assert_eq!(home.holder.len(), 0, "nobody is charged for what is gone");
}

/// What was signed is stored again as it came, an hour after it was stored here last; what nobody signed is not.
/// spec: p2p/republish
#[test]
fn a_holder_stores_again() {
    let mut home = home();
    let (signed, unsigned, one) = (name("signed"), name("unsigned"), number(1));
    let record = Says { expiry: 5 * HOUR, ..Says::nobodys(&signed, 1) }.signed(&identity(2), &one);
    let stored = store(&signed, &one, with_record(&record));
    assert_eq!(home.reason(at(0), peer(2), &stored), None);
    assert_eq!(home.reason(at(0), peer(2), &store(&unsigned, &one, StoreOptions::default())), None);
    home.tick(at(HOUR - 1));
    assert!(home.again.is_empty());
    // Another holder was faster.
    assert_eq!(home.reason(at(HOUR - 1), peer(3), &stored), None);
    home.tick(at(HOUR + 1_000));
    assert!(home.again.is_empty());
    home.tick(at(2 * HOUR - 2));
    assert!(home.again.is_empty());
    home.tick(at(2 * HOUR + HOUR / 6));
    assert_eq!(home.again, [stored]);
    assert_eq!(home.value(at(3 * HOUR - 2), &signed), Some(one), "it lasts two hours from the last store");
    assert_eq!(home.value(at(3 * HOUR), &signed), None);
    assert_eq!(home.events.len(), 2, "what is stored again is no news");
}

/// A copy beside the path is in memory, and gives way to a value that is kept in earnest.
/// spec: p2p/holder
#[test]
fn a_copy_promises_nothing() {
    let mut home = home();
    let (key, one, two) = (name("k"), number(1), number(2));
    let record = Says::nobodys(&key, 5).signed(&identity(2), &one);
    let copy = StoreOptions { is_cache: true, ..with_record(&record) };
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &one, copy)), None);
    assert!(home.disk.is_empty());
    assert_eq!(home.value(at(599_999), &key), Some(one.clone()));
    assert_eq!(home.value(at(600_000), &key), None);
    let older = Says::nobodys(&key, 4).signed(&identity(2), &two);
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &two, with_record(&older))), None);
    assert_eq!((home.value(at(0), &key), home.disk.len()), (Some(two.clone()), 1));
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &one, copy)), None);
    assert_eq!(home.value(at(0), &key), Some(two), "what is kept in earnest is no worse than a copy");
    // Far more copies than there is room for.
    let long = encoded(|out| write::bin(out, &[0; 60_000]));
    for number in 0..200 {
        let key = name(&format!("copy {number}"));
        let options = StoreOptions { is_cache: true, ..StoreOptions::default() };
        assert_eq!(home.reason(at(0), peer(2), &store(&key, &long, options)), None);
    }
    let kept = (0..200).filter(|number| home.value(at(0), &name(&format!("copy {number}"))).is_some());
    assert_eq!(kept.count(), (8 << 20) / 60_012);
}

/// nil deletes, for as long as the record says so.
/// spec: p2p/holder
#[test]
fn nil_deletes() {
    let mut home = home();
    let (key, one) = (name("k"), number(1));
    let first = Says::nobodys(&key, 1).signed(&identity(2), &one);
    let second = Says::nobodys(&key, 2).signed(&identity(2), &[0xc0]);
    home.told(at(0), peer(2), &store(&key, &one, with_record(&first)));
    assert_eq!(home.reason(at(0), peer(2), &store(&key, &[0xc0], with_record(&second))), None);
    assert_eq!(home.events.last(), Some(&(key.clone(), Event::Delete)));
    assert_eq!(
        home.reason(at(0), peer(2), &store(&key, &one, with_record(&first))),
        Some(Reason::StaleSequence)
    );
    let Finding::Answer(answer) = home.holder.on_find(at(0), HERE, &find(&key)) else { panic!() };
    let Ok(Ack::Value(found)) = Ack::parse(&answer.payload) else { panic!() };
    assert!(found.value.is_nil());
    assert_eq!(found.metadata.record, ValueRecord::parse(&second).ok());
}

/// What a key owned its successor owns, by whoever keeps it; nobody else does, and the old key's word is not newer for it.
/// spec: p2p/owner-follows
#[test]
fn an_owner_who_changed_its_key_is_the_owner() {
    let mut home = home();
    let (key, one, two) = (name("k"), number(1), number(2));
    let of = |who: u8, sequence, value: &[u8]| {
        Says { owner: identity(who).id(), ..Says::nobodys(&key, sequence) }.signed(&identity(who), value)
    };
    let mut reason = |kin: Option<Kin>, (who, sequence): (u8, u64), value: &[u8]| {
        kin.into_iter().for_each(|kin| home.holder.on_kin(kin));
        home.reason(at(0), peer(9), &store(&key, value, with_record(&of(who, sequence, value))))
    };
    assert_eq!(reason(None, (2, 5), &one), None);
    assert_eq!(reason(None, (3, 6), &two), Some(Reason::NotAllowed), "who is that?");
    assert_eq!(reason(Some(kin(2, 3)), (3, 6), &two), None);
    assert_eq!(reason(None, (4, 7), &one), Some(Reason::NotAllowed));
    assert_eq!(reason(None, (2, 5), &one), Some(Reason::StaleSequence));
    assert_eq!(home.value(at(0), &key), Some(two));
}
