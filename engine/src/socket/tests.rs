//! Stories that both back ends must live through, on loopback, each on a thread of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use dunlin_shards::placement::{Placement, PlacementSeeds};
use dunlin_shards::route::{Arrival, Ecn, SocketIndex, TRAIN_LEN_MAX, TRAIN_SEGMENTS_MAX, Transmit};

use super::group::{Group, GroupOptions};
use super::outbox::FRAME_COUNT;
use super::plain::PlainSocket;
use super::probe::{Backend, IoChoice, choose};
use super::{Doorbell, KernelBuffers, Socket};
use crate::clock::Clock;
use crate::runtime::{Driver, RuntimeOptions, start};

/// Long enough for a busy machine; nothing asserts that something took less.
const PATIENCE: Duration = Duration::from_secs(10);

fn transmit(remote: SocketAddr, len: usize, segment_len: usize) -> Transmit {
    Transmit { local: None, remote, socket: SocketIndex(0), ecn: Ecn::NotEct, len, segment_len }
}

fn loopback(address: SocketAddr) -> SocketAddr {
    let ip = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
    SocketAddr::new(if address.ip().is_unspecified() { ip } else { address.ip() }, address.port())
}

fn stranger(address: &str) -> io::Result<PlainSocket> {
    PlainSocket::bind(address.parse().unwrap(), KernelBuffers::default())
}

