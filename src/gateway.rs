//! The gateways: how each one's API reads and writes, and what its answers prove.
//!
//! One folder a dialect. A [`Gateway`] is pure: it parses what an application sent, encodes a canonical request for
//! the gateway, reads the gateway's answer into an [`Observation`], and renders answers in its own shape. It opens no
//! connection, reads no clock and keeps no state; whatever it needs comes in as an argument.

pub mod adyen;
pub mod announcement;
pub mod braintree;
pub mod canonical;
mod credential;
pub mod custom;
pub mod errors;
pub mod idempotency;
pub mod json;
pub mod outcome;
pub mod paypal;
pub mod prospect;
pub mod razorpay;
pub mod retry_after;
pub mod square;
pub mod stripe;
pub mod webhook;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::config::model::{Credentials, Dialect};
use announcement::{Announcement, Written};
use canonical::{Answer, Operation, Order, Refusal, Request};
use outcome::Observation;
use webhook::{WebhookError, WebhookFact, WebhookKeys};

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
    /// The route's base URL as the application sees it (`http://127.0.0.1:8082` or `http://localhost:8080/paypal`, no
    /// slash at the end): what links in an answer are made of, so that an application that follows them stays here.
    pub base: String,
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

impl Outgoing {
    /// A request without a body.
    pub fn get(target: String, headers: HeaderMap) -> Self {
        Self {
            method: Method::GET,
            target,
            headers,
            body: Bytes::new(),
        }
    }

    /// A POST of a JSON object.
    pub fn json(target: &str, mut headers: HeaderMap, body: &Map<String, Value>) -> Self {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self {
            method: Method::POST,
            target: target.to_owned(),
            headers,
            body: json::body(body),
        }
    }
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

/// Why an attempt ends before its request is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Stopped {
    /// What had to be answered first was not: nothing of the attempt was sent.
    Unsent,
    /// The answer decides the attempt: a refusal, or what an earlier sending of the same request came to.
    Decided(Box<Observation>),
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
    /// Free settings of the gateway from the configuration that the dialect reads (`api_version`, `capture`, ...).
    pub settings: BTreeMap<String, String>,
    /// The access token, for gateways that want one fetched first ([`Auth::Token`]).
    pub token: Option<AccessToken>,
    /// What the requests before this one brought, by the dialect's own names ([`Gateway::before`]).
    pub prepared: BTreeMap<String, String>,
}

/// An access token. Its `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The bearer token.
    pub value: Zeroizing<String>,
    /// How long it is good for, in seconds from when it was fetched.
    pub expires_in: u64,
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessToken([REDACTED], {} s)", self.expires_in)
    }
}

/// How Sentinel authenticates its own requests at a gateway.
#[derive(Clone, Debug)]
pub enum Auth {
    /// With what the account's credentials hold; `encode` puts it in.
    Static,
    /// With an access token that is fetched by this request, read by [`Gateway::read_token`], kept until a minute before
    /// it expires, and given to the adapter in [`Account::token`].
    Token {
        /// The request that fetches it. It moves no money.
        request: Outgoing,
    },
}

/// What the credential of an application's request is, where the dialect's applications fetch access tokens through
/// Sentinel and Sentinel may have had to mint one while the gateway was down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The gateway's own: it is passed through.
    Native,
    /// Minted by Sentinel and still good. It means nothing at the gateway and is swapped for the account's own token
    /// before anything is forwarded.
    Minted,
    /// Minted by Sentinel, but expired or forged: answered 401, never forwarded.
    Refused,
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

/// What a gateway charges for an application of another dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Accepted {
    /// A card of its own vault, by the instrument map or a token beside the request.
    Token,
    /// A card number, where the route allows one.
    Card,
    /// A mandate of its own vault, for payments that the merchant initiates.
    Mandate,
}

