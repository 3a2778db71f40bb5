//! Jobs: an aim, the nodes that are asked, and how far it is.
//!
//! Holds: plain numbers of what is under way; whoever drives a job keeps them.

use core::net::SocketAddr;
use std::collections::{BTreeMap, VecDeque};

use dunlin_codec::ids::NodeId;

use super::aim::Aim;
use crate::dht::values::decision::Decision;
use crate::dht::values::get::Get;
use crate::dht::values::put::Put;
use crate::dht::values::roll::Call;
use crate::dht::values::survey::Survey;
use crate::dht::values::{Answer, Question as Asking};
use crate::event::Ticket;
use crate::time::Instant;

/// What a job is at.
#[derive(Debug)]
pub(super) enum Work {
    Looking,
    /// For its own sake, or for the sequence of what is to be put.
    Reading(Box<Get>),
    Storing(Put),
    Deciding(Box<Decision>),
    Surveying(Survey),
    Calling(Call),
}

/// A node that is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near {
    pub(super) id: NodeId,
    /// None: ourselves.
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) path: usize,
}

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) aim: Aim,
    pub(super) work: Work,
    pub(super) near: Vec<Near>,
    /// The closest that were heard of, whether or not they answered.
    pub(super) known: Vec<NodeId>,
    /// A node close to them that keeps a copy of what is read.
    pub(super) behind: Option<Near>,
    pub(super) until: Instant,
    /// Questions on their way.
    pub(super) open: usize,
    pub(super) is_told: bool,
    pub(super) sequence: u64,
    pub(super) tries: u32,
}

/// What was said to a question of a job; none: nothing.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) job: u64,
    pub(super) number: u64,
    pub(super) answer: Option<Answer>,
}

/// Every job, and what waits to become one.
#[derive(Debug, Default)]
pub(in super::super) struct Jobs {
    pub(super) jobs: BTreeMap<u64, Job>,
    pub(super) chores: VecDeque<Aim>,
    pub(super) chores_len: usize,
    /// What our own holders were asked: for which job, which of its questions, and until when.
    pub(super) own: BTreeMap<Ticket, (u64, u64, Instant)>,
    pub(super) arrivals: VecDeque<Arrival>,
}

impl Work {
    pub(super) fn poll_question(&mut self) -> Option<Asking> {
        match self {
            Self::Looking => None,
            Self::Reading(get) => get.poll_question(),
            Self::Storing(put) => put.poll_question(),
            Self::Deciding(decision) => decision.poll_question(),
            Self::Surveying(survey) => survey.poll_question(),
            Self::Calling(call) => call.poll_question(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if let Self::Deciding(decision) = self { decision.poll_timeout() } else { None }
    }
}

impl Job {
    pub(super) fn new(aim: Aim, until: Instant) -> Self {
        let (near, known, behind) = (Vec::new(), Vec::new(), None);
        let (open, is_told, sequence, tries) = (0, false, 0, 0);
        Self { aim, work: Work::Looking, near, known, behind, until, open, is_told, sequence, tries }
    }

    pub(super) fn due_at(&self) -> Instant {
        self.work.poll_timeout().map_or(self.until, |at| at.min(self.until))
    }
}

impl Jobs {
    /// When something is due; none: nobody waits.
    pub(in super::super) fn due_at(&self) -> Option<Instant> {
        self.jobs.values().map(Job::due_at).min()
    }

    /// The job asks for the network's roll.
    pub(in super::super) fn is_roll_call(&self, job: u64) -> bool {
        self.jobs.get(&job).is_some_and(|job| matches!(job.aim, Aim::CallRoll { .. }))
    }

    pub(super) fn chores_under_way(&self) -> usize {
        self.jobs.values().filter(|job| job.aim.is_chore()).count()
    }
}
