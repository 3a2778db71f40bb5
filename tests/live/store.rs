//! The store on real disks: killed while it writes, full, opened twice. The node's own use of it is in `state.rs`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dunlin::store::{Batch, Done, Opened, Store, StoreError, Table, Write};
use dunlin_tests::capability::Capability;

use crate::DEADLINE;
use crate::scratch::Scratch;

const ONE: Table = Table("one");
const OTHER: Table = Table("other");
/// Each batch writes all rows of one slot.
const SLOTS: u64 = 32;
const ROWS: u64 = 8;
/// Batches under way in the process that is killed.
const WINDOW: u64 = 64;

/// Where a child of a test writes, and from which number on.
const PATH: &str = "DUNLIN_TEST_STORE";
const FIRST: &str = "DUNLIN_TEST_STORE_FIRST";

fn start(path: &Path) -> (Store<u64>, Receiver<Done<u64>>) {
    let (sender, done) = channel();
    let answers = move |group: &mut Vec<Done<u64>>| group.drain(..).for_each(|one| drop(sender.send(one)));
    (Opened::disk(path).unwrap().start(answers).unwrap(), done)
}

/// The rows of a slot, in both tables; every third batch takes the odd ones away.
fn batch(ticket: u64) -> Batch<u64> {
    let row = |row: u64| {
        let table = if row < ROWS / 2 { ONE } else { OTHER };
        let key = [(ticket % SLOTS).to_be_bytes(), row.to_be_bytes()].concat();
        if ticket.is_multiple_of(3) && row % 2 == 1 {
            return Write::delete(table, key);
        }
        let len = usize::try_from(ticket * 37 % 900 + row).unwrap();
        Write::put(table, key, [&ticket.to_be_bytes()[..], &vec![row as u8; len]].concat())
    };
    Batch { ticket, writes: (0..ROWS).map(row).collect() }
}

/// Not a test: what `a_killed_writer…` starts and kills.
#[test]
#[ignore = "another test runs it"]
fn writer() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let (store, done) = start(path.as_ref());
    println!("\nready");
    let mut answered = first;
    for ticket in first.. {
        store.desk().submit(batch(ticket)).unwrap();
        while ticket + 1 - answered >= WINDOW {
            let one = done.recv_timeout(DEADLINE).unwrap();
            assert_eq!((one.ticket, one.result), (answered, Ok(())));
            println!("answered {answered}");
            answered += 1;
        }
    }
}

/// A writer, and what it says was answered.
struct Writer {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Writer {
    fn start(path: &Path, first: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["store::writer", "--exact", "--ignored", "--nocapture"]);
        command.env(PATH, path).env(FIRST, first.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut writer = Self { child, lines };
        while writer.line().expect("the writer begins") != "ready" {}
        writer
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n')).then(|| line.trim().to_owned())
    }

    fn answered(&mut self) -> Option<u64> {
        self.line()?.strip_prefix("answered ")?.parse().ok()
    }

