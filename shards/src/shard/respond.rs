//! Handshakes that others begin: a Hello is computed once, its Welcome kept for the same Hello sent again.
//!
//! In:    Hellos from the gate, answers of the strike register, Finishes, time.
//! Out:   Welcomes, sessions that wait for their first sealed packet.
//! Holds: early data is delivered at most once per node (T5); a Hello changes nothing in an existing session;
//!        half-open entries are bounded, and go when their Welcome's life is over.

use std::collections::{HashMap, VecDeque};

use dunlin_codec::bytes::Writer;
use dunlin_codec::finish::Finish;
use dunlin_codec::hello::{EARLY_LEN_MIN, Hello};
use dunlin_codec::ids::{InstanceId, NodeId, SessionId};
use dunlin_codec::payload::{EarlyAnswer, FinishPayload, HelloPayload, WelcomePayload};
use dunlin_codec::reset;
use dunlin_codec::suite::{Pattern, VERSION};
use dunlin_codec::welcome::WelcomeHead;
use zeroize::Zeroizing;

use crate::arq::sender::Sender;
use crate::hash::HashKey;
use crate::limits::{
    EARLY_DATA_SKEW, Limits, STRIKE_GENERATION_LIFE, STRIKE_WAIT, STRIKES_WAITING_MAX, WELCOME_LIFE,
};
use crate::mail::{Destination, Mail, Struck};
use crate::mutants::{Mutant, planted};
use crate::rng::Entropy;
use crate::route::Arrival;
use crate::session::binding::IdentityCache;
use crate::session::crypto::{BadIdentity, Crypto, StaticPublic};
use crate::session::handshake::{Front, MESSAGE_LEN_MAX, Prologue, Responder};
use crate::session::live::Agreement;
use crate::session::path::Path;
use crate::session::reset::ResetKey;
use crate::session::strike::{Strike, StrikeRegister};
use crate::shard::table::Slot;
use crate::shard::{Shard, ShardConfig, gate};
use crate::stats::DropReason;
use crate::time::{Instant, Now};

/// An XX handshake that lacks its third message.
pub(crate) struct Finishing<C: Crypto> {
    responder: Responder<C>,
    path: Path,
    head: WelcomeHead,
    era: u8,
}

impl<C: Crypto> Finishing<C> {
    /// Of the key that it was begun with.
    pub(super) const fn era(&self) -> u8 {
        self.era
    }
}

/// A Hello that is known: what it was answered with, or what still waits for an answer.
struct HalfOpen<C: Crypto> {
    state: Answering<C>,
    until: Instant,
}

enum Answering<C: Crypto> {
    /// The strike register was asked.
    Waiting(Box<Waiting<C>>),
    /// This is the Welcome.
    Answered { welcome: Vec<u8>, session: SessionId },
}

/// All that a Welcome is made of, while the strike register thinks.
struct Waiting<C: Crypto> {
    responder: Responder<C>,
    arrival: Arrival,
    hello: Vec<u8>,
    caller: Caller,
    early: Vec<u8>,
}

/// Who calls, as proven by its Hello.
#[derive(Clone, Copy)]
struct Caller {
    peer: NodeId,
    peer_static: StaticPublic,
    instance: InstanceId,
    head: WelcomeHead,
    /// Bytes of the Hello, for the three-times rule.
    len: usize,
    /// The era of the key that it called: ours, or one that we had before.
    era: u8,
}

/// Everything a shard keeps to answer Hellos.
pub(super) struct Responders<C: Crypto> {
    by_e: HashMap<[u8; 32], HalfOpen<C>, HashKey>,
    /// In the order of their end: all live equally long.
    order: VecDeque<(Instant, [u8; 32])>,
    waiting: VecDeque<(Instant, [u8; 32])>,
    limit: usize,
    strikes: StrikeRegister,
    identities: IdentityCache,
    reset: ResetKey,
    started: Option<Instant>,
}

