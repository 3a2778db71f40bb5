//! What a node tells others of the nodes that it knows: a table's members as of a moment, ourselves among them.
//!
//! In:    a table, our own record.
//! Out:   the records closest to a place.
//! Holds: it never changes, so that every shard may read it; a silent member is not in it (T10).
//!
//! Rows stand by bucket, our own behind the last: all of a place's own bucket are closer to it than all of those behind,
//! and those are closer than each one before.
//!
//! spec: p2p/known

use std::collections::BTreeSet;

use dunlin_codec::ids::{Address, NodeId};

use super::contact::Contact;
use super::diverse::Choice;
use super::space::{Distance, Space};
use super::table::{Prefix, Table};

/// A node that may be told.
#[derive(Clone, Debug)]
struct Row {
    contact: Contact,
    is_public: bool,
    prefix: Option<Prefix>,
}

/// Members of a table as of a moment.
#[derive(Clone, Debug)]
pub struct Known {
    own: NodeId,
    own_sequence: u64,
    space: Space,
    rows: Vec<Row>,
    /// Where each bucket begins; one more for ourselves, and the end.
    starts: Vec<u32>,
    links: Vec<NodeId>,
    sources: Vec<LinkSource>,
    lately: Vec<Contact>,
}

/// How a node came to somebody to whom it opened a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkSource {
    /// It had a link to it before it restarted.
    Anchor,
    /// The network's roll told of it.
    Roll,
    /// It had it in its table.
    Table,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// It is not told of itself.
    pub id: NodeId,
    /// It is on a public address: it is told of nodes on public addresses alone (T10).
    pub is_public: bool,
}

impl Known {
    /// Nobody, before a table was heard of.
    #[must_use]
    pub fn nobody(own: NodeId, space: Space) -> Self {
        Self {
            own,
            own_sequence: 0,
            space,
            rows: Vec::new(),
            starts: vec![0; space.bits() + 2],
            links: Vec::new(),
            sources: Vec::new(),
            lately: Vec::new(),
        }
    }

    /// The members of a table that answer, and ourselves when we can be reached; `links` are those whom we opened links to.
    #[must_use]
    pub fn new(table: &Table, space: Space, (own, links): (&Contact, Vec<(NodeId, LinkSource)>)) -> Self {
        let own_sequence = own.sequence();
        let (links, sources) = links.into_iter().unzip();
        let mut this = Self { own_sequence, links, sources, ..Self::nobody(own.id(), space) };
        for bucket in 0..space.bits() {
            let members = table.told_of(bucket).map(Row::new);
            this.rows.extend(members);
            this.starts[bucket + 1] = this.rows.len() as u32;
        }
        this.rows.extend(own.endpoint().is_some().then(|| Row::new(own)));
        this.starts[space.bits() + 1] = this.rows.len() as u32;
        this
    }

    /// The same with those who answered of late, whether or not they still do. Others are not told of them.
    #[must_use]
    pub fn with_lately(self, lately: Vec<Contact>) -> Self {
        Self { lately, ..self }
    }

    /// Those who answered of late.
    #[must_use]
    pub fn lately(&self) -> &[Contact] {
        &self.lately
    }

    /// Everybody who may have had to do with what lies at a place, ourselves among them where we can be reached: the `count` closest, the
    /// closest first.
    #[must_use]
    pub fn around(&self, place: &Address, count: usize) -> Vec<NodeId> {
        let all: BTreeSet<NodeId> = self.iter().chain(&self.lately).map(Contact::id).collect();
        let mut all: Vec<NodeId> = all.into_iter().collect();
        all.sort_by_cached_key(|id| self.space.distance(place, &Space::place(id)));
        all.truncate(count);
        all
    }

