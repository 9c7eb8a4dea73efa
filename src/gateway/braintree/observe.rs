//! What Braintree's answers prove.
//!
//! The status inside the transaction decides. HTTP 422 carries declines, which made a transaction, and validation errors,
//! which did not; a rejected duplicate means that an earlier charge exists and is no decline. The answer names the
//! currency that the request could not: another one, another amount or another order than was asked is a conflict,
//! whatever else it says. 5xx proves nothing: Braintree answers 504 after it has asked the processor.

use serde_json::{Map, Value};

use super::xml;
use crate::config::model::Dialect;
use crate::gateway::canonical::{CaptureMode, CardView, Request};
use crate::gateway::json::text;
use crate::gateway::outcome::{Decline, DeclineClass, Observation, Outcome, Rejection};
use crate::gateway::{Incoming, Leg, retry_after};
use crate::money::Amount;
use crate::money::declines::{self, Advice, Network};

/// The key is in use by a request that is still running.
const IN_FLIGHT: &str = "915233";
/// The key was used with another request, which therefore arrived.
const OTHER_INPUT: &str = "915232";
/// The key belongs to a request that failed without making a transaction: nothing is executed under it any more.
const TIED: &str = "915234";
/// The key could not be looked at.
const KEY_STORE: &str = "915235";
/// The account has no keys, or the key is too long.
const KEYS_OFF: [&str; 2] = ["915231", "915230"];
/// The merchant account is not as configured, or does not take this kind of card.
const ACCOUNT: [&str; 4] = ["91513", "91514", "91577", "81703"];

pub(super) fn answer(leg: Leg, request: Option<&Request>, reference: Option<&str>, answer: &Incoming) -> Observation {
    let asked = Asked {
        leg,
        request,
        reference,
    };
    let status = answer.status.as_u16();
    let mut observation = match xml::read(&answer.body) {
        // Braintree's SDKs read no body of these, and no document describes one.
        Ok(_) | Err(_) if status >= 400 && status != 422 => refusal(leg, status, answer),
        Ok(document) if is_xml(answer) => {
            let root = document.root.clone();
            match (status, root.as_str(), document.object()) {
                (200 | 201, "transaction", Some(transaction)) => asked.transaction(&transaction),
                (200, "search_results", Some(results)) if leg == Leg::Lookup => found(&results),
                (422, "api_error_response", Some(error)) => asked.unprocessable(&error),
                _ => Observation::bare(Outcome::Unknown, "foreign_answer"),
            }
        }
        _ => Observation::bare(Outcome::Unknown, "foreign_answer"),
    };
    observation.retry_after = retry_after::seconds(&answer.headers);
    observation
}

/// What a transaction in a notification proves.
pub(super) fn transaction(leg: Leg, transaction: &Map<String, Value>) -> Observation {
    let asked = Asked {
        leg: if leg == Leg::Refund { leg } else { Leg::Lookup },
        request: None,
        reference: None,
    };
    asked.transaction(transaction)
}

fn is_xml(answer: &Incoming) -> bool {
    let value = answer.headers.get(http::header::CONTENT_TYPE);
    value
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/xml") || value.starts_with("text/xml"))
}

/// A status without a transaction. A page of somebody in between is no word of Braintree's.
fn refusal(leg: Leg, status: u16, answer: &Incoming) -> Observation {
    if !is_xml(answer) && !answer.body.is_empty() {
        return Observation::bare(Outcome::Unknown, "foreign_answer");
    }
    let (outcome, rule) = match status {
        401 | 426 => (Outcome::Rejected(Rejection::Account), "account_error"),
        // A right that is missing, or a parameter that is not on the list.
        403 => (Outcome::Rejected(Rejection::Account), "forbidden"),
        // That the object is not there says nothing about an attempt that may still arrive.
        404 if matches!(leg, Leg::Lookup | Leg::Fence) => (Outcome::Unknown, "not_found"),
        404 => (Outcome::Rejected(Rejection::Request), "not_found"),
        429 => (Outcome::Rejected(Rejection::Transient), "rate_limited"),
        status if status >= 500 => (Outcome::Unknown, "gateway_error"),
        _ => (Outcome::Unknown, "unexpected_status"),
    };
    Observation::bare(outcome, rule)
}

/// What a search found: an id to read next, never an outcome.
fn found(results: &Map<String, Value>) -> Observation {
    let ids = results.get("ids").and_then(Value::as_array);
    match ids.map(Vec::as_slice) {
        Some([Value::String(id)]) => Observation {
            payment_id: Some(id.clone()),
            ..Observation::bare(Outcome::Unknown, "found_by_search")
        },
        // The index lags behind: nothing found proves nothing.
        Some([]) | None => Observation::bare(Outcome::Unknown, "not_found"),
        Some(_) => Observation::bare(Outcome::Unknown, "several_found"),
    }
}

