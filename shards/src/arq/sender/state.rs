//! All channels of a sender together: admission, turns, fates.
//!
//! In:    messages, credit, fates of packets.
//! Out:   a packet's frames, channel by channel.
//! Holds: a channel that may have something to write stands in its priority's ring, or is blocked by its own credit.

use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::ChannelId;

use super::channel::{Channel, Shared};
use super::log::{Entry, Kind, Log, Span};
use super::schedule::Schedule;
use super::write::Turn;
use super::{Outcome, Outgoing, PushError, SenderLimits, SessionCredit, Tail, Undelivered};
use crate::arq::receiver::table::ChannelTable;
use crate::blocks::Block;

/// Everything that exists only once something was pushed.
#[derive(Debug)]
pub(super) struct State {
    table: ChannelTable,
    channels: Vec<Channel>,
    schedule: Schedule,
    pub(super) shared: Shared,
    /// The last `write_frames` found nothing more to write, and nothing has changed since.
    pub(super) is_idle: bool,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            table: ChannelTable::new(),
            channels: Vec::new(),
            schedule: Schedule::default(),
            shared: Shared::default(),
            is_idle: true,
        }
    }

    /// The channel that takes the message, opened when it is new. Old unreliable messages make room for a new one.
    #[inline]
    pub(super) fn admit(&mut self, message: &Outgoing, limits: &SenderLimits) -> Result<usize, PushError> {
        let slot = match self.table.find(message.channel) {
            Some(slot) => slot,
            None => self.open(message, limits)?,
        };
        let channel = &mut self.channels[slot];
        if channel.is_closed {
            return Err(PushError::ChannelClosed);
        }
        if channel.is_unordered == message.ordered {
            return Err(PushError::OrderMismatch);
        }
        while !message.reliable && self.shared.unreliable_len >= limits.unreliable_len_max {
            let oldest = channel.take_datagram(0, &mut self.shared).ok_or(PushError::QueueFull)?;
            self.shared.counts.unreliable_dropped += 1;
            self.shared.release(oldest.ticket, message.channel, oldest.block, Outcome::Abandoned);
        }
        Ok(slot)
    }

    fn open(&mut self, message: &Outgoing, limits: &SenderLimits) -> Result<usize, PushError> {
        if self.channels.len() >= limits.channels_max {
            return Err(PushError::TooManyChannels);
        }
        let slot = self.table.insert(message.channel);
        let number = u16::try_from(slot).expect("channels are capped far below");
        self.channels.push(Channel::new(message.channel, number, !message.ordered, message.priority));
        Ok(slot)
    }

    /// Queues an admitted message.
    #[inline]
    pub(super) fn queue(&mut self, slot: usize, message: Outgoing) {
        let channel = &mut self.channels[slot];
        if channel.priority != message.priority {
            let before = core::mem::replace(&mut channel.priority, message.priority);
            self.schedule.change(channel.slot, before, message.priority);
            self.shared.waiting = None;
            self.is_idle = false;
        }
        let is_reliable = message.reliable;
        channel.push(message, &mut self.shared);
        if !(is_reliable && channel.is_blocked) {
            self.make_fresh(slot);
        }
    }

    fn make_fresh(&mut self, slot: usize) {
        let channel = &mut self.channels[slot];
        if !channel.is_fresh {
            channel.is_fresh = true;
            self.schedule.level(channel.priority).fresh.push_back(channel.slot);
        }
        self.is_idle = false;
    }

    fn make_again(&mut self, slot: usize) {
        let channel = &mut self.channels[slot];
        if !channel.is_again && !channel.lost.is_empty() {
            channel.is_again = true;
            self.schedule.level(channel.priority).again.push_back(channel.slot);
        }
        self.is_idle = false;
    }

    pub(super) fn cancel(&mut self, channel: ChannelId, ticket: u64) -> Option<Block> {
        let slot = self.table.find(channel)?;
        let block = self.channels[slot].cancel(ticket, &mut self.shared)?;
        self.shared.waiting = None;
        self.channels[slot].is_blocked = false;
        self.make_again(slot);
        self.make_fresh(slot);
        Some(block)
    }

    pub(super) fn close(&mut self, channel: ChannelId, code: Option<u64>) {
        let Some(slot) = self.table.find(channel) else { return };
        if self.channels[slot].is_closed {
            return;
        }
        self.channels[slot].close(code, &mut self.shared);
        self.shared.waiting = None;
        self.channels[slot].is_blocked = false;
        self.make_again(slot);
    }

    pub(super) fn on_channel_credit(&mut self, channel: ChannelId, limit: u64) {
        let Some(slot) = self.table.find(channel) else { return };
        let channel = &mut self.channels[slot];
        if limit > channel.limit {
            channel.limit = limit;
            if core::mem::take(&mut channel.is_blocked) {
                self.make_fresh(slot);
            }
        }
    }

    /// Fills a packet.
    #[inline]
    pub(super) fn write_frames(&mut self, session: &mut SessionCredit, out: &mut Writer<'_>) -> Span {
        self.shared.log.begin();
        self.shared.is_crowded = false;
        let is_full =
            (0..self.schedule.levels.len()).any(|level| self.write_level(level, session, out) == Fill::Full);
        // Who waits until others have ended their messages is served when they have, and they can always go on.
        self.is_idle = !is_full && !self.shared.is_crowded;
        self.shared.log.span()
    }

    #[inline]
    pub(super) fn bytes_of(&self, tail: Tail) -> &[u8] {
        let channel = &self.channels[usize::from(tail.slot)];
        let message = &channel.messages[(tail.id - channel.base) as usize];
        &message.block[tail.offset as usize..][..tail.len as usize]
    }

    #[inline]
    fn write_level(&mut self, level: usize, session: &mut SessionCredit, out: &mut Writer<'_>) -> Fill {
        let level = &mut self.schedule.levels[level];
        while let Some(&slot) = level.again.front() {
            let channel = &mut self.channels[usize::from(slot)];
            if channel.write_lost(&mut self.shared, out) == Turn::Full {
                return Fill::Full;
            }
            channel.is_again = false;
            level.again.pop_front();
        }
        for _ in 0..level.fresh.len() {
            let slot = level.fresh[0];
            let channel = &mut self.channels[usize::from(slot)];
            let before = out.len();
            match channel.write_new(session, &mut self.shared, out) {
                Turn::Full => {
                    if out.len() > before {
                        level.fresh.rotate_left(1);
                    }
                    return Fill::Full;
                }
                Turn::Waits => level.fresh.rotate_left(1),
                Turn::Empty | Turn::Blocked => {
                    channel.is_fresh = false;
                    level.fresh.pop_front();
                }
            }
        }
        Fill::Room
    }

    /// The packet arrived. Bytes that it freed.
    #[inline]
    pub(super) fn on_acked(&mut self, span: Span) -> usize {
        let before = self.shared.reliable_len;
        for number in Log::numbers(span) {
            let Some(entry) = self.shared.log.take(number) else { continue };
            let channel = &mut self.channels[usize::from(entry.slot)];
            match entry.kind {
                Kind::Whole => {
                    channel.on_whole_acked(entry.id, entry.offset_or_count, &mut self.shared);
                }
                Kind::Part => channel.on_part_acked(&entry, &mut self.shared),
                Kind::Skip => channel.on_skip_acked(entry.id, &mut self.shared),
                Kind::Dead | Kind::Reset | Kind::Blocked => {}
            }
        }
        self.shared.log.trim();
        before - self.shared.reliable_len
    }

    pub(super) fn on_lost(&mut self, span: Span) {
        for number in Log::numbers(span) {
            if let Some(entry) = self.shared.log.take(number) {
                self.send_again(entry);
            }
        }
        self.shared.log.trim();
    }

    pub(super) fn resend(&mut self, span: Span) {
        for number in Log::numbers(span) {
            if let Some(entry) = self.shared.log.get(number) {
                self.send_again(entry);
            }
        }
    }

    fn send_again(&mut self, entry: Entry) {
        if entry.kind != Kind::Blocked {
            let slot = usize::from(entry.slot);
            self.channels[slot].push_lost(entry);
            self.make_again(slot);
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.channels.iter().all(Channel::is_drained)
    }

    pub(super) fn is_credit_blocked(&self) -> bool {
        self.shared.waiting.is_some() || self.channels.iter().any(|channel| channel.is_blocked)
    }

    pub(super) fn is_unused(&self) -> bool {
        self.channels.is_empty() && self.shared.released.is_empty()
    }

    pub(super) fn shrink(&mut self) {
        self.shared.shrink();
        self.schedule.shrink();
        self.table.shrink();
        self.channels.shrink_to_fit();
        self.channels.iter_mut().for_each(Channel::shrink);
    }

    pub(super) fn each_block(&mut self, act: &mut impl FnMut(&mut Block)) {
        for channel in &mut self.channels {
            channel.messages.iter_mut().for_each(|message| act(&mut message.block));
            channel.unreliable.iter_mut().for_each(|datagram| act(&mut datagram.block));
        }
        self.shared.released.iter_mut().for_each(|released| act(&mut released.block));
    }

    pub(super) fn into_undelivered(self) -> Vec<Undelivered> {
        let mut undelivered = Vec::new();
        for channel in self.channels {
            channel.into_undelivered(&mut undelivered);
        }
        undelivered
    }
}

/// Whether a packet can take more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fill {
    Room,
    Full,
}
