//! The bodies that cross the proxy, and the account that is closed when an answer has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::runtime::RouteState;
use crate::config::model::Dialect;
use crate::listen::quiet;
use crate::resilience::limit::Place;
use crate::telemetry::event::{self, RequestFinished};
use crate::telemetry::trace::TraceContext;
use crate::upstream;

/// What is sent to a gateway.
#[derive(Debug)]
pub enum Request {
    /// The application's body as it comes.
    Streaming(Incoming),
    /// The application's body, read whole: a payment request that is forwarded after all.
    Whole(Option<Bytes>),
    /// None: a safe request sent again.
    Empty,
}

impl http_body::Body for Request {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Streaming(incoming) => quiet::take(incoming, cx),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Streaming(incoming) => incoming.is_end_stream(),
            Self::Whole(bytes) => bytes.is_none(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Streaming(incoming) => incoming.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

/// What is sent to an application.
#[derive(Debug)]
pub struct Body {
    inner: Inner,
    /// Boxed: an answer is moved about on its way out.
    _account: Option<Box<Account>>,
}

#[derive(Debug)]
enum Inner {
    Forwarded(upstream::Body<Request>),
    Own(Option<Bytes>),
    Interface(axum::body::Body),
}

impl Body {
    /// An answer of the tenants' interface.
    pub fn interface(body: axum::body::Body) -> Self {
        Self {
            inner: Inner::Interface(body),
            _account: None,
        }
    }

    /// The gateway's own body.
    pub fn forwarded(body: upstream::Body<Request>, account: Box<Account>) -> Self {
        Self {
            inner: Inner::Forwarded(body),
            _account: Some(account),
        }
    }

    /// Bytes that Sentinel wrote; for a request that reached a route, with its account.
    pub fn own(bytes: Bytes, account: Option<Box<Account>>) -> Self {
        Self {
            inner: Inner::Own(Some(bytes).filter(|bytes| !bytes.is_empty())),
            _account: account,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = upstream::BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.inner {
            Inner::Forwarded(body) => Pin::new(body).poll_frame(cx),
            Inner::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Interface(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|_| upstream::BodyError::Connection),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Forwarded(body) => body.is_end_stream(),
            Inner::Own(bytes) => bytes.is_none(),
            Inner::Interface(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Forwarded(body) => body.size_hint(),
            Inner::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Inner::Interface(body) => body.size_hint(),
        }
    }
}

/// A request in flight, from its head to the end of its answer. Closed by being dropped, which is when the answer has
/// ended, however it ended: that is when the request is counted and logged, so none is missed.
#[derive(Debug)]
pub struct Account {
    route: Arc<RouteState>,
    started: Instant,
    place: Option<Place>,
    method: http::Method,
    /// The path, when somebody will see it.
    path: Option<String>,
    trace: TraceContext,
    /// Time that was somebody else's: the gateway's, the queue's, a pause before a retry.
    waited: Duration,
    attempts: u32,
    status: u16,
    outcome: &'static str,
    overhead: Option<Duration>,
}

impl Account {
    /// Opens one.
    pub fn new(
        route: Arc<RouteState>,
        method: &http::Method,
        path: &str,
        trace: TraceContext,
        started: Instant,
    ) -> Self {
        route.metrics.inflight.inc();
        let path = event::is_seen(&route.metrics).then(|| path.to_owned());
        Self {
            route,
            started,
            place: None,
            method: method.clone(),
            path,
            trace,
            waited: Duration::ZERO,
            attempts: 0,
            status: 0,
            outcome: "cancelled",
            overhead: None,
        }
    }

    /// The dialect that the application speaks, and the gateway's name: for answers of Sentinel's own.
    pub fn speaks(&self) -> (Dialect, String) {
        (self.route.config.dialect, self.route.gateway.name.clone())
    }

    /// The trace it belongs to.
    pub fn trace(&self) -> TraceContext {
        self.trace
    }

    /// It got its place in the limit.
    pub fn admitted(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// This much time was not Sentinel's own.
    pub fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// An attempt begins.
    pub fn attempt(&mut self) {
        self.attempts += 1;
    }

    /// The head of its answer is there: `forwarded`, or why Sentinel answers itself.
    pub fn answered(&mut self, status: u16, outcome: &'static str) {
        self.status = status;
        self.outcome = outcome;
        if self.attempts > 0 {
            self.overhead = Some(self.started.elapsed().saturating_sub(self.waited));
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.duration_since(self.started);
        self.route.metrics.inflight.dec();
        if self.route.config.limits.adaptive && self.place.is_some() {
            self.route.protection.limit.observe(took, now);
        }
        RequestFinished {
            route: &self.route.metrics,
            method: self.method.as_str(),
            status: self.status,
            outcome: self.outcome,
            took,
            overhead: self.overhead,
            gateway: &self.route.gateway.name,
            path: self.path.as_deref().unwrap_or(""),
            attempts: self.attempts,
            trace: Some(self.trace),
        }
        .emit();
    }
}
