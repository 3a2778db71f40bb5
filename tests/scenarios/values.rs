//! Values: what one node puts others get, whatever becomes of those who keep it.

use std::collections::BTreeMap;

use dunlin_codec::args::{Ack, FindValue, Nack, Reason, Request, Store, StoreOptions};
use dunlin_codec::ids::Address;
use dunlin_codec::label::Network;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{Key, NOBODY, ValueFields, ValueRecord};
use dunlin_shards::dht::values::decision::{Decided, Edit, What};
use dunlin_shards::dht::values::get::Got;
use dunlin_shards::dht::values::put::Stored;
use dunlin_shards::dht::values::{
    DecideWish, GetWish, PutWish, address, sign_grant, sign_record, value_hash,
};
use dunlin_shards::identity::Identity;
use dunlin_shards::limits::{REQUEST_TIMEOUT, SEARCHES_MAX, VALUE_JOB_WAIT, VALUE_JOBS_MAX};
use dunlin_shards::neighbours::{Failure, Notice};
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::network::crowd;
use crate::{millis, seconds, seed};

/// A str in msgpack, shorter than 32 bytes.
pub(crate) fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 32);
    [&[0xa0 | text.len() as u8], text.as_bytes()].concat()
}

/// The name of a group, in msgpack.
pub(crate) fn grouped(group: &str, name: &str) -> Vec<u8> {
    [vec![0x92], text(group), text(name)].concat()
}

pub(crate) fn put_wish(key: &[u8], value: &[u8]) -> PutWish {
    let life = seconds(24 * 3600);
    PutWish { key: key.to_vec(), value: value.to_vec(), owner: None, leave: None, life }
}

pub(crate) fn get_wish(key: &[u8]) -> GetWish {
    GetWish { key: key.to_vec(), owner: None, quorum: None }
}

pub(crate) fn decide_wish(key: &[u8], edits: Vec<Edit>) -> DecideWish {
    let life = seconds(24 * 3600);
    DecideWish { key: key.to_vec(), edits, owner: None, leaves: Vec::new(), token: 0, life }
}

/// What applications were told of their wishes, by node and ticket.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) stored: BTreeMap<(usize, u64), Result<Stored, Failure>>,
    pub(crate) read: BTreeMap<(usize, u64), Result<Got, Failure>>,
    pub(crate) decided: BTreeMap<(usize, u64), Result<Decided, Failure>>,
}

impl Told {
    /// Takes what was told since it was asked last.
    pub(crate) fn take(&mut self, world: &mut World, nodes: &[NodeIndex]) {
        for node in nodes {
            for notice in world.notices(*node) {
                match notice {
                    Notice::Stored { ticket, result } => {
                        assert!(self.stored.insert((node.0, ticket.0), result).is_none(), "told once");
                    }
                    Notice::Read { ticket, result } => {
                        assert!(self.read.insert((node.0, ticket.0), result).is_none(), "told once");
                    }
                    Notice::Decided { ticket, result } => {
                        assert!(self.decided.insert((node.0, ticket.0), result).is_none(), "told once");
                    }
                    _ => {}
                }
            }
        }
    }

    pub(crate) fn stored(&self, node: NodeIndex, ticket: u64) -> &Stored {
        self.stored[&(node.0, ticket)].as_ref().expect("it was stored or refused")
    }

