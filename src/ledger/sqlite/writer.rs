//! The writer: one thread, one connection, group commit.
//!
//! Whatever is waiting when a transaction begins is committed with it, so one fsync serves as many changes as arrived
//! during the last one: no timer, no tuning, and a lone change waits for nobody. One that is refused leaves the others
//! alone: nearly all refusals come before anything is written, and when one does not, the whole transaction is taken back
//! and done again with a savepoint for each change (always having one would cost a fifth of the writer's time). An answer
//! is sent only after the transaction was synced ([`super::sync`]), which under load happens beside the next one.
//!
//! When the disk is full the transaction is taken back and its changes are tried one by one, so that the small ones that
//! open payments need may still fit. Any other failure of the disk ends the ledger: what the page cache holds after a
//! failed fsync is unknowable (safety.md D8), so it is never tried again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::super::LedgerError;
use super::super::keys::Keys;
use super::chain::{self, Chain};
use super::checkpoint::Pacer;
use super::codec::disk;
use super::recent::Recent;
use super::room::Room;
use super::sync::{Durable, Syncer, Written};
use super::{Fatal, Gauges};
use crate::failpoint;

/// Changes in one transaction at most: bounds how long the first of them waits for the last.
const BATCH: usize = 512;

/// What a change works with.
pub(super) struct Context<'a> {
    pub connection: &'a Connection,
    pub keys: &'a Keys,
    /// The end of the chain, moved by every event.
    pub chain: &'a mut Chain,
    /// Payments written a moment ago.
    pub recent: &'a mut Recent,
    /// The ledger's time for this transaction.
    pub now: i64,
    /// This process.
    pub owner: uuid::Uuid,
    /// Whether new payments are refused for want of space.
    pub full: bool,
}

