//! The yardstick: a blocking socket with offload and nothing around it, in the shape of the back ends.
//!
//! In:    a [`PlainSocket`].
//! Out:   a [`Socket`]: `receive` blocks or not, as wanted, `transmit` sends at once, `wait` does nothing.
//! Holds: one system call per train and not an instruction more than that needs.

use std::io;
use std::net::SocketAddr;

use dunlin::socket::plain::PlainSocket;
use dunlin::socket::{Doorbell, KernelBuffers, Socket, SocketCounters};
use dunlin_shards::route::{Arrival, FRAME_LEN, Transmit, TransmitError};
use dunlin_shards::time::Instant;

/// A socket driven by single calls.
pub struct RawSocket {
    socket: PlainSocket,
    address: SocketAddr,
    doorbell: Doorbell,
    counters: SocketCounters,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl RawSocket {
    /// Binds it to any port of loopback. `spinning`: `receive` answers 0 instead of blocking.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn bind(spinning: bool, buffers: KernelBuffers) -> io::Result<Self> {
        let socket = PlainSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)), buffers)?;
        socket.set_nonblocking(spinning)?;
        Ok(Self {
            address: socket.local_addr()?,
            socket,
            doorbell: Doorbell::new()?,
            counters: SocketCounters::default(),
            incoming: vec![0; FRAME_LEN],
            outgoing: vec![0; FRAME_LEN],
        })
    }
}

impl Socket for RawSocket {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn receive(&mut self, mut sink: impl FnMut(&Arrival, &mut [u8])) -> usize {
        let Ok((arrival, len)) = self.socket.receive(&mut self.incoming) else { return 0 };
        sink(&arrival, &mut self.incoming[..len]);
        1
    }

    fn frame(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.outgoing)
    }

    fn transmit(&mut self, transmit: &Transmit) {
        if self.socket.send(transmit, &self.outgoing).is_err() {
            self.counters.send_errors += 1;
        }
    }

    fn flush(&mut self) {}

    fn poll_error(&mut self) -> Option<(Transmit, TransmitError)> {
        None
    }

    async fn wait(&mut self, _: Option<Instant>) {}

    fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    fn counters(&self) -> &SocketCounters {
        &self.counters
    }
}
