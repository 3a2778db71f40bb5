//! s2n-quic, as its documentation advises for one fast connection: large windows, a fixed datagram length, offload.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use s2n_quic::client::Connect;
use s2n_quic::connection::{Connection, Handle};
use s2n_quic::provider::event::{ConnectionInfo, ConnectionMeta, Subscriber, events::DatagramSent};
use s2n_quic::provider::io::tokio::{Builder, Provider};
use s2n_quic::provider::limits::Limits;
use s2n_quic::stream::ReceiveStream;
use s2n_quic::{Client, Server};

use super::{About, SOCKET_BUFFER, WINDOW, any_port, connections, not_done, runtime};
use crate::Fault;
use crate::certificate::{NAME, Own, introduced};
use crate::gauge::{Gauge, Wire};
use crate::job::{Job, Way};
use crate::load::{self, BALL_LEN, Bulk, Framer, Splitter};
use crate::works::Work;

/// Streams that a peer may have open at a time, where each message has its own: with 16,384 one costs a third more.
const STREAMS: u64 = 1_024;
/// Bytes under way of many small writes to one stream: with 16 MiB a message of 64 bytes costs five times as much.
const SMALL_WRITES: u32 = 128 << 10;
/// Pieces of a stream taken at a time.
const PIECES: usize = 64;
/// What the settings add to a datagram's payload: the IPv4 and UDP headers.
const HEADERS_LEN: u16 = 28;
/// Longer than any run.
const IDLE: Duration = Duration::from_secs(600);

pub(super) fn about() -> About {
    let of = crate::versions::of;
    About {
        name: "s2n-quic",
        version: format!("{} (s2n-tls {}, aws-lc-rs {})", of("s2n-quic"), of("s2n-tls"), of("aws-lc-rs")),
        encryption: "TLS 1.3, AES-128-GCM (s2n-tls, as it ships), the server authenticated",
        settings: "current_thread tokio; data windows of 16 MiB or more, max_send_buffer_size of 16 MiB (128 KiB for small writes \
                   to one stream, where it is best); socket buffers of 4 MiB; base, initial and max MTU as the table says; GSO \
                   and GRO on; CUBIC; 1,024 streams where each message has one; chunks are taken and given without a copy; a \
                   subscriber counts the client's datagrams",
    }
}

fn io(job: &Job) -> Result<Provider, Fault> {
    let mtu = job.datagram_len() + HEADERS_LEN;
    let builder = Builder::default()
        .with_receive_address(any_port())?
        .with_recv_buffer_size(SOCKET_BUFFER)?
        .with_send_buffer_size(SOCKET_BUFFER)?
        .with_max_mtu(mtu)?
        .with_initial_mtu(mtu)?
        .with_base_mtu(mtu)?;
    Ok(builder.build()?)
}

fn limits(job: &Job) -> Result<Limits, Fault> {
    let send_buffer = if job.way == Way::OneStream { SMALL_WRITES } else { u32::try_from(WINDOW)? };
    let window = WINDOW as u64;
    let limits = Limits::new()
        .with_data_window(2 * window)?
        .with_unidirectional_data_window(window)?
        .with_bidirectional_local_data_window(window)?
        .with_bidirectional_remote_data_window(window)?
        .with_max_send_buffer_size(send_buffer)?
        .with_max_idle_timeout(IDLE)?;
    match job.way {
        Way::StreamEach => Ok(limits
            .with_max_open_local_unidirectional_streams(STREAMS)?
            .with_max_open_remote_unidirectional_streams(STREAMS)?),
        _ => Ok(limits),
    }
}

pub(super) fn serve(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    runtime()?.block_on(async {
        let own = Own::new()?;
        let mut server = Server::builder()
            .with_tls((own.certificate.as_str(), own.key.as_str()))?
            .with_io(io(job)?)?
            .with_limits(limits(job)?)?
            .start()?;
        gauge.ready(own.introduce(server.local_addr()?));
        while let Some(connection) = server.accept().await {
            gauge.connected();
            let job = job.clone();
            // A caller that goes away is no fault of ours: the parent sees what is missing.
            tokio::spawn(async move { serve_connection(&job, connection, gauge).await.is_ok() });
        }
        Ok(())
    })
}

async fn serve_connection(job: &Job, mut connection: Connection, gauge: &'static Gauge) -> Result<(), Fault> {
    match (job.work, job.way) {
        (Work::Bulk { .. }, _) => {
            let mut bulk = Bulk::default();
            let stream = connection.accept_receive_stream().await?.ok_or("closed")?;
            drain(stream, |piece| bulk.take(gauge, piece)).await
        }
        (Work::Messages { len }, Way::StreamEach) => loop {
            let stream = connection.accept_receive_stream().await?.ok_or("closed")?;
            let mut message = Vec::with_capacity(len);
            drain(stream, |piece| message.extend_from_slice(piece)).await?;
            load::take_unordered(gauge, &message, len);
        },
        (Work::Messages { len }, _) => {
            let mut splitter = Splitter::default();
            let stream = connection.accept_receive_stream().await?.ok_or("closed")?;
            drain(stream, |piece| splitter.take(gauge, piece, len)).await
        }
        (Work::Latency, _) => {
            let mut stream = connection.accept_bidirectional_stream().await?.ok_or("closed")?;
            while let Some(ball) = stream.receive().await? {
                stream.send(ball).await?;
            }
            Ok(())
        }
        (Work::Handshakes { .. } | Work::Memory { .. }, _) => {
            connection.accept().await?;
            Ok(())
        }
    }
}

