//! What a process gives away: descriptors, core files, an engine to its forked child, a terminal to its peers.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use dunlin::{ConnectError, ConnectOptions, Event, RecvError, SendError};

use crate::api::{accepted, config, start, uri_of};
use crate::process::{Node, wait_until};
use crate::scratch::Scratch;
use crate::{DEADLINE, backends};

/// The child of a fork has the engine's memory and none of its threads: whatever it asks is refused at once, and the parent's
/// session does not notice.
/// spec: atp/fork
#[test]
fn a_forked_child_is_refused_and_its_parent_goes_on() {
    for io in backends("a_forked_child_is_refused_and_its_parent_goes_on") {
        let (server, client) = (start(config(io, 2)), start(config(io, 1)));
        let peer = client.connect(&uri_of(&server)).unwrap();
        let serving = accepted(&server);
        let uri = uri_of(&server).parse().unwrap();
        // Nothing of a test harness works in the child: it says all in its code.
        let child = match fork::fork().unwrap() {
            fork::Fork::Parent(child) => child,
            fork::Fork::Child => {
                let faults = catch_unwind(AssertUnwindSafe(|| {
                    let refused = [
                        matches!(
                            client.connect_with(&uri, &ConnectOptions::default()),
                            Err(ConnectError::Forked)
                        ),
                        matches!(peer.recv(), Err(RecvError::Forked)),
                        matches!(peer.recv_timeout(DEADLINE), Err(RecvError::Forked)),
                        peer.ping(DEADLINE).is_none(),
                        matches!(client.next_event(), Event::Stopped),
                        // Its queue fills, as nobody takes anything out of it.
                        matches!((0..).find_map(|_| peer.send(&[7; 100_000]).err()), Some(SendError::Forked)),
                        !client.clone().shutdown(DEADLINE),
                    ];
                    drop((server, client));
                    refused.iter().filter(|is_refused| !**is_refused).count() as i32
                }));
                std::process::exit(faults.unwrap_or(100))
            }
        };
        let mut status = None;
        wait_until("the child ends", || {
            status = fork::waitpid_nohang(child).unwrap();
            status.is_some()
        });
        assert_eq!(status, Some(0), "as many questions were not refused, 256 to each");
        peer.send(b"after the fork").unwrap();
        assert_eq!(&serving.recv_timeout(DEADLINE).unwrap()[..], b"after the fork");
        assert!(client.shutdown(DEADLINE) && server.shutdown(DEADLINE));
    }
}

/// Whether a program started by this process would inherit the descriptor; None when it is closed by now.
fn is_inherited(process: &Path, descriptor: &OsStr) -> Option<bool> {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let text = fs::read_to_string(process.join("fdinfo").join(descriptor)).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    Some(u32::from_str_radix(flags.trim(), 8).unwrap() & CLOSE_ON_EXEC == 0)
}

/// Sockets, rings and doorbells that are inherited, by what they are.
fn inherited(process: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(process.join("fd")).unwrap().flatten();
    let inherited = entries.filter(|entry| is_inherited(process, &entry.file_name()).unwrap_or(false));
    let targets = inherited.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets
        .filter(|target| {
            ["socket:", "anon_inode:"].iter().any(|kind| target.to_string_lossy().starts_with(kind))
        })
        .collect()
}

#[test]
fn no_descriptor_of_an_engine_is_inherited() {
    let this = Path::new("/proc/self");
    let plain = fs::File::open("/dev/null").unwrap();
    let number = plain.as_raw_fd().to_string();
    assert_eq!(is_inherited(this, number.as_ref()), Some(false));
    rustix::io::fcntl_setfd(&plain, rustix::io::FdFlags::empty()).unwrap();
    assert_eq!(is_inherited(this, number.as_ref()), Some(true), "the test would see it");
    for io in backends("no_descriptor_of_an_engine_is_inherited") {
        let (server, client) = (start(config(io, 3)), start(config(io, 1)));
        let peer = client.connect(&uri_of(&server)).unwrap();
        assert!(peer.ping(DEADLINE).is_some());
        assert_eq!(inherited(this), <[PathBuf; 0]>::default());
    }
}

#[test]
fn a_node_leaves_no_core_and_nothing_to_its_children() {
    for io in backends("a_node_leaves_no_core_and_nothing_to_its_children") {
        let scratch = Scratch::new("core");
        let node = Node::start(&scratch, &["node", "--listen", "127.0.0.1:0", "--io", io]);
        let process = PathBuf::from(format!("/proc/{}", node.process.number()));
        let limits = fs::read_to_string(process.join("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let numbers: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(numbers, ["0", "0"], "{core}");
        // What is not dumpable belongs to root, and is nobody else's to look into.
        if rustix::process::geteuid().is_root() {
            assert_eq!(inherited(&process), <[PathBuf; 0]>::default());
        } else {
            assert!(fs::read_dir(process.join("fd")).is_err(), "a debugger of this user would get in too");
        }
        node.stop().assert_code(0);
    }
}

/// spec: atp/logs
#[test]
fn peers_do_not_fill_a_log() {
    const SESSIONS: usize = 60;
    let scratch = Scratch::new("log");
    let node = Node::start(&scratch, &["node", "--listen", "127.0.0.1:0", "--log", "debug"]);
    let client = start(config("mmsg", 1));
    let begun = Instant::now();
    for _ in 0..SESSIONS {
        let peer = client.connect(&node.uri).unwrap();
        peer.close(7);
        wait_until("it is closed", || peer.is_closed());
    }
    let took = begun.elapsed();
    client.shutdown(DEADLINE);
    let ended = node.stop();
    ended.assert_code(0);
    let opened: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("opened a session")).collect();
    let seconds = usize::try_from(took.as_secs()).unwrap() + 2;
    assert!((1..=10 * seconds).contains(&opened.len()), "{took:?}: {ended:#?}");
    let before = opened.iter().filter_map(|line| line.split_once(" (and ")).map(|(_, rest)| rest);
    let last = ended.stderr.lines().filter_map(|line| line.split_once("Opened: ")).map(|(_, rest)| rest);
    let counts = before.chain(last).map(|rest| rest.split_once(' ').unwrap().0.parse::<usize>().unwrap());
    assert_eq!(opened.len() + counts.sum::<usize>(), SESSIONS, "{ended:#?}");
}