    pub(crate) fn value(&self, node: NodeIndex, ticket: u64) -> Option<&[u8]> {
        match self.read[&(node.0, ticket)].as_ref().expect("it was read") {
            Got::Found { cell, .. } => Some(&cell.value),
            Got::Nothing => None,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn decided(&self, node: NodeIndex, ticket: u64) -> &Decided {
        self.decided[&(node.0, ticket)].as_ref().expect("it was decided")
    }
}

/// What every one of `nodes` reads of a key by now.
pub(crate) fn read_all(
    world: &mut World,
    nodes: &[NodeIndex],
    wish: &GetWish,
    ticket: u64,
) -> Vec<Option<Vec<u8>>> {
    nodes.iter().for_each(|node| world.get(*node, ticket, wish.clone()));
    world.run_for(seconds(20));
    let mut told = Told::default();
    told.take(world, nodes);
    nodes.iter().map(|node| told.value(*node, ticket).map(<[u8]>::to_vec)).collect()
}

fn of_shards(shards: usize) -> NodeSettings {
    NodeSettings { shards, ..NodeSettings::default() }
}

/// Nodes of one, two and three shards: what one puts all others read, before and after three of ten have died.
/// spec: p2p/wishes, p2p/keeping
#[test]
fn what_one_node_puts_all_others_get() {
    for shards in [1, 2, 3] {
        let mut world = World::from_seed(seed());
        let nodes = crowd(&mut world, 10, &of_shards(shards));
        world.run_for(seconds(30));
        let keys: Vec<Vec<u8>> = (0..6).map(|at| text(&format!("key {at}"))).collect();
        for (ticket, key) in keys.iter().enumerate() {
            world.put(nodes[ticket], ticket as u64, put_wish(key, &text("kept")));
        }
        world.run_for(seconds(5));
        let mut told = Told::default();
        told.take(&mut world, &nodes);
        for (ticket, node) in nodes.iter().enumerate().take(keys.len()) {
            let stored = told.stored(*node, ticket as u64);
            assert_eq!((stored.kept, stored.failed), (10, 0), "{shards} shards: {stored:?}");
        }
        for key in &keys {
            let read = read_all(&mut world, &nodes, &get_wish(key), 7);
            assert!(read.iter().all(|value| *value == Some(text("kept"))), "{shards} shards: {read:?}");
        }
        assert_eq!(read_all(&mut world, &nodes, &get_wish(&text("none")), 8), vec![None; 10]);
        nodes[..3].iter().for_each(|node| world.crash(*node));
        for key in &keys {
            let read = read_all(&mut world, &nodes[3..], &get_wish(key), 9);
            assert!(read.iter().all(|value| *value == Some(text("kept"))), "{shards} shards: {read:?}");
        }
    }
}

/// Everything that a holder is asked directly is answered, by whichever shard has the session: what is there, who is closest
/// where there is nothing, and why not.
/// spec: p2p/keeping
#[test]
fn holders_answer_on_any_session() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 4, &of_shards(3));
    world.run_for(seconds(10));
    let keys: Vec<Vec<u8>> = (0..8).map(|at| text(&format!("key {at}"))).collect();
    let peer = world.id(nodes[1]);
    for (ticket, key_bytes) in keys.iter().enumerate() {
        let key = Key::parse(key_bytes).expect("a str").expect("short enough");
        let address = address(&key);
        let value = Encoded::parse(key_bytes).expect("a str");
        let store = Store { address, key, value, options: StoreOptions::default() };
        let find = FindValue { address, key };
        let wrong = FindValue { address: Address([1; 32]), key };
        let requests = [Request::FindValue(find), Request::Store(store), Request::FindValue(wrong)];
        for (at, request) in requests.iter().enumerate() {
            world.ask((nodes[0], peer), 10 * ticket as u64 + at as u64, request, REQUEST_TIMEOUT);
            world.run_for(seconds(1));
        }
        world.ask((nodes[0], peer), 10 * ticket as u64 + 3, &requests[0], REQUEST_TIMEOUT);
    }
    world.run_for(seconds(2));
    let mut answered = BTreeMap::new();
    for notice in world.notices(nodes[0]) {
        if let Notice::Answered { ticket, result } = notice {
            answered.insert(ticket.0, result.expect("it was asked"));
        }
    }
    for (ticket, key_bytes) in keys.iter().enumerate() {
        let of = |at| &answered[&(10 * ticket as u64 + at)];
        assert!(matches!(of(0).ack(), Some(Ack::Nodes(nodes)) if nodes.iter().count() == 3), "{:?}", of(0));
        assert!(matches!(of(1).ack(), Some(Ack::Stored(found, None)) if found.key.bytes() == key_bytes));
        assert_eq!(of(2).nack(), Some(Nack::Plain(Operation::FindValue, Reason::WrongAddress)));
        assert!(matches!(of(3).ack(), Some(Ack::Value(found)) if found.value.bytes() == key_bytes));
    }
}

/// A node's identity: what it signs with.
pub(crate) fn identity(world: &World, node: NodeIndex) -> Identity {
    Identity::from_seed(world.node(node).key())
}

