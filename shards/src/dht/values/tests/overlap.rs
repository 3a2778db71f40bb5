//! Majorities that overlap although no two proposers find the same holders; what liars tell of members; members that bring what was
//! decided to others; promises that are given back.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use dunlin_codec::args::{
    Ack, Ballot, Found, LeaseAction, Members, Metadata, Promise, Reason, Request, Row, Rows, StoreOptions,
};
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{NOBODY, ValueRecord};

use super::super::decision::{Decided, Decision, Edit, Expectation, Proposer, What};
use super::super::{Answer, Asker, Holders, Question, ReadRow, encode, read_row, value_hash};
use super::kit::*;
use crate::dht::contact::Contact;
use crate::dht::known::Known;
use crate::dht::space::Space;
use crate::dht::table::Table;
use crate::identity::Identity;
use crate::limits::{REFRESH_QUIET, REPUBLISH_INTERVAL, REPUBLISH_SPREAD};
use crate::rng::Rng;
use crate::time::Now;

/// Which of a decision's two rounds a question is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Round {
    Prepare,
    Accept,
    /// It is not gone on with.
    Over,
}

fn round_of(question: &Question) -> Round {
    match Request::parse(Operation::Store, &question.arguments) {
        Ok(Request::Store(store)) if store.options.accept.is_some() => Round::Accept,
        Ok(Request::Store(store)) if store.options.is_over => Round::Over,
        _ => Round::Prepare,
    }
}

/// Holders that answer at once, if they are reached.
struct Ring {
    homes: Vec<Home>,
    owner: NodeId,
}

type Reach<'a> = &'a dyn Fn(Round, usize) -> bool;

impl Ring {
    fn new(count: u8) -> Self {
        let homes = (0..count).map(|at| Home::new(setup(100 + at), at_start())).collect();
        Self { homes, owner: NOBODY }
    }

    fn ids(places: impl IntoIterator<Item = usize>) -> Vec<NodeId> {
        places.into_iter().map(|place| identity(100 + place as u8).id()).collect()
    }

    fn proposer(&self, by: &Identity) -> Proposer {
        Proposer {
            kin: crate::identity::chain::Kin::default(),
            identity: by.clone(),
            network: NETWORK,
            owner: self.owner,
            leaves: Vec::new(),
            token: 0,
            life: Duration::from_secs(24 * 3_600),
        }
    }

    /// Drives a decision to its end; `tell` may put a lie in the place of an answer.
    fn run(
        &mut self,
        (now, by): (Now, &Identity),
        mut decision: Decision,
        reach: Reach<'_>,
        tell: &dyn Fn(usize, &Question, Answer) -> Answer,
    ) -> Decided {
        let mut now = now;
        loop {
            while let Some(question) = decision.poll_question() {
                let place = (0..self.homes.len()).find(|at| Self::ids([*at]) == [question.to]);
                match place.filter(|place| reach(round_of(&question), *place)) {
                    Some(place) => {
                        let asker = Asker { peer: by.id(), from: [10, 0, 0, 1].into(), request: 0 };
                        let answer = self.homes[place].told(now, asker, &question.arguments);
                        decision.on_answer(now, question.number, &tell(place, &question, answer));
                    }
                    None => decision.on_failure(now, question.number),
                }
            }
            if let Some(outcome) = decision.outcome() {
                return outcome.clone();
            }
            now.instant = decision.poll_timeout().expect("it waits for time");
            decision.handle_timeout(now);
        }
    }

    fn decide(&mut self, when: (Now, &Identity), holders: Holders, edit: Edit, reach: Reach<'_>) -> Decided {
        let terms = (edit.key.clone(), vec![edit]);
        let decision = Decision::new(self.proposer(when.1), holders, terms, (when.0, Rng::from_number(3)));
        self.run(when, decision, reach, &|_, _, answer| answer)
    }

    fn refresh(&mut self, when: (Now, &Identity), holders: Holders, key: &[u8]) -> Decided {
        let proposer = self.proposer(when.1);
        let chance = (when.0, Rng::from_number(4));
        let decision = Decision::refresh(proposer, holders, key.to_vec(), chance);
        self.run(when, decision, &|_, _| true, &|_, _, answer| answer)
    }

