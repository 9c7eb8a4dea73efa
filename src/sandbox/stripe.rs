//! A simulator of Stripe's v1 API: payment intents, charges, refunds, instruments, events, balance.
//!
//! Faithful where failover depends on it. An idempotency key is kept 24 hours: it answers with the stored answer, whether
//! that was a success, a decline or a stored 500, with `Idempotent-Replayed: true`; other parameters or another path under
//! it are refused (400 `idempotency_error`); it is in use while its request runs (409); parameters that fail validation,
//! wrong keys and 429 leave it free. An object that another request works on is locked (429 `lock_timeout`). A decline
//! leaves the intent open to another attempt. Lists are consistent at once, the search index lags. Holds expire after
//! seven days.
//!
//! Outcomes are chosen by the published test cards ([`cards`]), by number, `pm_card_...` or `tok_...`. Answers have the
//! shape of the version that the request names: those before 2022-11-15 have `charges` instead of `latest_charge`.
//!
//! It takes any test key (`sk_test_...`, `rk_test_...`) and never a live one. Not simulated: Connect, files, `/v2`.

mod cards;
mod charges;
mod currencies;
mod errors;
mod events;
mod form;
mod instruments;
mod intents;
mod lists;
mod objects;
mod state;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use indexmap::IndexMap;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Guide, NativeError, Request, Simulator, Turn};
use errors::Failure;
use form::Params;
use lists::Collection;
use state::{Charge, Customer, Event, Intent, Metadata, Refund, Token};

/// For people.
pub const GUIDE: Guide = Guide {
    port: 9081,
    credentials: &[
        ("secret key", "sk_test_sandbox (any sk_test_ key)"),
        ("webhook secret", "whsec_sandbox"),
    ],
    instruments: &[
        ("pm_card_visa, tok_visa, 4242424242424242", "succeeds"),
        (
            "pm_card_visa_chargeDeclined, 4000000000000002",
            "declined, generic_decline",
        ),
        (
            "pm_card_chargeDeclinedInsufficientFunds",
            "declined, insufficient_funds",
        ),
        (
            "pm_card_authenticationRequired, 4000002760003184",
            "3-D Secure: requires_action",
        ),
        (
            "pm_card_refundFail, 4000000000005126",
            "succeeds, its refund fails later",
        ),
    ],
};

/// How long a key is kept.
const KEY_LIFE: i64 = 86_400;

/// Objects changed places between charges and intents in this version.
const LATEST_CHARGE: &str = "2022-11-15";

/// In this version the list of types that an intent takes got another name.
const ALLOWED_TYPES: &str = "2026-09-30";

type Outcome = Result<Value, Failure>;

/// What is known of an idempotency key.
struct Stored {
    /// Path and parameters it was first used with.
    fingerprint: String,
    /// Its answer, the time, and the id of the request; none while it runs.
    answer: Option<(i64, Response<Bytes>, String)>,
}

/// A request, understood as far as every operation needs it.
struct Call<'a> {
    now: i64,
    request_id: String,
    key: Option<&'a str>,
    version: String,
    /// Whether the version is older than `latest_charge`.
    old: bool,
    base: &'a str,
    params: Params,
}

/// The simulator.
pub struct Stripe {
    /// The one key that is taken; any test key without.
    secret_key: Option<String>,
    webhook_secret: String,
    webhook_delay: Duration,
    /// Between a refund and what later becomes of it.
    refund_delay: Duration,
    /// Seconds until the search index knows an object.
    search_lag: i64,
    raw_cards: bool,
    /// Whether a key with other parameters executes them, as an account of 2017 was once reported to do.
    keys_ignore_parameters: bool,
    /// Whether a cancelled intent can be confirmed all the same.
    cancels_are_undone: bool,
    keys: HashMap<String, Stored>,
    /// Objects that a request works on.
    busy: Vec<String>,
    intents: IndexMap<String, Intent>,
    charges: IndexMap<String, Charge>,
    refunds: IndexMap<String, Refund>,
    methods: IndexMap<String, state::Method>,
    customers: IndexMap<String, Customer>,
    tokens: IndexMap<String, Token>,
    events: VecDeque<Event>,
    counter: u64,
}

