//! Nodes as users run them: found, asked, refused, ended.

use std::time::Duration;

use dunlin::{Channel, Config, Engine, Event, Reply, Verdict};
use dunlin_tests::capability::Capability;

use crate::program::{Folder, Server, back_ends, complaint, run};

fn config(listen: &str, io: &str) -> Config {
    let backend = if io == "uring" { dunlin::config::Backend::Uring } else { dunlin::config::Backend::Mmsg };
    Config::default().listen(listen.parse().unwrap()).cores(1).backend(backend)
}

fn uri(engine: &Engine) -> String {
    format!("dunlin://{}@{}", engine.id(), engine.local_addr())
}

#[test]
fn a_node_answers_pings_and_ends_when_told() {
    for io in back_ends("a_node_answers_pings_and_ends_when_told") {
        let folder = Folder::new();
        let key = folder.path("key");
        let mut node = Server::start(&["node", "--listen", "127.0.0.1:0", "--key", &key, "--io", io]);
        // A busy machine may keep the strike register's answer for longer than early data waits for it.
        let accepted = (0..10).any(|_| {
            let known = run(&["ping", &node.uri, "-c", "3", "-i", "0.01", "--io", io]);
            let text = String::from_utf8_lossy(&known.stdout).into_owned();
            assert!(known.status.success() && text.contains("0 lost"), "{text}");
            text.contains("0-RTT accepted")
        });
        assert!(accepted, "early data is accepted");
        let unknown = run(&["ping", &node.address().to_string(), "-c", "1", "--io", io]);
        assert!(unknown.status.success(), "{}", complaint(&unknown));
        node.signal(rustix::process::Signal::TERM);
        assert_eq!(node.child.wait().unwrap().code(), Some(0), "SIGTERM drains and ends well");
    }
}

#[test]
fn a_second_node_on_a_port_is_refused() {
    let folder = Folder::new();
    let key = folder.path("key");
    let node = Server::start(&["node", "--listen", "127.0.0.1:0", "--key", &key]);
    let second = run(&["node", "--listen", &node.address().to_string(), "--key", &folder.path("other")]);
    assert_eq!(second.status.code(), Some(1));
    assert!(complaint(&second).contains("has the UDP port"), "{}", complaint(&second));
}

#[test]
fn wrong_calls_are_told_apart_from_failures() {
    let wrong = run(&["ping", "dunlin://abc@127.0.0.1:1"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", complaint(&wrong));
    let unknown = run(&["ping", "nobody.invalid:7117"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", complaint(&unknown));
    assert_eq!(complaint(&unknown).lines().count(), 1);
}

/// Plain threads, one and more shards, both families, both back ends.
#[test]
fn messages_cross_between_engines_of_any_shape() {
    let test = "messages_cross_between_engines_of_any_shape";
    let mut listens = vec!["127.0.0.1:0"];
    if !Capability::Ipv6.is_missing(test) {
        listens.extend(["[::1]:0", "[::]:0"]);
    }
    for io in back_ends(test) {
        for listen in &listens {
            for shards in [1, 2, 3] {
                let mut shape = config(listen, io).cores(shards);
                shape.node.allow_more_shards = true;
                talk(shape.clone(), shape);
            }
        }
    }
}

fn talk(near: Config, far: Config) {
    let server = Engine::builder(far).ephemeral().start().unwrap();
    let client = Engine::builder(near).ephemeral().start().unwrap();
    let host = if server.local_addr().is_ipv4() { "127.0.0.1" } else { "[::1]" };
    let target = format!("dunlin://{}@{host}:{}", server.id(), server.local_addr().port());
    let echo = std::thread::spawn(move || {
        let Event::Accepted(peer) = server.next_event() else { panic!("a peer comes first") };
        let mut count = 0;
        while let Ok(message) = peer.recv() {
            peer.send(&message).unwrap();
            count += 1;
        }
        count
    });
    let peer = client.connect(&target).unwrap();
    for round in 0..50_usize {
        let message = vec![round as u8; 1 + round * 997];
        peer.send(&message).unwrap();
        assert_eq!(&peer.recv().unwrap()[..], &message[..], "round {round}");
    }
    assert!(peer.flush(Duration::from_secs(10)));
    peer.close(0);
    assert_eq!(echo.join().unwrap(), 50);
}

#[test]
fn a_handler_answers_on_the_core_that_owns_the_peer() {
    for io in back_ends("a_handler_answers_on_the_core_that_owns_the_peer") {
        let handler = || {
            |_: Channel, bytes: &[u8], reply: &mut Reply<'_>| {
                assert!(reply.send(bytes));
                Verdict::Handled
            }
        };
        let server =
            Engine::builder(config("127.0.0.1:0", io)).ephemeral().on_message(handler).start().unwrap();
        let client = Engine::builder(config("127.0.0.1:0", io)).ephemeral().start().unwrap();
        let peer = client.connect(&uri(&server)).unwrap();
        for round in 0..100_u32 {
            peer.send(&round.to_be_bytes()).unwrap();
            let answer = peer.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(&answer[..], round.to_be_bytes());
        }
    }
}

/// No runtime is named in the types: any executor runs the futures.
#[test]
fn an_async_executor_drives_the_same_api() {
    let server = Engine::builder(config("127.0.0.1:0", "mmsg")).ephemeral().start().unwrap();
    let client = Engine::builder(config("127.0.0.1:0", "mmsg")).ephemeral().start().unwrap();
    let target = uri(&server).parse().unwrap();
    dunlin::runtime::block_on(async {
        let connected = client.connect_async(&target, &dunlin::ConnectOptions::default()).await.unwrap();
        connected.peer.send_async(b"from afar", dunlin::SendOptions::default()).await.unwrap();
    });
    let waiting = std::thread::spawn(move || {
        dunlin::runtime::block_on(async {
            let Event::Accepted(peer) = server.next_event_async().await else { panic!("a peer comes first") };
            assert_eq!(&peer.recv_async().await.unwrap()[..], b"from afar");
        });
    });
    waiting.join().unwrap();
}

/// What was sent before the shutdown arrives.
#[test]
fn a_shutdown_drains_first() {
    let server = Engine::builder(config("127.0.0.1:0", "mmsg")).ephemeral().start().unwrap();
    let client = Engine::builder(config("127.0.0.1:0", "mmsg")).ephemeral().start().unwrap();
    let target = uri(&server);
    let reader = std::thread::spawn(move || {
        let Event::Accepted(peer) = server.next_event() else { panic!("a peer comes first") };
        let mut bytes = 0;
        while let Ok(message) = peer.recv() {
            bytes += message.len();
        }
        bytes
    });
    let peer = client.connect(&target).unwrap();
    for _ in 0..64 {
        peer.send(&[7; 100_000]).unwrap();
    }
    assert!(client.shutdown(Duration::from_secs(20)), "everything was acknowledged");
    assert_eq!(reader.join().unwrap(), 6_400_000);
}