    /// The members that a holder has on disk: how many before, and who now.
    fn members(&self, place: usize, key: &[u8]) -> (usize, Vec<NodeId>) {
        let row_key = [b"r", key].concat();
        let row = read_row(&row_key, &self.homes[place].disk[&row_key]).unwrap();
        let ReadRow::Register(row) = row else { panic!("{row:?}") };
        let members = row.promise.members.unwrap();
        (members.before().len(), members.now().collect())
    }
}

fn at_start() -> Now {
    at(0)
}

fn acquire(key: &[u8]) -> Edit {
    let what = What::Lease { action: LeaseAction::Acquire, lasts: Duration::from_secs(30), token: 0 };
    Edit { key: key.to_vec(), expected: None, what }
}

fn set(key: &[u8], to: u64) -> Edit {
    Edit { key: key.to_vec(), expected: None, what: What::Set(number(to)) }
}

fn is_done(decided: &Decided) -> bool {
    matches!(decided, Decided::Done { .. })
}

/// The bytes of identities in ascending order, one after the other.
fn in_order(ids: impl Iterator<Item = NodeId>) -> Vec<u8> {
    let ids: BTreeSet<NodeId> = ids.collect();
    ids.iter().flat_map(|id| id.0).collect()
}

fn everybody(_: Round, _: usize) -> bool {
    true
}

/// Of nine holders one proposer cannot reach two, and finds seven; its lock gets to four of these. Another finds all nine, and five of
/// them answer: of seven and of nine that would be majorities, which do not overlap. Now both count nine.
/// spec: p2p/members
#[test]
fn two_of_nine_that_are_not_found_make_no_second_lock() {
    let key = name("lock");
    let (one, other) = (identity(1), identity(2));
    let of_seven = |round, place| match round {
        Round::Prepare => place < 7,
        Round::Accept | Round::Over => place < 4,
    };
    let of_nine = |_, place| place >= 4;
    for is_known in [false, true] {
        let mut ring = Ring::new(9);
        let found = Ring::ids(0..7);
        // That the two were heard of is all that there is to go by: nobody has decided anything yet.
        let known = if is_known { Ring::ids(0..9) } else { found.clone() };
        let holders = Holders { found, known, ..Holders::default() };
        let first = ring.decide((at(0), &one), holders, acquire(&key), &of_seven);
        let all = Holders::all(Ring::ids(0..9));
        let second = ring.decide((at(1_000), &other), all, acquire(&key), &of_nine);
        assert!(is_done(&second), "{second:?}");
        assert_eq!(is_done(&first), !is_known, "{first:?}");
    }
}

/// Whoever begins a register hears from those that it asks who else may have begun it, and asks these, too: who is cut off with three
/// of nine begins nothing, however little it knows itself.
/// spec: p2p/members, p2p/lately
#[test]
fn a_register_is_begun_with_most_of_those_that_anybody_remembers() {
    let key = name("register");
    let contact = |place: usize| {
        let endpoint = ([10, 0, 0, place as u8], 4_000).into();
        Contact::sign(&identity(100 + place as u8), &NETWORK, (1, at(0).wall), &[endpoint])
    };
    let table = Table::new(contact(0).id(), Space::new(256), 16);
    let known = Known::new(&table, Space::new(256), (&contact(0), Vec::new()));
    let known = Arc::new(known.with_lately((1..9).map(contact).collect()));
    for remember in [0, 1, 3] {
        let mut ring = Ring::new(9);
        ring.homes.iter_mut().take(remember).for_each(|home| home.holder.on_known(&known));
        let near = || Holders::all(Ring::ids(0..3));
        let alone = ring.decide((at(0), &identity(1)), near(), set(&key, 1), &|_, place| place < 3);
        assert_eq!(is_done(&alone), remember == 0, "{alone:?}");
        // More answer than its lookup found.
        let most = ring.decide((at(1_000), &identity(1)), near(), set(&key, 1), &|_, place| place < 5);
        assert!(is_done(&most), "{most:?}");
        assert_eq!(ring.members(0, &key).1.len(), if remember == 0 { 3 } else { 9 });
    }
}

