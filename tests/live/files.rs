//! `dunlin send` and `dunlin receive`, when nothing goes wrong, and what an orderly fault looks like.

use std::fs;
use std::process::Command;

use dunlin_tests::capability::Capability;
use rustix::process::Signal;

use crate::process::{Node, Process, command, part_len, run, settle, wait_until};
use crate::scratch::Scratch;
use crate::{backends, noise};

#[test]
fn several_files_arrive_whole_on_both_back_ends_and_with_more_shards() {
    for io in backends("several_files_arrive_whole_on_both_back_ends_and_with_more_shards") {
        for shards in ["1", "3"] {
            let scratch = Scratch::new("several");
            let mut receive = command(
                &scratch,
                ["receive", "--dir", "in", "--once", "--json", "--listen", "127.0.0.1:0", "--io", io],
            );
            receive.env("DUNLIN_NODE_ALLOW_MORE_SHARDS", "true").env("DUNLIN_NODE_CORES", shards);
            let node = Node::start_command(receive);
            let lens = [0, 1, 1_000, 16_384, 16_385, 262_144, 262_145, 3_000_000];
            let paths: Vec<String> = (0..)
                .zip(lens)
                .map(|(seed, len)| scratch.write(&format!("out/file {seed}"), &noise(len, seed)))
                .collect();
            let mut arguments = vec!["send", &node.uri, "--json", "--io", io];
            arguments.extend(paths.iter().map(String::as_str));
            let sent = run(&scratch, &arguments);
            assert_eq!(sent.assert_code(0).events("stored").len(), lens.len(), "{sent:#?}");
            let received = node.process.wait();
            assert_eq!(received.assert_code(0).events("summary")[0]["stored"], lens.len(), "{received:#?}");
            for path in &paths {
                let name = path.rsplit('/').next().unwrap();
                assert!(fs::read(path).unwrap() == fs::read(scratch.at("in").join(name)).unwrap(), "{name}");
            }
            assert_eq!(
                scratch.list("in").len(),
                lens.len(),
                "nothing else is left: {:?}",
                scratch.list("in")
            );
        }
    }
}

