//! Beside a shard: its events in, our letters out, as the shard knows them.
//!
//! In:    events of the shard.
//! Out:   mail to the same shard; the events that are the application's.
//! Holds: the application hears nothing of sessions that we opened on an errand, until one carries on for one of its own.

use dunlin_codec::ids::SessionId;
use dunlin_codec::message::{DIRECT_CHANNEL, SIGNED_CHANNEL};

use super::{Letter, Neighbours, Received};
use crate::arq::sender::Outgoing;
use crate::event::Event;
use crate::mail::{self, Mail};
use crate::rng::Entropy;
use crate::session::crypto::Crypto;
use crate::session::inbound::code;
use crate::shard::Shard;
use crate::time::Now;

/// The priority of messages between nodes: that of an application which chose none.
const PRIORITY: u8 = 128;

impl Neighbours {
    /// Takes in what the shard tells; gives back what the application is to hear. Call [`Self::post`] when all were taken in.
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
            Event::Released { session, released } if is_message(released.channel) => {
                shard.give_block(released.block);
                self.on_released(now, session);
                None
            }
            Event::ConnectFailed { ticket, .. } if Self::is_ours(ticket) => {
                self.on_call_failed(now, ticket);
                None
            }
            event => self.on_session_event(now, event),
        }
    }

    fn on_session_event(&mut self, now: Now, event: Event) -> Option<Event> {
        match event {
            Event::Connected { ticket, session, peer, remote, .. } => {
                self.on_session(now, session, (peer, remote), Some(ticket));
            }
            Event::Accepted { session, peer, remote } | Event::Adopted { session, peer, remote } => {
                self.on_session(now, session, (peer, remote), None);
            }
            Event::QueueLimit { session, .. } | Event::Roamed { session, .. } => {
                return Some(event).filter(|_| !self.is_errand(session));
            }
            Event::Closed { session, .. } => {
                let is_errand = self.is_errand(session);
                self.on_gone(now, session);
                return Some(event).filter(|_| !is_errand);
            }
            Event::Moved { from, to } | Event::PeerRestarted { from, to, .. } => {
                let is_errand = self.is_errand(from);
                self.on_succeeded(now, from, to);
                return Some(event).filter(|_| !is_errand);
            }
            _ => return Some(event),
        }
        let is_errand = matches!(event, Event::Connected { ticket, .. } if Self::is_ours(ticket));
        Some(event).filter(|_| !is_errand)
    }

    /// Gives the shard every letter that waits.
    pub fn post<C: Crypto, E: Entropy>(&mut self, now: Now, shard: &mut Shard<C, E>) {
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
