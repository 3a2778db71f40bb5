//! Resets: which session a token would end, on whichever shard.
//!
//! In:    tokens that peers told, Resets from sockets and from other shards.
//! Out:   a session that connects again or ends; letters.
//! Holds: a Reset names no shard of ours. Each token therefore has a shard that its hash falls to and that knows its
//!        session's owner; a Reset whose token the shard that took it does not know goes there, and from there to the owner.

use std::hash::BuildHasher;

use dunlin_codec::ids::SessionId;

use crate::event::CloseReason;
use crate::mail::Mail;
use crate::mutants::{Mutant, planted};
use crate::rng::Entropy;
use crate::route::Arrival;
use crate::session::crypto::Crypto;
use crate::session::live::Phase;
use crate::session::reset::{TOKEN_LEN, is_token};
use crate::shard::Shard;
use crate::stats::DropReason;

impl<C: Crypto, E: Entropy> Shard<C, E> {
    fn hash_of_token(&self, token: &[u8; TOKEN_LEN]) -> u64 {
        self.config.hash_key().hash_one(token)
    }

    /// The shard that knows whose session a token ends.
    pub(super) fn home_of_token(&self, token: u64) -> u8 {
        ((u128::from(token) * self.config.placement.shard_count() as u128) >> 64) as u8
    }

    /// The peer's reset token is known: a Reset finds the session by it.
    pub(super) fn index_reset(&mut self, id: SessionId) {
        let Some(token) = self.table.live(id).and_then(|session| session.agreement.reset_token) else {
            return;
        };
        let token = self.hash_of_token(&token);
        let home = self.home_of_token(token);
        if self.resets.insert(token, id) != Some(id) && home != self.config.index {
            self.post(home, Mail::TokenUp { token, session: id });
        }
    }

    /// The session is no longer one that a Reset could end.
    pub(super) fn forget_reset(&mut self, id: SessionId, token: &[u8; TOKEN_LEN]) {
        let token = self.hash_of_token(token);
        let home = self.home_of_token(token);
        self.on_token_down(token, id);
        if home != self.config.index {
            self.post(home, Mail::TokenDown { token, session: id });
        }
    }

    /// Another shard's session has this token.
    pub(super) fn on_token_up(&mut self, token: u64, session: SessionId) {
        self.resets.insert(token, session);
    }

    /// It has not any more.
    pub(super) fn on_token_down(&mut self, token: u64, session: SessionId) {
        if self.resets.get(&token) == Some(&session) {
            self.resets.remove(&token);
        }
    }

    /// A Reset: it names the session by the id that the peer had for it, which is the id we write.
    // spec: atp/reset
    pub(super) fn on_reset(
        &mut self,
        landed: u8,
        arrival: &Arrival,
        named: SessionId,
        token: &[u8; TOKEN_LEN],
    ) -> Result<(), DropReason> {
        let index = self.config.index;
        let hash = self.hash_of_token(token);
        let home = self.home_of_token(hash);
        let known = self.resets.get(&hash).copied();
        #[cfg(feature = "mutants")]
        let known = known.or_else(|| {
            planted(Mutant::ResetTokenNotCompared).then(|| self.table.of_peer_session(named)).flatten()
        });
        let to = match known {
            Some(id) if id.shard() == index => return self.end_by_reset(id, arrival, named, token),
            Some(id) => id.shard(),
            None if landed == index && home != index => home,
            None => return Err(DropReason::BadReset),
        };
        self.around.stats.misrouted += 1;
        self.post(to, Mail::Reset { arrival: *arrival, session: named, token: *token });
        Ok(())
    }

    fn end_by_reset(
        &mut self,
        id: SessionId,
        arrival: &Arrival,
        named: SessionId,
        token: &[u8; TOKEN_LEN],
    ) -> Result<(), DropReason> {
        let Some(session) = self.table.live(id) else { return Err(DropReason::BadReset) };
        let told = session.agreement.reset_token.ok_or(DropReason::BadReset)?;
        let is_true = is_token(&told, token) || planted(Mutant::ResetTokenNotCompared);
        if !is_true || session.agreement.peer_session != named || !session.path.is_of(arrival) {
            return Err(DropReason::BadReset);
        }
        self.around.stats.resets_taken += 1;
        match session.phase {
            // Another session with the peer is there already.
            Phase::Unconfirmed { .. } | Phase::Open if session.probation.is_some() => {
                session.successor = session.probation.take().map(|probation| probation.successor);
                session.phase = Phase::Gone;
            }
            Phase::Unconfirmed { .. } | Phase::Open => self.reconnect(id),
            // Nobody is left to say goodbye to.
            Phase::Closing { .. } | Phase::Yielded { .. } | Phase::Gone => session.phase = Phase::Gone,
            Phase::Draining { into: None } => session.end(&mut self.around, CloseReason::PeerRestarted),
            Phase::Draining { into } => {
                session.successor = into;
                session.phase = Phase::Gone;
            }
        }
        self.on_phase_changed(id);
        Ok(())
    }
}
