//! Taking in an acknowledgement.
//!
//! In:    its ranges, delay and marks.
//! Out:   `Outcome::Acked` for each packet that is news, then the losses that it shows; the window grown.
//! Holds: the work is that of the packets newly acknowledged, and a few steps per range.
//!
//! spec: atp/recovery, atp/false-ack

use core::ops::RangeInclusive;
use core::time::Duration;

use dunlin_codec::ids::PacketNumber;

use super::ring::State;
use super::{AckInput, AckSummary, FalseAck, Outcome, Recovery};
use crate::arq::congestion::{Acked, Cause, Delivered, Phase};
use crate::limits::ACK_DELAY_MAX;
use crate::time::Instant;

/// What one acknowledgement covered, while its ranges are walked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) summary: AckSummary,
    /// Open packets, and the bytes that let the window grow.
    open_packets: u32,
    growth_bytes: u64,
    /// Bytes of packets of this path that had been given up.
    late_bytes: u64,
    ect_packets: u64,
    /// The largest number newly acknowledged, and when it was sent.
    largest: Option<(u64, Instant)>,
    is_largest_patient: bool,
    largest_ordinal: u32,
    largest_full: Option<u64>,
    mtu_probe: Option<usize>,
    /// Of those given up: how many packets sent later had arrived before, and how old it was, at most.
    pub(super) late_packets: u32,
    pub(super) late_time: Duration,
    /// Packets of the newest episode of losses that had been given up.
    pub(super) returned: u32,
}

impl<T: Copy> Recovery<T> {
    /// An acknowledgement came in. Each packet whose fate it settles goes to `sink`: the acknowledged from the newest down, then the lost.
    ///
    /// # Errors
    /// The peer acknowledged what was never sent. Part of the acknowledgement may have been taken; the session is to be closed.
    pub fn on_ack<R: Iterator<Item = RangeInclusive<u64>>>(
        &mut self,
        now: Instant,
        ack: AckInput<R>,
        sink: &mut impl FnMut(Outcome<T>),
    ) -> Result<AckSummary, FalseAck> {
        if ack.largest.0 >= self.ring.next() {
            return Err(FalseAck);
        }
        let mut tally = self.take_ranges(now, ack.ranges, sink)?;
        let Some((largest, largest_sent)) = tally.largest else { return Ok(tally.summary) };
        self.bytes_in_flight -= tally.summary.acked_bytes;
        self.open_count -= tally.open_packets;

        let is_newest = self.largest_acked < Some(largest);
        if is_newest {
            self.largest_acked = Some(largest);
            self.largest_acked_ordinal = tally.largest_ordinal;
        }
        let is_timed = largest == ack.largest.0 && tally.open_packets > 0 && largest >= self.path_start;
        // Much patience tells little of the path.
        let is_telling = !tally.is_largest_patient || ack.delay <= ACK_DELAY_MAX;
        let sample = (is_timed && is_telling).then(|| now.since(largest_sent));
        if let Some(sample) = sample {
            self.rtt.on_sample(now, sample, ack.delay);
            tally.summary.is_sampled = true;
        }
        let is_marked = is_newest && self.marks.on_acked(tally.ect_packets, ack.ecn);
        if tally.open_packets > 0 {
            (self.probe_count, self.probes_owed) = (0, 0);
            self.quiet_since = self.quiet_since.max(now);
        }

        if let Some(measuring) = self.controller.measuring() {
            measuring.on_delivered(&Delivered { now, largest, bytes: tally.growth_bytes + tally.late_bytes });
        }
        self.on_arrived(&tally);
        tally.summary.lost_packets = self.lose(now, sink);
        if is_marked && largest >= self.path_start {
            self.congest(now, largest, Cause::Mark);
        }
        self.grow(now, &tally, sample);
        self.retire(now);
        self.set_pace();
        Ok(tally.summary)
    }

