//! Values among engines: put, read, changed, leased; with one shard and with three.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use dunlin::network::values::{
    Change, ChangeOptions, Condition, Found, GetOptions, LeaseOptions, PutOptions, Reason, ValueError,
    Version, Wish,
};
use dunlin::{Engine, Network};

use crate::api::start;
use crate::network::{knows, network, of};
use crate::process::wait_until;

/// The texts "one" and "two" in msgpack, and the map {"a": 1}.
const ONE: &[u8] = b"\xa3one";
const TWO: &[u8] = b"\xa3two";
const MAP: &[u8] = b"\x81\xa1a\x01";

/// So many engines that know each other, by one of them.
fn circle(count: usize, shards: usize) -> Vec<Engine> {
    let mut all = vec![start(network("mmsg", shards, &[]))];
    for _ in 1..count {
        let engine = start(network("mmsg", shards, &[&all[0]]));
        all.push(engine);
    }
    for engine in &all {
        let others: Vec<&Engine> = all.iter().filter(|other| other.id() != engine.id()).collect();
        wait_until("all know each other", || knows(engine, &others));
    }
    all
}

fn get(network: &Network, key: &[u8]) -> Option<Found> {
    network.get(key, &GetOptions::default()).unwrap()
}

fn set(key: &[u8], value: &[u8], condition: Option<Condition>) -> Change {
    Change { key: key.to_vec(), condition, wish: Wish::Set(value.to_vec()) }
}

fn change(network: &Network, changes: &[Change]) -> Result<Vec<Version>, ValueError> {
    let changed = network.change(changes, &ChangeOptions::default())?;
    Ok(changed.values.iter().map(Found::version).collect())
}

