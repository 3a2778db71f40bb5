//! Chains of keys: which key follows which, for everybody of whom it was heard (T21).
//!
//! In:    inceptions out of node records, signed changes, who said so.
//! Out:   the present key of an old one; word of each that was followed, and of each chain that froze.
//! Holds: a change counts only with both signatures, at the next index, made within a day, at least an hour after the one
//!        before, and to the key that was committed to beforehand: a thief of the current key cannot rotate it. Two
//!        inceptions of a key, or two successors, freeze its chain: nobody of it is followed from then on, and what was
//!        seen is kept.
//!
//! Whoever is called by a key of which nothing was known before takes the word of the session that proves that key: its
//! holder could as well have shown an inception, made a moment ago. A rumour does not get that far: it waits for the
//! inception, or the change, that it builds on.
//!
//! spec: p2p/key-chain

mod rows;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dunlin_codec::ids::NodeId;
use dunlin_codec::record::{Inception, KeyChange};

use super::change::SignedChange;
use super::inception::{self, commitment};
use super::{BadSignature, SIGNATURE_LEN};
use crate::limits::{
    KEY_CHAIN_LEN_MAX, KEY_CHAINS_MAX, KEY_CHANGE_INTERVAL_MIN, KEY_CHANGE_LIFE, KEY_CHANGE_SKEW,
    KEY_CHANGES_WAITING_MAX,
};
use crate::time::WallMillis;

/// Why a change, or an inception, counts for nothing. Its maker's fault, unless it says otherwise; nothing was changed but for
/// [`BadChange::Forked`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadChange {
    /// One of the keys did not sign it.
    #[error("a signature of the key change does not hold")]
    Signature,
    /// It was made more than a day ago, or in the future.
    #[error("the key change was made more than a day ago, or in the future")]
    Time,
    /// Its key changed less than an hour before.
    #[error("the key changed less than an hour before")]
    TooSoon,
    /// It is not the next one of its chain.
    #[error("the key change is not the next one of its chain")]
    Index,
    /// The new key is not the one that was committed to.
    #[error("the new key is not the one that was announced beforehand")]
    Commitment,
    /// The new key has a past of its own.
    #[error("the new key belongs to somebody already")]
    InUse,
    /// The chain froze before.
    #[error("the key's chain is frozen")]
    Frozen,
    /// It proves that somebody else has the key as well: the chain froze.
    #[error("the key has two successors, or two inceptions: its chain is frozen")]
    Forked,
    /// What the key committed to is not known: the change waits. Nobody's fault.
    #[error("what the current key announced beforehand is not known here")]
    Unanchored,
    /// There is no room for another chain. Nobody's fault.
    #[error("too many chains of keys are remembered")]
    Full,
}

impl From<BadSignature> for BadChange {
    fn from(_: BadSignature) -> Self {
        Self::Signature
    }
}

/// Whose word a change is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// Somebody's, who may have heard it from others.
    Rumour,
    /// That of a session which proved to have this key.
    Of(NodeId),
}

/// What became known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    /// A key follows another.
    Followed {
        /// Until now.
        old: NodeId,
        /// From now on.
        new: NodeId,
    },
    /// Two have this key: it, and all of its chain, is not followed any more.
    Frozen(NodeId),
}

/// What made a chain freeze: two inceptions of 147 bytes, two changes of 234, or one of each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fork {
    /// What was known first.
    pub first: Box<[u8]>,
    /// What came later.
    pub second: Box<[u8]>,
}

/// Where a key of a chain comes from.
#[derive(Clone, Debug)]
enum Origin {
    /// It is the first, and said so.
    Inception([u8; SIGNATURE_LEN]),
    /// It was the first that was heard of; what it committed to is what it did.
    Session,
    /// It was ours: we know that what followed it is what it committed to.
    Own,
    /// It follows the one before.
    Change(Box<SignedChange>),
}

#[derive(Clone, Debug)]
struct Link {
    key: NodeId,
    index: u16,
    next_hash: [u8; 32],
    origin: Origin,
}

