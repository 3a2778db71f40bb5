//! Every message of a world: what was sent, what was acknowledged, what arrived, how often and in which order.
//!
//! In:    messages sent, released and delivered.
//! Out:   a panic when one that was never sent arrives (I3), one arrives twice (I2), or an ordered channel goes back.
//! Holds: an entry is found by sender, receiver, channel and bytes; two equal messages are two entries.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_codec::ids::{ChannelId, SessionId};
use dunlin_shards::arq::sender::{Outcome, PRIORITY_DEFAULT};

use crate::place::NodeIndex;

/// How a message is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Manner {
    /// Its channel.
    pub channel: ChannelId,
    /// In order with the others of its channel.
    pub ordered: bool,
    /// Until it is acknowledged.
    pub reliable: bool,
    /// Lower goes first.
    pub priority: u8,
    /// Never to be sent again in another session.
    pub once: bool,
    /// It may travel in the first datagram.
    pub early: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            channel: ChannelId::APPLICATION,
            ordered: true,
            reliable: true,
            priority: PRIORITY_DEFAULT,
            once: false,
            early: false,
        }
    }
}

impl Manner {
    /// On another channel.
    #[must_use]
    pub fn on(self, channel: u32) -> Self {
        Self { channel: ChannelId(channel), ..self }
    }

    /// Without order. A channel keeps its manner.
    #[must_use]
    pub fn unordered(self) -> Self {
        Self { ordered: false, ..self }
    }

    /// Sent once, whatever becomes of it.
    #[must_use]
    pub fn unreliable(self) -> Self {
        Self { reliable: false, ..self }
    }

    /// With another priority.
    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// Returned rather than sent again in another session.
    #[must_use]
    pub fn once(self) -> Self {
        Self { once: true, ..self }
    }
}

/// Names a message in the ledger; also its ticket.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Entry(pub usize);

/// A message.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who sent it.
    pub from: NodeIndex,
    /// To whom.
    pub to: NodeIndex,
    /// How.
    pub manner: Manner,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// When it was given to the session that has it, as a number: order holds within a session.
    pub place: u64,
    /// What its sender was told last.
    pub outcome: Option<Outcome>,
    /// How often it arrived.
    pub delivered: u32,
    /// It was sent in more than one session, so that it may arrive in each.
    pub may_repeat: bool,
    /// It travelled beside the others of its channel: its order says nothing.
    pub may_overtake: bool,
    /// Its fate is known to nobody any more: an end was restarted.
    pub is_void: bool,
    /// Its receiver crashed while it was under way: an acknowledgement from before proves nothing, until it is sent again.
    pub is_excused: bool,
    /// When it was sent and when it arrived first, in nanoseconds of the world.
    pub sent_at: u64,
    /// See `sent_at`.
    pub arrived_at: Option<u64>,
}

impl Record {
    /// It was acknowledged.
    #[must_use]
    pub fn is_acked(&self) -> bool {
        self.outcome == Some(Outcome::Acked)
    }
}

type Key = (NodeIndex, NodeIndex, u32, u64);
/// A receiver's end of a channel: who receives, in which of its starts, on which session and channel.
pub type End = (NodeIndex, u32, SessionId, ChannelId);

/// All messages.
#[derive(Debug, Default)]
pub struct Ledger {
    records: Vec<Record>,
    by_bytes: BTreeMap<Key, Vec<usize>>,
    last: BTreeMap<End, usize>,
    last_place: u64,
    open: usize,
    delivered: u64,
    delivered_bytes: u64,
    distrusted: BTreeSet<NodeIndex>,
    /// Early data may arrive twice, as its sender agreed: cores that cannot ask each other refuse what another has taken.
    pub early_may_repeat: bool,
}

impl Ledger {
    /// What this node sends is not believed, and what is sent to it not claimed, from now on.
    pub fn distrust(&mut self, node: NodeIndex) {
        self.distrusted.insert(node);
    }

