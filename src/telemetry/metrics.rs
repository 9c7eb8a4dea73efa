//! Every metric that Sentinel exports, registered once.
//!
//! Names follow Prometheus' conventions (base units, `_total`), labels are closed sets: names from the configuration
//! and this crate's own enums; never a path, a host or an id. Handles are resolved when routes are built
//! ([`RouteMetrics`]), so that a request touches atomics only: a look-up by label costs 85 to 230 ns each, a handle a
//! few. Series go away with their route and gateway.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Encoder, Histogram, IntCounter, IntGauge, TextEncoder};

use super::families::{
    Catalogue, Counters, Described, Gauges, Histograms, Type, counter, counters, gauge, gauges, histogram, histograms,
};
use super::process::Process;
use super::route::RouteMetrics;
use super::spans::Spans;
use super::tap::Tap;
use super::upstream::UpstreamMetrics;

/// Seconds. From a local refusal to a gateway's slowest answer.
const DURATION: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Seconds of Sentinel's own time in a request, and of the ledger's commits.
const OVERHEAD: [f64; 10] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05,
];

/// Every family.
#[derive(Debug)]
pub struct Metrics {
    registry: Catalogue,
    routes: Mutex<BTreeMap<String, Arc<RouteMetrics>>>,
    /// Where events are shown to whoever looks.
    pub tap: Arc<Tap>,
    pub(super) spans: Option<Spans>,

    pub(super) requests: Counters,
    pub(super) durations: Histograms,
    pub(super) overhead: Histograms,
    pub(super) attempts: Counters,
    pub(super) attempt_durations: Histograms,
    pub(super) breaker_state: Gauges,
    pub(super) breaker_transitions: Counters,
    pub(super) breaker_rejected: Counters,
    pub(super) retry_budget: Gauges,
    pub(super) retries_skipped: Counters,
    pub(super) hedges: Counters,
    pub(super) faults: Counters,
    pub(super) faults_active: Gauges,
    pub(super) shed: Counters,
    pub(super) inflight: Gauges,
    pub(super) waiting: Gauges,

    pub(super) payments: Counters,
    pub(super) failovers: Counters,
    pub(super) failovers_refused: Counters,
    pub(super) plan_refusals: Counters,
    pub(super) recovery: Histograms,
    pub(super) in_doubt: Gauges,
    pub(super) in_doubt_total: Counters,
    pub(super) obligations_open: Gauges,
    pub(super) obligations: Counters,
    pub(super) replays: Counters,
    pub(super) webhooks: Counters,
    pub(super) notifications: Counters,
    notifications_kept: Gauges,

    /// Connections to gateways: `state` is `idle` or `busy`.
    pub pool_connections: Gauges,
    /// Connections made: `result` is `ok` or the phase that failed.
    pub connects: Counters,
    /// TLS handshakes done: `resumed` is `true` or `false`.
    pub tls_handshakes: Counters,
    /// Seconds from looking up the name to a usable connection.
    pub connect_durations: Histograms,
    /// Names looked up: `result` is `ok`, `stale` (served from the past) or `failed`.
    pub dns_lookups: Counters,

