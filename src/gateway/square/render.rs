//! Answers in Square's shape.
//!
//! A decline is an error with the failed payment beside it. A payment in doubt is `PENDING`: Square's own word for "the
//! webhook will tell", on which no application pays again; while it is still being found out, 504 makes every SDK ask
//! again under the same key. A minted payment can be lowered while it is held, and edited in no other way.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::parse::LOCATION;
use crate::config::model::Dialect;
use crate::gateway::canonical::{Answer, CaptureMode, CardView, RefundStatus, RefundView, Status, View};
use crate::gateway::outcome::{Decline, DeclineClass};
use crate::gateway::{Head, OwnError, Reply};
use crate::money::{Amount, declines};

/// How long Square holds a card payment that was not completed: seven days.
const HOLD: i64 = 7 * 86_400;

/// Declines that Square answers with 402; all others with 400.
const PAYMENT_REQUIRED: [&str; 8] = [
    "CARD_DECLINED",
    "VERIFY_CVV_FAILURE",
    "VERIFY_AVS_FAILURE",
    "CARD_DECLINED_CALL_ISSUER",
    "CARD_DECLINED_VERIFICATION_REQUIRED",
    "BAD_EXPIRATION",
    "CHIP_INSERTION_REQUIRED",
    "ALLOWABLE_PIN_TRIES_EXCEEDED",
];

pub(super) fn answer(answer: &Answer, head: &Head) -> Reply {
    let ok = |body: Value| reply(StatusCode::OK, &body);
    match answer {
        // Cancelling by key says nothing of what it cancelled.
        Answer::Payment(..) if head.path == "/v2/payments/cancel" => ok(json!({})),
        Answer::Payment(_, view) => ok(json!({"payment": payment(view, None)})),
        Answer::Declined(view, decline) => declined(view, decline),
        Answer::Refund(view, one) => ok(json!({"refund": refund(view, one)})),
        Answer::Refunds(_, all) if all.is_empty() => ok(json!({})),
        Answer::Refunds(view, all) => {
            let refunds: Vec<Value> = all.iter().map(|one| refund(view, one)).collect();
            ok(json!({"refunds": refunds}))
        }
        Answer::List(views) if views.is_empty() => ok(json!({})),
        Answer::List(views) => {
            let payments: Vec<Value> = views.iter().map(|view| payment(view, None)).collect();
            ok(json!({"payments": payments}))
        }
        Answer::InDoubt {
            view: Some(view),
            running: false,
            ..
        } => {
            let pending = View {
                status: Status::Processing,
                ..View::clone(view)
            };
            ok(json!({"payment": payment(&pending, None)}))
        }
        Answer::InDoubt { .. } => {
            let detail = "API Sentinel is still finding out what became of this request. Send the same request again \
                          with the same idempotency key; do not use a new one.";
            error(StatusCode::GATEWAY_TIMEOUT, "API_ERROR", "GATEWAY_TIMEOUT", detail)
        }
    }
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Reply::new(Bytes::from(body.to_string()));
    *reply.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    reply.headers_mut().insert(http::header::CONTENT_TYPE, json);
    reply
}

fn error(status: StatusCode, category: &str, code: &str, detail: &str) -> Reply {
    reply(
        status,
        &json!({"errors": [{"category": category, "code": code, "detail": detail}]}),
    )
}

pub(super) fn own_error(own: &OwnError) -> Reply {
    let invalid = "INVALID_REQUEST_ERROR";
    // Square's SDKs send 409 again by themselves; what must not be repeated is told by a status that they leave alone.
    let status = match own.status {
        StatusCode::CONFLICT if !own.retry => StatusCode::UNPROCESSABLE_ENTITY,
        status => status,
    };
    let (category, code) = match status.as_u16() {
        400 if own.code == "idempotency_key_reused" => (invalid, "IDEMPOTENCY_KEY_REUSED"),
        401 => ("AUTHENTICATION_ERROR", "UNAUTHORIZED"),
        403 => ("AUTHENTICATION_ERROR", "FORBIDDEN"),
        404 => (invalid, "NOT_FOUND"),
        408 => (invalid, "REQUEST_TIMEOUT"),
        409 => (invalid, "CONFLICT"),
        413 => (invalid, "REQUEST_ENTITY_TOO_LARGE"),
        422 => (invalid, "UNPROCESSABLE_ENTITY"),
        429 => ("RATE_LIMIT_ERROR", "RATE_LIMITED"),
        502 => ("API_ERROR", "BAD_GATEWAY"),
        503 => ("API_ERROR", "SERVICE_UNAVAILABLE"),
        504 => ("API_ERROR", "GATEWAY_TIMEOUT"),
        500..=599 => ("API_ERROR", "INTERNAL_SERVER_ERROR"),
        _ => (invalid, "BAD_REQUEST"),
    };
    error(status, category, code, &format!("{} ({})", own.message, own.code))
}

