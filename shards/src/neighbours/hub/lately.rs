//! Those who answered of late, whether or not they still do: a partition must not make half of a network forget the other half.
//!
//! In:    members of the table that answered; time.
//! Out:   who may have had to do with what lies at a place, and where it was.
//! Holds: [`LATELY_COUNT_MAX`] at most, those closest to ourselves, each for [`LATELY_LIFE`] after its last answer. Whoever was
//!        remembered over a restart counts as if it had answered then.
//!
//! The table puts out whoever is silent a few times, and rightly so: lookups are for those who answer. But whoever begins a register has
//! to count those as well who may have begun it before, on the other side of a cut.
//!
//! spec: p2p/lately

use core::net::SocketAddr;
use std::collections::BTreeMap;

use dunlin_codec::ids::NodeId;

use crate::dht::contact::Contact;
use crate::dht::space::{Distance, Space};
use crate::limits::{LATELY_COUNT_MAX, LATELY_LIFE};
use crate::time::{Instant, Now};

/// Who answered of late.
#[derive(Debug)]
pub(super) struct Lately {
    own: NodeId,
    space: Space,
    /// The closest to ourselves first, with when they answered last.
    nodes: BTreeMap<(Distance, NodeId), (Contact, Instant)>,
    changes: u64,
}

impl Lately {
    pub(super) const fn new(own: NodeId, space: Space) -> Self {
        Self { own, space, nodes: BTreeMap::new(), changes: 0 }
    }

    fn place(&self, id: &NodeId) -> (Distance, NodeId) {
        (self.space.distance(&Space::place(&self.own), &Space::place(id)), *id)
    }

    /// How often its nodes or their records changed.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// A node answered.
    pub(super) fn on_answer(&mut self, now: Instant, contact: &Contact) {
        let place = self.place(&contact.id());
        let before = self.nodes.insert(place, (contact.clone(), now));
        self.changes += u64::from(before.is_none_or(|(before, _)| before != *contact));
        if self.nodes.len() > LATELY_COUNT_MAX {
            self.nodes.pop_last();
        }
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, now: Now) {
        let count = self.nodes.len();
        self.nodes.retain(|_, (contact, at)| *at + LATELY_LIFE > now.instant && contact.expiry() > now.wall);
        self.changes += u64::from(self.nodes.len() < count);
    }

    /// Nobody has this key any more.
    pub(super) fn forget(&mut self, id: &NodeId) {
        self.changes += u64::from(self.nodes.remove(&self.place(id)).is_some());
    }

    /// We have another key.
    pub(super) fn move_to(&mut self, own: NodeId) {
        self.own = own;
        for (contact, at) in core::mem::take(&mut self.nodes).into_values() {
            self.nodes.insert(self.place(&contact.id()), (contact, at));
        }
        self.changes += 1;
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.nodes.values().map(|(contact, _)| contact)
    }

    /// Where one of them was.
    pub(super) fn endpoint_of(&self, id: &NodeId) -> Option<SocketAddr> {
        self.nodes.get(&self.place(id)).and_then(|(contact, _)| contact.endpoint())
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use dunlin_codec::label::Network;

    use super::*;
    use crate::identity::Identity;
    use crate::time::WallMillis;

    const WALL: WallMillis = WallMillis(1_760_000_000_000);

    fn contact(number: u16) -> Contact {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        let endpoint = ([10, 0, (number >> 8) as u8, number as u8], 4_000).into();
        Contact::sign(&Identity::from_seed(seed), &Network([7; 32]), (1, WALL), &[endpoint])
    }

    fn at(seconds: u64) -> Now {
        Now { instant: Instant::ZERO + Duration::from_secs(seconds), wall: WALL }
    }

    /// Whoever answered is remembered for an hour after its last answer, and nobody for longer.
    /// spec: p2p/lately
    #[test]
    fn who_answered_is_remembered_for_an_hour() {
        let mut lately = Lately::new(NodeId([0; 32]), Space::new(256));
        lately.on_answer(at(0).instant, &contact(1));
        lately.on_answer(at(0).instant, &contact(2));
        lately.on_answer(at(1_800).instant, &contact(2));
        lately.expire(at(3_599));
        assert_eq!(lately.iter().count(), 2);
        lately.expire(at(3_600));
        assert_eq!(lately.iter().map(Contact::id).collect::<Vec<_>>(), [contact(2).id()]);
        assert_eq!(lately.endpoint_of(&contact(2).id()), contact(2).endpoint());
        lately.forget(&contact(2).id());
        assert_eq!(lately.iter().count(), 0);
    }

    /// The closest stay when there are more than are remembered, wherever we are.
    /// spec: p2p/lately
    #[test]
    fn the_closest_are_remembered() {
        let space = Space::new(256);
        let mut lately = Lately::new(NodeId([0; 32]), space);
        let mut all: Vec<Contact> = (0..LATELY_COUNT_MAX as u16 + 50).map(contact).collect();
        all.iter().for_each(|contact| lately.on_answer(Instant::ZERO, contact));
        let own = contact(9_999).id();
        for from in [NodeId([0; 32]), own] {
            lately.move_to(from);
            all.sort_by_key(|contact| space.distance(&Space::place(&from), &Space::place(&contact.id())));
            let told: Vec<NodeId> = lately.iter().map(Contact::id).collect();
            let mut kept = told.clone();
            kept.sort_by_key(|id| space.distance(&Space::place(&from), &Space::place(id)));
            assert_eq!((told.len(), &told), (LATELY_COUNT_MAX, &kept));
            all.retain(|contact| told.contains(&contact.id()));
            assert_eq!(all.iter().map(Contact::id).collect::<Vec<_>>(), told);
        }
    }
}
