//! Tables under whatever order of facts: who comes in, who stays, who is told.

mod limits;

use core::time::Duration;

use dunlin_codec::label::Network;
use proptest::prelude::*;

use super::*;
use crate::identity::Identity;
use crate::limits::{
    BUCKET_CACHE_MAX, LOST_MAX, LOST_RETRY_AFTER, LOST_RETRY_AFTER_MAX, NODE_QUIET_AFTER, NODE_RETRY_AFTER,
    PREFIX_BUCKET_MAX, PREFIX_TABLE_MAX,
};
use crate::rng::Rng;
use crate::time::WallMillis;
use diversity::Prefix;

const NETWORK: Network = Network([7; 32]);
const WALL: WallMillis = WallMillis(1_760_000_000_000);
const OWN: NodeId = NodeId([0; 32]);
const K: usize = 16;

fn contact_at(byte: u16, sequence: u64, endpoint: SocketAddr) -> Contact {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&byte.to_be_bytes());
    Contact::sign(&Identity::from_seed(seed), &NETWORK, (sequence, WALL), &[endpoint])
}

/// A node on a private address of its own.
fn contact(byte: u16) -> Contact {
    let [high, low] = byte.to_be_bytes();
    contact_at(byte, 1, SocketAddr::from(([10, 0, high, low], 4_000)))
}

fn table() -> Table {
    Table::new(OWN, Space::new(256), K)
}

fn at(seconds: u64) -> Now {
    let instant = Instant::ZERO + Duration::from_secs(seconds);
    Now { instant, wall: WallMillis(WALL.0 + 1_000 * seconds) }
}

fn join(table: &mut Table, contact: &Contact, now: Now) {
    table.on_told(now.instant, contact.clone(), contact.id());
    table.on_answer(now.instant, &contact.id(), contact.endpoint().unwrap());
}

/// Contacts that all belong into the bucket of the far half.
fn far_contacts(count: usize) -> Vec<Contact> {
    (0..).map(contact).filter(|contact| contact.id().0[0] & 0x80 != 0).take(count).collect()
}

/// Whoever is told of waits, and is a member once it has answered where it says that it is.
/// spec: p2p/table
#[test]
fn only_an_answer_makes_a_member() {
    let (mut table, node) = (table(), contact(1));
    let (id, endpoint) = (node.id(), node.endpoint().unwrap());
    table.on_answer(Instant::ZERO, &id, endpoint);
    table.on_told(Instant::ZERO, node.clone(), id);
    assert!(!table.is_member(&id) && table.waiting_count() == 1);
    assert_eq!(table.poll_question(at(0)), Some(node.clone()));
    assert_eq!(table.poll_question(at(0)), None, "asked once");
    table.on_answer(Instant::ZERO, &id, "10.9.9.9:1".parse().unwrap());
    assert!(!table.is_member(&id), "it answered from elsewhere");
    table.on_answer(Instant::ZERO, &id, endpoint);
    assert!(table.is_member(&id) && table.waiting_count() == 0);
}

/// A newer record moves a node only once it has answered there; an older one changes nothing.
/// spec: p2p/table
#[test]
fn a_node_moves_when_it_answers_elsewhere() {
    let mut table = table();
    let (old, new) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
    let (first, second) = (contact_at(1, 1, old), contact_at(1, 2, new));
    join(&mut table, &first, at(0));
    table.on_told(at(1).instant, second.clone(), NodeId([9; 32]));
    let mut out = Vec::new();
    table.closest(&Address([0; 32]), (K, Audience::Own), &mut out);
    assert_eq!(out, [&first]);
    table.on_answer(at(1).instant, &first.id(), new);
    table.on_told(at(1).instant, first.clone(), first.id());
    let mut out = Vec::new();
    table.closest(&Address([0; 32]), (K, Audience::Own), &mut out);
    assert_eq!(out, [&second]);
    assert_eq!((table.count(), table.waiting_count()), (1, 0));
}

/// In a full bucket nobody gives way while it answers, however many would come in.
/// spec: p2p/table
#[test]
fn a_full_bucket_keeps_those_that_answer() {
    let (mut table, nodes) = (table(), far_contacts(K + 8));
    nodes.iter().for_each(|node| join(&mut table, node, at(0)));
    assert_eq!((table.count(), table.waiting_count()), (K, 8));
    let hour = 3_600;
    let mut asked = 0;
    for second in 0..hour {
        while let Some(node) = table.poll_question(at(second)) {
            asked += 1;
            table.on_answer(at(second).instant, &node.id(), node.endpoint().unwrap());
        }
    }
    assert!(nodes[..K].iter().all(|node| table.is_member(&node.id())));
    let quiet = NODE_QUIET_AFTER.as_secs();
    assert!(asked as u64 <= (K as u64 + 8) * (hour / quiet + 1), "{asked} questions in an hour");
}

