//! A simulator of PayPal's Orders v2 and Payments v2.
//!
//! Faithful where failover depends on it: a request id is kept six hours for orders and 45 days for payments, answers
//! with the *latest state* of what it made (200 for orders) whatever the body says, and stores no errors; a twin of a
//! running request is refused by 409, or 422 at an order's capture; a paying create without a request id is refused; a
//! declined card can come as 422 or as a completed order with a declined capture inside; orders expire and cannot be
//! cancelled; authorisations live 29 days. Answers are minimal unless `Prefer` asks for more.
//!
//! Outcomes are chosen as in PayPal's sandbox ([`cards`]): by the cardholder's name (`CCREJECT-...`) or by the request
//! header `PayPal-Mock-Response`. A vault id `DECLINE-<processor code>` is declined with that code. Buyers agree to
//! wallet orders at once unless the setting `auto_approve` is off.
//!
//! With the setting `webhook_id` it sends webhooks, and says on `/v1/notifications/verify-webhook-signature` which are its
//! own; they are signed by no certificate of PayPal's, which no simulator has.

mod answers;
mod cards;
mod events;
mod orders;
mod payments;

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Guide, NativeError, Request, Simulator, Turn};
use answers::{Failure, failure, identity_failure};
use orders::Order;

/// For people.
pub const GUIDE: Guide = Guide {
    port: 9082,
    credentials: &[("client id", "sandbox"), ("client secret", "sandbox")],
    instruments: &[
        ("4012888888881881, name Jane Doe", "completed"),
        ("name CCREJECT-REFUSED", "declined, 0500"),
        ("name CCREJECT-IF", "declined, insufficient funds"),
        ("vault id DECLINE-9500", "declined, 9500"),
        ("any other vault id", "completed"),
    ],
};

/// Request ids of orders are kept six hours.
const ORDER_KEY_LIFE: i64 = 6 * 3600;

/// Request ids of payments are kept 45 days.
const PAYMENT_KEY_LIFE: i64 = 45 * 86_400;

/// How long a token is good for, in seconds.
const TOKEN_LIFE: i64 = 32_400;

/// What a request id made.
#[derive(Clone, Debug)]
enum Made {
    /// An order, by its id.
    Order(String),
    /// A capture, by order and its own id.
    Capture(String, String),
    /// A void, by order.
    Void(String),
    /// A refund, by order and its own id.
    Refund(String, String),
}

/// What is known of a request id.
enum Key {
    /// Its request is running.
    Running,
    /// It made something, at this time.
    Made(i64, Made),
}

/// The simulator.
pub struct Paypal {
    client_id: String,
    client_secret: String,
    /// Token and the time it expires.
    tokens: HashMap<String, i64>,
    /// Times of the last token fetches, for the limit on them.
    fetches: Vec<i64>,
    /// Token fetches allowed in a minute.
    token_limit: usize,
    auto_approve: bool,
    unique_invoices: bool,
    /// Whether a declined card is a completed order with a declined capture instead of 422.
    declines_inside: bool,
    keys: HashMap<String, Key>,
    /// Orders whose capture or authorisation is running.
    busy: Vec<String>,
    orders: HashMap<String, Order>,
    /// The id under which its webhooks go out; none goes out without.
    webhook_id: Option<String>,
    counter: u64,
}

impl Default for Paypal {
    fn default() -> Self {
        Self {
            client_id: "sandbox".to_owned(),
            client_secret: "sandbox".to_owned(),
            tokens: HashMap::new(),
            fetches: Vec::new(),
            token_limit: 1000,
            auto_approve: true,
            unique_invoices: false,
            declines_inside: false,
            keys: HashMap::new(),
            busy: Vec::new(),
            orders: HashMap::new(),
            webhook_id: None,
            counter: super::first_id(),
        }
    }
}

/// A request's resource: what stands behind `/v2/checkout/orders` or `/v2/payments`.
fn order_of(path: &str) -> Option<&str> {
    let (id, verb) = path.strip_prefix("/v2/checkout/orders/")?.split_once('/')?;
    matches!(verb, "capture" | "authorize").then_some(id)
}

