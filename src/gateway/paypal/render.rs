//! Answers in PayPal's shape.
//!
//! Links point at the route's own base, so that an application that follows them stays with Sentinel. `Prefer` decides
//! between a minimal and a full representation, as at PayPal. A decline is 422 `INSTRUMENT_DECLINED`, the form that
//! applications handle; a payment in doubt is a completed order whose capture is `PENDING`, on which none pays again.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::parse::{CUSTOM_ID, REFERENCE_ID};
use super::{debug_id, object_id};
use crate::config::model::Dialect;
use crate::gateway::canonical::{Answer, CaptureMode, CaptureView, Operation, RefundStatus, RefundView, Status, View};
use crate::gateway::outcome::{Decline, DeclineClass};
use crate::gateway::{Head, OwnError, Reply, json};
use crate::money::{Amount, declines};

pub(super) fn answer(answer: &Answer, head: &Head, body: &[u8]) -> Reply {
    let asked = json::object(body).unwrap_or_default();
    let page = Page { head, asked: &asked };
    match answer {
        Answer::Payment(Operation::Capture, view) => page.created(page.capture(view)),
        Answer::Payment(Operation::Void, view) if page.full() => {
            reply(StatusCode::OK, &page.authorization(view), &view.ids.request)
        }
        Answer::Payment(Operation::Void, view) => {
            let mut reply = reply(StatusCode::NO_CONTENT, &Value::Null, &view.ids.request);
            reply.headers_mut().remove(http::header::CONTENT_TYPE);
            *reply.body_mut() = Bytes::new();
            reply
        }
        Answer::Payment(Operation::Retrieve, view) => {
            let object = match head.path.split('/').nth(3) {
                Some("authorizations") => page.authorization(view),
                Some("captures") => page.capture(view),
                _ => page.order(view),
            };
            reply(StatusCode::OK, &object, &view.ids.request)
        }
        Answer::Payment(_, view)
        | Answer::InDoubt {
            view: Some(view),
            running: false,
            ..
        } => {
            if head.path.starts_with("/v2/payments/authorizations/") {
                page.created(page.capture(view))
            } else if head.path.starts_with("/v2/payments/captures/") {
                in_doubt(&view.ids.payment, false, head)
            } else {
                page.created(page.order(view))
            }
        }
        Answer::Declined(view, decline) => declined(view, decline),
        Answer::Refund(view, refund) if head.path.starts_with("/v2/payments/refunds/") => {
            reply(StatusCode::OK, &page.refund(view, refund), &view.ids.request)
        }
        Answer::Refund(view, refund) => page.created(page.refund(view, refund)),
        Answer::InDoubt { payment, running, .. } => in_doubt(payment, *running, head),
        Answer::List(_) | Answer::Refunds(..) => error(StatusCode::NOT_FOUND, &[], "list"),
    }
}

/// Seconds of Unix time as RFC 3339 in UTC.
pub(super) fn timestamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

fn reply(status: StatusCode, body: &Value, request: &str) -> Reply {
    let mut reply = Reply::new(Bytes::from(body.to_string()));
    *reply.status_mut() = status;
    let debug = if request.is_empty() {
        debug_id(body.to_string().as_bytes())
    } else {
        request.to_owned()
    };
    let headers = reply.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json;charset=UTF-8"),
    );
    if let Ok(debug) = HeaderValue::from_str(&debug) {
        headers.insert("paypal-debug-id", debug);
    }
    reply
}

fn money(amount: Amount) -> Option<Value> {
    let value = amount.to_decimal(Dialect::Paypal).ok()?;
    Some(json!({"currency_code": amount.currency.code(), "value": value}))
}

/// A capture as it is shown.
struct Taken {
    id: String,
    amount: Option<Value>,
    status: &'static str,
    last: bool,
    created: i64,
}

/// The status of a capture, by what of it was given back.
fn given_back(refunded: Amount, taken: Amount) -> &'static str {
    match refunded.units {
        0 => "COMPLETED",
        units if units < taken.units => "PARTIALLY_REFUNDED",
        _ => "REFUNDED",
    }
}

