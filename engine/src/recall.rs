//! What a node remembers between runs: the rows of its network, and those of the values that it holds, in one store.
//!
//! In:    the network's rows, every other second; those of holders as they come; at the start those of the store; which sequence the
//!        node's own record has.
//! Out:   the same, the other way round.
//! Holds: of the network only what changed is written, and again when the store could not take it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dunlin_shards::dht::values::Restored;
use dunlin_shards::neighbours::Neighbours;
use dunlin_shards::neighbours::rows::{ROW_OF_NODE, chains_in, join};
use dunlin_shards::time::{Now, WallMillis};

use crate::api::shared::EngineShared;
use crate::network::{Network, NetworkError, ROW_OF_OWN, Row};
use crate::sequences::Sequences;
use crate::shelf::{NODES, Shelf, Shelves, VALUES, Whose};
use crate::store::{Batch, Desk, Done, OpenError, Opened, Store, StoreReport, Write};

/// How often it is asked for them.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A store that runs, before the shards do: what it held waits for them.
pub(crate) struct Memory {
    store: Store<Whose>,
    shelves: Shelves,
    kept: Kept,
    values: Vec<Row>,
    restored: Restored,
    sequences: Sequences,
    /// Where the sequences of this start begin.
    first: Option<u64>,
}

/// The store of a running node, and the thread that remembers. Dropped, it ends both, the last changes kept.
pub(crate) struct Recall {
    store: Store<Whose>,
    thread: Option<JoinHandle<()>>,
    has_nodes: bool,
}

/// Why nothing is remembered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecallError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The network does not take what was remembered.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// There is no thread.
    #[error(transparent)]
    Thread(#[from] io::Error),
}

impl Memory {
    /// Reads what a store holds and starts it; its answers go to the shards of this engine.
    pub(crate) fn start(
        opened: Opened,
        engine: Arc<EngineShared>,
        wall: WallMillis,
    ) -> Result<Self, RecallError> {
        let (mut kept, mut values) = (Kept::default(), Vec::new());
        opened.each(NODES, |key, value| drop(kept.rows.insert(key.to_vec(), value.to_vec())))?;
        opened.each(VALUES, |key, value| values.push((key.to_vec(), value.to_vec())))?;
        let own_rows: Vec<Row> = kept.rows.extract_if(.., |key, _| is_own(key)).collect();
        let is_lost = kept.is_lost.clone();
        let own = (engine.id(), wall);
        let shelves = Shelves::new(engine);
        let answering = shelves.share();
        let (sender, words) = channel();
        let store = opened.start(move |done: &mut Vec<Done<Whose>>| {
            let is_refused = done.iter().any(|one| one.ticket == Whose::Network && one.result.is_err());
            is_lost.fetch_or(is_refused, Ordering::SeqCst);
            for one in done.iter() {
                if let Whose::Own(until) = one.ticket {
                    // Nobody listens any more when the node ends.
                    let _ = sender.send((until, one.result.is_ok()));
                }
            }
            answering.answer(done);
        })?;
        let (sequences, first) = Sequences::begin(store.desk(), own, &own_rows, words);
        Ok(Self { store, shelves, kept, values, restored: Restored::default(), sequences, first })
    }

    /// Tells a shard's neighbours which sequences are the node's to use, and what became of keys: before anything else.
    pub(crate) fn begin(&self, neighbours: &mut Neighbours) {
        if let Some(first) = self.first {
            neighbours.set_sequences(first, self.sequences.until());
        }
        for row in chains_in(&self.kept.rows) {
            // One that is none is left alone.
            neighbours.restore_chain(row);
        }
    }

    /// Gives a shard's neighbours what is theirs of the values, before they are asked for any, and a shelf for more.
    pub(crate) fn restore(&mut self, now: Now, shard: u8, neighbours: &mut Neighbours) -> Shelf {
        let rows = self.values.iter().map(|(key, value)| (&key[..], &value[..]));
        let restored = neighbours.restore(now, rows);
        self.restored.kept += restored.kept;
        self.restored.expired += restored.expired;
        self.restored.bad += restored.bad;
        self.shelves.of(shard, self.store.desk().clone())
    }
}

