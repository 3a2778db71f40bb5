//! Notes: what the neighbours on a node's shards tell each other, and its application tells them.
//!
//! Holds: plain data. A note that is lost with a full ring costs a question its answer, never more: whoever waits for one
//!        has a deadline, and whoever is told of a session that is gone says so.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use dunlin_codec::ids::{Address, NodeId, SessionId};
use dunlin_codec::message::Operation;

use crate::dht::known::Known;
use crate::dht::values::survey::Surveyed;
use crate::dht::values::{DecideWish, Finding, GetWish, PutWish};
use crate::event::{CloseReason, Ticket};
use crate::gossip::{Brought, Rumour};
use crate::identity::chain::Kin;
use crate::identity::change::NewKey;
use crate::outcome::{AskError, Farewell, Outcome};
use crate::time::Instant;

/// What a node is asked: an operation and its payload, of which it is known that it is one.
#[derive(Clone, Debug)]
pub struct Question {
    /// The operation.
    pub operation: Operation,
    /// Its arguments.
    pub payload: Box<[u8]>,
    /// How long an answer is waited for.
    pub wait: Duration,
}

/// Who is told what a holder says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The peer of a session.
    Session {
        /// The session.
        session: SessionId,
        /// Its question.
        request: u64,
    },
    /// The hub, by its own name for the question.
    Hub(Ticket),
}

