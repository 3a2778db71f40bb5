//! Sequences of the node's own record: reserved on its disk before they are used.
//!
//! In:    what the disk has of earlier starts; the key and the sequence that the node uses by now; the disk's word.
//! Out:   from which sequence on and up to which the node may sign; the row that says so, before it does.
//! Holds: what is on disk is never below a sequence that was used: after a crash, and with a clock that was set back, the next
//!        one is above all that others may have seen. Keys that follow each other use the same numbers, so that a key that has
//!        just changed is covered by the row of the one before.

use std::collections::BTreeSet;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use dunlin_codec::ids::NodeId;
use dunlin_shards::limits::SEQUENCES_RESERVED;
use dunlin_shards::neighbours::rows::row_key;
use dunlin_shards::time::WallMillis;

use crate::network::{ROW_OF_OWN, Row};
use crate::shelf::{NODES, Whose};
use crate::store::{Batch, Desk, Write};

/// How long a node that starts waits for its disk.
const WAIT: Duration = Duration::from_secs(10);

/// The disk's word on a reservation: its last sequence, and whether it is there.
pub(crate) type Word = (u64, bool);

/// What is reserved.
pub(crate) struct Sequences {
    own: NodeId,
    /// Rows that the disk may have, by key.
    rows: BTreeSet<Vec<u8>>,
    /// The last one that is reserved.
    until: u64,
    is_asked: bool,
    words: Receiver<Word>,
}

impl Sequences {
    /// Reserves some for a node that starts, and waits until the disk has them. `rows` are what it had. The first is given back as
    /// well; none: the disk takes nothing, and the clock is all that there is.
    pub(crate) fn begin(
        desk: &Desk<Whose>,
        (own, wall): (NodeId, WallMillis),
        rows: &[Row],
        words: Receiver<Word>,
    ) -> (Self, Option<u64>) {
        let used = rows.iter().filter_map(|(_, value)| Some(u64::from_be_bytes(value[..].try_into().ok()?)));
        let first = used.max().map_or(0, |last| last.saturating_add(1)).max(wall.0);
        let rows = rows.iter().map(|(key, _)| key.clone()).collect();
        let mut this = Self { own, rows, until: 0, is_asked: false, words };
        this.ask(desk, own, first.saturating_add(SEQUENCES_RESERVED));
        let word = this.is_asked.then(|| this.words.recv_timeout(WAIT).ok()).flatten();
        this.is_asked = this.is_asked && word.is_none();
        match word {
            Some((until, true)) => this.until = until,
            _ => tracing::warn!(
                "the store has not kept which sequences of this node's record are used: should its clock be set back, others \
                 keep an older record"
            ),
        }
        let first = (this.until > 0).then_some(first);
        (this, first)
    }

    /// The last one that is reserved.
    pub(crate) const fn until(&self) -> u64 {
        self.until
    }

    /// Reserves more when few are left, and when the node has another key. What the disk has by now, when that changed.
    pub(crate) fn work(&mut self, desk: &Desk<Whose>, (own, sequence): (NodeId, u64)) -> Option<u64> {
        let before = self.until;
        while let Ok((until, is_kept)) = self.words.try_recv() {
            self.is_asked = false;
            if is_kept {
                self.until = self.until.max(until);
            }
        }
        let is_short = sequence.saturating_add(SEQUENCES_RESERVED / 2) > self.until;
        if !self.is_asked && (is_short || own != self.own) {
            let until = sequence.saturating_add(SEQUENCES_RESERVED);
            self.ask(desk, own, until.max(self.until));
        }
        (self.until > before).then_some(self.until)
    }

    fn ask(&mut self, desk: &Desk<Whose>, own: NodeId, until: u64) {
        let key = row_key(ROW_OF_OWN, own);
        let others = self.rows.iter().filter(|row| **row != key);
        let mut writes: Vec<Write> = others.map(|row| Write::delete(NODES, &row[..])).collect();
        writes.push(Write::put(NODES, &key[..], until.to_be_bytes()));
        if desk.submit(Batch { ticket: Whose::Own(until), writes }).is_ok() {
            // Should the disk refuse it, those rows are there still, and say no less.
            (self.own, self.is_asked) = (own, true);
            self.rows.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::store::{Done, Opened, Store};

    const WALL: u64 = 1_760_000_000_000;

    fn open(path: &Path) -> (Store<Whose>, Vec<Row>, Receiver<Word>) {
        let opened = Opened::disk(path).unwrap();
        let mut rows = Vec::new();
        opened.each(NODES, |key, value| rows.push((key.to_vec(), value.to_vec()))).unwrap();
        let (sender, words) = channel();
        let answer = move |done: &mut Vec<Done<Whose>>| {
            for one in done.drain(..) {
                if let Whose::Own(until) = one.ticket {
                    let _ = sender.send((until, one.result.is_ok()));
                }
            }
        };
        (opened.start(answer).unwrap(), rows, words)
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("dunlin-sequences-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Whatever was used at one start is below whatever is used at the next, though the clock was set back and nothing was written
    /// at the end, the key changed in between or not.
    /// spec: p2p/own-sequence
    #[test]
    fn no_start_goes_below_what_was_used_before() {
        let folder = scratch("starts");
        let path = folder.join("store");
        let mut used = 0;
        for (start, key) in [1_u8, 1, 2, 2, 3].into_iter().enumerate() {
            let (store, rows, words) = open(&path);
            assert!(rows.len() <= 1, "one row, of the last key: {rows:?}");
            let (wall, own) = (WallMillis(WALL - 1_000 * start as u64), NodeId([key; 32]));
            let (mut sequences, first) = Sequences::begin(store.desk(), (own, wall), &rows, words);
            let first = first.unwrap();
            assert!(first > used && first >= wall.0, "{first} after {used}");
            // It changes its key and renews its record often; nothing that it uses is above what is reserved.
            used = first;
            for _ in 0..3 * SEQUENCES_RESERVED {
                if used < sequences.until() {
                    used += 1;
                }
                sequences.work(store.desk(), (NodeId([key + 1; 32]), used));
            }
            assert!(used > first + SEQUENCES_RESERVED / 2);
        }
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn a_store_that_takes_nothing_leaves_the_clock() {
        let (_sender, words) = channel();
        let store = Opened::memory().start(|_: &mut Vec<Done<Whose>>| {}).unwrap();
        let desk = store.desk().clone();
        store.close();
        let own = (NodeId([1; 32]), WallMillis(WALL));
        let (mut sequences, first) = Sequences::begin(&desk, own, &[], words);
        assert_eq!((first, sequences.until()), (None, 0));
        assert_eq!(sequences.work(&desk, (own.0, WALL)), None);
    }
}
