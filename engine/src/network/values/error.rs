//! What can go wrong with values, said for people: who is to blame, and what is there now.

use std::fmt;

use dunlin_codec::args::Reason;
use dunlin_codec::msgpack::MsgpackError;
use dunlin_shards::neighbours::Failure;

use super::{Found, NetworkError};

/// Why a value was not kept, read or changed. Unless it says otherwise nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The key is none.
    #[error("this is no key: a text, bytes, or a group and a name, in msgpack at most 1,024 bytes")]
    BadKey,
    /// The value is none.
    #[error("this is no msgpack value: {0}")]
    BadValue(MsgpackError),
    /// The value is too long.
    #[error("the value has {len} bytes, and {len_max} can be kept; send a file instead")]
    TooLong {
        /// Its bytes in msgpack.
        len: usize,
        /// How many can be kept.
        len_max: usize,
    },
    /// A value does not last that long.
    #[error("a value lasts more than no time and at most 30 days")]
    BadLife,
    /// A lease does not last that long.
    #[error("a lease lasts 1 to 60 s")]
    BadLease,
    /// What is to change together is not of one group.
    #[error("only names of one group change together, each of them once, and 16 at most")]
    BadGroup,
    /// A diff is none.
    #[error("this is no diff: a list of set, remove and splice, 256 at most")]
    BadDiff,
    /// There are no holders.
    #[error("there is nobody to hold this key: this node knows no other, and others cannot call it")]
    Nobody,
    /// More than half of the holders must keep it, and do not. Some may.
    #[error("{}", TooFew(*.kept, *.of, .reasons))]
    TooFewKeep {
        /// Holders that do.
        kept: usize,
        /// Holders that were asked.
        of: usize,
        /// Why others do not.
        reasons: Vec<Reason>,
    },
    /// More than half of the holders must answer, or as many as were wished for.
    #[error("too few of the nodes that hold this key have answered; try again")]
    TooFewAnswered,
    /// Holders have different values, and none of them enough.
    #[error(
        "the nodes that hold this key do not agree: they have {0} different values; try again, or name the owner"
    )]
    Disagreement(usize),
    /// The holders say no.
    #[error("{0}")]
    Refused(Refused),
    /// It may have happened, now or a little later.
    #[error("nobody can tell whether it has happened: read the value before you try again")]
    Unknown,
    /// Too few holders could be asked, or too few of those that decided about it last.
    #[error(
        "too few of the nodes that hold this key could be asked, and more than half of those that decided about it last must be; nothing has changed: \
         try again when they are back"
    )]
    Unreached,
    /// The lease is held no more.
    #[error("the lease was lost")]
    Lost,
    /// The network has no answer.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Why the holders of a key say no, and what they have instead.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// What is there: of each key that was to change, as far as it was told.
    pub there: Vec<Found>,
}

impl Refused {
    /// The reason in words.
    #[must_use]
    pub const fn words(&self) -> &'static str {
        words(self.reason)
    }
}

const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Unsupported => "the holders do not offer this",
        Reason::Malformed => "the holders do not understand this",
        Reason::WrongAddress => "the key lies elsewhere: this node is of another network",
        Reason::Mismatch => "another value is there than was expected",
        Reason::BadDiff => "the diff does not fit what is there",
        Reason::Leased => "it is locked",
        Reason::StaleToken => "the lock that it was to be written under is not held any more",
        Reason::StaleSequence => "something newer is there",
        Reason::NotAllowed => "the key is another's",
        Reason::OverQuota => "it is too much: of values, of bytes, of locks, or too fast",
        Reason::Full => "the holders have no room, or their disks take nothing any more",
        Reason::BallotTooLow => "others are writing it",
        Reason::Busy => "the holders are busy; try again",
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())?;
        for found in self.there.iter().filter(|found| found.sequence > 0) {
            write!(f, "; there is sequence {}", found.sequence)?;
            if let Some(writer) = found.writer {
                write!(f, " by {writer}")?;
            }
        }
        let held = self.there.iter().filter_map(|found| found.lease).filter(|lease| lease.until_ms != 0);
        if self.reason == Reason::Leased
            && let Some(lease) = held.max_by_key(|lease| lease.until_ms)
        {
            write!(f, "; {} holds it under token {}", lease.holder, lease.token)?;
        }
        Ok(())
    }
}

/// How many keep it, of how many, and why the others do not.
struct TooFew<'a>(usize, usize, &'a [Reason]);

impl From<Failure> for ValueError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound => Self::Nobody,
            other => NetworkError::from(other).into(),
        }
    }
}

impl fmt::Display for TooFew<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kept, of, reasons) = *self;
        write!(f, "only {kept} of {of} nodes keep it, and more than half must")?;
        match reasons.first() {
            Some(reason) => write!(f, ": {}", words(*reason)),
            None => f.write_str(": the others do not answer"),
        }
    }
}
