//! What Razorpay's answers prove.
//!
//! A payment's status decides, and `failed` only with a reason that is a verdict: after a timeout or a technical error the
//! bank may still authorise it, for days. HTTP 400 says validation, decline and not-found alike, so that the reason counts,
//! and a 400 that names a payment without one proves nothing.

use http::StatusCode;
use serde_json::{Map, Value};

use super::encode;
use crate::config::model::Dialect;
use crate::gateway::canonical::{CaptureMode, CardView, Pay, Request};
use crate::gateway::json::{owned, text};
use crate::gateway::outcome::{Decline, DeclineClass, Observation, Outcome, Rejection, unknown};
use crate::gateway::{Account, Incoming, Leg, Stopped, json, retry_after};
use crate::money::Amount;
use crate::money::declines::{self, Advice};

type Object = Map<String, Value>;

pub(super) fn answer(leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
    let asked = Asked {
        leg,
        request,
        reference,
    };
    let mut observation = match json::object(&answer.body) {
        Some(body) => asked.read(answer.status, &body),
        None => unknown("foreign_answer"),
    };
    observation.retry_after = retry_after::seconds(&answer.headers);
    observation
}

/// The answer to a request that precedes a payment or capture.
pub(super) fn prepared(request: &Request, account: &mut Account, answer: &Incoming) -> Result<(), Stopped> {
    let body = json::object(&answer.body).ok_or(Stopped::Unsent)?;
    let mut keep = |name: &str, value: &str| {
        account.prepared.insert(name.to_owned(), value.to_owned());
    };
    match request {
        Request::Capture { target, .. } => {
            let asked = Asked {
                leg: Leg::Lookup,
                request: Some(request),
                reference: None,
            };
            let seen = asked.read(answer.status, &body);
            let same = seen.payment_id.is_some() && seen.payment_id == target.payment;
            match seen.outcome {
                Outcome::Authorised if same => keep(encode::CAPTURABLE, ""),
                // Taken before, whole: that is what was asked for.
                Outcome::Succeeded if same && text(&body, "status") == Some("captured") => {
                    return Err(Stopped::Decided(Box::new(seen)));
                }
                Outcome::Conflict => return Err(Stopped::Decided(Box::new(seen))),
                Outcome::Unknown => return Err(Stopped::Unsent),
                _ => {
                    return Err(Stopped::Decided(Box::new(Observation {
                        payment_id: seen.payment_id,
                        ..Observation::bare(Outcome::Rejected(Rejection::Request), "not_capturable")
                    })));
                }
            }
        }
        Request::Pay(pay) => return prepared_payment(pay, account, answer.status, &body),
        _ => {}
    }
    Ok(())
}

fn prepared_payment(pay: &Pay, account: &mut Account, status: StatusCode, body: &Object) -> Result<(), Stopped> {
    let reference = account.reference.clone();
    let mut keep = |name: &str, value: &str| {
        account.prepared.insert(name.to_owned(), value.to_owned());
    };
    if !status.is_success() {
        // Where receipts have to be unique, the refusal names the order that has this one.
        let existing = body
            .get("error")
            .and_then(|error| error.get("metadata"))
            .and_then(|metadata| metadata.get("order_id"))
            .and_then(Value::as_str);
        if let Some(order) = existing.filter(|_| status == StatusCode::BAD_REQUEST) {
            keep(encode::ORDER, order);
            return Ok(());
        }
        let asked = Asked {
            leg: Leg::Charge,
            request: None,
            reference: None,
        };
        let seen = asked.read(status, body);
        return Err(match seen.outcome {
            Outcome::Rejected(_) => Stopped::Decided(Box::new(seen)),
            _ => Stopped::Unsent,
        });
    }
    match text(body, "entity") {
        Some("order") => {
            let id = text(body, "id").ok_or(Stopped::Unsent)?;
            if text(body, "receipt") != Some(&reference) || money(body) != Ok(pay.amount) {
                return Err(Stopped::Unsent);
            }
            keep(encode::ORDER, id);
            keep(encode::UNPAID, "");
        }
        Some("collection") => {
            let items = body.get("items").and_then(Value::as_array).ok_or(Stopped::Unsent)?;
            let items: Vec<&Object> = items.iter().filter_map(Value::as_object).collect();
            match items.first().and_then(|item| text(item, "entity")) {
                Some("payment") => {
                    // An earlier sending of this very payment made it: the order has it, and gets no other.
                    let request = Request::Pay(Box::new(pay.clone()));
                    let asked = Asked {
                        leg: Leg::Lookup,
                        request: Some(&request),
                        reference: Some(&reference),
                    };
                    return Err(Stopped::Decided(Box::new(asked.among(&items, true))));
                }
                Some("order") => {
                    let fits =
                        |order: &&&Object| text(order, "receipt") == Some(&reference) && money(order) == Ok(pay.amount);
                    let order = items.iter().find(fits).and_then(|order| text(order, "id"));
                    keep(encode::ORDER, order.ok_or(Stopped::Unsent)?);
                }
                Some(_) => return Err(Stopped::Unsent),
                None if account.prepared.contains_key(encode::ORDER) => {
                    account.prepared.insert(encode::UNPAID.to_owned(), String::new());
                }
                None => {
                    account.prepared.insert(encode::ABSENT.to_owned(), String::new());
                }
            }
        }
        _ => return Err(Stopped::Unsent),
    }
    Ok(())
}

