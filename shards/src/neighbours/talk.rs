//! Talks: each a session with its conversation.
//!
//! In:    sessions that open and close; what their peers say; what the hub has asked.
//! Out:   transmissions, answers out of what is known, facts for the hub, the end of sessions.
//! Holds: the NACK of another network is acknowledged before its session closes; a session that we opened and nobody used
//!        for long is closed.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use dunlin_codec::args::{Reason, Request};
use dunlin_codec::bytes::Reader;
use dunlin_codec::ids::{ChannelId, NodeId, SessionId};
use dunlin_codec::message::{Carried, Operation, Signed};

use super::{Letter, Neighbours, Notice, TICK, is_ours};
use crate::blocks::Block;
use crate::budget::Budget;
use crate::dht::contact::is_public;
use crate::event::Ticket;
use crate::gossip::Brought;
use crate::limits::{
    HEIRS_MAX, LETTERS_WAITING_MAX, NOTICES_WAITING_MAX, TALK_UNUSED_MAX, UNRELEASED_LEN_MAX,
};
use crate::mail::Mail;
use crate::messages::conversation::{Asked, Conversation, Fact, Taken};
use crate::note::{Note, Question};
use crate::outcome::{AskError, Outcome};
use crate::time::{Instant, Now};

/// Transmissions whose memory is kept at most.
const SPARES_MAX: usize = 16;
/// One that was longer is not kept, in bytes.
const SPARE_LEN_MAX: usize = 256 << 10;

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
    pub(super) peer: NodeId,
    pub(super) remote: SocketAddr,
    /// We opened it on an errand: the application does not know it.
    pub(super) is_ours: bool,
    /// What the application may queue there, once it knows it.
    pub(super) queue_limit: usize,
    /// The hub knows it.
    pub(super) is_told: bool,
}

/// A session that talks.
#[derive(Debug)]
pub(super) struct Talk {
    session: SessionId,
    pub(super) conversation: Conversation,
    is_leaving: bool,
    used_at: Instant,
    /// Transmissions that the shard has, and their bytes.
    unreleased: usize,
    unreleased_len: usize,
    /// What it brought to be verified.
    pub(super) brought: Budget,
    /// Letters that it brought.
    pub(super) letters: Budget,
    /// Letters for it, until it has greeted us.
    unsaid: Vec<(u8, Arc<[u8]>)>,
    /// The shard's links have it.
    is_link: bool,
    /// What came and waits for the peer's share of this core.
    inbox: VecDeque<Received>,
    is_watched: bool,
}

impl Talk {
    /// Time may bring something about: a question runs out, what waits is read, a session of ours was unused for long.
    fn needs_time(&self, is_ours: bool) -> bool {
        let may_end = is_ours && !self.is_leaving && !self.conversation.is_link();
        may_end || self.conversation.open_count() > 0 || !self.inbox.is_empty()
    }
}

impl Neighbours {
    /// A session opened, whoever asked for it. The ticket is that of `Event::Connected`.
    pub(super) fn on_session(
        &mut self,
        now: Now,
        session: SessionId,
        (peer, remote): (NodeId, SocketAddr),
        ticket: Option<Ticket>,
    ) {
        self.begin(now);
        let errand = ticket.filter(|ticket| is_ours(*ticket));
        // Whoever calls a node whose key has just changed may know only the old one: the hub has something to say.
        let is_told = ticket.is_some() || now.wall < self.tell_until;
        let place = Place { peer, remote, is_ours: errand.is_some(), queue_limit: 0, is_told };
        self.places.insert(session, place);
        // What others opened is talked on when they do; what the application opened, when there is something to ask.
        if errand.is_some() {
            self.open_talk(session);
        }
        if is_told {
            self.tell(Note::Up { session, peer, remote, ticket: errand });
        }
        self.settle();
    }

    /// A session ended, or another carries on for it: what was asked there is asked no more.
    pub(super) fn on_gone(&mut self, now: Now, session: SessionId) {
        self.begin(now);
        self.forget(session);
        self.settle();
    }

