//! The largest datagram that a path carries is found, and a path that carries less than before is left.

use core::time::Duration;

use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, seconds, seed};

/// Nodes that may try 1,452 bytes, over a link that carries `mtu`.
fn pair_over(world: &mut World, mtu: usize) -> (NodeIndex, NodeIndex) {
    let (near, far) = world.add_pair();
    world.both(near, far, |conditions| {
        conditions.mtu = mtu;
        conditions.delay = millis(10);
    });
    world.join(near, far);
    (near, far)
}

/// The longest data datagram that went out lately.
fn longest(world: &mut World, near: NodeIndex, far: NodeIndex) -> usize {
    for n in 0..40 {
        world.send(near, far, &vec![n; 20_000]);
    }
    world.run_until_idle();
    world.link(near, far).record();
    world.send(near, far, &vec![99; 20_000]);
    world.run_until_idle();
    world.link(near, far).take_recorded().iter().map(Vec::len).max().unwrap()
}

/// spec: atp/path-mtu
#[test]
fn a_link_of_1400_bytes_is_found_within_8_probes() {
    let mut world = World::from_seed(seed());
    let (near, far) = pair_over(&mut world, 1_400);
    world.link(near, far).record();
    for n in 0..100 {
        world.send(near, far, &vec![n; 20_000]);
        world.run_for(millis(20));
    }
    world.run_until_idle();
    let recorded = world.link(near, far).take_recorded();
    let too_long = recorded.iter().filter(|datagram| datagram.len() > 1_400).count();
    assert!(too_long <= 8, "{too_long} probes were too long");
    let last = recorded.iter().rev().take(500).map(Vec::len).max().unwrap();
    assert!((1_380..=1_400).contains(&last), "{last} bytes");
    assert_eq!(world.received(far).len(), 100);
}

/// The time from the first packet into the hole until the sender leaves that size, and the sender's probe timeout before.
fn time_to_leave(world: &mut World, (near, far): (NodeIndex, NodeIndex), len: usize) -> Duration {
    let found = longest(world, near, far);
    assert!((1_380..=1_400).contains(&found), "{found} bytes");
    world.both(near, far, |conditions| conditions.mtu = 1_300);
    let entry = world.send(near, far, &vec![7; len]);
    let start = world.now();
    assert!(world.run_until(seconds(5), |world| world.stats(near).mtu_lowered == 1));
    let left = world.now() - start;
    assert!(world.run_until(seconds(5), |world| world.delivered(entry) == 1));
    assert_eq!(world.close_reasons(near), []);
    left
}

/// A black hole at 1,300 is left within three probe timeouts of the first packet that fell into it, however much there is to send.
/// spec: atp/path-mtu
#[test]
fn a_black_hole_is_left_within_three_probe_timeouts() {
    // The round trip is 20 ms and does not vary: 20 ms, 1 ms for its variance, 25 ms for a delayed acknowledgement.
    let probe_timeout = millis(20 + 1 + 25);
    for len in [3_000, 5_000, 20_000, 200_000, 1_000_000] {
        let mut world = World::from_seed(seed());
        let pair = pair_over(&mut world, 1_400);
        let left = time_to_leave(&mut world, pair, len);
        assert!(left <= 3 * probe_timeout, "{len} bytes: {left:?}");
    }
}

/// A link that refuses longer datagrams at once (EMSGSIZE) costs nothing but the probe.
#[test]
fn a_refused_datagram_is_not_tried_again() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.both(near, far, |conditions| {
        conditions.mtu = 1_350;
        conditions.refuses_too_long = true;
    });
    world.join(near, far);
    for n in 0..50 {
        world.send(near, far, &vec![n; 20_000]);
    }
    assert!(world.run_until(seconds(20), World::is_settled));
    assert_eq!(world.received(far).len(), 50);
    assert_eq!(world.stats(near).packets_lost, 0);
}

/// Larger links are used when the node may.
#[test]
fn jumbo_datagrams_are_found() {
    let mut world = World::from_seed(seed());
    let mut settings = NodeSettings::default();
    settings.sessions.datagram_max = 8_900;
    let near = world.add_node_with(settings.clone());
    let far = world.add_node_with(settings);
    world.both(near, far, |conditions| conditions.mtu = 9_000);
    world.join(near, far);
    for n in 0..100 {
        world.send(near, far, &vec![n; 50_000]);
        world.run_for(millis(20));
    }
    assert!(world.run_until(seconds(20), World::is_settled));
    let before = world.stats(near);
    world.send(near, far, &vec![1; 500_000]);
    world.run_until_idle();
    let after = world.stats(near);
    assert!(after.datagrams_out - before.datagrams_out < 80);
}
