//! Changing a node's key on disk: KEY.next becomes KEY, KEY becomes KEY.old, and KEY.change joins them (T21).
//!
//! In:    the key that follows, a fresh one for KEY.next, the wall clock.
//! Out:   the change, with both signatures; what a node that starts says of its key's past.
//! Holds: it happens whole or not at all, wherever it stops: KEY.rotation has all of it and is put in place first, and whoever
//!        opens the key next goes on from there.
//!
//! spec: p2p/key-rotation

use std::path::{Path, PathBuf};

use dunlin_codec::record::INCEPTION_LEN;
use dunlin_shards::identity::change::{Past, SIGNED_CHANGE_LEN, SignedChange};
use dunlin_shards::identity::{Identity, inception, key_file};
use dunlin_shards::limits::{KEY_CHAIN_LEN_MAX, KEY_CHANGE_INTERVAL_MIN};
use dunlin_shards::time::WallMillis;
use rustix::fs::{self as unix, AtFlags, FlockOperation};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{Folder, KeyError, KeyFiles, Seed, name_of, refused};

/// What KEY.rotation begins with.
const LABEL: &[u8; 18] = b"dunlin rotation v1";
/// Bytes of KEY.rotation: label, the seeds of the old, the new and the next key, the change.
const ROTATION_LEN: usize = LABEL.len() + 3 * 32 + SIGNED_CHANGE_LEN;
/// Writes of a rotation, one file each, and what ends it.
const STEPS: usize = 5;

/// Why a key was not changed. It is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The files.
    #[error(transparent)]
    Files(#[from] KeyError),
    /// Nobody was told which key would follow: that was made good.
    #[error(
        "{}: nobody was told yet which key would follow this one. That key and its announcement are made now: start the \
         node, and rotate its key when others have heard of it (a day later is safe)", .0.display()
    )]
    JustAnnounced(PathBuf),
    /// The next key is kept elsewhere.
    #[error("{}: the next key is not here; say where it is with --next FILE", .0.display())]
    NextElsewhere(PathBuf),
    /// The key given is not the one that was announced.
    #[error("{}: this is not the key that was announced as the next one; others would refuse it", .0.display())]
    NotAnnounced(PathBuf),
    /// Others would refuse it.
    #[error(
        "the key changed less than an hour ago: others would refuse another change; wait until an hour is over"
    )]
    TooSoon,
    /// Others would refuse it.
    #[error(
        "the key was changed {KEY_CHAIN_LEN_MAX} times, and no more is possible: make a new one with `dunlin key new`"
    )]
    TooOften,
}

/// A change of key, and what it leaves on disk.
struct Rotation {
    old: Seed,
    new: Seed,
    next: Seed,
    change: SignedChange,
}

impl Rotation {
    fn write(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(ROTATION_LEN));
        bytes.extend_from_slice(LABEL);
        [&self.old, &self.new, &self.next].iter().for_each(|seed| bytes.extend_from_slice(&seed[..]));
        bytes.extend_from_slice(&self.change.to_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (old, rest) = bytes.strip_prefix(LABEL)?.split_first_chunk::<32>()?;
        let (new, rest) = rest.split_first_chunk::<32>()?;
        let (next, rest) = rest.split_first_chunk::<32>()?;
        let change = SignedChange::from_bytes(rest.try_into().ok()?)?;
        let [old, new, next] = [old, new, next].map(|seed| Zeroizing::new(*seed));
        Some(Self { old, new, next, change })
    }
}

impl KeyFiles {
    /// The path of the key before this one, kept for the day in which it is still answered for.
    #[must_use]
    pub fn old_path(&self) -> PathBuf {
        self.beside(".old")
    }

    /// The path of the change that brought this key in.
    #[must_use]
    pub fn change_path(&self) -> PathBuf {
        self.beside(".change")
    }

    fn rotation_path(&self) -> PathBuf {
        self.beside(".rotation")
    }

    /// Goes on with a change of key that was cut short; nothing else is read before.
    pub(super) fn recover(&self, folder: &Folder) -> Result<(), KeyError> {
        if !folder.has(&self.rotation_path()) {
            return Ok(());
        }
        folder.lock()?;
        self.finish(folder, STEPS)
    }

