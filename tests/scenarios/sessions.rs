//! How sessions end, and how two become one.

use dunlin_shards::arq::sender::Outcome;
use dunlin_shards::event::{CloseReason, Event};
use dunlin_shards::limits::IDLE_TIMEOUT;
use dunlin_tests::World;
use dunlin_tests::ledger::Manner;
use dunlin_tests::lies::{self, Lie};
use dunlin_tests::nat::{Filtering, NatRules};
use dunlin_tests::node::NodeSettings;

use crate::{millis, plain_pair, seconds, seed};

/// Both call each other at the same moment: one session stays, and no message is lost, repeated or returned.
/// spec: atp/one-session
#[test]
fn simultaneous_open_ends_in_one_session() {
    for round in 0..200 {
        let mut world = World::from_seed(seed() * 1_000 + round);
        let shards = 1 + round as usize % 3;
        let settings = NodeSettings { shards, ..NodeSettings::default() };
        let near = world.add_node_with(settings.clone());
        let far = world.add_node_with(settings);
        world.everywhere(|conditions| {
            conditions.loss_permille = if round % 2 == 0 { 0 } else { 150 };
            conditions.jitter = millis(round % 7);
        });
        for n in 0..40u32 {
            world.send(near, far, &vec![n as u8; 500]);
            world.run_for(millis(round % 5));
            world.send(far, near, &vec![n as u8; 700]);
        }
        let is_done = world.run_until(seconds(60), |world| {
            world.is_settled() && world.session_count(near) == 1 && world.session_count(far) == 1
        });
        assert!(is_done, "round {round}: {} open", world.ledger().open());
        // The second one may come up to 30 s later, and the one that yields stays for 10 s.
        world.run_for(seconds(45));
        let sessions = |world: &World, node| -> usize {
            world.node(node).cores.iter().map(|core| core.shard.sessions()).sum()
        };
        assert_eq!((sessions(&world, near), sessions(&world, far)), (1, 1), "round {round}");
        for node in [near, far] {
            let numbers: Vec<u8> = world.received(node).iter().map(|message| message[0]).collect();
            assert_eq!(numbers, (0..40).collect::<Vec<u8>>(), "round {round}");
            assert_eq!(world.close_reasons(node), [], "round {round}");
        }
    }
}

#[test]
fn a_close_is_heard_by_both() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.send(near, far, b"before");
    world.run_for(millis(100));
    assert!(world.close(near, far));
    world.run_for(millis(20));
    assert_eq!(world.close_reasons(near), [CloseReason::Local]);
    assert!(matches!(world.close_reasons(far)[..], [CloseReason::Peer { code: 0, .. }]));
    world.run_for(seconds(5));
    assert_eq!(world.node(near).cores[0].shard.sessions(), 0);
    assert_eq!(world.node(far).cores[0].shard.sessions(), 0);
}

/// CLOSE is sent again to a peer that has not heard it and goes on.
#[test]
fn a_lost_close_is_said_again() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.link(near, far).drop_nth(1);
    world.close(near, far);
    world.run_for(millis(50));
    assert_eq!(world.close_reasons(far), []);
    let entry = world.send(far, near, b"too late");
    world.run_for(millis(50));
    assert!(matches!(world.close_reasons(far)[..], [CloseReason::Peer { .. }]));
    assert_eq!(world.outcome(entry), Some(Outcome::Abandoned));
}

/// A node that shuts down closes when everything was acknowledged, and not before.
#[test]
fn a_shutdown_drains_first() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.both(near, far, |conditions| conditions.rate = Some(10_000_000));
    for n in 0..20 {
        world.send(near, far, &vec![n; 100_000]);
    }
    world.shut_down(near);
    world.run_for(seconds(30));
    assert!(world.node(near).cores[0].shard.is_drained());
    // What the application had not handed over yet stays with it; all that the shard had taken has arrived.
    let taken = world.stats(near).messages_sent;
    assert!(taken > 1);
    assert_eq!(world.received(far).len() as u64, taken);
    assert!(matches!(world.close_reasons(far)[..], [CloseReason::Peer { code: 3, .. }]));
}

/// Whoever calls a node that shuts down is told to go at once: it does not keep the node from ending.
#[test]
fn who_calls_a_node_that_shuts_down_is_sent_away() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    let late = world.add_node();
    // What far acknowledges is slow to come: the node waits for it.
    world.both(near, far, |conditions| conditions.delay = millis(500));
    world.send(near, far, b"last words");
    world.shut_down(near);
    world.connect(late, near);
    world.run_for(seconds(20));
    assert!(world.node(near).cores[0].shard.is_drained());
    for node in [far, late] {
        assert!(matches!(world.close_reasons(node)[..], [CloseReason::Peer { code: 3, .. }]), "{node:?}");
    }
}

