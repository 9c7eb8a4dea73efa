//! The file as it is typed. Every field has the name that stands in the file. The JSON Schema is made from these types,
//! their comments included, and the file's shape is checked by that schema ([`super::shape`]).

pub mod custom;

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::model::{Dialect, KeyPolicy, Mode, PinMode, Protocol, RegistrationPolicy, Undelivered};

/// A secret: a value that error texts and excerpts never repeat. Best written as `${NAME}` or `{ file: path }`.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    /// `writeOnly` is JSON Schema's word for what is never shown again.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// One or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    /// All of them.
    pub fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// A whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Worker threads.
    pub workers: Option<usize>,
    /// Listeners that belong to no single route.
    #[serde(default)]
    pub listeners: Listeners,
    /// The durable record of payments. Default: none, and then nothing fails over.
    pub ledger: Option<Ledger>,
    /// Directory of the local authority that `sentinel ca` makes, for listeners with `tls: local_ca`. Default `tls`.
    pub local_ca: Option<String>,
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
    /// What leaves the process for those who watch it.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// Tenants: who may register, and what is charged for a recovered payment. They need a ledger.
    #[serde(default)]
    pub accounts: Accounts,
}

/// Listeners that belong to no single route.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    /// Path-prefixed gateways.
    #[serde(default)]
    pub shared: OneOrMany<Listen>,
    /// Gateways' webhooks, each account's at `/<name of the gateway>`.
    #[serde(default)]
    pub webhooks: OneOrMany<Listen>,
    /// Operators.
    pub admin: Option<String>,
    /// The dashboard, as in `127.0.0.1:3000`. Default: none.
    pub dashboard: Option<String>,
}

/// A listener: an address, or an address with TLS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Listen {
    /// `127.0.0.1:8081`, in plaintext.
    Plain(String),
    /// With TLS.
    Tls(ListenTls),
}

/// A listener with TLS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenTls {
    /// `127.0.0.1:8481`.
    pub address: String,
    /// Its certificate. Default: plaintext.
    pub tls: Option<Tls>,
}

/// The certificate that a listener shows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Tls {
    /// The one that `sentinel ca` made.
    Local(Local),
    /// One of your own.
    Own(Identity),
}

/// A certificate of Sentinel's own making.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Local {
    /// Made by `sentinel ca`.
    LocalCa,
}

/// A certificate chain and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// File of the chain, PEM, leaf first.
    pub cert: String,
    /// File of the private key, PEM.
    pub key: String,
}

/// The durable record of payments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// The database file. Its directory is made at the first start where the one above it is there.
    pub sqlite: String,
    /// The master key's file, mode 0600; made at the first start. Default: beside the database, `.key` added.
    pub key_file: Option<String>,
    /// Whether file systems that can lose acknowledged writes are refused. Default: where a route fails over, and is only
    /// warned of elsewhere.
    pub strict: Option<bool>,
    /// How long a settled payment can be captured, refunded and told of; its key and how it ended stay. Default 400d.
    pub retention: Option<String>,
}