    /// Does what KEY.rotation says, as far as `steps`: each may be done twice.
    fn finish(&self, folder: &Folder, steps: usize) -> Result<(), KeyError> {
        let path = self.rotation_path();
        let bytes = match folder.read(&path) {
            // Somebody else went on with it.
            Err(KeyError::NotThere(_)) => return Ok(()),
            read => read?,
        };
        let Some(rotation) = Rotation::read(&bytes) else {
            return Err(KeyError::Bad { path, why: "this is no change of key".to_owned() });
        };
        let seed = |seed: &Seed| Zeroizing::new(key_file::write(seed).to_vec());
        let files = [
            (self.old_path(), seed(&rotation.old)),
            (self.change_path(), Zeroizing::new(rotation.change.to_bytes().to_vec())),
            (self.path.clone(), seed(&rotation.new)),
            (self.next_path(), seed(&rotation.next)),
        ];
        for (path, bytes) in files.iter().take(steps) {
            folder.replace(path, bytes)?;
        }
        if steps < STEPS { Ok(()) } else { folder.remove(&path) }
    }

    /// Makes the next key the key: that in KEY.next, or in another file. `fresh` is for KEY.next.
    ///
    /// # Errors
    /// Why not; KEY is as it was.
    pub fn rotate(
        &self,
        next: Option<&Path>,
        fresh: &Seed,
        now: WallMillis,
    ) -> Result<SignedChange, RotateError> {
        let change = self.begin_rotation(next, fresh, now)?;
        let folder = Folder::open(&self.path)?;
        self.recover(&folder)?;
        Ok(change)
    }

    /// Puts KEY.rotation in place: from there on the key is changed.
    fn begin_rotation(
        &self,
        next: Option<&Path>,
        fresh: &Seed,
        now: WallMillis,
    ) -> Result<SignedChange, RotateError> {
        let folder = Folder::open(&self.path)?;
        folder.lock()?;
        self.finish(&folder, STEPS)?;
        let identity = self.open()?;
        let (past, new) = self.next_key(&identity, next, fresh)?;
        let next_path = next.map_or_else(|| self.next_path(), Path::to_owned);
        let (index, announced) = match &past {
            Past::Unknown => return Err(RotateError::JustAnnounced(self.path.clone())),
            Past::First { next_hash, .. } => (1, next_hash),
            Past::Changed(signed) => {
                let interval = KEY_CHANGE_INTERVAL_MIN.as_millis() as u64;
                if now.0 < signed.change.time_ms.saturating_add(interval) {
                    return Err(RotateError::TooSoon);
                }
                (signed.change.index + 1, &signed.change.next_hash)
            }
        };
        if usize::from(index) > KEY_CHAIN_LEN_MAX {
            return Err(RotateError::TooOften);
        }
        if *announced != inception::commitment(&new.id()) {
            return Err(RotateError::NotAnnounced(next_path));
        }
        let after = Identity::from_seed(**fresh);
        let change = SignedChange::sign((&identity, &new), &after.id(), (index, now.0));
        let [old, new] = [&identity, &new].map(|key| Zeroizing::new(*key.seed()));
        let rotation = Rotation { old, new, next: fresh.clone(), change };
        folder.replace(&self.rotation_path(), &rotation.write())?;
        Ok(change)
    }

    /// The key that follows. When none was ever announced, it is now.
    fn next_key(
        &self,
        identity: &Identity,
        next: Option<&Path>,
        fresh: &Seed,
    ) -> Result<(Past, Identity), RotateError> {
        let folder = Folder::open(&self.path)?;
        let is_announced = folder.has(&self.inception_path()) || folder.has(&self.change_path());
        let next_path = next.map_or_else(|| self.next_path(), Path::to_owned);
        if !is_announced {
            if next.is_none() && !folder.has(&next_path) {
                folder.write(&next_path, &key_file::write(fresh)[..])?;
            }
            self.announce(&folder, identity, &next_path)?;
            return Err(RotateError::JustAnnounced(self.path.clone()));
        }
        match Self::at(&next_path).read_key() {
            Err(KeyError::NotThere(_)) if next.is_none() => Err(RotateError::NextElsewhere(next_path)),
            new => Ok((self.past(identity)?, new?)),
        }
    }

