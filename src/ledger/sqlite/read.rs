//! Reading: a few threads with connections of their own, so that no search holds up a commit.
//!
//! A reader may see a transaction whose sync is under way; its answer waits for that ([`super::sync`]).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, ToSql, params, params_from_iter};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::super::LedgerError;
use super::super::keys::Keys;
use super::super::rows::{Document, Event, Filter, Payment, Scope};
use super::chain::{self, Chain};
use super::codec::{self, disk};
use super::{sealed, start};

/// A question, with the way its answer goes back inside it.
pub(super) type Question = Box<dyn FnOnce(&Connection, &Keys) + Send>;

/// Rows in one page when the filter does not say.
const PAGE: usize = 100;

/// Starts the threads.
pub(super) fn start(
    path: &Path,
    keys: &Arc<Keys>,
    threads: usize,
    questions: mpsc::Receiver<Question>,
) -> Result<Vec<JoinHandle<()>>, start::StartError> {
    let questions = Arc::new(Mutex::new(questions));
    let io = |source| start::StartError::Io {
        path: path.to_owned(),
        source,
    };
    (0..threads)
        .map(|n| {
            let connection = start::connect(path)?;
            connection.pragma_update(None, "query_only", true)?;
            let (questions, keys) = (Arc::clone(&questions), Arc::clone(keys));
            std::thread::Builder::new()
                .name(format!("ledger-read-{n}"))
                .spawn(move || {
                    loop {
                        // One thread waits at the queue, the others for their turn; the lock is free while one works.
                        let next = questions.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                        match next {
                            Some(question) => question(&connection, &keys),
                            None => break,
                        }
                    }
                })
                .map_err(io)
        })
        .collect()
}

