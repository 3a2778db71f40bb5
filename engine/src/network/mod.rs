//! The network of nodes that this one is part of: finding them, speaking with them, asking them.
//!
//! In:    places, questions, words for others.
//! Out:   nodes, answers, what others say and ask.
//! Holds: whatever waits ends: by an answer, in time, or with the engine. Every method may be called from any thread; each
//!        one that waits has a twin for async runtimes.
//!
//! A value is the bytes of one msgpack value. Nodes say and ask these on channels of their own, beside those of
//! applications; a session serves both.

mod beside;
mod endpoints;
mod error;
mod event;
mod seeds;
mod service;
mod shared;
pub mod values;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dunlin_codec::args::{Ack, Request};
use dunlin_codec::ids::{Address, NodeId};
use dunlin_codec::message::{Operation, SignedMessageId};
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::uri::DunlinUri;
use dunlin_shards::event::Ticket;
use dunlin_shards::mail::Mail;
use dunlin_shards::messages::conversation::Constants;
use dunlin_shards::neighbours::HUB;
use dunlin_shards::neighbours::rows::{note_of, rows_of};
use dunlin_shards::note::{Note, Question as Asking};

use crate::api::connect;
use crate::api::shared::EngineShared;
use crate::api::{ConnectError, ConnectOptions};
use crate::bell::block_on;
use shared::Answered;

pub use dunlin_shards::dht::known::LinkSource;
pub use dunlin_shards::neighbours::Said;
pub use dunlin_shards::neighbours::rows::Row;
pub use error::{NetworkError, Refusal};
pub use event::{Answer, NetworkEvent, Node, Question, Told};
pub use service::{Packed, Service};

pub(crate) use beside::Beside;
pub(crate) use endpoints::advertised;
pub(crate) use shared::NetworkShared;

/// How long a node that is spoken to may take to answer, from when it is reached.
const WORD_WAIT: Duration = Duration::from_secs(10);

/// Nobody tells it, and nobody takes it back: see `sequences.rs`.
pub(crate) const ROW_OF_OWN: u8 = b'o';

/// A handle to the network; clones share it. It does not keep the engine running.
#[derive(Clone)]
pub struct Network {
    shared: Arc<NetworkShared>,
    engine: Arc<EngineShared>,
}

impl Network {
    pub(crate) fn new(shared: Arc<NetworkShared>, engine: Arc<EngineShared>) -> Self {
        Self { shared, engine }
    }

    /// Calls seeds on a thread of its own.
    pub(crate) fn call_seeds(&self, seeds: Vec<DunlinUri>) -> std::io::Result<()> {
        let network = self.clone();
        let thread = std::thread::Builder::new().name("dunlin-seeds".to_owned());
        thread.spawn(move || seeds::call(&network, &seeds)).map(drop)
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.engine.id()
    }

    /// What makes the network what it is.
    #[must_use]
    pub fn constants(&self) -> Constants {
        self.shared.constants
    }

    /// This node as others are told of it; none: it can only initiate.
    #[must_use]
    pub fn record(&self) -> Option<Node> {
        let known = self.shared.known();
        let own = known.iter().find(|contact| contact.id() == known.own())?;
        Some(Node::of(own.id(), own.bytes()))
    }

    /// The nodes that this one knows and that answer, closest to it first; at most 0.25 s old.
    #[must_use]
    pub fn table(&self) -> Vec<Node> {
        let known = self.shared.known();
        let others = known.iter().filter(|contact| contact.id() != known.own());
        let mut nodes: Vec<Node> = others.map(|contact| Node::of(contact.id(), contact.bytes())).collect();
        nodes.sort_by_key(|node| distance(&known.own(), &node.id));
        nodes
    }

    /// Nodes to which this one opened links: what is for everybody goes to them and comes from them.
    #[must_use]
    pub fn links(&self) -> Vec<NodeId> {
        self.shared.known().links().to_vec()
    }

    /// The same, and how this node came to each of them.
    #[must_use]
    pub fn linked(&self) -> Vec<(NodeId, LinkSource)> {
        let known = self.shared.known();
        known.links().iter().copied().zip(known.link_sources().iter().copied()).collect()
    }

