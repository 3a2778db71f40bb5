//! The shard's letters: from the application and from other shards.
//!
//! In:    `handle_mail`.
//! Out:   changed sessions; more letters.
//! Holds: a letter about a session that is gone is counted; what it owns goes back to its owner.

use dunlin_codec::ids::{ChannelId, SessionId};

use crate::arq::sender::{Outcome, Outgoing, Released};
use crate::event::{Event, Ticket};
use crate::limits::{HEIR_HOPS_MAX, HEIRS_MAX};
use crate::mail::{self, Listing, Mail, Struck};
use crate::mutants::{Mutant, planted};
use crate::rng::Entropy;
use crate::session::crypto::Crypto;
use crate::session::inbound::code;
use crate::session::live::{Phase, Probation, Session};
use crate::shard::Shard;
use crate::shard::table::Slot;
use crate::stats::DropReason;
use crate::time::Now;

impl<C: Crypto, E: Entropy> Shard<C, E> {
    /// Takes in a letter.
    pub fn handle_mail(&mut self, now: Now, from: mail::From, mail: Mail) {
        self.begin(now);
        match from {
            mail::From::Application => self.on_application_mail(mail),
            mail::From::Shard(shard) => self.on_shard_mail(shard, mail),
        }
    }

    /// Closes every session at once: nobody is left to use them. The next polls tell the peers.
    pub fn close_all(&mut self, now: Now) {
        self.begin(now);
        for slot in 0..self.table.slots() {
            let Some(id) = self.table.id_of(slot as u32) else { continue };
            self.on_close(id, code::SHUTDOWN);
        }
    }

