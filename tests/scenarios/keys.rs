//! Nodes change their keys, while they run and before a start: peers and callers follow, thieves do not get far.

use dunlin_codec::args::{Ack, FindValue, Request, Roll, RollKey};
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::Operation;
use dunlin_codec::record::Key;
use dunlin_shards::dht::values::address;
use dunlin_shards::dht::values::decision::{Decided, Edit, What};
use dunlin_shards::dht::values::roll::{key_bytes, subnet_hash};
use dunlin_shards::event::{CloseReason, Event, Ticket};
use dunlin_shards::identity::Identity;
use dunlin_shards::identity::chain::News;
use dunlin_shards::identity::change::SignedChange;
use dunlin_shards::limits::{KEY_CHANGE_LIFE, PREVIOUS_KEY_LOOK_INTERVAL};
use dunlin_shards::messages::conversation::{Constants, Terms};
use dunlin_shards::neighbours::Notice;
use dunlin_shards::note::Note;
use dunlin_shards::outcome::Outcome;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::values::{Told, decide_wish, text};
use crate::{millis, seconds, seed};

const WORDS: u32 = 400;

fn settings(shards: usize) -> NodeSettings {
    let mut settings = NodeSettings { shards, ..NodeSettings::default() };
    // Sessions renew their secrets while the story runs: each under the key that it was begun with.
    settings.sessions.renew_after = seconds(20);
    settings
}

fn bad_weather(world: &mut World) {
    world.everywhere(|conditions| {
        conditions.loss_permille = 30;
        conditions.reorder_permille = 50;
        conditions.jitter = millis(5);
    });
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("stories here send numbers"))
}

fn is_connected(world: &World, node: NodeIndex, call: Ticket, key: NodeId) -> bool {
    world.count_events(
        node,
        |event| matches!(event, Event::Connected { ticket, peer, .. } if *ticket == call && *peer == key),
    ) == 1
}

fn is_unanswered(world: &World, node: NodeIndex, call: Ticket) -> bool {
    let is_it = |event: &Event| matches!(event, Event::ConnectFailed { ticket, reason: CloseReason::HandshakeTimeout, .. } if *ticket == call);
    world.count_events(node, is_it) == 1
}

/// Numbers cross in both directions, on links that lose and reorder, while the key changes; the session stays, renews its secrets
/// under the key that it was begun with, and nothing is lost. Callers of either key are answered, and what they open stands
/// beside it.
/// spec: p2p/own-key-change, p2p/previous-key
#[test]
fn a_key_changes_under_traffic() {
    for shards in [1, 3] {
        let mut world = World::from_seed(seed());
        let (near, far) = (world.add_node_with(settings(shards)), world.add_node_with(settings(shards)));
        let caller = world.add_node_with(settings(1));
        bad_weather(&mut world);
        world.announce_next_key(far);
        let old = world.id(far);
        world.join(near, far);
        let mut sent = Vec::new();
        let mut new = old;
        for word in 0..WORDS {
            sent.push(world.send_by_key(near, (far, old), &word.to_be_bytes()));
            sent.push(world.send(far, near, &word.to_be_bytes()));
            if word == WORDS / 4 {
                new = world.rotate(far, seconds(0)).identity.id();
                assert!(world.id(far) == new && new != old);
            }
            world.run_for(millis(300));
        }
        let calls = [old, new].map(|key| (world.connect_by_key(caller, (far, key)), key));
        world.run_for(seconds(30));
        for (call, key) in calls {
            assert!(is_connected(&world, caller, call, key), "{key} is answered");
        }
        assert!(world.stats(near).rehandshakes + world.stats(far).rehandshakes > 4, "secrets were renewed");
        for node in [near, far] {
            assert!(world.received(node).iter().map(|bytes| number(bytes)).eq(0..WORDS), "in order");
            assert_eq!(world.close_reasons(node), [], "nobody noticed");
        }
        assert_eq!(world.session_count(far), 3, "two of the caller's, which never became one");
        // And one to the new key, of whoever has one to the old.
        let call = world.connect_by_key(near, (far, new));
        world.run_for(seconds(10));
        assert!(is_connected(&world, near, call, new));
        assert_eq!((world.session_count(near), world.session_count(far)), (2, 4));
        assert!(sent.iter().all(|entry| world.delivered(*entry) == 1));
        world.assert_nothing_lost();
    }
}

