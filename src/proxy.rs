//! The request path. [`Proxy::handle`] is one function that a reviewer reads top to bottom.
//!
//! What Sentinel does not understand it forwards unchanged, streaming both ways. It never sends a request again that the
//! gateway may have, unless its method is safe; what it answers by itself says whose failure it was, and whether the
//! request may have reached the gateway.

mod attempt;
pub mod body;
pub mod headers;
mod payment;
pub mod reason;
pub mod runtime;
mod tenants;
mod webhook;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::admin::api::Door;
use crate::config::model::Dialect;
use crate::gateway::{OwnError, errors, retry_after};
use crate::listen::ConnectionInfo;
use crate::listen::refusal::Refusal;
use crate::payment::engine::Desk;
use crate::resilience::breaker;
use crate::resilience::retry::{self, Arrival, Attempt, Method, Skip};
use crate::resilience::{Deadline, jitter};
use crate::telemetry::Metrics;
use crate::telemetry::event::{HeadRejected, RequestShed};
use crate::telemetry::labels::Kind;
use crate::telemetry::trace::TraceContext;
use crate::upstream::{Client, Deadlines, Evidence, Failed, Failure, Sent, Side};
use attempt::{Ended, Way};
use body::{Account, Body};
use reason::Reason;
use runtime::{RouteState, Runtime};

/// One worker's view of the request path.
#[derive(Debug)]
pub struct Proxy {
    runtime: Arc<ArcSwap<Runtime>>,
    metrics: Arc<Metrics>,
    client: Client<body::Request>,
    desk: Option<Rc<Desk>>,
    door: Option<Door>,
    tenants: Option<tenants::Tenants>,
}

impl Proxy {
    /// Ends the worker's payments: what is on its way is finished and recorded, the rest is in the ledger.
    pub async fn close(&self) {
        if let Some(desk) = &self.desk {
            desk.close().await;
        }
    }

    /// A worker's proxy, without connections yet; with a desk for payments and a door for tenants where there is a ledger.
    pub fn new(
        runtime: Arc<ArcSwap<Runtime>>,
        metrics: Arc<Metrics>,
        desk: Option<Rc<Desk>>,
        door: Option<Door>,
    ) -> Self {
        let tenants = door.as_ref().zip(desk.as_ref());
        Self {
            runtime,
            client: Client::observed(&metrics),
            tenants: tenants.map(|(door, desk)| tenants::Tenants::new(door.accounts(), Rc::clone(desk))),
            metrics,
            desk,
            door,
        }
    }

    /// Fits the connections to the configuration in force: those to gateways that are gone are closed, those that it
    /// wants to be there before the first request are opened.
    pub fn settle(&self) {
        let runtime = self.runtime.load();
        let known = |gateway: &str| runtime.config.gateways.contains_key(gateway);
        self.client.retain(known);
        if let Some(desk) = &self.desk {
            desk.retain_connections(known);
        }
        for route in &runtime.routes {
            self.client.prewarm(&route.gateway);
        }
    }

    /// The body of an answer that a listener gives itself, in the shape of the first route there: official SDKs crash or
    /// lose the message on any other.
    pub fn render_refusal(&self, listener: SocketAddr, refusal: &Refusal) -> (http::HeaderValue, Bytes) {
        let runtime = self.runtime.load();
        let dialect = runtime
            .config
            .routes
            .iter()
            .find(|route| route.listens_at(listener))
            .map_or(Dialect::Custom, |route| route.dialect);
        let error = OwnError {
            status: refusal.status(),
            code: refusal.code(),
            message: refusal.message().to_owned(),
            retry: *refusal == Refusal::Full,
        };
        let (parts, body) = errors::render(dialect, &error, &support_id()).into_parts();
        let json = http::HeaderValue::from_static("application/json");
        (parts.headers.get(header::CONTENT_TYPE).cloned().unwrap_or(json), body)
    }

