//! A session's packet keys, one struct per direction: numbers, key phases, the ratchet.
//!
//! In:    the handshake's secrets, packets to seal and open, acknowledged numbers, time.
//! Out:   sealed and opened packets, and what must happen to the session when a key wears out.
//! Holds: a number is sealed once (I4): the counter lives in `SendKeys`, which is neither `Clone` nor `Sync`,
//!        and never restarts.
//!
//! A key's schedule is several times as large as its secret. A session at rest keeps the secret only; the first packet
//! after that makes the key again, for two microseconds.
//!
//! Each direction ratchets alone: secret' = HKDF(secret, "next"), key = HKDF(secret, "key"). The sender flips
//! its phase bit with every new key, and not again before a packet of the new phase is acknowledged; the
//! receiver follows when the tag of a packet under its next key holds.
//!
//! A re-handshake's split becomes the secret of the next phase. Both ends `hold` from their HANDSHAKE frame
//! on. The initiator `install`s both halves when the answer came; the responder installs its receiving half
//! with its answer, and its sending half when a packet under the former opened (`Opened::is_first_of_phase`):
//! only then does it know that the peer has the keys.
//! spec: atp/rekey

use core::cell::Cell;
use core::marker::PhantomData;
use core::time::Duration;

use dunlin_codec::ids::PacketNumber;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::crypto::{Crypto, Forged, HEADER_LEN, PacketKey, Suite, TAG_LEN};
use crate::limits;
use crate::mutants::{Mutant, planted};
use crate::time::Instant;

/// Packets between two numbers that are skipped, at least (T4).
pub const SKIP_AFTER_MIN: u64 = 64;
/// Packets between two numbers that are skipped, at most (T4).
pub const SKIP_AFTER_MAX: u64 = 256;
/// Packets that did not open within `FORGED_PERIOD` after which new keys are asked for (T23).
pub const FORGED_COUNT_REKEY: u32 = 1 << 20;
/// The period of `FORGED_COUNT_REKEY`.
pub const FORGED_PERIOD: Duration = Duration::from_secs(60);
/// Packets that did not open over a session's life after which it is closed (T23).
pub const FORGED_COUNT_CLOSE: u64 = 1 << 36;

/// When a key wears out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyLimits {
    /// The next phase is due after so many packets.
    pub packets: u64,
    /// Nothing more is sealed after so many packets.
    pub packets_max: u64,
    /// The next phase is due after so long.
    pub life: Duration,
    /// Nothing more is sealed after so long.
    pub life_max: Duration,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self {
            packets: limits::REKEY_AFTER_PACKETS,
            packets_max: limits::REJECT_AFTER_PACKETS,
            life: limits::REKEY_AFTER,
            life_max: limits::REJECT_AFTER,
        }
    }
}

impl KeyLimits {
    /// The limits for datagrams of more than 2,048 bytes under AES-GCM, whose bound counts blocks.
    #[must_use]
    pub fn for_large_datagrams() -> Self {
        Self { packets: 1 << 22, packets_max: 1 << 24, ..Self::default() }
    }
}

/// A secret and the place it stands at in its ratchet.
struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    fn expand(&self, label: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::from_prk(&self.0[..])
            .expect("a secret is as long as the hash")
            .expand(label, &mut out[..])
            .expect("32 bytes are one block");
        out
    }

    fn next(&self) -> Self {
        Self(self.expand(b"next"))
    }

    fn key<C: Crypto>(&self, suite: Suite) -> C::Key {
        C::key(suite, &self.expand(b"key"))
    }
}

/// A packet number that has been taken and must be used: once, in the phase it was taken in.
#[derive(Debug)]
#[must_use = "a number that was taken counts as sent"]
pub struct Ticket {
    number: PacketNumber,
    phase: bool,
}

impl Ticket {
    /// The number, for the packet's header.
    #[must_use]
    pub fn number(&self) -> PacketNumber {
        self.number
    }

