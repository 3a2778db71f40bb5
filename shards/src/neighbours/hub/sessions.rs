//! Which sessions the shards have that may be talked on.
//!
//! In:    sessions that came up, moved, went.
//! Out:   the session to ask a node on.
//! Holds: one that is gone is asked on no more; what a lost note left behind goes with the first answer from there.

use core::net::SocketAddr;

use dunlin_codec::ids::{NodeId, SessionId};

use super::{Errand, Hub, Purpose};
use crate::event::Ticket;
use crate::limits::INSTANCES_MAX;

/// A session that may be talked on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    session: SessionId,
    /// Where the peer is; where we called it, when we did.
    pub(super) remote: SocketAddr,
    /// It was begun when we had another key: to the peer's holders that key asks there.
    is_before: bool,
}

impl Hub {
    /// The session to ask a node on: at that endpoint, when one is given, else the newest. What is signed by our key, such as a
    /// ballot or our entry in the roll, is asked where that key is known to ask: holders compare the two.
    // spec: p2p/own-key-asks
    pub(super) fn session_for(&self, errand: &Errand) -> Option<SessionId> {
        let open = self.sessions.get(&self.chains.present(&errand.peer))?;
        let is_signed = matches!(errand.purpose, Purpose::Value { .. });
        let is_there = |open: &&Open| {
            errand.endpoint.is_none_or(|endpoint| open.remote == endpoint) && !(is_signed && open.is_before)
        };
        open.iter().rev().find(is_there).map(|open| open.session)
    }

    /// A session came up, whoever opened it.
    pub(super) fn on_up(
        &mut self,
        session: SessionId,
        (peer, remote): (NodeId, SocketAddr),
        ticket: Option<Ticket>,
    ) {
        let call = ticket.and_then(|ticket| self.calls.remove(&ticket));
        // The call went there, wherever its answer came from.
        let remote = call.as_ref().map_or(remote, |call| call.endpoint);
        let open = self.sessions.entry(peer).or_default();
        open.retain(|open| open.session != session);
        if open.len() >= INSTANCES_MAX {
            open.remove(0);
        }
        open.push(Open { session, remote, is_before: false });
        for errand in call.into_iter().flat_map(|call| call.errands) {
            self.run_errand(errand);
        }
        self.tell_key_change(peer, remote);
    }

    /// We have another key: sessions go on under the one that they were begun with.
    pub(super) fn on_own_key_changed(&mut self) {
        self.sessions.values_mut().flatten().for_each(|open| open.is_before = true);
    }

    /// The session is still there, as far as we were told.
    pub(super) fn has_session(&self, peer: &NodeId, session: SessionId) -> bool {
        self.sessions.get(peer).into_iter().flatten().any(|open| open.session == session)
    }

    /// Whoever greets us is asked for its own record, unless we have it: one who comes from elsewhere than it says may have moved.
    pub(super) fn on_met(&mut self, session: SessionId, peer: NodeId) {
        let open = self.sessions.get(&peer).into_iter().flatten().find(|open| open.session == session);
        let Some(remote) = open.map(|open| open.remote) else { return };
        if self.table.endpoint_of(&peer) != Some(remote) {
            self.begin_errand(peer, Some(remote), Purpose::Introduce(None));
        }
    }

    pub(super) fn on_gone(&mut self, session: SessionId, peer: &NodeId) {
        let peer = &self.chains.present(peer);
        if self.links.on_gone(session, peer) {
            self.roll.on_link_lost();
        }
        if let Some(open) = self.sessions.get_mut(peer) {
            open.retain(|open| open.session != session);
            if open.is_empty() {
                self.sessions.remove(peer);
            }
        }
    }

    pub(super) fn on_roamed(&mut self, session: SessionId, peer: &NodeId, remote: SocketAddr) {
        let all = self.sessions.get_mut(peer).into_iter().flatten();
        all.filter(|open| open.session == session).for_each(|open| open.remote = remote);
    }

    /// A key follows another: sessions with the old one are the new one's.
    pub(super) fn move_sessions(&mut self, old: &NodeId, new: NodeId) {
        let moved = self.sessions.remove(old).unwrap_or_default();
        if moved.is_empty() {
            return;
        }
        let open = self.sessions.entry(new).or_default();
        // Those that were there are newer.
        open.splice(..0, moved);
        let surplus = open.len().saturating_sub(INSTANCES_MAX);
        open.drain(..surplus);
    }
}
