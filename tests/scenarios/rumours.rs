//! Rumours: what is said to everybody reaches everybody once, whoever lies about it.

use std::collections::BTreeSet;

use dunlin_codec::label::Network;
use dunlin_codec::message::{EVERYBODY, Freshness, Operation, SignedHeader};
use dunlin_shards::event::Ticket;
use dunlin_shards::gossip::{Refusal, Rumour, RumourLimits};
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::{RUMOUR_FORGED_COST, RUMOURS_BURST_LINK, RUMOURS_PER_SECOND_LINK};
use dunlin_shards::messages::conversation::Terms;
use dunlin_shards::neighbours::{Notice, Said};
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::network::grown;
use crate::{millis, seconds, seed};

/// Milliseconds since 1970 when a world begins.
const WALL_BEGIN: u64 = 1_760_000_000_000;

/// A network whose links stand. The nodes at the end of the list can only initiate.
fn village(
    world: &mut World,
    (count, shut): (usize, usize),
    settings: &NodeSettings,
    change: fn(&mut Terms),
) -> Vec<NodeIndex> {
    let nodes: Vec<NodeIndex> = (0..count).map(|_| world.add_node_with(settings.clone())).collect();
    let (open, shut) = nodes.split_at(count - shut);
    open.iter().for_each(|node| world.talk(*node, change));
    shut.iter().for_each(|node| world.talk_at(*node, Vec::new(), change));
    for node in &nodes[1..] {
        world.join_network(*node, nodes[0]);
        world.run_for(millis(100));
    }
    world.run_for(seconds(90));
    nodes.iter().for_each(|node| drop(world.notices(*node)));
    nodes
}

fn plain(_: &mut Terms) {}

fn unlimited(terms: &mut Terms) {
    terms.rumours = RumourLimits::UNLIMITED;
}

/// A str of its own for each number.
fn word(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    vec![0xc4, 2, high, low]
}

fn said(world: &mut World, node: NodeIndex) -> Option<Said> {
    world.notices(node).into_iter().find_map(|notice| match notice {
        Notice::Broadcast { result, .. } => Some(result.expect("it may be said")),
        _ => None,
    })
}

/// What one has said each other hears once, and it is no dearer than it may be.
fn assert_all_hear(world: &mut World, nodes: &[NodeIndex], from: NodeIndex, number: u16) -> u8 {
    let before = world.copies();
    world.shout(from, number.into(), &word(number));
    world.run_for(seconds(5));
    let mut hops = 0;
    for node in nodes.iter().filter(|node| **node != from) {
        let heard = world.heard_by(*node);
        let values: Vec<&[u8]> = heard.iter().map(|heard| &*heard.value).collect();
        assert_eq!(values, [&word(number)[..]], "{node:?}");
        hops = hops.max(heard[0].hops);
    }
    let copies = world.copies() - before;
    let (count, links) = (nodes.len() as u64, 8);
    let ends = world.link_ends(nodes) as u64;
    assert!(copies <= ends - count + 1, "I10: {copies} copies over {ends} ends of links");
    assert!(ends <= 2 * links * count && copies <= (2 * links - 1) * count + 1, "I10: {copies} copies");
    let said = said(world, from).expect("who said it is told");
    assert!(said.links > 0);
    hops
}

/// Whoever speaks, with one shard or several, each other node hears it once, and nobody hears himself.
/// spec: p2p/rumours, p2p/broadcast
#[test]
fn what_is_said_to_everybody_reaches_everybody_once() {
    for (count, shards) in [(24, 1), (12, 3)] {
        let mut world = World::from_seed(seed());
        let settings = NodeSettings { shards, ..NodeSettings::default() };
        let nodes = village(&mut world, (count, 0), &settings, plain);
        for (number, at) in [0, 1, count / 2, count - 1].into_iter().enumerate() {
            let hops = assert_all_hear(&mut world, &nodes, nodes[at], number as u16);
            assert!(hops <= 4, "{hops} hops");
        }
        for node in &nodes {
            let counts = world.rumours(*node);
            assert_eq!(counts.verified, counts.taken, "{node:?}: nothing was verified in vain, or twice");
        }
    }
}

