//! Answers and errors in Adyen's shape, and signed webhooks.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::sandbox::Webhook;

/// An error as Adyen writes it.
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    kind: &'static str,
    transient: bool,
}

impl Failure {
    const fn new(status: StatusCode, code: &'static str, message: &'static str, kind: &'static str) -> Self {
        Self {
            status,
            code,
            message,
            kind,
            transient: false,
        }
    }

    const fn transient(self) -> Self {
        Self {
            transient: true,
            ..self
        }
    }

    /// A request that is wrong.
    pub(super) const fn validation(code: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message, "validation")
    }

    pub(super) const CREDENTIALS: Self = Self::new(
        StatusCode::UNAUTHORIZED,
        "000",
        "HTTP Status Response - Unauthorized",
        "security",
    );
    pub(super) const FORBIDDEN: Self = Self::new(StatusCode::FORBIDDEN, "010", "Not allowed", "security");
    pub(super) const MERCHANT_ACCOUNT: Self =
        Self::new(StatusCode::FORBIDDEN, "901", "Invalid Merchant Account", "security");
    pub(super) const NOT_FOUND: Self = Self::new(StatusCode::NOT_FOUND, "902", "Invalid request", "validation");
    pub(super) const PARSE: Self = Self::new(
        StatusCode::BAD_REQUEST,
        "702",
        "Unable to parse the request",
        "validation",
    );
    pub(super) const KEY: Self = Self::validation("902", "Idempotency-Key is not 1 to 64 characters");
    /// A twin is running: the same request later, with the same key.
    pub(super) const DUPLICATE: Self = Self::validation("704", "request already processed or in progress").transient();
    pub(super) const ORIGINAL: Self = Self::validation("167", "Original pspReference required for this operation");
    pub(super) const RATE_LIMIT: Self =
        Self::new(StatusCode::TOO_MANY_REQUESTS, "429", "Too many requests", "internal");
    pub(super) const INTERNAL: Self = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "903", "Internal error", "internal");
    /// Nothing was executed, and the key is free.
    pub(super) const OUTAGE: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "703",
        "required resource temporarily unavailable",
        "internal",
    )
    .transient();
}

pub(super) fn failure(failure: &Failure, psp: &str) -> Response<Bytes> {
    let body = json!({"status": failure.status.as_u16(), "errorCode": failure.code, "message": failure.message,
        "errorType": failure.kind, "pspReference": psp});
    let mut answer = answer(failure.status, &body);
    if failure.transient {
        answer
            .headers_mut()
            .insert("transient-error", HeaderValue::from_static("true"));
    }
    answer
}

pub(super) fn ok(body: &Value) -> Response<Bytes> {
    answer(StatusCode::OK, body)
}

pub(super) fn received(body: &Value) -> Response<Bytes> {
    answer(StatusCode::CREATED, body)
}

fn answer(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(body.to_string()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/json;charset=UTF-8"),
    );
    let psp = body.get("pspReference").and_then(Value::as_str);
    if let Some(psp) = psp.and_then(|psp| HeaderValue::from_str(psp).ok()) {
        headers.insert("pspreference", psp);
    }
    answer
}

/// An event of a payment.
pub(super) struct Event<'a> {
    pub(super) code: &'a str,
    pub(super) psp: &'a str,
    pub(super) original: Option<&'a str>,
    pub(super) account: &'a str,
    pub(super) reference: &'a str,
    pub(super) value: i64,
    pub(super) currency: &'a str,
    pub(super) success: bool,
    pub(super) reason: &'a str,
    pub(super) at: i64,
}

/// The event's webhook; `None` without a key to sign it with, as when no webhook is set up.
pub(super) fn webhook(event: &Event<'_>, key: &[u8], after: Duration) -> Option<Webhook> {
    if key.is_empty() {
        return None;
    }
    let success = if event.success { "true" } else { "false" };
    let signed = format!(
        "{}:{}:{}:{}:{}:{}:{}:{success}",
        event.psp,
        event.original.unwrap_or_default(),
        event.account,
        event.reference,
        event.value,
        event.currency,
        event.code,
    );
    let mac = Hmac::<Sha256>::new_from_slice(key).ok()?.chain_update(signed);
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let date = jiff::Timestamp::from_second(event.at)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string();
    let mut item = json!({"additionalData": {"hmacSignature": signature},
        "amount": {"currency": event.currency, "value": event.value}, "eventCode": event.code, "eventDate": date,
        "merchantAccountCode": event.account, "merchantReference": event.reference, "paymentMethod": "visa",
        "pspReference": event.psp, "reason": event.reason, "success": success});
    if let Some(original) = event.original {
        item["originalReference"] = original.into();
    }
    let body = json!({"live": "false", "notificationItems": [{"NotificationRequestItem": item}]});
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    Some(Webhook {
        headers,
        body: Bytes::from(body.to_string()),
        after,
    })
}
