//! One worker's client: its pools, and the one exchange that everything forwarded goes through.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::acknowledged::Kernel;
use super::body::Body;
use super::connect::{ConnectError, Names, lookup, tls_config};
use super::outgoing::{BodyProgress, Outgoing, Tracked};
use super::transport::{Stream, Transport, Wire};
use super::{Error, Evidence, Failure, Progress, Side};
use crate::config::model::{Endpoint, GatewayConfig};
use crate::resilience::Deadline;

/// After this long without traffic a kept connection gets a chance to notice that the gateway closed it, before a
/// request is put on it. Under load connections are younger than this, and the look costs nothing.
const PROBE_AFTER: Duration = Duration::from_millis(500);

/// The largest answer head, in bytes.
const MAX_HEAD: usize = 128 * 1024;

/// How long each part of one exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the end of the request to the head of the answer; zero for none.
    pub response_header: Duration,
    /// Between two pieces of a body, either way; zero for none.
    pub body_idle: Duration,
    /// The end of the whole request.
    pub total: Deadline,
}

/// A failed exchange. The request comes back when it never left this process.
#[derive(Debug)]
pub struct Failed<B> {
    /// What failed, and what is known.
    pub error: Error,
    /// The untouched request.
    pub request: Option<Box<Request<B>>>,
}

/// One worker's connections to gateways. Cheap to clone; never leaves its thread.
pub struct Client<B> {
    inner: Rc<Inner<B>>,
}

struct Inner<B> {
    pools: RefCell<HashMap<String, Pool<B>>>,
    names: RefCell<Names>,
    /// The way to ask the kernel about connections; `None` where it is closed to us.
    kernel: Option<Kernel>,
}

type Sender<B> = SendRequest<Outgoing<B>>;

struct Pool<B> {
    gateway: Arc<GatewayConfig>,
    tls: Option<Arc<rustls::ClientConfig>>,
    authority: HeaderValue,
    idle: Vec<Conn<B>>,
    opened: u64,
    active: usize,
}

impl<B> std::fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("idle", &self.idle.len())
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

pub(super) struct Conn<B> {
    pub(super) sender: Sender<B>,
    pub(super) wire: Rc<Wire>,
    /// hyper's task. It ends with the connection's last holder, whatever it still had to write.
    task: AbortHandle,
    /// When it is retired: maximum age with jitter, so that a fleet's connections do not all end at once.
    retire: Instant,
    /// Since when it has idled; for one that was never used, since when it has been open.
    pub(super) since: Instant,
    /// Whether it has carried a request.
    pub(super) used: bool,
}

/// A connection in use. Dropped without [`Lease::give_back`], it is closed.
pub(super) struct Lease<B> {
    inner: Rc<Inner<B>>,
    name: String,
    pub(super) conn: Option<Conn<B>>,
}

impl<B> std::fmt::Debug for Lease<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("gateway", &self.name)
            .finish_non_exhaustive()
    }
}

impl<B> Lease<B> {
    pub(super) fn give_back(mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        conn.since = Instant::now();
        conn.used = true;
        let mut pools = self.inner.pools.borrow_mut();
        let Some(pool) = pools.get_mut(&self.name) else { return };
        pool.active = pool.active.saturating_sub(1);
        if conn.sender.is_closed() || conn.since >= conn.retire {
            return;
        }
        // The reaper: whatever idled too long goes when something comes back. The oldest stand at the front.
        let limit = pool.gateway.pool.idle;
        let now = conn.since;
        pool.idle
            .retain(|idle| now.duration_since(idle.since) < limit && !idle.sender.is_closed());
        if pool.idle.len() < pool.gateway.pool.max_idle {
            pool.idle.push(conn);
        }
    }
}

impl<B> Drop for Lease<B> {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        conn.task.abort();
        if let Ok(mut pools) = self.inner.pools.try_borrow_mut()
            && let Some(pool) = pools.get_mut(&self.name)
        {
            pool.active = pool.active.saturating_sub(1);
        }
    }
}

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self {
            inner: Rc::clone(&self.inner),
        }
    }
}

impl<B> Default for Client<B> {
    fn default() -> Self {
        let inner = Inner {
            pools: RefCell::default(),
            names: RefCell::default(),
            kernel: Kernel::open()
                .inspect_err(|error| {
                    tracing::warn!(%error, "the kernel does not tell what was acknowledged: every payment gets a new connection");
                })
                .ok(),
        };
        Self { inner: Rc::new(inner) }
    }
}

