//! The store over backends that fail on purpose: full, broken, slow, cut off in the middle.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dunlin_codec::args::Reason;
use dunlin_shards::dht::values::get::Got;
use dunlin_shards::dht::values::{DiskRow, GetWish, PutWish};
use dunlin_shards::event::Ticket;
use dunlin_shards::identity::Identity;
use dunlin_shards::messages::conversation::{Constants, Terms};
use dunlin_shards::neighbours::{Neighbours, Notice, Seat};
use dunlin_shards::note::Note;
use dunlin_shards::placement::{Placement, PlacementSeeds};
use dunlin_shards::rng::Rng;
use dunlin_shards::time::{Instant, Now, WallMillis};
use redb::StorageBackend;

use super::*;

const ONE: Table = Table("one");
const OTHER: Table = Table("other");
const DEADLINE: Duration = Duration::from_secs(60);

/// A disk in memory: what was synced, and what was written since.
#[derive(Debug, Default)]
struct Platter {
    synced: Vec<u8>,
    seen: Vec<u8>,
    since: Vec<(u64, Vec<u8>)>,
    /// No byte can be written beyond.
    room: Option<u64>,
    syncs_fail: bool,
    /// Steps until the power fails.
    steps_left: Option<u32>,
    /// What had been answered when it failed.
    answered: Option<u64>,
    is_stuck: bool,
}

#[derive(Clone, Debug, Default)]
struct Faulty {
    platter: Arc<Mutex<Platter>>,
    freed: Arc<Condvar>,
    answered: Arc<AtomicU64>,
}

impl Faulty {
    fn change(&self, change: impl FnOnce(&mut Platter)) {
        change(&mut lock(&self.platter));
        self.freed.notify_all();
    }