impl Default for Stripe {
    fn default() -> Self {
        Self {
            secret_key: None,
            webhook_secret: "whsec_sandbox".to_owned(),
            webhook_delay: events::DELAY,
            refund_delay: Duration::from_millis(50),
            search_lag: 60,
            raw_cards: true,
            keys_ignore_parameters: false,
            cancels_are_undone: false,
            keys: HashMap::new(),
            busy: Vec::new(),
            intents: IndexMap::new(),
            charges: IndexMap::new(),
            refunds: IndexMap::new(),
            methods: IndexMap::new(),
            customers: IndexMap::new(),
            tokens: IndexMap::new(),
            events: VecDeque::new(),
            counter: super::first_id(),
        }
    }
}

/// Letters and digits that follow from a seed.
fn digits(domain: &str, seed: &str, length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    let mut text = String::new();
    let mut round = 0;
    while text.len() < length {
        let digest = Sha256::digest(format!("stripe sandbox {domain} {seed} {round}"));
        text.extend(digest.iter().map(letter));
        round += 1;
    }
    text.truncate(length);
    text
}

/// Metadata with a request's changes: new names are added, names with an empty text go.
fn merged(mut metadata: Metadata, params: &Params) -> Result<Metadata, Failure> {
    if params.text("metadata").is_none() && params.has("metadata") && params.inside("metadata").is_none() {
        metadata.clear();
    }
    for (name, value) in params.pairs("metadata") {
        let param = format!("metadata[{name}]");
        if name.chars().count() > 40 || value.chars().count() > 500 {
            return Err(Failure::invalid(
                &param,
                "Metadata keys have up to 40 characters and values up to 500.",
            ));
        }
        if value.is_empty() {
            metadata.shift_remove(&name);
        } else {
            metadata.insert(name, value);
        }
    }
    if metadata.len() > 50 {
        return Err(Failure::invalid("metadata", "You can have up to 50 metadata keys."));
    }
    Ok(metadata)
}

/// The object that a request changes, for the lock on it.
fn locked(request: &Request) -> Option<String> {
    let mut parts = request.path.strip_prefix("/v1/")?.split('/');
    let (kind, id) = (parts.next()?, parts.next()?);
    (request.method == Method::POST && matches!(kind, "payment_intents" | "charges")).then(|| id.to_owned())
}

impl Stripe {
    /// A new id.
    fn id(&mut self, prefix: &str, length: usize) -> String {
        self.counter += 1;
        format!("{prefix}{}", digits("id", &self.counter.to_string(), length))
    }

    fn authorised(&self, request: &Request) -> Result<(), Failure> {
        let header = request.header("authorization");
        let key = header.and_then(|value| match value.split_once(' ')? {
            ("Bearer" | "bearer", key) => Some(key.to_owned()),
            ("Basic" | "basic", encoded) => {
                let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
                Some(decoded.split(':').next()?.to_owned())
            }
            _ => None,
        });
        let Some(key) = key else { return Err(Failure::key(None)) };
        let good = match &self.secret_key {
            Some(only) => *only == key,
            None => ["sk_test_", "rk_test_"].iter().any(|prefix| {
                key.strip_prefix(prefix)
                    .is_some_and(|rest| !rest.is_empty() && rest != "wrong")
            }),
        };
        if good { Ok(()) } else { Err(Failure::key(Some(&key))) }
    }

    /// The key's full name: keys belong to an account.
    fn key(request: &Request) -> Option<String> {
        if request.method != Method::POST {
            return None;
        }
        let key = request.header("idempotency-key")?;
        Some(format!(
            "{} {key}",
            request.header("stripe-account").unwrap_or_default()
        ))
    }

    fn fingerprint(request: &Request) -> String {
        let params = Params::parse(&request.body).map(|params| params.fingerprint());
        let params = params.unwrap_or_else(|_| String::from_utf8_lossy(&request.body).into_owned());
        format!("{}\n{params}", request.path)
    }

    /// The headers that every answer has.
    fn finish(&self, request: &Request, request_id: &str, mut answer: Response<Bytes>) -> Response<Bytes> {
        let headers = answer.headers_mut();
        headers
            .entry(header::CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("application/json"));
        let mut put = |name: &'static str, value: Option<&str>| {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        };
        put("request-id", Some(request_id));
        put(
            "stripe-version",
            Some(request.header("stripe-version").unwrap_or(objects::VERSION)),
        );
        if request.method == Method::POST {
            put("idempotency-key", request.header("idempotency-key"));
        }
        answer
    }

    fn failed(&mut self, request: &Request, failure: Failure) -> Response<Bytes> {
        let id = self.id("req_", 14);
        let answer = failure.answer(&id);
        self.finish(request, &id, answer)
    }

