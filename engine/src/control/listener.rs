//! The socket's place: ours, for this user alone, and free when its node is gone.
//!
//! Holds: who has the lock beside the socket (`PATH.lock`) is its node; whatever socket lies there without such a lock is nobody's.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, SockAddr, Socket, Type};

use super::error::ControlError;
use crate::claim::{Taken, claim};

/// Connections that wait to be taken.
const BACKLOG: i32 = 16;
/// The longest path that a socket's address holds, its end included.
const ADDRESS_LEN_MAX: usize = 108;

/// A socket that takes connections.
pub(super) struct Listener {
    socket: UnixListener,
    path: PathBuf,
    _lock: File,
}

impl Listener {
    /// Makes the socket, its folder, and the lock beside it.
    pub(super) fn bind(path: &Path) -> Result<Self, ControlError> {
        let system = |what| move |why| ControlError::System { what, path: path.to_owned(), why };
        let folder = folder_of(path);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(system("make its folder"))?;
        let lock = open_lock(path).map_err(system("make the lock beside it"))?;
        match claim(&lock) {
            Ok(()) => {}
            Err(Taken::Held(holder)) => return Err(ControlError::Taken { path: path.to_owned(), holder }),
            Err(Taken::System(why)) => return Err(system("lock the file beside it")(why)),
        }
        match fs::symlink_metadata(path) {
            Ok(about) if !about.file_type().is_socket() => {
                return Err(ControlError::NoSocket(path.to_owned()));
            }
            // Its node is gone, or it would have the lock.
            Ok(_) => fs::remove_file(path).map_err(system("take the old one away"))?,
            Err(_) => {}
        }
        let socket = listen(path).map_err(system("open it"))?;
        Ok(Self { socket, path: path.to_owned(), _lock: lock })
    }

    pub(super) const fn socket(&self) -> &UnixListener {
        &self.socket
    }

    /// The connection that waits, if there still is one.
    pub(super) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.socket.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                Ok(Some(stream))
            }
            Err(error) if is_passing(error.kind()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The lock beside it stays: taking it away would race with whoever opens it next.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_passing(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

/// Whether the other end runs as this user or as root (T32).
/// spec: p2p/admin-socket
pub(super) fn is_trusted(stream: &UnixStream) -> io::Result<bool> {
    let theirs = socket_peercred(stream)?.uid;
    Ok(may_ask(theirs.as_raw(), rustix::process::geteuid().as_raw()))
}

const fn may_ask(theirs: u32, ours: u32) -> bool {
    theirs == ours || theirs == 0
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).expect("flags are small");
    File::options().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(name)
}

/// Nobody can connect before its mode is right: it does not listen until then.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&Address::of(path)?.address()?)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(UnixListener::from(std::os::fd::OwnedFd::from(socket)))
}

/// A socket's address, which may be short where its path is long.
pub(super) struct Address {
    path: PathBuf,
    /// Keeps the folder open that the path goes through.
    _folder: Option<File>,
}

impl Address {
    /// A path that an address does not hold is reached through its open folder.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() < ADDRESS_LEN_MAX {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = File::open(folder_of(path))?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }

    pub(super) fn address(&self) -> io::Result<SockAddr> {
        SockAddr::unix(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: p2p/admin-socket
    #[test]
    fn this_user_and_root_may_ask() {
        assert!(may_ask(1_000, 1_000) && may_ask(0, 1_000) && may_ask(0, 0));
        assert!(!may_ask(1_001, 1_000) && !may_ask(1_000, 0));
    }
}
