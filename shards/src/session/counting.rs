//! A stand-in for cryptography in the simulator: fast, worthless against anybody, and it counts.
//!
//! In:    see `crypto`.
//! Out:   see `crypto`; a panic when a number is sealed twice under one key (I4).
//! Holds: what is sealed differs from its plaintext; any change of key, number, header or bytes is refused.
//!
//! A secret key *is* its public key here, and a shared secret is a symmetric mix of two publics. Sealing is
//! remembered per thread and secret, so that two keys made of one secret are caught as well as one key used
//! twice: a new world on a thread begins with `forget_sealed`.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_codec::ids::{NodeId, PacketNumber};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{BoxedCryptoResolver, CryptoResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroizing;

use super::crypto::{
    BadIdentity, Crypto, Forged, HEADER_LEN, NONCE_LEN, OneDraw, PacketKey, StaticPublic, Suite, TAG_LEN,
};
use crate::identity::Identity;

/// The stand-in.
pub enum Counting {}

/// A packet key: four words, and what was sealed under them on this thread.
pub struct CountingKey {
    words: [u64; 4],
    sealed: Arc<Sealed>,
}

/// The node's static pair, whose halves are one.
#[derive(Clone)]
pub struct CountingStatic([u8; 32]);

impl Crypto for Counting {
    type Key = CountingKey;
    type Static = CountingStatic;

    fn key(suite: Suite, secret: &[u8; 32]) -> CountingKey {
        let mut words = words_of(secret);
        words[0] ^= u64::from(suite.byte());
        CountingKey { words, sealed: sealed_under(&words) }
    }

    fn static_pair(identity: &Identity) -> CountingStatic {
        CountingStatic(identity.id().0)
    }

    fn static_public(pair: &CountingStatic) -> StaticPublic {
        StaticPublic(pair.0)
    }

    fn static_secret(pair: &CountingStatic) -> &[u8; 32] {
        &pair.0
    }

    /// The identity itself. All zero is the bad one.
    fn public_of(id: &NodeId) -> Result<StaticPublic, BadIdentity> {
        if id.0 == [0; 32] { Err(BadIdentity::NotPrimeOrder) } else { Ok(StaticPublic(id.0)) }
    }

    fn resolver(_: &CountingStatic, ephemeral: Zeroizing<[u8; 32]>) -> BoxedCryptoResolver {
        Box::new(Resolver(Cell::new(Some(ephemeral))))
    }
}

impl PacketKey for CountingKey {
    fn seal(&self, number: PacketNumber, header: &[u8; HEADER_LEN], plain: &mut [u8]) -> [u8; TAG_LEN] {
        self.sealed.count(number.0);
        let start = Start::of(&self.words, number.0, u64::from_le_bytes(*header));
        start.apply(plain);
        start.tag(plain)
    }

    fn open(
        &self,
        number: PacketNumber,
        header: &[u8; HEADER_LEN],
        sealed: &mut [u8],
    ) -> Result<usize, Forged> {
        Start::of(&self.words, number.0, u64::from_le_bytes(*header)).open(sealed)
    }

    fn seal_once(&self, nonce: &[u8; NONCE_LEN], associated: &[u8], plain: &mut [u8]) -> [u8; TAG_LEN] {
        let start = Start::once(&self.words, nonce, associated);
        start.apply(plain);
        start.tag(plain)
    }

    fn open_once(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Forged> {
        Start::once(&self.words, nonce, associated).open(sealed)
    }
}

const ODD: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];

fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 32).wrapping_mul(ODD[3]);
    let word = (word ^ word >> 29).wrapping_mul(ODD[1]);
    word ^ word >> 32
}

fn words_of(bytes: &[u8; 32]) -> [u64; 4] {
    core::array::from_fn(|at| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8 * at..8 * at + 8]);
        u64::from_le_bytes(word)
    })
}

