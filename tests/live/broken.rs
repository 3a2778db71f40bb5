//! Either side killed at about one half, and the same command given again: the file arrives, and only what is missing travels.

use std::fs;
use std::path::PathBuf;

use dunlin_tests::impair::{Impairment, Link, Proxy};

use crate::process::{Ended, Node, Process, command, free_port, part_len, run, wait_until};
use crate::scratch::Scratch;
use crate::{backends, noise};

const LEN: u64 = 40 << 20;
/// So much may travel twice.
const RESENT_MAX: u64 = 8 << 20;

/// A receiver behind a link that is slow enough to be broken in the middle of a file.
struct Place {
    scratch: Scratch,
    io: &'static str,
    listen: String,
    proxy: Proxy,
    file: String,
}

impl Place {
    fn new(io: &'static str) -> Self {
        let scratch = Scratch::new("broken");
        let port = free_port();
        let link = Link { rate: 300_000_000, ..Link::default() };
        let proxy = Impairment::both(link, 1).start(([127, 0, 0, 1], port).into()).unwrap();
        let file = scratch.write("the file", &noise(LEN as usize, 7));
        Self { scratch, io, listen: format!("127.0.0.1:{port}"), proxy, file }
    }

    fn receive(&self) -> Node {
        let arguments = ["receive", "--dir", "in", "--json", "--listen", &self.listen, "--io", self.io];
        Node::start(&self.scratch, &arguments)
    }

    fn sender(&self, node: &Node) -> Process {
        let uri = node.uri_at(self.proxy.address().port());
        let mut send = command(&self.scratch, ["send", &uri, &self.file, "--json", "--io", self.io]);
        // A receiver that is gone for good need not be waited for long.
        send.env("DUNLIN_TRANSPORT_IDLE_TIMEOUT", "6s");
        Process::start(send)
    }

    fn folder(&self) -> PathBuf {
        self.scratch.at("in")
    }

    /// Waits until about one half is there; how much exactly.
    fn wait_for_half(&self) -> u64 {
        wait_until("one half is there", || part_len(&self.folder()) >= LEN / 2);
        part_len(&self.folder())
    }

    /// The second try brought the rest, and hardly more.
    #[track_caller]
    fn assert_resumed(&self, sent: &Ended, half: u64) {
        let stored = &sent.assert_code(0).events("stored")[0];
        let number = |name: &str| stored[name].as_u64().unwrap();
        assert!(number("bytes_resent") <= RESENT_MAX, "{sent:#?}");
        assert!(number("first_missing") + RESENT_MAX >= half, "{half}: {sent:#?}");
        assert_eq!(number("first_missing") + number("bytes_moved"), LEN, "{sent:#?}");
        assert!(fs::read(&self.file).unwrap() == fs::read(self.folder().join("the file")).unwrap());
        assert_eq!(self.scratch.list("in"), ["the file"], "no part is left");
    }
}

/// spec: atp/file-resume
#[test]
fn a_killed_sender_goes_on_where_it_stopped() {
    for io in backends("a_killed_sender_goes_on_where_it_stopped") {
        let place = Place::new(io);
        let mut node = place.receive();
        let mut sender = place.sender(&node);
        let half = place.wait_for_half();
        sender.kill();
        assert!(node.process.is_running(), "a receiver goes on waiting");
        let sent = place.sender(&node).wait();
        place.assert_resumed(&sent, half);
        node.stop().assert_code(0);
    }
}

/// A receiver that comes back meets a sender that is still there: the sender goes on by itself.
#[test]
fn a_receiver_that_restarts_in_the_middle_costs_its_sender_nothing() {
    for io in backends("a_receiver_that_restarts_in_the_middle_costs_its_sender_nothing") {
        let place = Place::new(io);
        let mut node = place.receive();
        let sender = place.sender(&node);
        let half = place.wait_for_half();
        node.process.kill();
        let node = place.receive();
        place.assert_resumed(&sender.wait(), half);
        node.stop().assert_code(0);
    }
}

/// A receiver that does not come back: its sender says so, and the same command finds the next one.
#[test]
fn a_killed_receiver_ends_its_sender_which_then_goes_on() {
    for io in backends("a_killed_receiver_ends_its_sender_which_then_goes_on") {
        let place = Place::new(io);
        let mut node = place.receive();
        let sender = place.sender(&node);
        let half = place.wait_for_half();
        node.process.kill();
        let sent = sender.wait();
        assert!(sent.assert_code(1).stderr.contains("the file: "), "{sent:#?}");
        assert!(sent.stderr.contains("same command again"), "{sent:#?}");
        let node = place.receive();
        let sent = place.sender(&node).wait();
        place.assert_resumed(&sent, half);
        node.stop().assert_code(0);
    }
}

/// What a crash has mixed up is found: bytes that do not have the recorded hash come again.
#[test]
fn a_damaged_part_is_believed_only_as_far_as_its_hashes_go() {
    let place = Place::new("mmsg");
    let mut node = place.receive();
    let mut sender = place.sender(&node);
    place.wait_for_half();
    sender.kill();
    node.process.kill();
    let part = place.scratch.list("in").into_iter().find(|name| name.ends_with(".part")).unwrap();
    let path = place.folder().join(part);
    let mut bytes = fs::read(&path).unwrap();
    let damaged = 9 << 20;
    bytes[damaged] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let node = place.receive();
    let sent = place.sender(&node).wait();
    let stored = &sent.assert_code(0).events("stored")[0];
    let first_missing = stored["first_missing"].as_u64().unwrap();
    assert!(((damaged - (1 << 20)) as u64..=damaged as u64).contains(&first_missing), "{sent:#?}");
    assert_eq!(stored["bytes_resent"].as_u64().unwrap(), bytes.len() as u64 - first_missing, "{sent:#?}");
    assert!(fs::read(&place.file).unwrap() == fs::read(place.folder().join("the file")).unwrap());
    let again = run(&place.scratch, &["send", &node.uri, &place.file, "--json"]);
    assert_eq!(again.assert_code(0).events("skipped").len(), 1, "{again:#?}");
    node.stop().assert_code(0);
}
