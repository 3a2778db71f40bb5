//! Handshakes that we begin: a Hello, sent again byte for byte until it is answered.
//!
//! In:    requests to connect, Welcomes, Cookies, time.
//! Out:   Hellos, a live session or the reason why there is none.
//! Holds: a packet that does not verify changes nothing; only mac2 is ever added to a Hello.

use core::time::Duration;

use dunlin_codec::bytes::Writer;
use dunlin_codec::cookie::Cookie;
use dunlin_codec::finish;
use dunlin_codec::hello::{self, EARLY_LEN_MIN, Hello, HelloHead};
use dunlin_codec::ids::{InstanceId, NodeId, SessionId};
use dunlin_codec::payload::{EarlyAnswer, FinishPayload, HelloPayload, WelcomePayload};
use dunlin_codec::suite::{Pattern, VERSION};
use dunlin_codec::welcome::Welcome;
use zeroize::Zeroizing;

use crate::arq::sender::{Sender, Span};
use crate::event::{CloseReason, EarlyData, Event, Ticket};
use crate::limits::{DATAGRAM_MIN, HELLO_RETRY_MAX, HELLO_RETRY_MIN};
use crate::mail::{Connect, Opened};
use crate::mutants::{Mutant, planted};
use crate::rng::Entropy;
use crate::route::{Arrival, Ecn, SocketIndex, Transmit};
use crate::session::cookie::{CookieSeal, MacKey, mac1_key, mac2_key};
use crate::session::crypto::Crypto;
use crate::session::handshake::{Front, Initiator, MESSAGE_LEN_MAX, Prologue};
use crate::shard::table::Slot;
use crate::shard::{Shard, respond};
use crate::stats::DropReason;
use crate::time::Instant;

/// A handshake that we began.
pub(crate) struct Connecting<C: Crypto> {
    pub(crate) ticket: Ticket,
    /// Whom the application called; None: whoever answers.
    id: Option<NodeId>,
    /// Of the key that we had when it began.
    era: u8,
    remote: core::net::SocketAddr,
    handshake: Initiator,
    hello: Vec<u8>,
    cookie_seal: CookieSeal<C>,
    pub(crate) sender: Sender,
    early: Option<Span>,
    due: bool,
    again_at: Instant,
    wait: Duration,
    deadline: Instant,
    /// When the Hello left last, and how often since it changed: one that left twice tells no round trip.
    sent_at: Instant,
    sent_count: u32,
    /// A session whose peer restarted: this handshake carries on for it, and no request waits.
    succeeds: bool,
    /// Messages of that session that travel again.
    resent: usize,
}

impl<C: Crypto> Connecting<C> {
    pub(super) const fn era(&self) -> u8 {
        self.era
    }
}

impl<C: Crypto, E: Entropy> Shard<C, E> {
    /// The application wants a session.
    pub(super) fn on_connect(&mut self, connect: Connect) {
        let ticket = connect.ticket;
        if connect.id.is_some_and(|id| self.own.is_own(&id)) || self.shutting_down {
            return self.refuse_connect(connect, CloseReason::WrongIdentity);
        }
        let Some(id) = self.table.reserve(self.around.rng.next_u64() as u8) else {
            return self.refuse_connect(connect, CloseReason::Overloaded);
        };
        self.timers.grow(self.table.slots());
        match self.begin_handshake(id, connect) {
            Ok(connecting) => {
                self.around.stats.handshakes_begun += 1;
                self.table.put(id, Slot::Connecting(Box::new(connecting)));
                self.ready.push_back(id);
            }
            Err(()) => {
                drop(self.table.free(id));
                self.fail_connect(id, ticket, CloseReason::WrongIdentity);
            }
        }
    }

    fn refuse_connect(&mut self, connect: Connect, reason: CloseReason) {
        let nobody = SessionId::new(self.config.index, 0, 0);
        for message in connect.early {
            self.return_message(nobody, message);
        }
        self.fail_connect(nobody, connect.ticket, reason);
    }

