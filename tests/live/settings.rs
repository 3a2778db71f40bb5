//! Keys of the configuration that no other story is about: each has the effect that it says, through the whole engine.

use std::collections::BTreeSet;
use std::time::Duration;

use dunlin::config::{ByteSize, Percent};
use dunlin::network::values::{PutOptions, ValueError};
use dunlin::{Config, ConnectOptions, Early, EarlyData, Engine, NetworkEvent, SendOptions};
use dunlin_codec::args::Reason;
use dunlin_codec::message::Operation;

use crate::DEADLINE;
use crate::api::{config, start, uri_of};
use crate::network::{network, of};
use crate::process::{Node, command, wait_until};
use crate::scratch::Scratch;

/// The str "hello" in msgpack.
const HELLO: &[u8] = b"\xa5hello";

fn with(seeds: &[&Engine], change: impl FnOnce(&mut Config)) -> Engine {
    let mut config = network("mmsg", 1, seeds);
    change(&mut config);
    start(config)
}

/// `network.k`, `alpha`, `tau`, `links` and `description` make a network what it is: one that has another is another network.
/// spec: p2p/connection-options
#[test]
fn each_constant_makes_another_network() {
    let first = with(&[], |_| {});
    let changes: [fn(&mut Config); 5] = [
        |config| config.network.k = 8,
        |config| config.network.alpha = 2,
        |config| config.network.tau = 128,
        |config| config.network.links = 4,
        |config| config.network.description = "another".to_owned(),
    ];
    for change in changes {
        let refused = of(&with(&[], change)).join(&uri_of(&first)).unwrap_err();
        assert!(refused.to_string().contains("this is another network"), "{refused}");
    }
    assert_eq!(of(&with(&[], |_| {})).join(&uri_of(&first)).unwrap(), first.id());
}

/// How many values of 30,000 bytes a node keeps for itself, and why no more.
fn kept(change: impl FnOnce(&mut Config)) -> (usize, Option<Reason>) {
    let alone = with(&[], change);
    let value = [&[0xc5, 0x75, 0x30][..], &[7; 30_000]].concat();
    for number in 0..20_u8 {
        match of(&alone).put(&[0xa1, b'a' + number], &value, &PutOptions::default()) {
            Ok(_) => {}
            Err(ValueError::Refused(refused)) => return (number.into(), Some(refused.reason)),
            Err(other) => panic!("{other}"),
        }
    }
    (20, None)
}

/// `limits.values_writer_count_max`, `values_writer_max` and `values_shard_max`.
/// spec: p2p/value-quotas
#[test]
fn values_have_the_room_that_is_configured() {
    assert_eq!(kept(|_| {}), (20, None));
    let few = kept(|config| config.limits.values_writer_count_max = 3);
    assert_eq!(few, (3, Some(Reason::OverQuota)));
    let short = kept(|config| config.limits.values_writer_max = ByteSize(100_000));
    assert_eq!(short, (3, Some(Reason::OverQuota)));
    let small = kept(|config| config.limits.values_shard_max = ByteSize(100_000));
    assert_eq!(small, (3, Some(Reason::Full)));
}

/// `network.rumours_origin_max`: ten times as many words at once, less a margin that a node keeps of its own.
/// spec: p2p/broadcast
#[test]
fn words_have_the_rate_that_is_configured() {
    let said = |origin_max: usize| {
        let alone = with(&[], |config| config.network.rumours_origin_max = origin_max);
        (0..48).take_while(|_| of(&alone).shout(HELLO).is_ok()).count()
    };
    assert!(said(5) >= 48);
    let usual = said(1);
    assert!((8..48).contains(&usual), "{usual}");
}

/// What a node hears until a word comes that was whispered to it last.
fn heard(engine: &Engine) -> usize {
    let mut shouts = 0;
    loop {
        match of(engine).event_timeout(DEADLINE).expect("the whisper") {
            NetworkEvent::Told(told) if told.operation == Operation::Shout => shouts += 1,
            NetworkEvent::Told(_) => return shouts,
            _ => {}
        }
    }
}

