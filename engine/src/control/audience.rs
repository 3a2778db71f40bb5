//! Those who listen: each has a queue of its own, and a slow one loses its oldest while others lose nothing.
//!
//! In:    what the network tells, on its own thread.
//! Out:   for each listener what it has not heard yet.
//! Holds: a queue is bounded in words and bytes; what was lost is counted and said.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dunlin_codec::message::Operation;

use super::protocol::{Answer, Heard, to_hex};
use crate::bell::Bell;
use crate::mailbox::lock;
use crate::network::NetworkEvent;

/// Words that wait for a listener at most.
const WORDS_MAX: usize = 1_024;
/// Bytes of values that wait for a listener at most, one value more.
const WORDS_LEN_MAX: usize = 4 << 20;
/// How often it is looked whether a listener is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// All who listen.
#[derive(Default)]
pub(super) struct Audience {
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    taken: Vec<Arc<Ear>>,
    is_closed: bool,
}

/// What one of them has not heard yet.
#[derive(Default)]
struct Ear {
    waiting: Mutex<Waiting>,
    bell: Bell,
}

#[derive(Default)]
struct Waiting {
    words: VecDeque<Heard>,
    len: usize,
    missed: u64,
    is_closed: bool,
}

/// A listener, who leaves when this is dropped.
pub(super) struct Seat<'a> {
    audience: &'a Audience,
    ear: Arc<Ear>,
}

impl Audience {
    /// One more listener; none when there are as many as there may be.
    pub(super) fn enter(&self, count_max: usize) -> Option<Seat<'_>> {
        let mut seats = self.seats();
        if seats.taken.len() >= count_max || seats.is_closed {
            return None;
        }
        let ear = Arc::new(Ear::default());
        seats.taken.push(ear.clone());
        Some(Seat { audience: self, ear })
    }

    /// The network tells something.
    pub(super) fn on_event(&self, event: &NetworkEvent) {
        let NetworkEvent::Told(told) = event else { return };
        let seats = self.seats();
        if seats.taken.is_empty() {
            return;
        }
        let how = match told.operation {
            Operation::Whisper => "whisper",
            Operation::Shout => "shout",
            _ => "speak",
        };
        let heard = Heard { from: told.from.to_string(), how: how.to_owned(), value: to_hex(&told.value) };
        seats.taken.iter().for_each(|ear| ear.hear(&heard));
    }

    /// Nothing will be told any more.
    pub(super) fn close(&self) {
        let mut seats = self.seats();
        seats.is_closed = true;
        for ear in &seats.taken {
            lock(&ear.waiting).is_closed = true;
            ear.bell.ring();
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        lock(&self.seats)
    }
}

impl Ear {
    fn hear(&self, heard: &Heard) {
        {
            let mut waiting = lock(&self.waiting);
            while waiting.words.len() >= WORDS_MAX || waiting.len > WORDS_LEN_MAX {
                let Some(oldest) = waiting.words.pop_front() else { break };
                waiting.len -= oldest.value.len();
                waiting.missed += 1;
            }
            waiting.len += heard.value.len();
            waiting.words.push_back(heard.clone());
        }
        self.bell.ring();
    }

    fn take(&self) -> Option<Vec<Answer>> {
        let mut waiting = lock(&self.waiting);
        if waiting.is_closed {
            return None;
        }
        waiting.len = 0;
        let missed = take(&mut waiting.missed);
        let missed = (missed > 0).then_some(Answer::Missed(missed));
        Some(missed.into_iter().chain(waiting.words.drain(..).map(Answer::Heard)).collect())
    }
}

impl Seat<'_> {
    /// What was said since the last time, after waiting a while for it. None: nothing will be said any more.
    pub(super) fn wait(&self) -> Option<Vec<Answer>> {
        let listener = self.ear.bell.listen();
        let answers = self.ear.take()?;
        if !answers.is_empty() {
            return Some(answers);
        }
        listener.wait_timeout(LOOK_EVERY);
        self.ear.take()
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.audience.seats().taken.retain(|other| !Arc::ptr_eq(other, &self.ear));
    }
}

#[cfg(test)]
mod tests {
    use dunlin_codec::ids::NodeId;

    use super::*;
    use crate::network::Told;

    fn told(number: u64, len: usize) -> NetworkEvent {
        let value = [&number.to_be_bytes()[..], &vec![0; len]].concat();
        NetworkEvent::Told(Told { from: NodeId([1; 32]), operation: Operation::Speak, value: value.into() })
    }

    #[test]
    fn a_slow_listener_loses_its_oldest_and_is_told_how_many() {
        for (len, kept) in [(0, WORDS_MAX), (1 << 20, 2)] {
            let audience = Audience::default();
            let (slow, quick) = (audience.enter(2).unwrap(), audience.enter(2).unwrap());
            assert!(audience.enter(2).is_none());
            for number in 0..1_100 {
                audience.on_event(&told(number, len));
                assert_eq!(quick.wait().unwrap().len(), 1, "the other one loses nothing");
            }
            let answers = slow.wait().unwrap();
            assert_eq!(answers[0], Answer::Missed(1_100 - kept as u64));
            let Answer::Heard(first) = &answers[1] else { panic!("{:?}", answers[1]) };
            assert!(
                answers.len() == kept + 1
                    && first.value.starts_with(&to_hex(&(1_100 - kept as u64).to_be_bytes()))
            );
            drop(quick);
            assert!(audience.enter(2).is_some(), "there is a seat again");
            audience.close();
            assert!(slow.wait().is_none());
        }
    }
}
