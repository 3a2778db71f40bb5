//! A session whose keys exist: everything that is kept for a peer we share secrets with.
//!
//! In:    opened packets, messages, time.
//! Out:   trains of sealed packets, events, mail, the next deadline.
//! Holds: owned by one shard for its whole life; its send counter is never cloned (T23).
//!
//! `inbound` takes packets in, `outbound` gives them out, `roaming` follows the peer's address.

use core::time::Duration;
use std::sync::Arc;

use dunlin_codec::ids::{InstanceId, NodeId, PacketNumber, SessionId};

use crate::arq::acknowledgements::Acknowledgements;
use crate::arq::congestion::Algorithm;
use crate::arq::receiver::{CreditSpan, Incoming, Receiver};
use crate::arq::recovery::{AckFrequency, Recovery};
use crate::arq::sender::{Outgoing, PushError, Sender, SenderLimits, Span};
use crate::event::{CloseReason, Event, Ticket};
use crate::limits::{
    CLOSE_LINGER, SHRINK_AFTER, UNRESPONSIVE_AFTER, WELCOME_LIFE, YIELD_ASK_AGAIN, YIELD_LINGER,
};
use crate::mail::Listing;
use crate::mutants::{Mutant, planted};
use crate::session::crypto::{Crypto, StaticPublic, Suite};
use crate::session::keys::{KeyLimits, ReceiveKeys, SendKeys};
use crate::session::path::Path;
use crate::session::renewal::Renewal;
use crate::session::replay::ReplayWindow;
use crate::session::roaming::Candidate;
use crate::surroundings::Surroundings;
use crate::time::Instant;

/// What a packet carried, kept until it is acknowledged or lost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Contents {
    /// Messages' segments.
    pub(crate) span: Span,
    /// The largest packet that its acknowledgement covered, plus one; zero: it carried none.
    pub(crate) acked_before: u64,
    /// Credit.
    pub(crate) credit: CreditSpan,
    /// The sequence of its ACK_FREQUENCY, plus one; zero: it carried none.
    pub(crate) frequency: u32,
    /// Everything else that must be told again when it is lost.
    pub(crate) flags: Flags,
}

/// Control frames in a packet, as bits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Flags(pub(crate) u8);

impl Flags {
    /// A CLOSE that says that another session carries on.
    pub(crate) const YIELD: u8 = 1 << 1;
    pub(crate) const PING: u8 = 1 << 2;
    pub(crate) const HANDSHAKE: u8 = 1 << 3;
    pub(crate) const TOKEN: u8 = 1 << 5;
    /// A test of the path's size, whose loss is none of the path's.
    pub(crate) const TEST: u8 = 1 << 6;

    pub(crate) fn set(&mut self, bit: u8) {
        self.0 |= bit;
    }

    pub(crate) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// Where a session is in its life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// We answered a Hello; nothing sealed under the keys has come yet.
    Unconfirmed { until: Instant },
    /// Both ends have proven their keys.
    Open,
    /// What is queued goes out; then the session closes, or `into` carries on for it.
    Draining { into: Option<SessionId> },
    /// Everything of ours was acknowledged and `into` carries on; what the peer still sends here is taken in.
    Yielded { into: SessionId, since: Instant },
    /// CLOSE was sent; packets are answered with it again until then.
    Closing { until: Instant },
    /// Done: the shard frees it.
    Gone,
}

/// A PING that the application waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ping {
    pub(crate) ticket: Ticket,
    /// None until it is written.
    pub(crate) sent: Option<(PacketNumber, Instant)>,
}

/// The third message of XX.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) bytes: Vec<u8>,
    pub(crate) due: bool,
}

/// A peer's older session proves that it lives, or hands over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probation {
    pub(crate) successor: SessionId,
    /// If this one lives, the other drains into it.
    pub(crate) stays: bool,
    pub(crate) until: Instant,
    pub(crate) since: Instant,
}

