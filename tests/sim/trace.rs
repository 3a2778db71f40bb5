//! What happened in a world, one line per event, and a hash over all of them.
//!
//! Columns: time in seconds, `node.shard`, what, then up to three numbers whose meaning depends on it:
//!
//! | what     | first            | second         | third           |
//! |----------|------------------|----------------|-----------------|
//! | `out`    | to node or 65535 | bytes          | datagrams       |
//! | `in`     | from node        | bytes          | datagrams       |
//! | `drop`   | to node          | `Cause`        | bytes           |
//! | `letter` | to shard         | kind of letter |                 |
//! | `full`   | to shard         | kind of letter |                 |
//! | `timer`  |                  |                |                 |
//! | `event`  | kind of event    | session        |                 |
//! | `send`   | to node          | bytes          | entry of ledger |
//! | `fault`  | kind of fault    | argument       |                 |
//!
//! Holds: the same seed gives the same hash on every machine.

use core::cell::RefCell;
use core::fmt;
use std::collections::VecDeque;

/// Lines kept for the report of a failure.
const RECENT: usize = 60;

thread_local! {
    /// Reports of worlds that broke on this thread, when somebody keeps them.
    static REPORT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on reports of this thread are kept for `take_report`, or printed.
pub fn keep_reports(keeps: bool) {
    REPORT.set(keeps.then(String::new));
}

/// What was reported since.
#[must_use]
pub fn take_report() -> String {
    REPORT.with_borrow_mut(|report| report.as_mut().map(core::mem::take)).unwrap_or_default()
}

/// A world that breaks says where it stood.
pub(crate) fn report(text: &str) {
    let is_kept = REPORT.with_borrow_mut(|report| match report {
        Some(report) => {
            report.push_str(text);
            true
        }
        None => false,
    });
    if !is_kept {
        eprint!("{text}");
    }
}

/// What a line is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// A train left a shard.
    Out,
    /// A train came to a shard.
    In,
    /// A link dropped a datagram.
    Drop,
    /// A letter went to another shard.
    Letter,
    /// A letter found its ring full.
    Full,
    /// A shard's time had come.
    Timer,
    /// A shard told its application something.
    Event,
    /// An application sent a message.
    Send,
    /// The world did something to a node.
    Fault,
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Nanoseconds since the world began.
    pub at: u64,
    /// The node.
    pub node: usize,
    /// Its shard.
    pub shard: u8,
    /// What happened.
    pub what: What,
    /// See the table above.
    pub numbers: [u64; 3],
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.at / 1_000_000_000, self.at % 1_000_000_000);
        let what = format!("{:?}", self.what).to_lowercase();
        let [a, b, c] = self.numbers;
        write!(f, "{seconds:5}.{nanos:09} {:3}.{:<2} {what:6} {a:10} {b:10} {c:6}", self.node, self.shard)
    }
}

/// The lines of a world.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    count: u64,
    recent: VecDeque<Line>,
    is_printed: bool,
}

impl Default for Trace {
    fn default() -> Self {
        let is_printed = std::env::var_os("DUNLIN_TRACE").is_some();
        Self { hash: 0xcbf2_9ce4_8422_2325, count: 0, recent: VecDeque::new(), is_printed }
    }
}

impl Trace {
    /// Adds a line.
    pub fn add(&mut self, line: Line) {
        let place = (line.node as u64) << 16 | u64::from(line.shard) << 8 | line.what as u64;
        for word in [line.at, place].iter().chain(&line.numbers) {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        self.count += 1;
        if self.is_printed {
            println!("{line}");
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    /// The hash over all lines so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Lines so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last lines.
    pub fn recent(&self) -> impl Iterator<Item = &Line> {
        self.recent.iter()
    }
}
