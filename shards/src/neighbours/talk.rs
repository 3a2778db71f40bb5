//! Talks: each a session with its conversation.
//!
//! In:    sessions that open and close; what their peers say.
//! Out:   transmissions, answers out of the table, the end of sessions.
//! Holds: the NACK of another network is acknowledged before its session closes; a session that we opened and nobody used
//!        for long is closed.

use core::net::SocketAddr;
use std::collections::VecDeque;

use dunlin_codec::args::{NODES_MAX, Reason, write_nodes};
use dunlin_codec::ids::{Address, ChannelId, NodeId, SessionId};

use super::errand::{Errand, Purpose};
use super::{Letter, Neighbours, Notice};
use crate::blocks::Block;
use crate::dht::contact::{Contact, is_public};
use crate::dht::space::Space;
use crate::dht::table::Audience;
use crate::event::Ticket;
use crate::limits::{NOTICES_WAITING_MAX, TALK_UNUSED_MAX};
use crate::mail::Mail;
use crate::messages::conversation::{Asked, Conversation, Fact, Taken, Words};
use crate::time::{Instant, Now};

/// A message as it came.
#[derive(Debug)]
pub struct Received {
    pub(super) session: SessionId,
    pub(super) channel: ChannelId,
    pub(super) charge: u32,
    pub(super) block: Block,
}

/// Who is at the other end of a session, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    peer: NodeId,
    remote: SocketAddr,
    /// We opened it on an errand: the application does not know it.
    is_ours: bool,
}

/// A session that talks.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) session: SessionId,
    pub(super) conversation: Conversation,
    pub(super) remote: SocketAddr,
    is_ours: bool,
    pub(super) is_leaving: bool,
    pub(super) used_at: Instant,
    /// Transmissions that the shard has.
    pub(super) unreleased: usize,
    /// What came and waits for the peer's share of this core.
    pub(super) inbox: VecDeque<Received>,
}

impl Neighbours {
    /// A session opened, whoever asked for it. The ticket is that of `Event::Connected`.
    pub fn on_session(
        &mut self,
        now: Now,
        session: SessionId,
        (peer, remote): (NodeId, SocketAddr),
        ticket: Option<Ticket>,
    ) {
        self.begin(now);
        let call = ticket.and_then(|ticket| self.calls.remove(&ticket));
        self.places.insert(session, Place { peer, remote, is_ours: call.is_some() });
        if let Some(call) = call {
            self.open_talk(session);
            call.errands.into_iter().for_each(|errand| self.run_on(session, errand));
        }
        self.work();
    }

    /// The call went there, wherever its answer came from.
    fn run_on(&mut self, session: SessionId, errand: Errand) {
        if let Some(talk) = self.talks.get_mut(&session) {
            talk.remote = errand.endpoint;
        }
        self.run_errand(errand);
    }

    /// A call of ours will not be answered.
    pub fn on_call_failed(&mut self, now: Now, ticket: Ticket) {
        self.begin(now);
        if let Some(call) = self.calls.remove(&ticket) {
            call.errands.iter().for_each(|errand| self.on_errand_failed(errand, true));
        }
        self.work();
    }

    /// A session ended, or another carries on for it: what was asked there is asked no more.
    pub fn on_gone(&mut self, now: Now, session: SessionId) {
        self.begin(now);
        let place = self.places.remove(&session);
        if let Some(Place { peer, .. }) = place
            && self.by_peer.get(&peer) == Some(&session)
        {
            self.by_peer.remove(&peer);
        }
        // Out of sight first: whatever is asked again must not be asked there.
        self.tell_parted(session);
        if let Some(talk) = self.talks.remove(&session) {
            self.wind_up(talk);
        }
        self.work();
    }

    fn wind_up(&mut self, talk: Talk) {
        let Talk { mut conversation, inbox, .. } = talk;
        conversation.end();
        inbox.into_iter().for_each(|received| self.go_home(received));
        let peer = conversation.peer();
        while let Some(fact) = conversation.poll_fact() {
            match fact {
                Fact::Answered { ticket, outcome } if Self::is_ours(ticket) => {
                    self.on_errand_answered(ticket, &outcome);
                }
                Fact::Answered { ticket, outcome } => {
                    self.notices.push_back(Notice::Answered { ticket, outcome });
                }
                fact @ (Fact::Told { .. } | Fact::Carried { .. }) => {
                    self.notices.push_back(Notice::Heard { peer, fact });
                }
                // Nobody is there to be answered.
                Fact::Met | Fact::Asked { .. } => {}
            }
        }
    }

