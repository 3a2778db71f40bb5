//! Selective repeat, sending side: cuts messages into segments as they are sent, and sends again what was lost.
//!
//! In:    messages (`push`, `cancel`), fates of packets (`on_acked`, `on_lost`), credit.
//! Out:   frames (`write_frames`), blocks that are free again (`poll_released`).
//! Holds: a reliable message stays here from `push` until every byte of it was acknowledged, or it was cancelled or given up; a lost segment
//!        is sent again alone, before anything new of its priority.
//!
//! A message gets its number when its first segment is written: 0, 1, 2 … per channel, unreliable ones counted apart. What it costs in credit
//! is said in `receiver/credit.rs`, for both ends. A lower priority number goes first, whatever else waits; channels of equal priority take
//! turns by packet. When the head of one channel waits for the session's credit, no other of its priority or a less urgent one
//! starts a message before it, so that a large message is not starved by small ones.
//! It knows nothing of packet numbers, keys or congestion: whoever drives it remembers a packet's `Span` and says what became of it.
//! spec: atp/reliability

mod channel;
#[cfg(test)]
mod link;
mod log;
mod schedule;
#[cfg(test)]
mod speed;
mod state;
#[cfg(test)]
mod tests;
mod write;

use core::time::Duration;

use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::ChannelId;

use super::receiver::credit::{CHANNELS_MAX, SESSION_CREDIT_INITIAL, Window};
use crate::blocks::Block;
use crate::limits::{BUFFER_LEN_MAX, BUFFER_LEN_MIN, MESSAGE_LEN_MAX};
use crate::time::Instant;

pub use log::Span;
use state::State;

/// `queue_bytes_max` is what the application is told and asked to keep to; letters cross with that news on their way, and blocks
/// are up to twice their message. Beyond this many times the largest queue, a message is refused.
const QUEUE_SLACK: usize = 3;

/// The priority of whom nothing else was said. Lower is more urgent.
pub const PRIORITY_DEFAULT: u8 = 128;

/// Bounds of one sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SenderLimits {
    /// The largest message, in bytes. Below 2 GiB.
    pub message_len_max: usize,
    /// What reliable messages may occupy at most when the path has earned it, in bytes of blocks and entries. `push` takes one message beyond.
    pub queue_len_max: usize,
    /// The same for unreliable ones that were not sent yet.
    pub unreliable_len_max: usize,
    /// Channels that may be opened.
    pub channels_max: usize,
}

impl Default for SenderLimits {
    fn default() -> Self {
        Self {
            message_len_max: MESSAGE_LEN_MAX,
            queue_len_max: BUFFER_LEN_MAX,
            unreliable_len_max: BUFFER_LEN_MIN,
            channels_max: CHANNELS_MAX,
        }
    }
}

/// A message to be sent.
#[derive(Debug)]
pub struct Outgoing {
    /// The application's name for it, for `cancel` and `Released`.
    pub ticket: u64,
    /// Its bytes.
    pub block: Block,
    /// Where.
    pub channel: ChannelId,
    /// Whether the channel delivers by number. Must not change on a channel.
    pub ordered: bool,
    /// Whether it is sent until it is acknowledged.
    pub reliable: bool,
    /// The channel's priority from now on. Lower is more urgent; below 128 a message may also use the last of the session's credit.
    pub priority: u8,
    /// Kept for `into_undelivered`: never to be sent again in another session.
    pub once: bool,
    /// Kept for `into_undelivered`: arriving twice does no harm.
    pub idempotent: bool,
}

impl Outgoing {
    /// A message on the application's first channel, reliable and in order; without a ticket, so nobody asks for it again.
    #[must_use]
    pub const fn new(block: Block) -> Self {
        Self {
            ticket: 0,
            block,
            channel: ChannelId::APPLICATION,
            ordered: true,
            reliable: true,
            priority: PRIORITY_DEFAULT,
            once: false,
            idempotent: false,
        }
    }
}

/// Why a message was not taken. It comes back with this; nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PushError {
    /// The queue is full: try again when something was released.
    #[error("the queue is full")]
    QueueFull,
    /// The message is longer than allowed.
    #[error("the message is longer than allowed")]
    TooLong,
    /// The channel was given up.
    #[error("the channel is closed")]
    ChannelClosed,
    /// No more channels may be opened.
    #[error("too many channels")]
    TooManyChannels,
    /// The channel is ordered and the message is not, or the other way round.
    #[error("a channel is either ordered or unordered")]
    OrderMismatch,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The peer has all of it, and on an ordered channel all that was sent before it: its application is given it.
    Acked,
    /// An unreliable message was written to the last byte.
    Sent,
    /// Its channel was given up, or an unreliable message made room for newer ones.
    Abandoned,
}

