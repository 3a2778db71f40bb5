//! The cryptography against known answers: Noise (cacophony) and Wycheproof.
//!
//! The files lie in `../shared/vectors` beside the project, or where DUNLIN_VECTORS says. Without them a test
//! prints SKIPPED, and fails where CI is set.
#![expect(clippy::unwrap_used, reason = "a vector that does not parse is a failure")]

use std::path::PathBuf;

use aws_lc_rs::aead;
use dunlin_codec::ids::NodeId;
use dunlin_shards::identity::{BadSignature, Identity, is_acceptable_point, verify};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::session::crypto::{Crypto, Forged, PacketKey, Suite};
use serde_json::Value;
use snow::params::DHChoice;
use zeroize::Zeroizing;

fn load(name: &str) -> Option<Value> {
    let folder = std::env::var_os("DUNLIN_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
        PathBuf::from,
    );
    match std::fs::read(folder.join(name)) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(error) => {
            println!("SKIPPED vectors: {name}: {error} (set DUNLIN_VECTORS)");
            assert!(std::env::var_os("CI").is_none(), "{name} was not found, and CI is set");
            None
        }
    }
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap_or_default().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Every case of a Wycheproof file with its group; how many there were.
fn each(name: &str, known_count: usize, mut check: impl FnMut(&Value, &Value)) {
    let Some(file) = load(name) else { return };
    let mut count = 0;
    for group in file["testGroups"].as_array().unwrap() {
        for case in group["tests"].as_array().unwrap() {
            check(group, case);
            count += 1;
        }
    }
    println!("{name}: {count} cases");
    assert!(count >= known_count, "{count} cases of {known_count}");
}

fn resolver(ephemeral: &[u8]) -> snow::resolvers::BoxedCryptoResolver {
    let pair = AwsLc::static_pair(&Identity::from_seed([0; 32]));
    AwsLc::resolver(&pair, Zeroizing::new(ephemeral.try_into().unwrap_or([0; 32])))
}

/// One side of a Noise vector, its ephemeral drawn from our generator.
fn side(vector: &Value, name: &str) -> snow::HandshakeState {
    let part = |key: &str| hex(&vector[format!("{name}_{key}")]);
    let (local, remote, prologue) = (part("static"), part("remote_static"), part("prologue"));
    let params = vector["protocol_name"].as_str().unwrap().parse().unwrap();
    let mut builder = snow::Builder::with_resolver(params, resolver(&part("ephemeral")));
    builder = builder.prologue(&prologue).unwrap();
    if !local.is_empty() {
        builder = builder.local_private_key(&local).unwrap();
    }
    if !remote.is_empty() {
        builder = builder.remote_public_key(&remote).unwrap();
    }
    if name == "init" { builder.build_initiator() } else { builder.build_responder() }.unwrap()
}

fn noise_vector(vector: &Value) {
    let name = vector["protocol_name"].as_str().unwrap();
    let is_one_way = name.starts_with("Noise_N_") || name.starts_with("Noise_X_");
    let (mut near, mut far) = (side(vector, "init"), side(vector, "resp"));
    let (mut sealed, mut plain) = ([0; 1_024], [0; 1_024]);
    let mut messages = vector["messages"].as_array().unwrap().iter().enumerate();
    for (at, message) in messages.by_ref() {
        let (payload, expected) = (hex(&message["payload"]), hex(&message["ciphertext"]));
        let (from, to) = if at % 2 == 0 { (&mut near, &mut far) } else { (&mut far, &mut near) };
        let len = from.write_message(&payload, &mut sealed).unwrap();
        assert_eq!(&sealed[..len], expected, "{name}, message {at}");
        let len = to.read_message(&expected, &mut plain).unwrap();
        assert_eq!(&plain[..len], payload, "{name}, message {at}");
        if near.is_handshake_finished() {
            break;
        }
    }
    assert_eq!(near.get_handshake_hash(), hex(&vector["handshake_hash"]), "{name}");
    assert_eq!(far.get_handshake_hash(), hex(&vector["handshake_hash"]), "{name}");
    let (forth, back) = near.dangerously_get_raw_split();
    assert_eq!((forth, back), far.dangerously_get_raw_split());
    // What follows is sealed with our packet keys, which proves that their nonces are Noise's.
    let suite = if name.contains("AESGCM") { Suite::AesGcm } else { Suite::ChaChaPoly };
    let keys = [AwsLc::key(suite, &forth), AwsLc::key(suite, &back)];
    let mut numbers = [0, 0];
    for (at, message) in messages {
        let direction = if is_one_way { 0 } else { at % 2 };
        let mut bytes = hex(&message["payload"]);
        let tag = keys[direction].seal_once(&suite.nonce(numbers[direction]), &[], &mut bytes);
        numbers[direction] += 1;
        bytes.extend(tag);
        assert_eq!(bytes, hex(&message["ciphertext"]), "{name}, message {at}");
    }
}

