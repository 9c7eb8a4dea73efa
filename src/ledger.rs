//! The durable record of payments, attempts, outcomes and obligations.
//!
//! A ledger knows rows, not what payments mean: a payment's folded state and its events are JSON text that the payment
//! core wrote, beside the few columns that a constraint, a search or a recovery scan needs. Constraints do the work that
//! must hold whatever the code above does: one payment a key, one winner a payment, one attempt a (gateway, key, leg),
//! one live payment an order reference, one effect an operation id.
//!
//! What the caller may rely on:
//! - A call that answered `Ok` is durable: it survives a power cut. Before that answer nothing may be sent on the network
//!   on the strength of it (safety.md D1 to D5).
//! - [`Ledger::append`] is optimistic: it carries the version and epoch it was computed from, and is refused with
//!   [`LedgerError::Conflict`] when the payment has moved on. So the changes of one payment are totally ordered.
//! - An operation id is applied once. Sending the same change again after a lost answer is harmless, and answers as the
//!   first time.
//! - Events are append-only and chained by a keyed hash, for each payment and over all of them.
//! - Nothing that must be secret is kept in the clear: see [`keys`]. Card numbers are not kept at all; that is the
//!   callers' duty, and this room's tests look for them.
//!
//! Times are Unix milliseconds on the ledger's own clock ([`Ledger::now`]), which never runs backwards.

pub mod instruments;
pub mod keys;
pub mod rows;
pub mod sqlite;

use std::future::Future;
use std::pin::Pin;

use uuid::Uuid;

use keys::Keys;
use rows::{Change, Document, Event, Filter, Open, Opened, Payment, Position, Retention, Swept, Waited, Waiting};

/// What the calls of a [`Ledger`] return: boxed, because the ledger is a trait object, and sendable, because it is the
/// only thing of the data path that crosses threads.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, LedgerError>> + Send + 'a>>;

/// The durable record. The embedded implementation is [`sqlite::SqliteLedger`].
pub trait Ledger: Send + Sync {
    /// The keys that hash, seal and derive on this ledger's behalf.
    fn keys(&self) -> &Keys;

    /// This process as owner of leases.
    fn owner(&self) -> Uuid;

    /// The ledger's clock: Unix milliseconds, never behind a time already recorded.
    fn now(&self) -> i64;

    /// Opens a payment, or finds the one that already has its key. Atomic: of any number of callers with one key exactly
    /// one sees [`Opened::New`].
    fn open(&self, open: Open) -> Answer<'_, Opened>;

    /// Applies a change to a payment, all of it or nothing.
    fn append(&self, change: Change) -> Answer<'_, Position>;

    /// One payment.
    fn get(&self, payment: Uuid) -> Answer<'_, Option<Payment>>;

    /// The payments of these ids that there are, in no order.
    fn get_all(&self, payments: Vec<Uuid>) -> Answer<'_, Vec<Payment>>;

    /// The payment with this key hash.
    fn by_key(&self, key_hash: [u8; 32]) -> Answer<'_, Option<Payment>>;

    /// The payment that an id belongs to, and the kind of the id as it was recorded.
    fn by_id(&self, scope: rows::Scope, id: String) -> Answer<'_, Option<(Payment, String)>>;

    /// The ids recorded for a payment.
    fn ids(&self, payment: Uuid) -> Answer<'_, Vec<rows::Id>>;

    /// A payment's events, oldest first, their chain verified.
    fn events(&self, payment: Uuid) -> Answer<'_, Vec<Event>>;

    /// Events of all payments after a position, in the order they were recorded: the feed of read models. At most
    /// `limit`.
    fn events_after(&self, position: i64, limit: usize) -> Answer<'_, Vec<Event>>;

    /// A sealed value of a payment, opened; e.g. the answer that was given to the application.
    fn unseal(&self, payment: Uuid, name: String) -> Answer<'_, Option<Vec<u8>>>;

    /// Payments that recovery has to look at: not terminal, or with open obligations; those with obligations first, then
    /// the oldest. `after` continues from the last one seen.
    fn unfinished(&self, after: Option<Uuid>, limit: usize) -> Answer<'_, Vec<Payment>>;

    /// Payments for people and statistics, newest first.
    fn list(&self, filter: Filter) -> Answer<'_, Vec<Payment>>;

