//! The database: rows of all tables, changed a group of batches at a time.
//!
//! In:    groups of changes.
//! Out:   rows, and whether a group is on the disk.
//! Holds: a group is one transaction and one sync; when `commit` answers well, all of it survives a crash, and never a part of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError};

use super::batch::{Table, Write};
use super::watched::{Fault, FirstFault, Watched};

/// Memory for pages of the file; half of it for pages that wait to be written.
const CACHE_LEN: usize = 64 << 20;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

const fn definition(table: Table) -> Definition {
    TableDefinition::new(table.0)
}

/// An open database and what went wrong with the backend below it.
pub(super) struct Rows {
    database: Database,
    first: FirstFault,
}

impl Rows {
    /// Opens what the backend holds; an empty one becomes an empty database. After a crash it is looked through first.
    pub(super) fn open(backend: impl StorageBackend) -> Result<Self, Fault> {
        let (watched, first) = Watched::new(backend);
        let opened =
            guarded(&first, || Ok(Builder::new().set_cache_size(CACHE_LEN).create_with_backend(watched)?));
        opened.map(|database| Self { database, first })
    }

    /// Calls `take` for each row of a table, by rising key.
    pub(super) fn each(&self, table: Table, mut take: impl FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        guarded(&self.first, || {
            let transaction = self.database.begin_read()?;
            let table = match transaction.open_table(definition(table)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(()),
                Err(why) => return Err(why.into()),
            };
            for row in table.iter()? {
                let (key, value) = row?;
                take(key.value(), value.value());
            }
            Ok(())
        })
    }

    /// Makes the changes, and has them on the disk when it returns well.
    pub(super) fn commit<'a>(&self, writes: impl Iterator<Item = &'a Write>) -> Result<(), Fault> {
        // Of a row's changes the last one counts; by rising key neighbours share their pages.
        let mut rows: BTreeMap<(Table, &[u8]), Option<&[u8]>> = BTreeMap::new();
        for write in writes {
            rows.insert((write.table, &write.key), write.value.as_deref());
        }
        guarded(&self.first, || self.commit_rows(&rows))
    }

    fn commit_rows(&self, rows: &BTreeMap<(Table, &[u8]), Option<&[u8]>>) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        let mut rows = rows.iter().peekable();
        while let Some(((name, _), _)) = rows.peek() {
            let mut table = transaction.open_table(definition(*name))?;
            while let Some(((_, key), value)) = rows.next_if(|((other, _), _)| other == name) {
                match value {
                    Some(value) => table.insert(key, value)?,
                    None => table.remove(key)?,
                };
            }
        }
        Ok(transaction.commit()?)
    }
}

/// What the database did, and when it failed, the first thing that went wrong below it. It may panic over a damaged file: that is a
/// failure like others.
fn guarded<T>(first: &FirstFault, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Fault> {
    let why = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(why)) => why.to_string(),
        Err(_) => "its rows make no sense".to_owned(),
    };
    Err(first.get().cloned().unwrap_or_else(|| Fault::Broken(why.into())))
}
