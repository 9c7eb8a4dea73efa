//! A simulator of Square's Payments and Refunds APIs (v2).
//!
//! Faithful where failover depends on it: the key stands in the body, belongs to one kind of call, is 45 bytes at most,
//! answers with the stored answer once a payment object exists (a failed one, too), refuses another body, and is in use
//! (409) while its request runs; refused requests and failures of the gateway's own store nothing. Cancelling by key says
//! 200 whether it found anything or not, and keeps nothing from arriving later. The list of payments lags behind. Captures
//! take the whole; the amount can be lowered before. Refunds are `PENDING` first. A hold ends by itself after its delay.
//! Fields that the API does not know are refused.
//!
//! Outcomes are chosen by the source, as in Square's sandbox: `cnon:card-nonce-declined` and its kin, `ccof:` for saved
//! cards, which want their customer.

mod answers;
mod payments;
mod sources;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Guide, NativeError, Request, Simulator, Turn};
use answers::{Failure, failure};
use payments::{Payment, Refund};

/// For people.
pub const GUIDE: Guide = Guide {
    port: 9084,
    credentials: &[("Authorization", "Bearer sandbox"), ("location_id", "L88917AVBK2S5")],
    instruments: &[
        ("cnon:card-nonce-ok", "approved"),
        ("cnon:card-nonce-declined", "GENERIC_DECLINE"),
        ("cnon:card-nonce-rejected-cvv", "CVV_FAILURE"),
        ("cnon:card-edit-not-allowed", "approved, its amount cannot be edited"),
        ("ccof:customer-card-id-ok with a customer_id", "approved"),
    ],
};

/// What is stored under an idempotency key.
enum Stored {
    /// Its request is running.
    Running,
    /// The hash of its body, and its answer.
    Answer([u8; 32], Response<Bytes>),
}

/// The simulator.
pub struct Square {
    token: String,
    location: String,
    /// The currency of the seller's location, the only one that is taken.
    currency: String,
    webhook_secret: String,
    notification_url: String,
    /// Between an acceptance and the refund itself.
    refund_delay: Duration,
    /// Between an event and its webhook.
    webhook_delay: Duration,
    /// Whether an accepted refund fails afterwards.
    refunds_fail: bool,
    /// Seconds after which a payment is in the list.
    list_lag: i64,
    keys: HashMap<(String, String), Stored>,
    payments: HashMap<String, Payment>,
    /// In the order they were made.
    order: Vec<String>,
    refunds: HashMap<String, Refund>,
    counter: u64,
}

impl Default for Square {
    fn default() -> Self {
        Self {
            token: "sandbox".to_owned(),
            location: "L88917AVBK2S5".to_owned(),
            currency: "EUR".to_owned(),
            webhook_secret: String::new(),
            notification_url: String::new(),
            refund_delay: Duration::from_millis(50),
            webhook_delay: Duration::from_millis(20),
            refunds_fail: false,
            list_lag: 1,
            keys: HashMap::new(),
            payments: HashMap::new(),
            order: Vec::new(),
            refunds: HashMap::new(),
            counter: super::first_id(),
        }
    }
}

/// The kind of call that a key belongs to, for those that take one.
fn keyed(request: &Request) -> Option<(String, String)> {
    let update = request.method == Method::PUT && request.path.starts_with("/v2/payments/");
    let creates = request.method == Method::POST && matches!(request.path.as_str(), "/v2/payments" | "/v2/refunds");
    if !update && !creates {
        return None;
    }
    let body: Map<String, Value> = serde_json::from_slice(&request.body).ok()?;
    let key = body.get("idempotency_key")?.as_str()?;
    let fits = (1..=45).contains(&key.len());
    fits.then(|| (request.path.clone(), key.to_owned()))
}

impl Square {
    /// A new id of Square's form.
    fn id(&mut self, len: usize) -> String {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        self.counter += 1;
        let digest = Sha256::digest(format!("square sandbox {}", self.counter));
        let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
        digest.iter().take(len).map(letter).collect()
    }

