//! Keys that the node had: what was whispered to them and is still on its way is for it.
//!
//! In:    the key before the start, changes of the key while the node runs, time.
//! Out:   the key that a letter is for.
//! Holds: a key that the node had opens letters for as long as Hellos to it are answered, and is wiped then. Nothing is said
//!        under it but that such a letter has come, so that a sender who has not heard of the change believes it.
//!
//! spec: p2p/previous-letter

use dunlin_codec::ids::NodeId;

use super::Hub;
use crate::identity::Identity;
use crate::limits::PREVIOUS_KEYS_ANSWERED_MAX;
use crate::time::Instant;

/// Keys that the node had, the newest first, and until when each is answered for.
#[derive(Debug, Default)]
pub(super) struct Previous(Vec<(Identity, Instant)>);

impl Previous {
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|(_, until)| now < *until);
    }
}

impl Hub {
    /// Letters to a key that the node had are opened until then.
    pub(in crate::neighbours) fn answer_previous(&mut self, previous: Identity, until: Instant) {
        self.previous.0.insert(0, (previous, until));
        self.previous.0.truncate(PREVIOUS_KEYS_ANSWERED_MAX);
    }

    /// The key of ours that this is, of those that are answered for.
    pub(super) fn key_of(&self, id: &NodeId) -> Option<&Identity> {
        let now = self.now.instant;
        let before = self.previous.0.iter().filter(|(_, until)| now < *until).map(|(identity, _)| identity);
        core::iter::once(&self.identity).chain(before).find(|identity| identity.id() == *id)
    }
}
