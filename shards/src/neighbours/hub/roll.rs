//! The roll as a node has to do with it: it enters itself, and finds its links there (`dht/values/roll` says how that works).
//!
//! In:    time, what the roll's holders told, links that are missing.
//! Out:   a store of our own record now and then; nodes to open links to.
//! Holds: a node that cannot be reached enters nothing; a roll is called once when we come, and afterwards only while links are
//!        missing for which the table has nobody, each time twice as long after the last, until a link is lost.
//!
//! Links of a node that has come wait for the roll for [`ROLL_WAIT`] at most: where there is none yet, the table serves.
//!
//! spec: p2p/enrolment

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;

use dunlin_codec::args::{Request, RollKey, Store, StoreOptions};
use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::NodeId;
use dunlin_codec::msgpack::{Encoded, write};
use dunlin_codec::record::{Key, NODE_RECORD_LEN_MAX};

use super::values::Aim;
use super::{Errand, Goal, Hub, Purpose};
use crate::dht::contact::Contact;
use crate::dht::values::address;
use crate::dht::values::roll::{Plan, key_bytes};
use crate::limits::{
    ROLL_CALL_INTERVAL, ROLL_CALL_INTERVAL_MAX, ROLL_ENTER_AFTER, ROLL_FRESH, ROLL_RENEW_AFTER, ROLL_WAIT,
};
use crate::time::Instant;

/// Bytes of the arguments by which a node enters itself, at most.
const STORE_LEN_MAX: usize = NODE_RECORD_LEN_MAX + 256;

/// What a node has to do with its network's roll.
#[derive(Debug)]
pub(super) struct Enrolment {
    /// Of the network's descriptor.
    hash: [u8; 32],
    enter_at: Option<Instant>,
    called_at: Option<Instant>,
    /// How long after that it may be called again.
    pause: Duration,
    is_wanted: bool,
    /// Links wait until then for what is told.
    wait_until: Instant,
    told: VecDeque<Contact>,
    told_at: Instant,
}

impl Enrolment {
    pub(super) const fn new(hash: [u8; 32]) -> Self {
        Self {
            hash,
            enter_at: None,
            called_at: None,
            pause: ROLL_CALL_INTERVAL,
            is_wanted: true,
            wait_until: Instant::ZERO,
            told: VecDeque::new(),
            told_at: Instant::ZERO,
        }
    }

    /// We have another key: its entry is another, and follows as soon as peers have heard of the key. Before, it would be
    /// somebody else's to them.
    pub(super) fn on_new_key(&mut self, enter_at: Instant) {
        self.enter_at = Some(enter_at);
    }

    /// A link that we had opened is gone.
    pub(super) fn on_link_lost(&mut self) {
        self.pause = ROLL_CALL_INTERVAL;
    }
}

impl Hub {
    /// A second has passed: we enter ourselves, and call the roll, when that is due and there is somebody to do it with.
    pub(super) fn work_roll(&mut self) {
        if self.table.count() == 0 {
            return;
        }
        let now = self.now.instant;
        let enter_at = *self.roll.enter_at.get_or_insert(now + ROLL_ENTER_AFTER);
        if enter_at <= now && self.own.endpoint().is_some() && self.enter_roll() {
            let spread = Duration::from_millis(self.rng.below(60_000));
            self.roll.enter_at = Some(now + ROLL_RENEW_AFTER + spread);
        }
        let is_due = self.roll.called_at.is_none_or(|at| at + self.roll.pause <= now);
        let has_room = self.links.missing(self.constants.links as usize) > 0;
        if self.roll.is_wanted && is_due && has_room {
            self.call_roll();
        }
    }

    /// Whether it is on its way.
    fn enter_roll(&mut self) -> bool {
        let bytes = key_bytes(RollKey::Of(self.own.id()), &self.roll.hash);
        let key = Key::parse(&bytes).ok().flatten().expect("an entry has a key");
        let mut record = [0; NODE_RECORD_LEN_MAX + 8];
        let mut out = Writer::new(&mut record);
        write::bin(&mut out, self.own.bytes()).expect("a record is short");
        let value = Encoded::parse(out.written()).expect("bytes are a value");
        let store = Store { address: address(&key), key, value, options: StoreOptions::default() };
        let mut room = [0; STORE_LEN_MAX];
        let mut out = Writer::new(&mut room);
        Request::Store(store).write(&mut out).expect("a key, an address and a record are short");
        let store = out.written().to_vec();
        self.begin_job(Aim::Enter { key: bytes, store }).is_ok()
    }

    /// So many of those that were asked have it; none: some have still to answer. Where too few do it is tried again soon.
    pub(super) fn on_entered(&mut self, asked: usize, kept: Option<usize>) {
        if kept.is_some_and(|kept| 2 * kept <= asked) {
            self.roll.enter_at = Some(self.now.instant + ROLL_CALL_INTERVAL);
        }
    }

    fn call_roll(&mut self) {
        let now = self.now.instant;
        let key = key_bytes(RollKey::All, &self.roll.hash);
        // Before, for it may be called and told at once. Those who come wait for it; whoever has been here asks nobody else.
        if self.roll.called_at.is_none() {
            self.roll.wait_until = now + ROLL_WAIT;
        } else {
            self.roll.pause = (2 * self.roll.pause).min(ROLL_CALL_INTERVAL_MAX);
        }
        (self.roll.called_at, self.roll.is_wanted) = (Some(now), false);
        // Should too many searches be under way, it is called after the next pause.
        let _ = self.begin_job(Aim::CallRoll { key });
    }

    /// It asks for the roll's holders. A roll is called when links are lost, which is when half of a network may be cut off for a
    /// while: a table that forgot those for that would never find them again.
    pub(super) fn is_of_roll_call(&self, errand: &Errand) -> bool {
        let Purpose::Search(number) = errand.purpose else { return false };
        let search = self.searches.get(&number);
        search.is_some_and(|search| matches!(search.goal, Goal::Value(job) if self.values.is_roll_call(job)))
    }

    pub(super) fn roll_plan(&self) -> Plan {
        Plan { own: self.own.id(), network: self.network, hash: self.roll.hash, now: self.now.wall }
    }

    /// Whom the holders of the roll told of, in the order in which they are to be linked to.
    pub(super) fn on_roll_called(&mut self, chosen: Vec<Contact>) {
        for contact in &chosen {
            self.learn_past(contact);
        }
        let present = |contact: &Contact| self.chains.present(&contact.id()) == contact.id();
        self.roll.told = chosen.into_iter().filter(present).collect();
        (self.roll.told_at, self.roll.wait_until) = (self.now.instant, self.now.instant);
    }

    /// Links have still to wait for it.
    pub(super) fn waits_for_roll(&self) -> bool {
        self.now.instant < self.roll.wait_until
    }

    /// The next of those that it told of, if that is not long ago.
    pub(super) fn next_of_roll(&mut self) -> Option<(NodeId, Option<SocketAddr>)> {
        if self.now.instant.since(self.roll.told_at) >= ROLL_FRESH {
            self.roll.told.clear();
        }
        self.roll.told.pop_front().map(|contact| (contact.id(), contact.endpoint()))
    }

    /// The table has nobody for a link that is missing.
    pub(super) fn want_roll(&mut self) {
        self.roll.is_wanted = !self.waits_for_roll();
    }
}
