//! Answers to questions that the conversation does not know, because they were asked on a session which is becoming one with its own.
//!
//! In:    answers that nobody waits for; conversations that take over questions.
//! Out:   the answers to those.
//! Holds: [`STRAYS_COUNT_MAX`] answers of [`STRAYS_LEN_MAX`] bytes in all, for all conversations of a shard, each for
//!        [`YIELD_LINGER`]; the oldest go first.
//!
//! The peer answers on the session that carries on as soon as it has moved there, which may be before we have: what is still
//! unacknowledged on the old one keeps ours back.
//!
//! spec: p2p/succession

use std::collections::VecDeque;

use dunlin_codec::ids::NodeId;
use dunlin_codec::message::{Direct, Operation};

use crate::limits::{STRAYS_COUNT_MAX, STRAYS_LEN_MAX, YIELD_LINGER};
use crate::time::Instant;

/// An answer that came before its question.
#[derive(Debug)]
pub(super) struct Stray {
    peer: NodeId,
    came_at: Instant,
    operation: Operation,
    is_sealed: bool,
    request: u64,
    payload: Box<[u8]>,
}

impl Stray {
    /// As it came.
    pub(super) fn message(&self) -> Direct<'_> {
        let Self { operation, is_sealed, request, ref payload, .. } = *self;
        Direct { operation, is_sealed, request, payload }
    }
}

/// Those of a shard, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Strays {
    queue: VecDeque<Stray>,
    len: usize,
}

impl Strays {
    /// Keeps an answer for a while.
    pub(super) fn put(&mut self, now: Instant, peer: NodeId, message: &Direct<'_>) {
        let Direct { operation, is_sealed, request, payload } = *message;
        if payload.len() > STRAYS_LEN_MAX {
            return;
        }
        let is_old = |stray: &mut Stray| stray.came_at + YIELD_LINGER <= now;
        while self.queue.pop_front_if(is_old).is_some_and(|stray| self.forget(&stray)) {}
        while self.queue.len() >= STRAYS_COUNT_MAX || self.len + payload.len() > STRAYS_LEN_MAX {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.forget(&oldest);
        }
        self.len += payload.len();
        self.queue.push_back(Stray {
            peer,
            came_at: now,
            operation,
            is_sealed,
            request,
            payload: payload.into(),
        });
    }

    /// An answer of the peer's to one of these questions.
    pub(super) fn take(
        &mut self,
        now: Instant,
        peer: &NodeId,
        is_asked: impl Fn(u64) -> bool,
    ) -> Option<Stray> {
        let is_it = |stray: &Stray| {
            stray.peer == *peer && stray.came_at + YIELD_LINGER > now && is_asked(stray.request)
        };
        let stray = self.queue.iter().position(is_it).and_then(|at| self.queue.remove(at))?;
        self.forget(&stray);
        Some(stray)
    }

    fn forget(&mut self, stray: &Stray) -> bool {
        self.len -= stray.payload.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const ONE: NodeId = NodeId([1; 32]);
    const OTHER: NodeId = NodeId([2; 32]);

    fn put(strays: &mut Strays, at: Instant, peer: NodeId, request: u64, len: usize) {
        let payload = vec![0; len];
        let message = Direct { operation: Operation::Ack, is_sealed: false, request, payload: &payload };
        strays.put(at, peer, &message);
    }

    /// spec: p2p/succession
    #[test]
    fn an_answer_is_its_peers_and_waits_for_its_question_a_while() {
        let mut strays = Strays::default();
        let now = Instant::ZERO;
        put(&mut strays, now, ONE, 7, 3);
        assert!(strays.take(now, &OTHER, |_| true).is_none());
        assert!(strays.take(now, &ONE, |request| request == 8).is_none());
        assert!(strays.take(now + YIELD_LINGER, &ONE, |_| true).is_none(), "too late");
        let stray = strays.take(now, &ONE, |request| request == 7).unwrap();
        assert_eq!((stray.message().request, stray.message().payload), (7, &[0; 3][..]));
        assert!(strays.take(now, &ONE, |_| true).is_none() && strays.len == 0);
    }

    /// Whoever answers what was never asked takes no more than this.
    #[test]
    fn strays_are_bounded_by_number_and_by_length() {
        let mut strays = Strays::default();
        let now = Instant::ZERO;
        for request in 0..3 * STRAYS_COUNT_MAX as u64 {
            put(&mut strays, now, ONE, request, 10);
        }
        assert_eq!((strays.queue.len(), strays.len), (STRAYS_COUNT_MAX, 10 * STRAYS_COUNT_MAX));
        assert!(strays.take(now, &ONE, |request| request == 0).is_none(), "the oldest went first");
        for request in 0..5 {
            put(&mut strays, now, ONE, request, STRAYS_LEN_MAX / 2);
        }
        assert_eq!((strays.queue.len(), strays.len), (2, STRAYS_LEN_MAX / 2 * 2));
        put(&mut strays, now, ONE, 9, STRAYS_LEN_MAX + 1);
        assert_eq!(strays.queue.len(), 2);
        put(&mut strays, now + YIELD_LINGER + Duration::from_secs(1), ONE, 9, 1);
        assert_eq!((strays.queue.len(), strays.len), (1, 1), "the others were too old");
    }
}
