//! A running engine takes over a key that was changed on disk.
//!
//! In:    the key's files, as `dunlin key rotate` left them.
//! Out:   the new key for each shard and for what stands beside it, by mail; a new identity.
//! Holds: only the successor of the key that it has is taken, by the change that both signed. Each shard gets a copy of its own,
//!        and wipes it when it is needed no more.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use dunlin_codec::ids::NodeId;
use dunlin_shards::identity::change::{NewKey, Past};
use dunlin_shards::mail::Mail;
use dunlin_shards::note::Note;

use crate::api::shared::EngineShared;
use crate::keyfile::{KeyError, KeyFiles};
use crate::mailbox::lock;

/// How long a shard that has much to do is left alone before it is told again.
const PAUSE: Duration = Duration::from_millis(1);

/// Why a running engine keeps the key that it has. Each is one line for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeKeyError {
    /// It was started with an identity that lies in no file.
    #[error("this node's key lies in no file: it cannot be changed")]
    NoFile,
    /// The files.
    #[error(transparent)]
    Files(#[from] KeyError),
    /// The key there is not the next one.
    #[error("{}: the key there does not follow the one that this node runs with; stop the node and start it again", .0.display())]
    NotNext(PathBuf),
    /// The engine has stopped.
    #[error("the node is stopping")]
    Stopped,
}

/// The old key and the new one; none: the engine has the key that the file has.
pub(crate) fn take_key(
    files: &KeyFiles,
    shared: &EngineShared,
) -> Result<Option<(NodeId, NodeId)>, TakeKeyError> {
    let _alone = lock(&shared.rekeying);
    if shared.is_forked() {
        return Err(TakeKeyError::Stopped);
    }
    let (identity, old) = (files.open()?, shared.id());
    if identity.id() == old {
        return Ok(None);
    }
    let change = match files.past(&identity)? {
        Past::Changed(signed) if signed.change.current == old => *signed,
        _ => return Err(TakeKeyError::NotNext(files.path().to_owned())),
    };
    let new = NewKey { identity, change };
    for (index, port) in (0_u8..).zip(&shared.ports) {
        post(shared, usize::from(index), || Mail::NewKey(Box::new(new.clone())))?;
        if shared.has_network {
            let note = || Box::new(Note::NewKey(Box::new(new.clone())));
            post(shared, usize::from(index), || Mail::Note { to: index, note: note() })?;
        }
        port.ring();
    }
    let id = new.identity.id();
    *lock(&shared.id) = id;
    tracing::info!("the key was changed: {old} is {id} from now on");
    Ok(Some((old, id)))
}

/// Hands a letter over, however full the ring is: one shard with another key than the others would be another node.
fn post(shared: &EngineShared, index: usize, describe: impl Fn() -> Mail) -> Result<(), TakeKeyError> {
    let port = &shared.ports[index];
    while port.post(describe()).is_err() {
        if port.is_abandoned() {
            return Err(TakeKeyError::Stopped);
        }
        port.ring();
        thread::sleep(PAUSE);
    }
    Ok(())
}
