//! What PayPal's answers prove.
//!
//! The status of a capture or authorisation decides, never the order's status nor HTTP's alone. An answer for another
//! amount or another reference than was asked contradicts it, and is a conflict whatever else it says: the same
//! `PayPal-Request-Id` with another body answers with the first resource and does not complain.

use http::StatusCode;
use serde_json::{Map, Value};

use super::issues;
use crate::config::model::Dialect;
use crate::gateway::canonical::{CardView, Operation, Request};
use crate::gateway::json::{owned, text};
use crate::gateway::outcome::{Decline, DeclineClass, Observation, Outcome, Rejection};
use crate::gateway::{Incoming, Leg, json, retry_after};
use crate::money::Amount;
use crate::money::declines::{self, Advice, Network};

pub(super) fn answer(leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
    let native = answer.headers.contains_key("paypal-debug-id");
    if answer.status == StatusCode::NO_CONTENT {
        // A void without a representation has nothing to show but PayPal's own header.
        return match leg {
            Leg::Void | Leg::Fence if native => Observation::bare(done(leg), "voided"),
            _ => Observation::bare(Outcome::Unknown, "foreign_answer"),
        };
    }
    let Some(body) = json::object(&answer.body) else {
        return Observation::bare(Outcome::Unknown, "foreign_answer");
    };
    let asked = Asked {
        leg,
        request,
        reference,
    };
    let mut observation = match answer.status {
        StatusCode::OK | StatusCode::CREATED => asked.success(&body),
        status if status.is_success() => Observation::bare(Outcome::Unknown, "foreign_answer"),
        status => error(leg, status, &body),
    };
    observation.retry_after = retry_after::seconds(&answer.headers);
    observation
}

/// What the success of a void means: for a fence, that the attempt is dead.
fn done(leg: Leg) -> Outcome {
    if leg == Leg::Fence {
        Outcome::Fenced
    } else {
        Outcome::Succeeded
    }
}

/// The amount of an object: `Err` when there is one that cannot be read, which is never the one that was asked for.
pub(super) fn amount(object: &Map<String, Value>) -> Result<Option<Amount>, ()> {
    let Some(amount) = object.get("amount").filter(|amount| !amount.is_null()) else {
        return Ok(None);
    };
    let part = |name: &str| amount.get(name).and_then(Value::as_str).ok_or(());
    Amount::from_decimal(Dialect::Paypal, part("value")?, part("currency_code")?)
        .map(Some)
        .map_err(|_| ())
}

struct Asked<'a> {
    leg: Leg,
    request: Option<&'a Request>,
    reference: Option<&'a str>,
}

/// One execution inside an order, or by itself.
struct Execution<'a> {
    object: &'a Map<String, Value>,
    authorization: bool,
}

