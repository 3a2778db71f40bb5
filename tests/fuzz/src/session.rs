//! The session's state machine: three honest nodes with five shards, and a network that does what the input says.
//!
//! Holds: I2, I3, order, I4 (the counting cryptography panics), I6 at every step; once the network has healed, everybody
//!        learns what became of each message, and what was acknowledged arrived (I1).

use core::time::Duration;

use dunlin_shards::session::counting::{Counting, forget_sealed};

use super::network::Network;
use super::node::Choice;
use super::operations::perform;

/// Shards of each node.
const SHARDS: [usize; 3] = [1, 2, 2];
/// How long the network is healed at most: a peer that does not answer is given up before.
const HEALING: Duration = Duration::from_secs(400);

/// A list of operations.
pub fn session(input: &[u8]) {
    let Some((choice, operations)) = input.split_first() else { return };
    forget_sealed();
    let mut network = Network::<Counting>::new(&SHARDS, Choice(*choice));
    perform(&mut network, operations);
    network.heal(HEALING);
    network.records.assert_settled();
}