    /// The hub hears of a session of which it had no need to know.
    pub(super) fn tell_up(&mut self, session: SessionId) {
        let Some(place) = self.places.get_mut(&session).filter(|place| !place.is_told) else { return };
        place.is_told = true;
        let Place { peer, remote, .. } = *place;
        self.tell(Note::Up { session, peer, remote, ticket: None });
    }

    /// The hub has nothing more asked there.
    fn tell_gone(&mut self, session: SessionId) {
        let Some(place) = self.places.get_mut(&session) else { return };
        let peer = place.peer;
        if core::mem::replace(&mut place.is_told, false) {
            self.tell(Note::Gone { session, peer });
        }
    }

    fn forget(&mut self, session: SessionId) {
        // The hub first: whatever is asked again must not be asked there.
        self.tell_gone(session);
        self.places.remove(&session);
        self.watched.remove(&session);
        self.rumours.on_link(session, false);
        self.tell_parted(session);
        if let Some(talk) = self.talks.remove(&session) {
            self.wind_up(talk);
        }
    }

    fn wind_up(&mut self, talk: Talk) {
        let Talk { session, mut conversation, inbox, .. } = talk;
        conversation.end();
        inbox.into_iter().for_each(|received| self.go_home(received));
        let (peer, farewell) = (conversation.peer(), conversation.farewell());
        while let Some(fact) = conversation.poll_fact() {
            match fact {
                Fact::Answered { ticket, outcome } => {
                    self.tell(Note::Answered { ticket, session, result: Ok(outcome), farewell });
                }
                fact @ Fact::Told { .. } => {
                    self.notices.push_back(Notice::Heard { peer, fact });
                }
                // Nobody is there to be answered, or to answer for what it brought.
                Fact::Met | Fact::Asked { .. } | Fact::Carried { .. } | Fact::Wanted(_) => {}
            }
        }
    }

    /// The session was opened on an errand of ours.
    pub(super) fn is_errand(&self, session: SessionId) -> bool {
        self.places.get(&session).is_some_and(|place| place.is_ours)
    }

    pub(super) fn on_queue_limit(&mut self, session: SessionId, bytes: usize) {
        if let Some(place) = self.places.get_mut(&session) {
            place.queue_limit = bytes;
        }
    }

    /// The peer is reached elsewhere: what it answers there says nothing of where it was.
    pub(super) fn on_roamed(&mut self, now: Now, session: SessionId, remote: SocketAddr) {
        self.begin(now);
        let Some(place) = self.places.get_mut(&session) else { return };
        place.remote = remote;
        let Place { peer, is_told, .. } = *place;
        if let Some(talk) = self.talks.get_mut(&session) {
            talk.conversation.on_roamed(is_public(remote.ip()));
        }
        if is_told {
            self.tell(Note::Roamed { session, peer, remote });
        }
        self.settle();
    }

    /// Two sessions with the peer became one: what was asked on the one is answered on the other, or still there.
    pub(super) fn on_moved(&mut self, now: Now, from: SessionId, to: SessionId) {
        self.begin(now);
        if to.shard() == self.shard && self.talks.contains_key(&from) {
            if let Some(before) = self.places.get(&from).copied() {
                self.places.entry(to).or_insert(Place { is_told: false, ..before });
            }
            self.open_talk(to);
            if let (Some(mut older), Some(talk)) = (self.talks.remove(&from), self.talks.get_mut(&to)) {
                talk.conversation.on_succeeded(&mut self.bench, &mut older.conversation);
                talk.inbox.append(&mut older.inbox);
                self.talks.insert(from, older);
            }
            if self.heirs.len() >= HEIRS_MAX {
                self.heirs.pop_front();
            }
            self.heirs.push_back((from, to));
        }
        self.on_succeeded(now, from, to);
        self.pump(to);
        self.settle();
    }

