//! A timer that a sleeping thread polls beside its socket.
//!
//! In:    deadlines.
//! Out:   a file descriptor that becomes readable.
//! Holds: it fires at the earliest deadline told since it last fired, or earlier. Most deadlines only move on, so that
//!        it is set far less often than a thread sleeps: a `ppoll` with a timeout of its own sets and cancels one of the
//!        kernel's timers each time, which on a virtual machine are two exits on the way of every datagram.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dunlin_shards::time::Instant;
use rustix::io::read;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::clock::Clock;

pub(super) struct Alarm {
    timer: OwnedFd,
    set: Option<Instant>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { timer: timerfd_create(TimerfdClockId::Boottime, flags)?, set: None })
    }

    /// Fires by then at the latest. False: it cannot be set.
    pub(super) fn set(&mut self, clock: &Clock, deadline: Instant) -> bool {
        if self.set.is_some_and(|set| set <= deadline) {
            return true;
        }
        let Ok(at) = Timespec::try_from(clock.boottime_of(deadline)) else { return true };
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let time = Itimerspec { it_interval: once, it_value: at };
        let is_set = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &time).is_ok();
        self.set = is_set.then_some(deadline);
        is_set
    }

    /// It has fired: takes note.
    pub(super) fn silence(&mut self) {
        let _ = read(&self.timer, &mut [0; 8]);
        self.set = None;
    }

    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn it_fires_at_the_earliest_deadline_and_then_at_the_next() {
        let (clock, mut alarm) = (Clock::start(), Alarm::new().unwrap());
        let near = clock.instant() + Duration::from_millis(2);
        assert!(alarm.set(&clock, near + Duration::from_secs(3_600)));
        assert!(alarm.set(&clock, near));
        assert!(alarm.set(&clock, near + Duration::from_secs(7_200)), "a later one changes nothing");
        for deadline in [near, near + Duration::from_millis(1)] {
            assert!(alarm.set(&clock, deadline));
            poll(&mut [PollFd::from_borrowed_fd(alarm.event(), PollFlags::IN)], None).unwrap();
            assert!(clock.instant() >= deadline);
            alarm.silence();
        }
    }
}
