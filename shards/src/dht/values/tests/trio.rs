//! Three holders that answer at once, and whoever decides with them.

use core::time::Duration;

use dunlin_codec::args::{LeaseAction, Reason};
use dunlin_codec::ids::NodeId;
use dunlin_codec::record::NOBODY;

use super::super::decision::{Decided, Decision, Edit, Proposer, What};
use super::super::{Answer, Asker, GivenLeave, Holders, Question};
use super::kit::*;
use crate::identity::Identity;
use crate::rng::Rng;
use crate::time::Now;

/// Three holders that answer at once.
pub(super) struct Trio {
    pub(super) homes: Vec<Home>,
    /// What a proposer is and wants, but for who it is.
    pub(super) owner: NodeId,
    pub(super) leaves: Vec<GivenLeave>,
    pub(super) token: u64,
    /// Time that proposers have waited.
    pub(super) waited: Duration,
}

impl Trio {
    pub(super) fn new() -> Self {
        let homes = (101..104).map(|number| Home::new(setup(number), at(0))).collect();
        Self { homes, owner: NOBODY, leaves: Vec::new(), token: 0, waited: Duration::ZERO }
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        (101..104).map(|number| identity(number).id()).collect()
    }

    pub(super) fn ask(&mut self, now: Now, (by, question): (NodeId, &Question)) -> Answer {
        let place = self.ids().iter().position(|id| *id == question.to).unwrap();
        let asker = Asker { peer: by, from: [10, 0, 0, 1].into(), request: 0 };
        self.homes[place].told(now, asker, &question.arguments)
    }

    pub(super) fn decide(&mut self, now: Now, by: &Identity, edits: Vec<Edit>) -> Decided {
        let key = edits[0].key.clone();
        let now = Now { instant: now.instant + self.waited, ..now };
        let proposer = Proposer {
            kin: crate::identity::chain::Kin::default(),
            identity: by.clone(),
            network: NETWORK,
            owner: self.owner,
            leaves: self.leaves.clone(),
            token: self.token,
            life: Duration::from_secs(7_200),
        };
        let (holders, rng) = (self.ids(), Rng::from_number(7));
        let mut decision = Decision::new(proposer, Holders::all(holders), (key, edits), (now, rng));
        let began = now.instant;
        let mut now = now;
        loop {
            while let Some(question) = decision.poll_question() {
                let answer = self.ask(now, (by.id(), &question));
                decision.on_answer(now, question.number, &answer);
            }
            if let Some(outcome) = decision.outcome() {
                self.waited += now.instant.since(began);
                return outcome.clone();
            }
            now.instant = decision.poll_timeout().expect("it waits for time");
            decision.handle_timeout(now);
        }
    }

    pub(super) fn set(&mut self, now: Now, by: &Identity, (key, value): (&[u8], &[u8])) -> Decided {
        self.decide(now, by, vec![edit(key, What::Set(value.to_vec()))])
    }

    pub(super) fn lease(
        &mut self,
        now: Now,
        by: &Identity,
        (key, action, token): (&[u8], LeaseAction, u64),
    ) -> Decided {
        let what = What::Lease { action, lasts: Duration::from_secs(10), token };
        self.decide(now, by, vec![edit(key, what)])
    }

    pub(super) fn values(&mut self, now: Now, key: &[u8]) -> Vec<Option<Vec<u8>>> {
        self.homes.iter_mut().map(|home| home.value(now, key)).collect()
    }

    pub(super) fn restart(&mut self, now: Now) {
        for (home, number) in self.homes.iter_mut().zip(101..) {
            assert_eq!(home.restart(setup(number), now).bad, 0);
        }
    }
}

pub(super) fn edit(key: &[u8], what: What) -> Edit {
    Edit { key: key.to_vec(), expected: None, what }
}

pub(super) fn refused(decided: &Decided) -> Option<Reason> {
    match decided {
        Decided::Refused { reason, .. } => Some(*reason),
        Decided::Done { .. } => None,
        other => panic!("{other:?}"),
    }
}

pub(super) fn token(decided: &Decided) -> u64 {
    match decided {
        Decided::Done { token, .. } => *token,
        other => panic!("{other:?}"),
    }
}
