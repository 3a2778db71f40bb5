//! What the cryptography costs. It proves nothing and times nothing against a limit; it prints:
//! `cargo test --release -p dunlin-shards --test cost -- --ignored --nocapture --test-threads 1`

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "it measures, and stops where it cannot")]

use std::hint::black_box;
use std::time::Instant;

use dunlin_codec::ids::PacketNumber;
use dunlin_shards::identity::{Identity, verify};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::binding;
use dunlin_shards::session::cookie::{self, CookieJar};
use dunlin_shards::session::counting::{Counting, forget_sealed};
use dunlin_shards::session::crypto::{Crypto, PacketKey, StaticPublic, Suite};
use dunlin_shards::session::handshake::{Initiator, Prologue, Responder};
use dunlin_shards::session::keys::{Arrived, KeyLimits, ReceiveKeys, SendKeys};
use dunlin_shards::session::replay::{Freshness, ReplayWindow};
use dunlin_shards::session::strike::{STRIKE_SLOTS_MAX, Strike, StrikeRegister};
use zeroize::Zeroizing;

const ROUNDS_MIN: u32 = 50;

/// Nanoseconds of one call, the best of five runs.
fn nanos(what: &str, calls: u32, mut call: impl FnMut(u32)) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begin = Instant::now();
        for round in 0..calls.max(ROUNDS_MIN) {
            call(round);
        }
        best = best.min(begin.elapsed().as_nanos() as f64 / f64::from(calls.max(ROUNDS_MIN)));
    }
    println!("{what}: {best:.0} ns");
}

fn handshake<C: Crypto>(near: &C::Static, far: &C::Static, suite: Suite, round: u32) {
    let prologue = Prologue { version: 1, suite, network: &[7; 32], extra: &[] };
    let mut seed = [1; 32];
    seed[..4].copy_from_slice(&round.to_le_bytes());
    let mut initiator = Initiator::ik::<C>(near, C::static_public(far), &prologue, Zeroizing::new(seed));
    seed[31] = 2;
    let mut responder = Responder::<C>::ik(far, &prologue, Zeroizing::new(seed));
    let (payload, mut sealed, mut plain) = ([3; 1_000], [0; 1_016], [0; 1_016]);
    let front = initiator.write_first(&payload, &mut sealed).unwrap();
    responder.read_first(&front, &sealed, &mut plain).unwrap();
    let front = responder.write_second(&payload[..100], &mut sealed).unwrap();
    initiator.read_second(&front, &sealed[..116], &mut plain).unwrap();
    black_box((initiator.into_secrets().hash, responder.into_secrets().hash));
}

#[test]
#[ignore = "prints costs; run in release"]
fn handshakes() {
    let (near, far) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        let pairs = (AwsLc::static_pair(&near), AwsLc::static_pair(&far));
        nanos(&format!("IK, both sides, aws-lc {suite:?}"), 2_000, |round| {
            handshake::<AwsLc>(&pairs.0, &pairs.1, suite, round);
        });
    }
    let pairs = (Counting::static_pair(&near), Counting::static_pair(&far));
    nanos("IK, both sides, counting", 20_000, |round| {
        handshake::<Counting>(&pairs.0, &pairs.1, Suite::AesGcm, round);
    });
}

#[test]
#[ignore = "prints costs; run in release"]
fn identities() {
    let identity = Identity::from_seed([1; 32]);
    nanos("identity from seed", 2_000, |round| {
        let mut seed = [1; 32];
        seed[..4].copy_from_slice(&round.to_le_bytes());
        black_box(Identity::from_seed(seed).id());
    });
    nanos("identity binding check", 2_000, |_| {
        black_box(binding::check(black_box(&identity.id())).unwrap());
    });
    nanos("sign 100 bytes", 2_000, |_| {
        black_box(identity.sign(black_box(&[1; 100])));
    });
    let signature = identity.sign(&[1; 100]);
    nanos("verify 100 bytes", 2_000, |_| {
        verify(black_box(&identity.id()), &[1; 100], &signature).unwrap();
    });
}

fn packets<C: Crypto>(name: &str, suite: Suite) {
    forget_sealed();
    let key = C::key(suite, &[9; 32]);
    let mut bytes = [5; 1_200];
    let mut number = 0;
    nanos(&format!("seal 1,200 bytes, {name} {suite:?}"), 200_000, |_| {
        number += 1;
        black_box(key.seal(PacketNumber(number), &[1; 8], &mut bytes));
    });
    let tag = key.seal(PacketNumber(u64::MAX - 1), &[1; 8], &mut bytes);
    let sealed = [&bytes[..], &tag].concat();
    let mut copy = sealed.clone();
    nanos(&format!("copy and open 1,200 bytes, {name} {suite:?}"), 200_000, |_| {
        copy.copy_from_slice(&sealed);
        black_box(key.open(PacketNumber(u64::MAX - 1), &[1; 8], &mut copy).unwrap());
    });
    nanos(&format!("a key, {name} {suite:?}"), 20_000, |round| {
        let mut secret = [1; 32];
        secret[..4].copy_from_slice(&round.to_le_bytes());
        black_box(C::key(suite, &secret));
    });
    println!("a key's own bytes, {name}: {}", size_of::<C::Key>());
}