/// A minute before the day is over Hellos to the old key are answered, a minute after it they are not; the key is forgotten with
/// the last session that was begun with it. The same for a node that was changed before its start.
/// spec: p2p/previous-key
#[test]
fn after_a_day_the_old_key_is_answered_no_more() {
    for (shards, is_running) in [(1, true), (3, true), (2, false)] {
        let mut world = World::from_seed(seed());
        let (near, far) = (world.add_node_with(settings(1)), world.add_node_with(settings(shards)));
        let callers = [world.add_node_with(settings(1)), world.add_node_with(settings(1))];
        bad_weather(&mut world);
        world.announce_next_key(far);
        let old = world.id(far);
        let ago = KEY_CHANGE_LIFE - seconds(120);
        if is_running {
            world.join(near, far);
            world.rotate(far, ago);
        } else {
            world.crash(far);
            world.rotate(far, ago);
            world.start(far);
            let call = world.connect_by_key(near, (far, old));
            world.run_for(seconds(20));
            assert!(is_connected(&world, near, call, old));
        }
        let new = world.id(far);
        let call = world.connect_by_key(callers[0], (far, old));
        world.run_for(seconds(60));
        assert!(is_connected(&world, callers[0], call, old), "there is a minute left");
        world.run_for(seconds(120));
        let late = world.connect_by_key(callers[1], (far, old));
        let right = world.connect_by_key(callers[1], (far, new));
        world.run_for(seconds(60));
        assert!(is_unanswered(&world, callers[1], late), "the day is over");
        assert!(is_connected(&world, callers[1], right, new));
        let kept = |world: &World| {
            world.node(far).cores.iter().map(|core| core.shard.previous_keys()).collect::<Vec<_>>()
        };
        // Whoever talks on goes on.
        let word = world.send_by_key(near, (far, old), &7_u32.to_be_bytes());
        world.run_for(seconds(10));
        assert_eq!(world.delivered(word), 1);
        assert!(kept(&world).contains(&1), "a session is left");
        world.crash(near);
        world.crash(callers[0]);
        world.run_for(PREVIOUS_KEY_LOOK_INTERVAL + PREVIOUS_KEY_LOOK_INTERVAL);
        assert_eq!(kept(&world), vec![0; shards]);
    }
}

/// A node answers Hellos to the newest four of the keys that it had.
/// spec: p2p/previous-key
#[test]
fn the_newest_four_keys_are_answered() {
    let mut world = World::from_seed(seed());
    let (near, far) = (world.add_node_with(settings(1)), world.add_node_with(settings(2)));
    world.announce_next_key(far);
    let mut keys = vec![world.id(far)];
    for _ in 0..5 {
        world.rotate(far, seconds(0));
        keys.push(world.id(far));
        world.run_for(seconds(1));
    }
    let calls: Vec<Ticket> = keys.iter().map(|key| world.connect_by_key(near, (far, *key))).collect();
    world.run_for(seconds(60));
    assert!(is_unanswered(&world, near, calls[0]));
    for (call, key) in calls[1..].iter().zip(&keys[1..]) {
        assert!(is_connected(&world, near, *call, *key), "{key}");
    }
}

/// What nodes heard of keys since they were asked last.
fn news(world: &mut World, nodes: &[NodeIndex]) -> Vec<Vec<News>> {
    let of = |notice| if let Notice::Key(news) = notice { Some(news) } else { None };
    nodes.iter().map(|node| world.notices(*node).into_iter().filter_map(of).collect()).collect()
}

fn say(world: &mut World, node: NodeIndex, change: &SignedChange) {
    let payload = change.payload();
    world.tell(node, Note::Broadcast { ticket: Ticket(1), operation: Operation::ChangeKey, payload });
    world.run_for(seconds(5));
}

