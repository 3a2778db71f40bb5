//! The thread of a bad link: sockets in, stages and lines between, sockets out.
//!
//! In:    datagrams on the listening socket and on one socket per client; orders from the proxy's owner.
//! Out:   datagrams; counts after each batch.
//! Holds: one thread owns all sockets; it sleeps in one epoll, to the nanosecond of the next arrival.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::net::sockopt;

use super::chance::Chance;
use super::line::Line;
use super::stage::{Arrived, Stage, Train};
use super::{Counts, Link, Stats};

/// A train that the kernel joined fits.
const BUFFER_LEN: usize = 1 << 16;
/// What the sockets ask for, so that only the link loses datagrams.
const SOCKET_BUFFER_LEN: usize = 16 << 20;
/// What epoll calls the listening socket and the doorbell; a client is called by its index.
const LISTENER: u64 = u64::MAX;
const DOORBELL: u64 = u64::MAX - 1;

/// What the proxy's owner wants, and what it may know.
#[derive(Debug)]
pub(super) struct Orders {
    doorbell: OwnedFd,
    wanted: Mutex<Wanted>,
    stats: Mutex<Stats>,
}

#[derive(Clone, Debug)]
struct Wanted {
    up: Link,
    down: Link,
    rebinds: u64,
    stop: bool,
}

impl Orders {
    pub(super) fn new(up: Link, down: Link) -> io::Result<Self> {
        let wanted = Mutex::new(Wanted { up, down, rebinds: 0, stop: false });
        let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { doorbell, wanted, stats: Mutex::new(Stats::default()) })
    }

    pub(super) fn set(&self, up: Link, down: Link) {
        self.change(|wanted| (wanted.up, wanted.down) = (up, down));
    }

    pub(super) fn rebind(&self) {
        self.change(|wanted| wanted.rebinds += 1);
    }

    pub(super) fn stop(&self) {
        self.change(|wanted| wanted.stop = true);
    }

    pub(super) fn stats(&self) -> Stats {
        *lock(&self.stats)
    }

    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut lock(&self.wanted));
        // The only error is a full counter, and then the bell rings already.
        let _ = rustix::io::write(&self.doorbell, &1u64.to_ne_bytes());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket and what the kernel can do with it.
struct Endpoint {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Endpoint {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        // Root may exceed the system's limit; others get what it allows.
        if sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER_LEN).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_LEN)?;
        }
        if sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER_LEN).is_err() {
            sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_LEN)?;
        }
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state })
    }

    /// Sends a train, in as few calls as the kernel allows.
    fn send(&self, destination: SocketAddr, train: Train<'_>, counts: &mut Counts) {
        let stride = train.stride.max(1);
        let step = stride * self.state.max_gso_segments().max(1);
        for bytes in train.bytes.chunks(step).chain(train.bytes.is_empty().then_some(train.bytes)) {
            let part = Train { bytes, ..train };
            if self.try_send(destination, part, counts).is_ok() {
                continue;
            }
            // Segmentation may have been refused: once more, each datagram alone.
            for one in part.datagrams() {
                if self.try_send(destination, one, counts).is_err() {
                    counts.refused += 1;
                }
            }
        }
    }

    fn try_send(&self, destination: SocketAddr, train: Train<'_>, counts: &mut Counts) -> io::Result<()> {
        let count = train.count();
        let transmit = Transmit {
            destination,
            ecn: EcnCodepoint::from_bits(train.ecn),
            contents: train.bytes,
            segment_size: (count > 1).then_some(train.stride),
            src_ip: None,
        };
        self.state.try_send((&self.socket).into(), &transmit)?;
        counts.forwarded += count as u64;
        counts.forwarded_len += train.bytes.len() as u64;
        Ok(())
    }
}

/// One direction of one client.
struct Direction {
    stage: Stage,
    line: Line,
}

impl Direction {
    fn new(seed: u64, stream: u64, now: Instant) -> Self {
        let stage = Stage::new(Chance::new(seed, 2 * stream));
        Self { stage, line: Line::new(Chance::new(seed, 2 * stream + 1), now) }
    }