/// The amount of a transaction: `Err` when it cannot be read, which is never the one that was asked for.
fn amount(transaction: &Map<String, Value>) -> Result<Amount, ()> {
    let (amount, currency) = (text(transaction, "amount"), text(transaction, "currency_iso_code"));
    Amount::from_decimal(Dialect::Braintree, amount.ok_or(())?, currency.ok_or(())?).map_err(|_| ())
}

/// What was held at first, by the transaction's history: a later capture of less changes its amount.
fn held(transaction: &Map<String, Value>) -> Option<Amount> {
    let currency = text(transaction, "currency_iso_code")?;
    let events = transaction.get("status_history").and_then(Value::as_array)?;
    let event = events.iter().find_map(|event| {
        let authorized = event.get("status").and_then(Value::as_str) == Some("authorized");
        authorized
            .then(|| event.get("amount").and_then(Value::as_str))
            .flatten()
    })?;
    Amount::from_decimal(Dialect::Braintree, event, currency).ok()
}

struct Asked<'a> {
    leg: Leg,
    request: Option<&'a Request>,
    reference: Option<&'a str>,
}

impl Asked<'_> {
    fn transaction(&self, transaction: &Map<String, Value>) -> Observation {
        let (Some(id), Some(status)) = (text(transaction, "id"), text(transaction, "status")) else {
            return Observation::bare(Outcome::Unknown, "foreign_answer");
        };
        let credit = text(transaction, "type") == Some("credit");
        let mut observation = Observation {
            payment_id: Some(id.to_owned()),
            amount: amount(transaction).ok(),
            card: card(transaction),
            network_transaction_id: text(transaction, "network_transaction_id").map(str::to_owned),
            approval_code: text(transaction, "processor_authorization_code").map(str::to_owned),
            ..Observation::bare(Outcome::Unknown, "unknown_status")
        };
        match self.leg {
            Leg::Refund => self.refund(transaction, status, credit, &mut observation),
            // The refund that a look-up names by its id.
            Leg::Lookup if credit => {
                observation.modification_id = observation.payment_id.take();
                (observation.outcome, observation.rule) = match status {
                    "submitted_for_settlement" | "settling" | "settled" => (Outcome::Succeeded, "refunded".to_owned()),
                    _ => (Outcome::Unknown, "unknown_status".to_owned()),
                };
            }
            Leg::Void => {
                observation.modification_id.clone_from(&observation.payment_id);
                if status == "voided" {
                    observation.outcome = Outcome::Succeeded;
                    "voided".clone_into(&mut observation.rule);
                }
                self.same_payment(&mut observation);
            }
            Leg::Capture => {
                observation.modification_id.clone_from(&observation.payment_id);
                if taken(status) {
                    observation.outcome = Outcome::Succeeded;
                    "captured".clone_into(&mut observation.rule);
                }
                self.same_payment(&mut observation);
                self.same_amount(&mut observation);
            }
            Leg::Charge | Leg::Auth | Leg::Fence | Leg::Lookup => {
                self.payment(transaction, status, &mut observation);
                self.compare(transaction, &mut observation);
            }
        }
        observation
    }

    fn payment(&self, transaction: &Map<String, Value>, status: &str, observation: &mut Observation) {
        let (outcome, rule) = match status {
            "authorized" => (Outcome::Authorised, "authorized"),
            status if taken(status) => (Outcome::Succeeded, "submitted_for_settlement"),
            // What comes back under an old key is the state of today.
            "voided" => (Outcome::Fenced, "voided"),
            "authorization_expired" => (Outcome::Fenced, "authorization_expired"),
            "authorizing" => {
                observation.pending = true;
                (Outcome::Unknown, "authorizing")
            }
            "processor_declined" | "gateway_rejected" | "failed" => return declined(transaction, status, observation),
            // The processor approved, and the settlement failed: what is held there, nobody says.
            "settlement_declined" | "settlement_failed" => (Outcome::Unknown, "settlement_failed"),
            _ => (Outcome::Unknown, "unknown_status"),
        };
        observation.outcome = outcome;
        rule.clone_into(&mut observation.rule);
    }

    /// A credit, or the very sale, voided: then it was not settled yet.
    fn refund(&self, transaction: &Map<String, Value>, status: &str, credit: bool, observation: &mut Observation) {
        observation.modification_id = observation.payment_id.take();
        let target = match self.request {
            Some(Request::Refund { target, .. }) => target.payment.as_deref(),
            _ => None,
        };
        let of = match credit {
            true => text(transaction, "refunded_transaction_id"),
            false => observation.modification_id.as_deref(),
        };
        let other = matches!((target, of), (Some(asked), Some(told)) if asked != told);
        let (outcome, rule) = match (credit, status) {
            _ if other => (Outcome::Conflict, "other_payment"),
            (true, "submitted_for_settlement" | "settling" | "settled") => (Outcome::Succeeded, "refunded"),
            (true, "processor_declined" | "gateway_rejected" | "failed") => {
                (Outcome::Rejected(Rejection::Request), "refund_declined")
            }
            (true, _) => {
                observation.pending = true;
                (Outcome::Unknown, "pending")
            }
            (false, "voided") => (Outcome::Succeeded, "voided_instead"),
            (false, _) => (Outcome::Unknown, "unknown_status"),
        };
        observation.outcome = outcome;
        rule.clone_into(&mut observation.rule);
        if outcome == Outcome::Succeeded {
            self.same_amount(observation);
        }
    }

    /// An answer about another payment than was asked for is a conflict.
    fn compare(&self, transaction: &Map<String, Value>, observation: &mut Observation) {
        let pay = match self.request {
            Some(Request::Pay(pay)) => Some(pay),
            _ => None,
        };
        let order = text(transaction, "order_id");
        let other_order = match (self.reference, pay.and_then(|pay| pay.reference.as_deref()), order) {
            // Sentinel's own stands behind the merchant's.
            (Some(reference), merchants, Some(order)) => {
                let own = order == reference
                    || order
                        .strip_suffix(reference)
                        .is_some_and(|before| before.ends_with('.'));
                !own && merchants != Some(order)
            }
            (None, Some(asked), Some(told)) => asked != told,
            _ => false,
        };
        let told = match self.leg {
            Leg::Lookup => held(transaction).or(observation.amount),
            _ => observation.amount,
        };
        let wanted = pay.and_then(|pay| pay.amount);
        let other_amount = wanted.is_some() && told != wanted;
        if other_order || other_amount {
            observation.outcome = Outcome::Conflict;
            observation.pending = false;
            observation.rule = if other_order { "other_reference" } else { "other_amount" }.to_owned();
            return;
        }
        if self.leg == Leg::Lookup {
            observation.amount = told;
        }
        // A hold that was asked for and is taken already is money taken, whoever submitted it.
        let hold = pay.is_some_and(|pay| pay.capture == CaptureMode::Manual);
        if hold && observation.outcome == Outcome::Succeeded && matches!(self.leg, Leg::Charge | Leg::Auth) {
            "submitted_without_being_asked".clone_into(&mut observation.rule);
        }
    }

    fn same_payment(&self, observation: &mut Observation) {
        let target = match self.request {
            Some(Request::Capture { target, .. } | Request::Void { target, .. }) => target.payment.as_deref(),
            _ => None,
        };
        if matches!((target, observation.payment_id.as_deref()), (Some(asked), Some(told)) if asked != told) {
            observation.outcome = Outcome::Conflict;
            "other_payment".clone_into(&mut observation.rule);
        }
    }

    fn same_amount(&self, observation: &mut Observation) {
        let wanted = match self.request {
            Some(Request::Capture { target, amount, .. } | Request::Refund { target, amount, .. }) => {
                amount.or(target.amount)
            }
            _ => None,
        };
        if wanted.is_some() && observation.amount != wanted {
            observation.outcome = Outcome::Conflict;
            "other_amount".clone_into(&mut observation.rule);
        }
    }

    /// 422: a transaction that was declined, or no transaction at all.
    fn unprocessable(&self, error: &Map<String, Value>) -> Observation {
        if let Some(Value::Object(transaction)) = error.get("transaction") {
            return self.transaction(transaction);
        }
        let Some(errors) = error.get("errors") else {
            return Observation::bare(Outcome::Unknown, "foreign_answer");
        };
        let mut codes = Vec::new();
        gather(errors, &mut codes);
        let has = |code: &str| codes.iter().any(|(known, _)| known == code);
        let any = |list: &[&str]| list.iter().any(|code| has(code));
        if has(IN_FLIGHT) {
            return Observation::bare(Outcome::Unknown, "in_flight");
        }
        if has(KEY_STORE) {
            return Observation::bare(Outcome::Unknown, "key_store");
        }
        if has(OTHER_INPUT) {
            return Observation {
                arrived: self.leg == Leg::Fence,
                ..Observation::bare(Outcome::Unknown, "key_of_another_request")
            };
        }
        let (outcome, rule) = match self.leg {
            Leg::Fence if has(TIED) => (Outcome::Fenced, "key_of_a_failed_request"),
            // The claim of the key was refused, as it was meant to be. Whether the key is held by it, the next one tells.
            Leg::Fence => (Outcome::Unknown, "key_claimed"),
            Leg::Lookup => (Outcome::Unknown, "search_refused"),
            _ if any(&KEYS_OFF) => (Outcome::Rejected(Rejection::Account), "keys_not_enabled"),
            _ if any(&ACCOUNT) => (Outcome::Rejected(Rejection::Account), "account_error"),
            _ if codes.is_empty() => (Outcome::Unknown, "foreign_answer"),
            _ => (Outcome::Rejected(Rejection::Request), "validation_error"),
        };
        let first = codes.first();
        let message = first
            .map(|(_, message)| message.as_str())
            .filter(|message| !message.is_empty());
        Observation {
            decline: first
                .map(|(code, _)| Decline {
                    canonical: "validation".to_owned(),
                    class: DeclineClass::Config,
                    raw_code: code.chars().take(32).collect(),
                    message: message
                        .or_else(|| text(error, "message"))
                        .unwrap_or_default()
                        .chars()
                        .take(200)
                        .collect(),
                    advice: None,
                })
                .filter(|_| matches!(outcome, Outcome::Rejected(_))),
            ..Observation::bare(outcome, rule)
        }
    }
}

