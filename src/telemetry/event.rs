//! What happens, as types: emitting one writes its log line and counts its metric, so that the two agree.
//!
//! Words (`outcome`, `reason`, `result`) are the names of the closed enums of the rooms that emit; this room is below
//! them and does not know the enums. Paths come without their query. An idempotency key is only ever a [`KeyHash`].

mod payment;

pub use payment::{
    FailedOver, FailoverRefused, InDoubt, LedgerCommitted, LedgerSwept, LedgerTrouble, NotificationSent,
    ObligationChanged, PaymentAnswered, PlanRefused, Recovered, Replayed, Resolved, WebhookReceived,
};

use std::fmt;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::labels::{Kind, Method};
use super::log::ACCESS;
use super::metrics::Metrics;
use super::route::{GatewayMetrics, RouteMetrics};
use super::spans::{Side, Span, Value};
use super::tap::Passed;
use super::trace::TraceContext;

/// An idempotency key as it may be logged: the first 64 bits of its SHA-256. Enough to find a key that one knows, not
/// enough to use one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Of a key.
    pub fn of(key: &str) -> Self {
        let digest = Sha256::digest(key.as_bytes());
        Self(digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn ms(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e6).round() / 1e3
}

/// Whether anybody will see a [`RequestFinished`] of this route, in the access log or passing: ask before making its
/// strings.
pub fn is_seen(route: &RouteMetrics) -> bool {
    tracing::enabled!(target: ACCESS, tracing::Level::INFO) || route.looked_at()
}

/// A request's answer ended, however it ended. One a request, which may be counted first and told a moment later.
#[derive(Debug)]
pub struct RequestFinished<'a> {
    /// Its route.
    pub route: &'a RouteMetrics,
    /// Its method.
    pub method: &'a str,
    /// The status the application got; 0 when it left before there was one.
    pub status: u16,
    /// `forwarded`, or why Sentinel answered itself, or `cancelled`.
    pub outcome: &'static str,
    /// The whole of it.
    pub took: Duration,
    /// Sentinel's own part, up to the answer's first write, where a gateway was asked and the request was timed.
    pub overhead: Option<Duration>,
    /// The gateway that answered or failed last.
    pub gateway: &'a str,
    /// The path without query; only looked at for the access log.
    pub path: &'a str,
    /// Attempts made.
    pub attempts: u32,
    /// Its trace.
    pub trace: Option<TraceContext>,
}

impl RequestFinished<'_> {
    /// Counts it.
    pub fn count(&self) {
        self.route.answered(self.method, self.status, self.outcome);
        self.route.finished(self.outcome, self.took);
    }

    /// Logs it, and Sentinel's own part.
    pub fn tell(self) {
        if let Some(overhead) = self.overhead {
            self.route.overhead.observe(overhead.as_secs_f64());
        }
        self.route.tap.show(|| Passed {
            route: self.route.name().to_owned(),
            gateway: self.gateway.to_owned(),
            method: self.method.to_owned(),
            path: self.path.to_owned(),
            status: Some(self.status),
            outcome: self.outcome,
            attempts: Some(self.attempts),
            took_ms: Some(ms(self.took)),
            overhead_ms: self.overhead.map(ms),
            trace_id: self.trace.map(|trace| trace.id().to_string()).unwrap_or_default(),
            ..Passed::now("request")
        });
        if let (Some(spans), Some(context)) = (&self.route.spans, self.trace) {
            spans.record(context, || self.span(context));
        }
        tracing::info!(
            target: ACCESS,
            route = self.route.name(),
            method = self.method,
            path = self.path,
            status = self.status,
            outcome = self.outcome,
            gateway = self.gateway,
            attempts = self.attempts,
            took_ms = ms(self.took),
            overhead_ms = self.overhead.map(ms),
            trace_id = self.trace.map(|trace| tracing::field::display(trace.id())),
            "request"
        );
    }

    fn span(&self, context: TraceContext) -> Span {
        // A label, because a method is the client's word and a span's name must not be.
        let method = Method::of(self.method).name();
        let mut attributes = vec![
            ("http.request.method", method.into()),
            ("sentinel.route", self.route.name().into()),
            ("sentinel.gateway", self.gateway.into()),
            ("sentinel.outcome", self.outcome.into()),
            ("sentinel.attempts", Value::Number(self.attempts.into())),
        ];
        if self.status != 0 {
            attributes.push(("http.response.status_code", Value::Number(self.status.into())));
        }
        if let Some(overhead) = self.overhead {
            let micros = i64::try_from(overhead.as_micros()).unwrap_or(i64::MAX);
            attributes.push(("sentinel.overhead_us", Value::Number(micros)));
        }
        Span {
            context,
            name: format!("{method} {}", self.route.name()),
            side: Side::Server,
            ended: SystemTime::now(),
            took: self.took,
            attributes,
            failed: self.status >= 500 || self.status == 0,
        }
    }
}

