//! Whoever follows a chain: what counts, what waits, what freezes.

use dunlin_codec::record::INCEPTION_LEN;

use super::*;
use crate::identity::{Identity, inception};

const NOW: WallMillis = WallMillis(1_760_000_000_000);
const HOUR: u64 = 3_600_000;

fn key(byte: u8) -> Identity {
    Identity::from_seed([byte; 32])
}

fn id(byte: u8) -> NodeId {
    key(byte).id()
}

/// A change from one key to another, announcing a third.
fn change([current, new, next]: [u8; 3], index: u16, time_ms: u64) -> SignedChange {
    SignedChange::sign((&key(current), &key(new)), &id(next), (index, time_ms))
}

/// An inception as it stands in a record.
struct Told([u8; INCEPTION_LEN]);

impl Told {
    fn new(first: u8, next: u8) -> Self {
        Self(inception::write(&key(first), &id(next)))
    }

    fn inception(&self) -> Inception<'_> {
        let (rest, signature) = self.0.split_last_chunk().unwrap();
        let (rest, next_hash) = rest.split_last_chunk().unwrap();
        Inception { key: NodeId(*rest.last_chunk().unwrap()), next_hash, signature }
    }
}

/// Chains that know of a key and what it announced.
fn begun(first: u8, next: u8) -> KeyChains {
    let mut chains = KeyChains::default();
    assert_eq!(chains.on_inception(&Told::new(first, next).inception(), NOW), Ok(()));
    chains
}

fn news(chains: &mut KeyChains) -> Vec<News> {
    core::iter::from_fn(|| chains.poll_news()).collect()
}

/// spec: p2p/key-chain
#[test]
fn an_announced_key_is_followed_step_by_step() {
    let mut chains = begun(1, 2);
    let first = change([1, 2, 3], 1, NOW.0);
    assert_eq!(chains.on_change(&first, NOW, Word::Rumour), Ok(()));
    let later = WallMillis(NOW.0 + HOUR);
    assert_eq!(chains.on_change(&change([2, 3, 4], 2, later.0), later, Word::Rumour), Ok(()));
    assert_eq!((chains.present(&id(1)), chains.present(&id(2))), (id(3), id(3)));
    assert!(chains.kin().is_same(&id(1), &id(3)) && !chains.kin().is_same(&id(1), &id(4)));
    let followed = |old, new| News::Followed { old: id(old), new: id(new) };
    assert_eq!(news(&mut chains), [followed(1, 2), followed(2, 3)]);
}

/// A replayed change says nothing new, and is not refused even when its day is over.
/// spec: p2p/key-chain
#[test]
fn a_replay_changes_nothing() {
    let mut chains = begun(1, 2);
    let first = change([1, 2, 3], 1, NOW.0);
    chains.on_change(&first, NOW, Word::Rumour).unwrap();
    news(&mut chains);
    for at in [NOW.0, NOW.0 + 25 * HOUR] {
        assert_eq!(chains.on_change(&first, WallMillis(at), Word::Rumour), Ok(()));
    }
    assert!(news(&mut chains).is_empty());
}

/// spec: p2p/key-chain
#[test]
fn a_thief_of_the_current_key_cannot_rotate_it() {
    let mut chains = begun(1, 2);
    let stolen = change([1, 7, 8], 1, NOW.0);
    assert_eq!(chains.on_change(&stolen, NOW, Word::Rumour), Err(BadChange::Commitment));
    assert_eq!(chains.on_change(&stolen, NOW, Word::Of(id(1))), Err(BadChange::Commitment));
    assert_eq!(chains.present(&id(1)), id(1));
    assert_eq!(chains.on_change(&change([1, 2, 3], 1, NOW.0), NOW, Word::Rumour), Ok(()));
    assert_eq!(chains.on_change(&stolen, NOW, Word::Rumour), Err(BadChange::Commitment));
    assert_eq!(chains.present(&id(1)), id(2), "and cannot freeze the chain of whoever did");
}

/// spec: p2p/key-chain
#[test]
fn a_change_is_told_within_a_day() {
    let at = |now: u64| begun(1, 2).on_change(&change([1, 2, 3], 1, NOW.0), WallMillis(now), Word::Rumour);
    assert_eq!(at(NOW.0 + 24 * HOUR), Ok(()));
    assert_eq!(at(NOW.0 + 24 * HOUR + 1), Err(BadChange::Time));
    assert_eq!(at(NOW.0 - 120_000), Ok(()));
    assert_eq!(at(NOW.0 - 120_001), Err(BadChange::Time));
}

