//! Partitions: the halves of a network that was cut in two find each other again.

use dunlin_codec::ids::{Address, NodeId};
use dunlin_shards::dht::contact::Contact;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::network::crowd;
use crate::{seconds, seed};

/// Nothing passes between the halves, or all does.
fn cut(world: &mut World, halves: (&[NodeIndex], &[NodeIndex]), is_cut: bool) {
    for one in halves.0 {
        for other in halves.1 {
            world.both(*one, *other, |conditions| conditions.is_cut = is_cut);
        }
    }
}

/// How many of `others` each of `nodes` tells of.
fn known(world: &World, nodes: &[NodeIndex], others: &[NodeIndex]) -> Vec<usize> {
    let others: Vec<NodeId> = others.iter().map(|node| world.id(*node)).collect();
    let count = |node: &NodeIndex| {
        let ids = world.hub(*node).known().iter().map(Contact::id);
        ids.filter(|id| others.contains(id)).count()
    };
    nodes.iter().map(count).collect()
}

/// Two halves of forty nodes cut from each other for ten minutes, in which all look places up: nobody has anybody of the other
/// half left. Some minutes after the cut healed each knows of the other half again.
/// spec: p2p/lost
#[test]
fn the_halves_of_a_healed_network_find_each_other() {
    let mut world = World::from_seed(seed());
    world.keeps_received = false;
    let nodes = crowd(&mut world, 40, &NodeSettings::default());
    world.run_for(seconds(90));
    let (near, far) = nodes.split_at(20);
    let mut chance = world.split_chance();
    cut(&mut world, (near, far), true);
    for round in 0..20 {
        for node in &nodes {
            let mut place = [0; 32];
            chance.fill(&mut place);
            world.search(*node, round, Address(place));
        }
        world.run_for(seconds(30));
        nodes.iter().for_each(|node| drop(world.notices(*node)));
    }
    let is_forgotten = |known: Vec<usize>| known.iter().all(|count| *count == 0);
    assert!(is_forgotten(known(&world, near, far)) && is_forgotten(known(&world, far, near)));

    cut(&mut world, (near, far), false);
    world.run_for(seconds(600));
    let found = [known(&world, near, far), known(&world, far, near)];
    println!("nodes of the other half that each knows of ten minutes after: {found:?}");
    assert!(found.iter().flatten().all(|count| *count >= 5), "{found:?}");
}
