//! Closing a database whose file was changed behind its back.

use crate::{StoreError, error::unless_damaged};
use redb::Database;
use std::ops::Deref;

/// A database that can be dropped whatever is in its file: after redb panicked in a write it does so again when it closes.
#[derive(Debug)]
pub(crate) struct ClosingDatabase(Option<Database>);

impl From<Database> for ClosingDatabase {
    fn from(database: Database) -> Self {
        Self(Some(database))
    }
}

impl Deref for ClosingDatabase {
    type Target = Database;

    fn deref(&self) -> &Database {
        match &self.0 {
            Some(database) => database,
            None => unreachable!("it is taken out when this is dropped"),
        }
    }
}

impl Drop for ClosingDatabase {
    fn drop(&mut self) {
        let database = self.0.take();
        let closed = unless_damaged(|| {
            drop(database);
            Ok::<_, StoreError>(())
        });
        if let Err(error) = closed {
            tracing::error!(%error, "closing the database failed");
        }
    }
}
