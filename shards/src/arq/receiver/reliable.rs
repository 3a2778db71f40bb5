//! Reliable messages: from segments to their places in the channel, and out in order.
//!
//! In:    segments, skips, the end of a channel.
//! Out:   messages pushed to `ready`; credit that became due.
//! Holds: a message that is charged has a place; a message leaves its place once.

use dunlin_codec::bytes::Writer;
use dunlin_codec::frame::Frame;
use dunlin_codec::ids::MessageId;

use super::channel::{Order, Place};
use super::credit::{MESSAGE_CHARGE_MIN, charge};
use super::open::Owner;
use super::session::Session;
use super::{Accepted, Arrival, Incoming, Refusal, State, Violation};
use crate::blocks::{Block, BlockPool};
use crate::mutants::{Mutant, planted};

impl State {
    /// A segment of a reliable message.
    #[inline]
    pub(super) fn on_reliable(
        &mut self,
        session: &mut Session,
        arrival: &Arrival<'_>,
        pool: &mut BlockPool,
    ) -> Result<Accepted, Refusal> {
        let channel = &self.channels[arrival.slot];
        let is_near = planted(Mutant::ReceiveWindowOffByOne) && arrival.id + 1 == channel.next;
        let index = arrival.id.checked_sub(channel.next).or(is_near.then_some(0));
        let Some(index) = index else { return Ok(Accepted::Duplicate) };
        match channel.place(index) {
            None | Some(Place::Missing) => self.on_first(session, arrival, index, pool),
            Some(&Place::Open(open)) => self.on_more(session, arrival, index, open),
            Some(Place::Done) if planted(Mutant::DuplicateDelivered) => {
                self.on_first(session, arrival, index, pool)
            }
            Some(Place::Complete(_) | Place::Done) => Ok(Accepted::Duplicate),
        }
    }

    /// The first segment that is seen of a message, which need not be its first.
    #[inline]
    fn on_first(
        &mut self,
        session: &mut Session,
        arrival: &Arrival<'_>,
        index: u64,
        pool: &mut BlockPool,
    ) -> Result<Accepted, Refusal> {
        let channel = &mut self.channels[arrival.slot];
        let price = charge(arrival.total);
        let due = channel.places_charge(index).saturating_add(price - MESSAGE_CHARGE_MIN);
        if !channel.credit.affords(due) || !session.credit.affords(due) {
            return Err(Refusal::Violation(Violation::BeyondCredit));
        }
        let is_closed = channel.is_closed;
        if is_closed {
            self.charge(session, arrival.slot, due);
            self.forgo(session, arrival.slot, index, price);
            return Ok(Accepted::Dropped);
        }
        if !arrival.is_whole() && self.open.is_full() {
            self.evict_oldest(pool).ok_or(Refusal::NoMemory)?;
        }
        let mut block = pool.take(arrival.total).ok_or(Refusal::NoMemory)?;
        self.held_len += block.capacity();
        self.charge(session, arrival.slot, due);
        if arrival.is_whole() {
            block.copy_from_slice(arrival.bytes);
            session.on_progress(arrival.now, price);
            return Ok(self.complete(session, arrival.slot, index, block));
        }
        let owner = Owner { slot: arrival.slot, id: arrival.id, unreliable: None, since: arrival.now };
        let open = self.open.add(owner, block);
        self.channels[arrival.slot].set_place(index, Place::Open(open));
        session.pending_charge += price;
        self.on_more(session, arrival, index, open)
    }

