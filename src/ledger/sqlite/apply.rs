//! What a change does to the tables, inside the writer's transaction.

use std::sync::LazyLock;

use rusqlite::{OptionalExtension, ToSql, params};
use uuid::Uuid;

use super::super::rows::{
    Awaited, Change, NewAttempt, NewEvent, Open, Opened, Payment, Position, Retention, Swept, Waited, Waiting, Winner,
};
use super::super::{Constraint, LedgerError};
use super::chain::{self, Link};
use super::codec::{self, Stored, disk};
use super::ids::Named;
use super::sealed;
use super::writer::Context;

/// How long a document is let be whose payment keeps it, in milliseconds: a payment is not forgotten on the day.
const KEPT_AGAIN: i64 = 24 * 3_600_000;

/// The kind of the event that a change of owner leaves.
pub(super) const LEASE_TAKEN: &str = "lease_taken";

/// What of a change is made ready on the caller's thread.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Sealed values by name. Nothing in the clear waits in the queue.
    pub sealed: Vec<(String, Vec<u8>)>,
    pub named: Named,
}

/// Opens a payment, or finds it.
pub(super) fn open(context: &mut Context<'_>, open: &Open, ready: &Ready) -> Result<Opened, LedgerError> {
    if open.events.is_empty() {
        return Err(LedgerError::Invalid("a payment opens with an event"));
    }
    if let Some(existing) = find(context, &BY_KEY, &open.key_hash)? {
        if existing.payment.id == open.payment
            && let Some(position) = applied(context, &existing, open.op_id)?
        {
            return Ok(Opened::New(position));
        }
        return Ok(Opened::Existing(Box::new(existing.payment)));
    }
    if context.full {
        return Err(LedgerError::Full);
    }
    if open.order_guard
        && let Some(hash) = &open.order_ref_hash
        && let Some(holder) = order_holder(context, &open.tenant, hash)?
    {
        return Ok(Opened::OrderTaken(holder));
    }
    let mut stored = Stored {
        payment: Payment {
            id: open.payment,
            tenant: open.tenant.clone(),
            route: open.route.clone(),
            key_hash: open.key_hash,
            fingerprint: open.fingerprint,
            fp_version: open.fp_version,
            amount: open.amount,
            currency: open.currency.clone(),
            order_ref_hash: open.order_ref_hash,
            holds_order: open.order_guard && open.order_ref_hash.is_some(),
            first_gateway: open.gateway.clone(),
            gateway: open.gateway.clone(),
            state: open.state.clone(),
            folded: open.folded.clone(),
            position: Position {
                version: 1,
                epoch: 1,
                seq: 0,
            },
            owner: context.owner,
            lease_until: context.now + open.lease_ms,
            deadline: open.deadline,
            created_at: context.now,
            updated_at: context.now,
            terminal: false,
            in_doubt: false,
            manual: false,
            obligations: 0,
            tombstone: false,
        },
        n: 0,
        head: [0; 32],
        last: 0,
        attempts: 0,
        winner: None,
    };
    record(context, &mut stored, Some(open.op_id), &open.events, &ready.named)?;
    plan(context, &mut stored, &open.attempts)?;
    stored.insert(context.connection, context.keys).map_err(disk)?;
    ready.named.keep(context.connection, open.payment)?;
    sealed::begin(context.connection, stored.n, &ready.sealed)?;
    let position = stored.payment.position;
    context.recent.put(stored);
    Ok(Opened::New(position))
}

