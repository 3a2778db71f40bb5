//! Sessions coming and going: built from a handshake's secrets, listed, handed over, freed.
//!
//! Holds: whatever a session held (blocks, messages, its listing, its timer) goes back when it goes.

use dunlin_codec::ids::{NodeId, PacketNumber, SessionId};

use crate::arq::acknowledgements::Acknowledgements;
use crate::arq::congestion::Algorithm;
use crate::arq::receiver::{Receiver, ReceiverLimits};
use crate::arq::recovery::{Recovery, RecoveryConfig};
use crate::arq::sender::{Sender, SenderLimits};
use crate::event::{CloseReason, Event, Ticket};
use crate::limits::{POSTPONED_FOR, POSTPONED_MAX, QUIET_TAKES_MAX, SHORT_OF_MEMORY_MAX, SHRINK_AFTER};
use crate::mail::{Destination, Mail};
use crate::mutants::{Mutant, planted};
use crate::rng::Entropy;
use crate::route::{Transmit, TransmitError};
use crate::session::crypto::Crypto;
use crate::session::handshake::Secrets;
use crate::session::inbound::code;
use crate::session::keys::{ReceiveKeys, SendKeys};
use crate::session::live::{Agreement, Control, Phase, Session};
use crate::session::path::Path;
use crate::session::replay::ReplayWindow;
use crate::shard::Shard;
use crate::shard::table::Slot;
use crate::stats::DropReason;
use crate::time::{Instant, Now};

impl<C: Crypto, E: Entropy> Shard<C, E> {
    /// A session from the secrets of its handshake.
    pub(super) fn new_session(
        &mut self,
        agreement: Agreement,
        path: Path,
        secrets: Secrets,
        sender: Sender,
    ) -> Session<C> {
        let now = self.around.now.instant;
        let suite = agreement.suite;
        let is_lower = self.own.of(agreement.era).0 < agreement.peer;
        let settings = self.settings.clone();
        let draw = self.around.rng.next_u64();
        // Only where it is used: the others' numbers stay what they are.
        let seed = if settings.congestion == Algorithm::Bbr { self.around.rng.next_u64() } else { 0 };
        Session {
            send_keys: SendKeys::new(suite, secrets.send, &settings.key_limits, now, draw),
            receive_keys: ReceiveKeys::new(suite, secrets.receive),
            handshake_hash: secrets.hash,
            agreement,
            phase: Phase::Open,
            announced: false,
            listed: false,
            is_lower,
            queued: false,
            phase_changed: false,
            replay: ReplayWindow::default(),
            recovery: Recovery::new(RecoveryConfig {
                algorithm: settings.congestion,
                datagram_len_max: settings.datagram_max,
                seed,
            }),
            acknowledgements: Acknowledgements::new(),
            sender,
            receiver: Receiver::new(self.receiver_limits()),
            path,
            candidate: None,
            responses: Vec::new(),
            control: Control::default(),
            pings: Vec::new(),
            finish: None,
            renewal: None,
            renewal_wanted: false,
            renewal_inbox: None,
            renewal_taken: [0; 8],
            probation: None,
            successor: None,
            drained_into: None,
            has_moved: false,
            peer_yielded: false,
            peer_yielded_at: now,
            yield_told: None,
            forward: Vec::new(),
            told_queue: 0,
            told_resent: 0,
            drain_code: crate::session::inbound::code::DONE,
            settings,
            secrets_since: now,
            last_heard: now,
            owed_since: None,
            last_roam: Instant::ZERO,
            highest: None,
            unmatched: 0,
            is_shrunk: false,
            pacing_until: None,
        }
    }

    pub(super) fn sender_limits(&self) -> SenderLimits {
        SenderLimits {
            message_len_max: self.limits.message_len_max,
            queue_len_max: self.limits.send_buffer_max,
            ..SenderLimits::default()
        }
    }

    fn receiver_limits(&self) -> ReceiverLimits {
        ReceiverLimits {
            message_len_max: self.limits.message_len_max,
            window_len_max: self.limits.receive_buffer_max,
            ..ReceiverLimits::default()
        }
    }

    /// Puts a session into its slot; it may have something to send. While the shard shuts down nobody stays who comes: it would wait
    /// for ever for peers that call again as soon as they are told to go.
    pub(super) fn install(&mut self, id: SessionId, mut session: Session<C>) {
        if self.shutting_down {
            session.drain(None);
            session.drain_code = code::SHUTDOWN;
        }
        self.forget_heir(id);
        self.table.put(id, Slot::Live(Box::new(session)));
        self.index_reset(id);
        self.touch(id);
        self.on_phase_changed(id);
    }

