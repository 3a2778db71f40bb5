//! A session taking packets in: open, then each frame in turn.
//!
//! In:    one sealed packet with the way it came.
//! Out:   changed state; a `DropReason` when nothing was changed.
//! Holds: nothing of a packet is believed before its tag held; the replay window is committed after that (T6).

use core::time::Duration;

use dunlin_codec::frame::{Ack, Close, Frame, Frames, Segment};
use dunlin_codec::ids::PacketNumber;
use dunlin_codec::sealed;

use crate::arq::acknowledgements::{Acknowledgements, Received};
use crate::arq::receiver::{Receiver, Refusal, Violation};
use crate::arq::recovery::{AckInput, Outcome, Recovery, TimeoutKind};
use crate::arq::sender::Sender;
use crate::event::{CloseReason, Event};
use crate::limits::{ACK_DELAY_CLAIM_MAX, UNMATCHED_SOURCES_MAX};
use crate::mutants::{Mutant, planted};
use crate::route::Arrival;
use crate::session::crypto::{Crypto, HEADER_LEN};
use crate::session::keys::{Arrived, Wear};
use crate::session::live::{Contents, Control, Flags, Phase, Session};
use crate::session::outbound::{OVERHEAD, YIELDS};
use crate::session::path::Path;
use crate::session::renewal::Renewal;
use crate::session::replay::Freshness;
use crate::stats::{DropReason, Stats};
use crate::surroundings::Surroundings;
use crate::time::Instant;

/// Codes of CLOSE and CHANNEL_RESET that this node gives.
pub mod code {
    /// The application closed.
    pub const DONE: u64 = 0;
    /// The peer broke the protocol.
    pub const VIOLATION: u64 = 1;
    /// The other session with the same peer stays.
    pub const SUPERSEDED: u64 = 2;
    /// The node shuts down.
    pub const SHUTDOWN: u64 = 3;
    /// The node is short of memory.
    pub const OVERLOADED: u64 = 4;
}

/// What became of an opened packet's frames.
enum Taken {
    /// Everything was taken; it may be acknowledged.
    Whole { eliciting: bool, is_patient: bool, probing: bool },
    /// There was no memory for something: it must come again.
    NoMemory,
}

impl<C: Crypto> Session<C> {
    /// Takes in one sealed packet.
    ///
    /// # Errors
    /// Why it was dropped; nothing was changed then.
    pub(crate) fn on_datagram(
        &mut self,
        around: &mut Surroundings,
        arrival: &Arrival,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        let datagram_len = datagram.len();
        let (header, body) = datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(DropReason::TooShort)?;
        if self.unmatched >= UNMATCHED_SOURCES_MAX && !self.path.is_of(arrival) {
            return Err(DropReason::UnmatchedSource);
        }
        let low = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let expected = PacketNumber(self.highest.map_or(0, |highest| highest + 1));
        let number = sealed::expand_number(low, expected);
        match self.replay.check(number) {
            Freshness::Fresh => {}
            Freshness::Seen => return Err(DropReason::Replayed),
            Freshness::TooOld => {
                self.replay.on_too_old();
                return Err(DropReason::TooOld);
            }
        }
        let packet = Arrived { number, phase: low >> 31 != 0, header };
        let Ok(opened) = self.receive_keys.open(packet, body, around.now.instant) else {
            self.unmatched += u32::from(!self.path.is_of(arrival));
            self.on_forged(around);
            return Err(DropReason::Forged);
        };
        if opened.is_first_of_phase {
            self.on_first_of_phase(around.now.instant);
        }
        let plain_len = opened.len;
        self.replay.commit(number);
        self.unmatched = 0;
        around.stats.packets_opened += 1;
        let newest = self.on_opened(around, arrival, number, datagram_len);
        let probing = self.on_plaintext(around, arrival, number, &body[..plain_len]);
        if !self.path.is_of(arrival) {
            self.on_other_path(around, arrival, newest && !probing, datagram_len);
        } else if !self.path.is_validated() {
            self.prove_path(around, newest && !probing);
        }
        Ok(())
    }

    #[cold]
    fn on_first_of_phase(&mut self, now: Instant) {
        let times = if planted(Mutant::PreviousKeyDropped) { 0 } else { 3 };
        self.receive_keys.keep_previous_until(now + self.recovery.rtt().probe_timeout(0) * times);
        self.on_peer_phase(now);
    }

