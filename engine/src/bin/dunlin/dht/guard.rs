//! A command that runs under a lock: started, told of signals, ended in time.
//!
//! In:    what to run, its variables; signals.
//! Out:   how it ended.
//! Holds: it does not outlive this process, even when that is killed. Without a terminal it has a process group of its own, so that what it
//!        started ends with it; at a terminal it stays in ours, where the terminal's keys reach it.

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};

use clap::Args;
use rustix::process::{
    Pid, Signal, getppid, kill_process, kill_process_group, set_parent_process_death_signal,
};

use crate::Done;
use crate::failure::Failure;

/// How shells say that a command was not found, or cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

#[derive(Args)]
pub(crate) struct Guarded {
    /// Who must still be there
    #[arg(long)]
    parent: i32,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the command, which the kernel kills when its parent is gone.
pub(super) fn guarded(arguments: &Guarded) -> Done {
    let failed = |error: io::Error| Failure::new(format_args!("cannot guard the command: {error}"));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()))?;
    if getppid().map(Pid::as_raw_nonzero).is_none_or(|parent| parent.get() != arguments.parent) {
        // It went before the kernel knew: the lock will not be held for long.
        return Err(Failure::passed(NOT_RUN));
    }
    let (name, rest) = arguments.command.split_first().expect("it is required");
    let error = Command::new(name).args(rest).exec();
    let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
    Err(Failure::new(format_args!("cannot run {}: {error}", name.to_string_lossy())).with_code(code))
}

/// A command that runs.
pub(super) struct Guard {
    pid: Pid,
    has_group: bool,
}

impl Guard {
    /// Starts it with these variables.
    pub(super) fn start(
        command: &[OsString],
        variables: impl IntoIterator<Item = (&'static str, Option<String>)>,
    ) -> io::Result<(Self, Child)> {
        let mut guarded = Command::new(std::env::current_exe()?);
        let own = rustix::process::getpid().as_raw_nonzero();
        guarded.args(["dht", "guarded", "--parent", &own.to_string(), "--"]).args(command);
        for (name, value) in variables {
            match value {
                Some(value) => guarded.env(name, value),
                None => guarded.env_remove(name),
            };
        }
        let has_group = !io::stdin().is_terminal();
        if has_group {
            guarded.process_group(0);
        }
        let child = guarded.spawn()?;
        Ok((Self { pid: Pid::from_child(&child), has_group }, child))
    }

    /// Passes a signal on. One that the terminal has sent to everybody in our group has come there already.
    pub(super) fn pass_on(&self, signal: i32) {
        let signal = Signal::from_named_raw(signal);
        let is_of_terminal = matches!(signal, Some(Signal::INT | Signal::QUIT));
        if let Some(signal) = signal.filter(|_| self.has_group || !is_of_terminal) {
            self.send(signal);
        }
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        self.send(Signal::TERM);
        // One that was stopped would hear of it too late.
        self.send(Signal::CONT);
    }

    /// Ends it.
    pub(super) fn kill(&self) {
        self.send(Signal::KILL);
    }

    fn send(&self, signal: Signal) {
        // It may have ended a moment ago.
        let _ = if self.has_group {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
    }
}

/// How it ended, as shells say it: its code, or 128 and its signal's number.
pub(super) fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_RUN)
}
