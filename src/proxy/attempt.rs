//! One attempt at a gateway: the faults that an operator wants there, and the second request that a late read may get.
//!
//! A hedge is for GETs without a body only, goes to the same gateway, only while the breaker is closed, and draws on two
//! budgets (see [`crate::resilience::hedge`]). The first good answer wins and the other request is cancelled; an answer
//! that would be retried does not win while the other is still out. Not both: a request that is being retried is not
//! hedged.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use super::body::{self, Account};
use super::reason::Reason;
use super::runtime::RouteState;
use super::{Template, asked_back, outcome_word, rebuild};
use crate::resilience::breaker::{Permit, Probing, Report, State, Verdict};
use crate::resilience::fault::Effect;
use crate::resilience::hedge::Hedged;
use crate::resilience::{Faults, jitter, retry};
use crate::telemetry::event::{AttemptFinished, FaultStruck};
use crate::telemetry::labels::Kind;
use crate::telemetry::trace::TraceContext;
use crate::upstream::{self, Client, Deadlines, Evidence, Failed, Failure, Progress, Side};

/// What came of one request to a gateway.
pub type Outcome = Result<(Response<upstream::Body<body::Request>>, Evidence), Failed<body::Request>>;

/// An attempt that ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// The breaker's permit it went by.
    pub permit: Permit,
    /// What it was for.
    pub kind: Kind,
    /// Up to the head of the answer, or the failure.
    pub took: Duration,
    /// When it ended.
    pub at: Instant,
    /// Its span.
    pub span: TraceContext,
}

/// The span of one attempt. Where spans are exported, a request that names its trace names this span to the gateway; where
/// they are not, a parent that nobody can look up would only tear the trace, so what came goes on as it is.
pub fn span(route: &RouteState, trace: TraceContext, headers: &mut http::HeaderMap) -> TraceContext {
    if !route.metrics.exports(&trace) {
        return trace;
    }
    let span = trace.child();
    if trace.parent != 0 {
        span.put(headers);
    }
    span
}

impl Ended {
    /// Tells breaker, metrics and log, and gives the outcome.
    pub fn conclude(self, route: &RouteState) -> Outcome {
        let (verdict, retry_after) = match &self.outcome {
            Ok((response, _)) => (Verdict::of_status(response.status().as_u16()), asked_back(response)),
            Err(failed) => match failed.error.side {
                Side::Downstream | Side::Local => (Verdict::Ignored, None),
                Side::Upstream => (Verdict::Failure, None),
            },
        };
        let report = Report {
            verdict,
            took: self.took,
            retry_after,
        };
        if let Some(transition) = self.permit.report(report, self.at, jitter()) {
            route.transition(&transition);
        }
        let finished = AttemptFinished {
            at: &route.at_gateway,
            kind: self.kind,
            result: "answered",
            took: self.took,
            sent: "",
            bytes_sent: 0,
            note: "",
            status: None,
            trace: Some(self.span),
        };
        match &self.outcome {
            Ok((response, _)) => AttemptFinished {
                status: Some(response.status().as_u16()),
                ..finished
            }
            .emit(),
            Err(Failed { error, .. }) => {
                let sent = error.evidence.sent();
                AttemptFinished {
                    result: Reason::Upstream(error.failure, sent).label(),
                    sent: outcome_word(sent),
                    bytes_sent: error.evidence.bytes_sent,
                    note: &error.evidence.note,
                    ..finished
                }
                .emit();
            }
        }
        self.outcome
    }

    /// Whether nobody would want to ask again.
    fn good(&self) -> bool {
        matches!(&self.outcome, Ok((response, _)) if !retry::retryable_status(response.status().as_u16()))
    }
}

/// The way to a route's gateway.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The worker's connections.
    pub client: &'a Client<body::Request>,
    /// What shall go wrong.
    pub faults: &'a Faults,
    /// The route.
    pub route: &'a RouteState,
    /// How long it may take.
    pub deadlines: &'a Deadlines,
    /// Whether the request is timed.
    pub timed: bool,
}

