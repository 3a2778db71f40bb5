//! Networks: nodes of several shards, links, nodes that can only initiate, restarts, and a thousand nodes at once.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_codec::args::{Ack, Request};
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;
use dunlin_shards::dht::contact::Contact;
use dunlin_shards::dht::lookup::Effort;
use dunlin_shards::dht::space::Space;
use dunlin_shards::event::Ticket;
use dunlin_shards::limits::{Limits, REQUEST_TIMEOUT};
use dunlin_shards::messages::conversation::{Fact, Terms};
use dunlin_shards::neighbours::{Failure, Notice};
use dunlin_shards::note::Note;
use dunlin_shards::rng::Rng;
use dunlin_tests::ledger::Manner;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, nodes_or, seconds, seed};

/// The str "w".
const WORD: [u8; 2] = [0xa1, b'w'];

fn word() -> Encoded<'static> {
    Encoded::parse(&WORD).expect("a str")
}

/// Nodes of so many shards, each of which joins by the first, one after the other.
pub(crate) fn crowd(world: &mut World, count: usize, settings: &NodeSettings) -> Vec<NodeIndex> {
    let nodes: Vec<NodeIndex> = (0..count).map(|_| world.add_node_with(settings.clone())).collect();
    nodes.iter().for_each(|node| world.talk(*node, |_| {}));
    for node in &nodes[1..] {
        world.join_network(*node, nodes[0]);
        world.run_for(millis(100));
    }
    nodes
}

/// What became of lookups: for each its first node, and what it took.
fn found(world: &mut World, nodes: &[NodeIndex]) -> BTreeMap<(NodeIndex, u64), (Option<NodeId>, Effort)> {
    let mut found = BTreeMap::new();
    for node in nodes {
        for notice in world.notices(*node) {
            if let Notice::Found { ticket, nodes: Some(nodes), effort } = notice {
                found.insert((*node, ticket.0), (nodes.first().map(|heard| heard.id()), effort));
            }
        }
    }
    found
}

fn told_count(world: &mut World, node: NodeIndex) -> usize {
    let is_word = |notice: &Notice| matches!(notice, Notice::Heard { fact: Fact::Told { .. }, .. });
    world.notices(node).iter().filter(|notice| is_word(notice)).count()
}

/// Every pair looks the other up and speaks to it; all is found, heard and acknowledged.
fn assert_all_reach_all(world: &mut World, nodes: &[NodeIndex]) {
    nodes.iter().for_each(|node| drop(world.notices(*node)));
    let mut number = 0;
    let mut wanted = BTreeMap::new();
    for from in nodes {
        for to in nodes.iter().filter(|to| *to != from) {
            let id = world.id(*to);
            world.search(*from, number, Space::place(&id));
            wanted.insert((*from, number), id);
            number += 1;
        }
    }
    world.run_for(seconds(30));
    let found = found(world, nodes);
    for (search, id) in wanted {
        assert_eq!(found.get(&search).and_then(|(first, _)| *first), Some(id), "{search:?}");
    }
    for from in nodes {
        for to in nodes.iter().filter(|to| *to != from) {
            let peer = world.id(*to);
            world.ask((*from, peer), 1, &Request::Speak(word()), REQUEST_TIMEOUT);
        }
    }
    world.run_for(seconds(15));
    for node in nodes {
        assert_eq!(told_count(world, *node), nodes.len() - 1, "{node:?}");
    }
}

/// Nodes of several shards: whichever shard has a session answers for the whole node, and asks for it.
/// spec: p2p/neighbours, p2p/known
#[test]
fn every_shard_speaks_for_its_node() {
    for (shards, unsteered) in [(3, false), (4, true)] {
        let mut world = World::from_seed(seed());
        let settings = NodeSettings { shards, unsteered, ..NodeSettings::default() };
        let nodes = crowd(&mut world, 10, &settings);
        world.run_for(seconds(10));
        assert_all_reach_all(&mut world, &nodes);
        for node in &nodes {
            let told = world.told_by_shards(*node);
            assert_eq!(told.len(), shards);
            assert!(told.iter().all(|of_shard| *of_shard == told[0]), "one snapshot for all shards");
            assert_eq!(told[0].len(), nodes.len(), "all others and itself");
        }
        world.assert_nothing_lost();
    }
}