/// Money is on its way to the merchant.
fn taken(status: &str) -> bool {
    matches!(
        status,
        "submitted_for_settlement" | "settling" | "settled" | "settlement_pending" | "settlement_confirmed"
    )
}

/// Every validation error, wherever it stands in the tree.
fn gather(errors: &Value, codes: &mut Vec<(String, String)>) {
    match errors {
        Value::Array(items) => items.iter().for_each(|item| gather(item, codes)),
        Value::Object(map) => {
            if let Some(code) = text(map, "code") {
                codes.push((code.to_owned(), text(map, "message").unwrap_or_default().to_owned()));
            }
            map.values().for_each(|value| gather(value, codes));
        }
        _ => {}
    }
}

/// A decline by the processor, a rejection by the gateway, or a failure.
fn declined(transaction: &Map<String, Value>, status: &str, observation: &mut Observation) {
    let processor = text(transaction, "processor_response_code");
    let code = match status {
        "gateway_rejected" => match text(transaction, "gateway_rejection_reason") {
            Some(reason) => format!("rejection:{reason}"),
            None => "rejection:unknown".to_owned(),
        },
        // Only the processor network's own outage is a definite failure.
        "failed" if processor != Some("3000") => {
            "failed".clone_into(&mut observation.rule);
            return;
        }
        // A decline without a code allows nothing.
        _ => processor.unwrap_or("unknown").to_owned(),
    };
    let card = transaction.get("credit_card").and_then(Value::as_object);
    let network = card.and_then(|card| text(card, "card_type")).map(|kind| match kind {
        "Visa" => Network::Visa,
        "MasterCard" | "Maestro" => Network::Mastercard,
        _ => Network::Other,
    });
    let advice_code = text(transaction, "merchant_advice_code");
    let advice = Advice {
        network,
        issuer_code: text(transaction, "network_response_code"),
        advice_code,
        do_not_retry: false,
    };
    let verdict = declines::classify(Dialect::Braintree, &code, &advice);
    // Braintree's own word on a decline outweighs the table's, where it is the stricter one.
    let hard = text(transaction, "processor_response_type") == Some("hard_declined");
    let class = match verdict.class {
        DeclineClass::Soft | DeclineClass::RetryLater if hard => DeclineClass::Hard,
        class => class,
    };
    let message = text(transaction, "processor_response_text").unwrap_or("The payment was declined.");
    observation.decline = Some(Decline {
        canonical: verdict.canonical.to_owned(),
        class,
        raw_code: code,
        message: message.chars().take(200).collect(),
        advice: advice_code.map(str::to_owned),
    });
    let definite = class != DeclineClass::Ambiguous;
    observation.outcome = if definite {
        Outcome::Declined(class)
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

fn card(transaction: &Map<String, Value>) -> Option<CardView> {
    let card = transaction.get("credit_card")?.as_object()?;
    let brand = text(card, "card_type").map(|brand| {
        match brand {
            "Visa" => "visa",
            "MasterCard" => "mastercard",
            "American Express" => "amex",
            "Discover" => "discover",
            "Diners Club" => "diners",
            "JCB" => "jcb",
            "UnionPay" => "unionpay",
            _ => "unknown",
        }
        .to_owned()
    });
    let last4 = text(card, "last_4").map(str::to_owned);
    (brand.is_some() || last4.is_some()).then(|| CardView {
        brand,
        last4,
        expiry_month: text(card, "expiration_month").and_then(|month| month.parse().ok()),
        expiry_year: text(card, "expiration_year").and_then(|year| year.parse().ok()),
    })
}