    fn announce(&self, folder: &Folder, identity: &Identity, next: &Path) -> Result<(), KeyError> {
        let next = Self::at(next).read_key()?;
        folder.write(&self.inception_path(), &inception::write(identity, &next.id()))
    }

    /// Where the key comes from. A key that was made before there were announcements gets one as soon as there is a next key.
    ///
    /// # Errors
    /// A file that is damaged or belongs to another key.
    pub fn past(&self, identity: &Identity) -> Result<Past, KeyError> {
        let folder = Folder::open(&self.path)?;
        let (change_path, inception_path) = (self.change_path(), self.inception_path());
        if folder.has(&change_path) {
            let bytes = folder.read(&change_path)?;
            let signed = bytes[..].try_into().ok().and_then(SignedChange::from_bytes);
            let ours = |signed: &SignedChange| signed.change.new == identity.id() && signed.verify().is_ok();
            return match signed.filter(ours) {
                Some(signed) => Ok(Past::Changed(Box::new(signed))),
                None => Err(other_keys(change_path)),
            };
        }
        let has_next = folder.has(&self.next_path());
        if !folder.has(&inception_path) && has_next {
            self.announce(&folder, identity, &self.next_path())?;
        }
        if !folder.has(&inception_path) {
            return Ok(Past::Unknown);
        }
        let bytes = folder.read(&inception_path)?;
        let is_ours = inception::read(&bytes).is_ok_and(|inception| inception.key == identity.id());
        match <&[u8; INCEPTION_LEN]>::try_from(&bytes[..]) {
            Ok(bytes) if is_ours => Ok(Past::first(bytes)),
            _ => Err(other_keys(inception_path)),
        }
    }

    /// The key before, as long as it is answered for. When that is over it is removed.
    ///
    /// # Errors
    /// As [`KeyFiles::open`].
    pub fn previous(&self, past: &Past, now: WallMillis) -> Result<Option<Identity>, KeyError> {
        let folder = Folder::open(&self.path)?;
        let path = self.old_path();
        let Some((signed, until)) = past.told().filter(|_| folder.has(&path)) else { return Ok(None) };
        if until <= now {
            folder.remove(&path)?;
            return Ok(None);
        }
        let old = Self::at(&path).read_key()?;
        if old.id() == signed.change.current { Ok(Some(old)) } else { Err(other_keys(path)) }
    }
}

fn other_keys(path: PathBuf) -> KeyError {
    KeyError::Bad { path, why: "it is damaged, or another key's".to_owned() }
}

impl Folder {
    /// Until it is dropped nobody else changes the key.
    fn lock(&self) -> Result<(), KeyError> {
        let locked = unix::flock(&self.handle, FlockOperation::LockExclusive);
        locked.map_err(|why| refused("lock its folder", Path::new("."), why))
    }

    /// Writes a file whether it is there or not: whole, on the disk, for us alone. The folder is locked.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
        let name = name_of(path);
        let mut passing = name.to_owned();
        passing.push(".part");
        // Whoever held the lock before may have stopped in the middle of it.
        let _ = unix::unlinkat(&self.handle, passing.as_os_str(), AtFlags::empty());
        let written = self.write_passing(&passing, bytes).and_then(|()| {
            unix::renameat(&self.handle, passing.as_os_str(), &self.handle, name)?;
            unix::fsync(&self.handle)
        });
        written.map_err(|why| refused("write it", path, why))
    }

    /// Removes a file, if it is there.
    fn remove(&self, path: &Path) -> Result<(), KeyError> {
        match unix::unlinkat(&self.handle, name_of(path), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(why) => return Err(refused("remove it", path, why)),
        }
        unix::fsync(&self.handle).map_err(|why| refused("remove it", path, why))
    }
}

#[cfg(test)]
mod tests;
