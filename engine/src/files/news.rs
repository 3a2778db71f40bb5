//! What is told of transfers while they run.

use std::time::Duration;

use dunlin_codec::ids::NodeId;

/// A file on its way.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Counts transfers, from 0.
    pub number: u64,
    /// Its name: at the sender as it is there, at the receiver made safe.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// The other side, when it is known.
    pub peer: Option<NodeId>,
}

/// A fact about a transfer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum News {
    /// The sender reads the file for its hash, and is there.
    Hashing {
        /// Bytes read.
        position: u64,
    },
    /// The receiver wants it.
    Started {
        /// Bytes from the start that it had for certain.
        first_missing: u64,
        /// Bytes that it had, believed or not: those between the two travel again.
        had: u64,
    },
    /// It goes on.
    Moved {
        /// Bytes from the start that are done with at this side.
        position: u64,
    },
    /// It is at the receiver, verified, on the disk.
    Stored {
        /// Its name there, when the sender knows it.
        name: String,
        /// Bytes that travelled.
        moved: u64,
        /// Bytes of these that had travelled before.
        resent: u64,
        /// From the offer to here.
        took: Duration,
    },
    /// It was there already.
    Skipped,
    /// It did not arrive. What did is kept for another try, unless it was wrong.
    Failed {
        /// Why, in one line. May hold the other side's words.
        why: String,
    },
}

/// Hears of transfers, from several threads.
pub trait Watch: Send + Sync {
    /// Something happened.
    fn on_news(&self, transfer: &Transfer, news: News);
}

impl<F: Fn(&Transfer, News) + Send + Sync> Watch for F {
    fn on_news(&self, transfer: &Transfer, news: News) {
        self(transfer, news);
    }
}