    /// The key phase, for the packet's header.
    #[must_use]
    pub fn phase(&self) -> bool {
        self.phase
    }
}

/// The key is worn out and the peer has not acknowledged it: nothing can be sent. The session's fate is its
/// idle timeout's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the key is worn out and the peer acknowledged none of its packets")]
pub struct WornOut;

/// What we seal with.
pub struct SendKeys<C: Crypto> {
    /// None at rest.
    key: Option<C::Key>,
    next_number: u64,
    /// The first number at which something else than counting must be done: the lower of the next two.
    attention_at: u64,
    skip_at: u64,
    stop_at: u64,
    phase: bool,
    is_acknowledged: bool,
    is_held: bool,
    phase_begin: u64,
    phase_since: Instant,
    secret: Secret,
    installed: Option<Box<Secret>>,
    suite: Suite,
    not_sync: PhantomData<Cell<()>>,
}

impl<C: Crypto> SendKeys<C> {
    /// The first phase of a session, from a finished handshake. `draw` is a random number for the first skip.
    ///
    /// # Panics
    /// When the limits are out of order: the caller's fault.
    #[must_use]
    pub fn new(
        suite: Suite,
        secret: Zeroizing<[u8; 32]>,
        limits: &KeyLimits,
        now: Instant,
        draw: u64,
    ) -> Self {
        assert!(limits.packets < limits.packets_max && limits.life < limits.life_max, "limits out of order");
        let secret = Secret(secret);
        let (skip_at, stop_at) = (skip_after(0, draw), limits.packets_max);
        Self {
            key: Some(secret.key::<C>(suite)),
            next_number: 0,
            attention_at: skip_at.min(stop_at),
            skip_at,
            stop_at,
            phase: false,
            is_acknowledged: false,
            is_held: false,
            phase_begin: 0,
            phase_since: now,
            secret,
            installed: None,
            suite,
            not_sync: PhantomData,
        }
    }

    /// The next number. `draw` gives a random number and is asked once in 64 to 256 packets: then a number is
    /// skipped, so that a peer which acknowledges what was never sent gives itself away.
    ///
    /// # Errors
    /// `WornOut`: nothing may be sent until the peer acknowledges a packet of this phase.
    #[inline]
    pub fn take_number(&mut self, draw: impl FnOnce() -> u64) -> Result<Ticket, WornOut> {
        if self.next_number >= self.attention_at {
            self.attend(draw())?;
        }
        let number = PacketNumber(self.next_number);
        self.next_number += 1;
        Ok(Ticket { number, phase: self.phase })
    }

    /// The last number is given out once more: a planted bug.
    #[cfg(feature = "mutants")]
    pub(crate) fn step_back(&mut self) {
        self.next_number = self.next_number.saturating_sub(1).max(self.phase_begin);
    }

    /// Seals `plain` in place; the tag follows it in the packet. `header` is the eight bytes as sent.
    ///
    /// # Panics
    /// When the phase has changed since the number was taken: the caller's fault.
    #[inline]
    #[must_use]
    pub fn seal(&self, ticket: Ticket, header: &[u8; HEADER_LEN], plain: &mut [u8]) -> [u8; TAG_LEN] {
        self.key_of(&ticket).seal(ticket.number, header, plain)
    }

    /// Seals one packet whose plaintext ends elsewhere; as [`PacketKey::seal_with_tail`].
    ///
    /// # Panics
    /// As [`Self::seal`].
    #[inline]
    pub fn seal_with_tail(&self, ticket: Ticket, header: &[u8; HEADER_LEN], body: &mut [u8], tail: &[u8]) {
        self.key_of(&ticket).seal_with_tail(ticket.number, header, body, tail);
    }

    #[inline]
    fn key_of(&self, ticket: &Ticket) -> &C::Key {
        assert!(ticket.phase == self.phase, "a number is used in the phase in which it was taken");
        self.key.as_ref().expect("taking a number makes the key")
    }

