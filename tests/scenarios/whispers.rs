//! Whispers to nodes with whom there is no session: from node to node, read by nobody on the way, acknowledged by the end.

use std::sync::Arc;

use dunlin_codec::args::{Ack, Request};
use dunlin_codec::bytes::Reader;
use dunlin_codec::ids::{NodeId, SessionId};
use dunlin_codec::message::{Freshness, HOPS_MAX, Operation, Signed, SignedHeader};
use dunlin_codec::msgpack::Encoded;
use dunlin_shards::dht::space::Space;
use dunlin_shards::event::Ticket;
use dunlin_shards::gossip::{Brought, message_id, sign};
use dunlin_shards::identity::Identity;
use dunlin_shards::messages::conversation::{Fact, Terms};
use dunlin_shards::messages::sealing;
use dunlin_shards::neighbours::Notice;
use dunlin_shards::note::Note;
use dunlin_shards::outcome::Outcome;
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::crypto::{Crypto, TAG_LEN};
use dunlin_tests::{NodeIndex, World};

use crate::{millis, seconds, seed};

/// The str "secret".
const SECRET: &[u8] = b"\xa6secret";
/// Milliseconds since 1970 when a world begins.
const WALL_BEGIN: u64 = 1_760_000_000_000;

/// Few links and small buckets, so that most nodes have no session with most others.
fn sparse(terms: &mut Terms) {
    terms.constants.links = 1;
    terms.constants.replication = 2;
    terms.constants.parallel = 1;
}

/// All can be reached; one of them has announced its next key.
fn keyed_village(world: &mut World, count: usize, keyed: usize) -> Vec<NodeIndex> {
    let nodes: Vec<NodeIndex> = (0..count).map(|_| world.add_node()).collect();
    world.announce_next_key(nodes[keyed]);
    settle(world, &nodes, 0);
    nodes
}

fn village(world: &mut World, count: usize, shut: usize) -> Vec<NodeIndex> {
    let nodes: Vec<NodeIndex> = (0..count).map(|_| world.add_node()).collect();
    settle(world, &nodes, shut);
    nodes
}

/// All of them talk; the last can only initiate.
fn settle(world: &mut World, nodes: &[NodeIndex], shut: usize) {
    let count = nodes.len();
    let (open, shut) = nodes.split_at(count - shut);
    open.iter().for_each(|node| world.talk(*node, sparse));
    shut.iter().for_each(|node| world.talk_at(*node, Vec::new(), sparse));
    for node in &nodes[1..] {
        world.join_network(*node, nodes[0]);
        world.run_for(millis(100));
    }
    // Sessions that nobody uses are gone after 30 s.
    world.run_for(seconds(200));
    nodes.iter().for_each(|node| drop(world.notices(*node)));
}

fn whisper(world: &mut World, (from, to): (NodeIndex, NodeIndex), ticket: u64) {
    let (peer, value) = (world.id(to), Encoded::parse(SECRET).expect("a str"));
    world.ask((from, peer), ticket, &Request::Whisper(value), seconds(5));
}

/// Who whispered to a node.
fn whispered(world: &mut World, node: NodeIndex) -> Vec<NodeId> {
    let heard = world.notices(node).into_iter().filter_map(|notice| match notice {
        Notice::Heard { peer, fact: Fact::Told { operation: Operation::Whisper, payload } } => {
            assert_eq!(&*payload, SECRET);
            Some(peer)
        }
        _ => None,
    });
    heard.collect()
}

fn answer(world: &mut World, node: NodeIndex, ticket: u64) -> Option<Outcome> {
    world.notices(node).into_iter().find_map(|notice| match notice {
        Notice::Answered { ticket: Ticket(of), result } if of == ticket => Some(result.expect("it left")),
        _ => None,
    })
}

