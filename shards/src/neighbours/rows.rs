//! Rows: what a node keeps of its network over a restart, beside what its holders keep.
//!
//! In:    whom it knows by now; rows of an earlier start.
//! Out:   rows of plain bytes for its disk; the note by which it knows again.
//! Holds: a node that knows nobody for a while forgets nobody: more often it is its own line that is cut. What became of a key stays
//!        so.
//!
//! A row is `n` and a node's key, with its record; `l` and the key of one that this node has a link to, with nothing; `c` and a key,
//! with what became of it ([`super::Notice::KeyChain`]).
//!
//! spec: p2p/remembered

use std::collections::BTreeMap;

use dunlin_codec::ids::NodeId;

use crate::dht::known::Known;
use crate::note::Note;

/// A key and a value to be kept.
pub type Row = (Vec<u8>, Vec<u8>);

/// A node that was known.
pub const ROW_OF_NODE: u8 = b'n';
/// A node to which there was a link.
pub const ROW_OF_LINK: u8 = b'l';
/// What became of a key.
pub const ROW_OF_CHAIN: u8 = b'c';

/// More of a kind than any table has.
const ROWS_MAX: usize = 4_096;

/// The key of a row about a node.
#[must_use]
pub fn row_key(kind: u8, id: NodeId) -> Vec<u8> {
    [&[kind][..], &id.0].concat()
}

/// The rows of what is known: those who answer, those who did of late, links.
#[must_use]
pub fn rows_of(known: &Known) -> Vec<Row> {
    let others = known.iter().chain(known.lately()).filter(|contact| contact.id() != known.own());
    let nodes = others.map(|contact| (row_key(ROW_OF_NODE, contact.id()), contact.bytes().to_vec()));
    let links = known.links().iter().map(|id| (row_key(ROW_OF_LINK, *id), Vec::new()));
    nodes.chain(links).collect()
}

/// What is to be on the disk after `kept`, when these rows are what is known.
#[must_use]
pub fn join(kept: &BTreeMap<Vec<u8>, Vec<u8>>, rows: Vec<Row>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let is_lonely = rows.iter().all(|(key, _)| is_chain(key));
    let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = rows.into_iter().collect();
    for (key, value) in kept.iter().filter(|(key, _)| is_lonely || is_chain(key)) {
        rows.entry(key.clone()).or_insert_with(|| value.clone());
    }
    rows
}

/// The rows of chains among these, for [`super::Neighbours::restore_chain`].
pub fn chains_in(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> impl Iterator<Item = &[u8]> {
    rows.range(vec![ROW_OF_CHAIN]..vec![ROW_OF_CHAIN + 1]).map(|(_, row)| &row[..])
}

/// Tells the hub what it knew. Rows that are none are passed over.
#[must_use]
pub fn note_of(rows: impl IntoIterator<Item = Row>) -> Note {
    let (mut records, mut anchors) = (Vec::new(), Vec::new());
    for (key, value) in rows {
        match key.split_first() {
            Some((&ROW_OF_NODE, _)) if records.len() < ROWS_MAX => records.push(value.into()),
            Some((&ROW_OF_LINK, id)) if anchors.len() < ROWS_MAX => {
                anchors.extend(<[u8; 32]>::try_from(id).map(NodeId));
            }
            _ => {}
        }
    }
    Note::Remember { records, anchors }
}

/// What became of a key says nothing of who is there.
fn is_chain(key: &[u8]) -> bool {
    key.first() == Some(&ROW_OF_CHAIN)
}

#[cfg(test)]
mod tests {
    use dunlin_codec::label::Network;

    use super::*;
    use crate::dht::contact::Contact;
    use crate::dht::known::LinkSource;
    use crate::dht::space::Space;
    use crate::dht::table::Table;
    use crate::identity::Identity;
    use crate::time::WallMillis;

    fn contact(byte: u8) -> Contact {
        let endpoint = ([10, 0, 0, byte], 4_000).into();
        let wall = WallMillis(1_760_000_000_000);
        Contact::sign(&Identity::from_seed([byte; 32]), &Network([7; 32]), (1, wall), &[endpoint])
    }

    fn remembered(rows: BTreeMap<Vec<u8>, Vec<u8>>) -> (Vec<Box<[u8]>>, Vec<NodeId>) {
        match note_of(rows) {
            Note::Remember { records, anchors } => (records, anchors),
            note => panic!("{note:?}"),
        }
    }

    /// Whoever answered of late comes back with its record, links as anchors, nobody twice, ourselves not at all; and they stay while
    /// nobody is known.
    /// spec: p2p/remembered
    #[test]
    fn what_is_known_comes_back() {
        let own = contact(1);
        let known = Known::new(
            &Table::new(own.id(), Space::new(256), 16),
            Space::new(256),
            (&own, vec![(contact(2).id(), LinkSource::Table)]),
        );
        let known = known.with_lately(vec![contact(2), contact(3)]);
        let kept = BTreeMap::from([(row_key(ROW_OF_CHAIN, contact(4).id()), vec![1])]);
        let rows = join(&kept, rows_of(&known));
        assert_eq!(chains_in(&rows).collect::<Vec<_>>(), [&[1][..]]);
        let again = join(&rows, Vec::new());
        assert_eq!(again, rows, "nobody is forgotten");
        let (mut records, anchors) = remembered(rows);
        records.sort();
        let mut told = [contact(2), contact(3)].map(|contact| contact.bytes().into());
        told.sort();
        assert_eq!((records, anchors), (told.to_vec(), vec![contact(2).id()]));
    }
}
