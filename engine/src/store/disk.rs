//! The store's file: ours alone while it is open, and with room on the disk before it is written to.
//!
//! Holds: the file stays open and taken while the database over it is closed and opened again. A file that grows is a hole at first;
//!        room is allotted in steps ahead of the writes, so that a full disk shows there and never when the file is synced.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use super::error::OpenError;
use crate::claim::{Taken, claim};

/// Bytes that are allotted at a time.
const STEP_LEN: u64 = 4 << 20;

/// The open file.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    file: Arc<File>,
    /// Up to here there is room on the disk.
    allotted: Arc<AtomicU64>,
}

impl Disk {
    /// Opens the file, makes it and its folder when they are not there, and takes it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let refused = |what, path: &Path, why| OpenError::System { what, path: path.to_owned(), why };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|why| refused("make this folder", folder, why))?;
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).expect("flags are small");
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let file = options.open(path).map_err(|why| refused("open it", path, why))?;
        match claim(&file) {
            Ok(()) => Ok(Self { file: Arc::new(file), allotted: Arc::default() }),
            Err(Taken::Held(holder)) => Err(OpenError::Taken { path: path.to_owned(), holder }),
            Err(Taken::System(why)) => Err(refused("lock it", path, why)),
        }
    }

    fn allot(&self, end: u64) -> io::Result<()> {
        let before = self.allotted.load(Ordering::Relaxed);
        if end <= before {
            return Ok(());
        }
        // The file is always longer than what is written to it; room behind its end is nobody's.
        let upto = end.next_multiple_of(STEP_LEN).min(self.len()?.max(end));
        match fallocate(&*self.file, FallocateFlags::KEEP_SIZE, before, upto - before) {
            // A file system that cannot: room is then found, or not, by the write.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.allotted.fetch_max(upto, Ordering::Relaxed);
                Ok(())
            }
            Err(why) => Err(why.into()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.allotted.fetch_min(len, Ordering::Relaxed);
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.allot(offset + bytes.len() as u64)?;
        self.file.write_all_at(bytes, offset)
    }
}