    /// A segment of a message that is partly here.
    #[inline]
    fn on_more(
        &mut self,
        session: &mut Session,
        arrival: &Arrival<'_>,
        index: u64,
        open: u8,
    ) -> Result<Accepted, Refusal> {
        if self.open.get(open).block.len() != arrival.total {
            return Err(Refusal::Violation(Violation::ConflictingTotal));
        }
        let growth = self.open.write(open, arrival.offset, arrival.bytes).ok_or(Refusal::NoMemory)?;
        if growth == 0 {
            return Ok(Accepted::Kept);
        }
        let growth = u64::from(growth);
        self.channels[arrival.slot].credit.early += growth;
        session.credit.early += growth;
        session.on_progress(arrival.now, growth);
        if self.open.get(open).prefix as usize == arrival.total {
            let block = self.take_open(session, arrival.slot, open);
            return Ok(self.complete(session, arrival.slot, index, block));
        }
        self.check_credit(session, arrival.slot);
        Ok(Accepted::Kept)
    }

    /// A message is whole: it is delivered, or waits for those before it.
    #[inline]
    fn complete(&mut self, session: &mut Session, slot: usize, index: u64, block: Block) -> Accepted {
        let channel = &mut self.channels[slot];
        if index == 0 && channel.ahead.len() <= 1 && channel.held.is_empty() {
            channel.ahead.clear();
            let id = channel.next;
            channel.next += 1;
            self.deliver(slot, id, block);
            return Accepted::Delivered;
        }
        if channel.order == Order::Unordered || planted(Mutant::OrderIgnored) {
            let id = channel.next + index;
            channel.set_place(index, Place::Done);
            channel.credit.withheld += MESSAGE_CHARGE_MIN;
            session.credit.withheld += MESSAGE_CHARGE_MIN;
            self.deliver(slot, id, block);
            self.settle(session, slot);
            return Accepted::Delivered;
        }
        session.pending_charge += charge(block.len());
        channel.set_place(index, Place::Complete(block));
        if index != 0 {
            return Accepted::Kept;
        }
        self.settle(session, slot);
        Accepted::Delivered
    }

    /// Delivers whatever has become next in order, and forgets the places that are done.
    pub(super) fn settle(&mut self, session: &mut Session, slot: usize) {
        loop {
            self.deliver_held(slot);
            let channel = &mut self.channels[slot];
            match channel.ahead.front() {
                Some(Place::Done) => {
                    channel.ahead.pop_front();
                    channel.next += 1;
                    channel.credit.withheld -= MESSAGE_CHARGE_MIN;
                    session.credit.withheld -= MESSAGE_CHARGE_MIN;
                }
                Some(Place::Complete(_)) => {
                    let Some(Place::Complete(block)) = channel.ahead.pop_front() else { return };
                    session.pending_charge -= charge(block.len());
                    let id = channel.next;
                    channel.next += 1;
                    self.deliver(slot, id, block);
                }
                _ => return,
            }
        }
    }

    #[inline]
    fn deliver(&mut self, slot: usize, id: u64, block: Block) {
        let price = u32::try_from(charge(block.len())).expect("a message is far below 4 GiB");
        let channel = self.channels[slot].id;
        self.ready.push_back(Incoming {
            channel,
            message: MessageId(id),
            block,
            charge: price,
            is_reliable: true,
        });
    }

    /// The peer cancelled a message.
    pub(super) fn on_skip(
        &mut self,
        session: &mut Session,
        slot: usize,
        id: u64,
        pool: &mut BlockPool,
    ) -> Result<(), Refusal> {
        let channel = &self.channels[slot];
        let Some(index) = id.checked_sub(channel.next) else { return Ok(()) };
        match channel.place(index) {
            None | Some(Place::Missing) => {
                let due = channel.places_charge(index);
                if !channel.credit.affords(due) || !session.credit.affords(due) {
                    return Err(Refusal::Violation(Violation::BeyondCredit));
                }
                self.charge(session, slot, due);
                self.forgo(session, slot, index, MESSAGE_CHARGE_MIN);
            }
            Some(_) => self.drop_place(session, slot, index, pool),
        }
        self.settle(session, slot);
        self.check_credit(session, slot);
        Ok(())
    }

