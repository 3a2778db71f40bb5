//! `dunlin dht lock`: a command that runs while the node holds a lock.
//!
//! In:    the node's word on the lock, the command's end, signals, time.
//! Out:   how the command ended.
//! Holds: the command has ended before others can have the lock. It is asked to end while there is still time for that, and killed when
//!        the lock's time is over. The lock is given back only once the command has ended by itself; else it runs out.

use std::ffi::OsString;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use clap::Args;
use dunlin::clock::Clock;
use dunlin::config::FENCING_TOKEN;
use dunlin::control::{Answer, Answers, Command, LockLine};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::guard::{Guard, code_of};
use super::key::KeyFlags;
use super::not_changed;
use super::terms::LeaveFlag;
use crate::admin::{AdminFlags, unexpected};
use crate::durations::{self, millis};
use crate::failure::Failure;
use crate::{Done, admin};

/// The command may run, and the lock be waited for, as long as anybody likes.
const ANY_TIME: Duration = Duration::from_secs(365 * 86_400);
/// How long a command may take to end when it is asked to, at most.
const GRACE_MAX: Duration = Duration::from_secs(5);
/// How long giving the lock back may take.
const GIVE_BACK_WAIT: Duration = Duration::from_secs(15);
/// How long this sleeps at most before it looks at the time: while the machine sleeps, locks run out and no timer fires.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest lease: no word of a node's is taken for more.
const LEASE_MAX: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct Lock {
    #[command(flatten)]
    key: KeyFlags,
    /// How long others wait for the lock when this node is gone, 1s to 60s; it is renewed all the while
    #[arg(long, value_name = "DURATION", value_parser = durations::parse, default_value = "30s")]
    lease: Duration,
    /// Give up when another has the lock for so long, such as 10s; 0s: do not wait. Else it is waited for as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    wait: Option<Duration>,
    #[command(flatten)]
    leave: LeaveFlag,
    #[command(flatten)]
    node: AdminFlags,
    /// What to run, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What may happen to a command under a lock.
enum Happening {
    Ended(ExitStatus),
    Said(Option<Answer>),
    Signal(i32),
}

/// Why a command has to end, and when it is killed.
struct Ending {
    why: &'static str,
    kill_at: Duration,
}

/// A command under a lock.
struct Watch {
    guard: Guard,
    clock: Clock,
    grace: Duration,
    /// Until when the lock is held, on CLOCK_BOOTTIME.
    until: Duration,
    ending: Option<Ending>,
}

pub(super) fn lock(arguments: &Lock) -> Done {
    if !(Duration::from_secs(1)..=LEASE_MAX).contains(&arguments.lease) {
        return Err(Failure::usage("--lease: a lock lasts 1s to 60s without renewal"));
    }
    let (key, lease_ms) = (arguments.key.encode()?, millis(arguments.lease));
    let (wait_ms, leave) = (arguments.wait.map(millis), arguments.leave.read()?);
    let wanted = LockLine { key, lease_ms, wait_ms, leave };
    let mut answers = arguments.node.call(&Command::Lock(wanted))?;
    let first = answers.next_within(ANY_TIME)?;
    let (token, until_ms) = match first.ok_or_else(|| Failure::new(admin::ENDED))? {
        Answer::Locked { token, until_ms } => (token, until_ms),
        Answer::NotChanged(refused) => return Err(not_changed(false, &refused)),
        Answer::LockLost => return Err(Failure::new("the lock was lost as soon as it was held")),
        _ => return Err(unexpected()),
    };
    let mut teller = answers.teller()?;
    let (sender, happenings) = channel();
    // From here on they are the command's.
    watch_signals(&sender)?;
    let [key, group, is_hex] = arguments.key.variables();
    let variables = [(FENCING_TOKEN, Some(token.to_string())), key, group, is_hex];
    let cannot_run = |error| Failure::new(format_args!("cannot run the command: {error}"));
    let (guard, child) = Guard::start(&arguments.command, variables).map_err(cannot_run)?;
    watch_child(child, &sender)?;
    watch_node(answers, sender)?;
    let (grace, until) = (GRACE_MAX.min(arguments.lease / 4), Duration::from_millis(until_ms));
    let mut watch = Watch { guard, clock: Clock::start(), grace, until, ending: None };
    let status = watch.run(&happenings);
    if let Some(ending) = watch.ending {
        let key = &arguments.key;
        return Err(Failure::new(format_args!(
            "the lock of {key} was lost, and its command ended: {}",
            ending.why
        )));
    }
    // A node that is gone by now lets it run out.
    if teller.say(&Command::GiveBack).is_ok() {
        wait_until_given_back(&happenings);
    }
    match status.map(code_of) {
        Some(0) => Ok(()),
        code => Err(Failure::passed(code.unwrap_or(1))),
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Done {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))
}

fn watch_signals(sender: &Sender<Happening>) -> Done {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2])
        .map_err(|error| Failure::new(format_args!("cannot listen to signals: {error}")))?;
    let sender = sender.clone();
    spawn("signals", move || {
        let passed = |signal| sender.send(Happening::Signal(signal)).is_ok();
        signals.forever().all(passed);
    })
}