/// What one of eight tells alone of who is around is not believed: it could keep anything from being begun.
/// spec: p2p/members
#[test]
fn nodes_that_one_of_many_tells_of_keep_nothing_from_being_begun() {
    let key = name("register");
    let liar = |place: usize, question: &Question, answer: Answer| {
        if place != 0 || round_of(question) != Round::Prepare {
            return answer;
        }
        let others = in_order((0..16).map(|number| identity(200 + number).id()));
        let Ok(Ack::Stored(found, Some(promise))) = Ack::parse(&answer.payload) else { panic!("{answer:?}") };
        let members = Members::new(&[], &others).ok();
        let told = Ack::Stored(found, Some(Promise { members, ..promise }));
        Answer { is_ack: true, payload: encode(4_096, |out| told.write(out)) }
    };
    let mut ring = Ring::new(9);
    let terms = (key.clone(), vec![set(&key, 1)]);
    let near = Holders::all(Ring::ids(0..9));
    let decision = Decision::new(ring.proposer(&identity(1)), near, terms, (at(0), Rng::from_number(3)));
    let decided = ring.run((at(0), &identity(1)), decision, &everybody, &liar);
    assert!(is_done(&decided), "{decided:?}");
}

/// Once something was decided its members are asked whoever is found: in a network in two only the side with most of them decides, and
/// what it decided is known when the network is one again.
/// spec: p2p/members
#[test]
fn of_two_halves_one_decides() {
    let key = name("lock");
    let mut ring = Ring::new(9);
    let (first, one, other) = (identity(1), identity(2), identity(3));
    let whole = || Holders::all(Ring::ids(0..9));
    let left = |_, place| place < 5;
    let right = |_, place| place >= 5;
    assert!(is_done(&ring.decide((at(0), &first), whole(), set(&key, 1), &everybody)));
    // Each side has forgotten the other.
    let near = Holders::all(Ring::ids(5..9));
    let lost = ring.decide((at(1_000), &other), near, acquire(&key), &right);
    assert_eq!(lost, Decided::Unreached);
    let near = Holders::all(Ring::ids(0..5));
    let taken = ring.decide((at(2_000), &one), near.clone(), acquire(&key), &left);
    assert!(is_done(&taken), "{taken:?}");
    assert_eq!(ring.members(0, &key), (9, Ring::ids_in_order(0..5)));
    assert!(is_done(&ring.decide((at(2_500), &one), near, acquire(&key), &left)).eq(&false), "it has it");
    let late = ring.decide((at(3_000), &other), whole(), acquire(&key), &everybody);
    let Decided::Refused { reason: Reason::Leased, state } = late else { panic!("{late:?}") };
    assert_eq!(state[&key].lease.unwrap().holder, one.id());
}

impl Ring {
    fn ids_in_order(places: impl IntoIterator<Item = usize>) -> Vec<NodeId> {
        let mut ids = Self::ids(places);
        ids.sort_unstable();
        ids
    }
}

/// Holders that were replaced by and by: every decision takes those along that are there, and none of the first is needed at the end.
/// When a majority goes at once nothing is decided any more, until they are back.
/// spec: p2p/members
#[test]
fn members_follow_those_that_are_there() {
    let key = name("k");
    let mut ring = Ring::new(14);
    let by = identity(1);
    for step in 0..10 {
        let there = |_, place: usize| (step..step + 5).contains(&place);
        let holders = Holders::all(Ring::ids(step..step + 5));
        let done = ring.decide((at(1_000 * step as u64), &by), holders, set(&key, step as u64), &there);
        assert!(is_done(&done), "step {step}: {done:?}");
    }
    let there = |_, place: usize| place >= 12;
    let few = Holders::all(Ring::ids(12..14));
    let stuck = ring.decide((at(60_000), &by), few.clone(), set(&key, 99), &there);
    assert_eq!(stuck, Decided::Unreached, "two of five are left");
    let done = ring.decide((at(120_000), &by), few, set(&key, 99), &everybody);
    assert!(is_done(&done), "they are asked though nobody found them: {done:?}");
}

