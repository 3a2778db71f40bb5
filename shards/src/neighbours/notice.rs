//! What the application is told, and why what it asked did not come about.

use dunlin_codec::ids::{NodeId, SessionId};
use dunlin_codec::message::SignedMessageId;

use crate::dht::contact::Heard;
use crate::dht::lookup::Effort;
use crate::dht::values::decision::Decided;
use crate::dht::values::get::Got;
use crate::dht::values::put::Stored;
use crate::dht::values::{DiskRow, Event};
use crate::event::{CloseReason, Ticket};
use crate::identity::chain::News;
use crate::messages::conversation::Fact;
use crate::outcome::{Farewell, Outcome};

/// What the application is told.
#[derive(Debug)]
pub enum Notice {
    /// A peer of our network talks to us.
    Met(NodeId),
    /// A node changed its key, or two have it.
    Key(News),
    /// What keys became, to be kept: what was kept of the chain before is replaced. By [`super::Neighbours::restore_chain`] it is known
    /// at the next start.
    KeyChain {
        /// The first key of its chain.
        first: NodeId,
        /// The row.
        row: Vec<u8>,
    },
    /// The conversation ended for a reason, and its session with it.
    Parted(NodeId, Farewell),
    /// A peer asks by CUSTOM what only the application can answer, by `Note::Reply`.
    Asked {
        /// Who.
        peer: NodeId,
        /// On which session.
        session: SessionId,
        /// What the answer is given with.
        request: u64,
        /// A value in msgpack.
        value: Box<[u8]>,
    },
    /// SPEAK or WHISPER.
    Heard {
        /// From whom it came.
        peer: NodeId,
        /// It.
        fact: Fact,
    },
    /// A SHOUT, once, after it was carried on.
    Rumour {
        /// Its name.
        id: SignedMessageId,
        /// Who said it.
        from: NodeId,
        /// Links that it came over.
        hops: u8,
        /// Its value, in msgpack.
        value: Box<[u8]>,
    },
    /// What the application said to everybody has left, or has not.
    Broadcast {
        /// Its name for it.
        ticket: Ticket,
        /// How.
        result: Result<Said, Failure>,
    },
    /// A question of the application's is done with, or its joining.
    Answered {
        /// Its name for it.
        ticket: Ticket,
        /// How.
        result: Result<Outcome, Failure>,
    },
    /// A search is done.
    Found {
        /// The application's name for it.
        ticket: Ticket,
        /// The closest nodes that answered, the closest first; none: too many searches were under way.
        nodes: Option<Vec<Heard>>,
        /// What it took.
        effort: Effort,
    },
    /// A value was put.
    Stored {
        /// The application's name for it.
        ticket: Ticket,
        /// How that went.
        result: Result<Stored, Failure>,
    },
    /// A value was read.
    Read {
        /// The application's name for it.
        ticket: Ticket,
        /// What.
        result: Result<Got, Failure>,
    },
    /// The holders of a register have decided.
    Decided {
        /// The application's name for it.
        ticket: Ticket,
        /// What.
        result: Result<Decided, Failure>,
    },
    /// Write these rows, all or none, after those of lower tickets of this shard; `Note::Written` to it when they are durable.
    Write {
        /// What its end is told with.
        ticket: u64,
        /// The rows.
        rows: Vec<DiskRow>,
    },
    /// A value that this node keeps has changed.
    Changed {
        /// The key's bytes.
        key: Vec<u8>,
        /// How.
        event: Event,
    },
}

/// What was said to everybody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Said {
    /// Its name.
    pub id: SignedMessageId,
    /// Links that it left on: with none, nobody has heard it.
    pub links: usize,
}

/// Why a node was not asked. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Nobody whom we asked knows where it is.
    #[error("no node knows where it is")]
    NotFound,
    /// No session could be opened with it.
    #[error("cannot connect to it: {0}")]
    NotReached(CloseReason),
    /// It is of another network, or does not keep to the protocol.
    #[error("{}", .0.reason)]
    Parted(Farewell),
    /// It does not read what it was asked before, or we ask too much at once.
    #[error("too many questions wait for an answer")]
    Busy,
    /// A key or a value is no msgpack, or too long. The application's fault.
    #[error("a key or a value is none, or too long")]
    BadWish,
    /// It is no value, or longer than others carry on.
    #[error("nobody carries that on: it is no value, or longer than 8 KiB")]
    NotSayable,
}