impl Asked<'_> {
    fn success(&self, body: &Map<String, Value>) -> Observation {
        let Some(status) = text(body, "status") else {
            return Observation::bare(Outcome::Unknown, "foreign_answer");
        };
        if text(body, "id").is_none() {
            return Observation::bare(Outcome::Unknown, "no_id");
        }
        match self.leg {
            Leg::Refund => self.refund(body, status),
            Leg::Void | Leg::Fence => {
                let voided = status == "VOIDED";
                let outcome = if voided { done(self.leg) } else { Outcome::Unknown };
                Observation {
                    charge_id: owned(body, "id"),
                    ..Observation::bare(outcome, if voided { "voided" } else { "not_voided" })
                }
            }
            Leg::Capture => {
                let mut observation = self.execution(&Execution {
                    object: body,
                    authorization: false,
                });
                observation.modification_id = owned(body, "id");
                observation
            }
            // Only orders have an intent or purchase units; captures and authorisations have an amount of their own.
            Leg::Charge | Leg::Auth | Leg::Lookup if body.contains_key("amount") => {
                let authorization = body.contains_key("expiration_time")
                    || matches!(
                        status,
                        "CREATED" | "CAPTURED" | "DENIED" | "PARTIALLY_CAPTURED" | "VOIDED"
                    );
                let mut observation = self.execution(&Execution {
                    object: body,
                    authorization,
                });
                observation.payment_id = related_order(body);
                observation
            }
            Leg::Charge | Leg::Auth | Leg::Lookup => self.order(body, status),
        }
    }

    fn order(&self, order: &Map<String, Value>, status: &str) -> Observation {
        let units = order.get("purchase_units").and_then(Value::as_array);
        let unit = units.and_then(|units| units.first()).and_then(Value::as_object);
        let list = |kind: &str| {
            let payments = unit.and_then(|unit| unit.get("payments"));
            let list = payments
                .and_then(|payments| payments.get(kind))
                .and_then(Value::as_array);
            list.into_iter()
                .flatten()
                .filter_map(Value::as_object)
                .collect::<Vec<_>>()
        };
        let (captures, authorizations) = (list("captures"), list("authorizations"));
        let pay = match self.request {
            Some(Request::Pay(pay)) => Some(pay),
            _ => None,
        };
        // Taken money counts before held money: an authorisation that was captured is both.
        let mut observation = if let Some(object) = captures.first() {
            self.execution(&Execution {
                object,
                authorization: false,
            })
        } else if let Some(object) = authorizations.last() {
            self.execution(&Execution {
                object,
                authorization: true,
            })
        } else {
            let create = pay.is_some_and(|pay| pay.operation == Operation::Create);
            let (outcome, rule) = match status {
                "VOIDED" => (Outcome::Fenced, "order_voided"),
                "PAYER_ACTION_REQUIRED" => (Outcome::ActionRequired, "payer_action_required"),
                "CREATED" | "SAVED" if create => (Outcome::ActionRequired, "order_created"),
                // The minimal representation hides whether the capture inside was declined.
                "COMPLETED" => (Outcome::Unknown, "minimal_answer"),
                // Not executed *yet*: the lost request may still arrive.
                _ => (Outcome::Unknown, "order_not_executed"),
            };
            Observation {
                pending: status == "COMPLETED",
                ..Observation::bare(outcome, rule)
            }
        };
        observation.payment_id = owned(order, "id");
        if observation.outcome == Outcome::ActionRequired {
            observation.redirect = link(order, &["payer-action", "approve"]);
        }
        observation.card = card(order);
        if let Some(unit) = unit {
            self.compare(unit, &mut observation);
        }
        observation
    }

    /// An answer about another payment than was asked for is a conflict.
    fn compare(&self, object: &Map<String, Value>, observation: &mut Observation) {
        let pay = match self.request {
            Some(Request::Pay(pay)) => Some(pay),
            _ => None,
        };
        let differs = |asked: Option<&str>, told: Option<&str>| matches!((asked, told), (Some(a), Some(t)) if a != t);
        let wanted = match self.request {
            Some(Request::Pay(pay)) => pay.amount,
            Some(Request::Capture { amount, target, .. } | Request::Refund { amount, target, .. }) => {
                amount.or(target.amount)
            }
            _ => None,
        };
        let invoice = pay.and_then(|pay| pay.reference.as_deref());
        let other_amount = match (amount(object), wanted) {
            (Err(()), _) => true,
            (Ok(Some(told)), Some(wanted)) => told != wanted,
            _ => false,
        };
        let rule = if differs(self.reference, text(object, "custom_id"))
            && matches!(self.request, Some(Request::Pay(_) | Request::Refund { .. }))
            || differs(invoice, text(object, "invoice_id"))
        {
            "other_reference"
        } else if other_amount {
            "other_amount"
        } else {
            return;
        };
        observation.outcome = Outcome::Conflict;
        observation.pending = false;
        observation.rule = rule.to_owned();
    }

    fn execution(&self, execution: &Execution<'_>) -> Observation {
        let object = execution.object;
        let status = text(object, "status").unwrap_or_default();
        let network = object
            .get("network_transaction_reference")
            .and_then(|reference| reference.get("id"));
        let mut observation = Observation {
            charge_id: owned(object, "id"),
            amount: amount(object).ok().flatten(),
            network_transaction_id: network.and_then(Value::as_str).map(str::to_owned),
            ..Observation::bare(Outcome::Unknown, "unknown_status")
        };
        let (outcome, rule) = match (execution.authorization, status) {
            (false, "COMPLETED") => (Outcome::Succeeded, "capture_completed"),
            // What comes back under an old key is the state of today.
            (false, "REFUNDED" | "PARTIALLY_REFUNDED") => (Outcome::Succeeded, "captured_and_refunded"),
            (true, "CAPTURED" | "PARTIALLY_CAPTURED") => (Outcome::Succeeded, "authorization_captured"),
            (true, "CREATED") => (Outcome::Authorised, "authorization_created"),
            (true, "VOIDED") => (Outcome::Fenced, "authorization_voided"),
            (_, "PENDING") => {
                observation.pending = true;
                (Outcome::Unknown, "pending")
            }
            (false, "DECLINED" | "FAILED") | (true, "DENIED" | "FAILED") => {
                declined(object, &mut observation);
                self.compare(object, &mut observation);
                return observation;
            }
            _ => (Outcome::Unknown, "unknown_status"),
        };
        observation.outcome = outcome;
        observation.rule = rule.to_owned();
        self.compare(object, &mut observation);
        observation
    }

    fn refund(&self, body: &Map<String, Value>, status: &str) -> Observation {
        let mut observation = Observation {
            modification_id: owned(body, "id"),
            amount: amount(body).ok().flatten(),
            ..Observation::bare(Outcome::Unknown, "unknown_status")
        };
        let (outcome, rule) = match status {
            "COMPLETED" => (Outcome::Succeeded, "refund_completed"),
            "PENDING" => {
                observation.pending = true;
                (Outcome::Unknown, "pending")
            }
            "FAILED" | "CANCELLED" => (Outcome::Rejected(Rejection::Request), "refund_failed"),
            _ => (Outcome::Unknown, "unknown_status"),
        };
        observation.outcome = outcome;
        observation.rule = rule.to_owned();
        self.compare(body, &mut observation);
        observation
    }
}

