//! The first datagram may carry messages: they are delivered once, or after the handshake.

use std::net::SocketAddr;

use dunlin_codec::ids::InstanceId;
use dunlin_shards::event::{EarlyData, Event};
use dunlin_shards::limits::Limits;
use dunlin_shards::rng::Rng;
use dunlin_shards::stats::DropReason;
use dunlin_tests::application::Reader;
use dunlin_tests::ledger::Manner;
use dunlin_tests::link::Cause;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, seconds, seed};

fn early_outcome(world: &World, near: NodeIndex) -> Option<EarlyData> {
    world.events(near).find_map(|event| match event {
        Event::Connected { early, .. } => Some(*early),
        _ => None,
    })
}

/// Connects with one early message and runs until it has arrived.
fn connect_early(
    world: &mut World,
    near: NodeIndex,
    far: NodeIndex,
    instance: Option<InstanceId>,
) -> Option<EarlyData> {
    let (_, entries) = world.connect_early(near, far, &[b"early"], instance);
    world.run_until_idle();
    assert_eq!(world.delivered(entries[0]), 1);
    early_outcome(world, near)
}

/// spec: atp/early-data
#[test]
fn early_data_arrives_with_the_first_datagram() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    let (_, entries) = world.connect_early(near, far, &[b"one", b"two"], None);
    world.run_for(millis(6));
    assert_eq!(world.received(far), [b"one".to_vec(), b"two".to_vec()]);
    world.run_until_idle();
    assert_eq!(early_outcome(&world, near), Some(EarlyData::Accepted));
    assert!(entries.iter().all(|entry| world.ledger().record(*entry).is_acked()));
    assert_eq!(world.received(far).len(), 2);
}

/// What does not fit the first datagram follows after the handshake.
#[test]
fn early_data_that_does_not_fit_follows() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    let large = vec![3; 5_000];
    world.connect_early(near, far, &[b"small", &large, b"last"], None);
    world.run_until_idle();
    assert_eq!(world.received(far), [b"small".to_vec(), large, b"last".to_vec()]);
}

/// A Hello sent again because its Welcome was lost delivers nothing twice.
#[test]
fn a_hello_sent_again_delivers_its_early_data_once() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    // The Welcome and what goes with it, three times.
    for n in 1..=6 {
        world.link(far, near).drop_nth(n);
    }
    assert_eq!(connect_early(&mut world, near, far, None), Some(EarlyData::Accepted));
    assert!(world.link(near, far).counts.datagrams > 3);
    assert_eq!(world.stats(far).early_data_accepted, 1);
}

/// An attacker repeats a Hello from elsewhere, at once and later, also when its half-open entry is gone.
#[test]
fn a_replayed_hello_delivers_its_early_data_once() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.link(near, far).record();
    connect_early(&mut world, near, far, None);
    let hello = world.link(near, far).take_recorded().swap_remove(0);
    let elsewhere: SocketAddr = "203.0.113.9:999".parse().unwrap();
    for wait in [0, 1, 5, 20, 25] {
        world.run_for(seconds(wait));
        world.inject(far, elsewhere, &hello);
        world.run_for(seconds(1));
    }
    assert_eq!(world.received(far), [b"early".to_vec()]);
    assert_eq!(world.stats(far).early_data_accepted, 1);
    assert!(world.stats(far).early_data_refused >= 1);
}

/// The same on a node of many shards, where the copies land on any of them.
/// spec: atp/strike-register
#[test]
fn a_hello_on_another_shard_delivers_its_early_data_once() {
    for round in 0..50 {
        let mut world = World::from_seed(seed() * 100 + round);
        let near = world.add_node();
        let far = world.add_node_with(NodeSettings { shards: 4, unsteered: true, ..NodeSettings::default() });
        world.link(near, far).record();
        world.everywhere(|conditions| {
            conditions.duplicate_permille = 500;
            conditions.loss_permille = 200;
        });
        let (_, entries) = world.connect_early(near, far, &[b"early"], None);
        assert!(world.run_until(seconds(30), |world| world.delivered(entries[0]) == 1));
        let hello = world.link(near, far).take_recorded().swap_remove(0);
        for _ in 0..20 {
            world.inject(far, "203.0.113.9:999".parse().unwrap(), &hello);
        }
        world.run_for(seconds(15));
        for _ in 0..20 {
            world.inject(far, "203.0.113.9:999".parse().unwrap(), &hello);
        }
        world.run_for(seconds(15));
        assert_eq!(world.received(far), [b"early".to_vec()], "round {round}");
        assert!(world.stats(far).early_data_accepted <= 1);
    }
}

