//! A node changes its key: whoever knows it follows, and whoever calls the old one is led over.

use std::net::SocketAddr;
use std::path::Path;

use dunlin::config::StorePlace;
use dunlin::{Config, Engine, NetworkEvent, NodeId};
use dunlin_codec::args::{Ack, Request};
use dunlin_codec::ids::Address;
use dunlin_codec::message::Operation;

use crate::DEADLINE;
use crate::api::{config, start, uri_of};
use crate::process::{run, wait_until};
use crate::scratch::Scratch;

fn network(shards: usize, seeds: &[&Engine]) -> Config {
    let seeds = seeds.iter().map(|seed| uri_of(seed).parse().unwrap()).collect();
    config("mmsg", shards).network("keys").join(seeds)
}

/// A node whose key lies in a file.
fn kept(key: &Path, listen: SocketAddr, config: Config) -> Engine {
    let mut config = config;
    config.node.key = key.to_path_buf().into();
    config.node.listen = listen;
    config.store.place = StorePlace::Memory;
    Engine::start(config).unwrap()
}

#[track_caller]
fn followed(engine: &Engine) -> (NodeId, NodeId) {
    let network = engine.network().unwrap();
    loop {
        match network.event_timeout(DEADLINE).expect("a change of key") {
            NetworkEvent::KeyChanged { old, new } => return (old, new),
            NetworkEvent::KeyFrozen(key) => panic!("{key} froze"),
            _ => {}
        }
    }
}

/// The node's old key finds the node; so does the new one.
fn assert_led_over(engine: &Engine, (old, new): (NodeId, NodeId)) {
    let network = engine.network().unwrap();
    for id in [old, new] {
        let answer = network.ask(id, &Request::Ping, DEADLINE).unwrap();
        assert_eq!(answer.ack(), Ack::Plain(Operation::Ping));
    }
    wait_until("the new key is in the table, and the old one is not", || {
        let known: Vec<NodeId> = network.table().iter().map(|node| node.id).collect();
        known.contains(&new) && !known.contains(&old)
    });
    assert_eq!(network.find(Address(old.0)).unwrap()[0].id, new);
}

/// One that knew the node, one that never heard of it and has only its old URI: both are led over, each on its session. A thief
/// of the old key alone is refused by whoever knows what the key announced.
/// spec: p2p/key-change, p2p/previous-key
#[test]
fn peers_and_callers_of_the_old_key_follow() {
    for shards in [1, 3] {
        let scratch = Scratch::new("key");
        let key = scratch.at("node/key");
        let node = kept(&key, "127.0.0.1:0".parse().unwrap(), network(shards, &[]));
        let (old, local, uri) = (node.id(), node.local_addr(), uri_of(&node));
        let friend = start(network(1, &[&node]));
        wait_until("they know each other", || {
            friend.network().unwrap().table().iter().any(|known| known.id == old)
        });
        assert!(node.shutdown(DEADLINE));

        let rotate = || run(&scratch, &["key", "rotate", "--key", key.to_str().unwrap()]);
        let rotated = rotate();
        rotated.assert_code(0);
        assert!(rotate().error().contains("less than an hour ago"));
        let node = kept(&key, local, network(shards, &[&friend]));
        let new = node.id();
        assert_eq!(rotated.stdout, [new.to_string()]);
        assert_ne!(old, new);

        assert_eq!(followed(&friend), (old, new));
        assert_led_over(&friend, (old, new));
        let caller = start(network(1, &[]));
        assert_eq!(caller.network().unwrap().join(&uri).unwrap(), old);
        assert_eq!(followed(&caller), (old, new));
        assert_led_over(&caller, (old, new));
    }
}