    /// The session was opened on an errand of ours.
    pub(super) fn is_errand(&self, session: SessionId) -> bool {
        self.places.get(&session).is_some_and(|place| place.is_ours)
    }

    /// Another session carries on for one; what was asked there is asked no more. The application has the one that it knew.
    pub(super) fn on_succeeded(&mut self, now: Now, from: SessionId, to: SessionId) {
        self.begin(now);
        let Some(before) = self.places.get(&from).copied().filter(|_| from != to) else {
            return self.on_restarted(now, from);
        };
        let place = self.places.entry(to).or_insert(before);
        place.is_ours &= before.is_ours;
        let is_ours = place.is_ours;
        if self.talks.contains_key(&from) {
            self.open_talk(to);
        }
        if let Some(talk) = self.talks.get_mut(&to) {
            talk.is_ours = is_ours;
            self.by_peer.insert(before.peer, to);
        }
        self.on_gone(now, from);
    }

    /// The peer restarted and the session goes on under its id: it talks anew.
    fn on_restarted(&mut self, now: Now, session: SessionId) {
        let place = self.places.get(&session).copied();
        self.on_gone(now, session);
        if let Some(place) = place {
            self.places.insert(session, place);
        }
    }

    /// Begins to talk on a session, if it does not yet.
    pub(super) fn open_talk(&mut self, session: SessionId) {
        let Some(Place { peer, remote, is_ours }) = self.places.get(&session).copied() else { return };
        if self.talks.contains_key(&session) {
            return;
        }
        let conversation = Conversation::begin(&mut self.bench, peer);
        let talk = Talk {
            session,
            conversation,
            remote,
            is_ours,
            is_leaving: false,
            used_at: self.bench.now,
            unreleased: 0,
            inbox: VecDeque::new(),
        };
        self.talks.insert(session, talk);
        self.by_peer.insert(peer, session);
        self.pump(session);
    }

    /// Takes in what waits, tells what became known, sends what is ready.
    pub(super) fn pump(&mut self, session: SessionId) {
        self.read(session);
        while let Some(fact) = self.talks.get_mut(&session).and_then(|talk| talk.conversation.poll_fact()) {
            self.on_fact(session, fact);
        }
        self.send(session);
    }

    /// The application is told why, once; the peer may have closed first.
    fn tell_parted(&mut self, session: SessionId) {
        let Some(talk) = self.talks.get_mut(&session).filter(|talk| !talk.is_leaving) else { return };
        if let Some(farewell) = talk.conversation.poll_farewell() {
            talk.is_leaving = true;
            self.notices.push_back(Notice::Parted(talk.conversation.peer(), farewell));
        }
    }

    /// Sends what is ready; a session that is to end closes once its last words were acknowledged.
    fn send(&mut self, session: SessionId) {
        let Some(talk) = self.talks.get_mut(&session) else { return };
        let mut bytes = Vec::new();
        while let Some(channel) = talk.conversation.poll_transmission(&mut bytes) {
            talk.unreleased += 1;
            self.letters.push_back(Letter::Send { session, channel, bytes: core::mem::take(&mut bytes) });
        }
        if let Some(farewell) = talk.conversation.poll_farewell()
            && talk.unreleased == 0
            && !talk.is_leaving
        {
            self.letters.push_back(Letter::Mail(Mail::Close { session, code: farewell.code }));
            self.tell_parted(session);
        }
    }

    fn read(&mut self, session: SessionId) {
        let Some(talk) = self.talks.get_mut(&session) else { return };
        while let Some(received) = talk.inbox.pop_front() {
            let taken = talk.conversation.on_transmission(&mut self.bench, received.channel, &received.block);
            if taken != Taken::Done {
                // Unread, it costs the peer its credit: nothing more comes than that.
                talk.inbox.push_front(received);
                return;
            }
            let Received { session, channel, charge, block } = received;
            self.letters.push_back(Letter::Mail(Mail::Consumed { session, channel, charge, block }));
        }
    }

