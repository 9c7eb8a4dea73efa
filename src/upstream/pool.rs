//! One gateway's connections in one worker.
//!
//! An HTTP/1.1 connection belongs to one request at a time; an HTTP/2 connection is shared by as many streams as the
//! configuration and the gateway allow. What idles too long, is too old, or was closed by the gateway goes: at checkout,
//! and by the reaper's clock ([`Pool::tend`]). At most `max_connections` are open at once; whoever finds none free waits
//! for one to come back, as long as connecting may take.
//!
//! Invariant: a connection that is in use is in none of the lists (HTTP/1.1), or is counted by its streams (HTTP/2). A
//! [`Lease`] that is dropped without being given back ends its HTTP/1.1 connection at once, whatever was still to be
//! written; on HTTP/2 hyper resets the stream.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Failure;
use super::connect::{ConnectError, Opened};
use super::h1::Connection;
use super::outgoing::Outgoing;
use super::tls::Trust;
use super::transport::{Transport, Waiting, Wire};
use crate::config::model::{GatewayConfig, Protocol};
use crate::telemetry::UpstreamMetrics;

/// After this long without traffic a kept connection is looked at in the kernel, before a request is put on it. Under
/// load connections are younger than this, and the look costs nothing.
const PROBE_AFTER: Duration = Duration::from_millis(500);

/// The largest answer head over HTTP/2, in bytes: twice hyper's default, as gateways set many fields.
const MAX_HEADER_LIST: u32 = 32 * 1024;

/// What a gateway may send on one stream, and on one connection, before it is read. Answers are small; these let one
/// large report use a round trip of 100 ms at 80 Mbit/s without holding much memory for it.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A connection with streams on it that has been silent this long is asked whether it lives, and is given this long to
/// say so. Never while idle: gateways answer pings without streams by closing (agentgateway#3231).
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_WITHIN: Duration = Duration::from_secs(10);

/// One gateway's connections.
pub(super) struct Pool<B> {
    pub(super) gateway: Arc<GatewayConfig>,
    /// TLS towards it; `None` for plaintext.
    pub(super) trust: Option<Trust>,
    /// What `Host` or `:authority` says.
    pub(super) authority: HeaderValue,
    pub(super) metrics: Option<Arc<UpstreamMetrics>>,
    #[expect(
        clippy::vec_box,
        reason = "a lease takes the box along, so that the connection itself is never moved"
    )]
    idle: RefCell<Vec<Box<Conn>>>,
    shared: RefCell<Vec<Rc<Shared<B>>>>,
    places: Rc<Places>,
    /// Whether the last connection spoke HTTP/2: then several requests wait for one connection instead of making many.
    multiplexes: Cell<bool>,
    /// One at a time opens a connection that all will share.
    opening: tokio::sync::Mutex<()>,
    opened: Cell<u64>,
    active: Cell<usize>,
    /// Connections being opened to be kept warm.
    warming: Cell<usize>,
    /// How long the peer usually takes to acknowledge: when to ask the kernel first.
    pub(super) acknowledges: Cell<Duration>,
    /// What the gauges were last told.
    reported: Cell<(usize, usize)>,
    /// The gateway's settings changed: what is in use is finished and not kept.
    closed: Cell<bool>,
}