impl<C: Crypto> Responders<C> {
    pub(super) fn new(config: &ShardConfig, limits: &Limits) -> Self {
        let [low, high] = config.hash_key().0;
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&low.to_be_bytes());
        seed[8..].copy_from_slice(&high.to_be_bytes());
        let share = limits.strikes / config.placement.shard_count();
        let strikes = (share.max(16) + 1).next_power_of_two() / 2;
        Self {
            by_e: HashMap::with_hasher(config.hash_key()),
            order: VecDeque::new(),
            waiting: VecDeque::new(),
            limit: limits.half_open,
            strikes: StrikeRegister::new(strikes, seed),
            identities: IdentityCache::new(limits.identities, seed),
            reset: ResetKey::new(&config.reset_secret),
            started: None,
        }
    }

    /// The static key that belongs to an identity, from the cache when it is known.
    pub(super) fn identity(&mut self, id: &NodeId) -> Result<StaticPublic, BadIdentity> {
        self.identities.get_or_check(id, C::public_of)
    }

    /// What our Reset of a session carries.
    pub(super) fn reset_token(&self, session: SessionId) -> [u8; 16] {
        self.reset.token(session)
    }

    /// The register's answer for a Hello whose e hashes to this shard.
    pub(super) fn strike(&mut self, e: &[u8; 32], shard: u8, now: Instant) -> Struck {
        match self.strikes.strike(e, shard, now) {
            Strike::New => Struck::New,
            Strike::Seen(shard) => Struck::Seen(shard),
            Strike::Full => Struck::Full,
        }
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|(until, _)| *until);
        let order = self.order.front().map(|(until, _)| *until);
        waiting.into_iter().chain(order).min()
    }

    /// The id, when the oldest made room that still waited for its own session to begin.
    fn insert(&mut self, e: [u8; 32], state: Answering<C>, now: Instant) -> Option<SessionId> {
        let is_full = self.by_e.len() >= self.limit;
        let oldest = is_full.then(|| self.order.pop_front()).flatten();
        let evicted = oldest.and_then(|(_, oldest)| self.by_e.remove(&oldest));
        let until = now + WELCOME_LIFE;
        self.by_e.insert(e, HalfOpen { state, until });
        self.order.push_back((until, e));
        match evicted?.state {
            Answering::Waiting(waiting) => Some(waiting.caller.head.sender),
            Answering::Answered { .. } => None,
        }
    }
}

/// A handshake packet for a half-open session on another shard, to be written again as it came.
pub(super) enum Handshaking<'a, 'b> {
    Cookie(&'a dunlin_codec::cookie::Cookie<'b>),
    Welcome(&'a dunlin_codec::welcome::Welcome<'b>),
    Finish(&'a Finish<'b>),
}

impl<C: Crypto, E: Entropy> Shard<C, E> {
    /// True: this Hello came before and was answered again, or still waits for its answer.
    pub(super) fn answer_known_hello(
        &mut self,
        arrival: &Arrival,
        hello: &Hello<'_>,
        len: usize,
    ) -> Result<bool, DropReason> {
        let Some(known) = self.responders.by_e.get(hello.e()) else { return Ok(false) };
        let Answering::Answered { welcome, session } = &known.state else { return Ok(true) };
        // The Welcome is shorter than the Hello, so that each Hello pays for its own answer (T3).
        if welcome.len() > len {
            return Err(DropReason::AmplificationLimit);
        }
        let (welcome, session) = (welcome.clone(), *session);
        // A Hello from elsewhere buys nothing for the address that the session was begun with.
        if let Some(session) = self.table.live(session).filter(|session| session.path.is_of(arrival)) {
            session.path.on_received(len);
            session.path.on_sent(welcome.len());
        }
        self.reply(arrival, &welcome)?;
        Ok(true)
    }

