//! The back end without io_uring: recvmmsg(2), sendmmsg(2), ppoll(2).
//!
//! In:    a [`Bound`] socket, on the thread that will drive it.
//! Out:   a [`Socket`] whose `wait` blocks the thread: its future is ready at once.
//! Holds: the kernel writes into our memory only within `receive`.
#![expect(unsafe_code, reason = "recvmmsg")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use dunlin_shards::route::{Arrival, SocketIndex, Transmit, TransmitError};
use dunlin_shards::time::Instant;
use rustix::event::{PollFd, PollFlags, poll};

use super::address::{NAME_LEN, decode};
use super::alarm::Alarm;
use super::control::{self, TOLD_LEN, Told};
use super::counters::SocketCounters;
use super::group::Bound;
use super::outbox::Outbox;
use super::region::Region;
use super::{Doorbell, Socket};
use crate::clock::Clock;

/// Trains taken in by one call at most: few enough that the first are still in the cache when the last has come.
const BATCH: usize = 4;
/// Bytes of one train at most.
const TRAIN_LEN: usize = 65_536;

/// A socket driven by plain system calls.
pub struct MmsgSocket {
    bound: Bound,
    clock: Clock,
    alarm: Alarm,
    inbox: Inbox,
    outbox: Outbox,
    counters: SocketCounters,
}

/// What one recvmmsg fills in.
struct Inbox {
    trains: Region,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    _pieces: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; NAME_LEN]);

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; TOLD_LEN]);

impl MmsgSocket {
    /// Takes the socket over.
    ///
    /// # Errors
    ///
    /// When the process has no file descriptor left for its timer (the host's limit).
    pub fn new(bound: Bound, clock: Clock) -> io::Result<Self> {
        let outbox = Outbox::new(bound.family(), bound.segmentation);
        let alarm = Alarm::new()?;
        Ok(Self { bound, clock, alarm, inbox: Inbox::new(), outbox, counters: SocketCounters::default() })
    }

    /// Blocks until something is ready, unless the doorbell was rung.
    fn sleep(&mut self, deadline: Option<Instant>) {
        if deadline.is_some_and(|deadline| {
            deadline <= self.clock.instant() || !self.alarm.set(&self.clock, deadline)
        }) {
            return;
        }
        if !self.bound.doorbell.lie_down() {
            return;
        }
        let writable = if self.outbox.is_blocked() { PollFlags::OUT } else { PollFlags::empty() };
        let mut polled = [
            PollFd::new(&self.bound.fd, PollFlags::IN | writable),
            PollFd::from_borrowed_fd(self.bound.doorbell.event(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.alarm.event(), PollFlags::IN),
        ];
        self.counters.sleeps += 1;
        // An interrupted wait is a hint like any other.
        let _ = poll(&mut polled, None);
        let [_, rung, alarmed] = polled.map(|polled| !polled.revents().is_empty());
        if alarmed {
            self.alarm.silence();
        }
        if rung {
            self.bound.doorbell.silence();
        }
    }
}

impl Inbox {
    fn new() -> Self {
        // SAFETY: all zeros is a value of both C structures: null pointers and lengths of 0.
        let (header, piece) =
            unsafe { (std::mem::zeroed::<libc::mmsghdr>(), std::mem::zeroed::<libc::iovec>()) };
        let trains = Region::new(TRAIN_LEN, BATCH);
        let mut names: Box<[_]> = vec![Name([0; NAME_LEN]); BATCH].into();
        let mut controls: Box<[_]> = vec![Control([0; TOLD_LEN]); BATCH].into();
        let mut pieces: Box<[_]> = vec![piece; BATCH].into();
        let mut headers: Box<[_]> = vec![header; BATCH].into();
        for slot in 0..BATCH {
            pieces[slot] = libc::iovec { iov_base: trains.at(slot).cast(), iov_len: TRAIN_LEN };
            let header = &mut headers[slot].msg_hdr;
            header.msg_name = (&raw mut names[slot]).cast();
            header.msg_iov = &raw mut pieces[slot];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut controls[slot]).cast();
        }
        Self { trains, names, controls, _pieces: pieces, headers }
    }

    /// Takes in what waits; answers how many trains.
    fn fill(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        for header in &mut self.headers {
            header.msg_hdr.msg_namelen = NAME_LEN as libc::socklen_t;
            header.msg_hdr.msg_controllen = TOLD_LEN as _;
        }
        let (fd, headers) = (socket.as_fd().as_raw_fd(), self.headers.as_mut_ptr());
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: every header points into boxes and a region of ours, which stay where they are, with their lengths.
        let count =
            unsafe { libc::recvmmsg(fd, headers, BATCH as libc::c_uint, flags as _, std::ptr::null_mut()) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// One train just taken in: from whom, what was told about it, its bytes, the kernel's flags.
    fn train(&mut self, slot: usize) -> (Option<SocketAddr>, Told, &mut [u8], libc::c_int) {
        let header = &self.headers[slot];
        let name = &self.names[slot].0[..(header.msg_hdr.msg_namelen as usize).min(NAME_LEN)];
        let control = &self.controls[slot].0[..header.msg_hdr.msg_controllen.min(TOLD_LEN)];
        let (remote, told) = (decode(name), control::read(control));
        // SAFETY: the kernel holds slots only within `fill`.
        let bytes = unsafe { self.trains.slot(slot) };
        (remote, told, &mut bytes[..header.msg_len as usize], header.msg_hdr.msg_flags)
    }
}

/// Counts a train and says what to hand on about it; `None` when it is not to be handed on. For both back ends.
pub(super) fn admit(
    counters: &mut SocketCounters,
    index: SocketIndex,
    (remote, told): (Option<SocketAddr>, Told),
    len: usize,
    flags: libc::c_int,
) -> Option<Arrival> {
    if let Some(drops) = told.drops {
        counters.receive_queue_drops = u64::from(drops);
    }
    if flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        counters.received_truncated += 1;
        return None;
    }
    let Some(remote) = remote else {
        counters.received_nameless += 1;
        return None;
    };
    if len == 0 {
        counters.received_empty += 1;
        return None;
    }
    let segment_len = told.segment_len.map_or(len, |segment| segment.min(len));
    counters.received.count(len.div_ceil(segment_len), len);
    Some(Arrival { local: told.local, remote, socket: index, ecn: told.ecn, segment_len })
}

impl Socket for MmsgSocket {
    fn local_addr(&self) -> SocketAddr {
        self.bound.address
    }

    fn receive(&mut self, mut sink: impl FnMut(&Arrival, &mut [u8])) -> usize {
        let count = match self.inbox.fill(&self.bound.fd) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
            Err(_) => {
                self.counters.receive_errors += 1;
                return 0;
            }
        };
        for slot in 0..count {
            let (remote, told, bytes, flags) = self.inbox.train(slot);
            let len = bytes.len();
            if let Some(arrival) = admit(&mut self.counters, self.bound.index, (remote, told), len, flags) {
                sink(&arrival, bytes);
            }
        }
        count
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
        self.sleep(deadline);
        if self.bound.doorbell.rise() {
            self.counters.doorbells += 1;
        }
        if self.outbox.is_blocked() {
            self.flush();
        }
    }

    fn doorbell(&self) -> &Doorbell {
        &self.bound.doorbell
    }

    fn counters(&self) -> &SocketCounters {
        &self.counters
    }
}
