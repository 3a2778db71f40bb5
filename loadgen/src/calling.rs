//! So many calls, by many callers side by side: how long each took.
//!
//! In:    callers, how many calls.
//! Out:   [`Shaken`].
//! Holds: each caller has one call under way; the next begins when one is done.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dunlin::{CloseReason, EarlyData};
use dunlin_bench::callers::{Called, Callers, Calls, DEADLINE};
use hdrhistogram::Histogram;

use crate::Fault;
use crate::interrupt;
use crate::live::Live;
use crate::recorder::histogram;

/// No call came through for so long: nobody is there any more, and thousands would each wait for their deadline.
const PATIENCE: Duration = Duration::from_secs(6);

const _: () = assert!(DEADLINE.as_secs() < PATIENCE.as_secs());

/// What the calls came to.
#[derive(Debug)]
pub(crate) struct Shaken {
    /// From the call to the session, in nanoseconds.
    pub(crate) times: Histogram<u64>,
    pub(crate) early_accepted: u64,
    pub(crate) failed: u64,
    /// The first failure's reason.
    pub(crate) why: Option<CloseReason>,
}

/// So many identities, each with a socket.
pub(crate) fn gather(calls: Calls, count: usize) -> Result<Callers, Fault> {
    let mut callers = Callers::new(calls)?;
    for _ in 0..count {
        callers.add().map_err(|error| format!("no socket for another caller: {error}"))?;
    }
    Ok(callers)
}

/// So many calls in all.
pub(crate) fn run(callers: &mut Callers, count: u64, live: &Live) -> Result<Shaken, Fault> {
    let mut shaken = Shaken { times: histogram(), early_accepted: 0, failed: 0, why: None };
    let begun = count.min(callers.len() as u64);
    (0..begun as usize).try_for_each(|at| callers.call(at))?;
    let (mut left, mut done) = (count - begun, Vec::new());
    let (mut known, mut moved) = (0, Instant::now());
    while shaken.times.len() + shaken.failed < count && !interrupt::is_asked() {
        let is_sweep = callers.turn(&mut done)?;
        for (at, called) in done.drain(..) {
            shaken.add(called);
            if left > 0 {
                left -= 1;
                callers.call(at)?;
            }
        }
        if !is_sweep {
            continue;
        }
        live.sent.store(count - left, Ordering::Relaxed);
        live.arrived.store(shaken.times.len(), Ordering::Relaxed);
        if shaken.times.len() > known {
            (known, moved) = (shaken.times.len(), Instant::now());
        } else if shaken.failed > 0 && moved.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(shaken)
}

impl Shaken {
    fn add(&mut self, called: Called) {
        match called {
            Called::Connected { took, early } => {
                self.times.saturating_record(took.as_nanos() as u64);
                self.early_accepted += u64::from(early == EarlyData::Accepted);
            }
            Called::Failed(reason) => {
                self.failed += 1;
                self.why.get_or_insert(reason);
            }
        }
    }
}