/// The connections that may be open at once.
#[derive(Debug)]
struct Places {
    limit: usize,
    taken: Cell<usize>,
    /// Somebody may find something now.
    freed: Notify,
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Place(Rc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
        self.0.freed.notify_one();
    }
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Conn {
    http: Connection,
    /// When it is retired: maximum age with jitter, so that a fleet's connections do not all end at once.
    retire: Instant,
    /// Since when it has idled; for one that was never used, since when it has been open.
    pub(super) since: Instant,
    /// Whether it has carried a request.
    pub(super) used: bool,
    _place: Place,
}

impl Conn {
    /// Whether it lives, as far as the runtime was told: the kernel is asked only where something was.
    fn lives(&self) -> bool {
        let wire = self.http.wire();
        !wire.stirred() || wire.probe()
    }
}

/// An HTTP/2 connection.
pub(super) struct Shared<B> {
    sender: http2::SendRequest<Outgoing<B>>,
    pub(super) wire: Rc<Wire>,
    retire: Instant,
    /// When a stream last began or ended; at first, when it was opened.
    pub(super) since: Cell<Instant>,
    streams: Cell<usize>,
    /// Whether it has carried a request.
    pub(super) used: Cell<bool>,
    _place: Place,
}

/// What a request goes out on.
pub(super) enum Channel<B> {
    /// Boxed: a lease is moved about with the request and the answer.
    Own(Box<Conn>),
    Stream(Rc<Shared<B>>),
}

/// A channel in use. Dropped without [`Lease::give_back`], an HTTP/1.1 connection is closed.
pub(super) struct Lease<B> {
    pool: Rc<Pool<B>>,
    channel: Option<Channel<B>>,
    /// Whether the connection had carried a request before.
    pub(super) reused: bool,
    /// How long it had idled, or had been open.
    pub(super) rested: Duration,
}

impl<B> std::fmt::Debug for Lease<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("gateway", &self.pool.gateway.name)
            .finish_non_exhaustive()
    }
}

impl<B> std::fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("gateway", &self.gateway.name)
            .field("idle", &self.idle.borrow().len())
            .field("shared", &self.shared.borrow().len())
            .field("active", &self.active.get())
            .finish_non_exhaustive()
    }
}

/// A connection that is being opened to be kept warm.
pub(super) struct Warming<B>(Rc<Pool<B>>);

impl<B> Drop for Warming<B> {
    fn drop(&mut self) {
        self.0.warming.set(self.0.warming.get() - 1);
    }
}

impl<B> Lease<B> {
    /// Whose connection it is.
    pub(super) fn pool(&self) -> &Rc<Pool<B>> {
        &self.pool
    }

    pub(super) fn wire(&self) -> Option<&Rc<Wire>> {
        match self.channel.as_ref()? {
            Channel::Own(conn) => Some(conn.http.wire()),
            Channel::Stream(shared) => Some(&shared.wire),
        }
    }

    pub(super) fn http2(&self) -> bool {
        matches!(self.channel, Some(Channel::Stream(_)))
    }

    /// The connection, where it is this request's alone.
    pub(super) fn http1(&mut self) -> Option<&mut Connection> {
        match self.channel.as_mut()? {
            Channel::Own(conn) => Some(&mut conn.http),
            Channel::Stream(_) => None,
        }
    }

    /// Nobody else is to get on this HTTP/2 connection; who is on it stays.
    pub(super) fn shun(&self) {
        if let Some(Channel::Stream(mine)) = &self.channel {
            self.pool.shared.borrow_mut().retain(|shared| !Rc::ptr_eq(shared, mine));
        }
    }

    /// The channel goes back: the exchange on it is complete.
    pub(super) fn give_back(self) {
        self.give_back_at(Instant::now());
    }

    /// The same, where the clock was read a moment ago.
    pub(super) fn give_back_at(mut self, now: Instant) {
        let Some(channel) = self.channel.take() else { return };
        self.pool.ended();
        match channel {
            Channel::Own(conn) => self.pool.keep(conn, now),
            Channel::Stream(shared) => self.pool.leave(&shared, now),
        }
        self.pool.report();
    }
}

impl<B> Drop for Lease<B> {
    fn drop(&mut self) {
        let Some(channel) = self.channel.take() else { return };
        self.pool.ended();
        match channel {
            Channel::Own(conn) => drop(conn),
            Channel::Stream(shared) => self.pool.leave(&shared, Instant::now()),
        }
        self.pool.report();
    }
}

