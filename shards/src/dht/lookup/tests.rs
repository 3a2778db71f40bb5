//! Lookups in a network of a thousand nodes in memory, honest or not. A round is a question and its answer.

mod eclipse;
mod limits;

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use dunlin_codec::label::Network;

use super::*;
use crate::dht::table::{Audience, Table};
use crate::identity::Identity;
use crate::rng::Rng;
use crate::time::{Instant, WallMillis};

const NETWORK: Network = Network([7; 32]);
const NOW: WallMillis = WallMillis(1_760_000_000_000);
const NODES: usize = 1_000;
const REPLICATION: usize = 16;

/// How a node answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    Honest,
    /// Not at all.
    Silent,
    /// By records that nobody signed, of nodes right beside the place.
    Forger,
    /// By those of its own kind that are closest to the place, and by records that send the caller to honest nodes.
    Colluder,
}

struct Node {
    contact: Contact,
    table: Table,
}

struct Net {
    nodes: Vec<Node>,
    by_endpoint: BTreeMap<SocketAddr, usize>,
    /// Records whose signatures are known to hold: checking them anew would only take time.
    known: BTreeMap<NodeId, Heard>,
    /// Records of dishonest nodes with the addresses of others.
    misleading: Vec<Contact>,
}

fn space() -> Space {
    Space::new(256)
}

fn plan() -> Plan {
    Plan::new(space(), REPLICATION, 3)
}

fn endpoint(at: usize) -> SocketAddr {
    format!("20.{}.{}.1:4000", at / 256, at % 256).parse().unwrap()
}

fn identity(at: usize) -> Identity {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(at as u64).to_be_bytes());
    Identity::from_seed(seed)
}

/// Every node has met the others in its own order and kept those that its table had room for.
fn net() -> &'static Net {
    static NET: OnceLock<Net> = OnceLock::new();
    NET.get_or_init(|| {
        let sign = |at: usize, to: usize| Contact::sign(&identity(at), &NETWORK, (1, NOW), &[endpoint(to)]);
        let contacts: Vec<Contact> = (0..NODES).map(|at| sign(at, at)).collect();
        let mut rng = Rng::from_number(1);
        let nodes = contacts.iter().map(|contact| {
            let mut table = Table::new(contact.id(), space(), REPLICATION);
            let mut order: Vec<usize> = (0..NODES).collect();
            for at in (1..NODES).rev() {
                order.swap(at, rng.below(at as u64 + 1) as usize);
            }
            for other in order {
                let other = &contacts[other];
                table.on_told(Instant::ZERO, other.clone(), other.id());
                table.on_answer(Instant::ZERO, &other.id(), other.endpoint().unwrap());
            }
            Node { contact: contact.clone(), table }
        });
        Net {
            nodes: nodes.collect(),
            known: contacts.iter().map(|contact| (contact.id(), contact.heard())).collect(),
            by_endpoint: (0..NODES).map(|at| (endpoint(at), at)).collect(),
            misleading: (0..NODES).map(|at| sign(at, (at + 1) % NODES)).collect(),
        }
    })
}

impl Net {
    /// Whoever is at the endpoint answers; None: not at all.
    fn answer(&self, asked: &Heard, place: &Address, manners: &[Manner]) -> Option<Vec<Heard>> {
        let at = *self.by_endpoint.get(&asked.endpoint()?)?;
        // A session with somebody else does not open.
        if self.nodes[at].contact.id() != asked.id() {
            return None;
        }
        let mut out = Vec::new();
        match manners[at] {
            Manner::Silent => None,
            Manner::Honest => {
                self.nodes[at].table.closest(place, (REPLICATION, Audience::Public), &mut out);
                Some(out.into_iter().map(Contact::heard).collect())
            }
            Manner::Forger => Some((0..REPLICATION as u8).map(|byte| forged(place, byte, asked)).collect()),
            Manner::Colluder => {
                let mut friends: Vec<usize> =
                    (0..NODES).filter(|at| manners[*at] != Manner::Honest).collect();
                friends
                    .sort_by_key(|at| space().distance(place, &Space::place(&self.nodes[*at].contact.id())));
                let near = friends.iter().take(12).map(|at| self.nodes[*at].contact.heard());
                let false_ones = friends.iter().skip(12).take(4).map(|at| self.misleading[*at].heard());
                Some(near.chain(false_ones).collect())
            }
        }
    }

