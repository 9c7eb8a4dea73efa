//! One worker's client: its pools, and how a request comes by a connection.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error as _;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri, header};
use tokio::time::Instant;

use super::Failure;
use super::acknowledged::Kernel;
use super::alarm::Alarms;
use super::connect::{ConnectError, connect};
use super::names::{Names, Resolve, System};
use super::nap::Naps;
use super::pool::{Lease, Place, Pool};
use super::tls::Trust;
use crate::config::model::{Endpoint, GatewayConfig};
use crate::resilience::Deadline;
use crate::telemetry::Metrics;

/// How often the reaper looks, at most and at least; in between, four times in the shortest idle limit of a gateway.
const REAP: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// One worker's connections to gateways. Cheap to clone; never leaves its thread.
pub struct Client<B> {
    inner: Rc<Inner<B>>,
}

struct Inner<B> {
    pools: RefCell<HashMap<String, Rc<Pool<B>>>>,
    names: Rc<Names>,
    alarms: Alarms,
    /// The way to ask the kernel about connections; `None` where it is closed to us.
    kernel: Option<Kernel>,
    naps: Naps,
    metrics: Option<Arc<Metrics>>,
    reaping: Cell<bool>,
}

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self {
            inner: Rc::clone(&self.inner),
        }
    }
}

impl<B> std::fmt::Debug for Client<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("pools", &self.inner.pools)
            .finish_non_exhaustive()
    }
}

impl<B> Default for Client<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<B> Client<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// A client without connections, which counts nothing and asks the system's resolver.
    pub fn new() -> Self {
        Self::build(None, Box::new(System))
    }

    /// A client whose connections are counted.
    pub fn observed(metrics: &Arc<Metrics>) -> Self {
        Self::build(Some(Arc::clone(metrics)), Box::new(System))
    }

    /// A client that counts if asked to, and asks this resolver.
    pub fn build(metrics: Option<Arc<Metrics>>, resolver: Box<dyn Resolve>) -> Self {
        let kernel = Kernel::open().inspect_err(|error| {
            tracing::warn!(%error, "the kernel does not tell what was acknowledged: every payment gets a new connection");
        });
        let inner = Inner {
            pools: RefCell::default(),
            names: Names::new(resolver),
            alarms: Alarms::default(),
            kernel: kernel.ok(),
            naps: Naps::default(),
            metrics,
            reaping: Cell::new(false),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Connections of one gateway: idle, requests on them, opened since start.
    pub fn connections(&self, gateway: &str) -> (usize, usize, u64) {
        let pools = self.inner.pools.borrow();
        pools.get(gateway).map_or((0, 0, 0), |pool| pool.counts())
    }

    /// Closes the idle connections of gateways that are not known any more; those in use end with their requests.
    pub fn retain(&self, known: impl Fn(&str) -> bool) {
        let gone = self
            .inner
            .pools
            .borrow_mut()
            .extract_if(|gateway, _| !known(gateway))
            .collect::<Vec<_>>();
        for (_, pool) in gone {
            pool.close();
        }
    }

    /// Opens the connections that a gateway's configuration wants to be there before the first request. Fails silently:
    /// the reaper tries again, and a request opens its own.
    pub fn prewarm(&self, gateway: &Arc<GatewayConfig>) {
        if gateway.pool.prewarm > 0
            && let Ok(pool) = self.pool(gateway)
        {
            self.inner.restock(&pool, Instant::now());
        }
    }

    /// A kept connection that still lives, or a new one.
    pub(super) async fn checkout(
        &self,
        gateway: &Arc<GatewayConfig>,
        total: &Deadline,
        now: Instant,
    ) -> Result<Lease<B>, ConnectError> {
        let pool = self.pool(gateway)?;
        if let Some(lease) = pool.last_used(now) {
            return Ok(lease);
        }
        // Boxed: what may be waited for is large, and rare; every request would carry room for it.
        Box::pin(self.wait_for(&pool, total, now)).await
    }

    async fn wait_for(&self, pool: &Rc<Pool<B>>, total: &Deadline, now: Instant) -> Result<Lease<B>, ConnectError> {
        loop {
            if let Some(lease) = pool.last_used(now) {
                return Ok(lease);
            }
            if let Some(lease) = pool.shared(now).await {
                return Ok(lease);
            }
            if let Some(place) = self.vacancy(pool, total, now).await? {
                return self.open(pool, place, total, now).await;
            }
        }
    }

    /// A place for a new connection; `None` when there may be something better by now.
    pub(super) async fn vacancy(
        &self,
        pool: &Rc<Pool<B>>,
        total: &Deadline,
        now: Instant,
    ) -> Result<Option<Place>, ConnectError> {
        if let Some(place) = pool.place() {
            return Ok(Some(place));
        }
        let limit = patience(pool, total, now);
        match tokio::time::timeout(limit, pool.freed()).await {
            Ok(()) => Ok(None),
            Err(_) => Err(ConnectError::new(
                Failure::Pool,
                format!(
                    "all {} connections were in use for {limit:?}",
                    pool.gateway.pool.max_connections
                ),
            )),
        }
    }

    /// A new connection, within its own limit and the request's. Where connections are shared, one at a time opens one.
    pub(super) async fn open(
        &self,
        pool: &Rc<Pool<B>>,
        place: Place,
        total: &Deadline,
        now: Instant,
    ) -> Result<Lease<B>, ConnectError> {
        if !pool.multiplexes() {
            return self.open_alone(pool, place, total, now).await;
        }
        let _turn = pool.opening().await;
        match pool.shared(Instant::now()).await {
            Some(lease) => Ok(lease),
            None => self.open_alone(pool, place, total, now).await,
        }
    }

    /// A new connection, whatever others do.
    pub(super) async fn open_alone(
        &self,
        pool: &Rc<Pool<B>>,
        place: Place,
        total: &Deadline,
        now: Instant,
    ) -> Result<Lease<B>, ConnectError> {
        let (names, trust, metrics) = (&self.inner.names, pool.trust.as_ref(), pool.metrics.as_ref());
        let opened = connect(names, &pool.gateway, trust, metrics, patience(pool, total, now)).await?;
        pool.adopt(opened, place).await
    }

    /// The pool of a gateway. A gateway whose connections changed starts afresh; one whose did not keeps them over a
    /// reload.
    pub(super) fn pool(&self, gateway: &Arc<GatewayConfig>) -> Result<Rc<Pool<B>>, ConnectError> {
        let mut pools = self.inner.pools.borrow_mut();
        // Almost always it is the very same configuration, and comparing few pointers costs less than hashing a name.
        if let Some(pool) = pools.values().find(|pool| Arc::ptr_eq(&pool.gateway, gateway)) {
            return Ok(Rc::clone(pool));
        }
        if let Some(pool) = pools.get(&gateway.name) {
            if pool.gateway.same_connections(gateway) {
                return Ok(Rc::clone(pool));
            }
            pool.close();
        }
        let trust = Trust::new(&gateway.endpoint)?;
        let authority = authority(&gateway.endpoint)?;
        let metrics = self
            .inner
            .metrics
            .as_ref()
            .map(|metrics| metrics.upstream(&gateway.name));
        let pool = Pool::new(gateway, trust, authority, metrics);
        pools.insert(gateway.name.clone(), Rc::clone(&pool));
        if !self.inner.reaping.replace(true) {
            tokio::task::spawn_local(reap(Rc::downgrade(&self.inner)));
        }
        Ok(pool)
    }

    /// The way to ask the kernel, where it is open.
    pub(super) fn kernel(&self) -> Option<&Kernel> {
        self.inner.kernel.as_ref()
    }

    /// Deadlines of exchanges.
    pub(super) fn alarms(&self) -> &Alarms {
        &self.inner.alarms
    }

    /// Pauses between two questions to the kernel.
    pub(super) fn naps(&self) -> &Naps {
        &self.inner.naps
    }

    /// Opens what is missing from what a gateway's configuration wants to be warm, beside the requests.
    pub(super) fn restock(&self, pool: &Rc<Pool<B>>) {
        self.inner.restock(pool, Instant::now());
    }
}

impl<B> Inner<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    fn restock(&self, pool: &Rc<Pool<B>>, now: Instant) {
        let missing = pool.tend(now);
        for _ in 0..missing {
            let Some(place) = pool.place() else { return };
            let (pool, names) = (Rc::clone(pool), Rc::clone(&self.names));
            let warming = pool.warming();
            tokio::task::spawn_local(async move {
                let _turn = match pool.multiplexes() {
                    true => Some(pool.opening().await),
                    false => None,
                };
                if !pool.wants_more() {
                    return;
                }
                let limit = pool.gateway.pool.connect_timeout;
                let opened = connect(&names, &pool.gateway, pool.trust.as_ref(), pool.metrics.as_ref(), limit);
                let stocked = match opened.await {
                    Ok(opened) => pool.stock(opened, place).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = stocked {
                    tracing::debug!(
                        gateway = pool.gateway.name,
                        note = error.note,
                        "no connection was prepared"
                    );
                }
                drop(warming);
            });
        }
    }
}

/// Closes what idles too long and keeps warm what is to be warm, for as long as the client lives.
async fn reap<B>(client: Weak<Inner<B>>)
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    let mut pause = REAP.1;
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = client.upgrade() else { return };
        let pools: Vec<_> = inner.pools.borrow().values().map(Rc::clone).collect();
        let shortest = pools.iter().map(|pool| pool.gateway.pool.idle / 4).min();
        pause = shortest.unwrap_or(REAP.1).clamp(REAP.0, REAP.1);
        for pool in pools {
            inner.restock(&pool, Instant::now());
        }
    }
}

