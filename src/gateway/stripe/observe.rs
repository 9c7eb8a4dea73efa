//! What a complete answer of Stripe's proves.
//!
//! Rows 13 to 21 of the decision table (safety.md 2.3). An answer counts only in Stripe's own envelope: JSON with a
//! `Request-Id` of Stripe's form. A success is in the body, never in the status line, and only for the payment that was
//! asked for: another amount, currency, object or reference is a conflict.
//!
//! For [`Leg::Fence`] and [`Leg::Lookup`] the outcome is that of the *earlier* attempt:
//!
//! | fence | answer | outcome of the earlier attempt |
//! |---|---|---|
//! | key tombstone | 200, our tombstone | Fenced: the key is taken, a late original gets 400 |
//! | key tombstone | 400 `idempotency_error` | Unknown, rule `original_arrived`: it was executed or is being executed |
//! | key tombstone | 409 | Unknown, rule `key_in_use`: it is being executed |
//! | key tombstone | anything replayed that is not our tombstone | what the replayed answer says of the original |
//! | cancel | 200 `canceled` | Fenced; a hold that existed is released by the same call |
//! | cancel | 400 with the intent `succeeded` | Succeeded |
//! | any | everything else | Unknown |

use serde_json::{Map, Value};

use super::parse::order;
use super::{FENCE_KEY, REFERENCE_KEY};
use crate::config::model::Dialect;
use crate::gateway::canonical::{CardView, Operation, Pay, Request, Target};
use crate::gateway::outcome::{Decline, Observation, Outcome, Rejection, unknown};
use crate::gateway::{Incoming, Leg, json, retry_after};
use crate::money::declines::{Advice, Network, classify};
use crate::money::{Amount, DeclineClass};

type Object = Map<String, Value>;

fn text<'a>(object: &'a Object, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str)
}

/// An id that stands alone, or inside the expanded object.
fn id(object: &Object, field: &str) -> Option<String> {
    match object.get(field)? {
        Value::String(id) => Some(id.clone()),
        Value::Object(inner) => text(inner, "id").map(str::to_owned),
        _ => None,
    }
}

fn amount(object: &Object, field: &str) -> Option<Amount> {
    Amount::json_minor(Dialect::Stripe, object.get(field)?, text(object, "currency")?).ok()
}

