//! What a flood of junk does to a session (T1): its goodput before, during and after, and what the node made of the junk.
//!
//! `cargo run --release -p dunlin-bench --bin junk -- [--pace GBIT] [--io uring|mmsg] [--seconds N] [--junk-max MPPS]`
//!
//! The flooded node and its application have a core to themselves; the session's other end and the flood share another one where
//! there are two only. Then the pace must leave room for both: what the flood takes from the sender is not the node's doing.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use dunlin::config::Backend;
use dunlin::runtime::pin_to;
use dunlin::{Config, Engine, Event, Peer};
use dunlin_bench::junk::{Junk, Kind};
use dunlin_codec::ids::SessionId;
use dunlin_shards::stats::{DropReason, Stats};

/// Bytes of the session's messages.
const MESSAGE_LEN: usize = 64 << 10;
/// A node tells its numbers ten times a second.
const TOLD: Duration = Duration::from_millis(250);
/// Generations that a session's slot may have.
const GENERATIONS: u8 = 64;

/// A flood of junk against a node with one paced session.
#[derive(Parser)]
struct Arguments {
    /// What the session sends, in Gbit/s.
    #[arg(long, default_value_t = 1.0)]
    pace: f64,
    /// The flooded node's back end.
    #[arg(long, default_value = "uring")]
    io: Io,
    /// How long each phase takes.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Junk at most, in millions of datagrams a second.
    #[arg(long, default_value_t = 1e3)]
    junk_max: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Io {
    Uring,
    Mmsg,
}

/// What a phase came to.
struct Phase {
    goodput: f64,
    junk_sent: f64,
    stats: Stats,
    sessions: usize,
}

struct Place {
    node: Engine,
    taken: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Place {
    /// Measures for so long.
    fn measure(&self, time: Duration) -> Phase {
        let before = (self.taken.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed));
        let begun = Instant::now();
        thread::sleep(time);
        let seconds = begun.elapsed().as_secs_f64();
        let taken = self.taken.load(Ordering::Relaxed) - before.0;
        let junk = self.sent.load(Ordering::Relaxed) - before.1;
        let stats = self.node.stats();
        Phase {
            goodput: taken as f64 * 8e-9 / seconds,
            junk_sent: junk as f64 * 1e-6 / seconds,
            stats: stats.protocol(),
            sessions: stats.shards.iter().map(|shard| shard.sessions).sum(),
        }
    }
}

fn start(core: usize, io: Io) -> Result<Engine, Box<dyn Error>> {
    pin_to(core)?;
    let backend = match io {
        Io::Uring => Backend::Uring,
        Io::Mmsg => Backend::Mmsg,
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(Engine::builder(Config::default().listen(listen).cores(1).backend(backend)).ephemeral().start()?)
}

/// Sends messages at a pace until the session ends.
fn send(peer: &Peer, pace: f64) {
    let message = vec![0x5a; MESSAGE_LEN];
    let step = Duration::from_secs_f64(MESSAGE_LEN as f64 * 8e-9 / pace);
    let mut due = Instant::now();
    while peer.send(&message).is_ok() {
        due += step;
        let now = Instant::now();
        match due.checked_duration_since(now) {
            Some(early) => thread::sleep(early),
            // What could not be sent in time is not made up for.
            None => due = now,
        }
    }
}

/// The session's id at the node: of 64 that it can have, the one whose tag is looked at.
fn find_session(node: &Engine) -> Result<SessionId, Box<dyn Error>> {
    let looked_at = || {
        thread::sleep(TOLD);
        let stats = node.stats().protocol();
        stats.drops(DropReason::Forged) + stats.drops(DropReason::UnmatchedSource)
    };
    let mut generations: Vec<u8> = (0..GENERATIONS).collect();
    while generations.len() > 1 {
        let half = generations.split_off(generations.len() / 2);
        let kinds: Vec<Kind> =
            half.iter().map(|generation| Kind::WrongTag(SessionId::new(0, 0, *generation))).collect();
        let before = looked_at();
        Junk::new(node.local_addr(), &kinds)?.send_one_of_each()?;
        if looked_at() > before {
            generations = half;
        }
    }
    Ok(SessionId::new(0, 0, generations[0]))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    dunlin::runtime::prepare();
    let cores = dunlin::runtime::cores()?;
    let (near, far) = (cores[0], *cores.get(1).unwrap_or(&cores[0]));
    let node = start(far, arguments.io)?;
    let uri = format!("dunlin://{}@{}", node.id(), node.local_addr());
    let taken = Arc::new(AtomicU64::new(0));
    let (serving, count) = (node.clone(), taken.clone());
    // A thread starts on the cores of the one that starts it.
    thread::spawn(move || {
        let Event::Accepted(peer) = serving.next_event() else { return };
        while let Ok(message) = peer.recv() {
            count.fetch_add(message.len() as u64, Ordering::Relaxed);
        }
    });
    let client = start(near, arguments.io)?;
    let peer = client.connect(&uri)?;
    let sending = peer.clone();
    let sender = thread::spawn(move || send(&sending, arguments.pace));

    let id = find_session(&node)?;
    let place = Place { node, taken, sent: Arc::new(AtomicU64::new(0)) };
    let time = Duration::from_secs_f64(arguments.seconds);
    let before = place.measure(time);
    let stop = Arc::new(AtomicBool::new(false));
    let junk =
        Junk::new(place.node.local_addr(), &[Kind::WrongMac1, Kind::UnknownSession, Kind::WrongTag(id)])?;
    pin_to(*cores.get(2).unwrap_or(&near))?;
    let (stopping, sent) = (stop.clone(), place.sent.clone());
    let rate_max = arguments.junk_max * 1e6;
    let flood = thread::spawn(move || junk.run(rate_max, &stopping, &sent));
    let during = place.measure(time);
    stop.store(true, Ordering::Relaxed);
    flood.join().expect("the flood does not panic");
    thread::sleep(Duration::from_secs(1));
    let after = place.measure(time);
    peer.close(0);
    sender.join().expect("the sender does not panic");
    report(&before, &during, &after);
    Ok(())
}

fn report(before: &Phase, during: &Phase, after: &Phase) {
    println!("goodput before the flood  {:8.3} Gbit/s", before.goodput);
    let ratio = |phase: &Phase| phase.goodput / before.goodput;
    println!("during it                 {:8.3} Gbit/s, {:.3} of that before", during.goodput, ratio(during));
    println!("1 s after its end         {:8.3} Gbit/s, {:.3} of that before", after.goodput, ratio(after));
    println!("junk sent                 {:8.3} M datagrams/s", during.junk_sent);
    let dropped = |reason| after.stats.drops(reason) - before.stats.drops(reason);
    println!("what the node made of it:");
    for (reason, count) in
        DropReason::ALL.iter().map(|reason| (reason, dropped(*reason))).filter(|(_, count)| *count > 0)
    {
        println!("  {:20} {count:10}", reason.name());
    }
    println!(
        "sessions and half-open handshakes: {} before, {} during, {} after",
        before.sessions, during.sessions, after.sessions
    );
    println!(
        "handshakes completed {}, resets sent {}",
        after.stats.handshakes_completed, after.stats.resets_sent
    );
}
