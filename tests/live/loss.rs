//! Files through a bad link, between two processes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use dunlin_tests::capability::Capability;
use dunlin_tests::impair::{Impairment, Link, Proxy};
use sha2::{Digest, Sha256};

use crate::process::{Node, Process, part_len, wait_until};
use crate::scratch::Scratch;
use crate::{backends, noise};

/// Writes a file of so many bytes that are all different; its path and hash.
fn large_file(scratch: &Scratch, len: u64) -> (String, [u8; 32]) {
    let path = scratch.write("large", b"");
    let mut file = io::BufWriter::new(File::create(&path).unwrap());
    let mut hash = Sha256::new();
    for piece in 0..len >> 20 {
        let bytes = noise(1 << 20, piece + 1);
        hash.update(&bytes);
        file.write_all(&bytes).unwrap();
    }
    file.flush().unwrap();
    (path, hash.finalize().into())
}

fn hash_of(path: &std::path::Path) -> [u8; 32] {
    let mut file = File::open(path).unwrap();
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hash.finalize().into(),
            len => hash.update(&buffer[..len]),
        }
    }
}

/// Sends a file through the link while `disturb` does what it likes, and compares.
fn carry(
    io: &'static str,
    len: u64,
    (link, deadline): (Link, Duration),
    disturb: impl FnOnce(&Proxy, &Scratch),
) {
    let scratch = Scratch::new("loss");
    let listen = ["receive", "--dir", "in", "--once", "--json", "--listen", "127.0.0.1:0", "--io", io];
    let node = Node::start(&scratch, &listen);
    let proxy = Impairment::both(link, 5).start(([127, 0, 0, 1], node.port()).into()).unwrap();
    let (path, hash) = large_file(&scratch, len);
    let uri = node.uri_at(proxy.address().port());
    let sender = Process::dunlin(&scratch, &["send", &uri, &path, "--json", "--io", io]);
    disturb(&proxy, &scratch);
    let sent = sender.wait_for(deadline);
    sent.assert_code(0);
    node.process.wait().assert_code(0);
    assert!(hash_of(&scratch.at("in/large")) == hash, "the bytes differ");
    println!("{io}: {len} bytes in {} s, {:?}", sent.events("stored")[0]["seconds"], proxy.stats());
}

fn lossy() -> Link {
    Link { loss: 0.05, ..Link::default() }
}

#[test]
fn five_percent_loss_takes_nothing_from_64_mib_on_mmsg() {
    carry("mmsg", 64 << 20, (lossy(), Duration::from_secs(300)), |_, _| {});
}

#[test]
fn five_percent_loss_takes_nothing_from_64_mib_on_uring() {
    if !Capability::IoUring.is_missing("five_percent_loss_takes_nothing_from_64_mib_on_uring") {
        carry("uring", 64 << 20, (lossy(), Duration::from_secs(300)), |_, _| {});
    }
}

#[test]
#[ignore = "a GiB: run by `cargo live -- --ignored`"]
fn five_percent_loss_takes_nothing_from_a_gib_on_mmsg() {
    carry("mmsg", 1 << 30, (lossy(), Duration::from_secs(1_800)), |_, _| {});
}

#[test]
#[ignore = "a GiB: run by `cargo live -- --ignored`"]
fn five_percent_loss_takes_nothing_from_a_gib_on_uring() {
    if !Capability::IoUring.is_missing("five_percent_loss_takes_nothing_from_a_gib_on_uring") {
        carry("uring", 1 << 30, (lossy(), Duration::from_secs(1_800)), |_, _| {});
    }
}

/// A sender's end is heard although one datagram in four is lost: its CLOSE goes once, and nobody is there to say it again.
/// spec: atp/file-goodbye
#[test]
fn a_receiver_hears_that_its_sender_is_through() {
    for io in backends("a_receiver_hears_that_its_sender_is_through") {
        for seed in 0..5 {
            let scratch = Scratch::new("goodbye");
            let listen = ["receive", "--dir", "in", "--once", "--listen", "127.0.0.1:0", "--io", io];
            let node = Node::start(&scratch, &listen);
            let link = Link { loss: 0.25, ..Link::default() };
            let proxy = Impairment::both(link, seed).start(([127, 0, 0, 1], node.port()).into()).unwrap();
            let path = scratch.write("small", &noise(20_000, seed));
            let sender = Process::dunlin(&scratch, &["send", &node.uri_at(proxy.address().port()), &path]);
            sender.wait().assert_code(0);
            // Well before the session would be given up for silence.
            node.process.wait_for(Duration::from_secs(60)).assert_code(0);
        }
    }
}

#[test]
fn a_link_that_does_everything_wrong_changes_no_byte() {
    let link = Link {
        loss: 0.02,
        duplicate: 0.02,
        corrupt: 0.01,
        reorder: 0.02,
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(2),
        ..Link::default()
    };
    for io in backends("a_link_that_does_everything_wrong_changes_no_byte") {
        carry(io, 4 << 20, (link.clone(), Duration::from_secs(300)), |_, _| {});
    }
}

#[test]
fn a_nat_that_forgets_in_the_middle_of_a_file_is_survived() {
    let link = Link { rate: 300_000_000, delay: Duration::from_millis(2), ..Link::default() };
    for io in backends("a_nat_that_forgets_in_the_middle_of_a_file_is_survived") {
        carry(io, 32 << 20, (link.clone(), Duration::from_secs(300)), |proxy, scratch| {
            for share in 1..4 {
                wait_until("more of it is there", || {
                    part_len(&scratch.at("in")) > share * (8 << 20) || scratch.at("in/large").exists()
                });
                proxy.rebind();
            }
        });
    }
}
