//! A payload sealed to its recipient: neither a relay nor anybody else reads it, or passes it on as its own.
//!
//! In:    a payload, both nodes' static keys, 32 random bytes, what the message's header says.
//! Out:   ephemeral key 32, tag 16, ciphertext, tag 16; and back.
//! Holds: what was sealed under one header opens under no other: operation, flags, from, to, freshness and network are the
//!        prologue.
//!
//! Noise_K, both statics known, `Noise_K_25519_AESGCM_SHA256`. We let its one message carry nothing but itself, and seal
//! the payload with the key that its split gives, in place and under nonce 0: a Noise message ends at 65,535 bytes, a
//! payload at 1 MiB. The split's key seals this payload and nothing else ever, since the ephemeral key is drawn for it.
//!
//! Noise_K proves the sender to the recipient alone, and whoever stole the recipient's key can read what was sealed to it
//! before and can make payloads from anybody to it. The signed form's signature does not help it.
//!
//! spec: p2p/sealed-payload

use dunlin_codec::label::Network;
use dunlin_codec::message::{PROLOGUE_LEN_MAX, SignedHeader};
use snow::HandshakeState;
use zeroize::Zeroizing;

use crate::session::crypto::{Crypto, Forged, NONCE_LEN, PacketKey, StaticPublic, Suite, TAG_LEN};

/// Bytes that stand in front of the ciphertext: ephemeral key and the tag of Noise's own message.
pub const FRONT_LEN: usize = 32 + TAG_LEN;
/// Bytes that sealing adds.
pub const OVERHEAD_LEN: usize = FRONT_LEN + TAG_LEN;

const PATTERN: &str = "Noise_K_25519_AESGCM_SHA256";

/// The nonce of the one thing that a split's key seals.
const NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// Seals the payload that lies in `room` behind `FRONT_LEN` bytes and in front of `TAG_LEN` bytes. `header` says what the
/// message will say, `is_sealed` among it; `ephemeral` is 32 fresh random bytes. Some 100 us.
///
/// # Panics
/// When `room` is shorter than `OVERHEAD_LEN`: the caller's fault.
pub fn seal<C: Crypto>(
    pair: &C::Static,
    recipient: StaticPublic,
    (header, network): (&SignedHeader, &Network),
    ephemeral: Zeroizing<[u8; 32]>,
    room: &mut [u8],
) {
    let (front, rest) = room.split_first_chunk_mut::<FRONT_LEN>().expect("room for the overhead");
    let (payload, tag) = rest.split_last_chunk_mut::<TAG_LEN>().expect("room for the overhead");
    let mut bytes = [0; PROLOGUE_LEN_MAX];
    let prologue = header.prologue(network, &mut bytes);
    let mut state = state::<C>(pair, recipient, prologue, ephemeral, true);
    // The recipient's key was checked when its node became known: no other makes the shared secret zero.
    let len = state.write_message(&[], front).expect("K's one message is this long");
    assert_eq!(len, FRONT_LEN, "an ephemeral key and a tag");
    *tag = key::<C>(&mut state).seal_once(&NONCE, &[], payload);
}

/// Opens `sealed` in place; the payload is what it gives. `header` is that of the message it came in. Some 100 us.
///
/// # Errors
/// `Forged`: not sealed by `sender` to us under this header. `sealed` is then worthless.
pub fn open<'b, C: Crypto>(
    pair: &C::Static,
    sender: StaticPublic,
    (header, network): (&SignedHeader, &Network),
    sealed: &'b mut [u8],
) -> Result<&'b mut [u8], Forged> {
    let (front, rest) = sealed.split_first_chunk_mut::<FRONT_LEN>().ok_or(Forged)?;
    let mut bytes = [0; PROLOGUE_LEN_MAX];
    let prologue = header.prologue(network, &mut bytes);
    let mut state = state::<C>(pair, sender, prologue, Zeroizing::new([0; 32]), false);
    state.read_message(front, &mut []).map_err(|_| Forged)?;
    let len = key::<C>(&mut state).open_once(&NONCE, &[], rest)?;
    rest.get_mut(..len).ok_or(Forged)
}

fn state<C: Crypto>(
    pair: &C::Static,
    remote: StaticPublic,
    prologue: &[u8],
    ephemeral: Zeroizing<[u8; 32]>,
    is_sender: bool,
) -> HandshakeState {
    let params = PATTERN.parse().expect("snow knows its own patterns");
    let builder = snow::Builder::with_resolver(params, C::resolver(pair, ephemeral));
    let builder = builder
        .local_private_key(C::static_secret(pair))
        .and_then(|builder| builder.prologue(prologue))
        .and_then(|builder| builder.remote_public_key(&remote.0));
    let state = if is_sender {
        builder.and_then(snow::Builder::build_initiator)
    } else {
        builder.and_then(snow::Builder::build_responder)
    };
    state.expect("every part is given once and the resolver has all primitives")
}

/// The key of the one direction that there is.
fn key<C: Crypto>(state: &mut HandshakeState) -> C::Key {
    let (forth, back) = state.dangerously_get_raw_split();
    drop(Zeroizing::new(back));
    C::key(Suite::AesGcm, &Zeroizing::new(forth))
}

#[cfg(test)]
mod tests {
    use dunlin_codec::ids::NodeId;
    use dunlin_codec::message::{Freshness, Operation};

