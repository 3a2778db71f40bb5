//! BBR version 3 (draft-ietf-ccwg-bbr): sends as fast as the path delivers, and keeps little more under way than it holds.
//!
//! In:    packets as they leave, arrive and are lost (`on_sent`, `on_delivered`, `on_lost`), then the same as every controller.
//! Out:   a pacing rate, a window.
//! Holds: four datagrams <= window <= [`WINDOW_MAX`]; the window is not raised beyond a bound that losses have set; the same seed and
//!        facts give the same numbers.
//!
//! `sample` measures the delivery rate, `model` filters what was measured, `full` says when the pipe is, `bounds` answers to losses, `cycle`
//! goes from state to state, `control` makes rate and window of it all. As in Linux, recovery from losses has no window of its own beside
//! these bounds. A CE mark counts as a loss of too much, once a round trip (the draft leaves that open).
//! spec: atp/bbr, atp/congestion

mod bounds;
mod control;
mod cycle;
mod full;
mod model;
mod sample;

use core::time::Duration;

use super::{
    Acked, Cause, Congested, CongestionController, CongestionState, Delivered, INITIAL_DATAGRAMS, Lost,
    Phase, Sent,
};
use crate::rng::Rng;
use crate::time::Instant;

use bounds::{Losses, inflight_before, is_too_much};
use control::initial_rate;
use cycle::{Cycle, State};
use full::FullPipe;
use model::{ExtraAcked, MaxBandwidth, MinRtt};
use sample::{Departure, Sample, Sampler};

/// Datagrams in the smallest window: what keeps acknowledgements coming.
pub const BBR_MINIMUM_DATAGRAMS: u64 = 4;

/// The controller that models the path.
#[derive(Clone, Debug)]
pub struct Bbr {
    datagram: u64,
    rng: Rng,
    sampler: Sampler,
    /// What the acknowledgement at hand said.
    sample: Sample,
    bandwidth: MaxBandwidth,
    min_rtt: MinRtt,
    extra: ExtraAcked,
    full: FullPipe,
    losses: Losses,
    cycle: Cycle,

    /// Rounds so far; the next begins when a packet is acknowledged that left after so many bytes were delivered.
    rounds: u64,
    next_round_delivered: u64,
    is_round_start: bool,

    window: u64,
    /// The window before PROBE_RTT.
    window_before: u64,
    /// Bytes a second; zero before anything was measured.
    pacing_rate: u64,
    /// The path is too short to be paced: the window alone must do.
    is_unpaced: bool,

    recovery_end: u64,
    shrunk_count: u64,
    undone_count: u64,
}

impl Bbr {
    /// In STARTUP, knowing nothing. The seed decides when more bandwidth is tried.
    #[must_use]
    pub fn new(datagram_len: usize, seed: u64) -> Self {
        let datagram = datagram_len as u64;
        Self {
            datagram,
            rng: Rng::from_number(seed),
            sampler: Sampler::default(),
            sample: Sample::default(),
            bandwidth: MaxBandwidth::default(),
            min_rtt: MinRtt::default(),
            extra: ExtraAcked::default(),
            full: FullPipe::default(),
            losses: Losses::new(),
            cycle: Cycle::new(),
            rounds: 0,
            next_round_delivered: 0,
            is_round_start: false,
            window: INITIAL_DATAGRAMS * datagram,
            window_before: 0,
            pacing_rate: 0,
            is_unpaced: false,
            recovery_end: 0,
            shrunk_count: 0,
            undone_count: 0,
        }
    }

    /// A packet leaves.
    pub(in crate::arq) fn on_sent(&mut self, sent: &Sent) {
        self.sampler.on_sent(sent);
    }

    /// There is nothing more to send, though `in_flight` bytes are less than the window.
    pub(in crate::arq) fn on_app_limited(&mut self, in_flight: u64) {
        self.sampler.on_app_limited(in_flight);
    }

    /// Packets arrived; the losses that the same acknowledgement shows and [`CongestionController::on_acked`] follow.
    pub(in crate::arq) fn on_delivered(&mut self, delivered: &Delivered) {
        let least = self.min_rtt.get().unwrap_or_default();
        self.sample = self.sampler.on_delivered(delivered.now, delivered.largest, delivered.bytes, least);
    }