fn put(object: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[name] = value;
    }
}

pub(super) struct Page<'a> {
    pub(super) head: &'a Head,
    pub(super) asked: &'a Map<String, Value>,
}

impl Page<'_> {
    fn full(&self) -> bool {
        let prefers = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("return=representation"));
        self.head.headers.get_all("prefer").iter().any(prefers)
    }

    /// The answer to a POST: whole, or what PayPal calls minimal.
    fn created(&self, object: Value) -> Reply {
        let written = if self.full() {
            object
        } else {
            let keep = |name: &str| (name.to_owned(), object.get(name).cloned().unwrap_or(Value::Null));
            Value::Object(["id", "status", "links"].into_iter().map(keep).collect())
        };
        reply(StatusCode::CREATED, &written, "")
    }

    fn link(&self, path: &str, rel: &str, method: &str) -> Value {
        json!({"href": format!("{}{path}", self.head.base), "rel": rel, "method": method})
    }

    fn order(&self, view: &View) -> Value {
        let id = &view.ids.payment;
        let path = format!("/v2/checkout/orders/{id}");
        let status = match view.status {
            Status::Created => "CREATED",
            Status::ActionRequired => "PAYER_ACTION_REQUIRED",
            Status::Declined => "APPROVED",
            Status::Processing | Status::Authorised | Status::Captured | Status::Voided => "COMPLETED",
        };
        let mut links = vec![self.link(&path, "self", "GET")];
        match (view.status, &view.redirect) {
            (Status::ActionRequired, Some(url)) => {
                links.push(json!({"href": url, "rel": "payer-action", "method": "GET"}));
            }
            (Status::Created, redirect) => {
                if let Some(url) = redirect {
                    links.push(json!({"href": url, "rel": "approve", "method": "GET"}));
                }
                links.push(self.link(&path, "update", "PATCH"));
                let verb = if view.capture == CaptureMode::Manual {
                    "authorize"
                } else {
                    "capture"
                };
                links.push(self.link(&format!("{path}/{verb}"), verb, "POST"));
            }
            _ => {}
        }
        let intent = if view.capture == CaptureMode::Manual {
            "AUTHORIZE"
        } else {
            "CAPTURE"
        };
        let reference_id = view.metadata.get(REFERENCE_ID).map_or("default", String::as_str);
        let mut unit = json!({"reference_id": reference_id});
        put(&mut unit, "amount", money(view.amount));
        self.references(view, &mut unit);
        put(&mut unit, "description", view.description.clone().map(Value::from));
        put(&mut unit, "soft_descriptor", view.statement.clone().map(Value::from));
        put(&mut unit, "payments", self.payments(view));
        let mut order = json!({"id": id, "intent": intent, "status": status});
        put(&mut order, "payment_source", card(view));
        order["purchase_units"] = Value::Array(vec![unit]);
        order["create_time"] = timestamp(view.created).into();
        order["update_time"] = timestamp(view.voided_at.unwrap_or(view.created)).into();
        order["links"] = Value::Array(links);
        order
    }

    fn references(&self, view: &View, object: &mut Value) {
        put(object, "invoice_id", view.reference.clone().map(Value::from));
        put(
            object,
            "custom_id",
            view.metadata.get(CUSTOM_ID).cloned().map(Value::from),
        );
    }

    fn payments(&self, view: &View) -> Option<Value> {
        if matches!(view.status, Status::Created | Status::ActionRequired | Status::Declined) {
            return None;
        }
        let mut payments = json!({});
        if view.capture == CaptureMode::Manual {
            payments["authorizations"] = Value::Array(vec![self.authorization(view)]);
            let mut captures: Vec<Value> = view.captures.iter().map(|one| self.capture_of(view, one)).collect();
            if captures.is_empty() && view.status == Status::Captured {
                captures.push(self.capture(view));
            }
            if !captures.is_empty() {
                payments["captures"] = Value::Array(captures);
            }
        } else {
            payments["captures"] = Value::Array(vec![self.capture(view)]);
        }
        if !view.refunds.is_empty() {
            let refunds = view.refunds.iter().map(|refund| self.refund(view, refund)).collect();
            payments["refunds"] = Value::Array(refunds);
        }
        Some(payments)
    }

    pub(super) fn authorization(&self, view: &View) -> Value {
        let id = &view.ids.charge;
        let path = format!("/v2/payments/authorizations/{id}");
        let status = match view.status {
            Status::Captured if view.kept.is_some() => "PARTIALLY_CAPTURED",
            Status::Captured => "CAPTURED",
            Status::Voided => "VOIDED",
            Status::Processing => "PENDING",
            Status::Declined => "DENIED",
            _ => "CREATED",
        };
        let mut links = vec![self.link(&path, "self", "GET")];
        if status == "CREATED" || status == "PARTIALLY_CAPTURED" {
            links.push(self.link(&format!("{path}/capture"), "capture", "POST"));
            links.push(self.link(&format!("{path}/void"), "void", "POST"));
        }
        links.push(self.link(&format!("/v2/checkout/orders/{}", view.ids.payment), "up", "GET"));
        let mut object = json!({"id": id, "status": status});
        if status == "PENDING" {
            object["status_details"] = json!({"reason": "PENDING_REVIEW"});
        }
        put(&mut object, "amount", money(view.amount));
        self.references(view, &mut object);
        object["seller_protection"] = json!({"status": "NOT_ELIGIBLE"});
        // PayPal keeps an authorisation for 29 days; the owner may keep it for less.
        object["expiration_time"] = timestamp(view.created.saturating_add(29 * 86_400)).into();
        object["create_time"] = timestamp(view.created).into();
        object["update_time"] = timestamp(view.voided_at.unwrap_or(view.created)).into();
        object["links"] = Value::Array(links);
        object
    }

    /// The capture that an answer is about: of a hold one of those that were asked for, else all that was taken.
    pub(super) fn capture(&self, view: &View) -> Value {
        let held = view.capture == CaptureMode::Manual;
        let named = |one: &&CaptureView| Some(&one.id) == view.ids.capture.as_ref();
        if let Some(one) = view.captures.iter().find(named).filter(|_| held) {
            return self.capture_of(view, one);
        }
        let id = match view.capture {
            CaptureMode::Automatic => view.ids.charge.clone(),
            // Captured at its gateway, by no request of the application's.
            CaptureMode::Manual => object_id("capture", view.ids.payment.as_bytes()),
        };
        let taken = if view.captured.is_zero() {
            view.amount
        } else {
            view.captured
        };
        let asked = self
            .asked
            .get("amount")
            .filter(|_| self.head.path.ends_with("/capture"))
            .cloned();
        let taken = Taken {
            id,
            amount: asked.or_else(|| money(taken)),
            status: match view.status {
                Status::Captured => given_back(view.refunded, view.captured),
                Status::Declined => "DECLINED",
                _ => "PENDING",
            },
            last: true,
            created: view.created,
        };
        self.taken(view, taken)
    }

    fn capture_of(&self, view: &View, one: &CaptureView) -> Value {
        let taken = Taken {
            id: one.id.clone(),
            amount: money(one.amount),
            status: match one.done {
                true => given_back(one.refunded, one.amount),
                false => "PENDING",
            },
            last: one.last,
            created: one.created,
        };
        self.taken(view, taken)
    }

    fn taken(&self, view: &View, taken: Taken) -> Value {
        let Taken {
            id,
            amount,
            status,
            last,
            created,
        } = taken;
        let path = format!("/v2/payments/captures/{id}");
        let mut object = json!({"id": id, "status": status});
        if status == "PENDING" {
            object["status_details"] = json!({"reason": "PENDING_REVIEW"});
        }
        if let Some(amount) = &amount {
            object["seller_receivable_breakdown"] = json!({"gross_amount": amount});
        }
        put(&mut object, "amount", amount);
        object["final_capture"] = last.into();
        object["seller_protection"] = json!({"status": "NOT_ELIGIBLE"});
        self.references(view, &mut object);
        let network = view.network_transaction_id.as_ref().filter(|id| id.len() <= 36);
        put(
            &mut object,
            "network_transaction_reference",
            network.map(|id| json!({"id": id})),
        );
        let order = format!("/v2/checkout/orders/{}", view.ids.payment);
        object["create_time"] = timestamp(created).into();
        object["update_time"] = timestamp(created).into();
        object["links"] = Value::Array(vec![
            self.link(&path, "self", "GET"),
            self.link(&format!("{path}/refund"), "refund", "POST"),
            self.link(&order, "up", "GET"),
        ]);
        object
    }

    pub(super) fn refund(&self, view: &View, refund: &RefundView) -> Value {
        let status = match refund.status {
            RefundStatus::Pending => "PENDING",
            RefundStatus::Succeeded => "COMPLETED",
            RefundStatus::Failed => "FAILED",
        };
        let amount = money(refund.amount);
        let mut object = json!({"id": refund.id, "status": status});
        if let Some(amount) = &amount {
            let mut breakdown = json!({"gross_amount": amount});
            put(&mut breakdown, "total_refunded_amount", money(view.refunded));
            object["seller_payable_breakdown"] = breakdown;
        }
        put(&mut object, "amount", amount);
        put(&mut object, "invoice_id", refund.reference.clone().map(Value::from));
        put(
            &mut object,
            "custom_id",
            refund.metadata.get(CUSTOM_ID).cloned().map(Value::from),
        );
        put(&mut object, "note_to_payer", refund.reason.clone().map(Value::from));
        let capture = view.ids.capture.as_ref().unwrap_or(&view.ids.charge);
        object["create_time"] = timestamp(refund.created).into();
        object["update_time"] = timestamp(refund.created).into();
        object["links"] = Value::Array(vec![
            self.link(&format!("/v2/payments/refunds/{}", refund.id), "self", "GET"),
            self.link(&format!("/v2/payments/captures/{capture}"), "up", "GET"),
        ]);
        object
    }
}

