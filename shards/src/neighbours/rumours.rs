//! Rumours on a shard: what its links bring, what it carries on over them.
//!
//! In:    signed messages that came over links; verdicts and rumours of other shards.
//! Out:   copies for the links; questions for the shard that an origin belongs to; what was said, once.
//! Holds: a rumour leaves at most once on each link and never on the one that it came on; what a link has no room for is
//!        dropped for that link and counted, nothing waits for it.
//!
//! Whoever brings what its origin did not sign pays for it out of what may be verified over that link, and nobody else does:
//! a node that keeps to the protocol verifies before it carries on.
//!
//! spec: p2p/rumours

use std::collections::BTreeSet;
use std::sync::Arc;

use dunlin_codec::bytes::Reader;
use dunlin_codec::ids::{NodeId, SessionId};
use dunlin_codec::message::{Carried, Operation, Signed};

use super::{HUB, Letter, Neighbours, Notice};
use crate::budget::Rate;
use crate::gossip::{Brought, Counts, Court, Refusal, Rumour};
use crate::limits::{LETTERS_PER_SECOND, NOTICES_WAITING_MAX, RUMOUR_FORGED_COST};
use crate::mail::Mail;
use crate::mutants::{Mutant, planted};
use crate::note::Note;
use crate::placement::Placement;

/// What a shard has of rumours.
#[derive(Debug)]
pub(super) struct Rumours {
    own: NodeId,
    placement: Placement,
    court: Court,
    /// Of each link.
    rate: Rate,
    /// Sessions that are links.
    links: BTreeSet<SessionId>,
    /// Something was given to links and not sent yet.
    is_fed: bool,
    /// Links that are being gone through.
    round: Vec<SessionId>,
}

impl Rumours {
    pub(super) fn new(own: NodeId, placement: Placement, (court, rate): (Court, Rate)) -> Self {
        Self { own, placement, court, rate, links: BTreeSet::new(), is_fed: false, round: Vec::new() }
    }

    /// The node has another key.
    pub(super) fn on_new_key(&mut self, own: NodeId) {
        self.own = own;
    }

    /// The session carries rumours from now on, or no more.
    pub(super) fn on_link(&mut self, session: SessionId, is_link: bool) {
        if is_link {
            self.links.insert(session);
        } else {
            self.links.remove(&session);
        }
    }

    /// The shard that knows the origin. Our own words, or another device's of our key, are known where they are made.
    fn owner_of(&self, origin: &NodeId) -> u8 {
        if *origin == self.own { HUB } else { self.placement.of_key(&origin.0).0 }
    }
}

impl Neighbours {
    /// What this shard did with rumours.
    #[must_use]
    pub fn rumours(&self) -> Counts {
        let mut counts = self.rumours.court.counts;
        counts.on_refused(Refusal::Duplicate, self.bench.duplicates);
        counts
    }

    /// A link brought what was not seen here before.
    pub(super) fn on_brought(&mut self, brought: Brought) {
        let Some(talk) = self.talks.get_mut(&brought.session) else { return };
        let Ok(message) = Signed::parse(&mut Reader::new(&brought.message)) else { return };
        if matches!(message.operation(), Operation::Whisper | Operation::Ack) {
            if !LETTERS_PER_SECOND.is_ready(talk.letters, self.bench.now) {
                return self.rumours.court.counts.on_refused(Refusal::OverBudget, 1);
            }
            LETTERS_PER_SECOND.take(&mut talk.letters, self.bench.now, 1);
            return self.tell(Note::Letter(Box::new(brought)));
        }
        if !self.rumours.rate.is_ready(talk.brought, self.bench.now) {
            return self.rumours.court.counts.on_refused(Refusal::OverBudget, 1);
        }
        self.rumours.rate.take(&mut talk.brought, self.bench.now, 1);
        let owner = self.rumours.owner_of(&message.from());
        if owner == self.shard {
            return self.judge(brought);
        }
        self.post_note(owner, Note::Judge(Box::new(brought)));
    }

