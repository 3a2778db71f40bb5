//! Each bound of a hub, met on purpose and at its full size; keys that the node had.

use dunlin_codec::ids::SessionId;
use dunlin_codec::message::{Freshness, HOPS_MAX, Operation, SignedHeader, SignedMessageId};
use dunlin_codec::msgpack::write;
use zeroize::Zeroizing;

use super::*;
use crate::budget::Rate;
use crate::dht::values::GetWish;
use crate::gossip::{Brought, sign};
use crate::identity::change::SignedChange;
use crate::limits::{
    BROADCASTS_OPEN_MAX, ERRANDS_MAX, KEY_CHANGE_LIFE, LETTER_LIFE, LETTERS_OPEN_MAX, LETTERS_PASSED_MAX,
    LOOKUP_PATHS, PREVIOUS_KEYS_ANSWERED_MAX, REQUEST_TIMEOUT, RUMOUR_LEN_MAX, SEARCHES_MAX,
    SECURE_LOOKUP_PATHS,
};
use crate::messages::sealing;
use crate::neighbours::{Failure, HUB};
use crate::note::Question;
use crate::outcome::Outcome;
use crate::placement::PlacementSeeds;
use crate::session::aws_lc::AwsLc;
use crate::session::crypto::{Crypto, TAG_LEN};
use crate::time::WallMillis;

const WALL: u64 = 1_760_000_000_000;
const NETWORK: Network = Network([7; 32]);

fn key(number: u32) -> Identity {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Identity::from_seed(seed)
}

fn at(after: Duration) -> Now {
    Now { instant: Instant::ZERO + after, wall: WallMillis(WALL + after.as_millis() as u64) }
}

fn hub_with(change: impl FnOnce(&mut Terms)) -> Hub {
    let own = key(0);
    let mut terms = Terms::new(own.id(), NETWORK, Constants::default(), "a test").unwrap();
    change(&mut terms);
    let placement = Placement::new(1, PlacementSeeds { steering: 1, keys: [2, 3] });
    let seat = Seat { shard: HUB, placement, endpoints: vec!["192.0.2.9:9".parse().unwrap()] };
    Hub::new(&own, &terms, &seat, (at(Duration::ZERO), Rng::from_number(1)))
}

fn hub() -> Hub {
    hub_with(|_| {})
}

fn remote(number: u32) -> SocketAddr {
    let [_, high, low, last] = number.to_be_bytes();
    SocketAddr::from(([10, high, low, last], 4_000))
}

/// There is a session with that peer.
fn up(hub: &mut Hub, number: u32) -> SessionId {
    let session = SessionId::new(0, number, 0);
    hub.on_note(Note::Up { session, peer: key(number).id(), remote: remote(number), ticket: None });
    session
}

/// So many nodes are in the table.
fn fill_table(hub: &mut Hub, count: u32) {
    for number in 1..=count {
        let contact = Contact::sign(&key(number), &NETWORK, (1, WallMillis(WALL)), &[remote(number)]);
        let id = contact.id();
        hub.table.on_told(Instant::ZERO, contact, id);
        hub.table.on_answer(Instant::ZERO, &id, remote(number));
    }
}

fn pass(hub: &mut Hub, after: Duration) {
    hub.begin(at(after));
    hub.on_time();
}

fn notes(hub: &mut Hub) -> Vec<Note> {
    core::iter::from_fn(|| hub.poll_note()).map(|(_, note)| note).collect()
}

fn notices(hub: &mut Hub) -> Vec<Notice> {
    core::iter::from_fn(|| hub.poll_notice()).collect()
}

/// A bin of so many bytes with its head.
fn value(len: usize) -> Vec<u8> {
    let mut room = vec![0; len];
    write::bin(&mut dunlin_codec::bytes::Writer::new(&mut room), &vec![7; len - 3]).unwrap();
    room
}

/// Says something to everybody; why not.
fn say(hub: &mut Hub, len: usize) -> Option<Failure> {
    let (ticket, payload) = (Ticket(1), value(len).into());
    hub.on_note(Note::Broadcast { ticket, operation: Operation::Shout, payload });
    notices(hub).into_iter().find_map(|notice| match notice {
        Notice::Broadcast { result: Err(failure), .. } => Some(failure),
        _ => None,
    })
}

