//! A node changes its key: whoever knows it follows, and whoever calls the old one is led over.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dunlin::config::StorePlace;
use dunlin::control::{About, Control};
use dunlin::{Config, Engine, NetworkEvent, NodeId, Peer};
use dunlin_codec::args::{Ack, Request};
use dunlin_codec::ids::Address;
use dunlin_codec::message::Operation;

use crate::api::{accepted, config, start, uri_of};
use crate::process::{Ended, Node, Process, free_port, run, wait_until};
use crate::scratch::Scratch;
use crate::{DEADLINE, noise};

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

/// One that knew the node follows its change, and one that never heard of it and has only its old URI is led over.
fn assert_all_follow(friend: &Engine, old_uri: &str, (old, new): (NodeId, NodeId)) -> Engine {
    assert_eq!(followed(friend), (old, new));
    assert_led_over(friend, (old, new));
    let caller = start(network(1, &[]));
    assert_eq!(caller.network().unwrap().join(old_uri).unwrap(), old);
    assert_eq!(followed(&caller), (old, new));
    assert_led_over(&caller, (old, new));
    caller
}

/// One with that many shards that calls the node and is in its table.
fn friend_of(node: &Engine, shards: usize) -> Engine {
    let friend = start(network(shards, &[node]));
    wait_until("they know each other", || {
        friend.network().unwrap().table().iter().any(|known| known.id == node.id())
    });
    friend
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
        let friend = friend_of(&node, 1);
        assert!(node.shutdown(DEADLINE));

        let rotate = || run(&scratch, &["key", "rotate", "--key", key.to_str().unwrap()]);
        let rotated = rotate();
        rotated.assert_code(0);
        assert!(rotate().error().contains("less than an hour ago"));
        let node = kept(&key, local, network(shards, &[&friend]));
        let new = node.id();
        assert_eq!(rotated.stdout, [new.to_string()]);
        assert_ne!(old, new);

        assert_all_follow(&friend, &uri, (old, new));
    }
}

/// A node whose key lies in a folder with its admin socket, as that of `dunlin node --state node` does.
struct Kept {
    engine: Engine,
    control: Control,
    folder: PathBuf,
}

impl Kept {
    fn start(scratch: &Scratch, listen: SocketAddr, config: Config) -> Self {
        let folder = scratch.at("node");
        let engine = kept(&folder.join("key"), listen, config);
        let about = About { uris: vec![uri_of(&engine)], network: "keys".to_owned() };
        let control = Control::start(engine.clone(), about, &folder.join("socket")).unwrap();
        Self { engine, control, folder }
    }

    fn rotate(&self, scratch: &Scratch) -> Ended {
        run(scratch, &["key", "rotate", "--state", self.folder.to_str().unwrap()])
    }

    #[track_caller]
    fn status(&self, scratch: &Scratch) -> serde_json::Value {
        let ended = run(scratch, &["status", "--json", "--state", self.folder.to_str().unwrap()]);
        serde_json::from_str(&ended.assert_code(0).stdout.join("\n")).unwrap()
    }

    #[track_caller]
    fn stop(self) {
        drop(self.control);
        assert!(self.engine.shutdown(DEADLINE));
    }
}

const WORDS: u32 = 3_000;

/// Says the numbers, one after the other and a little slower than it could, so that something is always under way.
fn count_up(peer: Peer) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for number in 0..WORDS {
            peer.send(&number.to_be_bytes()).unwrap();
            if number % 10 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    })
}

/// Hears them all, in order.
fn hear(peer: Peer) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for number in 0..WORDS {
            let heard = peer.recv_timeout(DEADLINE).unwrap();
            assert_eq!(heard[..], number.to_be_bytes(), "every message comes, in its order");
        }
    })
}

