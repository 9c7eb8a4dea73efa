//! Sentinel's own errors in each gateway's shape. Official SDKs crash on, or lose the message of, any other shape: a
//! bare `{"error":"text"}` is an `AttributeError` in stripe-python, plain text a `JSONDecodeError` in razorpay-python.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{OwnError, Reply};
use crate::config::model::Dialect;

/// Writes the error as the gateway of this dialect would have written one of its own. `id` is a fresh id for support,
/// of letters and digits.
pub fn render(dialect: Dialect, error: &OwnError, id: &str) -> Reply {
    let status = error.status.as_u16();
    let (body, header): (Value, Option<(&'static str, String)>) = match dialect {
        Dialect::Stripe => {
            let kind = if error.status.is_server_error() {
                "api_error"
            } else {
                "invalid_request_error"
            };
            let body = json!({ "error": { "type": kind, "code": error.code, "message": error.message } });
            (body, Some(("request-id", format!("req_{id}"))))
        }
        Dialect::Paypal => {
            let name = match status {
                401 => "AUTHENTICATION_FAILURE",
                403 => "NOT_AUTHORIZED",
                404 => "RESOURCE_NOT_FOUND",
                400..=499 => "INVALID_REQUEST",
                503 => "SERVICE_UNAVAILABLE",
                _ => "INTERNAL_SERVER_ERROR",
            };
            let detail = json!({ "issue": error.code.to_ascii_uppercase(), "description": error.message });
            let body =
                json!({ "name": name, "message": error.message, "debug_id": id, "details": [detail], "links": [] });
            (body, Some(("paypal-debug-id", id.to_owned())))
        }
        Dialect::Adyen => {
            let kind = match status {
                500.. => "internal",
                401 | 403 => "security",
                _ => "validation",
            };
            let body = json!({
                "status": status, "errorCode": error.code, "message": error.message, "errorType": kind,
            });
            (body, None)
        }
        Dialect::Square => {
            let category = match status {
                500.. => "API_ERROR",
                401 | 403 => "AUTHENTICATION_ERROR",
                _ => "INVALID_REQUEST_ERROR",
            };
            let code = match status {
                401 => "UNAUTHORIZED",
                403 => "FORBIDDEN",
                404 => "NOT_FOUND",
                503 => "SERVICE_UNAVAILABLE",
                504 => "GATEWAY_TIMEOUT",
                400..=499 => "BAD_REQUEST",
                _ => "INTERNAL_SERVER_ERROR",
            };
            (
                json!({ "errors": [{ "category": category, "code": code, "detail": error.message }] }),
                None,
            )
        }
        Dialect::Razorpay => {
            let code = if error.status.is_server_error() {
                "SERVER_ERROR"
            } else {
                "BAD_REQUEST_ERROR"
            };
            let body = json!({ "error": {
                "code": code, "description": error.message, "source": "internal", "step": "NA", "reason": error.code,
                "metadata": {},
            } });
            (body, None)
        }
        // Braintree's SDKs decide by the status alone and read no body on these.
        Dialect::Braintree | Dialect::Custom => (
            json!({ "type": "about:blank", "status": status, "title": error.code, "detail": error.message }),
            None,
        ),
    };
    let mut reply = http::Response::new(Bytes::from(body.to_string()));
    *reply.status_mut() = error.status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some((name, value)) = header
        && let Ok(value) = HeaderValue::from_str(&value)
    {
        headers.insert(HeaderName::from_static(name), value);
    }
    if dialect == Dialect::Stripe {
        let retry = if error.retry { "true" } else { "false" };
        headers.insert("stripe-should-retry", HeaderValue::from_static(retry));
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_gets_an_object_with_the_message_in_it() {
        let error = OwnError {
            status: http::StatusCode::SERVICE_UNAVAILABLE,
            code: "circuit_open",
            message: "the breaker is open".to_owned(),
            retry: false,
        };
        for dialect in [
            Dialect::Stripe,
            Dialect::Paypal,
            Dialect::Braintree,
            Dialect::Square,
            Dialect::Razorpay,
            Dialect::Adyen,
            Dialect::Custom,
        ] {
            let reply = render(dialect, &error, "abc");
            let body: Value = serde_json::from_slice(reply.body()).unwrap();
            assert!(
                body.is_object() && body.to_string().contains("the breaker is open"),
                "{dialect:?}: {body}"
            );
            // stripe-python reads error.get(...): it must be an object; stripe-node takes a truthy `error` as the error.
            assert!(!body["error"].is_string(), "{dialect:?}: {body}");
            assert_eq!(reply.status(), 503);
        }
    }
}
