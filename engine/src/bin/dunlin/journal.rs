//! Lines about what peers do: so many a second of each kind, and how many more there were (T31).
//!
//! In:    one call per line that could be written.
//! Out:   whether to write it, and how many of its kind were left out before it.
//! Holds: whatever peers do, a kind takes at most ten lines a second.
//! spec: atp/logs

use std::fmt;
use std::time::Duration;

use dunlin::clock::Clock;

/// Lines of a kind in each second.
const LINES_MAX: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// What lines are about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A session began.
    Opened,
    /// A session ended.
    Closed,
    /// A transfer failed.
    Failed,
    /// Anything else.
    Other,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Opened, Self::Closed, Self::Failed, Self::Other];
}

/// How many lines of its kind were left out before this one; nothing when displayed if there were none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " (and {count} more before it)"),
        }
    }
}

/// The lines of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    /// When the second began in which lines are counted.
    since: Duration,
    written: u32,
    left_out: u64,
}

/// Counts lines.
#[derive(Debug)]
pub(crate) struct Journal {
    clock: Clock,
    kinds: [Lines; Kind::ALL.len()],
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { clock: Clock::start(), kinds: [Lines::default(); Kind::ALL.len()] }
    }

    /// A line of this kind could be written; None: it is to be left out.
    pub(crate) fn take(&mut self, kind: Kind) -> Option<LeftOut> {
        self.take_at(self.clock.elapsed(), kind)
    }

    fn take_at(&mut self, now: Duration, kind: Kind) -> Option<LeftOut> {
        let lines = &mut self.kinds[kind as usize];
        if now.saturating_sub(lines.since) >= SECOND {
            (lines.since, lines.written) = (now, 0);
        }
        if lines.written == LINES_MAX {
            lines.left_out += 1;
            return None;
        }
        lines.written += 1;
        Some(LeftOut(std::mem::take(&mut lines.left_out)))
    }

    /// Lines that were left out since the last one that was written, by kind.
    pub(crate) fn rest(&self) -> impl Iterator<Item = (Kind, u64)> {
        let kinds = Kind::ALL.into_iter().map(|kind| (kind, self.kinds[kind as usize].left_out));
        kinds.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: atp/logs
    #[test]
    fn ten_lines_a_second_and_the_rest_is_counted() {
        let mut journal = Journal::new();
        let at = Duration::from_millis;
        let written = (0..1_000).filter(|n| journal.take_at(at(*n), Kind::Opened).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(
            journal.take_at(at(999), Kind::Closed),
            Some(LeftOut(0)),
            "another kind has lines of its own"
        );
        assert_eq!(journal.rest().collect::<Vec<_>>(), [(Kind::Opened, 990)]);
        let next = journal.take_at(at(1_000), Kind::Opened).unwrap();
        assert_eq!(next.to_string(), " (and 990 more before it)");
        assert_eq!(journal.take_at(at(1_000), Kind::Opened).unwrap().to_string(), "");
        assert_eq!(journal.rest().count(), 0);
    }
}
