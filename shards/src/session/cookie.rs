//! What a Hello must prove before it costs anything: mac1 (it knows whom it calls) and, under load, mac2 (it
//! receives at its address).
//!
//! In:    the bytes of Hellos, addresses, time.
//! Out:   verdicts in constant time, the MACs of our own Hellos, sealed cookies.
//! Holds: checking takes no state and no allocation; a cookie is worth something at its address and for four
//!        minutes only (T1).
//!
//! Every shard makes the same cookies without asking the others: the secret of an epoch is HKDF(root,
//! floor(time / 120 s)).
//! spec: atp/cookie

use core::net::{IpAddr, SocketAddr};

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::crypto::{Crypto, Forged, NONCE_LEN, PacketKey, StaticPublic, Suite, TAG_LEN};
use crate::limits::COOKIE_SECRET_LIFE;
use crate::mutants::{Mutant, planted};
use crate::time::Instant;

/// Bytes of mac1, mac2 and of a cookie.
pub const MAC_LEN: usize = 16;
/// Bytes of a sealed cookie.
pub const SEALED_COOKIE_LEN: usize = MAC_LEN + TAG_LEN;

const MAC1_LABEL: &[u8; 11] = b"dunlin mac1";
const COOKIE_LABEL: &[u8; 13] = b"dunlin cookie";

/// HMAC-SHA-256[..16] under a key whose two hash states are computed ahead.
#[derive(Clone)]
pub struct MacKey(Hmac<Sha256>);

impl MacKey {
    fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The MAC of `parts` in a row.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; MAC_LEN] {
        let mut hmac = self.0.clone();
        for part in parts {
            hmac.update(part);
        }
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(&hmac.finalize().into_bytes()[..MAC_LEN]);
        mac
    }

    /// Whether `mac` is the MAC of `bytes`, in constant time.
    #[must_use]
    pub fn verify(&self, bytes: &[u8], mac: &[u8; MAC_LEN]) -> bool {
        self.mac(&[bytes]).ct_eq(mac).into()
    }
}

/// What the two keys of a responder are made of: the network's hash and its static key, or 32 zero bytes
/// where the pattern is XX.
fn keyed(label: &[u8], network: &[u8; 32], responder: Option<StaticPublic>) -> [u8; 32] {
    let public = responder.map_or([0; 32], |public| public.0);
    Sha256::new().chain_update(label).chain_update(network).chain_update(public).finalize().into()
}

/// The key of mac1 for Hellos to `responder`, or, with `None`, for those that do not know whom they call:
/// there it proves nothing.
#[must_use]
pub fn mac1_key(network: &[u8; 32], responder: Option<StaticPublic>) -> MacKey {
    MacKey::new(&keyed(MAC1_LABEL, network, responder))
}

/// The key of mac2, once a cookie came. mac2 covers every byte before it, mac1 among them.
#[must_use]
pub fn mac2_key(cookie: &[u8; MAC_LEN]) -> MacKey {
    MacKey::new(cookie)
}

/// What seals cookies on their way back to who asked.
pub struct CookieSeal<C: Crypto>(C::Key);

impl<C: Crypto> CookieSeal<C> {
    /// The key for one responder, as in `mac1_key`.
    #[must_use]
    pub fn new(network: &[u8; 32], responder: Option<StaticPublic>) -> Self {
        Self(C::key(Suite::AesGcm, &keyed(COOKIE_LABEL, network, responder)))
    }

