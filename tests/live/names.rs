//! A sender of our own making, which offers names that no honest one has.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use dunlin::{Channel, Config, Engine, Peer, SendOptions};
use dunlin_codec::bytes::Writer;
use dunlin_codec::file::{BLOCK_LEN, FileMessage, Offer, Outcome};
use sha2::{Digest, Sha256};

use crate::DEADLINE;
use crate::process::Node;
use crate::scratch::Scratch;

const CHANNEL: SendOptions =
    SendOptions { channel: Channel(16), ordered: true, reliable: true, priority: 128, once: false };

/// A receiver, and our session with it.
struct Target {
    node: Node,
    _engine: Engine,
    peer: Peer,
}

impl Target {
    fn start(scratch: &Scratch) -> Self {
        let node = Node::start(scratch, &["receive", "--dir", "in", "--listen", "127.0.0.1:0"]);
        let config = Config::default().listen("127.0.0.1:0".parse().unwrap()).cores(1);
        let engine = Engine::builder(config).ephemeral().start().unwrap();
        let peer = engine.connect(&node.uri).unwrap();
        Self { node, _engine: engine, peer }
    }

    fn say(&self, message: &FileMessage<'_>) {
        let mut bytes = vec![0; message.encoded_len()];
        message.write(&mut Writer::new(&mut bytes)).unwrap();
        self.peer.send_with(&bytes, CHANNEL).unwrap();
    }

    fn answer<T>(&self, read: impl FnOnce(FileMessage<'_>) -> T) -> T {
        let message = self.peer.recv_timeout(DEADLINE).unwrap();
        read(FileMessage::parse(&message).unwrap())
    }

    /// Offers a file with its bytes; how that ended.
    fn offer(&self, name: &str, bytes: &[u8]) -> (Outcome, String) {
        self.say(&FileMessage::Offer(offer(name, bytes, bytes)));
        self.answer(|answer| match answer {
            FileMessage::Result { outcome, text } => (outcome, text.to_owned()),
            other => panic!("{other}"),
        })
    }
}

fn offer<'a>(name: &'a str, bytes: &[u8], inline: &'a [u8]) -> Offer<'a> {
    let sha256 = Sha256::digest(bytes).into();
    Offer { name, length: bytes.len() as u64, sha256, block_len: BLOCK_LEN, inline }
}

fn part_name(name: &str, bytes: &[u8]) -> String {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!(".{name}.{hash}.part")
}

/// spec: atp/file-names
#[test]
fn no_name_leads_out_of_the_folder() {
    let scratch = Scratch::new("hostile");
    let target = Target::start(&scratch);
    let long = "long".repeat(63);
    let absolute = format!("{}/absolute", scratch.path().display());
    let names = [
        "../escaped",
        "../../escaped",
        "/tmp/../escaped",
        "a/../../escaped",
        "..\\escaped",
        "..",
        ".",
        "/",
        "~/escaped",
        ".hidden",
        "-rf",
        "new\nline",
        "nul\0byte",
        "esc\x1b[2J",
        "\u{202e}txt.exe",
        "con",
        "sub/dir/file",
        &long,
        &absolute,
    ];
    for (index, name) in names.iter().enumerate() {
        let bytes = format!("file {index}");
        let (outcome, stored) = target.offer(name, bytes.as_bytes());
        assert_eq!(outcome, Outcome::Verified, "{name:?}: {stored}");
        // A long name comes back cut.
        let found = scratch
            .list("in")
            .into_iter()
            .find(|found| found == &stored || stored.len() > 120 && found.starts_with(&stored));
        let stored = found.unwrap_or_else(|| panic!("{stored:?} is not there"));
        assert_eq!(fs::read_to_string(scratch.at("in").join(&stored)).unwrap(), bytes, "{name:?}");
        let is_plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | '\u{202e}');
        assert!(stored.chars().all(is_plain) && !stored.starts_with(['.', '-', '~']), "{name:?}: {stored:?}");
    }
    assert_eq!(scratch.list("in").len(), names.len(), "{:?}", scratch.list("in"));
    assert_eq!(scratch.list("."), ["in", "state"], "nothing lies outside");
    target.node.stop().assert_code(0);
}

