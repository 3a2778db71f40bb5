//! The admin socket and `dunlin status`: a running node, none, too many clients, the wrong ones.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use dunlin_tests::capability::Capability;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::binary::dunlin;
use crate::process::{Node, run, wait_until};
use crate::scratch::Scratch;
use crate::{DEADLINE, backends};

const LISTEN: [&str; 3] = ["node", "--listen", "127.0.0.1:0"];

fn socket(scratch: &Scratch) -> PathBuf {
    scratch.at("state/dunlin/socket")
}

fn status(scratch: &Scratch) -> Value {
    let ended = run(scratch, &["status", "--json"]);
    serde_json::from_str(&ended.assert_code(0).stdout[0]).unwrap()
}

/// What the node says to these bytes.
fn ask(path: &Path, bytes: &[u8]) -> Value {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // What is too long may be answered before it has been read.
    let _ = stream.write_all(bytes);
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        read => drop(read.unwrap()),
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

#[test]
fn a_running_node_says_how_it_is() {
    for io in backends("a_running_node_says_how_it_is") {
        let scratch = Scratch::new("status");
        let node = Node::start(
            &scratch,
            &[&LISTEN[..], &["--io", io, "--cores", "1", "--network", "tests"]].concat(),
        );
        run(&scratch, &["ping", &node.uri, "-c", "3", "-i", "0.01", "--network", "tests"]).assert_code(0);
        // Its numbers are those of the last pause.
        wait_until("the ping is counted", || {
            status(&scratch)["shards"][0]["received"]["datagrams"].as_u64() >= Some(4)
        });
        let told = status(&scratch);
        assert!(node.uri.contains(told["id"].as_str().unwrap()) && told["uris"][0] == *node.uri, "{told}");
        assert_eq!(told["process"], node.process.number());
        assert_eq!((&told["network"], told["shards"].as_array().unwrap().len()), (&json!("tests"), 1));
        let shard = &told["shards"][0];
        assert!(shard["io"].as_str().unwrap().starts_with(io), "{told}");
        assert!(
            shard["counters"]["datagrams_in"].as_u64() >= Some(4)
                && shard["sent"]["bytes"].as_u64() > Some(100)
        );
        let text = run(&scratch, &["status"]).assert_code(0).stdout.join("\n");
        assert!(
            text.contains(&node.uri) && text.contains("shard 0") && text.contains("network    tests"),
            "{text}"
        );
        node.stop().assert_code(0);
        assert!(!socket(&scratch).exists(), "it goes with its node");
    }
}

/// The key and the secret of reset tokens, in the forms in which bytes become text.
#[test]
fn no_secret_is_in_an_answer() {
    let scratch = Scratch::new("secrets");
    let node = Node::start(&scratch, &LISTEN);
    let told = status(&scratch).to_string();
    let key = fs::read_to_string(scratch.at("state/dunlin/key")).unwrap();
    let words: Vec<&str> = key.split_whitespace().filter(|word| word.len() >= 64).collect();
    assert!(!words.is_empty(), "the file's form has changed: {}", key.len());
    assert!(words.iter().all(|word| !told.contains(&word[..64])));
    let reset = fs::read(scratch.at("state/dunlin/key.reset")).unwrap();
    let hex: String = reset.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!told.contains(&hex) && !told.contains(&serde_json::to_string(&reset).unwrap()));
    node.stop().assert_code(0);
}

#[test]
fn without_a_node_a_command_says_what_to_do() {
    let scratch = Scratch::new("no-node");
    let ended = run(&scratch, &["status"]);
    let error = ended.assert_code(1).error();
    assert!(error.contains("no node is running at ") && error.contains("`dunlin node`"), "{error}");
    assert!(error.contains(socket(&scratch).to_str().unwrap()), "{error}");
    let ended = run(&scratch, &["status", "--state", "elsewhere"]);
    assert!(ended.assert_code(1).error().contains("elsewhere/socket"), "{ended:?}");
    run(&scratch, &["status", "--no-such-flag"]).assert_code(2);
}

#[test]
fn the_socket_of_a_dead_node_is_replaced_and_that_of_a_live_one_is_not() {
    let scratch = Scratch::new("stale");
    let mut node = Node::start(&scratch, &LISTEN);
    node.process.kill();
    assert!(socket(&scratch).exists(), "a killed node leaves it behind");
    assert!(run(&scratch, &["status"]).assert_code(1).error().contains("no node is running"));
    let node = Node::start(&scratch, &LISTEN);
    assert_eq!(status(&scratch)["process"], node.process.number());
    let second = run(&scratch, &LISTEN);
    assert!(second.assert_code(1).error().contains("--state"), "{second:?}");
    assert_eq!(status(&scratch)["process"], node.process.number(), "the first one did not notice");
    // In a folder of its own it runs, though its path is longer than a socket's address may be.
    let folder = format!("{}/{}", scratch.path().display(), "deep/".repeat(30));
    let other = Node::start(&scratch, &[&LISTEN[..], &["--state", &folder]].concat());
    let told = run(&scratch, &["status", "--json", "--state", &folder]);
    let told: Value = serde_json::from_str(&told.assert_code(0).stdout[0]).unwrap();
    assert_eq!(told["process"], other.process.number());
    other.stop().assert_code(0);
    node.stop().assert_code(0);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let scratch = Scratch::new("no-socket");
    let path = scratch.write("state/dunlin/socket", b"a file of somebody's");
    fs::set_permissions(scratch.at("state/dunlin"), fs::Permissions::from_mode(0o700)).unwrap();
    let ended = run(&scratch, &LISTEN);
    assert!(ended.assert_code(1).error().contains("this is no socket"), "{ended:?}");
    assert_eq!(fs::read(path).unwrap(), b"a file of somebody's");
}

