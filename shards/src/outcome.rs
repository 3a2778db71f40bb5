//! How a question to a peer ends, and how talking with it does.

use dunlin_codec::args::{Ack, Nack};

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

/// A question or message that was not taken. The caller's fault, or the peer is too slow; nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AskError {
    /// As many questions are open as may be.
    #[error("too many questions are open")]
    TooMany,
    /// What waits to be sent has no room for it.
    #[error("the peer is asked faster than it takes questions")]
    Full,
    /// The conversation is over, or the peer has not answered our greeting and only signed messages wait for that.
    #[error("there is nobody to talk to")]
    Nobody,
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