fn bytes_of(words: [u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (part, word) in bytes.chunks_exact_mut(8).zip(words) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Four lanes that each take every fourth word. Any change of one word changes its lane.
#[derive(Clone, Copy)]
struct Lanes([u64; 4]);

impl Lanes {
    fn absorb(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            self.block(words_of(block));
        }
        if !rest.is_empty() {
            let mut last = [0; 32];
            last[..rest.len()].copy_from_slice(rest);
            self.block(words_of(&last));
        }
        self.0[0] ^= (bytes.len() as u64).wrapping_mul(ODD[2]);
    }

    fn block(&mut self, words: [u64; 4]) {
        for ((lane, word), odd) in self.0.iter_mut().zip(words).zip(ODD) {
            *lane = (*lane ^ word).wrapping_mul(odd).rotate_left(29);
        }
    }

    fn finish(self) -> [u64; 4] {
        let [a, b, c, d] = self.0.map(mix);
        let all = mix(a ^ b.rotate_left(17) ^ c.rotate_left(31) ^ d.rotate_left(47));
        [a, b, c, d].map(|lane| mix(lane.wrapping_add(all)))
    }
}

/// Where sealing one packet begins: key, number and header in four words.
struct Start([u64; 4]);

impl Start {
    fn of(key: &[u64; 4], number: u64, header: u64) -> Self {
        let mut lanes = Lanes(*key);
        lanes.block([number, header, mix(number), mix(header)]);
        Self(lanes.finish())
    }

    fn once(key: &[u64; 4], nonce: &[u8], associated: &[u8]) -> Self {
        let mut lanes = Lanes(*key);
        lanes.absorb(nonce);
        lanes.absorb(associated);
        Self(lanes.finish())
    }

    /// Turns plaintext into ciphertext and back.
    fn apply(&self, bytes: &mut [u8]) {
        let (words, rest) = bytes.as_chunks_mut::<8>();
        let mut key = self.0[0];
        for word in words {
            *word = (u64::from_le_bytes(*word) ^ key).to_le_bytes();
            key = key.wrapping_add(self.0[1] | 1);
        }
        for (byte, key) in rest.iter_mut().zip(mix(key).to_le_bytes()) {
            *byte ^= key;
        }
    }

    fn tag(&self, sealed: &[u8]) -> [u8; TAG_LEN] {
        let mut lanes = Lanes(self.0);
        lanes.absorb(sealed);
        let [a, b, c, d] = lanes.finish();
        let mut tag = [0; TAG_LEN];
        tag[..8].copy_from_slice(&(a ^ c).to_le_bytes());
        tag[8..].copy_from_slice(&(b ^ d).to_le_bytes());
        tag
    }

    fn open(&self, sealed: &mut [u8]) -> Result<usize, Forged> {
        let (body, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
        if self.tag(body) != *tag {
            return Err(Forged);
        }
        self.apply(body);
        Ok(body.len())
    }
}

/// Which numbers a secret has sealed: the highest plus one, and the 64 up to it.
#[derive(Default)]
struct Sealed {
    end: AtomicU64,
    recent: AtomicU64,
}

impl Sealed {
    /// spec: atp/nonce-once
    fn count(&self, number: u64) {
        let (end, recent) = (self.end.load(Relaxed), self.recent.load(Relaxed));
        if number >= end {
            let step = number - end + 1;
            self.recent.store(if step < 64 { recent << step | 1 } else { 1 }, Relaxed);
            self.end.store(number + 1, Relaxed);
            return;
        }
        let back = end - 1 - number;
        assert!(back < 64 && recent >> back & 1 == 0, "packet {number} was sealed twice under one key (I4)");
        self.recent.store(recent | 1 << back, Relaxed);
    }
}

thread_local! {
    static SEALED: RefCell<BTreeMap<[u64; 2], Arc<Sealed>>> = const { RefCell::new(BTreeMap::new()) };
}

fn sealed_under(words: &[u64; 4]) -> Arc<Sealed> {
    let print = [mix(words[0]) ^ words[1].rotate_left(23), mix(words[2]) ^ words[3].rotate_left(41)];
    SEALED.with_borrow_mut(|sealed| Arc::clone(sealed.entry(print).or_default()))
}

/// Forgets on this thread what was sealed: a new world with a seed that an earlier one had draws the same
/// keys again, rightly.
pub fn forget_sealed() {
    SEALED.with_borrow_mut(BTreeMap::clear);
}

/// How many secrets were turned into keys on this thread since `forget_sealed`.
#[must_use]
pub fn secrets_count() -> usize {
    SEALED.with_borrow(BTreeMap::len)
}

/// The primitives of one handshake.
struct Resolver(Cell<Option<Zeroizing<[u8; 32]>>>);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneDraw::new(self.0.take()?)))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Agreement([0; 32])))
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(Digest(Lanes([0; 4]))))
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(HandshakeCipher([0; 4])))
    }
}

/// A key that is secret and public at once.
struct Agreement([u8; 32]);

impl Dh for Agreement {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        self.0.copy_from_slice(privkey);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        rng.try_fill_bytes(&mut self.0)
    }

    fn pubkey(&self) -> &[u8] {
        &self.0
    }

    fn privkey(&self) -> &[u8] {
        &self.0
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let theirs: &[u8; 32] = pubkey.first_chunk().ok_or(snow::Error::Dh)?;
        if *theirs == [0; 32] {
            return Err(snow::Error::Dh);
        }
        let (ours, theirs) = (words_of(&self.0), words_of(theirs));
        let shared = core::array::from_fn(|at| {
            let product = mix(ours[at]).wrapping_mul(mix(theirs[at]));
            mix(ours[at].wrapping_add(theirs[at]) ^ mix(product))
        });
        out[..32].copy_from_slice(&bytes_of(shared));
        Ok(())
    }
}

/// An AEAD of words. Its keys are counted by nobody: each seals the message at whose place in the handshake
/// it stands.
struct HandshakeCipher([u64; 4]);

