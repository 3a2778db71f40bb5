//! Aims: what somebody wants of a key's holders, and whether it can be had at all.
//!
//! Holds: an aim that is good has a key, and nothing in it that only another could sign.

use dunlin_codec::ids::{Address, NodeId};
use dunlin_codec::record::Key;

use super::Notice;
use crate::dht::values::{DecideWish, GetWish, PutWish, address};
use crate::event::Ticket;
use crate::neighbours::Failure;

/// What somebody wants of a key's holders.
#[derive(Debug)]
pub(in super::super) enum Aim {
    /// The application: that a value be kept.
    Put(Ticket, Box<PutWish>),
    /// The application: a value.
    Get(Ticket, Box<GetWish>),
    /// The application: that something be decided.
    Decide(Ticket, Box<DecideWish>),
    /// A holder of ours: that a value be stored again.
    Again {
        /// At this node; none: at those closest by now.
        to: Option<NodeId>,
        /// The key's bytes.
        key: Vec<u8>,
        /// The arguments of STORE.
        store: Vec<u8>,
    },
    /// Ourselves: which key follows one that nobody has any more.
    Trace {
        /// The key.
        old: NodeId,
        /// The bytes of the key under which its change lies.
        key: Vec<u8>,
    },
    /// Ourselves: to be in the network's roll.
    Enter {
        /// The bytes of the key of our entry.
        key: Vec<u8>,
        /// The arguments of STORE.
        store: Vec<u8>,
    },
    /// Ourselves: who is in the network's roll.
    CallRoll {
        /// The bytes of its key.
        key: Vec<u8>,
    },
    /// A holder of ours: that what was decided be brought to those that are closest by now.
    Refresh {
        /// A key of the register.
        key: Vec<u8>,
    },
    /// The holder of a shard of ours: what the others have.
    Settle {
        /// The shard.
        shard: u8,
        /// The register.
        scope: Vec<u8>,
        /// A key of it.
        key: Vec<u8>,
    },
}

impl Aim {
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Put(_, wish) => &wish.key,
            Self::Get(_, wish) => &wish.key,
            Self::Decide(_, wish) => &wish.key,
            Self::Again { key, .. }
            | Self::Refresh { key }
            | Self::Settle { key, .. }
            | Self::Trace { key, .. }
            | Self::Enter { key, .. }
            | Self::CallRoll { key } => key,
        }
    }

    pub(super) fn place(&self) -> Option<Address> {
        Key::parse(self.key()).ok().flatten().map(|key| address(&key))
    }

    /// What is found there is to be believed, not only kept there (T9).
    pub(super) const fn is_read(&self) -> bool {
        matches!(self, Self::Get(..) | Self::Trace { .. } | Self::CallRoll { .. })
    }

    pub(super) const fn is_chore(&self) -> bool {
        matches!(self, Self::Again { .. } | Self::Refresh { .. } | Self::Settle { .. })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Again { key, store, .. } => key.len() + store.len(),
            Self::Refresh { key } => key.len(),
            Self::Settle { scope, key, .. } => scope.len() + key.len(),
            _ => 0,
        }
    }

    pub(super) fn is_good(&self, own: &NodeId) -> bool {
        match self {
            Self::Put(_, wish) => wish.is_good(own),
            Self::Get(_, wish) => wish.is_good(),
            Self::Decide(_, wish) => wish.is_good(own),
            _ => true,
        }
    }

    /// What the application is told when nothing came of it.
    pub(super) fn failed(&self, failure: Failure) -> Option<Notice> {
        match *self {
            Self::Put(ticket, _) => Some(Notice::Stored { ticket, result: Err(failure) }),
            Self::Get(ticket, _) => Some(Notice::Read { ticket, result: Err(failure) }),
            Self::Decide(ticket, _) => Some(Notice::Decided { ticket, result: Err(failure) }),
            _ => None,
        }
    }
}
