//! Nodes of a network: they find each other from one of them, speak, ask, and share their sessions with applications.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use dunlin::network::{Node, Packed, Service, Told};
use dunlin::{
    Channel, Config, Engine, Event, Network, NetworkError, NetworkEvent, NodeId, SendError, SendOptions,
};
use dunlin_codec::args::{Ack, Request};
use dunlin_codec::ids::Address;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;

use crate::api::{accepted, config, start, uri_of};
use crate::process::{Node as Process, command, wait_until};
use crate::scratch::Scratch;
use crate::{DEADLINE, backends, noise};

/// The str "hello" in msgpack.
const HELLO: &[u8] = b"\xa5hello";

pub(crate) fn network(io: &str, shards: usize, seeds: &[&Engine]) -> Config {
    let seeds = seeds.iter().map(|seed| uri_of(seed).parse().unwrap()).collect();
    config(io, shards).network("live").join(seeds)
}

pub(crate) fn of(engine: &Engine) -> Network {
    engine.network().expect("it is in a network")
}

pub(crate) fn knows(engine: &Engine, others: &[&Engine]) -> bool {
    let known: Vec<NodeId> = of(engine).table().iter().map(|node| node.id).collect();
    others.iter().all(|other| known.contains(&other.id()))
}

#[track_caller]
fn told(network: &Network) -> Told {
    loop {
        match network.event_timeout(DEADLINE).expect("a word") {
            NetworkEvent::Told(told) => return told,
            NetworkEvent::Stopped => panic!("it stopped"),
            _ => {}
        }
    }
}

/// Three engines, two of which know only the first: all find each other; what they say arrives and is acknowledged.
#[test]
fn three_nodes_find_each_other_and_speak() {
    for io in backends("three_nodes_find_each_other_and_speak") {
        for shards in [1, 3] {
            let first = start(network(io, shards, &[]));
            let second = start(network(io, shards, &[&first]));
            let third = start(network(io, shards, &[&first]));
            let all = [&first, &second, &third];
            for engine in all {
                let others: Vec<&Engine> =
                    all.into_iter().filter(|other| other.id() != engine.id()).collect();
                wait_until("all know each other", || knows(engine, &others));
            }
            let found: Vec<Node> = of(&second).find(Address(third.id().0)).unwrap();
            assert_eq!((found[0].id, &found[0].endpoints[..]), (third.id(), &[third.local_addr()][..]));
            of(&second).speak(third.id(), HELLO).unwrap();
            of(&third).whisper(second.id(), HELLO).unwrap();
            let heard = [told(&of(&third)), told(&of(&second))];
            let word = |from: &Engine, operation| Told { from: from.id(), operation, value: HELLO.into() };
            assert_eq!(heard, [word(&second, Operation::Speak), word(&third, Operation::Whisper)]);
            let answer = of(&first).ask(third.id(), &Request::Ping, DEADLINE).unwrap();
            assert_eq!(answer.ack(), Ack::Plain(Operation::Ping));
            let nobody = of(&first).speak(NodeId([9; 32]), HELLO).unwrap_err();
            assert!(matches!(nobody, NetworkError::NotFound), "{nobody}");
            let bad = of(&first).speak(second.id(), b"\xc1").unwrap_err();
            assert!(matches!(bad, NetworkError::BadValue(_)), "{bad}");
        }
    }
}

/// Three in a row, each of which is linked to the next alone: what the first says to everybody reaches the third, once.
/// spec: p2p/rumours
#[test]
fn a_shout_reaches_the_end_of_a_chain_once() {
    for io in backends("a_shout_reaches_the_end_of_a_chain_once") {
        for shards in [1, 3] {
            let chain = |seeds: &[&Engine], advertises: bool| {
                let mut config = network(io, shards, seeds);
                // Who is not there takes no calls and is linked to by nobody: the two ends know the one in the middle alone.
                let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
                config.network.advertise = if advertises { Vec::new() } else { vec![nowhere] };
                start(config)
            };
            let middle = chain(&[], true);
            let (near, far) = (chain(&[&middle], false), chain(&[&middle], false));
            wait_until("the ends have links", || {
                [&near, &far].into_iter().all(|end| of(end).links() == [middle.id()])
            });
            let said = of(&near).shout(HELLO).unwrap();
            assert_eq!(said.links, 1);
            let word = Told { from: near.id(), operation: Operation::Shout, value: HELLO.into() };
            assert_eq!((told(&of(&middle)), told(&of(&far))), (word.clone(), word));
            of(&far).shout(b"\xa3bye").unwrap();
            let word = Told { from: far.id(), operation: Operation::Shout, value: b"\xa3bye"[..].into() };
            assert_eq!((told(&of(&middle)), told(&of(&near))), (word.clone(), word));
            assert!(
                of(&far).event_timeout(Duration::from_millis(300)).is_none(),
                "nobody hears it twice, or himself"
            );
            let long = [&[0xc5, 0x20, 0x00][..], &[0; 0x2000]].concat();
            assert!(matches!(of(&near).shout(&long), Err(NetworkError::NotSayable)));
        }
    }
}

