//! How fast a path delivers: samples of the delivery rate (draft-cheng-iccrg-delivery-rate-estimation).
//!
//! In:    `on_sent` for each packet, `on_delivered` once per acknowledgement, `on_lost`, `on_app_limited`.
//! Out:   a [`Sample`] per acknowledgement; what was under way when a packet left.
//! Holds: a sample's rate is never above what was sent in its time; packets of one train share one record.
//!
//! The draft keeps six numbers with each packet. Those of a train are the same but for the bytes under way, which follow from the place in
//! the train: one record per train is kept, beside the ring of packets, and only where BBR is chosen.
//! spec: atp/delivery-rate

use core::time::Duration;
use std::collections::VecDeque;

use crate::arq::congestion::Sent;
use crate::time::{Instant, nanos_of};

const SECOND: u128 = 1_000_000_000;

/// Packets that left in one instant, between the same acknowledgements.
#[derive(Clone, Copy, Debug)]
struct Train {
    /// The first and the last number.
    first: u64,
    last: u64,
    sent_at: Instant,
    /// Bytes delivered by then, when the last of them were, and when the packet left that said so.
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// Bytes lost by then.
    lost: u64,
    /// Bytes under way before it, and its own.
    before: u64,
    bytes: u64,
    is_app_limited: bool,
}

/// What was so when a packet left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Departure {
    /// Bytes under way, the packet's own among them.
    pub(super) in_flight: u64,
    /// Bytes lost since.
    pub(super) lost: u64,
    /// Whether the application, not the path, held bytes back.
    pub(super) is_app_limited: bool,
}

/// What one acknowledgement says about the path.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sample {
    /// Bytes a second; zero when it says nothing.
    pub(super) rate: u64,
    /// Bytes delivered in its time.
    pub(super) delivered: u64,
    /// Bytes that had been delivered when its packet left; `None` when no packet of this path was acknowledged.
    pub(super) prior_delivered: Option<u64>,
    /// Bytes under way when its packet left.
    pub(super) in_flight: u64,
    /// Bytes lost since then.
    pub(super) lost: u64,
    /// Whether the application held bytes back.
    pub(super) is_app_limited: bool,
}

/// The accounts of one path.
#[derive(Clone, Debug, Default)]
pub(super) struct Sampler {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    lost: u64,
    /// Until so many bytes are delivered, samples are the application's; zero: they are not.
    app_limited_until: u64,
    trains: VecDeque<Train>,
}

impl Sampler {
    /// Bytes delivered on this path.
    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether the application holds bytes back.
    pub(super) const fn is_app_limited(&self) -> bool {
        self.app_limited_until > 0
    }

    /// A packet leaves.
    #[inline]
    pub(super) fn on_sent(&mut self, sent: &Sent) {
        if sent.in_flight == 0 && sent.bytes > 0 {
            (self.first_sent_at, self.delivered_at) = (sent.now, sent.now);
        }
        let is_app_limited = self.is_app_limited();
        if let Some(train) = self.trains.back_mut()
            && train.sent_at == sent.now
            && (train.delivered, train.lost, train.is_app_limited)
                == (self.delivered, self.lost, is_app_limited)
        {
            train.last = sent.number;
            train.bytes += sent.bytes;
            return;
        }
        self.retire(sent.base);
        self.trains.push_back(Train {
            first: sent.number,
            last: sent.number,
            sent_at: sent.now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            before: sent.in_flight,
            bytes: sent.bytes,
            is_app_limited,
        });
    }

    /// Lets go of trains that left before the packet `base`.
    fn retire(&mut self, base: u64) {
        while self.trains.front().is_some_and(|train| train.last < base) {
            self.trains.pop_front();
        }
    }

    fn train_of(&self, number: u64) -> Option<&Train> {
        let behind = self.trains.partition_point(|train| train.first <= number);
        self.trains.get(behind.checked_sub(1)?)
    }

    /// Packets arrived: `bytes` of them, the one that left last being `number`. A sample over less than `round_trip` is no sample.
    pub(super) fn on_delivered(
        &mut self,
        now: Instant,
        number: u64,
        bytes: u64,
        round_trip: Duration,
    ) -> Sample {
        self.delivered += bytes;
        self.delivered_at = now;
        if self.app_limited_until > 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let Some(&train) = self.train_of(number) else { return Sample::default() };
        self.first_sent_at = self.first_sent_at.max(train.sent_at);
        let delivered = self.delivered - train.delivered;
        // Neither acknowledgements that were gathered nor packets that were can make the path look faster than the slower of both.
        let interval = train.sent_at.since(train.first_sent_at).max(now.since(train.delivered_at));
        let is_sound = !interval.is_zero() && interval >= round_trip;
        let departure = self.departure_from(&train, number);
        Sample {
            rate: if is_sound { rate(delivered, interval) } else { 0 },
            delivered,
            prior_delivered: Some(train.delivered),
            in_flight: departure.in_flight,
            lost: departure.lost,
            is_app_limited: departure.is_app_limited,
        }
    }

    fn departure_from(&self, train: &Train, number: u64) -> Departure {
        let (place, places) = (number.min(train.last) - train.first + 1, train.last - train.first + 1);
        Departure {
            in_flight: train.before + train.bytes * place / places,
            lost: self.lost - train.lost,
            is_app_limited: train.is_app_limited,
        }
    }

    /// A packet is lost. What was so when it left; `None` when it left on another path.
    pub(super) fn on_lost(&mut self, number: u64, bytes: u64) -> Option<Departure> {
        self.lost += bytes;
        self.train_of(number).map(|train| self.departure_from(train, number))
    }

