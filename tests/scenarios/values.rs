//! Values: what one node puts others get, whatever becomes of those who keep it.

use std::collections::BTreeMap;

use dunlin_codec::args::{Ack, FindValue, Nack, Reason, Request, Store, StoreOptions};
use dunlin_codec::ids::Address;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::Key;
use dunlin_shards::dht::values::decision::{Decided, Edit};
use dunlin_shards::dht::values::get::Got;
use dunlin_shards::dht::values::put::Stored;
use dunlin_shards::dht::values::{DecideWish, GetWish, PutWish};
use dunlin_shards::limits::REQUEST_TIMEOUT;
use dunlin_shards::neighbours::{Failure, Notice};
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::network::crowd;
use crate::{seconds, seed};

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
    DecideWish { key: key.to_vec(), edits, owner: None, leave: None, token: 0, life }
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
        let address = dunlin_shards::dht::values::address(&key);
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
