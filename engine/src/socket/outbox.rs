//! Sending, for both back ends: frames that trains are written into, and the calls that give them to the kernel.
//!
//! In:    `frame`, `push` (the train just written into it), `flush`.
//! Out:   sendmmsg(2) with segmentation per train; errors by `poll_error`.
//! Holds: trains leave in the order of their `push`; a frame is lent again only after the kernel has copied it. One
//!        train's error touches no other.
//!
//! The kernel copies before it returns, so a queue that has drained starts again at its first frame, which is still in
//! the cache; and a queue that holds a large train is flushed at once, for the same reason.
#![expect(unsafe_code, reason = "sendmmsg")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use dunlin_shards::route::{FRAME_LEN, TRAIN_SEGMENTS_MAX, Transmit, TransmitError};

use super::address::{Family, NAME_LEN, encode};
use super::control::{ASKED_LEN, write};
use super::counters::SocketCounters;
use super::region::Region;

/// Frames in all: 2 MiB.
pub(super) const FRAME_COUNT: usize = 32;
/// Messages given to the kernel in one call at most.
const MESSAGES_MAX: usize = 64;
/// Bytes waiting at which they are given to the kernel without being asked.
const FLUSH_LEN: usize = 16 << 10;
/// Errors kept until somebody asks.
const ERRORS_MAX: usize = 64;

/// Whether the kernel cuts our trains.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Segmentation {
    On,
    /// It refused one: whether because of its size or of segmentation, the datagrams sent apart will tell.
    Trying,
    Off,
}

/// What the kernel reads of one message, its payload apart.
#[repr(C, align(8))]
struct Message {
    control: [u8; ASKED_LEN],
    name: [u8; NAME_LEN],
}

/// The send side of a socket.
pub(super) struct Outbox {
    frames: Region,
    /// What waits in each frame.
    trains: Box<[Option<Transmit>]>,
    /// The frame that waits longest.
    first: usize,
    count: usize,
    /// Bytes of the foremost train that the kernel has already, when its datagrams go out apart.
    first_sent: usize,
    waiting_len: usize,
    messages: Box<[Message]>,
    pieces: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    family: Family,
    segmentation: Segmentation,
    blocked: bool,
    errors: VecDeque<(Transmit, TransmitError)>,
}

impl Outbox {
    /// For a socket of that family. `segmentation`: whether to try it at all.
    pub(super) fn new(family: Family, segmentation: bool) -> Self {
        // SAFETY: all zeros is a value of both C structures: null pointers and lengths of 0.
        let (header, piece) =
            unsafe { (std::mem::zeroed::<libc::mmsghdr>(), std::mem::zeroed::<libc::iovec>()) };
        let message = || Message { control: [0; ASKED_LEN], name: [0; NAME_LEN] };
        Self {
            frames: Region::new(FRAME_LEN, FRAME_COUNT),
            trains: vec![None; FRAME_COUNT].into(),
            first: 0,
            count: 0,
            first_sent: 0,
            waiting_len: 0,
            messages: std::iter::repeat_with(message).take(MESSAGES_MAX).collect(),
            pieces: vec![piece; MESSAGES_MAX].into(),
            headers: vec![header; MESSAGES_MAX].into(),
            family,
            segmentation: if segmentation { Segmentation::On } else { Segmentation::Off },
            blocked: false,
            errors: VecDeque::with_capacity(ERRORS_MAX),
        }
    }

    /// The frame for the next train; `None` while all wait for the kernel.
    pub(super) fn frame(&mut self) -> Option<&mut [u8]> {
        if self.count == FRAME_COUNT {
            return None;
        }
        let slot = (self.first + self.count) % FRAME_COUNT;
        // SAFETY: the kernel reads frames only within `send`, which has returned.
        Some(unsafe { self.frames.slot(slot) })
    }

    /// Queues what was written into the frame just lent. True: it is time to flush.
    pub(super) fn push(&mut self, transmit: &Transmit) -> bool {
        assert!(self.count < FRAME_COUNT, "a frame was lent before");
        assert!(transmit.len <= FRAME_LEN && transmit.segment_count() <= TRAIN_SEGMENTS_MAX);
        self.trains[(self.first + self.count) % FRAME_COUNT] = Some(*transmit);
        self.count += 1;
        self.waiting_len += transmit.len;
        !self.blocked && (self.waiting_len >= FLUSH_LEN || self.count == FRAME_COUNT)
    }

    /// Whether trains wait because the kernel takes no more: somebody must wait for the socket to be writable.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// What failed, oldest first.
    pub(super) fn poll_error(&mut self) -> Option<(Transmit, TransmitError)> {
        self.errors.pop_front()
    }

