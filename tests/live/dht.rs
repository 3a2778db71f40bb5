//! `dunlin dht` against nodes that run, restart, fight over locks and are killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dunlin::control::{Answer, Command as Asked, GetLine, PutLine, call, to_hex};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::binary::dunlin;
use crate::process::{Ended, Node, Process, command, run, wait_until};
use crate::scratch::Scratch;
use crate::state::{Member, start, three};
use crate::{DEADLINE, noise};

#[track_caller]
fn dht(scratch: &Scratch, member: &Member, arguments: &[&str]) -> Ended {
    member.command(scratch, &[&["dht"], arguments].concat())
}

/// What it prints when it ends well.
#[track_caller]
fn says(scratch: &Scratch, member: &Member, arguments: &[&str]) -> String {
    dht(scratch, member, arguments).assert_code(0).stdout.join("\n")
}

#[track_caller]
fn described(scratch: &Scratch, member: &Member, key: &str) -> Value {
    serde_json::from_str(&says(scratch, member, &["get", key, "--json"])).unwrap()
}

#[test]
fn values_are_put_and_shown() {
    let scratch = Scratch::new("values");
    let [first, second, third] = three(&scratch);
    assert_eq!(says(&scratch, &first, &["put", "greeting", "good day"]), "");
    assert_eq!(says(&scratch, &third, &["get", "greeting"]), "good day");
    let told = described(&scratch, &second, "greeting");
    assert_eq!(
        ["key", "value", "writer", "owner"].map(|part| told[part].clone()),
        [json!("greeting"), json!("good day"), json!(first.id()), Value::Null]
    );
    // Bytes stay bytes, in a file as they were; JSON is JSON; a name of a group is another key.
    let bytes = scratch.write("bytes", &[0xff, 0, 7]);
    says(&scratch, &first, &["put", "bytes", &format!("@{bytes}")]);
    says(&scratch, &second, &["get", "bytes", "-o", "copy"]);
    assert_eq!(fs::read(scratch.at("copy")).unwrap(), [0xff, 0, 7]);
    assert_eq!(described(&scratch, &second, "bytes")["value"], json!({ "hex": "ff0007" }));
    let listed = r#"{"a":[1,-2,0.5,null,{"hex":"00"}]}"#;
    says(&scratch, &first, &["put", "json", listed, "--json-value", "--ttl", "30m"]);
    assert_eq!(says(&scratch, &third, &["get", "json"]), listed);
    says(&scratch, &first, &["put", "greeting", "hello", "--group", "english"]);
    assert_eq!(says(&scratch, &second, &["get", "greeting", "--group", "english"]), "hello");
    assert_eq!(says(&scratch, &second, &["get", "greeting"]), "good day");
    // What is gone or never was.
    let kept = dht(&scratch, &second, &["delete", "greeting", "--json"]);
    assert_eq!(kept.assert_code(0).events("kept")[0], json!({ "event": "kept", "by": 3, "of": 3 }));
    for key in ["greeting", "never"] {
        let gone = dht(&scratch, &first, &["get", key]);
        assert!(gone.assert_code(1).error().contains("no value under this key"), "{gone:?}");
        assert_eq!(says(&scratch, &first, &["get", key, "--cas"]), "none");
    }
    // Asked wrongly.
    let long = "x".repeat(70_000);
    let wrong: [&[&str]; 12] = [
        &["put", "k", "v", "--ttl", "31d"],
        &["put", "k", "v", "--ttl", "0s"],
        &["put", "k", "v", "--leave", "nonsense"],
        &["put", "f", "v", "--hex-key"],
        &["grant", "k", "nobody"],
        &["put", "k"],
        &["put", "k", &long],
        &["put", "k", "{", "--json-value"],
        &["put", "k", "v", "--ttl", "soon"],
        &["put", "k", "v", "--cas", "yes"],
        &["get", &long],
        &["lock", "k", "--lease", "5m"],
    ];
    for arguments in wrong {
        dht(&scratch, &first, arguments).assert_code(2);
    }
}