/// What a node says itself is 8 KiB long at most, eight things at once and one a second: others take ten at once.
/// spec: p2p/broadcast
#[test]
fn own_words_keep_to_their_length_and_rate() {
    let mut hub = hub();
    assert!(matches!(say(&mut hub, RUMOUR_LEN_MAX + 1), Some(Failure::NotSayable)));
    for _ in 0..8 {
        assert!(say(&mut hub, RUMOUR_LEN_MAX).is_none());
    }
    assert!(matches!(say(&mut hub, 300), Some(Failure::Busy)));
    pass(&mut hub, Duration::from_secs(1));
    assert!(say(&mut hub, 300).is_none());
    assert!(matches!(say(&mut hub, 300), Some(Failure::Busy)));
}

/// Of 256 broadcasts it is not known yet on how many links they left: there is no other before one of them is settled.
/// spec: p2p/broadcast
#[test]
fn broadcasts_under_way_have_their_bound() {
    let mut hub = hub_with(|terms| terms.rumours.origin = Rate::UNLIMITED);
    let say_one = |hub: &mut Hub, ticket: u64| {
        hub.broadcast(Ticket(ticket), Operation::Shout, &value(300));
        notices(hub).iter().any(|notice| matches!(notice, Notice::Broadcast { result: Err(_), .. }))
    };
    assert!((0..BROADCASTS_OPEN_MAX as u64).all(|ticket| !say_one(&mut hub, ticket)));
    assert!(say_one(&mut hub, 1_000), "one too many");
    hub.on_note(Note::CarriedOn { ticket: Ticket(7), links: 3 });
    assert!(!say_one(&mut hub, 1_001) && say_one(&mut hub, 1_002));
    pass(&mut hub, REQUEST_TIMEOUT);
    notices(&mut hub);
    assert!(!say_one(&mut hub, 1_003));
    assert_eq!(BROADCASTS_OPEN_MAX, 256);
}

fn question(len: usize) -> Question {
    Question { operation: Operation::Whisper, payload: value(len).into(), wait: REQUEST_TIMEOUT }
}

/// Sends a letter of our own to a peer; why not.
fn whisper(hub: &mut Hub, ticket: u64, len: usize) -> Option<Failure> {
    hub.on_ephemeral(Zeroizing::new([ticket as u8; 32]));
    hub.whisper(key(1).id(), Ticket(ticket), &question(len));
    notices(hub).into_iter().find_map(|notice| match notice {
        Notice::Answered { result: Err(failure), .. } => Some(failure),
        _ => None,
    })
}

/// A letter is 8 KiB long at most once it is sealed; 256 wait for their answer, then there is no other until they run out.
/// spec: p2p/relayed-whisper
#[test]
fn own_letters_have_their_bounds() {
    let mut hub = hub();
    up(&mut hub, 1);
    let longest = RUMOUR_LEN_MAX - sealing::OVERHEAD_LEN;
    assert!(matches!(whisper(&mut hub, 999, longest + 1), Some(Failure::NotSayable)));
    for ticket in 0..LETTERS_OPEN_MAX as u64 {
        assert!(whisper(&mut hub, ticket, longest).is_none());
    }
    assert!(matches!(whisper(&mut hub, 1_000, 300), Some(Failure::Busy)));
    pass(&mut hub, REQUEST_TIMEOUT);
    let late = notices(&mut hub);
    let is_late = |notice: &&Notice| matches!(notice, Notice::Answered { result: Ok(Outcome::TimedOut), .. });
    assert_eq!((late.iter().filter(is_late).count(), LETTERS_OPEN_MAX), (LETTERS_OPEN_MAX, 256));
    assert!(whisper(&mut hub, 1_001, 300).is_none());
}

/// A letter of key 2's to that key, as a session brings it.
fn letter(to: &Identity, number: u32, now: Now) -> Brought {
    let from = key(2);
    let header = SignedHeader {
        operation: Operation::Whisper,
        is_sealed: true,
        from: from.id(),
        to: to.id(),
        freshness: Some(Freshness { time_ms: now.wall.0, instance: 3, count: number.into() }),
    };
    let mut payload = [&[0; sealing::FRONT_LEN][..], &value(300), &[0; TAG_LEN]].concat();
    let (pair, public) = (AwsLc::static_pair(&from), AwsLc::public_of(&to.id()).unwrap());
    let drawn = Zeroizing::new([number as u8; 32]);
    sealing::seal::<AwsLc>(&pair, public, (&header, &NETWORK), drawn, &mut payload);
    let mut id = SignedMessageId([0; 16]);
    id.0[..4].copy_from_slice(&number.to_be_bytes());
    let message = sign(&from, &NETWORK, &header, &payload);
    Brought { session: SessionId::new(0, 2, 0), peer: key(2).id(), hops: 0, id, message }
}