/// Everything that comes on a stream, without a copy.
async fn drain(mut stream: ReceiveStream, mut take: impl FnMut(&[u8])) -> Result<(), Fault> {
    let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
    loop {
        let (count, is_open) = stream.receive_vectored(&mut pieces).await?;
        // It takes empty places alone.
        pieces[..count].iter_mut().for_each(|piece| take(&std::mem::take(piece)));
        if !is_open {
            return Ok(());
        }
    }
}

pub(super) fn call(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    let (address, certificate) = introduced(&job.address)?;
    runtime()?.block_on(async {
        let client = Client::builder()
            .with_tls(certificate.as_str())?
            .with_io(io(job)?)?
            .with_limits(limits(job)?)?
            .with_event(Meter)?
            .start()?;
        gauge.meter(|| Wire { datagrams: DATAGRAMS.load(Relaxed), bytes: DATAGRAM_BYTES.load(Relaxed) });
        match job.work {
            Work::Handshakes { parallel } => {
                let visit = move || {
                    let client = client.clone();
                    async move {
                        let connection = connect(&client, address).await?;
                        gauge.connected();
                        connection.close(0_u8.into());
                        Ok(())
                    }
                };
                connections::shake(parallel, gauge, visit).await
            }
            Work::Memory { connections } => {
                connections::stay(connections, gauge, async || connect(&client, address).await).await
            }
            _ => {
                let connection = connect(&client, address).await?;
                gauge.ready("");
                load_connection(job, &mut connection.handle(), gauge).await
            }
        }
    })
}

/// Datagrams that the client has sent. They are written by its one thread.
static DATAGRAMS: AtomicU64 = AtomicU64::new(0);
static DATAGRAM_BYTES: AtomicU64 = AtomicU64::new(0);

/// Its connections keep no such counters themselves, but say when they send.
struct Meter;

impl Subscriber for Meter {
    type ConnectionContext = ();

    fn create_connection_context(&mut self, _: &ConnectionMeta, _: &ConnectionInfo) {}

    #[inline]
    fn on_datagram_sent(&mut self, (): &mut (), _: &ConnectionMeta, sent: &DatagramSent) {
        DATAGRAMS.store(DATAGRAMS.load(Relaxed) + 1, Relaxed);
        DATAGRAM_BYTES.store(DATAGRAM_BYTES.load(Relaxed) + u64::from(sent.len), Relaxed);
    }
}

async fn connect(client: &Client, address: SocketAddr) -> Result<Connection, Fault> {
    Ok(client.connect(Connect::new(address).with_server_name(NAME)).await?)
}

async fn load_connection(job: &Job, connection: &mut Handle, gauge: &Gauge) -> Result<(), Fault> {
    match (job.work, job.way) {
        (Work::Bulk { .. }, _) => {
            let mut stream = connection.open_send_stream().await?;
            let block = Bytes::from(load::block());
            loop {
                stream.send(block.clone()).await?;
            }
        }
        (Work::Messages { len }, Way::StreamEach) => {
            let mut message = load::message(len);
            for number in 0_u64.. {
                load::set_number(&mut message, number);
                let mut stream = connection.open_send_stream().await?;
                stream.send(Bytes::copy_from_slice(&message)).await?;
                stream.finish()?;
            }
            Ok(())
        }
        (Work::Messages { len }, Way::OneStream) => {
            let (mut stream, mut framer) = (connection.open_send_stream().await?, Framer::new(len));
            loop {
                stream.send(Bytes::copy_from_slice(framer.frame())).await?;
            }
        }
        (Work::Messages { len }, Way::Gathered) => {
            let (mut stream, mut framer) = (connection.open_send_stream().await?, Framer::new(len));
            loop {
                stream.send(Bytes::from(framer.gather())).await?;
            }
        }
        (Work::Latency, _) => play(connection, gauge).await,
        _ => Err(not_done(job)),
    }
}

async fn play(connection: &mut Handle, gauge: &Gauge) -> Result<(), Fault> {
    let mut stream = connection.open_bidirectional_stream().await?;
    let ball = Bytes::from(load::message(BALL_LEN));
    loop {
        let start = Instant::now();
        stream.send(ball.clone()).await?;
        let mut missing = BALL_LEN;
        while missing > 0 {
            let piece = stream.receive().await?.ok_or("the server has closed the stream")?;
            missing = missing.checked_sub(piece.len()).ok_or("more came back than was sent")?;
        }
        gauge.took(start.elapsed());
    }
}
