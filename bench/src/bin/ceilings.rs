//! What this machine can do at best, in one run: a sender on one core, a receiver on another, over loopback.
//!
//! `cargo run --release -p dunlin-bench --bin ceilings -- [--seconds N] [--best-of N] [--queue-kib N]`
//!
//! Each figure is printed for the raw socket (one system call per train and nothing around it) and for both back ends:
//! what is below the raw socket's is the back end's doing. The columns in nanoseconds are what one side costs its core per
//! datagram; on loopback the sender pays for delivery too.

use std::error::Error;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use dunlin::clock::Clock;
use dunlin::entropy::OsEntropy;
use dunlin::runtime::{self, Driver, Running, RuntimeOptions, block_on, pin_to};
use dunlin::socket::group::{Group, GroupOptions};
use dunlin::socket::probe::{IoChoice, choose};
use dunlin::socket::{KernelBuffers, Socket};
use dunlin_bench::flood::{Flood, Rate, Sent, Sink};
use dunlin_bench::pingpong::{Ping, Pong};
use dunlin_bench::raw::RawSocket;
use dunlin_bench::sealer::Sealer;
use dunlin_shards::placement::{Placement, PlacementSeeds};

/// Round trips measured per figure.
const ROUNDS: usize = 5_000;

/// The raw ceilings of this machine.
#[derive(Parser)]
struct Arguments {
    /// How long each throughput figure is measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often it is measured; the best counts, as a busy machine only takes away.
    #[arg(long, default_value_t = 1)]
    best_of: u32,
    /// KiB that the kernel may queue for a receiver.
    #[arg(long, default_value_t = 8_192)]
    queue_kib: usize,
}

/// What moves the trains at one end.
#[derive(Clone, Copy, Debug)]
enum End {
    Raw,
    Mmsg,
    Uring,
}

/// A driver that is ready to start on its core, or runs there.
enum Started<T> {
    Thread(thread::JoinHandle<T>),
    Shard(Running<T>),
}

impl<T> Started<T> {
    fn join(self) -> T {
        match self {
            Self::Thread(thread) => thread.join().expect("a driver does not panic"),
            Self::Shard(running) => running.join().pop().expect("one shard"),
        }
    }
}

/// A bound socket whose driver is yet to come.
enum Bound {
    Raw(Box<RawSocket>),
    Shard(Group, IoChoice),
}

impl Bound {
    fn new(end: End, spinning: bool, buffers: KernelBuffers) -> Result<Self, Box<dyn Error>> {
        let io = match end {
            End::Raw => return Ok(Self::Raw(Box::new(RawSocket::bind(spinning, buffers)?))),
            End::Mmsg => IoChoice::Mmsg,
            End::Uring => IoChoice::Uring,
        };
        let placement = Placement::new(1, PlacementSeeds::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self::Shard(
            Group::bind(any, &placement, &GroupOptions { buffers, ..GroupOptions::default() })?,
            io,
        ))
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Raw(socket) => socket.local_addr(),
            Self::Shard(group, _) => group.local_addr(),
        }
    }

    fn start<D: Driver>(
        self,
        core: usize,
        clock: Clock,
        driver: D,
    ) -> Result<Started<D::Output>, Box<dyn Error>> {
        Ok(match self {
            Self::Raw(mut socket) => Started::Thread(thread::spawn(move || {
                pin_to(core).expect("the core is ours");
                block_on(driver.run(&mut *socket))
            })),
            Self::Shard(group, io) => {
                let options =
                    RuntimeOptions { io, cores: Some(vec![core]), oversubscribe: false, roaming: false };
                let mut driver = Some(driver);
                let make = |_| driver.take().expect("one shard");
                Started::Shard(runtime::start(group, clock, &options, make)?)
            }
        })
    }
}

/// Where both ends run, and how long.
struct Bench {
    best_of: u32,
    clock: Clock,
    sender_core: usize,
    receiver_core: usize,
    time: Duration,
    buffers: KernelBuffers,
}

impl Bench {
    fn flood(
        &self,
        ends: (End, End),
        datagram_len: usize,
        sealed: bool,
    ) -> Result<(Rate, Sent), Box<dyn Error>> {
        let (from, to) = (Bound::new(ends.0, true, self.buffers)?, Bound::new(ends.1, true, self.buffers)?);
        let address = to.address();
        let sealer = || sealed.then(Sealer::default);
        let sink = Sink { clock: self.clock, time: self.time, sealer: sealer() };
        let sink = to.start(self.receiver_core, self.clock, sink)?;
        let stop = Arc::new(AtomicBool::new(false));
        let flood = Flood { to: address, datagram_len, sealer: sealer(), stop: stop.clone() };
        let flood = from.start(self.sender_core, self.clock, flood)?;
        let rate = sink.join();
        stop.store(true, Ordering::Relaxed);
        let sent = flood.join();
        assert_eq!(rate.forged, 0, "loopback does not corrupt");
        Ok((rate, sent))
    }