    /// The Diffie-Hellman of a Hello that passed the gate.
    pub(super) fn compute_hello(&mut self, arrival: &Arrival, datagram: &[u8]) -> Result<(), DropReason> {
        let hello = Hello::parse(datagram).map_err(gate::refusal_of)?;
        if self.answer_known_hello(arrival, &hello, datagram.len())? {
            return Ok(());
        }
        self.admission.on_handshake(self.around.now.instant);
        let head = hello.head();
        let prologue =
            Prologue { version: VERSION, suite: head.suite, network: &self.config.network, extra: &[] };
        let ephemeral = Zeroizing::new(self.entropy.array());
        let (_, called) = self.own.of(self.era_for(&hello));
        let mut responder = match head.pattern {
            Pattern::Ik => Responder::<C>::ik(called, &prologue, ephemeral),
            Pattern::Xx => Responder::<C>::xx(self.own.pair(), &prologue, ephemeral),
        };
        let front = Front { ephemeral: *hello.e(), sealed_static: hello.encrypted_static().copied() };
        let mut plain = Zeroizing::new([0; MESSAGE_LEN_MAX]);
        let plain_len = responder
            .read_first(&front, hello.payload(), &mut plain[..])
            .map_err(|_| DropReason::HandshakeFailed)?;
        match head.pattern {
            Pattern::Ik => self.answer_ik(arrival, datagram, responder, &plain[..plain_len]),
            Pattern::Xx => self.answer_xx(arrival, &hello, responder, datagram.len()),
        }
    }

    /// Of the key that a Hello calls.
    fn era_for(&self, hello: &Hello<'_>) -> u8 {
        let previous = self.gate.previous_era(hello, self.around.now.instant);
        previous.unwrap_or_else(|| self.own.era())
    }

    fn welcome_head(&mut self, hello: &Hello<'_>) -> Result<WelcomeHead, DropReason> {
        let generation = self.around.rng.next_u64() as u8;
        let sender = self.table.reserve(generation).ok_or(DropReason::SessionsFull)?;
        self.timers.grow(self.table.slots());
        let head = hello.head();
        Ok(WelcomeHead { suite: head.suite, pattern: head.pattern, receiver: head.sender, sender })
    }

    fn answer_ik(
        &mut self,
        arrival: &Arrival,
        datagram: &[u8],
        responder: Responder<C>,
        plain: &[u8],
    ) -> Result<(), DropReason> {
        let hello = Hello::parse(datagram).map_err(gate::refusal_of)?;
        let payload = HelloPayload::parse(plain).map_err(|_| DropReason::Malformed)?;
        let proven = responder.remote_static().ok_or(DropReason::HandshakeFailed)?;
        self.check_identity(&payload.identity, proven)?;
        let now = self.around.now;
        let loaded = self.admission.is_under_load(now.instant, self.gate.queue.len(), arrival.remote.ip());
        let trusted = self.admission.is_trusted(arrival.remote.ip());
        if loaded && !trusted && !self.admission.take_key(&proven.0, now.instant) {
            return Err(DropReason::HandshakeRate);
        }
        let early = payload.early.filter(|_| datagram.len() >= EARLY_LEN_MIN);
        let caller = Caller {
            era: self.era_for(&hello),
            peer: payload.identity,
            peer_static: proven,
            instance: payload.instance,
            head: self.welcome_head(&hello)?,
            len: datagram.len(),
        };
        let Some(early) = early else {
            return self.welcome(arrival, (*hello.e(), caller), responder, (EarlyAnswer::None, &[]));
        };
        if !self.may_accept_early(&payload, now) || self.responders.waiting.len() >= STRIKES_WAITING_MAX {
            self.strike_refused(hello.e());
            return self.welcome(arrival, (*hello.e(), caller), responder, (EarlyAnswer::Refused, &[]));
        }
        let waiting =
            Waiting { responder, arrival: *arrival, hello: datagram.to_vec(), caller, early: early.to_vec() };
        self.ask_strike_register(*hello.e(), waiting);
        Ok(())
    }

    /// The identity is sound, is the one that Noise proved, and is not ours.
    // spec: atp/identity
    fn check_identity(&mut self, id: &NodeId, proven: StaticPublic) -> Result<(), DropReason> {
        if self.own.is_own(id) || self.own.is_own_static(proven) {
            return Err(DropReason::OwnIdentity);
        }
        match self.responders.identity(id) {
            Ok(claimed) if claimed == proven => Ok(()),
            _ => Err(DropReason::BadIdentity),
        }
    }

