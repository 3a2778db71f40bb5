//! Nodes talk: every operation over a real session, and a network that finds itself from one address.

use dunlin_codec::args::{Ack, Request};
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::transmission::Compression;
use dunlin_shards::dht::space::Space;
use dunlin_shards::event::Ticket;
use dunlin_shards::limits::{NOTICES_WAITING_MAX, REQUEST_TIMEOUT};
use dunlin_shards::messages::conversation::{Fact, Methods};
use dunlin_shards::neighbours::Notice;
use dunlin_shards::note::Note;
use dunlin_shards::outcome::{Farewell, Outcome};
use dunlin_tests::{NodeIndex, World};

use crate::{millis, seconds, seed};

/// The name that worlds give to joining.
const JOINED: Ticket = Ticket(u64::MAX >> 1);

fn talking_pair(world: &mut World) -> (NodeIndex, NodeIndex) {
    let (near, far) = world.add_pair();
    for node in [near, far] {
        world.talk(node, |terms| {
            terms.reads = Methods::ALL;
            terms.prefers = Some(Compression::Zlib);
        });
    }
    world.join_network(near, far);
    world.run_for(seconds(1));
    (near, far)
}

fn ask(world: &mut World, (from, to): (NodeIndex, NodeIndex), ticket: u64, request: &Request<'_>) {
    let peer = world.id(to);
    world.ask((from, peer), ticket, request, REQUEST_TIMEOUT);
}

fn outcomes(world: &mut World, node: NodeIndex) -> Vec<(u64, Outcome)> {
    let notices = world.notices(node).into_iter();
    let of = |notice| match notice {
        Notice::Answered { ticket, result } if ticket != JOINED => {
            Some((ticket.0, result.expect("it was asked")))
        }
        _ => None,
    };
    notices.filter_map(of).collect()
}