/// An attempt at a gateway ended.
#[derive(Debug)]
pub struct AttemptFinished<'a> {
    /// Route and gateway.
    pub at: &'a GatewayMetrics,
    /// What it was for.
    pub kind: Kind,
    /// `answered`, `cancelled` because another answer came first, or the phase that failed.
    pub result: &'static str,
    /// Up to the head of the answer.
    pub took: Duration,
    /// For failures: whether it may have arrived (`not_sent`, `unknown`).
    pub sent: &'static str,
    /// For failures: bytes handed to the transport.
    pub bytes_sent: u64,
    /// For failures: what happened, for people.
    pub note: &'a str,
    /// For answers: the status.
    pub status: Option<u16>,
    /// Its own span, below the request's.
    pub trace: Option<TraceContext>,
}

impl AttemptFinished<'_> {
    /// Logs failures, counts all.
    pub fn emit(self) {
        self.at.attempt(self.kind, self.result, self.took);
        if let (Some(spans), Some(context)) = (&self.at.spans, self.trace) {
            spans.record(context, || self.span(context));
        }
        if !matches!(self.result, "answered" | "cancelled") {
            tracing::info!(
                route = self.at.route(),
                gateway = self.at.name(),
                kind = self.kind.name(),
                result = self.result,
                sent = self.sent,
                bytes_sent = self.bytes_sent,
                took_ms = ms(self.took),
                note = self.note,
                trace_id = self.trace.map(|trace| tracing::field::display(trace.id())),
                "attempt failed"
            );
            if let Some(tap) = &self.at.tap {
                tap.show(|| Passed {
                    route: self.at.route().to_owned(),
                    gateway: self.at.name().to_owned(),
                    outcome: self.result,
                    took_ms: Some(ms(self.took)),
                    note: format!("{} attempt, {}: {}", self.kind.name(), self.sent, self.note),
                    trace_id: self.trace.map(|trace| trace.id().to_string()).unwrap_or_default(),
                    ..Passed::now("attempt")
                });
            }
        }
    }

    fn span(&self, context: TraceContext) -> Span {
        let mut attributes = vec![
            ("sentinel.route", self.at.route().into()),
            ("sentinel.gateway", self.at.name().into()),
            ("sentinel.attempt", self.kind.name().into()),
        ];
        match self.status {
            Some(status) => attributes.push(("http.response.status_code", Value::Number(status.into()))),
            None => {
                attributes.push(("error.type", self.result.into()));
                attributes.push(("sentinel.sent", self.sent.into()));
            }
        }
        Span {
            context,
            name: format!("{} {}", self.kind.name(), self.at.name()),
            side: Side::Client,
            ended: SystemTime::now(),
            took: self.took,
            attributes,
            failed: self.result != "cancelled" && self.status.is_none_or(|status| status >= 400),
        }
    }
}

