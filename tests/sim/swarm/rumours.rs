//! Seeds of rumours: a network that finds itself over links that lose, and what is said to everybody in it.
//!
//! In:    a seed.
//! Out:   what was played, or a panic when somebody does not hear what was said, hears it twice, or it is carried more often than may be.
//! Holds: links are at rest while words are under way, so that everybody can be asked to hear; I10 is counted over links that
//!        stand, which is stricter than over those that may.

use core::time::Duration;

use crate::node::NodeSettings;
use crate::place::NodeIndex;
use crate::world::World;

use super::play::Played;

/// Plays a seed.
pub(super) fn play(seed: u64) -> Played {
    let mut world = World::from_seed(seed);
    let mut chance = world.split_chance();
    let count = 4 + chance.below(7) as usize;
    let (loss, jitter) = (chance.below(30) as u32, Duration::from_millis(chance.below(20)));
    world.everywhere(|conditions| {
        conditions.loss_permille = loss;
        conditions.jitter = jitter;
    });
    let shut = chance.below(count as u64 / 2) as usize;
    let mut nodes = Vec::new();
    for at in 0..count {
        let shards = 1 + chance.below(3) as usize;
        let node = world.add_node_with(NodeSettings { shards, ..NodeSettings::default() });
        if at < count - shut {
            world.talk(node, |_| {})
        } else {
            world.talk_at(node, Vec::new(), |_| {})
        }
        nodes.push(node);
    }
    for node in &nodes[1..] {
        world.join_network(*node, nodes[0]);
        world.run_for(Duration::from_millis(chance.below(1_000)));
    }
    world.run_for(Duration::from_secs(90));
    let speaker = nodes[chance.below(count as u64) as usize];
    let other = nodes[chance.below(count as u64) as usize];
    for (number, from) in [speaker, other, speaker].into_iter().enumerate() {
        say(&mut world, &nodes, from, number as u8);
    }
    Played::of(&world)
}

fn say(world: &mut World, nodes: &[NodeIndex], from: NodeIndex, number: u8) {
    nodes.iter().for_each(|node| drop(world.notices(*node)));
    let ends = world.link_ends(nodes);
    let before = world.copies();
    world.shout(from, 1, &[number]);
    world.run_for(Duration::from_secs(10));
    let copies = (world.copies() - before) as usize;
    assert!(copies <= ends - nodes.len() + 1, "I10: {copies} copies over {ends} ends of links");
    for node in nodes.iter().filter(|node| **node != from) {
        let heard = world.heard_by(*node).len();
        assert_eq!(heard, 1, "rumours: node {} hears what was said {heard} times", node.0);
    }
    assert!(world.heard_by(from).is_empty(), "I10: who says it hears it");
}