    /// What is worth keeping over a restart, as rows of plain bytes: `n` and a node's key, with its record; `l` and the key of
    /// one that this node has a link to, with nothing; `c` and a key, with what became of it.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        rows_of(&self.shared.known()).into_iter().chain(self.shared.chains()).collect()
    }

    /// The key and the sequence that this node's record has.
    pub(crate) fn own_sequence(&self) -> (NodeId, u64) {
        let known = self.shared.known();
        (known.own(), known.own_sequence())
    }

    /// The disk has it that sequences up to this one may be used.
    pub(crate) fn on_reserved(&self, until: u64) -> Result<(), NetworkError> {
        self.post(Note::OwnReserved(until))
    }

    /// Takes in rows of an earlier start: whoever is still there is known again, those with links first. Rows that are none
    /// are passed over.
    ///
    /// # Errors
    /// `Busy`, `Stopped`.
    pub fn remember(&self, rows: impl IntoIterator<Item = Row>) -> Result<(), NetworkError> {
        self.post(note_of(rows))
    }

    /// Joins by a node: `dunlin://ID@host:port`, or `host:port` for whoever answers there. Waits until it has answered.
    ///
    /// # Errors
    /// What was wrong; the network goes on.
    pub fn join(&self, uri: &str) -> Result<NodeId, NetworkError> {
        let uri: DunlinUri = uri.parse().map_err(|error| ConnectError::Uri(format!("{error}")))?;
        block_on(self.join_async(&uri))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// What was wrong; the network goes on.
    pub async fn join_async(&self, uri: &DunlinUri) -> Result<NodeId, NetworkError> {
        let addresses = connect::resolve(uri).await?;
        let usable = connect::reachable(self.engine.local, &addresses);
        let local = self.engine.local;
        let mut result =
            Err(NetworkError::Address(ConnectError::NoRoute { host: uri.host.to_string(), local }));
        for endpoint in usable {
            result = self.join_at(uri.id, endpoint).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn join_at(&self, id: Option<NodeId>, endpoint: SocketAddr) -> Result<NodeId, NetworkError> {
        let peer = match id {
            Some(id) if id == self.engine.id() => return Err(ConnectError::OwnId.into()),
            Some(id) => id,
            // Whoever is there says who it is in the handshake; the session serves to ask it.
            None => connect::open(&self.engine, None, endpoint, &ConnectOptions::default()).await?.peer.id(),
        };
        let answer = self.request(|ticket| Note::Join { ticket, peer, endpoint }).await?;
        outcome(answer).map(|_| peer)
    }

    /// The nodes closest to a place that answered, closest first: up to k. `Address(id.0)` is the place of a node.
    ///
    /// # Errors
    /// `Busy`, `Stopped`.
    pub fn find(&self, place: Address) -> Result<Vec<Node>, NetworkError> {
        block_on(self.find_async(place))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// `Busy`, `Stopped`.
    pub async fn find_async(&self, place: Address) -> Result<Vec<Node>, NetworkError> {
        match self.request(|ticket| Note::Search { ticket, place }).await? {
            Answered::Nodes(Some(nodes)) => {
                Ok(nodes.iter().map(|heard| Node::of(heard.id(), heard.bytes())).collect())
            }
            Answered::Nodes(None) => Err(NetworkError::Busy),
            _ => Err(NetworkError::Stopped),
        }
    }

    /// Says something to a node, and waits until it has taken it. Where there is no session, it is looked for and called.
    ///
    /// # Errors
    /// Why it did not come there, or why it is not known whether it did (`TimedOut`, `Over`).
    pub fn speak(&self, peer: NodeId, value: &[u8]) -> Result<(), NetworkError> {
        block_on(self.speak_async(peer, value))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::speak`].
    pub async fn speak_async(&self, peer: NodeId, value: &[u8]) -> Result<(), NetworkError> {
        let value = Encoded::parse(value)?;
        self.ask_async(peer, &Request::Speak(value), WORD_WAIT).await.map(drop)
    }

    /// Says something to one node alone, directly, and waits until it has taken it. The id is that of its words.
    ///
    /// # Errors
    /// As [`Self::speak`].
    pub fn whisper(&self, peer: NodeId, value: &[u8]) -> Result<SignedMessageId, NetworkError> {
        block_on(self.whisper_async(peer, value))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::speak`].
    pub async fn whisper_async(&self, peer: NodeId, value: &[u8]) -> Result<SignedMessageId, NetworkError> {
        let value = Encoded::parse(value)?;
        match self.ask_async(peer, &Request::Whisper(value), WORD_WAIT).await?.ack() {
            Ack::Whisper(id) => Ok(id),
            _ => Err(NetworkError::Nonsense),
        }
    }

    /// Says something to everybody, and waits until it has left. Nobody acknowledges it; the links that it left on say whether
    /// anybody can have heard it. Up to 8 KiB; one a second, and eight at once.
    ///
    /// # Errors
    /// `Busy`: too much was said of late; `NotSayable`: it is too long; `BadValue`, `Stopped`. Nothing was said.
    pub fn shout(&self, value: &[u8]) -> Result<Said, NetworkError> {
        block_on(self.shout_async(value))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::shout`].
    pub async fn shout_async(&self, value: &[u8]) -> Result<Said, NetworkError> {
        Encoded::parse(value)?;
        let (operation, payload) = (Operation::Shout, value.into());
        match self.request(|ticket| Note::Broadcast { ticket, operation, payload }).await? {
            Answered::Said(result) => result.map_err(NetworkError::from),
            _ => Err(NetworkError::Stopped),
        }
    }

    /// Asks a node; `wait` is how long it may take to be reached, and then to answer.
    ///
    /// # Errors
    /// Why there is no answer; `Refused` has the NACK.
    pub fn ask(&self, peer: NodeId, request: &Request<'_>, wait: Duration) -> Result<Answer, NetworkError> {
        block_on(self.ask_async(peer, request, wait))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_async(
        &self,
        peer: NodeId,
        request: &Request<'_>,
        wait: Duration,
    ) -> Result<Answer, NetworkError> {
        let payload = service::packed(|out| request.write(out)).ok_or(NetworkError::TooLong)?;
        let question = Asking { operation: request.operation(), payload: payload.into(), wait };
        let answer = self.request(|ticket| Note::Ask { ticket, peer, question }).await?;
        outcome(answer).map(Answer)
    }

    async fn request(&self, describe: impl FnOnce(Ticket) -> Note) -> Result<Answered, NetworkError> {
        if self.engine.is_forked() {
            return Err(NetworkError::Stopped);
        }
        let ticket = self.engine.next_ticket();
        let pending = self.shared.expect(ticket);
        if let Err(error) = self.post(describe(ticket)) {
            self.shared.forget(ticket);
            return Err(error);
        }
        if self.shared.is_stopped() {
            self.shared.forget(ticket);
            return Err(NetworkError::Stopped);
        }
        Ok(pending.wait().await)
    }

    /// To the shard that has the hub.
    fn post(&self, note: Note) -> Result<(), NetworkError> {
        let port = &self.engine.ports[usize::from(HUB)];
        port.post(Mail::Note { to: HUB, note: Box::new(note) }).map_err(|_| NetworkError::Busy)
    }

    /// The next thing that happened; waits for it.
    #[must_use]
    pub fn next_event(&self) -> NetworkEvent {
        block_on(self.next_event_async())
    }

    /// The next thing that happened, if it happens in time.
    #[must_use]
    pub fn event_timeout(&self, wait: Duration) -> Option<NetworkEvent> {
        self.shared.happened().wait_for(wait, || self.try_event())
    }

    /// The next thing that happened, if something did.
    #[must_use]
    pub fn try_event(&self) -> Option<NetworkEvent> {
        self.shared.next_event()
    }

    /// The next thing that happened, for any async runtime.
    pub async fn next_event_async(&self) -> NetworkEvent {
        loop {
            let listener = self.shared.happened().listen();
            if let Some(event) = self.try_event() {
                return event;
            }
            if self.engine.is_forked() {
                return NetworkEvent::Stopped;
            }
            listener.await;
        }
    }

    /// Events that were dropped because nobody asked for them: 4,096 wait.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.shared.dropped()
    }

    /// Puts a watcher at the end of the chain: each event goes along it, on a thread of its own, until somebody takes it by
    /// giving nothing back. What nobody takes waits for [`Self::next_event`].
    ///
    /// # Errors
    /// `Stopped`: there is no thread to be had.
    pub fn on_event(
        &self,
        watcher: impl FnMut(NetworkEvent) -> Option<NetworkEvent> + Send + 'static,
    ) -> Result<(), NetworkError> {
        if self.shared.add_watcher(Box::new(watcher)) {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("dunlin-network".to_owned());
            thread.spawn(move || shared.run_watchers()).map_err(|_| NetworkError::Stopped)?;
        }
        Ok(())
    }

    /// Answers the questions of a service, as the last of the chain.
    ///
    /// # Errors
    /// As [`Self::on_event`].
    pub fn serve<S: Service>(&self, mut service: S) -> Result<(), NetworkError> {
        self.on_event(move |event| service::offer(&mut service, event))
    }

    /// Asks a service of another node.
    ///
    /// # Errors
    /// As [`Self::ask`]; `Nonsense` when the answer is of another type.
    pub fn call<S: Service>(
        &self,
        peer: NodeId,
        question: &S::Question,
        wait: Duration,
    ) -> Result<S::Answer, NetworkError> {
        let value = service::named(S::NAME, question).ok_or(NetworkError::TooLong)?;
        let value = Encoded::parse(&value)?;
        match self.ask(peer, &Request::Custom(value), wait)?.ack() {
            Ack::Custom(answer) => S::Answer::unpack(answer).ok_or(NetworkError::Nonsense),
            _ => Err(NetworkError::Nonsense),
        }
    }

    /// Waits a while for the engine's end; whether it has come.
    pub(crate) fn wait_for_end(&self, wait: Duration) -> bool {
        let listener = self.shared.ended.listen();
        if !self.is_ended() {
            listener.wait_timeout(wait);
        }
        self.is_ended()
    }

    /// Whether the engine has stopped.
    pub(crate) fn is_ended(&self) -> bool {
        self.shared.is_stopped()
    }

    /// The drivers are gone.
    pub(crate) fn on_stopped(&self) {
        self.shared.on_stopped();
    }
}

/// The payload of an ACK.
fn outcome(answer: Answered) -> Result<Box<[u8]>, NetworkError> {
    match answer {
        Answered::Outcome(result) => error::answer_of(result),
        _ => Err(NetworkError::Stopped),
    }
}

fn distance(one: &NodeId, other: &NodeId) -> [u8; 32] {
    core::array::from_fn(|at| one.0[at] ^ other.0[at])
}