/// spec: p2p/key-chain
#[test]
fn indexes_go_up_by_one_and_end() {
    for index in [2, 3, u16::MAX] {
        let refused = begun(1, 2).on_change(&change([1, 2, 3], index, NOW.0), NOW, Word::Rumour);
        assert_eq!(refused, Err(BadChange::Index), "{index}");
    }
    let told = |index| KeyChains::default().on_change(&change([1, 2, 3], index, NOW.0), NOW, Word::Of(id(1)));
    assert_eq!((told(64), told(65)), (Ok(()), Err(BadChange::Index)));
    let mut chains = KeyChains::default();
    chains.on_change(&change([1, 2, 3], 64, NOW.0), NOW, Word::Of(id(1))).unwrap();
    let later = WallMillis(NOW.0 + HOUR);
    assert_eq!(chains.on_change(&change([2, 3, 4], 65, later.0), later, Word::Rumour), Err(BadChange::Index));
}

/// spec: p2p/key-chain
#[test]
fn a_key_lasts_an_hour() {
    let mut chains = begun(1, 2);
    chains.on_change(&change([1, 2, 3], 1, NOW.0), NOW, Word::Rumour).unwrap();
    let later = WallMillis(NOW.0 + HOUR);
    let soon = change([2, 3, 4], 2, later.0 - 1);
    assert_eq!(chains.on_change(&soon, later, Word::Rumour), Err(BadChange::TooSoon));
    assert_eq!(chains.on_change(&change([2, 3, 4], 2, later.0), later, Word::Rumour), Ok(()));
}

/// spec: p2p/key-chain
#[test]
fn nothing_is_followed_that_was_not_signed() {
    let mut chains = begun(1, 2);
    let signed = change([1, 2, 3], 1, NOW.0);
    for at in [80, 110, 170, 233] {
        let mut bytes = signed.to_bytes();
        bytes[at] ^= 1;
        let changed = SignedChange::from_bytes(&bytes).unwrap();
        assert_eq!(chains.on_change(&changed, NOW, Word::Rumour), Err(BadChange::Signature), "byte {at}");
    }
    let told = Told::new(9, 8);
    let mut bytes = told.0;
    bytes[60] ^= 1;
    assert_eq!(chains.on_inception(&Told(bytes).inception(), NOW), Err(BadChange::Signature));
    assert_eq!(chains.count(), 1);
}

/// Two successors: both keys made two changes. Nobody of the chain is followed any more, and both are kept.
/// spec: p2p/key-chain
#[test]
fn a_fork_freezes_the_chain() {
    let mut chains = begun(1, 2);
    let (one, other) = (change([1, 2, 3], 1, NOW.0), change([1, 2, 4], 1, NOW.0 + 1));
    chains.on_change(&one, NOW, Word::Rumour).unwrap();
    news(&mut chains);
    assert_eq!(chains.on_change(&other, NOW, Word::Rumour), Err(BadChange::Forked));
    assert_eq!(news(&mut chains), [News::Frozen(id(1))]);
    assert_eq!((chains.present(&id(1)), chains.present(&id(2))), (id(1), id(2)));
    assert!(!chains.kin().is_same(&id(1), &id(2)));
    let fork = Fork { first: one.to_bytes().into(), second: other.to_bytes().into() };
    assert_eq!(chains.fork_of(&id(2)), Some(&fork));
    let later = WallMillis(NOW.0 + HOUR);
    let next = change([2, 3, 5], 2, later.0);
    assert_eq!(chains.on_change(&next, later, Word::Rumour), Err(BadChange::Frozen));
    assert_eq!(chains.on_change(&next, later, Word::Of(id(2))), Err(BadChange::Frozen));
}

/// spec: p2p/key-chain
#[test]
fn two_inceptions_freeze_the_chain() {
    let mut chains = begun(1, 2);
    let (first, second) = (Told::new(1, 2), Told::new(1, 7));
    assert_eq!(chains.on_inception(&first.inception(), NOW), Ok(()), "the same again");
    assert_eq!(chains.on_inception(&second.inception(), NOW), Err(BadChange::Forked));
    let fork = Fork { first: first.0.into(), second: second.0.into() };
    assert_eq!(chains.fork_of(&id(1)), Some(&fork));
    let refused = chains.on_change(&change([1, 2, 3], 1, NOW.0), NOW, Word::Rumour);
    assert_eq!(refused, Err(BadChange::Frozen));
}

