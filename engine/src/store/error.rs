//! What can go wrong with a store: who is to blame and what is there now.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::claim::holder_words;

/// Why a store could not be opened. Each says what, where and what to do, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another node has it.
    #[error("{}: {} has this store; stop that node, or give this one a folder of its own with --state", .path.display(), holder_words(*.holder))]
    Taken {
        /// The file.
        path: PathBuf,
        /// The process that has it, where the kernel tells.
        holder: Option<u32>,
    },
    /// The system refused.
    #[error("{}: cannot {what}: {why}; mend that, or name another place with --state", .path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        why: io::Error,
    },
    /// The file holds no store, or a damaged one.
    #[error("{}: this is not a store, or it is damaged: {why}; move it away, and the node begins with an empty one", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
}

/// Why a batch was not kept. It was never promised; after a crash it may be there all the same, whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreError {
    /// The disk is full, or this user's share of it. Tried again a little later, it may be kept.
    Full(Arc<str>),
    /// The disk failed: nothing is kept until the node starts again.
    ReadOnly(Arc<str>),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(why) => write!(f, "the disk is full: {why}"),
            Self::ReadOnly(why) => write!(f, "the store is read-only, its disk failed: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}
