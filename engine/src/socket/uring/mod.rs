//! The back end for hosts with io_uring: a ring per core, awaited through glommio.
//!
//! In:    a [`Bound`] socket, within a glommio executor on the core that will drive it.
//! Out:   a [`Socket`].
//! Holds: every buffer is the kernel's or ours, and goes back as soon as its train was handed on; the ring's signals are
//!        on only while the core sleeps.
//!
//! One multishot receive fills 64 provided buffers with GRO trains. While the core is busy, a look for new trains costs
//! no system call: the kernel raises a flag in the shared memory (TASKRUN) when an `enter` would bring some.

mod ring;
mod wake;

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use dunlin_shards::route::{Arrival, Transmit, TransmitError};
use dunlin_shards::time::Instant;

use self::ring::{BUFFER_COUNT, Completion, Ring, Token, template};
use self::wake::Wake;
use super::address::{array, decode};
use super::control::{self, TOLD_LEN};
use super::counters::SocketCounters;
use super::group::Bound;
use super::mmsg::admit;
use super::outbox::Outbox;
use super::{Doorbell, Socket};
use crate::clock::Clock;

/// Where each part of a received buffer starts: the kernel's header, the sender's name, control data, the train.
mod at {
    pub(super) const NAME_LEN: usize = 0;
    pub(super) const CONTROL_LEN: usize = 4;
    pub(super) const PAYLOAD_LEN: usize = 8;
    pub(super) const FLAGS: usize = 12;
    pub(super) const NAME: usize = 16;
    /// Four bytes more than the longest name, for the alignment of what follows.
    pub(super) const CONTROL: usize = NAME + 32;
    pub(super) const PAYLOAD: usize = CONTROL + super::TOLD_LEN;
}

const _: () = assert!(at::PAYLOAD == 256);

/// A socket driven by a ring of its own.
pub struct UringSocket {
    // Dropped first: it waits for the kernel.
    ring: Ring,
    bound: Bound,
    clock: Clock,
    wake: Wake,
    outbox: Outbox,
    counters: SocketCounters,
    completed: Box<[MaybeUninit<io_uring::cqueue::Entry>]>,
    /// When the request that wakes us at a deadline is due.
    alarm: Option<Instant>,
    /// A request that wakes us when the socket takes more is under way.
    awaits_room: bool,
}

impl UringSocket {
    /// Takes the socket over.
    ///
    /// # Errors
    ///
    /// When the host forbids io_uring or lacks memory or file descriptors for it: the operator's to resolve; `bound` is
    /// closed, unless it was cloned before.
    ///
    /// # Panics
    ///
    /// Outside a glommio executor.
    pub fn new(bound: Bound, clock: Clock) -> io::Result<Self> {
        let template = template(at::CONTROL - at::NAME, TOLD_LEN);
        let mut ring = Ring::new(bound.fd.as_fd(), bound.doorbell.event(), template)?;
        ring.receive();
        ring.enter()?;
        let wake = Wake::new(&bound.doorbell)?;
        let outbox = Outbox::new(bound.family(), bound.segmentation);
        Ok(Self {
            ring,
            bound,
            clock,
            wake,
            outbox,
            counters: SocketCounters::default(),
            completed: Box::new_uninit_slice(usize::from(BUFFER_COUNT)),
            alarm: None,
            awaits_room: false,
        })
    }

    /// Ends the outstanding read, so that the executor can end cleanly.
    pub async fn close(mut self) {
        self.wake.close(&self.bound.doorbell).await;
    }

    /// Enters the kernel where there is a reason to.
    fn enter(&mut self) {
        match self.ring.enter() {
            Ok(overflowed) => self.counters.completions_overflowed += u64::from(overflowed),
            // Interrupted, or short of memory: what was to be done is done by the next one.
            Err(_) => self.counters.receive_errors += 1,
        }
    }

    /// One completion; answers whether it brought a train.
    fn complete(&mut self, done: Completion, sink: &mut impl FnMut(&Arrival, &mut [u8])) -> bool {
        if done.is(Token::Receive) {
            self.received(done, sink)
        } else {
            if done.is(Token::Deadline) {
                self.alarm = None;
            } else if done.is(Token::Writable) {
                self.awaits_room = false;
                self.outbox.flush(self.bound.fd.as_fd(), &mut self.counters);
            }
            false
        }
    }

