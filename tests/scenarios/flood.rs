//! Floods from addresses that may be anybody's: T1, T2, T3.

use std::net::SocketAddr;

use dunlin_codec::ids::SessionId;
use dunlin_shards::limits::{HALF_OPEN_MAX, Limits};
use dunlin_shards::rng::Rng;
use dunlin_shards::stats::DropReason;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, plain_pair, seconds, seed};

fn address(n: u32) -> SocketAddr {
    SocketAddr::from((u32::to_be_bytes(0x0b00_0000 + n * 1_024), 4_000))
}

/// Hellos of so many callers that know `far`, recorded and never delivered.
fn hellos(world: &mut World, far: NodeIndex, count: usize) -> Vec<Vec<u8>> {
    let mut hellos = Vec::new();
    for _ in 0..count {
        let caller = world.add_node();
        world.link(caller, far).record().drop_nth(1);
        world.connect(caller, far);
        world.run_for(millis(1));
        hellos.push(world.link(caller, far).take_recorded().swap_remove(0));
        world.crash(caller);
    }
    hellos
}

/// spec: atp/mac1
#[test]
fn a_wrong_mac1_is_met_with_silence() {
    let mut world = World::from_seed(seed());
    let far = world.add_node();
    let hello = hellos(&mut world, far, 1).remove(0);
    let mut chance = Rng::from_number(seed());
    for n in 0..1_000 {
        let mut wrong = hello.clone();
        // Anything that mac1 covers, or mac1 itself.
        wrong[1 + chance.below(103) as usize] ^= 1 + chance.below(255) as u8;
        world.inject(far, address(n), &wrong);
    }
    world.run_for(seconds(1));
    let stats = world.stats(far);
    assert_eq!(stats.bytes_out, 0);
    assert_eq!(stats.handshakes_completed, 0);
    assert!(stats.drops(DropReason::BadMac1) > 900, "{}", stats.drops(DropReason::BadMac1));
    assert_eq!(world.node(far).cores[0].shard.sessions(), 0);
}

/// Under load a Hello without a cookie costs no Diffie-Hellman and no state; an honest caller gets through all the same.
/// spec: atp/cookie
#[test]
fn under_load_a_cookie_comes_before_any_state() {
    let mut world = World::from_seed(seed());
    let far = world.add_node();
    let flood = hellos(&mut world, far, 400);
    for (n, hello) in flood.iter().enumerate() {
        world.inject(far, address(n as u32), hello);
    }
    world.run_for(millis(1));
    let stats = world.stats(far);
    assert!(stats.cookies_sent > 100, "{} cookies", stats.cookies_sent);
    let sessions = world.node(far).cores[0].shard.sessions();
    assert!(sessions < 80, "{sessions} sessions begun by a flood");
    let near = world.add_node();
    world.connect(near, far);
    world.run_for(millis(60));
    assert!(world.session(near, far).is_some());
    assert!(world.stats(far).cookies_sent > stats.cookies_sent);
    // Every answer was smaller than its question: the tap has checked it.
    assert!(world.take_strays().iter().all(|stray| stray.bytes.len() < flood[0].len()));
}

/// A forged cookie is worth nothing, and a cookie belongs to its address.
#[test]
fn a_cookie_of_another_address_is_worth_nothing() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.link(near, far).record();
    world.connect_unknown(near, far);
    world.run_until_idle();
    let recorded = world.link(near, far).take_recorded();
    let with_cookie = &recorded[1];
    assert_eq!((recorded[0][0], with_cookie[0], recorded[0].len()), (1, 1, with_cookie.len()));
    world.run_for(seconds(20));
    let before = world.stats(far);
    world.inject(far, address(1), with_cookie);
    world.run_for(seconds(1));
    let after = world.stats(far);
    assert_eq!(after.cookies_sent, before.cookies_sent + 1);
    assert_eq!(after.drops(DropReason::BadCookie) - before.drops(DropReason::BadCookie), 1);
    assert_eq!(after.handshakes_completed, before.handshakes_completed);
}

