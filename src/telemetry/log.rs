//! Where log lines go: through a scrubber, into a bounded queue, to one thread that writes them out.
//!
//! A request must never wait for whoever reads standard error: a full pipe would otherwise stop the data path. When the
//! queue is full lines are dropped, counted, and the loss is itself logged once there is room.
//!
//! The level and the access log can be switched while running. A line that is switched off costs one load of a flag.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::scrub::{Format, scrub};
use crate::config::model;

/// The target of access lines: one a request.
pub const ACCESS: &str = "sentinel::access";

/// Lines that may wait.
const LINES: usize = 8_192;

/// Bytes that may wait: a few seconds of a busy access log.
const BYTES: usize = 4 * 1024 * 1024;

/// Why the log cannot be set up or switched.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a level, nor a filter.
    #[error("log.level: {0}")]
    Level(String),
    /// Logging belongs to somebody else already.
    #[error("logging was set up before")]
    Taken,
    /// No thread for writing.
    #[error("the log's thread: {0}")]
    Thread(#[from] io::Error),
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Debug)]
struct Shared {
    queued: AtomicUsize,
    dropped: AtomicU64,
}

/// The running log: switch it, and flush it before the process ends.
#[derive(Debug)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    state: std::sync::Mutex<(String, bool)>,
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

/// Sets up logging for the process, on standard error. `dropped` counts lost lines.
///
/// # Errors
/// When the level is not one, or logging was set up before.
pub fn init(log: &model::Log, dropped: IntCounter) -> Result<Logging, LogError> {
    let (filter, handle) = reload::Layer::new(filter(&log.level, log.access)?);
    let format = if log.json { Format::Json } else { Format::Text };
    let (queue, sender, shared) = Queue::start(io::stderr(), format, dropped)?;
    let registry = tracing_subscriber::registry().with(filter);
    let done = if log.json {
        let layer = fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false);
        registry.with(layer.with_writer(queue)).try_init()
    } else {
        registry
            .with(fmt::layer().with_ansi(false).with_target(false).with_writer(queue))
            .try_init()
    };
    done.map_err(|_| LogError::Taken)?;
    Ok(Logging {
        filter: handle,
        state: std::sync::Mutex::new((log.level.clone(), log.access)),
        sender,
        shared,
    })
}

fn filter(level: &str, access: bool) -> Result<EnvFilter, LogError> {
    let access = if access { "info" } else { "off" };
    EnvFilter::try_new(format!("{level},{ACCESS}={access}")).map_err(|error| LogError::Level(error.to_string()))
}

impl Logging {
    /// Switches the level (or filter) and the access log; `None` leaves one as it is.
    ///
    /// # Errors
    /// When the level is not one; everything then stays as it was.
    pub fn switch(&self, level: Option<&str>, access: Option<bool>) -> Result<(), LogError> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = (
            level.map_or_else(|| state.0.clone(), str::to_owned),
            access.unwrap_or(state.1),
        );
        let filter = filter(&next.0, next.1)?;
        self.filter
            .reload(filter)
            .map_err(|error| LogError::Level(error.to_string()))?;
        *state = next;
        Ok(())
    }

    /// The level and whether there is an access log.
    pub fn settings(&self) -> (String, bool) {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Lines lost so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was logged so far is written, at most this long.
    pub fn flush(&self, patience: Duration) {
        let (done, wait) = sync_channel(1);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(patience);
        }
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.flush(Duration::from_secs(1));
    }
}

/// Makes a writer for each line.
#[derive(Clone, Debug)]
struct Queue {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
    format: Format,
    lost: IntCounter,
}

