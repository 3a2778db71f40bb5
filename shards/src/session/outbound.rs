//! A session giving packets out: trains of equal, sealed datagrams for one peer, written in place.
//!
//! In:    a frame to fill, time.
//! Out:   a `Transmit` that says what was written.
//! Holds: every number is sealed once; nothing leaves an unvalidated path's budget; all datagrams of a train
//!        but the last have one length.

use dunlin_codec::bytes::Writer;
use dunlin_codec::frame::{Close, Frame, write_ack};
use dunlin_codec::ids::PacketNumber;
use dunlin_codec::sealed::Header;

use crate::arq::recovery::{AckFrequency, SentKind, SentPacket};
use crate::arq::sender::Tail;
use crate::limits::DATAGRAM_MIN;
use crate::mutants::{Mutant, planted};
use crate::route::{Ecn, TRAIN_LEN_MAX, TRAIN_SEGMENTS_MAX, Transmit};
use crate::session::crypto::{Crypto, HEADER_LEN, TAG_LEN};
use crate::session::inbound::code;
use crate::session::keys::Ticket;
use crate::session::live::{Contents, Flags, Phase, Session};
use crate::session::path::Path;
use crate::surroundings::Surroundings;
use crate::time::Instant;

/// Bytes around the frames of a packet.
pub(crate) const OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// Room for less than this is room for no packet.
const PACKET_LEN_MIN: usize = 64;
/// What CLOSE says of a session for which another carries on.
pub(crate) const YIELDS: &str = "another session stays";
/// Windows of at most so many datagrams ask for an answer with their last packet.
const PROMPT_WINDOW_MAX: usize = 32;
/// A packet that lacks at most this many bytes of its train's datagram length is filled up, so that the train goes on.
const FILL_MAX: usize = 160;

impl<C: Crypto> Session<C> {
    /// Writes the next train into `frame`; None when there is nothing to send now.
    pub(crate) fn poll_train(&mut self, around: &mut Surroundings, frame: &mut [u8]) -> Option<Transmit> {
        let now = around.now.instant;
        if self.phase == Phase::Gone {
            return None;
        }
        self.advance_keys(around);
        if let Some(transmit) = self.write_finish(around, frame) {
            return Some(transmit);
        }
        if let Some((path, answer)) = self.poll_path_frame(now) {
            return self.write_path_packet(around, frame, &path, &answer);
        }
        if matches!(self.phase, Phase::Closing { .. }) {
            return self.write_close(around, frame);
        }
        self.finish_draining(around);
        if self.control.close.is_some() {
            return self.write_close(around, frame);
        }
        if let Some(transmit) = self.write_mtu_probe(around, frame) {
            return Some(transmit);
        }
        if let Some(transmit) = self.write_train(around, frame) {
            return Some(transmit);
        }
        if !self.sender.is_ready() {
            self.recovery.on_app_limited();
        }
        // What was to be sent again may have been acknowledged meanwhile: that shows only now.
        self.finish_draining(around);
        self.write_close(around, frame)
    }

    /// After a train: whether that was the last for now, as far as can be told without trying.
    pub(crate) fn settle(&mut self, now: Instant) -> bool {
        let is_settled = self.phase == Phase::Open
            && !self.sender.is_ready()
            && !self.has_control()
            && self.control.close.is_none()
            && self.finish.is_none()
            && self.responses.is_empty()
            && self.candidate.is_none()
            && self.recovery.probes_owed() == 0
            && !self.acknowledgements.is_due(now);
        if is_settled {
            self.recovery.on_app_limited();
        }
        is_settled
    }

    /// Something could be sent if there were anything: neither the path's budget nor the key is used up.
    pub(crate) fn may_send(&self) -> bool {
        self.path.budget() >= PACKET_LEN_MIN && !self.send_keys.is_worn_out()
    }

    /// Goes on to the next key phase when it is due.
    fn advance_keys(&mut self, around: &mut Surroundings) {
        let now = around.now.instant;
        if self.send_keys.advance(now, &self.settings.key_limits) {
            around.stats.key_phases += 1;
        } else if self.send_keys.needs_acknowledgement(now, &self.settings.key_limits) && self.is_quiet() {
            self.control.ping = true;
        }
    }