#[track_caller]
fn reason<T: std::fmt::Debug>(result: Result<T, ValueError>) -> Reason {
    match result {
        Err(ValueError::Refused(refused)) => refused.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_one_puts_another_gets_and_deletes() {
    for shards in [1, 3] {
        let all = circle(3, shards);
        let [first, second, third] = [0, 1, 2].map(|at| of(&all[at]));
        let kept = first.put(b"\xa1k", ONE, &PutOptions::default()).unwrap();
        assert_eq!((kept.by, kept.of), (Some(3), Some(3)));
        for network in [&first, &second, &third] {
            let found = get(network, b"\xa1k").unwrap();
            assert_eq!((&*found.value, found.writer, found.owner), (ONE, Some(first.id()), None));
            assert!(found.holders >= Some(2), "{found:?}");
        }
        // It is nobody's: anybody writes it.
        third.put(b"\xa1k", TWO, &PutOptions::default()).unwrap();
        let found = get(&second, b"\xa1k").unwrap();
        assert_eq!((&*found.value, found.writer), (TWO, Some(third.id())));
        second.delete(b"\xa1k", &PutOptions::default()).unwrap();
        assert_eq!(get(&first, b"\xa1k"), None);
        let known =
            first.look(b"\xa1k", &GetOptions::default()).unwrap().expect("it is known that it was deleted");
        assert!(known.is_deleted() && known.sequence > found.sequence, "{known:?}");
        assert_eq!(get(&first, b"\xa7nothing"), None);
        assert!(matches!(first.put(b"\x01", ONE, &PutOptions::default()), Err(ValueError::BadKey)));
    }
}

#[test]
fn what_is_owned_is_written_by_its_owner_alone() {
    let all = circle(3, 1);
    let [first, second] = [0, 1].map(|at| of(&all[at]));
    let owned = PutOptions { is_owned: true, ..PutOptions::default() };
    first.put(b"\xa1o", ONE, &owned).unwrap();
    assert_eq!(get(&second, b"\xa1o").unwrap().owner, Some(first.id()));
    for options in [PutOptions::default(), owned] {
        let refused = second.put(b"\xa1o", TWO, &options);
        assert!(refused.is_err(), "{refused:?}");
    }
    assert_eq!(reason(change(&second, &[set(b"\xa1o", TWO, None)])), Reason::NotAllowed);
    first.put(b"\xa1o", TWO, &owned).unwrap();
    let mine = GetOptions { owner: Some(first.id()), ..GetOptions::default() };
    assert_eq!(*second.get(b"\xa1o", &mine).unwrap().unwrap().value, *TWO);
    let not_mine = GetOptions { owner: Some(second.id()), ..GetOptions::default() };
    assert_eq!(second.get(b"\xa1o", &not_mine).unwrap(), None);
}

/// Several race to be the first; one is, and the others are told what is there. Later the same with what is there.
#[test]
fn of_those_who_compare_and_set_one_wins() {
    let all = circle(4, 2);
    let race = |condition: Condition| {
        let run = |engine: &Engine| {
            let (network, value) = (of(engine), [&[0xc4, 32], &engine.id().0[..]].concat());
            thread::spawn(move || change(&network, &[set(b"\xa1c", &value, Some(condition))]))
        };
        let racing: Vec<_> = all.iter().map(run).collect();
        let ended: Vec<_> = racing.into_iter().map(|one| one.join().unwrap()).collect();
        let won = ended.iter().filter(|result| result.is_ok()).count();
        let unknown = ended.iter().filter(|result| matches!(result, Err(ValueError::Unknown))).count();
        assert!(won <= 1 && won + unknown >= 1, "{ended:?}");
        for result in &ended {
            if let Err(ValueError::Refused(refused)) = result {
                assert_eq!(refused.reason, Reason::Mismatch, "{ended:?}");
                assert!(refused.there[0].sequence > 0 && refused.there[0].writer.is_some(), "{refused:?}");
                assert!(refused.to_string().contains("there is sequence"), "{refused}");
            }
        }
        let found = get(&of(&all[0]), b"\xa1c").expect("one has won");
        assert_eq!(found.value[2..], found.writer.unwrap().0);
        found
    };
    let first = race(Condition::Nothing);
    let second = race(Condition::Is(first.version()));
    assert_eq!(second.sequence, first.sequence + 1);
    let network = of(&all[1]);
    assert_eq!(
        reason(change(&network, &[set(b"\xa1c", ONE, Some(Condition::Is(first.version())))])),
        Reason::Mismatch
    );
    // A plain put takes part in deciding by itself; nothing is there again once it is deleted.
    network.put(b"\xa1c", TWO, &PutOptions::default()).unwrap();
    assert_eq!(*get(&of(&all[2]), b"\xa1c").unwrap().value, *TWO);
    network.delete(b"\xa1c", &PutOptions::default()).unwrap();
    change(&network, &[set(b"\xa1c", ONE, Some(Condition::Nothing))]).unwrap();
}

/// Everybody counts up by reading and setting what is there plus one: nobody's step is lost.
#[test]
fn counting_together_loses_no_step() {
    const STEPS: u64 = 5;
    let all = circle(3, 1);
    let number = |found: &Found| u64::from_be_bytes(found.value[1..].try_into().unwrap());
    let bytes = |number: u64| [&[0xcf][..], &number.to_be_bytes()].concat();
    // Kept in the long form, which is legal.
    let unsure = Arc::new(AtomicU64::new(0));
    let count = |engine: &Engine| {
        let (network, unsure) = (of(engine), Arc::clone(&unsure));
        thread::spawn(move || {
            let mut done = 0;
            while done < STEPS {
                let found = match network.look(b"\xa1n", &GetOptions::default()) {
                    Ok(found) => found,
                    Err(_) => continue,
                };
                let condition = found.as_ref().map_or(Condition::Nothing, |it| Condition::Is(it.version()));
                let next = found.as_ref().map_or(1, |it| number(it) + 1);
                match change(&network, &[set(b"\xa1n", &bytes(next), Some(condition))]) {
                    Ok(_) => done += 1,
                    Err(ValueError::Unknown) => {
                        unsure.fetch_add(1, Ordering::SeqCst);
                        done += 1;
                    }
                    Err(_) => {}
                }
            }
        })
    };
    all.iter().map(count).collect::<Vec<_>>().into_iter().for_each(|one| one.join().unwrap());
    let counted = number(&get(&of(&all[0]), b"\xa1n").unwrap());
    let (whole, unsure) = (3 * STEPS, unsure.load(Ordering::SeqCst));
    assert!(counted <= whole && counted + unsure >= whole, "{counted} of {whole}, {unsure} unsure");
}

/// Two change different entries of a map at once, as often as they like: both are there.
#[test]
fn diffs_of_different_parts_do_not_disturb_each_other() {
    let all = circle(3, 1);
    let [first, second] = [0, 1].map(|at| of(&all[at]));
    first.put(b"\xa1d", MAP, &PutOptions::default()).unwrap();
    // [[0, ["b"], 2]] and [[0, ["c"], 3], [1, ["a"]]]
    let diff = |operations: &[u8]| Change {
        key: b"\xa1d".to_vec(),
        condition: None,
        wish: Wish::Diff(operations.to_vec()),
    };
    let other = second.clone();
    let late = diff(b"\x92\x93\x00\x91\xa1c\x03\x92\x01\x91\xa1a");
    let racing = thread::spawn(move || change(&other, &[late]).unwrap());
    change(&first, &[diff(b"\x91\x93\x00\x91\xa1b\x02")]).unwrap();
    racing.join().unwrap();
    assert_eq!(*get(&second, b"\xa1d").unwrap().value, *b"\x82\xa1b\x02\xa1c\x03");
    let wrong = change(&first, &[diff(b"\x91\x92\x01\x91\xa1x")]);
    assert_eq!(reason(wrong), Reason::BadDiff, "there is no entry to be removed");
}

#[test]
fn names_of_a_group_change_together_or_not_at_all() {
    let all = circle(3, 2);
    let [first, second] = [0, 1].map(|at| of(&all[at]));
    let name = |name: &[u8]| [b"\x92\xa1g", name].concat();
    let both = |left: &[u8], right: &[u8], condition| {
        [set(&name(b"\xa1l"), left, condition), set(&name(b"\xa1r"), right, None)]
    };
    let versions = change(&first, &both(ONE, TWO, Some(Condition::Nothing))).unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(reason(change(&second, &both(TWO, ONE, Some(Condition::Nothing)))), Reason::Mismatch);
    assert_eq!(*get(&second, &name(b"\xa1r")).unwrap().value, *TWO, "the other one has not changed either");
    change(&second, &both(TWO, ONE, Some(Condition::Is(versions[0])))).unwrap();
    assert_eq!(*get(&first, &name(b"\xa1r")).unwrap().value, *ONE);
    let apart = [set(b"\xa1x", ONE, None), set(b"\xa1y", ONE, None)];
    assert!(matches!(change(&first, &apart), Err(ValueError::BadGroup)));
}

/// Threads of two nodes take turns: no two are inside at once, and tokens only grow.
/// spec: p2p/lease
#[test]
fn a_lease_is_one_holders_at_a_time() {
    let all = circle(3, 1);
    let (inside, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let work = |engine: &Engine| {
        let (network, inside, last) = (of(engine), Arc::clone(&inside), Arc::clone(&last));
        thread::spawn(move || {
            let options = LeaseOptions { lasts: Duration::from_secs(10), wait: crate::DEADLINE, leave: None };
            for _ in 0..3 {
                let lease = network.lock(b"\xa4work", &options).unwrap();
                assert!(!inside.swap(true, Ordering::SeqCst), "another is inside");
                assert!(lease.is_held() && lease.token() > last.swap(lease.token(), Ordering::SeqCst));
                assert_eq!(lease.key(), b"\xa4work");
                thread::sleep(Duration::from_millis(20));
                assert!(inside.swap(false, Ordering::SeqCst));
                lease.release().unwrap();
            }
        })
    };
    let working: Vec<_> = [&all[0], &all[1], &all[1]].map(work).into();
    working.into_iter().for_each(|one| one.join().unwrap());
}

/// A lease that lasts a second is held for longer all the same; what is written to its key meanwhile takes its token.
#[test]
fn a_lease_renews_itself_and_guards_its_key() {
    let all = circle(3, 1);
    let [first, second] = [0, 1].map(|at| of(&all[at]));
    let options = LeaseOptions { lasts: Duration::from_secs(2), ..LeaseOptions::default() };
    let lease = first.lock(b"\xa1g", &options).unwrap();
    let begun = lease.until().unwrap();
    wait_until("it was renewed", || lease.until().expect("it is held") > begun + Duration::from_secs(2));
    assert_eq!(reason(second.lock(b"\xa1g", &options).map(|_| ())), Reason::Leased);
    assert_eq!(
        reason(first.lock(b"\xa1g", &options).map(|_| ())),
        Reason::Leased,
        "not twice by one node either"
    );
    assert_eq!(reason(second.put(b"\xa1g", ONE, &PutOptions::default())), Reason::Leased);
    let under = |token| ChangeOptions { token, ..ChangeOptions::default() };
    let write = |token| first.change(&[set(b"\xa1g", TWO, None)], &under(token));
    let written = write(lease.token()).unwrap();
    assert_eq!(written.values[0].token, lease.token());
    assert_eq!(reason(write(lease.token() - 1)), Reason::StaleToken);
    let token = lease.token();
    lease.release().unwrap();
    assert_eq!(reason(write(token)), Reason::StaleToken, "it was given back");
    // Dropped, it is free as well.
    drop(second.lock(b"\xa1g", &options).unwrap());
    let patient = LeaseOptions { wait: crate::DEADLINE, ..options };
    assert!(first.lock(b"\xa1g", &patient).unwrap().token() > token);
    assert!(matches!(
        first.lock(b"\xa1g", &LeaseOptions { lasts: Duration::ZERO, ..options }),
        Err(ValueError::BadLease)
    ));
}

/// Whoever loses the others loses the lease, and hears of it before they may have it.
#[test]
fn a_lease_is_lost_without_the_others() {
    let mut all = circle(3, 1);
    let first = of(&all[0]);
    let options = LeaseOptions { lasts: Duration::from_secs(3), ..LeaseOptions::default() };
    let lease = first.lock(b"\xa4lost", &options).unwrap();
    all.truncate(1);
    assert!(lease.wait_lost(crate::DEADLINE) && lease.token() == 0 && lease.until().is_none());
    assert!(matches!(lease.release(), Err(ValueError::Lost)));
}
