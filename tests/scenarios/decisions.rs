//! Decisions: compare-and-set, diffs, leases and groups among real nodes, whatever becomes of their holders.

use dunlin_codec::args::{Diff, DiffOperation, LeaseAction, Path, Reason};
use dunlin_codec::bytes::Writer;
use dunlin_codec::msgpack::Encoded;
use dunlin_shards::dht::values::decision::{Decided, Edit, Expectation, What};
use dunlin_shards::dht::values::{DecideWish, State, value_hash};
use dunlin_shards::limits::LEASES_IDENTITY_MAX;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::world::{Scope, Trouble};
use dunlin_tests::{NodeIndex, World};

use crate::network::crowd;
use crate::values::{Told, decide_wish, get_wish, grouped, put_wish, read_all, text};
use crate::{millis, seconds, seed};

fn nil_hash() -> [u8; 32] {
    value_hash(Encoded::NIL)
}

fn set(key: &[u8], value: &[u8], expected: Option<Expectation>) -> Edit {
    Edit { key: key.to_vec(), expected, what: What::Set(value.to_vec()) }
}

fn value_in(state: &State, key: &[u8]) -> Vec<u8> {
    state.get(key).map_or(vec![0xc0], |cell| cell.value.to_vec())
}

fn sequence_in(state: &State, key: &[u8]) -> u64 {
    state.get(key).and_then(|cell| cell.record()).map_or(0, |record| record.fields.sequence)
}

/// Decides, waits, and gives what was told.
fn decided(world: &mut World, node: NodeIndex, wish: DecideWish) -> Decided {
    world.decide(node, 77, wish);
    world.run_for(seconds(20));
    let mut told = Told::default();
    told.take(world, &[node]);
    told.decided(node, 77).clone()
}

fn of_shards(shards: usize) -> NodeSettings {
    NodeSettings { shards, ..NodeSettings::default() }
}

/// Two nodes that want a key at once: one has it, the other is told by whom it was written and what is there.
/// spec: p2p/wishes, p2p/decisions
#[test]
fn of_two_that_race_one_wins() {
    for shards in [1, 2, 3] {
        let mut world = World::from_seed(seed());
        let nodes = crowd(&mut world, 10, &of_shards(shards));
        world.run_for(seconds(30));
        for round in 0..8 {
            let key = text(&format!("race {round}"));
            let nothing = Some(Expectation { sequence: 0, value_hash: nil_hash() });
            let (one, other) = (nodes[1 + round % 4], nodes[5 + round % 5]);
            for (node, value) in [(one, "one"), (other, "other")] {
                world.decide(node, round as u64, decide_wish(&key, vec![set(&key, &text(value), nothing)]));
            }
            world.run_for(seconds(15));
            let mut told = Told::default();
            told.take(&mut world, &nodes);
            let (first, second) = (told.decided(one, round as u64), told.decided(other, round as u64));
            let (winner, value, refused) = match (first, second) {
                (Decided::Done { .. }, refused) => (one, text("one"), refused),
                (refused, Decided::Done { .. }) => (other, text("other"), refused),
                both => panic!("nobody wins: {both:?}"),
            };
            let Decided::Refused { reason: Reason::Mismatch, state } = refused else { panic!("{refused:?}") };
            let record = state[&key].record().expect("it was written");
            assert_eq!((value_in(state, &key), record.fields.writer), (value.clone(), world.id(winner)));
            let read = read_all(&mut world, &nodes, &get_wish(&key), 100);
            assert!(read.iter().all(|there| *there == Some(value.clone())), "{read:?}");
        }
    }
}

/// The bytes of a diff that puts other bytes in the place of as many of a str.
fn splice(base: &[u8], offset: u64, inserted: &[u8]) -> Vec<u8> {
    let base = Encoded::parse(base).expect("a str");
    let path = Path::new(Encoded::parse(&[0x90]).expect("an empty array")).expect("the str itself");
    let operation = DiffOperation::Splice { path, offset, removed: inserted.len() as u64, inserted };
    let mut room = [0; 512];
    let mut out = Writer::new(&mut room);
    Diff::write_new(&mut out, &value_hash(base), base.bytes().len() as u64, &[operation])
        .expect("it is short");
    out.written().to_vec()
}