/// The same where half of the nodes can only initiate: they hear, are heard, and carry on.
/// spec: p2p/rumours, p2p/links
#[test]
fn nodes_that_can_only_initiate_hear_and_are_heard() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, (20, 10), &NodeSettings::default(), plain);
    for (number, at) in [0, 9, 10, 19].into_iter().enumerate() {
        assert_all_hear(&mut world, &nodes, nodes[at], number as u16);
    }
    assert!(nodes[10..].iter().any(|node| world.rumours(*node).carried > 0), "they carry on");
}

/// A node that comes says so once it has a link: every other takes that once, and knows where it is.
/// spec: p2p/announce
#[test]
fn a_node_that_comes_announces_itself() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, (12, 0), &NodeSettings::default(), plain);
    let before: Vec<u64> = nodes.iter().map(|node| world.rumours(*node).taken).collect();
    let newcomer = world.add_node();
    world.talk(newcomer, plain);
    world.join_network(newcomer, nodes[5]);
    world.run_for(seconds(20));
    let id = world.id(newcomer);
    for (node, before) in nodes.iter().zip(before) {
        assert_eq!(world.rumours(*node).taken, before + 1, "{node:?}");
        assert!(world.hub(*node).table().expect("one shard").is_member(&id), "{node:?} knows it");
        assert!(world.heard_by(*node).is_empty(), "that is nothing for applications");
    }
}

/// Who has no links is told so; who says too much is told that; others hear what they may.
/// spec: p2p/broadcast
#[test]
fn who_speaks_is_told_what_became_of_it() {
    let mut world = World::from_seed(seed());
    let lone = world.add_node();
    world.talk(lone, plain);
    world.shout(lone, 1, &word(1));
    world.run_for(seconds(1));
    assert_eq!(said(&mut world, lone).map(|said| said.links), Some(0));

    let nodes = village(&mut world, (6, 0), &NodeSettings::default(), plain);
    (0..20).for_each(|number| world.shout(nodes[0], number.into(), &word(number)));
    world.run_for(seconds(2));
    let results = world.notices(nodes[0]).into_iter().filter_map(|notice| match notice {
        Notice::Broadcast { ticket, result } => Some((ticket, result.is_ok())),
        _ => None,
    });
    let results: Vec<(Ticket, bool)> = results.collect();
    let done = results.iter().filter(|(_, is_said)| *is_said).count();
    assert_eq!((results.len(), done), (20, 8), "{results:?}");
    for node in &nodes[1..] {
        assert_eq!(world.heard_by(*node).len(), 8, "{node:?}");
        assert_eq!(world.rumours(*node).refused(Refusal::TooFast), 0);
    }
    world.shout(nodes[0], 99, &[0xc1]);
    let is_refused = |notice: &Notice| matches!(notice, Notice::Broadcast { result: Err(_), .. });
    assert!(world.notices(nodes[0]).iter().any(is_refused), "no value");
}

/// Somebody who is no node of this network, but whose words its nodes may be given.
struct Stranger {
    identity: Identity,
    network: Network,
}

impl Stranger {
    fn new(world: &World, node: NodeIndex) -> Self {
        Self { identity: Identity::from_seed([77; 32]), network: world.network_of(node) }
    }

    fn shout(&self, time_ms: u64, count: u64, value: &[u8]) -> Vec<u8> {
        let header = SignedHeader {
            operation: Operation::Shout,
            is_sealed: false,
            from: self.identity.id(),
            to: EVERYBODY,
            freshness: Some(Freshness { time_ms, instance: 9, count }),
        };
        Rumour::sign(&self.identity, &self.network, (&header, value), None).message().bytes().to_vec()
    }
}

fn wall(world: &World) -> u64 {
    WALL_BEGIN + world.now().as_millis() as u64
}

