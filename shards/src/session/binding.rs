//! Which Noise static key belongs to an identity key, and whether that identity may exist at all (T22).
//!
//! In:    32 bytes that a peer calls its identity.
//! Out:   the Montgomery form, or why no honest node has this key.
//! Holds: only canonical encodings of points of the prime-order subgroup pass; a known key costs a look-up.
//!
//! A and -A share one Montgomery form: whoever dialled compares all 32 bytes of the identity as well.

use std::sync::LazyLock;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use curve25519_dalek::edwards::CompressedEdwardsY;
use dunlin_codec::ids::NodeId;

use super::crypto::{BadIdentity, StaticPublic};
use super::sip::SipKey;
use crate::identity::is_canonical_y;

/// Identities that a shard remembers as checked, by default (T2).
pub const IDENTITY_CACHE_MAX: usize = 65_536;

/// 5l - 1 for the group order l = 2^252 + 27742317777372353535851937790883648493, little-endian.
///
/// It is a multiple of 8 between 2^254 and 2^255, so X25519's clamping leaves it as it is, and it is -1
/// modulo l. For P = Q + T with Q of the prime-order subgroup and T of small order, [5l - 1]P = -Q, whose u
/// is P's only when T is zero: one X25519 (16 us) instead of a multiplication by l (50 us).
const MINUS_ONE: [u8; 32] = [
    0xa0, 0x23, 0xcd, 0xd0, 0x83, 0xef, 0x5b, 0xb8, 0x2f, 0x10, 0xd6, 0x2e, 0x59, 0xe1, 0x5a, 0x68, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50,
];

static MINUS_ONE_KEY: LazyLock<PrivateKey> = LazyLock::new(|| {
    PrivateKey::from_private_key(&X25519, &MINUS_ONE).expect("every 32 bytes are an X25519 secret")
});

/// The Montgomery form of an identity key that passes. Some 25 us.
///
/// # Errors
/// `BadIdentity`: the peer is refused.
/// spec: atp/identity-binding
pub fn check(id: &NodeId) -> Result<StaticPublic, BadIdentity> {
    // The two encodings of a zero x with its sign set have a canonical y; they are of small order and fall
    // below.
    if !is_canonical_y(&id.0) {
        return Err(BadIdentity::NotCanonical);
    }
    let point = CompressedEdwardsY(id.0).decompress().ok_or(BadIdentity::NotOnCurve)?;
    let montgomery = point.to_montgomery().to_bytes();
    // A point of small order ends in an all-zero result, which is refused as an error.
    let same = agreement::agree(
        &MINUS_ONE_KEY,
        UnparsedPublicKey::new(&X25519, &montgomery),
        BadIdentity::NotPrimeOrder,
        |negated| Ok(negated == montgomery),
    )?;
    if same { Ok(StaticPublic(montgomery)) } else { Err(BadIdentity::NotPrimeOrder) }
}

/// Entries of one place of the cache.
const WAYS: usize = 4;

#[derive(Clone, Copy)]
struct Known {
    id: NodeId,
    public: StaticPublic,
}

/// Identities whose check passed, with their Montgomery forms. It starts empty, grows when peers are
/// admitted, and then forgets the one that came first to its place.
pub struct IdentityCache {
    key: SipKey,
    places: Vec<[Option<Known>; WAYS]>,
    known_count: usize,
    known_max: usize,
}

impl IdentityCache {
    /// An empty cache of at most `known_max` identities (rounded up to a power of two), hashed under 16
    /// random bytes.
    #[must_use]
    pub fn new(known_max: usize, seed: [u8; 16]) -> Self {
        let known_max = known_max.max(WAYS).next_power_of_two();
        Self { key: SipKey::new(seed), places: Vec::new(), known_count: 0, known_max }
    }

    /// The form of `id`, from memory or by `check` (`Crypto::public_of`), whose success is remembered.
    /// Failures are not: they cost their sender a packet each.
    ///
    /// # Errors
    /// What `check` says.
    pub fn get_or_check(
        &mut self,
        id: &NodeId,
        check: impl FnOnce(&NodeId) -> Result<StaticPublic, BadIdentity>,
    ) -> Result<StaticPublic, BadIdentity> {
        if let Some(public) = self.get(id) {
            return Ok(public);
        }
        let public = check(id)?;
        self.insert(Known { id: *id, public });
        Ok(public)
    }

