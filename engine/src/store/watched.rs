//! A backend that remembers what went wrong first.
//!
//! In:    redb's reads and writes.
//! Out:   the same of the backend below; the first failure, with the step at which it came.
//! Holds: nothing is tried again here.
//!
//! redb refuses everything after a failure of its backend, and says only that there was one. Whether to begin again depends on what it was:
//! a full disk may have room later; a disk that did not take what it was told to keep cannot be believed any more.

use std::io;
use std::sync::{Arc, OnceLock};

use redb::StorageBackend;

/// What went wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// There was no room to write.
    Full(Arc<str>),
    /// Anything else; and any failure to sync, whatever it says of itself.
    Broken(Arc<str>),
}

/// Where the first failure is remembered.
pub(super) type FirstFault = Arc<OnceLock<Fault>>;

/// A backend and what went wrong with it.
#[derive(Debug)]
pub(super) struct Watched<B> {
    inner: B,
    first: FirstFault,
}

impl<B> Watched<B> {
    pub(super) fn new(inner: B) -> (Self, FirstFault) {
        let first = FirstFault::default();
        (Self { inner, first: first.clone() }, first)
    }

    fn note<T>(&self, step: &str, result: io::Result<T>) -> io::Result<T> {
        if let Err(why) = &result {
            let text: Arc<str> = format!("cannot {step}: {why}").into();
            let has_no_room = matches!(
                why.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            );
            let fault = if has_no_room && step != SYNC { Fault::Full(text) } else { Fault::Broken(text) };
            let _ = self.first.set(fault);
        }
        result
    }
}

/// Beyond this step nobody knows what is on the disk.
const SYNC: &str = "sync";

impl<B: StorageBackend> StorageBackend for Watched<B> {
    fn len(&self) -> io::Result<u64> {
        self.note("read its length", self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.note("read", self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note("set its length", self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(SYNC, self.inner.sync_data())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.note("write", self.inner.write(offset, bytes))
    }

    fn close(&self) -> io::Result<()> {
        self.note("close", self.inner.close())
    }
}
