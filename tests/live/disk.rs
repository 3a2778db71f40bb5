//! A node whose disk is full: values are refused with words, and everything else goes on.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dunlin::control::{Answer, Command as Asked, GetLine, PutLine, Status, call, to_hex};
use dunlin_tests::capability::Capability;

use crate::binary::dunlin;
use crate::process::{Node, settle, wait_until};
use crate::scratch::Scratch;
use crate::state::start;
use crate::{DEADLINE, noise};

const VALUE_LEN: usize = 60_000;
/// More than fit beside the ballast, fewer than one writer may have kept.
const VALUES_MAX: u64 = 200;

/// `dunlin node` with its store on a disk of 16 MiB, three quarters of which are taken until there is a file `free`. Its key and its admin
/// socket lie outside.
fn on_a_small_disk(scratch: &Scratch) -> Command {
    std::fs::create_dir_all(scratch.at("small")).unwrap();
    let script = "mount -t tmpfs -o size=16m,mode=700 none small && head -c 12582912 /dev/zero > small/ballast && \
                  { (while [ ! -e free ]; do sleep 0.1; done; rm small/ballast) < /dev/null > /dev/null 2>&1 & } && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(dunlin());
    command.args(["node", "--listen", "127.0.0.1:0", "--cores", "1", "--io", "mmsg", "--network", "live"]);
    settle(&mut command, scratch);
    command.env("DUNLIN_NODE_KEY", scratch.at("keys/key"));
    command.env("DUNLIN_STORE_PATH", scratch.at("small/store"));
    // The disk is to be full before the writer has as much as it may.
    command.env("DUNLIN_LIMITS_VALUES_WRITER_MAX", "64 MiB");
    command.env("DUNLIN_ADMIN_SOCKET", scratch.at("keys/socket"));
    command
}

#[track_caller]
fn ask(socket: &Path, command: &Asked) -> Answer {
    call(socket, command).unwrap().next_within(DEADLINE).unwrap().expect("an answer")
}

fn key_of(number: u64) -> String {
    to_hex(&[&[0xa8], format!("{number:08}").as_bytes()].concat())
}

fn value_of(number: u64) -> String {
    let [high, low] = (VALUE_LEN as u16).to_be_bytes();
    to_hex(&[&[0xc5, high, low][..], &noise(VALUE_LEN, number + 1)].concat())
}

fn put(socket: &Path, number: u64) -> Answer {
    ask(
        socket,
        &Asked::Put(PutLine { key: key_of(number), value: value_of(number), life_ms: None, is_owned: false }),
    )
}

fn status(socket: &Path) -> Status {
    match ask(socket, &Asked::Status) {
        Answer::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_kept(socket: &Path, number: u64) {
    let get = GetLine { key: key_of(number), owner: None, quorum: None };
    match ask(socket, &Asked::Get(get)) {
        Answer::Value(Some(found)) => assert!(found.value == value_of(number), "{number}"),
        other => panic!("{number} was acknowledged: {other:?}"),
    }
}

/// spec: p2p/full-disk
#[test]
fn a_full_disk_refuses_values_and_nothing_else() {
    let name = "a_full_disk_refuses_values_and_nothing_else";
    if Capability::Mount.is_missing(name) {
        return;
    }
    let scratch = Scratch::new("full-values");
    let node = Node::start_command(on_a_small_disk(&scratch));
    let socket = scratch.at("keys/socket");
    let mut kept = 0;
    let refused = loop {
        match put(&socket, kept) {
            Answer::Kept { .. } => kept += 1,
            Answer::NotChanged(refused) => break refused,
            other => panic!("{other:?}"),
        }
        assert!(kept < VALUES_MAX, "the disk has 16 MiB");
    };
    assert!(refused.reason == "full" && kept > 3, "{refused:?} after {kept}");
    assert!(!refused.words.is_empty());
    wait_until("the status says so", || {
        let store = status(&socket).store.expect("it has a store");
        store.trouble.is_some_and(|trouble| trouble.contains("the disk is full"))
    });
    // Everything else goes on: what was kept is read, others join and talk with it.
    (0..kept).step_by(7).for_each(|number| assert_kept(&socket, number));
    let other = start(&scratch, "other", &["--seed", &node.uri]);
    wait_until("both know each other", || status(&socket).known_nodes == Some(1));
    let said = other.command(&scratch, &["speak", node.uri.as_str(), "good day"]);
    said.assert_code(0);
    other.node.stop().assert_code(0);

    scratch.write("free", b"");
    wait_until("values are kept again", || match put(&socket, kept) {
        Answer::Kept { .. } => true,
        Answer::NotChanged(refused) => {
            assert_eq!(refused.reason, "full");
            std::thread::sleep(Duration::from_millis(50));
            false
        }
        // The other holder has gone: it is looked for in vain once or twice.
        other => panic!("{other:?}"),
    });
    (0..=kept).for_each(|number| assert_kept(&socket, number));
    assert_eq!(status(&socket).store.and_then(|store| store.trouble), None);
    let ended = node.stop();
    assert!(ended.assert_code(0).stderr.contains("the disk is full"), "it is logged: {ended:?}");
}