/// Applies a change.
pub(super) fn append(context: &mut Context<'_>, change: &Change, ready: &Ready) -> Result<Position, LedgerError> {
    if change.events.is_empty() {
        return Err(LedgerError::Invalid("a change leaves an event"));
    }
    let mut stored = load(context, change.payment)?.ok_or(LedgerError::NotFound)?;
    let Position { version, epoch, .. } = stored.payment.position;
    if (version, epoch) != (change.version, change.epoch) {
        // What was applied has moved the payment past the version that it was computed from.
        if let Some(position) = applied(context, &stored, change.op_id)? {
            return Ok(position);
        }
        return Err(LedgerError::Conflict { version, epoch });
    }
    let payment = &mut stored.payment;
    payment.position.version += 1;
    payment.state.clone_from(&change.state);
    payment.folded.clone_from(&change.folded);
    payment.gateway.clone_from(&change.gateway);
    payment.terminal = change.terminal;
    payment.in_doubt = change.in_doubt;
    payment.manual = change.manual;
    payment.obligations = change.obligations;
    payment.holds_order = change.holds_order && payment.order_ref_hash.is_some();
    payment.updated_at = context.now;
    if let Some((units, currency)) = &change.amount {
        (payment.amount, payment.currency) = (Some(*units), Some(currency.clone()));
    }
    if change.lease_ms > 0 {
        payment.owner = context.owner;
        payment.lease_until = context.now + change.lease_ms;
    }
    record(context, &mut stored, Some(change.op_id), &change.events, &ready.named)?;
    plan(context, &mut stored, &change.attempts)?;
    win(&mut stored, change.winner)?;
    constrained(stored.update(context.connection, context.keys), Constraint::Order)?;
    ready.named.keep(context.connection, change.payment)?;
    sealed::keep(context.connection, stored.n, &ready.sealed)?;
    let position = stored.payment.position;
    context.recent.put(stored);
    Ok(position)
}

/// Takes over a payment. Only one process has this file, so an owner that is not this one is dead.
pub(super) fn take_lease(context: &mut Context<'_>, id: Uuid, ttl_ms: i64) -> Result<Option<Payment>, LedgerError> {
    let mut stored = load(context, id)?.ok_or(LedgerError::NotFound)?;
    let payment = &mut stored.payment;
    if payment.owner == context.owner && payment.lease_until > context.now {
        return Ok(None);
    }
    let from = std::mem::replace(&mut payment.owner, context.owner);
    payment.position.epoch += 1;
    payment.position.version += 1;
    payment.lease_until = context.now + ttl_ms;
    let payload = format!(
        "{{\"from\":\"{from}\",\"to\":\"{}\",\"epoch\":{}}}",
        context.owner, payment.position.epoch
    );
    let event = NewEvent {
        kind: LEASE_TAKEN.to_owned(),
        payload,
    };
    record(context, &mut stored, None, &[event], &Named::default())?;
    stored.update(context.connection, context.keys).map_err(disk)?;
    context.recent.put(stored.clone());
    Ok(Some(stored.payment))
}

/// Prolongs a lease that is still ours.
pub(super) fn renew_lease(context: &mut Context<'_>, id: Uuid, epoch: i64, ttl_ms: i64) -> Result<bool, LedgerError> {
    let mut stored = load(context, id)?.ok_or(LedgerError::NotFound)?;
    if stored.payment.position.epoch != epoch || stored.payment.owner != context.owner {
        return Ok(false);
    }
    stored.payment.lease_until = context.now + ttl_ms;
    stored.update(context.connection, context.keys).map_err(disk)?;
    context.recent.put(stored);
    Ok(true)
}

/// Erases what has outlived its retention.
pub(super) fn sweep(context: &mut Context<'_>, retention: &Retention) -> Result<Swept, LedgerError> {
    let from = swept_to(context)?;
    let mut swept = Swept::default();
    for (id, n) in due(context, retention, from)? {
        let mut stored = load(context, id)?.ok_or(LedgerError::NotFound)?;
        stored.payment.folded.clear();
        stored.payment.tombstone = true;
        stored.update(context.connection, context.keys).map_err(disk)?;
        swept.sealed += sealed::erase(context.connection, n)?;
        erase_payloads(context, &stored)?;
        context.recent.put(stored);
        swept.payments += 1;
    }
    if swept.payments > 0 {
        sweep_on(context, from)?;
    }
    Ok(swept)
}