    use super::*;
    use crate::identity::Identity;
    use crate::session::aws_lc::AwsLc;
    use crate::session::counting::Counting;

    const NETWORK: Network = Network([7; 32]);

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32])
    }

    fn header() -> SignedHeader {
        SignedHeader {
            operation: Operation::Whisper,
            is_sealed: true,
            from: identity(1).id(),
            to: identity(2).id(),
            freshness: Some(Freshness { time_ms: 1, instance: 2, count: 3 }),
        }
    }

    fn public<C: Crypto>(id: NodeId) -> StaticPublic {
        C::public_of(&id).unwrap()
    }

    fn sealed<C: Crypto>(payload: &[u8]) -> Vec<u8> {
        let mut room = [&[0; FRONT_LEN][..], payload, &[0; TAG_LEN]].concat();
        let (pair, to) = (C::static_pair(&identity(1)), public::<C>(identity(2).id()));
        seal::<C>(&pair, to, (&header(), &NETWORK), Zeroizing::new([9; 32]), &mut room);
        room
    }

    fn opened<C: Crypto>(
        (recipient, sender): (u8, u8),
        header: &SignedHeader,
        network: &Network,
        sealed: &[u8],
    ) -> Result<Vec<u8>, Forged> {
        let pair = C::static_pair(&identity(recipient));
        let mut sealed = sealed.to_vec();
        let from = public::<C>(identity(sender).id());
        open::<C>(&pair, from, (header, network), &mut sealed).map(|payload| payload.to_vec())
    }

    fn assert_only_the_recipient_reads<C: Crypto>() {
        for payload in [&b""[..], b"for you alone", &[5; 100_000]] {
            let sealed = sealed::<C>(payload);
            assert_eq!(sealed.len(), payload.len() + OVERHEAD_LEN);
            assert_eq!(opened::<C>((2, 1), &header(), &NETWORK, &sealed).as_deref(), Ok(payload));
            assert_eq!(opened::<C>((3, 1), &header(), &NETWORK, &sealed), Err(Forged), "another recipient");
            assert_eq!(opened::<C>((2, 3), &header(), &NETWORK, &sealed), Err(Forged), "another sender");
        }
        let sealed = sealed::<C>(b"for you alone");
        assert!(!sealed.windows(7).any(|bytes| bytes == b"for you"), "it is not readable");
    }

    /// spec: p2p/sealed-payload
    #[test]
    fn only_the_recipient_reads_it_and_knows_from_whom() {
        assert_only_the_recipient_reads::<AwsLc>();
        assert_only_the_recipient_reads::<Counting>();
    }

    /// A relay cannot put it into a message of its own, nor anybody send it a second time as if it were new.
    /// spec: p2p/sealed-payload
    #[test]
    fn under_another_header_it_does_not_open() {
        let sealed = sealed::<AwsLc>(b"for you alone");
        let header = header();
        let later = Some(Freshness { time_ms: 1, instance: 2, count: 4 });
        let changed = [
            SignedHeader { operation: Operation::Speak, ..header },
            SignedHeader { is_sealed: false, ..header },
            SignedHeader { from: identity(3).id(), ..header },
            SignedHeader { to: identity(3).id(), ..header },
            SignedHeader { freshness: later, ..header },
            SignedHeader { freshness: None, ..header },
        ];
        for changed in changed {
            assert_eq!(opened::<AwsLc>((2, 1), &changed, &NETWORK, &sealed), Err(Forged), "{changed:?}");
        }
        assert_eq!(opened::<AwsLc>((2, 1), &header, &Network([8; 32]), &sealed), Err(Forged));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let sealed = sealed::<AwsLc>(b"for you alone");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x10;
            assert_eq!(opened::<AwsLc>((2, 1), &header(), &NETWORK, &changed), Err(Forged), "byte {at}");
        }
        for len in [0, 1, FRONT_LEN - 1, FRONT_LEN, OVERHEAD_LEN - 1, sealed.len() - 1] {
            assert_eq!(
                opened::<AwsLc>((2, 1), &header(), &NETWORK, &sealed[..len]),
                Err(Forged),
                "{len} bytes"
            );
        }
        // An ephemeral key of small order: the shared secret is all zero.
        let zero = [&[0; 32][..], &sealed[32..]].concat();
        assert_eq!(opened::<AwsLc>((2, 1), &header(), &NETWORK, &zero), Err(Forged));
    }

    /// The same as by snow alone, whose own message carries the payload's key: nothing of ours is between.
    #[test]
    fn the_first_message_is_that_of_noise() {
        let sealed = sealed::<AwsLc>(b"for you alone");
        let mut bytes = [0; PROLOGUE_LEN_MAX];
        let header = header();
        let prologue = header.prologue(&NETWORK, &mut bytes);
        let pair = AwsLc::static_pair(&identity(2));
        let mut state = state::<AwsLc>(
            &pair,
            public::<AwsLc>(identity(1).id()),
            prologue,
            Zeroizing::new([0; 32]),
            false,
        );
        assert_eq!(state.read_message(&sealed[..FRONT_LEN], &mut []), Ok(0));
        let mut transport = state.into_transport_mode().unwrap();
        let mut payload = [0; 64];
        let len = transport.read_message(&sealed[FRONT_LEN..], &mut payload).unwrap();
        assert_eq!(&payload[..len], b"for you alone");
    }
}