impl HandshakeCipher {
    fn start(&self, nonce: u64, authtext: &[u8]) -> Start {
        Start::once(&self.0, &nonce.to_le_bytes(), authtext)
    }
}

impl Cipher for HandshakeCipher {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = words_of(key);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let start = self.start(nonce, authtext);
        let (body, tag) = out.split_at_mut(plaintext.len());
        body.copy_from_slice(plaintext);
        start.apply(body);
        tag[..TAG_LEN].copy_from_slice(&start.tag(body));
        plaintext.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let (body, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(snow::Error::Decrypt)?;
        let start = self.start(nonce, authtext);
        let plain = out.get_mut(..body.len()).ok_or(snow::Error::Decrypt)?;
        if start.tag(body) != *tag {
            return Err(snow::Error::Decrypt);
        }
        plain.copy_from_slice(body);
        start.apply(plain);
        Ok(body.len())
    }
}

/// A checksum with SHA-256's sizes.
struct Digest(Lanes);

impl Hash for Digest {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Lanes(ODD);
    }

    fn input(&mut self, data: &[u8]) {
        self.0.absorb(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&bytes_of(self.0.finish()));
        self.reset();
    }

    /// One pass instead of HMAC's two.
    fn hmac(&mut self, key: &[u8], data: &[u8], out: &mut [u8]) {
        let mut lanes = Lanes(ODD);
        lanes.absorb(key);
        lanes.absorb(data);
        out[..32].copy_from_slice(&bytes_of(lanes.finish()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> CountingKey {
        Counting::key(Suite::AesGcm, &[byte; 32])
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_any_change_is_noticed(
            plain in proptest::collection::vec(any::<u8>(), 0..200),
            number: u64,
            header: [u8; 8],
            at: proptest::sample::Index,
            bit in 0..8u32,
        ) {
            forget_sealed();
            let (key, number) = (key(1), PacketNumber(number >> 1));
            let mut sealed = plain.clone();
            let tag = key.seal(number, &header, &mut sealed);
            prop_assert!(plain.len() < 8 || sealed != plain);
            sealed.extend(tag);
            let mut other = header;
            other[at.index(8)] ^= 1u8 << bit;
            prop_assert_eq!(key.open(number, &other, &mut sealed.clone()), Err(Forged));
            prop_assert_eq!(key.open(PacketNumber(number.0 ^ 1u64 << bit), &header, &mut sealed.clone()), Err(Forged));
            prop_assert_eq!(super::tests::key(2).open(number, &header, &mut sealed.clone()), Err(Forged));
            let mut changed = sealed.clone();
            changed[at.index(sealed.len())] ^= 1u8 << bit;
            prop_assert_eq!(key.open(number, &header, &mut changed), Err(Forged));
            prop_assert_eq!(key.open(number, &header, &mut sealed[1..].to_vec()), Err(Forged));
            prop_assert_eq!(key.open(number, &header, &mut sealed), Ok(plain.len()));
            prop_assert_eq!(&sealed[..plain.len()], &plain[..]);
        }
    }

    /// spec: atp/nonce-once
    #[test]
    #[should_panic(expected = "packet 7 was sealed twice")]
    fn a_number_is_sealed_once_per_key() {
        forget_sealed();
        let key = key(3);
        for number in [5, 7, 6, 90, 91] {
            let _ = key.seal(PacketNumber(number), &[0; 8], &mut []);
        }
        for number in [29, 7] {
            let _ = key.seal(PacketNumber(number), &[0; 8], &mut []);
        }
    }

    /// spec: atp/nonce-once
    #[test]
    #[should_panic(expected = "packet 0 was sealed twice")]
    fn two_keys_of_one_secret_count_together() {
        forget_sealed();
        let _ = key(4).seal(PacketNumber(0), &[0; 8], &mut []);
        let _ = key(4).seal(PacketNumber(0), &[1; 8], &mut []);
    }

    #[test]
    fn other_keys_and_new_worlds_count_apart() {
        forget_sealed();
        let _ = key(5).seal(PacketNumber(0), &[0; 8], &mut []);
        let _ = key(6).seal(PacketNumber(0), &[0; 8], &mut []);
        assert_eq!(secrets_count(), 2);
        forget_sealed();
        let _ = key(5).seal(PacketNumber(0), &[0; 8], &mut []);
    }

    #[test]
    fn agreement_is_symmetric_and_refuses_zero() {
        let (near, far) = (Agreement([1; 32]), Agreement([2; 32]));
        let (mut one, mut two) = ([0; 56], [0; 56]);
        near.dh(far.pubkey(), &mut one).unwrap();
        far.dh(near.pubkey(), &mut two).unwrap();
        assert_eq!(one, two);
        assert_ne!(one[..32], [0; 32]);
        assert!(near.dh(&[0; 32], &mut one).is_err());
    }
}
