//! quinn, as its documentation advises for one fast connection: large windows, a fixed datagram length, offload.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, TokioRuntime, TransportConfig, VarInt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::quinn_socket::Trained;
use super::{About, WINDOW, connections, not_done, runtime, socket};
use crate::Fault;
use crate::certificate::{NAME, Own, introduced};
use crate::gauge::{Gauge, Wire};
use crate::job::{Job, Way};
use crate::load::{self, BALL_LEN, Bulk, Framer, Splitter};
use crate::works::Work;

/// Streams that a peer may have open at a time, where each message has its own: with 16,384 one costs half as much
/// again. Elsewhere the default stands, as every connection holds an entry for each.
const STREAMS: u32 = 1_024;
/// Bytes under way of many small writes to one stream: it looks through all of them for each datagram, and with 16 MiB
/// a message of 64 bytes costs ten times as much.
const SMALL_WRITES: u64 = 64 << 10;
/// What an endpoint takes unless it is told otherwise.
const DATAGRAM_LEN_DEFAULT: u16 = 1_472;
/// Pieces of a stream taken at a time.
const PIECES: usize = 64;
/// Longer than any run.
const IDLE: Duration = Duration::from_secs(600);

pub(super) fn about() -> About {
    About {
        name: "quinn",
        version: format!("{} (rustls {}, ring {})", of("quinn"), of("rustls"), of("ring")),
        encryption: "TLS 1.3, AES-256-GCM (rustls with ring, as it ships), the server authenticated",
        settings: "current_thread tokio; stream and connection windows and send window of 16 MiB or more (send window of 64 KiB \
                   for small writes to one stream, where it is best); socket buffers of 4 MiB; initial_mtu and min_mtu as the \
                   table says, MTU discovery off; where datagrams are longer than 1,472 bytes max_udp_payload_size as well, and \
                   trains cut to what a send takes; GSO and GRO on; CUBIC; 1,024 streams where each message has one; chunks are \
                   taken and given without a copy; no resumption",
    }
}

fn of(name: &str) -> &'static str {
    crate::versions::of(name)
}

fn transport(job: &Job) -> Result<TransportConfig, Fault> {
    let send_window = if job.way == Way::OneStream { SMALL_WRITES } else { 2 * WINDOW as u64 };
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::try_from(WINDOW as u64)?)
        .receive_window(VarInt::try_from(2 * WINDOW as u64)?)
        .send_window(send_window)
        .max_idle_timeout(Some(IDLE.try_into()?))
        .initial_mtu(job.datagram_len())
        .min_mtu(job.datagram_len())
        .mtu_discovery_config(None);
    if job.way == Way::StreamEach {
        transport.max_concurrent_uni_streams(VarInt::from_u32(STREAMS));
    }
    Ok(transport)
}

/// Datagrams as long as the table says are taken, and sent in trains that the kernel takes.
fn endpoint(job: &Job, server: Option<quinn::ServerConfig>) -> Result<Endpoint, Fault> {
    let mut config = EndpointConfig::default();
    let runtime = Arc::new(TokioRuntime);
    if job.datagram_len() <= DATAGRAM_LEN_DEFAULT {
        return Ok(Endpoint::new(config, server, socket()?, runtime)?);
    }
    config.max_udp_payload_size(job.datagram_len())?;
    let socket = Trained::new(socket()?, job.datagram_len())?;
    Ok(Endpoint::new_with_abstract_socket(config, server, socket, runtime)?)
}

fn server_config(job: &Job, own: &Own) -> Result<quinn::ServerConfig, Fault> {
    let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes())?;
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(job)?));
    Ok(config)
}

fn client_config(job: &Job, certificate: &str) -> Result<quinn::ClientConfig, Fault> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Every handshake is a whole one, as everybody else's is.
    tls.resumption = rustls::client::Resumption::disabled();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(job)?));
    Ok(config)
}

pub(super) fn serve(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    runtime()?.block_on(async {
        let own = Own::new()?;
        let config = server_config(job, &own)?;
        let endpoint = endpoint(job, Some(config))?;
        gauge.ready(own.introduce(endpoint.local_addr()?));
        while let Some(incoming) = endpoint.accept().await {
            let job = job.clone();
            tokio::spawn(async move {
                // A caller that goes away is no fault of ours: the parent sees what is missing.
                if let Ok(connection) = incoming.await {
                    gauge.connected();
                    let _ = serve_connection(&job, &connection, gauge).await;
                }
            });
        }
        Ok(())
    })
}

