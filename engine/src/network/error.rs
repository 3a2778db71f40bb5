//! What can go wrong between nodes of a network, said for people.

use std::fmt;

use dunlin_codec::args::Nack;
use dunlin_codec::msgpack::MsgpackError;
use dunlin_shards::event::CloseReason;
use dunlin_shards::neighbours::Failure;
use dunlin_shards::outcome::Outcome;

use crate::api::ConnectError;

/// Why a node was not joined, found or asked, or gave no answer. The network goes on.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The text is no URI, or its host has no address that we reach.
    #[error(transparent)]
    Address(#[from] ConnectError),
    /// Nobody whom we asked knows where the node is.
    #[error("nobody knows where this node is: it may be down, in another network, or unable to take calls")]
    NotFound,
    /// No session could be opened with it.
    #[error("cannot connect to it: {0}")]
    NotReached(CloseReason),
    /// It is of another network, or does not keep to the protocol.
    #[error("{0}")]
    Parted(&'static str),
    /// Too much waits for an answer.
    #[error("too many questions wait for an answer; ask more slowly")]
    Busy,
    /// No answer came in time.
    #[error("no answer came in time")]
    TimedOut,
    /// The node says no.
    #[error("{0}")]
    Refused(Refusal),
    /// The node's answer is none.
    #[error("the node's answer does not fit the question")]
    Nonsense,
    /// The session ended before the answer.
    #[error("the session ended before the answer came")]
    Over,
    /// What was to be said is no value.
    #[error("what was to be said is no msgpack value: {0}")]
    BadValue(#[from] MsgpackError),
    /// It is longer than any message.
    #[error("this is longer than a message can be")]
    TooLong,
    /// Nobody would carry it to everybody.
    #[error("this is longer than the 8 KiB that others carry on")]
    NotSayable,
    /// The engine has stopped, or was started by another process than this one.
    #[error("the engine is stopped")]
    Stopped,
}

/// The payload of a NACK.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal(pub Box<[u8]>);

impl Refusal {
    /// What it says; none when it says nothing that we know.
    #[must_use]
    pub fn nack(&self) -> Option<Nack<'_>> {
        Nack::parse(&self.0).ok()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nack() {
            Some(nack) => write!(f, "the node refuses: {nack}"),
            None => f.write_str("the node refuses"),
        }
    }
}

impl From<Failure> for NetworkError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound => Self::NotFound,
            Failure::NotReached(reason) => Self::NotReached(reason),
            Failure::Parted(farewell) => Self::Parted(farewell.reason),
            Failure::Busy => Self::Busy,
            Failure::BadWish => Self::TooLong,
            Failure::NotSayable => Self::NotSayable,
        }
    }
}

/// The payload of the ACK, or why there is none.
pub(super) fn answer_of(result: Result<Outcome, Failure>) -> Result<Box<[u8]>, NetworkError> {
    match result? {
        Outcome::Ack(payload) => Ok(payload),
        Outcome::Nack(payload) => Err(NetworkError::Refused(Refusal(payload))),
        Outcome::Nonsense => Err(NetworkError::Nonsense),
        Outcome::TimedOut => Err(NetworkError::TimedOut),
        Outcome::Over => Err(NetworkError::Over),
    }
}
