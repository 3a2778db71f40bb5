//! Beside a shard: its events in, our letters out, as the shard knows them.
//!
//! In:    events of the shard.
//! Out:   mail to the same shard; the events that are the application's.
//! Holds: the application hears nothing of sessions that we opened on an errand, until one carries on for one of its own or
//!        the peer's application writes on it.

use dunlin_codec::ids::{ChannelId, SessionId};
use dunlin_codec::message::{DIRECT_CHANNEL, SIGNED_CHANNEL};

use super::talk::Place;
use super::{Letter, Neighbours, Received, is_ours};
use crate::arq::sender::Outgoing;
use crate::event::{CloseReason, Event};
use crate::mail::{self, Mail};
use crate::note::Note;
use crate::rng::Entropy;
use crate::session::crypto::Crypto;
use crate::session::inbound::code;
use crate::shard::Shard;
use crate::time::Now;

/// A session of ours for which another carries on: the peer's application may still write on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aside {
    place: Place,
    to: SessionId,
    known: Known,
}

/// What the application knows of such a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Known {
    Nothing,
    /// That it is open: the one that carries on was gone when the first message came.
    Open,
    /// Who carries on.
    Moved,
}

/// The priority of messages between nodes: that of an application which chose none.
const PRIORITY: u8 = 128;

impl Neighbours {
    /// Takes in what the shard tells; gives back what the application is to hear, behind what [`Self::poll_event`] has. Call
    /// [`Self::post`] when all were taken in.
    pub fn on_event<C: Crypto, E: Entropy>(
        &mut self,
        now: Now,
        shard: &mut Shard<C, E>,
        event: Event,
    ) -> Option<Event> {
        let is_message = |channel| matches!(channel, DIRECT_CHANNEL | SIGNED_CHANNEL);
        match event {
            Event::Message { session, channel, block, charge } if is_message(channel) => {
                self.on_message(now, Received::new(session, channel, charge, block));
                None
            }
            Event::Message { session, channel, .. } => {
                if channel.0 >= ChannelId::APPLICATION.0 {
                    self.on_foreign_message(session);
                }
                Some(event)
            }
            Event::Released { session, released } if is_message(released.channel) => {
                let len = released.block.len();
                shard.give_block(released.block);
                self.on_released(now, session, len);
                None
            }
            Event::ConnectFailed { ticket, reason, .. } if is_ours(ticket) => {
                self.begin(now);
                self.tell(Note::CallFailed { ticket, reason });
                self.settle();
                None
            }
            event => self.on_session_event(now, event),
        }
    }

    fn on_session_event(&mut self, now: Now, event: Event) -> Option<Event> {
        match event {
            Event::Connected { ticket, session, peer, remote, .. } => {
                self.on_session(now, session, (peer, remote), Some(ticket));
                Some(event).filter(|_| !is_ours(ticket))
            }
            Event::Accepted { session, peer, remote } | Event::Adopted { session, peer, remote } => {
                self.on_session(now, session, (peer, remote), None);
                Some(event)
            }
            Event::QueueLimit { session, bytes } => {
                self.on_queue_limit(session, bytes);
                Some(event).filter(|_| !self.is_errand(session))
            }
            Event::Roamed { session, remote } => {
                self.on_roamed(now, session, remote);
                Some(event).filter(|_| !self.is_errand(session))
            }
            Event::Closed { session, .. } => {
                let is_errand = self.is_errand(session);
                self.on_gone(now, session);
                Some(event).filter(|_| !is_errand)
            }
            Event::Moved { from, to } => {
                let errand = self.places.get(&from).copied().filter(|place| place.is_ours);
                self.on_moved(now, from, to);
                let Some(place) = errand else { return Some(event) };
                self.aside.insert(from, Aside { place, to, known: Known::Nothing });
                None
            }
            Event::Ceased { from } => match self.aside.remove(&from) {
                None => Some(event),
                Some(Aside { known: Known::Nothing, .. }) => None,
                Some(Aside { known: Known::Moved, .. }) => Some(event),
                Some(Aside { known: Known::Open, place, .. }) => {
                    let (session, peer) = (from, place.peer);
                    Some(Event::Closed { session, peer, reason: CloseReason::Local })
                }
            },
            Event::PeerRestarted { from, to, .. } => {
                let is_errand = self.is_errand(from);
                self.on_succeeded(now, from, to);
                Some(event).filter(|_| !is_errand)
            }
            event => Some(event),
        }
    }

