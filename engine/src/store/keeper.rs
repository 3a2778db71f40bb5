//! The thread *store*: keeps what waits, a group at a time.
//!
//! In:    batches from any thread, through one bounded queue.
//! Out:   the answer to each, in their order, once it is on the disk or refused.
//! Holds: whatever waits when the disk is free is one group, one transaction, one sync. A full disk refuses what comes and is tried again
//!        after a pause; a disk that failed is not tried again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::Receiver;

use super::batch::Batch;
use super::error::StoreError;
use super::rows::Rows;
use super::watched::Fault;
use super::{Done, Letter, Queue, StoreReport};
use crate::clock::Clock;
use crate::mailbox::lock;

/// Batches of one group at most.
const GROUP_BATCHES_MAX: usize = 8_192;
/// Bytes of one group at most, one batch more.
const GROUP_LEN_MAX: usize = 8 << 20;
/// How long a full disk is left alone at first, and at most: to begin again means to look through the file.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How the database is opened again after the disk was full.
pub(super) type Reopen = Box<dyn FnMut() -> Result<Rows, Fault> + Send>;

/// Who hears the answers, group by group and in order.
pub(super) type Answers<T> = Box<dyn FnMut(&mut Vec<Done<T>>) + Send>;

/// How the store is.
enum State {
    Open(Rows),
    Full { why: Arc<str>, since: Duration, pause: Duration },
    ReadOnly(Arc<str>),
}

/// The thread's own things.
pub(super) struct Keeper<T> {
    pub(super) letters: Receiver<Letter<T>>,
    pub(super) queue: Arc<Queue>,
    pub(super) report: Arc<Mutex<StoreReport>>,
    reopen: Reopen,
    answers: Answers<T>,
    state: State,
    clock: Clock,
    done: Vec<Done<T>>,
}

impl<T> Keeper<T> {
    pub(super) fn new(
        letters: Receiver<Letter<T>>,
        (queue, report): (Arc<Queue>, Arc<Mutex<StoreReport>>),
        (rows, reopen): (Rows, Reopen),
        answers: Answers<T>,
    ) -> Self {
        let (state, clock, done) = (State::Open(rows), Clock::start(), Vec::new());
        Self { letters, queue, report, reopen, answers, state, clock, done }
    }

    /// Until told to end; what came before that is kept first.
    pub(super) fn run(mut self) {
        let mut is_open = true;
        let mut group = Vec::new();
        while is_open {
            is_open = self.gather(&mut group);
            if group.is_empty() {
                continue;
            }
            let result = self.keep(&group);
            self.answer(&mut group, result);
        }
    }

    /// Waits for a batch and takes what else is there. False: nothing comes any more.
    fn gather(&mut self, group: &mut Vec<Batch<T>>) -> bool {
        let Ok(first) = self.letters.recv() else { return false };
        let mut len = 0;
        let mut next = Some(first);
        while let Some(letter) = next.take() {
            let Letter::Keep(batch) = letter else { return false };
            len += batch.charge();
            group.push(batch);
            if group.len() < GROUP_BATCHES_MAX && len < GROUP_LEN_MAX {
                next = self.letters.try_recv().ok();
            }
        }
        true
    }

    fn keep(&mut self, group: &[Batch<T>]) -> Result<(), StoreError> {
        self.try_again();
        let rows = match &self.state {
            State::Open(rows) => rows,
            State::Full { why, .. } => return Err(StoreError::Full(why.clone())),
            State::ReadOnly(why) => return Err(StoreError::ReadOnly(why.clone())),
        };
        rows.commit(group.iter().flat_map(|batch| &batch.writes))
            .map_err(|fault| self.on_fault(fault, PAUSE_MIN))
    }

    /// A full disk may have room by now.
    fn try_again(&mut self) {
        let State::Full { since, pause, .. } = &self.state else { return };
        let pause = *pause;
        if self.clock.elapsed().saturating_sub(*since) < pause {
            return;
        }
        match (self.reopen)() {
            Ok(rows) => self.state = State::Open(rows),
            Err(fault) => drop(self.on_fault(fault, (2 * pause).min(PAUSE_MAX))),
        }
    }

    fn on_fault(&mut self, fault: Fault, pause: Duration) -> StoreError {
        let (state, error) = match fault {
            Fault::Full(why) => {
                let since = self.clock.elapsed();
                (State::Full { why: why.clone(), since, pause }, StoreError::Full(why))
            }
            Fault::Broken(why) => (State::ReadOnly(why.clone()), StoreError::ReadOnly(why)),
        };
        let was_full = lock(&self.report).trouble.is_some();
        match &error {
            StoreError::Full(why) if !was_full => {
                tracing::warn!("nothing can be stored until there is room: the disk is full: {why}");
            }
            StoreError::Full(_) => {}
            StoreError::ReadOnly(why) => tracing::error!(
                "NOTHING IS STORED ANY MORE: the disk failed: {why}; look at the disk, then start the node again"
            ),
        }
        self.state = state;
        error
    }

    fn answer(&mut self, group: &mut Vec<Batch<T>>, result: Result<(), StoreError>) {
        let batches = group.len() as u64;
        let rows = group.iter().map(|batch| batch.writes.len() as u64).sum::<u64>();
        let charge = group.iter().map(Batch::charge).sum::<usize>();
        {
            let mut report = lock(&self.report);
            match &result {
                Ok(()) => {
                    if report.trouble.take().is_some() {
                        tracing::info!("there is room again: what comes is stored");
                    }
                    report.commits += 1;
                    report.batches += batches;
                    report.rows += rows;
                    report.group_max = report.group_max.max(batches);
                }
                Err(error) => {
                    report.refused += batches;
                    report.trouble = Some(error.clone());
                }
            }
        }
        self.queue.waiting_len.fetch_sub(charge, Ordering::AcqRel);
        self.done.extend(group.drain(..).map(|batch| Done { ticket: batch.ticket, result: result.clone() }));
        (self.answers)(&mut self.done);
        self.done.clear();
    }
}