/// The longest silent member is asked twice; then one that waits has its place.
/// spec: p2p/table
#[test]
fn two_silences_make_room_for_another() {
    let (mut table, nodes) = (table(), far_contacts(K + 1));
    nodes.iter().for_each(|node| join(&mut table, node, at(0)));
    let (mute, waiting) = (&nodes[3], &nodes[K]);
    let quiet = NODE_QUIET_AFTER.as_secs();
    let mut questions = Vec::new();
    for second in quiet..quiet + 3 * NODE_RETRY_AFTER.as_secs() {
        while let Some(node) = table.poll_question(at(second)) {
            let (id, endpoint) = (node.id(), node.endpoint().unwrap());
            if node == *mute {
                questions.push(second);
                table.on_silence(at(second).instant, &id, endpoint);
            } else {
                table.on_answer(at(second).instant, &id, endpoint);
            }
        }
    }
    assert_eq!(questions, [quiet, quiet + NODE_RETRY_AFTER.as_secs()]);
    assert!(!table.is_member(&mute.id()) && table.is_member(&waiting.id()));
    assert_eq!(table.count(), K);
}

/// A member that nobody would replace may be silent longer, but is not told to others meanwhile.
/// spec: p2p/table
#[test]
fn a_silent_member_is_not_told() {
    let (mut table, node) = (table(), contact(1));
    join(&mut table, &node, at(0));
    let told = |table: &Table, audience| {
        let mut out = Vec::new();
        table.closest(&Address([1; 32]), (K, audience), &mut out);
        out.len()
    };
    assert_eq!((told(&table, Audience::Own), told(&table, Audience::Private)), (1, 1));
    assert_eq!(told(&table, Audience::Public), 0, "a private address is nobody else's business");
    for silences in 1..=4 {
        table.on_silence(at(1).instant, &node.id(), node.endpoint().unwrap());
        let left = usize::from(silences < 4);
        assert_eq!((told(&table, Audience::Own), told(&table, Audience::Private)), (left, 0));
    }
}

/// Puts a member out: it was asked so often in vain.
fn lose(table: &mut Table, contact: &Contact, now: Now) {
    for _ in 0..4 {
        table.on_silence(now.instant, &contact.id(), contact.endpoint().unwrap());
    }
    assert!(!table.is_member(&contact.id()));
}

/// Whoever was put out is asked again, ever more rarely, until its record ends; once it answers it is a member as before.
/// spec: p2p/lost
#[test]
fn who_fell_silent_is_asked_again() {
    let (mut table, node) = (table(), contact(1));
    let (id, endpoint) = (node.id(), node.endpoint().unwrap());
    join(&mut table, &node, at(0));
    lose(&mut table, &node, at(0));
    assert_eq!(table.lost_count(), 1);
    let day = 24 * 3_600;
    let mut asked = Vec::new();
    for second in 0..day + 10 {
        while let Some(contact) = table.poll_question(at(second)) {
            assert_eq!(contact, node);
            table.on_silence(at(second).instant, &id, endpoint);
            asked.push(second);
        }
    }
    let (first, most) = (LOST_RETRY_AFTER.as_secs(), LOST_RETRY_AFTER_MAX.as_secs());
    assert_eq!(asked[..4], [first, 3 * first, 7 * first, 15 * first]);
    assert!(asked.windows(2).all(|two| two[1] - two[0] <= most) && asked.len() < 32, "{asked:?}");
    assert_eq!((asked.last().unwrap() / most, table.lost_count()), (day / most - 1, 0), "its record ended");

    join(&mut table, &node, at(0));
    lose(&mut table, &node, at(0));
    table.on_answer(at(9).instant, &id, "10.9.9.9:1".parse().unwrap());
    assert!(!table.is_member(&id), "it answered from elsewhere");
    table.on_answer(at(10).instant, &id, endpoint);
    assert_eq!((table.is_member(&id), table.lost_count()), (true, 0));
    lose(&mut table, &node, at(20));
    table.forget(&id);
    assert_eq!(table.lost_count(), 0, "nobody has that key any more");
}

