//! Answers and errors in Razorpay's shape, and signed webhooks.

use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use super::cards::Why;
use crate::sandbox::Webhook;

/// An error as Razorpay writes it.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    description: &'static str,
    reason: &'static str,
    payment: Option<String>,
    order: Option<String>,
}

impl Failure {
    const fn new(status: StatusCode, code: &'static str, description: &'static str) -> Self {
        Self {
            status,
            code,
            description,
            reason: "NA",
            payment: None,
            order: None,
        }
    }

    const fn bad(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST_ERROR", description)
    }

    /// A request that is wrong.
    pub(super) fn invalid(description: &'static str) -> Self {
        Self {
            reason: "input_validation_failed",
            ..Self::bad(description)
        }
    }

    /// A request that is wrong for another reason.
    pub(super) fn because(reason: &'static str, description: &'static str) -> Self {
        Self {
            reason,
            ..Self::bad(description)
        }
    }

    /// The receipt belongs to this order.
    pub(super) fn taken(order: &str) -> Self {
        Self {
            order: Some(order.to_owned()),
            ..Self::invalid("The receipt should be unique")
        }
    }

    /// A payment that failed while its caller waited.
    pub(super) fn failed(why: Why, payment: &str, order: &str) -> Self {
        Self {
            code: why.code,
            reason: why.reason,
            payment: Some(payment.to_owned()),
            order: Some(order.to_owned()),
            ..Self::bad("Your payment didn't go through")
        }
    }

    pub(super) const URL: Self = Self::bad("The requested URL was not found on the server.");
    pub(super) const ID: Self = Self::bad("The id provided does not exist");
    pub(super) const CAPTURED: Self = Self::bad("This payment has already been captured");
    pub(super) const UNAUTHORIZED: Self =
        Self::new(StatusCode::UNAUTHORIZED, "BAD_REQUEST_ERROR", "Authentication failed");
    pub(super) const FORBIDDEN: Self = Self::new(StatusCode::FORBIDDEN, "BAD_REQUEST_ERROR", "Access Denied");
    pub(super) const RUNNING: Self = Self::new(
        StatusCode::CONFLICT,
        "BAD_REQUEST_ERROR",
        "Request failed because another request is in progress with the same key",
    );
    pub(super) const KEY_REUSED: Self = Self::new(
        StatusCode::CONFLICT,
        "BAD_REQUEST_ERROR",
        "A different request with the same idempotency key has been processed",
    );
    pub(super) const RATE_LIMITED: Self =
        Self::new(StatusCode::TOO_MANY_REQUESTS, "BAD_REQUEST_ERROR", "Too many requests");
    pub(super) const INTERNAL: Self = Self::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "SERVER_ERROR",
        "We are facing some trouble completing your request",
    );
    pub(super) const UNAVAILABLE: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "SERVER_ERROR",
        "The server is unavailable",
    );
}

pub(super) fn failure(failure: &Failure) -> Response<Bytes> {
    let mut metadata = json!({});
    if let Some(payment) = &failure.payment {
        metadata["payment_id"] = payment.clone().into();
    }
    if let Some(order) = &failure.order {
        metadata["order_id"] = order.clone().into();
    }
    // An empty object of PHP's is a list.
    if metadata == json!({}) {
        metadata = json!([]);
    }
    let body = json!({"error": {"code": failure.code, "description": failure.description, "source": "NA",
        "step": "NA", "reason": failure.reason, "field": null, "metadata": metadata}});
    answer(failure.status, &body)
}

pub(super) fn ok(body: &Value) -> Response<Bytes> {
    answer(StatusCode::OK, body)
}

pub(super) fn collection(items: Vec<Value>) -> Response<Bytes> {
    ok(&json!({"entity": "collection", "count": items.len(), "items": items}))
}

fn answer(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(body.to_string()));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert("content-type", json);
    answer
}

/// Lower-case hexadecimal HMAC-SHA256.
pub(super) fn signature(secret: &str, text: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(text);
    let digest = mac.finalize().into_bytes();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An event, signed; `None` without a secret.
pub(super) fn webhook(
    secret: &str,
    (event, id): (&str, &str),
    entity: &Value,
    now: i64,
    after: Duration,
) -> Option<Webhook> {
    if secret.is_empty() {
        return None;
    }
    let (kind, _) = event.split_once('.').unwrap_or((event, ""));
    let body = json!({"entity": "event", "account_id": "acc_1Aa00000000001", "event": event, "contains": [kind],
        "payload": {kind: {"entity": entity}}, "created_at": now})
    .to_string();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let signature = signature(secret, body.as_bytes());
    headers.insert("x-razorpay-signature", HeaderValue::from_str(&signature).ok()?);
    headers.insert("x-razorpay-event-id", HeaderValue::from_str(id).ok()?);
    Some(Webhook {
        headers,
        body: body.into(),
        after,
    })
}
