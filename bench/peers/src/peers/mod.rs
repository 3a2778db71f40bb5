//! One file per peer: what it is, its server, its client.
//!
//! In:    a job and a gauge.
//! Out:   counts in the gauge.
//! Holds: `serve` and `call` tell the gauge when they are ready, and come back only to say why they cannot go on.

mod connections;
mod dunlin;
mod dunlin_callers;
mod libp2p;
mod quinn;
mod quinn_socket;
mod raw;
mod rusty_enet;
mod s2n_quic;
mod streams;
mod tokio_kcp;

use std::net::{Ipv4Addr, SocketAddr};

use crate::Fault;
use crate::gauge::Gauge;
use crate::job::{Job, Peer};

/// What windows and stream buffers are set to at least, in bytes.
const WINDOW: usize = 16 << 20;
/// What sockets ask the kernel for in each direction, in bytes.
const SOCKET_BUFFER: usize = 4 << 20;

/// What the tables say of a peer.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) encryption: &'static str,
    pub(crate) settings: &'static str,
}

/// What the tables say of a peer.
pub(crate) fn about(peer: Peer) -> About {
    match peer {
        Peer::Raw => raw::about(),
        Peer::Dunlin => dunlin::about(),
        Peer::Quinn => quinn::about(),
        Peer::S2nQuic => s2n_quic::about(),
        Peer::Libp2p => libp2p::about(),
        Peer::TokioKcp => tokio_kcp::about(),
        Peer::RustyEnet => rusty_enet::about(),
    }
}

/// The side that is called and counts what arrives.
pub(crate) fn serve(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    match job.peer {
        Peer::Raw => raw::serve(job, gauge),
        Peer::Dunlin => dunlin::serve(job, gauge),
        Peer::Quinn => quinn::serve(job, gauge),
        Peer::S2nQuic => s2n_quic::serve(job, gauge),
        Peer::Libp2p => libp2p::serve(job, gauge),
        Peer::TokioKcp => tokio_kcp::serve(job, gauge),
        Peer::RustyEnet => rusty_enet::serve(job, gauge),
    }
}

/// The side that calls and makes the load.
pub(crate) fn call(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    match job.peer {
        Peer::Raw => raw::call(job, gauge),
        Peer::Dunlin => dunlin::call(job, gauge),
        Peer::Quinn => quinn::call(job, gauge),
        Peer::S2nQuic => s2n_quic::call(job, gauge),
        Peer::Libp2p => libp2p::call(job, gauge),
        Peer::TokioKcp => tokio_kcp::call(job, gauge),
        Peer::RustyEnet => rusty_enet::call(job, gauge),
    }
}

/// Any port of loopback.
fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// The runtime of the peers that need one: everything on the one thread that owns the core.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// A UDP socket with large buffers, for peers that take one.
fn socket() -> std::io::Result<std::net::UdpSocket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&any_port().into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A work or a way that the table does not ask of this peer.
fn not_done(job: &Job) -> Fault {
    format!("{:?} does not do {:?} in the way {:?}", job.peer, job.work, job.way).into()
}