    /// Err: the identity that was called is none that a node can have.
    fn begin_handshake(&mut self, session: SessionId, connect: Connect) -> Result<Connecting<C>, ()> {
        let Connect { ticket, id, remote, early, instance } = connect;
        let mut sender = Sender::new(self.sender_limits());
        let mut early_bytes = [0; DATAGRAM_MIN];
        let early_room = EARLY_LEN_MIN - hello::overhead_len(Pattern::Ik) - HelloPayload::HEAD_LEN;
        let mut span = None;
        let has_early = id.is_some() && !early.is_empty();
        for message in early {
            // A message that cannot be queued now cannot be later either: its owner gets it back.
            if let Err((_, message)) = sender.push(message) {
                self.return_message(session, message);
            }
        }
        let mut early_len = 0;
        if has_early {
            let mut out = Writer::new(&mut early_bytes[..early_room]);
            span = Some(sender.write_frames(&mut out));
            early_len = out.len();
        }
        let suite = self.config.suite;
        let prologue = Prologue { version: VERSION, suite, network: &self.config.network, extra: &[] };
        let ephemeral = Zeroizing::new(self.entropy.array());
        let (mut handshake, pattern, remote_static) = match id {
            Some(id) => {
                let remote_static = self.responders.identity(&id).map_err(|_| ())?;
                (
                    Initiator::ik::<C>(self.own.pair(), remote_static, &prologue, ephemeral),
                    Pattern::Ik,
                    Some(remote_static),
                )
            }
            None => (Initiator::xx::<C>(self.own.pair(), &prologue, ephemeral), Pattern::Xx, None),
        };
        let head = HelloHead { suite, pattern, sender: session };
        let early = has_early.then_some(&early_bytes[..early_len]);
        let key = mac1_key(&self.config.network, remote_static);
        let cookie_seal = CookieSeal::new(&self.config.network, remote_static);
        let hello = self.write_hello(&mut handshake, head, &key, (early, instance));
        let now = self.around.now.instant;
        Ok(Connecting {
            ticket,
            id,
            era: self.own.era(),
            remote,
            handshake,
            hello,
            cookie_seal,
            sender,
            early: span,
            due: true,
            again_at: now,
            wait: HELLO_RETRY_MIN,
            deadline: now + self.config.handshake_deadline,
            sent_at: now,
            sent_count: 0,
            succeeds: false,
            resent: 0,
        })
    }

    fn write_hello(
        &mut self,
        handshake: &mut Initiator,
        head: HelloHead,
        key: &MacKey,
        (early, instance): (Option<&[u8]>, InstanceId),
    ) -> Vec<u8> {
        let payload = HelloPayload {
            identity: self.own.id(),
            time_ms: self.around.now.wall.0,
            responder_instance: instance,
            instance: self.config.instance,
            early,
        };
        let mut plain = [0; MESSAGE_LEN_MAX];
        let mut plain_len = 0;
        if head.pattern == Pattern::Ik {
            let padded = early.map_or(0, |_| EARLY_LEN_MIN - hello::overhead_len(Pattern::Ik));
            let mut out = Writer::new(&mut plain);
            payload.write(&mut out, padded).expect("early data was cut to the room there is");
            plain_len = out.len();
        }
        let mut noise = [0; MESSAGE_LEN_MAX];
        let noise_len = write_noise(handshake, &plain[..plain_len], &mut noise);
        let mut hello = vec![0; MESSAGE_LEN_MAX];
        let mut out = Writer::new(&mut hello);
        head.write(&mut out, &noise[..noise_len]).expect("a Hello fits its buffer");
        let len = out.len();
        hello.truncate(len);
        let parsed = Hello::parse(&hello).expect("it was just written");
        let mac1 = key.mac(&[parsed.before_mac1()]);
        hello::set_mac1(&mut hello, &mac1).expect("it is a Hello");
        hello.shrink_to_fit();
        hello
    }

    /// Writes the Hello when it is due.
    pub(super) fn poll_hello(&mut self, id: SessionId, frame: &mut [u8]) -> Option<Transmit> {
        let Some(Slot::Connecting(connecting)) = self.table.get_mut(id) else { return None };
        if !connecting.due {
            return None;
        }
        connecting.due = false;
        connecting.sent_at = self.around.now.instant;
        connecting.sent_count += 1;
        connecting.again_at = self.around.now.instant + connecting.wait;
        connecting.wait = (connecting.wait * 2).min(HELLO_RETRY_MAX);
        let len = connecting.hello.len();
        frame[..len].copy_from_slice(&connecting.hello);
        self.timers.set(id.slot() as u32, connecting.again_at.min(connecting.deadline));
        self.around.stats.trains_out += 1;
        self.around.stats.datagrams_out += 1;
        self.around.stats.bytes_out += len as u64;
        Some(Transmit {
            local: None,
            remote: connecting.remote,
            socket: SocketIndex(0),
            ecn: Ecn::NotEct,
            len,
            segment_len: len,
        })
    }

    /// The Hello is due again, or the handshake is over.
    pub(super) fn on_connecting_timeout(&mut self, id: SessionId) {
        let now = self.around.now.instant;
        let Some(Slot::Connecting(connecting)) = self.table.get_mut(id) else { return };
        if connecting.deadline <= now {
            self.around.stats.handshakes_timed_out += 1;
            return self.abandon_connecting(id, CloseReason::HandshakeTimeout);
        }
        connecting.due = true;
        self.ready.push_back(id);
    }

