//! From a channel's id to its place in a list: sorted, searched by halves, the last answer remembered.
//!
//! In:    channel ids.
//! Out:   places, dense from 0 in the order of first use.
//! Holds: no hashing, so nothing a peer chooses makes it slow; places never change.

use dunlin_codec::ids::ChannelId;

/// Which channel sits where.
#[derive(Debug)]
pub(crate) struct ChannelTable {
    sorted: Vec<(ChannelId, u16)>,
    last: (ChannelId, u16),
}

impl ChannelTable {
    pub(crate) const fn new() -> Self {
        Self { sorted: Vec::new(), last: (ChannelId(0), u16::MAX) }
    }

    /// The channel's place.
    #[inline]
    pub(crate) fn find(&mut self, channel: ChannelId) -> Option<usize> {
        if self.last.0 == channel && self.last.1 != u16::MAX {
            return Some(usize::from(self.last.1));
        }
        let at = self.sorted.binary_search_by_key(&channel, |entry| entry.0).ok()?;
        self.last = self.sorted[at];
        Some(usize::from(self.last.1))
    }

    /// Gives a channel that has none the next place.
    pub(crate) fn insert(&mut self, channel: ChannelId) -> usize {
        let place = self.sorted.len();
        let at = self.sorted.partition_point(|entry| entry.0 < channel);
        self.last = (channel, u16::try_from(place).expect("channels are capped far below"));
        self.sorted.insert(at, self.last);
        place
    }

    /// Gives memory back that was taken for channels to come.
    pub(crate) fn shrink(&mut self) {
        self.sorted.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_dense_in_the_order_of_first_use() {
        let mut table = ChannelTable::new();
        assert_eq!(table.find(ChannelId(0)), None);
        for (place, id) in [70, 3, 0, u32::MAX, 16].into_iter().enumerate() {
            assert_eq!(table.insert(ChannelId(id)), place);
        }
        for (place, id) in [70, 3, 0, u32::MAX, 16].into_iter().enumerate() {
            assert_eq!((table.find(ChannelId(id)), table.find(ChannelId(id))), (Some(place), Some(place)));
        }
        assert_eq!(table.find(ChannelId(17)), None);
    }
}
