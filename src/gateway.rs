//! The gateways: how each one's API reads and writes, and what its answers prove.
//!
//! One folder a dialect. A [`Gateway`] is pure: it parses what an application sent, encodes a canonical request for
//! the gateway, reads the gateway's answer into an [`Observation`], and renders answers in its own shape. It opens no
//! connection, reads no clock and keeps no state; whatever it needs comes in as an argument.

pub mod canonical;
pub mod outcome;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::config::model::Dialect;
use canonical::{Answer, Operation, Refusal, Request};
use outcome::Observation;

/// A request's head as the application sent it. Path and query are the raw bytes of the target, after the route's
/// path prefix was taken off.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The raw path, percent-encoding untouched, beginning with `/`.
    pub path: String,
    /// The raw query without `?`, when there is one.
    pub query: Option<String>,
    /// All headers as received.
    pub headers: HeaderMap,
}

/// What a dialect makes of a request's method and path, before any body is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// The operation, or [`Operation::Opaque`] for everything that is forwarded untouched.
    pub operation: Operation,
    /// The id in the path that the operation is about (a payment, order, charge or refund), when there is one.
    pub object: Option<String>,
}

/// A request to a gateway, ready for the wire but for the connection-level headers (`Host`, `Content-Length`).
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Path and query, appended to the endpoint's base path.
    pub target: String,
    /// Headers, credentials included.
    pub headers: HeaderMap,
    /// The whole body: payment requests are never streamed.
    pub body: Bytes,
}

/// A complete answer from a gateway. Truncated answers never become an `Incoming`.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole, decoded body.
    pub body: Bytes,
}

/// An answer for the application.
pub type Reply = http::Response<Bytes>;

/// What a request to a gateway is for. The same words stand in the ledger, in metrics and in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// Takes money at once.
    Charge,
    /// Holds money.
    Auth,
    /// Moves held money.
    Capture,
    /// Releases held money.
    Void,
    /// Gives money back.
    Refund,
    /// Makes a late execution of an earlier attempt impossible.
    Fence,
    /// Asks for the state of an earlier attempt; moves nothing.
    Lookup,
}

/// What an adapter knows about the account it speaks for, and the identities of this attempt.
#[derive(Clone, Debug)]
pub struct Account {
    /// The configured gateway's name, e.g. `adyen-eu`.
    pub gateway: String,
    /// Named credentials and account identifiers from the configuration (`secret_key`, `merchant_account`, ...).
    /// Their `Debug` never shows a value.
    pub credentials: crate::config::model::Credentials,
    /// The idempotency key for this attempt, a function of the payment (safety rule D6).
    pub idempotency_key: String,
    /// Sentinel's own reference for this payment, put where the gateway lets it be found again.
    pub reference: String,
}

/// How surely a gateway can be made to refuse a late execution of an earlier request (safety.md 2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum FenceStrength {
    /// Nothing at all.
    F0,
    /// A look-up by our own reference.
    F1,
    /// Acts only on what has already arrived.
    F2,
    /// Permanent: the late original is rejected.
    F3,
}

/// What a gateway can do, declared as data.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// The strongest fence for a charge whose outcome is unknown.
    pub fence: FenceStrength,
    /// Whether an authorisation can be held and captured later by a request.
    pub manual_capture: bool,
    /// Whether a smaller amount than authorised can be captured.
    pub partial_capture: bool,
    /// Whether several captures of one authorisation are possible.
    pub multiple_captures: bool,
    /// Whether an authorisation can be voided by id.
    pub void: bool,
    /// Whether part of a captured amount can be refunded.
    pub partial_refund: bool,
    /// Whether modifications (capture, void, refund) are answered before they are done.
    pub asynchronous_modifications: bool,
    /// Whether a raw card number can be sent by a server.
    pub server_side_card: bool,
    /// Whether the result of a 3-D Secure authentication done elsewhere can be sent.
    pub external_three_ds: bool,
    /// Whether a network transaction id can be sent for a merchant-initiated payment.
    pub network_transaction_id: bool,
    /// How long the gateway keeps an idempotency key, in hours; 0 when it has none.
    pub idempotency_hours: u32,
    /// The longest idempotency key it takes, in bytes; 0 when it has none.
    pub idempotency_key_len: usize,
}

/// What Sentinel itself has to tell the application. Each dialect renders it in the gateway's own error shape, because
/// official SDKs crash or lose the message on any other (reference: SDK behaviour tables).
#[derive(Clone, Debug)]
pub struct OwnError {
    /// The status to answer with.
    pub status: StatusCode,
    /// A closed, machine-readable reason, e.g. `circuit_open`, `idempotency_key_reused`.
    pub code: &'static str,
    /// One sentence for a person: what happened, whose fault it was, what to do.
    pub message: String,
    /// Whether the application's SDK should send the same request again with the same key.
    pub retry: bool,
}

/// One payment gateway's API, both as an application speaks it and as Sentinel speaks it.
pub trait Gateway: Send + Sync {
    /// Which dialect this is.
    fn dialect(&self) -> Dialect;

    /// What it can do.
    fn capabilities(&self) -> &Capabilities;

    /// Reads method and path only. Everything it does not know is [`Operation::Opaque`].
    fn recognise(&self, method: &Method, path: &str) -> Recognised;

    /// The application's idempotency key, where this dialect carries one (header or body). `Err` when there are two,
    /// or one that is empty, too long, or holds control bytes.
    fn idempotency_key(&self, head: &Head, body: &[u8]) -> Result<Option<String>, Refusal>;

    /// Reads a payment operation. `Err` says why it cannot be understood well enough to be taken elsewhere; the
    /// request is then forwarded untouched, and never fails over.
    fn parse(&self, recognised: &Recognised, head: &Head, body: &[u8]) -> Result<Request, Refusal>;

    /// Writes a canonical request for this gateway as target, or refuses what it cannot carry honestly.
    fn encode(&self, request: &Request, account: &Account) -> Result<Outgoing, Refusal>;

    /// Reads a complete answer to a request of the given leg: what it proves, and what it says. `request` is the
    /// canonical request where there is one, so that amount, currency and reference can be compared: an answer for
    /// another amount or reference is a conflict, never a success.
    fn observe(&self, leg: Leg, request: Option<&Request>, answer: &Incoming) -> Observation;

    /// Writes a request that makes a late execution of the earlier attempt impossible, or that at least asks about it.
    /// `earlier` holds what is known of that attempt: its key, reference and object id.
    fn fence(&self, earlier: &canonical::EarlierAttempt, account: &Account) -> Option<Outgoing>;

    /// Writes a request that asks, by reference only, what became of the earlier attempt.
    fn lookup(&self, earlier: &canonical::EarlierAttempt, account: &Account) -> Option<Outgoing>;

    /// A request that moves no money and shows that the gateway answers, for half-open breakers.
    fn probe(&self, account: &Account) -> Option<Outgoing>;

    /// Renders an answer as this gateway would have written it, complete enough for every official SDK.
    fn render(&self, answer: &Answer, head: &Head) -> Reply;

    /// Renders an error of Sentinel's own in this gateway's shape.
    fn render_error(&self, error: &OwnError, head: &Head) -> Reply;

    /// Mints an id of the kind this dialect gives to the object (`pi_`, `ch_`, order id, psp reference), from 16 bytes
    /// that are unique to it, so that the same payment always has the same ids.
    fn mint(&self, kind: canonical::ObjectKind, seed: &[u8; 16]) -> String;
}
