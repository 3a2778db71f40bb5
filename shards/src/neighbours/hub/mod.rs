//! The hub: what a node has once for all its shards: the table, the searches, the errands that they need.
//!
//! In:    notes of the application and of the shards, time.
//! Out:   notes for the shards, notices for the application.
//! Holds: every errand ends: by an answer, by none in time, or with its session or call; what others are told of the table
//!        is as of a moment not long ago, and never changes under whoever reads it.

mod errand;
mod key_change;
mod lately;
mod leave;
mod links;
mod previous;
mod relay;
mod roll;
mod search;
mod sessions;
mod trace;
mod values;
mod voice;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;

use super::{Notice, OURS, Seat};
use crate::dht::contact::Contact;
use crate::dht::known::Known;
use crate::dht::lookup::{Effort, Plan};
use crate::dht::space::Space;
use crate::dht::table::Table;
use crate::dht::values::roll::subnet_hash;
use crate::event::Ticket;
use crate::identity::Identity;
use crate::identity::chain::KeyChains;
use crate::identity::change::Past;
use crate::limits::{KNOWN_INTERVAL, NODE_RECORD_RENEW_AFTER};
use crate::messages::conversation::{Constants, Terms};
use crate::note::{Note, Origin};
use crate::placement::Placement;
use crate::rng::Rng;
use crate::time::{Instant, Now};
use errand::{Call, Errand, Purpose};
use lately::Lately;
use links::Links;
use previous::Previous;
use relay::Relay;
use roll::Enrolment;
use search::{Goal, Search};
use sessions::Open;
use trace::Traces;
use values::{Aim, Jobs};
use voice::Voice;

/// How often it looks for what is due.
const TICK: Duration = Duration::from_secs(1);

/// When a node that has joined looks for its own place again: others join at the same time, and are not known at once.
const ACQUAINT_AFTER: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(60)];

/// What a node has once.
#[derive(Debug)]
pub(super) struct Hub {
    now: Now,
    identity: Identity,
    previous: Previous,
    endpoints: Vec<SocketAddr>,
    network: Network,
    constants: Constants,
    placement: Placement,
    own: Contact,
    /// Where our key comes from, and what is known of others'.
    past: Past,
    chains: KeyChains,
    traces: Traces,
    renew_at: Instant,
    /// The last sequence of our record that the disk has as used; none: there is no disk.
    reserve: Option<u64>,
    plan: Plan,
    table: Table,
    lately: Lately,
    rng: Rng,
    /// Sessions that may be talked on, the newest last.
    sessions: BTreeMap<NodeId, Vec<Open>>,
    links: Links,
    roll: Enrolment,
    voice: Voice,
    relay: Relay,
    calls: BTreeMap<Ticket, Call>,
    errands: BTreeMap<Ticket, Errand>,
    searches: BTreeMap<u64, Search>,
    values: Jobs,
    numbers: u64,
    tick_at: Instant,
    /// When it looks for its own place next, and how often it has.
    acquaint: Option<(Instant, usize)>,
    /// What the table had changed by when it was told last, and when it may be told again.
    published: Option<(u64, u64, u64)>,
    publish_at: Instant,
    outbox: VecDeque<(u8, Note)>,
    notices: VecDeque<Notice>,
}

impl Hub {
    pub(super) fn new(identity: &Identity, terms: &Terms, seat: &Seat, (now, mut rng): (Now, Rng)) -> Self {
        let constants = terms.constants;
        let space = Space::new(constants.address_bits);
        let replication = constants.replication as usize;
        let voice = Voice::new(terms.rumours.origin, &mut rng);
        let relay = Relay::new(terms.network, &mut rng);
        Self {
            now,
            own: Contact::sign(identity, &terms.network, (now.wall.0, now.wall), &seat.endpoints),
            past: Past::Unknown,
            chains: KeyChains::default(),
            traces: Traces::default(),
            renew_at: now.instant + NODE_RECORD_RENEW_AFTER,
            reserve: None,
            identity: identity.clone(),
            previous: Previous::default(),
            endpoints: seat.endpoints.clone(),
            network: terms.network,
            constants,
            placement: seat.placement,
            plan: Plan::new(space, replication, constants.parallel as usize),
            table: Table::new(identity.id(), space, replication),
            lately: Lately::new(identity.id(), space),
            rng,
            sessions: BTreeMap::new(),
            links: Links::default(),
            roll: Enrolment::new(subnet_hash(&terms.subnet())),
            voice,
            relay,
            calls: BTreeMap::new(),
            errands: BTreeMap::new(),
            searches: BTreeMap::new(),
            values: Jobs::default(),
            numbers: 0,
            tick_at: now.instant + TICK,
            acquaint: None,
            published: None,
            publish_at: now.instant,
            outbox: VecDeque::new(),
            notices: VecDeque::new(),
        }
    }