/// `limits.rumour_cpu_max` and `network.rumours_link_max`: a node that spends nothing on words to everybody hears none, and all else.
/// spec: p2p/rumour-budget
#[test]
fn a_node_hears_as_many_words_as_it_pays_for() {
    let near = with(&[], |_| {});
    let deaf = with(&[&near], |config| config.limits.rumour_cpu_max = Percent(0));
    let closed = with(&[&near], |config| config.network.rumours_link_max = 0);
    let open = with(&[&near], |_| {});
    wait_until("all have links with it", || {
        [&deaf, &closed, &open]
            .iter()
            .all(|far| of(far).links().contains(&near.id()) || of(&near).links().contains(&far.id()))
    });
    for _ in 0..5 {
        of(&near).shout(HELLO).unwrap();
    }
    // They have come to the one that hears them, and so to the others.
    let mut shouts = 0;
    while shouts < 5 {
        match of(&open).event_timeout(DEADLINE).expect("a word") {
            NetworkEvent::Told(told) if told.operation == Operation::Shout => shouts += 1,
            _ => {}
        }
    }
    for far in [&deaf, &closed] {
        of(&near).whisper(far.id(), HELLO).unwrap();
        assert_eq!(heard(far), 0);
    }
}

/// `limits.sessions_max`: whoever comes later is not answered.
#[test]
fn a_node_has_as_many_sessions_as_are_configured() {
    let mut few = config("mmsg", 1);
    few.limits.sessions_max = 2;
    let server = start(few);
    let mut impatient = config("mmsg", 1);
    impatient.transport.handshake_deadline = Duration::from_secs(2);
    let callers: Vec<Engine> = (0..3).map(|_| start(impatient.clone())).collect();
    let first: Vec<_> = callers[..2].iter().map(|caller| caller.connect(&uri_of(&server)).unwrap()).collect();
    assert!(callers[2].connect(&uri_of(&server)).is_err());
    drop(first);
}

/// `transport.zero_rtt_accept` and `identity.shared`: what rides in a first datagram is refused, and comes after the handshake.
/// spec: atp/early-data
#[test]
fn early_data_is_taken_where_the_configuration_says_so() {
    let early = |change: fn(&mut Config)| {
        let mut wanted = config("mmsg", 1);
        change(&mut wanted);
        let (server, client) = (start(wanted), start(config("mmsg", 1)));
        let bytes = b"early".to_vec();
        let options = ConnectOptions { early: vec![Early { bytes, options: SendOptions::default() }] };
        let connected = client.connect_with(&uri_of(&server).parse().unwrap(), &options).unwrap();
        let peer = crate::api::accepted(&server);
        assert_eq!(*peer.recv_timeout(DEADLINE).unwrap(), *b"early");
        connected.early
    };
    assert_eq!(early(|_| {}), EarlyData::Accepted);
    assert_eq!(early(|config| config.transport.zero_rtt_accept = false), EarlyData::Refused);
    assert_eq!(early(|config| config.identity.shared = true), EarlyData::Refused);
}

/// On which CPUs a process's shard may run, as the kernel lists them.
fn cpus_of_shard(node: &Node) -> Option<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", node.process.number())).unwrap();
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let field = |status: &str, name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?.to_owned();
        Some(line.split_once('\t')?.1.to_owned())
    };
    let mut shards = statuses.filter(|status| field(status, "Name:").is_some_and(|name| name == "shard-0"));
    field(&shards.next()?, "Cpus_allowed_list:")
}

/// `io.pin`: each shard stays on one core, or goes where the kernel likes.
#[test]
fn a_shard_stays_on_its_core_where_that_is_wanted() {
    let scratch = Scratch::new("pin");
    let here = std::thread::available_parallelism().unwrap().get();
    let cpus = |pin: &str| {
        let arguments =
            ["node", "--listen", "127.0.0.1:0", "--cores", "1", "--io", "mmsg", "--state", "node"];
        let mut command = command(&scratch, arguments);
        command.env("DUNLIN_IO_PIN", pin);
        let node = Node::start_command(command);
        let cpus = cpus_of_shard(&node).expect("a shard has its thread");
        node.stop().assert_code(0);
        let numbers = |range: &str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse::<usize>().unwrap()..=last.parse::<usize>().unwrap()
        };
        cpus.trim().split(',').flat_map(numbers).collect::<BTreeSet<usize>>().len()
    };
    assert_eq!((cpus("true"), cpus("false")), (1, here));
}

/// `log.level`: what is worth less than that is not told.
#[test]
fn a_node_tells_as_much_as_is_configured() {
    let scratch = Scratch::new("level");
    let told = |level: &str| {
        let arguments =
            ["node", "--listen", "127.0.0.1:0", "--cores", "1", "--io", "mmsg", "--state", "node"];
        let mut command = command(&scratch, arguments);
        command.env("DUNLIN_LOG_LEVEL", level);
        Node::start_command(command).stop().assert_code(0).stderr.lines().count()
    };
    let [error, info, debug] = ["error", "info", "debug"].map(told);
    assert!(error == 0 && info > 0 && debug >= info, "{error} {info} {debug}");
}