/// The number up to which all payments are tombstones.
fn swept_to(context: &Context<'_>) -> Result<i64, LedgerError> {
    let value: Option<Vec<u8>> = context
        .connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'swept'")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)).optional())
        .map_err(disk)?;
    let bytes = value.and_then(|value| <[u8; 8]>::try_from(value).ok());
    Ok(bytes.map_or(0, i64::from_be_bytes))
}

fn sweep_on(context: &Context<'_>, from: i64) -> Result<(), LedgerError> {
    context
        .connection
        .prepare_cached(
            "SELECT coalesce((SELECT n FROM payments WHERE n > ?1 AND tombstone = 0 ORDER BY n LIMIT 1),
                 (SELECT max(n) + 1 FROM payments)) - 1",
        )
        .and_then(|mut statement| statement.query_row([from], |row| row.get::<_, i64>(0)))
        .and_then(|to| {
            context
                .connection
                .prepare_cached(
                    "INSERT INTO meta (name, value) VALUES ('swept', ?1)
                     ON CONFLICT (name) DO UPDATE SET value = ?1",
                )?
                .execute([&to.to_be_bytes()[..]])
        })
        .map(|_| ())
        .map_err(disk)
}

/// Payments to erase, by id and number. Where the young ones begin is known first, so that they are never looked at.
fn due(context: &Context<'_>, retention: &Retention, from: i64) -> Result<Vec<(Uuid, i64)>, LedgerError> {
    let limit = i64::try_from(retention.limit).unwrap_or(i64::MAX);
    let mut statement = context
        .connection
        .prepare_cached(
            "SELECT id, n FROM payments WHERE n > ?3 AND terminal = 1 AND tombstone = 0 AND obligations = 0
             AND updated_at < ?1
             AND n <= (SELECT n FROM payments WHERE created_at < ?1 ORDER BY created_at DESC LIMIT 1)
             ORDER BY n LIMIT ?2",
        )
        .map_err(disk)?;
    let rows = statement
        .query_map(params![retention.before, limit, from], |row| {
            Ok((Uuid::from_bytes(row.get(0)?), row.get(1)?))
        })
        .map_err(disk)?;
    rows.collect::<Result<_, _>>().map_err(disk)
}

/// Replaces payloads by their digests, so that the chains still verify.
fn erase_payloads(context: &Context<'_>, stored: &Stored) -> Result<(), LedgerError> {
    for event in chain::backwards(context.connection, stored.payment.id, stored.last)? {
        if event.erased {
            continue;
        }
        let event = event.event;
        context
            .connection
            .prepare_cached("UPDATE events SET payload = NULL, erased = ?2 WHERE position = ?1")
            .and_then(|mut statement| statement.execute(params![event.position, chain::digest(&event.payload)]))
            .map_err(disk)?;
    }
    Ok(())
}

/// Writes a document; what waits for a payment says so.
pub(super) fn put_document(
    context: &mut Context<'_>,
    (space, key): (&str, &str),
    sealed: &[u8],
    expected: Option<i64>,
    waiting: Option<&Waiting>,
) -> Result<i64, LedgerError> {
    let found: Option<i64> = context
        .connection
        .prepare_cached("SELECT version FROM documents WHERE space = ?1 AND key = ?2")
        .and_then(|mut statement| statement.query_row([space, key], |row| row.get(0)).optional())
        .map_err(disk)?;
    let found = found.unwrap_or(0);
    if expected.is_some_and(|expected| expected != found) {
        return Err(LedgerError::Taken(Constraint::Document));
    }
    context
        .connection
        .prepare_cached(
            "INSERT INTO documents (space, key, version, updated_at, value, until, awaits)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (space, key) DO UPDATE SET version = ?3, updated_at = ?4, value = ?5, until = ?6, awaits = ?7",
        )
        .and_then(|mut statement| {
            let until = waiting.map(|waiting| waiting.until);
            let awaits = waiting.map(|waiting| match &waiting.payment {
                Awaited::Key(hash) => &hash[..],
                Awaited::Id(id) => &id.as_bytes()[..],
            });
            statement.execute(params![space, key, found + 1, context.now, sealed, until, awaits])
        })
        .map_err(disk)?;
    Ok(found + 1)
}

