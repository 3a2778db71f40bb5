//! The library in this process: from plain threads, from an async runtime, on the core.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use dunlin::config::{Backend, ByteSize};
use dunlin::socket::group::Steering;
use dunlin::{
    Channel, CloseReason, Config, ConnectError, ConnectOptions, Early, EarlyData, Engine, Event, Handler,
    Peer, RecvError, Reply, SendError, SendOptions, Verdict,
};
use dunlin_tests::capability::Capability;
use dunlin_tests::impair::{Impairment, Link};

use crate::process::{Node, wait_until};
use crate::scratch::Scratch;
use crate::{DEADLINE, backends, noise};

pub(crate) fn config(io: &str, shards: usize) -> Config {
    let backend = if io == "uring" { Backend::Uring } else { Backend::Mmsg };
    let mut config = Config::default().listen("127.0.0.1:0".parse().unwrap()).cores(shards).backend(backend);
    config.node.allow_more_shards = true;
    config
}

pub(crate) fn start(config: Config) -> Engine {
    Engine::builder(config).ephemeral().start().unwrap()
}

pub(crate) fn uri_of(engine: &Engine) -> String {
    format!("dunlin://{}@{}", engine.id(), engine.local_addr())
}

#[track_caller]
pub(crate) fn accepted(engine: &Engine) -> Peer {
    loop {
        if let Event::Accepted(peer) = engine.event_timeout(DEADLINE).expect("a session") {
            return peer;
        }
    }
}

/// Sends everything back until the session ends.
fn echo(peer: &Peer) {
    while let Ok(message) = peer.recv() {
        let options = SendOptions { channel: message.channel(), ..SendOptions::default() };
        if peer.send_with(&message, options).is_err() {
            return;
        }
    }
}

/// Serves each peer on a thread of its own.
fn echo_all(engine: Engine) {
    thread::spawn(move || {
        loop {
            match engine.next_event() {
                Event::Accepted(peer) => drop(thread::spawn(move || echo(&peer))),
                Event::Stopped => return,
                _ => {}
            }
        }
    });
}

fn lengths() -> impl Iterator<Item = usize> {
    [0, 1, 64, 1_200, 5_000, 70_000, 300_000, 1 << 20].into_iter()
}

#[test]
fn a_dropped_engine_says_good_bye() {
    for io in backends("a_dropped_engine_says_good_bye") {
        let server = start(config(io, 2));
        let client = start(config(io, 2));
        let peer = client.connect(&uri_of(&server)).unwrap();
        accepted(&server);
        drop((client, peer));
        let closed = loop {
            match server.event_timeout(DEADLINE).expect("the end of the session") {
                Event::Closed { reason, .. } => break reason,
                _ => continue,
            }
        };
        assert!(matches!(closed, CloseReason::Peer { code: 3, .. }), "{io}: {closed}");
    }
}

#[test]
fn plain_threads_exchange_messages_of_all_sizes() {
    for io in backends("plain_threads_exchange_messages_of_all_sizes") {
        for shards in [1, 2, 4] {
            let (server, client) = (start(config(io, shards)), start(config(io, shards)));
            echo_all(server.clone());
            let uri = uri_of(&server);
            let peer = client.connect(&uri).unwrap();
            let senders: Vec<_> = (0..4u32)
                .map(|number| {
                    let peer = peer.clone();
                    let options = SendOptions { channel: Channel(20 + number), ..SendOptions::default() };
                    thread::spawn(move || {
                        for len in lengths() {
                            peer.send_with(&noise(len, number.into()), options).unwrap();
                        }
                    })
                })
                .collect();
            let mut next = [const { VecDeque::new() }; 4];
            next.iter_mut().for_each(|left| left.extend(lengths()));
            for _ in 0..4 * lengths().count() {
                let message = peer.recv_timeout(DEADLINE).unwrap();
                let number = message.channel().0 - 20;
                let len = next[number as usize].pop_front().unwrap();
                assert!(message[..] == noise(len, number.into()), "channel {number}, {len} bytes");
            }
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            assert!(client.shutdown(DEADLINE));
            assert!(server.shutdown(DEADLINE));
        }
    }
}

