//! What a socket counts, for the metrics of its core.
//!
//! In:    one call per train or fault, on the core that owns the socket.
//! Out:   plain numbers, read by the same core.
//! Holds: numbers only grow.

/// Datagrams per train, in powers of two: how well offload works.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TrainSizes {
    /// Trains of 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64 and more datagrams.
    pub trains: [u64; 8],
    /// Datagrams in all of them.
    pub datagrams: u64,
    /// Bytes in all of them, headers not counted.
    pub bytes: u64,
}

impl TrainSizes {
    pub(super) fn count(&mut self, segments: usize, bytes: usize) {
        let class = segments.max(1).next_power_of_two().trailing_zeros() as usize;
        self.trains[class.min(self.trains.len() - 1)] += 1;
        self.datagrams += segments as u64;
        self.bytes += bytes as u64;
    }

    /// Trains of any size.
    #[must_use]
    pub fn train_count(&self) -> u64 {
        self.trains.iter().sum()
    }
}

/// One socket's counters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SocketCounters {
    /// What came in and was handed on.
    pub received: TrainSizes,
    /// What the kernel took to send.
    pub sent: TrainSizes,
    /// Empty datagrams, which mean nothing to any protocol here.
    pub received_empty: u64,
    /// Trains whose payload or control data did not fit (MSG_TRUNC, MSG_CTRUNC); not handed on. Our fault.
    pub received_truncated: u64,
    /// Trains from an address that is neither IPv4 nor IPv6; not handed on.
    pub received_nameless: u64,
    /// Errors from receiving; the socket went on.
    pub receive_errors: u64,
    /// Datagrams that the kernel dropped because the socket's queue was full, as far as it has told.
    pub receive_queue_drops: u64,
    /// `uring`: a burst has eaten every provided buffer (ENOBUFS).
    pub buffers_exhausted: u64,
    /// `uring`: the receive request was armed anew.
    pub rearmed: u64,
    /// `uring`: completions that found their queue full; must stay 0.
    pub completions_overflowed: u64,
    /// Sends that the kernel refused, each reported by `poll_error`.
    pub send_errors: u64,
    /// Errors that were not reported, as nobody had asked for 64 others.
    pub send_errors_forgotten: u64,
    /// Times that the kernel would take no more (EAGAIN): the rest waited in its frames.
    pub send_blocked: u64,
    /// Trains that went out datagram by datagram for want of segmentation.
    pub sent_unsegmented: u64,
    /// Times that the core slept.
    pub sleeps: u64,
    /// Sleeps that the doorbell ended or prevented.
    pub doorbells: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trains_are_classed_by_powers_of_two() {
        let mut sizes = TrainSizes::default();
        for segments in [1, 2, 3, 4, 5, 8, 9, 64, 65, 128] {
            sizes.count(segments, segments * 100);
        }
        assert_eq!(sizes.trains, [1, 1, 2, 2, 1, 0, 1, 2]);
        assert_eq!((sizes.train_count(), sizes.datagrams, sizes.bytes), (10, 289, 28_900));
    }
}
