//! Renewing a session's secrets from inside: an IK exchange in HANDSHAKE frames, once an hour.
//!
//! In:    the peer's HANDSHAKE frames, time; the exchange itself is computed by the shard, which has the keys.
//! Out:   our HANDSHAKE frame until it is acknowledged.
//! Holds: neither side ratchets between its HANDSHAKE frame and the flip to the new secrets.

use dunlin_codec::bytes::Writer;
use dunlin_codec::frame::Frame;
use zeroize::Zeroizing;

use crate::session::crypto::Crypto;
use crate::session::handshake::Initiator;
use crate::session::live::{Phase, Session};
use crate::surroundings::Surroundings;
use crate::time::Instant;

/// Kind of the HANDSHAKE frame that asks.
pub(crate) const ASK: u8 = 1;
/// Kind of the HANDSHAKE frame that answers.
pub(crate) const ANSWER: u8 = 2;
/// Bytes of a HANDSHAKE frame's body at most.
const BODY_LEN_MAX: usize = 512;

/// Which side of the exchange we are.
pub(crate) enum Stage {
    /// We asked.
    Asking(Box<Initiator>),
    /// We answered this ask; our own flip waits for the peer's.
    Answering { ask: Vec<u8>, send: Option<Zeroizing<[u8; 32]>> },
}

/// An exchange under way.
pub(crate) struct Renewal {
    pub(crate) stage: Stage,
    pub(crate) kind: u8,
    pub(crate) bytes: Vec<u8>,
    pub(crate) due: bool,
}

impl Renewal {
    pub(crate) fn has_frame(&self) -> bool {
        self.due
    }

    pub(crate) fn write_frame(&mut self, out: &mut Writer<'_>) -> bool {
        if !self.due {
            return false;
        }
        self.due = Frame::Handshake { kind: self.kind, bytes: &self.bytes }.write(out).is_err();
        !self.due
    }

    pub(crate) fn on_lost(&mut self) {
        self.due = true;
    }
}

impl<C: Crypto> Session<C> {
    /// The peer's frame was good: it is not taken a second time.
    pub(crate) fn on_renewal_taken(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.renewal_taken = *first;
        }
    }

    /// The initiator asks when the secrets are old enough.
    pub(crate) fn renewal_deadline(&self) -> Option<Instant> {
        let mine = self.agreement.initiator && self.renewal.is_none() && self.phase == Phase::Open;
        mine.then(|| self.secrets_since + self.settings.renew_after)
    }

    pub(crate) fn on_renewal_timer(&mut self, around: &mut Surroundings) {
        if self.renewal_deadline().is_some_and(|at| at <= around.now.instant) {
            self.renewal_wanted = true;
            self.phase_changed = true;
        }
    }

    /// The peer's frame waits for the shard; the same ask again is answered by the same bytes again.
    pub(crate) fn on_renewal_frame(&mut self, kind: u8, bytes: &[u8]) -> Result<(), &'static str> {
        if bytes.len() > BODY_LEN_MAX || !matches!(kind, ASK | ANSWER) {
            return Err("a HANDSHAKE frame of unknown kind or length");
        }
        if kind == ASK && self.agreement.initiator || kind == ANSWER && !self.agreement.initiator {
            return Err("a HANDSHAKE frame from the wrong side");
        }
        if let Some(renewal) = &mut self.renewal
            && let Stage::Answering { ask, .. } = &renewal.stage
            && ask == bytes
        {
            renewal.due = true;
            return Ok(());
        }
        // Sent again although it had arrived: the exchange that it belonged to is over.
        if bytes.starts_with(&self.renewal_taken) {
            return Ok(());
        }
        self.renewal_inbox = Some((kind, bytes.to_vec()));
        self.phase_changed = true;
        Ok(())
    }

    /// The peer's next phase has begun: if that was the flip to new secrets, ours follows.
    pub(crate) fn on_peer_phase(&mut self, now: Instant) {
        let Some(renewal) = &mut self.renewal else { return };
        if let Stage::Answering { send, .. } = &mut renewal.stage {
            if let Some(send) = send.take() {
                self.send_keys.install(send);
            }
            self.renewal = None;
            self.secrets_since = now;
        }
    }
}
