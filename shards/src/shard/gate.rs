//! What a Hello must pass before any state or Diffie-Hellman: mac1, cookie, and a bounded queue (T1).
//!
//! In:    Hellos, time.
//! Out:   verdicts, Cookies, the next Hello to compute.
//! Holds: nothing is kept for a Hello whose mac1 is wrong; replies are not larger than what asked for them.

use std::collections::VecDeque;
use std::net::IpAddr;

use dunlin_codec::bytes::Writer;
use dunlin_codec::cookie;
use dunlin_codec::error::WireError;
use dunlin_codec::hello::Hello;

use crate::blocks::Block;
use crate::limits::{HANDSHAKE_QUEUE_MAX, PREVIOUS_KEYS_ANSWERED_MAX};
use crate::mutants::{Mutant, planted};
use crate::rng::Entropy;
use crate::route::Arrival;
use crate::session::cookie::{CookieJar, CookieSeal, MacKey, mac1_key};
use crate::session::crypto::{Crypto, StaticPublic, Suite};
use crate::shard::{Shard, ShardConfig};
use crate::stats::DropReason;
use crate::time::{Instant, Now};
use zeroize::Zeroizing;

/// A Hello that waits for its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) arrival: Arrival,
    pub(super) hello: Block,
}

/// A key that we had before, as Hellos show that they are for it.
struct Previous<C: Crypto> {
    era: u8,
    keys: (MacKey, CookieSeal<C>),
    /// Until when they are answered.
    until: Instant,
}

/// The shard's gate.
pub(super) struct Gate<C: Crypto> {
    /// For IK Hellos, whose sender knows our key.
    known: (MacKey, CookieSeal<C>),
    /// For XX Hellos, whose sender does not.
    unknown: (MacKey, CookieSeal<C>),
    /// For IK Hellos whose sender knows a key that we had before: the newest first.
    previous: Vec<Previous<C>>,
    jar: CookieJar,
    own: Vec<std::net::SocketAddr>,
    pub(super) queue: VecDeque<Waiting>,
}

/// Why a datagram that does not parse is dropped.
pub(super) fn refusal_of(error: WireError) -> DropReason {
    match error {
        WireError::Truncated => DropReason::TooShort,
        WireError::Unknown => DropReason::UnknownVersion,
        WireError::Trailing | WireError::OutOfRange | WireError::Reserved => DropReason::Malformed,
    }
}

