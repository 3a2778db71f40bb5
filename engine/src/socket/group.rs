//! The group: one UDP port, one socket per shard, and the kernel told which datagram goes to which.
//!
//! In:    an address, a [`Placement`], options.
//! Out:   bound sockets in the order of their shards, each with its doorbell, to be opened by a back end on its core.
//! Holds: the port is ours alone: a second node on it is refused, though the kernel would let it join.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use dunlin_shards::placement::Placement;
use dunlin_shards::route::SocketIndex;
use socket2::{Domain, Protocol, SockAddr, Type};

use super::address::Family;
use super::options::{self, KernelBuffers};
use super::{Doorbell, steering};

/// How sockets are set up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GroupOptions {
    /// What the kernel may keep for each.
    pub buffers: KernelBuffers,
    /// Whether to have the kernel cut trains. Off only for tests and for links known to refuse it.
    pub segmentation: bool,
    /// Whether to attach the steering program. Off only for tests of what happens without it.
    pub steering: bool,
}

impl Default for GroupOptions {
    /// Everything on.
    fn default() -> Self {
        Self { buffers: KernelBuffers::default(), segmentation: true, steering: true }
    }
}

/// Why a port could not be had. Nothing is left bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process, or another node in this one, has the port. The operator's to resolve.
    #[error("another process has the UDP port of {address}")]
    InUse {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The kernel refused something else, such as a family or an address that the host does not have.
    #[error("cannot {step} for {address}: {source}")]
    Io {
        /// What was asked for.
        address: SocketAddr,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Who decides which socket of the group a datagram goes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Steering {
    /// There is only one.
    OneSocket,
    /// Our program, which agrees with [`Placement::of_datagram`].
    Program,
    /// The kernel's own hash, as the program could not be attached or was not wanted: why.
    Kernel(String),
}

/// A bound socket on its way to its core.
#[derive(Debug)]
pub struct Bound {
    pub(super) fd: OwnedFd,
    pub(super) address: SocketAddr,
    pub(super) index: SocketIndex,
    pub(super) doorbell: Doorbell,
    pub(super) segmentation: bool,
}

impl Bound {
    /// What will wake its core.
    #[must_use]
    pub const fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    pub(super) const fn family(&self) -> Family {
        Family::of(self.address)
    }
}

/// The sockets of one port.
#[derive(Debug)]
pub struct Group {
    address: SocketAddr,
    steering: Steering,
    sockets: Vec<Bound>,
}

impl Group {
    /// Binds as many sockets as there are shards. Port 0 is any free one; `[::]` takes IPv4 as well.
    ///
    /// # Errors
    ///
    /// [`BindError::InUse`] when somebody has the port, [`BindError::Io`] for the rest.
    pub fn bind(
        address: SocketAddr,
        placement: &Placement,
        options: &GroupOptions,
    ) -> Result<Self, BindError> {
        let failed = |step, source| BindError::Io { address, step, source };
        // Alone first, without SO_REUSEPORT: that fails when anybody has the port, even with SO_REUSEPORT. Once
        // we have it, the option lets our own others in.
        let first = open(address, options).map_err(|source| failed("open a socket", source))?;
        first.bind(&SockAddr::from(address)).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address },
            _ => failed("bind", source),
        })?;
        first.set_reuse_port(true).map_err(|source| failed("share the port", source))?;
        let bound = first.local_addr().map_err(|source| failed("read the port", source))?;
        let bound = bound.as_socket().expect("a UDP socket has an IP address");

        let mut all = vec![first];
        for _ in 1..placement.shard_count() {
            let socket = open(address, options).map_err(|source| failed("open a socket", source))?;
            socket.set_reuse_port(true).map_err(|source| failed("share the port", source))?;
            socket.bind(&SockAddr::from(bound)).map_err(|source| failed("bind", source))?;
            all.push(socket);
        }
        let steering = attach(&all[0], placement, options);
        let sockets = all.into_iter().map(|socket| lend(socket, bound, options)).collect::<io::Result<_>>();
        let sockets = sockets.map_err(|source| failed("make a doorbell", source))?;
        Ok(Self { address: bound, steering, sockets })
    }

    /// The address with the port that was bound.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Who decides where a datagram lands; worth a line in the log.
    #[must_use]
    pub const fn steering(&self) -> &Steering {
        &self.steering
    }

    /// What wakes each core, in the order of the shards.
    #[must_use]
    pub fn doorbells(&self) -> Vec<Doorbell> {
        self.sockets.iter().map(|socket| socket.doorbell.clone()).collect()
    }

    /// The sockets in the order of the shards, to be opened by a back end each on its core.
    #[must_use]
    pub fn into_sockets(self) -> Vec<Bound> {
        self.sockets
    }
}

fn open(address: SocketAddr, options: &GroupOptions) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    options::prepare(socket.as_fd(), Family::of(address), options.buffers)?;
    Ok(socket)
}

/// After the last bind: the kernel counts sockets in the order in which they joined.
fn attach(first: &socket2::Socket, placement: &Placement, options: &GroupOptions) -> Steering {
    if placement.shard_count() == 1 {
        return Steering::OneSocket;
    }
    if !options.steering {
        return Steering::Kernel("not wanted".into());
    }
    match options::attach_steering(first, &steering::program(placement)) {
        Ok(()) => Steering::Program,
        Err(error) => Steering::Kernel(error.to_string()),
    }
}

