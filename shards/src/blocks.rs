//! Pooled payload blocks: the memory in which messages wait, on their way in and on their way out.
//!
//! In:    `take` (a length), `give` (a block that came home).
//! Out:   blocks with room for at least that length, or `None` when the pool's budget is used up.
//! Holds: bytes allocated and not yet freed never exceed the budget; memory is asked for only when a free list is empty.
//!
//! A block's room is one of 256, 512, 768, 1,280, 2,304, … 65,792, … 262,400, 524,544 or 1,048,832 bytes: 256 and doublings, each with
//! 256 bytes on top, so that a datagram's worth or a power of two with a small header fits, and at most half of a block is air.
//! Blocks are plain memory and may move between threads; a pool belongs to one.

use crate::mutants::{Mutant, planted};
use core::fmt;
use core::ops::{Deref, DerefMut};

/// The smallest block, and the step below the first doubling, in bytes.
const STEP_LEN: usize = 256;
/// Doublings of `STEP_LEN` that have a class of their own.
const DOUBLINGS: usize = 13;
/// Classes: the smallest, the doublings, and one for messages longer than any of them.
const CLASSES: usize = DOUBLINGS + 2;
/// The longest message that a regular class holds, in bytes.
const REGULAR_LEN_MAX: usize = STEP_LEN + (STEP_LEN << (DOUBLINGS - 1));
/// A class keeps at most this part of the budget in free blocks.
const KEPT_PART: usize = 8;

const _: () = assert!(REGULAR_LEN_MAX == (1 << 20) + STEP_LEN);

/// A payload in pooled memory. Dereferences to its bytes; its room may be larger.
#[derive(Default)]
pub struct Block {
    room: Box<[u8]>,
    len: u32,
    /// It counts in the pool of the shard that has it.
    is_lent: bool,
}

impl Block {
    /// A block without room: what an empty message travels in. Allocates nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Bytes that the block can hold, and what it costs in memory.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.room.len()
    }

    /// Sets the length. Bytes beyond what was written since the block was taken are somebody's old ones: write before showing.
    ///
    /// # Panics
    /// When `len` exceeds the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.room.len(), "a block's length stays within its room");
        self.len = u32::try_from(len).expect("no block has 4 GiB");
    }

    /// Shortens the block to `len` bytes; does nothing when it is shorter already.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len as usize {
            self.set_len(len);
        }
    }

    /// Makes `bytes` the block's content.
    ///
    /// # Panics
    /// When they exceed the capacity.
    pub fn fill_from(&mut self, bytes: &[u8]) {
        self.set_len(bytes.len());
        self.room[..bytes.len()].copy_from_slice(bytes);
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room[..self.len as usize]
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.room[..self.len as usize]
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Block {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} of {} bytes)", self.len, self.room.len())
    }
}

/// One thread's stock of blocks.
pub struct BlockPool {
    free: [Vec<Box<[u8]>>; CLASSES],
    message_len_max: usize,
    budget: usize,
    allocated: usize,
    taken: u64,
}

impl BlockPool {
    /// A pool that allocates at most `budget` bytes, for messages of at most `message_len_max` bytes. Allocates nothing yet.
    #[must_use]
    pub fn new(budget: usize, message_len_max: usize) -> Self {
        Self {
            free: Default::default(),
            message_len_max: message_len_max.max(REGULAR_LEN_MAX),
            budget,
            allocated: 0,
            taken: 0,
        }
    }

    /// A block of `len` bytes, with whatever they held last; `None` when the budget is used up or no message may be so long.
    pub fn take(&mut self, len: usize) -> Option<Block> {
        if len == 0 {
            return Some(Block::empty());
        }
        if len > self.message_len_max {
            return None;
        }
        self.taken += 1;
        let class = class_of(len);
        let room = match self.free[class].pop() {
            Some(room) => room,
            None => self.allocate(class)?,
        };
        Some(Block { room, len: u32::try_from(len).ok()?, is_lent: false })
    }

    /// As [`Self::take`], for whoever works on this pool's core: it counts here until it comes back by [`Self::receive`], or goes
    /// elsewhere by [`Self::let_go`].
    pub fn lend(&mut self, len: usize) -> Option<Block> {
        let block = self.take(len)?;
        Some(Block { is_lent: true, ..block })
    }

    /// A block that was lent goes to another pool's core: it counts here no more. Others are not this pool's affair.
    pub fn let_go(&mut self, block: &mut Block) {
        if core::mem::take(&mut block.is_lent) {
            self.disown(block.capacity());
        }
    }