    /// Tags that do not hold: many at a pace ask for new secrets, far too many end the session (T23).
    #[cold]
    fn on_forged(&mut self, around: &mut Surroundings) {
        match self.receive_keys.wear() {
            Wear::None => {}
            Wear::Rekey => {
                self.renewal_wanted = self.agreement.initiator && self.renewal.is_none();
                self.phase_changed |= self.renewal_wanted;
            }
            Wear::Close => self.on_violation(around, "too many packets that do not open"),
        }
    }

    /// A packet is proven to come from the peer. True: it is the newest so far.
    fn on_opened(
        &mut self,
        around: &mut Surroundings,
        arrival: &Arrival,
        number: PacketNumber,
        len: usize,
    ) -> bool {
        let now = around.now.instant;
        self.last_heard = now;
        self.is_shrunk = false;
        self.finish = None;
        // Whatever the phase: one that was told to close before its peer had confirmed it still has messages to bring there.
        let is_confirmation = self.highest.is_none() && !self.agreement.initiator;
        let newest = self.highest.is_none_or(|highest| number.0 > highest);
        if newest {
            self.highest = Some(number.0);
        }
        if self.path.is_of(arrival) {
            self.path.on_received(len);
            if self.path.local.is_none() {
                self.path.local = arrival.local;
            }
        }
        // From elsewhere it proves the keys, but not who is where the Hello came from: somebody may have sent that on.
        if is_confirmation && self.path.is_of(arrival) {
            self.path.on_validated();
        }
        if matches!(self.phase, Phase::Unconfirmed { .. }) {
            self.phase = Phase::Open;
            self.phase_changed = true;
            self.announce(around);
        }
        newest
    }

    /// Tells the application of a session that the peer opened, once.
    pub(crate) fn announce(&mut self, around: &mut Surroundings) {
        if !self.announced {
            self.announced = true;
            let (session, peer, remote) = (self.agreement.id, self.agreement.peer, self.path.remote);
            around.events.push_back(Event::Accepted { session, peer, remote });
        }
    }

    /// Takes the frames. True: they say nothing of where the peer is, as they only ask or answer that, or nothing was taken.
    fn on_plaintext(
        &mut self,
        around: &mut Surroundings,
        arrival: &Arrival,
        number: PacketNumber,
        plain: &[u8],
    ) -> bool {
        match self.phase {
            Phase::Closing { .. } => {
                around.stats.count_drop(DropReason::Closing);
                // The peer has not heard our CLOSE yet, unless this is its own.
                self.control.close.get_or_insert((code::DONE, ""));
                self.on_close_only(around, plain);
                return true;
            }
            Phase::Gone => return true,
            Phase::Unconfirmed { .. } | Phase::Open | Phase::Draining { .. } | Phase::Yielded { .. } => {}
        }
        match self.on_frames(around, Some(arrival), plain) {
            Ok(Taken::Whole { eliciting, is_patient, probing }) => {
                let (bytes, ecn) = (plain.len() + OVERHEAD, arrival.ecn);
                let ack_eliciting = eliciting || planted(Mutant::AckAcknowledged);
                let packet = Received { number, bytes, ack_eliciting, is_patient, ecn };
                self.acknowledgements.on_packet(around.now.instant, &packet);
                // The peer still asks for answers here: it has not heard that another session carries on, perhaps.
                if eliciting && !self.peer_yielded && matches!(self.phase, Phase::Yielded { .. }) {
                    self.control.close.get_or_insert((code::SUPERSEDED, YIELDS));
                }
                return probing;
            }
            Ok(Taken::NoMemory) => {
                if planted(Mutant::AckedWithoutMemory) {
                    let (bytes, ecn) = (plain.len(), arrival.ecn);
                    let packet = Received { number, bytes, ack_eliciting: true, is_patient: false, ecn };
                    self.acknowledgements.on_packet(around.now.instant, &packet);
                }
                around.stats.count_drop(DropReason::NoMemory);
            }
            Err(violation) => self.on_violation(around, violation),
        }
        false
    }