    /// A packet is lost.
    pub(in crate::arq) fn on_lost(&mut self, lost: &Lost) {
        let departure = self.sampler.on_lost(lost.number, lost.bytes);
        if self.losses.on_lost(lost.number, self.sampler.delivered()) {
            self.cycle.note_for_undo();
        }
        let Some(departure) = departure.filter(|_| self.cycle.is_probe_judged()) else { return };
        if is_too_much(departure.lost, departure.in_flight) {
            let in_flight = inflight_before(departure.in_flight, departure.lost, lost.bytes);
            self.on_inflight_too_high(lost.now, &Departure { in_flight, ..departure });
        }
    }

    /// Gives memory back that an idle session does not need: records of packets before `base`.
    pub(in crate::arq) fn shrink(&mut self, base: u64) {
        self.sampler.shrink(base);
    }

    /// Bytes a second that the path is believed to have for us.
    fn bandwidth(&self) -> u64 {
        self.bandwidth.get().min(self.losses.bounds.bandwidth_low)
    }

    /// The round ends with the packets that leave from now on.
    fn start_round(&mut self) {
        self.next_round_delivered = self.sampler.delivered();
    }

    fn update_round(&mut self) {
        let prior = self.sample.prior_delivered;
        self.is_round_start = prior.is_some_and(|prior| prior >= self.next_round_delivered);
        if self.is_round_start {
            self.start_round();
            self.rounds += 1;
            self.cycle.on_round();
            self.extra.on_round(self.rounds, self.full.is_reached());
        }
    }

    fn update_bandwidth(&mut self) {
        let Sample { rate, is_app_limited, .. } = self.sample;
        if rate > 0 && (rate >= self.bandwidth.get() || !is_app_limited) {
            self.bandwidth.take(rate);
        }
    }

    fn update_model(&mut self, acked: &Acked) {
        let sample = self.sample;
        self.losses.begin(&sample, self.sampler.delivered());
        self.update_round();
        self.update_bandwidth();
        let is_probing = self.cycle.is_probing();
        self.shrunk_count += u64::from(self.losses.give_way(self.bandwidth.get(), self.window, is_probing));
        self.extra.on_acked(acked.now, acked.bytes, self.bandwidth(), self.window);
        self.full.on_sample(&sample, self.is_round_start);
        self.update_state(acked);
        self.losses.end(&sample);
    }
}

impl CongestionController for Bbr {
    fn on_acked(&mut self, acked: &Acked) {
        self.update_model(acked);
        self.set_pacing_rate(acked.smoothed);
        self.set_window(acked);
        self.sample = Sample::default();
    }

    fn on_congested(&mut self, congested: &Congested) -> bool {
        if congested.newest < self.recovery_end {
            return false;
        }
        self.recovery_end = congested.next;
        if congested.cause == Cause::Mark {
            self.losses.note(self.sampler.delivered());
            if self.cycle.state == State::Startup {
                self.fill_pipe();
            } else if self.cycle.is_probe_judged() {
                let Sample { in_flight, lost, is_app_limited, .. } = self.sample;
                self.on_inflight_too_high(congested.now, &Departure { in_flight, lost, is_app_limited });
            }
        }
        true
    }

    fn on_persistent_congestion(&mut self) {
        self.window = self.minimum();
        self.shrunk_count += 1;
    }

    fn on_spurious_loss(&mut self) {
        self.losses.undo();
        self.undone_count += 1;
        self.undo_state();
    }

    fn on_idle_end(&mut self, now: Instant) {
        if self.sampler.is_app_limited() {
            self.restart_from_idle(now);
        }
    }

    fn on_datagram_len(&mut self, bytes: usize) {
        self.datagram = bytes as u64;
        self.window = self.window.max(self.minimum());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn recovery_end(&self) -> u64 {
        // Whatever arrives is measured.
        0
    }

    fn state(&self) -> CongestionState {
        CongestionState {
            window: self.window,
            slow_start_threshold: None,
            phase: match self.cycle.state {
                State::Startup => Phase::Startup,
                State::Drain => Phase::Drain,
                State::Down => Phase::ProbeDown,
                State::Cruise => Phase::Cruise,
                State::Refill => Phase::Refill,
                State::Up => Phase::ProbeUp,
                State::ProbeRtt => Phase::ProbeRtt,
            },
            shrunk_count: self.shrunk_count,
            undone_count: self.undone_count,
        }
    }

    fn pacing_rate(&self, smoothed: Duration) -> u64 {
        if self.pacing_rate > 0 { self.pacing_rate } else { initial_rate(self.window, smoothed) }
    }
}
