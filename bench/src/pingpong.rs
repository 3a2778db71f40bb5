//! One datagram back and forth between two cores: what a round trip costs, asleep or spinning.
//!
//! In:    two sockets.
//! Out:   the median round trip.
//! Holds: one datagram is under way at a time.

use std::net::SocketAddr;
use std::time::Duration;

use dunlin::clock::Clock;
use dunlin::runtime::Driver;
use dunlin::socket::Socket;
use dunlin_shards::route::{Ecn, SocketIndex, Transmit};

/// Bytes of the datagram.
const LEN: usize = 64;
/// What the last datagram begins with.
const LAST: u8 = 1;

/// Sends, waits for the answer, sends again.
pub struct Ping {
    /// To whom: a socket that is bound already, so that nothing is lost.
    pub to: SocketAddr,
    /// What the time is.
    pub clock: Clock,
    /// Round trips to measure, after as many that are not.
    pub rounds: usize,
    /// Look all the time instead of sleeping.
    pub spin: bool,
}

/// Sends everything back until the last.
pub struct Pong {
    /// Look all the time instead of sleeping.
    pub spin: bool,
}

/// Waits for one datagram; its sender and first byte.
async fn next<S: Socket>(socket: &mut S, spin: bool) -> (SocketAddr, u8) {
    let mut got = None;
    loop {
        socket.receive(|arrival, bytes| got = Some((arrival.remote, bytes[0])));
        if let Some(got) = got {
            return got;
        }
        if !spin {
            socket.wait(None).await;
        }
    }
}

fn send<S: Socket>(socket: &mut S, to: SocketAddr, first: u8) {
    let frame = socket.frame().expect("one datagram at a time");
    frame[0] = first;
    let (socket_index, ecn) = (SocketIndex(0), Ecn::NotEct);
    let (len, segment_len) = (LEN, LEN);
    socket.transmit(&Transmit { local: None, remote: to, socket: socket_index, ecn, len, segment_len });
    socket.flush();
}

impl Driver for Ping {
    type Output = Duration;

    async fn run<S: Socket>(self, socket: &mut S) -> Duration {
        let mut trips = Vec::with_capacity(2 * self.rounds);
        for _ in 0..2 * self.rounds {
            let start = self.clock.instant();
            send(socket, self.to, 0);
            next(socket, self.spin).await;
            trips.push(self.clock.instant().since(start));
        }
        send(socket, self.to, LAST);
        trips.drain(..self.rounds);
        trips.sort_unstable();
        trips[trips.len() / 2]
    }
}

impl Driver for Pong {
    type Output = ();

    async fn run<S: Socket>(self, socket: &mut S) {
        loop {
            let (from, first) = next(socket, self.spin).await;
            if first == LAST {
                return;
            }
            send(socket, from, 0);
        }
    }
}
