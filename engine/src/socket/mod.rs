//! Sockets that move trains: one trait, two back ends.
//!
//! In:    a bound socket from [`group::Group`], trains written into frames.
//! Out:   trains as they came in, to be opened in place; the one `wait` of a core's loop.
//! Holds: no allocation, lock or system call per datagram; a train costs one system call at most.
//!
//! `uring` ([`uring::UringSocket`]): an io_uring of the core's own with one multishot receive over provided buffers,
//! awaited through glommio. `mmsg` ([`mmsg::MmsgSocket`]): recvmmsg(2) and ppoll(2), for hosts that forbid io_uring.
//! Both send by sendmmsg(2): measured on the development machine, it costs a core 4.6 us for a full train and 2.7 us for a
//! lone datagram where an entry for SENDMSG costs 5.0 and 3.1, and a frame is free as soon as the call returns.

mod address;
mod alarm;
mod control;
mod counters;
mod doorbell;
pub mod group;
pub mod mmsg;
mod options;
mod outbox;
pub mod plain;
pub mod probe;
mod region;
mod steering;
#[cfg(test)]
mod tests;
pub mod uring;

use std::net::SocketAddr;

use dunlin_shards::route::{Arrival, Transmit, TransmitError};
use dunlin_shards::time::Instant;

pub use counters::{SocketCounters, TrainSizes};
pub use doorbell::Doorbell;
pub use options::KernelBuffers;

/// A core's socket. The loop that drives one:
///
/// `receive` until it answers 0, look at the mail, send (`frame`, `transmit`, …, `flush`), `poll_error`, `wait`.
pub trait Socket {
    /// The address that it is bound to.
    fn local_addr(&self) -> SocketAddr;

    /// Hands every train that waits to `sink`, its bytes to be opened in place, up to a batch; answers how many.
    /// Never blocks. The kernel's errors are counted; the socket goes on.
    fn receive(&mut self, sink: impl FnMut(&Arrival, &mut [u8])) -> usize;

    /// The frame to write the next train into, [`FRAME_LEN`](dunlin_shards::route::FRAME_LEN) bytes that hold whatever
    /// was there before. `None`: the kernel takes no more for now; `wait` returns when it does.
    fn frame(&mut self) -> Option<&mut [u8]>;

    /// Queues what was written into the frame just lent; large trains leave at once.
    ///
    /// # Panics
    ///
    /// When no frame was lent, or the train is longer than one or has more than
    /// [`TRAIN_SEGMENTS_MAX`](dunlin_shards::route::TRAIN_SEGMENTS_MAX) datagrams.
    fn transmit(&mut self, transmit: &Transmit);

    /// Gives what is queued to the kernel. What the kernel does not take now stays queued.
    fn flush(&mut self);

    /// A train that was not sent, or not as it was meant to be; oldest first.
    fn poll_error(&mut self) -> Option<(Transmit, TransmitError)>;

    /// Sleeps until there may be something to do: a train, the doorbell, room to send, the deadline (`None`: never).
    /// Returns at once when there is already, or when the deadline has passed. A return is a hint: look everywhere.
    /// The only await of a core's loop. The future must be run to its end.
    fn wait(&mut self, deadline: Option<Instant>) -> impl Future<Output = ()>;

    /// What wakes this core from another thread.
    fn doorbell(&self) -> &Doorbell;

    /// What was counted so far.
    fn counters(&self) -> &SocketCounters;
}
