//! What travels, and how the receiver knows that it is what was sent.
//!
//! In:    pieces of a stream, or messages.
//! Out:   counts and faults in the gauge.
//! Holds: a stream's byte at place n is n mod 251; a message begins with its number, and ends with a fixed byte.

use crate::gauge::Gauge;

/// After so many bytes the stream's pattern begins again.
const PERIOD: usize = 251;
/// Bytes that the application hands over at a time in the bulk work: whole periods.
pub(crate) const BLOCK_LEN: usize = PERIOD * 256;
/// Bytes of the request and of the response.
pub(crate) const BALL_LEN: usize = 64;
/// Bytes in front of a message on a stream.
pub(crate) const PREFIX_LEN: usize = 4;
/// Bytes of a message's number.
const NUMBER_LEN: usize = 8;
/// Bytes that an application gathers.
const GATHERED_LEN: usize = 64 << 10;
/// What a message is filled with.
const FILL: u8 = 0xA5;

/// One block of the bulk work.
pub(crate) fn block() -> Vec<u8> {
    (0..BLOCK_LEN).map(|at| (at % PERIOD) as u8).collect()
}

/// A message with number 0.
pub(crate) fn message(len: usize) -> Vec<u8> {
    let mut message = vec![FILL; len.max(NUMBER_LEN + 1)];
    set_number(&mut message, 0);
    message
}

/// Numbers a message.
pub(crate) fn set_number(message: &mut [u8], number: u64) {
    message[..NUMBER_LEN].copy_from_slice(&number.to_le_bytes());
}

fn number(message: &[u8]) -> Option<u64> {
    message.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Counts a message of a channel that keeps the order.
pub(crate) fn take_ordered(gauge: &Gauge, message: &[u8], expected: &mut u64) {
    if number(message) != Some(*expected) || message.last() != Some(&FILL) {
        gauge.fault();
    }
    *expected = expected.wrapping_add(1);
    gauge.arrived(1, message.len());
}

/// Counts a message that may overtake others.
pub(crate) fn take_unordered(gauge: &Gauge, message: &[u8], len: usize) {
    if message.len() != len || message.last() != Some(&FILL) {
        gauge.fault();
    }
    gauge.arrived(1, message.len());
}

/// The receiver of a bulk stream.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    place: u64,
}

impl Bulk {
    /// The next piece.
    pub(crate) fn take(&mut self, gauge: &Gauge, piece: &[u8]) {
        let expected = (self.place % PERIOD as u64) as u8;
        if piece.first().is_some_and(|first| *first != expected) {
            gauge.fault();
        }
        self.place += piece.len() as u64;
        gauge.arrived(1, piece.len());
    }
}

/// The sender of length-prefixed messages.
#[derive(Debug)]
pub(crate) struct Framer {
    frame: Vec<u8>,
    next: u64,
}

impl Framer {
    pub(crate) fn new(len: usize) -> Self {
        let message = message(len);
        let mut frame = u32::try_from(message.len()).expect("a message is short").to_le_bytes().to_vec();
        frame.extend(message);
        Self { frame, next: 0 }
    }

    /// The next message with its length in front.
    pub(crate) fn frame(&mut self) -> &[u8] {
        set_number(&mut self.frame[PREFIX_LEN..], self.next);
        self.next += 1;
        &self.frame
    }

    /// As many as an application gathers.
    pub(crate) fn gather(&mut self) -> Vec<u8> {
        let mut gathered = Vec::with_capacity(GATHERED_LEN + self.frame.len());
        while gathered.len() < GATHERED_LEN {
            gathered.extend_from_slice(self.frame());
        }
        gathered
    }
}

/// The receiver of length-prefixed messages.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    head: [u8; PREFIX_LEN + NUMBER_LEN],
    /// Bytes of the head that are here.
    have: usize,
    /// Bytes of the body that are yet to come.
    missing: usize,
    next: u64,
}

impl Splitter {
    /// The next piece of the stream: counts the messages that end in it.
    pub(crate) fn take(&mut self, gauge: &Gauge, mut piece: &[u8], len: usize) {
        let (mut messages, bytes) = (0, piece.len());
        while !piece.is_empty() {
            if self.have < self.head.len() {
                let (taken, rest) = piece.split_at(piece.len().min(self.head.len() - self.have));
                self.head[self.have..self.have + taken.len()].copy_from_slice(taken);
                self.have += taken.len();
                piece = rest;
                if self.have < self.head.len() {
                    break;
                }
                self.check(gauge, len);
            }
            let skipped = piece.len().min(self.missing);
            self.missing -= skipped;
            piece = &piece[skipped..];
            if self.missing == 0 {
                self.have = 0;
                messages += 1;
            }
        }
        gauge.arrived(messages, bytes);
    }

    /// The head is whole: the length and the number must be the next message's.
    fn check(&mut self, gauge: &Gauge, len: usize) {
        let (prefix, rest) = self.head.split_first_chunk().expect("the head is longer than its prefix");
        if u32::from_le_bytes(*prefix) as usize != len || number(rest) != Some(self.next) {
            gauge.fault();
        }
        self.next += 1;
        self.missing = len - NUMBER_LEN;
    }
}
