//! A bad link in user space: a UDP proxy that loses, delays, reorders, duplicates and damages datagrams by a seed.
//!
//! In:    datagrams from any number of clients on one address, and from the one node behind it.
//! Out:   the same datagrams, less or more or later, each client through a socket of its own, as a NAT would.
//! Holds: what happens to the nth datagram of a client in one direction depends on the seed, n and the link alone,
//!        never on the clock; with a link that only loses, whole runs of a train go on in one system call.

pub mod chance;
pub mod line;
mod relay;
pub mod stage;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use relay::{Orders, Relay};

/// What one direction does to datagrams. The default does nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Share of datagrams that vanish, 0 to 1.
    pub loss: f64,
    /// Share of datagrams that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Share of datagrams in which one bit is turned, 0 to 1.
    pub corrupt: f64,
    /// Share of datagrams that arrive behind `reorder_depth` later ones, 0 to 1.
    pub reorder: f64,
    /// How many datagrams overtake a reordered one. When none come, it goes on after 2 ms.
    pub reorder_depth: u64,
    /// How long each datagram is under way.
    pub delay: Duration,
    /// Up to so much longer, evenly spread; datagrams may overtake each other.
    pub jitter: Duration,
    /// Bits of UDP payload a second; 0 for no limit.
    pub rate: u64,
    /// With a rate: what would wait longer than this before the link is dropped.
    pub queue: Duration,
    /// Longer datagrams vanish, in bytes of UDP payload.
    pub datagram_len_max: usize,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            reorder_depth: 3,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: 0,
            queue: Duration::from_millis(100),
            datagram_len_max: usize::MAX,
        }
    }
}

/// A bad link to be started.
#[derive(Clone, Debug)]
pub struct Impairment {
    /// Where clients send to; port 0 for any.
    pub listen: SocketAddr,
    /// From the clients to the node.
    pub up: Link,
    /// From the node to the clients.
    pub down: Link,
    /// The same seed does the same to the same datagrams.
    pub seed: u64,
}

impl Impairment {
    /// The same link in both directions, on a port of its own on 127.0.0.1.
    #[must_use]
    pub fn both(link: Link, seed: u64) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { listen, up: link.clone(), down: link, seed }
    }

    /// The same, but listening there.
    #[must_use]
    pub fn listen(mut self, listen: SocketAddr) -> Self {
        self.listen = listen;
        self
    }

    /// Starts the thread that passes datagrams on to `upstream` and back.
    ///
    /// # Errors
    ///
    /// When a socket cannot be made or bound; nothing runs then.
    pub fn start(self, upstream: SocketAddr) -> io::Result<Proxy> {
        let orders = Arc::new(Orders::new(self.up, self.down)?);
        let relay = Relay::new(self.listen, upstream, self.seed, Arc::clone(&orders))?;
        let address = relay.address()?;
        let thread = std::thread::Builder::new().name("impair".to_owned()).spawn(move || relay.run())?;
        Ok(Proxy { address, orders, thread: Some(thread) })
    }
}

/// What happened to the datagrams of one direction, all clients together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Datagrams that came in.
    pub received: u64,
    /// Datagrams that went out, duplicates included.
    pub forwarded: u64,
    /// Bytes of those.
    pub forwarded_len: u64,
    /// Datagrams that vanished by chance.
    pub lost: u64,
    /// Datagrams that vanished because they were too long.
    pub too_long: u64,
    /// Datagrams that found the queue before the link full.
    pub overflowed: u64,
    /// Datagrams that were doubled.
    pub duplicated: u64,
    /// Datagrams in which a bit was turned.
    pub corrupted: u64,
    /// Datagrams that later ones were to overtake.
    pub reordered: u64,
    /// Datagrams that the kernel did not take.
    pub refused: u64,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// From the clients to the node.
    pub up: Counts,
    /// From the node to the clients.
    pub down: Counts,
    /// Client addresses seen.
    pub clients: u64,
}

/// A running link; it stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Where clients send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes both directions. Datagrams under way keep the time that they were given.
    pub fn set(&self, up: Link, down: Link) {
        self.orders.set(up, down);
    }

    /// Gives every client a new address on the node's side, as a NAT does that has lost its table.
    /// What is on its way to an old address is lost.
    pub fn rebind(&self) {
        self.orders.rebind();
    }

    /// What happened so far; counted after each batch.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.orders.stats()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was printed by it; a second one here would hide it.
            let _ = thread.join();
        }
    }
}
