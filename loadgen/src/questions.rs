//! What a crowd asks one node for: nodes around a place, values that are there, or that values be kept.
//!
//! In:    what is asked for; how many keys there are, how long their values are.
//! Out:   the next question of a member; whether what came answers it.
//! Holds: each member stores keys of its own, one after the other, so that no two of them change the same value at a time.

use clap::ValueEnum;
use dunlin_codec::args::{Ack, FindValue, Request, Store, StoreOptions};
use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::Address;
use dunlin_codec::msgpack::{Encoded, write};
use dunlin_codec::record::Key;
use dunlin_shards::dht::values::address;
use dunlin_shards::limits::VALUE_LEN_MAX;
use dunlin_shards::rng::Rng;

use crate::Fault;
use crate::rumours::{PAYLOAD_LEN_MIN, write_payload};

/// Keys at most: their bytes are in memory.
const KEYS_MAX: usize = 10_000_000;

/// An operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Op {
    /// The nodes closest to a drawn place.
    FindNode,
    /// The value of a drawn key; all are stored before.
    FindValue,
    /// That a value be kept, and on disk before it is answered; each key gets another value again and again.
    Store,
}

impl Op {
    /// Where its figures are.
    pub(crate) const fn section(self) -> &'static str {
        match self {
            Self::FindNode => "find_node",
            Self::FindValue => "find_value",
            Self::Store => "store",
        }
    }
}

/// What members do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Turn {
    /// Nothing.
    #[default]
    Rest,
    /// Each stores its keys once.
    Fill,
    /// What the run is about.
    Work,
}

impl Turn {
    /// The one with this number.
    pub(crate) fn of(number: u8) -> Self {
        [Self::Fill, Self::Work].into_iter().find(|turn| *turn as u8 == number).unwrap_or_default()
    }
}

/// A question: of the nodes around a place, or of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Question {
    Nodes(Address),
    Value(usize),
    Keep(usize),
}

/// What all members ask for.
#[derive(Debug)]
pub(crate) struct Topic {
    op: Op,
    /// Questions that each may have under way.
    pub(crate) parallel: usize,
    members: usize,
    keys: Vec<(Box<[u8]>, Address)>,
    value_len: usize,
}

impl Topic {
    /// So many keys with values of so many bytes, where values are asked for.
    pub(crate) fn new(
        op: Op,
        (members, parallel): (usize, usize),
        (keys, value_len): (usize, usize),
    ) -> Result<Self, Fault> {
        if parallel == 0 {
            return Err("--parallel 0 leaves nothing to ask".into());
        }
        let keys = if op == Op::FindNode { 0 } else { keys };
        if op != Op::FindNode && !(members.max(1)..=KEYS_MAX).contains(&keys) {
            return Err(format!("--keys {keys}: one for each of --peers at least, {KEYS_MAX} at most").into());
        }
        if !(PAYLOAD_LEN_MIN..=VALUE_LEN_MAX).contains(&value_len) {
            return Err(format!("--size {value_len}: {PAYLOAD_LEN_MIN} to {VALUE_LEN_MAX} bytes").into());
        }
        let keys = (0..keys).map(|number| key(number as u64)).collect();
        Ok(Self { op, parallel, members, keys, value_len })
    }

    /// Keys that are stored before anything is asked.
    pub(crate) fn fill_count(&self) -> u64 {
        if self.op == Op::FindValue { self.keys.len() as u64 } else { 0 }
    }

    /// What member `own` asks after it has stored `stored` values.
    pub(crate) fn next(&self, turn: Turn, (own, stored): (usize, usize), rng: &mut Rng) -> Option<Question> {
        // Member 1 of 10 has keys 1, 11, 21 and so on.
        let count = (self.keys.len() + self.members - 1 - own) / self.members;
        match (turn, self.op) {
            (Turn::Fill, _) if stored < count => Some(Question::Keep(own + stored * self.members)),
            (Turn::Work, Op::Store) => Some(Question::Keep(own + stored % count.max(1) * self.members)),
            (Turn::Work, Op::FindValue) => Some(Question::Value(rng.below(self.keys.len() as u64) as usize)),
            (Turn::Work, Op::FindNode) => {
                let mut place = [0; 32];
                rng.fill(&mut place);
                Some(Question::Nodes(Address(place)))
            }
            (Turn::Fill | Turn::Rest, _) => None,
        }
    }

    /// Has `ask` put the question; `value` has room for values, and the number makes each another.
    pub(crate) fn put<T>(
        &self,
        question: Question,
        (number, value): (u64, &mut Vec<u8>),
        ask: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        match question {
            Question::Nodes(place) => ask(&Request::FindNode(place)),
            Question::Value(at) => {
                let (address, key) = self.key(at);
                ask(&Request::FindValue(FindValue { address, key }))
            }
            Question::Keep(at) => {
                let (address, key) = self.key(at);
                write_payload(value, (self.value_len, number));
                let value = Encoded::parse(value).expect("it was just written");
                ask(&Request::Store(Store { address, key, value, options: StoreOptions::default() }))
            }
        }
    }