/// The amount of an object: `Err` when there is one that cannot be read, which is never the one that was asked for.
fn money(object: &Object) -> Result<Option<Amount>, ()> {
    let Some(value) = object.get("amount").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let currency = text(object, "currency").ok_or(())?;
    Amount::json_minor(Dialect::Razorpay, value, currency)
        .map(Some)
        .map_err(|_| ())
}

struct Asked<'a> {
    leg: Leg,
    request: Option<&'a Request>,
    reference: Option<&'a str>,
}

impl Asked<'_> {
    fn pay(&self) -> Option<&Pay> {
        self.request?.pay()
    }

    fn target(&self) -> Option<&str> {
        self.request?.modifies()?.payment.as_deref()
    }

    fn read(&self, status: StatusCode, body: &Object) -> Observation {
        if body.contains_key("error") {
            return self.error(status, body);
        }
        if !status.is_success() {
            return unknown("foreign_answer");
        }
        match (text(body, "entity"), self.leg) {
            (Some("payment"), leg) if leg != Leg::Refund => self.payment(body),
            (Some("refund"), Leg::Refund | Leg::Lookup) => self.refund(body),
            (Some("collection"), Leg::Lookup) => self.found(body),
            (None, Leg::Charge | Leg::Auth) => started(body),
            _ => unknown("foreign_answer"),
        }
    }

    /// Payments of an order, or orders with their payments.
    fn found(&self, body: &Object) -> Observation {
        let Some(items) = body.get("items").and_then(Value::as_array) else {
            return unknown("foreign_answer");
        };
        let (Some(reference), Some(_)) = (self.reference, self.pay()) else {
            return unknown("nothing_to_find");
        };
        let items: Vec<&Object> = items.iter().filter_map(Value::as_object).collect();
        if items.iter().any(|item| text(item, "entity") == Some("payment")) {
            return self.among(&items, false);
        }
        let orders = items
            .into_iter()
            .filter(|order| text(order, "receipt") == Some(reference));
        let payments: Vec<&Object> = orders
            .filter_map(|order| order.get("payments")?.get("items")?.as_array())
            .flatten()
            .filter_map(Value::as_object)
            .collect();
        self.among(&payments, true)
    }

    /// The payment that an order came to. `own` says that the order is Sentinel's and was charged once, so that a failed
    /// payment on it is this one; on the application's order a failed one may be an earlier try.
    fn among(&self, payments: &[&Object], own: bool) -> Observation {
        let seen: Vec<Observation> = payments.iter().map(|payment| self.payment(payment)).collect();
        let alive = |seen: &&Observation| {
            matches!(
                seen.outcome,
                Outcome::Authorised | Outcome::Succeeded | Outcome::Conflict
            )
        };
        if let Some(alive) = seen.iter().find(alive) {
            return alive.clone();
        }
        match seen.as_slice() {
            [] => unknown("not_found"),
            [one] if own => one.clone(),
            _ => Observation {
                pending: seen.iter().any(|one| one.pending),
                ..unknown("nothing_final")
            },
        }
    }

    fn payment(&self, payment: &Object) -> Observation {
        let mut observation = Observation {
            payment_id: owned(payment, "id"),
            amount: money(payment).ok().flatten(),
            card: card(payment),
            approval_code: payment
                .get("acquirer_data")
                .and_then(|data| data.get("auth_code"))
                .and_then(Value::as_str)
                .map(str::to_owned),
            ..unknown("unknown_status")
        };
        if observation.payment_id.is_none() {
            observation.rule = "no_id".to_owned();
            return observation;
        }
        if let Some(rule) = self.contradicts(payment) {
            observation.outcome = Outcome::Conflict;
            observation.rule = rule.to_owned();
            return observation;
        }
        let automatic = self.pay().is_some_and(|pay| pay.capture == CaptureMode::Automatic);
        let captured = payment.get("captured").and_then(Value::as_bool) == Some(true);
        let (outcome, rule) = match text(payment, "status").unwrap_or_default() {
            "created" => {
                observation.pending = true;
                (Outcome::Unknown, "created")
            }
            "authorized" if self.leg == Leg::Capture => (Outcome::Unknown, "authorized"),
            "authorized" if automatic => {
                // It is captured by itself within minutes, or returned.
                observation.pending = true;
                (Outcome::Unknown, "authorized_not_captured")
            }
            "authorized" => (Outcome::Authorised, "authorized"),
            "captured" => (Outcome::Succeeded, "captured"),
            "refunded" if captured => (Outcome::Succeeded, "captured_and_refunded"),
            // Never captured, and returned by Razorpay: the hold is over.
            "refunded" => (Outcome::Fenced, "returned"),
            "failed" => return failed(observation, payment),
            _ => (Outcome::Unknown, "unknown_status"),
        };
        observation.outcome = outcome;
        observation.rule = rule.to_owned();
        observation
    }

    /// An answer about another payment, amount or order than was asked for.
    fn contradicts(&self, payment: &Object) -> Option<&'static str> {
        let told = money(payment);
        let wanted = match self.request {
            Some(Request::Pay(pay)) => pay.amount,
            Some(Request::Capture { amount, target, .. }) => amount.or(target.amount),
            _ => None,
        };
        let another = |wanted| match told {
            Err(()) => true,
            Ok(Some(told)) => told != wanted,
            Ok(None) => false,
        };
        if wanted.is_some_and(another) {
            return Some("other_amount");
        }
        if matches!((self.target(), text(payment, "id")), (Some(asked), Some(told)) if asked != told) {
            return Some("other_payment");
        }
        // The application's own request names its order.
        let order = match (self.reference, self.pay()) {
            (None, Some(pay)) => pay.reference.as_deref(),
            _ => None,
        };
        matches!((order, text(payment, "order_id")), (Some(asked), Some(told)) if asked != told)
            .then_some("other_reference")
    }

    fn refund(&self, refund: &Object) -> Observation {
        let mut observation = Observation {
            payment_id: owned(refund, "payment_id"),
            modification_id: owned(refund, "id"),
            amount: money(refund).ok().flatten(),
            ..unknown("unknown_status")
        };
        if observation.modification_id.is_none() {
            return observation;
        }
        let wanted = match self.request {
            Some(Request::Refund { amount, target, .. }) => amount.or(target.amount),
            _ => None,
        };
        let other_amount = wanted.is_some() && observation.amount != wanted;
        let told = observation.payment_id.as_deref();
        let other_payment = matches!((self.target(), told), (Some(asked), Some(told)) if asked != told);
        let (outcome, rule) = match text(refund, "status") {
            _ if other_amount => (Outcome::Conflict, "other_amount"),
            _ if other_payment => (Outcome::Conflict, "other_payment"),
            Some("processed") => (Outcome::Succeeded, "refund_processed"),
            Some("pending") => {
                observation.pending = true;
                (Outcome::Unknown, "pending")
            }
            Some("failed") => (Outcome::Rejected(Rejection::Request), "refund_failed"),
            _ => (Outcome::Unknown, "unknown_status"),
        };
        observation.outcome = outcome;
        observation.rule = rule.to_owned();
        observation
    }

    fn error(&self, status: StatusCode, body: &Object) -> Observation {
        let Some(error) = body.get("error").and_then(Value::as_object) else {
            return unknown("foreign_answer");
        };
        let (Some(code), Some(description)) = (text(error, "code"), text(error, "description")) else {
            return unknown("foreign_answer");
        };
        let metadata = error.get("metadata").and_then(Value::as_object);
        let named = metadata.and_then(|metadata| owned(metadata, "payment_id"));
        let reason = text(error, "reason").filter(|reason| *reason != "NA");
        let paying = matches!(self.leg, Leg::Charge | Leg::Auth);
        let (outcome, rule, decline) = match status.as_u16() {
            // A question that was refused says nothing about the payment that it asked about.
            _ if matches!(self.leg, Leg::Fence | Leg::Lookup) => (Outcome::Unknown, "question_refused", None),
            408 | 421 | 425 => (Outcome::Unknown, "timeout_status", None),
            409 => (Outcome::Unknown, "in_flight", None),
            429 => (Outcome::Rejected(Rejection::Transient), "rate_limited", None),
            401 | 403 => (Outcome::Rejected(Rejection::Account), "account_error", None),
            400 | 402 | 404 | 405 | 413 | 415 | 422 => match reason {
                Some(reason) => refusal(reason, description, paying),
                // An older call, or a payment of which only the failure is told.
                None if paying && named.is_some() => (Outcome::Unknown, "failed_without_reason", None),
                None if code == "BAD_REQUEST_ERROR" => (Outcome::Rejected(Rejection::Request), "invalid_request", None),
                None => (Outcome::Unknown, "unknown_error", None),
            },
            status if status >= 500 => (Outcome::Unknown, "gateway_error", None),
            _ => (Outcome::Unknown, "unexpected_status", None),
        };
        Observation {
            payment_id: named.or_else(|| self.target().map(str::to_owned)),
            decline,
            ..Observation::bare(outcome, rule)
        }
    }
}

