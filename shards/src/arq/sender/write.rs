//! From one channel's queues to frames.
//!
//! In:    room in a packet, credit.
//! Out:   SEGMENT, SKIP, CHANNEL_RESET and CREDIT_BLOCKED frames, and their entries in the log.
//! Holds: whatever is written and must arrive has an entry in the log; a message is charged when its first segment is written, once.

use core::ops::Range;

use dunlin_codec::bytes::Writer;
use dunlin_codec::frame::{Frame, Part, Segment};
use dunlin_codec::ids::MessageId;

use super::channel::{Channel, Shared};
use super::log::{Entry, Kind};
use super::{Outcome, PRIORITY_DEFAULT, SessionCredit, Tail};
use crate::arq::receiver::credit::{URGENT_RESERVE, charge};
use crate::limits::OPEN_MESSAGES_MAX;
use crate::mutants::{Mutant, planted};

/// Less room than this is left empty rather than filled with a piece of a message, in bytes.
const SPLIT_ROOM_MIN: usize = 128;
/// A shorter piece is copied: sealing in two pieces costs more than that.
const TAIL_LEN_MIN: usize = 256;
/// Channels that may have a partly written message at a time: the receiver keeps a bounded number open.
const PARTIAL_MAX: usize = OPEN_MESSAGES_MAX / 2;

/// How a channel's turn ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// The packet is full.
    Full,
    /// There is nothing more to write.
    Empty,
    /// The channel's own credit is used up.
    Blocked,
    /// It has something to write and must wait for something that all channels share.
    Waits,
}

impl SessionCredit {
    #[inline]
    fn affords(&self, price: u64, priority: u8) -> bool {
        let reserve = if priority < PRIORITY_DEFAULT { 0 } else { URGENT_RESERVE };
        self.used + price + reserve <= self.limit
    }
}

impl Channel {
    /// Writes what is new, as much as fits and may be written.
    #[inline]
    pub(super) fn write_new(
        &mut self,
        session: &mut SessionCredit,
        shared: &mut Shared,
        out: &mut Writer<'_>,
    ) -> Turn {
        loop {
            let next_id = self.next_id();
            let is_due = |after: u64| self.is_unordered || after <= next_id;
            let ended = if self.unreliable.front().is_some_and(|datagram| is_due(datagram.after)) {
                self.write_datagram(shared, out)
            } else if self.is_partial {
                self.write_rest(shared, out)
            } else if self.started < self.messages.len() {
                self.start_next(session, shared, out)
            } else {
                Some(Turn::Empty)
            };
            if let Some(turn) = ended {
                return turn;
            }
        }
    }

    /// Starts the next message. `None`: go on.
    #[inline]
    fn start_next(
        &mut self,
        session: &mut SessionCredit,
        shared: &mut Shared,
        out: &mut Writer<'_>,
    ) -> Option<Turn> {
        let (index, id) = (self.started, self.next_id());
        let len = self.messages[index].block.len();
        let price = charge(len);
        if self.used + if planted(Mutant::CreditOffByOne) { 1 } else { price } > self.limit {
            self.is_blocked = true;
            return Some(self.tell_blocked(shared, out));
        }
        if !self.may_use_session(session, shared, price) {
            return Some(self.wait_for_session(session, shared, out));
        }
        let head = self.head(index, id);
        let sent = if write_whole(out, &head) {
            shared.log.push(Entry::whole(self.slot, id));
            len
        } else if shared.partial >= PARTIAL_MAX {
            shared.is_crowded = true;
            return Some(Turn::Waits);
        } else {
            let written = write_piece(out, &head, 0..len, Some((self.slot, &mut shared.tail)));
            if written == 0 {
                return Some(Turn::Full);
            }
            shared.log.push(Entry::part(self.slot, id, 0, written as u32));
            self.is_partial = true;
            shared.partial += 1;
            written
        };
        self.messages[index].sent = sent as u32;
        self.started += 1;
        let price = if planted(Mutant::CreditNotCharged) { 0 } else { price };
        self.used += price;
        session.used += price;
        if shared.waiting.is_some_and(|(slot, _)| slot == self.slot) {
            shared.waiting = None;
        }
        None
    }

    /// Goes on with the message that is partly written.
    #[inline]
    fn write_rest(&mut self, shared: &mut Shared, out: &mut Writer<'_>) -> Option<Turn> {
        let index = self.started - 1;
        let id = self.base + index as u64;
        let (offset, len) = (self.messages[index].sent as usize, self.messages[index].block.len());
        let written =
            write_piece(out, &self.head(index, id), offset..len, Some((self.slot, &mut shared.tail)));
        if written == 0 {
            return Some(Turn::Full);
        }
        shared.log.push(Entry::part(self.slot, id, offset as u32, written as u32));
        self.messages[index].sent += written as u32;
        if offset + written == len {
            self.is_partial = false;
            shared.partial -= 1;
        }
        None
    }

