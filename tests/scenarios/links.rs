//! Links that are bad for long: holes in time, great distance, slow ways back, heavy loss; and links that must be shared.

use dunlin_tests::World;
use dunlin_tests::link::Cause;

use crate::bulk::{Bulk, Line, finish, run_all, warm_up};
use crate::{millis, plain_pair, seconds, seed};

/// Two seconds of every five nothing passes: the session lives, everything arrives in order, and most of the open time is used.
#[test]
fn a_link_that_is_gone_two_seconds_of_five_carries_on() {
    let mut world = World::from_seed(seed());
    let line = Line::new(20, 40);
    let mut bulk = Bulk::over(&mut world, &line);
    let (near, far) = bulk.ends();
    let session = world.session(near, far);
    for round in 0..12 {
        world.at(seconds(round * 5), move |world| world.set_cut(near, far, true));
        world.at(seconds(round * 5 + 2), move |world| world.set_cut(near, far, false));
    }
    let rate = bulk.run(&mut world, seconds(60));
    finish(&mut world);
    assert_eq!((world.session(near, far), world.close_reasons(near)), (session, vec![]));
    assert!(world.link(near, far).counts.of(Cause::Cut) > 12);
    // Open for three fifths of the time. Probes double their distance, so that a hole costs up to its length once more.
    assert!(rate > 20_000_000 * 3 / 5 / 2, "{rate} bit/s");
}

/// Three quarters of a second each way: once the round trip is known, nothing is taken for lost that is only far away.
#[test]
fn a_delay_of_750_ms_each_way_is_no_loss() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.both(near, far, |conditions| conditions.delay = millis(750));
    let first = world.send(near, far, b"hello");
    // The handshake takes one round trip, the message half of one.
    assert!(world.run_until(millis(2_251), |world| world.delivered(first) == 1));
    world.run_for(seconds(5));
    let before = [near, far].map(|node| world.stats(node).segments_resent);
    for n in 0..200 {
        world.send(near, far, &[n; 10_000]);
        world.send(far, near, &[n; 10_000]);
    }
    // Slow start moves 2 MB in about eight round trips.
    assert!(world.run_until(seconds(20), World::is_settled), "{} open", world.ledger().open());
    world.run_for(seconds(5));
    assert_eq!((world.received(near).len(), world.received(far).len()), (200, 201));
    assert_eq!([near, far].map(|node| world.stats(node).segments_resent), before);
    assert_eq!((world.close_reasons(near), world.close_reasons(far)), (vec![], vec![]));
}

/// A hundred bits forth for each bit back: acknowledgements fit the narrow way, and the wide one is used.
#[test]
fn a_way_back_a_hundred_times_slower_does_not_hold_up_the_way_forth() {
    let mut world = World::from_seed(seed());
    let line = Line { rate_back: 1_000_000, ..Line::new(100, 40) };
    let mut bulk = Bulk::over(&mut world, &line);
    bulk.run(&mut world, warm_up(&line));
    let rate = bulk.run(&mut world, seconds(5));
    assert!(rate > 90_000_000, "{rate} bit/s");
    let (near, far) = bulk.ends();
    assert_eq!(world.link(far, near).counts.of(Cause::Queue), 0);
    finish(&mut world);
}

/// The other way round: bulk through the narrow way, acknowledged over the wide one.
#[test]
fn a_narrow_way_forth_is_filled() {
    let mut world = World::from_seed(seed());
    let line = Line { rate_back: 100_000_000, ..Line::new(1, 40) };
    let mut bulk = Bulk::over(&mut world, &line);
    bulk.run(&mut world, seconds(10));
    let rate = bulk.run(&mut world, seconds(20));
    assert!(rate > 900_000, "{rate} bit/s");
    finish(&mut world);
}

/// 30 % of all datagrams lost, both ways: bulk arrives, byte for byte, and what is sent again stays within I11.
#[test]
fn bulk_arrives_through_thirty_percent_loss() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.both(near, far, |conditions| conditions.loss_permille = 300);
    for n in 0..100u8 {
        world.send(near, far, &[n; 20_000]);
        world.send(far, near, &[n; 20_000]);
    }
    assert!(world.run_until(seconds(300), World::is_settled), "{} open", world.ledger().open());
    assert_eq!((world.received(near).len(), world.received(far).len()), (100, 100));
    world.assert_nothing_lost();
    for (from, to) in [(near, far), (far, near)] {
        let resent = world.stats(from).segments_resent;
        let counts = &world.link(from, to).counts;
        let allowed = 3 * counts.of(Cause::Loss) + counts.datagrams / 20;
        assert!(resent <= allowed, "{resent} sent again, {allowed} allowed");
        assert_eq!(world.close_reasons(from), []);
    }
}

/// One flow alone: at least 90 % of 100 Mbit/s over 50 ms are payload in the application's hands.
/// spec: atp/congestion
#[test]
fn a_flow_alone_reaches_ninety_percent_of_its_link() {
    let mut world = World::from_seed(seed());
    let line = Line::new(100, 50);
    let mut bulk = Bulk::over(&mut world, &line);
    bulk.run(&mut world, warm_up(&line));
    let rate = bulk.run(&mut world, seconds(10));
    assert!(rate >= 90_000_000, "{rate} bit/s");
}

/// A second flow comes five seconds later to the same link: together they fill it, and Jain's index of their shares is 0.9 at least.
/// spec: atp/congestion
#[test]
fn two_flows_share_a_link_fairly() {
    let mut world = World::from_seed(seed());
    let line = Line::new(100, 50);
    let mut first = Bulk::over(&mut world, &line);
    first.run(&mut world, seconds(5));
    let mut second = Bulk::over(&mut world, &line);
    let (from, to) = first.ends();
    let queue = world.link(from, to).queue();
    let (from, to) = second.ends();
    world.link(from, to).share(queue);
    // An epoch of CUBIC takes nine seconds here: a few to come together, a few to look at.
    run_all(&mut world, &mut [&mut first, &mut second], seconds(40));
    let rates = run_all(&mut world, &mut [&mut first, &mut second], seconds(40));
    let (sum, squares) =
        (rates[0] + rates[1], rates.iter().map(|rate| u128::from(*rate).pow(2)).sum::<u128>());
    let jain_permille = u128::from(sum).pow(2) * 1_000 / (2 * squares);
    assert!(sum >= 90_000_000, "{rates:?}");
    assert!(jain_permille >= 900, "{rates:?}: Jain's index is {jain_permille} of 1,000");
}