fn related_order(object: &Map<String, Value>) -> Option<String> {
    let related = object
        .get("supplementary_data")
        .and_then(|data| data.get("related_ids"));
    related
        .and_then(|ids| ids.get("order_id"))
        .and_then(Value::as_str)
        .map(str::to_owned)
}

fn link(object: &Map<String, Value>, relations: &[&str]) -> Option<String> {
    let links = object.get("links").and_then(Value::as_array)?;
    let with = |relation: &&str| {
        links
            .iter()
            .find(|link| link.get("rel").and_then(Value::as_str) == Some(relation))
    };
    relations
        .iter()
        .find_map(with)
        .and_then(|link| link.get("href"))
        .and_then(Value::as_str)
        .map(str::to_owned)
}

/// A decline inside a success: the processor's code, its advice, or PayPal's own reason.
pub(super) fn declined(object: &Map<String, Value>, observation: &mut Observation) {
    let response = object.get("processor_response");
    let processor = |name: &str| response.and_then(|response| response.get(name)).and_then(Value::as_str);
    let reason = object
        .get("status_details")
        .and_then(|details| details.get("reason"))
        .and_then(Value::as_str);
    // An error of PayPal's own is no verdict on the card, and none that allows another try.
    let bare = match text(object, "status") {
        Some("FAILED") => "FAILED",
        _ => "INSTRUMENT_DECLINED",
    };
    let code = processor("response_code").or(reason).unwrap_or(bare);
    let advice_code = processor("payment_advice_code");
    let brand = object
        .get("network_transaction_reference")
        .and_then(|reference| reference.get("network"));
    let network = brand.and_then(Value::as_str).map(|brand| match brand {
        "VISA" => Network::Visa,
        "MASTERCARD" | "MAESTRO" => Network::Mastercard,
        _ => Network::Other,
    });
    let advice = Advice {
        network,
        advice_code,
        ..Advice::default()
    };
    let verdict = declines::classify(Dialect::Paypal, code, &advice);
    // PayPal's own reason beside the processor's code: the stricter holds. One that is in no table says nothing.
    let own = reason.map(|reason| declines::classify(Dialect::Paypal, reason, &Advice::default()));
    let verdict = own.filter(|own| own.known).map_or(verdict, |own| verdict.and(own));
    observation.decline = Some(Decline {
        canonical: verdict.canonical.to_owned(),
        class: verdict.class,
        raw_code: code.to_owned(),
        message: reason
            .unwrap_or("The payment was declined.")
            .chars()
            .take(200)
            .collect(),
        advice: advice_code.map(str::to_owned),
    });
    let definite = verdict.class != DeclineClass::Ambiguous;
    observation.outcome = if definite {
        Outcome::Declined(verdict.class)
    } else {
        Outcome::Unknown
    };
    observation.rule = if definite {
        "native_decline"
    } else {
        "ambiguous_decline"
    }
    .to_owned();
}

fn card(order: &Map<String, Value>) -> Option<CardView> {
    let card = order.get("payment_source")?.get("card")?;
    let text = |name: &str| card.get(name).and_then(Value::as_str);
    let brand = text("brand").map(|brand| {
        match brand {
            "VISA" => "visa",
            "MASTERCARD" => "mastercard",
            "AMEX" => "amex",
            "DISCOVER" => "discover",
            "DINERS" => "diners",
            "JCB" => "jcb",
            "CHINA_UNION_PAY" => "unionpay",
            _ => "unknown",
        }
        .to_owned()
    });
    let (year, month) = match text("expiry").and_then(|expiry| expiry.split_once('-')) {
        Some((year, month)) => (year.parse().ok(), month.parse().ok()),
        None => (None, None),
    };
    Some(CardView {
        brand,
        last4: text("last_digits").map(str::to_owned),
        expiry_month: month,
        expiry_year: year,
    })
}

