//! Spans: what a trace (OpenTelemetry) shows of a request and of each attempt at a gateway.
//!
//! Off unless configured, and then a request pays for the check of an `Option`. A span goes into a bounded queue that
//! never holds up a request; what finds no room is dropped and counted. Whether a trace is kept is decided once, where it
//! begins: by the application's `traceparent` when it sent one, else by the configured share. A span carries names from
//! the configuration and closed sets, never a path, a header or a body.

use std::time::{Duration, SystemTime};

use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot};

use super::trace::TraceContext;

/// Spans that may wait for the exporter: some seconds of a busy sidecar, below one megabyte.
const QUEUE: usize = 4096;

/// Whose view a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A request of the application's.
    Server,
    /// An attempt at a gateway.
    Client,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Trace, span and parent.
    pub context: TraceContext,
    /// Of low cardinality: `POST checkout`.
    pub name: String,
    /// Whose view.
    pub side: Side,
    /// When it ended.
    pub ended: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// OpenTelemetry's semantic conventions where they have a name, `sentinel.*` elsewhere.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub failed: bool,
}

/// To the exporter.
#[derive(Debug)]
pub enum Message {
    /// Export this.
    Span(Box<Span>),
    /// Export everything so far, then say so.
    Flush(oneshot::Sender<()>),
}

/// The recording end.
#[derive(Clone, Debug)]
pub struct Spans {
    queue: mpsc::Sender<Message>,
    full: IntCounter,
    /// The share of traces that begin here and are kept, 0 to 1.
    share: f64,
}

impl Spans {
    /// A queue: the end that records, and the end that exports. `full` counts spans for which there was no room.
    pub fn queue(share: f64, full: IntCounter) -> (Self, mpsc::Receiver<Message>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue, full, share }, receiver)
    }

    /// Decides whether a trace that begins here is kept; one that came with the request was decided there.
    pub fn decide(&self, context: TraceContext) -> TraceContext {
        let kept = context.parent == 0 && fastrand::f64() < self.share;
        TraceContext {
            flags: context.flags | u8::from(kept),
            ..context
        }
    }

    /// Records a span of a trace that is kept.
    pub fn record(&self, context: TraceContext, span: impl FnOnce() -> Span) {
        if context.sampled() && self.queue.try_send(Message::Span(Box::new(span()))).is_err() {
            self.full.inc();
        }
    }

    /// Waits until everything recorded so far was exported or given up, at most this long.
    pub async fn flush(&self, patience: Duration) {
        let flushed = async {
            let (done, wait) = oneshot::channel();
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = wait.await;
            }
        };
        let _ = tokio::time::timeout(patience, flushed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> IntCounter {
        IntCounter::new("full", "full").unwrap()
    }

    fn span(context: TraceContext) -> Span {
        Span {
            context,
            name: "POST checkout".into(),
            side: Side::Server,
            ended: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            attributes: Vec::new(),
            failed: false,
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let full = counter();
        let (spans, receiver) = Spans::queue(1.0, full.clone());
        let context = spans.decide(TraceContext::fresh());
        for _ in 0..QUEUE + 5 {
            spans.record(context, || span(context));
        }
        assert_eq!(full.get(), 5);
        drop(receiver);
        spans.record(context, || span(context));
        assert_eq!(full.get(), 6, "an exporter that is gone is a full queue");
    }

    #[test]
    fn the_application_decides_about_its_own_traces_and_the_share_about_the_rest() {
        let (spans, mut receiver) = Spans::queue(0.0, counter());
        assert!(!spans.decide(TraceContext::fresh()).sampled());
        let theirs = TraceContext {
            parent: 7,
            flags: 1,
            ..TraceContext::fresh()
        };
        assert!(spans.decide(theirs).sampled());
        let (all, _receiver) = Spans::queue(1.0, counter());
        assert!(all.decide(TraceContext::fresh()).sampled());
        let unwanted = TraceContext { flags: 0, ..theirs };
        assert!(!all.decide(unwanted).sampled());
        spans.record(unwanted, || panic!("not kept, so not made"));
        spans.record(theirs, || span(theirs));
        assert!(matches!(receiver.try_recv(), Ok(Message::Span(kept)) if kept.context == theirs));
    }
}