impl<B> std::fmt::Debug for Client<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("pools", &self.inner.pools)
            .finish_non_exhaustive()
    }
}

impl<B> Client<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// A client without connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connections of one gateway: idle, in use, opened since start.
    pub fn connections(&self, gateway: &str) -> (usize, usize, u64) {
        self.inner
            .pools
            .borrow()
            .get(gateway)
            .map_or((0, 0, 0), |pool| (pool.idle.len(), pool.active, pool.opened))
    }

    /// Sends one request and gives back the answer with its body still streaming.
    ///
    /// The request's target is path and query; `Host` and the endpoint's base path are put in here. Hop-by-hop fields
    /// were taken off by the caller.
    ///
    /// # Errors
    /// [`Failed`], with evidence. Nothing was retried.
    pub async fn forward(
        &self,
        gateway: &Arc<GatewayConfig>,
        request: Request<B>,
        deadlines: &Deadlines,
    ) -> Result<(Response<Body<B>>, Evidence), Failed<B>> {
        let started = Instant::now();
        let (mut lease, authority) = match self.checkout(gateway, deadlines, started).await {
            Ok(checked_out) => checked_out,
            Err(error) => {
                let evidence = nothing_sent(started, error.note);
                let error = Error {
                    failure: error.failure,
                    side: Side::Upstream,
                    evidence,
                };
                return Err(Failed {
                    error,
                    request: Some(Box::new(request)),
                });
            }
        };
        let Some(conn) = lease.conn.as_mut() else {
            let error = Error {
                failure: Failure::Internal,
                side: Side::Local,
                evidence: nothing_sent(started, String::new()),
            };
            return Err(Failed {
                error,
                request: Some(Box::new(request)),
            });
        };
        let (wire, reused) = (Rc::clone(&conn.wire), conn.used);
        let (written, read) = (wire.written.get(), wire.read.get());
        let progress = Rc::new(BodyProgress::default());
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.clone();
        prepare(&gateway.endpoint, &mut parts, authority);
        // Without this hyper takes a GET of unknown length for one without a body, and drops it.
        let unframed = body.size_hint().exact().is_none() && !parts.headers.contains_key(header::CONTENT_LENGTH);
        if unframed && !body.is_end_stream() {
            parts
                .headers
                .insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let tracked = Outgoing::Streaming(Tracked::new(body, Rc::clone(&progress), deadlines.body_idle));
        let evidence = |status: Option<u16>, note: String| Evidence {
            progress: match wire.written.get() - written {
                0 => Progress::Nothing,
                _ if progress.ended.get() => Progress::Committed,
                _ => Progress::Partial,
            },
            bytes_sent: wire.written.get() - written,
            bytes_received: wire.read.get() - read,
            reused,
            http2: false,
            refused_by_peer: false,
            status,
            note,
            took: started.elapsed(),
        };
        let exchange = conn.sender.try_send_request(Request::from_parts(parts, tracked));
        let wait = deadlines.total.within(Instant::now(), deadlines.response_header);
        let result = match wait {
            Some(wait) => tokio::time::timeout(wait, exchange).await,
            None => Ok(exchange.await),
        };
        match result {
            Ok(Ok(response)) => {
                let evidence = evidence(Some(response.status().as_u16()), String::new());
                let response = response.map(|incoming| Body::new(incoming, lease, deadlines.body_idle));
                Ok((response, evidence))
            }
            Ok(Err(mut refused)) => {
                // hyper hands the request back exactly when it never began to write it. The counter has the last word.
                let request = refused
                    .take_message()
                    .filter(|_| wire.written.get() == written)
                    .and_then(|request| {
                        let (mut parts, body) = request.into_parts();
                        parts.uri = target;
                        Some(Box::new(Request::from_parts(parts, body.into_streaming()?)))
                    });
                let error = refused.error();
                let (failure, side) = match progress.broken.get() {
                    true => (Failure::RequestBody, Side::Downstream),
                    false => (Failure::Connection, Side::Upstream),
                };
                Err(Failed {
                    error: Error {
                        failure,
                        side,
                        evidence: evidence(None, error.to_string()),
                    },
                    request,
                })
            }
            Err(_) => {
                let over = deadlines.total.expired(Instant::now());
                let failure = if over {
                    Failure::Deadline
                } else {
                    Failure::HeaderTimeout
                };
                let evidence = evidence(None, "no answer in time".to_owned());
                Err(Failed {
                    error: Error {
                        failure,
                        side: Side::Upstream,
                        evidence,
                    },
                    request: None,
                })
            }
        }
    }

    /// A kept connection that still lives, or a new one.
    async fn checkout(
        &self,
        gateway: &Arc<GatewayConfig>,
        deadlines: &Deadlines,
        now: Instant,
    ) -> Result<(Lease<B>, HeaderValue), ConnectError> {
        let (tls, authority) = self.pool(gateway)?;
        while let Some(mut conn) = self.pop(&gateway.name) {
            if now.duration_since(conn.since) >= PROBE_AFTER {
                // Lets the reactor deliver an end of stream that already lies in the kernel.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            if now < conn.retire
                && now.duration_since(conn.since) < gateway.pool.idle
                && conn.sender.ready().await.is_ok()
            {
                return Ok((self.lease(&gateway.name, conn), authority));
            }
        }
        let conn = self.open(gateway, tls, &deadlines.total, now).await?;
        Ok((self.lease(&gateway.name, conn), authority))
    }

    /// A new connection, within its own limit and the request's.
    pub(super) async fn open(
        &self,
        gateway: &GatewayConfig,
        tls: Option<Arc<rustls::ClientConfig>>,
        total: &Deadline,
        now: Instant,
    ) -> Result<Conn<B>, ConnectError> {
        let limit = total
            .within(now, gateway.pool.connect_timeout)
            .unwrap_or(gateway.pool.connect_timeout);
        match tokio::time::timeout(limit, self.connect(gateway, tls)).await {
            Ok(conn) => conn,
            Err(_) => Err(ConnectError {
                failure: Failure::Connect,
                note: format!("no connection within {limit:?}"),
            }),
        }
    }

    pub(super) fn lease(&self, name: &str, conn: Conn<B>) -> Lease<B> {
        if let Some(pool) = self.inner.pools.borrow_mut().get_mut(name) {
            pool.active += 1;
        }
        Lease {
            inner: Rc::clone(&self.inner),
            name: name.to_owned(),
            conn: Some(conn),
        }
    }

    /// The pool of a gateway. A gateway whose settings changed starts afresh; one that did not keeps its connections
    /// over a reload.
    pub(super) fn pool(
        &self,
        gateway: &Arc<GatewayConfig>,
    ) -> Result<(Option<Arc<rustls::ClientConfig>>, HeaderValue), ConnectError> {
        let mut pools = self.inner.pools.borrow_mut();
        if let Some(pool) = pools.get(&gateway.name)
            && (Arc::ptr_eq(&pool.gateway, gateway) || pool.gateway == *gateway)
        {
            return Ok((pool.tls.clone(), pool.authority.clone()));
        }
        let tls = tls_config(&gateway.endpoint)?;
        let authority = authority(&gateway.endpoint)?;
        let pool = Pool {
            gateway: Arc::clone(gateway),
            tls: tls.clone(),
            authority: authority.clone(),
            idle: Vec::new(),
            opened: 0,
            active: 0,
        };
        pools.insert(gateway.name.clone(), pool);
        Ok((tls, authority))
    }

    /// Takes an idle connection that fits and lives: one that was never used if there is one, else the one that idled
    /// least.
    pub(super) fn take(&self, name: &str, now: Instant, fits: impl Fn(&Conn<B>) -> bool) -> Option<Conn<B>> {
        let mut pools = self.inner.pools.borrow_mut();
        let idle = &mut pools.get_mut(name)?.idle;
        loop {
            let candidates = idle.iter().enumerate().filter(|(_, conn)| fits(conn));
            let (best, _) = candidates.max_by_key(|(_, conn)| (!conn.used, conn.since))?;
            let conn = idle.remove(best);
            if now < conn.retire && !conn.sender.is_closed() && conn.wire.probe() {
                return Some(conn);
            }
        }
    }

    /// The way to ask the kernel, where it is open.
    pub(super) fn kernel(&self) -> Option<&Kernel> {
        self.inner.kernel.as_ref()
    }

    fn pop(&self, name: &str) -> Option<Conn<B>> {
        self.inner.pools.borrow_mut().get_mut(name)?.idle.pop()
    }

    async fn connect(
        &self,
        gateway: &GatewayConfig,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<Conn<B>, ConnectError> {
        let endpoint = &gateway.endpoint;
        let mut last = None;
        for address in self.addresses(endpoint).await? {
            match super::connect::open(endpoint, tls.as_ref(), address).await {
                Ok(stream) => return self.handshake(gateway, stream).await,
                Err(error) => {
                    self.inner
                        .names
                        .borrow_mut()
                        .demote(&endpoint.host, endpoint.port, address);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or(ConnectError {
            failure: Failure::Dns,
            note: format!("{} has no address", endpoint.host),
        }))
    }

    async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<std::net::SocketAddr>, ConnectError> {
        if !endpoint.addresses.is_empty() {
            return Ok(endpoint.addresses.clone());
        }
        let now = Instant::now();
        if let Some(known) = self.inner.names.borrow().fresh(&endpoint.host, endpoint.port, now) {
            return Ok(known);
        }
        match lookup(endpoint).await {
            Ok(found) => {
                self.inner
                    .names
                    .borrow_mut()
                    .learn(&endpoint.host, endpoint.port, found.clone(), now);
                Ok(found)
            }
            Err(error) => self
                .inner
                .names
                .borrow()
                .stale(&endpoint.host, endpoint.port)
                .ok_or(error),
        }
    }

    async fn handshake(&self, gateway: &GatewayConfig, stream: Stream) -> Result<Conn<B>, ConnectError> {
        let wire = Wire::new(stream);
        let (sender, task) = drive(Rc::clone(&wire)).await.map_err(|error| ConnectError {
            failure: Failure::Connect,
            note: error.to_string(),
        })?;
        if let Some(pool) = self.inner.pools.borrow_mut().get_mut(&gateway.name) {
            pool.opened += 1;
        }
        let now = Instant::now();
        let age = gateway.pool.max_age.mul_f64(0.8 + 0.4 * crate::resilience::jitter());
        Ok(Conn {
            sender,
            wire,
            task,
            retire: now + age,
            since: now,
            used: false,
        })
    }
}

async fn drive<B>(wire: Rc<Wire>) -> Result<(Sender<B>, AbortHandle), hyper::Error>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(Transport(wire)))
        .await?;
    let task = tokio::task::spawn_local(async move {
        // Whoever waits for the answer gets the error; a connection that ends idle concerns nobody.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a gateway ended");
        }
    });
    Ok((sender, task.abort_handle()))
}

fn nothing_sent(started: Instant, note: String) -> Evidence {
    Evidence {
        progress: Progress::Nothing,
        bytes_sent: 0,
        bytes_received: 0,
        reused: false,
        http2: false,
        refused_by_peer: false,
        status: None,
        note,
        took: started.elapsed(),
    }
}

/// What `Host` says: the configured host, with the port where it is not the scheme's own (RFC 9110 7.2).
fn authority(endpoint: &Endpoint) -> Result<HeaderValue, ConnectError> {
    let usual = if endpoint.tls { 443 } else { 80 };
    let host = if endpoint.host.contains(':') {
        format!("[{}]", endpoint.host)
    } else {
        endpoint.host.clone()
    };
    let text = if endpoint.port == usual {
        host
    } else {
        format!("{host}:{}", endpoint.port)
    };
    HeaderValue::from_str(&text).map_err(|error| ConnectError {
        failure: Failure::Dns,
        note: error.to_string(),
    })
}

/// The target with the endpoint's base path before it; `None` when there is nothing to change.
fn with_base(endpoint: &Endpoint, uri: &Uri) -> Option<Uri> {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if endpoint.base_path.is_empty() && uri.authority().is_none() {
        return None;
    }
    let target = format!("{}{target}", endpoint.base_path);
    PathAndQuery::try_from(target).ok().map(Uri::from)
}

/// Puts the endpoint's own into a request: version, base path, `Host`.
pub(super) fn prepare(endpoint: &Endpoint, parts: &mut http::request::Parts, authority: HeaderValue) {
    if let Some(with_base) = with_base(endpoint, &parts.uri) {
        parts.uri = with_base;
    }
    parts.version = http::Version::HTTP_11;
    parts.headers.insert(header::HOST, authority);
}