    /// The peer broke the protocol: it is told, and the session closes.
    pub(crate) fn on_violation(&mut self, around: &mut Surroundings, violation: &'static str) {
        self.tell_closed(around, CloseReason::Violation(violation));
        self.close(around.now.instant, code::VIOLATION, violation);
    }

    fn on_close_only(&mut self, around: &mut Surroundings, plain: &[u8]) {
        if Frames::new(plain).any(|frame| matches!(frame, Ok(Frame::Close(_)))) {
            self.end(around, CloseReason::Local);
        }
    }

    /// Early data: frames that came inside a handshake, with no packet number of their own.
    pub(crate) fn on_early_frames(&mut self, around: &mut Surroundings, frames: &[u8]) {
        self.take_early_frames(around, frames);
        self.deliver(around);
    }

    /// The same, delivered by the caller. False: there was no memory for all of them.
    pub(crate) fn take_early_frames(&mut self, around: &mut Surroundings, frames: &[u8]) -> bool {
        match self.on_frames(around, None, frames) {
            Ok(Taken::Whole { .. }) => true,
            Ok(Taken::NoMemory) => false,
            Err(violation) => {
                self.on_violation(around, violation);
                true
            }
        }
    }

    fn on_frames(
        &mut self,
        around: &mut Surroundings,
        arrival: Option<&Arrival>,
        plain: &[u8],
    ) -> Result<Taken, &'static str> {
        let (mut eliciting, mut is_patient, mut probing) = (false, true, true);
        for frame in Frames::new(plain) {
            let frame = frame.map_err(|_| "a frame that does not parse")?;
            let is_eliciting = frame.is_ack_eliciting();
            eliciting |= is_eliciting;
            let is_unreliable = matches!(&frame, Frame::Segment(segment) if segment.unreliable.is_some());
            is_patient &= is_unreliable || !is_eliciting;
            probing &= matches!(frame, Frame::PathChallenge(_) | Frame::PathResponse(_) | Frame::Padding(_));
            if let Frame::Segment(segment) = &frame {
                if !self.on_segment(around, segment)? {
                    return Ok(Taken::NoMemory);
                }
                continue;
            }
            self.on_control_frame(around, arrival, &frame)?;
        }
        Ok(Taken::Whole { eliciting, is_patient, probing })
    }

    /// False: there was no memory for it.
    #[inline]
    fn on_segment(&mut self, around: &mut Surroundings, segment: &Segment<'_>) -> Result<bool, &'static str> {
        match self.receiver.on_segment(around.now.instant, segment, &mut around.pool) {
            Ok(_) => Ok(true),
            Err(Refusal::NoMemory) => Ok(false),
            Err(Refusal::Violation(why)) => Err(words(why)),
        }
    }

    fn on_control_frame(
        &mut self,
        around: &mut Surroundings,
        arrival: Option<&Arrival>,
        frame: &Frame<'_>,
    ) -> Result<(), &'static str> {
        match frame {
            Frame::Padding(_) | Frame::Ping | Frame::Segment(_) => {}
            Frame::CreditBlocked { channel, limit } => {
                self.receiver.on_credit_blocked(*channel, *limit).map_err(words_of)?;
            }
            Frame::Ack(ack) => self.on_acknowledgement(around, ack)?,
            Frame::ChannelCredit { channel, limit } => self.sender.on_channel_credit(*channel, *limit),
            Frame::SessionCredit { limit } => self.sender.on_session_credit(*limit),
            Frame::ChannelReset { channel, code } => self.on_channel_reset(around, *channel, *code)?,
            Frame::PathChallenge(challenge) => self.on_challenge(arrival, *challenge),
            Frame::PathResponse(response) => self.on_response(around, response),
            Frame::Close(close) => self.on_peer_close(around, close),
            Frame::Handshake { kind, bytes } => self.on_renewal_frame(*kind, bytes)?,
            Frame::Skip { channel, message } => {
                self.receiver.on_skip(*channel, *message, &mut around.pool).map_err(words_of)?;
            }
            Frame::ImmediateAck => self.acknowledgements.on_asked(),
            Frame::AckFrequency { sequence, bytes } => {
                self.acknowledgements.on_frequency(*sequence, *bytes);
            }
            Frame::ResetToken(token) => {
                self.agreement.reset_token = Some(*token);
                self.phase_changed = true;
            }
        }
        Ok(())
    }

    fn on_channel_reset(
        &mut self,
        around: &mut Surroundings,
        channel: dunlin_codec::ids::ChannelId,
        code: u64,
    ) -> Result<(), &'static str> {
        self.receiver.on_channel_reset(channel, &mut around.pool).map_err(words_of)?;
        self.sender.on_channel_reset(channel);
        let session = self.agreement.id;
        around.events.push_back(Event::ChannelClosed { session, channel, code });
        Ok(())
    }

    fn on_challenge(&mut self, arrival: Option<&Arrival>, challenge: [u8; 8]) {
        let Some(arrival) = arrival else { return };
        if self.responses.len() < usize::from(crate::limits::PATH_PROBES_MAX) {
            let mut path = Path::of_arrival(arrival);
            // The packet that asked was larger than the answer will be.
            path.on_received(arrival.segment_len);
            self.responses.push((path, challenge));
        }
    }

    fn on_peer_close(&mut self, around: &mut Surroundings, close: &Close<'_>) {
        if close.code == code::SUPERSEDED {
            return self.on_peer_yielded(around.now.instant);
        }
        self.end(around, CloseReason::Peer { code: close.code, reason: close.reason.into() });
    }

    /// The peer has nothing more to send here, as another session carries on. What we have here still goes out here: the peer
    /// acknowledges it, and our own directory says where to go on.
    fn on_peer_yielded(&mut self, now: Instant) {
        if !self.peer_yielded {
            self.peer_yielded = true;
            self.peer_yielded_at = now;
        }
        self.phase_changed = true;
        if matches!(self.phase, Phase::Yielded { .. }) {
            self.close(now, code::SUPERSEDED, YIELDS);
        }
    }

    fn on_acknowledgement(&mut self, around: &mut Surroundings, ack: &Ack<'_>) -> Result<(), &'static str> {
        let now = around.now.instant;
        let delay = Duration::from_micros(ack.delay_us()).min(ACK_DELAY_CLAIM_MAX);
        let path_mtu = self.recovery.path_mtu();
        let input = AckInput { largest: ack.largest(), delay, ranges: ack.ranges(), ecn: ack.ecn() };
        let (recovery, mut fates) = self.fates(around);
        let summary = recovery
            .on_ack(now, input, &mut |outcome| fates.on_outcome(&outcome))
            .map_err(|_| "an acknowledgement of what was never sent")?;
        let frequency_lost = fates.frequency_lost;
        self.after_fates(around, frequency_lost, path_mtu);
        if summary.acked_packets > 0 {
            self.owed_since = (!self.is_quiet()).then_some(now);
        }
        self.send_keys.on_acknowledged(ack.largest());
        around.stats.packets_lost_spuriously += u64::from(summary.spurious_packets);
        self.on_round_trip(around, ack.largest());
        self.release(around);
        self.pacing_until = None;
        Ok(())
    }

    /// The session's parts that learn what became of packets, beside the one that tells it.
    fn fates<'a>(&'a mut self, around: &'a mut Surroundings) -> (&'a mut Recovery<Contents>, Fates<'a>) {
        let fates = Fates {
            sender: &mut self.sender,
            receiver: &mut self.receiver,
            acknowledgements: &mut self.acknowledgements,
            control: &mut self.control,
            renewal: &mut self.renewal,
            stats: &mut around.stats,
            frequency_lost: None,
        };
        (&mut self.recovery, fates)
    }

    fn on_round_trip(&mut self, around: &mut Surroundings, largest: PacketNumber) {
        let now = around.now.instant;
        // The least round trip, not the smoothed one: a queue that makes round trips longer must not earn a longer queue by that.
        let least = self.recovery.rtt().min();
        self.receiver.on_round_trip(least);
        self.sender.on_round_trip(least, now);
        let session = self.agreement.id;
        self.pings.retain(|ping| match ping.sent {
            Some((number, sent)) if number <= largest => {
                let round_trip = now.since(sent);
                around.events.push_back(Event::Pong { ticket: ping.ticket, session, round_trip });
                false
            }
            _ => true,
        });
    }

    /// The loss timer fired, perhaps.
    pub(crate) fn on_loss_timer(&mut self, around: &mut Surroundings) {
        let now = around.now.instant;
        if self.recovery.poll_timeout().is_none_or(|at| at > now && !planted(Mutant::StaleTimerActedOn)) {
            return;
        }
        let path_mtu = self.recovery.path_mtu();
        let (recovery, mut fates) = self.fates(around);
        let kind = recovery.on_timeout(now, &mut |outcome| fates.on_outcome(&outcome));
        let frequency_lost = fates.frequency_lost;
        self.after_fates(around, frequency_lost, path_mtu);
        let TimeoutKind::Probe(_) = kind else { return };
        around.stats.probe_timeouts += 1;
        #[cfg(feature = "mutants")]
        if planted(Mutant::NumberReused) {
            self.send_keys.step_back();
        }
        if planted(Mutant::ProbeForEachMissedTimeout) {
            self.on_loss_timer(around);
        }
        self.repeat_oldest();
        if let Some(finish) = &mut self.finish {
            finish.due = true;
        }
    }

    /// What a probe carries: what has waited longest for its acknowledgement.
    fn repeat_oldest(&mut self) {
        let oldest =
            self.recovery.unanswered().map(|(_, contents)| contents.span).find(|span| !span.is_empty());
        if let Some(span) = oldest {
            self.sender.resend(span);
        }
    }

    /// What fates say about the path: an ACK_FREQUENCY to repeat, another datagram length.
    fn after_fates(&mut self, around: &mut Surroundings, frequency_lost: Option<u64>, path_mtu: usize) {
        if let Some(sequence) = frequency_lost {
            self.recovery.on_ack_frequency_lost(sequence);
        }
        let now = self.recovery.path_mtu();
        around.stats.mtu_raised += u64::from(now > path_mtu);
        around.stats.mtu_lowered += u64::from(now < path_mtu);
    }
}