/// An old message is brought again, at every age and by several at once: nobody hears it twice.
/// spec: p2p/seen, p2p/rumour-age
#[test]
fn a_rumour_that_is_brought_again_is_not_heard_again() {
    for shards in [1, 3] {
        let mut world = World::from_seed(seed());
        let settings = NodeSettings { shards, ..NodeSettings::default() };
        let nodes = village(&mut world, (10, 0), &settings, plain);
        let stranger = Stranger::new(&world, nodes[0]);
        let message = stranger.shout(wall(&world), 7, &word(7));
        let mut heard = BTreeSet::new();
        for wait in [0, 1, 30, 60, 70, 130, 200, 400] {
            world.run_for(seconds(wait));
            nodes[..3].iter().for_each(|node| world.have_carry(*node, &message));
            world.run_for(seconds(3));
            for node in &nodes {
                let times = world.heard_by(*node).len();
                assert!(times == 0 || heard.insert(*node), "{node:?} hears it again after {wait} s");
            }
        }
        assert!(heard.is_superset(&nodes[3..].iter().copied().collect()), "all heard it");
        let last = nodes[9];
        assert!(world.rumours(last).refused(Refusal::Duplicate) > 0);
        assert_eq!(
            world.rumours(last).refused(Refusal::Equivocated),
            0,
            "nobody is accused of being replayed"
        );
    }
}

/// The same words under a changed signature, first and last: the true ones are heard, once, and go on; the others go nowhere.
/// spec: p2p/rumours
#[test]
fn a_changed_signature_stops_nothing_and_goes_nowhere() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, (10, 0), &NodeSettings::default(), plain);
    let message = Stranger::new(&world, nodes[0]).shout(wall(&world), 7, &word(7));
    let mut forged = message.clone();
    forged[40] ^= 1;
    let forged_before: Vec<u64> =
        nodes.iter().map(|node| world.rumours(*node).refused(Refusal::Forged)).collect();
    world.have_carry(nodes[0], &forged);
    world.run_for(seconds(2));
    let first: Vec<u64> = nodes.iter().map(|node| world.rumours(*node).refused(Refusal::Forged)).collect();
    assert!(nodes.iter().all(|node| world.heard_by(*node).is_empty()), "nobody hears it");
    world.have_carry(nodes[1], &message);
    world.run_for(seconds(2));
    world.have_carry(nodes[2], &forged);
    world.run_for(seconds(2));
    for node in nodes.iter().filter(|node| **node != nodes[1]) {
        assert_eq!(world.heard_by(*node).len(), 1, "{node:?}");
    }
    let last: Vec<u64> = nodes.iter().map(|node| world.rumours(*node).refused(Refusal::Forged)).collect();
    assert!(first.iter().sum::<u64>() > forged_before.iter().sum(), "it was looked at");
    assert_eq!(first[3..], last[3..], "a copy of what was taken is not even looked at");
    assert_eq!(first[0], 0, "nobody carried it back, so nobody carried it on");
}

/// One who brings forged words as fast as he can costs what may be verified over his link, and nobody else's words.
/// spec: p2p/rumour-budget
#[test]
fn a_flood_of_forged_words_costs_the_budget_of_its_link() {
    const SECONDS: u64 = 10;
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, (8, 0), &NodeSettings::default(), plain);
    let stranger = Stranger::new(&world, nodes[0]);
    let before: Vec<u64> = nodes.iter().map(|node| world.rumours(*node).verified).collect();
    let mut count = 0;
    for second in 0..SECONDS {
        for _ in 0..20 {
            for _ in 0..25 {
                let mut forged = stranger.shout(wall(&world), count, &word(7));
                forged[40] ^= 1;
                world.have_carry(nodes[7], &forged);
                count += 1;
            }
            world.run_for(millis(50));
        }
        world.shout(nodes[0], second, &word(second as u16));
    }
    world.run_for(seconds(3));
    for (node, before) in nodes[1..7].iter().zip(&before[1..7]) {
        let counts = world.rumours(*node);
        let forged = counts.refused(Refusal::Forged);
        let most = (RUMOURS_BURST_LINK + RUMOURS_PER_SECOND_LINK * (SECONDS + 1)) / RUMOUR_FORGED_COST + 1;
        assert!(forged > 10 && forged <= most, "{node:?}: {forged} of {count} verified, {most} at most");
        assert!(counts.verified - before <= most + SECONDS, "{node:?}");
        assert!(counts.refused(Refusal::OverBudget) > count / 2, "{node:?}");
        assert_eq!(world.heard_by(*node).len() as u64, SECONDS, "{node:?} hears what was said all the same");
    }
}

