//! What must hold after every step, and what happened so far, by kind.
//!
//! I2, I3 and order are checked where messages arrive (`ledger.rs`), I4 by the counting cryptography, I5 by the tap.

use std::collections::BTreeMap;

use dunlin_codec::frame::{FrameKind, Frames};
use dunlin_codec::ids::SessionId;
use dunlin_shards::event::Event;
use dunlin_shards::mail::Mail;
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::stats::DropReason;

use crate::glass;
use crate::link::Cause;

use super::{NodeIndex, POISON, WorldOf};

/// Bytes of poison in a row that no message of a story has.
const POISON_RUN: usize = 8;

/// How often each kind of thing happened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Coverage {
    /// Counts something.
    pub fn count(&mut self, group: &'static str, name: &'static str, by: u64) {
        if by > 0 {
            *self.counts.entry((group, name)).or_default() += by;
        }
    }

    pub(super) fn count_cause(&mut self, cause: Cause) {
        self.count("fault", name_of_cause(cause), 1);
    }

    pub(super) fn count_event(&mut self, event: &Event) {
        self.count("event", name_of(event), 1);
    }

    pub(super) fn count_frame(&mut self, kind: FrameKind) {
        self.count("frame", kind.name(), 1);
    }

    /// How often it happened.
    #[must_use]
    pub fn of(&self, group: &'static str, name: &'static str) -> u64 {
        self.counts.get(&(group, name)).copied().unwrap_or_default()
    }

    /// All of it: group, name, how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.counts.iter().map(|((group, name), count)| (*group, *name, *count))
    }
}

/// A cause's name.
#[must_use]
pub fn name_of_cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Loss => "loss",
        Cause::Burst => "burst",
        Cause::Queue => "queue",
        Cause::TooLong => "too long",
        Cause::Cut => "cut",
        Cause::Scripted => "scripted",
        Cause::Nobody => "nobody",
        Cause::Duplicated => "duplicated",
        Cause::Reordered => "reordered",
        Cause::Corrupted => "corrupted",
        Cause::Truncated => "truncated",
        Cause::Marked => "marked",
    }
}

/// An event's name.
#[must_use]
pub fn name_of(event: &Event) -> &'static str {
    match event {
        Event::Connected { .. } => "Connected",
        Event::ConnectFailed { .. } => "ConnectFailed",
        Event::Accepted { .. } => "Accepted",
        Event::Adopted { .. } => "Adopted",
        Event::Message { .. } => "Message",
        Event::Released { .. } => "Released",
        Event::QueueLimit { .. } => "QueueLimit",
        Event::ChannelClosed { .. } => "ChannelClosed",
        Event::Pong { .. } => "Pong",
        Event::Roamed { .. } => "Roamed",
        Event::PeerRestarted { .. } => "PeerRestarted",
        Event::Moved { .. } => "Moved",
        Event::Closed { .. } => "Closed",
    }
}

/// An event's number in the trace, and its session.
pub(super) fn event_number(event: &Event) -> (u64, SessionId) {
    match event {
        Event::Connected { session, .. } => (1, *session),
        Event::ConnectFailed { session, .. } => (2, *session),
        Event::Accepted { session, .. } => (3, *session),
        Event::Message { session, .. } => (4, *session),
        Event::Released { session, .. } => (5, *session),
        Event::QueueLimit { session, .. } => (6, *session),
        Event::ChannelClosed { session, .. } => (7, *session),
        Event::Pong { session, .. } => (8, *session),
        Event::Roamed { session, .. } => (9, *session),
        Event::PeerRestarted { from, .. } => (10, *from),
        Event::Moved { from, .. } => (11, *from),
        Event::Closed { session, .. } => (12, *session),
        Event::Adopted { session, .. } => (13, *session),
    }
}

/// A letter's number in the trace.
pub(super) fn letter_number(mail: &Mail) -> u64 {
    match mail {
        Mail::Connect(_) => 1,
        Mail::Send { .. } => 2,
        Mail::Cancel { .. } => 3,
        Mail::Consumed { .. } => 4,
        Mail::Ping { .. } => 5,
        Mail::Close { .. } => 6,
        Mail::Shutdown => 7,
        Mail::Misrouted { .. } => 8,
        Mail::Strike { .. } => 9,
        Mail::StrikeAnswer { .. } => 10,
        Mail::SessionUp(_) => 11,
        Mail::SessionDown(_) => 12,
        Mail::Retire { .. } => 13,
        Mail::Probe { .. } => 14,
        Mail::Inherit { .. } => 15,
        Mail::Opened(_) => 16,
        Mail::Taken { .. } => 17,
        Mail::Vacated { .. } => 18,
        Mail::TokenUp { .. } => 19,
        Mail::TokenDown { .. } => 20,
        Mail::Reset { .. } => 21,
    }
}

impl<C: Crypto> WorldOf<C> {
    /// I6: what a shard has allocated for messages stays within its bound.
    pub(super) fn check_step(&mut self) {
        for node in &self.nodes {
            let cap = node.settings.limits.memory;
            for core in &node.cores {
                let allocated = core.shard.allocated_bytes();
                assert!(allocated <= cap, "I6: {allocated} bytes allocated, {cap} are allowed");
            }
        }
    }

    /// I13: no packet holds a byte of a buffer that nobody wrote. Counts its frames.
    pub(super) fn check_sealed(&mut self, node: NodeIndex) {
        let coverage = &mut self.coverage;
        glass::drain(|seen| {
            for frame in Frames::new(seen.plain) {
                let frame = frame.unwrap_or_else(|error| panic!("{node:?} sealed a bad frame: {error}"));
                coverage.count_frame(frame.kind());
            }
            let is_leaking = seen.plain.windows(POISON_RUN).any(|bytes| bytes == [POISON; POISON_RUN]);
            assert!(!is_leaking, "I13: {node:?} sealed a part of a buffer that nobody wrote");
        });
    }

    /// Drops of all nodes by reason, for the table of what a run has covered.
    pub fn count_drops(&mut self) {
        for node in 0..self.nodes.len() {
            let stats = self.stats(NodeIndex(node));
            for reason in DropReason::ALL {
                self.coverage.count("drop", reason.name(), stats.drops(*reason));
            }
        }
    }
}