    /// A session came up, hands over, or is gone.
    pub(super) fn on_phase_changed(&mut self, id: SessionId) {
        let Some(session) = self.table.live(id) else { return };
        if session.phase_changed {
            session.phase_changed = false;
            self.index_reset(id);
            self.work_renewal(id);
        }
        let Some(session) = self.table.live(id) else { return };
        let confirmed = !matches!(session.phase, Phase::Unconfirmed { .. } | Phase::Gone);
        if confirmed && !session.listed {
            session.listed = true;
            self.around.stats.sessions_opened += 1;
            self.around.stats.handshakes_completed += 1;
            let listing = session.listing();
            self.tell_directory(Mail::SessionUp(listing), &listing.peer);
        }
        self.tell_yielded(id);
        self.check_probation(id);
        let Some(session) = self.table.live(id) else { return };
        if let Some(into) = session.drained_into.take() {
            session.has_moved = true;
            let waiting = core::mem::take(&mut session.forward);
            self.hand_over(id, into, waiting);
        }
        if self.table.live(id).is_some_and(|session| session.phase == Phase::Gone) {
            self.remove_session(id);
        }
    }

    /// The peer left the session for another: the directory says which.
    fn tell_yielded(&mut self, id: SessionId) {
        let now = self.around.now.instant;
        let Some(session) = self.table.live(id) else { return };
        if session.is_abandoned(now) {
            // The peer takes in what comes here, but will never say anything here again.
            return self.reconnect(id);
        }
        if session.yield_due().is_some_and(|at| at <= now) {
            session.yield_told = Some(now);
            let listing = session.listing();
            self.tell_directory(Mail::PeerYielded(listing), &listing.peer);
        }
    }

    /// Frees a session's slot and everything it held.
    fn remove_session(&mut self, id: SessionId) {
        let Slot::Live(mut session) = self.table.free(id) else { return };
        self.timers.cancel(id.slot() as u32);
        self.unlist(&mut session);
        session.receiver.drain(&mut self.around.pool);
        session.release(&mut self.around);
        if let Some(successor) = session.successor {
            self.bequeath(id, successor, &mut session);
        }
        let left = session.take_undelivered();
        for message in left.into_iter().chain(core::mem::take(&mut session.forward)) {
            self.return_message(id, message);
        }
        if session.has_moved {
            self.around.events.push_back(Event::Ceased { from: id });
        }
    }

    /// The directory, the index of resets and whoever drew its id forget the session.
    pub(super) fn unlist(&mut self, session: &mut Session<C>) {
        if let Some(token) = session.agreement.reset_token {
            self.forget_reset(session.agreement.id, &token);
        }
        self.vacate(&session.agreement);
        if session.listed {
            session.listed = false;
            self.around.stats.sessions_closed += 1;
            let listing = session.listing();
            self.tell_directory(Mail::SessionDown(listing), &listing.peer);
        }
    }

    pub(super) fn tell_directory(&mut self, mail: Mail, peer: &NodeId) {
        let shard = self.config.placement.of_key(&peer.0).0;
        self.post(shard, mail);
    }

    /// Sends a letter to a shard, which may be this one.
    pub(super) fn post(&mut self, shard: u8, mail: Mail) {
        if shard == self.config.index {
            self.on_shard_mail(shard, mail);
        } else {
            self.around.mail.push_back((Destination::Shard(shard), mail));
        }
    }

    /// Tells the application that a session it asked for will not open.
    pub(super) fn fail_connect(&mut self, id: SessionId, ticket: Ticket, reason: CloseReason) {
        self.around.events.push_back(Event::ConnectFailed { ticket, session: id, reason });
    }

    /// A shard short of memory grants no credit; one that stays short closes the session that holds most (T17).
    pub(super) fn check_memory(&mut self) {
        let (now, is_short) = (self.around.now.instant, self.around.pool.is_short());
        match (is_short, self.short_since) {
            (false, None) => {}
            (true, Some(since)) if now.since(since) < SHORT_OF_MEMORY_MAX => {}
            (true, Some(_)) => {
                self.short_since = Some(now);
                self.close_largest();
            }
            (true, None) => self.set_short_of_memory(Some(now)),
            (false, Some(_)) => self.set_short_of_memory(None),
        }
        if self.rest_at.is_none() && self.around.pool.free_bytes() > 0 {
            self.rest_at = Some((now + SHRINK_AFTER, self.around.pool.taken()));
        }
    }

    /// A shard that was quiet for a while gives back the blocks that a burst left behind.
    pub(super) fn check_rest(&mut self) {
        let Some((_, before)) = self.rest_at.take_if(|(at, _)| *at <= self.around.now.instant) else {
            return;
        };
        if self.around.pool.taken() - before <= QUIET_TAKES_MAX {
            self.around.pool.shrink();
        }
    }

    fn set_short_of_memory(&mut self, since: Option<Instant>) {
        self.short_since = since;
        for slot in 0..self.table.slots() {
            let Some(id) = self.table.id_of(slot as u32) else { continue };
            if let Some(session) = self.table.live(id) {
                session.receiver.set_short_of_memory(since.is_some());
                self.touch(id);
            }
        }
    }