    /// Connections from applications.
    pub connections: IntGauge,
    /// Connections from applications that were turned away, and requests that reached no route, by reason.
    pub unrouted: Counters,
    /// Reloads by result.
    pub reloads: Counters,
    /// When the configuration in force was loaded, seconds of Unix time.
    pub reloaded_at: IntGauge,
    config_info: Gauges,
    /// Seconds a durable write took, waiting for its group included.
    pub ledger_commit: Histogram,
    /// Trouble with the ledger, by kind.
    pub ledger_errors: Counters,
    /// What waited in the ledger for a second step, in vain, and was removed.
    pub ledger_swept: IntCounter,
    pub(super) api_requests: Counters,
    pub(super) api_durations: Histograms,
    /// Log lines that were dropped because the reader of the log was too slow.
    pub log_dropped: IntCounter,
    /// Spans by what became of them: `exported`, `queue_full`, `failed`.
    pub trace_spans: Counters,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Never in practice: only when two families had one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let r = Catalogue::default();
        let metrics = Self {
            routes: Mutex::default(),
            tap: Arc::default(),
            spans: None,
            requests: counters(
                &r,
                "requests_total",
                "Requests answered. The outcome is `forwarded` for a gateway's own answer, else why Sentinel answered.",
                &["route", "method", "code", "outcome"],
            )?,
            durations: histograms(
                &r,
                "request_duration_seconds",
                "From a request's head to the end of its answer.",
                &["route", "outcome"],
                &DURATION,
            )?,
            overhead: histograms(
                &r,
                "overhead_seconds",
                "Sentinel's own part of a request: from when the kernel had its bytes to when it is written to the gateway, \
                 and from when the kernel had the answer to when it is written to the application. Of every request up to \
                 about 2,000 a second and worker, of a sample beyond; over HTTP/2 as far as it is known.",
                &["route"],
                &OVERHEAD,
            )?,
            attempts: counters(
                &r,
                "upstream_attempts_total",
                "Attempts at gateways, by kind and result.",
                &["route", "gateway", "kind", "result"],
            )?,
            attempt_durations: histograms(
                &r,
                "upstream_attempt_duration_seconds",
                "From sending an attempt to the head of its answer, or to its failure.",
                &["route", "gateway"],
                &DURATION,
            )?,
            breaker_state: gauges(
                &r,
                "breaker_state",
                "Circuit breakers: 0 closed, 1 half-open, 2 open.",
                &["route", "gateway"],
            )?,
            breaker_transitions: counters(
                &r,
                "breaker_transitions_total",
                "Changes of a breaker's state.",
                &["route", "gateway", "from", "to", "reason"],
            )?,
            breaker_rejected: counters(
                &r,
                "breaker_rejected_total",
                "Attempts that an open breaker did not let through.",
                &["route", "gateway"],
            )?,
            retry_budget: gauges(
                &r,
                "retry_budget_remaining",
                "Retries that the budget would allow now.",
                &["route"],
            )?,
            retries_skipped: counters(
                &r,
                "retries_skipped_total",
                "Failed attempts that were not repeated, by reason.",
                &["route", "reason"],
            )?,
            hedges: counters(
                &r,
                "hedges_total",
                "Reads that were late: what became of the second request, or why there was none.",
                &["route", "result"],
            )?,
            faults: counters(
                &r,
                "faults_injected_total",
                "Attempts that an operator's fault struck, by effect.",
                &["route", "gateway", "effect"],
            )?,
            faults_active: gauges(
                &r,
                "faults_active",
                "Faults that an operator has set and that are not over.",
                &["route"],
            )?,
            shed: counters(
                &r,
                "shed_total",
                "Requests turned away for want of a place, by reason.",
                &["route", "reason"],
            )?,
            inflight: gauges(&r, "inflight", "Requests in flight.", &["route"])?,
            waiting: gauges(&r, "waiting", "Requests waiting for a place.", &["route"])?,
            payments: counters(
                &r,
                "payments_total",
                "Payments answered, by the gateway that decided and what the application was told.",
                &["route", "gateway", "outcome"],
            )?,
            failovers: counters(
                &r,
                "failovers_total",
                "Payments taken at another gateway, by what the first one's attempt proved.",
                &["route", "from", "to", "reason"],
            )?,
            recovery: histograms(
                &r,
                "payment_recovery_seconds",
                "From the first gateway's failure to the answer of a payment that another gateway, named here, took.",
                &["route", "gateway"],
                &DURATION,
            )?,
            failovers_refused: counters(
                &r,
                "failovers_refused_total",
                "Payments that were not taken elsewhere although the first gateway failed, by reason.",
                &["route", "reason"],
            )?,
            plan_refusals: counters(
                &r,
                "plan_refusals_total",
                "Payments that a gateway of the route was no good for: left out of the plan, or put last, by reason.",
                &["route", "gateway", "reason"],
            )?,
            in_doubt: gauges(
                &r,
                "payments_in_doubt",
                "Payments whose outcome is not proven yet.",
                &["route"],
            )?,
            in_doubt_total: counters(
                &r,
                "payments_in_doubt_total",
                "Payments that came into doubt, by the gateway that left them so.",
                &["route", "gateway"],
            )?,
            obligations_open: gauges(
                &r,
                "obligations_open",
                "Voids and refunds that Sentinel owes and has not proven yet, as the ledger counts them.",
                &["route"],
            )?,
            obligations: counters(
                &r,
                "obligations_total",
                "Voids and refunds that Sentinel owed, by how they ended.",
                &["gateway", "leg", "result"],
            )?,
            replays: counters(
                &r,
                "idempotency_replays_total",
                "Requests answered from the ledger because their payment was finished.",
                &["route"],
            )?,
            webhooks: counters(
                &r,
                "webhooks_total",
                "Webhooks of gateways: brought to a payment, of no use, or why they were refused.",
                &["gateway", "result"],
            )?,
            notifications: counters(
                &r,
                "notifications_total",
                "Webhooks to applications: what became of each delivery.",
                &["route", "result"],
            )?,
            notifications_kept: gauges(
                &r,
                "notifications",
                "Webhooks that applications have not taken: waiting for their next delivery, or given up (dead).",
                &["route", "state"],
            )?,
            pool_connections: gauges(
                &r,
                "pool_connections",
                "Connections to gateways, by state.",
                &["gateway", "state"],
            )?,
            connects: counters(
                &r,
                "upstream_connects_total",
                "Connections made to gateways, by result.",
                &["gateway", "result"],
            )?,
            connect_durations: histograms(
                &r,
                "upstream_connect_duration_seconds",
                "From looking up a gateway's name to a usable connection.",
                &["gateway"],
                &DURATION,
            )?,
            tls_handshakes: counters(
                &r,
                "tls_handshakes_total",
                "TLS handshakes with gateways.",
                &["gateway", "version", "resumed"],
            )?,
            dns_lookups: counters(
                &r,
                "dns_lookups_total",
                "Look-ups of gateways' names, by result.",
                &["gateway", "result"],
            )?,
            connections: gauge(&r, "connections", "Connections from applications.")?,
            unrouted: counters(
                &r,
                "unrouted_total",
                "Requests that reached no route, by reason.",
                &["reason"],
            )?,
            reloads: counters(
                &r,
                "config_reload_total",
                "Reloads of the configuration, by result.",
                &["result"],
            )?,
            reloaded_at: gauge(
                &r,
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in force was loaded.",
            )?,
            config_info: gauges(
                &r,
                "config_info",
                "Constant 1, with the SHA-256 of the configuration in force.",
                &["hash"],
            )?,
            ledger_commit: histogram(
                &r,
                "ledger_commit_seconds",
                "Seconds a durable write took, waiting for its group included.",
                &OVERHEAD,
            )?,
            ledger_errors: counters(
                &r,
                "ledger_errors_total",
                "Trouble with the ledger, by kind.",
                &["kind"],
            )?,
            ledger_swept: counter(
                &r,
                "ledger_swept_total",
                "Objects opened here that nobody paid in their time, and payments past their retention, removed from the ledger.",
            )?,
            api_requests: counters(
                &r,
                "api_requests_total",
                "Requests to the tenants' API answered, by the endpoint's name in its document; `none` for what is none.",
                &["endpoint", "code"],
            )?,
            api_durations: histograms(
                &r,
                "api_request_duration_seconds",
                "From a whole request to the tenants' API to its answer's head.",
                &["endpoint"],
                &DURATION,
            )?,
            log_dropped: counter(
                &r,
                "log_lines_dropped_total",
                "Log lines dropped because whoever reads the log was too slow.",
            )?,
            trace_spans: counters(
                &r,
                "trace_spans_total",
                "Spans of kept traces, by what became of them.",
                &["result"],
            )?,
            registry: r,
        };
        let build = gauges(
            &metrics.registry,
            "build_info",
            "Constant 1, with the version.",
            &["version"],
        )?;
        build.with(&[env!("CARGO_PKG_VERSION")]).set(1);
        let process = Process::new()?;
        metrics.registry.register(Box::new(process), Type::Gauge)?;
        Ok(metrics)
    }

    /// With spans recorded too, of routes that are made from now on.
    #[must_use]
    pub fn recording(mut self, spans: Spans) -> Self {
        self.spans = Some(spans);
        self
    }

    /// Every family, those without series included.
    pub fn described(&self) -> Vec<Described> {
        self.registry.described()
    }

    /// The handles of one route: the same ones for as long as the route stays.
    pub fn route(self: &Arc<Self>, route: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let handles = routes
            .entry(route.to_owned())
            .or_insert_with(|| Arc::new(RouteMetrics::new(self, route)));
        Arc::clone(handles)
    }

    /// The handles of one gateway's connections. Resolve once, where its pool is made.
    pub fn upstream(self: &Arc<Self>, gateway: &str) -> Arc<UpstreamMetrics> {
        Arc::new(UpstreamMetrics::new(self, gateway))
    }

    pub(super) fn has_route(&self, route: &str) -> bool {
        self.routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(route)
    }

    /// Tells which configuration is in force.
    pub fn config_in_force(&self, hash: &str) {
        self.config_info.forget(|label| label("hash").as_deref() != Some(hash));
        self.config_info.with(&[hash]).set(1);
    }

    /// Takes away the series of a route that is gone. Requests still in flight on it count into the void.
    pub fn forget_route(&self, route: &str) {
        let gone = self.routes.lock().unwrap_or_else(PoisonError::into_inner).remove(route);
        if let Some(gone) = gone {
            gone.retire();
        }
        self.forget("route", route);
    }

    /// How many webhooks an application has not taken, by `state`.
    pub fn notifications(&self, route: &str, state: &str, count: i64) {
        self.notifications_kept.with(&[route, state]).set(count);
    }

    /// Takes away the series of a gateway that is gone.
    pub fn forget_gateway(&self, gateway: &str) {
        {
            let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
            for route in routes.values() {
                route.forget_gateway(gateway);
            }
        }
        self.forget("gateway", gateway);
        // Not the breaker's `from` and `to`: those are states, and a gateway may be named like one.
        self.failovers.forget(|label| {
            [label("from"), label("to")]
                .iter()
                .any(|end| end.as_deref() == Some(gateway))
        });
    }

    fn forget(&self, label: &str, value: &str) {
        for family in self.all_counters().into_iter().filter(|family| family.has(label)) {
            family.forget(|of| of(label).as_deref() == Some(value));
        }
        for family in self.all_gauges().into_iter().filter(|family| family.has(label)) {
            family.forget(|of| of(label).as_deref() == Some(value));
        }
        for family in self.all_histograms().into_iter().filter(|family| family.has(label)) {
            family.forget(|of| of(label).as_deref() == Some(value));
        }
    }

    fn all_counters(&self) -> [&Counters; 18] {
        [
            &self.requests,
            &self.attempts,
            &self.breaker_transitions,
            &self.breaker_rejected,
            &self.retries_skipped,
            &self.hedges,
            &self.faults,
            &self.shed,
            &self.payments,
            &self.failovers,
            &self.failovers_refused,
            &self.plan_refusals,
            &self.in_doubt_total,
            &self.obligations,
            &self.replays,
            &self.connects,
            &self.tls_handshakes,
            &self.dns_lookups,
        ]
    }

    fn all_gauges(&self) -> [&Gauges; 8] {
        [
            &self.breaker_state,
            &self.retry_budget,
            &self.faults_active,
            &self.inflight,
            &self.waiting,
            &self.in_doubt,
            &self.obligations_open,
            &self.pool_connections,
        ]
    }

    fn all_histograms(&self) -> [&Histograms; 5] {
        [
            &self.recovery,
            &self.durations,
            &self.overhead,
            &self.attempt_durations,
            &self.connect_durations,
        ]
    }

    /// The text that Prometheus scrapes (text format 0.0.4).
    pub fn text(&self) -> String {
        let mut buffer = Vec::with_capacity(16 * 1024);
        match TextEncoder::new().encode(&self.registry.gather(), &mut buffer) {
            Ok(()) => String::from_utf8(buffer).unwrap_or_default(),
            Err(error) => format!("# {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::Kind;

    fn fill(metrics: &Arc<Metrics>, route: &str, gateway: &str) -> Arc<RouteMetrics> {
        let handles = metrics.route(route);
        handles.answered("POST", 200, "forwarded");
        handles.answered("POST", 503, "circuit_open");
        handles.finished("forwarded", std::time::Duration::from_millis(3));
        handles.overhead.observe(0.000_2);
        handles.retry_skipped("budget");
        handles.shed("queue_full");
        handles.hedge("won");
        let at = handles.gateway(gateway);
        at.attempt(Kind::First, "answered", std::time::Duration::from_millis(2));
        at.transition("closed", "open", "consecutive", 2);
        at.rejected();
        handles.failover(gateway, "other", "not_sent");
        handles
    }

    #[test]
    fn series_die_with_their_route_and_only_with_it() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let gone = fill(&metrics, "checkout", "stripe");
        fill(&metrics, "billing", "stripe");
        let before = metrics.text();
        assert!(before.contains(r#"route="checkout""#) && before.contains(r#"route="billing""#));
        metrics.forget_route("checkout");
        let after = metrics.text();
        assert!(!after.contains("checkout"), "{after}");
        assert_eq!(
            before.matches(r#"route="billing""#).count(),
            after.matches(r#"route="billing""#).count()
        );

        // A request that was in flight brings nothing back.
        gone.answered("GET", 404, "forwarded");
        gone.answered("GET", 503, "dns");
        gone.shed("draining");
        gone.gateway("adyen")
            .attempt(Kind::Retry, "dns", std::time::Duration::ZERO);
        assert!(!metrics.text().contains("checkout"));

        // The route coming back begins anew.
        metrics.route("checkout").answered("GET", 200, "forwarded");
        let again = r#"sentinel_requests_total{code="200",method="GET",outcome="forwarded",route="checkout"} 1"#;
        assert!(metrics.text().contains(again), "{}", metrics.text());
    }

    #[test]
    fn no_client_can_make_more_series_than_the_closed_sets_allow() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let route = metrics.route("checkout");
        let count = |metrics: &Metrics| {
            let text = metrics.text();
            text.lines()
                .filter(|line| line.starts_with("sentinel_requests_total"))
                .count()
        };
        // Whatever methods and statuses peers make up.
        for status in 0..=u16::MAX {
            route.answered("POST", status, "forwarded");
        }
        for number in 0..10_000 {
            route.answered(&format!("M{number}"), 200, "forwarded");
            route.answered(&format!("M{number}"), 200, "circuit_open");
        }
        let bound = crate::telemetry::labels::CODE_LABELS + 2;
        assert!(count(&metrics) <= bound, "{} series, {bound} allowed", count(&metrics));
        // No other family has a label that does not come from the configuration or from this crate's own words.
        for family in metrics.described() {
            for label in &family.labels {
                assert!(
                    [
                        "route", "gateway", "method", "code", "outcome", "kind", "result", "from", "to", "reason",
                        "leg", "state", "version", "resumed", "hash", "effect", "endpoint",
                    ]
                    .contains(&label.as_str()),
                    "{}: is {label} a closed set?",
                    family.name
                );
            }
        }
    }

    #[test]
    fn series_die_with_their_gateway() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let handles = fill(&metrics, "checkout", "stripe");
        fill(&metrics, "checkout", "closed");
        metrics.pool_connections.with(&["stripe", "idle"]).set(3);
        metrics.forget_gateway("stripe");
        let text = metrics.text();
        assert!(!text.contains("stripe"), "{text}");
        assert!(text.contains(r#"from="closed""#), "a state is not a gateway");
        assert!(text.contains(r#"gateway="closed""#));
        handles
            .gateway("stripe")
            .attempt(Kind::First, "answered", std::time::Duration::ZERO);
        assert!(metrics.text().contains(r#"gateway="stripe""#), "it may come back");
    }

    #[test]
    fn one_configuration_is_in_force() {
        let metrics = Metrics::new().unwrap();
        metrics.config_in_force("aa");
        metrics.config_in_force("bb");
        let text = metrics.text();
        assert!(text.contains(r#"sentinel_config_info{hash="bb"} 1"#) && !text.contains(r#"hash="aa""#));
    }

    #[test]
    fn methods_and_statuses_from_outside_make_no_endless_series() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let handles = metrics.route("r");
        for status in 0..2000 {
            for method in ["GET", "MKCOL", "X-EVIL"] {
                handles.answered(method, status, "forwarded");
            }
        }
        assert!(metrics.text().matches("sentinel_requests_total{").count() <= 2 * 36);
    }

    #[test]
    fn every_name_keeps_the_conventions() {
        let metrics = Arc::new(Metrics::new().unwrap());
        fill(&metrics, "checkout", "stripe");
        for family in metrics.registry.gather() {
            let (name, kind) = (family.name(), family.get_field_type());
            assert!(name.starts_with("sentinel_") || name.starts_with("process_"), "{name}");
            assert_eq!(
                name.ends_with("_total"),
                kind == prometheus::proto::MetricType::COUNTER,
                "{name}"
            );
            assert!(!family.help().is_empty() && family.help().ends_with('.'), "{name}");
        }
    }
}