    fn received(&mut self, done: Completion, sink: &mut impl FnMut(&Arrival, &mut [u8])) -> bool {
        if !done.more() {
            self.ring.receive_ended();
        }
        if done.result == -libc::ENOBUFS {
            self.counters.buffers_exhausted += 1;
        } else if done.result < 0 {
            self.counters.receive_errors += 1;
        }
        let Some(buffer) = done.buffer() else { return false };
        let (counters, index) = (&mut self.counters, self.bound.index);
        if let Ok(len) = usize::try_from(done.result) {
            let bytes = self.ring.buffer(buffer);
            let bytes = &mut bytes[..len];
            let (head, payload) = bytes.split_at_mut(at::PAYLOAD.min(len));
            let word = |at| array(head, at).map(u32::from_ne_bytes).unwrap_or_default();
            let part = |start, len: u32| head.get(start..start + len as usize).unwrap_or_default();
            let remote = decode(part(at::NAME, word(at::NAME_LEN)));
            let told = control::read(part(at::CONTROL, word(at::CONTROL_LEN)));
            // A payload longer than its buffer is truncated; the header tells its true length.
            let flags = if word(at::PAYLOAD_LEN) as usize > payload.len() {
                libc::MSG_TRUNC
            } else {
                word(at::FLAGS) as libc::c_int
            };
            if let Some(arrival) = admit(counters, index, (remote, told), payload.len(), flags) {
                sink(&arrival, payload);
            }
        }
        self.ring.give_back(buffer);
        true
    }

    /// Gets ready to sleep: requests that will wake us are with the kernel, signals are on. False: there is something to
    /// do already.
    fn lie_down(&mut self, deadline: Option<Instant>) -> bool {
        if self.ring.has_work() || deadline.is_some_and(|deadline| deadline <= self.clock.instant()) {
            return false;
        }
        if !self.bound.doorbell.lie_down() {
            return false;
        }
        if let Some(deadline) = deadline
            && self.alarm.is_none_or(|alarm| alarm > deadline)
        {
            // One for an earlier time stays: waking too early is harmless, and most deadlines move on.
            self.ring.arm_deadline(self.clock.boottime_of(deadline), self.alarm.is_some());
            self.alarm = Some(deadline);
        }
        if self.outbox.is_blocked() && !self.awaits_room {
            self.ring.arm_writable();
            self.awaits_room = true;
        }
        self.ring.set_signals(true);
        self.enter();
        !self.ring.has_work()
    }
}

impl Socket for UringSocket {
    fn local_addr(&self) -> SocketAddr {
        self.bound.address
    }

    fn receive(&mut self, mut sink: impl FnMut(&Arrival, &mut [u8])) -> usize {
        self.enter();
        let mut completed = std::mem::take(&mut self.completed);
        let mut trains = 0;
        for done in self.ring.completions(&mut completed) {
            trains += usize::from(self.complete(done, &mut sink));
        }
        self.completed = completed;
        if trains > 0 {
            self.ring.publish();
        }
        if self.ring.receive() {
            self.counters.rearmed += 1;
            self.enter();
        }
        trains
    }

    fn frame(&mut self) -> Option<&mut [u8]> {
        self.outbox.frame()
    }

    fn transmit(&mut self, transmit: &Transmit) {
        if self.outbox.push(transmit) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.outbox.flush(self.bound.fd.as_fd(), &mut self.counters);
    }

    fn poll_error(&mut self) -> Option<(Transmit, TransmitError)> {
        self.outbox.poll_error()
    }

    async fn wait(&mut self, deadline: Option<Instant>) {
        if self.lie_down(deadline) {
            self.counters.sleeps += 1;
            self.wake.signalled().await;
        } else {
            // Costs nothing unless glommio's own time slice is over.
            glommio::yield_if_needed().await;
        }
        self.ring.set_signals(false);
        if self.bound.doorbell.rise() {
            self.counters.doorbells += 1;
        }
    }

    fn doorbell(&self) -> &Doorbell {
        &self.bound.doorbell
    }

    fn counters(&self) -> &SocketCounters {
        &self.counters
    }
}

/// Whether a whole ring can be had, on a socket of its own.
pub(super) fn try_ring() -> io::Result<()> {
    let socket =
        std::net::UdpSocket::bind("127.0.0.1:0").or_else(|_| std::net::UdpSocket::bind("[::1]:0"))?;
    let doorbell = Doorbell::new()?;
    let mut ring = Ring::new(socket.as_fd(), doorbell.event(), template(at::CONTROL - at::NAME, TOLD_LEN))?;
    ring.receive();
    ring.enter()?;
    Ok(())
}
