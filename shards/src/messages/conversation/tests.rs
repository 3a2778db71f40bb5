//! Two conversations over a wire that keeps every byte, and one with whoever writes what it likes.

use dunlin_codec::args::{FindValue, NODES_MAX, StoreNack, Subnet};
use dunlin_codec::ids::Address;
use dunlin_codec::label::Network;
use dunlin_codec::message::{
    DIRECT_CHANNEL, DirectMessages, EVERYBODY, Freshness, SIGNED_CHANNEL, Signed, SignedHeader,
};
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::Key;
use dunlin_codec::transmission::Transmission;
use proptest::prelude::*;

use super::*;
use crate::dht::space::Space;
use crate::limits::{FACTS_WAITING_MAX, OUTBOX_LEN_MAX, OWED_LIFE, REQUESTS_OPEN_MAX, REQUESTS_OWED_MAX};

mod limits;
mod succession;

const NETWORK: Network = Network([7; 32]);
const SECOND: Duration = Duration::from_secs(1);

fn terms(byte: u8) -> Terms {
    Terms::new(NodeId([byte; 32]), NETWORK, Constants::default(), "test").unwrap()
}

/// One end, and what went out of it.
struct End {
    bench: Bench,
    talk: Conversation,
    facts: Vec<Fact>,
    sent: Vec<(ChannelId, Vec<u8>)>,
}

impl End {
    fn new(terms: Terms, peer: u8) -> Self {
        let known = Known::nobody(terms.own, Space::new(256));
        let mut bench = Bench::new(terms, Arc::new(known));
        let talk = Conversation::begin(&mut bench, NodeId([peer; 32]), false);
        Self { bench, talk, facts: Vec::new(), sent: Vec::new() }
    }

    /// Everything that is ready: transmissions, then facts.
    fn poll(&mut self) -> Vec<(ChannelId, Vec<u8>)> {
        let mut out = Vec::new();
        let mut batch = Vec::new();
        while let Some(channel) = self.talk.poll_transmission(&mut out) {
            batch.push((channel, out.clone()));
        }
        self.sent.extend(batch.iter().cloned());
        self.facts.extend(core::iter::from_fn(|| self.talk.poll_fact()));
        batch
    }

    fn take(&mut self, channel: ChannelId, bytes: &[u8]) {
        loop {
            match self.talk.on_transmission(&mut self.bench, channel, bytes) {
                Taken::Done => return,
                Taken::Later(at) => self.bench.now = at,
            }
        }
    }