    /// Seals a cookie for the Hello that carried `mac1`, under a nonce drawn for it alone.
    #[must_use]
    pub fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        mac1: &[u8; MAC_LEN],
        cookie: &[u8; MAC_LEN],
    ) -> [u8; SEALED_COOKIE_LEN] {
        let mut sealed = [0; SEALED_COOKIE_LEN];
        let (body, tag) = sealed.split_at_mut(MAC_LEN);
        body.copy_from_slice(cookie);
        tag.copy_from_slice(&self.0.seal_once(nonce, mac1, body));
        sealed
    }

    /// The cookie for our Hello that carried `mac1`.
    ///
    /// # Errors
    /// `Forged`: not for that Hello, or not from its responder. The Hello is sent on as before.
    pub fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        mac1: &[u8; MAC_LEN],
        sealed: &[u8; SEALED_COOKIE_LEN],
    ) -> Result<[u8; MAC_LEN], Forged> {
        let mut bytes = *sealed;
        self.0.open_once(nonce, mac1, &mut bytes)?;
        bytes.first_chunk().copied().ok_or(Forged)
    }
}

/// Makes and checks cookies; each shard has one, all from the same root.
pub struct CookieJar {
    root: Zeroizing<[u8; 32]>,
    epoch: u64,
    /// The MAC keys of this epoch and of the one before it.
    keys: [MacKey; 2],
}

impl CookieJar {
    /// A jar for a root that was drawn at the engine's start, the same for all shards.
    #[must_use]
    pub fn new(root: Zeroizing<[u8; 32]>) -> Self {
        let keys = [epoch_key(&root, 0), epoch_key(&root, 0)];
        Self { root, epoch: 0, keys }
    }

    /// The cookie of an address, a port and a suite. An IPv4 address has the same one when it is mapped into
    /// IPv6.
    #[must_use]
    pub fn bake(&mut self, now: Instant, from: SocketAddr, suite: Suite) -> [u8; MAC_LEN] {
        self.turn(now);
        cookie(&self.keys[0], from, suite)
    }

    /// Whether `mac2` was made of `bytes`, all that comes before it, with a cookie of this epoch or of the
    /// last one for that address.
    #[must_use]
    pub fn verify_mac2(
        &mut self,
        now: Instant,
        (from, suite): (SocketAddr, Suite),
        bytes: &[u8],
        mac2: &[u8; MAC_LEN],
    ) -> bool {
        self.turn(now);
        self.keys.iter().any(|key| mac2_key(&cookie(key, from, suite)).verify(bytes, mac2))
    }

    fn turn(&mut self, now: Instant) {
        let epoch = now.as_nanos() / COOKIE_SECRET_LIFE.as_nanos() as u64;
        if epoch != self.epoch {
            self.epoch = epoch;
            self.keys = [epoch, epoch.saturating_sub(1)].map(|epoch| epoch_key(&self.root, epoch));
        }
    }
}

fn epoch_key(root: &[u8; 32], epoch: u64) -> MacKey {
    let mut secret = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::from_prk(root)
        .expect("the root is as long as the hash")
        .expand_multi_info(&[COOKIE_LABEL, &epoch.to_be_bytes()], &mut secret[..])
        .expect("32 bytes are one block");
    MacKey::new(&secret[..])
}