/// Eight nodes of a network, on links that lose: the first has announced its next key, of which all know.
fn village(world: &mut World, shards: usize) -> Vec<NodeIndex> {
    let settings = NodeSettings { shards, ..NodeSettings::default() };
    let nodes: Vec<NodeIndex> = (0..8).map(|_| world.add_node_with(settings.clone())).collect();
    world.announce_next_key(nodes[0]);
    nodes.iter().for_each(|node| world.talk(*node, |_| {}));
    for node in &nodes[1..] {
        world.join_network(*node, nodes[0]);
        world.run_for(millis(100));
    }
    bad_weather(world);
    world.run_for(seconds(90));
    news(world, &nodes);
    nodes
}

/// A thief of the present key alone is followed by nobody. The change is followed once, by all, however often it is said. A thief
/// of the next key as well can only have the chain freeze, at every node that hears of both.
/// spec: p2p/own-key-change, p2p/key-chain
#[test]
fn thieves_and_parrots_get_nowhere() {
    for shards in [1, 3] {
        let mut world = World::from_seed(seed());
        let nodes = village(&mut world, shards);
        let (victim, thief) = (nodes[0], nodes[7]);
        let [present, next, after] = world.node(victim).keys().map(Identity::from_seed);
        let own = Identity::from_seed([77; 32]);
        let old = present.id();
        let time = world.wall(victim);

        let forged = SignedChange::sign((&present, &own), &own.id(), (1, time));
        say(&mut world, thief, &forged);
        assert!(news(&mut world, &nodes).iter().all(Vec::is_empty), "the key was not announced");

        let real = world.rotate(victim, seconds(0)).change;
        assert_eq!((real.change.new, real.change.index), (next.id(), 1));
        world.run_for(seconds(10));
        let followed = [News::Followed { old, new: next.id() }];
        let heard = news(&mut world, &nodes);
        assert!(heard[0].is_empty() && heard[1..].iter().all(|news| news[..] == followed), "{heard:?}");
        for _ in 0..3 {
            say(&mut world, thief, &real);
        }
        say(&mut world, nodes[3], &forged);
        assert!(news(&mut world, &nodes).iter().all(Vec::is_empty), "a replay is no news");

        let fork = SignedChange::sign((&present, &next), &own.id(), (1, time + 1));
        assert_ne!(after.id(), own.id());
        say(&mut world, thief, &fork);
        let heard = news(&mut world, &nodes);
        // The thief said it, and does not listen to itself.
        let is_frozen = |news: &Vec<News>| matches!(news[..], [News::Frozen(_)]);
        assert!(heard[1..7].iter().all(is_frozen), "{heard:?}");
        // Nobody of it is followed any more.
        let thiefs = SignedChange::sign((&next, &own), &after.id(), (2, time + 2));
        say(&mut world, thief, &thiefs);
        assert!(news(&mut world, &nodes).iter().all(Vec::is_empty));
    }
}

/// A node of the network changes its key while it runs, or before a start; whoever asks it by the old key is led to it, and one
/// that has only the old address and key as well.
/// spec: p2p/own-key-change, p2p/key-change
#[test]
fn askers_of_the_old_key_are_led_over() {
    for (shards, is_running) in [(1, true), (3, true), (2, false)] {
        let mut world = World::from_seed(seed());
        let nodes = village(&mut world, shards);
        let (moved, late) = (nodes[0], world.add_node());
        let old = world.id(moved);
        if is_running {
            world.rotate(moved, seconds(0));
        } else {
            world.crash(moved);
            world.rotate(moved, seconds(0));
            world.start(moved);
            world.talk(moved, |_| {});
            world.join_network(moved, nodes[1]);
        }
        let new = world.id(moved);
        world.run_for(seconds(60));
        world.talk(late, |_| {});
        let endpoint = world.public_address(moved);
        world.tell(late, Note::Join { ticket: Ticket(5), peer: old, endpoint });
        world.run_for(seconds(20));
        let askers = [&nodes[1..], &[late]].concat();
        for node in &askers {
            assert!(news(&mut world, &[*node])[0].contains(&News::Followed { old, new }), "{node:?}");
            let table = world.hub(*node).table().expect("it has the hub");
            assert!(table.is_member(&new) && !table.is_member(&old), "{node:?}");
            for (ticket, key) in [(7, old), (8, new)] {
                world.ask((*node, key), ticket, &Request::Ping, seconds(10));
            }
        }
        world.run_for(seconds(20));
        for node in &askers {
            let is_answer = |notice: &&Notice| matches!(notice, Notice::Answered { ticket: Ticket(7 | 8), result: Ok(outcome) } if outcome.ack().is_some());
            assert_eq!(world.notices(*node).iter().filter(is_answer).count(), 2, "{node:?}");
        }
    }
}

