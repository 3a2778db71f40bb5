//! Who a node is: an Ed25519 key pair, whose public half is its address.
//!
//! In:    a 32-byte seed; bytes to sign; signatures of others.
//! Out:   signatures, verdicts, the Noise pair that belongs to the key.
//! Holds: secrets leave memory when dropped; one acceptance rule for signatures everywhere (T7).

pub mod chain;
pub mod change;
pub mod inception;
pub mod key_file;

use core::fmt;

use aws_lc_rs::agreement;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use dunlin_codec::ids::NodeId;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// A node's own key pair. Cloning it is cheap; the secrets are wiped with the last clone.
#[derive(Clone)]
pub struct Identity {
    id: NodeId,
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
    noise_secret: Zeroizing<[u8; 32]>,
    noise_public: [u8; 32],
}

impl Identity {
    /// The identity of a seed, 32 bytes that were drawn at random. Some 30 us.
    ///
    /// # Panics
    /// Never: every 32 bytes are a seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..]).expect("every 32 bytes are a seed");
        let id = NodeId(pair.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes"));
        let noise_secret = noise_secret(&seed);
        let noise_public = noise_public(&noise_secret);
        Self { id, seed, pair, noise_secret, noise_public }
    }

    /// The address.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The seed, to be written to the key file and nowhere else.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Signs `message`, which begins with a label that says what is being signed. Some 10 us.
    ///
    /// # Panics
    /// Never: signing cannot fail.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.pair.sign(message).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }

    /// The static Noise secret: the clamped first half of SHA-512(seed), the Ed25519 scalar itself.
    #[must_use]
    pub fn noise_secret(&self) -> &Zeroizing<[u8; 32]> {
        &self.noise_secret
    }

