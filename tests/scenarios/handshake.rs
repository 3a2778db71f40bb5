//! How sessions begin.

use dunlin_shards::event::{CloseReason, Event};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::crypto::{Crypto, Suite};
use dunlin_tests::link::Cause;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World, WorldOf};

use crate::{millis, seconds, seed};

fn connected(event: &Event) -> bool {
    matches!(event, Event::Connected { .. })
}

fn both_know_each_other<C: Crypto>(world: &WorldOf<C>, near: NodeIndex, far: NodeIndex) {
    assert_eq!(world.count_events(near, connected), 1);
    let accepted = |event: &Event| matches!(event, Event::Accepted { .. });
    assert_eq!(world.count_events(far, accepted), 1);
    let peer = world.events(near).find_map(|event| match event {
        Event::Connected { peer, .. } => Some(*peer),
        _ => None,
    });
    assert_eq!(peer, Some(world.node(far).id));
}

/// A caller who knows whom it calls has a session after one round trip.
/// spec: atp/handshake
#[test]
fn a_known_peer_answers_after_one_round_trip() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.connect(near, far);
    world.run_for(millis(12));
    assert_eq!(world.count_events(near, connected), 1);
    world.run_for(millis(10));
    both_know_each_other(&world, near, far);
}

/// A caller who knows only an address learns who is there, after a cookie.
#[test]
fn whoever_is_at_an_address_tells_its_name() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.connect_unknown(near, far);
    world.run_until_idle();
    both_know_each_other(&world, near, far);
    assert_eq!(world.stats(far).cookies_sent, 1);
}

#[test]
fn real_cryptography_shakes_hands_in_both_suites_and_patterns() {
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        for is_known in [true, false] {
            let mut world = WorldOf::<AwsLc>::from_seed(seed());
            let near = world.add_node_with(NodeSettings { suite, ..NodeSettings::default() });
            let far = world.add_node();
            if is_known {
                world.connect(near, far);
            } else {
                world.connect_unknown(near, far);
            }
            world.run_until_idle();
            both_know_each_other(&world, near, far);
            world.send(near, far, b"there");
            world.send(far, near, b"and back");
            world.run_until_idle();
            assert_eq!(world.received(far), [b"there".to_vec()]);
            assert_eq!(world.received(near), [b"and back".to_vec()]);
        }
    }
}

/// 30 % loss both ways: every one of 1,000 handshakes comes to an end within its deadline.
#[test]
fn a_thousand_of_a_thousand_handshakes_survive_thirty_percent_loss() {
    let mut opened = 0;
    for round in 0..1_000 {
        let mut world = World::from_seed(seed() * 1_000 + round);
        let (near, far) = world.add_pair();
        world.everywhere(|conditions| conditions.loss_permille = 300);
        let entry = world.send(near, far, b"through");
        let is_open = world.run_until(seconds(60), |world| world.delivered(entry) == 1);
        assert!(is_open, "round {round}: {:?}", world.events(near).collect::<Vec<_>>());
        opened += 1;
    }
    assert_eq!(opened, 1_000);
}

/// Every n-th datagram of each direction lost, for n from 2 to 8.
#[test]
fn a_handshake_survives_the_loss_of_every_nth_datagram() {
    for n in 2..=8 {
        let mut world = World::from_seed(seed());
        let (near, far) = world.add_pair();
        for (from, to) in [(near, far), (far, near)] {
            let mut count = 0;
            world.link(from, to).drop_if(move |_| {
                count += 1;
                count % n == 0
            });
        }
        world.connect(near, far);
        world.run_for(seconds(10));
        both_know_each_other(&world, near, far);
    }
}

/// Nothing comes through: a clean end with its reason, and nothing left behind.
#[test]
fn a_handshake_without_any_answer_ends_with_its_reason() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.set_cut(near, far, true);
    world.connect(near, far);
    world.run_for(seconds(29));
    assert_eq!(world.events(near).count(), 0);
    world.run_for(seconds(2));
    let failed = world.events(near).find_map(|event| match event {
        Event::ConnectFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(failed, Some(CloseReason::HandshakeTimeout));
    assert_eq!(world.node(near).cores[0].shard.sessions(), 0);
    // 250 ms doubling to 2 s, for 30 s.
    assert_eq!(world.link(near, far).counts.of(Cause::Cut), 18);
}

/// Another network's node and another node at the address are both no answer.
#[test]
fn a_node_of_another_network_is_not_there() {
    let mut world = World::from_seed(seed());
    let near = world.add_node();
    let far = world.add_node_with(NodeSettings { network: [8; 32], ..NodeSettings::default() });
    world.connect(near, far);
    world.run_for(seconds(31));
    assert_eq!(world.count_events(near, |event| matches!(event, Event::ConnectFailed { .. })), 1);
    assert_eq!(world.stats(far).bytes_out, 0);
}