fn words_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Violation(violation) => words(violation),
        Refusal::NoMemory => "more was skipped than there is room for",
    }
}

fn words(violation: Violation) -> &'static str {
    match violation {
        Violation::ConflictingTotal => "segments of one message disagree about its length",
        Violation::TooLong => "a message is longer than allowed",
        Violation::BeyondEnd => "a segment reaches beyond its message's end",
        Violation::BeyondCredit => "more was sent than credited",
        Violation::TooManyChannels => "more channels were opened than allowed",
        Violation::OrderMismatch => "a channel was both ordered and unordered",
    }
}

/// Everything that learns what became of a packet.
struct Fates<'a> {
    sender: &'a mut Sender,
    receiver: &'a mut Receiver,
    acknowledgements: &'a mut Acknowledgements,
    control: &'a mut Control,
    renewal: &'a mut Option<Box<Renewal>>,
    stats: &'a mut Stats,
    frequency_lost: Option<u64>,
}

impl Fates<'_> {
    #[inline]
    fn on_outcome(&mut self, outcome: &Outcome<Contents>) {
        match outcome {
            Outcome::Acked(_, contents) => self.on_acked(contents),
            Outcome::Lost(_, contents) => self.on_lost(contents),
        }
    }

    #[inline]
    fn on_acked(&mut self, contents: &Contents) {
        self.sender.on_acked(contents.span);
        if contents.acked_before > 0 {
            self.acknowledgements.on_acknowledged(PacketNumber(contents.acked_before - 1));
        }
        if contents.flags.has(Flags::TOKEN) {
            self.control.reset_token = None;
        }
    }

    /// What the packet carried is written again, with what holds then.
    #[cold]
    fn on_lost(&mut self, contents: &Contents) {
        if contents.flags.has(Flags::TEST) {
            return;
        }
        self.stats.packets_lost += 1;
        self.sender.on_lost(contents.span);
        self.receiver.on_credit_lost(contents.credit);
        if contents.flags.has(Flags::TOKEN) {
            self.control.token_sent = false;
        }
        if contents.flags.has(Flags::YIELD) {
            self.control.close.get_or_insert((code::SUPERSEDED, YIELDS));
        }
        if contents.flags.has(Flags::HANDSHAKE)
            && let Some(renewal) = self.renewal
        {
            renewal.on_lost();
        }
        if contents.frequency > 0 {
            self.frequency_lost = Some(u64::from(contents.frequency - 1));
        }
    }
}
