//! The core's own ring: set up, restricted, with one multishot receive over provided buffers.
//!
//! In:    a socket and a doorbell, on the thread that will drive them.
//! Out:   completions; trains in buffers, each to be given back.
//! Holds: the kernel writes only into buffers that were given to it and not yet completed, and memory is freed only after
//!        it has said that it is done.
//!
//! Once enabled the ring takes only the operations listed here (limits.md, T28): whoever gets to write its entries
//! can neither open nor run anything.
#![expect(unsafe_code, reason = "io_uring")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering, fence};
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::types::{BufRingEntry, Fd, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use super::super::region::Region;

/// Entries waiting for submission: far more than the handful in use.
const ENTRIES: u32 = 64;
/// Completions that may wait: every buffer, and everything else.
const COMPLETIONS: u32 = 4 * ENTRIES;
/// Buffers for trains.
pub(super) const BUFFER_COUNT: u16 = 64;
/// Bytes of one: the longest train, and what the kernel writes in front of it.
const BUFFER_LEN: usize = 65_536 + 512;
/// The only group of buffers.
const GROUP: u16 = 0;

const _: () = assert!(BUFFER_COUNT.is_power_of_two() && (BUFFER_COUNT as u32) < COMPLETIONS);

/// Which request a completion belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub(super) enum Token {
    Receive = 1,
    Deadline,
    DeadlineMoved,
    Writable,
    Cancel,
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    token: u64,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    pub(super) const fn is(&self, token: Token) -> bool {
        self.token == token as u64
    }

    /// Whether the request goes on.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The buffer that it filled, if any.
    pub(super) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// The ring, and the memory that the kernel knows through it.
pub(super) struct Ring {
    ring: IoUring,
    socket: RawFd,
    /// One `io_uring_buf` per buffer, then what `given` counts, told to the kernel.
    entries: Region,
    buffers: Option<Region>,
    /// Buffers given to the kernel so far, modulo 2^16.
    given: u16,
    template: Box<libc::msghdr>,
    deadline: Box<Timespec>,
    /// The receive request is with the kernel.
    receiving: bool,
    /// The kernel may signal the eventfd.
    signals: bool,
}

impl Ring {
    /// Sets it up and enables it for this thread alone. `template`: lengths of name and control data.
    pub(super) fn new(
        socket: BorrowedFd<'_>,
        event: BorrowedFd<'_>,
        template: libc::msghdr,
    ) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)?;
        let entries = Region::new(usize::from(BUFFER_COUNT) * size_of::<BufRingEntry>(), 1);
        let buffers = Region::new(BUFFER_LEN, usize::from(BUFFER_COUNT));
        // SAFETY: `Drop` keeps the entries until the ring is gone.
        unsafe {
            let start = entries.at(0) as u64;
            ring.submitter().register_buf_ring_with_flags(start, BUFFER_COUNT, GROUP, 0)?;
        }
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        ring.submitter().register_restrictions(&mut allowed())?;
        ring.submitter().register_enable_rings()?;
        let mut ring = Self {
            ring,
            socket: socket.as_raw_fd(),
            entries,
            buffers: Some(buffers),
            given: 0,
            template: Box::new(template),
            deadline: Box::new(Timespec::new()),
            receiving: false,
            signals: true,
        };
        for buffer in 0..BUFFER_COUNT {
            ring.give_back(buffer);
        }
        ring.publish();
        ring.set_signals(false);
        Ok(ring)
    }

    /// Lets the kernel signal the eventfd, or not.
    pub(super) fn set_signals(&mut self, on: bool) {
        if self.signals == on {
            return;
        }
        self.signals = on;
        let completions = self.ring.completion();
        if on {
            completions.enable_eventfd()
        } else {
            completions.disable_eventfd()
        }
        // The kernel queues work and then looks whether to signal; we allow signals and then look for work.
        fence(Ordering::SeqCst);
    }

    /// Whether completions wait, or work that will make some.
    pub(super) fn has_work(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    /// Enters the kernel if there is a reason: entries to submit, work to be done, completions that found no room.
    /// Answers whether completions had found no room.
    pub(super) fn enter(&mut self) -> io::Result<bool> {
        let queue = self.ring.submission();
        let (overflowed, needed) = (queue.cq_overflow(), !queue.is_empty() || queue.taskrun());
        drop(queue);
        if needed || overflowed {
            self.ring.submit()?;
        }
        Ok(overflowed)
    }

    /// Takes completions off their queue.
    pub(super) fn completions<'a>(
        &mut self,
        out: &'a mut [MaybeUninit<cqueue::Entry>],
    ) -> impl Iterator<Item = Completion> + use<'a> {
        self.ring.completion().fill(out).iter().map(|entry| Completion {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        })
    }

    /// Asks for trains from now on. Answers false when that is under way already.
    pub(super) fn receive(&mut self) -> bool {
        if self.receiving {
            return false;
        }
        let template: *const libc::msghdr = &raw const *self.template;
        let entry = opcode::RecvMsgMulti::new(Fd(self.socket), template, GROUP).build();
        self.push(entry.user_data(Token::Receive as u64));
        self.receiving = true;
        true
    }

    /// The kernel has ended the receive request.
    pub(super) const fn receive_ended(&mut self) {
        self.receiving = false;
    }

    /// Asks for a completion at that time of CLOCK_BOOTTIME. `move_it`: one is under way, for another time.
    pub(super) fn arm_deadline(&mut self, at: Duration, move_it: bool) {
        *self.deadline = Timespec::new().sec(at.as_secs()).nsec(at.subsec_nanos());
        let time: *const Timespec = &raw const *self.deadline;
        let entry = if move_it {
            // The clock stays the one that the request was made with; naming it again is an error.
            opcode::TimeoutUpdate::new(Token::Deadline as u64, time)
                .flags(TimeoutFlags::ABS)
                .build()
                .flags(Flags::SKIP_SUCCESS)
                .user_data(Token::DeadlineMoved as u64)
        } else {
            let flags = TimeoutFlags::ABS | TimeoutFlags::BOOTTIME;
            opcode::Timeout::new(time).flags(flags).build().user_data(Token::Deadline as u64)
        };
        self.push(entry);
    }

    /// Asks for a completion when the socket takes more to send.
    pub(super) fn arm_writable(&mut self) {
        let entry = opcode::PollAdd::new(Fd(self.socket), libc::POLLOUT as u32).build();
        self.push(entry.user_data(Token::Writable as u64));
    }

    fn push(&mut self, entry: io_uring::squeue::Entry) {
        // SAFETY: what entries point to lies in boxes that live as long as the ring, or longer (`Drop`), and the
        // socket is kept open by whoever owns this.
        unsafe { self.ring.submission().push(&entry) }.expect("a handful of requests is under way at a time");
    }

    /// A buffer that a completion named.
    pub(super) fn buffer(&mut self, buffer: u16) -> &mut [u8] {
        let buffers = self.buffers.as_mut().expect("there until drop");
        // SAFETY: completed and not yet given back, so that it is ours.
        unsafe { buffers.slot(usize::from(buffer)) }
    }

    /// Lets the kernel have a buffer again, once `publish` is called.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let place = usize::from(self.given & (BUFFER_COUNT - 1));
        let at = self.buffers.as_ref().expect("there until drop").at(usize::from(buffer)) as u64;
        // SAFETY: the place lies within the entries, which the kernel only reads, up to what `publish` told it.
        unsafe {
            let entry = self.entries.at(0).cast::<BufRingEntry>().add(place);
            (*entry).set_addr(at);
            (*entry).set_len(BUFFER_LEN as u32);
            (*entry).set_bid(buffer);
        }
        self.given = self.given.wrapping_add(1);
    }

    /// Tells the kernel of all buffers given back.
    pub(super) fn publish(&mut self) {
        // SAFETY: the address of the count within the entries, aligned, shared with the kernel, hence atomic.
        let told = unsafe {
            let tail = BufRingEntry::tail(self.entries.at(0).cast::<BufRingEntry>());
            AtomicU16::from_ptr(tail.cast_mut())
        };
        told.store(self.given, Ordering::Release);
    }

    /// Ends the receive request and waits until the kernel has done so. False: it could not be had to.
    fn stop_receiving(&mut self) -> bool {
        let cancel = opcode::AsyncCancel::new(Token::Receive as u64).build();
        self.push(cancel.user_data(Token::Cancel as u64));
        let mut entries = [const { MaybeUninit::uninit() }; COMPLETIONS as usize];
        while self.receiving {
            if self.ring.submit_and_wait(1).is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
                return false;
            }
            let ended = self.completions(&mut entries).any(|done| done.is(Token::Receive) && !done.more());
            self.receiving &= !ended;
        }
        true
    }
}