impl Accepted {
    /// A few words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Token => "card by map",
            Self::Card => "card by number",
            Self::Mandate => "merchant-initiated mandate by map",
        }
    }
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

    /// What it can do for an account with these settings, where that depends on the account.
    fn capabilities_of(&self, _settings: &BTreeMap<String, String>) -> &Capabilities {
        self.capabilities()
    }

    /// Reads method and path only. Everything it does not know is [`Operation::Opaque`].
    fn recognise(&self, method: &Method, path: &str) -> Recognised;

    /// The application's idempotency key, where this dialect carries one (header or body). `Err` when there are two,
    /// or one that is empty, too long, or holds control bytes.
    fn idempotency_key(&self, head: &Head, body: &[u8]) -> Result<Option<String>, Refusal>;

    /// Reads a payment operation. `Err` says why it cannot be understood well enough to be taken elsewhere; the
    /// request is then forwarded untouched, and never fails over. `settings` are those of the route's own gateway:
    /// what a request leaves to the account (Adyen's capture mode, Braintree's currency) stands only there.
    fn parse(
        &self,
        recognised: &Recognised,
        head: &Head,
        body: &[u8],
        settings: &BTreeMap<String, String>,
    ) -> Result<Request, Refusal>;

    /// Writes a canonical request for this gateway as target, or refuses what it cannot carry honestly.
    fn encode(&self, request: &Request, account: &Account) -> Result<Outgoing, Refusal>;

    /// Writes a request that has to be answered before [`Gateway::encode`] can write this one: it moves no money and may
    /// be sent again and again (an order to be paid, an amount to be lowered). Asked again after each answer, until
    /// `Ok(None)`.
    fn before(&self, _request: &Request, _account: &Account) -> Result<Option<Outgoing>, Refusal> {
        Ok(None)
    }

    /// Notes in [`Account::prepared`] what such a request's answer brought. `Err` ends the attempt, which is not sent.
    fn prepared(&self, _request: &Request, _account: &mut Account, _answer: &Incoming) -> Result<(), Stopped> {
        Ok(())
    }

    /// For how many hours a capture, void or refund may be sent again, where that is not what the keys of payments say.
    fn repeats(&self, settings: &BTreeMap<String, String>) -> u32 {
        self.capabilities_of(settings).idempotency_hours
    }

    /// What can be charged here for an application of another dialect.
    fn instruments(&self) -> &'static [Accepted] {
        match self.capabilities().server_side_card {
            true => &[Accepted::Token, Accepted::Card],
            false => &[Accepted::Token],
        }
    }

    /// The only currencies that the account takes, where its credentials or settings say so.
    fn currencies(&self, _credentials: &Credentials, _settings: &BTreeMap<String, String>) -> Option<Vec<String>> {
        None
    }

    /// The gateway's own object that this request pays, where it is paid once only (Razorpay's order): it stands for the
    /// key that such a gateway's applications do not have.
    fn paid_once(&self, _head: &Head, _body: &[u8]) -> Option<String> {
        None
    }

    /// Whether a capture is an object of its own, by whose id its application refunds it and looks at it.
    fn captures_by_id(&self) -> bool {
        false
    }

    /// Whether an application may create the payment's object first, by a request that moves nothing, and confirm it by
    /// another one from its server.
    fn creates_first(&self) -> bool {
        false
    }

    /// Whether its applications lower a payment's amount before they capture it, because a capture takes the whole.
    fn edits_amounts(&self) -> bool {
        false
    }

    /// Whether its applications open an order before they pay, which Sentinel opens in its stead while it is down.
    fn opens_orders(&self) -> bool {
        false
    }

    /// Reads a request that opens an order; its id is made of the seed. `Err` is why only the gateway itself can open it.
    fn order(
        &self,
        _head: &Head,
        _body: &[u8],
        _settings: &BTreeMap<String, String>,
        _seed: &[u8; 16],
        _now: i64,
    ) -> Result<Order, Refusal> {
        Err(Refusal::Operation("an order before a payment".to_owned()))
    }

    /// Shows an order that Sentinel opened: how often somebody tried to pay it, and what was taken for it.
    fn render_order(&self, _order: &Order, _attempts: usize, _taken: crate::money::Amount) -> Reply {
        Reply::default()
    }

    /// Reads a complete answer to a request of the given leg: what it proves, and what it says. `request` is the
    /// canonical request where there is one, so that amount, currency and reference can be compared: an answer for
    /// another amount or reference is a conflict, never a success. `reference` is [`Account::reference`] where the
    /// request was written by [`Gateway::encode`]; `None` for the application's own bytes, whose reference stands in
    /// `request`.
    fn observe(&self, leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation;

    /// Writes a request that makes a late execution of the earlier attempt impossible, or that at least asks about it.
    /// `earlier` holds what is known of that attempt: its key, reference and object id.
    fn fence(&self, earlier: &canonical::EarlierAttempt, account: &Account) -> Option<Outgoing>;

    /// Writes a request that asks, by reference only, what became of the earlier attempt.
    fn lookup(&self, earlier: &canonical::EarlierAttempt, account: &Account) -> Option<Outgoing>;

    /// Joins a page of the list that a look-up reads to what the pages before it had of the attempt, as one answer to
    /// [`Gateway::observe`], and writes the request for the next page, where one is left that matters: none behind a find
    /// that decides. An answer that is no page stays as it is, and takes the place of what was found.
    fn page(
        &self,
        _earlier: &canonical::EarlierAttempt,
        _account: &Account,
        _asked: &Outgoing,
        _so_far: Option<Incoming>,
        answer: Incoming,
    ) -> (Incoming, Option<Outgoing>) {
        (answer, None)
    }

    /// A request that moves no money and shows that the gateway answers, for half-open breakers.
    fn probe(&self, account: &Account) -> Option<Outgoing>;

    /// Renders an answer as this gateway would have written it, complete enough for every official SDK. `head` and
    /// `body` are the request it answers: some dialects echo what was asked (Adyen's `merchantAccount`) or shape the
    /// answer by it (PayPal's `Prefer`).
    fn render(&self, answer: &Answer, head: &Head, body: &[u8]) -> Reply;

    /// Renders an error of Sentinel's own in this gateway's shape.
    fn render_error(&self, error: &OwnError, head: &Head) -> Reply;

    /// Mints an id of the kind this dialect gives to the object (`pi_`, `ch_`, order id, psp reference), from 16 bytes
    /// that are unique to it, so that the same payment always has the same ids.
    fn mint(&self, kind: canonical::ObjectKind, seed: &[u8; 16]) -> String;

    /// The header that carries the idempotency key, lower case; `None` where the key travels in the body or there is
    /// none. A payment without a key is given Sentinel's own through it.
    fn idempotency_header(&self) -> Option<&'static str> {
        None
    }

    /// The version of the API that it writes where the account's settings name none.
    fn api_version(&self) -> &'static str {
        "unversioned"
    }

    /// How Sentinel authenticates here. `Err` when the account lacks a credential.
    fn authentication(&self, _account: &Account) -> Result<Auth, Refusal> {
        Ok(Auth::Static)
    }

    /// Reads the answer to an [`Auth::Token`] request; `None` when it is no token.
    fn read_token(&self, _answer: &Incoming) -> Option<AccessToken> {
        None
    }

    /// Answers an application's token request ([`Operation::Token`]) while the gateway is down: a token of Sentinel's
    /// own, which [`Gateway::credential`] knows again, or the dialect's refusal when the application's credentials are
    /// not the account's. `None` where the dialect has no tokens. `seed` is random, `now` is Unix time in seconds.
    fn mint_token(&self, _head: &Head, _body: &[u8], _account: &Account, _seed: &[u8; 16], _now: i64) -> Option<Reply> {
        None
    }

    /// Whether an application's request carries a token that Sentinel minted.
    fn credential(&self, _headers: &HeaderMap, _account: &Account, _now: i64) -> Credential {
        Credential::Native
    }

    /// Whether a void of this dialect also takes back what was taken (Braintree's, until the nightly settlement). Of a
    /// payment that another gateway took, it is then a refund of all that is left.
    fn void_takes_back(&self) -> bool {
        false
    }

    /// Writes what an application of this dialect hears of a payment that another gateway took: the events that this
    /// gateway would have sent, none where it has none.
    fn announce(&self, _told: &Announcement<'_>) -> Vec<Written> {
        Vec::new()
    }

    /// Answers an application that asks its gateway whether a webhook is genuine ([`Operation::Verification`]), where it
    /// is one that [`Gateway::announce`] wrote; `None` for the gateway's own, which the gateway answers for.
    fn verification(&self, _body: &[u8], _keys: &WebhookKeys<'_>, _now: i64) -> Option<Reply> {
        None
    }

    /// Whether its webhooks tell money that is held from money that is taken.
    fn tells_holds(&self) -> bool {
        true
    }

    /// Whether the credential of an application's request moves live money (`Some(true)`) or none; `None` where it does not
    /// show.
    fn moves_live(&self, _headers: &HeaderMap) -> Option<bool> {
        None
    }

    /// The same of an account's own credentials.
    fn holds_live(&self, _credentials: &Credentials) -> Option<bool> {
        None
    }

    /// Whether it fences by a reference that need not be unique, and so may end another payment that bears it.
    fn fences_by_reference(&self) -> bool {
        false
    }

    /// Verifies a webhook of this gateway and reads what it proves. `now` is Unix time in seconds, against replays.
    /// Nothing is believed, and nothing is said about why, before the signature holds.
    fn webhook(
        &self,
        _keys: &WebhookKeys<'_>,
        _headers: &HeaderMap,
        _body: &[u8],
        _now: i64,
    ) -> Result<Vec<WebhookFact>, WebhookError> {
        Err(WebhookError::Unsupported)
    }

    /// The request that asks the gateway whether a delivery is its own, for those that answer
    /// [`WebhookError::ToBeVouched`]. It moves no money.
    fn vouching(
        &self,
        _keys: &WebhookKeys<'_>,
        _headers: &HeaderMap,
        _body: &[u8],
        _account: &Account,
    ) -> Option<Outgoing> {
        None
    }

    /// Reads the answer to [`Gateway::vouching`]; `None` when it says neither yes nor no.
    fn vouched(&self, _answer: &Incoming) -> Option<bool> {
        None
    }

    /// The answer to a gateway that asks, by this query, whether it may notify an address.
    fn challenge(&self, _query: &str, _credentials: &crate::config::model::Credentials) -> Option<String> {
        None
    }
}

/// The gateway that an account is spoken to with: its dialect's, or the one that its description makes.
pub fn at(config: &crate::config::model::GatewayConfig) -> Option<&'static dyn Gateway> {
    match &config.custom {
        Some(description) => Some(custom::of(description)),
        None => for_dialect(config.dialect),
    }
}

/// The gateway that speaks a dialect; `None` for one that Sentinel forwards but does not translate.
pub fn for_dialect(dialect: Dialect) -> Option<&'static dyn Gateway> {
    match dialect {
        Dialect::Stripe => Some(&stripe::Stripe),
        Dialect::Adyen => Some(&adyen::Adyen),
        Dialect::Paypal => Some(&paypal::Paypal),
        Dialect::Braintree => Some(&braintree::Braintree),
        Dialect::Square => Some(&square::Square),
        Dialect::Razorpay => Some(&razorpay::Razorpay),
        Dialect::Custom => None,
    }
}
