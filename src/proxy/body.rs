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
use crate::listen::{ConnectionInfo, quiet};
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
    _account: Closing,
}

/// Closes an account when its answer is over.
///
/// The account is boxed: an answer is moved about on its way out.
#[derive(Debug)]
struct Closing(Option<Box<Account>>);

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(account) = self.0.take() {
            account.close();
        }
    }
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
            _account: Closing(None),
        }
    }

    /// The gateway's own body.
    pub fn forwarded(body: upstream::Body<Request>, account: Box<Account>) -> Self {
        Self {
            inner: Inner::Forwarded(body),
            _account: Closing(Some(account)),
        }
    }

    /// Bytes that Sentinel wrote; for a request that reached a route, with its account.
    pub fn own(bytes: Bytes, account: Option<Box<Account>>) -> Self {
        Self {
            inner: Inner::Own(Some(bytes).filter(|bytes| !bytes.is_empty())),
            _account: Closing(account),
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

/// A request in flight, from its head to the end of its answer, however it ends: that is when the request is counted.
///
/// It is logged then, too, or when the first bytes of the answer were written, where the request is timed and they were
/// not: an answer that is at hand whole is written after its end. Both are done at last when the account is dropped, so
/// that no request is missed.
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
    /// Where its answer goes, when it is timed.
    timed: Option<ConnectionInfo>,
    /// When its answer was handed on, where it is timed and a gateway was asked.
    handed: Option<Instant>,
    /// When its answer was over.
    ended: Option<Instant>,
}

impl Account {
    /// Opens one. It is timed where it says where the answer goes.
    pub fn new(
        route: Arc<RouteState>,
        method: &http::Method,
        path: &str,
        trace: TraceContext,
        started: Instant,
        timed: Option<ConnectionInfo>,
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
            timed,
            handed: None,
            ended: None,
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
        if self.attempts > 0
            && let Some(info) = &self.timed
        {
            info.time_answer();
            self.handed = Some(Instant::now());
        }
    }

    /// Its answer is over.
    fn close(mut self: Box<Self>) {
        self.count();
        if self.handed.is_some()
            && let Some(info) = self.timed.clone()
        {
            info.after_write(self);
        }
    }

    /// Counts it, once.
    fn count(&mut self) -> Instant {
        if let Some(ended) = self.ended {
            return ended;
        }
        let now = Instant::now();
        self.ended = Some(now);
        let took = now.duration_since(self.started);
        self.route.metrics.inflight.dec();
        let place = self.place.take();
        if self.route.config.limits.adaptive && place.is_some() {
            self.route.protection.limit.observe(took, now);
        }
        drop(place);
        self.finished(took, None).count();
        now
    }

    /// Sentinel's own part: up to the first write of the answer, or up to where it was handed on.
    fn overhead(&self) -> Option<(Duration, Instant)> {
        let (info, handed) = self.timed.as_ref().zip(self.handed)?;
        let end = info.answered().unwrap_or(handed);
        let own = end.saturating_duration_since(self.started).saturating_sub(self.waited);
        Some((own, end))
    }

    fn finished(&self, took: Duration, overhead: Option<Duration>) -> RequestFinished<'_> {
        RequestFinished {
            route: &self.route.metrics,
            method: self.method.as_str(),
            status: self.status,
            outcome: self.outcome,
            took,
            overhead,
            gateway: &self.route.gateway.name,
            path: self.path.as_deref().unwrap_or(""),
            attempts: self.attempts,
            trace: Some(self.trace),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let ended = self.count();
        let overhead = self.overhead();
        let end = overhead.map_or(ended, |(_, end)| end.max(ended));
        let took = end.saturating_duration_since(self.started);
        self.finished(took, overhead.map(|(own, _)| own)).tell();
    }
}
