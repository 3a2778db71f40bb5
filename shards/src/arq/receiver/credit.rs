//! What a message costs, and how much a peer may have outstanding: the rule that both ends compute alike.
//!
//! In:    lengths of messages, bytes that arrived, round trips.
//! Out:   charges, limits, the window's growth.
//! Holds: both ends charge a reliable message the same, once, when its first byte is sent or seen; a limit never goes back.
//!
//! The rule, for sender and receiver. A reliable message of n bytes costs 255 + max(n, 1), whole, from its first segment on; unreliable
//! messages cost nothing. A sender starts a message only when its cost fits below the channel's limit and the session's; every
//! segment after the first, and every resend, is free. So whatever was started can be completed without further credit, a flood of
//! empty messages pays 256 bytes each, and a receiver that allocates a message's memory at its first segment allocates what was paid
//! for (its blocks are at most twice a message). A message's number implies that all before it were started: the receiver charges
//! 256 for each that it has not seen, and the rest when it sees it.
//!
//! A message is paid back when the application took it (its 256 not before its place has left the channel's window), or when it is
//! skipped. The sender makes sure that a skipped message's length is known: unless some of it was acknowledged, the SKIP follows a
//! segment with its first byte. (That byte costs nothing extra, so that a message of one byte can be skipped bare.) Contiguous bytes
//! of open messages, up to one largest message, are credited before they are paid back, so that large messages follow each other
//! without a pause.
//!
//! The limits before any CREDIT frame are those of the smallest window: 3/4 of the window (channel) or all of it (session), plus one
//! message of the default largest size. Below a session's last 16 KiB of credit only urgent channels (priority below 128) start messages.
//! spec: atp/credit

use core::time::Duration;

use crate::limits::{BUFFER_LEN_MIN, MESSAGE_LEN_MAX};
use crate::time::Instant;

/// What every message costs, whatever its length, in bytes of credit.
pub const MESSAGE_CHARGE_MIN: u64 = 256;
/// A session's limit before the peer said another, in bytes of credit.
pub const SESSION_CREDIT_INITIAL: u64 = session_span(BUFFER_LEN_MIN as u64, MESSAGE_LEN_MAX);
/// A channel's limit before the peer said another, in bytes of credit.
pub const CHANNEL_CREDIT_INITIAL: u64 = channel_span(BUFFER_LEN_MIN as u64, MESSAGE_LEN_MAX);
/// What is left to urgent channels at the end of a session's credit, in bytes.
pub(crate) const URGENT_RESERVE: u64 = 16 << 10;
/// Channels that either end may open in a session.
pub const CHANNELS_MAX: usize = 256;
/// Below this a round trip says more about batches and threads than about the path; and a queue that outgrows the processor's
/// cache costs more than it brings.
const ROUND_TRIP_MIN: Duration = Duration::from_micros(250);

const _: () = assert!(SESSION_CREDIT_INITIAL > CHANNEL_CREDIT_INITIAL + URGENT_RESERVE);

/// What a reliable message of `len` bytes costs.
#[inline]
#[must_use]
pub const fn charge(len: usize) -> u64 {
    MESSAGE_CHARGE_MIN - 1 + if len == 0 { 1 } else { len as u64 }
}

/// What a session may have outstanding with a window of `window` bytes.
pub(crate) const fn session_span(window: u64, message_len_max: usize) -> u64 {
    window + charge(message_len_max)
}

/// What a channel may have outstanding when its session has a window of `window` bytes.
pub(crate) const fn channel_span(window: u64, message_len_max: usize) -> u64 {
    window / 4 * 3 + charge(message_len_max)
}

/// A window that doubles when it is used up within two round trips.
#[derive(Debug)]
pub(crate) struct Window {
    len: u64,
    len_max: u64,
    since: Instant,
    counted: u64,
}

impl Window {
    /// Starts with the smallest buffer (T17).
    pub(crate) fn new(len_max: usize) -> Self {
        let len_max = len_max.max(BUFFER_LEN_MIN) as u64;
        Self { len: BUFFER_LEN_MIN as u64, len_max, since: Instant::ZERO, counted: 0 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes went through. True when the window was used up: call `adjust`.
    #[inline]
    pub(crate) fn count(&mut self, bytes: u64) -> bool {
        self.counted += bytes;
        self.counted >= self.len
    }

    /// Doubles the window when it was used up in less than two round trips and `may_grow`. True when it grew.
    pub(crate) fn adjust(&mut self, now: Instant, round_trip: Duration, may_grow: bool) -> bool {
        if self.counted < self.len {
            return false;
        }
        let was_quick = now.since(self.since) < 2 * round_trip.max(ROUND_TRIP_MIN);
        self.since = now;
        self.counted = 0;
        let grows = was_quick && may_grow && self.len < self.len_max;
        if grows {
            self.len = self.len_max.min(2 * self.len);
        }
        grows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: atp/credit
    #[test]
    fn every_message_costs_its_length_and_an_overhead() {
        assert_eq!([0, 1, 2, 64, 1 << 20].map(charge), [256, 256, 257, 319, (1 << 20) + 255]);
    }

    #[test]
    fn a_window_used_up_within_two_round_trips_doubles_up_to_its_maximum() {
        let mut window = Window::new(1 << 20);
        let round_trip = Duration::from_millis(50);
        let mut now = Instant::ZERO;
        for expected in [512 << 10, 1 << 20, 1 << 20] {
            now += Duration::from_millis(99);
            assert!(window.count(window.len()));
            window.adjust(now, round_trip, true);
            assert_eq!(window.len(), expected);
        }
    }

    #[test]
    fn a_slow_path_or_a_slow_reader_earns_nothing() {
        let mut window = Window::new(1 << 20);
        let round_trip = Duration::from_millis(50);
        assert!(!window.count(window.len() - 1));
        assert!(!window.adjust(Instant::from_nanos(1), round_trip, true), "not used up");
        assert!(window.count(1));
        assert!(
            !window.adjust(Instant::ZERO + Duration::from_millis(100), round_trip, true),
            "two round trips"
        );
        assert!(window.count(window.len()));
        assert!(!window.adjust(Instant::ZERO + Duration::from_millis(101), round_trip, false), "not allowed");
        assert_eq!(window.len(), 256 << 10);
    }
}