/// A rumour of a key of which nothing is known waits for its inception; several steps wait for each other.
/// spec: p2p/key-chain
#[test]
fn a_rumour_waits_for_what_it_builds_on() {
    let mut chains = KeyChains::default();
    let later = WallMillis(NOW.0 + HOUR);
    let steps = [change([2, 3, 4], 2, later.0), change([1, 2, 3], 1, NOW.0), change([1, 7, 8], 1, NOW.0)];
    for step in &steps {
        assert_eq!(chains.on_change(step, later, Word::Rumour), Err(BadChange::Unanchored));
    }
    assert_eq!(chains.present(&id(1)), id(1));
    assert_eq!(chains.on_inception(&Told::new(1, 2).inception(), later), Ok(()));
    assert_eq!(chains.present(&id(1)), id(3));
}

#[test]
fn rumours_that_wait_are_bounded() {
    let mut chains = KeyChains::default();
    for byte in 1..=(KEY_CHANGES_WAITING_MAX as u8 + 20) {
        let step = change([byte, byte + 100, 255], 1, NOW.0);
        assert_eq!(chains.on_change(&step, NOW, Word::Rumour), Err(BadChange::Unanchored));
    }
    assert_eq!(chains.waiting.len(), KEY_CHANGES_WAITING_MAX);
}

/// The session of a key that was called speaks for that key, as long as nothing else is known; what is known later counts more.
/// spec: p2p/key-chain
#[test]
fn whoever_was_called_may_say_who_it_is_now() {
    let stepped = || {
        let mut chains = KeyChains::default();
        let step = change([1, 2, 3], 1, NOW.0);
        assert_eq!(chains.on_change(&step, NOW, Word::Of(id(2))), Err(BadChange::Unanchored));
        assert_eq!(chains.on_change(&step, NOW, Word::Of(id(1))), Ok(()));
        chains
    };
    let mut chains = stepped();
    assert_eq!(chains.on_inception(&Told::new(1, 2).inception(), NOW), Ok(()));
    assert_eq!(chains.present(&id(1)), id(2));
    let mut chains = stepped();
    assert_eq!(chains.on_inception(&Told::new(1, 7).inception(), NOW), Err(BadChange::Forked));
    assert_eq!(chains.present(&id(1)), id(1));
    let mut chains = stepped();
    let other = change([1, 8, 9], 1, NOW.0);
    assert_eq!(chains.on_change(&other, NOW, Word::Rumour), Err(BadChange::Forked));
    assert_eq!(chains.present(&id(1)), id(1));
}

#[test]
fn nobody_takes_over_a_key_of_somebody_else() {
    let mut chains = begun(1, 2);
    chains.on_inception(&Told::new(5, 1).inception(), NOW).unwrap();
    let refused = chains.on_change(&change([5, 1, 6], 1, NOW.0), NOW, Word::Rumour);
    assert_eq!(refused, Err(BadChange::InUse));
    // Nor does a key come back.
    chains.on_change(&change([1, 2, 1], 1, NOW.0), NOW, Word::Rumour).unwrap();
    let later = WallMillis(NOW.0 + HOUR);
    let back = chains.on_change(&change([2, 1, 3], 2, later.0), later, Word::Rumour);
    assert_eq!(back, Err(BadChange::InUse));
}

/// A chain along which nobody was followed makes room; the others stay.
#[test]
fn chains_are_bounded() {
    let mut chains = begun(1, 2);
    chains.on_change(&change([1, 2, 3], 1, NOW.0), NOW, Word::Rumour).unwrap();
    for number in 0..KEY_CHAINS_MAX as u64 + 10 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        let origin = Origin::Inception([0; 64]);
        chains.begin(Link { key: NodeId(key), index: 0, next_hash: [0; 32], origin }).unwrap();
    }
    assert_eq!((chains.count(), chains.places.len()), (KEY_CHAINS_MAX, KEY_CHAINS_MAX + 1));
    assert_eq!(chains.present(&id(1)), id(2));
}