    /// The handshake will not come to an end: the application gets its messages back and the reason.
    pub(super) fn abandon_connecting(&mut self, id: SessionId, reason: CloseReason) {
        let Slot::Connecting(mut connecting) = self.table.free(id) else { return };
        self.timers.cancel(id.slot() as u32);
        // Unreliable messages that made room for newer ones while nobody answered, or travelled as early data.
        while let Some(released) = connecting.sender.poll_released() {
            self.around.events.push_back(Event::Released { session: id, released });
        }
        for left in connecting.sender.into_undelivered() {
            self.return_message(id, left.message);
        }
        match (connecting.succeeds, connecting.id) {
            (true, Some(peer)) => {
                self.around.events.push_back(Event::Closed { session: id, peer, reason });
            }
            _ => self.fail_connect(id, connecting.ticket, reason),
        }
    }

    /// A Cookie: the Hello goes out again with mac2.
    pub(super) fn on_cookie(&mut self, arrival: &Arrival, packet: &Cookie<'_>) -> Result<(), DropReason> {
        let id = packet.receiver();
        if id.shard() != self.config.index {
            return self.misroute_handshake(id, arrival, respond::Handshaking::Cookie(packet));
        }
        let Some(Slot::Connecting(connecting)) = self.table.get_mut(id) else {
            return Err(DropReason::NoHandshake);
        };
        let hello = Hello::parse(&connecting.hello).map_err(|_| DropReason::NoHandshake)?;
        let cookie = connecting
            .cookie_seal
            .open(packet.nonce(), hello.mac1(), packet.sealed())
            .map_err(|_| DropReason::BadCookie)?;
        let mac = mac2_key(&cookie).mac(&[hello.before_mac2()]);
        // The same cookie twice: our Hello is on its way already.
        if hello.mac2() != &mac {
            hello::set_mac2(&mut connecting.hello, &mac).map_err(|_| DropReason::NoHandshake)?;
            connecting.due = true;
            connecting.sent_count = 0;
            self.ready.push_back(id);
        }
        Ok(())
    }

    /// A Welcome: if it verifies, the session lives.
    pub(super) fn on_welcome(
        &mut self,
        landed: u8,
        arrival: &Arrival,
        welcome: &Welcome<'_>,
    ) -> Result<(), DropReason> {
        let id = welcome.head().receiver;
        if id.shard() != self.config.index {
            return self.misroute_handshake(id, arrival, respond::Handshaking::Welcome(welcome));
        }
        let Some(Slot::Connecting(connecting)) = self.table.get_mut(id) else {
            return Err(DropReason::NoHandshake);
        };
        let front = Front { ephemeral: *welcome.e(), sealed_static: welcome.encrypted_static().copied() };
        let mut plain = [0; MESSAGE_LEN_MAX];
        let plain_len = connecting
            .handshake
            .read_second(&front, welcome.payload(), &mut plain)
            .map_err(|_| DropReason::HandshakeFailed)?;
        let answer = WelcomePayload::parse(&plain[..plain_len]).map_err(|_| DropReason::Malformed)?;
        let proven = connecting.handshake.remote_static().ok_or(DropReason::HandshakeFailed)?;
        let dialled = connecting.id;
        let is_own = self.own.is_own(&answer.identity);
        let claimed = self.responders.identity(&answer.identity).map_err(|_| DropReason::BadIdentity);
        // Whoever is at an address may be we ourselves.
        if is_own || claimed != Ok(proven) || dialled.is_some_and(|dialled| dialled != answer.identity) {
            self.abandon_connecting(id, CloseReason::WrongIdentity);
            return Err(DropReason::BadIdentity);
        }
        if let Some(opened) = self.conclude(id, arrival, welcome, &answer) {
            self.begin_opened(landed, opened);
        }
        Ok(())
    }