    fn write_train(&mut self, around: &mut Surroundings, frame: &mut [u8]) -> Option<Transmit> {
        let datagram_len = self.recovery.datagram_len();
        let room = frame.len().min(TRAIN_LEN_MAX).min(self.path.budget());
        if room < PACKET_LEN_MIN {
            return None;
        }
        let mut allowed = self.allowance(around.now.instant, datagram_len);
        self.poll_ack_frequency();
        let (mut len, mut count, mut segment_len) = (0, 0, datagram_len);
        while count < TRAIN_SEGMENTS_MAX && room - len >= DATAGRAM_MIN.min(datagram_len).min(room) {
            let end = room.min(len + datagram_len);
            let more = end - len == datagram_len;
            let Some(written) = self.write_packet(around, &mut frame[len..end], &mut allowed, more) else {
                break;
            };
            len += written;
            count += 1;
            if written < datagram_len {
                if count == 1 {
                    segment_len = written;
                }
                break;
            }
        }
        (len > 0).then(|| self.transmit(around, len, segment_len))
    }

    fn transmit(&mut self, around: &mut Surroundings, len: usize, segment_len: usize) -> Transmit {
        self.path.on_sent(len);
        let path = self.path;
        let ecn = self.ecn();
        transmit_on(around, (&path, ecn), len, segment_len)
    }

    fn ecn(&self) -> Ecn {
        if self.recovery.is_ect_wanted() { Ecn::Ect0 } else { Ecn::NotEct }
    }

    /// What the window and the pacer allow now; notes when to come again when the pacer says no.
    fn allowance(&mut self, now: Instant, datagram_len: usize) -> u64 {
        self.pacing_until = None;
        let budget = self.recovery.send_budget(now);
        if budget < datagram_len as u64 && self.sender.is_ready() && self.recovery.can_send(datagram_len) {
            self.pacing_until = Some(self.recovery.next_send_at());
        }
        budget
    }

    /// The receiver acknowledges each eighth of our window: it is told when that has become another.
    fn poll_ack_frequency(&mut self) {
        if let Some(frequency) = self.recovery.poll_ack_frequency() {
            self.control.ack_frequency = Some(frequency);
        }
    }

    fn has_control(&self) -> bool {
        let control = &self.control;
        control.ping
            || control.ack_frequency.is_some()
            || control.reset_token.is_some() && !control.token_sent
            || self.receiver.is_credit_due()
            || self.renewal.as_ref().is_some_and(|renewal| renewal.has_frame())
    }

    /// Writes and seals one packet of at most `frame.len()` bytes; filled up to that when `fill` and little lacks.
    fn write_packet(
        &mut self,
        around: &mut Surroundings,
        frame: &mut [u8],
        allowed: &mut u64,
        fill: bool,
    ) -> Option<usize> {
        let now = around.now.instant;
        let data = *allowed >= frame.len() as u64
            && self.sender.is_ready()
            && !self.send_keys.is_sparing(&self.settings.key_limits);
        let probe = self.recovery.probes_owed() > 0;
        if planted(Mutant::AckForgotten) && self.acknowledgements.is_due(now) && !self.is_quiet() {
            self.acknowledgements.on_sent();
        }
        let ack_due = self.acknowledgements.is_due(now);
        if !(ack_due || data || probe || self.has_control()) {
            return None;
        }
        let ticket = self.send_keys.take_number(|| around.rng.next_u64()).ok()?;
        let number = ticket.number();
        let mut contents = Contents::default();
        let frame_len = frame.len();
        let body_len = frame_len - OVERHEAD;
        let mut out = Writer::new(&mut frame[HEADER_LEN..HEADER_LEN + body_len]);
        if ack_due || self.acknowledgements.is_wanted() {
            self.control.ping |= self.acknowledgements.is_ping_wanted();
            self.write_acknowledgement(now, &mut out, &mut contents);
        }
        let before = out.len();
        let is_last = data
            && self.is_last_of_window(*allowed, frame_len)
            && Frame::ImmediateAck.write(&mut out).is_ok();
        self.write_control(now, &mut out, &mut contents, number);
        let is_pressing = out.len() > before;
        let mut tail = Tail::default();
        if data {
            (contents.span, tail) = self.sender.write_around(&mut out);
        }
        let mut eliciting = out.len() > before;
        let is_patient = eliciting && !is_pressing && contents.span.is_empty();
        if probe && !eliciting {
            eliciting = Frame::Ping.write(&mut out).is_ok();
        }
        if out.is_empty() {
            return None;
        }
        let plain_len = fill_up(&mut out, fill && data && self.sender.is_ready());
        let len = plain_len + OVERHEAD;
        self.seal(&mut frame[..len], ticket, tail);
        *allowed = allowed.saturating_sub(len as u64);
        let kind = match eliciting {
            true if is_patient => SentKind::Patient,
            true => SentKind::Eliciting,
            false => SentKind::AckOnly,
        };
        self.on_packet_sent(now, (number, len), kind, contents);
        if planted(Mutant::SentTwice) && number.0.is_multiple_of(2) {
            self.sender.resend(contents.span);
        }
        if is_last && eliciting {
            self.recovery.on_prompt();
        }
        Some(len)
    }