/// A diff travels in the place of a value; one of another base is refused.
/// spec: p2p/wishes
#[test]
fn a_diff_is_made_of_what_is_there() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 10, &of_shards(2));
    world.run_for(seconds(30));
    let (key, base) = (text("text"), text("a word"));
    let first = decided(&mut world, nodes[1], decide_wish(&key, vec![set(&key, &base, None)]));
    assert!(matches!(first, Decided::Done { .. }), "{first:?}");
    let edit = || Edit { key: key.clone(), expected: None, what: What::Diff(splice(&base, 2, b"l")) };
    let changed = decided(&mut world, nodes[2], decide_wish(&key, vec![edit()]));
    let Decided::Done { state, .. } = changed else { panic!("{changed:?}") };
    assert_eq!((value_in(&state, &key), sequence_in(&state, &key)), (text("a lord"), 2));
    let again = decided(&mut world, nodes[3], decide_wish(&key, vec![edit()]));
    assert!(matches!(again, Decided::Refused { reason: Reason::BadDiff, .. }), "{again:?}");
    assert_eq!(read_all(&mut world, &nodes, &get_wish(&key), 1), vec![Some(text("a lord")); 10]);
}

/// One node's part in a fight for a lease.
struct Fighter {
    node: NodeIndex,
    ticket: u64,
    /// The token that it holds it under, and until when by the world's time.
    holds: Option<(u64, u64)>,
}

/// Three nodes fight for a lease for minutes while holders stop and come back: never do two rely on it at once, tokens only
/// grow, and everybody has it now and then.
/// spec: p2p/wishes, p2p/register-rules
#[test]
fn no_two_hold_a_lease() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 10, &of_shards(2));
    world.run_for(seconds(30));
    let key = text("lock");
    let acquire = || {
        let what = What::Lease { action: LeaseAction::Acquire, lasts: seconds(5), token: 0 };
        decide_wish(&key, vec![Edit { key: key.clone(), expected: None, what }])
    };
    let mut fighters: Vec<Fighter> =
        [1, 2, 3].iter().map(|at| Fighter { node: nodes[*at], ticket: 0, holds: None }).collect();
    let mut chance = world.split_chance();
    let (mut tokens, mut holders): (Vec<u64>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut open = [false; 3];
    for step in 0..4_000 {
        for (at, fighter) in fighters.iter_mut().enumerate() {
            let now = world.now().as_nanos() as u64;
            fighter.holds = fighter.holds.filter(|(_, until)| *until > now);
            if fighter.holds.is_none() && !open[at] && chance.below(10) == 0 {
                fighter.ticket += 1;
                open[at] = true;
                world.decide(fighter.node, fighter.ticket, acquire());
            }
            let mut told = Told::default();
            told.take(&mut world, &[fighter.node]);
            for ((_, ticket), result) in told.decided {
                assert_eq!(ticket, fighter.ticket);
                open[at] = false;
                if let Ok(Decided::Done { token, held_until, .. }) = result {
                    let until = world.node(fighter.node).clock.world_time(held_until);
                    if until > now {
                        fighter.holds = Some((token, until));
                        holders.push(at);
                    }
                    tokens.push(token);
                }
            }
        }
        let holding = fighters.iter().filter(|fighter| fighter.holds.is_some()).count();
        assert!(holding <= 1, "{holding} hold the lease at {:?}", world.now());
        if step % 500 == 250 {
            world.crash(nodes[4 + step / 500 % 6]);
        } else if step % 500 == 400 {
            let back = nodes[4 + step / 500 % 6];
            world.start(back);
            world.talk(back, |_| {});
            world.join_network(back, nodes[0]);
        }
        world.run_for(millis(50));
    }
    assert!(tokens.is_sorted() && tokens.len() >= 20, "{tokens:?}");
    for fighter in 0..3 {
        assert!(holders.contains(&fighter), "{fighter} never has it: {holders:?}");
    }
}