fn carried(hub: &mut Hub) -> usize {
    notes(hub).iter().filter(|note| matches!(note, Note::CarryOn { .. })).count()
}

/// Of 4,096 letters of others it is known where they came from: one more is not passed on before those are forgotten. None is
/// passed on that went through twenty nodes.
/// spec: p2p/relayed-whisper
#[test]
fn letters_of_others_have_their_bounds() {
    let mut hub = hub();
    up(&mut hub, 1);
    let template = letter(&key(1), 0, at(Duration::ZERO));
    let bring = |hub: &mut Hub, number: u32, hops: u8| {
        let mut id = template.id;
        id.0[..4].copy_from_slice(&number.to_be_bytes());
        let message = template.message.clone();
        hub.on_note(Note::Letter(Box::new(Brought { id, hops, message, ..template })));
    };
    bring(&mut hub, 900_000, HOPS_MAX - 1);
    assert_eq!(carried(&mut hub), 0, "by here it went through twenty");
    bring(&mut hub, 900_001, HOPS_MAX - 2);
    assert_eq!((carried(&mut hub), HOPS_MAX), (1, 20));
    for number in 2..LETTERS_PASSED_MAX as u32 + 10 {
        bring(&mut hub, number, 0);
    }
    assert_eq!((carried(&mut hub), LETTERS_PASSED_MAX), (LETTERS_PASSED_MAX - 2, 4_096));
    pass(&mut hub, LETTER_LIFE);
    notes(&mut hub);
    bring(&mut hub, 800_000, 0);
    assert_eq!(carried(&mut hub), 1);
}

/// 16,384 questions are under way at once.
/// spec: p2p/operations
#[test]
fn errands_have_their_bound() {
    let mut hub = hub();
    up(&mut hub, 1);
    let ask = |hub: &mut Hub, ticket: u64| {
        let question =
            Question { operation: Operation::Ping, payload: [0xc0].into(), wait: Duration::from_secs(5) };
        hub.on_note(Note::Ask { ticket: Ticket(ticket), peer: key(1).id(), question });
        notices(hub)
            .iter()
            .any(|notice| matches!(notice, Notice::Answered { result: Err(Failure::Busy), .. }))
    };
    assert!((0..ERRANDS_MAX as u64).all(|ticket| !ask(&mut hub, ticket)));
    assert!(ask(&mut hub, 20_000), "one too many");
    pass(&mut hub, Duration::from_secs(40));
    notices(&mut hub);
    assert!(!ask(&mut hub, 20_001));
    assert_eq!(ERRANDS_MAX, 16_384);
}

/// 64 searches are under way at once. A plain one goes over four paths, three questions on each; what is read goes over eight.
/// spec: p2p/lookup, p2p/get
#[test]
fn searches_have_their_bound_and_their_paths() {
    let calls = |hub: &mut Hub| notes(hub).iter().filter(|note| matches!(note, Note::Call { .. })).count();
    let mut reader = hub();
    fill_table(&mut reader, 200);
    let mut named = vec![0; 2];
    write::str(&mut dunlin_codec::bytes::Writer::new(&mut named), "k").unwrap();
    notes(&mut reader);
    let wish = Box::new(GetWish { key: named, owner: None, quorum: None });
    reader.on_note(Note::Get { ticket: Ticket(1), wish });
    assert_eq!((calls(&mut reader), SECURE_LOOKUP_PATHS), (3 * SECURE_LOOKUP_PATHS, 8));

    let mut hub = hub();
    fill_table(&mut hub, 200);
    notes(&mut hub);
    let search = |hub: &mut Hub, number: u8| {
        let place = Space::place(&NodeId([number; 32]));
        hub.on_note(Note::Search { ticket: Ticket(number.into()), place });
        notices(hub).iter().any(|notice| matches!(notice, Notice::Found { nodes: None, .. }))
    };
    assert!(!search(&mut hub, 0));
    assert_eq!((calls(&mut hub), LOOKUP_PATHS), (3 * LOOKUP_PATHS, 4));
    assert!((1..SEARCHES_MAX as u8).all(|number| !search(&mut hub, number)));
    assert!(search(&mut hub, 200), "one too many");
    assert_eq!(SEARCHES_MAX, 64);
}