/// How long a request waits for a connection.
fn patience<B>(pool: &Pool<B>, total: &Deadline, now: Instant) -> Duration {
    let own = pool.gateway.pool.connect_timeout;
    total.within(now, own).unwrap_or(own)
}

/// Whether the peer said by protocol that it did not process the request (RFC 9113 8.7): REFUSED_STREAM, or a GOAWAY
/// whose last stream is below ours. h2 gives the latter to exactly those streams; the others end with an I/O error.
pub(super) fn refused_by_peer(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (refused || error.is_go_away());
        }
        source = cause.source();
    }
    false
}

/// Whether a stream's error tells of the end of its connection, which hyper does not show while other streams are on it:
/// everything but a reset of the stream itself.
pub(super) fn takes_leave(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return !error.is_reset();
        }
        source = cause.source();
    }
    true
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
    HeaderValue::from_str(&text).map_err(|error| ConnectError::new(Failure::Dns, error))
}

/// Puts the endpoint's own into a request over HTTP/2: base path, scheme and `:authority`.
pub(super) fn prepare(endpoint: &Endpoint, parts: &mut http::request::Parts, authority: &HeaderValue) {
    parts.version = http::Version::HTTP_2;
    parts.headers.remove(header::HOST);
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    if !endpoint.base_path.is_empty() {
        let target = uri.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
        uri.path_and_query = PathAndQuery::try_from(format!("{}{target}", endpoint.base_path)).ok();
    }
    uri.scheme = Some(if endpoint.tls { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Authority::try_from(authority.as_bytes()).ok();
    if uri.path_and_query.is_none() {
        uri.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
}
