//! The world itself: the same seed is the same world, and another one is another.

use dunlin_tests::World;
use dunlin_tests::node::NodeSettings;

use crate::{millis, seconds, seed};

fn busy_world(seed: u64) -> (u64, u64) {
    let mut world = World::from_seed(seed);
    let settings = NodeSettings { shards: 2, unsteered: true, ..NodeSettings::default() };
    let nodes: Vec<_> = (0..5).map(|_| world.add_node_with(settings.clone())).collect();
    world.everywhere(|conditions| {
        conditions.loss_permille = 100;
        conditions.reorder_permille = 100;
        conditions.jitter = millis(4);
        conditions.corrupt_permille = 10;
    });
    for from in &nodes {
        for to in &nodes {
            if from != to {
                world.send(*from, *to, &[from.0 as u8; 5_000]);
            }
        }
    }
    world.run_for(seconds(2));
    world.restart(nodes[0]);
    world.run_for(seconds(20));
    (world.trace_hash(), world.trace_count())
}

#[test]
fn the_same_seed_is_the_same_world() {
    let (hash, count) = busy_world(seed());
    assert_eq!(busy_world(seed()), (hash, count));
    assert_ne!(busy_world(seed() + 1).0, hash);
    assert!(count > 1_000);
}
