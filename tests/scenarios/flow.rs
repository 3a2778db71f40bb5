//! Slow readers, full queues, priorities: T17 and T18.

use dunlin_shards::limits::Limits;
use dunlin_tests::World;
use dunlin_tests::application::Reader;
use dunlin_tests::ledger::Manner;
use dunlin_tests::node::NodeSettings;

use crate::{millis, plain_pair, seconds, seed};

/// A reader that takes its time: the sender is held back, memory stays bounded at both ends, and all arrives.
/// spec: atp/credit
#[test]
fn a_slow_reader_holds_its_sender_back() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.set_reader(far, Reader::Every(millis(20)));
    for n in 0..500u32 {
        world.send(near, far, &vec![(n % 200) as u8; 20_000]);
    }
    world.run_for(seconds(3));
    let shard = &world.node(far).cores[0].shard;
    assert!(shard.allocated_bytes() < 8 << 20, "{} bytes", shard.allocated_bytes());
    assert!(world.ledger().open() > 100);
    assert!(world.run_until(seconds(30), World::is_settled));
    assert_eq!(world.received(far).len(), 500);
}

/// A reader that does not read at all holds up nobody but its own sender, who goes on when it reads again.
#[test]
fn a_peer_that_never_reads_costs_a_bounded_window() {
    let mut world = World::from_seed(seed());
    let limits = Limits { memory: 8 << 20, ..Limits::small() };
    let far = world.add_node_with(NodeSettings { limits, ..NodeSettings::default() });
    let (near, other) = world.add_pair();
    world.set_reader(far, Reader::Never);
    for n in 0..2_000u32 {
        world.send(near, far, &vec![(n % 200) as u8; 10_000]);
    }
    world.run_for(seconds(60));
    assert!(world.node(far).cores[0].shard.allocated_bytes() <= 8 << 20);
    assert!(world.node(near).cores[0].shard.allocated_bytes() <= 32 << 20);
    // Both ends of the session live: the peer answers, it only does not read.
    assert_eq!(world.close_reasons(near), []);
    let before = world.received(far).len();
    assert!(before < 1_000, "{before}");
    world.send(other, far, b"me too");
    world.run_for(seconds(1));
    assert_eq!(world.received(far).len(), before + 1);
    world.set_reader(far, Reader::AtOnce);
    assert!(world.run_until(seconds(60), World::is_settled), "{} open", world.ledger().open());
    assert_eq!(world.received(far).len(), 2_001);
}

/// The application keeps to its queue limit, and the limit grows with what the path has earned.
#[test]
fn queues_grow_only_with_earned_bandwidth() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.both(near, far, |conditions| conditions.delay = millis(20));
    for n in 0..400u32 {
        world.send(near, far, &vec![(n % 200) as u8; 100_000]);
    }
    let before = world.node(near).cores[0].shard.allocated_bytes();
    assert!(world.run_until(seconds(60), World::is_settled));
    assert!(before < 1 << 20);
    assert_eq!(world.received(far).len(), 400);
}

/// A priority message behind bulk waits for at most one train.
#[test]
fn a_priority_message_waits_at_most_one_train() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.both(near, far, |conditions| {
        conditions.rate = Some(100_000_000);
        conditions.queue_len = 64 << 10;
    });
    for n in 0..400 {
        world.send_with(near, far, Manner::default().on(16), &vec![(n % 200) as u8; 50_000]);
    }
    let mut slowest = 0;
    for _ in 0..20 {
        world.run_for(millis(30));
        let entry = world.send_with(near, far, Manner::default().on(17).priority(1), b"urgent");
        let is_there = world.run_until(seconds(1), |world| world.delivered(entry) == 1);
        assert!(is_there);
        let record = world.ledger().record(entry);
        slowest = slowest.max(record.arrived_at.unwrap() - record.sent_at);
    }
    // The link's delay of 5 ms, its queue of 64 KiB at 100 Mbit/s (5.3 ms), and one train of at most 1 ms.
    assert!(slowest < 11_350_000, "{slowest} ns");
}

/// A gap in one message does not hold up the bytes of another channel, and small messages are not starved by large ones.
#[test]
fn small_messages_get_their_turn_among_large_ones() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.both(near, far, |conditions| {
        conditions.rate = Some(20_000_000);
        conditions.queue_len = 32 << 10;
    });
    for n in 0..20 {
        world.send_with(near, far, Manner::default().on(16), &vec![n; 200_000]);
    }
    world.run_for(millis(200));
    let entries: Vec<_> = (0..20u8)
        .map(|n| {
            let entry = world.send_with(near, far, Manner::default().on(18), &[n; 50]);
            world.run_for(millis(50));
            entry
        })
        .collect();
    world.run_for(millis(300));
    assert!(entries.iter().all(|entry| world.delivered(*entry) == 1));
    assert!(world.run_until(seconds(60), World::is_settled));
}

/// What a burst took of a shard's memory goes back when it is over, though a trickle goes on.
#[test]
fn memory_goes_back_after_a_burst() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.set_reader(far, Reader::Every(millis(1)));
    for n in 0..200u32 {
        world.send(near, far, &vec![(n % 200) as u8; 20_000]);
    }
    let allocated = |world: &World| world.node(far).cores[0].shard.allocated_bytes();
    let mut most = 0;
    while !world.is_settled() {
        world.run_for(millis(1));
        most = most.max(allocated(&world));
    }
    assert!(most > 200_000, "{most} bytes");
    for n in 0..40 {
        world.send(near, far, &[n; 100]);
        world.run_for(millis(300));
    }
    let after = allocated(&world);
    assert!(after <= 4_096, "{after} bytes of {most}");
    world.run_for(seconds(11));
    assert_eq!(allocated(&world), 0);
}
