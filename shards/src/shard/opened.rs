//! Sessions that we initiated, from their verified Welcome on: opened here, or by the shard whose socket took the Welcome.
//!
//! In:    a Welcome that verified; letters about sessions that were handed over.
//! Out:   a live session on one shard; what still comes to the other for it is passed on.
//! Holds: where the kernel alone decides which socket takes a datagram, a session belongs to the shard that took its Welcome,
//!        so that only roaming needs mail. A session never changes its shard (T23): secrets and messages move before the first
//!        packet is sealed, and a shard that cannot take them sends them back.
//!
//! The peer goes on writing the id that our Hello told it. The shard that drew it keeps the slot, so that nobody else gets the
//! id, until the session is gone; the owner finds the session by it in `adopted`.

use dunlin_codec::ids::SessionId;

use crate::event::Event;
use crate::mail::{Destination, Mail, Opened};
#[cfg(feature = "mutants")]
use crate::mutants::{Mutant, planted};
use crate::rng::Entropy;
use crate::route::Arrival;
use crate::session::crypto::{Crypto, StaticPublic};
use crate::session::handshake::Secrets;
use crate::session::live::{Agreement, Finish, Phase};
use crate::session::path::Path;
use crate::shard::Shard;
use crate::shard::table::Slot;
use crate::stats::DropReason;

/// A session that another shard owns, under an id of ours.
pub(crate) struct Handed {
    shard: u8,
    /// Its id there, once it is open.
    by: Option<SessionId>,
    /// What the application wrote to it meanwhile.
    waiting: Vec<Mail>,
    /// The application knows the session, and how many of its messages travel again.
    resent: Option<usize>,
}

/// What came with a Welcome at least, in bytes, its frames apart.
const WELCOME_LEN_MIN: usize = 64;

impl<C: Crypto, E: Entropy> Shard<C, E> {
    /// A session of ours may begin: here, or on the shard `landed` whose socket took the Welcome.
    // spec: atp/placement
    pub(super) fn begin_opened(&mut self, landed: u8, opened: Opened) {
        let id = opened.session;
        if landed == self.config.index || self.config.steered {
            return self.open(id, opened);
        }
        self.timers.cancel(id.slot() as u32);
        let handed = Handed { shard: landed, by: None, waiting: Vec::new(), resent: opened.resent };
        self.table.put(id, Slot::Handed(Box::new(handed)));
        self.post(landed, Mail::Opened(Box::new(opened)));
    }

    /// A session is handed to us, or nobody would take it.
    pub(super) fn on_opened(&mut self, from: u8, opened: Opened) {
        let wire_id = opened.session;
        if wire_id.shard() == self.config.index {
            return self.keep(opened);
        }
        let Some(id) = self.table.reserve(self.around.rng.next_u64() as u8) else {
            return self.post(from, Mail::Opened(Box::new(opened)));
        };
        self.timers.grow(self.table.slots());
        self.adopted.insert(wire_id, id);
        self.open(id, opened);
        self.post(from, Mail::Taken { session: wire_id, by: id });
    }

    /// The other shard's ring is full.
    pub(super) fn on_unplaced(&mut self, opened: Opened) {
        let owner = opened.session.shard();
        if owner == self.config.index {
            return self.keep(opened);
        }
        // It was on its way back: it must arrive, as only its first shard has a slot for it.
        self.postpone(owner, Mail::Opened(Box::new(opened)));
    }

    /// The other shard has no room for it: it stays here, and mail takes it its datagrams.
    fn keep(&mut self, opened: Opened) {
        let id = opened.session;
        let Slot::Handed(handed) = self.table.take(id) else { return };
        self.open(id, opened);
        for letter in handed.waiting {
            self.on_application_mail(letter);
        }
    }