/// A gateway account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its API.
    pub dialect: Dialect,
    /// `https://host[:port][/base]`; `http://` for plaintext.
    pub endpoint: String,
    /// What Sentinel's own requests are authenticated with. Default: none, and then it can only forward.
    pub credentials: Option<Credentials>,
    /// What its webhooks are verified with.
    #[serde(default)]
    pub webhook: Webhook,
    /// The API version that Sentinel's own requests ask for (stripe, adyen, square). Default: the one each dialect is tested with.
    pub api_version: Option<String>,
    /// How the merchant account (adyen) or its orders (razorpay) capture, for requests that do not say it.
    pub capture: Option<Capture>,
    /// Where a customer returns after a step at the gateway, for requests that name no address (adyen).
    pub return_url: Option<String>,
    /// Whether the account may claim the exemption for merchant-initiated payments (stripe). Default false.
    pub mit_exemption: Option<bool>,
    /// The currency that the account's country allows in-country only, for example BRL (paypal).
    pub domestic_currency: Option<String>,
    /// The currency of the default merchant account, for example USD (braintree).
    pub currency: Option<String>,
    /// The currencies that the account can be charged in (razorpay): others than INR want international payments, which
    /// Razorpay switches on. Default [INR].
    pub currencies: Option<Vec<String>>,
    /// Whether the account is set up for multiple partial captures (adyen): a capture of a part then keeps the rest of the
    /// hold. Default false: it releases the rest.
    pub several_captures: Option<bool>,
    /// Whether the account has at-most-once keys, `api_request_key` (braintree). Default false.
    pub request_keys: Option<bool>,
    /// The currencies that the account takes payments of other gateways in, each with the amounts:
    /// `{ EUR: {}, USD: { min: "1.00", max: "2500.00" } }`. Default: whatever the gateway takes.
    pub takes: Option<BTreeMap<String, Takes>>,
    /// What is sent to it and what its answers mean (custom).
    pub custom: Option<custom::Custom>,
    /// File of root certificates, PEM; only these are then trusted. Default: the public roots.
    pub roots: Option<String>,
    /// The certificate that Sentinel shows in the handshake (mTLS).
    pub client_certificate: Option<Identity>,
    /// `sha256/...` of keys of which one must be in the chain; at least two, because gateways change theirs unannounced.
    #[serde(default)]
    pub pins: Vec<String>,
    /// `enforce`, or `report`: then a chain without a pin only warns. Default `enforce`.
    pub pin_mode: Option<PinMode>,
    /// The last day on which the pins bind, `2027-12-31`, in UTC. Default: they always bind.
    pub pins_until: Option<String>,
    /// HTTP towards the gateway: `h1`, `h2`, or `auto` for what ALPN agrees on. Default `h1`.
    pub protocol: Option<Protocol>,
    /// Fixed addresses instead of DNS.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether private addresses may be connected to. Default false.
    #[serde(default)]
    pub allow_private: bool,
    /// Connections opened before the first request and kept at least, for each worker. Default 0.
    pub prewarm: Option<usize>,
    /// Connections.
    #[serde(default)]
    pub pool: Pool,
}

/// The amounts of a currency that an account takes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Takes {
    /// The smallest, for example "1.00". Default: the gateway's own.
    pub min: Option<String>,
    /// The largest. Default: the gateway's own.
    pub max: Option<String>,
}

/// How a merchant account captures.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// At once.
    Automatic,
    /// On request.
    Manual,
}

/// Credentials: those of the gateway's dialect, and no others.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// stripe: `sk_...` or a restricted key.
    pub secret_key: Option<Secret>,
    /// stripe, optional: `pk_...`.
    pub publishable_key: Option<Secret>,
    /// paypal.
    pub client_id: Option<Secret>,
    /// paypal.
    pub client_secret: Option<Secret>,
    /// braintree.
    pub merchant_id: Option<Secret>,
    /// braintree.
    pub public_key: Option<Secret>,
    /// braintree.
    pub private_key: Option<Secret>,
    /// braintree: the merchant account of each currency, as in `{ USD: acme_usd }`. Default: none but the default account,
    /// whose currency is the gateway's `currency`.
    #[serde(default)]
    pub merchant_accounts: BTreeMap<String, String>,
    /// square.
    pub access_token: Option<Secret>,
    /// square: the location, where there is one. Its currency is Square's to check; `locations` says which are taken.
    pub location_id: Option<String>,
    /// square: the location of each currency, as in `{ USD: L88917AVBK2S5 }`.
    #[serde(default)]
    pub locations: BTreeMap<String, String>,
    /// razorpay.
    pub key_id: Option<Secret>,
    /// razorpay.
    pub key_secret: Option<Secret>,
    /// adyen.
    pub api_key: Option<Secret>,
    /// adyen.
    pub merchant_account: Option<String>,
    /// custom: secrets by a name of your own, for `{credential.NAME}`.
    #[serde(default)]
    pub values: BTreeMap<String, Secret>,
}