    fn call<'a>(&mut self, now: i64, request: &'a Request) -> Result<Call<'a>, Failure> {
        let version = request.header("stripe-version").unwrap_or(objects::VERSION);
        let dated = version.len() >= 10
            && version
                .bytes()
                .take(10)
                .all(|byte| byte.is_ascii_digit() || byte == b'-');
        let text = match request.method {
            Method::GET | Method::DELETE => request.query.as_bytes(),
            _ => &request.body,
        };
        let params = Params::parse(text)?;
        if !dated {
            return Err(Failure::invalid(
                "Stripe-Version",
                &format!("Invalid Stripe API version: {version}"),
            ));
        }
        // Of a request that names no version only the account knows which name it means.
        if request.path.starts_with("/v1/payment_intents")
            && let Some(named) = request.header("stripe-version")
        {
            let (old, new) = ("payment_method_types", "allowed_payment_method_types");
            let stale = if named < ALLOWED_TYPES { new } else { old };
            if params.has(stale) {
                return Err(Failure::unknown(stale));
            }
        }
        Ok(Call {
            now,
            request_id: self.id("req_", 14),
            key: request
                .header("idempotency-key")
                .filter(|_| request.method == Method::POST),
            old: version < LATEST_CHARGE,
            version: version.to_owned(),
            base: &request.base,
            params,
        })
    }

    fn route(&mut self, call: &Call<'_>, request: &Request, turn: &mut Turn) -> Outcome {
        let path = request.path.strip_prefix("/v1/").unwrap_or_default();
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        let (get, post) = (request.method == Method::GET, request.method == Method::POST);
        let url = &request.path;
        if get {
            match parts.as_slice() {
                [name] if Collection::of(name).is_some() => {
                    let of = Collection::of(name).unwrap_or(Collection::Intents);
                    return self.list(call, of, url, None);
                }
                [name @ ("payment_intents" | "charges" | "customers"), "search"] => {
                    let of = Collection::of(name).unwrap_or(Collection::Intents);
                    return self.search(call, of, url);
                }
                ["customers", id, "payment_methods"] => {
                    self.customer(id)?;
                    return self.list(call, Collection::Methods, url, Some(("customer", id)));
                }
                ["charges", id, "refunds"] => {
                    self.charge(id)?;
                    return self.list(call, Collection::Refunds, url, Some(("charge", id)));
                }
                _ => call.params.only(&["expand", "client_secret"])?,
            }
        }
        match parts.as_slice() {
            ["payment_intents"] if post => self.create_intent(call, turn),
            ["payment_intents", id] if get => Ok(self.show_intent(self.intent(id)?, call.old)),
            ["payment_intents", id] if post => self.update_intent(call, id),
            ["payment_intents", id, "confirm"] if post => self.confirm_intent(call, id, turn),
            ["payment_intents", id, "capture"] if post => self.capture_intent(call, id, turn),
            ["payment_intents", id, "cancel"] if post => self.cancel_intent(call, id, turn),
            ["payment_intents", id, "increment_authorization"] if post => {
                self.intent(id)?;
                Err(Failure::refused(
                    "This account is not set up for incremental authorizations.",
                ))
            }
            ["charges"] if post => self.create_charge(call, turn),
            ["charges", id] if get => Ok(self.show_charge(self.charge(id)?, call.old)),
            ["charges", id] if post => self.update_charge(call, id),
            ["charges", id, "capture"] if post => self.capture_charge(call, id, turn),
            ["charges", id, "refunds" | "refund"] if post => self.create_refund(call, Some(id), turn),
            ["refunds"] if post => self.create_refund(call, None, turn),
            ["refunds", id] | ["charges", _, "refunds", id] if get => Ok(self.show_refund(self.refund(id)?)),
            ["refunds", id] if post => self.update_refund(call, id),
            ["refunds", id, "cancel"] if post => {
                self.refund(id)?;
                Err(Failure::refused(
                    "Only refunds with status `requires_action` can be canceled.",
                ))
            }
            ["payment_methods"] if post => self.create_method(call),
            ["payment_methods", id] | ["customers", _, "payment_methods", id] if get => {
                Ok(objects::method(self.method(id)?))
            }
            ["payment_methods", id] if post => self.update_method(call, id),
            ["payment_methods", id, "attach"] if post => self.attach(call, id),
            ["payment_methods", id, "detach"] if post => self.detach(call, id),
            ["customers"] if post => self.create_customer(call),
            ["customers", id] if get => match self.customers.get(*id) {
                Some(customer) => Ok(objects::customer(customer)),
                None => Err(Failure::no_such("customer", id)),
            },
            ["customers", id] if post => self.update_customer(call, id),
            ["customers", id] if request.method == Method::DELETE => self.delete_customer(id),
            ["tokens"] if post => self.create_token(call),
            ["tokens", id] if get => match self.tokens.get(*id) {
                Some(token) => Ok(objects::token(token)),
                None => Err(Failure::no_such("token", id)),
            },
            ["events", id] if get => match self.events.iter().find(|event| event.id == *id) {
                Some(event) => Ok(objects::event(event)),
                None => Err(Failure::no_such("event", id)),
            },
            ["balance"] if get => Ok(self.show_balance()),
            ["balance_transactions", id] if get => self
                .show_balance_transaction(id)
                .ok_or_else(|| Failure::no_such("balance transaction", id)),
            _ => Err(Failure::no_such_url(request.method.as_str(), url)),
        }
    }

    /// The page of the customer's bank: `/_3ds/{intent}` agrees, `?fail` refuses.
    fn bank(&mut self, now: i64, request: &Request, turn: &mut Turn) -> Response<Bytes> {
        let id = request.path.trim_start_matches("/_3ds/").to_owned();
        let call = Call {
            now,
            request_id: self.id("req_", 14),
            key: None,
            old: false,
            version: objects::VERSION.to_owned(),
            base: &request.base,
            params: Params::default(),
        };
        let failed = request.query.split('&').any(|word| word.starts_with("fail"));
        let mut answer = match self.authenticate(&call, &id, failed, turn) {
            Ok(back) => {
                let mut answer = Response::new(Bytes::from_static(
                    b"<!DOCTYPE html><title>Bank</title><p>Thank you.</p>",
                ));
                if let Some(value) = back.and_then(|back| HeaderValue::from_str(&back).ok()) {
                    *answer.status_mut() = StatusCode::FOUND;
                    answer.headers_mut().insert(header::LOCATION, value);
                }
                answer
            }
            Err(failure) => failure.answer(&call.request_id),
        };
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
        answer
    }
}

