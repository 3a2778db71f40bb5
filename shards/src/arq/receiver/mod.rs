//! Selective repeat, receiving side: puts messages together from segments, in whatever order they come, and grants credit.
//!
//! In:    segments, skips, resets (`on_*`), what the application took (`on_consumed`), round trips, time.
//! Out:   messages in delivery order (`poll_message`), credit frames (`write_credit`), `deadline`.
//! Holds: every reliable message is delivered once, on an ordered channel by number; memory stays within twice what the peer was
//!        credited (`credit.rs` has the rule, the sender's is the same); what was acknowledged of a reliable message is kept until
//!        it is delivered, skipped or the session ends.
//!
//! An unreliable message on an ordered channel says how many reliable ones went before it. It is delivered between exactly those, held
//! (at most 64 of a session, at most 30 s) while one of them is missing, and dropped when a later message was delivered already.
//! Packets that come twice are the replay window's business: an unreliable message that fits one segment is not looked up here.
//! spec: atp/reliability

mod channel;
pub(crate) mod credit;
pub(crate) mod islands;
mod open;
mod reliable;
mod session;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod unreliable;

use std::collections::VecDeque;
use std::time::Duration;

use dunlin_codec::bytes::Writer;
use dunlin_codec::frame::Segment;
use dunlin_codec::ids::{ChannelId, MessageId};

use crate::blocks::{Block, BlockPool};
use crate::limits::{BUFFER_LEN_MAX, MESSAGE_LEN_MAX};
use crate::time::Instant;

use channel::{Channel, Order};
pub use credit::{CHANNEL_CREDIT_INITIAL, CHANNELS_MAX, MESSAGE_CHARGE_MIN, SESSION_CREDIT_INITIAL, charge};
use open::OpenTable;
use session::Session;
use table::ChannelTable;

/// Bounds of one receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReceiverLimits {
    /// The largest message accepted, in bytes, reliable or not. Below 2 GiB, and no more than the pool gives.
    pub message_len_max: usize,
    /// The window's largest size, in bytes of credit.
    pub window_len_max: usize,
    /// Channels that the peer may open.
    pub channels_max: usize,
}

impl Default for ReceiverLimits {
    fn default() -> Self {
        Self { message_len_max: MESSAGE_LEN_MAX, window_len_max: BUFFER_LEN_MAX, channels_max: CHANNELS_MAX }
    }
}

/// What became of a segment that was accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accepted {
    /// It is kept; its message, or one that waits before it, is incomplete.
    Kept,
    /// At least one message may be polled.
    Delivered,
    /// It was here already.
    Duplicate,
    /// It belongs to an unreliable message that came too late or found no room, or to a closed channel.
    Dropped,
}

/// Why a frame was not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The peer broke the protocol: the session closes. What was accepted before stays.
    #[error("protocol violation: {0}")]
    Violation(Violation),
    /// No memory for it now, which may be nobody's fault. The packet must not be acknowledged: the peer sends it again. Nothing was
    /// changed by this frame; frames before it in the packet have taken effect, and coming again do no harm.
    #[error("no memory for the segment")]
    NoMemory,
}

/// What a peer did that no honest one does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Violation {
    /// A message's segments disagree about its length.
    #[error("segments of one message disagree about its length")]
    ConflictingTotal,
    /// A message is longer than allowed.
    #[error("a message is longer than allowed")]
    TooLong,
    /// A segment reaches beyond its message's end.
    #[error("a segment reaches beyond its message's end")]
    BeyondEnd,
    /// More was sent than credited.
    #[error("more was sent than credited")]
    BeyondCredit,
    /// More channels were opened than allowed.
    #[error("more channels were opened than allowed")]
    TooManyChannels,
    /// A channel was ordered in one segment and unordered in another.
    #[error("a channel was both ordered and unordered")]
    OrderMismatch,
}

/// A message that arrived.
#[derive(Debug)]
pub struct Incoming {
    /// Where.
    pub channel: ChannelId,
    /// Its number on the channel, reliable and unreliable ones apart.
    pub message: MessageId,
    /// Its bytes.
    pub block: Block,
    /// Give the sum of these back (`on_consumed`) when the application took the messages; 0 for unreliable ones.
    pub charge: u32,
    /// Whether it was sent reliably.
    pub is_reliable: bool,
}

/// Which writing of credit a packet carried; remember it with the packet, for `on_credit_lost`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CreditSpan(u32);

impl CreditSpan {
    /// Whether the packet carried none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Everything that exists only once the peer has sent something.
#[derive(Debug)]
struct State {
    table: ChannelTable,
    channels: Vec<Channel>,
    open: OpenTable,
    ready: VecDeque<Incoming>,
    /// Channels whose credit is to be told.
    due: Vec<u16>,
    /// Bytes of blocks in here.
    held_len: usize,
    /// Those of unreliable messages among them.
    unreliable_len: usize,
    /// Unreliable messages that wait for reliable ones.
    waiting: usize,
    unreliable_dropped: u64,
    /// The earliest end of an incomplete or waiting unreliable message.
    deadline: Option<Instant>,
}

/// The receiving side of a session.
#[derive(Debug)]
pub struct Receiver {
    session: Session,
    state: Option<Box<State>>,
}

/// A segment and where it belongs.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    now: Instant,
    slot: usize,
    id: u64,
    offset: u32,
    /// Length of the message.
    total: usize,
    bytes: &'a [u8],
}