/// Through a slow link: four have begun before the first is through, and the fifth waits for one of them.
#[test]
fn four_files_travel_at_once() {
    let scratch = Scratch::new("four");
    let node = Node::start(&scratch, &["receive", "--dir", "in", "--listen", "127.0.0.1:0"]);
    let link = dunlin_tests::impair::Link { rate: 100_000_000, ..Default::default() };
    let to = format!("127.0.0.1:{}", node.port()).parse().unwrap();
    let proxy = dunlin_tests::impair::Impairment::both(link, 1).start(to).unwrap();
    let paths: Vec<String> =
        (0..6).map(|seed| scratch.write(&format!("file {seed}"), &noise(2_000_000, seed))).collect();
    let uri = node.uri_at(proxy.address().port());
    let mut arguments = vec!["send", &uri, "--json"];
    arguments.extend(paths.iter().map(String::as_str));
    let sent = run(&scratch, &arguments);
    let is = |line: &str, event: &str| line.contains(&format!(r#""event":"{event}""#));
    let lines = || sent.stdout.iter().map(String::as_str);
    assert_eq!(lines().filter(|line| is(line, "stored")).count(), 6, "{sent:#?}");
    let mut open: i32 = 0;
    let open_at_once = lines().map(|line| {
        open += i32::from(is(line, "started")) - i32::from(is(line, "stored"));
        open
    });
    assert_eq!(open_at_once.max(), Some(4), "{sent:#?}");
    node.stop().assert_code(0);
}

#[test]
fn a_small_file_rides_in_the_first_datagram() {
    for io in backends("a_small_file_rides_in_the_first_datagram") {
        let scratch = Scratch::new("zero-rtt");
        let node = Node::start(
            &scratch,
            &["receive", "--dir", "in", "--cores", "1", "--listen", "127.0.0.1:0", "--io", io],
        );
        let (tiny, large) =
            (scratch.write("tiny", &noise(300, 1)), scratch.write("large", &noise(500_000, 2)));
        let sent = run(&scratch, &["send", &node.uri, &tiny, &large, "--zero-rtt", "--json", "--io", io]);
        assert_eq!(sent.assert_code(0).events("connected")[0]["zero_rtt"], "accepted", "{sent:#?}");
        assert_eq!(sent.events("stored").len(), 2, "{sent:#?}");
        assert!(fs::read(scratch.at("in/tiny")).unwrap() == noise(300, 1));
        assert!(fs::read(scratch.at("in/large")).unwrap() == noise(500_000, 2));
        // One that does not fit the datagram with its bytes, offered first, and one to a node whose ID is not known.
        let middle = scratch.write("middle", &noise(1_100, 3));
        run(&scratch, &["send", &node.uri, &middle, "--zero-rtt", "--io", io]).assert_code(0);
        let place = node.uri.split_once('@').unwrap().1;
        let last = scratch.write("last", &noise(10, 4));
        let sent = run(&scratch, &["send", place, &last, "--zero-rtt", "--json", "--io", io]);
        assert_eq!(sent.assert_code(0).events("connected")[0]["zero_rtt"], "none", "{sent:#?}");
        assert_eq!(scratch.list("in"), ["large", "last", "middle", "tiny"]);
        node.stop().assert_code(0);
    }
}

#[test]
fn what_is_there_is_skipped_and_another_of_its_name_gets_a_number() {
    let scratch = Scratch::new("again");
    let node = Node::start(&scratch, &["receive", "--dir", "in", "--listen", "127.0.0.1:0"]);
    for (bytes, stored) in
        [(noise(400_000, 1), 1), (noise(400_000, 1), 0), (noise(400_000, 2), 1), (noise(400_000, 2), 0)]
    {
        let path = scratch.write("the file", &bytes);
        let sent = run(&scratch, &["send", &node.uri, &path, "--json"]);
        let summary = &sent.assert_code(0).events("summary")[0];
        assert_eq!(
            (&summary["stored"], &summary["skipped"]),
            (&stored.into(), &(1 - stored).into()),
            "{sent:#?}"
        );
    }
    assert_eq!(scratch.list("in"), ["the file", "the file.1"]);
    assert!(fs::read(scratch.at("in/the file")).unwrap() == noise(400_000, 1));
    assert!(fs::read(scratch.at("in/the file.1")).unwrap() == noise(400_000, 2));
    // Two of one name in one command, one of them twice.
    let (one, other) =
        (scratch.write("a/same", &noise(300_000, 3)), scratch.write("b/same", &noise(300_000, 4)));
    let sent = run(&scratch, &["send", &node.uri, &one, &other, &one, "--json"]);
    let summary = &sent.assert_code(0).events("summary")[0];
    assert_eq!((&summary["stored"], &summary["skipped"]), (&2.into(), &1.into()), "{sent:#?}");
    assert_eq!(scratch.list("in"), ["same", "same.1", "the file", "the file.1"]);
    node.stop().assert_code(0);
}

#[test]
fn a_file_that_cannot_be_read_fails_alone() {
    let scratch = Scratch::new("unreadable");
    let node = Node::start(&scratch, &["receive", "--dir", "in", "--listen", "127.0.0.1:0"]);
    let good = scratch.write("good", b"good");
    let folder = scratch.path().to_str().unwrap();
    let sent = run(&scratch, &["send", &node.uri, "missing", &good, folder, "/dev/null", "--json"]);
    let summary = &sent.assert_code(1).events("summary")[0];
    assert_eq!((&summary["stored"], &summary["failed"]), (&1.into(), &3.into()), "{sent:#?}");
    for name in ["missing: cannot read it", "not a plain file"] {
        assert!(sent.stderr.contains(name), "{sent:#?}");
    }
    assert_eq!(scratch.list("in"), ["good"]);
    run(&scratch, &["send", &node.uri, "missing"]).assert_code(1);
    node.stop().assert_code(0);
}

#[test]
fn a_folder_that_cannot_be_used_is_said() {
    let scratch = Scratch::new("no-folder");
    scratch.write("plain", b"a file");
    let ended = run(&scratch, &["receive", "--dir", "plain", "--listen", "127.0.0.1:0"]);
    assert!(ended.assert_code(1).error().contains("--dir"), "{ended:#?}");
}

#[test]
fn people_read_lines() {
    let scratch = Scratch::new("lines");
    let node = Node::start(&scratch, &["receive", "--dir", "in", "--once", "--listen", "127.0.0.1:0"]);
    let path = scratch.write("a file", &noise(2_000_000, 1));
    let sent = run(&scratch, &["send", &node.uri, &path]);
    assert!(sent.assert_code(0).stdout[0].starts_with("sent "), "{sent:#?}");
    let received = node.process.wait();
    assert!(
        received.assert_code(0).stdout.iter().any(|line| line.starts_with("received a file")),
        "{received:#?}"
    );
}

#[test]
fn a_sender_that_is_stopped_says_so_and_the_receiver_waits_on() {
    let scratch = Scratch::new("stopped");
    let node = Node::start(&scratch, &["receive", "--dir", "in", "--once", "--listen", "127.0.0.1:0"]);
    let link = dunlin_tests::impair::Link { rate: 100_000_000, ..Default::default() };
    let to = format!("127.0.0.1:{}", node.port()).parse().unwrap();
    let proxy = dunlin_tests::impair::Impairment::both(link, 1).start(to).unwrap();
    let path = scratch.write("a file", &noise(30_000_000, 1));
    let sender = Process::dunlin(&scratch, &["send", &node.uri_at(proxy.address().port()), &path]);
    wait_until("some of it arrives", || part_len(&scratch.at("in")) > 1_000_000);
    sender.signal(Signal::INT);
    sender.wait().assert_code(1);
    let sent = run(&scratch, &["send", &node.uri, &path, "--json"]);
    let started = &sent.assert_code(0).events("started")[0];
    assert!(started["first_missing"].as_u64().unwrap() >= 1_000_000, "{sent:#?}");
    node.process.wait().assert_code(0);
}

/// A receiver on a disk of its own, mounted with these options.
fn on_own_disk(scratch: &Scratch, options: &str) -> Command {
    fs::create_dir_all(scratch.at("in")).unwrap();
    let dunlin = crate::binary::dunlin().display();
    let script = format!(
        "mount -t tmpfs -o {options} tmpfs in && exec {dunlin} receive --dir in --json --listen 127.0.0.1:0"
    );
    let mut small = Command::new("unshare");
    small.args(["--mount", "sh", "-c", &script]);
    settle(&mut small, scratch);
    small
}

#[test]
fn a_full_disk_is_told_to_both_sides() {
    let name = "a_full_disk_is_told_to_both_sides";
    if Capability::Netns.is_missing(name) {
        return;
    }
    // One file that never fits, and two that fit alone but not together.
    for lens in [&[9 << 20][..], &[3 << 20, 3 << 20]] {
        let scratch = Scratch::new("full");
        let node = Node::start_command(on_own_disk(&scratch, "size=4m"));
        let paths: Vec<String> = (0..)
            .zip(lens)
            .map(|(seed, len)| scratch.write(&format!("file {seed}"), &noise(*len, seed)))
            .collect();
        let mut arguments = vec!["send", &node.uri, "--json"];
        arguments.extend(paths.iter().map(String::as_str));
        let sent = run(&scratch, &arguments);
        assert!(sent.assert_code(1).stderr.contains("the receiver's disk is full"), "{sent:#?}");
        let received = node.process.wait();
        assert!(received.assert_code(1).stderr.contains("is full; make room"), "{received:#?}");
    }
}

#[test]
fn a_folder_that_may_not_be_written_to_is_said_before_anybody_sends() {
    let name = "a_folder_that_may_not_be_written_to_is_said_before_anybody_sends";
    if Capability::Netns.is_missing(name) {
        return;
    }
    let scratch = Scratch::new("read-only");
    let ended = Process::start(on_own_disk(&scratch, "ro")).wait();
    let error = ended.assert_code(1).error();
    assert!(error.contains("cannot receive into in") && error.contains("--dir"), "{error}");
}