/// What a reason proves.
fn refusal(reason: &str, description: &str, paying: bool) -> (Outcome, &'static str, Option<Decline>) {
    let verdict = declines::classify(Dialect::Razorpay, reason, &Advice::default());
    let (outcome, rule) = match verdict.class {
        _ if !verdict.known => (Outcome::Unknown, "unknown_reason"),
        DeclineClass::Ambiguous => (Outcome::Unknown, "ambiguous_reason"),
        DeclineClass::Config if matches!(verdict.canonical, "credentials" | "merchant_setup") => {
            (Outcome::Rejected(Rejection::Account), "account_error")
        }
        DeclineClass::Config => (Outcome::Rejected(Rejection::Request), "invalid_request"),
        class if paying => (Outcome::Declined(class), "native_decline"),
        // A modification that was refused was not done.
        _ => (Outcome::Rejected(Rejection::Request), "refused"),
    };
    let decline = Decline {
        canonical: verdict.canonical.to_owned(),
        class: verdict.class,
        raw_code: reason.to_owned(),
        message: description.chars().take(200).collect(),
        advice: None,
    };
    (outcome, rule, Some(decline).filter(|_| outcome != Outcome::Unknown))
}

/// A failed payment: definite only by a reason that is a verdict.
fn failed(mut observation: Observation, payment: &Object) -> Observation {
    let reason = text(payment, "error_reason").unwrap_or_default();
    let description = text(payment, "error_description").unwrap_or_default();
    let (outcome, rule, decline) = refusal(reason, description, true);
    // The payment exists, so that nothing was refused before it: what is at fault is told as a decline.
    observation.outcome = match (outcome, &decline) {
        (Outcome::Rejected(_), Some(decline)) => Outcome::Declined(decline.class),
        (outcome, _) => outcome,
    };
    observation.rule = match outcome {
        Outcome::Unknown => "failed_not_final",
        _ => rule,
    }
    .to_owned();
    observation.pending = outcome == Outcome::Unknown;
    observation.decline = decline;
    observation
}

