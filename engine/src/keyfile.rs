//! A node's key on disk: KEY, KEY.next, KEY.inception, and the secret of its reset tokens, KEY.reset. Once the key was
//! changed, KEY.change says so, and KEY.old is the one before.
//!
//! In:    a path; seeds that the caller drew.
//! Out:   identities and secrets that are wiped when dropped; files of mode 0600 in a folder of mode 0700.
//! Holds: what others may read is refused with the command that mends it; an existing file is never written over,
//!        but by a change of key; a file is there whole or not at all.
//!
//! Everything happens relative to the open folder, and modes are asked of the open file: a path that somebody
//! exchanges in between changes nothing. The text in KEY is `dunlin_shards::identity::key_file`'s affair.

mod rotation;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dunlin_shards::identity::{Identity, inception, key_file};
use rustix::fs::{self as unix, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroizing;

pub use rotation::RotateError;

/// What an Ed25519 key is made of: 32 random bytes.
pub type Seed = Zeroizing<[u8; 32]>;

/// No file here is longer.
const FILE_LEN_MAX: usize = 1_024;
/// The bits that let others in.
const OTHERS: Mode = Mode::RWXG.union(Mode::RWXO);

/// Why a key could not be read or made. Each says what, where and what to do, in one line; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is none.
    #[error("{path}: there is no key; make one with `dunlin key new --key {path}`", path = .0.display())]
    NotThere(PathBuf),
    /// It would be written over.
    #[error("{}: there is a key already; it was left alone. Move it away first if you want another", .0.display())]
    Exists(PathBuf),
    /// Others may read or change the file or the folder.
    #[error("{}: others may use it (mode {mode:04o}); {remedy}", .path.display())]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What to do.
        remedy: String,
    },
    /// The file or folder belongs to somebody else.
    #[error("{}: it belongs to another user; run as that user, or use a key of your own with --key", .0.display())]
    NotOurs(PathBuf),
    /// The file holds no key.
    #[error("{}: {why}; use another with --key, or make one with `dunlin key new`", .path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system refused.
    #[error("{}: cannot {what}: {why}; mend that, or name another place with --key", .path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        why: io::Error,
    },
}

/// Where a key's files lie.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyFiles {
    path: PathBuf,
}

/// Nobody reads secrets from this process's memory by way of a core file or a debugger, as far as it can say so itself.
///
/// # Errors
/// When the system refuses; the process may go on.
pub fn guard_process() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

impl KeyFiles {
    /// The files of the key at `path`. Nothing is touched yet.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The key's own path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the key that a later CHANGE_KEY brings in. It may be kept elsewhere.
    #[must_use]
    pub fn next_path(&self) -> PathBuf {
        self.beside(".next")
    }

    /// The path of the record that announces the next key (`dunlin_shards::identity::inception`).
    #[must_use]
    pub fn inception_path(&self) -> PathBuf {
        self.beside(".inception")
    }

    /// The path of the secret from which reset tokens are made.
    #[must_use]
    pub fn reset_path(&self) -> PathBuf {
        self.beside(".reset")
    }

    /// Reads the key.
    ///
    /// # Errors
    /// No key there, one that others may read, one of somebody else, a damaged one, or the system's refusal.
    pub fn open(&self) -> Result<Identity, KeyError> {
        self.recover(&Folder::open(&self.path)?)?;
        self.read_key()
    }

    fn read_key(&self) -> Result<Identity, KeyError> {
        let folder = Folder::open(&self.path)?;
        let bytes = folder.read(&self.path)?;
        let seed = key_file::read(&bytes)
            .map_err(|why| KeyError::Bad { path: self.path.clone(), why: why.to_string() })?;
        Ok(Identity::from_seed(*seed))
    }

    /// Makes KEY, KEY.next and KEY.inception of two seeds, and the folder when it is not there.
    ///
    /// # Errors
    /// One of the files exists, the folder is open to others, or the system's refusal. KEY is written last: without it
    /// there is no key.
    pub fn create(&self, seed: Seed, next_seed: Seed) -> Result<Identity, KeyError> {
        let (identity, next) = (Identity::from_seed(*seed), Identity::from_seed(*next_seed));
        self.make_folder()?;
        let folder = Folder::open(&self.path)?;
        let record = inception::write(&identity, &next.id());
        let paths = [self.path.clone(), self.next_path(), self.inception_path()];
        if let Some(path) = paths.iter().find(|path| folder.has(path)) {
            return Err(KeyError::Exists(path.clone()));
        }
        let [key_path, next_path, inception_path] = &paths;
        folder.write(next_path, &key_file::write(&next_seed)[..])?;
        folder.write(inception_path, &record)?;
        folder.write(key_path, &key_file::write(&seed)[..])?;
        Ok(identity)
    }

    /// Reads the key, or makes one of what `draw` gives when there is none. The flag says whether it was made.
    ///
    /// # Errors
    /// As [`KeyFiles::open`] and [`KeyFiles::create`].
    pub fn open_or_create(&self, draw: impl FnOnce() -> (Seed, Seed)) -> Result<(Identity, bool), KeyError> {
        match self.open() {
            Err(KeyError::NotThere(_)) => {
                let (seed, next_seed) = draw();
                Ok((self.create(seed, next_seed)?, true))
            }
            opened => Ok((opened?, false)),
        }
    }