/// A liar's promise: an old state under a ballot above all others, and members that nobody has ever heard of.
fn lie(
    ballot: Ballot,
    (key_bytes, value_bytes, record): (&[u8], &[u8], &[u8]),
    members: Members<'_>,
) -> Answer {
    let row = Row {
        key: key(key_bytes),
        value: value(value_bytes),
        record: ValueRecord::parse(record).ok(),
        lease: None,
        left_ms: 0,
    };
    let rows = encoded(|out| Rows::write_new(out, &[row]));
    let rows = Rows::parse(Encoded::parse(&rows).unwrap()).unwrap();
    let accepted = Some(Ballot { counter: ballot.counter - 1, proposer: NodeId([0xff; 32]) });
    let promise = Promise { promised: ballot, accepted, is_settled: true, rows, members: Some(members) };
    let found = Found { key: row.key, value: Encoded::NIL, metadata: Metadata::default() };
    Answer { is_ack: true, payload: encoded(|out| Ack::Stored(found, Some(promise)).write(out)) }
}

/// A holder that tells of an old state under a high ballot, with members that do not exist or with itself alone, neither stops the
/// others nor takes them back nor makes do with fewer.
/// spec: p2p/members
#[test]
fn a_liars_members_are_passed_over() {
    let (key, one) = (name("k"), number(1));
    let by = identity(1);
    let old = Says::nobodys(&key, 1).signed(&identity(7), &one);
    let liar = 4;
    let bogus: Vec<u8> = (1..=16_u8).flat_map(|byte| [byte; 32]).collect();
    let own = Ring::ids([liar])[0].0;
    for told in [&bogus[..], &own[..]] {
        let mut ring = Ring::new(5);
        let all = || Holders::all(Ring::ids(0..5));
        assert!(is_done(&ring.decide((at(0), &by), all(), set(&key, 1), &everybody)));
        assert!(is_done(&ring.decide((at(1_000), &by), all(), set(&key, 2), &everybody)));
        let told = Members::new(told, told).unwrap();
        let tell = |place: usize, question: &Question, honest: Answer| {
            let Ok(Request::Store(store)) = Request::parse(Operation::Store, &question.arguments) else {
                panic!("a store")
            };
            match store.options.prepare.filter(|_| place == liar && !store.options.is_over) {
                Some(ballot) => lie(ballot, (&key, &one, &old), told),
                None => honest,
            }
        };
        let expected = Some(Expectation { sequence: 2, value_hash: value_hash(value(&number(2))) });
        let terms = (key.clone(), vec![Edit { expected, ..set(&key, 3) }]);
        let decision = Decision::new(ring.proposer(&by), all(), terms, (at(2_000), Rng::from_number(1)));
        let done = ring.run((at(2_000), &by), decision, &everybody, &tell);
        assert!(is_done(&done), "{done:?}");
        assert_eq!(ring.members(0, &key).1, Ring::ids_in_order(0..5));
        // With two of the others away there is no majority without the liar, and it does not become one by itself.
        let terms = (key.clone(), vec![set(&key, 4)]);
        let few = Holders::all(Ring::ids(3..5));
        let decision = Decision::new(ring.proposer(&by), few, terms, (at(3_000), Rng::from_number(1)));
        let stuck = ring.run((at(3_000), &by), decision, &|_, place| place >= 3, &tell);
        assert!(!is_done(&stuck), "{stuck:?}");
    }
}