fn cookie(key: &MacKey, from: SocketAddr, suite: Suite) -> [u8; MAC_LEN] {
    let address = match from.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    if planted(Mutant::CookieNotBound) {
        return key.mac(&[&[suite.byte()]]);
    }
    key.mac(&[&address.octets(), &from.port().to_be_bytes(), &[suite.byte()]])
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::session::aws_lc::AwsLc;
    use crate::session::counting::Counting;

    const NETWORK: [u8; 32] = [1; 32];
    const RESPONDER: Option<StaticPublic> = Some(StaticPublic([2; 32]));
    const HELLO: &[u8] = b"a Hello up to its mac1";

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn jar() -> CookieJar {
        CookieJar::new(Zeroizing::new([7; 32]))
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// RFC 4231, test case 2, cut to 16 bytes.
    #[test]
    fn the_mac_is_hmac_sha_256() {
        let mac = MacKey::new(b"Jefe").mac(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            mac,
            [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7]
        );
    }

    /// spec: atp/cookie
    #[test]
    fn mac1_names_the_network_and_the_responder() {
        let key = mac1_key(&NETWORK, RESPONDER);
        let mac = key.mac(&[HELLO]);
        assert!(key.verify(HELLO, &mac));
        assert!(!key.verify(&HELLO[1..], &mac));
        assert!(!mac1_key(&[9; 32], RESPONDER).verify(HELLO, &mac));
        assert!(!mac1_key(&NETWORK, Some(StaticPublic([3; 32]))).verify(HELLO, &mac));
        assert!(!mac1_key(&NETWORK, None).verify(HELLO, &mac));
        for at in 0..MAC_LEN {
            let mut changed = mac;
            changed[at] ^= 0x80;
            assert!(!key.verify(HELLO, &changed));
        }
    }

    /// spec: atp/cookie
    #[test]
    fn a_cookie_belongs_to_one_address_port_and_suite() {
        let from = address("192.0.2.1:7117");
        let cookie = jar().bake(at(0), from, Suite::AesGcm);
        let mac2 = mac2_key(&cookie).mac(&[HELLO]);
        let verify = |from, suite| jar().verify_mac2(at(0), (from, suite), HELLO, &mac2);
        assert!(verify(from, Suite::AesGcm));
        assert!(verify(address("[::ffff:192.0.2.1]:7117"), Suite::AesGcm), "a dual-stack socket sees it so");
        assert!(!verify(address("192.0.2.2:7117"), Suite::AesGcm));
        assert!(!verify(address("192.0.2.1:7118"), Suite::AesGcm));
        assert!(!verify(from, Suite::ChaChaPoly));
        assert!(!jar().verify_mac2(at(0), (from, Suite::AesGcm), &HELLO[1..], &mac2));
        let mut other = CookieJar::new(Zeroizing::new([8; 32]));
        assert!(!other.verify_mac2(at(0), (from, Suite::AesGcm), HELLO, &mac2));
    }

    #[test]
    fn a_cookie_lives_for_its_epoch_and_the_next() {
        let who = (address("[2001:db8::1]:7117"), Suite::ChaChaPoly);
        for (baked, last) in [(0, 239), (119, 239), (120, 359), (1_000, 1_199)] {
            let cookie = jar().bake(at(baked), who.0, who.1);
            let mac2 = mac2_key(&cookie).mac(&[HELLO]);
            let mut other_shard = jar();
            for seconds in [baked, last] {
                assert!(other_shard.verify_mac2(at(seconds), who, HELLO, &mac2), "{baked} at {seconds}");
            }
            assert!(!other_shard.verify_mac2(at(last + 1), who, HELLO, &mac2), "{baked} at {}", last + 1);
        }
    }

    fn sealed_cookies_open<C: Crypto>() {
        let seal = CookieSeal::<C>::new(&NETWORK, RESPONDER);
        let (nonce, mac1, cookie) = ([4; NONCE_LEN], [5; MAC_LEN], [6; MAC_LEN]);
        let sealed = seal.seal(&nonce, &mac1, &cookie);
        assert_ne!(sealed[..MAC_LEN], cookie);
        assert_eq!(seal.open(&nonce, &mac1, &sealed), Ok(cookie));
        assert_eq!(seal.open(&nonce, &[9; MAC_LEN], &sealed), Err(Forged), "another Hello's");
        assert_eq!(seal.open(&[9; NONCE_LEN], &mac1, &sealed), Err(Forged));
        assert_eq!(CookieSeal::<C>::new(&NETWORK, None).open(&nonce, &mac1, &sealed), Err(Forged));
        for at in 0..SEALED_COOKIE_LEN {
            let mut changed = sealed;
            changed[at] ^= 1;
            assert_eq!(seal.open(&nonce, &mac1, &changed), Err(Forged));
        }
    }

    #[test]
    fn a_sealed_cookie_answers_one_hello() {
        sealed_cookies_open::<AwsLc>();
        sealed_cookies_open::<Counting>();
    }
}
