//! The only clock: what the time is, for everyone who is told.
//!
//! In:    nothing.
//! Out:   [`Now`]: nanoseconds of CLOCK_BOOTTIME since the engine's start, milliseconds since 1970.
//! Holds: one `Clock` per engine; its copies agree, whatever thread asks.
//!
//! CLOCK_BOOTTIME goes on while the machine sleeps, so that leases and keys run out when they should. The wall clock
//! is the coarse one (a few milliseconds behind at most): it serves freshness alone. Both answer without entering
//! the kernel (vDSO), 25 ns together on the development machine.

use std::time::Duration;

use dunlin_shards::time::{Instant, Now, WallMillis};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The engine's clock. Copies share the same start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// CLOCK_BOOTTIME at the start, in nanoseconds.
    start: u64,
}

impl Clock {
    /// A clock that starts now. One per engine.
    #[must_use]
    pub fn start() -> Self {
        Self { start: boottime() }
    }

    /// The time since the start, and the wall clock.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { instant: self.instant(), wall: wall() }
    }

    /// The time since the start alone: what spinning and measuring need.
    #[must_use]
    pub fn instant(&self) -> Instant {
        Instant::from_nanos(boottime().saturating_sub(self.start))
    }

    /// How long ago the start was.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.instant().as_nanos())
    }

    /// When that is on CLOCK_BOOTTIME, as a time since that clock's zero.
    #[must_use]
    pub fn boottime_of(&self, instant: Instant) -> Duration {
        Duration::from_nanos(self.start.saturating_add(instant.as_nanos()))
    }
}

fn boottime() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    non_negative(time.tv_sec) * 1_000_000_000 + non_negative(time.tv_nsec)
}

fn wall() -> WallMillis {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::RealtimeCoarse);
    WallMillis(non_negative(tv_sec) * 1_000 + non_negative(tv_nsec) / 1_000_000)
}

/// A clock set before 1970 counts as 1970.
fn non_negative(field: i64) -> u64 {
    u64::try_from(field).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn time_goes_on() {
        let clock = Clock::start();
        let first = clock.now();
        let second = clock.now();
        assert!(second.instant >= first.instant);
        assert!(second.wall >= first.wall);
    }

    #[test]
    fn the_wall_clock_is_the_machines() {
        let ours = Clock::start().now().wall.0;
        let theirs = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        assert!(theirs.abs_diff(ours) < 10_000, "{ours} {theirs}");
    }

    #[test]
    fn an_instant_finds_its_way_back_to_the_systems_clock() {
        let clock = Clock { start: 5_000_000_000 };
        assert_eq!(clock.boottime_of(Instant::from_nanos(7)), Duration::from_nanos(5_000_000_007));
    }
}
