//! Who is receiving which unfinished file: one transfer at a time.
//!
//! Holds: a second offer of the same file waits for the first, and takes over when nothing has come of that for a while: a sender
//!        that was killed and started again need not wait until its old session has run out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::incoming::Job;
use crate::clock::Clock;
use crate::mailbox::lock;

/// After so long without a block a transfer may be taken over.
const SILENCE: Duration = Duration::from_secs(2);
/// How often a waiting transfer looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The files that are being received.
pub(crate) struct Claims {
    holders: Mutex<HashMap<String, Holder>>,
    freed: Condvar,
    clock: Clock,
}

struct Holder {
    touched: Arc<AtomicU64>,
    jobs: Sender<Job>,
}

/// A file that is ours until this is dropped.
pub(crate) struct Claim {
    claims: Arc<Claims>,
    name: String,
    touched: Arc<AtomicU64>,
}

impl Claims {
    pub(crate) fn new() -> Self {
        Self { holders: Mutex::new(HashMap::new()), freed: Condvar::new(), clock: Clock::start() }
    }

    /// Takes the file of this name; waits while somebody else has it and `is_wanted`. None: not wanted any more.
    pub(crate) fn take(
        self: &Arc<Self>,
        name: &str,
        jobs: &Sender<Job>,
        is_wanted: impl Fn() -> bool,
    ) -> Option<Claim> {
        let mut holders = lock(&self.holders);
        while let Some(holder) = holders.get(name) {
            if self.is_silent(&holder.touched) {
                // A holder that is gone has freed the file, or is about to.
                let _ = holder.jobs.send(Job::TakenOver);
            }
            if !is_wanted() {
                return None;
            }
            let waited = self.freed.wait_timeout(holders, LOOK_EVERY);
            holders = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        let touched = Arc::new(AtomicU64::new(self.now()));
        let holder = Holder { touched: touched.clone(), jobs: jobs.clone() };
        holders.insert(name.to_owned(), holder);
        Some(Claim { claims: self.clone(), name: name.to_owned(), touched })
    }

    fn is_silent(&self, touched: &AtomicU64) -> bool {
        let silent = self.now().saturating_sub(touched.load(Ordering::Relaxed));
        u128::from(silent) >= SILENCE.as_nanos()
    }

    fn now(&self) -> u64 {
        self.clock.instant().as_nanos()
    }
}

impl Claim {
    /// Nothing has come for so long that somebody else may have it.
    pub(crate) fn is_silent(&self) -> bool {
        self.claims.is_silent(&self.touched)
    }

    /// Something came.
    pub(crate) fn touch(&self) {
        self.touched.store(self.claims.now(), Ordering::Relaxed);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.claims.holders).remove(&self.name);
        self.claims.freed.notify_all();
    }
}