/// What a node decides after its change of key is its new key's word, also to holders that it talked to before.
/// spec: p2p/own-key-asks
#[test]
fn a_node_decides_under_its_new_key() {
    for shards in [1, 3] {
        let mut world = World::from_seed(seed());
        let nodes = village(&mut world, shards);
        let moved = nodes[0];
        let decide = |world: &mut World, ticket: u64| {
            let what = What::Set(text(&format!("value {ticket}")));
            let edit = Edit { key: text("k"), expected: None, what };
            world.decide(moved, ticket, decide_wish(&text("k"), vec![edit]));
            world.run_for(seconds(30));
            let mut told = Told::default();
            told.take(world, &[moved]);
            matches!(told.decided.pop_first(), Some((_, Ok(Decided::Done { .. }))))
        };
        assert!(decide(&mut world, 1));
        world.rotate(moved, seconds(0));
        assert!(decide(&mut world, 2), "under its new key");
    }
}

/// Whom some of a roll's holders tell of.
fn told_by(world: &mut World, asker: NodeIndex, holders: &[NodeIndex]) -> Vec<Vec<NodeId>> {
    let network = world.network_of(asker);
    let terms = Terms::new(world.id(asker), network, Constants::default(), "a world").expect("good ones");
    let bytes = key_bytes(RollKey::All, &subnet_hash(&terms.subnet()));
    let key = Key::parse(&bytes).expect("a value").expect("a key");
    let find = FindValue { address: address(&key), key };
    world.notices(asker);
    for holder in holders {
        let peer = world.id(*holder);
        world.ask((asker, peer), 100 + holder.0 as u64, &Request::FindValue(find), seconds(10));
    }
    world.run_for(millis(1_500));
    let notices = world.notices(asker);
    let ids = |outcome: &Outcome| match outcome.ack() {
        Some(Ack::Value(found)) => {
            Roll::parse(found.value).map(|roll| roll.iter().map(|record| record.fields.key).collect())
        }
        _ => Ok(Vec::new()),
    };
    let answers = notices.iter().filter_map(|notice| match notice {
        Notice::Answered { ticket: Ticket(100..), result: Ok(outcome) } => ids(outcome).ok(),
        _ => None,
    });
    answers.collect()
}

/// A running node that changes its key is in its network's roll under the new one within seconds, and nobody is told of the old
/// one any more. The same at the node itself, which holds the roll as well.
/// spec: p2p/enrolment, p2p/roll-list, p2p/own-key-change
#[test]
fn the_roll_follows_a_change_of_key() {
    for shards in [1, 3] {
        let mut world = World::from_seed(seed());
        let nodes = village(&mut world, shards);
        let (moved, asker) = (nodes[0], nodes[5]);
        let old = world.id(moved);
        let others: Vec<NodeIndex> = nodes.iter().copied().filter(|node| *node != asker).collect();
        let before = told_by(&mut world, asker, &others);
        assert!(before.len() >= 6 && before.iter().all(|told| told.contains(&old)), "{before:?}");
        let new = world.rotate(moved, seconds(0)).identity.id();
        world.run_for(seconds(8));
        let after = told_by(&mut world, asker, &others);
        assert!(after.len() >= 6, "{after:?}");
        for told in after {
            assert!(told.contains(&new) && !told.contains(&old), "{told:?} has {new} and not {old}");
        }
    }
}