/// However many fall silent, few are remembered, those that fell silent last; of one network no more than a table has.
/// spec: p2p/lost
#[test]
fn few_are_asked_again() {
    let mut table = table();
    for byte in 0..2 * LOST_MAX as u16 {
        let (node, now) = (contact(byte), at(u64::from(byte) * LOST_RETRY_AFTER.as_secs()));
        join(&mut table, &node, now);
        lose(&mut table, &node, now);
        while table.poll_question(now).is_some() {}
    }
    assert_eq!(table.lost_count(), LOST_MAX);
    let last = contact(2 * LOST_MAX as u16 - 1);
    table.on_answer(at(1_000_000).instant, &last.id(), last.endpoint().unwrap());
    assert!(table.is_member(&last.id()) && table.lost_count() == LOST_MAX - 1);
    let mut table = self::table();
    for byte in 0..3 * PREFIX_TABLE_MAX as u16 {
        let node = contact_at(byte, 1, SocketAddr::from(([9, 9, 9, byte as u8], 4_000)));
        join(&mut table, &node, at(0));
        lose(&mut table, &node, at(0));
    }
    assert_eq!(table.lost_count(), PREFIX_TABLE_MAX);
}

/// A hundred nodes of one /24 get ten places, and no bucket more than two of them.
/// spec: p2p/diversity
#[test]
fn one_network_gets_few_places() {
    let mut table = table();
    for byte in 0..100 {
        let endpoint = SocketAddr::from(([20, 1, 1, byte as u8], 4_000));
        join(&mut table, &contact_at(byte, 1, endpoint), at(0));
    }
    assert!(table.count() <= PREFIX_TABLE_MAX, "{}", table.count());
    assert!(table.buckets.iter().all(|bucket| bucket.members.len() <= PREFIX_BUCKET_MAX));
    for byte in 100..200 {
        let endpoint = SocketAddr::from(([0x2600, 1, 1, byte, 0, 0, 0, 1], 4_000));
        join(&mut table, &contact_at(byte, 1, endpoint), at(0));
    }
    assert!(table.count() <= 2 * PREFIX_TABLE_MAX, "a /48 is one network too: {}", table.count());
}

/// One teller's nodes have a third of the table at most, once three have told.
/// spec: p2p/diversity
#[test]
fn one_teller_gets_a_third() {
    let mut table = table();
    let teller = NodeId([1; 32]);
    let public = |n: u16| contact_at(n, 1, SocketAddr::from(([20, (n >> 8) as u8, n as u8, 1], 4_000)));
    let tell = |table: &mut Table, n: u16, source: NodeId| {
        let node = public(n);
        table.on_told(Instant::ZERO, node.clone(), source);
        table.on_answer(Instant::ZERO, &node.id(), node.endpoint().unwrap());
    };
    (0..6).for_each(|n| tell(&mut table, n, NodeId([2 + n as u8; 32])));
    (100..200).for_each(|n| tell(&mut table, n, teller));
    assert_eq!(table.count(), 6 + 3, "3 of 9");
}

#[test]
fn records_that_ended_leave() {
    let (mut table, node) = (table(), contact(1));
    join(&mut table, &node, at(0));
    table.on_told(Instant::ZERO, contact(2), OWN);
    while table.poll_question(at(24 * 3_600)).is_some() {}
    assert_eq!((table.count(), table.waiting_count()), (0, 0));
}

/// Each used bucket, and the one behind, is looked up once an hour.
/// spec: p2p/table
#[test]
fn stale_buckets_are_refreshed() {
    let mut table = table();
    let mut rng = Rng::from_number(1);
    assert_eq!(table.poll_refresh(at(7_200).instant, &mut rng), None, "nobody to ask");
    (0..40).for_each(|byte| join(&mut table, &contact(byte), at(0)));
    let last = table.buckets.iter().rposition(|bucket| !bucket.members.is_empty()).unwrap();
    let mut places = Vec::new();
    while let Some(place) = table.poll_refresh(at(7_200).instant, &mut rng) {
        places.push(table.space.bucket(&table.distance(&place)).unwrap());
    }
    assert_eq!(places, (0..=last + 1).collect::<Vec<_>>());
    let place = table.space.draw_in(&Space::place(&OWN), 0, &mut rng);
    table.on_looked_up(at(9_000).instant, &place);
    let next = table.poll_refresh(at(7_200 + 3_600).instant, &mut rng).unwrap();
    assert_eq!(table.space.bucket(&table.distance(&next)), Some(1), "the first is fresh");
}