fn lend(socket: socket2::Socket, address: SocketAddr, options: &GroupOptions) -> io::Result<Bound> {
    Ok(Bound {
        fd: socket.into(),
        address,
        index: SocketIndex(0),
        doorbell: Doorbell::new()?,
        segmentation: options.segmentation,
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use dunlin_shards::placement::PlacementSeeds;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::net::{RecvFlags, recv};

    use super::*;

    fn placement(shards: usize) -> Placement {
        Placement::new(shards, PlacementSeeds { steering: 0x1234_5678, keys: [0; 2] })
    }

    fn group(address: &str, shards: usize) -> Group {
        Group::bind(address.parse().unwrap(), &placement(shards), &GroupOptions::default()).unwrap()
    }

    #[test]
    fn a_second_node_is_refused() {
        for shards in [1, 4] {
            let first = group("127.0.0.1:0", shards);
            let second = Group::bind(first.local_addr(), &placement(shards), &GroupOptions::default());
            assert!(matches!(second, Err(BindError::InUse { address }) if address == first.local_addr()));
        }
    }

    #[test]
    fn an_address_that_is_not_ours_is_another_error() {
        let address = "192.0.2.1:0".parse().unwrap();
        let error = Group::bind(address, &placement(1), &GroupOptions::default()).unwrap_err();
        assert!(matches!(error, BindError::Io { step: "bind", .. }), "{error}");
    }

    /// Which socket got the one datagram that was just sent.
    fn who_got(sockets: &[Bound], expected: &[u8]) -> usize {
        let mut polled: Vec<_> =
            sockets.iter().map(|socket| PollFd::new(&socket.fd, PollFlags::IN)).collect();
        poll(&mut polled, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })).unwrap();
        let ready =
            polled.iter().position(|polled| !polled.revents().is_empty()).expect("loopback loses nothing");
        let mut bytes = [0; 64];
        let (got, _) = recv(&sockets[ready].fd, &mut bytes[..], RecvFlags::DONTWAIT).unwrap();
        assert_eq!(&bytes[..got], expected);
        ready
    }

    /// One sender per address and port; a handful of datagrams of every kind from each.
    fn compare(sockets: &[Bound], to: SocketAddr, senders: impl Iterator<Item = SocketAddr>) {
        let placement = placement(sockets.len());
        for (n, from) in senders.enumerate() {
            let sender = UdpSocket::bind(from).unwrap();
            let from = sender.local_addr().unwrap();
            let session = 0x8000_0000u32 | ((n as u32).wrapping_mul(0x0101_0101) & 0x7fff_ffff);
            let kinds: [&[u8]; 4] = [b"d1:q4:ping", &[1, 1, 0, 0, 0], &session.to_be_bytes(), &[0xff, 0, 0]];
            let kind = kinds[n % kinds.len()];
            sender.send_to(kind, to).unwrap();
            let expected = placement.of_datagram(from, kind);
            assert_eq!(who_got(sockets, kind), usize::from(expected.0), "{from} {kind:?}");
        }
    }

    fn is_steered(group: &Group) -> bool {
        let steered = *group.steering() == Steering::Program;
        if !steered {
            println!("SKIPPED steering: the kernel's choice: {:?}", group.steering());
        }
        steered
    }

    #[test]
    fn the_kernel_chooses_as_placement_does_for_ipv4() {
        let group = group("0.0.0.0:0", 7);
        if !is_steered(&group) {
            return;
        }
        let to = SocketAddr::from(([127, 0, 0, 1], group.local_addr().port()));
        let senders = (0..4_096u32).map(|n| SocketAddr::from(((0x7f01_0000 + n * 13).to_be_bytes(), 0)));
        compare(&group.into_sockets(), to, senders);
    }

    #[test]
    fn the_kernel_chooses_as_placement_does_for_both_families_on_one_socket() {
        let Ok(group) = Group::bind("[::]:0".parse().unwrap(), &placement(5), &GroupOptions::default())
        else {
            println!("SKIPPED ipv6: steering: the host has none");
            return;
        };
        if !is_steered(&group) {
            return;
        }
        let port = group.local_addr().port();
        let sockets = group.into_sockets();
        // The host has one IPv6 loopback address; the ports vary.
        let senders = (0..4_096).map(|_| "[::1]:0".parse().unwrap());
        compare(&sockets, SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)), senders);
        let senders = (0..256u32).map(|n| SocketAddr::from(((0x7f01_0000 + n * 13).to_be_bytes(), 0)));
        compare(&sockets, SocketAddr::from(([127, 0, 0, 1], port)), senders);
    }

    /// Without the program every datagram still arrives, wherever.
    #[test]
    fn without_steering_the_kernel_decides() {
        let options = GroupOptions { steering: false, ..GroupOptions::default() };
        let group = Group::bind("127.0.0.1:0".parse().unwrap(), &placement(3), &options).unwrap();
        assert!(matches!(group.steering(), Steering::Kernel(_)));
        let to = group.local_addr();
        let sockets = group.into_sockets();
        for _ in 0..64 {
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", to).unwrap();
            who_got(&sockets, b"hello");
        }
    }
}
