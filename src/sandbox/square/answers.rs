//! Answers and errors in Square's shape, and signed webhooks.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::sandbox::Webhook;

/// An error as Square writes it.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    category: &'static str,
    code: &'static str,
    field: String,
}

impl Failure {
    const fn new(status: StatusCode, category: &'static str, code: &'static str) -> Self {
        Self {
            status,
            category,
            code,
            field: String::new(),
        }
    }

    /// A request that is wrong.
    pub(super) fn invalid(code: &'static str, field: &str) -> Self {
        Self {
            field: field.to_owned(),
            ..Self::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST_ERROR", code)
        }
    }

    /// A payment method that cannot be used, without a payment.
    pub(super) const fn method(code: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "PAYMENT_METHOD_ERROR", code)
    }

    /// A refund that cannot be.
    pub(super) const fn refund(code: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "REFUND_ERROR", code)
    }

    pub(super) const UNAUTHORIZED: Self = Self::new(StatusCode::UNAUTHORIZED, "AUTHENTICATION_ERROR", "UNAUTHORIZED");
    pub(super) const FORBIDDEN: Self = Self::new(StatusCode::FORBIDDEN, "AUTHENTICATION_ERROR", "INSUFFICIENT_SCOPES");
    pub(super) const NOT_FOUND: Self = Self::new(StatusCode::NOT_FOUND, "INVALID_REQUEST_ERROR", "NOT_FOUND");
    pub(super) const CONFLICT: Self = Self::new(StatusCode::CONFLICT, "INVALID_REQUEST_ERROR", "CONFLICT");
    pub(super) const KEY_REUSED: Self = Self::new(
        StatusCode::BAD_REQUEST,
        "INVALID_REQUEST_ERROR",
        "IDEMPOTENCY_KEY_REUSED",
    );
    pub(super) const RATE_LIMITED: Self = Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_ERROR", "RATE_LIMITED");
    pub(super) const INTERNAL: Self =
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "API_ERROR", "INTERNAL_SERVER_ERROR");
    pub(super) const UNAVAILABLE: Self = Self::new(StatusCode::SERVICE_UNAVAILABLE, "API_ERROR", "SERVICE_UNAVAILABLE");
}

pub(super) fn failure(failure: &Failure) -> Response<Bytes> {
    let mut error = json!({"category": failure.category, "code": failure.code,
        "detail": format!("The request was refused: {}", failure.code)});
    if !failure.field.is_empty() {
        error["field"] = failure.field.clone().into();
    }
    answer(failure.status, &json!({"errors": [error]}))
}

/// A decline, with the failed payment beside it.
pub(super) fn declined(code: &str, payment: &Value) -> Response<Bytes> {
    let status = match code {
        "CARD_DECLINED_VERIFICATION_REQUIRED" | "CARD_DECLINED" | "VERIFY_CVV_FAILURE" => StatusCode::PAYMENT_REQUIRED,
        _ => StatusCode::BAD_REQUEST,
    };
    answer(status, &json!({"errors": errors(code), "payment": payment}))
}

/// The errors of a declined payment.
pub(super) fn errors(code: &str) -> Value {
    json!([{"category": "PAYMENT_METHOD_ERROR", "code": code, "detail": format!("Authorization error: '{code}'")}])
}

pub(super) fn ok(body: &Value) -> Response<Bytes> {
    answer(StatusCode::OK, body)
}

fn answer(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(body.to_string()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    headers.insert("square-version", HeaderValue::from_static("2025-08-20"));
    answer
}

pub(super) fn time(at: i64) -> String {
    let at = jiff::Timestamp::from_second(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

/// An event, signed; `None` without a secret.
pub(super) fn webhook(
    (secret, url): (&str, &str),
    event: (&str, &str),
    object: &Value,
    now: i64,
    after: Duration,
) -> Option<Webhook> {
    if secret.is_empty() {
        return None;
    }
    let (kind, id) = event;
    let (name, _) = kind.split_once('.').unwrap_or((kind, ""));
    let body = json!({"merchant_id": "6SSW7HV8K2ST5", "type": kind, "event_id": id, "created_at": time(now),
        "data": {"type": name, "id": object["id"], "object": {name: object}}})
    .to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(url.as_bytes());
    mac.update(body.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("x-square-hmacsha256-signature", HeaderValue::from_str(&signature).ok()?);
    Some(Webhook {
        headers,
        body: body.into(),
        after,
    })
}