/// Deletes a document.
pub(super) fn delete_document(context: &mut Context<'_>, space: &str, key: &str) -> Result<bool, LedgerError> {
    context
        .connection
        .prepare_cached("DELETE FROM documents WHERE space = ?1 AND key = ?2")
        .and_then(|mut statement| statement.execute([space, key]))
        .map(|deleted| deleted > 0)
        .map_err(disk)
}

/// The documents that have waited longest.
const DUE: &str =
    "(space, key) IN (SELECT space, key FROM documents WHERE until < ?1 ORDER BY until, space, key LIMIT ?2)";

/// Removes what has waited long enough. What its payment keeps is looked at again much later, so that no call looks at more
/// than it may remove.
pub(super) fn sweep_waiting(context: &mut Context<'_>, limit: usize) -> Result<Waited, LedgerError> {
    static DELETE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "DELETE FROM documents WHERE {DUE}
             AND NOT EXISTS (SELECT 1 FROM payments WHERE id = documents.awaits AND tombstone = 0)
             AND NOT EXISTS (SELECT 1 FROM payments WHERE key_hash = documents.awaits AND tombstone = 0)"
        )
    });
    static LATER: LazyLock<String> = LazyLock::new(|| format!("UPDATE documents SET until = ?3 WHERE {DUE}"));
    let bound = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let connection = context.connection;
    let removed = connection
        .prepare_cached(&DELETE)
        .and_then(|mut statement| statement.execute(params![context.now, bound(limit)]))
        .map_err(disk)?;
    // Of the first so many, these are left, and they are the first now.
    let kept = connection
        .prepare_cached(&LATER)
        .and_then(|mut statement| {
            let again = context.now.saturating_add(KEPT_AGAIN);
            statement.execute(params![context.now, bound(limit.saturating_sub(removed)), again])
        })
        .map_err(disk)?;
    Ok(Waited { removed, kept })
}

/// Whether an operation was applied to a payment, and where it stood then.
fn applied(context: &Context<'_>, stored: &Stored, op_id: Uuid) -> Result<Option<Position>, LedgerError> {
    // The operation's id stands with the first of its events, which are those of one version.
    let (mut seq, mut of) = (0, 0);
    for event in chain::backwards(context.connection, stored.payment.id, stored.last)? {
        if event.version != of {
            (seq, of) = (event.event.seq, event.version);
        }
        if event.op_id == Some(op_id) {
            return Ok(Some(Position {
                version: event.version,
                epoch: event.epoch,
                seq,
            }));
        }
    }
    Ok(None)
}

/// A payment, as it is within this transaction.
fn load(context: &mut Context<'_>, id: Uuid) -> Result<Option<Stored>, LedgerError> {
    match context.recent.take(id) {
        Some(stored) => Ok(Some(stored)),
        None => find(context, &BY_ID, id.as_bytes()),
    }
}

static BY_ID: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM payments WHERE id = ?1", codec::COLUMNS));
static BY_KEY: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM payments WHERE key_hash = ?1", codec::COLUMNS));

fn find(context: &Context<'_>, sql: &str, value: &[u8]) -> Result<Option<Stored>, LedgerError> {
    let mut statement = context.connection.prepare_cached(sql).map_err(disk)?;
    let mut rows = statement.query([value]).map_err(disk)?;
    rows.next()
        .map_err(disk)?
        .map(|row| codec::payment(row, context.keys))
        .transpose()
}

fn order_holder(context: &Context<'_>, tenant: &str, hash: &[u8; 32]) -> Result<Option<Uuid>, LedgerError> {
    context
        .connection
        .prepare_cached("SELECT id FROM payments WHERE tenant = ?1 AND order_ref = ?2 AND holds_order = 1")
        .and_then(|mut statement| {
            statement
                .query_row(params![tenant, hash], |row| row.get(0).map(Uuid::from_bytes))
                .optional()
        })
        .map_err(disk)
}

