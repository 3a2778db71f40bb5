//! Lines: the stores of one key or group come one after the other, since each needs to know what the one before did.
//!
//! In:    stores; which of them wait for the disk.
//! Out:   whose turn it is.
//! Holds: at most [`STORES_WAITING_KEY_MAX`] wait in a line, [`STORES_WAITING_LEN_MAX`] bytes in all; an empty line is none.

use std::collections::{BTreeMap, VecDeque};

use super::super::Asker;
use crate::limits::{STORES_WAITING_KEY_MAX, STORES_WAITING_LEN_MAX};

/// Where a store stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// It is its turn.
    First,
    /// Others come before.
    Waits,
    /// The line is full.
    None,
}

#[derive(Debug, Default)]
struct Line {
    is_held: bool,
    waiting: VecDeque<(Asker, Box<[u8]>)>,
}

/// Every line that there is.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: BTreeMap<Vec<u8>, Line>,
    waiting_len: usize,
}

impl Lines {
    /// A store comes.
    pub(super) fn join(&mut self, scope: &[u8], asker: Asker, payload: &[u8]) -> Place {
        let Some(line) = self.lines.get_mut(scope) else { return Place::First };
        if line.waiting.len() >= STORES_WAITING_KEY_MAX
            || self.waiting_len + charged(payload) > STORES_WAITING_LEN_MAX
        {
            return Place::None;
        }
        self.waiting_len += charged(payload);
        line.waiting.push_back((asker, payload.into()));
        Place::Waits
    }

    /// A write of this scope is on its way.
    pub(super) fn hold(&mut self, scope: &[u8]) {
        self.lines.entry(scope.to_vec()).or_default().is_held = true;
    }

    /// A write of this scope is on its way.
    pub(super) fn is_held(&self, scope: &[u8]) -> bool {
        self.lines.get(scope).is_some_and(|line| line.is_held)
    }

    /// It is done with.
    pub(super) fn release(&mut self, scope: &[u8]) {
        if let Some(line) = self.lines.get_mut(scope) {
            line.is_held = false;
        }
    }

    /// Whose turn it is; none: nobody waits, or a write is on its way.
    pub(super) fn next(&mut self, scope: &[u8]) -> Option<(Asker, Box<[u8]>)> {
        let line = self.lines.get_mut(scope).filter(|line| !line.is_held)?;
        let next = line.waiting.pop_front();
        match &next {
            Some((_, payload)) => self.waiting_len -= charged(payload),
            None => _ = self.lines.remove(scope),
        }
        next
    }
}

/// What a store that waits takes: its bytes, and what is known of whoever asks.
const fn charged(payload: &[u8]) -> usize {
    payload.len() + size_of::<(Asker, Box<[u8]>)>()
}
