//! A simulator of Razorpay's Orders, Payments and Refunds APIs (v1).
//!
//! Faithful where failover depends on it: payments have no key, and an order is what is paid once: a second success on it is
//! returned. `failed` is not final after a timeout: with `late_ms` the bank still authorises. A mandate's charge answers an
//! id and is decided later; a server's card payment answers a next step. A capture takes the whole, what is not captured in
//! the order's time is returned, and there is no void. Refunds have a key of ten characters at least, which is in use (409)
//! while its request runs and belongs to one body. Unknown ids and paths are 400, and empty `notes` are `[]`.
//!
//! Outcomes are chosen by test cards as in Razorpay's test mode ([`cards`]), and for mandates, which have no published
//! values there, by the token's name: `token_Declined...`, `token_TimedOut...`; every other one is good.

mod answers;
mod cards;
mod objects;
mod orders;
mod payments;
mod refunds;

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Guide, NativeError, Request, Simulator, Turn};
use answers::{Failure, failure};
use objects::{Order, Payment, Refund};

/// For people.
pub const GUIDE: Guide = Guide {
    port: 9085,
    credentials: &[("key_id", "rzp_test_sandbox"), ("key_secret", "sandbox")],
    instruments: &[
        ("cust_1Aa00000000001/token_1Aa00000000001", "mandate, charged"),
        ("cust_1Aa00000000001/token_Declined000001", "mandate, card_declined"),
        (
            "cust_1Aa00000000001/token_TimedOut000001",
            "mandate, payment_timed_out (late_ms: then charged)",
        ),
        ("4100280000001007, OTP of 4 to 10 digits", "authorised"),
        ("4100280000080001", "insufficient_funds"),
    ],
};

/// What is stored under a refund's key.
enum Stored {
    /// Its request is running.
    Running,
    /// The hash of its path and body, and its answer.
    Answer([u8; 32], Response<Bytes>),
}

/// What happens when a receipt comes a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receipts {
    /// Another order.
    Repeated,
    /// A refusal that names the first order.
    Unique,
}

/// The simulator.
pub struct Razorpay {
    key_id: String,
    key_secret: String,
    webhook_secret: String,
    receipts: Receipts,
    /// Whether the account takes card payments from servers.
    server_cards: bool,
    /// Whether it takes other currencies than rupees.
    international: bool,
    /// Between a mandate's charge and its outcome.
    charge_delay: Duration,
    /// After a timeout, when the bank authorises after all.
    late: Option<Duration>,
    refund_delay: Duration,
    refunds_fail: bool,
    webhook_delay: Duration,
    keys: HashMap<String, Stored>,
    orders: HashMap<String, Order>,
    payments: HashMap<String, Payment>,
    refunds: HashMap<String, Refund>,
    /// Orders and payments in the order they were made.
    made: Vec<String>,
    counter: u64,
}

impl Default for Razorpay {
    fn default() -> Self {
        Self {
            key_id: "rzp_test_sandbox".to_owned(),
            key_secret: "sandbox".to_owned(),
            webhook_secret: String::new(),
            receipts: Receipts::Repeated,
            server_cards: true,
            international: false,
            charge_delay: Duration::from_millis(30),
            late: None,
            refund_delay: Duration::from_millis(30),
            refunds_fail: false,
            webhook_delay: Duration::from_millis(20),
            keys: HashMap::new(),
            orders: HashMap::new(),
            payments: HashMap::new(),
            refunds: HashMap::new(),
            made: Vec::new(),
            counter: super::first_id(),
        }
    }
}

/// The key of a refund, and what its request is.
fn keyed(request: &Request) -> Option<(String, [u8; 32])> {
    if request.method != Method::POST || !request.path.ends_with("/refund") {
        return None;
    }
    let key = request.header("x-refund-idempotency")?;
    let hash = Sha256::new()
        .chain_update(&request.path)
        .chain_update(&request.body)
        .finalize();
    Some((key.to_owned(), hash.into()))
}

impl Razorpay {
    /// A new id of Razorpay's form.
    fn id(&mut self, prefix: &str) -> String {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        self.counter += 1;
        let digest = Sha256::digest(format!("razorpay sandbox {}", self.counter));
        let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
        let letters: String = digest.iter().take(14).map(letter).collect();
        format!("{prefix}{letters}")
    }

    fn authorised(&self, request: &Request) -> bool {
        let pair = STANDARD.encode(format!("{}:{}", self.key_id, self.key_secret));
        request.header("authorization") == Some(format!("Basic {pair}").as_str())
    }

