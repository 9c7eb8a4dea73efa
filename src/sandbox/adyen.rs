//! A simulator of Adyen's Checkout API (v68 to v72).
//!
//! Faithful where failover depends on it: refusals come with HTTP 200; an idempotency key belongs to the company account
//! for seven days, answers with the stored answer whatever the body says, and is in use (422 `704`) while its request
//! runs; errors with `transient-error: true` leave the key free. Captures, cancels and refunds are `201 received` first,
//! happen later, and can fail then, which only a webhook tells. A cancel by reference takes the latest payment with that
//! reference, and finds nothing when there is none *yet*. There is no call that reads a payment.
//!
//! Outcomes are chosen as in Adyen's test environment ([`cards`]): by the holder's name, by
//! `RequestedTestAcquirerResponseCode`, by `RequestedTestErrorResponseCode`, by test cards that ask for 3-D Secure. Stored
//! payment methods are any id of 16 letters and digits; `DECLINED` and eight digits is refused with that code.

mod answers;
mod cards;
mod payments;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Guide, NativeError, Request, Scheduled, Simulator, Turn};
use answers::{Failure, failure, ok};
use payments::{Modification, Payment};

/// For people.
pub const GUIDE: Guide = Guide {
    port: 9086,
    credentials: &[("X-API-Key", "sandbox"), ("merchantAccount", "AcmeECOM")],
    instruments: &[
        ("4111111111111111, holder J. Smith", "authorised"),
        ("holder DECLINED", "refused, reason 2"),
        ("holder NOT_ENOUGH_BALANCE", "refused, reason 12"),
        ("holder FRAUD", "refused, reason 20"),
        ("storedPaymentMethodId of 16 letters and digits", "authorised"),
    ],
};

/// How long a key is kept: seven days, the shorter figure of Adyen's documents.
const KEY_LIFE: i64 = 7 * 86_400;

/// How long an authorisation is kept: 28 days.
const AUTHORISATION_LIFE: i64 = 28 * 86_400;

/// What is stored under an idempotency key.
enum Stored {
    /// Its request is running.
    Running,
    /// Its answer, and when it was given.
    Answer(i64, Response<Bytes>),
}

/// The simulator.
pub struct Adyen {
    api_key: String,
    merchant_account: String,
    hmac_key: Vec<u8>,
    /// Whether a payment that says nothing is captured at once.
    automatic: bool,
    /// Whether a partial capture leaves the rest of the hold.
    multiple_captures: bool,
    /// Between `received` and the modification itself.
    modification_delay: Duration,
    /// Between an event and its webhook.
    webhook_delay: Duration,
    /// Whether an accepted refund fails afterwards.
    refunds_fail: bool,
    keys: HashMap<String, Stored>,
    payments: HashMap<String, Payment>,
    /// In the order they were made; `/cancels` takes the latest of a reference.
    order: Vec<String>,
    modifications: HashMap<String, Modification>,
    counter: u64,
}

impl Default for Adyen {
    fn default() -> Self {
        Self {
            api_key: "sandbox".to_owned(),
            merchant_account: "AcmeECOM".to_owned(),
            hmac_key: Vec::new(),
            automatic: true,
            multiple_captures: false,
            modification_delay: Duration::from_millis(50),
            webhook_delay: Duration::from_millis(20),
            refunds_fail: false,
            keys: HashMap::new(),
            payments: HashMap::new(),
            order: Vec::new(),
            modifications: HashMap::new(),
            counter: super::first_id(),
        }
    }
}

impl Adyen {
    /// A new reference of Adyen's form.
    fn psp(&mut self) -> String {
        const ALPHABET: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        self.counter += 1;
        let digest = Sha256::digest(format!("adyen sandbox {}", self.counter));
        let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
        digest.iter().take(16).map(letter).collect()
    }

    fn authorised(&self, request: &Request) -> bool {
        request.header("x-api-key") == Some(self.api_key.as_str())
    }

