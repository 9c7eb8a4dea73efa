//! The one exchange that everything forwarded goes through: a request as it streams, and its answer as it streams.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;

use super::alarm::Elapsed;
use super::body::Body;
use super::client::{Client, prepare, refused_by_peer, takes_leave};
use super::h1::{Fault, Pump, Rest, Target, Upload};
use super::outgoing::{BodyProgress, Outgoing, Tracked};
use super::pool::Lease;
use super::{Error, Evidence, Failure, Progress, Side};
use crate::config::model::GatewayConfig;
use crate::resilience::Deadline;

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

impl Deadlines {
    /// When the head of the answer must be there.
    fn head(&self, now: Instant) -> Option<Instant> {
        self.total.within(now, self.response_header).map(|wait| now + wait)
    }
}

/// A failed exchange. The request comes back when it never left this process.
#[derive(Debug)]
pub struct Failed<B> {
    /// What failed, and what is known.
    pub error: Error,
    /// The untouched request.
    pub request: Option<Box<Request<B>>>,
}

impl<B> Failed<B> {
    fn new(failure: Failure, side: Side, evidence: Evidence, request: Option<Box<Request<B>>>) -> Self {
        Self {
            error: Error {
                failure,
                side,
                evidence,
            },
            request,
        }
    }
}

/// What came of one exchange.
type Outcome<B> = Result<(Response<Body<B>>, Evidence), Failed<B>>;

