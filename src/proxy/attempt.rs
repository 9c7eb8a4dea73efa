//! One attempt at a gateway, and the second one that a late read may get.
//!
//! A hedge is for GETs without a body only, goes to the same gateway, only while the breaker is closed, and draws on two
//! budgets (see [`crate::resilience::hedge`]). The first good answer wins and the other request is cancelled; an answer
//! that would be retried does not win while the other is still out. Not both: a request that is being retried is not
//! hedged.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::{Request, Response};
use tokio::time::Instant;

use super::body::{self, Account};
use super::runtime::RouteState;
use super::{Template, outcome_word, rebuild, retry_after};
use crate::proxy::reason::Reason;
use crate::resilience::breaker::{Permit, Probing, Report, State, Verdict};
use crate::resilience::hedge::Hedged;
use crate::resilience::{jitter, retry};
use crate::telemetry::event::AttemptFinished;
use crate::telemetry::labels::Kind;
use crate::telemetry::trace::TraceContext;
use crate::upstream::{self, Client, Deadlines, Evidence, Failed, Side};

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
}

impl Ended {
    /// Tells breaker, metrics and log, and gives the outcome.
    pub fn conclude(self, route: &RouteState, trace: TraceContext) -> Outcome {
        let (verdict, retry_after) = match &self.outcome {
            Ok((response, _)) => (Verdict::of_status(response.status().as_u16()), retry_after(response)),
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
        if let Some(transition) = self.permit.report(report, Instant::now(), jitter()) {
            route.transition(&transition);
        }
        match &self.outcome {
            Ok(_) => route.at_gateway.attempt(self.kind, "answered", self.took),
            Err(Failed { error, .. }) => {
                let sent = error.evidence.sent();
                AttemptFinished {
                    at: &route.at_gateway,
                    kind: self.kind,
                    result: Reason::Upstream(error.failure, sent).label(),
                    took: self.took,
                    sent: outcome_word(sent),
                    bytes_sent: error.evidence.bytes_sent,
                    note: &error.evidence.note,
                    trace: Some(trace),
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

/// Sends a read, and once more when its answer is late.
pub async fn hedged(
    client: &Client<body::Request>,
    route: &RouteState,
    request: Request<body::Request>,
    template: &Template,
    permit: Permit,
    deadlines: &Deadlines,
    account: &mut Account,
) -> Ended {
    let began = Instant::now();
    let ended = race(client, route, request, template, permit, deadlines, account).await;
    let now = Instant::now();
    if ended.outcome.is_ok() {
        route.protection.hedge.record(now.duration_since(began), now);
    }
    account.waited(now.duration_since(began));
    ended
}

async fn race(
    client: &Client<body::Request>,
    route: &RouteState,
    request: Request<body::Request>,
    template: &Template,
    permit: Permit,
    deadlines: &Deadlines,
    account: &mut Account,
) -> Ended {
    let first = Launched::new(permit, Kind::First);
    let mut running = pin!(client.forward(&route.gateway, request, deadlines));
    let early = match route.protection.hedge.delay() {
        Some(delay) => tokio::time::timeout(delay, running.as_mut()).await.ok(),
        None => Some(running.as_mut().await),
    };
    if let Some(outcome) = early {
        return first.ended(outcome);
    }
    let second = match second_permit(route) {
        Ok(permit) => Launched::new(permit, Kind::Hedge),
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
    let hedge = pin!(client.forward(&route.gateway, rebuild(template), deadlines));
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
        drop(spent.conclude(route, account.trace()));
        ended
    };
    tally.result = match ended.kind {
        Kind::Hedge => Hedged::Won,
        _ => Hedged::Lost,
    };
    ended
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
}

impl Launched {
    fn new(permit: Permit, kind: Kind) -> Self {
        Self {
            permit,
            kind,
            at: Instant::now(),
        }
    }

    fn ended(self, outcome: Outcome) -> Ended {
        Ended {
            outcome,
            permit: self.permit,
            kind: self.kind,
            took: self.at.elapsed(),
        }
    }

    /// Its answer is not waited for: load at the gateway, but no word about its health.
    fn cancelled(self, route: &RouteState) {
        route.at_gateway.attempt(self.kind, "cancelled", self.at.elapsed());
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
