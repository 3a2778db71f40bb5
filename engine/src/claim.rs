//! Files that one process at a time may use.
//!
//! In:    an open file.
//! Out:   a lock that lasts until the file is closed, or who has it.
//! Holds: the lock belongs to the open file (flock): it ends with its process however that ends, and two opens of one process
//!        exclude each other as well.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;

/// Why a file could not be taken. Nothing was changed.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Somebody has it; the process where the kernel tells.
    Held(Option<u32>),
    /// The system refused.
    System(io::Error),
}

/// Takes the file until it is closed.
pub(crate) fn claim(file: &File) -> Result<(), Taken> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Taken::Held(holder(file))),
        Err(TryLockError::Error(why)) => Err(Taken::System(why)),
    }
}

/// Who has the lock: what /proc/locks says of the file's inode.
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino();
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, inode)
}

/// `12: FLOCK  ADVISORY  WRITE 4711 fe:00:12345 0 EOF`; a process outside of our view has a number that is not positive.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip_while(|field| *field != "FLOCK").skip(3);
        let (process, place) = (fields.next()?, fields.next()?);
        let is_it = place.rsplit(':').next()?.parse() == Ok(inode);
        is_it.then(|| process.parse().ok().filter(|number| *number > 0)).flatten()
    })
}

/// Words for an error: which process has it.
pub(crate) fn holder_words(holder: Option<u32>) -> String {
    match holder {
        Some(process) if process == std::process::id() => "this process".to_owned(),
        Some(process) => format!("process {process}"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_names_the_holder() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 fe:00:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 11 fe:00:78 0 EOF\n\
            2: -> FLOCK  ADVISORY  WRITE 12 fe:00:79 0 EOF\n3: FLOCK  ADVISORY  WRITE -1 fe:00:80 0 EOF\nrubbish\n";
        assert_eq!(holder_in(locks, 78), Some(11));
        for unknown in [77, 80, 81] {
            assert_eq!(holder_in(locks, unknown), None);
        }
    }

    #[test]
    fn a_second_open_of_one_process_is_refused_until_the_first_is_closed() {
        let path = std::env::temp_dir().join(format!("dunlin-claim-{}", std::process::id()));
        let open = || File::options().create(true).truncate(false).write(true).open(&path).unwrap();
        let (first, second) = (open(), open());
        claim(&first).unwrap();
        let Err(Taken::Held(holder)) = claim(&second) else { panic!("it was taken twice") };
        // Where /proc shows no locks the holder stays unknown.
        assert!(holder.is_none_or(|process| process == std::process::id()), "{holder:?}");
        drop(first);
        claim(&second).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