    /// Adds what the stage and the line decided.
    fn add_to(&self, counts: &mut Counts) {
        let decided = self.stage.counts();
        counts.received += decided.received;
        counts.lost += decided.lost;
        counts.too_long += decided.too_long;
        counts.duplicated += decided.duplicated;
        counts.corrupted += decided.corrupted;
        counts.reordered += decided.reordered;
        counts.overflowed += self.line.overflowed();
    }

    fn deadline(&self) -> Option<Instant> {
        [self.stage.deadline(), self.line.deadline()].into_iter().flatten().min()
    }

    fn on_train(&mut self, now: Instant, link: &Link, arrived: Arrived<'_>, route: &mut Route<'_>) {
        self.stage.on_train(now, link, arrived, |train| {
            if self.line.is_open(link) {
                route.send(train);
            } else {
                self.line.push(now, link, train);
            }
        });
    }

    fn on_time(&mut self, now: Instant, link: &Link, route: &mut Route<'_>) {
        self.stage.on_time(now, |train| self.line.push(now, link, train));
        self.line.poll(now, |train| route.send(train));
    }
}

/// Where a direction's datagrams go.
struct Route<'a> {
    from: &'a Endpoint,
    to: SocketAddr,
    sent: &'a mut Counts,
}

impl Route<'_> {
    fn send(&mut self, train: Train<'_>) {
        self.from.send(self.to, train, self.sent);
    }
}

struct Client {
    address: SocketAddr,
    endpoint: Endpoint,
    up: Direction,
    down: Direction,
}

/// Everything the thread owns.
pub(super) struct Relay {
    listener: Endpoint,
    upstream: SocketAddr,
    seed: u64,
    orders: Arc<Orders>,
    wanted: Wanted,
    epoll: OwnedFd,
    clients: Vec<Client>,
    by_address: HashMap<SocketAddr, usize>,
    buffers: Vec<Vec<u8>>,
    /// What went out; the rest is counted by the stages and lines.
    sent: Stats,
}

impl Relay {
    pub(super) fn new(
        listen: SocketAddr,
        upstream: SocketAddr,
        seed: u64,
        orders: Arc<Orders>,
    ) -> io::Result<Self> {
        let listener = Endpoint::bind(listen)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        watch(&epoll, &listener.socket, LISTENER)?;
        watch(&epoll, &orders.doorbell, DOORBELL)?;
        let wanted = lock(&orders.wanted).clone();
        let (clients, by_address, sent) = (Vec::new(), HashMap::new(), Stats::default());
        let buffers = vec![vec![0; BUFFER_LEN]; BATCH_SIZE];
        Ok(Self { listener, upstream, seed, orders, wanted, epoll, clients, by_address, buffers, sent })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.socket.local_addr()
    }

    pub(super) fn run(mut self) {
        while !self.wanted.stop {
            if let Err(error) = self.turn() {
                eprintln!("impair: {error}");
                return;
            }
        }
    }

