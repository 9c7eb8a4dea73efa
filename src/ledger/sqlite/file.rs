//! A ledger's file, read by somebody who is not its owner: an operator whose sidecar is down, or who has a copy.
//!
//! Read-only, beside a running owner or without one: it takes no lock, migrates nothing, and writes nothing, so that what
//! is being looked into is not changed by looking. Rows and chains are verified as the owner would.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use super::super::LedgerError;
use super::super::keys::Keys;
use super::super::rows::{Event, Filter, Id, Payment};
use super::start::{self, StartError};
use super::{ids, read, schema, sealed};

/// An opened file.
pub struct LedgerFile {
    connection: Connection,
    keys: Keys,
}

impl std::fmt::Debug for LedgerFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LedgerFile")
    }
}

impl LedgerFile {
    /// Opens it.
    ///
    /// # Errors
    /// When it is not there, no ledger, of a newer program, or made with another key.
    pub fn open(path: &Path, keys: Keys) -> Result<Self, StartError> {
        std::fs::metadata(path).map_err(|source| StartError::Io {
            path: path.to_owned(),
            source,
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch(
            "PRAGMA mmap_size = 0; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA query_only = ON;",
        )?;
        let found = schema::version(&connection)?.ok_or(StartError::NotALedger)?;
        if found < schema::VERSION {
            return Err(StartError::Older { found });
        }
        start::same_key(&connection, &keys)?;
        Ok(Self { connection, keys })
    }

    /// Payments, newest first.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Payment>, LedgerError> {
        read::list(&self.connection, &self.keys, filter)
    }

    /// A payment's events, oldest first, their chain verified.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn events(&self, payment: Uuid) -> Result<Vec<Event>, LedgerError> {
        read::events(&self.connection, &self.keys, payment)
    }

    /// A sealed value of a payment, opened.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn unseal(&self, payment: Uuid, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        sealed::read(&self.connection, &self.keys, payment, name)
    }

    /// The ids that lead to a payment.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn ids(&self, payment: Uuid) -> Result<Vec<Id>, LedgerError> {
        ids::of(&self.connection, payment)
    }
}