/// An owned value is its owner's: others are refused, readers that know the owner take nobody else's word, and whoever is
/// given leave writes in its name.
/// spec: p2p/wishes
#[test]
fn an_owned_value_is_its_owners() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 10, &of_shards(2));
    world.run_for(seconds(30));
    let (owner, other, friend) = (nodes[1], nodes[2], nodes[3]);
    let (owner_id, other_id) = (world.id(owner), world.id(other));
    let key = text("mine");
    let owned = |value: &str| PutWish { owner: Some(owner_id), ..put_wish(&key, &text(value)) };
    let mut told = Told::default();
    for (ticket, value) in ["first", "second", "third"].iter().enumerate() {
        world.put(owner, ticket as u64, owned(value));
        world.run_for(seconds(5));
    }
    world.put(other, 0, put_wish(&key, &text("theirs")));
    world.put(other, 1, PutWish { owner: Some(other_id), ..put_wish(&key, &text("theirs")) });
    world.put(other, 2, owned("not to be signed"));
    world.run_for(seconds(5));
    told.take(&mut world, &nodes);
    for ticket in 0..3 {
        assert_eq!(told.stored(owner, ticket).kept, 10, "each is one above the one before");
    }
    for ticket in 0..2 {
        let stored = told.stored(other, ticket);
        assert_eq!((stored.kept, &stored.refusals[..]), (0, &[Reason::NotAllowed; 10][..]));
    }
    assert_eq!(told.stored[&(other.0, 2)], Err(Failure::BadWish));
    let of = |owner| GetWish { owner, ..get_wish(&key) };
    assert_eq!(read_all(&mut world, &nodes, &of(Some(owner_id)), 3), vec![Some(text("third")); 10]);
    assert_eq!(read_all(&mut world, &nodes, &of(Some(other_id)), 4), vec![None; 10]);

    let friend_id = world.id(friend);
    let until_ms = world.node(friend).clock.read(0).wall.0 + 3_600_000;
    let network = Network(world.node(owner).settings.network);
    let parsed = Key::parse(&key).expect("a str").expect("short enough");
    let leave = sign_grant(&identity(&world, owner), &network, (&parsed, friend_id), until_ms);
    world.put(friend, 5, PutWish { leave: Some(leave), ..put_wish(&key, &text("by leave")) });
    world.run_for(seconds(5));
    told.take(&mut world, &nodes);
    assert_eq!(told.stored(friend, 5).kept, 10);
    assert_eq!(read_all(&mut world, &nodes, &of(Some(owner_id)), 6), vec![Some(text("by leave")); 10]);
    world.put(owner, 7, owned("fourth"));
    world.put(owner, 8, PutWish { value: vec![0xc0], ..owned("") });
    world.run_for(seconds(10));
    assert_eq!(read_all(&mut world, &nodes[..1], &of(Some(owner_id)), 9), [Some(vec![0xc0])], "deleted");
}

/// Holders that stop, all of them, have what they acknowledged when they are back: whatever had been on its way to their disks.
/// spec: p2p/keeping, p2p/holder
#[test]
fn what_was_acknowledged_survives_a_restart_of_all_holders() {
    for round in 0..3 {
        let mut world = World::from_seed(10 * seed() + round);
        let nodes = crowd(&mut world, 9, &of_shards(1 + round as usize));
        world.run_for(seconds(30));
        let reader = nodes[0];
        for ticket in 0..40 {
            let from = nodes[1 + ticket % 8];
            world.put(from, ticket as u64, put_wish(&text(&format!("key {ticket}")), &text("kept")));
            world.run_for(millis(10));
        }
        // Some have been acknowledged by now, some are on their way.
        world.run_for(millis(20 * round));
        let mut told = Told::default();
        told.take(&mut world, &nodes);
        for node in &nodes[1..] {
            world.crash(*node);
        }
        world.run_for(seconds(5));
        for node in &nodes[1..] {
            world.start(*node);
            world.talk(*node, |_| {});
            world.join_network(*node, reader);
            world.run_for(millis(100));
        }
        world.run_for(seconds(60));
        told.take(&mut world, &nodes);
        let kept = |result: &Result<Stored, Failure>| matches!(result, Ok(stored) if stored.kept > 0);
        let acknowledged: Vec<u64> =
            told.stored.iter().filter(|(_, result)| kept(result)).map(|((_, ticket), _)| *ticket).collect();
        assert!(acknowledged.len() > 4, "{} of 40 acknowledged", acknowledged.len());
        for ticket in acknowledged {
            let read = read_all(&mut world, &[reader], &get_wish(&text(&format!("key {ticket}"))), ticket);
            assert_eq!(read, [Some(text("kept"))], "round {round}, key {ticket}");
        }
    }
}