    /// Looks a place up from a node; gives what was found and the rounds that it took.
    fn look_up(&self, from: usize, place: Address, manners: &[Manner]) -> (Lookup, usize) {
        let node = &self.nodes[from];
        let mut begin = Vec::new();
        node.table.closest(&place, (REPLICATION, Audience::Own), &mut begin);
        let mut lookup = Lookup::new(plan(), node.contact.id(), place, begin);
        let mut asked = BTreeSet::new();
        for rounds in 0.. {
            let batch: Vec<Heard> = core::iter::from_fn(|| lookup.poll_question()).collect();
            if batch.is_empty() {
                assert!(lookup.is_done());
                return (lookup, rounds);
            }
            assert!(!lookup.is_done() && batch.len() <= plan().parallel * plan().paths);
            for heard in batch {
                assert!(asked.insert(heard.id()), "nobody is asked twice");
                let is_signed =
                    self.known.get(&heard.id()) == Some(&heard) || heard.check(&NETWORK, NOW).is_ok();
                match self.answer(&heard, &place, manners).filter(|_| is_signed) {
                    Some(told) => lookup.on_answer(&heard.id(), told),
                    None => lookup.on_failure(&heard.id()),
                }
            }
        }
        unreachable!("a lookup ends")
    }

    fn closest_of_all(&self, place: &Address, from: usize) -> Vec<NodeId> {
        let others = self.nodes.iter().enumerate().filter(|(at, _)| *at != from);
        let mut ids: Vec<NodeId> = others.map(|(_, node)| node.contact.id()).collect();
        ids.sort_by_key(|id| space().distance(place, &Space::place(id)));
        ids.truncate(REPLICATION);
        ids
    }
}

/// A record right beside the place that its key never signed.
fn forged(place: &Address, byte: u8, teller: &Heard) -> Heard {
    use dunlin_codec::bytes::Writer;
    use dunlin_codec::record::{Chain, NodeFields, NodeRecord};
    let mut key = place.0;
    key[31] ^= byte | 0x80;
    let fields =
        NodeFields { key: NodeId(key), sequence: 1, expiry_ms: NOW.0 + 1_000, chain: Chain::Unknown };
    let mut room = [0; 300];
    let mut out = Writer::new(&mut room);
    fields.write(&mut out, &[teller.endpoint().unwrap()]).unwrap();
    Heard::new(&NodeRecord::parse(out.written()).unwrap())
}

fn drawn_place(rng: &mut Rng) -> Address {
    let mut place = [0; 32];
    rng.fill(&mut place);
    Address(place)
}

/// Without faults every node and nearly every holder of a place is found, in a few rounds.
/// spec: p2p/lookup
#[test]
fn a_thousand_honest_nodes_find_each_other() {
    let (net, mut rng, manners) = (net(), Rng::from_number(2), vec![Manner::Honest; NODES]);
    let (mut sum, mut most, mut asked) = (0, 0, 0);
    let (mut missing, mut spread) = (0, 0);
    for from in 0..NODES {
        let to = (from + 1 + rng.below(NODES as u64 - 1) as usize) % NODES;
        let place = Space::place(&net.nodes[to].contact.id());
        let (lookup, rounds) = net.look_up(from, place, &manners);
        assert!(lookup.is_found(), "{from} looks for {to}");
        (sum, most, asked) = (sum + rounds, most.max(rounds), asked + lookup.effort().asked);

        let place = drawn_place(&mut rng);
        let (lookup, rounds) = net.look_up(from, place, &manners);
        let found: Vec<NodeId> = lookup.closest().map(Heard::id).collect();
        let (by_path, paths): (Vec<NodeId>, BTreeSet<usize>) = lookup.closest_by_path().unzip();
        assert_eq!(by_path, found, "each was asked on a path");
        assert!(paths.iter().all(|path| *path < LOOKUP_PATHS));
        spread += usize::from(paths.len() >= crate::limits::AGREEMENT_PATHS);
        let holders = net.closest_of_all(&place, from);
        missing += holders.iter().filter(|id| !found.contains(id)).count();
        assert_eq!(found[0], holders[0], "{from} looks for a place");
        (sum, most, asked) = (sum + rounds, most.max(rounds), asked + lookup.effort().asked);
    }
    let lookups = 2 * NODES;
    println!(
        "{lookups} lookups: rounds {sum} in all, {most} at most, questions {asked} in all, holders missing {missing}, \
         {spread} of {NODES} results over three paths or more"
    );
    assert!(10 * sum <= 35 * lookups, "3.5 rounds on average at most");
    assert!(most <= 6);
    assert!(missing * 1_000 <= NODES * REPLICATION, "one holder in a thousand");
    assert!(spread * 100 >= NODES * 99, "what is read from a result can be agreed on over three paths");
}