    fn on_fact(&mut self, session: SessionId, fact: Fact) {
        let Some(talk) = self.talks.get_mut(&session) else { return };
        let (peer, endpoint) = (talk.conversation.peer(), talk.remote);
        match fact {
            Fact::Met => {
                self.notices.push_back(Notice::Met(peer));
                if !self.table.is_member(&peer) {
                    self.run_errand(Errand::new(peer, endpoint, Purpose::Introduce));
                }
            }
            Fact::Asked { request, what: Asked::FindNode(place) } => self.tell_nodes(session, request, place),
            Fact::Asked { request, what: Asked::FindValue(_) | Asked::Store(_) } => {
                talk.conversation.refuse(&mut self.bench, request, Reason::Unsupported);
            }
            Fact::Asked { request, what: Asked::Link(is_link) } => {
                self.decide_link(session, request, is_link)
            }
            // An application that does not read is asked no more.
            Fact::Asked { request, .. } if self.notices.len() >= NOTICES_WAITING_MAX => {
                talk.conversation.refuse(&mut self.bench, request, Reason::Busy);
            }
            Fact::Asked { request, what } => self.notices.push_back(Notice::Asked { peer, request, what }),
            Fact::Answered { ticket, outcome } if Self::is_ours(ticket) => {
                self.on_errand_answered(ticket, &outcome);
            }
            Fact::Answered { ticket, outcome } => {
                self.notices.push_back(Notice::Answered { ticket, outcome });
            }
            Fact::Told { .. } | Fact::Carried { .. } if self.notices.len() >= NOTICES_WAITING_MAX => {
                self.unread += 1;
            }
            fact @ (Fact::Told { .. } | Fact::Carried { .. }) => {
                self.notices.push_back(Notice::Heard { peer, fact });
            }
        }
    }

    /// FIND_NODE: ourselves among them, when we can be reached.
    fn tell_nodes(&mut self, session: SessionId, request: u64, place: Address) {
        let Some(talk) = self.talks.get_mut(&session) else { return };
        let is_public_peer = is_public(talk.remote.ip());
        let audience = if is_public_peer { Audience::Public } else { Audience::Private };
        let mut nodes = Vec::with_capacity(NODES_MAX + 1);
        self.table.closest(&place, (self.plan.replication, audience), &mut nodes);
        let may_tell_own = self.own.endpoint().is_some() && (!is_public_peer || self.own.is_public());
        if may_tell_own {
            let distance = |contact: &Contact| self.plan.space.distance(&place, &Space::place(&contact.id()));
            let at = nodes.partition_point(|contact| distance(contact) < distance(&self.own));
            nodes.insert(at, &self.own);
            nodes.truncate(self.plan.replication);
        }
        let peer = talk.conversation.peer();
        nodes.retain(|contact| contact.id() != peer);
        talk.used_at = self.bench.now;
        talk.conversation.answer_with(&mut self.bench, request, Words::Others, |out| {
            write_nodes(out, nodes.iter().map(|contact| contact.bytes()))
        });
    }

    /// At most four links come in for each that we open.
    // spec: p2p/links
    fn decide_link(&mut self, session: SessionId, request: u64, is_link: bool) {
        let inbound = self.talks.values().filter(|talk| !talk.is_ours && talk.conversation.is_link());
        let is_granted =
            !is_link || inbound.count() < self.bench.terms.constants.links_inbound_max() as usize;
        if let Some(talk) = self.talks.get_mut(&session) {
            talk.conversation.answer_link(&mut self.bench, request, is_link, is_granted);
        }
    }

    /// A second has passed.
    pub(super) fn on_tick_of(&mut self, session: SessionId) {
        let now = self.bench.now;
        let Some(talk) = self.talks.get_mut(&session) else { return };
        talk.conversation.handle_timeout(now);
        let is_busy = talk.conversation.open_count() > 0 || talk.conversation.is_link() || !talk.is_ours;
        if !is_busy && !talk.is_leaving && talk.used_at + TALK_UNUSED_MAX <= now {
            talk.is_leaving = true;
            self.letters.push_back(Letter::Mail(Mail::Close { session, code: 0 }));
        }
        self.pump(session);
    }
}
