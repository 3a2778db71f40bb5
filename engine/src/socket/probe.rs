//! Which back end: what was asked for, or the faster one.
//!
//! In:    an [`IoChoice`].
//! Out:   an [`IoReport`]: which was taken and why, for the log.
//! Holds: `auto` never fails: recvmmsg is always there.
//!
//! The faster one is `mmsg`. Both carry the same bulk, as one send or one receive moves a train of 54 datagrams either way; but a core that
//! sleeps in `ppoll` answers some 20 us sooner than one that awaits its ring's eventfd through the executor, and a spinning one 1 us sooner:
//! `dunlin-loadgen ablate` shows it on any machine (Linux 6.18, 2 cores, medians of three alternating rounds: round trip asleep 52 us against
//! 72, awake 11.3 against 16.5; small messages 3.9 M/s against 2.9; bulk 12.2 Gbit/s against 12.1).
//!
//! Container runtimes forbid io_uring by default (EPERM or ENOSYS), hosts by the sysctl kernel.io_uring_disabled, and a
//! kernel before 6.1 lacks what the ring needs (EINVAL).

use std::fmt;
use std::fs;
use std::io;

use super::uring;

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IoChoice {
    /// The faster one.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// Plain system calls.
    Mmsg,
}

/// A back end.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Backend {
    /// io_uring awaited through glommio.
    Uring,
    /// recvmmsg and ppoll.
    Mmsg,
}

/// What was taken, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IoReport {
    /// What was taken.
    pub backend: Backend,
    /// Why, in one line.
    pub why: String,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        })
    }
}

impl fmt::Display for IoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.backend, self.why)
    }
}

impl IoReport {
    pub(crate) const fn new(backend: Backend, why: String) -> Self {
        Self { backend, why }
    }
}

/// Decides, by trying a whole ring when io_uring may be taken.
///
/// # Errors
///
/// When io_uring was asked for and the host does not let us have it; the text says why.
pub fn choose(choice: IoChoice) -> io::Result<IoReport> {
    match choice {
        IoChoice::Auto => {
            Ok(IoReport::new(Backend::Mmsg, "wakes sooner than io_uring and carries as much".into()))
        }
        IoChoice::Mmsg => Ok(IoReport::new(Backend::Mmsg, "asked for".into())),
        IoChoice::Uring => match uring::try_ring() {
            Ok(()) => Ok(IoReport::new(Backend::Uring, "asked for".into())),
            Err(error) => Err(io::Error::new(error.kind(), refusal(&error, &sysctl()))),
        },
    }
}

fn sysctl() -> String {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default()
}

/// Why io_uring cannot be had, in words that say what to do. `sysctl`: what kernel.io_uring_disabled holds.
pub(crate) fn refusal(error: &io::Error, sysctl: &str) -> String {
    let reason = match (error.raw_os_error(), sysctl.trim()) {
        (Some(libc::EPERM), "1" | "2") => "the sysctl kernel.io_uring_disabled forbids it",
        (Some(libc::EPERM | libc::EACCES), _) => "a seccomp filter or security module forbids it",
        (Some(libc::ENOSYS), _) => "the kernel lacks it or a seccomp filter hides it",
        (Some(libc::ENOMEM), _) => "it needs more locked memory than the limit (ulimit -l) allows",
        (Some(libc::EMFILE | libc::ENFILE), _) => "the process has too few file descriptors",
        (Some(libc::EINVAL), _) => "the kernel is older than 6.1",
        _ => "it failed",
    };
    format!("io_uring cannot be had: {reason} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_taken_or_refused() {
        assert_eq!(choose(IoChoice::Mmsg).unwrap().backend, Backend::Mmsg);
        assert_eq!(choose(IoChoice::Auto).unwrap().backend, Backend::Mmsg);
        match choose(IoChoice::Uring) {
            Ok(report) => assert_eq!(report.backend, Backend::Uring),
            Err(error) => println!("SKIPPED io_uring: the uring back end: {error}"),
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let says = |code, sysctl| refusal(&io::Error::from_raw_os_error(code), sysctl);
        assert!(says(libc::EPERM, "2\n").contains("kernel.io_uring_disabled"));
        assert!(says(libc::EPERM, "0\n").contains("seccomp"));
        assert!(says(libc::ENOSYS, "").contains("lacks it"));
        assert!(says(libc::ENOMEM, "").contains("ulimit -l"));
    }
}
