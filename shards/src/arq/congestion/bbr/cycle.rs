//! From state to state: fill the pipe, drain what was too much, then try for more now and then, and look for the empty path.
//!
//! In:    the model after each acknowledgement, time.
//! Out:   the state, whose gains are what rate and window follow.
//! Holds: more is tried after 2 to 3 s, or as soon as a Reno flow would have regained what we leave it; the queue is emptied every 5 s for 200 ms
//!        and a round trip, unless a round trip as short was seen anyway.
//!
//! spec: atp/bbr-states

use core::time::Duration;

use super::Bbr;
use super::bounds::{BETA, UNBOUNDED, is_too_much, part};
use super::control::STARTUP_GAIN;
use super::full::FullPipe;
use super::sample::{Departure, Sample};
use crate::arq::congestion::Acked;
use crate::time::{Instant, nanos_of};

/// More is tried after this time and up to [`PROBE_WAIT_SPREAD`] more.
const PROBE_WAIT_MIN: Duration = Duration::from_secs(2);
const PROBE_WAIT_SPREAD: Duration = Duration::from_secs(1);
/// And at the latest after so many rounds.
const PROBE_ROUNDS_MAX: u64 = 63;
/// How long the window of PROBE_RTT is kept once the bytes under way fit it.
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
/// The bound is raised by 2 to the power of this many datagrams a round at most.
const UP_ROUNDS_MAX: u32 = 30;

/// What BBR is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Doubling, until the rate of delivery grows no more.
    Startup,
    /// Letting the queue run empty that this made.
    Drain,
    /// PROBE_BW: a little slower, so that the last try's queue runs empty.
    Down,
    /// PROBE_BW: as fast as the path delivers.
    Cruise,
    /// PROBE_BW: the bounds set by losses are dropped for a round, before more is tried.
    Refill,
    /// PROBE_BW: trying for more.
    Up,
    /// Half a window, to see the path without a queue.
    ProbeRtt,
}

impl State {
    /// Hundredths of the bandwidth at which bytes leave.
    pub(super) const fn pacing_gain(self) -> u64 {
        match self {
            Self::Startup => STARTUP_GAIN,
            Self::Drain => 50,
            Self::Down => 90,
            Self::Cruise | Self::Refill | Self::ProbeRtt => 100,
            Self::Up => 125,
        }
    }

    /// Hundredths of what the path holds that may be under way.
    pub(super) const fn window_gain(self) -> u64 {
        match self {
            Self::Up => 225,
            Self::ProbeRtt => 50,
            _ => 200,
        }
    }

    const fn is_probe_bandwidth(self) -> bool {
        matches!(self, Self::Down | Self::Cruise | Self::Refill | Self::Up)
    }
}

/// Where in its cycle the controller is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycle {
    pub(super) state: State,
    /// The state when the first loss of the round came.
    undo_state: State,
    /// When the last try ended, after what time the next comes, and the rounds since.
    down_at: Instant,
    probe_wait: Duration,
    rounds_since_probe: u64,
    /// What is lost now was sent when more was tried.
    is_probe_judged: bool,
    /// The try is over; its last packets are being acknowledged.
    is_ending: bool,
    up_rounds: u32,
    /// Bytes acknowledged for each that the bound is raised by.
    up_ratio: u64,
    up_acked: u64,
    /// When PROBE_RTT may end, and whether a round has passed in it.
    probe_rtt_until: Option<Instant>,
    is_probe_rtt_round_done: bool,
    is_idle_restart: bool,
}

impl Cycle {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Startup,
            undo_state: State::Startup,
            down_at: Instant::ZERO,
            probe_wait: PROBE_WAIT_MIN,
            rounds_since_probe: 0,
            is_probe_judged: false,
            is_ending: false,
            up_rounds: 0,
            up_ratio: u64::MAX,
            up_acked: 0,
            probe_rtt_until: None,
            is_probe_rtt_round_done: false,
            is_idle_restart: false,
        }
    }

    pub(super) const fn on_round(&mut self) {
        self.rounds_since_probe += 1;
    }

    pub(super) const fn note_for_undo(&mut self) {
        self.undo_state = self.state;
    }

    /// Whether losses are the answer to a try for more.
    pub(super) const fn is_probe_judged(&self) -> bool {
        self.is_probe_judged
    }

    /// Whether more is sent than was ever known to pass.
    pub(super) const fn is_probing(&self) -> bool {
        matches!(self.state, State::Startup | State::Refill | State::Up)
    }
}