/// A network of the same name with other constants is refused with words on both sides; one of another name does not answer.
#[test]
fn another_network_is_refused_with_its_reason() {
    let first = start(network("mmsg", 2, &[]));
    let mut other = network("mmsg", 1, &[]);
    other.network.links = 4;
    let stranger = start(other);
    let refused = of(&stranger).join(&uri_of(&first)).unwrap_err();
    assert!(refused.to_string().contains("this is another network"), "{refused}");
    let parted = loop {
        match of(&first).event_timeout(DEADLINE).expect("the end of the conversation") {
            NetworkEvent::Parted { peer, reason } => break (peer, reason),
            _ => continue,
        }
    };
    assert_eq!(parted.0, stranger.id());
    assert!(parted.1.contains("another network"), "{}", parted.1);
    assert!(of(&first).table().is_empty() && of(&stranger).table().is_empty());

    let mut named = network("mmsg", 1, &[]).network("other");
    named.transport.handshake_deadline = Duration::from_secs(1);
    let named = start(named);
    let silent = of(&named).join(&uri_of(&first)).unwrap_err();
    assert!(silent.to_string().contains("the ID or network is another"), "{silent}");
    assert!(of(&first).table().is_empty());
}

/// A session serves both: what nodes ask each other and what applications send do not meet.
#[test]
fn applications_and_neighbours_share_their_sessions() {
    for shards in [1, 3] {
        let first = start(network("mmsg", shards, &[]));
        let second = start(network("mmsg", shards, &[&first]));
        wait_until("they know each other", || knows(&first, &[&second]) && knows(&second, &[&first]));
        // The second called; the first's application writes where it was called, and the second's hears of that.
        let caller = accepted(&first);
        assert_eq!(caller.id(), second.id());
        caller.send(b"from the application").unwrap();
        let called = accepted(&second);
        assert_eq!(*called.recv_timeout(DEADLINE).unwrap(), *b"from the application");
        // Nobody reads: the network goes on all the same.
        for n in 0..64 {
            called
                .send_with(&noise(3_000, n), SendOptions { channel: Channel(20), ..SendOptions::default() })
                .unwrap();
            of(&first).speak(second.id(), HELLO).unwrap();
            of(&second).speak(first.id(), HELLO).unwrap();
        }
        for n in 0..64 {
            assert_eq!(caller.recv_timeout(DEADLINE).unwrap()[..], noise(3_000, n));
            assert_eq!(told(&of(&first)).from, second.id());
            assert_eq!(told(&of(&second)).from, first.id());
        }
        let options = SendOptions { channel: Channel(1), ..SendOptions::default() };
        let own = called.send_with(b"x", options).unwrap_err();
        assert!(matches!(own, SendError::Channel(1)), "{own}");
        // A call of the application's to a node that the network has a session with is a session all the same.
        let again = second.connect(&uri_of(&first)).unwrap();
        again.send(b"again").unwrap();
        wait_until("it arrives", || caller.try_recv().unwrap().is_some_and(|message| *message == *b"again"));
        of(&second).speak(first.id(), HELLO).unwrap();
    }
}

/// Doubles numbers, but not all of them.
struct Doubler;

/// A number that travels as [number].
#[derive(Debug, PartialEq)]
struct Number(u64);

impl Packed for Number {
    fn pack(&self, out: &mut dunlin_codec::bytes::Writer<'_>) -> Result<(), dunlin_codec::error::NoRoom> {
        dunlin_codec::msgpack::write::array(out, 1)?;
        self.0.pack(out)
    }

    fn unpack(value: Encoded<'_>) -> Option<Self> {
        let [number] = value.as_array()?.exactly()?;
        number.as_unsigned().map(Self)
    }
}

impl Service for Doubler {
    const NAME: &'static str = "test.double";
    type Question = Number;
    type Answer = u64;

    fn answer(&mut self, _: NodeId, question: Number) -> Result<u64, String> {
        question.0.checked_mul(2).ok_or_else(|| "too large".to_owned())
    }
}

