//! Stories: each puts production shards into a small world and says what must come of it.
//!
//! One file per subject; the names of the tests are the claims.

mod bbr;
mod bulk;
mod decisions;
mod delivery;
mod early_data;
mod eclipse;
mod flood;
mod flow;
mod goodput;
mod handshake;
mod keys;
mod links;
mod neighbours;
mod network;
mod partition;
mod path_mtu;
mod rekey;
mod replaced;
mod replay;
mod restart;
mod roaming;
mod roll;
mod rumours;
mod sessions;
mod shards;
mod storm;
mod unsteered;
mod values;
mod whispers;
mod world;

use core::time::Duration;

use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

/// The seed of every story, unless `DUNLIN_SEED` says another.
fn seed() -> u64 {
    std::env::var("DUNLIN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// How many nodes a large world has, unless `DUNLIN_NODES` says another number.
fn nodes_or(count: usize) -> usize {
    std::env::var("DUNLIN_NODES").ok().and_then(|count| count.parse().ok()).unwrap_or(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Two nodes with a session and nothing else under way: no search for larger datagrams disturbs the count.
fn plain_pair(world: &mut World) -> (NodeIndex, NodeIndex) {
    let mut settings = NodeSettings::default();
    settings.sessions.datagram_max = 1_200;
    let near = world.add_node_with(settings.clone());
    let far = world.add_node_with(settings);
    world.join(near, far);
    (near, far)
}
