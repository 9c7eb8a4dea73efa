//! One gateway's connections, as counted by every worker: what a connection touches, never a request.

use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus::{Histogram, IntGauge};

use super::metrics::Metrics;

/// One gateway's handles. Workers share the series: gauges are moved by differences.
#[derive(Debug)]
pub struct UpstreamMetrics {
    gateway: String,
    all: Weak<Metrics>,
    idle: IntGauge,
    busy: IntGauge,
    connect_duration: Histogram,
}

impl UpstreamMetrics {
    pub(super) fn new(all: &Arc<Metrics>, gateway: &str) -> Self {
        Self {
            gateway: gateway.to_owned(),
            all: Arc::downgrade(all),
            idle: all.pool_connections.with(&[gateway, "idle"]),
            busy: all.pool_connections.with(&[gateway, "busy"]),
            connect_duration: all.connect_durations.with(&[gateway]),
        }
    }

    /// One worker's connections changed: (idle, busy) before and now.
    pub fn pool(&self, before: (usize, usize), now: (usize, usize)) {
        let moved = |gauge: &IntGauge, before: usize, now: usize| {
            if before != now {
                gauge.add(now as i64 - before as i64);
            }
        };
        moved(&self.idle, before.0, now.0);
        moved(&self.busy, before.1, now.1);
    }

    /// A connection was made, or could not be: `ok`, or the phase that failed.
    pub fn connected(&self, result: &'static str, took: Duration) {
        if result == "ok" {
            self.connect_duration.observe(took.as_secs_f64());
        }
        if let Some(all) = self.all.upgrade() {
            all.connects.with(&[&self.gateway, result]).inc();
        }
    }

    /// A TLS handshake was done.
    pub fn handshake(&self, version: &'static str, resumed: bool) {
        if let Some(all) = self.all.upgrade() {
            let resumed = if resumed { "true" } else { "false" };
            all.tls_handshakes.with(&[&self.gateway, version, resumed]).inc();
        }
    }

    /// The gateway's name was looked up: `ok`, `failed`, or `stale` when an old answer is used on.
    pub fn looked_up(&self, result: &'static str) {
        if let Some(all) = self.all.upgrade() {
            all.dns_lookups.with(&[&self.gateway, result]).inc();
        }
    }
}