/// Two nodes that were told of each other's address meet, know each other, and answer whatever they are asked.
/// spec: p2p/neighbours, p2p/operations
#[test]
fn two_nodes_exchange_each_operation() {
    let mut world = World::from_seed(seed());
    let (near, far) = talking_pair(&mut world);
    let (near_id, far_id) = (world.id(near), world.id(far));
    for (node, peer) in [(near, far_id), (far, near_id)] {
        assert!(world.hub(node).table().expect("one shard has the hub").is_member(&peer));
        let notices = world.notices(node);
        assert!(notices.iter().any(|notice| matches!(notice, Notice::Met(id) if *id == peer)), "{notices:?}");
    }

    let long = [&[0xda, 0x20, 0x00][..], &b"words ".repeat(1_366)[..8_192]].concat();
    let value = Encoded::parse(&long).expect("a str of 8,192 bytes");
    let place = Space::place(&far_id);
    let requests = [
        Request::Ping,
        Request::Speak(value),
        Request::Whisper(value),
        Request::FindNode(place),
        Request::Custom(value),
    ];
    for (ticket, request) in requests.iter().enumerate() {
        ask(&mut world, (near, far), ticket as u64, request);
    }
    world.run_for(seconds(1));
    let heard = world.notices(far);
    let told = heard.iter().filter(|notice| {
        matches!(notice, Notice::Heard { peer, fact: Fact::Told { payload, .. } } if *peer == near_id && **payload == *long)
    });
    assert_eq!(told.count(), 2, "{heard:?}");
    let asked = heard.iter().find_map(|notice| match notice {
        Notice::Asked { session, request, value, .. } => Some((*session, *request, value.clone())),
        _ => None,
    });
    let (session, request, payload) = asked.expect("CUSTOM is the application's");
    assert_eq!(*payload, *long);
    let value = Encoded::NIL.bytes().into();
    world.tell(far, Note::Reply { session, request, is_ack: true, value });
    world.run_for(seconds(1));

    let outcomes = outcomes(&mut world, near);
    assert_eq!(outcomes.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let acks: Vec<Ack<'_>> = outcomes.iter().map(|(_, outcome)| outcome.ack().expect("yes")).collect();
    assert_eq!(acks[0], Ack::Plain(Operation::Ping));
    assert_eq!(acks[1], Ack::Plain(Operation::Speak));
    assert!(matches!(acks[2], Ack::Whisper(_)));
    assert!(matches!(acks[3], Ack::Nodes(nodes) if nodes.iter().map(|node| node.fields.key).eq([far_id])));
    assert_eq!(acks[4], Ack::Custom(Encoded::NIL));
    world.assert_nothing_lost();
}

/// Two networks: both are told why, and the session ends on both sides.
/// spec: p2p/connection-options
#[test]
fn two_networks_part() {
    let mut world = World::from_seed(seed());
    let (near, far) = world.add_pair();
    world.talk(near, |_| {});
    world.talk(far, |terms| terms.constants.links = 4);
    world.join_network(near, far);
    world.run_for(seconds(10));
    for node in [near, far] {
        let notices = world.notices(node);
        let is_parting = |notice: &&Notice| matches!(notice, Notice::Parted(_, Farewell::OTHER_NETWORK));
        assert_eq!(notices.iter().filter(is_parting).count(), 1, "{notices:?}");
        assert_eq!(world.table_count(node), 0);
        assert_eq!(world.open_sessions(node), 0);
    }
}

/// Thirty nodes, each of which knows the address of the first: every one finds every other, on links that lose and reorder.
/// Sessions that nobody uses any more end.
/// spec: p2p/neighbours, p2p/lookup
#[test]
fn thirty_nodes_find_each_other_from_one_address() {
    let mut world = World::from_seed(seed());
    let nodes: Vec<NodeIndex> = (0..30).map(|_| world.add_node()).collect();
    world.everywhere(|conditions| {
        conditions.loss_permille = 20;
        conditions.reorder_permille = 50;
        conditions.jitter = millis(5);
    });
    for node in &nodes {
        world.talk(*node, |_| {});
    }
    for node in &nodes[1..] {
        world.join_network(*node, nodes[0]);
        world.run_for(millis(200));
    }
    world.run_for(seconds(20));
    let mut searches = Vec::new();
    for from in &nodes {
        for to in nodes.iter().filter(|to| *to != from) {
            let id = world.id(*to);
            let number = searches.len() as u64;
            world.search(*from, number, Space::place(&id));
            searches.push((*from, Ticket(number), id));
        }
    }
    world.run_for(seconds(30));
    let mut found = std::collections::BTreeMap::new();
    for node in &nodes {
        for notice in world.notices(*node) {
            if let Notice::Found { ticket, nodes, .. } = notice {
                let nodes = nodes.expect("thirty are few enough");
                found.insert((*node, ticket), nodes.first().map(|heard| heard.id()));
            }
        }
    }
    for (from, search, id) in searches {
        assert_eq!(found.get(&(from, search)), Some(&Some(id)), "{from:?} looks for {id}");
    }
    // Whoever opened one closes it after 30 s, but for links; where two called each other at once, it ends as idle. A node
    // whose bucket is full tries one of those that wait from time to time.
    world.run_for(seconds(200));
    let sessions: usize = nodes.iter().map(|node| world.open_sessions(*node)).sum();
    let links: usize = nodes.iter().map(|node| world.hub(*node).known().links().len()).sum();
    assert!(sessions <= 2 * links + 2 * nodes.len(), "{sessions} sessions are left, {links} links");
}

/// All join at the same instant and call each other at once, on links that lose; where two sessions become one, what was
/// asked is answered all the same or asked again.
/// spec: p2p/neighbours
#[test]
fn a_crowd_joins_at_once() {
    let mut world = World::from_seed(seed());
    let nodes: Vec<NodeIndex> = (0..12).map(|_| world.add_node()).collect();
    world.everywhere(|conditions| {
        conditions.loss_permille = 50;
        conditions.jitter = millis(20);
    });
    nodes.iter().for_each(|node| world.talk(*node, |_| {}));
    nodes[1..].iter().for_each(|node| world.join_network(*node, nodes[0]));
    world.run_for(seconds(20));
    for node in &nodes {
        assert_eq!(world.table_count(*node), nodes.len() - 1, "{node:?} knows all others");
    }
}

/// A peer that restarts is met again, and asked again.
/// spec: p2p/neighbours
#[test]
fn a_peer_that_restarts_is_met_again() {
    let mut world = World::from_seed(seed());
    let (near, far) = talking_pair(&mut world);
    world.restart(far);
    world.talk(far, |_| {});
    let place = Space::place(&world.id(far));
    world.search(near, 1, place);
    world.run_for(seconds(60));
    let is_end = |notice: &Notice| matches!(notice, Notice::Found { ticket: Ticket(1), .. });
    assert!(world.notices(near).iter().any(is_end), "a search ends, whatever became of the session");
    world.search(near, 2, place);
    world.run_for(seconds(60));
    let far_id = world.id(far);
    let found = world.notices(near).into_iter().find_map(|notice| match notice {
        Notice::Found { ticket: Ticket(2), nodes, .. } => nodes,
        _ => None,
    });
    assert_eq!(found.expect("it ended")[0].id(), far_id);
}

/// An application that does not read keeps a bounded number of words; the node goes on.
/// spec: p2p/neighbours
#[test]
fn words_that_nobody_reads_are_bounded() {
    let mut world = World::from_seed(seed());
    let (near, far) = talking_pair(&mut world);
    world.notices(far);
    world.reads_notices = false;
    let word = Encoded::parse(&[0xa1, b'w']).expect("a str");
    let count = NOTICES_WAITING_MAX + 904;
    for ticket in 0..count as u64 {
        ask(&mut world, (near, far), ticket, &Request::Speak(word));
        if ticket % 100 == 99 {
            world.run_for(millis(200));
        }
    }
    world.run_for(seconds(1));
    assert_eq!(world.unread(far), 904);
    assert_eq!(world.notices(far).len(), NOTICES_WAITING_MAX);
    assert!(outcomes(&mut world, near).iter().all(|(_, outcome)| outcome.ack().is_some()));
}

/// Sessions on which nothing is under way cost a shard nothing: it is not even woken for them.
/// spec: p2p/neighbours
#[test]
fn a_quiet_shard_is_left_alone() {
    let mut world = World::from_seed(seed());
    let settings = dunlin_tests::node::NodeSettings { shards: 2, ..Default::default() };
    let nodes = crate::network::crowd(&mut world, 6, &settings);
    world.run_for(seconds(120));
    let is_quiet = |world: &World, node: &NodeIndex| {
        let core = &world.node(*node).cores[1];
        core.neighbours.as_ref().is_some_and(|neighbours| neighbours.poll_timeout().is_none())
    };
    let quiet = world.run_until(seconds(60), |world| nodes.iter().all(|node| is_quiet(world, node)));
    assert!(quiet, "some shard still looks at its clock every second");
    let sessions: usize = nodes.iter().map(|node| world.node(*node).cores[1].shard.sessions()).sum();
    assert!(sessions > 0, "and there are sessions");
    // A question that is not answered still ends in time.
    let (from, to) = (nodes[1], nodes[2]);
    drop(world.notices(from));
    world.crash(to);
    ask(&mut world, (from, to), 5, &Request::Ping);
    world.run_for(seconds(20));
    let ended = world.notices(from);
    let is_end = |notice: &Notice| matches!(notice, Notice::Answered { ticket: Ticket(5), .. });
    assert!(ended.iter().any(is_end), "{ended:?}");
}
