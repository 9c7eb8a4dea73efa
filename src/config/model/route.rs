//! A route: whose traffic it is, and what is done for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Dialect, Failover, GatewayConfig, Identity, Secret};

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Unique name: metric label, log field.
    pub name: String,
    /// The listeners of its own; a TLS one beside a plain one, where some SDKs refuse plain HTTP.
    pub listen: Vec<Listen>,
    /// The path prefix on the shared listeners (`/stripe`), taken off before forwarding. Empty for none.
    pub path_prefix: String,
    /// The host the application must name, when several routes share a listener.
    pub host: Option<String>,
    /// The API that the application speaks here.
    pub dialect: Dialect,
    /// Whose payments it takes.
    pub purpose: Purpose,
    /// Gateways by configured name; the first is primary.
    pub gateways: Vec<String>,
    /// The tenant that its traffic belongs to, whoever sends it; `None` for `local`, or whose Sentinel key comes.
    pub tenant: Option<String>,
    /// Whether tenants without credentials of their own pay with the configuration's. Never with a test key.
    pub lend_credentials: bool,
    /// Failover.
    pub failover: Failover,
    /// Where the application takes webhooks.
    pub notify: Option<Notify>,
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

/// Whose payments a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Applications'.
    Applications,
    /// Sentinel's own, by which the operator collects fees: no listener leads to it, and one gateway is enough.
    Fees,
}

impl Route {
    /// Whether it has a listener of its own at this address.
    pub fn listens_at(&self, address: SocketAddr) -> bool {
        self.listen.iter().any(|listen| listen.address == address)
    }
}

/// A listener of the data path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// The certificate that it shows; `None` for plaintext.
    pub tls: Option<Arc<Identity>>,
}

impl Listen {
    /// The base URL that an application uses.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

/// Where an application takes webhooks, and what those of Sentinel's own are signed with.
#[derive(Clone, Debug, PartialEq)]
pub struct Notify {
    /// The whole address, as it was typed.
    pub url: String,
    /// The same as something to connect to, under a name that no gateway has.
    pub to: Arc<GatewayConfig>,
    /// Path and query.
    pub target: String,
    /// What they are signed with; `None` where the account's own keys do that (Braintree).
    pub secret: Option<Secret>,
    /// How long one that is not taken is tried.
    pub give_up: Duration,
}

/// Circuit breaker settings.
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
    /// The largest body of a payment request, which is held in memory, in bytes. What is only forwarded has no limit.
    pub body: usize,
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