/// While a session is in use: nobody on it notices. Peers follow, callers of the old URI are led over, those of the new one are
/// answered, and a restart changes nothing any more.
/// spec: p2p/own-key-change, p2p/previous-key
#[test]
fn a_running_node_changes_its_key() {
    for shards in [1, 3] {
        let scratch = Scratch::new("rotate");
        let node = Kept::start(&scratch, "127.0.0.1:0".parse().unwrap(), network(shards, &[]));
        let (old, local, uri) = (node.engine.id(), node.engine.local_addr(), uri_of(&node.engine));
        let friend = friend_of(&node.engine, 2);
        let near = friend.connect(&uri).unwrap();
        let far = accepted(&node.engine);
        let speakers = [count_up(near.clone()), count_up(far.clone())];
        let listeners = [hear(near.clone()), hear(far.clone())];

        let rotated = node.rotate(&scratch);
        let new = node.engine.id();
        assert_eq!(rotated.assert_code(0).stdout, [new.to_string()]);
        assert!(rotated.stderr.contains("the node goes on under it"), "{rotated:?}");
        assert_ne!(old, new);
        assert!(node.rotate(&scratch).assert_code(1).error().contains("less than an hour ago"));
        let status = node.status(&scratch);
        let told = status["uris"][0].as_str().unwrap();
        assert!(status["id"] == new.to_string() && told.contains(&new.to_string()), "{status}");

        let caller = assert_all_follow(&friend, &uri, (old, new));
        let stranger = start(network(1, &[]));
        assert_eq!(stranger.network().unwrap().join(&uri_of(&node.engine)).unwrap(), new);
        speakers.into_iter().chain(listeners).for_each(|thread| thread.join().unwrap());
        assert!(!near.is_closed() && !far.is_closed(), "the session is the same");
        // What it says from now on is the new key's.
        let said = dunlin_codec::msgpack::Encoded::NIL;
        node.engine.network().unwrap().speak(friend.id(), said.bytes()).unwrap();

        node.stop();
        let node = Kept::start(&scratch, local, network(shards, &[&friend]));
        assert_eq!(node.engine.id(), new);
        assert_led_over(&friend, (old, new));
        assert_led_over(&caller, (old, new));
        while let Some(event) = friend.network().unwrap().try_event() {
            assert!(
                !matches!(event, NetworkEvent::KeyFrozen(_) | NetworkEvent::KeyChanged { .. }),
                "{event:?}"
            );
        }
        node.stop();
    }
}

/// The command is killed wherever it is, once in the middle on purpose: asked again it does the rest, and what is on disk is what
/// the node that runs has.
/// spec: p2p/own-key-change
#[test]
fn a_change_of_key_that_was_cut_short_is_made_good() {
    let mut taken_late = 0;
    for round in 0..8_u64 {
        let scratch = Scratch::new("cut");
        let node = Kept::start(&scratch, "127.0.0.1:0".parse().unwrap(), network(1, &[]));
        let (old, folder) = (node.engine.id(), node.folder.to_str().unwrap().to_owned());
        if round == 0 {
            // It changes the key, and does not come to tell the node.
            let key = node.folder.join("key");
            run(&scratch, &["key", "rotate", "--key", key.to_str().unwrap()]).assert_code(0);
            assert_eq!(node.engine.id(), old);
        } else {
            let mut rotating = Process::dunlin(&scratch, &["key", "rotate", "--state", &folder]);
            let draw = u64::from(noise(1, round)[0]);
            thread::sleep(Duration::from_micros(draw * 100));
            rotating.kill();
        }
        let was_told = node.engine.id() != old;
        let again = node.rotate(&scratch);
        let shown = run(&scratch, &["key", "show", "--state", &folder]);
        assert_eq!(shown.assert_code(0).stdout, [node.engine.id().to_string()]);
        assert_ne!(node.engine.id(), old);
        // What the command that was killed had asked for may have been done a moment after it.
        let is_told_since = round > 0 && again.code == Some(1);
        if was_told || is_told_since {
            assert!(again.assert_code(1).error().contains("less than an hour ago"), "{again:?}");
        } else {
            assert_eq!(again.assert_code(0).stdout, [node.engine.id().to_string()]);
            taken_late += u64::from(again.stderr.contains("had been changed already"));
        }
        let id = node.engine.id();
        node.stop();
        let node = Kept::start(&scratch, "127.0.0.1:0".parse().unwrap(), network(1, &[]));
        assert_eq!(node.engine.id(), id);
        node.stop();
    }
    assert!(taken_late > 0, "the first round is one of these");
}