    /// To be called before the numbers of a batch are taken: goes on to the next phase when that is due and
    /// allowed. True when it did.
    pub fn advance(&mut self, now: Instant, limits: &KeyLimits) -> bool {
        if self.sealed_count() == 0 {
            // A key's life begins with its first packet.
            self.phase_since = now;
        }
        let age = now.since(self.phase_since);
        let is_worn = age >= limits.life || self.sealed_count() >= limits.packets;
        let is_due = self.installed.is_some() || is_worn && !self.is_held;
        if is_due && (self.is_acknowledged || planted(Mutant::KeyFlippedEarly)) {
            self.flip(now, limits);
            return true;
        }
        if age >= limits.life_max {
            self.stop_at = self.next_number;
            self.attention_at = self.next_number;
        }
        false
    }

    /// Whether the session should send something that the peer must acknowledge, since half of this key's
    /// life is gone and the peer has acknowledged nothing of it. One that only receives sends mere
    /// acknowledgements, which nobody acknowledges: it would end with a worn-out key.
    #[must_use]
    pub fn needs_acknowledgement(&self, now: Instant, limits: &KeyLimits) -> bool {
        let is_half_worn = now.since(self.phase_since) >= limits.life / 2
            || self.sealed_count() >= limits.packets / 2
            || self.installed.is_some();
        is_half_worn && !self.is_acknowledged && self.sealed_count() > 0
    }

    /// Nothing will be sealed for a while: the key goes, and comes back with the next number that is taken.
    pub fn rest(&mut self) {
        self.key = None;
        self.attention_at = self.next_number;
    }

    /// The peer has acknowledged packets up to `largest`.
    pub fn on_acknowledged(&mut self, largest: PacketNumber) {
        self.is_acknowledged |= (self.phase_begin..self.next_number).contains(&largest.0);
    }

    /// No ratchet from now on: our HANDSHAKE frame is on its way. Ends with `install` or `release`.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// The re-handshake came to nothing: the ratchet goes on.
    pub fn release(&mut self) {
        self.is_held = false;
    }

    /// The secret of the next phase, from a re-handshake. The next `advance` after a packet of this phase was
    /// acknowledged flips to it.
    pub fn install(&mut self, secret: Zeroizing<[u8; 32]>) {
        self.installed = Some(Box::new(Secret(secret)));
    }

    /// Nothing can be sealed until the peer acknowledges a packet of this phase.
    #[must_use]
    pub fn is_worn_out(&self) -> bool {
        self.next_number >= self.stop_at
    }

    /// No more messages are sealed with this key: what is left of it is for acknowledgements and probes. Without that two ends
    /// that both have much to send could wear out their keys at once, each waiting for the other's acknowledgement.
    #[must_use]
    pub fn is_sparing(&self, limits: &KeyLimits) -> bool {
        self.sealed_count() >= limits.packets_max - (limits.packets_max - limits.packets) / 2
    }

    /// Everything below was sent or skipped.
    #[must_use]
    pub fn next_number(&self) -> PacketNumber {
        PacketNumber(self.next_number)
    }

    /// The phase bit of what is sealed now.
    #[must_use]
    pub fn phase(&self) -> bool {
        self.phase
    }

    /// Packets of this phase so far, skipped numbers included.
    #[must_use]
    pub fn sealed_count(&self) -> u64 {
        self.next_number - self.phase_begin
    }

    /// spec: atp/skipped-number
    #[cold]
    fn attend(&mut self, draw: u64) -> Result<(), WornOut> {
        if self.key.is_none() {
            self.key = Some(self.secret.key::<C>(self.suite));
        }
        if self.next_number >= self.skip_at && self.next_number < self.stop_at {
            self.next_number += 1;
            self.skip_at = skip_after(self.next_number, draw);
        }
        self.attention_at = self.skip_at.min(self.stop_at);
        if self.next_number >= self.stop_at { Err(WornOut) } else { Ok(()) }
    }

