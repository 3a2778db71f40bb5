//! Following a peer to another address: a challenge there, three bytes out for each one in until it is answered (T24).
//!
//! In:    packets from another address, answers.
//! Out:   challenges; the new path once it has answered.
//! Holds: nothing but challenges and answers goes to an address that has not answered.

use core::time::Duration;

use dunlin_codec::frame::Frame;

use crate::event::Event;
use crate::limits::PATH_PROBES_MAX;
use crate::mutants::{Mutant, planted};
use crate::route::Arrival;
use crate::session::crypto::Crypto;
use crate::session::live::{Phase, Session};
use crate::session::path::Path;
use crate::surroundings::Surroundings;
use crate::time::Instant;

/// An address that the peer seems to have come to.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) path: Path,
    pub(crate) challenge: [u8; 8],
    pub(crate) sent: u8,
    pub(crate) again_at: Instant,
}

impl<C: Crypto> Session<C> {
    /// A packet that opened came from an address other than the session's.
    // spec: atp/roaming
    pub(crate) fn on_other_path(
        &mut self,
        around: &mut Surroundings,
        arrival: &Arrival,
        newest: bool,
        len: usize,
    ) {
        let now = around.now.instant;
        if let Some(candidate) = self.candidate.as_mut().filter(|candidate| candidate.path.is_of(arrival)) {
            candidate.path.on_received(len);
            return;
        }
        // An old packet that was delayed says nothing of where the peer is now.
        let recently = self.last_roam > Instant::ZERO && now.since(self.last_roam) < Duration::from_secs(1);
        if !newest || recently || matches!(self.phase, Phase::Closing { .. } | Phase::Gone) {
            return;
        }
        let mut path = Path::of_arrival(arrival);
        path.on_received(len);
        if planted(Mutant::RoamedUnasked) {
            path.on_validated();
            self.path = path;
            return;
        }
        self.ask(around, path);
    }

    fn ask(&mut self, around: &mut Surroundings, path: Path) {
        let challenge = around.rng.next_u64().to_be_bytes();
        let again_at = around.now.instant;
        self.candidate = Some(Box::new(Candidate { path, challenge, sent: 0, again_at }));
    }

    /// A packet came from the session's address, which nothing has proven yet, as the packet that confirmed the keys came from
    /// elsewhere: somebody on the way may have sent a copy ahead of it. The address is asked, as three times what comes from there
    /// is all that it would get else.
    // spec: atp/own-path
    #[cold]
    pub(crate) fn prove_path(&mut self, around: &mut Surroundings, newest: bool) {
        let is_asked =
            self.candidate.as_ref().is_some_and(|candidate| candidate.path.remote == self.path.remote);
        if newest && !is_asked && !matches!(self.phase, Phase::Closing { .. } | Phase::Gone) {
            self.ask(around, self.path);
        }
    }

    /// The peer answered a challenge.
    pub(crate) fn on_response(&mut self, around: &mut Surroundings, response: &[u8; 8]) {
        let Some(mut candidate) = self.candidate.take_if(|candidate| candidate.challenge == *response) else {
            return;
        };
        if candidate.path.remote == self.path.remote {
            return self.path.on_validated();
        }
        candidate.path.on_validated();
        self.path = candidate.path;
        self.last_roam = around.now.instant;
        self.recovery.on_path_changed();
        around.stats.sessions_roamed += 1;
        let (session, remote) = (self.agreement.id, self.path.remote);
        around.events.push_back(Event::Roamed { session, remote });
    }

    /// A challenge without an answer is sent again, a few times.
    pub(crate) fn on_path_timer(&mut self, around: &mut Surroundings) {
        let now = around.now.instant;
        self.candidate.take_if(|candidate| candidate.again_at <= now && candidate.sent >= PATH_PROBES_MAX);
    }

    /// A frame for another path than the session's: where to, and what.
    pub(crate) fn poll_path_frame(&mut self, now: Instant) -> Option<(Path, Frame<'static>)> {
        if let Some((path, answer)) = self.responses.pop() {
            return Some((path, Frame::PathResponse(answer)));
        }
        let wait = self.recovery.rtt().probe_timeout(0);
        let candidate = self.candidate.as_mut()?;
        if candidate.again_at > now || candidate.sent >= PATH_PROBES_MAX {
            return None;
        }
        candidate.sent += 1;
        candidate.again_at = now + wait * (1 << candidate.sent.min(4));
        let is_own = candidate.path.remote == self.path.remote;
        let path = if is_own { self.path } else { candidate.path };
        Some((path, Frame::PathChallenge(candidate.challenge)))
    }

    /// Bytes went to an address other than the session's.
    pub(crate) fn on_path_frame_sent(&mut self, path: &Path, bytes: usize) {
        if let Some(candidate) = &mut self.candidate
            && candidate.path.remote == path.remote
        {
            candidate.path.on_sent(bytes);
        }
    }
}