    /// Walks the ranges that are not known yet.
    fn take_ranges<R: Iterator<Item = RangeInclusive<u64>>>(
        &mut self,
        now: Instant,
        ranges: R,
        sink: &mut impl FnMut(Outcome<T>),
    ) -> Result<Tally, FalseAck> {
        let mut tally = Tally::default();
        let growth_start = self.controller.controller().recovery_end().max(self.path_start);
        let (mtu, path_start, episode_start) = (&self.mtu, self.path_start, self.episode.first);
        let newest = self.largest_acked_ordinal;
        let base = self.ring.base();
        for range in ranges.take_while(|range| *range.end() >= base) {
            self.ring.acknowledge(&range, |number, entry| {
                let bytes = u64::from(entry.bytes);
                tally.summary.acked_packets += 1;
                tally.ect_packets += u64::from(entry.is_ect());
                if tally.largest.is_none() {
                    (tally.largest, tally.largest_ordinal) = (Some((number, entry.sent())), entry.ordinal);
                    tally.is_largest_patient = entry.is_patient();
                }
                if entry.is_mtu_probe() {
                    tally.mtu_probe = Some(usize::from(entry.bytes)).filter(|_| number >= path_start);
                } else if tally.largest_full.is_none() && mtu.is_full(usize::from(entry.bytes)) {
                    tally.largest_full = Some(number).filter(|_| number >= path_start);
                }
                match entry.state {
                    State::Open => {
                        tally.open_packets += 1;
                        tally.summary.acked_bytes += bytes;
                        if number >= growth_start {
                            tally.growth_bytes += bytes;
                        }
                    }
                    State::Lost => {
                        tally.summary.spurious_packets += 1;
                        tally.returned += u32::from(number >= episode_start && !entry.is_mtu_probe());
                        tally.late_bytes += if number >= path_start { bytes } else { 0 };
                        tally.late_packets = tally.late_packets.max(newest.wrapping_sub(entry.ordinal));
                        tally.late_time = tally.late_time.max(now.since(entry.sent()));
                    }
                    State::Passive | State::Acked | State::Skipped => {}
                }
                sink(Outcome::Acked(PacketNumber(number), entry.contents));
            })?;
        }
        Ok(tally)
    }

    /// What arrivals say about the path, apart from time and congestion.
    fn on_arrived(&mut self, tally: &Tally) {
        if let Some(number) = tally.largest_full {
            self.mtu.on_full_acked(number);
        }
        if let Some(size) = tally.mtu_probe
            && self.mtu.on_probe_acked(size)
        {
            self.on_datagram_len();
        }
        if tally.summary.spurious_packets > 0 {
            self.on_spurious(tally);
        }
    }

    fn grow(&mut self, now: Instant, tally: &Tally, sample: Option<Duration>) {
        let Some((largest, _)) = tally.largest else { return };
        let is_window_used = self.is_window_used();
        if largest >= self.round_end {
            self.peaks = [self.bytes_in_flight, self.peaks[0]];
            self.round_end = self.ring.next();
        }
        if tally.growth_bytes > 0 {
            self.controller.controller_mut().on_acked(&Acked {
                now,
                bytes: tally.growth_bytes,
                largest,
                next: self.ring.next(),
                sample,
                smoothed: self.rtt.smoothed(),
                is_window_used,
                in_flight: self.bytes_in_flight,
            });
        }
    }

    /// Whether bytes were held back by the window, in this round or the one before: half of it in slow start, nearly all of it later.
    fn is_window_used(&self) -> bool {
        let (window, peak) = (self.controller.window(), self.peaks[0].max(self.peaks[1]));
        if self.is_slow_start() {
            window < 2 * peak
        } else {
            peak + (window / 8).max(2 * self.mtu.current() as u64) >= window
        }
    }

    pub(super) fn is_slow_start(&self) -> bool {
        let phase = self.controller.controller().state().phase;
        matches!(phase, Phase::SlowStart | Phase::ConservativeSlowStart)
    }
}