/// A node whose clock is off by more than others accept is not heard, and hears nobody; once it is right again, both.
/// spec: p2p/rumour-age
#[test]
fn a_clock_that_is_far_off_cuts_off() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, (8, 0), &NodeSettings::default(), plain);
    for (round, (error, is_heard)) in
        [(140_000, true), (160_000, false), (-160_000, false)].into_iter().enumerate()
    {
        world.jump_clock(nodes[3], error);
        let stale = world.rumours(nodes[0]).refused(Refusal::Stale);
        world.shout(nodes[3], 1, &word(round as u16));
        world.run_for(seconds(3));
        assert_eq!(world.heard_by(nodes[0]).len(), usize::from(is_heard), "{error} ms");
        assert_eq!(world.rumours(nodes[0]).refused(Refusal::Stale) > stale, !is_heard);
        drop(world.notices(nodes[3]));
        world.shout(nodes[0], 1, &word(100 + round as u16));
        world.run_for(seconds(3));
        assert_eq!(world.heard_by(nodes[3]).len(), usize::from(is_heard), "{error} ms, the other way");
        world.jump_clock(nodes[3], -error);
        nodes.iter().for_each(|node| drop(world.notices(*node)));
    }
    assert_all_hear(&mut world, &nodes, nodes[3], 7);
}

/// Said while the network is in two halves: the one half hears it at once, the other when the sessions between them carry on.
/// spec: p2p/rumours
#[test]
fn a_rumour_crosses_when_a_partition_heals() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, (8, 0), &NodeSettings::default(), plain);
    let (near, far) = nodes.split_at(4);
    let set_cut = |world: &mut World, is_cut| {
        for one in near {
            far.iter().for_each(|other| {
                world.set_cut(*one, *other, is_cut);
            });
        }
    };
    set_cut(&mut world, true);
    world.shout(near[0], 1, &word(1));
    world.run_for(seconds(20));
    assert!(near[1..].iter().all(|node| world.heard_by(*node).len() == 1), "this half has heard it");
    assert!(far.iter().all(|node| world.heard_by(*node).is_empty()), "that one has not");
    set_cut(&mut world, false);
    world.run_for(seconds(40));
    for node in far {
        assert_eq!(world.heard_by(*node).len(), 1, "{node:?} hears it late, and once");
    }
    assert!(near.iter().all(|node| world.heard_by(*node).is_empty()), "and nobody again");
}

/// Said shortly before a long partition heals: the links between the halves are gone, and those that open anew bring it. Each
/// node hears it once, and no link carries it twice.
/// spec: p2p/recent
#[test]
fn links_that_open_bring_what_was_said_of_late() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, (8, 0), &NodeSettings::default(), plain);
    let (near, far) = nodes.split_at(4);
    let set_cut = |world: &mut World, is_cut| {
        for one in near {
            far.iter().for_each(|other| world.set_cut(*one, *other, is_cut));
        }
    };
    set_cut(&mut world, true);
    world.run_for(seconds(170));
    let crosses = |world: &World| {
        let ids: BTreeSet<_> = far.iter().map(|node| world.id(*node)).collect();
        near.iter().any(|node| world.hub(*node).known().links().iter().any(|peer| ids.contains(peer)))
    };
    assert!(!crosses(&world), "no link has outlived that");
    let before = world.copies();
    world.shout(near[0], 1, &word(1));
    world.run_for(seconds(10));
    assert!(near[1..].iter().all(|node| world.heard_by(*node).len() == 1), "this half has heard it");
    assert!(far.iter().all(|node| world.heard_by(*node).is_empty()), "that one has not");
    set_cut(&mut world, false);
    world.run_for(seconds(100));
    assert!(crosses(&world));
    for node in far {
        assert_eq!(world.heard_by(*node).len(), 1, "{node:?} hears it late, and once");
    }
    assert!(near.iter().all(|node| world.heard_by(*node).is_empty()), "and nobody again");
    let (copies, count) = (world.copies() - before, nodes.len() as u64);
    assert!(copies <= (count - 1) * (count - 1), "I10: {copies} copies where each has a link to each");
    // Whoever comes now does not hear of it, nor does one who has forgotten everything.
    let newcomer = world.add_node();
    world.talk(newcomer, plain);
    world.join_network(newcomer, nodes[5]);
    world.restart(far[0]);
    world.talk(far[0], plain);
    world.join_network(far[0], nodes[5]);
    world.run_for(seconds(15));
    assert!(world.heard_by(newcomer).is_empty() && world.heard_by(far[0]).is_empty());
}

