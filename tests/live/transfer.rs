//! Files between processes: whole, broken off and resumed, under loss, with names that would escape.

use std::time::Duration;

use dunlin_tests::impair::{Impairment, Link};

use crate::program::{Folder, Server, back_ends, complaint, number_of, program, run};

/// What may travel twice after a break.
const RESENT_MAX: u64 = 8 << 20;

fn receiver(folder: &Folder, io: &str) -> Server {
    let (dir, key) = (folder.path("in"), folder.path("key"));
    Server::start(&["receive", "--dir", &dir, "--key", &key, "--listen", "127.0.0.1:0", "--io", io])
}

fn assert_same(sent: &str, folder: &Folder, name: &str) {
    let (sent, stored) = (std::fs::read(sent).unwrap(), std::fs::read(folder.path(name)).unwrap());
    assert!(sent == stored, "{name} differs: {} of {} bytes", stored.len(), sent.len());
}

#[test]
fn several_files_arrive_whole_and_once() {
    for io in back_ends("several_files_arrive_whole_and_once") {
        let folder = Folder::new();
        let server = receiver(&folder, io);
        let files: Vec<String> =
            [0, 1, 70_000, 3 << 20].map(|len| folder.file(&format!("file-{len}"), len)).to_vec();
        let mut arguments = vec!["send", server.uri.as_str(), "--io", io];
        arguments.extend(files.iter().map(String::as_str));
        let sent = run(&arguments);
        assert!(sent.status.success(), "{}", complaint(&sent));
        for file in &files {
            assert_same(file, &folder, &format!("in/{}", file.rsplit('/').next().unwrap()));
        }
        let again = run(&arguments);
        let text = String::from_utf8_lossy(&again.stdout).into_owned() + &complaint(&again);
        assert!(
            again.status.success() && text.contains("already"),
            "the same again is skipped and said: {text}"
        );
    }
}

/// A small file rides in the first datagram; another one of its name is stored beside it.
#[test]
fn a_name_that_is_taken_gets_a_number() {
    let folder = Folder::new();
    let server = receiver(&folder, "mmsg");
    let file = folder.file("note", 300);
    assert!(run(&["send", "--zero-rtt", &server.uri, &file]).status.success());
    assert_same(&file, &folder, "in/note");
    std::fs::write(&file, b"something else").unwrap();
    assert!(run(&["send", &server.uri, &file]).status.success());
    assert_same(&file, &folder, "in/note.1");
}

/// 64 MiB through a link that loses 5 % in both directions.
#[test]
fn a_file_survives_five_percent_loss() {
    for io in back_ends("a_file_survives_five_percent_loss") {
        through_a_bad_link(io, 64 << 20);
    }
}

#[test]
#[ignore = "1 GiB: cargo live -- --ignored"]
fn a_gigabyte_survives_five_percent_loss() {
    for io in back_ends("a_gigabyte_survives_five_percent_loss") {
        through_a_bad_link(io, 1 << 30);
    }
}

fn through_a_bad_link(io: &str, len: usize) {
    let folder = Folder::new();
    let server = receiver(&folder, io);
    let link = Link { loss: 0.05, ..Link::default() };
    let proxy = Impairment::both(link, 7).start(server.address()).unwrap();
    let file = folder.file("big", len);
    let sent = run(&["send", &server.uri_at(proxy.address()), &file, "--io", io]);
    assert!(sent.status.success(), "{io}: {}", complaint(&sent));
    assert_same(&file, &folder, "in/big");
}

/// Whoever is killed in the middle: the same command again brings the rest, and little travels twice.
/// spec: atp/file-resume
#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    for kill_receiver in [false, true] {
        let folder = Folder::new();
        let mut server = receiver(&folder, "mmsg");
        let address = server.address().to_string();
        let file = folder.file("big", 48 << 20);
        // 200 Mbit/s: the middle of the transfer lasts long enough to be hit.
        let link = Link { rate: 200_000_000, ..Link::default() };
        let proxy = Impairment::both(link, 3).start(server.address()).unwrap();
        let target = server.uri_at(proxy.address());
        let mut sender = std::process::Command::new(program())
            .args(["send", &target, &file])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for_half(&folder, 48 << 20);
        if kill_receiver {
            server.kill();
            let (dir, key) = (folder.path("in"), folder.path("key"));
            server = Server::start(&["receive", "--dir", &dir, "--key", &key, "--listen", &address]);
        }
        sender.kill().unwrap();
        sender.wait().unwrap();
        let again = run(&["send", "--json", &server.uri, &file]);
        assert!(again.status.success(), "{}", complaint(&again));
        assert_same(&file, &folder, "in/big");
        let resent = number_of(&again, "bytes_resent");
        assert!(resent <= RESENT_MAX, "{resent} bytes travelled twice");
        let moved = number_of(&again, "bytes_moved");
        assert!(moved < 40 << 20, "only what was missing travels: {moved}");
    }
}

/// Until a third of the file lies in the receiver's folder.
fn wait_for_half(folder: &Folder, len: u64) {
    for _ in 0..6_000 {
        let parts = std::fs::read_dir(folder.path("in")).unwrap().flatten();
        let largest = parts.filter_map(|part| part.metadata().ok()).map(|part| part.len()).max();
        if largest.is_some_and(|largest| largest > len / 3) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("a third of the file did not arrive in 30 s");
}
