//! Files between nodes: an application of the public API, and what `dunlin send` and `dunlin receive` are made of.
//!
//! In:    paths to send; a folder to receive into.
//! Out:   files that are whole, verified and on the disk; news of each transfer.
//! Holds: a file appears under its name only when its SHA-256 is the offered one; what was there stays as it was.
//!
//! A sender opens a session and offers up to four files at once, each on a channel of its own; a channel whose file is done serves
//! the next one. The receiver answers every offer with ACCEPT or SKIP or RESULT, and every accepted one with one RESULT; blocks that
//! come where nothing was accepted are dropped. The messages are `dunlin_codec::file`.
//! spec: atp/file-transfer

mod claims;
mod folder;
mod incoming;
mod names;
mod news;
mod outgoing;
mod partial;
mod receive;
mod send;

pub use news::{News, Transfer, Watch};
pub use receive::{ReceiveError, ReceiveOptions, Received, Receiving, StopReceiving};
pub use send::{SendFiles, SendFilesError, Sending, Sent, StopSending};

use crate::api::Channel;

/// Files under way at once, per sender.
pub const FILES_AT_ONCE: usize = 4;

/// The code of a session that was closed because everything was done.
pub const CODE_DONE: u64 = 0;
/// The code of a session whose sender was stopped.
pub const CODE_STOPPED: u64 = 1;
/// The code of a session for which the receiver has no place.
pub const CODE_BUSY: u64 = 2;

/// The first channel of transfers.
const FIRST_CHANNEL: Channel = Channel(16);
/// Restarts of the receiver that a sender goes through: each takes new channels.
const RESTARTS_MAX: u32 = 32;
/// A DONE on this channel, behind those of transfers: the sender has no more files. A session's CLOSE alone may be lost, and with it
/// the difference between a sender that is through and one that will come back.
// spec: atp/file-goodbye
const GOODBYE: Channel = Channel(FIRST_CHANNEL.0 + (RESTARTS_MAX + 1) * FILES_AT_ONCE as u32);