    /// There is nothing more to send though `in_flight` bytes are not all that may be under way.
    pub(super) fn on_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = (self.delivered + in_flight).max(1);
    }

    /// Gives memory back.
    pub(super) fn shrink(&mut self, base: u64) {
        self.retire(base);
        self.trains.shrink_to_fit();
    }
}

/// Bytes a second.
fn rate(bytes: u64, interval: Duration) -> u64 {
    let rate = u128::from(bytes) * SECOND / u128::from(nanos_of(interval));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(50);
    const BYTES: u64 = 1_200;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos((1_000 + millis) * 1_000_000)
    }

    fn send(sampler: &mut Sampler, millis: u64, numbers: core::ops::Range<u64>, mut in_flight: u64) {
        for number in numbers {
            sampler.on_sent(&Sent { now: at(millis), number, bytes: BYTES, in_flight, base: 0 });
            in_flight += BYTES;
        }
    }

    /// Ten packets in one instant come back 50 ms later: that many bytes in that time, and one record for all of them.
    /// spec: atp/delivery-rate
    #[test]
    fn a_train_is_one_record_and_one_sample() {
        let mut sampler = Sampler::default();
        send(&mut sampler, 0, 0..10, 0);
        assert_eq!(sampler.trains.len(), 1);
        let sample = sampler.on_delivered(at(50), 9, 10 * BYTES, ROUND_TRIP);
        assert_eq!((sample.rate, sample.delivered), (10 * BYTES * 20, 10 * BYTES));
        assert_eq!((sample.prior_delivered, sample.in_flight), (Some(0), 10 * BYTES));
        assert_eq!(sampler.departure_from(&sampler.trains[0], 3).in_flight, 4 * BYTES);
    }

    /// Packets sent over 10 ms whose acknowledgements come together after a long silence were not delivered in an instant: the longer of
    /// the two intervals counts.
    /// spec: atp/delivery-rate
    #[test]
    fn gathered_acknowledgements_do_not_look_fast() {
        let mut sampler = Sampler::default();
        for train in 0..10 {
            send(&mut sampler, train, train * 10..(train + 1) * 10, train * 10 * BYTES);
        }
        sampler.on_delivered(at(50), 9, 10 * BYTES, ROUND_TRIP);
        send(&mut sampler, 50, 100..110, 90 * BYTES);
        // The rest, all at once: measured from when the pipe was empty, not from the acknowledgement just before.
        let sample = sampler.on_delivered(at(60), 99, 90 * BYTES, ROUND_TRIP);
        assert_eq!(sample.rate, 100 * BYTES * 1_000 / 60);
        let sample = sampler.on_delivered(at(100), 109, 10 * BYTES, ROUND_TRIP);
        assert_eq!(sample.rate, 100 * BYTES * 20, "100 packets in the 50 ms since the first came back");
    }

    /// Less than a round trip says nothing.
    #[test]
    fn a_sample_shorter_than_the_round_trip_is_none() {
        let mut sampler = Sampler::default();
        send(&mut sampler, 0, 0..2, 0);
        assert_eq!(sampler.on_delivered(at(20), 1, 2 * BYTES, ROUND_TRIP).rate, 0);
        assert_eq!(sampler.on_delivered(at(90), 700, 0, ROUND_TRIP).delivered, 2 * BYTES);
    }

    /// What leaves while the application is the limit is marked, until all that was under way then has arrived.
    /// spec: atp/delivery-rate
    #[test]
    fn the_applications_limit_is_marked() {
        let mut sampler = Sampler::default();
        send(&mut sampler, 0, 0..2, 0);
        sampler.on_app_limited(2 * BYTES);
        send(&mut sampler, 10, 2..4, 2 * BYTES);
        assert!(!sampler.on_delivered(at(50), 1, 2 * BYTES, ROUND_TRIP).is_app_limited);
        assert!(sampler.is_app_limited());
        assert!(sampler.on_delivered(at(60), 3, 2 * BYTES, ROUND_TRIP).is_app_limited);
        assert!(!sampler.is_app_limited(), "the bubble has passed");
        send(&mut sampler, 60, 4..6, 0);
        assert!(!sampler.on_delivered(at(110), 5, 2 * BYTES, ROUND_TRIP).is_app_limited);
    }

    /// Losses are counted against what was under way when the packet left.
    #[test]
    fn losses_are_counted_since_a_packet_left() {
        let mut sampler = Sampler::default();
        send(&mut sampler, 0, 0..10, 0);
        let lost = |in_flight, lost| Some(Departure { in_flight, lost, is_app_limited: false });
        assert_eq!(sampler.on_lost(3, BYTES), lost(4 * BYTES, BYTES));
        send(&mut sampler, 5, 10..12, 9 * BYTES);
        assert_eq!(sampler.on_lost(4, BYTES), lost(5 * BYTES, 2 * BYTES));
        assert_eq!(sampler.on_lost(10, BYTES), lost(10 * BYTES, 2 * BYTES));
    }

    /// Records go with their packets, and an idle path keeps none.
    #[test]
    fn records_leave_with_their_packets() {
        let mut sampler = Sampler::default();
        for number in 0..1_000u64 {
            let base = number.saturating_sub(10);
            sampler.on_sent(&Sent { now: at(number), number, bytes: BYTES, in_flight: 10 * BYTES, base });
            assert!(sampler.trains.len() <= 12, "{}", sampler.trains.len());
        }
        sampler.shrink(1_000);
        assert_eq!(sampler.trains.capacity(), 0);
    }
}