/// A write under a lease that somebody else has taken since comes too late, and one without its token is refused.
/// spec: p2p/wishes
#[test]
fn a_token_fences() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 8, &of_shards(1));
    world.run_for(seconds(30));
    let key = text("fenced");
    let lease = |action, token| {
        let what = What::Lease { action, lasts: seconds(30), token };
        decide_wish(&key, vec![Edit { key: key.clone(), expected: None, what }])
    };
    let write =
        |value: &str, token| DecideWish { token, ..decide_wish(&key, vec![set(&key, &text(value), None)]) };
    let first = decided(&mut world, nodes[1], lease(LeaseAction::Acquire, 0));
    let Decided::Done { token: first, .. } = first else { panic!("{first:?}") };
    let reason = |decided: Decided| match decided {
        Decided::Refused { reason, .. } => Some(reason),
        Decided::Done { .. } => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(decided(&mut world, nodes[2], write("no", 0))), Some(Reason::Leased));
    assert_eq!(reason(decided(&mut world, nodes[1], write("yes", first))), None);
    // Its time is over by now, and another takes it.
    let second = decided(&mut world, nodes[2], lease(LeaseAction::Acquire, 0));
    let Decided::Done { token: second, .. } = second else { panic!("{second:?}") };
    assert!(second > first);
    assert_eq!(reason(decided(&mut world, nodes[1], write("late", first))), Some(Reason::StaleToken));
    assert_eq!(reason(decided(&mut world, nodes[2], lease(LeaseAction::Release, second))), None);
    assert_eq!(reason(decided(&mut world, nodes[3], write("free", 0))), None);
    assert_eq!(read_all(&mut world, &nodes, &get_wish(&key), 1), vec![Some(text("free")); 8]);
}

/// Two names of a group change together while holders stop and come back between and within changes: whoever reads both sees
/// the same number in both, and never one lower than was acknowledged.
/// spec: p2p/wishes, p2p/decisions
#[test]
fn names_of_a_group_change_together() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 9, &of_shards(3));
    world.run_for(seconds(30));
    let (one, other) = (grouped("pair", "one"), grouped("pair", "other"));
    let mut chance = world.split_chance();
    let (mut acknowledged, mut done) = (0, 0);
    for number in 1..=25_u8 {
        let edits = vec![set(&one, &[number], None), set(&other, &[number], None)];
        world.decide(nodes[1], u64::from(number), decide_wish(&one, edits));
        let victim = nodes[3 + number as usize % 6];
        world.run_for(millis(chance.below(60)));
        world.crash(victim);
        world.run_for(seconds(12));
        world.start(victim);
        world.talk(victim, |_| {});
        world.join_network(victim, nodes[0]);
        world.run_for(seconds(12));
        let mut told = Told::default();
        told.take(&mut world, &nodes);
        if let Some(Ok(Decided::Done { .. })) = told.decided.get(&(nodes[1].0, u64::from(number))) {
            acknowledged = number;
            done += 1;
        }
        let read = decided(&mut world, nodes[2], decide_wish(&one, Vec::new()));
        let Decided::Done { state, .. } = read else { continue };
        let (first, second) = (value_in(&state, &one), value_in(&state, &other));
        assert_eq!(first, second, "all or none");
        assert!(first == [0xc0] || first[0] >= acknowledged, "{first:?} after {acknowledged}");
    }
    assert!(done >= 20, "{done} of 25 were done");
    // A group is one owner's.
    let (owner, stranger) = (world.id(nodes[1]), nodes[2]);
    let key = grouped("owned", "one");
    let owned = DecideWish { owner: Some(owner), ..decide_wish(&key, vec![set(&key, &[1], None)]) };
    assert!(matches!(decided(&mut world, nodes[1], owned), Decided::Done { .. }));
    let theirs = grouped("owned", "other");
    let refused = decided(&mut world, stranger, decide_wish(&theirs, vec![set(&theirs, &[2], None)]));
    assert!(matches!(refused, Decided::Refused { reason: Reason::NotAllowed, .. }), "{refused:?}");
}