    /// The session that answers for one which became one with it.
    pub(super) fn heir_of(&self, session: SessionId) -> SessionId {
        if self.places.contains_key(&session) {
            return session;
        }
        let heir = self.heirs.iter().rev().find(|(gone, _)| *gone == session);
        heir.map_or(session, |(_, heir)| *heir)
    }

    /// Another session carries on for one; what was asked there is asked no more. The application has the one that it knew.
    pub(super) fn on_succeeded(&mut self, now: Now, from: SessionId, to: SessionId) {
        self.begin(now);
        let before = self.places.get(&from).copied();
        match before {
            // The peer restarted and the session goes on under its id: it talks anew.
            Some(place) if from == to => {
                self.forget(from);
                self.places.insert(from, Place { is_told: true, ..place });
                let Place { peer, remote, .. } = place;
                self.tell(Note::Up { session: from, peer, remote, ticket: None });
            }
            Some(before) => {
                if to.shard() == self.shard {
                    self.places.entry(to).or_insert(Place { is_told: false, ..before });
                    if self.talks.contains_key(&from) {
                        self.open_talk(to);
                    }
                }
                if !before.is_ours {
                    self.lead_to(to);
                }
                self.forget(from);
            }
            None => {}
        }
        self.settle();
    }

    /// Begins to talk on a session, if it does not yet.
    fn open_talk(&mut self, session: SessionId) {
        let Some(place) = self.places.get(&session) else { return };
        if self.talks.contains_key(&session) {
            return;
        }
        let Place { peer, remote, .. } = *place;
        self.tell_up(session);
        let conversation = Conversation::begin(&mut self.bench, peer, is_public(remote.ip()));
        let talk = Talk {
            session,
            conversation,
            is_leaving: false,
            used_at: self.bench.now,
            unreleased: 0,
            unreleased_len: 0,
            brought: Budget::default(),
            letters: Budget::default(),
            unsaid: Vec::new(),
            is_link: false,
            inbox: VecDeque::new(),
            is_watched: false,
        };
        self.talks.insert(session, talk);
        self.pump(session);
    }

    /// The hub asks.
    pub(super) fn ask_on(&mut self, ticket: Ticket, session: SessionId, question: &Question) {
        self.open_talk(session);
        let Some(talk) = self.talks.get_mut(&session) else {
            return self.tell(Note::Answered { ticket, session, result: Ok(Outcome::Over), farewell: None });
        };
        talk.used_at = self.bench.now;
        let asked = match Request::parse(question.operation, &question.payload) {
            Ok(request) => talk.conversation.ask(&mut self.bench, ticket, &request, question.wait),
            // The hub and the application's interface let nothing else through.
            Err(_) => Err(AskError::Full),
        };
        let farewell = talk.conversation.farewell();
        match asked {
            Ok(()) => self.pump(session),
            Err(error) => self.tell(Note::Answered { ticket, session, result: Err(error), farewell }),
        }
    }

    /// A message of ours is done with; its block went home before.
    pub(super) fn on_released(&mut self, now: Now, session: SessionId, len: usize) {
        self.begin(now);
        if let Some(talk) = self.talks.get_mut(&session) {
            talk.unreleased = talk.unreleased.saturating_sub(1);
            talk.unreleased_len = talk.unreleased_len.saturating_sub(len);
            self.send(session);
        }
        self.settle();
    }

    /// A message came on channel 1 or 2. Its block goes home by a letter, once what it says was taken in.
    pub(super) fn on_message(&mut self, now: Now, received: Received) {
        self.begin(now);
        let session = self.heir_of(received.session);
        self.open_talk(session);
        if let Some(talk) = self.talks.get_mut(&session) {
            talk.inbox.push_back(received);
            talk.used_at = now.instant;
            self.pump(session);
        } else {
            self.go_home(received);
        }
        self.settle();
    }

