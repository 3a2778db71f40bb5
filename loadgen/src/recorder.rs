//! Round trips as they come back: from when each was meant to leave, and from when it left.
//!
//! In:    an answer's two times and the time it arrived.
//! Out:   histograms of the whole run and of the time since somebody last looked.
//! Holds: counting an answer never allocates; what was meant to leave before `count_from` is forgotten.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

/// The longest round trip that is told apart, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;
/// Decimal places that are told apart.
const PLACES: u8 = 3;
/// Rounds to many peers that may be under way; older ones are given up.
const ROUNDS_MAX: usize = 65_536;

/// An empty histogram of nanoseconds; counting never allocates.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, PLACES).expect("the bounds are in order")
}

/// Everything that came back.
#[derive(Debug)]
pub(crate) struct Recorder {
    counted_from_ns: u64,
    /// All answers, those of the warm-up too.
    heard: u64,
    /// When the last that counts arrived.
    last_ns: u64,
    corrected: Histogram<u64>,
    uncorrected: Histogram<u64>,
    interval: Histogram<u64>,
    rounds: Option<Rounds>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            counted_from_ns: 0,
            heard: 0,
            last_ns: 0,
            corrected: histogram(),
            uncorrected: histogram(),
            interval: histogram(),
            rounds: None,
        }
    }
}

impl Recorder {
    /// Forgets everything; answers count whose message was meant to leave then or later.
    pub(crate) fn count_from(&mut self, at_ns: u64) {
        self.counted_from_ns = at_ns;
        (self.heard, self.last_ns) = (0, 0);
        self.corrected.reset();
        self.uncorrected.reset();
        self.interval.reset();
        self.rounds = None;
    }

    /// Answers to one message come from so many peers, all sent to at the same intended time.
    pub(crate) fn expect_rounds(&mut self, peers: u32) {
        let open = VecDeque::with_capacity(ROUNDS_MAX);
        self.rounds = Some(Rounds { peers, open, whole: histogram() });
    }

    /// An answer to a message that was meant to leave and left at these times.
    pub(crate) fn on_answer(&mut self, (intended, sent): (u64, u64), now: u64) {
        self.heard += 1;
        if intended < self.counted_from_ns {
            return;
        }
        self.last_ns = now;
        let corrected = now.saturating_sub(intended);
        self.corrected.saturating_record(corrected);
        self.uncorrected.saturating_record(now.saturating_sub(sent));
        self.interval.saturating_record(corrected);
        if let Some(rounds) = &mut self.rounds {
            rounds.on_answer(intended, now);
        }
    }

    /// Answers that count.
    pub(crate) fn answered(&self) -> u64 {
        self.corrected.len()
    }

    /// When the last answer that counts arrived.
    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// All answers since `count_from` was said.
    pub(crate) fn heard(&self) -> u64 {
        self.heard
    }

    /// From the intended times.
    pub(crate) fn corrected(&self) -> &Histogram<u64> {
        &self.corrected
    }

    /// From the times of sending.
    pub(crate) fn uncorrected(&self) -> &Histogram<u64> {
        &self.uncorrected
    }

    /// From a round's intended time to its last peer's answer, of rounds that came back whole.
    pub(crate) fn whole_rounds(&self) -> Option<&Histogram<u64>> {
        self.rounds.as_ref().map(|rounds| &rounds.whole)
    }

    /// Exchanges what came since the last look for an empty histogram: the lock is not held for longer than that.
    pub(crate) fn swap_interval(&mut self, spare: &mut Histogram<u64>) {
        std::mem::swap(&mut self.interval, spare);
    }
}

/// One message to many peers.
#[derive(Debug)]
struct Rounds {
    peers: u32,
    /// Intended time and answers so far, rising.
    open: VecDeque<(u64, u32)>,
    whole: Histogram<u64>,
}

impl Rounds {
    fn on_answer(&mut self, intended: u64, now: u64) {
        let at = match self.open.binary_search_by_key(&intended, |(at, _)| *at) {
            Ok(at) => at,
            Err(at) => {
                if self.open.len() == ROUNDS_MAX {
                    return;
                }
                self.open.insert(at, (intended, 0));
                at
            }
        };
        let round = &mut self.open[at];
        round.1 += 1;
        if round.1 == self.peers {
            self.open.remove(at);
            self.whole.saturating_record(now.saturating_sub(intended));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_counts_when_its_last_peer_has_answered() {
        let mut recorder = Recorder::default();
        recorder.expect_rounds(3);
        for (intended, now) in [(100, 150), (100, 160), (200, 230), (100, 190), (200, 240)] {
            recorder.on_answer((intended, intended), now);
        }
        let whole = recorder.whole_rounds().unwrap();
        assert_eq!((whole.len(), whole.max(), recorder.answered()), (1, 90, 5));
    }

    #[test]
    fn an_interval_is_told_once() {
        let mut recorder = Recorder::default();
        recorder.on_answer((0, 10), 500);
        let mut interval = histogram();
        recorder.swap_interval(&mut interval);
        assert_eq!((interval.len(), recorder.answered(), recorder.uncorrected().max()), (1, 1, 490));
        interval.reset();
        recorder.swap_interval(&mut interval);
        assert!(interval.is_empty());
    }
}
