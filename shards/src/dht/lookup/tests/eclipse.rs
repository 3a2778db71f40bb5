//! An eclipse: somebody with a hundred addresses in ten /24 networks and very many keys gathers around one place (T9).

use super::*;
use crate::limits::{PREFIX_BUCKET_MAX, PREFIX_TABLE_MAX};

const ADDRESSES: usize = 100;
const NETWORKS: usize = 10;

/// How the attacker's nodes answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Siege {
    /// By those of their own that are closest to the place.
    Hiding,
    /// The same, but each tells of others than the one before.
    Varying,
    /// By silence, each second of them.
    Stalling,
}

/// A network with an attacker in it.
struct Besieged {
    place: Address,
    tables: Vec<Table>,
    /// The closest to the place first.
    attackers: Vec<Contact>,
    siege: Siege,
}

/// Keys that the attacker drew, so that it can choose the best of them for a place.
fn drawn_keys(count: usize) -> Vec<(usize, NodeId)> {
    (0..count).map(|at| (at, identity(1_000_000 + at).id())).collect()
}

impl Besieged {
    /// The attacker takes the keys closest to the place, one for each of its addresses. Every other honest node met it
    /// before it met anybody else, the others after.
    fn new(net: &Net, siege: Siege, place: Address, keys: &[(usize, NodeId)]) -> Self {
        let mut keys = keys.to_vec();
        keys.sort_by_key(|(_, id)| space().distance(&place, &Space::place(id)));
        let attackers = keys.iter().take(ADDRESSES).enumerate().map(|(at, (key, _))| {
            let address = [30 + (at % NETWORKS) as u8, 0, 0, 1 + (at / NETWORKS) as u8];
            Contact::sign(&identity(1_000_000 + key), &NETWORK, (1, NOW), &[(address, 4_000).into()])
        });
        let attackers: Vec<Contact> = attackers.collect();
        let meet = |table: &mut Table, contact: &Contact| {
            table.on_told(Instant::ZERO, contact.clone(), contact.id());
            table.on_answer(Instant::ZERO, &contact.id(), contact.endpoint().unwrap());
        };
        let tables = net.nodes.iter().enumerate().map(|(at, node)| {
            let is_late = at % 2 == 0;
            let mut table = node.table.clone();
            if is_late {
                table = Table::new(node.contact.id(), space(), REPLICATION);
            }
            attackers.iter().for_each(|contact| meet(&mut table, contact));
            if is_late {
                net.nodes.iter().for_each(|other| meet(&mut table, &other.contact));
            }
            table
        });
        Self { place, tables: tables.collect(), attackers, siege }
    }

    fn answer(&self, net: &Net, asked: &Heard) -> Option<Vec<Heard>> {
        let endpoint = asked.endpoint()?;
        if let Some(at) = self.attackers.iter().position(|contact| contact.endpoint() == Some(endpoint)) {
            let from = match self.siege {
                Siege::Hiding => 0,
                Siege::Varying => 7 * at,
                Siege::Stalling if at % 2 == 0 => return None,
                Siege::Stalling => 0,
            };
            let told = self.attackers.iter().cycle().skip(from).take(REPLICATION);
            return Some(told.map(Contact::heard).collect());
        }
        let at = *net.by_endpoint.get(&endpoint)?;
        let mut out = Vec::new();
        self.tables[at].closest(&self.place, (REPLICATION, Audience::Public), &mut out);
        Some(out.into_iter().map(Contact::heard).collect())
    }

    fn look_up(&self, net: &Net, from: usize) -> Lookup {
        let mut begin = Vec::new();
        self.tables[from].closest(&self.place, (REPLICATION, Audience::Own), &mut begin);
        let mut lookup = Lookup::new(plan(), net.nodes[from].contact.id(), self.place, begin);
        while let Some(heard) = lookup.poll_question() {
            match self.answer(net, &heard) {
                Some(told) => lookup.on_answer(&heard.id(), told),
                None => lookup.on_failure(&heard.id()),
            }
        }
        assert!(lookup.is_done());
        lookup
    }

    /// Members of honest tables that are the attacker's.
    fn assert_tables_hold_few(&self) {
        let is_theirs = |contact: &Contact| self.attackers.iter().any(|other| other.id() == contact.id());
        for table in &self.tables {
            let theirs = |bucket| table.told_of(bucket).filter(|contact| is_theirs(contact)).count();
            assert!((0..space().bits()).all(|bucket| theirs(bucket) <= PREFIX_BUCKET_MAX * NETWORKS));
            let all: usize = (0..space().bits()).map(theirs).sum();
            assert!(
                all <= PREFIX_TABLE_MAX * NETWORKS && 2 * all < table.count(),
                "{all} of {}",
                table.count()
            );
        }
    }
}

/// What lookups of a besieged place came to.
#[derive(Debug, Default)]
struct Reached {
    lookups: usize,
    /// The honest node whose place it is, or the honest one closest to it, is in the result.
    closest: usize,
    /// Honest nodes of a result, all together.
    honest: usize,
    asked: usize,
}

fn besiege(siege: Siege, keys: &[(usize, NodeId)], (places, lookups): (usize, usize)) -> Reached {
    let (net, mut rng, mut reached) = (net(), Rng::from_number(6), Reached::default());
    for round in 0..places {
        let victim = rng.below(NODES as u64) as usize;
        let of_node = Space::place(&net.nodes[victim].contact.id());
        let place = if round % 2 == 0 { of_node } else { drawn_place(&mut rng) };
        let besieged = Besieged::new(net, siege, place, keys);
        besieged.assert_tables_hold_few();
        for _ in 0..lookups {
            let from = rng.below(NODES as u64) as usize;
            if round % 2 == 0 && from == victim {
                continue;
            }
            let lookup = besieged.look_up(net, from);
            let holders = net.closest_of_all(&place, from);
            let found: Vec<NodeId> = lookup.closest().map(Heard::id).collect();
            reached.lookups += 1;
            reached.closest += usize::from(found.contains(&holders[0]));
            reached.honest += found.iter().filter(|id| holders.contains(id)).count();
            reached.asked += lookup.effort().asked;
        }
    }
    println!("{siege:?}: {reached:?}");
    reached
}

/// Whoever looks for a node finds it, and whoever looks for a place reaches the honest node that is closest to it, though
/// a hundred of the attacker's are closer.
/// spec: p2p/diverse
#[test]
fn a_siege_hides_no_node_and_no_place() {
    let keys = drawn_keys(10_000);
    for siege in [Siege::Hiding, Siege::Varying, Siege::Stalling] {
        let reached = besiege(siege, &keys, (4, 100));
        assert!(1_000 * reached.closest >= 999 * reached.lookups, "{siege:?}: {reached:?}");
    }
}

/// The same with 10^5 keys to choose from, and more places.
/// spec: p2p/diverse
#[test]
#[ignore = "minutes: run it by its name with --ignored --nocapture"]
fn a_siege_of_many_keys_hides_nobody() {
    let keys = drawn_keys(100_000);
    for siege in [Siege::Hiding, Siege::Varying, Siege::Stalling] {
        let reached = besiege(siege, &keys, (20, 200));
        assert!(1_000 * reached.closest >= 999 * reached.lookups, "{siege:?}: {reached:?}");
    }
}