/// What the ring may do once it is enabled.
fn allowed() -> Vec<Restriction> {
    let operations = [
        opcode::RecvMsg::CODE,
        opcode::SendMsg::CODE,
        opcode::SendZc::CODE,
        opcode::PollAdd::CODE,
        opcode::Timeout::CODE,
        opcode::TimeoutRemove::CODE,
        opcode::AsyncCancel::CODE,
        opcode::MsgRingData::CODE,
        opcode::Nop::CODE,
    ];
    let flags = Flags::BUFFER_SELECT | Flags::SKIP_SUCCESS;
    let operations = operations.into_iter().map(Restriction::sqe_op);
    operations.chain([Restriction::sqe_flags_allowed(flags.bits())]).collect()
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.receiving && !self.stop_receiving() {
            // The kernel may still write into the buffers: better lost than lent twice.
            std::mem::forget(self.buffers.take());
        }
    }
}

/// A message header that says only how long names and control data may be.
pub(super) fn template(name_len: usize, control_len: usize) -> libc::msghdr {
    libc::msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: name_len as libc::socklen_t,
        msg_iov: ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: ptr::null_mut(),
        msg_controllen: control_len as _,
        msg_flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::super::super::Doorbell;
    use super::*;

    fn ring(socket: &UdpSocket, doorbell: &Doorbell) -> Option<Ring> {
        match Ring::new(socket.as_fd(), doorbell.event(), template(32, 208)) {
            Ok(ring) => Some(ring),
            Err(error) => {
                println!("SKIPPED io_uring: the uring back end: {error}");
                None
            }
        }
    }

    /// A burst eats every buffer while nobody looks; the rest waits in the socket, and nothing is lost.
    #[test]
    fn exhausted_buffers_end_the_request_and_lose_nothing() {
        const DATAGRAMS: u32 = 200;
        let (socket, doorbell) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Doorbell::new().unwrap());
        let Some(mut ring) = ring(&socket, &doorbell) else { return };
        ring.receive();
        ring.enter().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..DATAGRAMS {
            sender.send_to(&number.to_be_bytes(), socket.local_addr().unwrap()).unwrap();
        }
        let mut entries = Box::<[cqueue::Entry]>::new_uninit_slice(COMPLETIONS as usize);
        let (mut numbers, mut ends) = (Vec::new(), Vec::new());
        while numbers.len() < DATAGRAMS as usize {
            while ring.ring.submission().taskrun() {
                ring.enter().unwrap();
            }
            for done in ring.completions(&mut entries) {
                if !done.more() {
                    ends.push(done.result);
                    ring.receive_ended();
                }
                let Some(buffer) = done.buffer() else { continue };
                let bytes = &ring.buffer(buffer)[..done.result as usize];
                numbers.push(u32::from_be_bytes(*bytes.last_chunk().unwrap()));
                ring.give_back(buffer);
            }
            ring.publish();
            if ring.receive() {
                ring.enter().unwrap();
            }
        }
        assert_eq!(numbers, (0..DATAGRAMS).collect::<Vec<_>>());
        assert!(!ends.is_empty() && ends.iter().all(|result| *result == -libc::ENOBUFS), "{ends:?}");
    }

    /// Opening a file is none of its business.
    #[test]
    fn what_is_not_on_the_list_is_refused() {
        let (socket, doorbell) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Doorbell::new().unwrap());
        let Some(mut ring) = ring(&socket, &doorbell) else { return };
        let open = opcode::OpenAt::new(Fd(libc::AT_FDCWD), c"/".as_ptr()).build().user_data(9);
        ring.push(open);
        ring.enter().unwrap();
        let mut entries = Box::<[cqueue::Entry]>::new_uninit_slice(8);
        let results: Vec<_> = ring.completions(&mut entries).map(|done| done.result).collect();
        assert_eq!(results, [-libc::EACCES]);
        let error = ring.ring.submitter().unregister_eventfd().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }

    /// Dropping it waits until the kernel has let go of the buffers, whatever is on its way.
    #[test]
    fn dropping_it_while_datagrams_come_is_sound() {
        let (socket, doorbell) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Doorbell::new().unwrap());
        for _ in 0..8 {
            let Some(mut ring) = ring(&socket, &doorbell) else { return };
            ring.receive();
            ring.enter().unwrap();
            socket.send_to(&[7; 1_000], socket.local_addr().unwrap()).unwrap();
            assert!(ring.stop_receiving());
        }
    }
}
