//! rusty_enet: ENet's reliable packets. Nothing is encrypted.
//!
//! Holds: the sender keeps a bounded number of bytes queued, as ENet itself would take any number; a side that has nothing
//!        to do sleeps until a datagram arrives or a timer of ENet's may be due.

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rusty_enet::{EventNoRef, Host, HostSettings, Packet, PeerID};

use super::{About, not_done, socket};
use crate::Fault;
use crate::gauge::Gauge;
use crate::job::Job;
use crate::load::{self, BALL_LEN, Bulk};
use crate::works::Work;

/// What a host may have at most (`PROTOCOL_MAXIMUM_PEER_ID`).
const PEERS_MAX: usize = 4_095;
/// Channels that are used.
const CHANNELS: usize = 1;
/// Bytes that the sender keeps queued: 16 of ENet's windows.
const QUEUED_MAX: usize = 1 << 20;
/// How long a side sleeps at most: ENet's timers count milliseconds.
const NAP_MS: i64 = 1;
/// Calls under way at a time while idle peers are connected.
const OPENING: usize = 32;

pub(super) fn about() -> About {
    About {
        name: "rusty_enet",
        version: crate::versions::of("rusty_enet").to_owned(),
        encryption: "none",
        settings: "one thread per side, which sleeps in poll; one channel, reliable packets (bulk: packets of 64,256 bytes); mtu as the \
                   table says; socket buffers of 4 MiB; up to 1 MiB queued; no bandwidth limits; its window is 64 KiB and a host has \
                   at most 4,095 peers, both by protocol; a host allocates all of them at the start, which counts here",
    }
}

/// A host and its socket.
struct Enet {
    host: Host<UdpSocket>,
    socket: UdpSocket,
    address: SocketAddr,
}

impl Enet {
    fn new(job: &Job, peer_limit: usize) -> Result<Self, Fault> {
        let socket = socket()?;
        let address = socket.local_addr()?;
        let settings = HostSettings { peer_limit, channel_limit: CHANNELS, ..HostSettings::default() };
        let mut host = Host::new(socket.try_clone()?, settings).map_err(|error| format!("{error:?}"))?;
        host.set_mtu(job.datagram_len()).map_err(|error| error.to_string())?;
        Ok(Self { host, socket, address })
    }

    fn next(&mut self) -> Result<Option<EventNoRef>, Fault> {
        Ok(self.host.service()?.map(rusty_enet::Event::no_ref))
    }

    /// Sends what is queued and sleeps until something may have to be done.
    fn nap(&mut self) -> Result<(), Fault> {
        self.host.flush();
        let wait = Timespec { tv_sec: 0, tv_nsec: NAP_MS * 1_000_000 };
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn send(&mut self, peer: PeerID, packet: &Packet) -> Result<(), Fault> {
        self.host.peer_mut(peer).send(0, packet).map_err(|error| format!("{error:?}").into())
    }
}

pub(super) fn serve(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    // A host has room for all its peers from the start.
    gauge.empty();
    let mut enet = Enet::new(job, PEERS_MAX)?;
    gauge.ready(enet.address);
    let (mut bulk, mut next) = (Bulk::default(), 0);
    loop {
        match enet.next()? {
            Some(EventNoRef::Connect { .. }) => gauge.connected(),
            Some(EventNoRef::Receive { peer, packet, .. }) => match job.work {
                Work::Bulk { .. } => bulk.take(gauge, packet.data()),
                Work::Messages { .. } => load::take_ordered(gauge, packet.data(), &mut next),
                Work::Latency => {
                    enet.send(peer, &Packet::reliable(packet.data()))?;
                    enet.host.flush();
                }
                Work::Handshakes { .. } | Work::Memory { .. } => gauge.fault(),
            },
            Some(EventNoRef::Disconnect { .. }) => {}
            None => enet.nap()?,
        }
    }
}

pub(super) fn call(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    let server: SocketAddr = job.address.parse()?;
    match job.work {
        Work::Handshakes { parallel } => {
            return shake(&mut Enet::new(job, PEERS_MAX)?, server, parallel, gauge);
        }
        Work::Memory { connections } => {
            return stay(&mut Enet::new(job, PEERS_MAX)?, server, connections, gauge);
        }
        _ => {}
    }
    let mut enet = Enet::new(job, 1)?;
    connect(&mut enet, server)?;
    let peer = connected(&mut enet)?;
    gauge.ready("");
    match job.work {
        Work::Bulk { .. } => {
            let block = load::block();
            flood(&mut enet, peer, || block.clone())
        }
        Work::Messages { len } => {
            let (mut message, mut number) = (load::message(len), 0);
            flood(&mut enet, peer, || {
                load::set_number(&mut message, number);
                number += 1;
                message.clone()
            })
        }
        Work::Latency => play(&mut enet, peer, gauge),
        _ => Err(not_done(job)),
    }
}

fn connect(enet: &mut Enet, server: SocketAddr) -> Result<(), Fault> {
    enet.host.connect(server, CHANNELS, 0).map_err(|error| format!("{error:?}"))?;
    Ok(())
}

/// The next connection that stands.
fn connected(enet: &mut Enet) -> Result<PeerID, Fault> {
    loop {
        match enet.next()? {
            Some(EventNoRef::Connect { peer, .. }) => return Ok(peer),
            Some(EventNoRef::Disconnect { .. }) => {}
            Some(EventNoRef::Receive { .. }) => return Err("the server speaks unasked".into()),
            None => enet.nap()?,
        }
    }
}

/// The bytes of a packet, which know when ENet is done with them.
struct Counted {
    bytes: Vec<u8>,
    queued: Rc<Cell<usize>>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.queued.set(self.queued.get() - self.bytes.len());
    }
}