    /// A node that is not believed.
    #[must_use]
    pub fn is_distrusted(&self, node: NodeIndex) -> bool {
        self.distrusted.contains(&node)
    }

    /// A message is about to be sent.
    pub fn add(
        &mut self,
        (from, to): (NodeIndex, NodeIndex),
        manner: Manner,
        bytes: &[u8],
        now: u64,
    ) -> Entry {
        let entry = self.records.len();
        let key = (from, to, manner.channel.0, print_of(bytes));
        self.by_bytes.entry(key).or_default().push(entry);
        let is_void = self.is_distrusted(from) || self.is_distrusted(to);
        self.records.push(Record {
            from,
            to,
            manner,
            bytes: bytes.to_vec(),
            place: 0,
            outcome: None,
            delivered: 0,
            may_repeat: false,
            may_overtake: false,
            is_void,
            is_excused: false,
            sent_at: now,
            arrived_at: None,
        });
        self.open += usize::from(manner.reliable && !is_void);
        Entry(entry)
    }

    /// A message.
    #[must_use]
    pub fn record(&self, entry: Entry) -> &Record {
        &self.records[entry.0]
    }

    /// All of them.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Its sender gave it to a session: there it comes after all that was given before.
    pub fn on_handed(&mut self, entry: Entry) {
        self.last_place += 1;
        self.records[entry.0].place = self.last_place;
    }

    /// Its sender was told what became of it.
    pub fn on_released(&mut self, entry: Entry, outcome: Outcome) {
        let record = &mut self.records[entry.0];
        assert!(record.outcome.is_none(), "message {} was released twice", entry.0);
        record.outcome = Some(outcome);
        self.open -= usize::from(record.manner.reliable && !record.is_void);
    }

    /// Its sender sends it again, in another session.
    pub fn on_sent_again(&mut self, entry: Entry) {
        let record = &mut self.records[entry.0];
        record.may_repeat = true;
        record.is_excused = false;
        if record.outcome.take().is_some() {
            self.open += usize::from(record.manner.reliable && !record.is_void);
        }
    }

    /// It was not sent behind the others of its channel.
    pub fn allow_overtaking(&mut self, entry: Entry) {
        self.records[entry.0].may_overtake = true;
    }

    /// It may arrive in more than one session.
    pub fn allow_repeat(&mut self, entry: Entry) {
        let record = &mut self.records[entry.0];
        record.may_repeat = true;
        record.is_excused = false;
    }

    /// Nobody will learn what became of it.
    pub fn on_void(&mut self, entry: Entry) {
        let record = &mut self.records[entry.0];
        if !record.is_void {
            self.open -= usize::from(record.manner.reliable && record.outcome.is_none());
            record.is_void = true;
        }
    }

    /// Nobody waits for messages from one node to another.
    pub fn void_between(&mut self, from: NodeIndex, to: NodeIndex) {
        for entry in 0..self.records.len() {
            if (self.records[entry].from, self.records[entry].to) == (from, to) {
                self.on_void(Entry(entry));
            }
        }
    }

    /// A node was restarted: nobody will learn what became of its messages; what it had acknowledged went with it; and what
    /// others had not been told of may be sent to it again.
    pub fn void_node(&mut self, node: NodeIndex) {
        for entry in 0..self.records.len() {
            let record = &mut self.records[entry];
            if record.from == node || record.to == node && record.is_acked() {
                self.on_void(Entry(entry));
            } else if record.to == node {
                record.may_repeat = true;
                record.is_excused = true;
            }
        }
    }