    /// The form of `id` if it is known.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<StaticPublic> {
        let place = self.places.get(self.place_of(id)?)?;
        place.iter().flatten().find(|known| known.id == *id).map(|known| known.public)
    }

    /// Identities in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known_count
    }

    /// Whether it knows nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known_count == 0
    }

    fn place_of(&self, id: &NodeId) -> Option<usize> {
        let mask = self.places.len().checked_sub(1)?;
        Some(self.key.hash(&id.0) as usize & mask)
    }

    fn insert(&mut self, known: Known) {
        let room = self.places.len() * WAYS;
        if self.known_count >= room / 2 && room < self.known_max {
            self.grow((room * 2).max(4 * WAYS).min(self.known_max) / WAYS);
        }
        if let Some(at) = self.place_of(&known.id) {
            self.known_count += usize::from(put(&mut self.places[at], known));
        }
    }

    fn grow(&mut self, places_count: usize) {
        let old = core::mem::replace(&mut self.places, vec![[None; WAYS]; places_count]);
        self.known_count = 0;
        for known in old.into_iter().flatten().flatten() {
            if let Some(at) = self.place_of(&known.id) {
                self.known_count += usize::from(put(&mut self.places[at], known));
            }
        }
    }
}

/// Puts `known` first in its place; the last one falls out. Whether there was room.
fn put(place: &mut [Option<Known>; WAYS], known: Known) -> bool {
    place.rotate_right(1);
    place[0].replace(known).is_none()
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::scalar::Scalar;
    use proptest::prelude::*;

    use super::*;
    use crate::identity::Identity;

    /// spec: atp/identity-binding
    #[test]
    fn an_identity_maps_to_its_own_noise_key() {
        for byte in 0..32 {
            let identity = Identity::from_seed([byte; 32]);
            assert_eq!(check(&identity.id()), Ok(StaticPublic(*identity.noise_public())));
        }
    }

    #[test]
    fn small_order_and_noncanonical_keys_are_refused() {
        for point in EIGHT_TORSION {
            assert_eq!(check(&NodeId(point.compress().0)), Err(BadIdentity::NotPrimeOrder));
        }
        for low in 0xed..=0xff {
            for sign in [0x7f, 0xff] {
                let mut y = [0xff; 32];
                (y[0], y[31]) = (low, sign);
                assert_eq!(check(&NodeId(y)), Err(BadIdentity::NotCanonical));
            }
        }
        let mut minus_zero = [0; 32];
        (minus_zero[0], minus_zero[31]) = (1, 0x80);
        assert_eq!(check(&NodeId(minus_zero)), Err(BadIdentity::NotPrimeOrder));
    }

    #[test]
    fn bytes_off_the_curve_are_refused() {
        let refused =
            (2..64u8).filter(|&low| check(&NodeId([low; 32])) == Err(BadIdentity::NotOnCurve)).count();
        assert!((10..54).contains(&refused), "about half of all y have no x: {refused}");
    }

    proptest! {
        /// The quick check agrees with a multiplication by the group order.
        #[test]
        fn the_quick_check_is_the_slow_one(scalar: [u8; 32], torsion in 0..8usize) {
            let point = ED25519_BASEPOINT_POINT * Scalar::from_bytes_mod_order(scalar) + EIGHT_TORSION[torsion];
            let id = NodeId(point.compress().0);
            let expected = point.is_torsion_free() && !point.is_small_order();
            prop_assert_eq!(check(&id).is_ok(), expected);
            if expected {
                prop_assert_eq!(check(&id), Ok(StaticPublic(point.to_montgomery().0)));
            }
        }

        #[test]
        fn any_bytes_get_the_slow_answer(bytes: [u8; 32]) {
            let point = CompressedEdwardsY(bytes).decompress();
            let expected = point.is_some_and(|p| p.is_torsion_free() && !p.is_small_order() && p.compress().0 == bytes);
            prop_assert_eq!(check(&NodeId(bytes)).is_ok(), expected);
        }
    }

    fn known(number: u32) -> (NodeId, StaticPublic) {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        (NodeId(bytes), StaticPublic(bytes))
    }

    #[test]
    fn a_known_key_is_checked_once() {
        let mut cache = IdentityCache::new(IDENTITY_CACHE_MAX, [1; 16]);
        let (id, public) = known(7);
        assert_eq!(cache.get_or_check(&id, |_| Ok(public)), Ok(public));
        assert_eq!(cache.get_or_check(&id, |_| panic!("it was checked before")), Ok(public));
        let (bad, _) = known(8);
        assert_eq!(cache.get_or_check(&bad, |_| Err(BadIdentity::NotOnCurve)), Err(BadIdentity::NotOnCurve));
        assert_eq!(cache.get(&bad), None);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn it_grows_to_its_limit_and_no_further() {
        let mut cache = IdentityCache::new(1_024, [1; 16]);
        assert_eq!(cache.places.capacity(), 0);
        for number in 0..5_000 {
            let (id, public) = known(number);
            assert_eq!(cache.get_or_check(&id, |_| Ok(public)), Ok(public));
            assert_eq!(cache.get(&id), Some(public), "the newest is always there");
            assert!(cache.len() <= 1_024 && cache.places.len() * WAYS <= 1_024);
        }
        assert!(cache.len() > 1_000, "{} of 1,024 places are used", cache.len());
        assert_eq!((0..5_000).filter(|&n| cache.get(&known(n).0).is_some()).count(), cache.len());
    }
}