fn metadata(object: &Object) -> indexmap::IndexMap<String, String> {
    let entries = object.get("metadata").and_then(Value::as_object);
    entries
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Reads an answer.
pub fn observe(leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
    let mut observation = read(leg, request, reference, answer);
    observation.retry_after = retry_after::seconds(&answer.headers);
    observation
}

/// Whether an answer is in Stripe's own envelope.
pub fn native(answer: &Incoming) -> bool {
    let request_id = answer.headers.get("request-id");
    request_id.is_some_and(|value| value.as_bytes().starts_with(b"req_"))
}

fn read(leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
    let status = answer.status.as_u16();
    match status {
        300..=399 => return unknown("redirect"),
        408 | 421 | 424 | 425 | 500..=599 => return unknown("gateway_failure"),
        _ => {}
    }
    let Some(body) = json::object(&answer.body).filter(|_| native(answer)) else {
        return unknown("foreign_answer");
    };
    if let Some(error) = body.get("error") {
        let Some(error) = error.as_object() else {
            return unknown("foreign_answer");
        };
        if (200..300).contains(&status) || text(error, "type").is_none() {
            return unknown("foreign_answer");
        }
        return refused(leg, request, reference, status, error);
    }
    if !(200..300).contains(&status) {
        return unknown("foreign_answer");
    }
    match (leg, text(&body, "object")) {
        (Leg::Fence, Some("payment_intent")) => fence(request, reference, &body),
        (Leg::Lookup, Some("list" | "search_result")) => found(request, reference, &body),
        (Leg::Charge | Leg::Auth | Leg::Lookup, Some("payment_intent")) => intent(leg, request, reference, &body),
        (Leg::Charge | Leg::Auth | Leg::Lookup, Some("charge")) => charge(leg, request, reference, &body),
        (Leg::Capture, Some("payment_intent" | "charge")) => captured(request, &body),
        (Leg::Void, Some("payment_intent")) => voided(request, &body),
        (Leg::Refund | Leg::Void | Leg::Lookup, Some("refund")) => refunded(leg, request, &body),
        _ => unknown("unexpected_object"),
    }
}

fn refused(leg: Leg, request: Option<&Request>, reference: Option<&str>, status: u16, error: &Object) -> Observation {
    let code = text(error, "code").unwrap_or_default();
    let inner = error.get("payment_intent").and_then(Value::as_object);
    let idempotency = text(error, "type") == Some("idempotency_error");
    // A question that was refused says nothing about the payment it asked about.
    if matches!(leg, Leg::Fence | Leg::Lookup) {
        return match (status, inner) {
            (409, _) => unknown("key_in_use"),
            (400, _) if idempotency => Observation {
                arrived: leg == Leg::Fence,
                ..unknown("original_arrived")
            },
            (400, Some(inner)) if code == "payment_intent_unexpected_state" => intent(leg, request, reference, inner),
            // The original's own decline, replayed for its key.
            (402, _) if leg == Leg::Fence => declined(error),
            (404, _) => unknown("not_found"),
            _ => unknown("question_refused"),
        };
    }
    let rejected = |why, rule: &str| Observation::bare(Outcome::Rejected(why), rule);
    match status {
        402 => declined(error),
        409 => unknown("key_in_use"),
        429 => rejected(Rejection::Transient, "rate_limited"),
        401 => rejected(Rejection::Account, "unauthorized"),
        403 => rejected(Rejection::Account, "forbidden"),
        400 if idempotency => rejected(Rejection::Request, "idempotency_mismatch"),
        400 if matches!(
            code,
            "payment_intent_unexpected_state" | "charge_already_captured" | "charge_already_refunded"
        ) =>
        {
            let state = inner.and_then(|inner| text(inner, "status"));
            match (leg, state) {
                (Leg::Void, Some("canceled")) => Observation {
                    payment_id: inner.and_then(|inner| id(inner, "id")),
                    ..Observation::bare(Outcome::Succeeded, "already_voided")
                },
                (Leg::Charge | Leg::Auth, Some("canceled")) => Observation::bare(Outcome::Fenced, "already_canceled"),
                _ => unknown("already_done"),
            }
        }
        400 | 404 | 405 | 413 | 415 | 422 => rejected(Rejection::Request, "validation"),
        _ => unknown("unlisted_status"),
    }
}

/// Reads a card error, in an answer or as an intent's `last_payment_error`.
fn declined(error: &Object) -> Observation {
    if text(error, "type") != Some("card_error") {
        return unknown("unlisted_refusal");
    }
    let code = text(error, "code").unwrap_or_default();
    let raw = text(error, "decline_code").unwrap_or(code);
    let brand = error
        .get("payment_method")
        .and_then(|method| method.pointer("/card/brand"))
        .and_then(Value::as_str);
    let advice_code = text(error, "advice_code");
    let advice = Advice {
        network: brand.map(|brand| match brand {
            "visa" => Network::Visa,
            "mastercard" => Network::Mastercard,
            _ => Network::Other,
        }),
        issuer_code: text(error, "network_decline_code"),
        advice_code: text(error, "network_advice_code"),
        do_not_retry: matches!(advice_code, Some("do_not_try_again" | "confirm_card_data")),
    };
    let mut verdict = classify(Dialect::Stripe, raw, &advice);
    // The table holds what is no decline code under the name of its field.
    if code != raw && !code.is_empty() && code != "card_declined" || !verdict.known {
        let by_code = classify(Dialect::Stripe, &format!("code:{code}"), &advice);
        if by_code.known {
            verdict = if verdict.known { verdict.and(by_code) } else { by_code };
        }
    }
    let decline = Decline {
        canonical: verdict.canonical.to_owned(),
        class: verdict.class,
        raw_code: raw.chars().take(100).collect(),
        message: text(error, "message").unwrap_or_default().chars().take(200).collect(),
        advice: text(error, "network_advice_code").or(advice_code).map(str::to_owned),
    };
    let outcome = match verdict.class {
        DeclineClass::Ambiguous => Outcome::Unknown,
        class => Outcome::Declined(class),
    };
    let rule = match outcome {
        Outcome::Unknown => "ambiguous_decline",
        _ => "native_decline",
    };
    let inner = error.get("payment_intent").and_then(Value::as_object);
    Observation {
        payment_id: inner.and_then(|inner| id(inner, "id")),
        charge_id: text(error, "charge").map(str::to_owned),
        card: error.get("payment_method").and_then(card_view),
        decline: Some(decline),
        ..Observation::bare(outcome, rule)
    }
}

/// What may be shown of the card in a payment method or in `payment_method_details`.
fn card_view(method: &Value) -> Option<CardView> {
    let card = method.get("card")?.as_object()?;
    let number = |field: &str| card.get(field).and_then(Value::as_u64);
    Some(CardView {
        brand: text(card, "brand").map(str::to_owned),
        last4: text(card, "last4").map(str::to_owned),
        expiry_month: number("exp_month").and_then(|month| u8::try_from(month).ok()),
        expiry_year: number("exp_year").and_then(|year| u16::try_from(year).ok()),
    })
}

/// An observation with what an intent or charge says beside its state.
fn said(outcome: Outcome, rule: &str, body: &Object) -> Observation {
    let mut observation = Observation::bare(outcome, rule);
    let charge = match text(body, "object") {
        Some("charge") => {
            observation.payment_id = id(body, "payment_intent").or_else(|| id(body, "id"));
            observation.charge_id = id(body, "id");
            Some(body)
        }
        _ => {
            observation.payment_id = id(body, "id");
            let old = body.get("charges").and_then(|charges| charges.pointer("/data/0"));
            let charge = body.get("latest_charge").or(old);
            observation.charge_id = id(body, "latest_charge")
                .or_else(|| charge.and_then(|charge| charge.get("id")?.as_str().map(str::to_owned)));
            charge.and_then(Value::as_object)
        }
    };
    let details = charge.and_then(|charge| charge.get("payment_method_details"));
    observation.card = details
        .and_then(card_view)
        .or_else(|| body.get("payment_method").and_then(card_view));
    let card = details
        .and_then(|details| details.get("card"))
        .and_then(Value::as_object);
    observation.network_transaction_id = card
        .and_then(|card| text(card, "network_transaction_id"))
        .map(str::to_owned);
    observation.approval_code = card
        .and_then(|card| text(card, "authorization_code"))
        .map(str::to_owned);
    observation.redirect = body
        .get("next_action")
        .and_then(|action| action.pointer("/redirect_to_url/url"))
        .and_then(Value::as_str)
        .map(str::to_owned);
    observation
}

fn pay(request: Option<&Request>) -> Option<&Pay> {
    match request {
        Some(Request::Pay(pay)) => Some(pay),
        _ => None,
    }
}

/// Whether the object is the payment that was asked for. `Err` is the rule that says it is not.
fn same_payment(request: Option<&Request>, reference: Option<&str>, body: &Object) -> Result<(), &'static str> {
    let found = metadata(body);
    if let Some(reference) = reference
        && found.get(REFERENCE_KEY).map(String::as_str) != Some(reference)
        && order(&found).as_deref() != Some(reference)
    {
        return Err("other_reference");
    }
    let Some(pay) = pay(request) else { return Ok(()) };
    if let Some(asked) = pay.amount
        && amount(body, "amount") != Some(asked)
    {
        return Err("other_amount");
    }
    let object_id = text(body, "id");
    if reference.is_none() {
        if pay.confirms.is_some() && pay.confirms.as_deref() != object_id {
            return Err("other_object");
        }
        // A confirmation carries no metadata of its own; a creation's comes back whole.
        if pay.confirms.is_none() && pay.reference.is_some() && order(&found) != pay.reference {
            return Err("other_reference");
        }
    }
    Ok(())
}