/// Rings between shards that are full now and then: notes come late or never, and every wish ends all the same, in one way.
/// spec: p2p/wishes
#[test]
fn full_rings_end_no_wish() {
    let mut world = World::from_seed(seed());
    world.full_ring_permille = 200;
    world.everywhere(|conditions| conditions.loss_permille = 20);
    let settings = NodeSettings { shards: 3, unsteered: true, ..NodeSettings::default() };
    let nodes = crowd(&mut world, 8, &settings);
    world.run_for(seconds(60));
    for ticket in 0..30 {
        let key = text(&format!("key {ticket}"));
        world.put(nodes[1], ticket, put_wish(&key, &text("kept")));
        world.get(nodes[2], ticket, get_wish(&key));
        let key = text(&format!("register {ticket}"));
        let edit = Edit { key: key.clone(), expected: None, what: What::Set(text("decided")) };
        world.decide(nodes[3], ticket, decide_wish(&key, vec![edit]));
        world.run_for(millis(200));
    }
    world.run_for(VALUE_JOB_WAIT + seconds(30));
    let mut told = Told::default();
    told.take(&mut world, &nodes);
    assert_eq!((told.stored.len(), told.read.len(), told.decided.len()), (30, 30, 30));
    let kept = told.stored.values().filter(|result| matches!(result, Ok(stored) if stored.kept >= 4)).count();
    assert!(kept >= 25, "{kept} of 30 were kept by half of the holders");
    // What was decided is what every reader that decides sees.
    for ticket in 0..30 {
        if matches!(told.decided[&(nodes[3].0, ticket)], Ok(Decided::Done { .. })) {
            world.decide(nodes[4], ticket, decide_wish(&text(&format!("register {ticket}")), Vec::new()));
        }
    }
    world.run_for(VALUE_JOB_WAIT + seconds(30));
    told.take(&mut world, &nodes);
    let reads = told.decided.iter().filter(|((node, _), _)| *node == nodes[4].0);
    let mut seen = 0;
    for ((_, ticket), decided) in reads {
        if let Ok(Decided::Done { state, .. }) = decided {
            assert_eq!(*state[&text(&format!("register {ticket}"))].value, text("decided")[..]);
            seen += 1;
        }
    }
    assert!(seen >= 20, "{seen} were read");
}

/// More than a node does at once is refused, and the rest is done.
/// spec: p2p/wishes
#[test]
fn too_many_wishes_are_refused() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 6, &of_shards(1));
    world.run_for(seconds(20));
    let count = 2 * VALUE_JOBS_MAX as u64;
    for ticket in 0..count {
        world.get(nodes[1], ticket, get_wish(&text(&format!("key {ticket}"))));
    }
    world.get(nodes[1], count, get_wish(&[0xc1]));
    world.run_for(seconds(20));
    let mut told = Told::default();
    told.take(&mut world, &nodes);
    let busy = told.read.values().filter(|result| **result == Err(Failure::Busy)).count() as u64;
    let done = told.read.values().filter(|result| **result == Ok(Got::Nothing)).count() as u64;
    assert_eq!((busy + done, told.read.len() as u64), (count, count + 1));
    assert!(done >= SEARCHES_MAX as u64, "{done} were done");
    assert_eq!(told.read[&(nodes[1].0, count)], Err(Failure::BadWish));
    assert_eq!(read_all(&mut world, &nodes[1..2], &get_wish(&text("later")), 0), [None]);
}

