//! The store: rows that survive, on a thread of its own.
//!
//! In:    batches of puts and deletes, each with a ticket.
//! Out:   all rows of a table at the start; for each ticket whether its batch is on the disk.
//! Holds: an answer `Ok` comes after the disk said that it has the batch; a batch is there whole or not at all; what waits is bounded.
//!
//! Nobody reads from it while the node runs: what shards need is in their memory, the disk is for durability (T11).
//!
//! ```no_run
//! # use dunlin::store::{Batch, Opened, Table, Write};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! const NODES: Table = Table("nodes");
//! let opened = Opened::disk("/var/lib/dunlin/store".as_ref())?;
//! opened.each(NODES, |key, value| println!("{} {}", key.len(), value.len()))?;
//! let store = opened.start(|done| done.iter().for_each(|one| println!("{}: {:?}", one.ticket, one.result)))?;
//! let batch = Batch { ticket: 1, writes: vec![Write::put(NODES, *b"key", *b"value")] };
//! assert!(store.desk().submit(batch).is_ok());
//! store.close();
//! # Ok(()) }
//! ```

mod batch;
mod disk;
mod error;
mod keeper;
mod rows;
mod watched;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{self, Sender, TrySendError};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

pub use batch::{Batch, Table, Write};
pub use error::{OpenError, StoreError};

use crate::mailbox::lock;
use disk::Disk;
use keeper::{Keeper, Reopen};
use rows::Rows;
use watched::Fault;

/// Batches that wait at most.
const QUEUE_BATCHES_MAX: usize = 16_384;
/// Bytes that wait at most, one batch more.
const QUEUE_LEN_MAX: usize = 64 << 20;

/// A batch's answer.
#[derive(Debug, Eq, PartialEq)]
pub struct Done<T> {
    /// The batch's ticket.
    pub ticket: T,
    /// Whether it is on the disk.
    pub result: Result<(), StoreError>,
}

/// A batch that was not taken; nothing became of it.
#[derive(Debug, Eq, PartialEq)]
pub enum Refused<T> {
    /// As much waits as may: try again when answers have come.
    Busy(Batch<T>),
    /// The store was closed, or its thread is gone.
    Closed(Batch<T>),
}

/// What the store did so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StoreReport {
    /// Groups on the disk: each was one sync.
    pub commits: u64,
    /// Batches on the disk.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Batches of the largest group.
    pub group_max: u64,
    /// Batches that were taken, and refused after that.
    pub refused: u64,
    /// Why the last group was refused, when it was.
    pub trouble: Option<StoreError>,
}

/// A store that was opened: its rows can be read, nothing is written yet.
pub struct Opened {
    rows: Rows,
    path: PathBuf,
    reopen: Reopen,
}

impl Opened {
    /// Opens the store in that file, and makes it, and its folder, when they are not there.
    ///
    /// # Errors
    /// Somebody else has it, it is damaged, or the system refuses. Nothing was changed but for what a crash had left half-done.
    pub fn disk(path: &Path) -> Result<Self, OpenError> {
        let disk = Disk::open(path)?;
        Self::open(path, move || disk.clone())
    }

    /// A store in memory, for tests and nodes that leave nothing behind.
    #[must_use]
    pub fn memory() -> Self {
        Self::open(Path::new("memory"), InMemoryBackend::new).expect("memory does not fail")
    }

    /// Over what `backend` makes, which holds the same bytes each time.
    fn open<B: StorageBackend>(
        path: &Path,
        mut backend: impl FnMut() -> B + Send + 'static,
    ) -> Result<Self, OpenError> {
        let rows = Rows::open(backend()).map_err(|fault| unusable(path, fault))?;
        Ok(Self { rows, path: path.to_owned(), reopen: Box::new(move || Rows::open(backend())) })
    }