fn intent(leg: Leg, request: Option<&Request>, reference: Option<&str>, body: &Object) -> Observation {
    if let Err(rule) = same_payment(request, reference, body) {
        return said(Outcome::Conflict, rule, body);
    }
    let whole = amount(body, "amount");
    let status = text(body, "status").unwrap_or_default();
    match status {
        "succeeded" => {
            let received = amount(body, "amount_received");
            // An intent that was captured in part after the attempt in question is found smaller; an attempt's own
            // answer is for all of it.
            if received.is_none_or(Amount::is_zero) || (leg != Leg::Lookup && received != whole) {
                return said(Outcome::Conflict, "other_amount", body);
            }
            Observation {
                amount: received,
                ..said(Outcome::Succeeded, "native_success", body)
            }
        }
        "requires_capture" => {
            let held = amount(body, "amount_capturable");
            if held.is_none_or(Amount::is_zero) || (leg != Leg::Lookup && held != whole) {
                return said(Outcome::Conflict, "other_amount", body);
            }
            Observation {
                amount: held,
                ..said(Outcome::Authorised, "native_success", body)
            }
        }
        "processing" => Observation {
            pending: true,
            ..said(Outcome::Unknown, "processing", body)
        },
        "requires_action" | "requires_source_action" => said(Outcome::ActionRequired, "customer_action", body),
        "canceled" => said(Outcome::Fenced, "canceled", body),
        "requires_payment_method" | "requires_source" => {
            match body.get("last_payment_error").and_then(Value::as_object) {
                Some(error) => Observation {
                    payment_id: id(body, "id"),
                    ..declined(error)
                },
                None => unexecuted(leg, request, body),
            }
        }
        "requires_confirmation" => unexecuted(leg, request, body),
        _ => said(Outcome::Unknown, "unknown_state", body),
    }
}

