//! Starting the shards: a pinned thread each, with a socket of the chosen back end.
//!
//! In:    a [`Group`], one [`Driver`] per shard.
//! Out:   [`Running`]: which back end each has, what each driver came to.
//! Holds: a shard never leaves its core; two shards share one only when that was asked for.
//!
//! `uring` shards run on glommio executors, `mmsg` shards on nothing: their one await is ready at once. Worked around
//! of glommio 0.9.0: its first sleep takes 30 to 80 ms unless `membarrier` was registered before any thread started
//! ([`prepare`]); it registers 10 MiB per executor unless told otherwise.

use std::io;
use std::panic;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use dunlin_shards::placement::ShardIndex;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement as Cores};
use rustix::thread::{CpuSet, MembarrierCommand, membarrier, sched_getaffinity, sched_setaffinity};

pub use crate::bell::block_on;
use crate::clock::Clock;
use crate::socket::Socket;
use crate::socket::group::{Bound, Group};
use crate::socket::mmsg::MmsgSocket;
use crate::socket::probe::{self, Backend, IoChoice, IoReport};
use crate::socket::uring::UringSocket;

/// Memory that glommio registers per executor: it opens no files through us.
const GLOMMIO_MEMORY: usize = 64 << 10;
/// Entries of each of its rings: one read is all that ever waits in them.
const GLOMMIO_DEPTH: usize = 16;

/// What a shard's core does with its socket.
pub trait Driver: Send + 'static {
    /// What it comes to in the end.
    type Output: Send + 'static;

    /// Runs the core until it is told to stop, by whatever way the driver knows of. Awaits [`Socket::wait`] only.
    fn run<S: Socket>(self, socket: &mut S) -> impl Future<Output = Self::Output>;
}

/// How shards are started.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RuntimeOptions {
    /// Which back end.
    pub io: IoChoice,
    /// The cores to pin to, by the kernel's numbers; `None`: all that the process may use.
    pub cores: Option<Vec<usize>>,
    /// Whether several shards may share a core. They then compete for it: for tests and small machines.
    pub oversubscribe: bool,
    /// Whether shards may move between cores, as the kernel likes.
    pub roaming: bool,
}

/// Why the shards could not be started. Those that had been started were ended.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration asks for more than the machine has; nothing was started.
    #[error("{shards} shards need as many cores, and there are {cores}: ask for fewer or allow sharing")]
    TooManyShards {
        /// What was asked for.
        shards: usize,
        /// What there is.
        cores: usize,
    },
    /// The host does not allow the back end that was asked for; nothing was started.
    #[error("{0}")]
    NoBackend(io::Error),
    /// A shard's thread, its place or its socket could not be had.
    #[error("shard {} could not be started: {source}", shard.0)]
    Shard {
        /// Which.
        shard: ShardIndex,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Shards that run.
#[derive(Debug)]
pub struct Running<T> {
    reports: Vec<IoReport>,
    threads: Vec<JoinHandle<Option<T>>>,
}

impl<T> Running<T> {
    /// The back end of each shard and why it has it; worth a line in the log.
    #[must_use]
    pub fn reports(&self) -> &[IoReport] {
        &self.reports
    }

    /// Waits for all drivers to end; what each came to, in the order of the shards.
    ///
    /// # Panics
    ///
    /// When one of the drivers did: its panic goes on here.
    #[must_use]
    pub fn join(self) -> Vec<T> {
        let join = |thread: JoinHandle<Option<T>>| match thread.join() {
            Ok(output) => output.expect("all shards were let run"),
            Err(panic) => panic::resume_unwind(panic),
        };
        self.threads.into_iter().map(join).collect()
    }
}

/// To be called first in `main`, before any thread is started. Without it everything works, 30 to 80 ms later.
pub fn prepare() {
    // A kernel that lacks the call has no executor to speed up.
    let _ = membarrier(MembarrierCommand::RegisterPrivateExpedited);
}

/// The cores that this process may use, by the kernel's numbers.
///
/// # Errors
///
/// What the kernel says.
pub fn cores() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect())
}

/// Starts one thread per socket of the group and runs the driver that `make` makes for it. Returns when all shards
/// are about to run their drivers.
///
/// # Errors
///
/// See [`StartError`].
pub fn start<D: Driver>(
    group: Group,
    clock: Clock,
    options: &RuntimeOptions,
    mut make: impl FnMut(ShardIndex) -> D,
) -> Result<Running<D::Output>, StartError> {
    let sockets = group.into_sockets();
    let cores = assign(sockets.len(), options)?;
    let report = probe::choose(options.io).map_err(StartError::NoBackend)?;
    let mut running = Running { reports: Vec::new(), threads: Vec::new() };
    let mut gates = Vec::new();
    for (index, (bound, core)) in sockets.into_iter().zip(cores).enumerate() {
        let shard = ShardIndex(index as u8);
        let (ready, readiness) = channel();
        let (open, gate) = channel();
        let core = Some(core).filter(|_| !options.roaming);
        let start = Start { bound, clock, core, report: report.clone(), ready, gate };
        let driver = make(shard);
        // A shard that may not run drops its gate's end, and so ends; so do all others when we return early.
        let failed = |source| StartError::Shard { shard, source };
        let thread = thread::Builder::new().name(format!("shard-{index}")).spawn(move || start.run(driver));
        let thread = thread.map_err(failed)?;
        let report = readiness.recv().unwrap_or_else(|_| Err(io::Error::other("its thread has died")));
        running.reports.push(report.map_err(failed)?);
        running.threads.push(thread);
        gates.push(open);
    }
    for open in gates {
        // A shard that has died since is found by `join`.
        let _ = open.send(());
    }
    Ok(running)
}