/// Being woken for a message that another thread took is no reason to give up waiting.
#[test]
fn readers_that_share_a_peer_wait_as_long_as_they_said() {
    const COUNT: usize = 3_000;
    let (server, client) = (start(config("mmsg", 1)), start(config("mmsg", 1)));
    let peer = client.connect(&uri_of(&server)).unwrap();
    let shared = accepted(&server);
    let taken = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (shared, taken) = (shared.clone(), taken.clone());
            thread::spawn(move || {
                loop {
                    match shared.recv_timeout(DEADLINE) {
                        Ok(_) => taken.fetch_add(1, Ordering::Relaxed),
                        Err(RecvError::Closed(_)) => return,
                        Err(error) => panic!("{error}"),
                    };
                }
            })
        })
        .collect();
    for number in 0..COUNT {
        peer.send(&number.to_be_bytes()).unwrap();
        // Pauses, so that the readers fall asleep again and again.
        if number % 3 == 0 {
            thread::sleep(Duration::from_micros(100));
        }
    }
    assert!(peer.flush(DEADLINE));
    peer.close(0);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(taken.load(Ordering::Relaxed), COUNT);
}

/// What a kernel, a link or a container may refuse is a matter of speed alone.
#[test]
fn everything_arrives_without_offload_and_without_steering() {
    let refuse: [fn(&mut Config); 3] =
        [|config| config.io.gso = false, |config| config.io.gro = false, |config| config.io.steering = false];
    for io in backends("everything_arrives_without_offload_and_without_steering") {
        for refuse in refuse {
            let mut poor = config(io, 3);
            refuse(&mut poor);
            let server = start(poor.clone());
            if !poor.io.steering {
                assert!(matches!(server.steering(), Steering::Kernel(_)), "{:?}", server.steering());
            }
            echo_all(server.clone());
            // Callers that the kernel's hash brings to any of the shards, each with a Hello and a session.
            for seed in 0..6 {
                let client = start(config(io, 1));
                let peer = client.connect(&uri_of(&server)).unwrap();
                peer.send(&noise(300_000, seed)).unwrap();
                assert!(peer.recv_timeout(DEADLINE).unwrap()[..] == noise(300_000, seed));
                assert!(client.shutdown(DEADLINE));
            }
            let caller = start(poor);
            let quiet = start(config(io, 1));
            let peer = caller.connect(&uri_of(&quiet)).unwrap();
            peer.send(&noise(300_000, 7)).unwrap();
            assert!(accepted(&quiet).recv_timeout(DEADLINE).unwrap()[..] == noise(300_000, 7));
            server.shutdown(DEADLINE);
        }
    }
}