/// A restarted node has forgotten which Hellos it accepted: none from before the restart delivers anything again, on any of its
/// shards, whether its sender knew the start that it called or not.
/// spec: atp/early-data
#[test]
fn a_hello_replayed_after_a_restart_delivers_nothing() {
    for (shards, is_known) in [(1, false), (1, true), (4, false), (4, true)] {
        let mut world = World::from_seed(seed());
        let near = world.add_node();
        let settings = NodeSettings { shards, unsteered: true, ..NodeSettings::default() };
        let far = world.add_node_with(settings);
        world.link(near, far).record();
        let instance = is_known.then(|| world.node(far).instance());
        assert_eq!(connect_early(&mut world, near, far, instance), Some(EarlyData::Accepted));
        let hello = world.link(near, far).take_recorded().swap_remove(0);
        world.restart(far);
        let from = [world.node(near).address, "203.0.113.9:999".parse().unwrap()];
        // Until long after its time stamp ran out.
        for wait in [0, 1, 5, 20, 30, 60, 60, 120] {
            world.run_for(seconds(wait));
            for from in from {
                for _ in 0..10 {
                    world.inject(far, from, &hello);
                }
            }
            world.run_for(millis(100));
        }
        assert_eq!(world.received(far), [b"early".to_vec()]);
        assert_eq!(world.stats(far).early_data_accepted, 1);
        assert!(world.stats(far).early_data_refused >= 1);
    }
}

/// A caller whose clock is wrong pays one round trip, no more.
#[test]
fn a_wrong_clock_costs_a_round_trip() {
    for (error_ms, outcome) in [
        (59_000, EarlyData::Accepted),
        (-59_000, EarlyData::Accepted),
        (61_000, EarlyData::Refused),
        (-3_600_000, EarlyData::Refused),
    ] {
        let mut world = World::from_seed(seed());
        let (near, far) = world.add_pair();
        world.jump_clock(near, error_ms);
        assert_eq!(connect_early(&mut world, near, far, None), Some(outcome), "{error_ms} ms");
    }
}

/// The caller remembers which start of the peer it spoke with; another start does not accept.
#[test]
fn early_data_for_an_earlier_start_is_refused() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    let wrong = Some(InstanceId([9; 8]));
    assert_eq!(connect_early(&mut world, near, far, wrong), Some(EarlyData::Refused));
    let third = world.add_node();
    let right = Some(world.node(far).instance());
    assert_eq!(connect_early(&mut world, third, far, right), Some(EarlyData::Accepted));
}

/// After a restart a node cannot know what it accepted before: for two minutes it refuses callers that do not know it.
#[test]
fn a_restarted_node_holds_off() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.restart(far);
    // The hold-off counts from the first Hello at the latest.
    assert_eq!(connect_early(&mut world, near, far, None), Some(EarlyData::Refused));
    let knowing = world.add_node();
    let instance = Some(world.node(far).instance());
    assert_eq!(connect_early(&mut world, knowing, far, instance), Some(EarlyData::Accepted));
    world.run_for(seconds(121));
    let late = world.add_node();
    assert_eq!(connect_early(&mut world, late, far, None), Some(EarlyData::Accepted));
}

#[test]
fn a_node_that_wants_none_refuses() {
    for change in [
        |settings: &mut NodeSettings| settings.zero_rtt = false,
        |settings: &mut NodeSettings| settings.shared_identity = true,
    ] {
        let mut world = World::from_seed(seed());
        let near = world.add_node();
        let mut settings = NodeSettings::default();
        change(&mut settings);
        let far = world.add_node_with(settings);
        assert_eq!(connect_early(&mut world, near, far, None), Some(EarlyData::Refused));
    }
}