    pub(super) const fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn begin(&mut self, now: Now) {
        self.now = now;
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn ticket(&mut self) -> Ticket {
        Ticket(OURS | self.number())
    }

    pub(super) fn on_note(&mut self, mut note: Note) {
        if let Some(peer) = note.peer_mut() {
            *peer = self.chains.present(peer);
        }
        match note {
            Note::Join { ticket, peer, endpoint } => {
                self.begin_errand(peer, Some(endpoint), Purpose::Introduce(Some(ticket)));
            }
            Note::Search { ticket, place } => {
                let place = Space::place(&self.chains.present(&NodeId(place.0)));
                if self.begin_search(place, Goal::Application(ticket)).is_err() {
                    self.notices.push_back(Notice::Found { ticket, nodes: None, effort: Effort::default() });
                }
            }
            Note::Ask { ticket, peer, question } if self.is_relayed(&peer, &question) => {
                self.whisper(peer, ticket, &question);
            }
            Note::Ask { ticket, peer, question } => {
                self.begin_errand(peer, None, Purpose::Application(ticket, question));
            }
            Note::Put { ticket, wish } => self.begin_wish(Aim::Put(ticket, wish)),
            Note::Get { ticket, wish } => self.begin_wish(Aim::Get(ticket, wish)),
            Note::Decide { ticket, wish } => self.begin_wish(Aim::Decide(ticket, wish)),
            Note::Grant { ticket, key, writer, until_ms } => {
                self.give_leave(ticket, &key, (writer, until_ms));
            }
            Note::Republish { to, key, store } => self.begin_chore(Aim::Again { to, key, store }),
            Note::Refresh { key } => self.begin_chore(Aim::Refresh { key }),
            Note::Settle { shard, scope, key } => self.begin_chore(Aim::Settle { shard, scope, key }),
            Note::Kept { origin: Origin::Hub(ticket), finding } => self.on_own_kept(ticket, finding),
            Note::Up { session, peer, remote, ticket } => self.on_up(session, (peer, remote), ticket),
            Note::Met { session, peer } => self.on_met(session, peer),
            Note::Gone { session, peer } => self.on_gone(session, &peer),
            Note::Roamed { session, peer, remote } => self.on_roamed(session, &peer, remote),
            Note::CallFailed { ticket, reason } => self.on_call_failed(ticket, &reason),
            Note::Answered { ticket, session, result, farewell } => {
                self.on_answered(ticket, session, (result, farewell));
            }
            Note::Remember { records, anchors } => self.on_remembered(&records, anchors),
            Note::LinkAsked { session, peer, request, is_link } => {
                self.decide_link((session, peer), request, is_link);
            }
            Note::Broadcast { ticket, operation, payload } => self.broadcast(ticket, operation, &payload),
            Note::CarriedOn { ticket, links } => self.on_carried_on(ticket, links),
            Note::Arrived(rumour) => self.on_arrived(&rumour),
            Note::Letter(brought) => self.on_letter(*brought),
            Note::KeyChangeTold { session, peer, request, payload } => {
                self.on_key_change_told((session, peer), request, &payload);
            }
            Note::OwnReserved(until) => self.on_reserved(until),
            Note::Kin(_)
            | Note::NewKey(_)
            | Note::KeyChangeJudged { .. }
            | Note::AskOn { .. }
            | Note::Judge(_)
            | Note::Forged(_)
            | Note::Rumour(_)
            | Note::CarryOn { .. }
            | Note::Call { .. }
            | Note::Known(_)
            | Note::LinkDecided { .. }
            | Note::CarriesOn(_)
            | Note::Written { .. }
            | Note::Keep { .. }
            | Note::Kept { .. }
            | Note::Settled { .. }
            | Note::Leased { .. }
            | Note::Reply { .. } => {}
        }
        self.work_values();
    }

    /// Time may have come for something.
    pub(super) fn on_time(&mut self) {
        let now = self.now.instant;
        if self.values.due_at().is_some_and(|at| at <= now) {
            self.wake_values();
        }
        if now < self.tick_at {
            return;
        }
        self.tick_at = now + TICK;
        self.expire();
        self.lately.expire(self.now);
        self.expire_own();
        while let Some(contact) = self.table.poll_question(self.now) {
            self.begin_errand(contact.id(), contact.endpoint(), Purpose::Ping);
        }
        if let Some((_, count)) = self.acquaint.take_if(|(at, _)| *at <= now) {
            self.acquaint_again(count);
        }
        self.work_roll();
        self.work_links();
        self.work_voice();
        self.work_traces();
        self.work_relay();
        self.previous.expire(now);
        if self.searches.is_empty()
            && let Some(place) = self.table.poll_refresh(now, &mut self.rng)
        {
            // There are none: one more finds its place.
            let _ = self.begin_search(place, Goal::Refresh);
        }
        if self.renew_at <= now {
            self.renew_at = now + NODE_RECORD_RENEW_AFTER;
            self.sign_own();
        }
    }

    /// What the node knew before it restarted: each is asked whether it is there.
    fn on_remembered(&mut self, records: &[Box<[u8]>], anchors: Vec<NodeId>) {
        for record in records {
            if let Ok(contact) = Contact::read(record, &self.network, self.now.wall) {
                let id = contact.id();
                self.learn_past(&contact);
                self.lately.on_answer(self.now.instant, &contact);
                self.table.on_told(self.now.instant, contact, id);
            }
        }
        self.links.on_anchors(self.now.instant, anchors);
        self.acquaint.get_or_insert((self.now.instant + TICK, 0));
    }

    /// Looks for its own place, now and a few times more: whoever is close to it hears of it, and it of them.
    fn acquaint_again(&mut self, count: usize) {
        self.acquaint = ACQUAINT_AFTER.get(count).map(|wait| (self.now.instant + *wait, count + 1));
        // Should too many be under way, they will do.
        let _ = self.begin_search(Space::place(&self.own.id()), Goal::Refresh);
    }

    pub(super) fn due_at(&self) -> Instant {
        let at = if self.is_dirty() { self.publish_at.min(self.tick_at) } else { self.tick_at };
        self.values.due_at().map_or(at, |due| due.min(at))
    }

    fn is_dirty(&self) -> bool {
        self.published != Some(self.changes())
    }

    const fn changes(&self) -> (u64, u64, u64) {
        (self.table.changes(), self.links.changes(), self.lately.changes())
    }

    /// Tells every shard whom we know, when that changed and some time has passed since.
    fn publish(&mut self) {
        if !self.is_dirty() || self.now.instant < self.publish_at {
            return;
        }
        self.published = Some(self.changes());
        self.publish_at = self.now.instant + KNOWN_INTERVAL;
        let known = Known::new(&self.table, self.plan.space, (&self.own, self.links.opened().collect()));
        let known = Arc::new(known.with_lately(self.lately.iter().cloned().collect()));
        let shards = 0..self.placement.shard_count() as u8;
        self.outbox.extend(shards.map(|shard| (shard, Note::Known(Arc::clone(&known)))));
    }

    /// The next note, and the shard that it is for.
    pub(super) fn poll_note(&mut self) -> Option<(u8, Note)> {
        self.publish();
        self.outbox.pop_front()
    }

    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}

#[cfg(test)]
mod tests;
