//! Peers that come from another address: T24 and the three-times rule.

use dunlin_shards::arq::sender::Outcome;
use dunlin_shards::event::{CloseReason, Event};
use dunlin_tests::nat::{Filtering, NatRules};
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, plain_pair, seconds, seed};

fn roamed(world: &World, node: NodeIndex) -> usize {
    world.count_events(node, |event| matches!(event, Event::Roamed { .. }))
}

/// The session goes on; the peer's new address is used once it has answered a challenge.
/// spec: atp/roaming
#[test]
fn a_peer_that_moves_is_followed() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    for n in 0..100u8 {
        world.send(near, far, &[n; 400]);
        world.send(far, near, &[n; 400]);
        if n % 25 == 10 {
            world.change_address(near);
        }
        world.run_for(millis(100));
    }
    assert!(world.run_until(seconds(10), World::is_settled));
    assert_eq!(roamed(&world, far), 4);
    assert_eq!((world.received(near).len(), world.received(far).len()), (100, 100));
    assert_eq!(world.close_reasons(near).len() + world.close_reasons(far).len(), 0);
    let address = world.node(near).address;
    let session = world.session(far, near).unwrap();
    assert_eq!(world.node_mut(far).cores[0].shard.remote_of(session), Some(address));
}

/// A sender in full flight moves: what it gets at its new place stays within three times what it sent, until proven.
/// The tap checks it at every datagram.
#[test]
fn a_bulk_receiver_that_moves_gets_no_flood_at_an_unproven_address() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.both(near, far, |conditions| conditions.rate = Some(50_000_000));
    for n in 0..200 {
        world.send(far, near, &vec![n; 50_000]);
    }
    world.run_for(millis(500));
    let before = world.received(near).len();
    world.change_address(near);
    assert!(world.run_until(seconds(60), World::is_settled), "{} open", world.ledger().open());
    assert!(before > 5 && before < 200);
    assert_eq!(roamed(&world, far), 1);
}

/// An attacker repeats a packet from elsewhere before the true one arrives: the session stays where it was.
#[test]
fn a_packet_raced_from_elsewhere_moves_nothing() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    let elsewhere = "203.0.113.9:999".parse().unwrap();
    let old = world.node(near).address;
    for n in 0..20u8 {
        world.link(near, far).record();
        world.send(near, far, &[n; 500]);
        world.run_for(millis(1));
        for packet in world.link(near, far).take_recorded() {
            world.inject(far, elsewhere, &packet);
        }
        world.run_for(millis(200));
    }
    assert!(world.run_until(seconds(10), World::is_settled));
    assert_eq!(roamed(&world, far), 0);
    let session = world.session(far, near).unwrap();
    assert_eq!(world.node_mut(far).cores[0].shard.remote_of(session), Some(old));
    // The tap has checked that what went there stays within three times what came from there.
    assert!(world.tap().of(far, elsewhere).bytes_out > 0);
    assert!(!world.tap().of(far, elsewhere).is_proven);
}

/// What answers early data goes to an address that is not proven yet: within three times what came from there, and no
/// packet at all when less than one would fit.
/// spec: atp/amplification
#[test]
fn answers_to_early_data_stay_within_the_budget() {
    for len in [10, 300, 1_000, 3_300, 3_400, 3_450, 20_000] {
        let mut world = World::from_seed(seed());
        let (near, far) = world.add_pair();
        let (_, entries) = world.connect_early(near, far, &[b"tell me"], None);
        // Nothing but the Hello gets through.
        let mut count = 0;
        world.link(near, far).drop_if(move |_| {
            count += 1;
            count > 1
        });
        world.run_for(millis(5));
        world.send(far, near, &vec![1; len]);
        world.run_for(seconds(3));
        assert_eq!(world.delivered(entries[0]), 1);
        let flow = world.tap().of(far, world.node(near).address);
        assert!(flow.bytes_out > 100 && flow.bytes_out <= 3 * flow.bytes_in, "{flow:?}");
        world.link(near, far).drop_no_more();
        assert!(world.run_until(seconds(30), World::is_settled));
    }
}

/// A peer on a node of several shards keeps its shard when it moves: its packets are steered by their session.
#[test]
fn a_session_keeps_its_shard_when_its_peer_moves() {
    let mut world = World::from_seed(seed());
    let near = world.add_node();
    let far = world.add_node_with(NodeSettings { shards: 4, ..NodeSettings::default() });
    world.join(near, far);
    let shard = world.session(far, near).unwrap().shard();
    for n in 0..20u8 {
        world.change_address(near);
        world.send(near, far, &[n; 100]);
        world.run_for(seconds(2));
    }
    assert_eq!(world.received(far).len(), 20);
    assert_eq!(world.session(far, near).unwrap().shard(), shard);
    assert_eq!(roamed(&world, far), 20);
    assert_eq!(world.stats(far).misrouted, 0);
}