#[derive(Clone, Debug)]
struct Chain {
    links: Vec<Link>,
    fork: Option<Fork>,
}

/// All chains that a node has heard of.
#[derive(Debug, Default)]
pub struct KeyChains {
    /// Where a key stands: its chain.
    places: BTreeMap<NodeId, u64>,
    /// By number, the oldest first.
    chains: BTreeMap<u64, Chain>,
    numbers: u64,
    /// Changes whose signatures held, of keys of which nothing is known.
    waiting: VecDeque<SignedChange>,
    news: VecDeque<News>,
}

/// Which keys became which, as of a moment: what shards go by that do not have the chains themselves.
#[derive(Clone, Debug, Default)]
pub struct Kin(Arc<BTreeMap<NodeId, NodeId>>);

impl Kin {
    /// The key that a key's holder has by now.
    #[must_use]
    pub fn present(&self, key: &NodeId) -> NodeId {
        self.0.get(key).copied().unwrap_or(*key)
    }

    /// Whether two keys are one holder's.
    #[must_use]
    pub fn is_same(&self, one: &NodeId, other: &NodeId) -> bool {
        one == other || self.present(one) == self.present(other)
    }
}

const fn millis(duration: core::time::Duration) -> u64 {
    duration.as_millis() as u64
}

impl Link {
    fn bytes(&self) -> Box<[u8]> {
        match &self.origin {
            Origin::Inception(signature) => {
                Inception { key: self.key, next_hash: &self.next_hash, signature }.to_bytes().into()
            }
            Origin::Session | Origin::Own => Box::default(),
            Origin::Change(signed) => signed.to_bytes().into(),
        }
    }

    /// The rules that the key before sets: next index, announced key, not too soon.
    fn check_next(&self, change: &KeyChange) -> Result<(), BadChange> {
        let is_next = u32::from(change.index) == u32::from(self.index) + 1;
        if !is_next || usize::from(change.index) > KEY_CHAIN_LEN_MAX {
            return Err(BadChange::Index);
        }
        if commitment(&change.new) != self.next_hash {
            return Err(BadChange::Commitment);
        }
        match &self.origin {
            Origin::Change(before)
                if change.time_ms < before.change.time_ms.saturating_add(millis(KEY_CHANGE_INTERVAL_MIN)) =>
            {
                Err(BadChange::TooSoon)
            }
            _ => Ok(()),
        }
    }
}

impl Chain {
    fn position(&self, key: &NodeId) -> Option<usize> {
        self.links.iter().position(|link| link.key == *key)
    }

    fn is_single(&self) -> bool {
        self.links.len() == 1 && self.fork.is_none()
    }
}

impl KeyChains {
    fn chain_of(&self, key: &NodeId) -> Option<&Chain> {
        self.chains.get(self.places.get(key)?)
    }