impl Queue {
    fn start(
        out: impl Write + Send + 'static,
        format: Format,
        lost: IntCounter,
    ) -> io::Result<(Self, SyncSender<Message>, Arc<Shared>)> {
        let (sender, receiver) = sync_channel(LINES);
        let shared = Arc::new(Shared {
            queued: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_out(out, format, &receiver, &theirs))?;
        Ok((
            Self {
                sender: sender.clone(),
                shared: Arc::clone(&shared),
                format,
                lost,
            },
            sender,
            shared,
        ))
    }

    fn send(&self, line: Vec<u8>) {
        let length = line.len();
        if self.shared.queued.fetch_add(length, Ordering::Relaxed) < BYTES {
            match self.sender.try_send(Message::Line(line)) {
                Ok(()) => return,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
        self.shared.queued.fetch_sub(length, Ordering::Relaxed);
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        self.lost.inc();
    }
}

/// One line, as the formatter hands it over: whole, in one `write`.
#[derive(Debug)]
struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(scrub(line, self.0.format).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// The writing thread. A broken output is not a reason to stop anything else.
fn write_out(mut out: impl Write, format: Format, receiver: &Receiver<Message>, shared: &Shared) {
    let mut reported = 0;
    let mut batch = Vec::with_capacity(64 * 1024);
    loop {
        let mut waiting = Vec::new();
        let mut next = match receiver.recv_timeout(Duration::from_secs(60)) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    shared.queued.fetch_sub(line.len(), Ordering::Relaxed);
                    batch.extend_from_slice(&line);
                }
                Message::Flush(done) => waiting.push(done),
            }
            next = if batch.len() < 64 * 1024 {
                receiver.try_recv().ok()
            } else {
                None
            };
        }
        let lost = shared.dropped.load(Ordering::Relaxed);
        if lost > reported {
            let n = lost - reported;
            let text = match format {
                Format::Json => {
                    format!("{{\"level\":\"WARN\",\"message\":\"log lines were dropped\",\"lines\":{n}}}\n")
                }
                Format::Text => format!("WARN {n} log lines were dropped: whoever reads this log is too slow\n"),
            };
            batch.extend_from_slice(text.as_bytes());
            reported = lost;
        }
        let _ = out.write_all(&batch).and_then(|()| out.flush());
        batch.clear();
        for done in waiting {
            let _ = done.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn flush(sender: &SyncSender<Message>) {
        let (done, wait) = sync_channel(1);
        sender.send(Message::Flush(done)).unwrap();
        wait.recv().unwrap();
    }

    fn lost() -> IntCounter {
        IntCounter::new("lost", "lost").unwrap()
    }

    #[test]
    fn every_field_of_every_line_is_scrubbed() {
        let sink = Sink::default();
        let (queue, sender, _) = Queue::start(sink.clone(), Format::Json, lost()).unwrap();
        let layer = fmt::layer().json().flatten_event(true).with_writer(queue);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let error = "declined: 4000056655665556";
            tracing::warn!(number = 4242424242424242u64, text = "5555-5555-5555-4444", %error, "paid with 378282246310005");
            tracing::info!(authorization = "Basic Zm9vOmJhcg==", key = "sk_live_1234567890abcdef");
        });
        flush(&sender);
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        for secret in [
            "4242424242424242",
            "5555-5555",
            "4000056655665556",
            "378282246310005",
            "Zm9v",
            "1234567890abcdef",
        ] {
            assert!(!text.contains(secret), "{text}");
        }
        assert_eq!(text.lines().count(), 2);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    /// A reader that does not read until told.
    struct Stuck(Receiver<()>, Sink);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_never_time_or_memory() {
        let (go, stuck) = sync_channel(0);
        let sink = Sink::default();
        let counter = lost();
        let (queue, sender, shared) = Queue::start(Stuck(stuck, sink.clone()), Format::Text, counter.clone()).unwrap();
        for _ in 0..3 * LINES {
            let _ = queue.make_writer().write(&[b'x'; 1000]).unwrap();
        }
        assert!(shared.queued.load(Ordering::Relaxed) <= BYTES + 1000);
        let dropped = shared.dropped.load(Ordering::Relaxed);
        assert!(dropped > 0 && dropped == counter.get());
        drop(go);
        flush(&sender);
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("log lines were dropped"), "the loss is told");
        assert_eq!(shared.queued.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_filter_says_whether_there_is_an_access_log() {
        let sink = Sink::default();
        for (access, expected) in [(false, 1), (true, 2)] {
            sink.0.lock().unwrap().clear();
            let (queue, sender, _) = Queue::start(sink.clone(), Format::Text, lost()).unwrap();
            let subscriber = tracing_subscriber::registry()
                .with(filter("info", access).unwrap())
                .with(fmt::layer().with_writer(queue));
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!(target: ACCESS, "request");
                tracing::info!("news");
                tracing::debug!("noise");
            });
            flush(&sender);
            assert_eq!(sink.0.lock().unwrap().split(|b| *b == b'\n').count() - 1, expected);
        }
        assert!(matches!(filter("loud=,=", false), Err(LogError::Level(_))));
    }
}
