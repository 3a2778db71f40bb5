//! Which packets are lost, and what that means for the path.
//!
//! In:    the ring, and the largest number acknowledged.
//! Out:   `Outcome::Lost` for each; the window shrunk, or given back when the losses were none.
//! Holds: a packet is lost when a later one arrived and enough packets or enough time lie between (RFC 9002 section 6.1).
//!
//! spec: atp/recovery

use dunlin_codec::ids::PacketNumber;

use super::arrival::Tally;
use super::ring::{Entry, State};
use super::{
    Outcome, PACKET_THRESHOLD, PACKET_THRESHOLD_MAX, Recovery, TIME_THRESHOLD_EIGHTHS,
    TIME_THRESHOLD_EIGHTHS_MAX, TRUE_EPISODES,
};
use crate::arq::congestion::{Cause, Congested, Lost};
use crate::mutants::{Mutant, planted};
use crate::time::{Instant, nanos_of};

/// The losses since the window last shrank: when all of them prove to be none, it was wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Episode {
    /// The lowest number lost in it.
    pub(super) first: u64,
    lost: u32,
    returned: u32,
}

/// What one look at the ring found.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    packets: u32,
    /// Those that tell of congestion: no tests of a size, and sent on this path.
    telling: u32,
    first: u64,
    newest: u64,
    /// When the first of a stretch was sent in which nothing arrived.
    stretch: Option<Instant>,
    is_persistent: bool,
    is_black_hole: bool,
}

impl<T: Copy> Recovery<T> {
    /// Gives up what is lost by now, and finds the moment when more will be. Returns how many packets were.
    pub(super) fn lose(&mut self, now: Instant, sink: &mut impl FnMut(Outcome<T>)) -> u32 {
        self.loss_at = None;
        let Some(largest) = self.largest_acked else { return 0 };
        let delay = self.rtt.loss_delay(self.time_threshold_eighths.into());
        let mut losses = Losses::default();
        let mut number = self.ring.first_open();
        while number < largest {
            let entry = self.ring.get_mut(number);
            match entry.state {
                State::Open => {
                    let lost_at = entry.sent() + delay;
                    let sent_since = self.largest_acked_ordinal.wrapping_sub(entry.ordinal);
                    if sent_since < self.packet_threshold
                        && now < lost_at
                        && !planted(Mutant::LossThresholdOff)
                    {
                        self.loss_at = Some(lost_at);
                        break;
                    }
                    entry.state = State::Lost;
                    let entry = *entry;
                    self.count_lost(now, number, &entry, &mut losses);
                    sink(Outcome::Lost(PacketNumber(number), entry.contents));
                    number += 1;
                }
                State::Acked => {
                    losses.stretch = None;
                    number = self.ring.behind_run(number);
                }
                State::Passive | State::Lost | State::Skipped => number += 1,
            }
        }
        self.ring.set_first_open(number);
        self.settle(now, &losses);
        losses.packets
    }

    fn count_lost(&mut self, now: Instant, number: u64, entry: &Entry<T>, losses: &mut Losses) {
        self.bytes_in_flight -= u64::from(entry.bytes);
        self.open_count -= 1;
        losses.packets += 1;
        let is_here = number >= self.path_start;
        let bytes = usize::from(entry.bytes);
        if entry.is_mtu_probe() {
            if is_here {
                self.mtu.on_probe_lost(bytes);
            }
            return;
        }
        self.stats.lost_packets += 1;
        if !is_here {
            return;
        }
        if losses.telling == 0 {
            losses.first = number;
        }
        losses.telling += 1;
        losses.newest = number;
        if let Some(measuring) = self.controller.measuring() {
            measuring.on_lost(&Lost { now, number, bytes: u64::from(entry.bytes) });
        }
        losses.is_black_hole |= self.mtu.on_lost(number, bytes);
        // Persistent congestion needs a measured path: before that nobody knows how long is long.
        if self.rtt.first_sample_at().is_some_and(|first| entry.sent() > first) {
            let since = *losses.stretch.get_or_insert(entry.sent());
            losses.is_persistent |= entry.sent() >= since + self.rtt.persistent_congestion();
        }
    }

    /// Draws the conclusions.
    fn settle(&mut self, now: Instant, losses: &Losses) {
        if losses.is_black_hole {
            self.stats.black_holes += 1;
            self.on_datagram_len();
        }
        if losses.telling == 0 {
            return;
        }
        if self.congest(now, losses.newest, Cause::Loss) {
            self.episode = Episode { first: losses.first, lost: 0, returned: 0 };
            self.calm_down();
        }
        self.episode.lost += losses.telling;
        if losses.is_persistent {
            self.stats.persistent_congestions += 1;
            self.controller.controller_mut().on_persistent_congestion();
            self.rtt.forget_min();
        }
    }

    /// Tells the controller; whether the window shrank.
    pub(super) fn congest(&mut self, now: Instant, newest: u64, cause: Cause) -> bool {
        let next = self.ring.next();
        self.controller.controller_mut().on_congested(&Congested { now, newest, next, cause })
    }

    /// Packets that were given up have arrived: wait longer from now on, as long as they took, and undo what their loss did once all of them
    /// are here.
    pub(super) fn on_spurious(&mut self, tally: &Tally) {
        self.stats.spurious_packets += u64::from(tally.summary.spurious_packets);
        self.true_episodes = 0;
        let packets = tally.late_packets.saturating_add(1).max(self.packet_threshold);
        self.packet_threshold = packets.min(PACKET_THRESHOLD_MAX);
        let eighths = nanos_of(tally.late_time).saturating_mul(8) / nanos_of(self.rtt.smoothed()).max(1) + 1;
        let eighths = u8::try_from(eighths).unwrap_or(u8::MAX).min(TIME_THRESHOLD_EIGHTHS_MAX);
        self.time_threshold_eighths = self.time_threshold_eighths.max(eighths);

        self.episode.returned += tally.returned;
        if self.episode.lost > 0 && self.episode.returned >= self.episode.lost {
            self.episode = Episode::default();
            self.controller.controller_mut().on_spurious_loss();
        }
    }

    /// The losses were true for long: reordering has ended.
    fn calm_down(&mut self) {
        self.true_episodes += 1;
        if self.true_episodes >= TRUE_EPISODES {
            self.true_episodes = 0;
            (self.packet_threshold, self.time_threshold_eighths) = (PACKET_THRESHOLD, TIME_THRESHOLD_EIGHTHS);
        }
    }
}
