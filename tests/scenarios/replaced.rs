//! Worlds of many nodes of which half are replaced: what was put before is read after.

use core::time::Duration;
use std::collections::BTreeMap;

use dunlin_codec::ids::{Address, NodeId};
use dunlin_codec::record::Key;
use dunlin_shards::dht::space::Space;
use dunlin_shards::dht::values::address;
use dunlin_shards::dht::values::get::Got;
use dunlin_shards::dht::values::put::Stored;
use dunlin_shards::limits::{HAND_OVER_AFTER, VALUE_JOB_WAIT};
use dunlin_shards::neighbours::{Failure, Notice};
use dunlin_shards::rng::Rng;
use dunlin_tests::{NodeIndex, World};

use crate::network::{keep_quiet, of_many};
use crate::values::{Told, get_wish, put_wish, text};
use crate::{millis, nodes_or, seconds, seed};

/// Places of the closest live nodes that a report names.
const RANKS: usize = 40;

fn key(number: u64) -> Vec<u8> {
    text(&format!("value {number}"))
}

fn place(number: u64) -> Address {
    address(&Key::parse(&key(number)).expect("a str").expect("short enough"))
}

/// A network whose nodes are replaced.
struct Crowd {
    world: World,
    nodes: Vec<NodeIndex>,
    chance: Rng,
    told: Told,
}

impl Crowd {
    /// So many nodes, each of which joins by one that was drawn of those before it.
    fn new(count: usize) -> Self {
        let mut world = World::from_seed(seed());
        world.keeps_received = false;
        let chance = world.split_chance();
        let mut this = Self { world, nodes: Vec::new(), chance, told: Told::default() };
        for _ in 0..count {
            let seed = (!this.nodes.is_empty()).then(|| this.draw(0));
            let node = this.add(seed);
            this.nodes.push(node);
            this.world.run_for(millis(50));
        }
        this.world.run_for(seconds(90));
        this
    }

    /// A node, not before this one.
    fn draw(&mut self, from: usize) -> NodeIndex {
        self.nodes[from + self.chance.below((self.nodes.len() - from) as u64) as usize]
    }

    fn add(&mut self, seed: Option<NodeIndex>) -> NodeIndex {
        let node = self.world.add_node_with(of_many());
        self.world.talk(node, keep_quiet);
        if let Some(seed) = seed {
            self.world.join_network(node, seed);
        }
        node
    }

    /// Puts so many values, each at a node that is drawn.
    fn put(&mut self, values: u64) {
        for number in 0..values {
            let node = self.draw(0);
            self.world.put(node, number, put_wish(&key(number), &text("kept")));
            self.world.run_for(millis(50));
        }
        self.world.run_for(seconds(20));
        self.told.take(&mut self.world, &self.nodes);
        let is_kept = |stored: &&Result<Stored, Failure>| matches!(stored, Ok(stored) if stored.kept > 8);
        let kept = self.told.stored.values().filter(is_kept).count();
        assert_eq!(kept as u64, values, "every value was kept by a majority");
    }

    /// The first half goes, one after the other, in an order that has nothing to do with who keeps what; newcomers know one node.
    fn replace_half(&mut self, time: Duration) {
        let half = self.nodes.len() / 2;
        for at in 0..half {
            self.world.retire(self.nodes[at]);
            let seed = self.draw(half);
            self.nodes[at] = self.add(Some(seed));
            self.world.run_for(time / half as u32);
            if at % 50 == 49 {
                println!("{} of {half} were replaced by {:?}", at + 1, self.world.now());
            }
        }
    }

    /// Every value is read once, by a node that is drawn: who did, and what it was told.
    fn read(&mut self, values: u64) -> BTreeMap<u64, (NodeIndex, Result<Got, Failure>)> {
        for number in 0..values {
            let node = self.draw(0);
            self.world.get(node, number, get_wish(&key(number)));
            self.world.run_for(millis(100));
        }
        self.world.run_for(VALUE_JOB_WAIT + seconds(10));
        self.told.take(&mut self.world, &self.nodes);
        let read = core::mem::take(&mut self.told.read).into_iter();
        read.map(|((node, ticket), got)| (ticket, (NodeIndex(node), got))).collect()
    }