    /// Kills it after so many answers and a moment; the last answer that it gave.
    fn kill_after(mut self, answers: u64, moment: Duration) -> Option<u64> {
        let mut last = None;
        for _ in 0..answers {
            last = Some(self.answered().expect("it goes on until it is killed"));
        }
        std::thread::sleep(moment);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // What it had said before it was killed was promised as well.
        while let Some(more) = self.answered() {
            last = Some(more);
        }
        last
    }
}

/// Every slot holds one batch whole, the last that was promised or one after it.
fn check(path: &Path, promised: &BTreeMap<u64, u64>) {
    let opened = Opened::disk(path).unwrap();
    let mut found: BTreeMap<u64, BTreeMap<u64, Vec<u8>>> = BTreeMap::new();
    for table in [ONE, OTHER] {
        let take = |key: &[u8], value: &[u8]| {
            let [slot, row] = [0, 8].map(|at| u64::from_be_bytes(key[at..at + 8].try_into().unwrap()));
            found.entry(slot).or_default().insert(row, value.to_vec());
        };
        opened.each(table, take).unwrap();
    }
    for (slot, rows) in &found {
        let held = u64::from_be_bytes(rows[&0][..8].try_into().unwrap());
        for write in batch(held).writes {
            let row = u64::from_be_bytes(write.key[8..].try_into().unwrap());
            assert_eq!(rows.get(&row).map(|value| &value[..]), write.value.as_deref(), "slot {slot}, {held}");
        }
    }
    for (slot, ticket) in promised {
        let held = found.get(slot).map(|rows| u64::from_be_bytes(rows[&0][..8].try_into().unwrap()));
        assert!(held.is_some_and(|held| held >= *ticket), "slot {slot}: {held:?}, promised {ticket}");
    }
}

fn kill(times: u64) {
    let scratch = Scratch::new("killed-store");
    let path = scratch.at("store");
    let mut promised = BTreeMap::new();
    let mut total = 0;
    for round in 0..times {
        let first = round * 1_000_000 + 1;
        let draw = crate::noise(2, round + 1);
        let writer = Writer::start(&path, first);
        let last = writer.kill_after(u64::from(draw[0]), Duration::from_micros(u64::from(draw[1]) * 20));
        for ticket in first..=last.unwrap_or(0) {
            promised.insert(ticket % SLOTS, ticket);
            total += 1;
        }
        check(&path, &promised);
    }
    println!("{times} writers were killed, {total} batches had been answered");
    assert!(total > times, "too little was answered to show anything: {total}");
}

/// What a killed process had written stays with the kernel; that a cut of power loses nothing either is shown by the store's own tests,
/// over a disk that forgets what was not synced.
#[test]
fn a_killed_writer_loses_nothing_that_was_answered_and_tears_nothing() {
    kill(20);
}

#[test]
#[ignore = "takes a minute"]
fn a_writer_killed_a_hundred_times_loses_nothing() {
    kill(100);
}

#[test]
fn the_second_process_is_told_which_one_has_the_store() {
    let scratch = Scratch::new("taken-store");
    let path = scratch.at("store");
    let writer = Writer::start(&path, 1);
    let text = Opened::disk(&path).err().expect("it is taken").to_string();
    // /proc/locks tells processes of this view alone, and not everywhere at all.
    let holder = format!("process {} has this store", writer.child.id());
    assert!(text.contains(&holder) || text.contains("another process has this store"), "{text}");
    writer.kill_after(1, Duration::ZERO);
    assert!(Opened::disk(&path).is_ok(), "it ended with its process");
}

/// Not a test: what the next one runs on a small disk of its own.
#[test]
#[ignore = "another test runs it"]
fn small_disk() {
    let Some(folder) = std::env::var_os(PATH) else { return };
    let ballast = Path::new(&folder).join("ballast");
    std::fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let path = Path::new(&folder).join("store");
    let (store, done) = start(&path);
    let put = |ticket: u64| {
        let writes = vec![Write::put(ONE, ticket.to_be_bytes(), vec![2; 60_000])];
        store.desk().submit(Batch { ticket, writes }).unwrap();
        done.recv_timeout(DEADLINE).unwrap().result
    };
    let mut ticket = 0;
    let why = loop {
        match put(ticket) {
            Ok(()) => ticket += 1,
            Err(why) => break why,
        }
        assert!(ticket < 300, "the disk has 16 MiB");
    };
    assert!(matches!(why, StoreError::Full(_)) && ticket > 10, "{why} after {ticket}");
    std::fs::remove_file(&ballast).unwrap();
    let kept = ticket;
    let mut tries = 0;
    while let Err(why) = put(ticket) {
        assert!(matches!(why, StoreError::Full(_)) && tries < 1_000, "{why}");
        std::thread::sleep(Duration::from_millis(20));
        tries += 1;
    }
    store.close();
    let mut keys = Vec::new();
    let opened = Opened::disk(&path).unwrap();
    opened.each(ONE, |key, _| keys.push(u64::from_be_bytes(key.try_into().unwrap()))).unwrap();
    assert_eq!(keys, (0..=kept).collect::<Vec<_>>());
    println!("\nkept {kept} rows, then one more");
}

#[test]
fn a_full_disk_refuses_and_stores_again_when_there_is_room() {
    let name = "a_full_disk_refuses_and_stores_again_when_there_is_room";
    if Capability::Mount.is_missing(name) {
        return;
    }
    let scratch = Scratch::new("full-disk");
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs -o size=16m none "$DUNLIN_TEST_STORE" && exec "$@""#;
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["store::small_disk", "--exact", "--ignored", "--nocapture"]).env(PATH, scratch.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("\nkept "),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