    /// Answers one request.
    pub async fn handle(self: Rc<Self>, mut request: Request<Incoming>, info: ConnectionInfo) -> Response<Body> {
        let came = info.came();
        let started = came.unwrap_or_else(Instant::now);
        let runtime = self.runtime.load_full();

        // 1. Whose is it? That it has one meaning only, the listener has made sure of.
        let http2 = request.version() == http::Version::HTTP_2;
        let path = request.uri().path();
        let host = match http2 {
            true => request.uri().authority().map(|authority| authority.as_str()),
            false => request.headers().get(header::HOST).and_then(|host| host.to_str().ok()),
        };
        if let Some(door) = &self.door
            && Door::owns(path, info.listener(), &runtime.config)
        {
            return Box::pin(door.answer(request, info)).await.map(Body::interface);
        }
        let matched = runtime.table.find(info.listener(), host, path);
        let Some(matched) = matched else {
            if let (Some(gateway), Some(desk)) = (runtime.webhooks(info.listener(), path), &self.desk) {
                // Boxed, as is all that is rare and large below: every request would carry room for it.
                return Box::pin(webhook::receive(desk, gateway.cloned(), request)).await;
            }
            HeadRejected {
                metrics: &self.metrics,
                reason: Reason::NoRoute.label(),
                detail: "",
            }
            .emit();
            return own(Dialect::Custom, "", Reason::NoRoute, "", None);
        };
        let route = Arc::clone(&runtime.routes[matched.index]);
        let survey = headers::Survey::of_request(request.headers());
        let trace = route.metrics.trace(match survey.names_trace() {
            true => TraceContext::of(request.headers()),
            false => TraceContext::fresh(),
        });
        let mut account = Box::new(Account::new(
            Arc::clone(&route),
            request.method(),
            request.uri().path(),
            trace,
            started,
            came.map(|_| info.clone()),
        ));
        if request.uri().authority().is_some()
            && let Some(target) = request.uri().path_and_query().cloned()
        {
            *request.uri_mut() = http::Uri::from(target);
        }
        if matched.prefix_len > 0 && !strip_prefix(&mut request, matched.prefix_len) {
            return refuse(account, Reason::BadRequest, "target");
        }
        let mut payments = route.payments.as_ref();
        let theirs;
        if let Some(tenants) = &self.tenants
            && tenants::concerns(&route, &request)
        {
            match Box::pin(tenants.admit(&route, &runtime.faults, &mut request)).await {
                Ok(tenants::Admitted::Goes(payments_of)) => {
                    theirs = payments_of;
                    payments = theirs.as_ref();
                }
                Ok(tenants::Admitted::Answered(reply)) => {
                    account.answered(reply.status().as_u16(), "token_minted");
                    return reply.map(|bytes| Body::own(bytes, Some(account)));
                }
                Err(reason) => return refuse(account, reason, ""),
            }
        }
        // Only payments are looked at more closely; everything else costs nothing here.
        let payment = payment::recognised(self.desk.as_ref(), &route, payments, &request, &matched, &info);
        if survey.strip_request(request.headers_mut()).is_err() {
            return refuse(account, Reason::BadRequest, "connection_option");
        }

        // 2. Is there a place for it?
        let deadline = Deadline::after(started, route.config.timeouts.total);
        match route.protection.limit.try_enter() {
            Some(place) => account.admitted(place),
            None => {
                let began = Instant::now();
                match Box::pin(route.protection.limit.enter(&deadline)).await {
                    Ok(place) => account.admitted(place),
                    Err(shed) => {
                        RequestShed {
                            route: &route.metrics,
                            reason: shed.name(),
                        }
                        .emit();
                        return refuse(account, Reason::Overloaded, shed.name());
                    }
                }
                account.waited(began.elapsed());
            }
        }

        // 3. A payment is answered by its engine, unless it turns out to be none that could go anywhere else.
        let mut unavailable = None;
        let request = match payment {
            // Boxed: it is handed on several times from here.
            None => Box::new(request.map(body::Request::Streaming)),
            Some(payment) => match Box::pin(payment.handle(request, &mut account)).await {
                Ok(payment::Handled::Answered(reply)) => return reply.map(|bytes| Body::own(bytes, Some(account))),
                Ok(payment::Handled::Forward(request, why)) => {
                    unavailable = why;
                    Box::new(request)
                }
                Err((reason, detail)) => return refuse(account, reason, detail),
            },
        };

        // 4. Forward; again only what provably never arrived, or is safe by its method.
        let deadlines = Deadlines {
            response_header: route.config.timeouts.response_header,
            body_idle: route.config.timeouts.body_idle,
            total: deadline,
        };
        let way = Way {
            client: &self.client,
            faults: &runtime.faults,
            route: &route,
            deadlines: &deadlines,
            timed: came.is_some(),
        };
        let method = Method::of(request.method().as_str());
        let tried = |retries, arrival, retry_after| Attempt {
            method,
            arrival,
            retries,
            retry_after,
        };
        let mut retries = 0;
        // A safe request without a body can be sent again whatever happened to it.
        let again = (method == Method::Safe && http_body::Body::is_end_stream(request.body()))
            .then(|| request.method().clone());
        let template = again.map(|method| (method, request.uri().clone(), request.headers().clone()));
        let mut next = Some(request);
        loop {
            let Some(mut request) = next.take() else {
                return refuse(account, Reason::Internal, "no_request");
            };
            let sent_at = Instant::now();
            let permit = match route.breaker.admit(sent_at, breaker::Probing::Allowed) {
                Ok(mut permit) => {
                    if let Some(transition) = permit.take_transition() {
                        route.transition(&transition);
                    }
                    permit
                }
                Err(refused) => {
                    route.at_gateway.rejected();
                    let mut answer = refuse(account, Reason::CircuitOpen, refused.state.name());
                    let seconds = refused.retry_in.as_secs().max(1).to_string();
                    answer
                        .headers_mut()
                        .insert(header::RETRY_AFTER, headers::value(&seconds));
                    payment::say_unavailable(answer.headers_mut(), unavailable.as_ref());
                    return answer;
                }
            };
            account.attempt();
            let ended = match &template {
                // Boxed, so that two exchanges in a future's size cost nothing where there is one.
                Some(template) if route.hedges(&template.0) && retries == 0 => {
                    Box::pin(way.send_hedged(request, template, permit, &mut account)).await
                }
                _ => {
                    let span = attempt::span(&route, trace, request.headers_mut());
                    let outcome = way.send(request, sent_at).await;
                    let at = Instant::now();
                    let took = at.duration_since(sent_at);
                    let waited = outcome.as_ref().ok().and_then(|(response, _)| response.body().waited());
                    account.waited(waited.unwrap_or(took));
                    let kind = if retries == 0 { Kind::First } else { Kind::Retry };
                    Ended {
                        outcome,
                        permit,
                        kind,
                        took,
                        at,
                        span,
                    }
                }
            };
            let ended_at = ended.at;
            let Failed { error, request: back } = match ended.conclude(&route) {
                Ok((response, _)) => {
                    let status = response.status().as_u16();
                    let repeat = retry::retryable_status(status).then_some(()).and(template.as_ref());
                    if let Some(template) = repeat {
                        let tried = tried(retries, Arrival::Possible, asked_back(&response));
                        match self.may_retry(&route, tried, &deadline) {
                            Ok(pause) => {
                                retries += 1;
                                account.waited(pause);
                                Box::pin(tokio::time::sleep(pause)).await;
                                next = Some(rebuild(template));
                                continue;
                            }
                            Err(skip) => route.metrics.retry_skipped(skip.name()),
                        }
                    }
                    route.protection.budget.deposit(ended_at);
                    account.answered(status, "forwarded");
                    let (mut parts, incoming) = response.into_parts();
                    headers::strip_response(&mut parts.headers);
                    payment::say_unavailable(&mut parts.headers, unavailable.as_ref());
                    return Response::from_parts(parts, Body::forwarded(incoming, account));
                }
                Err(failed) => failed,
            };

            // 5. It failed: may it go again?
            let request = match (back, template.as_ref()) {
                (Some(request), _) => Some(request),
                (None, Some(template)) => Some(rebuild(template)),
                (None, None) => None,
            };
            let arrival = arrival(&error.evidence, error.failure);
            match request {
                None => route.metrics.retry_skipped(match arrival {
                    Arrival::Possible => Skip::MayHaveExecuted.name(),
                    _ => Skip::BodyGone.name(),
                }),
                Some(_) if error.side != Side::Upstream => {}
                Some(request) => match self.may_retry(&route, tried(retries, arrival, None), &deadline) {
                    Ok(pause) => {
                        retries += 1;
                        account.waited(pause);
                        Box::pin(tokio::time::sleep(pause)).await;
                        next = Some(request);
                        continue;
                    }
                    Err(skip) => route.metrics.retry_skipped(skip.name()),
                },
            }
            route.protection.budget.deposit(ended_at);
            let mut answer = refuse(account, Reason::Upstream(error.failure, error.evidence.sent()), "");
            payment::say_unavailable(answer.headers_mut(), unavailable.as_ref());
            return answer;
        }
    }

