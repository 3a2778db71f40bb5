//! Hosts where the kernel alone decides which shard takes a datagram, and peers that moved: sessions and Resets find their shard.

use dunlin_shards::event::{EarlyData, Event};
use dunlin_shards::limits::Limits;
use dunlin_shards::stats::DropReason;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, seconds, seed};

const SHARDS: u8 = 4;

/// A node whose datagrams all land on one shard, and a plain one that it calls.
fn landing_on(world: &mut World, shard: u8) -> (NodeIndex, NodeIndex) {
    let settings = NodeSettings { shards: SHARDS.into(), lands_on: Some(shard), ..NodeSettings::default() };
    (world.add_node_with(settings), world.add_node())
}

/// The shard that a node's call to another begins on.
fn caller(world: &World, near: NodeIndex, far: NodeIndex) -> u8 {
    let address = world.node(far).address;
    world.node(near).placement.of_address(address).0
}

fn slots_in_use(world: &World, node: NodeIndex) -> usize {
    world.node(node).cores.iter().map(|core| core.shard.sessions()).sum()
}

fn restarts(world: &World, node: NodeIndex) -> usize {
    world.count_events(node, |event| matches!(event, Event::PeerRestarted { .. }))
}

/// The half-open session goes to the shard where the Welcome arrived, and from then on nothing needs mail.
/// spec: atp/placement
#[test]
fn a_session_belongs_to_the_shard_where_its_welcome_arrived() {
    for shard in 0..SHARDS {
        for is_known in [true, false] {
            let mut world = World::from_seed(seed());
            let (near, far) = landing_on(&mut world, shard);
            let is_handed = caller(&world, near, far) != shard;
            if !is_known {
                world.connect_unknown(near, far);
            }
            world.join(near, far);
            assert_eq!(world.session(near, far).unwrap().shard(), shard);
            assert_eq!(world.stats(near).sessions_handed > 0, is_handed);
            let misrouted = world.stats(near).misrouted;
            for n in 0..50u8 {
                world.send(near, far, &[n; 5_000]);
                world.send(far, near, &[n; 5_000]);
            }
            assert!(world.run_until(seconds(10), World::is_settled));
            assert_eq!((world.received(near).len(), world.received(far).len()), (50, 50));
            assert_eq!(world.stats(near).misrouted, misrouted);
            assert!(world.close(near, far));
            world.run_for(seconds(15));
            assert_eq!(slots_in_use(&world, near), 0, "shard {shard}");
        }
    }
}

/// Early data is delivered once, whatever became of it at first, and what did not fit follows in order.
#[test]
fn early_data_and_queued_messages_move_with_their_session() {
    for zero_rtt in [true, false] {
        for shard in 0..SHARDS {
            let mut world = World::from_seed(seed());
            let (near, _) = landing_on(&mut world, shard);
            let far = world.add_node_with(NodeSettings { zero_rtt, ..NodeSettings::default() });
            let long = [7; 30_000];
            let (_, entries) = world.connect_early(near, far, &[b"one", &long, b"three", &long], None);
            assert!(world.run_until(seconds(5), World::is_settled));
            let outcome = world.events(near).find_map(|event| match event {
                Event::Connected { early, .. } => Some(*early),
                _ => None,
            });
            let expected = if zero_rtt { EarlyData::Accepted } else { EarlyData::Refused };
            assert_eq!(outcome, Some(expected));
            assert!(entries.iter().all(|entry| world.delivered(*entry) == 1));
            assert_eq!(
                world.received(far),
                [b"one".to_vec(), long.to_vec(), b"three".to_vec(), long.to_vec()]
            );
            assert_eq!(world.session(near, far).unwrap().shard(), shard);
        }
    }
}

/// A session that connects again and is handed over takes its messages along, and whoever goes on writing to the old one is
/// heard by the new one.
#[test]
fn application_mail_follows_a_session_that_was_handed_over() {
    for shard in 1..SHARDS {
        let mut world = World::from_seed(seed() + u64::from(shard));
        let (near, far) = landing_on(&mut world, 0);
        world.join(near, far);
        let old = world.session(near, far).unwrap();
        assert_eq!(old.shard(), 0);
        world.restart(far);
        world.node_mut(near).settings.lands_on = Some(shard);
        // Before the Reset comes, while the handshake is under way, while the session moves, and after.
        let mut sent = Vec::new();
        for n in 0..200u8 {
            sent.push(world.send(near, far, &[n; 900]));
            world.run_for(core::time::Duration::from_micros(333));
        }
        assert!(world.run_until(seconds(10), World::is_settled), "{} open", world.ledger().open());
        let new = world.session(near, far).unwrap();
        assert_eq!((new.shard(), restarts(&world, near)), (shard, 1));
        assert!(sent.iter().all(|entry| world.delivered(*entry) == 1));
        let order: Vec<u8> = world.received(far).iter().map(|message| message[0]).collect();
        assert!(order.is_sorted(), "{order:?}");
        world.send(far, near, b"and back");
        world.run_for(millis(100));
        assert_eq!(world.received(near).last().unwrap(), b"and back");
        assert!(world.close(far, near));
        world.run_for(seconds(15));
        assert_eq!((slots_in_use(&world, near), world.session_count(near)), (0, 0));
    }
}

