//! The validated configuration. Inside Sentinel nothing else is looked at: no strings that stand for something, no
//! option that is always there. Every default's home is `config/load.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The APIs that Sentinel speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Stripe.
    Stripe,
    /// PayPal.
    Paypal,
    /// Braintree.
    Braintree,
    /// Square.
    Square,
    /// Razorpay.
    Razorpay,
    /// Adyen.
    Adyen,
    /// A custom gateway, described by the configuration.
    Custom,
}

impl Dialect {
    /// The name in configuration, labels, ledger and paths.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Paypal => "paypal",
            Self::Braintree => "braintree",
            Self::Square => "square",
            Self::Razorpay => "razorpay",
            Self::Adyen => "adyen",
            Self::Custom => "custom",
        }
    }
}

/// How failover is made safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No failover.
    Off,
    /// Fence the first gateway, then fail over.
    Fence,
    /// Authorise only, one durable winner, capture only the winner.
    Gated,
    /// Fail over, and void or refund the loser later.
    Compensate,
}

/// Everything Sentinel runs by.
#[derive(Clone, Debug)]
pub struct Config {
    /// SHA-256 of the file this came from, hex.
    pub hash: String,
    /// Where Sentinel listens for operators and tenants.
    pub listeners: Listeners,
    /// Worker threads of the data path. Default 1: one worker serves some 30,000 requests a second.
    pub workers: usize,
    /// Gateways by configured name.
    pub gateways: BTreeMap<String, Arc<GatewayConfig>>,
    /// Routes in the order of the file; the first that matches owns a request.
    pub routes: Vec<Arc<Route>>,
    /// Stopping.
    pub shutdown: Shutdown,
    /// Logs.
    pub log: Log,
    /// Admission limits of the process.
    pub admission: Admission,
    /// Operators' access.
    pub admin: Admin,
}

/// Listening addresses that belong to no single route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Tenants' API and path-prefixed gateways.
    pub shared: Option<SocketAddr>,
    /// Operators.
    pub admin: Option<SocketAddr>,
}

/// Named secrets and account identifiers of one gateway. `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, String>);

impl Credentials {
    /// Builds from names and values.
    pub fn new(values: BTreeMap<String, String>) -> Self {
        Self(values)
    }
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
    /// The names present.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One gateway account.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayConfig {
    /// The configured name.
    pub name: String,
    /// Its API.
    pub dialect: Dialect,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Connections.
    pub pool: Pool,
}

/// Where a gateway is. The client never chooses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS, or plaintext where the configuration says so.
    pub tls: bool,
    /// Host name or address: what `Host` and SNI say.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Prefix put before every path; empty or begins with `/` and does not end with one.
    pub base_path: String,
    /// Extra root certificates, PEM. With these, only these are trusted.
    pub ca: Option<PathBuf>,
    /// Fixed addresses instead of DNS, for tests and private endpoints.
    pub addresses: Vec<SocketAddr>,
    /// Whether loopback, link-local and private addresses may be connected to.
    pub allow_private: bool,
}

/// Connection pool of one gateway and worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Idle connections kept.
    pub max_idle: usize,
    /// How long an idle connection is kept; below the gateway's own limit.
    pub idle: Duration,
    /// The age at which a connection is retired, with 20 % jitter.
    pub max_age: Duration,
    /// Connecting, TLS included.
    pub connect_timeout: Duration,
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Unique name: metric label, log field.
    pub name: String,
    /// The listener of its own, when it has one.
    pub listen: Option<SocketAddr>,
    /// The path prefix on its listener (`/stripe`), taken off before forwarding. Empty for none.
    pub path_prefix: String,
    /// The host the application must name, when several routes share a listener.
    pub host: Option<String>,
    /// The API that the application speaks here.
    pub dialect: Dialect,
    /// Gateways by configured name; the first is primary.
    pub gateways: Vec<String>,
    /// Circuit breaker.
    pub breaker: Breaker,
    /// Retries.
    pub retry: Retry,
    /// Hedged reads.
    pub hedge: Hedge,
    /// Limits.
    pub limits: Limits,
    /// Timeouts.
    pub timeouts: Timeouts,
}

/// Circuit breaker settings (defaults and reasons: config/load.rs).
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    /// Consecutive failures that open it; 0 for off.
    pub consecutive: u32,
    /// Share of failures in the window that opens it, 0 to 1; above 1 for off.
    pub failure_rate: f64,
    /// Share of slow calls in the window that opens it, 0 to 1; above 1 for off.
    pub slow_rate: f64,
    /// What is slow.
    pub slow_after: Duration,
    /// The window, in ten buckets.
    pub window: Duration,
    /// Calls in the window before a rate counts.
    pub min_calls: u32,
    /// How long it stays open at first.
    pub open: Duration,
    /// How long it stays open at most.
    pub open_max: Duration,
    /// Calls let through when half-open.
    pub half_open_calls: u32,
}

/// Retries of what is provably unprocessed, or safe by method.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Retries as a share of completed traffic, 0 to 1.
    pub budget: f64,
    /// Retries allowed each second whatever the traffic.
    pub min_per_second: f64,
    /// Retries of one request at most.
    pub max: u32,
}

/// Hedged reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedge {
    /// The latency quantile after which a second GET is sent; `None` for off.
    pub quantile: Option<f64>,
    /// Extra load at most, as a share of reads.
    pub max_extra: f64,
    /// Never hedge sooner than this.
    pub min_delay: Duration,
}

/// Limits of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight.
    pub in_flight: usize,
    /// Requests waiting for a place.
    pub queue: usize,
    /// How long one may wait.
    pub queue_timeout: Duration,
    /// Whether the limit of requests in flight adapts to latency.
    pub adaptive: bool,
}

/// Timeouts of forwarded requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request to the head of the answer.
    pub response_header: Duration,
    /// Between two pieces of a body, either way.
    pub body_idle: Duration,
    /// The whole request, retries and hedges included; zero for none (large transfers).
    pub total: Duration,
}

/// How Sentinel stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Keeps accepting at least this long after SIGTERM.
    pub min: Duration,
    /// Ends at the latest after this.
    pub max: Duration,
    /// Kubernetes native sidecar: the application is already gone when SIGTERM arrives, so `min` is skipped.
    pub native_sidecar: bool,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// JSON lines instead of text for people.
    pub json: bool,
    /// One line for each request.
    pub access: bool,
    /// `error`, `warn`, `info`, `debug` or `trace`, or a tracing filter.
    pub level: String,
}

/// Admission limits of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Connections from applications.
    pub connections: usize,
    /// The time a client has for a request head.
    pub header_timeout: Duration,
    /// The largest request head, in bytes.
    pub head: usize,
}

/// Operators' access.
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    /// The bearer token for mutations; required where the listener is not on loopback.
    pub token: Option<String>,
    /// Host names accepted beside loopback names (DNS rebinding).
    pub hosts: Vec<String>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("token", &self.token.as_ref().map(|_| "[REDACTED]"))
            .field("hosts", &self.hosts)
            .finish()
    }
}