#[derive(Clone, Debug)]
enum Step {
    Told(u16, u8, u8),
    Answer(u16),
    Silence(u16),
    Poll(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u16..120, 0_u8..12, 0_u8..5).prop_map(|(node, net, teller)| Step::Told(node, net, teller)),
        4 => (0_u16..120).prop_map(Step::Answer),
        2 => (0_u16..120).prop_map(Step::Silence),
        1 => (0_u16..2_000).prop_map(Step::Poll),
    ]
}

fn known() -> &'static Vec<Vec<Contact>> {
    static KNOWN: std::sync::OnceLock<Vec<Vec<Contact>>> = std::sync::OnceLock::new();
    KNOWN.get_or_init(|| {
        let of = |node: u16, net: u8| {
            // The last networks are private ones.
            let first = if net < 9 { 20 } else { 10 };
            contact_at(node, u64::from(net), SocketAddr::from(([first, 1, net, node as u8], 4_000)))
        };
        (0..120).map(|node| (0..12).map(|net| of(node, net)).collect()).collect()
    })
}

fn check_invariants(table: &Table) {
    let mut prefixes = std::collections::BTreeMap::new();
    for (at, bucket) in table.buckets.iter().enumerate() {
        assert!(bucket.members.len() <= K && bucket.waiting.len() <= BUCKET_CACHE_MAX);
        let mut here = std::collections::BTreeMap::new();
        for member in &bucket.members {
            assert_eq!(table.bucket_of(&member.contact.id()), Some(at));
            if let Some(prefix) = Prefix::of(member.endpoint.ip()) {
                *here.entry(prefix).or_insert(0) += 1;
                *prefixes.entry(prefix).or_insert(0) += 1;
            }
        }
        assert!(here.values().all(|count| *count <= PREFIX_BUCKET_MAX));
        assert!(bucket.members.is_sorted_by_key(|member| member.seen_at), "the longest silent first");
    }
    assert!(prefixes.values().all(|count| *count <= PREFIX_TABLE_MAX));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens in whatever order: bounds hold, only those that answered are members, and the closest are the closest.
    /// spec: p2p/table, p2p/diversity
    #[test]
    fn any_order_of_facts_keeps_the_rules(steps in prop::collection::vec(step(), 1..400), place: [u8; 32]) {
        let mut table = table();
        let mut now = at(0);
        let mut answered = std::collections::BTreeSet::new();
        let mut told = std::collections::BTreeMap::new();
        for step in steps {
            match step {
                Step::Told(node, net, teller) => {
                    let contact = &known()[usize::from(node)][usize::from(net)];
                    told.insert(node, contact.clone());
                    table.on_told(now.instant, contact.clone(), NodeId([teller + 1; 32]));
                }
                Step::Answer(node) => if let Some(contact) = told.get(&node) {
                    answered.insert(contact.id());
                    table.on_answer(now.instant, &contact.id(), contact.endpoint().unwrap());
                },
                Step::Silence(node) => if let Some(contact) = told.get(&node) {
                    table.on_silence(now.instant, &contact.id(), contact.endpoint().unwrap());
                },
                Step::Poll(seconds) => {
                    now = at(now.instant.as_nanos() / 1_000_000_000 + u64::from(seconds));
                    let mut polled = 0;
                    while table.poll_question(now).is_some() {
                        polled += 1;
                    }
                    prop_assert!(polled <= 240, "each once");
                    prop_assert!(table.quiet_until() > now.instant);
                }
            }
            check_invariants(&table);
        }
        let place = Address(place);
        let mut all: Vec<&Contact> =
            table.buckets.iter().flat_map(|bucket| &bucket.members).map(|member| &member.contact).collect();
        prop_assert!(all.iter().all(|contact| answered.contains(&contact.id())));
        all.sort_by_key(|contact| table.space.distance(&place, &Space::place(&contact.id())));
        // One of each public network, then the others.
        let mut seen = Vec::new();
        let (firsts, others): (Vec<&Contact>, Vec<&Contact>) = all.iter().partition(|contact| {
            let prefix = Prefix::of(contact.endpoint().unwrap().ip());
            let is_first = prefix.is_none() || !seen.contains(&prefix);
            seen.push(prefix);
            is_first
        });
        let chosen: Vec<&Contact> = firsts.into_iter().chain(others).take(K).collect();
        all.retain(|contact| chosen.contains(contact));
        let mut out = Vec::new();
        table.closest(&place, (K, Audience::Own), &mut out);
        prop_assert_eq!(out, all);
    }
}
