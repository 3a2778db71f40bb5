//! Storing at several holders, and reading from them.

use dunlin_codec::args::{Ack, Found, Metadata, Reason, StoreOptions, write_nodes};
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::Operation;

use super::super::get::{Get, Got, Plan};
use super::super::put::{Put, Stored};
use super::super::*;
use super::kit::*;

const HOLDERS: u8 = 8;

struct Ring {
    homes: Vec<Home>,
}

impl Ring {
    fn new() -> Self {
        Self { homes: (101..101 + HOLDERS).map(|number| Home::new(setup(number), at(0))).collect() }
    }

    fn ids(&self) -> Vec<NodeId> {
        (101..101 + HOLDERS).map(|number| identity(number).id()).collect()
    }

    /// Each on one of four paths.
    fn on_paths(&self) -> Vec<(NodeId, usize)> {
        self.ids().into_iter().enumerate().map(|(place, id)| (id, place % 4)).collect()
    }

    fn ask(&mut self, question: &Question) -> Answer {
        let place = self.ids().iter().position(|id| *id == question.to).unwrap();
        let home = &mut self.homes[place];
        if question.operation == Operation::Store {
            return home.told(at(0), peer(9), &question.arguments);
        }
        match home.holder.on_find(at(0), HERE, &question.arguments) {
            Finding::Answer(answer) => answer,
            Finding::Nowhere(_) => {
                let payload = encoded(|out| write_nodes(out, core::iter::empty()));
                Answer { is_ack: true, payload }
            }
        }
    }

    fn put(&mut self, holders: &[usize], arguments: &[u8]) -> Stored {
        let ids = self.ids();
        let mut put = Put::new(holders.iter().map(|place| ids[*place]), arguments.to_vec());
        while let Some(question) = put.poll_question() {
            assert_eq!(put.outcome(), None);
            let answer = self.ask(&question);
            put.on_answer(question.number, &answer);
            put.on_answer(question.number, &answer);
        }
        put.outcome().cloned().unwrap()
    }

    /// Reads, with those who lie told by `lie`: what one says instead, or that it says nothing.
    fn get(&mut self, plan: Plan, lie: impl Fn(usize, &Answer) -> Option<Answer>) -> Got {
        let mut get = Get::new(plan, self.on_paths());
        while let Some(question) = get.poll_question() {
            let place = self.ids().iter().position(|id| *id == question.to).unwrap();
            let answer = self.ask(&question);
            match lie(place, &answer) {
                Some(answer) => get.on_answer(question.number, &answer),
                None => get.on_failure(question.number),
            }
        }
        get.outcome().cloned().unwrap()
    }
}

fn plan(key: &[u8]) -> Plan {
    Plan {
        network: NETWORK,
        key: key.to_vec(),
        kin: crate::identity::chain::Kin::default(),
        owner: None,
        quorum: None,
        now: at(0).wall,
        cache_at: None,
    }
}

fn honest(_: usize, answer: &Answer) -> Option<Answer> {
    Some(answer.clone())
}

fn says(key_bytes: &[u8], value_bytes: &[u8], record: Option<&[u8]>) -> Answer {
    let record = record.map(|record| dunlin_codec::record::ValueRecord::parse(record).unwrap());
    let metadata = Metadata { record, lease: None };
    let found = Found { key: key(key_bytes), value: value(value_bytes), metadata };
    Answer { is_ack: true, payload: encoded(|out| Ack::Value(found).write(out)) }
}

fn number_of(got: &Got) -> Option<u64> {
    if let Got::Found { cell, .. } = got { cell.value().as_unsigned() } else { None }
}

