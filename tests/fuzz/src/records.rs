//! Messages of a run: what was sent, what became of it, how often and in which order it arrived.
//!
//! In:    messages sent, released and delivered.
//! Out:   a panic when one arrives that was never sent (I3), one arrives twice (I2), an ordered channel goes back, or an
//!        acknowledged one never arrived (I1).
//! Holds: a message's number stands in its first four bytes, and the number gives all other bytes.

use std::collections::BTreeMap;

use dunlin_codec::ids::{ChannelId, SessionId};
use dunlin_shards::arq::sender::Outcome;

/// The shortest message: its number.
pub(crate) const MESSAGE_LEN_MIN: usize = 4;

/// A message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// The node that sent it.
    pub from: usize,
    /// Its channel.
    pub channel: ChannelId,
    /// Its length in bytes, at least four.
    pub len: usize,
    /// It is sent until it is acknowledged.
    pub reliable: bool,
    /// It is delivered in order with the others of its channel.
    pub ordered: bool,
    /// What its sender was told.
    pub outcome: Option<Outcome>,
    /// How often it arrived.
    pub delivered: u32,
    /// Its sender said that arriving twice does no harm, as it must of early data: it may arrive once in each session.
    pub idempotent: bool,
    /// Where it arrived last.
    pub session: Option<SessionId>,
    /// It changed its session, or an end was restarted: it may arrive again.
    pub may_repeat: bool,
    /// Its sender was restarted: nobody is told what became of it.
    pub is_void: bool,
    /// Somebody was restarted, or its session ended before it was its turn: an acknowledgement proves nothing any more.
    pub is_excused: bool,
}

/// A receiver's end of a channel: node, its start, session and channel.
type End = (usize, u32, SessionId, ChannelId);

/// All messages of a run.
#[derive(Debug, Default)]
pub struct Records {
    /// In the order in which they were sent: a message's number is its place.
    pub all: Vec<Record>,
    last: BTreeMap<End, usize>,
}

/// A message's bytes, at least four.
#[must_use]
pub fn message_bytes(number: usize, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(31) ^ number as u8).collect();
    bytes[..MESSAGE_LEN_MIN].copy_from_slice(&(number as u32).to_le_bytes());
    bytes
}

impl Records {
    /// A message arrived.
    ///
    /// # Panics
    /// I2, I3, or order broken.
    pub fn on_delivered(&mut self, end: End, bytes: &[u8]) {
        let number = bytes.first_chunk().map(|number| u32::from_le_bytes(*number) as usize);
        let number = number.filter(|number| *number < self.all.len()).expect("I3: it was sent");
        let record = &mut self.all[number];
        assert!(bytes == message_bytes(number, record.len), "I3: message {number} arrived changed");
        assert_eq!(end.3, record.channel, "message {number} arrived on its channel");
        record.delivered += 1;
        let is_repeated = record.delivered > 1;
        let is_elsewhere = record.session.replace(end.2) != Some(end.2);
        let may_repeat = record.may_repeat || record.idempotent && is_elsewhere;
        assert!(!is_repeated || may_repeat, "I2: message {number} arrived twice");
        // What changed its session comes behind what was sent there before.
        if record.ordered && record.reliable && !record.may_repeat && !is_repeated {
            let last = self.last.insert(end, number);
            assert!(last.is_none_or(|last| last < number), "message {number} arrived after {last:?}");
        }
    }

    /// A sender was told what became of its message.
    ///
    /// # Panics
    /// It was told before.
    pub fn on_released(&mut self, number: usize, outcome: Outcome) {
        let record = &mut self.all[number];
        assert!(record.outcome.is_none(), "message {number} was released twice");
        record.outcome = Some(outcome);
    }

    /// A node was restarted.
    pub fn on_restart(&mut self, node: usize) {
        for record in &mut self.all {
            record.is_void |= record.from == node;
            record.is_excused = true;
            record.may_repeat = true;
        }
    }

    /// A session of this sender ended at either end: what waits at the other for earlier messages goes with it.
    pub fn on_closed(&mut self, from: usize) {
        for record in self.all.iter_mut().filter(|record| record.from == from && record.delivered == 0) {
            record.is_excused = true;
        }
    }

    /// Sessions of a node moved, and its messages with them.
    pub fn on_moved(&mut self, node: usize) {
        for record in self.all.iter_mut().filter(|record| record.from == node && record.outcome.is_none()) {
            record.may_repeat = true;
        }
    }

    /// Messages whose senders do not know yet what became of them.
    #[must_use]
    pub fn open(&self) -> usize {
        self.all.iter().filter(|record| record.outcome.is_none() && !record.is_void).count()
    }

    /// The world is at rest: everything is known, and what was acknowledged arrived (I1).
    ///
    /// # Panics
    /// It is not so.
    pub fn assert_settled(&self) {
        for (number, record) in self.all.iter().enumerate().filter(|(_, record)| !record.is_void) {
            assert!(record.outcome.is_some(), "nobody learns what became of message {number}: {record:?}");
            let is_acked = record.reliable && record.outcome == Some(Outcome::Acked) && !record.is_excused;
            assert!(!is_acked || record.delivered > 0, "I1: message {number} was acknowledged and lost");
        }
    }
}
