//! Socket options that no crate at hand sets safely.
//!
//! In:    a UDP socket.
//! Out:   the same, ready for trains: offload, destination and mark told, no fragments, large buffers.
//! Holds: what the kernel does not know is left out when a socket works without it.
//!
//! IP_RECVERR stays off: with it, any ICMP message about any peer, forged ones among them, fails the next call for every
//! other peer and ends the `uring` receive request. Without it, a socket that is not connected hears of none.
#![expect(unsafe_code, reason = "setsockopt")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::address::Family;

/// Bytes that the kernel may keep for us in each direction, as far as it allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KernelBuffers {
    /// Bytes of received datagrams and of their bookkeeping.
    pub receive_len: usize,
    /// Bytes on their way out.
    pub send_len: usize,
    /// Whether datagrams that came in one behind the other may be joined into one train (UDP_GRO).
    pub joining: bool,
}

impl Default for KernelBuffers {
    /// 8 MiB each: about a hundred full trains.
    fn default() -> Self {
        Self { receive_len: 8 << 20, send_len: 8 << 20, joining: true }
    }
}

/// Sets everything that a datagram socket of ours has.
pub(super) fn prepare(socket: BorrowedFd<'_>, family: Family, buffers: KernelBuffers) -> io::Result<()> {
    set_flag(socket, libc::SOL_IP, libc::IP_PKTINFO)?;
    set_flag(socket, libc::SOL_IP, libc::IP_RECVTOS)?;
    set(socket, libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    if family == Family::V6 {
        set_flag(socket, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO)?;
        set_flag(socket, libc::SOL_IPV6, libc::IPV6_RECVTCLASS)?;
        set(socket, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
    }
    // Kernels before 5.0 merge nothing: every datagram is then a train of one.
    if buffers.joining {
        let _ = set_flag(socket, libc::SOL_UDP, libc::UDP_GRO);
    }
    let _ = set_flag(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL);
    let (receive, send) = (clamp(buffers.receive_len), clamp(buffers.send_len));
    set_forced(socket, [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF], receive)?;
    set_forced(socket, [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF], send)
}

/// The kernel doubles the value and keeps it in an int.
fn clamp(len: usize) -> libc::c_int {
    libc::c_int::try_from(len).unwrap_or(libc::c_int::MAX / 2).min(libc::c_int::MAX / 2)
}

/// The first option needs a privilege; the second is cut to the host's limit.
fn set_forced(socket: BorrowedFd<'_>, options: [libc::c_int; 2], value: libc::c_int) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, options[0], value)
        .or_else(|_| set(socket, libc::SOL_SOCKET, options[1], value))
}

fn set_flag(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    set(socket, level, option, 1)
}

fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value outlives the call, and the length is its own.
    let code = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), len) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Attaches a classic BPF program that picks the socket of a group. Each instruction is (code, if true, if false, k).
pub(super) fn attach_steering(socket: impl AsFd, program: &[(u16, u8, u8, u32)]) -> io::Result<()> {
    let mut filter: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(filter.len()).expect("the program is short");
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    let len = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
    // SAFETY: the program and its instructions outlive the call; the kernel copies and checks them.
    let code = unsafe { libc::setsockopt(fd, level, option, (&raw const program).cast(), len) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
