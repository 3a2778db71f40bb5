//! The roll: a holder's list, and whoever calls it among holders that lie.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dunlin_codec::args::{Ack, Found, Metadata, Reason, Roll, RollKey, StoreOptions};
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::msgpack::write;

use super::super::roll::{Call, Plan, key_bytes};
use super::super::*;
use super::kit::*;
use crate::dht::contact::Contact;
use crate::identity::Identity;
use crate::limits::{ROLL_CHOSEN_MAX, ROLL_COUNT_MAX, ROLL_LIFE, ROLL_PREFIX_MAX};
use crate::rng::Rng;
use crate::time::{Now, WallMillis};

fn home() -> Home {
    Home::new(setup(1), at(0))
}

fn keyed(number: u32) -> Identity {
    let mut seed = [0x77; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Identity::from_seed(seed)
}

/// A node's record, made when the stories begin.
fn record(identity: &Identity, ip: [u8; 4], sequence: u64) -> Contact {
    Contact::sign(identity, &NETWORK, (sequence, WallMillis(START)), &[(ip, 7117).into()])
}

/// The arguments by which somebody would enter a record under a name.
fn entry(name: NodeId, record: &[u8]) -> Vec<u8> {
    let value = encoded(|out| write::bin(out, record));
    store(&key_bytes(RollKey::Of(name), &ROLL), &value, StoreOptions::default())
}

fn from(identity: &Identity, ip: [u8; 4]) -> Asker {
    Asker { peer: identity.id(), from: ip.into(), request: 1 }
}

/// A node enters itself as it should.
fn enter(home: &mut Home, now: Now, (number, ip): (u32, [u8; 4])) -> Option<Reason> {
    let identity = keyed(number);
    let record = record(&identity, ip, 1);
    home.reason(now, from(&identity, ip), &entry(identity.id(), record.bytes()))
}

/// Whom the holder tells of.
fn told(home: &mut Home, now: Now, asker: IpAddr) -> Vec<NodeId> {
    match home.holder.on_find(now, asker, &find(&key_bytes(RollKey::All, &ROLL))) {
        Finding::Nowhere(_) => Vec::new(),
        Finding::Answer(answer) => {
            let Ok(Ack::Value(found)) = Ack::parse(&answer.payload) else { panic!("{answer:?}") };
            assert_eq!(found.metadata, Metadata::default());
            Roll::parse(found.value).unwrap().iter().map(|record| record.fields.key).collect()
        }
    }
}

fn millis(duration: core::time::Duration) -> u64 {
    duration.as_millis() as u64
}

/// Only a node itself enters itself, from where its record says that it is, with a record that it signed for this network and
/// that somebody could call it by.
/// spec: p2p/roll-list, p2p/roll
#[test]
fn an_entry_is_its_nodes_own_word() {
    let mut home = home();
    let (one, two, ip) = (keyed(1), keyed(2), [8, 8, 8, 8]);
    let good = record(&one, ip, 5);
    let mut reason = |asker, name: NodeId, bytes: &[u8]| home.reason(at(0), asker, &entry(name, bytes));
    let refused = Some(Reason::NotAllowed);
    assert_eq!(reason(from(&two, ip), one.id(), good.bytes()), refused, "of somebody else");
    assert_eq!(reason(from(&one, [8, 8, 8, 9]), one.id(), good.bytes()), refused, "from elsewhere");
    assert_eq!(reason(from(&two, ip), two.id(), good.bytes()), refused, "under another's name");
    let shut = Contact::sign(&one, &NETWORK, (5, WallMillis(START)), &[]);
    assert_eq!(reason(from(&one, ip), one.id(), shut.bytes()), refused, "nobody could call it");
    let foreign = Contact::sign(&one, &Network([8; 32]), (5, WallMillis(START)), &[(ip, 7117).into()]);
    assert_eq!(reason(from(&one, ip), one.id(), foreign.bytes()), refused, "of another network");
    let over = Contact::sign(&one, &NETWORK, (5, WallMillis(START - 25 * HOUR)), &[(ip, 7117).into()]);
    assert_eq!(reason(from(&one, ip), one.id(), over.bytes()), refused, "a day old");
    let mut forged = good.bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(reason(from(&one, ip), one.id(), &forged), refused, "forged");
    assert_eq!(reason(from(&one, ip), one.id(), &[1, 2, 3]), Some(Reason::Malformed));
    assert_eq!(reason(from(&one, ip), one.id(), good.bytes()), None);
    assert_eq!(reason(from(&one, ip), one.id(), good.bytes()), None, "it is still there");
    assert_eq!(reason(from(&one, ip), one.id(), record(&one, ip, 4).bytes()), Some(Reason::StaleSequence));
    assert_eq!(told(&mut home, at(0), HERE), [one.id()]);
    assert!(home.disk.is_empty(), "it promises nothing");
    // The whole roll is nobody's to store, nor does it come with options.
    let key = key_bytes(RollKey::All, &ROLL);
    let value = encoded(|out| Roll::write_new(out, &[good.bytes()]));
    assert_eq!(home.reason(at(0), from(&one, ip), &store(&key, &value, StoreOptions::default())), refused);
    let lasting = StoreOptions { ttl_s: Some(9), ..StoreOptions::default() };
    let value = encoded(|out| write::bin(out, good.bytes()));
    let key = key_bytes(RollKey::Of(one.id()), &ROLL);
    assert_eq!(home.reason(at(0), from(&one, ip), &store(&key, &value, lasting)), refused);
}

/// What nobody renews is gone; those on public addresses hear of such alone; each node is told as often as any other.
/// spec: p2p/roll-list
#[test]
fn a_list_goes_round_and_forgets() {
    let mut home = home();
    for number in 0..40_u8 {
        let ip = if number < 20 { [20, number, 1, 1] } else { [10, number, 1, 1] };
        assert_eq!(enter(&mut home, at(number.into()), (number.into(), ip)), None);
    }
    let mut count: BTreeMap<NodeId, usize> = BTreeMap::new();
    for _ in 0..40 {
        let told = told(&mut home, at(100), HERE);
        assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), 16, "no node twice in one answer");
        told.into_iter().for_each(|id| *count.entry(id).or_default() += 1);
    }
    assert_eq!((count.len(), count.values().min(), count.values().max()), (40, Some(&16), Some(&16)));
    let public: BTreeSet<NodeId> = (0..20).map(|number| keyed(number).id()).collect();
    for _ in 0..10 {
        let told = told(&mut home, at(100), [9, 9, 9, 9].into());
        assert!(told.len() == 16 && told.iter().all(|id| public.contains(id)), "T10");
    }
    let life = millis(ROLL_LIFE);
    assert_eq!(enter(&mut home, at(life - 1), (7, [20, 7, 1, 1])), None);
    assert_eq!(told(&mut home, at(life + 38), HERE).len(), 2, "one was renewed, one was the last to come");
    assert_eq!(told(&mut home, at(life + 39), HERE), [keyed(7).id()]);
    assert_eq!(told(&mut home, at(2 * life), HERE), []);
}