/// Bytes that tell where they were.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Runs a story on one shard of that back end; `None` when the host has it not.
fn tell<D: Driver>(
    backend: Backend,
    address: &str,
    options: GroupOptions,
    story: impl FnOnce(SocketAddr, Doorbell, Clock) -> D,
) -> Option<D::Output> {
    let io = match backend {
        Backend::Uring => IoChoice::Uring,
        Backend::Mmsg => IoChoice::Mmsg,
    };
    if let Err(error) = choose(io) {
        println!("SKIPPED io_uring: the uring back end: {error}");
        return None;
    }
    let placement = Placement::new(1, PlacementSeeds::default());
    let group = match Group::bind(address.parse().unwrap(), &placement, &options) {
        Ok(group) => group,
        Err(error) if address.starts_with('[') => {
            println!("SKIPPED ipv6: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let clock = Clock::start();
    let mut driver = Some(story(loopback(group.local_addr()), group.doorbells().remove(0), clock));
    let options = RuntimeOptions { io, ..RuntimeOptions::default() };
    let running = start(group, clock, &options, |_| driver.take().unwrap()).unwrap();
    assert_eq!(running.reports()[0].backend, backend);
    running.join().pop()
}

/// Trains as they come, until there are `bytes` of them.
async fn receive<S: Socket>(socket: &mut S, clock: Clock, bytes: usize) -> Vec<(Arrival, Vec<u8>)> {
    let mut trains: Vec<(Arrival, Vec<u8>)> = Vec::new();
    let deadline = clock.instant() + PATIENCE;
    loop {
        while socket.receive(|arrival, bytes| trains.push((*arrival, bytes.to_vec()))) > 0 {}
        if trains.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() >= bytes {
            return trains;
        }
        assert!(clock.instant() < deadline, "nothing more comes after {trains:?}");
        socket.wait(Some(deadline)).await;
    }
}

fn send<S: Socket>(socket: &mut S, transmit: &Transmit) {
    let bytes = pattern(transmit.len);
    socket.frame().expect("a frame is free")[..transmit.len].copy_from_slice(&bytes);
    socket.transmit(transmit);
}

/// Both back ends, by the same name.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod uring { $(#[test] fn $name() { super::$name(super::Backend::Uring) })* }
        mod mmsg { $(#[test] fn $name() { super::$name(super::Backend::Mmsg) })* }
    };
}

on_both! {
    a_full_train_goes_out_and_comes_back_as_one
    without_segmentation_the_same_bytes_arrive
    marks_and_addresses_survive
    the_doorbell_wakes_a_sleeper
    a_deadline_wakes_a_sleeper
    frames_run_out_only_until_the_flush
    a_burst_loses_nothing
    an_empty_datagram_is_counted_and_passed_over
}

/// Sends every train to the peer, who sends it back.
struct Echo {
    peer: SocketAddr,
    clock: Clock,
    trains: Vec<(usize, usize)>,
}

impl Driver for Echo {
    type Output = (Vec<Vec<(Arrival, Vec<u8>)>>, super::SocketCounters);

    async fn run<S: Socket>(self, socket: &mut S) -> Self::Output {
        let mut echoed = Vec::new();
        for (len, segment_len) in self.trains {
            send(socket, &transmit(self.peer, len, segment_len));
            socket.flush();
            echoed.push(receive(socket, self.clock, len).await);
        }
        (echoed, *socket.counters())
    }
}

/// Sends back what comes, as it came, until `trains` have come.
fn mirror(peer: PlainSocket, trains: usize) -> thread::JoinHandle<Vec<(Arrival, usize)>> {
    thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        let mut seen = Vec::new();
        while seen.len() < trains {
            let (arrival, len) = peer.receive(&mut bytes).unwrap();
            let back = Transmit {
                local: arrival.local,
                remote: arrival.remote,
                socket: SocketIndex(0),
                ecn: arrival.ecn,
                len,
                segment_len: arrival.segment_len,
            };
            peer.send(&back, &bytes).unwrap();
            seen.push((arrival, len));
        }
        seen
    })
}

/// The greatest trains that we send, over IPv4, IPv6, and IPv4 on a socket that speaks both.
fn a_full_train_goes_out_and_comes_back_as_one(backend: Backend) {
    let trains = vec![
        (TRAIN_LEN_MAX, 1_200),
        (TRAIN_LEN_MAX, 8_900),
        (TRAIN_SEGMENTS_MAX * 1_000, 1_000),
        (700, 700),
        (1, 1),
    ];
    for (ours, theirs) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("[::1]:0", "[::1]:0"),
        ("[::]:0", "127.0.0.1:0"),
        ("[::]:0", "[::1]:0"),
    ] {
        let Ok(peer) = stranger(theirs) else {
            println!("SKIPPED ipv6: no {theirs}");
            continue;
        };
        let peer_address = peer.local_addr().unwrap();
        let mirror = mirror(peer, trains.len());
        let echo = |_, _, clock| Echo { peer: peer_address, clock, trains: trains.clone() };
        let Some((echoed, counters)) = tell(backend, ours, GroupOptions::default(), echo) else { return };
        for ((len, segment_len), echo) in trains.iter().zip(&echoed) {
            assert_eq!(echo.len(), 1, "one train, one read: {ours} {len}");
            assert_eq!(echo[0].0.segment_len, *segment_len);
            assert_eq!(echo[0].0.remote, peer_address, "never mapped");
            assert_eq!(echo[0].1, pattern(*len));
        }
        let seen: Vec<_> =
            mirror.join().unwrap().iter().map(|(seen, len)| (*len, seen.segment_len)).collect();
        assert_eq!(seen, trains);
        assert_eq!(counters.sent.train_count(), 5);
        assert_eq!(counters.received.datagrams, counters.sent.datagrams);
        assert_eq!((counters.received_truncated, counters.completions_overflowed), (0, 0));
    }
}

