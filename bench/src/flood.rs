//! One core sends trains as fast as it can, another takes them in; sealed or not.
//!
//! In:    two sockets, a datagram size.
//! Out:   [`Rate`]: what arrived in the time measured.
//! Holds: each datagram of a sealed flood is sealed and opened by itself, in the frame that goes to or came from the
//!        kernel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dunlin::clock::Clock;
use dunlin::runtime::Driver;
use dunlin::socket::Socket;
use dunlin_shards::route::{Ecn, SocketIndex, TRAIN_LEN_MAX, TRAIN_SEGMENTS_MAX, Transmit};
use rustix::time::{ClockId, clock_gettime};

use crate::sealer::Sealer;

/// What is not measured at the start: caches, clock rate and queues settle.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long to look for the next train before sleeping.
const SPIN: Duration = Duration::from_micros(50);
/// Trains between two looks at the clock.
const LOOK_EVERY: u32 = 16;

/// What arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Datagrams.
    pub datagrams: u64,
    /// Trains that they came in.
    pub trains: u64,
    /// Bytes of payload.
    pub bytes: u64,
    /// Datagrams whose tag did not hold.
    pub forged: u64,
    /// The time measured.
    pub time: Duration,
    /// What the receiver's thread computed in that time, the kernel's part included.
    pub cpu: Duration,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Datagrams, those lost on the way included.
    pub datagrams: u64,
    /// What the sender's thread computed for them, the kernel's part included: on loopback, delivery too.
    pub cpu: Duration,
}

/// What the calling thread has computed so far.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Sent {
    /// Nanoseconds of a core per datagram.
    #[must_use]
    pub fn cpu_ns(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.datagrams.max(1) as f64
    }
}

impl Rate {
    /// Nanoseconds of a core per datagram.
    #[must_use]
    pub fn cpu_ns(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.datagrams.max(1) as f64
    }

    /// Millions of datagrams per second.
    #[must_use]
    pub fn mpps(&self) -> f64 {
        self.datagrams as f64 / self.time.as_secs_f64() / 1e6
    }

    /// Gigabits of payload per second.
    #[must_use]
    pub fn gbit_per_s(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.time.as_secs_f64() / 1e9
    }
}

/// Sends until told to stop.
pub struct Flood {
    /// To whom.
    pub to: SocketAddr,
    /// Bytes of each datagram.
    pub datagram_len: usize,
    /// How to seal them, if at all.
    pub sealer: Option<Sealer>,
    /// Set by somebody else in the end.
    pub stop: Arc<AtomicBool>,
}

impl Driver for Flood {
    type Output = Sent;

    async fn run<S: Socket>(mut self, socket: &mut S) -> Sent {
        let segments = TRAIN_SEGMENTS_MAX.min(TRAIN_LEN_MAX / self.datagram_len);
        let train = Transmit {
            local: None,
            remote: self.to,
            socket: SocketIndex(0),
            ecn: Ecn::NotEct,
            len: segments * self.datagram_len,
            segment_len: self.datagram_len,
        };
        let (mut sent, start) = (Sent::default(), thread_cpu());
        while !self.stop.load(Ordering::Relaxed) {
            let Some(frame) = socket.frame() else {
                socket.wait(None).await;
                continue;
            };
            if let Some(sealer) = &mut self.sealer {
                frame[..train.len].chunks_mut(self.datagram_len).for_each(|datagram| sealer.seal(datagram));
            }
            socket.transmit(&train);
            sent.datagrams += segments as u64;
        }
        socket.flush();
        sent.cpu = thread_cpu() - start;
        sent
    }
}

/// Takes in what comes for a while, counted from the first train.
pub struct Sink {
    /// What the time is.
    pub clock: Clock,
    /// How long to measure.
    pub time: Duration,
    /// How to open datagrams, if at all.
    pub sealer: Option<Sealer>,
}

impl Driver for Sink {
    type Output = Rate;

    async fn run<S: Socket>(self, socket: &mut S) -> Rate {
        self.take(socket, Duration::MAX).await;
        self.take(socket, WARM_UP).await;
        self.take(socket, self.time).await
    }
}

impl Sink {
    /// Counts for so long; `MAX`: until the first trains.
    async fn take<S: Socket>(&self, socket: &mut S, time: Duration) -> Rate {
        let mut rate = Rate::default();
        let (start, cpu) = (self.clock.instant(), thread_cpu());
        let end = start + time;
        let (mut look, mut last) = (0, None);
        loop {
            let taken = socket.receive(|arrival, bytes| {
                rate.trains += 1;
                rate.bytes += bytes.len() as u64;
                rate.datagrams += bytes.len().div_ceil(arrival.segment_len) as u64;
                if let Some(sealer) = &self.sealer {
                    let forged =
                        bytes.chunks_mut(arrival.segment_len).filter_map(|d| (!sealer.open(d)).then_some(()));
                    rate.forged += forged.count() as u64;
                }
            });
            look += taken as u32;
            if taken == 0 || look >= LOOK_EVERY {
                look = 0;
                let now = self.clock.instant();
                if now >= end || (time == Duration::MAX && rate.trains > 0) {
                    (rate.time, rate.cpu) = (now.since(start), thread_cpu() - cpu);
                    return rate;
                }
            }
            if taken > 0 {
                last = None;
                continue;
            }
            // As a core's loop does it: waking a sleeper costs the sender more than the train does.
            let now = self.clock.instant();
            if now.since(*last.get_or_insert(now)) > SPIN {
                socket.wait(None).await;
            }
        }
    }
}