    fn route(&mut self, now: i64, request: &Request, turn: &mut Turn) -> Result<Response<Bytes>, Failure> {
        let path = request.path.strip_prefix("/checkout").unwrap_or(&request.path);
        let resource = path
            .strip_prefix("/v")
            .and_then(|rest| rest.split_once('/'))
            .filter(|(version, _)| version.parse().is_ok_and(|version: u32| (68..=72).contains(&version)))
            .map(|(_, resource)| resource.to_owned())
            .ok_or(Failure::NOT_FOUND)?;
        let segments: Vec<&str> = resource.split('/').collect();
        if request.method == Method::GET {
            return match segments.as_slice() {
                ["storedPaymentMethods"] => Ok(ok(&serde_json::json!({"storedPaymentMethods": []}))),
                _ => Err(Failure::NOT_FOUND),
            };
        }
        if request.method != Method::POST {
            return Err(Failure::NOT_FOUND);
        }
        let body: Map<String, Value> = serde_json::from_slice(&request.body).map_err(|_| Failure::PARSE)?;
        let key = request.header("idempotency-key").map(str::to_owned);
        if segments.as_slice() == ["payments", "details"] {
            return self.details(now, &body, key, turn);
        }
        let account = body.get("merchantAccount").and_then(Value::as_str);
        if account != Some(self.merchant_account.as_str()) {
            return Err(Failure::MERCHANT_ACCOUNT);
        }
        match segments.as_slice() {
            ["payments"] => self.pay(now, &body, key, turn),
            ["payments", psp, verb] => self.modify(psp, verb, &body, key, turn),
            ["cancels"] => self.cancel_by_reference(&body, key, turn),
            ["paymentMethods"] => Ok(ok(&serde_json::json!({"paymentMethods": [
                {"name": "Cards", "type": "scheme", "brands": ["visa", "mc", "amex"]}
            ]}))),
            _ => Err(Failure::NOT_FOUND),
        }
    }
}

impl Simulator for Adyen {
    fn gateway(&self) -> &'static str {
        "adyen"
    }

    fn admit(&mut self, now: i64, request: &Request) -> Result<(), Box<Response<Bytes>>> {
        if !self.authorised(request) {
            return Err(Box::new(failure(&Failure::CREDENTIALS, &self.psp())));
        }
        let Some(key) = request.header("idempotency-key").map(str::to_owned) else {
            return Ok(());
        };
        if key.is_empty() || key.len() > 64 {
            return Err(Box::new(failure(&Failure::KEY, &self.psp())));
        }
        match self.keys.get(&key) {
            Some(Stored::Running) => return Err(Box::new(failure(&Failure::DUPLICATE, &self.psp()))),
            Some(Stored::Answer(at, answer)) if now - at < KEY_LIFE => return Err(Box::new(answer.clone())),
            _ => {}
        }
        self.keys.insert(key, Stored::Running);
        Ok(())
    }

    fn execute(&mut self, now: i64, request: &Request) -> (Response<Bytes>, Turn) {
        let mut turn = self.expire(now);
        let mut answer = match self.route(now, request, &mut turn) {
            Ok(answer) => answer,
            Err(error) => failure(&error, &self.psp()),
        };
        if let Some(key) = request.header("idempotency-key").map(str::to_owned) {
            if let Ok(value) = http::HeaderValue::from_str(&key) {
                answer.headers_mut().insert("idempotency-key", value);
            }
            if answer.headers().contains_key("transient-error") {
                self.keys.remove(&key);
            } else {
                self.keys.insert(key, Stored::Answer(now, answer.clone()));
            }
        }
        (answer, turn)
    }

    fn abandon(&mut self, request: &Request) {
        if let Some(key) = request.header("idempotency-key")
            && matches!(self.keys.get(key), Some(Stored::Running))
        {
            self.keys.remove(key);
        }
    }

    fn fire(&mut self, now: i64, token: &str) -> Turn {
        let mut turn = self.expire(now);
        if let Some(modification) = self.modifications.remove(token) {
            self.perform(now, modification, &mut turn);
        }
        turn
    }

    fn native_error(&self, error: NativeError, _request: &Request) -> Response<Bytes> {
        let error = match error {
            NativeError::RateLimit => Failure::RATE_LIMIT,
            NativeError::Conflict => Failure::DUPLICATE,
            NativeError::Internal => Failure::INTERNAL,
            NativeError::Unavailable => Failure::OUTAGE,
            NativeError::Unauthorized => Failure::CREDENTIALS,
            NativeError::Forbidden => Failure::FORBIDDEN,
        };
        failure(&error, "F7WCWRG6JPHR8HG2")
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
            "api_key" => value.clone_into(&mut self.api_key),
            "merchant_account" => value.clone_into(&mut self.merchant_account),
            "webhook_secret" => {
                let byte = |at: usize| value.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
                let key: Option<Vec<u8>> = (0..value.len()).step_by(2).map(byte).collect();
                self.hmac_key = key.ok_or("webhook_secret is hexadecimal")?;
            }
            "capture" => {
                self.automatic = match value {
                    "automatic" => true,
                    "manual" => false,
                    _ => return Err("capture is automatic or manual".to_owned()),
                };
            }
            "multiple_captures" => self.multiple_captures = flag()?,
            "refunds_fail" => self.refunds_fail = flag()?,
            "modification_ms" => self.modification_delay = delay()?,
            "webhook_ms" => self.webhook_delay = delay()?,
            _ => {
                return Err(
                    "api_key, merchant_account, webhook_secret, capture, multiple_captures, refunds_fail, \
                            modification_ms or webhook_ms"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

/// A reminder for a modification.
fn later(after: Duration, token: &str) -> Scheduled {
    Scheduled {
        after,
        token: token.to_owned(),
    }
}

#[cfg(test)]
mod tests;