    /// Goes on with the oldest unreliable message, which is forgotten when it is written.
    fn write_datagram(&mut self, shared: &mut Shared, out: &mut Writer<'_>) -> Option<Turn> {
        let (next_id, number) = (self.next_id(), self.next_unreliable);
        let datagram = self.unreliable.front_mut()?;
        if self.is_unordered && datagram.sent == 0 {
            datagram.after = next_id;
        }
        let (offset, len) = (datagram.sent as usize, datagram.block.len());
        let head = Segment {
            channel: self.id,
            message: MessageId(number),
            unordered: self.is_unordered,
            unreliable: Some(datagram.after),
            part: None,
            bytes: &datagram.block,
        };
        if offset > 0 || !write_whole(out, &head) {
            let written = write_piece(out, &head, offset..len, None);
            datagram.sent += written as u32;
            if written == 0 || offset + written < len {
                return Some(Turn::Full);
            }
        }
        datagram.sent = 0;
        self.next_unreliable += 1;
        let datagram = self.take_datagram(0, shared)?;
        shared.release(datagram.ticket, self.id, datagram.block, Outcome::Sent);
        None
    }

    /// A message's segment without a part: what `write_whole` and `write_piece` cut from.
    #[inline]
    fn head(&self, index: usize, id: u64) -> Segment<'_> {
        Segment {
            channel: self.id,
            message: MessageId(id),
            unordered: self.is_unordered,
            unreliable: None,
            part: None,
            bytes: &self.messages[index].block,
        }
    }

    #[inline]
    fn may_use_session(&self, session: &SessionCredit, shared: &Shared, price: u64) -> bool {
        let must_let_pass =
            shared.waiting.is_some_and(|(slot, priority)| slot != self.slot && priority <= self.priority);
        !must_let_pass && session.affords(price, self.priority)
    }

    /// The session's credit is too short for the head of this channel, or somebody else's turn comes first.
    fn wait_for_session(
        &mut self,
        session: &mut SessionCredit,
        shared: &mut Shared,
        out: &mut Writer<'_>,
    ) -> Turn {
        if shared.waiting.is_none_or(|(_, priority)| priority > self.priority) {
            shared.waiting = Some((self.slot, self.priority));
        }
        if session.blocked_told != session.limit {
            if (Frame::CreditBlocked { channel: None, limit: session.limit }).write(out).is_err() {
                return Turn::Full;
            }
            session.blocked_told = session.limit;
            shared.log.push(Entry::of(Kind::Blocked, self.slot, 0));
        }
        Turn::Waits
    }

    fn tell_blocked(&mut self, shared: &mut Shared, out: &mut Writer<'_>) -> Turn {
        if self.blocked_told != self.limit {
            if (Frame::CreditBlocked { channel: Some(self.id), limit: self.limit }).write(out).is_err() {
                return Turn::Full;
            }
            self.blocked_told = self.limit;
            shared.log.push(Entry::of(Kind::Blocked, self.slot, 0));
        }
        Turn::Blocked
    }

    /// Writes again what was lost, and what is skipped, as much as fits.
    pub(super) fn write_lost(&mut self, shared: &mut Shared, out: &mut Writer<'_>) -> Turn {
        while let Some(&entry) = self.lost.front() {
            let left = match entry.kind {
                Kind::Whole => self.rewrite_whole(entry, shared, out),
                Kind::Part => self.rewrite_part(entry, shared, out),
                Kind::Skip => self.write_skip(entry, shared, out),
                Kind::Reset => {
                    let frame = Frame::ChannelReset { channel: self.id, code: entry.id };
                    write_logged(frame, entry, shared, out)
                }
                Kind::Dead | Kind::Blocked => Left::Nothing,
            };
            match left {
                Left::Nothing => {
                    self.lost.pop_front();
                }
                Left::Entry(rest) => self.lost[0] = rest,
                Left::All => return Turn::Full,
            }
        }
        Turn::Empty
    }

    /// Writes the first message of a lost run again.
    fn rewrite_whole(&mut self, entry: Entry, shared: &mut Shared, out: &mut Writer<'_>) -> Left {
        let rest = Entry { id: entry.id + 1, offset_or_count: entry.offset_or_count - 1, ..entry };
        let rest = if rest.offset_or_count == 0 { Left::Nothing } else { Left::Entry(rest) };
        let index = self.index_of(entry.id).filter(|&index| !self.messages[index].is_over());
        let Some(index) = index else { return rest };
        let head = self.head(index, entry.id);
        let len = head.bytes.len();
        if write_whole(out, &head) {
            shared.log.push(Entry::whole(self.slot, entry.id));
            count_resent(shared, len);
            return rest;
        }
        // It no longer fits into a packet, or not into this one: from here on it is a part.
        if out.room() < SPLIT_ROOM_MIN || len == 0 {
            return Left::All;
        }
        let part = Entry::part(self.slot, entry.id, 0, len as u32);
        match rest {
            Left::Entry(rest) => {
                self.lost[0] = rest;
                self.lost.push_front(part);
            }
            _ => self.lost[0] = part,
        }
        Left::Entry(part)
    }

    /// Writes a lost piece again, without what is known to have arrived at its beginning.
    fn rewrite_part(&mut self, entry: Entry, shared: &mut Shared, out: &mut Writer<'_>) -> Left {
        let index = self.index_of(entry.id).filter(|&index| !self.messages[index].is_over());
        let Some(index) = index else { return Left::Nothing };
        let end = entry.offset_or_count + entry.len;
        let offset = entry.offset_or_count.max(self.messages[index].prefix);
        if offset >= end {
            return Left::Nothing;
        }
        let written = {
            let head = self.head(index, entry.id);
            write_piece(out, &head, offset as usize..end as usize, Some((self.slot, &mut shared.tail))) as u32
        };
        if written == 0 {
            return Left::All;
        }
        shared.log.push(Entry::part(self.slot, entry.id, offset, written));
        count_resent(shared, written as usize);
        if offset + written == end {
            return Left::Nothing;
        }
        Left::Entry(Entry::part(self.slot, entry.id, offset + written, end - offset - written))
    }

    /// Tells the peer to go past a message, and how long it was unless the peer knows: both ends charge it alike.
    /// spec: atp/credit
    fn write_skip(&mut self, entry: Entry, shared: &mut Shared, out: &mut Writer<'_>) -> Left {
        let Some(index) = self.index_of(entry.id) else { return Left::Nothing };
        let message = &self.messages[index];
        let start = out.len();
        if message.is_unknown() {
            let header = Segment {
                part: Some(Part { offset: 0, total: message.sent }),
                bytes: &[message.first],
                ..self.head(index, entry.id)
            };
            if header.write(out, false).is_err() {
                return Left::All;
            }
        }
        if planted(Mutant::SkipNotWritten) {
            return Left::Nothing;
        }
        let frame = Frame::Skip { channel: self.id, message: MessageId(entry.id) };
        let left = write_logged(frame, entry, shared, out);
        if matches!(left, Left::All) {
            out.rewind(start);
        }
        left
    }
}