    /// Takes a block in that was lent, here or elsewhere.
    pub fn receive(&mut self, block: Block) {
        if block.is_lent { self.give(block) } else { self.adopt(block) }
    }

    /// Takes a block home that came from `take`, wherever it has been since.
    pub fn give(&mut self, block: Block) {
        let capacity = block.capacity();
        if capacity == 0 {
            return;
        }
        let class = class_of(capacity);
        if capacity != self.class_len(class) || self.free[class].len() >= self.kept_max(class) {
            self.allocated = self.allocated.saturating_sub(capacity);
            return;
        }
        self.free[class].push(block.room);
    }

    /// Takes over a block that another pool or the application allocated; it counts here from now on, or is freed when there is no room.
    pub fn adopt(&mut self, block: Block) {
        if self.allocated + block.capacity() > self.budget {
            return;
        }
        self.allocated += block.capacity();
        self.give(block);
    }

    /// A block with this capacity has left for good: another pool adopted it, or it was dropped.
    pub fn disown(&mut self, capacity: usize) {
        self.allocated = self.allocated.saturating_sub(capacity);
    }

    /// Bytes allocated and not freed: blocks in use and free ones together.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.allocated
    }

    /// Bytes of the free blocks among them.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.free.iter().enumerate().map(|(class, list)| list.len() * self.class_len(class)).sum()
    }

    /// Blocks taken so far: two looks at it tell how busy the pool was between them.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes that may be allocated at most.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Whether blocks in use take more than three quarters of the budget: time to stop granting credit.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.allocated > self.budget / 4 * 3 && self.allocated - self.free_bytes() > self.budget / 4 * 3
    }

    /// Frees every block that nobody uses.
    pub fn shrink(&mut self) {
        for class in 0..CLASSES {
            self.allocated -= self.free[class].len() * self.class_len(class);
            self.free[class] = Vec::new();
        }
    }

    fn allocate(&mut self, class: usize) -> Option<Box<[u8]>> {
        let len = self.class_len(class);
        if self.allocated + len > self.budget {
            self.shed(len);
        }
        if self.allocated + len > self.budget && !planted(Mutant::PoolBudgetIgnored) {
            return None;
        }
        self.allocated += len;
        Some(vec![0; len].into_boxed_slice())
    }

    /// Frees unused blocks of other classes, largest first, until `len` bytes fit into the budget.
    fn shed(&mut self, len: usize) {
        for class in (0..CLASSES).rev() {
            while self.allocated + len > self.budget {
                let Some(room) = self.free[class].pop() else { break };
                self.allocated -= room.len();
            }
        }
    }

    fn class_len(&self, class: usize) -> usize {
        match class {
            0 => STEP_LEN,
            1..=DOUBLINGS => STEP_LEN + (STEP_LEN << (class - 1)),
            _ => self.message_len_max,
        }
    }

    fn kept_max(&self, class: usize) -> usize {
        (self.budget / KEPT_PART / self.class_len(class)).max(1)
    }
}

impl fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockPool({} of {} bytes)", self.allocated, self.budget)
    }
}