/// Early data that was refused as the clock was wrong arrives after the handshake; when the clock is set and somebody sends the
/// same Hello once more, it does not arrive again.
/// spec: atp/refused-once
#[test]
fn what_was_refused_is_never_taken_later() {
    for shards in [1, 4] {
        let mut world = World::from_seed(seed());
        let near = world.add_node();
        let far = world.add_node_with(NodeSettings { shards, ..NodeSettings::default() });
        world.jump_clock(far, -61_000);
        world.link(near, far).record();
        assert_eq!(connect_early(&mut world, near, far, None), Some(EarlyData::Refused));
        let hello = world.link(near, far).take_recorded().swap_remove(0);
        world.jump_clock(far, 61_000);
        world.run_for(seconds(11));
        let before = world.stats(far).early_data_accepted;
        world.inject(far, "203.0.113.9:999".parse().unwrap(), &hello);
        world.run_for(millis(100));
        assert_eq!(world.stats(far).early_data_accepted, before);
        assert_eq!(world.received(far).len(), 1);
    }
}

/// Early data that there is no memory for is not said to be taken.
#[test]
fn early_data_that_finds_no_memory_comes_again() {
    let mut world = World::from_seed(seed());
    let limits = Limits { memory: 3 << 20, ..Limits::default() };
    let far = world.add_node_with(NodeSettings { limits, ..NodeSettings::default() });
    world.set_reader(far, Reader::Never);
    let greedy = world.add_node();
    for n in 0..40u8 {
        world.send(greedy, far, &vec![n; 400_000]);
    }
    world.run_for(seconds(3));
    let near = world.add_node();
    let entry = world.connect_with(near, far, Manner { early: true, ..Manner::default() }, &[7; 900_000]);
    world.run_for(seconds(1));
    assert!(world.stats(far).drops(DropReason::NoMemory) > 0);
    world.set_reader(far, Reader::AtOnce);
    assert!(world.run_until(seconds(60), World::is_settled), "{} open", world.ledger().open());
    assert_eq!(world.delivered(entry), 1);
    world.assert_nothing_lost();
}

/// A register that is full refuses: it never forgets instead.
#[test]
fn a_full_register_refuses() {
    let mut world = World::from_seed(seed());
    let limits = Limits { strikes: 16, ..Limits::small() };
    let far = world.add_node_with(NodeSettings { limits, ..NodeSettings::default() });
    let mut outcomes = Vec::new();
    for _ in 0..40 {
        let near = world.add_node();
        outcomes.push(connect_early(&mut world, near, far, None));
    }
    assert_eq!(outcomes[0], Some(EarlyData::Accepted));
    assert!(outcomes.contains(&Some(EarlyData::Refused)));
    assert_eq!(world.received(far).len(), 40);
}

/// The ring to the register's shard is full: refused, and delivered after the handshake.
#[test]
fn a_full_ring_costs_a_round_trip() {
    let mut outcomes = Vec::new();
    for round in 0..20 {
        let mut world = World::from_seed(seed() * 50 + round);
        let near = world.add_node();
        let far = world.add_node_with(NodeSettings { shards: 4, ring_len: 0, ..NodeSettings::default() });
        outcomes.push(connect_early(&mut world, near, far, None));
    }
    assert!(outcomes.contains(&Some(EarlyData::Refused)));
}

/// Where mac2 lies, which nobody looks at without load.
const MAC2: core::ops::Range<usize> = 104..120;

/// Bits changed at random in a Hello, one at a time: never delivered.
#[test]
fn a_damaged_hello_is_nothing() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.link(near, far).record().drop_nth(1);
    world.connect_early(near, far, &[b"early"], None);
    world.run_for(millis(1));
    assert_eq!(world.link(near, far).counts.of(Cause::Scripted), 1);
    world.set_cut(near, far, true);
    let hello = world.link(near, far).take_recorded().swap_remove(0);
    let mut chance = Rng::from_number(seed());
    for _ in 0..500 {
        let mut damaged = hello.clone();
        let bit = chance.below(8 * damaged.len() as u64) as usize;
        if MAC2.contains(&(bit / 8)) {
            continue;
        }
        damaged[bit / 8] ^= 1 << (bit % 8);
        let address = world.node(near).address;
        world.inject(far, address, &damaged);
        world.run_for(millis(10));
    }
    assert_eq!(world.received(far).len(), 0);
}

/// An unreliable message that travelled in a Hello nobody answered comes back to its sender, like any other.
#[test]
fn early_data_of_a_call_that_fails_comes_home() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.set_cut(near, far, true);
    let manner = Manner { early: true, ..Manner::default().unreliable() };
    let entry = world.connect_with(near, far, manner, &[9; 300]);
    world.run_for(seconds(60));
    assert!(world.outcome(entry).is_some());
    assert_eq!(world.node(near).application.held_bytes(), 0);
}