    /// One sleep and what came after it.
    fn turn(&mut self) -> io::Result<()> {
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let timeout = self.timeout();
        let count = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            match event.data.u64() {
                DOORBELL => self.take_orders()?,
                LISTENER => self.receive_from_clients()?,
                client => self.receive_from_node(client as usize)?,
            }
        }
        self.on_time();
        *lock(&self.orders.stats) = self.stats();
        Ok(())
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats { clients: self.clients.len() as u64, ..self.sent };
        for client in &self.clients {
            client.up.add_to(&mut stats.up);
            client.down.add_to(&mut stats.down);
        }
        stats
    }

    fn timeout(&self) -> Option<Timespec> {
        let deadlines = self.clients.iter().flat_map(|client| [client.up.deadline(), client.down.deadline()]);
        let first = deadlines.flatten().min()?;
        let left = first.saturating_duration_since(Instant::now());
        Timespec::try_from(left).ok()
    }

    fn take_orders(&mut self) -> io::Result<()> {
        // An empty counter only means that another turn has read it.
        let _ = rustix::io::read(&self.orders.doorbell, &mut [0u8; 8]);
        let wanted = lock(&self.orders.wanted).clone();
        if wanted.rebinds != self.wanted.rebinds {
            for (index, client) in self.clients.iter_mut().enumerate() {
                // The old socket stays until the new one has its port, so that the port is another.
                let endpoint = Endpoint::bind(any_address(self.upstream))?;
                watch(&self.epoll, &endpoint.socket, index as u64)?;
                client.endpoint = endpoint;
            }
        }
        self.wanted = wanted;
        Ok(())
    }

    fn receive_from_clients(&mut self) -> io::Result<()> {
        let mut buffers = std::mem::take(&mut self.buffers);
        let metas = receive(&self.listener, &mut buffers)?;
        let now = Instant::now();
        for (buffer, meta) in buffers.iter_mut().zip(&metas) {
            let index = self.client_of(meta.addr, now)?;
            let client = &mut self.clients[index];
            let mut route = Route { from: &client.endpoint, to: self.upstream, sent: &mut self.sent.up };
            client.up.on_train(now, &self.wanted.up, train_of(buffer, meta), &mut route);
        }
        self.buffers = buffers;
        Ok(())
    }

    fn receive_from_node(&mut self, index: usize) -> io::Result<()> {
        let mut buffers = std::mem::take(&mut self.buffers);
        let client = &mut self.clients[index];
        let metas = receive(&client.endpoint, &mut buffers)?;
        let now = Instant::now();
        // A NAT lets nobody in whom the client has not written to.
        for (buffer, meta) in buffers.iter_mut().zip(&metas).filter(|(_, meta)| meta.addr == self.upstream) {
            let mut route = Route { from: &self.listener, to: client.address, sent: &mut self.sent.down };
            client.down.on_train(now, &self.wanted.down, train_of(buffer, meta), &mut route);
        }
        self.buffers = buffers;
        Ok(())
    }

    fn client_of(&mut self, address: SocketAddr, now: Instant) -> io::Result<usize> {
        if let Some(index) = self.by_address.get(&address) {
            return Ok(*index);
        }
        let index = self.clients.len();
        let endpoint = Endpoint::bind(any_address(self.upstream))?;
        watch(&self.epoll, &endpoint.socket, index as u64)?;
        let stream = 2 * index as u64;
        let (up, down) = (Direction::new(self.seed, stream, now), Direction::new(self.seed, stream + 1, now));
        self.clients.push(Client { address, endpoint, up, down });
        self.by_address.insert(address, index);
        Ok(index)
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        for client in &mut self.clients {
            let mut up = Route { from: &client.endpoint, to: self.upstream, sent: &mut self.sent.up };
            client.up.on_time(now, &self.wanted.up, &mut up);
            let mut down = Route { from: &self.listener, to: client.address, sent: &mut self.sent.down };
            client.down.on_time(now, &self.wanted.down, &mut down);
        }
    }
}

fn watch(epoll: &OwnedFd, source: impl AsFd, name: u64) -> io::Result<()> {
    Ok(epoll::add(epoll, source, epoll::EventData::new_u64(name), epoll::EventFlags::IN)?)
}

/// The address to bind to for sending to `upstream`; on loopback stay on loopback.
fn any_address(upstream: SocketAddr) -> SocketAddr {
    let ip = match upstream.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_loopback() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}

/// One batch; none when nothing is there.
fn receive(endpoint: &Endpoint, buffers: &mut [Vec<u8>]) -> io::Result<Vec<RecvMeta>> {
    let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
    let mut metas = vec![RecvMeta::default(); slices.len()];
    match endpoint.state.recv((&endpoint.socket).into(), &mut slices, &mut metas) {
        Ok(count) => metas.truncate(count),
        // Nothing there, or an ICMP error about what was sent earlier: both say nothing about the next datagram.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => metas.clear(),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => metas.clear(),
        Err(error) => return Err(error),
    }
    Ok(metas)
}

