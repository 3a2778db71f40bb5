//! Acknowledgements: ranges of packet numbers from the largest down, and how long the answer waited.
//!
//! In:    the bytes behind an ACK's type byte; ranges to write.
//! Out:   [`Ack`], whose ranges are known to descend without touching each other and never to pass zero.
//! Holds: at most [`RANGES_MAX`] ranges; whoever acknowledges what was never sent is the session's affair.
//!
//! The layout is QUIC's (RFC 9000 section 19.3), with a one-byte type and plain microseconds of delay.
//! spec: atp/acknowledgement

use core::fmt;
use core::ops::RangeInclusive;

use super::tag;
use crate::bytes::{Reader, Writer, varint_len};
use crate::error::{NoRoom, WireError};
use crate::ids::PacketNumber;

/// Ranges that one acknowledgement can carry.
pub const RANGES_MAX: usize = 64;

// The number of further ranges is written behind the fact, so it must always take one byte.
const _: () = assert!(RANGES_MAX <= 64);

/// How many packets arrived with each congestion mark, cumulative over the session and direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EcnCounts {
    /// Packets that arrived with ECT(0).
    pub ect0: u64,
    /// Packets that arrived with CE: a queue on the way was filling.
    pub ce: u64,
}

impl EcnCounts {
    const fn encoded_len(self) -> usize {
        varint_len(self.ect0) + varint_len(self.ce)
    }
}

/// An acknowledgement, its ranges still in the packet's bytes. Two are equal when they say the same, however encoded.
#[derive(Clone, Copy, Debug)]
pub struct Ack<'a> {
    largest: u64,
    delay_us: u64,
    first_len: u64,
    /// The further ranges as they came: pairs of variable-length integers, checked by `parse`.
    more: &'a [u8],
    ecn: Option<EcnCounts>,
}

impl<'a> Ack<'a> {
    /// Reads what follows the type byte; `with_ecn` says which of the two types it was.
    #[inline]
    pub(super) fn parse(reader: &mut Reader<'a>, with_ecn: bool) -> Result<Self, WireError> {
        let largest = reader.varint()?;
        let delay_us = reader.varint()?;
        let more_count = reader.varint()?;
        if more_count >= RANGES_MAX as u64 {
            return Err(WireError::OutOfRange);
        }
        let first_len = reader.varint()?;
        let mut smallest = largest.checked_sub(first_len).ok_or(WireError::OutOfRange)?;
        let start = reader.clone();
        for _ in 0..more_count {
            let gap = reader.varint()?;
            let len = reader.varint()?;
            // Neither sum can overflow: each term has 62 bits.
            smallest = smallest.checked_sub(gap + 2 + len).ok_or(WireError::OutOfRange)?;
        }
        let more = start.clone().take(start.left() - reader.left())?;
        let ecn =
            if with_ecn { Some(EcnCounts { ect0: reader.varint()?, ce: reader.varint()? }) } else { None };
        Ok(Self { largest, delay_us, first_len, more, ecn })
    }

    /// The largest number acknowledged.
    #[inline]
    #[must_use]
    pub const fn largest(&self) -> PacketNumber {
        PacketNumber(self.largest)
    }

    /// Microseconds between the arrival of the largest and the writing of this. The peer's word: cap it before use.
    #[inline]
    #[must_use]
    pub const fn delay_us(&self) -> u64 {
        self.delay_us
    }

    /// The ranges, the one with the largest numbers first; at least one number is missing between two of them.
    #[inline]
    #[must_use]
    pub const fn ranges(&self) -> AckRanges<'a> {
        AckRanges { next: Some((self.largest, self.first_len)), more: Reader::new(self.more) }
    }

    /// The congestion marks seen, when the peer reports them.
    #[inline]
    #[must_use]
    pub const fn ecn(&self) -> Option<EcnCounts> {
        self.ecn
    }

    pub(super) fn encoded_len(&self) -> usize {
        let mut smallest = None;
        let ranges: usize =
            self.ranges().map(|range| range_len(smallest.replace(*range.start()), &range)).sum();
        2 + varint_len(self.delay_us) + ranges + self.ecn.map_or(0, EcnCounts::encoded_len)
    }
}