    /// Decides for the node about a rumour whose origin belongs to this shard.
    pub(super) fn judge(&mut self, mut brought: Brought) {
        let now = self.now;
        if self.is_own_word(&brought) {
            return self.rumours.court.counts.on_refused(Refusal::Duplicate, 1);
        }
        match self.rumours.court.judge(now, &mut self.bench.seen, &brought.id, &mut brought.message) {
            Ok(()) => self.spread(brought),
            Err(Refusal::Forged) if brought.session.shard() == self.shard => self.on_forged(brought.session),
            Err(Refusal::Forged) => self.post_note(brought.session.shard(), Note::Forged(brought.session)),
            Err(_) => {}
        }
    }

    /// Our own words that come back before this shard was told of them.
    fn is_own_word(&self, brought: &Brought) -> bool {
        let Ok(message) = Signed::parse(&mut Reader::new(&brought.message)) else { return false };
        let Some(hub) = self.hub.as_ref().filter(|_| message.from() == self.rumours.own) else {
            return false;
        };
        message.freshness().is_some_and(|freshness| hub.is_own_instance(freshness.instance))
    }

    /// A link of ours brought what its origin did not sign.
    // spec: p2p/rumour-budget
    pub(super) fn on_forged(&mut self, session: SessionId) {
        if let Some(talk) = self.talks.get_mut(&session) {
            self.rumours.rate.take(&mut talk.brought, self.bench.now, RUMOUR_FORGED_COST - 1);
        }
    }

    /// A rumour was verified here: every shard carries it on, then we are told.
    fn spread(&mut self, brought: Brought) {
        let rumour = Arc::new(Rumour::from(brought));
        let own = self.shard;
        for shard in (0..self.rumours.placement.shard_count() as u8).filter(|shard| *shard != own) {
            self.post_note(shard, Note::Rumour(Arc::clone(&rumour)));
        }
        self.carry_on(&rumour);
        let message = rumour.message();
        if message.operation() != Operation::Shout {
            return self.tell(Note::Arrived(rumour));
        }
        if self.notices.len() >= NOTICES_WAITING_MAX {
            self.unread += 1;
            return;
        }
        let (from, value) = (message.from(), message.payload().into());
        self.notices.push_back(Notice::Rumour { id: rumour.id, from, hops: rumour.hops, value });
    }

    /// Another shard verified it, or the hub made it.
    pub(super) fn on_rumour(&mut self, rumour: &Rumour) {
        if !self.bench.seen.enter(self.bench.now, &rumour.id) {
            return;
        }
        let links = self.carry_on(rumour);
        if let Some(ticket) = rumour.ticket {
            self.tell(Note::CarriedOn { ticket, links });
        }
    }

    /// Gives a copy to each link but the one that it came on. How many took it.
    fn carry_on(&mut self, rumour: &Rumour) -> usize {
        let carried = Carried { hops: rumour.hops, message: rumour.message() };
        let came_on = rumour.came_on.map(|(session, _)| session).filter(|_| !planted(Mutant::RumourEchoed));
        let mut count = 0;
        for session in self.rumours.links.iter().filter(|session| Some(**session) != came_on) {
            let Some(talk) = self.talks.get_mut(session) else { continue };
            match talk.conversation.carry(&carried) {
                Ok(()) => count += 1,
                Err(_) => self.rumours.court.counts.crowded_out += 1,
            }
        }
        self.rumours.court.counts.carried += count as u64;
        self.rumours.is_fed |= count > 0;
        count
    }

    /// Sends what was given to links: what came together leaves together.
    pub(super) fn send_rumours(&mut self) {
        if !core::mem::take(&mut self.rumours.is_fed) {
            return;
        }
        let mut round = core::mem::take(&mut self.rumours.round);
        round.clear();
        round.extend(&self.rumours.links);
        round.iter().for_each(|session| self.send(*session));
        self.rumours.round = round;
    }

    pub(super) fn post_note(&mut self, to: u8, note: Note) {
        self.letters.push_back(Letter::Mail(Mail::Note { to, note: Box::new(note) }));
    }
}
