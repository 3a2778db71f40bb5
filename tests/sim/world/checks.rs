//! What must hold after every step, and what happened so far, by kind.
//!
//! I2, I3 and order are checked where messages arrive (`ledger.rs`), I4 by the counting cryptography, I5 by the tap.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dunlin_codec::frame::{Frame, FrameKind, Frames, Segment};
use dunlin_codec::ids::{ChannelId, SessionId};
use dunlin_shards::event::{CloseReason, EarlyData, Event};
use dunlin_shards::mail::Mail;
use dunlin_shards::route::Transmit;
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::shard::Timer;
use dunlin_shards::stats::DropReason;

use crate::glass;
use crate::link::Cause;
use crate::node::Silence;
use crate::text;

use super::{NodeIndex, POISON, WorldOf};

/// Bytes of poison in a row that no message of a story has.
const POISON_RUN: usize = 8;

/// How often a session may probe before it gives its peer up: 25 ms doubled so often are longer than that takes.
const PROBES_INTO_SILENCE: u64 = 14;

/// How often each kind of thing happened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    counts: BTreeMap<(&'static str, &'static str), u64>,
    /// What is counted with every packet, by index.
    frames: [u64; FrameKind::ALL.len()],
    causes: [u64; Cause::ALL.len()],
}

impl Coverage {
    /// Counts something.
    pub fn count(&mut self, group: &'static str, name: &'static str, by: u64) {
        if by > 0 {
            *self.counts.entry((group, name)).or_default() += by;
        }
    }

    pub(super) fn count_causes(&mut self, cause: Cause, by: u64) {
        self.causes[cause as usize] += by;
    }

    pub(super) fn count_event(&mut self, event: &Event) {
        self.count("event", name_of(event), 1);
        match event {
            Event::Closed { reason, .. } => self.count("closed", name_of_reason(reason), 1),
            Event::ConnectFailed { reason, .. } => self.count("connect failed", name_of_reason(reason), 1),
            Event::Connected { early, .. } => {
                let name = match early {
                    EarlyData::None => "none",
                    EarlyData::Accepted => "accepted",
                    EarlyData::Refused => "refused",
                };
                self.count("early data", name, 1);
            }
            _ => {}
        }
    }

    pub(super) fn count_frame(&mut self, kind: FrameKind) {
        self.frames[kind as usize] += 1;
    }

    pub(super) fn count_timer(&mut self, timer: Timer) {
        let name = match timer {
            Timer::Session => "Session",
            Timer::Handshake => "Handshake",
            Timer::Mail => "Mail",
            Timer::Memory => "Memory",
        };
        self.count("timer", name, 1);
    }

    /// How often it happened.
    #[must_use]
    pub fn of(&self, group: &'static str, name: &'static str) -> u64 {
        self.iter().find(|(a, b, _)| (*a, *b) == (group, name)).map_or(0, |(_, _, count)| count)
    }

    /// All of it: group, name, how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let frames = FrameKind::ALL.iter().map(|kind| ("frame", kind.name(), self.frames[*kind as usize]));
        let causes =
            Cause::ALL.iter().map(|cause| ("link", name_of_cause(*cause), self.causes[*cause as usize]));
        let others = self.counts.iter().map(|((group, name), count)| (*group, *name, *count));
        frames.chain(causes).chain(others).filter(|(_, _, count)| *count > 0)
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
        Cause::NoBuffers => "no buffers",
        Cause::Refused => "refused",
        Cause::Filtered => "filtered",
        Cause::Clogged => "clogged",
    }
}

/// Names of all events.
pub const EVENT_NAMES: &[&str] = &[
    "Connected",
    "ConnectFailed",
    "Accepted",
    "Message",
    "Released",
    "QueueLimit",
    "ChannelClosed",
    "Pong",
    "Roamed",
    "PeerRestarted",
    "Moved",
    "Closed",
    "Adopted",
    "Settled",
];

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
        Event::Settled { .. } => "Settled",
        Event::Ceased { .. } => "Ceased",
    }
}

fn name_of_reason(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Local => "Local",
        CloseReason::Peer { .. } => "Peer",
        CloseReason::Idle => "Idle",
        CloseReason::Unresponsive => "Unresponsive",
        CloseReason::HandshakeTimeout => "HandshakeTimeout",
        CloseReason::WrongIdentity => "WrongIdentity",
        CloseReason::Violation(_) => "Violation",
        CloseReason::PeerRestarted => "PeerRestarted",
        CloseReason::KeysExpired => "KeysExpired",
        CloseReason::Overloaded => "Overloaded",
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
        Event::Settled { from } => (14, *from),
        Event::Ceased { from } => (15, *from),
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
        Mail::PeerYielded(_) => 22,
        Mail::Keep { .. } => 23,
        Mail::Fence { .. } => 24,
        Mail::Fenced { .. } => 25,
        Mail::Note { .. } => 26,
        Mail::NewKey(_) => 27,
    }
}

impl<C: Crypto> WorldOf<C> {
    /// I6: what a shard has allocated for messages, and its sessions, stay within their bounds.
    pub(super) fn check_shard(&self, node: NodeIndex, shard: u8) {
        let owner = &self.nodes[node.0];
        let Some(core) = owner.cores.get(usize::from(shard)) else { return };
        let (allocated, cap) = (core.shard.allocated_bytes(), owner.settings.limits.memory);
        assert!(allocated <= cap, "I6: {node:?} has allocated {allocated} bytes, {cap} are allowed");
        let (sessions, cap) = (core.shard.sessions(), owner.settings.limits.sessions);
        assert!(sessions <= cap, "I6: {node:?} has {sessions} sessions, {cap} are allowed");
    }

