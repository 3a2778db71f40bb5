//! Stories of BBR over a link: each state, what losses and marks do, and what an application that says little does not.

use core::time::Duration;

use proptest::prelude::*;

use super::RecoveryConfig;
use super::link::World;
use crate::arq::congestion::{Algorithm, BBR_MINIMUM_DATAGRAMS, Phase, WINDOW_MAX};
use crate::limits::DATAGRAM_MIN;
use crate::time::Instant;

const MBIT: u64 = 1_000_000;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A link of so many Mbit/s and milliseconds there and back, with a queue of what it holds, and a sender by BBR.
fn world(mbit: u64, round_trip: u64, seed: u64) -> World {
    let config = RecoveryConfig { algorithm: Algorithm::Bbr, datagram_len_max: DATAGRAM_MIN, seed };
    let mut world = World::new(mbit * MBIT, ms(round_trip / 2), config);
    world.measure();
    world
}

/// The same, with more to send than passes.
fn bulk(mbit: u64, round_trip: u64) -> World {
    let mut world = world(mbit, round_trip, 1);
    world.fresh = u64::MAX >> 1;
    world
}

/// Bits a second that arrive from now on, of datagrams' bytes.
fn rate(world: &mut World, time: Duration) -> u64 {
    let before = world.delivered.len() as u64;
    world.run_for(time);
    (world.delivered.len() as u64 - before) * 1_200 * 8 * 1_000 / time.as_millis() as u64
}

/// When each stretch of a phase began, how long it took, and what waited in the queue at its end.
fn stretches(world: &World, phase: Phase) -> Vec<(Instant, Duration, u64)> {
    let pairs = world.phases.iter().zip(&world.phases[1..]);
    pairs
        .filter(|(begin, _)| begin.1 == phase)
        .map(|(begin, end)| (begin.0, end.0 - begin.0, end.2))
        .collect()
}

/// The phases in their order.
fn order(world: &World) -> Vec<Phase> {
    world.phases.iter().map(|(_, phase, _)| *phase).collect()
}

/// STARTUP fills the pipe within a few round trips, DRAIN empties the queue that this made, and the path's rate is known.
/// spec: atp/bbr-startup, atp/bbr-states
#[test]
fn the_start_finds_the_rate_and_leaves_no_queue() {
    for (mbit, round_trip) in [(10, 20), (100, 50), (500, 100)] {
        let mut world = bulk(mbit, round_trip);
        world.run_for(ms(round_trip) * 30);
        let phases = order(&world);
        assert!(
            phases.starts_with(&[Phase::Startup, Phase::Drain]) && phases.contains(&Phase::Cruise),
            "{phases:?}"
        );
        let (_, took, _) = stretches(&world, Phase::Startup)[0];
        assert!(took < ms(round_trip) * 18, "{mbit} Mbit/s, {round_trip} ms: {took:?}");
        let (_, _, waiting) = stretches(&world, Phase::Drain)[0];
        let holds = world.forward.queue_bytes;
        assert!(waiting < holds / 5, "{waiting} of {holds} bytes wait after DRAIN");
        let reached = rate(&mut world, ms(round_trip) * 20);
        assert!(reached >= mbit * MBIT * 93 / 100, "{mbit} Mbit/s, {round_trip} ms: {reached}");
    }
}

/// CRUISE, REFILL, UP, DOWN and CRUISE again, every 2 to 3 s as long as that is less than 63 round trips; REFILL takes a round trip.
/// spec: atp/bbr-states
#[test]
fn more_is_tried_every_two_to_three_seconds() {
    let mut world = bulk(100, 50);
    world.run_for(ms(20_000));
    let phases = order(&world);
    let next = |phase| match phase {
        Phase::Startup => &[Phase::Drain][..],
        // DOWN is over at once when the queue is empty already.
        Phase::Drain => &[Phase::ProbeDown, Phase::Cruise],
        Phase::ProbeDown => &[Phase::Cruise, Phase::ProbeRtt],
        Phase::Cruise => &[Phase::Refill, Phase::ProbeRtt],
        Phase::Refill => &[Phase::ProbeUp, Phase::ProbeRtt],
        Phase::ProbeUp => &[Phase::ProbeDown, Phase::Cruise, Phase::ProbeRtt],
        _ => &[Phase::Cruise],
    };
    for pair in phases.windows(2) {
        assert!(next(pair[0]).contains(&pair[1]), "{pair:?}");
    }
    let ups = stretches(&world, Phase::ProbeUp);
    assert!((5..=9).contains(&ups.len()), "{ups:?}");
    for (_, took, _) in stretches(&world, Phase::Refill) {
        assert!(took >= ms(50) && took <= ms(150), "{took:?}");
    }
    for pair in ups.windows(2) {
        let (end, begin) = (pair[0].0 + pair[0].1, pair[1].0);
        // After PROBE_RTT the wait begins anew.
        let is_interrupted =
            stretches(&world, Phase::ProbeRtt).iter().any(|probe| (end..begin).contains(&probe.0));
        let apart = begin - end;
        assert!(apart >= ms(2_000) && (is_interrupted || apart < ms(3_200)), "{apart:?}");
    }
}

