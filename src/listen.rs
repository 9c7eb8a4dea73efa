//! Sockets, admission, and the strict guard over HTTP heads: everything between a socket and the request handler.
//!
//! # The way of a connection
//! 1. [`bind`] makes the sockets: bound here, one a worker, or passed by systemd.
//! 2. [`serve`] accepts, admits within [`Settings::connections`], and gives each connection a task on its own thread.
//! 3. [`tls`] shakes hands where the listener speaks TLS.
//! 4. The first bytes say HTTP/1.1 or HTTP/2; hyper serves either.
//! 5. HTTP/1.1 bytes pass the [`guard`] before hyper sees them; an HTTP/2 request passes [`target::check_request`].
//! 6. The handler gets the request and a [`ConnectionInfo`].
//!
//! # Why a guard below hyper
//! hyper resolves some ambiguities silently, for example it drops `Content-Length` when `Transfer-Encoding` is present. A
//! service cannot see what was dropped, so the guard reads raw bytes and refuses every message that two parsers could
//! read differently. hyper never sees one byte of a head that the guard has not accepted whole.
//!
//! # Invariants
//! - A refused head is answered only after every earlier request on its connection was answered.
//! - No timer belongs to a request: one sweep a worker counts ticks over its connections ([`Settings`] timeouts are
//!   therefore met within a quarter of their length, late and never early).
//! - Dropping the future of [`serve`] stops accepting; connections end through [`Stop`].

pub mod bind;
pub mod guard;
pub mod quiet;
pub mod refusal;
pub mod target;
pub mod tls;

mod accept;
mod answer;
mod connection;
mod io;
mod sweep;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use accept::serve;
pub use answer::AnswerBody;
pub use connection::ConnectionInfo;

use crate::arrival::Sampler;
use refusal::{Refusal, Violation};

/// The request body that a handler gets.
///
/// It fails with an error when the guard finds its chunked coding broken, when it carries trailers (none of the gateways'
/// APIs has any, and a trailer is a header that arrives after decisions were made), or when the client goes away. Its
/// `size_hint().exact()` is `Some(0)` exactly when the request has no body, whatever its method.
pub type RequestBody = hyper::body::Incoming;

/// Writes the body of a refusal in the shape of the API that the listener serves: content type and body.
pub type Render = Rc<dyn Fn(&Refusal) -> (http::HeaderValue, bytes::Bytes)>;

/// How a listener serves. One value a listener and worker.
pub struct Settings {
    /// The time a client has for a request head once its first byte arrived. Default 10 s.
    pub header_timeout: Duration,
    /// The time a client has for the TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a connection may be open without a request. Default 300 s: longer than the pools of the official SDKs
    /// keep one, so that the client closes first and no request meets a closing connection.
    pub idle_timeout: Duration,
    /// How long an answer may wait for the client to take a byte. Default 30 s.
    pub write_timeout: Duration,
    /// Limits on heads.
    pub head: guard::Limits,
    /// Connections of the whole process.
    pub connections: Arc<Connections>,
    /// What handlers are told as the listener, where that is another one: a TLS listener serves the routes of a plain one.
    pub serves: Option<std::net::SocketAddr>,
    /// TLS; `None` for a plaintext listener.
    pub tls: Option<Arc<tls::ServerTls>>,
    /// Which requests are timed.
    pub sampler: Sampler,
    /// Renders refusals.
    pub render: Render,
    /// Told what happens; resolves metric handles once, because it is called for each connection and refusal.
    pub observe: Rc<dyn Fn(Event)>,
}

impl Settings {
    /// The defaults, for a plaintext listener that admits `connections`.
    pub fn new(connections: Arc<Connections>) -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(30),
            head: guard::Limits::default(),
            connections,
            serves: None,
            tls: None,
            sampler: Sampler::default(),
            render: Rc::new(refusal::plain_json),
            observe: Rc::new(|_| {}),
        }
    }
}

/// What a listener reports. A closed set, for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection was admitted.
    Opened,
    /// An admitted connection ended.
    Closed,
    /// A connection was turned away: too many are open.
    Full,
    /// `accept` failed for want of a resource (descriptors, memory); accepting pauses.
    AcceptFailed,
    /// A TLS handshake failed or took too long.
    HandshakeFailed,
    /// A request was refused before any handler saw it, or its body was.
    Refused(Violation),
    /// A connection was ended because its client took too long: idle, or not taking the answer.
    TimedOut,
}

/// Counts the connections of the process against their limit.
#[derive(Debug)]
pub struct Connections {
    limit: AtomicUsize,
    open: AtomicUsize,
}

impl Connections {
    /// A count that admits `limit` connections.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limit),
            open: AtomicUsize::new(0),
        })
    }

    /// Admits another number from now on; connections that are open stay so.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(self.clone());
        (before < self.limit.load(Ordering::Relaxed)).then_some(admitted)
    }
}

/// A place among the open connections, given back when dropped.
#[derive(Debug)]
struct Admitted(Arc<Connections>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How far stopping has come. It only moves forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Serving.
    #[default]
    No,
    /// No new connections; requests in flight finish, then their connections close (HTTP/2: GOAWAY).
    Drain,
    /// Everything ends now.
    Now,
}

/// The listener's end of stopping. Clone one for each listener and worker.
#[derive(Clone, Debug)]
pub struct Shutdown(tokio::sync::watch::Receiver<Stop>);

/// The end of stopping that the owner keeps. Deadlines are the owner's: drain, wait, then [`Stop::Now`].
#[derive(Clone, Debug)]
pub struct ShutdownHandle(tokio::sync::watch::Sender<Stop>);

/// A pair for stopping listeners.
pub fn shutdown() -> (ShutdownHandle, Shutdown) {
    let (sender, receiver) = tokio::sync::watch::channel(Stop::No);
    (ShutdownHandle(sender), Shutdown(receiver))
}

impl ShutdownHandle {
    /// Another listener's end.
    pub fn listener(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }

    /// Whether a listener still waits for it.
    pub fn is_wanted(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Moves stopping forward; a step back is ignored.
    pub fn stop(&self, stop: Stop) {
        self.0.send_if_modified(|now| {
            let moved = *now < stop;
            *now = (*now).max(stop);
            moved
        });
    }
}

impl Shutdown {
    /// How far stopping has come.
    pub fn now(&self) -> Stop {
        *self.0.borrow()
    }

    /// Waits for the next step. A handle that was dropped means [`Stop::Now`].
    async fn changed(&mut self) -> Stop {
        match self.0.changed().await {
            Ok(()) => *self.0.borrow_and_update(),
            Err(_) => Stop::Now,
        }
    }
}