    /// I12: however late a shard's time comes, no session probes more than once for it.
    pub(super) fn check_probes(&mut self, node: NodeIndex, shard: u8, (before, sessions): (u64, usize)) {
        let now = self.now;
        let core = &mut self.nodes[node.0].cores[usize::from(shard)];
        let fired = core.shard.stats().probe_timeouts - before;
        core.probes = if core.probes.0 == now { (now, core.probes.1 + fired) } else { (now, fired) };
        let probes = core.probes.1;
        assert!(
            probes <= sessions as u64,
            "I12: {node:?} probed {probes} times at once with {sessions} sessions"
        );
    }

    /// Probes that nothing answers become rarer: each waits twice as long as the one before.
    pub(super) fn check_silence(&mut self, node: NodeIndex, shard: u8) {
        let Some(core) = self.nodes[node.0].cores.get_mut(usize::from(shard)) else { return };
        let (stats, sessions, silence) =
            (core.shard.stats(), core.shard.sessions() as u64, &mut core.silence);
        let heard = stats.packets_opened + stats.handshakes_begun + stats.handshakes_completed;
        if heard != silence.heard {
            *silence = Silence { heard, probes: stats.probe_timeouts, sessions, sessions_ever: sessions };
        }
        silence.sessions_ever += sessions.saturating_sub(silence.sessions);
        silence.sessions = sessions;
        let probes = stats.probe_timeouts - silence.probes;
        let cap = PROBES_INTO_SILENCE * silence.sessions_ever.max(1);
        assert!(probes <= cap, "probes: {node:?} probed {probes} times and heard nothing, {cap} are enough");
    }

    fn is_trusted(&self, node: NodeIndex) -> bool {
        !self.ledger.is_distrusted(node) && self.nodes[node.0].lie.is_none()
    }

    /// A node took a Reset for true: whoever is at the address that it came from had sent one.
    pub(super) fn check_reset(&self, node: NodeIndex, remote: SocketAddr) {
        let peer = self.owner_of(remote);
        let is_true = peer.is_some_and(|peer| !self.is_trusted(peer) || self.tap.has_reset(peer, node));
        assert!(is_true, "reset: {node:?} believed a Reset of {peer:?} at {remote}, which never sent one");
    }

    /// An event that an honest node's application is told of: no honest peer broke the rules.
    pub(super) fn check_event(&self, node: NodeIndex, event: &Event) {
        if let Event::Closed { peer, reason: CloseReason::Violation(what), .. } = event {
            let peer = self.by_id[peer];
            let is_honest = self.is_trusted(node) && self.is_trusted(peer);
            assert!(!is_honest, "honesty: {node:?} says of {peer:?}, which keeps to the rules: {what}");
        }
    }

    /// I13: no packet holds a byte of a buffer that nobody wrote, or a piece of a message that is not for its receiver. Counts
    /// its frames.
    pub(super) fn check_sealed(&mut self, node: NodeIndex, transmit: Option<&Transmit>) {
        let is_honest = self.nodes[node.0].byzantine.is_none() && self.nodes[node.0].lie.is_none();
        let receiver = transmit.filter(|_| self.has_texts && is_honest).map(|transmit| transmit.remote);
        let receiver = receiver.and_then(|remote| self.owner_of(remote));
        let peer = receiver.filter(|receiver| !self.ledger.is_distrusted(*receiver));
        let (coverage, epochs) = (&mut self.coverage, &mut self.epochs);
        glass::drain(|seen| {
            if !is_honest {
                Frames::new(seen.plain)
                    .map_while(Result::ok)
                    .for_each(|frame| coverage.count_frame(frame.kind()));
                return;
            }
            assert!(!is_leaking(seen.plain), "I13: {node:?} sealed a part of a buffer that nobody wrote");
            if let Some(peer) = peer {
                epochs.on_sealed((node, peer), &seen.header, seen.number);
            }
            for frame in Frames::new(seen.plain) {
                let frame = frame.unwrap_or_else(|error| panic!("{node:?} sealed a bad frame: {error}"));
                coverage.count_frame(frame.kind());
                match (frame, receiver, peer) {
                    (Frame::Segment(segment), Some(receiver), _) => check_author(&segment, node, receiver),
                    (Frame::Ack(ack), _, Some(peer)) => epochs.on_acknowledged(node, peer, ack.largest()),
                    _ => {}
                }
            }
        });
    }

    /// Counts a fault that the world does not bring about itself.
    pub fn count_fault(&mut self, name: &'static str) {
        self.coverage.count("fault", name, 1);
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

/// A run of poison is found by looking at every eighth byte.
fn is_leaking(plain: &[u8]) -> bool {
    let mut at = POISON_RUN - 1;
    while at < plain.len() {
        if plain[at] == POISON
            && plain[at + 1 - POISON_RUN..]
                .windows(POISON_RUN)
                .take(POISON_RUN)
                .any(|run| run == [POISON; POISON_RUN])
        {
            return true;
        }
        at += POISON_RUN;
    }
    false
}

fn check_author(segment: &Segment<'_>, from: NodeIndex, to: NodeIndex) {
    if segment.channel < ChannelId::APPLICATION {
        return;
    }
    let offset = segment.part.map_or(0, |part| part.offset as usize);
    match text::author(offset, segment.bytes) {
        Ok(None) => {}
        Ok(Some(pair)) => assert!(pair == (from, to), "I13: {from:?} sends {to:?} a piece of {pair:?}'s"),
        Err(at) => panic!("I13: {from:?} sends {to:?} a piece that is another's from {at} on"),
    }
}