impl Arrival<'_> {
    fn is_whole(&self) -> bool {
        self.bytes.len() == self.total
    }
}

impl Receiver {
    /// A receiver that has seen nothing. Allocates nothing.
    #[must_use]
    pub fn new(limits: ReceiverLimits) -> Self {
        Self { session: Session::new(limits), state: None }
    }

    /// A segment came in a packet that was not seen before.
    ///
    /// # Errors
    /// [`Refusal`]: see there who is to blame and what to do with the packet.
    #[inline]
    pub fn on_segment(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        pool: &mut BlockPool,
    ) -> Result<Accepted, Refusal> {
        let total = segment.part.map_or(segment.bytes.len(), |part| part.total as usize);
        let offset = segment.part.map_or(0, |part| part.offset);
        if total > self.session.limits.message_len_max {
            return Err(Refusal::Violation(Violation::TooLong));
        }
        if offset as usize + segment.bytes.len() > total {
            return Err(Refusal::Violation(Violation::BeyondEnd));
        }
        let slot = self.channel_of(segment)?;
        let state = self.state.as_mut().expect("the channel was found in it");
        let arrival = Arrival { now, slot, id: segment.message.0, offset, total, bytes: segment.bytes };
        match segment.unreliable {
            None => state.on_reliable(&mut self.session, &arrival, pool),
            Some(after) => state.on_unreliable(&self.session, &arrival, after, pool),
        }
    }

    /// The peer cancelled a message that had its number already: nobody waits for it any more.
    ///
    /// # Errors
    /// [`Refusal::Violation`].
    pub fn on_skip(
        &mut self,
        channel: ChannelId,
        message: MessageId,
        pool: &mut BlockPool,
    ) -> Result<(), Refusal> {
        let slot = self.open_channel(channel)?;
        let state = self.state.as_mut().expect("the channel was found in it");
        state.on_skip(&mut self.session, slot, message.0, pool)
    }

    /// The peer gave the channel up. What is complete and in order may still be polled; the rest is dropped, and so is what still comes.
    ///
    /// # Errors
    /// [`Refusal::Violation`].
    pub fn on_channel_reset(&mut self, channel: ChannelId, pool: &mut BlockPool) -> Result<(), Refusal> {
        let slot = self.open_channel(channel)?;
        let state = self.state.as_mut().expect("the channel was found in it");
        state.close(&mut self.session, slot, pool);
        Ok(())
    }

    /// The next message in delivery order.
    #[inline]
    pub fn poll_message(&mut self) -> Option<Incoming> {
        let state = self.state.as_mut()?;
        let message = state.ready.pop_front()?;
        state.held_len -= message.block.capacity();
        if !message.is_reliable {
            state.unreliable_len -= message.block.capacity();
        }
        Some(message)
    }

    /// The application took messages of this channel; `charge` is the sum of theirs.
    #[inline]
    pub fn on_consumed(&mut self, channel: ChannelId, charge: u64) {
        let Some(state) = &mut self.state else { return };
        let Some(slot) = state.table.find(channel) else { return };
        state.give_back(&mut self.session, slot, charge);
        state.check_credit(&mut self.session, slot);
    }

    /// The peer says that it stands at `limit` and has more to send.
    ///
    /// # Errors
    /// [`Refusal::Violation`].
    pub fn on_credit_blocked(&mut self, channel: Option<ChannelId>, limit: u64) -> Result<(), Refusal> {
        let Some(channel) = channel else {
            let may_be_told = self.session.limit();
            self.session.is_due |= limit < may_be_told;
            return Ok(());
        };
        let slot = self.open_channel(channel)?;
        let state = self.state.as_mut().expect("the channel was found in it");
        if limit < self.session.channel_limit(&state.channels[slot]) {
            state.make_due(slot);
        }
        Ok(())
    }

    /// Whether a credit frame should be written soon.
    #[inline]
    #[must_use]
    pub fn is_credit_due(&self) -> bool {
        self.session.is_due || self.state.as_ref().is_some_and(|state| !state.due.is_empty())
    }

    /// Writes the credit that is due, as much as fits.
    pub fn write_credit(&mut self, out: &mut Writer<'_>) -> CreditSpan {
        if !self.is_credit_due() {
            return CreditSpan::default();
        }
        let writing = self.session.next_writing();
        let was = out.len();
        if self.session.write_credit(out, writing)
            && let Some(state) = &mut self.state
        {
            state.write_credit(&self.session, out, writing);
        }
        if out.len() == was { CreditSpan::default() } else { CreditSpan(writing) }
    }