impl Recall {
    /// Tells the network what it knew, and remembers what it knows from now on.
    pub(crate) fn start(memory: Memory, network: Network) -> Result<Self, RecallError> {
        let Memory { store, kept, values, restored, sequences, .. } = memory;
        if !values.is_empty() {
            let Restored { kept, expired, bad } = restored;
            tracing::info!("{kept} values are kept from before; the time of {expired} others is over");
            if bad > 0 {
                tracing::warn!("{bad} rows of the store are no values, and are left alone");
            }
        }
        drop(values);
        if !kept.rows.is_empty() {
            tracing::info!("{} rows of the network are remembered", kept.rows.len());
            network.remember(kept.rows.clone())?;
        }
        let has_nodes = kept.rows.keys().any(|key| key.first() == Some(&ROW_OF_NODE));
        let desk = store.desk().clone();
        let thread = thread::Builder::new().name("dunlin-recall".to_owned());
        let thread = thread.spawn(move || remember(&network, &desk, (kept, sequences)))?;
        Ok(Self { store, thread: Some(thread), has_nodes })
    }

    /// There were nodes that an earlier run knew.
    pub(crate) const fn has_nodes(&self) -> bool {
        self.has_nodes
    }

    /// What the store did so far.
    pub(crate) fn report(&self) -> StoreReport {
        self.store.report()
    }
}

impl Drop for Recall {
    /// The network has ended before. The store is dropped behind this, and keeps what was handed in.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Its panic was printed.
            let _ = thread.join();
        }
    }
}

/// Hands changes in until the network ends, and once more then.
fn remember(network: &Network, desk: &Desk<Whose>, (mut kept, mut sequences): (Kept, Sequences)) {
    let mut is_running = true;
    while is_running {
        is_running = !network.wait_for_end(LOOK_EVERY);
        if let Some(until) = sequences.work(desk, network.own_sequence())
            && let Err(error) = network.on_reserved(until)
        {
            // There are more to come long before they are needed.
            tracing::debug!("the sequences up to {until} are not told: {error}");
        }
        let writes = kept.changes(network.rows());
        if !writes.is_empty() && desk.submit(Batch { ticket: Whose::Network, writes }).is_err() {
            kept.is_lost.store(true, Ordering::SeqCst);
        }
    }
}

fn is_own(key: &[u8]) -> bool {
    key.first() == Some(&ROW_OF_OWN)
}

/// What the store has, as far as it has not said otherwise.
#[derive(Default)]
struct Kept {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Something was not kept.
    is_lost: Arc<AtomicBool>,
}

impl Kept {
    /// What makes the store's rows these.
    fn changes(&mut self, rows: Vec<Row>) -> Vec<Write> {
        let rows = join(&self.rows, rows);
        let is_lost = self.is_lost.swap(false, Ordering::SeqCst);
        let mut writes = Vec::new();
        for (key, value) in &rows {
            if is_lost || self.rows.get(key) != Some(value) {
                writes.push(Write::put(NODES, &key[..], &value[..]));
            }
        }
        // A row that could not be deleted stays until the next start, where it is only one more node that may not be there.
        let gone = self.rows.keys().filter(|key| !rows.contains_key(*key));
        writes.extend(gone.map(|key| Write::delete(NODES, &key[..])));
        self.rows = rows;
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(of: &[(&str, &str)]) -> Vec<Row> {
        of.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    fn put(key: &str, value: &str) -> Write {
        Write::put(NODES, key.as_bytes(), value.as_bytes())
    }

    #[test]
    fn only_what_changed_is_written() {
        let mut kept = Kept::default();
        assert_eq!(kept.changes(rows(&[("a", "1"), ("b", "2")])), [put("a", "1"), put("b", "2")]);
        assert_eq!(kept.changes(rows(&[("b", "2"), ("a", "1")])), []);
        assert_eq!(
            kept.changes(rows(&[("a", "3"), ("d", "4")])),
            [put("a", "3"), put("d", "4"), Write::delete(NODES, *b"b")]
        );
        assert_eq!(kept.changes(Vec::new()), [], "nobody is forgotten");
        assert_eq!(kept.changes(rows(&[("c1", "1")])), [put("c1", "1")], "nor when we are alone");
        assert_eq!(kept.changes(rows(&[("a", "3"), ("d", "4")])), [], "and what became of a key stays");
        assert_eq!(kept.changes(rows(&[("a", "3"), ("c1", "2"), ("d", "4")])), [put("c1", "2")]);
        kept.is_lost.store(true, Ordering::SeqCst);
        let all = [put("a", "3"), put("c1", "2"), put("d", "4")];
        assert_eq!(kept.changes(rows(&[("a", "3"), ("d", "4")])), all);
        assert_eq!(kept.changes(rows(&[("a", "3"), ("d", "4")])), []);
    }
}