    /// Takes over a payment whose lease has run out (or whose owner is known to be dead): epoch + 1. `None` when
    /// another owner holds it.
    fn take_lease(&self, payment: Uuid, ttl_ms: i64) -> Answer<'_, Option<Payment>>;

    /// Prolongs our own lease. `false` when it was lost: stop working on the payment.
    fn renew_lease(&self, payment: Uuid, epoch: i64, ttl_ms: i64) -> Answer<'_, bool>;

    /// Erases what has outlived its retention; keys and terminal facts stay as tombstones.
    fn sweep(&self, retention: Retention) -> Answer<'_, Swept>;

    /// Writes a document. `expected` is the version it replaces: `Some(0)` for a new one, `None` for whatever is there.
    /// Answers the new version. Documents are sealed, values and keys of the value alike; only `space` and `key` are
    /// readable in the file, so a `key` that is itself sensitive is hashed by the caller.
    fn put_document(&self, space: &'static str, key: String, value: String, expected: Option<i64>) -> Answer<'_, i64>;

    /// As [`Ledger::put_document`], for what waits for a second step: [`Ledger::sweep_waiting`] removes it in its time.
    fn put_waiting(
        &self,
        space: &'static str,
        key: String,
        value: String,
        expected: Option<i64>,
        waiting: Waiting,
    ) -> Answer<'_, i64>;

    /// Removes documents that have waited long enough, and of which no payment came that is still told of: decided within
    /// one transaction, so that a payment opened meanwhile keeps its document. Looks at `limit` of them at most.
    fn sweep_waiting(&self, limit: usize) -> Answer<'_, Waited>;

    /// Reads a document.
    fn document(&self, space: &'static str, key: String) -> Answer<'_, Option<Document>>;

    /// Reads the documents of a space in the order of their keys, beginning after a key.
    fn documents(
        &self,
        space: &'static str,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Answer<'_, Vec<Document>>;

    /// Deletes a document; `false` when there was none.
    fn delete_document(&self, space: &'static str, key: String) -> Answer<'_, bool>;

    /// Verifies every chain and every row's seal; answers the number of events verified.
    fn verify(&self) -> Answer<'_, u64>;

    /// How it is doing. Cheap: reads counters only.
    fn health(&self) -> Health;
}

/// How a ledger is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// How long the last group commit took, in microseconds.
    pub commit_us: u64,
    /// Changes in the last group commit.
    pub batch: usize,
    /// Group commits so far.
    pub commits: u64,
    /// Changes waiting for the writer.
    pub queue: usize,
    /// Changes that may wait; one more is refused with [`LedgerError::Busy`].
    pub queue_capacity: usize,
    /// Bytes in the write-ahead log that are not yet in the main file.
    pub wal_bytes: u64,
    /// The position of the last event.
    pub position: i64,
    /// Whether new payments are refused for want of disk space.
    pub full: bool,
    /// Whether the ledger has failed for good.
    pub fatal: bool,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The writer's queue is full. Nothing was done; the caller answers 503.
    #[error("the ledger is busy")]
    Busy,
    /// The disk is full, or nearly: new payments are refused, changes of open ones only when they do not fit.
    #[error("the ledger's disk is full")]
    Full,
    /// The payment has moved on.
    #[error("the payment is at version {version} of epoch {epoch}")]
    Conflict {
        /// Its version now.
        version: i64,
        /// Its epoch now.
        epoch: i64,
    },
    /// There is no such payment.
    #[error("no such payment")]
    NotFound,
    /// A constraint forbids it.
    #[error("{0}")]
    Taken(Constraint),
    /// The call itself is wrong: a programming error above.
    #[error("invalid change: {0}")]
    Invalid(&'static str),
    /// A row, an event or a sealed value is not what was written.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// The disk failed. Whether the change is durable is unknowable; the process must end (safety.md D8).
    #[error("the ledger has failed: {0}")]
    Fatal(String),
    /// The ledger is shutting down.
    #[error("the ledger is closed")]
    Closed,
}

/// What must be unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Constraint {
    /// One live payment for an order reference.
    #[error("another payment for this order is live")]
    Order,
    /// One attempt for a gateway, idempotency key and leg.
    #[error("this attempt was already made")]
    Attempt,
    /// One winner for a payment.
    #[error("the payment already has a winner")]
    Winner,
    /// One payment for an id.
    #[error("the id belongs to another payment")]
    Id,
    /// The document is at another version.
    #[error("the document was changed by someone else")]
    Document,
}