impl Bbr {
    /// After the model has taken in an acknowledgement.
    pub(super) fn update_state(&mut self, acked: &Acked) {
        let now = acked.now;
        if self.cycle.state == State::Startup {
            if self.losses.is_startup_over(&self.sample) {
                self.fill_pipe();
            }
            if self.full.is_reached() {
                self.cycle.state = State::Drain;
            }
        }
        if self.cycle.state == State::Drain && acked.in_flight <= self.full_inflight() {
            self.start_down(now);
        }
        if self.full.is_reached() {
            self.adapt_inflight_high(acked);
            self.update_probe_bandwidth(acked);
        }
        let is_due = self.min_rtt.on_sample(now, acked.sample);
        self.update_probe_rtt(acked, is_due);
    }

    /// Losses or marks end STARTUP: what was delivered in this round is what the path takes.
    pub(super) fn fill_pipe(&mut self) {
        self.full.reach();
        let holds = self.product(self.bandwidth.get(), 100);
        self.losses.bounds.inflight_high = holds.max(self.losses.delivered_latest());
        self.shrunk_count += 1;
    }

    fn update_probe_bandwidth(&mut self, acked: &Acked) {
        let state = self.cycle.state;
        match state {
            State::Down | State::Cruise if self.is_time_to_probe(acked.now) => self.start_refill(),
            State::Down if self.is_time_to_cruise(acked.in_flight) => self.cycle.state = State::Cruise,
            State::Refill if self.is_round_start => self.start_up(),
            State::Up if self.is_time_to_go_down(acked.is_window_used) => self.start_down(acked.now),
            _ => {}
        }
    }

    fn is_time_to_probe(&self, now: Instant) -> bool {
        // As many rounds as Reno takes to regain as many datagrams, so that one beside us gets its share.
        let reno_rounds = self.target_inflight() / self.datagram;
        now > self.cycle.down_at + self.cycle.probe_wait
            || self.cycle.rounds_since_probe >= reno_rounds.min(PROBE_ROUNDS_MAX)
    }

    fn is_time_to_cruise(&self, in_flight: u64) -> bool {
        in_flight <= self.inflight_with_headroom() && in_flight <= self.full_inflight()
    }

    fn is_time_to_go_down(&mut self, is_window_used: bool) -> bool {
        if is_window_used && self.window >= self.losses.bounds.inflight_high {
            // It is the bound that limits, and it is being raised: the pipe may yet take more.
            self.full.restart(self.sample.rate);
            return false;
        }
        self.full.is_now()
    }

    pub(super) fn start_down(&mut self, now: Instant) {
        self.losses.reset_round();
        let spread = self.rng.below(nanos_of(PROBE_WAIT_SPREAD));
        let rounds_since_probe = self.rng.below(2);
        self.cycle = Cycle {
            state: State::Down,
            down_at: now,
            probe_wait: PROBE_WAIT_MIN + Duration::from_nanos(spread),
            rounds_since_probe,
            is_ending: true,
            up_ratio: u64::MAX,
            ..self.cycle
        };
        self.start_round();
    }

    fn start_refill(&mut self) {
        self.losses.reset_low();
        self.cycle.state = State::Refill;
        self.cycle.is_ending = false;
        (self.cycle.up_rounds, self.cycle.up_acked) = (0, 0);
        self.start_round();
    }

    fn start_up(&mut self) {
        self.cycle.is_probe_judged = true;
        self.cycle.state = State::Up;
        self.start_round();
        self.full.restart(self.sample.rate);
        self.raise_slope();
    }

    /// Doubles, each round, what the bound is raised by in a round.
    fn raise_slope(&mut self) {
        let growth = self.datagram << self.cycle.up_rounds;
        self.cycle.up_rounds = (self.cycle.up_rounds + 1).min(UP_ROUNDS_MAX);
        self.cycle.up_ratio = (self.window / growth).max(1);
    }

