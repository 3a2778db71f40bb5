//! The roll: a node that knows one other of its network finds those that it links to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use dunlin_codec::args::RollKey;
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::record::Key;
use dunlin_shards::dht::contact::Contact;
use dunlin_shards::dht::known::LinkSource;
use dunlin_shards::dht::space::Space;
use dunlin_shards::dht::values::address;
use dunlin_shards::dht::values::roll::{key_bytes, subnet_hash};
use dunlin_shards::identity::Identity;
use dunlin_shards::messages::conversation::{Constants, Terms};
use dunlin_shards::time::WallMillis;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, seconds, seed};

/// Links that a node opens.
const LINKS: usize = 8;
const OPEN: usize = 50;
const SHUT: usize = 50;
const NEWCOMERS: usize = 20;
/// Milliseconds since 1970 when a world begins.
const WALL_BEGIN: u64 = 1_760_000_000_000;

fn add(world: &mut World, address: [u8; 4], is_open: bool) -> NodeIndex {
    let address = SocketAddr::from((address, 7117));
    let node = world.add_node_at(NodeSettings::default(), address);
    world.talk_at(node, is_open.then_some(address).into_iter().collect(), |_| {});
    node
}

/// A hundred nodes, each in a network of its own; half of them, those at the end, can only initiate.
fn town(world: &mut World) -> Vec<NodeIndex> {
    world.keeps_received = false;
    let mut chance = world.split_chance();
    let mut nodes = Vec::new();
    for at in 0..OPEN + SHUT {
        let node = add(world, [20, at as u8, 7, 1], at < OPEN);
        if at > 0 {
            world.join_network(node, nodes[chance.below(at.min(OPEN) as u64) as usize]);
        }
        nodes.push(node);
        world.run_for(millis(100));
    }
    world.run_for(seconds(120));
    nodes
}

/// Nodes that come, and know the first of the others alone.
fn newcomers(world: &mut World, nodes: &[NodeIndex]) -> Vec<NodeIndex> {
    let mut come = Vec::new();
    for at in 0..NEWCOMERS {
        let node = add(world, [60, at as u8, 7, 1], false);
        world.join_network(node, nodes[0]);
        world.run_for(millis(500));
        come.push(node);
    }
    world.run_for(seconds(30));
    come
}

fn links(world: &World, node: NodeIndex) -> Vec<(NodeId, LinkSource)> {
    let known = world.hub(node).known();
    known.links().iter().copied().zip(known.link_sources().iter().copied()).collect()
}

/// To how many of these nodes each other has links.
fn shares(world: &World, from: &[NodeIndex]) -> BTreeMap<NodeId, usize> {
    let mut shares = BTreeMap::new();
    let links = from.iter().flat_map(|node| links(world, *node));
    links.for_each(|(peer, _)| *shares.entry(peer).or_default() += 1);
    shares
}

/// The nodes that can be reached, those closest to the place of the roll first.
fn holders(world: &World, nodes: &[NodeIndex]) -> Vec<NodeIndex> {
    let network = world.network_of(nodes[0]);
    let terms = Terms::new(world.id(nodes[0]), network, Constants::default(), "a world").expect("good ones");
    let key = key_bytes(RollKey::All, &subnet_hash(&terms.subnet()));
    let place = address(&Key::parse(&key).expect("a value").expect("a key"));
    let mut holders = nodes[..OPEN].to_vec();
    holders.sort_by_key(|node| Space::new(256).distance(&place, &Space::place(&world.id(*node))));
    holders.truncate(16);
    holders
}

/// Half of a hundred nodes can only initiate. Whoever comes and knows one of the others has all its links from the roll, to
/// nodes that take calls, and no node has much more than its share of them.
/// spec: p2p/enrolment, p2p/roll
#[test]
fn newcomers_find_their_links_in_the_roll() {
    let mut world = World::from_seed(seed());
    let nodes = town(&mut world);
    let come = newcomers(&mut world, &nodes);
    let open: BTreeSet<NodeId> = nodes[..OPEN].iter().map(|node| world.id(*node)).collect();
    for node in &come {
        let links = links(&world, *node);
        assert_eq!(links.len(), LINKS, "{node:?}");
        assert!(links.iter().all(|(_, source)| *source == LinkSource::Roll), "{node:?}: {links:?}");
        assert!(links.iter().all(|(peer, _)| open.contains(peer)), "{node:?} links to one that takes calls");
    }
    let shares = shares(&world, &come);
    let most = shares.values().max().copied().unwrap_or(0);
    println!("{} links to {} of {OPEN} nodes, {most} to one at most", NEWCOMERS * LINKS, shares.len());
    assert!(4 * shares.len() >= 3 * OPEN, "to {} of {OPEN} nodes", shares.len());
    assert!(most <= 4 * (NEWCOMERS * LINKS).div_ceil(OPEN), "{most} links to one node");
}