#[test]
fn a_condition_that_does_not_hold_is_refused_with_what_is_there() {
    let scratch = Scratch::new("conditions");
    let [first, second, third] = three(&scratch);
    let version = says(&scratch, &first, &["put", "k", "one", "--cas", "none"]);
    assert_eq!(says(&scratch, &second, &["get", "k", "--cas"]), version);
    let refused = dht(&scratch, &second, &["put", "k", "two", "--cas", "none"]);
    let error = refused.assert_code(1).error();
    assert!(error.contains("there is sequence 1") && error.contains(first.id()), "{error}");
    let refused = dht(&scratch, &second, &["put", "k", "two", "--cas", "none", "--json"]);
    let told = &refused.assert_code(1).events("refused")[0];
    assert_eq!((&told["reason"], &told["there"][0]["cas"]), (&json!("mismatch"), &json!(version)));
    says(&scratch, &second, &["put", "k", "two", "--cas", &version]);
    assert_eq!(says(&scratch, &third, &["get", "k"]), "two");
    // What is owned.
    says(&scratch, &first, &["put", "mine", "1", "--owned"]);
    let refused = dht(&scratch, &second, &["put", "mine", "2", "--cas", "none"]);
    assert!(refused.assert_code(1).error().contains("the key is another's"), "{refused:?}");
    assert_eq!(says(&scratch, &third, &["get", "mine", "--owner", first.id()]), "1");
}

/// A key of bytes is another than the text that it was typed as, alone and in a group.
#[test]
fn keys_are_texts_or_bytes() {
    let scratch = Scratch::new("hex-keys");
    let [first, second, third] = three(&scratch);
    says(&scratch, &first, &["put", "ff00", "of bytes", "--hex-key"]);
    says(&scratch, &first, &["put", "ff00", "of a text"]);
    assert_eq!(says(&scratch, &second, &["get", "FF00", "--hex-key"]), "of bytes");
    assert_eq!(says(&scratch, &third, &["get", "ff00"]), "of a text");
    let told: Value =
        serde_json::from_str(&says(&scratch, &third, &["get", "ff00", "--hex-key", "--json"])).unwrap();
    assert_eq!(told["key"], json!({ "hex": "ff00" }));
    let both = r#"{"group":{"hex":"00"},"changes":[{"name":{"hex":"ff"},"set":5},{"name":"ff","set":7}]}"#;
    let both = scratch.write("both.json", both.as_bytes());
    dht(&scratch, &first, &["atomic", &both]).assert_code(0);
    assert_eq!(says(&scratch, &second, &["get", "ff", "--group", "00", "--hex-key"]), "5");
    // A command under the lock of a key of bytes writes that key under its token, and no other.
    let dunlin = dunlin().display().to_string();
    let inside = format!(
        "{dunlin} dht put ff00 inside --hex-key --state second && {dunlin} dht get ff00 --hex-key --json --state second"
    );
    let locked = ["dht", "lock", "ff00", "--hex-key", "--state", "second", "--", "sh", "-c", &inside];
    let ran = run(&scratch, &locked);
    let told: Value = serde_json::from_str(&ran.assert_code(0).stdout[0]).unwrap();
    assert_eq!(told["value"], json!("inside"));
    assert!(told["token"].as_u64() > Some(0), "{told}");
}