    /// The rules of T5 that need no register: clock, instance, hold-off.
    // spec: atp/early-data
    fn may_accept_early(&mut self, payload: &HelloPayload<'_>, now: Now) -> bool {
        let started = *self.responders.started.get_or_insert(now.instant);
        let skew = now.wall.0.abs_diff(payload.time_ms);
        if !self.config.zero_rtt || u128::from(skew) > EARLY_DATA_SKEW.as_millis() {
            return false;
        }
        if planted(Mutant::EarlyDataForAnyInstance) {
            return true;
        }
        if payload.responder_instance == InstanceId::default() {
            let held_off = now.instant.since(started) < STRIKE_GENERATION_LIFE && !self.config.fresh_identity;
            return !self.config.shared_identity && !held_off;
        }
        payload.responder_instance == self.config.instance
    }

    /// Keeps what a Hello was answered with, or that it waits.
    fn remember(&mut self, e: [u8; 32], state: Answering<C>) {
        if let Some(reserved) = self.responders.insert(e, state, self.around.now.instant) {
            drop(self.table.free(reserved));
        }
    }

    /// What is refused now travels again in the session. It must not be taken from the same Hello later: when our clock was set, or
    /// the register has less to do.
    // spec: atp/refused-once
    fn strike_refused(&mut self, e: &[u8; 32]) {
        if !self.config.zero_rtt {
            return;
        }
        self.strike(e);
    }

    /// Asks the register; the answer, unless it comes by letter.
    fn strike(&mut self, e: &[u8; 32]) -> Option<Struck> {
        let owner = self.config.placement.of_key(e).0;
        if owner == self.config.index {
            return Some(self.responders.strike(e, owner, self.around.now.instant));
        }
        self.around.mail.push_back((Destination::Shard(owner), Mail::Strike { e: *e }));
        None
    }

    fn ask_strike_register(&mut self, e: [u8; 32], waiting: Waiting<C>) {
        let now = self.around.now.instant;
        self.remember(e, Answering::Waiting(Box::new(waiting)));
        self.responders.waiting.push_back((now + STRIKE_WAIT, e));
        if let Some(struck) = self.strike(&e) {
            self.on_struck(&e, struck);
        } else if planted(Mutant::StrikeAskedLate) {
            self.on_struck(&e, Struck::New);
        }
    }

    /// The strike register's answer: deliver, refuse, or hand the Hello to the shard that has it.
    pub(super) fn on_struck(&mut self, e: &[u8; 32], struck: Struck) {
        let Some(known) = self.responders.by_e.get_mut(e) else { return };
        if !matches!(known.state, Answering::Waiting(_)) {
            return;
        }
        let Some(HalfOpen { state: Answering::Waiting(waiting), .. }) = self.responders.by_e.remove(e) else {
            return;
        };
        self.responders.waiting.retain(|(_, waits)| waits != e);
        self.responders.order.retain(|(_, known)| known != e);
        let Waiting { responder, arrival, hello, caller, early } = *waiting;
        let answer = match struck {
            Struck::New => (EarlyAnswer::Accepted, &early[..]),
            Struck::Seen(shard) if shard != self.config.index => {
                drop(self.table.free(caller.head.sender));
                let sent = self.misroute(Destination::Shard(shard), &arrival, &hello);
                return self.count(sent);
            }
            Struck::Seen(_) | Struck::Full => (EarlyAnswer::Refused, &[][..]),
        };
        let result = self.welcome(&arrival, (*e, caller), responder, answer);
        self.count(result);
    }

    fn count(&mut self, result: Result<(), DropReason>) {
        if let Err(reason) = result {
            self.around.stats.count_drop(reason);
        }
    }