/// Somebody with a hundred networks and many keys has two places for each of them, and puts nobody else out.
/// spec: p2p/roll-list
#[test]
fn few_addresses_have_few_places() {
    let mut home = home();
    const HONEST: u32 = 300;
    for number in 0..HONEST {
        let ip = [20, (number >> 8) as u8, number as u8, 1];
        assert_eq!(enter(&mut home, at(number.into()), (number, ip)), None);
    }
    for number in 0..2_000_u32 {
        let ip = [30, 1, (number % 100) as u8, (number / 100) as u8];
        assert_eq!(enter(&mut home, at(1_000 + u64::from(number)), (10_000 + number, ip)), None);
    }
    let all = |home: &mut Home| {
        let answers = (0..ROLL_COUNT_MAX.div_ceil(16) + 1).map(|_| told(home, at(9_000), HERE));
        answers.flatten().collect::<BTreeSet<NodeId>>()
    };
    let there = all(&mut home);
    assert_eq!(there.len(), HONEST as usize + 100 * ROLL_PREFIX_MAX);
    assert!((0..HONEST).all(|number| there.contains(&keyed(number).id())));
    // When it is full, whoever was heard of longest ago makes room.
    for number in HONEST..ROLL_COUNT_MAX as u32 {
        let ip = [20, (number >> 8) as u8, number as u8, 1];
        assert_eq!(enter(&mut home, at(5_000), (number, ip)), None);
    }
    let there = all(&mut home);
    assert_eq!(there.len(), ROLL_COUNT_MAX);
    assert!(!there.contains(&keyed(0).id()) && there.contains(&keyed(ROLL_COUNT_MAX as u32 - 1).id()));
}

fn plan() -> Plan {
    Plan { own: keyed(999).id(), network: NETWORK, hash: ROLL, now: WallMillis(START) }
}

fn answer(records: &[Contact]) -> Answer {
    let bytes: Vec<&[u8]> = records.iter().map(Contact::bytes).collect();
    let (key_bytes, roll) = (key_bytes(RollKey::All, &ROLL), encoded(|out| Roll::write_new(out, &bytes)));
    let found = Found { key: key(&key_bytes), value: value(&roll), metadata: Metadata::default() };
    Answer { is_ack: true, payload: encoded(|out| Ack::Value(found).write(out)) }
}