    fn flip(&mut self, now: Instant, limits: &KeyLimits) {
        self.secret = self.installed.take().map_or_else(|| self.secret.next(), |installed| *installed);
        self.key = Some(self.secret.key::<C>(self.suite));
        self.phase = !self.phase;
        self.is_acknowledged = false;
        self.is_held = false;
        self.phase_begin = self.next_number;
        self.phase_since = now;
        self.stop_at = self.phase_begin.saturating_add(limits.packets_max);
        self.attention_at = self.skip_at.min(self.stop_at);
    }
}

fn skip_after(number: u64, draw: u64) -> u64 {
    number + SKIP_AFTER_MIN + draw % (SKIP_AFTER_MAX - SKIP_AFTER_MIN + 1)
}

/// What is known of a packet before it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// Its number, expanded to 64 bits and not seen before.
    pub number: PacketNumber,
    /// Its key phase.
    pub phase: bool,
    /// Its eight bytes of header as received.
    pub header: &'a [u8; HEADER_LEN],
}

/// What an opened packet says about the keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Opened {
    /// Bytes of plaintext, from the start of the buffer.
    pub len: usize,
    /// The peer has gone on to its next phase: call `keep_previous_until` with 3 PTO from now.
    pub is_first_of_phase: bool,
}

/// What a session should do about packets that did not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wear {
    /// Nothing.
    None,
    /// A re-handshake: somebody is guessing tags at a pace. Log it once.
    Rekey,
    /// Close: so many guesses are too many for these ciphers.
    Close,
}

/// What we open with.
pub struct ReceiveKeys<C: Crypto> {
    /// None at rest.
    key: Option<C::Key>,
    phase: bool,
    /// The lowest number that opened in this phase.
    phase_begin: u64,
    secret: Secret,
    previous: Option<Box<(C::Key, Option<Instant>)>>,
    next: Option<Box<(Secret, C::Key)>>,
    suite: Suite,
    forged: Forgeries,
}

impl<C: Crypto> ReceiveKeys<C> {
    /// The first phase of a session, from a finished handshake.
    #[must_use]
    pub fn new(suite: Suite, secret: Zeroizing<[u8; 32]>) -> Self {
        let secret = Secret(secret);
        Self {
            key: Some(secret.key::<C>(suite)),
            phase: false,
            phase_begin: 0,
            secret,
            previous: None,
            next: None,
            suite,
            forged: Forgeries::default(),
        }
    }

    /// Opens `sealed` (ciphertext and tag) in place, under the one key that the packet's phase and number name.
    ///
    /// # Errors
    /// `Forged`: counted here; nothing else changed, and `sealed` is worthless.
    #[inline]
    pub fn open(&mut self, packet: Arrived<'_>, sealed: &mut [u8], now: Instant) -> Result<Opened, Forged> {
        if packet.phase != self.phase {
            return self.open_other(packet, sealed, now);
        }
        let key = self.key.get_or_insert_with(|| self.secret.key::<C>(self.suite));
        match key.open(packet.number, packet.header, sealed) {
            Ok(len) => {
                self.phase_begin = self.phase_begin.min(packet.number.0);
                Ok(Opened { len, is_first_of_phase: false })
            }
            Err(Forged) => Err(self.forged.count(now)),
        }
    }

    /// The secret of the peer's next phase, from a re-handshake.
    pub fn install(&mut self, secret: Zeroizing<[u8; 32]>) {
        let secret = Secret(secret);
        let key = secret.key::<C>(self.suite);
        self.next = Some(Box::new((secret, key)));
    }

    /// Nothing has come for a while: the key goes, and comes back with the next packet.
    pub fn rest(&mut self) {
        self.key = None;
    }

    /// The key before this one opens late packets until `deadline`.
    pub fn keep_previous_until(&mut self, deadline: Instant) {
        if let Some(previous) = &mut self.previous {
            previous.1 = Some(deadline);
        }
    }