/// Where buckets are full a whisper goes from node to node: it arrives, nobody on the way hears it, its sender is told so by
/// the recipient, and the two have no session afterwards.
/// spec: p2p/relayed-whisper
#[test]
fn where_buckets_are_full_a_whisper_goes_from_node_to_node() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, 24, 0);
    let mut relayed = 0;
    for (at, from) in nodes.iter().enumerate() {
        let to = nodes[(at + 7) % nodes.len()];
        let table = world.hub(*from).table().expect("one shard has the hub");
        let is_strange = table.is_full() && !table.is_member(&world.id(to));
        whisper(&mut world, (*from, to), 5);
        world.run_for(seconds(6));
        assert_eq!(whispered(&mut world, to), [world.id(*from)], "{from:?} to {to:?}");
        let outcome = answer(&mut world, *from, 5).expect("it ended");
        assert!(matches!(outcome.ack(), Some(Ack::Whisper(_))), "{outcome:?}");
        for other in nodes.iter().filter(|other| **other != to) {
            assert!(whispered(&mut world, *other).is_empty(), "{other:?} hears nothing");
        }
        relayed += u64::from(is_strange);
    }
    assert!(relayed >= 3, "{relayed} went from node to node");
}

/// One that takes no calls, and of which nobody is told, is reached through a node that has a session with it.
/// spec: p2p/relayed-whisper
#[test]
fn a_node_that_can_only_initiate_is_reached_through_others() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, 24, 12);
    let (open, shut) = nodes.split_at(12);
    let space = Space::new(256);
    let mut reached = 0;
    for to in shut {
        let id = world.id(*to);
        let distance = |node: &NodeId| space.distance(&Space::place(&id), &Space::place(node));
        let links = world.hub(*to).known().links().to_vec();
        // The way ends at the open node that is closest to it: it must know it.
        let nearest = open.iter().map(|node| world.id(*node)).min_by_key(distance);
        if !nearest.is_some_and(|nearest| links.contains(&nearest)) {
            continue;
        }
        let Some(from) = open.iter().find(|node| !links.contains(&world.id(**node))) else { continue };
        whisper(&mut world, (*from, *to), 5);
        world.run_for(seconds(20));
        assert_eq!(whispered(&mut world, *to), [world.id(*from)], "{from:?} to {to:?}");
        assert!(answer(&mut world, *from, 5).expect("it ended").ack().is_some());
        reached += 1;
    }
    assert!(reached > 0, "the seed has such a pair");
}

/// A sealed letter of somebody who is no node here.
fn letter(world: &World, (node, to): (NodeIndex, NodeIndex), count: u64) -> Box<[u8]> {
    let identity = Identity::from_seed([88; 32]);
    let (network, recipient) = (world.network_of(node), world.id(to));
    let header = SignedHeader {
        operation: Operation::Whisper,
        is_sealed: true,
        from: identity.id(),
        to: recipient,
        freshness: Some(Freshness {
            time_ms: WALL_BEGIN + world.now().as_millis() as u64,
            instance: 3,
            count,
        }),
    };
    let mut payload = [&[0; sealing::FRONT_LEN][..], SECRET, &[0; TAG_LEN]].concat();
    let (pair, public) = (AwsLc::static_pair(&identity), AwsLc::public_of(&recipient).expect("a node's key"));
    let ephemeral = zeroize::Zeroizing::new([count as u8; 32]);
    sealing::seal::<AwsLc>(&pair, public, (&header, &network), ephemeral, &mut payload);
    sign(&identity, &network, &header, &payload)
}

fn bring(world: &mut World, node: NodeIndex, hops: u8, message: &[u8]) {
    let signed = Signed::parse(&mut Reader::new(message)).expect("a message");
    let id = message_id(&world.network_of(node), &signed);
    let (session, peer) = (SessionId(0x80ff_ffff), NodeId([3; 32]));
    let brought = Brought { session, peer, hops, id, message: message.into() };
    world.tell(node, Note::Letter(Box::new(brought)));
    world.run_for(seconds(3));
}