fn card(view: &View) -> Option<Value> {
    let card = view.card.as_ref()?;
    let mut shown = json!({});
    put(
        &mut shown,
        "last_digits",
        card.last4.clone().filter(|digits| digits.len() >= 2).map(Value::from),
    );
    let brand = card.brand.as_deref().and_then(|brand| {
        Some(match brand {
            "visa" => "VISA",
            "mastercard" => "MASTERCARD",
            "amex" => "AMEX",
            "discover" => "DISCOVER",
            "diners" => "DINERS",
            "jcb" => "JCB",
            "unionpay" => "CHINA_UNION_PAY",
            _ => return None,
        })
    });
    put(&mut shown, "brand", brand.map(Value::from));
    if let (Some(year), Some(month)) = (card.expiry_year, card.expiry_month) {
        shown["expiry"] = format!("{year:04}-{month:02}").into();
    }
    Some(json!({"card": shown}))
}

/// PayPal's issue for a decline.
fn issue(decline: &Decline) -> (&'static str, &'static str) {
    match (decline.class, decline.canonical.as_str()) {
        // Restricted in fact, or by the network's word that this must not be tried again, or for a reason that is not
        // the customer's to know.
        (class, canonical) if class.stops() && !hard_in_itself(class, canonical) => {
            ("PAYER_ACCOUNT_RESTRICTED", "Payer account is restricted.")
        }
        (_, "expired_card") => ("CARD_EXPIRED", "The card is expired."),
        (_, "closed_account") => (
            "PAYER_ACCOUNT_LOCKED_OR_CLOSED",
            "The payer account cannot be used for this transaction.",
        ),
        (_, "limit_exceeded" | "gateway_limit") => (
            "TRANSACTION_LIMIT_EXCEEDED",
            "Total payment amount exceeded transaction limit.",
        ),
        _ => (
            "INSTRUMENT_DECLINED",
            "The instrument presented was either declined by the processor or bank, or it can't be used for this payment.",
        ),
    }
}