    /// Reads the secret of reset tokens, or makes one of what `draw` gives (T34).
    ///
    /// # Errors
    /// As [`KeyFiles::open`] and [`KeyFiles::create`].
    pub fn reset_secret(&self, draw: impl FnOnce() -> Seed) -> Result<Seed, KeyError> {
        let folder = Folder::open(&self.path)?;
        let path = self.reset_path();
        let bytes = match folder.read(&path) {
            Err(KeyError::NotThere(_)) => {
                let secret = draw();
                folder.write(&path, &secret[..])?;
                return Ok(secret);
            }
            read => read?,
        };
        match <[u8; 32]>::try_from(&bytes[..]) {
            Ok(secret) => Ok(Zeroizing::new(secret)),
            Err(_) => Err(KeyError::Bad { path, why: "this is not a secret of 32 bytes".to_owned() }),
        }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    }

    fn make_folder(&self) -> Result<(), KeyError> {
        let path = folder_of(&self.path);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|why| KeyError::System { what: "make this folder", path: path.to_owned(), why })
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// An open folder that is ours alone.
struct Folder {
    handle: OwnedFd,
}

impl Folder {
    /// Opens the folder of `file` and looks at its mode.
    fn open(file: &Path) -> Result<Self, KeyError> {
        let path = folder_of(file);
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let handle = match unix::open(path, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Err(KeyError::NotThere(file.to_owned())),
            Err(why) => return Err(refused("open this folder", path, why)),
        };
        check_ours(&handle, path, true)?;
        Ok(Self { handle })
    }