    /// A small window is used up with this packet: it asks for an answer at once.
    fn is_last_of_window(&self, allowed: u64, frame_len: usize) -> bool {
        let window = self.recovery.congestion().window;
        window <= (PROMPT_WINDOW_MAX * frame_len) as u64 && allowed < 2 * frame_len as u64
    }

    fn on_packet_sent(
        &mut self,
        now: Instant,
        (number, len): (PacketNumber, usize),
        kind: SentKind,
        contents: Contents,
    ) {
        let is_ect = self.recovery.is_ect_wanted();
        self.recovery.on_sent(now, &SentPacket { number, bytes: len, kind, is_ect, contents });
        if kind != SentKind::AckOnly {
            self.owed_since.get_or_insert(now);
        }
    }

    /// Seals the packet in `frame`, whose plaintext lies between header and tag, but for a tail that still lies in its block.
    #[inline]
    fn seal(&mut self, frame: &mut [u8], ticket: Ticket, tail: Tail) {
        let body_len = frame.len() - OVERHEAD;
        let (header, rest) = frame.split_first_chunk_mut::<HEADER_LEN>().expect("a packet has a header");
        *header = Header::new(self.agreement.peer_session, ticket.phase(), ticket.number()).to_bytes();
        if tail.is_empty() {
            let (plain, tag) = rest.split_at_mut(body_len);
            tag.copy_from_slice(&self.send_keys.seal(ticket, header, plain));
        } else {
            self.send_keys.seal_with_tail(ticket, header, rest, self.sender.bytes_of(tail));
        }
    }

    fn write_acknowledgement(&mut self, now: Instant, out: &mut Writer<'_>, contents: &mut Contents) {
        let delay = u64::try_from(self.acknowledgements.delay(now).as_micros()).unwrap_or(u64::MAX);
        let ecn = self.acknowledgements.ecn();
        if write_ack(out, self.acknowledgements.ranges(), delay, ecn).is_ok() {
            contents.acked_before = self.acknowledgements.largest().map_or(0, |largest| largest.0 + 1);
            self.acknowledgements.on_sent();
        }
    }

    fn write_control(
        &mut self,
        now: Instant,
        out: &mut Writer<'_>,
        contents: &mut Contents,
        number: PacketNumber,
    ) {
        if let Some(frequency) = self.control.ack_frequency {
            let AckFrequency { sequence, bytes } = frequency;
            if (Frame::AckFrequency { sequence, bytes }).write(out).is_ok() {
                self.control.ack_frequency = None;
                contents.frequency = u32::try_from(sequence + 1).unwrap_or(u32::MAX);
            }
        }
        if self.control.ping && Frame::Ping.write(out).is_ok() && Frame::ImmediateAck.write(out).is_ok() {
            self.control.ping = false;
            contents.flags.set(Flags::PING);
            for ping in self.pings.iter_mut().filter(|ping| ping.sent.is_none()) {
                ping.sent = Some((number, now));
            }
        }
        if let Some(token) = self.control.reset_token
            && !self.control.token_sent
            && Frame::ResetToken(token).write(out).is_ok()
        {
            self.control.token_sent = true;
            contents.flags.set(Flags::TOKEN);
        }
        if self.receiver.is_credit_due() {
            contents.credit = self.receiver.write_credit(out);
        }
        if let Some(renewal) = &mut self.renewal
            && renewal.write_frame(out)
        {
            contents.flags.set(Flags::HANDSHAKE);
        }
    }

    /// A packet that asks whether the path carries larger ones.
    fn write_mtu_probe(&mut self, around: &mut Surroundings, frame: &mut [u8]) -> Option<Transmit> {
        if self.phase != Phase::Open || !self.path.is_validated() || !self.sender.is_ready() {
            return None;
        }
        let now = around.now.instant;
        let len = self.recovery.poll_mtu_probe(now).filter(|len| *len <= frame.len())?;
        let ticket = self.send_keys.take_number(|| around.rng.next_u64()).ok()?;
        let number = ticket.number();
        let mut out = Writer::new(&mut frame[HEADER_LEN..len - TAG_LEN]);
        Frame::Ping.write(&mut out).ok()?;
        let room = out.room();
        out.zeros(if planted(Mutant::PaddingNotWritten) { 0 } else { room }).ok()?;
        self.seal(&mut frame[..len], ticket, Tail::default());
        let mut contents = Contents::default();
        contents.flags.set(Flags::TEST);
        self.on_packet_sent(now, (number, len), SentKind::MtuProbe, contents);
        Some(self.transmit(around, len, len))
    }

