//! The file of the read model: what the ledger's events add up to, and up to which event.
//!
//! Figures and the place reached are written in one transaction, so that a crash at any moment leaves a file in which
//! every event up to that place counts exactly once, and none after it. A statement's sums are written with its lines, so
//! that a list of statements costs what it shows. Nothing here is a truth of its own: a file that is missing, damaged or
//! another ledger's is made again from the ledger.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::fold::{Fact, Figure, Fold, Line};
use super::period::month_of;
use super::{DAY, EVERYONE, HOUR};
use crate::config::model::OPERATOR;

/// Changes whenever a table or a definition does: an older file is then made again.
const VERSION: i64 = 2;

const TABLES: &str = "
    CREATE TABLE place (one INTEGER PRIMARY KEY CHECK (one = 1), position INTEGER NOT NULL, hash BLOB NOT NULL);
    CREATE TABLE ledger (check_value BLOB NOT NULL);
    CREATE TABLE figures (
        tenant TEXT NOT NULL,
        width INTEGER NOT NULL,
        about TEXT NOT NULL,
        start INTEGER NOT NULL,
        figure TEXT NOT NULL,
        label TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (tenant, width, about, start, figure, label)
    ) WITHOUT ROWID;
    CREATE TABLE payments (
        n INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        route TEXT NOT NULL,
        opened_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        first_gateway TEXT NOT NULL,
        gateway TEXT NOT NULL,
        failure TEXT,
        recovered INTEGER NOT NULL,
        recovery_ms INTEGER,
        amount INTEGER,
        currency TEXT,
        captured INTEGER NOT NULL,
        refunded INTEGER NOT NULL,
        attempts INTEGER NOT NULL
    );
    CREATE INDEX by_time ON payments (opened_at);
    CREATE INDEX failures ON payments (n) WHERE failure IS NOT NULL;
    CREATE INDEX failures_of ON payments (tenant, n) WHERE failure IS NOT NULL;
    CREATE INDEX of_tenant ON payments (tenant, n);
    CREATE INDEX of_outcome ON payments (tenant, outcome, n);
    CREATE INDEX of_gateway ON payments (tenant, gateway, n);
    CREATE INDEX of_first ON payments (tenant, first_gateway, n);
    CREATE INDEX of_route ON payments (tenant, route, n);
    CREATE INDEX of_currency ON payments (tenant, currency, n);
    CREATE INDEX by_outcome ON payments (outcome, n);
    CREATE TABLE lines (
        payment INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        kind TEXT NOT NULL,
        tenant TEXT NOT NULL,
        month INTEGER NOT NULL,
        currency TEXT NOT NULL,
        at INTEGER NOT NULL,
        id BLOB NOT NULL,
        units INTEGER NOT NULL,
        gateway TEXT NOT NULL,
        PRIMARY KEY (payment, seq, kind)
    ) WITHOUT ROWID;
    CREATE INDEX lines_of ON lines (tenant, month, currency, at, payment, seq);
    CREATE TABLE sums (
        tenant TEXT NOT NULL,
        month INTEGER NOT NULL,
        currency TEXT NOT NULL,
        kind TEXT NOT NULL,
        units INTEGER NOT NULL,
        lines INTEGER NOT NULL,
        payments INTEGER NOT NULL,
        PRIMARY KEY (tenant, month, currency, kind)
    ) WITHOUT ROWID;
";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite.
    #[error("analytics: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file.
    #[error("analytics: {0}")]
    Io(#[from] std::io::Error),
}

/// The place reached in the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The last event counted; 0 for none.
    pub position: i64,
    /// Its link in its payment's chain.
    pub hash: [u8; 32],
}

/// Opens the file for writing, or makes it. `check` tells the ledger that it belongs to.
pub fn open(path: &Path, check: &[u8; 32]) -> Result<Connection, StoreError> {
    match usable(path, check) {
        Ok(Some(connection)) => return Ok(connection),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the analytics file cannot be read; it is made again from the ledger")
        }
    }
    for name in [
        path.to_owned(),
        path.with_added_extension("wal"),
        side(path, "-wal"),
        side(path, "-shm"),
    ] {
        match std::fs::remove_file(name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    // Made here and not by SQLite, so that no other user can read it.
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut connection = connect(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute("INSERT INTO ledger VALUES (?1)", [check])?;
    transaction.execute("INSERT INTO place VALUES (1, 0, ?1)", [[0_u8; 32]])?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(connection)
}

fn side(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The file as it is, when it is of this version and this ledger.
fn usable(path: &Path, check: &[u8; 32]) -> Result<Option<Connection>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = connect(path)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        return Ok(None);
    }
    let found: Option<Vec<u8>> = connection
        .query_row("SELECT check_value FROM ledger", [], |row| row.get(0))
        .optional()?;
    Ok((found.as_deref() == Some(check.as_slice())).then_some(connection))
}

/// A connection. A power cut may take the last commits back, whole: their events are then counted again.
pub fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA mmap_size = 0;
         PRAGMA cache_size = -16384;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA synchronous = NORMAL;",
    )?;
    Ok(connection)
}

/// Forgets everything that was counted.
pub fn clear(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "DELETE FROM figures; DELETE FROM payments; DELETE FROM lines; DELETE FROM sums; UPDATE place SET position = 0;",
    )?;
    transaction.commit()
}

