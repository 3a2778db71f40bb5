//! What one peer may cost: work spent on its compressed bodies, and its requests.
//!
//! In:    what was done for it, and when.
//! Out:   whether more may be done, or from when on.
//! Holds: over any time, no more than the rate and one burst; the last piece may overshoot once, and is waited for after.
//!
//! A shard has no clock, so the work of decompressing is reckoned, not measured: bytes in and out, times what a byte costs
//! by that method on the machine this was measured on.
//!
//! spec: p2p/effort

use core::time::Duration;

use dunlin_codec::transmission::Compression;

use crate::budget::Budget;
use crate::limits::{DECOMPRESSION_BURST, DECOMPRESSION_PERCENT};
use crate::time::{Instant, nanos_of};

/// What decompressing costs a byte, in and out together, in nanoseconds: the dearest of text, numbers and noise.
const fn cost_ns(method: Compression) -> u64 {
    match method {
        Compression::None => 0,
        Compression::Bz2 => 125,
        Compression::Lzma => 105,
        Compression::Gzip | Compression::Zlib => 10,
        Compression::Snappy => 5,
    }
}

/// When a peer's next compressed body may be opened.
pub(super) fn decompression_ready_at(budget: Budget) -> Instant {
    budget.ready_at(DECOMPRESSION_BURST)
}

/// A body of `body_len` bytes became `len` by `method`, or was refused there.
pub(super) fn on_decompressed(
    budget: &mut Budget,
    now: Instant,
    method: Compression,
    (body_len, len): (usize, usize),
) -> Duration {
    let work = Duration::from_nanos(cost_ns(method).saturating_mul((body_len + len) as u64));
    budget.take(now, work * 100 / DECOMPRESSION_PERCENT);
    work
}

/// Takes one of `per_second` requests, a tenth of which may come at once.
pub(super) fn take_request(budget: &mut Budget, now: Instant, per_second: u64) -> bool {
    let burst = Duration::from_millis(100);
    if per_second == 0 || budget.ready_at(burst) > now {
        return false;
    }
    budget.take(now, Duration::from_nanos(nanos_of(Duration::from_secs(1)) / per_second));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that sends the dearest bodies as fast as they are taken gets its share of a core, and one body more.
    /// spec: p2p/effort
    #[test]
    fn decompressing_keeps_to_its_share() {
        let mut budget = Budget::default();
        let (mut now, mut spent) = (Instant::ZERO, Duration::ZERO);
        let body = (1 << 10, 1 << 20);
        let end = Instant::ZERO + Duration::from_secs(60);
        let mut bodies = 0;
        while now < end {
            spent += on_decompressed(&mut budget, now, Compression::Bz2, body);
            bodies += 1;
            now = now.max(decompression_ready_at(budget));
        }
        let share = Duration::from_secs(60) * DECOMPRESSION_PERCENT / 100;
        let one = spent / bodies;
        assert!(spent <= share + one + DECOMPRESSION_BURST, "{spent:?} of {share:?}");
        assert!(spent + one >= share, "and no less than it may");
    }

    /// spec: p2p/effort
    #[test]
    fn requests_keep_to_their_rate() {
        let mut budget = Budget::default();
        let mut taken = 0;
        for milli in 0..10_000_u64 {
            let now = Instant::from_nanos(milli * 1_000_000);
            taken += (0..5).filter(|_| take_request(&mut budget, now, 1_000)).count();
        }
        assert!((10_000..=10_101).contains(&taken), "{taken}");
        assert!(!take_request(&mut Budget::default(), Instant::ZERO, 0), "none at all");
    }
}