    /// Takes direct messages as a stranger may write them.
    fn hear(&mut self, messages: &[Direct<'_>]) {
        let mut body = vec![0; messages.iter().map(Direct::encoded_len).sum()];
        let mut out = Writer::new(&mut body);
        messages.iter().for_each(|message| message.write(&mut out).unwrap());
        self.take(DIRECT_CHANNEL, &wrapped(Compression::None, &body));
    }

    /// The direct messages that were sent, apart.
    fn said(&mut self) -> Vec<(Operation, u64, Vec<u8>)> {
        let batch = self.poll();
        let all =
            batch.iter().flat_map(|(_, bytes)| DirectMessages::new(Transmission::parse(bytes).unwrap().body));
        all.map(|message| message.map(|m| (m.operation, m.request, m.payload.to_vec())).unwrap()).collect()
    }

    /// Past the greeting, with a stranger.
    fn met(byte: u8) -> Self {
        let mut end = Self::new(terms(byte), 9);
        end.said();
        let setting = Setting::Subnet(end.bench.terms.subnet());
        let bytes = bytes_of(|out| setting.write(out));
        let option = dunlin_codec::args::SetOption { option: 2, setting: Encoded::parse(&bytes).unwrap() };
        let ask = bytes_of(|out| Request::SetConnectionOption(option).write(out));
        let ack = bytes_of(|out| Ack::SetConnectionOption(option).write(out));
        end.hear(&[direct(Operation::SetConnectionOption, 0, &ask), direct(Operation::Ack, 1, &ack)]);
        end.said();
        assert_eq!(end.facts, [Fact::Met]);
        end.facts.clear();
        end
    }
}

fn wrapped(compression: Compression, body: &[u8]) -> Vec<u8> {
    let mut room = vec![0; body.len() + 6];
    Transmission { compression, body }.write(&mut Writer::new(&mut room)).unwrap();
    room
}

fn bytes_of(write: impl Fn(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    written(&mut Vec::new(), write).unwrap().to_vec()
}

fn direct(operation: Operation, request: u64, payload: &[u8]) -> Direct<'_> {
    Direct { operation, is_sealed: false, request, payload }
}

fn text(text: &str) -> Vec<u8> {
    bytes_of(|out| dunlin_codec::msgpack::write::str(out, text))
}

/// What each end sends reaches the other until nobody says anything.
fn run(near: &mut End, far: &mut End) {
    loop {
        let (forth, back) = (near.poll(), far.poll());
        if forth.is_empty() && back.is_empty() {
            return;
        }
        forth.iter().for_each(|(channel, bytes)| far.take(*channel, bytes));
        back.iter().for_each(|(channel, bytes)| near.take(*channel, bytes));
    }
}

fn pair() -> (End, End) {
    let (mut near, mut far) = (End::new(terms(1), 2), End::new(terms(2), 1));
    run(&mut near, &mut far);
    assert_eq!((&near.facts[..], &far.facts[..]), (&[Fact::Met][..], &[Fact::Met][..]));
    near.facts.clear();
    far.facts.clear();
    (near, far)
}

/// The first words of both are their networks, and one exchange later they have met.
/// spec: p2p/operations, p2p/connection-options
#[test]
fn two_of_one_network_meet() {
    let (near, far) = pair();
    assert!(near.talk.is_met() && far.talk.is_met());
    assert_eq!((near.sent.len(), near.talk.open_count()), (2, 0), "a greeting, an answer");
    assert_eq!(far.talk.poll_timeout(), None);
}

/// Networks that differ in one number part: who sees it says NACK, both end for the same reason.
/// spec: p2p/connection-options
#[test]
fn two_networks_part_on_both_sides() {
    let other = |change: fn(&mut Terms)| {
        let mut terms = terms(2);
        change(&mut terms);
        terms
    };
    let others = [
        other(|terms| terms.constants.links = 7),
        other(|terms| terms.constants.replication = 8),
        other(|terms| terms.constants.parallel = 2),
        other(|terms| terms.constants.address_bits = 160),
        other(|terms| terms.transport = "udp".into()),
        other(|terms| terms.description = "another".into()),
    ];
    for other in others {
        let (mut near, mut far) = (End::new(terms(1), 2), End::new(other, 1));
        let question = Request::FindNode(Address([3; 32]));
        near.talk.ask(&mut near.bench, Ticket(5), &question, SECOND).unwrap();
        run(&mut near, &mut far);
        for end in [&mut near, &mut far] {
            assert_eq!(end.talk.poll_farewell(), Some(Farewell::OTHER_NETWORK));
            assert!(!end.talk.is_met());
        }
        assert_eq!(near.facts, [Fact::Answered { ticket: Ticket(5), outcome: Outcome::Over }]);
        assert_eq!(far.facts, [], "nothing is asked of a stranger");
        let again = near.talk.ask(&mut near.bench, Ticket(6), &question, SECOND);
        assert_eq!(again, Err(AskError::Nobody));
    }
}

/// The one that only hears the NACK parts too: the other may be of a version that sends none itself.
/// spec: p2p/connection-options
#[test]
fn a_nack_of_our_network_parts() {
    let mut end = End::new(terms(1), 9);
    let subnet = Subnet { links: 9, ..end.bench.terms.subnet() };
    let bytes = bytes_of(|out| Setting::Subnet(subnet).write(out));
    let option = dunlin_codec::args::SetOption { option: 2, setting: Encoded::parse(&bytes).unwrap() };
    let nack = bytes_of(|out| Nack::SetConnectionOption(option).write(out));
    end.hear(&[direct(Operation::Nack, 1, &nack)]);
    end.said();
    assert_eq!(end.talk.poll_farewell(), Some(Farewell::OTHER_NETWORK));
}

/// Whoever speaks without a greeting gets nothing; whoever never answers ours is no peer.
/// spec: p2p/connection-options
#[test]
fn a_peer_without_a_greeting_is_left() {
    let mut end = End::new(terms(1), 9);
    end.said();
    end.hear(&[direct(Operation::Ping, 5, &[0xc0]), direct(Operation::Custom, 6, &[0xc0])]);
    let said = end.said();
    assert_eq!(said.iter().map(|(operation, ..)| *operation).collect::<Vec<_>>(), [Operation::Nack; 2]);
    assert_eq!(end.facts, []);
    assert_eq!(end.talk.poll_farewell(), None);

    let mut end = End::new(terms(1), 9);
    end.said();
    let at = end.talk.poll_timeout().unwrap();
    end.talk.handle_timeout(at);
    assert_eq!(end.talk.poll_farewell(), Some(Farewell::NO_GREETING));
}

/// Every operation, asked by its code: what it is answered with, and who is to answer.
/// spec: p2p/operations
#[test]
fn each_operation_has_its_answer() {
    let mut end = End::met(1);
    let value = text("value");
    let refused = |operation: Operation, reason| bytes_of(|out| refusal(operation, reason).write(out));
    let answered = |end: &mut End, operation, payload: &[u8]| {
        end.hear(&[direct(operation, 77, payload)]);
        let said = end.said();
        assert!(said.iter().all(|(_, request, _)| *request == 77));
        said.first().map(|(operation, _, payload)| (*operation, payload.clone()))
    };
    let ack = |ack: Ack<'_>| Some((Operation::Ack, bytes_of(|out| ack.write(out))));

    assert_eq!(answered(&mut end, Operation::Ping, &[0xc0]), ack(Ack::Plain(Operation::Ping)));
    assert_eq!(answered(&mut end, Operation::Speak, &value), ack(Ack::Plain(Operation::Speak)));
    let id = inbound::direct_message_id(&NETWORK, &NodeId([9; 32]), &direct(Operation::Whisper, 0, &value));
    assert_eq!(answered(&mut end, Operation::Whisper, &value), ack(Ack::Whisper(id)));
    let told = |operation| Fact::Told { operation, payload: value.clone().into() };
    assert_eq!(end.facts, [told(Operation::Speak), told(Operation::Whisper)]);
    end.facts.clear();

    for operation in [
        Operation::Reserved12,
        Operation::Reserved13,
        Operation::Reserved14,
        Operation::Shout,
        Operation::Announce,
    ] {
        let no = Some((Operation::Nack, refused(operation, Reason::Unsupported)));
        assert_eq!(answered(&mut end, operation, &value), no, "{operation}");
    }
    for operation in [Operation::Ping, Operation::FindNode, Operation::FindValue, Operation::Store] {
        let no = Some((Operation::Nack, refused(operation, Reason::Malformed)));
        assert_eq!(answered(&mut end, operation, &value), no, "{operation}");
    }
    assert_eq!(end.facts, []);

    let address = Address([5; 32]);
    let question = bytes_of(|out| Request::FindNode(address).write(out));
    let nobody = bytes_of(|out| dunlin_codec::args::write_nodes(out, core::iter::empty::<&[u8]>()));
    assert_eq!(answered(&mut end, Operation::FindNode, &question), Some((Operation::Ack, nobody)));
    assert_eq!(end.facts, []);
}

/// The id of a direct message is what its signed form without freshness would have.
/// spec: p2p/whisper-id
#[test]
fn a_direct_whisper_has_the_id_of_its_words() {
    use sha2::{Digest, Sha256};
    let (from, payload) = (NodeId([4; 32]), text("words"));
    let header = SignedHeader {
        operation: Operation::Whisper,
        is_sealed: false,
        from,
        to: EVERYBODY,
        freshness: None,
    };
    let mut room = vec![0; header.encoded_len() + payload.len()];
    header.write(&mut Writer::new(&mut room), &payload).unwrap();
    let signed = Signed::parse(&mut dunlin_codec::bytes::Reader::new(&room)).unwrap();
    let hash = Sha256::digest(signed.id_input(&NETWORK).concat());
    let id = inbound::direct_message_id(&NETWORK, &from, &direct(Operation::Whisper, 3, &payload));
    assert_eq!(id.0, hash[..16]);
}

/// Questions meet their answers by id, in whatever order; late and unknown answers change nothing.
/// spec: p2p/operations
#[test]
fn answers_find_their_questions() {
    let (mut near, mut far) = pair();
    let key_bytes = text("key");
    let key = Key::new(Encoded::parse(&key_bytes).unwrap()).unwrap();
    let value = text("hello");
    let custom = Encoded::parse(&value).unwrap();
    let find = FindValue { address: Address([1; 32]), key };
    let questions = [
        Request::Ping,
        Request::FindNode(Address([2; 32])),
        Request::FindValue(find),
        Request::Custom(custom),
        Request::FindValue(find),
    ];
    for (at, question) in questions.iter().enumerate() {
        near.talk.ask(&mut near.bench, Ticket(at as u64), question, SECOND).unwrap();
    }
    run(&mut near, &mut far);
    assert_eq!(near.facts.len(), 2, "PING and FIND_NODE are answered at once");
    let asked: Vec<u64> = far
        .facts
        .drain(..)
        .map(|fact| if let Fact::Asked { request, .. } = fact { request } else { panic!("{fact:?}") })
        .collect();
    assert_eq!(asked.len(), 3);
    far.talk.reply(&mut far.bench, asked[1], Reply::Nack(custom));
    far.talk.refuse(&mut far.bench, asked[2], Reason::Busy);
    let nowhere = Finding::Nowhere(dunlin_codec::ids::Address([1; 32]));
    far.talk.answer_value(&mut far.bench, asked[0], &nowhere);
    far.talk.refuse(&mut far.bench, asked[0], Reason::Busy);
    run(&mut near, &mut far);

    let outcomes: Vec<(Ticket, Outcome)> = near
        .facts
        .drain(..)
        .map(|fact| if let Fact::Answered { ticket, outcome } = fact { (ticket, outcome) } else { panic!() })
        .collect();
    let order: Vec<u64> = outcomes.iter().map(|(ticket, _)| ticket.0).collect();
    assert_eq!(order, [0, 1, 3, 4, 2]);
    assert_eq!(outcomes[2].1.nack(), Some(Nack::Custom(custom)));
    assert_eq!(outcomes[3].1.nack(), Some(Nack::Plain(Operation::FindValue, Reason::Busy)));
    for of_nodes in [&outcomes[1].1, &outcomes[4].1] {
        assert!(matches!(of_nodes.ack(), Some(Ack::Nodes(nodes)) if nodes.count() == 0));
    }
    assert_eq!((near.talk.open_count(), near.talk.counts().answers_unknown), (0, 0), "one answer each");
}

/// spec: p2p/operations
#[test]
fn a_question_runs_out_and_its_late_answer_is_nothing() {
    let mut end = End::met(1);
    end.talk.ask(&mut end.bench, Ticket(4), &Request::Ping, SECOND).unwrap();
    let said = end.said();
    let at = end.talk.poll_timeout().unwrap();
    assert_eq!(at, end.bench.now + SECOND);
    end.talk.handle_timeout(at);
    end.said();
    assert_eq!(end.facts, [Fact::Answered { ticket: Ticket(4), outcome: Outcome::TimedOut }]);
    let ack = bytes_of(|out| Ack::Plain(Operation::Ping).write(out));
    end.hear(&[direct(Operation::Ack, said[0].1, &ack)]);
    end.said();
    assert_eq!((end.facts.len(), end.talk.counts().answers_unknown), (1, 1));
}

/// An answer to another operation than was asked is none.
#[test]
fn an_answer_of_another_kind_is_nonsense() {
    let mut end = End::met(1);
    let question = Request::FindNode(Address([1; 32]));
    end.talk.ask(&mut end.bench, Ticket(4), &question, SECOND).unwrap();
    let request = end.said()[0].1;
    let ack = bytes_of(|out| Ack::Plain(Operation::Ping).write(out));
    end.hear(&[direct(Operation::Ack, request, &ack)]);
    end.said();
    assert_eq!(end.facts, [Fact::Answered { ticket: Ticket(4), outcome: Outcome::Nonsense }]);
}

/// What is ready together travels in one transmission; what the peer reads is compressed when that pays.
/// spec: p2p/batching
#[test]
fn messages_share_a_transmission_and_its_compression() {
    let mut reads = terms(2);
    reads.reads = Methods::ALL;
    reads.prefers = Some(Compression::Zlib);
    let (mut near, mut far) = (End::new(terms(1), 2), End::new(reads, 1));
    run(&mut near, &mut far);
    assert_eq!(near.talk.peer_prefers(), Some(Compression::Zlib));
    (near.sent, far.sent) = (Vec::new(), Vec::new());
    let long = text(&"many words ".repeat(100));
    let value = Encoded::parse(&long).unwrap();
    for ticket in 0..5 {
        near.talk.ask(&mut near.bench, Ticket(ticket), &Request::Speak(value), SECOND).unwrap();
        far.talk.ask(&mut far.bench, Ticket(ticket), &Request::Speak(value), SECOND).unwrap();
    }
    run(&mut near, &mut far);
    let sent = |end: &End| {
        let (_, bytes) = &end.sent[0];
        (end.sent.len(), bytes.len() < 600, Transmission::parse(bytes).unwrap().compression)
    };
    assert_eq!(sent(&near), (2, true, Compression::Zlib), "five words together, then five answers");
    assert_eq!(sent(&far), (2, false, Compression::None), "nothing was offered");
    for end in [near, far] {
        let told = end.facts.iter().filter(|fact| matches!(fact, Fact::Told { .. })).count();
        let done =
            end.facts.iter().filter(|fact| matches!(fact, Fact::Answered { outcome: Outcome::Ack(_), .. }));
        assert_eq!((told, done.count()), (5, 5));
    }
}

/// A method that was not offered, a bomb, a broken body: the session ends, with its reason.
/// spec: p2p/effort
#[test]
fn a_bad_body_ends_the_conversation() {
    let mut zlib = Vec::new();
    assert!(crate::messages::compression::compress(Compression::Zlib, &[0x20; 4_096], &mut zlib));
    let cases = [
        (Methods::NONE, Compression::Zlib, zlib.clone(), Farewell::BAD_BODY),
        (Methods::ALL, Compression::Gzip, zlib, Farewell::BAD_BODY),
        (Methods::ALL, Compression::None, vec![0x22, 1, 0], Farewell::MALFORMED),
    ];
    for (reads, method, body, farewell) in cases {
        let mut end = End::met(1);
        end.bench.terms.reads = reads;
        end.take(DIRECT_CHANNEL, &wrapped(method, &body));
        end.said();
        assert_eq!(end.talk.poll_farewell(), Some(farewell));
    }
}

/// Compressed bodies that come too fast wait until the peer's share of the core is made good; others do not.
/// spec: p2p/effort
#[test]
fn a_peer_of_many_compressed_bodies_waits() {
    let mut end = End::met(1);
    end.bench.terms.reads = Methods::ALL;
    end.bench.terms.requests_per_second = 1 << 30;
    // Numbers: shorter by some factor, and no bomb.
    let words = text(&(0..40_000).map(|n| format!("{n} ")).collect::<String>());
    let message = direct(Operation::Custom, 0, &words);
    let mut body = vec![0; message.encoded_len()];
    message.write(&mut Writer::new(&mut body)).unwrap();
    let mut bz2 = Vec::new();
    assert!(crate::messages::compression::compress(Compression::Bz2, &body, &mut bz2));
    let bytes = wrapped(Compression::Bz2, &bz2);
    assert_eq!(end.talk.on_transmission(&mut end.bench, DIRECT_CHANNEL, &bytes), Taken::Done);
    let Taken::Later(at) = end.talk.on_transmission(&mut end.bench, DIRECT_CHANNEL, &bytes) else {
        panic!("230 kB of bz2 take longer than a peer's share");
    };
    assert!(at > end.bench.now && at < end.bench.now + SECOND);
    let plain = wrapped(Compression::None, &body);
    assert_eq!(end.talk.on_transmission(&mut end.bench, DIRECT_CHANNEL, &plain), Taken::Done);
    end.bench.now = at;
    assert_eq!(end.talk.on_transmission(&mut end.bench, DIRECT_CHANNEL, &bytes), Taken::Done);
    end.said();
    assert_eq!(end.facts.len(), 3);
}

/// A link is granted by whoever counts them, and carries broadcasts from then on; nothing else does.
/// spec: p2p/links
#[test]
fn only_links_carry_broadcasts() {
    let (mut near, mut far) = pair();
    let shout = SignedHeader {
        operation: Operation::Shout,
        is_sealed: false,
        from: NodeId([1; 32]),
        to: EVERYBODY,
        freshness: Some(Freshness { time_ms: 1, instance: 2, count: 3 }),
    };
    let bytes_of_header = |header: &SignedHeader| {
        let mut room = vec![0; header.encoded_len() + 1];
        header.write(&mut Writer::new(&mut room), &[0xc0]).unwrap();
        room
    };
    let carry = |near: &mut End, far: &mut End, header: &SignedHeader| {
        let bytes = bytes_of_header(header);
        let message = Signed::parse(&mut dunlin_codec::bytes::Reader::new(&bytes)).unwrap();
        near.talk.carry(&Carried { hops: 1, message }).unwrap();
        run(near, far);
        core::mem::take(&mut far.facts)
    };
    let carried = |header: &SignedHeader| {
        let bytes = bytes_of_header(header);
        let message = Signed::parse(&mut dunlin_codec::bytes::Reader::new(&bytes)).unwrap();
        let id = crate::gossip::message_id(&NETWORK, &message);
        Fact::Carried { hops: 1, id, message: bytes.into() }
    };
    assert_eq!(carry(&mut near, &mut far, &shout), []);
    let whisper = SignedHeader { operation: Operation::Whisper, to: NodeId([2; 32]), ..shout };
    assert_eq!(carry(&mut near, &mut far, &whisper), [carried(&whisper)]);

    for (is_granted, expected) in [(false, vec![]), (true, vec![carried(&shout)])] {
        near.talk.ask_link(&mut near.bench, Ticket(1), true).unwrap();
        run(&mut near, &mut far);
        let Some(Fact::Asked { request, what: Asked::Link(true) }) = far.facts.pop() else { panic!() };
        far.talk.answer_link(&mut far.bench, request, true, is_granted);
        run(&mut near, &mut far);
        assert_eq!((near.talk.is_link(), far.talk.is_link()), (is_granted, is_granted));
        assert_eq!(carry(&mut near, &mut far, &shout), expected);
    }
    let stale = SignedHeader { freshness: None, ..shout };
    assert_eq!(carry(&mut near, &mut far, &stale), [], "what travels is fresh");
    let ping = SignedHeader { operation: Operation::Ping, ..shout };
    assert_eq!(carry(&mut near, &mut far, &ping), [], "a PING does not travel");
    assert_eq!(far.talk.counts().dropped, 4);
}

/// More questions than may be open are not asked, and more than may be owed are refused; each side stays bounded.
/// spec: p2p/operations
#[test]
fn questions_are_bounded_on_both_sides() {
    let (mut near, _) = pair();
    for ticket in 0..REQUESTS_OPEN_MAX as u64 {
        near.talk.ask(&mut near.bench, Ticket(ticket), &Request::Ping, SECOND).unwrap();
    }
    let one_more = near.talk.ask(&mut near.bench, Ticket(0), &Request::Ping, SECOND);
    assert_eq!(one_more, Err(AskError::TooMany));

    let mut end = End::met(1);
    let question = text("question");
    let many: Vec<_> =
        (1..=REQUESTS_OWED_MAX as u64 + 3).map(|id| direct(Operation::Custom, id, &question)).collect();
    end.hear(&many);
    let busy = bytes_of(|out| refusal(Operation::Custom, Reason::Busy).write(out));
    let said = end.said();
    assert_eq!(said.len(), 3);
    assert!(said.iter().all(|(operation, _, payload)| *operation == Operation::Nack && *payload == busy));
    assert_eq!(end.facts.len(), REQUESTS_OWED_MAX);
    // Nobody answers any of them: after a while others have their places.
    end.bench.now += OWED_LIFE;
    end.hear(&[direct(Operation::Custom, 1_000, &question)]);
    let said = end.said();
    assert_eq!((end.facts.len(), said.len()), (REQUESTS_OWED_MAX + 1, 0));

    let mut end = End::met(1);
    end.hear(&[direct(Operation::Custom, 5, &question), direct(Operation::Custom, 5, &question)]);
    let malformed = bytes_of(|out| refusal(Operation::Custom, Reason::Malformed).write(out));
    assert_eq!(end.said(), [(Operation::Nack, 5, malformed)], "an id that is open is not used again");
}

/// A flood of words is taken up to the queue's bound, a flood of requests up to its rate; then it is refused.
/// spec: p2p/effort, p2p/operations
#[test]
fn a_flood_is_refused() {
    let mut end = End::met(1);
    end.bench.terms.requests_per_second = 1 << 30;
    let word = text("x");
    let many = vec![direct(Operation::Speak, 0, &word); FACTS_WAITING_MAX + 10];
    end.hear(&many);
    assert_eq!(end.talk.counts().requests_refused, 10);
    end.said();
    assert_eq!(end.facts.len(), FACTS_WAITING_MAX);

    let mut end = End::met(1);
    end.bench.terms.requests_per_second = 1_000;
    let pings = vec![direct(Operation::Ping, 1, &[0xc0]); 1_000];
    end.hear(&pings);
    let refused = end.talk.counts().requests_refused;
    assert!((890..=900).contains(&refused), "{refused}");
    let over = bytes_of(|out| refusal(Operation::Ping, Reason::OverQuota).write(out));
    assert_eq!(end.said().iter().filter(|(_, _, payload)| *payload == over).count() as u64, refused);

    end.bench.terms.requests_per_second = 1 << 30;
    let question = bytes_of(|out| Request::Custom(Encoded::NIL).write(out));
    let large = vec![0; PAYLOAD_LEN_MAX / 2];
    let large = bytes_of(|out| dunlin_codec::msgpack::write::bin(out, &large));
    end.hear(&[direct(Operation::Custom, 1, &question)]);
    for _ in 0..8 {
        let value = Encoded::parse(&large).unwrap();
        let _ = end.talk.ask(&mut end.bench, Ticket(1), &Request::Custom(value), SECOND);
    }
    let waiting: usize = end.poll().iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(waiting <= OUTBOX_LEN_MAX + 64, "{waiting}");
}

/// The NACK of each operation can be read by whoever asked.
#[test]
fn refusals_have_their_operations_shape() {
    for operation in
        Operation::ALL.into_iter().filter(|operation| *operation != Operation::SetConnectionOption)
    {
        let nack = refusal(operation, Reason::Busy);
        let bytes = bytes_of(|out| nack.write(out));
        assert_eq!(Nack::parse(&bytes), Ok(nack), "{operation}");
    }
    let store = refusal(Operation::Store, Reason::Full);
    assert_eq!(store, Nack::Store(StoreNack { reason: Reason::Full, metadata: None, promised: None }));
    const { assert!(NODES_MAX == 16) };
}

proptest! {
    /// Whatever comes, nothing panics, and what is kept stays bounded.
    #[test]
    fn any_bytes_are_survived(
        list in prop::collection::vec((0_u8..16, 0_u64..300, prop::collection::vec(any::<u8>(), 0..40)), 0..60),
        raw in prop::collection::vec(any::<u8>(), 0..200),
        channel in 1_u32..4,
    ) {
        let mut end = End::met(1);
        let list: Vec<_> = list
            .iter()
            .map(|(code, request, payload)| direct(Operation::from_code(*code), *request, payload))
            .collect();
        if !list.is_empty() {
            end.hear(&list);
        }
        end.take(ChannelId(channel), &wrapped(Compression::None, &[&raw[..], &[0]].concat()));
        end.take(ChannelId(channel), &raw);
        end.said();
        prop_assert!(end.talk.owed.len() <= REQUESTS_OWED_MAX && end.talk.open_count() <= REQUESTS_OPEN_MAX);
        prop_assert!(channel == 3 || end.talk.farewell.is_some() || raw.is_empty());
    }
}

const _: () = assert!(SIGNED_CHANNEL.0 == 2);