fn watch_child(mut child: Child, sender: &Sender<Happening>) -> Done {
    let sender = sender.clone();
    spawn("command", move || {
        // Nobody else waits for it: there is nothing that could fail.
        if let Ok(status) = child.wait() {
            let _ = sender.send(Happening::Ended(status));
        }
    })
}

fn watch_node(mut answers: Answers, sender: Sender<Happening>) -> Done {
    spawn("node", move || {
        loop {
            let answer = answers.next_within(ANY_TIME).ok().flatten();
            let is_last = answer.is_none();
            if sender.send(Happening::Said(answer)).is_err() || is_last {
                return;
            }
        }
    })
}

/// The node says when others can have the lock; until then this does not end, so that whoever runs next finds it free.
fn wait_until_given_back(happenings: &Receiver<Happening>) {
    let clock = Clock::start();
    while let Some(left) = GIVE_BACK_WAIT.checked_sub(clock.elapsed()) {
        match happenings.recv_timeout(left) {
            Ok(Happening::Said(Some(Answer::Locked { .. })) | Happening::Signal(_) | Happening::Ended(_)) => {
            }
            Ok(Happening::Said(_)) | Err(_) => return,
        }
    }
}

impl Watch {
    fn now(&self) -> Duration {
        self.clock.boottime_of(self.clock.instant())
    }

    /// Watches over it until it has ended; none: nobody can tell how it did.
    fn run(&mut self, happenings: &Receiver<Happening>) -> Option<ExitStatus> {
        loop {
            let now = self.now();
            let due = match &self.ending {
                Some(ending) => ending.kill_at,
                None => self.until.saturating_sub(self.grace),
            };
            match happenings.recv_timeout(due.saturating_sub(now).min(LOOK_EVERY)) {
                Ok(Happening::Ended(status)) => {
                    if self.ending.is_some() {
                        // What it has started does not go on without the lock either.
                        self.guard.kill();
                    }
                    return Some(status);
                }
                Ok(Happening::Said(answer)) => self.on_answer(answer),
                Ok(Happening::Signal(signal)) => self.guard.pass_on(signal),
                Err(RecvTimeoutError::Timeout) if self.now() >= due => self.on_due(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn on_answer(&mut self, answer: Option<Answer>) {
        match answer {
            Some(Answer::Locked { until_ms, .. }) => {
                self.until = Duration::from_millis(until_ms).min(self.now() + LEASE_MAX);
            }
            Some(Answer::LockLost) => self.end("others may have the lock"),
            Some(_) => self.end("the node says something else than it was asked"),
            None => self.end("the node has ended"),
        }
    }

    fn on_due(&mut self) {
        if self.ending.is_none() {
            return self.end("it could not be renewed in time");
        }
        self.guard.kill();
        if let Some(ending) = &mut self.ending {
            // It cannot resist; should the kernel take its time, it is told again.
            ending.kill_at += Duration::from_secs(1);
        }
    }

    /// Asks the command to end, as long as there is time for that.
    fn end(&mut self, why: &'static str) {
        if self.ending.is_none() {
            self.guard.terminate();
            self.ending = Some(Ending { why, kill_at: self.until.min(self.now() + self.grace) });
        }
    }
}