fn without_segmentation_the_same_bytes_arrive(backend: Backend) {
    let peer = stranger("127.0.0.1:0").unwrap();
    let peer_address = peer.local_addr().unwrap();
    let collector = thread::spawn(move || {
        let (mut bytes, mut all) = (vec![0; 65_536], Vec::new());
        while all.len() < TRAIN_LEN_MAX {
            let (_, len) = peer.receive(&mut bytes).unwrap();
            all.extend_from_slice(&bytes[..len]);
        }
        all
    });
    struct Send {
        peer: SocketAddr,
    }
    impl Driver for Send {
        type Output = super::SocketCounters;
        async fn run<S: Socket>(self, socket: &mut S) -> Self::Output {
            send(socket, &transmit(self.peer, TRAIN_LEN_MAX, 1_200));
            socket.flush();
            *socket.counters()
        }
    }
    let options = GroupOptions { segmentation: false, ..GroupOptions::default() };
    let told = tell(backend, "127.0.0.1:0", options, |_, _, _| Send { peer: peer_address });
    let Some(counters) = told else { return };
    assert_eq!((counters.sent_unsegmented, counters.sent.datagrams), (1, 55));
    assert_eq!(collector.join().unwrap(), pattern(TRAIN_LEN_MAX));
}

/// What the stranger sees of what we asked for, and we of what it asks for.
fn marks_and_addresses_survive(backend: Backend) {
    struct Marks {
        peer: PlainSocket,
        ours: SocketAddr,
        local: IpAddr,
        clock: Clock,
    }
    impl Driver for Marks {
        type Output = ();
        async fn run<S: Socket>(self, socket: &mut S) {
            let peer_address = self.peer.local_addr().unwrap();
            let mut bytes = [0; 2_000];
            for ecn in [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce] {
                let ours = Transmit { ecn, local: Some(self.local), ..transmit(peer_address, 300, 100) };
                send(socket, &ours);
                socket.flush();
                let (arrival, len) = self.peer.receive(&mut bytes).unwrap();
                assert_eq!((arrival.ecn, arrival.remote.ip(), len), (ecn, self.local, 300));

                let to = SocketAddr::new(self.local, self.ours.port());
                self.peer.send(&Transmit { ecn, ..transmit(to, 300, 100) }, &bytes).unwrap();
                let trains = receive(socket, self.clock, 300).await;
                assert_eq!(trains.len(), 1);
                let arrival = trains[0].0;
                assert_eq!((arrival.ecn, arrival.local, arrival.segment_len), (ecn, Some(self.local), 100));
            }
        }
    }
    // An address of loopback that nobody would pick unasked, where there are several.
    for (ours, theirs, local) in [
        ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.77"),
        ("[::]:0", "127.0.0.1:0", "127.0.0.77"),
        ("[::]:0", "[::1]:0", "::1"),
    ] {
        let Ok(peer) = stranger(theirs) else {
            println!("SKIPPED ipv6: no {theirs}");
            continue;
        };
        let local = local.parse().unwrap();
        tell(backend, ours, GroupOptions::default(), |ours, _, clock| Marks { peer, ours, local, clock });
    }
}

/// Sleeps without a deadline: only the doorbell ends that. Rings while awake are not lost either.
fn the_doorbell_wakes_a_sleeper(backend: Backend) {
    const RINGS: usize = 200;
    struct Sleeper {
        woken: Sender<()>,
    }
    impl Driver for Sleeper {
        type Output = u64;
        async fn run<S: Socket>(self, socket: &mut S) -> u64 {
            let mut rung = 0;
            while rung < RINGS as u64 {
                socket.wait(None).await;
                if socket.counters().doorbells > rung {
                    rung = socket.counters().doorbells;
                    self.woken.send(()).unwrap();
                }
            }
            rung
        }
    }
    let (woken, wakes) = channel();
    let told = tell(backend, "127.0.0.1:0", GroupOptions::default(), |_, bell, _| {
        thread::spawn(move || {
            for _ in 0..RINGS {
                bell.ring();
                if wakes.recv().is_err() {
                    return;
                }
            }
        });
        Sleeper { woken }
    });
    assert!(told.is_none_or(|rung| rung == RINGS as u64));
}