    /// Every node, ourselves among them; those far from us first.
    pub fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.rows.iter().map(|row| &row.contact)
    }

    /// Ourselves, as of that moment.
    #[must_use]
    pub const fn own(&self) -> NodeId {
        self.own
    }

    /// The sequence of our own record; 0 before there was a table.
    #[must_use]
    pub const fn own_sequence(&self) -> u64 {
        self.own_sequence
    }

    /// Whom we opened links to.
    #[must_use]
    pub fn links(&self) -> &[NodeId] {
        &self.links
    }

    /// How we came to each of them, in the same order.
    #[must_use]
    pub fn link_sources(&self) -> &[LinkSource] {
        &self.sources
    }

    /// Puts the `count` nodes closest to `place` that `asker` may be told of into `out`, the closest first; of a public
    /// network one alone, as long as there are others (T9).
    pub fn closest(&self, place: &Address, (count, asker): (usize, Asker), out: &mut Closest) {
        out.choice.clear();
        let own_place = Space::place(&self.own);
        let bits = self.space.bits();
        let at = self.space.bucket(&self.space.distance(&own_place, place)).unwrap_or(bits);
        let before = (0..at).rev().map(|bucket| (bucket, bucket + 1));
        let groups =
            [(at, at + 1), (at + 1, bits + 1)].into_iter().filter(|(from, to)| from < to).chain(before);
        for (from, to) in groups {
            out.group.clear();
            let (first, end) = (self.starts[from] as usize, self.starts[to] as usize);
            for (index, row) in self.rows[first..end].iter().enumerate() {
                let id = row.contact.id();
                if id != asker.id && (row.is_public || !asker.is_public) {
                    out.group.push((self.space.distance(place, &Space::place(&id)), (first + index) as u32));
                }
            }
            out.group.sort_unstable();
            let mut group = out.group.iter();
            if group.any(|row| out.choice.offer(*row, self.rows[row.1 as usize].prefix, count)) {
                break;
            }
        }
        out.choice.finish(count);
    }

    /// The nodes that were put there by [`Self::closest`], the closest first.
    pub fn ids(&self, closest: &Closest) -> impl Iterator<Item = NodeId> {
        closest.choice.chosen().iter().map(|(_, row)| self.rows[*row as usize].contact.id())
    }

    /// The records that were put there by [`Self::closest`].
    #[must_use]
    pub fn records<'k>(&'k self, closest: &'k Closest) -> impl ExactSizeIterator<Item = &'k [u8]> {
        closest.choice.chosen().iter().map(|(_, row)| self.rows[*row as usize].contact.bytes())
    }
}

/// Room for an answer, kept so that it is not asked for again.
#[derive(Clone, Debug, Default)]
pub struct Closest {
    choice: Choice<(Distance, u32)>,
    group: Vec<(Distance, u32)>,
}

impl Row {
    fn new(contact: &Contact) -> Self {
        let prefix = contact.endpoint().and_then(|endpoint| Prefix::of(endpoint.ip()));
        Self { contact: contact.clone(), is_public: contact.is_public(), prefix }
    }
}

#[cfg(test)]
mod tests {
    use dunlin_codec::label::Network;

    use super::*;
    use crate::identity::Identity;
    use crate::time::{Instant, WallMillis};

    const NETWORK: Network = Network([7; 32]);
    const WALL: WallMillis = WallMillis(1_760_000_000_000);

    fn contact(byte: u8, first: u8) -> Contact {
        let endpoint = ([first, byte, 1, byte], 4_000).into();
        Contact::sign(&Identity::from_seed([byte; 32]), &NETWORK, (1, WALL), &[endpoint])
    }

    fn told(known: &Known, place: Address, asker: Asker, count: usize) -> Vec<NodeId> {
        let mut closest = Closest::default();
        known.closest(&place, (count, asker), &mut closest);
        let records = known.records(&closest).map(|bytes| Contact::read(bytes, &NETWORK, WALL).unwrap().id());
        records.collect()
    }

    /// The closest of all, ourselves among them, whatever the place: as if every one had been looked at.
    /// spec: p2p/known
    #[test]
    fn the_closest_are_told() {
        for bits in [256, 16] {
            let (own, space) = (contact(200, 10), Space::new(bits));
            let mut table = Table::new(own.id(), space, 16);
            let nodes: Vec<Contact> =
                (0..60).map(|byte| contact(byte, if byte % 3 == 0 { 10 } else { 20 })).collect();
            for node in &nodes {
                table.on_told(Instant::ZERO, node.clone(), node.id());
                table.on_answer(Instant::ZERO, &node.id(), node.endpoint().unwrap());
            }
            let known = Known::new(&table, space, (&own, Vec::new()));
            let members: Vec<NodeId> = known.iter().map(Contact::id).collect();
            assert!(members.len() > 20 && members.contains(&own.id()));
            let asker = |is_public| Asker { id: members[0], is_public };
            let places = nodes.iter().map(Contact::id).chain([own.id(), NodeId([0; 32])]);
            for place in places.map(|id| Space::place(&id)) {
                for is_public in [false, true] {
                    let is_told = |contact: &&Contact| {
                        contact.id() != members[0] && (contact.is_public() || !is_public)
                    };
                    let mut all: Vec<NodeId> = known.iter().filter(is_told).map(Contact::id).collect();
                    all.sort_by_key(|id| space.distance(&place, &Space::place(id)));
                    all.truncate(16);
                    assert_eq!(told(&known, place, asker(is_public), 16), all);
                }
            }
        }
    }

    /// Who can only initiate is handed out by nobody, itself included.
    /// spec: p2p/known
    #[test]
    fn who_cannot_be_reached_is_not_told() {
        let own = Contact::sign(&Identity::from_seed([1; 32]), &NETWORK, (1, WALL), &[]);
        let table = Table::new(own.id(), Space::new(256), 16);
        let known = Known::new(&table, Space::new(256), (&own, Vec::new()));
        let asker = Asker { id: NodeId([0; 32]), is_public: false };
        assert_eq!(told(&known, Space::place(&own.id()), asker, 16), []);
    }
}