    fn route(&mut self, now: i64, request: &Request, turn: &mut Turn) -> Result<Response<Bytes>, Failure> {
        let segments: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let (get, post) = (request.method == Method::GET, request.method == Method::POST);
        let body = || -> Result<Map<String, Value>, Failure> {
            if request.body.is_empty() {
                return Ok(Map::new());
            }
            serde_json::from_slice(&request.body).map_err(|_| Failure::invalid("EXPECTED_JSON_BODY", ""))
        };
        match segments.as_slice() {
            ["v2", "payments"] if post => self.pay(now, &body()?, turn),
            ["v2", "payments"] if get => self.list(now, &request.query),
            ["v2", "payments", "cancel"] if post => self.cancel_by_key(now, &body()?, turn),
            ["v2", "payments", id] if get => self.show(id),
            ["v2", "payments", id] if request.method == Method::PUT => self.edit(now, id, &body()?, turn),
            ["v2", "payments", id, "complete"] if post => self.complete(now, id, &body()?, turn),
            ["v2", "payments", id, "cancel"] if post => self.cancel(now, id, &body()?, turn),
            ["v2", "refunds"] if post => self.refund(now, &body()?, turn),
            ["v2", "refunds", id] if get => self.show_refund(id),
            _ => Err(Failure::NOT_FOUND),
        }
    }
}

impl Simulator for Square {
    fn gateway(&self) -> &'static str {
        "square"
    }

    fn admit(&mut self, _now: i64, request: &Request) -> Result<(), Box<Response<Bytes>>> {
        if request.header("authorization") != Some(format!("Bearer {}", self.token).as_str()) {
            return Err(Box::new(failure(&Failure::UNAUTHORIZED)));
        }
        let Some(key) = keyed(request) else { return Ok(()) };
        let body: [u8; 32] = Sha256::digest(&request.body).into();
        match self.keys.get(&key) {
            Some(Stored::Running) => return Err(Box::new(failure(&Failure::CONFLICT))),
            Some(Stored::Answer(same, answer)) if *same == body => return Err(Box::new(answer.clone())),
            Some(Stored::Answer(..)) => return Err(Box::new(failure(&Failure::KEY_REUSED))),
            None => {}
        }
        self.keys.insert(key, Stored::Running);
        Ok(())
    }

    fn execute(&mut self, now: i64, request: &Request) -> (Response<Bytes>, Turn) {
        let mut turn = self.expire(now);
        let (answer, stored) = match self.route(now, request, &mut turn) {
            Ok(answer) => (answer, true),
            Err(error) => (failure(&error), false),
        };
        if let Some(key) = keyed(request) {
            if stored {
                let body = Sha256::digest(&request.body).into();
                self.keys.insert(key, Stored::Answer(body, answer.clone()));
            } else {
                self.keys.remove(&key);
            }
        }
        (answer, turn)
    }

    fn abandon(&mut self, request: &Request) {
        if let Some(key) = keyed(request)
            && matches!(self.keys.get(&key), Some(Stored::Running))
        {
            self.keys.remove(&key);
        }
    }

    fn fire(&mut self, now: i64, token: &str) -> Turn {
        let mut turn = self.expire(now);
        self.finish_refund(now, token, &mut turn);
        turn
    }

    fn native_error(&self, error: NativeError, _request: &Request) -> Response<Bytes> {
        failure(&match error {
            NativeError::RateLimit => Failure::RATE_LIMITED,
            NativeError::Conflict => Failure::CONFLICT,
            NativeError::Internal => Failure::INTERNAL,
            NativeError::Unavailable => Failure::UNAVAILABLE,
            NativeError::Unauthorized => Failure::UNAUTHORIZED,
            NativeError::Forbidden => Failure::FORBIDDEN,
        })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let delay = || {
            value
                .parse()
                .map(Duration::from_millis)
                .map_err(|_| format!("{name} is in milliseconds"))
        };
        match name {
            "access_token" => value.clone_into(&mut self.token),
            "location_id" => value.clone_into(&mut self.location),
            "currency" => {
                sources::exponent(value).ok_or("currency is one of USD, CAD, GBP, AUD, JPY, EUR")?;
                value.clone_into(&mut self.currency);
            }
            "webhook_secret" => value.clone_into(&mut self.webhook_secret),
            "notification_url" => value.clone_into(&mut self.notification_url),
            "refunds_fail" => {
                self.refunds_fail = value.parse().map_err(|_| "refunds_fail is true or false".to_owned())?;
            }
            "list_lag" => self.list_lag = value.parse().map_err(|_| "list_lag is in seconds".to_owned())?,
            "refund_ms" => self.refund_delay = delay()?,
            "webhook_ms" => self.webhook_delay = delay()?,
            _ => {
                return Err(
                    "access_token, location_id, currency, webhook_secret, notification_url, refunds_fail, \
                            list_lag, refund_ms or webhook_ms"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
