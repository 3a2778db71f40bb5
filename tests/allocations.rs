//! A steady session allocates nothing: counted over all threads of two processes, from `send` to `recv`.
//!
//! In:    messages that go over and come back, so many under way, between two nodes each in a process of its own.
//! Out:   allocations of either process between two marks.
//! Holds: between the marks nothing runs but the nodes and the threads that send and receive.
//!
//! The short test runs with the others; the full one, ten seconds and a million datagrams each way, with `--ignored`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dunlin::config::{Backend, ByteSize};
use dunlin::{Config, Engine, Event, Peer};
use dunlin_tests::allocator;

/// Set for the process that is the far side, to its back end.
const FAR: &str = "DUNLIN_TEST_ALLOCATIONS_FAR";
/// Bytes of a message: three datagrams and a part of one.
const LOAD_LEN: usize = 4_096;
/// Messages under way. Buffers are as large as that asks for after a moment, and stay so.
const WINDOW: u64 = 128;
/// Bytes of a message that asks for, or tells, a far side's `Marks`.
const MARK_LEN: usize = 24;
const DATAGRAM_MAX: u64 = 1_200;
/// Buffers that may still find that they have to be longer than ever before, however many datagrams go: a block more under
/// way, the first segment that has to be sent again.
const GROWTH_MAX: u64 = 64;
/// The same after the short warm-up of the everyday test, on a machine that is busy with other tests: queues still find their length
/// while some 100,000 datagrams go.
const GROWTH_SHORT_MAX: u64 = 512;
/// Allocations each time that a core sleeps on `uring`: the executor makes new sources for the timer and the doorbell.
const URING_PER_SLEEP: u64 = 10;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// A node for loopback.
fn engine(backend: Backend) -> Engine {
    let mut config = Config::default().listen("127.0.0.1:0".parse().unwrap()).cores(1).backend(backend);
    config.io.datagram_max = ByteSize(DATAGRAM_MAX);
    Engine::builder(config).ephemeral().start().unwrap()
}

/// A process's numbers at a moment. Looking at the engine's counters allocates: what counts before a stretch is what was
/// counted after the look, and the other way round.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    before_look: u64,
    after_look: u64,
    /// Times that the core slept.
    sleeps: u64,
}

impl Marks {
    fn now(engine: &Engine) -> Self {
        let before_look = allocator::allocations();
        let sleeps = engine.stats().shards.iter().map(|shard| shard.socket.sleeps).sum();
        Self { before_look, after_look: allocator::allocations(), sleeps }
    }

    fn to_bytes(self) -> [u8; MARK_LEN] {
        let mut bytes = [0; MARK_LEN];
        for (place, value) in bytes.chunks_exact_mut(8).zip([self.before_look, self.after_look, self.sleeps])
        {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let value = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        Self { before_look: value(0), after_look: value(8), sleeps: value(16) }
    }
}

/// The far side's process. On its own it is a test of nothing.
#[test]
fn far_side() {
    let Ok(backend) = std::env::var(FAR) else { return };
    let engine = engine(if backend == "uring" { Backend::Uring } else { Backend::Mmsg });
    println!("dunlin://{}@{}", engine.id(), engine.local_addr());
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let peer = loop {
        if let Event::Accepted(peer) = engine.next_event() {
            break peer;
        }
    };
    while let Ok(message) = peer.recv() {
        let sent = match message.len() {
            MARK_LEN => peer.send(&Marks::now(&engine).to_bytes()),
            _ => peer.send(&message),
        };
        if sent.is_err() {
            break;
        }
    }
}

/// The far side as a child; it ends when this does.
struct Far {
    child: Child,
    _output: BufReader<ChildStdout>,
}

impl Far {
    fn start(backend: Backend) -> (Self, String) {
        let backend = if backend == Backend::Uring { "uring" } else { "mmsg" };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "far_side", "--nocapture"]).env(FAR, backend);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let uri = loop {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "the far side tells its address");
            if let Some(at) = line.find("dunlin://") {
                break line[at..].trim().to_owned();
            }
        };
        (Self { child, _output: output }, uri)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Two tests at once would count each other's allocations.
