//! Opening sessions: addresses of names, early data, the wait for the handshake.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use dunlin_codec::ids::{InstanceId, NodeId};
use dunlin_codec::uri::DunlinUri;
use dunlin_shards::event::EarlyData;
use dunlin_shards::mail::{Connect, Mail};
use dunlin_shards::placement;

use crate::api::error::ConnectError;
use crate::api::peer::{Peer, SendOptions, outgoing};
use crate::api::shared::{Answer, EngineShared, Request};
use crate::mailbox::lock;

/// A message for the first datagram. It has no forward secrecy, and may be replayed by whoever recorded it to
/// another instance of the peer: send only what does no harm twice.
#[derive(Clone, Debug)]
pub struct Early {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How it travels.
    pub options: SendOptions,
}

/// How to connect.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Idempotent messages for the first datagram; those that do not fit follow after the handshake.
    pub early: Vec<Early>,
}

/// A finished attempt.
#[derive(Debug)]
pub struct Connected {
    /// The peer.
    pub peer: Peer,
    /// What became of the early data.
    pub early: EarlyData,
}

/// Addresses of a URI's host, in the resolver's order. Blocks while a name is looked up.
pub(crate) fn resolve(uri: &DunlinUri) -> Result<Vec<SocketAddr>, ConnectError> {
    let host = uri.host.clone();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let lookup = |source| ConnectError::Lookup { host: host.clone(), source };
    let addresses: Vec<SocketAddr> = (bare, uri.port).to_socket_addrs().map_err(lookup)?.collect();
    if addresses.is_empty() {
        return Err(lookup(std::io::Error::other("the name has no address")));
    }
    Ok(addresses)
}

/// Addresses that our socket can reach.
pub(crate) fn reachable(local: SocketAddr, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let usable = |address: &SocketAddr| match local {
        SocketAddr::V4(_) => address.is_ipv4(),
        SocketAddr::V6(v6) => v6.ip().is_unspecified() || address.is_ipv6(),
    };
    addresses.into_iter().filter(usable).collect()
}

/// Opens a session with whoever is at `remote`; `id` must match when given.
pub(crate) async fn open(
    engine: &Arc<EngineShared>,
    id: Option<NodeId>,
    remote: SocketAddr,
    options: &ConnectOptions,
) -> Result<Connected, ConnectError> {
    let ticket = engine.next_ticket();
    let request = Arc::new(Request::default());
    lock(&engine.requests).insert(ticket, request.clone());
    let shard = placement::shard_of_address(engine.placement.seed, remote, engine.placement.shards);
    let port = &engine.ports[usize::from(shard)];
    let mut early = Vec::with_capacity(options.early.len());
    for message in &options.early {
        let block = port.block_of(&message.bytes).ok_or(ConnectError::Engine)?;
        let mut message = outgoing(block, message.options, engine.next_ticket().0);
        message.idempotent = true;
        early.push(message);
    }
    let instance = id.and_then(|id| lock(&engine.instances).get(&id).copied());
    let instance = instance.unwrap_or(InstanceId::default());
    let connect = Connect { ticket, id, remote, early, instance };
    if port.post(Mail::Connect(Box::new(connect))).is_err() {
        lock(&engine.requests).remove(&ticket);
        return Err(ConnectError::Engine);
    }
    match request.wait().await {
        Answer::Connected { peer, early } => Ok(Connected { peer: Peer::new(peer), early }),
        Answer::ConnectFailed(reason) => Err(ConnectError::Handshake { remote, reason }),
        Answer::Pong(_) => Err(ConnectError::Engine),
    }
}