    fn may_retry(&self, route: &RouteState, attempt: Attempt, deadline: &Deadline) -> Result<Duration, Skip> {
        retry::may_retry(
            &route.config.retry,
            attempt,
            &route.protection.budget,
            deadline,
            Instant::now(),
            jitter(),
        )
    }
}

/// What the evidence says about arrival, in the retry law's words.
fn arrival(evidence: &Evidence, failure: Failure) -> Arrival {
    match (evidence.sent(), evidence.reused && failure == Failure::Connection) {
        (Sent::Maybe, _) => Arrival::Possible,
        (Sent::No, true) => Arrival::NeverStale,
        (Sent::No, false) => Arrival::Never,
    }
}

type Template = (http::Method, http::Uri, http::HeaderMap);

fn rebuild((method, uri, headers): &Template) -> Box<Request<body::Request>> {
    let mut request = Box::new(Request::new(body::Request::Empty));
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers.clone();
    request
}

fn strip_prefix<B>(request: &mut Request<B>, length: usize) -> bool {
    let rest = &request.uri().path_and_query().map_or("", |target| target.as_str())[length..];
    let target = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    match http::uri::PathAndQuery::try_from(target) {
        Ok(target) => {
            *request.uri_mut() = http::Uri::from(target);
            true
        }
        Err(_) => false,
    }
}

