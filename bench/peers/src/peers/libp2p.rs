//! rust-libp2p over its QUIC transport, with the stream protocol that it has for applications which want plain streams.
//!
//! Holds: the swarm is driven by a task of the same runtime; one protocol, negotiated for every substream.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, quic};
use libp2p_stream::{Behaviour, IncomingStreams};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::streams::{self, Leaving};
use super::{About, WINDOW, runtime};
use crate::Fault;
use crate::gauge::Gauge;
use crate::job::{Job, Way};
use crate::load;
use crate::works::Work;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/dunlin-peers/1");
/// The datagrams that QUIC begins with.
const DATAGRAM_MIN: u16 = 1_200;
/// Substreams that a peer may have open at a time, where each message has its own. Elsewhere the default stands, as every
/// connection holds an entry for each.
const STREAMS: u32 = 1_024;
/// Longer than any run.
const IDLE: Duration = Duration::from_secs(600);
/// Connections on their way while idle ones are opened.
const OPENING: usize = 32;

pub(super) fn about() -> About {
    let of = crate::versions::of;
    About {
        name: "libp2p",
        version: format!(
            "{} (libp2p-quic {}, quinn-proto {}, ring {})",
            of("libp2p"),
            of("libp2p-quic"),
            of("quinn-proto"),
            of("ring")
        ),
        encryption: "TLS 1.3, ChaCha20-Poly1305 (its own order of suites, as it ships), both sides authenticated",
        settings: "current_thread tokio; QUIC transport; max_stream_data of 16 MiB, max_connection_data of 32 MiB, 1,024 substreams where each message has one; \
                   MTU discovery off at 1,200 bytes, else up to the table's length; socket buffers are the kernel's default, as it \
                   has no setting for them; libp2p-stream, multistream-select for every substream; keep-alive every 300 s",
    }
}

fn swarm(job: &Job) -> Result<Swarm<Behaviour>, Fault> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic_config(|config| tuned(config, job))
        .with_behaviour(|_| Behaviour::new())?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    Ok(swarm)
}

fn tuned(mut config: quic::Config, job: &Job) -> quic::Config {
    config.max_stream_data = u32::try_from(WINDOW).unwrap_or(u32::MAX);
    config.max_connection_data = 2 * config.max_stream_data;
    if job.way == Way::StreamEach {
        config.max_concurrent_stream_limit = STREAMS;
    }
    config.max_idle_timeout = u32::try_from(IDLE.as_millis()).unwrap_or(u32::MAX);
    config.keep_alive_interval = IDLE / 2;
    match job.datagram_len() > DATAGRAM_MIN {
        true => config.mtu_upper_bound(job.datagram_len()),
        false => config.disable_path_mtu_discovery(),
    }
}

pub(super) fn serve(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    runtime()?.block_on(async {
        let mut swarm = swarm(job)?;
        let incoming = swarm.behaviour().new_control().accept(PROTOCOL)?;
        swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;
        let job = job.clone();
        tokio::spawn(async move { serve_streams(&job, incoming, gauge).await });
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => {
                    gauge.ready(address.with(Protocol::P2p(*swarm.local_peer_id())));
                }
                SwarmEvent::ConnectionEstablished { .. } => gauge.connected(),
                _ => {}
            }
        }
    })
}

async fn serve_streams(job: &Job, mut incoming: IncomingStreams, gauge: &'static Gauge) {
    while let Some((_, stream)) = incoming.next().await {
        let job = job.clone();
        // One that breaks off is no fault of ours: the parent sees what is missing.
        tokio::spawn(async move { serve_stream(&job, stream, gauge).await.is_ok() });
    }
}

async fn serve_stream(job: &Job, mut stream: Stream, gauge: &'static Gauge) -> Result<(), Fault> {
    match (job.work, job.way) {
        (Work::Messages { len }, Way::StreamEach) => {
            let mut message = Vec::with_capacity(len);
            stream.read_to_end(&mut message).await?;
            load::take_unordered(gauge, &message, len);
            Ok(())
        }
        _ => streams::serve(job, stream.compat(), Leaving::Flushed, gauge).await,
    }
}

pub(super) fn call(job: &Job, gauge: &'static Gauge) -> Result<(), Fault> {
    let address: Multiaddr = job.address.parse()?;
    let Some(Protocol::P2p(server)) = address.iter().last() else {
        return Err(format!("{address} names no peer").into());
    };
    runtime()?.block_on(async {
        let mut swarm = swarm(job)?;
        let target = Target { server, address };
        match job.work {
            Work::Handshakes { parallel } => return shake(&mut swarm, &target, parallel, gauge).await,
            Work::Memory { connections } => return stay(&mut swarm, &target, connections, gauge).await,
            _ => {}
        }
        let mut control = swarm.behaviour().new_control();
        target.dial(&mut swarm)?;
        connected(&mut swarm).await?;
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        gauge.ready("");
        if let (Work::Messages { len }, Way::StreamEach) = (job.work, job.way) {
            return send_each(&mut control, server, len).await;
        }
        let stream = control.open_stream(server, PROTOCOL).await?;
        streams::call(job, stream.compat(), Leaving::Flushed, gauge).await
    })
}

/// Whom to call.
struct Target {
    server: PeerId,
    address: Multiaddr,
}

impl Target {
    /// One more connection, even if there is one.
    fn dial(&self, swarm: &mut Swarm<Behaviour>) -> Result<(), Fault> {
        let options = DialOpts::peer_id(self.server)
            .addresses(vec![self.address.clone()])
            .condition(PeerCondition::Always)
            .build();
        Ok(swarm.dial(options)?)
    }
}

/// The next connection that stands.
async fn connected(swarm: &mut Swarm<Behaviour>) -> Result<ConnectionId, Fault> {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { connection_id, .. } => return Ok(connection_id),
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
}

async fn send_each(control: &mut libp2p_stream::Control, server: PeerId, len: usize) -> Result<(), Fault> {
    let mut message = load::message(len);
    for number in 0_u64.. {
        load::set_number(&mut message, number);
        let mut stream = control.open_stream(server, PROTOCOL).await?;
        stream.write_all(&message).await?;
        stream.close().await?;
    }
    Ok(())
}

/// So many calls under way; each connection is closed when it stands.
async fn shake(
    swarm: &mut Swarm<Behaviour>,
    target: &Target,
    parallel: usize,
    gauge: &Gauge,
) -> Result<(), Fault> {
    for _ in 0..parallel {
        target.dial(swarm)?;
    }
    gauge.ready("");
    loop {
        let connection = connected(swarm).await?;
        gauge.connected();
        swarm.close_connection(connection);
        target.dial(swarm)?;
    }
}

/// Connections that stay.
async fn stay(
    swarm: &mut Swarm<Behaviour>,
    target: &Target,
    connections: usize,
    gauge: &Gauge,
) -> Result<(), Fault> {
    let opening = connections.min(OPENING);
    for _ in 0..opening {
        target.dial(swarm)?;
    }
    gauge.ready("");
    for stand in 0..connections {
        connected(swarm).await?;
        gauge.connected();
        if stand + opening < connections {
            target.dial(swarm)?;
        }
    }
    loop {
        swarm.select_next_some().await;
    }
}