/// A message that ended, other than by `cancel`.
#[derive(Debug)]
pub struct Released {
    /// The application's name for it.
    pub ticket: u64,
    /// Where it was sent.
    pub channel: ChannelId,
    /// Its bytes.
    pub block: Block,
    /// How it ended.
    pub outcome: Outcome,
}

/// A message that a session's end left unacknowledged.
#[derive(Debug)]
pub struct Undelivered {
    /// The message as it was pushed (with its channel's last priority).
    pub message: Outgoing,
    /// Some of it was sent: it may have arrived.
    pub may_have_arrived: bool,
}

/// Counts since the session's beginning.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SenderCounts {
    /// Segments sent again.
    pub segments_resent: u64,
    /// Their bytes.
    pub bytes_resent: u64,
    /// Unreliable messages that made room for newer ones.
    pub unreliable_dropped: u64,
}

/// Where the bytes lie that `Sender::write_around` left out: so many of a message from an offset on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail {
    slot: u16,
    id: u64,
    offset: u32,
    len: u32,
}

impl Tail {
    /// Bytes.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.len as usize
    }

    /// Whether nothing was left out.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// The session's credit.
#[derive(Debug)]
struct SessionCredit {
    used: u64,
    limit: u64,
    /// The limit at which the peer was told that we are blocked.
    blocked_told: u64,
}

/// The sending side of a session.
#[derive(Debug)]
pub struct Sender {
    limits: SenderLimits,
    credit: SessionCredit,
    /// How much may be queued; grows as it is acknowledged.
    window: Window,
    /// The queue was full since the window was looked at.
    was_full: bool,
    state: Option<Box<State>>,
}

impl Sender {
    /// A sender with nothing to send. Allocates nothing.
    #[must_use]
    pub fn new(limits: SenderLimits) -> Self {
        let credit = SessionCredit { used: 0, limit: SESSION_CREDIT_INITIAL, blocked_told: u64::MAX };
        Self { limits, credit, window: Window::new(limits.queue_len_max), was_full: false, state: None }
    }

    /// Queues a message behind the others of its channel.
    ///
    /// # Errors
    /// [`PushError`], with the message.
    #[inline]
    pub fn push(&mut self, message: Outgoing) -> Result<(), (PushError, Outgoing)> {
        if message.block.len() > self.limits.message_len_max {
            return Err((PushError::TooLong, message));
        }
        if message.reliable && self.is_full() {
            self.was_full = true;
            if self.queued_bytes() >= self.limits.queue_len_max * QUEUE_SLACK {
                return Err((PushError::QueueFull, message));
            }
        }
        let state = self.state.get_or_insert_with(|| Box::new(State::new()));
        match state.admit(&message, &self.limits) {
            Ok(slot) => {
                state.queue(slot, message);
                // Whoever keeps to the announced limit never goes beyond it: half full is as much as full.
                self.was_full |= 2 * state.shared.reliable_len as u64 >= self.window.len();
                Ok(())
            }
            Err(error) => Err((error, message)),
        }
    }

    /// Takes a message back that has not ended. Its bytes are free in this call, and no `Released` follows.
    /// When some of it was sent it may arrive nevertheless.
    pub fn cancel(&mut self, channel: ChannelId, ticket: u64) -> Option<Block> {
        self.state.as_mut()?.cancel(channel, ticket)
    }

    /// Gives a channel up: its messages are released as abandoned, the peer is told `code`, nothing more can be pushed.
    pub fn close_channel(&mut self, channel: ChannelId, code: u64) {
        if let Some(state) = &mut self.state {
            state.close(channel, Some(code));
        }
    }

    /// The peer gave the channel up in its direction, and therefore in ours: as `close_channel`, but the peer knows.
    pub fn on_channel_reset(&mut self, channel: ChannelId) {
        if let Some(state) = &mut self.state {
            state.close(channel, None);
        }
    }