/// Nothing is heard: both ends give up, each by its own clock.
#[test]
fn a_silent_session_ends() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.run_for(IDLE_TIMEOUT - seconds(2));
    assert_eq!((world.session_count(near), world.session_count(far)), (1, 1));
    world.run_for(seconds(4));
    for node in [near, far] {
        assert_eq!(world.close_reasons(node), [CloseReason::Idle]);
        assert_eq!(world.node(node).cores[0].shard.sessions(), 0);
    }
}

/// A keepalive keeps it open, with at most one exchange in its interval (I14).
#[test]
fn a_keepalive_keeps_a_quiet_session() {
    let mut world = World::from_seed(seed());
    let mut settings = NodeSettings::default();
    settings.sessions.keepalive = Some(seconds(20));
    let near = world.add_node_with(settings);
    let far = world.add_node();
    world.join(near, far);
    let before = (world.stats(near).datagrams_out, world.stats(far).datagrams_out);
    world.run_for(seconds(3_000));
    assert_eq!((world.session_count(near), world.session_count(far)), (1, 1));
    let sent = (world.stats(near).datagrams_out - before.0, world.stats(far).datagrams_out - before.1);
    assert!((149..=180).contains(&sent.0) && sent.1 <= sent.0, "{sent:?} datagrams in 150 intervals");
}

/// A peer that owes an answer and is not there any more is given up long before the idle timeout.
#[test]
fn a_peer_that_stopped_answering_is_given_up() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.set_cut(near, far, true);
    let entry = world.send(near, far, b"anybody?");
    world.run_for(seconds(60));
    assert_eq!(world.close_reasons(near), [CloseReason::Unresponsive]);
    assert_eq!(world.outcome(entry), Some(Outcome::Abandoned));
}

/// A pause of 20 s costs one burst of probes, not one for each that was missed (I12).
#[test]
fn a_pause_costs_one_probe_burst() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.both(near, far, |conditions| conditions.rate = Some(20_000_000));
    for n in 0..20 {
        world.send(near, far, &vec![n; 50_000]);
    }
    world.run_for(millis(100));
    let before = world.stats(near).probe_timeouts;
    world.pause(near, seconds(20));
    world.run_for(seconds(20) + millis(5));
    assert!(world.stats(near).probe_timeouts <= before + 1);
    assert!(world.run_until(seconds(10), World::is_settled));
    assert_eq!(world.received(far).len(), 20);
}

/// An acknowledgement of a number that was skipped: the peer lies, and the session ends (T4).
/// spec: atp/false-ack
#[test]
fn a_false_acknowledgement_closes_the_session() {
    for lie in [lies::acknowledge_ahead as Lie, lies::acknowledge_gaps] {
        let mut world = World::from_seed(seed());
        let (near, far) = plain_pair(&mut world);
        world.node_mut(far).lie = Some(lie);
        world.node_mut(near).application.connects = false;
        for n in 0..50 {
            world.send(near, far, &vec![n; 20_000]);
        }
        world.run_for(seconds(10));
        assert_eq!(
            world.close_reasons(near),
            [CloseReason::Violation("an acknowledgement of what was never sent")]
        );
        assert!(matches!(world.close_reasons(far)[..], [CloseReason::Peer { code: 1, .. }]));
    }
}

/// What came whole in the same train as a violation is delivered, and before the application hears that the session is over.
#[test]
fn messages_before_a_violation_come_before_the_close() {
    const MARK: u8 = 0xee;
    fn spoil_the_marked(plain: &mut [u8]) {
        if plain.last() == Some(&MARK) {
            plain[0] = 0x3f;
        }
    }
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.node_mut(far).application.connects = false;
    world.node_mut(near).lie = Some(spoil_the_marked);
    world.send(near, far, &[1; 1_100]);
    world.send(near, far, &[MARK; 1_100]);
    world.run_for(seconds(2));
    assert_eq!(world.received(far), [vec![1; 1_100]]);
    let (last, before) = world.node(far).application.events.split_last().expect("it was told");
    assert!(
        matches!(&last.1, Event::Closed { reason: CloseReason::Violation(_), .. }),
        "{last:?} after {before:?}"
    );
}

/// Messages marked `once` go back to the application when their session dies; others may be sent again.
#[test]
fn messages_of_a_closed_session_come_back() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    world.set_cut(near, far, true);
    let entries: Vec<_> = (0..5u8).map(|n| world.send(near, far, &[n; 100])).collect();
    world.run_for(millis(1));
    world.close(near, far);
    world.run_for(seconds(5));
    for entry in entries {
        assert_eq!(world.outcome(entry), Some(Outcome::Abandoned));
    }
}

