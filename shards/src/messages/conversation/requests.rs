//! Our open requests to one peer: each is answered once, or runs out.
//!
//! In:    questions, answers' ids, time.
//! Out:   which question an answer is for; those that ran out.
//! Holds: at most [`REQUESTS_OPEN_MAX`]; an id is not used again while it is open, and 0 never.

use std::collections::VecDeque;

use dunlin_codec::bytes::VARINT_MAX;
use dunlin_codec::message::Operation;

use crate::event::Ticket;
use crate::limits::REQUESTS_OPEN_MAX;
use crate::time::Instant;

/// A question that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) id: u64,
    /// The asker's name for it; none: our own greeting.
    pub(super) ticket: Option<Ticket>,
    pub(super) operation: Operation,
    deadline: Instant,
}

/// Our open requests, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: VecDeque<Open>,
}

impl Requests {
    /// Opens a request under the id behind `last`; none when there are too many.
    pub(super) fn open(
        &mut self,
        last: &mut u64,
        ticket: Option<Ticket>,
        operation: Operation,
        deadline: Instant,
    ) -> Option<u64> {
        if self.open.len() >= REQUESTS_OPEN_MAX {
            return None;
        }
        // Counting up never meets an open one before 2^62 requests.
        *last = if *last == VARINT_MAX { 1 } else { *last + 1 };
        self.open.push_back(Open { id: *last, ticket, operation, deadline });
        Some(*last)
    }

    /// The request that an answer names. Answers mostly come in order, so it stands near the front.
    pub(super) fn take(&mut self, id: u64) -> Option<Open> {
        let at = self.open.iter().position(|open| open.id == id)?;
        self.open.remove(at)
    }

    /// Whether this one waits for its answer.
    pub(super) fn has(&self, id: u64) -> bool {
        self.open.iter().any(|open| open.id == id)
    }

    /// Those that somebody waits for go on elsewhere, as long as there is room.
    pub(super) fn move_into(&mut self, other: &mut Self) {
        let room = REQUESTS_OPEN_MAX.saturating_sub(other.open.len());
        let (mut stay, mut go) = (VecDeque::new(), VecDeque::new());
        for open in self.open.drain(..) {
            let place = if open.ticket.is_some() && go.len() < room { &mut go } else { &mut stay };
            place.push_back(open);
        }
        self.open = stay;
        other.open.extend(go);
    }

    /// The next request that ran out.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Open> {
        let at = self.open.iter().position(|open| open.deadline <= now)?;
        self.open.remove(at)
    }

    /// The next of all: the conversation is over.
    pub(super) fn abandon(&mut self) -> Option<Open> {
        self.open.pop_front()
    }

    /// When the next one runs out.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.iter().map(|open| open.deadline).min()
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    pub(super) fn shrink(&mut self) {
        self.open.shrink_to_fit();
    }
}