/// Whether PayPal knows the reason as one that forbids another try. Where it has no issue for it, its plain one tells
/// the application to ask for another instrument, which is what is meant.
fn hard_in_itself(class: DeclineClass, canonical: &str) -> bool {
    let code = declines::reason_for(Dialect::Paypal, canonical, class);
    class != DeclineClass::Fraud && declines::code_stops(Dialect::Paypal, code) && canonical != "do_not_retry"
}

fn declined(view: &View, decline: &Decline) -> Reply {
    error(StatusCode::UNPROCESSABLE_ENTITY, &[issue(decline)], &view.ids.payment)
}

/// Still running, or parked without an order to show. PayPal's SDKs repeat no POST, so that the status only has to be
/// one after which nobody takes the payment for refused.
fn in_doubt(payment: &str, running: bool, head: &Head) -> Reply {
    if !running {
        let description = "The outcome is not known yet: do not pay again with another PayPal-Request-Id.";
        let detail = ("SENTINEL_OUTCOME_PENDING", description);
        return error(StatusCode::INTERNAL_SERVER_ERROR, &[detail], payment);
    }
    let description = "A previous request is in progress. Repeat this one with the same PayPal-Request-Id.";
    let (status, issue) = if head.path.starts_with("/v2/checkout/orders/") {
        (StatusCode::UNPROCESSABLE_ENTITY, "ORDER_COMPLETION_IN_PROGRESS")
    } else {
        (StatusCode::CONFLICT, "PREVIOUS_REQUEST_IN_PROGRESS")
    };
    error(status, &[(issue, description)], payment)
}