    /// How many nodes or values an answer brings; none: it is no answer to the question.
    pub(crate) fn judge(&self, question: Question, ack: Option<Ack<'_>>) -> Option<u64> {
        match (question, ack?) {
            (Question::Nodes(_), Ack::Nodes(nodes)) => Some(nodes.iter().count() as u64),
            (Question::Value(at), Ack::Value(found)) => {
                let is_it = *found.key.bytes() == *self.keys[at].0;
                (is_it && found.value.bytes().len() == self.value_len).then_some(1)
            }
            (Question::Keep(at), Ack::Stored(found, _)) => {
                (*found.key.bytes() == *self.keys[at].0).then_some(1)
            }
            _ => None,
        }
    }

    fn key(&self, at: usize) -> (Address, Key<'_>) {
        let (key, address) = &self.keys[at];
        (*address, parsed(key))
    }
}

fn parsed(key: &[u8]) -> Key<'_> {
    Key::parse(key).ok().flatten().expect("we wrote it as a key")
}

/// A key and where it lives.
fn key(number: u64) -> (Box<[u8]>, Address) {
    let mut room = [0; 32];
    let mut out = Writer::new(&mut room);
    write::bin(&mut out, &[&b"load"[..], &number.to_be_bytes()].concat()).expect("there is room");
    let key: Box<[u8]> = out.written().into();
    let place = address(&parsed(&key));
    (key, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(op: Op, members: usize, keys: usize, len: usize) -> Topic {
        Topic::new(op, (members, 4), (keys, len)).unwrap()
    }

    #[test]
    fn each_key_is_stored_by_one_member() {
        let topic = topic(Op::FindValue, 3, 10, 20);
        let mut rng = Rng::from_number(1);
        let mut keys = Vec::new();
        for own in 0..3 {
            let mut stored = 0;
            while let Some(Question::Keep(at)) = topic.next(Turn::Fill, (own, stored), &mut rng) {
                keys.push(at);
                stored += 1;
            }
        }
        keys.sort_unstable();
        assert_eq!(keys, (0..10).collect::<Vec<_>>());
        assert_eq!(topic.fill_count(), 10);
        assert!(matches!(topic.next(Turn::Work, (0, 0), &mut rng), Some(Question::Value(at)) if at < 10));
        assert_eq!(topic.next(Turn::Rest, (0, 0), &mut rng), None);
    }

    /// A member that stores begins again when it is through.
    #[test]
    fn storing_goes_on() {
        let topic = topic(Op::Store, 3, 7, 20);
        let mut rng = Rng::from_number(1);
        let mut next = |own, stored| topic.next(Turn::Work, (own, stored), &mut rng).unwrap();
        assert_eq!(
            (0..4).map(|stored| next(0, stored)).collect::<Vec<_>>(),
            [0, 3, 6, 0].map(Question::Keep)
        );
        assert_eq!((0..3).map(|stored| next(2, stored)).collect::<Vec<_>>(), [2, 5, 2].map(Question::Keep));
    }

    #[test]
    fn senseless_topics_are_refused() {
        assert!(Topic::new(Op::FindNode, (1, 0), (1, 20)).is_err());
        assert!(Topic::new(Op::Store, (10, 1), (9, 20)).is_err());
        assert!(Topic::new(Op::Store, (1, 1), (1, VALUE_LEN_MAX + 1)).is_err());
        assert!(Topic::new(Op::FindValue, (1, 1), (1, 1)).is_err());
        assert!(Topic::new(Op::FindNode, (10, 1), (0, 20)).is_ok(), "nodes need no keys");
    }

    /// Only what was asked for answers a question.
    #[test]
    fn an_answer_is_looked_at() {
        let topic = topic(Op::FindValue, 1, 2, 20);
        let mut value = Vec::new();
        let payload = topic.put(Question::Keep(0), (1, &mut value), |request| {
            let mut room = [0; 200];
            let mut out = Writer::new(&mut room);
            request.write(&mut out).unwrap();
            out.written().to_vec()
        });
        assert!(matches!(
            Request::parse(dunlin_codec::message::Operation::Store, &payload),
            Ok(Request::Store(store)) if store.key.bytes() == &*topic.keys[0].0 && store.value.bytes().len() == 20
        ));
        let value = Encoded::parse(&value).unwrap();
        let key = parsed(&topic.keys[0].0);
        let found = dunlin_codec::args::Found { key, value, metadata: Default::default() };
        assert_eq!(topic.judge(Question::Value(0), Some(Ack::Value(found))), Some(1));
        assert_eq!(topic.judge(Question::Value(1), Some(Ack::Value(found))), None, "another key's");
        assert_eq!(topic.judge(Question::Value(0), Some(Ack::Stored(found, None))), None);
        assert_eq!(topic.judge(Question::Keep(0), Some(Ack::Stored(found, None))), Some(1));
        assert_eq!(topic.judge(Question::Keep(0), None), None);
    }
}