    /// Chains that are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.chains.len()
    }

    /// The key that a key's holder has by now, as far as was heard; itself when nothing was, or its chain froze.
    #[must_use]
    pub fn present(&self, key: &NodeId) -> NodeId {
        let chain = self.chain_of(key).filter(|chain| chain.fork.is_none());
        chain.and_then(|chain| chain.links.last()).map_or(*key, |link| link.key)
    }

    /// Whether two keys are one holder's.
    #[must_use]
    pub fn is_same(&self, one: &NodeId, other: &NodeId) -> bool {
        one == other || self.present(one) == self.present(other)
    }

    /// All keys that became others.
    #[must_use]
    pub fn kin(&self) -> Kin {
        let chains = self.chains.values().filter(|chain| chain.fork.is_none());
        let pairs = chains
            .filter_map(|chain| chain.links.split_last())
            .flat_map(|(last, before)| before.iter().map(|link| (link.key, last.key)));
        Kin(Arc::new(pairs.collect()))
    }

    /// What made the chain of a key freeze; none: it did not.
    #[must_use]
    pub fn fork_of(&self, key: &NodeId) -> Option<&Fork> {
        self.chain_of(key)?.fork.as_ref()
    }

    /// The next thing that became known.
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// A node's record had an inception. Its signature is looked at once, some 30 us.
    ///
    /// # Errors
    /// Why it counts for nothing. `Forked`: the key had another, and its chain is frozen now.
    pub fn on_inception(&mut self, told: &Inception<'_>, now: WallMillis) -> Result<(), BadChange> {
        let Some(&number) = self.places.get(&told.key) else {
            check_inception(told)?;
            let origin = Origin::Inception(*told.signature);
            self.begin(Link { key: told.key, index: 0, next_hash: *told.next_hash, origin })?;
            self.retry(told.key, now);
            return Ok(());
        };
        let link = self.chains.get_mut(&number).and_then(|chain| chain.links.first_mut());
        let link = link.filter(|link| link.key == told.key && link.index == 0).ok_or(BadChange::Index)?;
        let is_same = link.next_hash == *told.next_hash;
        match link.origin {
            Origin::Inception(_) if is_same => return Ok(()),
            _ => check_inception(told)?,
        }
        if is_same {
            link.origin = Origin::Inception(*told.signature);
            return Ok(());
        }
        let known = match link.origin {
            Origin::Session | Origin::Own => self.links_of(number).get(1).map(Link::bytes),
            _ => self.links_of(number).first().map(Link::bytes),
        };
        self.freeze(number, known, told.to_bytes().into());
        Err(BadChange::Forked)
    }

    /// Somebody says that a key follows another. One that is known counts as nothing new, whenever it comes.
    ///
    /// # Errors
    /// Why it counts for nothing. `Forked`: the key had another successor, and its chain is frozen now.
    pub fn on_change(&mut self, signed: &SignedChange, now: WallMillis, word: Word) -> Result<(), BadChange> {
        let change = &signed.change;
        let place = self.places.get(&change.current).copied();
        let Some((number, at)) = place.and_then(|number| Some((number, self.position(number, change)?)))
        else {
            check_time(change, now)?;
            return self.on_unknown(signed, now, word);
        };
        let links = self.links_of(number);
        let next = links.get(at + 1);
        if next.is_some_and(|link| matches!(&link.origin, Origin::Change(of) if of.change == *change)) {
            return Ok(());
        }
        if self.chains.get(&number).is_some_and(|chain| chain.fork.is_some()) {
            return Err(BadChange::Frozen);
        }
        check_time(change, now)?;
        match (links[at].check_next(change), next) {
            (Ok(()), None) => {
                self.check_free(&change.new)?;
                signed.verify()?;
                self.follow(number, signed, now);
                Ok(())
            }
            // What the first session said is no commitment: another successor shows that two have the key.
            (Ok(()), Some(_)) => self.fork(number, at, signed),
            (Err(BadChange::Commitment), Some(_)) if matches!(links[at].origin, Origin::Session) => {
                self.fork(number, at, signed)
            }
            (Err(why), _) => Err(why),
        }
    }

    /// Our own key followed another. A thief of that one cannot make us doubt it.
    ///
    /// # Errors
    /// Why it counts for nothing, as far as others are concerned.
    pub fn on_own_change(&mut self, signed: &SignedChange) -> Result<(), BadChange> {
        let change = &signed.change;
        let made = WallMillis(change.time_ms);
        if !self.places.contains_key(&change.current) {
            let (key, index) = (change.current, change.index.saturating_sub(1));
            let next_hash = commitment(&change.new);
            self.begin(Link { key, index, next_hash, origin: Origin::Own })?;
        }
        self.on_change(signed, made, Word::Of(change.current))
    }

    fn links_of(&self, number: u64) -> &[Link] {
        self.chains.get(&number).map_or(&[], |chain| &chain.links)
    }

    fn position(&self, number: u64, change: &KeyChange) -> Option<usize> {
        self.chains.get(&number)?.position(&change.current)
    }

    /// Nothing is known of the current key.
    fn on_unknown(&mut self, signed: &SignedChange, now: WallMillis, word: Word) -> Result<(), BadChange> {
        let change = &signed.change;
        self.check_free(&change.new)?;
        signed.verify()?;
        if word != Word::Of(change.current) {
            if self.waiting.len() >= KEY_CHANGES_WAITING_MAX {
                self.waiting.pop_front();
            }
            self.waiting.retain(|waits| waits.change != *change);
            self.waiting.push_back(*signed);
            return Err(BadChange::Unanchored);
        }
        if usize::from(change.index) > KEY_CHAIN_LEN_MAX {
            return Err(BadChange::Index);
        }
        let (key, index) = (change.current, change.index - 1);
        let next_hash = commitment(&change.new);
        let number = self.begin(Link { key, index, next_hash, origin: Origin::Session })?;
        self.follow(number, signed, now);
        Ok(())
    }

    fn check_free(&self, key: &NodeId) -> Result<(), BadChange> {
        if self.places.contains_key(key) { Err(BadChange::InUse) } else { Ok(()) }
    }

    /// A new chain; one that nobody was followed along makes room.
    fn begin(&mut self, link: Link) -> Result<u64, BadChange> {
        if self.chains.len() >= KEY_CHAINS_MAX {
            let single = self.chains.iter().find(|(_, chain)| chain.is_single()).map(|(number, _)| *number);
            let gone = single.and_then(|number| self.chains.remove(&number)).ok_or(BadChange::Full)?;
            for link in &gone.links {
                self.places.remove(&link.key);
            }
        }
        self.numbers += 1;
        self.places.insert(link.key, self.numbers);
        self.chains.insert(self.numbers, Chain { links: vec![link], fork: None });
        Ok(self.numbers)
    }

    fn follow(&mut self, number: u64, signed: &SignedChange, now: WallMillis) {
        let KeyChange { current: old, new, index, next_hash, .. } = signed.change;
        let Some(chain) = self.chains.get_mut(&number) else { return };
        chain.links.push(Link { key: new, index, next_hash, origin: Origin::Change(Box::new(*signed)) });
        self.places.insert(new, number);
        self.news.push_back(News::Followed { old, new });
        self.retry(new, now);
    }

    /// The key's past is known now: what waited for it may count. What was made too long ago by then does not.
    fn retry(&mut self, key: NodeId, now: WallMillis) {
        while let Some(at) = self.waiting.iter().position(|waits| waits.change.current == key)
            && let Some(signed) = self.waiting.remove(at)
        {
            // Should it not count, it is as if it had come only now.
            let _ = self.on_change(&signed, now, Word::Rumour);
        }
    }

    /// Another successor, if both keys signed it.
    fn fork(&mut self, number: u64, at: usize, signed: &SignedChange) -> Result<(), BadChange> {
        signed.verify()?;
        let first = self.links_of(number).get(at + 1).map(Link::bytes);
        self.freeze(number, first, signed.to_bytes().into());
        Err(BadChange::Forked)
    }

    fn freeze(&mut self, number: u64, first: Option<Box<[u8]>>, second: Box<[u8]>) {
        let Some(chain) = self.chains.get_mut(&number).filter(|chain| chain.fork.is_none()) else { return };
        chain.fork = Some(Fork { first: first.unwrap_or_default(), second });
        if let Some(link) = chain.links.first() {
            self.news.push_back(News::Frozen(link.key));
        }
    }
}

fn check_inception(told: &Inception<'_>) -> Result<(), BadChange> {
    inception::read(&told.to_bytes()).map(drop).map_err(|_| BadChange::Signature)
}

fn check_time(change: &KeyChange, now: WallMillis) -> Result<(), BadChange> {
    let is_early = change.time_ms > now.0.saturating_add(millis(KEY_CHANGE_SKEW));
    let is_late = change.time_ms.saturating_add(millis(KEY_CHANGE_LIFE)) < now.0;
    if is_early || is_late { Err(BadChange::Time) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