impl Way<'_> {
    /// Sends a request, once; it is `now`.
    pub fn send(&self, request: Box<Request<body::Request>>, now: Instant) -> impl Future<Output = Outcome> {
        match self.faults.any() {
            // Boxed, so that it adds nothing to a future's size where there is no fault.
            true => Either::Left(Box::pin(self.send_faulty(request))),
            false => Either::Right(self.forward(request, now)),
        }
    }

    fn forward(&self, request: Box<Request<body::Request>>, now: Instant) -> impl Future<Output = Outcome> {
        self.client
            .forward(&self.route.gateway, request, self.deadlines, now, self.timed)
    }

    /// The failures made here are the ones the gateway or the network could make, evidence included.
    async fn send_faulty(&self, request: Box<Request<body::Request>>) -> Outcome {
        let (route, gateway) = (&self.route.config.name, &self.route.gateway.name);
        let strike = self.faults.strike(route, gateway, Instant::now(), jitter);
        if let Some(delay) = strike.delay {
            self.tell("delay");
            let limit = self
                .deadlines
                .total
                .within(Instant::now(), self.deadlines.response_header);
            tokio::time::sleep(limit.map_or(delay, |limit| delay.min(limit))).await;
            if limit.is_some_and(|limit| delay >= limit) {
                let over = self.deadlines.total.expired(Instant::now());
                let failure = if over {
                    Failure::Deadline
                } else {
                    Failure::HeaderTimeout
                };
                return Err(unsent(failure, "delay", request));
            }
        }
        let Some(effect) = strike.effect else {
            return self.forward(request, Instant::now()).await;
        };
        self.tell(effect.name());
        match effect {
            Effect::Refuse => Err(unsent(Failure::Connect, effect.name(), request)),
            Effect::AbortBefore => Err(unsent(Failure::Connection, effect.name(), request)),
            Effect::Delay(_) => self.forward(request, Instant::now()).await,
            Effect::AbortAfter => {
                let (answer, evidence) = self.forward(request, Instant::now()).await?;
                drop(answer);
                let evidence = Evidence {
                    progress: Progress::Committed,
                    status: None,
                    note: format!("fault injected: {}", effect.name()),
                    ..evidence
                };
                let error = upstream::Error {
                    failure: Failure::Connection,
                    side: Side::Upstream,
                    evidence,
                };
                Err(Failed { error, request: None })
            }
            Effect::Status(status) => {
                let (mut answer, evidence) = self.forward(request, Instant::now()).await?;
                *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Ok((answer, evidence))
            }
        }
    }

    fn tell(&self, effect: &'static str) {
        FaultStruck {
            route: &self.route.metrics,
            gateway: &self.route.gateway.name,
            effect,
        }
        .emit();
    }

    /// Sends a read, and once more when its answer is late.
    pub async fn send_hedged(
        &self,
        request: Box<Request<body::Request>>,
        template: &Template,
        permit: Permit,
        account: &mut Account,
    ) -> Ended {
        let began = Instant::now();
        let ended = self.race(request, template, permit, account).await;
        let now = Instant::now();
        if ended.outcome.is_ok() {
            self.route.protection.hedge.record(now.duration_since(began), now);
        }
        account.waited(now.duration_since(began));
        ended
    }

    async fn race(
        &self,
        mut request: Box<Request<body::Request>>,
        template: &Template,
        permit: Permit,
        account: &mut Account,
    ) -> Ended {
        let route = self.route;
        let first = Launched::new(permit, Kind::First, span(route, account.trace(), request.headers_mut()));
        let mut running = pin!(self.send(request, first.at));
        let early = match route.protection.hedge.delay() {
            Some(delay) => tokio::time::timeout(delay, running.as_mut()).await.ok(),
            None => Some(running.as_mut().await),
        };
        if let Some(outcome) = early {
            return first.ended(outcome);
        }
        let mut again = rebuild(template);
        let second = match second_permit(route) {
            Ok(permit) => Launched::new(permit, Kind::Hedge, span(route, account.trace(), again.headers_mut())),
            Err(denied) => {
                route.metrics.hedge(denied.name());
                return first.ended(running.await);
            }
        };
        account.attempt();
        let mut tally = Tally {
            route,
            result: Hedged::Cancelled,
        };
        let hedge = pin!(self.send(again, second.at));
        let (ended, other, rest) = match select(running, hedge).await {
            Either::Left((outcome, rest)) => (first.ended(outcome), second, rest),
            Either::Right((outcome, rest)) => (second.ended(outcome), first, rest),
        };
        let ended = if ended.good() {
            other.cancelled(route);
            ended
        } else {
            // The other may still do better. Of two that are no good an answer is better than none (haproxy#439).
            let other = other.ended(rest.await);
            let (ended, spent) = if other.good() || ended.outcome.is_err() {
                (other, ended)
            } else {
                (ended, other)
            };
            drop(spent.conclude(route));
            ended
        };
        tally.result = match ended.kind {
            Kind::Hedge => Hedged::Won,
            _ => Hedged::Lost,
        };
        ended
    }
}

fn unsent(failure: Failure, effect: &str, request: Box<Request<body::Request>>) -> Failed<body::Request> {
    let evidence = Evidence::nothing_sent(format!("fault injected: {effect}"));
    Failed {
        error: upstream::Error {
            failure,
            side: Side::Upstream,
            evidence,
        },
        request: Some(request),
    }
}

/// Asks breaker and budgets for a second request.
fn second_permit(route: &RouteState) -> Result<Permit, Hedged> {
    if route.breaker.state() != State::Closed {
        return Err(Hedged::Breaker);
    }
    let now = Instant::now();
    route.protection.hedge.start(&route.protection.budget, now)?;
    route.breaker.admit(now, Probing::Avoid).map_err(|_| Hedged::Breaker)
}

/// A request that is out.
struct Launched {
    permit: Permit,
    kind: Kind,
    at: Instant,
    span: TraceContext,
}

impl Launched {
    fn new(permit: Permit, kind: Kind, span: TraceContext) -> Self {
        Self {
            permit,
            kind,
            at: Instant::now(),
            span,
        }
    }

    fn ended(self, outcome: Outcome) -> Ended {
        let at = Instant::now();
        Ended {
            outcome,
            permit: self.permit,
            kind: self.kind,
            took: at.duration_since(self.at),
            at,
            span: self.span,
        }
    }

    /// Its answer is not waited for: load at the gateway, but no word about its health.
    fn cancelled(self, route: &RouteState) {
        AttemptFinished {
            at: &route.at_gateway,
            kind: self.kind,
            result: "cancelled",
            took: self.at.elapsed(),
            sent: "",
            bytes_sent: 0,
            note: "",
            status: None,
            trace: Some(self.span),
        }
        .emit();
    }
}

/// Counts what became of a hedge, also when the application leaves before that is known.
struct Tally<'a> {
    route: &'a RouteState,
    result: Hedged,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.route.metrics.hedge(self.result.name());
    }
}
