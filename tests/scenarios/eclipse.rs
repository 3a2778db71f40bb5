//! An eclipse of a real node: somebody with a hundred addresses in ten /24 networks and very many keys (T9).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use dunlin_codec::ids::NodeId;
use dunlin_shards::dht::contact::Contact;
use dunlin_shards::dht::space::Space;
use dunlin_shards::event::Ticket;
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::PREFIX_TABLE_MAX;
use dunlin_shards::neighbours::Notice;
use dunlin_shards::note::Note;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, seconds, seed};

const HONEST: usize = 120;
const ADDRESSES: usize = 100;
const NETWORKS: usize = 10;
const KEYS: u32 = 20_000;

/// What makes a key of the attacker.
fn drawn(number: u32) -> [u8; 32] {
    let mut seed = [0xee; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    seed
}

/// The attacker's keys that are closest to a node, one for each of its addresses.
fn ground(victim: NodeId) -> Vec<[u8; 32]> {
    let space = Space::new(256);
    let place = Space::place(&victim);
    let distance = |seed: &[u8; 32]| space.distance(&place, &Space::place(&Identity::from_seed(*seed).id()));
    let mut keys: Vec<_> = (0..KEYS).map(drawn).map(|seed| (distance(&seed), seed)).collect();
    keys.sort();
    keys.into_iter().take(ADDRESSES).map(|(_, seed)| seed).collect()
}

fn add(world: &mut World, settings: NodeSettings, address: [u8; 4]) -> NodeIndex {
    let node = world.add_node_at(settings, SocketAddr::from((address, 7117)));
    world.talk(node, |_| {});
    node
}

/// Who is in a node's table and answers, by id, with its /24.
fn members(world: &World, node: NodeIndex) -> BTreeMap<NodeId, [u8; 3]> {
    let own = world.id(node);
    let others = world.hub(node).known().iter().filter(|contact| contact.id() != own);
    let network = |contact: &Contact| match contact.endpoint().map(|endpoint| endpoint.ip()) {
        Some(IpAddr::V4(ip)) => [ip.octets()[0], ip.octets()[1], ip.octets()[2]],
        other => panic!("{other:?}"),
    };
    others.map(|contact| (contact.id(), network(contact))).collect()
}

/// A hundred nodes of an attacker crowd around one honest node, and tell of each other alone. No honest node loses one that
/// it knew and that answers, none has more than ten of a /24, and the besieged node is found by all others.
/// spec: p2p/lookup, p2p/table
#[test]
fn a_besieged_node_is_still_found() {
    let mut world = World::from_seed(seed());
    world.keeps_received = false;
    let mut chance = world.split_chance();
    let mut honest = Vec::new();
    for at in 0..HONEST {
        let node = add(&mut world, NodeSettings::default(), [20, at as u8, 7, 1]);
        if at > 0 {
            world.join_network(node, honest[chance.below(at as u64) as usize]);
        }
        honest.push(node);
        world.run_for(millis(100));
    }
    world.run_for(seconds(90));
    let before: Vec<BTreeSet<NodeId>> =
        honest.iter().map(|node| members(&world, *node).into_keys().collect()).collect();

    let victim = honest[HONEST / 2];
    let keys = ground(world.id(victim));
    let mut attackers = Vec::new();
    for (at, key) in keys.into_iter().enumerate() {
        let address = [93, (at % NETWORKS) as u8, 5, 1 + (at / NETWORKS) as u8];
        let settings = NodeSettings { key: Some(key), ..NodeSettings::default() };
        let node = add(&mut world, settings, address);
        world.join_network(node, honest[chance.below(HONEST as u64) as usize]);
        attackers.push(node);
        world.run_for(millis(100));
    }
    world.run_for(seconds(90));
    world.have_tell_of_each_other(&attackers, |_| false);
    world.run_for(seconds(300));

    for (node, before) in honest.iter().zip(&before) {
        let members = members(&world, *node);
        let lost = before.iter().filter(|id| !members.contains_key(*id)).count();
        assert_eq!(lost, 0, "{node:?} lost honest nodes");
        let mut networks: BTreeMap<[u8; 3], usize> = BTreeMap::new();
        members.values().for_each(|network| *networks.entry(*network).or_default() += 1);
        assert!(networks.values().all(|count| *count <= PREFIX_TABLE_MAX), "{networks:?}");
    }
    let place = Space::place(&world.id(victim));
    let others: Vec<NodeIndex> = honest.iter().copied().filter(|node| *node != victim).collect();
    for node in &others {
        drop(world.notices(*node));
        world.tell(*node, Note::Search { ticket: Ticket(1), place });
        world.run_for(millis(200));
    }
    world.run_for(seconds(60));
    let mut found = 0;
    for node in &others {
        let is_found = |notice: &Notice| matches!(notice, Notice::Found { ticket: Ticket(1), nodes: Some(nodes), .. } if nodes.first().is_some_and(|heard| Space::place(&heard.id()) == place));
        found += usize::from(world.notices(*node).iter().any(is_found));
    }
    println!("{found} of {} honest nodes find the besieged one", others.len());
    assert_eq!(found, others.len());
}
