//! The Noise handshakes, cut into the pieces that packets carry: IK when the peer's key is known, XX when
//! only its address is.
//!
//! In:    a prologue, a static pair, 32 random bytes, payloads, the peer's pieces.
//! Out:   pieces, payloads, at the end the secrets of both directions.
//! Holds: a message that does not verify changes nothing: the true one is still accepted after it.
//!
//! It checks no identity: whoever calls compares the payload's Ed25519 key with the static that is proven
//! here (`binding`).
//! spec: atp/handshake

use snow::HandshakeState;
use snow::params::{
    BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifierList, HandshakePattern, HashChoice,
    NoiseParams,
};
use zeroize::Zeroizing;

use super::crypto::{Crypto, StaticPublic, Suite, TAG_LEN};

/// Bytes of a sealed static key.
pub const SEALED_STATIC_LEN: usize = 32 + TAG_LEN;
/// Bytes of a handshake message at most: ephemeral, static, payload and tag.
pub const MESSAGE_LEN_MAX: usize = 2_048;
/// Bytes that a prologue may carry behind its fixed part.
pub const PROLOGUE_EXTRA_MAX: usize = 64;

const LABEL: &[u8; 14] = b"dunlin session";
const PROLOGUE_LEN_MAX: usize = LABEL.len() + 2 + 32 + PROLOGUE_EXTRA_MAX;

/// Why a handshake message got nowhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HandshakeError {
    /// The peer's message does not verify: another network, another key, or a forgery. Nothing changed.
    #[error("the handshake message does not verify")]
    Refused,
    /// The caller's payload or buffer does not fit. Nothing changed.
    #[error("the handshake payload does not fit")]
    NoRoom,
    /// The caller asked for a message that this pattern does not have now. Nothing changed.
    #[error("not this side's turn in the handshake")]
    OutOfTurn,
}

/// What both sides must agree on before the first byte; any difference ends the handshake.
#[derive(Clone, Copy)]
pub struct Prologue<'a> {
    /// The protocol's version, as in the Hello.
    pub version: u8,
    /// The suite, as in the Hello.
    pub suite: Suite,
    /// The hash of the network's name.
    pub network: &'a [u8; 32],
    /// Anything more, at most `PROLOGUE_EXTRA_MAX` bytes: the old handshake's hash in a re-handshake.
    pub extra: &'a [u8],
}

impl Prologue<'_> {
    fn write<'b>(&self, out: &'b mut [u8; PROLOGUE_LEN_MAX]) -> &'b [u8] {
        assert!(self.extra.len() <= PROLOGUE_EXTRA_MAX, "the caller's prologue is too long");
        let mut len = 0;
        for part in [LABEL.as_slice(), &[self.version, self.suite.byte()], self.network, self.extra] {
            out[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        &out[..len]
    }
}

/// What a message carries in front of its payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Front {
    /// The sender's ephemeral key, in clear.
    pub ephemeral: [u8; 32],
    /// The sender's static key, sealed: in IK's first and in XX's second message.
    pub sealed_static: Option<[u8; SEALED_STATIC_LEN]>,
}

/// What a finished handshake leaves: wiped when dropped, but for the hash.
pub struct Secrets {
    /// The secret of what we send.
    pub send: Zeroizing<[u8; 32]>,
    /// The secret of what we receive.
    pub receive: Zeroizing<[u8; 32]>,
    /// The hash of all that was said; the same on both sides, not secret.
    pub hash: [u8; 32],
}

/// Who asks.
pub struct Initiator {
    state: Box<HandshakeState>,
    pattern: HandshakePattern,
}

impl Initiator {
    /// IK: the peer's static key is known. `ephemeral` is 32 fresh random bytes.
    #[must_use]
    pub fn ik<C: Crypto>(
        pair: &C::Static,
        remote: StaticPublic,
        prologue: &Prologue<'_>,
        ephemeral: Zeroizing<[u8; 32]>,
    ) -> Self {
        let state =
            build::<C>((HandshakePattern::IK, Role::Initiator(Some(remote))), pair, prologue, ephemeral);
        Self { state, pattern: HandshakePattern::IK }
    }

    /// XX: the peer's static key is learned.
    #[must_use]
    pub fn xx<C: Crypto>(pair: &C::Static, prologue: &Prologue<'_>, ephemeral: Zeroizing<[u8; 32]>) -> Self {
        let state = build::<C>((HandshakePattern::XX, Role::Initiator(None)), pair, prologue, ephemeral);
        Self { state, pattern: HandshakePattern::XX }
    }