static ALONE: Mutex<()> = Mutex::new(());

/// Messages over and back for so long, and until so many came; a new one goes for each that comes.
fn play(peer: &Peer, wanted: Duration, count: u64) {
    let load = [0x5a; LOAD_LEN];
    let (start, mut came) = (Instant::now(), 0);
    while came < count || start.elapsed() < wanted {
        assert_eq!(peer.recv().unwrap().len(), LOAD_LEN);
        came += 1;
        peer.send(&load).unwrap();
    }
}

/// Both processes' numbers, near and far; every message that was under way has come back.
fn mark(near: &Engine, peer: &Peer) -> [Marks; 2] {
    peer.send(&[0; MARK_LEN]).unwrap();
    loop {
        let message = peer.recv().unwrap();
        if message.len() == MARK_LEN {
            return [Marks::now(near), Marks::from_bytes(&message)];
        }
    }
}

/// Warms up, marks, plays for so long and for so many datagrams each way, marks again.
fn measure(backend: Backend, [warm_up, wanted]: [Duration; 2], datagrams: u64) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_far, uri) = Far::start(backend);
    let near = engine(backend);
    let peer = near.connect(&uri).unwrap();
    let begin = || (0..WINDOW).for_each(|_| peer.send(&[0x5a; LOAD_LEN]).unwrap());
    begin();
    play(&peer, warm_up, 0);
    let first = near.stats().protocol();
    // The first mark brings the blocks of its own size.
    mark(&near, &peer);
    let before = mark(&near, &peer);
    begin();
    play(&peer, wanted, datagrams.div_ceil(LOAD_LEN as u64 / DATAGRAM_MAX));
    let after = mark(&near, &peer);
    let last = near.stats().protocol();
    peer.close(0);
    let [sent, came] = [last.datagrams_out - first.datagrams_out, last.datagrams_in - first.datagrams_in];
    let made = [0, 1].map(|side| after[side].before_look - before[side].after_look);
    let sleeps = [0, 1].map(|side| after[side].sleeps - before[side].sleeps);
    println!(
        "{backend:?}: {made:?} allocations (near, far), {sent} datagrams went, {came} came, sleeps: {sleeps:?}"
    );
    assert!(sent >= datagrams && came >= datagrams, "there was load both ways: {sent}, {came}");
    for (made, sleeps) in made.into_iter().zip(sleeps) {
        // The counters of sleeps may lag behind by a tenth of a second.
        let asleep =
            if backend == Backend::Uring { URING_PER_SLEEP * (sleeps + sleeps / 4 + 100) } else { 0 };
        let growth = if wanted == SHORT[1] { GROWTH_SHORT_MAX } else { GROWTH_MAX };
        let allowed = growth + asleep;
        assert!(made <= allowed, "{made} allocations, {allowed} are allowed in {sleeps} sleeps");
    }
}

const SHORT: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(500)];
const LONG: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];

#[test]
fn a_steady_session_allocates_nothing() {
    measure(Backend::Mmsg, SHORT, 20_000);
}

#[test]
fn a_steady_session_allocates_nothing_per_datagram_on_uring() {
    measure(Backend::Uring, SHORT, 20_000);
}

#[test]
#[ignore = "takes fifteen seconds and the whole machine"]
fn a_million_datagrams_each_way_allocate_nothing() {
    measure(Backend::Mmsg, LONG, 1_000_000);
}

#[test]
#[ignore = "takes fifteen seconds and the whole machine"]
fn a_million_datagrams_each_way_allocate_nothing_per_datagram_on_uring() {
    measure(Backend::Uring, LONG, 1_000_000);
}