/// Round trips are told, and cost one packet each way.
#[test]
fn a_ping_tells_the_round_trip() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    assert!(world.ping(near, far));
    world.run_for(millis(100));
    let trips: Vec<_> = world
        .events(near)
        .filter_map(|event| match event {
            Event::Pong { round_trip, .. } => Some(*round_trip),
            _ => None,
        })
        .collect();
    assert_eq!(trips, [millis(10)]);
}

/// Messages of different channels, told apart at the other end.
#[test]
fn channels_are_told_apart() {
    let mut world = World::from_seed(seed());
    let (near, far) = plain_pair(&mut world);
    for channel in 16..80 {
        world.send_with(near, far, Manner::default().on(channel), &channel.to_be_bytes());
    }
    world.run_until_idle();
    assert_eq!(world.received(far).len(), 64);
    assert!(world.ledger().records().iter().all(|record| record.delivered == 1));
}

/// One end has forgotten a session that the other still has, for its patience is longer; a new call from the forgetful one is where both
/// go on, whoever has the lower key.
/// spec: atp/one-session
#[test]
fn a_new_call_does_not_end_in_a_session_that_the_caller_has_forgotten() {
    for caller_is_far in [false, true] {
        let mut world = World::from_seed(seed());
        let settings = |idle: u64| {
            let mut settings = NodeSettings::default();
            settings.sessions.datagram_max = 1_200;
            settings.sessions.idle_timeout = seconds(idle);
            settings
        };
        let (near, far) = (world.add_node_with(settings(10)), world.add_node_with(settings(60)));
        // Both orders of keys are tried.
        let (patient, forgetful) = (far, near);
        if caller_is_far {
            world.join(patient, forgetful)
        } else {
            world.join(forgetful, patient)
        }
        world.run_for(seconds(15));
        assert_eq!((world.session_count(forgetful), world.session_count(patient)), (0, 1));
        let there = world.send(forgetful, patient, &[1; 3_000]);
        world.run_for(millis(30));
        let back = world.send(patient, forgetful, &[2; 3_000]);
        world.run_for(seconds(4));
        assert_eq!((world.delivered(there), world.delivered(back)), (1, 1));
        world.run_for(seconds(25));
        let held = |node| world.node(node).cores[0].shard.sessions();
        assert_eq!((held(near), held(far)), (world.session_count(near), world.session_count(far)));
    }
}

/// Many calls at once over links that lose: whichever word of which session goes is lost, one stays, at both ends the same.
/// spec: atp/one-session
#[test]
fn a_storm_of_calls_ends_in_one_session_whatever_is_lost() {
    for round in 0..100 {
        let mut world = World::from_seed(seed() * 1_000 + round);
        let mut settings = NodeSettings::default();
        settings.sessions.keepalive = Some(seconds(4)).filter(|_| round % 2 == 0);
        let near = world.add_node_with(settings);
        let far = world.add_node();
        world.join(near, far);
        world.everywhere(|conditions| {
            conditions.loss_permille = 300;
            conditions.jitter = millis(round % 7);
        });
        let (from, to) = if round % 3 == 0 { (far, near) } else { (near, far) };
        for _ in 0..6 {
            world.connect(from, to);
        }
        world.run_for(millis(900));
        world.everywhere(|conditions| conditions.loss_permille = 0);
        let entries = [world.send(near, far, &[1; 100]), world.send(far, near, &[2; 100])];
        world.run_for(seconds(45));
        assert_eq!((world.session_count(near), world.session_count(far)), (1, 1), "round {round}");
        for (node, entry) in [near, far].into_iter().zip(entries) {
            assert_eq!(world.node(node).cores[0].shard.sessions(), 1, "round {round}");
            assert_eq!(world.outcome(entry), Some(Outcome::Acked), "round {round}");
        }
    }
}

/// Whoever is at an address may be the caller, which knows itself by its name alone when a NAT turns its datagrams round.
/// spec: atp/identity
#[test]
fn a_node_that_calls_its_own_address_is_told() {
    let mut world = World::from_seed(seed());
    let nat = world.add_nat(NatRules {
        is_dependent: false,
        filtering: Filtering::Anyone,
        life: seconds(30),
        hairpin: true,
    });
    let near = world.add_node();
    world.put_behind(near, nat);
    let far = world.add_node();
    world.join(near, far);
    world.connect_unknown(near, near);
    world.run_for(seconds(1));
    let is_refused =
        |event: &Event| matches!(event, Event::ConnectFailed { reason: CloseReason::WrongIdentity, .. });
    assert_eq!(world.count_events(near, is_refused), 1);
    assert_eq!(world.session_count(near), 1);
}