/// Events written by one statement at most.
const TOGETHER: usize = 4;

/// The statement for so many events less one: running one statement for four costs less than four for one each. `OR FAIL`,
/// because what a failed change has written is taken back by the writer, and SQLite need not copy pages for that.
static INSERTIONS: LazyLock<[String; TOGETHER]> = LazyLock::new(|| {
    std::array::from_fn(|more| {
        let rows = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; more + 1].join(", ");
        format!(
            "INSERT OR FAIL INTO events (position, payment, seq, version, epoch, at, op_id, kind, payload, hash, previous, named)
             VALUES {rows}"
        )
    })
});

/// Adds events to both chains. The operation's id and the ids that it brings stand with the first.
fn record(
    context: &mut Context<'_>,
    stored: &mut Stored,
    op_id: Option<Uuid>,
    events: &[NewEvent],
    named: &Named,
) -> Result<(), LedgerError> {
    let (mut op_id, mut named) = (op_id, named.listed.as_deref());
    for events in events.chunks(TOGETHER) {
        let sql = &INSERTIONS[events.len() - 1];
        let mut statement = context.connection.prepare_cached(sql).map_err(disk)?;
        for (row, event) in events.iter().enumerate() {
            let payment = &mut stored.payment;
            payment.position.seq += 1;
            let op_id = op_id.take();
            let link = Link {
                before: &stored.head,
                payment: payment.id,
                seq: payment.position.seq,
                version: payment.position.version,
                epoch: payment.position.epoch,
                at: context.now,
                op_id,
                kind: &event.kind,
                digest: &chain::digest(&event.payload),
            };
            let hash = link.hash(context.keys);
            *context.chain = context.chain.next(context.keys, &hash, context.now);
            let columns: [&dyn ToSql; 12] = [
                &context.chain.position,
                payment.id.as_bytes(),
                &payment.position.seq,
                &payment.position.version,
                &payment.position.epoch,
                &context.now,
                &op_id.as_ref().map(Uuid::as_bytes),
                &event.kind,
                &event.payload,
                &hash,
                &stored.last,
                &named.take(),
            ];
            for (column, value) in columns.into_iter().enumerate() {
                let at = row * columns.len() + column + 1;
                statement.raw_bind_parameter(at, value).map_err(disk)?;
            }
            stored.head = hash;
            stored.last = context.chain.position;
        }
        statement.raw_execute().map_err(disk)?;
    }
    Ok(())
}

fn plan(context: &Context<'_>, stored: &mut Stored, attempts: &[NewAttempt]) -> Result<(), LedgerError> {
    for attempt in attempts {
        let hash = context
            .keys
            .attempt_hash(&attempt.gateway, &attempt.leg, &attempt.gateway_key);
        let inserted = context
            .connection
            .prepare_cached("INSERT INTO attempts (key_hash, payment, n) VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute(params![hash, stored.payment.id.as_bytes(), attempt.n]));
        constrained(inserted.map(|_| ()), Constraint::Attempt)?;
        stored.attempts = stored.attempts.max(attempt.n);
    }
    Ok(())
}

fn win(stored: &mut Stored, winner: Winner) -> Result<(), LedgerError> {
    match winner {
        Winner::Keep => Ok(()),
        Winner::Set(n) if n == 0 || n > stored.attempts => Err(LedgerError::Invalid("there is no such attempt")),
        Winner::Set(_) if stored.winner.is_some() => Err(LedgerError::Taken(Constraint::Winner)),
        Winner::Set(n) => {
            stored.winner = Some(n);
            Ok(())
        }
        Winner::Revoke if stored.winner.is_none() => Err(LedgerError::Invalid("there is no winner")),
        Winner::Revoke => {
            stored.winner = None;
            Ok(())
        }
    }
}

/// A statement that only this constraint can refuse.
fn constrained<T>(result: rusqlite::Result<T>, constraint: Constraint) -> Result<T, LedgerError> {
    result.map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => LedgerError::Taken(constraint),
        _ => disk(error),
    })
}