    /// The closest nodes that are up, and whether each keeps the value.
    fn closest(&self, number: u64) -> Vec<(NodeId, bool)> {
        let (space, place) = (Space::new(256), place(number));
        let mut closest: Vec<_> = self.nodes.iter().collect();
        closest.sort_by_cached_key(|node| space.distance(&place, &Space::place(&self.world.id(**node))));
        let row = [&b"v"[..], &key(number)].concat();
        let keeps = |node: &NodeIndex| self.world.node(*node).disk.rows().contains_key(&row);
        closest.into_iter().map(|node| (self.world.id(*node), keeps(node))).collect()
    }

    /// What there is to know of a value that was not read.
    fn explain(&mut self, number: u64, reader: NodeIndex) {
        let closest = self.closest(number);
        let holders: Vec<usize> = (0..closest.len()).filter(|at| closest[*at].1).collect();
        drop(self.world.notices(reader));
        self.world.search(reader, number, place(number));
        self.world.run_for(seconds(60));
        let found = self.world.notices(reader).into_iter().find_map(|notice| match notice {
            Notice::Found { nodes: Some(nodes), effort, .. } => Some((nodes, effort)),
            _ => None,
        });
        let Some((nodes, effort)) = found else { return println!("  value {number}: no lookup ended") };
        let rank = |id: &NodeId| closest.iter().position(|(other, _)| other == id);
        let ranks: Vec<_> = nodes.iter().map(|heard| rank(&heard.id()).unwrap_or(usize::MAX)).collect();
        let near = holders.iter().filter(|at| **at < RANKS).collect::<Vec<_>>();
        println!(
            "  value {number}: {} live holders, at places {near:?}; a lookup finds those at {ranks:?}: {effort:?}",
            holders.len()
        );
    }
}

/// So many nodes, of which half are replaced in `time`: how many of the values that were put before are read after.
fn replace_half((count, values): (usize, u64), time: Duration) -> (u64, u64) {
    let mut crowd = Crowd::new(count);
    println!("{count} nodes by {:?}", crowd.world.now());
    crowd.put(values);
    println!("{values} values by {:?}", crowd.world.now());
    crowd.replace_half(time);
    let read = crowd.read(values);
    let is_kept = |got: &Result<Got, Failure>| matches!(got, Ok(Got::Found { cell, .. }) if *cell.value == text("kept")[..]);
    let failed: Vec<_> = read.into_iter().filter(|(_, (_, got))| !is_kept(got)).collect();
    let good = values - failed.len() as u64;
    println!("{count} nodes, half replaced in {time:?}, seed {}: {good} of {values} values read", seed());
    for (number, (reader, got)) in failed {
        println!("  value {number}: {got:?}");
        crowd.explain(number, reader);
    }
    (good, values)
}

/// Nodes that come to a network of twelve, all of which keep every value, are given every value: nobody stores anything again.
/// spec: p2p/handing-over
#[test]
fn newcomers_are_given_what_they_are_to_keep() {
    let mut crowd = Crowd::new(12);
    crowd.world.run_for(HAND_OVER_AFTER);
    crowd.put(5);
    let elder = crowd.nodes.len();
    for _ in 0..4 {
        let seed = crowd.draw(0);
        let node = crowd.add(Some(seed));
        crowd.nodes.push(node);
        crowd.world.run_for(seconds(5));
    }
    crowd.world.run_for(seconds(60));
    for number in 0..5 {
        let keeps = crowd.closest(number).iter().filter(|(_, keeps)| *keeps).count();
        assert_eq!((keeps, crowd.nodes.len()), (elder + 4, elder + 4), "value {number}");
    }
}

/// Values are read after half of the nodes were replaced within ten minutes, before anything is stored again by itself.
/// spec: p2p/get, p2p/wishes
#[test]
fn values_are_read_after_half_of_the_nodes_were_replaced() {
    let (read, values) = replace_half((100, 150), seconds(600));
    assert_eq!(read, values);
}

/// The same with a thousand nodes, over an hour: minutes, so only when asked for.
/// spec: p2p/get
#[test]
#[ignore = "minutes: cargo test --release -p dunlin-tests --test scenarios -- --ignored --nocapture --exact replaced::a_thousand_nodes_keep_their_values"]
fn a_thousand_nodes_keep_their_values() {
    let (read, values) = replace_half((nodes_or(1_000), 2_000), seconds(3_600));
    assert!(10_000 * read >= 9_999 * values, "{read} of {values}");
}