/// Four links come in for each of the eight that a node opens; one that goes makes room.
/// spec: p2p/links
#[test]
fn inbound_links_have_their_bound() {
    let mut hub = hub();
    let mut ask = |number: u32, is_link: bool| {
        let (session, peer) = (SessionId::new(0, number, 0), key(number).id());
        hub.on_note(Note::LinkAsked { session, peer, request: 1, is_link });
        notes(&mut hub).iter().any(|note| matches!(note, Note::LinkDecided { is_granted: true, .. }))
    };
    assert!((1..=32).all(|number| ask(number, true)));
    assert!(!ask(33, true) && ask(5, true), "one that has it keeps it");
    assert!(ask(5, false) && ask(33, true) && !ask(34, true));
}

/// The node's key becomes the next one, so many hours after its start.
fn change_key(hub: &mut Hub, (from, to): (u32, u32), after: Duration) {
    hub.begin(at(after));
    let told = (to as u16, at(after).wall.0);
    let signed = SignedChange::sign((&key(from), &key(to)), &key(to + 1).id(), told);
    hub.on_new_key(key(to), Past::Changed(Box::new(signed)));
}

/// Who is told that a letter came: by which key.
fn acknowledged_by(hub: &mut Hub) -> Vec<NodeId> {
    let notes = notes(hub);
    let message = |note: &Note| match note {
        Note::CarryOn { message, .. } => Some(Arc::clone(message)),
        _ => None,
    };
    let messages = notes.iter().filter_map(message);
    let signed = |message: Arc<[u8]>| {
        let signed =
            dunlin_codec::message::Signed::parse(&mut dunlin_codec::bytes::Reader::new(&message)).unwrap();
        (signed.operation() == Operation::Ack).then(|| signed.from())
    };
    messages.filter_map(signed).collect()
}

/// A letter that was sealed to the key before is opened for a day, and that key says so; after it, and for keys that are no
/// more among the newest four, nothing is.
/// spec: p2p/previous-letter
#[test]
fn letters_to_the_key_before_are_opened_for_a_day() {
    let mut hub = hub();
    up(&mut hub, 2);
    change_key(&mut hub, (0, 100), Duration::ZERO);
    let is_heard = |hub: &mut Hub, number: u32, (to, after): (u32, Duration)| {
        hub.begin(at(after));
        notes(hub);
        hub.on_note(Note::Letter(Box::new(letter(&key(to), number, at(after)))));
        let heard = notices(hub).iter().filter(|notice| matches!(notice, Notice::Heard { .. })).count();
        let by = acknowledged_by(hub);
        assert!(by.is_empty() || by == [key(to).id()], "the key that was whispered to answers");
        assert_eq!(heard, by.len());
        heard == 1
    };
    let last = KEY_CHANGE_LIFE - Duration::from_secs(1);
    assert!(is_heard(&mut hub, 1, (0, Duration::ZERO)) && is_heard(&mut hub, 2, (100, Duration::ZERO)));
    assert!(!is_heard(&mut hub, 3, (50, Duration::ZERO)), "it never was ours");
    assert!(is_heard(&mut hub, 4, (0, last)) && !is_heard(&mut hub, 5, (0, KEY_CHANGE_LIFE)));
    assert!(is_heard(&mut hub, 6, (100, KEY_CHANGE_LIFE)));
    pass(&mut hub, KEY_CHANGE_LIFE);
    let mut now = KEY_CHANGE_LIFE;
    for to in 101..=105 {
        now += Duration::from_secs(3_600);
        change_key(&mut hub, (to - 1, to), now);
    }
    let heard = (100..=105).map(|to| is_heard(&mut hub, to, (to, now)));
    assert_eq!(heard.collect::<Vec<_>>(), [false, true, true, true, true, true]);
    assert_eq!(PREVIOUS_KEYS_ANSWERED_MAX, 4);
}

/// The same after a start under the new key.
/// spec: p2p/previous-letter
#[test]
fn a_start_under_a_new_key_opens_letters_to_the_one_before() {
    let mut hub = hub();
    up(&mut hub, 2);
    hub.answer_previous(key(50), Instant::ZERO + Duration::from_secs(60));
    for (number, after, is_heard) in [(1, 59, true), (2, 60, false)] {
        let now = at(Duration::from_secs(after));
        hub.begin(now);
        hub.on_note(Note::Letter(Box::new(letter(&key(50), number, now))));
        assert_eq!(!notices(&mut hub).is_empty(), is_heard);
    }
}