/// A breaker changed its state.
#[derive(Debug)]
pub struct BreakerChanged<'a> {
    /// Route and gateway.
    pub at: &'a GatewayMetrics,
    /// Before.
    pub from: &'static str,
    /// After.
    pub to: &'static str,
    /// Why.
    pub reason: &'static str,
    /// The gauge: 0 closed, 1 half-open, 2 open.
    pub level: i64,
    /// How long it stays open.
    pub open_for: Option<Duration>,
    /// What the operator wrote.
    pub note: Option<&'a str>,
}

impl BreakerChanged<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.at.transition(self.from, self.to, self.reason, self.level);
        tracing::warn!(
            route = self.at.route(),
            gateway = self.at.name(),
            from = self.from,
            to = self.to,
            reason = self.reason,
            open_for_ms = self.open_for.map(ms),
            note = self.note,
            "circuit breaker changed its state"
        );
        if let Some(tap) = &self.at.tap {
            tap.show(|| Passed {
                route: self.at.route().to_owned(),
                gateway: self.at.name().to_owned(),
                outcome: self.to,
                note: format!("was {}: {}", self.from, self.reason),
                ..Passed::now("breaker")
            });
        }
    }
}

/// An operator's fault struck an attempt.
#[derive(Debug)]
pub struct FaultStruck<'a> {
    /// Its route.
    pub route: &'a RouteMetrics,
    /// The gateway that was meant.
    pub gateway: &'a str,
    /// What went wrong.
    pub effect: &'static str,
}

impl FaultStruck<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.route.fault(self.gateway, self.effect);
        tracing::info!(
            route = self.route.name(),
            gateway = self.gateway,
            effect = self.effect,
            "fault injected"
        );
    }
}

/// An operator set a fault or took it away, it ended, or it is still there.
#[derive(Debug)]
pub struct FaultChanged<'a> {
    /// `set`, `removed`, `over` or `active`.
    pub change: &'static str,
    /// Its number.
    pub id: u64,
    /// Its route.
    pub route: &'a str,
    /// What goes wrong.
    pub effect: &'static str,
    /// How often it has struck.
    pub struck: u64,
}

impl FaultChanged<'_> {
    /// Logs.
    pub fn emit(self) {
        tracing::warn!(
            change = self.change,
            id = self.id,
            route = self.route,
            effect = self.effect,
            struck = self.struck,
            "fault injection"
        );
    }
}

/// A request was turned away for want of a place.
#[derive(Debug)]
pub struct RequestShed<'a> {
    /// Its route.
    pub route: &'a RouteMetrics,
    /// Why.
    pub reason: &'static str,
}

impl RequestShed<'_> {
    /// Counts; a line for each would make overload worse.
    pub fn emit(self) {
        self.route.shed(self.reason);
        tracing::debug!(route = self.route.name(), reason = self.reason, "request shed");
    }
}

/// A request reached no route, or its head broke the rules.
#[derive(Debug)]
pub struct HeadRejected<'a> {
    /// The registry.
    pub metrics: &'a Metrics,
    /// Why, of a closed set.
    pub reason: &'static str,
    /// More, of a closed set, or empty.
    pub detail: &'static str,
}

impl HeadRejected<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.metrics.unrouted.with(&[self.reason]).inc();
        tracing::info!(reason = self.reason, detail = self.detail, "request rejected");
        self.metrics.tap.show(|| Passed {
            outcome: self.reason,
            note: self.detail.to_owned(),
            ..Passed::now("rejected")
        });
    }
}

/// The tenants' API answered.
#[derive(Debug)]
pub struct ApiAnswered<'a> {
    /// The registry.
    pub metrics: &'a Metrics,
    /// The endpoint's name in the API's document, or `none`.
    pub endpoint: &'static str,
    /// The answer's status.
    pub status: u16,
    /// From the whole request to the answer's head.
    pub took: Duration,
    /// What the answer calls itself.
    pub request_id: &'a str,
}

