//! The session's state machine among liars: nothing is sealed, so that a changed byte is as good as a peer that wrote it so.
//!
//! In:    a list of operations, `Inject` among them.
//! Out:   a panic of the shard's, memory or sessions beyond their bounds, or work without end.
//! Holds: handshakes and packets go through the production code; only the tags are worthless.

use core::time::Duration;

use dunlin_codec::frame::Frames;
use dunlin_codec::ids::{NodeId, PacketNumber};
use dunlin_shards::identity::Identity;
use dunlin_shards::session::counting::{Counting, CountingStatic, forget_sealed};
use dunlin_shards::session::crypto::{
    BadIdentity, Crypto, Forged, HEADER_LEN, NONCE_LEN, PacketKey, StaticPublic, Suite, TAG_LEN,
};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{BoxedCryptoResolver, CryptoResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroizing;

use super::network::Network;
use super::node::Choice;
use super::operations::perform;

/// The tag of everything.
pub(crate) const TAG: [u8; TAG_LEN] = *b"no tag, no check";
/// How long the run goes on afterwards, with all that came of it.
const AFTERWARDS: Duration = Duration::from_secs(60);

/// Cryptography that hides and proves nothing.
enum Bare {}

/// A packet key.
struct BareKey;

impl Crypto for Bare {
    type Key = BareKey;
    type Static = CountingStatic;

    fn key(_: Suite, _: &[u8; 32]) -> BareKey {
        BareKey
    }

    fn static_pair(identity: &Identity) -> CountingStatic {
        Counting::static_pair(identity)
    }

    fn static_public(pair: &CountingStatic) -> StaticPublic {
        Counting::static_public(pair)
    }

    fn static_secret(pair: &CountingStatic) -> &[u8; 32] {
        Counting::static_secret(pair)
    }

    fn public_of(id: &NodeId) -> Result<StaticPublic, BadIdentity> {
        Counting::public_of(id)
    }

    fn resolver(pair: &CountingStatic, ephemeral: Zeroizing<[u8; 32]>) -> BoxedCryptoResolver {
        Box::new(BareResolver(Counting::resolver(pair, ephemeral)))
    }
}

fn checked(sealed: &[u8]) -> Option<&[u8]> {
    sealed.split_last_chunk().filter(|(_, tag)| **tag == TAG).map(|(body, _)| body)
}

impl PacketKey for BareKey {
    fn seal(&self, _: PacketNumber, _: &[u8; HEADER_LEN], plain: &mut [u8]) -> [u8; TAG_LEN] {
        assert!(Frames::new(plain).all(|frame| frame.is_ok()), "a shard seals frames that can be read");
        TAG
    }

    fn open(&self, _: PacketNumber, _: &[u8; HEADER_LEN], sealed: &mut [u8]) -> Result<usize, Forged> {
        checked(sealed).map(<[u8]>::len).ok_or(Forged)
    }

    fn seal_once(&self, _: &[u8; NONCE_LEN], _: &[u8], _: &mut [u8]) -> [u8; TAG_LEN] {
        TAG
    }

    fn open_once(&self, _: &[u8; NONCE_LEN], _: &[u8], sealed: &mut [u8]) -> Result<usize, Forged> {
        checked(sealed).map(<[u8]>::len).ok_or(Forged)
    }
}

/// The counting primitives but for the cipher.
struct BareResolver(BoxedCryptoResolver);

impl CryptoResolver for BareResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        self.0.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        self.0.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        self.0.resolve_hash(choice)
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(BareCipher))
    }
}

/// The cipher of a handshake.
struct BareCipher;

impl Cipher for BareCipher {
    fn name(&self) -> &'static str {
        "bare"
    }

    fn set(&mut self, _: &[u8; 32]) {}

    fn encrypt(&self, _: u64, _: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (body, tag) = out.split_at_mut(plaintext.len());
        body.copy_from_slice(plaintext);
        tag[..TAG_LEN].copy_from_slice(&TAG);
        plaintext.len() + TAG_LEN
    }

    fn decrypt(&self, _: u64, _: &[u8], ciphertext: &[u8], out: &mut [u8]) -> Result<usize, snow::Error> {
        let body = checked(ciphertext).ok_or(snow::Error::Decrypt)?;
        out.get_mut(..body.len()).ok_or(snow::Error::Decrypt)?.copy_from_slice(body);
        Ok(body.len())
    }
}

/// A list of operations, in a world where everybody can write everybody's packets.
pub fn hostile(input: &[u8]) {
    let Some((choice, operations)) = input.split_first() else { return };
    forget_sealed();
    let mut network = Network::<Bare>::new(&[1, 2, 1], Choice(*choice));
    network.is_honest = false;
    perform(&mut network, operations);
    network.heal(AFTERWARDS);
}