/// The place reached.
pub fn place(connection: &Connection) -> Result<Place, rusqlite::Error> {
    connection.query_row("SELECT position, hash FROM place", [], |row| {
        Ok(Place {
            position: row.get(0)?,
            hash: row.get(1)?,
        })
    })
}

/// What a batch of events changes.
#[derive(Debug, Default)]
pub struct Batch {
    /// By tenant, width and start of the time they are of.
    figures: BTreeMap<(String, i64, i64), HashMap<Figure, i64>>,
    rows: Vec<(i64, uuid::Uuid, String, String, i64, Fact)>,
    lines: Vec<(i64, uuid::Uuid, String, Line)>,
}

impl Batch {
    /// A payment counted so far as `before` now counts as `fold`. Its new lines are taken from it.
    pub fn add(&mut self, before: Option<&[(Figure, i64)]>, fold: &mut Fold) {
        let mut changes = fold.figures();
        for (figure, n) in before.unwrap_or_default() {
            match changes.iter_mut().find(|(known, _)| known == figure) {
                Some((_, sum)) => *sum -= n,
                None => changes.push((figure.clone(), -n)),
            }
        }
        changes.retain(|(_, n)| *n != 0);
        // What the operator collects by itself is no merchant's payment.
        let everyone = (fold.tenant != OPERATOR).then_some(EVERYONE);
        for tenant in std::iter::once(fold.tenant.as_str()).chain(everyone) {
            // Gateways are compared by days, the whole also by hours.
            for width in [DAY, HOUR] {
                let start = fold.opened_at.div_euclid(width) * width;
                let sums = self.figures.entry((tenant.to_owned(), width, start)).or_default();
                for (figure, n) in &changes {
                    match sums.get_mut(figure) {
                        _ if width == HOUR && !figure.0.is_empty() => {}
                        Some(sum) => *sum += n,
                        None => {
                            sums.insert(figure.clone(), *n);
                        }
                    }
                }
            }
        }
        self.rows.push((
            fold.n,
            fold.id,
            fold.tenant.clone(),
            fold.route.clone(),
            fold.opened_at,
            fold.fact(),
        ));
        for line in fold.lines.drain(..) {
            self.lines.push((fold.n, fold.id, fold.tenant.clone(), line));
        }
    }

    /// Writes all of it and the place reached, or nothing.
    pub fn write(&self, connection: &mut Connection, now: i64, place: Place) -> Result<(), rusqlite::Error> {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let figures = self
            .figures
            .iter()
            .flat_map(|(of, sums)| sums.iter().map(move |(figure, n)| (of, figure, n)));
        for ((tenant, width, start), (about, figure, label), n) in figures {
            if *n == 0 {
                continue;
            }
            transaction
                .prepare_cached(
                    "INSERT INTO figures (tenant, width, about, start, figure, label, n) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                     ON CONFLICT DO UPDATE SET n = n + ?7",
                )?
                .execute(params![tenant, width, about, start, figure, label, n])?;
        }
        for (n, id, tenant, route, opened_at, fact) in &self.rows {
            transaction
                .prepare_cached(
                    "INSERT INTO payments (n, id, tenant, route, opened_at, updated_at, outcome, first_gateway, gateway, failure,
                         recovered, recovery_ms, amount, currency, captured, refunded, attempts)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
                     ON CONFLICT (n) DO UPDATE SET updated_at = ?6, outcome = ?7, first_gateway = ?8, gateway = ?9, failure = ?10,
                         recovered = ?11, recovery_ms = ?12, amount = ?13, currency = ?14, captured = ?15, refunded = ?16,
                         attempts = ?17",
                )?
                .execute(params![
                    n,
                    id.as_bytes(),
                    tenant,
                    route,
                    opened_at,
                    now,
                    fact.outcome.name(),
                    fact.first_gateway,
                    fact.gateway,
                    fact.failure,
                    fact.recovered,
                    fact.recovery_ms,
                    fact.amount,
                    fact.currency,
                    fact.captured,
                    fact.refunded,
                    fact.attempts,
                ])?;
        }
        for (n, id, tenant, line) in &self.lines {
            let (kind, month) = (line.kind.name(), month_of(line.at).number());
            let known = transaction
                .prepare_cached(
                    "SELECT 1 FROM lines WHERE payment = ?1 AND kind = ?2 AND month = ?3 AND currency = ?4",
                )?
                .exists(params![n, kind, month, line.currency])?;
            let written = transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO lines (payment, seq, kind, tenant, month, currency, at, id, units, gateway)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    n,
                    line.seq,
                    kind,
                    tenant,
                    month,
                    line.currency,
                    line.at,
                    id.as_bytes(),
                    line.units,
                    line.gateway,
                ])?;
            // A line that was there is in the sums already.
            if written > 0 {
                transaction
                    .prepare_cached(
                        "INSERT INTO sums (tenant, month, currency, kind, units, lines, payments)
                         VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)
                         ON CONFLICT DO UPDATE SET units = units + ?5, lines = lines + 1, payments = payments + ?6",
                    )?
                    .execute(params![
                        tenant,
                        month,
                        line.currency,
                        kind,
                        line.units,
                        i64::from(!known)
                    ])?;
            }
        }
        transaction
            .prepare_cached("UPDATE place SET position = ?1, hash = ?2")?
            .execute(params![place.position, place.hash])?;
        transaction.commit()
    }
}