async fn serve_connection(job: &Job, connection: &Connection, gauge: &'static Gauge) -> Result<(), Fault> {
    match (job.work, job.way) {
        (Work::Bulk { .. }, _) => {
            let mut bulk = Bulk::default();
            drain(connection.accept_uni().await?, |piece| bulk.take(gauge, piece)).await
        }
        (Work::Messages { len }, Way::StreamEach) => loop {
            let mut stream = connection.accept_uni().await?;
            let message = stream.read_to_end(len + 1).await?;
            load::take_unordered(gauge, &message, len);
        },
        (Work::Messages { len }, _) => {
            let mut splitter = Splitter::default();
            drain(connection.accept_uni().await?, |piece| splitter.take(gauge, piece, len)).await
        }
        (Work::Latency, _) => {
            let (mut send, mut receive) = connection.accept_bi().await?;
            let mut ball = [0; BALL_LEN];
            loop {
                receive.read_exact(&mut ball).await?;
                send.write_all(&ball).await?;
            }
        }
        (Work::Handshakes { .. } | Work::Memory { .. }, _) => Err(connection.closed().await.into()),
    }
}

/// Everything that comes on a stream, without a copy.
async fn drain(mut stream: RecvStream, mut take: impl FnMut(&[u8])) -> Result<(), Fault> {
    let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
    while let Some(count) = stream.read_chunks(&mut pieces).await? {
        pieces[..count].iter().for_each(|piece| take(piece));
    }
    Ok(())
}

pub(super) fn call(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    let (address, certificate) = introduced(&job.address)?;
    runtime()?.block_on(async {
        let mut endpoint = endpoint(job, None)?;
        endpoint.set_default_client_config(client_config(job, &certificate)?);
        match job.work {
            Work::Handshakes { parallel } => {
                let visit = move || {
                    let endpoint = endpoint.clone();
                    async move {
                        let connection = endpoint.connect(address, NAME)?.await?;
                        gauge.connected();
                        connection.close(VarInt::from_u32(0), &[]);
                        Ok(())
                    }
                };
                connections::shake(parallel, gauge, visit).await
            }
            Work::Memory { connections } => {
                connections::stay(connections, gauge, async || Ok(endpoint.connect(address, NAME)?.await?))
                    .await
            }
            _ => {
                let connection = endpoint.connect(address, NAME)?.await?;
                let metered = connection.clone();
                gauge.meter(move || {
                    let sent = metered.stats().udp_tx;
                    Wire { datagrams: sent.datagrams, bytes: sent.bytes }
                });
                gauge.ready("");
                load_connection(job, &connection, gauge).await
            }
        }
    })
}

async fn load_connection(job: &Job, connection: &Connection, gauge: &Gauge) -> Result<(), Fault> {
    match (job.work, job.way) {
        (Work::Bulk { .. }, _) => {
            let mut stream = connection.open_uni().await?;
            let block = Bytes::from(load::block());
            loop {
                stream.write_chunk(block.clone()).await?;
            }
        }
        (Work::Messages { len }, Way::StreamEach) => {
            let mut message = load::message(len);
            for number in 0_u64.. {
                load::set_number(&mut message, number);
                let mut stream = connection.open_uni().await?;
                stream.write_all(&message).await?;
                stream.finish()?;
            }
            Ok(())
        }
        (Work::Messages { len }, Way::OneStream) => {
            let (mut stream, mut framer) = (connection.open_uni().await?, Framer::new(len));
            loop {
                stream.write_all(framer.frame()).await?;
            }
        }
        (Work::Messages { len }, Way::Gathered) => {
            let (mut stream, mut framer) = (connection.open_uni().await?, Framer::new(len));
            loop {
                stream.write_chunk(Bytes::from(framer.gather())).await?;
            }
        }
        (Work::Latency, _) => play(connection, gauge).await,
        _ => Err(not_done(job)),
    }
}

async fn play(connection: &Connection, gauge: &Gauge) -> Result<(), Fault> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let ball = load::message(BALL_LEN);
    let mut echo = [0; BALL_LEN];
    loop {
        let start = Instant::now();
        send.write_all(&ball).await?;
        receive.read_exact(&mut echo).await?;
        gauge.took(start.elapsed());
        if echo[..] != ball[..] {
            gauge.fault();
        }
    }
}