    /// Gives everything that waits to the kernel, as far as it takes it.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>, counters: &mut SocketCounters) {
        self.blocked = false;
        while self.count > 0 && !self.blocked {
            let messages = self.compose();
            match self.send(socket, messages) {
                Ok(sent) => self.advance(sent, counters),
                Err(error) => self.judge(&error, counters),
            }
        }
    }

    /// The foremost train; there is one.
    fn foremost(&self) -> Transmit {
        self.trains[self.first].expect("what is counted waits")
    }

    /// Writes messages for what waits, from the front; answers how many.
    fn compose(&mut self) -> usize {
        let mut used = 0;
        for place in 0..self.count {
            let slot = (self.first + place) % FRAME_COUNT;
            let transmit = self.trains[slot].expect("what is counted waits");
            let segmented = transmit.segment_count() > 1 && self.segmentation == Segmentation::On;
            let step = if segmented { transmit.len } else { transmit.segment_len };
            let mut start = if place == 0 { self.first_sent } else { 0 };
            loop {
                if used == MESSAGES_MAX {
                    return used;
                }
                let len = step.min(transmit.len - start);
                self.compose_one(used, &transmit, segmented, (slot, start, len));
                used += 1;
                start += len;
                if start >= transmit.len {
                    break;
                }
            }
        }
        used
    }

    /// Writes one message: `len` bytes of the frame `slot` from `start`.
    fn compose_one(
        &mut self,
        index: usize,
        transmit: &Transmit,
        segmented: bool,
        (slot, start, len): (usize, usize, usize),
    ) {
        let message = &mut self.messages[index];
        let name_len = encode(transmit.remote, self.family, &mut message.name);
        let control_len = write(transmit, segmented, &mut message.control);
        let frame = self.frames.at(slot);
        assert!(start + len <= FRAME_LEN);
        // SAFETY: within the frame, as just asserted.
        let base = unsafe { frame.add(start) };
        self.pieces[index] = libc::iovec { iov_base: base.cast(), iov_len: len };
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = message.name.as_mut_ptr().cast();
        header.msg_namelen = name_len as libc::socklen_t;
        header.msg_iov = &raw mut self.pieces[index];
        header.msg_iovlen = 1;
        header.msg_control =
            if control_len == 0 { ptr::null_mut() } else { message.control.as_mut_ptr().cast() };
        header.msg_controllen = control_len as _;
    }

    /// Sends the first so many messages; answers how many went.
    fn send(&mut self, socket: BorrowedFd<'_>, messages: usize) -> io::Result<usize> {
        let (fd, headers) = (socket.as_raw_fd(), self.headers[..messages].as_mut_ptr());
        // SAFETY: `compose` has filled that many headers with pointers into boxes and frames that outlive the call.
        let sent = unsafe { libc::sendmmsg(fd, headers, messages as libc::c_uint, libc::MSG_DONTWAIT as _) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// The kernel has the first so many of the messages just composed.
    fn advance(&mut self, sent: usize, counters: &mut SocketCounters) {
        if self.segmentation == Segmentation::Trying && sent > 0 {
            self.segmentation = Segmentation::Off;
            self.report(self.foremost(), TransmitError::SegmentationRefused, counters);
        }
        for index in 0..sent {
            let train = self.foremost();
            self.first_sent += self.pieces[index].iov_len;
            if self.first_sent < train.len {
                continue;
            }
            counters.sent.count(train.segment_count(), train.len);
            let apart = train.segment_count() > 1 && self.segmentation != Segmentation::On;
            counters.sent_unsegmented += u64::from(apart);
            self.retire();
        }
    }

    /// The foremost message was refused.
    fn judge(&mut self, error: &io::Error, counters: &mut SocketCounters) {
        let code = error.raw_os_error().unwrap_or_default();
        let segmented = self.segmentation == Segmentation::On && self.foremost().segment_count() > 1;
        match code {
            libc::EINTR => {}
            libc::EAGAIN => {
                self.blocked = true;
                counters.send_blocked += 1;
            }
            libc::EIO | libc::EINVAL if segmented => self.segmentation = Segmentation::Trying,
            _ => {
                if self.segmentation == Segmentation::Trying {
                    // Not even its datagrams go: it was not segmentation that was refused.
                    self.segmentation = Segmentation::On;
                }
                counters.send_errors += 1;
                self.report(self.foremost(), reason(code), counters);
                self.retire();
            }
        }
    }

    fn report(&mut self, train: Transmit, error: TransmitError, counters: &mut SocketCounters) {
        if self.errors.len() == ERRORS_MAX {
            counters.send_errors_forgotten += 1;
            return;
        }
        self.errors.push_back((train, error));
    }

    /// Takes the foremost train off.
    fn retire(&mut self) {
        let train = self.trains[self.first].take().expect("what is counted waits");
        self.waiting_len -= train.len;
        self.first_sent = 0;
        self.count -= 1;
        self.first = if self.count == 0 { 0 } else { (self.first + 1) % FRAME_COUNT };
    }
}

fn reason(code: libc::c_int) -> TransmitError {
    match code {
        libc::EMSGSIZE => TransmitError::TooLong,
        libc::ECONNREFUSED | libc::ECONNRESET => TransmitError::Refused,
        libc::ENOBUFS | libc::ENOMEM => TransmitError::NoBuffers,
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN | libc::EADDRNOTAVAIL => {
            TransmitError::Unreachable
        }
        _ => TransmitError::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd;

    use dunlin_shards::route::{Ecn, SocketIndex};

    use super::*;

    struct World {
        sender: UdpSocket,
        receiver: UdpSocket,
        outbox: Outbox,
        counters: SocketCounters,
    }

    fn world(segmentation: bool) -> World {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let outbox = Outbox::new(Family::V4, segmentation);
        World { sender: bind(), receiver: bind(), outbox, counters: SocketCounters::default() }
    }

    impl World {
        /// Queues a train of so many bytes whose datagrams have 1,000 each and begin with their number.
        fn push(&mut self, remote: SocketAddr, len: usize) {
            let frame = self.outbox.frame().unwrap();
            for (number, datagram) in frame[..len].chunks_mut(1_000).enumerate() {
                datagram[0] = number as u8;
            }
            let (socket, ecn) = (SocketIndex(0), Ecn::NotEct);
            let segment_len = 1_000;
            self.outbox.push(&Transmit { local: None, remote, socket, ecn, len, segment_len });
        }

        fn flush(&mut self) {
            self.outbox.flush(self.sender.as_fd(), &mut self.counters);
        }

        /// Lengths and numbers of the datagrams that have come.
        fn arrived(&self) -> Vec<(usize, u8)> {
            self.receiver.set_nonblocking(true).unwrap();
            let mut datagram = [0; 2_000];
            std::iter::from_fn(|| self.receiver.recv(&mut datagram).ok().map(|len| (len, datagram[0])))
                .collect()
        }
    }

    const TRAIN: [(usize, u8); 4] = [(1_000, 0), (1_000, 1), (1_000, 2), (500, 3)];

    #[test]
    fn a_train_is_cut_by_the_kernel_or_by_us() {
        for segmentation in [true, false] {
            let mut world = world(segmentation);
            world.push(world.receiver.local_addr().unwrap(), 3_500);
            world.flush();
            assert_eq!(world.arrived(), TRAIN);
            assert_eq!(world.counters.sent_unsegmented, u64::from(!segmentation));
            assert_eq!((world.counters.sent.datagrams, world.outbox.count), (4, 0));
        }
    }

    /// Without checksums the kernel refuses to segment (EINVAL), as it does for links that cannot.
    #[test]
    fn refused_segmentation_costs_no_datagram() {
        let mut world = world(true);
        switch_checksums_off(&world.sender);
        let remote = world.receiver.local_addr().unwrap();
        world.push(remote, 3_500);
        world.push(remote, 2_000);
        world.flush();
        assert_eq!(world.arrived(), [&TRAIN[..], &TRAIN[..2]].concat());
        let (_, error) = world.outbox.poll_error().unwrap();
        assert_eq!(error, TransmitError::SegmentationRefused);
        assert_eq!(world.outbox.poll_error(), None);
        assert_eq!(world.outbox.segmentation, Segmentation::Off);
    }

    /// Net 0 has no route, and a refused train does not stand in the way of the next.
    #[test]
    fn an_error_touches_its_own_train_only() {
        let mut world = world(true);
        let remote = world.receiver.local_addr().unwrap();
        world.push(remote, 1_000);
        world.push("255.255.255.255:9".parse().unwrap(), 1_000);
        world.push(remote, 3_500);
        world.flush();
        assert_eq!(world.arrived(), [&[(1_000, 0)], &TRAIN[..]].concat());
        let (transmit, error) = world.outbox.poll_error().unwrap();
        assert_eq!(transmit.remote, "255.255.255.255:9".parse().unwrap());
        assert!(matches!(error, TransmitError::Other | TransmitError::Unreachable), "{error}");
        assert_eq!(world.counters.send_errors, 1);
    }

    #[test]
    fn a_datagram_too_long_is_said_to_be_so() {
        let mut world = world(true);
        let remote = world.receiver.local_addr().unwrap();
        world.outbox.frame().unwrap();
        let (socket, ecn) = (SocketIndex(0), Ecn::NotEct);
        world.outbox.push(&Transmit {
            local: None,
            remote,
            socket,
            ecn,
            len: FRAME_LEN,
            segment_len: FRAME_LEN,
        });
        world.flush();
        assert_eq!(world.outbox.poll_error().map(|(_, error)| error), Some(TransmitError::TooLong));
        assert_eq!(world.outbox.segmentation, Segmentation::On);
    }

    #[test]
    fn frames_run_out_and_come_back() {
        let mut world = world(true);
        let remote = world.receiver.local_addr().unwrap();
        for _ in 0..FRAME_COUNT {
            world.push(remote, 1_000);
        }
        assert!(world.outbox.frame().is_none());
        world.flush();
        assert!(world.outbox.frame().is_some());
        assert_eq!(world.arrived().len(), FRAME_COUNT);
    }

    fn switch_checksums_off(socket: &UdpSocket) {
        let on: libc::c_int = 1;
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_NO_CHECK);
        // SAFETY: the value outlives the call, and the length is its own.
        let code =
            unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), len) };
        assert_eq!(code, 0);
    }
}
