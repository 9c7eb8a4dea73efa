//! A payment's sealed values: encrypted before they come here, and opened on their way out.
//!
//! They lie at the payment's own number, a few places each, so that they need no index and follow each other in the
//! order of time.

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::super::LedgerError;
use super::super::keys::Keys;
use super::codec::{self, disk};

/// Places of one payment.
const PLACES: i64 = 64;

/// Which values are a payment's, in a statement about both tables.
pub(super) const OF_PAYMENT: &str = "sealed.n >= payments.n * 64 AND sealed.n < payments.n * 64 + 64";

/// Where a payment's value belongs: no other place opens it.
pub(super) fn place(payment: Uuid, name: &str) -> String {
    format!("payment/{payment}/{name}")
}

/// Keeps the values of a payment that has none yet.
pub(super) fn begin(connection: &Connection, n: i64, values: &[(String, Vec<u8>)]) -> Result<(), LedgerError> {
    (0..)
        .zip(values)
        .try_for_each(|(at, value)| insert(connection, n, at, value))
}

/// Keeps values; one of the same name is replaced.
pub(super) fn keep(connection: &Connection, n: i64, values: &[(String, Vec<u8>)]) -> Result<(), LedgerError> {
    for value in values {
        let first = n * PLACES;
        let replaced = connection
            .prepare_cached("UPDATE sealed SET value = ?3 WHERE n >= ?1 AND n < ?2 AND name = ?4")
            .and_then(|mut statement| statement.execute(params![first, first + PLACES, value.1, value.0]))
            .map_err(disk)?;
        if replaced == 0 {
            let last: Option<i64> = connection
                .prepare_cached("SELECT max(n) FROM sealed WHERE n >= ?1 AND n < ?2")
                .and_then(|mut statement| statement.query_row([first, first + PLACES], |row| row.get(0)))
                .map_err(disk)?;
            insert(connection, n, last.map_or(0, |last| last - first + 1), value)?;
        }
    }
    Ok(())
}

fn insert(connection: &Connection, n: i64, at: i64, value: &(String, Vec<u8>)) -> Result<(), LedgerError> {
    if at >= PLACES {
        return Err(LedgerError::Invalid("a payment has few sealed values"));
    }
    connection
        .prepare_cached("INSERT INTO sealed (n, name, value) VALUES (?1, ?2, ?3)")
        .and_then(|mut statement| statement.execute(params![n * PLACES + at, value.0, value.1]))
        .map(|_| ())
        .map_err(disk)
}

/// Erases a payment's values: how many.
pub(super) fn erase(connection: &Connection, n: i64) -> Result<usize, LedgerError> {
    connection
        .prepare_cached("DELETE FROM sealed WHERE n >= ?1 AND n < ?2")
        .and_then(|mut statement| statement.execute([n * PLACES, (n + 1) * PLACES]))
        .map_err(disk)
}

/// A payment's value of this name, opened.
pub(super) fn read(
    connection: &Connection,
    keys: &Keys,
    payment: Uuid,
    name: &str,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let sealed: Option<Vec<u8>> = connection
        .prepare_cached(&format!(
            "SELECT value FROM payments JOIN sealed ON {OF_PAYMENT} WHERE payments.id = ?1 AND sealed.name = ?2"
        ))
        .and_then(|mut statement| {
            statement
                .query_row(params![payment.as_bytes(), name], |row| row.get(0))
                .optional()
        })
        .map_err(disk)?;
    sealed
        .map(|sealed| open(keys, &place(payment, name), &sealed))
        .transpose()
}

pub(super) fn open(keys: &Keys, place: &str, sealed: &[u8]) -> Result<Vec<u8>, LedgerError> {
    keys.open(place, sealed)
        .map_err(|error| LedgerError::Damaged(format!("{place}: {error}")))
}

/// Opens every value. One that belongs to no payment is damage.
pub(super) fn verify(connection: &Connection, keys: &Keys) -> Result<(), LedgerError> {
    let mut statement = connection
        .prepare("SELECT id, name, value FROM sealed LEFT JOIN payments ON payments.n = sealed.n / ?1")
        .map_err(disk)?;
    let mut rows = statement.query([PLACES]).map_err(disk)?;
    while let Some(row) = rows.next().map_err(disk)? {
        let (payment, name): (Uuid, String) = (codec::uuid(row, 0)?, codec::get(row, 1)?);
        open(keys, &place(payment, &name), &codec::get::<Vec<u8>>(row, 2)?)?;
    }
    Ok(())
}