/// Rings that are full now and then, and links that lose: notes come late or not at all, and nothing hangs for ever.
/// spec: p2p/neighbours
#[test]
fn full_rings_end_no_search() {
    for round in 0..4 {
        let mut world = World::from_seed(seed() * 10 + round);
        world.full_ring_permille = 200;
        world.everywhere(|conditions| conditions.loss_permille = 20);
        let settings = NodeSettings { shards: 3, unsteered: true, ..NodeSettings::default() };
        let nodes = crowd(&mut world, 8, &settings);
        world.run_for(seconds(30));
        assert_all_reach_all(&mut world, &nodes);
    }
}

/// Applications send over the sessions that their nodes talk on, in both directions and while sessions become one: nothing is
/// lost, doubled or out of its order.
/// spec: p2p/neighbours, p2p/succession
#[test]
fn applications_share_the_sessions_of_neighbours() {
    for shards in [1, 3] {
        let mut world = World::from_seed(seed());
        world.everywhere(|conditions| {
            conditions.loss_permille = 20;
            conditions.jitter = millis(5);
        });
        let settings = NodeSettings { shards, ..NodeSettings::default() };
        let nodes = crowd(&mut world, 5, &settings);
        for round in 0..40_u8 {
            for from in &nodes {
                for to in nodes.iter().filter(|to| *to != from) {
                    world.send_with(
                        *from,
                        *to,
                        Manner::default().on(16 + u32::from(round % 3)),
                        &[round; 2_000],
                    );
                    let peer = world.id(*to);
                    world.ask((*from, peer), u64::from(round), &Request::Speak(word()), REQUEST_TIMEOUT);
                }
            }
            world.run_for(seconds(if round % 10 == 9 { 40 } else { 1 }));
        }
        assert!(world.run_until(seconds(60), World::is_settled), "{} open", world.ledger().open());
        world.assert_nothing_lost();
        let (mut told, mut acked) = (0, 0);
        for notice in nodes.iter().flat_map(|node| world.notices(*node)) {
            match notice {
                Notice::Heard { fact: Fact::Told { .. }, .. } => told += 1,
                Notice::Answered { result: Ok(outcome), .. } if is_spoken(&outcome) => acked += 1,
                _ => {}
            }
        }
        let asked = 40 * nodes.len() * (nodes.len() - 1);
        assert!(acked <= told && told <= asked, "{acked} acknowledged, {told} heard, {asked} said");
        assert!(
            100 * acked >= 98 * asked,
            "{acked} of {asked}: a word is in doubt only where its session ended"
        );
    }
}

fn is_spoken(outcome: &dunlin_shards::outcome::Outcome) -> bool {
    outcome.ack() == Some(Ack::Plain(Operation::Speak))
}

/// A node opens as many links as its network says, takes four times as many, and makes a lost one good.
/// spec: p2p/links
#[test]
fn lost_links_are_made_good() {
    const LINKS: usize = 2;
    let mut world = World::from_seed(seed());
    let settings = NodeSettings { shards: 2, ..NodeSettings::default() };
    let nodes: Vec<NodeIndex> = (0..16).map(|_| world.add_node_with(settings.clone())).collect();
    nodes.iter().for_each(|node| world.talk(*node, |terms| terms.constants.links = LINKS as u32));
    for node in &nodes[1..] {
        world.join_network(*node, nodes[0]);
        world.run_for(millis(100));
    }
    world.run_for(seconds(200));
    let links = |world: &World, node: NodeIndex| world.hub(node).known().links().to_vec();
    let check = |world: &World, alive: &[NodeIndex]| {
        let mut inbound: BTreeMap<NodeId, usize> = BTreeMap::new();
        for node in alive {
            let links = links(world, *node);
            assert_eq!(links.len(), LINKS, "{node:?}");
            links.iter().for_each(|peer| *inbound.entry(*peer).or_default() += 1);
        }
        assert!(inbound.values().all(|count| *count <= 4 * LINKS), "{inbound:?}");
    };
    check(&world, &nodes);
    let before: Vec<BTreeSet<NodeId>> =
        nodes.iter().map(|node| links(&world, *node).into_iter().collect()).collect();
    world.run_for(seconds(300));
    for (node, before) in nodes.iter().zip(before) {
        let after: BTreeSet<NodeId> = links(&world, *node).into_iter().collect();
        assert_eq!(after, before, "{node:?}: a link that nobody uses stays");
    }
    nodes[..4].iter().for_each(|node| world.crash(*node));
    world.run_for(seconds(400));
    let alive = &nodes[4..];
    let dead: Vec<NodeId> = nodes[..4].iter().map(|node| world.id(*node)).collect();
    check(&world, alive);
    let is_dead = |node: &NodeIndex| links(&world, *node).iter().any(|peer| dead.contains(peer));
    assert!(!alive.iter().any(is_dead));
}