/// With a fifth of the nodes dishonest, drawn, each in one of three manners, 99 of 100 honest nodes are found.
/// spec: p2p/lookup
#[test]
fn a_fifth_of_liars_hides_nobody() {
    let (net, mut rng) = (net(), Rng::from_number(3));
    let mut found = 0;
    let mut most = 0;
    let lookups = 1_000;
    for _ in 0..10 {
        let mut manners = vec![Manner::Honest; NODES];
        for at in 0..NODES / 5 {
            let manner = [Manner::Silent, Manner::Forger, Manner::Colluder][at % 3];
            let mut place = rng.below(NODES as u64) as usize;
            while manners[place] != Manner::Honest {
                place = rng.below(NODES as u64) as usize;
            }
            manners[place] = manner;
        }
        let honest: Vec<usize> = (0..NODES).filter(|at| manners[*at] == Manner::Honest).collect();
        for _ in 0..lookups / 10 {
            let from = honest[rng.below(honest.len() as u64) as usize];
            let to = honest[rng.below(honest.len() as u64) as usize];
            if from == to {
                found += 1;
                continue;
            }
            let place = Space::place(&net.nodes[to].contact.id());
            let (lookup, rounds) = net.look_up(from, place, &manners);
            assert!(lookup.closest().all(|heard| net.known.get(&heard.id()) == Some(heard)));
            found += usize::from(lookup.is_found());
            most = most.max(rounds);
        }
    }
    println!("{found} of {lookups} found, {most} rounds at most");
    assert!(found * 100 >= lookups * 99, "{found} of {lookups}");
}

/// The same when all of the fifth are of one kind; of a third, 95 of 100 are found.
/// spec: p2p/lookup
#[test]
fn liars_of_one_kind_hide_nobody() {
    let net = net();
    let manners = [Manner::Silent, Manner::Forger, Manner::Colluder];
    for (manner, part, percent) in manners.into_iter().flat_map(|manner| [(manner, 5, 99), (manner, 3, 95)]) {
        let mut rng = Rng::from_number(4);
        let manners: Vec<Manner> =
            (0..NODES).map(|at| if at % part == 0 { manner } else { Manner::Honest }).collect();
        let honest: Vec<usize> = (0..NODES).filter(|at| at % part != 0).collect();
        let lookups = 300;
        let mut found = 0;
        for _ in 0..lookups {
            let mut draw = || honest[rng.below(honest.len() as u64) as usize];
            let (from, to) = (draw(), draw());
            let place = Space::place(&net.nodes[to].contact.id());
            let is_found = from == to || net.look_up(from, place, &manners).0.is_found();
            found += usize::from(is_found);
        }
        println!("one in {part} {manner:?}: {found} of {lookups}");
        assert!(found * 100 >= lookups * percent, "{manner:?}: {found} of {lookups}");
    }
}

/// Where everybody but us lies, the lookup ends within its bound, and no forged node is a result.
/// spec: p2p/lookup
#[test]
fn liars_alone_cannot_keep_a_lookup_busy() {
    let net = net();
    for manner in [Manner::Silent, Manner::Forger, Manner::Colluder] {
        let mut manners = vec![manner; NODES];
        manners[0] = Manner::Honest;
        let (lookup, rounds) = net.look_up(0, drawn_place(&mut Rng::from_number(5)), &manners);
        let Effort { asked, answered, failed, .. } = lookup.effort();
        assert!(
            asked <= LOOKUP_QUESTIONS_MAX && asked == answered + failed && rounds <= 32,
            "{asked} {rounds}"
        );
        assert!(lookup.closest().all(|heard| net.known.get(&heard.id()) == Some(heard)));
    }
}

/// What was told on one path is asked on that path alone, however often it is told.
/// spec: p2p/lookup
#[test]
fn paths_share_no_node() {
    let net = net();
    let place = Address([0x55; 32]);
    let mut begin = Vec::new();
    net.nodes[0].table.closest(&place, (8, Audience::Own), &mut begin);
    let mut lookup = Lookup::new(plan(), net.nodes[0].contact.id(), place, begin.clone());
    let first: Vec<Heard> = core::iter::from_fn(|| lookup.poll_question()).collect();
    assert_eq!(first.len(), 8, "two for each path to begin with, three at most");
    let told = || net.nodes[500..516].iter().map(|node| node.contact.heard());
    for heard in &first {
        lookup.on_answer(&heard.id(), told());
        lookup.on_answer(&heard.id(), told());
    }
    assert_eq!(lookup.effort().answered, 8, "an answer counts once");
    let mut asked = BTreeSet::new();
    while let Some(heard) = lookup.poll_question() {
        assert!(asked.insert(heard.id()));
        lookup.on_failure(&heard.id());
    }
    assert!(lookup.is_done() && asked.len() == 16, "{}", asked.len());
}

/// Nobody to begin with, and only nodes that can but initiate: done at once.
#[test]
fn a_lookup_without_anybody_is_done() {
    let silent = Contact::sign(&identity(1), &NETWORK, (1, NOW), &[]);
    for begin in [vec![], vec![&silent]] {
        let mut lookup = Lookup::new(plan(), identity(0).id(), Address([1; 32]), begin);
        assert!(lookup.poll_question().is_none() && lookup.is_done());
        assert_eq!(lookup.closest().count(), 0);
    }
}
