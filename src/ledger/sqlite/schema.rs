//! The tables, and how an older ledger becomes a newer one.
//!
//! `user_version` counts the migrations applied. Each runs in a transaction of its own together with that count, so a
//! crash between two leaves a ledger that the next start goes on with. A ledger with more migrations than this program
//! knows is refused: an older program would write rows that break a newer one's promises.

use rusqlite::Connection;

use super::start::StartError;

/// `application_id` of the file: "SENT".
const APPLICATION: i32 = 0x5345_4e54;

/// What the tables of each version add.
const MIGRATIONS: [&str; 6] = [
    "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE payments (
        n INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        route TEXT NOT NULL,
        key_hash BLOB NOT NULL UNIQUE,
        fingerprint BLOB NOT NULL,
        fp_version INTEGER NOT NULL,
        amount INTEGER,
        currency TEXT,
        order_ref BLOB,
        holds_order INTEGER NOT NULL,
        first_gateway TEXT NOT NULL,
        gateway TEXT NOT NULL,
        state TEXT NOT NULL,
        folded TEXT NOT NULL,
        version INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        head BLOB NOT NULL,
        owner BLOB NOT NULL,
        lease_until INTEGER NOT NULL,
        deadline INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        terminal INTEGER NOT NULL,
        in_doubt INTEGER NOT NULL,
        manual INTEGER NOT NULL,
        obligations INTEGER NOT NULL,
        tombstone INTEGER NOT NULL,
        mac BLOB NOT NULL
    );
    CREATE UNIQUE INDEX one_live_order ON payments (tenant, order_ref) WHERE holds_order = 1 AND order_ref IS NOT NULL;
    CREATE INDEX unfinished ON payments (obligations > 0 DESC, n) WHERE terminal = 0 OR obligations > 0;
    CREATE INDEX sweepable ON payments (n) WHERE terminal = 1 AND tombstone = 0;
    CREATE INDEX in_doubt ON payments (n) WHERE in_doubt = 1;
    CREATE INDEX manual ON payments (n) WHERE manual = 1;
    CREATE INDEX moved ON payments (n) WHERE gateway <> first_gateway;
    CREATE INDEX by_tenant ON payments (tenant, n);
    CREATE INDEX by_time ON payments (created_at);
    CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        payment BLOB NOT NULL,
        seq INTEGER NOT NULL,
        version INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        at INTEGER NOT NULL,
        op_id BLOB,
        kind TEXT NOT NULL,
        payload TEXT,
        erased BLOB,
        hash BLOB NOT NULL
    );
    CREATE UNIQUE INDEX events_of ON events (payment, seq);
    CREATE UNIQUE INDEX operations ON events (op_id) WHERE op_id IS NOT NULL;
    CREATE TABLE attempts (
        payment BLOB NOT NULL,
        n INTEGER NOT NULL,
        gateway TEXT NOT NULL,
        leg TEXT NOT NULL,
        key_hash BLOB NOT NULL UNIQUE,
        winner INTEGER NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (payment, n)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX one_winner ON attempts (payment) WHERE winner = 1;
    CREATE TABLE ids (
        scope TEXT NOT NULL,
        id TEXT NOT NULL,
        payment BLOB NOT NULL,
        kind TEXT NOT NULL,
        PRIMARY KEY (scope, id)
    ) WITHOUT ROWID;
    CREATE INDEX ids_of ON ids (payment);
    CREATE TABLE sealed (
        payment BLOB NOT NULL,
        name TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (payment, name)
    ) WITHOUT ROWID;
    CREATE TABLE checkpoints (position INTEGER PRIMARY KEY, hash BLOB NOT NULL);
    ",
    "
    CREATE TABLE documents (
        space TEXT NOT NULL,
        key TEXT NOT NULL,
        version INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (space, key)
    ) WITHOUT ROWID;
    ",
    "
    CREATE INDEX by_order ON payments (tenant, order_ref) WHERE order_ref IS NOT NULL;
    ",
    // Fewer pages a commit. An event names the one before it, so that a payment's events need no index; an operation that
    // was applied is found among them. The winner is a column, of which a payment has one. Attempts are looked up by
    // their key only, rows are in the order of time as they are numbered, and the sweep remembers where it was. A sealed
    // value of a kilobyte fits a page of a table with row numbers, where a table without gives it a page of its own.
    "
    ALTER TABLE events ADD COLUMN previous INTEGER NOT NULL DEFAULT 0;
    UPDATE events SET previous = coalesce(
        (SELECT before.position FROM events AS before
         WHERE before.payment = events.payment AND before.seq = events.seq - 1), 0);
    ALTER TABLE payments ADD COLUMN last INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE payments ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE payments ADD COLUMN winner INTEGER;
    UPDATE payments SET
        last = coalesce((SELECT position FROM events WHERE events.payment = payments.id AND events.seq = payments.seq), 0),
        attempts = (SELECT coalesce(max(n), 0) FROM attempts WHERE attempts.payment = payments.id),
        winner = (SELECT n FROM attempts WHERE attempts.payment = payments.id AND attempts.winner = 1);
    DROP INDEX events_of;
    DROP INDEX operations;
    DROP INDEX sweepable;
    DROP INDEX by_time;
    DROP INDEX by_tenant;
    CREATE INDEX by_tenant ON payments (tenant, n) WHERE tenant <> 'local';
    CREATE TABLE tried (
        key_hash BLOB PRIMARY KEY,
        payment BLOB NOT NULL,
        n INTEGER NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO tried SELECT key_hash, payment, n FROM attempts ORDER BY key_hash;
    DROP TABLE attempts;
    ALTER TABLE tried RENAME TO attempts;
    CREATE TABLE named (
        id TEXT NOT NULL,
        scope TEXT NOT NULL,
        payment BLOB NOT NULL,
        kind TEXT NOT NULL,
        PRIMARY KEY (id, scope)
    ) WITHOUT ROWID;
    INSERT INTO named SELECT id, scope, payment, kind FROM ids ORDER BY id, scope;
    DROP TABLE ids;
    ALTER TABLE named RENAME TO ids;
    CREATE INDEX ids_of ON ids (payment);
    CREATE TABLE kept (
        n INTEGER PRIMARY KEY,
        payment BLOB NOT NULL,
        name TEXT NOT NULL,
        value BLOB NOT NULL
    );
    INSERT INTO kept (payment, name, value) SELECT payment, name, value FROM sealed ORDER BY payment, name;
    DROP TABLE sealed;
    ALTER TABLE kept RENAME TO sealed;
    CREATE UNIQUE INDEX sealed_of ON sealed (payment, name);
    ",
    // Two indexes less: a payment's sealed values lie at its own number, and its ids are listed by the event that brought
    // them ([`super::ids`]); those of older changes by its last one.
    "
    ALTER TABLE events ADD COLUMN named TEXT;
    UPDATE events SET named = (SELECT json_group_array(json_array(scope, id)) FROM ids WHERE ids.payment = events.payment)
        WHERE position IN (SELECT last FROM payments)
        AND EXISTS (SELECT 1 FROM ids WHERE ids.payment = events.payment);
    DROP INDEX ids_of;
    CREATE TABLE kept (
        n INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        value BLOB NOT NULL
    );
    INSERT INTO kept (n, name, value)
        SELECT payments.n * 64 + row_number() OVER (PARTITION BY payments.n ORDER BY sealed.n) - 1, sealed.name, sealed.value
        FROM payments JOIN sealed ON sealed.payment = payments.id ORDER BY 1;
    DROP TABLE sealed;
    ALTER TABLE kept RENAME TO sealed;
    ",
    // Until when a document is kept that waits for a payment, and which payment keeps it beyond that (16 bytes are its id, 32
    // its key hash). What an older program wrote names neither, and stays.
    "
    ALTER TABLE documents ADD COLUMN until INTEGER;
    ALTER TABLE documents ADD COLUMN awaits BLOB;
    CREATE INDEX waiting ON documents (until) WHERE until IS NOT NULL;
    ",
];

/// The version that this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Whether the file is a ledger, and which version; `None` for an empty file.
pub(super) fn version(connection: &Connection) -> Result<Option<i64>, StartError> {
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version, tables) {
        (0, 0, 0) => Ok(None),
        (APPLICATION, version, _) if version > VERSION => Err(StartError::Newer {
            found: version,
            known: VERSION,
        }),
        (APPLICATION, version, _) if version >= 1 => Ok(Some(version)),
        _ => Err(StartError::NotALedger),
    }
}

/// Applies what is missing.
pub(super) fn migrate(connection: &mut Connection, from: i64, to: i64) -> Result<(), StartError> {
    for version in from..to {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute_batch(MIGRATIONS[version as usize])?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
