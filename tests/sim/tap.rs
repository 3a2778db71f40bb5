//! A tap on every node's wire: what went to an address that has not proven that it is there (I5).
//!
//! In:    datagrams in and out of each node, as the network sees them.
//! Out:   a panic when a node sends more than it may.
//! Holds: the tap knows nothing of the node's own belief. An address counts as proven when something that the node sent
//!        had arrived there before the datagram was sent that came from there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::place::NodeIndex;

/// Bytes out for each byte in to an unproven path (T3b).
const PATH_FACTOR: u64 = 3;
const WELCOME: u8 = 0x02;
/// The pattern of callers who do not know whom they call, in a Welcome's fourth byte.
const XX: u8 = 2;
const COOKIE: u8 = 0x03;
const RESET: u8 = 0x05;

/// One node and one address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flow {
    /// Bytes that came from there.
    pub bytes_in: u64,
    /// Bytes that went there while it was not proven.
    pub bytes_out: u64,
    /// Bytes of stateless replies among them, whether proven or not.
    pub stateless_out: u64,
    /// Bytes of the longest datagram that came.
    longest_in: u64,
    /// The application called there.
    is_dialled: bool,
    /// Somebody is there.
    pub is_proven: bool,
    /// When the first datagram of ours arrived there.
    reached_at: Option<u64>,
}

/// All flows.
#[derive(Debug, Default)]
pub struct Tap {
    /// Those of each node by themselves: there are very many in a world of many nodes.
    flows: Vec<BTreeMap<SocketAddr, Flow>>,
    /// Where something of a node's reached another behind a NAT, and when: through a NAT the answer may come from another port.
    reached: BTreeMap<(NodeIndex, NodeIndex), Vec<(SocketAddr, u64)>>,
    /// Addresses that only packets come from which nobody could take for true.
    strangers: BTreeSet<SocketAddr>,
    /// Welcomes to callers unknown before, so that one sent again is told from a new one.
    welcomes: BTreeSet<(NodeIndex, Vec<u8>)>,
    /// Who has sent Resets to whom.
    resets: BTreeSet<(NodeIndex, NodeIndex)>,
}

impl Tap {
    fn flow(&mut self, node: NodeIndex, remote: SocketAddr) -> &mut Flow {
        if self.flows.len() <= node.0 {
            self.flows.resize_with(node.0 + 1, BTreeMap::new);
        }
        self.flows[node.0].entry(remote).or_default()
    }

    /// A node's application calls an address: that is its own wish.
    pub fn on_dialled(&mut self, node: NodeIndex, remote: SocketAddr) {
        self.flow(node, remote).is_dialled = true;
    }

    /// A datagram of the node's arrived at the address.
    pub fn on_reached(&mut self, node: NodeIndex, remote: SocketAddr, now: u64) {
        self.flow(node, remote).reached_at.get_or_insert(now);
    }

    /// The same, when who it reached is behind a NAT: whatever comes from there later proves it, by whichever port.
    pub fn on_reached_behind(&mut self, node: NodeIndex, remote: SocketAddr, peer: NodeIndex, now: u64) {
        if !self.flow(node, remote).is_proven {
            self.reached.entry((node, peer)).or_default().push((remote, now));
        }
    }

    /// A datagram of a peer behind a NAT came.
    pub fn on_in_from(&mut self, node: NodeIndex, peer: NodeIndex, sent_at: u64) {
        let Some(reached) = self.reached.get_mut(&(node, peer)) else { return };
        let proven: Vec<_> = reached.extract_if(.., |(_, at)| *at <= sent_at).collect();
        for (remote, _) in proven {
            self.flow(node, remote).is_proven = true;
        }
    }

    /// A datagram came; `sent_at` is unknown for a forged one.
    pub fn on_in(&mut self, node: NodeIndex, remote: SocketAddr, bytes: usize, sent_at: Option<u64>) {
        let flow = self.flow(node, remote);
        flow.bytes_in += bytes as u64;
        flow.longest_in = flow.longest_in.max(bytes as u64);
        if let (Some(reached), Some(sent)) = (flow.reached_at, sent_at) {
            flow.is_proven |= reached <= sent;
        }
    }

    /// From there come only packets without sense: nobody answers them, but that a session is not there.
    pub fn on_stranger(&mut self, remote: SocketAddr) {
        self.strangers.insert(remote);
    }

    /// One node sends another a Reset.
    pub fn on_reset(&mut self, from: NodeIndex, to: NodeIndex) {
        self.resets.insert((from, to));
    }

    /// One node has sent another a Reset.
    #[must_use]
    pub fn has_reset(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.resets.contains(&(from, to))
    }

    /// T1: state and answers are for those who have shown that they know us, and, if we do not know them, that they are there.
    fn check_handshake(&mut self, node: NodeIndex, remote: SocketAddr, datagram: &[u8]) {
        let is_answer = !matches!(datagram.first(), None | Some(&RESET));
        assert!(
            !is_answer || !self.strangers.contains(&remote),
            "stranger: {node:?} answered {remote}, which knows nothing of it"
        );
        if datagram.first() != Some(&WELCOME) || datagram.get(3) != Some(&XX) {
            return;
        }
        let is_new = self.welcomes.insert((node, datagram.to_vec()));
        let flow = self.flow(node, remote);
        assert!(
            !is_new || flow.is_proven || flow.is_dialled,
            "cookie: {node:?} took a call from {remote}, which has not proven that it is there"
        );
    }

    /// A datagram goes out.
    ///
    /// # Panics
    /// I5 is broken.
    pub fn on_out(&mut self, node: NodeIndex, remote: SocketAddr, datagram: &[u8]) {
        if datagram.first().is_some_and(|first| first & 0x80 == 0) {
            self.check_handshake(node, remote, datagram);
        }
        let flow = self.flow(node, remote);
        let len = datagram.len() as u64;
        if matches!(datagram.first(), Some(&(COOKIE | RESET))) {
            flow.stateless_out += len;
            assert!(
                flow.stateless_out <= flow.bytes_in && len < flow.longest_in,
                "I5: {node:?} answered {remote} with {} bytes without state, for {} in",
                flow.stateless_out,
                flow.bytes_in
            );
        }
        if flow.is_proven || flow.is_dialled {
            return;
        }
        flow.bytes_out += len;
        assert!(
            flow.bytes_out <= PATH_FACTOR * flow.bytes_in,
            "I5: {node:?} sent {} bytes to {remote}, which is not proven and sent {}",
            flow.bytes_out,
            flow.bytes_in
        );
    }

    /// The node was restarted: it knows no address any more.
    pub fn forget(&mut self, node: NodeIndex) {
        if let Some(flows) = self.flows.get_mut(node.0) {
            flows.clear();
        }
        let next = NodeIndex(node.0 + 1);
        self.reached.extract_if((node, NodeIndex(0))..(next, NodeIndex(0)), |_, _| true).for_each(drop);
    }

    /// What is known of a flow.
    #[must_use]
    pub fn of(&self, node: NodeIndex, remote: SocketAddr) -> Flow {
        self.flows.get(node.0).and_then(|flows| flows.get(&remote)).copied().unwrap_or_default()
    }
}
