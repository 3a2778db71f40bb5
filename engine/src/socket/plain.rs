//! A blocking UDP socket with offload in both directions, one system call per train and nothing else.
//!
//! In:    `send` and `receive`, each a train.
//! Out:   the same.
//! Holds: nothing.
//!
//! What the back ends are measured against (`bench`, `ceilings`), and the stranger that their tests talk to.
#![expect(unsafe_code, reason = "sendmsg and recvmsg")]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use dunlin_shards::route::{Arrival, SocketIndex, Transmit};

use super::address::{Family, NAME_LEN, decode, encode};
use super::control::{self, ASKED_LEN, TOLD_LEN};
use super::options::{self, KernelBuffers};

/// The socket.
#[derive(Debug)]
pub struct PlainSocket {
    socket: UdpSocket,
    family: Family,
}

#[repr(C, align(8))]
struct Room<const N: usize>([u8; N]);

impl PlainSocket {
    /// Binds it; port 0 is any free one.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn bind(address: SocketAddr, buffers: KernelBuffers) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let family = Family::of(address);
        options::prepare(socket.as_fd(), family, buffers)?;
        Ok(Self { socket, family })
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Whether calls return at once when there is nothing to do.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    /// Sends the first `transmit.len` bytes as one train.
    ///
    /// # Errors
    ///
    /// What the kernel says; nothing was sent.
    ///
    /// # Panics
    ///
    /// When `bytes` are fewer.
    pub fn send(&self, transmit: &Transmit, bytes: &[u8]) -> io::Result<()> {
        let (mut name, mut room) = ([0; NAME_LEN], Room([0; ASKED_LEN]));
        let name_len = encode(transmit.remote, self.family, &mut name);
        let control_len = control::write(transmit, transmit.segment_count() > 1, &mut room.0);
        let mut piece = piece(bytes[..transmit.len].as_ptr().cast_mut(), transmit.len);
        let mut header = header(&mut name, &mut piece, &mut room.0);
        header.msg_namelen = name_len as libc::socklen_t;
        header.msg_controllen = control_len as _;
        // SAFETY: all that the header points to outlives the call, with the lengths given; the kernel only reads.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const header, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes one train in; answers what is known about it and its length in bytes.
    ///
    /// # Errors
    ///
    /// What the kernel says, `WouldBlock` among it.
    pub fn receive(&self, bytes: &mut [u8]) -> io::Result<(Arrival, usize)> {
        let (mut name, mut room) = ([0; NAME_LEN], Room([0; TOLD_LEN]));
        let mut piece = piece(bytes.as_mut_ptr(), bytes.len());
        let mut header = header(&mut name, &mut piece, &mut room.0);
        // SAFETY: all that the header points to outlives the call, with the lengths given, and is ours to be written.
        let len = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, 0) };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        let told = control::read(&room.0[..header.msg_controllen.min(TOLD_LEN)]);
        let remote = decode(&name[..(header.msg_namelen as usize).min(NAME_LEN)])
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let segment_len = told.segment_len.unwrap_or(len).max(1);
        let arrival =
            Arrival { local: told.local, remote, socket: SocketIndex(0), ecn: told.ecn, segment_len };
        Ok((arrival, len))
    }
}

fn piece(start: *mut u8, len: usize) -> libc::iovec {
    libc::iovec { iov_base: start.cast(), iov_len: len }
}

fn header(name: &mut [u8], piece: &mut libc::iovec, control: &mut [u8]) -> libc::msghdr {
    libc::msghdr {
        msg_name: name.as_mut_ptr().cast(),
        msg_namelen: name.len() as libc::socklen_t,
        msg_iov: ptr::from_mut(piece),
        msg_iovlen: 1,
        msg_control: control.as_mut_ptr().cast(),
        msg_controllen: control.len() as _,
        msg_flags: 0,
    }
}