    pub(super) fn on_application_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Connect(connect) => self.on_connect(*connect),
            Mail::Send { session, message } => self.on_send(session, message, 0),
            Mail::Cancel { session, channel, ticket } => {
                self.on_cancel(session, channel, ticket);
            }
            Mail::Consumed { session, channel, charge, block } => {
                if let Some(live) = self.table.live(session) {
                    live.receiver.on_consumed(channel, charge.into());
                    if live.receiver.is_credit_due() {
                        self.touch(session);
                    }
                }
                self.around.pool.give(block);
            }
            Mail::Ping { session, ticket } => self.on_ping(session, ticket),
            Mail::Close { session, code } => self.on_close(session, code),
            Mail::Fence { from, to } => self.post(to.shard(), Mail::Fenced { from, to, hops: 0 }),
            Mail::Shutdown => self.on_shutdown(),
            Mail::NewKey(new) => self.on_new_key(&new),
            Mail::Note { to, note } => self.post(to, Mail::Note { to, note }),
            _ => self.around.stats.count_drop(DropReason::StaleMail),
        }
    }

    pub(super) fn on_shard_mail(&mut self, from: u8, mail: Mail) {
        match mail {
            Mail::Note { note, .. } => self.notes.push_back(*note),
            Mail::Misrouted { arrival, mut datagram } => {
                let result = self.accept_datagram(from, &arrival, &mut datagram);
                if let Err(reason) = result {
                    self.around.stats.count_drop(reason);
                }
                self.around.pool.adopt(datagram);
            }
            Mail::Strike { e } => {
                let struck = self.responders.strike(&e, from, self.around.now.instant);
                self.post(from, Mail::StrikeAnswer { e, struck });
            }
            Mail::StrikeAnswer { e, struck } => self.on_strike_answer(&e, struck),
            Mail::SessionUp(listing) => self.on_session_up(listing),
            Mail::SessionDown(listing) => self.directory.on_down(&listing),
            Mail::PeerYielded(listing) => self.on_peer_yielded(&listing),
            Mail::Retire { session, into } => self.on_retire(session, into),
            Mail::Keep { session } => {
                if let Some(live) = self.table.live(session) {
                    live.probation = None;
                }
            }
            Mail::Probe { session, successor, stays } => self.on_probe(session, successor, stays),
            Mail::Inherit { session, message, hops } => self.on_send(session, message, hops),
            Mail::Fenced { from, to, hops } => self.on_fenced(from, to, hops),
            Mail::Opened(opened) => self.on_opened(from, *opened),
            Mail::Taken { session, by } => self.on_taken(session, by),
            Mail::Vacated { session, by } => self.on_vacated(session, by),
            Mail::TokenUp { token, session } => self.on_token_up(token, session),
            Mail::TokenDown { token, session } => self.on_token_down(token, session),
            Mail::Reset { arrival, session, token } => {
                if let Err(reason) = self.on_reset(from, &arrival, session, &token) {
                    self.around.stats.count_drop(reason);
                }
            }
            // Passed on by the shard that handed the session over.
            Mail::Cancel { .. } | Mail::Ping { .. } | Mail::Close { .. } => self.on_application_mail(mail),
            _ => self.around.stats.count_drop(DropReason::StaleMail),
        }
    }

    /// The application's message: to a live session, or one that is being opened.
    pub(super) fn on_send(&mut self, id: SessionId, message: Outgoing, hops: u8) {
        let result = match self.table.get_mut(id) {
            Some(Slot::Live(session)) => session.push(message).map_err(|(_, message)| message),
            Some(Slot::Connecting(connecting)) => {
                connecting.sender.push(message).map_err(|(_, message)| message)
            }
            Some(Slot::Handed(_)) => return self.pass_on(id, Mail::Send { session: id, message }),
            _ => Err(message),
        };
        match result {
            Ok(()) => {
                self.around.stats.messages_sent += 1;
                self.touch(id);
            }
            Err(message) => match self.heir_of(id, hops) {
                Some(heir) => {
                    let letter = Mail::Inherit { session: heir, message, hops: hops + 1 };
                    self.post(heir.shard(), letter);
                }
                None => self.return_message(id, message),
            },
        }
    }

    /// Everything that was written to a session that ended has come here, or went on from here to a third one.
    // spec: atp/succession
    fn on_fenced(&mut self, from: SessionId, to: SessionId, hops: u8) {
        match self.heir_of(to, hops) {
            Some(heir) => self.post(heir.shard(), Mail::Fenced { from, to: heir, hops: hops + 1 }),
            None => self.around.events.push_back(Event::Settled { from }),
        }
    }

    /// A message that cannot be taken goes back, so that its block is not lost.
    pub(super) fn return_message(&mut self, session: SessionId, message: Outgoing) {
        let Outgoing { ticket, channel, block, .. } = message;
        let released = Released { ticket, channel, block, outcome: Outcome::Abandoned };
        self.around.events.push_back(Event::Released { session, released });
    }

    fn on_cancel(&mut self, id: SessionId, channel: ChannelId, ticket: Ticket) {
        let block = match self.table.get_mut(id) {
            Some(Slot::Live(session)) => session.sender.cancel(channel, ticket.0),
            Some(Slot::Connecting(connecting)) => connecting.sender.cancel(channel, ticket.0),
            Some(Slot::Handed(_)) => return self.pass_on(id, Mail::Cancel { session: id, channel, ticket }),
            _ => None,
        };
        if let Some(block) = block.filter(|_| !planted(Mutant::CancelledNotFreed)) {
            let released = Released { ticket: ticket.0, channel, block, outcome: Outcome::Abandoned };
            self.around.events.push_back(Event::Released { session: id, released });
        }
        self.touch(id);
    }

    fn on_close(&mut self, id: SessionId, code: u64) {
        match self.table.get_mut(id) {
            Some(Slot::Live(session)) => {
                session.close_locally(&mut self.around, code);
                self.touch(id);
            }
            Some(Slot::Connecting(_)) => self.abandon_connecting(id, crate::event::CloseReason::Local),
            Some(Slot::Handed(_)) => self.pass_on(id, Mail::Close { session: id, code }),
            _ => {}
        }
    }

    fn on_ping(&mut self, id: SessionId, ticket: Ticket) {
        match self.table.get_mut(id) {
            Some(Slot::Live(session)) => {
                session.ping(ticket);
                self.touch(id);
            }
            Some(Slot::Handed(_)) => self.pass_on(id, Mail::Ping { session: id, ticket }),
            _ => {}
        }
    }

    /// Everything closes once what is queued was acknowledged.
    fn on_shutdown(&mut self) {
        self.shutting_down = true;
        for slot in 0..self.table.slots() {
            let Some(id) = self.table.id_of(slot as u32) else { continue };
            match self.table.get_mut(id) {
                Some(Slot::Live(_)) if slot == 0 && planted(Mutant::ShutdownForgets) => {}
                Some(Slot::Live(session)) => {
                    session.drain(None);
                    session.drain_code = code::SHUTDOWN;
                    self.touch(id);
                }
                Some(Slot::Connecting(_)) => {
                    self.abandon_connecting(id, crate::event::CloseReason::Local);
                }
                _ => {}
            }
        }
    }

    fn on_session_up(&mut self, listing: Listing) {
        let mut letters = Vec::new();
        self.directory.on_up(listing, |mail, session| letters.push((session.shard(), mail)));
        for (shard, mail) in letters {
            self.post(shard, mail);
        }
    }

    fn on_peer_yielded(&mut self, listing: &Listing) {
        let mut letters = Vec::new();
        self.directory.on_yielded(listing, |mail, session| letters.push((session.shard(), mail)));
        for (shard, mail) in letters {
            self.post(shard, mail);
        }
    }

    /// Another session carries on for this one, which carries on for no other from now on.
    fn on_retire(&mut self, id: SessionId, into: SessionId) {
        let Some(session) = self.table.live(id) else { return };
        session.drain(Some(into));
        let listing = session.listing();
        self.tell_directory(Mail::SessionDown(listing), &listing.peer);
        self.touch(id);
    }

    /// There is a newer session with the peer: this older one is asked whether it lives.
    fn on_probe(&mut self, id: SessionId, successor: SessionId, stays: bool) {
        let now = self.around.now.instant;
        let Some(session) = self.table.live(id).filter(|session| !session.is_over()) else { return };
        let until = now + session.recovery.rtt().probe_timeout(0) * 3;
        session.probation = Some(Probation { successor, stays, until, since: now });
        session.control.ping = true;
        self.touch(id);
    }

    /// An older session on probation: it answered, or it hands over.
    pub(super) fn check_probation(&mut self, id: SessionId) {
        let now = self.around.now.instant;
        let Some(session) = self.table.live(id) else { return };
        let Some(probation) = session.probation else { return };
        if session.last_heard > probation.since || session.is_over() {
            session.probation = None;
            if probation.stays && !session.is_over() {
                let successor = probation.successor;
                self.post(successor.shard(), Mail::Retire { session: successor, into: id });
            }
        } else if probation.until <= now {
            session.probation = None;
            session.successor = Some(probation.successor);
            session.phase = Phase::Gone;
        }
    }

    /// What a dead session could not deliver goes to the one that carries on, in order.
    pub(super) fn bequeath(&mut self, id: SessionId, successor: SessionId, session: &mut Session<C>) {
        let mut resent = 0;
        self.note_heir(id, successor);
        for message in session.take_undelivered() {
            if message.once {
                self.return_message(id, message);
                continue;
            }
            resent += 1;
            self.post(successor.shard(), Mail::Inherit { session: successor, message, hops: 0 });
        }
        self.around.events.push_back(Event::PeerRestarted { from: id, to: successor, resent });
    }

    /// What comes for a session that is gone follows it: from the application, which has not heard yet, and from sessions that ended
    /// in this one.
    fn note_heir(&mut self, id: SessionId, into: SessionId) {
        self.forget_heir(id);
        if self.heirs.len() == HEIRS_MAX {
            self.heirs.pop_front();
        }
        self.heirs.push_back((id, into));
    }

    /// The id is another session's now.
    pub(super) fn forget_heir(&mut self, id: SessionId) {
        self.heirs.retain(|(gone, _)| *gone != id);
    }

    /// The session that carries on for this one, which yielded or is gone.
    fn heir_of(&mut self, id: SessionId, hops: u8) -> Option<SessionId> {
        if hops >= HEIR_HOPS_MAX {
            return None;
        }
        let yielded = self.table.live(id).and_then(|session| match session.phase {
            Phase::Yielded { into, .. } => Some(into),
            _ => None,
        });
        let known = || self.heirs.iter().find(|(gone, _)| *gone == id).map(|(_, heir)| *heir);
        yielded.or_else(known)
    }

    /// A session that was drained into another: what came meanwhile follows, and the application moves over.
    pub(super) fn hand_over(&mut self, id: SessionId, into: SessionId, waiting: Vec<Outgoing>) {
        self.note_heir(id, into);
        for message in waiting {
            self.post(into.shard(), Mail::Inherit { session: into, message, hops: 0 });
        }
        self.around.events.push_back(Event::Moved { from: id, to: into });
    }

    fn on_strike_answer(&mut self, e: &[u8; 32], struck: Struck) {
        self.on_struck(e, struck);
    }
}