/// What is left of an entry of the lost queue.
enum Left {
    Nothing,
    Entry(Entry),
    All,
}

fn write_logged(frame: Frame<'_>, entry: Entry, shared: &mut Shared, out: &mut Writer<'_>) -> Left {
    if frame.write(out).is_err() {
        return Left::All;
    }
    shared.log.push(entry);
    Left::Nothing
}

fn count_resent(shared: &mut Shared, len: usize) {
    shared.counts.segments_resent += 1;
    shared.counts.bytes_resent += len as u64;
}

/// Writes a whole message if it fits; without its length when it fills the packet exactly.
#[inline]
fn write_whole(out: &mut Writer<'_>, head: &Segment<'_>) -> bool {
    if head.bytes.len() >= out.room() {
        return false;
    }
    if head.write(out, false).is_ok() {
        return true;
    }
    head.header_len(true) + head.bytes.len() == out.room() && head.write(out, true).is_ok()
}

/// Writes as much of that range of `head.bytes` as fits, without its length when that fills the packet. Bytes written; 0: too little room.
/// With a `tail`, what fills the packet is only noted there: its block keeps it until the packet is sealed.
#[inline]
fn write_piece(
    out: &mut Writer<'_>,
    head: &Segment<'_>,
    range: Range<usize>,
    tail: Option<(u16, &mut Tail)>,
) -> usize {
    let offset = range.start as u32;
    let part = Part { offset, total: head.bytes.len() as u32 };
    let (room, left) = (out.room(), range.len());
    let piece = Segment { part: Some(part), bytes: &[], ..*head };
    let most = piece.fitting(room, left, true);
    let fills = most < left || piece.header_len(true) + left == room;
    let len = if fills { most } else { piece.fitting(room, left, false) };
    if len == 0 || len < left && room < SPLIT_ROOM_MIN {
        return 0;
    }
    let bytes = &head.bytes[range.start..range.start + len];
    let piece = Segment { part: Some(part), bytes, ..*head };
    let written = match tail {
        Some((slot, tail)) if fills && len >= TAIL_LEN_MIN => {
            *tail = Tail { slot, id: head.message.0, offset, len: len as u32 };
            piece.write_around(out)
        }
        _ => piece.write(out, fills),
    };
    written.expect("the length was made to fit");
    len
}
