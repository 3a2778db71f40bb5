//! The real cryptography: aws-lc-rs for packets, and under snow for handshakes.
//!
//! In:    see `crypto`.
//! Out:   see `crypto`.
//! Holds: an all-zero shared secret is refused; no randomness but the given; secrets are wiped when dropped.

use core::cell::Cell;
use std::sync::Arc;

use aws_lc_rs::aead::{self, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use dunlin_codec::ids::{NodeId, PacketNumber};
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{BoxedCryptoResolver, CryptoResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::binding;
use super::crypto::{
    BadIdentity, Crypto, Forged, HEADER_LEN, NONCE_LEN, OneDraw, PacketKey, StaticPublic, Suite, TAG_LEN,
};
use crate::identity::Identity;

/// The real cryptography.
pub enum AwsLc {}

/// One direction's packet key: 32 bytes here, and 592 of key schedule that aws-lc holds (and wipes).
pub struct AwsLcKey {
    key: LessSafeKey,
    suite: Suite,
}

/// A node's static pair with its public half computed ahead, since snow asks for it at every handshake.
#[derive(Clone)]
pub struct AwsLcStatic {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    private: Arc<PrivateKey>,
}

impl Crypto for AwsLc {
    type Key = AwsLcKey;
    type Static = AwsLcStatic;

    fn key(suite: Suite, secret: &[u8; 32]) -> AwsLcKey {
        AwsLcKey { key: aead_key(suite, secret), suite }
    }

    fn static_pair(identity: &Identity) -> AwsLcStatic {
        let secret = identity.noise_secret().clone();
        let private = Arc::new(private_key(&secret));
        AwsLcStatic { secret, public: *identity.noise_public(), private }
    }

    fn static_public(pair: &AwsLcStatic) -> StaticPublic {
        StaticPublic(pair.public)
    }

    fn static_secret(pair: &AwsLcStatic) -> &[u8; 32] {
        &pair.secret
    }

    fn public_of(id: &NodeId) -> Result<StaticPublic, BadIdentity> {
        binding::check(id)
    }

    fn resolver(pair: &AwsLcStatic, ephemeral: Zeroizing<[u8; 32]>) -> BoxedCryptoResolver {
        Box::new(Resolver { pair: pair.clone(), draw: Cell::new(Some(ephemeral)) })
    }
}

fn aead_key(suite: Suite, secret: &[u8; 32]) -> LessSafeKey {
    let algorithm = match suite {
        Suite::AesGcm => &AES_256_GCM,
        Suite::ChaChaPoly => &CHACHA20_POLY1305,
    };
    LessSafeKey::new(UnboundKey::new(algorithm, secret).expect("both suites take keys of 32 bytes"))
}

fn private_key(secret: &[u8; 32]) -> PrivateKey {
    PrivateKey::from_private_key(&X25519, secret).expect("every 32 bytes are an X25519 secret")
}

fn tag_bytes(tag: &aead::Tag) -> [u8; TAG_LEN] {
    tag.as_ref().try_into().expect("both suites have tags of 16 bytes")
}

impl PacketKey for AwsLcKey {
    #[inline]
    fn seal(&self, number: PacketNumber, header: &[u8; HEADER_LEN], plain: &mut [u8]) -> [u8; TAG_LEN] {
        self.seal_once(&self.suite.nonce(number.0), header, plain)
    }

    #[inline]
    fn seal_with_tail(&self, number: PacketNumber, header: &[u8; HEADER_LEN], body: &mut [u8], tail: &[u8]) {
        let nonce = Nonce::assume_unique_for_key(self.suite.nonce(number.0));
        let (head, rest) = body.split_at_mut(body.len() - tail.len() - TAG_LEN);
        self.key
            .seal_in_place_scatter(nonce, Aad::from(header), head, tail, rest)
            .expect("a datagram is shorter than what a cipher takes");
    }

    #[inline]
    fn open(
        &self,
        number: PacketNumber,
        header: &[u8; HEADER_LEN],
        sealed: &mut [u8],
    ) -> Result<usize, Forged> {
        self.open_once(&self.suite.nonce(number.0), header, sealed)
    }

    #[inline]
    fn seal_once(&self, nonce: &[u8; NONCE_LEN], associated: &[u8], plain: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(associated), plain)
            .expect("a datagram is shorter than what a cipher takes");
        tag_bytes(&tag)
    }

    #[inline]
    fn open_once(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Forged> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.key.open_in_place(nonce, Aad::from(associated), sealed).map_err(|_| Forged)?;
        Ok(plain.len())
    }
}

/// The primitives of one handshake.
struct Resolver {
    pair: AwsLcStatic,
    /// snow asks for it once.
    draw: Cell<Option<Zeroizing<[u8; 32]>>>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneDraw::new(self.draw.take()?)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(Agreement {
                node: self.pair.clone(),
                secret: Zeroizing::new([0; 32]),
                public: [0; 32],
                private: None,
            })),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::SHA256 => Some(Box::new(Sha(Sha256::new()))),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let suite = match choice {
            CipherChoice::AESGCM => Suite::AesGcm,
            CipherChoice::ChaChaPoly => Suite::ChaChaPoly,
        };
        Some(Box::new(HandshakeCipher { suite, secret: Zeroizing::new([0; 32]) }))
    }
}