    fn has(&self, path: &Path) -> bool {
        unix::statat(&self.handle, name_of(path), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn read(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let handle = match unix::openat(&self.handle, name_of(path), flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Err(KeyError::NotThere(path.to_owned())),
            Err(why) => return Err(refused("read it", path, why)),
        };
        check_ours(&handle, path, false)?;
        // As large as it may become, so that no smaller buffer is left behind unwiped.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LEN_MAX + 1));
        let read = std::fs::File::from(handle).take(FILE_LEN_MAX as u64).read_to_end(&mut bytes);
        read.map_err(|why| KeyError::System { what: "read it", path: path.to_owned(), why })?;
        Ok(bytes)
    }

    /// Writes a file that is not there yet: whole, on the disk, for us alone.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
        let name = name_of(path);
        let mut passing = name.to_owned();
        passing.push(format!(".{}.part", std::process::id()));
        let written = self.write_passing(&passing, bytes).and_then(|()| self.put_in_place(&passing, name));
        // In place it has its own name; otherwise nothing of a secret may stay.
        let _ = unix::unlinkat(&self.handle, passing.as_os_str(), AtFlags::empty());
        match written {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(KeyError::Exists(path.to_owned())),
            Err(why) => Err(refused("write it", path, why)),
        }
    }

    fn write_passing(&self, name: &OsStr, bytes: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = unix::openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = std::fs::File::from(handle);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    fn put_in_place(&self, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        match unix::renameat_with(&self.handle, from, &self.handle, to, RenameFlags::NOREPLACE) {
            // Some file systems cannot rename without replacing; all can link without replacing.
            Err(Errno::INVAL | Errno::NOSYS) => {
                unix::linkat(&self.handle, from, &self.handle, to, AtFlags::empty())?;
            }
            renamed => renamed?,
        }
        unix::fsync(&self.handle)
    }
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or(OsStr::new(""))
}

fn refused(what: &'static str, path: &Path, why: Errno) -> KeyError {
    KeyError::System { what, path: path.to_owned(), why: why.into() }
}

/// Refuses what belongs to somebody else or lets others in.
fn check_ours(handle: &OwnedFd, path: &Path, is_folder: bool) -> Result<(), KeyError> {
    let stat = unix::fstat(handle).map_err(|why| refused("look at it", path, why))?;
    let us = rustix::process::geteuid();
    let sticky = is_folder && Mode::from_raw_mode(stat.st_mode).contains(Mode::SVTX);
    if stat.st_uid != us.as_raw() && !us.is_root() && !sticky {
        return Err(KeyError::NotOurs(path.to_owned()));
    }
    if !Mode::from_raw_mode(stat.st_mode).intersects(OTHERS) {
        return Ok(());
    }
    let shown = path.display();
    let remedy = match (is_folder, sticky) {
        (false, _) => format!("run: chmod 600 {shown}"),
        // A folder that is meant for everybody should stay so.
        (true, true) => format!("put the key into a folder of its own: mkdir -m 700 {shown}/dunlin"),
        (true, false) => format!("run: chmod 700 {shown} (or put the key into a folder of its own)"),
    };
    Err(KeyError::TooOpen { path: path.to_owned(), mode: stat.st_mode & 0o7777, remedy })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A folder of mode 0700 that goes away with its test.
    pub(super) struct Scratch(pub(super) PathBuf);

    impl Scratch {
        pub(super) fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!("dunlin-key-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path)
        }

        pub(super) fn files(&self) -> KeyFiles {
            KeyFiles::at(self.0.join("key"))
        }

        pub(super) fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(&self.0).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn seeds() -> (Seed, Seed) {
        (Zeroizing::new([1; 32]), Zeroizing::new([2; 32]))
    }

    pub(super) fn create(files: &KeyFiles) -> Identity {
        let (seed, next_seed) = seeds();
        files.create(seed, next_seed).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_key_has_three_files_for_us_alone() {
        let scratch = Scratch::new();
        let files = KeyFiles::at(scratch.0.join("deeper/still/key"));
        let identity = create(&files);
        assert!(files.open().unwrap().id() == identity.id());
        for path in [files.path(), &files.next_path(), &files.inception_path()] {
            assert_eq!(mode(path), 0o600, "{}", path.display());
        }
        assert_eq!(mode(&scratch.0.join("deeper/still")), 0o700);
        let record = inception::read(&std::fs::read(files.inception_path()).unwrap()).unwrap();
        let next = KeyFiles::at(files.next_path()).open().unwrap();
        assert!(record.key == identity.id() && record.names(&next.id()));
    }

    #[test]
    fn an_existing_key_is_never_written_over() {
        let scratch = Scratch::new();
        let files = scratch.files();
        let identity = create(&files);
        let (seed, next_seed) = (Zeroizing::new([3; 32]), Zeroizing::new([4; 32]));
        assert!(matches!(files.create(seed, next_seed), Err(KeyError::Exists(_))));
        assert!(files.open().unwrap().id() == identity.id());
        std::fs::remove_file(files.path()).unwrap();
        let (seed, next_seed) = seeds();
        let error = files.create(seed, next_seed).unwrap_err();
        assert!(matches!(&error, KeyError::Exists(path) if path == &files.next_path()), "{error}");
        assert_eq!(scratch.names(), ["key.inception", "key.next"]);
    }

    #[test]
    fn a_key_is_made_once_and_read_afterwards() {
        let scratch = Scratch::new();
        let (made, is_new) = scratch.files().open_or_create(seeds).unwrap();
        assert!(is_new);
        let (read, is_new) = scratch.files().open_or_create(|| panic!("there is one")).unwrap();
        assert!(!is_new && read.id() == made.id());
        assert_eq!(scratch.names(), ["key", "key.inception", "key.next"]);
    }

    #[test]
    fn a_key_or_folder_that_others_may_read_is_refused_with_the_remedy() {
        let scratch = Scratch::new();
        let files = scratch.files();
        create(&files);
        for wide in [0o640, 0o604, 0o660, 0o601] {
            set_mode(files.path(), wide);
            let text = files.open().err().unwrap().to_string();
            assert!(text.ends_with(&format!("run: chmod 600 {}", files.path().display())), "{text}");
        }
        set_mode(files.path(), 0o600);
        set_mode(&scratch.0, 0o750);
        let text = files.open().err().unwrap().to_string();
        assert!(text.contains(&format!("(mode 0750); run: chmod 700 {}", scratch.0.display())), "{text}");
        set_mode(&scratch.0, 0o1777);
        let text = files.open().err().unwrap().to_string();
        assert!(text.contains("mkdir -m 700") && !text.contains("chmod"), "{text}");
        set_mode(&scratch.0, 0o700);
        set_mode(files.path(), 0o400);
        assert!(files.open().is_ok());
    }

    #[test]
    fn a_link_a_damaged_file_and_no_file_are_told_apart() {
        let scratch = Scratch::new();
        let files = scratch.files();
        assert!(matches!(files.open(), Err(KeyError::NotThere(_))));
        assert!(matches!(KeyFiles::at(scratch.0.join("no/key")).open(), Err(KeyError::NotThere(_))));
        std::fs::write(files.path(), "something else").unwrap();
        set_mode(files.path(), 0o600);
        let text = files.open().err().unwrap().to_string();
        assert!(text.contains("this is not a key file") && !text.contains('\n'), "{text}");
        std::fs::remove_file(files.path()).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", files.path()).unwrap();
        assert!(matches!(files.open(), Err(KeyError::System { .. })));
        let (seed, next_seed) = seeds();
        assert!(matches!(files.create(seed, next_seed), Err(KeyError::Exists(_))));
    }

    #[test]
    fn the_reset_secret_survives_a_restart() {
        let scratch = Scratch::new();
        let files = scratch.files();
        create(&files);
        let first = files.reset_secret(|| Zeroizing::new([9; 32])).unwrap();
        assert_eq!(first, files.reset_secret(|| panic!("there is one")).unwrap());
        assert_eq!(mode(&files.reset_path()), 0o600);
        std::fs::write(files.reset_path(), "short").unwrap();
        assert!(matches!(files.reset_secret(|| panic!("there is one")), Err(KeyError::Bad { .. })));
    }

    #[test]
    fn a_guarded_process_leaves_no_core() {
        guard_process().unwrap();
        assert_eq!(rustix::process::getrlimit(Resource::Core).current, Some(0));
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