impl Paypal {
    /// A new id of PayPal's form.
    fn id(&mut self) -> String {
        const ALPHABET: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        self.counter += 1;
        let digest = Sha256::digest(format!("paypal sandbox {}", self.counter));
        let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
        digest.iter().take(17).map(letter).collect()
    }

    fn token(&mut self, now: i64, request: &Request) -> Response<Bytes> {
        self.fetches.retain(|at| now - at < 60);
        if self.fetches.len() >= self.token_limit {
            return failure(&Failure::RATE_LIMIT);
        }
        self.fetches.push(now);
        let wanted = STANDARD.encode(format!("{}:{}", self.client_id, self.client_secret));
        if request.header("authorization") != Some(format!("Basic {wanted}").as_str()) {
            return identity_failure(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "Client Authentication failed",
            );
        }
        let mut form = form_urlencoded::parse(&request.body);
        if !form.any(|(name, value)| name == "grant_type" && value == "client_credentials") {
            return identity_failure(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "Grant Type is unsupported",
            );
        }
        let token = format!("A21AA{}{}", self.id(), self.id());
        self.tokens.insert(token.clone(), now + TOKEN_LIFE);
        answers::plain(
            StatusCode::OK,
            &json!({"scope": "https://uri.paypal.com/services/payments/payment", "access_token": token,
                "token_type": "Bearer", "app_id": "APP-80W284485P519543T", "expires_in": TOKEN_LIFE,
                "nonce": format!("{}{token}", answers::time(now))}),
        )
    }

    /// The full name of a request id: ids are kept by family of calls.
    fn key(request: &Request) -> Option<String> {
        let key = request.header("paypal-request-id")?;
        Some(format!("{} {key}", request.path))
    }

    fn life(request: &Request) -> i64 {
        if request.path.starts_with("/v2/payments/") {
            PAYMENT_KEY_LIFE
        } else {
            ORDER_KEY_LIFE
        }
    }

    /// The latest state of what a request id made.
    fn replay(&self, now: i64, request: &Request, made: &Made) -> Response<Bytes> {
        let order = match made {
            Made::Order(order) | Made::Capture(order, _) | Made::Void(order) | Made::Refund(order, _) => order,
        };
        let Some(order) = self.orders.get(order) else {
            return failure(&Failure::NOT_FOUND);
        };
        let page = answers::Page { request, now };
        match made {
            Made::Order(_) => page.posted(StatusCode::OK, order.show(&page)),
            Made::Capture(_, id) => page.posted(StatusCode::CREATED, order.show_capture(&page, id)),
            Made::Refund(_, id) => page.posted(StatusCode::CREATED, order.show_refund(&page, id)),
            Made::Void(_) => page.voided(order.show_authorization(&page)),
        }
    }

    fn route(
        &mut self,
        now: i64,
        request: &Request,
        turn: &mut Turn,
    ) -> Result<(Response<Bytes>, Option<Made>), Failure> {
        let path = request.path.clone();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let body: Value = if request.body.is_empty() {
            json!({})
        } else {
            serde_json::from_slice(&request.body).map_err(|_| Failure::invalid("MALFORMED_REQUEST_JSON"))?
        };
        if !body.is_object() && request.method != Method::PATCH {
            return Err(Failure::invalid("MALFORMED_REQUEST_JSON"));
        }
        if let Some(mock) = request.header("paypal-mock-response") {
            let mock: Value = serde_json::from_str(mock).unwrap_or_default();
            if let Some(code) = mock.get("mock_application_codes").and_then(Value::as_str) {
                return Err(Failure::mocked(code));
            }
        }
        let get = request.method == Method::GET;
        if !get && request.method != Method::POST {
            return Err(Failure::NOT_FOUND);
        }
        match segments.as_slice() {
            ["v1", "notifications", "verify-webhook-signature"] if !get => Ok((self.vouch(&body), None)),
            ["v2", "checkout", "orders"] if !get => self.create(now, request, &body, turn),
            ["v2", "checkout", "orders", id] if get => self.show_order(now, request, id),
            ["v2", "checkout", "orders", id, verb @ ("capture" | "authorize")] if !get => {
                self.complete(now, request, id, verb, &body, turn)
            }
            ["v2", "payments", kind @ ("authorizations" | "captures" | "refunds"), id] if get => {
                self.show_payment(now, request, kind, id)
            }
            ["v2", "payments", "authorizations", id, "capture"] if !get => self.capture(now, request, id, &body, turn),
            ["v2", "payments", "authorizations", id, "void"] if !get => self.void(now, request, id, turn),
            ["v2", "payments", "captures", id, "refund"] if !get => self.refund(now, request, id, &body, turn),
            _ => Err(Failure::NOT_FOUND),
        }
    }
}