    /// The peer's application writes to ours: the session is ours no more.
    fn on_foreign_message(&mut self, session: SessionId) {
        if let Some(place) = self.places.get_mut(&session).filter(|place| place.is_ours) {
            place.is_ours = false;
            let (peer, remote, bytes) = (place.peer, place.remote, place.queue_limit);
            self.events.push_back(Event::Accepted { session, peer, remote });
            self.events.push_back(Event::QueueLimit { session, bytes });
        } else {
            self.on_late_message(session);
        }
    }

    /// One that came on a session of ours for which another carries on.
    fn on_late_message(&mut self, session: SessionId) {
        let Some(aside) = self.aside.get_mut(&session) else { return };
        if aside.known != Known::Nothing {
            return;
        }
        let Aside { place: Place { peer, remote, queue_limit, .. }, to, .. } = *aside;
        let is_here = to.shard() == self.shard;
        aside.known = if is_here && !self.places.contains_key(&to) { Known::Open } else { Known::Moved };
        self.events.push_back(Event::Accepted { session, peer, remote });
        self.events.push_back(Event::QueueLimit { session, bytes: queue_limit });
        if aside.known == Known::Moved {
            self.lead_to(to);
            self.events.push_back(Event::Moved { from: session, to });
        }
    }

    /// The application is led to a session that carries on for one which it knows.
    pub(super) fn lead_to(&mut self, to: SessionId) {
        if to.shard() == self.shard {
            return self.adopt(to);
        }
        let note = Box::new(Note::CarriesOn(to));
        self.letters.push_back(Letter::Mail(Mail::Note { to: to.shard(), note }));
    }

    /// A session that the application knows goes on as this one.
    pub(super) fn adopt(&mut self, session: SessionId) {
        if let Some(place) = self.places.get_mut(&session).filter(|place| place.is_ours) {
            place.is_ours = false;
            let (peer, remote, bytes) = (place.peer, place.remote, place.queue_limit);
            self.events.push_back(Event::Adopted { session, peer, remote });
            self.events.push_back(Event::QueueLimit { session, bytes });
        }
    }

    /// Gives the shard every letter that waits.
    pub fn post<C: Crypto, E: Entropy>(&mut self, now: Now, shard: &mut Shard<C, E>) {
        if let Some(hub) = &mut self.hub {
            (0..hub.ephemerals_wanted()).for_each(|_| hub.on_ephemeral(shard.draw()));
        }
        while let Some(letter) = self.poll_letter() {
            let mail = match letter {
                Letter::Mail(mail) => mail,
                Letter::Send { session, channel, bytes } => {
                    let Some(mut block) = shard.take_block(bytes.len()) else {
                        // A hole in what was said is worse than an end: whoever asked asks elsewhere.
                        shard.handle_mail(now, mail::From::Application, overloaded(session));
                        continue;
                    };
                    block.fill_from(&bytes);
                    self.keep_spare(bytes);
                    let message = Outgoing {
                        ticket: 0,
                        block,
                        channel,
                        ordered: true,
                        reliable: true,
                        priority: PRIORITY,
                        once: true,
                        idempotent: false,
                    };
                    Mail::Send { session, message }
                }
            };
            shard.handle_mail(now, mail::From::Application, mail);
        }
    }
}

const fn overloaded(session: SessionId) -> Mail {
    Mail::Close { session, code: code::OVERLOADED }
}