/// What is stored is told by all who keep it; refusals and silence are counted.
/// spec: p2p/put
#[test]
fn a_store_counts_who_keeps_it() {
    let mut ring = Ring::new();
    let (key, one, two) = (name("k"), number(1), number(2));
    let newer = Says::nobodys(&key, 2).signed(&identity(1), &two);
    let older = Says::nobodys(&key, 1).signed(&identity(1), &one);
    assert_eq!(ring.put(&[0, 1, 2], &store(&key, &two, with_record(&newer))).kept, 3);
    let stored = ring.put(&[0, 1, 4], &store(&key, &one, with_record(&older)));
    assert_eq!((stored.kept, stored.refusals.as_slice()), (1, &[Reason::StaleSequence; 2][..]));
    assert_eq!(stored.there, Some(newer));
    let mut put = Put::new(ring.ids(), store(&key, &one, StoreOptions::default()));
    while let Some(question) = put.poll_question() {
        put.on_failure(question.number);
    }
    assert_eq!(put.outcome(), Some(&Stored { failed: HOLDERS.into(), ..Stored::default() }));
}

/// The newest that enough agree on; those who lag are brought up to it.
/// spec: p2p/get
#[test]
fn a_read_repairs_those_that_lag() {
    let mut ring = Ring::new();
    let (key, one, two, owner) = (name("k"), number(1), number(2), identity(1));
    let of = |sequence, value: &[u8]| {
        Says { owner: owner.id(), ..Says::nobodys(&key, sequence) }.signed(&owner, value)
    };
    assert_eq!(ring.get(plan(&key), honest), Got::Nothing);
    ring.put(&[0, 1, 2, 3, 4, 5], &store(&key, &one, with_record(&of(1, &one))));
    ring.put(&[0, 5], &store(&key, &two, with_record(&of(2, &two))));
    let all = Plan { quorum: Some(8), ..plan(&key) };
    let Got::Found { cell, support } = ring.get(all, honest) else { panic!() };
    assert_eq!((cell.value().as_unsigned(), support), (Some(2), 2), "one owner's newest record wins");
    let there: Vec<_> = ring.homes.iter_mut().map(|home| home.value(at(0), &key)).collect();
    assert_eq!(there, vec![Some(two); 8], "repaired");
}

/// An unowned value counts by agreement over three paths; one path's liars do not outvote the others, and forged records are no
/// answers at all.
/// spec: p2p/get
#[test]
fn liars_on_one_path_are_not_believed() {
    let mut ring = Ring::new();
    let (key, one, lie) = (name("k"), number(1), number(9));
    ring.put(&[0, 1, 2, 3, 4, 5, 6, 7], &store(&key, &one, StoreOptions::default()));
    let all = || Plan { quorum: Some(8), ..plan(&key) };
    let on_path_one = |place: usize, answer: &Answer| {
        Some(if place % 4 == 1 { says(&key, &lie, None) } else { answer.clone() })
    };
    assert_eq!(number_of(&ring.get(all(), on_path_one)), Some(1));
    let on_two = |place: usize, answer: &Answer| {
        Some(if place % 4 < 2 { says(&key, &lie, None) } else { answer.clone() })
    };
    assert_eq!(ring.get(all(), on_two), Got::Disagreement(2), "half against half is no agreement");
    let forged = Says::nobodys(&key, 99).signed(&identity(3), &one);
    let forger = |place: usize, answer: &Answer| {
        Some(if place < 3 { says(&key, &lie, Some(&forged)) } else { answer.clone() })
    };
    assert_eq!(ring.get(all(), forger), Got::TooFew, "a forged record is no answer");
    assert_eq!(number_of(&ring.get(Plan { quorum: Some(5), ..plan(&key) }, forger)), Some(1));
    let silent = |place: usize, answer: &Answer| (place > 3).then(|| answer.clone());
    assert_eq!(ring.get(plan(&key), silent), Got::TooFew);
}