    /// A message arrived at an application.
    ///
    /// # Panics
    /// I2, I3, or order broken.
    pub fn on_delivered(&mut self, from: NodeIndex, end: End, bytes: &[u8], now: u64) {
        let (to, _, _, channel) = end;
        if self.is_distrusted(from) {
            return;
        }
        let key = (from, to, channel.0, print_of(bytes));
        let candidates = self.by_bytes.get(&key).map_or(&[][..], Vec::as_slice);
        // Of equal messages the one that its sender took back or forgot is meant last.
        let order = |entry: &usize| {
            let record = &self.records[*entry];
            (record.delivered, record.outcome == Some(Outcome::Abandoned) || record.is_void)
        };
        let fewest = candidates.iter().copied().min_by_key(order);
        let Some(entry) = fewest else {
            panic!("I3: {to:?} got {} bytes on {channel:?} that {from:?} never sent", bytes.len());
        };
        let record = &mut self.records[entry];
        assert!(record.bytes == bytes, "I3: message {entry} arrived changed");
        record.delivered += 1;
        record.arrived_at.get_or_insert(now);
        let is_repeated = record.delivered > 1;
        assert!(
            !is_repeated || record.may_repeat || record.manner.early && self.early_may_repeat,
            "I2: message {entry} from {from:?} to {to:?} arrived twice"
        );
        if record.manner.ordered && record.manner.reliable && !record.may_overtake {
            let place = record.place;
            let last = self.last.insert(end, entry);
            let is_before = |last: usize| self.records[last].place < place || self.records[last].may_repeat;
            assert!(
                is_repeated || last.is_none_or(is_before),
                "message {entry} arrived on {channel:?} after message {last:?}"
            );
        }
        self.delivered += 1;
        self.delivered_bytes += bytes.len() as u64;
    }

    /// Reliable messages whose sender does not know yet what became of them.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Messages that arrived, and their bytes.
    #[must_use]
    pub fn delivered(&self) -> (u64, u64) {
        (self.delivered, self.delivered_bytes)
    }

    /// I1: acknowledged reliable messages that did not arrive. Asked when the world has come to rest.
    #[must_use]
    pub fn acknowledged_and_lost(&self) -> Vec<Entry> {
        let is_lost = |record: &Record| {
            let is_binding = !record.is_void && !record.is_excused;
            record.manner.reliable && record.is_acked() && record.delivered == 0 && is_binding
        };
        let lost = self.records.iter().enumerate().filter(|(_, record)| is_lost(record));
        lost.map(|(entry, _)| Entry(entry)).collect()
    }
}

/// A print of a message's bytes: for finding, the bytes themselves are compared afterwards.
fn print_of(bytes: &[u8]) -> u64 {
    let step = |print: u64, word: u64| (print ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(27);
    let (words, rest) = bytes.as_chunks::<8>();
    let print = words.iter().fold(bytes.len() as u64, |print, word| step(print, u64::from_le_bytes(*word)));
    rest.iter().fold(print, |print, byte| step(print, u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: NodeIndex = NodeIndex(0);
    const END: End = (NodeIndex(1), 0, SessionId(1), ChannelId::APPLICATION);

    /// Two messages, given to their session in this order, arrive as told.
    fn arrive(given: [usize; 2], arriving: [usize; 2]) {
        let mut ledger = Ledger::default();
        let texts: [&[u8]; 2] = [b"one", b"two"];
        let entries = texts.map(|text| ledger.add((FROM, END.0), Manner::default(), text, 0));
        given.into_iter().for_each(|at| ledger.on_handed(entries[at]));
        arriving.into_iter().for_each(|at| ledger.on_delivered(FROM, END, texts[at], 1));
    }

    #[test]
    fn what_is_given_first_arrives_first() {
        arrive([0, 1], [0, 1]);
        // The first came back, and was given to the session again after the second.
        arrive([1, 0], [1, 0]);
    }

    #[test]
    #[should_panic(expected = "message 0 arrived on ChannelId(16) after message Some(1)")]
    fn a_channel_that_goes_back_is_noticed() {
        arrive([0, 1], [1, 0]);
    }

    #[test]
    #[should_panic(expected = "message 1 arrived on ChannelId(16) after message Some(0)")]
    fn what_was_given_again_comes_in_its_new_place() {
        arrive([1, 0], [0, 1]);
    }
}