impl<B> Client<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// Sends one request and gives back the answer with its body still streaming.
    ///
    /// The request's target is path and query; `Host` and the endpoint's base path are put in here. Hop-by-hop fields
    /// were taken off by the caller. It is `started` now: whoever calls has just looked at the clock. Of a request that is
    /// `timed` the answer says how long it was waited for ([`Body::waited`]).
    ///
    /// # Errors
    /// [`Failed`], with evidence. Nothing was retried.
    pub async fn forward(
        &self,
        gateway: &Arc<GatewayConfig>,
        request: Box<Request<B>>,
        deadlines: &Deadlines,
        started: Instant,
        timed: bool,
    ) -> Outcome<B> {
        let lease = match self.checkout(gateway, &deadlines.total, started).await {
            Ok(lease) => lease,
            Err(error) => {
                let evidence = Evidence {
                    took: started.elapsed(),
                    ..Evidence::nothing_sent(error.note)
                };
                return Err(Failed::new(error.failure, Side::Upstream, evidence, Some(request)));
            }
        };
        match lease.http2() {
            // Boxed: every request over HTTP/1.1 would carry room for it.
            true => Box::pin(self.forward_as_stream(lease, gateway, request, deadlines, started)).await,
            false => {
                self.forward_alone(lease, gateway, request, deadlines, started, timed)
                    .await
            }
        }
    }

    /// Over HTTP/1.1.
    async fn forward_alone(
        &self,
        mut lease: Lease<B>,
        gateway: &Arc<GatewayConfig>,
        mut request: Box<Request<B>>,
        deadlines: &Deadlines,
        started: Instant,
        timed: bool,
    ) -> Outcome<B> {
        let (reused, pool) = (lease.reused, Rc::clone(lease.pool()));
        let Some(connection) = lease.http1() else {
            let evidence = Evidence::nothing_sent(String::new());
            return Err(Failed::new(Failure::Internal, Side::Local, evidence, Some(request)));
        };
        let wire = Rc::clone(connection.wire());
        let (written, read) = (wire.written.get(), wire.read.get());
        wire.begin(timed);
        let now = match reused {
            true => started,
            false => Instant::now(),
        };
        // What it took to have a new connection is the gateway's and the network's time.
        let opening = now.saturating_duration_since(started);
        let mut upload = Upload::new(deadlines.body_idle);
        let target = Target {
            base: &gateway.endpoint.base_path,
            authority: &pool.authority,
        };
        let method = request.method().clone();
        let size = match request.body().is_end_stream() {
            true => Some(0),
            false => request.body().size_hint().exact(),
        };
        let head = (&method, request.uri(), request.headers());
        let answered = match connection.begin_upload(&target, head, size, &mut upload) {
            Ok(()) => {
                let body = request.body_mut();
                let exchange = std::future::poll_fn(|cx| connection.poll_exchange(&method, body, &mut upload, cx));
                self.alarms().until(deadlines.head(now), exchange).await
            }
            Err(fault) => Ok(Err(fault)),
        };
        let evidence = |committed: bool, status: Option<u16>, note: String, at: Instant| Evidence {
            progress: match (wire.written.get() == written, committed) {
                (true, _) => Progress::Nothing,
                (false, true) => Progress::Committed,
                (false, false) => Progress::Partial,
            },
            bytes_sent: wire.written.get() - written,
            bytes_received: wire.read.get() - read,
            reused,
            http2: false,
            refused_by_peer: false,
            status,
            note,
            took: at.saturating_duration_since(started),
        };
        let committed = connection.is_committed(&upload);
        let fault = match answered {
            Ok(Ok(head)) => {
                let rest = Rest::new(head.framing);
                let headers = std::mem::take(request.headers_mut());
                match connection.answer(head, headers) {
                    Ok(response) => {
                        let status = Some(response.status().as_u16());
                        let heard = wire.heard().unwrap_or_else(Instant::now);
                        let evidence = evidence(committed, status, String::new(), heard);
                        let waited = wire.waited().map(|waited| opening + waited);
                        let pump = match upload.is_over() {
                            true => None,
                            false => Some(Pump::start(request, upload, connection)),
                        };
                        let body = Body::own(lease, rest, pump, deadlines.body_idle, waited);
                        return Ok((response.map(|()| body), evidence));
                    }
                    Err(fault) => fault,
                }
            }
            Ok(Err(fault)) => fault,
            Err(Elapsed) => {
                let evidence = evidence(committed, None, "no answer in time".to_owned(), Instant::now());
                return Err(Failed::new(late(&deadlines.total), Side::Upstream, evidence, None));
            }
        };
        let (failure, side) = match fault {
            Fault::Broken => (Failure::RequestBody, Side::Downstream),
            _ => (Failure::Connection, Side::Upstream),
        };
        let evidence = evidence(committed, None, fault.to_string(), Instant::now());
        let untouched = upload.is_untouched() && evidence.progress == Progress::Nothing;
        Err(Failed::new(failure, side, evidence, untouched.then_some(request)))
    }

    /// Over HTTP/2.
    async fn forward_as_stream(
        &self,
        mut lease: Lease<B>,
        gateway: &Arc<GatewayConfig>,
        request: Box<Request<B>>,
        deadlines: &Deadlines,
        started: Instant,
    ) -> Outcome<B> {
        let (reused, pool) = (lease.reused, Rc::clone(lease.pool()));
        let Some(wire) = lease.wire().map(Rc::clone) else {
            let evidence = Evidence::nothing_sent(String::new());
            return Err(Failed::new(Failure::Internal, Side::Local, evidence, Some(request)));
        };
        let read = wire.read.get();
        let progress = Rc::new(BodyProgress::default());
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.clone();
        prepare(&gateway.endpoint, &mut parts, &pool.authority);
        let tracked = Outgoing::Streaming(Tracked::new(body, Rc::clone(&progress), deadlines.body_idle));
        // Others write on the same connection: what counts is whether hyper took the request, and how much of its body.
        let evidence = |status: Option<u16>, kept: bool, refused_by_peer: bool, note: String| Evidence {
            progress: match (kept, progress.ended.get()) {
                (true, _) => Progress::Nothing,
                (false, true) => Progress::Committed,
                (false, false) => Progress::Partial,
            },
            bytes_sent: progress.bytes.get(),
            bytes_received: wire.read.get() - read,
            reused,
            http2: true,
            refused_by_peer,
            status,
            note,
            took: started.elapsed(),
        };
        let exchange = lease.send(Request::from_parts(parts, tracked));
        match self.alarms().until(deadlines.head(Instant::now()), exchange).await {
            Ok(Ok(response)) => {
                let evidence = evidence(Some(response.status().as_u16()), false, false, String::new());
                let response = response.map(|incoming| Body::stream(incoming, lease, deadlines.body_idle));
                Ok((response, evidence))
            }
            Ok(Err(mut refused)) => {
                // hyper hands the request back exactly when it never began to write it.
                let request = refused.take_message().and_then(|request| {
                    let (mut parts, body) = request.into_parts();
                    parts.uri = target;
                    Some(Box::new(Request::from_parts(parts, body.into_streaming()?)))
                });
                let error = refused.error();
                if takes_leave(error) {
                    lease.shun();
                }
                let (failure, side) = match progress.broken.get() {
                    true => (Failure::RequestBody, Side::Downstream),
                    false => (Failure::Connection, Side::Upstream),
                };
                let evidence = evidence(None, request.is_some(), refused_by_peer(error), error.to_string());
                Err(Failed::new(failure, side, evidence, request))
            }
            Err(Elapsed) => {
                let evidence = evidence(None, false, false, "no answer in time".to_owned());
                Err(Failed::new(late(&deadlines.total), Side::Upstream, evidence, None))
            }
        }
    }
}

/// Which of the limits it was.
fn late(total: &Deadline) -> Failure {
    match total.expired(Instant::now()) {
        true => Failure::Deadline,
        false => Failure::HeaderTimeout,
    }
}