/// Where nothing was decided, or the last proposal got to few, a liar's members that are not there stop nobody either.
/// spec: p2p/members
#[test]
fn members_that_nobody_knows_stop_nobody() {
    let (key, one) = (name("k"), number(1));
    let by = identity(1);
    let old = Says::nobodys(&key, 1).signed(&identity(7), &one);
    let bogus: Vec<u8> = (1..=16_u8).flat_map(|byte| [byte; 32]).collect();
    let told = Members::new(&bogus, &bogus).unwrap();
    let all = || Holders::all(Ring::ids(0..9));
    let tell = |place: usize, question: &Question, honest: Answer| {
        let Ok(Request::Store(store)) = Request::parse(Operation::Store, &question.arguments) else {
            panic!("a store")
        };
        match store.options.prepare.filter(|_| place == 8 && !store.options.is_over) {
            Some(ballot) => lie(ballot, (&key, &one, &old), told),
            None => honest,
        }
    };
    for got_to in [0, 1, 2] {
        let mut ring = Ring::new(9);
        let few = |round, place| round == Round::Prepare || place < got_to;
        let begun = ring.decide((at(0), &by), all(), set(&key, 1), &few);
        assert!(!is_done(&begun), "{begun:?}");
        let terms = (key.clone(), vec![set(&key, 2)]);
        let decision = Decision::new(ring.proposer(&by), all(), terms, (at(60_000), Rng::from_number(1)));
        let done = ring.run((at(60_000), &by), decision, &everybody, &tell);
        let Decided::Done { state, .. } = done else { panic!("{got_to}: {done:?}") };
        assert_eq!(&*state[&key].value, number(2));
        assert_eq!(ring.members(0, &key).1, Ring::ids_in_order(0..9));
    }
    // Members that are known and away are another matter: they may have decided it.
    let mut ring = Ring::new(5);
    let five = Holders::all(Ring::ids(0..5));
    assert!(is_done(&ring.decide((at(0), &by), five, set(&key, 1), &|_, place| place < 3)));
    let near = Holders { found: Ring::ids(2..5), known: Ring::ids(0..5), ..Holders::default() };
    let stuck = ring.decide((at(1_000), &by), near.clone(), set(&key, 2), &|_, place| place > 2);
    assert_eq!(stuck, Decided::Unreached, "two of five");
    let done = ring.decide((at(60_000), &by), near, set(&key, 2), &|_, place| place > 1);
    let Decided::Done { state, .. } = done else { panic!("{done:?}") };
    assert_eq!(state[&key].record().unwrap().fields.sequence, 2, "one that was told of it is enough");
}

/// What a holder lets a proposer name: the first members are nobody's successors, later ones come after those that there are, and
/// more than half stay.
/// spec: p2p/members
/// spec: p2p/register-rules
#[test]
fn members_are_not_named_at_will() {
    let (key, by) = (name("k"), identity(1));
    let mut home = Home::new(setup(100), at(0));
    let ids = |places: &[usize]| -> Vec<u8> {
        Ring::ids_in_order(places.iter().copied()).iter().flat_map(|id| id.0).collect()
    };
    let mut counter = 0;
    let mut accept = |base: Option<u64>, before: &[usize], now: &[usize]| {
        counter += 1;
        let ballot = |counter| Ballot { counter: START + counter, proposer: by.id() };
        let value_bytes = number(counter);
        let record = Says::nobodys(&key, counter).signed(&by, &value_bytes);
        let row = Row {
            key: super::kit::key(&key),
            value: value(&value_bytes),
            record: ValueRecord::parse(&record).ok(),
            lease: None,
            left_ms: 0,
        };
        let rows = encoded(|out| Rows::write_new(out, &[row]));
        let rows = Rows::parse(Encoded::parse(&rows).unwrap()).ok();
        let (before, now) = (ids(before), ids(now));
        let members = Members::new(&before, &now).ok();
        let (accept, base) = (Some(ballot(counter)), base.map(ballot));
        let options = StoreOptions { accept, base, rows, members, ..StoreOptions::default() };
        home.reason(at(0), peer(1), &store(&key, &[0xc0], options))
    };
    let no = Some(Reason::NotAllowed);
    assert_eq!(accept(None, &[0, 1, 2], &[0, 1, 2, 3]), no, "the first come after nobody");
    assert_eq!(accept(None, &[], &[]), Some(Reason::Malformed), "nobody");
    assert_eq!(accept(None, &[0, 1, 2, 3], &[0, 1, 2, 3]), None);
    assert_eq!(accept(Some(3), &[0, 1, 2], &[0, 1, 2]), no, "fewer out of nothing");
    assert_eq!(accept(Some(3), &[0, 1, 2, 3], &[0, 1, 4, 5]), no, "half of them go");
    assert_eq!(accept(Some(3), &[0, 1, 2, 3], &[0, 1, 2, 5]), None);
    assert_eq!(accept(Some(6), &[0, 1, 2, 3], &[0, 1, 2, 6]), no, "those before are not those now");
    assert_eq!(accept(Some(6), &[0, 1, 2, 3], &[0, 1, 2, 5]), None, "they stay as they are");
    assert_eq!(accept(Some(8), &[0, 1, 2, 5], &[0, 2, 5, 6]), None);
}

