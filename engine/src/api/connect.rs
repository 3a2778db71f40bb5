//! Opening sessions: addresses of names, early data, the wait for the handshake.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use dunlin_codec::hello::{EARLY_LEN_MIN, overhead_len};
use dunlin_codec::ids::NodeId;
use dunlin_codec::payload::HelloPayload;
use dunlin_codec::suite::Pattern;
use dunlin_codec::uri::{DunlinUri, Host};
use dunlin_shards::event::EarlyData;
use dunlin_shards::mail::{Connect, Mail};

use crate::api::error::ConnectError;
use crate::api::peer::{Peer, SendOptions, outgoing};
use crate::api::shared::{Answer, EngineShared, Request, room_of};
use crate::bell::Bell;
use crate::mailbox::lock;

/// Room for messages in the first datagram, in bytes; each takes [`EARLY_OVERHEAD`] more than its own at most.
pub const EARLY_ROOM: usize = EARLY_LEN_MIN - overhead_len(Pattern::Ik) - HelloPayload::HEAD_LEN;
/// What stands before a message in the first datagram, in bytes at most.
pub const EARLY_OVERHEAD: usize = 1 + 4 + 2 + 2;

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

/// Addresses of a URI's host, in the resolver's order. A name is looked up on a thread of its own.
pub(crate) async fn resolve(uri: &DunlinUri) -> Result<Vec<SocketAddr>, ConnectError> {
    let name = match &uri.host {
        Host::V4(address) => return Ok(vec![SocketAddr::from((*address, uri.port))]),
        Host::V6(address) => return Ok(vec![SocketAddr::from((*address, uri.port))]),
        Host::Name(name) => name.clone(),
    };
    let (port, host) = (uri.port, name.clone());
    let found = Arc::new(Lookup::default());
    let finder = found.clone();
    let spawned = std::thread::Builder::new().name("dunlin-lookup".to_owned()).spawn(move || {
        finder.complete((name.as_str(), port).to_socket_addrs().map(Iterator::collect));
    });
    let lookup = |source| ConnectError::Lookup { host: host.clone(), source };
    spawned.map_err(lookup)?;
    let addresses = found.wait().await.map_err(lookup)?;
    if addresses.is_empty() {
        return Err(lookup(io::Error::other("the name has no address")));
    }
    Ok(addresses)
}

/// A lookup under way.
#[derive(Default)]
struct Lookup {
    found: Mutex<Option<io::Result<Vec<SocketAddr>>>>,
    done: Bell,
}

impl Lookup {
    fn complete(&self, found: io::Result<Vec<SocketAddr>>) {
        *lock(&self.found) = Some(found);
        self.done.ring();
    }

    async fn wait(&self) -> io::Result<Vec<SocketAddr>> {
        loop {
            let listener = self.done.listen();
            if let Some(found) = lock(&self.found).take() {
                return found;
            }
            listener.await;
        }
    }
}

/// Addresses that our socket can reach.
pub(crate) fn reachable(local: SocketAddr, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let usable = |address: &&SocketAddr| match local {
        SocketAddr::V4(_) => address.is_ipv4(),
        SocketAddr::V6(v6) => v6.ip().is_unspecified() || address.is_ipv6(),
    };
    addresses.iter().filter(usable).copied().collect()
}

/// Opens a session with whoever is at `remote`; `id` must match when given.
pub(crate) async fn open(
    engine: &Arc<EngineShared>,
    id: Option<NodeId>,
    remote: SocketAddr,
    options: &ConnectOptions,
) -> Result<Connected, ConnectError> {
    if engine.is_forked() {
        return Err(ConnectError::Forked);
    }
    if id == Some(engine.id()) {
        return Err(ConnectError::OwnId);
    }
    let shard = engine.placement.of_address(remote);
    let port = &engine.ports[usize::from(shard.0)];
    let mut early = Vec::with_capacity(options.early.len());
    for message in &options.early {
        let block = port.block_of(&message.bytes).ok_or(ConnectError::Engine)?;
        let mut message = outgoing(block, message.options, engine.next_ticket().0);
        message.idempotent = true;
        early.push(message);
    }
    let ticket = engine.next_ticket();
    let room = options.early.iter().map(|message| room_of(message.bytes.len())).sum();
    let request = Arc::new(Request::with_room(room));
    lock(&engine.requests).insert(ticket, request.clone());
    let instance = id.and_then(|id| lock(&engine.instances).get(&id).copied());
    let instance = instance.unwrap_or_default();
    let connect = Connect { ticket, id, remote, early, instance };
    let is_stopped = || engine.stopped.load(Ordering::SeqCst);
    if port.post(Mail::Connect(Box::new(connect))).is_err() || is_stopped() {
        lock(&engine.requests).remove(&ticket);
        return Err(ConnectError::Engine);
    }
    match request.wait().await {
        Answer::Connected { peer, early } => Ok(Connected { peer: Peer::new(peer), early }),
        Answer::ConnectFailed(reason) => Err(ConnectError::Handshake { remote, reason }),
        Answer::Pong(_) => Err(ConnectError::Engine),
    }
}
