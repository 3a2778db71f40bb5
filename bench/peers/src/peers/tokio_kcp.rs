//! tokio_kcp: KCP in stream mode, in its fastest configuration. Nothing is encrypted.
//!
//! Holds: KCP has no handshake: a session is there when its first datagram arrives.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio_kcp::{KcpConfig, KcpListener, KcpNoDelayConfig, KcpStream};

use super::{About, not_done, runtime, socket};
use crate::Fault;
use crate::gauge::Gauge;
use crate::job::{Job, Way};
use crate::load::{self, BALL_LEN, Bulk, Framer, Splitter};
use crate::works::Work;

/// Datagrams in flight. More of them overrun the kernel's queue, and KCP then sends most of them again.
const WINDOW: u16 = 1_024;
/// Bytes read at a time.
const READ_LEN: usize = 256 << 10;
/// Longer than any run.
const IDLE: Duration = Duration::from_secs(600);

pub(super) fn about() -> About {
    About {
        name: "tokio_kcp",
        version: format!("{} (kcp {})", crate::versions::of("tokio_kcp"), crate::versions::of("kcp")),
        encryption: "none",
        settings: "current_thread tokio; stream mode, KcpNoDelayConfig::fastest (no congestion control), windows of 1,024 datagrams, \
                   mtu as the table says; flush_write and flush_acks_input for round trips; socket buffers of 4 MiB; idle sessions \
                   with KcpNoDelayConfig::normal; no handshake",
    }
}

fn config(job: &Job) -> KcpConfig {
    let is_round_trip = job.work == Work::Latency;
    let is_idle = matches!(job.work, Work::Memory { .. });
    KcpConfig {
        mtu: job.datagram_len().into(),
        nodelay: if is_idle { KcpNoDelayConfig::normal() } else { KcpNoDelayConfig::fastest() },
        wnd_size: (WINDOW, WINDOW),
        session_expire: IDLE,
        flush_write: is_round_trip,
        flush_acks_input: is_round_trip,
        stream: true,
        ..KcpConfig::default()
    }
}

pub(super) fn serve(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    runtime()?.block_on(async {
        let socket = UdpSocket::from_std(socket()?)?;
        let address = socket.local_addr()?;
        let mut listener = KcpListener::from_socket(config(job), socket).await?;
        gauge.ready(address);
        loop {
            let (stream, _) = listener.accept().await?;
            gauge.connected();
            let job = job.clone();
            // One that breaks off is no fault of ours: the parent sees what is missing.
            tokio::spawn(async move { serve_stream(&job, stream, gauge).await.is_ok() });
        }
    })
}

async fn serve_stream(job: &Job, mut stream: KcpStream, gauge: &'static Gauge) -> Result<(), Fault> {
    match job.work {
        Work::Bulk { .. } => {
            let mut bulk = Bulk::default();
            drain(stream, |piece| bulk.take(gauge, piece)).await
        }
        Work::Messages { len } => {
            let mut splitter = Splitter::default();
            drain(stream, |piece| splitter.take(gauge, piece, len)).await
        }
        Work::Latency => {
            let mut ball = [0; BALL_LEN];
            loop {
                stream.read_exact(&mut ball).await?;
                stream.write_all(&ball).await?;
            }
        }
        // An idle session holds no room of ours.
        Work::Memory { .. } => loop {
            stream.read_exact(&mut [0]).await?;
        },
        Work::Handshakes { .. } => Err(not_done(job)),
    }
}

async fn drain(mut stream: KcpStream, mut take: impl FnMut(&[u8])) -> Result<(), Fault> {
    let mut room = vec![0; READ_LEN];
    loop {
        let count = stream.read(&mut room).await?;
        if count == 0 {
            return Ok(());
        }
        take(&room[..count]);
    }
}

pub(super) fn call(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    let address = job.address.parse()?;
    runtime()?.block_on(async {
        if let Work::Memory { connections } = job.work {
            return stay(job, address, connections, gauge).await;
        }
        let stream = connect(job, address).await?;
        gauge.ready("");
        load_stream(job, stream, gauge).await
    })
}

async fn connect(job: &Job, address: SocketAddr) -> Result<KcpStream, Fault> {
    let socket = UdpSocket::from_std(socket()?)?;
    socket.connect(address).await?;
    Ok(KcpStream::connect_with_socket(&config(job), socket, address).await?)
}

async fn load_stream(job: &Job, mut stream: KcpStream, gauge: &Gauge) -> Result<(), Fault> {
    match (job.work, job.way) {
        (Work::Bulk { .. }, _) => {
            let block = load::block();
            loop {
                stream.write_all(&block).await?;
            }
        }
        (Work::Messages { len }, Way::OneStream) => {
            let mut framer = Framer::new(len);
            loop {
                stream.write_all(framer.frame()).await?;
            }
        }
        (Work::Messages { len }, Way::Gathered) => {
            let mut framer = Framer::new(len);
            loop {
                stream.write_all(&framer.gather()).await?;
            }
        }
        (Work::Latency, _) => play(&mut stream, gauge).await,
        _ => Err(not_done(job)),
    }
}

async fn play(stream: &mut KcpStream, gauge: &Gauge) -> Result<(), Fault> {
    let ball = load::message(BALL_LEN);
    let mut echo = [0; BALL_LEN];
    loop {
        let start = Instant::now();
        stream.write_all(&ball).await?;
        stream.read_exact(&mut echo).await?;
        gauge.took(start.elapsed());
        if echo[..] != ball[..] {
            gauge.fault();
        }
    }
}

/// Sessions that stay; the first byte brings each into being.
async fn stay(job: &Job, address: SocketAddr, connections: usize, gauge: &Gauge) -> Result<(), Fault> {
    gauge.ready("");
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = connect(job, address).await?;
        stream.write_all(&[0]).await?;
        stream.flush().await?;
        held.push(stream);
        gauge.connected();
        // The server's queue of new sessions is short.
        tokio::task::yield_now().await;
    }
    std::future::pending::<()>().await;
    drop(held);
    Ok(())
}