    fn go_home(&mut self, received: Received) {
        let Received { session, channel, charge, block } = received;
        self.letters.push_back(Letter::Mail(Mail::Consumed { session, channel, charge, block }));
    }

    /// Takes in what waits, tells what became known, sends what is ready.
    pub(super) fn pump(&mut self, session: SessionId) {
        self.read(session);
        while let Some(fact) = self.talks.get_mut(&session).and_then(|talk| talk.conversation.poll_fact()) {
            self.on_fact(session, fact);
        }
        if let Some(talk) = self.talks.get_mut(&session)
            && talk.is_link != talk.conversation.is_link()
        {
            talk.is_link = !talk.is_link;
            self.rumours.on_link(session, talk.is_link);
            if talk.is_link {
                self.tell_recent(session);
            }
        }
        self.send(session);
        self.watch(session);
    }

    /// A session on which nothing is under way costs nothing, however many there are.
    fn watch(&mut self, session: SessionId) {
        let is_ours = self.is_errand(session);
        let Some(talk) = self.talks.get_mut(&session).filter(|talk| !talk.is_watched) else { return };
        if talk.needs_time(is_ours) {
            talk.is_watched = true;
            if self.watched.is_empty() {
                self.tick_at = self.bench.now + TICK;
            }
            self.watched.insert(session);
        }
    }

