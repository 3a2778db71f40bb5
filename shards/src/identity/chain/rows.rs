//! Chains of keys as rows of bytes, so that they last longer than a start of the node.
//!
//! In:    chains that somebody was followed along, or that froze; rows as they were kept.
//! Out:   the same, the other way round.
//! Holds: what is in a row was verified when it came, and is not again: a row is as good as the disk that it was on. One that
//!        does not hang together is none, and changes nothing.
//!
//! An inception alone has no row: it is in its node's record, which is kept elsewhere.
//!
//! Layout: version 1, key 32, index 2, SHA-256(next key) 32, origin 1 (0: a session's word, 1: an inception, and its signature
//! 64, 2: our own), count of changes 1, each 234, frozen 1 (0 or 1; then twice: length 2 and what was seen).
//!
//! spec: p2p/key-chain-rows

use dunlin_codec::bytes::Reader;
use dunlin_codec::error::WireError;
use dunlin_codec::ids::NodeId;

use super::{Chain, Fork, KeyChains, Link, Origin};
use crate::identity::change::{SIGNED_CHANGE_LEN, SignedChange};
use crate::limits::{KEY_CHAIN_LEN_MAX, KEY_CHAINS_MAX};

const VERSION: u8 = 1;

impl KeyChains {
    /// The first key of a key's chain, and the chain's row; none: nobody was followed along it.
    #[must_use]
    pub fn row_of(&self, key: &NodeId) -> Option<(NodeId, Vec<u8>)> {
        let chain = self.chain_of(key).filter(|chain| !chain.is_single())?;
        let first = chain.links.first()?;
        let mut row = vec![VERSION];
        row.extend_from_slice(&first.key.0);
        row.extend_from_slice(&first.index.to_be_bytes());
        row.extend_from_slice(&first.next_hash);
        match &first.origin {
            Origin::Inception(signature) => {
                row.push(1);
                row.extend_from_slice(signature);
            }
            Origin::Own => row.push(2),
            // None begins with a change.
            Origin::Session | Origin::Change(_) => row.push(0),
        }
        let changes = chain.links.iter().filter_map(|link| match &link.origin {
            Origin::Change(signed) => Some(signed.to_bytes()),
            _ => None,
        });
        row.push(u8::try_from(chain.links.len() - 1).expect("no chain is longer than 64"));
        changes.for_each(|change| row.extend_from_slice(&change));
        row.push(u8::from(chain.fork.is_some()));
        for seen in chain.fork.iter().flat_map(|fork| [&fork.first, &fork.second]) {
            row.extend_from_slice(&u16::try_from(seen.len()).expect("a change has 234 bytes").to_be_bytes());
            row.extend_from_slice(seen);
        }
        Some((first.key, row))
    }

    /// Takes a row of an earlier start, before anything else, and says which key its chain begins with. None: it is no row, or one of
    /// its keys is known already.
    pub fn restore(&mut self, row: &[u8]) -> Option<NodeId> {
        let chain = read(row).ok()?;
        let is_known = chain.links.iter().any(|link| self.places.contains_key(&link.key));
        if is_known || self.chains.len() >= KEY_CHAINS_MAX {
            return None;
        }
        let first = chain.links.first()?.key;
        self.numbers += 1;
        let number = self.numbers;
        self.places.extend(chain.links.iter().map(|link| (link.key, number)));
        self.chains.insert(number, chain);
        Some(first)
    }
}

fn read(row: &[u8]) -> Result<Chain, WireError> {
    let mut row = Reader::new(row);
    if row.u8()? != VERSION {
        return Err(WireError::Unknown);
    }
    let (key, index, next_hash) = (NodeId(*row.array()?), row.u16()?, *row.array()?);
    let origin = match row.u8()? {
        0 => Origin::Session,
        1 => Origin::Inception(*row.array()?),
        2 => Origin::Own,
        _ => return Err(WireError::Unknown),
    };
    let mut links = vec![Link { key, index, next_hash, origin }];
    let count = usize::from(row.u8()?);
    if count > KEY_CHAIN_LEN_MAX {
        return Err(WireError::OutOfRange);
    }
    for _ in 0..count {
        let signed = SignedChange::from_bytes(row.array::<SIGNED_CHANGE_LEN>()?);
        let signed = signed.ok_or(WireError::Unknown)?;
        let change = signed.change;
        let last = links.last().ok_or(WireError::Truncated)?;
        if change.current != last.key || u32::from(change.index) != u32::from(last.index) + 1 {
            return Err(WireError::OutOfRange);
        }
        let origin = Origin::Change(Box::new(signed));
        links.push(Link { key: change.new, index: change.index, next_hash: change.next_hash, origin });
    }
    let fork = match row.u8()? {
        0 => None,
        1 => Some(Fork { first: seen(&mut row)?, second: seen(&mut row)? }),
        _ => return Err(WireError::Unknown),
    };
    let mut keys: Vec<NodeId> = links.iter().map(|link| link.key).collect();
    keys.sort_unstable();
    if !row.is_empty() || keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(WireError::Trailing);
    }
    Ok(Chain { links, fork })
}