    /// Calls `take` with key and value of each row of a table, by rising key.
    ///
    /// # Errors
    /// The file is damaged or cannot be read; some rows may have been taken.
    pub fn each(&self, table: Table, take: impl FnMut(&[u8], &[u8])) -> Result<(), OpenError> {
        self.rows.each(table, take).map_err(|fault| unusable(&self.path, fault))
    }

    /// Starts the thread. It calls `answers` with what is done, in the order of submission, from its own thread: as long as that takes,
    /// nothing else is stored.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start<T: Send + 'static>(
        self,
        answers: impl FnMut(&mut Vec<Done<T>>) + Send + 'static,
    ) -> io::Result<Store<T>> {
        let (sender, letters) = channel::bounded(QUEUE_BATCHES_MAX);
        let queue = Arc::new(Queue::default());
        let report = Arc::new(Mutex::new(StoreReport::default()));
        let shared = (queue.clone(), report.clone());
        let keeper = Keeper::new(letters, shared, (self.rows, self.reopen), Box::new(answers));
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || keeper.run())?;
        Ok(Store { desk: Desk { sender, queue }, report, thread: Some(thread) })
    }
}

fn unusable(path: &Path, fault: Fault) -> OpenError {
    let path = path.to_owned();
    match fault {
        Fault::Full(why) => {
            OpenError::System { what: "make room in it", path, why: io::Error::other(why.to_string()) }
        }
        Fault::Broken(why) => OpenError::Damaged { path, why: why.to_string() },
    }
}

/// What travels to the thread.
enum Letter<T> {
    Keep(Batch<T>),
    End,
}

/// What waits.
#[derive(Debug, Default)]
struct Queue {
    waiting_len: AtomicUsize,
}

/// Where batches are handed in, from any thread. Clones share the queue.
pub struct Desk<T> {
    sender: Sender<Letter<T>>,
    queue: Arc<Queue>,
}

impl<T> Clone for Desk<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), queue: self.queue.clone() }
    }
}

impl<T> Desk<T> {
    /// Hands a batch in; its answer comes later, after those of all that were handed in before it. Never waits.
    ///
    /// # Errors
    /// `Busy`: the queue is full; `Closed`. The batch comes back.
    pub fn submit(&self, batch: Batch<T>) -> Result<(), Refused<T>> {
        let charge = batch.charge();
        let before = self.queue.waiting_len.fetch_add(charge, Ordering::AcqRel);
        if before >= QUEUE_LEN_MAX {
            self.queue.waiting_len.fetch_sub(charge, Ordering::AcqRel);
            return Err(Refused::Busy(batch));
        }
        self.sender.try_send(Letter::Keep(batch)).map_err(|refused| {
            self.queue.waiting_len.fetch_sub(charge, Ordering::AcqRel);
            match refused {
                TrySendError::Full(Letter::Keep(batch)) => Refused::Busy(batch),
                TrySendError::Disconnected(Letter::Keep(batch)) => Refused::Closed(batch),
                _ => unreachable!("a batch went in"),
            }
        })
    }
}

/// A running store. Dropped, it keeps what was handed in before and ends, as [`Store::close`] does.
pub struct Store<T> {
    desk: Desk<T>,
    report: Arc<Mutex<StoreReport>>,
    thread: Option<JoinHandle<()>>,
}

impl<T> Store<T> {
    /// Where batches are handed in.
    #[must_use]
    pub const fn desk(&self) -> &Desk<T> {
        &self.desk
    }

    /// What it did so far.
    #[must_use]
    pub fn report(&self) -> StoreReport {
        lock(&self.report).clone()
    }

    /// Ends it: what was handed in before is kept and answered first; what comes after is refused.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // It takes letters until it ends; one that is gone already needs none.
        let _ = self.desk.sender.send(Letter::End);
        // Its panic was printed; what was not answered was not promised.
        let _ = thread.join();
    }
}

impl<T> Drop for Store<T> {
    fn drop(&mut self) {
        self.end();
    }
}