/// A node that was cut off from all but one of the others has lost its links to them, and they are gone; those that came
/// meanwhile never told it. Its table has nobody to link to: it calls the roll, and has links again.
/// spec: p2p/enrolment
#[test]
fn lost_links_are_made_good_from_the_roll() {
    let mut world = World::from_seed(seed());
    let address = |at: u8| [20, at, 7, 1];
    let nodes: Vec<NodeIndex> = (0..6).map(|at| add(&mut world, address(at), true)).collect();
    let lone = add(&mut world, address(20), false);
    for node in nodes[1..].iter().chain([&lone]) {
        world.join_network(*node, nodes[0]);
        world.run_for(millis(100));
    }
    world.run_for(seconds(120));
    assert_eq!(links(&world, lone).len(), nodes.len(), "to all that there are");
    let later: Vec<NodeIndex> = (6..9).map(|at| add(&mut world, address(at), true)).collect();
    let set_cut = |world: &mut World, is_cut| {
        nodes[1..].iter().chain(&later).for_each(|other| {
            world.set_cut(lone, *other, is_cut);
        });
    };
    set_cut(&mut world, true);
    later.iter().for_each(|node| world.join_network(*node, nodes[0]));
    world.run_for(seconds(300));
    assert_eq!(links(&world, lone).len(), 1);
    set_cut(&mut world, false);
    nodes[1..].iter().for_each(|node| world.crash(*node));
    world.run_for(seconds(600));
    let alive: BTreeSet<NodeId> = nodes[..1].iter().chain(&later).map(|node| world.id(*node)).collect();
    let links = links(&world, lone);
    assert_eq!(links.iter().map(|(peer, _)| *peer).collect::<BTreeSet<_>>(), alive);
}

/// Four of the sixteen holders tell of records that are forged, over, or another network's, and of nodes that are not there.
/// Whoever comes still has all its links, and none of them to those.
/// spec: p2p/roll-call, p2p/enrolment
#[test]
fn holders_that_lie_cost_no_links() {
    let mut world = World::from_seed(seed());
    let nodes = town(&mut world);
    let (network, made) =
        (world.network_of(nodes[0]), WallMillis(WALL_BEGIN + world.now().as_millis() as u64));
    let record = |number: u8, network: Network, made: WallMillis| {
        let endpoints = [SocketAddr::from(([90, number, 7, 1], 7117))];
        let contact = Contact::sign(&Identity::from_seed([number; 32]), &network, (made.0, made), &endpoints);
        contact.bytes().to_vec()
    };
    let forged = |number: u8| {
        let mut bytes = record(number, network, made);
        *bytes.last_mut().expect("a record") ^= 1;
        bytes
    };
    let lies: [Vec<Vec<u8>>; 4] = [
        (0..16).map(forged).collect(),
        (16..32).map(|number| record(number, network, WallMillis(made.0 - 25 * 3_600_000))).collect(),
        (32..48).map(|number| record(number, Network([9; 32]), made)).collect(),
        (48..64).map(|number| record(number, network, made)).collect(),
    ];
    let holders = holders(&world, &nodes);
    for (node, lie) in holders.iter().step_by(4).zip(lies) {
        world.have_lie_about_roll(*node, lie);
    }
    let come = newcomers(&mut world, &nodes);
    let open: BTreeSet<NodeId> = nodes[..OPEN].iter().map(|node| world.id(*node)).collect();
    let mut of_roll = 0;
    for node in &come {
        let links = links(&world, *node);
        assert_eq!(links.len(), LINKS, "{node:?}");
        assert!(links.iter().all(|(peer, _)| open.contains(peer)), "{node:?}: {links:?}");
        of_roll += links.iter().filter(|(_, source)| *source == LinkSource::Roll).count();
    }
    assert!(10 * of_roll >= 9 * NEWCOMERS * LINKS, "{of_roll} of {}", NEWCOMERS * LINKS);
}