/// The owner of a key lets one other node write it, for a while; nobody else can do anything with that.
#[test]
fn an_owner_gives_leave() {
    let scratch = Scratch::new("leave");
    let [first, second, third] = three(&scratch);
    says(&scratch, &first, &["put", "mine", "1", "--owned"]);
    let leave = says(&scratch, &first, &["grant", "mine", second.id(), "--ttl", "2h"]);
    let refused = dht(&scratch, &second, &["put", "mine", "2"]);
    assert!(refused.assert_code(1).error().contains("another's"), "{refused:?}");
    says(&scratch, &second, &["put", "mine", "2", "--leave", &leave]);
    assert_eq!(says(&scratch, &third, &["get", "mine", "--owner", first.id()]), "2");
    let told = described(&scratch, &third, "mine");
    assert_eq!((&told["owner"], &told["writer"]), (&json!(first.id()), &json!(second.id())));
    let ends = told["expires_ms"].as_u64().unwrap() - told["written_ms"].as_u64().unwrap();
    assert!(ends <= 2 * 3_600_000, "what is written by it ends with it: {told}");
    let file = scratch.write("leave", leave.as_bytes());
    let stolen = dht(&scratch, &third, &["put", "mine", "3", "--leave", &format!("@{file}")]);
    assert_ne!(stolen.code, Some(0), "{stolen:?}");
    let elsewhere = dht(&scratch, &second, &["put", "other", "3", "--leave", &leave]);
    assert_ne!(elsewhere.code, Some(0), "{elsewhere:?}");
    // Where a majority decides it counts as well.
    let cas = says(&scratch, &first, &["get", "mine", "--cas"]);
    says(&scratch, &second, &["put", "mine", "4", "--cas", &cas, "--leave", &leave]);
    assert_eq!(says(&scratch, &third, &["get", "mine", "--owner", first.id()]), "4");
    // Several names together change by a leave for each.
    let both = |value: u8| {
        let text = format!(
            r#"{{"group":"ours","changes":[{{"name":"a","set":{value}}},{{"name":"b","set":{value}}}]}}"#
        );
        scratch.write("ours.json", text.as_bytes())
    };
    says(&scratch, &first, &["atomic", &both(1), "--owned"]);
    let leaves =
        ["a", "b"].map(|name| says(&scratch, &first, &["grant", name, second.id(), "--group", "ours"]));
    let refused = dht(&scratch, &second, &["atomic", &both(2), "--leave", &leaves[0]]);
    assert!(refused.assert_code(1).error().contains("another's"), "{refused:?}");
    says(&scratch, &second, &["atomic", &both(3), "--leave", &leaves[0], "--leave", &leaves[1]]);
    for name in ["a", "b"] {
        assert_eq!(says(&scratch, &third, &["get", name, "--group", "ours", "--owner", first.id()]), "3");
    }
}

