//! What a conversation tells whoever keeps it.
//!
//! Holds: a payload in here has been parsed as what its operation takes; nobody has verified a record or a signature in it.

use std::collections::VecDeque;

use dunlin_codec::args::{Ack, Nack};
use dunlin_codec::ids::Address;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;

use crate::event::Ticket;
use crate::limits::{FACTS_LEN_MAX, FACTS_WAITING_MAX};

/// A fact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fact {
    /// The peer is of our network, and says so of us: from here on there is somebody to talk to.
    Met,
    /// The peer asks.
    Asked {
        /// What its answer is given with; 0: it wants none.
        request: u64,
        /// For what.
        what: Asked,
    },
    /// A message for the application. It was acknowledged, when the peer wanted that.
    Told {
        /// SPEAK or WHISPER.
        operation: Operation,
        /// Its value, in msgpack.
        payload: Box<[u8]>,
    },
    /// A signed message on its way. Nobody has verified it.
    Carried {
        /// How many nodes say to have carried it on.
        hops: u8,
        /// Its bytes.
        message: Box<[u8]>,
    },
    /// One of our questions is done with.
    Answered {
        /// The asker's name for it.
        ticket: Ticket,
        /// How.
        outcome: Outcome,
    },
}

/// What a peer asks for that is not answered at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Asked {
    /// The nodes closest to an address.
    FindNode(Address),
    /// That this session carries broadcasts, or does no more.
    Link(bool),
    /// A value, in the payload of FIND_VALUE.
    FindValue(Box<[u8]>),
    /// That a value be kept, in the payload of STORE.
    Store(Box<[u8]>),
    /// The application's own, a value in msgpack.
    Custom(Box<[u8]>),
}

impl Asked {
    pub(super) const fn operation(&self) -> Operation {
        match self {
            Self::FindNode(_) => Operation::FindNode,
            Self::Link(_) => Operation::SetConnectionOption,
            Self::FindValue(_) => Operation::FindValue,
            Self::Store(_) => Operation::Store,
            Self::Custom(_) => Operation::Custom,
        }
    }
}

impl Fact {
    /// Bytes of the peer's that it holds.
    fn len(&self) -> usize {
        match self {
            Self::Told { payload, .. } => payload.len(),
            Self::Carried { message, .. } => message.len(),
            Self::Asked {
                what: Asked::FindValue(payload) | Asked::Store(payload) | Asked::Custom(payload),
                ..
            } => payload.len(),
            Self::Answered { outcome: Outcome::Ack(payload) | Outcome::Nack(payload), .. } => payload.len(),
            Self::Met | Self::Asked { .. } | Self::Answered { .. } => 0,
        }
    }
}

/// Facts that wait for their reader.
#[derive(Debug, Default)]
pub(super) struct Facts {
    queue: VecDeque<Fact>,
    len: usize,
}

impl Facts {
    /// There is room for what the peer brings up by itself. Answers to our own questions always have room: those are few.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < FACTS_WAITING_MAX && self.len < FACTS_LEN_MAX
    }

    pub(super) fn push(&mut self, fact: Fact) {
        self.len += fact.len();
        self.queue.push_back(fact);
    }

    pub(super) fn pop(&mut self) -> Option<Fact> {
        let fact = self.queue.pop_front()?;
        self.len -= fact.len();
        Some(fact)
    }

    pub(super) fn shrink(&mut self) {
        self.queue.shrink_to_fit();
    }
}

/// How a question ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Yes: the payload of an ACK that answers what was asked.
    Ack(Box<[u8]>),
    /// No: the payload of a NACK.
    Nack(Box<[u8]>),
    /// An answer that is none. The peer is not to be believed.
    Nonsense,
    /// No answer within the time.
    TimedOut,
    /// The conversation ended first.
    Over,
}

impl Outcome {
    /// The ACK.
    #[must_use]
    pub fn ack(&self) -> Option<Ack<'_>> {
        if let Self::Ack(payload) = self { Ack::parse(payload).ok() } else { None }
    }

    /// The NACK.
    #[must_use]
    pub fn nack(&self) -> Option<Nack<'_>> {
        if let Self::Nack(payload) = self { Nack::parse(payload).ok() } else { None }
    }
}

/// The answer of an application to CUSTOM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// Yes.
    Ack(Encoded<'a>),
    /// No.
    Nack(Encoded<'a>),
}

/// Why the session is to end: everything that is queued goes first, then CLOSE with these.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Farewell {
    /// The code of CLOSE.
    pub code: u64,
    /// The words of CLOSE.
    pub reason: &'static str,
}

impl Farewell {
    /// The peer's network is another.
    pub const OTHER_NETWORK: Self =
        Self { code: 0x20, reason: "this is another network: its constants or description differ" };
    /// A transmission that is none.
    pub const MALFORMED: Self = Self { code: 0x21, reason: "a transmission is malformed" };
    /// A compressed body that is too long, made for that, or by a method that was not offered.
    pub const BAD_BODY: Self = Self { code: 0x22, reason: "a compressed body is refused" };
    /// The peer does not say whether our network is its own.
    pub const NO_GREETING: Self = Self { code: 0x23, reason: "the network's name was not answered" };
}
