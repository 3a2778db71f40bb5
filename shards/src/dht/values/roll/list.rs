//! A holder's list of the roll.
//!
//! In:    entries, each over a session with the node that it is about; questions.
//! Out:   records of some nodes, each in its turn; why an entry is not taken.
//! Holds: at most [`ROLL_COUNT_MAX`] nodes, [`ROLL_PREFIX_MAX`] of a /24 or /48; each answered a handshake at an address that
//!        its record names, within the last [`ROLL_LIFE`].
//!
//! Whoever comes when the list is full takes the place of the one that was heard of longest ago, of its own network where that
//! has its share: somebody with very many keys and few addresses puts out nobody else. Whom an answer names goes round, so
//! all of them are named as often.
//!
//! spec: p2p/roll-list

use core::net::IpAddr;
use core::ops::Bound;
use std::collections::BTreeMap;

use dunlin_codec::args::{NODES_MAX, Reason, Roll};
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::NodeRecord;

use super::super::{Asker, encode};
use crate::dht::contact::{Contact, Heard, is_public};
use crate::dht::table::Prefix;
use crate::identity::chain::Kin;
use crate::limits::{ROLL_COUNT_MAX, ROLL_LIFE, ROLL_PREFIX_MAX};
use crate::time::{Instant, Now};

/// Bytes of an answer's value at most.
const VALUE_LEN_MAX: usize = 3 + NODES_MAX * (3 + dunlin_codec::record::NODE_RECORD_LEN_MAX);

#[derive(Debug)]
struct Entry {
    contact: Contact,
    is_public: bool,
    prefix: Option<Prefix>,
    told_at: Instant,
}

/// Who has entered itself at this holder.
#[derive(Debug)]
pub(in super::super) struct List {
    own: NodeId,
    network: Network,
    entries: BTreeMap<NodeId, Entry>,
    /// Whom the last answer named last.
    named: Option<NodeId>,
}

impl List {
    pub(in super::super) const fn new(own: NodeId, network: Network) -> Self {
        Self { own, network, entries: BTreeMap::new(), named: None }
    }

    /// Keys became others: their entries are nobody's any more. The new key's node enters itself.
    pub(in super::super) fn on_kin(&mut self, kin: &Kin) {
        self.entries.retain(|id, _| kin.present(id) == *id);
    }

    /// The holder's own node has another key.
    pub(in super::super) fn on_new_key(&mut self, own: NodeId) {
        self.own = own;
    }

    /// How many nodes it has.
    pub(in super::super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// A node enters itself, or says that it is still there.
    pub(in super::super) fn enter(
        &mut self,
        now: Now,
        asker: Asker,
        (id, value): (NodeId, Encoded<'_>),
    ) -> Result<(), Reason> {
        let bytes = value.as_bin().ok_or(Reason::Malformed)?;
        let record = NodeRecord::parse(bytes).map_err(|_| Reason::Malformed)?;
        let is_there = |ip: IpAddr| {
            asker.peer == self.own
                || record.endpoints().any(|endpoint| endpoint.ip().to_canonical() == ip.to_canonical())
        };
        if id != asker.peer || record.fields.key != id || !is_there(asker.from) {
            return Err(Reason::NotAllowed);
        }
        let Some(endpoint) = record.endpoints().next() else { return Err(Reason::NotAllowed) };
        if let Some(entry) = self.entries.get_mut(&id) {
            if entry.contact.bytes() == bytes {
                entry.told_at = now.instant;
                return Ok(());
            }
            if entry.contact.sequence() >= record.fields.sequence {
                return Err(Reason::StaleSequence);
            }
        }
        let contact = Heard::new(&record).check(&self.network, now.wall).map_err(|_| Reason::NotAllowed)?;
        self.entries.remove(&id);
        let prefix = Prefix::of(endpoint.ip());
        self.make_room(now.instant, prefix);
        let is_public = contact.is_public();
        self.entries.insert(id, Entry { contact, is_public, prefix, told_at: now.instant });
        Ok(())
    }

    /// Those whose time is over go; then, where it needs be, the one that was heard of longest ago.
    // spec: p2p/roll-list
    fn make_room(&mut self, now: Instant, prefix: Option<Prefix>) {
        self.expire(now);
        let is_same = |entry: &Entry| prefix.is_some() && entry.prefix == prefix;
        let same = self.entries.values().filter(|entry| is_same(entry)).count();
        let is_crowded = same >= ROLL_PREFIX_MAX;
        if !is_crowded && self.entries.len() < ROLL_COUNT_MAX {
            return;
        }
        let others = self.entries.iter().filter(|(_, entry)| !is_crowded || is_same(entry));
        let oldest = others.min_by_key(|(_, entry)| entry.told_at).map(|(id, _)| *id);
        oldest.map(|id| self.entries.remove(&id));
    }

    fn expire(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now.since(entry.told_at) < ROLL_LIFE);
    }

    /// The value that somebody at this address is told: whoever is on a public one hears of public ones alone (T10). None: it
    /// is told of nobody.
    pub(in super::super) fn tell(&mut self, now: Now, from: IpAddr) -> Option<Vec<u8>> {
        let is_told = |entry: &Entry| {
            now.instant.since(entry.told_at) < ROLL_LIFE
                && entry.contact.expiry() > now.wall
                && (entry.is_public || !is_public(from))
        };
        let from_there = (self.named.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        // After the last one it begins anew, and ends where it began.
        let to_there = |id: &NodeId| self.named.is_some_and(|named| *id <= named);
        let round =
            self.entries.range(from_there).chain(self.entries.iter().take_while(|(id, _)| to_there(id)));
        let told: Vec<(&NodeId, &Entry)> =
            round.filter(|(_, entry)| is_told(entry)).take(NODES_MAX).collect();
        let last = *told.last()?.0;
        let records: Vec<&[u8]> = told.iter().map(|(_, entry)| entry.contact.bytes()).collect();
        let value = encode(VALUE_LEN_MAX, |out| Roll::write_new(out, &records));
        self.named = Some(last);
        Some(value)
    }
}
