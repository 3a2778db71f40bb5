//! What a session needs of cryptography, as a trait: the real one in the engine, a counting stand-in in the
//! simulator.
//!
//! In:    secrets, packet numbers, bytes.
//! Out:   sealed and opened bytes, and the primitives that drive snow.
//! Holds: everything random comes in as an argument; a key seals in place and never allocates.
//!
//! Dispatch is static: a shard is compiled for one `Crypto`.

use dunlin_codec::ids::{NodeId, PacketNumber};
use snow::resolvers::BoxedCryptoResolver;
use zeroize::Zeroizing;

use crate::identity::Identity;

/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of a sealed packet's header, its associated data.
pub const HEADER_LEN: usize = 8;

pub use dunlin_codec::suite::Suite;

/// A node's static Noise public key: its identity key's Montgomery form, 32 bytes, little-endian u.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StaticPublic(pub [u8; 32]);

/// Bytes that were not sealed with this key, number and header. The sender's fault, or the network's; nothing
/// changed but the bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the tag does not hold")]
pub struct Forged;

/// An identity key that no honest node has (T22). The peer's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadIdentity {
    /// The 32 bytes are not the one encoding of their point.
    #[error("the identity key is not encoded canonically")]
    NotCanonical,
    /// The 32 bytes are not a point of the curve.
    #[error("the identity key is not a point of the curve")]
    NotOnCurve,
    /// The point lies outside the prime-order subgroup.
    #[error("the identity key is not of prime order")]
    NotPrimeOrder,
}

/// One direction's packet key, ready for use.
pub trait PacketKey: 'static {
    /// Seals `plain` in place under a packet number and returns the tag. The caller never gives one number
    /// twice (I4).
    #[must_use]
    fn seal(&self, number: PacketNumber, header: &[u8; HEADER_LEN], plain: &mut [u8]) -> [u8; TAG_LEN];

    /// Seals one packet whose plaintext ends with `tail`, which lies elsewhere: `body` has the plaintext's beginning, and behind it room
    /// for the tail and the tag. As `seal`.
    ///
    /// # Panics
    /// When `body` is shorter than the tail and the tag.
    fn seal_with_tail(&self, number: PacketNumber, header: &[u8; HEADER_LEN], body: &mut [u8], tail: &[u8]) {
        let (plain, tag) = body.split_last_chunk_mut::<TAG_LEN>().expect("the body has room for the tag");
        let begin = plain.len() - tail.len();
        plain[begin..].copy_from_slice(tail);
        *tag = self.seal(number, header, plain);
    }

    /// Opens `sealed` (ciphertext, then tag) in place; the plaintext is its first `Ok` bytes.
    ///
    /// # Errors
    /// `Forged`: the tag does not hold; `sealed` is then worthless.
    fn open(
        &self,
        number: PacketNumber,
        header: &[u8; HEADER_LEN],
        sealed: &mut [u8],
    ) -> Result<usize, Forged>;

    /// Seals `plain` in place under a whole nonce and any associated data; for single uses outside the packet
    /// stream.
    #[must_use]
    fn seal_once(&self, nonce: &[u8; NONCE_LEN], associated: &[u8], plain: &mut [u8]) -> [u8; TAG_LEN];

    /// Opens what `seal_once` sealed; as `open`.
    ///
    /// # Errors
    /// `Forged`: the tag does not hold.
    fn open_once(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Forged>;
}

/// The primitives of a node.
pub trait Crypto: 'static {
    /// One direction's packet key.
    type Key: PacketKey;
    /// The node's static Noise key pair with everything that can be computed ahead. Cloning it is cheap.
    type Static: Clone;

    /// A packet key from its 32 bytes.
    fn key(suite: Suite, secret: &[u8; 32]) -> Self::Key;

    /// The static pair of an identity; once per node.
    fn static_pair(identity: &Identity) -> Self::Static;

    /// The pair's public half, what peers dial.
    fn static_public(pair: &Self::Static) -> StaticPublic;

    /// The pair's secret half, as snow wants it.
    fn static_secret(pair: &Self::Static) -> &[u8; 32];

    /// The static public key that belongs to an identity key, checked as limits T22 says. Some 25 us: keep
    /// the answer (`IdentityCache`).
    ///
    /// # Errors
    /// `BadIdentity`: no honest node has this key.
    fn public_of(id: &NodeId) -> Result<StaticPublic, BadIdentity>;

    /// The primitives for one handshake. All its randomness is `ephemeral`, 32 bytes drawn for it alone.
    fn resolver(pair: &Self::Static, ephemeral: Zeroizing<[u8; 32]>) -> BoxedCryptoResolver;
}

/// The one draw that a handshake may make: the ephemeral secret. A second draw is an error.
pub(crate) struct OneDraw(Option<Zeroizing<[u8; 32]>>);

impl OneDraw {
    pub(crate) fn new(seed: Zeroizing<[u8; 32]>) -> Self {
        Self(Some(seed))
    }
}

impl snow::types::Random for OneDraw {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let seed = self.0.take().ok_or(snow::Error::Rng)?;
        if dest.len() != seed.len() {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(&seed[..]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_draws_once() {
        use snow::types::Random;
        let mut draw = OneDraw::new(Zeroizing::new([7; 32]));
        let mut out = [0; 32];
        assert_eq!(draw.try_fill_bytes(&mut out), Ok(()));
        assert_eq!(out, [7; 32]);
        assert_eq!(draw.try_fill_bytes(&mut out), Err(snow::Error::Rng));
    }
}
