//! A file that is not all there, and the record of how much of it is to be believed.
//!
//! In:    bytes in order, their hash as it runs.
//! Out:   after a restart: how many bytes are there for certain, and the hash up to them.
//! Holds: after each block the record gets its end and the SHA-256 of all bytes up to it. Bytes are believed up to the last
//!        entry that the bytes on the disk still have the hash of.
//!
//! Nothing is forced to the disk before the file is complete: whatever a crash or a power cut has lost or mixed up, the hashes
//! find. Then the file is synced, renamed, and its folder synced; only after that the sender is told.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::folder::Folder;

/// An entry of the record: the end of a block, and the hash of all bytes up to it.
const ENTRY_LEN: usize = 8 + 32;
/// How much is read at a time, in bytes.
const READ_LEN: usize = 1 << 18;

/// The bytes of an unfinished file.
pub(crate) struct Partial {
    file: File,
    record: Record,
    /// Bytes that are believed.
    believed: u64,
    /// Bytes that were there.
    had: u64,
}

/// The hash as it runs, and where it is written down.
pub(crate) struct Record {
    file: File,
    len: u64,
    position: u64,
    hash: Sha256,
}

impl Partial {
    /// Opens what there is of a file of `length` bytes, and cuts off what is not to be believed.
    // spec: atp/file-resume
    pub(crate) fn open(folder: &Folder, (part, record): (&str, &str), length: u64) -> io::Result<Self> {
        let file = folder.open_own(part)?;
        let record = folder.open_own(record)?;
        let had = file.metadata()?.len().min(length);
        let record = Record::check(&file, had, record)?;
        let believed = record.position;
        file.set_len(believed)?;
        Ok(Self { file, record, believed, had })
    }

    /// Bytes from the start that need not come again.
    pub(crate) const fn believed(&self) -> u64 {
        self.believed
    }

    /// Bytes that were there, believed or not.
    pub(crate) const fn had(&self) -> u64 {
        self.had
    }

    /// The two halves, for two threads: the file, which is written first, and its record.
    pub(crate) fn split(self) -> (File, Record) {
        (self.file, self.record)
    }
}

impl Record {
    /// Reads entries and the bytes that they are about for as long as they agree.
    fn check(bytes: &File, had: u64, entries: File) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut believed = Self { file: entries, len: 0, position: 0, hash: hash.clone() };
        let mut position = 0;
        let mut entry = [0; ENTRY_LEN];
        let mut buffer = vec![0; READ_LEN];
        while read_whole(&believed.file, &mut entry, believed.len)? {
            let (end, recorded) = entry.split_first_chunk::<8>().expect("an entry begins with 8 bytes");
            let end = u64::from_be_bytes(*end);
            if end <= position || end > had {
                break;
            }
            while position < end {
                let len = usize::try_from(end - position).unwrap_or(READ_LEN).min(READ_LEN);
                bytes.read_exact_at(&mut buffer[..len], position)?;
                hash.update(&buffer[..len]);
                position += len as u64;
            }
            if hash.clone().finalize()[..] != *recorded {
                break;
            }
            believed.len += ENTRY_LEN as u64;
            believed.position = end;
            believed.hash = hash.clone();
        }
        believed.file.set_len(believed.len)?;
        Ok(believed)
    }

    /// The next bytes of the file, which have been written: from now on they are believed.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.position += bytes.len() as u64;
        let mut entry = [0; ENTRY_LEN];
        entry[..8].copy_from_slice(&self.position.to_be_bytes());
        entry[8..].copy_from_slice(&self.hash.clone().finalize());
        self.file.write_all_at(&entry, self.len)?;
        self.len += ENTRY_LEN as u64;
        Ok(())
    }

    /// The hash of everything so far.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }
}

/// Fills the buffer; false when the file ends before.
fn read_whole(file: &File, buffer: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