#[test]
fn parts_of_values_and_groups_change() {
    let scratch = Scratch::new("changes");
    let [first, second, third] = three(&scratch);
    says(&scratch, &first, &["put", "doc", r#"{"title":"Dunlin","tags":{"bird":true}}"#, "--json-value"]);
    let patch = r#"[{"set":["tags","small"],"to":[1]},{"remove":["tags","bird"]},{"splice":["title"],"at":6,"insert":"s"}]"#;
    let patch = scratch.write("patch.json", patch.as_bytes());
    let version = says(&scratch, &second, &["diff", "doc", &patch]);
    assert_eq!(says(&scratch, &third, &["get", "doc"]), r#"{"tags":{"small":[1]},"title":"Dunlins"}"#);
    assert_eq!(says(&scratch, &third, &["get", "doc", "--cas"]), version);
    let again = dht(&scratch, &third, &["diff", "doc", &patch]);
    assert!(again.assert_code(1).error().contains("does not fit"), "there is no bird any more: {again:?}");

    let both = r#"{"group":"bank","changes":[{"name":"a","set":5,"cas":"none"},{"name":"b","set":7}]}"#;
    let both = scratch.write("both.json", both.as_bytes());
    assert_eq!(dht(&scratch, &first, &["atomic", &both]).assert_code(0).stdout.len(), 2);
    let refused = dht(&scratch, &second, &["atomic", &both, "--json"]);
    assert_eq!(refused.assert_code(1).events("refused")[0]["there"][0]["value"], 5);
    let moved = r#"{"group":"bank","changes":[{"name":"a","delete":true},{"name":"b","set":12}]}"#;
    let moved = scratch.write("moved.json", moved.as_bytes());
    dht(&scratch, &second, &["atomic", &moved]).assert_code(0);
    assert_eq!(says(&scratch, &third, &["get", "b", "--group", "bank"]), "12");
    dht(&scratch, &third, &["get", "a", "--group", "bank"]).assert_code(1);
    for wrong in
        ["{}", r#"{"group":"bank","changes":[]}"#, r#"{"group":"g","changes":[{"name":"a"}]}"#, "nonsense"]
    {
        let file = scratch.write("wrong.json", wrong.as_bytes());
        dht(&scratch, &first, &["atomic", &file]).assert_code(2);
    }
    dht(&scratch, &first, &["diff", "doc", "no-such-file"]).assert_code(1);
}

/// Five nodes; all of them end and start again with what they kept; two never come back.
#[test]
fn values_survive_restarts() {
    let scratch = Scratch::new("restarts");
    let [first, second, third] = three(&scratch);
    let seed = ["--seed", &first.node.uri.clone()];
    let (fourth, fifth) = (start(&scratch, "fourth", &seed), start(&scratch, "fifth", &seed));
    let all = [first, second, third, fourth, fifth];
    for one in &all {
        let others: Vec<&Member> = all.iter().filter(|other| other.name != one.name).collect();
        one.wait_until_known(&scratch, &others);
    }
    for number in 0..8 {
        says(&scratch, &all[number % 5], &["put", &format!("k{number}"), &format!("value {number}")]);
    }
    let decided = says(&scratch, &all[1], &["put", "decided", "yes", "--cas", "none"]);
    let [first, second, third, fourth, fifth] = all;
    for member in [first, second, third, fourth] {
        member.node.stop().assert_code(0);
    }
    let mut fifth = fifth;
    fifth.node.process.kill();
    let first = start(&scratch, "first", &[]);
    let seed = ["--seed", &first.node.uri.clone()];
    let second = start(&scratch, "second", &seed);
    let fifth = start(&scratch, "fifth", &seed);
    first.wait_until_known(&scratch, &[&second, &fifth]);
    for number in 0..8 {
        let key = format!("k{number}");
        wait_until("it is there again", || {
            let got = dht(&scratch, &fifth, &["get", &key]);
            got.code == Some(0) && got.stdout == [format!("value {number}")]
        });
    }
    wait_until("what was decided is there again", || {
        dht(&scratch, &second, &["get", "decided", "--cas"]).stdout == [decided.clone()]
    });
    let log = first.node.stop();
    assert!(log.assert_code(0).stderr.contains("values are kept from before"), "{log:?}");
}

fn lock(scratch: &Scratch, member: &Member, arguments: &[&str], inside: &str) -> Process {
    let front = ["dht", "lock", "work", "--state", member.name];
    let tail = ["--", "sh", "-c", inside];
    Process::start(command(scratch, [&front[..], arguments, &tail].concat()))
}

/// Two shells with two nodes, and one more of the first's, run the same commands in turns, never together.
#[test]
fn two_shells_fight_over_a_lock() {
    let scratch = Scratch::new("fight");
    let [first, second, _third] = three(&scratch);
    // Whoever finds the folder has met another.
    let inside = "mkdir inside || exit 99; echo $DUNLIN_FENCING_TOKEN $DUNLIN_LOCK_KEY >> tokens; sleep 0.1; rmdir inside";
    for _ in 0..3 {
        let all = [&first, &second, &first].map(|member| lock(&scratch, member, &[], inside));
        for shell in all {
            shell.wait().assert_code(0);
        }
    }
    let tokens = fs::read_to_string(scratch.at("tokens")).unwrap();
    let tokens: Vec<u64> =
        tokens.lines().map(|line| line.strip_suffix(" work").unwrap().parse().unwrap()).collect();
    assert!(tokens.len() == 9 && tokens.is_sorted_by(|one, other| one < other), "{tokens:?}");
    // While it is held, nobody who does not wait gets it; what is written to its key takes its token.
    let held = lock(&scratch, &first, &[], "touch held; while [ ! -e free ]; do sleep 0.05; done");
    wait_until("it is held", || scratch.at("held").exists());
    let refused = lock(&scratch, &second, &["--wait", "0s"], "touch never").wait();
    let error = refused.assert_code(1).error();
    assert!(
        error.contains("it is locked") && error.contains(first.id()) && !scratch.at("never").exists(),
        "{error}"
    );
    let refused = dht(&scratch, &second, &["put", "work", "x"]);
    assert!(refused.assert_code(1).error().contains("it is locked"), "{refused:?}");
    scratch.write("free", b"");
    held.wait().assert_code(0);
    let put = format!("{} dht put work done --state first", dunlin().display());
    lock(&scratch, &first, &[], &put).wait().assert_code(0);
    assert_eq!(says(&scratch, &second, &["get", "work"]), "done");
}

#[test]
fn a_locked_commands_end_is_passed_on() {
    let scratch = Scratch::new("codes");
    let [first, _second, _third] = three(&scratch);
    let run = |inside: &str| lock(&scratch, &first, &[], inside).wait();
    run("exit 7").assert_code(7);
    run("kill -USR1 $$").assert_code(128 + 10);
    let arguments = ["dht", "lock", "work", "--state", "first", "--", "/no/such/command"];
    let missing = Process::dunlin(&scratch, &arguments).wait();
    assert!(missing.assert_code(127).error().contains("cannot run /no/such/command"), "{missing:?}");
    // Signals are the command's.
    let asked = lock(&scratch, &first, &[], "trap 'exit 3' TERM; touch ready; while :; do sleep 0.05; done");
    wait_until("it runs", || scratch.at("ready").exists());
    asked.signal(Signal::TERM);
    asked.wait().assert_code(3);
    // Killed itself, it takes the command along, and the lock runs out.
    let mut killed = lock(&scratch, &first, &["--lease", "2s"], "echo $$ > pid; exec sleep 1000");
    wait_until("it runs", || fs::read_to_string(scratch.at("pid")).is_ok_and(|pid| pid.ends_with('\n')));
    let pid = fs::read_to_string(scratch.at("pid")).unwrap();
    killed.kill();
    wait_until("the command is gone", || is_gone(pid.trim()));
    lock(&scratch, &first, &["--wait", "60s"], "true").wait().assert_code(0);
}

/// A process that is no more, or waits to be buried.
fn is_gone(pid: &str) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    status.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
}

/// The node that holds a lock is killed: the command is ended, even one that will not, before another has the lock.
#[test]
fn a_lock_that_is_lost_ends_its_command() {
    let scratch = Scratch::new("lost");
    let [mut first, second, _third] = three(&scratch);
    let inside = "trap '' TERM; sleep 1000 & echo $$ $! > pids; wait; wait; sleep 1000";
    let held = lock(&scratch, &first, &["--lease", "10s"], inside);
    wait_until("it runs", || fs::read_to_string(scratch.at("pids")).is_ok_and(|pids| pids.ends_with('\n')));
    let pids = fs::read_to_string(scratch.at("pids")).unwrap();
    let look = format!("for pid in {}; do ! kill -0 $pid 2>/dev/null || exit 99; done", pids.trim());
    let other = lock(&scratch, &second, &["--wait", "100s"], &look);
    first.node.process.kill();
    let ended = held.wait();
    let error = ended.assert_code(1).error();
    assert!(error.contains("was lost") && error.contains("the node has ended"), "{error}");
    for pid in pids.split_whitespace() {
        wait_until("it is gone with its lock", || is_gone(pid));
    }
    other.wait().assert_code(0);
}

/// Keys of each writer: a holder keeps no more than a thousand values of one node.
const SLOTS: u64 = 40;
const WRITERS: u64 = 4;

/// The text of eight digits.
fn key_of(slot: u64) -> String {
    to_hex(&[&[0xa8], format!("{slot:08}").as_bytes()].concat())
}

/// Bytes that begin with the number, and end as no other number's do.
fn value_of(number: u64) -> String {
    let bytes =
        [&number.to_be_bytes()[..], &noise(usize::try_from(number * 37 % 200).unwrap(), number + 1)].concat();
    to_hex(&[&[0xc4, u8::try_from(bytes.len()).unwrap()], &bytes[..]].concat())
}

/// Puts one value after another until the node is gone; for each slot the last that was acknowledged.
fn put_until_killed(socket: &Path, writer: u64, first: u64) -> BTreeMap<u64, u64> {
    let mut acknowledged = BTreeMap::new();
    for number in first.. {
        let slot = writer * SLOTS + number % SLOTS;
        let put = PutLine {
            key: key_of(slot),
            value: value_of(number),
            life_ms: None,
            is_owned: false,
            leave: None,
        };
        let answer = call(socket, &Asked::Put(put)).and_then(|mut answers| answers.next_within(DEADLINE));
        match answer {
            Ok(Some(Answer::Kept { .. })) => drop(acknowledged.insert(slot, number)),
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) | Err(_) => break,
        }
    }
    acknowledged
}

/// A node alone: what it acknowledges is on its own disk, and nowhere else.
fn kill_while_storing(rounds: u64) {
    let scratch = Scratch::new("killed-node");
    let arguments = ["node", "--listen", "127.0.0.1:0", "--cores", "2", "--io", "mmsg", "--network", "live"];
    let run = || {
        let mut command = command(&scratch, [&arguments[..], &["--state", "only"]].concat());
        command.env("DUNLIN_NODE_ALLOW_MORE_SHARDS", "true");
        Node::start_command(command)
    };
    let socket = scratch.at("only/socket");
    let (mut kept, mut acknowledged) = (BTreeMap::new(), 0);
    let mut node = run();
    for round in 0..rounds {
        // Several writers, so that stores are under way at any moment.
        let write = |writer| {
            let socket = socket.clone();
            std::thread::spawn(move || put_until_killed(&socket, writer, round * 1_000_000 + 1))
        };
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        let draw = noise(1, round + 1)[0];
        std::thread::sleep(Duration::from_millis(50 + u64::from(draw) * 2));
        node.process.kill();
        for writer in writers {
            let last = writer.join().unwrap();
            acknowledged += last.len();
            kept.extend(last);
        }
        node = run();
        kept.iter().for_each(|(slot, number)| assert_kept(&socket, *slot, *number));
    }
    println!("{rounds} kills; {acknowledged} values had been the last to be acknowledged of their keys");
    assert!(acknowledged as u64 > rounds, "too little was acknowledged to show anything: {acknowledged}");
    node.stop().assert_code(0);
}

/// The slot has what was acknowledged last, or what was being put when the node was killed.
#[track_caller]
fn assert_kept(socket: &Path, slot: u64, number: u64) {
    let get = GetLine { key: key_of(slot), owner: None, quorum: None };
    let answer = call(socket, &Asked::Get(get)).unwrap().next_within(DEADLINE).unwrap();
    let Some(Answer::Value(Some(found))) = &answer else { panic!("{number} was acknowledged: {answer:?}") };
    let there = u64::from_str_radix(&found.value[4..20], 16).unwrap();
    assert!(
        there >= number && found.value == value_of(there),
        "slot {slot}: {there}, {number} was acknowledged"
    );
}

#[test]
fn a_node_killed_while_it_stores_loses_nothing_that_it_acknowledged() {
    kill_while_storing(5);
}

#[test]
#[ignore = "takes minutes"]
fn a_node_killed_a_hundred_times_while_it_stores_loses_nothing() {
    kill_while_storing(100);
}

/// The documented script: ten nodes from one seed, three of which are killed; two shells and one lock.
#[test]
fn ten_nodes_keep_values_and_locks() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ten-nodes");
    let mut command = Command::new(script);
    command.arg(dunlin());
    let ended = Process::start(command).wait_for(DEADLINE * 3);
    ended.assert_code(0);
    assert_eq!(ended.stdout.last().map(String::as_str), Some("== all of it held"), "{ended:#?}");
}