/// The node itself is killed at any moment of the change: it starts again under the old key or the new one, its files fit
/// together, and once the change is made those who knew it have followed, and follow the next start.
/// spec: p2p/own-key-change
#[test]
fn a_node_that_is_killed_while_its_key_changes_has_one_of_them() {
    let (mut kept, mut changed) = (0, 0);
    for round in 0..10_u64 {
        let scratch = Scratch::new("killed-key");
        let listen = format!("127.0.0.1:{}", free_port());
        let run_node = |seed: Option<&str>| {
            let mut arguments = vec![
                "node",
                "--state",
                "node",
                "--listen",
                &listen,
                "--cores",
                "1",
                "--io",
                "mmsg",
                "--network",
                "keys",
            ];
            arguments.extend(seed.iter().flat_map(|seed| ["--seed", seed]));
            Node::start(&scratch, &arguments)
        };
        let rotate = || run(&scratch, &["key", "rotate", "--state", "node"]);
        let shown = || run(&scratch, &["key", "show", "--state", "node"]).assert_code(0).stdout[0].clone();
        let mut node = run_node(None);
        let old: NodeId = shown().parse().unwrap();
        let friend = start(network(1, &[]));
        assert_eq!(friend.network().unwrap().join(&node.uri).unwrap(), old);
        wait_until("it knows what the key announced", || {
            friend.network().unwrap().table().iter().any(|known| known.id == old)
        });
        let rotating = Process::dunlin(&scratch, &["key", "rotate", "--state", "node"]);
        // The command takes some milliseconds, most of which it needs to start.
        thread::sleep(Duration::from_micros(u64::from(noise(1, round)[0]) * 100));
        node.process.kill();
        let told = rotating.wait();
        let on_disk: NodeId = shown().parse().unwrap();
        // What the command said was done was.
        assert!(told.code != Some(0) || on_disk != old, "{told:?}");

        let node = run_node(Some(&uri_of(&friend)));
        assert_eq!(shown().parse::<NodeId>().unwrap(), on_disk, "a start changes nothing");
        assert!(node.uri.contains(&on_disk.to_string()), "{}", node.uri);
        let new: NodeId = if on_disk == old {
            kept += 1;
            rotate().assert_code(0);
            shown().parse().unwrap()
        } else {
            changed += 1;
            assert!(rotate().assert_code(1).error().contains("less than an hour ago"));
            on_disk
        };
        assert_ne!(new, old);
        assert_eq!(followed(&friend), (old, new));
        assert_led_over(&friend, (old, new));
        node.stop().assert_code(0);
    }
    println!("killed under the old key {kept} times, under the new one {changed} times");
}

/// Whoever followed a change knows after its own restart, from its disk, which key became which: it is not told again as news, and
/// the old key still finds the node.
/// spec: p2p/key-chain-rows
#[test]
fn what_a_key_became_is_known_after_a_restart() {
    let scratch = Scratch::new("chains");
    let node = Kept::start(&scratch, "127.0.0.1:0".parse().unwrap(), network(1, &[]));
    let old = node.engine.id();
    let friend = |seeds: &[&Engine]| {
        let mut config = network(2, seeds);
        config.node.key = scratch.at("friend/key").into();
        config.store.path = scratch.at("friend/store").into();
        Engine::start(config).unwrap()
    };
    let before = friend(&[&node.engine]);
    wait_until("they know each other", || {
        before.network().unwrap().table().iter().any(|known| known.id == old)
    });
    node.rotate(&scratch).assert_code(0);
    let new = node.engine.id();
    assert_eq!(followed(&before), (old, new));
    assert_led_over(&before, (old, new));
    assert!(before.shutdown(DEADLINE));

    let after = friend(&[]);
    wait_until("it has called whom it knew", || !after.network().unwrap().table().is_empty());
    assert_led_over(&after, (old, new));
    while let Some(event) = after.network().unwrap().try_event() {
        assert!(!matches!(event, NetworkEvent::KeyChanged { .. }), "it was known: {event:?}");
    }
    node.stop();
}

/// A key that does not follow, or none: the node goes on as it was.
#[test]
fn a_key_that_does_not_follow_is_not_taken() {
    let scratch = Scratch::new("other-key");
    let node = Kept::start(&scratch, "127.0.0.1:0".parse().unwrap(), network(1, &[]));
    let old = node.engine.id();
    assert_eq!(node.engine.take_key().unwrap(), None);
    let other = scratch.at("other/key");
    run(&scratch, &["key", "new", "--key", other.to_str().unwrap()]).assert_code(0);
    for ending in ["", ".next", ".inception"] {
        std::fs::rename(scratch.at(&format!("other/key{ending}")), scratch.at(&format!("node/key{ending}")))
            .unwrap();
    }
    let error = node.engine.take_key().unwrap_err().to_string();
    assert!(error.contains("does not follow") && node.engine.id() == old, "{error}");
    let error = start(network(1, &[])).take_key().unwrap_err().to_string();
    assert!(error.contains("in no file"), "{error}");
    node.stop();
}