impl ApiAnswered<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        let code = self.status.to_string();
        self.metrics.api_requests.with(&[self.endpoint, &code]).inc();
        let seconds = self.took.as_secs_f64();
        self.metrics.api_durations.with(&[self.endpoint]).observe(seconds);
        tracing::debug!(
            target: "api",
            endpoint = self.endpoint,
            status = self.status,
            took_ms = seconds * 1e3,
            request_id = self.request_id,
            "answered a tenant"
        );
    }
}

/// A reload ended.
#[derive(Debug)]
pub struct Reloaded<'a> {
    /// The registry.
    pub metrics: &'a Metrics,
    /// What asked for it.
    pub trigger: &'static str,
    /// `applied`, `unchanged` or `rejected`.
    pub result: &'static str,
    /// The configuration in force afterwards.
    pub hash: &'a str,
    /// What changed.
    pub changes: &'a [String],
    /// Why it was rejected.
    pub problems: &'a [String],
    /// Seconds of Unix time.
    pub at: u64,
}

impl Reloaded<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        self.metrics.reloads.with(&[self.result]).inc();
        self.metrics.config_in_force(self.hash);
        if self.problems.is_empty() {
            self.metrics.reloaded_at.set(i64::try_from(self.at).unwrap_or(i64::MAX));
            tracing::info!(
                trigger = self.trigger,
                result = self.result,
                hash = self.hash,
                changes = ?self.changes,
                "configuration loaded"
            );
        } else {
            tracing::error!(
                trigger = self.trigger,
                problems = ?self.problems,
                "the new configuration was rejected; the old one stays in force"
            );
        }
    }
}

/// Stopping, step by step.
#[derive(Debug)]
pub struct Draining {
    /// `unready`, `closing`, `overdue` or `done`.
    pub stage: &'static str,
}

impl Draining {
    /// Logs.
    pub fn emit(self) {
        tracing::info!(stage = self.stage, "stopping");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_key_is_found_by_its_hash_and_not_used_by_it() {
        let hash = KeyHash::of("order-1").to_string();
        assert_eq!(hash.len(), 16);
        assert_eq!(hash, KeyHash::of("order-1").to_string());
        assert_ne!(hash, KeyHash::of("order-2").to_string());
    }

    #[test]
    fn events_count() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let route = metrics.route("checkout");
        let finished = RequestFinished {
            route: &route,
            method: "POST",
            status: 200,
            outcome: "forwarded",
            took: Duration::from_millis(80),
            overhead: Some(Duration::from_micros(60)),
            gateway: "stripe",
            path: "/v1/charges",
            attempts: 1,
            trace: Some(TraceContext::fresh()),
        };
        finished.count();
        finished.tell();
        AttemptFinished {
            at: &route.gateway("stripe"),
            kind: Kind::First,
            result: "connect",
            took: Duration::from_millis(1),
            sent: "not_sent",
            bytes_sent: 0,
            note: "refused",
            status: None,
            trace: None,
        }
        .emit();
        Recovered {
            route: &route,
            payment: "p",
            gateway: "adyen",
            took: Duration::from_millis(1850),
        }
        .emit();
        let owed = |result| ObligationChanged {
            metrics: &metrics,
            payment: "p",
            gateway: "adyen",
            leg: "void",
            result,
        };
        owed("opened").emit();
        owed("opened").emit();
        owed("proven").emit();
        let text = metrics.text();
        for line in [
            r#"sentinel_requests_total{code="200",method="POST",outcome="forwarded",route="checkout"} 1"#,
            r#"sentinel_request_duration_seconds_count{outcome="forwarded",route="checkout"} 1"#,
            r#"sentinel_overhead_seconds_bucket{route="checkout",le="0.0001"} 1"#,
            r#"sentinel_upstream_attempts_total{gateway="stripe",kind="first",result="connect",route="checkout"} 1"#,
            r#"sentinel_payment_recovery_seconds_sum{gateway="adyen",route="checkout"} 1.85"#,
            r#"sentinel_obligations_total{gateway="adyen",leg="void",result="proven"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
