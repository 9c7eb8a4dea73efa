//! A gateway account: where it is, how it is trusted, and what Sentinel says who it is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::money::Amount;

/// The APIs that Sentinel speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
    /// The six that every Sentinel speaks.
    pub const SIX: [Self; 6] = [
        Self::Stripe,
        Self::Paypal,
        Self::Braintree,
        Self::Square,
        Self::Razorpay,
        Self::Adyen,
    ];

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

/// A value that is used and never shown: not by `Debug`, not in logs, answers or error texts.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a value.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }
    /// The value, for its use and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// Named secrets and account identifiers of one gateway. `Debug` shows names only.
///
/// | dialect | names |
/// |---|---|
/// | stripe | `secret_key`, `publishable_key`? |
/// | paypal | `client_id`, `client_secret` |
/// | braintree | `merchant_id`, `public_key`, `private_key`, `merchant_accounts.USD`? and so on for each currency |
/// | square | `access_token`, `location_id`? and/or `locations.USD`? and so on for each currency |
/// | razorpay | `key_id`, `key_secret` |
/// | adyen | `api_key`, `merchant_account` |
/// | custom | the description's own |
///
/// Shared, and wiped with the last who has them: every attempt carries them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(Arc<BTreeMap<String, Secret>>);

impl Credentials {
    /// Builds from names and values.
    pub fn new(values: BTreeMap<String, String>) -> Self {
        let secret = |(name, value)| (name, Secret::new(value));
        Self(Arc::new(values.into_iter().map(secret).collect()))
    }
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }
    /// The names present.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
    /// Whether there are none: Sentinel can then forward here, and make no request of its own.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// What Sentinel's own requests are authenticated with: attempts after a failover, fences, look-ups, voids. Complete
    /// for the dialect, or empty.
    pub credentials: Credentials,
    /// What the dialect reads beside them: `api_version`, `capture` (`automatic` or `manual`), `return_url`,
    /// `mit_exemption`, `domestic_currency`, `currency`, `currencies` (with commas),
    /// `several_captures`, `request_keys`, `merchant_accounts.USD` and so on.
    pub settings: BTreeMap<String, String>,
    /// The currencies, with their amounts, that the account takes of other gateways' payments; `None` for whatever the
    /// gateway takes.
    pub takes: Option<BTreeMap<String, AmountLimits>>,
    /// What its webhooks are verified with.
    pub webhook: Webhook,
    /// The description of a custom gateway, and of no other.
    pub custom: Option<Arc<super::custom::Custom>>,
}

impl GatewayConfig {
    /// The account that saved tokens and certificates are bound to, as the configuration names it.
    pub fn account(&self) -> &str {
        self.account_of(&self.credentials)
    }

    /// The same of an account that others' credentials open at this gateway.
    pub fn account_of<'a>(&'a self, credentials: &'a Credentials) -> &'a str {
        let name = match self.dialect {
            Dialect::Adyen => "merchant_account",
            Dialect::Braintree => "merchant_id",
            Dialect::Square => "location_id",
            Dialect::Paypal => "client_id",
            Dialect::Razorpay => "key_id",
            Dialect::Stripe | Dialect::Custom => "account",
        };
        let setting = self.settings.get("account").map(String::as_str);
        setting.or_else(|| credentials.get(name)).unwrap_or(&self.name)
    }

    /// Whether connections opened under `other` serve this one: a new credential or setting costs no connection.
    pub fn same_connections(&self, other: &Self) -> bool {
        self.name == other.name && self.endpoint == other.endpoint && self.pool == other.pool
    }
}

/// The amounts that an account takes in a currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AmountLimits {
    /// The smallest.
    pub min: Option<Amount>,
    /// The largest.
    pub max: Option<Amount>,
}

impl AmountLimits {
    /// Whether an amount of the currency is taken.
    pub fn hold(&self, amount: Amount) -> bool {
        self.min.is_none_or(|min| amount.units >= min.units) && self.max.is_none_or(|max| amount.units <= max.units)
    }
}

/// What webhooks of a gateway are verified with. Which of these a dialect needs stands with its implementation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Webhook {
    /// Signing secrets: two while one replaces the other; a signature by either holds.
    pub secrets: Vec<Secret>,
    /// The webhook's id at the gateway (PayPal).
    pub webhook_id: Option<String>,
    /// The address that the gateway was told to notify, where it is part of what is signed (Square).
    pub notification_url: Option<String>,
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
    /// The roots that are trusted instead of the public ones.
    pub roots: Option<Arc<Roots>>,
    /// What Sentinel shows for itself in the handshake (mTLS).
    pub client_certificate: Option<Arc<Identity>>,
    /// Keys of which one must be in the verified chain, beside the usual verification. Empty for none.
    pub pins: Vec<Pin>,
    /// What a chain without any of them means.
    pub pin_mode: PinMode,
    /// The moment from which the pins bind no more, Unix seconds. A forgotten pin then costs a warning, not the gateway.
    pub pins_until: Option<i64>,
    /// HTTP towards the gateway.
    pub protocol: Protocol,
    /// Fixed addresses instead of DNS, for tests and private endpoints.
    pub addresses: Vec<SocketAddr>,
    /// Whether loopback, link-local and private addresses may be connected to.
    pub allow_private: bool,
}

impl Endpoint {
    /// As a URL, without the port that goes without saying.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => format!("{scheme}://{host}{}", self.base_path),
            (_, port) => format!("{scheme}://{host}:{port}{}", self.base_path),
        }
    }
}

/// HTTP towards a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1 only.
    #[default]
    H1,
    /// HTTP/2 only: by ALPN over TLS, by prior knowledge in plaintext.
    H2,
    /// What ALPN agrees on; HTTP/1.1 in plaintext.
    Auto,
}

impl Protocol {
    /// The name in configuration, labels and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::Auto => "auto",
        }
    }
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469 2.4); `sha256/` and base64 in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

/// What a verified chain without a pinned key means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PinMode {
    /// No connection.
    #[default]
    Enforce,
    /// A warning in the log: to find out whether the pins are right.
    Report,
}

/// Root certificates of a gateway's own. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Roots {
    /// Where they came from.
    pub path: PathBuf,
    /// The certificates, DER.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} certificates)", self.path.display(), self.certificates.len())
    }
}

/// A certificate chain and its private key: they fit together, that was checked. `Debug` shows where they are.
#[derive(PartialEq, Eq)]
pub struct Identity {
    /// The chain's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    /// The chain, leaf first. Never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub private_key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.certificate.display(), self.key.display())
    }
}

/// Connection pool of one gateway and worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Idle connections kept.
    pub max_idle: usize,
    /// Connections open at once, idle ones included; requests beyond it wait.
    pub max_connections: usize,
    /// Streams at once on one HTTP/2 connection, if the gateway allows that many.
    pub max_streams: usize,
    /// Connections opened before the first request, and kept at least.
    pub prewarm: usize,
    /// How long an idle connection is kept; below the gateway's own limit.
    pub idle: Duration,
    /// The age at which a connection is retired, with 20 % jitter.
    pub max_age: Duration,
    /// Connecting, TLS included.
    pub connect_timeout: Duration,
}
