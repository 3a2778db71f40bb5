//! Whose turn it is: channels with something to send, by priority, in turns among equals.
//!
//! In:    channels that became ready, or changed their priority.
//! Out:   the rings of each priority, most urgent first.
//! Holds: a channel stands at most once in each kind of ring, at its own priority.
//! spec: atp/priority

use std::collections::VecDeque;

/// The channels of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) priority: u8,
    /// Those with something to send again, or to skip: served first.
    pub(super) again: VecDeque<u16>,
    /// Those with something new.
    pub(super) fresh: VecDeque<u16>,
}

/// All priorities in use, ascending: a lower number is more urgent.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) levels: Vec<Level>,
}

impl Schedule {
    /// The level of a priority, made when it is new.
    #[inline]
    pub(super) fn level(&mut self, priority: u8) -> &mut Level {
        let at = match self.levels.binary_search_by_key(&priority, |level| level.priority) {
            Ok(at) => at,
            Err(at) => {
                let level = Level { priority, again: VecDeque::new(), fresh: VecDeque::new() };
                self.levels.insert(at, level);
                at
            }
        };
        &mut self.levels[at]
    }

    /// A channel that waits in these rings changes its priority.
    pub(super) fn change(&mut self, slot: u16, from: u8, to: u8) {
        let old = self.level(from);
        let (again, fresh) = (old.again.contains(&slot), old.fresh.contains(&slot));
        old.again.retain(|&other| other != slot);
        old.fresh.retain(|&other| other != slot);
        let new = self.level(to);
        if again {
            new.again.push_back(slot);
        }
        if fresh {
            new.fresh.push_back(slot);
        }
    }

    /// Frees empty levels.
    pub(super) fn shrink(&mut self) {
        self.levels.retain(|level| !level.again.is_empty() || !level.fresh.is_empty());
        self.levels.shrink_to_fit();
    }
}