/// What webhooks are verified with.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The signing secret (stripe `whsec_...`, adyen HMAC key in hex, square signature key, razorpay); two while one
    /// replaces the other.
    #[serde(default)]
    pub secret: OneOrMany<Secret>,
    /// The webhook's id (paypal).
    pub webhook_id: Option<String>,
    /// The address that the gateway notifies (square: it is part of what is signed).
    pub notification_url: Option<String>,
}

/// Connections, for each worker.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Idle connections kept. Default 128.
    pub max_idle: Option<usize>,
    /// Connections open at once; further requests wait. Default 1024.
    pub max_connections: Option<usize>,
    /// Streams at once on one HTTP/2 connection. Default 100.
    pub max_streams: Option<usize>,
    /// How long an idle connection is kept. Default 30s.
    pub idle: Option<String>,
    /// The age at which a connection is retired, with 20 % jitter. Default 5m.
    pub max_age: Option<String>,
    /// Connecting, TLS included. Default 3s.
    pub connect_timeout: Option<String>,
}

/// A route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Unique name.
    pub name: String,
    /// Listeners of its own.
    #[serde(default)]
    pub listen: OneOrMany<Listen>,
    /// Prefix on the shared listeners.
    pub path_prefix: Option<String>,
    /// Host the application must name.
    pub host: Option<String>,
    /// The API that the application speaks.
    pub dialect: Dialect,
    /// Gateways in order; the first is primary and speaks the route's dialect.
    pub gateways: Vec<String>,
    /// Failover to the further gateways.
    pub failover: Option<Failover>,
    /// The tenant that its traffic belongs to, `tn_...`. Default: `local`, or whose Sentinel key a request carries.
    pub tenant: Option<String>,
    /// Whether tenants pay with the configuration's credentials where they have stored none of their own: right where all
    /// of them are one merchant. Their test keys never do. Default false.
    #[serde(default)]
    pub lend_credentials: bool,
    /// Webhooks to the application: of payments that another gateway took, and its own gateway's, passed on.
    pub notify: Option<Notify>,
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

/// Webhooks to the application, in the route's dialect and signed as its gateway signs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Where the application takes them, as in `http://127.0.0.1:3000/webhooks`.
    pub url: String,
    /// What the application verifies them with (stripe `whsec_...`, adyen HMAC key in hex, square signature key, razorpay,
    /// paypal). The same as the account's `webhook.secret`, where that one's webhooks are passed on. Not for braintree,
    /// whose SDKs verify with the account's own keys.
    pub secret: Option<Secret>,
    /// How long one that the application does not take is tried. Default 3d, and 7d at most.
    pub give_up: Option<String>,
}

/// Failover.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failover {
    /// How it is made safe. Default `fence`.
    pub mode: Option<Mode>,
    /// Whether a decline that another acquirer may decide otherwise is tried there. Default false.
    pub on_soft_decline: Option<bool>,
    /// Whether a decline that was the gateway's own trouble is tried elsewhere. Default true.
    pub on_gateway_decline: Option<bool>,
    /// Whether a fault of your account at a gateway counts as its outage. Default false.
    pub on_account_fault: Option<bool>,
    /// How many declines of one payment may lead to another gateway. Default 1.
    pub max_declines: Option<u8>,
    /// How often a request that provably did not leave goes to the same gateway again. Default 1.
    pub same_gateway_retries: Option<u8>,
    /// When the application is answered at the latest. Default 25s.
    pub deadline: Option<String>,
    /// How long one attempt may take. Default 10s.
    pub attempt_timeout: Option<String>,
    /// `gated`: how long the first authorisation may take before the second begins. Default 5s.
    pub hedge_after: Option<String>,
    /// What names a payment without an idempotency key. Default `transparent`.
    pub key: Option<KeyPolicy>,
    /// `natural`: how long the same reference means the same payment. Default 24h.
    pub natural_window: Option<String>,
    /// One order reference, one payment that did not fail. Default false.
    pub order_guard: Option<bool>,
    /// Whether a card number in the request may be sent to another gateway. Default false.
    pub raw_cards: Option<bool>,
    /// Whether a fence counts only with a fresh certificate. Default true.
    pub require_certificate: Option<bool>,
    /// Fence the first gateway before any use of the next one. Default false.
    pub fence_before_secondary: Option<bool>,
    /// The age at which "nothing found" by a weak fence is believed. Default: never.
    pub assume_quiescent_after: Option<String>,
    /// What becomes of a payment without a key whose answer could not be delivered. Default `keep`.
    pub undelivered: Option<Undelivered>,
    /// The age at which a payment in doubt is given to a person. Default 24h, or two hours before the gateway that was asked
    /// forgets the payment's key, where that is earlier: 22h at Stripe and Square, 4h at PayPal.
    pub manual_after: Option<String>,
}