    /// The static Noise public key: the address's Montgomery form.
    #[must_use]
    pub fn noise_public(&self) -> &[u8; 32] {
        &self.noise_public
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

fn noise_secret(seed: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut hash = Zeroizing::new([0; 64]);
    hash.copy_from_slice(&Sha512::digest(seed));
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(&hash[..32]);
    secret[0] &= 0xf8;
    secret[31] = secret[31] & 0x7f | 0x40;
    secret
}

fn noise_public(secret: &[u8; 32]) -> [u8; 32] {
    let key = agreement::PrivateKey::from_private_key(&agreement::X25519, secret)
        .expect("every 32 bytes are an X25519 secret");
    let public = key.compute_public_key().expect("every X25519 secret has a public key");
    public.as_ref().try_into().expect("an X25519 key has 32 bytes")
}

/// A signature that does not hold, or a key that may not sign. The signer's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct BadSignature;

/// Checks a signature by the one rule that every node uses: canonical S, R and A, neither A nor R of small
/// order, cofactorless. Some 30 us.
///
/// # Errors
/// `BadSignature`: it must be treated as if it had never come.
/// spec: p2p/signature-rule
pub fn verify(signer: &NodeId, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Result<(), BadSignature> {
    let (r, _) = signature.split_first_chunk::<32>().ok_or(BadSignature)?;
    if !is_acceptable_point(&signer.0) || !is_acceptable_point(r) {
        return Err(BadSignature);
    }
    // It refuses S >= l, and compares the encoding of the R that it computes with the one given, without the
    // cofactor.
    UnparsedPublicKey::new(&ED25519, &signer.0).verify(message, signature).map_err(|_| BadSignature)
}

/// The y of the points of order 1, 2, 4 and 8, little-endian without the sign bit. There are five of them for
/// eight points.
const SMALL_ORDER_Y: [[u8; 32]; 5] = [
    y_of(*b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", [0; 16]),
    y_of(*b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", [0; 16]),
    y_of(
        *b"\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ),
    y_of(
        *b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0",
        *b"\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
    ),
    y_of(
        *b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f",
        *b"\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
    ),
];

const fn y_of(low: [u8; 16], high: [u8; 16]) -> [u8; 32] {
    let mut y = [0; 32];
    let mut at = 0;
    while at < 16 {
        y[at] = low[at];
        y[at + 16] = high[at];
        at += 1;
    }
    y
}

/// Whether an encoded point has y < p and is not of small order. It may still not be on the curve.
#[must_use]
pub fn is_acceptable_point(encoded: &[u8; 32]) -> bool {
    let mut y = *encoded;
    y[31] &= 0x7f;
    is_canonical_y(encoded) && !SMALL_ORDER_Y.contains(&y)
}

/// Whether an encoded point's little-endian y, without the sign bit, is below p = 2^255 - 19.
pub(crate) fn is_canonical_y(encoded: &[u8; 32]) -> bool {
    encoded[0] < 0xed || encoded[31] & 0x7f != 0x7f || encoded[1..31].iter().any(|&byte| byte != 0xff)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::edwards::CompressedEdwardsY;

    use super::*;

    #[test]
    fn the_noise_pair_is_the_montgomery_form_of_the_address() {
        for byte in 0..16 {
            let identity = Identity::from_seed([byte; 32]);
            let point = CompressedEdwardsY(identity.id().0).decompress().unwrap();
            assert_eq!(identity.noise_public(), point.to_montgomery().as_bytes());
        }
    }

    #[test]
    fn the_address_is_what_ed25519_says() {
        let identity = Identity::from_seed([3; 32]);
        let other = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        assert_eq!(identity.id().0, other.verifying_key().to_bytes());
        use ed25519_dalek::Signer;
        assert_eq!(identity.sign(b"label, text"), other.sign(b"label, text").to_bytes());
    }

    #[test]
    fn what_is_signed_verifies_and_nothing_else_does() {
        let identity = Identity::from_seed([9; 32]);
        let signature = identity.sign(b"label, text");
        assert_eq!(verify(&identity.id(), b"label, text", &signature), Ok(()));
        assert_eq!(verify(&identity.id(), b"label, texu", &signature), Err(BadSignature));
        let stranger = Identity::from_seed([10; 32]);
        assert_eq!(verify(&stranger.id(), b"label, text", &signature), Err(BadSignature));
        for at in 0..SIGNATURE_LEN {
            let mut changed = signature;
            changed[at] ^= 1;
            assert_eq!(verify(&identity.id(), b"label, text", &changed), Err(BadSignature));
        }
    }

    /// All encodings of small-order points, canonical or not, as A and as R, under the S and message for
    /// which a lax rule accepts.
    /// spec: p2p/signature-rule
    #[test]
    fn small_order_points_never_sign() {
        let mut encodings: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|p| p.compress().to_bytes()).collect();
        for y in [0u8, 1] {
            let mut noncanonical = [0xff; 32];
            noncanonical[0] = 0xed + y;
            for sign in [0x7f, 0xff] {
                noncanonical[31] = sign;
                encodings.push(noncanonical);
            }
        }
        let mut minus_zero = [0; 32];
        minus_zero[0] = 1;
        minus_zero[31] = 0x80;
        encodings.push(minus_zero);
        let mut minus_zero = CompressedEdwardsY([0xff; 32]).0;
        minus_zero[0] = 0xec;
        encodings.push(minus_zero);
        assert_eq!(encodings.len(), 14);
        for a in &encodings {
            assert!(!is_acceptable_point(a), "{a:02x?}");
            for r in &encodings {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(r);
                for text in 0..16u8 {
                    assert_eq!(verify(&NodeId(*a), &[text], &signature), Err(BadSignature));
                }
            }
        }
    }

    /// Noncanonical encodings of points of large order are refused too; there are nineteen y above p.
    #[test]
    fn a_y_above_p_is_refused_whatever_the_point() {
        for low in 0xed..=0xff {
            let mut y = [0xff; 32];
            y[0] = low;
            y[31] = 0x7f;
            assert!(!is_canonical_y(&y));
        }
        let mut largest = [0xff; 32];
        largest[0] = 0xeb;
        assert!(is_acceptable_point(&largest));
    }

    #[test]
    fn nothing_secret_is_printed() {
        assert_eq!(format!("{:?}", Identity::from_seed([1; 32])), "Identity { .. }");
    }
}