impl<B> Lease<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// Sends one request over HTTP/2: the answer's head, or why there is none. Given to hyper at once, and not when first
    /// polled: a request is large, and would be moved once more.
    pub(super) fn send(
        &mut self,
        request: Request<Outgoing<B>>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing<B>>>>> + use<B> {
        let sent = match &self.channel {
            Some(Channel::Stream(shared)) => Some(shared.sender.clone().try_send_request(request)),
            // Callers ask first which of the two it is.
            Some(Channel::Own(_)) | None => None,
        };
        async move {
            match sent {
                Some(sent) => sent.await,
                None => std::future::pending().await,
            }
        }
    }
}

impl<B> Pool<B> {
    /// A gateway's pool, without connections yet.
    pub(super) fn new(
        gateway: &Arc<GatewayConfig>,
        trust: Option<Trust>,
        authority: HeaderValue,
        metrics: Option<Arc<UpstreamMetrics>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            gateway: Arc::clone(gateway),
            trust,
            authority,
            metrics,
            idle: RefCell::default(),
            shared: RefCell::default(),
            places: Rc::new(Places {
                limit: gateway.pool.max_connections,
                taken: Cell::new(0),
                freed: Notify::new(),
            }),
            multiplexes: Cell::new(gateway.endpoint.protocol == Protocol::H2),
            opening: tokio::sync::Mutex::new(()),
            opened: Cell::new(0),
            active: Cell::new(0),
            warming: Cell::new(0),
            acknowledges: Cell::new(Duration::ZERO),
            reported: Cell::new((0, 0)),
            closed: Cell::new(false),
        })
    }

    /// Connections: idle, requests on them, opened since start.
    pub(super) fn counts(&self) -> (usize, usize, u64) {
        let unused = self
            .shared
            .borrow()
            .iter()
            .filter(|shared| shared.streams.get() == 0)
            .count();
        (self.idle.borrow().len() + unused, self.active.get(), self.opened.get())
    }

    /// Closes what idles, and keeps nothing from now on.
    pub(super) fn close(&self) {
        self.closed.set(true);
        let (idle, shared) = (self.idle.take(), self.shared.take());
        self.report();
        for conn in &idle {
            conn.http.wire().close();
        }
        drop((idle, shared));
    }

    /// Closes what idled too long, grew too old, or was closed by the gateway. Gives back how many connections are
    /// missing from what is to be kept warm.
    pub(super) fn tend(&self, now: Instant) -> usize {
        let limit = self.gateway.pool.idle;
        self.idle.borrow_mut().retain(|conn| {
            let stays = now < conn.retire && now.duration_since(conn.since) < limit && conn.lives();
            if !stays {
                conn.http.wire().close();
            }
            stays
        });
        self.shared.borrow_mut().retain(|shared| {
            let idle = shared.streams.get() == 0 && now.duration_since(shared.since.get()) >= limit;
            !shared.sender.is_closed() && now < shared.retire && !idle
        });
        self.report();
        self.missing().saturating_sub(self.warming.get())
    }

    /// Whether what is to be kept warm is not there: one connection that all share, or so many that nobody uses.
    pub(super) fn wants_more(&self) -> bool {
        self.missing() > 0
    }

    fn missing(&self) -> usize {
        if self.closed.get() {
            return 0;
        }
        let (wanted, there) = match self.multiplexes.get() {
            true => (self.gateway.pool.prewarm.min(1), self.shared.borrow().len()),
            false => (self.gateway.pool.prewarm, self.idle.borrow().len()),
        };
        wanted.saturating_sub(there)
    }

    /// Somebody opens a connection to be kept warm, until this is dropped.
    pub(super) fn warming(self: &Rc<Self>) -> Warming<B> {
        self.warming.set(self.warming.get() + 1);
        Warming(Rc::clone(self))
    }

    fn report(&self) {
        if let Some(metrics) = &self.metrics {
            let (idle, busy, _) = self.counts();
            let before = self.reported.replace((idle, busy));
            metrics.pool(before, (idle, busy));
        }
    }

    fn began(&self) {
        self.active.set(self.active.get() + 1);
        self.report();
    }

    fn ended(&self) {
        self.active.set(self.active.get() - 1);
    }

    /// Keeps a connection whose exchange is over, or that nobody needs yet.
    fn keep(&self, mut conn: Box<Conn>, now: Instant) {
        conn.since = now;
        let mut idle = self.idle.borrow_mut();
        let full = idle.len() >= self.gateway.pool.max_idle;
        if full || self.closed.get() || now >= conn.retire || !conn.http.is_clean() {
            conn.http.wire().close();
            return;
        }
        conn.http.shrink();
        idle.push(conn);
        self.places.freed.notify_one();
    }

    fn leave(&self, shared: &Rc<Shared<B>>, now: Instant) {
        shared.streams.set(shared.streams.get() - 1);
        shared.since.set(now);
        self.places.freed.notify_one();
    }

    fn lease(self: &Rc<Self>, mut conn: Box<Conn>, now: Instant) -> Lease<B> {
        let (reused, rested) = (conn.used, now.saturating_duration_since(conn.since));
        conn.used = true;
        self.began();
        Lease {
            pool: Rc::clone(self),
            channel: Some(Channel::Own(conn)),
            reused,
            rested,
        }
    }

    fn stream(self: &Rc<Self>, shared: Rc<Shared<B>>, now: Instant) -> Lease<B> {
        let rested = now.saturating_duration_since(shared.since.replace(now));
        let reused = shared.used.replace(true);
        shared.streams.set(shared.streams.get() + 1);
        self.began();
        Lease {
            pool: Rc::clone(self),
            channel: Some(Channel::Stream(shared)),
            reused,
            rested,
        }
    }

    /// A place for one more connection, when there is one.
    pub(super) fn place(&self) -> Option<Place> {
        let places = &self.places;
        (places.taken.get() < places.limit).then(|| {
            places.taken.set(places.taken.get() + 1);
            Place(Rc::clone(places))
        })
    }

    /// Waits until there may be something free.
    pub(super) async fn freed(&self) {
        self.places.freed.notified().await;
    }

    /// Whether whoever finds no connection should wait for the one that is being opened.
    pub(super) fn multiplexes(&self) -> bool {
        self.multiplexes.get()
    }

    /// The right to open the connection that all will share.
    pub(super) async fn opening(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.opening.lock().await
    }
}

