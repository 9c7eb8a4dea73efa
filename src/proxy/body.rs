//! The bodies that cross the proxy, and the account that is closed when an answer has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::runtime::RouteState;
use crate::resilience::limit::Place;
use crate::upstream;

/// What is sent to a gateway.
#[derive(Debug)]
pub enum Request {
    /// The application's body as it comes.
    Streaming(Incoming),
    /// None: a safe request sent again.
    Empty,
}

impl http_body::Body for Request {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Streaming(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Streaming(incoming) => incoming.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Streaming(incoming) => incoming.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

/// What is sent to an application.
#[derive(Debug)]
pub struct Body {
    inner: Inner,
    _account: Option<Account>,
}

#[derive(Debug)]
enum Inner {
    Forwarded(upstream::Body),
    Own(Option<Bytes>),
}

impl Body {
    /// The gateway's own body.
    pub fn forwarded(body: upstream::Body, account: Account) -> Self {
        Self {
            inner: Inner::Forwarded(body),
            _account: Some(account),
        }
    }

    /// Bytes that Sentinel wrote.
    pub fn own(bytes: Bytes) -> Self {
        Self {
            inner: Inner::Own(Some(bytes).filter(|bytes| !bytes.is_empty())),
            _account: None,
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
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Forwarded(body) => body.is_end_stream(),
            Inner::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Forwarded(body) => body.size_hint(),
            Inner::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

/// A request in flight: its place in the limit, and its duration. Closed by being dropped, which is when the answer has
/// ended, however it ended.
#[derive(Debug)]
pub struct Account {
    route: Arc<RouteState>,
    started: Instant,
    _place: Place,
}

impl Account {
    /// Opens one.
    pub fn new(route: Arc<RouteState>, place: Place, started: Instant) -> Self {
        route.metrics.inflight.inc();
        Self {
            route,
            started,
            _place: place,
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.duration_since(self.started);
        self.route.metrics.inflight.dec();
        self.route.metrics.duration.observe(took.as_secs_f64());
        self.route.protection.limit.observe(took, now);
    }
}
