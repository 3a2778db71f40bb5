//! Messages arrive: once, whole, in order, whatever the network does to them.

use dunlin_shards::arq::sender::Outcome;
use dunlin_tests::World;
use dunlin_tests::ledger::Manner;

use crate::{millis, plain_pair, seconds, seed};

const SEGMENT_LEN: usize = 1_000;

/// One lost segment costs one resend, and the receiver never notices.
/// spec: atp/reliability
#[test]
fn a_lost_segment_is_sent_once_more() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.link(near, far).drop_nth(2);

    world.send(near, far, &[0xAB; 40 * SEGMENT_LEN]);
    world.run_until_idle();

    assert_eq!(world.received(far), [vec![0xAB; 40 * SEGMENT_LEN]]);
    assert_eq!(world.stats(near).packets_lost, 1);
    assert_eq!(world.stats(near).segments_resent, 1);
}

#[test]
fn messages_go_both_ways_in_order() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    let texts: Vec<Vec<u8>> = (0..200u32).map(|n| format!("message {n}").into_bytes()).collect();
    for text in &texts {
        world.send(near, far, text);
        world.send(far, near, text);
    }
    world.run_until_idle();
    assert_eq!(world.received(near), texts);
    assert_eq!(world.received(far), texts);
    assert!(world.is_settled());
}

/// Sizes around every boundary, the largest message among them.
#[test]
fn every_size_arrives() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    let sizes = [0, 1, 255, 256, 257, 1_100, 1_176, 1_177, 65_535, 65_536, 300_000, 1 << 20];
    for len in sizes {
        world.send(near, far, &vec![len as u8; len]);
    }
    world.run_until_idle();
    let lens: Vec<usize> = world.received(far).iter().map(Vec::len).collect();
    assert_eq!(lens, sizes);
}

/// Loss, bursts, reordering, duplication, corruption and truncation together.
#[test]
fn a_bad_link_loses_nothing() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.join(near, far);
    world.everywhere(|conditions| {
        conditions.loss_permille = 50;
        conditions.duplicate_permille = 50;
        conditions.reorder_permille = 100;
        conditions.corrupt_permille = 20;
        conditions.truncate_permille = 20;
        conditions.jitter = millis(3);
    });
    for n in 0..300u32 {
        let len = 1 + (n as usize * 7919) % 20_000;
        let channel = 16 + n % 3;
        world.send_with(near, far, Manner::default().on(channel), &vec![(n % 200) as u8; len]);
        world.send_with(
            far,
            near,
            Manner::default().on(channel + 10).unordered(),
            &vec![(n % 200) as u8; len / 10],
        );
    }
    let is_done = world.run_until(seconds(120), |world| world.is_settled());
    assert!(is_done, "{} messages are open", world.ledger().open());
    assert_eq!(world.ledger().delivered().0, 600);
    world.assert_nothing_lost();
}

/// An unreliable message is sent once; what arrives is in order.
#[test]
fn unreliable_messages_are_sent_once() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.join(near, far);
    world.everywhere(|conditions| conditions.loss_permille = 200);
    let manner = Manner::default().unreliable();
    for n in 0..200u32 {
        world.send_with(near, far, manner, &n.to_be_bytes());
        world.run_for(millis(5));
    }
    world.run_until_idle();
    let numbers: Vec<u32> =
        world.received(far).iter().map(|bytes| u32::from_be_bytes(bytes[..].try_into().unwrap())).collect();
    assert!(numbers.is_sorted() && (100..190).contains(&numbers.len()), "{} arrived", numbers.len());
    assert_eq!(world.stats(near).segments_resent, 0);
}

/// A queued message can be taken back: its bytes are free in the same call, and it never arrives.
#[test]
fn a_cancelled_message_never_arrives() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.join(near, far);
    world.set_cut(near, far, true);
    let first = world.send(near, far, &vec![1; 100_000]);
    let second = world.send(near, far, &vec![2; 100_000]);
    world.run_for(millis(1));
    world.cancel(second);
    assert_eq!(world.outcome(second), None);
    world.run_for(millis(1));
    assert_eq!(world.outcome(second), Some(Outcome::Abandoned));
    world.set_cut(near, far, false);
    world.run_until_idle();
    assert_eq!((world.delivered(first), world.delivered(second)), (1, 0));
    assert_eq!(world.received(far).len(), 1);
}

/// Channels do not wait for each other.
#[test]
fn a_gap_in_one_channel_does_not_hold_up_another() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.link(near, far).drop_nth(1);
    world.send_with(near, far, Manner::default().on(16), b"lost at first");
    world.run_for(millis(1));
    world.send_with(near, far, Manner::default().on(17), b"on time");
    world.run_for(millis(8));
    assert_eq!(world.received(far), [b"on time".to_vec()]);
    world.run_until_idle();
    assert_eq!(world.received(far).len(), 2);
}