/// A majority that was found on one path is no agreement: one liar may have led there.
/// spec: p2p/get
#[test]
fn a_majority_on_one_path_is_not_believed() {
    let mut ring = Ring::new();
    let (key, one, two) = (name("k"), number(1), number(2));
    ring.put(&[0, 1, 2, 3, 4, 5, 6, 7], &store(&key, &one, StoreOptions::default()));
    // Of paths 0 to 3 these are 0, 0, 0 and 1, 2.
    let holders: Vec<(NodeId, usize)> = ring.ids().into_iter().take(5).zip([0, 0, 0, 1, 2]).collect();
    let read = |ring: &mut Ring, liars: usize| {
        let mut get = Get::new(Plan { quorum: Some(5), ..plan(&key) }, holders.clone());
        while let Some(question) = get.poll_question() {
            let place = holders.iter().position(|(id, _)| *id == question.to).unwrap();
            let answer = if place < liars { says(&key, &two, None) } else { ring.ask(&question) };
            get.on_answer(question.number, &answer);
        }
        get.outcome().cloned().unwrap()
    };
    assert_eq!(number_of(&read(&mut ring, 0)), Some(1));
    assert_eq!(read(&mut ring, 3), Got::Disagreement(2), "three of five, on one path");
    assert_eq!(number_of(&read(&mut ring, 1)), Some(1));
}

/// Where there are three holders on three paths, two that have the newest outvote one that lags, and it is repaired.
/// spec: p2p/get
#[test]
fn one_that_lags_does_not_keep_the_others_from_agreeing() {
    let mut ring = Ring::new();
    let (key, one, two) = (name("k"), number(1), number(2));
    let says = |sequence, value: &[u8]| Says::nobodys(&key, sequence).signed(&identity(1), value);
    ring.put(&[0, 1, 2], &store(&key, &one, with_record(&says(1, &one))));
    ring.put(&[0, 1], &store(&key, &two, with_record(&says(2, &two))));
    let three = |place: usize, answer: &Answer| (place < 3).then(|| answer.clone());
    assert_eq!(number_of(&ring.get(Plan { quorum: Some(3), ..plan(&key) }, three)), Some(2));
    assert_eq!(ring.homes[2].value(at(0), &key), Some(two), "repaired");
}

/// Whoever knows whose the key is takes nobody else's word, however many say it.
/// spec: p2p/get
#[test]
fn the_owners_word_is_enough() {
    let mut ring = Ring::new();
    let (key, one, two) = (name("k"), number(1), number(2));
    let (owner, squatter) = (identity(1), identity(2));
    let of = |who: &crate::identity::Identity, sequence, value: &[u8]| {
        Says { owner: who.id(), ..Says::nobodys(&key, sequence) }.signed(who, value)
    };
    ring.put(&[0], &store(&key, &one, with_record(&of(&owner, 1, &one))));
    ring.put(&[1, 2, 3, 4, 5, 6, 7], &store(&key, &two, with_record(&of(&squatter, 50, &two))));
    assert_eq!(number_of(&ring.get(Plan { quorum: Some(8), ..plan(&key) }, honest)), Some(2));
    let known = Plan { quorum: Some(8), owner: Some(owner.id()), ..plan(&key) };
    assert_eq!(number_of(&ring.get(known, honest)), Some(1));
}

/// A copy goes to the node beside the path, for a short time.
/// spec: p2p/get
#[test]
fn a_copy_is_left_beside_the_path() {
    let mut ring = Ring::new();
    let (key, one) = (name("k"), number(1));
    let record = Says::nobodys(&key, 1).signed(&identity(1), &one);
    ring.put(&[0, 1, 2, 3, 4, 5, 6], &store(&key, &one, with_record(&record)));
    let beside = ring.ids()[7];
    let holders: Vec<_> = ring.on_paths().into_iter().take(7).collect();
    let mut get = Get::new(Plan { cache_at: Some(beside), ..plan(&key) }, holders);
    while let Some(question) = get.poll_question() {
        let answer = ring.ask(&question);
        get.on_answer(question.number, &answer);
    }
    assert_eq!(number_of(get.outcome().unwrap()), Some(1));
    assert_eq!(ring.homes[7].value(at(0), &key), Some(one));
    assert!(ring.homes[7].disk.is_empty(), "a copy is in memory");
    assert_eq!(ring.homes[7].value(at(600_001), &key), None);
}