    fn round_trip(&self, end: End, spin: bool) -> Result<Duration, Box<dyn Error>> {
        let (from, to) = (Bound::new(end, spin, self.buffers)?, Bound::new(end, spin, self.buffers)?);
        let ping = Ping { to: to.address(), clock: self.clock, rounds: ROUNDS, spin };
        let pong = to.start(self.receiver_core, self.clock, Pong { spin })?;
        let trip = from.start(self.sender_core, self.clock, ping)?.join();
        pong.join();
        Ok(trip)
    }
}

impl Bench {
    /// Ends take turns, so that what disturbs the machine disturbs all of them.
    fn print_floods(&self, ends: &[End], datagram_len: usize, sealed: bool) -> Result<(), Box<dyn Error>> {
        let mut best: Vec<Option<(Rate, Sent)>> = vec![None; ends.len()];
        for _ in 0..self.best_of {
            for (best, end) in best.iter_mut().zip(ends) {
                let (rate, sent) = self.flood((*end, *end), datagram_len, sealed)?;
                if best.is_none_or(|(best, _)| rate.mpps() > best.mpps()) {
                    *best = Some((rate, sent));
                }
            }
        }
        let kind = if sealed { "AES-256-GCM" } else { "plain" };
        for ((rate, sent), end) in best.iter().flatten().zip(ends) {
            let name = format!("{end:?} {datagram_len} {kind}").to_lowercase();
            let (mpps, gbit, per_train) =
                (rate.mpps(), rate.gbit_per_s(), rate.datagrams as f64 / rate.trains as f64);
            let (send, receive) = (sent.cpu_ns(), rate.cpu_ns());
            println!("{name:<26} {mpps:>8.2} {gbit:>8.1} {per_train:>10.1} {send:>10.0} {receive:>10.0}");
        }
        Ok(())
    }

    fn print_round_trips(&self, ends: &[End], spin: bool) -> Result<(), Box<dyn Error>> {
        for end in ends {
            let mut best = Duration::MAX;
            for _ in 0..self.best_of {
                best = best.min(self.round_trip(*end, spin)?);
            }
            let name = format!("{end:?} {}", if spin { "spinning" } else { "asleep" }).to_lowercase();
            println!("{name:<26} {:>8.1}", best.as_secs_f64() * 1e6);
        }
        Ok(())
    }
}

/// What one call costs, in the best of a few hundred rounds.
fn print_call(name: &str, call: impl Fn()) {
    const CALLS: u32 = 1_000;
    let clock = Clock::start();
    let round = || {
        let start = clock.instant();
        (0..CALLS).for_each(|_| call());
        clock.instant().since(start)
    };
    let best = (0..300).map(|_| round()).min().unwrap_or_default();
    println!("{name:<26} {:>8.0}", best.as_nanos() as f64 / f64::from(CALLS));
}

fn main() -> Result<(), Box<dyn Error>> {
    runtime::prepare();
    let arguments = Arguments::parse();
    let cores = runtime::cores()?;
    let [sender_core, receiver_core, ..] = cores[..] else {
        println!("SKIPPED ceilings: a sender and a receiver need a core each");
        return Ok(());
    };
    let time = Duration::from_secs_f64(arguments.seconds);
    let buffers = KernelBuffers { receive_len: arguments.queue_kib << 10, ..KernelBuffers::default() };
    let bench = Bench {
        best_of: arguments.best_of.max(1),
        clock: Clock::start(),
        sender_core,
        receiver_core,
        time,
        buffers,
    };
    let mut ends = vec![End::Raw, End::Mmsg];
    match choose(IoChoice::Uring) {
        Ok(_) => ends.push(End::Uring),
        Err(error) => println!("SKIPPED io_uring: the uring back end: {error}"),
    }
    println!("sender on core {sender_core}, receiver on core {receiver_core}, {time:?} per figure\n");
    println!(
        "{:<26} {:>8} {:>8} {:>10} {:>10} {:>10}",
        "trains over loopback", "Mpps", "Gbit/s", "per train", "send ns", "receive ns"
    );
    for (datagram_len, sealed) in [(1_200, false), (1_200, true), (8_900, false), (8_900, true)] {
        bench.print_floods(&ends, datagram_len, sealed)?;
    }
    println!("\n{:<26} {:>8}", "round trip, 64 bytes, median", "us");
    for spin in [false, true] {
        bench.print_round_trips(&ends, spin)?;
    }
    println!("\n{:<26} {:>8}", "once per batch", "ns");
    let clock = bench.clock;
    print_call("clock, both", || _ = black_box(clock.now()));
    print_call("clock, instant", || _ = black_box(clock.instant()));
    print_call("randomness, 32 bytes", || _ = black_box(OsEntropy.array::<32>()));
    Ok(())
}