/// On a short path 63 round trips are less than that: a Reno flow beside us would have regained its window by then.
/// spec: atp/bbr-states
#[test]
fn a_short_path_is_tried_after_sixty_three_rounds() {
    let mut world = bulk(500, 10);
    world.run_for(ms(5_000));
    let ups = stretches(&world, Phase::ProbeUp);
    let apart: Vec<Duration> = ups.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(apart.iter().all(|apart| (ms(600)..ms(1_100)).contains(apart)), "{apart:?}");
    assert!(apart.len() >= 3, "{apart:?}");
}

/// Every 5 s the queue is left to run empty, for 200 ms and a round trip, and the least round trip is found again.
/// spec: atp/bbr-states
#[test]
fn the_queue_runs_empty_every_five_seconds() {
    let mut world = bulk(100, 50);
    world.run_for(ms(31_000));
    let probes = stretches(&world, Phase::ProbeRtt);
    assert!((4..=6).contains(&probes.len()), "{probes:?}");
    for (_, took, waiting) in &probes {
        assert!((ms(200)..ms(450)).contains(took), "{took:?}");
        assert!(*waiting <= 13_000, "{waiting} bytes wait: more than one train");
    }
    for pair in probes.windows(2) {
        let apart = pair[1].0 - pair[0].0;
        assert!((ms(5_000)..ms(6_000)).contains(&apart), "{apart:?}");
    }
    let reached = rate(&mut world, ms(10_000));
    assert!(
        reached >= 93 * MBIT,
        "{reached}: PROBE_RTT takes less than a twentieth of the time and half of the rate"
    );
}

/// A path that becomes slower is believed after two tries, one that becomes faster is found by growing tries.
/// spec: atp/bbr
#[test]
fn the_estimate_follows_the_path() {
    let mut world = bulk(100, 50);
    world.run_for(ms(5_000));
    world.forward.bytes_per_second /= 4;
    world.run_for(ms(10_000));
    let (reached, overflowed) = (rate(&mut world, ms(5_000)), world.forward.overflowed);
    assert!((23 * MBIT..=25 * MBIT).contains(&reached), "{reached}");
    let pace = world.sender.pacing_rate().unwrap() * 8;
    assert!((19 * MBIT..=32 * MBIT).contains(&pace), "{pace}");
    world.run_for(ms(5_000));
    let lost = world.forward.overflowed - overflowed;
    assert!(lost < 50 * 5, "{lost} overflowed in 5 s at 2,600 packets a second");
    world.forward.bytes_per_second *= 4;
    world.run_for(ms(10_000));
    let reached = rate(&mut world, ms(5_000));
    assert!(reached >= 90 * MBIT, "{reached}");
}

/// Ten seconds of a twentieth of the rate say nothing about the path: what was known is used at once when there is more to say.
/// spec: atp/delivery-rate
#[test]
fn an_application_that_says_little_takes_nothing_from_the_estimate() {
    let mut world = world(100, 50, 1);
    world.fresh = 40_000;
    while world.fresh > 0 {
        world.run_for(ms(10));
    }
    world.run_for(ms(500));
    let known = world.sender.pacing_rate().unwrap();
    assert!(known * 8 > 60 * MBIT, "{known}");
    for _ in 0..1_000 {
        world.fresh += 5;
        world.run_for(ms(10));
    }
    world.fresh = u64::MAX >> 1;
    world.run_for(ms(200));
    let reached = rate(&mut world, ms(800));
    assert!(reached >= 85 * MBIT, "{reached}");
}

/// A flow that never fills the path does not take its own rate for the path's: STARTUP goes on until somebody tries.
/// spec: atp/bbr-startup
#[test]
fn an_application_that_says_little_from_the_beginning_stays_in_startup() {
    let mut world = world(100, 50, 1);
    for _ in 0..400 {
        world.fresh += 5;
        world.run_for(ms(10));
    }
    assert_eq!(order(&world), [Phase::Startup]);
    world.fresh = u64::MAX >> 1;
    world.run_for(ms(1_000));
    let reached = rate(&mut world, ms(4_000));
    assert!(reached >= 90 * MBIT, "{reached}, of which PROBE_RTT takes some");
}

/// One in a hundred lost by chance, both ways: most of the rate remains. CUBIC keeps a thirtieth.
/// spec: atp/bbr-loss
#[test]
fn one_percent_of_loss_is_borne() {
    let mut world = bulk(100, 50);
    (world.forward.loss_per_mille, world.backward.loss_per_mille) = (10, 10);
    world.run_for(ms(2_000));
    let reached = rate(&mut world, ms(20_000));
    assert!(reached >= 60 * MBIT, "{reached}");
}

