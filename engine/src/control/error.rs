//! What keeps an admin socket from being opened or used: what, where, what to do.

use std::io;
use std::path::PathBuf;

use crate::claim::holder_words;

/// Why there is no admin socket, or no answer through one. Each is one line for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Another node has it.
    #[error("{}: {} has this admin socket; stop that node, or give this one a folder of its own with --state", .path.display(), holder_words(*.holder))]
    Taken {
        /// The socket.
        path: PathBuf,
        /// The process that has it, where the kernel tells.
        holder: Option<u32>,
    },
    /// Something is there that is no socket.
    #[error("{}: this is no socket, and is left alone; move it away, or name another place with --state", .0.display())]
    NoSocket(PathBuf),
    /// Nobody answers.
    #[error("no node is running at {}; start one with `dunlin node`, or say with --state or --key which one is meant", .0.display())]
    NoNode(PathBuf),
    /// Whoever answers runs as somebody else.
    #[error("{}: whoever answers there is not this user's node; run as that user, or see who put it there", .0.display())]
    NotOurs(PathBuf),
    /// The node would not.
    #[error("{0}")]
    Refused(String),
    /// What came was no answer.
    #[error("{}: the answer makes no sense ({why}); use the node's own release of dunlin", .path.display())]
    Nonsense {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system refused.
    #[error("{}: cannot {what}: {why}", .path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        why: io::Error,
    },
}