/// A note.
#[derive(Debug)]
pub enum Note {
    /// Application: join the network by a node that is known.
    Join {
        /// Its name for the request.
        ticket: Ticket,
        /// Whose key.
        peer: NodeId,
        /// Where it is.
        endpoint: SocketAddr,
    },
    /// Application: what the node knew before it restarted.
    Remember {
        /// Records of nodes.
        records: Vec<Box<[u8]>>,
        /// Those to whom it had links, the first to be asked for one.
        anchors: Vec<NodeId>,
    },
    /// Application: the disk has it that sequences of the node's own record up to this one may have been used.
    OwnReserved(u64),
    /// Application: the node has another key. To each shard, behind the mail that tells the shard.
    NewKey(Box<NewKey>),
    /// Application: look a place up.
    Search {
        /// Its name for the request.
        ticket: Ticket,
        /// Where.
        place: Address,
    },
    /// Application: ask a node, wherever it is.
    Ask {
        /// Its name for the request.
        ticket: Ticket,
        /// Whom.
        peer: NodeId,
        /// For what.
        question: Question,
    },
    /// Application: answer what was asked on a session of yours.
    Reply {
        /// The session.
        session: SessionId,
        /// The question.
        request: u64,
        /// ACK, else NACK.
        is_ack: bool,
        /// What it says, one value in msgpack.
        value: Box<[u8]>,
    },
    /// Application: have a value kept.
    Put {
        /// Its name for the request.
        ticket: Ticket,
        /// What.
        wish: Box<PutWish>,
    },
    /// Application: read a value.
    Get {
        /// Its name for the request.
        ticket: Ticket,
        /// What.
        wish: Box<GetWish>,
    },
    /// Application: have the holders of a register decide.
    Decide {
        /// Its name for the request.
        ticket: Ticket,
        /// What.
        wish: Box<DecideWish>,
    },
    /// Application: give another leave to write a key of ours.
    Grant {
        /// Its name for the request.
        ticket: Ticket,
        /// The key's bytes.
        key: Vec<u8>,
        /// Whom.
        writer: NodeId,
        /// Until when: unix time in milliseconds.
        until_ms: u64,
    },
    /// Application: the disk's word on what a shard wanted written. To that shard.
    Written {
        /// The shard's name for it.
        ticket: u64,
        /// It is on disk; else nothing of it is, and never will be.
        is_durable: bool,
    },
    /// A shard or the hub: say what the holder beside you says to this.
    Keep {
        /// Who is told.
        origin: Origin,
        /// Who asks.
        peer: NodeId,
        /// Where that is.
        from: IpAddr,
        /// FIND_VALUE or STORE.
        operation: Operation,
        /// Its arguments.
        payload: Box<[u8]>,
    },
    /// Application: say something to everybody.
    Broadcast {
        /// Its name for it.
        ticket: Ticket,
        /// SHOUT, ANNOUNCE or CHANGE_KEY.
        operation: Operation,
        /// Its arguments.
        payload: Box<[u8]>,
    },
    /// Shard: what the holder beside it says.
    Kept {
        /// To whom.
        origin: Origin,
        /// What.
        finding: Finding,
    },
    /// Shard: a value that is to be stored again at the holders that are closest by now, or at one that has come.
    Republish {
        /// Whom; none: all.
        to: Option<NodeId>,
        /// The key's bytes.
        key: Vec<u8>,
        /// The arguments of STORE.
        store: Vec<u8>,
    },
    /// Shard: what was decided is to be brought to the holders that are closest by now.
    Refresh {
        /// A key of the register.
        key: Vec<u8>,
    },
    /// Shard: its holder has to know what others have decided of a register.
    Settle {
        /// The shard.
        shard: u8,
        /// The register.
        scope: Vec<u8>,
        /// A key of it.
        key: Vec<u8>,
    },
    /// Hub: what they have.
    Settled {
        /// The register.
        scope: Vec<u8>,
        /// What, and under whom.
        surveyed: Box<Surveyed>,
    },
    /// Any shard: what an identity has leased of another, which counts for all of them together.
    Leased {
        /// That shard.
        shard: u8,
        /// Who.
        holder: NodeId,
        /// When each ends.
        ends: Box<[Instant]>,
    },
    /// Any shard: decide about what a link of mine brought, its origin is yours.
    Judge(Box<Brought>),
    /// Any shard: what a link of yours brought was not signed by its origin.
    Forged(SessionId),
    /// Any shard: carry this on over your links.
    Rumour(Arc<Rumour>),
    /// Shard: a broadcast of the hub's left on so many links.
    CarriedOn {
        /// The hub's name for it, or the application's.
        ticket: Ticket,
        /// How many.
        links: usize,
    },
    /// Shard: a rumour that is not for the application.
    Arrived(Arc<Rumour>),
    /// Shard: a peer brought a message that is for one node: a letter, or the answer to one.
    Letter(Box<Brought>),
    /// Hub: give this to the peer of a session of yours.
    CarryOn {
        /// The session.
        session: SessionId,
        /// How many nodes carried it on so far.
        hops: u8,
        /// A signed message.
        message: Arc<[u8]>,
    },
    /// Hub: ask on a session of yours.
    AskOn {
        /// The errand.
        ticket: Ticket,
        /// The session.
        session: SessionId,
        /// For what.
        question: Question,
    },
    /// Hub: open a session.
    Call {
        /// The errand.
        ticket: Ticket,
        /// With whom.
        peer: NodeId,
        /// Where.
        endpoint: SocketAddr,
    },
    /// Hub: what FIND_NODE is answered from by now.
    Known(Arc<Known>),
    /// Hub: whether a session of yours may be a link.
    LinkDecided {
        /// The session.
        session: SessionId,
        /// The question.
        request: u64,
        /// A link, or one no more.
        is_link: bool,
        /// Yes.
        is_granted: bool,
    },
    /// Hub: which keys became which.
    Kin(Kin),
    /// Hub: whether what a peer said of its key counts.
    KeyChangeJudged {
        /// The session.
        session: SessionId,
        /// The question.
        request: u64,
        /// It does.
        is_taken: bool,
    },
    /// Another shard: your session carries on for one that the application has.
    CarriesOn(SessionId),
    /// Shard: a session that may be talked on.
    Up {
        /// The session.
        session: SessionId,
        /// With whom.
        peer: NodeId,
        /// Where.
        remote: SocketAddr,
        /// The errand that it was opened for.
        ticket: Option<Ticket>,
    },
    /// Shard: the peer of a session is of our network.
    Met {
        /// The session.
        session: SessionId,
        /// With whom.
        peer: NodeId,
    },
    /// Shard: a session is no more.
    Gone {
        /// The session.
        session: SessionId,
        /// With whom.
        peer: NodeId,
    },
    /// Shard: the peer of a session is reached elsewhere.
    Roamed {
        /// The session.
        session: SessionId,
        /// With whom.
        peer: NodeId,
        /// Where.
        remote: SocketAddr,
    },
    /// Shard: a session was not opened.
    CallFailed {
        /// The errand.
        ticket: Ticket,
        /// Why.
        reason: CloseReason,
    },
    /// Shard: what became of a question.
    Answered {
        /// The errand.
        ticket: Ticket,
        /// Where it was asked.
        session: SessionId,
        /// How it ended, or why it was not asked.
        result: Result<Outcome, AskError>,
        /// Nobody talks on that session any more, and why.
        farewell: Option<Farewell>,
    },
    /// Shard: a peer would have its session be a link, or be one no more.
    LinkAsked {
        /// The session.
        session: SessionId,
        /// With whom.
        peer: NodeId,
        /// What the answer is given with.
        request: u64,
        /// A link, or one no more.
        is_link: bool,
    },
    /// Shard: the peer of a session says which key follows another.
    KeyChangeTold {
        /// The session.
        session: SessionId,
        /// Whose key it proved to have.
        peer: NodeId,
        /// What the answer is given with.
        request: u64,
        /// The payload of CHANGE_KEY.
        payload: Box<[u8]>,
    },
}

impl Note {
    /// Of whom it speaks. A change of key is by the very key that the session has.
    pub(crate) const fn peer_mut(&mut self) -> Option<&mut NodeId> {
        match self {
            Self::Join { peer, .. }
            | Self::Ask { peer, .. }
            | Self::Up { peer, .. }
            | Self::Met { peer, .. }
            | Self::Gone { peer, .. }
            | Self::Roamed { peer, .. }
            | Self::LinkAsked { peer, .. } => Some(peer),
            _ => None,
        }
    }
}