impl Simulator for Stripe {
    fn gateway(&self) -> &'static str {
        "stripe"
    }

    fn admit(&mut self, now: i64, request: &Request) -> Result<(), Box<Response<Bytes>>> {
        if request.path.starts_with("/_3ds/") {
            return Ok(());
        }
        if let Err(failure) = self.authorised(request) {
            return Err(Box::new(self.failed(request, failure)));
        }
        let fingerprint = Self::fingerprint(request);
        let key = Self::key(request);
        if let Some(key) = &key {
            if request
                .header("idempotency-key")
                .is_some_and(|key| key.is_empty() || key.len() > 255)
            {
                let failure = Failure::invalid("Idempotency-Key", "Idempotency keys have 1 to 255 characters.");
                return Err(Box::new(self.failed(request, failure)));
            }
            let expired = |stored: &Stored| matches!(&stored.answer, Some((at, ..)) if now - at >= KEY_LIFE);
            if self.keys.get(key).is_some_and(expired) {
                self.keys.remove(key);
            }
            match self.keys.get(key) {
                Some(Stored { answer: None, .. }) => {
                    return Err(Box::new(self.failed(request, Failure::key_in_use())));
                }
                // Misbehaviour by setting: the key is taken by whoever comes.
                Some(stored) if stored.fingerprint != fingerprint && self.keys_ignore_parameters => {}
                Some(stored) if stored.fingerprint != fingerprint => {
                    return Err(Box::new(self.failed(request, Failure::mismatch())));
                }
                Some(Stored {
                    answer: Some((_, answer, original)),
                    ..
                }) => {
                    let (mut answer, original) = (answer.clone(), original.clone());
                    let id = self.id("req_", 14);
                    let headers = answer.headers_mut();
                    headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
                    if let Ok(value) = HeaderValue::from_str(&original) {
                        headers.insert("original-request", value);
                    }
                    return Err(Box::new(self.finish(request, &id, answer)));
                }
                None => {}
            }
        }
        if let Some(object) = locked(request) {
            if self.busy.contains(&object) {
                return Err(Box::new(self.failed(request, Failure::locked())));
            }
            self.busy.push(object);
        }
        if let Some(key) = key {
            self.keys.insert(
                key,
                Stored {
                    fingerprint,
                    answer: None,
                },
            );
        }
        Ok(())
    }

    fn execute(&mut self, now: i64, request: &Request) -> (Response<Bytes>, Turn) {
        let mut turn = Turn::default();
        if request.path.starts_with("/_3ds/") {
            return (self.bank(now, request, &mut turn), turn);
        }
        let call = match self.call(now, request) {
            Ok(call) => call,
            Err(failure) => {
                self.abandon(request);
                return (self.failed(request, failure), turn);
            }
        };
        self.expire(&call, &mut turn);
        let result = Self::expandable(&call.params)
            .and_then(|()| self.route(&call, request, &mut turn))
            .map(|mut object| {
                self.expand(&call, &mut object);
                object
            });
        self.abandon(request);
        let (answer, keep) = match result {
            Ok(object) => (Response::new(object.to_string().into()), true),
            Err(failure) => {
                let keep = failure.executed;
                (failure.answer(&call.request_id), keep)
            }
        };
        let answer = self.finish(request, &call.request_id, answer);
        if keep {
            self.store(now, request, &answer, &call.request_id);
        }
        (answer, turn)
    }

    fn remember(&mut self, now: i64, request: &Request, answer: &Response<Bytes>) {
        let id = answer
            .headers()
            .get("request-id")
            .and_then(|id| id.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        self.store(now, request, answer, &id);
    }

    fn abandon(&mut self, request: &Request) {
        if let Some(object) = locked(request) {
            self.busy.retain(|busy| *busy != object);
        }
        if let Some(key) = Self::key(request)
            && matches!(self.keys.get(&key), Some(Stored { answer: None, .. }))
        {
            self.keys.remove(&key);
        }
    }

    fn fire(&mut self, now: i64, token: &str) -> Turn {
        let mut turn = Turn::default();
        let call = Call {
            now,
            request_id: self.id("req_", 14),
            key: None,
            old: false,
            version: objects::VERSION.to_owned(),
            base: "",
            params: Params::default(),
        };
        self.settle_refund(&call, token, &mut turn);
        turn
    }

    fn native_error(&self, error: NativeError, request: &Request) -> Response<Bytes> {
        let failure = match error {
            NativeError::RateLimit => Failure::rate_limit(),
            NativeError::Conflict => Failure::key_in_use(),
            NativeError::Internal => Failure::api(StatusCode::INTERNAL_SERVER_ERROR),
            NativeError::Unavailable => Failure::api(StatusCode::SERVICE_UNAVAILABLE),
            NativeError::Unauthorized => Failure::key(Some("sk_test_revoked")),
            NativeError::Forbidden => Failure::forbidden(),
        };
        let id = format!("req_{}", digits("native", &request.path, 14));
        let mut answer = failure.answer(&id);
        if error == NativeError::RateLimit {
            let headers = answer.headers_mut();
            headers.insert("stripe-rate-limited-reason", HeaderValue::from_static("global-rate"));
        }
        self.finish(request, &id, answer)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let millis = || {
            value
                .parse()
                .map(Duration::from_millis)
                .map_err(|_| format!("{name} is in milliseconds"))
        };
        match name {
            "secret_key" => self.secret_key = Some(value.to_owned()),
            "webhook_secret" => value.clone_into(&mut self.webhook_secret),
            "webhook_ms" => self.webhook_delay = millis()?,
            "refund_ms" => self.refund_delay = millis()?,
            "search_lag" => self.search_lag = value.parse().map_err(|_| "search_lag is in seconds".to_owned())?,
            "raw_cards" => self.raw_cards = value.parse().map_err(|_| "raw_cards is true or false".to_owned())?,
            "keys_ignore_parameters" => {
                self.keys_ignore_parameters = value.parse().map_err(|_| format!("{name} is true or false"))?;
            }
            "cancels_are_undone" => {
                self.cancels_are_undone = value.parse().map_err(|_| format!("{name} is true or false"))?;
            }
            _ => {
                return Err(
                    "secret_key, webhook_secret, webhook_ms, refund_ms, search_lag, raw_cards, \
                            keys_ignore_parameters or cancels_are_undone"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

impl Stripe {
    fn store(&mut self, now: i64, request: &Request, answer: &Response<Bytes>, request_id: &str) {
        if let Some(key) = Self::key(request) {
            self.keys.insert(
                key,
                Stored {
                    fingerprint: Self::fingerprint(request),
                    answer: Some((now, answer.clone(), request_id.to_owned())),
                },
            );
        }
    }
}

#[cfg(test)]
mod tests;