    /// One step nearer to the end; Err: the power is off.
    fn step(&self, platter: &mut Platter) -> io::Result<()> {
        match &mut platter.steps_left {
            Some(0) => {
                platter.answered.get_or_insert(self.answered.load(Ordering::SeqCst));
                Err(io::Error::other("no power"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What the next start finds: what was synced, and of what was written since any sectors, as the disk pleased.
    fn wreck(&self, draw: &mut Draw) -> Faulty {
        const SECTOR: usize = 512;
        let platter = lock(&self.platter);
        let mut bytes = platter.synced.clone();
        for (offset, written) in &platter.since {
            for (index, sector) in written.chunks(SECTOR).enumerate() {
                if draw.below(2) == 0 {
                    continue;
                }
                let start = usize::try_from(*offset).unwrap() + index * SECTOR;
                let end = start + sector.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(sector);
            }
        }
        let wreck = Faulty::default();
        wreck.change(|platter| {
            platter.synced = bytes.clone();
            platter.seen = bytes;
        });
        wreck
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.platter).seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let platter = lock(&self.platter);
        out.copy_from_slice(platter.seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = lock(&self.platter);
        self.step(&mut platter)?;
        platter.seen.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = lock(&self.platter);
        while platter.is_stuck {
            platter = self.freed.wait(platter).unwrap();
        }
        self.step(&mut platter)?;
        if platter.syncs_fail {
            return Err(io::Error::other("the disk is on fire"));
        }
        platter.synced = platter.seen.clone();
        platter.since.clear();
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut platter = lock(&self.platter);
        self.step(&mut platter)?;
        if platter.room.is_some_and(|room| offset + bytes.len() as u64 > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = usize::try_from(offset).unwrap();
        platter.seen[start..start + bytes.len()].copy_from_slice(bytes);
        platter.since.push((offset, bytes.to_vec()));
        Ok(())
    }
}

/// xorshift.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn over(disk: &Faulty) -> Result<Opened, OpenError> {
    let disk = disk.clone();
    Opened::open(Path::new("faulty"), move || disk.clone())
}

fn start(opened: Opened) -> (Store<u64>, Receiver<Done<u64>>) {
    let (sender, done) = channel();
    let store = opened.start(move |group| group.drain(..).for_each(|one| sender.send(one).unwrap()));
    (store.unwrap(), done)
}

fn put(ticket: u64, key: &str, value: &[u8]) -> Batch<u64> {
    Batch { ticket, writes: vec![Write::put(ONE, key.as_bytes(), value)] }
}

fn answer(done: &Receiver<Done<u64>>) -> (u64, Result<(), StoreError>) {
    let one = done.recv_timeout(DEADLINE).expect("an answer");
    (one.ticket, one.result)
}

fn rows(opened: &Opened, table: Table) -> BTreeMap<String, Vec<u8>> {
    let mut rows = BTreeMap::new();
    let take = |key: &[u8], value: &[u8]| {
        rows.insert(String::from_utf8(key.to_vec()).unwrap(), value.to_vec());
    };
    opened.each(table, take).unwrap();
    rows
}

/// A folder that goes away with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dunlin-store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn rows_outlive_the_store_and_the_last_change_of_a_row_counts() {
    let scratch = Scratch::new();
    let path = scratch.0.join("deeper/store");
    let opened = Opened::disk(&path).unwrap();
    assert!(rows(&opened, ONE).is_empty());
    let (store, done) = start(opened);
    let write = |table, key: &str, value: &[u8]| Write::put(table, key.as_bytes(), value);
    let writes =
        vec![write(ONE, "a", b"1"), write(OTHER, "a", b"2"), write(ONE, "b", b""), write(ONE, "a", b"3")];
    assert!(store.desk().submit(Batch { ticket: 7, writes }).is_ok());
    let writes =
        vec![Write::delete(OTHER, *b"a"), Write::delete(OTHER, *b"never"), write(OTHER, "c", &[9; 70_000])];
    assert!(store.desk().submit(Batch { ticket: 8, writes }).is_ok());
    assert_eq!((answer(&done), answer(&done)), ((7, Ok(())), (8, Ok(()))));
    store.close();
    let opened = Opened::disk(&path).unwrap();
    assert_eq!(rows(&opened, ONE), BTreeMap::from([("a".into(), b"3".to_vec()), ("b".into(), vec![])]));
    assert_eq!(rows(&opened, OTHER), BTreeMap::from([("c".into(), vec![9; 70_000])]));
}

#[test]
fn a_store_has_one_node_and_the_other_is_told_who_has_it() {
    let scratch = Scratch::new();
    let path = scratch.0.join("store");
    let (store, _done) = start(Opened::disk(&path).unwrap());
    let text = Opened::disk(&path).err().expect("it is taken").to_string();
    assert!(text.starts_with(&path.display().to_string()) && text.contains("--state"), "{text}");
    assert!(text.contains("this process has") || text.contains("another process has"), "{text}");
    store.close();
    Opened::disk(&path).unwrap();
}

#[test]
fn what_is_no_store_is_left_alone_and_said() {
    let scratch = Scratch::new();
    std::fs::create_dir(&scratch.0).unwrap();
    let path = scratch.0.join("store");
    let noise: Vec<u8> = (0..200_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&path, &noise).unwrap();
    let error = Opened::disk(&path).err().expect("it is none");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), noise);
    std::os::unix::fs::symlink(&path, scratch.0.join("link")).unwrap();
    assert!(matches!(Opened::disk(&scratch.0.join("link")), Err(OpenError::System { .. })));
}

#[test]
fn what_waits_for_the_disk_is_one_group_with_one_sync() {
    let disk = Faulty::default();
    let (store, done) = start(over(&disk).unwrap());
    disk.change(|platter| platter.is_stuck = true);
    for ticket in 0..500 {
        assert!(store.desk().submit(put(ticket, &ticket.to_string(), b"x")).is_ok());
    }
    // Nothing is promised before the disk has it.
    assert!(done.recv_timeout(Duration::from_millis(50)).is_err());
    disk.change(|platter| platter.is_stuck = false);
    for ticket in 0..500 {
        assert_eq!(answer(&done), (ticket, Ok(())));
    }
    let report = store.report();
    // The thread had taken some when the disk got stuck; all others waited together.
    assert!(report.commits <= 2 && report.batches == 500 && report.rows == 500, "{report:?}");
    assert!(report.group_max >= 250, "{report:?}");
}

#[test]
fn what_waits_is_bounded_and_nothing_that_was_taken_is_lost() {
    for (len, count_max) in [(0, QUEUE_BATCHES_MAX), (1 << 20, QUEUE_LEN_MAX >> 20)] {
        let disk = Faulty::default();
        let (store, done) = start(over(&disk).unwrap());
        disk.change(|platter| platter.is_stuck = true);
        let value = vec![1; len];
        let mut taken = 0;
        let refused = loop {
            match store.desk().submit(put(taken, "same", &value)) {
                Ok(()) => taken += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, Refused::Busy(put(taken, "same", &value)), "it comes back whole");
        // Beside what waits, one group may be under way.
        assert!(taken as usize <= count_max + 8_192, "{taken}");
        disk.change(|platter| platter.is_stuck = false);
        for ticket in 0..taken {
            assert_eq!(answer(&done), (ticket, Ok(())));
        }
        assert!(store.desk().submit(put(taken, "same", &value)).is_ok(), "there is room again");
        assert_eq!(answer(&done), (taken, Ok(())));
    }
}

#[test]
fn a_full_disk_refuses_and_stores_again_when_there_is_room() {
    let disk = Faulty::default();
    let (store, done) = start(over(&disk).unwrap());
    assert!(store.desk().submit(put(0, "before", b"kept")).is_ok());
    assert_eq!(answer(&done), (0, Ok(())));
    let used = lock(&disk.platter).seen.len() as u64;
    disk.change(|platter| platter.room = Some(used));
    let large = vec![5; 2 * usize::try_from(used).unwrap()];
    for ticket in 1..4 {
        assert!(store.desk().submit(put(ticket, "large", &large)).is_ok());
        let (answered, result) = answer(&done);
        assert!(answered == ticket && matches!(result, Err(StoreError::Full(_))), "{result:?}");
    }
    let report = store.report();
    assert!(report.refused == 3 && matches!(report.trouble, Some(StoreError::Full(_))), "{report:?}");
    disk.change(|platter| platter.room = None);
    let mut ticket = 4;
    loop {
        assert!(store.desk().submit(put(ticket, "large", &large)).is_ok());
        match answer(&done) {
            (_, Ok(())) => break,
            (_, Err(error)) => assert!(matches!(error, StoreError::Full(_)), "{error}"),
        }
        assert!(ticket < 10_000, "it never recovers");
        ticket += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(store.report().trouble, None);
    store.close();
    let rows = rows(&over(&disk).unwrap(), ONE);
    assert_eq!(rows, BTreeMap::from([("before".into(), b"kept".to_vec()), ("large".into(), large)]));
}

#[test]
fn a_disk_that_failed_to_sync_is_not_believed_again() {
    let disk = Faulty::default();
    let (store, done) = start(over(&disk).unwrap());
    assert!(store.desk().submit(put(0, "a", b"1")).is_ok());
    assert_eq!(answer(&done), (0, Ok(())));
    disk.change(|platter| platter.syncs_fail = true);
    assert!(store.desk().submit(put(1, "b", b"2")).is_ok());
    let (_, result) = answer(&done);
    let Err(StoreError::ReadOnly(why)) = &result else { panic!("{result:?}") };
    assert!(why.contains("the disk is on fire"), "{why}");
    disk.change(|platter| platter.syncs_fail = false);
    std::thread::sleep(Duration::from_millis(600));
    for ticket in 2..5 {
        assert!(store.desk().submit(put(ticket, "c", b"3")).is_ok());
        assert_eq!(answer(&done), (ticket, result.clone()), "the same answer for ever");
    }
    store.close();
    let found = rows(&over(&disk).unwrap(), ONE);
    assert!(found.contains_key("a") && !found.contains_key("c"), "{found:?}");
}

/// A node alone, which keeps on this store what it is told to keep.
struct Lone {
    neighbours: Neighbours,
    store: Store<u64>,
    done: Receiver<Done<u64>>,
    now: Now,
    tickets: u64,
}

impl Lone {
    fn on(disk: &Faulty) -> Self {
        let identity = Identity::from_seed([1; 32]);
        let network = dunlin_codec::label::Network([7; 32]);
        let terms = Terms::new(identity.id(), network, Constants::default(), "a test").unwrap();
        let placement = Placement::new(1, PlacementSeeds { steering: 1, keys: [2, 3] });
        let seat = Seat { shard: 0, placement, endpoints: vec!["192.0.2.9:9".parse().unwrap()] };
        let now = Now { instant: Instant::ZERO, wall: WallMillis(1_760_000_000_000) };
        let opened = over(disk).unwrap();
        let mut rows = Vec::new();
        opened.each(ONE, |key, value| rows.push((key.to_vec(), value.to_vec()))).unwrap();
        let mut neighbours = Neighbours::new(&identity, terms, &seat, (now, Rng::from_number(1)));
        neighbours.restore(now, rows.iter().map(|(key, value)| (&key[..], &value[..])));
        let (store, done) = start(opened);
        Self { neighbours, store, done, now, tickets: 0 }
    }

    /// Has it do something, and does for it what the disk does; what it says of it.
    fn outcome(&mut self, describe: impl FnOnce(Ticket) -> Note) -> Notice {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.neighbours.handle_note(self.now, describe(ticket));
        for _ in 0..100 {
            while let Some(notice) = self.neighbours.poll_notice() {
                match notice {
                    Notice::Write { ticket, rows } => self.write(ticket, rows),
                    Notice::Stored { ticket: of, .. } | Notice::Read { ticket: of, .. } if of == ticket => {
                        return notice;
                    }
                    _ => {}
                }
            }
            self.now.instant += Duration::from_millis(100);
            self.now.wall.0 += 100;
            self.neighbours.handle_timeout(self.now);
        }
        panic!("nothing came of it");
    }

    fn write(&mut self, ticket: u64, rows: Vec<DiskRow>) {
        let write = |row: DiskRow| match row.value {
            Some(value) => Write::put(ONE, row.key, value),
            None => Write::delete(ONE, row.key),
        };
        let batch = Batch { ticket, writes: rows.into_iter().map(write).collect() };
        assert!(self.store.desk().submit(batch).is_ok());
        let (ticket, result) = answer(&self.done);
        self.neighbours.handle_note(self.now, Note::Written { ticket, is_durable: result.is_ok() });
    }

    /// Whether it keeps this under the number, or refuses as full.
    fn put(&mut self, number: u8) -> bool {
        let wish = PutWish {
            key: vec![0xa1, b'0' + number],
            value: vec![number],
            owner: None,
            leave: None,
            life: Duration::from_secs(3600),
        };
        match self.outcome(|ticket| Note::Put { ticket, wish: Box::new(wish) }) {
            Notice::Stored { result: Ok(stored), .. } if stored.kept == 1 => true,
            Notice::Stored { result: Ok(stored), .. } if stored.refusals == [Reason::Full] => false,
            other => panic!("{other:?}"),
        }
    }

    fn has(&mut self, number: u8) -> bool {
        let wish = GetWish { key: vec![0xa1, b'0' + number], owner: None, quorum: None };
        match self.outcome(|ticket| Note::Get { ticket, wish: Box::new(wish) }) {
            Notice::Read { result: Ok(Got::Found { cell, .. }), .. } => cell.value[..] == [number],
            Notice::Read { .. } => false,
            other => panic!("{other:?}"),
        }
    }
}

/// From the failed sync on values are refused, those that were kept are read, and none that was refused is there after a restart,
/// which keeps values again.
#[test]
fn values_on_a_disk_that_failed_to_sync_are_read_and_no_more_are_kept() {
    let disk = Faulty::default();
    let mut node = Lone::on(&disk);
    assert!(node.put(1) && node.has(1));
    disk.change(|platter| platter.syncs_fail = true);
    assert!(!node.put(2) && !node.has(2));
    disk.change(|platter| platter.syncs_fail = false);
    assert!(!node.put(3) && !node.has(3), "it is not believed again");
    assert!(node.has(1), "what was kept is read");
    assert!(matches!(node.store.report().trouble, Some(StoreError::ReadOnly(_))));
    node.store.close();
    let mut again = Lone::on(&disk);
    assert!(again.has(1) && !again.has(3));
    assert!(again.put(3) && again.has(3));
}

/// The power fails between any two steps, and the disk has kept whatever sectors it liked of what was not synced.
#[test]
fn a_cut_loses_nothing_that_was_answered_and_tears_nothing() {
    const SLOTS: u64 = 16;
    const ROWS: u64 = 6;
    let mut draw = Draw(0x9E37_79B9_7F4A_7C15);
    let mut answered_total = 0;
    for _ in 0..150 {
        let disk = Faulty::default();
        drop(over(&disk).unwrap());
        let counter = disk.answered.clone();
        let opened = over(&disk).unwrap();
        disk.change(|platter| platter.steps_left = Some(u32::try_from(draw.below(120)).unwrap()));
        let (sender, done) = channel();
        let answers = move |group: &mut Vec<Done<u64>>| {
            for one in group.drain(..) {
                if one.result.is_ok() {
                    counter.store(one.ticket, Ordering::SeqCst);
                }
                sender.send(one).unwrap();
            }
        };
        let store = opened.start(answers).unwrap();
        let mut last = 0;
        for ticket in 1..60 {
            let table = |row: u64| if row.is_multiple_of(2) { ONE } else { OTHER };
            let key = |row: u64| format!("{}-{row}", ticket % SLOTS).into_bytes();
            let value = |row: u64| [ticket, row].map(u64::to_be_bytes).concat();
            let writes = (0..ROWS).map(|row| Write::put(table(row), key(row), value(row))).collect();
            assert!(store.desk().submit(Batch { ticket, writes }).is_ok());
            last = ticket;
            // Alone or together.
            if draw.below(3) == 0 {
                while answer(&done).0 < ticket {}
            }
        }
        store.close();
        let answered = lock(&disk.platter).answered.unwrap_or(disk.answered.load(Ordering::SeqCst));
        answered_total += answered;
        let opened = over(&disk.wreck(&mut draw)).unwrap();
        check_slots(&opened, (SLOTS, ROWS), answered, last);
    }
    assert!(answered_total > 1_000, "the power failed too early to show anything: {answered_total}");
}

/// Each slot holds one batch whole: the last that was answered, or one that came after it.
fn check_slots(opened: &Opened, (slots, rows_each): (u64, u64), answered: u64, last: u64) {
    let mut found: BTreeMap<String, Vec<u8>> = rows(opened, ONE);
    found.append(&mut rows(opened, OTHER));
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes[..8].try_into().unwrap());
    for slot in 0..slots {
        let tickets: Vec<Option<u64>> = (0..rows_each)
            .map(|row| found.get(&format!("{slot}-{row}")).map(|value| number(value)))
            .collect();
        assert!(tickets.iter().all(|ticket| *ticket == tickets[0]), "slot {slot} is torn: {tickets:?}");
        let promised = (1..=answered).rev().find(|ticket| ticket % slots == slot);
        let held = tickets[0].unwrap_or(0);
        assert!(held >= promised.unwrap_or(0) && held <= last, "slot {slot}: {held}, promised {promised:?}");
    }
}