/// Liars among the holders: some keep another value for nobody's key, some a forged record for an owned one. Readers are told
/// what the others have.
/// spec: p2p/get
#[test]
fn readers_do_not_believe_liars() {
    let mut world = World::from_seed(seed());
    let nodes = crowd(&mut world, 12, &of_shards(1));
    world.run_for(seconds(30));
    let (owner, open_key, owned_key) = (world.id(nodes[1]), text("open"), text("owned"));
    world.put(nodes[1], 1, put_wish(&open_key, &text("honest")));
    world.put(nodes[1], 2, PutWish { owner: Some(owner), ..put_wish(&owned_key, &text("honest")) });
    world.run_for(seconds(5));
    // Four of twelve keep something else on their disks.
    for node in &nodes[8..] {
        world.crash(*node);
        let changed = world.node_mut(*node).disk.replace(b"honest", b"forged");
        assert_eq!(changed, 2, "it keeps both");
        world.start(*node);
        world.talk(*node, |_| {});
        world.join_network(*node, nodes[0]);
        world.run_for(seconds(2));
    }
    // And they are told a lie that is signed, as anybody may of nobody's key.
    let liar = identity(&world, nodes[9]);
    let network = Network(world.node(nodes[9]).settings.network);
    let key = Key::parse(&open_key).expect("a str").expect("short enough");
    let lie = text("a lie");
    let value = Encoded::parse(&lie).expect("a str");
    let wall = world.node(nodes[9]).clock.read(world.now().as_nanos() as u64).wall.0;
    let fields = ValueFields {
        key,
        owner: NOBODY,
        sequence: 99,
        time_ms: wall,
        expiry_ms: wall + 3_600_000,
        value_hash: &value_hash(value),
        writer: liar.id(),
        token: 0,
    };
    let record = sign_record(&liar, &network, &fields, None);
    let options = StoreOptions { record: ValueRecord::parse(&record).ok(), ..StoreOptions::default() };
    let store = Store { address: address(&key), key, value, options };
    for (ticket, node) in nodes[8..].iter().enumerate() {
        let peer = world.id(*node);
        world.ask((nodes[0], peer), 100 + ticket as u64, &Request::Store(store), REQUEST_TIMEOUT);
    }
    world.run_for(seconds(5));
    let honest = vec![Some(text("honest")); 8];
    assert_eq!(read_all(&mut world, &nodes[..8], &get_wish(&open_key), 3), honest);
    assert_eq!(read_all(&mut world, &nodes[..8], &get_wish(&owned_key), 4), honest);
    let of_owner = GetWish { owner: Some(owner), ..get_wish(&owned_key) };
    assert_eq!(read_all(&mut world, &nodes[..8], &of_owner, 5), honest);
}

/// Holders go one after the other until none of the first is left; a value that its writer signed lives on with whoever came.
/// spec: p2p/republish, p2p/keeping
#[test]
fn values_outlive_their_holders() {
    let mut world = World::from_seed(seed());
    world.keeps_received = false;
    let mut nodes = crowd(&mut world, 8, &of_shards(1));
    world.run_for(seconds(30));
    let keys: Vec<Vec<u8>> = (0..5).map(|at| text(&format!("key {at}"))).collect();
    for (ticket, key) in keys.iter().enumerate() {
        let wish = PutWish { life: seconds(48 * 3600), ..put_wish(key, &text("kept")) };
        world.put(nodes[1], ticket as u64, wish);
    }
    let key = text("decided");
    let set = Edit { key: key.clone(), expected: None, what: What::Set(text("kept")) };
    world.decide(nodes[1], 9, decide_wish(&key, vec![set]));
    world.run_for(seconds(20));
    // A newcomer every fifteen minutes, and the eldest goes.
    for _ in 0..10 {
        let fresh = world.add_node();
        world.talk(fresh, |_| {});
        world.join_network(fresh, nodes[1]);
        world.run_for(seconds(450));
        world.crash(nodes.remove(0));
        nodes.push(fresh);
        world.run_for(seconds(450));
    }
    for key in keys.iter().chain([&key]) {
        let read = read_all(&mut world, &nodes, &get_wish(key), 7);
        assert!(read.iter().all(|value| *value == Some(text("kept"))), "{read:?}");
    }
    world.decide(nodes[2], 10, decide_wish(&key, Vec::new()));
    world.run_for(seconds(70));
    let mut told = Told::default();
    told.take(&mut world, &nodes);
    assert!(
        matches!(told.decided(nodes[2], 10), Decided::Done { state, .. } if *state[&key].value == text("kept")[..])
    );
}