#[test]
#[ignore = "prints costs; run in release"]
fn sealing() {
    packets::<AwsLc>("aws-lc", Suite::AesGcm);
    packets::<AwsLc>("aws-lc", Suite::ChaChaPoly);
    packets::<Counting>("counting", Suite::AesGcm);
}

#[test]
#[ignore = "prints costs; run in release"]
fn primitives() {
    use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
    use sha2::Digest;
    let private = PrivateKey::from_private_key(&X25519, &[5; 32]).unwrap();
    nanos("X25519 key from its secret", 2_000, |_| {
        black_box(PrivateKey::from_private_key(&X25519, black_box(&[6; 32])).unwrap());
    });
    nanos("X25519", 2_000, |_| {
        agree(&private, UnparsedPublicKey::new(&X25519, black_box(&[9; 32])), (), |shared| {
            black_box(shared);
            Ok(())
        })
        .unwrap();
    });
    nanos("parse X25519 public", 2_000, |_| {
        let parsed: aws_lc_rs::agreement::ParsedPublicKey =
            UnparsedPublicKey::new(&X25519, black_box(&[9; 32])).try_into().unwrap();
        black_box(parsed);
    });
    nanos("SHA-256 of 1,200 bytes", 20_000, |_| {
        black_box(sha2::Sha256::digest(black_box(&[1; 1_200])));
    });
    nanos("aws-lc SHA-256 of 1,200 bytes", 20_000, |_| {
        black_box(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, black_box(&[1; 1_200])));
    });
    nanos("aws-lc SHA-256 streaming of 64 bytes", 20_000, |_| {
        let mut c = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        c.update(black_box(&[1; 64]));
        black_box(c.finish());
    });
    nanos("SHA-256 streaming of 64 bytes", 20_000, |_| {
        let mut c = sha2::Sha256::new();
        c.update(black_box(&[1; 64]));
        black_box(c.finalize());
    });
}

#[test]
#[ignore = "prints costs; run in release"]
fn cheap_checks() {
    let network = [1; 32];
    let key = cookie::mac1_key(&network, Some(StaticPublic([2; 32])));
    let hello = [3; 88];
    let mac = key.mac(&[&hello]);
    nanos("mac1 of a Hello", 200_000, |_| {
        assert!(key.verify(black_box(&hello), black_box(&mac)));
    });
    let mut jar = CookieJar::new(Zeroizing::new([4; 32]));
    let who = ("192.0.2.1:7117".parse().unwrap(), Suite::AesGcm);
    nanos("a wrong mac2 of a Hello", 200_000, |_| {
        assert!(!jar.verify_mac2(dunlin_shards::time::Instant::ZERO, who, &hello, black_box(&mac)));
    });
    let mut window = ReplayWindow::default();
    nanos("replay window, check and commit", 2_000_000, |_| {
        let number = PacketNumber(window.end());
        assert_eq!(window.check(black_box(number)), Freshness::Fresh);
        window.commit(number);
    });
    let mut register = StrikeRegister::new(STRIKE_SLOTS_MAX, [5; 16]);
    let mut count = 0u32;
    nanos("strike register", 50_000, |_| {
        let mut e = [6; 32];
        e[..4].copy_from_slice(&count.to_le_bytes());
        count += 1;
        assert_eq!(register.strike(&e, 0, dunlin_shards::time::Instant::ZERO), Strike::New);
    });
    println!("the strike register holds {count} in {} bytes", register.allocated_len());
}

#[test]
#[ignore = "prints costs; run in release"]
fn session_keys() {
    let limits = KeyLimits::default();
    let now = dunlin_shards::time::Instant::ZERO;
    let mut send = SendKeys::<AwsLc>::new(Suite::AesGcm, Zeroizing::new([1; 32]), &limits, now, 0);
    let mut receive = ReceiveKeys::<AwsLc>::new(Suite::AesGcm, Zeroizing::new([1; 32]));
    let (mut bytes, mut sealed_bytes) = ([5; 1_200], [0; 1_216]);
    nanos("take a number, seal 1,200 bytes, copy, open", 200_000, |_| {
        let ticket = send.take_number(|| 7).unwrap();
        let (number, phase) = (ticket.number(), ticket.phase());
        let tag = send.seal(ticket, &[1; 8], &mut bytes);
        sealed_bytes[..1_200].copy_from_slice(&bytes);
        sealed_bytes[1_200..].copy_from_slice(&tag);
        let packet = Arrived { number, phase, header: &[1; 8] };
        black_box(receive.open(packet, &mut sealed_bytes, now).unwrap());
    });
    println!("own bytes: {} to send, {} to receive", size_of_val(&send), size_of_val(&receive));
}