/// An amount of the view came from this dialect or was checked against it, so it has a form here; where it has none, the
/// answer leaves it out, which the schema allows.
fn money(amount: Amount) -> Option<Value> {
    let value = amount.to_minor(Dialect::Square).ok()?;
    Some(json!({"amount": value, "currency": amount.currency.code()}))
}

pub(super) fn time(at: i64) -> String {
    let at = jiff::Timestamp::from_second(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

/// What the application is told of a decline. Why a payment was taken for fraud is not the customer's to know, and a code
/// that is no verdict on the card would be read as Square's own trouble.
fn code(decline: &Decline) -> &'static str {
    match decline.class {
        class @ (DeclineClass::Hard | DeclineClass::Soft | DeclineClass::Fraud) => {
            declines::code_for(Dialect::Square, &decline.canonical, class)
        }
        _ => "GENERIC_DECLINE",
    }
}

fn declined(view: &View, decline: &Decline) -> Reply {
    let code = code(decline);
    let status = if PAYMENT_REQUIRED.contains(&code) {
        StatusCode::PAYMENT_REQUIRED
    } else {
        StatusCode::BAD_REQUEST
    };
    let errors = json!([{
        "category": "PAYMENT_METHOD_ERROR",
        "code": code,
        "detail": format!("Authorization error: '{code}'"),
    }]);
    let view = View {
        status: Status::Declined,
        ..view.clone()
    };
    let payment = payment(&view, Some(&errors));
    reply(status, &json!({"errors": errors, "payment": payment}))
}

pub(super) fn payment(view: &View, errors: Option<&Value>) -> Value {
    let status = match view.status {
        Status::Created | Status::ActionRequired | Status::Processing => "PENDING",
        Status::Authorised => "APPROVED",
        Status::Captured => "COMPLETED",
        Status::Voided => "CANCELED",
        Status::Declined => "FAILED",
    };
    let nothing = Amount {
        units: 0,
        ..view.amount
    };
    // A capture of less lowers the payment to it, done or under way.
    let amount = match view.status {
        Status::Captured if !view.captured.is_zero() => view.captured,
        _ => view.taking.unwrap_or(view.amount),
    };
    let approved = match view.status {
        Status::Authorised | Status::Captured | Status::Voided => amount,
        _ => nothing,
    };
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>, max: usize| {
        let text = text.as_ref().filter(|text| text.chars().count() <= max);
        text.map(|text| Value::from(text.clone()))
    };
    put("id", Some(view.ids.payment.clone().into()));
    put("created_at", Some(time(view.created).into()));
    put("updated_at", Some(time(view.voided_at.unwrap_or(view.created)).into()));
    put("amount_money", money(amount));
    put("total_money", money(amount));
    put("approved_money", money(approved));
    if !view.refunded.is_zero() {
        put("refunded_money", money(view.refunded));
    }
    put("status", Some(status.into()));
    put("delay_duration", Some("PT168H".into()));
    put("delay_action", Some("CANCEL".into()));
    if view.capture == CaptureMode::Manual {
        put("delayed_until", Some(time(view.created.saturating_add(HOLD)).into()));
    }
    put("source_type", Some("CARD".into()));
    put("card_details", Some(card_details(view, errors)));
    put("location_id", text(&view.metadata.get(LOCATION).cloned(), 50));
    put("reference_id", text(&view.reference, 40));
    put("customer_id", text(&view.customer, 191));
    if !view.refunds.is_empty() {
        let ids: Vec<Value> = view.refunds.iter().map(|refund| refund.id.clone().into()).collect();
        put("refund_ids", Some(ids.into()));
    }
    put("buyer_email_address", text(&view.buyer.email, 255));
    put("note", text(&view.description, 500));
    put("statement_description_identifier", text(&view.statement, 20));
    let editable: &[&str] = match view.status {
        Status::Authorised => &["EDIT_AMOUNT_DOWN"],
        _ => &[],
    };
    put("capabilities", Some(json!(editable)));
    if view.status == Status::Captured {
        put("receipt_number", view.ids.payment.get(..4).map(Value::from));
    }
    put("application_details", Some(json!({"square_product": "ECOMMERCE_API"})));
    let version = format!("{status}{}{}", amount.units, view.ids.payment);
    put(
        "version_token",
        Some(super::id("version", version.as_bytes(), 40).into()),
    );
    Value::Object(body)
}

fn card_details(view: &View, errors: Option<&Value>) -> Value {
    let mut details = Map::new();
    let status = match view.status {
        Status::Authorised => Some("AUTHORIZED"),
        Status::Captured => Some("CAPTURED"),
        Status::Voided => Some("VOIDED"),
        Status::Declined => Some("FAILED"),
        Status::Created | Status::ActionRequired | Status::Processing => None,
    };
    if let Some(status) = status {
        details.insert("status".to_owned(), status.into());
    }
    if let Some(card) = &view.card {
        details.insert("card".to_owned(), self::card(card));
    }
    let stored = view
        .instrument
        .as_deref()
        .is_some_and(|token| token.starts_with("ccof:"));
    details.insert(
        "entry_method".to_owned(),
        if stored { "ON_FILE" } else { "KEYED" }.into(),
    );
    if let Some(code) = view.approval_code.as_ref().filter(|code| code.len() <= 10) {
        details.insert("auth_result_code".to_owned(), code.clone().into());
    }
    let mut timeline = Map::new();
    if matches!(view.status, Status::Authorised | Status::Captured | Status::Voided) {
        timeline.insert("authorized_at".to_owned(), time(view.created).into());
    }
    if view.status == Status::Captured {
        timeline.insert("captured_at".to_owned(), time(view.created).into());
    }
    if let (Status::Voided, Some(at)) = (view.status, view.voided_at) {
        timeline.insert("voided_at".to_owned(), time(at).into());
    }
    if !timeline.is_empty() {
        details.insert("card_payment_timeline".to_owned(), timeline.into());
    }
    if let Some(errors) = errors {
        details.insert("errors".to_owned(), errors.clone());
    }
    details.into()
}

fn card(card: &CardView) -> Value {
    let brand = match card.brand.as_deref() {
        Some("visa") => "VISA",
        Some("mastercard") => "MASTERCARD",
        Some("amex") => "AMERICAN_EXPRESS",
        Some("discover") => "DISCOVER",
        Some("diners") => "DISCOVER_DINERS",
        Some("jcb") => "JCB",
        Some("unionpay") => "CHINA_UNIONPAY",
        _ => "OTHER_BRAND",
    };
    let mut shown = json!({"card_brand": brand});
    if let Some(last4) = card.last4.as_ref().filter(|last4| last4.len() <= 4) {
        shown["last_4"] = last4.clone().into();
    }
    if let (Some(month), Some(year)) = (card.expiry_month, card.expiry_year) {
        shown["exp_month"] = month.into();
        shown["exp_year"] = year.into();
    }
    shown
}

pub(super) fn refund(view: &View, refund: &RefundView) -> Value {
    let status = match refund.status {
        RefundStatus::Pending => "PENDING",
        RefundStatus::Succeeded => "COMPLETED",
        RefundStatus::Failed => "FAILED",
    };
    let mut body = json!({
        "id": refund.id,
        "status": status,
        "payment_id": view.ids.payment,
        "destination_type": "CARD",
        "created_at": time(refund.created),
        "updated_at": time(refund.created),
    });
    // Every official SDK wants it.
    body["amount_money"] = money(refund.amount).unwrap_or_else(|| json!({}));
    if let Some(location) = view.metadata.get(LOCATION) {
        body["location_id"] = location.clone().into();
    }
    if let Some(reason) = refund.reason.as_ref().filter(|reason| reason.chars().count() <= 192) {
        body["reason"] = reason.clone().into();
    }
    body
}
