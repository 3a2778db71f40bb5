//! A node loses everything but its key, and its peers carry on.

use dunlin_shards::arq::sender::Outcome;
use dunlin_shards::event::Event;
use dunlin_tests::ledger::Manner;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, plain_pair, seconds, seed};

fn restarts(world: &World, node: NodeIndex) -> usize {
    world.count_events(node, |event| matches!(event, Event::PeerRestarted { .. }))
}

/// The peer answers with a Reset, the caller connects again in the same place, and everything unacknowledged arrives.
/// spec: atp/restart
#[test]
fn a_restarted_peer_is_found_again() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.send(near, far, b"before");
    world.run_for(millis(100));
    world.restart(far);
    let entries: Vec<_> = (0..20u8).map(|n| world.send(near, far, &[n; 3_000])).collect();
    assert!(world.run_until(seconds(10), World::is_settled));
    assert_eq!(restarts(&world, near), 1);
    assert!(world.stats(far).resets_sent >= 1);
    for entry in entries {
        assert_eq!((world.outcome(entry), world.delivered(entry)), (Some(Outcome::Acked), 1));
    }
    world.assert_nothing_lost();
    assert_eq!(world.close_reasons(near), []);
    let session = world.session(near, far);
    world.send(far, near, b"hello again");
    world.run_for(seconds(1));
    assert_eq!(world.received(near).last().unwrap(), b"hello again");
    assert_eq!(world.session(near, far), session);
}

/// The restarted node calls first: its peer's older session is probed, found dead, and hands over.
#[test]
fn a_restarted_peer_that_calls_takes_over() {
    for shards in [1, 3] {
        let mut world = World::from_seed(seed());
        let settings = NodeSettings { shards, ..NodeSettings::default() };
        let near = world.add_node_with(settings.clone());
        let far = world.add_node_with(settings);
        world.join(near, far);
        // What near sends is lost, so that no Reset tells it anything.
        world.link(near, far).drop_if(|bytes| bytes[0] & 0x80 != 0);
        let entries: Vec<_> = (0..5u8).map(|n| world.send(near, far, &[n; 300])).collect();
        world.run_for(millis(50));
        world.restart(far);
        world.run_for(millis(100));
        world.link(near, far).drop_no_more();
        world.link(far, near).drop_if(|bytes| bytes[0] == 5);
        world.connect(far, near);
        assert!(world.run_until(seconds(10), World::is_settled), "{} open", world.ledger().open());
        assert_eq!(restarts(&world, near), 1);
        for entry in entries {
            assert_eq!((world.outcome(entry), world.delivered(entry)), (Some(Outcome::Acked), 1));
        }
        world.run_for(seconds(15));
        assert_eq!((world.session_count(near), world.session_count(far)), (1, 1));
    }
}

/// Messages marked `once` are not sent again: their sender gets them back.
#[test]
fn messages_marked_once_come_back() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.set_cut(near, far, true);
    let once = world.send_with(near, far, Manner::default().once(), b"transfer money");
    let other = world.send(near, far, b"good morning");
    world.run_for(millis(1));
    world.set_cut(near, far, false);
    world.restart(far);
    assert!(world.run_until(seconds(10), World::is_settled));
    assert_eq!((world.outcome(once), world.delivered(once)), (Some(Outcome::Abandoned), 0));
    assert_eq!((world.outcome(other), world.delivered(other)), (Some(Outcome::Acked), 1));
}

/// A Reset that is not the session's own changes nothing.
/// spec: atp/reset
#[test]
fn a_forged_reset_changes_nothing() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    let session = world.session(far, near).unwrap();
    let mut reset = vec![5, 0, 0, 0];
    reset.extend_from_slice(&session.0.to_be_bytes());
    reset.extend_from_slice(&[0x77; 16]);
    let address = world.node(far).address;
    for n in 0..100 {
        reset[20] = n;
        world.inject(near, address, &reset);
    }
    world.run_for(millis(50));
    assert_eq!(restarts(&world, near), 0);
    world.send(near, far, b"still here");
    world.run_for(millis(50));
    assert_eq!(world.received(far), [b"still here".to_vec()]);
}

/// Both restart, again and again, while both have something to say.
#[test]
fn restarts_of_both_ends_lose_nothing_that_is_still_wanted() {
    for round in 0..30 {
        let mut world = World::from_seed(seed() * 100 + round);
        let settings = NodeSettings { shards: 1 + round as usize % 3, ..NodeSettings::default() };
        let near = world.add_node_with(settings.clone());
        let far = world.add_node_with(settings);
        for node in [near, far] {
            world.node_mut(node).application.persists = true;
        }
        world.everywhere(|conditions| conditions.loss_permille = 50);
        for step in 0..6 {
            for n in 0..10u8 {
                world.send(near, far, &[step * 10 + n; 2_000]);
                world.send(far, near, &[step * 10 + n; 2_000]);
            }
            let wait = 20 + world.chance().below(400);
            world.run_for(millis(wait));
            world.restart(if step % 2 == 0 { near } else { far });
            world.run_for(millis(100));
        }
        for n in 60..70u8 {
            world.send(near, far, &[n; 2_000]);
            world.send(far, near, &[n; 2_000]);
        }
        let is_done = world.run_until(seconds(120), World::is_settled);
        assert!(is_done, "round {round}: {} open", world.ledger().open());
        world.assert_nothing_lost();
    }
}
