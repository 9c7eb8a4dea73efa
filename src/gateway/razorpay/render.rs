//! Answers in Razorpay's shape.
//!
//! A payment that is taken or held is answered as a finished one: its id, its order and their signature, made with the key
//! secret of the very request. One that is not known yet has its id alone, as a mandate's charge that is under way. Every
//! key of an entity is there, `null` where nothing is known: official SDKs and applications index into it.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use super::secret;
use crate::config::model::Dialect;
use crate::gateway::canonical::{Answer, CardView, Operation, Order, RefundStatus, RefundView, Status, View};
use crate::gateway::outcome::{Decline, DeclineClass};
use crate::gateway::{Head, OwnError, Reply};
use crate::money::{Amount, declines};

pub(super) fn answer(answer: &Answer, head: &Head) -> Reply {
    let ok = |body: Value| reply(StatusCode::OK, &body);
    match answer {
        // Accepted and done later: until then the payment is what it was.
        Answer::Payment(Operation::Capture, view) if view.status == Status::Processing => ok(payment(&View {
            status: Status::Authorised,
            ..View::clone(view)
        })),
        Answer::Payment(Operation::Capture | Operation::Retrieve | Operation::Void, view) => ok(payment(view)),
        Answer::Payment(_, view) => ok(begun(view, head)),
        Answer::Declined(view, decline) => declined(view, decline),
        Answer::Refund(view, one) => ok(refund(view, one)),
        Answer::Refunds(view, all) => ok(collection(all.iter().map(|one| refund(view, one)).collect())),
        Answer::List(views) => ok(collection(views.iter().map(payment).collect())),
        Answer::InDoubt {
            view: Some(view),
            running: false,
            ..
        } => ok(json!({"razorpay_payment_id": view.ids.payment})),
        Answer::InDoubt { .. } => {
            let description = "API Sentinel is still finding out what became of this request. Send the same request \
                               for the same order again; do not open another order.";
            let fault = Fault {
                code: "GATEWAY_ERROR",
                description,
                source: "gateway",
                step: "payment_authorization",
                reason: "payment_pending",
                metadata: json!({}),
            };
            error(StatusCode::GATEWAY_TIMEOUT, &fault)
        }
    }
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Reply::new(Bytes::from(body.to_string()));
    *reply.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(http::header::CONTENT_TYPE, json);
    reply
}

struct Fault<'a> {
    code: &'a str,
    description: &'a str,
    source: &'a str,
    step: &'a str,
    reason: &'a str,
    metadata: Value,
}

fn error(status: StatusCode, fault: &Fault<'_>) -> Reply {
    let body = json!({"error": {
        "code": fault.code, "description": fault.description, "source": fault.source, "step": fault.step,
        "reason": fault.reason, "field": null, "metadata": fault.metadata,
    }});
    reply(status, &body)
}

pub(super) fn own_error(own: &OwnError) -> Reply {
    let server = own.status.is_server_error();
    let fault = Fault {
        code: if server { "SERVER_ERROR" } else { "BAD_REQUEST_ERROR" },
        description: &format!("{} ({})", own.message, own.code),
        source: "internal",
        step: "NA",
        reason: own.code,
        metadata: json!({}),
    };
    error(own.status, &fault)
}

fn collection(items: Vec<Value>) -> Value {
    json!({"entity": "collection", "count": items.len(), "items": items})
}

/// The answer to the request that began the payment.
fn begun(view: &View, head: &Head) -> Value {
    let mut body = json!({"razorpay_payment_id": view.ids.payment});
    match view.status {
        Status::Authorised | Status::Captured => {
            if let (Some(order), Some(secret)) = (&view.reference, secret(&head.headers)) {
                body["razorpay_order_id"] = order.clone().into();
                body["razorpay_signature"] = signature(&secret, order, &view.ids.payment).into();
            }
        }
        Status::ActionRequired => {
            if let Some(url) = &view.redirect {
                body["next"] = json!([{"action": "redirect", "url": url}]);
            }
        }
        _ => {}
    }
    body
}