impl<C: Crypto> Gate<C> {
    pub(super) fn new(config: &ShardConfig, own: StaticPublic) -> Self {
        Self {
            known: keys(config, Some(own)),
            unknown: keys(config, None),
            previous: Vec::new(),
            jar: CookieJar::new(Zeroizing::new(config.cookie_root)),
            own: config.own_addresses.clone(),
            queue: VecDeque::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// A source address that somebody can have.
    #[inline]
    pub(super) fn check_source(&self, arrival: &Arrival) -> Result<(), DropReason> {
        let remote = arrival.remote;
        let impossible = match remote.ip() {
            IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified(),
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified(),
        };
        // Loopback comes over the loopback path only, where our own address is loopback too.
        let forged_loopback = remote.ip().is_loopback()
            && arrival.local.is_some_and(|local| !local.is_loopback())
            && !self.own.iter().any(|own| Some(own.ip()) == arrival.local);
        if remote.port() == 0 || impossible || forged_loopback || self.own.contains(&remote) {
            return Err(DropReason::BadSource);
        }
        Ok(())
    }

    /// Hellos to a key that we had before are answered until then.
    pub(super) fn answer_previous(
        &mut self,
        config: &ShardConfig,
        own: StaticPublic,
        (era, until): (u8, Instant),
    ) {
        self.put_previous(Previous { era, keys: keys(config, Some(own)), until });
    }

    /// We have another key. Hellos to the one of this era are answered until then.
    pub(super) fn on_new_key(
        &mut self,
        config: &ShardConfig,
        own: StaticPublic,
        (era, until): (u8, Instant),
    ) {
        let keys = core::mem::replace(&mut self.known, keys(config, Some(own)));
        self.put_previous(Previous { era, keys, until });
    }

    fn put_previous(&mut self, previous: Previous<C>) {
        self.previous.insert(0, previous);
        self.previous.truncate(PREVIOUS_KEYS_ANSWERED_MAX);
    }

    /// Keys whose day is over are forgotten.
    pub(super) fn expire_previous(&mut self, now: Instant) {
        self.previous.retain(|previous| now < previous.until);
    }

    /// The keys of the one that the Hello is for: of the key that we have, then of those before.
    // spec: p2p/previous-key
    fn keys_for(&self, hello: &Hello<'_>, now: Instant) -> &(MacKey, CookieSeal<C>) {
        if hello.encrypted_static().is_none() {
            return &self.unknown;
        }
        self.previous_for(hello, now).map_or(&self.known, |previous| &previous.keys)
    }

    /// The era of the key that we had before and that its sender knows us by; none: it is for the one that we have.
    pub(super) fn previous_era(&self, hello: &Hello<'_>, now: Instant) -> Option<u8> {
        self.previous_for(hello, now).map(|previous| previous.era)
    }

    fn previous_for(&self, hello: &Hello<'_>, now: Instant) -> Option<&Previous<C>> {
        let is_of = |keys: &(MacKey, CookieSeal<C>)| keys.0.verify(hello.before_mac1(), hello.mac1());
        if self.previous.is_empty() || hello.encrypted_static().is_none() || is_of(&self.known) {
            return None;
        }
        self.previous.iter().find(|previous| now < previous.until && is_of(&previous.keys))
    }
}

fn keys<C: Crypto>(config: &ShardConfig, responder: Option<StaticPublic>) -> (MacKey, CookieSeal<C>) {
    (mac1_key(&config.network, responder), CookieSeal::new(&config.network, responder))
}

impl<C: Crypto, E: Entropy> Shard<C, E> {
    /// A Hello: the cheap checks, then the queue.
    // spec: atp/mac1
    pub(super) fn on_hello(&mut self, arrival: &Arrival, datagram: &[u8]) -> Result<(), DropReason> {
        let hello = Hello::parse(datagram).map_err(refusal_of)?;
        let now = self.around.now;
        let is_for_us = self.gate.keys_for(&hello, now.instant).0.verify(hello.before_mac1(), hello.mac1());
        if !is_for_us && !planted(Mutant::Mac1NotChecked) {
            return Err(DropReason::BadMac1);
        }
        if self.answer_known_hello(arrival, &hello, datagram.len())? {
            return Ok(());
        }
        self.check_cookie(arrival, &hello, now)?;
        if self.gate.queue.len() >= HANDSHAKE_QUEUE_MAX {
            return Err(DropReason::HandshakeQueueFull);
        }
        let mut block = self.around.pool.take(datagram.len()).ok_or(DropReason::NoMemory)?;
        block.copy_from_slice(datagram);
        self.gate.queue.push_back(Waiting { arrival: *arrival, hello: block });
        Ok(())
    }

    /// XX always proves its address; IK under load only, and then it has a budget.
    // spec: atp/cookie
    fn check_cookie(&mut self, arrival: &Arrival, hello: &Hello<'_>, now: Now) -> Result<(), DropReason> {
        let is_xx = hello.encrypted_static().is_none();
        let loaded = self.admission.is_under_load(now.instant, self.gate.queue.len(), arrival.remote.ip());
        if !is_xx && !loaded {
            return Ok(());
        }
        if !hello.has_mac2() {
            return self.send_cookie(arrival, hello, now);
        }
        let suite = hello.head().suite;
        let claimed = (arrival.remote, suite);
        if !self.gate.jar.verify_mac2(now.instant, claimed, hello.before_mac2(), hello.mac2()) {
            return self.send_cookie(arrival, hello, now).map_err(|_| DropReason::BadCookie);
        }
        let trusted = self.admission.is_trusted(arrival.remote.ip());
        if loaded && !trusted && !self.admission.take_prefix(arrival.remote, now.instant) {
            return Err(DropReason::HandshakeRate);
        }
        Ok(())
    }

    /// Always an error: the Hello was answered with a Cookie, or not at all.
    fn send_cookie(&mut self, arrival: &Arrival, hello: &Hello<'_>, now: Now) -> Result<(), DropReason> {
        if !self.admission.take_cookie(now.instant) || !self.admission.take_reply(arrival.remote, now.instant)
        {
            return Err(DropReason::ReplyRate);
        }
        let suite: Suite = hello.head().suite;
        let mut nonce = [0; cookie::NONCE_LEN];
        self.around.rng.fill(&mut nonce);
        let plain = self.gate.jar.bake(now.instant, arrival.remote, suite);
        let sealed = self.gate.keys_for(hello, now.instant).1.seal(&nonce, hello.mac1(), &plain);
        let mut bytes = [0; cookie::LEN];
        let written = cookie::write(&mut Writer::new(&mut bytes), hello.head().sender, &nonce, &sealed);
        assert!(written.is_ok(), "a Cookie has one length");
        self.reply(arrival, &bytes)?;
        self.around.stats.cookies_sent += 1;
        Err(DropReason::CookieNeeded)
    }

    /// The next Hello's address is trusted, or handshakes have time left.
    fn may_compute(&self) -> bool {
        let now = self.around.now.instant;
        self.gate.queue.front().is_some_and(|waiting| {
            self.admission.is_trusted(waiting.arrival.remote.ip())
                || self.admission.has_time(now, self.limits.handshake_cpu_percent)
        })
    }

    /// When the next Hello that waits will be computed.
    pub(super) fn next_handshake(&self) -> Option<Instant> {
        let now = self.around.now.instant;
        let waits = !self.gate.is_idle();
        waits.then(|| if self.may_compute() { now } else { now + self.admission.window_left(now) })
    }

    /// Computes handshakes that wait: one after a batch that had data, else a few.
    pub(super) fn work_handshakes(&mut self) {
        let turns = if self.batch_had_data { 1 } else { 8 };
        self.batch_had_data = false;
        for _ in 0..turns {
            if !self.may_compute() {
                return;
            }
            let Some(Waiting { arrival, hello }) = self.gate.queue.pop_front() else { return };
            let result = self.compute_hello(&arrival, &hello);
            if let Err(reason) = result {
                self.around.stats.count_drop(reason);
                if planted(Mutant::BlockLeaked) {
                    continue;
                }
            }
            self.around.pool.give(hello);
        }
    }
}