#[test]
fn planted_links_and_folders_are_neither_followed_nor_replaced() {
    let scratch = Scratch::new("planted");
    let target = Target::start(&scratch);
    let outside = scratch.write("outside", b"untouched");
    symlink(&outside, scratch.at("in/link")).unwrap();
    symlink(scratch.at("made-by-link"), scratch.at("in/dangling")).unwrap();
    fs::create_dir(scratch.at("in/folder")).unwrap();
    for (name, stored) in [("link", "link.1"), ("dangling", "dangling.1"), ("folder", "folder.1")] {
        assert_eq!(target.offer(name, name.as_bytes()), (Outcome::Verified, stored.to_owned()));
        assert_eq!(fs::read_to_string(scratch.at("in").join(stored)).unwrap(), name);
    }
    // Where the unfinished file would lie.
    symlink(&outside, scratch.at("in").join(part_name("part", b"part"))).unwrap();
    let (outcome, why) = target.offer("part", b"part");
    assert!(outcome == Outcome::Failed && why.contains("not a plain file of ours"), "{outcome:?} {why}");
    fs::hard_link(&outside, scratch.at("in").join(part_name("hard", b"hard"))).unwrap();
    assert_eq!(target.offer("hard", b"hard").0, Outcome::Failed);
    assert_eq!(fs::read(&outside).unwrap(), b"untouched");
    assert!(!scratch.at("made-by-link").exists());
    target.node.stop().assert_code(0);
}

#[test]
fn bytes_that_are_not_the_offered_ones_never_appear() {
    let scratch = Scratch::new("mismatch");
    let target = Target::start(&scratch);
    target.say(&FileMessage::Offer(offer("liar", b"honest bytes", b"")));
    target.answer(|answer| assert_eq!(answer, FileMessage::Accept { first_missing: 0, had: 0 }));
    target.say(&FileMessage::Block { offset: 0, bytes: b"forged bytes" });
    target.say(&FileMessage::Done { length: 12 });
    target.answer(|answer| {
        assert!(matches!(answer, FileMessage::Result { outcome: Outcome::Mismatch, .. }), "{answer}")
    });
    assert!(scratch.list("in").is_empty(), "{:?}", scratch.list("in"));
    target.node.stop().assert_code(0);
}

/// Blocks out of turn, too long, too short, before an offer and after the end; an offer that nobody can have room for.
#[test]
fn a_sender_that_breaks_the_rules_harms_only_its_own_file() {
    let scratch = Scratch::new("rules");
    let target = Target::start(&scratch);
    let bytes = vec![7; 3 * BLOCK_LEN as usize / 2];
    let block = &bytes[..BLOCK_LEN as usize];
    target.say(&FileMessage::Block { offset: 0, bytes: block });
    target.say(&FileMessage::Done { length: 1 });
    for (name, wrong) in [
        ("gap", FileMessage::Block { offset: u64::from(BLOCK_LEN), bytes: &bytes[block.len()..] }),
        ("short", FileMessage::Block { offset: 0, bytes: &block[1..] }),
        ("early end", FileMessage::Done { length: bytes.len() as u64 }),
        ("acceptance", FileMessage::Accept { first_missing: 0, had: 0 }),
    ] {
        target.say(&FileMessage::Offer(offer(name, &bytes, b"")));
        target.answer(|answer| assert!(matches!(answer, FileMessage::Accept { .. }), "{name}: {answer}"));
        target.say(&wrong);
        target.answer(|answer| {
            assert!(
                matches!(answer, FileMessage::Result { outcome: Outcome::Failed, .. }),
                "{name}: {answer}"
            )
        });
        target.say(&FileMessage::Block { offset: 0, bytes: block });
    }
    let endless = Offer { length: u64::MAX, ..offer("endless", &bytes, b"") };
    target.say(&FileMessage::Offer(endless));
    target.answer(|answer| {
        assert!(matches!(answer, FileMessage::Result { outcome: Outcome::DiskFull, .. }), "{answer}")
    });
    // That ends a receiver: there may be no room for honest files either.
    let ended = target.node.process.wait_for(Duration::from_secs(60));
    ended.assert_code(1);
}
