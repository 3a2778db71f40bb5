//! Keeping: the holder of values beside each shard, and whose shard a key is.
//!
//! In:    FIND_VALUE and STORE of peers on any shard and of our own hub, the disk's word, time.
//! Out:   answers by way of the shard that was asked, rows for the disk, values to be stored again, what changed.
//! Holds: a key is one shard's: what is said of it is said there and nowhere else. Every question that a holder took is
//!        answered once; whoever has gone meanwhile hears nothing.
//!
//! Which shard that is follows from the key's place and seeds of this start: nobody can choose which shard of ours his keys
//! fill. With one shard no note is written.
//!
//! spec: p2p/keeping

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_codec::args::Request;
use dunlin_codec::ids::{Address, NodeId, SessionId};
use dunlin_codec::message::Operation;

use super::{HUB, Neighbours, Notice};
use crate::dht::known::Known;
use crate::dht::space::Space;
use crate::dht::values::roll::subnet_hash;
use crate::dht::values::{Action, Asker, Finding, Holder, Inventory, Restored, Setup, place_of_row};
use crate::identity::chain::Kin;
use crate::limits::NOTICES_WAITING_MAX;
use crate::messages::conversation::Terms;
use crate::note::{Note, Origin};
use crate::placement::Placement;
use crate::time::{Instant, Now};

/// Our own hub is nowhere else.
pub(super) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The shard that keeps what has this place.
pub(super) fn shard_of(placement: &Placement, space: Space, place: &Address) -> u8 {
    placement.of_key(&space.counted(place).0).0
}

/// Who asks a holder, and for what.
pub(super) struct Bid {
    pub(super) origin: Origin,
    pub(super) peer: NodeId,
    pub(super) from: IpAddr,
    pub(super) operation: Operation,
    pub(super) payload: Box<[u8]>,
}

/// A holder, and who waits for what it says.
#[derive(Debug)]
pub(super) struct Keeping {
    holder: Holder,
    space: Space,
    /// By the number that the holder has for a question: as many as it has lines and writes for.
    waiting: BTreeMap<u64, Origin>,
    numbers: u64,
}

impl Keeping {
    pub(super) fn new(terms: &Terms, shards: usize, now: Now) -> Self {
        let space = Space::new(terms.constants.address_bits);
        let quotas = terms.quotas.divided(shards);
        let roll = subnet_hash(&terms.subnet());
        let setup = Setup { own: terms.own, network: terms.network, space, quotas, roll };
        Self { holder: Holder::new(setup, now), space, waiting: BTreeMap::new(), numbers: 0 }
    }

    pub(super) fn on_kin(&mut self, kin: Kin) {
        self.holder.on_kin(kin);
    }

    pub(super) fn on_known(&mut self, now: Now, known: &Arc<Known>, replication: usize) {
        self.holder.on_known(known);
        self.holder.on_newcomers(now, replication);
    }

    pub(super) fn on_new_key(&mut self, own: NodeId) {
        self.holder.on_new_key(own);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.holder.poll_timeout()
    }
}

impl Neighbours {
    /// Takes what was on disk at start, before anything else; rows of keys that are another shard's are passed over.
    pub fn restore<'r>(
        &mut self,
        now: Now,
        rows: impl IntoIterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Restored {
        self.begin(now);
        let (shard, placement, space) = (self.shard, self.placement, self.keeping.space);
        // What is no row of ours is counted once.
        let of = |key| place_of_row(key).map_or(HUB, |place| shard_of(&placement, space, &place));
        let restored = self.keeping.holder.restore(now, rows.into_iter().filter(|(key, _)| of(key) == shard));
        self.work_holder();
        restored
    }

