//! Bare sockets: one system call per train and nothing around it, with every datagram sealed or not.
//!
//! Holds: nothing is sent again; what the receiver's queue has no room for is lost, and does not count.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dunlin::socket::KernelBuffers;
use dunlin::socket::plain::PlainSocket;
use dunlin_bench::sealer::Sealer;
use dunlin_shards::route::{Ecn, FRAME_LEN, SocketIndex, TRAIN_LEN_MAX, TRAIN_SEGMENTS_MAX, Transmit};

use super::{About, SOCKET_BUFFER, any_port, not_done};
use crate::Fault;
use crate::gauge::Gauge;
use crate::job::{Job, Way};
use crate::load::BALL_LEN;
use crate::works::Work;

/// How long a spinning receiver looks for the next train before it sleeps: waking it costs the sender more than a train.
const SPIN: Duration = Duration::from_micros(50);

pub(super) fn about() -> About {
    About {
        name: "raw",
        version: format!("kernel; aws-lc-rs {}", crate::versions::of("aws-lc-rs")),
        encryption: "none, or AES-256-GCM per datagram under a fixed key",
        settings: "sendmsg with UDP_SEGMENT, recvmsg with UDP_GRO, trains of up to 64 datagrams; every byte of payload counts; \
                   nothing is acknowledged or sent again",
    }
}

pub(super) fn serve(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    let socket = bind()?;
    gauge.ready(socket.local_addr()?);
    match (job.work, job.way) {
        (Work::Bulk { .. }, way) => {
            gauge.meter_messages();
            sink(&socket, gauge, (way == Way::Sealed).then(Sealer::default).as_ref())
        }
        (Work::Latency, way) => {
            socket.set_nonblocking(way == Way::Spinning)?;
            let mut frame = vec![0; FRAME_LEN];
            loop {
                let (from, len) = receive(&socket, &mut frame)?;
                socket.send(&train(from, len, len), &frame)?;
            }
        }
        _ => Err(not_done(job)),
    }
}

pub(super) fn call(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    let socket = bind()?;
    let to = job.address.parse()?;
    gauge.ready("");
    match (job.work, job.way) {
        (Work::Bulk { datagram_len }, way) => {
            flood(&socket, to, datagram_len.into(), (way == Way::Sealed).then(Sealer::default))
        }
        (Work::Latency, way) => {
            socket.set_nonblocking(way == Way::Spinning)?;
            let mut frame = vec![0; FRAME_LEN];
            loop {
                let start = Instant::now();
                socket.send(&train(to, BALL_LEN, BALL_LEN), &frame)?;
                let (_, len) = receive(&socket, &mut frame)?;
                gauge.took(start.elapsed());
                if len != BALL_LEN {
                    gauge.fault();
                }
            }
        }
        _ => Err(not_done(job)),
    }
}

fn bind() -> Result<PlainSocket, Fault> {
    let buffers = KernelBuffers { receive_len: SOCKET_BUFFER, send_len: SOCKET_BUFFER, joining: true };
    Ok(PlainSocket::bind(any_port(), buffers)?)
}

fn train(remote: SocketAddr, len: usize, segment_len: usize) -> Transmit {
    Transmit { local: None, remote, socket: SocketIndex(0), ecn: Ecn::NotEct, len, segment_len }
}

/// The next datagram; looks again at once where the socket does not block.
fn receive(socket: &PlainSocket, frame: &mut [u8]) -> Result<(SocketAddr, usize), Fault> {
    loop {
        match socket.receive(frame) {
            Ok((arrival, len)) => return Ok((arrival.remote, len)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends trains as fast as it can.
fn flood(
    socket: &PlainSocket,
    to: SocketAddr,
    datagram_len: usize,
    mut sealer: Option<Sealer>,
) -> Result<(), Fault> {
    let segments = TRAIN_SEGMENTS_MAX.min(TRAIN_LEN_MAX / datagram_len);
    let train = train(to, segments * datagram_len, datagram_len);
    let mut frame = vec![0; FRAME_LEN];
    loop {
        if let Some(sealer) = &mut sealer {
            frame[..train.len].chunks_mut(datagram_len).for_each(|datagram| sealer.seal(datagram));
        }
        socket.send(&train, &frame)?;
    }
}

/// Takes in what comes; sleeps only when nothing has come for a while.
fn sink(socket: &PlainSocket, gauge: &Gauge, sealer: Option<&Sealer>) -> Result<(), Fault> {
    let mut frame = vec![0; FRAME_LEN];
    let mut idle_since: Option<Instant> = None;
    socket.set_nonblocking(true)?;
    loop {
        match socket.receive(&mut frame) {
            Ok((arrival, len)) => {
                if idle_since.take().is_some_and(|since| since.elapsed() > SPIN) {
                    socket.set_nonblocking(true)?;
                }
                open_all(gauge, sealer, &mut frame[..len], arrival.segment_len);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if idle_since.get_or_insert_with(Instant::now).elapsed() > SPIN {
                    socket.set_nonblocking(false)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn open_all(gauge: &Gauge, sealer: Option<&Sealer>, bytes: &mut [u8], segment_len: usize) {
    gauge.arrived(bytes.len().div_ceil(segment_len) as u64, bytes.len());
    let Some(sealer) = sealer else { return };
    let forged = bytes.chunks_mut(segment_len).filter_map(|datagram| (!sealer.open(datagram)).then_some(()));
    forged.for_each(|()| gauge.fault());
}