/// A member that may not write a register brings it to whoever has come since, when it has been quiet for a while and not twice in a
/// row; it changes nothing. Whoever is no member does not.
/// spec: p2p/refresh
#[test]
fn members_bring_on_what_was_decided() {
    let key = name("k");
    let mut ring = Ring::new(8);
    let (owner, stranger) = (identity(1), identity(9));
    let (member, another) = (identity(100), identity(103));
    ring.owner = owner.id();
    let five = Holders::all(Ring::ids(0..5));
    assert!(is_done(&ring.decide((at(0), &owner), five, set(&key, 1), &everybody)));
    ring.owner = NOBODY;
    let later = || Holders::all(Ring::ids(3..8).into_iter().chain(Ring::ids([0])).collect());
    let quiet = REFRESH_QUIET.as_millis() as u64;
    let refused = |decided: &Decided| matches!(decided, Decided::Refused { reason: Reason::NotAllowed, .. });
    let early = ring.refresh((at(quiet - 1), &member), later(), &key);
    assert!(!is_done(&early), "{early:?}");
    let others = ring.refresh((at(quiet), &stranger), Holders::all(Ring::ids(0..5)), &key);
    assert!(refused(&others), "{others:?}");
    let written = ring.decide((at(quiet), &member), Holders::all(Ring::ids(0..5)), set(&key, 2), &everybody);
    assert!(!is_done(&written), "{written:?}");
    let mut when = 2 * quiet;
    let done = ring.refresh((at(when), &member), later(), &key);
    assert!(is_done(&done), "{done:?}");
    assert_eq!(ring.homes[7].value(at(when), &key), Some(number(1)));
    let (before, now) = ring.members(7, &key);
    assert!(before == 5 && now.contains(&identity(107).id()) && now.len() == 6, "{before} {now:?}");
    when += quiet;
    let again = ring.refresh((at(when), &member), Holders::all(Ring::ids(0..4)), &key);
    assert!(!is_done(&again), "not twice in a row: {again:?}");
    when += quiet;
    assert!(is_done(&ring.refresh((at(when), &another), later(), &key)));
    assert_eq!(ring.members(7, &key).0, 6);
    // The owner goes on from there; and a holder by itself knows when it is time.
    ring.owner = owner.id();
    when += 1_000;
    assert!(is_done(&ring.decide((at(when), &owner), later(), set(&key, 3), &everybody)));
    let hour = (REPUBLISH_INTERVAL + REPUBLISH_SPREAD).as_millis() as u64;
    let home = &mut ring.homes[7];
    home.tick(at(when + 1_000));
    assert!(home.refreshes.is_empty());
    home.tick(at(when + hour));
    assert_eq!(home.refreshes, [key]);
}