    /// A second has passed.
    pub(super) fn tick_watched(&mut self) {
        let sessions: Vec<SessionId> = self.watched.iter().copied().collect();
        for session in sessions {
            self.on_tick_of(session);
            let is_ours = self.is_errand(session);
            let Some(talk) = self.talks.get_mut(&session) else { continue };
            if !talk.needs_time(is_ours) {
                talk.is_watched = false;
                self.watched.remove(&session);
            }
        }
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
    pub(super) fn send(&mut self, session: SessionId) {
        let Some(talk) = self.talks.get_mut(&session) else { return };
        let mut bytes = self.spare.pop().unwrap_or_default();
        // What a slow peer does not take waits in the conversation, which has a bound.
        while talk.unreleased_len < UNRELEASED_LEN_MAX
            && let Some(channel) = talk.conversation.poll_transmission(&mut bytes)
        {
            talk.unreleased += 1;
            talk.unreleased_len += bytes.len();
            let next = self.spare.pop().unwrap_or_default();
            let bytes = core::mem::replace(&mut bytes, next);
            self.letters.push_back(Letter::Send { session, channel, bytes });
        }
        if bytes.capacity() > 0 {
            self.spare.push(bytes);
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
        let peer = talk.conversation.peer();
        match fact {
            Fact::Met => {
                let unsaid = core::mem::take(&mut talk.unsaid);
                unsaid.into_iter().for_each(|letter| self.carry_letter(session, letter));
                self.notices.push_back(Notice::Met(peer));
                self.tell(Note::Met { session, peer });
            }
            Fact::Asked { request, what } => self.on_asked(session, request, what),
            Fact::Wanted(ids) => self.give_recent(session, &ids),
            Fact::Answered { ticket, outcome } => {
                let farewell = talk.conversation.farewell();
                self.tell(Note::Answered { ticket, session, result: Ok(outcome), farewell });
            }
            Fact::Carried { hops, id, message } => {
                self.on_brought(Brought { session, peer, hops, id, message });
            }
            Fact::Told { .. } if self.notices.len() >= NOTICES_WAITING_MAX => self.unread += 1,
            fact @ Fact::Told { .. } => self.notices.push_back(Notice::Heard { peer, fact }),
        }
    }

    fn on_asked(&mut self, session: SessionId, request: u64, what: Asked) {
        let Some(talk) = self.talks.get_mut(&session) else { return };
        let peer = talk.conversation.peer();
        match what {
            Asked::FindValue(payload) => {
                self.on_value_asked((session, request), Operation::FindValue, payload);
            }
            Asked::Store(payload) => self.on_value_asked((session, request), Operation::Store, payload),
            Asked::ChangeKey(payload) => self.tell(Note::KeyChangeTold { session, peer, request, payload }),
            Asked::Link(is_link) => self.tell(Note::LinkAsked { session, peer, request, is_link }),
            // An application that does not read is asked no more.
            Asked::Custom(_) if self.notices.len() >= NOTICES_WAITING_MAX => {
                talk.conversation.refuse(&mut self.bench, request, Reason::Busy);
            }
            Asked::Custom(value) => self.notices.push_back(Notice::Asked { peer, session, request, value }),
        }
    }

    /// The hub has a letter for a peer of ours.
    pub(super) fn carry_letter(&mut self, session: SessionId, (hops, message): (u8, Arc<[u8]>)) {
        let session = self.heir_of(session);
        self.open_talk(session);
        let Some(talk) = self.talks.get_mut(&session) else { return };
        talk.used_at = self.bench.now;
        if !talk.conversation.is_met() {
            if talk.unsaid.len() < LETTERS_WAITING_MAX {
                talk.unsaid.push((hops, message));
            }
            return;
        }
        if let Ok(message) = Signed::parse(&mut Reader::new(&message)) {
            // No room: its sender's clock ends it.
            let _ = talk.conversation.carry(&Carried { hops, message });
            self.send(session);
        }
    }

    /// A transmission left: its memory serves the next.
    pub(super) fn keep_spare(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < SPARES_MAX && bytes.capacity() <= SPARE_LEN_MAX {
            self.spare.push(bytes);
        }
    }

    pub(super) fn on_link_decided(
        &mut self,
        session: SessionId,
        request: u64,
        is_link: bool,
        is_granted: bool,
    ) {
        let session = self.heir_of(session);
        if let Some(talk) = self.talks.get_mut(&session) {
            talk.conversation.answer_link(&mut self.bench, request, is_link, is_granted);
            self.pump(session);
        }
    }

    pub(super) fn on_key_change_judged(&mut self, session: SessionId, request: u64, is_taken: bool) {
        let session = self.heir_of(session);
        if let Some(talk) = self.talks.get_mut(&session) {
            talk.conversation.answer_key_change(&mut self.bench, request, is_taken);
            self.pump(session);
        }
    }

    fn on_tick_of(&mut self, session: SessionId) {
        let now = self.bench.now;
        let is_ours = self.is_errand(session);
        let Some(talk) = self.talks.get_mut(&session) else { return };
        talk.conversation.handle_timeout(now);
        let is_busy = talk.conversation.open_count() > 0 || talk.conversation.is_link() || !is_ours;
        if !is_busy && !talk.is_leaving && talk.used_at + TALK_UNUSED_MAX <= now {
            talk.is_leaving = true;
            self.letters.push_back(Letter::Mail(Mail::Close { session, code: 0 }));
            self.tell_gone(session);
        }
        self.pump(session);
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use dunlin_codec::label::Network;
    use dunlin_codec::message::{EVERYBODY, Freshness, SignedHeader};

    use super::*;
    use crate::gossip::{Refusal, Rumour};
    use crate::identity::Identity;
    use crate::limits::{
        LETTERS_PER_SECOND, RUMOUR_FORGED_COST, RUMOURS_BURST_LINK, RUMOURS_PER_SECOND_LINK,
    };
    use crate::messages::conversation::{Constants, Terms};
    use crate::neighbours::{HUB, Seat};
    use crate::placement::{Placement, PlacementSeeds};
    use crate::rng::Rng;
    use crate::time::WallMillis;

    const NETWORK: Network = Network([7; 32]);
    const SESSION: SessionId = SessionId::new(0, 3, 0);
    const WALL: u64 = 1_760_000_000_000;

    fn key(number: u32) -> Identity {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        Identity::from_seed(seed)
    }

    fn at(seconds: u64) -> Now {
        let instant = Instant::ZERO + Duration::from_secs(seconds);
        Now { instant, wall: WallMillis(WALL + 1_000 * seconds) }
    }

    /// A node of one shard that talks with a peer.
    fn talking() -> Neighbours {
        let own = key(0);
        let terms = Terms::new(own.id(), NETWORK, Constants::default(), "a test").unwrap();
        let placement = Placement::new(1, PlacementSeeds { steering: 1, keys: [2, 3] });
        let seat = Seat { shard: HUB, placement, endpoints: Vec::new() };
        let mut this = Neighbours::new(&own, terms, &seat, (at(0), Rng::from_number(1)));
        this.on_session(at(0), SESSION, (key(1).id(), "10.0.0.1:1".parse().unwrap()), None);
        this.open_talk(SESSION);
        this
    }

    /// What the peer brings: a rumour or a letter of that origin's.
    fn brought(operation: Operation, origin: u32, count: u64) -> Brought {
        let to = if operation == Operation::Whisper { key(5).id() } else { EVERYBODY };
        let freshness = Some(Freshness { time_ms: WALL, instance: 1, count });
        let header = SignedHeader { operation, is_sealed: false, from: key(origin).id(), to, freshness };
        let rumour = Rumour::sign(&key(origin), &NETWORK, (&header, &[0xc0]), None);
        let message = rumour.message().bytes().into();
        Brought { session: SESSION, peer: key(1).id(), hops: 1, id: rumour.id, message }
    }

    fn refused(this: &Neighbours, reason: Refusal) -> u64 {
        this.rumours().refused(reason)
    }

    /// Letters for a peer that has not greeted us wait, sixteen of them.
    /// spec: p2p/relayed-whisper
    #[test]
    fn letters_for_a_greeting_are_bounded() {
        let mut this = talking();
        let letter = brought(Operation::Whisper, 2, 1).message;
        for _ in 0..LETTERS_WAITING_MAX + 5 {
            this.carry_letter(SESSION, (1, letter.clone().into()));
        }
        assert_eq!((this.talks[&SESSION].unsaid.len(), LETTERS_WAITING_MAX), (LETTERS_WAITING_MAX, 16));
    }

    /// One peer brings 64 letters at once and twenty a second.
    /// spec: p2p/relayed-whisper
    #[test]
    fn one_peers_letters_are_rationed() {
        let mut this = talking();
        let mut taken = |now: Now| {
            this.begin(now);
            (0..100).for_each(|count| this.on_brought(brought(Operation::Whisper, 2, count)));
            this.inward.drain(..).filter(|note| matches!(note, Note::Letter(_))).count()
        };
        assert_eq!([taken(at(0)), taken(at(1))], [64, 20]);
        assert_eq!((LETTERS_PER_SECOND.burst, LETTERS_PER_SECOND.per_second), (64, 20));
        assert_eq!(refused(&this, Refusal::OverBudget), 36 + 80);
    }

    /// One link brings 500 rumours at once that are verified, and 500 a second; a forged one counts for sixteen.
    /// spec: p2p/rumour-budget
    #[test]
    fn one_links_rumours_are_rationed() {
        let mut this = talking();
        for number in 0..600 {
            this.on_brought(brought(Operation::Shout, 10 + number / 6, u64::from(number % 6)));
        }
        assert_eq!((this.rumours().taken, RUMOURS_BURST_LINK), (RUMOURS_BURST_LINK, 500));
        assert_eq!(refused(&this, Refusal::OverBudget), 100);
        this.begin(at(1));
        let before = this.rumours().verified;
        for number in 0..600 {
            let mut forged = brought(Operation::Shout, 10_000 + number, 0);
            forged.message[0] ^= 1;
            this.on_brought(forged);
        }
        let verified = this.rumours().verified - before;
        assert_eq!(verified, RUMOURS_PER_SECOND_LINK.div_ceil(RUMOUR_FORGED_COST));
        assert_eq!((RUMOURS_PER_SECOND_LINK, RUMOUR_FORGED_COST), (500, 16));
    }
}