/// A shard that has no slot left sends the session back: it lives where it began, and mail takes it its datagrams.
#[test]
fn a_session_that_finds_no_room_stays_where_it_began() {
    let mut world = World::from_seed(seed());
    let limits = Limits { sessions: 4, ..Limits::small() };
    let settings = NodeSettings { shards: 2, lands_on: Some(1), limits, ..NodeSettings::default() };
    let near = world.add_node_with(settings);
    let peers: Vec<_> = (0..7).map(|_| world.add_node()).collect();
    for far in &peers {
        world.send(near, *far, b"there");
        world.send(*far, near, b"and back");
        world.run_for(seconds(1));
    }
    let is_there = |far: &&NodeIndex| world.received(**far) == [b"there".to_vec()];
    let reached = peers.iter().filter(is_there).count();
    let at_home = peers.iter().filter(|far| world.session(near, **far).is_some_and(|id| id.shard() == 0));
    assert!(reached >= 4, "{reached} peers");
    assert!(at_home.count() >= 1);
    let opened = peers.iter().filter(|far| world.session(near, **far).is_some()).count();
    assert_eq!(opened, reached);
    assert!(world.stats(near).sessions_handed < reached as u64);
}

/// Shards whose rings are full now and then, datagrams that land anywhere, peers that restart: nothing that is wanted is lost, and
/// no slot stays behind.
#[test]
fn sessions_survive_being_handed_over_through_full_rings() {
    let mut handed = 0;
    for round in 0..30 {
        let mut world = World::from_seed(seed() * 100 + round);
        world.full_ring_permille = 200;
        let settings = NodeSettings { shards: 4, unsteered: true, ..NodeSettings::default() };
        let near = world.add_node_with(settings.clone());
        let far = world.add_node_with(settings);
        for step in 0..3u8 {
            for n in 0..10 {
                world.send(near, far, &[step * 10 + n; 2_000]);
            }
            world.run_for(millis(400));
            world.restart(far);
        }
        world.send(near, far, b"last");
        assert!(world.run_until(seconds(60), World::is_settled), "round {round}: {}", world.ledger().open());
        world.assert_nothing_lost();
        handed += world.stats(near).sessions_handed;
        world.close(near, far);
        world.run_for(seconds(60));
        // A CLOSE that met a full ring may be lost for good, and the peer may have come again: a session then, and one slot.
        assert_eq!(slots_in_use(&world, near), world.session_count(near), "round {round}");
    }
    assert!(handed > 30, "{handed} sessions were handed over");
}

/// A Reset comes from where the peer is now, which is another shard's to take in: its owner hears of it.
/// spec: atp/reset
#[test]
fn a_reset_finds_its_session_after_roaming() {
    let mut world = World::from_seed(seed());
    let near = world.add_node_with(NodeSettings { shards: 4, ..NodeSettings::default() });
    let far = world.add_node();
    world.join(near, far);
    let owner = world.session(near, far).unwrap().shard();
    loop {
        let address = world.change_address(far);
        if world.node(near).placement.of_address(address).0 != owner {
            break;
        }
    }
    world.send(far, near, b"moved");
    world.run_for(seconds(2));
    assert_eq!(world.stats(near).sessions_roamed, 1);
    world.restart(far);
    let start = world.now();
    let entry = world.send(near, far, b"still there?");
    assert!(world.run_until(seconds(5), |world| world.delivered(entry) == 1));
    // To the peer and its Reset back, the new handshake, the message: far from any probe timeout's end.
    assert!(world.now() - start < millis(100), "{:?}", world.now() - start);
    assert_eq!(restarts(&world, near), 1);
    // The Reset and the new Welcome, which come from there, went by letter.
    assert!(world.stats(near).misrouted >= 2, "{} letters", world.stats(near).misrouted);
}

/// The same where datagrams land anywhere.
#[test]
fn a_reset_finds_its_session_without_steering() {
    for round in 0..20 {
        let mut world = World::from_seed(seed() * 100 + round);
        let settings = NodeSettings { shards: 8, unsteered: true, ..NodeSettings::default() };
        let near = world.add_node_with(settings);
        let far = world.add_node();
        world.join(near, far);
        world.restart(far);
        let entry = world.send(near, far, b"still there?");
        assert!(world.run_until(millis(200), |world| world.delivered(entry) == 1), "round {round}");
        assert_eq!(restarts(&world, near), 1);
    }
}

/// Resets with made-up tokens go to one other shard at most, and change nothing.
/// spec: atp/reset
#[test]
fn forged_resets_on_any_shard_change_nothing() {
    let mut world = World::from_seed(seed());
    let settings = NodeSettings { shards: 4, unsteered: true, ..NodeSettings::default() };
    let near = world.add_node_with(settings);
    let far = world.add_node();
    world.join(near, far);
    let session = world.session(far, near).unwrap();
    let before = world.stats(near);
    for n in 0..200u8 {
        let mut reset = vec![5, 0, 0, 0];
        reset.extend_from_slice(&session.0.to_be_bytes());
        reset.extend_from_slice(&[n; 16]);
        let address = world.node(far).address;
        world.inject(near, address, &reset);
    }
    world.run_for(millis(50));
    let after = world.stats(near);
    assert_eq!(after.drops(DropReason::BadReset) - before.drops(DropReason::BadReset), 200);
    assert!(after.misrouted - before.misrouted <= 200);
    assert_eq!((restarts(&world, near), world.session_count(near)), (0, 1));
}
