//! tokio_kcp: KCP in stream mode, in its fastest configuration. Nothing is encrypted.
//!
//! Holds: KCP has no handshake: a session is there when its first datagram arrives.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio_kcp::{KcpConfig, KcpListener, KcpNoDelayConfig, KcpStream};

use super::streams::{self, Leaving};
use super::{About, connections, runtime, socket};
use crate::Fault;
use crate::gauge::Gauge;
use crate::job::Job;
use crate::works::Work;

/// Datagrams in flight. More of them overrun the kernel's queue, and KCP then sends most of them again.
const WINDOW: u16 = 1_024;
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
        // An idle session holds no room of ours.
        Work::Memory { .. } => loop {
            stream.read_exact(&mut [0]).await?;
        },
        _ => streams::serve(job, stream, Leaving::AtOnce, gauge).await,
    }
}

pub(super) fn call(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    let address = job.address.parse()?;
    runtime()?.block_on(async {
        if let Work::Memory { connections } = job.work {
            return connections::stay(connections, gauge, async || open(job, address).await).await;
        }
        let stream = connect(job, address).await?;
        gauge.ready("");
        streams::call(job, stream, Leaving::AtOnce, gauge).await
    })
}

async fn connect(job: &Job, address: SocketAddr) -> Result<KcpStream, Fault> {
    let socket = UdpSocket::from_std(socket()?)?;
    socket.connect(address).await?;
    Ok(KcpStream::connect_with_socket(&config(job), socket, address).await?)
}

/// A session that stays; the first byte brings it into being.
async fn open(job: &Job, address: SocketAddr) -> Result<KcpStream, Fault> {
    let mut stream = connect(job, address).await?;
    stream.write_all(&[0]).await?;
    stream.flush().await?;
    // The server's queue of new sessions is short.
    tokio::task::yield_now().await;
    Ok(stream)
}
