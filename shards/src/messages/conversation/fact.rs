//! What a conversation tells whoever keeps it.
//!
//! Holds: a payload in here has been parsed as what its operation takes; nobody has verified a record or a signature in it.

use std::collections::VecDeque;

use dunlin_codec::message::{Operation, SignedMessageId};
use dunlin_codec::msgpack::Encoded;

use crate::event::Ticket;
use crate::limits::{FACTS_LEN_MAX, FACTS_WAITING_MAX};
use crate::outcome::Outcome;

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
        /// Its name.
        id: SignedMessageId,
        /// Its bytes.
        message: Box<[u8]>,
    },
    /// The peer lacks these of what we told it to have heard of late.
    Wanted(Box<[SignedMessageId]>),
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
    /// That this session carries broadcasts, or does no more.
    Link(bool),
    /// A value, in the payload of FIND_VALUE.
    FindValue(Box<[u8]>),
    /// That a value be kept, in the payload of STORE.
    Store(Box<[u8]>),
    /// That a key follows another, in the payload of CHANGE_KEY.
    ChangeKey(Box<[u8]>),
    /// The application's own, a value in msgpack.
    Custom(Box<[u8]>),
}

impl Asked {
    pub(super) const fn operation(&self) -> Operation {
        match self {
            Self::Link(_) => Operation::SetConnectionOption,
            Self::FindValue(_) => Operation::FindValue,
            Self::Store(_) => Operation::Store,
            Self::ChangeKey(_) => Operation::ChangeKey,
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
                what:
                    Asked::FindValue(payload)
                    | Asked::Store(payload)
                    | Asked::ChangeKey(payload)
                    | Asked::Custom(payload),
                ..
            } => payload.len(),
            Self::Answered { outcome: Outcome::Ack(payload) | Outcome::Nack(payload), .. } => payload.len(),
            Self::Wanted(ids) => ids.len() * size_of::<SignedMessageId>(),
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

/// The answer of an application to CUSTOM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// Yes.
    Ack(Encoded<'a>),
    /// No.
    Nack(Encoded<'a>),
}