/// Half of the nodes can only initiate: they find the others, link to them and ask them, and nobody is told of them.
/// spec: p2p/links, p2p/known
#[test]
fn nodes_that_can_only_initiate_take_part() {
    let mut world = World::from_seed(seed());
    let nodes: Vec<NodeIndex> = (0..16).map(|_| world.add_node()).collect();
    let (open, shut) = nodes.split_at(8);
    open.iter().for_each(|node| world.talk(*node, |_| {}));
    shut.iter().for_each(|node| world.talk_at(*node, Vec::new(), |_| {}));
    for node in &nodes[1..] {
        world.join_network(*node, nodes[0]);
        world.run_for(millis(100));
    }
    world.run_for(seconds(90));
    let hidden: Vec<NodeId> = shut.iter().map(|node| world.id(*node)).collect();
    for node in &nodes {
        let told = &world.told_by_shards(*node)[0];
        assert!(!told.iter().any(|id| hidden.contains(id)), "{node:?} tells of one that takes no calls");
        let others = if open.contains(node) { open.len() - 1 } else { open.len() };
        assert_eq!(world.table_count(*node), others, "{node:?}");
        assert!(world.hub(*node).known().links().len() >= 4, "{node:?} has links");
        drop(world.notices(*node));
    }
    // They are reached over the sessions that they opened, by those to whom they opened them.
    let (near, far) = (shut[0], world.hub(shut[0]).known().links()[0]);
    let to = *nodes.iter().find(|node| world.id(**node) == far).expect("it is one of them");
    let peer = world.id(near);
    world.ask((to, peer), 7, &Request::Whisper(word()), REQUEST_TIMEOUT);
    let stranger = NodeId([9; 32]);
    world.ask((near, stranger), 8, &Request::Whisper(word()), REQUEST_TIMEOUT);
    world.run_for(seconds(10));
    assert_eq!(told_count(&mut world, near), 1);
}

/// Nobody knows a node that is not there.
/// spec: p2p/neighbours
#[test]
fn a_node_that_is_nowhere_is_not_found() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 6, &NodeSettings::default());
    world.run_for(seconds(10));
    drop(world.notices(nodes[1]));
    world.ask((nodes[1], NodeId([9; 32])), 8, &Request::Ping, REQUEST_TIMEOUT);
    world.run_for(seconds(10));
    let is_end = |notice: &Notice| {
        matches!(notice, Notice::Answered { ticket: Ticket(8), result: Err(Failure::NotFound) })
    };
    assert!(world.notices(nodes[1]).iter().any(is_end));
}

/// A node that restarts with what it knew needs no seed: it is back in the table of others and they in its own, its links go
/// to whom they went before.
/// spec: p2p/links, p2p/table
#[test]
fn a_node_that_restarts_remembers() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 12, &NodeSettings::default());
    world.run_for(seconds(90));
    let node = nodes[5];
    let own = world.id(node);
    let known = world.hub(node).known().clone();
    let others = known.iter().filter(|contact| contact.id() != own);
    let records: Vec<Box<[u8]>> = others.map(|contact: &Contact| contact.bytes().into()).collect();
    let anchors: Vec<NodeId> = known.links().iter().copied().take(2).collect();
    assert_eq!((records.len(), anchors.len()), (nodes.len() - 1, 2));
    world.crash(node);
    world.run_for(seconds(5));
    world.restart(node);
    world.talk(node, |_| {});
    assert_eq!(world.table_count(node), 0);
    // One of them was changed on the disk.
    let mut broken = records.clone();
    broken[0][50] ^= 1;
    world.tell(node, Note::Remember { records: broken, anchors: anchors.clone() });
    world.run_for(seconds(30));
    assert_eq!(world.table_count(node), nodes.len() - 1, "the broken one was found again by the others");
    let links = world.hub(node).known().links();
    // It announces itself once it has a link: an anchor may have opened the one between them first.
    let is_linked = |anchor: &NodeId| {
        let back = world.hub(world.index_of(anchor)).known().links();
        links.contains(anchor) || back.contains(&own)
    };
    assert!(anchors.iter().all(is_linked), "{anchors:?} {links:?}");
}

/// A node of a network of many: it has as many places for sessions as the newcomers of a minute need who look for the same holders,
/// those of the roll.
pub(crate) fn of_many() -> NodeSettings {
    let settings = NodeSettings::default();
    NodeSettings { limits: Limits { sessions: 4_096, ..settings.limits }, ..settings }
}