/// X25519 as snow wants it.
struct Agreement {
    node: AwsLcStatic,
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    private: Option<Arc<PrivateKey>>,
}

impl Agreement {
    fn adopt(&mut self, secret: &[u8; 32]) {
        let private = private_key(secret);
        let public = private.compute_public_key().expect("every X25519 secret has a public key");
        self.public.copy_from_slice(public.as_ref());
        self.secret.copy_from_slice(secret);
        self.private = Some(Arc::new(private));
    }
}

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
        if bool::from(self.node.secret.ct_eq(privkey)) {
            self.public = self.node.public;
            self.secret = self.node.secret.clone();
            self.private = Some(Arc::clone(&self.node.private));
        } else {
            self.adopt(privkey.try_into().expect("an X25519 secret has 32 bytes"));
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(&mut secret[..])?;
        self.adopt(&secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.secret[..]
    }

    /// An all-zero result is an error of `agree` itself.
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let private = self.private.as_deref().ok_or(snow::Error::Dh)?;
        // snow hands over its whole buffer, longer than the key.
        let public = UnparsedPublicKey::new(&X25519, pubkey.get(..32).ok_or(snow::Error::Dh)?);
        agreement::agree(private, public, snow::Error::Dh, |shared| {
            out.get_mut(..32).ok_or(snow::Error::Dh)?.copy_from_slice(shared);
            Ok(())
        })
    }
}

/// An AEAD as snow wants it. Each handshake key seals at most two messages, so its schedule is made when it
/// is used.
struct HandshakeCipher {
    suite: Suite,
    secret: Zeroizing<[u8; 32]>,
}

impl Cipher for HandshakeCipher {
    fn name(&self) -> &'static str {
        match self.suite {
            Suite::AesGcm => "AESGCM",
            Suite::ChaChaPoly => "ChaChaPoly",
        }
    }

    fn set(&mut self, key: &[u8; 32]) {
        *self.secret = *key;
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let sealed_len = plaintext.len() + TAG_LEN;
        let (body, tag) = out[..sealed_len].split_at_mut(plaintext.len());
        body.copy_from_slice(plaintext);
        tag.copy_from_slice(&AwsLc::key(self.suite, &self.secret).seal_once(
            &self.suite.nonce(nonce),
            authtext,
            body,
        ));
        sealed_len
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let (body, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(snow::Error::Decrypt)?;
        let plain = out.get_mut(..body.len()).ok_or(snow::Error::Decrypt)?;
        let nonce = Nonce::assume_unique_for_key(self.suite.nonce(nonce));
        aead_key(self.suite, &self.secret)
            .open_separate_gather(nonce, Aad::from(authtext), body, tag, plain)
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(body.len())
    }
}

/// SHA-256 as snow wants it.
struct Sha(Sha256);

impl Hash for Sha {
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
        Digest::reset(&mut self.0);
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.0.finalize_reset());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a packet's bytes are does not depend on where its plaintext lay.
    #[test]
    fn a_tail_that_lies_elsewhere_is_sealed_alike() {
        let plain: Vec<u8> = (0..1_176_u32).map(|at| (at * 31 % 251) as u8).collect();
        let header = [9; HEADER_LEN];
        for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
            let key = AwsLc::key(suite, &[3; 32]);
            for split in [0, 1, 14, 15, 16, 17, 63, 64, 255, 1_175, 1_176] {
                let number = PacketNumber(split as u64);
                let mut whole = plain.clone();
                let tag = key.seal(number, &header, &mut whole);
                whole.extend(tag);
                let mut body = vec![0xee; plain.len() + TAG_LEN];
                body[..split].copy_from_slice(&plain[..split]);
                key.seal_with_tail(number, &header, &mut body, &plain[split..]);
                assert!(body == whole, "{suite:?}, {split} bytes in place");
            }
        }
    }
}
