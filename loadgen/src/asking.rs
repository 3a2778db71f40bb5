//! A member of a crowd that asks: so many questions under way at once on the session that it has.
//!
//! In:    what its shard tells of the session, and what it is to do.
//! Out:   questions; how many answers came, how long each took.
//! Holds: every question is another; one that is refused, answered wrongly or not in time counts as failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dunlin::entropy::OsEntropy;
use dunlin_shards::event::Ticket;
use dunlin_shards::messages::conversation::Fact;
use dunlin_shards::rng::Rng;
use dunlin_shards::time::{Instant, Now};
use hdrhistogram::Histogram;

use crate::questions::{Question, Topic, Turn};
use crate::recorder::histogram;
use crate::talk::{OwnShard, Talk};

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What a crowd's questions came to.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    /// Answers with what was asked for.
    pub(crate) answers: u64,
    /// Nodes or values in them.
    pub(crate) nodes: u64,
    /// Questions that were refused, or not answered in time.
    pub(crate) failed: u64,
    /// How long each answer took, in ns.
    pub(crate) times: Histogram<u64>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { answers: 0, nodes: 0, failed: 0, times: histogram() }
    }
}

impl Answers {
    /// Nothing yet; the room stays.
    pub(crate) fn clear(&mut self) {
        (self.answers, self.nodes, self.failed) = (0, 0, 0);
        self.times.reset();
    }

    /// These and those.
    pub(crate) fn add(&mut self, more: &Self) {
        self.answers += more.answers;
        self.nodes += more.nodes;
        self.failed += more.failed;
        // All histograms have the same bounds.
        let _ = self.times.add(&more.times);
    }
}

/// One member that asks.
pub(crate) struct Asking {
    topic: Arc<Topic>,
    /// Which member it is.
    own: usize,
    stored: usize,
    rng: Rng,
    tickets: u64,
    /// What each that is under way asks, and when it was asked.
    asked: BTreeMap<u64, (Instant, Question)>,
    value: Vec<u8>,
}

impl Asking {
    pub(crate) fn new(own: usize, topic: Arc<Topic>) -> Self {
        let rng = Rng::from_seed(OsEntropy.array());
        Self { topic, own, stored: 0, rng, tickets: 0, asked: BTreeMap::new(), value: Vec::new() }
    }

    /// Takes in what was answered, asks again if it is to, and says what there is to say.
    pub(crate) fn work(
        &mut self,
        now: Now,
        (talk, shard): (&mut Talk, &mut OwnShard),
        turn: Turn,
        answers: &mut Answers,
    ) {
        talk.on_time(now.instant);
        while let Some(fact) = talk.poll_fact() {
            let Fact::Answered { ticket, outcome } = fact else { continue };
            let Some((asked_at, question)) = self.asked.remove(&ticket.0) else { continue };
            match self.topic.judge(question, outcome.ack()) {
                Some(count) => {
                    answers.answers += 1;
                    answers.nodes += count;
                    answers.times.saturating_record(now.instant.since(asked_at).as_nanos() as u64);
                }
                None => answers.failed += 1,
            }
        }
        while talk.is_met() && self.asked.len() < self.topic.parallel && self.ask(now, talk, turn) {}
        talk.send(now, shard);
    }

    /// Asks once more; false: there is nothing to ask, or no room for it.
    fn ask(&mut self, now: Now, talk: &mut Talk, turn: Turn) -> bool {
        let own = (self.own, self.stored);
        let Some(question) = self.topic.next(turn, own, &mut self.rng) else { return false };
        let Some((talk, bench)) = talk.both() else { return false };
        let ticket = self.tickets + 1;
        let asked = self.topic.put(question, (ticket, &mut self.value), |request| {
            talk.ask(bench, Ticket(ticket), request, ANSWER)
        });
        if asked.is_err() {
            return false;
        }
        self.tickets = ticket;
        self.stored += usize::from(matches!(question, Question::Keep(_)));
        self.asked.insert(ticket, (now.instant, question));
        true
    }
}