    /// A packet with one frame for an address other than the session's.
    fn write_path_packet(
        &mut self,
        around: &mut Surroundings,
        frame: &mut [u8],
        path: &Path,
        answer: &Frame<'_>,
    ) -> Option<Transmit> {
        let len = OVERHEAD + answer.encoded_len();
        if len > path.budget() || len > frame.len() {
            return None;
        }
        let ticket = self.send_keys.take_number(|| around.rng.next_u64()).ok()?;
        let number = ticket.number();
        answer.write(&mut Writer::new(&mut frame[HEADER_LEN..len - TAG_LEN])).ok()?;
        self.seal(&mut frame[..len], ticket, Tail::default());
        // Neither challenges nor answers are sent again by loss detection (T17): their own timers do it.
        self.on_packet_sent(around.now.instant, (number, len), SentKind::AckOnly, Contents::default());
        self.on_path_frame_sent(path, len);
        if path.remote == self.path.remote {
            self.path.on_sent(len);
        }
        Some(transmit_on(around, (path, Ecn::NotEct), len, len))
    }

    /// The third message of XX, which goes out before anything sealed, and again with each probe timeout.
    fn write_finish(&mut self, around: &mut Surroundings, frame: &mut [u8]) -> Option<Transmit> {
        let finish = self.finish.as_mut().filter(|finish| finish.due)?;
        finish.due = false;
        let len = finish.bytes.len();
        frame[..len].copy_from_slice(&finish.bytes);
        Some(self.transmit(around, len, len))
    }

    /// When everything of a draining session is acknowledged it closes. One that drains into another tells the peer
    /// that nothing more will come, and goes on taking in what the peer still has, until that says the same.
    fn finish_draining(&mut self, around: &mut Surroundings) {
        let Phase::Draining { into } = self.phase else { return };
        if !self.sender.is_drained() {
            return;
        }
        let now = around.now.instant;
        match into {
            None => self.close_locally(around, self.drain_code),
            Some(into) => {
                self.drained_into = Some(into);
                self.phase = Phase::Yielded { into, since: now };
                self.control.close = Some((code::SUPERSEDED, YIELDS));
                if self.peer_yielded {
                    self.close(now, code::SUPERSEDED, YIELDS);
                }
            }
        }
        self.phase_changed = true;
    }

    fn write_close(&mut self, around: &mut Surroundings, frame: &mut [u8]) -> Option<Transmit> {
        let (code, reason) = self.control.close?;
        let close = Frame::Close(Close { code, reason });
        // A peer that lives on must hear that another session carries on: an answer is asked for, and without one it is said again.
        let yields = matches!(self.phase, Phase::Yielded { .. });
        let len = OVERHEAD + close.encoded_len() + if yields { Frame::Ping.encoded_len() } else { 0 };
        if len > self.path.budget() || len > frame.len() {
            return None;
        }
        self.control.close = None;
        let ticket = self.send_keys.take_number(|| around.rng.next_u64()).ok()?;
        let mut out = Writer::new(&mut frame[HEADER_LEN..len - TAG_LEN]);
        close.write(&mut out).ok()?;
        let (mut kind, mut contents) = (SentKind::AckOnly, Contents::default());
        if yields {
            Frame::Ping.write(&mut out).ok()?;
            kind = SentKind::Eliciting;
            contents.flags.set(Flags::YIELD);
        }
        let number = ticket.number();
        self.seal(&mut frame[..len], ticket, Tail::default());
        self.on_packet_sent(around.now.instant, (number, len), kind, contents);
        Some(self.transmit(around, len, len))
    }
}

/// Fills a packet up with PADDING when the train goes on behind it and little lacks; the plaintext's length.
fn fill_up(out: &mut Writer<'_>, goes_on: bool) -> usize {
    let room = out.room();
    if goes_on && room > 0 && room <= FILL_MAX {
        out.zeros(room).expect("the room was asked for");
    }
    out.len()
}

fn transmit_on(
    around: &mut Surroundings,
    (path, ecn): (&Path, Ecn),
    len: usize,
    segment_len: usize,
) -> Transmit {
    let stats = &mut around.stats;
    stats.trains_out += 1;
    stats.datagrams_out += len.div_ceil(segment_len) as u64;
    stats.bytes_out += len as u64;
    Transmit { local: path.local, remote: path.remote, socket: path.socket, ecn, len, segment_len }
}