/// Holders that stop come back with what they promised and accepted; what nobody decided for long is settled anew by whoever
/// comes; forged registers count for nothing.
/// spec: p2p/decisions, p2p/survey
#[test]
fn deciders_do_not_believe_liars() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 12, &of_shards(1));
    world.run_for(seconds(30));
    let key = text("register");
    let first = decided(&mut world, nodes[1], decide_wish(&key, vec![set(&key, &text("honest"), None)]));
    assert!(matches!(first, Decided::Done { .. }), "{first:?}");
    for node in &nodes[8..] {
        world.crash(*node);
        assert!(world.node_mut(*node).disk.replace(b"honest", b"forged") >= 1);
        world.start(*node);
        world.talk(*node, |_| {});
        world.join_network(*node, nodes[0]);
        world.run_for(seconds(2));
    }
    let read = decided(&mut world, nodes[2], decide_wish(&key, Vec::new()));
    assert!(
        matches!(&read, Decided::Done { state, .. } if value_in(state, &key) == text("honest")),
        "{read:?}"
    );
    let expected = Some(Expectation {
        sequence: 1,
        value_hash: value_hash(Encoded::parse(&text("honest")).expect("a str")),
    });
    let next = decided(&mut world, nodes[3], decide_wish(&key, vec![set(&key, &text("next"), expected)]));
    assert!(
        matches!(&next, Decided::Done { state, .. } if value_in(state, &key) == text("next")),
        "{next:?}"
    );
    assert_eq!(read_all(&mut world, &nodes[..8], &get_wish(&key), 3), vec![Some(text("next")); 8]);
}

/// A disk that takes nothing any more refuses what it would have to keep; the node goes on, and what it has it tells.
/// spec: p2p/keeping
#[test]
fn a_full_disk_refuses_stores_alone() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 8, &of_shards(2));
    world.run_for(seconds(30));
    world.put(nodes[1], 1, put_wish(&text("before"), &text("kept")));
    world.run_for(seconds(5));
    nodes[2..5].iter().for_each(|node| world.node_mut(*node).disk.is_full = true);
    world.put(nodes[1], 2, put_wish(&text("after"), &text("kept")));
    world.run_for(seconds(5));
    let mut told = Told::default();
    told.take(&mut world, &nodes);
    let stored = told.stored(nodes[1], 2);
    assert_eq!((stored.kept, &stored.refusals[..]), (5, &[Reason::Full; 3][..]));
    let key = text("decided");
    let done = decided(&mut world, nodes[2], decide_wish(&key, vec![set(&key, &text("kept"), None)]));
    assert!(matches!(done, Decided::Done { .. }), "five of eight are a majority: {done:?}");
    for key in [text("before"), text("after"), key] {
        assert_eq!(read_all(&mut world, &nodes, &get_wish(&key), 3), vec![Some(text("kept")); 8]);
    }
}