fn flood(enet: &mut Enet, peer: PeerID, mut make: impl FnMut() -> Vec<u8>) -> Result<(), Fault> {
    let queued = Rc::new(Cell::new(0));
    loop {
        while queued.get() < QUEUED_MAX {
            let bytes = make();
            queued.set(queued.get() + bytes.len());
            enet.send(peer, &Packet::reliable(Box::new(Counted { bytes, queued: queued.clone() })))?;
        }
        match enet.next()? {
            Some(EventNoRef::Disconnect { .. }) => return Err("the server has gone".into()),
            Some(_) => {}
            None if queued.get() >= QUEUED_MAX => enet.nap()?,
            None => {}
        }
    }
}

fn play(enet: &mut Enet, peer: PeerID, gauge: &Gauge) -> Result<(), Fault> {
    let ball = load::message(BALL_LEN);
    let mut start = Instant::now();
    enet.send(peer, &Packet::reliable(&ball[..]))?;
    loop {
        match enet.next()? {
            Some(EventNoRef::Receive { packet, .. }) => {
                gauge.took(start.elapsed());
                if packet.data() != ball {
                    gauge.fault();
                }
                start = Instant::now();
                enet.send(peer, &Packet::reliable(&ball[..]))?;
                enet.host.flush();
            }
            Some(EventNoRef::Disconnect { .. }) => return Err("the server has gone".into()),
            Some(EventNoRef::Connect { .. }) => {}
            None => enet.nap()?,
        }
    }
}

/// So many calls under way; each connection is ended when it stands.
fn shake(enet: &mut Enet, server: SocketAddr, parallel: usize, gauge: &Gauge) -> Result<(), Fault> {
    for _ in 0..parallel {
        connect(enet, server)?;
    }
    gauge.ready("");
    loop {
        let peer = connected(enet)?;
        gauge.connected();
        enet.host.peer_mut(peer).disconnect_now(0);
        connect(enet, server)?;
    }
}

/// Connections that stay.
fn stay(enet: &mut Enet, server: SocketAddr, connections: usize, gauge: &Gauge) -> Result<(), Fault> {
    if connections > PEERS_MAX {
        return Err(format!("a host has at most {PEERS_MAX} peers, by protocol").into());
    }
    let opening = connections.min(OPENING);
    for _ in 0..opening {
        connect(enet, server)?;
    }
    gauge.ready("");
    for stand in 0..connections {
        connected(enet)?;
        gauge.connected();
        if stand + opening < connections {
            connect(enet, server)?;
        }
    }
    loop {
        if enet.next()?.is_none() {
            enet.nap()?;
        }
    }
}