/// Payments by a condition.
fn payments(
    connection: &Connection,
    keys: &Keys,
    condition: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<Payment>, LedgerError> {
    let sql = format!("SELECT {} FROM payments {condition}", codec::COLUMNS);
    let mut statement = connection.prepare_cached(&sql).map_err(disk)?;
    let mut rows = statement.query(values).map_err(disk)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(disk)? {
        found.push(codec::payment(row, keys)?.payment);
    }
    Ok(found)
}

pub(super) fn get(connection: &Connection, keys: &Keys, id: Uuid) -> Result<Option<Payment>, LedgerError> {
    Ok(payments(connection, keys, "WHERE id = ?1", &[id.as_bytes()])?.pop())
}

pub(super) fn get_all(connection: &Connection, keys: &Keys, ids: &[Uuid]) -> Result<Vec<Payment>, LedgerError> {
    // One read transaction: beginning one for each costs more than the reading.
    let snapshot = connection.unchecked_transaction().map_err(disk)?;
    let found = ids.iter().map(|id| get(&snapshot, keys, *id));
    found.filter_map(Result::transpose).collect()
}

pub(super) fn by_key(connection: &Connection, keys: &Keys, hash: &[u8; 32]) -> Result<Option<Payment>, LedgerError> {
    Ok(payments(connection, keys, "WHERE key_hash = ?1", &[hash])?.pop())
}

pub(super) fn by_id(
    connection: &Connection,
    keys: &Keys,
    scope: &Scope,
    id: &str,
) -> Result<Option<(Payment, String)>, LedgerError> {
    let found: Option<([u8; 16], String)> = connection
        .prepare_cached("SELECT payment, kind FROM ids WHERE scope = ?1 AND id = ?2")
        .and_then(|mut statement| {
            let label = Keys::scope_label(scope);
            statement
                .query_row([label.as_str(), id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .map_err(disk)?;
    let Some((payment, kind)) = found else { return Ok(None) };
    let payment = get(connection, keys, Uuid::from_bytes(payment))?
        .ok_or_else(|| LedgerError::Damaged("an id leads to no payment".to_owned()))?;
    Ok(Some((payment, kind)))
}

pub(super) fn events(connection: &Connection, keys: &Keys, payment: Uuid) -> Result<Vec<Event>, LedgerError> {
    // One read transaction: the row and its events are of the same moment.
    let snapshot = connection.unchecked_transaction().map_err(disk)?;
    let end: Option<([u8; 32], i64, i64)> = snapshot
        .prepare_cached("SELECT head, seq, last FROM payments WHERE id = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([payment.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()
        })
        .map_err(disk)?;
    let Some((head, seq, last)) = end else {
        return Ok(Vec::new());
    };
    let (mut before, mut events) = ([0; 32], Vec::new());
    for stored in chain::backwards(&snapshot, payment, last)?.into_iter().rev() {
        stored.verify(keys, &before)?;
        before = stored.event.hash;
        events.push(stored.event);
    }
    if before == head && events.last().is_some_and(|event| event.seq == seq) {
        Ok(events)
    } else {
        Err(LedgerError::Damaged(format!(
            "the events of payment {payment} do not end where they were left"
        )))
    }
}

pub(super) fn events_after(connection: &Connection, position: i64, limit: usize) -> Result<Vec<Event>, LedgerError> {
    let sql = format!(
        "SELECT {} FROM events WHERE position > ?1 ORDER BY position LIMIT ?2",
        chain::COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql).map_err(disk)?;
    let mut rows = statement.query(params![position, bound(limit)]).map_err(disk)?;
    let mut events = Vec::new();
    while let Some(row) = rows.next().map_err(disk)? {
        events.push(chain::Stored::read(row)?.event);
    }
    Ok(events)
}

pub(super) fn unfinished(
    connection: &Connection,
    keys: &Keys,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<Payment>, LedgerError> {
    let order = "ORDER BY obligations > 0 DESC, n LIMIT ?1";
    let limit = bound(limit);
    match after {
        None => payments(
            connection,
            keys,
            &format!("WHERE (terminal = 0 OR obligations > 0) {order}"),
            &[&limit],
        ),
        // The last one seen may have changed its group since; its row number and group now decide where to go on.
        Some(after) => payments(
            connection,
            keys,
            &format!(
                "WHERE (terminal = 0 OR obligations > 0) AND (obligations = 0, n) >
                     (SELECT obligations = 0, n FROM payments WHERE id = ?2) {order}"
            ),
            &[&limit, after.as_bytes()],
        ),
    }
}

pub(super) fn list(connection: &Connection, keys: &Keys, filter: &Filter) -> Result<Vec<Payment>, LedgerError> {
    let mut conditions: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    {
        let mut add = |condition: &str, value: Value| {
            values.push(value);
            conditions.push(condition.replace('?', &format!("?{}", values.len())));
        };
        let text = |value: &String| Value::Text(value.clone());
        let fields = [
            ("tenant = ?", filter.tenant.as_ref().map(text)),
            ("state = ?", filter.state.as_ref().map(text)),
            ("(gateway = ? OR first_gateway = ?)", filter.gateway.as_ref().map(text)),
            ("route = ?", filter.route.as_ref().map(text)),
            ("currency = ?", filter.currency.as_ref().map(text)),
            ("n >= ?", since(connection, filter.created_from)?),
            ("n < ?", since(connection, filter.created_to)?),
            (
                "order_ref = ?",
                filter.order_ref_hash.map(|hash| Value::Blob(hash.to_vec())),
            ),
            (
                "n < (SELECT n FROM payments WHERE id = ?)",
                filter.before.map(|before| Value::Blob(before.as_bytes().to_vec())),
            ),
        ];
        for (condition, value) in fields {
            if let Some(value) = value {
                add(condition, value);
            }
        }
        match filter.text.as_deref().map(|text| (text, beginnings(text))) {
            Some((_, Some((from, to)))) => {
                add("id >= ?", Value::Blob(from.to_vec()));
                add("id <= ?", Value::Blob(to.to_vec()));
            }
            Some((text, None)) => {
                add(
                    "id IN (SELECT payment FROM ids WHERE ids.id = ?)",
                    Value::Text(text.to_owned()),
                );
            }
            None => {}
        }
    }
    for (wanted, condition) in [
        (filter.in_doubt, "in_doubt = 1"),
        (filter.owing, "(terminal = 0 OR obligations > 0) AND obligations > 0"),
        (filter.manual, "manual = 1"),
        (filter.moved, "gateway <> first_gateway"),
        // Almost every payment of most ledgers is; theirs are found among all, the others' by an index.
        (
            filter.tenant.as_deref().is_some_and(|tenant| tenant != "local"),
            "tenant <> 'local'",
        ),
    ] {
        if wanted {
            conditions.push(condition.to_owned());
        }
    }
    let condition = if conditions.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", conditions.join(" AND "))
    };
    let limit = if filter.limit == 0 { PAGE } else { filter.limit };
    let sql = format!(
        "SELECT {} FROM payments {condition} ORDER BY n DESC LIMIT {}",
        codec::COLUMNS,
        bound(limit)
    );
    let mut statement = connection.prepare_cached(&sql).map_err(disk)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(disk)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(disk)? {
        found.push(codec::payment(row, keys)?.payment);
    }
    Ok(found)
}

/// The number of the first payment opened at this time or later. Payments are numbered as time goes on, which never runs
/// backwards here: a few looks find it.
fn since(connection: &Connection, at: Option<i64>) -> Result<Option<Value>, LedgerError> {
    let Some(at) = at else { return Ok(None) };
    let last: i64 = connection
        .prepare_cached("SELECT coalesce(max(n), 0) FROM payments")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(disk)?;
    let mut statement = connection
        .prepare_cached("SELECT created_at FROM payments WHERE n >= ?1 ORDER BY n LIMIT 1")
        .map_err(disk)?;
    let (mut from, mut to) = (1, last + 1);
    while from < to {
        let middle = from + (to - from) / 2;
        let created: i64 = statement.query_row([middle], |row| row.get(0)).map_err(disk)?;
        if created < at {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    Ok(Some(Value::Integer(from)))
}

/// The first and last payment id that begins with this text, when it can be the beginning of one (8 digits or more, so
/// that a short gateway id is not mistaken for one).
fn beginnings(text: &str) -> Option<([u8; 16], [u8; 16])> {
    let digits: String = text.chars().filter(|character| *character != '-').collect();
    if !(8..=32).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let from = u128::from_str_radix(&format!("{digits:0<32}"), 16).ok()?;
    let to = u128::from_str_radix(&format!("{digits:f<32}"), 16).ok()?;
    Some((from.to_be_bytes(), to.to_be_bytes()))
}

fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn document(
    connection: &Connection,
    keys: &Keys,
    space: &str,
    key: &str,
) -> Result<Option<Document>, LedgerError> {
    let mut statement = connection
        .prepare_cached("SELECT key, version, updated_at, value FROM documents WHERE space = ?1 AND key = ?2")
        .map_err(disk)?;
    let mut rows = statement.query([space, key]).map_err(disk)?;
    rows.next()
        .map_err(disk)?
        .map(|row| read_document(row, keys, space))
        .transpose()
}

pub(super) fn documents(
    connection: &Connection,
    keys: &Keys,
    space: &str,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Document>, LedgerError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT key, version, updated_at, value FROM documents
             WHERE space = ?1 AND key >= ?2 AND substr(key, 1, length(?2)) = ?2 AND (?3 IS NULL OR key > ?3)
             ORDER BY key LIMIT ?4",
        )
        .map_err(disk)?;
    let mut rows = statement
        .query(params![space, prefix, after, bound(limit)])
        .map_err(disk)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(disk)? {
        found.push(read_document(row, keys, space)?);
    }
    Ok(found)
}

/// The keys of a space; `None` when there are more than so many.
pub(super) fn document_keys(connection: &Connection, space: &str, most: usize) -> Option<Vec<String>> {
    let mut statement = connection
        .prepare_cached("SELECT key FROM documents WHERE space = ?1 LIMIT ?2")
        .ok()?;
    let rows = statement
        .query_map(params![space, bound(most) + 1], |row| row.get(0))
        .ok()?;
    let keys: Vec<String> = rows.collect::<Result<_, _>>().ok()?;
    (keys.len() <= most).then_some(keys)
}

fn read_document(row: &rusqlite::Row<'_>, keys: &Keys, space: &str) -> Result<Document, LedgerError> {
    let key: String = codec::get(row, 0)?;
    let value: Vec<u8> = codec::get(row, 3)?;
    let place = super::document_place(space, &key);
    let value = String::from_utf8(sealed::open(keys, &place, &value)?)
        .map_err(|_| LedgerError::Damaged(format!("{place} is not text")))?;
    Ok(Document {
        key,
        value,
        version: codec::get(row, 1)?,
        updated_at: codec::get(row, 2)?,
    })
}

/// Verifies every payment's row and chain, every sealed value and document, and the chain over all.
pub(super) fn verify(connection: &Connection, keys: &Keys) -> Result<u64, LedgerError> {
    let snapshot = connection.unchecked_transaction().map_err(disk)?;
    let damaged = |what: String| Err(LedgerError::Damaged(what));
    let mut chain = Chain::START;
    let mut heads: std::collections::HashMap<Uuid, (i64, [u8; 32], i64)> = std::collections::HashMap::new();
    let sql = format!("SELECT {} FROM events ORDER BY position", chain::COLUMNS);
    let mut statement = snapshot.prepare(&sql).map_err(disk)?;
    let mut rows = statement.query([]).map_err(disk)?;
    while let Some(row) = rows.next().map_err(disk)? {
        let stored = chain::Stored::read(row)?;
        let event = &stored.event;
        let (seq, before, last) = heads.entry(event.payment).or_insert((0, [0; 32], 0));
        stored.verify(keys, before)?;
        chain = chain.next(keys, &event.hash, event.at);
        if event.seq != *seq + 1 || event.position != chain.position || stored.previous != *last {
            return damaged(format!("an event before {} is missing", event.position));
        }
        (*seq, *before, *last) = (event.seq, event.hash, event.position);
    }
    let end = chain::stored_end(&snapshot).map_err(|error| LedgerError::Damaged(error.to_string()))?;
    if end != chain {
        return damaged("the chain of events does not end where it was left".to_owned());
    }
    let sql = format!("SELECT {} FROM payments", codec::COLUMNS);
    let mut statement = snapshot.prepare(&sql).map_err(disk)?;
    let mut rows = statement.query([]).map_err(disk)?;
    while let Some(row) = rows.next().map_err(disk)? {
        let stored = codec::payment(row, keys)?;
        let end = (stored.payment.position.seq, stored.head, stored.last);
        if heads.remove(&stored.payment.id) != Some(end) {
            return damaged(format!("payment {} and its events differ", stored.payment.id));
        }
    }
    if let Some(orphan) = heads.keys().next() {
        return damaged(format!("payment {orphan} is missing"));
    }
    sealed::verify(&snapshot, keys)?;
    let mut statement = snapshot
        .prepare("SELECT key, version, updated_at, value, space FROM documents")
        .map_err(disk)?;
    let mut rows = statement.query([]).map_err(disk)?;
    while let Some(row) = rows.next().map_err(disk)? {
        read_document(row, keys, &codec::get::<String>(row, 4)?)?;
    }
    Ok(u64::try_from(chain.position).unwrap_or(0))
}
