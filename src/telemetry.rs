//! Metrics and logs. Handles are resolved when routes are built; a request touches atomics only.
//!
//! Labels are closed sets: route and gateway names from the configuration, and this crate's own enums. Series go away
//! with their route.

use std::sync::Arc;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::config::model::Log;

/// Seconds. From a local refusal to a gateway's slowest answer.
const DURATION: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Seconds of Sentinel's own time in a request.
const OVERHEAD: [f64; 9] = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05];

/// Every family of metrics, registered once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    overhead: HistogramVec,
    attempts: IntCounterVec,
    breaker: IntGaugeVec,
    transitions: IntCounterVec,
    retries_skipped: IntCounterVec,
    shed: IntCounterVec,
    inflight: IntGaugeVec,
    /// Requests that no route owns, or whose head broke the rules.
    pub unrouted: IntCounterVec,
    /// Reloads by result.
    pub reloads: IntCounterVec,
    /// When the configuration in force was loaded, seconds of Unix time.
    pub reloaded_at: IntGauge,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Never in practice: only when two families had one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            requests: counter(
                &registry,
                "requests_total",
                "Requests answered, by status class and outcome.",
                &["route", "code", "outcome"],
            )?,
            durations: histogram(
                &registry,
                "request_duration_seconds",
                "From a request's head to the end of its answer.",
                &["route"],
                &DURATION,
            )?,
            overhead: histogram(
                &registry,
                "overhead_seconds",
                "Sentinel's own part of a request, up to the head of the answer.",
                &["route"],
                &OVERHEAD,
            )?,
            attempts: counter(
                &registry,
                "upstream_attempts_total",
                "Attempts at gateways, by kind and result.",
                &["route", "gateway", "kind", "result"],
            )?,
            breaker: gauge(
                &registry,
                "breaker_state",
                "0 closed, 1 half-open, 2 open.",
                &["route", "gateway"],
            )?,
            transitions: counter(
                &registry,
                "breaker_transitions_total",
                "Changes of a breaker's state.",
                &["route", "gateway", "to", "reason"],
            )?,
            retries_skipped: counter(
                &registry,
                "retries_skipped_total",
                "Failed attempts that were not repeated, by reason.",
                &["route", "reason"],
            )?,
            shed: counter(
                &registry,
                "shed_total",
                "Requests turned away for want of a place, by reason.",
                &["route", "reason"],
            )?,
            inflight: gauge(&registry, "inflight", "Requests in flight.", &["route"])?,
            unrouted: counter(
                &registry,
                "unrouted_total",
                "Requests that reached no route, by reason.",
                &["reason"],
            )?,
            reloads: counter(
                &registry,
                "config_reload_total",
                "Reloads of the configuration, by result.",
                &["result"],
            )?,
            reloaded_at: IntGauge::new(
                "sentinel_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was loaded.",
            )?,
            registry,
        };
        metrics.registry.register(Box::new(metrics.reloaded_at.clone()))?;
        let build = IntGaugeVec::new(
            Opts::new("sentinel_build_info", "Constant 1, with the version."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.registry.register(Box::new(build))?;
        Ok(metrics)
    }

    /// The handles of one route.
    pub fn route(self: &Arc<Self>, route: &str) -> RouteMetrics {
        RouteMetrics {
            duration: self.durations.with_label_values(&[route]),
            overhead: self.overhead.with_label_values(&[route]),
            inflight: self.inflight.with_label_values(&[route]),
            forwarded: std::array::from_fn(|class| {
                self.requests.with_label_values(&[route, CLASSES[class], "forwarded"])
            }),
            route: route.to_owned(),
            all: Arc::clone(self),
        }
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut buffer = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut buffer) {
            Ok(()) => String::from_utf8(buffer).unwrap_or_default(),
            Err(error) => format!("# {error}\n"),
        }
    }

    /// Forgets the series of a route that is gone.
    pub fn forget_route(&self, route: &str) {
        let _ = self.durations.remove_label_values(&[route]);
        let _ = self.overhead.remove_label_values(&[route]);
        let _ = self.inflight.remove_label_values(&[route]);
    }
}

const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

fn class(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class),
        _ => 0,
    }
}

/// One route's handles.
#[derive(Debug)]
pub struct RouteMetrics {
    /// From the head of the request to the end of the answer.
    pub duration: Histogram,
    /// Sentinel's own part.
    pub overhead: Histogram,
    /// Requests in flight.
    pub inflight: IntGauge,
    forwarded: [IntCounter; 6],
    route: String,
    all: Arc<Metrics>,
}

impl RouteMetrics {
    /// An answer of the gateway went back.
    pub fn forwarded(&self, status: u16) {
        self.forwarded[class(status)].inc();
    }

    /// An answer of Sentinel's own went back, for a reason of the closed set.
    pub fn own(&self, status: u16, reason: &'static str) {
        self.all
            .requests
            .with_label_values(&[&self.route, CLASSES[class(status)], reason])
            .inc();
    }

    /// The counter of one kind and result of attempt at one gateway.
    pub fn attempt(&self, gateway: &str, kind: &'static str, result: &'static str) -> IntCounter {
        self.all
            .attempts
            .with_label_values(&[&self.route, gateway, kind, result])
    }

    /// A failed attempt was not repeated.
    pub fn retry_skipped(&self, reason: &'static str) {
        self.all.retries_skipped.with_label_values(&[&self.route, reason]).inc();
    }

    /// A request was turned away.
    pub fn shed(&self, reason: &'static str) {
        self.all.shed.with_label_values(&[&self.route, reason]).inc();
    }

    /// A breaker changed its state: the metric and the log line.
    pub fn transition(&self, gateway: &str, from: &'static str, to: &'static str, reason: &'static str, level: i64) {
        self.all.breaker.with_label_values(&[&self.route, gateway]).set(level);
        self.all
            .transitions
            .with_label_values(&[&self.route, gateway, to, reason])
            .inc();
        tracing::warn!(route = %self.route, gateway, from, to, reason, "circuit breaker changed its state");
    }
}

fn name(short: &str) -> String {
    format!("sentinel_{short}")
}

fn counter(registry: &Registry, short: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    let family = IntCounterVec::new(Opts::new(name(short), help), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn gauge(registry: &Registry, short: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    let family = IntGaugeVec::new(Opts::new(name(short), help), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn histogram(
    registry: &Registry,
    short: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> Result<HistogramVec, prometheus::Error> {
    let family = HistogramVec::new(HistogramOpts::new(name(short), help).buckets(buckets.to_vec()), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

/// Sets up logging for the process: JSON lines or text, on standard error.
///
/// # Errors
/// When the level is not one, or logging was set up before.
pub fn init(log: &Log) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(&log.level).map_err(|error| format!("log.level: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let done = if log.json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(false).try_init()
    };
    done.map_err(|error| error.to_string())
}