fn seen(row: &mut Reader<'_>) -> Result<Box<[u8]>, WireError> {
    let len = usize::from(row.u16()?);
    if len > SIGNED_CHANGE_LEN {
        return Err(WireError::OutOfRange);
    }
    Ok(row.take(len)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::identity::chain::{BadChange, Word};
    use crate::limits::KEY_CHANGE_INTERVAL_MIN;
    use crate::time::WallMillis;

    const HOUR: u64 = KEY_CHANGE_INTERVAL_MIN.as_millis() as u64;
    const NOW: u64 = 1_760_000_000_000;

    fn key(byte: u8) -> Identity {
        Identity::from_seed([byte; 32])
    }

    fn change(from: u8, index: u16) -> SignedChange {
        let time = NOW + u64::from(index) * HOUR;
        SignedChange::sign((&key(from), &key(from + 1)), &key(from + 2).id(), (index, time))
    }

    fn follow(chains: &mut KeyChains, signed: &SignedChange) -> Result<(), BadChange> {
        chains.on_change(signed, WallMillis(signed.change.time_ms), Word::Of(signed.change.current))
    }

    /// What was followed is followed after a restart, goes on from there, and a fork is as frozen as it was.
    /// spec: p2p/key-chain-rows
    #[test]
    fn a_chain_comes_back_from_its_row() {
        let mut chains = KeyChains::default();
        [change(1, 1), change(2, 2)].iter().for_each(|signed| follow(&mut chains, signed).unwrap());
        let (first, row) = chains.row_of(&key(3).id()).unwrap();
        assert!(first == key(1).id() && chains.row_of(&key(2).id()) == Some((first, row.clone())));
        assert_eq!(chains.row_of(&key(9).id()), None);
        let mut again = KeyChains::default();
        assert_eq!((again.restore(&row), again.restore(&row)), (Some(first), None), "once");
        assert_eq!(again.row_of(&first), Some((first, row)));
        assert_eq!(again.present(&first), key(3).id());
        assert!(again.kin().is_same(&key(1).id(), &key(3).id()));
        follow(&mut again, &change(3, 3)).unwrap();
        assert_eq!(again.present(&first), key(4).id());

        let other = SignedChange::sign((&key(1), &key(2)), &key(9).id(), (1, NOW + HOUR + 1));
        assert_eq!(follow(&mut again, &other), Err(BadChange::Forked));
        let (_, row) = again.row_of(&first).unwrap();
        let mut frozen = KeyChains::default();
        assert!(frozen.restore(&row).is_some());
        assert!(frozen.fork_of(&first).is_some() && frozen.fork_of(&first) == again.fork_of(&first));
        assert_eq!(frozen.present(&first), first);
        assert_eq!(follow(&mut frozen, &change(4, 4)), Err(BadChange::Frozen));
    }

    /// Our own chain cannot be frozen by who has our old key alone, before a restart and after it; who has both keys shows it.
    /// spec: p2p/key-chain, p2p/key-chain-rows
    #[test]
    fn a_thief_of_our_old_key_does_not_make_us_doubt() {
        let mut chains = KeyChains::default();
        chains.on_own_change(&change(1, 1)).unwrap();
        let (_, row) = chains.row_of(&key(2).id()).unwrap();
        let mut again = KeyChains::default();
        assert!(again.restore(&row).is_some());
        assert_eq!(again.on_own_change(&change(1, 1)), Ok(()), "the files say it again");
        let alone = SignedChange::sign((&key(1), &key(7)), &key(8).id(), (1, NOW + HOUR + 1));
        let both = SignedChange::sign((&key(1), &key(2)), &key(8).id(), (1, NOW + HOUR + 1));
        for chains in [&mut chains, &mut again] {
            assert_eq!(follow(chains, &alone), Err(BadChange::Commitment));
            assert_eq!(chains.present(&key(1).id()), key(2).id());
            chains.on_own_change(&change(2, 2)).unwrap();
            assert_eq!(chains.present(&key(1).id()), key(3).id());
            assert_eq!(follow(chains, &both), Err(BadChange::Forked));
        }
    }

    /// Cut anywhere, a byte too long, links that do not hang together: nothing is taken.
    /// spec: p2p/key-chain-rows
    #[test]
    fn a_bad_row_is_none() {
        let mut chains = KeyChains::default();
        [change(1, 1), change(2, 2)].iter().for_each(|signed| follow(&mut chains, signed).unwrap());
        let (_, row) = chains.row_of(&key(1).id()).unwrap();
        let mut again = KeyChains::default();
        for len in 0..row.len() {
            assert_eq!(again.restore(&row[..len]), None, "{len} bytes of it");
        }
        assert_eq!(again.restore(&[&row[..], &[0]].concat()), None);
        let wrong = |at: usize| {
            let mut row = row.clone();
            row[at] ^= 0x10;
            row
        };
        // Version, first key, first index, origin, count.
        for at in [0, 1, 34, 67, 68] {
            assert_eq!(again.restore(&wrong(at)), None, "byte {at}");
        }
        assert_eq!(again.count(), 0);
        assert!(again.restore(&row).is_some());
    }
}