/// A link that is too slow for what is said loses some of it; it is counted, and all others hear everything.
/// spec: p2p/rumours
#[test]
fn a_slow_link_loses_its_share_and_no_other() {
    let mut world = World::from_seed(seed());
    let nodes = village(&mut world, (6, 0), &NodeSettings::default(), unlimited);
    let slow = nodes[5];
    for node in &nodes[..5] {
        world.link(*node, slow).conditions.rate = Some(200_000);
    }
    let mut value = [&[0xc5, 0x1f, 0xfd][..], &[0; 0x1ffd]].concat();
    for number in 0..600_u16 {
        value[3..5].copy_from_slice(&number.to_be_bytes());
        world.shout(nodes[0], number.into(), &value);
        world.run_for(millis(20));
    }
    world.run_for(seconds(10));
    for node in &nodes[1..5] {
        assert_eq!(world.heard_by(*node).len(), 600, "{node:?}");
    }
    let crowded_out: u64 = nodes.iter().map(|node| world.rumours(*node).crowded_out).sum();
    assert!(crowded_out > 0, "what had no room was counted");
    let heard = world.heard_by(slow).len();
    assert!(heard > 0 && heard < 600, "{heard}");
    assert!(nodes[..5].iter().all(|node| world.open_sessions(*node) >= 5), "no session ended for it");
}

/// Links that a thousand nodes open on average, hops to each of them, copies.
fn broadcasts(count: usize, words: usize) {
    let mut world = World::from_seed(seed());
    let (nodes, mut chance) = grown(&mut world, count, |_| {});
    let mut hops = Vec::new();
    let mut copies = 0;
    for number in 0..words as u16 {
        nodes.iter().for_each(|node| drop(world.notices(*node)));
        let before = world.copies();
        let from = nodes[chance.below(count as u64) as usize];
        world.shout(from, 1, &word(number));
        world.run_for(seconds(3));
        copies = copies.max(world.copies() - before);
        for node in nodes.iter().filter(|node| **node != from) {
            let heard = world.heard_by(*node);
            assert_eq!(heard.len(), 1, "{node:?}");
            hops.push(heard[0].hops);
        }
    }
    hops.sort_unstable();
    let ends = world.link_ends(&nodes) as u64;
    let most = 15 * count as u64 + 1;
    assert!(copies <= most, "I10: {copies} copies");
    let p99 = hops[hops.len() * 99 / 100];
    println!(
        "{count} nodes, {words} words: hops {} in the middle, {p99} at 99 %, {} at most; copies {copies} at most, {most} allowed; \
         {ends} ends of links",
        hops[hops.len() / 2],
        hops[hops.len() - 1],
    );
    assert!(p99 <= 4, "{p99} hops");
}

/// spec: p2p/rumours
#[test]
fn a_hundred_nodes_hear_within_four_hops() {
    broadcasts(100, 3);
}

/// The same with a thousand nodes: minutes, so only when asked for.
/// spec: p2p/rumours
#[test]
#[ignore = "minutes: cargo test --release -p dunlin-tests --test scenarios -- --ignored --nocapture --exact rumours::a_thousand_nodes_hear_within_four_hops"]
fn a_thousand_nodes_hear_within_four_hops() {
    broadcasts(1_000, 20);
}
