//! The doorbell: how other threads wake a core that sleeps.
//!
//! In:    `ring`, from any thread, after it has put something where the core will look.
//! Out:   a write to the eventfd that the core sleeps on, only when it sleeps.
//! Holds: what was put there before `ring` is found by a drain that starts after `ring`: no sleep swallows it.
//!
//! The state is one word. Awake: nobody needs to do anything. Rung: somebody has something, and the core will look
//! before it sleeps. Asleep: the first to ring writes to the eventfd. Ringing twice between two looks costs one load.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

const AWAKE: u8 = 0;
const RUNG: u8 = 1;
const ASLEEP: u8 = 2;

/// Wakes one core. Cheap to copy, usable from any thread.
#[derive(Clone, Debug)]
pub struct Doorbell(Arc<Shared>);

/// Alone on its cache line (two, as processors fetch them in pairs): its neighbours would pay for every ring.
#[derive(Debug)]
#[repr(align(128))]
struct Shared {
    state: AtomicU8,
    event: OwnedFd,
}

impl Doorbell {
    /// A new one; its core is awake.
    ///
    /// # Errors
    ///
    /// When the process has no file descriptor left (the host's limit).
    pub fn new() -> io::Result<Self> {
        // Blocking, as io_uring answers a read of a non-blocking one with EAGAIN instead of waiting.
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Shared { state: AtomicU8::new(AWAKE), event })))
    }

    /// Tells the core that something waits for it. To be called *after* it was put there.
    pub fn ring(&self) {
        // Orders what the caller wrote before this load, against `rise` and the core's look after it.
        fence(Ordering::SeqCst);
        if self.0.state.load(Ordering::Relaxed) == RUNG {
            return;
        }
        if self.0.state.swap(RUNG, Ordering::SeqCst) == ASLEEP {
            self.wake();
        }
    }

    /// The core is about to sleep. False: it was rung, so it must look first.
    pub(super) fn lie_down(&self) -> bool {
        self.0.state.compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The core is about to look. True: it was rung.
    pub(super) fn rise(&self) -> bool {
        if self.0.state.load(Ordering::Relaxed) == AWAKE {
            return false;
        }
        self.0.state.swap(AWAKE, Ordering::SeqCst) == RUNG
    }

    /// Signals the eventfd whatever the state.
    pub(super) fn wake(&self) {
        // Fails only when the count is at its end, and then the core is awake for sure.
        let _ = write(&self.0.event, &1u64.to_ne_bytes());
    }

    /// Takes the signal back. Blocks unless the eventfd was signalled.
    pub(super) fn silence(&self) {
        let _ = read(&self.0.event, &mut [0; 8]);
    }

    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_is_signalled() {
        let bell = Doorbell::new().unwrap();
        bell.ring();
        assert!(!bell.lie_down(), "it was rung: look first");
        assert!(bell.rise());
        assert!(bell.lie_down());
        bell.ring();
        bell.ring();
        let mut count = [0; 8];
        read(bell.event(), &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1, "two rings, one signal");
        assert!(bell.rise());
        assert!(!bell.rise());
    }

    /// Whatever the interleaving, every item is seen by a look that follows its ring.
    #[test]
    fn no_ring_is_lost() {
        use std::sync::atomic::AtomicU32;
        const ITEMS: u32 = 20_000;
        let (bell, mail) = (Doorbell::new().unwrap(), Arc::new(AtomicU32::new(0)));
        let sender = std::thread::spawn({
            let (bell, mail) = (bell.clone(), mail.clone());
            move || {
                for _ in 0..ITEMS {
                    mail.fetch_add(1, Ordering::Relaxed);
                    bell.ring();
                }
            }
        });
        // Sleeps without a deadline: a lost ring would hang here.
        while mail.load(Ordering::Relaxed) < ITEMS {
            if bell.lie_down() {
                bell.silence();
            }
            bell.rise();
        }
        sender.join().unwrap();
    }
}
