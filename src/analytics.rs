//! Figures: what the ledger's payments add up to, for tenants, operators and invoices.
//!
//! A read model ([`store`]) in a file of its own beside the ledger follows the ledger's events ([`follow`]) and keeps
//! sums by hour and by day, a row a payment, and the lines of statements. Every figure is a function of events that are
//! in the ledger ([`fold`] has the definitions), each is counted once, and a crash loses none: the sums and the place
//! reached are written together. A question reads sums, never the ledger, so that a million payments cost what a
//! hundred do, and no question holds up a payment.
//!
//! Every question names its tenant; `None` is for operators only, and means all of them.
//!
//! What it refuses: sums over currencies, amounts that are not integers of minor units, and guesses. A payment whose
//! events were erased by the ledger's retention before they were counted is counted as a payment, never as a recovered one.

pub mod billing;
pub mod collection;
pub mod export;
pub mod fold;
mod follow;
pub mod gateways;
pub mod overview;
pub mod payments;
pub mod period;
pub mod store;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::watch;

use crate::ledger::{Ledger, LedgerError};
use crate::money::{Amount, Currency};
use follow::Progress;
use store::StoreError;

/// An hour in milliseconds.
pub const HOUR: i64 = 3_600_000;
/// A day in milliseconds.
pub const DAY: i64 = 24 * HOUR;
/// Under this name all tenants are summed up; no tenant can have it.
const EVERYONE: &str = "*";
/// Connections kept for reading.
const READERS: usize = 4;

/// The figures of a ledger.
pub struct Analytics {
    path: PathBuf,
    ledger: Arc<dyn Ledger>,
    progress: Arc<Progress>,
    idle: Mutex<Vec<Connection>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Analytics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analytics")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnalyticsError {
    /// The read model's file.
    #[error("the figures cannot be read: {0}")]
    Store(String),
    /// The ledger.
    #[error("the ledger cannot be read: {0}")]
    Ledger(#[from] LedgerError),
    /// The question itself.
    #[error("{0}")]
    Asked(String),
}

impl From<rusqlite::Error> for AnalyticsError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.to_string())
    }
}

impl Analytics {
    /// Where the figures of a ledger stand.
    pub fn beside(ledger: &Path) -> PathBuf {
        ledger.with_added_extension("analytics")
    }

    /// Opens the file at a path, or makes it, and follows the ledger from then on. Blocks for the file only.
    ///
    /// # Errors
    /// When the file can neither be used nor made.
    pub fn open(path: &Path, ledger: Arc<dyn Ledger>) -> Result<Self, StoreError> {
        let progress = Arc::new(Progress {
            position: watch::channel(0).0,
            stop: AtomicBool::new(false),
        });
        let thread = follow::start(path, &ledger, &progress)?;
        Ok(Self {
            path: path.to_owned(),
            ledger,
            progress,
            idle: Mutex::default(),
            thread: Some(thread),
        })
    }

    /// The ledger that it follows.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// Tells when something was counted: the position of the last event.
    pub fn news(&self) -> watch::Receiver<i64> {
        self.progress.position.subscribe()
    }

    /// Waits until everything that is in the ledger now is counted.
    pub async fn caught_up(&self) {
        let goal = self.ledger.health().position;
        // The sender lives as long as this.
        let _ = self.news().wait_for(|position| *position >= goal).await;
    }

    /// Asks the file, on a thread where waiting for a disk is allowed.
    async fn ask<T, F>(self: &Arc<Self>, question: F) -> Result<T, AnalyticsError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, AnalyticsError> + Send + 'static,
    {
        let this = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            let kept = this.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => {
                    let connection = store::connect(&this.path)?;
                    connection.pragma_update(None, "query_only", true)?;
                    connection
                }
            };
            // One snapshot, so that the parts of an answer are of the same moment.
            let answer = {
                let snapshot = connection.unchecked_transaction()?;
                question(&snapshot)?
            };
            let mut idle = this.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < READERS {
                idle.push(connection);
            }
            Ok(answer)
        });
        asked
            .await
            .unwrap_or_else(|_| Err(AnalyticsError::Store("the question was given up".to_owned())))
    }
}

impl Drop for Analytics {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Units of a currency for people, with a sign where it is below zero.
pub fn decimal(units: i64, currency: &str) -> String {
    let Ok(currency) = Currency::parse(currency) else {
        return units.to_string();
    };
    let sign = if units < 0 { "-" } else { "" };
    let units = units.saturating_abs();
    format!("{sign}{}", Amount { units, currency }.decimal())
}