fn error(leg: Leg, status: StatusCode, body: &Map<String, Value>) -> Observation {
    let status = status.as_u16();
    // The identity service answers in a shape of its own.
    if let (401, Some(_)) = (status, text(body, "error")) {
        return Observation::bare(Outcome::Rejected(Rejection::Account), "token_refused");
    }
    let (Some(name), Some(_)) = (text(body, "name"), body.get("message")) else {
        return Observation::bare(Outcome::Unknown, "foreign_answer");
    };
    let details = body.get("details").and_then(Value::as_array).into_iter().flatten();
    let issue_of = |detail: &Value| detail.get("issue").and_then(Value::as_str).map(str::to_owned);
    let issues: Vec<String> = details.filter_map(issue_of).collect();
    let rejected = |kind, rule| Observation::bare(Outcome::Rejected(kind), rule);
    match status {
        401 => rejected(Rejection::Account, "token_refused"),
        403 => rejected(Rejection::Account, "account_error"),
        // That the object is not there says nothing about an attempt that may still arrive.
        404 if leg == Leg::Lookup => Observation::bare(Outcome::Unknown, "not_found"),
        400 | 404 | 405 | 406 | 413 | 415 => rejected(Rejection::Request, "invalid_request"),
        409 => Observation::bare(Outcome::Unknown, "in_flight"),
        422 => unprocessable(leg, name, &issues, body),
        429 => rejected(Rejection::Transient, "rate_limited"),
        status if status >= 500 => Observation::bare(Outcome::Unknown, "gateway_error"),
        _ => Observation::bare(Outcome::Unknown, "unexpected_status"),
    }
}

fn unprocessable(leg: Leg, name: &str, issues: &[String], body: &Map<String, Value>) -> Observation {
    let first = issues.first().map_or(name, String::as_str);
    let bare = |outcome, rule| Observation::bare(outcome, rule);
    if matches!(leg, Leg::Void | Leg::Fence) && matches!(first, "PREVIOUSLY_VOIDED" | "AUTHORIZATION_VOIDED") {
        return bare(done(leg), "voided_before");
    }
    if issues.iter().any(|issue| issue == "PAYER_ACTION_REQUIRED") {
        let redirect = link(body, &["payer-action", "approve"]);
        return Observation {
            redirect,
            ..bare(Outcome::ActionRequired, "payer_action_required")
        };
    }
    if !issues.is_empty() && issues.iter().all(|issue| issues::refuses(issue)) {
        return bare(Outcome::Rejected(Rejection::Request), "validation_error");
    }
    let Some(verdict) = declines::classify_all(Dialect::Paypal, issues.iter().map(String::as_str)) else {
        return bare(Outcome::Unknown, "unknown_issue");
    };
    let description = body
        .get("details")
        .and_then(|details| details.get(0))
        .and_then(|detail| detail.get("description"));
    let message = description
        .and_then(Value::as_str)
        .or_else(|| text(body, "message"))
        .unwrap_or_default();
    let (outcome, rule) = match (verdict.known, verdict.class, verdict.canonical) {
        (false, ..) => (Outcome::Unknown, "unknown_issue"),
        (_, DeclineClass::Ambiguous, _) => (Outcome::Unknown, "ambiguous_issue"),
        (_, DeclineClass::RetryLater, "in_progress") => (Outcome::Unknown, "in_flight"),
        // The order takes no more attempts; it executed none of them.
        (_, DeclineClass::RetryLater, _) => (Outcome::Rejected(Rejection::Request), "order_exhausted"),
        (_, DeclineClass::Config, "validation" | "unknown_object") => {
            (Outcome::Rejected(Rejection::Request), "validation_error")
        }
        (_, DeclineClass::Config, _) => (Outcome::Rejected(Rejection::Account), "account_error"),
        // The buyer has not agreed yet; nothing was tried.
        (_, _, "customer_action_required") => (Outcome::Rejected(Rejection::Request), "buyer_has_not_agreed"),
        (_, class, _) => (Outcome::Declined(class), "native_decline"),
    };
    Observation {
        decline: Some(Decline {
            canonical: verdict.canonical.to_owned(),
            class: verdict.class,
            raw_code: first.to_owned(),
            message: message.chars().take(200).collect(),
            advice: None,
        })
        .filter(|_| outcome != Outcome::Unknown),
        ..bare(outcome, rule)
    }
}
