//! Following the ledger: a thread that counts each event once.
//!
//! It looks at the ledger's position (a counter in memory) several times a second and reads what is new, so that the
//! payments of a moment are read, counted and written together. A payment's earlier events are read again only when it is
//! not among those folded a moment ago.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;
use uuid::Uuid;

use super::fold::Fold;
use super::store::{self, Batch, Place, StoreError};
use crate::ledger::rows::{Event, Payment};
use crate::ledger::{Ledger, LedgerError};

/// How often the ledger's position is looked at: what a person calls live.
const LOOK: Duration = Duration::from_millis(100);
/// How long to wait after trouble.
const PAUSE: Duration = Duration::from_secs(1);
/// Events in one transaction.
const BATCH: usize = 2000;
/// Payments kept folded: those under way, and those just over.
const KEPT: usize = 8192;

/// What the follower tells.
#[derive(Debug)]
pub(super) struct Progress {
    /// The last event counted.
    pub position: watch::Sender<i64>,
    /// Whether the thread is to end.
    pub stop: AtomicBool,
}

/// What went wrong in a round.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("analytics: {0}")]
    Store(#[from] rusqlite::Error),
    #[error("the ledger has no payment {0}")]
    Orphan(Uuid),
}

struct Follower {
    connection: Connection,
    ledger: Arc<dyn Ledger>,
    progress: Arc<Progress>,
    place: Place,
    folded: HashMap<Uuid, Fold>,
}

/// Starts the thread. Opens the file first, so that whoever reads finds its tables.
pub(super) fn start(
    path: &Path,
    ledger: &Arc<dyn Ledger>,
    progress: &Arc<Progress>,
) -> Result<std::thread::JoinHandle<()>, StoreError> {
    let check = ledger.keys().derive(&[b"analytics"]);
    let connection = store::open(path, &check)?;
    let place = store::place(&connection)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut follower = Follower {
        connection,
        ledger: Arc::clone(ledger),
        progress: Arc::clone(progress),
        place,
        folded: HashMap::new(),
    };
    follower.progress.position.send_replace(place.position);
    let thread = std::thread::Builder::new().name("analytics".to_owned());
    Ok(thread.spawn(move || runtime.block_on(follower.run()))?)
}

/// Whether the event at the place reached is still the one that was counted.
async fn same(ledger: &dyn Ledger, place: Place) -> bool {
    if place.position == 0 {
        return true;
    }
    match ledger.events_after(place.position - 1, 1).await {
        Ok(events) => events.first().is_some_and(|event| event.hash == place.hash),
        // Nothing is known: the rounds to come will tell.
        Err(_) => true,
    }
}

impl Follower {
    async fn run(&mut self) {
        let mut troubled = false;
        if !same(self.ledger.as_ref(), self.place).await {
            tracing::warn!(
                "the ledger is not the one that was counted (a backup was put back?); the figures are made again"
            );
            self.place = Place::default();
            if let Err(error) = store::clear(&mut self.connection) {
                tracing::error!(%error, "the figures cannot be made again; they stand still");
                return;
            }
        }
        while !self.progress.stop.load(Ordering::Relaxed) {
            let more = self.ledger.health().position > self.place.position;
            let pause = match if more { self.round().await } else { Ok(0) } {
                Ok(seen) => {
                    troubled = false;
                    if seen == BATCH { Duration::ZERO } else { LOOK }
                }
                Err(trouble) => {
                    // What is folded may be ahead of what was written.
                    self.folded.clear();
                    if !std::mem::replace(&mut troubled, true) {
                        tracing::warn!(%trouble, "the figures stand still; they will catch up");
                    }
                    PAUSE
                }
            };
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Counts the next events; answers how many there were.
    async fn round(&mut self) -> Result<usize, Trouble> {
        let events = self.ledger.events_after(self.place.position, BATCH).await?;
        let Some(last) = events.last() else { return Ok(0) };
        let place = Place {
            position: last.position,
            hash: last.hash,
        };
        let mut order: Vec<Uuid> = Vec::new();
        let mut fresh: HashMap<Uuid, Vec<&Event>> = HashMap::new();
        for event in &events {
            let of = fresh.entry(event.payment).or_insert_with(|| {
                order.push(event.payment);
                Vec::new()
            });
            of.push(event);
        }
        let unknown: Vec<Uuid> = order
            .iter()
            .filter(|id| !self.folded.contains_key(id))
            .copied()
            .collect();
        let mut rows = HashMap::new();
        if !unknown.is_empty() {
            let found = self.ledger.get_all(unknown).await?;
            rows.extend(found.into_iter().map(|row| (row.id, row)));
        }
        let mut batch = Batch::default();
        for payment in order {
            let Some(events) = fresh.get(&payment) else { continue };
            let mut fold = self.folded(payment, events, rows.remove(&payment)).await?;
            let before = (fold.seq > 0).then(|| fold.figures());
            for event in events {
                take(&mut fold, event);
            }
            batch.add(before.as_deref(), &mut fold);
            self.folded.insert(payment, fold);
        }
        batch.write(&mut self.connection, self.ledger.now(), place)?;
        self.place = place;
        self.progress.position.send_replace(place.position);
        if self.folded.len() > KEPT {
            self.folded.retain(|_, fold| !fold.state.finished());
        }
        if self.folded.len() > KEPT {
            self.folded.clear();
        }
        Ok(events.len())
    }

    /// A payment as it was before these events.
    async fn folded(&mut self, payment: Uuid, events: &[&Event], row: Option<Payment>) -> Result<Fold, Trouble> {
        let first = events.first().map_or(1, |event| event.seq);
        if let Some(fold) = self.folded.remove(&payment).filter(|fold| fold.seq + 1 == first) {
            return Ok(fold);
        }
        let row = match row {
            Some(row) => row,
            None => self.ledger.get(payment).await?.ok_or(Trouble::Orphan(payment))?,
        };
        let earlier = match first {
            1 => Vec::new(),
            _ => self.ledger.events(payment).await?,
        };
        let Some(opened) = earlier.first().or(events.first().copied()) else {
            return Err(Trouble::Orphan(payment));
        };
        let mut fold = Fold::new(&row, opened);
        for event in earlier.iter().filter(|event| event.seq < first) {
            take(&mut fold, event);
        }
        // They were written when they were new.
        fold.lines.clear();
        Ok(fold)
    }
}

fn take(fold: &mut Fold, event: &Event) {
    if !fold.take(event) {
        tracing::warn!(payment = %event.payment, position = event.position, kind = event.kind, "an event cannot be read; the figures leave it out");
    }
}