/// Lower-case hexadecimal HMAC-SHA256 over `order|payment`.
pub(super) fn signature(secret: &str, order: &str, payment: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{order}|{payment}").as_bytes());
    let digest = mac.finalize().into_bytes();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An amount of the view came from this dialect or was checked against it, so it has a form here.
fn units(amount: Amount) -> Value {
    amount.to_minor(Dialect::Razorpay).map_or(Value::Null, Value::from)
}

/// `[]` where there are none, as PHP writes an empty object.
fn notes(notes: &indexmap::IndexMap<String, String>) -> Value {
    match notes.is_empty() {
        true => json!([]),
        false => json!(notes),
    }
}

pub(super) fn payment(view: &View) -> Value {
    let whole = view.refunded == view.amount && !view.refunded.is_zero();
    let status = match view.status {
        Status::Created | Status::ActionRequired | Status::Processing => "created",
        Status::Authorised => "authorized",
        Status::Captured if whole => "refunded",
        Status::Captured => "captured",
        // Razorpay has no void: an uncaptured payment that was returned is shown so.
        Status::Voided => "refunded",
        Status::Declined => "failed",
    };
    let captured = view.status == Status::Captured;
    let refund_status = match (view.refunded.is_zero(), whole) {
        (true, _) => Value::Null,
        (_, true) => "full".into(),
        _ => "partial".into(),
    };
    let mut body = json!({
        "id": view.ids.payment, "entity": "payment", "amount": units(view.amount),
        "currency": view.amount.currency.code(), "status": status, "order_id": view.reference, "invoice_id": null,
        "international": false, "method": "card", "amount_refunded": units(view.refunded),
        "refund_status": refund_status, "captured": captured, "description": view.description, "card_id": null,
        "bank": null, "wallet": null, "vpa": null, "email": view.buyer.email, "contact": view.buyer.phone,
        "customer_id": view.customer, "token_id": view.instrument, "notes": notes(&view.metadata), "fee": null,
        "tax": null, "error_code": null, "error_description": null, "error_source": null, "error_step": null,
        "error_reason": null, "acquirer_data": {"auth_code": view.approval_code}, "created_at": view.created,
    });
    if let Some(card) = &view.card {
        let id = format!("card_{}", super::id("card", view.ids.payment.as_bytes()));
        body["card"] = self::card(card, &id);
        body["card_id"] = id.into();
    }
    if let (Status::Declined, Some(decline)) = (view.status, &view.decline) {
        let reason = reason(decline);
        body["error_code"] = "BAD_REQUEST_ERROR".into();
        body["error_description"] = DECLINED.into();
        body["error_source"] = "issuer_bank".into();
        body["error_step"] = "payment_authorization".into();
        body["error_reason"] = reason.into();
    }
    body
}

fn card(card: &CardView, id: &str) -> Value {
    let network = match card.brand.as_deref() {
        Some("visa") => "Visa",
        Some("mastercard") => "MasterCard",
        Some("amex") => "American Express",
        Some("discover") => "Discover",
        Some("diners") => "Diners Club",
        Some("jcb") => "JCB",
        Some("unionpay") => "Union Pay",
        _ => "Unknown",
    };
    json!({"id": id, "entity": "card", "name": "", "last4": card.last4, "network": network, "type": "credit",
        "issuer": null, "international": false, "emi": false, "sub_type": "consumer", "token_iin": null})
}

/// An order that Sentinel opened.
pub(super) fn order(order: &Order, attempts: usize, taken: Amount) -> Reply {
    let due = Amount {
        units: order.amount.units - taken.units,
        ..order.amount
    };
    let status = match (taken.is_zero(), attempts) {
        (false, _) => "paid",
        (true, 0) => "created",
        (true, _) => "attempted",
    };
    let body = json!({
        "id": order.id, "entity": "order", "amount": units(order.amount), "amount_paid": units(taken),
        "amount_due": units(due), "currency": order.amount.currency.code(), "receipt": order.receipt, "offer_id": null,
        "status": status, "attempts": attempts, "notes": notes(&order.metadata), "created_at": order.created,
    });
    reply(StatusCode::OK, &body)
}

const DECLINED: &str = "Your payment was declined by the bank. Try another payment method.";

/// What the application is told of a decline. Why a payment was taken for fraud is not the customer's to know, and a code
/// that is no verdict would be read as one that may still change.
fn reason(decline: &Decline) -> &'static str {
    match decline.class {
        class @ (DeclineClass::Hard | DeclineClass::Soft | DeclineClass::Fraud) => {
            declines::code_for(Dialect::Razorpay, &decline.canonical, class)
        }
        _ => "card_declined",
    }
}

fn declined(view: &View, decline: &Decline) -> Reply {
    let fault = Fault {
        code: "BAD_REQUEST_ERROR",
        description: DECLINED,
        source: "issuer_bank",
        step: "payment_authorization",
        reason: reason(decline),
        metadata: json!({"payment_id": view.ids.payment, "order_id": view.reference}),
    };
    error(StatusCode::BAD_REQUEST, &fault)
}

pub(super) fn refund(view: &View, refund: &RefundView) -> Value {
    let status = match refund.status {
        RefundStatus::Pending => "pending",
        RefundStatus::Succeeded => "processed",
        RefundStatus::Failed => "failed",
    };
    json!({
        "id": refund.id, "entity": "refund", "amount": units(refund.amount),
        "currency": refund.amount.currency.code(), "payment_id": view.ids.payment, "notes": notes(&refund.metadata),
        "receipt": refund.reference, "acquirer_data": {"arn": null}, "created_at": refund.created, "batch_id": null,
        "status": status, "speed_processed": "normal", "speed_requested": "normal",
    })
}
