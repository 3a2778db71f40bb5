//! Dunlin through its public interface: handlers on the core, or application threads beside it.
//!
//! Holds: a core's shard and its application share that core, as in every other peer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dunlin::config::{ByteSize, Keepalive, Spin};
use dunlin::{
    Channel, Config, ConnectOptions, DunlinUri, Engine, Event, Handler, Host, Peer, RecvError, Reply, Verdict,
};

use super::{About, any_port, dunlin_callers, not_done};
use crate::Fault;
use crate::gauge::{Gauge, Wire};
use crate::job::{Job, Way};
use crate::load::{self, BALL_LEN};
use crate::works::Work;

/// Longer than any run.
const IDLE: Duration = Duration::from_secs(600);

pub(super) fn about() -> About {
    About {
        name: "Dunlin",
        version: crate::versions::of("dunlin").to_owned(),
        encryption: "Noise, AES-256-GCM (aws-lc-rs), both sides authenticated",
        settings: "one shard; io.datagram_max as the table says; io.spin adaptive unless named; receive and send buffers of 16 MiB \
                   (default); CUBIC; the server takes messages in a handler on the core unless application threads are named, the \
                   client sends from a thread of its own on the shard's core; bulk as messages of 64,256 bytes on one channel; one \
                   handshake at a time through Engine::connect, more and the idle ones by as many identities on one thread, each \
                   with a socket",
    }
}

fn config(job: &Job) -> Config {
    let spin = match job.way {
        Way::SpinOff => Spin::Off,
        Way::Busy => Spin::Busy,
        _ => Spin::Adaptive,
    };
    let mut config = Config::default().listen(any_port()).cores(1).spin(spin);
    config.io.datagram_max = ByteSize(job.datagram_len().into());
    config.transport.idle_timeout = IDLE;
    config.transport.keepalive = Keepalive::Off;
    config
}

pub(super) fn serve(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    let taker = Taker::new(job, gauge);
    let builder = Engine::builder(config(job)).ephemeral();
    let engine = match job.way {
        Way::Threads => builder.start()?,
        _ => builder.on_message(move || taker.clone()).start()?,
    };
    let taker = Taker::new(job, gauge);
    gauge.ready(engine.uri(Host::V4(std::net::Ipv4Addr::LOCALHOST)));
    let mut peers = Vec::new();
    loop {
        match engine.next_event() {
            Event::Accepted(peer) => {
                gauge.connected();
                match job.work {
                    Work::Memory { .. } => peers.push(peer),
                    Work::Handshakes { .. } => drop(peer),
                    _ if job.way == Way::Threads => serve_peer(&peer, taker.clone())?,
                    _ => peers.push(peer),
                }
            }
            Event::Stopped => return Err("the engine has stopped".into()),
            _ => {}
        }
    }
}

