//! Messages that are partly here.
//!
//! In:    pieces, in any order, overlapping or not.
//! Out:   how far a message's beginning reaches; its block when it is whole.
//! Holds: at most `OPEN_MESSAGES_MAX` messages and `GAPS_MAX` gaps, counted over all of a session's channels; a byte counts once.

use crate::blocks::Block;
use crate::limits::{GAPS_MAX, OPEN_MESSAGES_MAX};
use crate::mutants::{Mutant, planted};
use crate::time::Instant;

use super::islands::Islands;

const _: () = assert!(OPEN_MESSAGES_MAX <= 256, "a place names it in one byte");

/// Whose message it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// The channel's place in the receiver's list.
    pub(super) slot: usize,
    /// The message's number.
    pub(super) id: u64,
    /// An unreliable message: how many reliable ones went before it.
    pub(super) unreliable: Option<u64>,
    /// When its first piece came.
    pub(super) since: Instant,
}

/// A message that is partly here.
#[derive(Debug)]
pub(super) struct Open {
    /// `None`: the entry is free.
    pub(super) owner: Option<Owner>,
    /// As long as the message.
    pub(super) block: Block,
    /// Bytes here without a gap, from the first.
    pub(super) prefix: u32,
    islands: Islands,
}

/// All of a session's open messages.
#[derive(Debug, Default)]
pub(super) struct OpenTable {
    entries: Vec<Open>,
    free: Vec<u8>,
    gaps: usize,
}

impl OpenTable {
    /// Open messages.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= OPEN_MESSAGES_MAX
    }

    /// Adds a message; `block` has its length. There must be room: see `is_full`.
    pub(super) fn add(&mut self, owner: Owner, block: Block) -> u8 {
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[usize::from(index)];
            (entry.owner, entry.block, entry.prefix) = (Some(owner), block, 0);
            return index;
        }
        let index = u8::try_from(self.entries.len()).expect("the caller asked is_full");
        self.entries.push(Open { owner: Some(owner), block, prefix: 0, islands: Islands::default() });
        index
    }

    pub(super) fn get(&self, index: u8) -> &Open {
        &self.entries[usize::from(index)]
    }

    /// The open messages that may be lost, with their places.
    pub(super) fn unreliable(&self) -> impl Iterator<Item = (u8, Owner)> + '_ {
        let owners = self.entries.iter().enumerate();
        owners
            .filter_map(|(index, entry)| Some((index as u8, entry.owner.filter(|o| o.unreliable.is_some())?)))
    }

    /// The first open message that may be lost and fits the description.
    pub(super) fn find_unreliable(&self, fits: impl Fn(&Owner) -> bool) -> Option<u8> {
        self.unreliable().find(|(_, owner)| fits(owner)).map(|(index, _)| index)
    }

    /// Copies a piece that lies within the message. By how many bytes the beginning grew; `None` when there are too many gaps.
    #[inline]
    pub(super) fn write(&mut self, index: u8, offset: u32, bytes: &[u8]) -> Option<u32> {
        let entry = &mut self.entries[usize::from(index)];
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if end <= entry.prefix as usize {
            return Some(0);
        }
        let end_u32 = u32::try_from(end).ok()?;
        if offset > entry.prefix {
            if self.gaps >= GAPS_MAX && !planted(Mutant::GapsNotLimited) {
                return None;
            }
            let off = usize::from(planted(Mutant::PieceMisplaced));
            entry.block[start - off..end - off].copy_from_slice(bytes);
            let before = entry.islands.len();
            entry.islands.insert(offset, end_u32);
            self.gaps = self.gaps + entry.islands.len() - before;
            assert!(self.gaps <= GAPS_MAX, "gaps are counted where they are made");
            return Some(0);
        }
        entry.block[start..end].copy_from_slice(bytes);
        let before = entry.islands.len();
        let prefix = entry.islands.absorb(end_u32);
        self.gaps = self.gaps + entry.islands.len() - before;
        let growth = prefix - entry.prefix;
        entry.prefix = prefix;
        Some(growth)
    }

    /// Takes a message out, whole or not.
    pub(super) fn remove(&mut self, index: u8) -> Block {
        let entry = &mut self.entries[usize::from(index)];
        self.gaps -= entry.islands.len();
        entry.islands.clear();
        entry.owner = None;
        self.free.push(index);
        core::mem::take(&mut entry.block)
    }

    /// Frees what nothing uses.
    pub(super) fn shrink(&mut self) {
        if self.len() == 0 {
            *self = Self::default();
        }
    }
}