/// Another service, of which nobody has heard.
struct Unheard;

impl Service for Unheard {
    const NAME: &'static str = "test.unheard";
    type Question = ();
    type Answer = ();

    fn answer(&mut self, _: NodeId, (): ()) -> Result<(), String> {
        Ok(())
    }
}

/// CUSTOM by types: a service answers or refuses; watchers before it see what passes, and what nobody takes waits.
#[test]
fn services_answer_by_their_types() {
    let first = start(network("mmsg", 2, &[]));
    let second = start(network("mmsg", 2, &[]));
    let (sender, seen) = channel();
    let watch = move |event: NetworkEvent| {
        sender.send(format!("{event:?}")).unwrap();
        Some(event)
    };
    of(&first).on_event(watch).unwrap();
    of(&first).serve(Doubler).unwrap();
    assert_eq!(of(&second).join(&uri_of(&first)).unwrap(), first.id());
    let call = |number| of(&second).call::<Doubler>(first.id(), &Number(number), DEADLINE);
    assert_eq!(call(21).unwrap(), 42);
    let refused = call(u64::MAX).unwrap_err();
    assert!(refused.to_string().contains("too large"), "{refused}");
    assert!(seen.iter().any(|event| event.starts_with("Asked(")));

    // Nobody takes it: it waits, and is refused when it is dropped.
    let network = of(&second);
    let id = first.id();
    let asked = std::thread::spawn(move || network.call::<Unheard>(id, &(), DEADLINE));
    let question = loop {
        match of(&first).event_timeout(DEADLINE).expect("the question") {
            NetworkEvent::Asked(question) => break question,
            _ => continue,
        }
    };
    assert_eq!(question.from(), second.id());
    drop(question);
    assert!(matches!(asked.join().unwrap(), Err(NetworkError::Refused(_))));
}

/// Whoever waits when the engine stops is told so.
#[test]
fn a_stopped_network_says_so() {
    let engine = start(network("mmsg", 1, &[]));
    let network = of(&engine);
    let waiting = network.clone();
    let listener = std::thread::spawn(move || waiting.next_event());
    assert!(engine.shutdown(DEADLINE));
    assert!(matches!(listener.join().unwrap(), NetworkEvent::Stopped));
    assert!(matches!(network.find(Address([1; 32])), Err(NetworkError::Stopped | NetworkError::Busy)));
    let plain = start(config("mmsg", 1));
    assert!(plain.network().is_none());
}

/// `dunlin node --network NAME --seed URI` joins; a node of another name does not.
#[test]
fn nodes_join_by_a_seed_from_the_command_line() {
    let scratch = Scratch::new("seed");
    let first =
        Process::start(&scratch, &["node", "--listen", "127.0.0.1:0", "--network", "ours", "--key", "first"]);
    let arguments =
        ["node", "--listen", "127.0.0.1:0", "--network", "ours", "--key", "second", "--seed", &first.uri];
    let second = Process::start_command(command(&scratch, arguments));
    let third = start(config("mmsg", 1).network("ours").join(vec![second.uri.parse().unwrap()]));
    wait_until("the third knows both", || of(&third).table().len() == 2);
    let ended = second.stop();
    assert!(ended.assert_code(0).stderr.contains("joined the network by"), "{ended:#?}");
    first.stop().assert_code(0);
    let wrong = crate::process::run(&scratch, &["node", "--seed", "nonsense:0:1"]);
    assert!(wrong.assert_code(2).error().contains("--seed"), "{wrong:#?}");
}

/// A node that stands still: whoever asks it hears so in time, and is answered again when it goes on.
#[test]
fn a_node_that_stands_still_is_not_waited_for() {
    let scratch = Scratch::new("still");
    let still =
        Process::start(&scratch, &["node", "--listen", "127.0.0.1:0", "--network", "live", "--key", "still"]);
    let near = start(network("mmsg", 1, &[]));
    let id = of(&near).join(&still.uri).unwrap();
    still.process.suspend();
    let silent = of(&near).ask(id, &Request::Ping, Duration::from_secs(2)).unwrap_err();
    assert!(matches!(silent, NetworkError::TimedOut), "{silent}");
    still.process.signal(rustix::process::Signal::CONT);
    wait_until("it answers again", || of(&near).ask(id, &Request::Ping, DEADLINE).is_ok());
    still.stop().assert_code(0);
}

