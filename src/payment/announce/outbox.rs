//! The outbox: what one application has yet to be told, beside the events that it comes of.
//!
//! A cursor for each destination goes through the ledger's events; what is to be told is written down as a document before
//! the cursor moves on, and the document is deleted only when the application has taken it. So nothing is lost by a crash
//! at any point, and something may be told twice.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::news::News;
use crate::ledger::rows::Document;
use crate::ledger::{Constraint, Ledger, LedgerError};

/// Where entries are.
const ENTRIES: &str = "notifications";
/// Where cursors are, by destination.
const CURSORS: &str = "notification-cursors";
/// Entries read at once.
const PAGE: usize = 200;

/// News that an application has not taken yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The payment.
    pub payment: Uuid,
    /// The event of it that made the news.
    pub seq: i64,
    /// What happened.
    #[serde(flatten)]
    pub news: News,
    /// When, Unix milliseconds.
    pub at: i64,
    /// How many of its events were taken: news may be several.
    pub taken: usize,
    /// Deliveries that failed.
    pub tries: u32,
    /// When it is tried next, Unix milliseconds.
    pub due: i64,
    /// Given up: only an operator has it tried again.
    pub dead: bool,
    /// Why the last delivery failed.
    pub last: String,
}

/// An entry with its place.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its place: the position of its event, and its number among the news of that event.
    pub id: String,
    /// What it is.
    pub entry: Entry,
    key: String,
    version: i64,
}

/// The outbox of one destination.
pub struct Outbox<'a> {
    ledger: &'a dyn Ledger,
    route: &'a str,
}

impl<'a> Outbox<'a> {
    /// The one of a route. Names of routes hold no control characters.
    pub fn of(ledger: &'a dyn Ledger, route: &'a str) -> Self {
        Self { ledger, route }
    }

    /// The last event that was gone through; `None` for a destination that is new.
    pub async fn cursor(&self) -> Result<Option<i64>, LedgerError> {
        let document = self.ledger.document(CURSORS, self.route.to_owned()).await?;
        Ok(document.and_then(|document| document.value.parse().ok()))
    }

    /// Everything up to this event is written down.
    pub async fn move_to(&self, position: i64) -> Result<(), LedgerError> {
        let put = self
            .ledger
            .put_document(CURSORS, self.route.to_owned(), position.to_string(), None);
        put.await.map(drop)
    }

    /// Writes an entry down, once.
    pub async fn note(&self, position: i64, index: usize, entry: &Entry) -> Result<(), LedgerError> {
        let key = format!("{}{position:016x}{index:02x}", self.prefix());
        match self.ledger.put_document(ENTRIES, key, written(entry), Some(0)).await {
            Ok(_) | Err(LedgerError::Taken(Constraint::Document)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Entries in the order of their events, those after one.
    pub async fn page(&self, after: Option<&Kept>) -> Result<Vec<Kept>, LedgerError> {
        let after = after.map(|kept| kept.key.clone());
        let page = self.ledger.documents(ENTRIES, self.prefix(), after, PAGE).await?;
        page.into_iter().map(|document| self.kept(document)).collect()
    }

    /// All entries.
    pub async fn all(&self) -> Result<Vec<Kept>, LedgerError> {
        let mut all: Vec<Kept> = Vec::new();
        loop {
            let page = self.page(all.last()).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// One entry by its id.
    pub async fn get(&self, id: &str) -> Result<Option<Kept>, LedgerError> {
        let document = self.ledger.document(ENTRIES, format!("{}{id}", self.prefix())).await?;
        document.map(|document| self.kept(document)).transpose()
    }

    /// Writes an entry again; nothing happens when somebody else changed it in the meantime.
    pub async fn put(&self, kept: &Kept) -> Result<(), LedgerError> {
        let put = self
            .ledger
            .put_document(ENTRIES, kept.key.clone(), written(&kept.entry), Some(kept.version));
        match put.await {
            Ok(_) | Err(LedgerError::Taken(Constraint::Document)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Forgets an entry.
    pub async fn remove(&self, kept: &Kept) -> Result<(), LedgerError> {
        self.ledger.delete_document(ENTRIES, kept.key.clone()).await.map(drop)
    }

    fn prefix(&self) -> String {
        format!("{}\n", self.route)
    }

    fn kept(&self, document: Document) -> Result<Kept, LedgerError> {
        let entry = serde_json::from_str(&document.value)
            .map_err(|_| LedgerError::Damaged("a notification cannot be read".to_owned()))?;
        let id = document.key.rsplit('\n').next().unwrap_or_default().to_owned();
        Ok(Kept {
            id,
            entry,
            key: document.key,
            version: document.version,
        })
    }
}

fn written(entry: &Entry) -> String {
    serde_json::to_string(entry).unwrap_or_default()
}