/// Both move at once, and nobody knows where the other is: a clean end, and a new session when one calls.
#[test]
fn both_ends_moving_at_once_end_the_session_cleanly() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.change_address(near);
    world.change_address(far);
    world.node_mut(near).application.connects = false;
    let entry = world.send(near, far, b"where are you?");
    world.run_for(seconds(130));
    assert_eq!((world.session_count(near), world.session_count(far)), (0, 0));
    // Whoever asked in vain knows sooner than whoever only heard nothing; the message comes back.
    assert_eq!(world.close_reasons(near), [CloseReason::Unresponsive]);
    assert_eq!(world.close_reasons(far), [CloseReason::Idle]);
    assert_eq!(world.outcome(entry), Some(Outcome::Abandoned));
    world.join(near, far);
    let entry = world.send(near, far, b"there you are");
    world.run_for(seconds(1));
    assert_eq!((world.delivered(entry), world.received(far).len()), (1, 1));
}

/// A Welcome that comes from elsewhere, sent on by somebody who wants traffic to go there, opens the session at the address that was
/// dialled; the other one is asked first. The tap watches what goes there.
/// spec: atp/amplification
#[test]
fn a_welcome_sent_on_from_elsewhere_brings_no_traffic_there() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.link(far, near).record().drop_nth(1);
    let entry = world.send(near, far, &[7; 100_000]);
    world.run_for(millis(8));
    let welcome = world.link(far, near).take_recorded().swap_remove(0);
    let victim = "203.0.113.9:999".parse().unwrap();
    world.inject(near, victim, &welcome);
    assert!(world.run_until(seconds(5), World::is_settled));
    assert_eq!(world.delivered(entry), 1);
    let there: usize =
        world.take_strays().iter().filter(|stray| stray.to == victim).map(|stray| stray.bytes.len()).sum();
    assert!(
        there > 0 && there <= 3 * welcome.len(),
        "{there} bytes to an address that only sent something on"
    );
    assert_eq!(roamed(&world, near), 0);
}

/// Behind a NAT that shows each remote address another port, a peer answers from a port that nobody dialled: it is followed there.
#[test]
fn an_answer_through_a_dependent_nat_is_followed() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    let third = world.add_node();
    let nat = world.add_nat(NatRules {
        is_dependent: true,
        filtering: Filtering::Anyone,
        life: seconds(30),
        hairpin: false,
    });
    world.put_behind(far, nat);
    world.join(far, third);
    // What `third` knows of `far` leads to it, but `far` answers from another port.
    let known = world.public_address(far);
    world.join(near, far);
    let entry = world.send(near, far, &[7; 50_000]);
    assert!(world.run_until(seconds(5), World::is_settled));
    assert_eq!(world.delivered(entry), 1);
    let session = world.session(near, far).unwrap();
    let remote = world.node_mut(near).cores[0].shard.remote_of(session).unwrap();
    assert_eq!((remote.ip(), remote.port() == known.port()), (known.ip(), false));
}

/// A Hello is held up and sent on from elsewhere first; the caller's own copy is answered too, and it confirms. That proves nothing of
/// the other address: the tap sees what goes there.
/// spec: atp/amplification
#[test]
fn a_hello_sent_on_from_elsewhere_first_brings_no_traffic_there() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.link(near, far).record().drop_nth(1);
    world.connect(near, far);
    world.run_for(millis(1));
    let hello = world.link(near, far).take_recorded().swap_remove(0);
    let victim = "203.0.113.9:999".parse().unwrap();
    world.inject(far, victim, &hello);
    assert!(world.run_until(seconds(5), |world| world.session(far, near).is_some()));
    let entry = world.send(far, near, &[7; 100_000]);
    assert!(world.run_until(seconds(5), World::is_settled));
    assert_eq!(world.delivered(entry), 1);
    let there: usize =
        world.take_strays().iter().filter(|stray| stray.to == victim).map(|stray| stray.bytes.len()).sum();
    assert!(there > 0 && there <= 3 * hello.len(), "{there} bytes to an address that only sent something on");
    let (address, session) = (world.node(near).address, world.session(far, near).unwrap());
    assert_eq!(world.node_mut(far).cores[0].shard.remote_of(session), Some(address));
}

/// Somebody on the way sends a copy of the packet that confirms the keys ahead of the original: it proves nothing of the caller's
/// address, which is asked then, and gets all that is meant for it.
/// spec: atp/own-path
#[test]
fn a_confirmation_that_is_overtaken_costs_a_question() {
    let mut world = World::from_seed(seed());
    let near = world.add_node();
    let far = world.add_node();
    let is_sealed = |bytes: &[u8]| bytes[0] & 0x80 != 0;
    world.link(near, far).record().drop_if(is_sealed);
    world.send(near, far, b"who is there?");
    world.run_for(millis(100));
    let copy = world.link(near, far).take_recorded().into_iter().find(|bytes| is_sealed(bytes));
    world.inject(far, "11.0.0.1:4000".parse().unwrap(), &copy.expect("the caller confirmed"));
    world.run_for(millis(1));
    world.link(near, far).drop_no_more();
    for n in 0..20u8 {
        world.send(far, near, &[n; 100_000]);
    }
    assert!(world.run_until(seconds(5), World::is_settled), "{} open", world.ledger().open());
    assert_eq!(world.received(near).len(), 20);
    assert_eq!(roamed(&world, far), 0);
}
