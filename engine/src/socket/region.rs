//! Memory that the kernel reads and writes beside us: cut into slots of one size, never moved.
//!
//! In:    slot size and count, once.
//! Out:   slots, by number.
//! Holds: zeroed, page-aligned, at one place from `new` to drop. Whoever lends a slot to the kernel keeps the region
//!        until the kernel has given it back.
#![expect(unsafe_code, reason = "memory that the kernel writes into while we hold it cannot be a slice")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// A page on every machine.
const PAGE: usize = 64 << 10;
/// What large regions are aligned to, so that the kernel can back them with huge pages.
const HUGE_PAGE: usize = 2 << 20;

/// Slots of one size.
pub(super) struct Region {
    start: NonNull<u8>,
    layout: Layout,
    slot_len: usize,
}

impl Region {
    /// So many slots of so many bytes.
    pub(super) fn new(slot_len: usize, slots: usize) -> Self {
        assert!(slot_len > 0 && slots > 0);
        let len = slot_len * slots;
        let align = if len < HUGE_PAGE { PAGE } else { HUGE_PAGE };
        let layout = Layout::from_size_align(len, align).expect("a region is a few megabytes");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout, slot_len }
    }

    /// How many slots there are.
    pub(super) const fn slot_count(&self) -> usize {
        self.layout.size() / self.slot_len
    }

    /// Where a slot starts.
    pub(super) fn at(&self, slot: usize) -> *mut u8 {
        assert!(slot < self.slot_count());
        // SAFETY: the slot lies within the allocation.
        unsafe { self.start.add(slot * self.slot_len).as_ptr() }
    }

    /// A slot's bytes.
    ///
    /// # Safety
    ///
    /// The kernel does not hold the slot.
    pub(super) unsafe fn slot(&mut self, slot: usize) -> &mut [u8] {
        let start = self.at(slot);
        // SAFETY: within the allocation, initialized (zeroed at first, the kernel writes only bytes), and borrowed from
        // `self` alone, as the caller promises for the kernel.
        unsafe { std::slice::from_raw_parts_mut(start, self.slot_len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_lie_side_by_side() {
        let mut region = Region::new(100, 3);
        assert_eq!(region.slot_count(), 3);
        assert_eq!(region.at(2) as usize - region.at(0) as usize, 200);
        // SAFETY: no kernel has heard of it.
        let slot = unsafe { region.slot(2) };
        assert!(slot.len() == 100 && slot.iter().all(|byte| *byte == 0));
    }
}