fn asked_back<B>(response: &Response<B>) -> Option<Duration> {
    // A success that names a time means something else by it (RFC 9110 10.2.3).
    if response.status().is_success() {
        return None;
    }
    retry_after::seconds(response.headers()).map(Duration::from_secs)
}

/// An answer of Sentinel's own on a route.
fn refuse(mut account: Box<Account>, reason: Reason, detail: &str) -> Response<Body> {
    account.answered(reason.status().as_u16(), reason.label());
    let (dialect, gateway) = account.speaks();
    own(dialect, &gateway, reason, detail, Some(account))
}

/// The word for arrival in headers and logs.
const fn outcome_word(sent: Sent) -> &'static str {
    match sent {
        Sent::No => "not_sent",
        Sent::Maybe => "unknown",
    }
}

/// An answer of Sentinel's own: in the dialect's shape, with `Proxy-Status` (RFC 9209) and what is known of arrival.
fn own(dialect: Dialect, gateway: &str, reason: Reason, detail: &str, account: Option<Box<Account>>) -> Response<Body> {
    let error = OwnError {
        status: reason.status(),
        code: reason.label(),
        message: reason.message(gateway),
        retry: reason.retry(),
    };
    let reply = errors::render(dialect, &error, &support_id());
    let (mut parts, bytes): (_, Bytes) = reply.into_parts();
    let mut status = format!("sentinel; error={}", reason.proxy_status());
    let details = if detail.is_empty() { reason.label() } else { detail };
    status.push_str(&format!("; details=\"{details}\""));
    parts.headers.insert("proxy-status", headers::value(&status));
    let outcome = outcome_word(reason.sent());
    parts.headers.insert("sentinel-outcome", headers::value(outcome));
    if parts.status == StatusCode::BAD_REQUEST {
        parts.headers.insert(header::CONNECTION, headers::value("close"));
    }
    Response::from_parts(parts, Body::own(bytes, account))
}

/// An id by which a person finds this answer in the log: 16 letters and digits.
fn support_id() -> String {
    (0..16).map(|_| fastrand::alphanumeric()).collect()
}