fn train_of<'a>(buffer: &'a mut [u8], meta: &RecvMeta) -> Arrived<'a> {
    Arrived { bytes: &mut buffer[..meta.len], stride: meta.stride, ecn: meta.ecn.map_or(0, |ecn| ecn as u8) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Impairment, Proxy};
    use super::*;

    /// Long enough for a slow machine; a test that waits so long has failed.
    const PATIENCE: Duration = Duration::from_secs(10);

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// A link to a new socket that plays the node.
    fn start(link: Link, seed: u64) -> (Proxy, UdpSocket) {
        let node = socket();
        let proxy = Impairment::both(link, seed).start(node.local_addr().unwrap()).unwrap();
        (proxy, node)
    }

    fn receive_one(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut bytes = vec![0; 2_000];
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        bytes.truncate(len);
        (bytes, from)
    }

    fn wait_until(what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < PATIENCE, "it never happened");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn each_client_has_its_own_address_and_gets_its_own_answers() {
        let (proxy, node) = start(Link::default(), 1);
        let clients = [socket(), socket()];
        let mut seen = Vec::new();
        for (number, client) in clients.iter().enumerate() {
            client.send_to(&[number as u8; 5], proxy.address()).unwrap();
            let (bytes, from) = receive_one(&node);
            assert_eq!(bytes, [number as u8; 5]);
            node.send_to(&[number as u8 + 10; 3], from).unwrap();
            seen.push(from);
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(receive_one(client), (vec![number as u8 + 10; 3], proxy.address()));
        }
        assert_ne!(seen[0], seen[1]);
        wait_until(|| proxy.stats().down.forwarded == 2);
        assert_eq!(proxy.stats().clients, 2);
    }

    #[test]
    fn a_rebound_client_comes_from_another_address() {
        let (proxy, node) = start(Link::default(), 1);
        let client = socket();
        client.send_to(b"before", proxy.address()).unwrap();
        let (_, before) = receive_one(&node);
        proxy.rebind();
        // The order and the datagram race; at last one comes from the new address.
        wait_until(|| {
            client.send_to(b"after", proxy.address()).unwrap();
            receive_one(&node).1 != before
        });
        client.send_to(b"answer me", proxy.address()).unwrap();
        let after =
            std::iter::repeat_with(|| receive_one(&node)).find(|(bytes, _)| bytes == b"answer me").unwrap().1;
        node.send_to(b"answer", after).unwrap();
        assert_eq!(receive_one(&client).0, b"answer");
        assert_eq!(proxy.stats().clients, 1);
    }

    /// The numbers that arrive of 200 datagrams sent in order, one at a time.
    fn survivors(link: &Link, seed: u64) -> Vec<u16> {
        let (proxy, node) = start(link.clone(), seed);
        let client = socket();
        for number in 0..200u16 {
            client.send_to(&number.to_be_bytes(), proxy.address()).unwrap();
        }
        wait_until(|| proxy.stats().up.received == 200);
        let stats = proxy.stats().up;
        assert_eq!(stats.forwarded + stats.lost, 200);
        (0..stats.forwarded).map(|_| u16::from_be_bytes(receive_one(&node).0.try_into().unwrap())).collect()
    }

    #[test]
    fn the_same_seed_loses_the_same_datagrams() {
        let link = Link { loss: 0.2, ..Link::default() };
        let first = survivors(&link, 42);
        assert!((135..185).contains(&first.len()), "{}", first.len());
        assert_eq!(first, survivors(&link, 42));
        assert_ne!(first, survivors(&link, 43));
    }

    #[test]
    fn a_delayed_datagram_is_late_but_comes() {
        let delay = Duration::from_millis(30);
        let (proxy, node) = start(Link { delay, ..Link::default() }, 1);
        let start = Instant::now();
        socket().send_to(b"slow", proxy.address()).unwrap();
        assert_eq!(receive_one(&node).0, b"slow");
        assert!(start.elapsed() >= delay);
    }

    #[test]
    fn a_link_can_be_cut_and_mended() {
        let (proxy, node) = start(Link { loss: 1.0, ..Link::default() }, 1);
        let client = socket();
        client.send_to(b"lost", proxy.address()).unwrap();
        wait_until(|| proxy.stats().up.lost == 1);
        proxy.set(Link::default(), Link::default());
        wait_until(|| {
            client.send_to(b"found", proxy.address()).unwrap();
            proxy.stats().up.forwarded > 0
        });
        assert_eq!(receive_one(&node).0, b"found");
    }
}