/// In order, out of order, in the past: no wait ends before its deadline for no reason, and all end.
fn a_deadline_wakes_a_sleeper(backend: Backend) {
    struct Dozer {
        clock: Clock,
    }
    impl Driver for Dozer {
        type Output = u64;
        async fn run<S: Socket>(self, socket: &mut S) -> u64 {
            // A first one far away, which the nearer ones must overtake.
            for millis in [0, 5, 1, 20, 3, 3, 1] {
                let far = self.clock.instant() + PATIENCE;
                let deadline = self.clock.instant() + Duration::from_millis(millis);
                socket.doorbell().ring();
                socket.wait(Some(far)).await;
                while self.clock.instant() < deadline {
                    socket.receive(|arrival, _| panic!("nobody sends: {arrival:?}"));
                    socket.wait(Some(deadline)).await;
                }
            }
            socket.counters().sleeps
        }
    }
    let told = tell(backend, "127.0.0.1:0", GroupOptions::default(), |_, _, clock| Dozer { clock });
    assert!(told.is_none_or(|sleeps| (6..40).contains(&sleeps)), "slept {told:?} times for seven deadlines");
}

fn frames_run_out_only_until_the_flush(backend: Backend) {
    struct Filler {
        peer: SocketAddr,
    }
    impl Driver for Filler {
        type Output = super::SocketCounters;
        async fn run<S: Socket>(self, socket: &mut S) -> Self::Output {
            let count = FRAME_COUNT - 1; // the last would leave by itself
            for _ in 0..count {
                send(socket, &transmit(self.peer, 100, 100));
            }
            assert_eq!(socket.counters().sent.train_count(), 0, "small ones wait for the flush");
            socket.flush();
            assert_eq!(socket.counters().sent.train_count(), count as u64);
            for _ in 0..4 * FRAME_COUNT {
                send(socket, &transmit(self.peer, 100, 100));
            }
            socket.flush();
            *socket.counters()
        }
    }
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = peer.local_addr().unwrap();
    let told = tell(backend, "127.0.0.1:0", GroupOptions::default(), |_, _, _| Filler { peer });
    assert!(told.is_none_or(|counters| counters.sent.train_count() == 5 * FRAME_COUNT as u64 - 1));
}

/// More trains than `uring` has buffers and `mmsg` takes in a batch, all there before the first look.
fn a_burst_loses_nothing(backend: Backend) {
    const TRAINS: usize = 100;
    struct Late {
        peer: PlainSocket,
        ours: SocketAddr,
        clock: Clock,
    }
    impl Driver for Late {
        type Output = (usize, super::SocketCounters);
        async fn run<S: Socket>(self, socket: &mut S) -> Self::Output {
            let bytes = pattern(12_000);
            for _ in 0..TRAINS {
                self.peer.send(&transmit(self.ours, bytes.len(), 1_200), &bytes).unwrap();
            }
            let trains = receive(socket, self.clock, TRAINS * bytes.len()).await;
            assert!(trains.iter().all(|(arrival, got)| arrival.segment_len == 1_200 && *got == bytes));
            (trains.len(), *socket.counters())
        }
    }
    let peer = stranger("127.0.0.1:0").unwrap();
    let told =
        tell(backend, "127.0.0.1:0", GroupOptions::default(), |ours, _, clock| Late { peer, ours, clock });
    let Some((trains, counters)) = told else { return };
    assert_eq!((trains, counters.receive_queue_drops, counters.completions_overflowed), (TRAINS, 0, 0));
}

fn an_empty_datagram_is_counted_and_passed_over(backend: Backend) {
    struct Look {
        peer: UdpSocket,
        ours: SocketAddr,
        clock: Clock,
    }
    impl Driver for Look {
        type Output = u64;
        async fn run<S: Socket>(self, socket: &mut S) -> u64 {
            self.peer.send_to(b"", self.ours).unwrap();
            self.peer.send_to(b"x", self.ours).unwrap();
            assert_eq!(receive(socket, self.clock, 1).await.len(), 1);
            socket.counters().received_empty
        }
    }
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let told =
        tell(backend, "127.0.0.1:0", GroupOptions::default(), |ours, _, clock| Look { peer, ours, clock });
    assert!(told.is_none_or(|empty| empty == 1));
}