    /// What the holder beside this shard keeps.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        self.keeping.holder.inventory()
    }

    /// A peer asks for a value, or that one be kept.
    pub(super) fn on_value_asked(
        &mut self,
        (session, request): (SessionId, u64),
        operation: Operation,
        payload: Box<[u8]>,
    ) {
        let Some(place) = self.places.get(&session) else { return };
        let (peer, from) = (place.peer, place.remote.ip());
        let origin = Origin::Session { session, request };
        let bid = Bid { origin, peer, from, operation, payload };
        let shard = if self.placement.shard_count() == 1 { self.shard } else { self.shard_for(&bid) };
        if shard == self.shard {
            return self.keep(bid);
        }
        let Bid { origin, peer, from, operation, payload } = bid;
        self.post_note(shard, Note::Keep { origin, peer, from, operation, payload });
    }

    /// Whoever says a wrong address is told so by whichever shard that would be.
    fn shard_for(&self, bid: &Bid) -> u8 {
        let place = match Request::parse(bid.operation, &bid.payload) {
            Ok(Request::FindValue(find)) => find.address,
            Ok(Request::Store(store)) => store.address,
            // The conversation lets nothing else through.
            _ => return self.shard,
        };
        shard_of(&self.placement, self.keeping.space, &place)
    }

    /// Asks the holder beside this shard.
    pub(super) fn keep(&mut self, bid: Bid) {
        let Bid { origin, peer, from, operation, payload } = bid;
        if operation == Operation::FindValue {
            let finding = self.keeping.holder.on_find(self.now, from, &payload);
            return self.give(origin, finding);
        }
        self.keeping.numbers += 1;
        let request = self.keeping.numbers;
        self.keeping.waiting.insert(request, origin);
        self.keeping.holder.on_store(self.now, Asker { peer, from, request }, &payload);
        self.work_holder();
    }

    /// The disk has written, or has not.
    pub(super) fn on_written(&mut self, ticket: u64, is_durable: bool) {
        self.keeping.holder.on_written(self.now, ticket, is_durable);
        self.work_holder();
    }

    pub(super) fn on_settled(&mut self, note: Note) {
        if let Note::Settled { scope, surveyed } = note {
            self.keeping.holder.on_settled(self.now, &scope, &surveyed);
            self.work_holder();
        }
    }

    pub(super) fn tick_holder(&mut self) {
        if self.keeping.poll_timeout().is_some_and(|at| at <= self.now.instant) {
            self.keeping.holder.handle_timeout(self.now);
            self.work_holder();
        }
    }

    /// Does what the holder wants done.
    fn work_holder(&mut self) {
        while let Some(action) = self.keeping.holder.poll_action() {
            match action {
                Action::Write { ticket, rows } => self.notices.push_back(Notice::Write { ticket, rows }),
                Action::Answer { to, answer } => {
                    if let Some(origin) = self.keeping.waiting.remove(&to.request) {
                        self.give(origin, Finding::Answer(answer));
                    }
                }
                Action::Republish { to, key, store } => self.tell(Note::Republish { to, key, store }),
                Action::Refresh { key } => self.tell(Note::Refresh { key }),
                Action::Settle { scope, key } => self.tell(Note::Settle { shard: self.shard, scope, key }),
                Action::Leased { holder, ends } => self.tell_shards(holder, &ends),
                Action::Changed { .. } if self.notices.len() >= NOTICES_WAITING_MAX => self.unread += 1,
                Action::Changed { key, event } => self.notices.push_back(Notice::Changed { key, event }),
            }
        }
    }

    /// What an identity has leased of this shard.
    fn tell_shards(&mut self, holder: NodeId, ends: &[Instant]) {
        let shard = self.shard;
        for other in (0..self.placement.shard_count() as u8).filter(|other| *other != shard) {
            self.post_note(other, Note::Leased { shard, holder, ends: ends.into() });
        }
    }

    pub(super) fn on_leased(&mut self, shard: u8, holder: NodeId, ends: Box<[Instant]>) {
        self.keeping.holder.on_leased_elsewhere(shard, holder, ends);
    }

    /// To whoever asked, wherever its session is.
    fn give(&mut self, origin: Origin, finding: Finding) {
        match origin {
            Origin::Session { session, request } if session.shard() == self.shard => {
                self.on_kept((session, request), &finding);
            }
            Origin::Session { session, .. } => {
                self.post_note(session.shard(), Note::Kept { origin, finding });
            }
            Origin::Hub(_) => self.tell(Note::Kept { origin, finding }),
        }
    }

    /// The answer to a peer of this shard. Its session may have become another, which may be another shard's.
    pub(super) fn on_kept(&mut self, (session, request): (SessionId, u64), finding: &Finding) {
        let session = self.heir_of(session);
        let Some(talk) = self.talks.get_mut(&session) else { return };
        talk.conversation.answer_value(&mut self.bench, request, finding);
        if self.unsent.last() != Some(&session) {
            self.unsent.push(session);
        }
    }

    /// Answers of holders leave, those to one peer together.
    pub(super) fn send_kept(&mut self) {
        while let Some(session) = self.unsent.pop() {
            self.send(session);
        }
    }
}
