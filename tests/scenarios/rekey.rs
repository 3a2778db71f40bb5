//! Keys change while packets are under way.

use core::time::Duration;

use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::session::keys::KeyLimits;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World, WorldOf};

use crate::{millis, seconds, seed};

fn pair_with<C: Crypto>(
    world: &mut WorldOf<C>,
    change: impl Fn(&mut NodeSettings),
) -> (NodeIndex, NodeIndex) {
    let mut settings = NodeSettings::default();
    change(&mut settings);
    let near = world.add_node_with(settings.clone());
    let far = world.add_node_with(settings);
    world.join(near, far);
    (near, far)
}

/// 2^26 lowered to 100: a thousand phases under 10 % loss and reordering lose nothing, and no number is sealed twice (I4).
/// spec: atp/rekey
#[test]
fn a_thousand_key_phases_lose_nothing() {
    let mut world = World::from_seed(seed());
    let (near, far) = pair_with(&mut world, |settings| {
        settings.sessions.key_limits =
            KeyLimits { packets: 100, packets_max: 10_000, ..KeyLimits::default() };
    });
    world.both(near, far, |conditions| {
        conditions.loss_permille = 100;
        conditions.reorder_permille = 100;
    });
    let mut sent = 0;
    while world.stats(near).key_phases + world.stats(far).key_phases < 1_000 {
        for n in 0..20 {
            world.send(near, far, &vec![n; 20_000]);
            world.send(far, near, &vec![n; 20_000]);
        }
        sent += 40;
        assert!(world.run_until(seconds(60), |world| world.is_settled()), "stuck after {sent} messages");
        assert!(sent < 100_000, "{} phases", world.stats(near).key_phases);
    }
    assert_eq!(world.ledger().delivered().0, sent);
    world.assert_nothing_lost();
    assert_eq!(world.close_reasons(near), []);
}

/// A side that only receives rekeys as well: its acknowledgements wear the key out too.
#[test]
fn a_receiver_rekeys_too() {
    let mut world = World::from_seed(seed());
    let (near, far) = pair_with(&mut world, |settings| {
        settings.sessions.key_limits = KeyLimits { packets: 50, packets_max: 500, ..KeyLimits::default() };
    });
    for n in 0..200u8 {
        world.send(near, far, &vec![n; 50_000]);
    }
    assert!(world.run_until(seconds(60), |world| world.is_settled()));
    assert!(world.stats(far).key_phases >= 2, "{} phases", world.stats(far).key_phases);
    assert_eq!(world.received(far).len(), 200);
}

/// A key that is worn out before the peer has acknowledged any of its packets: the session waits, it does not spin.
#[test]
fn a_worn_out_key_waits_for_its_acknowledgement() {
    let mut world = World::from_seed(seed());
    let (near, far) = pair_with(&mut world, |settings| {
        settings.sessions.key_limits = KeyLimits { packets: 40, packets_max: 60, ..KeyLimits::default() };
    });
    for n in 0..50u8 {
        world.send(near, far, &vec![n; 50_000]);
        world.send(far, near, &vec![n; 50_000]);
    }
    // 5 MB at 10 ms a round trip: far less than a session that waits in vain is given.
    assert!(world.run_until(seconds(10), |world| world.is_settled()));
    assert_eq!((world.close_reasons(near), world.close_reasons(far)), (vec![], vec![]));
}

/// Two minutes of use are a key's life.
#[test]
fn a_key_lives_two_minutes() {
    let mut world = World::from_seed(seed());
    let (near, far) = pair_with(&mut world, |_| ());
    for n in 0..600u32 {
        world.send(near, far, &n.to_be_bytes());
        world.send(far, near, &n.to_be_bytes());
        world.run_for(seconds(1));
    }
    for node in [near, far] {
        let phases = world.stats(node).key_phases;
        assert!((4..=5).contains(&phases), "{phases} phases in ten minutes");
    }
    assert_eq!(world.received(far).len(), 600);
    assert_eq!(world.close_reasons(near), []);
}

fn talk_for_hours<C: Crypto>(world: &mut WorldOf<C>, near: NodeIndex, far: NodeIndex, hours: u32) {
    for n in 0..hours * 120 {
        world.send(near, far, &n.to_be_bytes());
        world.send(far, near, &n.to_be_bytes());
        world.run_for(seconds(30));
    }
    world.run_for(seconds(5));
    assert!(world.is_settled());
    assert_eq!(world.received(far).len(), hours as usize * 120);
    assert_eq!(world.received(near).len(), hours as usize * 120);
}

/// Once an hour the secrets themselves are renewed, inside the session.
/// spec: atp/rehandshake
#[test]
fn secrets_are_renewed_every_hour() {
    let mut world = World::from_seed(seed());
    let (near, far) = pair_with(&mut world, |_| ());
    let session = world.session(near, far);
    world.both(near, far, |conditions| conditions.loss_permille = 100);
    talk_for_hours(&mut world, near, far, 5);
    for node in [near, far] {
        let count = world.stats(node).rehandshakes;
        assert!((4..=5).contains(&count), "{count} renewals in five hours");
    }
    assert_eq!(world.session(near, far), session);
    assert_eq!(world.close_reasons(near), []);
}

#[test]
fn real_secrets_are_renewed_too() {
    let mut world = WorldOf::<AwsLc>::from_seed(seed());
    let (near, far) = pair_with(&mut world, |settings| settings.sessions.renew_after = seconds(300));
    talk_for_hours(&mut world, near, far, 1);
    assert!(world.stats(near).rehandshakes >= 10, "{}", world.stats(near).rehandshakes);
    assert_eq!(world.close_reasons(near), []);
}

/// Renewals at a pace, in a storm of loss and reordering, while both directions are busy.
#[test]
fn renewals_in_a_storm_lose_nothing() {
    let mut world = World::from_seed(seed());
    let (near, far) = pair_with(&mut world, |settings| {
        settings.sessions.renew_after = millis(700);
        settings.sessions.key_limits = KeyLimits {
            packets: 300,
            packets_max: 10_000,
            life: millis(500),
            life_max: Duration::from_secs(30),
        };
    });
    world.both(near, far, |conditions| {
        conditions.loss_permille = 100;
        conditions.reorder_permille = 100;
        conditions.duplicate_permille = 50;
    });
    for _ in 0..200 {
        for n in 0..5 {
            world.send(near, far, &vec![n; 10_000]);
            world.send(far, near, &vec![n; 10_000]);
        }
        world.run_for(millis(300));
    }
    assert!(world.run_until(seconds(60), |world| world.is_settled()));
    assert_eq!(world.ledger().delivered().0, 2_000);
    assert!(world.stats(near).rehandshakes > 20, "{}", world.stats(near).rehandshakes);
    assert_eq!(world.close_reasons(near), []);
}