    /// The session begins.
    fn open(&mut self, id: SessionId, opened: Opened) {
        let Opened { session: wire_id, ticket, peer, sender, finish, early, frames, arrival, .. } = opened;
        let instance = opened.peer_instance;
        let agreement = Agreement {
            id,
            wire_id,
            peer_session: opened.peer_session,
            peer,
            peer_static: StaticPublic(opened.peer_static),
            peer_instance: instance,
            initiator: true,
            era: opened.era,
            suite: opened.suite,
            reset_token: Some(opened.reset_token),
        };
        let secrets = Secrets { send: opened.send, receive: opened.receive, hash: opened.hash };
        let path = Path::to(opened.dialled);
        let mut session = self.new_session(agreement, path, secrets, sender);
        if session.path.is_of(&arrival) {
            session.path = Path::of_arrival(&arrival);
        } else {
            // The application vouches for the address that it dialled. An answer from elsewhere, through a NAT or sent on by somebody,
            // proves nothing of where it came from: that address is asked.
            session.on_other_path(&mut self.around, &arrival, true, WELCOME_LEN_MIN + frames.len());
        }
        session.path.on_validated();
        let remote = session.path.remote;
        session.phase = Phase::Open;
        session.announced = true;
        session.control.ping = true;
        session.control.reset_token = Some(self.responders.reset_token(wire_id));
        session.finish = finish.map(|bytes| Finish { bytes, due: true });
        if let Some(round_trip) = opened.round_trip {
            session.recovery.on_handshake_round_trip(self.around.now.instant, round_trip);
        }
        self.around.events.push_back(match opened.resent {
            Some(resent) if id == wire_id => Event::PeerRestarted { from: id, to: id, resent },
            Some(_) => Event::Adopted { session: id, peer, remote },
            None => Event::Connected { ticket, session: id, peer, instance, remote, early },
        });
        session.on_early_frames(&mut self.around, &frames);
        #[cfg(feature = "mutants")]
        if planted(Mutant::SessionCountedTwice) {
            self.table.count_again();
        }
        self.install(id, session);
    }

    /// The session that we handed over is open there: whoever wrote to it here is taken there.
    pub(super) fn on_taken(&mut self, id: SessionId, by: SessionId) {
        let Some(Slot::Handed(handed)) = self.table.get_mut(id) else {
            return self.around.stats.count_drop(DropReason::StaleMail);
        };
        handed.by = Some(by);
        self.around.stats.sessions_handed += 1;
        let waiting = core::mem::take(&mut handed.waiting);
        if let Some(resent) = handed.resent.take() {
            self.around.events.push_back(Event::PeerRestarted { from: id, to: by, resent });
        }
        for letter in waiting {
            self.pass_on(id, letter);
        }
    }

    /// The session that we handed over is gone: its id is free. The letter may overtake the one that it was taken.
    pub(super) fn on_vacated(&mut self, id: SessionId, by: SessionId) {
        if let Some(Slot::Handed(handed)) = self.table.get_mut(id) {
            if handed.by.is_none() {
                self.on_taken(id, by);
            }
            drop(self.table.free(id));
        }
    }

    /// A letter for a session that we handed over.
    pub(super) fn pass_on(&mut self, id: SessionId, letter: Mail) {
        let Some(Slot::Handed(handed)) = self.table.get_mut(id) else { return };
        let Some(session) = handed.by else { return handed.waiting.push(letter) };
        let letter = match letter {
            Mail::Send { message, .. } => Mail::Inherit { session, message, hops: 0 },
            Mail::Cancel { channel, ticket, .. } => Mail::Cancel { session, channel, ticket },
            Mail::Ping { ticket, .. } => Mail::Ping { session, ticket },
            Mail::Close { code, .. } => Mail::Close { session, code },
            _ => return self.around.stats.count_drop(DropReason::StaleMail),
        };
        self.post(session.shard(), letter);
    }

    /// A sealed packet under an id of ours that no session here has.
    pub(super) fn on_absent_session(
        &mut self,
        arrival: &Arrival,
        id: SessionId,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        match self.table.get_mut(id) {
            Some(Slot::Handed(handed)) => {
                let owner = Destination::Shard(handed.shard);
                self.misroute(owner, arrival, datagram)
            }
            _ => self.on_unknown_session(arrival, id, datagram.len()),
        }
    }

    /// A session of ours leaves: the shard that drew its id may use it again.
    pub(super) fn vacate(&mut self, agreement: &Agreement) {
        if agreement.wire_id != agreement.id {
            self.adopted.remove(&agreement.wire_id);
            let letter = Mail::Vacated { session: agreement.wire_id, by: agreement.id };
            self.post(agreement.wire_id.shard(), letter);
        }
    }
}