/// The smallest class whose blocks hold `len` bytes; a class's own capacity leads back to it.
fn class_of(len: usize) -> usize {
    if len <= STEP_LEN {
        return 0;
    }
    if len > REGULAR_LEN_MAX {
        return CLASSES - 1;
    }
    let steps = (len - STEP_LEN).div_ceil(STEP_LEN);
    1 + steps.next_power_of_two().trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(budget: usize) -> BlockPool {
        BlockPool::new(budget, 1 << 20)
    }

    #[test]
    fn a_block_has_the_smallest_room_that_fits() {
        let mut pool = pool(64 << 20);
        let rooms = [1, 256, 257, 512, 1_200, 64 << 10, (256 << 10) + 40, 1 << 20]
            .map(|len| pool.take(len).unwrap().capacity());
        assert_eq!(rooms, [256, 256, 512, 512, 1_280, 65_792, 262_400, 1_048_832]);
        assert_eq!(pool.take(0).unwrap().capacity(), 0);
        assert!(pool.take((1 << 20) + 257).is_none());
    }

    #[test]
    fn a_longer_message_has_a_class_of_its_exact_length() {
        let mut pool = BlockPool::new(64 << 20, 5_000_000);
        let block = pool.take(2_000_000).unwrap();
        assert_eq!((block.len(), block.capacity()), (2_000_000, 5_000_000));
        pool.give(block);
        assert_eq!(pool.free_bytes(), 5_000_000);
        assert_eq!(pool.take(5_000_000).unwrap().len(), 5_000_000);
        assert_eq!(pool.allocated_bytes(), 5_000_000);
        assert!(pool.take(5_000_001).is_none());
    }

    #[test]
    fn a_block_that_came_home_is_used_again() {
        let mut pool = pool(1 << 20);
        let mut block = pool.take(1_000).unwrap();
        block.fill_from(&[7; 900]);
        let at = block.as_ptr();
        pool.give(block);
        let again = pool.take(1_200).unwrap();
        assert_eq!((again.as_ptr(), again.len(), pool.allocated_bytes()), (at, 1_200, 1_280));
    }

    #[test]
    fn the_budget_is_never_exceeded_and_free_blocks_of_other_classes_give_way() {
        let mut pool = pool(3_000);
        let small: Vec<_> = (0..11).map(|_| pool.take(100).unwrap()).collect();
        assert!(pool.take(100).is_none(), "12 x 256 are more than 3,000");
        assert!(pool.is_short());
        for block in small {
            pool.give(block);
        }
        assert!(!pool.is_short());
        assert!(pool.allocated_bytes() <= 3_000 / KEPT_PART + STEP_LEN, "few free blocks are kept");
        assert_eq!(pool.take(2_304).unwrap().capacity(), 2_304);
        assert!(pool.allocated_bytes() <= 3_000);
    }

    /// What is lent uses up the budget until it is back, wherever it comes back.
    #[test]
    fn lent_blocks_count_where_they_are() {
        let (mut near, mut far) = (pool(1_024), pool(1_024));
        let mut lent: Vec<_> = core::iter::from_fn(|| near.lend(100)).collect();
        assert_eq!((lent.len(), near.allocated_bytes()), (4, 1_024), "no more than the budget");
        let mut moved = lent.split_off(2);
        moved.iter_mut().for_each(|block| near.let_go(block));
        assert_eq!(near.allocated_bytes(), 512);
        moved.into_iter().for_each(|block| far.receive(block));
        lent.into_iter().for_each(|block| near.receive(block));
        for pool in [&mut near, &mut far] {
            assert!(pool.allocated_bytes() == pool.free_bytes() && pool.allocated_bytes() <= 512);
            pool.shrink();
            assert_eq!(pool.allocated_bytes(), 0);
        }
    }

    #[test]
    fn blocks_may_change_their_pool() {
        let (mut near, mut far) = (pool(1 << 20), pool(1 << 20));
        let block = near.take(300).unwrap();
        near.disown(block.capacity());
        far.adopt(block);
        assert_eq!((near.allocated_bytes(), far.allocated_bytes()), (0, 512));
        far.shrink();
        assert_eq!((far.allocated_bytes(), far.free_bytes()), (0, 0));
    }

    #[test]
    fn blocks_cross_threads() {
        fn is_send<T: Send>() {}
        is_send::<Block>();
        assert_eq!(size_of::<Block>(), 24);
    }

    proptest! {
        /// Every length fits its class, and at most half of a block is air (the smallest aside).
        #[test]
        fn every_length_fits_its_class(len in 1usize..=1 << 20) {
            let mut pool = pool(2 << 20);
            let block = pool.take(len).unwrap();
            prop_assert!(block.capacity() >= len && (block.capacity() <= 256 || block.capacity() <= 2 * len));
            prop_assert_eq!(class_of(block.capacity()), class_of(len));
        }

        /// Whatever is taken and given, the count of allocated bytes is the sum of what is out and what is free.
        #[test]
        fn allocated_bytes_are_counted(lens in prop::collection::vec((1usize..70_000, any::<bool>()), 1..60)) {
            let mut pool = pool(1 << 20);
            let mut out = Vec::new();
            for (len, give) in lens {
                if let Some(block) = pool.take(len) {
                    out.push(block);
                }
                if give && !out.is_empty() {
                    pool.give(out.swap_remove(len % out.len()));
                }
                let used: usize = out.iter().map(Block::capacity).sum();
                prop_assert_eq!(pool.allocated_bytes(), used + pool.free_bytes());
                prop_assert!(pool.allocated_bytes() <= pool.budget());
            }
        }
    }
}
