//! Calling the roll: what the holders tell of it, and whom of that to believe.
//!
//! In:    the holders, their answers.
//! Out:   questions; nodes to open links to.
//! Holds: no record counts whose signature does not hold, whose time is over, or that names no endpoint (T10); no holder is
//!        believed twice before all others were once, and no network has a second node among the first while others have
//!        none (T9).
//!
//! A holder may lie by leaving out whom it likes. So whom we link to is drawn: a holder, then one of those that it told. As
//! many links go wrong as holders lie, and not more, however many nodes they tell of.
//!
//! spec: p2p/roll-call

use std::collections::BTreeSet;

use dunlin_codec::args::{Ack, FindValue, Request, Roll, RollKey};
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::message::Operation;
use dunlin_codec::record::Key;

use super::super::asking::Asking;
use super::super::{Answer, Question, SMALL_LEN_MAX, address, encode};
use super::key_bytes;
use crate::dht::contact::{BadContact, Contact, Heard};
use crate::dht::table::Prefix;
use crate::limits::ROLL_CHOSEN_MAX;
use crate::rng::Rng;
use crate::time::WallMillis;

/// What is called for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Who calls: it does not link to itself.
    pub own: NodeId,
    /// The network.
    pub network: Network,
    /// The hash of its descriptor.
    pub hash: [u8; 32],
    /// The time, for records.
    pub now: WallMillis,
}

/// A call under way.
#[derive(Debug)]
pub struct Call {
    plan: Plan,
    asking: Asking,
    arguments: Vec<u8>,
    /// What each holder told, in the order in which they answered.
    told: Vec<Vec<Heard>>,
    /// Records that nobody of this network signed, or whose time is over.
    bad: usize,
}

impl Call {
    /// Asks these holders.
    #[must_use]
    pub fn new(plan: Plan, holders: impl IntoIterator<Item = NodeId>) -> Self {
        let bytes = key_bytes(RollKey::All, &plan.hash);
        let key = Key::parse(&bytes).ok().flatten().expect("the roll has a key");
        let find = FindValue { address: address(&key), key };
        let arguments = encode(SMALL_LEN_MAX, |out| Request::FindValue(find).write(out));
        Self { plan, asking: Asking::new(holders), arguments, told: Vec::new(), bad: 0 }
    }

    /// The next holder to be asked.
    pub fn poll_question(&mut self) -> Option<Question> {
        let (number, to) = self.asking.next()?;
        Some(Question { number, to, operation: Operation::FindValue, arguments: self.arguments.clone() })
    }

    /// A holder answered.
    pub fn on_answer(&mut self, number: u64, answer: &Answer) {
        if self.asking.end(number).is_none() || !answer.is_ack {
            return;
        }
        let Ok(Ack::Value(found)) = Ack::parse(&answer.payload) else { return };
        if found.key.bytes() == key_bytes(RollKey::All, &self.plan.hash)
            && let Ok(roll) = Roll::parse(found.value)
        {
            self.told.push(roll.iter().map(|record| Heard::new(&record)).collect());
        }
    }

    /// A holder did not answer.
    pub fn on_failure(&mut self, number: u64) {
        self.asking.end(number);
    }

    /// Nobody waits any longer.
    pub fn give_up(&mut self) {
        self.asking.restart([]);
    }

    /// Everybody was asked, and has answered or not.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.asking.is_over()
    }

    /// Records that nobody of this network signed, or whose time was over.
    #[must_use]
    pub const fn bad_count(&self) -> usize {
        self.bad
    }

    /// Whom to open links to, in this order. Whoever told one record that nobody signed is believed no more.
    pub fn choose(&mut self, rng: &mut Rng) -> Vec<Contact> {
        let mut taken = BTreeSet::from([self.plan.own]);
        let mut prefixes: BTreeSet<Prefix> = BTreeSet::new();
        let mut chosen = Vec::new();
        let mut others = Vec::new();
        while chosen.len() < ROLL_CHOSEN_MAX && self.told.iter().any(|told| !told.is_empty()) {
            // Each holder once, in an order that is drawn anew.
            let mut order: Vec<usize> = (0..self.told.len()).collect();
            shuffle(&mut order, rng);
            for holder in order {
                let Some(contact) = self.next_of(holder, &mut taken, rng) else { continue };
                let prefix = contact.endpoint().and_then(|endpoint| Prefix::of(endpoint.ip()));
                if prefix.is_none_or(|prefix| prefixes.insert(prefix)) {
                    chosen.push(contact);
                } else {
                    others.push(contact);
                }
            }
        }
        chosen.extend(others);
        chosen.truncate(ROLL_CHOSEN_MAX);
        chosen
    }

    /// One of those that a holder told, whom nobody told before and whose record is good.
    fn next_of(&mut self, holder: usize, taken: &mut BTreeSet<NodeId>, rng: &mut Rng) -> Option<Contact> {
        while let count @ 1.. = self.told[holder].len() {
            let heard = self.told[holder].swap_remove(rng.below(count as u64) as usize);
            if taken.contains(&heard.id()) || heard.endpoint().is_none() {
                continue;
            }
            match heard.check(&self.plan.network, self.plan.now) {
                Ok(contact) => {
                    taken.insert(contact.id());
                    return Some(contact);
                }
                Err(bad) => {
                    self.bad += 1;
                    if bad == BadContact::Signature {
                        // Whoever keeps to the protocol has checked it.
                        self.told[holder].clear();
                    }
                }
            }
        }
        None
    }
}

fn shuffle(order: &mut [usize], rng: &mut Rng) {
    for at in (1..order.len()).rev() {
        order.swap(at, rng.below(at as u64 + 1) as usize);
    }
}