    fn route(&mut self, now: i64, request: &Request, turn: &mut Turn) -> Result<Response<Bytes>, Failure> {
        let segments: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let (get, post) = (request.method == Method::GET, request.method == Method::POST);
        let body = || -> Result<Map<String, Value>, Failure> {
            if request.body.is_empty() {
                return Ok(Map::new());
            }
            serde_json::from_slice(&request.body).map_err(|_| Failure::invalid("The request body is no JSON object"))
        };
        match segments.as_slice() {
            ["v1", "orders"] if post => self.open(now, &body()?),
            ["v1", "orders"] if get => Ok(self.find_orders(&request.query)),
            ["v1", "orders", id] if get => self.show_order(id),
            ["v1", "orders", id, "payments"] if get => self.payments_of(id),
            ["v1", "payments", "create", "recurring"] if post => self.recurring(now, &body()?, turn),
            ["v1", "payments", "create", "json"] if post => self.card_payment(now, &body()?, &request.base),
            ["v1", "payments", id, "otp", "submit"] if post => self.otp(now, id, &body()?, turn),
            ["v1", "payments"] if get => Ok(self.list_payments(&request.query)),
            ["v1", "payments", id] if get => self.show_payment(id),
            ["v1", "payments", id, "capture"] if post => self.capture(now, id, &body()?, turn),
            ["v1", "payments", id, "refund"] if post => self.refund(now, id, &body()?, turn),
            ["v1", "payments", id, "refunds"] if get => self.refunds_of(id),
            ["v1", "refunds", id] | ["v1", "payments", _, "refunds", id] if get => self.show_refund(id),
            _ => Err(Failure::URL),
        }
    }
}

impl Simulator for Razorpay {
    fn gateway(&self) -> &'static str {
        "razorpay"
    }

    fn admit(&mut self, _now: i64, request: &Request) -> Result<(), Box<Response<Bytes>>> {
        if !self.authorised(request) {
            return Err(Box::new(failure(&Failure::UNAUTHORIZED)));
        }
        let Some((key, hash)) = keyed(request) else {
            return Ok(());
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if key.len() < 10 || !key.bytes().all(plain) {
            return Err(Box::new(failure(&Failure::invalid("The idempotency key is not valid"))));
        }
        match self.keys.get(&key) {
            Some(Stored::Running) => return Err(Box::new(failure(&Failure::RUNNING))),
            Some(Stored::Answer(same, answer)) if *same == hash => return Err(Box::new(answer.clone())),
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
        if let Some((key, hash)) = keyed(request) {
            if stored {
                self.keys.insert(key, Stored::Answer(hash, answer.clone()));
            } else {
                self.keys.remove(&key);
            }
        }
        (answer, turn)
    }

    fn abandon(&mut self, request: &Request) {
        if let Some((key, _)) = keyed(request)
            && matches!(self.keys.get(&key), Some(Stored::Running))
        {
            self.keys.remove(&key);
        }
    }

    fn fire(&mut self, now: i64, token: &str) -> Turn {
        let mut turn = self.expire(now);
        match token.split_once(':') {
            Some(("charge", id)) => self.decide(now, id, &mut turn),
            Some(("late", id)) => self.succeed(now, id, &mut turn),
            Some(("refund", id)) => self.finish_refund(now, id, &mut turn),
            _ => {}
        }
        turn
    }

    fn native_error(&self, error: NativeError, _request: &Request) -> Response<Bytes> {
        failure(&match error {
            NativeError::RateLimit => Failure::RATE_LIMITED,
            NativeError::Conflict => Failure::RUNNING,
            NativeError::Internal => Failure::INTERNAL,
            NativeError::Unavailable => Failure::UNAVAILABLE,
            NativeError::Unauthorized => Failure::UNAUTHORIZED,
            NativeError::Forbidden => Failure::FORBIDDEN,
        })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let flag = || value.parse::<bool>().map_err(|_| format!("{name} is true or false"));
        let delay = || {
            value
                .parse()
                .map(Duration::from_millis)
                .map_err(|_| format!("{name} is in milliseconds"))
        };
        match name {
            "key_id" => value.clone_into(&mut self.key_id),
            "key_secret" => value.clone_into(&mut self.key_secret),
            "webhook_secret" => value.clone_into(&mut self.webhook_secret),
            "receipts" => {
                self.receipts = match value {
                    "repeated" => Receipts::Repeated,
                    "unique" => Receipts::Unique,
                    _ => return Err("receipts is repeated or unique".to_owned()),
                };
            }
            "server_cards" => self.server_cards = flag()?,
            "international" => self.international = flag()?,
            "refunds_fail" => self.refunds_fail = flag()?,
            "charge_ms" => self.charge_delay = delay()?,
            "late_ms" => self.late = Some(delay()?),
            "refund_ms" => self.refund_delay = delay()?,
            "webhook_ms" => self.webhook_delay = delay()?,
            _ => {
                return Err(
                    "key_id, key_secret, webhook_secret, receipts, server_cards, international, refunds_fail, charge_ms, \
                     late_ms, refund_ms or webhook_ms"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