    /// Answers an IK Hello: the session begins, unconfirmed, and early data is delivered if it may.
    fn welcome(
        &mut self,
        arrival: &Arrival,
        (e, caller): ([u8; 32], Caller),
        mut responder: Responder<C>,
        (answer, early): (EarlyAnswer, &[u8]),
    ) -> Result<(), DropReason> {
        let welcome = self.write_welcome(&mut responder, (caller.head, caller.era), answer);
        let mut path = Path::of_arrival(arrival);
        path.on_received(caller.len);
        path.on_sent(welcome.len());
        let agreement = Agreement {
            id: caller.head.sender,
            wire_id: caller.head.sender,
            peer_session: caller.head.receiver,
            peer: caller.peer,
            peer_static: caller.peer_static,
            peer_instance: caller.instance,
            initiator: false,
            era: caller.era,
            suite: caller.head.suite,
            reset_token: None,
        };
        let id = agreement.id;
        let sender = Sender::new(self.sender_limits());
        let mut session = self.new_session(agreement, path, responder.into_secrets(), sender);
        session.await_confirmation(self.around.now.instant);
        match answer {
            EarlyAnswer::Accepted => {
                let told = self.around.events.len();
                session.announce(&mut self.around);
                if !session.take_early_frames(&mut self.around, early) {
                    // Nobody was told yet, and nothing is answered: the Hello comes again, is struck, and its early data refused.
                    self.around.events.truncate(told);
                    session.receiver.drain(&mut self.around.pool);
                    drop(self.table.free(id));
                    return Err(DropReason::NoMemory);
                }
                self.around.stats.early_data_accepted += 1;
                session.deliver(&mut self.around);
            }
            EarlyAnswer::Refused => self.around.stats.early_data_refused += 1,
            EarlyAnswer::None => {}
        }
        let sent = self.reply(arrival, &welcome);
        self.remember(e, Answering::Answered { welcome, session: id });
        self.install(id, session);
        sent
    }

    fn write_welcome(
        &mut self,
        responder: &mut Responder<C>,
        (head, era): (WelcomeHead, u8),
        early: EarlyAnswer,
    ) -> Vec<u8> {
        let payload = WelcomePayload {
            identity: self.own.of(era).0,
            instance: self.config.instance,
            reset_token: self.responders.reset_token(head.sender),
            early,
            frames: &[],
        };
        let mut plain = [0; 128];
        let mut out = Writer::new(&mut plain);
        payload.write(&mut out).expect("the payload fits its buffer");
        let plain_len = out.len();
        let mut sealed = [0; 256];
        let front =
            responder.write_second(&plain[..plain_len], &mut sealed).expect("the first message was read");
        let mut bytes = vec![0; 512];
        let mut out = Writer::new(&mut bytes);
        let written = head
            .write(&mut out)
            .and_then(|()| out.put(&front.ephemeral))
            .and_then(|()| front.sealed_static.as_ref().map_or(Ok(()), |sealed| out.put(sealed)))
            .and_then(|()| out.put(&sealed[..plain_len + dunlin_codec::suite::TAG_LEN]));
        assert!(written.is_ok(), "a Welcome fits its buffer");
        let len = out.len();
        bytes.truncate(len);
        bytes.shrink_to_fit();
        bytes
    }

    /// Answers an XX Hello, whose cookie was right: the caller is known only with its Finish.
    fn answer_xx(
        &mut self,
        arrival: &Arrival,
        hello: &Hello<'_>,
        mut responder: Responder<C>,
        len: usize,
    ) -> Result<(), DropReason> {
        let head = self.welcome_head(hello)?;
        let welcome = self.write_welcome(&mut responder, (head, self.own.era()), EarlyAnswer::None);
        let mut path = Path::of_arrival(arrival);
        // The cookie came back from there: the address is proven.
        path.on_received(len);
        path.on_validated();
        path.on_sent(welcome.len());
        let now = self.around.now.instant;
        let sent = self.reply(arrival, &welcome);
        self.remember(*hello.e(), Answering::Answered { welcome, session: head.sender });
        let finishing = Finishing { responder, path, head, era: self.own.era() };
        self.table.put(head.sender, Slot::Finishing(Box::new(finishing)));
        self.timers.set(head.sender.slot() as u32, now + WELCOME_LIFE);
        sent
    }