/// One change, its answer, and the way back to the caller.
pub(super) trait Work: Send {
    /// Does it. May be called again after a transaction was taken back.
    fn run(&mut self, context: &mut Context<'_>) -> Result<(), LedgerError>;
    /// Sends the answer, or why there is none.
    fn answer(self: Box<Self>, failure: Option<LedgerError>);
}

/// A change as a closure.
pub(super) struct Task<T, F> {
    run: F,
    result: Option<Result<T, LedgerError>>,
    reply: oneshot::Sender<Result<T, LedgerError>>,
}

impl<T, F> Task<T, F>
where
    T: Send,
    F: FnMut(&mut Context<'_>) -> Result<T, LedgerError> + Send,
{
    pub fn new(run: F) -> (Self, oneshot::Receiver<Result<T, LedgerError>>) {
        let (reply, answer) = oneshot::channel();
        (
            Self {
                run,
                result: None,
                reply,
            },
            answer,
        )
    }
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: FnMut(&mut Context<'_>) -> Result<T, LedgerError> + Send,
{
    fn run(&mut self, context: &mut Context<'_>) -> Result<(), LedgerError> {
        let result = (self.run)(context);
        let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.result = Some(result);
        outcome
    }

    fn answer(self: Box<Self>, failure: Option<LedgerError>) {
        let result = match failure {
            Some(failure) => Err(failure),
            None => self.result.unwrap_or(Err(LedgerError::Closed)),
        };
        // The caller may have gone away; its change stands all the same.
        let _ = self.reply.send(result);
    }
}

/// How a refused change is taken back out of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Savepoints {
    /// Not at all: enough for a refusal before anything was written.
    None,
    /// Each change has its own.
    Each,
}

/// How a transaction went.
enum Attempted {
    /// It is written, under this number.
    Committed(u64),
    /// A change was refused after it had written something, with nothing to take it back by.
    HalfDone,
}

/// The writer's thread.
pub(super) struct Writer {
    pub connection: Connection,
    pub keys: Arc<Keys>,
    pub chain: Chain,
    pub recent: Recent,
    pub owner: uuid::Uuid,
    pub gauges: Arc<Gauges>,
    pub pacer: Pacer,
    pub room: Arc<Room>,
    pub syncer: Syncer,
    pub durable: Arc<Durable>,
    pub on_fatal: Fatal,
    pub queue: mpsc::Receiver<Box<dyn Work>>,
}

impl Writer {
    /// Works until every sender is gone, then copies the log into the main file.
    pub fn run(mut self) {
        let mut batch: Vec<Box<dyn Work>> = Vec::with_capacity(BATCH);
        while let Some(first) = self.queue.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH
                && let Ok(next) = self.queue.try_recv()
            {
                batch.push(next);
            }
            if self.gauges.fatal.load(Relaxed) {
                let failure = LedgerError::Fatal("the disk failed before".to_owned());
                batch.drain(..).for_each(|work| work.answer(Some(failure.clone())));
                continue;
            }
            self.commit(&mut batch);
            self.pacer.after_commit(&self.connection, &self.gauges);
        }
        self.syncer.finish();
        if !self.gauges.fatal.load(Relaxed) {
            self.pacer.finish(&self.connection);
        }
    }

    fn commit(&mut self, batch: &mut Vec<Box<dyn Work>>) {
        let begun = Instant::now();
        failpoint::pass("ledger.begin");
        match self.transaction(batch) {
            Ok(number) => {
                failpoint::pass("ledger.written");
                let written = Written {
                    number,
                    begun,
                    chain: self.chain,
                    works: std::mem::replace(batch, Vec::with_capacity(batch.len())),
                };
                self.syncer.take(written, !self.queue.is_empty());
            }
            Err(LedgerError::Full) if batch.len() > 1 => {
                for work in batch.drain(..) {
                    self.commit(&mut vec![work]);
                }
            }
            Err(failure @ (LedgerError::Full | LedgerError::Busy)) => {
                if failure == LedgerError::Full {
                    self.gauges.full.store(true, Relaxed);
                }
                batch.drain(..).for_each(|work| work.answer(Some(failure.clone())));
            }
            Err(failure) => {
                self.gauges.fatal.store(true, Relaxed);
                (self.on_fatal)(&failure.to_string());
                batch.drain(..).for_each(|work| work.answer(Some(failure.clone())));
            }
        }
    }

    /// One transaction, and its number. On an error nothing of it stands.
    fn transaction(&mut self, batch: &mut [Box<dyn Work>]) -> Result<u64, LedgerError> {
        let before = self.chain;
        for savepoints in [Savepoints::None, Savepoints::Each] {
            let done = self.attempt(batch, savepoints);
            if let Ok(Attempted::Committed(number)) = done {
                return Ok(number);
            }
            self.chain = before;
            self.recent.forget();
            // SQLite takes back by itself what failed for want of space; then there is nothing left to roll back.
            if !self.connection.is_autocommit() {
                self.execute("ROLLBACK")?;
            }
            done?;
        }
        Err(LedgerError::Fatal(
            "a change was half done under a savepoint of its own".to_owned(),
        ))
    }

    fn attempt(&mut self, batch: &mut [Box<dyn Work>], savepoints: Savepoints) -> Result<Attempted, LedgerError> {
        let before = self.chain;
        self.execute("BEGIN IMMEDIATE")?;
        let now = self.gauges.tick(self.chain.at);
        for work in batch {
            if savepoints == Savepoints::Each {
                self.execute("SAVEPOINT change")?;
            }
            let (saved, written) = (self.chain, self.connection.total_changes());
            let mut context = Context {
                connection: &self.connection,
                keys: &self.keys,
                chain: &mut self.chain,
                recent: &mut self.recent,
                now,
                owner: self.owner,
                full: self.gauges.full.load(Relaxed),
            };
            let refused = context.full;
            let done = work.run(&mut context);
            // Also where only one statement found no space, and nothing but this change is taken back.
            if !refused && matches!(done, Err(LedgerError::Full)) {
                self.gauges.full.store(true, Relaxed);
            }
            match done {
                Ok(()) if savepoints == Savepoints::Each => self.execute("RELEASE change")?,
                Ok(()) => {}
                Err(failure @ (LedgerError::Fatal(_) | LedgerError::Busy)) => return Err(failure),
                // SQLite took the whole transaction back; otherwise only this change did not fit.
                Err(LedgerError::Full) if self.connection.is_autocommit() => return Err(LedgerError::Full),
                Err(_) if savepoints == Savepoints::Each => {
                    self.chain = saved;
                    self.recent.forget();
                    self.execute("ROLLBACK TO change")?;
                    self.execute("RELEASE change")?;
                }
                Err(_) if self.connection.total_changes() != written => return Ok(Attempted::HalfDone),
                Err(_) => self.chain = saved,
            }
        }
        if self.chain != before {
            chain::keep(&self.connection, &self.chain).map_err(disk)?;
            if self.chain.position / chain::STRIDE != before.position / chain::STRIDE {
                self.connection
                    .prepare_cached("INSERT INTO checkpoints (position, hash) VALUES (?1, ?2)")
                    .and_then(|mut statement| {
                        statement.execute(rusqlite::params![self.chain.position, self.chain.hash])
                    })
                    .map_err(disk)?;
            }
        }
        failpoint::pass("ledger.commit");
        let number = self.durable.writing();
        let held = self.room.hold();
        let committed = self.execute("COMMIT");
        drop(held);
        if let Err(failure) = committed {
            self.durable.taken_back();
            return Err(failure);
        }
        Ok(Attempted::Committed(number))
    }

    fn execute(&self, sql: &str) -> Result<(), LedgerError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(disk)?;
        statement.execute([]).map(|_| ()).map_err(disk)
    }
}