    /// Gives up what is kept of message `next + index`, if anything is.
    fn drop_place(&mut self, session: &mut Session, slot: usize, index: u64, pool: &mut BlockPool) {
        let block = match self.channels[slot].set_place(index, Place::Done) {
            Place::Open(open) => self.take_open(session, slot, open),
            Place::Complete(block) => {
                session.pending_charge -= charge(block.len());
                block
            }
            Place::Done => return,
            Place::Missing => {
                self.channels[slot].set_place(index, Place::Missing);
                return;
            }
        };
        let price = charge(block.len());
        self.held_len -= block.capacity();
        pool.give(block);
        self.forgo(session, slot, index, price);
    }

    /// A message that was charged will not be delivered: its price goes back.
    fn forgo(&mut self, session: &mut Session, slot: usize, index: u64, price: u64) {
        self.channels[slot].set_place(index, Place::Done);
        self.channels[slot].credit.withheld += MESSAGE_CHARGE_MIN;
        session.credit.withheld += MESSAGE_CHARGE_MIN;
        self.give_back(session, slot, price);
        if index == 0 {
            self.settle(session, slot);
        }
    }

    /// The peer gave the channel up.
    pub(super) fn close(&mut self, session: &mut Session, slot: usize, pool: &mut BlockPool) {
        self.channels[slot].is_closed = true;
        self.drop_unreliable(slot, pool);
        for index in (0..self.channels[slot].ahead.len() as u64).rev() {
            self.drop_place(session, slot, index, pool);
        }
        self.check_credit(session, slot);
    }

    fn take_open(&mut self, session: &mut Session, slot: usize, open: u8) -> Block {
        let prefix = u64::from(self.open.get(open).prefix);
        self.channels[slot].credit.early -= prefix;
        session.credit.early -= prefix;
        let block = self.open.remove(open);
        session.pending_charge -= charge(block.len());
        block
    }

    #[inline]
    fn charge(&mut self, session: &mut Session, slot: usize, due: u64) {
        self.channels[slot].credit.used += due;
        session.credit.used += due;
    }

    #[inline]
    pub(super) fn give_back(&mut self, session: &mut Session, slot: usize, price: u64) {
        self.channels[slot].credit.give_back(price);
        session.credit.give_back(price);
    }

    /// Makes limits due that have grown enough.
    #[inline]
    pub(super) fn check_credit(&mut self, session: &mut Session, slot: usize) {
        session.check();
        let channel = &self.channels[slot];
        if !channel.is_due && session.is_worth_telling(channel) {
            self.make_due(slot);
        }
    }

    pub(super) fn make_due(&mut self, slot: usize) {
        let channel = &mut self.channels[slot];
        if planted(Mutant::CreditNeverTold) {
            return;
        }
        if !core::mem::replace(&mut channel.is_due, true) {
            self.due.push(u16::try_from(slot).expect("channels are capped far below"));
        }
    }

    /// Writes the channels' credit that is due, as much as fits.
    pub(super) fn write_credit(&mut self, session: &Session, out: &mut Writer<'_>, writing: u32) {
        while let Some(&slot) = self.due.last() {
            let channel = &mut self.channels[usize::from(slot)];
            let limit = session.channel_limit(channel);
            if (Frame::ChannelCredit { channel: channel.id, limit }).write(out).is_err() {
                return;
            }
            channel.credit.told = limit;
            channel.told_in = writing;
            channel.is_due = false;
            self.due.pop();
        }
    }

    /// Every block goes home.
    pub(super) fn drain(&mut self, pool: &mut BlockPool) {
        for message in self.ready.drain(..) {
            pool.give(message.block);
        }
        for slot in 0..self.channels.len() {
            self.drop_unreliable(slot, pool);
            for place in core::mem::take(&mut self.channels[slot].ahead) {
                match place {
                    Place::Complete(block) => pool.give(block),
                    Place::Open(open) => pool.give(self.open.remove(open)),
                    Place::Missing | Place::Done => {}
                }
            }
        }
    }
}