    /// Whether `write_frames` should be called: false once it found nothing more to write, until something changes.
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state.as_ref().is_some_and(|state| !state.is_idle)
    }

    /// Fills `out` with SEGMENT, SKIP, CHANNEL_RESET and CREDIT_BLOCKED frames until it is full or nothing may be written.
    /// The last one may run to the end of `out`: when `out` is full afterwards, nothing may follow in the packet.
    ///
    /// An empty span says that nothing was written whose fate matters; whether anything was, `out.len()` says.
    #[inline]
    pub fn write_frames(&mut self, out: &mut Writer<'_>) -> Span {
        let (span, tail) = self.write_around(out);
        let bytes = self.bytes_of(tail);
        let begin = out.len() - bytes.len();
        out.written_mut()[begin..].copy_from_slice(bytes);
        span
    }

    /// As [`Self::write_frames`], but the bytes of a segment that fills `out` are left out: `out` ends with room for them, and
    /// [`Self::bytes_of`] has them, so that they can be sealed out of their block without being copied first.
    #[inline]
    pub fn write_around(&mut self, out: &mut Writer<'_>) -> (Span, Tail) {
        match &mut self.state {
            Some(state) if !state.is_idle => {
                state.shared.tail = Tail::default();
                let span = state.write_frames(&mut self.credit, out);
                (span, state.shared.tail)
            }
            _ => Default::default(),
        }
    }

    /// What [`Self::write_around`] left out; empty when that was nothing. Ask before anything else is done.
    #[inline]
    #[must_use]
    pub fn bytes_of(&self, tail: Tail) -> &[u8] {
        match &self.state {
            Some(state) if tail.len > 0 => state.bytes_of(tail),
            _ => &[],
        }
    }

    /// The packet with this span arrived.
    #[inline]
    pub fn on_acked(&mut self, span: Span) {
        if let Some(state) = &mut self.state {
            let freed = state.on_acked(span);
            self.window.count(freed as u64);
        }
    }

    /// The packet with this span is lost (or was never sent): what it carried is sent again.
    pub fn on_lost(&mut self, span: Span) {
        if let Some(state) = &mut self.state {
            state.on_lost(span);
        }
    }

    /// A probe is needed: what the packet with this span carried is sent again, and the packet itself may still be acknowledged or lost.
    pub fn resend(&mut self, span: Span) {
        if let Some(state) = &mut self.state {
            state.resend(span);
        }
    }

    /// The peer lets a channel go on to `limit`. An older limit has no effect.
    pub fn on_channel_credit(&mut self, channel: ChannelId, limit: u64) {
        if let Some(state) = &mut self.state {
            state.on_channel_credit(channel, limit);
        }
    }

    /// The peer lets the session go on to `limit`. An older limit has no effect.
    pub fn on_session_credit(&mut self, limit: u64) {
        if limit <= self.credit.limit {
            return;
        }
        self.credit.limit = limit;
        if let Some(state) = &mut self.state {
            state.is_idle = false;
        }
    }

    /// A new round trip estimate: lets the queue grow when it was full and is acknowledged fast.
    pub fn on_round_trip(&mut self, smoothed: Duration, now: Instant) {
        if self.window.adjust(now, smoothed, self.was_full) {
            self.was_full = false;
        }
    }

    /// The next message that ended.
    #[inline]
    pub fn poll_released(&mut self) -> Option<Released> {
        self.state.as_mut()?.shared.released.pop_front()
    }

    /// Bytes of blocks and entries in here: queued, or sent and not acknowledged.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |state| state.shared.reliable_len + state.shared.unreliable_len)
    }

    /// Bytes that may be queued now, in blocks and entries; `push` takes one message beyond.
    #[must_use]
    pub fn queue_bytes_max(&self) -> usize {
        self.window.len() as usize
    }

    /// Whether a reliable message would be refused for now.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.shared.reliable_len as u64 >= self.window.len())
    }

    /// Whether nothing is left: every reliable message acknowledged, every unreliable one sent, every skip known to the peer.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.state.as_ref().is_none_or(|state| state.is_drained())
    }

    /// Whether something waits for credit.
    #[must_use]
    pub fn is_credit_blocked(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_credit_blocked())
    }

    /// Entries of packets whose fate is unknown.
    #[must_use]
    pub fn log_count(&self) -> usize {
        self.state.as_ref().map_or(0, |state| state.shared.log.len())
    }

    /// Counts since the session's beginning.
    #[must_use]
    pub fn counts(&self) -> SenderCounts {
        self.state.as_ref().map_or_else(SenderCounts::default, |state| state.shared.counts)
    }

    /// Frees buffers that are empty. For idle sessions.
    pub fn shrink(&mut self) {
        let Some(state) = &mut self.state else { return };
        if state.is_unused() {
            self.state = None;
            return;
        }
        state.shrink();
    }

    /// Each block that waits here.
    pub fn each_block(&mut self, act: &mut impl FnMut(&mut Block)) {
        if let Some(state) = &mut self.state {
            state.each_block(act);
        }
    }

    /// The session is over: what was not acknowledged, each channel's messages in order, reliable before unreliable. Poll what was released before.
    #[must_use]
    pub fn into_undelivered(self) -> Vec<Undelivered> {
        self.state.map_or_else(Vec::new, |state| state.into_undelivered())
    }
}