/// spec: atp/reset
#[test]
fn an_unknown_session_is_answered_by_one_smaller_reset_at_a_bounded_rate() {
    let mut world = World::from_seed(seed());
    let far = world.add_node();
    let packet = |n: u32, len: usize| {
        let mut bytes = vec![0x55; len];
        bytes[..4].copy_from_slice(&SessionId::new(0, n, 0).0.to_be_bytes());
        bytes
    };
    for n in 0..1_000 {
        world.inject(far, address(1), &packet(n, 100));
    }
    world.run_for(millis(1));
    let strays = world.take_strays();
    assert!((50..=100).contains(&strays.len()), "{} resets to one prefix at once", strays.len());
    assert!(strays.iter().all(|stray| stray.bytes.len() == 24 && stray.bytes[0] == 5));
    // One that is not longer than the answer gets none.
    world.run_for(seconds(5));
    world.inject(far, address(1), &packet(1, 24));
    world.run_for(millis(1));
    assert_eq!(world.take_strays(), []);
}

/// Half-open entries are bounded, and those that come last are served.
#[test]
fn half_open_entries_are_bounded() {
    let mut world = World::from_seed(seed());
    let limits = Limits { half_open: 32, sessions: 64, ..Limits::small() };
    let far = world.add_node_with(NodeSettings { limits, ..NodeSettings::default() });
    let flood = hellos(&mut world, far, 300);
    for (n, hello) in flood.iter().enumerate() {
        world.inject(far, address(n as u32), hello);
        world.run_for(millis(20));
    }
    assert!(world.node(far).cores[0].shard.sessions() <= 64);
    assert!(world.stats(far).drops(DropReason::SessionsFull) > 0);
    // They live for ten seconds, and then there is room again.
    world.run_for(seconds(11));
    assert_eq!(world.node(far).cores[0].shard.sessions(), 0);
    let near = world.add_node();
    world.connect(near, far);
    world.run_for(millis(100));
    assert!(world.session(near, far).is_some());
    const { assert!(HALF_OPEN_MAX == 4_096) };
}

/// A caller whose early data waits for the register of another shard makes room for later ones, its session's place included.
#[test]
fn callers_that_wait_for_the_register_leave_nothing_behind() {
    let mut world = World::from_seed(seed());
    let limits = Limits { half_open: 2, sessions: 64, ..Limits::small() };
    let far = world.add_node_with(NodeSettings { limits, shards: 4, ..NodeSettings::default() });
    let callers: Vec<_> = (0..40).map(|_| world.add_node()).collect();
    for near in &callers {
        world.node_mut(*near).application.connects = false;
        world.connect_early(*near, far, &[b"all at once"], None);
    }
    world.run_for(seconds(120));
    assert!(world.stats(far).early_data_accepted > 0);
    let taken: usize = world.node(far).cores.iter().map(|core| core.shard.sessions()).sum();
    assert_eq!(taken, world.session_count(far), "places are taken that nobody has");
}

/// A session goes on while junk of all kinds pours in.
#[test]
fn a_session_goes_on_under_a_flood() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    let flood = hellos(&mut world, far, 100);
    let mut chance = Rng::from_number(seed());
    let mut sent = 0;
    for round in 0..100u32 {
        for n in 0..50 {
            let mut junk = flood[chance.below(100) as usize].clone();
            match n % 3 {
                0 => junk[90] ^= 1,
                1 => junk[0] = 0x80,
                _ => {}
            }
            world.inject(far, address(chance.below(5_000) as u32), &junk);
        }
        world.send(near, far, &round.to_be_bytes());
        sent += 1;
        world.run_for(millis(10));
    }
    world.run_for(seconds(1));
    assert_eq!(world.received(far).len(), sent);
    assert_eq!(world.stats(near).packets_lost, 0);
}