impl PartialEq for Ack<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.delay_us == other.delay_us && self.ecn == other.ecn && self.ranges().eq(other.ranges())
    }
}

impl Eq for Ack<'_> {}

impl fmt::Display for Ack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ack ")?;
        for (index, range) in self.ranges().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match (range.start(), range.end()) {
                (start, end) if start == end => write!(f, "{end}")?,
                (start, end) => write!(f, "{start}-{end}")?,
            }
        }
        write!(f, " delay {} us", self.delay_us)?;
        match self.ecn {
            Some(EcnCounts { ect0, ce }) => write!(f, " ect0 {ect0} ce {ce}"),
            None => Ok(()),
        }
    }
}

/// The ranges of an [`Ack`], descending.
#[derive(Clone, Debug)]
pub struct AckRanges<'a> {
    /// The end of the next range and its length less one.
    next: Option<(u64, u64)>,
    more: Reader<'a>,
}

impl Iterator for AckRanges<'_> {
    type Item = RangeInclusive<u64>;

    #[inline]
    fn next(&mut self) -> Option<RangeInclusive<u64>> {
        let (end, len) = self.next?;
        let start = end - len;
        self.next = match (self.more.varint(), self.more.varint()) {
            (Ok(gap), Ok(len)) => Some((start - gap - 2, len)),
            _ => None,
        };
        Some(start..=end)
    }
}

/// Bytes that a range takes: behind another that starts at `previous`, or as the first, together with the largest number.
#[inline]
fn range_len(previous: Option<u64>, range: &RangeInclusive<u64>) -> usize {
    let [first, second] = range_fields(previous, range);
    varint_len(first) + varint_len(second)
}

/// The two integers of a range: gap (or, in the first one, the largest number) and length less one.
#[inline]
fn range_fields(previous: Option<u64>, range: &RangeInclusive<u64>) -> [u64; 2] {
    let (start, end) = (*range.start(), *range.end());
    assert!(start <= end, "a range of packet numbers is never empty");
    let first = match previous {
        None => end,
        Some(previous) => previous
            .checked_sub(end)
            .and_then(|distance| distance.checked_sub(2))
            .expect("ranges descend and at least one number lies between two of them"),
    };
    [first, end - start]
}

/// Writes an acknowledgement with as many of the ranges as fit, at most [`RANGES_MAX`]; no ranges at all: nothing is written.
///
/// `ranges_descending` gives the range with the largest numbers first, at least one number missing between two of them.
///
/// # Errors
/// [`NoRoom`] when not even the first range fits: nothing was written.
///
/// # Panics
/// When the ranges do not descend, or a value is above [`VARINT_MAX`](crate::bytes::VARINT_MAX).
#[inline]
pub fn write_ack(
    out: &mut Writer<'_>,
    ranges_descending: impl Iterator<Item = RangeInclusive<u64>>,
    delay_us: u64,
    ecn: Option<EcnCounts>,
) -> Result<(), NoRoom> {
    let mut ranges = ranges_descending;
    let Some(first) = ranges.next() else { return Ok(()) };
    let ecn_len = ecn.map_or(0, EcnCounts::encoded_len);
    let needed = 2 + varint_len(delay_us) + range_len(None, &first) + ecn_len;
    let left = out.room();
    if needed > left {
        return Err(NoRoom { needed, left });
    }
    out.u8(if ecn.is_some() { tag::ACK_ECN } else { tag::ACK })?;
    let [largest, len] = range_fields(None, &first);
    out.varint(largest)?;
    out.varint(delay_us)?;
    let count_at = out.len();
    out.u8(0)?;
    out.varint(len)?;
    let mut previous = *first.start();
    let mut more_count = 0;
    for range in ranges.take(RANGES_MAX - 1) {
        let [gap, len] = range_fields(Some(previous), &range);
        if varint_len(gap) + varint_len(len) + ecn_len > out.room() {
            break;
        }
        out.varint(gap)?;
        out.varint(len)?;
        previous = *range.start();
        more_count += 1;
    }
    out.written_mut()[count_at] = more_count;
    if let Some(EcnCounts { ect0, ce }) = ecn {
        out.varint(ect0)?;
        out.varint(ce)?;
    }
    Ok(())
}