impl Simulator for Paypal {
    fn gateway(&self) -> &'static str {
        "paypal"
    }

    fn admit(&mut self, now: i64, request: &Request) -> Result<(), Box<Response<Bytes>>> {
        if request.path == "/v1/oauth2/token" {
            return Err(Box::new(self.token(now, request)));
        }
        let token = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "));
        let expires = token.and_then(|token| self.tokens.get(token));
        if expires.is_none_or(|expires| now >= *expires) {
            return Err(Box::new(failure(&Failure::AUTHENTICATION)));
        }
        if request.method != Method::POST {
            return Ok(());
        }
        let key = Self::key(request);
        match key.as_ref().and_then(|key| self.keys.get(key)) {
            Some(Key::Running) => return Err(Box::new(failure(&Failure::running(&request.path)))),
            Some(Key::Made(at, made)) if now - at < Self::life(request) => {
                return Err(Box::new(self.replay(now, request, &made.clone())));
            }
            _ => {}
        }
        if let Some(order) = order_of(&request.path) {
            if self.busy.iter().any(|busy| busy == order) {
                return Err(Box::new(failure(&Failure::running(&request.path))));
            }
            self.busy.push(order.to_owned());
        }
        if let Some(key) = key {
            self.keys.insert(key, Key::Running);
        }
        Ok(())
    }

    fn execute(&mut self, now: i64, request: &Request) -> (Response<Bytes>, Turn) {
        let mut turn = self.expire(now);
        let result = self.route(now, request, &mut turn);
        self.abandon(request);
        for effect in &turn.effects {
            turn.webhooks.extend(self.webhook(now, request, effect));
        }
        match result {
            Ok((answer, made)) => {
                if let (Some(key), Some(made)) = (Self::key(request), made) {
                    self.keys.insert(key, Key::Made(now, made));
                }
                (answer, turn)
            }
            Err(error) => (failure(&error), turn),
        }
    }

    fn abandon(&mut self, request: &Request) {
        if let Some(order) = order_of(&request.path) {
            self.busy.retain(|busy| busy != order);
        }
        if let Some(key) = Self::key(request)
            && matches!(self.keys.get(&key), Some(Key::Running))
        {
            self.keys.remove(&key);
        }
    }

    fn native_error(&self, error: NativeError, request: &Request) -> Response<Bytes> {
        failure(&match error {
            NativeError::RateLimit => Failure::RATE_LIMIT,
            NativeError::Conflict => Failure::running(&request.path),
            NativeError::Internal => Failure::INTERNAL,
            NativeError::Unavailable => Failure::UNAVAILABLE,
            NativeError::Unauthorized => Failure::AUTHENTICATION,
            NativeError::Forbidden => Failure::forbidden("PERMISSION_DENIED"),
        })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let flag = || value.parse::<bool>().map_err(|_| format!("{name} is true or false"));
        match name {
            "client_id" => value.clone_into(&mut self.client_id),
            "client_secret" => value.clone_into(&mut self.client_secret),
            "webhook_id" => self.webhook_id = Some(value.to_owned()).filter(|id| !id.is_empty()),
            "auto_approve" => self.auto_approve = flag()?,
            "unique_invoices" => self.unique_invoices = flag()?,
            "declines_inside" => self.declines_inside = flag()?,
            "token_limit" => self.token_limit = value.parse().map_err(|_| "token_limit is a number".to_owned())?,
            "revoke_tokens" => self.tokens.clear(),
            _ => {
                return Err(
                    "client_id, client_secret, webhook_id, auto_approve, unique_invoices, declines_inside, token_limit or \
                            revoke_tokens"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