/// A decision that is refused keeps nobody away: those who promised are told that nothing comes of it.
/// spec: p2p/promise-given-back
#[test]
fn a_refused_decision_gives_its_promises_back() {
    let (key, by, other) = (name("k"), identity(1), identity(2));
    let mut ring = Ring::new(3);
    let record = Says::nobodys(&key, 1).signed(&other, &number(1));
    let plain = store(&key, &number(1), with_record(&record));
    for home in &mut ring.homes {
        assert_eq!(home.reason(at(0), peer(2), &plain), None);
    }
    let nothing = Some(Expectation { sequence: 0, value_hash: value_hash(Encoded::NIL) });
    let cas = || Edit { expected: nothing, ..set(&key, 2) };
    let all = || Holders::all(Ring::ids(0..3));
    let next = Says::nobodys(&key, 2).signed(&other, &number(3));
    let next = store(&key, &number(3), with_record(&next));
    // Where that word is lost a plain store waits until the promise is old.
    let refused = ring.decide((at(1), &by), all(), cas(), &|round, place| round != Round::Over || place > 0);
    assert!(matches!(refused, Decided::Refused { reason: Reason::Mismatch, .. }), "{refused:?}");
    // The decision had its outcome before anybody was told.
    let ballot = Ballot { counter: at(1).wall.0, proposer: by.id() };
    let over = |ballot| {
        let options = StoreOptions { prepare: Some(ballot), is_over: true, ..StoreOptions::default() };
        store(&key, &[0xc0], options)
    };
    let busy = Some(Reason::Busy);
    assert_eq!(ring.homes[0].reason(at(2), peer(2), &next), busy);
    assert_eq!(ring.homes[0].reason(at(2), peer(2), &over(ballot)), None);
    assert_eq!(ring.homes[0].reason(at(2), peer(2), &next), busy, "not by another's word");
    let lower = Ballot { counter: ballot.counter - 1, ..ballot };
    assert_eq!(ring.homes[0].reason(at(2), peer(1), &over(lower)), None);
    assert_eq!(ring.homes[0].reason(at(2), peer(2), &next), busy, "nor by that of an earlier ballot");
    assert_eq!(ring.homes[0].reason(at(2), peer(1), &over(ballot)), None);
    assert_eq!(ring.homes[0].reason(at(2), peer(2), &next), None);
}

/// A decision that ends without anything asks those who promised once more.
/// spec: p2p/promise-given-back
#[test]
fn whoever_promised_is_told_that_it_is_over() {
    let (key, by) = (name("k"), identity(1));
    let mut ring = Ring::new(3);
    let terms = (key.clone(), Vec::new());
    let all = Holders::all(Ring::ids(0..3));
    let mut decision = Decision::new(ring.proposer(&by), all, terms, (at(0), Rng::from_number(1)));
    let mut rounds = Vec::new();
    while let Some(question) = decision.poll_question() {
        rounds.push(round_of(&question));
        let place = (0..3).find(|at| Ring::ids([*at]) == [question.to]).unwrap();
        let asker = Asker { peer: by.id(), from: [10, 0, 0, 1].into(), request: 0 };
        let answer = ring.homes[place].told(at(0), asker, &question.arguments);
        decision.on_answer(at(0), question.number, &answer);
    }
    assert!(decision.outcome().is_some_and(is_done));
    assert_eq!(rounds, [[Round::Prepare; 3], [Round::Over; 3]].concat());
    let record = Says::nobodys(&key, 1).signed(&identity(2), &number(1));
    let plain = store(&key, &number(1), with_record(&record));
    for home in &mut ring.homes {
        assert_eq!(home.reason(at(1), peer(2), &plain), None, "it keeps no store away");
    }
}

/// A register that was written before members were told is read back, and gets them with the next decision.
/// spec: p2p/value-rows
#[test]
fn rows_without_members_are_read() {
    let (key, by) = (name("k"), identity(1));
    let mut ring = Ring::new(3);
    let all = || Holders::all(Ring::ids(0..3));
    assert!(is_done(&ring.decide((at(0), &by), all(), set(&key, 1), &everybody)));
    let row_key = [b"r", &key[..]].concat();
    for (home, number) in ring.homes.iter_mut().zip(100..) {
        let row = home.disk.get_mut(&row_key).unwrap();
        // Version 1, four elements, nothing of members at the end.
        let Ok(ReadRow::Register(read)) = read_row(&row_key, row) else { panic!("a register") };
        let bytes = encoded(|out| Promise { members: None, ..read.promise }.write(out));
        assert_eq!((bytes[0], bytes.last()), (0x95, Some(&0xc0)));
        *row = [&[1, 0x94], &bytes[1..bytes.len() - 1]].concat();
        assert_eq!(home.restart(setup(number), at(1)).bad, 0);
    }
    let expected = Some(Expectation { sequence: 1, value_hash: value_hash(value(&number(1))) });
    let edit = Edit { expected, ..set(&key, 2) };
    let done = ring.decide((at(1_000), &by), all(), edit, &everybody);
    assert!(is_done(&done), "{done:?}");
    assert_eq!(ring.members(0, &key), (3, Ring::ids_in_order(0..3)));
}
