//! Answers in Adyen's shape.
//!
//! A payment is a `PaymentResponse`, a refusal too (HTTP 200), a modification is `201 received`. What Adyen echoes
//! (`merchantAccount`, `reference`, the amount of a capture) is taken from the application's own request. A payment in
//! doubt is `Received`: Adyen's own word for "the webhook will tell", on which no application pays again.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::{KEY_HEADER, psp_reference, refusal_reason};
use crate::config::model::Dialect;
use crate::gateway::canonical::{Answer, CardView, Operation, Status, View};
use crate::gateway::outcome::{Decline, DeclineClass};
use crate::gateway::{Head, OwnError, Reply, json};
use crate::money::{Amount, declines};

pub(super) fn answer(answer: &Answer, head: &Head, body: &[u8]) -> Reply {
    let asked = json::object(body).unwrap_or_default();
    let mut reply = match answer {
        Answer::Payment(Operation::Capture, view) => {
            let id = view
                .ids
                .capture
                .clone()
                .unwrap_or_else(|| modification_id(view, "capture"));
            received(view, &id, &asked, true)
        }
        Answer::Payment(Operation::Void, view) => received(view, &modification_id(view, "void"), &asked, false),
        Answer::Refund(view, refund) => received(view, &refund.id, &asked, true),
        // An answer to `/payments/details` has no redirect to send anybody to again.
        Answer::Payment(_, view) if head.path.ends_with("/details") && view.status == Status::ActionRequired => {
            payment(view, "Pending", None)
        }
        Answer::Payment(_, view) => payment(view, result_code(view), None),
        Answer::Declined(view, decline) => payment(view, "Refused", Some(decline)),
        Answer::InDoubt {
            view: Some(view),
            running: false,
            ..
        } => payment(view, "Received", None),
        Answer::InDoubt { payment, running, .. } => in_doubt(payment, *running),
        Answer::List(_) | Answer::Refunds(..) => error(StatusCode::NOT_FOUND, "902", "security", "Not found", None),
    };
    // Adyen echoes the key of a request whose key it honoured.
    if let Some(key) = head.headers.get(KEY_HEADER) {
        reply.headers_mut().insert(KEY_HEADER, key.clone());
    }
    reply
}

/// The modification's own reference, the same whenever the same request is answered.
pub(super) fn modification_id(view: &View, what: &str) -> String {
    psp_reference(what, view.ids.payment.as_bytes())
}

fn json_reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Reply::new(Bytes::from(body.to_string()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json;charset=UTF-8"),
    );
    let psp = body.get("pspReference").and_then(Value::as_str);
    if let Some(psp) = psp.and_then(|psp| HeaderValue::from_str(psp).ok()) {
        headers.insert("pspreference", psp);
    }
    reply
}

/// An amount of the view came from this dialect or was checked against it, so it has a form here; where it has none, the
/// answer leaves it out, which the schema allows for payments.
fn wire(amount: Amount) -> Option<Value> {
    let value = amount.to_minor(Dialect::Adyen).ok()?;
    Some(json!({"currency": amount.currency.code(), "value": value}))
}

fn result_code(view: &View) -> &'static str {
    match view.status {
        Status::Authorised | Status::Captured | Status::Voided => "Authorised",
        Status::Processing | Status::Created => "Received",
        Status::ActionRequired if view.redirect.is_some() => "RedirectShopper",
        Status::ActionRequired => "Pending",
        Status::Declined => "Refused",
    }
}

fn payment(view: &View, result: &str, decline: Option<&Decline>) -> Reply {
    let mut body = Map::new();
    let mut additional = Map::new();
    let decline = decline.or(view.decline.as_ref()).filter(|_| result == "Refused");
    if let Some(card) = &view.card {
        card_data(card, &mut additional);
    }
    if result == "Authorised" {
        additional.insert("refusalReasonRaw".to_owned(), "AUTHORISED".into());
        if let Some(code) = &view.approval_code {
            additional.insert("authCode".to_owned(), code.clone().into());
        }
        if let Some(id) = &view.network_transaction_id {
            additional.insert("networkTxReference".to_owned(), id.clone().into());
        }
    }
    if let Some(advice) = decline.and_then(|decline| decline.advice.as_ref()) {
        additional.insert("merchantAdviceCode".to_owned(), advice.clone().into());
    }
    for (key, value) in &view.metadata {
        additional.insert(format!("metadata.{key}"), value.clone().into());
    }
    if !additional.is_empty() {
        body.insert("additionalData".to_owned(), additional.into());
    }
    body.insert("pspReference".to_owned(), view.ids.payment.clone().into());
    body.insert("resultCode".to_owned(), result.into());
    if let Some(decline) = decline {
        let code = decline_code(decline);
        body.insert("refusalReason".to_owned(), refusal_reason(code).into());
        body.insert("refusalReasonCode".to_owned(), code.into());
    }
    if let Some(amount) = wire(view.amount) {
        body.insert("amount".to_owned(), amount);
    }
    if let Some(reference) = &view.reference {
        body.insert("merchantReference".to_owned(), reference.clone().into());
    }
    let brand = view
        .card
        .as_ref()
        .and_then(|card| card.brand.as_deref())
        .and_then(brand);
    let mut method = json!({"type": "scheme"});
    if let Some(brand) = brand {
        method["brand"] = brand.into();
    }
    body.insert("paymentMethod".to_owned(), method);
    if let (Some(url), "RedirectShopper") = (&view.redirect, result) {
        let action = json!({"type": "redirect", "method": "GET", "url": url, "paymentMethodType": "scheme"});
        body.insert("action".to_owned(), action);
    }
    json_reply(StatusCode::OK, &Value::Object(body))
}