/// spec: atp/handshake
#[test]
fn noise() {
    let Some(file) = load("noise_cacophony.json") else { return };
    let vectors = file["vectors"].as_array().unwrap();
    vectors.iter().for_each(noise_vector);
    println!("noise_cacophony.json: {} cases", vectors.len());
    assert!(vectors.len() >= 8, "{} cases of 8", vectors.len());
}

/// What Wycheproof calls acceptable must be computed as well, but for the 31 that end in an all-zero secret:
/// those are refused.
#[test]
fn x25519() {
    let resolver = resolver(&[]);
    let mut zero_count = 0;
    each("wycheproof_x25519.json", 518, |_, case| {
        let mut dh = resolver.resolve_dh(&DHChoice::Curve25519).unwrap();
        dh.set(&hex(&case["private"]));
        let mut shared = [0; 32];
        let result = dh.dh(&hex(&case["public"]), &mut shared);
        if hex(&case["shared"]) == [0; 32] {
            assert_eq!(result, Err(snow::Error::Dh), "{case}");
            zero_count += 1;
        } else {
            assert_eq!(result, Ok(()), "{case}");
            assert_eq!(shared[..], hex(&case["shared"]), "{case}");
        }
    });
    println!("of them {zero_count} all-zero secrets were refused");
}

/// The one acceptance rule, spelled out with another library.
fn strict(signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
    let (r, _) = signature.split_first_chunk::<32>().unwrap();
    let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&signer.0) else { return false };
    let decompressed = curve25519_dalek::edwards::CompressedEdwardsY(*r).decompress();
    let is_canonical = key.to_edwards().compress().0 == signer.0
        && decompressed.is_some_and(|point| point.compress().0 == *r);
    is_canonical && key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
}

/// spec: p2p/signature-rule
#[test]
fn ed25519() {
    let mut length_count = 0;
    each("wycheproof_ed25519.json", 151, |group, case| {
        let signer = NodeId(hex(&group["publicKey"]["pk"]).try_into().unwrap());
        let is_valid = case["result"] == "valid";
        let Ok(signature) = <[u8; 64]>::try_from(hex(&case["sig"])) else {
            // A signature is 64 bytes by its type: others cannot be asked about.
            assert!(!is_valid, "{case}");
            length_count += 1;
            return;
        };
        let message = hex(&case["msg"]);
        assert_eq!(verify(&signer, &message, &signature).is_ok(), is_valid, "{case}");
        assert_eq!(strict(&signer, &message, &signature), is_valid, "{case}");
    });
    println!("of them {length_count} have no 64 bytes");
}