/// A queue of a fifth of what the path holds: more than 2 % are lost when more is tried, and that is remembered.
/// spec: atp/bbr-loss
#[test]
fn a_shallow_queue_overflows_little() {
    let mut world = bulk(100, 50);
    world.forward.queue_bytes /= 5;
    world.run_for(ms(3_000));
    let (sent, overflowed) = (world.sent, world.forward.overflowed);
    let reached = rate(&mut world, ms(20_000));
    assert!(reached >= 85 * MBIT, "{reached}");
    let (sent, overflowed) = (world.sent - sent, world.forward.overflowed - overflowed);
    assert!(overflowed * 50 < sent, "{overflowed} of {sent}");
}

/// Losses of 5 % end STARTUP before the rate stops growing.
/// spec: atp/bbr-loss
#[test]
fn heavy_losses_end_the_start() {
    let mut world = bulk(1_000, 50);
    world.forward.loss_per_mille = 50;
    world.run_for(ms(1_000));
    let (_, took, _) = stretches(&world, Phase::Startup)[0];
    let mut clean = bulk(1_000, 50);
    clean.run_for(ms(1_000));
    let (_, undisturbed, _) = stretches(&clean, Phase::Startup)[0];
    assert!(took < undisturbed, "{took:?}, without losses {undisturbed:?}");
}

/// A queue that marks instead of dropping: it stays below what it would hold.
/// spec: atp/congestion
#[test]
fn marks_are_heard() {
    let mut world = bulk(100, 50);
    world.forward.mark_above_bytes = world.forward.queue_bytes / 4;
    world.run_for(ms(1_000));
    let (_, took, _) = stretches(&world, Phase::Startup)[0];
    assert!(took < ms(500), "{took:?}");
    let overflowed = world.forward.overflowed;
    world.run_for(ms(20_000));
    assert_eq!(world.forward.overflowed, overflowed);
    assert!(world.sender.congestion().shrunk_count > 0);
    assert!(rate(&mut world, ms(10_000)) >= 80 * MBIT);
}

/// Packets that only come late are no losses, and bounds that they set are taken back.
/// spec: atp/bbr-loss
#[test]
fn reordering_is_forgiven() {
    let mut world = bulk(50, 40);
    world.forward.jitter = ms(8);
    world.run_for(ms(5_000));
    assert!(world.sender.stats().spurious_packets > 0 && world.sender.congestion().undone_count > 0);
    let reached = rate(&mut world, ms(10_000));
    assert!(reached >= 45 * MBIT, "{reached}");
}

/// A path of 0.2 ms is too short to be paced: the window alone keeps the queue small.
#[test]
fn a_short_path_is_held_by_its_window() {
    let mut world = world(10_000, 0, 1);
    (world.forward.delay, world.backward.delay) = (Duration::from_micros(100), Duration::from_micros(100));
    world.forward.queue_bytes = 4 << 20;
    world.measure();
    world.fresh = u64::MAX >> 1;
    world.run_for(ms(200));
    assert!(order(&world).contains(&Phase::Cruise), "{:?}", order(&world));
    assert_eq!(world.sender.pacing_rate(), None);
    let reached = rate(&mut world, ms(300));
    assert!(reached >= 8_500 * MBIT, "{reached}");
    assert_eq!(world.forward.overflowed, 0);
}

/// The same seed gives the same tries, another seed others.
#[test]
fn chance_follows_from_the_seed() {
    let tries = |seed| {
        let mut world = world(20, 50, seed);
        world.fresh = u64::MAX >> 1;
        world.run_for(ms(12_000));
        stretches(&world, Phase::Refill)
    };
    assert_eq!(tries(7), tries(7));
    assert_ne!(tries(7), tries(8));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the link does: all arrives, the window stays within its limits, and nothing stays under way.
    #[test]
    fn everything_arrives(
        mbit in 1u64..200, round_trip in 2u64..200, queue in 3_000u64..200_000,
        losses in (0u64..200, 0u64..200), jitter in 0u64..30, marks in any::<bool>(), seed in any::<u64>(),
    ) {
        let mut world = world(mbit, round_trip, seed);
        world.forward.queue_bytes = queue;
        world.forward.jitter = ms(jitter);
        (world.forward.loss_per_mille, world.backward.loss_per_mille) = losses;
        world.forward.mark_above_bytes = if marks { queue / 2 } else { u64::MAX };
        world.fresh = 600;
        for _ in 0..6_000 {
            world.run_for(ms(100));
            let window = world.sender.congestion().window;
            prop_assert!((BBR_MINIMUM_DATAGRAMS * 1_200..=WINDOW_MAX).contains(&window), "{}", window);
            if world.is_done() {
                break;
            }
        }
        prop_assert!(world.is_done());
        prop_assert_eq!((world.delivered.len(), world.sender.bytes_in_flight()), (600, 0));
    }
}
