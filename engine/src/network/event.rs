//! What happens among the neighbours, for an application that wants to know.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use dunlin_codec::args::Ack;
use dunlin_codec::ids::{NodeId, SessionId};
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::NodeRecord;
use dunlin_shards::dht::values::Event as ValueEvent;
use dunlin_shards::mail::Mail;
use dunlin_shards::note::Note;

use crate::api::shared::EngineShared;

/// A node as its record tells of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Who.
    pub id: NodeId,
    /// Where it can be called; the first is tried.
    pub endpoints: Vec<SocketAddr>,
    /// Its signed record.
    pub record: Box<[u8]>,
}

impl Node {
    pub(super) fn of(id: NodeId, record: &[u8]) -> Self {
        let parsed = NodeRecord::parse(record);
        let endpoints = parsed.map(|record| record.endpoints().collect()).unwrap_or_default();
        Self { id, endpoints, record: record.into() }
    }
}

/// A fact from the network. From [`super::Network::next_event`].
#[derive(Debug)]
pub enum NetworkEvent {
    /// A peer of our network talks to us.
    Met(NodeId),
    /// A node changed its key: whoever asks for the old one is led to the new one. Sessions stay.
    KeyChanged {
        /// Until now.
        old: NodeId,
        /// From now on.
        new: NodeId,
    },
    /// Two have this key, or one that it became: nobody of its chain is followed any more. Somebody stole it, or its owner
    /// used a copy.
    KeyFrozen(NodeId),
    /// A conversation ended for a reason, and its session with it.
    Parted {
        /// With whom.
        peer: NodeId,
        /// Why.
        reason: &'static str,
    },
    /// SPEAK or WHISPER, acknowledged.
    Told(Told),
    /// A CUSTOM question. Dropped without an answer it is refused.
    Asked(Question),
    /// A value that this node holds is another now, or was deleted.
    Changed {
        /// Its key, in msgpack.
        key: Box<[u8]>,
        /// How.
        event: ValueEvent,
    },
    /// The engine has stopped: nothing else will happen. Whoever asks again is told so again.
    Stopped,
}

/// What a peer said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// Who.
    pub from: NodeId,
    /// SPEAK or WHISPER.
    pub operation: Operation,
    /// One value in msgpack.
    pub value: Box<[u8]>,
}

/// What a peer asks by CUSTOM.
pub struct Question {
    pub(super) engine: Arc<EngineShared>,
    pub(super) from: NodeId,
    pub(super) session: SessionId,
    pub(super) request: u64,
    pub(super) value: Box<[u8]>,
    pub(super) is_answered: bool,
}

impl Question {
    /// Who asks.
    #[must_use]
    pub const fn from(&self) -> NodeId {
        self.from
    }

    /// What: one value in msgpack.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Answers with ACK. What is no msgpack value arrives as a refusal.
    pub fn reply(mut self, value: &[u8]) {
        self.answer(true, value);
    }

    /// Answers with NACK.
    pub fn refuse(mut self, value: &[u8]) {
        self.answer(false, value);
    }

    fn answer(&mut self, is_ack: bool, value: &[u8]) {
        self.is_answered = true;
        let (session, request) = (self.session, self.request);
        let note = Box::new(Note::Reply { session, request, is_ack, value: value.into() });
        let shard = session.shard();
        // A shard that cannot keep up: the asker's clock ends it.
        let _ = self.engine.ports[usize::from(shard)].post(Mail::Note { to: shard, note });
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer(false, Encoded::NIL.bytes());
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Question({} bytes from {})", self.value.len(), self.from)
    }
}

/// The payload of an ACK that answers what was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer(pub(super) Box<[u8]>);

impl Answer {
    /// What it says.
    ///
    /// # Panics
    /// Never: it was parsed when it came.
    #[must_use]
    pub fn ack(&self) -> Ack<'_> {
        Ack::parse(&self.0).expect("it was parsed when it came")
    }
}
