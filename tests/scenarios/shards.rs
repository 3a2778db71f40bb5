//! Nodes of several shards: steering, mail, and what happens without them.

use dunlin_shards::event::Event;
use dunlin_shards::stats::DropReason;
use dunlin_tests::World;
use dunlin_tests::ledger::Manner;
use dunlin_tests::node::NodeSettings;

use crate::{millis, seconds, seed};

/// Datagrams that land on any shard reach their owner by mail: correct, counted, slow.
#[test]
fn misrouted_datagrams_reach_their_owner() {
    let mut world = World::from_seed(seed());
    let settings = NodeSettings { shards: 4, unsteered: true, ..NodeSettings::default() };
    let nodes: Vec<_> = (0..6).map(|_| world.add_node_with(settings.clone())).collect();
    for from in &nodes {
        for to in &nodes {
            if from != to {
                for n in 0..20u8 {
                    world.send_with(*from, *to, Manner::default().on(16 + u32::from(n % 3)), &[n; 3_000]);
                }
            }
        }
    }
    assert!(world.run_until(seconds(60), World::is_settled), "{} open", world.ledger().open());
    assert_eq!(world.ledger().delivered().0, 6 * 5 * 20);
    assert!(nodes.iter().all(|node| world.stats(*node).misrouted > 100));
    world.assert_nothing_lost();
}

/// With steering nothing is misrouted.
#[test]
fn steered_datagrams_need_no_mail() {
    let mut world = World::from_seed(seed());
    let settings = NodeSettings { shards: 4, ..NodeSettings::default() };
    let nodes: Vec<_> = (0..6).map(|_| world.add_node_with(settings.clone())).collect();
    for from in &nodes {
        for to in &nodes {
            if from != to {
                world.send(*from, *to, &[1; 30_000]);
            }
        }
    }
    assert!(world.run_until(seconds(60), World::is_settled));
    assert!(nodes.iter().all(|node| world.stats(*node).misrouted == 0));
}

/// Rings that are full now and then lose datagrams, never messages.
#[test]
fn full_rings_lose_no_message() {
    for round in 0..20 {
        let mut world = World::from_seed(seed() * 100 + round);
        world.full_ring_permille = 200;
        let settings = NodeSettings { shards: 3, unsteered: true, ..NodeSettings::default() };
        let near = world.add_node_with(settings.clone());
        let far = world.add_node_with(settings);
        for n in 0..50u8 {
            world.send(near, far, &[n; 5_000]);
            world.send(far, near, &[n; 5_000]);
        }
        let is_done = world.run_until(seconds(120), World::is_settled);
        assert!(is_done, "round {round}: {} open", world.ledger().open());
        assert!(world.stats(near).drops(DropReason::MailFull) > 0);
        world.run_for(seconds(30));
        assert_eq!((world.session_count(near), world.session_count(far)), (1, 1), "round {round}");
    }
}

/// What a session's shard tells the directory while rings are full arrives in order: a session that went and came again in the same
/// place is not forgotten.
/// spec: atp/one-session
#[test]
fn full_rings_keep_the_order_of_what_must_arrive() {
    for round in 0..50 {
        let mut world = World::from_seed(seed() * 100 + round);
        let near = world.add_node_with(NodeSettings { shards: 2, ..NodeSettings::default() });
        let far = world.add_node();
        world.join(near, far);
        world.restart(far);
        world.full_ring_permille = 1_000;
        world.connect_unknown(near, far);
        world.connect(near, far);
        world.send(near, far, b"the session that was there connects again");
        world.run_for(millis(300));
        world.full_ring_permille = 0;
        world.run_for(seconds(20));
        assert_eq!((world.session_count(near), world.session_count(far)), (1, 1), "round {round}");
    }
}

/// What is written to the session that carries on does not overtake what was written to the one that ended and is still in the
/// rings: the ledger looks at the order.
/// spec: atp/succession
#[test]
fn what_follows_a_move_overtakes_nothing() {
    let mut moves = 0;
    for round in 0..40 {
        let mut world = World::from_seed(seed() * 100 + round);
        world.full_ring_permille = 300;
        let settings = NodeSettings { shards: 3, unsteered: true, ..NodeSettings::default() };
        let near = world.add_node_with(settings.clone());
        let far = world.add_node_with(settings);
        world.connect_unknown(near, far);
        world.connect(near, far);
        world.connect(far, near);
        for n in 0..60u8 {
            world.send(near, far, &[n; 40_000]);
            world.run_for(millis(1));
        }
        assert!(world.run_until(seconds(60), World::is_settled), "{} open", world.ledger().open());
        assert_eq!(world.received(far).len(), 60);
        moves += world.count_events(near, |event| matches!(event, Event::Settled { .. }));
    }
    assert!(moves >= 20, "{moves} sessions moved while they were written to");
}

/// Memory that goes from shard to shard with the mail is counted where it is.
#[test]
fn misrouted_blocks_are_counted_where_they_are() {
    let mut world = World::from_seed(seed());
    let settings = NodeSettings { shards: 4, unsteered: true, ..NodeSettings::default() };
    let near = world.add_node_with(settings.clone());
    let far = world.add_node_with(settings);
    for n in 0..3_000u32 {
        world.send(near, far, &vec![(n % 200) as u8; 10_000]);
    }
    assert!(world.run_until(seconds(120), World::is_settled));
    world.run_for(millis(500));
    for node in [near, far] {
        let allocated: usize = world.node(node).cores.iter().map(|core| core.shard.allocated_bytes()).sum();
        assert!(allocated < 8 << 20, "{allocated} bytes are still counted");
    }
}