/// Control frames to be written.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) ping: bool,
    pub(crate) ack_frequency: Option<AckFrequency>,
    pub(crate) close: Option<(u64, &'static str)>,
    /// The token by which our node would reset this session, until the peer has it.
    pub(crate) reset_token: Option<[u8; 16]>,
    pub(crate) token_sent: bool,
}

/// Settings that every session of a shard shares.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of the largest datagram ever tried.
    pub datagram_max: usize,
    /// Silence after which the session ends.
    pub idle_timeout: Duration,
    /// Silence after which a PING is sent, when wanted.
    pub keepalive: Option<Duration>,
    /// When the secrets are renewed by an exchange inside the session.
    pub renew_after: Duration,
    /// When keys wear out.
    pub key_limits: KeyLimits,
    /// Who decides how many bytes may be under way.
    pub congestion: Algorithm,
}

/// Who the peer is and what was agreed.
#[derive(Clone, Debug)]
pub(crate) struct Agreement {
    pub(crate) id: SessionId,
    /// The id that the peer writes: ours, or the one of the shard that began the handshake and handed the session over.
    pub(crate) wire_id: SessionId,
    pub(crate) peer_session: SessionId,
    pub(crate) peer: NodeId,
    pub(crate) peer_static: StaticPublic,
    pub(crate) peer_instance: InstanceId,
    pub(crate) initiator: bool,
    /// Of the key of ours that it was begun with.
    pub(crate) era: u8,
    pub(crate) suite: Suite,
    /// Proves a Reset of the peer's.
    pub(crate) reset_token: Option<[u8; 16]>,
}

/// Everything kept for a peer.
pub(crate) struct Session<C: Crypto> {
    pub(crate) agreement: Agreement,
    pub(crate) phase: Phase,
    pub(crate) announced: bool,
    /// The directory of identities knows it.
    pub(crate) listed: bool,
    /// Our key, of the session's era, is lower than the peer's.
    pub(crate) is_lower: bool,
    /// The shard should look at `phase`, `drained_into` or the reset token again.
    pub(crate) phase_changed: bool,
    /// The shard has it in its queue of sessions that may have something to send.
    pub(crate) queued: bool,
    pub(crate) send_keys: SendKeys<C>,
    pub(crate) receive_keys: ReceiveKeys<C>,
    pub(crate) replay: ReplayWindow,
    pub(crate) recovery: Recovery<Contents>,
    pub(crate) acknowledgements: Acknowledgements,
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) path: Path,
    pub(crate) candidate: Option<Box<Candidate>>,
    pub(crate) responses: Vec<(Path, [u8; 8])>,
    pub(crate) control: Control,
    pub(crate) pings: Vec<Ping>,
    pub(crate) renewal: Option<Box<Renewal>>,
    pub(crate) renewal_wanted: bool,
    pub(crate) renewal_inbox: Option<(u8, Vec<u8>)>,
    /// The first bytes of the peer's HANDSHAKE frame that was taken last: it may come again, late.
    pub(crate) renewal_taken: [u8; 8],
    pub(crate) probation: Option<Probation>,
    /// Who carries on for this session, once it is gone.
    pub(crate) successor: Option<SessionId>,
    /// Everything was acknowledged: this session takes over.
    pub(crate) drained_into: Option<SessionId>,
    /// The application knows that.
    pub(crate) has_moved: bool,
    /// The third message of XX, until the peer has answered to it.
    pub(crate) finish: Option<Finish>,
    /// The code of the CLOSE that ends a drained session.
    pub(crate) drain_code: u64,
    /// The peer has nothing more to send here: another session carries on for this one.
    pub(crate) peer_yielded: bool,
    /// Since when.
    pub(crate) peer_yielded_at: Instant,
    /// When the directory of identities was told so.
    pub(crate) yield_told: Option<Instant>,
    /// Messages that wait until this session has drained into another.
    pub(crate) forward: Vec<Outgoing>,
    /// The queue's size that the application knows of.
    pub(crate) told_queue: usize,
    /// Segments sent again that the shard's numbers have.
    pub(crate) told_resent: u64,
    pub(crate) settings: Arc<Settings>,
    pub(crate) secrets_since: Instant,
    pub(crate) last_heard: Instant,
    /// Since when the peer owes an answer: the first packet that asked for one since it answered last.
    pub(crate) owed_since: Option<Instant>,
    pub(crate) last_roam: Instant,
    pub(crate) highest: Option<u64>,
    pub(crate) unmatched: u32,
    /// Nothing was heard since its buffers were freed.
    pub(crate) is_shrunk: bool,
    pub(crate) pacing_until: Option<Instant>,
    pub(crate) handshake_hash: [u8; 32],
}

