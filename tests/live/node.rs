//! `dunlin node`, `ping`, `key`, `config`: as people use them.

use dunlin_tests::capability::Capability;
use rustix::process::Signal;

use crate::backends;
use crate::process::{Ended, Node, Process, command, free_port, run};
use crate::scratch::Scratch;

fn ping(scratch: &Scratch, uri: &str, io: &str) -> Ended {
    run(scratch, &["ping", uri, "-c", "5", "-i", "0.02", "--json", "--io", io])
}

#[track_caller]
fn assert_answered(pinged: &Ended) {
    let summary = &pinged.assert_code(0).events("summary")[0];
    assert_eq!((summary["sent"].as_u64(), summary["answered"].as_u64()), (Some(5), Some(5)), "{pinged:#?}");
    let times = ["min_ms", "avg_ms", "p99_ms", "max_ms"].map(|name| summary[name].as_f64().unwrap());
    assert!(
        0.0 < times[0] && times[0] <= times[1] && times[1] <= times[3] && times[2] <= times[3],
        "{pinged:#?}"
    );
}

#[test]
fn a_node_answers_pings_on_both_back_ends_with_one_shard_and_more() {
    for io in backends("a_node_answers_pings_on_both_back_ends_with_one_shard_and_more") {
        for shards in ["1", "2", "5"] {
            let scratch = Scratch::new("ping");
            let mut arguments =
                command(&scratch, ["node", "--listen", "127.0.0.1:0", "--io", io, "--cores", shards]);
            arguments.env("DUNLIN_NODE_ALLOW_MORE_SHARDS", "true");
            let node = Node::start_command(arguments);
            for _ in 0..3 {
                let pinged = ping(&scratch, &node.uri, io);
                assert_answered(&pinged);
                // With more shards one asks another whether the Hello is new, and does not wait long for the answer.
                let early = &pinged.events("connected")[0]["zero_rtt"];
                assert!(
                    early == "accepted" || shards != "1" && early == "refused",
                    "the key is new: {pinged:#?}"
                );
            }
            let ended = node.stop();
            ended.assert_code(0);
            assert!(ended.stderr.contains(io), "the log names the back end: {ended:#?}");
        }
    }
}

#[test]
fn a_node_answers_over_ipv6_and_in_both_families_at_once() {
    let name = "a_node_answers_over_ipv6_and_in_both_families_at_once";
    if Capability::Ipv6.is_missing(name) {
        return;
    }
    for io in backends(name) {
        let scratch = Scratch::new("families");
        let node = Node::start(&scratch, &["node", "--listen", "[::1]:0", "--io", io]);
        assert!(node.uri.contains("@[::1]:"), "{}", node.uri);
        assert_answered(&ping(&scratch, &node.uri, io));
        node.stop().assert_code(0);

        let node = Node::start(&scratch, &["node", "--listen", "[::]:0", "--io", io]);
        assert!(node.uri.contains("@127.0.0.1:"), "the first URI is usable as it is: {}", node.uri);
        assert_answered(&ping(&scratch, &node.uri, io));
        assert_answered(&ping(&scratch, &node.uri.replace("127.0.0.1", "[::1]"), io));
        assert_answered(&ping(&scratch, &node.uri.replace("127.0.0.1", "localhost"), io));
        node.stop().assert_code(0);
    }
}

#[test]
fn a_caller_without_the_id_is_told_who_answers() {
    let scratch = Scratch::new("xx");
    let node = Node::start(&scratch, &["node", "--listen", "127.0.0.1:0"]);
    let (id, place) = node.uri.strip_prefix("dunlin://").unwrap().split_once('@').unwrap();
    let pinged = ping(&scratch, place, "mmsg");
    assert_answered(&pinged);
    assert_eq!(pinged.events("connected")[0]["id"], id);
    node.stop().assert_code(0);
}

#[test]
fn a_second_node_on_the_same_port_is_refused_with_a_clear_message() {
    for io in backends("a_second_node_on_the_same_port_is_refused_with_a_clear_message") {
        let scratch = Scratch::new("second");
        let node = Node::start(&scratch, &["node", "--listen", "127.0.0.1:0", "--io", io]);
        let listen = format!("127.0.0.1:{}", node.port());
        let second = run(&scratch, &["node", "--listen", &listen, "--io", io]);
        let error = second.assert_code(1).error();
        let wrong = error.contains(&listen) && error.contains("another process");
        assert!(wrong && error.contains("--listen"), "{error}");
        assert_answered(&ping(&scratch, &node.uri, io));
        node.stop().assert_code(0);
    }
}

/// 192.0.2.0/24 is for documentation: no machine has it.
#[test]
fn an_address_that_is_not_ours_and_cores_that_are_not_there_are_said_with_what_helps() {
    let scratch = Scratch::new("listen");
    let ended = run(&scratch, &["node", "--listen", "192.0.2.1:7117"]);
    let error = ended.assert_code(1).error();
    assert!(error.contains("192.0.2.1:7117") && error.contains("an address of this machine"), "{error}");
    // One more than there are; a machine with the most that a node can use is told that instead.
    let cores = std::thread::available_parallelism().unwrap().get() + 1;
    let ended = run(&scratch, &["node", "--listen", "127.0.0.1:0", "--cores", &cores.to_string()]);
    let error = ended.assert_code(2).error();
    assert!(error.contains(&format!("node.cores = {cores}")), "{error}");
    assert!(error.contains("node.allow_more_shards") || cores > 128, "{error}");
}