    /// The responder is who it says: what the session is made of.
    // spec: atp/handshake
    fn conclude(
        &mut self,
        id: SessionId,
        arrival: &Arrival,
        welcome: &Welcome<'_>,
        answer: &WelcomePayload<'_>,
    ) -> Option<Opened> {
        let Slot::Connecting(connecting) = self.table.take(id) else { return None };
        let Connecting {
            ticket,
            remote,
            mut handshake,
            mut sender,
            early,
            succeeds,
            resent,
            era,
            sent_at,
            sent_count,
            ..
        } = *connecting;
        let is_xx = welcome.head().pattern == Pattern::Xx;
        let peer_session = welcome.head().sender;
        let finish = is_xx.then(|| self.write_finish(&mut handshake, (era, peer_session)));
        let early = match (early, answer.early) {
            (Some(span), EarlyAnswer::Accepted) => {
                sender.on_acked(span);
                EarlyData::Accepted
            }
            (Some(span), EarlyAnswer::Refused | EarlyAnswer::None) => {
                sender.on_lost(span);
                EarlyData::Refused
            }
            (None, _) => EarlyData::None,
        };
        let peer_static = handshake.remote_static().expect("the second message was read");
        let secrets = handshake.into_secrets();
        Some(Opened {
            session: id,
            peer_session,
            peer: answer.identity,
            peer_static: peer_static.0,
            peer_instance: answer.instance,
            era,
            suite: welcome.head().suite,
            reset_token: answer.reset_token,
            send: secrets.send,
            receive: secrets.receive,
            hash: secrets.hash,
            sender,
            finish,
            ticket,
            resent: succeeds.then_some(resent),
            early,
            frames: answer.frames.to_vec(),
            dialled: remote,
            arrival: *arrival,
            round_trip: (sent_count == 1).then(|| self.around.now.instant.since(sent_at)),
        })
    }

    fn write_finish(&mut self, handshake: &mut Initiator, (era, receiver): (u8, SessionId)) -> Vec<u8> {
        let identity = self.own.of(era).0;
        let payload = FinishPayload { identity, instance: self.config.instance, frames: &[] };
        let mut plain = [0; 128];
        let mut out = Writer::new(&mut plain);
        payload.write(&mut out).expect("the payload fits its buffer");
        let plain_len = out.len();
        let mut sealed = [0; 256];
        let sealed_static =
            handshake.write_third(&plain[..plain_len], &mut sealed).expect("the second message was read");
        let mut bytes = vec![0; 512];
        let mut out = Writer::new(&mut bytes);
        let written = finish::write_head(&mut out, receiver)
            .and_then(|()| out.put(&sealed_static))
            .and_then(|()| out.put(&sealed[..plain_len + dunlin_codec::suite::TAG_LEN]));
        assert!(written.is_ok(), "a Finish fits its buffer");
        let len = out.len();
        bytes.truncate(len);
        bytes
    }

    /// A session's peer lost its state: a new handshake in the same place carries on with what was not delivered.
    // spec: atp/restart
    pub(super) fn reconnect(&mut self, id: SessionId) {
        let Slot::Live(mut session) = self.table.take(id) else { return };
        self.unlist(&mut session);
        session.receiver.drain(&mut self.around.pool);
        session.release(&mut self.around);
        let (peer, remote) = (session.agreement.peer, session.path.remote);
        let mut messages = session.take_undelivered();
        if planted(Mutant::RestartForgets) {
            messages.clear();
        }
        let connect = Connect {
            ticket: Ticket::default(),
            id: Some(peer),
            remote,
            early: Vec::new(),
            instance: InstanceId::default(),
        };
        let Ok(mut connecting) = self.begin_handshake(id, connect) else {
            // The identity was sound when the session began; should it ever be none, nothing is lost in silence.
            messages.into_iter().for_each(|message| self.return_message(id, message));
            drop(self.table.free(id));
            let reason = CloseReason::WrongIdentity;
            self.around.events.push_back(Event::Closed { session: id, peer, reason });
            return;
        };
        connecting.succeeds = true;
        for message in messages {
            if message.once {
                self.return_message(id, message);
            } else if let Err((_, message)) = connecting.sender.push(message) {
                self.return_message(id, message);
            } else {
                connecting.resent += 1;
            }
        }
        self.around.stats.handshakes_begun += 1;
        self.table.put(id, Slot::Connecting(Box::new(connecting)));
        self.ready.push_back(id);
    }
}

/// Message 1 in one piece, as a Hello's writer wants it.
fn write_noise(handshake: &mut Initiator, plain: &[u8], noise: &mut [u8; MESSAGE_LEN_MAX]) -> usize {
    let mut sealed = [0; MESSAGE_LEN_MAX];
    let front = handshake.write_first(plain, &mut sealed).expect("the payload fits its buffer");
    let mut out = Writer::new(noise);
    let written = out.put(&front.ephemeral).and_then(|()| match &front.sealed_static {
        Some(sealed_static) => {
            let sealed_len = plain.len() + dunlin_codec::suite::TAG_LEN;
            out.put(sealed_static).and_then(|()| out.put(&sealed[..sealed_len]))
        }
        None => Ok(()),
    });
    assert!(written.is_ok(), "message 1 fits its buffer");
    out.len()
}
