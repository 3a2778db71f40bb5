//! What the two sides send each other, and the running sum that proves it arrived.
//!
//! In:    messages in order.
//! Out:   a count, bytes, and a sum that is the same on both sides only if every byte and the order are.
//! Holds: a message has at least a head: its kind, seven zeros, a number in little-endian order.

use serde::{Deserialize, Serialize};

/// Bytes of a message's head, and thus of the shortest message.
pub(crate) const HEAD_LEN: usize = 16;

/// Counted and summed by the far application.
pub(crate) const LOAD: u8 = 0;
/// The far application starts counting and answers with its ledger.
pub(crate) const BEGIN: u8 = 1;
/// The far application answers with its ledger.
pub(crate) const END: u8 = 2;
/// Sent back by the far application.
pub(crate) const ECHO: u8 = 3;
/// Sent back by the far side's handler, on its core.
pub(crate) const ECHO_ON_CORE: u8 = 4;
/// Taken by the far side's handler and forgotten.
pub(crate) const NOTHING: u8 = 5;
/// The far application answers with its tally so far, after all that came before.
pub(crate) const TICK: u8 = 6;
/// As `BEGIN`, answered by the handler: for sessions that no application serves.
pub(crate) const BEGIN_ON_CORE: u8 = 7;
/// As `END`, answered by the handler.
pub(crate) const END_ON_CORE: u8 = 8;
/// As `ECHO`, with the times of a schedule in it.
pub(crate) const PACED: u8 = 9;
/// As `ECHO_ON_CORE`, with the times of a schedule in it.
pub(crate) const PACED_ON_CORE: u8 = 10;
/// A hub sends to all its other peers, as the message says, and answers with what became of it.
pub(crate) const SPRAY: u8 = 11;

/// Bytes of the shortest message with the times of a schedule: a head and when it left.
pub(crate) const PACED_LEN: usize = HEAD_LEN + 8;

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A message of this kind, all the rest counting up.
pub(crate) fn message(kind: u8, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..len.max(HEAD_LEN)).map(|at| (at as u64).wrapping_mul(FACTOR) as u8).collect();
    bytes[..HEAD_LEN].fill(0);
    bytes[0] = kind;
    bytes
}

/// Writes the head's number.
pub(crate) fn set_number(message: &mut [u8], number: u64) {
    message[8..HEAD_LEN].copy_from_slice(&number.to_le_bytes());
}

/// The head's number; 0 for what is too short.
pub(crate) fn number(message: &[u8]) -> u64 {
    message.get(8..HEAD_LEN).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Writes when the message was meant to leave and when it did.
pub(crate) fn set_times(message: &mut [u8], intended: u64, sent: u64) {
    set_number(message, intended);
    message[HEAD_LEN..PACED_LEN].copy_from_slice(&sent.to_le_bytes());
}

/// When the message was meant to leave and when it did; zeros for what is too short.
pub(crate) fn times(message: &[u8]) -> (u64, u64) {
    let sent = message.get(HEAD_LEN..PACED_LEN).and_then(|bytes| bytes.try_into().ok());
    (number(message), sent.map_or(0, u64::from_le_bytes))
}

/// A sum over all bytes in their order. Changing one word always changes it.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [1, 2, 3, 4_u64];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = mix(*lane, u64::from_le_bytes(*word));
        }
    }
    let lanes = lanes.into_iter().fold(bytes.len() as u64, mix);
    rest.iter().fold(lanes, |sum, byte| mix(sum, u64::from(*byte)))
}

/// A bijection of either argument for each value of the other.
fn mix(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(FACTOR).rotate_left(29)
}

/// What was sent or taken.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) sum: u64,
}

impl Tally {
    /// A message that was taken: every byte is read.
    pub(crate) fn add(&mut self, message: &[u8]) {
        self.add_known(message, sum(message.get(HEAD_LEN..).unwrap_or_default()));
    }

    /// A message whose body's sum is known, as every one sent has the same body.
    pub(crate) fn add_known(&mut self, message: &[u8], body: u64) {
        self.messages += 1;
        self.bytes += message.len() as u64;
        self.sum = mix(mix(self.sum, number(message)), body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree() {
        let (mut sent, mut taken) = (Tally::default(), Tally::default());
        let mut load = message(LOAD, 1_000);
        let body = sum(&load[HEAD_LEN..]);
        for at in 0..10 {
            set_number(&mut load, at);
            sent.add_known(&load, body);
            taken.add(&load);
        }
        assert_eq!(sent, taken);
        assert_eq!((taken.messages, taken.bytes), (10, 10_000));
    }

    #[test]
    fn a_schedules_times_travel() {
        let mut paced = message(PACED, PACED_LEN);
        set_times(&mut paced, 7, u64::MAX);
        assert_eq!((paced[0], times(&paced)), (PACED, (7, u64::MAX)));
        assert_eq!(times(&paced[..HEAD_LEN]), (7, 0));
    }

    #[test]
    fn order_loss_and_every_byte_show() {
        let plain = message(LOAD, 75);
        let sum_of = |messages: &[&[u8]]| {
            let mut tally = Tally::default();
            messages.iter().for_each(|message| tally.add(message));
            tally.sum
        };
        for at in 8..plain.len() {
            let mut changed = plain.clone();
            changed[at] ^= 0x10;
            assert_ne!(sum_of(&[&plain]), sum_of(&[&changed]), "byte {at}");
            assert_ne!(sum_of(&[&plain, &changed]), sum_of(&[&changed, &plain]), "byte {at}");
        }
        assert_ne!(sum_of(&[&plain]), sum_of(&[&plain, &plain]));
    }
}
