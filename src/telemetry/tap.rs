//! Requests as they pass, for whoever is looking: the source of `GET /tap` and `sentinel tap`.
//!
//! What passes is what an event already says to log and metric: names from the configuration, methods, statuses, paths
//! without their query. No header and no body ever comes here. While nobody looks an event costs one relaxed load. While
//! somebody does, events go through a bounded ring: a reader that is too slow loses the oldest and is told how many.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Events that a slow reader may lag behind.
const RING: usize = 1024;

/// Readers at once: a forgotten terminal should not be able to slow the data path for long.
const READERS: usize = 8;

/// One thing that happened. Words are those of log and metrics; what an event does not say is left out.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Passed {
    /// Milliseconds of Unix time.
    pub at: u64,
    /// `request`, `attempt`, `breaker`, `rejected`, `payment`, `failover`, `failover_refused` or `in_doubt`.
    pub event: &'static str,
    /// The route.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// The gateway.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// The method.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The path without query.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The status that the application got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What became of it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub outcome: &'static str,
    /// Attempts at gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The whole of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
    /// Sentinel's own part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overhead_ms: Option<f64>,
    /// Sentinel's id of the payment.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub payment: String,
    /// More, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The trace by which the log knows it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
}

impl Passed {
    /// An event of now.
    pub fn now(event: &'static str) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            at: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            event,
            ..Self::default()
        }
    }
}

/// Where events are shown.
#[derive(Debug)]
pub struct Tap {
    readers: AtomicUsize,
    ring: broadcast::Sender<Arc<Passed>>,
}

impl Default for Tap {
    fn default() -> Self {
        Self {
            readers: AtomicUsize::new(0),
            // The ring is allocated here, once; without readers nothing is put into it.
            ring: broadcast::Sender::new(RING),
        }
    }
}

impl Tap {
    /// Whether anybody looks: ask before making an event's strings.
    pub fn looked_at(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Shows an event, which is only made when somebody looks.
    pub fn show(&self, event: impl FnOnce() -> Passed) {
        if self.looked_at() {
            let _ = self.ring.send(Arc::new(event()));
        }
    }

    /// A new reader; `None` when there are too many.
    pub fn reader(self: &Arc<Self>) -> Option<Reader> {
        let before = self.readers.fetch_add(1, Ordering::Relaxed);
        let reader = Reader {
            tap: Arc::downgrade(self),
            ring: self.ring.subscribe(),
        };
        (before < READERS).then_some(reader)
    }
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// An event.
    Event(Arc<Passed>),
    /// So many events were lost, because this reader was too slow.
    Lost(u64),
    /// Nothing for a while: the moment to find out whether the other end is still there.
    Quiet,
}

/// Somebody who looks. Dropping it ends the looking.
#[derive(Debug)]
pub struct Reader {
    tap: Weak<Tap>,
    ring: broadcast::Receiver<Arc<Passed>>,
}

impl Reader {
    /// The next event, or [`Seen::Quiet`] after `patience`; `None` at the end of the process.
    pub async fn next(&mut self, patience: Duration) -> Option<Seen> {
        match tokio::time::timeout(patience, self.ring.recv()).await {
            Ok(Ok(event)) => Some(Seen::Event(event)),
            Ok(Err(RecvError::Lagged(lost))) => Some(Seen::Lost(lost)),
            Ok(Err(RecvError::Closed)) => None,
            Err(_) => Some(Seen::Quiet),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(tap) = self.tap.upgrade() {
            tap.readers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn nothing_is_made_while_nobody_looks() {
        let tap = Arc::new(Tap::default());
        tap.show(|| panic!("nobody looks"));
        let mut reader = tap.reader().unwrap();
        tap.show(|| Passed::now("request"));
        assert!(matches!(reader.next(PATIENCE).await, Some(Seen::Event(event)) if event.event == "request"));
        drop(reader);
        tap.show(|| panic!("nobody looks any more"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_told_what_it_lost_and_holds_nobody_up() {
        let tap = Arc::new(Tap::default());
        let mut reader = tap.reader().unwrap();
        for _ in 0..RING + 7 {
            tap.show(|| Passed::now("request"));
        }
        assert_eq!(reader.next(PATIENCE).await, Some(Seen::Lost(7)));
        for _ in 0..RING {
            assert!(matches!(reader.next(PATIENCE).await, Some(Seen::Event(_))));
        }
        assert_eq!(reader.next(PATIENCE).await, Some(Seen::Quiet));
        drop(tap);
        assert_eq!(reader.next(PATIENCE).await, None);
    }

    #[test]
    fn readers_are_few_and_a_place_comes_free_again() {
        let tap = Arc::new(Tap::default());
        let mut readers: Vec<_> = (0..READERS).map(|_| tap.reader().unwrap()).collect();
        assert!(tap.reader().is_none());
        assert!(tap.reader().is_none(), "a refused reader takes no place");
        readers.pop();
        assert!(tap.reader().is_some());
    }
}
