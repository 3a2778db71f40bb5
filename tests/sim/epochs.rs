//! Key phases as seen from outside: none begins before a packet of the one before it was acknowledged (I8).
//!
//! In:    every sealed packet of honest nodes: who to whom, its header and number, what it acknowledges.
//! Out:   a panic when a phase begins too early.
//! Holds: an acknowledgement counts from when its sender sealed it; that is earlier than when it arrives, never later.

use std::collections::BTreeMap;

use dunlin_codec::ids::PacketNumber;
use dunlin_shards::session::crypto::HEADER_LEN;

use crate::place::NodeIndex;

/// One direction of a session.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    phase: bool,
    begin: u64,
    last: u64,
    is_acknowledged: bool,
    /// Two sessions have this id, since the peer connected again under it: which of them a packet is of cannot be seen.
    is_shared: bool,
}

/// All of them, by sender and receiver and the session's id in the header.
#[derive(Debug, Default)]
pub struct Epochs(BTreeMap<(NodeIndex, NodeIndex), BTreeMap<[u8; 4], Epoch>>);

impl Epochs {
    /// A packet was sealed.
    ///
    /// # Panics
    /// I8 is broken.
    pub fn on_sealed(
        &mut self,
        (from, to): (NodeIndex, NodeIndex),
        header: &[u8; HEADER_LEN],
        number: PacketNumber,
    ) {
        let (phase, number) = (header[4] & 0x80 != 0, number.0);
        let [a, b, c, d, ..] = *header;
        // What is met in the middle may have been acknowledged before.
        let fresh = Epoch { phase, begin: 0, last: number, is_acknowledged: number > 0, is_shared: false };
        let known = self.0.entry((from, to)).or_default();
        let Some(epoch) = known.get_mut(&[a, b, c, d]) else {
            known.insert([a, b, c, d], fresh);
            return;
        };
        epoch.is_shared |= number <= epoch.last;
        if epoch.is_shared {
            return;
        }
        if phase != epoch.phase {
            assert!(
                epoch.is_acknowledged,
                "I8: {from:?} begins another key phase with {to:?} at {number}, of the one since {} nothing was acknowledged",
                epoch.begin
            );
            (epoch.phase, epoch.begin, epoch.is_acknowledged) = (phase, epoch.last + 1, false);
        }
        epoch.last = number;
    }

    /// A packet that acknowledges numbers up to this one was sealed.
    pub fn on_acknowledged(&mut self, from: NodeIndex, to: NodeIndex, largest: PacketNumber) {
        for epoch in self.0.get_mut(&(to, from)).into_iter().flat_map(BTreeMap::values_mut) {
            epoch.is_acknowledged |= largest.0 >= epoch.begin;
        }
    }

    /// A node was restarted.
    pub fn forget(&mut self, node: NodeIndex) {
        let range = (node, NodeIndex(0))..(NodeIndex(node.0 + 1), NodeIndex(0));
        self.0.extract_if(range, |_, _| true).for_each(drop);
    }
}
