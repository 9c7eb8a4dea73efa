//! Answers in Stripe's shape.
//!
//! Each answer is shaped by the request it answers: `/v1/charges` gets a charge where `/v1/payment_intents` gets an
//! intent, `expand` puts objects in place of ids, and API versions before 2022-11-15 get a `charges` list. A non-2xx
//! always carries an `error` object, because stripe-node decides by nothing else.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::{API_VERSION, ids, objects, parse};
use crate::gateway::canonical::{Answer, View};
use crate::gateway::outcome::Decline;
use crate::gateway::{Head, OwnError, Reply};
use crate::money::MoneyError;

/// Paths that one request may expand at most, and their depth: Stripe's own limits.
const MAX_EXPAND: usize = 40;
const MAX_EXPAND_DEPTH: usize = 4;

fn header<'a>(head: &'a Head, name: &str) -> Option<&'a HeaderValue> {
    head.headers.get(name)
}

/// Whether the application pinned an API version in which an intent lists its charges.
fn before_latest_charge(head: &Head) -> bool {
    let version = header(head, "stripe-version").and_then(|version| version.to_str().ok());
    version
        .and_then(|version| version.get(..10))
        .is_some_and(|date| date < "2022-11-15")
}

fn reply(status: StatusCode, body: &Value, request_id: &str, retry: Option<bool>, head: &Head) -> Reply {
    let mut reply = Response::new(Bytes::from(body.to_string()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("request-id", id);
    }
    let version = header(head, "stripe-version").cloned();
    headers.insert(
        "stripe-version",
        version.unwrap_or_else(|| HeaderValue::from_static(API_VERSION)),
    );
    if let Some(key) = header(head, "idempotency-key") {
        headers.insert("idempotency-key", key.clone());
    }
    if let Some(retry) = retry {
        let word = if retry { "true" } else { "false" };
        headers.insert("stripe-should-retry", HeaderValue::from_static(word));
    }
    reply
}

/// Renders an answer.
pub fn render(answer: &Answer, head: &Head, body: &[u8]) -> Reply {
    let shown = match answer {
        Answer::Payment(_, view) => payment(view, head, body).map(|body| (StatusCode::OK, body, &view.ids.request)),
        Answer::Declined(view, decline) => {
            declined(view, decline, head).map(|body| (StatusCode::PAYMENT_REQUIRED, body, &view.ids.request))
        }
        Answer::Refund(view, one) => objects::refund(view, one)
            .and_then(|object| expanded(object, &[view], head, body))
            .map(|body| (StatusCode::OK, body, &view.ids.request)),
        Answer::Refunds(view, all) => {
            let refunds: Result<Vec<Value>, MoneyError> = all.iter().map(|one| objects::refund(view, one)).collect();
            refunds
                .map(|refunds| page(refunds, head))
                .and_then(|list| expanded(list, &[view], head, body))
                .map(|body| (StatusCode::OK, body, &view.ids.request))
        }
        Answer::List(views) => {
            let views: Vec<&View> = views.iter().collect();
            let all: Result<Vec<Value>, MoneyError> = views.iter().map(|view| main_object(view, head)).collect();
            let list = all
                .map(|all| page(all, head))
                .and_then(|list| expanded(list, &views, head, body));
            return match list {
                Ok(list) => reply(StatusCode::OK, &list, &own_request_id(head), None, head),
                Err(error) => inexact(error, head),
            };
        }
        Answer::InDoubt { payment, running, .. } => return in_doubt(payment, *running, head),
    };
    match shown {
        Ok((status, body, request)) => reply(status, &body, request, None, head),
        Err(error) => inexact(error, head),
    }
}

fn inexact(error: MoneyError, head: &Head) -> Reply {
    let error = OwnError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        code: "amount_not_representable",
        message: format!("API Sentinel has the payment, but cannot show it in Stripe's form: {error}"),
        retry: false,
    };
    render_error(&error, head)
}

fn main_object(view: &View, head: &Head) -> Result<Value, MoneyError> {
    let old = before_latest_charge(head);
    if head.path.starts_with("/v1/charges") {
        objects::charge(view, old)
    } else {
        objects::intent(view, old)
    }
}

fn payment(view: &View, head: &Head, body: &[u8]) -> Result<Value, MoneyError> {
    expanded(main_object(view, head)?, &[view], head, body)
}

fn declined(view: &View, decline: &Decline, head: &Head) -> Result<Value, MoneyError> {
    let mut error = objects::card_error(view, decline);
    if !head.path.starts_with("/v1/charges") {
        error["payment_intent"] = objects::intent(view, before_latest_charge(head))?;
        if let Some(method) = objects::method(view) {
            error["payment_method"] = method;
        }
    }
    Ok(json!({ "error": error }))
}

