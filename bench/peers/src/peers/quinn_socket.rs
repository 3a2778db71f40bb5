//! quinn's own socket with trains that the kernel takes.
//!
//! In:    the socket that quinn makes, the length of datagrams.
//! Out:   the same socket, its trains cut to what one send may carry.
//! Holds: nothing but the length of trains differs.
//!
//! quinn sends up to ten datagrams at once. Ten of 8,900 bytes are more than a send takes (65,507): the kernel refuses them, quinn
//! takes that for a probe of the path that was too long, and everything is lost again and again (0.04 Gbit/s).

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

/// Bytes of UDP payload that one send takes.
const TRAIN_LEN_MAX: usize = 65_507;

/// A socket with shorter trains.
pub(super) struct Trained {
    inner: Arc<dyn AsyncUdpSocket>,
    segments_max: usize,
}

impl Trained {
    pub(super) fn new(socket: UdpSocket, datagram_len: u16) -> io::Result<Arc<Self>> {
        let inner = TokioRuntime.wrap_udp_socket(socket)?;
        let segments_max = inner.max_transmit_segments().min(TRAIN_LEN_MAX / usize::from(datagram_len));
        Ok(Arc::new(Self { inner, segments_max }))
    }
}

impl fmt::Debug for Trained {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} in trains of {}", self.inner, self.segments_max)
    }
}

impl AsyncUdpSocket for Trained {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.segments_max
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
