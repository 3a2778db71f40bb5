//! Pieces of a message beyond its contiguous beginning: byte ranges, merged, ascending.
//!
//! In:    ranges of bytes that arrived (or were acknowledged), in any order, any number of times.
//! Out:   how far the beginning reaches.
//! Holds: ranges ascend, never touch each other, and lie beyond the beginning.

/// Ranges of bytes, `start..end`.
#[derive(Debug, Default)]
pub(crate) struct Islands {
    ranges: Vec<(u32, u32)>,
}

impl Islands {
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Forgets the ranges and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// Adds `start..end`, merged with what it overlaps or touches.
    pub(crate) fn insert(&mut self, start: u32, end: u32) {
        let first = self.ranges.partition_point(|range| range.1 < start);
        let touched = self.ranges[first..].iter().take_while(|range| range.0 <= end).count();
        if touched == 0 {
            self.ranges.insert(first, (start, end));
            return;
        }
        let last_end = self.ranges[first + touched - 1].1;
        let merged = &mut self.ranges[first];
        *merged = (merged.0.min(start), last_end.max(end));
        if touched > 1 {
            self.ranges.drain(first + 1..first + touched);
        }
    }

    /// The beginning now reaches to `prefix`: where it reaches with the ranges that continue it, which are forgotten.
    #[inline]
    pub(crate) fn absorb(&mut self, prefix: u32) -> u32 {
        if self.ranges.is_empty() {
            return prefix;
        }
        let reached = self.ranges.partition_point(|range| range.0 <= prefix);
        let end = self.ranges[..reached].last().map_or(prefix, |range| range.1.max(prefix));
        self.ranges.drain(..reached);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the naive model: one flag per byte.
        #[test]
        fn ranges_equal_a_bitmap(pieces in prop::collection::vec((0u32..200, 1u32..30), 1..40)) {
            let mut bitmap = [false; 256];
            let (mut prefix, mut islands) = (0, Islands::default());
            for (start, len) in pieces {
                bitmap[start as usize..(start + len) as usize].fill(true);
                if start <= prefix {
                    prefix = islands.absorb(prefix.max(start + len));
                } else {
                    islands.insert(start, start + len);
                }
                let contiguous = bitmap.iter().position(|byte| !byte).unwrap();
                prop_assert_eq!(prefix as usize, contiguous);
                let mut expected = Vec::new();
                let mut at = contiguous;
                while let Some(start) = (at..256).find(|&byte| bitmap[byte]) {
                    at = (start..256).find(|&byte| !bitmap[byte]).unwrap_or(256);
                    expected.push((start as u32, at as u32));
                }
                prop_assert_eq!(&islands.ranges, &expected);
                prop_assert_eq!(islands.len(), expected.len());
            }
        }
    }
}