/// An intent that nothing was tried on: what a creation asks for, and no proof of anything for an execution.
fn unexecuted(leg: Leg, request: Option<&Request>, body: &Object) -> Observation {
    let created = pay(request).is_some_and(|pay| pay.operation == Operation::Create);
    if created && matches!(leg, Leg::Charge | Leg::Auth) {
        said(Outcome::Succeeded, "created", body)
    } else {
        said(Outcome::Unknown, "not_executed_yet", body)
    }
}

fn charge(leg: Leg, request: Option<&Request>, reference: Option<&str>, body: &Object) -> Observation {
    if let Err(rule) = same_payment(request, reference, body) {
        return said(Outcome::Conflict, rule, body);
    }
    let flag = |field: &str| body.get(field).and_then(Value::as_bool) == Some(true);
    match text(body, "status").unwrap_or_default() {
        "succeeded" if flag("captured") => {
            let moved = amount(body, "amount_captured");
            if leg != Leg::Lookup && moved != amount(body, "amount") {
                return said(Outcome::Conflict, "other_amount", body);
            }
            Observation {
                amount: moved,
                ..said(Outcome::Succeeded, "native_success", body)
            }
        }
        "succeeded" if flag("refunded") => said(Outcome::Fenced, "released", body),
        "succeeded" => Observation {
            amount: amount(body, "amount"),
            ..said(Outcome::Authorised, "native_success", body)
        },
        "pending" => Observation {
            pending: true,
            ..said(Outcome::Unknown, "processing", body)
        },
        "failed" => {
            let code = text(body, "failure_code").unwrap_or("generic_decline");
            let reason = body.get("outcome").and_then(|outcome| outcome.get("reason")?.as_str());
            let mut error = Object::new();
            error.insert("type".to_owned(), "card_error".into());
            error.insert("code".to_owned(), code.into());
            error.insert("decline_code".to_owned(), reason.unwrap_or(code).into());
            let said = said(Outcome::Unknown, "", body);
            Observation {
                payment_id: said.payment_id,
                charge_id: said.charge_id,
                card: said.card,
                ..declined(&error)
            }
        }
        _ => said(Outcome::Unknown, "unknown_state", body),
    }
}

fn fence(request: Option<&Request>, reference: Option<&str>, body: &Object) -> Observation {
    let found = metadata(body);
    if let Some(mark) = found.get(FENCE_KEY) {
        let ours = reference.is_none_or(|reference| reference == mark);
        let idle = matches!(
            text(body, "status"),
            Some("requires_payment_method" | "requires_confirmation" | "canceled")
        );
        return if ours && idle {
            Observation::bare(Outcome::Fenced, "key_tombstone")
        } else {
            said(Outcome::Conflict, "other_tombstone", body)
        };
    }
    intent(Leg::Fence, request, None, body)
}

/// Whether an intent carries this reference: Sentinel's, or the merchant's for the order. What a fence left does not count.
pub fn carries(item: &Object, reference: &str) -> bool {
    let found = metadata(item);
    let named =
        found.get(REFERENCE_KEY).map(String::as_str) == Some(reference) || order(&found).as_deref() == Some(reference);
    named && !found.contains_key(FENCE_KEY)
}

