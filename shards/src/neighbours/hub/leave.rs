//! Leaves: the owner of a key lets another write it.
//!
//! In:    whom, which key, until when.
//! Out:   the leave, signed by the key that we have now.
//! Holds: nothing is kept of it: whoever was given it keeps it, and shows it with what he writes.

use dunlin_codec::ids::NodeId;
use dunlin_codec::record::Key;

use super::{Hub, Notice};
use crate::dht::values::sign_grant;
use crate::event::Ticket;

impl Hub {
    pub(super) fn give_leave(&mut self, ticket: Ticket, key: &[u8], (writer, until_ms): (NodeId, u64)) {
        let key = Key::parse(key).ok().flatten();
        let leave = key.map(|key| sign_grant(&self.identity, &self.network, (&key, writer), until_ms));
        self.notices.push_back(Notice::Granted { ticket, leave });
    }
}