    /// What the bytes under way say about the upper bound.
    fn adapt_inflight_high(&mut self, acked: &Acked) {
        if self.cycle.is_ending && self.is_round_start {
            (self.cycle.is_ending, self.cycle.is_probe_judged) = (false, false);
            if self.cycle.state.is_probe_bandwidth() && !self.sample.is_app_limited {
                self.bandwidth.advance();
            }
        }
        let Sample { in_flight, lost, is_app_limited, .. } = self.sample;
        if is_too_much(lost, in_flight) {
            if self.cycle.is_probe_judged {
                self.on_inflight_too_high(acked.now, &Departure { in_flight, lost, is_app_limited });
            }
            return;
        }
        let high = &mut self.losses.bounds.inflight_high;
        if *high == UNBOUNDED {
            return;
        }
        *high = (*high).max(in_flight);
        if self.cycle.state == State::Up {
            self.raise_inflight_high(acked);
        }
    }

    fn raise_inflight_high(&mut self, acked: &Acked) {
        let bounds = &mut self.losses.bounds;
        if acked.is_window_used && self.window >= bounds.inflight_high {
            self.cycle.up_acked += acked.bytes;
            let more = self.cycle.up_acked / self.cycle.up_ratio;
            self.cycle.up_acked %= self.cycle.up_ratio;
            bounds.inflight_high += more;
        }
        if self.is_round_start {
            self.raise_slope();
        }
    }

    /// A try for more met too many losses.
    pub(super) fn on_inflight_too_high(&mut self, now: Instant, departure: &Departure) {
        self.cycle.is_probe_judged = false;
        if !departure.is_app_limited {
            let least = part(self.target_inflight(), BETA);
            self.losses.bounds.inflight_high = departure.in_flight.max(least);
            self.shrunk_count += 1;
        }
        if self.cycle.state == State::Up {
            self.start_down(now);
        }
    }

    /// The losses were none: the state that they ended goes on.
    pub(super) fn undo_state(&mut self) {
        self.full.restart(0);
        match (self.cycle.state, self.cycle.undo_state) {
            (State::Drain | State::Down | State::Cruise, State::Startup) => {
                self.full = FullPipe::default();
                self.cycle.state = State::Startup;
            }
            (State::Down | State::Cruise, State::Up) => self.start_up(),
            _ => {}
        }
    }

    fn update_probe_rtt(&mut self, acked: &Acked, is_due: bool) {
        if self.cycle.state != State::ProbeRtt && is_due && !self.cycle.is_idle_restart {
            self.cycle.state = State::ProbeRtt;
            self.cycle.probe_rtt_until = None;
            self.cycle.is_ending = true;
            self.window_before = self.window;
            self.start_round();
        }
        if self.cycle.state == State::ProbeRtt {
            self.stay_in_probe_rtt(acked);
        }
        if self.sample.delivered > 0 {
            self.cycle.is_idle_restart = false;
        }
    }

    fn stay_in_probe_rtt(&mut self, acked: &Acked) {
        // Few bytes are under way on purpose: what is measured meanwhile is not the path's.
        self.sampler.on_app_limited(acked.in_flight);
        if self.cycle.probe_rtt_until.is_some() {
            self.cycle.is_probe_rtt_round_done |= self.is_round_start;
            if self.cycle.is_probe_rtt_round_done {
                self.end_probe_rtt(acked.now);
            }
        } else if acked.in_flight <= self.probe_rtt_window() {
            self.cycle.probe_rtt_until = Some(acked.now + PROBE_RTT_TIME);
            self.cycle.is_probe_rtt_round_done = false;
            self.start_round();
        }
    }

    fn end_probe_rtt(&mut self, now: Instant) {
        if self.cycle.probe_rtt_until.is_none_or(|until| now <= until) {
            return;
        }
        self.min_rtt.on_probed(now);
        self.window = self.window.max(self.window_before);
        self.losses.reset_low();
        if self.full.is_reached() {
            self.start_down(now);
            self.cycle.state = State::Cruise;
        } else {
            self.cycle.state = State::Startup;
        }
    }

    /// Something is sent after a pause that the application made.
    pub(super) fn restart_from_idle(&mut self, now: Instant) {
        self.cycle.is_idle_restart = true;
        self.extra.restart(now);
        if self.cycle.state.is_probe_bandwidth() {
            self.pace_with_gain(100);
        } else if self.cycle.state == State::ProbeRtt {
            self.end_probe_rtt(now);
        }
    }
}