/// A payment that was begun: signed when it is done, with a next step when its shopper has to act, else only begun.
fn started(body: &Object) -> Observation {
    let Some(id) = owned(body, "razorpay_payment_id") else {
        return unknown("foreign_answer");
    };
    let next = body.get("next").and_then(Value::as_array);
    let url = next.into_iter().flatten().find_map(|step| {
        let step = step.as_object()?;
        (text(step, "action") == Some("redirect")).then(|| owned(step, "url"))?
    });
    if next.is_some_and(|next| !next.is_empty()) {
        return Observation {
            payment_id: Some(id),
            redirect: url,
            ..Observation::bare(Outcome::ActionRequired, "next_step")
        };
    }
    // The answer of the call, not of the payment: that may still fail, hours later.
    Observation {
        payment_id: Some(id),
        pending: true,
        ..unknown("begun")
    }
}

fn card(payment: &Object) -> Option<CardView> {
    let card = payment.get("card")?.as_object()?;
    let brand = text(card, "network").map(|network| {
        match network {
            "Visa" => "visa",
            "MasterCard" | "Mastercard" => "mastercard",
            "American Express" | "Amex" => "amex",
            "Discover" => "discover",
            "Diners Club" => "diners",
            "JCB" => "jcb",
            "Union Pay" | "UnionPay" => "unionpay",
            _ => "unknown",
        }
        .to_owned()
    });
    Some(CardView {
        brand,
        last4: owned(card, "last4"),
        expiry_month: None,
        expiry_year: None,
    })
}
