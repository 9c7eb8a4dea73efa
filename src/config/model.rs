//! The validated configuration. Inside Sentinel nothing else is looked at: no strings that stand for something, no
//! option that is always there. Every default's home is [`super::defaults`].

mod accounts;
pub mod custom;
mod failover;
mod gateway;
mod route;
mod telemetry;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use accounts::{Accounts, FEES, Fee, OPERATOR, RegistrationPolicy};
pub use failover::{Failover, KeyPolicy, Mode, Undelivered};
pub use gateway::{
    AmountLimits, Credentials, Dialect, Endpoint, GatewayConfig, Identity, Pin, PinMode, Pool, Protocol, Roots, Secret,
    Webhook,
};
pub use route::{Breaker, Hedge, Limits, Listen, Notify, Purpose, Retry, Route, Timeouts};
pub use telemetry::Otlp;

/// Everything Sentinel runs by.
#[derive(Clone, Debug)]
pub struct Config {
    /// SHA-256 of the file this came from and of every file it names, hex.
    pub hash: String,
    /// The files that it names: secrets, certificates and keys. A change in one of them is a change of the configuration.
    pub files: Vec<PathBuf>,
    /// Where Sentinel listens for operators and tenants.
    pub listeners: Listeners,
    /// Worker threads of the data path.
    pub workers: usize,
    /// The durable record of payments; without one nothing can fail over.
    pub ledger: Option<Ledger>,
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
    /// Export of spans; none unless configured.
    pub otlp: Option<Otlp>,
    /// Tenants.
    pub accounts: Accounts,
}

impl Config {
    /// Every listener of the data path, each address once, by address.
    pub fn data_listeners(&self) -> BTreeMap<SocketAddr, &Listen> {
        let own = self.routes.iter().flat_map(|route| &route.listen);
        own.chain(&self.listeners.shared)
            .chain(&self.listeners.webhooks)
            .map(|listen| (listen.address, listen))
            .collect()
    }
}

/// Listening addresses that belong to no single route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Tenants' API and path-prefixed gateways; a TLS one beside a plain one, where some SDKs refuse plain HTTP.
    pub shared: Vec<Listen>,
    /// Gateways' webhooks, each account's at `/<name of the gateway>`.
    pub webhooks: Vec<Listen>,
    /// Operators.
    pub admin: Option<SocketAddr>,
    /// The dashboard, for operators and tenants.
    pub dashboard: Option<SocketAddr>,
}

/// The ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// The database file. Its directory exists, or is made at the start.
    pub sqlite: PathBuf,
    /// The master key, 32 bytes in base64, mode 0600; made at the first start where it is absent.
    pub key_file: PathBuf,
    /// Whether file systems that can lose acknowledged writes (NFS, SMB, FUSE, tmpfs, overlay) are refused. Unless it is
    /// said, they are where a route fails over: a payment whose record is lost may be charged twice. Without failover
    /// accounts are lost at worst, and that is no reason not to forward.
    pub strict: bool,
    /// How long a settled payment is kept whole. After that its key and how it ended are left.
    pub retention: Duration,
}

impl Ledger {
    /// Where certificates of gateways are kept (`sentinel certify`).
    pub fn certificates(&self) -> PathBuf {
        self.sqlite.with_added_extension("certificates")
    }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The bearer token for mutations; required where the listener is not on loopback.
    pub token: Option<Secret>,
    /// Host names accepted beside loopback names (DNS rebinding).
    pub hosts: Vec<String>,
    /// Whether `POST /faults` may make things go wrong on purpose. Off unless asked for: this is a payment's way.
    pub faults: bool,
}
