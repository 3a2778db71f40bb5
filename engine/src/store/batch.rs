//! What is stored: rows of tables, changed in batches that are kept whole or not at all.

/// A table: rows of bytes under keys of bytes. Tables come to be when they are first written to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Table(pub &'static str);

/// What a row costs beside its bytes, so that many small ones are not free.
const ROW_OVERHEAD: usize = 64;

/// One row's change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// Which row.
    pub key: Box<[u8]>,
    /// What it holds from now on; None: it is gone.
    pub value: Option<Box<[u8]>>,
}

impl Write {
    /// A row that holds `value` from now on.
    #[must_use]
    pub fn put(table: Table, key: impl Into<Box<[u8]>>, value: impl Into<Box<[u8]>>) -> Self {
        Self { table, key: key.into(), value: Some(value.into()) }
    }

    /// A row that is gone from now on, if it was there.
    #[must_use]
    pub fn delete(table: Table, key: impl Into<Box<[u8]>>) -> Self {
        Self { table, key: key.into(), value: None }
    }

    fn charge(&self) -> usize {
        ROW_OVERHEAD + self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// Changes that belong together: after any crash all of them are there, or none.
#[derive(Debug, Eq, PartialEq)]
pub struct Batch<T> {
    /// Comes back with the answer.
    pub ticket: T,
    /// In this order: of two changes of one row the later one counts.
    pub writes: Vec<Write>,
}

impl<T> Batch<T> {
    /// Bytes that it takes while it waits.
    #[must_use]
    pub fn charge(&self) -> usize {
        self.writes.iter().map(Write::charge).sum::<usize>().max(ROW_OVERHEAD)
    }
}