/// Hedged reads.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// The quantile of latency after which a GET is sent a second time: `p50` to `p99`, or `off`. Default `off`.
    pub reads: Option<String>,
    /// Extra load at most, as a share of reads. Default 5%.
    pub max_extra: Option<String>,
    /// Never sooner than this. Default 1ms.
    pub min_delay: Option<String>,
}

/// Circuit breaker.
#[derive(Debug, Default, Deserialize, JsonSchema)]
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
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Retry")]
pub struct Retry {
    pub budget: Option<String>,
    pub min_per_second: Option<f64>,
    pub max: Option<u32>,
}

/// Limits.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Limits")]
pub struct Limits {
    pub in_flight: Option<usize>,
    pub queue: Option<usize>,
    pub queue_timeout: Option<String>,
    pub adaptive: Option<bool>,
    pub body: Option<String>,
}

/// Timeouts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Timeouts")]
pub struct Timeouts {
    pub response_header: Option<String>,
    pub body_idle: Option<String>,
    pub total: Option<String>,
}

/// Stopping.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Shutdown")]
pub struct Shutdown {
    pub min: Option<String>,
    pub max: Option<String>,
    pub native_sidecar: Option<bool>,
}

/// Logs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Log")]
pub struct Log {
    pub json: Option<bool>,
    pub access: Option<bool>,
    pub level: Option<String>,
}

/// Limits of the process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Admission")]
pub struct Admission {
    pub connections: Option<usize>,
    pub header_timeout: Option<String>,
    pub head: Option<String>,
}

/// Operators' access.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of model::Admin")]
pub struct Admin {
    pub token: Option<Secret>,
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub faults: bool,
}

/// Tenants and their API under `/api/v1` on the shared listeners.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// Whether the API is served. Default: where there is a ledger.
    pub api: Option<bool>,
    /// Who may register. Default `loopback`.
    pub registration: Option<RegistrationPolicy>,
    /// Host names that browsers may use for the API on a loopback listener, beside the loopback names themselves.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Where tenants find their dashboard, as in `https://sentinel.example.com`. Default `http://localhost:3000`.
    pub dashboard: Option<String>,
    /// What is charged for recovered revenue, as a percentage with at most four decimals. Default 2%.
    pub fee: Option<String>,
    /// How fees are collected. Default: not by Sentinel.
    pub collect: Option<Collect>,
}

/// How the fees of closed statements are collected from tenants.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// The operator's own account: a gateway with credentials, in whose vault the tenants' instruments are.
    pub gateway: String,
}

/// What leaves the process for those who watch it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// The collector, as in `http://127.0.0.1:4318`. Default: none, and then there are no spans.
    pub otlp: Option<String>,
    /// `service.name`. Default `sentinel`.
    pub service: Option<String>,
    /// The share of traces that begin here and are kept. Default 100%.
    pub sample: Option<String>,
}