impl<C: Crypto> Session<C> {
    /// Reads a little of each part that sending uses. Among ten thousand sessions one is seldom in a cache; the reads for several do not
    /// wait for each other, where those of its own work do.
    #[inline]
    pub(crate) fn glance(&self) -> u64 {
        let state = self.sender.queued_bytes() as u64;
        let keys = self.send_keys.sealed_count() ^ self.highest.unwrap_or(0);
        let way = self.recovery.window_left() ^ u64::from(self.recovery.probes_owed());
        state ^ keys ^ way ^ self.path.budget() as u64 ^ u64::from(self.acknowledgements.is_wanted())
    }

    /// The session's entry in the directory of identities.
    // spec: p2p/previous-key
    pub(crate) fn listing(&self) -> Listing {
        let peer = self.agreement.peer;
        Listing {
            // To a peer we are another node under each of our keys. Nobody has a key such as this.
            peer: NodeId(peer.0.map(|byte| byte ^ self.agreement.era)),
            instance: self.agreement.peer_instance,
            session: self.agreement.id,
            initiator: self.agreement.initiator,
            is_lower: self.is_lower,
        }
    }

    /// The responder's wait for the first sealed packet begins.
    pub(crate) fn await_confirmation(&mut self, now: Instant) {
        self.phase = Phase::Unconfirmed { until: now + WELCOME_LIFE };
    }

    /// Takes a message to send. A session that drains into another keeps it for that one.
    ///
    /// # Errors
    /// The message comes back when the session is closing or the message cannot be taken.
    pub(crate) fn push(&mut self, message: Outgoing) -> Result<(), (PushError, Outgoing)> {
        match self.phase {
            Phase::Draining { into: Some(_) } => {
                self.forward.push(message);
                Ok(())
            }
            Phase::Draining { into: None } | Phase::Yielded { .. } | Phase::Closing { .. } | Phase::Gone => {
                Err((PushError::ChannelClosed, message))
            }
            Phase::Unconfirmed { .. } | Phase::Open => self.sender.push(message),
        }
    }

    /// Measures a round trip.
    pub(crate) fn ping(&mut self, ticket: Ticket) {
        if self.pings.len() < 64 {
            self.pings.push(Ping { ticket, sent: None });
        }
        self.control.ping = true;
    }

    /// Begins to close: CLOSE goes out once, and again for each packet that still comes.
    pub(crate) fn close(&mut self, now: Instant, code: u64, reason: &'static str) {
        if !matches!(self.phase, Phase::Closing { .. } | Phase::Gone) {
            self.phase = Phase::Closing { until: now + CLOSE_LINGER };
            self.control.close = Some((code, reason));
        }
    }