/// The application's code for the decline. Adyen's own for fraud says nothing of the card.
pub(super) fn decline_code(decline: &Decline) -> &'static str {
    if decline.class == DeclineClass::Fraud {
        return "20";
    }
    declines::code_for(Dialect::Adyen, &decline.canonical, decline.class)
}

pub(super) fn brand(brand: &str) -> Option<&'static str> {
    Some(match brand {
        "visa" => "visa",
        "mastercard" => "mc",
        "amex" => "amex",
        "discover" => "discover",
        "diners" => "diners",
        "jcb" => "jcb",
        "unionpay" => "cup",
        _ => return None,
    })
}

fn card_data(card: &CardView, additional: &mut Map<String, Value>) {
    if let Some(last4) = &card.last4 {
        additional.insert("cardSummary".to_owned(), last4.clone().into());
    }
    if let Some(brand) = card.brand.as_deref().and_then(brand) {
        additional.insert("paymentMethod".to_owned(), brand.into());
    }
    if let (Some(month), Some(year)) = (card.expiry_month, card.expiry_year) {
        additional.insert("expiryDate".to_owned(), format!("{month}/{year}").into());
    }
}

/// A modification's answer. `with_amount` for captures and refunds, whose schema wants what was asked for.
fn received(view: &View, id: &str, asked: &Map<String, Value>, with_amount: bool) -> Reply {
    let mut body = Map::new();
    let account = asked.get("merchantAccount").cloned().unwrap_or_else(|| "".into());
    body.insert("merchantAccount".to_owned(), account);
    match asked.get("paymentReference") {
        Some(reference) => body.insert("paymentReference".to_owned(), reference.clone()),
        None => body.insert("paymentPspReference".to_owned(), view.ids.payment.clone().into()),
    };
    for echoed in ["reference", "merchantRefundReason"] {
        if let Some(value) = asked.get(echoed) {
            body.insert(echoed.to_owned(), value.clone());
        }
    }
    body.insert("pspReference".to_owned(), id.into());
    body.insert("status".to_owned(), "received".into());
    if with_amount {
        let amount = asked.get("amount").cloned().or_else(|| wire(view.amount));
        body.insert("amount".to_owned(), amount.unwrap_or(Value::Null));
    }
    json_reply(StatusCode::CREATED, &Value::Object(body))
}

/// Still running: Adyen's own error for a twin of a request in progress, which says to ask again with the same key. No
/// 429 and no 503: Adyen's Java SDK posts again by itself on those, without a key when the application gave none.
fn in_doubt(payment: &str, running: bool) -> Reply {
    if running {
        let message = "Request already processed or in progress: retry with the same idempotency key";
        let mut reply = error(
            StatusCode::UNPROCESSABLE_ENTITY,
            "704",
            "validation",
            message,
            Some(payment),
        );
        reply
            .headers_mut()
            .insert("transient-error", HeaderValue::from_static("true"));
        return reply;
    }
    let message = "The outcome of this payment is not known yet: do not pay again with another idempotency key";
    error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "903",
        "internal",
        message,
        Some(payment),
    )
}

fn error(status: StatusCode, code: &str, kind: &str, message: &str, detail: Option<&str>) -> Reply {
    let mut body = json!({
        "status": status.as_u16(),
        "errorCode": code,
        "message": message,
        "errorType": kind,
    });
    if let Some(detail) = detail {
        body["pspReference"] = psp_reference("error", detail.as_bytes()).into();
        body["additionalData"] = json!({"sentinel": detail});
    }
    json_reply(status, &body)
}

pub(super) fn own_error(own: &OwnError) -> Reply {
    let (code, kind) = match own.status.as_u16() {
        401 => ("000", "security"),
        403 => ("010", "security"),
        400 => ("702", "validation"),
        409 | 422 => ("704", "validation"),
        503 | 429 => ("703", "internal"),
        404 => ("902", "validation"),
        _ => ("903", "internal"),
    };
    let message = format!("{} ({})", own.message, own.code);
    let mut reply = error(own.status, code, kind, &message, Some(own.code));
    if own.retry {
        reply
            .headers_mut()
            .insert("transient-error", HeaderValue::from_static("true"));
    }
    reply
}