fn found(request: Option<&Request>, reference: Option<&str>, body: &Object) -> Observation {
    let Some(reference) = reference else {
        return unknown("nothing_to_find_by");
    };
    let items = body.get("data").and_then(Value::as_array);
    let items = items.into_iter().flatten().filter_map(Value::as_object);
    let matches: Vec<&Object> = items.filter(|item| carries(item, reference)).collect();
    // Sentinel's own reference is in one payment only; an order's may be in another one that was not looked at.
    let own = |item: &Object| metadata(item).get(REFERENCE_KEY).map(String::as_str) == Some(reference);
    let whole = body.get("has_more").and_then(Value::as_bool) == Some(false);
    match matches.as_slice() {
        [only] if own(only) => intent(Leg::Lookup, request, Some(reference), only),
        // The one that came to nothing for this order may be an earlier try, and the attempt still on its way.
        [only] if whole => match intent(Leg::Lookup, request, Some(reference), only) {
            seen if matches!(seen.outcome, Outcome::Authorised | Outcome::Succeeded) => seen,
            _ => unknown("found_another"),
        },
        // Not found is no proof of absence: the request may still be on its way.
        [] => unknown("not_found"),
        [_] => unknown("list_not_whole"),
        _ => unknown("several_found"),
    }
}

fn is_target(target: &Target, body: &Object, payment: &str, charge: &str) -> bool {
    let same = |wanted: &Option<String>, field: &str| match (wanted, id(body, field)) {
        (Some(wanted), Some(found)) => *wanted == found,
        _ => true,
    };
    same(&target.payment, payment) && same(&target.charge, charge)
}

fn captured(request: Option<&Request>, body: &Object) -> Observation {
    let is_charge = text(body, "object") == Some("charge");
    let (payment, charge, moved) = if is_charge {
        ("payment_intent", "id", "amount_captured")
    } else {
        ("id", "latest_charge", "amount_received")
    };
    let moved = amount(body, moved);
    if let Some(Request::Capture { target, amount, .. }) = request {
        if !is_target(target, body, payment, charge) {
            return said(Outcome::Conflict, "other_object", body);
        }
        if amount.is_some() && *amount != moved && text(body, "status") == Some("succeeded") {
            return said(Outcome::Conflict, "other_amount", body);
        }
    }
    let done = if is_charge {
        body.get("captured").and_then(Value::as_bool) == Some(true)
    } else {
        matches!(text(body, "status"), Some("succeeded" | "requires_capture"))
    };
    match moved {
        Some(moved) if done && !moved.is_zero() => Observation {
            amount: Some(moved),
            ..said(Outcome::Succeeded, "native_success", body)
        },
        _ => said(Outcome::Unknown, "not_executed_yet", body),
    }
}

fn voided(request: Option<&Request>, body: &Object) -> Observation {
    if let Some(Request::Void { target, .. }) = request
        && !is_target(target, body, "id", "latest_charge")
    {
        return said(Outcome::Conflict, "other_object", body);
    }
    match text(body, "status") {
        Some("canceled") => said(Outcome::Succeeded, "native_success", body),
        _ => said(Outcome::Unknown, "not_executed_yet", body),
    }
}

fn refunded(leg: Leg, request: Option<&Request>, body: &Object) -> Observation {
    let about = |outcome, rule: &str| Observation {
        payment_id: id(body, "payment_intent"),
        charge_id: id(body, "charge"),
        modification_id: id(body, "id"),
        amount: amount(body, "amount"),
        ..Observation::bare(outcome, rule)
    };
    let (target, asked) = match request {
        Some(Request::Refund { target, amount, .. }) => (Some(target), *amount),
        Some(Request::Void { target, .. }) => (Some(target), None),
        _ => (None, None),
    };
    if target.is_some_and(|target| !is_target(target, body, "payment_intent", "charge")) {
        return about(Outcome::Conflict, "other_object");
    }
    if leg == Leg::Refund && asked.is_some() && asked != amount(body, "amount") {
        return about(Outcome::Conflict, "other_amount");
    }
    match text(body, "status") {
        Some("succeeded") => about(Outcome::Succeeded, "native_success"),
        Some("pending" | "requires_action") => Observation {
            pending: true,
            ..about(Outcome::Unknown, "processing")
        },
        Some("failed" | "canceled") => about(Outcome::Declined(DeclineClass::Hard), "refund_failed"),
        _ => about(Outcome::Unknown, "unknown_state"),
    }
}