/// The application's thread, for the one session that there is.
fn serve_peer(peer: &Peer, mut taker: Taker) -> Result<(), Fault> {
    loop {
        match peer.recv() {
            Ok(message) if taker.is_echo => peer.send(&message)?,
            Ok(message) => taker.take(&message),
            Err(RecvError::Closed(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Counts what arrives, or sends it back.
#[derive(Clone)]
struct Taker {
    gauge: &'static Gauge,
    is_echo: bool,
    /// Messages carry numbers; blocks of a bulk stream do not.
    is_numbered: bool,
    len: usize,
    next: u64,
}

impl Taker {
    fn new(job: &Job, gauge: &'static Gauge) -> Self {
        let (is_numbered, len) = match job.work {
            Work::Messages { len } => (true, len),
            _ => (false, load::BLOCK_LEN),
        };
        Self { gauge, is_echo: job.work == Work::Latency, is_numbered, len, next: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        if bytes.len() != self.len {
            self.gauge.fault();
        }
        match self.is_numbered {
            true => load::take_ordered(self.gauge, bytes, &mut self.next),
            // Every block begins the pattern again.
            false => load::Bulk::default().take(self.gauge, bytes),
        }
    }
}

impl Handler for Taker {
    fn on_message(&mut self, _: Channel, bytes: &[u8], reply: &mut Reply<'_>) -> Verdict {
        match self.is_echo {
            true => drop(reply.send(bytes)),
            false => self.take(bytes),
        }
        Verdict::Handled
    }
}

pub(super) fn call(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    let uri: DunlinUri = job.address.parse().map_err(|error| format!("{}: {error}", job.address))?;
    match job.work {
        Work::Bulk { .. } => flood(&connect(job, &uri, gauge)?, gauge, &load::block()),
        Work::Messages { len } => send_numbered(&connect(job, &uri, gauge)?, gauge, len),
        Work::Latency if job.way == Way::Threads => play_by_thread(&connect(job, &uri, gauge)?, gauge),
        Work::Latency => play_on_core(job, &uri, gauge),
        Work::Handshakes { parallel: 1 } => shake(job, &uri, gauge),
        Work::Handshakes { parallel } => dunlin_callers::shake(&uri, parallel, gauge),
        Work::Memory { connections } => dunlin_callers::stay(&uri, connections, IDLE, gauge),
    }
    .and(Err(not_done(job)))
}

/// A session of an engine that lives as long as this process.
fn connect(job: &Job, uri: &DunlinUri, gauge: &Gauge) -> Result<Peer, Fault> {
    let engine = Engine::builder(config(job)).ephemeral().start()?;
    let peer = engine.connect_with(uri, &ConnectOptions::default())?.peer;
    // The meter keeps the engine.
    gauge.meter(move || {
        let stats = engine.stats().protocol();
        Wire { datagrams: stats.datagrams_out, bytes: stats.bytes_out }
    });
    Ok(peer)
}

fn flood(peer: &Peer, gauge: &Gauge, block: &[u8]) -> Result<(), Fault> {
    gauge.ready("");
    loop {
        peer.send(block)?;
    }
}

fn send_numbered(peer: &Peer, gauge: &Gauge, len: usize) -> Result<(), Fault> {
    gauge.ready("");
    let mut message = load::message(len);
    let mut number = 0;
    loop {
        load::set_number(&mut message, number);
        number += 1;
        peer.send(&message)?;
    }
}

fn play_by_thread(peer: &Peer, gauge: &Gauge) -> Result<(), Fault> {
    gauge.ready("");
    let ball = load::message(BALL_LEN);
    loop {
        let start = Instant::now();
        peer.send(&ball)?;
        let echo = peer.recv()?;
        gauge.took(start.elapsed());
        if *echo != *ball {
            gauge.fault();
        }
    }
}

/// A ball between two handlers: this thread serves it and then sleeps.
fn play_on_core(job: &Job, uri: &DunlinUri, gauge: &'static Gauge) -> Result<(), Fault> {
    let served = Arc::new(Mutex::new(Instant::now()));
    let striker = Striker { gauge, sent: served.clone() };
    let engine = Engine::builder(config(job)).ephemeral().on_message(move || striker.clone()).start()?;
    let peer = engine.connect_with(uri, &ConnectOptions::default())?.peer;
    gauge.ready("");
    *served.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    peer.send(&load::message(BALL_LEN))?;
    loop {
        if let Event::Stopped = engine.next_event() {
            return Err("the engine has stopped".into());
        }
    }
}

/// Sends every ball back and times it.
#[derive(Clone)]
struct Striker {
    gauge: &'static Gauge,
    sent: Arc<Mutex<Instant>>,
}

impl Handler for Striker {
    fn on_message(&mut self, _: Channel, bytes: &[u8], reply: &mut Reply<'_>) -> Verdict {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        self.gauge.took(now - *sent);
        if bytes.len() != BALL_LEN {
            self.gauge.fault();
        }
        *sent = now;
        if !reply.send(bytes) {
            self.gauge.fault();
        }
        Verdict::Handled
    }
}

/// One engine, one session after the other.
fn shake(job: &Job, uri: &DunlinUri, gauge: &Gauge) -> Result<(), Fault> {
    let engine = Engine::builder(config(job)).ephemeral().start()?;
    gauge.ready("");
    loop {
        let peer = engine.connect_with(uri, &ConnectOptions::default())?.peer;
        gauge.connected();
        peer.close(0);
        // Events that nobody asks for go away here.
        while engine.try_event().is_some() {}
    }
}
