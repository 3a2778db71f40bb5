//! Rumours to be brought: signed before anything is measured, each by one of many origins.
//!
//! In:    how many, of how many origins, how long; what of them is to be brought.
//! Out:   rumours, each once, or the same ones again and again.
//! Holds: what an origin says has rising numbers, across all stocks.

use std::sync::{Arc, Mutex};

use dunlin::entropy::OsEntropy;
use dunlin_codec::label::Network;
use dunlin_codec::message::{EVERYBODY, Freshness, Operation, SignedHeader};
use dunlin_shards::gossip::sign;
use dunlin_shards::identity::Identity;

use crate::rally::lock;

/// A signed message.
pub(crate) type Bytes = Arc<[u8]>;

/// Those that say something, one after the other.
#[derive(Debug)]
pub(crate) struct Origins {
    identities: Vec<Identity>,
    said: u64,
}

impl Origins {
    /// So many, whom nobody has heard of.
    pub(crate) fn new(count: usize) -> Self {
        let identities = (0..count.max(1)).map(|_| Identity::from_seed(OsEntropy.array())).collect();
        Self { identities, said: 0 }
    }

    /// So many new rumours of so many bytes of payload, said at `time_ms`.
    pub(crate) fn say(
        &mut self,
        network: &Network,
        (count, len): (usize, usize),
        time_ms: u64,
    ) -> Vec<Bytes> {
        let origins = self.identities.len() as u64;
        let mut payload = Vec::new();
        let each = |said: u64| {
            let from = &self.identities[(said % origins) as usize];
            let freshness = Freshness { time_ms, instance: 1, count: said / origins };
            let (operation, freshness) = (Operation::Shout, Some(freshness));
            let header =
                SignedHeader { operation, is_sealed: false, from: from.id(), to: EVERYBODY, freshness };
            write_payload(&mut payload, (len, said));
            sign(from, network, &header, &payload).into()
        };
        let said = self.said..self.said + count as u64;
        self.said = said.end;
        said.map(each).collect()
    }
}

/// Bytes of the shortest payload: a bin with the rumour's number.
pub(crate) const PAYLOAD_LEN_MIN: usize = 2 + 8;

/// A bin of so many bytes of msgpack in all that ends with a number.
pub(crate) fn write_payload(payload: &mut Vec<u8>, (len, number): (usize, u64)) {
    if payload.len() != len {
        payload.clear();
        match len {
            ..258 => payload.extend([0xc4, (len - 2) as u8]),
            258..65_539 => payload.extend([&[0xc5][..], &((len - 3) as u16).to_be_bytes()].concat()),
            _ => payload.extend([&[0xc6][..], &((len - 5) as u32).to_be_bytes()].concat()),
        }
        payload.resize(len, 0x5a);
    }
    let at = len - 8;
    payload[at..].copy_from_slice(&number.to_be_bytes());
}

/// What is to be brought next.
#[derive(Debug, Default)]
pub(crate) struct Stock(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    rumours: Vec<Bytes>,
    next: usize,
    /// From the beginning, when all were brought.
    is_endless: bool,
}

impl Stock {
    /// These are to be brought, once or without end; what was left goes.
    pub(crate) fn put(&self, rumours: Vec<Bytes>, is_endless: bool) {
        *lock(&self.0) = Shelf { rumours, next: 0, is_endless };
    }

    /// How many were taken since then.
    pub(crate) fn taken(&self) -> usize {
        lock(&self.0).next
    }

    /// Nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        let shelf = lock(&self.0);
        shelf.next >= shelf.rumours.len() && !(shelf.is_endless && shelf.next > 0)
    }

    /// The next ones, at most so many.
    pub(crate) fn take(&self, count: usize) -> Vec<Bytes> {
        let mut shelf = lock(&self.0);
        let left = shelf.rumours.len().saturating_sub(shelf.next);
        let count = if shelf.is_endless && !shelf.rumours.is_empty() { count } else { count.min(left) };
        let next = shelf.next;
        shelf.next += count;
        (next..next + count).map(|at| shelf.rumours[at % shelf.rumours.len()].clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use dunlin_codec::bytes::Reader;
    use dunlin_codec::message::Signed;
    use dunlin_codec::msgpack::Encoded;
    use dunlin_shards::gossip::check_signature;

    use super::*;

    const NETWORK: Network = Network([3; 32]);

    /// What any node would take: signed, of the length that was asked, each under another number of its origin.
    #[test]
    fn rumours_are_signed_and_numbered() {
        let mut origins = Origins::new(3);
        let mut rumours = origins.say(&NETWORK, (4, 60), 5);
        rumours.extend(origins.say(&NETWORK, (3, 60), 6));
        let mut seen = std::collections::BTreeSet::new();
        for rumour in &rumours {
            check_signature(&NETWORK, &mut rumour.to_vec()).unwrap();
            let message = Signed::parse(&mut Reader::new(rumour)).unwrap();
            assert_eq!(message.payload().len(), 60);
            assert!(seen.insert((message.from(), message.freshness().unwrap().count)));
        }
        assert_eq!(rumours.len(), 7);
    }

    /// Whatever length is asked for, payloads have it.
    #[test]
    fn payloads_have_the_length_that_was_asked() {
        for len in [PAYLOAD_LEN_MIN, 200, 256, 257, 258, 259, 1_000, 65_535, 65_536] {
            let mut payload = Vec::new();
            write_payload(&mut payload, (len, 7));
            assert_eq!(Encoded::parse(&payload).unwrap().as_bin().unwrap().last(), Some(&7), "{len}");
            assert_eq!(payload.len(), len);
        }
    }

    #[test]
    fn a_stock_gives_each_once_or_all_again() {
        let stock = Stock::default();
        assert!(stock.take(1).is_empty() && stock.is_empty());
        let three: Vec<Bytes> = (0..3).map(|number| vec![number].into()).collect();
        stock.put(three.clone(), false);
        assert_eq!((stock.take(2), stock.taken()), (three[..2].to_vec(), 2));
        assert!(!stock.is_empty());
        assert_eq!((stock.take(2), stock.is_empty()), (three[2..].to_vec(), true));
        stock.put(three.clone(), true);
        assert_eq!(stock.take(5), [&three[..], &three[..2]].concat());
        assert!(!stock.is_empty());
        stock.put(Vec::new(), true);
        assert!(stock.take(5).is_empty() && stock.is_empty());
    }
}