/// A peer that reads slowly fills its sender's queue: `try_send` says so, `cancel` makes room, and nothing is lost.
#[test]
fn a_full_queue_is_said_and_what_is_cancelled_leaves_it() {
    const LEN: usize = 100_000;
    let (server, client) = (start(config("mmsg", 1)), start(config("mmsg", 1)));
    let peer = client.connect(&uri_of(&server)).unwrap();
    let reader = accepted(&server);
    let mut tickets = Vec::new();
    // The first of them fill the reader's credit; it takes a moment until those behind stay queued for good.
    let mut full = 0;
    while full < 50 {
        match peer.try_send_cancellable(&noise(LEN, tickets.len() as u64), SendOptions::default()) {
            Ok(ticket) => tickets.push(ticket),
            Err(SendError::WouldBlock) => {
                full += 1;
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(matches!(peer.try_send(b"more"), Err(SendError::WouldBlock)));
    let queued = peer.queued();
    let last = tickets.pop().unwrap();
    peer.cancel(last);
    wait_until("its room is given back", || peer.queued() + LEN <= queued);
    for seed in 0..tickets.len() as u64 {
        assert!(reader.recv_timeout(DEADLINE).unwrap()[..] == noise(LEN, seed), "message {seed}");
    }
    peer.send(b"the end").unwrap();
    assert_eq!(&reader.recv_timeout(DEADLINE).unwrap()[..], b"the end", "the last one was cancelled");
    assert!(client.shutdown(DEADLINE) && server.shutdown(DEADLINE));
}

#[test]
fn many_sessions_share_the_shards() {
    for io in backends("many_sessions_share_the_shards") {
        let server = start(config(io, 3));
        echo_all(server.clone());
        let uri = uri_of(&server);
        let threads: Vec<_> = (0..12u64)
            .map(|seed| {
                let (uri, config) = (uri.clone(), config(io, 1));
                thread::spawn(move || {
                    let client = start(config);
                    let peer = client.connect(&uri).unwrap();
                    for len in lengths() {
                        peer.send(&noise(len, seed)).unwrap();
                        assert!(peer.recv_timeout(DEADLINE).unwrap()[..] == noise(len, seed));
                    }
                    peer.close(0);
                    // An engine that is only dropped takes its CLOSE with it, and the server would wait for acknowledgements.
                    client.shutdown(DEADLINE);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(server.shutdown(DEADLINE));
    }
}

#[test]
fn an_async_runtime_does_the_same() {
    for io in backends("an_async_runtime_does_the_same") {
        let (server, client) = (start(config(io, 2)), start(config(io, 1)));
        let uri = uri_of(&server).parse().unwrap();
        let executor = async_executor::Executor::new();
        futures_lite::future::block_on(executor.run(async {
            let serve = executor.spawn(async {
                let Event::Accepted(peer) = server.next_event_async().await else {
                    panic!("a session first")
                };
                while let Ok(message) = peer.recv_async().await {
                    peer.send_async(&message, SendOptions::default()).await.unwrap();
                }
            });
            let peer = client.connect_async(&uri, &ConnectOptions::default()).await.unwrap().peer;
            let reader = peer.clone();
            let read = executor.spawn(async move {
                for seed in 0..200 {
                    let message = reader.recv_async().await.unwrap();
                    assert!(message[..] == noise(50_000, seed), "message {seed}");
                }
            });
            // More than the queue holds: the future waits.
            for seed in 0..200 {
                peer.send_async(&noise(50_000, seed), SendOptions::default()).await.unwrap();
            }
            read.await;
            peer.close(0);
            serve.await;
        }));
    }
}

/// Answers in place, and passes on what begins with a p.
struct Answering;

impl Handler for Answering {
    fn on_message(&mut self, channel: Channel, bytes: &[u8], reply: &mut Reply<'_>) -> Verdict {
        if bytes.first() == Some(&b'p') {
            return Verdict::Pass;
        }
        let options = SendOptions { channel, ..SendOptions::default() };
        assert!(reply.send_with(bytes, options));
        Verdict::Handled
    }
}

#[test]
fn a_handler_on_the_core_answers_in_place() {
    for io in backends("a_handler_on_the_core_answers_in_place") {
        let server = Engine::builder(config(io, 2)).ephemeral().on_message(|| Answering).start().unwrap();
        let client = start(config(io, 1));
        let peer = client.connect(&uri_of(&server)).unwrap();
        for number in 0..1_000u32 {
            peer.send(&number.to_be_bytes()).unwrap();
        }
        for number in 0..1_000u32 {
            assert_eq!(peer.recv_timeout(DEADLINE).unwrap()[..], number.to_be_bytes());
        }
        peer.send(b"pass me on").unwrap();
        assert_eq!(&accepted(&server).recv_timeout(DEADLINE).unwrap()[..], b"pass me on");
    }
}

#[test]
fn early_data_arrives_once_and_its_room_is_given_back() {
    for io in backends("early_data_arrives_once_and_its_room_is_given_back") {
        let (server, client) = (start(config(io, 1)), start(config(io, 1)));
        let early =
            (0..3u8).map(|number| Early { bytes: vec![number; 200], options: SendOptions::default() });
        let options = ConnectOptions { early: early.collect() };
        let connected = client.connect_with(&uri_of(&server).parse().unwrap(), &options).unwrap();
        assert_eq!(connected.early, EarlyData::Accepted);
        let peer = accepted(&server);
        connected.peer.send(b"after").unwrap();
        for number in 0..3 {
            assert_eq!(peer.recv_timeout(DEADLINE).unwrap()[..], [number; 200]);
        }
        assert_eq!(&peer.recv_timeout(DEADLINE).unwrap()[..], b"after");
        assert!(connected.peer.flush(DEADLINE) && connected.peer.queued() == 0);
    }
}

#[test]
fn a_shutdown_delivers_what_was_sent_before_it() {
    for io in backends("a_shutdown_delivers_what_was_sent_before_it") {
        let (server, client) = (start(config(io, 1)), start(config(io, 1)));
        let peer = client.connect(&uri_of(&server)).unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let (reader, count) = (accepted(&server), taken.clone());
        let reading = thread::spawn(move || {
            while let Ok(message) = reader.recv() {
                assert!(message[..] == noise(10_000, count.fetch_add(1, Ordering::Relaxed) as u64));
            }
        });
        for seed in 0..500 {
            peer.send(&noise(10_000, seed)).unwrap();
        }
        assert!(client.shutdown(DEADLINE), "everything was acknowledged");
        reading.join().unwrap();
        assert_eq!(taken.load(Ordering::Relaxed), 500);
        assert!(matches!(peer.send(b"late"), Err(SendError::Closed(_))));
        assert!(matches!(peer.recv(), Err(RecvError::Closed(_))));
        assert!(matches!(server.event_timeout(DEADLINE), Some(Event::Closed { .. })));
        server.shutdown(DEADLINE);
    }
}

#[test]
fn an_engine_that_stops_ends_every_wait() {
    let (server, client) = (start(config("mmsg", 1)), start(config("mmsg", 1)));
    let peer = client.connect(&uri_of(&server)).unwrap();
    let waiting = [
        thread::spawn(move || assert!(matches!(peer.recv(), Err(RecvError::Closed(_))))),
        thread::spawn({
            let client = client.clone();
            move || while !matches!(client.next_event(), Event::Stopped) {}
        }),
        thread::spawn({
            let client = client.clone();
            move || assert!(client.connect("127.0.0.1:9").is_err())
        }),
    ];
    thread::sleep(Duration::from_millis(50));
    client.shutdown(Duration::from_millis(100));
    waiting.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_peer_that_dies_is_an_error_not_a_silence() {
    for io in backends("a_peer_that_dies_is_an_error_not_a_silence") {
        let scratch = Scratch::new("dead");
        let mut node = Node::start(&scratch, &["node", "--listen", "127.0.0.1:0", "--io", io]);
        let mut config = config(io, 1);
        config.transport.idle_timeout = Duration::from_secs(3);
        let client = start(config);
        let peer = client.connect(&node.uri).unwrap();
        peer.send(b"are you there?").unwrap();
        assert!(peer.flush(DEADLINE));
        node.process.kill();
        // Everything fits the queue or waits for room: either way the end is told.
        let error = loop {
            match peer.send(&noise(100_000, 1)) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SendError::Closed(CloseReason::Idle | CloseReason::Unresponsive)), "{error}");
        assert!(matches!(peer.recv(), Err(RecvError::Closed(_))));
        assert!(matches!(client.event_timeout(DEADLINE), Some(Event::Closed { .. })));
    }
}

#[test]
fn a_nat_that_forgets_is_an_event_and_nothing_else() {
    for io in backends("a_nat_that_forgets_is_an_event_and_nothing_else") {
        let (server, client) = (start(config(io, 2)), start(config(io, 1)));
        let proxy = Impairment::both(Link::default(), 3).start(server.local_addr()).unwrap();
        let uri = format!("dunlin://{}@{}", server.id(), proxy.address());
        let peer = client.connect(&uri).unwrap();
        let serving = accepted(&server);
        let before = serving.remote();
        for round in 0..5u8 {
            peer.send(&[round]).unwrap();
            assert_eq!(serving.recv_timeout(DEADLINE).unwrap()[..], [round]);
            serving.send(&[round]).unwrap();
            assert_eq!(peer.recv_timeout(DEADLINE).unwrap()[..], [round]);
            proxy.rebind();
        }
        let roamed = loop {
            match server.event_timeout(DEADLINE).expect("it roamed") {
                Event::Roamed { peer, remote } if peer == serving => break remote,
                Event::Closed { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        };
        assert_ne!(roamed, before);
    }
}

#[test]
fn both_families_reach_one_engine() {
    let name = "both_families_reach_one_engine";
    if Capability::Ipv6.is_missing(name) {
        return;
    }
    for io in backends(name) {
        let mut both = config(io, 2);
        both.node.listen = "[::]:0".parse().unwrap();
        let server = start(both.clone());
        echo_all(server.clone());
        let port = server.local_addr().port();
        for (listen, host) in
            [("[::]:0", "127.0.0.1"), ("[::]:0", "[::1]"), ("[::1]:0", "[::1]"), ("127.0.0.1:0", "127.0.0.1")]
        {
            let mut config = both.clone();
            config.node.listen = listen.parse().unwrap();
            let client = start(config);
            let peer = client.connect(&format!("dunlin://{}@{host}:{port}", server.id())).unwrap();
            peer.send(&noise(100_000, 1)).unwrap();
            assert!(peer.recv_timeout(DEADLINE).unwrap()[..] == noise(100_000, 1), "{listen} to {host}");
        }
    }
}

#[test]
fn a_node_that_calls_itself_is_told_so() {
    let node = start(config("mmsg", 1));
    let refused = node.connect(&uri_of(&node));
    assert!(matches!(refused, Err(ConnectError::OwnId)), "{refused:?}");
    assert!(node.shutdown(DEADLINE));
}

#[test]
fn a_message_that_is_too_long_is_refused_and_the_session_goes_on() {
    let mut small = config("mmsg", 1);
    small.transport.message_max = ByteSize(10_000);
    let (server, client) = (start(config("mmsg", 1)), start(small));
    echo_all(server.clone());
    let peer = client.connect(&uri_of(&server)).unwrap();
    assert!(matches!(peer.send(&[0; 10_001]), Err(SendError::TooLong { len: 10_001, max: 10_000 })));
    peer.send(&[1; 10_000]).unwrap();
    assert_eq!(peer.recv_timeout(DEADLINE).unwrap()[..], [1; 10_000]);
}

/// A reader that takes its time holds its sender up; the session lives on, however long that is.
#[test]
fn a_slow_reader_does_not_end_the_session() {
    let mut config = config("mmsg", 1);
    config.transport.idle_timeout = Duration::from_secs(2);
    let (server, client) = (start(config.clone()), start(config));
    let peer = client.connect(&uri_of(&server)).unwrap();
    let sending = thread::spawn(move || {
        for seed in 0..40 {
            peer.send(&noise(1 << 20, seed)).unwrap();
        }
        assert!(peer.flush(DEADLINE));
    });
    let reader = accepted(&server);
    thread::sleep(Duration::from_secs(5));
    for seed in 0..40 {
        assert!(reader.recv_timeout(DEADLINE).unwrap()[..] == noise(1 << 20, seed), "message {seed}");
    }
    sending.join().unwrap();
}

/// Two that call each other at the same moment have two sessions, which become one while messages are on their way on both.
/// spec: atp/succession
#[test]
fn two_that_call_each_other_at_once_hear_all_in_order() {
    const WORDS: u32 = 300;
    for round in 0..12 {
        let engines = [1 + round % 3, 1].map(|shards| start(config("mmsg", shards)));
        let uris = [uri_of(&engines[1]), uri_of(&engines[0])];
        thread::scope(|scope| {
            for (engine, uri) in engines.iter().zip(&uris) {
                scope.spawn(move || {
                    let peer = engine.connect(uri).unwrap();
                    scope.spawn({
                        let peer = peer.clone();
                        move || (0..WORDS).for_each(|number| peer.send(&number.to_be_bytes()).unwrap())
                    });
                    for number in 0..WORDS {
                        let heard = peer.recv_timeout(DEADLINE).unwrap();
                        assert_eq!(heard[..], number.to_be_bytes(), "every message comes, in its order");
                    }
                });
            }
        });
    }
}