    /// The application was told that this session has ended, or that another carries on for it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Yielded { .. } | Phase::Closing { .. } | Phase::Gone)
    }

    /// Closes at our own application's wish.
    pub(crate) fn close_locally(&mut self, around: &mut Surroundings, code: u64) {
        self.tell_closed(around, CloseReason::Local);
        self.close(around.now.instant, code, "");
    }

    /// Closes once everything queued was acknowledged; new messages go to `into`, when given.
    pub(crate) fn drain(&mut self, into: Option<SessionId>) {
        if matches!(self.phase, Phase::Open | Phase::Unconfirmed { .. }) {
            self.phase = Phase::Draining { into };
        }
    }

    /// Messages that are complete go to the application.
    pub(crate) fn deliver(&mut self, around: &mut Surroundings) {
        while let Some(Incoming { channel, block, charge, .. }) = self.receiver.poll_message() {
            around.stats.messages_delivered += 1;
            if planted(Mutant::DeliveryForgotten) && around.stats.messages_delivered.is_multiple_of(64) {
                around.pool.give(block);
                continue;
            }
            around.events.push_back(Event::Message { session: self.agreement.id, channel, block, charge });
        }
    }

    /// Messages that are done with go back to the application.
    pub(crate) fn release(&mut self, around: &mut Surroundings) {
        while let Some(released) = self.sender.poll_released() {
            around.events.push_back(Event::Released { session: self.agreement.id, released });
        }
        let resent = self.sender.counts().segments_resent;
        around.stats.segments_resent += resent - self.told_resent;
        self.told_resent = resent;
        let bytes = self.sender.queue_bytes_max();
        // An application that does not know the session yet would miss it.
        if self.announced && bytes != self.told_queue {
            self.told_queue = bytes;
            around.events.push_back(Event::QueueLimit { session: self.agreement.id, bytes });
        }
    }

    /// What was not acknowledged, in order; the session has nothing to send afterwards.
    pub(crate) fn take_undelivered(&mut self) -> Vec<Outgoing> {
        let sender = core::mem::replace(&mut self.sender, Sender::new(SenderLimits::default()));
        self.told_resent = 0;
        sender.into_undelivered().into_iter().map(|left| left.message).collect()
    }

    /// When time alone changes something. Asked after the session has nothing left to send.
    pub(crate) fn deadline(&self) -> Instant {
        let mut earliest = match self.phase {
            Phase::Unconfirmed { until } | Phase::Closing { until } => until,
            Phase::Gone => Instant::ZERO,
            Phase::Yielded { since, .. } => since.max(self.last_heard) + YIELD_LINGER,
            Phase::Open | Phase::Draining { .. } => self.idle_at(),
        };
        let mut consider = |instant: Option<Instant>| {
            if let Some(instant) = instant {
                earliest = earliest.min(instant);
            }
        };
        if matches!(self.phase, Phase::Closing { .. } | Phase::Gone) {
            return earliest;
        }
        consider(self.recovery.poll_timeout());
        if self.may_send() {
            consider(self.acknowledgements.deadline());
            consider(self.pacing_until);
            let quiet = self.is_quiet().then(|| self.keepalive()).flatten();
            consider(quiet.map(|interval| self.last_heard + interval));
        }
        consider(self.receiver.deadline());
        consider(self.candidate.as_ref().map(|candidate| candidate.again_at));
        consider(self.probation.map(|probation| probation.until));
        consider(self.receive_keys.poll_timeout());
        consider(self.renewal_deadline());
        consider(self.unresponsive_at());
        consider(self.yield_due());
        consider((!self.is_shrunk).then(|| self.last_heard + SHRINK_AFTER).filter(|_| self.is_quiet()));
        earliest
    }

    /// The peer goes on elsewhere and we do not know where yet: when the directory is to be asked. It may not know either, so
    /// it is asked again.
    pub(crate) fn yield_due(&self) -> Option<Instant> {
        let is_waiting = self.peer_yielded && self.listed && self.phase == Phase::Open;
        is_waiting.then(|| self.yield_told.map_or(Instant::ZERO, |told| told + YIELD_ASK_AGAIN))
    }

    /// The peer has left, and nobody knows for which session: it may have closed that meanwhile.
    pub(crate) fn is_abandoned(&self, now: Instant) -> bool {
        self.yield_due().is_some() && self.peer_yielded_at + YIELD_LINGER <= now
    }

    /// Nothing of ours is unacknowledged.
    pub(crate) fn is_quiet(&self) -> bool {
        self.recovery.bytes_in_flight() == 0
    }

    /// When its peer has been silent for too long.
    fn idle_at(&self) -> Instant {
        let times = if planted(Mutant::IdleIgnored) { 1 << 20 } else { 1 };
        self.last_heard + self.settings.idle_timeout * times
    }

    fn unresponsive_at(&self) -> Option<Instant> {
        let since = self.owed_since.filter(|_| !self.is_quiet())?;
        Some(since.max(self.last_heard) + UNRESPONSIVE_AFTER)
    }

    /// Time has come for something.
    pub(crate) fn on_timeout(&mut self, around: &mut Surroundings) {
        let now = around.now.instant;
        match self.phase {
            Phase::Unconfirmed { until } if until <= now => {
                return self.end(around, CloseReason::Unresponsive);
            }
            Phase::Closing { until } if until <= now && !planted(Mutant::ClosingNeverEnds) => {
                self.phase = Phase::Gone;
                return;
            }
            Phase::Yielded { since, .. } if since.max(self.last_heard) + YIELD_LINGER <= now => {
                self.phase = Phase::Gone;
                return;
            }
            Phase::Closing { .. } | Phase::Gone => return,
            Phase::Unconfirmed { .. } | Phase::Open | Phase::Draining { .. } | Phase::Yielded { .. } => {}
        }
        if self.idle_at() <= now {
            return self.end(around, CloseReason::Idle);
        }
        if self.unresponsive_at().is_some_and(|at| at <= now) || self.recovery.is_stuck() {
            return self.end(around, CloseReason::Unresponsive);
        }
        if self.pacing_until.is_some_and(|at| at <= now) {
            self.pacing_until = None;
        }
        self.on_loss_timer(around);
        self.receiver.on_tick(now, &mut around.pool);
        self.receive_keys.handle_timeout(now);
        self.on_keepalive(now);
        self.on_quiet_timer(now);
        self.on_path_timer(around);
        self.on_renewal_timer(around);
    }

    /// After so long a silence the peer is asked for an answer. A sender that waits for a slow reader's credit asks whatever the
    /// settings: the reader may take its time, but it must be there.
    fn keepalive(&self) -> Option<Duration> {
        if self.is_over() {
            return None;
        }
        let waiting = self.sender.is_credit_blocked().then_some(self.settings.idle_timeout / 3);
        [self.settings.keepalive, waiting].into_iter().flatten().min()
    }

    fn on_keepalive(&mut self, now: Instant) {
        if !self.is_quiet() {
            return;
        }
        if self.keepalive().is_some_and(|interval| self.last_heard + interval <= now) {
            self.control.ping = true;
        }
    }

    /// Buffers that a burst left behind are freed after a quiet while.
    fn on_quiet_timer(&mut self, now: Instant) {
        if !self.is_shrunk && self.last_heard + SHRINK_AFTER <= now && self.is_quiet() {
            self.is_shrunk = true;
            self.sender.shrink();
            self.receiver.shrink();
            self.recovery.shrink();
            self.acknowledgements.shrink();
            self.send_keys.rest();
            self.receive_keys.rest();
            self.responses.shrink_to_fit();
            self.pings.shrink_to_fit();
            self.forward.shrink_to_fit();
        }
    }

    /// Tells the application that the session is over, once.
    pub(crate) fn tell_closed(&mut self, around: &mut Surroundings, reason: CloseReason) {
        if self.announced && !self.is_over() {
            // What came whole in the same train comes first.
            self.deliver(around);
            self.release(around);
            let (session, peer) = (self.agreement.id, self.agreement.peer);
            around.events.push_back(Event::Closed { session, peer, reason });
        }
    }

    /// The session ends here and now, without a word to the peer.
    pub(crate) fn end(&mut self, around: &mut Surroundings, reason: CloseReason) {
        if self.phase == Phase::Gone {
            return;
        }
        self.tell_closed(around, reason);
        self.phase = Phase::Gone;
    }
}
