//! Packets that were seen before, and packets that nobody sealed.

use dunlin_shards::rng::Rng;
use dunlin_shards::stats::DropReason;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, plain_pair, seconds, seed};

fn talk(world: &mut World, near: NodeIndex, far: NodeIndex) {
    for n in 0..50u32 {
        world.send(near, far, &n.to_be_bytes());
        world.send(far, near, &n.to_be_bytes());
        world.run_for(millis(7));
    }
    world.run_until_idle();
}

/// Every recorded packet again, from the peer's own address and from another: nothing changes, nobody answers.
/// spec: atp/replay
#[test]
fn recorded_packets_change_nothing() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.link(near, far).record();
    talk(&mut world, near, far);
    let recorded = world.link(near, far).take_recorded();
    assert!(recorded.len() > 50);
    let before = world.stats(far);
    let own = world.node(near).address;
    for from in [own, "203.0.113.9:999".parse().unwrap()] {
        for packet in &recorded {
            world.inject(far, from, packet);
        }
        world.run_for(millis(20));
    }
    let after = world.stats(far);
    assert_eq!(after.packets_opened, before.packets_opened);
    assert_eq!(after.bytes_out, before.bytes_out);
    let dropped = |reason| after.drops(reason) - before.drops(reason);
    let refused = dropped(DropReason::Replayed) + dropped(DropReason::UnmatchedSource);
    assert_eq!(refused, 2 * recorded.len() as u64);
    assert_eq!(world.received(far).len(), 50);
    talk(&mut world, near, far);
    assert_eq!(world.received(far).len(), 100);
}

/// Changed packets do not open, and do no harm, however many they are.
#[test]
fn forged_packets_change_nothing() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    // Packets that never arrived: their numbers are fresh.
    world.link(near, far).record().drop_if(|_| true);
    for n in 0..50u32 {
        world.send(near, far, &n.to_be_bytes());
        world.run_for(millis(7));
    }
    let recorded = world.link(near, far).drop_no_more().take_recorded();
    let mut chance = Rng::from_number(seed());
    let own = world.node(near).address;
    let elsewhere = "203.0.113.9:999".parse().unwrap();
    for n in 0..2_000u64 {
        let mut packet = recorded[chance.below(recorded.len() as u64) as usize].clone();
        let at = 4 + chance.below(packet.len() as u64 - 4) as usize;
        packet[at] ^= 1 + chance.below(255) as u8;
        if chance.once_in(4) {
            packet.truncate(chance.below(packet.len() as u64) as usize);
        }
        world.inject(far, if n % 2 == 0 { own } else { elsewhere }, &packet);
    }
    world.run_for(seconds(1));
    assert!(world.stats(far).drops(DropReason::Forged) > 500);
    assert!(world.run_until(seconds(10), World::is_settled));
    talk(&mut world, near, far);
    assert_eq!(world.received(far).len(), 100);
    assert_eq!(world.close_reasons(far), []);
}

/// Datagrams of any bytes and any length: dropped, counted, and never a panic.
#[test]
fn noise_is_dropped() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    let mut chance = Rng::from_number(seed());
    for _ in 0..5_000 {
        let mut bytes = vec![0; chance.below(1_500) as usize];
        chance.fill(&mut bytes);
        if let Some(first) = bytes.first_mut()
            && chance.once_in(2)
        {
            *first = chance.below(7) as u8;
        }
        world.inject(far, "203.0.113.9:999".parse().unwrap(), &bytes);
    }
    world.run_for(seconds(1));
    assert_eq!(world.stats(far).drops_total(), 5_000);
    talk(&mut world, near, far);
    assert_eq!(world.received(far).len(), 50);
}

/// Reordering far beyond a packet threshold: nothing is delivered twice, little is sent again.
#[test]
fn packets_far_out_of_order_are_taken() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.both(near, far, |conditions| {
        conditions.reorder_permille = 300;
        conditions.reorder_by = seconds(1);
    });
    let expected: Vec<Vec<u8>> = (0..300u32).map(|n| vec![n as u8 % 200; 3_000]).collect();
    for message in &expected {
        world.send(near, far, message);
    }
    assert!(world.run_until(seconds(60), |world| world.is_settled()));
    assert_eq!(world.received(far), expected);
}
