//! Something that threads and tasks wait for, and a driver rings.
//!
//! In:    rings.
//! Out:   waiters that go on.
//! Holds: a ring after `listen` is never missed. Nobody is woken while a lock is held; a ring that nobody waits for
//!        takes none. A waiter may go on without need, so the condition is looked at again.
//!
//! Why our own: the library that did this before wakes its waiters under its lock. A thread woken on the driver's core
//! takes the core at once, finds the lock held and sleeps again: three switches and two more system calls for each
//! message. (A handshake cost 60 us more.)

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::clock::Clock;
use crate::mailbox::lock;

/// What is rung.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// How often it was rung.
    rings: AtomicU64,
    /// How many wait, so that a ring for nobody is one load.
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    /// By ticket, ascending.
    queue: VecDeque<(u64, Waker)>,
    tickets: u64,
}

impl Bell {
    /// Everybody who listens by now goes on.
    pub(crate) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        // Either a waiter sees the new count after it has entered itself, or it is seen here.
        let mut left = self.waiting.load(Ordering::SeqCst);
        while left > 0 {
            let waker = self.take();
            let Some(waker) = waker else { break };
            waker.wake();
            left -= 1;
        }
    }

    fn take(&self) -> Option<Waker> {
        let mut waiters = lock(&self.waiters);
        let (_, waker) = waiters.queue.pop_front()?;
        self.waiting.store(waiters.queue.len(), Ordering::SeqCst);
        Some(waker)
    }

    /// Begins to listen: look at the condition after this, then wait.
    pub(crate) fn listen(&self) -> Listener<'_> {
        let seen = self.rings.load(Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Listener { bell: self, seen, ticket: None }
    }

    /// What `look` finds, at once or after a ring; none: it found nothing for so long. A ring is a hint: another thread may
    /// have taken what it told of.
    pub(crate) fn wait_for<T>(&self, wait: Duration, look: impl Fn() -> Option<T>) -> Option<T> {
        if let Some(found) = look() {
            return Some(found);
        }
        let clock = Clock::start();
        loop {
            let listener = self.listen();
            if let Some(found) = look() {
                return Some(found);
            }
            let left = wait.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return None;
            }
            listener.wait_timeout(left);
        }
    }
}

/// Somebody who listens; a future that is ready once the bell was rung.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    bell: &'a Bell,
    seen: u64,
    ticket: Option<u64>,
}

impl Listener<'_> {
    fn is_rung(&self) -> bool {
        self.bell.rings.load(Ordering::SeqCst) != self.seen
    }

    /// Sleeps until the bell is rung.
    pub(crate) fn wait(self) {
        block_on(self);
    }

    /// Sleeps until the bell is rung, at most so long.
    pub(crate) fn wait_timeout(mut self, wait: Duration) {
        let clock = Clock::start();
        with_waker(|waker| {
            while self.poll_with(waker).is_pending() {
                let left = wait.saturating_sub(clock.elapsed());
                if left.is_zero() {
                    break;
                }
                thread::park_timeout(left);
            }
        });
    }

    fn poll_with(&mut self, waker: &Waker) -> Poll<()> {
        if self.is_rung() {
            return Poll::Ready(());
        }
        {
            let mut waiters = lock(&self.bell.waiters);
            let ticket = self.ticket;
            let known =
                ticket.and_then(|ticket| waiters.queue.iter_mut().find(|(other, _)| *other == ticket));
            if let Some((_, known)) = known {
                known.clone_from(waker);
            } else {
                waiters.tickets += 1;
                let ticket = waiters.tickets;
                waiters.queue.push_back((ticket, waker.clone()));
                self.ticket = Some(ticket);
                self.bell.waiting.store(waiters.queue.len(), Ordering::SeqCst);
            }
        }
        if self.is_rung() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Future for Listener<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.poll_with(context.waker())
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut waiters = lock(&self.bell.waiters);
        if let Some(place) = waiters.queue.iter().position(|(other, _)| *other == ticket) {
            waiters.queue.remove(place);
            self.bell.waiting.store(waiters.queue.len(), Ordering::SeqCst);
        }
    }
}

/// Wakes a thread that parks.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// The calling thread's waker, made once.
fn with_waker<R>(then: impl FnOnce(&Waker) -> R) -> R {
    thread_local! {
        static WAKER: OnceCell<Waker> = const { OnceCell::new() };
    }
    let make = || Waker::from(Arc::new(Unpark(thread::current())));
    // Out of the cell, because `then` may run a future that comes here again.
    let waker = WAKER.try_with(|cell| cell.get_or_init(make).clone()).unwrap_or_else(|_| make());
    then(&waker)
}

/// Runs a future on this thread, which sleeps while the future is not ready.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    with_waker(|waker| {
        let mut context = Context::from_waker(waker);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    })
}

/// The same, at most so long; none: the future was not ready in time, and is dropped.
pub(crate) fn block_on_timeout<F: Future>(future: F, wait: Duration) -> Option<F::Output> {
    let clock = Clock::start();
    let mut future = std::pin::pin!(future);
    with_waker(|waker| {
        let mut context = Context::from_waker(waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            let left = wait.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return None;
            }
            thread::park_timeout(left);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_ring_between_listen_and_wait_is_not_missed() {
        let bell = Bell::default();
        let listener = bell.listen();
        bell.ring();
        listener.wait();
        assert_eq!(bell.waiting.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn everybody_who_waits_is_woken() {
        let (bell, done) = (Bell::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            let waiters: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        while !done.load(Ordering::SeqCst) {
                            let listener = bell.listen();
                            if !done.load(Ordering::SeqCst) {
                                listener.wait();
                            }
                        }
                    })
                })
                .collect();
            while bell.waiting.load(Ordering::SeqCst) < waiters.len() {
                thread::yield_now();
            }
            done.store(true, Ordering::SeqCst);
            bell.ring();
        });
        assert_eq!(lock(&bell.waiters).queue.len(), 0);
    }

    /// Ping-pong between two threads: a lost ring would never end.
    #[test]
    fn no_ring_is_lost_between_threads() {
        const ROUNDS: u64 = 20_000;
        let (there, back) = (Bell::default(), Bell::default());
        let (ball, answer) = (AtomicU64::new(0), AtomicU64::new(0));
        let wait_for = |bell: &Bell, what: &AtomicU64, value| {
            while what.load(Ordering::SeqCst) < value {
                let listener = bell.listen();
                if what.load(Ordering::SeqCst) < value {
                    listener.wait();
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    wait_for(&there, &ball, round);
                    answer.store(round, Ordering::SeqCst);
                    back.ring();
                }
            });
            for round in 1..=ROUNDS {
                ball.store(round, Ordering::SeqCst);
                there.ring();
                wait_for(&back, &answer, round);
            }
        });
        assert_eq!(answer.into_inner(), ROUNDS);
    }

    #[test]
    fn a_future_is_waited_for_no_longer_than_was_said() {
        assert_eq!(block_on_timeout(std::future::ready(1), Duration::ZERO), Some(1));
        assert_eq!(block_on_timeout(std::future::pending::<()>(), Duration::from_millis(1)), None);
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let bell = Bell::default();
        bell.listen().wait_timeout(Duration::from_millis(1));
        assert_eq!(bell.waiting.load(Ordering::SeqCst), 0);
        assert!(lock(&bell.waiters).queue.is_empty());
    }
}