/// What a network of so many nodes comes to, told by lookups of honest nodes by honest nodes.
struct Outcome {
    lookups: usize,
    found: usize,
    rounds: usize,
    rounds_max: usize,
    asked: usize,
}

/// A node of a large world that is not about rumours has two links and says nothing to everybody, not even that it is there: a
/// thousand newcomers announced to a thousand nodes, each of which verifies each, is most of what would be done there. Nothing is
/// easier for it: whoever is announced is only known sooner.
pub(crate) fn keep_quiet(terms: &mut Terms) {
    terms.constants.links = 2;
    terms.rumours.origin.per_second = 0;
}

/// So many nodes, each of which joins by one that was drawn of those before it; until they know each other.
pub(crate) fn grown(world: &mut World, count: usize, change: fn(&mut Terms)) -> (Vec<NodeIndex>, Rng) {
    world.keeps_received = false;
    let nodes: Vec<NodeIndex> = (0..count).map(|_| world.add_node_with(of_many())).collect();
    nodes.iter().for_each(|node| world.talk(*node, change));
    let mut chance = world.split_chance();
    for (at, node) in nodes.iter().enumerate().skip(1) {
        let seed = nodes[chance.below(at as u64) as usize];
        world.join_network(*node, seed);
        world.run_for(millis(50));
    }
    world.run_for(seconds(100));
    (nodes, chance)
}

/// What becomes of so many lookups of honest nodes by honest nodes, where the first `liars` of `count` are not: every other of
/// these is silent, and the others tell of their own kind alone.
fn look_around(count: usize, liars: usize, lookups: usize) -> Outcome {
    let mut world = World::from_seed(seed());
    let (nodes, mut chance) = grown(&mut world, count, keep_quiet);
    let (bad, good) = nodes.split_at(liars);
    world.have_collude(bad);
    let mut wanted = BTreeMap::new();
    for number in 0..lookups as u64 {
        let from = good[chance.below(good.len() as u64) as usize];
        let to = world.id(good[chance.below(good.len() as u64) as usize]);
        if world.id(from) == to {
            continue;
        }
        world.search(from, number, Space::place(&to));
        wanted.insert((from, number), to);
        world.run_for(millis(100));
    }
    world.run_for(seconds(60));
    let found = found(&mut world, good);
    let hits = wanted.iter().filter_map(|(search, id)| {
        let (first, effort) = found.get(search)?;
        (*first == Some(*id)).then_some(*effort)
    });
    let hits: Vec<Effort> = hits.collect();
    let sum = |of: fn(&Effort) -> usize| hits.iter().map(of).sum();
    let outcome = Outcome {
        lookups: wanted.len(),
        found: hits.len(),
        rounds: sum(|effort| effort.rounds),
        rounds_max: hits.iter().map(|effort| effort.rounds).max().unwrap_or(0),
        asked: sum(|effort| effort.asked),
    };
    println!(
        "{count} nodes, {liars} liars: {} of {} lookups found, rounds {:.2} on average, {} at most, questions {:.1} on average",
        outcome.found,
        outcome.lookups,
        outcome.rounds as f64 / outcome.found as f64,
        outcome.rounds_max,
        outcome.asked as f64 / outcome.found as f64,
    );
    outcome
}

fn assert_honest(outcome: &Outcome) {
    assert!(1_000 * outcome.found >= 999 * outcome.lookups, "{} of {}", outcome.found, outcome.lookups);
    assert!(2 * outcome.rounds <= 7 * outcome.found, "3.5 rounds on average at most");
    assert!(outcome.rounds_max <= 6, "{} rounds", outcome.rounds_max);
}

/// Lookups over real sessions in a network that found itself.
/// spec: p2p/lookup
#[test]
fn lookups_find_their_nodes_in_few_rounds() {
    assert_honest(&look_around(100, 0, 150));
    let outcome = look_around(100, 20, 150);
    assert!(100 * outcome.found >= 99 * outcome.lookups, "{} of {}", outcome.found, outcome.lookups);
}

/// The same with a thousand nodes: minutes, so only when asked for.
/// spec: p2p/lookup
#[test]
#[ignore = "minutes: cargo test --release -p dunlin-tests --test scenarios -- --ignored --nocapture --exact network::a_thousand_nodes_find_each_other"]
fn a_thousand_nodes_find_each_other() {
    let count = nodes_or(1_000);
    assert_honest(&look_around(count, 0, 1_000));
    let outcome = look_around(count, count / 5, 1_000);
    assert!(100 * outcome.found >= 99 * outcome.lookups, "{} of {}", outcome.found, outcome.lookups);
}