/// What is chosen of what these holders tell.
fn choose(answers: &[Answer], chance: u64) -> (Vec<Contact>, usize) {
    let ids = (0..answers.len()).map(|number| NodeId([number as u8; 32]));
    let mut call = Call::new(plan(), ids);
    while let Some(question) = call.poll_question() {
        assert!(!call.is_over());
        call.on_answer(question.number, &answers[usize::from(question.to.0[0])]);
    }
    assert!(call.is_over());
    let chosen = call.choose(&mut Rng::from_number(chance));
    (chosen, call.bad_count())
}

/// Records that are forged, over, of another network or of nobody are none; those of honest holders are chosen, once each, of
/// every network one before any has two.
/// spec: p2p/roll-call
#[test]
fn what_liars_tell_is_left_out() {
    let honest: Vec<Contact> =
        (0..24).map(|number| record(&keyed(number), [20, number as u8, 1, 1], 1)).collect();
    let foreign: Vec<Contact> = (100..116)
        .map(|number| {
            let endpoint = ([21, number as u8, 1, 1], 7117).into();
            Contact::sign(&keyed(number), &Network([9; 32]), (1, WallMillis(START)), &[endpoint])
        })
        .collect();
    let over: Vec<Contact> = (200..216)
        .map(|number| {
            let endpoint = ([22, number as u8, 1, 1], 7117).into();
            Contact::sign(&keyed(number), &NETWORK, (1, WallMillis(START - 25 * HOUR)), &[endpoint])
        })
        .collect();
    let shut: Vec<Contact> = (300..316)
        .map(|number| Contact::sign(&keyed(number), &NETWORK, (1, WallMillis(START)), &[]))
        .collect();
    let own = record(&keyed(999), [23, 1, 1, 1], 1);
    let mut nonsense = answer(&honest[..1]);
    nonsense.payload.pop();
    let refusal = Answer { is_ack: false, ..answer(&honest[..1]) };
    let answers = [
        answer(&honest[..16]),
        answer(&foreign),
        answer(&honest[8..]),
        answer(&over),
        answer(&shut),
        answer(&[own]),
        nonsense,
        refusal,
    ];
    let (chosen, bad) = choose(&answers, 5);
    let ids: BTreeSet<NodeId> = chosen.iter().map(Contact::id).collect();
    assert_eq!((ids.len(), chosen.len()), (24, 24));
    assert!(honest.iter().all(|contact| ids.contains(&contact.id())));
    assert_eq!(bad, 16 + 1, "those that are over, and one forged: such a holder is asked no further");
    // Sixteen of one network beside three others: those four come first.
    let near: Vec<Contact> =
        (400..416).map(|number| record(&keyed(number), [24, 1, 1, number as u8], 1)).collect();
    let (chosen, _) = choose(&[answer(&near), answer(&honest[..3])], 5);
    let first: BTreeSet<IpAddr> =
        chosen[..4].iter().map(|contact| contact.endpoint().unwrap().ip()).collect();
    assert_eq!(first.iter().filter(|ip| ip.to_string().starts_with("24.")).count(), 1);
    assert_eq!(chosen.len(), 19);
}

/// Of sixteen holders four tell of their own kind alone: a quarter of the links goes there, not more.
/// spec: p2p/roll-call
#[test]
fn links_go_wrong_as_often_as_holders_lie() {
    let honest: Vec<Contact> =
        (0..200).map(|number| record(&keyed(number), [20, number as u8, 1, 1], 1)).collect();
    let wrong: Vec<Contact> =
        (1_000..1_064).map(|number| record(&keyed(number), [30, number as u8, 1, 1], 1)).collect();
    let liars: BTreeSet<NodeId> = wrong.iter().map(Contact::id).collect();
    let answers: Vec<Answer> = (0..16)
        .map(|at| {
            if at < 4 {
                answer(&wrong[16 * at..][..16])
            } else {
                answer(&honest[12 * at..][..16.min(200 - 12 * at)])
            }
        })
        .collect();
    let (mut bad, mut all) = (0, 0);
    for chance in 0..200 {
        let (chosen, _) = choose(&answers, chance);
        assert_eq!(chosen.len(), ROLL_CHOSEN_MAX);
        bad += chosen[..8].iter().filter(|contact| liars.contains(&contact.id())).count();
        all += 8;
    }
    assert!(5 * bad > all && 10 * bad < 3 * all, "{bad} of {all} links");
}