    /// A packet with credit was lost: what it told last is told again, with the newest limits.
    pub fn on_credit_lost(&mut self, span: CreditSpan) {
        if span.is_empty() {
            return;
        }
        self.session.is_due |= self.session.told_in == span.0;
        let Some(state) = &mut self.state else { return };
        for slot in 0..state.channels.len() {
            if state.channels[slot].told_in == span.0 {
                state.make_due(slot);
            }
        }
    }

    /// The path's smoothed round trip, for the window's growth.
    pub fn on_round_trip(&mut self, smoothed: Duration) {
        self.session.round_trip = smoothed;
    }

    /// Whether the shard is short of memory: while it is, no credit is granted. What was started can be completed all the same.
    pub fn set_short_of_memory(&mut self, is_short: bool) {
        let was_short = core::mem::replace(&mut self.session.is_short, is_short);
        if !was_short || is_short {
            return;
        }
        let Some(state) = &mut self.state else { return };
        for slot in 0..state.channels.len() {
            state.check_credit(&mut self.session, slot);
        }
    }

    /// Drops unreliable messages that have been incomplete, or waiting for reliable ones, for 30 s.
    pub fn on_tick(&mut self, now: Instant, pool: &mut BlockPool) {
        if let Some(state) = &mut self.state {
            state.expire(now, pool);
        }
    }

    /// When `on_tick` has something to do at the earliest.
    #[inline]
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.state.as_ref()?.deadline
    }

    /// Bytes of the blocks in here: incomplete, waiting for others, or not yet polled.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |state| state.held_len)
    }

    /// Credit that the peer has used and nobody gave back, in bytes: what is in here and what the application holds.
    #[must_use]
    pub fn charged_bytes(&self) -> u64 {
        self.session.credit.used - self.session.credit.returned
    }

    /// The window as the path has earned it, in bytes of credit.
    #[must_use]
    pub fn window_bytes(&self) -> u64 {
        self.session.window.len()
    }

    /// Messages that are partly here.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.state.as_ref().map_or(0, |state| state.open.len())
    }

    /// Unreliable messages dropped: too late, incomplete for too long, or no room.
    #[must_use]
    pub fn unreliable_dropped(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.unreliable_dropped)
    }

    /// Frees buffers that are empty. For idle sessions.
    pub fn shrink(&mut self) {
        let Some(state) = &mut self.state else { return };
        if state.channels.is_empty() {
            self.state = None;
            return;
        }
        state.shrink();
    }

    /// The session ends: every block goes home to the pool.
    pub fn drain(&mut self, pool: &mut BlockPool) {
        if let Some(mut state) = self.state.take() {
            state.drain(pool);
        }
    }

    /// The channel of a segment, opened when it is new, with the order that the segment says.
    #[inline]
    fn channel_of(&mut self, segment: &Segment<'_>) -> Result<usize, Refusal> {
        let slot = match self.state.as_mut().and_then(|state| state.table.find(segment.channel)) {
            Some(slot) => slot,
            None => self.open_channel(segment.channel)?,
        };
        let state = self.state.as_mut().expect("the channel was found in it");
        let channel = &mut state.channels[slot];
        let order = if segment.unordered { Order::Unordered } else { Order::Ordered };
        if channel.order != order {
            if channel.order != Order::Unknown {
                return Err(Refusal::Violation(Violation::OrderMismatch));
            }
            channel.order = order;
        }
        Ok(slot)
    }

    /// The channel's place, opened when it is new.
    fn open_channel(&mut self, channel: ChannelId) -> Result<usize, Refusal> {
        let state = self.state.get_or_insert_with(|| Box::new(State::new()));
        if let Some(slot) = state.table.find(channel) {
            return Ok(slot);
        }
        if state.channels.len() >= self.session.limits.channels_max {
            return Err(Refusal::Violation(Violation::TooManyChannels));
        }
        state.channels.push(Channel::new(channel));
        let slot = state.table.insert(channel);
        state.check_credit(&mut self.session, slot);
        Ok(slot)
    }
}

impl State {
    fn new() -> Self {
        Self {
            table: ChannelTable::new(),
            channels: Vec::new(),
            open: OpenTable::default(),
            ready: VecDeque::new(),
            due: Vec::new(),
            held_len: 0,
            unreliable_len: 0,
            waiting: 0,
            unreliable_dropped: 0,
            deadline: None,
        }
    }

    fn shrink(&mut self) {
        self.open.shrink();
        self.ready.shrink_to_fit();
        self.due.shrink_to_fit();
        self.table.shrink();
        self.channels.shrink_to_fit();
        for channel in &mut self.channels {
            channel.ahead.shrink_to_fit();
            channel.held.shrink_to_fit();
        }
    }
}

#[cfg(test)]
impl Receiver {
    /// What the peer was charged in all.
    pub(crate) fn credit_used(&self) -> u64 {
        self.session.credit.used
    }
}