/// Small-order A and R, in every encoding, and mixed-order ones: the quick rule and the slow one answer alike.
/// spec: p2p/signature-rule
#[test]
fn ed25519_at_the_edges_agrees_with_another_library() {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::scalar::Scalar;
    use sha2::{Digest, Sha512};
    let mut accepted = 0;
    let secret = Scalar::from(0x1234_5678u64);
    for torsion_a in EIGHT_TORSION {
        for torsion_r in EIGHT_TORSION {
            for (is_large_a, is_large_r) in [(true, true), (true, false), (false, true), (false, false)] {
                for text in 0..12u8 {
                    let nonce = Scalar::from(if is_large_r { 77u64 } else { 0 });
                    let secret = if is_large_a { secret } else { Scalar::ZERO };
                    let a = (ED25519_BASEPOINT_POINT * secret + torsion_a).compress().0;
                    let r = (ED25519_BASEPOINT_POINT * nonce + torsion_r).compress().0;
                    let hash: [u8; 64] =
                        Sha512::new().chain_update(r).chain_update(a).chain_update([text]).finalize().into();
                    let s = nonce + Scalar::from_bytes_mod_order_wide(&hash) * secret;
                    let signature = [r, s.to_bytes()].concat().try_into().unwrap();
                    let quick = verify(&NodeId(a), &[text], &signature);
                    assert_eq!(quick.is_ok(), strict(&NodeId(a), &[text], &signature));
                    accepted += usize::from(quick.is_ok());
                    if !is_acceptable_point(&a) || !is_acceptable_point(&r) {
                        assert_eq!(quick, Err(BadSignature));
                    }
                }
            }
        }
    }
    assert!(accepted > 12, "{accepted} of them hold without a cofactor");
}

fn suite_case(suite: Suite, case: &Value, nonce: &[u8; 12]) {
    let secret = hex(&case["key"]).try_into().unwrap();
    let (plain, associated) = (hex(&case["msg"]), hex(&case["aad"]));
    let sealed = [hex(&case["ct"]), hex(&case["tag"])].concat();
    let key = AwsLc::key(suite, &secret);
    let mut opened = sealed.clone();
    let result = key.open_once(nonce, &associated, &mut opened);
    if case["result"] == "valid" {
        assert_eq!(result, Ok(plain.len()), "{case}");
        assert_eq!(opened[..plain.len()], plain, "{case}");
        let mut bytes = plain;
        let tag = key.seal_once(nonce, &associated, &mut bytes);
        assert_eq!([&bytes[..], &tag].concat(), sealed, "{case}");
    } else {
        assert_eq!(result, Err(Forged), "{case}");
    }
}

/// A key size that we never use, through the library that we use.
fn other_key_case(case: &Value, nonce: [u8; 12]) {
    let key = hex(&case["key"]);
    let algorithm = if key.len() == 16 { &aead::AES_128_GCM } else { &aead::AES_192_GCM };
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, &key).unwrap());
    let mut sealed = [hex(&case["ct"]), hex(&case["tag"])].concat();
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    let opened = key.open_in_place(nonce, aead::Aad::from(hex(&case["aad"])), &mut sealed);
    assert_eq!(opened.is_ok(), case["result"] == "valid", "{case}");
}

/// Cases with our key and nonce sizes go through our own keys; other key sizes through aws-lc; other nonces
/// cannot be said in our types, and aws-lc refuses them as well.
fn aead_file(name: &str, known_count: usize, suite: Suite) {
    let (mut ours, mut other_keys, mut refused) = (0, 0, 0);
    each(name, known_count, |_, case| {
        let nonce = hex(&case["iv"]);
        match <[u8; 12]>::try_from(nonce) {
            Ok(nonce) if hex(&case["key"]).len() == 32 => {
                suite_case(suite, case, &nonce);
                ours += 1;
            }
            Ok(nonce) => {
                other_key_case(case, nonce);
                other_keys += 1;
            }
            Err(nonce) => {
                assert!(aead::Nonce::try_assume_unique_for_key(&nonce).is_err(), "{case}");
                refused += 1;
            }
        }
    });
    println!(
        "of them {ours} with our sizes, {other_keys} with other keys, {refused} with nonces that are refused"
    );
}

#[test]
fn aes_gcm() {
    aead_file("wycheproof_aes_gcm.json", 316, Suite::AesGcm);
}

#[test]
fn chacha20_poly1305() {
    aead_file("wycheproof_chacha20_poly1305.json", 325, Suite::ChaChaPoly);
}