/// Where a network is in two, one half at most takes a lock that was there before; whoever waits in the other gets it when they are one
/// again, and the first knows that it is lost.
/// spec: p2p/members
#[test]
fn no_half_of_a_network_takes_a_lock_for_itself() {
    for round in 0..4 {
        let mut world = World::from_seed(10 * seed() + round);
        let nodes = crowd(&mut world, 9, &of_shards(1 + round as usize % 2));
        world.run_for(seconds(30));
        let key = text("lock");
        let lease = |action, token| {
            let what = What::Lease { action, lasts: seconds(10), token };
            decide_wish(&key, vec![Edit { key: key.clone(), expected: None, what }])
        };
        let first = decided(&mut world, nodes[8], lease(LeaseAction::Acquire, 0));
        assert!(matches!(first, Decided::Done { .. }), "{first:?}");
        // It runs out while the network is in two, which lasts until both halves have forgotten each other.
        let few = nodes[..4].to_vec();
        world.trouble(Scope::Border(few), Trouble::Cut, seconds(900));
        world.run_for(seconds(600));
        world.decide(nodes[0], 1, lease(LeaseAction::Acquire, 0));
        world.decide(nodes[4], 1, lease(LeaseAction::Acquire, 0));
        world.run_for(seconds(90));
        let mut told = Told::default();
        told.take(&mut world, &nodes);
        let of = |node: NodeIndex| told.decided.get(&(node.0, 1)).expect("it has an end");
        let is_done = |node| matches!(of(node), Ok(Decided::Done { .. }));
        assert!(!is_done(nodes[0]), "round {round}: four of nine are no majority: {:?}", of(nodes[0]));
        assert!(is_done(nodes[4]), "round {round}: five are: {:?}", of(nodes[4]));
        world.run_for(seconds(300));
        for node in &nodes[..4] {
            world.join_network(*node, nodes[4]);
        }
        world.run_for(seconds(60));
        let later = decided(&mut world, nodes[0], lease(LeaseAction::Acquire, 0));
        assert!(matches!(later, Decided::Done { .. }), "round {round}: {later:?}");
    }
}

/// One identity has sixteen leases of a node, however many shards that has.
/// spec: p2p/leases-of-a-node
#[test]
fn leases_are_counted_over_all_shards() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 6, &of_shards(3));
    world.run_for(seconds(30));
    let acquire = |number: usize| {
        let key = text(&format!("lock {number}"));
        let what = What::Lease { action: LeaseAction::Acquire, lasts: seconds(60), token: 0 };
        decide_wish(&key, vec![Edit { key: key.clone(), expected: None, what }])
    };
    for number in 0..LEASES_IDENTITY_MAX + 2 {
        world.decide(nodes[1], number as u64, acquire(number));
        world.run_for(seconds(2));
    }
    let mut told = Told::default();
    told.take(&mut world, &nodes);
    for number in 0..LEASES_IDENTITY_MAX {
        let decided = told.decided(nodes[1], number as u64);
        assert!(matches!(decided, Decided::Done { .. }), "lease {number}: {decided:?}");
    }
    for number in LEASES_IDENTITY_MAX..LEASES_IDENTITY_MAX + 2 {
        let decided = told.decided(nodes[1], number as u64);
        let is_refused = matches!(decided, Decided::Refused { reason: Reason::OverQuota, .. });
        assert!(is_refused, "lease {number}: {decided:?}");
    }
    assert!(
        matches!(decided(&mut world, nodes[2], acquire(99)), Decided::Done { .. }),
        "another has its own"
    );
}

/// After a decision that was refused or only read, plain puts of its key go on at once.
/// spec: p2p/promise-given-back
#[test]
fn a_refused_decision_keeps_no_put_away() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 8, &of_shards(2));
    world.run_for(seconds(30));
    let key = text("plain");
    world.put(nodes[1], 1, put_wish(&key, &text("first")));
    world.run_for(seconds(5));
    let nothing = Some(Expectation { sequence: 0, value_hash: nil_hash() });
    let mut told = Told::default();
    for (ticket, edits) in [(2, vec![set(&key, &text("none"), nothing)]), (3, Vec::new())] {
        world.decide(nodes[2], ticket, decide_wish(&key, edits));
        world.run_for(seconds(8));
        told.take(&mut world, &nodes);
        assert!(told.decided.contains_key(&(nodes[2].0, ticket)), "it has an end");
        world.put(nodes[3], ticket, put_wish(&key, &text("next")));
        world.run_for(seconds(1));
    }
    told.take(&mut world, &nodes);
    let refused = told.decided(nodes[2], 2);
    assert!(matches!(refused, Decided::Refused { reason: Reason::Mismatch, .. }), "{refused:?}");
    for ticket in [2, 3] {
        let stored = told.stored(nodes[3], ticket);
        assert_eq!((stored.kept, &stored.refusals[..]), (8, &[][..]));
    }
}