    fn close_largest(&mut self) {
        let held = |shard: &mut Self, slot: usize| {
            let id = shard.table.id_of(slot as u32)?;
            let session = shard.table.live(id).filter(|session| !session.is_over())?;
            Some((session.receiver.held_bytes(), id))
        };
        let largest = (0..self.table.slots()).filter_map(|slot| held(self, slot)).max();
        let Some((_, id)) = largest.filter(|(bytes, _)| *bytes > 0) else { return };
        if let Some(session) = self.table.live(id) {
            session.tell_closed(&mut self.around, CloseReason::Overloaded);
            session.close(self.around.now.instant, code::OVERLOADED, "short of memory");
            session.receiver.drain(&mut self.around.pool);
            self.touch(id);
        }
    }

    /// The operating system could not send: a hint, never the end of a session.
    pub fn handle_transmit_error(&mut self, now: Now, transmit: &Transmit, error: TransmitError) {
        self.begin(now);
        if error != TransmitError::TooLong {
            return;
        }
        // Rare, and without the packet at hand: every session on that path learns it.
        for slot in 0..self.table.slots() {
            let Some(id) = self.table.id_of(slot as u32) else { continue };
            if let Some(session) = self.table.live(id)
                && session.path.remote == transmit.remote
            {
                session.recovery.on_too_big(transmit.segment_len);
            }
        }
    }

    /// A letter found its ring full: what it owned is taken back, what it asked is taken as refused; what must arrive is sent
    /// again a little later.
    pub fn handle_undelivered(&mut self, now: Now, mail: Mail) {
        self.begin(now);
        if let Mail::Strike { e } = &mail {
            let e = *e;
            self.on_struck(&e, crate::mail::Struck::Full);
        }
        let Some(shard) = self.must_reach(&mail) else { return self.take_back(mail) };
        if planted(Mutant::MailLost) {
            return self.around.stats.count_drop(DropReason::MailFull);
        }
        if self.postponed.len() >= POSTPONED_MAX {
            return self.take_back(mail);
        }
        self.postpone(shard, mail);
    }

    /// The shard that a letter is for, if it must arrive.
    fn must_reach(&self, mail: &Mail) -> Option<u8> {
        match mail {
            Mail::SessionUp(listing) | Mail::SessionDown(listing) | Mail::PeerYielded(listing) => {
                Some(self.config.placement.of_key(&listing.peer.0).0)
            }
            Mail::TokenUp { token, .. } | Mail::TokenDown { token, .. } => Some(self.home_of_token(*token)),
            Mail::Fenced { to, .. } => Some(to.shard()),
            Mail::Note { to, .. } => Some(*to),
            // Refused when its ring was full, and yet struck: the Hello may come again when the ring has room.
            Mail::Strike { e } => Some(self.config.placement.of_key(e).0),
            Mail::Retire { session, .. }
            | Mail::Keep { session }
            | Mail::Probe { session, .. }
            | Mail::Inherit { session, .. }
            | Mail::Taken { session, .. }
            | Mail::Vacated { session, .. }
            | Mail::Cancel { session, .. }
            | Mail::Close { session, .. }
            | Mail::Ping { session, .. } => Some(session.shard()),
            _ => None,
        }
    }

    /// Letters that must arrive do so in order: while one for a shard waits, those that follow it wait behind it. A session that went
    /// up after it went down would be gone for the directory, and messages that are inherited have an order.
    pub(super) fn waits_behind(&self, to: Destination, mail: &Mail) -> bool {
        !self.postponed.is_empty()
            && self.postponed.len() < POSTPONED_MAX
            && self.must_reach(mail).is_some()
            && self.postponed.iter().any(|(other, _)| *other == to)
    }

    pub(super) fn postpone(&mut self, shard: u8, mail: Mail) {
        self.postponed.push_back((Destination::Shard(shard), mail));
        self.postponed_until = self.around.now.instant + POSTPONED_FOR;
    }

    fn take_back(&mut self, mail: Mail) {
        self.around.stats.count_drop(DropReason::MailFull);
        match mail {
            Mail::Misrouted { datagram, .. } => self.around.pool.adopt(datagram),
            Mail::Strike { e } => self.on_struck(&e, crate::mail::Struck::Full),
            Mail::Inherit { session, message, .. } => self.return_message(session, message),
            Mail::Opened(opened) => self.on_unplaced(*opened),
            // Nobody may wait for ever; the order is lost with the letters that it was to come behind.
            Mail::Fenced { from, .. } => self.around.events.push_back(Event::Settled { from }),
            _ => {}
        }
    }

    /// The packet number that the next packet of a session will have; for tests that lose one.
    #[must_use]
    pub fn next_number(&mut self, id: SessionId) -> Option<PacketNumber> {
        self.table.live(id).map(|session| session.send_keys.next_number())
    }

    /// The address that a session's peer is reached at.
    #[must_use]
    pub fn remote_of(&mut self, id: SessionId) -> Option<core::net::SocketAddr> {
        self.table.live(id).map(|session| session.path.remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::aws_lc::AwsLc;

    /// There are many, each in memory of its own: allocators have a class for this size, and the next one of common allocators is
    /// 2,560 bytes.
    #[test]
    fn a_session_fits_a_class_of_allocators() {
        let len = size_of::<Session<AwsLc>>();
        assert!(len <= 2_048, "{len} bytes");
    }
}