    /// The third message of XX: the caller is proven, the session lives.
    pub(super) fn on_finish(&mut self, arrival: &Arrival, finish: &Finish<'_>) -> Result<(), DropReason> {
        let id = finish.receiver();
        if id.shard() != self.config.index {
            return self.misroute_handshake(id, arrival, Handshaking::Finish(finish));
        }
        let Some(Slot::Finishing(finishing)) = self.table.get_mut(id) else {
            return Err(DropReason::NoHandshake);
        };
        let (sealed_static, sealed) = finish.noise().split_first_chunk().ok_or(DropReason::TooShort)?;
        let mut plain = [0; MESSAGE_LEN_MAX];
        let plain_len = finishing
            .responder
            .read_third(sealed_static, sealed, &mut plain)
            .map_err(|_| DropReason::HandshakeFailed)?;
        let proven = finishing.responder.remote_static().ok_or(DropReason::HandshakeFailed)?;
        let payload = FinishPayload::parse(&plain[..plain_len]).map_err(|_| DropReason::Malformed);
        let checked =
            payload.and_then(|payload| self.check_identity(&payload.identity, proven).map(|()| payload));
        let payload = checked.inspect_err(|_| drop(self.table.free(id)))?;
        let Slot::Finishing(finishing) = self.table.take(id) else { return Err(DropReason::NoHandshake) };
        let Finishing { responder, path, head, era } = *finishing;
        let agreement = Agreement {
            id,
            wire_id: id,
            peer_session: head.receiver,
            peer: payload.identity,
            peer_static: proven,
            peer_instance: payload.instance,
            initiator: false,
            era,
            suite: head.suite,
            reset_token: None,
        };
        let sender = Sender::new(self.sender_limits());
        let mut session = self.new_session(agreement, path, responder.into_secrets(), sender);
        session.announce(&mut self.around);
        // An answer tells the caller that its Finish arrived.
        session.control.ping = true;
        session.on_early_frames(&mut self.around, payload.frames);
        self.install(id, session);
        Ok(())
    }

    /// A half-open session's packet landed on the wrong shard: it goes there as it came.
    pub(super) fn misroute_handshake(
        &mut self,
        id: SessionId,
        arrival: &Arrival,
        packet: Handshaking<'_, '_>,
    ) -> Result<(), DropReason> {
        let mut bytes = [0; MESSAGE_LEN_MAX];
        let mut out = Writer::new(&mut bytes);
        let written = match packet {
            Handshaking::Cookie(cookie) => {
                dunlin_codec::cookie::write(&mut out, cookie.receiver(), cookie.nonce(), cookie.sealed())
            }
            Handshaking::Welcome(welcome) => {
                welcome.head().write(&mut out).and_then(|()| out.put(welcome.noise()))
            }
            Handshaking::Finish(finish) => dunlin_codec::finish::write_head(&mut out, finish.receiver())
                .and_then(|()| out.put(finish.noise())),
        };
        written.map_err(|_| DropReason::TooLong)?;
        let len = out.len();
        self.misroute(Destination::Shard(id.shard()), arrival, &bytes[..len])
    }

    /// Entries whose life is over go; early data that the register did not answer for is refused.
    pub(super) fn expire_responders(&mut self) {
        let now = self.around.now.instant;
        while let Some((until, e)) = self.responders.waiting.front().copied() {
            if until > now {
                break;
            }
            self.responders.waiting.pop_front();
            self.on_struck(&e, Struck::Full);
        }
        while let Some((until, e)) = self.responders.order.front().copied() {
            if until > now {
                break;
            }
            self.responders.order.pop_front();
            if self.responders.by_e.get(&e).is_some_and(|known| known.until <= now) {
                self.responders.by_e.remove(&e);
            }
        }
    }

    /// A sealed packet for nobody: whoever sent it is told, in less than it sent (T34).
    // spec: atp/reset
    pub(super) fn on_unknown_session(
        &mut self,
        arrival: &Arrival,
        id: SessionId,
        len: usize,
    ) -> Result<(), DropReason> {
        let half_open = matches!(self.table.get_mut(id), Some(Slot::Connecting(_) | Slot::Finishing(_)));
        let is_answered = !half_open && (len > reset::LEN || planted(Mutant::ResetForShortPackets));
        if !is_answered || !self.admission.take_reset(arrival.remote, self.around.now.instant) {
            return Err(DropReason::UnknownSession);
        }
        let mut bytes = [0; reset::LEN];
        let token = self.responders.reset_token(id);
        let written = reset::write(&mut Writer::new(&mut bytes), id, &token);
        assert!(written.is_ok(), "a Reset has one length");
        self.reply(arrival, &bytes)?;
        self.around.stats.resets_sent += 1;
        Err(DropReason::UnknownSession)
    }
}