    /// When `handle_timeout` has something to forget.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.previous.as_ref().and_then(|previous| previous.1)
    }

    /// Forgets the key before this one when its time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|until| now >= until) {
            self.previous = None;
        }
    }

    /// The phase bit of what the peer sealed last.
    #[must_use]
    pub fn phase(&self) -> bool {
        self.phase
    }

    /// What to do about packets that did not open.
    #[must_use]
    pub fn wear(&self) -> Wear {
        self.forged.wear()
    }

    /// Packets that did not open since the session began.
    #[must_use]
    pub fn forged_count(&self) -> u64 {
        self.forged.all
    }

    #[cold]
    fn open_other(&mut self, packet: Arrived<'_>, sealed: &mut [u8], now: Instant) -> Result<Opened, Forged> {
        if packet.number.0 < self.phase_begin {
            return self.open_late(packet, sealed, now);
        }
        // Kept when the tag does not hold, so that a flood of guesses costs one derivation.
        let next = self.next.take().unwrap_or_else(|| {
            let secret = self.secret.next();
            let key = secret.key::<C>(self.suite);
            Box::new((secret, key))
        });
        match next.1.open(packet.number, packet.header, sealed) {
            Ok(len) => {
                let (secret, key) = *next;
                let previous = self.key.take().unwrap_or_else(|| self.secret.key::<C>(self.suite));
                self.secret = secret;
                self.key = Some(key);
                self.previous = Some(Box::new((previous, None)));
                self.phase = packet.phase;
                self.phase_begin = packet.number.0;
                self.forged.begin_phase(now);
                Ok(Opened { len, is_first_of_phase: true })
            }
            Err(Forged) => {
                self.next = Some(next);
                Err(self.forged.count(now))
            }
        }
    }

    fn open_late(&mut self, packet: Arrived<'_>, sealed: &mut [u8], now: Instant) -> Result<Opened, Forged> {
        self.handle_timeout(now);
        let opened = match &self.previous {
            Some(previous) => previous.0.open(packet.number, packet.header, sealed),
            None => Err(Forged),
        };
        match opened {
            Ok(len) => Ok(Opened { len, is_first_of_phase: false }),
            Err(Forged) => Err(self.forged.count(now)),
        }
    }
}

/// Packets that did not open.
#[derive(Default)]
struct Forgeries {
    all: u64,
    in_period: u32,
    period_since: Instant,
}

impl Forgeries {
    #[cold]
    fn count(&mut self, now: Instant) -> Forged {
        if now.since(self.period_since) >= FORGED_PERIOD {
            self.begin_phase(now);
        }
        self.all = self.all.saturating_add(1);
        self.in_period = self.in_period.saturating_add(1);
        Forged
    }

    fn begin_phase(&mut self, now: Instant) {
        self.in_period = 0;
        self.period_since = now;
    }

