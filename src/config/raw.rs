//! The file as it is typed. Every field has the name that stands in the file; unknown names are refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::model::Dialect;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Worker threads.
    pub workers: Option<usize>,
    /// Listeners that belong to no single route.
    #[serde(default)]
    pub listeners: Listeners,
    /// Gateway accounts by name.
    pub gateways: BTreeMap<String, Gateway>,
    /// Routes; the first that matches owns a request.
    pub routes: Vec<Route>,
    /// Stopping.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// Logs.
    #[serde(default)]
    pub log: Log,
    /// Limits of the process.
    #[serde(default)]
    pub admission: Admission,
    /// Operators' access.
    #[serde(default)]
    pub admin: Admin,
}

/// Listeners that belong to no single route.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    /// Path-prefixed gateways.
    pub shared: Option<String>,
    /// Operators.
    pub admin: Option<String>,
}

/// A gateway account.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its API.
    pub dialect: Dialect,
    /// `https://host[:port][/base]`; `http://` for plaintext.
    pub endpoint: String,
    /// Extra roots, PEM; only these are then trusted.
    pub ca: Option<String>,
    /// Fixed addresses instead of DNS.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether private addresses may be connected to.
    #[serde(default)]
    pub allow_private: bool,
    /// Connections.
    #[serde(default)]
    pub pool: Pool,
}

/// Connections.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Idle connections kept.
    pub max_idle: Option<usize>,
    /// How long.
    pub idle: Option<String>,
    /// Maximum age.
    pub max_age: Option<String>,
    /// Connecting, TLS included.
    pub connect_timeout: Option<String>,
}

/// A route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Unique name.
    pub name: String,
    /// Listener of its own.
    pub listen: Option<String>,
    /// Prefix on the shared listener.
    pub path_prefix: Option<String>,
    /// Host the application must name.
    pub host: Option<String>,
    /// The API that the application speaks.
    pub dialect: Dialect,
    /// Gateways in order.
    pub gateways: Vec<String>,
    /// Circuit breaker.
    #[serde(default)]
    pub breaker: Breaker,
    /// Retries.
    #[serde(default)]
    pub retry: Retry,
    /// Hedged reads.
    #[serde(default)]
    pub hedge: Hedge,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// Timeouts.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// Circuit breaker.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Breaker")]
pub struct Breaker {
    pub consecutive: Option<u32>,
    pub failure_rate: Option<String>,
    pub slow_rate: Option<String>,
    pub slow_after: Option<String>,
    pub window: Option<String>,
    pub min_calls: Option<u32>,
    pub open: Option<String>,
    pub open_max: Option<String>,
    pub half_open_calls: Option<u32>,
}

/// Retries.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Retry")]
pub struct Retry {
    pub budget: Option<String>,
    pub min_per_second: Option<f64>,
    pub max: Option<u32>,
}

/// Hedged reads.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// The latency quantile after which a GET is sent a second time: `p50` to `p99`, or `off`.
    pub reads: Option<String>,
    /// Second requests at most, as a share of reads.
    pub max_extra: Option<String>,
    /// Never sooner than this.
    pub min_delay: Option<String>,
}

/// Limits.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Limits")]
pub struct Limits {
    pub in_flight: Option<usize>,
    pub queue: Option<usize>,
    pub queue_timeout: Option<String>,
    pub adaptive: Option<bool>,
}

/// Timeouts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Timeouts")]
pub struct Timeouts {
    pub response_header: Option<String>,
    pub body_idle: Option<String>,
    pub total: Option<String>,
}

/// Stopping.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Shutdown")]
pub struct Shutdown {
    pub min: Option<String>,
    pub max: Option<String>,
    pub native_sidecar: Option<bool>,
}

/// Logs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Log")]
pub struct Log {
    pub json: Option<bool>,
    pub access: Option<bool>,
    pub level: Option<String>,
}

/// Limits of the process.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Admission")]
pub struct Admission {
    pub connections: Option<usize>,
    pub header_timeout: Option<String>,
    pub head: Option<String>,
}

/// Operators' access.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Admin")]
pub struct Admin {
    pub token: Option<String>,
    #[serde(default)]
    pub hosts: Vec<String>,
}