/// The core of each shard.
fn assign(shards: usize, options: &RuntimeOptions) -> Result<Vec<usize>, StartError> {
    let cores = match &options.cores {
        Some(cores) => cores.clone(),
        None => cores().map_err(|source| StartError::Shard { shard: ShardIndex(0), source })?,
    };
    if cores.is_empty() || (shards > cores.len() && !options.oversubscribe) {
        return Err(StartError::TooManyShards { shards, cores: cores.len() });
    }
    Ok(cores.into_iter().cycle().take(shards).collect())
}

/// What a shard's thread starts with.
struct Start {
    bound: Bound,
    clock: Clock,
    core: Option<usize>,
    report: IoReport,
    ready: Sender<io::Result<IoReport>>,
    /// Opened when all shards are ready, dropped when one could not be.
    gate: Receiver<()>,
}

impl Start {
    fn run<D: Driver>(self, driver: D) -> Option<D::Output> {
        if let Some(core) = self.core
            && let Err(error) = pin_to(core)
        {
            let _ = self.ready.send(Err(error));
            return None;
        }
        if self.report.backend == Backend::Mmsg {
            return block_on(self.run_mmsg(driver));
        }
        match executor() {
            Ok(executor) => executor.run(self.run_uring(driver)),
            Err(error) => {
                let _ = self.ready.send(Err(error));
                None
            }
        }
    }

    async fn run_uring<D: Driver>(self, driver: D) -> Option<D::Output> {
        let mut socket = match UringSocket::new(self.bound, self.clock) {
            Ok(socket) => socket,
            Err(error) => {
                let _ = self.ready.send(Err(error));
                return None;
            }
        };
        let _ = self.ready.send(Ok(self.report));
        self.gate.recv().ok()?;
        let output = driver.run(&mut socket).await;
        socket.close().await;
        Some(output)
    }

    async fn run_mmsg<D: Driver>(self, driver: D) -> Option<D::Output> {
        let mut socket = match MmsgSocket::new(self.bound, self.clock) {
            Ok(socket) => socket,
            Err(error) => {
                let _ = self.ready.send(Err(error));
                return None;
            }
        };
        let _ = self.ready.send(Ok(self.report));
        self.gate.recv().ok()?;
        Some(driver.run(&mut socket).await)
    }
}

/// Pins the calling thread to a core, by the kernel's number.
///
/// # Errors
///
/// When there is no such core or the process may not use it.
pub fn pin_to(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

fn executor() -> io::Result<LocalExecutor> {
    // The thread is pinned already.
    let builder =
        LocalExecutorBuilder::new(Cores::Unbound).io_memory(GLOMMIO_MEMORY).ring_depth(GLOMMIO_DEPTH);
    builder.make().map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use dunlin_shards::placement::{Placement, PlacementSeeds};

    use super::*;
    use crate::socket::group::GroupOptions;

    struct Answer(u8);

    impl Driver for Answer {
        type Output = (u8, usize);

        async fn run<S: Socket>(self, _: &mut S) -> (u8, usize) {
            (self.0, cores().unwrap().len())
        }
    }

    fn group(shards: usize) -> Group {
        let placement = Placement::new(shards, PlacementSeeds::default());
        Group::bind("127.0.0.1:0".parse().unwrap(), &placement, &GroupOptions::default()).unwrap()
    }

    fn run(shards: usize, options: &RuntimeOptions) -> Result<Vec<(u8, usize)>, StartError> {
        start(group(shards), Clock::start(), options, |shard| Answer(shard.0)).map(Running::join)
    }

    /// As many shards as wanted, in order, each on one core.
    #[test]
    fn shards_run_pinned_and_answer_in_order() {
        let has_ring = probe::choose(IoChoice::Uring).is_ok();
        for io in [IoChoice::Uring, IoChoice::Mmsg].into_iter().skip(usize::from(!has_ring)) {
            let options = RuntimeOptions { io, oversubscribe: true, ..RuntimeOptions::default() };
            assert_eq!(run(3, &options).unwrap(), [(0, 1), (1, 1), (2, 1)]);
        }
    }

    #[test]
    fn more_shards_than_cores_is_an_error_that_says_so() {
        let options = RuntimeOptions { cores: Some(vec![0]), ..RuntimeOptions::default() };
        let error = run(2, &options).unwrap_err();
        assert!(matches!(error, StartError::TooManyShards { shards: 2, cores: 1 }), "{error}");
    }

    #[test]
    fn a_core_that_is_not_there_is_an_error_and_ends_the_others() {
        let core = cores().unwrap()[0];
        let options = RuntimeOptions { cores: Some(vec![core, 1_023]), ..RuntimeOptions::default() };
        let error = run(2, &options).unwrap_err();
        assert!(matches!(error, StartError::Shard { shard: ShardIndex(1), .. }), "{error}");
    }
}