/// A letter that went its way is not passed on; one that comes again is not heard again, not even when relays have forgotten it
/// or its time has come anew; a changed one is not heard at all.
/// spec: p2p/relayed-whisper
#[test]
fn letters_end_are_heard_once_and_cannot_be_changed() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, 12, 0);
    let (relay, to) = (nodes[3], nodes[9]);
    let tired = letter(&world, (relay, to), 1);
    bring(&mut world, relay, HOPS_MAX, &tired);
    assert!(whispered(&mut world, to).is_empty(), "it went {HOPS_MAX} times before");

    let fresh = letter(&world, (relay, to), 2);
    bring(&mut world, relay, HOPS_MAX - 2, &fresh);
    let from = Identity::from_seed([88; 32]).id();
    assert_eq!(whispered(&mut world, to), [from]);
    for wait in [1, 40, 60, 200] {
        world.run_for(seconds(wait));
        bring(&mut world, relay, 0, &fresh);
        bring(&mut world, to, 0, &fresh);
        assert!(whispered(&mut world, to).is_empty(), "after {wait} s");
    }
    let good = letter(&world, (relay, to), 3);
    for at in [0, 63, 64 + 4 + 2 + 70, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        bring(&mut world, to, 0, &changed);
        assert!(whispered(&mut world, to).is_empty(), "byte {at}");
    }
    let other: Arc<[u8]> = letter(&world, (relay, relay), 4).into();
    bring(&mut world, to, 0, &other);
    assert!(whispered(&mut world, to).is_empty(), "it is for another");
}

/// What was whispered to a node's key while it changed is still on its way, or comes from somebody who has not heard of the
/// change: it is opened, whichever way it comes, and its sender is told so. So it is when the node starts under the new key.
/// spec: p2p/previous-letter
#[test]
fn whispers_to_the_key_before_arrive() {
    for is_running in [true, false] {
        let mut world = World::from_seed(seed());
        let nodes = keyed_village(&mut world, 24, 4);
        let (mut sealed, to) = (Vec::new(), nodes[4]);
        // Those are sealed before the change, and brought to nodes on the way after it.
        for count in 0..6 {
            sealed.push(letter(&world, (nodes[0], to), count));
        }
        let from = Identity::from_seed([88; 32]).id();
        // One is under way while the key changes.
        let asker = nodes[20];
        if is_running {
            whisper(&mut world, (asker, to), 5);
            world.rotate(to, seconds(0));
        } else {
            world.crash(to);
            world.rotate(to, seconds(0));
            world.start(to);
            world.talk(to, sparse);
            world.join_network(to, nodes[0]);
        }
        let mut heard = Vec::new();
        world.run_for(seconds(20));
        heard.extend(whispered(&mut world, to));
        for (relay, letter) in [to, nodes[2], nodes[9], nodes[12], nodes[17], nodes[22]].iter().zip(&sealed) {
            bring(&mut world, *relay, 0, letter);
        }
        world.run_for(seconds(10));
        heard.extend(whispered(&mut world, to));
        let strangers = heard.iter().filter(|peer| **peer == from).count();
        assert_eq!(strangers, sealed.len(), "{heard:?}");
        if is_running {
            assert!(heard.contains(&world.id(asker)), "it was under way: {heard:?}");
            assert!(answer(&mut world, asker, 5).expect("it ended").ack().is_some());
        }
    }
}

/// Nobody answers a letter to a node that is not there, and its sender is told so in time.
/// spec: p2p/relayed-whisper
#[test]
fn a_letter_to_nobody_runs_out() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, 12, 0);
    let value = Encoded::parse(SECRET).expect("a str");
    let nobody = Identity::from_seed([99; 32]).id();
    world.ask((nodes[2], nobody), 5, &Request::Whisper(value), seconds(5));
    world.run_for(seconds(30));
    let ended = world.notices(nodes[2]).into_iter().any(|notice| match notice {
        Notice::Answered { ticket: Ticket(5), result } => {
            assert!(!matches!(result, Ok(Outcome::Ack(_))), "{result:?}");
            true
        }
        _ => false,
    });
    assert!(ended, "it ended");
}