    fn wear(&self) -> Wear {
        if self.all > FORGED_COUNT_CLOSE {
            Wear::Close
        } else if self.in_period > FORGED_COUNT_REKEY {
            Wear::Rekey
        } else {
            Wear::None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::aws_lc::AwsLc;
    use crate::session::counting::{Counting, forget_sealed};

    const HEADER: [u8; HEADER_LEN] = [7; HEADER_LEN];
    const LIMITS: KeyLimits = KeyLimits {
        packets: 100,
        packets_max: 400,
        life: Duration::from_secs(120),
        life_max: Duration::from_secs(180),
    };

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn secret(byte: u8) -> Zeroizing<[u8; 32]> {
        Zeroizing::new([byte; 32])
    }

    /// A sealed packet on its way.
    #[derive(Clone, Debug)]
    struct Packet {
        number: PacketNumber,
        phase: bool,
        sealed: Vec<u8>,
    }

    struct Pair<C: Crypto> {
        send: SendKeys<C>,
        receive: ReceiveKeys<C>,
        limits: KeyLimits,
    }

    impl<C: Crypto> Pair<C> {
        fn new(suite: Suite) -> Self {
            forget_sealed();
            Self {
                send: SendKeys::new(suite, secret(1), &LIMITS, at(0), 0),
                receive: ReceiveKeys::new(suite, secret(1)),
                limits: LIMITS,
            }
        }

        fn seal(&mut self) -> Packet {
            let ticket = self.send.take_number(|| 0).unwrap();
            let (number, phase) = (ticket.number(), ticket.phase());
            let mut sealed = number.0.to_be_bytes().to_vec();
            let tag = self.send.seal(ticket, &HEADER, &mut sealed);
            sealed.extend(tag);
            Packet { number, phase, sealed }
        }

        fn open(&mut self, packet: &Packet, now: Instant) -> Result<Opened, Forged> {
            let mut sealed = packet.sealed.clone();
            let arrived = Arrived { number: packet.number, phase: packet.phase, header: &HEADER };
            let opened = self.receive.open(arrived, &mut sealed, now)?;
            assert_eq!(sealed[..opened.len], packet.number.0.to_be_bytes());
            Ok(opened)
        }

        fn deliver(&mut self) -> bool {
            let packet = self.seal();
            let opened = self.open(&packet, at(0)).unwrap();
            self.send.on_acknowledged(packet.number);
            opened.is_first_of_phase
        }

        fn advance(&mut self, seconds: u64) -> bool {
            self.send.advance(at(seconds), &self.limits)
        }

        fn flip(&mut self) {
            self.deliver();
            assert!(self.send.advance(at(0), &KeyLimits { packets: 1, ..self.limits }));
        }
    }

    const OPENED: Result<Opened, Forged> = Ok(Opened { len: 8, is_first_of_phase: false });
    const FIRST: Result<Opened, Forged> = Ok(Opened { len: 8, is_first_of_phase: true });

    fn phases_follow<C: Crypto>(suite: Suite) {
        let mut pair = Pair::<C>::new(suite);
        let mut flips = 0;
        for _ in 0..1_000 {
            let flipped = pair.advance(0);
            flips += usize::from(flipped);
            assert_eq!(pair.deliver(), flipped);
            assert_eq!(pair.send.phase(), pair.receive.phase());
        }
        assert_eq!(flips, pair.send.next_number().0 as usize / 100);
    }

    /// Rest at any moment: the same key comes back, numbers go on, phases change.
    #[test]
    fn keys_come_back_after_a_rest() {
        let mut pair = Pair::<AwsLc>::new(Suite::AesGcm);
        for round in 0..400 {
            let flipped = pair.advance(0);
            let packet = pair.seal();
            if round % 3 == 0 {
                pair.receive.rest();
            }
            assert_eq!(pair.open(&packet, at(0)).unwrap().is_first_of_phase, flipped);
            pair.send.on_acknowledged(packet.number);
            if round % 5 == 0 {
                pair.send.rest();
                assert!(pair.send.key.is_none());
            }
        }
        assert!(pair.send.next_number().0 >= 400);
    }

    /// spec: atp/rekey
    #[test]
    fn the_receiver_follows_every_phase() {
        for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
            phases_follow::<AwsLc>(suite);
            phases_follow::<Counting>(suite);
        }
    }

    #[test]
    fn no_flip_before_the_phase_is_acknowledged_and_no_packet_beyond_the_limit() {
        let mut pair = Pair::<Counting>::new(Suite::AesGcm);
        let mut last = PacketNumber(0);
        while let Ok(ticket) = pair.send.take_number(|| 0) {
            last = ticket.number();
            assert!(!pair.advance(1));
        }
        assert_eq!(last, PacketNumber(399));
        assert!(pair.send.needs_acknowledgement(at(1), &LIMITS));
        assert_eq!(pair.send.take_number(|| 0).err(), Some(WornOut));
        pair.send.on_acknowledged(last);
        assert!(!pair.send.needs_acknowledgement(at(1), &LIMITS));
        assert!(pair.advance(1));
        assert!(pair.send.take_number(|| 0).is_ok());
    }

    #[test]
    fn a_key_wears_out_in_time_too() {
        let mut pair = Pair::<Counting>::new(Suite::AesGcm);
        assert!(!pair.advance(500), "a key's life begins with its first packet");
        let first = pair.seal();
        assert!(!pair.send.needs_acknowledgement(at(559), &LIMITS));
        assert!(pair.send.needs_acknowledgement(at(560), &LIMITS));
        assert!(!pair.advance(620), "nothing was acknowledged");
        assert!(pair.send.take_number(|| 0).is_ok());
        assert!(!pair.advance(680));
        assert_eq!(pair.send.take_number(|| 0).err(), Some(WornOut));
        pair.send.on_acknowledged(first.number);
        assert!(pair.advance(681));
        assert!(pair.send.take_number(|| 0).is_ok());
    }

    #[test]
    fn only_packets_of_the_phase_count_as_its_acknowledgement() {
        let mut pair = Pair::<Counting>::new(Suite::AesGcm);
        pair.flip();
        let old = PacketNumber(pair.send.next_number().0 - 1);
        pair.seal();
        pair.send.on_acknowledged(old);
        pair.send.on_acknowledged(pair.send.next_number());
        assert!(!pair.send.is_acknowledged, "neither the last phase nor what was never sent");
    }

    /// spec: atp/rekey
    #[test]
    fn late_packets_open_under_the_previous_key_for_three_probe_timeouts() {
        let mut pair = Pair::<AwsLc>::new(Suite::AesGcm);
        let late = [pair.seal(), pair.seal(), pair.seal()];
        pair.flip();
        let early = pair.seal();
        let first = pair.seal();
        assert_eq!(pair.open(&first, at(10)), FIRST);
        assert_eq!(pair.open(&early, at(10)), OPENED, "reordered within the new phase");
        assert_eq!(pair.open(&late[0], at(10)), OPENED);
        pair.receive.keep_previous_until(at(13));
        assert_eq!(pair.receive.poll_timeout(), Some(at(13)));
        assert_eq!(pair.open(&late[1], at(12)), OPENED);
        assert_eq!(pair.open(&late[2], at(13)), Err(Forged));
        assert_eq!(pair.receive.poll_timeout(), None);
        assert_eq!(pair.receive.forged_count(), 1);
    }

    #[test]
    fn a_forged_phase_changes_nothing() {
        let mut pair = Pair::<AwsLc>::new(Suite::AesGcm);
        pair.deliver();
        let mut forged = pair.seal();
        forged.phase = true;
        forged.number = PacketNumber(1 << 40);
        for _ in 0..3 {
            assert_eq!(pair.open(&forged, at(0)), Err(Forged));
        }
        assert!(!pair.receive.phase());
        assert!(!pair.deliver());
        pair.flip();
        assert!(pair.deliver(), "the true phase is still followed");
    }

    /// The order of a re-handshake: hold, install, flip; the ratchet goes on from the new secret.
    /// spec: atp/rekey
    #[test]
    fn a_re_handshake_s_secret_is_the_next_phase() {
        let mut pair = Pair::<AwsLc>::new(Suite::ChaChaPoly);
        pair.deliver();
        pair.send.hold();
        while pair.send.sealed_count() < 150 {
            assert!(!pair.advance(0), "held");
            pair.deliver();
        }
        let mut guess = pair.seal();
        guess.phase = true;
        assert_eq!(pair.open(&guess, at(0)), Err(Forged), "a guess makes the receiver derive its next key");
        pair.receive.install(secret(9));
        pair.send.install(secret(9));
        assert!(pair.advance(0));
        assert!(pair.deliver());
        pair.flip();
        assert!(pair.deliver());
    }

    #[test]
    fn a_released_hold_ratchets_on() {
        let mut pair = Pair::<Counting>::new(Suite::AesGcm);
        pair.send.hold();
        for _ in 0..120 {
            pair.deliver();
        }
        assert!(!pair.advance(0));
        pair.send.release();
        assert!(pair.advance(0));
        assert!(pair.deliver());
    }

    /// spec: atp/skipped-number
    #[test]
    fn one_number_in_64_to_256_is_skipped() {
        let mut send = SendKeys::<Counting>::new(Suite::AesGcm, secret(3), &KeyLimits::default(), at(0), 5);
        let (mut expected, mut since_skip, mut skips, mut draw) = (0, 0, 0, 1u64);
        for _ in 0..100_000 {
            let number = send
                .take_number(|| {
                    draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    draw >> 33
                })
                .unwrap()
                .number()
                .0;
            since_skip += 1;
            if number != expected {
                assert_eq!(number, expected + 1);
                assert!((SKIP_AFTER_MIN..=SKIP_AFTER_MAX + 1).contains(&since_skip), "{since_skip}");
                (since_skip, skips) = (0, skips + 1);
            }
            expected = number + 1;
        }
        assert!((390..1_600).contains(&skips), "{skips} numbers were skipped");
    }

    #[test]
    fn a_flood_of_guesses_asks_for_new_keys_once_a_minute() {
        let mut pair = Pair::<Counting>::new(Suite::AesGcm);
        let mut guess = pair.seal();
        guess.sealed[0] ^= 1;
        for _ in 0..FORGED_COUNT_REKEY {
            assert_eq!(pair.open(&guess, at(1)), Err(Forged));
        }
        assert_eq!(pair.receive.wear(), Wear::None);
        assert_eq!(pair.open(&guess, at(59)), Err(Forged));
        assert_eq!(pair.receive.wear(), Wear::Rekey);
        assert_eq!(pair.open(&guess, at(60)), Err(Forged));
        assert_eq!(pair.receive.wear(), Wear::None);
        pair.receive.forged.all = FORGED_COUNT_CLOSE;
        assert_eq!(pair.open(&guess, at(61)), Err(Forged));
        assert_eq!(pair.receive.wear(), Wear::Close);
    }

    /// Two directions of an idle session, with what aws-lc holds for each key (its context of 584 bytes, and
    /// 8 in front of it).
    #[test]
    fn an_idle_session_s_keys_are_small() {
        let bytes = size_of::<SendKeys<AwsLc>>() + size_of::<ReceiveKeys<AwsLc>>() + 2 * 592;
        println!("the keys of an idle session: {bytes} bytes");
        assert!(bytes <= 1_440, "{bytes} bytes");
    }

    proptest! {
        /// Whatever is lost, late or twice: what opens is right, and what was sealed in this or the last
        /// phase opens.
        #[test]
        fn loss_and_reorder_never_break_the_phases(
            fates in proptest::collection::vec((0..10u8, 1..30usize), 300..900)
        ) {
            let mut pair = Pair::<Counting>::new(Suite::AesGcm);
            pair.limits.packets = 20;
            let mut late: Vec<(usize, Packet)> = Vec::new();
            let mut flips = 0;
            for (step, (fate, delay)) in fates.into_iter().enumerate() {
                flips += usize::from(pair.advance(0));
                let packet = pair.seal();
                match fate {
                    0 => continue,
                    1..=3 => late.push((step + delay, packet)),
                    _ => late.push((step, packet)),
                }
                let due: Vec<Packet> =
                    late.extract_if(.., |(when, _)| *when <= step).map(|(_, packet)| packet).collect();
                for packet in due {
                    if pair.open(&packet, at(0)).is_ok() {
                        pair.send.on_acknowledged(packet.number);
                    } else {
                        let age = pair.send.next_number().0 - packet.number.0;
                        prop_assert!(age > 20, "packet {packet:?} of the last phase did not open");
                    }
                }
            }
            prop_assert!(flips >= 5, "{flips} flips");
        }
    }
}