impl<B> Pool<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// An HTTP/2 connection with room for a stream.
    pub(super) async fn shared(self: &Rc<Self>, now: Instant) -> Option<Lease<B>> {
        loop {
            let found = {
                let shared = self.shared.borrow();
                let room = |shared: &&Rc<Shared<B>>| {
                    shared.streams.get() < self.gateway.pool.max_streams
                        && now < shared.retire
                        && !shared.sender.is_closed()
                };
                shared.iter().find(room).map(Rc::clone)?
            };
            let rested = now.saturating_duration_since(found.since.get());
            if rested < PROBE_AFTER || found.streams.get() > 0 || alive(&found).await {
                return Some(self.stream(found, now));
            }
            self.shared.borrow_mut().retain(|shared| !Rc::ptr_eq(shared, &found));
        }
    }

    /// The idle HTTP/1.1 connection that was used last: the others may then grow old and go.
    pub(super) fn last_used(self: &Rc<Self>, now: Instant) -> Option<Lease<B>> {
        loop {
            let conn = self.idle.borrow_mut().pop()?;
            let rested = now.saturating_duration_since(conn.since);
            let fresh = rested < self.gateway.pool.idle && now < conn.retire;
            if fresh && (rested < PROBE_AFTER || conn.http.wire().probe()) && conn.lives() {
                return Some(self.lease(conn, now));
            }
            conn.http.wire().close();
        }
    }

    /// An idle HTTP/1.1 connection that fits a payment: one that was never used if there is one, else the one that
    /// idled least. The kernel was asked whether it lives.
    pub(super) fn fitting(self: &Rc<Self>, now: Instant, fits: impl Fn(bool, Duration) -> bool) -> Option<Lease<B>> {
        loop {
            let conn = {
                let mut idle = self.idle.borrow_mut();
                let fits = |conn: &Conn| fits(conn.used, now.saturating_duration_since(conn.since));
                let candidates = idle.iter().enumerate().filter(|(_, conn)| fits(conn));
                let (best, _) = candidates.max_by_key(|(_, conn)| (!conn.used, conn.since))?;
                idle.remove(best)
            };
            if now < conn.retire && conn.http.wire().probe() {
                return Some(self.lease(conn, now));
            }
            conn.http.wire().close();
        }
    }

    /// Takes a new connection into the pool, and leases it.
    pub(super) async fn adopt(self: &Rc<Self>, opened: Opened, place: Place) -> Result<Lease<B>, ConnectError> {
        match self.introduce(opened, place).await? {
            Channel::Own(conn) => Ok(self.lease(conn, Instant::now())),
            Channel::Stream(shared) => {
                if !self.closed.get() {
                    self.shared.borrow_mut().push(Rc::clone(&shared));
                }
                Ok(self.stream(shared, Instant::now()))
            }
        }
    }

    /// Takes a new connection into the pool, to wait there.
    pub(super) async fn stock(&self, opened: Opened, place: Place) -> Result<(), ConnectError> {
        match self.introduce(opened, place).await? {
            Channel::Own(conn) => self.keep(conn, Instant::now()),
            Channel::Stream(shared) if !self.closed.get() => self.shared.borrow_mut().push(shared),
            Channel::Stream(_) => {}
        }
        self.report();
        Ok(())
    }

    async fn introduce(&self, opened: Opened, place: Place) -> Result<Channel<B>, ConnectError> {
        let wire = Wire::new(opened.stream);
        let now = Instant::now();
        let age = self
            .gateway
            .pool
            .max_age
            .mul_f64(0.8 + 0.4 * crate::resilience::jitter());
        let retire = now + age;
        self.multiplexes.set(opened.http2);
        self.opened.set(self.opened.get() + 1);
        if opened.http2 {
            let (sender, connection) = http2::Builder::new(OnWorker)
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(MAX_HEADER_LIST)
                .keep_alive_interval(PING_AFTER)
                .keep_alive_timeout(PING_WITHIN)
                .keep_alive_while_idle(false)
                .handshake(TokioIo::new(Transport(Rc::clone(&wire))))
                .await
                .map_err(|error| ConnectError::new(Failure::Connect, error))?;
            tokio::task::spawn_local(drive(connection));
            return Ok(Channel::Stream(Rc::new(Shared {
                sender,
                wire,
                retire,
                since: Cell::new(now),
                streams: Cell::new(0),
                used: Cell::new(false),
                _place: place,
            })));
        }
        Ok(Channel::Own(Box::new(Conn {
            http: Connection::new(wire),
            retire,
            since: now,
            used: false,
            _place: place,
        })))
    }
}

/// Whether an HTTP/2 connection without streams still lives. What lies unread is hyper's to read: a ping, settings, or
/// the gateway's farewell.
async fn alive<B>(shared: &Shared<B>) -> bool {
    for _ in 0..8 {
        match shared.wire.waiting() {
            Waiting::Nothing => return !shared.sender.is_closed(),
            Waiting::End => return false,
            Waiting::Bytes => tokio::task::yield_now().await,
        }
    }
    false
}

async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    // Whoever waits for the answer gets the error; a connection that ends idle concerns nobody.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection to a gateway ended");
    }
}

/// Runs hyper's tasks where the connection lives.
#[derive(Clone, Copy, Debug)]
struct OnWorker;

impl<F> hyper::rt::Executor<F> for OnWorker
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            let _ = future.await;
        });
    }
}
