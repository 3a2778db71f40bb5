//! Storing: a value goes to every holder, each keeps it for itself.
//!
//! In:    the holders, the arguments of STORE, their answers.
//! Out:   questions, how many keep it.
//! Holds: every holder is asked once.
//!
//! spec: p2p/put

use dunlin_codec::args::{Ack, Nack, Reason};
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::Operation;

use super::asking::Asking;
use super::{Answer, Question};

/// What became of a store.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stored {
    /// Holders that keep it, on disk.
    pub kept: usize,
    /// Why others do not.
    pub refusals: Vec<Reason>,
    /// Holders that did not answer, or nonsense.
    pub failed: usize,
    /// The record that the first of those who refused has instead.
    pub there: Option<Vec<u8>>,
}

/// A store under way.
#[derive(Debug)]
pub struct Put {
    arguments: Vec<u8>,
    asking: Asking,
    stored: Stored,
}

impl Put {
    /// Stores at these holders.
    #[must_use]
    pub fn new(holders: impl IntoIterator<Item = NodeId>, arguments: Vec<u8>) -> Self {
        Self { arguments, asking: Asking::new(holders), stored: Stored::default() }
    }

    /// The next holder to be asked.
    pub fn poll_question(&mut self) -> Option<Question> {
        let (number, to) = self.asking.next()?;
        Some(Question { number, to, operation: Operation::Store, arguments: self.arguments.clone() })
    }

    /// A holder answered.
    pub fn on_answer(&mut self, number: u64, answer: &Answer) {
        if self.asking.end(number).is_none() {
            return;
        }
        match (answer.is_ack, Ack::parse(&answer.payload), Nack::parse(&answer.payload)) {
            (true, Ok(Ack::Stored(..)), _) => self.stored.kept += 1,
            (false, _, Ok(Nack::Store(nack))) => {
                self.stored.refusals.push(nack.reason);
                let there = nack.metadata.and_then(|metadata| metadata.record);
                self.stored.there = self.stored.there.take().or(there.map(|record| record.bytes().to_vec()));
            }
            (false, _, Ok(Nack::Plain(_, reason))) => self.stored.refusals.push(reason),
            _ => self.stored.failed += 1,
        }
    }

    /// A holder did not answer.
    pub fn on_failure(&mut self, number: u64) {
        self.stored.failed += usize::from(self.asking.end(number).is_some());
    }

    /// Nobody waits any longer: whoever has not answered has not.
    pub fn give_up(&mut self) {
        self.stored.failed += self.asking.left();
        self.asking.restart([]);
    }

    /// What became of it, once everybody was asked and has answered or not.
    #[must_use]
    pub fn outcome(&self) -> Option<&Stored> {
        self.asking.is_over().then_some(&self.stored)
    }
}