/// A page of a list: the engine may hand over one more than was asked for to tell that there is more.
fn page(mut data: Vec<Value>, head: &Head) -> Value {
    let query = head.query.as_deref().unwrap_or_default();
    let limit = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "limit")
        .and_then(|(_, limit)| limit.parse::<usize>().ok())
        .map_or(10, |limit| limit.clamp(1, 100));
    let has_more = data.len() > limit;
    data.truncate(limit);
    objects::list(&head.path, data, has_more)
}

/// Puts objects in place of ids where the application asked for it.
fn expanded(mut object: Value, views: &[&View], head: &Head, body: &[u8]) -> Result<Value, MoneyError> {
    let Ok(mut form) = parse::parameters(head, body) else {
        return Ok(object);
    };
    let paths = form.list(&["expand"]);
    if paths.is_empty() {
        return Ok(object);
    }
    let mut known: Vec<(String, Value)> = Vec::new();
    let old = before_latest_charge(head);
    for view in views {
        // A charge of the legacy API is no intent, and has its own id for both.
        if view.ids.payment != view.ids.charge {
            known.push((view.ids.payment.clone(), objects::intent(view, old)?));
        }
        known.push((view.ids.charge.clone(), objects::charge(view, old)?));
        if let Some(method) = objects::method(view) {
            known.push((objects::method_id(view).unwrap_or_default(), method));
        }
        known.push((format!("refunds of {}", view.ids.charge), objects::refunds(view)?));
    }
    for path in paths.iter().take(MAX_EXPAND) {
        let parts: Vec<&str> = path.split('.').collect();
        if parts.len() <= MAX_EXPAND_DEPTH {
            expand(&mut object, &parts, &known);
        }
    }
    Ok(object)
}

fn expand(value: &mut Value, path: &[&str], known: &[(String, Value)]) {
    let find = |id: &str| {
        known
            .iter()
            .find(|(known, _)| known == id)
            .map(|(_, object)| object.clone())
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| expand(item, path, known)),
        Value::Object(map) => {
            let Some((field, rest)) = path.split_first() else {
                return;
            };
            let is_charge = map.get("object").and_then(Value::as_str) == Some("charge");
            if *field == "refunds" && is_charge {
                let id = map.get("id").and_then(Value::as_str).unwrap_or_default();
                if let Some(list) = find(&format!("refunds of {id}")) {
                    map.entry("refunds").or_insert(list);
                }
            }
            let Some(inner) = map.get_mut(*field) else { return };
            if let Some(object) = inner.as_str().and_then(find) {
                *inner = object;
            }
            expand(inner, rest, known);
        }
        _ => {}
    }
}

/// The outcome is not known. While it is being found out, 409 makes every SDK ask again with the same key. When nothing
/// more will be known soon, 500 with `Stripe-Should-Retry: false` stops them, and the text tells the application to keep
/// the key (gateways/stripe.md, trap 5).
fn in_doubt(payment: &str, running: bool, head: &Head) -> Reply {
    let (status, body) = if running {
        let message = "API Sentinel is still finding out what became of this payment. Repeat the request with the same \
                       Idempotency-Key; do not use a new one.";
        let error = json!({"error": {
            "type": "idempotency_error", "code": "idempotency_key_in_use", "message": message,
        }});
        (StatusCode::CONFLICT, error)
    } else {
        let message = format!(
            "The outcome of payment {payment} is not known yet; it may have been charged. API Sentinel keeps asking the \
             gateway. Repeat the request later with the same Idempotency-Key; do not use a new one."
        );
        let error = json!({"error": {
            "type": "api_error", "code": "sentinel_outcome_pending", "message": message,
        }});
        (StatusCode::INTERNAL_SERVER_ERROR, error)
    };
    reply(
        status,
        &body,
        &ids::request_id(&[payment.as_bytes()]),
        Some(running),
        head,
    )
}

fn own_request_id(head: &Head) -> String {
    let key = header(head, "idempotency-key")
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    ids::request_id(&[
        head.path.as_bytes(),
        key,
        head.query.as_deref().unwrap_or_default().as_bytes(),
    ])
}

/// Renders an error of Sentinel's own.
pub fn render_error(error: &OwnError, head: &Head) -> Reply {
    let kind = match error.status.as_u16() {
        400 if error.code.starts_with("idempotency") => "idempotency_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    // Applications look for Stripe's own word where it has one.
    let code = match error.code {
        "wrong_state" => "payment_intent_unexpected_state",
        code => code,
    };
    let body = json!({"error": {"type": kind, "code": code, "message": error.message}});
    reply(error.status, &body, &own_request_id(head), Some(error.retry), head)
}