/// What is said to an application that does not listen waits up to a bound; the oldest goes, and is counted.
#[test]
fn events_that_nobody_asks_for_are_bounded() {
    const WORDS: u64 = 4_300;
    const KEPT: u64 = 4_096;
    let (near, far) = (start(network("mmsg", 1, &[])), start(network("mmsg", 1, &[])));
    of(&near).join(&uri_of(&far)).unwrap();
    let word = |number: u64| [&[0xcf][..], &number.to_be_bytes()].concat();
    for number in 0..WORDS {
        of(&near).speak(far.id(), &word(number)).unwrap();
    }
    assert!(of(&far).dropped_events() >= WORDS - KEPT);
    let told: Vec<Box<[u8]>> = core::iter::from_fn(|| of(&far).try_event())
        .filter_map(|event| if let NetworkEvent::Told(told) = event { Some(told.value) } else { None })
        .collect();
    let first = WORDS - told.len() as u64;
    assert!(first >= WORDS - KEPT && told.len() > 4_000, "{} are left", told.len());
    assert!(
        (first..WORDS).map(word).eq(told.iter().map(|value| value.to_vec())),
        "the last of them, in order"
    );
}

/// `network.compression`: what a node says is compressed for whoever reads that, and for nobody else.
/// spec: p2p/compression-setting
#[test]
fn words_are_compressed_for_whoever_reads_that() {
    use dunlin::config::Compression::{Gzip, None, Snappy, Zlib};
    const LEN: usize = 60_000;
    let word = [&[0xc5, (LEN >> 8) as u8, LEN as u8][..], &[7; LEN]].concat();
    for (ours, theirs, is_small) in
        [(None, None, false), (Gzip, None, false), (None, Zlib, true), (Gzip, Snappy, true)]
    {
        let with = |method| {
            let mut config = network("mmsg", 1, &[]);
            config.network.compression = method;
            start(config)
        };
        let (near, far) = (with(ours), with(theirs));
        of(&near).join(&uri_of(&far)).unwrap();
        // Both have said by then what they read.
        of(&near).speak(far.id(), HELLO).unwrap();
        assert_eq!(told(&of(&far)).value[..], *HELLO);
        let sent = || near.stats().shards.iter().map(|shard| shard.socket.sent.bytes).sum::<u64>();
        let received = || far.stats().shards.iter().map(|shard| shard.socket.received.bytes).sum::<u64>();
        let before = received();
        of(&near).speak(far.id(), &word).unwrap();
        assert!(told(&of(&far)).value[..] == word[..]);
        std::thread::sleep(Duration::from_millis(500));
        if is_small {
            assert!(received() - before < LEN as u64 / 2, "{ours:?} {theirs:?}: {} bytes in all", sent());
        } else {
            // What the shard counts is told a little later.
            wait_until("all of it was sent", || sent() >= LEN as u64);
        }
    }
}

/// An application of the same name that is in no network is served as before.
#[test]
fn a_plain_session_is_no_neighbour() {
    let first = start(network("mmsg", 1, &[]));
    let plain = start(config("mmsg", 1).network("live"));
    let peer = plain.connect(&uri_of(&first)).unwrap();
    let far = accepted(&first);
    peer.send(b"plain").unwrap();
    assert_eq!(*far.recv_timeout(DEADLINE).unwrap(), *b"plain");
    assert!(of(&first).table().is_empty());
    drop(first);
    loop {
        if let Event::Closed { .. } = plain.event_timeout(DEADLINE).expect("the end") {
            return;
        }
    }
}

/// Nodes with links to each other end as soon as what they had to say was acknowledged, and open nothing anew while they do.
#[test]
fn linked_nodes_shut_down() {
    let first = start(network("mmsg", 2, &[]));
    let second = start(network("mmsg", 2, &[&first]));
    let is_linked = |engine: &Engine| !of(engine).links().is_empty();
    wait_until("one of them has a link to the other", || is_linked(&first) || is_linked(&second));
    assert!(second.shutdown(DEADLINE));
    assert!(first.shutdown(DEADLINE));
}

/// What a node knew is worth more than a seed: with its rows it finds the others again by itself.
#[test]
fn rows_replace_a_seed() {
    let first = start(network("mmsg", 1, &[]));
    let second = start(network("mmsg", 1, &[&first]));
    wait_until("they know each other", || knows(&first, &[&second]) && knows(&second, &[&first]));
    let rows = of(&second).rows();
    drop(second);
    let again = start(network("mmsg", 1, &[]));
    let broken =
        [(Vec::new(), Vec::new()), (b"n".to_vec(), b"no record".to_vec()), (b"l".to_vec(), Vec::new())];
    of(&again).remember(rows.into_iter().chain(broken)).unwrap();
    wait_until("it is known again", || knows(&again, &[&first]));
}
