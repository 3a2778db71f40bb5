//! The receiver's folder: everything in it is reached from its open handle, and no link is followed.
//!
//! In:    safe names, files.
//! Out:   open files; a finished file under its name.
//! Holds: nothing that is there is ever written over or followed out of the folder.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self as unix, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::names::SafeName;

/// Copies of one name at most.
const COPIES_MAX: u32 = 10_000;
/// How much is read at a time, in bytes.
const READ_LEN: usize = 1 << 18;

/// Where a file with certain bytes belongs.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// It is there already, under this name.
    Present(String),
    /// Nothing of this name is there.
    Free(String),
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder, and makes it when it is not there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let handle = unix::open(path, flags, Mode::empty())?;
        unix::accessat(&handle, ".", unix::Access::WRITE_OK | unix::Access::EXEC_OK, AtFlags::EACCESS)?;
        Ok(Self { handle, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that may still be written by us.
    pub(crate) fn free_len(&self) -> io::Result<u64> {
        let about = unix::fstatvfs(&self.handle)?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
    }

    /// Where a file with this name, length and hash belongs: files of that length are read to compare.
    pub(crate) fn place(&self, name: &SafeName, length: u64, sha256: &[u8; 32]) -> io::Result<Place> {
        for number in 0..COPIES_MAX {
            let candidate = name.numbered(number);
            match self.existing(&candidate, length) {
                Ok(None) => {}
                Ok(Some(file)) => {
                    if hash_of(file)? == *sha256 {
                        return Ok(Place::Present(candidate));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Free(candidate)),
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("there are {COPIES_MAX} files of this name already")))
    }

    /// A readable regular file of this name and length; None: something else has the name.
    fn existing(&self, name: &str, length: u64) -> io::Result<Option<File>> {
        let about = unix::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_candidate = FileType::from_raw_mode(about.st_mode) == FileType::RegularFile;
        if !is_candidate || u64::try_from(about.st_size) != Ok(length) {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match unix::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => Ok(Some(File::from(handle))),
            // It was exchanged meanwhile, or is not ours to read.
            Err(Errno::LOOP | Errno::ACCESS | Errno::PERM) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file of ours for reading and writing, and makes it when it is not there. Nobody else may use it meanwhile.
    pub(crate) fn open_own(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mode = Mode::from_raw_mode(0o666);
        let handle = match unix::openat(&self.handle, name, flags, mode) {
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(not_ours(name)),
            opened => opened?,
        };
        let about = unix::fstat(&handle)?;
        let is_ours = about.st_uid == rustix::process::geteuid().as_raw();
        // A second name would let the bytes be changed, or change something, elsewhere.
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile || about.st_nlink != 1 || !is_ours
        {
            return Err(not_ours(name));
        }
        match unix::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(File::from(handle)),
            Err(Errno::WOULDBLOCK) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("another process is receiving it ({name})"),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a finished file its name, unless something has it: false then.
    pub(crate) fn put_in_place(&self, from: &str, to: &str) -> io::Result<bool> {
        let renamed = match unix::renameat_with(&self.handle, from, &self.handle, to, RenameFlags::NOREPLACE)
        {
            // Some file systems cannot rename without replacing; most of them can link without replacing.
            Err(Errno::INVAL | Errno::NOSYS) => {
                unix::linkat(&self.handle, from, &self.handle, to, AtFlags::empty())
                    .and_then(|()| unix::unlinkat(&self.handle, from, AtFlags::empty()))
            }
            renamed => renamed,
        };
        match renamed {
            Ok(()) => unix::fsync(&self.handle).map(|()| true).map_err(io::Error::from),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file of ours; one that is not there is as good as removed.
    pub(crate) fn remove(&self, name: &str) {
        let _ = unix::unlinkat(&self.handle, name, AtFlags::empty());
    }
}

fn not_ours(name: &str) -> io::Error {
    io::Error::other(format!("{name} is not a plain file of ours; remove it"))
}

/// The hash of all bytes from where the file stands.
pub(crate) fn hash_of(mut file: File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_LEN];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(len) => hash.update(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