    /// The first message. IK seals `payload` into the first `payload.len() + 16` bytes of `out`; XX has no
    /// payload yet and takes an empty one.
    ///
    /// # Errors
    /// `NoRoom` or `OutOfTurn`.
    pub fn write_first(&mut self, payload: &[u8], out: &mut [u8]) -> Result<Front, HandshakeError> {
        let shape = if self.pattern == HandshakePattern::IK { Shape::WithStatic } else { Shape::Bare };
        write_front(&mut self.state, shape, payload, out)
    }

    /// The second message: its payload goes into `out`, its length is returned.
    ///
    /// # Errors
    /// `Refused`: wait for the true one. `NoRoom` or `OutOfTurn`.
    pub fn read_second(
        &mut self,
        front: &Front,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, HandshakeError> {
        let shape = if self.pattern == HandshakePattern::IK { Shape::Plain } else { Shape::WithStatic };
        read_front(&mut self.state, shape, front, sealed, out)
    }

    /// XX's third message: the sealed static, and `payload` sealed into `out` as in `write_first`.
    ///
    /// # Errors
    /// `NoRoom` or `OutOfTurn`.
    pub fn write_third(
        &mut self,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<[u8; SEALED_STATIC_LEN], HandshakeError> {
        let room = out.get_mut(..payload.len() + TAG_LEN).ok_or(HandshakeError::NoRoom)?;
        let mut message = [0; MESSAGE_LEN_MAX];
        let written = write(&mut self.state, payload, &mut message)?;
        let (sealed_static, sealed) = written.split_first_chunk().ok_or(HandshakeError::OutOfTurn)?;
        room.copy_from_slice(sealed);
        Ok(*sealed_static)
    }

    /// The peer's proven static key, once it is known.
    #[must_use]
    pub fn remote_static(&self) -> Option<StaticPublic> {
        remote_static(&self.state)
    }

    /// The secrets.
    ///
    /// # Panics
    /// When the last message was not read or written yet: the caller's fault.
    #[must_use]
    pub fn into_secrets(mut self) -> Secrets {
        let (send, receive, hash) = split(&mut self.state);
        Secrets { send, receive, hash }
    }
}

/// Who answers.
pub struct Responder<C: Crypto> {
    state: Box<HandshakeState>,
    pattern: HandshakePattern,
    /// XX alone can be damaged by a forgery after its second message; this is what it is made again from.
    again: Option<Box<Again<C>>>,
}

/// All that went into an XX responder up to its second message.
struct Again<C: Crypto> {
    pair: C::Static,
    suite: Suite,
    prologue: Vec<u8>,
    ephemeral: Zeroizing<[u8; 32]>,
    first: [u8; 32],
    payload: Vec<u8>,
}

impl<C: Crypto> Responder<C> {
    /// IK, for one Hello.
    #[must_use]
    pub fn ik(pair: &C::Static, prologue: &Prologue<'_>, ephemeral: Zeroizing<[u8; 32]>) -> Self {
        let state = build::<C>((HandshakePattern::IK, Role::Responder), pair, prologue, ephemeral);
        Self { state, pattern: HandshakePattern::IK, again: None }
    }

    /// XX, for one Hello whose cookie was right.
    #[must_use]
    pub fn xx(pair: &C::Static, prologue: &Prologue<'_>, ephemeral: Zeroizing<[u8; 32]>) -> Self {
        let state = build::<C>((HandshakePattern::XX, Role::Responder), pair, prologue, ephemeral.clone());
        let mut bytes = [0; PROLOGUE_LEN_MAX];
        let again = Again {
            pair: pair.clone(),
            suite: prologue.suite,
            prologue: prologue.write(&mut bytes).to_vec(),
            ephemeral,
            first: [0; 32],
            payload: Vec::new(),
        };
        Self { state, pattern: HandshakePattern::XX, again: Some(Box::new(again)) }
    }

    /// The first message: its payload goes into `out`, its length is returned (XX: 0, and `sealed` is empty).
    ///
    /// # Errors
    /// `Refused`: drop this responder. `NoRoom` or `OutOfTurn`.
    pub fn read_first(
        &mut self,
        front: &Front,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, HandshakeError> {
        let shape = if self.pattern == HandshakePattern::IK { Shape::WithStatic } else { Shape::Bare };
        if let Some(again) = &mut self.again {
            again.first = front.ephemeral;
        }
        read_front(&mut self.state, shape, front, sealed, out)
    }

    /// The second message, `payload` sealed into the first `payload.len() + 16` bytes of `out`. With IK the
    /// handshake is now done.
    ///
    /// # Errors
    /// `NoRoom` or `OutOfTurn`.
    pub fn write_second(&mut self, payload: &[u8], out: &mut [u8]) -> Result<Front, HandshakeError> {
        let shape = if self.pattern == HandshakePattern::IK { Shape::Plain } else { Shape::WithStatic };
        let front = write_front(&mut self.state, shape, payload, out)?;
        if let Some(again) = &mut self.again {
            again.payload = payload.to_vec();
        }
        Ok(front)
    }

    /// XX's third message: its payload goes into `out`, its length is returned.
    ///
    /// # Errors
    /// `Refused`: wait for the true one. `NoRoom` or `OutOfTurn`.
    pub fn read_third(
        &mut self,
        sealed_static: &[u8; SEALED_STATIC_LEN],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, HandshakeError> {
        let result = read(&mut self.state, [&[], sealed_static, sealed], out);
        if result == Err(HandshakeError::Refused) {
            self.restore()?;
        }
        result
    }

    /// The peer's proven static key, once it is known.
    #[must_use]
    pub fn remote_static(&self) -> Option<StaticPublic> {
        remote_static(&self.state)
    }

    /// The secrets.
    ///
    /// # Panics
    /// When the last message was not read or written yet: the caller's fault.
    #[must_use]
    pub fn into_secrets(mut self) -> Secrets {
        let (receive, send, hash) = split(&mut self.state);
        Secrets { send, receive, hash }
    }

    /// snow takes back its hash after a bad message, but not its cipher: a copy of a true Finish with another
    /// payload would lock the true one out.
    fn restore(&mut self) -> Result<(), HandshakeError> {
        let Some(again) = &self.again else { return Ok(()) };
        let form = (HandshakePattern::XX, Role::Responder);
        self.state = build_raw::<C>(form, again.suite, &again.pair, &again.prologue, again.ephemeral.clone());
        let mut message = [0; MESSAGE_LEN_MAX];
        self.state.read_message(&again.first, &mut []).map_err(|error| fault(&error))?;
        self.state.write_message(&again.payload, &mut message).map_err(|error| fault(&error))?;
        Ok(())
    }
}

/// Which side, and whom it knows.
#[derive(Clone, Copy)]
enum Role {
    Initiator(Option<StaticPublic>),
    Responder,
}

fn build<C: Crypto>(
    form: (HandshakePattern, Role),
    pair: &C::Static,
    prologue: &Prologue<'_>,
    ephemeral: Zeroizing<[u8; 32]>,
) -> Box<HandshakeState> {
    let mut bytes = [0; PROLOGUE_LEN_MAX];
    build_raw::<C>(form, prologue.suite, pair, prologue.write(&mut bytes), ephemeral)
}

fn build_raw<C: Crypto>(
    (pattern, role): (HandshakePattern, Role),
    suite: Suite,
    pair: &C::Static,
    prologue: &[u8],
    ephemeral: Zeroizing<[u8; 32]>,
) -> Box<HandshakeState> {
    let builder = snow::Builder::with_resolver(params(pattern, suite), C::resolver(pair, ephemeral));
    let builder = builder.local_private_key(C::static_secret(pair)).and_then(|b| b.prologue(prologue));
    let state = match &role {
        Role::Initiator(Some(remote)) => {
            builder.and_then(|b| b.remote_public_key(&remote.0)).and_then(snow::Builder::build_initiator)
        }
        Role::Initiator(None) => builder.and_then(snow::Builder::build_initiator),
        Role::Responder => builder.and_then(snow::Builder::build_responder),
    };
    Box::new(state.expect("every part is given once and the resolver has all primitives"))
}

fn params(pattern: HandshakePattern, suite: Suite) -> NoiseParams {
    let (cipher, cipher_name) = match suite {
        Suite::AesGcm => (CipherChoice::AESGCM, "AESGCM"),
        Suite::ChaChaPoly => (CipherChoice::ChaChaPoly, "ChaChaPoly"),
    };
    let handshake = HandshakeChoice { pattern, modifiers: HandshakeModifierList { list: Vec::new() } };
    let name = ["Noise_", pattern.as_str(), "_25519_", cipher_name, "_SHA256"].concat();
    NoiseParams::new(name, BaseChoice::Noise, handshake, DHChoice::Curve25519, cipher, HashChoice::SHA256)
}

/// What a message with an ephemeral key carries besides.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Shape {
    /// Nothing: XX's first.
    Bare,
    /// A sealed payload: IK's second.
    Plain,
    /// A sealed static and a sealed payload: IK's first, XX's second.
    WithStatic,
}

fn write_front(
    state: &mut HandshakeState,
    shape: Shape,
    payload: &[u8],
    out: &mut [u8],
) -> Result<Front, HandshakeError> {
    let sealed_len = if shape == Shape::Bare { payload.len() } else { payload.len() + TAG_LEN };
    if shape == Shape::Bare && !payload.is_empty() || out.len() < sealed_len {
        return Err(HandshakeError::NoRoom);
    }
    let mut message = [0; MESSAGE_LEN_MAX];
    let written = write(state, payload, &mut message)?;
    let (front, sealed) = written.split_at(written.len() - sealed_len);
    let (ephemeral, sealed_static) = front.split_first_chunk().ok_or(HandshakeError::OutOfTurn)?;
    out[..sealed_len].copy_from_slice(sealed);
    Ok(Front { ephemeral: *ephemeral, sealed_static: sealed_static.try_into().ok() })
}

fn read_front(
    state: &mut HandshakeState,
    shape: Shape,
    front: &Front,
    sealed: &[u8],
    out: &mut [u8],
) -> Result<usize, HandshakeError> {
    if front.sealed_static.is_some() != (shape == Shape::WithStatic)
        || shape == Shape::Bare && !sealed.is_empty()
    {
        return Err(HandshakeError::Refused);
    }
    let sealed_static = front.sealed_static.as_ref().map_or(&[][..], |sealed| &sealed[..]);
    read(state, [&front.ephemeral, sealed_static, sealed], out)
}

fn write<'m>(
    state: &mut HandshakeState,
    payload: &[u8],
    message: &'m mut [u8; MESSAGE_LEN_MAX],
) -> Result<&'m [u8], HandshakeError> {
    if 32 + SEALED_STATIC_LEN + payload.len() + TAG_LEN > MESSAGE_LEN_MAX {
        return Err(HandshakeError::NoRoom);
    }
    let len = state.write_message(payload, message).map_err(|error| fault(&error))?;
    Ok(&message[..len])
}

/// The last part is the sealed payload.
fn read(state: &mut HandshakeState, parts: [&[u8]; 3], out: &mut [u8]) -> Result<usize, HandshakeError> {
    if out.len() + TAG_LEN < parts[2].len() {
        return Err(HandshakeError::NoRoom);
    }
    let mut message = [0; MESSAGE_LEN_MAX];
    let mut len = 0;
    for part in parts {
        let room = message.get_mut(len..len + part.len()).ok_or(HandshakeError::Refused)?;
        room.copy_from_slice(part);
        len += part.len();
    }
    state.read_message(&message[..len], out).map_err(|error| fault(&error))
}

fn fault(error: &snow::Error) -> HandshakeError {
    match error {
        snow::Error::State(_) => HandshakeError::OutOfTurn,
        _ => HandshakeError::Refused,
    }
}

fn remote_static(state: &HandshakeState) -> Option<StaticPublic> {
    state.get_remote_static()?.try_into().ok().map(StaticPublic)
}

/// What the initiator sends under, what the responder sends under, and the hash.
fn split(state: &mut HandshakeState) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>, [u8; 32]) {
    assert!(state.is_handshake_finished(), "the last message comes before the secrets");
    let hash = state.get_handshake_hash().try_into().expect("SHA-256 has 32 bytes");
    let (forth, back) = state.dangerously_get_raw_split();
    (Zeroizing::new(forth), Zeroizing::new(back), hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::session::aws_lc::AwsLc;
    use crate::session::counting::Counting;

    const NETWORK: [u8; 32] = [0x4e; 32];
    const HELLO: &[u8] = b"identity, time, instance, early data";
    const WELCOME: &[u8] = b"identity, instance, token, answer";

    fn prologue(suite: Suite) -> Prologue<'static> {
        Prologue { version: 1, suite, network: &NETWORK, extra: &[] }
    }

    fn seed(byte: u8) -> Zeroizing<[u8; 32]> {
        Zeroizing::new([byte; 32])
    }

    fn pair<C: Crypto>(byte: u8) -> C::Static {
        C::static_pair(&Identity::from_seed([byte; 32]))
    }

    fn flip<const N: usize>(bytes: &[u8; N], at: usize) -> [u8; N] {
        let mut changed = *bytes;
        changed[at] ^= 4;
        changed
    }

    fn assert_agree(near: &Secrets, far: &Secrets) {
        assert_eq!(near.send, far.receive);
        assert_eq!(near.receive, far.send);
        assert_eq!(near.hash, far.hash);
        assert_ne!(near.send, near.receive);
    }

    /// IK: early data in the first flight, keys after the second; forged Welcomes on the way change nothing.
    fn ik_story<C: Crypto>(suite: Suite) {
        let (near, far) = (pair::<C>(1), pair::<C>(2));
        let mut initiator = Initiator::ik::<C>(&near, C::static_public(&far), &prologue(suite), seed(3));
        let mut responder = Responder::<C>::ik(&far, &prologue(suite), seed(4));
        let (mut sealed, mut plain) = ([0; 100], [0; 100]);

        let front = initiator.write_first(HELLO, &mut sealed).unwrap();
        let len = responder.read_first(&front, &sealed[..HELLO.len() + TAG_LEN], &mut plain).unwrap();
        assert_eq!(&plain[..len], HELLO);
        assert_eq!(responder.remote_static(), Some(C::static_public(&near)));

        let front = responder.write_second(WELCOME, &mut sealed).unwrap();
        assert_eq!(front.sealed_static, None);
        let sealed = &sealed[..WELCOME.len() + TAG_LEN];
        for at in [0, 31] {
            let forged = Front { ephemeral: flip(&front.ephemeral, at), sealed_static: None };
            assert_eq!(initiator.read_second(&forged, sealed, &mut plain), Err(HandshakeError::Refused));
        }
        let mut forged = sealed.to_vec();
        forged[3] ^= 1;
        assert_eq!(initiator.read_second(&front, &forged, &mut plain), Err(HandshakeError::Refused));
        let len = initiator.read_second(&front, sealed, &mut plain).unwrap();
        assert_eq!(&plain[..len], WELCOME);
        assert_agree(&initiator.into_secrets(), &responder.into_secrets());
    }

    /// XX: both learn the other's key; a forged Finish made of the true one's static does not lock the true
    /// one out.
    fn xx_story<C: Crypto>(suite: Suite) {
        let (near, far) = (pair::<C>(1), pair::<C>(2));
        let mut initiator = Initiator::xx::<C>(&near, &prologue(suite), seed(3));
        let mut responder = Responder::<C>::xx(&far, &prologue(suite), seed(4));
        let (mut sealed, mut plain) = ([0; 100], [0; 100]);

        let front = initiator.write_first(&[], &mut []).unwrap();
        assert_eq!(responder.read_first(&front, &[], &mut []), Ok(0));
        let front = responder.write_second(WELCOME, &mut sealed).unwrap();
        let len = initiator.read_second(&front, &sealed[..WELCOME.len() + TAG_LEN], &mut plain).unwrap();
        assert_eq!(&plain[..len], WELCOME);
        assert_eq!(initiator.remote_static(), Some(C::static_public(&far)));

        let finish = initiator.write_third(HELLO, &mut sealed).unwrap();
        let sealed = &sealed[..HELLO.len() + TAG_LEN];
        let mut forged = sealed.to_vec();
        forged[0] ^= 1;
        assert_eq!(responder.read_third(&finish, &forged, &mut plain), Err(HandshakeError::Refused));
        assert_eq!(
            responder.read_third(&flip(&finish, 40), sealed, &mut plain),
            Err(HandshakeError::Refused)
        );
        let len = responder.read_third(&finish, sealed, &mut plain).unwrap();
        assert_eq!(&plain[..len], HELLO);
        assert_eq!(responder.remote_static(), Some(C::static_public(&near)));
        assert_agree(&initiator.into_secrets(), &responder.into_secrets());
    }

    /// spec: atp/handshake
    #[test]
    fn both_patterns_in_both_suites_agree_on_secrets() {
        for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
            ik_story::<AwsLc>(suite);
            xx_story::<AwsLc>(suite);
            ik_story::<Counting>(suite);
            xx_story::<Counting>(suite);
        }
    }

    fn hello_is_read<C: Crypto>(
        change: impl FnOnce(&mut Front, &mut Vec<u8>),
        theirs: &Prologue<'_>,
    ) -> bool {
        let (near, far) = (pair::<C>(1), pair::<C>(2));
        let ours = prologue(Suite::AesGcm);
        let mut initiator = Initiator::ik::<C>(&near, C::static_public(&far), &ours, seed(3));
        let mut responder = Responder::<C>::ik(&far, theirs, seed(4));
        let mut sealed = vec![0; HELLO.len() + TAG_LEN];
        let mut front = initiator.write_first(HELLO, &mut sealed).unwrap();
        change(&mut front, &mut sealed);
        responder.read_first(&front, &sealed, &mut [0; 100]).is_ok()
    }

    fn every_difference_ends_the_handshake<C: Crypto>() {
        let ours = prologue(Suite::AesGcm);
        assert!(hello_is_read::<C>(|_, _| (), &ours));
        assert!(!hello_is_read::<C>(|_, _| (), &Prologue { version: 2, ..ours }));
        assert!(!hello_is_read::<C>(|_, _| (), &Prologue { suite: Suite::ChaChaPoly, ..ours }));
        assert!(!hello_is_read::<C>(|_, _| (), &Prologue { network: &[0x4f; 32], ..ours }));
        assert!(!hello_is_read::<C>(|_, _| (), &Prologue { extra: &[0; 32], ..ours }));
        assert!(!hello_is_read::<C>(|front, _| front.ephemeral[9] ^= 1, &ours));
        assert!(!hello_is_read::<C>(|front, _| front.ephemeral = [0; 32], &ours));
        assert!(!hello_is_read::<C>(|front, _| front.sealed_static = None, &ours));
        let damage = |front: &mut Front, _: &mut Vec<u8>| {
            front.sealed_static = front.sealed_static.map(|sealed| flip(&sealed, 5));
        };
        assert!(!hello_is_read::<C>(damage, &ours));
        assert!(!hello_is_read::<C>(|_, sealed| sealed[0] ^= 1, &ours));
        assert!(!hello_is_read::<C>(|_, sealed| sealed.truncate(9), &ours));
        assert!(!hello_is_read::<C>(|_, sealed| sealed.resize(4_000, 0), &ours));
    }

    #[test]
    fn a_hello_is_read_whole_or_not_at_all() {
        every_difference_ends_the_handshake::<AwsLc>();
        every_difference_ends_the_handshake::<Counting>();
    }

    /// Half-open handshakes lie in a table of whoever owns it; each has one state of snow on the heap.
    #[test]
    fn a_half_open_handshake_is_small_and_may_change_its_thread() {
        fn may_change_its_thread<T: Send>() -> usize {
            size_of::<T>()
        }
        assert!(may_change_its_thread::<Initiator>() <= 16);
        assert!(may_change_its_thread::<Responder<AwsLc>>() <= 24);
        println!("snow's state: {} bytes", size_of::<HandshakeState>());
        assert!(size_of::<HandshakeState>() <= 1_280);
    }

    #[test]
    fn a_message_out_of_turn_or_too_long_changes_nothing() {
        let (near, far) = (pair::<Counting>(1), pair::<Counting>(2));
        let ours = prologue(Suite::AesGcm);
        let mut initiator = Initiator::ik::<Counting>(&near, Counting::static_public(&far), &ours, seed(3));
        let mut sealed = [0; MESSAGE_LEN_MAX];
        assert_eq!(initiator.write_first(&[0; 2_048], &mut sealed), Err(HandshakeError::NoRoom));
        assert_eq!(initiator.write_first(HELLO, &mut [0; 20]), Err(HandshakeError::NoRoom));
        let front = Front { ephemeral: [1; 32], sealed_static: None };
        assert_eq!(
            initiator.read_second(&front, &sealed[..50], &mut [0; 50]),
            Err(HandshakeError::OutOfTurn)
        );
        assert!(initiator.write_first(HELLO, &mut sealed).is_ok());
        assert_eq!(initiator.write_first(HELLO, &mut sealed), Err(HandshakeError::OutOfTurn));
        assert_eq!(initiator.write_third(HELLO, &mut sealed), Err(HandshakeError::OutOfTurn));
    }
}
