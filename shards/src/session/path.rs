//! A pair of addresses, and how far it is believed: at most three bytes out for each one in until it answered (T3, T24).
//!
//! In:    bytes received and sent, challenges answered.
//! Out:   the byte budget that is left.
//! Holds: bytes sent to an unvalidated path <= 3 x bytes received from it (I5).

use core::net::{IpAddr, SocketAddr};

use crate::limits::AMPLIFICATION_PATH;
use crate::mutants::{Mutant, planted};
use crate::route::{Arrival, SocketIndex};

/// Where a peer is, and from which of our addresses and sockets it is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// The peer's address.
    pub(crate) remote: SocketAddr,
    /// Our address, when known.
    pub(crate) local: Option<IpAddr>,
    /// The socket it came through.
    pub(crate) socket: SocketIndex,
    validated: bool,
    received: u64,
    sent: u64,
}

impl Path {
    /// A path that a datagram came from; not validated.
    #[must_use]
    pub(crate) fn of_arrival(arrival: &Arrival) -> Self {
        Self {
            remote: arrival.remote,
            local: arrival.local,
            socket: arrival.socket,
            validated: false,
            received: 0,
            sent: 0,
        }
    }

    /// A path to an address that nothing has come from yet; not validated.
    #[must_use]
    pub(crate) fn to(remote: SocketAddr) -> Self {
        Self { remote, local: None, socket: SocketIndex(0), validated: false, received: 0, sent: 0 }
    }

    /// Counts bytes that came from there.
    pub(crate) fn on_received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// Counts bytes that go there.
    pub(crate) fn on_sent(&mut self, bytes: usize) {
        self.sent += if planted(Mutant::PathBudgetNotCounted) { 0 } else { bytes as u64 };
    }

    /// The peer proved that it receives there.
    pub(crate) fn on_validated(&mut self) {
        self.validated = true;
    }

    /// The peer proved that it receives there.
    #[must_use]
    pub(crate) fn is_validated(&self) -> bool {
        self.validated
    }

    /// Bytes that may be sent there now.
    #[must_use]
    // spec: atp/amplification
    pub(crate) fn budget(&self) -> usize {
        if self.validated {
            return usize::MAX;
        }
        usize::try_from((self.received * AMPLIFICATION_PATH).saturating_sub(self.sent)).unwrap_or(usize::MAX)
    }

    /// It is the path that the datagram came by.
    #[must_use]
    pub(crate) fn is_of(&self, arrival: &Arrival) -> bool {
        self.remote == arrival.remote
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Ecn;

    /// spec: atp/amplification
    #[test]
    fn an_unvalidated_path_gets_three_times_what_came_from_it() {
        let arrival = Arrival {
            local: None,
            remote: "192.0.2.1:7117".parse().unwrap(),
            socket: SocketIndex(0),
            ecn: Ecn::NotEct,
            segment_len: 1200,
        };
        let mut path = Path::of_arrival(&arrival);
        assert_eq!(path.budget(), 0);
        path.on_received(1200);
        path.on_sent(3000);
        assert_eq!(path.budget(), 600);
        path.on_sent(700);
        assert_eq!(path.budget(), 0);
        path.on_validated();
        assert_eq!(path.budget(), usize::MAX);
    }
}