#[test]
fn what_was_chosen_is_logged_with_the_reason() {
    let scratch = Scratch::new("auto");
    let ended = Node::start(&scratch, &["node", "--listen", "127.0.0.1:0"]).stop();
    let log = &ended.assert_code(0).stderr;
    let choice = "mmsg: wakes sooner than io_uring";
    assert!(log.contains(choice) && log.contains("steered by"), "{log}");
}

#[test]
fn both_signals_end_a_node_and_a_ping_cleanly() {
    let scratch = Scratch::new("signals");
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start(&scratch, &["node", "--listen", "127.0.0.1:0"]);
        let mut endless = Process::dunlin(&scratch, &["ping", &node.uri, "-i", "0.01"]);
        for _ in 0..5 {
            endless.line();
        }
        endless.signal(signal);
        let pinged = endless.wait();
        pinged.assert_code(0);
        assert!(pinged.stdout.iter().any(|line| line.contains("min/avg/p99/max")), "{pinged:#?}");
        assert!(node.process.is_running());
        node.process.signal(signal);
        node.process.wait().assert_code(0);
    }
}

#[test]
fn whoever_cannot_be_reached_is_an_error_of_one_line() {
    let scratch = Scratch::new("errors");
    let nobody = format!("127.0.0.1:{}", free_port());
    let mut impatient = command(&scratch, ["ping", &nobody]);
    impatient.env("DUNLIN_TRANSPORT_HANDSHAKE_DEADLINE", "1s");
    let ended = Process::start(impatient).wait();
    let error = ended.assert_code(1).error();
    for part in [&nobody, "nobody is there", "UDP is blocked", "ID or network is another"] {
        assert!(error.contains(part), "{error}");
    }
    let ended = run(&scratch, &["ping", "no-such-host.invalid"]);
    let error = ended.assert_code(1).error();
    assert!(error.contains("no-such-host.invalid") && error.contains("check the name"), "{error}");
    for wrong in ["dunlin://abc@127.0.0.1", "http://127.0.0.1", "127.0.0.1:0", ""] {
        let ended = run(&scratch, &["ping", wrong]);
        let error = ended.assert_code(2).error();
        assert!(error.contains("at character"), "{error}");
    }
    run(&scratch, &["ping"]).assert_code(2);
    let ended = run(&scratch, &["node", "--io", "carrier-pigeon"]);
    assert!(ended.assert_code(2).error().contains("--io"), "{ended:#?}");
}

#[test]
fn another_network_is_another_world() {
    let scratch = Scratch::new("network");
    let node = Node::start(&scratch, &["node", "--listen", "127.0.0.1:0", "--network", "ours"]);
    let mut theirs = command(&scratch, ["ping", &node.uri, "-c", "1", "--network", "theirs"]);
    theirs.env("DUNLIN_TRANSPORT_HANDSHAKE_DEADLINE", "1s");
    Process::start(theirs).wait().assert_code(1);
    run(&scratch, &["ping", &node.uri, "-c", "1", "--network", "ours"]).assert_code(0);
    node.stop().assert_code(0);
}

#[test]
fn a_key_is_made_once_and_never_shared() {
    let scratch = Scratch::new("key");
    let made = run(&scratch, &["key", "new", "--key", "keys/mine"]);
    let id = made.assert_code(0).stdout.concat();
    assert_eq!(id.len(), 52, "{id}");
    assert_eq!(scratch.list("keys"), ["mine", "mine.inception", "mine.next"]);
    assert_eq!(run(&scratch, &["key", "show", "--key", "keys/mine"]).stdout.concat(), id);
    assert!(
        run(&scratch, &["key", "new", "--key", "keys/mine"]).assert_code(1).error().contains("left alone")
    );
    let node = Node::start(&scratch, &["node", "--key", "keys/mine", "--listen", "127.0.0.1:0"]);
    assert!(node.uri.contains(&id), "{}", node.uri);
    node.stop().assert_code(0);

    let wide = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(scratch.at("keys/mine"), wide).unwrap();
    for arguments in [&["key", "show", "--key", "keys/mine"][..], &["node", "--key", "keys/mine"]] {
        let ended = run(&scratch, arguments);
        assert!(ended.assert_code(1).error().contains("chmod 600 keys/mine"), "{ended:#?}");
    }
    assert!(
        run(&scratch, &["key", "show", "--key", "none"]).assert_code(1).error().contains("dunlin key new")
    );
}

#[test]
fn the_configuration_prints_checks_and_names_its_faults() {
    let scratch = Scratch::new("config");
    let printed = run(&scratch, &["config", "print"]);
    let text = printed.assert_code(0).stdout.join("\n");
    let file = scratch.write("dunlin.toml", text.as_bytes());
    let checked = run(&scratch, &["config", "check", &file]);
    let sources = checked.assert_code(0).stdout.join("\n");
    assert!(sources.contains("io.backend = \"auto\"") && sources.contains("dunlin.toml:"), "{sources}");
    let file = scratch.write("wrong.toml", b"[io]\nbackned = \"mmsg\"\n");
    let error = run(&scratch, &["config", "check", &file]);
    assert!(error.assert_code(2).error().contains("did you mean io.backend?"), "{error:#?}");
    let file = scratch.write("right.toml", b"[node]\nlisten = \"127.0.0.1:0\"\n[io]\nbackend = \"mmsg\"\n");
    let node = Node::start(&scratch, &["node", "--config", &file]);
    let ended = node.stop();
    assert!(ended.assert_code(0).stderr.contains("mmsg: asked for"), "{ended:#?}");
}