/// PayPal has one name and one message for each status; what happened stands in `details`.
fn named(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        400 => (
            "INVALID_REQUEST",
            "Request is not well-formed, syntactically incorrect, or violates schema.",
        ),
        401 => (
            "AUTHENTICATION_FAILURE",
            "Authentication failed due to missing authorization header, or invalid authentication credentials.",
        ),
        403 => (
            "NOT_AUTHORIZED",
            "Authorization failed due to insufficient permissions.",
        ),
        404 => ("RESOURCE_NOT_FOUND", "The specified resource does not exist."),
        409 => (
            "RESOURCE_CONFLICT",
            "The server has detected a conflict while processing this request.",
        ),
        422 => (
            "UNPROCESSABLE_ENTITY",
            "The requested action could not be performed, semantically incorrect, or failed business validation.",
        ),
        429 => ("RATE_LIMIT_REACHED", "Too many requests. Blocked due to rate limiting."),
        503 => ("SERVICE_UNAVAILABLE", "Service Unavailable."),
        _ => ("INTERNAL_SERVER_ERROR", "An internal server error occurred."),
    }
}

fn error(status: StatusCode, details: &[(&str, &str)], seed: &str) -> Reply {
    let debug = debug_id(seed.as_bytes());
    let (name, message) = named(status);
    let mut body = json!({"name": name, "message": message, "debug_id": debug});
    if !details.is_empty() {
        let detail = |(issue, description): &(&str, &str)| json!({"issue": issue, "description": description});
        body["details"] = details.iter().map(detail).collect();
    }
    body["links"] = Value::Array(Vec::new());
    reply(status, &body, &debug)
}

pub(super) fn own_error(own: &OwnError, head: &Head) -> Reply {
    let issue = own.code.to_ascii_uppercase();
    // PayPal says 400 of what it cannot read, and 422 of what cannot be done.
    let undoable = matches!(
        own.code,
        "wrong_state" | "no_effect" | "amount_too_large" | "payment_held"
    );
    let status = match own.status {
        StatusCode::BAD_REQUEST if undoable => StatusCode::UNPROCESSABLE_ENTITY,
        status => status,
    };
    error(
        status,
        &[(&issue, &own.message)],
        &format!("{} {}", own.code, head.path),
    )
}