/// spec: p2p/admin-socket
#[test]
fn the_socket_is_for_this_user_alone_and_others_are_told_so() {
    let name = "the_socket_is_for_this_user_alone_and_others_are_told_so";
    let scratch = Scratch::new("others");
    let node = Node::start(&scratch, &LISTEN);
    assert_eq!(fs::metadata(socket(&scratch)).unwrap().permissions().mode() & 0o777, 0o600);
    node.stop().assert_code(0);
    if Capability::Root.is_missing(name) {
        return;
    }
    // Where everybody can go, with a socket that everybody can open: the kernel says who asks all the same.
    let open = Open::new();
    let state = open.0.join("state");
    let node = Node::start(&scratch, &[&LISTEN[..], &["--state", state.to_str().unwrap()]].concat());
    for (path, mode) in [(&state, 0o755), (&state.join("socket"), 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let asked = |user| open.command(user, &["status", "--state", "state"]).output().unwrap();
    let other = asked(NOBODY);
    let text = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(
        other.status.code() == Some(1) && text.contains("only the user that the node runs as"),
        "{other:?}"
    );
    let root = asked(0);
    assert!(root.status.success(), "{root:?}");
    node.stop();
}

/// A socket that somebody else has put there would hear what this user says.
/// spec: p2p/admin-socket
#[test]
fn a_command_looks_whose_node_it_asks() {
    if Capability::Root.is_missing("a_command_looks_whose_node_it_asks") {
        return;
    }
    let open = Open::new();
    let state = open.0.join("state");
    fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    let arguments = [&LISTEN[..], &["--state", "state", "--io", "mmsg"]].concat();
    let node = Node::start_command(open.command(NOBODY, &arguments));
    let asked = open.command(0, &["status", "--state", "state"]).output().unwrap();
    let text = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.code() == Some(1) && text.contains("is not this user's node"), "{asked:?}");
    let asked = open.command(NOBODY, &["status", "--state", "state"]).output().unwrap();
    assert!(asked.status.success(), "{asked:?}");
    node.stop().assert_code(0);
}

const NOBODY: u32 = 65_534;

/// A folder where everybody can go, with a copy of the command.
struct Open(PathBuf);

impl Open {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dunlin-open-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        // By another process: while this one has it open for writing, what other tests start inherits that.
        let copied = Command::new("cp").arg(dunlin()).arg(path.join("dunlin")).status().unwrap();
        assert!(copied.success());
        for path in [&path, &path.join("dunlin")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(path)
    }

    fn command(&self, user: u32, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.0.join("dunlin"));
        command.args(arguments).current_dir(&self.0).env_clear().uid(user).gid(user);
        command
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn requests_are_bounded_and_nonsense_is_refused() {
    let scratch = Scratch::new("bounds");
    let node = Node::start(&scratch, &LISTEN);
    let path = socket(&scratch);
    let refused = |bytes: &[u8]| ask(&path, bytes)["content"]["refused"].as_str().unwrap().to_owned();
    assert!(refused(b"hello\n").contains("does not understand"));
    assert!(refused(b"{\"version\":9,\"content\":\"status\"}\n").contains("version 9"));
    assert!(refused(&[b'['; 150_000]).contains("did not come within"));
    let mut long = vec![b' '; 1 << 20];
    long.push(b'\n');
    assert!(refused(&long).contains("too long"));
    assert!(refused(b"\xff\xfe\0\n").contains("does not understand"));
    let content = &ask(&path, b"{\"version\":1,\"content\":\"status\"}\n")["content"];
    assert!(content["status"]["id"].is_string());
    node.stop().assert_code(0);
}

/// Eight that say nothing keep others out for as long as a request may take, and not longer.
#[test]
fn idle_clients_make_room_in_time() {
    let scratch = Scratch::new("idle");
    let node = Node::start(&scratch, &LISTEN);
    let path = socket(&scratch);
    let idle: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let ended = run(&scratch, &["status"]);
    assert!(ended.assert_code(1).error().contains("8 commands are being served"), "{ended:?}");
    wait_until("there is room again", || run(&scratch, &["status"]).code == Some(0));
    drop(idle);
    // A client that is being served does not keep a node from ending.
    let waiting = UnixStream::connect(&path).unwrap();
    node.process.signal(Signal::TERM);
    node.process.wait().assert_code(0);
    drop(waiting);
}

#[test]
fn a_node_runs_without_an_admin_socket_when_told_so() {
    let scratch = Scratch::new("no-admin");
    let mut command = crate::process::command(&scratch, LISTEN);
    command.env("DUNLIN_ADMIN_ENABLED", "false");
    let node = Node::start_command(command);
    assert!(!socket(&scratch).exists());
    run(&scratch, &["status"]).assert_code(1);
    node.stop().assert_code(0);
}
